//! A long run under trouble: real processes, a provider that misbehaves at a small rate, SIGKILL again and
//! again, and an audit of every account against the provider's own log.
//!
//! It is started by `tests/soak`, which says what its options are. The provider, the mailbox and the audit live
//! in this process; the program is a process of its own and is judged by what the provider, the store and the
//! mailbox saw. Absent on purpose: several replicas; `sidecar` is the place for them.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on ends")]

mod audit;
#[path = "../harness/mod.rs"]
mod harness;
#[path = "../program/http.rs"]
#[allow(dead_code, reason = "shared with the whole-program tests")]
mod http;
mod options;
#[path = "../program/patience.rs"]
#[allow(dead_code, reason = "shared with the whole-program tests")]
mod patience;
#[path = "../program/process.rs"]
#[allow(dead_code, reason = "shared with the whole-program tests")]
mod process;
mod report;
#[path = "../program/scrape.rs"]
#[allow(dead_code, reason = "shared with the whole-program tests")]
mod scrape;
mod sidecar;
#[path = "../program/told.rs"]
#[allow(dead_code, reason = "shared with the whole-program tests")]
mod told;
#[path = "../program/world.rs"]
#[allow(dead_code, reason = "shared with the whole-program tests")]
mod world;

pub(crate) use patience::{LOOK_EVERY, PATIENCE, until_or};

use audit::Audit;
use harness::Report;
use oauth_keepalive::demo::provider::Fault;
use options::Options;
use rusqlite::Connection;
use sidecar::Sidecar;
use std::{
    process::ExitCode,
    time::{Duration, Instant},
};
use world::{SCOPES, World};

#[tokio::main(flavor = "multi_thread")]
async fn main() -> ExitCode {
    let options = match harness::options("tests/soak", Options::parse) {
        Ok(options) => options,
        Err(code) => return code,
    };
    println!("seed {}", options.seed);
    let report = tokio::select! {
        report = async { Soak::start(options).await.run().await } => report,
        () = patience::interrupted() => return ExitCode::FAILURE,
    };
    report.print();
    report.code()
}

/// Everything that is there while it runs.
struct Soak {
    options: Options,
    world: World,
    store: Connection,
    sidecar: Sidecar,
    audit: Audit,
    began: Instant,
    rss_first: Option<u64>,
}

impl Soak {
    async fn start(options: Options) -> Self {
        let world = prepare(&options).await;
        let store = world.database();
        let mut sidecar = Sidecar::new(&world, &options);
        sidecar.start(&world).await;
        let audit = Audit::new(world.provider.uptime());
        if options.faults > 0.0 {
            world.provider.misbehave(options.faults, options.seed, faults());
        }
        Self { options, world, store, sidecar, audit, began: Instant::now(), rss_first: None }
    }

    async fn run(mut self) -> Report {
        let mut next_kill = self.options.kill_every;
        let mut next_progress = PROGRESS_EVERY;
        while self.began.elapsed() < self.options.run_for {
            tokio::time::sleep(LOOK_EVERY_TICK).await;
            self.look();
            if self.began.elapsed() >= next_kill {
                next_kill += self.options.kill_every;
                self.kill().await;
            }
            if self.began.elapsed() >= next_progress {
                next_progress += PROGRESS_EVERY;
                self.tell_progress();
            }
        }
        self.settle().await
    }

    /// One look at everything that the audit hears of.
    fn look(&mut self) {
        let now = self.world.provider.uptime();
        self.audit.hear_provider(self.world.provider.take_log());
        for mail in self.world.mailbox.take() {
            self.audit.hear_mail(&mail);
        }
        self.audit.look_at_store(now, &self.store, &self.world.provider);
        // The owner of a lost account mends it once he was told, as the mail asks him to.
        for account in self.audit.reconnected() {
            let token = self.world.provider.connect(&account, &SCOPES, Duration::ZERO);
            self.world.write(&account, &token);
        }
        let measured_after = FIRST_RSS_AFTER.min(self.options.run_for / 2);
        if self.rss_first.is_none() && self.began.elapsed() >= measured_after {
            self.rss_first = self.sidecar.rss_kib();
        }
    }

    async fn kill(&mut self) {
        self.sidecar.kill_9();
        self.until_provider_is_quiet().await;
        self.audit.killed(self.world.provider.uptime());
        // What lies in the store now had reached it, whatever was on the way.
        self.look();
        self.sidecar.start(&self.world).await;
    }

    /// What the dead process had sent may still lie before the provider; it is not the next one's.
    async fn until_provider_is_quiet(&mut self) {
        let mut since = Instant::now();
        while since.elapsed() < QUIET {
            tokio::time::sleep(QUIET / 4).await;
            let log = self.world.provider.take_log();
            if !log.is_empty() {
                since = Instant::now();
            }
            self.audit.hear_provider(log);
        }
    }

    fn tell_progress(&self) {
        println!(
            "{:>5} s  {}  rss={} KiB",
            self.began.elapsed().as_secs(),
            self.audit.progress(),
            self.sidecar.rss_kib().unwrap_or(0),
        );
    }

    /// The provider behaves, nobody is killed any more: what is still wrong after that stays wrong.
    async fn settle(mut self) -> Report {
        self.world.provider.behave();
        let deadline = Instant::now() + self.options.settle_for();
        let mut counts = None;
        while Instant::now() < deadline {
            tokio::time::sleep(LOOK_EVERY_TICK).await;
            self.look();
            let scrape = self.sidecar.scrape().await;
            let ours = sidecar::outcomes(&scrape);
            let agree = ours == self.audit.outcomes_since_start();
            counts = Some((ours, self.audit.outcomes_since_start()));
            let quiet = scrape.value("outbox_length", &[]) == Some(0.0);
            // Counts of nothing agree with everything.
            let enough = (self.options.accounts as u64 / 2).min(COUNTED_ENOUGH);
            let counted = ours.iter().sum::<u64>() >= enough;
            if agree && counted && quiet && self.audit.is_settled() {
                break;
            }
        }
        let rss_last = self.sidecar.rss_kib();
        let (ours, theirs) = counts.unwrap_or_default();
        let cut = self.world.provider.log_cut();
        report::of(&self.audit, &self.options, ours, theirs, (self.rss_first, rss_last), cut)
    }
}

async fn prepare(options: &Options) -> World {
    let deadline = options.total_deadline().as_secs();
    World::new()
        .accounts(options.accounts)
        // Spread over as much of the life as passes before a token is due.
        .ages_apart(options.life.mul_f64(0.5) / u32::try_from(options.accounts).unwrap())
        .life(options.life.as_secs())
        .section("store", "{kind: sqlite, path: publisher.db, poll_every: 1s}")
        .section("refresh", "{backoff_first: 1s, backoff_max: 10s}")
        .section("http", &format!("{{total_deadline: {deadline}s, connect_deadline: 1s}}"))
        .prepare()
        .await
}

/// What a provider does on a bad day. About half of them spend the token and lose the answer.
fn faults() -> Vec<Fault> {
    vec![
        Fault::StatusBefore(503),
        Fault::StatusAfter(502),
        Fault::Drop,
        Fault::LoseAnswer,
        Fault::Truncate,
        Fault::RateLimit { retry_after: Some(2) },
        Fault::Latency(SLOW),
        Fault::HangFor(SLOW),
    ]
}

/// Well within the deadline of a request.
const SLOW: Duration = Duration::from_millis(400);
const LOOK_EVERY_TICK: Duration = Duration::from_millis(500);
/// Longer than what the provider has received waits there, slow faults included.
const QUIET: Duration = Duration::from_millis(500);
const PROGRESS_EVERY: Duration = Duration::from_secs(10);
/// Token requests that are counted before counts are compared.
const COUNTED_ENOUGH: u64 = 500;
/// Until then caches fill.
const FIRST_RSS_AFTER: Duration = Duration::from_secs(60);
