//! Providers as data: what is asked, what answers mean, and what a file may say.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on should stop")]

mod cases;
mod catalogue;
mod consent;
mod junk;
mod laws;
mod recorded;
mod requests;
mod shapes;
mod wrong_files;

use oauth_keepalive::{
    core::{Evidence, Secret, Timestamp},
    oauth::{
        Answer, Body, Credentials, Exchange, Grant, Liveness, Method, Outcome, Request, Token,
    },
    providers::{Endpoints, Provider},
};
use std::{fmt::Write as _, fs, path::PathBuf, time::Duration};

pub(crate) fn path(relative: &str) -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join(relative)
}

pub(crate) fn read(relative: &str) -> String {
    fs::read_to_string(path(relative)).unwrap_or_else(|error| panic!("{relative}: {error}"))
}

/// A recorded answer: status, what the shell reads from headers, and a body.
pub(crate) fn recorded(name: &str) -> Exchange {
    let json = read(&format!("tests/fixtures/providers/{name}.json"));
    let fixture: serde_json::Value = serde_json::from_str(&json).unwrap();
    let body = match fixture.get("text") {
        Some(text) => text.as_str().unwrap().to_owned(),
        None => fixture["body"].to_string(),
    };
    Exchange::Answered(Answer {
        retry_after: fixture["retry_after"].as_u64().map(Duration::from_secs),
        bearer_error: fixture["bearer_error"].as_str().map(str::to_owned),
        ..answer(u16::try_from(fixture["status"].as_u64().unwrap()).unwrap(), &body)
    })
}

pub(crate) fn answer(status: u16, body: &str) -> Answer {
    let body = Secret::new(body.to_owned());
    Answer { status, retry_after: None, date: None, bearer_error: None, body }
}

pub(crate) fn answered(status: u16, body: &str) -> Exchange {
    Exchange::Answered(answer(status, body))
}

pub(crate) const NOW: Timestamp = Timestamp::from_unix(1_795_348_800);

pub(crate) fn outcome_word(provider: &Provider, exchange: &Exchange) -> String {
    outcome_words(&provider.outcome(exchange, NOW))
}

pub(crate) fn outcome_words(outcome: &Outcome) -> String {
    match outcome {
        Outcome::NotCommitted(evidence) => format!("not committed: {}", words(evidence)),
        Outcome::Dead(evidence) => format!("dead: {}", words(evidence)),
        Outcome::Ambiguous(evidence) => format!("ambiguous: {}", words(evidence)),
        Outcome::Committed(grant) => grant_words(grant),
    }
}

pub(crate) fn liveness_word(provider: &Provider, exchange: &Exchange) -> String {
    match provider.liveness(exchange, Some("invented-open-id"), NOW) {
        Liveness::Alive => "alive".to_owned(),
        Liveness::Refused(evidence) => format!("refused: {}", words(&evidence)),
        Liveness::Unknown(evidence) => format!("unknown: {}", words(&evidence)),
    }
}

/// Cause first, then whatever else the evidence holds, in a fixed order.
pub(crate) fn words(evidence: &Evidence) -> String {
    assert_eq!(evidence.at, NOW);
    let mut words = evidence.cause.as_label().to_owned();
    if let Some(detail) = &evidence.detail {
        write!(words, " ({detail})").unwrap();
    }
    if let Some(status) = evidence.status {
        write!(words, " {status}").unwrap();
    }
    if let Some(code) = &evidence.code {
        write!(words, " code {code}").unwrap();
    }
    if let Some(log_id) = &evidence.log_id {
        write!(words, " log {log_id}").unwrap();
    }
    if let Some(pause) = evidence.retry_after {
        write!(words, " after {}s", pause.as_secs()).unwrap();
    }
    if evidence.app_wide {
        words.push_str(" app-wide");
    }
    words
}

pub(crate) fn grant_words(grant: &Grant) -> String {
    let secret = |secret: &Secret| secret.expose().to_owned();
    let seconds = |life: Option<Duration>| life.map(|life| life.as_secs());
    format!(
        "committed: {} {:?} {:?} {:?} {:?} {:?}",
        secret(&grant.access),
        grant.refresh.as_ref().map(secret),
        seconds(grant.expires_in),
        seconds(grant.refresh_expires_in),
        grant.scopes,
        grant.subject
    )
}

pub(crate) fn token(access: &str, refresh: Option<&str>) -> Token {
    Token {
        access: Secret::new(access.to_owned()),
        refresh: refresh.map(|text| Secret::new(text.to_owned())),
        issued_at: None,
        expires_at: None,
        refresh_expires_at: None,
        scopes: None,
        subject: None,
    }
}

pub(crate) fn credentials(secret: Option<&str>) -> Credentials {
    let client_secret = secret.map(|text| Secret::new(text.to_owned()));
    Credentials { client_id: "my id".to_owned(), client_secret }
}

/// The whole request on one line.
pub(crate) fn shown(request: &Request) -> String {
    let pairs = |pairs: &[(String, Secret)], glue: &str| {
        let pairs: Vec<_> =
            pairs.iter().map(|(name, value)| format!("{name}{glue}{}", value.expose())).collect();
        pairs.join("&")
    };
    let method = match request.method {
        Method::Get => "GET",
        Method::Post => "POST",
    };
    let mut line = format!("{method} {}", request.endpoint);
    if !request.query.is_empty() {
        write!(line, "?{}", pairs(&request.query, "=")).unwrap();
    }
    if !request.headers.is_empty() {
        write!(line, " [{}]", pairs(&request.headers, ": ")).unwrap();
    }
    match &request.body {
        Body::Whole(_) => panic!("no request to a provider is written whole"),
        Body::Empty => {}
        Body::Form(params) => write!(line, " form {}", pairs(params, "=")).unwrap(),
        Body::Json(params) => write!(line, " json {}", pairs(params, "=")).unwrap(),
    }
    line
}

pub(crate) fn refresh_line(provider: &Provider, endpoints: &Endpoints) -> String {
    let (credentials, token) = (credentials(Some("my secret")), token("at", Some("rt")));
    provider
        .refresh_request(endpoints, &credentials, &token)
        .map_or_else(|| "none".to_owned(), |request| shown(&request))
}
