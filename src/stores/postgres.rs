//! A store in a table of PostgreSQL, or of a server that speaks its protocol.
//!
//! Values travel as text and the server casts them, so `uuid`, `timestamp(3)`, `timestamptz`, enums and
//! numbers all work and keep their type. Statements have no names, which poolers between us and the server
//! want. The publisher's own triggers can tell us of changes on a channel (`LISTEN`).

use super::{
    Draft, Error, Saved, Status, StoredAccount, TokenStore,
    cells::Value,
    columns::is_identifier,
    dialect::{Column, ColumnKind, Dialect, Query},
    engine::ServerStore,
    server::{self, Driver, Host, TextRow, Tls, Trouble, connection_reason},
};
use crate::{
    core::{AccountId, Fingerprint},
    oauth::{Fingerprinter, Token},
    postgres_save::Sessions,
    postgres_tls::Connector,
};
use futures_util::StreamExt;
use std::{future::poll_fn, pin::pin, sync::Arc, time::Duration};
use tokio::{sync::watch, task::JoinHandle};
use tokio_postgres::{
    AsyncMessage, Client, Connection, Socket,
    config::SslMode,
    error::SqlState,
    tls::{MakeTlsConnect, NoTls, TlsConnect},
    types::{ToSql, Type},
};
use zeroize::Zeroizing;

pub use super::server::Settings;

/// See the module.
pub struct PostgresStore {
    store: ServerStore<Postgres>,
    /// Our own connections, and that of our state once it saves for us.
    ours: Sessions,
    /// True when our state is in the same database.
    pub(super) drafts: bool,
    listener: Option<JoinHandle<()>>,
}

impl PostgresStore {
    /// Connects to a server that runs, and checks that it has the table and every mapped column.
    ///
    /// # Errors
    /// When it cannot be reached or something is missing; the message says what there is instead.
    pub async fn open(settings: Settings, fingerprinter: Fingerprinter) -> Result<Self, Error> {
        let (count, events) = watch::channel(0);
        let driver = Postgres::default();
        let ours = driver.ours.clone();
        let channel = settings.notify_channel.clone().filter(|channel| is_identifier(channel));
        let mut listener = None;
        if let Some(channel) = channel {
            let place = server::place(Postgres::NAME, &settings);
            let unavailable = |trouble| server::say(&place, &settings.table, trouble);
            let listening = tokio::time::timeout(
                settings.connect_timeout,
                Listening::start(&settings, &channel),
            );
            let listening = listening.await.unwrap_or_else(|_| Err(server::silent()));
            let listening = listening.map_err(unavailable)?;
            let settings = settings.clone();
            let ours = ours.clone();
            listener = Some(tokio::spawn(listen(settings, channel, listening, ours, count)));
        }
        let listener = AbortOnDrop(listener);
        let store = ServerStore::open(driver, settings, fingerprinter, events).await?;
        Ok(Self { store, ours, drafts: false, listener: listener.keep() })
    }
}

impl PostgresStore {
    pub(super) const fn server(&self) -> &ServerStore<Postgres> {
        &self.store
    }
}

impl Drop for PostgresStore {
    fn drop(&mut self) {
        if let Some(listener) = &self.listener {
            listener.abort();
        }
    }
}

/// A task that is not needed when what it was started for fails.
struct AbortOnDrop(Option<JoinHandle<()>>);

impl AbortOnDrop {
    fn keep(mut self) -> Option<JoinHandle<()>> {
        self.0.take()
    }
}

impl Drop for AbortOnDrop {
    fn drop(&mut self) {
        if let Some(task) = &self.0 {
            task.abort();
        }
    }
}

impl TokenStore for PostgresStore {
    async fn load(
        &self,
        each: impl FnMut(StoredAccount) + Send,
        damaged: impl FnMut(Error) + Send,
    ) -> Result<(), Error> {
        self.store.load(each, damaged).await
    }

    async fn get(&self, id: &AccountId) -> Result<Option<StoredAccount>, Error> {
        self.store.get(id).await
    }

    async fn save(
        &self,
        id: &AccountId,
        token: &Token,
        expected: Fingerprint,
    ) -> Result<Saved, Error> {
        self.store.save(id, token, expected).await
    }

    async fn draft(&self, id: &AccountId, expected: Fingerprint) -> Option<Draft> {
        if !self.drafts {
            return None;
        }
        let store = &self.store.inner;
        let (found, samples) = store.read_ahead(id, expected).await?;
        let (store, id, sessions) = (Arc::clone(store), id.clone(), self.ours.clone());
        Some(Draft { store, id, found, samples, sessions })
    }

    async fn mark(&self, id: &AccountId, status: Status) -> Result<(), Error> {
        self.store.mark(id, status).await
    }

    async fn add(&self, account: &StoredAccount) -> Result<Saved, Error> {
        self.store.add(account).await
    }

    async fn probe(&self) -> Result<(), Error> {
        self.store.probe().await
    }

    async fn changed(&self) {
        self.store.changed().await;
    }
}

/// Makes the table of our own schema where there is none.
pub(super) async fn create(settings: &Settings) -> Result<(), Error> {
    server::create(Postgres::default(), settings).await
}

/// The words on PostgreSQL's wire.
#[derive(Default)]
pub(super) struct Postgres {
    /// The server's numbers of our own connections: what they tell of is no news.
    ours: Sessions,
}

/// A connection, and its number as long as it lives.
pub(super) struct Session {
    client: Client,
    number: i32,
    ours: Sessions,
}

impl Drop for Session {
    fn drop(&mut self) {
        self.ours.remove(self.number);
    }
}

impl Driver for Postgres {
    type Connection = Session;
    const DIALECT: Dialect = Dialect::Postgres;
    const NAME: &'static str = "postgres";
    const BEGIN: &'static str = "BEGIN ISOLATION LEVEL READ COMMITTED READ WRITE";
    const BEGIN_TO_READ: &'static str = "BEGIN ISOLATION LEVEL READ COMMITTED READ ONLY";
    const READ_ONLY: &'static str = "SELECT CASE WHEN pg_is_in_recovery() THEN 'on' \
        ELSE current_setting('default_transaction_read_only') END";
    const UNLIMITED: &'static str = "SET statement_timeout = 0";
    const SIMPLE_SCHEMA: &'static str = SIMPLE_SCHEMA;

    async fn connect(&self, settings: &Settings) -> Result<Session, Trouble> {
        let (client, connection) = dial(settings).await?;
        tokio::spawn(async move {
            // The reason reaches whoever waits for an answer.
            let _ = connection.run().await;
        });
        let millis = settings.statement_timeout.as_millis();
        // A stopped process must not hold the publisher's row for ever, hence the third.
        let session = format!(
            "SET statement_timeout = {millis}; SET lock_timeout = {millis}; \
             SET idle_in_transaction_session_timeout = {}; \
             SET TimeZone = 'UTC'; SET DateStyle = 'ISO, YMD'",
            millis * 4
        );
        client.batch_execute(&session).await.map_err(|error| trouble(&error))?;
        let row = client.query_typed_one("SELECT pg_backend_pid()", &[]).await;
        let number = row.and_then(|row| row.try_get(0)).map_err(|error| trouble(&error))?;
        self.ours.add(number);
        Ok(Session { client, number, ours: self.ours.clone() })
    }

    async fn ping(session: &mut Session) -> Result<(), Trouble> {
        session.client.check_connection().await.map_err(|error| trouble(&error))
    }

    async fn batch(session: &mut Session, sql: &str) -> Result<(), Trouble> {
        session.client.batch_execute(sql).await.map_err(|error| trouble(&error))
    }

    async fn execute(session: &mut Session, query: &Query) -> Result<u64, Trouble> {
        let texts = texts(&query.values);
        session
            .client
            .execute_typed(&query.sql, &typed(&texts))
            .await
            .map_err(|error| trouble(&error))
    }

    async fn stream(
        session: &mut Session,
        query: &Query,
        patience: Duration,
        mut each: impl FnMut(TextRow) + Send,
    ) -> Result<(), Trouble> {
        let texts = texts(&query.values);
        let values = typed(&texts);
        let rows = session.client.query_typed_raw(&query.sql, values);
        let rows = rows.await.map_err(|error| trouble(&error))?;
        let mut rows = pin!(rows);
        loop {
            let next = tokio::time::timeout(patience, rows.next()).await;
            let Some(row) = next.map_err(|_| server::silent())? else { return Ok(()) };
            let row = row.map_err(|error| trouble(&error))?;
            let cells = (0..row.len()).map(|at| {
                let text: Option<&str> = row.try_get(at).map_err(|error| trouble(&error))?;
                Ok(text.map(|text| Zeroizing::new(text.as_bytes().to_owned())))
            });
            each(TextRow(cells.collect::<Result<_, Trouble>>()?));
        }
    }

    async fn columns(session: &mut Session, query: &Query) -> Result<Vec<String>, Trouble> {
        let types = vec![Type::TEXT; query.values.len()];
        let prepared = session.client.prepare_typed(&query.sql, &types).await;
        let prepared = prepared.map_err(|error| match error.as_db_error() {
            Some(said) => Trouble::Wrong(said.message().to_owned()),
            None => trouble(&error),
        })?;
        Ok(prepared.columns().iter().map(|column| column.name().to_owned()).collect())
    }

    async fn catalogue(session: &mut Session, settings: &Settings) -> Result<Vec<Column>, Trouble> {
        let texts = [Some(settings.table.clone()), settings.schema.clone()];
        let rows = session
            .client
            .query_typed(CATALOGUE, &typed(&texts))
            .await
            .map_err(|error| trouble(&error))?;
        let column = |row: &tokio_postgres::Row| {
            let (sql_type, category): (String, String) = (row.try_get(1)?, row.try_get(2)?);
            Ok(Column {
                name: row.try_get(0)?,
                kind: match (category.as_str(), sql_type.as_str()) {
                    (_, "json" | "jsonb") => ColumnKind::Json,
                    ("S", _) => ColumnKind::Text,
                    ("N", _) => ColumnKind::Number,
                    ("D", _) => ColumnKind::Date,
                    ("A", _) => ColumnKind::List,
                    _ => ColumnKind::Other,
                },
                sql_type,
                not_null: row.try_get::<_, String>(3)? == "true",
            })
        };
        rows.iter()
            .map(column)
            .collect::<Result<_, tokio_postgres::Error>>()
            .map_err(|error| trouble(&error))
    }

    fn tables() -> Query {
        Query { sql: TABLES.to_owned(), values: Vec::new() }
    }
}

/// A connection whose messages somebody must take.
enum Link {
    Plain(Box<Connection<Socket, tokio_postgres::tls::NoTlsStream>>),
    Tls(Box<Connection<Socket, <Connector as MakeTlsConnect<Socket>>::Stream>>),
}

impl Link {
    async fn run(self) -> Result<(), tokio_postgres::Error> {
        match self {
            Self::Plain(connection) => connection.await,
            Self::Tls(connection) => connection.await,
        }
    }

    /// The next thing that the server says unasked; `None` when the connection is gone.
    async fn message(&mut self) -> Option<AsyncMessage> {
        match self {
            Self::Plain(connection) => next_message(connection).await,
            Self::Tls(connection) => next_message(connection).await,
        }
    }
}

async fn next_message<T>(connection: &mut Connection<Socket, T>) -> Option<AsyncMessage>
where
    T: tokio::io::AsyncRead + tokio::io::AsyncWrite + Unpin,
{
    poll_fn(|context| connection.poll_message(context)).await?.ok()
}

async fn dial(settings: &Settings) -> Result<(Client, Link), Trouble> {
    let mut config = tokio_postgres::Config::new();
    match &settings.host {
        Host::Tcp(host, port) => config.host(host).port(*port),
        Host::Socket(directory, port) => config.host_path(directory).port(*port),
    };
    config
        .dbname(&settings.database)
        .user(&settings.user)
        .application_name("oauth-keepalive")
        .connect_timeout(settings.connect_timeout)
        .keepalives_idle(KEEPALIVE)
        .keepalives_interval(KEEPALIVE / KEEPALIVE_RETRIES)
        .keepalives_retries(KEEPALIVE_RETRIES);
    if let Some(password) = &settings.password {
        let password = password.read().map_err(|error| Trouble::Lost(error.to_string()))?;
        config.password(password.expose());
    }
    match settings.tls {
        Tls::Off => {
            config.ssl_mode(SslMode::Disable);
            let (client, connection) = connect(&config, NoTls).await?;
            Ok((client, Link::Plain(Box::new(connection))))
        }
        Tls::Require => {
            config.ssl_mode(SslMode::Require);
            let tls = Connector::new(settings.ca_file.as_deref()).map_err(Trouble::Lost)?;
            let (client, connection) = connect(&config, tls).await?;
            Ok((client, Link::Tls(Box::new(connection))))
        }
    }
}

async fn connect<T>(
    config: &tokio_postgres::Config,
    tls: T,
) -> Result<(Client, Connection<Socket, T::Stream>), Trouble>
where
    T: MakeTlsConnect<Socket>,
    T::TlsConnect: TlsConnect<Socket>,
{
    config.connect(tls).await.map_err(|error| match error.as_db_error() {
        // Before a session exists everything may be mended without us: it is tried again.
        Some(_) => Trouble::Lost(match trouble(&error) {
            Trouble::Lost(reason) | Trouble::Busy(reason) | Trouble::Wrong(reason) => reason,
            Trouble::Duplicate | Trouble::NoSuchValue => refused(&error),
        }),
        None => trouble(&error),
    })
}

/// A connection that waits for notifications. The client is kept: without it the connection ends.
struct Listening {
    link: Link,
    _client: Client,
}

impl Listening {
    async fn start(settings: &Settings, channel: &str) -> Result<Self, Trouble> {
        let (client, mut link) = dial(settings).await?;
        let sql = format!("LISTEN \"{channel}\"");
        {
            let mut listen = pin!(client.batch_execute(&sql));
            loop {
                tokio::select! {
                    done = &mut listen => {
                        done.map_err(|error| trouble(&error))?;
                        break;
                    }
                    message = link.message() => if message.is_none() {
                        return Err(Trouble::Lost("the connection was closed".to_owned()));
                    },
                }
            }
        }
        Ok(Self { link, _client: client })
    }

    /// Counts what others tell of, until the connection is gone.
    async fn count(&mut self, ours: &Sessions, count: &watch::Sender<u64>) {
        while let Some(message) = self.link.message().await {
            let AsyncMessage::Notification(notification) = message else { continue };
            if !ours.contains(notification.process_id()) {
                more(count);
            }
        }
    }
}

/// Listens for ever. Between two connections anything may have happened, so that counts too.
async fn listen(
    settings: Settings,
    channel: String,
    mut listening: Listening,
    ours: Sessions,
    count: watch::Sender<u64>,
) {
    loop {
        listening.count(&ours, &count).await;
        let mut pause = LISTEN_AGAIN_FIRST;
        listening = loop {
            tokio::time::sleep(pause).await;
            pause = (pause * 2).min(LISTEN_AGAIN_MAX);
            let again = Listening::start(&settings, &channel);
            if let Ok(Ok(listening)) = tokio::time::timeout(settings.connect_timeout, again).await {
                break listening;
            }
        };
        more(&count);
    }
}

fn more(count: &watch::Sender<u64>) {
    count.send_modify(|count| *count = count.wrapping_add(1));
}

fn texts(values: &[Value]) -> Vec<Option<String>> {
    values
        .iter()
        .map(|value| match value {
            Value::Null => None,
            Value::Integer(number) => Some(number.to_string()),
            Value::Real(number) => Some(number.to_string()),
            Value::Text(text) => Some(text.clone()),
            Value::Bytes(bytes) => Some(String::from_utf8_lossy(bytes).into_owned()),
        })
        .collect()
}

fn typed(texts: &[Option<String>]) -> Vec<(&(dyn ToSql + Sync), Type)> {
    texts.iter().map(|text| (text as &(dyn ToSql + Sync), Type::TEXT)).collect()
}

/// What an error demands. Only the code is shown: the message and its details quote values.
fn trouble(error: &tokio_postgres::Error) -> Trouble {
    let Some(code) = error.code() else { return Trouble::Lost(connection_reason(error)) };
    let busy = |reason: &str| Trouble::Busy(reason.to_owned());
    let wrong = |reason: &str| Trouble::Wrong(reason.to_owned());
    match *code {
        SqlState::UNIQUE_VIOLATION => Trouble::Duplicate,
        SqlState::INVALID_TEXT_REPRESENTATION
        | SqlState::NUMERIC_VALUE_OUT_OF_RANGE
        | SqlState::INVALID_DATETIME_FORMAT
        | SqlState::DATETIME_FIELD_OVERFLOW
        | SqlState::CHARACTER_NOT_IN_REPERTOIRE
        | SqlState::UNTRANSLATABLE_CHARACTER => Trouble::NoSuchValue,
        SqlState::QUERY_CANCELED => busy("a statement took longer than statement_timeout"),
        SqlState::LOCK_NOT_AVAILABLE => {
            busy("another session holds a lock for longer than statement_timeout")
        }
        SqlState::READ_ONLY_SQL_TRANSACTION => {
            busy("it takes no writes here: a replica, or set to read-only")
        }
        SqlState::T_R_DEADLOCK_DETECTED | SqlState::T_R_SERIALIZATION_FAILURE => {
            busy("another session was faster; try again")
        }
        SqlState::INVALID_PASSWORD | SqlState::INVALID_AUTHORIZATION_SPECIFICATION => {
            busy("it refuses our user or password")
        }
        SqlState::INVALID_CATALOG_NAME => busy("it has no such database"),
        SqlState::INSUFFICIENT_PRIVILEGE => wrong(
            "our user lacks a privilege; it needs SELECT on the mapped columns and UPDATE on those \
             of the token (and INSERT to import)",
        ),
        SqlState::UNDEFINED_TABLE => wrong("it is gone"),
        SqlState::UNDEFINED_COLUMN => wrong("a mapped column is gone"),
        SqlState::STRING_DATA_RIGHT_TRUNCATION => wrong("a column is too short for a new value"),
        SqlState::NOT_NULL_VIOLATION => wrong(
            "a column without a default refuses to be empty; it may have to be filled by the \
             publisher",
        ),
        _ => match code.code().get(..2) {
            Some("08" | "57") => Trouble::Lost(refused(error)),
            Some("53") => busy("it is out of connections, memory or disk"),
            Some("58" | "XX") => busy(&refused(error)),
            Some("28") => busy("it refuses our user or password"),
            Some("23") => wrong("it refuses the change by one of its constraints"),
            _ => wrong(&refused(error)),
        },
    }
}

fn refused(error: &tokio_postgres::Error) -> String {
    let code = error.code().map_or("none", SqlState::code);
    format!("the server refused a statement or the connection, code {code}")
}

/// The table's columns, in the schema $2 or wherever the server looks by itself.
const CATALOGUE: &str = "
SELECT a.attname::text, format_type(a.atttypid, a.atttypmod), y.typcategory::text, a.attnotnull::text
FROM pg_attribute a
JOIN pg_class c ON c.oid = a.attrelid
JOIN pg_namespace n ON n.oid = c.relnamespace
JOIN pg_type y ON y.oid = a.atttypid
WHERE c.relname = $1::text AND c.relkind IN ('r', 'p', 'v', 'f', 'm')
    AND a.attnum > 0 AND NOT a.attisdropped
    AND CASE WHEN $2::text IS NULL THEN pg_table_is_visible(c.oid) ELSE n.nspname = $2::text END
ORDER BY a.attnum";

const TABLES: &str = "
SELECT n.nspname || '.' || c.relname
FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
WHERE c.relkind IN ('r', 'p', 'v', 'f', 'm') AND n.nspname <> 'information_schema'
    AND n.nspname NOT LIKE 'pg\\_%' AND has_table_privilege(c.oid, 'SELECT')
ORDER BY 1 LIMIT 50";

/// Instants are seconds since the epoch.
const SIMPLE_SCHEMA: &str = "
CREATE TABLE {table} (
    provider text NOT NULL,
    account text NOT NULL,
    app text,
    owner text,
    access_token text,
    refresh_token text,
    expires_at bigint,
    refresh_expires_at bigint,
    issued_at bigint,
    scopes text,
    subject text,
    enabled boolean NOT NULL DEFAULT true,
    status text,
    PRIMARY KEY (provider, account)
)";

/// A listener waits in silence: a network that dropped its connection is found out after twice this time.
const KEEPALIVE: Duration = Duration::from_secs(30);
const KEEPALIVE_RETRIES: u32 = 3;
/// Pauses between attempts to listen again.
const LISTEN_AGAIN_FIRST: Duration = Duration::from_millis(250);
const LISTEN_AGAIN_MAX: Duration = Duration::from_secs(5);
