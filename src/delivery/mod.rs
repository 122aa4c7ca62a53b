//! Renders and delivers notices. Everything it sends comes from the durable outbox in `state`.

mod content;
mod digest;
pub mod mailer;
pub mod message;
pub mod recipients;
mod samples;
pub mod smtp;
pub mod templates;
mod words;

pub use mailer::{Mailer, Outbox};
pub use recipients::recipients;

use self::templates::Templates;
use crate::{
    core::{AccountId, Secret, Timestamp, digest::Rules},
    secrets::SecretRef,
};
use jiff::tz::TimeZone;
use std::{path::PathBuf, sync::Arc, time::Duration};

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
    /// What goes into one mail, and how many there may be.
    pub rules: Rules,
    /// At which ages an incident is called to mind.
    pub reminders: Vec<Duration>,
    /// In which instants are told to whoever has no time zone of their own.
    pub time_zone: TimeZone,
    /// The shape of mails.
    pub templates: Templates,
}

/// Makes the link with which an account is reconnected, at an instant; `None` where there is none.
pub type Links = Arc<dyn Fn(&AccountId, Timestamp) -> Option<String> + Send + Sync>;

/// Which accounts a person owns.
#[derive(Clone, Debug)]
pub struct Owner {
    /// `provider/account`, where `*` stands for any text.
    pub accounts: String,
    /// Their address.
    pub to: Secret,
    /// Where they live; `None` is where the operator does.
    pub time_zone: Option<TimeZone>,
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
