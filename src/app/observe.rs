//! What the observers of logs and tables need.

use super::understanding;
use crate::{
    config::Settings,
    core::{Snapshot, fleet::Input},
    http_client::HttpClient,
    metrics::{Metrics, fleet::Gauges},
    observe::Observer,
    refresh::Refresher,
    stores::AnyStore,
};
use arc_swap::ArcSwap;
use std::sync::Arc;
use tokio::{
    sync::{mpsc, watch},
    task::JoinHandle,
};

/// Begins to observe whatever the configuration names.
pub(super) fn start(
    settings: &Settings,
    refresher: &Arc<Refresher<AnyStore, ArcSwap<HttpClient>>>,
    snapshot: &Arc<ArcSwap<Snapshot>>,
    keeper: &mpsc::Sender<Input>,
    metrics: &Metrics,
    gauges: &Arc<Gauges>,
    stop: &watch::Receiver<bool>,
) -> Vec<JoinHandle<()>> {
    let observer = Observer {
        state: refresher.state.clone(),
        place: place(settings),
        snapshot: Arc::clone(snapshot),
        understand: understanding(refresher),
        keeper: keeper.clone(),
        metrics: metrics.clone(),
        gauges: Arc::clone(gauges),
        store: Arc::clone(&refresher.store),
        clock: refresher.clock.clone(),
    };
    observer.start(settings.observe.clone(), stop)
}

/// Whose positions these are: those of one machine where the state is one file, otherwise of this replica.
fn place(settings: &Settings) -> String {
    match settings.state.postgres {
        // The port that is configured: the one that is bound may differ from start to start.
        Some(_) => super::replica_name(settings.server.listen),
        None => String::new(),
    }
}
