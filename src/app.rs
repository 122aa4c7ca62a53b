//! Wires the parts together; the only place besides `cli` that knows all of them.

use crate::core::{Event, Snapshot};
use arc_swap::ArcSwap;
use std::{net::SocketAddr, path::Path, sync::Arc};
use tokio::sync::broadcast;

/// A sidecar that is running in this process.
pub struct Running {
    /// What everybody may see; swapped whole after each round of the keeper.
    pub snapshot: Arc<ArcSwap<Snapshot>>,
    /// Everything that happens from now on. A reader that is slower than the writer misses some.
    pub events: broadcast::Sender<Event>,
    /// Where telemetry and status page are, with the port that was really bound.
    pub telemetry: SocketAddr,
    /// Where the publisher's reports go, if they are switched on.
    pub reports: Option<SocketAddr>,
}

impl Running {
    /// Asks everything to end: no refresh is begun, calls in flight are answered and saved, then the
    /// listeners close. Returns when that is done.
    pub async fn stop(self) {
        unimplemented!()
    }
}

/// Starts the sidecar with the configuration file at `config`.
///
/// # Errors
/// A sentence for the person who started it.
pub async fn start(config: &Path) -> Result<Running, String> {
    let _ = config;
    unimplemented!()
}
