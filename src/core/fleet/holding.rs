//! Which accounts are ours to look after, and until when.
//!
//! Several processes share the accounts: each holds some of 256 shares, for a while. Of an account whose
//! share is not held nothing is known here and nothing is done for it. What was remembered about it stays
//! where it is, for whoever holds it next.

use super::Fleet;
use crate::core::{Account, AccountId, Shares, Table, Timestamp};

/// The shares that were last handed to us.
#[derive(Debug, Default)]
pub(super) struct Holding {
    shares: Shares,
    /// When that ends; `None` for never.
    until: Option<Timestamp>,
    /// True when that end has come: as if nothing were held, until we are told anew.
    is_over: bool,
    /// Shares that were held without a break since the running pass over the store began: only of them it
    /// can be said that whoever was not seen has left.
    whole_pass: Shares,
    /// The time when it was last told.
    told_at: Option<Timestamp>,
}

impl Holding {
    /// Takes note of the time. True when the end has come since it was last told.
    fn note_time(&mut self, now: Timestamp) -> bool {
        // A clock that was set back says nothing about how much is left.
        let is_back = self.told_at.replace(now).is_some_and(|last| now < last);
        let ends = self.until.is_some_and(|until| is_back || until.has_come(now));
        let news = ends && !self.is_over;
        self.is_over |= ends;
        news
    }

    /// What is held at this moment.
    pub(super) const fn shares(&self) -> Shares {
        if self.is_over { Shares::NONE } else { self.shares }
    }

    /// When that ends, if it has not.
    pub(super) fn ends_at(&self) -> Option<Timestamp> {
        self.until.filter(|_| !self.is_over)
    }

    /// A pass over the store begins.
    pub(super) const fn begin_pass(&mut self) {
        self.whole_pass = self.shares();
    }

    /// True when every account is ours, and was when the last pass over the store began.
    pub(super) fn has_seen_all(&self) -> bool {
        self.shares() == Shares::ALL && self.whole_pass == Shares::ALL
    }

    /// True when a pass that ends now has looked for `id` from end to end.
    pub(super) fn is_in_whole_pass(&self, id: &AccountId) -> bool {
        self.whole_pass.contain(id)
    }
}

impl Fleet {
    /// Nothing is done on old knowledge: before anything else it is seen whether the time is over.
    pub(super) fn note_time(&mut self, now: Timestamp) {
        if self.holding.note_time(now) {
            self.holding.whole_pass = Shares::NONE;
            self.ready.clear();
            self.save_on(now);
        }
    }

    /// We have been told which shares are ours.
    pub(super) fn hold(&mut self, now: Timestamp, shares: Shares, until: Option<Timestamp>) {
        let was_over = self.holding.is_over;
        let before = self.holding.shares;
        self.holding.shares = shares;
        self.holding.until = until;
        self.holding.is_over = false;
        self.holding.told_at = None;
        self.holding.whole_pass = self.holding.whole_pass.within(shares);
        self.note_time(now);
        if !before.without(shares).is_empty() {
            self.give_away();
        }
        if was_over && !self.holding.is_over {
            // What came up while nothing could be done.
            self.look_at_all(now, |_| true);
        }
        self.learn_pauses();
        // Of an account that is still here, more is known than was written down.
        let is_awaited = |id: &AccountId| shares.contain(id) && self.table.find(id).is_none();
        self.recalled.retain(|id, _| is_awaited(id));
        self.away.retain(|id, _| is_awaited(id));
        self.reopened.retain(|id, _| is_awaited(id));
        self.notes.retain(is_awaited);
    }

    /// An account that stayed here for what it owed may have been somebody else's meanwhile: what he failed at
    /// is not tried again at once.
    fn learn_pauses(&mut self) {
        for (id, memory) in &self.recalled {
            self.table.change(id, |account| {
                if account.unsaved || account.token != memory.token {
                    return;
                }
                account.failed_in_a_row = account.failed_in_a_row.max(memory.failed_in_a_row);
                account.not_before = account.not_before.max(memory.not_before);
            });
        }
    }

    /// True when the account is ours to look after at this moment.
    pub(super) fn holds(&self, id: &AccountId) -> bool {
        self.holding.shares().contain(id)
    }

    /// True when it is not known any more what is ours. Then nobody is told anything: somebody else may
    /// know better by now.
    pub(super) const fn is_over(&self) -> bool {
        self.holding.is_over
    }

    /// True when the account was ours when we were last told, be that over or not.
    pub(super) fn was_given(&self, id: &AccountId) -> bool {
        self.holding.shares.contain(id)
    }

    /// Lets every account go that is not ours any more. Those with a call under way or a token to be saved
    /// stay until that has come to its end.
    fn give_away(&mut self) {
        let gone: Vec<AccountId> = self
            .table
            .iter()
            .filter(|account| !self.was_given(&account.id))
            .map(|account| account.id.clone())
            .collect();
        gone.iter().for_each(|id| self.let_go(id));
        self.passed_over.retain(|id, _| self.holding.shares.contain(id));
    }

    /// Lets an account go that is not ours any more, as soon as it owes nothing. Nothing is forgotten and
    /// nobody is told: it goes on elsewhere.
    pub(super) fn let_go(&mut self, id: &AccountId) {
        let owes = |account: &Account| account.unsaved || self.flying.contains_key(id);
        if self.was_given(id) || self.table.find(id).is_none_or(owes) {
            return;
        }
        let Some(account) = self.table.remove(id) else { return };
        self.notes.part(&account);
        self.announced.remove(id);
        if self.changed.remove(id) {
            // What we knew last is worth knowing there. If it is not ours to write any more, the state
            // does not take it.
            self.parting.push(account.memory());
        }
    }

    /// Puts what has a token to be saved back into the queue: a token that was received is ours to save,
    /// whatever we hold.
    pub(super) fn save_on(&mut self, now: Timestamp) {
        self.look_at_all(now, |account| account.unsaved);
    }

    /// The accounts that are shown: not those that are here only for what they owe.
    pub(super) fn held_accounts(&self) -> Table {
        if self.holding.is_over {
            return Table::default();
        }
        let mut accounts = self.table.clone();
        for id in self.owing().filter(|id| !self.was_given(id)) {
            accounts.remove(id);
        }
        accounts
    }

    /// Accounts with a call under way or a token to be saved.
    fn owing(&self) -> impl Iterator<Item = &AccountId> {
        let all = (self.unsaved > 0).then(|| self.table.iter());
        let unsaved = all.into_iter().flatten().filter(|account| account.unsaved);
        self.flying.keys().chain(unsaved.map(|account| &account.id))
    }

    /// Shares with a call under way, a token to be saved or a memory to be written.
    pub(super) fn busy_shares(&self) -> Shares {
        let owing = self.owing();
        let unwritten = self.changed.iter().chain(self.parting.iter().map(|memory| &memory.id));
        let unwritten = unwritten.chain(self.notes.unwritten());
        let gone = self.forgotten.iter().map(|farewell| &farewell.id);
        owing.chain(unwritten).chain(gone).map(Shares::of).collect()
    }
}

#[cfg(test)]
mod tests;
