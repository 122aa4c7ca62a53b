//! A file becomes checked settings. Every other part owns the type of its own settings; this fills them.

use crate::{providers::Endpoints, secrets::SecretRef};
use std::time::Duration;

/// Everything that the configuration file says, checked.
#[derive(Clone, Debug)]
pub struct Settings {
    /// The HTTP surface.
    pub server: crate::server::Settings,
    /// The publisher's token store.
    pub store: crate::stores::Settings,
    /// Our own state.
    pub state: crate::state::Settings,
    /// Outgoing requests.
    pub http: crate::http_client::Settings,
    /// Apps, in the order of the file; names are unique.
    pub apps: Vec<App>,
    /// When and how hard to refresh.
    pub refresh: Refresh,
    /// Mail.
    pub delivery: crate::delivery::Settings,
    /// Metrics.
    pub metrics: Metrics,
}

/// One client registration at a provider.
#[derive(Clone, Debug)]
pub struct App {
    /// Its name; accounts refer to it.
    pub name: String,
    /// A name in the catalogue.
    pub provider: String,
    /// Public id (`client_key` at TikTok).
    pub client_id: String,
    /// Its secret; absent for public clients.
    pub client_secret: Option<SecretRef>,
    /// Scopes that publishing needs; at most 32.
    pub scopes: Vec<String>,
    /// Endpoints that replace the provider's: sandboxes, tests, and the generic provider's own.
    pub endpoints: Endpoints,
    /// True when the accounts of its provider belong to it unless the store says otherwise.
    pub default_for_provider: bool,
}

/// When and how hard to refresh.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Refresh {
    /// Share of a token's own declared life after which it is due; between 0.1 and 0.95.
    pub due_fraction: f64,
    /// Share of the life by which due instants are spread before that point.
    pub spread_fraction: f64,
    /// Share of the life that is left when trouble stops being transient.
    pub danger_fraction: f64,
    /// The life to assume for a token of which nobody declared one.
    pub assumed_life: Duration,
    /// First pause after a failure.
    pub backoff_first: Duration,
    /// Longest pause between two attempts, and the most of a `Retry-After` that is obeyed.
    pub backoff_max: Duration,
    /// Refreshes under way in all.
    pub in_flight_max: usize,
    /// Refused requests after which an app is frozen.
    pub app_refusals_max: u32,
}

/// Metrics.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Metrics {
    /// Whether `/metrics` has series per account.
    pub per_account: bool,
}
