//! Drives the fleet: wakes it, performs its effects, publishes the snapshot.
//!
//! Everything that can wake the program is one `select!`; everything that it can do is one `match`; every
//! decision is elsewhere. A call that is on the wire is never dropped: stopping waits for it and for its
//! token to be saved.

use crate::{
    clerk::{Clerk, Round},
    clock::Clock,
    core::{
        AccountId, Snapshot, Timestamp,
        fleet::{Asked, Checked, Effect, Finished, Fleet, Input},
    },
    refresh::{Refresher, Transport, position_shown},
    report::Reporter,
    stores::TokenStore,
};
use arc_swap::ArcSwap;
use std::{
    collections::{BTreeMap, HashMap},
    sync::Arc,
    time::Duration,
};
use tokio::{
    sync::{
        mpsc::{self, error::TrySendError},
        watch,
    },
    task::{Id, JoinSet},
    time::{Instant, timeout},
};

/// The one writer of the fleet.
pub struct Keeper<S, T> {
    /// Every decision.
    fleet: Fleet,
    /// Carries refreshes out.
    refresher: Arc<Refresher<S, T>>,
    /// Tells the time.
    clock: Clock,
    /// Counts and logs.
    reporter: Reporter,
    /// What others have to say: loads, reports, reloads. Bounded; they wait when it is full.
    inputs: mpsc::Receiver<Input>,
    /// Writes notices and memories, in order.
    clerk: mpsc::Sender<Round>,
    /// What others see; replaced whole after each round.
    snapshot: Arc<ArcSwap<Snapshot>>,
    /// Everything under way. Never aborted.
    calls: JoinSet<Input>,
    /// Which call belongs to whom, so that a panic in one can be told from success.
    callers: HashMap<Id, Caller>,
    /// How each refused app's secret read when it was last looked at.
    secrets_seen: BTreeMap<Arc<str>, Option<u64>>,
    /// The wall clock's difference that the fleet was last told of.
    step_told: i64,
    /// The providers' clocks that the fleet was last told of.
    offsets_told: (u64, i64),
    /// What the clerk could not take yet: it may be waiting for our state, and the keeper waits for nobody.
    owed: Round,
    /// True while the clerk has no room for more.
    clerk_is_behind: bool,
    /// When trouble was last looked at.
    looked_at: Option<Instant>,
}

/// On whose behalf a call is under way.
enum Caller {
    Account(AccountId),
    App(Arc<str>),
}

/// Inputs that are taken before effects are performed again.
const INPUTS_AT_ONCE_MAX: usize = 1_024;

/// Accounts of a pass over the store that are taken before effects are performed and a snapshot is published again.
/// Each input of a pass holds hundreds; without this whoever waits for a first pass saw nothing of it until its end.
const SEEN_AT_ONCE_MAX: usize = 16_384;

/// Longest sleep: a step of the wall clock is noticed within it.
const SLEEP_MAX: Duration = Duration::from_secs(60);

/// Shortest sleep: whole seconds round to nothing although the instant lies within the running one.
const SLEEP_MIN: Duration = Duration::from_millis(50);

/// How long stopping tries to save tokens that the journal holds safely.
const SAVE_AT_STOP_FOR: Duration = Duration::from_secs(20);

/// How often store, state and refused secrets are looked at while they are in trouble.
const TROUBLE_LOOK_EVERY: Duration = Duration::from_secs(2);

/// How long a look at store or state may take. What takes longer is still in trouble.
const LOOK_WITHIN: Duration = Duration::from_secs(5);

/// How long the clerk has at the end to take what is left.
const LAST_ROUND_WITHIN: Duration = Duration::from_secs(10);

impl<S: TokenStore, T: Transport> Keeper<S, T> {
    /// A keeper of `fleet`, which has been configured and told what the last run remembered.
    #[must_use]
    pub fn new(
        fleet: Fleet,
        refresher: Arc<Refresher<S, T>>,
        inputs: mpsc::Receiver<Input>,
        clerk: mpsc::Sender<Round>,
        snapshot: Arc<ArcSwap<Snapshot>>,
    ) -> Self {
        let clock = refresher.clock.clone();
        let reporter = refresher.reporter.clone();
        Self {
            fleet,
            refresher,
            clock,
            reporter,
            inputs,
            clerk,
            snapshot,
            calls: JoinSet::new(),
            callers: HashMap::new(),
            secrets_seen: BTreeMap::new(),
            step_told: 0,
            offsets_told: (0, 0),
            owed: Round::default(),
            clerk_is_behind: false,
            looked_at: None,
        }
    }

    /// Runs until `stop` says so and every call on the wire has been answered and its token saved.
    pub async fn run(mut self, mut stop: watch::Receiver<bool>) {
        let mut stopping: Option<Instant> = None;
        while !stopping.is_some_and(|since| self.may_end(since)) {
            let pause = self.pause(stopping.is_some());
            let first = tokio::select! {
                // In this order, so that the same run is the same again. Nothing starves: whatever waits is
                // taken below, in every round.
                biased;
                _ = stop.wait_for(|stop| *stop), if stopping.is_none() => {
                    stopping = Some(Instant::now());
                    let unsaved = self.snapshot.load().unsaved;
                    tracing::info!(in_flight = self.calls.len(), unsaved, "stopping: calls in flight are answered and saved first");
                    Some(Input::Stopping)
                }
                Some(ended) = self.calls.join_next_with_id() => self.landed(ended),
                Some(input) = self.inputs.recv() => Some(input),
                () = tokio::time::sleep(pause) => Some(Input::Woke),
            };
            let now = self.clock.now();
            self.count_requests(now);
            if let Some(input) = first {
                self.fleet.handle(now, input);
            }
            self.take_what_waits(now);
            self.look_at_trouble(now).await;
            self.perform_effects();
            self.hand_over();
            self.snapshot.store(Arc::new(self.snapshot_now(now)));
        }
        self.hand_over_the_rest().await;
    }

    fn snapshot_now(&self, now: Timestamp) -> Snapshot {
        let mut snapshot = self.fleet.snapshot(now);
        let apps = self.refresher.apps.load();
        for view in &mut snapshot.apps {
            let in_use = apps.get(&view.name).and_then(|app| app.client_secrets.in_use());
            view.secret = in_use.map(position_shown);
        }
        snapshot
    }

    /// Nothing is on the wire, and no token exists in memory only. A token that is journalled but not
    /// saved is tried for a while longer; after that the next start saves it.
    fn may_end(&self, stopping_since: Instant) -> bool {
        self.refresher.held.is_empty()
            && (!self.fleet.owes_work()
                || (self.calls.is_empty() && stopping_since.elapsed() >= SAVE_AT_STOP_FOR))
    }

    /// How long to sleep: until the fleet wants to be woken, or the clocks and the trouble should be
    /// looked at again.
    fn pause(&self, stopping: bool) -> Duration {
        let now = self.clock.now();
        let until_due = self.fleet.next_wakeup().map_or(SLEEP_MAX, |at| at.since(now));
        let waits = self.is_in_trouble() || self.clerk_is_behind;
        let longest = match (stopping, waits) {
            (true, _) => SLEEP_MIN,
            (_, true) => TROUBLE_LOOK_EVERY,
            _ => SLEEP_MAX,
        };
        until_due.clamp(SLEEP_MIN.min(longest), longest)
    }

    /// More of what has happened already, so that one round serves a burst.
    fn take_what_waits(&mut self, now: Timestamp) {
        let mut seen = 0;
        for _ in 0..INPUTS_AT_ONCE_MAX {
            let input = match self.calls.try_join_next_with_id() {
                Some(ended) => self.landed(ended),
                None => self.inputs.try_recv().ok(),
            };
            let Some(input) = input else { break };
            seen += accounts_seen(&input);
            self.fleet.handle(now, input);
            if seen >= SEEN_AT_ONCE_MAX {
                break;
            }
        }
        self.count_requests(now);
        for (provider, seconds) in self.clock.offsets_since(&mut self.offsets_told) {
            self.fleet.handle(now, Input::ClockOffset { provider, seconds });
        }
        let seconds = self.clock.machine_is_off_by();
        if seconds != self.step_told {
            self.step_told = seconds;
            self.fleet.handle(now, Input::ClockStep { seconds });
        }
    }

    /// Each of them ended before its call did, so none is counted later than its outcome is known.
    fn count_requests(&mut self, now: Timestamp) {
        let sent = self.reporter.take_sent();
        if !sent.is_empty() {
            self.fleet.handle(now, Input::Requested(sent));
        }
    }

    /// A call has come back.
    fn landed(&mut self, ended: Result<(Id, Input), tokio::task::JoinError>) -> Option<Input> {
        match ended {
            Ok((call, input)) => {
                self.callers.remove(&call);
                Some(input)
            }
            Err(error) => {
                let caller = self.callers.remove(&error.id())?;
                let now = self.clock.now();
                let evidence = crate::core::Evidence::of(crate::core::Cause::Unknown, now);
                Some(match caller {
                    Caller::Account(id) => {
                        tracing::error!(account = %id, "a call failed inside; its outcome counts as unknown");
                        let result = Finished::Ambiguous { evidence, over_at: now };
                        Input::Finished { id, result }
                    }
                    Caller::App(app) => {
                        tracing::error!(app = %app, "a question about the app failed inside");
                        Input::AppAsked { app, asked: Asked::Unclear(evidence) }
                    }
                })
            }
        }
    }

    fn is_in_trouble(&self) -> bool {
        let seen = self.snapshot.load();
        let refused = self.fleet.refused_apps().next().is_some();
        let held = &self.refresher.held;
        let owes = !held.is_empty() || held.owes_ends() || held.awaits_spilled();
        !seen.store_up || !seen.state_up || refused || owes
    }

    /// While store, state or an app's secret is in trouble, looks whether it still is; gives the journal
    /// what is held in memory only. However many rounds there are, and however long it takes to answer.
    async fn look_at_trouble(&mut self, now: Timestamp) {
        let is_early = self.looked_at.is_some_and(|at| at.elapsed() < TROUBLE_LOOK_EVERY);
        if is_early || !self.is_in_trouble() {
            return;
        }
        let seen = self.snapshot.load_full();
        let refresher = Arc::clone(&self.refresher);
        if !seen.store_up && works(refresher.store.probe()).await {
            self.fleet.handle(now, Input::Store { up: true });
        }
        if !seen.state_up && works(refresher.state.probe()).await {
            self.fleet.handle(now, Input::State { up: true });
        }
        // Whatever becomes of it: what the journal has not taken stays where it is.
        let _ = timeout(LOOK_WITHIN, refresher.journal_held()).await;
        if refresher.held.awaits_spilled() {
            let _ = timeout(LOOK_WITHIN, refresher.take_in_spilled()).await;
        }
        let _ = timeout(LOOK_WITHIN, refresher.write_ends()).await;
        self.looked_at = Some(Instant::now());
        let refused: Vec<Arc<str>> = self.fleet.refused_apps().collect();
        self.secrets_seen.retain(|app, _| refused.contains(app));
        for app in refused {
            let reads = self.how_the_secret_reads(&app);
            let before = self.secrets_seen.insert(Arc::clone(&app), reads);
            if before.is_some_and(|before| before != reads) {
                self.fleet.handle(now, Input::CredentialsChanged { app });
            }
        }
    }

    /// A fingerprint of the app's credentials; `None` while they cannot be read.
    fn how_the_secret_reads(&self, app: &Arc<str>) -> Option<u64> {
        let apps = self.refresher.apps.load();
        let secrets = &apps.get(app)?.client_secrets;
        let maker = self.refresher.state.fingerprinter();
        let each =
            (0..secrets.ways()).filter_map(|position| secrets.read_at(position).ok()?.secret);
        // Positions do not matter: who turns the list around has changed the configuration.
        each.map(|secret| maker.of_secret(&secret).as_hash()).reduce(u64::wrapping_add)
    }

    fn perform_effects(&mut self) {
        while let Some(effect) = self.fleet.next_effect() {
            match effect {
                Effect::Refresh { id, expected, why } => {
                    let refresher = Arc::clone(&self.refresher);
                    self.call(id, move |id| async move {
                        let result = refresher.refresh(&id, expected, why).await;
                        Input::Finished { id, result }
                    });
                }
                Effect::Settle { id, may_wait } => {
                    let refresher = Arc::clone(&self.refresher);
                    self.call(id, move |id| async move {
                        let result = refresher.settle(&id, may_wait).await;
                        Input::Finished { id, result }
                    });
                }
                Effect::Save { id } => {
                    let refresher = Arc::clone(&self.refresher);
                    self.call(id, move |id| async move {
                        let result = refresher.settle(&id, true).await;
                        Input::Finished { id, result }
                    });
                }
                Effect::Probe { id } => {
                    let refresher = Arc::clone(&self.refresher);
                    self.call(id, move |id| async move {
                        let checked: Checked = refresher.probe(&id).await;
                        Input::Probed { id, checked }
                    });
                }
                Effect::Prove { id } => {
                    let refresher = Arc::clone(&self.refresher);
                    self.call(id, move |id| async move {
                        let checked: Checked = refresher.prove(&id).await;
                        Input::Proven { id, checked }
                    });
                }
                Effect::AskAboutApp { app } => self.ask_about_app(app),
                Effect::Notify(notice) => self.owed.notices.push(notice),
                Effect::Mark { id, connected } => self.owed.marks.push((id, connected)),
                Effect::Report(event) => self.reporter.report(event),
            }
        }
    }

    /// Gives the clerk what is to be written, if it has room. Otherwise notices wait here and memories in
    /// the fleet, which keeps the newest of each account: what waits never grows beyond that.
    fn hand_over(&mut self) {
        let place = self.clerk.try_reserve();
        self.clerk_is_behind = matches!(place, Err(TrySendError::Full(())));
        match place {
            Ok(place) => {
                let round = take_round(&mut self.fleet, &mut self.owed);
                if !round.is_empty() {
                    place.send(round);
                }
            }
            Err(TrySendError::Full(())) => {}
            Err(TrySendError::Closed(())) => {
                let round = take_round(&mut self.fleet, &mut self.owed);
                if !round.is_empty() {
                    tracing::error!("notices and memories are lost: their writer has ended");
                }
            }
        }
    }

    /// The same at the end, when there is nothing else left to do.
    async fn hand_over_the_rest(&mut self) {
        let round = take_round(&mut self.fleet, &mut self.owed);
        if !round.is_empty() && self.clerk.send_timeout(round, LAST_ROUND_WITHIN).await.is_err() {
            tracing::error!("notices and memories are lost at the end: they cannot be written");
        }
    }

    fn call<F>(&mut self, id: AccountId, work: impl FnOnce(AccountId) -> F)
    where
        F: Future<Output = Input> + Send + 'static,
    {
        let handle = self.calls.spawn(work(id.clone()));
        self.callers.insert(handle.id(), Caller::Account(id));
    }

    fn ask_about_app(&mut self, app: Arc<str>) {
        let refresher = Arc::clone(&self.refresher);
        let name = Arc::clone(&app);
        let handle = self.calls.spawn(async move {
            let asked = refresher.ask_about_app(&name).await;
            Input::AppAsked { app: name, asked }
        });
        self.callers.insert(handle.id(), Caller::App(app));
    }
}

impl<S, T> Drop for Keeper<S, T> {
    /// Only a panic, or a runtime that is shut down, can bring it here with calls under way. Their answers
    /// may be the only copies of tokens.
    fn drop(&mut self) {
        self.calls.detach_all();
    }
}

/// How many accounts a piece of a pass over the store tells of.
const fn accounts_seen(input: &Input) -> usize {
    if let Input::Seen(accounts) = input { accounts.len() } else { 0 }
}

fn take_round(fleet: &mut Fleet, owed: &mut Round) -> Round {
    let mut round = std::mem::take(owed);
    round.histories = fleet.take_histories();
    (round.memories, round.forgotten) = fleet.take_changed();
    round.apps = fleet.take_changed_apps();
    round
}

async fn works<E>(probe: impl Future<Output = Result<(), E>>) -> bool {
    matches!(timeout(LOOK_WITHIN, probe).await, Ok(Ok(())))
}

/// Starts the writer of notices and memories; the returned sender is what [`Keeper::new`] wants.
#[must_use]
pub fn start_clerk<S: TokenStore>(
    clerk: Clerk<S>,
) -> (mpsc::Sender<Round>, tokio::task::JoinHandle<()>) {
    let (sender, receiver) = mpsc::channel(ROUNDS_WAITING_MAX);
    (sender, tokio::spawn(clerk.run(receiver)))
}

/// Rounds that may wait for the clerk before the keeper waits too.
const ROUNDS_WAITING_MAX: usize = 64;
