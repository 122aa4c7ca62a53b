//! What the owners' listener needs to know accounts and providers.

use crate::{
    config::{self, Settings},
    connect::{Connector, Query, Way, Ways, Wires, links::Links},
    core::{
        AccountId, Secret, Snapshot, Timestamp,
        connecting::{Arrived, Asked, Departure, Wrong},
    },
    http_client::HttpClient,
    metrics::Metrics,
    refresh::{Heard, Held, Refresher, Transport, Unspent},
    server::{
        self,
        connect::{Desk, Later},
        listener::Limits,
    },
    state::{Role, State},
    stores::{AnyStore, TokenStore},
};
use arc_swap::ArcSwap;
use std::{net::SocketAddr, sync::Arc, time::Duration};
use tokio::{net::TcpListener, sync::watch};

/// The counter behind the pages.
struct Counter<S, T>(Arc<Connector<S, T>>);

impl<S: TokenStore, T: Transport> Desk for Counter<S, T> {
    fn look<'a>(
        &'a self,
        link: &'a str,
        browser: Option<&'a str>,
    ) -> Later<'a, Result<Asked, Wrong>> {
        Box::pin(self.0.look(link, browser))
    }

    fn begin<'a>(
        &'a self,
        link: &'a str,
        browser: Option<&'a str>,
    ) -> Later<'a, Result<Departure, Wrong>> {
        Box::pin(self.0.begin(link, browser))
    }

    fn arrive<'a>(
        &'a self,
        query: Secret,
        browser: Option<&'a str>,
    ) -> Later<'a, Result<Arrived, Wrong>> {
        Box::pin(async move { self.0.arrive(Query::read(query.expose()), browser).await })
    }
}

/// Makes links for those who send or show them.
#[derive(Clone)]
pub struct Minter {
    links: Links,
    ways: Arc<ArcSwap<Ways>>,
    snapshot: Arc<ArcSwap<Snapshot>>,
}

impl Minter {
    /// A link by which the owner of this account connects it again; `None` where no link can.
    #[must_use]
    pub fn mint(&self, id: &AccountId, now: Timestamp) -> Option<String> {
        let snapshot = self.snapshot.load();
        let account = snapshot.accounts.find(id)?;
        let has_way = self.ways.load().contains_key(&account.app);
        has_way.then(|| self.links.mint(id, now))
    }
}

/// How people come back to each app that can be connected by a link below `base`.
#[must_use]
pub fn ways_below(settings: &Settings, base: &str) -> Ways {
    let way = |app: &config::App| {
        let provider = settings.provider_of(app)?;
        let has_page =
            provider.has_kind(app.kind) && provider.authorize_endpoint(&app.endpoints).is_some();
        let here = config::redirect_below(base, provider, app.kind);
        // One that is registered elsewhere leads elsewhere.
        let is_here = app.redirect_uri.as_ref().is_none_or(|own| *own == here);
        let way = Way { kind: app.kind, redirect_uri: here };
        (has_page && is_here).then(|| (app.name.as_str().into(), way))
    };
    settings.apps.iter().filter_map(way).collect()
}

/// Links of this installation, as its settings want them.
#[must_use]
pub fn links_of<S: TokenStore, T: Transport>(
    settings: &server::Connect,
    bound: SocketAddr,
    refresher: &Refresher<S, T>,
) -> Links {
    Links::new(refresher.state.link_key(), settings.base(bound), settings.link_life)
}

/// What the owners' listener needs, opened before anything listens.
pub(super) struct Owners {
    pub(super) base: String,
    links: Links,
    pub(super) ways: Arc<ArcSwap<Ways>>,
    keys_are_subjects: bool,
    refresher: Arc<Refresher<AnyStore, ArcSwap<HttpClient>>>,
}

impl Owners {
    pub(super) async fn open(
        settings: &Settings,
        connect: &server::Connect,
        at: SocketAddr,
        refresher: &Arc<Refresher<AnyStore, ArcSwap<HttpClient>>>,
    ) -> Result<Self, String> {
        let base = connect.base(at);
        let refresher = match settings.state.postgres.is_some() {
            true => Arc::new(as_guest(settings, refresher).await?),
            false => Arc::clone(refresher),
        };
        Ok(Self {
            links: links_of(connect, at, &refresher),
            ways: Arc::new(ArcSwap::from_pointee(ways_below(settings, &base))),
            base,
            keys_are_subjects: connect.keys_are_subjects,
            refresher,
        })
    }

    /// Makes links for those who send or show them.
    pub(super) fn minter(&self, snapshot: &Arc<ArcSwap<Snapshot>>) -> Minter {
        let (links, ways) = (self.links.clone(), Arc::clone(&self.ways));
        Minter { links, ways, snapshot: Arc::clone(snapshot) }
    }

    pub(super) async fn serve(
        self,
        listener: TcpListener,
        limits: Limits,
        metrics: Metrics,
        wires: Wires,
        stop: watch::Receiver<bool>,
    ) {
        metrics.expect_reconnects();
        let Self { links, ways, keys_are_subjects, refresher, .. } = self;
        let within = refresher.call_deadline * REQUESTS_AT_MOST + super::AFTER_CALLS;
        let connector =
            Connector::new(Arc::clone(&refresher), links, ways, keys_are_subjects, wires);
        let connector = Arc::new(connector);
        let context = server::connect::Context {
            metrics,
            desk: Arc::new(Counter(Arc::clone(&connector))),
            is_secure: self.base.starts_with("https://"),
        };
        let handler = move |request| server::connect::handle(context.clone(), request);
        server::listener::run(listener, limits, handler, stop).await;
        // A code that is on the wire is answered, and its token is written down.
        connector.drained(within).await;
        // The keeper has ended by now, and nobody else waits for what came after it.
        while !refresher.held.is_empty() {
            refresher.journal_held().await;
            tokio::time::sleep(JOURNAL_AGAIN_AFTER).await;
        }
    }
}

/// A replica may take the leases of its own accounts alone, and owners come to whichever replica they come to: so
/// this one shares the state as a guest, as commands do.
async fn as_guest(
    settings: &Settings,
    ours: &Refresher<AnyStore, ArcSwap<HttpClient>>,
) -> Result<Refresher<AnyStore, ArcSwap<HttpClient>>, String> {
    let state =
        State::open_as(&settings.state, Role::Guest).await.map_err(|error| error.to_string())?;
    let held = Held::spilling_to(state.spill(&settings.state));
    Ok(Refresher {
        store: Arc::clone(&ours.store),
        state,
        transport: Arc::clone(&ours.transport),
        clock: ours.clock.clone(),
        reporter: ours.reporter.clone(),
        apps: Arc::clone(&ours.apps),
        call_deadline: ours.call_deadline,
        held,
        unspent: Unspent::default(),
        heard: Heard::default(),
    })
}

/// Requests that one consent makes at most.
const REQUESTS_AT_MOST: u32 = 5;

/// Between two attempts to journal a token that is held in memory only.
const JOURNAL_AGAIN_AFTER: Duration = Duration::from_secs(2);
