//! What happens by itself: outages, kills, stops, owners, the publisher, the clock.

use super::{
    faults::Fault,
    laws,
    replica::Process,
    truth::{HOUR, MINUTE, Maker, Millis, Row, SECOND},
    world::{Outage, Truth, World},
};
use oauth_keepalive::core::{fleet::Input, schedule::Policy};
use std::sync::Arc;

/// The store is read at least so often.
const UNSEEN_FOR: Millis = MINUTE;

/// What comes again and again, with the mean time between two.
pub(crate) const HAZARDS: [(Fault, Millis); 17] = [
    (Fault::ProviderOutage, 4 * HOUR),
    (Fault::StoreOutage, 5 * HOUR),
    (Fault::StateOutage, 5 * HOUR),
    (Fault::AppRefused, 6 * HOUR),
    (Fault::Kill, 90 * MINUTE),
    (Fault::Stall, 2 * HOUR),
    (Fault::Restart, 4 * HOUR),
    (Fault::Partition, 4 * HOUR),
    (Fault::ClockStep, 5 * HOUR),
    (Fault::PublisherRefreshes, 20 * MINUTE),
    (Fault::Reconnects, 2 * HOUR),
    (Fault::Revoked, 4 * HOUR),
    (Fault::AccessDies, 2 * HOUR),
    (Fault::FalseReports, HOUR),
    (Fault::Disconnects, 4 * HOUR),
    (Fault::StaleWrite, 2 * HOUR),
    (Fault::OtherColumn, 10 * MINUTE),
];

/// Starts a process in the place of `replica`.
pub(crate) fn start(world: &Arc<World>, replica: usize, policy: Policy) {
    let skew = world.truth().skews[replica];
    let process = Process::new(world, replica, skew);
    let mut truth = world.truth();
    let name = process.name();
    truth.note(None, || format!("{name} starts"));
    truth.processes[replica] = Some(Arc::clone(&process));
    drop(truth);
    tokio::spawn(process.run(policy));
}

/// One of [`HAZARDS`] happens.
pub(crate) async fn strike(world: &Arc<World>, fault: Fault, policy: Policy) {
    let (who, replica, lasts) = {
        let mut truth = world.truth();
        let (players, replicas) = (truth.players.len(), truth.processes.len());
        let die = truth.faults.die(fault);
        let (who, replica) = (die.index(players), die.index(replicas));
        let lasts = die.between(0, 999);
        if !truth.faults.happens(fault) {
            return;
        }
        truth.note(None, || format!("{fault:?} (account {who}, replica {replica})"));
        (who, replica, lasts)
    };
    // From short to long, evenly on a scale of shares.
    let of = |short: Millis, long: Millis| short + (long - short) * lasts / 1_000;
    match fault {
        Fault::ProviderOutage => provider_outage(world, of(MINUTE, 80 * MINUTE)),
        Fault::StoreOutage => cut_all(world, 1, of(5 * SECOND, 50 * MINUTE)),
        Fault::StateOutage => cut_all(world, 2, of(5 * SECOND, 50 * MINUTE)),
        Fault::Partition => {
            let until = world.now() + of(5 * SECOND, 30 * MINUTE);
            let mut truth = world.truth();
            truth.cut[replica][(lasts % 3) as usize] = until;
            hide_who_leaves(&mut truth);
            truth.shared_trouble(until);
        }
        Fault::AppRefused => {
            tokio::spawn(app_refused(
                Arc::clone(world),
                (lasts % 2) as usize,
                of(5 * MINUTE, HOUR),
            ));
        }
        Fault::Kill => kill(world, replica, of(SECOND, 40 * SECOND), policy).await,
        Fault::Restart => restart(world, replica, of(SECOND, 20 * SECOND), policy),
        Fault::Stall => {
            let mut truth = world.truth();
            let until = truth.now + of(5 * SECOND, 4 * MINUTE);
            truth.shared_trouble(until);
            if let Some(process) = truth.processes[replica].clone() {
                truth.note(None, || format!("{} is stopped until {until}", process.name()));
                drop(truth);
                process.stall(until);
            }
        }
        Fault::ClockStep => step_clock(world, replica, of(10 * MINUTE, 3 * HOUR), lasts % 2 == 0),
        Fault::PublisherRefreshes => {
            tokio::spawn(publisher_refreshes(Arc::clone(world), who, 0));
        }
        Fault::Reconnects => reconnect(world, who),
        Fault::Revoked => {
            {
                let mut truth = world.truth();
                truth.players[who].alive = false;
                truth.trouble(who);
            }
            report_soon(world, who, of(SECOND, 10 * MINUTE));
            reconnect_later(world, who, of(HOUR, 3 * HOUR));
        }
        Fault::AccessDies => {
            {
                let mut truth = world.truth();
                truth.players[who].access_dead = true;
                truth.trouble(who);
            }
            report_soon(world, who, of(SECOND, 10 * MINUTE));
        }
        Fault::FalseReports => report_soon(world, who, 0),
        Fault::Disconnects => disconnect(world, who, of(20 * MINUTE, 2 * HOUR)),
        Fault::StaleWrite => write_stale(world, who),
        _ => world.truth().store_version += 1,
    }
}

fn provider_outage(world: &World, lasts: Millis) {
    let mut truth = world.truth();
    let kinds = [Outage::Unreachable, Outage::Broken, Outage::Busy, Outage::Silent];
    let kind = kinds[truth.faults.die(Fault::ProviderOutage).index(kinds.len())];
    let until = truth.now + lasts;
    truth.note(None, || format!("the providers are {kind:?}"));
    truth.provider_down = (until, kind);
    truth.shared_trouble(until);
}

fn cut_all(world: &World, peer: usize, lasts: Millis) {
    let mut truth = world.truth();
    let until = truth.now + lasts;
    truth.cut.iter_mut().for_each(|cut| cut[peer] = until);
    hide_who_leaves(&mut truth);
    truth.shared_trouble(until);
}

/// Whoever left a moment ago, or leaves now, is seen to have left when everybody can read the store again, and that is
/// written down when the state is there again: what was owed until then is sent the moment it is.
fn hide_who_leaves(truth: &mut Truth) {
    let now = truth.now;
    let readable_from = truth.cut.iter().map(|cut| cut[1].max(cut[2])).max().unwrap_or(0);
    let unseen = truth
        .players
        .iter_mut()
        .filter(|one| one.left_at >= 0 && one.left_seen_from > now - UNSEEN_FOR);
    for player in unseen {
        player.left_seen_from = player.left_seen_from.max(readable_from);
    }
}

async fn app_refused(world: Arc<World>, app: usize, lasts: Millis) {
    let lives = {
        let mut truth = world.truth();
        let until = truth.now + lasts;
        truth.app_refused_until[app] = until;
        truth.app_refusals[app] = 0;
        truth.app_questions[app] = 0;
        truth.shared_trouble(until);
        truth.lives
    };
    world.sleep(lasts).await;
    let mut truth = world.truth();
    let starts = truth.lives - lives;
    laws::app_mended(&mut truth, app, lasts, starts);
}

async fn kill(world: &Arc<World>, replica: usize, away: Millis, policy: Policy) {
    let Some(process) = world.truth().processes[replica].take() else { return };
    let open = world.auditor.open_entries().await.expect("nothing is in its way");
    process.kill();
    let mut truth = world.truth();
    laws::dies(&mut truth, &process, &world.maker, &open);
    truth.stopped_at = truth.now;
    let until = truth.now + away;
    truth.shared_trouble(until);
    drop(truth);
    start_later(world, replica, away, policy);
}

fn restart(world: &Arc<World>, replica: usize, away: Millis, policy: Policy) {
    let Some(process) = world.truth().processes[replica].take() else { return };
    let (world, in_charge) = (Arc::clone(world), away);
    tokio::spawn(async move {
        process.end().await;
        let open = world.auditor.open_entries().await.expect("nothing is in its way");
        process.kill();
        let mut truth = world.truth();
        laws::ended(&mut truth, &process);
        // Nothing may be in its hands only: it ended in good order.
        let alone: Vec<_> =
            truth.hands.iter().filter(|hand| hand.0 == process.life).copied().collect();
        laws::dies(&mut truth, &process, &world.maker, &open);
        for (_, who, number) in alone {
            // One that a newer consent has replaced is nothing to wait for.
            let player = &truth.players[who];
            let lost = player.tokens[number].destroyed && number == player.current();
            truth.law(!lost, "stopping waits for what is held", Some(who), |_| {
                format!("token {number} was dropped at a stop in good order")
            });
        }
        let until = truth.now + in_charge;
        truth.shared_trouble(until);
        drop(truth);
        start_later(&world, replica, in_charge, policy);
    });
}

fn start_later(world: &Arc<World>, replica: usize, away: Millis, policy: Policy) {
    let world = Arc::clone(world);
    tokio::spawn(async move {
        world.sleep(away).await;
        start(&world, replica, policy);
    });
}

fn step_clock(world: &Arc<World>, replica: usize, lasts: Millis, ahead: bool) {
    let Some(process) = world.truth().processes[replica].clone() else { return };
    // A process that starts while the wall clock is wrong has nothing to tell it so.
    if process.has_stepped() || process.snapshot().is_none() {
        return;
    }
    const DAY: i64 = 86_400;
    process.step_clock(if ahead { DAY } else { -DAY });
    let world = Arc::clone(world);
    tokio::spawn(async move {
        world.sleep(lasts).await;
        process.step_clock(0);
    });
}

/// The publisher renews a token by itself, and writes what it got without looking.
async fn publisher_refreshes(world: Arc<World>, who: usize, delay: Millis) {
    world.sleep(delay).await;
    let (number, there, back) = {
        let mut truth = world.truth();
        let app = truth.players[who].app;
        let now = truth.now;
        let open = truth.provider_down.0 <= now
            && truth.app_refused_until[app] <= now
            && truth.cut.iter().all(|cut| cut[1] <= now);
        let Some(row) = truth.players[who].row.clone().filter(|row| row.enabled && open) else {
            return;
        };
        let die = truth.faults.die(Fault::PublisherRefreshes);
        (row.number, die.between(20, 300), die.between(20, 800))
    };
    world.sleep(there).await;
    {
        let mut truth = world.truth();
        let Some(minted) = truth.renew(who, number, Maker::Publisher) else { return };
        truth.note(Some(who), || format!("the publisher renews {number}: {minted}"));
        truth.trouble(who);
    }
    world.sleep(back).await;
    let mut truth = world.truth();
    let now = truth.now;
    let minted = number + 1;
    // Its owner may have reconnected it meanwhile; then the publisher has dropped what it got.
    let player = &mut truth.players[who];
    if player.current() == minted && player.row.is_some() {
        let at = player.tokens[minted].at;
        player.put(minted, at, now);
        truth.store_version += 1;
        truth.note(Some(who), || format!("the publisher writes {minted}"));
    }
}

/// The owner gives a new consent.
pub(crate) fn reconnect(world: &World, who: usize) {
    let mut truth = world.truth();
    // The publisher cannot write it down either.
    if truth.cut.iter().any(|cut| cut[1] > truth.now) {
        return;
    }
    let now = truth.now;
    let player = &mut truth.players[who];
    player.alive = true;
    let number = player.mint(Maker::Owner, now);
    player.put(number, now, now);
    // A new consent is another connection: what was tried with the former one does not count against it.
    player.failures.clear();
    truth.store_version += 1;
    truth.trouble(who);
    truth.note(Some(who), || format!("its owner reconnects it: {number}"));
}

pub(crate) fn reconnect_later(world: &Arc<World>, who: usize, delay: Millis) {
    let world = Arc::clone(world);
    tokio::spawn(async move {
        world.sleep(delay).await;
        if !world.truth().faults.over {
            reconnect(&world, who);
        }
    });
}

fn disconnect(world: &Arc<World>, who: usize, lasts: Millis) {
    {
        let mut truth = world.truth();
        let now = truth.now;
        let player = &mut truth.players[who];
        (player.left_at, player.left_seen_from) = (now, now);
        match &mut player.row {
            Some(row) if lasts % 2 == 0 => row.enabled = false,
            row => *row = None,
        }
        hide_who_leaves(&mut truth);
        truth.store_version += 1;
        truth.trouble(who);
        truth.note(Some(who), || "is disconnected".to_owned());
    }
    reconnect_later(world, who, lasts);
}

/// A cached row comes back: the token before the newest.
fn write_stale(world: &World, who: usize) {
    let mut truth = world.truth();
    let now = truth.now;
    let player = &mut truth.players[who];
    let Some(row) = player.row.clone().filter(|row| row.enabled && row.number > 0) else { return };
    let before = row.number - 1;
    // Only of the tokens that we spent ourselves do we know that they are spent.
    if player.tokens[row.number].maker != Maker::Us {
        return;
    }
    let at = player.tokens[before].at;
    // Only the columns of the token come from the cache.
    player.row = Some(Row { number: before, issued_at: at, written_at: now, stale: true, ..row });
    truth.store_version += 1;
    truth.trouble(who);
    truth.note(Some(who), || format!("the publisher writes {before} back"));
}

fn report_soon(world: &Arc<World>, who: usize, delay: Millis) {
    let world = Arc::clone(world);
    tokio::spawn(async move {
        world.sleep(delay).await;
        let processes = {
            let mut truth = world.truth();
            truth.players[who].reported_at = truth.now;
            truth.note(Some(who), || "the publisher reports a 401".to_owned());
            truth.processes.clone()
        };
        let id = world.truth().players[who].id.clone();
        for process in processes.iter().flatten() {
            process.tell(Input::Responded { id: id.clone(), status: 401, times: 1 });
        }
    });
}

/// Others do something about an account while a request of ours is under way.
pub(crate) fn beside_ours(world: &Arc<World>, truth: &mut Truth, who: usize) {
    if truth.faults.strikes(Fault::PublisherRaces, 150) {
        let delay = truth.faults.die(Fault::PublisherRaces).between(0, 1_200);
        tokio::spawn(publisher_refreshes(Arc::clone(world), who, delay));
    }
    if truth.faults.strikes(Fault::ReconnectRaces, 60) {
        let delay = truth.faults.die(Fault::ReconnectRaces).between(0, 1_200);
        reconnect_later(world, who, delay);
    }
}
