//! What an answer means. Every rule about telling "spent" from "not spent" stands in [`outcome_by`].

use super::{
    Provider, Renewal,
    rules::{Known, Matcher, Path, Reading, as_text},
    schema::{OutcomeWord, Where},
};
use crate::{
    core::{Cause, Evidence, Secret, Timestamp},
    oauth::{Answer, Exchange, Grant, Liveness, Outcome, Standing, Token, Trouble},
};
use serde_json::Value;
use std::time::Duration;

/// Where things stand in a good answer of the token endpoint.
#[derive(Debug)]
pub(super) struct Answers {
    pub(super) success: Option<(Path, String)>,
    pub(super) access: Path,
    pub(super) refresh: Path,
    pub(super) expires_in: Path,
    pub(super) refresh_expires_in: Path,
    pub(super) scope: Path,
    pub(super) subject: Option<Path>,
}

/// How it is asked whether the provider accepts the app.
#[derive(Debug)]
pub(super) struct Junk {
    /// Of the provider's shape, and nobody's.
    pub(super) refresh_token: String,
    /// What stands in the answer when only that was refused.
    pub(super) app_is_fine: Matcher,
}

impl Junk {
    pub(super) fn token(&self) -> Token {
        Token {
            access: Secret::new(String::new()),
            refresh: Some(Secret::new(self.refresh_token.clone())),
            issued_at: None,
            expires_at: None,
            refresh_expires_at: None,
            scopes: None,
            subject: None,
        }
    }
}

pub(super) fn outcome(
    provider: &Provider,
    exchange: &Exchange,
    known: &Known<'_>,
    at: Timestamp,
) -> Outcome {
    outcome_by(provider, &provider.answers, exchange, known, at)
}

/// Where a good answer is laid out as `answers` say. Read it top to bottom: the first line that applies wins.
pub(super) fn outcome_by(
    provider: &Provider,
    answers: &Answers,
    exchange: &Exchange,
    known: &Known<'_>,
    at: Timestamp,
) -> Outcome {
    let answer = match exchange {
        Exchange::NotSent(trouble) => return Outcome::NotCommitted(silence(*trouble, at)),
        Exchange::Lost(trouble) => return Outcome::Ambiguous(silence(*trouble, at)),
        Exchange::Answered(answer) => answer,
    };
    let mut body = parsed(&answer.body);
    if answer.is_redirect() {
        // Whoever stands at the other end may have been handed the token by a less careful client; its
        // answer proves nothing either way.
        let refused = evidence(provider, answer, &body, Cause::ProviderOutage, at);
        return Outcome::Ambiguous(detailed(refused, REDIRECT_REFUSED));
    }
    // A token goes before any error beside it: it is the only copy, and a useless one does less harm
    // than a lost one.
    if answer.is_good()
        && meets(answers.success.as_ref(), &body)
        && let Some(grant) = answers.grant(&mut body)
    {
        return Outcome::Committed(grant);
    }
    if let Some((verdict, evidence)) =
        by_row(provider, Where::Token, Said { answer: Some(answer), body: &body }, known, at)
    {
        return match verdict {
            OutcomeWord::NotCommitted => Outcome::NotCommitted(evidence),
            OutcomeWord::Dead => Outcome::Dead(evidence),
            OutcomeWord::Ambiguous => Outcome::Ambiguous(evidence),
        };
    }
    let because = |cause| evidence(provider, answer, &body, cause, at);
    match answer.status {
        429 => Outcome::NotCommitted(Evidence {
            app_wide: concerns_the_app(Cause::RateLimited, Where::Token),
            ..because(Cause::RateLimited)
        }),
        // A token where none should be: presenting the old one again as if nothing had happened would be
        // reuse.
        400..=499 if answers.hints_at_token(&body) => {
            Outcome::Ambiguous(detailed(because(Cause::Unknown), UNREADABLE))
        }
        400..=499 => Outcome::NotCommitted(detailed(because(Cause::Unknown), UNRECOGNIZED)),
        500..=599 => Outcome::Ambiguous(because(Cause::ProviderOutage)),
        _ => Outcome::Ambiguous(detailed(because(Cause::Unknown), UNREADABLE)),
    }
}

/// What the answer to a refresh token that is nobody's says about the app. What was not foreseen says
/// nothing: a frozen app must not thaw by a misunderstanding, nor a working one freeze.
pub(super) fn standing(provider: &Provider, exchange: &Exchange, at: Timestamp) -> Standing {
    let answer = match exchange {
        Exchange::NotSent(trouble) | Exchange::Lost(trouble) => {
            return Standing::Unclear(silence(*trouble, at));
        }
        Exchange::Answered(answer) => answer,
    };
    let body = parsed(&answer.body);
    let because = |cause| evidence(provider, answer, &body, cause, at);
    let unclear = |cause, detail| Standing::Unclear(detailed(because(cause), detail));
    if answer.is_redirect() {
        return unclear(Cause::ProviderOutage, REDIRECT_REFUSED);
    }
    if answer.status >= 500 {
        return Standing::Unclear(because(Cause::ProviderOutage));
    }
    let known = Known::default();
    let said = Said { answer: Some(answer), body: &body };
    let row = by_row(provider, Where::Token, said, &known, at).map(|(_, evidence)| evidence);
    if let Some(refused) = row.clone().filter(concerns_its_credentials) {
        return Standing::Refused(refused);
    }
    let bearer_error = answer.bearer_error.as_deref();
    let status = Some(answer.status);
    let reading = Reading { status, known: &known, at, bearer_error, body: &body };
    if provider.answers.hints_at_token(&body) {
        // Nobody's token was taken for somebody's: whatever this is, it is no answer to the question.
        return unclear(Cause::Unknown, JUNK_WAS_TAKEN);
    }
    if provider.junk.as_ref().is_some_and(|junk| junk.app_is_fine.fits(&reading)) {
        return Standing::Accepted;
    }
    match (row, answer.status) {
        (Some(evidence), _) => Standing::Unclear(evidence),
        (None, 429) => Standing::Unclear(because(Cause::RateLimited)),
        (None, _) => unclear(Cause::Unknown, UNRECOGNIZED),
    }
}

fn concerns_its_credentials(evidence: &Evidence) -> bool {
    evidence.app_wide && evidence.cause == Cause::AppCredentialsRejected
}

pub(super) fn liveness(
    provider: &Provider,
    exchange: &Exchange,
    known: &Known<'_>,
    at: Timestamp,
) -> Liveness {
    let answer = match exchange {
        Exchange::NotSent(trouble) | Exchange::Lost(trouble) => {
            return Liveness::Unknown(silence(*trouble, at));
        }
        Exchange::Answered(answer) => answer,
    };
    let body = parsed(&answer.body);
    let said = Said { answer: Some(answer), body: &body };
    if let Some((_, evidence)) = by_row(provider, Where::Probe, said, known, at) {
        return match evidence.cause {
            // These say something about the provider or about our request, nothing about the token.
            Cause::RateLimited | Cause::ProviderOutage | Cause::Unknown => {
                Liveness::Unknown(evidence)
            }
            _ => Liveness::Refused(evidence),
        };
    }
    let because = |cause| evidence(provider, answer, &body, cause, at);
    let probe = provider.probe.as_ref();
    if answer.is_good() && meets(probe.and_then(|probe| probe.success.as_ref()), &body) {
        let seen = probe.and_then(|probe| as_text(probe.subject.as_ref()?.value(&body)?));
        return match (seen, known.subject) {
            (Some(seen), Some(wanted)) if seen != wanted => {
                Liveness::Refused(detailed(because(Cause::WrongEnvironment), OTHER_ACCOUNT))
            }
            _ => Liveness::Alive,
        };
    }
    Liveness::Unknown(match answer.status {
        429 => because(Cause::RateLimited),
        500..=599 => because(Cause::ProviderOutage),
        300..=399 => detailed(because(Cause::ProviderOutage), REDIRECT_REFUSED),
        _ => detailed(because(Cause::Unknown), UNRECOGNIZED),
    })
}

/// Whose token a good answer to a check names.
pub(super) fn subject_seen(provider: &Provider, exchange: &Exchange) -> Option<String> {
    let Exchange::Answered(answer) = exchange else { return None };
    let probe = provider.probe.as_ref()?;
    let body = parsed(&answer.body);
    if !answer.is_good() || !meets(probe.success.as_ref(), &body) {
        return None;
    }
    subject_of(probe.subject.as_ref()?.value(&body)?)
}

/// What the answer to a publish check says. Whether an account may publish is another question than whether its token
/// works, so nearly everything that is not a yes is a no.
pub(super) fn readiness(
    provider: &Provider,
    exchange: &Exchange,
    known: &Known<'_>,
    at: Timestamp,
) -> Liveness {
    let answer = match exchange {
        Exchange::NotSent(trouble) | Exchange::Lost(trouble) => {
            return Liveness::Unknown(silence(*trouble, at));
        }
        Exchange::Answered(answer) => answer,
    };
    // The answer of TikTok is a refusal or none at any status, 200 included.
    if let Some(evidence) = refusal(provider, Where::Publish, answer, known, at) {
        return match evidence.cause {
            Cause::ProviderOutage => Liveness::Unknown(evidence),
            _ => Liveness::Refused(evidence),
        };
    }
    let body = parsed(&answer.body);
    let because = |cause| evidence(provider, answer, &body, cause, at);
    let success = provider.publish_check.as_ref().and_then(|check| check.success.as_ref());
    if answer.is_good() && meets(success, &body) {
        return Liveness::Alive;
    }
    match answer.status {
        300..=399 => Liveness::Unknown(detailed(because(Cause::ProviderOutage), REDIRECT_REFUSED)),
        401 => Liveness::Refused(because(Cause::AccessTokenExpired)),
        _ => Liveness::Refused(detailed(because(Cause::Unknown), UNRECOGNIZED)),
    }
}

pub(super) fn refusal(
    provider: &Provider,
    place: Where,
    answer: &Answer,
    known: &Known<'_>,
    at: Timestamp,
) -> Option<Evidence> {
    let body = parsed(&answer.body);
    let said = Said { answer: Some(answer), body: &body };
    if let Some((_, evidence)) = by_row(provider, place, said, known, at) {
        return Some(evidence);
    }
    match answer.status {
        429 => Some(Evidence {
            app_wide: concerns_the_app(Cause::RateLimited, place),
            ..evidence(provider, answer, &body, Cause::RateLimited, at)
        }),
        500..=599 => Some(evidence(provider, answer, &body, Cause::ProviderOutage, at)),
        _ => None,
    }
}

pub(super) fn message(
    provider: &Provider,
    place: Where,
    body: &Value,
    at: Timestamp,
) -> Option<Evidence> {
    let said = Said { answer: None, body };
    by_row(provider, place, said, &Known::default(), at).map(|(_, evidence)| evidence)
}

impl Answer {
    fn is_good(&self) -> bool {
        (200..=299).contains(&self.status)
    }

    fn is_redirect(&self) -> bool {
        (300..=399).contains(&self.status)
    }
}

/// Answers that are no JSON, HTML pages of gateways above all, read as `null`.
fn parsed(body: &Secret) -> Value {
    // Some frameworks put a byte order mark in front, which JSON does not allow.
    let text = body.expose().trim_start_matches('\u{feff}');
    serde_json::from_str(text).unwrap_or(Value::Null)
}

fn meets(condition: Option<&(Path, String)>, body: &Value) -> bool {
    condition.is_none_or(|(path, wanted)| {
        path.value(body).and_then(as_text).is_some_and(|text| text == wanted.as_str())
    })
}

/// What was said, by an answer or by a message that is none.
#[derive(Clone, Copy)]
struct Said<'a> {
    answer: Option<&'a Answer>,
    body: &'a Value,
}

fn by_row(
    provider: &Provider,
    place: Where,
    Said { answer, body }: Said<'_>,
    known: &Known<'_>,
    at: Timestamp,
) -> Option<(OutcomeWord, Evidence)> {
    let bearer_error = answer.and_then(|answer| answer.bearer_error.as_deref());
    let status = answer.map(|answer| answer.status);
    let row = provider.rules.row(place, &Reading { status, known, at, bearer_error, body })?;
    let cause = provider.renewal.in_other_words(row.cause);
    let mut evidence = match answer {
        Some(answer) => evidence(provider, answer, body, cause, at),
        None => Evidence {
            code: provider.rules.shown_code(body),
            log_id: provider.rules.shown_log_id(body),
            ..Evidence::of(cause, at)
        },
    };
    evidence.detail.clone_from(&row.detail);
    evidence.app_wide = row.app_wide.unwrap_or_else(|| concerns_the_app(row.cause, place));
    Some((row.outcome, evidence))
}

impl Renewal {
    /// Where the access token is all there is, its end is the end: to say that it expired would say that
    /// a refresh mends it.
    const fn in_other_words(self, cause: Cause) -> Cause {
        match (self, cause) {
            (Self::ExtendInPlace | Self::ReconnectOnly, Cause::AccessTokenExpired) => {
                Cause::RefreshTokenRejected
            }
            _ => cause,
        }
    }
}

/// Whether an answer is about all accounts of the app, unless the table says which it is. Who asks too often
/// for tokens is the app; calls with an access token are counted by that token.
const fn concerns_the_app(cause: Cause, place: Where) -> bool {
    match cause {
        Cause::AppCredentialsRejected | Cause::RedirectUriMismatch => true,
        Cause::RateLimited => matches!(place, Where::Token),
        _ => false,
    }
}

fn evidence(
    provider: &Provider,
    answer: &Answer,
    body: &Value,
    cause: Cause,
    at: Timestamp,
) -> Evidence {
    Evidence {
        code: provider.rules.shown_code(body),
        log_id: provider.rules.shown_log_id(body),
        status: Some(answer.status),
        retry_after: answer.retry_after,
        ..Evidence::of(cause, at)
    }
}

fn silence(trouble: Trouble, at: Timestamp) -> Evidence {
    // A request that cannot be built will not build itself later: that is the operator's to mend.
    let cause = match trouble {
        Trouble::Unsendable => Cause::Unknown,
        _ => Cause::ProviderOutage,
    };
    detailed(Evidence::of(cause, at), trouble.as_label())
}

fn detailed(evidence: Evidence, detail: &str) -> Evidence {
    Evidence { detail: Some(detail.into()), ..evidence }
}

impl Answers {
    /// The token of the answer, if it holds a usable one. Everything beside the access token may be
    /// missing or of any shape: none of it is worth losing the token for.
    fn grant(&self, body: &mut Value) -> Option<Grant> {
        if !self.holds_token(body) {
            return None;
        }
        let expires_in = self.expires_in.value(body).and_then(life);
        let refresh_expires_in = self.refresh_expires_in.value(body).and_then(life);
        let scopes = self.scope.value(body).and_then(scopes);
        let subject = self.subject.as_ref().and_then(|path| subject_of(path.value(body)?));
        Some(Grant {
            access: taken(&self.access, body)?,
            refresh: taken(&self.refresh, body),
            expires_in,
            refresh_expires_in,
            scopes,
            subject,
        })
    }

    /// Something stands where a token would, usable or not.
    fn hints_at_token(&self, body: &Value) -> bool {
        let access = self.access.value(body).and_then(Value::as_str);
        access.is_some_and(|text| !text.trim().is_empty())
    }

    fn holds_token(&self, body: &Value) -> bool {
        let access = self.access.value(body).and_then(Value::as_str);
        let refresh = self.refresh.value(body).and_then(Value::as_str);
        access.is_some_and(|text| {
            !text.trim().is_empty() && text.len() <= TOKEN_BYTES_MAX && is_whole(text)
        }) && refresh.is_none_or(is_whole)
    }
}

/// U+FFFD stands where the answer was not UTF-8. A token with a hole in it is no token, and keeping it
/// would put it over a good one.
fn is_whole(text: &str) -> bool {
    !text.contains('\u{fffd}')
}

/// Moved out of the document instead of copied, so that it is wiped with the secret it becomes. A
/// missing, blank or non-text refresh token is none, and the stored one stays.
fn taken(path: &Path, body: &mut Value) -> Option<Secret> {
    match path.value_mut(body)?.take() {
        Value::String(text) => Some(Secret::new(text)).filter(|secret| !secret.is_blank()),
        _ => None,
    }
}

/// A declared life in seconds. Text is accepted (Google's tokeninfo sends it); zero, negative and absurd
/// values say nothing: believing in a life of centuries would mean never renewing the token.
fn life(value: &Value) -> Option<Duration> {
    let seconds = match value {
        Value::Number(number) => number.as_f64()?,
        Value::String(text) => text.trim().parse().ok()?,
        _ => return None,
    };
    let believable = (1.0..=DECLARED_LIFE_MAX.as_secs_f64()).contains(&seconds);
    believable.then(|| Duration::from_secs(seconds as u64))
}

/// A list, or text parted by spaces (RFC 6749) or commas (TikTok, Meta). Nothing at all means that the
/// answer does not say.
fn scopes(value: &Value) -> Option<Vec<String>> {
    let words: Vec<&str> = match value {
        Value::String(text) => text.split([' ', ',']).collect(),
        Value::Array(list) => list.iter().filter_map(Value::as_str).collect(),
        _ => return None,
    };
    let scopes: Vec<String> = words
        .into_iter()
        .map(str::trim)
        .filter(|word| !word.is_empty() && word.len() <= SCOPE_BYTES_MAX)
        .take(SCOPES_MAX)
        .map(str::to_owned)
        .collect();
    (!scopes.is_empty()).then_some(scopes)
}

pub(super) fn subject_of(value: &Value) -> Option<String> {
    match value {
        Value::String(_) | Value::Number(_) => as_text(value)
            .filter(|text| !text.trim().is_empty() && text.len() <= SUBJECT_BYTES_MAX)
            .map(std::borrow::Cow::into_owned),
        _ => None,
    }
}

const REDIRECT_REFUSED: &str = "redirect_refused";
const UNREADABLE: &str = "unreadable_answer";
const UNRECOGNIZED: &str = "unrecognized_answer";
const OTHER_ACCOUNT: &str = "other_account";
const JUNK_WAS_TAKEN: &str = "junk_was_taken";

/// Longest access token that is believed to be one.
pub const TOKEN_BYTES_MAX: usize = 16 * 1024;
/// Longest life that is believed. The longest documented one is a year.
pub const DECLARED_LIFE_MAX: Duration = Duration::from_secs(10 * 365 * 86_400);
const SCOPES_MAX: usize = 256;
const SCOPE_BYTES_MAX: usize = 256;
const SUBJECT_BYTES_MAX: usize = 256;
