//! Our state in a simulation: the real tables and statements on a database in memory, without a thread.
//!
//! What a disk, a network and a crash do to a call is invented by whoever simulates, through [`Line`]: how
//! long it takes, whether it is carried out, whether its answer arrives. Several replicas share one
//! [`Database`], each with a line of its own. Absent on purpose: commits of several calls together, and room
//! that runs out; those are tested on real files.

use super::{
    Error, Sealer,
    presence::Presence,
    room::Room,
    schema,
    seal::Key,
    shares::{Beat, Counts, Held},
    writer::{Desk, Kind, Refusal},
};
use crate::core::{AccountId, Shares, shares::SHARES};
use std::{
    collections::BTreeMap,
    future::Future,
    pin::Pin,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};
use zeroize::Zeroizing;

/// What one call does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Call {
    /// Reads.
    Read,
    /// Writes something that can be repeated.
    Write,
    /// Writes a token that exists nowhere else.
    Result,
}

/// What becomes of one call.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fate {
    /// It is carried out.
    Works,
    /// It is not carried out.
    Fails,
    /// It is carried out and the caller hears that it was not.
    Unheard,
}

/// Something that ends later, or never.
pub type Later<T> = Pin<Box<dyn Future<Output = T> + Send>>;

/// What lies between one process and the database.
pub trait Line: Send + Sync {
    /// Whose line this is; the same process is the same holder of leases.
    fn holder(&self) -> [u8; 16];

    /// By how many seconds the process's clock is ahead of the database's.
    fn ahead(&self) -> i64;

    /// The database's clock.
    fn now(&self) -> Duration;

    /// Before the call reaches the database. One that never ends is a process that has died.
    fn request(&self, call: Call) -> Later<Fate>;

    /// Before the answer reaches the process.
    fn answer(&self, call: Call) -> Later<()>;
}

/// A database that several processes share.
#[derive(Clone)]
pub struct Database(Arc<Mutex<Desk>>);

impl Database {
    /// An empty one. Its accounts are shared out among the processes, or each has all of them.
    #[must_use]
    pub fn new(shares_out: bool) -> Self {
        let key_id = Sealer::new(&key()).key_id();
        let connection = schema::in_memory(key_id).expect("memory takes the tables of the schema");
        Self(Arc::new(Mutex::new(Desk {
            connection,
            room: Room::boundless(),
            holder: [0; 16],
            presence: Presence::unknown(),
            ahead: 0,
            shared_out: shares_out.then(SharedOut::new),
        })))
    }

    pub(super) fn through(&self, line: Arc<dyn Line>) -> Simulated {
        Simulated { database: self.clone(), line }
    }
}

/// What stands in for the thread.
pub(super) struct Simulated {
    database: Database,
    line: Arc<dyn Line>,
}

impl Simulated {
    pub(super) async fn run<T>(
        &self,
        kind: Kind,
        mut work: impl FnMut(&mut Desk) -> Result<T, Refusal>,
    ) -> Result<T, Error> {
        let call = match kind {
            Kind::Read => Call::Read,
            Kind::Write => Call::Write,
            Kind::Result => Call::Result,
        };
        let fate = self.line.request(call).await;
        let done = if fate == Fate::Fails {
            Err(Refusal::Unavailable("as simulated".to_owned()))
        } else {
            self.perform(&mut work)
        };
        self.line.answer(call).await;
        let heard = match fate {
            Fate::Unheard => Err(Refusal::Unavailable("its answer was lost".to_owned())),
            Fate::Works | Fate::Fails => done,
        };
        heard.map_err(|refusal| refusal.at(PLACE))
    }

    pub(super) async fn hold(&self, beat: &Beat) -> Result<Held, Error> {
        let holder = self.line.holder();
        self.run(Kind::Write, |desk| {
            Ok(match &mut desk.shared_out {
                Some(shared_out) => shared_out.hold(holder, beat),
                None => Held::alone(beat.counts),
            })
        })
        .await
    }

    pub(super) async fn leave(&self) -> Result<(), Error> {
        let holder = self.line.holder();
        self.run(Kind::Write, |desk| {
            if let Some(shared_out) = &mut desk.shared_out {
                shared_out.give_back(holder, Shares::ALL);
                shared_out.members.remove(&holder);
            }
            Ok(())
        })
        .await
    }

    /// One transaction of its own.
    fn perform<T>(
        &self,
        work: &mut impl FnMut(&mut Desk) -> Result<T, Refusal>,
    ) -> Result<T, Refusal> {
        let mut desk = self.database.0.lock().unwrap_or_else(PoisonError::into_inner);
        desk.holder = self.line.holder();
        desk.ahead = self.line.ahead();
        if let Some(shared_out) = &mut desk.shared_out {
            shared_out.now = self.line.now();
        }
        desk.connection.prepare_cached("SAVEPOINT call")?.execute([])?;
        let done = work(&mut desk);
        if done.is_err() {
            desk.connection.prepare_cached("ROLLBACK TO call")?.execute([])?;
        }
        desk.connection.prepare_cached("RELEASE call")?.execute([])?;
        done
    }
}

/// Who holds which share, by the rules of `postgres/shares`.
pub(super) struct SharedOut {
    /// The database's clock at the running call.
    now: Duration,
    shares: Vec<Share>,
    /// Until when each member counts as alive, and what it says of itself.
    members: BTreeMap<[u8; 16], (Duration, Counts)>,
}

#[derive(Clone, Default)]
struct Share {
    holder: Option<[u8; 16]>,
    until: Duration,
    epoch: u64,
}

impl SharedOut {
    fn new() -> Self {
        let shares = vec![Share::default(); SHARES];
        Self { now: Duration::ZERO, shares, members: BTreeMap::new() }
    }

    /// Whether what `holder` has to say about the account counts.
    pub(super) fn is_held_by(&self, id: &AccountId, holder: [u8; 16]) -> bool {
        self.shares[usize::from(Shares::of(id))].holder == Some(holder)
    }

    /// Whether `holder` may begin something with the account.
    pub(super) fn may_take(&self, id: &AccountId, holder: [u8; 16]) -> bool {
        self.is_held_by(id, holder) && self.shares[usize::from(Shares::of(id))].until > self.now
    }

    fn give_back(&mut self, holder: [u8; 16], which: Shares) {
        for share in which.iter() {
            let share = &mut self.shares[usize::from(share)];
            if share.holder == Some(holder) {
                *share = Share { holder: None, until: Duration::ZERO, epoch: share.epoch };
            }
        }
    }

    fn hold(&mut self, holder: [u8; 16], beat: &Beat) -> Held {
        let until = self.now + beat.lease;
        self.members.insert(holder, (until, beat.counts));
        self.give_back(holder, beat.releasing);
        // What has expired and was taken by nobody is still his: nobody can have acted on it.
        let own = self.shares.iter_mut().filter(|share| share.holder == Some(holder));
        own.for_each(|share| share.until = until);
        let members = self.members.values().filter(|(until, _)| *until > self.now).count().max(1);
        let fair = SHARES.div_ceil(members);
        if beat.takes {
            self.take(holder, fair, until);
        }
        self.told(holder, beat.lease, members, fair)
    }

    fn take(&mut self, holder: [u8; 16], fair: usize, until: Duration) {
        let has = self.shares.iter().filter(|share| share.holder == Some(holder)).count();
        let now = self.now;
        let free = self.shares.iter_mut().filter(|share| {
            share.holder.is_none() || (share.holder != Some(holder) && share.until <= now)
        });
        for share in free.take(fair.saturating_sub(has)) {
            *share = Share { holder: Some(holder), until, epoch: share.epoch + 1 };
        }
    }

    fn told(&self, holder: [u8; 16], lease: Duration, members: usize, fair: usize) -> Held {
        let mine = (0_u8..=u8::MAX).zip(&self.shares);
        let mine = mine.filter(|(_, share)| share.holder == Some(holder));
        let shares: BTreeMap<u8, u64> = mine.map(|(number, share)| (number, share.epoch)).collect();
        let mut totals = Counts::default();
        for (_, counts) in self.members.values().filter(|(until, _)| *until > self.now) {
            totals.accounts += counts.accounts;
            totals.needing_reconnect += counts.needing_reconnect;
            totals.unsaved += counts.unsaved;
            totals.in_flight += counts.in_flight;
        }
        let others = self.shares.iter().filter(|share| {
            share.holder.is_some_and(|other| other != holder) && share.until > self.now
        });
        Held {
            surplus: shares.len().saturating_sub(fair),
            shares,
            lasts: Some(lease),
            members,
            totals,
            next_free_in: others.map(|share| share.until - self.now).min(),
        }
    }
}

/// Not a secret: what it seals is invented.
pub(super) fn key() -> Key {
    Zeroizing::new(KEY)
}

const KEY: [u8; 32] = *b"an invented key of 32 bytes here";

const PLACE: &str = "simulated";
