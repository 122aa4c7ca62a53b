//! `server`, `publisher`, `webhooks` and `connect`: what listens.

use super::Span;
use crate::providers::schema::OneOrMany;
use serde::Deserialize;
use std::path::PathBuf;

#[derive(Debug, PartialEq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(in crate::config) struct Server {
    pub(in crate::config) listen: String,
    pub(in crate::config) web_config_file: Option<PathBuf>,
    pub(in crate::config) actions: Actions,
    pub(in crate::config) enable_reload: bool,
    pub(in crate::config) connections_max: u32,
}

#[derive(Debug, PartialEq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(in crate::config) struct Actions {
    pub(in crate::config) enabled: bool,
    pub(in crate::config) users: Vec<User>,
    pub(in crate::config) session_idle: Span,
    pub(in crate::config) session_life: Span,
}

#[derive(Debug, Default, PartialEq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(in crate::config) struct User {
    pub(in crate::config) name: Option<String>,
    pub(in crate::config) secret_file: Option<PathBuf>,
    pub(in crate::config) secret_env: Option<String>,
}

#[derive(Debug, PartialEq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(in crate::config) struct Publisher {
    pub(in crate::config) enabled: bool,
    pub(in crate::config) listen: String,
    pub(in crate::config) socket_mode: String,
    pub(in crate::config) cert_file: Option<PathBuf>,
    pub(in crate::config) key_file: Option<PathBuf>,
    pub(in crate::config) serve_tokens: bool,
    pub(in crate::config) clients: Vec<Client>,
    pub(in crate::config) webhooks: Vec<Hook>,
}

#[derive(Debug, Default, PartialEq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(in crate::config) struct Hook {
    pub(in crate::config) url: Option<String>,
    pub(in crate::config) secret_file: Option<PathBuf>,
    pub(in crate::config) secret_env: Option<String>,
    /// Absent: all of them.
    pub(in crate::config) accounts: Option<OneOrMany<String>>,
}

#[derive(Debug, Default, PartialEq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(in crate::config) struct Client {
    pub(in crate::config) name: Option<String>,
    pub(in crate::config) secret_file: Option<PathBuf>,
    pub(in crate::config) secret_env: Option<String>,
    pub(in crate::config) rights: Vec<String>,
    /// Absent: all of them.
    pub(in crate::config) accounts: Option<OneOrMany<String>>,
}

#[derive(Debug, PartialEq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(in crate::config) struct Webhooks {
    pub(in crate::config) enabled: bool,
    pub(in crate::config) listen: String,
    pub(in crate::config) secret_file: Option<PathBuf>,
    pub(in crate::config) secret_env: Option<String>,
}

#[derive(Debug, PartialEq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(in crate::config) struct Connect {
    pub(in crate::config) enabled: bool,
    pub(in crate::config) listen: String,
    pub(in crate::config) external_url: Option<String>,
    pub(in crate::config) link_life: Span,
    pub(in crate::config) keys_are_subjects: bool,
}

impl Default for Server {
    fn default() -> Self {
        Self {
            listen: "127.0.0.1:8640".to_owned(),
            web_config_file: None,
            actions: Actions::default(),
            enable_reload: false,
            connections_max: 512,
        }
    }
}

impl Default for Actions {
    fn default() -> Self {
        Self {
            enabled: false,
            users: Vec::new(),
            session_idle: Span::seconds(30 * 60),
            session_life: Span::seconds(12 * 60 * 60),
        }
    }
}

impl Default for Publisher {
    fn default() -> Self {
        Self {
            enabled: false,
            listen: "127.0.0.1:8641".to_owned(),
            socket_mode: "0660".to_owned(),
            cert_file: None,
            key_file: None,
            serve_tokens: false,
            clients: Vec::new(),
            webhooks: Vec::new(),
        }
    }
}

impl Default for Webhooks {
    fn default() -> Self {
        Self {
            enabled: false,
            listen: "127.0.0.1:8642".to_owned(),
            secret_file: None,
            secret_env: None,
        }
    }
}

impl Default for Connect {
    fn default() -> Self {
        Self {
            enabled: false,
            listen: "127.0.0.1:8643".to_owned(),
            external_url: None,
            link_life: Span::seconds(24 * 60 * 60),
            keys_are_subjects: false,
        }
    }
}
