//! Probes that our state may count as sent and that were not: the answer to noting one was lost, or it could
//! not be given back. Without them an account would be given up for a request that was never made.
//!
//! And attempts that were certainly not committed while our state could not be told so, or whose intent may lie
//! there although its writing seemed to fail. Their next request is an ordinary one; taken for the one probe, a
//! lost answer to it would be the end of a healthy account.
//!
//! Absent on purpose: durability. After a restart what is noted counts as sent.

use crate::{
    core::{AccountId, Timestamp},
    state::{self, EntryId, Intent},
};
use std::{
    collections::BTreeMap,
    sync::{Mutex, MutexGuard, PoisonError},
};

/// At most one of each for each account.
#[derive(Default)]
pub struct Unspent {
    probes: Mutex<BTreeMap<AccountId, (EntryId, Timestamp)>>,
    void: Mutex<BTreeMap<AccountId, EntryId>>,
    unsent: Mutex<BTreeMap<AccountId, Intent>>,
}

impl Unspent {
    /// Only after an error that leaves the account ours. The end of the request's time is remembered with it:
    /// another holder's probe of the same entry is not ours to send again.
    pub(super) fn keep_after(
        &self,
        error: &state::Error,
        id: &AccountId,
        entry: EntryId,
        over_at: Timestamp,
    ) {
        if let state::Error::Unavailable { .. } = error {
            lock(&self.probes).insert(id.clone(), (entry, over_at));
        }
    }

    /// The entry could not be voided.
    pub(super) fn keep_void(&self, error: &state::Error, id: &AccountId, entry: EntryId) {
        if let state::Error::Unavailable { .. } = error {
            lock(&self.void).insert(id.clone(), entry);
        }
    }

    /// Whether the intent was written is not known. Nothing was sent.
    pub(super) fn keep_unsent(&self, error: &state::Error, id: &AccountId, intent: Intent) {
        if let state::Error::Unavailable { .. } = error {
            lock(&self.unsent).insert(id.clone(), intent);
        }
    }

    /// Another holder's intent, or one that was probed since, is not the same.
    pub(super) fn is_unsent(&self, id: &AccountId, intent: &Intent) -> bool {
        lock(&self.unsent).get(id) == Some(intent)
    }

    pub(super) fn is_void(&self, id: &AccountId, entry: EntryId) -> bool {
        lock(&self.void).get(id) == Some(&entry)
    }

    pub(super) fn is_that_of(&self, id: &AccountId, entry: EntryId, over_at: Timestamp) -> bool {
        lock(&self.probes).get(id) == Some(&(entry, over_at))
    }

    pub(super) fn forget(&self, id: &AccountId) {
        lock(&self.probes).remove(id);
        lock(&self.void).remove(id);
        lock(&self.unsent).remove(id);
    }
}

fn lock<T>(notes: &Mutex<BTreeMap<AccountId, T>>) -> MutexGuard<'_, BTreeMap<AccountId, T>> {
    notes.lock().unwrap_or_else(PoisonError::into_inner)
}
