//! The pure core: told the time and what happened, it answers what to do.
//!
//! Absent on purpose: I/O, clocks, randomness, async, locks, and tokens. Nothing in here can fail, so
//! nothing in here returns an error; what looks like a failure elsewhere is an input here. Read
//! [`decide`] first: it is the whole policy.
#![deny(clippy::disallowed_methods, clippy::disallowed_types)]

pub mod account;
pub mod announcement;
pub mod cause;
pub mod connecting;
pub mod correlate;
pub mod decide;
pub mod diagnose;
pub mod digest;
pub mod event;
pub mod fleet;
pub mod gate;
pub mod history;
pub mod moves;
pub mod notices;
pub mod pattern;
pub mod permits;
pub mod posts;
pub mod recent;
pub mod recipient;
pub mod schedule;
pub mod second_clock;
pub mod secret;
pub mod shares;
pub mod table;
pub mod time;
pub mod timeline;
pub mod witness;

pub use account::{
    Account, AccountId, Busy, Evidence, Farewell, Fingerprint, KeptGate, Memory, Responses,
    TokenFacts,
};
pub use announcement::{Announcement, Order, Revoker, Said, Whose};
pub use cause::Cause;
pub use correlate::Suspect;
pub use event::Event;
pub use gate::{Door, Gate, Proof, Why};
pub use history::History;
pub use posts::{Posts, PostsAtRisk};
pub use recent::Recent;
pub use recipient::Recipient;
pub use secret::Secret;
pub use shares::Shares;
pub use table::{AppMemory, AppView, Snapshot, Table};
pub use time::Timestamp;
