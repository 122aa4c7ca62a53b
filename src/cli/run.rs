//! `run`: the main job, until somebody ends it.

use super::{Exit, complain, load_under, web};
use crate::config::Overrides;
use std::path::Path;
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
    // Looked at first, so that a script can tell a wrong file from a store that is away.
    if let Err(exit) = load_under(config, &overrides) {
        return exit;
    }
    let started = tokio::select! {
        started = crate::app::start_under(config, overrides) => started,
        // Nothing was asked of anybody yet.
        () = ending.heard() => return Exit::Done,
    };
    let mut running = match started {
        Ok(running) => running,
        Err(problem) => {
            complain(problem);
            return Exit::Unreachable;
        }
    };
    for place in &running.telemetry_places {
        tracing::info!("metrics at {place}/metrics, status page at {place}/");
    }
    if let Some(webhooks) = running.webhooks {
        tracing::info!("webhooks at http://{webhooks}/webhooks/APP");
    }
    if let Some(connect) = running.connect {
        tracing::info!("links for owners at http://{connect}/connect/account/LINK");
    }
    if let Some(publisher) = &running.publisher {
        tracing::info!("the publisher's API at {publisher}/v1/");
    }
    let failed = tokio::select! {
        () = ending.heard() => None,
        part = running.failed() => Some(part),
    };
    running.stop().await;
    if let Some(part) = failed {
        tracing::error!("ended, because the {part} failed inside; start it again");
        return Exit::Failed;
    }
    tracing::info!("ended; every call was answered and every token saved");
    Exit::Done
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
