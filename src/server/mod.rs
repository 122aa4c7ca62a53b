//! The HTTP surface: telemetry and status page on one listener, the publisher's reports on another.

use crate::secrets::SecretRef;
use std::net::SocketAddr;

/// Where the server listens. `config` fills it.
#[derive(Clone, Debug)]
pub struct Settings {
    /// Telemetry and status page.
    pub listen: SocketAddr,
    /// Whether `POST /-/reload` works.
    pub enable_reload: bool,
    /// Open connections per listener; more wait in the kernel's queue.
    pub connections_max: usize,
    /// The publisher's reports; `None` switches them off.
    pub reports: Option<Reports>,
}

/// The listener on which a publisher reports what the provider answered it.
#[derive(Clone, Debug)]
pub struct Reports {
    /// Loopback, unless the operator says otherwise.
    pub listen: SocketAddr,
    /// What the publisher sends as `Authorization: Bearer …`.
    pub secret: SecretRef,
}
