//! The kinds of stores, seen from the publisher: how it writes behind our back.

pub(crate) use crate::redis_kind::{RedisMapped, RedisSimple};
use oauth_keepalive::{
    core::{AccountId, Secret, Timestamp},
    oauth::{Fingerprinter, Token},
    stores::{
        AnyStore, Error, Settings, StoredAccount, TokenStore, create, file,
        sqlite::{self, Columns, ProviderColumn, StatusColumn, TimeColumn, TimeUnit},
    },
};
use rusqlite::Connection;
use serde_yaml::Value;
use std::{
    fs,
    path::{Path, PathBuf},
    time::Duration,
};
use tempfile::TempDir;

/// A store with three accounts in it, and its publisher.
pub(crate) trait Kind: Sized + Send + Sync {
    /// Fields of an account that this kind has a place for.
    const HOLDS: Holds;

    /// A new store in a folder of its own.
    async fn make() -> Self;
    fn settings(&self) -> Settings;
    /// The publisher writes a token.
    fn write_token(&self, account: &str, access: &str, refresh: &str);
    /// The publisher writes something that is no token.
    fn write_campaign(&self, account: &str, campaign: &str);
    fn campaign(&self, account: &str) -> String;
    /// What can be written where an end is expected, and is none.
    const NONSENSE: &str = "invented nonsense";
    /// The publisher writes the end of the access token.
    fn write_end(&self, account: &str, end: &str);
    fn remove(&self, account: &str);
    fn status(&self, account: &str) -> Option<String>;
    /// The end of the access token exactly as it is written.
    fn raw_end(&self, account: &str) -> String;
    /// Everything, to see that nothing changed.
    fn content(&self) -> String;
    /// The folder it lies in; taking that away makes it unreachable.
    fn folder(&self) -> PathBuf;
    /// Makes every write fail until the answer is dropped.
    fn block_writes(&self) -> Box<dyn Send>;

    async fn open(&self) -> AnyStore {
        AnyStore::open(&self.settings(), fingerprinter()).await.unwrap()
    }
}

#[derive(Clone, Copy)]
pub(crate) struct Holds {
    pub(crate) issued_at: bool,
    pub(crate) refresh_expires_at: bool,
    pub(crate) scopes: bool,
    pub(crate) subject: bool,
    pub(crate) app_and_owner: bool,
    pub(crate) enabled: bool,
    pub(crate) status: bool,
}

const EVERYTHING: Holds = Holds {
    issued_at: true,
    refresh_expires_at: true,
    scopes: true,
    subject: true,
    app_and_owner: true,
    enabled: true,
    status: true,
};

impl Holds {
    /// What is left of `account` in this kind of store.
    pub(crate) fn cut(self, mut account: StoredAccount) -> StoredAccount {
        if !self.app_and_owner {
            (account.app, account.owner) = (None, None);
        }
        account.enabled |= !self.enabled;
        if let Some(token) = &mut account.token {
            token.issued_at = token.issued_at.filter(|_| self.issued_at);
            token.refresh_expires_at = token.refresh_expires_at.filter(|_| self.refresh_expires_at);
            token.scopes = token.scopes.take().filter(|_| self.scopes);
            token.subject = token.subject.take().filter(|_| self.subject);
        }
        account
    }
}

pub(crate) const ODD_NAME: &str = "we\"ird\n/🙂'name\\";
/// 2026-11-22T10:00:00Z.
pub(crate) const ISSUED: i64 = 1_795_341_600;

pub(crate) fn fingerprinter() -> Fingerprinter {
    Fingerprinter::new(b"invented key")
}

pub(crate) fn id(account: &str) -> AccountId {
    AccountId::new("tiktok", account)
}

pub(crate) fn secret(text: &str) -> Secret {
    Secret::new(text.to_owned())
}

pub(crate) fn token(access: &str, refresh: Option<&str>) -> Token {
    Token {
        access: secret(access),
        refresh: refresh.map(secret),
        issued_at: None,
        expires_at: None,
        refresh_expires_at: None,
        scopes: None,
        subject: None,
    }
}

/// What the fixtures hold, in the order of names.
pub(crate) fn accounts() -> Vec<StoredAccount> {
    let at = |seconds: i64| Some(Timestamp::from_unix(ISSUED + seconds));
    let plain = |account: &str, token: Token| StoredAccount {
        id: id(account),
        app: None,
        owner: None,
        subject: None,
        token: Some(token),
        enabled: true,
    };
    vec![
        StoredAccount {
            app: Some("tiktok-main".into()),
            owner: Some(secret("owner-a@example.com")),
            ..plain(
                "brand-a",
                Token {
                    issued_at: at(0),
                    expires_at: at(7_200),
                    refresh_expires_at: at(180 * 86_400),
                    scopes: Some(vec!["user.info.basic".into(), "video.publish".into()]),
                    subject: Some("open-a".into()),
                    ..token("act.invented-a1", Some("rft.invented-a1"))
                },
            )
        },
        StoredAccount { enabled: false, ..plain("off", token("act.invented-c1", None)) },
        plain(
            ODD_NAME,
            Token { expires_at: at(7_200), ..token("act.invented-b1", Some("rft.invented-b1")) },
        ),
    ]
}

/// Everything that can be compared about an account, for messages a person can read.
pub(crate) fn as_text(account: &StoredAccount) -> String {
    let token = account.token.as_ref().map(|token| {
        (
            token.access.expose().to_owned(),
            token.refresh.as_ref().map(|refresh| refresh.expose().to_owned()),
            [token.issued_at, token.expires_at, token.refresh_expires_at],
            token.scopes.clone(),
            token.subject.clone(),
        )
    });
    let owner = account.owner.as_ref().map(Secret::expose);
    format!("{:?} {:?} {owner:?} {token:?} {}", account.id, account.app, account.enabled)
}

pub(crate) async fn load(store: &AnyStore) -> (Vec<StoredAccount>, Vec<Error>) {
    let (mut accounts, mut damaged) = (Vec::new(), Vec::new());
    store.load(|account| accounts.push(account), |error| damaged.push(error)).await.unwrap();
    accounts.sort_by(|a: &StoredAccount, b| a.id.cmp(&b.id));
    (accounts, damaged)
}

/// No test may wait for the poll unless it wants to.
pub(crate) const POLL_NEVER: Duration = Duration::from_secs(86_400);

pub(crate) struct YamlFile(Folder);
pub(crate) struct JsonFile(Folder);

/// A folder within a temporary one, so that it can be taken away and brought back.
pub(crate) struct Folder {
    pub(crate) root: TempDir,
    name: &'static str,
}

impl Folder {
    pub(crate) fn with(name: &'static str, content: &str) -> Self {
        let folder = Self { root: tempfile::tempdir().unwrap(), name };
        fs::create_dir(folder.folder()).unwrap();
        fs::write(folder.path(), content).unwrap();
        folder
    }

    pub(crate) fn folder(&self) -> PathBuf {
        self.root.path().join("store")
    }

    pub(crate) fn path(&self) -> PathBuf {
        self.folder().join(self.name)
    }

    pub(crate) fn settings(&self) -> Settings {
        Settings::File(file::Settings { path: self.path(), poll_every: POLL_NEVER })
    }

    pub(crate) fn text(&self) -> String {
        fs::read_to_string(self.path()).unwrap()
    }

    /// The way a careful publisher writes: a new file in the old one's place.
    pub(crate) fn replace(&self, content: &str) {
        let new = self.folder().join("publisher.tmp");
        fs::write(&new, content).unwrap();
        fs::rename(new, self.path()).unwrap();
    }

    fn is_json(&self) -> bool {
        self.name.ends_with("json")
    }

    fn value(&self) -> Value {
        if self.is_json() {
            serde_json::from_str(&self.text()).unwrap()
        } else {
            serde_yaml::from_str(&self.text()).unwrap()
        }
    }

    fn change(&self, change: impl FnOnce(&mut Vec<Value>)) {
        let mut value = self.value();
        change(value["accounts"].as_sequence_mut().unwrap());
        self.replace(&if self.is_json() {
            serde_json::to_string_pretty(&value).unwrap()
        } else {
            serde_yaml::to_string(&value).unwrap()
        });
    }

    fn set(&self, account: &str, key: &str, value: &str) {
        self.change(|entries| {
            let entry = entries.iter_mut().find(|entry| entry["account"] == account).unwrap();
            entry[key] = value.into();
        });
    }

    fn entry(&self, account: &str) -> Value {
        let value = self.value();
        let entries = value["accounts"].as_sequence().unwrap();
        entries.iter().find(|entry| entry["account"] == account).unwrap().clone()
    }

    fn block_writes(&self) -> Box<dyn Send> {
        // A folder where the new version would be written: it stops root as well.
        let obstacle = self.folder().join(format!(".{}.new", self.name));
        fs::create_dir_all(obstacle.join("full")).unwrap();
        Box::new(OnDrop(move || fs::remove_dir_all(&obstacle).unwrap()))
    }
}

pub(crate) struct OnDrop<F: FnMut()>(pub(crate) F);

impl<F: FnMut()> Drop for OnDrop<F> {
    fn drop(&mut self) {
        (self.0)();
    }
}

macro_rules! file_kind {
    ($kind:ident, $name:literal, $fixture:literal) => {
        impl Kind for $kind {
            const HOLDS: Holds = EVERYTHING;

            async fn make() -> Self {
                Self(Folder::with($name, include_str!(concat!("../fixtures/stores/", $fixture))))
            }
            fn settings(&self) -> Settings {
                self.0.settings()
            }
            fn write_token(&self, account: &str, access: &str, refresh: &str) {
                self.0.set(account, "access_token", access);
                self.0.set(account, "refresh_token", refresh);
            }
            fn write_campaign(&self, account: &str, campaign: &str) {
                self.0.set(account, "campaign", campaign);
            }
            fn campaign(&self, account: &str) -> String {
                self.0.entry(account)["campaign"].as_str().unwrap().to_owned()
            }
            fn write_end(&self, account: &str, end: &str) {
                self.0.set(account, "expires_at", end);
            }
            fn remove(&self, account: &str) {
                self.0.change(|entries| entries.retain(|entry| entry["account"] != account));
            }
            fn status(&self, account: &str) -> Option<String> {
                Some(self.0.entry(account)["status"].as_str()?.to_owned())
            }
            fn raw_end(&self, account: &str) -> String {
                serde_json::to_string(&self.0.entry(account)["expires_at"]).unwrap()
            }
            fn content(&self) -> String {
                self.0.text()
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

file_kind!(YamlFile, "accounts.yaml", "publisher.yaml");
file_kind!(JsonFile, "accounts.json", "publisher.json");

pub(crate) struct SqliteSimple(Database);
pub(crate) struct SqliteMillis(Database);
pub(crate) struct SqliteCamel(Database);

/// A database in a folder that can be taken away.
pub(crate) struct Database {
    root: TempDir,
    table: &'static str,
    columns: Columns,
    campaign: &'static str,
}

impl Database {
    pub(crate) fn with(table: &'static str, columns: Columns, sql: &str) -> Self {
        let database =
            Self { root: tempfile::tempdir().unwrap(), table, columns, campaign: "campaign" };
        fs::create_dir(database.folder()).unwrap();
        database.connection().execute_batch(sql).unwrap();
        database
    }

    pub(crate) fn folder(&self) -> PathBuf {
        self.root.path().join("store")
    }

    pub(crate) fn path(&self) -> PathBuf {
        self.folder().join("publisher.db")
    }

    pub(crate) fn settings(&self) -> Settings {
        Settings::Sqlite(sqlite::Settings {
            path: self.path(),
            poll_every: POLL_NEVER,
            busy_timeout: Duration::from_millis(500),
            table: self.table.to_owned(),
            columns: self.columns.clone(),
        })
    }

    pub(crate) async fn open(&self) -> AnyStore {
        AnyStore::open(&self.settings(), fingerprinter()).await.unwrap()
    }

    pub(crate) fn connection(&self) -> Connection {
        let connection = Connection::open(self.path()).unwrap();
        connection.busy_timeout(Duration::from_secs(10)).unwrap();
        connection
    }

    pub(crate) fn set(&self, account: &str, column: &str, value: &str) {
        let sql = format!(
            "UPDATE \"{}\" SET \"{column}\" = ?1 WHERE \"{}\" = ?2",
            self.table, self.columns.account
        );
        assert_eq!(self.connection().execute(&sql, [value, account]).unwrap(), 1);
    }

    pub(crate) fn value(&self, account: &str, column: &str) -> Option<String> {
        let sql = format!(
            "SELECT CAST(\"{column}\" AS TEXT) FROM \"{}\" WHERE \"{}\" = ?1",
            self.table, self.columns.account
        );
        self.connection().query_row(&sql, [account], |row| row.get(0)).unwrap()
    }

    pub(crate) fn content(&self) -> String {
        let connection = self.connection();
        let mut statement =
            connection.prepare(&format!("SELECT * FROM \"{}\"", self.table)).unwrap();
        let columns = statement.column_count();
        let rows = statement
            .query_map([], |row| {
                (0..columns)
                    .map(|at| row.get::<_, rusqlite::types::Value>(at))
                    .collect::<Result<Vec<_>, _>>()
            })
            .unwrap()
            .collect::<Result<Vec<_>, _>>()
            .unwrap();
        format!("{rows:#?}")
    }

    fn end(&self) -> &str {
        &self.columns.expires_at.as_ref().unwrap().name
    }

    fn block_writes(&self) -> Box<dyn Send> {
        let connection = self.connection();
        connection.execute_batch("BEGIN EXCLUSIVE").unwrap();
        Box::new(connection)
    }
}

macro_rules! sqlite_kind {
    ($kind:ident, $holds:expr, $make:expr) => {
        impl Kind for $kind {
            const HOLDS: Holds = $holds;

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
                self.0.set(account, self.0.campaign, campaign);
            }
            fn campaign(&self, account: &str) -> String {
                self.0.value(account, self.0.campaign).unwrap()
            }
            fn write_end(&self, account: &str, end: &str) {
                self.0.set(account, self.0.end(), end);
            }
            fn remove(&self, account: &str) {
                let sql = format!(
                    "DELETE FROM \"{}\" WHERE \"{}\" = ?1",
                    self.0.table, self.0.columns.account
                );
                assert_eq!(self.0.connection().execute(&sql, [account]).unwrap(), 1);
            }
            fn status(&self, account: &str) -> Option<String> {
                self.0.value(account, &self.0.columns.status.as_ref()?.name)
            }
            fn raw_end(&self, account: &str) -> String {
                self.0.value(account, self.0.end()).unwrap()
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

sqlite_kind!(SqliteSimple, EVERYTHING, simple());
sqlite_kind!(
    SqliteMillis,
    Holds {
        issued_at: false,
        refresh_expires_at: false,
        subject: false,
        app_and_owner: false,
        status: false,
        ..EVERYTHING
    },
    async {
        let sql = include_str!("../fixtures/stores/millis.sql");
        Database::with("social_logins", millis_columns(), sql)
    }
);
sqlite_kind!(
    SqliteCamel,
    Holds {
        refresh_expires_at: false,
        scopes: false,
        app_and_owner: false,
        enabled: false,
        ..EVERYTHING
    },
    async {
        let sql = include_str!("../fixtures/stores/camel.sql");
        Database::with("Integration", camel_columns(), sql)
    }
);

/// Our own schema, filled through our own `add`.
async fn simple() -> Database {
    let database = Database {
        root: tempfile::tempdir().unwrap(),
        table: "accounts",
        columns: Columns::simple(),
        // A column that we made but never write.
        campaign: "updated_at",
    };
    create(&database.settings()).await.unwrap();
    let store = database.open().await;
    for account in accounts() {
        store.add(&account).await.unwrap();
    }
    database.connection().execute_batch("DROP TRIGGER accounts_updated_at").unwrap();
    database
}

pub(crate) fn millis_columns() -> Columns {
    Columns {
        account: "handle".into(),
        provider: ProviderColumn::Fixed("tiktok".into()),
        access_token: "bearer".into(),
        refresh_token: Some("renewal".into()),
        expires_at: Some(TimeColumn { name: "bearer_until".into(), unit: TimeUnit::UnixMillis }),
        refresh_expires_at: None,
        issued_at: None,
        scopes: Some("granted".into()),
        subject: None,
        app: None,
        owner: None,
        enabled: Some("active".into()),
        status: None,
    }
}

pub(crate) fn camel_columns() -> Columns {
    let text = |name: &str| Some(TimeColumn { name: name.into(), unit: TimeUnit::Text });
    Columns {
        account: "internalId".into(),
        provider: ProviderColumn::Column("providerIdentifier".into()),
        access_token: "token".into(),
        refresh_token: Some("refreshToken".into()),
        expires_at: text("tokenExpiration"),
        issued_at: text("connectedAt"),
        scopes: None,
        subject: Some("openId".into()),
        enabled: None,
        status: Some(StatusColumn {
            name: "refreshNeeded".into(),
            connected: "no".into(),
            needs_reconnect: "yes".into(),
        }),
        ..millis_columns()
    }
}

/// Takes a folder away and answers how to bring it back.
pub(crate) fn take_away(folder: &Path) -> impl FnOnce() + use<> {
    let (here, away) = (folder.to_owned(), folder.with_extension("away"));
    fs::rename(&here, &away).unwrap();
    move || fs::rename(away, here).unwrap()
}
