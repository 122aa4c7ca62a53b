//! A refresher with a played store, a played provider, a real state and a clock that the test moves.

use crate::store::PlayedStore;
use arc_swap::ArcSwap;
use oauth_keepalive::{
    clock::Clock,
    core::{
        AccountId, Secret, Timestamp,
        fleet::{Blocked, Finished},
    },
    metrics::events::Metrics,
    oauth::{Answer, Body, Exchange, Outcome, Request, Token, Trouble},
    providers::{self, Endpoints, Provider, Renewal},
    refresh::{App, Apps, Heard, Held, Refresher, Transport, Unspent},
    report::Reporter,
    secrets::SecretRef,
    state::{self, Intent, State},
};
use std::{
    collections::VecDeque,
    fs,
    path::{Path, PathBuf},
    sync::{Arc, Mutex},
    time::Duration,
};
use tempfile::TempDir;

pub(crate) const DEADLINE: Duration = Duration::from_secs(10);
pub(crate) const START: i64 = 1_800_000_000;

/// What the provider, or the way to it, does with one request.
pub(crate) type Step = Box<dyn FnOnce(&PlayedStore) -> Exchange + Send>;

/// The way to the provider: each request takes the next step.
pub(crate) struct Script {
    store: Arc<PlayedStore>,
    provider: &'static Provider,
    steps: Mutex<VecDeque<(Duration, Option<Step>)>>,
    /// The refresh tokens that were presented, by their last part, in order; with a minus when the answer
    /// says that it was not spent; `check` for a free check.
    sent: Mutex<Vec<String>>,
}

impl Transport for Script {
    async fn send(&self, _: &str, request: Request) -> Exchange {
        self.sent.lock().unwrap().push(presented(&request));
        let step = self.steps.lock().unwrap().pop_front();
        let (takes, step) = step.expect("no request was expected here");
        tokio::time::sleep(takes).await;
        let Some(step) = step else {
            return std::future::pending().await;
        };
        let exchange = step(&self.store);
        let outcome = self.provider.outcome(&exchange, Timestamp::MIN);
        if let Body::Form(_) = request.body
            && matches!(outcome, Outcome::NotCommitted(_))
        {
            self.sent.lock().unwrap().last_mut().unwrap().push('-');
        }
        exchange
    }
}

fn presented(request: &Request) -> String {
    let Body::Form(pairs) = &request.body else {
        return "check".to_owned();
    };
    let is_shown = |(name, _): &&(String, Secret)| name == "refresh_token" || name == "code";
    let (_, token) = pairs.iter().find(is_shown).unwrap();
    last_part(token)
}

fn last_part(secret: &Secret) -> String {
    secret.expose().rsplit('.').next().unwrap().to_owned()
}

pub(crate) struct Bench {
    pub(crate) refresher: Arc<Refresher<PlayedStore, Script>>,
    pub(crate) store: Arc<PlayedStore>,
    pub(crate) folder: TempDir,
    provider: &'static Provider,
    /// What the provider handed out, by the last part of its refresh token.
    pub(crate) received: Vec<String>,
}

pub(crate) fn id() -> AccountId {
    AccountId::new("tiktok", "ann")
}

/// A token by its number; the account's own unless `open_id` says otherwise.
pub(crate) fn token(number: &str) -> Token {
    Token {
        access: Secret::new(format!("act.invented.{number}")),
        refresh: Some(Secret::new(format!("rft.invented.{number}"))),
        issued_at: Some(Timestamp::from_unix(START - 5_000)),
        expires_at: Some(Timestamp::from_unix(START + 2_200)),
        refresh_expires_at: None,
        scopes: None,
        subject: Some("open-ann".to_owned()),
    }
}

pub(crate) fn answered(status: u16, body: &str) -> Exchange {
    Exchange::Answered(Answer {
        status,
        retry_after: None,
        date: None,
        bearer_error: None,
        body: Secret::new(body.to_owned()),
    })
}

/// TikTok's good answer, as its page shows it.
pub(crate) fn good(number: &str) -> String {
    good_of(number, "open-ann")
}

pub(crate) fn good_of(number: &str, open_id: &str) -> String {
    format!(
        r#"{{"access_token":"act.invented.{number}","expires_in":7200,"open_id":"{open_id}","refresh_expires_in":15552000,"refresh_token":"rft.invented.{number}","scope":"user.info.basic,video.publish","token_type":"Bearer"}}"#
    )
}

pub(crate) const DEAD: &str = r#"{"error":"invalid_grant","error_description":"Refresh token is invalid or expired.","log_id":"202611011010210102"}"#;
pub(crate) const APP_REFUSED: &str = r#"{"error":"invalid_client","error_description":"Client key or secret is incorrect.","log_id":"202611011010210103"}"#;
pub(crate) const ALIVE: &str =
    r#"{"data":{"user":{"open_id":"open-ann"}},"error":{"code":"ok","message":"","log_id":"1"}}"#;

impl Bench {
    /// An account whose store holds token 0.
    pub(crate) async fn new() -> Self {
        Self::with_provider(providers::find("tiktok").unwrap()).await
    }

    pub(crate) async fn with_provider(provider: &'static Provider) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let state = open(folder.path()).await;
        Self::with_state(provider, folder, state)
    }

    pub(crate) fn with_state(provider: &'static Provider, folder: TempDir, state: State) -> Self {
        fs::write(folder.path().join("secret"), "invented-client-secret\n").unwrap();
        let store = Arc::new(PlayedStore::new(state.fingerprinter()));
        store.put(&id(), Some(token("0")));
        let clock = Clock::simulated(Timestamp::from_unix(START));
        let refresher = refresher(&folder, &store, state, provider, clock);
        Self { refresher, store, folder, provider, received: Vec::new() }
    }

    pub(crate) fn answers(&mut self, status: u16, body: &str) {
        if let Some((_, rest)) = body.split_once("rft.invented.") {
            self.received.push(rest.split('"').next().unwrap().to_owned());
        }
        let body = body.to_owned();
        self.does(Box::new(move |_| answered(status, &body)));
    }

    /// The answer takes so long.
    pub(crate) fn answers_after(&mut self, takes: Duration, body: &str) {
        self.answers(200, body);
        self.refresher.transport.steps.lock().unwrap().back_mut().unwrap().0 = takes;
    }

    pub(crate) fn is_not_reached(&self, trouble: Trouble) {
        self.does(Box::new(move |_| Exchange::NotSent(trouble)));
    }

    pub(crate) fn is_lost(&self, trouble: Trouble) {
        self.does(Box::new(move |_| Exchange::Lost(trouble)));
    }

    pub(crate) fn never_answers(&self) {
        self.refresher.transport.steps.lock().unwrap().push_back((Duration::ZERO, None));
    }

    pub(crate) fn does(&self, step: Step) {
        self.refresher.transport.steps.lock().unwrap().push_back((Duration::ZERO, Some(step)));
    }

    pub(crate) fn now_received(&mut self, number: &str) {
        self.received.push(number.to_owned());
    }

    /// Runs `call` until `is_there`, and drops it in the middle: what a process does that is killed.
    pub(crate) async fn until(
        &self,
        call: impl Future<Output = Finished>,
        is_there: impl Fn(&Self) -> bool,
    ) {
        tokio::pin!(call);
        while !is_there(self) {
            tokio::select! {
                biased;
                finished = &mut call => panic!("ended as {}", word(&finished)),
                // Never idle, or the paused clock would run ahead of the thread that writes our state.
                () = tokio::task::yield_now() => {}
            }
        }
    }

    /// A refresh of what the store held at first.
    pub(crate) async fn refresh(&self) -> Finished {
        self.refresh_of("0").await
    }

    pub(crate) async fn refresh_of(&self, number: &str) -> Finished {
        let expected = self.refresher.state.fingerprinter().of_token(&token(number));
        self.refresher.refresh(&id(), expected, "due").await
    }

    pub(crate) async fn settle(&self) -> Finished {
        self.refresher.settle(&id(), true).await
    }

    pub(crate) async fn wait(&self, duration: Duration) {
        tokio::time::advance(duration).await;
    }

    /// Starts again after a call was dropped in the middle, when the lease of the process that died is over.
    pub(crate) async fn crash(self) -> Self {
        let bench = self.crash_and_come_back_at_once().await;
        bench.wait(DEADLINE * 3 + Duration::from_secs(31)).await;
        bench
    }

    pub(crate) async fn crash_and_come_back_at_once(self) -> Self {
        let Self { refresher, store, folder, provider, received } = self;
        let clock = refresher.clock.clone();
        let sent = std::mem::take(&mut *refresher.transport.sent.lock().unwrap());
        let Ok(Refresher { state, .. }) = Arc::try_unwrap(refresher) else {
            panic!("nobody else holds it");
        };
        state.shut().await;
        let state = open(folder.path()).await;
        let refresher = self::refresher(&folder, &store, state, provider, clock);
        refresher.transport.sent.lock().unwrap().extend(sent);
        Self { refresher, store, folder, provider, received }
    }

    /// Lets our state refuse one kind of write, as a full disk would at that very moment.
    pub(crate) fn state_refuses(&self, what: Write) {
        self.sql(&format!(
            "CREATE TRIGGER {what:?} BEFORE {} BEGIN SELECT RAISE(FAIL, 'as told'); END",
            what.statement()
        ));
    }

    pub(crate) fn state_works_again(&self, what: Write) {
        self.sql(&format!("DROP TRIGGER {what:?}"));
    }

    /// As when a write was carried out and its answer was lost.
    pub(crate) fn the_probe_is_noted(&self) {
        let over_at = self.refresher.clock.now().plus(DEADLINE).as_unix();
        self.sql(&format!("UPDATE journal SET probed = 1, over_at = {over_at}"));
    }

    /// The same of an intent, as it would have been written a moment ago.
    pub(crate) async fn the_intent_lies_there(&self) {
        let (state, now) = (&self.refresher.state, self.refresher.clock.now());
        let maker = state.fingerprinter();
        let old = token("0");
        let spending = maker.of_secret(old.refresh.as_ref().unwrap());
        let over_at = now.plus(DEADLINE);
        let intent = Intent { old: maker.of_token(&old), spending, requested_at: now, over_at };
        let lease = state.take_lease(&id(), now, DEADLINE * 5).await.unwrap().unwrap();
        state.intend(&lease, &intent).await.unwrap();
        state.release(&lease).await.unwrap();
    }

    pub(crate) fn sql(&self, statement: &str) {
        let connection = rusqlite::Connection::open(database(self.folder.path())).unwrap();
        connection.busy_timeout(Duration::from_secs(5)).unwrap();
        connection.execute_batch(statement).unwrap();
    }

    pub(crate) fn sent(&self) -> Vec<String> {
        self.refresher.transport.sent.lock().unwrap().clone()
    }

    /// Everything that can be seen from outside, in one line.
    pub(crate) async fn after(&self, finished: &Finished) -> String {
        format!("{}; {}", word(finished), self.looks().await)
    }

    /// The same without how a call ended.
    pub(crate) async fn looks(&self) -> String {
        let store = match (self.store.has(&id()), self.store.token(&id())) {
            (false, _) => "no row".to_owned(),
            (true, None) => "no token".to_owned(),
            (true, Some(token)) => name(&token),
        };
        format!("sent [{}]; store {store}; {}", self.sent().join(" "), self.journal().await)
    }

    async fn journal(&self) -> String {
        let state = &self.refresher.state;
        let mut words = vec!["journal".to_owned()];
        if let Some(open) = state.open_entry(&id()).await.unwrap() {
            words.push(match (&open.result, open.probed) {
                (Some(token), _) => format!("result {}", name(token)),
                (None, true) => "probed".to_owned(),
                (None, false) => "intent".to_owned(),
            });
        }
        let orphans = state.orphans_len().await.unwrap();
        words.extend((orphans > 0).then(|| format!("orphans {orphans}")));
        if words.len() == 1 {
            words.push("empty".to_owned());
        }
        let held = self.refresher.held.len();
        words.extend((held > 0).then(|| format!("held {held}")));
        let spilled = self.refresher.held.spilled();
        words.extend((spilled > 0).then(|| format!("spilled {spilled}")));
        words.join(" ")
    }

    /// `expected` is what can be seen; besides, no refresh token was presented twice unless the second time
    /// is the one probe, and nothing that was received is gone.
    pub(crate) async fn ends(&self, sentence: &str, finished: &Finished, expected: &str) {
        let seen = self.after(finished).await;
        assert_eq!(seen, expected, "{sentence}");
        self.keeps_the_promises(sentence, &seen).await;
    }

    async fn keeps_the_promises(&self, sentence: &str, seen: &str) {
        let sent = self.sent();
        for (at, presented) in sent.iter().enumerate() {
            let is_free = presented == "check" || presented.ends_with('-');
            let before = sent[..at].iter().filter(|earlier| *earlier == presented).count();
            let has_check = self.provider.can_probe(&Endpoints::default());
            let is_the_probe = before == 1 && (!has_check || sent[at - 1] == "check");
            assert!(
                is_free || before == 0 || is_the_probe || self.provider.renewal == Renewal::Stable,
                "{sentence}: {presented} was presented again: {sent:?}"
            );
        }
        let orphans = self.refresher.state.orphans_len().await.unwrap();
        let kept = seen.split(' ').map(|word| word.trim_end_matches(';')).collect::<Vec<_>>();
        let unplaced =
            self.received.iter().filter(|number| !kept.contains(&number.as_str())).count();
        // Only what the store has had and somebody else replaced may be in neither.
        assert!(
            unplaced <= orphans + self.refresher.held.len() + self.superseded(),
            "{sentence}: received {:?}, but {seen}",
            self.received
        );
    }

    /// Received tokens that a later one of ours replaced.
    fn superseded(&self) -> usize {
        let sent = self.sent();
        self.received.iter().filter(|number| sent.contains(number)).count()
    }
}

/// What our state can be told to refuse.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Write {
    Lease,
    Intent,
    Probe,
    Result,
    Close,
    Orphan,
}

impl Write {
    const fn statement(self) -> &'static str {
        match self {
            Self::Lease => "INSERT ON lease",
            Self::Intent => "INSERT ON journal",
            Self::Probe => "UPDATE OF probed ON journal",
            Self::Result => "UPDATE OF result ON journal",
            Self::Close => "DELETE ON journal",
            Self::Orphan => "UPDATE OF orphan ON journal",
        }
    }
}

fn refresher(
    folder: &TempDir,
    store: &Arc<PlayedStore>,
    state: State,
    provider: &'static Provider,
    clock: Clock,
) -> Arc<Refresher<PlayedStore, Script>> {
    let app = App {
        name: "main".into(),
        provider,
        endpoints: Endpoints::default(),
        client_id: "invented-client".to_owned(),
        client_secrets: Arc::new(vec![SecretRef::File(folder.path().join("secret"))].into()),
        scopes: [Arc::from("video.publish")].into(),
        is_default: true,
        is_testing: false,
    };
    let apps: Apps = [(Arc::clone(&app.name), Arc::new(app))].into();
    let transport = Script {
        store: Arc::clone(store),
        provider,
        steps: Mutex::default(),
        sent: Mutex::default(),
    };
    let held = Held::spilling_to(state.spill(&settings(folder.path())));
    Arc::new(Refresher {
        store: Arc::clone(store),
        state,
        transport: Arc::new(transport),
        reporter: Reporter::new(Metrics::new([provider.name.as_str()], clock.now())),
        clock,
        apps: Arc::new(ArcSwap::from_pointee(apps)),
        call_deadline: DEADLINE,
        held,
        unspent: Unspent::default(),
        heard: Heard::default(),
    })
}

pub(crate) async fn open(folder: &Path) -> State {
    State::open(&settings(folder)).await.unwrap()
}

fn settings(folder: &Path) -> state::Settings {
    let spill = Some(folder.to_owned());
    state::Settings { spill, ..state::Settings::in_directory(folder.join("state")) }
}

fn database(folder: &Path) -> PathBuf {
    folder.join("state/state.db")
}

pub(crate) fn name(token: &Token) -> String {
    let access = last_part(&token.access);
    match token.refresh.as_ref().map(last_part) {
        Some(refresh) if refresh != access => format!("{access}+{refresh}"),
        _ => access,
    }
}

fn word(finished: &Finished) -> String {
    match finished {
        Finished::Renewed(_) => "renewed".to_owned(),
        Finished::Adopted(_) => "adopted".to_owned(),
        Finished::Restored(_) => "restored".to_owned(),
        Finished::Shared(_) => "shared".to_owned(),
        Finished::Unsaved(_) => "unsaved".to_owned(),
        Finished::Dead(evidence) => format!("dead {}", evidence.cause.as_label()),
        Finished::KnownDead(_) => "known to be dead".to_owned(),
        Finished::WrongAccount(evidence) => format!("wrong {}", evidence.cause.as_label()),
        Finished::NotCommitted(evidence) => {
            let of_app = if evidence.app_wide { " of the app" } else { "" };
            format!("not committed {}{of_app}", evidence.cause.as_label())
        }
        Finished::Ambiguous { .. } => "ambiguous".to_owned(),
        Finished::Blocked(Blocked::LeaseHeld) => "lease held".to_owned(),
        Finished::Blocked(Blocked::RowDamaged) => "row damaged".to_owned(),
        Finished::Blocked(Blocked::ProviderSilent) => "provider silent".to_owned(),
        Finished::Blocked(Blocked::StoreDown) => "store down".to_owned(),
        Finished::Blocked(Blocked::StateDown) => "state down".to_owned(),
        Finished::Blocked(Blocked::NoCredentials) => "no credentials".to_owned(),
        Finished::Gone => "gone".to_owned(),
        Finished::NoToken => "no token".to_owned(),
    }
}
