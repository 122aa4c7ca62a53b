//! Where the publisher keeps its tokens. Theirs, not ours: only token columns are ever written.
//!
//! One trait, one file per kind of store, one contract suite for all (`tests/stores.rs`). A store knows
//! nothing of refreshing; it hands out tokens and takes them back if nobody else was faster.

pub mod file;
pub mod sqlite;

use crate::{
    core::{AccountId, Fingerprint, Secret},
    oauth::{Fingerprinter, Token},
};
use std::{fmt, future::Future, path::PathBuf, sync::Arc};

/// One account as the store holds it, with its token. Lives as briefly as can be.
#[derive(Clone, Debug)]
pub struct StoredAccount {
    /// Which account.
    pub id: AccountId,
    /// The app it belongs to, where the store says so; otherwise the configuration does.
    pub app: Option<Arc<str>>,
    /// Mail address of its owner, where the store has one. A secret by type: it is delivered to, never
    /// shown.
    pub owner: Option<Secret>,
    /// The token; `None` when the row has no access token.
    pub token: Option<Token>,
    /// False when the publisher's people switched the account off or disconnected it: such an account
    /// is neither refreshed nor reported.
    pub enabled: bool,
}

/// What `save` did.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Saved {
    /// The new token was written and read back.
    Written,
    /// The store holds this very token already; nothing was written. A replay ends here.
    AlreadyThere,
    /// The store holds a token that is neither the expected nor the new one: somebody else wrote it,
    /// and it was left alone.
    Conflict,
    /// The account is not in the store any more.
    Gone,
}

/// A status that a publisher may understand in a column of its own.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Status {
    /// The account works.
    Connected,
    /// Its owner must reconnect it.
    NeedsReconnect,
}

/// Why a store could not do it. Two reactions, two variants.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// Not reachable, locked, read-only, full: try again later, refresh nothing meanwhile.
    #[error("{place}: {reason}")]
    Unavailable {
        /// Which store and what in it.
        place: String,
        /// What went wrong, free of stored values.
        reason: String,
    },
    /// It answers, but not with what was described: a missing column, a text that is no number. A
    /// person must look.
    #[error("{place}: {reason}")]
    Damaged {
        /// File and line or key, or table, row key and column.
        place: String,
        /// What was found and what was expected, free of stored values.
        reason: String,
    },
}

/// A publisher's token store.
pub trait TokenStore: Send + Sync + 'static {
    /// Hands every account to `each`, one at a time, without holding all tokens in memory at once. A
    /// row that cannot be read is reported through `damaged` with its place and skipped, so that one
    /// bad row does not take the fleet down.
    ///
    /// # Errors
    /// When the store as a whole cannot be read.
    fn load(
        &self,
        each: impl FnMut(StoredAccount) + Send,
        damaged: impl FnMut(Error) + Send,
    ) -> impl Future<Output = Result<(), Error>> + Send;

    /// One account, read now.
    ///
    /// # Errors
    /// When the store cannot be read or the row is damaged.
    fn get(
        &self,
        id: &AccountId,
    ) -> impl Future<Output = Result<Option<StoredAccount>, Error>> + Send;

    /// Writes `token` if the store still holds the token with fingerprint `expected` (access and refresh
    /// token; other columns may have changed), then reads it back. Only token columns are written. A
    /// missing or blank refresh token in `token` never replaces a stored one.
    ///
    /// # Errors
    /// When the store cannot be read or written, or what was read back is not what was written.
    fn save(
        &self,
        id: &AccountId,
        token: &Token,
        expected: Fingerprint,
    ) -> impl Future<Output = Result<Saved, Error>> + Send;

    /// Tells the publisher, through a column that it already understands; does nothing where there is
    /// none.
    ///
    /// # Errors
    /// When the store cannot be written.
    fn mark(
        &self,
        id: &AccountId,
        status: Status,
    ) -> impl Future<Output = Result<(), Error>> + Send;

    /// Adds an account that is not there yet (`import`, first connection). `Saved::Conflict` when it is.
    ///
    /// # Errors
    /// When the store cannot be written.
    fn add(&self, account: &StoredAccount) -> impl Future<Output = Result<Saved, Error>> + Send;

    /// Can it be read and written? Changes nothing. For `check`, and before a token is spent.
    ///
    /// # Errors
    /// What is wrong.
    fn probe(&self) -> impl Future<Output = Result<(), Error>> + Send;

    /// Returns when the store may have changed since the last return; at least once per poll interval,
    /// so that a lost event costs that long and no more. Safe to drop at any time.
    fn changed(&self) -> impl Future<Output = ()> + Send;
}

/// What describes a store. `config` fills it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Settings {
    /// One YAML or JSON file, by its extension.
    File(file::Settings),
    /// A table in a SQLite database.
    Sqlite(sqlite::Settings),
}

/// Every kind of store, chosen once at start. A `match` and no boxes: a new kind is a compile error in
/// this one place until it is complete.
pub enum AnyStore {
    /// See [`file`].
    File(file::FileStore),
    /// See [`sqlite`].
    Sqlite(sqlite::SqliteStore),
}

impl AnyStore {
    /// Opens the store that `settings` describe.
    ///
    /// # Errors
    /// When it does not exist, cannot be read, or lacks a configured column.
    pub async fn open(settings: &Settings, fingerprinter: Fingerprinter) -> Result<Self, Error> {
        Ok(match settings {
            Settings::File(settings) => {
                Self::File(file::FileStore::open(settings.clone(), fingerprinter).await?)
            }
            Settings::Sqlite(settings) => {
                Self::Sqlite(sqlite::SqliteStore::open(settings.clone(), fingerprinter).await?)
            }
        })
    }
}

impl fmt::Debug for AnyStore {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::File(_) => "AnyStore::File",
            Self::Sqlite(_) => "AnyStore::Sqlite",
        })
    }
}

impl TokenStore for AnyStore {
    async fn load(
        &self,
        each: impl FnMut(StoredAccount) + Send,
        damaged: impl FnMut(Error) + Send,
    ) -> Result<(), Error> {
        match self {
            Self::File(store) => store.load(each, damaged).await,
            Self::Sqlite(store) => store.load(each, damaged).await,
        }
    }

    async fn get(&self, id: &AccountId) -> Result<Option<StoredAccount>, Error> {
        match self {
            Self::File(store) => store.get(id).await,
            Self::Sqlite(store) => store.get(id).await,
        }
    }

    async fn save(
        &self,
        id: &AccountId,
        token: &Token,
        expected: Fingerprint,
    ) -> Result<Saved, Error> {
        match self {
            Self::File(store) => store.save(id, token, expected).await,
            Self::Sqlite(store) => store.save(id, token, expected).await,
        }
    }

    async fn mark(&self, id: &AccountId, status: Status) -> Result<(), Error> {
        match self {
            Self::File(store) => store.mark(id, status).await,
            Self::Sqlite(store) => store.mark(id, status).await,
        }
    }

    async fn add(&self, account: &StoredAccount) -> Result<Saved, Error> {
        match self {
            Self::File(store) => store.add(account).await,
            Self::Sqlite(store) => store.add(account).await,
        }
    }

    async fn probe(&self) -> Result<(), Error> {
        match self {
            Self::File(store) => store.probe().await,
            Self::Sqlite(store) => store.probe().await,
        }
    }

    async fn changed(&self) {
        match self {
            Self::File(store) => store.changed().await,
            Self::Sqlite(store) => store.changed().await,
        }
    }
}

/// Where a file store lies; kept here because `check` prints it for every kind.
#[must_use]
pub fn place_of(settings: &Settings) -> PathBuf {
    match settings {
        Settings::File(settings) => settings.path.clone(),
        Settings::Sqlite(settings) => settings.path.clone(),
    }
}
