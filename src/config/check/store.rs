//! `store`: where the publisher keeps its tokens.

use super::{Check, add, is_loopback, redis_store};
use crate::{
    config::{
        explain,
        file::{self, Span, StoreKind, StoreTls},
        problem::KeyPath,
    },
    stores::{
        Settings, file as file_store, redis,
        server::{self, Host, Tls},
        sqlite,
    },
};
use std::{
    path::{Path, PathBuf},
    time::Duration,
};

pub(super) fn check(check: &mut Check<'_>, store: &file::Store, providers: &[&str]) -> Settings {
    check.within("store.poll_every", store.poll_every, POLL_LEAST..=POLL_MOST);
    let Some(kind) = store.kind else {
        let key = KeyPath::from("store.kind");
        check.problem(
            key.clone(),
            "missing, expected file, redis, sqlite, postgres or mysql",
            add(&key),
        );
        let path = store_path(check, store);
        return Settings::File(file_store::Settings { path, poll_every: store.poll_every.0 });
    };
    refuse_keys_of_others(check, store, kind);
    match kind {
        StoreKind::File => {
            let path = store_path(check, store);
            Settings::File(file_store::Settings { path, poll_every: store.poll_every.0 })
        }
        StoreKind::Redis => redis_store::check(check, store, providers),
        StoreKind::Sqlite => {
            let path = store_path(check, store);
            sqlite(check, store, path, providers)
        }
        StoreKind::Postgres => Settings::Postgres(server(check, store, kind, providers)),
        StoreKind::Mysql => Settings::Mysql(server(check, store, kind, providers)),
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

/// A key that has no meaning for this kind was written by somebody who believes that it has.
fn refuse_keys_of_others(check: &mut Check<'_>, store: &file::Store, kind: StoreKind) {
    use StoreKind::{File, Mysql, Postgres, Redis, Sqlite};
    let servers: &[StoreKind] = &[Postgres, Mysql];
    let databases: &[StoreKind] = &[Sqlite, Postgres, Mysql];
    let given = [
        ("path", store.path.is_some(), &[File, Sqlite][..]),
        ("busy_timeout", store.busy_timeout.is_some(), &[Sqlite]),
        ("host", store.host.is_some(), servers),
        ("port", store.port.is_some(), servers),
        ("socket", store.socket.is_some(), servers),
        ("database", store.database.is_some(), servers),
        ("user", store.user.is_some(), servers),
        ("password_file", store.password_file.is_some(), servers),
        ("password_env", store.password_env.is_some(), servers),
        ("tls", store.tls.is_some(), servers),
        ("ca_file", store.ca_file.is_some(), servers),
        ("pool_max", store.pool_max.is_some(), servers),
        ("statement_timeout", store.statement_timeout.is_some(), servers),
        ("connect_timeout", store.connect_timeout.is_some(), servers),
        ("notify_channel", store.notify_channel.is_some(), &[Postgres]),
        ("change_column", store.change_column.is_some(), servers),
        ("schema", store.schema.is_some(), servers),
        ("table", store.table.is_some(), databases),
        ("columns", store.columns.is_some(), databases),
        ("redis", store.redis.is_some(), &[Redis]),
    ];
    for (name, _, kinds) in given.iter().filter(|(_, given, of)| *given && !of.contains(&kind)) {
        let names: Vec<_> = kinds.iter().copied().map(name_of).collect();
        check.problem(
            KeyPath::from("store").key(name),
            format!(
                "`{name}` belongs to the kind {}, found `kind: {}`",
                names.join(" or "),
                name_of(kind)
            ),
            match kind {
                Redis => "remove it; what concerns the server stands beneath `redis:`".to_owned(),
                _ => format!("remove it, or write `kind: {}`", names.first().unwrap_or(&"sqlite")),
            },
        );
    }
}

const fn name_of(kind: StoreKind) -> &'static str {
    match kind {
        StoreKind::File => "file",
        StoreKind::Redis => "redis",
        StoreKind::Sqlite => "sqlite",
        StoreKind::Postgres => "postgres",
        StoreKind::Mysql => "mysql",
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
    Settings::Sqlite(sqlite::Settings {
        path,
        poll_every: store.poll_every.0,
        busy_timeout: busy_timeout.0,
        table: table.to_owned(),
        columns: columns(check, store, providers),
    })
}

fn server(
    check: &mut Check<'_>,
    store: &file::Store,
    kind: StoreKind,
    providers: &[&str],
) -> server::Settings {
    let at = KeyPath::from("store");
    let host = host(check, store, kind);
    let database = check.text(at.key("database"), store.database.as_deref(), "the database's name");
    let user = check.text(at.key("user"), store.user.as_deref(), "the user that we are there");
    let (file, env) = (store.password_file.as_deref(), store.password_env.as_deref());
    let password = check.secret(&at, "password", file, env, true);
    let pool_max = store.pool_max.unwrap_or(file::POOL_MAX);
    check.within("store.pool_max", pool_max, 1..=POOL_MOST);
    let statement_timeout = store.statement_timeout.unwrap_or(file::STATEMENT_TIMEOUT);
    check.within("store.statement_timeout", statement_timeout, BUSY_LEAST..=BUSY_MOST);
    let connect_timeout = store.connect_timeout.unwrap_or(file::CONNECT_TIMEOUT);
    check.within("store.connect_timeout", connect_timeout, BUSY_LEAST..=BUSY_MOST);
    let (schema, table) = table(check, store);
    let notify_channel = optional(check, at.key("notify_channel"), store.notify_channel.as_deref());
    let change_column = optional(check, at.key("change_column"), store.change_column.as_deref());
    server::Settings {
        tls: tls(check, store, &host),
        host,
        database,
        user,
        password,
        ca_file: store.ca_file.as_deref().map(|path| {
            let remedy = "name a file with certificates in PEM";
            check.readable("store.ca_file", path, remedy)
        }),
        schema,
        table,
        columns: columns(check, store, providers),
        pool_max: pool_max as usize,
        statement_timeout: statement_timeout.0,
        connect_timeout: connect_timeout.0,
        poll_every: store.poll_every.0,
        notify_channel,
        change_column,
    }
}

fn host(check: &mut Check<'_>, store: &file::Store, kind: StoreKind) -> Host {
    let default = if kind == StoreKind::Mysql { file::PORT_MYSQL } else { file::PORT_POSTGRES };
    let port = store.port.unwrap_or(default);
    check.within("store.port", port, 1..=u16::MAX);
    match (&store.host, &store.socket) {
        (Some(_), Some(_)) => check.problem(
            "store.socket",
            "both host and socket are given, expected one of them",
            "remove one of the two",
        ),
        (None, None) => check.problem(
            "store.host",
            "neither host nor socket is given, expected one of them",
            "add `host: db.example.com`, or `socket: /run/postgresql` for this machine",
        ),
        (Some(host), None) => {
            let host = check.text("store.host".into(), Some(host), "a name or address");
            // Whole connection strings are pasted here, with the password in them: nothing of it is shown.
            if host.contains(['/', '@', ' ', '?', '=']) {
                check.problem_unshown(
                    "store.host".into(),
                    "not a host, expected a bare name or address".to_owned(),
                    "write the name alone; port, database and user have keys of their own"
                        .to_owned(),
                );
                return Host::Tcp(String::new(), port);
            }
            return Host::Tcp(host, port);
        }
        (None, Some(path)) if !path.is_absolute() => check.problem(
            "store.socket",
            format!("\"{}\" is not an absolute path", path.display()),
            "write the directory of PostgreSQL's socket, or the socket file of MySQL",
        ),
        (None, Some(path)) => return Host::Socket(path.clone(), port),
    }
    Host::Socket(PathBuf::new(), port)
}

/// TLS is not spoken on a socket, and nothing else is spoken over a network.
fn tls(check: &mut Check<'_>, store: &file::Store, host: &Host) -> Tls {
    match (host, store.tls) {
        (Host::Socket(..), None | Some(StoreTls::Off)) => Tls::Off,
        (Host::Socket(..), Some(StoreTls::Require)) => {
            if store.socket.is_some() {
                check.problem(
                    "store.tls",
                    "require has no meaning on a socket, where TLS is not spoken",
                    "remove it, or name the host",
                );
            }
            Tls::Off
        }
        (Host::Tcp(..), None | Some(StoreTls::Require)) => Tls::Require,
        (Host::Tcp(host, _), Some(StoreTls::Off)) => {
            if !host.is_empty() && !is_loopback(host) {
                check.problem(
                    "store.tls",
                    format!(
                        "off is for this machine alone, found the host {}",
                        explain::shown(host, true)
                    ),
                    "write `tls: require`, and ca_file for a certificate of your own",
                );
            }
            Tls::Off
        }
    }
}

/// `table`, `schema.table`, or `schema."Table"` as people copy it from a statement.
fn table(check: &mut Check<'_>, store: &file::Store) -> (Option<String>, String) {
    let written = store.table.as_deref().unwrap_or(file::TABLE);
    let (schema, table) = match (written.split_once('.'), &store.schema) {
        (Some((schema, table)), None) => (Some(schema), table),
        (_, schema) => (schema.as_deref(), written),
    };
    let bare = |name: &str| {
        ['"', '`']
            .into_iter()
            .find_map(|quote| name.strip_prefix(quote)?.strip_suffix(quote))
            .unwrap_or(name)
            .to_owned()
    };
    let table = bare(table);
    identifier(check, "store.table".into(), &table);
    let schema = schema.map(bare);
    if let Some(schema) = &schema {
        let key = if store.schema.is_some() { "store.schema" } else { "store.table" };
        identifier(check, key.into(), schema);
    }
    (schema, table)
}

fn columns(check: &mut Check<'_>, store: &file::Store, providers: &[&str]) -> sqlite::Columns {
    match &store.columns {
        Some(columns) => column_map(check, columns, providers),
        None => sqlite::Columns::simple(),
    }
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
        Settings::Postgres(settings) | Settings::Mysql(settings) => settings.columns.app.is_some(),
    }
}

/// Where the store lies, if it is a file.
pub(super) fn path_of(store: &Settings) -> Option<&Path> {
    match store {
        Settings::File(settings) => Some(&settings.path),
        Settings::Redis(settings) => match &settings.address {
            redis::Address::Unix(path) => Some(path),
            redis::Address::Tcp { .. } => None,
        },
        Settings::Sqlite(settings) => Some(&settings.path),
        Settings::Postgres(_) | Settings::Mysql(_) => None,
    }
}

const POLL_LEAST: Span = Span(Duration::from_millis(100));
const POLL_MOST: Span = Span::seconds(60 * 60);
const BUSY_LEAST: Span = Span(Duration::from_millis(100));
const BUSY_MOST: Span = Span::seconds(60);

/// Most connections: a server has a hundred or so for everybody.
const POOL_MOST: u32 = 32;

/// Longest name of a table or column.
const IDENTIFIER_MAX: usize = 128;
