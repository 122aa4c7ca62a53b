//! Where the publisher changes nothing: its 401s are learnt from its log, from a table in which it keeps its
//! errors, or by a free check of our own; and its own tables say which posts wait.
//!
//! What is seen goes to the keeper as a publisher's report does: it is counted, and a 401 is confirmed before
//! anything is spent. Read `follower` for how a log is followed through rotation and restarts, `line` for what a
//! line says, [`Observer`] for how what was seen is handed over and how far it is remembered.
//!
//! Absent on purpose: anything that is written where the publisher keeps its logs and tables; and text of a log
//! or a table in our own logs, errors and metrics, for a publisher may have written a token there.

mod follower;
mod handover;
mod line;
mod logs;
mod posts;
mod probe;
mod query;
mod tail;

pub use follower::{Follower, Position, Round, Start};
pub use line::{
    BadPattern, Format, Is, Lines, Nothing, Only, PATTERN_BYTES_MAX, Provider, Reader, Sighting,
    Status, Wrapped,
};
pub use tail::Line;

use crate::{
    core::{Shares, Snapshot, fleet::Input},
    metrics::{Metrics, fleet::Gauges},
    server::publisher::Understand,
    state::State,
    stores::AnyStore,
};
use arc_swap::ArcSwap;
use std::{path::PathBuf, sync::Arc, time::Duration};
use tokio::{
    sync::{mpsc, watch},
    task::JoinHandle,
};

/// What is observed. `config` fills it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Settings {
    /// Logs of the publisher; at most [`LOGS_MAX`], with different names.
    pub logs: Vec<Log>,
    /// Where the publisher keeps its errors.
    pub query: Option<Query>,
    /// Where it keeps its posts.
    pub posts: Option<Posts>,
    /// How often each account is checked although nobody reported anything.
    pub probe: Option<Duration>,
}

/// A log.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Log {
    /// How metrics call it, and under which name its position is remembered.
    pub name: String,
    /// The file, whether or not there is one yet.
    pub path: PathBuf,
    /// What its lines say.
    pub lines: Lines,
    /// Where it is begun the first time.
    pub start: Start,
}

/// A question to the publisher's store about answers that its posts had.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Query {
    /// Answers with columns `account`, `status` and `position`, perhaps `provider` and `body`; `:position` stands
    /// for the last position that was seen.
    pub sql: String,
    /// The provider, where no column names it.
    pub provider_name: Option<String>,
    /// The position before the first row.
    pub first: String,
    /// Whether rows that were there before are counted.
    pub start: Start,
    /// How often it is asked.
    pub every: Duration,
}

/// A question to the publisher's store about posts that wait.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Posts {
    /// Answers with columns `account`, `held` and `at_risk`, perhaps `provider`; `:until` stands for the end of
    /// the window, as Unix time.
    pub sql: String,
    /// The provider, where no column names it.
    pub provider_name: Option<String>,
    /// How often it is asked.
    pub every: Duration,
    /// Posts that are due within this time are at risk while their account does not work.
    pub window: Duration,
}

/// What all observers need.
#[derive(Clone)]
pub struct Observer {
    /// Keeps positions.
    pub state: State,
    /// Says under which name they are kept: replicas on other machines have other logs.
    pub place: String,
    /// Which accounts are ours.
    pub snapshot: Arc<ArcSwap<Snapshot>>,
    /// Understands what a provider said.
    pub understand: Arc<Understand>,
    /// The keeper's ear.
    pub keeper: mpsc::Sender<Input>,
    /// Counts.
    pub metrics: Metrics,
    /// Where the posts are shown.
    pub gauges: Arc<Gauges>,
    /// The publisher's tables.
    pub store: Arc<AnyStore>,
    /// What time it is.
    pub clock: crate::clock::Clock,
}

impl Observer {
    /// Observes until `stop`.
    #[must_use]
    pub fn start(self, settings: Settings, stop: &watch::Receiver<bool>) -> Vec<JoinHandle<()>> {
        let mut tasks = Vec::new();
        for log in settings.logs {
            tasks.push(tokio::spawn(logs::follow(self.clone(), log, stop.clone())));
        }
        if let Some(query) = settings.query {
            tasks.push(tokio::spawn(query::ask(self.clone(), query, stop.clone())));
        }
        if let Some(posts) = settings.posts {
            tasks.push(tokio::spawn(posts::count(self.clone(), posts, stop.clone())));
        }
        if let Some(every) = settings.probe {
            tasks.push(tokio::spawn(probe::wonder(self, every, stop.clone())));
        }
        tasks
    }

    /// Returns when the accounts are known, and some of them are ours; false when everything is to end before.
    async fn knows_the_accounts(&self, stop: &mut watch::Receiver<bool>) -> bool {
        let knows = |snapshot: &Snapshot| snapshot.loaded && snapshot.holding != Shares::NONE;
        while !knows(&self.snapshot.load()) {
            if !goes_on_after(LOOK_EVERY, stop).await {
                return false;
            }
        }
        true
    }

    /// What is remembered under this name, as soon as our state can be read; `None` when everything is to end
    /// before.
    async fn remembered(
        &self,
        name: &str,
        stop: &mut watch::Receiver<bool>,
    ) -> Option<Option<String>> {
        loop {
            match self.state.position_of(name).await {
                Ok(position) => return Some(position),
                Err(error) => tracing::warn!(%error, "what was observed before is not known yet"),
            }
            if !goes_on_after(STATE_AGAIN_AFTER, stop).await {
                return None;
            }
        }
    }

    /// The name under which a position is kept.
    fn key(&self, kind: &str, name: &str) -> String {
        format!("{kind} {name} {}", self.place).trim_end().to_owned()
    }
}

/// Looks whether the questions can be asked, and what their answers would have; reads nothing. For `check`.
pub async fn examine(
    settings: &Settings,
    store: &AnyStore,
) -> Vec<(&'static str, Result<String, String>)> {
    let mut found = Vec::new();
    if let Some(query) = &settings.query {
        let columns = query::prepare(store, query).await;
        found.push(("observe.query", columns.map(said).map_err(|error| error.to_string())));
    }
    if let Some(posts) = &settings.posts {
        let columns = posts::prepare(store, posts).await;
        found.push(("observe.posts", columns.map(said).map_err(|error| error.to_string())));
    }
    found
}

fn said(columns: Vec<&'static str>) -> String {
    format!("it can be asked, and answers with {}", columns.join(", "))
}

/// Waits; false when everything is to end.
async fn goes_on_after(pause: Duration, stop: &mut watch::Receiver<bool>) -> bool {
    tokio::select! {
        () = tokio::time::sleep(pause) => true,
        _ = stop.wait_for(|stop| *stop) => false,
    }
}

/// Most logs that are followed.
pub const LOGS_MAX: usize = 16;

/// How often it is looked whether the store has been read.
const LOOK_EVERY: Duration = Duration::from_millis(100);

/// How long our state is left alone when it did not answer.
const STATE_AGAIN_AFTER: Duration = Duration::from_secs(1);
