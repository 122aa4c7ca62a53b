//! The SQL of a column map, and rows read through it. Opens nothing and knows no library.

use super::{
    Care, Status, StoredAccount,
    cells::{Cells, Fault, Value, instant, is_true, name, optional_text, text, text_value, whole},
    columns::{Columns, ProviderColumn, TimeColumn, TimeUnit, mapped},
    dialect::{Binder, Column, ColumnKind, Dialect, Query},
    effective_refresh, is_absent, scopes_from_text, scopes_to_text,
    times::{self, Form, TextForm},
};
use crate::{
    core::{AccountId, Secret, Timestamp},
    oauth::Token,
};
use std::collections::HashMap;

/// The statements for one table. Every identifier was checked and is quoted.
pub(super) struct Statements {
    dialect: Dialect,
    columns: Columns,
    fixed_provider: Option<String>,
    /// What the mapped columns are in the catalogue.
    layout: Vec<Column>,
    /// In the order of the constants below; what is not mapped is `NULL`.
    list: String,
    /// Changes with every column of the list; counted over a table it tells whether anything changed.
    row_hash: String,
    /// Quoted, with its schema where that was given.
    table: String,
}

/// A row: what it means, and the token columns exactly as they are, for the compare in the update.
pub(super) struct Found {
    pub(super) account: StoredAccount,
    raw_access: Value,
    raw_refresh: Value,
    /// The texts that instants and scopes had, to be written back alike.
    forms: Forms,
}

struct Forms {
    expires_at: Option<Form>,
    refresh_expires_at: Option<Form>,
    issued_at: Option<Form>,
    scopes: Option<String>,
}

/// How the other rows of a column write a date, for a row that has none yet.
pub(super) type Samples = HashMap<String, Form>;

impl Statements {
    /// For `table`, which is quoted already, with the column map `columns`; `catalogue` are the columns
    /// that the table has, and has all that are mapped.
    pub(super) fn new(
        dialect: Dialect,
        table: String,
        mut columns: Columns,
        catalogue: Vec<Column>,
    ) -> Self {
        let layout: Vec<_> = mapped(&columns)
            .into_iter()
            .filter_map(|name| {
                catalogue.iter().find(|column| dialect.same_name(&column.name, name))
            })
            .cloned()
            .collect();
        // A column of dates is read and written as text, whatever unit a number in it would have.
        let times =
            [&mut columns.expires_at, &mut columns.refresh_expires_at, &mut columns.issued_at];
        for time in times.into_iter().flatten() {
            if layout.iter().any(|column| {
                dialect.same_name(&column.name, &time.name) && column.kind == ColumnKind::Date
            }) {
                time.unit = TimeUnit::Text;
            }
        }
        let fixed_provider = match &columns.provider {
            ProviderColumn::Column(_) => None,
            ProviderColumn::Fixed(name) => Some(name.clone()),
        };
        let mut statements = Self {
            dialect,
            columns,
            fixed_provider,
            layout,
            list: String::new(),
            row_hash: String::new(),
            table,
        };
        let selected = statements.selected();
        let reads: Vec<_> = selected.iter().flatten().cloned().collect();
        statements.row_hash = dialect.row_hash(&reads);
        statements.list = selected
            .into_iter()
            .map(|read| read.unwrap_or_else(|| "NULL".to_owned()))
            .collect::<Vec<_>>()
            .join(", ");
        statements
    }

    /// True when this table can hold accounts of `provider`.
    pub(super) fn holds_provider(&self, provider: &str) -> bool {
        self.fixed_provider.as_deref().is_none_or(|fixed| fixed == provider)
    }

    /// One account's rows. More than one is a fault of the table, so two are asked for.
    pub(super) fn select_one(&self, id: &AccountId) -> Query {
        self.of_account(id, |key| {
            format!("SELECT {} FROM {} AS t WHERE {key} LIMIT 2", self.list, self.table)
        })
    }

    /// The same, and nobody else writes them until the transaction ends.
    pub(super) fn lock_one(&self, id: &AccountId) -> Query {
        let Query { sql, values } = self.select_one(id);
        Query { sql: format!("{sql} FOR UPDATE"), values }
    }

    /// Nobody else writes the account's rows until the transaction ends; nothing of them is read.
    pub(super) fn lock_only(&self, id: &AccountId) -> Query {
        self.of_account(id, |key| format!("SELECT FROM {} AS t WHERE {key} FOR UPDATE", self.table))
    }

    /// An error unless the account has one row, which holds the token that a save of `new` over `found`
    /// makes. In a transaction whose statements are all sent at once an error is the only way to stop.
    pub(super) fn check_saved(&self, id: &AccountId, found: &Found, new: &Token) -> Query {
        let mut binder = Binder::new(self.dialect);
        let access = self.column(&self.columns.access_token);
        let mut holds = self.dialect.still(&access, text_value(new.access.expose()), &mut binder);
        if let Some(refresh) = &self.columns.refresh_token {
            let written = new.refresh.as_ref().filter(|refresh| !is_absent(refresh.expose()));
            let written = written
                .map_or_else(|| found.raw_refresh.clone(), |refresh| text_value(refresh.expose()));
            let refresh = self.dialect.still(&self.column(refresh), written, &mut binder);
            holds.push_str(&format!(" AND {refresh}"));
        }
        let key = self.key(id, &mut binder);
        let (table, is_right) = (&self.table, format!("count(*) = 1 AND bool_and({holds})"));
        binder.query(format!(
            "SELECT 1 / CASE WHEN {is_right} THEN 1 ELSE 0 END FROM {table} AS t WHERE {key}"
        ))
    }

    /// How many rows an account has.
    pub(super) fn count_one(&self, id: &AccountId) -> Query {
        let count = self.dialect.as_text("count(*)");
        self.of_account(id, |key| format!("SELECT {count} FROM {} AS t WHERE {key}", self.table))
    }

    /// How many rows an account has, and what changes with them.
    pub(super) fn digest_one(&self, id: &AccountId) -> Query {
        let digest = self.digest();
        self.of_account(id, |key| format!("SELECT {digest} FROM {} AS t WHERE {key}", self.table))
    }

    /// The same for the whole table; the server reads all of it, and sends one line.
    pub(super) fn digest_all(&self) -> Query {
        self.alone(format!("SELECT {} FROM {} AS t", self.digest(), self.table))
    }

    /// The number of rows and the last value of a column that moves with every change.
    pub(super) fn newest(&self, change_column: &str) -> Query {
        let newest = format!("max({})", self.dialect.of_table(change_column));
        self.alone(format!(
            "SELECT {}, {} FROM {} AS t",
            self.dialect.as_text("count(*)"),
            self.dialect.as_text(&newest),
            self.table
        ))
    }

    /// A page of all rows in the order of `row_id`, behind the row ?1, at most ?2 of them.
    pub(super) fn select_page(&self, row_id: &str) -> String {
        format!(
            "SELECT {}, t.{row_id} FROM {} AS t WHERE t.{row_id} > ?1 ORDER BY t.{row_id} LIMIT ?2",
            self.list, self.table
        )
    }

    /// All rows at once.
    pub(super) fn select_all(&self) -> Query {
        self.alone(format!("SELECT {}, NULL FROM {} AS t", self.list, self.table))
    }

    /// An update of every column that a save may write, which meets no row: it is refused where a save
    /// would be.
    pub(super) fn update_none(&self) -> Query {
        let columns = &self.columns;
        let times = [&columns.expires_at, &columns.refresh_expires_at, &columns.issued_at];
        let set = [Some(&columns.access_token), columns.refresh_token.as_ref()]
            .into_iter()
            .chain(times.into_iter().map(|time| time.as_ref().map(|time| &time.name)))
            .chain([columns.scopes.as_ref(), columns.status.as_ref().map(|status| &status.name)])
            .flatten()
            .map(|name| format!("{0} = {0}", self.dialect.quoted(name)))
            .collect::<Vec<_>>()
            .join(", ");
        self.alone(format!("UPDATE {} SET {set} WHERE 1 = 0", self.table))
    }

    /// The update of one account's token if its token columns are what they were. `None` when nothing
    /// would change.
    pub(super) fn update(
        &self,
        id: &AccountId,
        found: &Found,
        new: &Token,
        samples: &Samples,
    ) -> Option<Query> {
        let changes = self.changes(found, new, samples);
        if changes.is_empty() {
            return None;
        }
        let mut binder = Binder::new(self.dialect);
        let set = self.assignments(changes, &mut binder);
        let key = self.key(id, &mut binder);
        let access = self.column(&self.columns.access_token);
        let mut unchanged = self.dialect.still(&access, found.raw_access.clone(), &mut binder);
        if let Some(refresh) = &self.columns.refresh_token {
            let column = self.column(refresh);
            let raw = self.dialect.still(&column, found.raw_refresh.clone(), &mut binder);
            unchanged.push_str(&format!(" AND {raw}"));
        }
        let sql = format!("UPDATE {} AS t SET {set} WHERE {key} AND {unchanged}", self.table);
        Some(binder.query(sql))
    }

    /// The update of one account's status; `None` where there is no such column.
    pub(super) fn update_status(&self, id: &AccountId, status: Status) -> Option<Query> {
        let map = self.columns.status.as_ref()?;
        let value = text_value(match status {
            Status::Connected => &map.connected,
            Status::NeedsReconnect => &map.needs_reconnect,
        });
        let column = self.column(&map.name);
        let mut binder = Binder::new(self.dialect);
        let set = self.assignments(vec![(map.name.clone(), value.clone())], &mut binder);
        let key = self.key(id, &mut binder);
        let differs = self.dialect.differs(&column, value, &mut binder);
        let sql = format!("UPDATE {} AS t SET {set} WHERE {key} AND {differs}", self.table);
        Some(binder.query(sql))
    }

    /// The insertion of an account.
    pub(super) fn insert(&self, account: &StoredAccount) -> Query {
        let mut binder = Binder::new(self.dialect);
        let (names, marks): (Vec<_>, Vec<_>) = self
            .new_row(account)
            .into_iter()
            .map(|(name, value)| {
                (self.dialect.quoted(&name), binder.bind_as(value, &self.column(&name)))
            })
            .unzip();
        let (names, marks) = (names.join(", "), marks.join(", "));
        binder.query(format!("INSERT INTO {} ({names}) VALUES ({marks})", self.table))
    }

    /// Columns in which `found` has no date that would show how one is written there.
    pub(super) fn without_form(&self, found: &Found) -> Vec<&str> {
        let (columns, forms) = (&self.columns, &found.forms);
        [
            (&columns.expires_at, &forms.expires_at),
            (&columns.refresh_expires_at, &forms.refresh_expires_at),
            (&columns.issued_at, &forms.issued_at),
        ]
        .into_iter()
        .filter(|(_, form)| form.is_none())
        .filter_map(|(column, _)| column.as_ref())
        .filter(|column| column.unit == TimeUnit::Text)
        .map(|column| column.name.as_str())
        .filter(|name| self.column(name).kind != ColumnKind::Date)
        .collect()
    }

    /// One date of a column, to see how they are written there.
    pub(super) fn select_sample(&self, column: &str) -> Query {
        let name = self.dialect.of_table(column);
        let read = self.dialect.read(&self.column(column));
        self.alone(format!(
            "SELECT {read} FROM {} AS t WHERE {name} IS NOT NULL AND {name} <> '' LIMIT 1",
            self.table
        ))
    }

    /// Reads a row that was selected with this list.
    pub(super) fn read(&self, row: &impl Cells, care: Care) -> Result<Found, Fault> {
        let id = self.read_id(row)?;
        let columns = &self.columns;
        let access = text(row, ACCESS, &columns.access_token)?;
        let refresh = optional_text(row, REFRESH, columns.refresh_token.as_ref())?;
        let (expires_at, expires_form) =
            care.beside_token(instant(row, EXPIRES_AT, columns.expires_at.as_ref()))?;
        let (refresh_expires_at, refresh_expires_form) = care.beside_token(instant(
            row,
            REFRESH_EXPIRES_AT,
            columns.refresh_expires_at.as_ref(),
        ))?;
        let (issued_at, issued_form) =
            care.beside_token(instant(row, ISSUED_AT, columns.issued_at.as_ref()))?;
        let scopes = care.beside_token(optional_text(row, SCOPES, columns.scopes.as_ref()))?;
        let subject = care.beside_token(name(row, SUBJECT, columns.subject.as_ref()))?;
        let token = access.filter(|access| !is_absent(access)).map(|access| {
            times::without_sentinels(Token {
                access: Secret::new(access.to_owned()),
                refresh: refresh
                    .filter(|refresh| !is_absent(refresh))
                    .map(|refresh| Secret::new(refresh.to_owned())),
                issued_at,
                expires_at,
                refresh_expires_at,
                scopes: scopes.and_then(scopes_from_text),
                subject: subject.clone(),
            })
        });
        let account = StoredAccount {
            id,
            subject,
            app: care.beside_token(name(row, APP, columns.app.as_ref()))?.map(Into::into),
            owner: care
                .beside_token(optional_text(row, OWNER, columns.owner.as_ref()))?
                .filter(|owner| !owner.trim().is_empty())
                .map(|owner| Secret::new(owner.to_owned())),
            token,
            enabled: columns.enabled.is_none() || is_true(row.cell(ENABLED)),
        };
        Ok(Found {
            account,
            raw_access: whole(row.cell(ACCESS)),
            raw_refresh: whole(row.cell(REFRESH)),
            forms: Forms {
                expires_at: expires_form,
                refresh_expires_at: refresh_expires_form,
                issued_at: issued_form,
                scopes: scopes.map(str::to_owned),
            },
        })
    }

    /// Whose row it is.
    pub(super) fn read_id(&self, row: &impl Cells) -> Result<AccountId, Fault> {
        let account_column = &self.columns.account;
        let account = name(row, ACCOUNT, Some(account_column))?.unwrap_or_default();
        let (provider, provider_column) = match &self.columns.provider {
            ProviderColumn::Fixed(provider) => (provider.clone(), "provider"),
            ProviderColumn::Column(column) => {
                (name(row, PROVIDER, Some(column))?.unwrap_or_default(), column.as_str())
            }
        };
        super::checked_id(&provider, &account).map_err(|(which, reason)| Fault {
            column: if which == "account" { account_column } else { provider_column }.to_owned(),
            reason,
        })
    }

    fn alone(&self, sql: String) -> Query {
        Binder::new(self.dialect).query(sql)
    }

    fn of_account(&self, id: &AccountId, sql: impl FnOnce(String) -> String) -> Query {
        let mut binder = Binder::new(self.dialect);
        let key = self.key(id, &mut binder);
        binder.query(sql(key))
    }

    fn key(&self, id: &AccountId, binder: &mut Binder) -> String {
        let account = self.dialect.equals(&self.column(&self.columns.account), &id.account, binder);
        match &self.columns.provider {
            ProviderColumn::Fixed(_) => account,
            ProviderColumn::Column(name) => {
                let provider = self.dialect.equals(&self.column(name), &id.provider, binder);
                format!("{account} AND {provider}")
            }
        }
    }

    fn digest(&self) -> String {
        let sum = format!("COALESCE(sum({}), 0)", self.row_hash);
        format!("{}, {}", self.dialect.as_text("count(*)"), self.dialect.as_text(&sum))
    }

    fn selected(&self) -> [Option<String>; 12] {
        let columns = &self.columns;
        let provider = match &columns.provider {
            ProviderColumn::Column(name) => Some(name),
            ProviderColumn::Fixed(_) => None,
        };
        let time =
            |column: &'_ Option<TimeColumn>| column.as_ref().map(|column| column.name.clone());
        [
            provider.cloned(),
            Some(columns.account.clone()),
            Some(columns.access_token.clone()),
            columns.refresh_token.clone(),
            time(&columns.expires_at),
            time(&columns.refresh_expires_at),
            time(&columns.issued_at),
            columns.scopes.clone(),
            columns.subject.clone(),
            columns.app.clone(),
            columns.owner.clone(),
            columns.enabled.clone(),
        ]
        .map(|name| name.map(|name| self.dialect.read(&self.column(&name))))
    }

    /// A mapped column. One that the catalogue lacks is an untyped one: the statement that names it then
    /// fails with a message of the database, and nothing else does.
    fn column(&self, name: &str) -> Column {
        let found = self.layout.iter().find(|column| self.dialect.same_name(&column.name, name));
        found.cloned().unwrap_or_else(|| Column {
            name: name.to_owned(),
            kind: ColumnKind::Anything,
            sql_type: "text".to_owned(),
            not_null: false,
        })
    }

    fn assignments(&self, changes: Vec<(String, Value)>, binder: &mut Binder) -> String {
        changes
            .into_iter()
            .map(|(name, value)| {
                let value = binder.bind_as(value, &self.column(&name));
                format!("{} = {value}", self.dialect.quoted(&name))
            })
            .collect::<Vec<_>>()
            .join(", ")
    }

    fn changes(&self, found: &Found, new: &Token, samples: &Samples) -> Vec<(String, Value)> {
        let old = found.account.token.as_ref();
        let columns = &self.columns;
        let mut changes = Vec::new();
        if old.is_none_or(|old| old.access != new.access) {
            changes.push((columns.access_token.clone(), text_value(new.access.expose())));
        }
        if let Some(column) = &columns.refresh_token
            && let Some(refresh) = effective_refresh(new, old)
            && old.and_then(|old| old.refresh.as_ref()) != Some(refresh)
        {
            changes.push((column.clone(), text_value(refresh.expose())));
        }
        let forms = &found.forms;
        let instants = [
            (
                &columns.expires_at,
                &forms.expires_at,
                old.and_then(|t| t.expires_at),
                new.expires_at,
            ),
            (
                &columns.refresh_expires_at,
                &forms.refresh_expires_at,
                old.and_then(|t| t.refresh_expires_at),
                new.refresh_expires_at,
            ),
            (&columns.issued_at, &forms.issued_at, old.and_then(|t| t.issued_at), new.issued_at),
        ];
        for (column, form, old_at, new_at) in instants {
            if let Some(column) = column
                && old_at != new_at
            {
                let form = form.clone().or_else(|| samples.get(&column.name).cloned());
                changes.push((column.name.clone(), self.instant_value(column, new_at, form)));
            }
        }
        if let Some(column) = &columns.scopes
            && let Some(granted) = &new.scopes
            && old.and_then(|old| old.scopes.as_ref()) != Some(granted)
        {
            let written = self.scopes_text(column, granted, forms.scopes.as_deref());
            changes.push((column.clone(), Value::Text(written)));
        }
        changes
    }

    fn new_row(&self, account: &StoredAccount) -> Vec<(String, Value)> {
        let columns = &self.columns;
        let mut row = vec![(columns.account.clone(), text_value(&account.id.account))];
        if let ProviderColumn::Column(column) = &columns.provider {
            row.push((column.clone(), text_value(&account.id.provider)));
        }
        let mut put = |column: Option<&String>, value: Option<Value>| {
            if let (Some(column), Some(value)) = (column, value) {
                row.push((column.clone(), value));
            }
        };
        put(columns.app.as_ref(), account.app.as_deref().map(text_value));
        put(columns.owner.as_ref(), account.owner.as_ref().map(|owner| text_value(owner.expose())));
        put(columns.enabled.as_ref(), Some(Value::Integer(account.enabled.into())));
        if let Some(status) = &columns.status {
            put(Some(&status.name), Some(text_value(&status.connected)));
        }
        let Some(token) = &account.token else { return row };
        put(Some(&columns.access_token), Some(text_value(token.access.expose())));
        let refresh = effective_refresh(token, None).map(|refresh| text_value(refresh.expose()));
        put(columns.refresh_token.as_ref(), refresh);
        put(columns.subject.as_ref(), token.subject.as_deref().map(text_value));
        if let (Some(column), Some(scopes)) = (&columns.scopes, &token.scopes) {
            put(Some(column), Some(Value::Text(self.scopes_text(column, scopes, None))));
        }
        let instants = [
            (&columns.expires_at, token.expires_at),
            (&columns.refresh_expires_at, token.refresh_expires_at),
            (&columns.issued_at, token.issued_at),
        ];
        for (column, at) in instants {
            if let Some(column) = column {
                put(Some(&column.name), Some(self.instant_value(column, at, None)));
            }
        }
        row
    }

    /// Scopes in the manner of those that were there, or of the column where there were none.
    fn scopes_text(&self, column: &str, scopes: &[String], before: Option<&str>) -> String {
        let is_json = self.column(column).kind == ColumnKind::Json;
        scopes_to_text(scopes, if is_json { Some("[]") } else { before })
    }

    /// An unknown end is `NULL`; in a column that refuses `NULL` it is zero, nothing, or the last date that
    /// fits. The old token's end would make the new one look expired.
    fn instant_value(&self, time: &TimeColumn, at: Option<Timestamp>, form: Option<Form>) -> Value {
        let column = self.column(&time.name);
        if column.kind == ColumnKind::Date {
            return match at {
                Some(at) => Value::Text(TextForm::of_database().write(at)),
                None if column.not_null && column.sql_type == "timestamp" => {
                    text_value(times::LAST_OF_32_BITS)
                }
                None if column.not_null => text_value(times::LAST_OF_ALL),
                None => Value::Null,
            };
        }
        match (at, time.unit, form) {
            (None, TimeUnit::Text, _) if column.not_null => Value::Text(String::new()),
            (None, ..) if column.not_null => Value::Integer(0),
            (None, ..) => Value::Null,
            (Some(at), TimeUnit::UnixSeconds, _) => Value::Integer(at.as_unix()),
            (Some(at), TimeUnit::UnixMillis, _) => Value::Integer(at.as_unix() * 1_000),
            (Some(at), TimeUnit::Text, Some(Form::Text(form))) => Value::Text(form.write(at)),
            (Some(at), TimeUnit::Text, _) => Value::Text(TextForm::rfc_3339().write(at)),
        }
    }
}

const PROVIDER: usize = 0;
const ACCOUNT: usize = 1;
const ACCESS: usize = 2;
const REFRESH: usize = 3;
const EXPIRES_AT: usize = 4;
const REFRESH_EXPIRES_AT: usize = 5;
const ISSUED_AT: usize = 6;
const SCOPES: usize = 7;
const SUBJECT: usize = 8;
const APP: usize = 9;
const OWNER: usize = 10;
const ENABLED: usize = 11;
/// Where a page carries the row's number.
pub(super) const ROW_ID: usize = 12;
