//! Token requests and token answers as values. Nothing here talks to anybody.

mod form;
mod signed;
mod token;

pub use form::{form_encoded, form_of};
pub use signed::{Signature, Unbelieved};
pub use token::{Credentials, Fingerprinter, Grant, Token};

use crate::core::{Evidence, Secret, Timestamp};
use std::{fmt, time::Duration};

/// One HTTP request to a provider, ready to be sent. Its `Debug` shows the method and the endpoint
/// only: URL queries, headers and bodies of these requests carry tokens.
pub struct Request {
    /// `GET` or `POST`.
    pub method: Method,
    /// Absolute URL without a query.
    pub endpoint: String,
    /// Query parameters, for the providers that want tokens there (Instagram, Threads, Facebook).
    pub query: Vec<(String, Secret)>,
    /// Headers besides `Content-Type`.
    pub headers: Vec<(String, Secret)>,
    /// The body with its type.
    pub body: Body,
}

/// The methods that token endpoints and probes use.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Method {
    /// No body.
    Get,
    /// With a body, unless it is [`Body::Empty`].
    Post,
}

/// What a request carries.
pub enum Body {
    /// Nothing.
    Empty,
    /// `application/x-www-form-urlencoded`, as RFC 6749 section 6 wants it.
    Form(Vec<(String, Secret)>),
    /// `application/json` with string members.
    Json(Vec<(String, Secret)>),
    /// `application/json`, as it is: what is signed must not be written anew.
    Whole(Secret),
}

impl fmt::Debug for Request {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?} {}", self.method, self.endpoint)
    }
}

/// What became of a request on the wire, before anybody reads the answer's meaning.
pub enum Exchange {
    /// Not a byte of it can have been processed: no address, no connection, no TLS.
    NotSent(Trouble),
    /// It may have been processed; no complete answer came back.
    Lost(Trouble),
    /// A complete answer.
    Answered(Answer),
}

/// Why there is no answer. A closed list, since the text of a transport error may hold a URL.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Trouble {
    /// DNS, TCP or TLS failed, or the connection could not be had in time.
    Connect,
    /// The app's other requests took all places for too long.
    Crowded,
    /// The total deadline passed.
    Deadline,
    /// The connection broke after the request was on its way.
    Broken,
    /// The answer was longer than [`crate::http_client::ANSWER_BYTES_MAX`].
    TooLong,
    /// The request could not be built, for example from an endpoint that is no URL.
    Unsendable,
}

impl Trouble {
    /// The word for it in logs and evidence.
    #[must_use]
    pub const fn as_label(self) -> &'static str {
        match self {
            Self::Connect => "connect_failed",
            Self::Crowded => "no_free_place",
            Self::Deadline => "deadline_passed",
            Self::Broken => "connection_broken",
            Self::TooLong => "answer_too_long",
            Self::Unsendable => "request_unsendable",
        }
    }
}

/// A complete answer. The body may hold a token, so it is a secret.
pub struct Answer {
    /// HTTP status.
    pub status: u16,
    /// The `Retry-After` header, seconds or date, made a duration by the shell.
    pub retry_after: Option<Duration>,
    /// The `Date` header: what time the provider believes it is.
    pub date: Option<Timestamp>,
    /// The `WWW-Authenticate` header's `error` parameter (RFC 6750 section 3.1), if it is there.
    pub bearer_error: Option<String>,
    /// At most [`crate::http_client::ANSWER_BYTES_MAX`]. What is not UTF-8 arrives as U+FFFD: one bad byte
    /// in a display name must not cost the token beside it.
    pub body: Secret,
}

/// What one refresh request amounts to. Everything hangs on telling these four apart.
pub enum Outcome {
    /// The provider did not spend the refresh token: the request never left, or was refused before
    /// it was processed.
    NotCommitted(Evidence),
    /// A new token.
    Committed(Grant),
    /// This refresh token is finished.
    Dead(Evidence),
    /// The refresh token may or may not be spent: deadline after sending, reset, 5xx, redirect,
    /// unreadable 200. Never retried blindly.
    Ambiguous(Evidence),
}

impl fmt::Debug for Outcome {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NotCommitted(evidence) => f.debug_tuple("NotCommitted").field(evidence).finish(),
            Self::Committed(_) => f.write_str("Committed(…)"),
            Self::Dead(evidence) => f.debug_tuple("Dead").field(evidence).finish(),
            Self::Ambiguous(evidence) => f.debug_tuple("Ambiguous").field(evidence).finish(),
        }
    }
}

/// What the answer to a refresh token that is nobody's says about the app.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Standing {
    /// Only the token was refused.
    Accepted,
    /// The app was.
    Refused(Evidence),
    /// No answer, or one that tells neither.
    Unclear(Evidence),
}

/// What a check with the access token says about it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Liveness {
    /// The provider accepts it.
    Alive,
    /// The provider refuses it; the evidence says whether a refresh can help.
    Refused(Evidence),
    /// No answer, or one that says nothing about the token.
    Unknown(Evidence),
}
