//! Writes down what the fleet decided must outlive the process: notices, memories, histories, marks.
//!
//! Notices go first: a notice is owed before it is remembered as told. While the state cannot be written
//! the clerk holds what it has and tries again; the fleet spends nothing meanwhile.

use crate::{
    core::{
        AccountId, AppMemory, Event, Farewell, History, Memory, Recipient,
        fleet::Input,
        notices::{Audience, Change, Notice, Subject},
    },
    delivery,
    report::Reporter,
    state::State,
    stores::{self, Status, TokenStore},
};
use std::{collections::BTreeMap, sync::Arc, time::Duration};
use tokio::{
    sync::{Notify, mpsc, oneshot, watch},
    time::timeout,
};

/// What one round of the keeper left to be written, in this order.
#[derive(Debug, Default)]
pub struct Round {
    /// Into the outbox.
    pub notices: Vec<Notice>,
    /// What providers said of apps.
    pub apps: Vec<AppMemory>,
    /// Into the account memory.
    pub memories: Vec<Memory>,
    /// Beside it, for people; not worth insisting on.
    pub histories: Vec<(AccountId, Arc<History>)>,
    /// Out of both.
    pub forgotten: Vec<Farewell>,
    /// Into the publisher's status column, before the memories: connected, or in need of its owner.
    pub marks: Vec<(AccountId, bool)>,
    /// Told when all of this, and everything before it, is written.
    pub written: Option<oneshot::Sender<()>>,
}

impl Round {
    /// True when there is nothing to write.
    #[must_use]
    pub const fn is_empty(&self) -> bool {
        self.notices.is_empty()
            && self.apps.is_empty()
            && self.memories.is_empty()
            && self.histories.is_empty()
            && self.forgotten.is_empty()
            && self.marks.is_empty()
            && self.written.is_none()
    }
}

/// The writer.
pub struct Clerk<S> {
    /// Where it writes.
    pub state: State,
    /// Where owners and status columns are.
    pub store: Arc<S>,
    /// Who gets mail; replaced when the configuration changes.
    pub delivery: watch::Receiver<Arc<delivery::Settings>>,
    /// Told of notices.
    pub reporter: Reporter,
    /// Woken when a mail is owed.
    pub mail_owed: Arc<Notify>,
    /// Woken when a request to a webhook may be.
    pub request_owed: Arc<Notify>,
    /// The keeper's ear, for trouble with the state.
    pub inputs: mpsc::Sender<Input>,
}

/// How long to wait before writing to a state in trouble again.
const TRY_AGAIN_AFTER: Duration = Duration::from_secs(2);

/// How long the publisher's status column may wait for a store that did not take it, when nothing else is to be
/// written.
const MARK_AGAIN_AFTER: Duration = Duration::from_secs(15);

/// How often to try when nobody listens any more, before what is left is given up. In all: with a notice
/// for each of a thousand accounts the program would not end for hours.
const LAST_TRIES_MAX: u32 = 5;

impl<S: TokenStore> Clerk<S> {
    /// Writes rounds until the keeper has gone.
    pub async fn run(self, mut rounds: mpsc::Receiver<Round>) {
        let mut last_tries = LAST_TRIES_MAX;
        let mut unmarked = BTreeMap::new();
        loop {
            let mut round = match timeout(MARK_AGAIN_AFTER, rounds.recv()).await {
                Ok(Some(round)) => round,
                Ok(None) => return,
                Err(_) => {
                    self.mark(&mut unmarked).await;
                    continue;
                }
            };
            for notice in round.notices {
                self.owe(notice, &rounds, &mut last_tries).await;
            }
            // Before the memory: of a mark that was not written nobody would know after a restart.
            unmarked.extend(round.marks);
            self.mark(&mut unmarked).await;
            if !round.apps.is_empty() {
                let apps = &round.apps;
                let write = || self.state.remember_apps(apps.clone());
                self.insist(&rounds, &mut last_tries, write).await;
            }
            // Before the memory: whoever came back in the same round is to be remembered.
            if !round.forgotten.is_empty() {
                let forgotten = &round.forgotten;
                let write = || self.state.forget(forgotten.clone());
                self.insist(&rounds, &mut last_tries, write).await;
            }
            remember_what_stands(&mut round.memories, &unmarked);
            // Side by side, so that they share a commit.
            tokio::join!(
                self.remember(&round.memories, &rounds, &mut last_tries),
                self.keep(&round.histories),
            );
            if let Some(written) = round.written {
                let _ = written.send(());
            }
        }
    }

    /// Writes the publisher's status column. What a store that is out of reach did not take is tried again: the
    /// newest of each account.
    async fn mark(&self, unmarked: &mut BTreeMap<AccountId, bool>) {
        while let Some((id, connected)) = unmarked.pop_first() {
            let status = if connected { Status::Connected } else { Status::NeedsReconnect };
            if let Err(error) = self.store.mark(&id, status).await {
                tracing::warn!(account = %id, %error, "the publisher's status column was not written");
                if let stores::Error::Unavailable { .. } = error {
                    unmarked.insert(id, connected);
                    return;
                }
            }
        }
    }

    async fn owe(&self, notice: Notice, rounds: &mpsc::Receiver<Round>, last_tries: &mut u32) {
        let news = match notice.change {
            Change::Firing => {
                let to = self.recipients(&notice).await;
                self.insist(rounds, last_tries, || self.state.fire(&notice, to.clone())).await
            }
            Change::Reminder => {
                self.insist(rounds, last_tries, || self.state.remind(&notice)).await
            }
            Change::Resolved | Change::Withdrawn => {
                self.insist(rounds, last_tries, || self.state.resolve(&notice)).await
            }
        };
        if news == Some(true) {
            self.reporter.report(Event::NoticeOwed { notice: Arc::new(notice) });
            self.mail_owed.notify_one();
            self.request_owed.notify_one();
        }
    }

    async fn remember(
        &self,
        memories: &[Memory],
        rounds: &mpsc::Receiver<Round>,
        last_tries: &mut u32,
    ) {
        if !memories.is_empty() {
            self.insist(rounds, last_tries, || self.state.remember(memories.to_vec())).await;
        }
    }

    /// Once. The next thing that happens to these accounts writes all of it again.
    async fn keep(&self, histories: &[(AccountId, Arc<History>)]) {
        if histories.is_empty() {
            return;
        }
        if let Err(error) = self.state.keep_histories(histories).await {
            let accounts = histories.len();
            tracing::warn!(accounts, %error, "what happened to accounts was not written down");
        }
    }

    async fn recipients(&self, notice: &Notice) -> Vec<Recipient> {
        let settings = Arc::clone(&self.delivery.borrow());
        let stored_owner = match (&notice.subject, notice.audience) {
            // A store that cannot be read must not keep a notice from going out to somebody.
            (Subject::Account(id), Audience::Owner) => {
                self.store.get(id).await.ok().flatten().and_then(|stored| stored.owner)
            }
            _ => None,
        };
        delivery::recipients(notice, &settings, stored_owner)
    }

    /// Tries until it is written. `None` when the keeper has gone and it still cannot be.
    async fn insist<R, F>(
        &self,
        rounds: &mpsc::Receiver<Round>,
        last_tries: &mut u32,
        write: impl Fn() -> F,
    ) -> Option<R>
    where
        F: Future<Output = Result<R, crate::state::Error>>,
    {
        loop {
            match write().await {
                Ok(done) => return Some(done),
                Err(error) => {
                    // A full ear is no matter: the next failure tells it again.
                    let _ = self.inputs.try_send(Input::State { up: false });
                    if rounds.is_closed() {
                        *last_tries = last_tries.saturating_sub(1);
                        if *last_tries == 0 {
                            tracing::error!(
                                %error, "lost at the end, because our state cannot be written"
                            );
                            return None;
                        }
                    }
                    tracing::warn!(%error, "our state cannot be written, trying again");
                    tokio::time::sleep(TRY_AGAIN_AFTER).await;
                }
            }
        }
    }
}

/// While the store has not taken a mark, the column says the opposite: whoever starts after a kill must know that.
fn remember_what_stands(memories: &mut [Memory], unmarked: &BTreeMap<AccountId, bool>) {
    for memory in memories {
        if let (Some(door), Some(connected)) = (&mut memory.door, unmarked.get(&memory.id)) {
            door.marked = *connected;
        }
    }
}
