//! One point: a fresh world, harm at that point, and what became of the account.

use crate::{
    options::{Harm, Options, Round},
    points::{KILLS, Point, Reference, Zone, is_about},
    scene::{Scene, Verdict},
    strace::Strace,
    trace::{Call, Target},
    until_or,
};
use std::{
    path::PathBuf,
    time::{Duration, Instant},
};

/// How it went.
pub(crate) struct Ending {
    /// The point was met.
    pub(crate) met: bool,
    /// Where the harm struck, at the point or elsewhere; `None` when it did not.
    pub(crate) struck: Option<Zone>,
    pub(crate) verdict: Verdict,
    /// How often a new token was asked for.
    pub(crate) requests: usize,
    /// For people who look into it.
    pub(crate) told: String,
}

/// Strikes at `point`, again if need be, until it hits.
pub(crate) async fn strike(
    options: &Options,
    round: Round,
    reference: &Reference,
    point: &Point,
) -> Ending {
    let attempts = if point.is_exact() { ATTEMPTS_MAX } else { 1 };
    let mut lead = LEAD;
    let mut last = None;
    for tried in 0..attempts {
        // A connection cannot be named to strace, so that calls of other kinds count too.
        let beyond = if point.target == Target::Peer { tried % OTHERS_MAX } else { 0 };
        match attempt(options, round, reference, point, beyond, lead).await {
            Some(ending) if ending.met || ending.verdict != Verdict::Alive => {
                return ending;
            }
            Some(ending) => last = Some(ending),
            // The machine is busy.
            None => lead = (lead + 1).min(LEAD_MAX),
        }
    }
    last.unwrap_or_else(|| Ending {
        met: false,
        struck: None,
        verdict: Verdict::Alive,
        requests: 0,
        told: "strace was never attached in time".to_owned(),
    })
}

async fn attempt(
    options: &Options,
    round: Round,
    reference: &Reference,
    point: &Point,
    beyond: usize,
    lead: u64,
) -> Option<Ending> {
    let mut scene = Scene::prepare(options, round, lead).await;
    scene.start().await;
    let mut strace =
        scene.attach(&arguments(round.harm, point, point.number + beyond, &scene)).await?;
    match round.harm {
        Harm::Kill => until_killed(&mut scene, &mut strace).await,
        Harm::Eio | Harm::Enospc => {
            until_injected(&scene, &strace).await;
            // Questions over HTTP would be struck as well.
            if point.target != Target::Peer {
                scene.until_it_reacts().await;
            }
            strace.detach();
        }
    }
    let calls = scene.calls(&strace);
    let (met, struck) = struck(round.harm, &calls, reference, point);
    if round.harm == Harm::Kill {
        strace.detach();
        scene.world.program().kill_9();
        scene.start().await;
    }
    let verdict = scene.settle().await;
    let told = if verdict == Verdict::Alive { String::new() } else { scene.tell() };
    Some(Ending { met, struck, verdict, requests: scene.requests(), told })
}

/// What strace is asked for. A path narrows both what it shows and what it strikes.
pub(crate) fn arguments(harm: Harm, point: &Point, number: usize, scene: &Scene) -> Vec<String> {
    let Point { name, target, .. } = point;
    let what = match harm {
        Harm::Kill => format!("inject={name}:signal=KILL:when={number}"),
        Harm::Eio => format!("inject={name}:error=EIO:when={number}"),
        Harm::Enospc => format!("inject={name}:error=ENOSPC:when={number}+"),
    };
    let mut arguments =
        vec!["-e".to_owned(), format!("trace={}", KILLS.join(",")), "-e".to_owned(), what];
    if let Target::File(path) = target {
        let path = scene.world.folder.path().join(path);
        // Without the slash that joining nothing leaves, or the folder itself would have another name.
        let path = path.components().collect::<PathBuf>();
        arguments.extend(["-P".to_owned(), path.display().to_string()]);
    }
    arguments
}

/// Waits until the process is dead, or done without having met its point.
pub(crate) async fn until_killed(scene: &mut Scene, strace: &mut Strace) {
    let began = Instant::now();
    while !scene.world.program().has_ended() && began.elapsed() < STRUCK_WITHIN {
        if scene.is_done() {
            strace.until_quiet(STILL_TO_COME).await;
            break;
        }
        tokio::time::sleep(crate::LOOK_EVERY).await;
    }
    // What it wrote is complete when it has ended itself.
    if scene.world.program().has_ended() {
        let text = strace.reader();
        until_or("strace has ended", async || strace.has_ended(), text).await;
    }
}

async fn until_injected(scene: &Scene, strace: &Strace) {
    let began = Instant::now();
    while !strace.text().contains("(INJECTED)") && began.elapsed() < STRUCK_WITHIN {
        if scene.is_done() {
            strace.until_quiet(STILL_TO_COME).await;
            return;
        }
        tokio::time::sleep(crate::LOOK_EVERY).await;
    }
}

/// Whether the point was met, and where the harm struck, by what strace wrote.
pub(crate) fn struck(
    harm: Harm,
    calls: &[Call],
    reference: &Reference,
    point: &Point,
) -> (bool, Option<Zone>) {
    let hit = |call: &Call| match harm {
        // It began and never came back.
        Harm::Kill => call.ended.is_none() && call.name == point.name,
        Harm::Eio | Harm::Enospc => call.injected,
    };
    let is_it = |call: &Call| !point.is_exact() || call.target == point.target;
    let meant = calls.iter().position(|call| hit(call) && is_it(call));
    let Some(index) = meant.or_else(|| calls.iter().position(hit)) else { return (false, None) };
    let number = calls[..=index].iter().filter(|call| is_about(call, point)).count();
    let met = meant.is_some() && (!point.is_exact() || number == point.number);
    let zone = match &point.target {
        // Only calls about this file were seen.
        Target::File(_) => reference.zone(&Point { number, ..point.clone() }),
        Target::Peer | Target::Other => Some(zone_within(&calls[..=index])),
    };
    (met, zone)
}

/// The zone of the last call of a trace that ends with it.
fn zone_within(calls: &[Call]) -> Zone {
    let done = calls.iter().filter(|call| call.ended.is_some());
    let (mut sent, mut received, mut durable) = (false, false, false);
    for call in done {
        let is_peer = call.target == Target::Peer;
        sent |= is_peer && matches!(call.name.as_str(), "writev" | "sendto" | "write");
        received |= is_peer && call.name == "recvfrom" && call.result > Some(0);
        durable |= received
            && matches!(call.name.as_str(), "fsync" | "fdatasync")
            && matches!(&call.target, Target::File(path) if path.starts_with("state/"));
    }
    match (sent, received, durable) {
        (_, _, true) => Zone::After,
        (_, true, _) => Zone::Window,
        (true, ..) => Zone::OnTheWire,
        _ => Zone::Before,
    }
}

/// A point that is not met is tried again: threads take turns as they like.
const ATTEMPTS_MAX: usize = 6;
/// Calls of the same name on something else that a thread makes before the one that is meant.
const OTHERS_MAX: usize = 3;
/// Seconds until the account is due: enough to start and to attach.
pub(crate) const LEAD: u64 = 2;
pub(crate) const LEAD_MAX: u64 = 5;
const STRUCK_WITHIN: Duration = Duration::from_secs(20);
/// The last calls of a rotation come after the store has its token.
const STILL_TO_COME: Duration = Duration::from_millis(200);
