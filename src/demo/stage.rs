//! The directory of a demo: an ordinary configuration, its secrets, the publisher's store, and what the
//! stage itself must remember to go on after a crash.

use super::{
    cast::{Actor, Step},
    disk::write_durably,
    random_hex,
};
use crate::{core::Secret, oauth::Token};
use rusqlite::{Connection, OpenFlags, params};
use serde::{Deserialize, Serialize};
use std::{
    fs, io,
    net::SocketAddr,
    path::{Path, PathBuf},
    time::Duration,
};

/// A demo's directory.
pub(super) struct Stage {
    directory: PathBuf,
    memory: Memory,
    /// True when an earlier demo is continued.
    pub(super) continues: bool,
}

/// What the stage remembers; written first when the store is filled, so that its file means: continue.
#[derive(Debug, Serialize, Deserialize)]
struct Memory {
    accounts: usize,
    /// Labels of the steps that were taken.
    done: Vec<String>,
}

/// An account's row in the store, with its token.
pub(super) struct Row {
    pub(super) account: String,
    pub(super) access: Secret,
    pub(super) refresh: Secret,
}

impl Stage {
    /// Takes `directory` over, or continues the demo in it.
    pub(super) fn set(directory: &Path, accounts: usize) -> Result<Self, String> {
        let failed = |error: io::Error| format!("{}: {error}", directory.display());
        fs::create_dir_all(directory).map_err(failed)?;
        let directory = directory.canonicalize().map_err(failed)?;
        let file = directory.join(MEMORY);
        if !file.exists() {
            let config = directory.join(CONFIG);
            if config.exists() {
                let config = config.display();
                return Err(format!("{config} was not written by a demo; name another --dir"));
            }
            let memory = Memory { accounts, done: Vec::new() };
            return Ok(Self { directory, memory, continues: false });
        }
        let read = fs::read(&file).and_then(|text| Ok(serde_json::from_slice::<Memory>(&text)?));
        let memory = read.map_err(|error| format!("{}: {error}", file.display()))?;
        Ok(Self { directory, memory, continues: true })
    }

    pub(super) fn directory(&self) -> &Path {
        &self.directory
    }

    pub(super) const fn accounts(&self) -> usize {
        self.memory.accounts
    }

    pub(super) fn config(&self) -> PathBuf {
        self.directory.join(CONFIG)
    }

    pub(super) fn database(&self) -> PathBuf {
        self.directory.join(DATABASE)
    }

    /// Where the provider keeps its grants.
    pub(super) fn provider_file(&self) -> PathBuf {
        self.directory.join("provider.json")
    }

    /// What the publisher authorises its reports with; made on first use.
    pub(super) fn reports_secret(&self) -> io::Result<Secret> {
        let file = self.directory.join(REPORTS_SECRET);
        if !file.exists() {
            write_durably(&file, format!("demo-reports-{}\n", random_hex()).as_bytes())?;
        }
        Ok(Secret::new(fs::read_to_string(file)?.trim_end().to_owned()))
    }

    /// Writes the file that the configuration names as the app's secret.
    pub(super) fn write_client_secret(&self, secret: &Secret) -> io::Result<()> {
        let line = Secret::new(format!("{}\n", secret.expose()));
        write_durably(&self.directory.join(CLIENT_SECRET), line.expose().as_bytes())
    }

    /// Writes the configuration. The ports of provider and mailbox differ from start to start.
    pub(super) fn write_config(&self, places: &Places) -> io::Result<()> {
        // The program refuses a configuration whose secrets are missing.
        self.reports_secret()?;
        write_durably(&self.config(), config_text(places).as_bytes())
    }

    /// Creates the publisher's store; from now on the demo can be continued.
    pub(super) fn fill_store(&mut self, rows: &[(Actor, Token)]) -> Result<(), String> {
        let filled = fill(&self.database(), rows);
        filled.map_err(|error| format!("{}: {error}", self.database().display()))?;
        self.remember()
    }

    pub(super) fn is_done(&self, step: Step) -> bool {
        self.memory.done.iter().any(|done| done == step.as_label())
    }

    pub(super) fn set_done(&mut self, step: Step) -> Result<(), String> {
        if !self.is_done(step) {
            self.memory.done.push(step.as_label().to_owned());
        }
        self.remember()
    }

    fn remember(&self) -> Result<(), String> {
        let file = self.directory.join(MEMORY);
        let text = serde_json::to_vec(&self.memory).map_err(io::Error::from);
        let written = text.and_then(|text| write_durably(&file, &text));
        written.map_err(|error| format!("{}: {error}", file.display()))
    }
}

/// What the configuration points at.
pub(super) struct Places {
    pub(super) listen: SocketAddr,
    pub(super) token_url: String,
    pub(super) probe_url: String,
    pub(super) publish_check_url: String,
    pub(super) client_key: String,
    pub(super) smtp: SocketAddr,
}

/// The tokens that the store holds now, in order of the accounts.
pub(super) fn read_store(database: &Path) -> rusqlite::Result<Vec<Row>> {
    let flags = OpenFlags::SQLITE_OPEN_READ_ONLY | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    let connection = Connection::open_with_flags(database, flags)?;
    connection.busy_timeout(BUSY_TIMEOUT)?;
    let mut rows = connection.prepare(
        "SELECT account, access_token, refresh_token FROM accounts WHERE enabled ORDER BY account",
    )?;
    let rows = rows.query_map([], |row| {
        Ok(Row {
            account: row.get(0)?,
            access: Secret::new(row.get(1)?),
            refresh: Secret::new(row.get::<_, Option<String>>(2)?.unwrap_or_default()),
        })
    })?;
    rows.collect()
}

fn fill(database: &Path, rows: &[(Actor, Token)]) -> rusqlite::Result<()> {
    let mut connection = Connection::open(database)?;
    connection.pragma_update(None, "journal_mode", "WAL")?;
    let transaction = connection.transaction()?;
    transaction.execute_batch(SCHEMA)?;
    for (actor, token) in rows {
        let at = |at: Option<crate::core::Timestamp>| at.map(crate::core::Timestamp::as_unix);
        transaction.execute(
            "INSERT INTO accounts (provider, account, app, owner, access_token, refresh_token,
                expires_at, refresh_expires_at, issued_at, scopes, subject, enabled, status, updated_at)
             VALUES ('tiktok', ?1, 'demo', ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, 1, 'connected', ?7)",
            params![
                actor.account,
                actor.owner,
                token.access.expose(),
                token.refresh.as_ref().map(Secret::expose),
                at(token.expires_at),
                at(token.refresh_expires_at),
                at(token.issued_at),
                token.scopes.as_ref().map(|scopes| scopes.join(",")),
                token.subject,
            ],
        )?;
    }
    transaction.commit()
}

fn config_text(places: &Places) -> String {
    let Places { listen, token_url, probe_url, publish_check_url, client_key, smtp } = places;
    let (smtp_host, smtp_port) = (smtp.ip(), smtp.port());
    format!(
        r#"# Written by `oauth-keepalive demo`. An ordinary configuration: copy it, point it at your own store
# and app, and start `oauth-keepalive run --config` with it.

# The publisher's token store. Only token columns are ever written.
store:
  kind: sqlite
  path: {DATABASE}
  # How soon a token that the publisher itself wrote is noticed.
  poll_every: 1s

# The app that is registered at the provider.
apps:
  - name: demo
    provider: tiktok
    client_id: {client_key}
    # Never the secret itself, so that this file can be shown. It is read anew for each request.
    client_secret_file: {CLIENT_SECRET}
    scopes: [user.info.basic, video.publish]
    # The demo's provider instead of the real one. Leave these three out.
    endpoints:
      token: "{token_url}"
      probe: "{probe_url}"
      publish_check: "{publish_check_url}"

# Tokens live {life} seconds here, so pauses are short and a wrong app secret is told early. Leave this
# out for tokens that live hours.
refresh:
  backoff_first: 1s
  backoff_max: 10s
  app_refusals_max: 2

http:
  total_deadline: 3s
  connect_deadline: 1s

# Owners are told what only they can mend, the operator everything else.
mail:
  enabled: true
  from: "oauth-keepalive <keepalive@demo.invalid>"
  operator: [operator@demo.invalid]
  # First match wins; every account that is not named here has its owner in the store.
  owners:
    - accounts: "tiktok/brand-01"
      to: owner-01@demo.invalid
  external_url: "http://{listen}"
  # Each notice by itself and at once. Leave this out: accounts that fail together are one mail then.
  digest_after: 0s
  smtp:
    host: {smtp_host}
    port: {smtp_port}
    # The demo's mailbox is on this machine; anywhere else this is starttls or implicit.
    tls: none

# Metrics and status page.
server:
  listen: "{listen}"

# Where the publisher tells which answers it had from the provider, and may ask whether to publish.
publisher:
  enabled: true
  listen: "127.0.0.1:0"
  clients:
    - name: publisher
      secret_file: {REPORTS_SECRET}
      rights: [read, report, publish]

# What the sidecar itself must not forget.
state:
  directory: state
"#,
        life = super::cast::LIFE.as_secs(),
    )
}

const CONFIG: &str = "config.yaml";
const DATABASE: &str = "publisher.db";
const CLIENT_SECRET: &str = "client-secret";
const REPORTS_SECRET: &str = "reports-secret";
const MEMORY: &str = "demo.json";
const BUSY_TIMEOUT: Duration = Duration::from_secs(5);

/// The simple schema that `import` creates too.
const SCHEMA: &str = "
    CREATE TABLE accounts (
        provider TEXT NOT NULL,
        account TEXT NOT NULL,
        app TEXT,
        owner TEXT,
        access_token TEXT,
        refresh_token TEXT,
        expires_at INTEGER,
        refresh_expires_at INTEGER,
        issued_at INTEGER,
        scopes TEXT,
        subject TEXT,
        enabled INTEGER NOT NULL DEFAULT 1,
        status TEXT,
        updated_at INTEGER,
        PRIMARY KEY (provider, account)
    )";

#[cfg(test)]
mod tests {
    use super::*;
    use crate::core::Timestamp;
    use crate::demo::cast::cast;
    use std::os::unix::fs::PermissionsExt;

    fn places() -> Places {
        Places {
            listen: "127.0.0.1:8640".parse().unwrap(),
            token_url: "http://127.0.0.1:1234/v2/oauth/token/".to_owned(),
            probe_url: "http://127.0.0.1:1234/v2/user/info/".to_owned(),
            publish_check_url: "http://127.0.0.1:1234/check/".to_owned(),
            client_key: "demo-client-key".to_owned(),
            smtp: "127.0.0.1:2525".parse().unwrap(),
        }
    }

    fn token(text: &str) -> Token {
        Token {
            access: Secret::new(format!("demo-access-{text}")),
            refresh: Some(Secret::new(format!("demo-refresh-{text}"))),
            issued_at: Some(Timestamp::from_unix(1_000)),
            expires_at: Some(Timestamp::from_unix(1_060)),
            refresh_expires_at: None,
            scopes: Some(vec!["user.info.basic".to_owned(), "video.publish".to_owned()]),
            subject: Some("demo-open-id".to_owned()),
        }
    }

    #[test]
    fn the_configuration_is_yaml_that_points_at_the_stage_and_holds_no_secret() {
        let text = config_text(&places());
        let config: serde_yaml::Value = serde_yaml::from_str(&text).unwrap();
        let app = &config["apps"][0];
        assert_eq!(app["endpoints"]["token"], "http://127.0.0.1:1234/v2/oauth/token/");
        assert_eq!(app["endpoints"]["probe"], "http://127.0.0.1:1234/v2/user/info/");
        assert_eq!(app["client_id"], "demo-client-key");
        assert_eq!(app["client_secret_file"], "client-secret");
        assert_eq!(config["store"]["path"], "publisher.db");
        assert_eq!(config["server"]["listen"], "127.0.0.1:8640");
        assert_eq!(config["mail"]["smtp"]["host"], "127.0.0.1");
        assert_eq!(config["mail"]["smtp"]["port"], 2525);
        assert_eq!(config["publisher"]["clients"][0]["secret_file"], "reports-secret");
        assert_eq!(config["state"]["directory"], "state");
    }

    #[test]
    fn the_store_gives_back_the_tokens_it_was_filled_with() {
        let folder = tempfile::tempdir().unwrap();
        let mut stage = Stage::set(folder.path(), 2).unwrap();
        let rows: Vec<_> =
            cast(2).into_iter().map(|actor| (actor.clone(), token(&actor.account))).collect();
        stage.fill_store(&rows).unwrap();
        let read = read_store(&stage.database()).unwrap();
        assert_eq!(read.len(), 2);
        assert_eq!(read[1].account, "brand-02");
        assert_eq!(read[1].access.expose(), "demo-access-brand-02");
        assert_eq!(read[1].refresh.expose(), "demo-refresh-brand-02");
    }

    #[test]
    fn a_filled_stage_is_continued_with_what_was_done_and_its_own_number_of_accounts() {
        let folder = tempfile::tempdir().unwrap();
        let mut stage = Stage::set(folder.path(), 14).unwrap();
        assert!(!stage.continues);
        stage.fill_store(&[]).unwrap();
        stage.set_done(Step::DropScope).unwrap();
        let secret = stage.reports_secret().unwrap();

        let again = Stage::set(folder.path(), 99).unwrap();
        assert!(again.continues);
        assert_eq!(again.accounts(), 14);
        assert!(again.is_done(Step::DropScope));
        assert!(!again.is_done(Step::RevokeConsent));
        assert_eq!(again.reports_secret().unwrap(), secret);
    }

    #[test]
    fn somebody_elses_configuration_is_left_alone() {
        let folder = tempfile::tempdir().unwrap();
        fs::write(folder.path().join(CONFIG), "store: {}").unwrap();
        let refused = Stage::set(folder.path(), 12).err().unwrap();
        assert!(refused.contains("config.yaml was not written by a demo"), "{refused}");
    }

    #[test]
    fn secrets_are_readable_by_their_owner_only() {
        let folder = tempfile::tempdir().unwrap();
        let stage = Stage::set(folder.path(), 12).unwrap();
        stage.write_client_secret(&Secret::new("demo-secret-invented".to_owned())).unwrap();
        stage.reports_secret().unwrap();
        for name in [CLIENT_SECRET, REPORTS_SECRET] {
            let mode = fs::metadata(folder.path().join(name)).unwrap().permissions().mode();
            assert_eq!(mode & 0o777, 0o600, "{name}");
        }
    }
}
