//! What `/metrics` shows.

pub mod events;
