//! What happens to accounts, as their histories keep it. Nothing here decides anything.
//!
//! A history is written down apart from the memory and may be lost: whoever writes it does not insist. So
//! nothing that keeps a token alive may hang on it.

use super::Fleet;
use crate::core::{
    Account, AccountId, Cause, Evidence, History, Timestamp, TokenFacts,
    history::{Check, Failure, Moved, Source, Writer, Writing},
};
use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

/// Histories on their way in and out.
#[derive(Debug, Default)]
pub(super) struct Notes {
    /// What was kept of accounts that have not been seen since they became ours.
    recounted: BTreeMap<AccountId, Arc<History>>,
    /// Accounts whose history must be written.
    changed: BTreeSet<AccountId>,
    /// Histories that must be written of accounts that are not ours any more.
    parting: Vec<(AccountId, Arc<History>)>,
}

impl Notes {
    /// Takes in what was kept.
    pub(super) fn recount(&mut self, histories: Vec<(AccountId, History)>) {
        let shared = histories.into_iter().map(|(id, history)| (id, Arc::new(history)));
        self.recounted.extend(shared);
    }

    /// What was kept of an account that is seen for the first time.
    pub(super) fn take(&mut self, id: &AccountId) -> Option<Arc<History>> {
        self.recounted.remove(id)
    }

    /// Forgets what was kept of accounts that nobody waits for any more.
    pub(super) fn retain(&mut self, is_awaited: impl Fn(&AccountId) -> bool) {
        self.recounted.retain(|id, _| is_awaited(id));
    }

    /// An account is let go: what is not written yet is written without it.
    pub(super) fn part(&mut self, account: &Account) {
        if self.changed.remove(&account.id)
            && let Some(history) = &account.history
        {
            self.parting.push((account.id.clone(), Arc::clone(history)));
        }
    }

    /// An account has left: nothing of it is worth writing.
    pub(super) fn forget(&mut self, id: &AccountId) {
        self.changed.remove(id);
    }

    /// Accounts whose histories are not written yet.
    pub(super) fn unwritten(&self) -> impl Iterator<Item = &AccountId> {
        self.changed.iter().chain(self.parting.iter().map(|(id, _)| id))
    }
}

impl Fleet {
    /// Histories that must be written since the last call.
    pub fn take_histories(&mut self) -> Vec<(AccountId, Arc<History>)> {
        let changed = std::mem::take(&mut self.notes.changed);
        let mut histories = std::mem::take(&mut self.notes.parting);
        let history = |id: AccountId| {
            let history = self.table.find(&id)?.history.clone()?;
            Some((id, history))
        };
        histories.extend(changed.into_iter().filter_map(history));
        histories
    }

    /// A failure was seen.
    pub(super) fn note_failure(
        &mut self,
        now: Timestamp,
        id: &AccountId,
        evidence: &Arc<Evidence>,
        source: Source,
    ) {
        let clock_ahead = self.clock_offsets.get(&id.provider).copied();
        self.note(id, |account, history| {
            let seen = Failure {
                evidence: Arc::clone(evidence),
                first_at: evidence.at,
                times: 1,
                source,
                token_age: account.token.map(|token| now.since(token.issued_at)),
                clock_ahead,
            };
            history.note_failure(seen, account.last_refresh_at);
        });
    }

    /// The token, or what the app requires, may have changed.
    pub(super) fn note_scopes(&mut self, now: Timestamp, id: &AccountId) {
        let Some(account) = self.table.find(id) else { return };
        let is_quiet = account.history.as_ref().is_none_or(|history| history.scopes.is_empty());
        if is_quiet && account.token.is_none_or(|token| token.missing_scopes == 0) {
            return;
        }
        let missing = self.names_of_missing(id);
        let known = account.history.as_ref().and_then(|history| history.scopes.last());
        if known.is_none_or(|known| known.missing != missing) {
            self.note(id, |_, history| {
                history.note_scopes(now, missing);
            });
        }
    }

    /// Somebody else put `theirs` into the store. Before the account takes it over.
    pub(super) fn note_writing(
        &mut self,
        now: Timestamp,
        id: &AccountId,
        theirs: Option<&TokenFacts>,
    ) {
        let Some(account) = self.table.find(id) else { return };
        let by = match (&account.token, theirs) {
            (None, None) => return,
            (_, None) => Writer::Removed,
            (Some(known), Some(theirs)) if known.token == theirs.token => return,
            (_, Some(theirs)) if only_by_consent(now, account, theirs) => Writer::Reconnect,
            (_, Some(_)) => Writer::Publisher,
        };
        self.note(id, |_, history| history.note_writing(Writing { at: now, by }));
    }

    /// An account is seen for the first time in this run, and perhaps not with the token that was remembered.
    pub(super) fn note_absence(
        &mut self,
        now: Timestamp,
        id: &AccountId,
        remembered: Option<TokenFacts>,
    ) {
        let (Some(account), Some(remembered)) = (self.table.find(id), remembered) else { return };
        let by = match account.token {
            None => Writer::Removed,
            Some(found) if found.token == remembered.token => return,
            Some(_) if account.cause.is_some_and(Cause::needs_reconnect) => Writer::Reconnect,
            // It may be our own, saved a moment before the last run was cut off.
            Some(_) => return,
        };
        self.note(id, |_, history| history.note_writing(Writing { at: now, by }));
    }

    /// Somebody had put back what we had replaced.
    pub(super) fn note_stale_copy(&mut self, now: Timestamp, id: &AccountId) {
        self.note(id, |_, history| {
            history.note_writing(Writing { at: now, by: Writer::StaleCopy });
        });
    }

    /// The access token was tried.
    pub(super) fn note_checked(&mut self, now: Timestamp, id: &AccountId, alive: Option<bool>) {
        self.note(id, |_, history| history.check = Some(Check { at: now, alive }));
    }

    /// The account belongs to another app than before.
    pub(super) fn note_move(&mut self, now: Timestamp, id: &AccountId, from: Arc<str>) {
        self.note(id, |_, history| history.moved = Some(Moved { at: now, from }));
    }

    fn note(&mut self, id: &AccountId, change: impl FnOnce(&Account, &mut History)) {
        let noted = self.table.change(id, |account| {
            // Shared with the snapshot that others may be reading.
            let mut history = account.history.take().map(Arc::unwrap_or_clone).unwrap_or_default();
            change(account, &mut history);
            account.history = Some(Arc::new(history));
        });
        if noted.is_some() {
            self.notes.changed.insert(id.clone());
        }
    }
}

/// True when no refresh, whoever made it, can have brought `theirs`: the grant before it was finished, or
/// allowed less (RFC 6749 section 6 lets a refresh keep or narrow the scopes).
fn only_by_consent(now: Timestamp, account: &Account, theirs: &TokenFacts) -> bool {
    let Some(known) = &account.token else { return true };
    let is_finished = account.verdict.is_some_and(Cause::needs_reconnect)
        || known.refresh_expires_at.is_some_and(|end| end.has_come(now))
        || known.renewable_by.is_none();
    is_finished || known.missing_scopes & !theirs.missing_scopes != 0
}
