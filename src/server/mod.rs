//! The HTTP surface: telemetry and status page on one listener, the publisher's questions and reports on another, and
//! what may come from outside on two more: signed messages, and owners.
//!
//! | listener | route | answer |
//! | --- | --- | --- |
//! | telemetry | `GET /` | the list of accounts; see [`status_page`] |
//! | telemetry | `GET /accounts/{provider}/{account}` | the page of an account |
//! | telemetry | `GET /apps/{app}`, `GET /providers/{provider}` | the pages of an app and a provider |
//! | telemetry | `GET /accounts.json`, and each page with `.json` behind it | the same as JSON |
//! | telemetry | `GET /metrics` | the exposition |
//! | telemetry | `GET /-/healthy` | 200 while the process answers |
//! | telemetry | `GET /-/ready` | 200 once the store has been read, 503 before |
//! | telemetry | `POST /-/reload` | reads the configuration again, when that is switched on |
//! | telemetry | `/login`, `/logout`, `/actions/…` | see [`actions`], when they are switched on |
//! | publisher | `/v1/…` | see [`publisher`] |
//! | webhooks | `POST /webhooks/{app}` | takes a provider's signed message |
//! | webhooks | `POST /v1/events` | takes a publisher's signed event, when that is switched on |
//! | connect | `GET /connect/account/{link}` | what an owner is about to be asked |
//! | connect | `POST /connect/account/{link}` | sends the owner to the consent page |
//! | connect | `GET /connect/callback` | takes in what the owner comes back with |
//!
//! Telemetry is behind what [`web_config`] says: TLS, users, headers. Absent on purpose: JavaScript, and any way
//! to reach a token but the one that [`publisher`] has when it is switched on: handlers are handed snapshots.

pub mod actions;
pub mod answer;
mod bounded;
pub mod connect;
pub mod listener;
mod ordered;
pub mod publisher;
pub mod socket;
pub mod status_page;
pub mod telemetry;
pub mod tls;
pub mod web_config;
pub mod webhooks;

pub use listener::{Limits, run};

use crate::{
    clock::Clock,
    core::{Snapshot, Timestamp},
    metrics::{Metrics, Readings, fleet::Gauges, process},
    secrets::SecretRef,
};
use actions::{Actions, Viewer};
use arc_swap::ArcSwap;
use hyper::HeaderMap;
use std::{
    net::SocketAddr,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};
use tokio::sync::{mpsc, oneshot};

/// Where the server listens. `config` fills it.
#[derive(Clone, Debug)]
pub struct Settings {
    /// Telemetry and status page.
    pub listen: SocketAddr,
    /// Where the same is shown too.
    pub listen_also: Vec<SocketAddr>,
    /// TLS, users and headers of these; `None` shows everything to everybody, in clear.
    pub web: Option<web_config::Settings>,
    /// What people may do from the status page; `None` is nothing.
    pub actions: Option<actions::Settings>,
    /// Whether `POST /-/reload` works.
    pub enable_reload: bool,
    /// Open connections per listener; more wait in the kernel's queue.
    pub connections_max: usize,
    /// The publisher's questions and reports; `None` switches them off.
    pub publisher: Option<publisher::Settings>,
    /// Messages of providers, and events of publishers; `None` switches them off.
    pub webhooks: Option<Webhooks>,
    /// Where owners connect accounts; `None` switches it off.
    pub connect: Option<Connect>,
}

/// The listener for signed messages.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Webhooks {
    /// Loopback, unless the operator says otherwise.
    pub listen: SocketAddr,
    /// What a publisher signs its events with; `None` takes none.
    pub secret: Option<SecretRef>,
}

/// The listener on which owners connect accounts.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Connect {
    /// Loopback, unless the operator says otherwise.
    pub listen: SocketAddr,
    /// How people reach it, without a slash at its end; `None` is `http://` and [`Connect::listen`].
    pub external_url: Option<String>,
    /// How long a link may be used.
    pub link_life: Duration,
    /// Whether the keys of accounts in the store are the providers' own ids.
    pub keys_are_subjects: bool,
}

impl Connect {
    /// How people reach it, where it listens at `bound`.
    #[must_use]
    pub fn base(&self, bound: SocketAddr) -> String {
        self.external_url.clone().unwrap_or_else(|| format!("http://{bound}"))
    }
}

/// Where people come back to from a consent page, below [`Connect::base`]; with a slash more where a provider
/// wants one.
pub const CALLBACK_PATH: &str = "/connect/callback";

/// What the telemetry handlers see. `app` fills it; everything in it is shared and cheap to clone.
#[derive(Clone)]
pub struct Context {
    /// The fleet; swapped whole by the keeper.
    pub snapshot: Arc<ArcSwap<Snapshot>>,
    /// What is counted.
    pub metrics: Metrics,
    /// Numbers that are in neither.
    pub gauges: Arc<Gauges>,
    /// The program's time.
    pub clock: Clock,
    /// Whether `/metrics` has series per account; a reload may change it.
    pub per_account: Arc<AtomicBool>,
    /// Who reads the configuration again; `None` while `/-/reload` is switched off.
    pub reload: Option<mpsc::Sender<ReloadRequest>>,
    /// How the last attempt to read the configuration went; written by whoever reads it.
    pub config: Arc<ArcSwap<ConfigState>>,
    /// What people may do from the status page; `None` while that is switched off.
    pub actions: Option<Arc<Actions>>,
}

impl Context {
    /// Who looks at a page, as far as actions are concerned.
    #[must_use]
    pub fn viewer(&self, headers: &HeaderMap) -> Viewer {
        self.actions.as_ref().map(|actions| actions.viewer(headers)).unwrap_or_default()
    }

    /// What is true of the fleet now: a snapshot from before the process was stopped says too much.
    #[must_use]
    pub fn seen(&self) -> Arc<Snapshot> {
        let snapshot = self.snapshot.load_full();
        snapshot.as_of(self.clock.now()).map_or(snapshot, Arc::new)
    }

    /// What a scrape needs beside snapshot and counters, read now.
    #[must_use]
    pub fn readings(&self) -> Readings {
        Readings {
            now: self.clock.now(),
            journal_entries: self.gauges.journal_entries.load(Ordering::Relaxed),
            connected_unsaved: self.gauges.connected_unsaved.load(Ordering::Relaxed),
            spilled_tokens: self.gauges.spilled_tokens.load(Ordering::Relaxed),
            outbox_length: self.gauges.outbox_length.load(Ordering::Relaxed),
            outbox_held: self.gauges.outbox_held.load(Ordering::Relaxed),
            clock_unconfirmed_step: self.clock.unconfirmed_step(),
            all_replicas: self.gauges.all_replicas.load().as_deref().copied(),
            posts: self.gauges.posts.load_full(),
            posts_held: self.gauges.posts_held.load_full(),
            process: process::Usage::read(),
        }
    }
}

/// Somebody asks for the configuration to be read again and waits for what came of it: nothing, or the
/// messages that say what is wrong with the file.
pub type ReloadRequest = oneshot::Sender<Result<(), Vec<String>>>;

/// How the last attempt to read the configuration went.
#[derive(Clone, Debug)]
pub struct ConfigState {
    /// When it was.
    pub at: Timestamp,
    /// What was wrong, one message each; empty when the file is in force.
    pub errors: Vec<String>,
}
