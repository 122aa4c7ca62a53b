//! What the state promises, each promise a sentence, on real files.
#![allow(clippy::unwrap_used, reason = "a test may")]

mod crash;
mod journal;
mod leases;
mod memory;
mod opening;
mod outbox;

use oauth_keepalive::{
    core::{
        AccountId, Cause, Evidence, Fingerprint, Memory, Secret, Timestamp, TokenFacts,
        notices::{Audience, Change, Notice, Subject},
    },
    oauth::Token,
    state::{Closing, EntryId, Error, Intent, Lease, Owed, Settings, State},
};
use std::{
    fs,
    io::{BufRead, BufReader},
    os::unix::fs::PermissionsExt,
    path::{Path, PathBuf},
    process::{Command, Stdio},
    sync::Arc,
    time::Duration,
};
use tempfile::TempDir;

const LIFE: Duration = Duration::from_secs(30);

fn at(seconds: i64) -> Timestamp {
    Timestamp::from_unix(1_800_000_000 + seconds)
}

fn ann() -> AccountId {
    AccountId::new("tiktok", "ann")
}

fn folder() -> TempDir {
    tempfile::tempdir().unwrap()
}

fn settings(directory: &Path) -> Settings {
    Settings { directory: directory.join("state"), key_file: None }
}

async fn open(directory: &TempDir) -> State {
    State::open(&settings(directory.path())).await.unwrap()
}

fn intent() -> Intent {
    Intent {
        old: Fingerprint::from_hash(u64::MAX),
        spending: Fingerprint::from_hash(7),
        requested_at: at(1),
        over_at: at(11),
    }
}

fn token(name: &str) -> Token {
    Token {
        access: Secret::new(format!("invented-access-{name}-\"ü\n")),
        refresh: Some(Secret::new(format!("invented-refresh-{name}"))),
        issued_at: Some(at(1)),
        expires_at: Some(at(7_201)),
        refresh_expires_at: None,
        scopes: Some(vec!["video.publish".to_owned()]),
        subject: Some("open-id".to_owned()),
    }
}

async fn lease(state: &State, id: &AccountId) -> Lease {
    state.take_lease(id, at(0), LIFE).await.unwrap().expect("nobody else is there")
}

async fn intended(state: &State, id: &AccountId) -> EntryId {
    let lease = lease(state, id).await;
    state.intend(&lease, &intent()).await.unwrap()
}

fn place_and_reason<T>(result: Result<T, Error>) -> (String, String) {
    match result {
        Err(Error::Damaged { place, reason } | Error::Unavailable { place, reason }) => {
            (place, reason)
        }
        Err(other) => panic!("another error was expected: {other}"),
        Ok(_) => panic!("an error was expected"),
    }
}
