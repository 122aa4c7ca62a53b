//! Every kind of state, each with what only a test must be able to do with it.

use super::*;
use std::{
    io::Write,
    process::{Child, ChildStdin, ChildStdout},
    sync::{
        Mutex, OnceLock,
        atomic::{AtomicU32, Ordering},
    },
};

/// One empty state of a kind, and the world around it.
pub(crate) trait Backend: Send + Sync + Sized + 'static {
    /// A new one that nobody has opened.
    async fn make() -> Self;
    /// A folder of its own.
    fn folder(&self) -> &Path;
    /// How to open it.
    fn settings(&self) -> Settings;
    /// Makes another process able to name it.
    fn environment(&self) -> Vec<(&'static str, String)>;
    /// Lets so much time pass for whatever tells this kind the time.
    async fn pass(&self, seconds: i64);
    /// Writes the version of a program that does not exist yet.
    async fn age_to_version(&self, version: i64);
    /// Everything that lies there, as bytes.
    async fn contents(&self) -> Vec<u8>;
    /// True when a message names this state as its place.
    fn is_named_by(&self, place: &str) -> bool;

    /// The moment before `seconds` after the beginning, on a clock that cannot be stopped as well.
    async fn pass_almost(&self, seconds: i64) -> Timestamp {
        self.pass(seconds - SLOW_MACHINE_SECONDS).await;
        at(seconds - 1)
    }

    /// The rest of [`Backend::pass_almost`].
    async fn pass_the_rest(&self, seconds: i64) -> Timestamp {
        self.pass(SLOW_MACHINE_SECONDS).await;
        at(seconds)
    }
}

/// What a test may take in real time between two of its steps.
const SLOW_MACHINE_SECONDS: i64 = 15;

pub(crate) struct Sqlite(TempDir);

impl Backend for Sqlite {
    async fn make() -> Self {
        Self(tempfile::tempdir().unwrap())
    }

    fn folder(&self) -> &Path {
        self.0.path()
    }

    fn settings(&self) -> Settings {
        Settings::in_directory(self.folder().join("state"))
    }

    fn environment(&self) -> Vec<(&'static str, String)> {
        vec![(FOLDER, self.folder().display().to_string())]
    }

    /// The callers say what time it is.
    async fn pass(&self, _seconds: i64) {}

    async fn age_to_version(&self, version: i64) {
        let file = self.settings().directory.join("state.db");
        let connection = rusqlite::Connection::open(&file).unwrap();
        let set = "UPDATE meta SET value = ?1 WHERE name = 'schema_version'";
        connection.execute(set, [version]).unwrap();
    }

    async fn contents(&self) -> Vec<u8> {
        let files = fs::read_dir(self.settings().directory).unwrap();
        files.flat_map(|file| fs::read(file.unwrap().path()).unwrap()).collect()
    }

    fn is_named_by(&self, place: &str) -> bool {
        place.ends_with("state.db")
    }
}

pub(crate) struct Postgres {
    folder: TempDir,
    schema: String,
}

impl Postgres {
    /// As the superuser, on the socket.
    pub(crate) async fn execute(&self, sql: &str) {
        let sql = format!("SET search_path TO {}; {sql}", self.schema);
        admin().await.batch_execute(&sql).await.unwrap();
    }

    pub(crate) fn schema(&self) -> &str {
        &self.schema
    }

    /// How to open the schema in a server.
    pub(crate) fn settings_in(&self, address: &Address) -> Settings {
        postgres_settings(self.folder(), address, &self.schema)
    }
}

impl Backend for Postgres {
    async fn make() -> Self {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let nth = NEXT.fetch_add(1, Ordering::Relaxed);
        Self { folder: tempfile::tempdir().unwrap(), schema: format!("state_{nth}") }
    }

    fn folder(&self) -> &Path {
        self.folder.path()
    }

    fn settings(&self) -> Settings {
        self.settings_in(&Server::shared())
    }

    fn environment(&self) -> Vec<(&'static str, String)> {
        let Address { directory, port } = Server::shared();
        vec![
            (FOLDER, self.folder().display().to_string()),
            (SERVER, format!("{}:{port}:{}", directory.display(), self.schema)),
        ]
    }

    /// The database's clock cannot be moved; what it is compared with can.
    async fn pass(&self, seconds: i64) {
        let past = format!("- make_interval(secs => {seconds})");
        self.execute(&format!(
            "UPDATE lease SET expires_at = expires_at {past};
             UPDATE letter SET claimed_until = claimed_until {past};
             UPDATE share SET until = until {past};
             UPDATE member SET until = until {past}"
        ))
        .await;
    }

    async fn age_to_version(&self, version: i64) {
        let set = format!("UPDATE meta SET value = {version} WHERE name = 'schema_version'");
        self.execute(&set).await;
    }

    async fn contents(&self) -> Vec<u8> {
        let client = admin().await;
        // In this form bytes that are letters are shown as letters.
        client.batch_execute("SET bytea_output TO escape").await.unwrap();
        let mut contents = Vec::new();
        let tables = [
            "meta", "lease", "journal", "memory", "newest", "incident", "outbox", "letter",
            "member", "share",
        ];
        for table in tables {
            let all = format!("SELECT t::text FROM {}.{table} t", self.schema);
            for row in client.query(&all, &[]).await.unwrap() {
                contents.extend_from_slice(row.get::<_, &str>(0).as_bytes());
            }
        }
        contents
    }

    fn is_named_by(&self, place: &str) -> bool {
        place.starts_with("PostgreSQL /") && place.ends_with(&self.schema)
    }
}

/// Takes the tables of mails away and makes those that were there before, with one mail in each stage.
pub(crate) const OLDER_OUTBOX: &str = r#"
DROP INDEX incident_reminded;
ALTER TABLE incident DROP COLUMN fired_at, DROP COLUMN reminded;
DELETE FROM meta WHERE name = 'plan';
DROP TABLE outbox, letter;
CREATE TABLE outbox (
    mail bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY, incident bigint NOT NULL,
    recipient bigint NOT NULL, subject text NOT NULL, resolved boolean NOT NULL,
    stage text NOT NULL, address bytea NOT NULL, notice text NOT NULL,
    attempts bigint NOT NULL DEFAULT 0, in_doubt boolean NOT NULL DEFAULT false,
    due_at bigint NOT NULL, claimed_by bytea, claimed_until timestamptz
);
ALTER TABLE outbox OWNER TO keepalive;
CREATE INDEX outbox_incident ON outbox (incident);
CREATE INDEX outbox_owed ON outbox (due_at) WHERE stage = 'owed';
CREATE INDEX outbox_withdrawn ON outbox (due_at) WHERE stage = 'withdrawn';
INSERT INTO outbox (incident, recipient, subject, resolved, stage, address, notice, due_at)
VALUES (1, 0, '"Store"', false, 'sent', 'x', '{"cause": "store_unreachable"}', 5),
       (2, 0, '"Host"', true, 'owed', 'x', '{"cause": "clock_drift"}', 5),
       (3, 0, '"Host"', false, 'withdrawn', 'x', '{"cause": "clock_drift"}', 5);
"#;

/// Where a server is reached.
#[derive(Clone, Debug)]
pub(crate) struct Address {
    /// Of its socket, its certificates and its password.
    pub(crate) directory: PathBuf,
    pub(crate) port: u16,
}

/// A PostgreSQL server that ends with this process, however that ends.
pub(crate) struct Server {
    child: Child,
    commands: ChildStdin,
    answers: BufReader<ChildStdout>,
    pub(crate) address: Address,
}

impl Server {
    pub(crate) fn start() -> Self {
        let mut child = Command::new("tests/servers/postgres.sh")
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .expect("tests/servers/postgres.sh can be run");
        let commands = child.stdin.take().unwrap();
        let mut answers = BufReader::new(child.stdout.take().unwrap());
        let address = read_address(&mut answers);
        Self { child, commands, answers, address }
    }

    /// The one that most tests share, each in a schema of its own.
    pub(crate) fn shared() -> Address {
        static SHARED: OnceLock<Mutex<Server>> = OnceLock::new();
        let server = SHARED.get_or_init(|| Mutex::new(Self::start()));
        server.lock().unwrap().address.clone()
    }

    /// SIGKILL for all of it; when this returns, all of it is gone.
    pub(crate) fn kill(&mut self) {
        writeln!(self.commands, "kill").unwrap();
        let mut line = String::new();
        self.answers.read_line(&mut line).unwrap();
        assert_eq!(line, "killed\n");
    }

    pub(crate) fn start_again(&mut self) {
        writeln!(self.commands, "start").unwrap();
        read_address(&mut self.answers);
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = writeln!(self.commands, "end");
        let _ = self.child.wait();
    }
}

fn read_address(answers: &mut impl BufRead) -> Address {
    let mut line = String::new();
    answers.read_line(&mut line).unwrap();
    let words: Vec<_> = line.split_whitespace().collect();
    let ["ready", directory, port] = words[..] else {
        panic!(
            "no PostgreSQL server could be started; see the messages of tests/servers/postgres.sh"
        )
    };
    Address { directory: directory.into(), port: port.parse().unwrap() }
}

/// On the socket, with the password.
pub(crate) fn postgres_settings(folder: &Path, address: &Address, schema: &str) -> Settings {
    let postgres = postgres::Settings {
        host: address.directory.display().to_string(),
        port: address.port,
        database: "keepalive".to_owned(),
        user: "keepalive".to_owned(),
        password: Some(SecretRef::File(address.directory.join("password"))),
        tls: postgres::Tls::None,
        schema: schema.to_owned(),
        statement_timeout: Duration::from_secs(20),
        connect_timeout: Duration::from_secs(20),
        lease: Duration::from_secs(30),
    };
    Settings { postgres: Some(postgres), ..Settings::in_directory(folder.join("state")) }
}

/// A connection of the superuser to the shared server.
pub(crate) async fn admin() -> tokio_postgres::Client {
    admin_of(&Server::shared()).await
}

pub(crate) async fn admin_of(address: &Address) -> tokio_postgres::Client {
    let (client, connection) = tokio_postgres::Config::new()
        .host_path(&address.directory)
        .port(address.port)
        .user("postgres")
        .dbname("keepalive")
        .connect(tokio_postgres::NoTls)
        .await
        .unwrap();
    tokio::spawn(connection);
    client
}

/// What the process that is killed needs to know: its folder, and the server if there is one.
pub(crate) const FOLDER: &str = "STATE_TEST_FOLDER";
pub(crate) const SERVER: &str = "STATE_TEST_SERVER";

/// The other side of [`Backend::environment`].
pub(crate) fn settings_of_environment() -> Option<Settings> {
    let folder = PathBuf::from(std::env::var_os(FOLDER)?);
    let Ok(server) = std::env::var(SERVER) else {
        return Some(Settings::in_directory(folder.join("state")));
    };
    let parts: Vec<_> = server.split(':').collect();
    let address = Address { directory: parts[0].into(), port: parts[1].parse().unwrap() };
    Some(postgres_settings(&folder, &address, parts[2]))
}
