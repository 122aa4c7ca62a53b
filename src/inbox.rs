//! Writes down what was announced of accounts, finds out whose accounts those are, and tells the keeper.
//!
//! Every replica reads what any of them was told, since the one that has the account need not be the one that
//! heard of it. What is kept is told again after a restart and to whoever gets the account; hearing it twice
//! changes nothing. Absent on purpose: what follows from it, which is the fleet's.

use crate::{
    core::{
        AccountId, Announcement, Order, Said, Shares, Snapshot, Timestamp, Whose, fleet::Input,
    },
    refresh::{Apps, Refresher, Transport, app_of},
    server::webhooks::Delivery,
    state::{Heard, INBOX_KEPT_FOR, INBOX_MESSAGES_MAX},
    stores::{StoredAccount, TokenStore},
};
use arc_swap::ArcSwap;
use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
    time::Duration,
};
use tokio::{
    sync::{Notify, mpsc, watch},
    time::{Instant, sleep, timeout},
};

/// What was announced, and who has to hear it.
pub struct Inbox<S, T> {
    refresher: Arc<Refresher<S, T>>,
    /// Which accounts are ours now.
    snapshot: Arc<ArcSwap<Snapshot>>,
    /// The keeper's ear.
    keeper: mpsc::Sender<Input>,
    /// Makes the loader read the store.
    load_again: Arc<Notify>,
    /// By position: everything that is kept.
    letters: BTreeMap<i64, Letter>,
    /// The keys of these, so that a message that is repeated costs no write.
    keys: BTreeSet<Arc<str>>,
    /// The last position that was read. What is kept may all be older than what is remembered of it here.
    read_to: i64,
    /// What was ours when the letters were last told.
    held: Shares,
    /// The store is not searched again before this.
    search_from: Option<Instant>,
}

/// One announcement on its way.
struct Letter {
    announcement: Announcement,
    /// The accounts that it is about; `None` until the store was searched for them.
    ids: Option<Vec<AccountId>>,
    /// Those that the keeper was told about.
    told: BTreeSet<AccountId>,
}

impl<S: TokenStore, T: Transport> Inbox<S, T> {
    /// An inbox that has read nothing yet.
    #[must_use]
    pub const fn new(
        refresher: Arc<Refresher<S, T>>,
        snapshot: Arc<ArcSwap<Snapshot>>,
        keeper: mpsc::Sender<Input>,
        load_again: Arc<Notify>,
    ) -> Self {
        Self {
            refresher,
            snapshot,
            keeper,
            load_again,
            letters: BTreeMap::new(),
            keys: BTreeSet::new(),
            read_to: 0,
            held: Shares::NONE,
            search_from: None,
        }
    }

    /// Runs until `stop`.
    pub async fn run(
        mut self,
        mut deliveries: mpsc::Receiver<Delivery>,
        mut stop: watch::Receiver<bool>,
    ) {
        loop {
            self.read().await;
            self.search().await;
            self.tell().await;
            let first = tokio::select! {
                biased;
                _ = stop.wait_for(|stop| *stop) => return,
                Some(delivery) = deliveries.recv() => Some(delivery),
                () = sleep(LOOK_EVERY) => None,
            };
            let mut next = first;
            for _ in 0..DELIVERIES_AT_ONCE_MAX {
                let Some(delivery) = next else { break };
                self.take_in(delivery).await;
                next = deliveries.try_recv().ok();
            }
            if let Some(delivery) = next {
                self.take_in(delivery).await;
            }
        }
    }

    /// Writes it down, and answers when that is done. Where it cannot be, nothing is answered.
    async fn take_in(&self, (announcement, answer): Delivery) {
        if self.keys.contains(&announcement.key) {
            let _ = answer.send(false);
            return;
        }
        match timeout(WRITTEN_WITHIN, self.refresher.state.take_in(&announcement)).await {
            Ok(Ok(is_new)) => {
                // Whoever asked may have gone; then it is sent again, and known.
                let _ = answer.send(is_new);
            }
            Ok(Err(error)) => tracing::warn!(%error, "an announcement is not written down"),
            Err(_) => tracing::warn!("an announcement is not written down in time"),
        }
    }

    /// Reads what is new, also from other replicas.
    async fn read(&mut self) {
        let heard = match self.refresher.state.heard_after(self.read_to - OVERLAP).await {
            Ok(heard) => heard,
            Err(error) => {
                tracing::debug!(%error, "what was announced cannot be read");
                return;
            }
        };
        for Heard { position, announcement } in heard {
            self.read_to = self.read_to.max(position);
            if self.letters.contains_key(&position) {
                continue;
            }
            let ids = match &announcement.whose {
                Whose::Account(id) => Some(vec![id.clone()]),
                Whose::Subject { .. } => None,
            };
            self.keys.insert(Arc::clone(&announcement.key));
            self.letters.insert(position, Letter { announcement, ids, told: BTreeSet::new() });
        }
        self.forget_old();
    }

    fn forget_old(&mut self) {
        let until = self.refresher.clock.now().minus(INBOX_KEPT_FOR);
        while let Some(first) = self.letters.first_entry() {
            let is_old = first.get().announcement.heard_at <= until;
            if !is_old && self.letters.len() <= INBOX_MESSAGES_MAX {
                return;
            }
            if let Some((_, letter)) = self.letters.pop_first() {
                self.keys.remove(&letter.announcement.key);
            }
        }
    }

    /// Finds the accounts of those that name somebody at the provider, all in one pass over the store.
    async fn search(&mut self) {
        let wanted: BTreeSet<Whose> = self
            .letters
            .values()
            .filter(|letter| letter.ids.is_none())
            .map(|letter| letter.announcement.whose.clone())
            .collect();
        if wanted.is_empty() || self.search_from.is_some_and(|from| Instant::now() < from) {
            return;
        }
        let apps = self.refresher.apps.load_full();
        let mut found: BTreeMap<Whose, Vec<AccountId>> = BTreeMap::new();
        let each = |stored: StoredAccount| {
            for whose in names_of(&apps, &stored) {
                if wanted.contains(&whose) {
                    found.entry(whose).or_default().push(stored.id.clone());
                }
            }
        };
        let began = Instant::now();
        let loaded = self.refresher.store.load(each, |_| {}).await;
        let pause = (began.elapsed() * PAUSE_PER_SEARCH).max(SEARCH_EVERY_MIN);
        self.search_from = Some(Instant::now() + pause);
        if let Err(error) = loaded {
            tracing::warn!(%error, "announcements wait, because the token store was not read");
            return;
        }
        for letter in
            self.letters.values_mut().filter(|letter| wanted.contains(&letter.announcement.whose))
        {
            let ids = found.get(&letter.announcement.whose).cloned().unwrap_or_default();
            if let (true, Whose::Subject { app, .. }) = (ids.is_empty(), &letter.announcement.whose)
            {
                tracing::info!(app = %app, "something was announced of an account that is not in the store");
            }
            letter.ids = Some(ids);
        }
    }

    /// Tells the keeper of those accounts that are ours.
    async fn tell(&mut self) {
        let snapshot = self.snapshot.load_full();
        if !snapshot.loaded {
            return;
        }
        if snapshot.holding != self.held {
            // Whoever had an account meanwhile may not have come to it.
            self.held = snapshot.holding;
            self.letters.values_mut().for_each(|letter| letter.told.clear());
        }
        let now = self.refresher.clock.now();
        for (position, letter) in &mut self.letters {
            let ids = letter.ids.as_deref().unwrap_or_default();
            let news: Vec<AccountId> = ids
                .iter()
                .filter(|id| !letter.told.contains(*id) && snapshot.accounts.find(id).is_some())
                .cloned()
                .collect();
            for id in news {
                letter.told.insert(id.clone());
                let input = match &letter.announcement.said {
                    Said::Evidence(evidence) => Input::Announced { id, evidence: evidence.clone() },
                    Said::Order(order) if is_over(now, &letter.announcement, order) => continue,
                    Said::Order(order) => {
                        Input::Told { id, order: order.clone(), position: *position }
                    }
                    Said::Connected => {
                        // What was connected long ago has been read since.
                        if now.since(letter.announcement.heard_at) < RECONNECTED_FOR {
                            self.load_again.notify_one();
                        }
                        continue;
                    }
                };
                if self.keeper.send(input).await.is_err() {
                    return;
                }
            }
        }
    }
}

/// A hold is meant until it is taken back. The others are meant for now: who finds them much later, after a stop, does
/// not spend a refresh on them.
fn is_over(now: Timestamp, announcement: &Announcement, order: &Order) -> bool {
    match order {
        Order::Hold | Order::Resume => false,
        Order::Prove | Order::Refresh | Order::Published { .. } => {
            now.since(announcement.heard_at) >= ORDER_GOOD_FOR
        }
    }
}

/// What somebody at a provider may be called who is this account of ours: by the subject column, or by the
/// account's own key in a store that has none.
fn names_of(apps: &Apps, stored: &StoredAccount) -> Vec<Whose> {
    let Some(app) = app_of(apps, stored).filter(|_| stored.enabled) else { return Vec::new() };
    let subject = stored.token.as_ref().and_then(|token| token.subject.as_deref());
    let subject = subject.unwrap_or(&stored.id.account);
    vec![Whose::Subject { app: Arc::clone(&app.name), subject: subject.into() }]
}

/// How often it is looked whether another replica was told something.
const LOOK_EVERY: Duration = Duration::from_millis(500);

/// Deliveries that are written down before they are told.
const DELIVERIES_AT_ONCE_MAX: usize = 64;

/// How long writing one down may take.
const WRITTEN_WITHIN: Duration = Duration::from_secs(5);

/// Positions that are read again: replicas write side by side, and a lower one may be seen later.
const OVERLAP: i64 = 256;

/// Shortest time between two searches of the store.
const SEARCH_EVERY_MIN: Duration = Duration::from_secs(1);

/// The share of the time that may go into searching.
const PAUSE_PER_SEARCH: u32 = 19;

/// For how long what somebody wanted now is done.
const ORDER_GOOD_FOR: Duration = Duration::from_secs(600);

/// For how long an account that was connected again is a reason to read the store.
const RECONNECTED_FOR: Duration = Duration::from_secs(600);
