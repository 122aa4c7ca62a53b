//! What stores on database servers have in common: their settings, the words that a `Driver` brings, and
//! what is checked before one is used. The work itself is `engine`'s.
//!
//! Messages of a server are never repeated: they quote values.

use super::{
    Error,
    cells::{Cell, Cells},
    columns::{self, Columns, TimeUnit, is_identifier},
    dialect::{Column, ColumnKind, Dialect, Query},
    statements::Statements,
};
use crate::secrets::SecretRef;
use std::{fmt, future::Future, path::PathBuf, time::Duration};
use zeroize::Zeroizing;

/// Which table of which server, and what its columns mean.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Settings {
    /// Where the server listens.
    pub host: Host,
    /// The database.
    pub database: String,
    /// Who we are there.
    pub user: String,
    /// Where our password comes from; `None` where the server knows us by our socket.
    pub password: Option<SecretRef>,
    /// Whether the connection is encrypted and the server's certificate verified.
    pub tls: Tls,
    /// Certificates that are trusted instead of the usual ones.
    pub ca_file: Option<PathBuf>,
    /// The table's schema; `None` is the one that the server takes by itself.
    pub schema: Option<String>,
    /// The table; created with [`Columns::simple`] by `import` when it does not exist.
    pub table: String,
    /// What its columns are called.
    pub columns: Columns,
    /// Most connections at one time, besides the one that listens.
    pub pool_max: usize,
    /// How long one statement may take, waiting for locks included.
    pub statement_timeout: Duration,
    /// How long a new connection may take.
    pub connect_timeout: Duration,
    /// How often to look for changes, besides being told of them.
    pub poll_every: Duration,
    /// The channel of PostgreSQL on which the publisher tells of changes.
    pub notify_channel: Option<String>,
    /// A column that moves with every change of a row, so that looking is cheap.
    pub change_column: Option<String>,
}

/// Where a server listens.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Host {
    /// A name or address, and a port.
    Tcp(String, u16),
    /// PostgreSQL: the directory of its socket, with the port in the socket's name. MySQL: the socket.
    Socket(PathBuf, u16),
}

/// Encryption of the connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Tls {
    /// Encrypted, or not connected at all; the certificate and its name are verified.
    Require,
    /// Not encrypted: for sockets and for this machine.
    Off,
}

/// The words on the wire.
pub(super) trait Driver: Send + Sync + 'static {
    type Connection: Send + 'static;
    const DIALECT: Dialect;
    /// How a person calls it.
    const NAME: &'static str;
    /// Begins a transaction that sees what others committed meanwhile.
    const BEGIN: &'static str;
    /// Begins a transaction that cannot write.
    const BEGIN_TO_READ: &'static str;
    /// Whether the server takes writes in this session: one row with `on` or `1` when it does not.
    const READ_ONLY: &'static str;
    /// Lifts the limit on how long a statement may take, for this session.
    const UNLIMITED: &'static str;
    /// Our simple table, with `{table}` for its name.
    const SIMPLE_SCHEMA: &'static str;

    fn connect(
        &self,
        settings: &Settings,
    ) -> impl Future<Output = Result<Self::Connection, Trouble>> + Send;

    /// Asks the server for a sign of life.
    fn ping(connection: &mut Self::Connection) -> impl Future<Output = Result<(), Trouble>> + Send;

    fn batch(
        connection: &mut Self::Connection,
        sql: &str,
    ) -> impl Future<Output = Result<(), Trouble>> + Send;

    fn execute(
        connection: &mut Self::Connection,
        query: &Query,
    ) -> impl Future<Output = Result<u64, Trouble>> + Send;

    /// Hands out rows as they arrive; each of them within `patience`.
    fn stream(
        connection: &mut Self::Connection,
        query: &Query,
        patience: Duration,
        each: impl FnMut(TextRow) + Send,
    ) -> impl Future<Output = Result<(), Trouble>> + Send;

    /// The columns that a query would answer with. What is wrong with it is told in the server's own words:
    /// before it was carried out they quote nothing but the query.
    fn columns(
        connection: &mut Self::Connection,
        query: &Query,
    ) -> impl Future<Output = Result<Vec<String>, Trouble>> + Send;

    /// What the catalogue says of the table; nothing where there is none.
    fn catalogue(
        connection: &mut Self::Connection,
        settings: &Settings,
    ) -> impl Future<Output = Result<Vec<Column>, Trouble>> + Send;

    /// Names of tables that there are, for whoever looks for another one.
    fn tables() -> Query;
}

/// What went wrong, by the reaction that it demands.
#[derive(Debug)]
pub(super) enum Trouble {
    /// No connection, or none any more.
    Lost(String),
    /// The server answers that it cannot now.
    Busy(String),
    /// The server answers that it never will.
    Wrong(String),
    /// There is such a row already.
    Duplicate,
    /// The text cannot be a value of the column that it is compared with.
    NoSuchValue,
}

/// A row whose cells are all text. Some of them are tokens, so they are wiped.
pub(super) struct TextRow(pub(super) Vec<Option<Zeroizing<Vec<u8>>>>);

impl Cells for TextRow {
    fn cell(&self, at: usize) -> Cell<'_> {
        self.0.get(at).and_then(Option::as_ref).map_or(Cell::Null, |text| Cell::Text(text))
    }
}

impl TextRow {
    pub(super) fn text(&self, at: usize) -> Option<&str> {
        std::str::from_utf8(self.0.get(at)?.as_ref()?).ok()
    }
}

/// The number of rows, and something that moves with each change: the last value of a column, or a sum
/// over all rows.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Look {
    pub(super) rows: i128,
    pub(super) sum: i128,
    pub(super) newest: Option<String>,
}

impl fmt::Display for Host {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Tcp(host, port) if host.contains(':') => write!(f, "[{host}]:{port}"),
            Self::Tcp(host, port) => write!(f, "{host}:{port}"),
            Self::Socket(path, _) => write!(f, "{}", path.display()),
        }
    }
}

/// The store as messages name it: the server and the database, and nobody's name or password.
pub(super) fn place(kind: &str, settings: &Settings) -> String {
    format!("{kind} {}, database {}", settings.host, settings.database)
}

/// The quoted name of the table.
pub(super) fn quoted_table(dialect: Dialect, settings: &Settings) -> String {
    let table = dialect.quoted(&settings.table);
    match &settings.schema {
        Some(schema) => format!("{}.{table}", dialect.quoted(schema)),
        None => table,
    }
}

/// Makes the table of our own schema where there is none.
pub(super) async fn create<D: Driver>(driver: D, settings: &Settings) -> Result<(), Error> {
    let place = place(D::NAME, settings);
    let said = |trouble| say(&place, &settings.table, trouble);
    let mut connection = connect(&driver, settings).await.map_err(said)?;
    names_are_plain(&place, settings)?;
    let there = D::catalogue(&mut connection, settings).await.map_err(said)?;
    if !there.is_empty() || settings.columns != Columns::simple() {
        return statements::<D>(&mut connection, settings).await.map(drop);
    }
    let table = quoted_table(D::DIALECT, settings);
    D::batch(&mut connection, &D::SIMPLE_SCHEMA.replace("{table}", &table)).await.map_err(said)
}

/// The reason behind an error of a connection, in words that quote nothing.
pub(super) fn connection_reason(error: &(dyn std::error::Error + 'static)) -> String {
    let mut next = Some(error);
    while let Some(error) = next {
        if let Some(tls) = error.downcast_ref::<rustls::Error>() {
            return format!(
                "TLS failed: {tls}; is the right ca_file named, and the host as the certificate has it?"
            );
        }
        if let Some(io) = error.downcast_ref::<std::io::Error>() {
            // What rustls says comes wrapped in one of these.
            if let Some(tls) = io.get_ref().and_then(|inner| inner.downcast_ref::<rustls::Error>())
            {
                return connection_reason(tls);
            }
            return format!("the connection failed: {}", io.kind());
        }
        next = error.source();
    }
    "the connection failed or was closed".to_owned()
}

pub(super) async fn connect<D: Driver>(
    driver: &D,
    settings: &Settings,
) -> Result<D::Connection, Trouble> {
    let connect = driver.connect(settings);
    tokio::time::timeout(settings.connect_timeout, connect).await.unwrap_or_else(|_| Err(silent()))
}

pub(super) fn silent() -> Trouble {
    Trouble::Lost("it does not answer in time".to_owned())
}

pub(super) async fn rows<D: Driver>(
    connection: &mut D::Connection,
    query: &Query,
) -> Result<Vec<TextRow>, Trouble> {
    let mut rows = Vec::new();
    D::stream(connection, query, Duration::MAX, |row| rows.push(row)).await?;
    Ok(rows)
}

pub(super) async fn look<D: Driver>(
    connection: &mut D::Connection,
    settings: &Settings,
    statements: &Statements,
) -> Result<Look, Trouble> {
    let query = match &settings.change_column {
        Some(column) => statements.newest(column),
        None => statements.digest_all(),
    };
    Ok(look_in(&rows::<D>(connection, &query).await?, settings.change_column.is_some()))
}

pub(super) fn look_in(rows: &[TextRow], by_column: bool) -> Look {
    let Some(row) = rows.first() else { return Look::default() };
    let number = |at: usize| row.text(at).and_then(|text| text.parse().ok()).unwrap_or_default();
    if by_column {
        Look { rows: number(0), sum: 0, newest: row.text(1).map(str::to_owned) }
    } else {
        Look { rows: number(0), sum: number(1), newest: None }
    }
}

fn names_are_plain(place: &str, settings: &Settings) -> Result<(), Error> {
    let names = columns::mapped(&settings.columns)
        .into_iter()
        .chain([settings.table.as_str()])
        .chain(settings.schema.as_deref())
        .chain(settings.change_column.as_deref())
        .chain(settings.notify_channel.as_deref());
    match names.into_iter().find(|name| !is_identifier(name)) {
        None => Ok(()),
        Some(name) => Err(Error::Damaged {
            place: place.to_owned(),
            reason: format!(
                "the name `{}` must consist of letters, digits and underscores",
                name.escape_debug()
            ),
        }),
    }
}

/// Checks the names, the table, every mapped column, and that units fit their columns.
pub(super) async fn statements<D: Driver>(
    connection: &mut D::Connection,
    settings: &Settings,
) -> Result<Statements, Error> {
    let place = place(D::NAME, settings);
    let limit = settings.statement_timeout + GRACE;
    let said = |trouble| say(&place, &settings.table, trouble);
    let wrong = |reason: String| Error::Damaged { place: place.clone(), reason };
    names_are_plain(&place, settings)?;
    let table = &settings.table;
    let there = tokio::time::timeout(limit, D::catalogue(connection, settings));
    let there = there.await.unwrap_or_else(|_| Err(silent())).map_err(said)?;
    if there.is_empty() {
        let tables = rows::<D>(connection, &D::tables()).await.map_err(said)?;
        let names: Vec<_> = tables.iter().filter_map(|row| row.text(0)).collect();
        let names = if names.is_empty() { "none".to_owned() } else { names.join(", ") };
        return Err(wrong(format!(
            "there is no table `{table}` that this user can see; there is: {names}"
        )));
    }
    let find = |name: &str| there.iter().find(|one| D::DIALECT.same_name(&one.name, name));
    let mapped = columns::mapped(&settings.columns);
    let needed = mapped.into_iter().chain(settings.change_column.as_deref());
    for name in needed {
        if find(name).is_none() {
            let names: Vec<_> = there.iter().map(|column| column.name.as_str()).collect();
            return Err(wrong(format!(
                "table `{table}` has no column `{name}`; its columns are: {}",
                names.join(", ")
            )));
        }
    }
    let columns = &settings.columns;
    for time in [&columns.expires_at, &columns.refresh_expires_at, &columns.issued_at] {
        let Some(time) = time else { continue };
        let is_number = find(&time.name).is_some_and(|column| column.kind == ColumnKind::Number);
        if is_number && time.unit == TimeUnit::Text {
            return Err(wrong(format!(
                "table `{table}`, column `{}` holds numbers; its unit is unix_seconds or \
                 unix_millis, not text",
                time.name
            )));
        }
    }
    let table = quoted_table(D::DIALECT, settings);
    Ok(Statements::new(D::DIALECT, table, settings.columns.clone(), there))
}

pub(super) fn say(place: &str, table: &str, trouble: Trouble) -> Error {
    let place = place.to_owned();
    match trouble {
        Trouble::Lost(reason) | Trouble::Busy(reason) => Error::Unavailable { place, reason },
        Trouble::Wrong(reason) => {
            Error::Damaged { place, reason: format!("table `{table}`: {reason}") }
        }
        Trouble::Duplicate => Error::Damaged {
            place,
            reason: format!("table `{table}` refuses a second row with the same key"),
        },
        Trouble::NoSuchValue => Error::Damaged {
            place,
            reason: format!(
                "a statement on table `{table}` was refused: a value does not fit the type of its \
                 column"
            ),
        },
    }
}

/// Besides the time that a statement may take on the server: for the way there and back.
pub(super) const GRACE: Duration = Duration::from_secs(1);
