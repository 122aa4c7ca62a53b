//! The same for scripts. Keys and words are an API: `docs/diagnose.md`.

use super::{super::gate, Found, FoundApp, environment};
use crate::core::{
    Evidence, Timestamp,
    cause::Actor,
    diagnose::{Check, Fact},
    history::{Failure, History},
};
use serde_json::{Value, json};

pub(super) fn all(apps: &[FoundApp], found: &[Found<'_>], now: Timestamp) -> Value {
    json!({
        "at": now.as_unix(),
        "apps": apps.iter().map(app).collect::<Vec<_>>(),
        "accounts": found.iter().map(account).collect::<Vec<_>>(),
    })
}

fn app(found: &FoundApp) -> Value {
    json!({
        "app": &*found.app.name,
        "provider": found.app.provider.name,
        "environment": environment(&found.app),
        "client_id": found.app.client_id,
        "accounts": found.accounts,
        "well": found.well,
        "last_refresh_at": unix(found.last_refresh_at),
        "secret_readable": found.secret_trouble.is_none(),
    })
}

fn account(found: &Found<'_>) -> Value {
    let Found { account, diagnosis, .. } = found;
    let token = account.token;
    let facts = |facts: &[Fact]| facts.iter().map(fact).collect::<Vec<_>>();
    json!({
        "provider": &*account.id.provider,
        "account": &*account.id.account,
        "app": &*account.app,
        "environment": found.app.as_ref().map(|app| environment(app)),
        "cause": diagnosis.cause.map_or("none", |cause| cause.as_label()),
        "cause_shown": account.cause.map_or("none", |cause| cause.as_label()),
        "gate": gate::as_json(&account.door),
        "confidence": diagnosis.confidence.as_label(),
        "since": unix(diagnosis.since),
        "reasons_for": facts(&diagnosis.reasons_for),
        "reasons_against": facts(&diagnosis.reasons_against),
        "suspects": diagnosis.suspects.iter().map(|cause| cause.as_label()).collect::<Vec<_>>(),
        "ruled_out": diagnosis
            .ruled_out
            .iter()
            .map(|(cause, because)| json!({"cause": cause.as_label(), "because": fact(because)}))
            .collect::<Vec<_>>(),
        "checks": diagnosis.checks.iter().map(check).collect::<Vec<_>>(),
        "next_step": {
            "step": diagnosis.step.as_label(),
            "actor": match diagnosis.step.actor() {
                Actor::Nobody => "nobody",
                Actor::Owner => "owner",
                Actor::Operator => "operator",
            },
            "text": diagnosis.step.sentence(),
        },
        "fingerprint": token.map(|token| token.token.to_string()),
        "issued_at": unix(token.map(|token| token.issued_at)),
        "expires_at": unix(token.and_then(|token| token.expires_at)),
        "refresh_expires_at": unix(token.and_then(|token| token.refresh_expires_at)),
        "refresh_end": account.refresh_end.map(|end| json!({
            "at": end.at.as_unix(),
            "provenance": end.from.as_label(),
            "moves": end.moves.as_label(),
        })),
        "first_seen_at": unix(account.first_seen_at),
        "last_refresh_at": unix(account.last_refresh_at),
        "granted_scopes": found.granted,
        "history": account.history.as_deref().map(history),
    })
}

fn fact(fact: &Fact) -> Value {
    json!({
        "fact": fact.as_label(),
        "text": fact.to_string(),
        "at": unix(fact.at),
        "since": unix(fact.since),
    })
}

fn check(check: &Check) -> Value {
    json!({
        "question": check.question.as_label(),
        "answer": check.answer,
        "because": check.because.as_ref().map(fact),
    })
}

fn history(history: &History) -> Value {
    let names = |names: &[std::sync::Arc<str>]| -> Vec<String> {
        names.iter().map(|name| name.to_string()).collect()
    };
    json!({
        "failures": history.failures.iter().map(failure).collect::<Vec<_>>(),
        "scopes": history
            .scopes
            .iter()
            .map(|seen| json!({"at": seen.at.as_unix(), "missing": names(&seen.missing)}))
            .collect::<Vec<_>>(),
        "writings": history
            .writings
            .iter()
            .map(|writing| json!({"at": writing.at.as_unix(), "by": writing.by.as_label()}))
            .collect::<Vec<_>>(),
        "check": history
            .check
            .map(|check| json!({"at": check.at.as_unix(), "alive": check.alive})),
        "moved": history
            .moved
            .as_ref()
            .map(|moved| json!({"at": moved.at.as_unix(), "from": &*moved.from})),
    })
}

fn failure(failure: &Failure) -> Value {
    let Evidence { cause, detail, code, log_id, status, at, app_wide, .. } = &*failure.evidence;
    json!({
        "cause": cause.as_label(),
        "status": status,
        "code": code.as_deref(),
        "detail": detail.as_deref(),
        "log_id": log_id.as_deref(),
        "app_wide": app_wide,
        "first_at": failure.first_at.as_unix(),
        "last_at": at.as_unix(),
        "times": failure.times,
        "source": failure.source.as_label(),
        "token_age_seconds": failure.token_age.map(|age| age.as_secs()),
        "clock_ahead_seconds": failure.clock_ahead,
    })
}

fn unix(at: Option<Timestamp>) -> Option<i64> {
    at.map(Timestamp::as_unix)
}
