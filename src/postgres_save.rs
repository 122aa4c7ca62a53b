//! A save into the publisher's table as a value. The store writes it and knows whose columns these are; our
//! state carries it out, in the transaction that makes the received token durable, where both are in one
//! database. Neither knows the other.

use std::{
    collections::HashSet,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};
use zeroize::Zeroizing;

/// What must happen in the table. Nothing of it may last unless all of it goes through.
pub struct Save {
    /// Said before it, for this transaction alone: how values are written as text, and where names are
    /// looked up.
    pub settings: &'static str,
    /// The save itself.
    pub writes: Vec<Statement>,
    /// An error unless the table holds the new token.
    pub check: Statement,
    /// The store's own connections. Whoever carries the save out becomes one of them first, so that the
    /// store's listener takes its notifications for no news.
    pub sessions: Sessions,
}

/// One statement, all of whose values are text.
pub struct Statement {
    /// Its text, with `$1::text` and so on for its values.
    pub sql: String,
    /// Its values, in order. Some are tokens, so they are wiped.
    pub values: Vec<Option<Zeroizing<String>>>,
}

/// The first row of each write, as text. None of them reads a token.
pub type Looks = Vec<Vec<Option<String>>>;

/// The server's numbers of connections that are our own.
#[derive(Clone, Default)]
pub struct Sessions(Arc<Mutex<HashSet<i32>>>);

impl Sessions {
    /// This connection is ours.
    pub fn add(&self, number: i32) {
        self.lock().insert(number);
    }

    /// It is gone, and its number may become anybody's.
    pub fn remove(&self, number: i32) {
        self.lock().remove(&number);
    }

    /// Whether a connection is ours.
    #[must_use]
    pub fn contains(&self, number: i32) -> bool {
        self.lock().contains(&number)
    }

    fn lock(&self) -> MutexGuard<'_, HashSet<i32>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
