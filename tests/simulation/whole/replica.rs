//! One of our processes: the real keeper, clerk, loader and refresher, with everything that leaves or enters
//! the process going through a gate. A process that is killed never passes it again; one that is stopped
//! passes it when it goes on, and its clock stands still meanwhile.

use super::{
    faults::Fault,
    laws,
    provider::{DEADLINE, Wire},
    store::Shelf,
    truth::{HOUR, Millis, SECOND, START},
    world::{Mail, Peer, World},
};
use arc_swap::ArcSwap;
use oauth_keepalive::{
    app,
    clerk::Clerk,
    clock::Clock,
    config,
    core::{
        AccountId, Event, Secret, Snapshot,
        digest::{DOUBTS_MAX, Rules},
        fleet::Input,
        notices::{Change, Subject, Way},
        schedule::Policy,
        timeline::Reading,
    },
    delivery,
    keeper::{self, Keeper},
    loader,
    metrics::events::Metrics,
    providers::{self, Endpoints},
    refresh::{App, Apps, Heard, Held, Refresher, Unspent},
    replicas::Replicas,
    report::Reporter,
    state::{
        Owed, State,
        simulated::{Call, Fate, Later, Line},
    },
};
use std::{
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};
use tokio::{
    sync::{Notify, broadcast, mpsc, watch},
    task::JoinHandle,
};

pub(crate) struct Process {
    pub(crate) world: Arc<World>,
    pub(crate) replica: usize,
    pub(crate) life: u64,
    pub(crate) started_at: Millis,
    gate: Mutex<Gate>,
    running: Mutex<Option<Running>>,
}

#[derive(Default)]
struct Gate {
    dead: bool,
    /// Stopped from when until when.
    stalled: (Millis, Millis),
    /// When our state last failed it.
    state_failed_at: Millis,
    /// By how many seconds its wall clock is ahead, and how much of that is a step since its start.
    skew: i64,
    step: i64,
}

/// What a process is made of once it has started.
struct Running {
    clock: Clock,
    snapshot: Arc<ArcSwap<Snapshot>>,
    inputs: mpsc::Sender<Input>,
    stop: watch::Sender<bool>,
    /// Ends the sharing, after the keeper and the clerk.
    leave: watch::Sender<bool>,
    sharing: JoinHandle<()>,
    keeper: JoinHandle<()>,
    others: Vec<JoinHandle<()>>,
}

/// How long after a start that failed whoever supervises tries again.
const START_AGAIN_AFTER: Millis = 5 * SECOND;

/// How often the outbox is looked at.
const MAIL_EVERY: Millis = 20 * SECOND;

impl Process {
    pub(crate) fn new(world: &Arc<World>, replica: usize, skew: i64) -> Arc<Self> {
        let mut truth = world.truth();
        truth.lives += 1;
        Arc::new(Self {
            world: Arc::clone(world),
            replica,
            life: truth.lives,
            started_at: truth.now,
            gate: Mutex::new(Gate { skew, state_failed_at: -HOUR, ..Gate::default() }),
            running: Mutex::new(None),
        })
    }

    pub(crate) fn name(&self) -> String {
        format!("replica {} (life {})", self.replica, self.life)
    }

    pub(crate) fn who(&self, id: &AccountId) -> usize {
        let (_, who) = id.account.rsplit_once('-').expect("we named it");
        who.parse().expect("we numbered it")
    }

    pub(crate) fn is_dead(&self) -> bool {
        self.gate().dead
    }

    pub(crate) fn is_stalled(&self, now: Millis) -> bool {
        self.gate().stalled.1 > now
    }

    /// When it was last stopped.
    pub(crate) fn stopped_at(&self) -> Millis {
        self.gate().stalled.0
    }

    /// When it last went on after it was stopped.
    pub(crate) fn went_on_at(&self) -> Millis {
        self.gate().stalled.1
    }

    pub(crate) fn state_failed_at(&self) -> Millis {
        self.gate().state_failed_at
    }

    pub(crate) fn skew(&self) -> i64 {
        self.gate().skew
    }

    pub(crate) fn step_clock(&self, step: i64) {
        self.gate().step = step;
    }

    pub(crate) fn has_stepped(&self) -> bool {
        self.gate().step != 0
    }

    pub(crate) fn stall(&self, until: Millis) {
        let now = self.world.now();
        let mut gate = self.gate();
        // Stopped while it stands still, it goes on when the longer of both is over.
        let (since, before) = gate.stalled;
        gate.stalled = if before > now { (since, before.max(until)) } else { (now, until) };
        let until = gate.stalled.1;
        drop(gate);
        // What it heard a moment ago it writes down only then.
        let mut truth = self.world.truth();
        truth.stopped_at = now;
        for player in &mut truth.players {
            if let Some(away) = player.stay_away.as_mut()
                && away.heard_by == self.life
                && now - away.heard_at < 2 * SECOND
            {
                away.heard_at = until;
            }
        }
    }

    /// Nothing leaves it, and nothing enters, ever again.
    pub(crate) fn kill(&self) {
        self.gate().dead = true;
        if let Some(running) = self.running().take() {
            running.keeper.abort();
            running.sharing.abort();
            running.others.iter().for_each(JoinHandle::abort);
        }
    }

    /// True when it ended although nobody asked it to.
    pub(crate) fn has_failed(&self) -> bool {
        self.running().as_ref().is_some_and(|running| {
            running.keeper.is_finished()
                || running.sharing.is_finished()
                || running.others.iter().any(JoinHandle::is_finished)
        })
    }

    pub(crate) fn snapshot(&self) -> Option<Arc<Snapshot>> {
        self.running().as_ref().map(|running| running.snapshot.load_full())
    }

    /// What its server shows to whoever asks now.
    pub(crate) fn shown(&self) -> Option<Arc<Snapshot>> {
        self.running().as_ref().map(|running| {
            let snapshot = running.snapshot.load_full();
            snapshot.as_of(running.clock.now()).map_or(snapshot, Arc::new)
        })
    }

    pub(crate) fn tell(&self, input: Input) {
        if let Some(running) = self.running().as_ref() {
            // A full ear loses a report, as it does in the program.
            let _ = running.inputs.try_send(input);
        }
    }

    /// Ends in good order, within the time that the program takes for it.
    pub(crate) async fn end(&self) {
        let Some(running) = self.running().take() else { return };
        running.stop.send_replace(true);
        let _ = running.keeper.await;
        let mut others = running.others.into_iter();
        if let Some(clerk) = others.next() {
            let _ = clerk.await;
        }
        running.leave.send_replace(true);
        let _ = running.sharing.await;
        for other in others {
            other.abort();
        }
    }

    /// Waits while it is stopped; never ends when it is dead.
    pub(crate) async fn pass(&self) {
        loop {
            self.lives().await;
            let until = self.gate().stalled.1;
            let wait = until - self.world.now();
            if wait <= 0 {
                return;
            }
            self.world.sleep(wait).await;
        }
    }

    /// Never ends when it is dead.
    pub(crate) async fn lives(&self) {
        if self.is_dead() {
            std::future::pending::<()>().await;
        }
    }

    fn gate(&self) -> MutexGuard<'_, Gate> {
        self.gate.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn running(&self) -> MutexGuard<'_, Option<Running>> {
        self.running.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn reading(&self) -> Reading {
        let now = self.world.now();
        let gate = self.gate();
        let (from, until) = gate.stalled;
        let seen = if now < until { from } else { now };
        let steady = START + seen.div_euclid(SECOND);
        Reading { steady, wall: steady + gate.skew + gate.step }
    }

    /// Everything from the key to the first pass, as `app::start` does it.
    pub(crate) async fn run(self: Arc<Self>, policy: Policy) {
        loop {
            if self.started(policy).await {
                return;
            }
            self.world.sleep(START_AGAIN_AFTER).await;
        }
    }

    async fn started(self: &Arc<Self>, policy: Policy) -> bool {
        let line = Arc::new(Cable(Arc::clone(self)));
        let state = State::simulated(&self.world.database, line);
        let process = Arc::clone(self);
        let clock = Clock::played(move || process.reading());
        let store = Arc::new(Shelf::new(Arc::clone(self)));
        let now = clock.now();
        let refresher = Arc::new(Refresher {
            store: Arc::clone(&store),
            state: state.clone(),
            transport: Arc::new(Wire(Arc::clone(self))),
            reporter: Reporter::new(Metrics::new(["tiktok", "oauth2"], now)),
            clock: clock.clone(),
            apps: Arc::new(ArcSwap::from_pointee(apps())),
            call_deadline: DEADLINE,
            held: Held::default(),
            unspent: Unspent::default(),
            heard: Heard::default(),
        });
        tokio::spawn(Arc::clone(self).listen(refresher.reporter.events().subscribe()));
        let fleet = app::empty_fleet(policy, PROOFS, &refresher, now);
        let (inputs, inbox) = mpsc::channel(INPUTS_MAX);
        let (stop, stopped) = watch::channel(false);
        let snapshot = Arc::new(ArcSwap::from_pointee(Snapshot::empty(now)));
        let clerk = Clerk {
            state: state.clone(),
            store,
            delivery: watch::channel(Arc::new(mail())).1,
            reporter: refresher.reporter.clone(),
            mail_owed: Arc::new(Notify::new()),
            request_owed: Arc::new(Notify::new()),
            inputs: inputs.clone(),
        };
        let (rounds, clerk) = keeper::start_clerk(clerk);
        let again = Arc::new(Notify::new());
        let loading = loader::run(
            Arc::clone(&refresher),
            inputs.clone(),
            Arc::clone(&again),
            stopped.clone(),
        );
        let lent = rounds.downgrade();
        let sharing = Replicas {
            refresher: Arc::clone(&refresher),
            name: self.name(),
            lease: SHARE_LEASE,
            snapshot: Arc::clone(&snapshot),
            inputs: inputs.clone(),
            rounds: lent,
            load_again: Arc::clone(&again),
            told: Box::new(|_, _| {}),
        };
        let keeper = Keeper::new(fleet, refresher, inbox, rounds, Arc::clone(&snapshot));
        let Ok(sharing) = sharing.join().await else {
            clerk.abort();
            return false;
        };
        let (leave, leaves) = watch::channel(false);
        let sharing = tokio::spawn(sharing.run(stopped.clone(), leaves));
        let keeper = tokio::spawn(keeper.run(stopped));
        let post = tokio::spawn(Arc::clone(self).post(state, clock.clone()));
        let others = vec![clerk, tokio::spawn(loading), post];
        let running = Running { clock, snapshot, inputs, stop, leave, sharing, keeper, others };
        *self.running() = Some(running);
        true
    }

    /// Notes for the timeline what it decides about apps.
    async fn listen(self: Arc<Self>, mut events: broadcast::Receiver<Event>) {
        loop {
            let what = match events.recv().await {
                Ok(Event::AppFrozen { app, cause }) => {
                    format!("freezes {app} for {}", cause.as_label())
                }
                Ok(Event::AppThawed { app }) => format!("thaws {app}"),
                Ok(Event::NoticeOwed { notice })
                    if !matches!(notice.subject, Subject::Account(_)) =>
                {
                    format!(
                        "owes {} {} {:?}",
                        notice.subject,
                        notice.cause.as_label(),
                        notice.change
                    )
                }
                Err(broadcast::error::RecvError::Closed) => return,
                _ => continue,
            };
            let name = self.name();
            self.world.truth().note(None, || format!("{name} {what}"));
        }
    }

    /// Sends what the outbox owes, as the mailer does: what came of an attempt is noted before anything else is.
    async fn post(self: Arc<Self>, state: State, clock: Clock) {
        let mut unrecorded = None;
        loop {
            self.world.sleep(MAIL_EVERY).await;
            let noted = match unrecorded {
                None => Ok(()),
                Some((row, Some(at))) => state.sent(row, at).await,
                Some((row, None)) => state.postpone(row, clock.now(), false, "").await,
            };
            if noted.is_err() {
                continue;
            }
            unrecorded = None;
            let now = clock.now();
            if state.arrange(Way::Mail, now, &Rules::EACH, &[]).await.is_err() {
                continue;
            }
            let Ok(owed) = state.owed(Way::Mail, now, 32).await else { continue };
            for mail in owed {
                let Some((_, notice)) = mail.notices.first() else { continue };
                if mail.doubts >= DOUBTS_MAX {
                    let _ = state.give_up(mail.row, clock.now(), "").await;
                    continue;
                }
                match state.begin(mail.row, "").await {
                    Ok(true) => {}
                    Ok(false) => continue,
                    Err(_) => {
                        unrecorded = Some((mail.row, None));
                        break;
                    }
                }
                self.pass().await;
                if notice.change != Change::Reminder {
                    self.deliver(&mail);
                }
                let at = clock.now();
                if state.sent(mail.row, at).await.is_err() {
                    let (name, subject) = (self.name(), notice.subject.to_string());
                    let what = || format!("{name} cannot note the mail about {subject}");
                    self.world.truth().note(None, what);
                    unrecorded = Some((mail.row, Some(at)));
                    break;
                }
            }
        }
    }

    /// The mail is in its recipient's box.
    fn deliver(&self, mail: &Owed) {
        let mut truth = self.world.truth();
        let Some((_, notice)) = mail.notices.first() else { return };
        let (at, firing) = (truth.now, notice.change == Change::Firing);
        let (subject, cause) = (notice.subject.to_string(), notice.cause.as_label());
        let name = self.name();
        truth.note(None, || format!("mail: {subject} {cause} firing: {firing}, from {name}"));
        let key = mail.message_key.clone();
        let decided_at = (notice.at.as_unix() - START) * SECOND;
        let mail = Mail { at, decided_at, subject, cause, firing, key };
        truth.mails.push(mail.clone());
        laws::mailed(&mut truth, &mail);
    }
}

/// Between a process and our state.
struct Cable(Arc<Process>);

impl Line for Cable {
    fn holder(&self) -> [u8; 16] {
        u128::from(self.0.life).to_be_bytes()
    }

    fn ahead(&self) -> i64 {
        self.0.skew()
    }

    fn now(&self) -> Duration {
        Duration::from_millis(self.0.world.now().unsigned_abs())
    }

    fn request(&self, call: Call) -> Later<Fate> {
        let process = Arc::clone(&self.0);
        Box::pin(async move {
            process.pass().await;
            let (delay, fate) = {
                let mut truth = process.world.truth();
                let delay = truth.latency(Fault::StateSlow);
                let cut = truth.is_cut(process.replica, Peer::State);
                let fails = truth.faults.strikes(Fault::StateFails, 15);
                let unheard = call != Call::Read && truth.faults.strikes(Fault::StateUnheard, 15);
                let fate = match () {
                    () if cut || fails => Fate::Fails,
                    () if unheard => Fate::Unheard,
                    () => Fate::Works,
                };
                (delay, fate)
            };
            if fate != Fate::Works {
                process.gate().state_failed_at = process.world.now();
            }
            process.world.sleep(delay).await;
            process.lives().await;
            fate
        })
    }

    fn answer(&self, call: Call) -> Later<()> {
        let process = Arc::clone(&self.0);
        Box::pin(async move {
            // It is stopped while it waits: what it does next follows from an answer that is old.
            let stops =
                call != Call::Read && process.world.truth().faults.strikes(Fault::Stall, 12);
            if stops {
                let mut truth = process.world.truth();
                let until = truth.now + truth.faults.die(Fault::Stall).between(5, 240) * SECOND;
                truth.shared_trouble(until);
                truth.note(None, || format!("{} is stopped until {until}", process.name()));
                drop(truth);
                process.stall(until);
            }
            let delay = process.world.truth().io.between(0, 10);
            process.world.sleep(delay).await;
            process.pass().await;
        })
    }
}

/// Nothing in the way: for whoever looks on.
pub(crate) struct Straight;

impl Line for Straight {
    fn holder(&self) -> [u8; 16] {
        [0xff; 16]
    }

    fn ahead(&self) -> i64 {
        0
    }

    fn now(&self) -> Duration {
        Duration::ZERO
    }

    fn request(&self, _: Call) -> Later<Fate> {
        Box::pin(std::future::ready(Fate::Works))
    }

    fn answer(&self, _: Call) -> Later<()> {
        Box::pin(std::future::ready(()))
    }
}

fn apps() -> Apps {
    let app = |name: &str, provider: &str, endpoints| {
        let app = App {
            name: name.into(),
            provider: providers::find(provider).expect("in the catalogue"),
            endpoints,
            client_id: "invented-client".to_owned(),
            client_secrets: Arc::default(),
            scopes: [].into(),
            is_default: true,
            is_testing: false,
        };
        (Arc::clone(&app.name), Arc::new(app))
    };
    let named =
        Endpoints { token: Some("https://sso.example/token".to_owned()), ..Endpoints::default() };
    [app(APPS[0], PROVIDERS[0], Endpoints::default()), app(APPS[1], PROVIDERS[1], named)].into()
}

/// TikTok's publish check, and the token alone at the other.
pub(crate) const PROOFS: app::Proofs =
    app::Proofs { wish: config::Proof::Auto, publisher_tells: false };

/// The names of the apps.
pub(crate) const APPS: [&str; 2] = ["checked", "unchecked"];

/// The provider of each app.
pub(crate) const PROVIDERS: [&str; 2] = ["tiktok", "oauth2"];

fn mail() -> delivery::Settings {
    delivery::Settings {
        smtp: None,
        from: Secret::new("keeper@example.org".to_owned()),
        operator: vec![Secret::new("operator@example.org".to_owned())],
        owners: Vec::new(),
        external_url: None,
        rules: Rules::EACH,
        reminders: Vec::new(),
        time_zone: jiff::tz::TimeZone::UTC,
        templates: delivery::templates::Templates::built_in(),
        webhooks: Vec::new(),
    }
}

/// How long shares stay a replica's own without a sign of life: stops are shorter and longer than that.
pub(crate) const SHARE_LEASE: Duration = Duration::from_secs(90);

const INPUTS_MAX: usize = 256;
