//! The process is stopped between the durable intent and the request, and goes on later.

use crate::bench::{ALIVE, Bench, good};
use oauth_keepalive::{
    oauth::Trouble,
    providers,
    state::{
        State,
        simulated::{Call, Database, Fate, Later, Line},
    },
};
use std::{
    sync::{
        Arc,
        atomic::{AtomicU32, Ordering},
    },
    time::Duration,
};

/// A line on which one answer takes so long as if the process had been stopped meanwhile.
#[derive(Default)]
struct Stopping {
    /// How many writes are answered until then, and that one too; zero for never.
    writes: AtomicU32,
    seconds: AtomicU32,
}

impl Line for Stopping {
    fn holder(&self) -> [u8; 16] {
        [1; 16]
    }

    fn ahead(&self) -> i64 {
        0
    }

    fn now(&self) -> Duration {
        Duration::ZERO
    }

    fn request(&self, _: Call) -> Later<Fate> {
        Box::pin(async { Fate::Works })
    }

    fn answer(&self, call: Call) -> Later<()> {
        let is_it = call == Call::Write && self.writes.fetch_sub(1, Ordering::Relaxed) == 1;
        let seconds = if is_it { self.seconds.load(Ordering::Relaxed) } else { 0 };
        Box::pin(tokio::time::sleep(Duration::from_secs(seconds.into())))
    }
}

fn bench() -> (Bench, Arc<Stopping>) {
    let line = Arc::new(Stopping::default());
    let state = State::simulated(&Database::new(false), Arc::clone(&line) as Arc<dyn Line>);
    let provider = providers::find("tiktok").unwrap();
    (Bench::with_state(provider, tempfile::tempdir().unwrap(), state), line)
}

#[tokio::test(start_paused = true)]
async fn nothing_is_sent_when_the_answer_might_come_after_the_end_of_the_lease() {
    // Lease and intent are the first two writes; the lease lasts three calls of 10 s and half a minute.
    for (seconds, expected) in [
        (0, "renewed; sent [0]; store 1; journal empty"),
        (45, "renewed; sent [0]; store 1; journal empty"),
        (55, "lease held; sent []; store 0; journal empty"),
        (600, "lease held; sent []; store 0; journal empty"),
    ] {
        let (mut bench, line) = bench();
        bench.answers(200, &good("1"));
        line.writes.store(2, Ordering::Relaxed);
        line.seconds.store(seconds, Ordering::Relaxed);
        let finished = bench.refresh().await;
        if expected.starts_with("lease") {
            bench.received.clear();
        }
        bench.ends(&format!("stopped for {seconds} s"), &finished, expected).await;
    }
}

#[tokio::test(start_paused = true)]
async fn a_probe_that_was_not_sent_for_want_of_time_is_sent_another_time() {
    let (mut bench, line) = bench();
    bench.is_lost(Trouble::Broken);
    bench.refresh().await;
    tokio::time::sleep(Duration::from_secs(60)).await;
    line.writes.store(2, Ordering::Relaxed);
    line.seconds.store(55, Ordering::Relaxed);
    bench.answers(200, ALIVE);
    bench.settle().await;
    assert_eq!(bench.sent(), ["0", "check"], "the free question went before it");
    bench.answers(200, ALIVE);
    bench.answers(200, &good("1"));
    let finished = bench.settle().await;
    let expected = "renewed; sent [0 check check 0]; store 1; journal empty";
    bench.ends("time enough", &finished, expected).await;
}
