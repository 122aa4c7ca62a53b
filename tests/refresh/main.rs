//! One refresh, situation by situation: what it says, what it sent, what store and journal hold afterwards.
//!
//! The state is the real one, in a folder of its own; the store and the way to the provider are played. Each
//! situation ends with the two questions that matter: was a refresh token presented again, and is anything
//! gone that was received?
#![allow(clippy::unwrap_used, reason = "a test may")]

mod about_app;
mod bench;
mod consenting;
mod crashes;
mod one_call;
mod races;
mod received;
mod settling;
mod shared;
mod spilled;
mod stale;
mod stopped;
mod store;
