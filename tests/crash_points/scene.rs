//! One account due for rotation in a moment, the program idle until then, and strace beside it.

use crate::{
    http,
    options::{Options, Round, Store},
    process::Program,
    scrape::Scrape,
    strace::Strace,
    trace::{self, Call},
    until_or,
    world::{Plan, SCOPES, World, owner, replace},
};
use oauth_keepalive::core::{Secret, Timestamp};
use rusqlite::Connection;
use std::{
    fs,
    path::PathBuf,
    time::{Duration, Instant, SystemTime},
};
use tempfile::TempDir;

/// Everything for one run.
pub(crate) struct Scene {
    pub(crate) world: World,
    /// Logs and traces; not beside the store, where each line would wake the program.
    aside: TempDir,
    options: Options,
    store: Store,
    starts: u32,
}

/// What became of the account.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Verdict {
    /// The store holds what the provider honours and nothing is owed.
    Alive,
    /// It is gone, the program says so with this cause, and its owner has a mail.
    Lost(String),
    /// The program gave it up although the store holds what the provider honours.
    GivenUp,
    /// Neither, for far longer than it takes.
    Silent(String),
}

impl Scene {
    /// Everything but the program; the account is due between one and `lead` seconds from now.
    pub(crate) async fn prepare(options: &Options, round: Round, lead: u64) -> Self {
        let world = plan(round, lead).prepare().await;
        let aside = tempfile::tempdir().unwrap();
        let scene = Self { world, aside, options: options.clone(), store: round.store, starts: 0 };
        if round.store == Store::File {
            let token = scene.world.provider.current(ACCOUNT).unwrap();
            let at = |at: Option<Timestamp>| at.unwrap().as_unix();
            let text = format!(
                "accounts:\n  - provider: tiktok\n    account: {ACCOUNT}\n    access_token: {}\n    \
                 refresh_token: {}\n    expires_at: {}\n    refresh_expires_at: {}\n    issued_at: {}\n    \
                 scopes: \"{}\"\n    subject: {}\n    owner: {}\n",
                token.access.expose(),
                token.refresh.as_ref().unwrap().expose(),
                at(token.expires_at),
                at(token.refresh_expires_at),
                at(token.issued_at),
                SCOPES.join(","),
                token.subject.as_ref().unwrap(),
                owner(ACCOUNT),
            );
            replace(&scene.world.path(FILE), &text);
        }
        scene
    }

    /// Starts the program, again if need be.
    pub(crate) async fn start(&mut self) {
        let log = self.next_log();
        let config = self.world.config();
        let binary = &self.options.binary;
        self.world.program = Some(Program::start_binary(binary, "info", &config, log).await);
    }

    /// The same under strace from its first call on, without waiting for anything: it may not get far.
    pub(crate) fn start_under_strace(&mut self, arguments: &[String]) -> Strace {
        let log = self.next_log();
        let (strace, mut command) =
            Strace::around(&self.options.binary, arguments, self.aside.path());
        command.args(["run", "--log-level", "info", "--config"]).arg(self.world.config());
        self.world.program = Some(Program::spawn(command, log));
        strace
    }

    fn next_log(&mut self) -> PathBuf {
        self.starts += 1;
        self.aside.path().join(format!("program-{}.log", self.starts))
    }

    /// Attaches strace; `None` when the account was due before that.
    pub(crate) async fn attach(&self, arguments: &[String]) -> Option<Strace> {
        let pid = self.world.running().pid();
        let strace = Strace::attach(pid, arguments, self.aside.path()).await;
        let issued = self.world.provider.current(ACCOUNT)?.issued_at?.as_unix();
        let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).ok()?;
        let due = Duration::from_secs(u64::try_from(issued).ok()? + DUE_AFTER);
        (now < due).then_some(strace)
    }

    /// The calls that strace saw, with paths as they are in every run.
    pub(crate) fn calls(&self, strace: &Strace) -> Vec<Call> {
        trace::read(&strace.text(), self.world.folder.path(), self.world.provider.address().port())
    }

    /// The rotation is done, as far as provider and store know.
    pub(crate) fn is_done(&self) -> bool {
        self.world.rotations(ACCOUNT) > 0 && self.kept()
    }

    /// True when the store holds what the provider honours.
    fn kept(&self) -> bool {
        if self.store == Store::Sqlite {
            return self.world.kept(ACCOUNT) && self.world.live(ACCOUNT);
        }
        let current = self.world.provider.current(ACCOUNT).unwrap();
        let text = fs::read_to_string(self.world.path(FILE)).unwrap_or_default();
        let holds = |secret: &Secret| text.contains(secret.expose());
        holds(&current.access)
            && current.refresh.is_some_and(|refresh| holds(&refresh))
            && self.world.provider.accepts(current.access.expose())
    }

    /// The provider has handed out a new token, and the store does not hold it.
    pub(crate) fn is_rotated(&self) -> bool {
        self.world.rotations(ACCOUNT) > 0 && !self.kept()
    }

    /// The journal of a dead process holds a new token. A copy is asked, so that nothing is changed.
    pub(crate) fn has_result(&self) -> bool {
        let copy = tempfile::tempdir().unwrap();
        for name in ["state.db", "state.db-wal"] {
            fs::copy(self.world.path("state").join(name), copy.path().join(name)).unwrap();
        }
        let journal = Connection::open(copy.path().join("state.db")).unwrap();
        let sql = "SELECT count(*) FROM journal WHERE orphan = 0 AND result IS NOT NULL";
        journal.query_row(sql, [], |row| row.get::<_, i64>(0)).unwrap() > 0
    }

    /// Requests for a new token, as the provider counted them.
    pub(crate) fn requests(&self) -> usize {
        self.world.refreshed(ACCOUNT).len()
    }

    /// Waits until the rotation is done and nothing happens any more.
    pub(crate) async fn until_rotated_and_quiet(&self, strace: &Strace) {
        let done = async || self.is_done();
        until_or("the token is rotated and saved", done, || self.world.tell()).await;
        strace.until_quiet(QUIET).await;
    }

    /// Waits until the account is well or its loss is told.
    pub(crate) async fn settle(&self) -> Verdict {
        let began = Instant::now();
        loop {
            let told = match self.look().await {
                Ok(verdict) => return verdict,
                Err(told) => told,
            };
            if began.elapsed() > SETTLED_WITHIN {
                return Verdict::Silent(told);
            }
            tokio::time::sleep(crate::LOOK_EVERY).await;
        }
    }

    /// The verdict, if there is one yet; an answer that is cut off is none.
    pub(crate) async fn look(&self) -> Result<Verdict, String> {
        let answer = http::get(self.world.running().telemetry, "/metrics").await;
        let scrape = Scrape(answer.map_err(|error| error.to_string())?.text());
        let number = |name: &str| scrape.value(name, &[]);
        let cause = scrape.cause(ACCOUNT);
        let kept = self.kept();
        let well = self.is_done();
        let mails = self.world.mails_to(&owner(ACCOUNT)).len();
        let at_rest =
            number("journal_entries") == Some(0.0) && number("unsaved_tokens") == Some(0.0);
        let works = number("store_up") == Some(1.0) && number("state_up") == Some(1.0);
        match cause.as_deref() {
            Some("none") if at_rest && works && mails == 0 && well => {
                return Ok(Verdict::Alive);
            }
            Some(cause) if LOST.contains(&cause) && mails > 0 => {
                return Ok(if kept { Verdict::GivenUp } else { Verdict::Lost(cause.to_owned()) });
            }
            _ => {}
        }
        Err(format!(
            "cause {cause:?}, kept {kept}, {mails} mails, journal {:?}, unsaved {:?}, store_up {:?}, \
             state_up {:?}, requests {:?}",
            number("journal_entries"),
            number("unsaved_tokens"),
            number("store_up"),
            number("state_up"),
            self.world.refreshed(ACCOUNT),
        ))
    }

    /// Waits until the program either says that something is wrong or has gone on regardless.
    pub(crate) async fn until_it_reacts(&self) {
        let began = Instant::now();
        while began.elapsed() < REACTS_WITHIN {
            let scrape = self.world.running().scrape().await;
            let is = |name: &str, value: f64| scrape.value(name, &[]) == Some(value);
            let in_trouble =
                is("store_up", 0.0) || is("state_up", 0.0) || !is("unsaved_tokens", 0.0);
            if in_trouble || self.look().await.is_ok() {
                return;
            }
            tokio::time::sleep(crate::LOOK_EVERY).await;
        }
    }

    pub(crate) fn tell(&self) -> String {
        self.world.tell()
    }
}

fn plan(round: Round, lead: u64) -> Plan {
    let store = match round.store {
        Store::Sqlite => "{kind: sqlite, path: publisher.db, poll_every: 10m}".to_owned(),
        Store::File => format!("{{kind: file, path: {FILE}, poll_every: 10m}}"),
    };
    World::new()
        .accounts(1)
        .life(LIFE)
        .age(DUE_AFTER - lead)
        .grace(round.grace)
        // The hardest kind: whoever presents a retired token loses everything.
        .provider(|provider| provider.reuse_revokes_family = true)
        .section("store", &store)
        .section("refresh", "{due_after: 0.5, spread: 0, backoff_first: 1s, backoff_max: 2s}")
        .section("http", "{total_deadline: 1s, connect_deadline: 300ms}")
}

pub(crate) const ACCOUNT: &str = "brand-01";
/// The store, where it is a file.
const FILE: &str = "publisher.yaml";
/// Long enough that the new token is not due again.
const LIFE: u64 = 600;
const DUE_AFTER: u64 = 300;
/// The causes that a person must mend by connecting the account again.
const LOST: [&str; 3] = ["rotation_lost", "refresh_token_rejected", "consent_revoked"];
/// Far longer than waiting out the request, the probe and the mail take.
const SETTLED_WITHIN: Duration = Duration::from_secs(30);
const REACTS_WITHIN: Duration = Duration::from_secs(4);
/// Of a program that has nothing to do; what it looks at every second is no part of the rotation.
const QUIET: Duration = Duration::from_millis(200);
