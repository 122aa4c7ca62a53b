//! A store in a table of a SQLite database: our own simple schema, or columns of somebody else's.
//!
//! One connection reads single accounts and writes; a save is one immediate transaction. It is also the
//! one that asks for `PRAGMA data_version`, which does not move for a connection's own writes. The
//! publisher's journal mode and all columns that hold no token stay as they are.

use super::{
    Care, Error, Plan, Saved, Status, StoredAccount, TokenStore, blocking, check_new,
    columns::{self, Fault, Found, ROW_ID, Statements, is_identifier, quoted},
    fingerprint_once_saved, plan, times,
    watch::Watch,
};
use crate::{
    core::{AccountId, Fingerprint},
    oauth::{Fingerprinter, Token},
};
use rusqlite::{
    Connection, ErrorCode, OpenFlags, OptionalExtension, Transaction, TransactionBehavior,
};
use std::{
    collections::HashSet,
    fs,
    hash::{DefaultHasher, Hash, Hasher},
    io,
    os::unix::fs::{MetadataExt, OpenOptionsExt},
    path::PathBuf,
    sync::Arc,
    time::Duration,
};
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

impl Columns {
    /// Our own simple table, as [`super::create`] makes it.
    #[must_use]
    pub fn simple() -> Self {
        let name = |name: &str| Some(name.to_owned());
        let seconds =
            |name: &str| Some(TimeColumn { name: name.to_owned(), unit: TimeUnit::UnixSeconds });
        Self {
            account: "account".to_owned(),
            provider: ProviderColumn::Column("provider".to_owned()),
            access_token: "access_token".to_owned(),
            refresh_token: name("refresh_token"),
            expires_at: seconds("expires_at"),
            refresh_expires_at: seconds("refresh_expires_at"),
            issued_at: seconds("issued_at"),
            scopes: name("scopes"),
            subject: name("subject"),
            app: name("app"),
            owner: name("owner"),
            enabled: name("enabled"),
            status: Some(StatusColumn {
                name: "status".to_owned(),
                connected: Status::Connected.as_text().to_owned(),
                needs_reconnect: Status::NeedsReconnect.as_text().to_owned(),
            }),
        }
    }
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
pub struct SqliteStore {
    place: Arc<Place>,
    /// `None` until it is needed again after the file behind the path became another one.
    open: Arc<Mutex<Option<Open>>>,
    watch: Watch<Option<Version>>,
}

/// The table and how to read it.
struct Place {
    settings: Settings,
    fingerprinter: Fingerprinter,
}

struct Open {
    connection: Connection,
    statements: Statements,
    /// The column that numbers the rows; `None` for tables without one.
    row_id: Option<&'static str>,
    /// Device and inode. A publisher that restores a backup puts another file in its place; what we
    /// write to the old one then is gone.
    file: FileId,
}

type FileId = (u64, u64);

/// Changes with every commit of somebody else.
type Version = (FileId, i64);

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
            let (Some(sql), Some(column)) =
                (open.statements.update_status(), &place.settings.columns.status)
            else {
                return Ok(());
            };
            if !open.statements.holds_provider(&id.provider) {
                return Ok(());
            }
            let value = match status {
                Status::Connected => &column.connected,
                Status::NeedsReconnect => &column.needs_reconnect,
            };
            let key: [&str; 3] = [&id.account, &id.provider, value];
            open.connection.execute(&sql, key).map(drop).map_err(|error| place.failed(&error))
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

impl Place {
    fn open(&self) -> Result<Open, Error> {
        let file = self.file_id()?;
        let flags = OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_NO_MUTEX;
        let connection = Connection::open_with_flags(&self.settings.path, flags)
            .map_err(|error| self.failed(&error))?;
        connection
            .busy_timeout(self.settings.busy_timeout)
            .and_then(|()| connection.pragma_update(None, "synchronous", "FULL"))
            .map_err(|error| self.failed(&error))?;
        let statements = self.statements(&connection)?;
        let row_id = self.row_id(&connection)?;
        Ok(Open { connection, statements, row_id, file })
    }

    /// Checks the names, the table and every mapped column.
    fn statements(&self, connection: &Connection) -> Result<Statements, Error> {
        let Settings { table, columns, .. } = &self.settings;
        let mapped = columns::mapped(columns);
        if let Some(name) =
            mapped.iter().copied().chain([table.as_str()]).find(|name| !is_identifier(name))
        {
            return Err(self.damaged(format!(
                "the name `{}` must consist of letters, digits and underscores",
                name.escape_debug()
            )));
        }
        let there = self.columns(connection)?;
        if there.is_empty() {
            let tables = self.names(
                connection,
                "SELECT name FROM sqlite_schema WHERE type IN ('table', 'view') \
                 AND name NOT LIKE 'sqlite_%' ORDER BY name LIMIT 50",
            )?;
            return Err(self.damaged(format!("there is no table `{table}`; there is: {tables}")));
        }
        let has = |name: &str| there.iter().any(|(column, _)| column.eq_ignore_ascii_case(name));
        if let Some(missing) = mapped.into_iter().find(|name| !has(name)) {
            let names = there.iter().map(|(name, _)| name.as_str()).collect::<Vec<_>>().join(", ");
            return Err(self.damaged(format!(
                "table `{table}` has no column `{missing}`; its columns are: {names}"
            )));
        }
        let not_null = there
            .into_iter()
            .filter(|(_, not_null)| *not_null)
            .map(|(name, _)| name.to_ascii_lowercase())
            .collect();
        Ok(Statements::new(&self.settings, not_null))
    }

    fn columns(&self, connection: &Connection) -> Result<Vec<(String, bool)>, Error> {
        connection
            .prepare("SELECT name, \"notnull\" FROM pragma_table_xinfo(?1)")
            .and_then(|mut statement| {
                statement
                    .query_map([&self.settings.table], |row| Ok((row.get(0)?, row.get(1)?)))?
                    .collect()
            })
            .map_err(|error| self.failed(&error))
    }

    fn names(&self, connection: &Connection, sql: &str) -> Result<String, Error> {
        connection
            .prepare(sql)
            .and_then(|mut statement| {
                statement.query_map([], |row| row.get(0))?.collect::<Result<Vec<String>, _>>()
            })
            .map(|names| if names.is_empty() { "none".to_owned() } else { names.join(", ") })
            .map_err(|error| self.failed(&error))
    }

    /// A name for the row number that no column of the table takes for itself.
    fn row_id(&self, connection: &Connection) -> Result<Option<&'static str>, Error> {
        let there = self.columns(connection)?;
        let free = ["rowid", "_rowid_", "oid"]
            .into_iter()
            .find(|name| !there.iter().any(|(column, _)| column.eq_ignore_ascii_case(name)));
        let is_table = connection
            .query_row(
                "SELECT 1 FROM sqlite_schema WHERE type = 'table' AND name = ?1 COLLATE NOCASE",
                [&self.settings.table],
                |_| Ok(()),
            )
            .optional()
            .map_err(|error| self.failed(&error))?
            .is_some();
        Ok(free.filter(|name| {
            let sql = format!("SELECT t.{name} FROM {} AS t", quoted(&self.settings.table));
            is_table && connection.prepare(&sql).is_ok()
        }))
    }

    /// Reads page by page: an open statement would keep the publisher from writing while we wait for
    /// whoever takes the rows.
    fn load(&self, open: &Open, rows: &mut blocking::Rows<'_>) -> Result<(), Error> {
        let mut seen = HashSet::new();
        let Some(row_id) = open.row_id else {
            let (page, _) = self.page(open, &open.statements.select_all(), &[], &mut seen)?;
            let _ = page.into_iter().try_for_each(rows);
            return Ok(());
        };
        let sql = open.statements.select_page(row_id);
        let mut behind = i64::MIN;
        loop {
            let (page, last) = self.page(open, &sql, &[behind, PAGE_ROWS], &mut seen)?;
            if page.into_iter().try_for_each(&mut *rows).is_break() {
                return Ok(());
            }
            let Some(last) = last else { return Ok(()) };
            behind = last;
        }
    }

    /// The rows of one page, and the number of the last one.
    fn page(
        &self,
        open: &Open,
        sql: &str,
        parameters: &[i64],
        seen: &mut HashSet<u64>,
    ) -> Result<Page, Error> {
        let failed = |error| self.failed(&error);
        let mut statement = open.connection.prepare(sql).map_err(failed)?;
        let mut found = statement.query(rusqlite::params_from_iter(parameters)).map_err(failed)?;
        let mut page = Vec::new();
        let mut last = None;
        while let Some(row) = found.next().map_err(failed)? {
            last = row.get(ROW_ID).map_err(failed)?;
            let read = open.statements.read(row, Care::All).map_err(|fault| {
                let name = open.statements.read_id(row).map_or_else(
                    |_| last.map_or("without a number".to_owned(), |n| format!("number {n}")),
                    |id| id.to_string(),
                );
                self.damaged_row(&name, fault)
            });
            page.push(read.and_then(|found| self.once(open, found, seen)));
        }
        Ok((page, last))
    }

    /// Refuses the second row of an account. Eight bytes are remembered for each account instead of its
    /// name; when two look the same the table is asked.
    fn once(
        &self,
        open: &Open,
        found: Found,
        seen: &mut HashSet<u64>,
    ) -> Result<StoredAccount, Error> {
        let id = &found.account.id;
        let mut hasher = DefaultHasher::new();
        id.hash(&mut hasher);
        if !seen.insert(hasher.finish()) {
            let key: [&str; 2] = [&id.account, &id.provider];
            let rows: i64 = open
                .connection
                .prepare(&open.statements.count_one())
                .and_then(|mut statement| statement.query_row(key, |row| row.get(0)))
                .map_err(|error| self.failed(&error))?;
            if rows > 1 {
                return Err(self.twice(id));
            }
        }
        Ok(found.account)
    }

    fn find(
        &self,
        connection: &Connection,
        statements: &Statements,
        id: &AccountId,
        care: Care,
    ) -> Result<Option<Found>, Error> {
        if !statements.holds_provider(&id.provider) {
            return Ok(None);
        }
        let failed = |error| self.failed(&error);
        let mut statement = connection.prepare(&statements.select_one()).map_err(failed)?;
        let key: [&str; 2] = [&id.account, &id.provider];
        let mut rows = statement.query(key).map_err(failed)?;
        let Some(row) = rows.next().map_err(failed)? else { return Ok(None) };
        let found =
            statements.read(row, care).map_err(|fault| self.damaged_row(&id.to_string(), fault))?;
        // A number column finds 7 for `007`, a column without case finds `a` for `A`.
        if found.account.id != *id {
            return Ok(None);
        }
        if rows.next().map_err(failed)?.is_some() {
            return Err(self.twice(id));
        }
        Ok(Some(found))
    }

    fn save(
        &self,
        open: &mut Open,
        id: &AccountId,
        token: &Token,
        expected: Fingerprint,
    ) -> Result<Saved, Error> {
        let Open { connection, statements, .. } = open;
        let transaction = self.begin(connection)?;
        let Some(found) = self.find(&transaction, statements, id, Care::TokenOnly)? else {
            return Ok(Saved::Gone);
        };
        let old = found.account.token.as_ref();
        if let Plan::Nothing(saved) = plan(&self.fingerprinter, old, token, expected) {
            return Ok(saved);
        }
        let old = old.expect("only a stored token can be the expected one");
        let written = fingerprint_once_saved(&self.fingerprinter, old, token);
        let form_of = |column: &str| self.sample(&transaction, statements, column);
        let Some((sql, values)) = statements.update(id, &found, token, form_of) else {
            return Ok(Saved::AlreadyThere);
        };
        let rows = transaction
            .execute(&sql, rusqlite::params_from_iter(values))
            .map_err(|error| self.failed(&error))?;
        if rows != 1 {
            return Err(self.twice(id));
        }
        transaction.commit().map_err(|error| self.failed(&error))?;
        self.read_back(connection, statements, id, written)
    }

    fn read_back(
        &self,
        connection: &Connection,
        statements: &Statements,
        id: &AccountId,
        written: Fingerprint,
    ) -> Result<Saved, Error> {
        let token = self
            .find(connection, statements, id, Care::TokenOnly)?
            .and_then(|found| found.account.token);
        if token.map(|token| self.fingerprinter.of_token(&token)) == Some(written) {
            return Ok(Saved::Written);
        }
        Err(self.damaged(format!(
            "row of {id}: the token read back is not the one just written; a trigger or another \
             program changes it"
        )))
    }

    fn add(&self, open: &mut Open, account: &StoredAccount) -> Result<Saved, Error> {
        let Open { connection, statements, .. } = open;
        let id = &account.id;
        if !statements.holds_provider(&id.provider) {
            return Err(self.damaged(format!(
                "{id} cannot be added: all rows of this table belong to another provider"
            )));
        }
        let transaction = self.begin(connection)?;
        if self.find(&transaction, statements, id, Care::TokenOnly)?.is_some() {
            return Ok(Saved::Conflict);
        }
        let (sql, values) = statements.insert(account);
        transaction
            .execute(&sql, rusqlite::params_from_iter(values))
            .and_then(|_| transaction.commit())
            .map_err(|error| self.failed(&error))?;
        Ok(Saved::Written)
    }

    /// How the other rows of a column write a date.
    fn sample(
        &self,
        connection: &Connection,
        statements: &Statements,
        column: &str,
    ) -> Option<times::Form> {
        let text = connection
            .query_row(&statements.select_sample(column), [], |row| row.get::<_, String>(0))
            .ok()?;
        times::parse_text(&text).map(|(_, form)| times::Form::Text(form))
    }

    fn begin<'c>(&self, connection: &'c mut Connection) -> Result<Transaction<'c>, Error> {
        connection
            .transaction_with_behavior(TransactionBehavior::Immediate)
            .map_err(|error| self.failed(&error))
    }

    fn version(&self, open: &Open) -> Result<Version, Error> {
        let version = open.connection.query_row("PRAGMA data_version", [], |row| row.get(0));
        Ok((open.file, version.map_err(|error| self.failed(&error))?))
    }

    fn file_id(&self) -> Result<FileId, Error> {
        let data = fs::metadata(&self.settings.path)
            .map_err(|error| self.unavailable(&format!("cannot find it: {}", error.kind())))?;
        Ok((data.dev(), data.ino()))
    }

    fn directories(&self) -> Vec<PathBuf> {
        super::directories_of(&self.settings.path)
    }

    /// SQLite's own messages may quote what a trigger or a check makes of a value, so each kind of
    /// failure has a sentence of ours.
    fn failed(&self, error: &rusqlite::Error) -> Error {
        let code = error.sqlite_error_code();
        let reason = match code {
            Some(ErrorCode::DatabaseBusy | ErrorCode::DatabaseLocked) => {
                "another program holds its lock for longer than the busy timeout"
            }
            Some(ErrorCode::ReadOnly) => "it is read-only for this user",
            Some(ErrorCode::CannotOpen | ErrorCode::PermissionDenied) => {
                "it or its directory cannot be opened"
            }
            Some(ErrorCode::DiskFull) => "the disk is full",
            Some(ErrorCode::SystemIoFailure) => "the disk reports an I/O error",
            Some(ErrorCode::OutOfMemory) => "there is not enough memory",
            Some(ErrorCode::FileLockingProtocolFailed | ErrorCode::OperationInterrupted) => {
                "the operation was interrupted"
            }
            Some(ErrorCode::NotADatabase) => {
                return self
                    .damaged("the file is no SQLite database, or it is encrypted".to_owned());
            }
            Some(ErrorCode::DatabaseCorrupt) => {
                return self.damaged("SQLite reports that the file is corrupt".to_owned());
            }
            Some(ErrorCode::ConstraintViolation) => {
                return self.damaged(format!(
                    "table `{}` refuses the change by one of its constraints; a column without a \
                     default may have to be filled by the publisher",
                    self.settings.table
                ));
            }
            _ => {
                return self.damaged(format!(
                    "a statement on table `{}` failed ({}); was the table changed since the start?",
                    self.settings.table,
                    code.map_or_else(|| "no code".to_owned(), |code| format!("{code:?}")),
                ));
            }
        };
        self.unavailable(reason)
    }

    fn damaged_row(&self, row: &str, fault: Fault) -> Error {
        Error::Damaged {
            place: format!(
                "{}, table {}, row {}, column {}",
                self.settings.path.display(),
                self.settings.table,
                row.escape_debug(),
                fault.column
            ),
            reason: fault.reason,
        }
    }

    fn twice(&self, id: &AccountId) -> Error {
        let column = self.settings.columns.account.clone();
        let reason =
            "several rows have this account; the column must be unique together with the provider";
        self.damaged_row(&id.to_string(), Fault { column, reason: reason.to_owned() })
    }

    fn damaged(&self, reason: String) -> Error {
        Error::Damaged { place: self.settings.path.display().to_string(), reason }
    }

    fn unavailable(&self, reason: &str) -> Error {
        Error::Unavailable {
            place: self.settings.path.display().to_string(),
            reason: reason.to_owned(),
        }
    }
}

/// What a page holds, and the number of its last row.
type Page = (Vec<Result<StoredAccount, Error>>, Option<i64>);

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
/// Rows, and so tokens, that are read before they are handed out.
const PAGE_ROWS: i64 = 256;
