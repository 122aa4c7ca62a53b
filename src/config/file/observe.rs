//! `observe`: where 401s are learnt from, besides the publisher itself.

use super::Span;
use crate::{
    observe::{Start, Wrapped},
    server::publisher::Place,
};
use serde::Deserialize;
use std::path::PathBuf;

#[derive(Debug, Default, PartialEq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(in crate::config) struct Observe {
    pub(in crate::config) logs: Vec<ObservedLog>,
    pub(in crate::config) query: ObservedErrors,
    pub(in crate::config) posts: ObservedPosts,
    pub(in crate::config) probe: ObservedProbe,
}

#[derive(Debug, Default, PartialEq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(in crate::config) struct ObservedLog {
    pub(in crate::config) name: Option<String>,
    pub(in crate::config) path: Option<PathBuf>,
    pub(in crate::config) format: LogFormat,
    pub(in crate::config) pattern: Option<String>,
    #[serde(with = "WrappedWord")]
    pub(in crate::config) wrapped: Wrapped,
    pub(in crate::config) account: Option<String>,
    pub(in crate::config) provider: Option<String>,
    pub(in crate::config) provider_name: Option<String>,
    pub(in crate::config) status: Option<String>,
    pub(in crate::config) status_code: Option<u16>,
    pub(in crate::config) body: Option<String>,
    #[serde(with = "PlaceWord")]
    pub(in crate::config) place: Place,
    pub(in crate::config) only: Option<ObservedOnly>,
    #[serde(with = "StartWord")]
    pub(in crate::config) start: Start,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(in crate::config) enum LogFormat {
    #[default]
    Json,
    Pattern,
}

/// How these are written in the file.
#[derive(Deserialize)]
#[serde(remote = "Wrapped", rename_all = "lowercase")]
enum WrappedWord {
    #[serde(rename = "none")]
    Not,
    Docker,
    Cri,
}

#[derive(Deserialize)]
#[serde(remote = "Place", rename_all = "lowercase")]
enum PlaceWord {
    Publish,
    Api,
    /// Nobody logs the status of one: a redirect has none.
    #[serde(skip)]
    Redirect,
}

#[derive(Deserialize)]
#[serde(remote = "Start", rename_all = "lowercase")]
enum StartWord {
    End,
    Beginning,
}

#[derive(Debug, Default, PartialEq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(in crate::config) struct ObservedOnly {
    pub(in crate::config) at: Option<String>,
    pub(in crate::config) equals: Option<String>,
    pub(in crate::config) contains: Option<String>,
}

#[derive(Debug, PartialEq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(in crate::config) struct ObservedErrors {
    pub(in crate::config) sql: Option<String>,
    pub(in crate::config) provider_name: Option<String>,
    pub(in crate::config) first: String,
    #[serde(with = "StartWord")]
    pub(in crate::config) start: Start,
    pub(in crate::config) every: Span,
}

#[derive(Debug, PartialEq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(in crate::config) struct ObservedPosts {
    pub(in crate::config) sql: Option<String>,
    pub(in crate::config) provider_name: Option<String>,
    pub(in crate::config) every: Span,
    pub(in crate::config) window: Span,
}

#[derive(Debug, PartialEq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(in crate::config) struct ObservedProbe {
    pub(in crate::config) enabled: bool,
    pub(in crate::config) every: Span,
}

impl Default for ObservedErrors {
    fn default() -> Self {
        Self {
            sql: None,
            provider_name: None,
            first: "0".to_owned(),
            start: Start::End,
            every: Span::seconds(30),
        }
    }
}

impl Default for ObservedPosts {
    fn default() -> Self {
        Self {
            sql: None,
            provider_name: None,
            every: Span::seconds(60),
            window: Span::seconds(24 * 60 * 60),
        }
    }
}

impl Default for ObservedProbe {
    fn default() -> Self {
        Self { enabled: false, every: Span::seconds(6 * 60 * 60) }
    }
}
