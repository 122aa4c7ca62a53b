//! Who looks after which accounts: shares of all accounts, each held by one replica for a while.
//!
//! On SQLite one machine has everything for ever. On PostgreSQL see `postgres/shares`.

use crate::core::Shares;
use std::{collections::BTreeMap, time::Duration};

/// How a process takes part in a state that several share. On SQLite there is no difference.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Role {
    /// It holds shares, and of an account whose share it does not hold it can neither take the lease nor
    /// write anything but a token that it received.
    Replica,
    /// It holds none: a command that takes the lease of one account beside those who run.
    Guest,
}

/// What a replica says of itself, for all to add up.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    /// Accounts that it looks after.
    pub accounts: u64,
    /// How many of them only a person can mend.
    pub needing_reconnect: u64,
    /// Tokens that the store has not taken.
    pub unsaved: u64,
    /// Refreshes and saves under way.
    pub in_flight: u64,
}

/// A sign of life.
#[derive(Clone, Debug)]
pub struct Beat {
    /// What people call the replica.
    pub name: String,
    /// How long its shares stay its own without another sign of life.
    pub lease: Duration,
    /// What it says of itself.
    pub counts: Counts,
    /// Shares that it gives back.
    pub releasing: Shares,
    /// Whether it takes shares that are free, up to its fair part.
    pub takes: bool,
}

/// What is held after a [`Beat`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Held {
    /// Each share with its epoch: with another one it may have been somebody else's in between.
    pub shares: BTreeMap<u8, u64>,
    /// For how long, from the moment the call began; `None` for ever.
    pub lasts: Option<Duration>,
    /// Replicas that are alive, this one too.
    pub members: usize,
    /// What all of them say of themselves.
    pub totals: Counts,
    /// How many more are held than a fair part.
    pub surplus: usize,
    /// When somebody else's share becomes free unless he is heard of before.
    pub next_free_in: Option<Duration>,
}

impl Held {
    /// Everything, for ever.
    pub(super) fn alone(counts: Counts) -> Self {
        let shares = Shares::ALL.iter().map(|share| (share, 0)).collect();
        Self { shares, lasts: None, members: 1, totals: counts, surplus: 0, next_free_in: None }
    }
}
