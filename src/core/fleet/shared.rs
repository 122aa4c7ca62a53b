//! Accounts that hold one credential: the same refresh token in several rows of the store.
//!
//! When it was refreshed for one of them, the others hold a spent one until their rows have the new token too. That
//! they do not present it is the shell's, which asks our state before each request, whichever replica spent it; here
//! they are sent for the new one at once, instead of when they would be due.

use super::Fleet;
use crate::core::{AccountId, Busy, Event, Fingerprint, Table, Timestamp, TokenFacts};
use std::{collections::BTreeMap, sync::Arc};

/// Which accounts hold what another one holds, as the last whole pass over the store found it.
#[derive(Debug, Default)]
pub(super) struct Shared {
    /// By app and credential.
    by_credential: BTreeMap<(Arc<str>, u64), Vec<AccountId>>,
}

impl Shared {
    /// How many accounts share theirs.
    pub(super) fn accounts(&self) -> usize {
        self.by_credential.values().map(Vec::len).sum()
    }

    fn of(table: &Table) -> Self {
        let mut held: Vec<u64> = table.iter().filter_map(|one| credential(one.token)).collect();
        // Eight bytes an account and only for a moment; nearly always nothing is left.
        held.sort_unstable();
        let mut twice: Vec<u64> =
            held.windows(2).filter(|two| two[0] == two[1]).map(|two| two[0]).collect();
        twice.dedup();
        let mut by_credential: BTreeMap<_, Vec<AccountId>> = BTreeMap::new();
        if !twice.is_empty() {
            for account in table.iter() {
                let hash =
                    credential(account.token).filter(|hash| twice.binary_search(hash).is_ok());
                if let Some(hash) = hash {
                    let key = (Arc::clone(&account.app), hash);
                    by_credential.entry(key).or_default().push(account.id.clone());
                }
            }
            by_credential.retain(|_, accounts| accounts.len() > 1);
        }
        Self { by_credential }
    }
}

fn credential(token: Option<TokenFacts>) -> Option<u64> {
    token?.renewable_by.map(Fingerprint::as_hash)
}

impl Fleet {
    /// A pass over the store is complete.
    pub(super) fn note_shared(&mut self) {
        self.shared = Shared::of(&self.table);
    }

    /// The credential of `id` was refreshed: `spent` is what the others still hold.
    pub(super) fn send_for_share(
        &mut self,
        now: Timestamp,
        id: &AccountId,
        spent: Option<Fingerprint>,
    ) {
        let key = self
            .table
            .find(id)
            .map(|account| Arc::clone(&account.app))
            .zip(spent.map(Fingerprint::as_hash));
        let Some(others) = key.and_then(|key| self.shared.by_credential.get(&key)) else { return };
        for other in others.clone() {
            let sent = self.table.change(&other, |account| {
                let holds_it = account.token.and_then(|token| token.renewable_by) == spent;
                let goes =
                    holds_it && account.busy == Busy::Idle && !account.in_doubt && !account.unsaved;
                account.written_back |= goes;
                goes
            });
            if sent == Some(true) {
                self.look_at(now, &other);
            }
        }
    }

    /// The row of `id` holds the token that was received for another account.
    pub(super) fn take_share(&mut self, now: Timestamp, id: &AccountId, token: TokenFacts) {
        let pass = self.load;
        let spent = self.table.find(id).and_then(|account| account.token?.renewable_by);
        self.give_up_saving(id);
        self.table.change(id, |account| {
            account.replace_token(token);
            account.in_doubt = false;
            account.changed_in = pass;
            account.written_back = false;
            account.verdict = None;
            account.access_refused = false;
            account.failed_in_a_row = 0;
            account.not_before = None;
            account.questioned_at = None;
        });
        self.saves.worked();
        self.changed.insert(id.clone());
        self.note_scopes(now, id);
        self.report(Event::Shared { id: id.clone() });
        self.send_for_share(now, id, spent);
        self.look_at(now, id);
    }
}

#[cfg(test)]
mod tests {
    use super::super::{Finished, tests::Bench};
    use crate::core::{Event, Fingerprint};

    #[test]
    fn a_credential_that_was_refreshed_for_one_is_sent_for_by_the_others_at_once() {
        let mut bench = Bench::new();
        let due = bench.token(1, 0.9);
        let fresh = bench.token(1, 0.1);
        bench.load(&[("a", due), ("b", fresh), ("c", fresh), ("other", bench.token(9, 0.1))]);
        assert_eq!(bench.started(), ["refresh a"]);
        assert_eq!(bench.fleet.snapshot(bench.now).sharing, 3);
        let new = bench.token(2, 0.0);
        bench.finish("a", Finished::Renewed(new));
        assert_eq!(bench.started(), ["save b", "save c"], "and nobody refreshes it again");
        for name in ["b", "c"] {
            bench.finish(name, Finished::Shared(new));
            assert_eq!(bench.reports(|event| matches!(event, Event::Shared { .. })).len(), 1);
            assert_eq!(bench.account(name).token, Some(new));
            assert_eq!(bench.account(name).cause, None);
        }
        assert_eq!((bench.started().len(), bench.notices()), (0, vec![]));
        bench.load(&[("a", new), ("b", new), ("c", new), ("other", bench.token(9, 0.1))]);
        assert_eq!((bench.started().len(), bench.fleet.snapshot(bench.now).sharing), (0, 3));
    }

    #[test]
    fn what_lives_on_is_nobodys_to_replace() {
        let mut bench = Bench::new();
        bench.load(&[("a", bench.token(1, 0.9)), ("b", bench.token(1, 0.1))]);
        let mut new = bench.token(2, 0.0);
        new.renewable_by = Some(Fingerprint::from_hash(1_000_001));
        bench.finish("a", Finished::Renewed(new));
        assert_eq!(
            bench.started(),
            [""; 0],
            "the provider handed the same refresh token out again"
        );
        assert_eq!(bench.account("b").token.unwrap().token, bench.token(1, 0.1).token);
    }

    #[test]
    fn who_holds_something_of_his_own_meanwhile_is_left_alone() {
        let mut bench = Bench::new();
        bench.load(&[("a", bench.token(1, 0.9)), ("b", bench.token(1, 0.1))]);
        bench.load(&[("a", bench.token(1, 0.9)), ("b", bench.token(7, 0.0))]);
        bench.finish("a", Finished::Renewed(bench.token(2, 0.0)));
        assert_eq!(bench.started(), [""; 0]);
    }
}
