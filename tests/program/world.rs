//! A provider, a mailbox, a publisher's store, a configuration, and the program in the middle.

use crate::{PATIENCE, http, process::Program, until_or};
use oauth_keepalive::{
    core::Secret,
    demo::{
        mailbox::{Mail, Mailbox},
        provider::{
            Fault, Lasting, LogEntry, Provider, ProviderSettings, Refreshed, Surface, What,
        },
    },
    oauth::Token,
};
use rusqlite::{Connection, params};
use std::{
    collections::BTreeMap,
    fs,
    os::unix::fs::PermissionsExt,
    path::{Path, PathBuf},
    sync::LazyLock,
    time::{Duration, Instant},
};
use tempfile::TempDir;
use tokio::runtime::{self, Runtime};

pub(crate) const SCOPES: [&str; 2] = ["user.info.basic", "video.publish"];
pub(crate) const OPERATOR: &str = "operator@invented.example";
pub(crate) const REPORTS_SECRET: &str = "invented-reports-secret-5c1d";
/// While the provider holds something back, the program's own deadline must not come first, however busy the machine is.
pub(crate) const HELD_BACK: &str = "{total_deadline: 60s, connect_deadline: 5s}";
pub(crate) const PUBLISHER: &str = "{enabled: true, listen: \"127.0.0.1:0\", clients: [{name: publisher, \
    secret_file: reports-secret, rights: [read, report, publish, hold, refresh]}]}";

/// `brand-01` and so on.
pub(crate) fn brands(how_many: usize) -> Vec<String> {
    (1..=how_many).map(|number| format!("brand-{number:02}")).collect()
}

/// How a world is made.
pub(crate) struct Plan {
    accounts: Vec<String>,
    age: Duration,
    ages_apart: Duration,
    provider: ProviderSettings,
    sections: BTreeMap<&'static str, String>,
    keeps_journal: &'static str,
}

/// Everything around the program, and the program while it runs.
pub(crate) struct World {
    pub(crate) provider: Provider,
    pub(crate) mailbox: Mailbox,
    pub(crate) folder: TempDir,
    sections: BTreeMap<&'static str, String>,
    pub(crate) program: Option<Program>,
    starts: u32,
}

impl World {
    /// Two accounts with tokens that live six seconds, unless told otherwise.
    #[allow(clippy::new_ret_no_self, reason = "there is no world before its plan is carried out")]
    pub(crate) fn new() -> Plan {
        let sections = [
            ("store", "{kind: sqlite, path: publisher.db, poll_every: 500ms, busy_timeout: 200ms}"),
            ("refresh", "{backoff_first: 1s, backoff_max: 4s}"),
            ("http", "{total_deadline: 3s, connect_deadline: 500ms}"),
            ("server", "{listen: \"127.0.0.1:0\", enable_reload: true}"),
            ("publisher", PUBLISHER),
            ("state", "{directory: state}"),
        ];
        let provider = ProviderSettings {
            life: Duration::from_secs(6),
            client_secret: "invented-client-secret-77e0".to_owned(),
            ..ProviderSettings::default()
        };
        Plan {
            accounts: ["brand-01", "brand-02"].map(str::to_owned).into(),
            age: Duration::ZERO,
            ages_apart: Duration::ZERO,
            provider,
            sections: sections.map(|(name, body)| (name, body.to_owned())).into(),
            keeps_journal: "wal",
        }
    }
}

impl Plan {
    /// `brand-01` and so on.
    pub(crate) fn accounts(mut self, how_many: usize) -> Self {
        self.accounts = brands(how_many);
        self
    }

    pub(crate) fn provider(mut self, change: impl FnOnce(&mut ProviderSettings)) -> Self {
        change(&mut self.provider);
        self
    }

    /// Life of the tokens in seconds.
    pub(crate) fn life(self, seconds: u64) -> Self {
        self.provider(|provider| provider.life = Duration::from_secs(seconds))
    }

    /// Tokens that live long and are renewed soon: none lapses although everything takes its time.
    pub(crate) fn renewed_early(self) -> Self {
        let plan = self.life(40);
        plan.section(
            "refresh",
            "{backoff_first: 1s, backoff_max: 4s, due_after: 0.12, spread: 0.06}",
        )
    }

    /// Age of the tokens in seconds, when the program starts.
    pub(crate) const fn age(mut self, seconds: u64) -> Self {
        self.age = Duration::from_secs(seconds);
        self
    }

    /// Each further account's token is older by this, so that they are not due together.
    #[allow(dead_code, reason = "large fleets are the soak's")]
    pub(crate) const fn ages_apart(mut self, by: Duration) -> Self {
        self.ages_apart = by;
        self
    }

    /// For how many seconds the token that was rotated last buys its successor again.
    pub(crate) fn grace(self, seconds: u64) -> Self {
        self.provider(|provider| provider.grace = Duration::from_secs(seconds))
    }

    /// A section of the configuration, in YAML's flow style.
    pub(crate) fn section(mut self, name: &'static str, body: &str) -> Self {
        self.sections.insert(name, body.to_owned());
        self
    }

    /// A store whose readers wait for its writer too.
    pub(crate) const fn without_wal(mut self) -> Self {
        self.keeps_journal = "delete";
        self
    }

    /// Everything but the program.
    pub(crate) async fn prepare(self) -> World {
        let provider = backstage(Provider::start(self.provider.clone())).await;
        let mailbox = backstage(Mailbox::start()).await;
        let folder = tempfile::tempdir().unwrap();
        let mut sections = self.sections;
        let mail = format!(
            "{{enabled: true, from: \"keepalive@invented.example\", operator: [\"{OPERATOR}\"], \
             external_url: \"https://keepalive.invented.example\", digest_after: 0s, \
             smtp: {{host: \"127.0.0.1\", port: {}, tls: none}}}}",
            mailbox.smtp().port(),
        );
        sections.entry("mail").or_insert(mail);
        let apps = format!(
            "[{{name: main, provider: tiktok, kind: desktop, client_id: {}, client_secret_file: client-secret, \
             scopes: [{}], endpoints: {{token: \"{}\", probe: \"{}\", \
             publish_check: \"{}\", authorize: \"{}\"}}}}]",
            self.provider.client_key,
            SCOPES.join(", "),
            provider.token_url(),
            provider.probe_url(),
            provider.creator_info_url(),
            provider.authorize_url(),
        );
        sections.entry("apps").or_insert(apps);
        let world = World { provider, mailbox, folder, sections, program: None, starts: 0 };
        world.write_secret(&self.provider.client_secret);
        fs::write(world.path("reports-secret"), format!("{REPORTS_SECRET}\n")).unwrap();
        world.write_config();
        let database = world.database();
        database.pragma_update(None, "journal_mode", self.keeps_journal).unwrap();
        database.execute_batch(SCHEMA).unwrap();
        let mut age = self.age;
        for account in &self.accounts {
            world.provider.connect(account, &SCOPES, age);
            age += self.ages_apart;
        }
        world.insert(self.accounts.iter().map(String::as_str));
        world
    }

    /// All of it.
    pub(crate) async fn start(self) -> World {
        let mut world = self.prepare().await;
        world.start().await;
        world
    }
}

impl World {
    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// Seals what replicas share; [`crate::postgres::Schema`] names the file.
    pub(crate) fn write_state_key(&self) {
        let key = self.path("state-key");
        fs::write(&key, "aW52ZW50ZWQga2V5IG9mIHRoaXJ0eS10d28gYnl0ZXM=\n").unwrap();
        fs::set_permissions(&key, fs::Permissions::from_mode(0o600)).unwrap();
    }

    pub(crate) fn config(&self) -> PathBuf {
        self.path("config.yaml")
    }

    pub(crate) fn write_config(&self) {
        let text: String =
            self.sections.iter().map(|(name, body)| format!("{name}: {body}\n")).collect();
        replace(&self.config(), &text);
    }

    /// The configuration of another process in the same world, different in one section.
    pub(crate) fn configure_beside(&self, file: &str, name: &'static str, body: &str) -> PathBuf {
        let mut sections = self.sections.clone();
        sections.insert(name, body.to_owned());
        let text: String =
            sections.iter().map(|(name, body)| format!("{name}: {body}\n")).collect();
        replace(&self.path(file), &text);
        self.path(file)
    }

    /// Changes a section and writes the configuration.
    pub(crate) fn reconfigure(&mut self, name: &'static str, body: &str) {
        self.sections.insert(name, body.to_owned());
        self.write_config();
    }

    pub(crate) fn section(&self, name: &str) -> &str {
        &self.sections[name]
    }

    pub(crate) fn write_secret(&self, secret: &str) {
        replace(&self.path("client-secret"), &format!("{secret}\n"));
    }

    /// Starts the program, again if need be, on the same directory.
    pub(crate) async fn start(&mut self) {
        self.starts += 1;
        let log = self.path(&format!("program-{}.log", self.starts));
        self.program = Some(Program::start(&self.config(), log).await);
    }

    pub(crate) fn program(&mut self) -> &mut Program {
        self.program.as_mut().unwrap()
    }

    pub(crate) fn running(&self) -> &Program {
        self.program.as_ref().unwrap()
    }

    /// Kills it while no token is on its way: one that is may be lost, and that would be told.
    pub(crate) async fn kill_at_rest(&mut self) {
        let forever = Lasting::For(Duration::from_secs(600));
        self.provider.plant(None, Surface::Token, Fault::HoldRequest, forever);
        let accounts = {
            let database = self.database();
            let mut rows = database.prepare("SELECT account FROM accounts").unwrap();
            let names = rows.query_map([], |row| row.get::<_, String>(0)).unwrap();
            names.map(Result::unwrap).collect::<Vec<_>>()
        };
        let is_kept =
            |account: &String| self.provider.current(account).is_none() || self.kept(account);
        let is_at_rest = async || {
            self.provider.under_way() == self.provider.held() && accounts.iter().all(is_kept)
        };
        until_or("no token is on its way", is_at_rest, || self.tell()).await;
        self.program().kill_9();
        self.provider.behave();
    }

    pub(crate) async fn cause(&self, account: &str) -> Option<String> {
        self.running().scrape().await.cause(account)
    }

    /// Waits until the program says that `cause` is what is wrong with the account.
    pub(crate) async fn until_cause(&self, account: &str, cause: &str) {
        until_or(
            &format!("{account} has the cause {cause}"),
            async || self.cause(account).await.as_deref() == Some(cause),
            || self.tell(),
        )
        .await;
    }

    pub(crate) async fn until_metric(&self, name: &str, labels: &[(&str, &str)], value: f64) {
        let mut last = None;
        let told = std::cell::RefCell::new(String::new());
        until_or(
            &format!("{name} {labels:?} is {value}"),
            async || {
                last = self.running().scrape().await.value(name, labels);
                *told.borrow_mut() = format!("it is {last:?}");
                last.is_some_and(|last| last.total_cmp(&value).is_eq())
            },
            || format!("{}\n{}", told.borrow(), self.tell()),
        )
        .await;
    }

    /// Posts a report as the publisher.
    pub(crate) async fn report(&self, account: &str, status: u16, times: u32) {
        let body = format!(
            r#"{{"responses":[{{"provider":"tiktok","account":"{account}","status":{status},"times":{times}}}]}}"#
        );
        let bearer = format!("Bearer {REPORTS_SECRET}");
        let headers = [("Authorization", bearer.as_str()), ("Content-Type", "application/json")];
        let at = self.running().reports;
        let answer = http::send(at, "POST", "/v1/responses", &headers, &body).await.unwrap();
        assert_eq!(answer.status, 202, "{}", answer.text());
    }

    // The publisher's store.

    pub(crate) fn database(&self) -> Connection {
        let database = Connection::open(self.path("publisher.db")).unwrap();
        database.busy_timeout(Duration::from_secs(20)).unwrap();
        database
    }

    /// Rows for accounts that the provider knows.
    pub(crate) fn insert<'a>(&self, accounts: impl IntoIterator<Item = &'a str>) {
        let mut database = self.database();
        let transaction = database.transaction().unwrap();
        for account in accounts {
            let token = self.provider.current(account).unwrap();
            let row = params![account, owner(account), token.subject];
            let sql = "INSERT INTO accounts (provider, account, owner, subject) \
                       VALUES ('tiktok', ?1, ?2, ?3)";
            transaction.execute(sql, row).unwrap();
            write_token(&transaction, account, &token);
        }
        transaction.commit().unwrap();
    }

    /// What a publisher does that has a newer token.
    pub(crate) fn write(&self, account: &str, token: &Token) {
        write_token(&self.database(), account, token);
    }

    pub(crate) fn execute(&self, sql: &str) {
        self.database().execute_batch(sql).unwrap();
    }

    /// Access and refresh token of an account as they stand in the store.
    pub(crate) fn stored(&self, account: &str) -> (String, String) {
        let sql = "SELECT access_token, refresh_token FROM accounts WHERE account = ?1";
        let row = |row: &rusqlite::Row<'_>| Ok((row.get(0)?, row.get(1)?));
        self.database().query_row(sql, [account], row).unwrap()
    }

    /// True when the store holds the refresh token that the provider honours.
    pub(crate) fn kept(&self, account: &str) -> bool {
        let current = self.provider.current(account).unwrap();
        current.refresh.is_some_and(|current| current.expose() == self.stored(account).1)
    }

    /// True when the provider takes the access token that the store holds.
    pub(crate) fn live(&self, account: &str) -> bool {
        self.provider.accepts(&self.stored(account).0)
    }

    /// Waits until both hold: the provider counts a rotation a moment before its answer is in the store.
    pub(crate) async fn until_kept_and_live(&self, account: &str) {
        let what = format!("the store holds what the provider honours for {account}");
        let settled = async || self.kept(account) && self.live(account);
        until_or(&what, settled, || self.tell()).await;
    }

    // The provider's log.

    /// How the token requests of this account ended, in order.
    pub(crate) fn refreshed(&self, account: &str) -> Vec<Refreshed> {
        self.refreshes()
            .into_iter()
            .filter(|(entry, _)| entry.account.as_deref() == Some(account))
            .map(|(_, refreshed)| refreshed)
            .collect()
    }

    /// Every token request.
    pub(crate) fn refreshes(&self) -> Vec<(LogEntry, Refreshed)> {
        assert_eq!(self.provider.log_cut(), 0, "an incomplete log proves nothing");
        let refresh = |entry: LogEntry| match entry.what {
            What::Refresh(refreshed) => Some((entry, refreshed)),
            What::Question(_) | What::Code { .. } | What::Api { .. } => None,
        };
        self.provider.log().into_iter().filter_map(refresh).collect()
    }

    pub(crate) fn rotations(&self, account: &str) -> usize {
        self.refreshed(account).iter().filter(|how| **how == Refreshed::Rotated).count()
    }

    /// Waits until each of them was rotated so many times more.
    pub(crate) async fn until_each_rotated(&self, accounts: &[String], more: usize) {
        let rotations = || accounts.iter().map(|account| self.rotations(account));
        let before: Vec<usize> = rotations().collect();
        until_or(
            &format!("each of {accounts:?} is renewed {more} times more than {before:?} times"),
            async || before.iter().zip(rotations()).all(|(before, now)| now >= before + more),
            || self.tell(),
        )
        .await;
    }

    /// Waits until the account was rotated so many times in all, before or from now on.
    pub(crate) async fn until_rotations(&self, account: &str, wanted: usize) {
        until_or(
            &format!("{account} is renewed {wanted} times in all"),
            async || self.rotations(account) >= wanted,
            || self.tell(),
        )
        .await;
    }

    /// Waits until the provider holds a request or an answer back.
    pub(crate) async fn until_held_back(&self) {
        let is_held = async || self.provider.held() > 0;
        until_or("something is held back at the provider", is_held, || self.tell()).await;
    }

    /// Waits until the account was rotated so many times more: what should not happen has had its time. Whatever
    /// makes it rotate must come again and again, or it may have come already; see [`World::until_rotations`].
    pub(crate) async fn until_rotated(&self, account: &str, more: usize) {
        let so_far = self.rotations(account);
        until_or(
            &format!("{account} is renewed {more} times more than {so_far} times"),
            async || self.rotations(account) >= so_far + more,
            || self.tell(),
        )
        .await;
    }

    pub(crate) fn api_calls(&self, account: &str) -> usize {
        self.provider.count(|entry| {
            matches!(entry.what, What::Api { .. }) && entry.account.as_deref() == Some(account)
        })
    }

    /// No retired token was presented, and no two requests of one account were under way together.
    pub(crate) fn assert_well_behaved(&self) {
        for (entry, _) in self.refreshes() {
            assert!(!entry.retired_presented(), "a retired token was presented: {entry:?}");
            assert!(!entry.overlapped, "two requests of one account at a time: {entry:?}");
        }
    }

    /// Waits until what the program counted is what the provider counted, outcome by outcome and account by
    /// account.
    pub(crate) async fn until_counts_agree(&self) {
        self.until_requests_agree().await;
        let mut difference = (Vec::new(), Vec::new());
        let began = Instant::now();
        loop {
            let scrape = self.running().scrape().await;
            let theirs = self.outcomes_by_log();
            let ours = OUTCOMES.map(|outcome| {
                let labels = [("provider", "tiktok"), ("outcome", outcome)];
                scrape.value("refresh_outcomes_total", &labels).unwrap() as usize
            });
            if ours == theirs {
                return;
            }
            difference.0 = ours.to_vec();
            difference.1 = theirs.to_vec();
            let (ours, theirs) = &difference;
            let what = "counted by the program and by the provider";
            assert!(
                began.elapsed() < PATIENCE,
                "{OUTCOMES:?} {what}: {ours:?} and {theirs:?}\n{}",
                self.tell()
            );
            tokio::time::sleep(crate::LOOK_EVERY).await;
        }
    }

    /// The same for the accounts alone, where it hangs on a deadline what a request comes to. An account that
    /// has left is counted no more.
    pub(crate) async fn until_requests_agree(&self) {
        let told = std::cell::RefCell::new(String::new());
        until_or(
            "requests are counted alike, account by account",
            async || {
                let scrape = self.running().scrape().await;
                let theirs = self.requests_by_log();
                let ours = theirs.iter().map(|(account, requests)| {
                    let ours = scrape.value("refresh_attempts_total", &[("account", account)]);
                    (account.clone(), ours.map_or(*requests, |ours| ours as usize))
                });
                let ours: BTreeMap<String, usize> = ours.collect();
                *told.borrow_mut() = format!("{ours:?} and {theirs:?}");
                ours == theirs
            },
            || format!("{}\n{}", told.borrow(), self.tell()),
        )
        .await;
    }

    fn requests_by_log(&self) -> BTreeMap<String, usize> {
        let mut requests = BTreeMap::new();
        for account in self.refreshes().into_iter().filter_map(|(entry, _)| entry.account) {
            *requests.entry(account).or_default() += 1;
        }
        requests
    }

    fn outcomes_by_log(&self) -> [usize; 4] {
        let log = self.refreshes();
        let read_as = |outcome| {
            let fits =
                |(entry, _): &&(LogEntry, Refreshed)| entry.should_read_as() == Some(outcome);
            log.iter().filter(fits).count()
        };
        OUTCOMES.map(read_as)
    }

    // The mailbox.

    pub(crate) fn mails_to(&self, address: &str) -> Vec<Mail> {
        let to_them = |mail: &Mail| mail.to.iter().any(|to| to == address);
        self.mailbox.mails().into_iter().filter(to_them).collect()
    }

    pub(crate) async fn until_mails(&self, address: &str, how_many: usize) -> Vec<Mail> {
        until_or(
            &format!("{address} has {how_many} mails"),
            async || self.mails_to(address).len() >= how_many,
            || self.tell(),
        )
        .await;
        let mails = self.mails_to(address);
        assert_eq!(mails.len(), how_many, "{:?}", subjects(&mails));
        mails
    }

    /// Waits until the first pass over the store is done.
    pub(crate) async fn until_ready(&self) {
        let is_ready = async || self.running().get("/-/ready").await.status == 200;
        until_or("the store was read", is_ready, || self.tell()).await;
    }
}

/// Starts something that goes on by itself: a test that looks into a database, or starts a process, must not keep the
/// provider from answering.
async fn backstage<T: Send + 'static>(
    start: impl Future<Output = std::io::Result<T>> + Send + 'static,
) -> T {
    static BACKSTAGE: LazyLock<Runtime> = LazyLock::new(|| {
        runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap()
    });
    BACKSTAGE.spawn(start).await.unwrap().unwrap()
}

fn subjects(mails: &[Mail]) -> Vec<(&[String], &str)> {
    mails.iter().map(|mail| (mail.to.as_slice(), mail.subject.as_str())).collect()
}

/// The address of an account's owner.
pub(crate) fn owner(account: &str) -> String {
    format!("owner-of-{account}@invented.example")
}

fn write_token(database: &Connection, account: &str, token: &Token) {
    let at = |at: Option<oauth_keepalive::core::Timestamp>| at.map(|at| at.as_unix());
    let changed = database.execute(
        "UPDATE accounts SET access_token = ?2, refresh_token = ?3, expires_at = ?4, \
         refresh_expires_at = ?5, issued_at = ?6, scopes = ?7 WHERE account = ?1",
        params![
            account,
            token.access.expose(),
            token.refresh.as_ref().map(Secret::expose),
            at(token.expires_at),
            at(token.refresh_expires_at),
            at(token.issued_at),
            token.scopes.as_ref().map(|scopes| scopes.join(",")),
        ],
    );
    assert_eq!(changed.unwrap(), 1);
}

/// Writes a file the way a careful editor does: nobody sees half of it.
pub(crate) fn replace(path: &Path, text: &str) {
    let new = path.with_extension("being-written");
    fs::write(&new, text).unwrap();
    fs::rename(new, path).unwrap();
}

pub(crate) const OUTCOMES: [&str; 4] = ["committed", "not_committed", "dead", "ambiguous"];

/// As a publisher might have it: our own simple schema with a column of theirs.
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
        campaign TEXT NOT NULL DEFAULT 'winter',
        PRIMARY KEY (provider, account)
    )";
