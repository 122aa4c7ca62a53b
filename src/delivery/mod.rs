//! Renders and delivers notices. Everything it sends comes from the durable outbox in `state`.

mod content;
pub mod mailer;
pub mod message;
pub mod recipients;
pub mod smtp;
mod words;

pub use mailer::{Mailer, Outbox};
pub use recipients::recipients;

use crate::{core::Secret, secrets::SecretRef};
use std::{path::PathBuf, time::Duration};

/// Who gets mail and how. `config` fills it.
#[derive(Clone, Debug)]
pub struct Settings {
    /// The way out; `None` keeps notices in the outbox and logs them.
    pub smtp: Option<Smtp>,
    /// `From`, an address or `Name <address>`.
    pub from: Secret,
    /// Who runs the sidecar.
    pub operator: Vec<Secret>,
    /// Owners of accounts, first match wins; then the store's owner column; then the operator.
    pub owners: Vec<Owner>,
    /// Base URL of the status page for links in mails, without a trailing slash.
    pub external_url: Option<String>,
}

/// Which accounts a person owns.
#[derive(Clone, Debug)]
pub struct Owner {
    /// `provider/account`, where `*` stands for any text.
    pub accounts: String,
    /// Their address.
    pub to: Secret,
}

/// An SMTP submission server.
#[derive(Clone, Debug)]
pub struct Smtp {
    /// Host name, also the one that its certificate must carry.
    pub host: String,
    /// Port.
    pub port: u16,
    /// How the connection is protected.
    pub tls: SmtpTls,
    /// User name and password for AUTH.
    pub login: Option<(String, SecretRef)>,
    /// PEM file with the only certificate authorities to trust, instead of the system's.
    pub ca_file: Option<PathBuf>,
    /// For a whole send, from connecting to the server's last word.
    pub deadline: Duration,
}

/// How an SMTP connection is protected.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SmtpTls {
    /// STARTTLS, required (RFC 3207).
    StartTls,
    /// TLS from the first byte (RFC 8314).
    Implicit,
    /// None. Allowed for loopback addresses only.
    None,
}
