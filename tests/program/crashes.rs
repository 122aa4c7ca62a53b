//! The program ends at the worst moments.

use crate::{
    until_or,
    world::{HELD_BACK, World, brands, owner},
};
use oauth_keepalive::demo::provider::{Fault, Lasting, Refreshed, Surface};
use rusqlite::Connection;
use std::{
    collections::BTreeSet,
    time::{Duration, Instant, SystemTime},
};

const ALWAYS: Lasting = Lasting::For(Duration::from_secs(600));

/// Kills it `rounds` times at moments that hang on `seed` alone, and leaves it running.
async fn kill_again_and_again(world: &mut World, rounds: u32, seed: u64, between: Between) {
    println!("seed {seed}");
    let mut dice = seed;
    for round in 1..=rounds {
        world.start().await;
        world.until_ready().await;
        if between == Between::Settled {
            until_settled(world).await;
        }
        // The moment itself is what is tested; a condition would always hit the same spot.
        let moment = Duration::from_millis(200 + draw(&mut dice) % 1_500);
        tokio::time::sleep(moment).await;
        world.program().kill_9();
        println!("round {round}: killed {moment:?} after it was ready");
    }
    world.start().await;
}

/// Where two kills may meet one token.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Between {
    /// Anywhere.
    Anything,
    /// Nowhere: what one left open is at its end before the next. Of a request and its one probe, both killed, nobody
    /// ever learns the outcome, whatever the provider forgives: there is no second probe.
    Settled,
}

/// Waits until every attempt that was open when the program was killed has come to its end.
async fn until_settled(world: &World) {
    let state = Connection::open(world.path("state/state.db")).unwrap();
    state.busy_timeout(Duration::from_secs(20)).unwrap();
    let entries = || -> BTreeSet<i64> {
        let mut rows = state.prepare("SELECT entry FROM journal WHERE orphan = 0").unwrap();
        rows.query_map([], |row| row.get(0)).unwrap().map(Result::unwrap).collect()
    };
    let left = entries();
    let is_settled = async || entries().is_disjoint(&left);
    until_or("what the kill left open is settled", is_settled, || world.tell()).await;
}

/// Numbers that are the same for the same seed (splitmix64).
fn draw(dice: &mut u64) -> u64 {
    *dice = dice.wrapping_add(0x9e37_79b9_7f4a_7c15);
    let mut mixed = *dice;
    mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    mixed ^ (mixed >> 31)
}

/// Another one in each run; a failure prints it.
fn seed() -> u64 {
    let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap();
    u64::try_from(now.as_nanos()).unwrap_or(0)
}

#[tokio::test]
async fn kill_9_ten_times_loses_no_token_of_a_provider_with_grace() {
    let accounts = brands(8);
    let plan = World::new().accounts(accounts.len()).renewed_early().grace(600);
    let plan = plan.section("http", "{total_deadline: 3s, connect_deadline: 1s}");
    let mut world = plan.prepare().await;
    // The provider has spent the old token and its answer is on the way for a while: the moment that hurts. Two of three
    // kills meet one.
    let slow = Fault::HangFor(Duration::from_millis(300));
    world.provider.plant(None, Surface::Token, slow, ALWAYS);
    kill_again_and_again(&mut world, 10, seed(), Between::Settled).await;
    world.provider.behave();
    // One after the other: of eight that are renewed all the time, one is always on its way.
    for account in &accounts {
        world.until_cause(account, "none").await;
        world.until_kept_and_live(account).await;
    }
    world.until_each_rotated(&accounts, 1).await;
    let cut = world.refreshes().iter().filter(|(_, how)| *how == Refreshed::Repeated).count();
    println!("{cut} answers were asked for again");
    assert_eq!(world.mailbox.mails(), [], "nobody has to do anything");
}

#[tokio::test]
async fn without_grace_kill_9_loses_at_most_what_was_on_the_wire_and_tells_of_it() {
    const KILLS: u32 = 5;
    let accounts = brands(4);
    let plan = World::new()
        .accounts(accounts.len())
        .life(5)
        .section("http", "{total_deadline: 1s, connect_deadline: 300ms}")
        .section("refresh", "{backoff_first: 1s, backoff_max: 4s, in_flight_max: 1}");
    let mut world = plan.prepare().await;
    let slow = Fault::HangFor(Duration::from_millis(40));
    world.provider.plant(None, Surface::Token, slow, ALWAYS);
    kill_again_and_again(&mut world, KILLS, seed(), Between::Anything).await;
    let mut lost = Vec::new();
    until_or(
        "every account is healthy or its loss is told",
        async || {
            let scrape = world.running().scrape().await;
            lost.clear();
            accounts.iter().all(|account| match scrape.cause(account).as_deref() {
                Some("none") => world.kept(account) && world.live(account),
                Some("rotation_lost") => {
                    lost.push(account.clone());
                    world.mails_to(&owner(account)).len() == 1
                }
                _ => false,
            })
        },
        || world.tell(),
    )
    .await;
    println!("lost in {KILLS} kills: {lost:?}");
    assert!(lost.len() <= KILLS as usize, "one request at a time, one token at a kill");
    for account in accounts.iter().filter(|account| !lost.contains(account)) {
        world.until_rotated(account, 1).await;
        assert_eq!(world.mails_to(&owner(account)).len(), 0, "{account}");
    }
    for account in &lost {
        let presented = world.refreshed(account);
        let probes = presented.iter().filter(|how| **how == Refreshed::Retired).count();
        assert_eq!(probes, 1, "{account}: one probe, never a second: {presented:?}");
    }
}

#[tokio::test]
async fn a_token_that_died_with_the_process_between_answer_and_write_is_told_as_lost() {
    let mut world = World::new().life(8).section("http", HELD_BRIEFLY).start().await;
    world.provider.plant(Some("brand-01"), Surface::Token, Fault::HoldAnswer, Lasting::Times(1));
    world.until_held_back().await;
    world.program().kill_9();
    assert!(!world.kept("brand-01"), "the new token was still on the way");
    world.start().await;
    world.until_cause("brand-01", "rotation_lost").await;
    assert_eq!(world.refreshed("brand-01"), [Refreshed::Rotated, Refreshed::Retired]);
    let mails = world.until_mails(&owner("brand-01"), 1).await;
    assert!(mails[0].text.contains("brand-01"), "{}", mails[0].text);
    world.until_rotated("brand-02", 2).await;
    assert_eq!(world.refreshed("brand-01").len(), 2, "it is left alone from then on");
    world.until_mails(&owner("brand-01"), 1).await;
}

#[tokio::test]
async fn with_grace_the_probe_after_a_crash_comes_as_soon_as_the_request_is_over() {
    let plan = World::new().life(8).grace(600).section("http", HELD_BRIEFLY);
    let mut world = plan.start().await;
    world.provider.plant(Some("brand-01"), Surface::Token, Fault::HoldAnswer, Lasting::Times(1));
    world.until_held_back().await;
    let killed = Instant::now();
    world.program().kill_9();
    world.start().await;
    until_or(
        "the probe has brought the token back",
        async || world.kept("brand-01"),
        || world.tell(),
    )
    .await;
    // A provider that forgives does so for seconds; a dead process's lease must not use them up.
    assert!(killed.elapsed() < LEASE_WHILE_HELD_BRIEFLY, "{:?}", killed.elapsed());
    let refreshed = world.refreshed("brand-01");
    assert_eq!(refreshed[..2], [Refreshed::Rotated, Refreshed::Repeated]);
    world.until_cause("brand-01", "none").await;
    assert_eq!(world.mailbox.mails(), []);
}

#[tokio::test]
async fn sigterm_waits_for_the_answer_that_is_on_its_way_and_saves_its_token() {
    let mut world = World::new().life(8).section("http", HELD_BACK).start().await;
    world.provider.plant(Some("brand-01"), Surface::Token, Fault::HoldAnswer, Lasting::Times(1));
    world.until_held_back().await;
    assert!(!world.kept("brand-01"), "its answer hangs");
    world.program().signal("-TERM");
    until_stopping(&world).await;
    let released = Instant::now();
    world.provider.release();
    let status = world.program().ended().await;
    assert_eq!(status.code(), Some(0), "{}", world.tell());
    // Not only when the request's time would have been over.
    assert!(released.elapsed() < Duration::from_secs(45), "{:?}", released.elapsed());
    assert!(world.kept("brand-01"), "{}", world.tell());
    world.start().await;
    world.until_rotated("brand-01", 1).await;
    world.assert_well_behaved();
    assert_eq!(world.mailbox.mails(), []);
}

async fn until_stopping(world: &World) {
    let stops = async || world.running().log().contains("stopping:");
    until_or("it says that it stops", stops, || world.tell()).await;
}

#[tokio::test]
async fn after_sigterm_no_refresh_is_begun() {
    let mut world = World::new().accounts(6).life(8).section("http", HELD_BACK).start().await;
    world.provider.plant(Some("brand-01"), Surface::Token, Fault::HoldRequest, Lasting::Times(1));
    world.until_held_back().await;
    world.program().signal("-TERM");
    until_stopping(&world).await;
    let log = world.running().log();
    let begun = log.matches(" why=").count();
    // A call that was under way may not have come to its request yet; that of `brand-01` has.
    let (_, in_flight) = log.split_once("stopping:").unwrap().1.split_once("in_flight=").unwrap();
    let in_flight: usize = in_flight.split_whitespace().next().unwrap().parse().unwrap();
    // All of them are due by then.
    until_or(
        "every token has ended",
        async || (1..=6).all(|number| !world.live(&format!("brand-{number:02}"))),
        || world.tell(),
    )
    .await;
    world.provider.release();
    assert_eq!(world.program().ended().await.code(), Some(0));
    let in_all = world.running().log().matches(" why=").count();
    assert!(in_all < begun + in_flight, "{in_all}, {begun} of them before: {}", world.tell());
    for number in 1..=6 {
        assert!(world.kept(&format!("brand-{number:02}")), "{}", world.tell());
    }
}

#[tokio::test]
async fn sighup_while_it_still_starts_does_not_end_it_and_sigterm_does() {
    // The state's server takes the connection and never says a word.
    let silent = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let port = silent.local_addr().unwrap().port();
    let state = format!(
        "{{kind: postgres, directory: state, key_file: state-key, host: localhost, port: {port}, tls: off, \
         database: keepalive, user: nobody, password_file: state-password, connect_timeout: 60s}}"
    );
    let world = World::new().section("state", &state).prepare().await;
    world.write_state_key();
    std::fs::write(world.path("state-password"), "invented").unwrap();
    let mut starting = std::process::Command::new(crate::process::BINARY)
        .args(["run", "--config"])
        .arg(world.config())
        .stdin(std::process::Stdio::null())
        .spawn()
        .unwrap();
    // Accepted means that it waits for the first word.
    let (_connection, _) =
        tokio::task::spawn_blocking(move || silent.accept().unwrap()).await.unwrap();
    let signal = |name: &str| {
        let pid = starting.id().to_string();
        assert!(std::process::Command::new("kill").args([name, &pid]).status().unwrap().success());
    };
    signal("-HUP");
    signal("-TERM");
    let mut status = None;
    let mut ended = async || {
        status = starting.try_wait().unwrap();
        status.is_some()
    };
    let told = Instant::now();
    until_or("it ends", &mut ended, String::new).await;
    assert!(
        told.elapsed() < Duration::from_secs(45),
        "it waits for the server: {:?}",
        told.elapsed()
    );
    // A signal that nobody listens to leaves no code.
    assert_eq!(status.unwrap().code(), Some(0));
}

/// A killed program's request is over when this is: long enough to kill it before, short enough to wait for.
const HELD_BRIEFLY: &str = "{total_deadline: 6s, connect_deadline: 1s}";

/// The lease of a request is three times that, and a pause.
const LEASE_WHILE_HELD_BRIEFLY: Duration = Duration::from_secs(48);
