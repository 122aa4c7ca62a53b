//! One outgoing request, bounded in every way.
//!
//! Absent on purpose: redirects, cookies, proxies from the environment, retries, and any error text
//! that could hold a URL or a body.

use std::time::Duration;

/// Longest answer that is read, in bytes. A token answer is under 4 KiB everywhere.
pub const ANSWER_BYTES_MAX: usize = 64 * 1024;

/// Bounds on outgoing requests. `config` fills it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Settings {
    /// From the first byte of a name look-up to the last byte of the answer.
    pub total_deadline: Duration,
    /// For DNS, TCP and TLS together. Shorter than the total, so that "never left" can be told from
    /// "lost on the way".
    pub connect_deadline: Duration,
    /// Requests under way per app.
    pub in_flight_per_app_max: usize,
    /// PEM file with the only certificate authorities to trust, instead of the system's.
    pub ca_file: Option<std::path::PathBuf>,
    /// `http://host:port` of a proxy; the environment is not consulted.
    pub proxy: Option<String>,
}
