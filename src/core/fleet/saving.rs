//! Whether the store takes tokens, by what became of the last ones.
//!
//! A few rows that refuse theirs are those rows' trouble, and spending goes on; a store that answers and takes
//! nothing must be given nothing to refuse. What tells the two apart are new tokens: one that is saved says
//! that the store takes some, and the hundredth failure of the same row says nothing new.

use super::Fleet;
use crate::core::Timestamp;
use std::time::Duration;

/// The last saves.
#[derive(Debug, Default)]
pub(super) struct Saves {
    /// New tokens in a row that the store did not take.
    refused: u32,
    /// While it takes none: when one more may be spent to see whether it still does not.
    try_at: Option<Timestamp>,
    /// Whether the store answered when it was last looked at.
    answers: bool,
}

impl Saves {
    pub(super) fn refused_another(&mut self, now: Timestamp) {
        self.refused = self.refused.saturating_add(1);
        self.try_at = Some(now.plus(TRY_EVERY));
    }

    pub(super) const fn worked(&mut self) {
        self.refused = 0;
        self.try_at = None;
    }

    pub(super) const fn answered(&mut self, answers: bool) {
        self.answers = answers;
    }

    pub(super) const fn are_refused(&self) -> bool {
        self.refused >= REFUSED_STOP_SPENDING
    }
}

impl Fleet {
    /// True while what a refresh brings could be kept.
    pub(super) fn may_spend(&self, now: Timestamp) -> bool {
        self.state.is_well() && (self.store.is_well() || self.may_try_the_store(now))
    }

    /// True when the store takes what it is given, as far as anybody knows.
    pub(super) const fn store_takes(&self) -> bool {
        !self.saves.are_refused() && self.unsaved < UNSAVED_MAX
    }

    /// Otherwise three rows that refuse theirs, one after the other, would end all spending for good: what
    /// is tried again and again is theirs alone.
    fn may_try_the_store(&self, now: Timestamp) -> bool {
        self.saves.answers
            && self.saves.are_refused()
            && self.saves.try_at.is_some_and(|at| at.has_come(now))
            && self.unsaved < UNSAVED_MAX
            && self.flying.is_empty()
    }
}

/// So many new tokens in a row are no matter of single rows any more.
const REFUSED_STOP_SPENDING: u32 = 3;

/// How often one token is spent to see whether a store takes them again.
const TRY_EVERY: Duration = Duration::from_secs(60);

/// So many tokens may wait to be saved. They are safe in the journal, but each is an account that does not
/// work.
const UNSAVED_MAX: usize = 500;
