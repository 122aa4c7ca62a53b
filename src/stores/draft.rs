//! A save that is prepared before the new token is there, so that it costs no time once it is.
//!
//! The provider's answer must become durable before anything else; reading the table first would make the
//! window longer in which it can be lost. What was read before the request is compared again by the save
//! itself, in one statement.

use super::{
    cells::Value,
    check_new,
    engine::Inner,
    postgres::Postgres,
    server::{TextRow, look_in},
    statements::{Found, Samples},
};
use crate::{
    core::AccountId,
    oauth::Token,
    postgres_save::{Looks, Save, Sessions, Statement},
};
use std::sync::Arc;
use zeroize::Zeroizing;

/// What the row of an account was before its token was renewed.
pub struct Draft {
    pub(super) store: Arc<Inner<Postgres>>,
    pub(super) id: AccountId,
    pub(super) found: Found,
    pub(super) samples: Samples,
    pub(super) sessions: Sessions,
}

impl Draft {
    /// The save of `token` over the one that was read; `None` when there is nothing to write, or nothing
    /// that may be written.
    #[must_use]
    pub fn save(&self, token: &Token) -> Option<Save> {
        check_new(&self.id, token).ok()?;
        let Self { store, id, found, samples, sessions } = self;
        let statements = &store.statements;
        let update = statements.update(id, found, token, samples)?;
        // In the places that `saved` knows.
        let writes = vec![
            statements.lock_only(id),
            store.look_around_query(id),
            update,
            store.look_around_query(id),
        ];
        Some(Save {
            settings: SETTINGS,
            writes: writes.into_iter().map(statement).collect(),
            check: statement(statements.check_saved(id, found, token)),
            sessions: sessions.clone(),
        })
    }

    /// The save was carried out and committed: it is no news to us. `looks` is empty where nobody looked.
    pub fn saved(&self, looks: Looks) {
        let mut rows = looks.into_iter().map(|row| vec![as_row(row)]);
        let (before, after) = (rows.nth(LOOK_BEFORE), rows.nth(LOOK_AFTER - LOOK_BEFORE - 1));
        if let (Some(before), Some(after)) = (before, after) {
            let by_column = self.store.settings.change_column.is_some();
            self.store.wrote(&look_in(&before, by_column), look_in(&after, by_column));
        }
    }
}

fn statement(query: super::dialect::Query) -> Statement {
    let values = query.values.into_iter().map(|value| match value {
        Value::Null => None,
        Value::Integer(number) => Some(Zeroizing::new(number.to_string())),
        Value::Real(number) => Some(Zeroizing::new(number.to_string())),
        Value::Text(text) => Some(Zeroizing::new(text)),
        Value::Bytes(bytes) => Some(Zeroizing::new(String::from_utf8_lossy(&bytes).into_owned())),
    });
    Statement { sql: query.sql, values: values.collect() }
}

fn as_row(cells: Vec<Option<String>>) -> TextRow {
    TextRow(cells.into_iter().map(|cell| cell.map(|text| Zeroizing::new(text.into()))).collect())
}

/// As on a connection of the store's own. The publisher's names, and those that its triggers use, are looked
/// up where any session of this user would look.
const SETTINGS: &str = "SET LOCAL search_path TO DEFAULT; SET LOCAL TimeZone TO 'UTC'; \
    SET LOCAL DateStyle TO 'ISO, YMD'";
const LOOK_BEFORE: usize = 1;
const LOOK_AFTER: usize = 3;
