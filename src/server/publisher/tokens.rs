//! The newest access token, for a publisher that is about to publish.
//!
//! Switched on for itself, for clients that have the right. It is read from the store at this moment, so that it is
//! never older than what a refresh has just saved, and never handed out while the gate is held. The refresh token is
//! not even asked for.

use super::{
    Client, Context, Promise, gates, path,
    problem::{Code, Problem},
};
use crate::{
    core::{AccountId, Gate, Secret, Timestamp},
    server::answer::{Answer, json},
};
use hyper::StatusCode;
use serde::Serialize;

/// Reads an account's access token from the store; `None` when the store has none for it, `Err` when it does not
/// answer.
pub type Newest = dyn Fn(AccountId) -> Promise<Result<Option<AccessToken>, ()>> + Send + Sync;

/// An access token on its way to a publisher.
pub struct AccessToken {
    /// The token itself.
    pub access: Secret,
    /// Its declared end.
    pub expires_at: Option<Timestamp>,
}

pub(super) async fn answer(
    context: &Context,
    client: &Client,
    id: &AccountId,
    query: Option<&str>,
) -> Result<Answer, Problem> {
    path::query(query, [])?;
    let newest = newest(context)?;
    let seen = gates::seen(context, id).await?;
    if seen.gate == Gate::Held {
        let mut problem =
            Problem::new(Code::GateHeld, "nothing may be published on this account now");
        problem.retry_after = seen.retry_after();
        return Err(problem);
    }
    let token = read(context, newest, client, id).await?;
    Ok(json(StatusCode::OK, &token.view()))
}

/// Who reads tokens, when that is switched on.
pub(super) fn newest(context: &Context) -> Result<&Newest, Problem> {
    context.newest.as_deref().ok_or_else(|| {
        Problem::new(
            Code::TokensOff,
            "set publisher.serve_tokens, or read the token from your store",
        )
    })
}

/// A token that could work, and a line in the log that it was handed out.
pub(super) async fn read(
    context: &Context,
    newest: &Newest,
    client: &Client,
    id: &AccountId,
) -> Result<AccessToken, Problem> {
    let away = || Problem::unavailable("the token store does not answer");
    let token = newest(id.clone()).await.map_err(|()| away())?;
    let now = context.clock.now();
    let token = token
        .filter(|token| !token.access.is_blank())
        .filter(|token| token.expires_at.is_none_or(|end| !end.has_come(now)));
    let Some(token) = token else {
        return Err(Problem::new(
            Code::NoToken,
            "the token has ended and is being renewed, or is missing",
        ));
    };
    tracing::info!(client = %client.name, account = %id, "an access token was handed out");
    Ok(token)
}

impl AccessToken {
    pub(super) fn view(&self) -> View<'_> {
        View {
            access_token: self.access.expose(),
            token_type: "Bearer",
            expires_at: self.expires_at.map(Timestamp::as_unix),
        }
    }
}

/// A token in an answer. It has no `Debug`.
#[derive(Serialize)]
pub(super) struct View<'a> {
    access_token: &'a str,
    token_type: &'static str,
    expires_at: Option<i64>,
}
