//! The file as it is written: a mirror of the YAML, and the one place where the defaults stand.
//!
//! Nothing in here is checked beyond its type; [`super::check`] turns it into settings. There are no
//! tagged enums: a `kind` and optional keys let every mistake be named with its key and line.

mod notices;
mod observe;
mod serving;
mod store;

pub(super) use notices::{
    Address, Mail, Notify, NotifyWebhook, Owner, Smtp, SmtpTls, WebhookAudience, WebhookFormat,
};
pub(super) use observe::{LogFormat, Observe, ObservedLog, ObservedOnly};
pub(super) use serving::{Actions, Connect, Publisher, Server, Webhooks};
pub(super) use store::{
    BUSY_TIMEOUT, CONNECT_TIMEOUT, Columns, POOL_MAX, PORT_MYSQL, PORT_POSTGRES, Redis,
    RedisFields, RedisTls, STATE_CONNECT_TIMEOUT, STATE_LEASE, STATE_PORT, STATE_SCHEMA,
    STATE_STATEMENT_TIMEOUT, STATEMENT_TIMEOUT, State, StateKind, StateTls, Status, Store,
    StoreKind, StoreTls, TABLE, TimeColumn, TimeUnit,
};

use super::explain::OWN_MESSAGE;
use crate::{
    logs,
    providers::{Environment, Kind, schema::OneOrMany},
};
use serde::{Deserialize, Deserializer, de};
use std::{fmt, path::PathBuf, time::Duration};

/// The whole file.
#[derive(Debug, Default, PartialEq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(super) struct File {
    pub(super) store: Store,
    pub(super) providers: Vec<PathBuf>,
    pub(super) apps: Vec<App>,
    pub(super) refresh: Refresh,
    pub(super) gate: Gate,
    pub(super) http: Http,
    pub(super) mail: Mail,
    pub(super) notify: Notify,
    pub(super) server: Server,
    pub(super) publisher: Publisher,
    pub(super) webhooks: Webhooks,
    pub(super) connect: Connect,
    pub(super) observe: Observe,
    pub(super) metrics: Metrics,
    pub(super) log: Log,
    pub(super) state: State,
}

#[derive(Debug, Default, PartialEq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(super) struct App {
    pub(super) name: Option<String>,
    pub(super) provider: Option<String>,
    pub(super) client_id: Option<String>,
    /// One, or in the order in which they are tried.
    pub(super) client_secret_file: Option<OneOrMany<String>>,
    pub(super) client_secret_env: Option<OneOrMany<String>>,
    pub(super) scopes: Vec<String>,
    pub(super) environment: Environment,
    /// What it is registered as.
    pub(super) kind: Kind,
    /// Absent: where the links' listener is reached.
    pub(super) redirect_uri: Option<String>,
    /// Its consents live shorter.
    pub(super) testing: bool,
    pub(super) endpoints: Endpoints,
    /// Absent: true for an app that is its provider's only one.
    #[serde(rename = "default")]
    pub(super) is_default: Option<bool>,
}

#[derive(Debug, Default, PartialEq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(super) struct Endpoints {
    pub(super) token: Option<String>,
    pub(super) probe: Option<String>,
    pub(super) authorize: Option<String>,
    pub(super) exchange: Option<String>,
    pub(super) lengthen: Option<String>,
    pub(super) publish_check: Option<String>,
}

#[derive(Debug, PartialEq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(super) struct Refresh {
    pub(super) due_after: f64,
    pub(super) spread: f64,
    pub(super) danger: f64,
    pub(super) assumed_life: Span,
    pub(super) backoff_first: Span,
    pub(super) backoff_max: Span,
    pub(super) in_flight_max: u32,
    pub(super) app_refusals_max: u32,
}

#[derive(Debug, PartialEq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(super) struct Http {
    pub(super) total_deadline: Span,
    pub(super) connect_deadline: Span,
    pub(super) in_flight_per_app_max: u32,
    pub(super) ca_file: Option<PathBuf>,
    pub(super) proxy: Option<String>,
}

#[derive(Debug, PartialEq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(super) struct Gate {
    pub(super) proof: super::Proof,
    pub(super) when_unknown: WhenUnknown,
    pub(super) canary_deadline: Span,
    pub(super) resume_every: Span,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(super) enum WhenUnknown {
    Open,
    Held,
}

#[derive(Debug, PartialEq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(super) struct Metrics {
    pub(super) per_account: bool,
}

#[derive(Debug, PartialEq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(super) struct Log {
    pub(super) level: logs::Level,
    pub(super) format: logs::Format,
}

/// A duration as people write it: `500ms`, `30s`, `15m`, `1h`, `7d`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Span(pub(super) Duration);

impl Default for Refresh {
    fn default() -> Self {
        Self {
            due_after: 0.66,
            spread: 0.3,
            danger: 0.15,
            assumed_life: Span::seconds(60 * 60),
            backoff_first: Span::seconds(5),
            backoff_max: Span::seconds(15 * 60),
            in_flight_max: 64,
            app_refusals_max: 3,
        }
    }
}

impl Default for Http {
    fn default() -> Self {
        Self {
            total_deadline: Span::seconds(10),
            connect_deadline: Span::seconds(4),
            in_flight_per_app_max: 5,
            ca_file: None,
            proxy: None,
        }
    }
}

impl Default for Gate {
    fn default() -> Self {
        Self {
            proof: super::Proof::Auto,
            when_unknown: WhenUnknown::Open,
            canary_deadline: Span::seconds(10 * 60),
            resume_every: Span::seconds(30),
        }
    }
}

impl Default for Metrics {
    fn default() -> Self {
        Self { per_account: true }
    }
}

impl Default for Log {
    fn default() -> Self {
        Self { level: logs::Level::Info, format: logs::Format::Auto }
    }
}

impl Span {
    pub(super) const fn seconds(seconds: u64) -> Self {
        Self(Duration::from_secs(seconds))
    }
}

impl fmt::Display for Span {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // One unit, the largest that divides it: `90m`, and not `1h 30m`.
        let ms = self.0.as_millis();
        let units = [("d", 86_400_000), ("h", 3_600_000), ("m", 60_000), ("s", 1000)];
        match units.iter().find(|(_, unit)| ms > 0 && ms.is_multiple_of(*unit)) {
            Some((name, unit)) => write!(f, "{}{name}", ms / unit),
            None => write!(f, "{ms}ms"),
        }
    }
}

impl<'de> Deserialize<'de> for Span {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        let text = text.trim();
        if !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit()) {
            let tip = if text.len() > DIGITS_MAX { "30" } else { text };
            return Err(own::<D>(&format!("a duration with its unit; write {tip}s for seconds")));
        }
        humantime::parse_duration(text).map(Self).map_err(|_| {
            own::<D>("a duration; write a number and a unit: 500ms, 30s, 15m, 1h or 7d")
        })
    }
}

fn own<'de, D: Deserializer<'de>>(text: &str) -> D::Error {
    de::Error::custom(format!("{OWN_MESSAGE}{text}"))
}

/// Longest bare number that is repeated in a remedy.
const DIGITS_MAX: usize = 9;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_span_is_shown_with_one_unit() {
        let cases =
            [(0, "0ms"), (1500, "1500ms"), (4000, "4s"), (5_400_000, "90m"), (86_400_000, "1d")];
        for (ms, shown) in cases {
            assert_eq!(Span(Duration::from_millis(ms)).to_string(), shown);
        }
    }
}
