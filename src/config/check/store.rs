//! `store`: where the publisher keeps its tokens.

use super::{Check, add, redis_store};
use crate::{
    config::{
        explain,
        file::{self, Span, StoreKind},
        problem::KeyPath,
    },
    stores::{Settings, file as file_store, redis, sqlite},
};
use std::{
    path::{Path, PathBuf},
    time::Duration,
};

pub(super) fn check(check: &mut Check<'_>, store: &file::Store, providers: &[&str]) -> Settings {
    check.within("store.poll_every", store.poll_every, POLL_LEAST..=POLL_MOST);
    if store.kind.is_none() {
        let key = KeyPath::from("store.kind");
        check.problem(key.clone(), "missing, expected file, redis or sqlite", add(&key));
    }
    if store.kind == Some(StoreKind::Redis) {
        return redis_store::check(check, store, providers);
    }
    if store.redis.is_some() && store.kind.is_some() {
        check.problem(
            "store.redis",
            "`redis` belongs to the kind redis, found another kind",
            "remove it, or write `kind: redis`",
        );
    }
    let path = store_path(check, store);
    match store.kind {
        Some(StoreKind::Sqlite) => sqlite(check, store, path, providers),
        Some(StoreKind::File) => {
            refuse_sqlite_keys(check, store);
            Settings::File(file_store::Settings { path, poll_every: store.poll_every.0 })
        }
        Some(StoreKind::Redis) | None => {
            Settings::File(file_store::Settings { path, poll_every: store.poll_every.0 })
        }
    }
}

fn store_path(check: &mut Check<'_>, store: &file::Store) -> PathBuf {
    let Some(path) = store.path.as_deref().filter(|path| !path.as_os_str().is_empty()) else {
        check.problem(
            "store.path",
            "missing, expected the file in which the publisher keeps its tokens",
            add(&"store.path".into()),
        );
        return PathBuf::new();
    };
    let extension = path.extension().and_then(|extension| extension.to_str()).unwrap_or("");
    if store.kind == Some(StoreKind::File) && !["yaml", "yml", "json"].contains(&extension) {
        check.problem(
            "store.path",
            format!(
                "\"{}\" does not end in .yaml, .yml or .json, expected one of them",
                path.display()
            ),
            "rename the file after its format, or write `kind: sqlite` for a database",
        );
    }
    check.resolved(path)
}

fn refuse_sqlite_keys(check: &mut Check<'_>, store: &file::Store) {
    let given = [
        ("busy_timeout", store.busy_timeout.is_some()),
        ("table", store.table.is_some()),
        ("columns", store.columns.is_some()),
    ];
    for (name, _) in given.iter().filter(|(_, given)| *given) {
        check.problem(
            KeyPath::from("store").key(name),
            format!("`{name}` belongs to the kind sqlite, found `kind: file`"),
            "remove it, or write `kind: sqlite`",
        );
    }
}

fn sqlite(
    check: &mut Check<'_>,
    store: &file::Store,
    path: PathBuf,
    providers: &[&str],
) -> Settings {
    let busy_timeout = store.busy_timeout.unwrap_or(file::BUSY_TIMEOUT);
    check.within("store.busy_timeout", busy_timeout, BUSY_LEAST..=BUSY_MOST);
    let table = store.table.as_deref().unwrap_or(file::TABLE);
    identifier(check, "store.table".into(), table);
    let columns = match &store.columns {
        Some(columns) => column_map(check, columns, providers),
        None => sqlite::Columns::simple(),
    };
    Settings::Sqlite(sqlite::Settings {
        path,
        poll_every: store.poll_every.0,
        busy_timeout: busy_timeout.0,
        table: table.to_owned(),
        columns,
    })
}

fn column_map(
    check: &mut Check<'_>,
    columns: &file::Columns,
    providers: &[&str],
) -> sqlite::Columns {
    let at = KeyPath::from("store.columns");
    let checked = sqlite::Columns {
        account: required(check, at.key("account"), columns.account.as_deref()),
        provider: provider_column(check, columns, providers),
        access_token: required(check, at.key("access_token"), columns.access_token.as_deref()),
        refresh_token: optional(check, at.key("refresh_token"), columns.refresh_token.as_deref()),
        expires_at: time(check, at.key("expires_at"), columns.expires_at.as_ref()),
        refresh_expires_at: time(
            check,
            at.key("refresh_expires_at"),
            columns.refresh_expires_at.as_ref(),
        ),
        issued_at: time(check, at.key("issued_at"), columns.issued_at.as_ref()),
        scopes: optional(check, at.key("scopes"), columns.scopes.as_deref()),
        subject: optional(check, at.key("subject"), columns.subject.as_deref()),
        app: optional(check, at.key("app"), columns.app.as_deref()),
        owner: optional(check, at.key("owner"), columns.owner.as_deref()),
        enabled: optional(check, at.key("enabled"), columns.enabled.as_deref()),
        status: columns.status.as_ref().map(|status| status_column(check, status)),
    };
    if columns.refresh_token.is_some() && columns.refresh_token == columns.access_token {
        check.problem(
            at.key("refresh_token"),
            "the same column as access_token, expected another one",
            "remove refresh_token where the access token is all there is",
        );
    }
    checked
}

fn provider_column(
    check: &mut Check<'_>,
    columns: &file::Columns,
    providers: &[&str],
) -> sqlite::ProviderColumn {
    let at = KeyPath::from("store.columns");
    match (&columns.provider, &columns.provider_name) {
        (Some(column), None) => {
            identifier(check, at.key("provider"), column);
            return sqlite::ProviderColumn::Column(column.clone());
        }
        (None, Some(name)) => {
            known_provider(check, at.key("provider_name"), name, providers);
            return sqlite::ProviderColumn::Fixed(name.clone());
        }
        (Some(_), Some(_)) => check.problem(
            at.key("provider_name"),
            "both provider and provider_name are given, expected one of them",
            "keep provider if a column says it, provider_name if all rows belong to one",
        ),
        (None, None) => check.problem(
            at.key("provider"),
            "neither provider nor provider_name is given, expected one of them",
            "add `provider: <column>`, or `provider_name: tiktok` if all rows belong to one",
        ),
    }
    sqlite::ProviderColumn::Fixed(String::new())
}

/// Refuses a provider that is not in the catalogue.
pub(super) fn known_provider(check: &mut Check<'_>, key: KeyPath, name: &str, providers: &[&str]) {
    if !providers.contains(&name) {
        let remedy = match explain::nearest(name, providers) {
            Some(near) => format!("did you mean `{near}`?"),
            None => "use `oauth2` with endpoints of its own for any other provider".to_owned(),
        };
        let what = format!(
            "unknown provider {}, expected {}",
            explain::shown(name, true),
            explain::alternatives(providers)
        );
        check.problem(key, what, remedy);
    }
}

fn status_column(check: &mut Check<'_>, status: &file::Status) -> sqlite::StatusColumn {
    let at = KeyPath::from("store.columns.status");
    let name = required(check, at.key("name"), status.name.as_deref());
    status_values(check, &at, name, status)
}

/// The two values beside the name of a status.
pub(super) fn status_values(
    check: &mut Check<'_>,
    at: &KeyPath,
    name: String,
    status: &file::Status,
) -> sqlite::StatusColumn {
    let connected = check.text(
        at.key("connected"),
        status.connected.as_deref(),
        "the value for an account that works",
    );
    let needs_reconnect = check.text(
        at.key("needs_reconnect"),
        status.needs_reconnect.as_deref(),
        "the value for an account that its owner must reconnect",
    );
    if connected == needs_reconnect && !connected.is_empty() {
        check.problem(
            at.key("needs_reconnect"),
            "the same value as connected, expected two different ones",
            "write the value that the publisher understands as disconnected",
        );
    }
    sqlite::StatusColumn { name, connected, needs_reconnect }
}

fn required(check: &mut Check<'_>, key: KeyPath, name: Option<&str>) -> String {
    match name {
        Some(name) => identifier(check, key, name),
        None => check.problem(key.clone(), "missing, expected the name of a column", add(&key)),
    }
    name.unwrap_or_default().to_owned()
}

fn optional(check: &mut Check<'_>, key: KeyPath, name: Option<&str>) -> Option<String> {
    name.map(|name| required(check, key, Some(name)))
}

fn time(
    check: &mut Check<'_>,
    key: KeyPath,
    column: Option<&file::TimeColumn>,
) -> Option<sqlite::TimeColumn> {
    let column = column?;
    identifier(check, key, &column.name);
    Some(time_column(column))
}

/// The same in the words of the stores.
pub(super) fn time_column(column: &file::TimeColumn) -> sqlite::TimeColumn {
    let unit = match column.unit {
        file::TimeUnit::UnixSeconds => sqlite::TimeUnit::UnixSeconds,
        file::TimeUnit::UnixMillis => sqlite::TimeUnit::UnixMillis,
        file::TimeUnit::Text => sqlite::TimeUnit::Text,
    };
    sqlite::TimeColumn { name: column.name.clone(), unit }
}

/// Names of tables and columns become part of a statement, where nothing can be bound to them.
fn identifier(check: &mut Check<'_>, key: KeyPath, name: &str) {
    let word = |c: char| c.is_ascii_alphanumeric() || c == '_';
    let plain = name.chars().all(word) && !name.starts_with(|c: char| c.is_ascii_digit());
    if !plain || name.is_empty() || name.len() > IDENTIFIER_MAX {
        check.problem(
            key,
            format!(
                "{} is not a plain name, expected letters, digits and _, no digit first",
                explain::shown(name, false)
            ),
            "write the bare name without quotes or schema, or create a view with plain names",
        );
    }
}

/// Whether the rows or records of the store say which app they belong to.
pub(super) fn knows_apps(store: &Settings) -> bool {
    match store {
        Settings::File(_) => true,
        Settings::Redis(settings) => settings.fields.app.is_some(),
        Settings::Sqlite(settings) => settings.columns.app.is_some(),
    }
}

/// Where the store lies.
pub(super) fn path_of(store: &Settings) -> &Path {
    match store {
        Settings::File(settings) => &settings.path,
        Settings::Redis(settings) => match &settings.address {
            redis::Address::Unix(path) => path,
            redis::Address::Tcp { .. } => Path::new(""),
        },
        Settings::Sqlite(settings) => &settings.path,
    }
}

const POLL_LEAST: Span = Span(Duration::from_millis(100));
const POLL_MOST: Span = Span::seconds(60 * 60);
const BUSY_LEAST: Span = Span(Duration::from_millis(100));
const BUSY_MOST: Span = Span::seconds(60);

/// Longest name of a table or column.
const IDENTIFIER_MAX: usize = 128;
