//! A store in a table of a SQLite database: our own simple schema, or columns of somebody else's.

use super::{Error, Saved, Status, StoredAccount, TokenStore};
use crate::{
    core::{AccountId, Fingerprint},
    oauth::{Fingerprinter, Token},
};
use std::{path::PathBuf, time::Duration};

/// Which table of which file, and what its columns mean.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Settings {
    /// The database file.
    pub path: PathBuf,
    /// How often `PRAGMA data_version` and the change column are looked at.
    pub poll_every: Duration,
    /// How long to wait for the publisher's own writes before giving up.
    pub busy_timeout: Duration,
    /// The table; created with [`Columns::simple`] by `import` when it does not exist.
    pub table: String,
    /// What its columns are called.
    pub columns: Columns,
}

/// A column map. Every name is a plain identifier, checked by `config`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Columns {
    /// The account's key: unique together with `provider`.
    pub account: String,
    /// The column with the provider's name, or the one provider of all rows.
    pub provider: ProviderColumn,
    /// The access token, plain text.
    pub access_token: String,
    /// The refresh token, plain text; `None` where the access token is all there is.
    pub refresh_token: Option<String>,
    /// When the access token ends.
    pub expires_at: Option<TimeColumn>,
    /// When the refresh token ends.
    pub refresh_expires_at: Option<TimeColumn>,
    /// When the token was issued.
    pub issued_at: Option<TimeColumn>,
    /// Granted scopes, separated by blanks or commas.
    pub scopes: Option<String>,
    /// The provider's id of the account (`open_id`).
    pub subject: Option<String>,
    /// The app's name in our configuration.
    pub app: Option<String>,
    /// The owner's mail address.
    pub owner: Option<String>,
    /// A column that is true (not 0, not empty, not null) for accounts to be kept.
    pub enabled: Option<String>,
    /// A status column and its two values.
    pub status: Option<StatusColumn>,
}

/// Where the provider's name comes from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ProviderColumn {
    /// A column.
    Column(String),
    /// All rows belong to this provider.
    Fixed(String),
}

/// A column with an instant.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TimeColumn {
    /// Its name.
    pub name: String,
    /// How it is written.
    pub unit: TimeUnit,
}

/// How an instant is written in a column.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TimeUnit {
    /// Integer seconds since the epoch.
    UnixSeconds,
    /// Integer milliseconds since the epoch.
    UnixMillis,
    /// Text such as `2026-11-22T10:00:00Z` or `2026-11-22 10:00:00`, UTC where it names no zone.
    Text,
}

/// A status column that the publisher understands.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StatusColumn {
    /// Its name.
    pub name: String,
    /// Its value for an account that works.
    pub connected: String,
    /// Its value for an account that its owner must reconnect.
    pub needs_reconnect: String,
}

/// See the module.
pub struct SqliteStore;
impl SqliteStore {
    /// Opens.
    pub async fn open(_: Settings, _: Fingerprinter) -> Result<Self, Error> {
        unimplemented!()
    }
}
impl TokenStore for SqliteStore {
    async fn load(
        &self,
        _: impl FnMut(StoredAccount) + Send,
        _: impl FnMut(Error) + Send,
    ) -> Result<(), Error> {
        unimplemented!()
    }
    async fn get(&self, _: &AccountId) -> Result<Option<StoredAccount>, Error> {
        unimplemented!()
    }
    async fn save(&self, _: &AccountId, _: &Token, _: Fingerprint) -> Result<Saved, Error> {
        unimplemented!()
    }
    async fn mark(&self, _: &AccountId, _: Status) -> Result<(), Error> {
        unimplemented!()
    }
    async fn add(&self, _: &StoredAccount) -> Result<Saved, Error> {
        unimplemented!()
    }
    async fn probe(&self) -> Result<(), Error> {
        unimplemented!()
    }
    async fn changed(&self) {
        unimplemented!()
    }
}
