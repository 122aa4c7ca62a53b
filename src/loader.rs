//! Reads the publisher's store, at the start and whenever it may have changed, and tells the keeper.
//!
//! Tokens are fingerprinted as they come by and dropped; nothing here keeps one.

use crate::{
    core::{
        AccountId, Event,
        fleet::{Input, Seen},
    },
    refresh::{Refresher, Transport, app_of},
    stores::{self, StoredAccount, TokenStore},
};
use std::{collections::BTreeSet, sync::Arc, time::Duration};
use tokio::{
    sync::{Notify, mpsc, watch},
    time::Instant,
};

/// Accounts that go to the keeper at a time.
const BATCH_ACCOUNTS_MAX: usize = 512;

/// Damaged rows, and accounts without an app, that are named; the rest is only counted.
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
        let pause = if worked { pause_after(began.elapsed()) } else { AFTER_FAILURE };
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

/// A process that was stopped in the middle of a pass would pause for hours after it.
fn pause_after(pass: Duration) -> Duration {
    (pass * PAUSE_PER_PASS).clamp(PASS_EVERY_MIN, PASS_EVERY_MAX)
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
    let (mut homeless, mut damaged) = (Faults::default(), Faults::default());
    // The store hands accounts over without waiting, so what a slow keeper has not taken is kept here:
    // fingerprints, a hundred bytes an account, and never more than the store has accounts.
    let (full, mut filled) = mpsc::unbounded_channel();
    let mut seen = Batch::new(full.clone(), Input::Seen);
    let mut unreadable = Batch::new(full, Input::Unreadable);
    let reading = async {
        let each = |stored: StoredAccount| {
            if !stored.enabled {
                return;
            }
            let Some(app) = app_of(&apps, &stored) else {
                homeless.add(|| no_app(&stored.id));
                return;
            };
            let token = stored.token.as_ref().map(|token| refresher.facts(app, token));
            seen.push(Seen { id: stored.id, app: Arc::clone(&app.name), token });
        };
        let broken = |error: stores::Error| {
            damaged.add(|| error.to_string());
            if let Some(id) = error.account() {
                unreadable.push(id.clone());
            }
        };
        let loaded = refresher.store.load(each, broken).await;
        seen.send();
        unreadable.send();
        drop((seen, unreadable));
        loaded
    };
    let passing_on = async {
        while let Some(batch) = filled.recv().await {
            let _ = keeper.send(batch).await;
        }
    };
    // Together, so that a million accounts are not all in memory before the first is looked at.
    let (loaded, ()) = tokio::join!(reading, passing_on);
    if let Err(error) = loaded {
        tracing::warn!(%error, "the token store was not read");
        let _ = keeper.send(Input::Store { up: false }).await;
        return false;
    }
    let count = homeless.count + damaged.count;
    name_new(refresher, damaged.named.into_iter().chain(homeless.named).collect(), named);
    let _ = keeper.send(Input::LoadEnded { damaged: count }).await;
    true
}

/// What goes to the keeper in pieces.
struct Batch<T> {
    full: mpsc::UnboundedSender<Input>,
    make: fn(Vec<T>) -> Input,
    items: Vec<T>,
}

impl<T> Batch<T> {
    const fn new(full: mpsc::UnboundedSender<Input>, make: fn(Vec<T>) -> Input) -> Self {
        Self { full, make, items: Vec::new() }
    }

    fn push(&mut self, item: T) {
        self.items.push(item);
        if self.items.len() >= BATCH_ACCOUNTS_MAX {
            self.send();
        }
    }

    fn send(&mut self) {
        if !self.items.is_empty() {
            let _ = self.full.send((self.make)(std::mem::take(&mut self.items)));
        }
    }
}

/// What is wrong with rows: all are counted, a few are named.
#[derive(Default)]
struct Faults {
    count: usize,
    named: Vec<String>,
}

impl Faults {
    fn add(&mut self, place: impl FnOnce() -> String) {
        self.count += 1;
        if self.named.len() < DAMAGED_NAMED_MAX {
            self.named.push(place());
        }
    }
}

fn no_app(id: &AccountId) -> String {
    format!(
        "{id}: no app of this provider is configured for it; add one under `apps`, or name it in the store's app column"
    )
}

/// Each damaged row is named once, not with every pass.
fn name_new<S: TokenStore, T: Transport>(
    refresher: &Refresher<S, T>,
    damaged: Vec<String>,
    named: &mut BTreeSet<String>,
) {
    named.retain(|place| damaged.contains(place));
    for place in damaged {
        if named.insert(place.clone()) {
            refresher.reporter.report(Event::StoreRowDamaged { place });
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_pause_after_a_pass_is_neither_nothing_nor_hours() {
        let seconds = Duration::from_secs;
        for (pass, pause) in [
            (Duration::ZERO, PASS_EVERY_MIN),
            (seconds(2), seconds(38)),
            (seconds(240), PASS_EVERY_MAX),
        ] {
            assert_eq!(pause_after(pass), pause, "after a pass of {pass:?}");
        }
    }
}
