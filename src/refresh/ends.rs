//! Attempts whose token is in the store and whose end could not be written down: they are ended as soon as our
//! state takes it, not only with the account's next refresh. Until then they would stand among the open ones, and
//! the refresh token that was spent would not be known as spent.
//!
//! Absent on purpose: durability. The next start finds the open entry.

use super::{Refresher, Transport, app_of, stays_open};
use crate::{
    core::{AccountId, Fingerprint},
    oauth::Token,
    state::{self, EntryId},
    stores::TokenStore,
};
use std::{
    collections::BTreeMap,
    sync::{Mutex, MutexGuard, PoisonError},
};

/// What is to be written of one attempt.
#[derive(Clone, Copy)]
pub(super) struct End {
    pub(super) entry: EntryId,
    /// What renews the new token.
    pub(super) renewable_by: Option<Fingerprint>,
    /// The refresh token that it replaced.
    pub(super) spent: Option<Fingerprint>,
}

/// At most one for each account, since an entry that is open keeps the next from being begun.
#[derive(Default)]
pub(super) struct Ends(Mutex<BTreeMap<AccountId, End>>);

impl Ends {
    pub(super) fn is_empty(&self) -> bool {
        self.lock().is_empty()
    }

    /// Only after an error that leaves the entry ours to end.
    pub(super) fn keep_after(&self, error: &state::Error, id: &AccountId, end: End) {
        stays_open(error);
        if let state::Error::Unavailable { .. } = error {
            self.lock().insert(id.clone(), end);
        }
    }

    fn all(&self) -> Vec<(AccountId, End)> {
        self.lock().iter().map(|(id, end)| (id.clone(), *end)).collect()
    }

    fn forget(&self, id: &AccountId, entry: EntryId) {
        let mut ends = self.lock();
        if ends.get(id).is_some_and(|end| end.entry == entry) {
            ends.remove(id);
        }
    }

    fn lock(&self) -> MutexGuard<'_, BTreeMap<AccountId, End>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl<S: TokenStore, T: Transport> Refresher<S, T> {
    /// Writes down every end that is owed, until our state refuses one.
    pub async fn write_ends(&self) {
        for (id, End { entry, renewable_by, spent }) in self.held.ends().all() {
            let Ok(stored) = self.store.get(&id).await else { return };
            let apps = self.apps.load_full();
            let ours = stored.and_then(|stored| {
                let app = app_of(&apps, &stored)?;
                let is_ours = |token: &Token| self.renews_with(app, token) == renewable_by;
                stored.token.filter(is_ours)
            });
            // Where the store has moved on, the account's next attempt says what that means.
            if let Some(token) = ours {
                let done = self.state.complete(entry, &id, &token, renewable_by, spent).await;
                if let Err(state::Error::Unavailable { .. }) = done {
                    return;
                }
            }
            self.held.ends().forget(&id, entry);
        }
    }
}
