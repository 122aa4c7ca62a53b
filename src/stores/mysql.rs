//! A store in a table of MySQL or MariaDB.
//!
//! Values travel as text and the server converts them; the session is strict, so that a token which does
//! not fit its column is refused instead of cut. There is nothing to listen to: changes are looked for.

use super::{
    Error, Saved, Status, StoredAccount, TokenStore,
    cells::Value,
    dialect::{Column, ColumnKind, Dialect, Query},
    engine::ServerStore,
    server::{self, Driver, Host, TextRow, Tls, Trouble, connection_reason},
};
use crate::{
    core::{AccountId, Fingerprint},
    oauth::{Fingerprinter, Token},
};
use mysql_async::{Conn, Opts, OptsBuilder, Params, Row, SslOpts, prelude::Queryable};
use std::time::Duration;
use tokio::sync::watch;
use zeroize::Zeroizing;

pub use super::server::Settings;

/// See the module.
pub struct MysqlStore(ServerStore<Mysql>);

impl MysqlStore {
    pub(super) const fn server(&self) -> &ServerStore<Mysql> {
        &self.0
    }
}

impl MysqlStore {
    /// Connects to a server that runs, and checks that it has the table and every mapped column.
    ///
    /// # Errors
    /// When it cannot be reached or something is missing; the message says what there is instead.
    pub async fn open(settings: Settings, fingerprinter: Fingerprinter) -> Result<Self, Error> {
        let (_, events) = watch::channel(0);
        ServerStore::open(Mysql, settings, fingerprinter, events).await.map(Self)
    }
}

impl TokenStore for MysqlStore {
    async fn load(
        &self,
        each: impl FnMut(StoredAccount) + Send,
        damaged: impl FnMut(Error) + Send,
    ) -> Result<(), Error> {
        self.0.load(each, damaged).await
    }

    async fn get(&self, id: &AccountId) -> Result<Option<StoredAccount>, Error> {
        self.0.get(id).await
    }

    async fn save(
        &self,
        id: &AccountId,
        token: &Token,
        expected: Fingerprint,
    ) -> Result<Saved, Error> {
        self.0.save(id, token, expected).await
    }

    async fn mark(&self, id: &AccountId, status: Status) -> Result<(), Error> {
        self.0.mark(id, status).await
    }

    async fn add(&self, account: &StoredAccount) -> Result<Saved, Error> {
        self.0.add(account).await
    }

    async fn probe(&self) -> Result<(), Error> {
        self.0.probe().await
    }

    async fn changed(&self) {
        self.0.changed().await;
    }
}

/// Makes the table of our own schema where there is none.
pub(super) async fn create(settings: &Settings) -> Result<(), Error> {
    server::create(Mysql, settings).await
}

/// The words on MySQL's wire.
pub(super) struct Mysql;

impl Driver for Mysql {
    type Connection = Conn;
    const DIALECT: Dialect = Dialect::Mysql;
    const NAME: &'static str = "mysql";
    const BEGIN: &'static str = "START TRANSACTION";
    const BEGIN_TO_READ: &'static str = "START TRANSACTION READ ONLY";
    const READ_ONLY: &'static str = "SELECT CAST(@@read_only AS CHAR)";
    const UNLIMITED: &'static str = "/*M! SET SESSION max_statement_time = 0 */";
    const SIMPLE_SCHEMA: &'static str = SIMPLE_SCHEMA;

    async fn connect(&self, settings: &Settings) -> Result<Conn, Trouble> {
        // The library takes the provider that the process has.
        let _ = rustls::crypto::ring::default_provider().install_default();
        let opened = Conn::new(options(settings)?).await;
        // Before a session exists everything may be mended without us: it is tried again.
        let mut conn = opened.map_err(|error| match trouble(&error) {
            Trouble::Lost(reason) | Trouble::Busy(reason) | Trouble::Wrong(reason) => {
                Trouble::Lost(reason)
            }
            Trouble::Duplicate | Trouble::NoSuchValue => Trouble::Lost(refused(&error)),
        })?;
        let seconds = settings.statement_timeout.as_secs_f64();
        // A lock is waited for in whole seconds.
        let lock_seconds = settings.statement_timeout.as_secs().max(1);
        let session = format!(
            "SET SESSION time_zone = '+00:00', \
             SESSION sql_mode = CONCAT(@@sql_mode, ',STRICT_ALL_TABLES'), \
             SESSION transaction_isolation = 'READ-COMMITTED', \
             SESSION innodb_lock_wait_timeout = {lock_seconds}, \
             SESSION lock_wait_timeout = {lock_seconds}"
        );
        let (session, limit) = if is_mariadb(&mut conn).await? {
            (
                session.replace("transaction_isolation", "tx_isolation"),
                format!("SET SESSION max_statement_time = {seconds}"),
            )
        } else {
            let millis = settings.statement_timeout.as_millis();
            (session, format!("SET SESSION max_execution_time = {millis}"))
        };
        for sql in ["SET NAMES utf8mb4".to_owned(), session, limit] {
            Self::batch(&mut conn, &sql).await?;
        }
        Ok(conn)
    }

    async fn ping(conn: &mut Conn) -> Result<(), Trouble> {
        conn.ping().await.map_err(|error| trouble(&error))
    }

    async fn batch(conn: &mut Conn, sql: &str) -> Result<(), Trouble> {
        conn.query_drop(sql).await.map_err(|error| trouble(&error))
    }

    async fn execute(conn: &mut Conn, query: &Query) -> Result<u64, Trouble> {
        let done = conn.exec_drop(query.sql.as_str(), values(query)).await;
        done.map_err(|error| trouble(&error))?;
        Ok(conn.affected_rows())
    }

    async fn stream(
        conn: &mut Conn,
        query: &Query,
        patience: Duration,
        mut each: impl FnMut(TextRow) + Send,
    ) -> Result<(), Trouble> {
        let rows = conn.exec_iter(query.sql.as_str(), values(query));
        let mut rows = rows.await.map_err(|error| trouble(&error))?;
        loop {
            let next = tokio::time::timeout(patience, rows.next()).await;
            let next = next.map_err(|_| server::silent())?.map_err(|error| trouble(&error))?;
            let Some(row) = next else { break };
            each(text_row(row)?);
        }
        rows.drop_result().await.map_err(|error| trouble(&error))
    }

    async fn columns(conn: &mut Conn, query: &Query) -> Result<Vec<String>, Trouble> {
        let prepared = conn.prep(query.sql.as_str()).await;
        let prepared = prepared.map_err(|error| match &error {
            mysql_async::Error::Server(said) => Trouble::Wrong(said.message.clone()),
            _ => trouble(&error),
        })?;
        Ok(prepared.columns().iter().map(|column| column.name_str().into_owned()).collect())
    }

    async fn catalogue(conn: &mut Conn, settings: &Settings) -> Result<Vec<Column>, Trouble> {
        let schema = settings.schema.as_ref().unwrap_or(&settings.database);
        let texts = (schema.as_str(), settings.table.as_str());
        let rows: Vec<(String, String, String)> =
            conn.exec(CATALOGUE, texts).await.map_err(|error| trouble(&error))?;
        if rows.is_empty() {
            return Ok(Vec::new());
        }
        // MariaDB's JSON is a text with a check. The catalogue has it too, but looks into every table of
        // the server for it.
        let table = server::quoted_table(Self::DIALECT, settings);
        let made: Option<Row> = conn
            .query_first(format!("SHOW CREATE TABLE {table}"))
            .await
            .map_err(|error| trouble(&error))?;
        let made: String = made.and_then(|row| row.get_opt(1)?.ok()).unwrap_or_default();
        let column = |(name, data_type, nullable): (String, String, String)| Column {
            kind: if made.contains(&format!("json_valid(`{name}`)")) {
                ColumnKind::Json
            } else {
                kind_of(&data_type)
            },
            name,
            sql_type: data_type,
            not_null: nullable == "NO",
        };
        Ok(rows.into_iter().map(column).collect())
    }

    fn tables() -> Query {
        Query { sql: TABLES.to_owned(), values: Vec::new() }
    }
}

fn options(settings: &Settings) -> Result<Opts, Trouble> {
    let password = settings.password.as_ref().map(|password| password.read()).transpose();
    let password = password.map_err(|error| Trouble::Lost(error.to_string()))?;
    let options = OptsBuilder::default()
        .db_name(Some(&settings.database))
        .user(Some(&settings.user))
        .pass(password.as_ref().map(|password| password.expose()))
        .tcp_keepalive(Some(KEEPALIVE))
        // The rows that were met count, not those that differ afterwards.
        .client_found_rows(true)
        // Nobody is asked whether there might be a socket as well.
        .prefer_socket(false);
    let options = match &settings.host {
        Host::Tcp(host, port) => options.ip_or_hostname(host).tcp_port(*port),
        Host::Socket(path, _) => options.socket(Some(path.display().to_string())),
    };
    let tls = match (settings.tls, &settings.ca_file) {
        (Tls::Off, _) => None,
        (Tls::Require, None) => Some(SslOpts::default()),
        (Tls::Require, Some(path)) => Some(
            SslOpts::default()
                .with_root_certs(vec![path.clone().into()])
                .with_disable_built_in_roots(true),
        ),
    };
    Ok(options.ssl_opts(tls).into())
}

/// MariaDB and MySQL have other names for two of the settings.
async fn is_mariadb(conn: &mut Conn) -> Result<bool, Trouble> {
    let version: Option<String> =
        conn.query_first("SELECT VERSION()").await.map_err(|error| trouble(&error))?;
    Ok(version.is_some_and(|version| version.contains("MariaDB")))
}

fn values(query: &Query) -> Params {
    let value = |value: &Value| match value {
        Value::Null => mysql_async::Value::NULL,
        Value::Integer(number) => mysql_async::Value::Int(*number),
        Value::Real(number) => mysql_async::Value::Double(*number),
        Value::Text(text) => mysql_async::Value::Bytes(text.clone().into_bytes()),
        Value::Bytes(bytes) => mysql_async::Value::Bytes(bytes.clone()),
    };
    let values: Vec<_> = query.values.iter().map(value).collect();
    if values.is_empty() { Params::Empty } else { Params::Positional(values) }
}

fn text_row(row: Row) -> Result<TextRow, Trouble> {
    let cell = |value| match value {
        mysql_async::Value::NULL => Ok(None),
        mysql_async::Value::Bytes(bytes) => Ok(Some(Zeroizing::new(bytes))),
        _ => Err(Trouble::Wrong("a column that was text is something else now".to_owned())),
    };
    row.unwrap().into_iter().map(cell).collect::<Result<_, _>>().map(TextRow)
}

fn kind_of(data_type: &str) -> ColumnKind {
    match data_type {
        "datetime" | "timestamp" => ColumnKind::Date,
        "bit" => ColumnKind::Bits,
        "json" => ColumnKind::Json,
        "tinyint" | "smallint" | "mediumint" | "int" | "bigint" | "decimal" | "float"
        | "double" => ColumnKind::Number,
        "char" | "varchar" | "tinytext" | "text" | "mediumtext" | "longtext" | "enum" => {
            ColumnKind::Text
        }
        _ => ColumnKind::Other,
    }
}

/// What an error demands. Only the code is shown: the message quotes values.
fn trouble(error: &mysql_async::Error) -> Trouble {
    let mysql_async::Error::Server(answer) = error else {
        return Trouble::Lost(match error {
            mysql_async::Error::Driver(mysql_async::DriverError::NoClientSslFlagFromServer) => {
                "the server does not speak TLS; give it a certificate".to_owned()
            }
            other => connection_reason(other),
        });
    };
    let busy = |reason: &str| Trouble::Busy(reason.to_owned());
    let wrong = |reason: &str| Trouble::Wrong(reason.to_owned());
    match answer.code {
        // ER_DUP_ENTRY, ER_DUP_ENTRY_WITH_KEY_NAME
        1062 | 1586 => Trouble::Duplicate,
        // Wrong or truncated values, text that does not fit the character set.
        1267 | 1292 | 1366 | 1367 | 3854 => Trouble::NoSuchValue,
        // ER_LOCK_WAIT_TIMEOUT
        1205 => busy("another session holds a lock for longer than statement_timeout"),
        // ER_QUERY_INTERRUPTED, ER_STATEMENT_TIMEOUT of MariaDB, ER_QUERY_TIMEOUT of MySQL
        1317 | 1969 | 3024 => busy("a statement took longer than statement_timeout"),
        // ER_OPTION_PREVENTS_STATEMENT, ER_READ_ONLY_MODE, ER_CANT_EXECUTE_IN_READ_ONLY_TRANSACTION
        1290 | 1836 | 1792 => busy("it takes no writes here: a replica, or set to read-only"),
        // ER_LOCK_DEADLOCK
        1213 => busy("another session was faster; try again"),
        // ER_CON_COUNT_ERROR, ER_TOO_MANY_USER_CONNECTIONS, ER_DISK_FULL, ER_RECORD_FILE_FULL, out of memory
        1040 | 1203 | 1021 | 1114 | 1037 | 1041 => busy("it is out of connections, memory or disk"),
        // ER_DBACCESS_DENIED_ERROR, ER_ACCESS_DENIED_ERROR and kin
        1044 | 1045 | 1698 => busy("it refuses our user or password"),
        // ER_BAD_DB_ERROR
        1049 => busy("it has no such database"),
        // ER_SERVER_SHUTDOWN, ER_CONNECTION_KILLED and kin
        1053 | 1077 | 1079 | 1927 | 1152 | 1158..=1161 => Trouble::Lost(refused(error)),
        // ER_TABLEACCESS_DENIED_ERROR, ER_COLUMNACCESS_DENIED_ERROR, ER_SPECIFIC_ACCESS_DENIED_ERROR
        1142 | 1143 | 1227 => wrong(
            "our user lacks a privilege; it needs SELECT on the mapped columns and UPDATE on those \
             of the token (and INSERT to import)",
        ),
        // ER_NO_SUCH_TABLE, ER_BAD_FIELD_ERROR
        1146 => wrong("it is gone"),
        1054 => wrong("a mapped column is gone"),
        // ER_DATA_TOO_LONG
        1406 => wrong("a column is too short for a new value"),
        // ER_BAD_NULL_ERROR, ER_NO_DEFAULT_FOR_FIELD
        1048 | 1364 => wrong(
            "a column without a default refuses to be empty; it may have to be filled by the \
             publisher",
        ),
        // Foreign keys and checks.
        1451 | 1452 | 3819 | 4025 => wrong("it refuses the change by one of its constraints"),
        _ => wrong(&refused(error)),
    }
}

fn refused(error: &mysql_async::Error) -> String {
    let code = match error {
        mysql_async::Error::Server(answer) => answer.code.to_string(),
        _ => "none".to_owned(),
    };
    format!("the server refused a statement or the connection, code {code}")
}

const CATALOGUE: &str = "
SELECT CAST(column_name AS CHAR), CAST(data_type AS CHAR), CAST(is_nullable AS CHAR)
FROM information_schema.columns WHERE table_schema = ? AND table_name = ?
ORDER BY ordinal_position";

const TABLES: &str = "
SELECT CONCAT(table_schema, '.', table_name) FROM information_schema.tables
WHERE table_schema NOT IN ('information_schema', 'mysql', 'performance_schema', 'sys')
ORDER BY 1 LIMIT 50";

/// Instants are seconds since the epoch. Keys are compared byte by byte, and short enough for an index.
const SIMPLE_SCHEMA: &str = "
CREATE TABLE {table} (
    provider varchar(64) CHARACTER SET utf8mb4 COLLATE utf8mb4_bin NOT NULL,
    account varchar(512) CHARACTER SET utf8mb4 COLLATE utf8mb4_bin NOT NULL,
    app varchar(255),
    owner varchar(320),
    access_token longtext,
    refresh_token longtext,
    expires_at bigint,
    refresh_expires_at bigint,
    issued_at bigint,
    scopes text,
    subject varchar(512),
    enabled boolean NOT NULL DEFAULT true,
    status varchar(32),
    PRIMARY KEY (provider, account)
) ENGINE = InnoDB, CHARACTER SET = utf8mb4";

/// A network that dropped the connection says so within about this time.
const KEEPALIVE: Duration = Duration::from_secs(30);
