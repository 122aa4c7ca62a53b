//! `run`: the main job, until somebody ends it.

use super::{Exit, complain, load};
use std::path::Path;
use tokio::signal::unix::{SignalKind, signal};

pub(super) async fn run(config: &Path) -> Exit {
    // Looked at first, so that a script can tell a wrong file from a store that is away.
    if let Err(exit) = load(config) {
        return exit;
    }
    let mut running = match crate::app::start(config).await {
        Ok(running) => running,
        Err(problem) => {
            complain(problem);
            return Exit::Unreachable;
        }
    };
    tracing::info!("metrics at http://{0}/metrics, status page at http://{0}/", running.telemetry);
    if let Some(reports) = running.reports {
        tracing::info!("reports of the publisher at http://{reports}/v1/responses");
    }
    let failed = tokio::select! {
        () = ended() => None,
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

/// Returns on SIGTERM or SIGINT.
pub(super) async fn ended() {
    let terminated = async {
        match signal(SignalKind::terminate()) {
            Ok(mut terminate) => terminate.recv().await,
            // Without a handler the system's own way of ending a process is all there is.
            Err(_) => std::future::pending().await,
        }
    };
    tokio::select! {
        _ = terminated => {}
        _ = tokio::signal::ctrl_c() => {}
    }
}
