//! Shares the accounts with other replicas on the same state.
//!
//! A sign of life goes to the state every third of a lease and brings back which shares are ours. The keeper
//! is told of less at once, and of more only after what others left about it was read. What we hold ends on
//! our own clock, counted from before the call, earlier than anybody else may take it: a replica that cannot
//! reach the state stops by itself. Who is alive and who gets what, the state's database decides.

use crate::{
    clerk::Round,
    core::{
        AccountId, Cause, History, Memory, Shares, Snapshot, Timestamp,
        fleet::{Input, Reopened},
        shares::SHARES,
    },
    oauth::Token,
    refresh::{Refresher, Transport, app_of, is_anothers},
    state::{self, Beat, Counts, Held, OpenEntry},
    stores::TokenStore,
};
use arc_swap::ArcSwap;
use std::{collections::BTreeMap, sync::Arc, time::Duration};
use tokio::{
    sync::{Notify, mpsc, oneshot, watch},
    time::{Instant, timeout},
};

/// Where the parts are that sharing has to do with.
pub struct Replicas<S, T> {
    /// Whose state says what is ours.
    pub refresher: Arc<Refresher<S, T>>,
    /// What people call this replica.
    pub name: String,
    /// How long shares stay ours without a sign of life.
    pub lease: Duration,
    /// What the keeper is doing.
    pub snapshot: Arc<ArcSwap<Snapshot>>,
    /// The keeper's ear.
    pub inputs: mpsc::Sender<Input>,
    /// The clerk's; only lent, so that he sees when the keeper has gone.
    pub rounds: mpsc::WeakSender<Round>,
    /// Asks for a pass over the store.
    pub load_again: Arc<Notify>,
    /// Told how many replicas there are and what they count together.
    pub told: Box<dyn Fn(usize, Counts) + Send + Sync>,
}

/// A process that takes part.
pub struct Replica<S, T> {
    parts: Replicas<S, T>,
    /// What the keeper was told is ours, each share with the epoch it had then.
    given: BTreeMap<u8, u64>,
    /// What the keeper was told is not ours any more, although it is: it goes to others once it is at rest.
    parting: Shares,
    /// How many replicas there were, and how many shares were ours, when that was last logged.
    logged: (usize, usize),
    /// True while the state does not answer.
    is_cut_off: bool,
    /// True once the keeper was told what the last run knew of the apps.
    knows_apps: bool,
    /// Until the next sign of life; `None` when none is needed.
    pause: Option<Duration>,
}

impl<S: TokenStore, T: Transport> Replicas<S, T> {
    /// Takes what is free and tells the keeper; whoever is told later finds that in front of him.
    ///
    /// # Errors
    /// When the state cannot be read or written.
    pub async fn join(self) -> Result<Replica<S, T>, state::Error> {
        let mut replica = Replica {
            parts: self,
            given: BTreeMap::new(),
            parting: Shares::NONE,
            logged: (1, SHARES),
            is_cut_off: false,
            knows_apps: false,
            pause: None,
        };
        replica.pause = replica.beat(true).await?;
        Ok(replica)
    }
}

impl<S: TokenStore, T: Transport> Replica<S, T> {
    /// Holds and shares until `leave`; from `stop` on it takes nothing more, but keeps what it has until
    /// everything that is under way has come to its end.
    pub async fn run(mut self, stop: watch::Receiver<bool>, mut leave: watch::Receiver<bool>) {
        loop {
            tokio::select! {
                // In this order each time, so that the same run is the same again.
                biased;
                _ = leave.wait_for(|leave| *leave) => break,
                () = self.until_next() => {}
            }
            let takes = !*stop.borrow();
            self.pause = match self.beat(takes).await {
                Ok(pause) => {
                    self.is_cut_off = false;
                    pause
                }
                Err(error) => Some(self.note_cut_off(&error)),
            };
        }
        let left = timeout(LEAVE_WITHIN, self.parts.refresher.state.leave()).await;
        if !matches!(left, Ok(Ok(()))) {
            tracing::warn!(
                "our shares could not be given back; others take them when their time is over"
            );
        }
    }

    /// Waits for the next sign of life, or until something can be given back.
    async fn until_next(&self) {
        let Some(pause) = self.pause else {
            return std::future::pending().await;
        };
        let began = Instant::now();
        loop {
            let left = pause.saturating_sub(began.elapsed());
            let nap = if self.parting.is_empty() { left } else { left.min(LOOK_EVERY) };
            tokio::time::sleep(nap).await;
            if began.elapsed() >= pause || !self.at_rest().is_empty() {
                return;
            }
        }
    }

    /// One sign of life, and what follows from the answer. Says when the next one is due.
    async fn beat(&mut self, takes: bool) -> Result<Option<Duration>, state::Error> {
        let began = self.parts.refresher.clock.now();
        let releasing = self.written_down(self.at_rest()).await;
        let beat = Beat {
            name: self.parts.name.clone(),
            lease: self.parts.lease,
            counts: counts(&self.parts.snapshot.load()),
            releasing,
            takes,
        };
        let held = self.parts.refresher.state.hold(&beat).await?;
        let until = held.lasts.map(|lasts| ends_at(began, lasts));
        self.settle(&held);
        self.log(&held);
        (self.parts.told)(held.members, held.totals);
        self.tell(Input::Holding { shares: self.given(), until }).await;
        self.share_apps(&held).await;
        if self.gain(&held, until).await.is_err() {
            return Ok(Some(AFTER_FAILURE));
        }
        let lease = held.lasts;
        Ok(lease.map(|lease| (lease / 3).min(held.next_free_in.unwrap_or(lease) + A_MOMENT)))
    }

    /// Tells the keeper what the last run, or another replica, heard of the apps. Others write it down while
    /// we run, so it is read with each sign of life; where nobody else does, once.
    async fn share_apps(&mut self, held: &Held) {
        if held.lasts.is_none() && self.knows_apps {
            return;
        }
        match self.parts.refresher.state.app_memories().await {
            Ok(memories) => {
                self.knows_apps = true;
                self.tell(Input::AppsRecalled(memories)).await;
            }
            // What an app was asked for is then heard again, which costs a request.
            Err(error) => tracing::warn!(%error, "what is known of the apps could not be read"),
        }
    }

    /// Works out what stays, and what is to go to others.
    fn settle(&mut self, held: &Held) {
        // With another epoch it was somebody else's meanwhile: what we know of it is old.
        self.given.retain(|share, epoch| held.shares.get(share) == Some(epoch));
        let surplus = held.surplus;
        self.parting = self
            .parting
            .iter()
            .filter(|share| held.shares.contains_key(share))
            .take(surplus)
            .collect();
        self.given.retain(|share, _| !self.parting.contains(*share));
        let busy = self.parts.snapshot.load().busy;
        let mut candidates: Vec<u8> = self.given.keys().copied().collect();
        candidates.sort_by_key(|share| busy.contains(*share));
        let more = surplus.saturating_sub(self.parting.len());
        for share in candidates.into_iter().take(more) {
            self.given.remove(&share);
            self.parting.insert(share);
        }
    }

    /// Hands the keeper what is new, after what is remembered about it.
    async fn gain(&mut self, held: &Held, until: Option<Timestamp>) -> Result<(), state::Error> {
        let is_new = |share: &u8| !self.given.contains_key(share) && !self.parting.contains(*share);
        let gained: Shares = held.shares.keys().copied().filter(is_new).collect();
        if gained.is_empty() {
            return Ok(());
        }
        let recalled = recall(&self.parts.refresher, gained).await;
        let (memories, histories, reopened) = recalled.inspect_err(|error| {
            tracing::warn!(%error, "what others left could not be read, so their accounts wait");
        })?;
        if !reopened.is_empty() {
            tracing::warn!(
                entries = reopened.len(),
                "refreshes were left open; they are brought to their end first"
            );
        }
        self.tell(Input::Recalled(memories)).await;
        self.tell(Input::Recounted(histories)).await;
        self.tell(Input::Reopened(reopened)).await;
        self.given
            .extend(gained.iter().filter_map(|share| Some((share, *held.shares.get(&share)?))));
        self.tell(Input::Holding { shares: self.given(), until }).await;
        self.parts.load_again.notify_one();
        Ok(())
    }

    /// What may be given back: the keeper has let it go and owes nothing about it.
    fn at_rest(&self) -> Shares {
        let snapshot = self.parts.snapshot.load();
        self.parting.without(snapshot.holding).without(snapshot.busy)
    }

    /// `shares`, once everything that the keeper handed to the clerk until now is written: whoever gets them
    /// reads it.
    async fn written_down(&self, shares: Shares) -> Shares {
        if shares.is_empty() {
            return shares;
        }
        // The clerk has gone, and with him everything that was to be written.
        let Some(rounds) = self.parts.rounds.upgrade() else { return shares };
        let (written, wait) = oneshot::channel();
        let round = Round { written: Some(written), ..Round::default() };
        let within = self.parts.lease / 6;
        let asked = timeout(within, async {
            rounds.send(round).await.ok()?;
            drop(rounds);
            wait.await.ok()
        });
        match asked.await {
            Ok(Some(())) => shares,
            _ => Shares::NONE,
        }
    }

    fn given(&self) -> Shares {
        self.given.keys().copied().collect()
    }

    async fn tell(&self, input: Input) {
        // A keeper that has ended needs to be told nothing.
        let _ = self.parts.inputs.send(input).await;
    }

    fn log(&mut self, held: &Held) {
        let now = (held.members, self.given.len());
        if std::mem::replace(&mut self.logged, now) != now {
            let (replicas, holds) = now;
            tracing::info!(replicas, holds, of = SHARES, "the accounts are shared out");
        }
    }

    /// The state was not reached; it is asked again soon. What is held ends by itself.
    fn note_cut_off(&mut self, error: &state::Error) -> Duration {
        if !std::mem::replace(&mut self.is_cut_off, true) {
            tracing::warn!(%error, "our shares could not be renewed");
        }
        // A full ear is no matter: the next failure tells it again.
        let _ = self.parts.inputs.try_send(Input::State { up: false });
        AFTER_FAILURE.min(self.parts.lease / 6)
    }
}

/// What others left about the accounts of these shares.
///
/// # Errors
/// When the state cannot be read.
pub async fn recall<S: TokenStore, T: Transport>(
    refresher: &Refresher<S, T>,
    shares: Shares,
) -> Result<Recalled, state::Error> {
    let mut memories = refresher.state.memories_of(shares).await?;
    let told = refresher.state.told().await?;
    remember_told(&mut memories, told.into_iter().filter(|(id, _)| shares.contain(id)).collect());
    let histories = refresher.state.histories_of(shares).await.unwrap_or_else(|error| {
        tracing::warn!(%error, "what happened to accounts before could not be read");
        Vec::new()
    });
    let mut reopened = Vec::new();
    for open in refresher.state.open_entries().await? {
        // What a person's code was to buy: of the account's own token nothing was spent.
        let is_lost_consent = open.intent.is_of_consent() && open.result.is_none();
        if shares.contain(&open.id) && !is_lost_consent {
            reopened.push(reopen(refresher, open).await);
        }
    }
    Ok((memories, histories, reopened))
}

/// Memories, histories and open attempts.
pub type Recalled = (Vec<Memory>, Vec<(AccountId, History)>, Vec<Reopened>);

/// A notice is owed before it is remembered, and whoever died or lost the account in between left a memory that
/// does not know of it. Without this nobody would hear of the end of that incident, nor of the next one.
fn remember_told(memories: &mut Vec<Memory>, mut told: BTreeMap<AccountId, Cause>) {
    for memory in &mut *memories {
        let cause = told.remove(&memory.id);
        if memory.told != cause {
            memory.told = cause;
            memory.told_since = cause.and(memory.cause_since);
        }
    }
    memories.extend(told.into_iter().map(|(id, cause)| Memory {
        id,
        token: None,
        last_refresh_at: None,
        cause: None,
        cause_since: None,
        told: Some(cause),
        told_since: None,
        failed_in_a_row: 0,
        not_before: None,
        first_seen_at: None,
        door: None,
        left: None,
    }));
}

async fn reopen<S: TokenStore, T: Transport>(
    refresher: &Refresher<S, T>,
    open: OpenEntry,
) -> Reopened {
    let OpenEntry { id, intent, result, .. } = open;
    let apps = refresher.apps.load_full();
    // The store says which app an account belongs to; while it cannot be read, its provider's will do.
    let stored = refresher.store.get(&id).await.ok().flatten();
    let app = match &stored {
        Some(stored) => app_of(&apps, stored),
        None => apps.values().find(|app| *app.provider.name == *id.provider),
    };
    // A token of another account is no token of this one, received or not; settling it says so.
    let stored = stored.as_ref().and_then(|stored| stored.token.as_ref());
    let fits = |new: &&Token| !stored.is_some_and(|stored| is_anothers(new, stored));
    let fitting = result.as_ref().filter(fits).zip(app);
    let unsaved = fitting.map(|(token, app)| refresher.facts(app, token));
    Reopened { id, unsaved, over_at: intent.over_at }
}

/// What this process says of itself.
fn counts(snapshot: &Snapshot) -> Counts {
    let needing =
        |account: &&crate::core::Account| account.cause.is_some_and(Cause::needs_reconnect);
    Counts {
        accounts: snapshot.accounts.len() as u64,
        needing_reconnect: snapshot.accounts.iter().filter(needing).count() as u64,
        unsaved: snapshot.unsaved as u64,
        in_flight: snapshot.in_flight as u64,
    }
}

/// When a lease that was asked for at `began` ends for us: a tenth earlier than for the database, in whole
/// seconds rounded down, so that nobody else can have it before.
fn ends_at(began: Timestamp, lease: Duration) -> Timestamp {
    let ours = lease - lease / 10;
    began.plus(Duration::from_secs(ours.as_secs()))
}

/// What the network and the other side's timer may take on top of the end of a lease.
const A_MOMENT: Duration = Duration::from_millis(50);

/// How often it is looked whether something can be given back.
const LOOK_EVERY: Duration = Duration::from_millis(200);

/// Longest pause before a state that did not answer is asked again.
const AFTER_FAILURE: Duration = Duration::from_secs(1);

/// How long giving everything back at the end may take.
const LEAVE_WITHIN: Duration = Duration::from_secs(5);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_people_were_told_is_what_the_incidents_say() {
        let id = |name: &str| AccountId::new("tiktok", name);
        let memory = |name: &str, told| Memory {
            id: id(name),
            token: None,
            last_refresh_at: None,
            cause: told,
            cause_since: told.map(|_| Timestamp::from_unix(1)),
            told,
            told_since: told.map(|_| Timestamp::from_unix(1)),
            failed_in_a_row: 0,
            not_before: None,
            first_seen_at: None,
            door: None,
            left: None,
        };
        let (lost, rejected) = (Some(Cause::RotationLost), Some(Cause::RefreshTokenRejected));
        let mut memories =
            vec![memory("same", lost), memory("ended", lost), memory("another", lost)];
        let told = [("same", lost), ("another", rejected), ("unknown", rejected)];
        let told = told.into_iter().filter_map(|(name, cause)| Some((id(name), cause?))).collect();
        remember_told(&mut memories, told);
        let told: Vec<_> = memories.iter().map(|one| (&*one.id.account, one.told)).collect();
        let expected =
            [("same", lost), ("ended", None), ("another", rejected), ("unknown", rejected)];
        assert_eq!(told, expected);
    }
}
