//! What a pass over the store brings: new accounts, tokens that somebody else wrote, accounts that left.

use super::{Effect, Fleet, Reopened, Seen, ends};
use crate::core::{
    Account, AccountId, Busy, Cause, Event, Evidence, Memory, Timestamp, TokenFacts,
    second_clock::Differs,
};
use std::{collections::BTreeSet, sync::Arc};

impl Fleet {
    /// One account of a pass over the store.
    pub(super) fn see(&mut self, now: Timestamp, seen: Seen) {
        if !self.holds(&seen.id) {
            return;
        }
        let Some(account) = self.table.find(&seen.id) else {
            self.welcome(now, seen);
            return;
        };
        let is_busy = account.busy != Busy::Idle;
        let changed_by_us = account.changed_in == self.load;
        let same = account.token.map(|token| token.token) == seen.token.map(|token| token.token);
        let moved = account.app != seen.app;
        let is_unsaved = account.unsaved;
        let pass = self.load;
        if moved {
            let from = Arc::clone(&account.app);
            self.note_move(now, &seen.id, from);
        }
        self.table.change(&seen.id, |account| {
            account.seen_in = pass;
            account.app = Arc::clone(&seen.app);
        });
        if is_busy || is_unsaved || changed_by_us {
            // What is under way will tell, and what this pass read may be older than what we wrote.
            if is_busy && !is_unsaved && !changed_by_us {
                self.pass_over(&seen, same);
            }
        } else if !same {
            self.take_theirs(now, &seen.id, seen.token);
            return;
        } else if self.note_as_written(&seen) {
            self.note_scopes(now, &seen.id);
            self.look_at(now, &seen.id);
            return;
        }
        if moved {
            self.look_at(now, &seen.id);
        }
    }

    /// Keeps what was read of an account that is busy, for when its call comes back.
    fn pass_over(&mut self, seen: &Seen, same: bool) {
        if same {
            self.passed_over.remove(&seen.id);
        } else {
            self.passed_over.insert(seen.id.clone(), seen.token);
        }
    }

    /// The token is the same, but what the app requires may not be. Nothing missing says nothing: a store
    /// without a column for scopes always says so. Nothing must be put back any more.
    fn note_as_written(&mut self, seen: &Seen) -> bool {
        let missing = seen.token.map_or(0, |token| token.missing_scopes);
        let noted = self.table.change(&seen.id, |account| {
            let was_written_back = std::mem::take(&mut account.written_back);
            ends::compare(account, seen.token.as_ref());
            match &mut account.token {
                Some(token) if missing != 0 && token.missing_scopes != missing => {
                    token.missing_scopes = missing;
                    true
                }
                _ => was_written_back,
            }
        });
        noted == Some(true)
    }

    /// What is missing is one bit for each scope of the app's list: with another list it says nothing. The
    /// next pass over the store says it anew.
    pub(super) fn forget_missing_scopes(&mut self, apps: &BTreeSet<Arc<str>>) {
        let is_theirs = |account: &&Account| {
            apps.contains(&account.app)
                && account.token.is_some_and(|token| token.missing_scopes != 0)
        };
        let ids: Vec<AccountId> =
            self.table.iter().filter(is_theirs).map(|account| account.id.clone()).collect();
        for id in ids {
            self.table.change(&id, |account| {
                if let Some(token) = &mut account.token {
                    token.missing_scopes = 0;
                }
            });
        }
    }

    /// Rows that are there and say nothing.
    pub(super) fn note_unreadable(&mut self, ids: &[AccountId]) {
        let pass = self.load;
        for id in ids {
            let known = self.table.change(id, |account| account.seen_in = pass).is_some();
            if !known && self.recalled.contains_key(id) {
                self.unreadable.insert(id.clone());
            }
        }
    }

    /// An account that was not known before.
    fn welcome(&mut self, now: Timestamp, seen: Seen) {
        let mut account = Account::new(seen.id.clone(), seen.app);
        account.seen_in = self.load;
        account.token = seen.token;
        account.history = self.notes.take(&seen.id);
        account.first_seen_at = Some(now);
        let remembered = self.recalled.remove(&seen.id);
        if let Some(memory) = remembered.clone() {
            recall(&mut account, memory);
        }
        let was_marked = self.come_back(&mut account, remembered.as_ref());
        ends::take_up(&mut account, seen.token.as_ref());
        if let Some(reopened) = self.reopened.remove(&seen.id) {
            self.unsaved += usize::from(reopened.unsaved.is_some());
            take_up(&mut account, &reopened);
        }
        // A restart must not write down a million accounts that are as they were.
        if remembered.as_ref() != Some(&account.memory()) {
            self.changed.insert(seen.id.clone());
        }
        self.table.put(account);
        self.note_absence(now, &seen.id, remembered.and_then(|memory| memory.token));
        self.note_scopes(now, &seen.id);
        self.look_at(now, &seen.id);
        if was_marked {
            self.mark_again(&seen.id);
        }
    }

    /// Takes over a token that somebody else put into the store: everything said about the old one is
    /// void.
    pub(super) fn adopt(&mut self, now: Timestamp, id: &AccountId, token: Option<TokenFacts>) {
        self.give_up_saving(id);
        let was_refused = self.table.change(id, |account| {
            let was_refused = account.verdict == Some(Cause::RefreshTokenRejected);
            // Of a token that is known already, what is known is better than what the store says.
            if account.token.map(|known| known.token) != token.map(|token| token.token) {
                account.token = token;
                account.differs = Differs::default();
            }
            account.verdict = None;
            account.access_refused = false;
            account.failed_in_a_row = 0;
            account.not_before = None;
            account.questioned_at = None;
            account.in_doubt = false;
            account.written_back = false;
            was_refused
        });
        self.changed.insert(id.clone());
        if was_refused == Some(true) && token.is_some() {
            self.end_doubt_of(now, id);
        }
        self.look_at(now, id);
    }

    pub(super) fn end_load(&mut self, now: Timestamp, damaged: usize) {
        self.note_store(now, true);
        let pass = self.load;
        let gone: Vec<AccountId> = self
            .table
            .iter()
            // What is under way comes back first; the next pass sees to it.
            .filter(|account| account.seen_in != pass && account.busy == Busy::Idle)
            // Of those that became ours during the pass it may have read the rows before.
            .filter(|account| self.holding.is_in_whole_pass(&account.id))
            .map(|account| account.id.clone())
            .collect();
        gone.iter().for_each(|id| self.bid_farewell(now, id));
        self.store_read_at = Some(now);
        self.note_shared();
        // Whoever is remembered and was not seen has left while nobody looked.
        let unreadable = std::mem::take(&mut self.unreadable);
        let holding = &self.holding;
        let has_left = |id: &AccountId| holding.is_in_whole_pass(id) && !unreadable.contains(id);
        let absent: Vec<_> = self.recalled.extract_if(.., |id, _| has_left(id)).collect();
        let is_homeless = |id: &AccountId, _: &mut Reopened| has_left(id);
        let homeless: Vec<_> = self.reopened.extract_if(.., is_homeless).collect();
        homeless.iter().for_each(|(id, _)| self.save_once_more(id));
        absent.into_iter().for_each(|(_, memory)| {
            drop(self.notes.take(&memory.id));
            self.forget(now, memory);
        });
        self.forget_long_gone(now);
        self.report(Event::StoreRead { accounts: self.table.len(), gone: gone.len(), damaged });
    }

    /// Its token is not one that the store should take any more.
    pub(super) fn give_up_saving(&mut self, id: &AccountId) {
        let was_unsaved = self.table.change(id, |account| std::mem::take(&mut account.unsaved));
        self.unsaved -= usize::from(was_unsaved == Some(true));
    }

    pub(super) fn bid_farewell(&mut self, now: Timestamp, id: &AccountId) {
        if let Some(account) = self.table.remove(id) {
            self.unsaved -= usize::from(account.unsaved);
            if account.unsaved || account.in_doubt {
                self.save_once_more(id);
            }
            self.changed.remove(id);
            self.announced.remove(id);
            self.notes.forget(id);
            self.forget(now, account.memory());
        }
    }

    /// Of an account that the configuration does not know any more: its row may be there all the same, with a
    /// token in it that ours has replaced.
    fn save_once_more(&mut self, id: &AccountId) {
        if !self.flying.contains_key(id) {
            self.flying.insert(id.clone(), "".into());
            self.effects.push_back(Effect::Save { id: id.clone() });
        }
    }

    /// A pass found another token than ours.
    pub(super) fn take_theirs(
        &mut self,
        now: Timestamp,
        id: &AccountId,
        theirs: Option<TokenFacts>,
    ) {
        if self.is_spent(id, theirs) {
            // Nobody's new consent: what is known of ours stands.
            self.table.change(id, |account| account.written_back = true);
            self.look_at(now, id);
        } else {
            self.take_over(now, id, theirs);
        }
    }

    /// True when what was read is renewed by what we spent for the token that we know.
    pub(super) fn is_spent(&self, id: &AccountId, theirs: Option<TokenFacts>) -> bool {
        let known = self.table.find(id).zip(theirs);
        known.is_some_and(|(account, theirs)| account.has_replaced(&theirs))
    }

    /// Somebody else's token is in the store, and that is told.
    pub(super) fn take_over(&mut self, now: Timestamp, id: &AccountId, theirs: Option<TokenFacts>) {
        let reconnected = self.table.change(id, |account| std::mem::take(&mut account.reconnected));
        self.note_writing(now, id, theirs.as_ref(), reconnected == Some(true));
        self.adopt(now, id, theirs);
        self.note_scopes(now, id);
        let id = id.clone();
        self.report(match reconnected {
            Some(true) => Event::Reconnected { id },
            _ => Event::Adopted { id },
        });
    }
}

/// Takes up where the last run left off, if the store still holds the token it left.
fn recall(account: &mut Account, memory: Memory) {
    account.last_refresh_at = memory.last_refresh_at;
    account.first_seen_at = memory.first_seen_at.or(account.first_seen_at);
    account.told = memory.told;
    account.told_since = memory.told_since;
    account.door = memory.door.unwrap_or_default();
    // Also when its owner reconnected it meanwhile: what is over must be seen to end, or the publisher's
    // status column keeps what we wrote there.
    account.cause = memory.cause;
    account.cause_since = memory.cause_since;
    let known =
        memory.token.filter(|known| account.token.is_some_and(|seen| seen.token == known.token));
    let Some(known) = known else {
        return;
    };
    // Our instants are better than the store's: we were there when the token was issued.
    account.token = Some(known);
    if memory.cause == Some(Cause::UnsavedToken) {
        // Only the journal knows whether it still is: the store may have taken the token a moment before
        // the end, and then no failure of it is left to show.
        return;
    }
    account.failed_in_a_row = memory.failed_in_a_row;
    account.not_before = memory.not_before;
    let of_app = |cause: &Cause| {
        let last = account.history.as_ref().and_then(|history| history.last_of(*cause));
        last.is_some_and(|failure| failure.evidence.app_wide)
    };
    // What was its app's is known from there, and may be over.
    account.verdict = memory.cause.filter(|cause| !of_app(cause)).filter(|cause| {
        cause.needs_reconnect() || matches!(cause, Cause::ScopeMissing | Cause::WrongEnvironment)
    });
    if (memory.failed_in_a_row > 0 || account.verdict.is_some())
        && let (Some(cause), Some(since)) = (memory.cause, memory.cause_since)
    {
        let kept = account.history.as_ref().and_then(|history| history.last_of(cause));
        let kept = kept.map(|failure| Arc::clone(&failure.evidence));
        account.last_failure = Some(kept.unwrap_or_else(|| Arc::new(Evidence::of(cause, since))));
    }
}

/// Takes up an attempt that the last run did not bring to its end.
fn take_up(account: &mut Account, reopened: &Reopened) {
    match reopened.unsaved {
        Some(token) => {
            account.replace_token(token);
            account.unsaved = true;
            account.not_before = None;
        }
        None => {
            account.in_doubt = true;
            account.not_before = Some(reopened.over_at);
        }
    }
}
