//! Which post may be published next on an account whose gate was shut.
//!
//! While the gate is held, posts that ask are remembered. In `canary` exactly one may go, until it is reported or
//! its time is over. Once the gate is open again the others follow one at a time, the oldest scheduled first, and new
//! posts of the account queue behind them: a week of held posts that all go out in one minute would meet the
//! provider's daily cap and its spam guard. An account that was never in trouble costs nothing here.
//!
//! A post whose turn has come and that does not ask any more holds nobody up: it was published by hand, or deleted.
//! Absent on purpose: the posts themselves, and any promise about those that nobody asks for. What is in here is
//! gone after a restart, and fills again as posts ask again. Which post is to prove an account must not be forgotten:
//! whoever hands out permits writes that down, and says what is written by [`Permits::claimed`].

use super::{AccountId, Timestamp, gate::Gate};
use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
    time::Duration,
};

/// How fast it goes on after trouble. `config` fills it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Pace {
    /// How long the one post of a canary may take before another one may try.
    pub canary_deadline: Duration,
    /// The time between two posts of an account that catches up.
    pub resume_every: Duration,
}

/// A post that wants to be published now.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Ask {
    /// The publisher's own name for it; the same again is the same post.
    pub post: Arc<str>,
    /// When it should have been published; now, if nobody says.
    pub scheduled_at: Option<Timestamp>,
}

/// What a post is told.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Permit {
    /// It may be published.
    Granted {
        /// As what.
        kind: Kind,
        /// Not later than this.
        deadline: Timestamp,
    },
    /// It may not yet.
    Wait {
        /// Worth asking again after this.
        retry_after: Duration,
        /// Posts of the account that go before it.
        ahead: usize,
    },
}

/// As what a post may be published.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Kind {
    /// As always.
    Open,
    /// As the one that proves the account: what becomes of it must be reported.
    Canary,
}

impl Kind {
    /// The word for it.
    #[must_use]
    pub const fn as_label(self) -> &'static str {
        match self {
            Self::Open => "open",
            Self::Canary => "canary",
        }
    }
}

/// Posts that were remembered once and are not any more, although they got no permit.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Forgotten {
    /// There were too many.
    pub full: u64,
    /// They did not ask any more.
    pub absent: u64,
}

/// Every post that waits. Nothing is kept of accounts that nobody waits for.
#[derive(Clone, Debug)]
pub struct Permits {
    pace: Pace,
    lines: BTreeMap<AccountId, Line>,
    /// By arrival: who was remembered first, over all accounts.
    arrivals: BTreeMap<u64, AccountId>,
    next_arrival: u64,
    forgotten: Forgotten,
}

/// The posts of one account.
#[derive(Clone, Debug, Default)]
struct Line {
    waiting: BTreeMap<Turn, Waiting>,
    /// The same by their names.
    turns: BTreeMap<Arc<str>, Turn>,
    /// The post that proves the account.
    canary: Option<Canary>,
    /// The one that was let through last, which may ask again because it missed the answer.
    last: Option<Claim>,
    last_at: Option<Timestamp>,
    /// False while the gate is held: nobody is missed who does not ask then.
    moves: bool,
}

/// In which order they go: those that were held before those that came later, then the oldest scheduled.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Turn {
    came_later: bool,
    scheduled_at: Timestamp,
    arrival: u64,
}

#[derive(Clone, Debug)]
struct Waiting {
    post: Arc<str>,
    /// When it was told to ask again.
    expected_at: Timestamp,
}

#[derive(Clone, Debug)]
struct Claim {
    post: Arc<str>,
    until: Timestamp,
}

/// Until when no other post may prove an account.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Canary {
    /// Which one may; `None` when it was reported, and what follows from that is yet to come.
    pub post: Option<Arc<str>>,
    /// Its time is over then.
    pub until: Timestamp,
}

impl Permits {
    /// Nobody waits.
    #[must_use]
    pub const fn new(pace: Pace) -> Self {
        Self {
            pace,
            lines: BTreeMap::new(),
            arrivals: BTreeMap::new(),
            next_arrival: 0,
            forgotten: Forgotten { full: 0, absent: 0 },
        }
    }

    /// Goes on at another pace.
    pub const fn set_pace(&mut self, pace: Pace) {
        self.pace = pace;
    }

    /// A post of `id`, whose gate is `gate`, wants to be published.
    pub fn ask(&mut self, now: Timestamp, id: &AccountId, gate: Gate, ask: &Ask) -> Permit {
        self.see(now, id, gate);
        match gate {
            Gate::Held => {
                self.wait(id, ask, now, false, RETRY_WHILE_HELD);
                self.told(now, id, &ask.post, RETRY_WHILE_HELD)
            }
            Gate::Canary => self.ask_for_canary(now, id, ask),
            Gate::Open => self.ask_while_open(now, id, ask),
        }
    }

    /// The gate of `id` is `gate` now. Told of each move, the line begins to move when the gate does, and not with
    /// the first post that asks afterwards.
    pub fn see(&mut self, now: Timestamp, id: &AccountId, gate: Gate) {
        let Some(line) = self.lines.get_mut(id) else { return };
        let moves = gate != Gate::Held;
        if moves && !line.moves {
            // Whoever was told to come again while it was held may have been told long ago, or waits for a sign.
            for waiting in line.waiting.values_mut() {
                waiting.expected_at = now.plus(RETRY_WHILE_HELD);
            }
        }
        line.moves = moves;
        if gate != Gate::Canary {
            line.canary = None;
        }
        self.sweep_line(now, id);
    }

    /// The post that was to prove `id` was reported, whatever became of it. The next one waits until the gate had time
    /// to move: of an account that has just failed nobody else publishes.
    pub fn reported(&mut self, now: Timestamp, id: &AccountId) {
        if let Some(canary) = self.lines.get_mut(id).and_then(|line| line.canary.as_mut()) {
            canary.post = None;
            canary.until = canary.until.min(now.plus(REPORT_FOLLOWED_WITHIN));
        }
    }

    /// What is written down of the post that is to prove `id`: by us, by another process, or by this one before it was
    /// started again.
    pub fn claimed(&mut self, id: &AccountId, canary: Canary) {
        let line = self.lines.entry(id.clone()).or_default();
        line.canary = Some(canary);
        line.moves = true;
    }

    /// Forgets who has not asked for too long.
    pub fn sweep(&mut self, now: Timestamp) {
        let ids: Vec<AccountId> = self.lines.keys().cloned().collect();
        ids.iter().for_each(|id| self.sweep_line(now, id));
    }

    /// Forgets the posts of accounts that are not looked after here any more.
    pub fn retain(&mut self, mut keeps: impl FnMut(&AccountId) -> bool) {
        self.lines.retain(|id, _| keeps(id));
        let lines = &self.lines;
        self.arrivals.retain(|_, id| lines.contains_key(id));
    }

    /// Each account with posts that wait, and how many.
    pub fn waiting(&self) -> impl Iterator<Item = (&AccountId, usize)> + '_ {
        let lines = self.lines.iter().map(|(id, line)| (id, line.waiting.len()));
        lines.filter(|(_, posts)| *posts > 0)
    }

    /// How many posts wait in all.
    #[must_use]
    pub fn len(&self) -> usize {
        self.arrivals.len()
    }

    /// True when no post waits.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.arrivals.is_empty()
    }

    /// What was forgotten so far.
    #[must_use]
    pub const fn forgotten(&self) -> Forgotten {
        self.forgotten
    }

    fn ask_for_canary(&mut self, now: Timestamp, id: &AccountId, ask: &Ask) -> Permit {
        let canary = self.lines.get(id).and_then(|line| line.canary.clone());
        if let Some(Canary { post, until }) = canary.filter(|canary| !canary.until.has_come(now)) {
            if post.as_ref() == Some(&ask.post) {
                return Permit::Granted { kind: Kind::Canary, deadline: until };
            }
            let retry_after = until.since(now).clamp(RETRY_LEAST, RETRY_WHILE_CANARY);
            self.wait(id, ask, now, false, retry_after);
            return self.told(now, id, &ask.post, retry_after);
        }
        self.wait(id, ask, now, false, RETRY_WHILE_CANARY);
        if self.ahead(id, &ask.post) > 0 {
            return self.told(now, id, &ask.post, RETRY_WHILE_CANARY);
        }
        let until = now.plus(self.pace.canary_deadline);
        self.let_through(now, id, &ask.post);
        if let Some(line) = self.lines.get_mut(id) {
            line.canary = Some(Canary { post: Some(Arc::clone(&ask.post)), until });
        }
        Permit::Granted { kind: Kind::Canary, deadline: until }
    }

    fn ask_while_open(&mut self, now: Timestamp, id: &AccountId, ask: &Ask) -> Permit {
        let deadline = now.plus(PERMIT_LIFE);
        let Some(line) = self.lines.get(id) else {
            return Permit::Granted { kind: Kind::Open, deadline };
        };
        let again = line.last.as_ref().filter(|last| last.post == ask.post);
        if let Some(last) = again.filter(|last| !last.until.has_come(now)) {
            return Permit::Granted { kind: Kind::Open, deadline: last.until };
        }
        let next_at = line.last_at.map_or(now, |at| at.plus(self.pace.resume_every));
        let until_next = next_at.since(now);
        self.wait(id, ask, now, true, until_next);
        let ahead = self.ahead(id, &ask.post);
        if ahead == 0 && until_next.is_zero() {
            let claim = Claim { post: Arc::clone(&ask.post), until: deadline };
            self.let_through(now, id, &claim.post);
            if let Some(line) = self.lines.get_mut(id) {
                line.last = Some(claim);
            }
            return Permit::Granted { kind: Kind::Open, deadline };
        }
        let turns = u32::try_from(ahead).unwrap_or(u32::MAX);
        let until_turn = self.pace.resume_every.saturating_mul(turns);
        let retry_after = until_next.saturating_add(until_turn).clamp(RETRY_LEAST, RETRY_MAX);
        self.told(now, id, &ask.post, retry_after)
    }

    /// Remembers the post, unless it is remembered.
    fn wait(
        &mut self,
        id: &AccountId,
        ask: &Ask,
        now: Timestamp,
        came_later: bool,
        retry_after: Duration,
    ) {
        let line = self.lines.entry(id.clone()).or_default();
        line.moves |= came_later;
        if line.turns.contains_key(&ask.post) {
            return;
        }
        let arrival = self.next_arrival;
        self.next_arrival += 1;
        let scheduled_at = ask.scheduled_at.unwrap_or(now);
        let turn = Turn { came_later, scheduled_at, arrival };
        let post = Arc::clone(&ask.post);
        line.turns.insert(Arc::clone(&post), turn);
        line.waiting.insert(turn, Waiting { post, expected_at: now.plus(retry_after) });
        self.arrivals.insert(arrival, id.clone());
        self.make_room(id, arrival);
    }

    /// Forgets whoever was remembered first, of the account or of all, and never the one that just came.
    fn make_room(&mut self, id: &AccountId, newest: u64) {
        let line = &self.lines[id];
        if line.waiting.len() > POSTS_PER_ACCOUNT_MAX {
            let arrivals: BTreeSet<u64> = line.waiting.keys().map(|turn| turn.arrival).collect();
            if let Some(oldest) = arrivals.first().filter(|oldest| **oldest != newest) {
                self.forget(id, *oldest);
                self.forgotten.full += 1;
            }
        }
        if self.arrivals.len() > POSTS_MAX
            && let Some((oldest, id)) = self.arrivals.first_key_value()
        {
            let (oldest, id) = (*oldest, id.clone());
            self.forget(&id, oldest);
            self.forgotten.full += 1;
        }
    }

    fn forget(&mut self, id: &AccountId, arrival: u64) {
        self.arrivals.remove(&arrival);
        let Some(line) = self.lines.get_mut(id) else { return };
        let turn = line.waiting.keys().copied().find(|turn| turn.arrival == arrival);
        if let Some(waiting) = turn.and_then(|turn| line.waiting.remove(&turn)) {
            line.turns.remove(&waiting.post);
        }
    }

    fn let_through(&mut self, now: Timestamp, id: &AccountId, post: &str) {
        let Some(line) = self.lines.get_mut(id) else { return };
        if let Some(turn) = line.turns.remove(post) {
            line.waiting.remove(&turn);
            self.arrivals.remove(&turn.arrival);
        }
        line.last_at = Some(now);
    }

    /// How many go before this post.
    fn ahead(&self, id: &AccountId, post: &str) -> usize {
        let of = |line: &Line| Some(line.waiting.range(..line.turns.get(post)?).count());
        self.lines.get(id).and_then(of).unwrap_or(0)
    }

    /// Writes down when the post was told to come again.
    fn told(
        &mut self,
        now: Timestamp,
        id: &AccountId,
        post: &str,
        retry_after: Duration,
    ) -> Permit {
        let ahead = self.ahead(id, post);
        if let Some(line) = self.lines.get_mut(id)
            && let Some(waiting) = line.turns.get(post).and_then(|turn| line.waiting.get_mut(turn))
        {
            waiting.expected_at = now.plus(retry_after);
        }
        Permit::Wait { retry_after, ahead }
    }

    fn sweep_line(&mut self, now: Timestamp, id: &AccountId) {
        let Some(line) = self.lines.get_mut(id) else { return };
        let missed_after = if line.moves { MISSED_AFTER } else { HELD_FOR_MAX };
        let absent: Vec<u64> = line
            .waiting
            .iter()
            .filter(|(_, waiting)| waiting.expected_at.plus(missed_after).has_come(now))
            .map(|(turn, _)| turn.arrival)
            .collect();
        self.forgotten.absent += absent.len() as u64;
        absent.iter().for_each(|arrival| self.forget(id, *arrival));
        let Some(line) = self.lines.get(id) else { return };
        let claimed = line.canary.as_ref().is_some_and(|canary| !canary.until.has_come(now));
        let paced = line.last_at.is_some_and(|at| !at.plus(self.pace.resume_every).has_come(now));
        if line.waiting.is_empty() && !claimed && !paced {
            self.lines.remove(id);
        }
    }
}

/// Posts that are remembered of one account.
pub const POSTS_PER_ACCOUNT_MAX: usize = 500;

/// Posts that are remembered in all.
pub const POSTS_MAX: usize = 50_000;

/// How long an ordinary permit is good for: long enough for one publish call, too short for the account to change
/// unnoticed meanwhile.
pub const PERMIT_LIFE: Duration = Duration::from_secs(60);

/// How long the gate may take to move when a canary was reported: it is written down first, and then heard of.
pub const REPORT_FOLLOWED_WITHIN: Duration = Duration::from_secs(10);

/// A held account takes a person, so nothing is gained by asking more often.
const RETRY_WHILE_HELD: Duration = Duration::from_secs(60);

/// The canary may be through any moment.
const RETRY_WHILE_CANARY: Duration = Duration::from_secs(15);

const RETRY_LEAST: Duration = Duration::from_secs(1);

/// Whoever has a long line ahead may come and look all the same.
const RETRY_MAX: Duration = Duration::from_secs(3_600);

/// How much later than it was told a post may ask and still have its turn.
const MISSED_AFTER: Duration = Duration::from_secs(60);

/// How long a post is remembered that does not ask while the gate is held.
const HELD_FOR_MAX: Duration = Duration::from_secs(30 * 86_400);

#[cfg(test)]
mod tests;
