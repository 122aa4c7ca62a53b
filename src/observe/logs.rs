//! Follows one log: reads, hands over, and only then remembers how far.
//!
//! After a crash what was read since the position was last written, a second at most, is read and counted again.
//! After an orderly stop nothing is.

use super::{
    Follower, Log, Nothing, Observer, Position, Reader, Round, follower::LINES_PER_ROUND,
    goes_on_after, handover::Batch, tail::Line,
};
use crate::{
    core::Snapshot,
    metrics::observed::{LineResult, SourceKind},
};
use std::{
    io,
    time::{Duration, Instant},
};
use tokio::{sync::watch, task::spawn_blocking};

/// Reads and understands; works on a thread that may block.
struct Work {
    observer: Observer,
    log: Log,
    follower: Follower,
    reader: Reader,
}

/// What came of one round.
struct Seen {
    batch: Batch,
    results: [u64; LineResult::ALL.len()],
    round: io::Result<Round>,
}

pub(super) async fn follow(observer: Observer, log: Log, mut stop: watch::Receiver<bool>) {
    let key = observer.key("log", &log.name);
    observer.metrics.expect_log(&log.name);
    let Some(remembered) = observer.remembered(&key, &mut stop).await else { return };
    // Before that nobody would know whose lines they are.
    if !observer.knows_the_accounts(&mut stop).await {
        return;
    }
    let position = remembered.and_then(|text| serde_json::from_str::<Position>(&text).ok());
    let Ok(reader) = Reader::new(log.lines.clone()) else {
        // `config` has tried it.
        return;
    };
    let mut written = Written { position: position.clone(), at: None };
    let follower = Follower::new(log.path.clone(), log.start, position);
    let mut work = Work { observer: observer.clone(), log, follower, reader };
    let mut was_readable = true;
    while !*stop.borrow() {
        let began = Instant::now();
        let done = spawn_blocking(move || {
            let seen = work.look();
            (work, seen)
        });
        let (back, Seen { batch, results, round }) = match done.await {
            Ok(done) => done,
            Err(error) => return tracing::error!(%error, "a log is not followed any more"),
        };
        work = back;
        let name = &work.log.name;
        if !batch.hand_over(&observer).await {
            return;
        }
        observer.metrics.lines_observed(name, &results);
        observer.metrics.observing(SourceKind::Log, name, round.is_ok());
        let more = match round {
            Ok(Round { more, gaps, .. }) => {
                was_readable = true;
                observer.metrics.lines_missed(name, gaps);
                if gaps > 0 {
                    tracing::warn!(log = %name, "lines of a log may have been missed: it was truncated, compressed or removed before its end was read");
                }
                more
            }
            Err(error) => {
                if std::mem::take(&mut was_readable) {
                    let path = work.log.path.display();
                    tracing::warn!(log = %name, %path, error = %error.kind(), "a log cannot be read");
                }
                false
            }
        };
        // Only what was handed over is remembered.
        written.write(&observer, &key, &work.follower, WRITE_EVERY).await;
        if !goes_on_after(pause(more, &results, began), &mut stop).await {
            break;
        }
    }
    written.write(&observer, &key, &work.follower, Duration::ZERO).await;
}

impl Work {
    fn look(&mut self) -> Seen {
        let Self { observer, log, follower, reader } = self;
        let snapshot = observer.snapshot.load_full();
        let mut batch = Batch::default();
        let mut results = [0; LineResult::ALL.len()];
        let mut count = |result: LineResult| results[result as usize] += 1;
        let round = follower.round(&mut |line| {
            count(look_at(observer, log, &snapshot, reader, line, &mut batch));
        });
        if let Ok(round) = &round {
            results[LineResult::Partial as usize] += u64::from(round.partial);
        }
        Seen { batch, results, round }
    }
}

fn look_at(
    observer: &Observer,
    log: &Log,
    snapshot: &Snapshot,
    reader: &Reader,
    line: Line<'_>,
    batch: &mut Batch,
) -> LineResult {
    let Line::Bytes(bytes) = line else { return LineResult::TooLong };
    match reader.read(bytes) {
        Ok(sighting) => match batch.add(observer, snapshot, sighting, log.lines.place) {
            true => LineResult::Counted,
            false => LineResult::UnknownAccount,
        },
        Err(Nothing::NotText) => LineResult::NotText,
        Err(Nothing::Unmatched) => LineResult::Unmatched,
        Err(Nothing::Filtered) => LineResult::Filtered,
        Err(Nothing::Malformed) => LineResult::Malformed,
    }
}

/// What is remembered at the moment.
struct Written {
    position: Option<Position>,
    at: Option<Instant>,
}

impl Written {
    async fn write(
        &mut self,
        observer: &Observer,
        key: &str,
        follower: &Follower,
        not_within: Duration,
    ) {
        let position = follower.position();
        // A file that nobody remembers is not looked for when it was rotated away after a crash.
        let before = self.position.as_ref();
        let is_elsewhere = before.is_none_or(|before| !position.is_in_the_same_files_as(before));
        let is_early = !is_elsewhere && self.at.is_some_and(|at| at.elapsed() < not_within);
        if is_early || self.position.as_ref() == Some(&position) {
            return;
        }
        let text = serde_json::to_string(&position).expect("numbers are always JSON");
        self.at = Some(Instant::now());
        match observer.state.keep_position(key, &text, observer.clock.now()).await {
            Ok(()) => self.position = Some(position),
            // `state_up` tells people; a crash meanwhile counts more lines twice.
            Err(error) => tracing::debug!(%error, "how far a log was read is not written down"),
        }
    }
}

/// Until the next look: at once while there is more, but never faster than is bearable.
fn pause(more: bool, results: &[u64], began: Instant) -> Duration {
    if !more {
        return LOOK_EVERY;
    }
    let lines: u64 = results.iter().sum();
    let slowest = Duration::from_secs(1) * LINES_PER_ROUND as u32 / LINES_PER_SECOND_MAX;
    let fair = slowest.mul_f64(lines as f64 / LINES_PER_ROUND as f64);
    fair.saturating_sub(began.elapsed())
}

/// How often a log is looked at.
const LOOK_EVERY: Duration = Duration::from_millis(200);

/// How often a position is written at most, while no file begins or ends.
const WRITE_EVERY: Duration = Duration::from_secs(1);

/// A log is not read faster than this, so that one that is read from its beginning leaves room for the rest.
const LINES_PER_SECOND_MAX: u32 = 200_000;
