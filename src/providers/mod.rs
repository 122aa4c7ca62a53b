//! Providers as data, and the interpreter that reads them.

use crate::{
    core::Timestamp,
    oauth::{Credentials, Exchange, Liveness, Outcome, Request, Token},
};
use std::time::Duration;

/// Endpoints of one app; what is absent comes from the provider's data file.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Endpoints {
    /// Token endpoint, absolute, `https` except for loopback.
    pub token: Option<String>,
    /// The free check of an access token.
    pub probe: Option<String>,
}

/// How a provider lets a token live on. A type and not a number: the four need different policies.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Renewal {
    /// Each refresh retires the refresh token and hands out another (TikTok, X, Pinterest). Assumed of
    /// every provider that does not say otherwise (RFC 6749 section 6 allows it).
    Rotating,
    /// The refresh token stays (Google, LinkedIn, Reddit): an unknown outcome may simply be retried.
    Stable,
    /// The access token is the credential and is extended while it lives (Instagram, Threads, Facebook).
    ExtendInPlace,
    /// Nothing renews it; its owner reconnects.
    ReconnectOnly,
}

/// One provider, as its data file describes it.
#[derive(Debug)]
pub struct Provider {
    /// Its name in configuration, labels and state.
    pub name: String,
    /// Its name for people.
    pub title: String,
    /// How its tokens live on.
    pub renewal: Renewal,
    /// A token younger than this cannot be renewed (24 h at Instagram and Threads).
    pub min_age: Duration,
}

impl Provider {
    /// The request that asks for a new token; `None` when `token` has nothing that could renew it.
    #[must_use]
    pub fn refresh_request(
        &self,
        endpoints: &Endpoints,
        credentials: &Credentials,
        token: &Token,
    ) -> Option<Request> {
        let _ = (endpoints, credentials, token);
        unimplemented!()
    }

    /// The free check whether the access token works; `None` where there is none, or where it is billed.
    #[must_use]
    pub fn probe_request(&self, endpoints: &Endpoints, token: &Token) -> Option<Request> {
        let _ = (endpoints, token);
        unimplemented!()
    }

    /// What a refresh request amounts to. `at` is when the answer arrived.
    #[must_use]
    pub fn outcome(&self, exchange: &Exchange, at: Timestamp) -> Outcome {
        let _ = (exchange, at);
        unimplemented!()
    }

    /// What a check with the access token says. `subject` is the account's id at the provider, where it
    /// is known: another account's token is [`crate::core::Cause::WrongEnvironment`].
    #[must_use]
    pub fn liveness(&self, exchange: &Exchange, subject: Option<&str>, at: Timestamp) -> Liveness {
        let _ = (exchange, subject, at);
        unimplemented!()
    }
}

/// The provider with this name.
#[must_use]
pub fn find(name: &str) -> Option<&'static Provider> {
    let _ = name;
    unimplemented!()
}

/// The names that a configuration may use, sorted.
#[must_use]
pub fn names() -> Vec<&'static str> {
    unimplemented!()
}
