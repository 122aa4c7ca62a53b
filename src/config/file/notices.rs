//! `mail` and `notify`: who is told, and how.

use super::Span;
use crate::core::Secret;
use serde::{Deserialize, Deserializer};
use std::path::PathBuf;

#[derive(Debug, PartialEq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(in crate::config) struct Mail {
    pub(in crate::config) enabled: bool,
    pub(in crate::config) from: Option<Address>,
    pub(in crate::config) operator: Vec<Address>,
    pub(in crate::config) owners: Vec<Owner>,
    pub(in crate::config) external_url: Option<String>,
    pub(in crate::config) time_zone: String,
    pub(in crate::config) digest_after: Span,
    pub(in crate::config) reminders: Vec<Span>,
    pub(in crate::config) caps: Caps,
    pub(in crate::config) templates: Option<PathBuf>,
    pub(in crate::config) smtp: Smtp,
}

#[derive(Debug, PartialEq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(in crate::config) struct Caps {
    pub(in crate::config) owner_per_day: u32,
    pub(in crate::config) total_per_hour: u32,
}

#[derive(Debug, Default, PartialEq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(in crate::config) struct Owner {
    pub(in crate::config) accounts: Option<String>,
    pub(in crate::config) to: Option<Address>,
    pub(in crate::config) time_zone: Option<String>,
}

#[derive(Debug, Default, PartialEq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(in crate::config) struct Notify {
    pub(in crate::config) webhooks: Vec<NotifyWebhook>,
}

#[derive(Debug, Default, PartialEq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(in crate::config) struct NotifyWebhook {
    pub(in crate::config) name: Option<String>,
    pub(in crate::config) url: Option<String>,
    pub(in crate::config) url_file: Option<PathBuf>,
    pub(in crate::config) url_env: Option<String>,
    pub(in crate::config) format: WebhookFormat,
    pub(in crate::config) secret_file: Option<PathBuf>,
    pub(in crate::config) secret_env: Option<String>,
    pub(in crate::config) audience: WebhookAudience,
    pub(in crate::config) accounts: Option<String>,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(in crate::config) enum WebhookFormat {
    #[default]
    Json,
    Slack,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(in crate::config) enum WebhookAudience {
    #[default]
    Operator,
    Owner,
}

/// A mail address. Private by type, so that no `Debug` of the file shows one.
#[derive(Debug, PartialEq)]
pub(in crate::config) struct Address(pub(in crate::config) Secret);

#[derive(Debug, PartialEq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(in crate::config) struct Smtp {
    pub(in crate::config) host: Option<String>,
    pub(in crate::config) port: u16,
    pub(in crate::config) tls: SmtpTls,
    pub(in crate::config) username: Option<String>,
    pub(in crate::config) password_file: Option<PathBuf>,
    pub(in crate::config) password_env: Option<String>,
    pub(in crate::config) ca_file: Option<PathBuf>,
    pub(in crate::config) deadline: Span,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(in crate::config) enum SmtpTls {
    StartTls,
    Implicit,
    None,
}

impl Default for Mail {
    fn default() -> Self {
        let day = |days: u64| Span::seconds(days * 24 * 60 * 60);
        Self {
            enabled: false,
            from: None,
            operator: Vec::new(),
            owners: Vec::new(),
            external_url: None,
            time_zone: "UTC".to_owned(),
            digest_after: Span::seconds(30),
            reminders: [1, 3, 7, 14].map(day).into(),
            caps: Caps::default(),
            templates: None,
            smtp: Smtp::default(),
        }
    }
}

impl Default for Caps {
    fn default() -> Self {
        Self { owner_per_day: 10, total_per_hour: 500 }
    }
}

impl Default for Smtp {
    fn default() -> Self {
        Self {
            host: None,
            port: 587,
            tls: SmtpTls::StartTls,
            username: None,
            password_file: None,
            password_env: None,
            ca_file: None,
            deadline: Span::seconds(30),
        }
    }
}

impl<'de> Deserialize<'de> for Address {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer).map(|text| Self(Secret::new(text)))
    }
}
