//! What the provider's API answered the publisher, as the publisher reports it.
//!
//! A report is untrusted: it is bounded in size and time, checked entry by entry against the accounts
//! that exist, and it only ever counts and asks; whether a 401 leads to anything is the keeper's decision.
//! Error texts never repeat what was sent, since a confused publisher may send a token; and of what the
//! provider said in it, nothing is passed on but what the provider's own table understands.

use super::{
    Context,
    clients::{Client, Right},
    path,
    problem::{Code, Problem},
    whole::Whole,
};
use crate::{
    core::{AccountId, Evidence},
    metrics::events::Rejection,
    server::{
        answer::{Answer, json},
        bounded::body,
    },
};
use hyper::{Request, StatusCode, body::Incoming};
use serde::{Deserialize, Serialize};
use tokio::time::Instant;

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

/// Takes a report, or counts why not.
pub(super) async fn answer(
    context: &Context,
    client: Result<&Client, Problem>,
    request: Request<Incoming>,
) -> Result<Answer, Problem> {
    let taken = match client {
        Ok(client) => take(context, client, request).await,
        Err(problem) => Err(problem),
    };
    match taken {
        Ok(taken) => Ok(json(StatusCode::ACCEPTED, &taken)),
        Err(problem) => {
            context.metrics.report_rejected(counted(problem.code));
            Err(problem)
        }
    }
}

async fn take(
    context: &Context,
    client: &Client,
    request: Request<Incoming>,
) -> Result<Taken, Problem> {
    client.needs(Right::Report)?;
    path::query(request.uri().query(), [])?;
    let deadline = Instant::now() + context.body_deadline;
    let bytes = body(request.into_body(), BODY_BYTES_MAX, deadline).await?;
    let entries = read(&bytes)?;
    let snapshot = context.snapshot.load();
    let mut known = Vec::with_capacity(entries.len());
    let mut unknown = Vec::new();
    for (index, entry) in entries.into_iter().enumerate() {
        let id = AccountId::new(entry.provider, entry.account);
        // The table's own id is passed on: it shares its text, where a million made-up names would not.
        match snapshot.accounts.find(&id).filter(|account| client.may_see(&account.id)) {
            Some(account) => known.push(Response {
                id: account.id.clone(),
                status: entry.status.and_then(status),
                times: u32::try_from(entry.times.0).unwrap_or(1),
                said: entry.said.and_then(|said| {
                    let Said { place, body } = said;
                    let status = entry.status.and_then(status).filter(|_| place != Place::Redirect);
                    (context.understand)(&account.app, &Answered { status, place, body })
                }),
            }),
            None => unknown.push(index),
        }
    }
    drop(snapshot);
    let accepted = known.len();
    if !known.is_empty() {
        let full = |_| Problem::unavailable("the report cannot be taken now; send it again");
        context.responses.try_send(known).map_err(full)?;
    }
    Ok(Taken { accepted, unknown })
}

fn read(bytes: &[u8]) -> Result<Vec<Entry>, Problem> {
    let report: Report = serde_json::from_slice(bytes).map_err(|error| {
        // The error's own text would repeat what was sent.
        let (line, column) = (error.line(), error.column());
        Problem::malformed(format!("line {line} column {column}: expected {EXPECTED}"))
    })?;
    if report.responses.len() > ENTRIES_MAX {
        let detail = format!("expected at most {ENTRIES_MAX} entries in {BODY_BYTES_MAX} bytes");
        return Err(Problem::new(Code::TooLarge, detail));
    }
    for (index, entry) in report.responses.iter().enumerate() {
        let is_redirect = entry.said.as_ref().is_some_and(|said| said.place == Place::Redirect);
        if !entry.status.map_or(is_redirect, |number| status(number).is_some()) {
            let message = format!("responses[{index}].status: expected an HTTP status, 100 to 599");
            return Err(Problem::malformed(message));
        }
        if !(1..=TIMES_MAX).contains(&entry.times.0) {
            let message = format!("responses[{index}].times: expected 1 to {TIMES_MAX}");
            return Err(Problem::malformed(message));
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
    status: Option<Whole>,
    #[serde(default = "once")]
    times: Whole,
    said: Option<Said>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Said {
    #[serde(default, rename = "from")]
    place: Place,
    body: serde_json::Value,
}

const fn once() -> Whole {
    Whole(1)
}

/// An HTTP status.
pub(super) fn status(Whole(number): Whole) -> Option<u16> {
    u16::try_from(number).ok().filter(|number| (100..=599).contains(number))
}

#[derive(Serialize)]
struct Taken {
    /// Entries that are counted.
    accepted: usize,
    /// Positions in the report of entries whose account nobody knows.
    unknown: Vec<usize>,
}

const fn counted(code: Code) -> Rejection {
    match code {
        Code::Unauthorized | Code::RightMissing => Rejection::Unauthorized,
        Code::TooLarge => Rejection::TooLarge,
        Code::TooSlow => Rejection::TooSlow,
        Code::Unavailable => Rejection::Unavailable,
        _ => Rejection::Malformed,
    }
}

/// Longest report.
pub const BODY_BYTES_MAX: usize = 64 * 1024;

/// Most entries in a report.
pub const ENTRIES_MAX: usize = 1000;

/// Most answers that one entry stands for.
const TIMES_MAX: i64 = 100_000;

const EXPECTED: &str =
    r#"{"responses":[{"provider":"tiktok","account":"a","status":401,"times":1}]}"#;
