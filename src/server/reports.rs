//! The listener on which a publisher reports what the provider's API answered it.
//!
//! A report is untrusted: it is bounded in size and time, checked entry by entry against the accounts
//! that exist, and it only ever counts and asks; whether a 401 leads to anything is the keeper's decision.
//! Error texts never repeat what was sent, since a confused publisher may send a token; and of what the
//! provider said in it, nothing is passed on but what the provider's own table understands.

use super::{
    answer::{Answer, for_method, json, not_found, wrong_method},
    bounded::{NoBody, body},
};
use crate::{
    core::{AccountId, Evidence, Secret, Snapshot},
    metrics::{Metrics, events::Rejection},
    secrets::SecretError,
};
use arc_swap::ArcSwap;
use hyper::{
    HeaderMap, Method, Request, StatusCode,
    body::Incoming,
    header::{AUTHORIZATION, HeaderValue, RETRY_AFTER, WWW_AUTHENTICATE},
};
use ring::{hmac, rand::SystemRandom};
use serde::{Deserialize, Serialize};
use std::{sync::Arc, time::Duration};
use tokio::{sync::mpsc, time::Instant};

/// What the handlers of this listener see. `app` fills it.
#[derive(Clone)]
pub struct Context {
    /// Which accounts exist.
    pub snapshot: Arc<ArcSwap<Snapshot>>,
    /// Where rejected reports are counted.
    pub metrics: Metrics,
    /// Reads the bearer secret; asked at each request, so that a changed secret works at once.
    pub secret: Arc<dyn Fn() -> Result<Secret, SecretError> + Send + Sync>,
    /// Compares secrets by their keyed hashes, whose comparison takes the same time for all.
    pub comparison: ComparisonKey,
    /// Understands what a provider said.
    pub understand: Arc<Understand>,
    /// To the keeper. Bounded; while it is full the publisher is asked to come again.
    pub responses: mpsc::Sender<Vec<Response>>,
    /// How long the body of a report may take; [`BODY_DEADLINE`] outside tests.
    pub body_deadline: Duration,
}

/// The publisher had such answers for an account.
#[derive(Clone, Debug, PartialEq)]
pub struct Response {
    /// Which account.
    pub id: AccountId,
    /// Their HTTP status; `None` for what came back with a redirect.
    pub status: Option<u16>,
    /// How many.
    pub times: u32,
    /// What the provider said in them, as far as it is understood.
    pub said: Option<Evidence>,
}

/// Reads what the provider of the app with this name said; `None` where that says nothing about token, app or
/// provider.
pub type Understand = dyn Fn(&str, &Answered) -> Option<Evidence> + Send + Sync;

/// What a provider answered the publisher, for whoever understands the provider.
pub struct Answered {
    /// The HTTP status; `None` for what came back with a redirect.
    pub status: Option<u16>,
    /// Where the answer came from.
    pub place: Place,
    /// The answer itself, or the parameters of the redirect. It may hold anything.
    pub body: serde_json::Value,
}

/// Where an answer came from.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Place {
    /// A call that publishes, or asks whether one may.
    #[default]
    Publish,
    /// Another call with an access token.
    Api,
    /// The consent page, which sent a person back.
    Redirect,
}

/// A key that lives as long as the process, for comparing secrets in constant time.
#[derive(Clone)]
pub struct ComparisonKey(hmac::Key);

impl ComparisonKey {
    /// Draws one.
    ///
    /// # Panics
    /// When the operating system has no random numbers, which nothing in this program survives.
    #[must_use]
    pub fn draw() -> Self {
        let key = hmac::Key::generate(hmac::HMAC_SHA256, &SystemRandom::new());
        Self(key.expect("the operating system has random numbers"))
    }

    fn same(&self, one: &[u8], other: &[u8]) -> bool {
        let expected = hmac::sign(&self.0, one);
        hmac::verify(&self.0, other, expected.as_ref()).is_ok()
    }
}

/// Answers one request.
pub async fn handle(context: Context, request: Request<Incoming>) -> Answer {
    let method = request.method().clone();
    let answer = match (request.uri().path(), &method) {
        ("/v1/responses", &Method::POST) => match take(&context, request).await {
            Ok(taken) => json(StatusCode::ACCEPTED, &taken),
            Err(refusal) => {
                context.metrics.report_rejected(refusal.counted);
                refusal.into_answer()
            }
        },
        ("/v1/responses", _) => wrong_method("POST"),
        _ => not_found(),
    };
    for_method(&method, answer)
}

async fn take(context: &Context, request: Request<Incoming>) -> Result<Taken, Refusal> {
    authorize(context, request.headers())?;
    let deadline = Instant::now() + context.body_deadline;
    let bytes = body(request.into_body(), BODY_BYTES_MAX, deadline).await?;
    let entries = read(&bytes)?;
    let snapshot = context.snapshot.load();
    let mut known = Vec::with_capacity(entries.len());
    let mut unknown = Vec::new();
    for (index, entry) in entries.into_iter().enumerate() {
        let id = AccountId::new(entry.provider, entry.account);
        // The table's own id is passed on: it shares its text, where a million made-up names would not.
        match snapshot.accounts.find(&id) {
            Some(account) => known.push(Response {
                id: account.id.clone(),
                status: entry.status,
                times: entry.times,
                said: entry.said.and_then(|said| {
                    let Said { place, body } = said;
                    let status = entry.status.filter(|_| place != Place::Redirect);
                    (context.understand)(&account.app, &Answered { status, place, body })
                }),
            }),
            None => unknown.push(index),
        }
    }
    drop(snapshot);
    let accepted = known.len();
    if !known.is_empty() {
        context.responses.try_send(known).map_err(|_| Refusal::UNAVAILABLE)?;
    }
    Ok(Taken { accepted, unknown })
}

fn authorize(context: &Context, headers: &HeaderMap) -> Result<(), Refusal> {
    let sent = headers
        .get(AUTHORIZATION)
        .and_then(|value| value.as_bytes().split_at_checked("Bearer ".len()))
        .filter(|(scheme, _)| scheme.eq_ignore_ascii_case(b"Bearer "))
        .map(|(_, secret)| secret)
        .ok_or(Refusal::UNAUTHORIZED)?;
    let expected = (context.secret)().map_err(|error| {
        tracing::error!(%error, "Reports are refused, because their secret cannot be read.");
        Refusal::UNAVAILABLE
    })?;
    // A blank secret would let in whoever sends none.
    let right = !expected.is_blank() && context.comparison.same(expected.expose().as_bytes(), sent);
    right.then_some(()).ok_or(Refusal::UNAUTHORIZED)
}

fn read(bytes: &[u8]) -> Result<Vec<Entry>, Refusal> {
    let report: Report = serde_json::from_slice(bytes).map_err(|error| {
        // The error's own text would repeat what was sent.
        let (line, column) = (error.line(), error.column());
        Refusal::malformed(format!("line {line} column {column}: expected {EXPECTED}"))
    })?;
    if report.responses.len() > ENTRIES_MAX {
        return Err(Refusal::TOO_LARGE);
    }
    for (index, entry) in report.responses.iter().enumerate() {
        let is_redirect = entry.said.as_ref().is_some_and(|said| said.place == Place::Redirect);
        if !entry.status.map_or(is_redirect, |status| (100..=599).contains(&status)) {
            let message = format!("responses[{index}].status: expected an HTTP status, 100 to 599");
            return Err(Refusal::malformed(message));
        }
        if !(1..=TIMES_MAX).contains(&entry.times) {
            let message = format!("responses[{index}].times: expected 1 to {TIMES_MAX}");
            return Err(Refusal::malformed(message));
        }
    }
    Ok(report.responses)
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Report {
    responses: Vec<Entry>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Entry {
    provider: String,
    account: String,
    status: Option<u16>,
    #[serde(default = "once")]
    times: u32,
    said: Option<Said>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Said {
    #[serde(default, rename = "from")]
    place: Place,
    body: serde_json::Value,
}

const fn once() -> u32 {
    1
}

#[derive(Serialize)]
struct Taken {
    /// Entries that are counted.
    accepted: usize,
    /// Positions in the report of entries whose account nobody knows.
    unknown: Vec<usize>,
}

/// Why a report was not taken, for the publisher and for the counter.
struct Refusal {
    status: StatusCode,
    error: String,
    counted: Rejection,
}

impl Refusal {
    const UNAUTHORIZED: Self = Self::of(StatusCode::UNAUTHORIZED, Rejection::Unauthorized);
    const TOO_LARGE: Self = Self::of(StatusCode::PAYLOAD_TOO_LARGE, Rejection::TooLarge);
    const TOO_SLOW: Self = Self::of(StatusCode::REQUEST_TIMEOUT, Rejection::TooSlow);
    const UNAVAILABLE: Self = Self::of(StatusCode::SERVICE_UNAVAILABLE, Rejection::Unavailable);

    const fn of(status: StatusCode, counted: Rejection) -> Self {
        Self { status, error: String::new(), counted }
    }

    const fn malformed(error: String) -> Self {
        Self { status: StatusCode::BAD_REQUEST, error, counted: Rejection::Malformed }
    }

    fn into_answer(self) -> Answer {
        let error = match self.counted {
            Rejection::Malformed => self.error,
            Rejection::Unauthorized => "expected `Authorization: Bearer` and the secret".into(),
            Rejection::TooLarge => {
                format!("expected at most {ENTRIES_MAX} entries in {BODY_BYTES_MAX} bytes")
            }
            Rejection::TooSlow => "the body did not arrive in time".into(),
            Rejection::Unavailable => "the report cannot be taken now; send it again".into(),
        };
        let mut answer = json(self.status, &serde_json::json!({ "error": error }));
        let headers = answer.headers_mut();
        match self.counted {
            Rejection::Unauthorized => {
                headers.insert(WWW_AUTHENTICATE, HeaderValue::from_static("Bearer"));
            }
            Rejection::Unavailable => {
                headers.insert(RETRY_AFTER, HeaderValue::from_static(RETRY_AFTER_SECONDS));
            }
            _ => {}
        }
        answer
    }
}

impl From<NoBody> for Refusal {
    fn from(why: NoBody) -> Self {
        match why {
            NoBody::TooLarge => Self::TOO_LARGE,
            NoBody::TooSlow => Self::TOO_SLOW,
            NoBody::Broken => Self::malformed("the body broke off".into()),
        }
    }
}

/// Longest report.
pub const BODY_BYTES_MAX: usize = 64 * 1024;

/// Most entries in a report.
pub const ENTRIES_MAX: usize = 1000;

/// Most answers that one entry stands for.
const TIMES_MAX: u32 = 100_000;

/// How long the body of a report may take.
pub const BODY_DEADLINE: Duration = Duration::from_secs(10);

/// The keeper takes reports in each round.
const RETRY_AFTER_SECONDS: &str = "1";

const EXPECTED: &str =
    r#"{"responses":[{"provider":"tiktok","account":"a","status":401,"times":1}]}"#;
