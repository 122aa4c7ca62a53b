//! A store in a table of a SQLite database: our own simple schema, or columns of somebody else's.
//!
//! One connection reads single accounts and writes; a save is one immediate transaction. It is also the
//! one that asks for `PRAGMA data_version`, which does not move for a connection's own writes. The
//! publisher's journal mode and all columns that hold no token stay as they are.

pub use super::columns::{Columns, ProviderColumn, StatusColumn, TimeColumn, TimeUnit};
use super::{
    Care, Error, Saved, Status, StoredAccount, TokenStore, blocking, check_new,
    columns::is_identifier,
    dialect::Query,
    table::{Open, Place, Version},
    watch::Watch,
};
use crate::{
    core::{AccountId, Fingerprint},
    oauth::{Fingerprinter, Token},
};
use rusqlite::Connection;
use std::{fs, io, os::unix::fs::OpenOptionsExt, path::PathBuf, sync::Arc, time::Duration};
use tokio::sync::{Mutex, OwnedMutexGuard};

/// Which table of which file, and what its columns mean.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Settings {
    /// The database file.
    pub path: PathBuf,
    /// How often `PRAGMA data_version` is asked besides watching the directory.
    pub poll_every: Duration,
    /// How long to wait for the publisher's own writes before giving up.
    pub busy_timeout: Duration,
    /// The table; created with [`Columns::simple`] by `import` when it does not exist.
    pub table: String,
    /// What its columns are called.
    pub columns: Columns,
}

/// See the module.
pub struct SqliteStore {
    place: Arc<Place>,
    /// `None` until it is needed again after the file behind the path became another one.
    open: Arc<Mutex<Option<Open>>>,
    watch: Watch<Option<Version>>,
}

impl SqliteStore {
    /// Opens a database that exists, and checks that it has the table and every mapped column.
    ///
    /// # Errors
    /// When it cannot be read or something is missing; the message says what there is instead.
    pub async fn open(settings: Settings, fingerprinter: Fingerprinter) -> Result<Self, Error> {
        let place = Arc::new(Place { settings, fingerprinter });
        let (opened, seen) = {
            let place = Arc::clone(&place);
            blocking::run(move || {
                let opened = place.open()?;
                let seen = place.version(&opened)?;
                Ok((opened, seen))
            })
            .await?
        };
        let watch = Watch::start(&place.directories(), place.settings.poll_every, Some(seen));
        Ok(Self { place, open: Arc::new(Mutex::new(Some(opened))), watch })
    }

    pub(super) fn settings(&self) -> &Settings {
        &self.place.settings
    }

    /// Does `work` with the one connection, on a thread that may block.
    async fn with<R: Send + 'static>(
        &self,
        work: impl FnOnce(&Place, &mut Open) -> Result<R, Error> + Send + 'static,
    ) -> Result<R, Error> {
        with(Arc::clone(&self.place), Arc::clone(&self.open).lock_owned().await, work).await
    }
}

async fn with<R: Send + 'static>(
    place: Arc<Place>,
    mut slot: OwnedMutexGuard<Option<Open>>,
    work: impl FnOnce(&Place, &mut Open) -> Result<R, Error> + Send + 'static,
) -> Result<R, Error> {
    blocking::run(move || {
        let file = place.file_id()?;
        if slot.as_ref().is_none_or(|open| open.file != file) {
            *slot = Some(place.open()?);
        }
        let open = slot.as_mut().expect("it was opened in the lines above");
        let answer = work(&place, open)?;
        if place.file_id()? != file {
            return Err(place.unavailable("the file was replaced meanwhile; try again"));
        }
        Ok(answer)
    })
    .await
}

impl TokenStore for SqliteStore {
    async fn load(
        &self,
        each: impl FnMut(StoredAccount) + Send,
        damaged: impl FnMut(Error) + Send,
    ) -> Result<(), Error> {
        // A connection of its own, so that a save does not wait for a long load.
        let place = Arc::clone(&self.place);
        blocking::stream(move |rows| place.load(&place.open()?, rows), each, damaged).await
    }

    async fn get(&self, id: &AccountId) -> Result<Option<StoredAccount>, Error> {
        let id = id.clone();
        self.with(move |place, open| {
            Ok(place
                .find(&open.connection, &open.statements, &id, Care::All)?
                .map(|found| found.account))
        })
        .await
    }

    async fn save(
        &self,
        id: &AccountId,
        token: &Token,
        expected: Fingerprint,
    ) -> Result<Saved, Error> {
        check_new(id, token)?;
        let (id, token) = (id.clone(), token.clone());
        self.with(move |place, open| place.save(open, &id, &token, expected)).await
    }

    async fn mark(&self, id: &AccountId, status: Status) -> Result<(), Error> {
        let id = id.clone();
        self.with(move |place, open| {
            if !open.statements.holds_provider(&id.provider) {
                return Ok(());
            }
            let Some(Query { sql, values }) = open.statements.update_status(&id, status) else {
                return Ok(());
            };
            let done = open.connection.execute(&sql, rusqlite::params_from_iter(values));
            done.map(drop).map_err(|error| place.failed(&error))
        })
        .await
    }

    async fn add(&self, account: &StoredAccount) -> Result<Saved, Error> {
        let account = account.clone();
        self.with(move |place, open| place.add(open, &account)).await
    }

    async fn probe(&self) -> Result<(), Error> {
        self.with(|place, open| {
            place.statements(&open.connection)?;
            let transaction = place.begin(&mut open.connection)?;
            // Writing the version over itself makes SQLite open its journal, which a lock alone does
            // not; nothing of it is left after the rollback.
            let version = transaction.query_row("PRAGMA user_version", [], |row| row.get(0));
            version
                .and_then(|version: i64| transaction.pragma_update(None, "user_version", version))
                .and_then(|()| transaction.rollback())
                .map_err(|error| place.failed(&error))
        })
        .await
    }

    async fn changed(&self) {
        self.watch
            .changed(|| async { self.with(|place, open| place.version(open)).await.ok() })
            .await;
    }
}

/// Makes the table of our own schema where there is none.
pub(super) fn create(settings: &Settings) -> Result<(), Error> {
    let place = Place { settings: settings.clone(), fingerprinter: Fingerprinter::new(&[]) };
    let made = fs::create_dir_all(super::directory_of(&settings.path)).and_then(|()| {
        // SQLite would make it readable for everybody.
        fs::OpenOptions::new().create_new(true).write(true).mode(0o600).open(&settings.path)
    });
    if let Err(error) = made
        && error.kind() != io::ErrorKind::AlreadyExists
    {
        return Err(place.unavailable(&format!("cannot create it: {}", error.kind())));
    }
    if !is_identifier(&settings.table) {
        return place.open().map(drop);
    }
    let connection = Connection::open(&settings.path).map_err(|error| place.failed(&error))?;
    connection.busy_timeout(settings.busy_timeout).map_err(|error| place.failed(&error))?;
    if !place.columns(&connection)?.is_empty() || settings.columns != Columns::simple() {
        return place.statements(&connection).map(drop);
    }
    connection
        .execute_batch(&SIMPLE_SCHEMA.replace("{table}", &settings.table))
        .map_err(|error| place.failed(&error))
}

/// Instants are seconds since the epoch.
const SIMPLE_SCHEMA: &str = r#"
BEGIN IMMEDIATE;
CREATE TABLE "{table}" (
    provider TEXT NOT NULL,
    account TEXT NOT NULL,
    app TEXT,
    owner TEXT,
    access_token TEXT,
    refresh_token TEXT,
    expires_at INTEGER,
    refresh_expires_at INTEGER,
    issued_at INTEGER,
    scopes TEXT,
    subject TEXT,
    enabled INTEGER NOT NULL DEFAULT 1,
    status TEXT,
    updated_at INTEGER NOT NULL DEFAULT (unixepoch()),
    PRIMARY KEY (provider, account)
);
CREATE TRIGGER "{table}_updated_at" AFTER UPDATE OF access_token, refresh_token, status ON "{table}"
BEGIN
    UPDATE "{table}" SET updated_at = unixepoch() WHERE rowid = NEW.rowid;
END;
COMMIT;
"#;
