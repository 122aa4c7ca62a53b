//! What the observers of logs and tables need.

use super::publisher::understanding;
use crate::{
    core::{Snapshot, fleet::Input},
    http_client::HttpClient,
    metrics::{Metrics, fleet::Gauges},
    observe::Observer,
    refresh::Refresher,
    stores::AnyStore,
};
use arc_swap::ArcSwap;
use std::sync::Arc;
use tokio::sync::mpsc;

/// One that has not begun. `place` says whose positions it remembers.
pub(super) fn observer(
    refresher: &Arc<Refresher<AnyStore, ArcSwap<HttpClient>>>,
    place: String,
    snapshot: &Arc<ArcSwap<Snapshot>>,
    keeper: &mpsc::Sender<Input>,
    metrics: &Metrics,
    gauges: &Arc<Gauges>,
) -> Observer {
    Observer {
        state: refresher.state.clone(),
        place,
        snapshot: Arc::clone(snapshot),
        understand: understanding(refresher),
        keeper: keeper.clone(),
        metrics: metrics.clone(),
        gauges: Arc::clone(gauges),
        store: Arc::clone(&refresher.store),
        clock: refresher.clock.clone(),
    }
}
