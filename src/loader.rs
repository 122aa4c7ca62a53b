//! Reads the publisher's store, at the start and whenever it may have changed, and tells the keeper.
//!
//! Tokens are fingerprinted as they come by and dropped; nothing here keeps one.

use crate::{
    core::{
        AccountId, Event,
        fleet::{Input, Seen},
    },
    refresh::{Refresher, Transport, app_of},
    stores::TokenStore,
};
use std::{collections::BTreeSet, sync::Arc, time::Duration};
use tokio::{
    sync::{Notify, mpsc, watch},
    time::Instant,
};

/// Accounts that go to the keeper at a time.
const BATCH_ACCOUNTS_MAX: usize = 512;

/// Damaged rows that are named; the rest is only counted.
const DAMAGED_NAMED_MAX: usize = 20;

/// Shortest time between the ends of two passes.
const PASS_EVERY_MIN: Duration = Duration::from_secs(1);

/// Longest time between two passes.
const PASS_EVERY_MAX: Duration = Duration::from_secs(600);

/// The share of the time that may go into reading: a pass of a second is followed by a pause of 19.
const PAUSE_PER_PASS: u32 = 19;

/// How long to wait after a pass that failed.
const AFTER_FAILURE: Duration = Duration::from_secs(5);

/// Reads until `stop`. `again` asks for a pass at once, for example after a reload.
pub async fn run<S: TokenStore, T: Transport>(
    refresher: Arc<Refresher<S, T>>,
    keeper: mpsc::Sender<Input>,
    again: Arc<Notify>,
    mut stop: watch::Receiver<bool>,
) {
    let mut named = BTreeSet::new();
    loop {
        let began = Instant::now();
        let worked = pass(&refresher, &keeper, &mut named).await;
        let pause = if worked {
            (began.elapsed() * PAUSE_PER_PASS).max(PASS_EVERY_MIN)
        } else {
            AFTER_FAILURE
        };
        // In this order each time, so that the same run is the same again.
        tokio::select! {
            biased;
            _ = stop.wait_for(|stop| *stop) => return,
            () = again.notified() => continue,
            () = tokio::time::sleep(pause) => {}
        }
        if !worked {
            continue;
        }
        tokio::select! {
            biased;
            _ = stop.wait_for(|stop| *stop) => return,
            () = again.notified() => {}
            // A store that says nothing for long is read all the same: it may have gone away.
            _ = tokio::time::timeout(PASS_EVERY_MAX, refresher.store.changed()) => {}
        }
    }
}

/// One pass over the store. False when it could not be read: what was seen until then counts, and nobody is
/// taken for gone.
async fn pass<S: TokenStore, T: Transport>(
    refresher: &Refresher<S, T>,
    keeper: &mpsc::Sender<Input>,
    named: &mut BTreeSet<String>,
) -> bool {
    let apps = refresher.apps.load_full();
    let _ = keeper.send(Input::LoadBegan).await;
    let mut homeless = Vec::new();
    let mut damaged = Vec::new();
    let mut batch = Vec::with_capacity(BATCH_ACCOUNTS_MAX);
    // The store hands accounts over without waiting, so what a slow keeper has not taken is kept here:
    // fingerprints, a hundred bytes an account, and never more than the store has accounts.
    let (full, mut filled) = mpsc::unbounded_channel();
    let reading = async {
        let each = |stored: crate::stores::StoredAccount| {
            if !stored.enabled {
                return;
            }
            let Some(app) = app_of(&apps, &stored) else {
                homeless.push(stored.id);
                return;
            };
            let token = stored.token.as_ref().map(|token| refresher.facts(app, token));
            batch.push(Seen { id: stored.id, app: Arc::clone(&app.name), token });
            if batch.len() >= BATCH_ACCOUNTS_MAX {
                let next = Vec::with_capacity(BATCH_ACCOUNTS_MAX);
                let _ = full.send(std::mem::replace(&mut batch, next));
            }
        };
        let loaded = refresher.store.load(each, |error| damaged.push(error.to_string())).await;
        let _ = full.send(batch);
        drop(full);
        loaded
    };
    let passing_on = async {
        while let Some(batch) = filled.recv().await {
            let _ = keeper.send(Input::Seen(batch)).await;
        }
    };
    // Together, so that a million accounts are not all in memory before the first is looked at.
    let (loaded, ()) = tokio::join!(reading, passing_on);
    if let Err(error) = loaded {
        tracing::warn!("the token store was not read: {error}");
        let _ = keeper.send(Input::Store { up: false }).await;
        return false;
    }
    damaged.extend(homeless.iter().map(no_app));
    name_new(refresher, &damaged, named);
    let _ = keeper.send(Input::LoadEnded { damaged: damaged.len() }).await;
    true
}

fn no_app(id: &AccountId) -> String {
    format!(
        "{id}: no app of this provider is configured for it; add one under `apps`, or name it in the store's app column"
    )
}

/// Each damaged row is named once, not with every pass.
fn name_new<S: TokenStore, T: Transport>(
    refresher: &Refresher<S, T>,
    damaged: &[String],
    named: &mut BTreeSet<String>,
) {
    named.retain(|place| damaged.contains(place));
    for place in damaged.iter().take(DAMAGED_NAMED_MAX) {
        if named.insert(place.clone()) {
            refresher.reporter.report(Event::StoreRowDamaged { place: place.clone() });
        }
    }
}
