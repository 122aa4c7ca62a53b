//! Instants that were written down on a clock that was ahead.

use super::Fleet;
use crate::core::{Account, AccountId, Timestamp, timeline::SLEW_SECONDS_MAX};
use std::time::Duration;

impl Fleet {
    /// Time may have gone back, because several providers or a corrected wall clock said so. Then tokens that
    /// seem to be issued later than now end too late, pauses last as much too long, and their accounts were to
    /// be looked at too late.
    pub(super) fn heed_setback(&mut self, now: Timestamp) {
        let back = self.handled_at.replace(now).map_or(Duration::ZERO, |last| last.since(now));
        if back <= Duration::from_secs(SLEW_SECONDS_MAX.unsigned_abs()) {
            return;
        }
        let waits = |account: &Account| account.not_before.is_some_and(|until| until > now);
        let ids: Vec<AccountId> = self
            .table
            .iter()
            .filter(|account| waits(account) || is_from_the_future(now, account))
            .map(|account| account.id.clone())
            .collect();
        for id in ids {
            self.table.change(&id, |account| {
                account.not_before = account.not_before.map(|until| until.minus(back));
            });
            self.look_at(now, &id);
        }
    }

    /// Before anything is decided by the instants of an account's token.
    pub(super) fn count_as_seen(&mut self, now: Timestamp, id: &AccountId) {
        if self.table.find(id).is_some_and(|account| is_from_the_future(now, account)) {
            self.table.change(id, |account| {
                account.token = account.token.map(|token| token.as_seen(now));
            });
            self.changed.insert(id.clone());
        }
    }
}

fn is_from_the_future(now: Timestamp, account: &Account) -> bool {
    account.token.is_some_and(|token| token.as_seen(now) != token)
}

#[cfg(test)]
mod tests {
    use super::super::{
        Finished, Input,
        tests::{Bench, id},
    };
    use crate::core::{
        Cause,
        notices::{Audience, Change, Subject},
    };
    use std::time::Duration;

    #[test]
    fn a_token_that_was_dated_on_a_clock_that_is_ahead_is_renewed_before_it_really_ends() {
        let mut bench = Bench::new();
        let right = bench.token(1, 0.0);
        let life = right.life().unwrap();
        let mut dated = right;
        dated.issued_at = right.issued_at.plus(life);
        dated.expires_at = right.expires_at.map(|end| end.plus(life));
        bench.load(&[("a", dated)]);
        let token = bench.account("a").token.unwrap();
        assert_eq!((token.issued_at, token.expires_at), (right.issued_at, right.expires_at));
        bench.pass(life.as_secs() * 9 / 10);
        assert_eq!(bench.started(), ["refresh a"]);
    }

    #[test]
    fn when_time_goes_back_what_was_dated_before_ends_by_the_new_time() {
        let mut bench = Bench::new();
        bench.load(&[("a", bench.token(1, 0.9)), ("b", bench.token(2, 0.5))]);
        assert_eq!(bench.started(), ["refresh a"]);
        let new = bench.token(3, 0.0);
        bench.finish("a", Finished::Renewed(new));
        let (life, old) = (new.life().unwrap(), bench.account("b").token);
        bench.now = bench.now.minus(life);
        bench.tell(Input::Woke);
        let token = bench.account("a").token.unwrap();
        assert_eq!(token.issued_at, bench.now);
        assert_eq!(token.expires_at, Some(bench.now.plus(life)));
        assert!(bench.account("a").recheck_at.unwrap() < bench.now.plus(life));
        let kept = bench.account("b").token.unwrap();
        assert!(kept.issued_at <= bench.now && old.unwrap().life() == kept.life());
    }

    #[test]
    fn a_few_seconds_between_two_machines_change_nothing() {
        let mut bench = Bench::new();
        let mut token = bench.token(1, 0.0);
        token.issued_at = token.issued_at.plus(Duration::from_secs(5));
        bench.load(&[("a", token)]);
        assert_eq!(bench.account("a").token, Some(token));
    }

    #[test]
    fn a_wrong_clock_is_one_notice_however_many_accounts_there_are() {
        let mut bench = Bench::new();
        let tokens: Vec<_> = ["a", "b", "c"].map(|name| (name, bench.token(1, 0.1))).into();
        bench.load(&tokens);
        let _ = bench.notices();
        bench.tell(Input::ClockStep { seconds: -3_600 });
        assert_eq!(bench.notices(), [], "it may pass");
        bench.pass(61);
        let of_host = |change| (Subject::Host, Cause::ClockDrift, change, Audience::Operator);
        assert_eq!(bench.notices(), [of_host(Change::Firing)]);
        bench.tell(Input::ClockStep { seconds: -7_200 });
        bench.pass(600);
        assert_eq!(bench.notices(), [], "once");
        bench.tell(Input::ClockStep { seconds: 0 });
        assert_eq!(bench.notices(), [of_host(Change::Resolved)]);
        assert_eq!(bench.account("a").cause, None);
        assert!(bench.account("a").id == id("a"));
    }
}
