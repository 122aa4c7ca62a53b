//! The publisher's listener over real sockets: who may ask what, what is told, and what hostile clients get.
#![expect(clippy::unwrap_used, reason = "a test that cannot go on stops where it stands")]

mod accounts;
mod bench;
mod clients;
mod hooks;
mod listening;
mod orders;
mod permits;
mod responses;
mod sockets;
mod tokens;
