//! The stage on which the real program is shown and tested: a provider that speaks TikTok's dialect, a
//! publisher that only posts, a mailbox, and a script of troubles.
//!
//! It starts the program through [`crate::app::start`] with an ordinary configuration file, so what is
//! shown is what runs elsewhere. Absent on purpose: any knowledge of the program's inside; the stage sees
//! its events, its writes to the store, its requests and its mails.

mod audit;
mod cast;
mod disk;
mod http;
pub mod mailbox;
mod narrator;
pub mod provider;
pub mod publisher;
mod scenario;
mod stage;

pub use scenario::run;

use std::{
    net::{Ipv4Addr, SocketAddr},
    path::PathBuf,
    time::Duration,
};

/// How to play the demo.
#[derive(Clone, Debug)]
pub struct Options {
    /// How many accounts; at least twelve, so that every role is played.
    pub accounts: usize,
    /// For how long, at least a minute; `None` plays until it is interrupted.
    pub run_for: Option<Duration>,
    /// Where the program shows metrics and status page.
    pub listen: SocketAddr,
    /// Where configuration, store and state lie. One that holds a demo is continued. `None` makes one
    /// that goes away when all went well.
    pub directory: Option<PathBuf>,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            accounts: cast::ACCOUNTS_MIN,
            run_for: None,
            listen: SocketAddr::from((Ipv4Addr::LOCALHOST, 8640)),
            directory: None,
        }
    }
}

/// 128 random bits.
fn random_hex() -> String {
    let mut bytes = [0; 16];
    getrandom::fill(&mut bytes).expect("the operating system has randomness");
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}
