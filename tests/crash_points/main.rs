//! The program is killed, and its calls fail, at every system call around one rotation; each time it must go on,
//! or say what it lost.
//!
//! It is started by `tests/crash`, which says what its options are. One run that goes well tells which calls there
//! are; then each of them has a run of its own in a fresh folder, under strace. Absent on purpose: calls of other
//! moments, and power cuts: what was written and not yet synced survives a dead process.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on ends")]

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

use options::{Options, Round};
use ordeal::Ending;
use points::{Point, Reference};
use report::Report;
use scene::Scene;
use std::{
    process::ExitCode,
    sync::{Arc, Mutex},
    time::Instant,
};
use tokio::task::{JoinSet, LocalSet, spawn_local};

#[tokio::main(flavor = "current_thread")]
async fn main() -> ExitCode {
    tokio::select! {
        code = async { LocalSet::new().run_until(run()).await } => code,
        () = patience::interrupted() => ExitCode::FAILURE,
    }
}

async fn run() -> ExitCode {
    let options = match Options::parse(std::env::args().skip(1)) {
        Ok(options) => options,
        Err(problem) => {
            eprintln!("tests/crash: {problem}");
            return ExitCode::from(2);
        }
    };
    // What comes after the rotation is written in one commit or in two, as it happens: only what is in every
    // run can be met in one.
    let references = tokio::join!(reference(&options), reference(&options), reference(&options));
    let others = [references.1, references.2];
    let reference = Arc::new(references.0);
    let mut is_well = true;
    for round in options.rounds.clone() {
        let in_all =
            |point: &Point| others.iter().all(|other| other.points(round.harm).contains(point));
        let points = reference.points(round.harm).into_iter().filter(in_all);
        let points = points.step_by(options.every).collect();
        let report = walk(&options, round, &reference, points).await;
        report.print();
        is_well &= report.violations.is_empty();
    }
    if is_well { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

/// All points of one round, several at a time.
async fn walk(
    options: &Options,
    round: Round,
    reference: &Arc<Reference>,
    points: Vec<Point>,
) -> Report {
    let began = Instant::now();
    let expected = points.len();
    let waiting = Arc::new(Mutex::new(points.into_iter()));
    let mut workers = JoinSet::new();
    for _ in 0..options.jobs {
        let (waiting, reference) = (Arc::clone(&waiting), Arc::clone(reference));
        let options = options.clone();
        workers.spawn_local(async move { work(&options, round, &reference, &waiting).await });
    }
    let mut endings = Vec::new();
    while let Some(done) = workers.join_next().await {
        endings.extend(done.expect("a worker catches what happens at a point"));
    }
    Report::of(round, reference, expected, endings, began.elapsed())
}

async fn work(
    options: &Options,
    round: Round,
    reference: &Arc<Reference>,
    waiting: &Mutex<std::vec::IntoIter<Point>>,
) -> Vec<(Point, Result<Ending, String>)> {
    let mut endings = Vec::new();
    loop {
        let Some(point) = waiting.lock().unwrap().next() else { return endings };
        let (options, reference) = (options.clone(), Arc::clone(reference));
        let struck = point.clone();
        let ending =
            spawn_local(async move { ordeal::strike(&options, round, &reference, &struck).await });
        endings.push((point, ending.await.map_err(|panic| panic.to_string())));
    }
}

/// One rotation that goes well, with every call that was made.
async fn reference(options: &Options) -> Reference {
    for lead in 2..LEAD_MAX {
        let mut scene = Scene::prepare(options, 0, lead).await;
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
