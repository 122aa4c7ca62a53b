//! When the token endpoint of each app last said something that can be read.
//!
//! The one probe after an unknown outcome must not end in the dark as well. Where the provider has no free
//! check to ask first, an answer to any other account is the sign that it is back.
//!
//! And verdicts about a token from which nothing could follow yet, because store or state did not answer: they are
//! looked into again, and the token is not sent again. Absent on purpose: durability.

use crate::{
    core::{AccountId, Evidence, Timestamp},
    state::EntryId,
};
use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

/// One instant for each app, and at most one verdict for each account.
#[derive(Default)]
pub struct Heard {
    last: Mutex<BTreeMap<Arc<str>, Timestamp>>,
    verdicts: Mutex<BTreeMap<AccountId, (EntryId, Evidence)>>,
}

impl Heard {
    pub(super) fn note(&self, app: &Arc<str>, at: Timestamp) {
        let mut heard = lock(&self.last);
        let last = heard.entry(Arc::clone(app)).or_insert(at);
        *last = at.max(*last);
    }

    pub(super) fn since(&self, app: &Arc<str>, instant: Timestamp) -> bool {
        lock(&self.last).get(app).is_some_and(|at| *at >= instant)
    }

    pub(super) fn keep_verdict(&self, id: &AccountId, entry: EntryId, evidence: &Evidence) {
        lock(&self.verdicts).insert(id.clone(), (entry, evidence.clone()));
    }

    pub(super) fn verdict(&self, id: &AccountId, entry: EntryId) -> Option<Evidence> {
        let verdicts = lock(&self.verdicts);
        let (of_entry, evidence) = verdicts.get(id)?;
        (*of_entry == entry).then(|| evidence.clone())
    }

    pub(super) fn forget_verdict(&self, id: &AccountId) {
        lock(&self.verdicts).remove(id);
    }
}

fn lock<T>(notes: &Mutex<T>) -> MutexGuard<'_, T> {
    notes.lock().unwrap_or_else(PoisonError::into_inner)
}
