//! Renders and delivers notices. Everything it sends comes from the durable outbox in `state`.

mod content;
mod digest;
pub mod mailer;
pub mod message;
pub mod recipients;
mod samples;
pub mod smtp;
pub mod templates;
mod webhook;
mod words;

pub use mailer::{Mailer, Outbox};
pub use recipients::recipients;

use self::templates::Templates;
use crate::{
    core::{AccountId, Secret, Timestamp, digest::Rules, notices::Audience},
    secrets::SecretRef,
};
use jiff::tz::TimeZone;
use std::{fmt, path::PathBuf, pin::Pin, sync::Arc, time::Duration};

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
    /// Who is told by a request instead of by mail.
    pub webhooks: Vec<Webhook>,
}

/// Something that is told by HTTP.
#[derive(Clone, Debug)]
pub struct Webhook {
    /// What the outbox knows it by. The URL is looked up when something is sent: it may be a secret.
    pub name: String,
    /// Where to.
    pub url: Url,
    /// What it understands.
    pub format: WebhookFormat,
    /// With what requests are signed.
    pub secret: Option<SecretRef>,
    /// Whose notices it hears.
    pub audience: Audience,
    /// Of which accounts, as `provider/account` where `*` stands for any text.
    pub accounts: String,
}

/// A URL, in the configuration or where secrets are.
#[derive(Clone)]
pub enum Url {
    /// As it stands in the configuration.
    Plain(String),
    /// In a file or a variable.
    Secret(SecretRef),
}

impl fmt::Debug for Url {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Url")
    }
}

impl Url {
    fn read(&self) -> Result<Secret, crate::secrets::SecretError> {
        match self {
            Self::Plain(url) => Ok(Secret::new(url.clone())),
            Self::Secret(secret) => secret.read(),
        }
    }
}

/// What a webhook understands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum WebhookFormat {
    /// Our own; docs/notices.md describes it.
    Json,
    /// That of Slack's incoming webhooks, which others understand too.
    Slack,
}

/// One request to a webhook.
pub struct Post {
    /// Where to.
    pub url: Secret,
    /// Besides the content's type.
    pub headers: Vec<(String, Secret)>,
    /// JSON.
    pub body: String,
}

/// Why there is no answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Uncarried {
    /// It was not sent.
    NotSent,
    /// It was, and nothing is known of it.
    Lost,
}

/// Carries a request over TLS, or on this machine, and tells the status of the answer.
pub type Carrier =
    Arc<dyn Fn(Post) -> Pin<Box<dyn Future<Output = Result<u16, Uncarried>> + Send>> + Send + Sync>;

/// How many planned posts of an account are at risk, where that is known.
pub type AtRisk = Arc<dyn Fn(&AccountId) -> Option<u32> + Send + Sync>;

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
