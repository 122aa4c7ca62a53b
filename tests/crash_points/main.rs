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
mod trace;
#[path = "../program/world.rs"]
#[allow(dead_code, reason = "shared with the whole-program tests")]
mod world;

pub(crate) use patience::{LOOK_EVERY, PATIENCE, until, until_or};

use harness::Report;
use options::{Course, Harm, Options, Round};
use ordeal::Ending;
use points::{Point, Reference};
use recovery::Recovery;
use scene::Scene;
use std::{cell::RefCell, collections::BTreeMap, process::ExitCode, rc::Rc, time::Instant};
use tokio::task::{JoinSet, LocalSet, spawn_local};

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
    let mut rotations = BTreeMap::new();
    let mut is_well = true;
    for round in options.rounds.clone() {
        if !rotations.contains_key(&round.store) {
            rotations.insert(round.store, Rc::new(Rotations::of(&options, round).await));
        }
        let rotations = Rc::clone(&rotations[&round.store]);
        let (plan, points) = match round.course {
            Course::Rotation => {
                let points = rotations.points(round.harm);
                (Plan::Rotation(rotations), points)
            }
            Course::Recovery(before) => {
                let recovery = Recovery::of(&options, round, before, &rotations).await;
                let points = recovery.points.clone();
                (Plan::Recovery(Box::new(recovery)), points)
            }
        };
        let points = points.into_iter().step_by(options.every).collect();
        let report = walk(&options, round, &Rc::new(plan), points).await;
        report.print();
        is_well &= report.violations.is_empty();
    }
    if is_well { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

/// What is struck in a round.
enum Plan {
    Rotation(Rc<Rotations>),
    Recovery(Box<Recovery>),
}

impl Plan {
    fn reference(&self) -> &Reference {
        match self {
            Self::Rotation(rotations) => &rotations.first,
            Self::Recovery(recovery) => &recovery.reference,
        }
    }

    async fn strike(&self, options: &Options, round: Round, point: &Point) -> Ending {
        match self {
            Self::Rotation(rotations) => {
                ordeal::strike(options, round, &rotations.first, point).await
            }
            Self::Recovery(recovery) => recovery.strike(options, round, point).await,
        }
    }
}

/// All points of one round, several at a time.
async fn walk(options: &Options, round: Round, plan: &Rc<Plan>, points: Vec<Point>) -> Report {
    let began = Instant::now();
    let expected = points.len();
    let waiting = Rc::new(RefCell::new(points.into_iter()));
    let mut workers = JoinSet::new();
    for _ in 0..options.jobs {
        let (waiting, plan) = (Rc::clone(&waiting), Rc::clone(plan));
        let options = options.clone();
        workers.spawn_local(async move { work(&options, round, &plan, &waiting).await });
    }
    let mut endings = Vec::new();
    while let Some(done) = workers.join_next().await {
        endings.extend(done.expect("a worker catches what happens at a point"));
    }
    report::of(round, plan.reference(), expected, endings, began.elapsed())
}

async fn work(
    options: &Options,
    round: Round,
    plan: &Rc<Plan>,
    waiting: &RefCell<std::vec::IntoIter<Point>>,
) -> Vec<(Point, Result<Ending, String>)> {
    let mut endings = Vec::new();
    loop {
        let Some(point) = waiting.borrow_mut().next() else { return endings };
        let (options, plan) = (options.clone(), Rc::clone(plan));
        let struck = point.clone();
        let ending = spawn_local(async move { plan.strike(&options, round, &struck).await });
        endings.push((point, ending.await.map_err(|panic| panic.to_string())));
    }
}

/// Rotations that go well, with every call that was made. What comes after one is written in one commit or in two, as
/// it happens: only what is in every one can be met in another.
pub(crate) struct Rotations {
    pub(crate) first: Reference,
    others: [Reference; 2],
}

impl Rotations {
    async fn of(options: &Options, round: Round) -> Self {
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
    // With a provider that forgives it is the same.
    let round = Round { grace: 0, ..round };
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
