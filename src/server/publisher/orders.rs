//! What publishers and people want done: hold, resume, refresh, and what became of a canary.
//!
//! Nothing is done here. It is written down in the inbox, from which every replica hears it within a second, and then
//! answered with 202: whoever has the account follows it.

use super::{
    Context, gates, path,
    problem::{Code, Problem},
    responses::{Answered, Place, status},
    whole::Whole,
};
use crate::{
    core::{AccountId, Gate, Order, permits::REPORT_FOLLOWED_WITHIN},
    server::{
        answer::{Answer, json},
        bounded::body,
        ordered::{self, NotWritten},
    },
};
use hyper::{HeaderMap, Request, StatusCode, body::Incoming};
use serde::Deserialize;
use serde_json::json;
use std::sync::Arc;
use tokio::time::Instant;

/// Hands on an order that needs no more than its name.
pub(super) async fn order(
    context: &Context,
    id: &AccountId,
    order: Order,
    request: Request<Incoming>,
) -> Result<Answer, Problem> {
    path::query(request.uri().query(), [])?;
    let key = idempotency_key(request.headers())?;
    let deadline = Instant::now() + context.body_deadline;
    let bytes = body(request.into_body(), ORDER_BYTES_MAX, deadline).await?;
    if !bytes.is_empty() {
        serde_json::from_slice::<Nothing>(&bytes)
            .map_err(|_| Problem::malformed("expected no body, or {}"))?;
    }
    // An account that does not exist must not be held for ever.
    gates::seen(context, id).await?;
    hand_on(context, id, order, key).await?;
    Ok(accepted())
}

/// What became of the post that was to prove an account.
pub(super) async fn canary(
    context: &Context,
    id: &AccountId,
    request: Request<Incoming>,
) -> Result<Answer, Problem> {
    path::query(request.uri().query(), [])?;
    let key = idempotency_key(request.headers())?;
    let deadline = Instant::now() + context.body_deadline;
    let bytes = body(request.into_body(), CANARY_BYTES_MAX, deadline).await?;
    let canary: Canary = serde_json::from_slice(&bytes).map_err(|error| {
        let (line, column) = (error.line(), error.column());
        let expected = r#"{"worked":true} or {"worked":false,"status":401,"body":{}}"#;
        Problem::malformed(format!("line {line} column {column}: expected {expected}"))
    })?;
    let wrong = || Problem::malformed("status: expected an HTTP status, 100 to 599");
    let status = canary.status.map(|number| status(number).ok_or_else(wrong)).transpose()?;
    let seen = gates::seen(context, id).await?;
    if seen.known && seen.gate != Gate::Canary {
        // Nothing waits for it; written down, it would be one more message that nobody needs.
        return Ok(json(
            StatusCode::OK,
            &json!({ "accepted": false, "gate": seen.gate.as_label() }),
        ));
    }
    let app = context.seen().accounts.find(id).map(|account| Arc::clone(&account.app));
    let answered = canary.body.map(|body| Answered { status, place: Place::Publish, body });
    let evidence = app
        .zip(answered)
        .filter(|_| !canary.worked)
        .and_then(|(app, answered)| (context.understand)(&app, &answered));
    let order = Order::Published { worked: canary.worked, evidence };
    hand_on(context, id, order, key).await?;
    let now = context.clock.now();
    context.permits.reported(now, id);
    context.canaries.report(id, now.plus(REPORT_FOLLOWED_WITHIN)).await;
    Ok(accepted())
}

fn accepted() -> Answer {
    json(StatusCode::ACCEPTED, &json!({ "accepted": true }))
}

/// Returns when it is written down.
async fn hand_on(
    context: &Context,
    id: &AccountId,
    order: Order,
    key: Option<Vec<u8>>,
) -> Result<(), Problem> {
    let now = context.clock.now();
    match ordered::hand_on(&context.deliveries, now, id, order, key).await {
        Ok(_) => Ok(()),
        Err(NotWritten) => {
            Err(Problem::unavailable("it cannot be written down now; send it again"))
        }
    }
}

/// What makes the same request again the same order.
fn idempotency_key(headers: &HeaderMap) -> Result<Option<Vec<u8>>, Problem> {
    let mut all = headers.get_all(IDEMPOTENCY_KEY).iter();
    let Some(key) = all.next() else { return Ok(None) };
    let is_right =
        (1..=KEY_BYTES_MAX).contains(&key.len()) && key.as_bytes().iter().all(u8::is_ascii_graphic);
    if all.next().is_some() || !is_right {
        let detail = "Idempotency-Key: expected one text of 1 to 256 visible ASCII characters";
        return Err(Problem::new(Code::Malformed, detail));
    }
    Ok(Some(key.as_bytes().to_vec()))
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Nothing {}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Canary {
    worked: bool,
    status: Option<Whole>,
    /// What the provider answered.
    body: Option<serde_json::Value>,
}

const IDEMPOTENCY_KEY: &str = "idempotency-key";
const KEY_BYTES_MAX: usize = 256;
const ORDER_BYTES_MAX: usize = 1024;
const CANARY_BYTES_MAX: usize = 64 * 1024;
