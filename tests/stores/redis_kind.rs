//! Redis, seen from the publisher: a real server of its own for every test.

use crate::kinds::{Holds, Kind, ODD_NAME, OnDrop, POLL_NEVER, accounts, fingerprinter};
use oauth_keepalive::stores::{
    AnyStore, Settings, TokenStore,
    redis::{Address, Fields, KeyPattern, Settings as Redis},
    sqlite::{TimeColumn, TimeUnit},
};
use redis::Commands;
use std::{
    fs,
    io::{self, Read, Write},
    net::Shutdown,
    os::unix::net::{UnixListener, UnixStream},
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    thread,
    time::{Duration, Instant},
};
use tempfile::TempDir;

/// A server that ends with its test.
pub(crate) struct Server {
    process: Option<Child>,
    arguments: Vec<String>,
    directory: PathBuf,
    login: Option<&'static str>,
}

impl Server {
    pub(crate) fn start(directory: &Path, arguments: &[&str]) -> Self {
        let mut server = Self {
            process: None,
            arguments: arguments.iter().map(|&argument| argument.to_owned()).collect(),
            directory: directory.to_owned(),
            login: None,
        };
        server.start_again();
        server
    }

    pub(crate) fn start_again(&mut self) {
        let process = Command::new("tests/servers/redis.sh")
            .arg(&self.directory)
            .args(&self.arguments)
            .stdout(Stdio::null())
            .spawn();
        let process = self.process.insert(process.unwrap());
        let deadline = Instant::now() + PATIENCE;
        while !is_ready(&self.directory.join("server.sock")) {
            assert!(process.try_wait().unwrap().is_none(), "there is no redis-server to test with");
            assert!(Instant::now() < deadline, "redis-server does not answer");
            thread::sleep(Duration::from_millis(5));
        }
    }

    /// As `kill -9` does.
    pub(crate) fn kill(&mut self) {
        if let Some(mut process) = self.process.take() {
            process.kill().unwrap();
            process.wait().unwrap();
        }
    }

    pub(crate) fn socket(&self) -> PathBuf {
        self.directory.join("server.sock")
    }

    pub(crate) fn logs_in_with(mut self, password: &'static str) -> Self {
        self.login = Some(password);
        self
    }

    /// The publisher's own connection.
    pub(crate) fn connection(&self) -> redis::Connection {
        let url = format!("redis+unix://{}", self.socket().display());
        let mut connection = redis::Client::open(url).unwrap().get_connection().unwrap();
        if let Some(password) = self.login {
            redis::cmd("AUTH").arg(password).exec(&mut connection).unwrap();
        }
        connection
    }

    pub(crate) fn run(&self, words: &[&str]) {
        redis::cmd(words[0]).arg(&words[1..]).exec(&mut self.connection()).unwrap();
    }

    pub(crate) fn field(&self, key: &str, field: &str) -> Option<String> {
        self.connection().hget(key, field).unwrap()
    }

    pub(crate) fn content(&self) -> String {
        let mut connection = self.connection();
        let mut keys: Vec<Vec<u8>> = connection.keys("*").unwrap();
        keys.sort();
        let lines = keys.into_iter().map(|key| {
            let mut fields: Vec<(Vec<u8>, Vec<u8>)> = connection.hgetall(&key).unwrap();
            fields.sort();
            format!("{key:?} {fields:?}\n")
        });
        lines.collect()
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.kill();
    }
}

/// Answers, and has read what it keeps on disk.
fn is_ready(socket: &Path) -> bool {
    let mut answer = [0; 64];
    let asked = UnixStream::connect(socket).and_then(|mut server| {
        server.write_all(b"PING\r\n")?;
        server.read(&mut answer)
    });
    asked.is_ok() && !answer.starts_with(b"-LOADING")
}

/// Settings for a server on this socket, in our own layout.
pub(crate) fn settings(socket: PathBuf) -> Redis {
    Redis {
        address: Address::Unix(socket),
        database: 0,
        username: None,
        password: None,
        connect_timeout: Duration::from_secs(20),
        command_timeout: Duration::from_secs(20),
        poll_every: POLL_NEVER,
        notifications: true,
        key: KeyPattern::new(KeyPattern::SIMPLE, None).unwrap(),
        fields: Fields::simple(),
    }
}

pub(crate) async fn open(settings: &Redis) -> AnyStore {
    AnyStore::open(&Settings::Redis(settings.clone()), fingerprinter()).await.unwrap()
}

pub(crate) struct RedisSimple(Publisher);
pub(crate) struct RedisMapped(Publisher);

/// A server, and a socket in a folder that can be taken away: what comes through it while the folder is
/// not there is not passed on.
pub(crate) struct Publisher {
    root: TempDir,
    server: Server,
    key: fn(&str) -> String,
    pattern: KeyPattern,
    fields: Fields,
}

impl Publisher {
    fn with(pattern: &str, key: fn(&str) -> String, fields: Fields) -> Self {
        let root = tempfile::tempdir().unwrap();
        let server = Server::start(root.path(), &[]);
        let folder = root.path().join("store");
        fs::create_dir(&folder).unwrap();
        relay(UnixListener::bind(folder.join("redis.sock")).unwrap(), folder, server.socket());
        Self { root, server, key, pattern: KeyPattern::new(pattern, None).unwrap(), fields }
    }

    fn folder(&self) -> PathBuf {
        self.root.path().join("store")
    }

    fn settings(&self) -> Redis {
        Redis {
            key: self.pattern.clone(),
            fields: self.fields.clone(),
            ..settings(self.folder().join("redis.sock"))
        }
    }

    fn set(&self, account: &str, field: &str, value: &str) {
        self.server.run(&["HSET", &(self.key)(account), field, value]);
    }

    fn end(&self) -> &str {
        &self.fields.expires_at.as_ref().unwrap().name
    }

    fn contact(&self) -> &str {
        self.fields.owner.as_ref().unwrap()
    }

    fn block_writes(&self) -> Box<dyn Send> {
        self.server.run(&["CONFIG", "SET", "min-replicas-to-write", "1"]);
        let mut connection = self.server.connection();
        Box::new(OnDrop(move || {
            let mut allow = redis::cmd("CONFIG");
            allow.arg("SET").arg("min-replicas-to-write").arg("0").exec(&mut connection).unwrap();
        }))
    }
}

fn relay(listener: UnixListener, folder: PathBuf, server: PathBuf) {
    thread::spawn(move || {
        for client in listener.incoming() {
            let (Ok(client), Ok(server)) = (client, UnixStream::connect(&server)) else { return };
            let (mut answers, mut to_client) =
                (server.try_clone().unwrap(), client.try_clone().unwrap());
            thread::spawn(move || {
                let _ = io::copy(&mut answers, &mut to_client);
                let _ = to_client.shutdown(Shutdown::Both);
            });
            let folder = folder.clone();
            thread::spawn(move || pass_on(client, server, &folder));
        }
    });
}

fn pass_on(mut client: UnixStream, mut server: UnixStream, folder: &Path) {
    let mut buffer = [0; 4096];
    while let Ok(length @ 1..) = client.read(&mut buffer) {
        if !folder.exists() || server.write_all(&buffer[..length]).is_err() {
            break;
        }
    }
    let _ = client.shutdown(Shutdown::Both);
    let _ = server.shutdown(Shutdown::Both);
}

macro_rules! redis_kind {
    ($kind:ident, $holds:expr, $make:expr) => {
        impl Kind for $kind {
            const HOLDS: Holds = $holds;

            async fn make() -> Self {
                Self($make.await)
            }
            fn settings(&self) -> Settings {
                Settings::Redis(self.0.settings())
            }
            fn write_token(&self, account: &str, access: &str, refresh: &str) {
                let refresh_field = self.0.fields.refresh_token.as_ref().unwrap();
                let access_field = &self.0.fields.access_token;
                let key = (self.0.key)(account);
                self.0.server.run(&["HSET", &key, access_field, access, refresh_field, refresh]);
            }
            // A field that we read and never write.
            fn write_campaign(&self, account: &str, campaign: &str) {
                self.0.set(account, self.0.contact(), campaign);
            }
            fn campaign(&self, account: &str) -> String {
                self.0.server.field(&(self.0.key)(account), self.0.contact()).unwrap()
            }
            fn write_end(&self, account: &str, end: &str) {
                self.0.set(account, self.0.end(), end);
            }
            fn remove(&self, account: &str) {
                self.0.server.run(&["DEL", &(self.0.key)(account)]);
            }
            fn status(&self, account: &str) -> Option<String> {
                let status = self.0.fields.status.as_ref()?;
                self.0.server.field(&(self.0.key)(account), &status.name)
            }
            fn raw_end(&self, account: &str) -> String {
                self.0.server.field(&(self.0.key)(account), self.0.end()).unwrap()
            }
            fn content(&self) -> String {
                self.0.server.content()
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

redis_kind!(
    RedisSimple,
    Holds {
        issued_at: true,
        refresh_expires_at: true,
        scopes: true,
        subject: true,
        app_and_owner: true,
        enabled: true,
        status: true,
    },
    simple()
);
redis_kind!(
    RedisMapped,
    Holds {
        issued_at: true,
        refresh_expires_at: false,
        scopes: true,
        subject: false,
        app_and_owner: true,
        enabled: false,
        status: false,
    },
    async { mapped() }
);

/// Our own layout, filled through our own `add`.
async fn simple() -> Publisher {
    let publisher = Publisher::with(
        KeyPattern::SIMPLE,
        |account| format!("oauth:tiktok:{account}"),
        Fields::simple(),
    );
    let store = open(&publisher.settings()).await;
    for account in accounts() {
        store.add(&account).await.unwrap();
    }
    publisher
}

/// Somebody else's: other names, other dates, fields that mean nothing to us.
fn mapped() -> Publisher {
    let time = |name: &str, unit| Some(TimeColumn { name: name.into(), unit });
    let fields = Fields {
        access_token: "token.access".into(),
        refresh_token: Some("token.refresh".into()),
        expires_at: time("until", TimeUnit::Text),
        refresh_expires_at: None,
        issued_at: time("since", TimeUnit::UnixMillis),
        scopes: Some("scope list".into()),
        subject: None,
        app: Some("client".into()),
        owner: Some("contact".into()),
        enabled: None,
        status: None,
    };
    let publisher = Publisher::with(
        "pub:{account}@{provider}:tok",
        |account| format!("pub:{account}@tiktok:tok"),
        fields,
    );
    let write = |account: &str, fields: &[&str]| {
        let key = (publisher.key)(account);
        publisher.server.run(&[&["HSET", &key, "posts", "12"], fields].concat());
    };
    write(
        "brand-a",
        &[
            "token.access",
            "act.invented-a1",
            "token.refresh",
            "rft.invented-a1",
            "until",
            "2026-11-22 12:00:00.000",
            "since",
            "1795341600000",
            "scope list",
            r#"["user.info.basic","video.publish"]"#,
            "client",
            "tiktok-main",
            "contact",
            "owner-a@example.com",
        ],
    );
    write(
        "off",
        &[
            "token.access",
            "act.invented-c1",
            "token.refresh",
            "null",
            "until",
            "2058-07-30 00:00:00.000",
        ],
    );
    write(
        ODD_NAME,
        &[
            "token.access",
            "act.invented-b1",
            "token.refresh",
            "rft.invented-b1",
            "until",
            "2026-11-22 12:00:00.000",
            "since",
            "",
        ],
    );
    // A key that looks similar and is nobody's business.
    publisher.server.run(&["HSET", "pub:brand-a@tiktok", "token.access", "act.invented-z"]);
    publisher
}

pub(crate) const PATIENCE: Duration = Duration::from_secs(60);
