//! The SQL of a column map, and rows read through it. Knows SQLite's types, opens nothing.

use super::{
    Care, StoredAccount, effective_refresh, is_absent, scopes_from_text, scopes_to_text,
    sqlite::{Columns, ProviderColumn, Settings, TimeColumn, TimeUnit},
    times::{self, Form, TextForm},
};
use crate::{
    core::{AccountId, Secret, Timestamp},
    oauth::Token,
};
use rusqlite::{
    Row,
    types::{Value, ValueRef},
};
use std::collections::HashSet;

/// The statements for one table. Every identifier was checked and is quoted, and every column is named
/// together with its table: SQLite takes a quoted name that is no column for a text, and a dropped
/// column would turn into a token called `access_token`.
pub(super) struct Statements {
    columns: Columns,
    fixed_provider: Option<String>,
    /// In the order of the constants below; what is not mapped is `NULL`.
    list: String,
    table: String,
    key: String,
    /// Columns that refuse `NULL`.
    not_null: HashSet<String>,
}

/// What is wrong in a row, before anybody says which row.
#[derive(Debug)]
pub(super) struct Fault {
    pub(super) column: String,
    pub(super) reason: String,
}

/// A row: what it means, and the token columns exactly as they are, for the compare in the update.
pub(super) struct Found {
    pub(super) account: StoredAccount,
    pub(super) raw_access: Value,
    pub(super) raw_refresh: Value,
    /// The texts that instants and scopes had, to be written back alike.
    forms: Forms,
}

struct Forms {
    expires_at: Option<Form>,
    refresh_expires_at: Option<Form>,
    issued_at: Option<Form>,
    scopes: Option<String>,
}

impl Statements {
    /// For the table that `settings` describe; `not_null` are its columns that refuse `NULL`.
    pub(super) fn new(settings: &Settings, not_null: HashSet<String>) -> Self {
        let columns = settings.columns.clone();
        let (provider, fixed_provider) = match &columns.provider {
            ProviderColumn::Column(name) => (Some(name), None),
            ProviderColumn::Fixed(name) => (None, Some(name.clone())),
        };
        let key = match provider {
            Some(name) => {
                format!("t.{} = ?1 AND t.{} = ?2", quoted(&columns.account), quoted(name))
            }
            // The parameter is bound in any case.
            None => format!("t.{} = ?1 AND ?2 IS NOT NULL", quoted(&columns.account)),
        };
        let time = |column: &Option<TimeColumn>| column.as_ref().map(|column| column.name.clone());
        let mapped: [Option<String>; 12] = [
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
        ];
        let list = mapped
            .iter()
            .map(|name| match name {
                Some(name) => format!("t.{}", quoted(name)),
                None => "NULL".to_owned(),
            })
            .collect::<Vec<_>>()
            .join(", ");
        Self { list, table: quoted(&settings.table), key, columns, fixed_provider, not_null }
    }

    /// True when this table can hold accounts of `provider`.
    pub(super) fn holds_provider(&self, provider: &str) -> bool {
        self.fixed_provider.as_deref().is_none_or(|fixed| fixed == provider)
    }

    /// One account's rows. More than one is a fault of the table, so two are asked for.
    pub(super) fn select_one(&self) -> String {
        format!("SELECT {} FROM {} AS t WHERE {} LIMIT 2", self.list, self.table, self.key)
    }

    /// How many rows an account has.
    pub(super) fn count_one(&self) -> String {
        format!("SELECT count(*) FROM {} AS t WHERE {}", self.table, self.key)
    }

    /// A page of all rows in the order of `row_id`, behind the row ?1, at most ?2 of them.
    pub(super) fn select_page(&self, row_id: &str) -> String {
        format!(
            "SELECT {}, t.{row_id} FROM {} AS t WHERE t.{row_id} > ?1 ORDER BY t.{row_id} LIMIT ?2",
            self.list, self.table
        )
    }

    /// All rows at once, for a table without row ids.
    pub(super) fn select_all(&self) -> String {
        format!("SELECT {}, NULL FROM {} AS t", self.list, self.table)
    }

    /// The update of one account's token if its token columns are what they were, with its parameters.
    /// `None` when nothing would change. `form_of` finds how a column's other rows write a date.
    pub(super) fn update(
        &self,
        id: &AccountId,
        found: &Found,
        new: &Token,
        form_of: impl Fn(&str) -> Option<Form>,
    ) -> Option<(String, Vec<Value>)> {
        let changes = self.changes(found, new, form_of);
        if changes.is_empty() {
            return None;
        }
        let mut values = vec![text_value(&id.account), text_value(&id.provider)];
        let mut bind = |value: Value| {
            values.push(value);
            format!("?{}", values.len())
        };
        let set = changes
            .into_iter()
            .map(|(name, value)| format!("{} = {}", quoted(&name), bind(value)))
            .collect::<Vec<_>>()
            .join(", ");
        let mut unchanged = format!(
            "t.{} IS {}",
            quoted(&self.columns.access_token),
            bind(found.raw_access.clone())
        );
        if let Some(refresh) = &self.columns.refresh_token {
            let raw = bind(found.raw_refresh.clone());
            unchanged.push_str(&format!(" AND t.{} IS {raw}", quoted(refresh)));
        }
        let sql =
            format!("UPDATE {} AS t SET {set} WHERE {} AND {unchanged}", self.table, self.key);
        Some((sql, values))
    }

    /// The update of one account's status; `None` where there is no such column.
    pub(super) fn update_status(&self) -> Option<String> {
        let name = quoted(&self.columns.status.as_ref()?.name);
        Some(format!(
            "UPDATE {} AS t SET {name} = ?3 WHERE {} AND t.{name} IS NOT ?3",
            self.table, self.key
        ))
    }

    /// The insertion of an account, with its parameters.
    pub(super) fn insert(&self, account: &StoredAccount) -> (String, Vec<Value>) {
        let values = self.new_row(account);
        let names = values.iter().map(|(name, _)| quoted(name)).collect::<Vec<_>>().join(", ");
        let marks = (1..=values.len()).map(|n| format!("?{n}")).collect::<Vec<_>>().join(", ");
        let sql = format!("INSERT INTO {} ({names}) VALUES ({marks})", self.table);
        (sql, values.into_iter().map(|(_, value)| value).collect())
    }

    /// One date of a column, to see how they are written there.
    pub(super) fn select_sample(&self, column: &str) -> String {
        let column = quoted(column);
        format!(
            "SELECT t.{column} FROM {} AS t WHERE t.{column} IS NOT NULL AND t.{column} <> '' LIMIT 1",
            self.table
        )
    }

    /// Reads a row that was selected with this list.
    pub(super) fn read(&self, row: &Row<'_>, care: Care) -> Result<Found, Fault> {
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
                subject,
            })
        });
        let account = StoredAccount {
            id,
            app: care.beside_token(name(row, APP, columns.app.as_ref()))?.map(Into::into),
            owner: care
                .beside_token(optional_text(row, OWNER, columns.owner.as_ref()))?
                .filter(|owner| !owner.trim().is_empty())
                .map(|owner| Secret::new(owner.to_owned())),
            token,
            enabled: columns.enabled.is_none() || is_true(raw(row, ENABLED)),
        };
        Ok(Found {
            account,
            raw_access: whole(raw(row, ACCESS)),
            raw_refresh: whole(raw(row, REFRESH)),
            forms: Forms {
                expires_at: expires_form,
                refresh_expires_at: refresh_expires_form,
                issued_at: issued_form,
                scopes: scopes.map(str::to_owned),
            },
        })
    }

    /// Whose row it is.
    pub(super) fn read_id(&self, row: &Row<'_>) -> Result<AccountId, Fault> {
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

    fn changes(
        &self,
        found: &Found,
        new: &Token,
        form_of: impl Fn(&str) -> Option<Form>,
    ) -> Vec<(String, Value)> {
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
                let form = form.clone().or_else(|| form_of(&column.name));
                changes.push((column.name.clone(), self.instant_value(column, new_at, form)));
            }
        }
        if let Some(column) = &columns.scopes
            && let Some(granted) = &new.scopes
            && old.and_then(|old| old.scopes.as_ref()) != Some(granted)
        {
            let written = scopes_to_text(granted, forms.scopes.as_deref());
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
        let scopes = token.scopes.as_ref().map(|scopes| text_value(&scopes_to_text(scopes, None)));
        put(columns.scopes.as_ref(), scopes);
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

    /// An unknown end is `NULL`, or zero or nothing in a column that refuses `NULL`: the old token's
    /// end would make the new one look expired.
    fn instant_value(
        &self,
        column: &TimeColumn,
        at: Option<Timestamp>,
        form: Option<Form>,
    ) -> Value {
        let refuses_null = self.not_null.contains(&column.name.to_ascii_lowercase());
        match (at, column.unit, form) {
            (None, TimeUnit::Text, _) if refuses_null => Value::Text(String::new()),
            (None, ..) if refuses_null => Value::Integer(0),
            (None, ..) => Value::Null,
            (Some(at), TimeUnit::UnixSeconds, _) => Value::Integer(at.as_unix()),
            (Some(at), TimeUnit::UnixMillis, _) => Value::Integer(at.as_unix() * 1_000),
            (Some(at), TimeUnit::Text, Some(Form::Text(form))) => Value::Text(form.write(at)),
            (Some(at), TimeUnit::Text, _) => Value::Text(TextForm::rfc_3339().write(at)),
        }
    }
}

/// An identifier in double quotes. `"` cannot occur in one, see [`is_identifier`].
pub(super) fn quoted(name: &str) -> String {
    format!("\"{name}\"")
}

/// Names that go into SQL. Values never do.
pub(super) fn is_identifier(name: &str) -> bool {
    let mut chars = name.chars();
    chars.next().is_some_and(|c| c.is_ascii_alphabetic() || c == '_')
        && chars.all(|c| c.is_ascii_alphanumeric() || c == '_')
}

/// Every column that `columns` name.
pub(super) fn mapped(columns: &Columns) -> Vec<&str> {
    let provider = match &columns.provider {
        ProviderColumn::Column(name) => Some(name),
        ProviderColumn::Fixed(_) => None,
    };
    let times = [&columns.expires_at, &columns.refresh_expires_at, &columns.issued_at];
    let texts = [
        &columns.refresh_token,
        &columns.scopes,
        &columns.subject,
        &columns.app,
        &columns.owner,
        &columns.enabled,
    ];
    [Some(&columns.account), Some(&columns.access_token), provider]
        .into_iter()
        .chain(texts.into_iter().map(Option::as_ref))
        .chain(times.into_iter().map(|time| time.as_ref().map(|time| &time.name)))
        .chain([columns.status.as_ref().map(|status| &status.name)])
        .flatten()
        .map(String::as_str)
        .collect()
}

fn raw<'a>(row: &'a Row<'_>, at: usize) -> ValueRef<'a> {
    row.get_ref(at).expect("the list of columns has this many entries")
}

/// Only called after the text has been read as UTF-8.
fn whole(value: ValueRef<'_>) -> Value {
    value.try_into().expect("the text was read as UTF-8 before")
}

fn optional_text<'a>(
    row: &'a Row<'_>,
    at: usize,
    column: Option<&String>,
) -> Result<Option<&'a str>, Fault> {
    column.map_or(Ok(None), |column| text(row, at, column))
}

fn text<'a>(row: &'a Row<'_>, at: usize, column: &str) -> Result<Option<&'a str>, Fault> {
    let wrong = |reason: String| Fault { column: column.to_owned(), reason };
    match raw(row, at) {
        ValueRef::Null => Ok(None),
        ValueRef::Text(bytes) => std::str::from_utf8(bytes)
            .map(Some)
            .map_err(|_| wrong("holds text that is not UTF-8".to_owned())),
        other => Err(wrong(format!("must hold text, found {}", kind_of(other)))),
    }
}

/// A name; numbers are ids too.
fn name(row: &Row<'_>, at: usize, column: Option<&String>) -> Result<Option<String>, Fault> {
    match raw(row, at) {
        ValueRef::Integer(number) => Ok(Some(number.to_string())),
        _ => Ok(optional_text(row, at, column)?.filter(|text| !text.is_empty()).map(str::to_owned)),
    }
}

fn instant(
    row: &Row<'_>,
    at: usize,
    column: Option<&TimeColumn>,
) -> Result<(Option<Timestamp>, Option<Form>), Fault> {
    let Some(column) = column else { return Ok((None, None)) };
    let wrong = |reason: &str| Fault { column: column.name.clone(), reason: reason.to_owned() };
    let form = match column.unit {
        TimeUnit::UnixSeconds => Form::Seconds,
        TimeUnit::UnixMillis => Form::Millis,
        TimeUnit::Text => return text_instant(row, at, column),
    };
    let number = match raw(row, at) {
        ValueRef::Null => return Ok((None, None)),
        ValueRef::Integer(number) => number,
        ValueRef::Real(number) => number as i64,
        ValueRef::Text(text) if text.trim_ascii().is_empty() => return Ok((None, None)),
        ValueRef::Text(text) => std::str::from_utf8(text)
            .ok()
            .and_then(|text| text.trim().parse().ok())
            .ok_or_else(|| wrong("must hold a number, found other text; is its unit `text`?"))?,
        ValueRef::Blob(_) => return Err(wrong("must hold a number, found bytes")),
    };
    Ok((times::from_number(number, &form).map_err(wrong)?, Some(form)))
}

fn text_instant(
    row: &Row<'_>,
    at: usize,
    column: &TimeColumn,
) -> Result<(Option<Timestamp>, Option<Form>), Fault> {
    let wrong = |reason: &str| Fault { column: column.name.clone(), reason: reason.to_owned() };
    match raw(row, at) {
        ValueRef::Integer(_) | ValueRef::Real(_) => Err(wrong(
            "must hold a date in text, found a number; is its unit seconds or milliseconds?",
        )),
        _ => match text(row, at, &column.name)?.filter(|text| !text.trim().is_empty()) {
            None => Ok((None, None)),
            Some(text) => times::parse_text(text)
                .map(|(at, form)| (Some(at), Some(Form::Text(form))))
                .ok_or_else(|| {
                    wrong("must hold a date such as 2026-11-22T12:00:00Z or 2026-11-22 12:00:00")
                }),
        },
    }
}

fn is_true(value: ValueRef<'_>) -> bool {
    match value {
        ValueRef::Null => false,
        ValueRef::Integer(number) => number != 0,
        ValueRef::Real(number) => number != 0.0,
        ValueRef::Blob(bytes) => !bytes.is_empty(),
        ValueRef::Text(text) => {
            let text = text.trim_ascii().to_ascii_lowercase();
            !matches!(text.as_slice(), b"" | b"0" | b"f" | b"false" | b"n" | b"no")
        }
    }
}

fn text_value(text: &str) -> Value {
    Value::Text(text.to_owned())
}

const fn kind_of(value: ValueRef<'_>) -> &'static str {
    match value {
        ValueRef::Null => "nothing",
        ValueRef::Integer(_) | ValueRef::Real(_) => "a number",
        ValueRef::Text(_) => "text",
        ValueRef::Blob(_) => "bytes",
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
