//! Room for a result is kept before a token is spent.
//!
//! A file of real bytes lies beside the database. When a result does not fit any more, the file is removed and
//! the result takes its room; until the file can be made again, no token is spent. The database has a largest
//! size as well, and the same rule holds for that.

use super::{
    directory,
    seal::fill_random,
    writer::{Desk, Refusal},
};
use rusqlite::Connection;
use std::{
    fs,
    io::Write,
    path::{Path, PathBuf},
    time::{Duration, Instant},
};

/// The reserve of one state directory.
pub(super) struct Room {
    file: PathBuf,
    limits: Limits,
    /// False from the moment the reserve was given up until it was made again.
    whole: bool,
    /// When making it failed; it is not tried again at once, see [`Limits::retry_after`].
    failed: Option<(Instant, String)>,
}

/// How much room state may take.
#[derive(Clone, Copy)]
pub(super) struct Limits {
    /// Bytes in the reserve file.
    pub(super) reserve_bytes: usize,
    /// Largest database, in pages, while there is a reserve.
    pub(super) pages_max: u32,
    /// Pages by which the database may grow beyond that once the reserve is given up.
    pub(super) reserve_pages: u32,
    /// Pause between two attempts to make the reserve: each fills the disk for a moment, which is not
    /// ours alone.
    pub(super) retry_after: Duration,
}

impl Limits {
    /// What every state gets. The reserve takes the results of a few hundred calls in flight; the database
    /// has room for far more accounts than one process keeps.
    pub(super) const USUAL: Self = Self {
        reserve_bytes: 4 << 20,
        pages_max: 4 << 20,
        reserve_pages: 1 << 10,
        retry_after: Duration::from_secs(10),
    };
}

impl Room {
    /// Knows where the reserve lies, and limits the database. [`Room::ensure`] makes it.
    pub(super) fn new(
        directory: &Path,
        limits: Limits,
        connection: &Connection,
    ) -> Result<Self, rusqlite::Error> {
        let room = Self { file: directory.join(RESERVE_FILE), limits, whole: true, failed: None };
        room.limit(connection)?;
        Ok(room)
    }

    /// For a database in memory, which has as much room as the machine.
    pub(super) fn boundless() -> Self {
        let limits = Limits { reserve_bytes: 0, ..Limits::USUAL };
        Self { file: PathBuf::new(), limits, whole: true, failed: None }
    }

    /// Fails when there is no room for a result now: then nothing may be spent.
    pub(super) fn ensure(&mut self, connection: &Connection) -> Result<(), String> {
        if self.limits.reserve_bytes == 0 {
            return Ok(());
        }
        // The file is asked every time: another process on this state may have given it up.
        let length = fs::metadata(&self.file).map_or(0, |data| data.len());
        if length != self.limits.reserve_bytes as u64 {
            self.make()?;
        }
        let pages = |error| format!("its size is not known: {error}");
        if !self.whole {
            self.whole = true;
            self.limit(connection).map_err(pages)?;
        }
        let taken = page_count(connection).map_err(pages)?;
        if taken >= self.limits.pages_max {
            return Err(format!("no room for a result, the database has {taken} pages"));
        }
        Ok(())
    }

    /// Gives the reserve up for a result that did not fit.
    pub(super) fn release(&mut self, connection: &Connection) {
        remove(&self.file);
        self.whole = false;
        let _ = self.limit(connection);
    }

    fn limit(&self, connection: &Connection) -> Result<(), rusqlite::Error> {
        let Limits { pages_max, reserve_pages, .. } = self.limits;
        let pages = if self.whole { pages_max } else { pages_max.saturating_add(reserve_pages) };
        connection.pragma_update_and_check(None, "max_page_count", pages, |_| Ok(()))
    }

    fn make(&mut self) -> Result<(), String> {
        if let Some((at, reason)) = &self.failed
            && at.elapsed() < self.limits.retry_after
        {
            return Err(reason.clone());
        }
        let made = write_reserve(&self.file, self.limits.reserve_bytes).map_err(|error| {
            // Half a reserve would take the room that somebody else may need to finish.
            remove(&self.file);
            let file = self.file.display();
            format!("no room for a result, {file} cannot be written: {error}; free disk space")
        });
        self.failed = made.as_ref().err().map(|reason| (Instant::now(), reason.clone()));
        made
    }
}

/// Can a result be written durably right now?
pub(super) fn probe(desk: &mut Desk) -> Result<(), Refusal> {
    desk.room.ensure(&desk.connection).map_err(Refusal::Unavailable)?;
    desk.connection.execute("UPDATE meta SET value = value + 1 WHERE name = 'probe'", [])?;
    Ok(())
}

/// Gives the reserve up before there is a connection.
pub(super) fn remove_reserve(directory: &Path) {
    remove(&directory.join(RESERVE_FILE));
}

/// Not there, or not removable: the write that follows says whether there is room now.
fn remove(file: &Path) {
    let _ = fs::remove_file(file);
}

/// Real bytes: a sparse file, or one that compresses to nothing, reserves nothing.
fn write_reserve(path: &Path, bytes: usize) -> std::io::Result<()> {
    let mut file = directory::private_file(path)?;
    file.set_len(0)?;
    let mut block = [0; 64 << 10];
    let mut left = bytes;
    while left > 0 {
        fill_random(&mut block)?;
        let part = left.min(block.len());
        file.write_all(&block[..part])?;
        left -= part;
    }
    file.sync_all()
}

fn page_count(connection: &Connection) -> Result<u32, rusqlite::Error> {
    connection.pragma_query_value(None, "page_count", |row| row.get(0))
}

/// The reserve, inside the state directory.
const RESERVE_FILE: &str = "reserve";

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        core::Memory,
        core::{AccountId, Fingerprint, Secret, Timestamp, notices},
        oauth::Token,
        state::{EntryId, Error, Intent, Role, Settings, State},
    };

    /// Forty pages are the empty tables and a little more.
    const SMALL: Limits = Limits {
        reserve_bytes: 64 << 10,
        pages_max: 40,
        reserve_pages: 40,
        retry_after: Duration::ZERO,
    };

    fn id(name: &str) -> AccountId {
        AccountId::new("tiktok", name)
    }

    fn settings(folder: &tempfile::TempDir) -> Settings {
        Settings::in_directory(folder.path().join("state"))
    }

    async fn intend(state: &State, name: &str) -> Result<EntryId, Error> {
        let now = Timestamp::from_unix(1_800_000_000);
        let lease = state.take_lease(&id(name), now, Duration::from_secs(30)).await?;
        let intent = Intent {
            old: Fingerprint::from_hash(1),
            spending: Fingerprint::from_hash(
                name.bytes().fold(0, |hash, byte| hash * 256 + u64::from(byte)),
            ),
            requested_at: now,
            over_at: now.plus(Duration::from_secs(10)),
        };
        state.intend(&lease.expect("nobody else is there"), &intent).await
    }

    fn token(bytes: usize) -> Token {
        Token {
            access: Secret::new("x".repeat(bytes)),
            refresh: None,
            issued_at: None,
            expires_at: None,
            refresh_expires_at: None,
            scopes: None,
            subject: None,
        }
    }

    /// Remembers accounts until nothing fits any more.
    async fn fill(state: &State) -> usize {
        for number in 0..100_000 {
            let memory = Memory {
                id: id(&format!("{number:0200}")),
                token: None,
                told_since: None,
                last_refresh_at: None,
                cause: None,
                cause_since: None,
                told: None,
                failed_in_a_row: 0,
                not_before: None,
                door: None,
                left: None,
                first_seen_at: None,
            };
            match state.remember(vec![memory]).await {
                Ok(()) => {}
                Err(Error::Unavailable { reason, .. }) if reason.contains("full") => return number,
                Err(other) => panic!("{other}"),
            }
        }
        panic!("the state has no bound");
    }

    #[tokio::test]
    async fn a_result_finds_room_when_nothing_else_does_and_nothing_is_spent_after_it() {
        let folder = tempfile::tempdir().unwrap();
        let state = State::open_within(&settings(&folder), Role::Guest, SMALL).await.unwrap();
        let entry = intend(&state, "ann").await.unwrap();
        assert!(fill(&state).await > 10);
        let reserve = settings(&folder).directory.join(RESERVE_FILE);
        assert!(reserve.exists());

        // Larger than the room in its row, so that it needs pages which are not there.
        state.record_result(entry, &id("ann"), &token(30_000)).await.unwrap();
        assert!(!reserve.exists());
        let kept = state.open_entry(&id("ann")).await.unwrap().unwrap().result.unwrap();
        assert_eq!(kept.access.expose().len(), 30_000);

        let refused = intend(&state, "bob").await;
        assert!(matches!(refused, Err(Error::Unavailable { .. })), "{refused:?}");
        assert!(state.probe().await.is_err());
    }

    #[tokio::test]
    async fn results_of_usual_size_need_no_room_but_their_own() {
        let folder = tempfile::tempdir().unwrap();
        let limits = Limits { pages_max: 60, ..SMALL };
        let state = State::open_within(&settings(&folder), Role::Guest, limits).await.unwrap();
        let mut entries = Vec::new();
        for number in 0..30 {
            let account = id(&number.to_string());
            entries.push((intend(&state, &account.account).await.unwrap(), account));
        }
        fill(&state).await;
        for (entry, account) in entries {
            state.record_result(entry, &account, &token(600)).await.unwrap();
        }
        assert!(settings(&folder).directory.join(RESERVE_FILE).exists());
    }

    #[tokio::test]
    async fn a_full_state_refuses_the_call_that_does_not_fit_and_takes_the_result_beside_it() {
        let folder = tempfile::tempdir().unwrap();
        let state = State::open_within(&settings(&folder), Role::Guest, SMALL).await.unwrap();
        let entry = intend(&state, "ann").await.unwrap();
        fill(&state).await;
        let notice = notices::Notice {
            subject: notices::Subject::App("x".repeat(50_000).into()),
            cause: crate::core::Cause::Unknown,
            change: notices::Change::Firing,
            audience: notices::Audience::Operator,
            since: Timestamp::MIN,
            at: Timestamp::MIN,
            expires_at: None,
            evidence: None,
            step: None,
            missing_scopes: Vec::new(),
            accounts: 1,
            posts_at_risk: None,
            gate: crate::core::Gate::Open,
        };
        let account = id("ann");
        let token = token(30_000);
        let (fired, recorded) = tokio::join!(
            state.fire(&notice, vec![Secret::new("one@example.org".to_owned())]),
            state.record_result(entry, &account, &token),
        );
        assert!(matches!(fired, Err(Error::Unavailable { .. })));
        recorded.unwrap();
    }

    #[tokio::test]
    async fn nothing_is_spent_while_the_reserve_cannot_be_made() {
        let folder = tempfile::tempdir().unwrap();
        let limits = Limits { retry_after: Duration::ZERO, ..Limits::USUAL };
        let state = State::open_within(&settings(&folder), Role::Guest, limits).await.unwrap();
        let reserve = settings(&folder).directory.join(RESERVE_FILE);
        fs::remove_file(&reserve).unwrap();
        fs::create_dir(&reserve).unwrap();
        let reason = intend(&state, "ann").await.unwrap_err().to_string();
        assert!(reason.contains("no room for a result"), "{reason}");
        fs::remove_dir(&reserve).unwrap();
        intend(&state, "ann").await.unwrap();
        assert_eq!(fs::metadata(&reserve).unwrap().len(), Limits::USUAL.reserve_bytes as u64);
    }
}
