//! The program is killed, and its calls fail, at every system call around one rotation; each time it must go on,
//! or say what it lost.
//!
//! It is started by `tests/crash`, which says what its options are. One run that goes well tells which calls there
//! are; then each of them has a run of its own in a fresh folder, under strace. `recovery` does the same to the start
//! after a kill. Absent on purpose: calls of other moments, and power cuts: what was written and not yet synced
//! survives a dead process.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on ends")]

#[path = "../harness/mod.rs"]
#[allow(dead_code, reason = "each of the two uses a part")]
mod harness;
#[path = "../program/http.rs"]
#[allow(dead_code, reason = "shared with the whole-program tests")]
mod http;
mod options;
mod ordeal;
#[path = "../program/patience.rs"]
#[allow(dead_code, reason = "shared with the whole-program tests")]
mod patience;
mod points;
#[path = "../program/process.rs"]
#[allow(dead_code, reason = "shared with the whole-program tests")]
mod process;
mod recovery;
mod report;
mod scene;
#[path = "../program/scrape.rs"]
#[allow(dead_code, reason = "shared with the whole-program tests")]
mod scrape;
mod strace;
#[path = "../program/told.rs"]
#[allow(dead_code, reason = "shared with the whole-program tests")]
mod told;
mod trace;
#[path = "../program/world.rs"]
#[allow(dead_code, reason = "shared with the whole-program tests")]
mod world;

pub(crate) use patience::{LOOK_EVERY, PATIENCE, until_or};

use options::{Course, Harm, Options, Round, Store};
use ordeal::Ending;
use points::{Point, Reference};
use recovery::Recovery;
use scene::Scene;
use std::{
    cell::RefCell,
    collections::{BTreeMap, BTreeSet, VecDeque},
    process::ExitCode,
    rc::Rc,
};
use tokio::{
    sync::mpsc,
    task::{LocalSet, spawn_local},
};

#[tokio::main(flavor = "current_thread")]
async fn main() -> ExitCode {
    tokio::select! {
        code = async { LocalSet::new().run_until(run()).await } => code,
        () = patience::interrupted() => ExitCode::FAILURE,
    }
}

async fn run() -> ExitCode {
    let options = match harness::options("tests/crash", Options::parse) {
        Ok(options) => options,
        Err(code) => return code,
    };
    let plans = plans(&options).await;
    let mut is_well = true;
    walk(&options, &plans, |plan, endings| {
        let report = report::of(plan.round, plan.reference(), plan.points.len(), endings);
        report.print();
        is_well &= report.violations.is_empty();
    })
    .await;
    if is_well { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

/// What is struck in one round.
struct Plan {
    round: Round,
    way: Way,
    points: Vec<Point>,
}

enum Way {
    Rotation(Rc<Rotations>),
    Recovery(Box<Recovery>),
}

/// What became of the points of a round.
type Endings = Vec<(Point, Result<Ending, String>)>;

/// Of all rounds; the runs that go well are made side by side.
async fn plans(options: &Options) -> Vec<Rc<Plan>> {
    let stores: BTreeSet<Store> = options.rounds.iter().map(|round| round.store).collect();
    let rotations = stores.into_iter().map(|store| {
        let options = options.clone();
        spawn_local(async move { (store, Rc::new(Rotations::of(&options, store).await)) })
    });
    let mut known = BTreeMap::new();
    for rotation in rotations.collect::<Vec<_>>() {
        known.extend([rotation.await.expect("a rotation that nothing disturbs goes well")]);
    }
    let plans = options.rounds.iter().map(|round| {
        let (options, round) = (options.clone(), *round);
        let rotations = Rc::clone(&known[&round.store]);
        spawn_local(async move { Rc::new(Plan::of(&options, round, rotations).await) })
    });
    let mut made = Vec::new();
    for plan in plans.collect::<Vec<_>>() {
        made.push(plan.await.expect("a recovery that nothing disturbs goes well"));
    }
    made
}

impl Plan {
    async fn of(options: &Options, round: Round, rotations: Rc<Rotations>) -> Self {
        let (way, points) = match round.course {
            Course::Rotation => {
                let points = rotations.points(round.harm);
                (Way::Rotation(rotations), points)
            }
            Course::Recovery(before) => {
                let recovery = Recovery::of(options, round, before, &rotations).await;
                let points = recovery.points.clone();
                (Way::Recovery(Box::new(recovery)), points)
            }
        };
        let points = points.into_iter().step_by(options.every).collect();
        Self { round, way, points }
    }

    fn reference(&self) -> &Reference {
        match &self.way {
            Way::Rotation(rotations) => &rotations.first,
            Way::Recovery(recovery) => &recovery.reference,
        }
    }

    async fn strike(&self, options: &Options, point: &Point) -> Ending {
        match &self.way {
            Way::Rotation(rotations) => {
                ordeal::strike(options, self.round, &rotations.first, point).await
            }
            Way::Recovery(recovery) => recovery.strike(options, self.round, point).await,
        }
    }
}

/// All points of all rounds, several at a time; each round is reported when its last point is done, in order.
async fn walk(options: &Options, plans: &[Rc<Plan>], mut report: impl FnMut(&Plan, Endings)) {
    let points = plans.iter().enumerate().flat_map(|(index, plan)| {
        plan.points.iter().map(move |point| (index, point.clone())).collect::<Vec<_>>()
    });
    let waiting = Rc::new(RefCell::new(points.collect::<VecDeque<_>>()));
    let (done, mut came) = mpsc::unbounded_channel();
    for _ in 0..options.jobs {
        let (options, plans) = (options.clone(), plans.to_vec());
        let (waiting, done) = (Rc::clone(&waiting), done.clone());
        spawn_local(async move {
            loop {
                let Some((index, point)) = waiting.borrow_mut().pop_front() else { return };
                let ending = strike(&options, &plans[index], &point).await;
                if done.send((index, point, ending)).is_err() {
                    return;
                }
            }
        });
    }
    drop(done);
    let mut endings: Vec<Endings> = plans.iter().map(|_| Vec::new()).collect();
    let mut reported = 0;
    loop {
        let is_whole = |at: usize| endings[at].len() == plans[at].points.len();
        if reported < plans.len() && is_whole(reported) {
            report(&plans[reported], std::mem::take(&mut endings[reported]));
            reported += 1;
            continue;
        }
        let Some((index, point, ending)) = came.recv().await else { return };
        endings[index].push((point, ending));
    }
}

/// A point at which the harness itself fails is told like any other.
async fn strike(options: &Options, plan: &Rc<Plan>, point: &Point) -> Result<Ending, String> {
    let (options, plan, point) = (options.clone(), Rc::clone(plan), point.clone());
    let ending = spawn_local(async move { plan.strike(&options, &point).await });
    ending.await.map_err(|panic| panic.to_string())
}

/// Rotations that go well, with every call that was made. What comes after one is written in one commit or in two, as
/// it happens: only what is in every one can be met in another.
pub(crate) struct Rotations {
    pub(crate) first: Reference,
    others: [Reference; 2],
}

impl Rotations {
    async fn of(options: &Options, store: Store) -> Self {
        // Whatever is done to it later, and however the provider forgives, it is the same.
        let round = Round { store, course: Course::Rotation, harm: Harm::Kill, grace: 0 };
        let (first, second, third) = tokio::join!(
            rotation(options, round),
            rotation(options, round),
            rotation(options, round)
        );
        Self { first, others: [second, third] }
    }

    pub(crate) fn points(&self, harm: Harm) -> Vec<Point> {
        let in_all =
            |point: &Point| self.others.iter().all(|other| other.points(harm).contains(point));
        self.first.points(harm).into_iter().filter(in_all).collect()
    }
}

async fn rotation(options: &Options, round: Round) -> Reference {
    for lead in 2..LEAD_MAX {
        let mut scene = Scene::prepare(options, round, lead).await;
        scene.start().await;
        let Some(mut strace) = scene.attach(&["-e".to_owned(), "trace=all".to_owned()]).await
        else {
            continue;
        };
        scene.until_rotated_and_quiet(&strace).await;
        strace.detach();
        if let Some(reference) = Reference::of(scene.calls(&strace)) {
            return reference;
        }
    }
    panic!("no whole rotation could be traced");
}

/// Seconds before the account is due, on a machine too busy for fewer.
const LEAD_MAX: u64 = 8;
