//! Requests made from their written form.

use super::{
    Endpoints, Provider,
    rules::Path,
    schema::{MethodWord, SendAs},
};
use crate::{
    core::Secret,
    oauth::{Body, Credentials, Method, Request, Token, form_encoded},
};
use base64::{Engine as _, prelude::BASE64_STANDARD};
use std::fmt;

/// How a new token is asked for.
#[derive(Debug)]
pub(super) struct Refresh {
    pub(super) method: MethodWord,
    pub(super) send_as: SendAs,
    pub(super) basic: bool,
    pub(super) params: Vec<(String, Template)>,
    pub(super) headers: Vec<(String, Template)>,
}

/// How an access token is tried.
#[derive(Debug)]
pub(super) struct Probe {
    pub(super) method: MethodWord,
    pub(super) query: Vec<(String, Template)>,
    pub(super) headers: Vec<(String, Template)>,
    pub(super) success: Option<(Path, String)>,
    pub(super) subject: Option<Path>,
    pub(super) free: bool,
}

/// A value with at most one placeholder.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Template {
    before: String,
    placeholder: Option<Placeholder>,
    after: String,
}

/// What a template can be filled with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Placeholder {
    ClientId,
    ClientSecret,
    RefreshToken,
    AccessToken,
    Code,
    CodeVerifier,
    RedirectUri,
    Scopes,
    State,
    CodeChallenge,
    CodeChallengeMethod,
}

/// What placeholders stand for in one request; the others have no value.
#[derive(Clone, Copy, Default)]
pub(super) struct Values<'a> {
    pub(super) credentials: Option<&'a Credentials>,
    pub(super) token: Option<&'a Token>,
    /// What belongs to one consent.
    pub(super) consent: Consent<'a>,
}

/// The values that belong to one consent.
#[derive(Clone, Copy, Default)]
pub(super) struct Consent<'a> {
    pub(super) code: Option<&'a str>,
    pub(super) code_verifier: Option<&'a str>,
    pub(super) redirect_uri: Option<&'a str>,
    pub(super) scopes: Option<&'a str>,
    pub(super) state: Option<&'a str>,
    pub(super) code_challenge: Option<&'a str>,
}

pub(super) fn refresh_request(
    provider: &Provider,
    endpoints: &Endpoints,
    credentials: &Credentials,
    token: &Token,
) -> Option<Request> {
    let form = provider.refresh.as_ref()?;
    let endpoint = endpoints.token.as_ref().or(provider.refresh_endpoint.as_ref())?;
    let values = Values { credentials: Some(credentials), token: Some(token), ..Values::default() };
    form.request(endpoint, &values)
}

pub(super) fn probe_request(
    provider: &Provider,
    endpoints: &Endpoints,
    token: &Token,
    is_free: bool,
) -> Option<Request> {
    let form = provider.probe.as_ref().filter(|probe| probe.free == is_free)?;
    let endpoint = endpoints.probe.as_ref().or(provider.probe_endpoint.as_ref())?;
    check_request(form, endpoint, token)
}

pub(super) fn publish_check_request(
    provider: &Provider,
    endpoints: &Endpoints,
    token: &Token,
) -> Option<Request> {
    let form =
        provider.publish_check.as_ref().filter(|_| provider.can_check_publishing(endpoints))?;
    let own = endpoints.publish_check.as_ref();
    check_request(form, own.or(provider.publish_check_endpoint.as_ref())?, token)
}

fn check_request(form: &Probe, endpoint: &str, token: &Token) -> Option<Request> {
    let values = Values { token: Some(token), ..Values::default() };
    values.of(Placeholder::AccessToken)?;
    Some(Request {
        method: form.method.into(),
        endpoint: endpoint.to_owned(),
        query: filled(&form.query, &values),
        headers: filled(&form.headers, &values),
        // A POST without a body has no content type, which TikTok asks for.
        body: match form.method {
            MethodWord::Get => Body::Empty,
            MethodWord::Post => Body::Json(Vec::new()),
        },
    })
}

impl Refresh {
    /// The request, filled; `None` where what it is about has no value: the rest would only be refused.
    pub(super) fn request(&self, endpoint: &str, values: &Values<'_>) -> Option<Request> {
        for needed in [Placeholder::RefreshToken, Placeholder::AccessToken, Placeholder::Code] {
            if self.uses(needed) && values.of(needed).is_none() {
                return None;
            }
        }
        let params = filled(&self.params, values);
        let mut headers = filled(&self.headers, values);
        if let Some(credentials) = values.credentials.filter(|_| self.basic)
            && let Some(secret) = &credentials.client_secret
        {
            headers.push(("Authorization".to_owned(), basic(&credentials.client_id, secret)));
        }
        let (query, body) = match self.send_as {
            _ if params.is_empty() => (Vec::new(), Body::Empty),
            SendAs::Query => (params, Body::Empty),
            SendAs::Form => (Vec::new(), Body::Form(params)),
            SendAs::Json => (Vec::new(), Body::Json(params)),
        };
        let endpoint = endpoint.to_owned();
        Some(Request { method: self.method.into(), endpoint, query, headers, body })
    }

    pub(super) fn uses(&self, placeholder: Placeholder) -> bool {
        uses(&self.params, placeholder) || uses(&self.headers, placeholder)
    }
}

impl Probe {
    pub(super) fn uses(&self, placeholder: Placeholder) -> bool {
        uses(&self.query, placeholder) || uses(&self.headers, placeholder)
    }
}

pub(super) fn uses(entries: &[(String, Template)], placeholder: Placeholder) -> bool {
    entries.iter().any(|(_, template)| template.placeholder == Some(placeholder))
}

impl Values<'_> {
    fn of(&self, placeholder: Placeholder) -> Option<&str> {
        match placeholder {
            Placeholder::ClientId => Some(self.credentials?.client_id.as_str()),
            Placeholder::ClientSecret => {
                self.credentials?.client_secret.as_ref().map(Secret::expose)
            }
            Placeholder::RefreshToken => not_blank(self.token?.refresh.as_ref()?),
            Placeholder::AccessToken => not_blank(&self.token?.access),
            Placeholder::Code => self.consent.code,
            Placeholder::CodeVerifier => self.consent.code_verifier,
            Placeholder::RedirectUri => self.consent.redirect_uri,
            Placeholder::Scopes => self.consent.scopes,
            Placeholder::State => self.consent.state,
            Placeholder::CodeChallenge => self.consent.code_challenge,
            // Both dialects hash with SHA-256, and both call it so.
            Placeholder::CodeChallengeMethod => self.consent.code_challenge.map(|_| "S256"),
        }
    }
}

fn not_blank(secret: &Secret) -> Option<&str> {
    Some(secret).filter(|secret| !secret.is_blank()).map(Secret::expose)
}

pub(super) fn filled(entries: &[(String, Template)], values: &Values<'_>) -> Vec<(String, Secret)> {
    entries
        .iter()
        .filter_map(|(name, template)| Some((name.clone(), template.filled(values)?)))
        .collect()
}

impl Template {
    pub(super) const CLIENT_ID: Placeholder = Placeholder::ClientId;
    pub(super) const CLIENT_SECRET: Placeholder = Placeholder::ClientSecret;
    pub(super) const REFRESH_TOKEN: Placeholder = Placeholder::RefreshToken;
    pub(super) const ACCESS_TOKEN: Placeholder = Placeholder::AccessToken;

    /// Reads a template that may hold one of `known`.
    pub(super) fn parse(text: &str, known: &[Placeholder]) -> Result<Self, String> {
        let Some((before, rest)) = text.split_once('{') else {
            return Ok(Self { before: text.to_owned(), placeholder: None, after: String::new() });
        };
        let placeholder = rest.split_once('}').and_then(|(word, after)| {
            let found = known.iter().copied().find(|known| known.word() == word)?;
            (!after.contains('{')).then_some((found, after))
        });
        let Some((found, after)) = placeholder else {
            let words: Vec<_> = known.iter().map(|known| format!("`{known}`")).collect();
            return Err(format!("expected at most one placeholder out of {}", words.join(", ")));
        };
        Ok(Self { before: before.to_owned(), placeholder: Some(found), after: after.to_owned() })
    }

    /// `None` when the placeholder has no value: a public client has no secret to send.
    fn filled(&self, values: &Values<'_>) -> Option<Secret> {
        let value = match self.placeholder {
            Some(placeholder) => values.of(placeholder)?,
            None => "",
        };
        // In one piece, because a `String` that grows leaves copies behind that nobody wipes.
        Some(Secret::new([self.before.as_str(), value, self.after.as_str()].concat()))
    }
}

impl Placeholder {
    /// What a refresh, a probe or a lengthening may hold.
    pub(super) const OF_TOKENS: [Self; 4] =
        [Self::ClientId, Self::ClientSecret, Self::RefreshToken, Self::AccessToken];

    /// What the query of a consent page may hold.
    pub(super) const OF_THE_PAGE: [Self; 6] = [
        Self::ClientId,
        Self::Scopes,
        Self::RedirectUri,
        Self::State,
        Self::CodeChallenge,
        Self::CodeChallengeMethod,
    ];

    /// What the exchange of a code may hold.
    pub(super) const OF_A_CODE: [Self; 5] =
        [Self::ClientId, Self::ClientSecret, Self::Code, Self::RedirectUri, Self::CodeVerifier];

    const fn word(self) -> &'static str {
        match self {
            Self::ClientId => "client_id",
            Self::ClientSecret => "client_secret",
            Self::RefreshToken => "refresh_token",
            Self::AccessToken => "access_token",
            Self::Code => "code",
            Self::CodeVerifier => "code_verifier",
            Self::RedirectUri => "redirect_uri",
            Self::Scopes => "scopes",
            Self::State => "state",
            Self::CodeChallenge => "code_challenge",
            Self::CodeChallengeMethod => "code_challenge_method",
        }
    }
}

impl fmt::Display for Placeholder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{{{}}}", self.word())
    }
}

impl From<MethodWord> for Method {
    fn from(word: MethodWord) -> Self {
        match word {
            MethodWord::Get => Self::Get,
            MethodWord::Post => Self::Post,
        }
    }
}

/// RFC 6749 section 2.3.1: id and secret are form-encoded first, then joined by a colon.
fn basic(client_id: &str, secret: &Secret) -> Secret {
    let pair = Secret::new(
        [form_encoded(client_id).expose(), ":", form_encoded(secret.expose()).expose()].concat(),
    );
    Secret::new(["Basic ", Secret::new(BASE64_STANDARD.encode(pair.expose())).expose()].concat())
}
