//! Wires the parts together; the only place besides `cli` that knows all of them.

mod connect;
mod measure;
mod notify;
mod observe;
mod policy;
mod publisher;
mod reload;
mod sockets;
mod webhooks;

pub use connect::{Minter, links_of, ways_below};
pub use policy::{Proofs, apps_of, policy_apps, policy_of};

use self::{notify::Outgoing, reload::Reloader, sockets::Sockets};
use crate::{
    clerk::Clerk,
    clock::Clock,
    config::{self, Overrides, Settings},
    connect::Wires,
    core::{
        Cause, Event, Memory, Shares, Snapshot, Timestamp,
        fleet::{Fleet, Input, Reopened},
        schedule::Policy,
    },
    http_client::{self, HttpClient},
    inbox::Inbox,
    keeper::{self, Keeper},
    loader, logs,
    metrics::{
        events::Metrics,
        fleet::{Gauges, Totals},
    },
    refresh::{Apps, Heard, Held, Refresher, Transport, Unspent},
    replicas::{self, Replicas},
    report::Reporter,
    server::{
        self, ConfigState, ReloadRequest,
        actions::{self, Actions},
        listener::Limits,
        socket::Place,
        web_config::{InForce, Web},
    },
    state::{Counts, Role, State},
    stores::{AnyStore, TokenStore},
};
use arc_swap::ArcSwap;
use std::{
    collections::{BTreeMap, BTreeSet},
    net::SocketAddr,
    path::Path,
    sync::{Arc, atomic::AtomicBool},
    time::Duration,
};
use tokio::{
    signal::unix::{SignalKind, signal},
    sync::{Notify, broadcast, mpsc, watch},
    task::JoinHandle,
};

/// A sidecar that is running in this process.
pub struct Running {
    /// What everybody may see; swapped whole after each round of the keeper.
    pub snapshot: Arc<ArcSwap<Snapshot>>,
    /// Everything that happens from now on. A reader that is slower than the writer misses some.
    pub events: broadcast::Sender<Event>,
    /// Where telemetry and status page are, with the port that was really bound.
    pub telemetry: SocketAddr,
    /// The same with its scheme, and where else they are.
    pub telemetry_places: Vec<Place>,
    /// Where publishers ask and report, if that is switched on.
    pub publisher: Option<Place>,
    /// Where webhooks go, if they are switched on.
    pub webhooks: Option<SocketAddr>,
    /// Where owners connect accounts, if that is switched on.
    pub connect: Option<SocketAddr>,
    /// Makes links to there.
    pub links: Option<Minter>,
    /// Asks for a reload, as SIGHUP does.
    pub reload: mpsc::Sender<ReloadRequest>,
    /// Ends loader, reloader and keeper.
    stop: watch::Sender<bool>,
    /// Ends mailer and servers, after the keeper.
    stop_surface: watch::Sender<bool>,
    /// The keeper, which ends when nothing is owed any more, and the clerk after it.
    inner: Vec<JoinHandle<()>>,
    /// Ends the sharing, after the keeper and the clerk.
    leave: watch::Sender<bool>,
    /// Tells the other replicas that we live.
    sharing: JoinHandle<()>,
    /// Mailer and servers.
    surface: Vec<JoinHandle<()>>,
    /// How long a call may be on the wire.
    call_deadline: Duration,
    /// The name of a part that failed inside.
    failed: watch::Receiver<Option<&'static str>>,
}

impl Running {
    /// Returns with its name when a part has failed inside. What is left would show numbers that stand still
    /// and keep nothing alive: the program must end, and be started again.
    pub async fn failed(&mut self) -> &'static str {
        match self.failed.wait_for(Option::is_some).await {
            Ok(name) => name.unwrap_or_default(),
            Err(_) => std::future::pending().await,
        }
    }

    /// Asks everything to end: no refresh is begun, calls in flight are answered and saved, then the
    /// listeners close. Returns when that is done.
    pub async fn stop(self) {
        self.stop.send_replace(true);
        for task in self.inner {
            let _ = task.await;
        }
        if self.failed.borrow().is_some() {
            // Calls outlive a keeper that failed, and nobody else waits for their tokens.
            tokio::time::sleep(self.call_deadline + AFTER_CALLS).await;
        }
        // Nothing is under way any more and everything is written: others may go on at once.
        self.leave.send_replace(true);
        let _ = self.sharing.await;
        self.stop_surface.send_replace(true);
        for task in self.surface {
            let _ = task.await;
        }
    }
}

/// Store, state and everything that is needed to refresh: what `run` and the other commands share.
pub struct Parts {
    /// What the configuration says.
    pub settings: Settings,
    /// Carries refreshes out.
    pub refresher: Arc<Refresher<AnyStore, ArcSwap<HttpClient>>>,
    /// The outgoing client, replaced when its settings change.
    pub client: Arc<ArcSwap<HttpClient>>,
    /// Counters.
    pub metrics: Metrics,
}

/// Opens store and state and builds what refreshes.
///
/// # Errors
/// A sentence for the person who started it.
pub async fn open(settings: Settings, role: Role) -> Result<Parts, String> {
    http_client::install_crypto();
    let state = State::open_as(&settings.state, role).await.map_err(|error| error.to_string())?;
    let held = Held::spilling_to(state.spill(&settings.state));
    let store = AnyStore::open(&settings.store, state.fingerprinter())
        .await
        .map_err(|error| error.to_string())?;
    let store = if settings.is_one_database() { store.beside_our_state() } else { store };
    let client = HttpClient::new(&settings.http).map_err(|error| error.to_string())?;
    let client = Arc::new(ArcSwap::from_pointee(client));
    let apps = apps_of(&settings);
    let clock = Clock::start();
    let providers = apps.values().map(|app| app.provider.name.as_str());
    let metrics = Metrics::new(providers, clock.now());
    let refresher = Refresher {
        store: Arc::new(store),
        state,
        transport: Arc::clone(&client),
        clock,
        reporter: Reporter::new(metrics.clone()),
        apps: Arc::new(ArcSwap::from_pointee(apps)),
        call_deadline: settings.http.call_deadline(),
        held,
        unspent: Unspent::default(),
        heard: Heard::default(),
    };
    Ok(Parts { settings, refresher: Arc::new(refresher), client, metrics })
}

/// Starts the sidecar with the configuration file at `config`.
///
/// # Errors
/// A sentence for the person who started it.
pub async fn start(config: &Path) -> Result<Running, String> {
    start_under(config, Overrides::default()).await
}

/// [`start`] under what the command line says.
///
/// # Errors
/// A sentence for the person who started it.
pub async fn start_under(config: &Path, overrides: Overrides) -> Result<Running, String> {
    // Before everything else: until somebody listens, SIGHUP ends the process. The file and the API reload all the same.
    let hangup = signal(SignalKind::hangup())
        .inspect_err(|error| tracing::warn!(%error, "SIGHUP does not reload"))
        .ok();
    let loaded = config::load_under(config, &overrides).map_err(|problems| problems.to_string())?;
    logs::apply(&loaded.settings.log);
    for warning in &loaded.warnings {
        tracing::warn!(warning = warning.sentence(), "the configuration may hurt");
    }
    let Parts { settings, refresher, client, metrics } =
        open(loaded.settings, Role::Replica).await?;
    if settings.is_one_database() {
        tracing::info!(meaning = ONE_DATABASE, "store and state share a database");
    }
    let clock = refresher.clock.clone();
    let reporter = refresher.reporter.clone();
    let state = refresher.state.clone();
    let now = clock.now();
    let proofs = Proofs::in_force(&settings);
    let fleet = empty_fleet(policy_of(&settings), proofs, &refresher, now);
    let web = Arc::new(Web::new(InForce::read(settings.server.web.as_ref())?));
    // Before anything is begun: an address that is taken ends the start while nothing is on its way.
    let sockets = Sockets::bind(&settings, &web).await?;
    let (telemetry_at, places) = (sockets.telemetry_at, sockets.places());

    let snapshot = Arc::new(ArcSwap::from_pointee(Snapshot::empty(now)));
    let (stop, stopped) = watch::channel(false);
    let (stop_surface, surface_stopped) = watch::channel(false);
    let (inputs, inbox) = mpsc::channel(INPUTS_WAITING_MAX);
    let (reload, reload_asked) = mpsc::channel(1);
    let (delivery, delivery_changed) = watch::channel(Arc::new(settings.delivery.clone()));
    let (mail_owed, request_owed) = (Arc::new(Notify::new()), Arc::new(Notify::new()));
    let load_again = Arc::new(Notify::new());
    let gauges = Arc::new(Gauges::default());
    let per_account = Arc::new(AtomicBool::new(settings.metrics.per_account));
    let config_state = ConfigState { at: now, errors: Vec::new() };
    let config_state = Arc::new(ArcSwap::from_pointee(config_state));
    reporter.report(Event::Reloaded { successful: true, at: now, reason: None });

    let owners = match (&settings.server.connect, places.connect) {
        (Some(asked), Some(at)) => {
            Some(connect::Owners::open(&settings, asked, at, &refresher).await?)
        }
        _ => None,
    };
    let minter = owners.as_ref().map(|owners| owners.minter(&snapshot));
    let clerk = Clerk {
        state: state.clone(),
        store: Arc::clone(&refresher.store),
        delivery: delivery_changed.clone(),
        reporter: reporter.clone(),
        mail_owed: Arc::clone(&mail_owed),
        request_owed: Arc::clone(&request_owed),
        inputs: inputs.clone(),
    };
    let carrying = Arc::clone(&client);
    let mut reloader = Reloader {
        path: config.to_owned(),
        overrides,
        in_force: settings.clone(),
        web: Arc::clone(&web),
        wrong: BTreeSet::new(),
        refresher: Arc::clone(&refresher),
        client,
        delivery,
        per_account: Arc::clone(&per_account),
        metrics: metrics.clone(),
        inputs: inputs.clone(),
        load_again: Arc::clone(&load_again),
        config_state: Arc::clone(&config_state),
        ways: owners.as_ref().map(|owners| (owners.base.clone(), Arc::clone(&owners.ways))),
        hangup,
        publisher: None,
    };
    let (rounds, clerk) = keeper::start_clerk(clerk);
    let lent = rounds.downgrade();
    let keeper = Keeper::new(fleet, Arc::clone(&refresher), inbox, rounds, Arc::clone(&snapshot));
    let replicas = Replicas {
        refresher: Arc::clone(&refresher),
        name: replica_name(telemetry_at),
        lease: settings.state.postgres.as_ref().map_or(Duration::MAX, |server| server.lease),
        snapshot: Arc::clone(&snapshot),
        inputs: inputs.clone(),
        rounds: lent,
        load_again: Arc::clone(&load_again),
        told: told_of_all(&settings, &gauges),
    };
    // Before any attempt is taken up again: what an earlier run received must not be asked for once more.
    refresher.take_in_spilled().await;
    // Before anything is read from the store: what is remembered must be known first.
    let replica = replicas.join().await.map_err(|error| error.to_string())?;
    let (leave, leaves) = watch::channel(false);
    let sharing = tokio::spawn(replica.run(stopped.clone(), leaves));
    let again = Arc::clone(&load_again);
    let loading = loader::run(Arc::clone(&refresher), inputs.clone(), again, stopped.clone());
    let (fails, failed) = watch::channel(None);
    let (deliveries, delivered) = mpsc::channel(DELIVERIES_WAITING_MAX);
    let mut inner = vec![
        spawn_watched("keeper", &fails, keeper.run(stopped.clone())),
        clerk,
        spawn_watched("loader", &fails, loading),
        tokio::spawn(measure::run(
            Arc::clone(&refresher),
            Arc::clone(&gauges),
            delivery_changed.clone(),
            inputs.clone(),
            stopped.clone(),
        )),
    ];
    let (observing, reloading) = (stopped.clone(), stopped.clone());
    // Commands write there too, so it is read whether anything is delivered here or not.
    let inbox = Inbox::new(
        Arc::clone(&refresher),
        Arc::clone(&snapshot),
        inputs.clone(),
        Arc::clone(&load_again),
    );
    inner.push(tokio::spawn(inbox.run(delivered, stopped)));

    let place = place_of_positions(&settings);
    let observer = observe::observer(&refresher, place, &snapshot, &inputs, &metrics, &gauges);
    inner.extend(observer.start(settings.observe.clone(), &observing));

    let limits = Limits::with_connections(settings.server.connections_max);
    let context = server::Context {
        snapshot: Arc::clone(&snapshot),
        metrics: metrics.clone(),
        gauges: Arc::clone(&gauges),
        clock: clock.clone(),
        per_account,
        reload: settings.server.enable_reload.then(|| reload.clone()),
        config: config_state,
        actions: settings.server.actions.clone().map(|actions| {
            let wires = actions::Wires {
                snapshot: Arc::clone(&snapshot),
                clock: clock.clone(),
                metrics: metrics.clone(),
                deliveries: deliveries.clone(),
                web: Arc::clone(&web),
                mint: minter.clone().map(mint),
            };
            Arc::new(Actions::new(actions, wires))
        }),
    };
    let events = reporter.events().clone();
    let outgoing = Outgoing {
        state,
        delivery: delivery_changed,
        titles: titles(&refresher.apps.load()),
        reporter,
        gauges: Arc::clone(&gauges),
        links: minter.clone(),
        client: carrying,
    };
    let mut surface = vec![
        tokio::spawn(outgoing.mailer().run(clock.clone(), mail_owed, surface_stopped.clone())),
        tokio::spawn(outgoing.poster().run(clock, request_owed, surface_stopped.clone())),
    ];
    for socket in sockets.telemetry {
        let (context, web) = (context.clone(), Arc::clone(&web));
        let handler = move |request| {
            let (context, web) = (context.clone(), Arc::clone(&web));
            async move {
                web.answer(request, |request| server::telemetry::handle(context, request)).await
            }
        };
        let stop = surface_stopped.clone();
        surface.push(tokio::spawn(server::listener::run(socket, limits, handler, stop)));
    }
    if let Some((listener, secret)) = sockets.webhooks {
        let context = webhooks::context(&refresher, &metrics, secret, deliveries.clone());
        let handler = move |request| server::webhooks::handle(context.clone(), request);
        let stop = surface_stopped.clone();
        surface.push(tokio::spawn(server::listener::run(listener, limits, handler, stop)));
    }
    if let Some((listener, owners)) = sockets.connect.zip(owners) {
        let wires = Wires {
            load_again: Arc::clone(&load_again),
            unsaved: Arc::clone(&gauges.connected_unsaved),
            keeper: inputs.clone(),
        };
        let serving =
            owners.serve(listener, limits, metrics.clone(), wires, surface_stopped.clone());
        surface.push(tokio::spawn(serving));
    }
    if let Some((socket, asked)) = sockets.publisher {
        let wires = publisher::Wires {
            metrics,
            snapshot: Arc::clone(&snapshot),
            gauges,
            client: Arc::clone(&refresher.transport),
            keeper: inputs,
            deliveries,
            stop: surface_stopped.clone(),
        };
        let (live, tasks) = publisher::start(asked, &settings.hooks, &refresher, wires);
        surface.extend(tasks);
        let context = Arc::clone(&live.context);
        let handler = move |request| server::publisher::handle(context.load_full(), request);
        surface.push(tokio::spawn(server::listener::run(socket, limits, handler, surface_stopped)));
        reloader.publisher = Some(live);
    }
    inner.push(tokio::spawn(reloader.run(reload_asked, reloading)));
    Ok(Running {
        snapshot,
        events,
        telemetry: telemetry_at,
        telemetry_places: places.telemetry,
        publisher: places.publisher,
        webhooks: places.webhooks,
        connect: places.connect,
        links: minter,
        reload,
        stop,
        stop_surface,
        leave,
        sharing,
        inner,
        surface,
        call_deadline: refresher.call_deadline,
        failed,
    })
}

/// A part without which the rest is an empty shell.
fn spawn_watched(
    name: &'static str,
    fails: &watch::Sender<Option<&'static str>>,
    part: impl Future<Output = ()> + Send + 'static,
) -> JoinHandle<()> {
    let fails = fails.clone();
    tokio::spawn(async move {
        if tokio::spawn(part).await.is_err() {
            fails.send_replace(Some(name));
        }
    })
}

/// A fleet that knows its configuration and what is remembered of all accounts, to look at: whoever acts on
/// it shares the accounts with others.
///
/// # Errors
/// When the state cannot be read.
pub async fn fleet(
    settings: &Settings,
    refresher: &Refresher<AnyStore, ArcSwap<HttpClient>>,
    now: Timestamp,
) -> Result<Fleet, String> {
    fleet_under(policy_of(settings), Proofs::in_force(settings), refresher, now).await
}

/// The same under `policy`, whatever the store and the way to the providers are.
///
/// # Errors
/// When the state cannot be read.
pub async fn fleet_under<S: TokenStore, T: Transport>(
    policy: Policy,
    proofs: Proofs,
    refresher: &Refresher<S, T>,
    now: Timestamp,
) -> Result<Fleet, String> {
    let mut fleet = empty_fleet(policy, proofs, refresher, now);
    let recalled = replicas::recall(refresher, Shares::ALL).await;
    let (memories, histories, mut reopened) = recalled.map_err(|error| error.to_string())?;
    reopened.retain(|one| !is_being_saved(one, &memories, now));
    let apps = refresher.state.app_memories().await.map_err(|error| error.to_string())?;
    fleet.handle(now, Input::AppsRecalled(apps));
    fleet.handle(now, Input::Recalled(memories));
    fleet.handle(now, Input::Recounted(histories));
    fleet.handle(now, Input::Reopened(reopened));
    fleet.handle(now, Input::Holding { shares: Shares::ALL, until: None });
    Ok(fleet)
}

/// Between a token's arrival in the journal and in the store lie milliseconds in which it is on its way and in no
/// trouble. Whoever renews it remembers that it could not be saved, or has died, and then its time runs out.
fn is_being_saved(one: &Reopened, memories: &[Memory], now: Timestamp) -> bool {
    let said = |memory: &Memory| memory.id == one.id && memory.cause == Some(Cause::UnsavedToken);
    one.unsaved.is_some() && !one.over_at.has_come(now) && !memories.iter().any(said)
}

/// A fleet that knows its configuration and nothing else.
#[must_use]
pub fn empty_fleet<S, T>(
    policy: Policy,
    proofs: Proofs,
    refresher: &Refresher<S, T>,
    now: Timestamp,
) -> Fleet {
    let mut fleet = Fleet::new(policy);
    let apps = policy_apps(&refresher.apps.load(), proofs);
    fleet.handle(now, Input::Configured { policy, apps });
    fleet
}

/// How people tell this replica from others.
fn replica_name(telemetry: SocketAddr) -> String {
    let host = std::fs::read_to_string("/proc/sys/kernel/hostname").unwrap_or_default();
    format!("{} {telemetry}", host.trim())
}

/// Whose positions in logs are remembered: those of one machine where the state is one file, otherwise of this
/// replica, by the port that is configured: the one that is bound may differ from start to start.
fn place_of_positions(settings: &Settings) -> String {
    match settings.state.postgres {
        Some(_) => replica_name(settings.server.listen),
        None => String::new(),
    }
}

/// Keeps what all replicas count together for the next scrape. Of a process that is alone the snapshot says
/// it fresher.
fn told_of_all(
    settings: &Settings,
    gauges: &Arc<Gauges>,
) -> Box<dyn Fn(usize, Counts) + Send + Sync> {
    let is_shared = settings.state.postgres.is_some();
    let gauges = Arc::clone(gauges);
    Box::new(move |replicas, counts| {
        let Counts { accounts, needing_reconnect, unsaved, in_flight } = counts;
        let replicas = replicas as u64;
        let totals = Totals { replicas, accounts, needing_reconnect, unsaved, in_flight };
        gauges.all_replicas.store(is_shared.then(|| Arc::new(totals)));
    })
}

/// Provider names for people.
/// For the actions of the status page.
fn mint(minter: Minter) -> Arc<actions::Mint> {
    Arc::new(move |id, now| minter.mint(id, now))
}

fn titles(apps: &Apps) -> BTreeMap<String, String> {
    apps.values().map(|app| (app.provider.name.clone(), app.provider.title.clone())).collect()
}

/// What it means that store and state are one.
pub const ONE_DATABASE: &str =
    "store and state are one database: a result and its save are one transaction";

/// What journalling and saving may take after the last answer.
const AFTER_CALLS: Duration = Duration::from_secs(5);

/// Inputs that may wait for the keeper before those who bring more wait too.
const INPUTS_WAITING_MAX: usize = 1_024;

/// Messages that may wait to be written down; beyond that their senders are asked to come again.
const DELIVERIES_WAITING_MAX: usize = 256;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::core::{AccountId, Fingerprint, TokenFacts};

    #[test]
    fn a_token_on_its_way_into_the_store_is_in_trouble_only_when_somebody_says_so_or_nobody_is_left()
     {
        let now = Timestamp::from_unix(1_800_000_000);
        let soon = now.plus(Duration::from_secs(1));
        let rows = [
            ("it arrived a moment ago", true, soon, None, true),
            ("whoever renews it could not save it", true, soon, Some(Cause::UnsavedToken), false),
            ("it had another trouble before", true, soon, Some(Cause::ScopeMissing), true),
            ("whoever renewed it has died", true, now, None, false),
            ("no answer has arrived yet", false, soon, None, false),
        ];
        for (case, has_arrived, over_at, cause, expected) in rows {
            let id = AccountId::new("tiktok", "a");
            let memory = Memory { cause, ..memory_of(&id) };
            let token = has_arrived.then(|| token(now));
            let one = Reopened { id, unsaved: token, over_at };
            assert_eq!(is_being_saved(&one, &[memory], now), expected, "{case}");
        }
    }

    fn token(issued_at: Timestamp) -> TokenFacts {
        TokenFacts {
            token: Fingerprint::from_hash(1),
            renewable_by: Some(Fingerprint::from_hash(2)),
            issued_at,
            expires_at: None,
            refresh_expires_at: None,
            missing_scopes: 0,
        }
    }

    fn memory_of(id: &AccountId) -> Memory {
        Memory {
            id: id.clone(),
            token: None,
            last_refresh_at: None,
            cause: None,
            cause_since: None,
            told: None,
            told_since: None,
            failed_in_a_row: 0,
            not_before: None,
            first_seen_at: None,
            door: None,
            left: None,
        }
    }
}
