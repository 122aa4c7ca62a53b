//! What only the state knows: numbers for the next scrape, and whether it can be written at all.

use crate::{
    core::{fleet::Input, notices::Way},
    delivery,
    metrics::fleet::Gauges,
    refresh::{Refresher, Transport},
    state::State,
    stores::TokenStore,
};
use std::{
    sync::{Arc, atomic::Ordering},
    time::Duration,
};
use tokio::{
    sync::{mpsc, watch},
    time::Instant,
};

/// Keeps the numbers fresh until `stop` holds true, and tells the keeper of a state that takes no writes.
pub(super) async fn run<S: TokenStore, T: Transport>(
    refresher: Arc<Refresher<S, T>>,
    gauges: Arc<Gauges>,
    delivery: watch::Receiver<Arc<delivery::Settings>>,
    keeper: mpsc::Sender<Input>,
    mut stop: watch::Receiver<bool>,
) {
    let state = &refresher.state;
    let mut quiet = Quiet::new(state);
    loop {
        gauges.spilled_tokens.store(refresher.held.spilled() as u64, Ordering::Relaxed);
        // While the state cannot be read the last numbers stay; `state_up` says so.
        if let Ok(entries) = state.journal_len().await {
            gauges.journal_entries.store(entries as u64, Ordering::Relaxed);
        }
        if let Ok((owed, held)) = state.outbox(Way::Mail).await {
            // With mail switched off nothing is on its way, and nothing can be late.
            let owed = if delivery.borrow().smtp.is_some() { owed } else { 0 };
            gauges.outbox_length.store(owed as u64, Ordering::Relaxed);
            if let Ok((_, of_webhooks)) = state.outbox(Way::Webhook).await {
                gauges.outbox_held.store((held + of_webhooks) as u64, Ordering::Relaxed);
            }
        }
        if quiet.is_long(state) && state.probe().await.is_err() {
            let _ = keeper.try_send(Input::State { up: false });
        }
        tokio::select! {
            () = tokio::time::sleep(EVERY) => {}
            _ = stop.wait_for(|stop| *stop) => return,
        }
    }
}

/// How long nothing has been written. Whoever writes learns that it fails; in a fleet where nothing is due for hours
/// nobody would, and publishers would be told of gates that no order can move any more.
struct Quiet {
    commits: u64,
    since: Instant,
}

impl Quiet {
    fn new(state: &State) -> Self {
        Self { commits: state.commits(), since: Instant::now() }
    }

    /// True when it has been for long; counted anew from then.
    fn is_long(&mut self, state: &State) -> bool {
        let commits = state.commits();
        let is_long = commits == self.commits && self.since.elapsed() >= TRIED_AFTER;
        if commits != self.commits || is_long {
            *self = Self { commits, since: Instant::now() };
        }
        is_long
    }
}

/// How often the state is asked for its numbers.
const EVERY: Duration = Duration::from_secs(2);

/// How long nothing is written before it is tried whether it could be.
const TRIED_AFTER: Duration = Duration::from_secs(10);
