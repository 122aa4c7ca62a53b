//! Work on one open table, on a thread that may block: read, page through, compare and set.

use super::{
    Care, Error, Plan, Saved, StoredAccount, blocking,
    cells::{Cell, Cells, Fault, Value},
    columns::{self, is_identifier},
    dialect::{Column, ColumnKind, Dialect, Query},
    fingerprint_once_saved, plan,
    sqlite::Settings,
    statements::{Found, ROW_ID, Samples, Statements},
    times,
};
use crate::{
    core::{AccountId, Fingerprint},
    oauth::{Fingerprinter, Token},
};
use rusqlite::{
    Connection, ErrorCode, OpenFlags, OptionalExtension, Row, ToSql, Transaction,
    TransactionBehavior,
    types::{ToSqlOutput, ValueRef},
};
use std::{
    collections::HashSet,
    fs,
    hash::{DefaultHasher, Hash, Hasher},
    os::unix::fs::MetadataExt,
    path::PathBuf,
};

/// The table and how to read it.
pub(super) struct Place {
    pub(super) settings: Settings,
    pub(super) fingerprinter: Fingerprinter,
}

pub(super) struct Open {
    pub(super) connection: Connection,
    pub(super) statements: Statements,
    /// The column that numbers the rows; `None` for tables without one.
    row_id: Option<&'static str>,
    /// Device and inode. A publisher that restores a backup puts another file in its place; what we
    /// write to the old one then is gone.
    pub(super) file: FileId,
}

pub(super) type FileId = (u64, u64);

/// Changes with every commit of somebody else.
pub(super) type Version = (FileId, i64);

impl Place {
    pub(super) fn open(&self) -> Result<Open, Error> {
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
    pub(super) fn statements(&self, connection: &Connection) -> Result<Statements, Error> {
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
        let catalogue = there
            .into_iter()
            .map(|(name, not_null)| Column {
                name,
                kind: ColumnKind::Anything,
                sql_type: String::new(),
                not_null,
            })
            .collect();
        let table = Dialect::Sqlite.quoted(table);
        Ok(Statements::new(Dialect::Sqlite, table, columns.clone(), catalogue))
    }

    pub(super) fn columns(&self, connection: &Connection) -> Result<Vec<(String, bool)>, Error> {
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
            let sql = format!(
                "SELECT t.{name} FROM {} AS t",
                Dialect::Sqlite.quoted(&self.settings.table)
            );
            is_table && connection.prepare(&sql).is_ok()
        }))
    }

    /// Reads page by page: an open statement would keep the publisher from writing while we wait for
    /// whoever takes the rows.
    pub(super) fn load(&self, open: &Open, rows: &mut blocking::Rows<'_>) -> Result<(), Error> {
        let mut seen = HashSet::new();
        let Some(row_id) = open.row_id else {
            let (page, _) = self.page(open, &open.statements.select_all().sql, &[], &mut seen)?;
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
                match (open.statements.read_id(row), last) {
                    (Ok(id), _) => self.damaged_row(&id.to_string(), fault).of(&id),
                    (Err(_), Some(number)) => self.damaged_row(&format!("number {number}"), fault),
                    (Err(_), None) => self.damaged_row("without a number", fault),
                }
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
            let Query { sql, values } = open.statements.count_one(id);
            let rows: String = open
                .connection
                .query_row(&sql, rusqlite::params_from_iter(values), |row| row.get(0))
                .map_err(|error| self.failed(&error))?;
            if rows != "1" {
                return Err(self.twice(id));
            }
        }
        Ok(found.account)
    }

    pub(super) fn find(
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
        let Query { sql, values } = statements.select_one(id);
        let mut statement = connection.prepare(&sql).map_err(failed)?;
        let mut rows = statement.query(rusqlite::params_from_iter(values)).map_err(failed)?;
        let Some(row) = rows.next().map_err(failed)? else { return Ok(None) };
        let found = statements
            .read(row, care)
            .map_err(|fault| self.damaged_row(&id.to_string(), fault).of(id))?;
        // A number column finds 7 for `007`, a column without case finds `a` for `A`.
        if found.account.id != *id {
            return Ok(None);
        }
        if rows.next().map_err(failed)?.is_some() {
            return Err(self.twice(id));
        }
        Ok(Some(found))
    }

    pub(super) fn save(
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
        let written = fingerprint_once_saved(&self.fingerprinter, old, token);
        let samples = self.samples(&transaction, statements, &found);
        let Some(Query { sql, values }) = statements.update(id, &found, token, &samples) else {
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

    pub(super) fn add(&self, open: &mut Open, account: &StoredAccount) -> Result<Saved, Error> {
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
        let Query { sql, values } = statements.insert(account);
        transaction
            .execute(&sql, rusqlite::params_from_iter(values))
            .and_then(|_| transaction.commit())
            .map_err(|error| self.failed(&error))?;
        Ok(Saved::Written)
    }

    /// How other rows write the dates that this one does not have.
    fn samples(&self, connection: &Connection, statements: &Statements, found: &Found) -> Samples {
        let sample = |column: &&str| {
            let sql = statements.select_sample(column).sql;
            let text = connection.query_row(&sql, [], |row| row.get::<_, String>(0)).ok()?;
            let (_, form) = times::parse_text(&text)?;
            Some(((*column).to_owned(), times::Form::Text(form)))
        };
        statements.without_form(found).iter().filter_map(sample).collect()
    }

    pub(super) fn begin<'c>(
        &self,
        connection: &'c mut Connection,
    ) -> Result<Transaction<'c>, Error> {
        connection
            .transaction_with_behavior(TransactionBehavior::Immediate)
            .map_err(|error| self.failed(&error))
    }

    pub(super) fn version(&self, open: &Open) -> Result<Version, Error> {
        let version = open.connection.query_row("PRAGMA data_version", [], |row| row.get(0));
        Ok((open.file, version.map_err(|error| self.failed(&error))?))
    }

    pub(super) fn file_id(&self) -> Result<FileId, Error> {
        let data = fs::metadata(&self.settings.path)
            .map_err(|error| self.unavailable(&format!("cannot find it: {}", error.kind())))?;
        Ok((data.dev(), data.ino()))
    }

    pub(super) fn directories(&self) -> Vec<PathBuf> {
        super::directories_of(&self.settings.path)
    }

    /// SQLite's own messages may quote what a trigger or a check makes of a value, so each kind of
    /// failure has a sentence of ours.
    pub(super) fn failed(&self, error: &rusqlite::Error) -> Error {
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
        self.damaged_row(&id.to_string(), Fault { column, reason: reason.to_owned() }).of(id)
    }

    fn damaged(&self, reason: String) -> Error {
        Error::Damaged { place: self.settings.path.display().to_string(), reason }
    }

    pub(super) fn unavailable(&self, reason: &str) -> Error {
        Error::Unavailable {
            place: self.settings.path.display().to_string(),
            reason: reason.to_owned(),
        }
    }
}

impl Cells for Row<'_> {
    fn cell(&self, at: usize) -> Cell<'_> {
        match self.get_ref(at).expect("the list of columns has this many entries") {
            ValueRef::Null => Cell::Null,
            ValueRef::Integer(number) => Cell::Integer(number),
            ValueRef::Real(number) => Cell::Real(number),
            ValueRef::Text(text) => Cell::Text(text),
            ValueRef::Blob(bytes) => Cell::Bytes(bytes),
        }
    }
}

impl ToSql for Value {
    fn to_sql(&self) -> rusqlite::Result<ToSqlOutput<'_>> {
        Ok(ToSqlOutput::Borrowed(match self {
            Self::Null => ValueRef::Null,
            Self::Integer(number) => ValueRef::Integer(*number),
            Self::Real(number) => ValueRef::Real(*number),
            Self::Text(text) => ValueRef::Text(text.as_bytes()),
            Self::Bytes(bytes) => ValueRef::Blob(bytes),
        }))
    }
}

/// What a page holds, and the number of its last row.
type Page = (Vec<Result<StoredAccount, Error>>, Option<i64>);

/// Rows, and so tokens, that are read before they are handed out.
const PAGE_ROWS: i64 = 256;
