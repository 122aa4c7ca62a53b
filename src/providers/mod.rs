//! Providers as data, and the interpreter that reads them.
//!
//! Each provider is one file in `data/` in the form of [`schema`]; the same form is open to users, through
//! [`Provider::from_yaml`] and, from the configuration, [`Described`]. Absent on purpose: the name of any
//! provider in code, and any call to a `revoke` endpoint.

mod authorize;
mod check;
mod described;
mod interpret;
mod pkce;
mod redirect;
mod request;
mod rules;
pub mod schema;
mod webhook;

pub use authorize::{Asking, Kind, Returned};
pub use check::FILE_BYTES_MAX;
pub use described::Described;
pub use interpret::{DECLARED_LIFE_MAX, TOKEN_BYTES_MAX};
pub use rules::Known;
pub use schema::{Environment, Where};
pub use webhook::{Message, Unheard};

use crate::{
    core::{Evidence, Timestamp, second_clock::Moves},
    oauth::{Answer, Credentials, Exchange, Liveness, Outcome, Request, Standing, Token},
};
use std::{sync::LazyLock, time::Duration};

/// Endpoints of one app; what is absent comes from the provider's data file.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Endpoints {
    /// Token endpoint, absolute, `https` except for loopback.
    pub token: Option<String>,
    /// The free check of an access token.
    pub probe: Option<String>,
    /// The consent page.
    pub authorize: Option<String>,
    /// Where a code becomes a token, where that is not the token endpoint.
    pub exchange: Option<String>,
    /// Where a short-lived token becomes a long-lived one.
    pub lengthen: Option<String>,
    /// The check whether an account can publish.
    pub publish_check: Option<String>,
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
    /// Of which apps this is true; some refusals mean something else in a sandbox.
    pub environment: Environment,
    /// How its tokens live on.
    pub renewal: Renewal,
    /// A token younger than this cannot be renewed (24 h at Instagram and Threads).
    pub min_age: Duration,
    /// The life its pages state for an access token, for when an answer does not declare one.
    pub assumed_access_life: Option<Duration>,
    /// The same for a refresh token.
    pub assumed_refresh_life: Option<Duration>,
    /// The same while the app is being tested, from the consent on.
    pub testing_refresh_life: Option<Duration>,
    /// What its pages say a renewal does to the refresh token's end.
    pub refresh_end: Moves,
    /// How a person connects an account, or the sentence that says what to do instead.
    consent: Result<authorize::Authorize, String>,
    authorize_endpoint: Option<String>,
    code_endpoint: Option<String>,
    lengthen_endpoint: Option<String>,
    refresh_endpoint: Option<String>,
    probe_endpoint: Option<String>,
    publish_check_endpoint: Option<String>,
    refresh: Option<request::Refresh>,
    probe: Option<request::Probe>,
    publish_check: Option<request::Probe>,
    junk: Option<interpret::Junk>,
    webhook: Option<webhook::Webhook>,
    answers: interpret::Answers,
    rules: rules::Rules,
}

/// What is wrong with a provider file.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{at}: {reason}")]
pub struct SchemaError {
    /// Dotted path of the key, such as `errors[3].match.re`; `.` for the file as a whole.
    pub at: String,
    /// What was found or expected.
    pub reason: String,
}

impl Provider {
    /// Reads one provider file.
    ///
    /// # Errors
    /// The first thing that is wrong with it, by its key.
    pub fn from_yaml(yaml: &str) -> Result<Self, SchemaError> {
        Self::from_file(check::parse(yaml)?)
    }

    /// The same for a file that was read as part of a larger one.
    ///
    /// # Errors
    /// The first contradiction in it, by its key.
    pub fn from_file(file: schema::ProviderFile) -> Result<Self, SchemaError> {
        check::build(file, Environment::Production)
    }

    /// The same, as apps of `environment` see it.
    ///
    /// # Errors
    /// The first contradiction in it, by its key.
    pub fn from_file_in(
        file: schema::ProviderFile,
        environment: Environment,
    ) -> Result<Self, SchemaError> {
        check::build(file, environment)
    }

    /// Where tokens are renewed, with the app's own endpoint in front.
    #[must_use]
    pub fn token_endpoint<'a>(&'a self, endpoints: &'a Endpoints) -> Option<&'a str> {
        endpoints.token.as_deref().or(self.refresh_endpoint.as_deref())
    }

    /// True when an access token can be checked free of charge.
    #[must_use]
    pub fn can_probe(&self, endpoints: &Endpoints) -> bool {
        self.has_probe(endpoints, true)
    }

    /// True when an access token can be checked and each check costs money.
    #[must_use]
    pub fn can_probe_for_money(&self, endpoints: &Endpoints) -> bool {
        self.has_probe(endpoints, false)
    }

    fn has_probe(&self, endpoints: &Endpoints, is_free: bool) -> bool {
        let fits = self.probe.as_ref().is_some_and(|probe| probe.free == is_free);
        fits && (endpoints.probe.is_some() || self.probe_endpoint.is_some())
    }

    /// True when it can be asked whether an account could publish. An app that names its own token endpoint does not
    /// live where the provider's own check is.
    #[must_use]
    pub fn can_check_publishing(&self, endpoints: &Endpoints) -> bool {
        let has_place = endpoints.publish_check.is_some()
            || (endpoints.token.is_none() && self.publish_check_endpoint.is_some());
        self.publish_check.is_some() && has_place
    }

    /// True when the file names no endpoint to renew at, so that each app has to name one.
    #[must_use]
    pub const fn needs_token_endpoint(&self) -> bool {
        self.refresh.is_some() && self.refresh_endpoint.is_none()
    }

    /// The request that asks for a new token; `None` when `token` has nothing that could renew it.
    #[must_use]
    pub fn refresh_request(
        &self,
        endpoints: &Endpoints,
        credentials: &Credentials,
        token: &Token,
    ) -> Option<Request> {
        request::refresh_request(self, endpoints, credentials, token)
    }

    /// True when it may be asked whether it accepts the app, with a refresh token that is nobody's.
    #[must_use]
    pub const fn can_be_asked_about_apps(&self) -> bool {
        self.junk.is_some()
    }

    /// That question; `None` where it may not be asked.
    #[must_use]
    pub fn question_about_app(
        &self,
        endpoints: &Endpoints,
        credentials: &Credentials,
    ) -> Option<Request> {
        let token = self.junk.as_ref()?.token();
        request::refresh_request(self, endpoints, credentials, &token)
    }

    /// What the answer to it says about the app.
    #[must_use]
    pub fn standing(&self, exchange: &Exchange, at: Timestamp) -> Standing {
        interpret::standing(self, exchange, at)
    }

    /// The free check whether the access token works; `None` where there is none, or where it is billed.
    #[must_use]
    pub fn probe_request(&self, endpoints: &Endpoints, token: &Token) -> Option<Request> {
        request::probe_request(self, endpoints, token, true)
    }

    /// The same check where it costs money; `None` where it is free. Who sends it counts how often.
    #[must_use]
    pub fn billed_probe_request(&self, endpoints: &Endpoints, token: &Token) -> Option<Request> {
        request::probe_request(self, endpoints, token, false)
    }

    /// The check whether an account can publish, which publishes nothing; `None` where there is none.
    #[must_use]
    pub fn publish_check_request(&self, endpoints: &Endpoints, token: &Token) -> Option<Request> {
        request::publish_check_request(self, endpoints, token)
    }

    /// What its answer says. `Alive`: the account can publish.
    #[must_use]
    pub fn readiness(&self, exchange: &Exchange, known: &Known<'_>, at: Timestamp) -> Liveness {
        interpret::readiness(self, exchange, known, at)
    }

    /// What a refresh request amounts to. `at` is when the answer arrived.
    #[must_use]
    pub fn outcome(&self, exchange: &Exchange, at: Timestamp) -> Outcome {
        interpret::outcome(self, exchange, &Known::default(), at)
    }

    /// The same with what else is known, which makes more rows apply.
    #[must_use]
    pub fn outcome_knowing(
        &self,
        exchange: &Exchange,
        known: &Known<'_>,
        at: Timestamp,
    ) -> Outcome {
        interpret::outcome(self, exchange, known, at)
    }

    /// What a check with the access token says. `subject` is the account's id at the provider, where it
    /// is known: another account's token is [`crate::core::Cause::WrongEnvironment`].
    #[must_use]
    pub fn liveness(&self, exchange: &Exchange, subject: Option<&str>, at: Timestamp) -> Liveness {
        interpret::liveness(self, exchange, &Known { subject, ..Known::default() }, at)
    }

    /// The same with what else is known, which makes more rows apply.
    #[must_use]
    pub fn liveness_knowing(
        &self,
        exchange: &Exchange,
        known: &Known<'_>,
        at: Timestamp,
    ) -> Liveness {
        interpret::liveness(self, exchange, known, at)
    }

    /// Whose token was checked, where the answer to a check names the account.
    #[must_use]
    pub fn subject_seen(&self, exchange: &Exchange) -> Option<String> {
        interpret::subject_seen(self, exchange)
    }

    /// What an answer to somebody's call at `place` says about the token, the app or the provider; `None`
    /// when it says nothing of the kind.
    #[must_use]
    pub fn refusal(
        &self,
        place: Where,
        answer: &Answer,
        known: &Known<'_>,
        at: Timestamp,
    ) -> Option<Evidence> {
        interpret::refusal(self, place, answer, known, at)
    }

    /// The same for what is no HTTP answer: the parameters of a redirect, or the body of a webhook whose
    /// signature was checked.
    #[must_use]
    pub fn message(
        &self,
        place: Where,
        body: &serde_json::Value,
        at: Timestamp,
    ) -> Option<Evidence> {
        interpret::message(self, place, body, at)
    }
}

/// Stands in every refresh token that is nobody's, so that a provider's support, or a test, knows it when
/// it is seen.
pub const JUNK_MARK: &str = "oauth-keepalive-asks-about-the-app";

/// The provider with this name, as apps in production see it.
#[must_use]
pub fn find(name: &str) -> Option<&'static Provider> {
    find_in(name, Environment::Production)
}

/// The provider with this name, as apps of `environment` see it.
#[must_use]
pub fn find_in(name: &str, environment: Environment) -> Option<&'static Provider> {
    let catalogue = match environment {
        Environment::Production => &CATALOGUE,
        Environment::Sandbox => &SANDBOXES,
    };
    catalogue.iter().find(|provider| provider.name == name)
}

/// The names that a configuration may use, sorted.
#[must_use]
pub fn names() -> Vec<&'static str> {
    CATALOGUE.iter().map(|provider| provider.name.as_str()).collect()
}

/// The text of a file of the catalogue.
fn builtin_source(name: &str) -> Option<&'static str> {
    FILES.iter().find(|(own, _)| *own == name).map(|(_, source)| *source)
}

static CATALOGUE: LazyLock<Vec<Provider>> = LazyLock::new(|| catalogue(Environment::Production));
static SANDBOXES: LazyLock<Vec<Provider>> = LazyLock::new(|| catalogue(Environment::Sandbox));

fn catalogue(environment: Environment) -> Vec<Provider> {
    let read = |(name, source): &(&str, &str)| {
        check::parse(source)
            .and_then(|file| check::build(file, environment))
            .unwrap_or_else(|error| unreachable!("the tests read {name}.yaml: {error}"))
    };
    FILES.iter().map(read).collect()
}

/// Sorted by name.
const FILES: [(&str, &str); 13] = [
    ("bluesky", include_str!("data/bluesky.yaml")),
    ("facebook", include_str!("data/facebook.yaml")),
    ("google", include_str!("data/google.yaml")),
    ("instagram", include_str!("data/instagram.yaml")),
    ("linkedin", include_str!("data/linkedin.yaml")),
    ("oauth2", include_str!("data/oauth2.yaml")),
    ("pinterest", include_str!("data/pinterest.yaml")),
    ("reddit", include_str!("data/reddit.yaml")),
    ("snapchat", include_str!("data/snapchat.yaml")),
    ("threads", include_str!("data/threads.yaml")),
    ("tiktok", include_str!("data/tiktok.yaml")),
    ("tiktok_business", include_str!("data/tiktok_business.yaml")),
    ("x", include_str!("data/x.yaml")),
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_file_of_the_catalogue_is_found_under_its_own_name() {
        assert!(FILES.is_sorted());
        for (name, _) in FILES {
            assert_eq!(find(name).map(|provider| provider.name.as_str()), Some(name));
        }
        assert_eq!(names(), FILES.map(|(name, _)| name));
    }
}
