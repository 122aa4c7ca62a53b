//! The keeper with everything around it played, on a clock that the test moves: days pass in a moment.
#![allow(clippy::unwrap_used, reason = "a test may")]

#[allow(dead_code, reason = "tests/refresh needs more of it")]
#[path = "refresh/store.rs"]
mod store;

use arc_swap::ArcSwap;
use oauth_keepalive::{
    clerk::{Clerk, Round},
    clock::Clock,
    core::{
        AccountId, Busy, Order, Secret, Shares, Snapshot, Timestamp, decide,
        fleet::{Fleet, Input, Seen},
        schedule::Policy,
    },
    delivery,
    keeper::{self, Keeper},
    loader,
    metrics::events::Metrics,
    oauth::{Answer, Body, Exchange, Request, Token},
    providers::{self, Endpoints},
    refresh::{App, Heard, Held, Refresher, Transport, Unspent},
    report::Reporter,
    state::{self, State},
};
use std::{
    collections::{BTreeMap, BTreeSet},
    future::Future,
    sync::{
        Arc, Mutex,
        atomic::{AtomicUsize, Ordering},
    },
    time::{Duration, Instant},
};
use store::{Call, PlayedStore, Trick};
use tempfile::TempDir;
use tokio::{
    sync::{Notify, mpsc, watch},
    task::JoinHandle,
};

const START: i64 = 1_800_000_000;
const HOUR: Duration = Duration::from_secs(3_600);

/// A provider that rotates, keeps count, and takes its time.
#[derive(Default)]
struct Played {
    /// The refresh token that each account may present now, by the part that stays.
    current: Mutex<BTreeMap<String, u64>>,
    /// Presented again after it was retired.
    reused: AtomicUsize,
    rotations: AtomicUsize,
    in_flight: AtomicUsize,
    takes: Mutex<Duration>,
    panics: AtomicUsize,
}

impl Transport for Played {
    async fn send(&self, _: &str, request: Request) -> Exchange {
        let panics = self.panics.load(Ordering::SeqCst);
        assert!(panics == 0, "as told: {}", self.panics.fetch_sub(1, Ordering::SeqCst));
        let Body::Form(pairs) = &request.body else {
            return answered(r#"{"data":{"user":{"open_id":"a"}},"error":{"code":"ok"}}"#);
        };
        let (_, presented) = pairs.iter().find(|(name, _)| name == "refresh_token").unwrap();
        let (account, number) = presented.expose().rsplit_once('.').unwrap();
        let number: u64 = number.parse().unwrap();
        let (current, next) = {
            let mut all = self.current.lock().unwrap();
            let current = all.entry(account.to_owned()).or_default();
            let was = *current;
            *current += u64::from(was == number);
            (was, *current)
        };
        if current != number {
            self.reused.fetch_add(1, Ordering::SeqCst);
            return answered(r#"{"error":"invalid_grant"}"#);
        }
        self.rotations.fetch_add(1, Ordering::SeqCst);
        self.in_flight.fetch_add(1, Ordering::SeqCst);
        let takes = *self.takes.lock().unwrap();
        tokio::time::sleep(takes).await;
        self.in_flight.fetch_sub(1, Ordering::SeqCst);
        answered(&format!(
            r#"{{"access_token":"act.{account}.{next}","expires_in":3600,"refresh_token":"{account}.{next}"}}"#
        ))
    }
}

fn answered(body: &str) -> Exchange {
    Exchange::Answered(Answer {
        status: 200,
        retry_after: None,
        date: None,
        bearer_error: None,
        body: Secret::new(body.to_owned()),
    })
}

fn id(name: &str) -> AccountId {
    AccountId::new("tiktok", name)
}

/// An account's first token, so far through its hour.
fn first_token(name: &str, age: Duration) -> Token {
    let issued_at = Timestamp::from_unix(START).minus(age);
    Token {
        access: Secret::new(format!("act.rft.{name}.0")),
        refresh: Some(Secret::new(format!("rft.{name}.0"))),
        issued_at: Some(issued_at),
        expires_at: Some(issued_at.plus(HOUR)),
        refresh_expires_at: None,
        scopes: None,
        subject: None,
    }
}

struct Bench {
    refresher: Arc<Refresher<PlayedStore, Played>>,
    snapshot: Arc<ArcSwap<Snapshot>>,
    inputs: mpsc::Sender<Input>,
    stop: watch::Sender<bool>,
    keeper: JoinHandle<()>,
    others: Vec<JoinHandle<()>>,
    folder: TempDir,
}

/// Who takes what the keeper writes down.
enum Writer {
    Clerk,
    /// Somebody who never takes anything; what is sent waits in here.
    Nobody,
}

impl Bench {
    async fn new(accounts: &[(&str, Duration)], writer: Writer, inputs_max: usize) -> Self {
        Self::whose_passes(accounts, writer, inputs_max, []).await
    }

    async fn whose_passes<const N: usize>(
        accounts: &[(&str, Duration)],
        writer: Writer,
        inputs_max: usize,
        tricks: [Trick; N],
    ) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let settings = state::Settings::in_directory(folder.path().join("state"));
        let state = State::open(&settings).await.unwrap();
        let store = Arc::new(PlayedStore::new(state.fingerprinter()));
        for (name, age) in accounts {
            store.put(&id(name), Some(first_token(name, *age)));
        }
        store.play(Call::Load, tricks);
        let provider = providers::find("tiktok").unwrap();
        let app = App {
            name: "main".into(),
            provider,
            endpoints: Endpoints::default(),
            client_id: "invented-client".to_owned(),
            client_secrets: Arc::default(),
            scopes: [].into(),
            is_default: true,
            is_testing: false,
        };
        let clock = Clock::simulated(Timestamp::from_unix(START));
        let refresher = Arc::new(Refresher {
            store: Arc::clone(&store),
            state: state.clone(),
            transport: Arc::new(Played::default()),
            reporter: Reporter::new(Metrics::new(["tiktok"], clock.now())),
            clock: clock.clone(),
            apps: Arc::new(ArcSwap::from_pointee([(Arc::clone(&app.name), Arc::new(app))].into())),
            call_deadline: Duration::from_secs(10),
            held: Held::default(),
            unspent: Unspent::default(),
            heard: Heard::default(),
        });
        let policy = Policy::default();
        let mut fleet = Fleet::new(policy);
        let app = decide::App {
            name: "main".into(),
            provider: "tiktok".into(),
            server: "tiktok".into(),
            scopes: [].into(),
            min_age: Duration::ZERO,
            only_while_live: false,
            retry_is_safe: false,
            probe: decide::Probe::Free,
            proof: oauth_keepalive::core::Proof::Token,
            is_sandbox: false,
            can_be_asked: false,
            assumed: Default::default(),
        };
        fleet.handle(clock.now(), Input::Configured { policy, apps: vec![app] });
        fleet.handle(clock.now(), Input::Holding { shares: Shares::ALL, until: None });
        let (inputs, inbox) = mpsc::channel(inputs_max);
        let (stop, stopped) = watch::channel(false);
        let snapshot = Arc::new(ArcSwap::from_pointee(Snapshot::empty(clock.now())));
        let mut others = Vec::new();
        let rounds = match writer {
            Writer::Clerk => {
                let clerk = Clerk {
                    state,
                    store,
                    delivery: watch::channel(Arc::new(mail())).1,
                    reporter: refresher.reporter.clone(),
                    mail_owed: Arc::new(Notify::new()),
                    request_owed: Arc::new(Notify::new()),
                    inputs: inputs.clone(),
                };
                let (rounds, clerk) = keeper::start_clerk(clerk);
                others.push(clerk);
                rounds
            }
            Writer::Nobody => {
                let (rounds, taken) = mpsc::channel::<Round>(1);
                others.push(tokio::spawn(async move {
                    let _open = taken;
                    std::future::pending().await
                }));
                rounds
            }
        };
        let again = Arc::new(Notify::new());
        let loading = loader::run(Arc::clone(&refresher), inputs.clone(), again, stopped.clone());
        others.push(tokio::spawn(loading));
        let keeper =
            Keeper::new(fleet, Arc::clone(&refresher), inbox, rounds, Arc::clone(&snapshot));
        let keeper = tokio::spawn(keeper.run(stopped));
        Self { refresher, snapshot, inputs, stop, keeper, others, folder }
    }

    fn provider(&self) -> &Played {
        &self.refresher.transport
    }

    fn flying(&self) -> usize {
        self.provider().in_flight.load(Ordering::SeqCst)
    }

    fn rotations(&self) -> usize {
        self.provider().rotations.load(Ordering::SeqCst)
    }

    /// The store's token is the one that the provider handed out last.
    fn nothing_is_lost(&self) {
        for (account, number) in &*self.provider().current.lock().unwrap() {
            let stored = self.refresher.store.token(&id(account.trim_start_matches("rft.")));
            let expected = format!("{account}.{number}");
            assert_eq!(stored.unwrap().refresh.unwrap().expose(), expected);
        }
        assert_eq!(self.provider().reused.load(Ordering::SeqCst), 0);
    }

    async fn until(&self, what: &str, is_so: impl Fn(&Self) -> bool) {
        let began = Instant::now();
        while began.elapsed() < REST_WITHIN {
            if is_so(self) {
                return;
            }
            tokio::task::yield_now().await;
        }
        panic!("never: {what}; {:?}", self.snapshot.load());
    }

    /// Time passes, and whatever it brings is done.
    async fn pass(&self, duration: Duration) {
        tokio::time::advance(duration).await;
        for _ in 0..TURNS {
            tokio::task::yield_now().await;
        }
        // Whatever waits for our state's thread by now stands before this in its queue.
        self.refresher.state.journal_len().await.unwrap();
        for _ in 0..TURNS {
            tokio::task::yield_now().await;
        }
        self.until("it comes to rest", |bench| bench.snapshot.load().in_flight == 0).await;
    }

    /// The same while time passes, second by second.
    async fn in_time(&self, what: &str, is_so: impl Fn(&Self) -> bool) {
        for _ in 0..SECONDS_MAX {
            if is_so(self) {
                return;
            }
            self.pass(Duration::from_secs(1)).await;
        }
        panic!("never: {what}; {:?}", self.snapshot.load());
    }

    async fn tell(&self, input: Input) {
        self.inputs.send(input).await.unwrap();
    }

    fn sql(&self, statement: &str) {
        let database = self.folder.path().join("state/state.db");
        let connection = rusqlite::Connection::open(database).unwrap();
        connection.busy_timeout(Duration::from_secs(5)).unwrap();
        connection.execute_batch(statement).unwrap();
    }

    /// Asks it to end; says how long it took by the moved clock.
    async fn ends(self) -> Duration {
        let began = tokio::time::Instant::now();
        self.stop.send_replace(true);
        self.keeper.await.unwrap();
        let took = began.elapsed();
        self.others.iter().for_each(JoinHandle::abort);
        took
    }
}

fn mail() -> delivery::Settings {
    delivery::Settings {
        smtp: None,
        from: Secret::new("keeper@example.org".to_owned()),
        operator: vec![Secret::new("operator@example.org".to_owned())],
        owners: Vec::new(),
        external_url: None,
        rules: oauth_keepalive::core::digest::Rules::EACH,
        reminders: Vec::new(),
        time_zone: jiff::tz::TimeZone::UTC,
        templates: delivery::templates::Templates::built_in(),
        webhooks: Vec::new(),
    }
}

/// Keeps the paused clock where it is while our state's own thread works; it is moved by hand.
async fn by_hand<F: Future<Output = ()>>(test: F) {
    let (end, ended) = std::sync::mpsc::channel::<()>();
    // The paused clock does not run by itself while there is blocking work.
    let still = tokio::task::spawn_blocking(move || ended.recv());
    test.await;
    drop(end);
    still.await.unwrap().unwrap_err();
}

#[tokio::test(start_paused = true)]
async fn a_day_of_hourly_tokens_is_kept_alive() {
    by_hand(async {
        let ages = [("a", Duration::ZERO), ("b", HOUR / 2)];
        let bench = Bench::new(&ages, Writer::Clerk, 64).await;
        bench.until("both are seen", |bench| bench.snapshot.load().accounts.len() == 2).await;
        let step = Duration::from_secs(60);
        for _ in 0..24 * 60 {
            bench.pass(step).await;
            let now = bench.refresher.clock.now();
            let seen = bench.snapshot.load();
            assert!(seen.accounts.iter().all(|account| account.is_live(now)), "{seen:?}");
        }
        bench.nothing_is_lost();
        // Two accounts; each token lives for 0.37 to 0.67 of its hour.
        assert!((2 * 34..=2 * 66).contains(&bench.rotations()), "{}", bench.rotations());
        assert_eq!(bench.refresher.state.journal_len().await.unwrap(), 0);
        bench.ends().await;
    })
    .await;
}

#[tokio::test(start_paused = true)]
async fn a_call_on_the_wire_is_answered_and_saved_before_it_ends() {
    by_hand(async {
        let bench = Bench::new(&[("a", HOUR)], Writer::Clerk, 64).await;
        *bench.provider().takes.lock().unwrap() = Duration::from_secs(8);
        bench.until("it is on the wire", |bench| bench.flying() == 1).await;
        bench.stop.send_replace(true);
        for _ in 0..7 {
            tokio::time::advance(Duration::from_secs(1)).await;
            for _ in 0..50 {
                tokio::task::yield_now().await;
            }
            assert!(!bench.keeper.is_finished());
        }
        tokio::time::advance(Duration::from_secs(1)).await;
        bench.until("it lands", |bench| bench.snapshot.load().in_flight == 0).await;
        bench.nothing_is_lost();
        assert_eq!(bench.rotations(), 1);
        assert_eq!(bench.refresher.state.journal_len().await.unwrap(), 0);
        bench.in_time("it ends", |bench| bench.keeper.is_finished()).await;
    })
    .await;
}

#[tokio::test(start_paused = true)]
async fn a_token_that_neither_journal_nor_store_takes_keeps_it_from_ending() {
    by_hand(async {
        let bench = Bench::new(&[("a", HOUR)], Writer::Clerk, 64).await;
        bench.sql("CREATE TRIGGER told BEFORE UPDATE OF result ON journal BEGIN SELECT RAISE(FAIL, 'as told'); END");
        bench.refresher.store.play(Call::Save, std::iter::repeat_with(|| Trick::Fails).take(500));
        bench.until("it is held", |bench| bench.refresher.held.len() == 1).await;
        bench.stop.send_replace(true);
        for _ in 0..60 {
            bench.pass(Duration::from_secs(5)).await;
        }
        assert!(!bench.keeper.is_finished(), "five minutes later it still waits");
        bench.sql("DROP TRIGGER told");
        bench.in_time("it ends", |bench| bench.keeper.is_finished()).await;
        let open = bench.refresher.state.open_entries().await.unwrap();
        assert!(open[0].result.is_some(), "the journal has it, and the next start saves it");
    })
    .await;
}

#[tokio::test(start_paused = true)]
async fn a_token_that_lost_its_place_while_held_goes_to_the_journal_by_itself() {
    by_hand(async {
        let bench = Bench::new(&[("a", HOUR)], Writer::Clerk, 64).await;
        *bench.provider().takes.lock().unwrap() = Duration::from_secs(5);
        bench.until("it is on the wire", |bench| bench.flying() == 1).await;
        bench.sql("CREATE TRIGGER told BEFORE UPDATE OF result ON journal BEGIN SELECT RAISE(FAIL, 'as told'); END");
        // Its owner reconnects it meanwhile, with a consent that lasts.
        bench.refresher.store.put(&id("a"), Some(first_token("another", Duration::ZERO)));
        bench.pass(Duration::from_secs(5)).await;
        bench.until("it is held", |bench| bench.refresher.held.len() == 1).await;
        bench.pass(Duration::from_secs(3)).await;
        assert_eq!(bench.refresher.held.len(), 1);
        bench.sql("DROP TRIGGER told");
        bench.in_time("the journal has it", |bench| bench.refresher.held.is_empty()).await;
        bench.ends().await;
    })
    .await;
}

#[tokio::test(start_paused = true)]
async fn a_call_that_fails_inside_does_not_keep_its_account_for_ever() {
    by_hand(async {
        let bench = Bench::new(&[("a", HOUR)], Writer::Clerk, 64).await;
        bench.provider().panics.store(1, Ordering::SeqCst);
        bench
            .until("it was told", |bench| bench.provider().panics.load(Ordering::SeqCst) == 0)
            .await;
        bench.in_time("it is renewed", |bench| bench.rotations() == 1).await;
        bench.nothing_is_lost();
        let seen = bench.snapshot.load();
        let account = seen.accounts.find(&id("a")).unwrap();
        assert_eq!((account.busy, account.cause, bench.rotations()), (Busy::Idle, None, 1));
        bench.ends().await;
    })
    .await;
}

#[tokio::test(start_paused = true)]
async fn a_keeper_that_is_dropped_does_not_take_the_calls_with_it() {
    by_hand(async {
        let bench = Bench::new(&[("a", HOUR)], Writer::Clerk, 64).await;
        *bench.provider().takes.lock().unwrap() = Duration::from_secs(5);
        bench.until("it is on the wire", |bench| bench.flying() == 1).await;
        bench.keeper.abort();
        bench.until("it is dropped", |bench| bench.keeper.is_finished()).await;
        tokio::time::advance(Duration::from_secs(5)).await;
        let saved = |bench: &Bench| {
            let token = bench.refresher.store.token(&id("a")).unwrap();
            token.refresh.unwrap().expose() == "rft.a.1"
        };
        bench.until("its token is saved", saved).await;
    })
    .await;
}

#[tokio::test(start_paused = true)]
async fn a_pass_that_breaks_off_counts_for_what_it_saw_and_takes_nobody_for_gone() {
    by_hand(async {
        let accounts = [("a", Duration::ZERO), ("b", Duration::ZERO)];
        let bench = Bench::whose_passes(&accounts, Writer::Clerk, 64, [Trick::Fails]).await;
        bench.until("it breaks off", |bench| !bench.snapshot.load().store_up).await;
        let seen = bench.snapshot.load_full();
        assert_eq!((seen.loaded, seen.accounts.len()), (false, 2));
        bench.in_time("it is whole", |bench| bench.snapshot.load().loaded).await;
        assert_eq!(bench.snapshot.load().accounts.len(), 2);
        bench.ends().await;
    })
    .await;
}

#[tokio::test(start_paused = true)]
async fn whoever_waits_for_a_long_pass_sees_how_far_it_is() {
    const PIECE: usize = 16_384;
    by_hand(async {
        let bench = Bench::new(&[("a", Duration::ZERO)], Writer::Clerk, 64).await;
        bench.in_time("the first one is read", |bench| bench.snapshot.load().loaded).await;
        let snapshot = Arc::clone(&bench.snapshot);
        // On a thread of its own, for a round leaves no room for another task.
        let watching = tokio::task::spawn_blocking(move || {
            let (began, mut seen) = (Instant::now(), BTreeSet::new());
            while seen.last() < Some(&(4 * PIECE)) && began.elapsed() < Duration::from_secs(60) {
                seen.insert(snapshot.load().accounts.len());
                std::thread::yield_now();
            }
            seen
        });
        for piece in 0..4 {
            let names = (0..PIECE).map(|number| id(&format!("{piece}-{number}")));
            let seen = names.map(|id| Seen { id, app: "demo".into(), token: None });
            bench.tell(Input::Seen(seen.collect())).await;
        }
        let seen = watching.await.unwrap();
        assert!(seen.last() >= Some(&(4 * PIECE)), "{seen:?}");
        assert!(seen.len() > 2, "nothing was seen between the beginning and the end: {seen:?}");
    })
    .await;
}

#[tokio::test(start_paused = true)]
async fn of_a_mark_that_the_store_did_not_take_whoever_starts_after_a_kill_knows() {
    by_hand(async {
        let bench = Bench::new(&[("a", Duration::ZERO)], Writer::Clerk, 64).await;
        bench.in_time("it is read", |bench| bench.snapshot.load().accounts.len() == 1).await;
        for (position, order, column) in
            [(1, Order::Hold, "needs_reconnect"), (2, Order::Resume, "connected")]
        {
            let before = bench.refresher.store.mark_of(&id("a"));
            bench.refresher.store.play(Call::Mark, [Trick::Fails]);
            bench.tell(Input::Told { id: id("a"), order, position }).await;
            bench.pass(Duration::from_secs(1)).await;
            let door = bench.refresher.state.door(&id("a")).await.unwrap().unwrap();
            assert_eq!(door.followed, position, "the order is remembered at once");
            let says = |marked| if marked { "needs_reconnect" } else { "connected" };
            assert_eq!(
                says(door.marked),
                before.unwrap_or("connected"),
                "what stands is remembered"
            );
            let is_written =
                |bench: &Bench| bench.refresher.store.mark_of(&id("a")) == Some(column);
            assert!(!is_written(&bench));
            bench.in_time("it is tried again", is_written).await;
        }
        bench.ends().await;
    })
    .await;
}

/// A publisher that reports as fast as it can, and waits where it must.
fn flood(bench: &Bench) -> JoinHandle<u32> {
    let inputs = bench.inputs.clone();
    tokio::spawn(async move {
        for sent in 0..200_000 {
            let input = Input::Responded { id: id("a"), status: 200, times: 1 };
            if inputs.send(input).await.is_err() {
                return sent;
            }
        }
        200_000
    })
}

#[tokio::test(start_paused = true)]
async fn a_writer_that_takes_nothing_stops_neither_refreshing_nor_ending() {
    by_hand(async {
        let bench = Bench::new(&[("a", Duration::ZERO), ("b", HOUR / 2)], Writer::Nobody, 4).await;
        let flood = flood(&bench);
        for _ in 0..3 * 60 {
            bench.pass(Duration::from_secs(60)).await;
        }
        bench.nothing_is_lost();
        assert!(bench.rotations() >= 8, "{} in three hours", bench.rotations());
        let counted =
            bench.snapshot.load().accounts.find(&id("a")).unwrap().responses.iter().next();
        assert!(counted.unwrap().1 > 1_000, "{counted:?} of the reports");
        bench.stop.send_replace(true);
        bench.in_time("it ends", |bench| bench.keeper.is_finished()).await;
        drop(bench);
        flood.await.unwrap();
    })
    .await;
}

#[tokio::test(start_paused = true)]
async fn a_state_that_takes_no_memories_stops_neither_landing_nor_ending() {
    by_hand(async {
        let names: Vec<String> = (0..80).map(|number| format!("n{number}")).collect();
        let accounts: Vec<_> = names.iter().map(|name| (name.as_str(), HOUR / 2)).collect();
        let bench = Bench::new(&accounts, Writer::Clerk, 4).await;
        bench.sql(
            "CREATE TRIGGER told BEFORE INSERT ON memory BEGIN SELECT RAISE(FAIL, 'as told'); END",
        );
        let flood = flood(&bench);
        for _ in 0..60 {
            bench.pass(Duration::from_secs(60)).await;
        }
        bench.nothing_is_lost();
        bench.stop.send_replace(true);
        bench.in_time("the keeper ends", |bench| bench.keeper.is_finished()).await;
        bench.in_time("the clerk gives up", |bench| bench.others[0].is_finished()).await;
        drop(bench);
        flood.await.unwrap();
    })
    .await;
}

/// In real time, which our state's thread works in, before something counts as never happening.
const REST_WITHIN: Duration = Duration::from_secs(60);

/// In moved time, before something counts as never happening.
const SECONDS_MAX: u32 = 120;

/// Turns of the runtime that everybody who was woken gets to do something.
const TURNS: usize = 20;
