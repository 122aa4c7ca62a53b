//! Two processes on one PostgreSQL state: who looks after what, while one of them dies, sleeps, or is cut off.

use crate::{
    postgres::{Cable, Schema},
    process::Program,
    scrape::Scrape,
    shared,
    told::last_lines,
    until_or, webhooks,
    world::{OPERATOR, Plan, World, owner},
};
use oauth_keepalive::demo::provider::{Fault, Lasting, Refreshed, Surface};
use std::{
    collections::{BTreeMap, BTreeSet},
    time::{Duration, Instant},
};

const ACCOUNTS: usize = 60;

/// Short, so that a test is: what it is in production changes nothing but the pauses.
const LEASE: Duration = Duration::from_secs(5);

/// What a busy machine may take on top of a pause; with a lease it is still far below what an account's own lease takes.
const A_MOMENT: Duration = Duration::from_secs(25);

/// Due after twelve to twenty of sixty seconds, so that none lapses because the machine is busy.
const EARLY: &str = "{backoff_first: 1s, backoff_max: 4s, due_after: 0.35, spread: 0.15}";

/// A world with two replicas.
struct Pair {
    world: World,
    accounts: usize,
    one: Program,
    two: Program,
}

fn plan() -> Plan {
    World::new().accounts(ACCOUNTS)
}

impl Pair {
    async fn start(plan: Plan) -> Self {
        let schema = Schema::new();
        let section = |state: &str| schema.on_socket(state, "5s");
        Self::start_with(plan, &section("state"), &section("state-2")).await
    }

    async fn start_with(plan: Plan, first: &str, second: &str) -> Self {
        let world = plan.section("state", first).prepare().await;
        world.write_state_key();
        let other = world.configure_beside("config-2.yaml", "state", second);
        let one = Program::start(&world.config(), world.path("one.log")).await;
        let two = Program::start(&other, world.path("two.log")).await;
        let count = "SELECT count(*) FROM accounts";
        let counted: u32 = world.database().query_row(count, [], |row| row.get(0)).unwrap();
        Self { accounts: counted as usize, world, one, two }
    }

    fn tell(&self) -> String {
        let (one, two) = (last_lines(&self.one.log()), last_lines(&self.two.log()));
        format!("{}\n--- one\n{one}\n--- two\n{two}", self.world.tell())
    }

    /// Waits until each holds half, and every account is at one of them.
    async fn until_shared(&self) {
        until_or(
            "each of the two holds half",
            async || {
                let (one, two) = (self.one.scrape().await, self.two.scrape().await);
                let all = one.accounts().len() + two.accounts().len();
                held(&one) == 128 && held(&two) == 128 && all == self.accounts
            },
            || self.tell(),
        )
        .await;
    }

    /// Waits until `program` looks after all accounts, and says how long that took.
    async fn until_all_at(&self, program: &Program) -> Duration {
        let began = Instant::now();
        until_or(
            "one of them looks after all accounts",
            async || program.scrape().await.accounts().len() == ACCOUNTS,
            || self.tell(),
        )
        .await;
        began.elapsed()
    }

    async fn until_each_rotated(&self, more: usize) {
        let rotations = |world: &World| -> Vec<usize> {
            names().iter().map(|name| world.rotations(name)).collect()
        };
        let before = rotations(&self.world);
        until_or(
            &format!("every account is renewed {more} times more"),
            async || {
                self.assert_live();
                let now = rotations(&self.world);
                before.iter().zip(now).all(|(before, now)| now >= before + more)
            },
            || self.tell(),
        )
        .await;
    }

    /// One request of an account at a time, and of each token that was replaced at most the one probe.
    fn assert_nobody_met(&self) {
        let mut probes = BTreeMap::<String, usize>::new();
        for (entry, _) in self.world.refreshes() {
            assert!(!entry.overlapped, "two requests of one account at a time: {entry:?}");
            let probes = probes.entry(entry.account.clone().unwrap_or_default()).or_default();
            *probes = if entry.retired_presented() { *probes + 1 } else { 0 };
            assert!(*probes < 2, "a retired token twice: {entry:?}\n{}", self.tell());
        }
    }

    /// The operator may hear of a store that two processes kept busy; no owner has to do anything.
    fn assert_no_owner_was_bothered(&self) {
        for mail in self.world.mailbox.mails() {
            assert_eq!(mail.to, [OPERATOR], "{}\n{}", mail.subject, self.tell());
        }
    }

    /// Accounts whose token died with a process, as the replicas say.
    async fn lost(&self) -> Vec<String> {
        let (one, two) = (self.one.scrape().await, self.two.scrape().await);
        let is_lost = |scrape: &Scrape, name: &str| {
            scrape.cause(name).is_some_and(|cause| cause == "rotation_lost")
        };
        let names = (1..=self.accounts).map(|number| format!("brand-{number:02}"));
        names.filter(|name| is_lost(&one, name) || is_lost(&two, name)).collect()
    }

    /// No account lapses, looked at as often as somebody asks.
    fn assert_live(&self) {
        for name in names() {
            // Between the provider's rotation and the save the store's token is a moment old, not dead.
            assert!(
                self.world.live(&name) || !self.world.kept(&name),
                "{name} lapsed\n{}",
                self.tell()
            );
        }
    }
}

fn names() -> Vec<String> {
    (1..=ACCOUNTS).map(|number| format!("brand-{number:02}")).collect()
}

fn held(scrape: &Scrape) -> usize {
    scrape.value("shares_held", &[]).unwrap() as usize
}

#[tokio::test]
async fn each_account_is_looked_after_and_shown_by_exactly_one_of_two_replicas() {
    let pair = Pair::start(plan().life(300)).await;
    pair.until_shared().await;
    let (one, two) = (pair.one.scrape().await, pair.two.scrape().await);
    let (ours, theirs) = (one.accounts(), two.accounts());
    assert_eq!(ours.intersection(&theirs).count(), 0);
    let all: BTreeSet<_> = ours.union(&theirs).cloned().collect();
    assert_eq!(all, names().into_iter().collect());
    let healthy = [("provider", "tiktok"), ("cause", "none")];
    let sum = one.value("accounts", &healthy).unwrap() + two.value("accounts", &healthy).unwrap();
    assert_eq!(sum as usize, ACCOUNTS, "the sum counts each account once");
    for program in [&pair.one, &pair.two] {
        until_or(
            "both know what all of them count",
            async || {
                let scrape = program.scrape().await;
                let fleet = |name| scrape.value(name, &[]).unwrap() as usize;
                (fleet("fleet_accounts"), fleet("fleet_replicas")) == (ACCOUNTS, 2)
            },
            || pair.tell(),
        )
        .await;
        let page = program.get("/").await.text();
        assert!(page.contains("128 of 256 shares") && page.contains("2 alive"), "{page}");
        assert_eq!(program.get("/-/ready").await.status, 200);
    }
}

#[tokio::test]
async fn accounts_of_a_killed_replica_are_taken_over_within_a_lease_and_none_lapses() {
    let mut pair = Pair::start(plan().life(60).section("refresh", EARLY)).await;
    pair.until_shared().await;
    // Nothing is due yet.
    pair.one.kill_9();
    let took = pair.until_all_at(&pair.two).await;
    assert!(took < LEASE + A_MOMENT, "{took:?}\n{}", pair.tell());
    assert_eq!(held(&pair.two.scrape().await), 256);
    pair.until_each_rotated(1).await;
    pair.world.assert_well_behaved();
}

#[tokio::test]
async fn a_replica_that_was_stopped_for_two_leases_does_no_harm_when_it_goes_on() {
    let pair = Pair::start(plan().life(60).age(8).section("refresh", EARLY)).await;
    pair.until_shared().await;
    let ours = pair.one.scrape().await.accounts().into_iter().next().unwrap();
    // Its answer is on the way when the process is stopped.
    let held = Fault::HoldAnswer;
    pair.world.provider.plant(Some(&ours), Surface::Token, held, Lasting::Times(1));
    let is_held = async || pair.world.provider.held() > 0;
    until_or("the provider has committed", is_held, || pair.tell()).await;
    pair.one.signal("-STOP");
    pair.world.provider.release();
    let stopped = Instant::now();
    let took = pair.until_all_at(&pair.two).await;
    assert!(took < LEASE + A_MOMENT, "{took:?}\n{}", pair.tell());
    // The time itself is what is tested: longer than any lease of its shares.
    tokio::time::sleep((LEASE * 2).saturating_sub(stopped.elapsed())).await;
    assert!(!pair.world.kept(&ours), "its answer still waits for it");
    pair.one.signal("-CONT");
    let woken = pair.one.scrape().await.accounts();
    let theirs = pair.two.scrape().await.accounts();
    assert_eq!(woken.intersection(&theirs).count(), 0, "{}", pair.tell());
    until_or(
        "the token that it received is in the store",
        async || pair.world.kept(&ours),
        || pair.tell(),
    )
    .await;
    pair.until_shared().await;
    pair.world.until_rotated(&ours, 1).await;
    pair.assert_live();
    pair.world.assert_well_behaved();
    pair.assert_no_owner_was_bothered();
}

#[tokio::test]
async fn a_replica_that_is_cut_off_from_the_state_stops_before_another_goes_on() {
    let schema = Schema::new();
    let cable = Cable::to(schema.port).await;
    let (near, far) =
        (schema.on_socket("state", "5s"), schema.through(cable.port, "state-2", "5s"));
    let plan = plan().life(60).section("refresh", EARLY);
    let pair = Pair::start_with(plan, &near, &far).await;
    pair.until_shared().await;
    cable.cut();
    let began = Instant::now();
    let mut all_at_one = None;
    let mut none_at_two = None;
    until_or(
        "the one that is not cut off has all, and the other none",
        async || {
            // In this order: what the first has taken, the second must not show any more.
            let ours = pair.one.scrape().await.accounts();
            let theirs = pair.two.scrape().await;
            let both = ours.intersection(&theirs.accounts()).count();
            assert_eq!(both, 0, "shown by both\n{}", pair.tell());
            if theirs.accounts().is_empty() {
                none_at_two.get_or_insert_with(|| began.elapsed());
            }
            if ours.len() == ACCOUNTS {
                all_at_one.get_or_insert_with(|| began.elapsed());
            }
            all_at_one.is_some() && none_at_two.is_some()
        },
        || pair.tell(),
    )
    .await;
    assert!(none_at_two < Some(LEASE + A_MOMENT), "{none_at_two:?}");
    assert!(none_at_two <= all_at_one, "{none_at_two:?} {all_at_one:?}");
    let cut_off = pair.two.scrape().await;
    assert_eq!(held(&cut_off), 0);
    let sent = |log: &str| log.matches(" why=").count();
    let before = sent(&pair.two.log());
    pair.until_each_rotated(1).await;
    assert_eq!(sent(&pair.two.log()), before, "it begins nothing");
    cable.mend();
    pair.until_shared().await;
    let theirs = pair.two.scrape().await.accounts().into_iter().next().unwrap();
    pair.world.until_rotated(&theirs, 1).await;
    pair.world.assert_well_behaved();
    pair.assert_no_owner_was_bothered();
}

#[tokio::test]
async fn a_dead_account_is_told_once_whoever_looks_after_it() {
    let mut pair = Pair::start(plan().life(12)).await;
    pair.until_shared().await;
    let dead = pair.one.scrape().await.accounts().into_iter().next().unwrap();
    pair.world.provider.revoke_consent(&dead);
    pair.world.until_mails(&owner(&dead), 1).await;
    pair.one.kill_9();
    pair.until_all_at(&pair.two).await;
    let cause = pair.two.scrape().await.cause(&dead);
    assert!(cause.is_some_and(|cause| cause != "none"), "what was known is known");
    let others = names().into_iter().find(|name| *name != dead).unwrap();
    pair.world.until_rotated(&others, 1).await;
    pair.world.until_mails(&owner(&dead), 1).await;
    let refused = pair.world.refreshed(&dead).into_iter().filter(|how| *how != Refreshed::Rotated);
    assert_eq!(refused.count(), 1, "a dead token is not tried again: {}", pair.tell());
}

#[tokio::test]
async fn what_one_replica_hears_the_one_that_has_the_account_knows() {
    let section = "{enabled: true, listen: \"127.0.0.1:0\"}";
    let plan = plan().life(7_200).age(1_800).section("webhooks", section);
    let mut pair = Pair::start(plan).await;
    pair.until_shared().await;
    let theirs = pair.two.scrape().await.accounts().into_iter().next().unwrap();
    let answer = webhooks::announce_removal(&pair.world, &pair.one, &theirs).await;
    assert_eq!(answer.status, 200, "{}", answer.text());
    until_or(
        "the one that has the account knows",
        async || pair.two.scrape().await.cause(&theirs).as_deref() == Some("consent_revoked"),
        || pair.tell(),
    )
    .await;
    let again = webhooks::announce_removal(&pair.world, &pair.two, &theirs).await;
    assert_eq!(again.status, 200);
    // Taken from whoever heard it a moment before he is killed.
    let ours = pair.one.scrape().await.accounts().into_iter().next().unwrap();
    assert_eq!(webhooks::announce_removal(&pair.world, &pair.one, &ours).await.status, 200);
    pair.one.kill_9();
    pair.until_all_at(&pair.two).await;
    until_or(
        "the other one knows what the killed one was told",
        async || pair.two.scrape().await.cause(&ours).as_deref() == Some("consent_revoked"),
        || pair.tell(),
    )
    .await;
    for account in [&ours, &theirs] {
        pair.world.until_mails(&owner(account), 1).await;
        assert_eq!(pair.world.refreshed(account), [], "nothing is spent on it");
    }
}

#[tokio::test]
async fn rows_with_one_refresh_token_are_one_credential_whoever_has_them() {
    let mut pair = Pair::start(plan().accounts(2).life(16)).await;
    pair.until_shared().await;
    let pages: Vec<String> = (1..=20).map(|number| format!("page-{number:02}")).collect();
    pages.iter().for_each(|page| shared::copy(&pair.world, page));
    pair.accounts += pages.len();
    pair.until_shared().await;
    let rows: Vec<&str> = pages.iter().map(String::as_str).collect();
    let ours = pair.one.scrape().await.accounts();
    let here = rows.iter().filter(|row| ours.contains(**row)).count();
    assert!((1..rows.len()).contains(&here), "each of the two has some of them: {ours:?}");
    shared::until_renewed_together(&pair.world, &rows, 3).await;
    pair.world.assert_well_behaved();
    let log = pair.world.refreshed("brand-01");
    assert!(log.iter().all(|how| *how == Refreshed::Rotated), "{}", pair.tell());
    assert_eq!(pair.world.mailbox.mails(), [], "nobody has to do anything");
}

#[tokio::test]
async fn a_replica_that_is_ended_hands_over_without_waiting_for_its_lease() {
    let schema = Schema::new();
    let section = |state: &str| schema.on_socket(state, "45s");
    let mut pair = Pair::start_with(plan().life(120), &section("state"), &section("state-2")).await;
    pair.until_shared().await;
    let status = pair.one.terminate().await;
    assert_eq!(status.code(), Some(0), "{}", pair.tell());
    let took = pair.until_all_at(&pair.two).await;
    // It is heard of every third of a lease, and that is when it takes what is free.
    assert!(took < Duration::from_secs(15) + A_MOMENT, "{took:?}\n{}", pair.tell());
}

/// For longer runs set REPLICAS_ACCOUNTS and REPLICAS_ROUNDS.
#[tokio::test]
async fn replicas_that_are_killed_and_stopped_in_turn_never_meet_at_one_account() {
    let wanted = |name: &str| std::env::var(name).ok().and_then(|value| value.parse().ok());
    let accounts = wanted("REPLICAS_ACCOUNTS").unwrap_or(ACCOUNTS);
    let rounds = wanted("REPLICAS_ROUNDS").unwrap_or(1);
    let mut pair = Pair::start(World::new().accounts(accounts).life(16).age(6)).await;
    // Some answer is always on its way, so that kills and stops hit requests.
    let slow = Fault::HangFor(Duration::from_millis(50));
    let day = Lasting::For(Duration::from_secs(86_400));
    pair.world.provider.plant(None, Surface::Token, slow, day);
    for round in 1..=rounds {
        pair.until_shared().await;
        pair.one.kill_9();
        pair.one = Program::start(&pair.world.config(), pair.world.path("one.log")).await;
        pair.until_shared().await;
        pair.two.signal("-STOP");
        // The time itself is what is tested.
        tokio::time::sleep(LEASE * 2).await;
        pair.two.signal("-CONT");
        pair.assert_nobody_met();
        println!("round {round}: {} requests so far", pair.world.refreshes().len());
    }
    pair.until_shared().await;
    let before = pair.world.refreshes().len();
    until_or(
        "both go on",
        async || pair.world.refreshes().len() > before + accounts / 2,
        || pair.tell(),
    )
    .await;
    pair.assert_nobody_met();
    let lost: Vec<String> = pair.lost().await;
    println!("lost on the wire: {lost:?}");
    assert!(lost.len() <= 64 * rounds, "more than could be on the wire in {rounds} kills");
}
