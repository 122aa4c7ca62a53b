//! Waiting for conditions with a deadline; there are no fixed pauses.

use std::time::{Duration, Instant};
use tokio::signal::unix::{SignalKind, signal};

/// For everything that should happen: far beyond what it takes, so that a busy machine does not fail.
pub(crate) const PATIENCE: Duration = Duration::from_secs(120);

/// Asks again and again until `condition` holds, with something to say when it never does: who reads that has nothing
/// else.
pub(crate) async fn until_or(
    what: &str,
    mut condition: impl AsyncFnMut() -> bool,
    explain: impl FnOnce() -> String,
) {
    let began = Instant::now();
    while !condition().await {
        assert!(
            began.elapsed() < PATIENCE,
            "never came true: {what}\n{}--- that was all",
            explain()
        );
        tokio::time::sleep(LOOK_EVERY).await;
    }
}

/// Returns when somebody wants this process to end; the programs that it started must not outlive it.
#[allow(dead_code, reason = "the test harness of Rust has its own way of ending")]
pub(crate) async fn interrupted() {
    let terminated = async {
        let mut signal = signal(SignalKind::terminate()).unwrap();
        signal.recv().await;
    };
    tokio::select! {
        () = terminated => {}
        _ = tokio::signal::ctrl_c() => {}
    }
}

/// Between two looks.
pub(crate) const LOOK_EVERY: Duration = Duration::from_millis(50);
