//! Probes that our state may count as sent and that were not: the answer to noting one was lost, or it could
//! not be given back. Without them an account would be given up for a request that was never made.
//!
//! Absent on purpose: durability. After a restart what is noted counts as sent.

use crate::{
    core::{AccountId, Timestamp},
    state::{self, EntryId},
};
use std::{
    collections::BTreeMap,
    sync::{Mutex, MutexGuard, PoisonError},
};

/// At most one for each account.
#[derive(Default)]
pub struct Unspent(Mutex<BTreeMap<AccountId, (EntryId, Timestamp)>>);

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
            self.lock().insert(id.clone(), (entry, over_at));
        }
    }

    pub(super) fn is_that_of(&self, id: &AccountId, entry: EntryId, over_at: Timestamp) -> bool {
        self.lock().get(id) == Some(&(entry, over_at))
    }

    pub(super) fn forget(&self, id: &AccountId) {
        self.lock().remove(id);
    }

    fn lock(&self) -> MutexGuard<'_, BTreeMap<AccountId, (EntryId, Timestamp)>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
