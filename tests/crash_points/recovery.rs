//! A second kill, during the recovery from the first: where the first one struck is always the same, where the second
//! one does is what is tried.

use crate::{
    Rotations,
    options::{Before, Harm, Options, Round},
    ordeal::{self, Ending},
    points::{Point, Reference, Zone},
    scene::{Scene, Verdict},
    strace::Strace,
    trace::Target,
};
use std::{
    rc::Rc,
    time::{Duration, Instant},
};

/// What a recovery from one and the same kill does.
pub(crate) struct Recovery {
    rotation: Rc<Rotations>,
    first: Point,
    before: Before,
    pub(crate) reference: Reference,
    /// Where the second kill may strike.
    pub(crate) points: Vec<Point>,
}

impl Recovery {
    /// Lets a rotation be killed and looks how the program recovers, twice: only what is in both can be met.
    pub(crate) async fn of(
        options: &Options,
        round: Round,
        before: Before,
        rotations: &Rc<Rotations>,
    ) -> Self {
        let first = first(rotations, before);
        let rotation = &rotations.first;
        let (reference, other) = tokio::join!(
            undisturbed(options, round, before, rotation, &first),
            undisturbed(options, round, before, rotation, &first),
        );
        let other = other.points(Harm::Kill);
        let mut points = reference.points(Harm::Kill);
        points.retain(|point| point.is_exact() && other.contains(point));
        // A start is hundreds of reads; what follows is what the recovery is about.
        let (start, rest): (Vec<_>, Vec<_>) =
            points.into_iter().partition(|point| reference.zone(point) == Some(Zone::Before));
        let points = some(start, START_POINTS_MAX).chain(some(rest, POINTS_MAX)).collect();
        Self { rotation: Rc::clone(rotations), first, before, reference, points }
    }

    /// Kills twice, and looks what becomes of the account.
    pub(crate) async fn strike(&self, options: &Options, round: Round, point: &Point) -> Ending {
        let attempts = if point.target == Target::Peer { OTHERS_MAX } else { 1 };
        let mut last = self.strike_beyond(options, round, point, 0).await;
        for beyond in 1..attempts {
            if last.met || matches!(last.verdict, Verdict::Silent(_)) {
                break;
            }
            last = self.strike_beyond(options, round, point, beyond).await;
        }
        last
    }

    /// A connection cannot be named to strace, so that calls of the same name on something else count too.
    async fn strike_beyond(
        &self,
        options: &Options,
        round: Round,
        point: &Point,
        beyond: usize,
    ) -> Ending {
        let mut scene =
            killed(options, round, self.before, &self.rotation.first, &self.first).await;
        let arguments = ordeal::arguments(Harm::Kill, point, point.number + beyond, &scene);
        let mut strace = scene.start_under_strace(&arguments);
        until_recovered(&mut scene, &mut strace).await;
        let calls = scene.calls(&strace);
        let (met, struck) = ordeal::struck(Harm::Kill, &calls, &self.reference, point);
        // There is more than one exchange with the provider: only the whole trace says which one it was.
        let struck = if met { self.reference.zone(point) } else { struck };
        scene.start().await;
        let verdict = scene.settle().await;
        let told = if verdict == Verdict::Alive { String::new() } else { scene.tell() };
        Ending { met, struck, verdict, requests: scene.requests(), told }
    }
}

/// Every nth, so that there are not more than `most`.
fn some(points: Vec<Point>, most: usize) -> impl Iterator<Item = Point> {
    let every = points.len().div_ceil(most).max(1);
    points.into_iter().step_by(every)
}

/// Where the first kill strikes.
fn first(rotations: &Rotations, before: Before) -> Point {
    let rotation = &rotations.first;
    let fits = |point: &Point| match &point.target {
        // Before the write, or it would be there although nobody has synced it yet.
        Target::File(path) if before == Before::Journalling => {
            path.starts_with("state/")
                && point.name.contains("write")
                && rotation.zone(point) == Some(Zone::Window)
        }
        Target::File(path) => {
            path.contains("publisher") && rotation.zone(point) == Some(Zone::After)
        }
        Target::Peer | Target::Other => false,
    };
    rotations
        .points(Harm::Kill)
        .into_iter()
        .find(fits)
        .expect("each rotation journals a token and saves it")
}

/// A world in which the program was killed at `first`, and left behind what it leaves there.
async fn killed(
    options: &Options,
    round: Round,
    before: Before,
    rotation: &Reference,
    first: &Point,
) -> Scene {
    let mut lead = ordeal::LEAD;
    for _ in 0..FIRST_ATTEMPTS_MAX {
        let mut scene = Scene::prepare(options, round, lead).await;
        scene.start().await;
        let arguments = ordeal::arguments(Harm::Kill, first, first.number, &scene);
        let Some(mut strace) = scene.attach(&arguments).await else {
            lead = (lead + 1).min(ordeal::LEAD_MAX);
            continue;
        };
        ordeal::until_killed(&mut scene, &mut strace).await;
        let (met, _) = ordeal::struck(Harm::Kill, &scene.calls(&strace), rotation, first);
        strace.detach();
        scene.world.program().kill_9();
        // A write more or less of somebody else, and the same number is another moment.
        if met && scene.is_rotated() && scene.has_result() == (before == Before::Saving) {
            return scene;
        }
    }
    panic!("the first kill was never met: {first}");
}

/// A recovery that nothing disturbs, with every call that was made.
async fn undisturbed(
    options: &Options,
    round: Round,
    before: Before,
    rotation: &Reference,
    first: &Point,
) -> Reference {
    let mut scene = killed(options, round, before, rotation, first).await;
    let all = ["-e".to_owned(), "trace=all".to_owned()];
    let mut strace = scene.start_under_strace(&all);
    until_recovered(&mut scene, &mut strace).await;
    let calls = scene.calls(&strace);
    match before {
        Before::Saving => Reference::of_saving(calls),
        Before::Journalling => Reference::of_probe(calls).expect("a recovery asks once more"),
    }
}

/// Waits until the account is well or its loss is told, or the program is dead; afterwards it is.
async fn until_recovered(scene: &mut Scene, strace: &mut Strace) {
    let began = Instant::now();
    while !scene.world.program().has_ended() && began.elapsed() < RECOVERED_WITHIN {
        if scene.world.program().listens() && scene.look().await.is_ok() {
            strace.until_quiet(STILL_TO_COME).await;
            break;
        }
        tokio::time::sleep(crate::LOOK_EVERY).await;
    }
    scene.world.program().kill_9();
    strace.until_quiet(WRITTEN_AFTER).await;
}

/// How often the first kill is tried: it must leave behind just what it is meant to.
const FIRST_ATTEMPTS_MAX: usize = 12;
/// How many points of the program's start are taken, at most.
const START_POINTS_MAX: usize = 12;
/// And of what comes after.
const POINTS_MAX: usize = 40;
/// Calls of the same name on something else that a thread makes before the one that is meant.
const OTHERS_MAX: usize = 4;
/// Everything is slower under strace.
const RECOVERED_WITHIN: Duration = Duration::from_secs(60);
/// Questions over HTTP keep it from being quiet for longer.
const STILL_TO_COME: Duration = Duration::from_millis(100);
/// Until the tracer of a dead process has written its last line.
const WRITTEN_AFTER: Duration = Duration::from_millis(300);
