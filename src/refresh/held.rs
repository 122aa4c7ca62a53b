//! Tokens that were received and could not be journalled: the last copy there is, but for the spill's.
//!
//! They are given to the journal again with each attempt at their account and whenever the keeper looks at
//! what is in trouble, and to the store, which needs no journal to take them.

use super::{
    Attempt, Refresher, Transport, app_of,
    ends::{End, Ends},
    is_anothers,
};
use crate::{
    core::{AccountId, Fingerprint, fleet::Finished},
    oauth::Token,
    state::{EntryId, Spill, spill::Name},
    stores::{Saved, TokenStore},
};
use std::{
    collections::{BTreeMap, BTreeSet},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

/// One of them.
#[derive(Clone)]
pub(super) struct Copy {
    /// The journal entry it belongs into. Of another entry it must never become the result: that would be
    /// an old token over a new one.
    pub(super) entry: EntryId,
    /// The token that the store held when it was asked for.
    pub(super) old: Fingerprint,
    /// The refresh token that was spent for it.
    pub(super) spending: Fingerprint,
    pub(super) token: Token,
    /// Its file in the spill, once it lies there.
    pub(super) spilled_as: Option<Name>,
}

/// At most one for each account, since an entry that is open keeps the next from being begun.
#[derive(Default)]
pub struct Held {
    copies: Mutex<BTreeMap<AccountId, Copy>>,
    ends: Ends,
    /// Where each of them lies as well; `None` where memory is all there is.
    spill: Option<Arc<Spill>>,
}

impl Held {
    /// Nothing yet, and a place for what will be.
    #[must_use]
    pub fn spilling_to(spill: Spill) -> Self {
        Self { spill: Some(Arc::new(spill)), ..Self::default() }
    }

    /// How many tokens lie in the spill, of earlier runs too.
    #[must_use]
    pub fn spilled(&self) -> usize {
        self.spill.as_ref().map_or(0, |spill| spill.len())
    }

    /// True when one lies in the spill that may yet be brought to its place.
    #[must_use]
    pub fn awaits_spilled(&self) -> bool {
        self.spill.as_ref().is_some_and(|spill| !spill.readable().is_empty())
    }

    /// How many there are; while there is one, the program must not end.
    #[must_use]
    pub fn len(&self) -> usize {
        self.lock().len()
    }

    /// True when there is one of this account.
    #[must_use]
    pub fn holds(&self, id: &AccountId) -> bool {
        self.lock().contains_key(id)
    }

    /// True when there is none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.lock().is_empty()
    }

    pub(super) fn keep(&self, attempt: &Attempt<'_>, old: Fingerprint, token: Token) {
        let Attempt { entry, spending, .. } = *attempt;
        let copy = Copy { entry, old, spending, token, spilled_as: None };
        self.lock().insert(attempt.id.clone(), copy);
    }

    /// Keeps what an earlier run received. False when another token of the account is held.
    pub(super) fn take_over(&self, id: &AccountId, copy: Copy) -> bool {
        let mut held = self.lock();
        let is_free = held.get(id).is_none_or(|known| known.entry == copy.entry);
        if is_free {
            held.insert(id.clone(), copy);
        }
        is_free
    }

    /// Notes where the token lies. False when it is not held any more.
    pub(super) fn is_spilled(&self, id: &AccountId, entry: EntryId, name: &Name) -> bool {
        let mut held = self.lock();
        let copy = held.get_mut(id).filter(|copy| copy.entry == entry);
        copy.map(|copy| copy.spilled_as = Some(name.clone())).is_some()
    }

    pub(super) fn spilled_names(&self) -> BTreeSet<Name> {
        self.lock().values().filter_map(|copy| copy.spilled_as.clone()).collect()
    }

    pub(super) const fn spill(&self) -> Option<&Arc<Spill>> {
        self.spill.as_ref()
    }

    /// True when the end of an attempt is still to be written down. Nothing is lost if it never is.
    #[must_use]
    pub fn owes_ends(&self) -> bool {
        !self.ends.is_empty()
    }

    pub(super) const fn ends(&self) -> &Ends {
        &self.ends
    }

    pub(super) fn of_entry(&self, id: &AccountId, entry: EntryId) -> Option<Token> {
        let held = self.lock();
        held.get(id).filter(|copy| copy.entry == entry).map(|copy| copy.token.clone())
    }

    pub(super) fn let_go(&self, id: &AccountId, entry: EntryId) {
        let mut held = self.lock();
        if held.get(id).is_some_and(|copy| copy.entry == entry) {
            let file = held.remove(id).and_then(|copy| copy.spilled_as);
            drop(held);
            if let Some((spill, name)) = self.spill.as_ref().zip(file) {
                spill.remove(&name);
            }
        }
    }

    pub(super) fn copy(&self, id: &AccountId) -> Option<Copy> {
        self.lock().get(id).cloned()
    }

    fn ids(&self) -> Vec<AccountId> {
        self.lock().keys().cloned().collect()
    }

    fn lock(&self) -> MutexGuard<'_, BTreeMap<AccountId, Copy>> {
        self.copies.lock().unwrap_or_else(PoisonError::into_inner)
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
                tracing::error!(account = %id, %error, "a new token is still not in the journal");
                self.spill_held(id).await;
            }
        }
        self.held.copy(id).is_none()
    }

    /// Saves what is held while our state does not work. It needs no lease: nothing is spent, and the store
    /// compares. `None` when there is nothing to save, or the store did not take it as it is.
    pub(super) async fn save_held(&self, id: &AccountId) -> Option<Finished> {
        let Copy { entry, old, spending, token, .. } = self.held.copy(id)?;
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
                    self.held.ends().keep_after(&error, id, End { entry, renewable_by: by, spent });
                }
                Some(Finished::Renewed(self.facts(&app, &token)))
            }
            // What must not go into the store belongs into the journal.
            Ok(Saved::Conflict | Saved::Gone) => None,
            Err(error) => {
                tracing::error!(account = %id, %error, "neither our state nor the store takes a new token");
                Some(Finished::Unsaved(self.facts(&app, &token)))
            }
        }
    }
}
