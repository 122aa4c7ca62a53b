//! The stage on which the real program is shown and tested.

mod disk;
mod http;
pub mod mailbox;
pub mod provider;
