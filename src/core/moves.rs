//! Gates that moved: the last ones for whoever listens, and the ones that somebody has yet to be told.

use super::{AccountId, Gate, Timestamp, gate::Why};
use std::collections::{BTreeMap, VecDeque};

/// A gate that moved.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Move {
    /// Of which account.
    pub id: AccountId,
    /// What it was; `None` when only what it is is known.
    pub from: Option<Gate>,
    /// What it is.
    pub to: Gate,
    /// Why it is, or was last, held.
    pub why: Option<Why>,
    /// Since when.
    pub at: Timestamp,
}

/// The last moves, numbered without a gap.
#[derive(Clone, Debug)]
pub struct Moves {
    kept: VecDeque<Move>,
    /// The number of the first that is kept.
    first: u64,
    room: usize,
}

impl Moves {
    /// Keeps so many.
    #[must_use]
    pub const fn new(room: usize) -> Self {
        Self { kept: VecDeque::new(), first: 1, room }
    }

    /// Another one; answers its number.
    pub fn push(&mut self, one: Move) -> u64 {
        if self.kept.len() == self.room {
            self.kept.pop_front();
            self.first += 1;
        }
        self.kept.push_back(one);
        self.last()
    }

    /// Some were missed: whoever asks for those after any number so far is told that nobody knows them.
    pub fn lose(&mut self) -> u64 {
        self.first = self.last() + 2;
        self.kept.clear();
        self.last()
    }

    /// The number of the last one.
    #[must_use]
    pub fn last(&self) -> u64 {
        self.first + self.kept.len() as u64 - 1
    }

    /// Those after `number`, each with its own; `None` when some of them are not known any more, or when there never
    /// was such a number.
    #[must_use]
    pub fn after(&self, number: u64) -> Option<impl Iterator<Item = (u64, &Move)> + '_> {
        let is_known = number.checked_add(1)? >= self.first && number <= self.last();
        let skip = usize::try_from((number + 1).checked_sub(self.first)?).ok()?;
        is_known.then(|| (number + 1..).zip(self.kept.iter().skip(skip)))
    }
}

/// The moves that somebody has yet to be told, oldest first: of each account the newest alone, since what a gate was in
/// between is of no use to whoever hears it late.
#[derive(Clone, Debug, Default)]
pub struct Untold {
    by_turn: BTreeMap<u64, Move>,
    turns: BTreeMap<AccountId, u64>,
    /// Accounts that were told, or are about to be told, to be anything but open.
    shut: BTreeMap<AccountId, (Gate, Timestamp)>,
    next: u64,
}

impl Untold {
    /// Another one; the number of those that found no room.
    pub fn push(&mut self, one: Move) -> usize {
        match one.to {
            Gate::Open => drop(self.shut.remove(&one.id)),
            Gate::Held | Gate::Canary => {
                self.shut.insert(one.id.clone(), (one.to, one.at));
            }
        }
        // Behind the others, as a news of its own: whoever is being told the older one is told this one as well.
        if let Some(turn) = self.turns.remove(&one.id) {
            self.by_turn.remove(&turn);
        }
        self.turns.insert(one.id.clone(), self.next);
        self.by_turn.insert(self.next, one);
        self.next += 1;
        let mut dropped = 0;
        while self.by_turn.len() > UNTOLD_MAX {
            if let Some((_, oldest)) = self.by_turn.pop_first() {
                self.turns.remove(&oldest.id);
                dropped += 1;
            }
        }
        dropped
    }

    /// Compares what was told with what is so, and adds what is missing: after a start, and when news were missed.
    /// `now_shut` are all accounts that are anything but open; `knows` says of which accounts that is true.
    pub fn reconcile(
        &mut self,
        now: Timestamp,
        now_shut: impl IntoIterator<Item = Move>,
        knows: impl Fn(&AccountId) -> bool,
    ) -> usize {
        let mut opened = std::mem::take(&mut self.shut);
        let mut dropped = 0;
        for one in now_shut {
            if opened.remove(&one.id) == Some((one.to, one.at)) {
                self.shut.insert(one.id.clone(), (one.to, one.at));
            } else {
                dropped += self.push(one);
            }
        }
        for (id, (from, _)) in opened {
            if knows(&id) {
                let one = Move { id, from: Some(from), to: Gate::Open, why: None, at: now };
                dropped += self.push(one);
            }
        }
        dropped
    }

    /// The next one, and its turn.
    #[must_use]
    pub fn first(&self) -> Option<(u64, &Move)> {
        self.by_turn.first_key_value().map(|(turn, one)| (*turn, one))
    }

    /// It was told, or given up. If its account moved meanwhile, that is another turn.
    pub fn done(&mut self, turn: u64) {
        if let Some(one) = self.by_turn.remove(&turn) {
            self.turns.remove(&one.id);
        }
    }

    /// How many there are.
    #[must_use]
    pub fn len(&self) -> usize {
        self.by_turn.len()
    }

    /// True when everything was told.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.by_turn.is_empty()
    }
}

/// Accounts whose news may wait for one listener.
pub const UNTOLD_MAX: usize = 10_000;

#[cfg(test)]
mod tests {
    use super::*;

    const NOON: Timestamp = Timestamp::from_unix(1_800_000_000);

    fn moved(account: &str, to: Gate, at: i64) -> Move {
        let at = Timestamp::from_unix(NOON.as_unix() + at);
        Move { id: AccountId::new("tiktok", account), from: None, to, why: None, at }
    }

    fn names(moves: &Moves, after: u64) -> Option<Vec<(u64, String)>> {
        let name = |(number, one): (u64, &Move)| (number, one.id.account.to_string());
        moves.after(after).map(|all| all.map(name).collect())
    }

    #[test]
    fn whoever_comes_back_gets_what_is_kept_or_hears_that_it_is_not() {
        let mut moves = Moves::new(3);
        assert_eq!(names(&moves, 0), Some(Vec::new()));
        assert_eq!(names(&moves, 1), None, "nothing has happened yet");
        for account in ["a", "b", "c", "d"] {
            moves.push(moved(account, Gate::Held, 0));
        }
        assert_eq!(moves.last(), 4);
        assert_eq!(names(&moves, 0), None, "the first is gone");
        assert_eq!(names(&moves, 1).unwrap().len(), 3);
        assert_eq!(names(&moves, 3), Some(vec![(4, "d".to_owned())]));
        assert_eq!(names(&moves, 4), Some(Vec::new()));
        assert_eq!(names(&moves, 5), None);
        assert_eq!(names(&moves, u64::MAX), None);
        let last = moves.lose();
        assert_eq!(names(&moves, 4), None, "something came between");
        assert_eq!(names(&moves, last), Some(Vec::new()));
        moves.push(moved("e", Gate::Open, 0));
        assert_eq!(names(&moves, last), Some(vec![(last + 1, "e".to_owned())]));
    }

    fn told(untold: &mut Untold) -> Vec<String> {
        let mut all = Vec::new();
        while let Some((turn, one)) = untold.first() {
            all.push(format!("{} {}", one.id.account, one.to.as_label()));
            untold.done(turn);
        }
        all
    }

    #[test]
    fn of_each_account_the_newest_is_told_and_in_the_order_in_which_they_came() {
        let mut untold = Untold::default();
        for (account, to, at) in
            [("a", Gate::Held, 1), ("b", Gate::Held, 2), ("a", Gate::Canary, 3)]
        {
            assert_eq!(untold.push(moved(account, to, at)), 0);
        }
        assert_eq!(told(&mut untold), ["b held", "a canary"]);
    }

    #[test]
    fn what_moved_while_it_was_told_is_told_again() {
        let mut untold = Untold::default();
        untold.push(moved("a", Gate::Held, 1));
        let (turn, _) = untold.first().unwrap();
        untold.push(moved("a", Gate::Open, 2));
        untold.done(turn);
        assert_eq!(told(&mut untold), ["a open"]);
    }

    #[test]
    fn after_news_were_missed_what_is_so_is_told_and_what_was_told_is_not_told_again() {
        let mut untold = Untold::default();
        for account in ["stays", "opens", "leaves", "changes"] {
            untold.push(moved(account, Gate::Held, 1));
        }
        assert_eq!(told(&mut untold).len(), 4);
        let now_shut = [
            moved("stays", Gate::Held, 1),
            moved("changes", Gate::Canary, 5),
            moved("new", Gate::Held, 6),
        ];
        untold.reconcile(NOON, now_shut.clone(), |id| *id.account != *"leaves");
        assert_eq!(told(&mut untold), ["changes canary", "new held", "opens open"]);
        untold.reconcile(NOON, now_shut, |_| true);
        assert!(untold.is_empty());
    }

    #[test]
    fn of_too_many_the_oldest_is_dropped_and_counted() {
        let mut untold = Untold::default();
        let dropped: usize = (0..UNTOLD_MAX + 3)
            .map(|nth| untold.push(moved(&nth.to_string(), Gate::Held, 1)))
            .sum();
        assert_eq!((untold.len(), dropped), (UNTOLD_MAX, 3));
        assert_eq!(untold.first().unwrap().1.id.account.as_ref(), "3");
    }
}
