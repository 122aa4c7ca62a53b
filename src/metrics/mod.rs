//! What `/metrics` shows.
//!
//! Two kinds of things are shown, and they are kept apart. What *happens* is counted in [`events`], with
//! prometheus-client. What *is* (each account, the fleet, this process) is written at the scrape, from
//! one snapshot and one `now`, by [`accounts`], [`fleet`] and [`process`]; so nothing lingers, nothing
//! goes stale between two scrapes, and no handle per account is kept anywhere.
//!
//! Absent on purpose: values that must be asked for (a scrape calls nobody), `NaN` for "unknown" (there
//! is no series then), owners and mail addresses in labels, and timestamps on samples.

pub mod accounts;
mod acted;
pub mod events;
pub mod exposition;
pub mod fleet;
pub mod negotiation;
pub mod observed;
pub mod process;
pub mod text;

pub use acted::{Acted, ActionResult};
pub use events::Metrics;
pub use exposition::{Readings, Scrape};
pub use negotiation::{Encoding, Format};
