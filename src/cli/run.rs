//! `run`: the main job, until somebody ends it.

use super::{Exit, output::complain, web};
use crate::{
    config::{self, Overrides, Problems},
    core::Snapshot,
    logs,
    terminal::progress::Progress,
};
use arc_swap::ArcSwap;
use std::{
    convert::Infallible,
    path::Path,
    sync::Arc,
    time::{Duration, Instant},
};
use tokio::signal::unix::{Signal, SignalKind, signal};

/// What it may be told.
#[derive(Debug, clap::Args)]
pub(super) struct Arguments {
    #[command(flatten)]
    web: web::Listening,
}

pub(super) async fn run(config: &Path, arguments: Arguments) -> Exit {
    let overrides = Overrides::from(arguments.web);
    // Heard from the first moment: what nobody listens for would end the process on the spot.
    let mut ending = Ending::listen();
    logs::report_panics();
    // Looked at first, so that a script can tell a wrong file from a store that is away.
    match config::load_under(config, &overrides) {
        Ok(loaded) => logs::apply(&loaded.settings.log),
        Err(problems) => {
            refuse(&problems);
            return Exit::Usage;
        }
    }
    let started = tokio::select! {
        started = crate::app::start_under(config, overrides) => started,
        // Nothing was asked of anybody yet.
        () = ending.heard() => return Exit::Done,
    };
    let mut running = match started {
        Ok(running) => running,
        Err(problem) => {
            match logs::is_text() {
                true => complain(problem),
                false => tracing::error!(error = problem, "the sidecar cannot start"),
            }
            return Exit::Unreachable;
        }
    };
    for place in &running.telemetry_places {
        tracing::info!(
            metrics = format!("{place}/metrics"),
            status_page = format!("{place}/"),
            "metrics and status page are served"
        );
    }
    if let Some(webhooks) = running.webhooks {
        let url = format!("http://{webhooks}/webhooks/APP");
        tracing::info!(url, "webhooks are heard");
    }
    if let Some(connect) = running.connect {
        let url = format!("http://{connect}/connect/account/LINK");
        tracing::info!(url, "links for owners are answered");
    }
    if let Some(publisher) = &running.publisher {
        let url = format!("{publisher}/v1/");
        tracing::info!(url, "the publisher's API is served");
    }
    let snapshot = Arc::clone(&running.snapshot);
    let failed = tokio::select! {
        () = ending.heard() => None,
        part = running.failed() => Some(part),
        never = first_load(snapshot) => match never {},
    };
    running.stop().await;
    if let Some(part) = failed {
        tracing::error!(
            part,
            "the sidecar has ended, because a part of it failed inside; start it again"
        );
        return Exit::Failed;
    }
    tracing::info!("the sidecar has ended; every call was answered and every token saved");
    Exit::Done
}

/// Each problem of the configuration, with its excerpt for a person, and as an event of its own for a log.
fn refuse(problems: &Problems) {
    if logs::is_text() {
        return complain(problems);
    }
    for problem in &problems.0 {
        tracing::error!(error = problem.sentence(), "the configuration cannot be used");
    }
}

/// Says how far the first pass over the store has come, and that it is done; then waits for ever.
async fn first_load(snapshot: Arc<ArcSwap<Snapshot>>) -> Infallible {
    let began = Instant::now();
    let mut said_at = began;
    let mut progress = Progress::begin("reading accounts", None);
    loop {
        let seen = snapshot.load();
        let accounts = seen.accounts.len();
        if seen.loaded {
            drop(progress);
            let took_ms = began.elapsed().as_millis();
            tracing::info!(accounts, took_ms, "all accounts were read for the first time");
            return std::future::pending().await;
        }
        drop(seen);
        progress.reach(accounts);
        if !progress.is_seen() && said_at.elapsed() >= SAID_EVERY {
            said_at = Instant::now();
            tracing::info!(accounts, "accounts are being read");
        }
        tokio::time::sleep(LOOKED_EVERY).await;
    }
}

/// SIGTERM and SIGINT.
struct Ending {
    terminate: Option<Signal>,
    interrupt: Option<Signal>,
}

impl Ending {
    /// Without a handler the system's own way of ending a process is all there is.
    fn listen() -> Self {
        let listen = |kind| signal(kind).ok();
        Self {
            terminate: listen(SignalKind::terminate()),
            interrupt: listen(SignalKind::interrupt()),
        }
    }

    /// Returns when one of them came.
    async fn heard(&mut self) {
        tokio::select! {
            () = heard(self.terminate.as_mut()) => {}
            () = heard(self.interrupt.as_mut()) => {}
        }
    }
}

async fn heard(signal: Option<&mut Signal>) {
    if let Some(signal) = signal {
        signal.recv().await;
    } else {
        std::future::pending().await
    }
}

/// How often it is looked how far the first pass over the store has come.
const LOOKED_EVERY: Duration = Duration::from_millis(100);

/// How often a log hears of it.
const SAID_EVERY: Duration = Duration::from_secs(10);
