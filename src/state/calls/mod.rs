//! What can be asked of the state, by what it is about.

mod accounts;
mod notices;
mod people;
mod tokens;

pub use notices::{Arranged, Listed, Owed, Thread};
pub use tokens::{Closing, EntryId, Intent, Lease, Newest, OpenEntry};
