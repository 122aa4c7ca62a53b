//! Real database servers, one of each kind for all tests here, and what a publisher does with one.
//!
//! Every test has a schema or database of its own, and reaches the server through a socket in a folder of
//! its own: taking that folder away takes the server away, from that test alone.

use crate::kinds::{OnDrop, accounts, fingerprinter};
use mysql_async::prelude::Queryable;
use oauth_keepalive::{
    secrets::SecretRef,
    stores::{
        AnyStore, Settings, TokenStore,
        columns::Columns,
        create,
        server::{self, Host, Tls},
    },
};
use std::{
    fs,
    io::{BufRead, BufReader, Read, Write},
    os::unix::net::{UnixListener, UnixStream},
    path::PathBuf,
    process::{Child, ChildStdin, ChildStdout, Command, Stdio},
    sync::{
        Arc, Mutex, OnceLock,
        atomic::{AtomicBool, AtomicU32, Ordering},
    },
    thread,
    time::Duration,
};
use tempfile::TempDir;
use tokio::runtime::Runtime;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Speaks {
    Postgres,
    Mysql,
}

/// A server that ends with this process.
pub(crate) struct Server {
    pub(crate) speaks: Speaks,
    pub(crate) port: u16,
    /// Where its socket and its certificates are.
    pub(crate) folder: PathBuf,
    talk: Mutex<(ChildStdin, BufReader<ChildStdout>)>,
    _process: Child,
}

impl Server {
    pub(crate) fn start(speaks: Speaks) -> Self {
        let script = match speaks {
            Speaks::Postgres => "tests/servers/postgres.sh",
            Speaks::Mysql => "tests/servers/mariadb.sh",
        };
        let mut process = Command::new(script)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap_or_else(|error| panic!("{script}: {error}"));
        let stdin = process.stdin.take().unwrap();
        let mut stdout = BufReader::new(process.stdout.take().unwrap());
        let mut line = String::new();
        stdout.read_line(&mut line).unwrap();
        let words: Vec<_> = line.split_whitespace().collect();
        let ["ready", folder, port] = words[..] else {
            panic!("{script} did not start a server; see its messages")
        };
        Self {
            speaks,
            port: port.parse().unwrap(),
            folder: folder.into(),
            talk: Mutex::new((stdin, stdout)),
            _process: process,
        }
    }

    /// The one that all tests share.
    pub(crate) fn of(speaks: Speaks) -> &'static Self {
        static POSTGRES: OnceLock<Server> = OnceLock::new();
        static MYSQL: OnceLock<Server> = OnceLock::new();
        let server = if speaks == Speaks::Postgres { &POSTGRES } else { &MYSQL };
        server.get_or_init(|| Self::start(speaks))
    }

    pub(crate) fn password(&self) -> String {
        fs::read_to_string(self.folder.join("password")).unwrap().trim().to_owned()
    }

    /// SIGKILL for all of it; when this returns, all of it is gone.
    pub(crate) fn kill(&self) {
        assert_eq!(self.told("kill"), "killed\n");
    }

    pub(crate) fn start_again(&self) {
        let answer = self.told("start");
        assert!(answer.starts_with("ready "), "{answer}");
    }

    fn told(&self, command: &str) -> String {
        let mut talk = self.talk.lock().unwrap();
        writeln!(talk.0, "{command}").unwrap();
        let mut line = String::new();
        talk.1.read_line(&mut line).unwrap();
        line
    }

    fn socket(&self) -> PathBuf {
        self.folder.join(self.socket_name())
    }

    fn socket_name(&self) -> String {
        match self.speaks {
            Speaks::Postgres => format!(".s.PGSQL.{}", self.port),
            Speaks::Mysql => "mysqld.sock".to_owned(),
        }
    }
}

/// A table in a schema of its own, and its publisher.
pub(crate) struct Table {
    pub(crate) server: &'static Server,
    pub(crate) schema: String,
    pub(crate) name: &'static str,
    pub(crate) columns: Columns,
    pub(crate) change_column: Option<&'static str>,
    pub(crate) notify: bool,
    pub(crate) user: String,
    pub(crate) publisher: Session,
    /// Cuts the connection at the next commit.
    pub(crate) cut: Arc<Mutex<Option<Cut>>>,
    root: TempDir,
}

/// Where a connection is cut, once.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Cut {
    /// The server never hears of the commit.
    BeforeCommit,
    /// The server commits, and we never hear of it.
    AfterCommit,
}

impl Table {
    /// `sql` makes the table; `{schema}` in it is the schema, `{odd}` a literal of the odd name.
    pub(crate) fn with(
        speaks: Speaks,
        name: &'static str,
        columns: Columns,
        change_column: Option<&'static str>,
        sql: &str,
    ) -> Self {
        Self::on(Server::of(speaks), name, columns, change_column, sql)
    }

    pub(crate) fn on(
        server: &'static Server,
        name: &'static str,
        columns: Columns,
        change_column: Option<&'static str>,
        sql: &str,
    ) -> Self {
        static NUMBER: AtomicU32 = AtomicU32::new(0);
        let schema = format!("test_{}", NUMBER.fetch_add(1, Ordering::Relaxed));
        let publisher = Session::new(server);
        match server.speaks {
            Speaks::Postgres => {
                publisher.run(&format!("CREATE SCHEMA {schema} AUTHORIZATION keeper"));
                publisher.run(&format!("SET search_path = {schema}"));
            }
            Speaks::Mysql => {
                publisher.run(&format!("CREATE DATABASE {schema} CHARACTER SET utf8mb4"));
                publisher.run(&format!("USE {schema}"));
            }
        }
        let root = tempfile::tempdir().unwrap();
        fs::create_dir(root.path().join("store")).unwrap();
        let table = Self {
            server,
            schema,
            name,
            columns,
            change_column,
            notify: false,
            user: "keeper".into(),
            publisher,
            cut: Arc::default(),
            root,
        };
        let odd = table.literal(crate::kinds::ODD_NAME);
        let sql = sql.replace("{schema}", &table.schema).replace("{odd}", &odd);
        sql.split(";\n")
            .filter(|one| !one.trim().is_empty())
            .for_each(|one| table.publisher.run(one));
        if server.speaks == Speaks::Postgres {
            table
                .publisher
                .run(&format!("GRANT ALL ON ALL TABLES IN SCHEMA {} TO keeper", table.schema));
        }
        relay(
            server.speaks,
            table.folder().join(server.socket_name()),
            server.socket(),
            &table.cut,
        );
        table
    }

    /// Our own schema, filled through our own `add`; then `sql`.
    pub(crate) async fn simple(
        speaks: Speaks,
        change_column: Option<&'static str>,
        notify: bool,
        sql: &str,
    ) -> Self {
        let mut table = Self::with(speaks, "accounts", Columns::simple(), None, "");
        create(&table.settings()).await.unwrap();
        let store = AnyStore::open(&table.settings(), fingerprinter()).await.unwrap();
        for account in accounts() {
            store.add(&account).await.unwrap();
        }
        for one in sql.replace("{schema}", &table.schema).split(";\n") {
            table.publisher.run(one);
        }
        (table.change_column, table.notify) = (change_column, notify);
        table
    }

    pub(crate) fn folder(&self) -> PathBuf {
        self.root.path().join("store")
    }

    pub(crate) fn server_settings(&self) -> server::Settings {
        let socket = match self.server.speaks {
            Speaks::Postgres => self.folder(),
            Speaks::Mysql => self.folder().join("mysqld.sock"),
        };
        let is_postgres = self.server.speaks == Speaks::Postgres;
        server::Settings {
            host: Host::Socket(socket, self.server.port),
            database: if is_postgres { "postgres".into() } else { self.schema.clone() },
            user: self.user.clone(),
            password: Some(SecretRef::File(self.server.folder.join("password"))),
            tls: Tls::Off,
            ca_file: None,
            schema: is_postgres.then(|| self.schema.clone()),
            table: self.name.into(),
            columns: self.columns.clone(),
            pool_max: 3,
            // Two of them are waited for by tests; the others must keep it on a busy machine.
            statement_timeout: Duration::from_secs(3),
            connect_timeout: Duration::from_secs(20),
            poll_every: if self.notify { crate::kinds::POLL_NEVER } else { POLL },
            notify_channel: self.notify.then(|| self.schema.clone()),
            change_column: self.change_column.map(str::to_owned),
        }
    }

    pub(crate) fn of_kind(&self, settings: server::Settings) -> Settings {
        match self.server.speaks {
            Speaks::Postgres => Settings::Postgres(settings),
            Speaks::Mysql => Settings::Mysql(settings),
        }
    }

    pub(crate) fn settings(&self) -> Settings {
        self.of_kind(self.server_settings())
    }

    pub(crate) async fn open(&self) -> AnyStore {
        AnyStore::open(&self.settings(), fingerprinter()).await.unwrap()
    }

    pub(crate) fn set(&self, account: &str, column: &str, value: &str) {
        let sql = format!(
            "UPDATE {} SET {} = {} WHERE {}",
            self.quoted(self.name),
            self.quoted(column),
            self.literal(value),
            self.key(account)
        );
        self.publisher.run(&sql);
    }

    pub(crate) fn value(&self, account: &str, column: &str) -> Option<String> {
        let text = if self.server.speaks == Speaks::Postgres { "text" } else { "CHAR" };
        let sql = format!(
            "SELECT CAST({} AS {text}) FROM {} WHERE {}",
            self.quoted(column),
            self.quoted(self.name),
            self.key(account)
        );
        self.publisher.rows(&sql).swap_remove(0).swap_remove(0)
    }

    /// Every row, without the column whose only use is to change.
    pub(crate) fn content(&self) -> String {
        let changing = self.change_column.unwrap_or("none");
        let columns = match self.server.speaks {
            Speaks::Postgres => format!("(to_jsonb(t) - '{changing}')::text"),
            Speaks::Mysql => self
                .publisher
                .rows(&format!(
                    "SELECT column_name FROM information_schema.columns WHERE table_schema = '{}' \
                     AND table_name = '{}' AND column_name <> '{changing}'",
                    self.schema, self.name
                ))
                .into_iter()
                .map(|mut row| format!("`{}`", row.swap_remove(0).unwrap()))
                .collect::<Vec<_>>()
                .join(", "),
        };
        let sql = format!(
            "SELECT {columns} FROM {} AS t ORDER BY {}",
            self.quoted(self.name),
            self.quoted(&self.columns.account)
        );
        format!("{:#?}", self.publisher.rows(&sql))
    }

    pub(crate) fn key(&self, account: &str) -> String {
        format!("{} = {}", self.quoted(&self.columns.account), self.literal(account))
    }

    pub(crate) fn remove(&self, account: &str) {
        self.publisher.run(&format!(
            "DELETE FROM {} WHERE {}",
            self.quoted(self.name),
            self.key(account)
        ));
    }

    /// Another session locks the whole table.
    pub(crate) fn block_writes(&self) -> Box<dyn Send> {
        let session = Session::new(self.server);
        let table = format!("{}.{}", self.schema, self.quoted(self.name));
        match self.server.speaks {
            Speaks::Postgres => {
                session.run(&format!("BEGIN; LOCK TABLE {table} IN EXCLUSIVE MODE"))
            }
            Speaks::Mysql => session.run(&format!("LOCK TABLES {table} WRITE")),
        }
        Box::new(OnDrop(move || match session.speaks {
            Speaks::Postgres => session.run("ROLLBACK"),
            Speaks::Mysql => session.run("UNLOCK TABLES"),
        }))
    }

    /// Another session locks one row.
    pub(crate) fn block_row(&self, account: &str) -> Box<dyn Send> {
        let session = Session::new(self.server);
        session.run(if self.server.speaks == Speaks::Postgres {
            "BEGIN"
        } else {
            "START TRANSACTION"
        });
        session.rows(&format!(
            "SELECT 1 FROM {}.{} WHERE {} FOR UPDATE",
            self.schema,
            self.quoted(self.name),
            self.key(account)
        ));
        Box::new(OnDrop(move || session.run("ROLLBACK")))
    }

    pub(crate) fn quoted(&self, name: &str) -> String {
        match self.server.speaks {
            Speaks::Postgres => format!("\"{name}\""),
            Speaks::Mysql => format!("`{name}`"),
        }
    }

    pub(crate) fn literal(&self, text: &str) -> String {
        let text = text.replace('\'', "''");
        match self.server.speaks {
            Speaks::Postgres => format!("'{text}'"),
            Speaks::Mysql => format!("'{}'", text.replace('\\', "\\\\")),
        }
    }
}

/// How long a kind without notifications may take to notice.
const POLL: Duration = Duration::from_millis(200);

/// A connection of the publisher's, for code that does not wait.
pub(crate) struct Session {
    speaks: Speaks,
    runtime: Option<Runtime>,
    connection: Mutex<Connection>,
}

enum Connection {
    Postgres(tokio_postgres::Client),
    Mysql(Box<mysql_async::Conn>),
}

impl Session {
    pub(crate) fn new(server: &Server) -> Self {
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(1)
            .enable_all()
            .build()
            .unwrap();
        let connection = away(|| {
            runtime.block_on(async {
                match server.speaks {
                    Speaks::Postgres => {
                        let mut config = tokio_postgres::Config::new();
                        config.host_path(&server.folder).port(server.port);
                        config.user("postgres").dbname("postgres").options("-c timezone=UTC");
                        let (client, connection) =
                            config.connect(tokio_postgres::NoTls).await.unwrap();
                        tokio::spawn(connection);
                        Connection::Postgres(client)
                    }
                    Speaks::Mysql => {
                        let options = mysql_async::OptsBuilder::default()
                            .user(Some("root"))
                            .socket(Some(server.socket().display().to_string()));
                        let mut connection = mysql_async::Conn::new(options).await.unwrap();
                        let session = "SET NAMES utf8mb4, time_zone = '+00:00', sql_mode = ''";
                        connection.query_drop(session).await.unwrap();
                        Connection::Mysql(Box::new(connection))
                    }
                }
            })
        });
        Self { speaks: server.speaks, runtime: Some(runtime), connection: Mutex::new(connection) }
    }

    pub(crate) fn run(&self, sql: &str) {
        self.rows(sql);
    }

    pub(crate) fn rows(&self, sql: &str) -> Vec<Vec<Option<String>>> {
        let runtime = self.runtime.as_ref().unwrap();
        away(|| {
            let mut connection = self.connection.lock().unwrap();
            runtime.block_on(async {
                match &mut *connection {
                    Connection::Postgres(client) => client
                        .simple_query(sql)
                        .await
                        .unwrap_or_else(|error| panic!("{sql}: {error:?}"))
                        .iter()
                        .filter_map(|message| match message {
                            tokio_postgres::SimpleQueryMessage::Row(row) => Some(
                                (0..row.len()).map(|at| row.get(at).map(str::to_owned)).collect(),
                            ),
                            _ => None,
                        })
                        .collect(),
                    Connection::Mysql(connection) => connection
                        .query::<mysql_async::Row, _>(sql)
                        .await
                        .unwrap_or_else(|error| panic!("{sql}: {error}"))
                        .into_iter()
                        .map(|row| row.unwrap().into_iter().map(text_of).collect())
                        .collect(),
                }
            })
        })
    }
}

impl Drop for Session {
    fn drop(&mut self) {
        if let Some(runtime) = self.runtime.take() {
            runtime.shutdown_background();
        }
    }
}

fn text_of(value: mysql_async::Value) -> Option<String> {
    match value {
        mysql_async::Value::NULL => None,
        mysql_async::Value::Bytes(bytes) => Some(String::from_utf8_lossy(&bytes).into_owned()),
        other => Some(format!("{other:?}")),
    }
}

/// A runtime may not block within another one, so it does so on a thread of its own.
fn away<R: Send>(work: impl FnOnce() -> R + Send) -> R {
    thread::scope(|scope| scope.spawn(work).join().unwrap())
}

/// Passes everything on between `here` and `there`, as long as `here` exists: looked at before every
/// packet, so that a server that was taken away is away at once.
fn relay(speaks: Speaks, here: PathBuf, there: PathBuf, cut: &Arc<Mutex<Option<Cut>>>) {
    let listener = UnixListener::bind(&here).unwrap();
    let cut = Arc::clone(cut);
    thread::spawn(move || {
        for client in listener.incoming() {
            let (Ok(client), Ok(server)) = (client, UnixStream::connect(&there)) else { continue };
            let (back, cut_back) = (
                (server.try_clone().unwrap(), client.try_clone().unwrap()),
                Arc::new(AtomicBool::new(false)),
            );
            let (here, cut, cut_now) = (here.clone(), Arc::clone(&cut), Arc::clone(&cut_back));
            // What is sent together with a commit must be answered, or it is not carried out.
            let backward = move |packet: &[u8]| match cut_back.load(Ordering::SeqCst) {
                false => Fate::Passed,
                true if speaks == Speaks::Mysql || holds_commit(packet) => Fate::Last,
                true => Fate::Lost,
            };
            thread::spawn(move || pass(back.0, back.1, backward));
            let forward = move |packet: &[u8]| {
                let is_commit = packet.ends_with(b"COMMIT") || packet.ends_with(b"COMMIT\0");
                let cut = if is_commit { cut.lock().unwrap().take() } else { None };
                cut_now.fetch_or(cut == Some(Cut::AfterCommit), Ordering::SeqCst);
                let is_cut = !here.exists() || cut == Some(Cut::BeforeCommit);
                if is_cut { Fate::Last } else { Fate::Passed }
            };
            thread::spawn(move || pass(client, server, forward));
        }
    });
}

/// What happens to a packet.
enum Fate {
    Passed,
    Lost,
    /// Lost, and the connection with it.
    Last,
}

fn holds_commit(packet: &[u8]) -> bool {
    packet.windows(7).any(|window| window == b"COMMIT\0")
}

fn pass(mut from: UnixStream, mut to: UnixStream, fate: impl Fn(&[u8]) -> Fate) {
    let mut buffer = vec![0; 64 * 1024];
    while let Ok(length @ 1..) = from.read(&mut buffer) {
        let passed = match fate(&buffer[..length]) {
            Fate::Passed => to.write_all(&buffer[..length]).is_ok(),
            Fate::Lost => true,
            Fate::Last => false,
        };
        if !passed {
            break;
        }
    }
    let _ = from.shutdown(std::net::Shutdown::Both);
    let _ = to.shutdown(std::net::Shutdown::Both);
}

/// Implements `Kind` for a table on a server.
macro_rules! server_kind {
    ($kind:ident, $holds:expr, $nonsense:literal, $make:expr) => {
        pub(crate) struct $kind(pub(crate) Table);

        impl Kind for $kind {
            const HOLDS: Holds = $holds;
            const NONSENSE: &str = $nonsense;

            async fn make() -> Self {
                Self($make.await)
            }
            fn settings(&self) -> Settings {
                self.0.settings()
            }
            fn write_token(&self, account: &str, access: &str, refresh: &str) {
                self.0.set(account, &self.0.columns.access_token, access);
                self.0.set(account, self.0.columns.refresh_token.as_ref().unwrap(), refresh);
            }
            fn write_campaign(&self, account: &str, campaign: &str) {
                self.0.set(account, "campaign", campaign);
            }
            fn campaign(&self, account: &str) -> String {
                self.0.value(account, "campaign").unwrap()
            }
            /// These columns have types; this is the nonsense that fits into one.
            fn write_end(&self, account: &str, end: &str) {
                self.0.set(account, &self.0.columns.expires_at.as_ref().unwrap().name, end);
            }
            fn remove(&self, account: &str) {
                self.0.remove(account);
            }
            fn status(&self, account: &str) -> Option<String> {
                self.0.value(account, &self.0.columns.status.as_ref()?.name)
            }
            fn raw_end(&self, account: &str) -> String {
                self.0.value(account, &self.0.columns.expires_at.as_ref().unwrap().name).unwrap()
            }
            fn content(&self) -> String {
                self.0.content()
            }
            fn folder(&self) -> PathBuf {
                self.0.folder()
            }
            fn block_writes(&self) -> Box<dyn Send> {
                self.0.block_writes()
            }
        }
    };
}
pub(crate) use server_kind;
