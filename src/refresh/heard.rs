//! When the token endpoint of each app last said something that can be read.
//!
//! The one probe after an unknown outcome must not end in the dark as well. Where the provider has no free
//! check to ask first, an answer to any other account is the sign that it is back.

use crate::core::Timestamp;
use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, PoisonError},
};

/// One instant for each app.
#[derive(Default)]
pub struct Heard(Mutex<BTreeMap<Arc<str>, Timestamp>>);

impl Heard {
    pub(super) fn note(&self, app: &Arc<str>, at: Timestamp) {
        let mut heard = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let last = heard.entry(Arc::clone(app)).or_insert(at);
        *last = at.max(*last);
    }

    pub(super) fn since(&self, app: &Arc<str>, instant: Timestamp) -> bool {
        let heard = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        heard.get(app).is_some_and(|at| *at >= instant)
    }
}
