//! What was seen of each account, and so what is news.
//!
//! Redis has no change column. A keyspace notification names a key, and only that one is read; a look at
//! everything is taken once per poll interval if the server counts any write at all since the last one.
//! Of each account two hashes are kept, 32 bytes, and no token. A field that is not mapped is no news: a
//! publisher that notes every post in the hash does not make us read the fleet again.

use super::fields::Raw;
use std::{
    collections::HashMap,
    hash::{BuildHasher, RandomState},
    sync::{Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};
use tokio::sync::watch;

/// See the module.
pub(super) struct News {
    state: Mutex<State>,
    /// Moves with every notification; the number itself means nothing.
    told: watch::Sender<u64>,
    hashers: [RandomState; 3],
    poll_every: Duration,
}

struct State {
    /// By hash of the key.
    seen: HashMap<u128, Seen>,
    /// True once every account was read to the end.
    complete: bool,
    /// Counts passes over everything.
    pass: u32,
    /// Keys of which a notification came, and when in the order of notifications.
    touched: HashMap<Vec<u8>, u64>,
    /// Some notifications were lost.
    missed: bool,
    /// What the server counted before the last pass.
    counted: Option<Counted>,
    next_pass: Instant,
    /// Counts differences.
    version: u64,
}

#[derive(Clone, Copy)]
struct Seen {
    digest: u64,
    pass: u32,
}

/// What moves when anything is written: the life of the server process, the changes since its last
/// snapshot, and the snapshots, since each of them takes changes off the count.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Counted(pub(super) [String; 4]);

/// A pass over everything. What it did not come by when it ends is gone.
pub(super) struct Pass {
    number: u32,
    began: Instant,
    counted: Option<Counted>,
}

impl News {
    pub(super) fn new(poll_every: Duration, counted: Option<Counted>) -> Self {
        let state = State {
            seen: HashMap::new(),
            complete: false,
            pass: 0,
            touched: HashMap::new(),
            missed: false,
            counted,
            next_pass: Instant::now() + poll_every,
            version: 0,
        };
        Self {
            state: Mutex::new(state),
            told: watch::channel(0).0,
            hashers: std::array::from_fn(|_| RandomState::new()),
            poll_every,
        }
    }

    /// Moves with every notification.
    pub(super) fn told(&self) -> watch::Receiver<u64> {
        self.told.subscribe()
    }

    /// A notification named `key`.
    pub(super) fn touched(&self, key: Vec<u8>) {
        let count = *self.told.borrow();
        let mut state = self.state();
        if state.touched.len() < TOUCHED_MAX || state.touched.contains_key(&key) {
            state.touched.insert(key, count);
        } else {
            state.missed = true;
        }
        drop(state);
        self.told.send_modify(|count| *count = count.wrapping_add(1));
    }

    /// Notifications may have been lost.
    pub(super) fn missed(&self) {
        self.state().missed = true;
        self.told.send_modify(|count| *count = count.wrapping_add(1));
    }

    /// Keys to look at, and whether a look at everything is due.
    pub(super) fn due(&self) -> (Vec<(Vec<u8>, u64)>, bool) {
        let state = self.state();
        let touched = state.touched.iter().map(|(key, at)| (key.clone(), *at)).collect();
        (touched, state.missed || Instant::now() >= state.next_pass)
    }

    pub(super) fn version(&self) -> u64 {
        self.state().version
    }

    /// What stands at one key that was touched; `None` when it is gone.
    pub(super) fn settle(&self, key: &[u8], touched_at: u64, found: Option<&Raw>) {
        let digest = found.map(|raw| self.digest(raw));
        let hash = self.hash(key);
        let mut state = self.state();
        if state.touched.get(key) == Some(&touched_at) {
            state.touched.remove(key);
        }
        let pass = state.pass;
        let before = match digest {
            Some(digest) => state.seen.insert(hash, Seen { digest, pass }),
            None => state.seen.remove(&hash),
        };
        let same = match before {
            Some(before) => Some(before.digest) == digest,
            // Before everything was read once, a key that was not seen may have been any.
            None => digest.is_none() && state.complete,
        };
        state.version += u64::from(!same);
    }

    /// Whether the server counts a write since the last pass; unknown is yes. Without one the pass is put
    /// off.
    pub(super) fn moved(&self, counted: Option<&Counted>) -> bool {
        let mut state = self.state();
        let moved = counted.is_none() || state.counted.as_ref() != counted;
        if !moved {
            state.missed = false;
            state.next_pass = Instant::now() + self.poll_every;
        }
        moved
    }

    /// Nobody has read anything yet, so there is nothing to compare: that something was written is news.
    /// False when everything was read before.
    pub(super) fn moved_before_first_pass(&self, counted: Option<&Counted>) -> bool {
        let mut state = self.state();
        if state.complete {
            return false;
        }
        state.version += 1;
        state.missed = false;
        state.counted = counted.cloned();
        state.next_pass = Instant::now() + self.poll_every;
        true
    }

    /// Begins a pass over everything; `counted` is what the server counts before it.
    pub(super) fn begin(&self, counted: Option<Counted>) -> Pass {
        let mut state = self.state();
        state.pass += 1;
        state.missed = false;
        Pass { number: state.pass, began: Instant::now(), counted }
    }

    /// A pass came by this key. `quiet` when whoever passes hands the accounts on himself.
    pub(super) fn passed(&self, pass: &Pass, key: &[u8], found: &Raw, quiet: bool) {
        let (hash, digest) = (self.hash(key), self.digest(found));
        let mut state = self.state();
        let number = state.seen.get(&hash).map_or(pass.number, |seen| seen.pass.max(pass.number));
        let before = state.seen.insert(hash, Seen { digest, pass: number });
        let same = before.is_some_and(|before| before.digest == digest);
        state.version += u64::from(!same && !quiet);
    }

    /// The pass came to the end.
    pub(super) fn end(&self, pass: Pass, quiet: bool) {
        let took = pass.began.elapsed();
        let mut state = self.state();
        let before = state.seen.len();
        state.seen.retain(|_, seen| seen.pass >= pass.number);
        state.version += u64::from(state.seen.len() != before && !quiet);
        state.complete = true;
        state.counted = pass.counted;
        // A large database is not read all the time, however short the interval.
        state.next_pass = Instant::now() + self.poll_every.max(took * PAUSE_PER_PASS);
    }

    /// A pass did not come to the end; the next look takes another.
    pub(super) fn abandoned(&self) {
        self.state().missed = true;
    }

    /// A write of our own is no news, unless somebody else wrote before it.
    pub(super) fn wrote(&self, key: &[u8], before: Option<&Raw>, after: &Raw) {
        let before = before.map(|raw| self.digest(raw));
        let (hash, digest) = (self.hash(key), self.digest(after));
        let mut state = self.state();
        let pass = state.pass;
        let seen = state.seen.get(&hash).map(|seen| seen.digest);
        if seen.is_none() || seen == before {
            state.seen.insert(hash, Seen { digest, pass });
        }
    }

    /// Two independent hashes make one that does not meet itself among millions.
    pub(super) fn hash(&self, key: &[u8]) -> u128 {
        let [first, second, _] = &self.hashers;
        u128::from(first.hash_one(key)) << 64 | u128::from(second.hash_one(key))
    }

    fn digest(&self, raw: &Raw) -> u64 {
        self.hashers[2].hash_one(raw.values())
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Keys touched since the last look; beyond this everything is looked at.
const TOUCHED_MAX: usize = 4_096;
/// The share of the time that may go into passes: one of a second is followed by a pause of 19.
const PAUSE_PER_PASS: u32 = 19;
