//! The whole program, as a stranger meets it: the real binary as a process of its own, with a provider that
//! keeps the truth, a mail server, a publisher's store, signals, and questions over HTTP.
//!
//! Nothing here looks inside the program. What it should have done is read from the provider's log, the
//! store and the mailbox; what it says of itself is held against that. Absent on purpose: fixed pauses.
//! Tests wait for conditions with a deadline; where something must not happen, they wait until something
//! else has happened that comes later.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on ends")]

mod apps;
mod asking;
mod capped;
mod clocks;
mod commands;
mod configuring;
mod connecting;
mod crashes;
mod diagnosing;
mod doubt;
mod gates;
mod healthy;
mod hook;
mod http;
mod leaks;
mod mail_server;
mod observing;
mod one_database;
mod patience;
mod people;
mod postgres;
mod process;
mod publisher;
mod replicas;
mod scrape;
mod shared;
mod storage;
mod told;
mod webhooks;
mod world;

pub(crate) use patience::{LOOK_EVERY, PATIENCE, until_or};
