//! The whole program, as a stranger meets it: the real binary as a process of its own, with a provider that
//! keeps the truth, a mail server, a publisher's store, signals, and questions over HTTP.
//!
//! Nothing here looks inside the program. What it should have done is read from the provider's log, the
//! store and the mailbox; what it says of itself is held against that. Absent on purpose: fixed pauses.
//! Tests wait for conditions with a deadline; where something must not happen, they wait until something
//! else has happened that comes later.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on ends")]

mod commands;
mod configuring;
mod crashes;
mod doubt;
mod healthy;
mod http;
mod leaks;
mod mail_server;
mod people;
mod postgres;
mod process;
mod publisher;
mod replicas;
mod scrape;
mod storage;
mod world;

use std::time::{Duration, Instant};

/// For everything that should happen: far beyond what it takes, so that a busy machine does not fail.
const PATIENCE: Duration = Duration::from_secs(60);

/// Asks again and again until `condition` holds.
async fn until(what: &str, condition: impl AsyncFnMut() -> bool) {
    until_or(what, condition, String::new).await;
}

/// The same, with something to say when it never does.
async fn until_or(
    what: &str,
    mut condition: impl AsyncFnMut() -> bool,
    explain: impl FnOnce() -> String,
) {
    let began = Instant::now();
    while !condition().await {
        assert!(began.elapsed() < PATIENCE, "never came true: {what}\n{}", explain());
        tokio::time::sleep(LOOK_EVERY).await;
    }
}

const LOOK_EVERY: Duration = Duration::from_millis(50);
