//! Where the publisher keeps its tokens. Theirs, not ours: only token columns are ever written.
//!
//! One trait, one file per kind of store, one contract suite for all (`tests/stores.rs`). A store knows
//! nothing of refreshing; it hands out tokens and takes them back if nobody else was faster.

pub mod columns;
pub mod file;
pub mod mysql;
pub mod postgres;
pub mod redis;
pub mod server;
pub mod sqlite;

mod blocking;
mod cells;
mod dialect;
mod document;
mod draft;
mod engine;
mod pool;
mod questions;
mod spans;
mod statements;
mod table;
mod times;
mod watch;

pub use draft::Draft;
pub use questions::{AnswerRow, Question};

use crate::{
    core::{AccountId, Fingerprint, Secret},
    oauth::{Fingerprinter, Token},
};
use std::{
    fmt,
    future::Future,
    path::{Path, PathBuf},
    sync::Arc,
};

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
    /// The provider's own id of it, where the row says so, with a token or without.
    pub subject: Option<String>,
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

impl Status {
    /// How our own formats write it.
    #[must_use]
    pub const fn as_text(self) -> &'static str {
        match self {
            Self::Connected => "connected",
            Self::NeedsReconnect => "needs_reconnect",
        }
    }
}

/// Why a store could not do it. One variant for each reaction.
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
    /// The same of one row whose account can be read: the account is there, and nothing else is known of it.
    #[error("{place}: {reason}")]
    Row {
        /// Whose row it is.
        id: AccountId,
        /// As above.
        place: String,
        /// As above.
        reason: String,
    },
}

impl Error {
    /// Says whose row is damaged.
    fn of(self, id: &AccountId) -> Self {
        match self {
            Self::Damaged { place, reason } => Self::Row { id: id.clone(), place, reason },
            other => other,
        }
    }

    /// Whose row is damaged, when it is one row and that can be read.
    #[must_use]
    pub const fn account(&self) -> Option<&AccountId> {
        match self {
            Self::Row { id, .. } => Some(id),
            Self::Unavailable { .. } | Self::Damaged { .. } => None,
        }
    }
}

/// A publisher's token store.
pub trait TokenStore: Send + Sync + 'static {
    /// Hands every account to `each`, one at a time, without holding all tokens in memory at once. A
    /// row that cannot be read is reported through `damaged` with its place, and with its account where that
    /// can be read, and skipped: one bad row neither takes the fleet down nor makes its account one that left.
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
    /// missing or blank refresh token in `token` never replaces a stored one. [`Fingerprint::NONE`] expects a row
    /// without a token.
    ///
    /// # Errors
    /// When the store cannot be read or written, or what was read back is not what was written.
    fn save(
        &self,
        id: &AccountId,
        token: &Token,
        expected: Fingerprint,
    ) -> impl Future<Output = Result<Saved, Error>> + Send;

    /// Prepares a save that our state carries out by itself, together with recording the token that is yet
    /// to come. `None` where store and state do not share a database, when another token than `expected` is
    /// there, and when the store cannot be asked: then `save` is the way.
    fn draft(
        &self,
        id: &AccountId,
        expected: Fingerprint,
    ) -> impl Future<Output = Option<Draft>> + Send {
        let _ = (id, expected);
        std::future::ready(None)
    }

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

    /// Returns when the store may have changed since the last return. It looks at least once per poll
    /// interval, so that a lost event costs that long and no more; it returns only when it finds a
    /// difference, so whoever failed to load tries again by itself. Safe to drop at any time.
    fn changed(&self) -> impl Future<Output = ()> + Send;
}

/// What describes a store. `config` fills it.
#[allow(clippy::large_enum_variant, reason = "there is one in the whole program")]
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Settings {
    /// One YAML or JSON file, by its extension.
    File(file::Settings),
    /// Hashes in a Redis server.
    Redis(redis::Settings),
    /// A table in a SQLite database.
    Sqlite(sqlite::Settings),
    /// A table in PostgreSQL.
    Postgres(server::Settings),
    /// A table in MySQL or MariaDB.
    Mysql(server::Settings),
}

/// Every kind of store, chosen once at start. A `match` and no boxes: a new kind is a compile error in
/// this one place until it is complete.
#[allow(clippy::large_enum_variant, reason = "there is one in the whole program")]
pub enum AnyStore {
    /// See [`mod@file`].
    File(file::FileStore),
    /// See [`mod@redis`].
    Redis(redis::RedisStore),
    /// See [`sqlite`].
    Sqlite(sqlite::SqliteStore),
    /// See [`postgres`].
    Postgres(postgres::PostgresStore),
    /// See [`mysql`].
    Mysql(mysql::MysqlStore),
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
            Settings::Redis(settings) => {
                Self::Redis(redis::RedisStore::open(settings.clone(), fingerprinter).await?)
            }
            Settings::Sqlite(settings) => {
                Self::Sqlite(sqlite::SqliteStore::open(settings.clone(), fingerprinter).await?)
            }
            Settings::Postgres(settings) => Self::Postgres(
                postgres::PostgresStore::open(settings.clone(), fingerprinter).await?,
            ),
            Settings::Mysql(settings) => {
                Self::Mysql(mysql::MysqlStore::open(settings.clone(), fingerprinter).await?)
            }
        })
    }
}

impl AnyStore {
    /// Says that our state is in the same database, and may carry saves out.
    #[must_use]
    pub fn beside_our_state(mut self) -> Self {
        if let Self::Postgres(store) = &mut self {
            store.drafts = true;
        }
        self
    }

    /// What works and is dangerous all the same, for `check`: the store would lose what it was given.
    ///
    /// # Errors
    /// When the store cannot be asked.
    pub async fn warnings(&self) -> Result<Vec<String>, Error> {
        match self {
            Self::Redis(store) => store.warnings().await,
            _ => Ok(Vec::new()),
        }
    }
}

impl fmt::Debug for AnyStore {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::File(_) => "AnyStore::File",
            Self::Redis(_) => "AnyStore::Redis",
            Self::Sqlite(_) => "AnyStore::Sqlite",
            Self::Postgres(_) => "AnyStore::Postgres",
            Self::Mysql(_) => "AnyStore::Mysql",
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
            Self::Redis(store) => store.load(each, damaged).await,
            Self::Sqlite(store) => store.load(each, damaged).await,
            Self::Postgres(store) => store.load(each, damaged).await,
            Self::Mysql(store) => store.load(each, damaged).await,
        }
    }

    async fn get(&self, id: &AccountId) -> Result<Option<StoredAccount>, Error> {
        match self {
            Self::File(store) => store.get(id).await,
            Self::Redis(store) => store.get(id).await,
            Self::Sqlite(store) => store.get(id).await,
            Self::Postgres(store) => store.get(id).await,
            Self::Mysql(store) => store.get(id).await,
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
            Self::Redis(store) => store.save(id, token, expected).await,
            Self::Sqlite(store) => store.save(id, token, expected).await,
            Self::Postgres(store) => store.save(id, token, expected).await,
            Self::Mysql(store) => store.save(id, token, expected).await,
        }
    }

    async fn draft(&self, id: &AccountId, expected: Fingerprint) -> Option<Draft> {
        match self {
            Self::Postgres(store) => store.draft(id, expected).await,
            Self::File(_) | Self::Redis(_) | Self::Sqlite(_) | Self::Mysql(_) => None,
        }
    }

    async fn mark(&self, id: &AccountId, status: Status) -> Result<(), Error> {
        match self {
            Self::File(store) => store.mark(id, status).await,
            Self::Redis(store) => store.mark(id, status).await,
            Self::Sqlite(store) => store.mark(id, status).await,
            Self::Postgres(store) => store.mark(id, status).await,
            Self::Mysql(store) => store.mark(id, status).await,
        }
    }

    async fn add(&self, account: &StoredAccount) -> Result<Saved, Error> {
        match self {
            Self::File(store) => store.add(account).await,
            Self::Redis(store) => store.add(account).await,
            Self::Sqlite(store) => store.add(account).await,
            Self::Postgres(store) => store.add(account).await,
            Self::Mysql(store) => store.add(account).await,
        }
    }

    async fn probe(&self) -> Result<(), Error> {
        match self {
            Self::File(store) => store.probe().await,
            Self::Redis(store) => store.probe().await,
            Self::Sqlite(store) => store.probe().await,
            Self::Postgres(store) => store.probe().await,
            Self::Mysql(store) => store.probe().await,
        }
    }

    async fn changed(&self) {
        match self {
            Self::File(store) => store.changed().await,
            Self::Redis(store) => store.changed().await,
            Self::Sqlite(store) => store.changed().await,
            Self::Postgres(store) => store.changed().await,
            Self::Mysql(store) => store.changed().await,
        }
    }
}

/// Makes an empty store of our own shape where there is none: a file without accounts, or the table with
/// [`sqlite::Columns::simple`]. What exists is left as it is.
///
/// # Errors
/// When it can neither be found nor made.
pub async fn create(settings: &Settings) -> Result<(), Error> {
    match settings.clone() {
        Settings::File(settings) => blocking::run(move || file::create(&settings)).await,
        Settings::Redis(settings) => redis::create(&settings).await,
        Settings::Sqlite(settings) => blocking::run(move || sqlite::create(&settings)).await,
        Settings::Postgres(settings) => postgres::create(&settings).await,
        Settings::Mysql(settings) => mysql::create(&settings).await,
    }
}

/// Where a store lies; kept here because `check` prints it for every kind.
#[must_use]
pub fn place_of(settings: &Settings) -> String {
    match settings {
        Settings::File(settings) => settings.path.display().to_string(),
        Settings::Redis(settings) => settings.place(),
        Settings::Sqlite(settings) => settings.path.display().to_string(),
        Settings::Postgres(settings) => server::place("postgres", settings),
        Settings::Mysql(settings) => server::place("mysql", settings),
    }
}

/// Names an account as a store found it, or says which of the two names is wrong and why.
fn checked_id(provider: &str, account: &str) -> Result<AccountId, (&'static str, String)> {
    if provider.trim().is_empty() {
        return Err(("provider", "is missing or empty".to_owned()));
    }
    // `provider/account` is how people write an account, and it is split at the first slash.
    if provider.contains('/') {
        return Err(("provider", "must not contain a slash".to_owned()));
    }
    if account.trim().is_empty() {
        return Err(("account", "is missing or empty".to_owned()));
    }
    if provider.len().max(account.len()) > AccountId::ACCOUNT_BYTES_MAX {
        let key = if account.len() > AccountId::ACCOUNT_BYTES_MAX { "account" } else { "provider" };
        return Err((key, format!("is longer than {} bytes", AccountId::ACCOUNT_BYTES_MAX)));
    }
    Ok(AccountId::new(provider, account))
}

/// Postiz writes `''` and `'null'` where it has no token.
fn is_absent(text: &str) -> bool {
    matches!(text.trim(), "" | "null")
}

/// The refresh token that the store holds once `new` is in it: a missing or blank one replaces nothing.
fn effective_refresh<'a>(new: &'a Token, old: Option<&'a Token>) -> Option<&'a Secret> {
    new.refresh
        .as_ref()
        .filter(|refresh| !is_absent(refresh.expose()))
        .or_else(|| old.and_then(|old| old.refresh.as_ref()))
}

/// How much of an entry must be readable.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Care {
    /// All of it: a person must hear of whatever is wrong.
    All,
    /// Key and tokens. A save needs no more, and must not lose a token because somebody wrote nonsense
    /// into a date meanwhile.
    TokenOnly,
}

impl Care {
    fn beside_token<T: Default, E>(self, read: Result<T, E>) -> Result<T, E> {
        if self == Self::TokenOnly { Ok(read.unwrap_or_default()) } else { read }
    }
}

/// What a save has to do, seen from what the store holds at that moment.
enum Plan {
    Write,
    Nothing(Saved),
}

/// Compare-and-set on the token.
fn plan(
    fingerprinter: &Fingerprinter,
    stored: Option<&Token>,
    new: &Token,
    expected: Fingerprint,
) -> Plan {
    let Some(stored) = stored else {
        // A row that was never connected, or that somebody emptied, and whose owner has consented since.
        let is_awaited = expected == Fingerprint::NONE;
        return if is_awaited { Plan::Write } else { Plan::Nothing(Saved::Conflict) };
    };
    let held = fingerprinter.of_token(stored);
    // The expected token is also written over itself: a provider that extends a token in place
    // returns the same text with a later end.
    if held == expected {
        return Plan::Write;
    }
    Plan::Nothing(if held == fingerprint_once_saved(fingerprinter, Some(stored), new) {
        Saved::AlreadyThere
    } else {
        Saved::Conflict
    })
}

/// The fingerprint of what the store holds after `new` was saved over `stored`.
fn fingerprint_once_saved(
    fingerprinter: &Fingerprinter,
    stored: Option<&Token>,
    new: &Token,
) -> Fingerprint {
    let refresh = effective_refresh(new, stored).cloned();
    fingerprinter.of_token(&Token { refresh, ..new.clone() })
}

/// Refuses what must never reach a store.
fn check_new(id: &AccountId, new: &Token) -> Result<(), Error> {
    if is_absent(new.access.expose()) {
        return Err(Error::Damaged {
            place: format!("new token of {id}"),
            reason: "its access token is blank, so it was not saved".to_owned(),
        });
    }
    Ok(())
}

/// Reads scopes that are one text: separated by blanks or commas, or a JSON list as Laravel writes it.
/// `None` when there is nothing in it.
fn scopes_from_text(text: &str) -> Option<Vec<String>> {
    if text.trim_start().starts_with('[')
        && let Ok(list) = serde_json::from_str::<Vec<String>>(text)
    {
        return Some(list);
    }
    let list = text
        .split(|c: char| c == ',' || c.is_whitespace())
        .filter(|scope| !scope.is_empty())
        .map(str::to_owned)
        .collect::<Vec<_>>();
    (!list.is_empty()).then_some(list)
}

/// Writes scopes as one text, in the manner of the text that was there.
fn scopes_to_text(scopes: &[String], before: Option<&str>) -> String {
    match before {
        Some(before) if before.trim_start().starts_with('[') => {
            serde_json::to_string(scopes).expect("a list of texts is always JSON")
        }
        Some(before) if before.contains(',') => scopes.join(","),
        _ => scopes.join(" "),
    }
}

/// The directory of a path, and of the file behind it where that is a link: a Kubernetes volume swaps
/// the link, an editor replaces the file behind one.
fn directories_of(path: &Path) -> Vec<PathBuf> {
    let mut directories = vec![directory_of(path)];
    if let Ok(target) = path.canonicalize() {
        directories.push(directory_of(&target));
    }
    directories.dedup();
    directories
}

fn directory_of(path: &Path) -> PathBuf {
    match path.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => parent.to_owned(),
        _ => PathBuf::from("."),
    }
}
