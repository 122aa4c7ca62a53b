//! Gates of accounts that left the store, or were switched off there, and may come back.
//!
//! Everything else about them is forgotten. But an account whose queue was held would go on publishing the moment its row
//! is there again, whether somebody held it by hand or it was never proven.

use super::{Effect, Fleet};
use crate::core::{
    Account, AccountId, KeptGate, Memory, Timestamp, account::Farewell, notices::Change,
};
use std::{collections::BTreeMap, time::Duration};

/// What is kept of accounts that are away.
pub(super) type Away = BTreeMap<AccountId, KeptGate>;

impl Fleet {
    /// What was remembered of accounts that are about to become ours: some are only waited for.
    pub(super) fn take_memories(&mut self, memories: Vec<Memory>) {
        for memory in memories {
            // With an incident that is open it is as if it had not left yet.
            let kept = memory.door.zip(memory.left).filter(|_| memory.told.is_none());
            if let Some((door, left)) = kept {
                self.away.insert(memory.id, KeptGate { door, left });
            } else {
                self.recalled.insert(memory.id.clone(), memory);
            }
        }
    }

    /// An account has left, and this is what is known of it: an open incident is closed without a mail.
    pub(super) fn forget(&mut self, now: Timestamp, memory: Memory) {
        if let Some(told) = memory.told {
            let since = memory.cause_since.unwrap_or(now);
            let notice = super::telling::about(&memory.id, told, Change::Withdrawn, since, now);
            self.effects.push_back(Effect::Notify(notice));
        }
        let has_room = self.away.len() < AWAY_MAX;
        let door = memory.door.and_then(|door| door.kept_away()).filter(|_| has_room);
        let left = memory.left.unwrap_or(now);
        let kept = door.map(|door| KeptGate { door, left });
        if let Some(kept) = kept {
            self.away.insert(memory.id.clone(), kept);
        }
        self.forgotten.push(Farewell { id: memory.id, kept });
    }

    /// Nobody is waited for for ever.
    pub(super) fn forget_long_gone(&mut self, now: Timestamp) {
        let over = self.away.extract_if(.., |_, kept| now.since(kept.left) >= AWAY_FOR);
        self.forgotten.extend(over.map(|(id, _)| Farewell::for_good(id)));
    }

    /// An account is seen; true when it was away and the publisher's status column said that it must not publish.
    pub(super) fn come_back(&mut self, account: &mut Account, known: Option<&Memory>) -> bool {
        let kept = self.away.remove(&account.id);
        account.door = kept.map_or(account.door, |kept| kept.door);
        let was_away = kept.is_some() || known.is_some_and(|memory| memory.left.is_some());
        was_away && account.door.marked
    }

    /// The column may have gone with the row and come back without what we wrote there.
    pub(super) fn mark_again(&mut self, id: &AccountId) {
        if let Some(account) = self.table.find(id) {
            let connected = !account.door.marked;
            self.effects.push_back(Effect::Mark { id: id.clone(), connected });
        }
    }
}

/// How long an account is waited for.
const AWAY_FOR: Duration = Duration::from_secs(90 * 24 * 3_600);

/// Accounts that are waited for. Of more, those that leave are forgotten as a whole.
const AWAY_MAX: usize = 100_000;

#[cfg(test)]
mod tests {
    use super::{
        super::{
            Checked, Input,
            tests::{Bench, app, id},
        },
        *,
    };
    use crate::core::{
        Cause, Door, Event, Order,
        decide::App,
        gate::{Gate, Proof, Why},
    };
    use std::time::Duration;

    const DAY: u64 = 24 * 3_600;

    fn bench(proof: Proof) -> Bench {
        let mut bench = Bench::new();
        let apps = vec![App { proof, ..app("main") }];
        bench.tell(Input::Configured { policy: Default::default(), apps });
        bench.load(&[("a", bench.token(1, 0.1)), ("b", bench.token(9, 0.1))]);
        bench
    }

    fn revoke(bench: &mut Bench) {
        let evidence = bench.evidence(Cause::ConsentRevoked);
        bench.tell(Input::Announced { id: id("a"), evidence });
    }

    fn order(bench: &mut Bench, position: i64, order: Order) {
        bench.tell(Input::Told { id: id("a"), order, position });
    }

    fn without_a(bench: &mut Bench) {
        let b = bench.token(9, 0.1);
        bench.load(&[("b", b)]);
    }

    fn with_a(bench: &mut Bench, number: u64) {
        let (a, b) = (bench.token(number, 0.1), bench.token(9, 0.1));
        bench.load(&[("a", a), ("b", b)]);
    }

    fn gate_of_a(bench: &Bench) -> (Gate, Option<Why>) {
        let door = bench.account("a").door;
        (door.gate, door.why)
    }

    fn marks(bench: &Bench) -> Vec<bool> {
        let mark = |effect: &Effect| match effect {
            Effect::Mark { connected, .. } => Some(*connected),
            _ => None,
        };
        bench.effects.iter().filter_map(mark).collect()
    }

    #[test]
    fn who_is_held_by_hand_is_so_when_the_row_comes_back() {
        let mut bench = bench(Proof::Check);
        order(&mut bench, 7, Order::Hold);
        without_a(&mut bench);
        let (_, gone) = bench.fleet.take_changed();
        assert_eq!(gone.len(), 1);
        assert!(gone[0].kept.is_some_and(|kept| kept.door.by_hand && kept.left == bench.now));
        bench.pass(DAY);
        without_a(&mut bench);
        assert_eq!(bench.fleet.take_changed().1, [], "once");
        with_a(&mut bench, 1);
        assert_eq!(gate_of_a(&bench), (Gate::Held, Some(Why::Person)));
        // What was followed before is not followed again, and what was said meanwhile is.
        order(&mut bench, 7, Order::Resume);
        assert_eq!(gate_of_a(&bench).0, Gate::Held);
        order(&mut bench, 8, Order::Resume);
        assert_eq!(gate_of_a(&bench).0, Gate::Canary);
    }

    #[test]
    fn what_was_shut_for_trouble_is_proven_before_it_opens() {
        let mut bench = bench(Proof::Check);
        revoke(&mut bench);
        without_a(&mut bench);
        with_a(&mut bench, 2);
        let revoked = Some(Why::Cause(Cause::ConsentRevoked));
        assert_eq!(gate_of_a(&bench), (Gate::Canary, revoked));
        assert_eq!(bench.account("a").cause, None, "of its last token nothing is known any more");
        assert_eq!(marks(&bench).last(), Some(&false), "a new row says nothing of it");
        bench.tell(Input::Proven { id: id("a"), checked: Checked::Alive });
        assert_eq!((gate_of_a(&bench).0, marks(&bench)), (Gate::Open, vec![true]));
    }

    #[test]
    fn the_column_of_a_row_that_was_only_switched_off_is_cleared() {
        let mut bench = bench(Proof::Token);
        revoke(&mut bench);
        without_a(&mut bench);
        with_a(&mut bench, 2);
        assert_eq!(gate_of_a(&bench).0, Gate::Open);
        assert_eq!(marks(&bench).last(), Some(&true));
    }

    #[test]
    fn a_restart_while_it_is_away_changes_nothing() {
        for leaves_first in [true, false] {
            let mut before = bench(Proof::Publish);
            revoke(&mut before);
            let (mut memories, _) = before.fleet.take_changed();
            if leaves_first {
                without_a(&mut before);
                let gone = before.fleet.take_changed().1;
                memories.retain(|memory| memory.id != id("a"));
                let of_a = bench(Proof::Publish).account("a").memory();
                memories.extend(gone.into_iter().map(|farewell| Memory {
                    id: farewell.id,
                    token: None,
                    first_seen_at: None,
                    door: farewell.kept.map(|kept| kept.door),
                    left: farewell.kept.map(|kept| kept.left),
                    ..of_a.clone()
                }));
            }
            let mut after = Bench::new();
            let apps = vec![App { proof: Proof::Publish, ..app("main") }];
            after.tell(Input::Configured { policy: Default::default(), apps });
            after.tell(Input::Recalled(memories));
            without_a(&mut after);
            let gone = after.fleet.take_changed().1;
            assert_eq!(gone.len(), usize::from(!leaves_first), "it is written down once");
            assert!(gone.iter().all(|farewell| farewell.kept.is_some()));
            with_a(&mut after, 2);
            assert_eq!(gate_of_a(&after).0, Gate::Canary, "leaves first: {leaves_first}");
        }
    }

    #[test]
    fn an_incident_that_was_left_open_is_closed_and_the_account_waited_for_no_longer_than_before() {
        let mut before = bench(Proof::Check);
        revoke(&mut before);
        let known = before.account("a").memory();
        let left = before.now;
        let mut after = bench(Proof::Check);
        after.now = left.plus(Duration::from_secs(DAY));
        // The process ended between the farewell and the end of the incident, which the outbox still has.
        let door = known.door.and_then(Door::kept_away);
        without_a(&mut after);
        after.fleet.take_changed();
        let memory = Memory { token: None, cause: None, left: Some(left), door, ..known };
        after.tell(Input::Recalled(vec![memory]));
        without_a(&mut after);
        let changes: Vec<Change> = after.notices().into_iter().map(|notice| notice.2).collect();
        assert_eq!(changes, [Change::Withdrawn]);
        let gone = after.fleet.take_changed().1;
        assert_eq!(gone.len(), 1);
        assert!(gone[0].kept.is_some_and(|kept| kept.left == left));
    }

    #[test]
    fn an_open_gate_is_forgotten_at_once_and_a_shut_one_after_three_months() {
        let mut bench = bench(Proof::Check);
        without_a(&mut bench);
        assert_eq!(bench.fleet.take_changed().1, [Farewell::for_good(id("a"))]);
        with_a(&mut bench, 1);
        order(&mut bench, 1, Order::Hold);
        without_a(&mut bench);
        bench.fleet.take_changed();
        bench.now = bench.now.plus(Duration::from_secs(90 * DAY - 1));
        without_a(&mut bench);
        assert_eq!(bench.fleet.take_changed().1, []);
        bench.now = bench.now.plus(Duration::from_secs(1));
        without_a(&mut bench);
        assert_eq!(bench.fleet.take_changed().1, [Farewell::for_good(id("a"))]);
        with_a(&mut bench, 1);
        assert_eq!(gate_of_a(&bench).0, Gate::Open);
    }

    #[test]
    fn what_is_given_away_is_not_waited_for_here() {
        let mut bench = bench(Proof::Check);
        order(&mut bench, 1, Order::Hold);
        without_a(&mut bench);
        bench.tell(Input::Holding { shares: crate::core::Shares::NONE, until: None });
        assert!(bench.fleet.away.is_empty());
    }

    #[test]
    fn nobody_is_told_of_a_gate_that_is_only_kept() {
        let mut bench = bench(Proof::Check);
        order(&mut bench, 1, Order::Hold);
        without_a(&mut bench);
        let moved = bench.reports(|event| matches!(event, Event::GateMoved { .. }));
        assert_eq!(moved.len(), 0);
        assert!(bench.fleet.snapshot(bench.now).accounts.find(&id("a")).is_none());
    }
}
