//! Tokens that were received and could not be journalled: the last copy there is.
//!
//! They are given to the journal again with each attempt at their account and whenever the keeper looks at
//! what is in trouble, and to the store, which needs no journal to take them.

use super::{Attempt, Refresher, Transport, app_of, is_anothers, stays_open};
use crate::{
    core::{AccountId, Fingerprint, fleet::Finished},
    oauth::Token,
    state::EntryId,
    stores::{Saved, TokenStore},
};
use std::{
    collections::BTreeMap,
    sync::{Mutex, MutexGuard, PoisonError},
};

/// One of them.
#[derive(Clone)]
struct Copy {
    /// The journal entry it belongs into. Of another entry it must never become the result: that would be
    /// an old token over a new one.
    entry: EntryId,
    /// The token that the store held when it was asked for.
    old: Fingerprint,
    /// The refresh token that was spent for it.
    spending: Fingerprint,
    token: Token,
}

/// At most one for each account, since an entry that is open keeps the next from being begun.
#[derive(Default)]
pub struct Held(Mutex<BTreeMap<AccountId, Copy>>);

impl Held {
    /// How many there are; while there is one, the program must not end.
    #[must_use]
    pub fn len(&self) -> usize {
        self.lock().len()
    }

    /// True when there is none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.lock().is_empty()
    }

    pub(super) fn keep(&self, attempt: &Attempt<'_>, old: Fingerprint, token: Token) {
        let Attempt { entry, spending, .. } = *attempt;
        self.lock().insert(attempt.id.clone(), Copy { entry, old, spending, token });
    }

    pub(super) fn of_entry(&self, id: &AccountId, entry: EntryId) -> Option<Token> {
        let held = self.lock();
        held.get(id).filter(|copy| copy.entry == entry).map(|copy| copy.token.clone())
    }

    pub(super) fn let_go(&self, id: &AccountId, entry: EntryId) {
        let mut held = self.lock();
        if held.get(id).is_some_and(|copy| copy.entry == entry) {
            held.remove(id);
        }
    }

    fn copy(&self, id: &AccountId) -> Option<Copy> {
        self.lock().get(id).cloned()
    }

    fn ids(&self) -> Vec<AccountId> {
        self.lock().keys().cloned().collect()
    }

    fn lock(&self) -> MutexGuard<'_, BTreeMap<AccountId, Copy>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl<S: TokenStore, T: Transport> Refresher<S, T> {
    /// Gives the journal everything that is held in memory only, until it refuses one.
    pub async fn journal_held(&self) {
        for id in self.held.ids() {
            if !self.journal_held_of(&id).await {
                return;
            }
        }
    }

    /// The same for one account. False when the journal did not take it.
    pub(super) async fn journal_held_of(&self, id: &AccountId) -> bool {
        let Some(Copy { entry, token, .. }) = self.held.copy(id) else {
            return true;
        };
        match self.state.record_result(entry, id, &token).await {
            Ok(()) => self.held.let_go(id, entry),
            Err(error) => {
                tracing::error!(account = %id, "a new token is still held in memory only: {error}");
            }
        }
        self.held.copy(id).is_none()
    }

    /// Saves what is held while our state does not work. It needs no lease: nothing is spent, and the store
    /// compares. `None` when there is nothing to save, or the store did not take it as it is.
    pub(super) async fn save_held(&self, id: &AccountId) -> Option<Finished> {
        let Copy { entry, old, spending, token } = self.held.copy(id)?;
        let stored = self.store.get(id).await.ok()??;
        let app = app_of(&self.apps.load_full(), &stored).cloned()?;
        if stored.token.is_some_and(|stored| is_anothers(&token, &stored)) {
            return None;
        }
        match self.store.save(id, &token, old).await {
            Ok(Saved::Written | Saved::AlreadyThere) => {
                self.held.let_go(id, entry);
                let by = self.renews_with(&app, &token);
                let spent = (by != Some(spending)).then_some(spending);
                if let Err(error) = self.state.complete(entry, id, &token, by, spent).await {
                    stays_open(&error);
                }
                Some(Finished::Renewed(self.facts(&app, &token)))
            }
            // What must not go into the store belongs into the journal.
            Ok(Saved::Conflict | Saved::Gone) => None,
            Err(error) => {
                tracing::error!(account = %id, "neither our state nor the store takes a new token: {error}");
                Some(Finished::Unsaved(self.facts(&app, &token)))
            }
        }
    }
}
