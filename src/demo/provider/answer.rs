//! TikTok's dialect: which request gets which answer, and how a fault spoils it.
//!
//! Token endpoint: flat answers, comma-separated scopes, form bodies only. API: `data` beside an `error`
//! object that is there on success too.

use super::{
    Call, Fault, LogEntry, Refreshed, Shared, Surface, What,
    consent::{self, NoCode},
    ledger::{Pair, Standing},
};
use crate::{
    demo::{
        http::{Closed, Reply, pairs_of, text_of},
        random_hex,
    },
    providers::JUNK_MARK,
};
use hyper::{
    Method, Request, Response, StatusCode,
    body::Incoming,
    header::{AUTHORIZATION, CONTENT_TYPE, DATE, HeaderValue, LOCATION, RETRY_AFTER},
};
use serde_json::{Value, json};
use std::{
    sync::Arc,
    time::{Duration, Instant},
};
use tokio::time::sleep;

pub(super) const TOKEN_PATH: &str = "/v2/oauth/token/";
pub(super) const USER_INFO_PATH: &str = "/v2/user/info/";
pub(super) const CREATOR_INFO_PATH: &str = "/v2/post/publish/creator_info/query/";
pub(super) const POST_PATH: &str = "/v2/post/publish/video/init/";

pub(super) type Answered = Result<Response<Reply>, Closed>;

pub(super) async fn answer(provider: Arc<Shared>, request: Request<Incoming>) -> Answered {
    let mut answered = undated(&provider, request).await;
    let ahead = provider.state().clock_ahead;
    if let Ok(page) = &mut answered
        && ahead != 0
    {
        page.headers_mut().insert(DATE, date(super::seconds_of(provider.now()).as_unix() + ahead));
    }
    answered
}

/// IMF-fixdate (RFC 9110 section 5.6.7).
fn date(unix: i64) -> HeaderValue {
    let at = jiff::Timestamp::from_second(unix).unwrap_or_default();
    let text = at.strftime("%a, %d %b %Y %H:%M:%S GMT").to_string();
    HeaderValue::from_str(&text).expect("letters, digits and colons")
}

/// The HTTP server adds the right date.
async fn undated(provider: &Arc<Shared>, request: Request<Incoming>) -> Answered {
    let call = match (request.method(), request.uri().path()) {
        (_, TOKEN_PATH) => return token_endpoint(provider, request).await,
        (_, consent::AUTHORIZE_PATH) => return consent::authorize(provider, request).await,
        (&Method::GET, USER_INFO_PATH) => Call::UserInfo,
        (&Method::POST, CREATOR_INFO_PATH) => Call::CreatorInfo,
        (&Method::POST, POST_PATH) => Call::Post,
        // TikTok's paths end in a slash; without it there is nothing.
        _ => return Ok(page(404, Reply::whole("not found"))),
    };
    api(provider, call, request).await
}

async fn token_endpoint(provider: &Arc<Shared>, request: Request<Incoming>) -> Answered {
    let at = provider.uptime();
    let is_form = request.method() == Method::POST
        && content_type(&request).starts_with("application/x-www-form-urlencoded");
    let form = Form(pairs_of(&text_of(request.into_body()).await.unwrap_or_default()));
    let is_question = form.field("refresh_token").is_some_and(|token| token.contains(JUNK_MARK));
    let (account, fault, under_way) = {
        let mut state = provider.state();
        let account = form.field("refresh_token").and_then(|token| state.ledger.whose(token));
        let of_code = form.field("code").and_then(|code| state.consents.whose(code));
        let account = account.or(of_code).map(str::to_owned);
        let fault = state.planted.take(Instant::now(), account.as_deref(), Surface::Token);
        let others = account.as_ref().map(|account| {
            let under_way = state.in_flight.entry(account.clone()).or_default();
            *under_way += 1;
            *under_way - 1
        });
        (account.clone(), fault, others.unwrap_or(0))
    };
    let _counted = UnderWay { provider: Arc::clone(provider), account: account.clone() };
    delay(provider, fault.as_ref()).await;

    if form.field("grant_type") == Some("authorization_code") {
        return code(provider, &form, is_form, (at, account, fault)).await;
    }
    let log = |refreshed| LogEntry {
        at,
        account: account.clone(),
        what: if is_question { What::Question(refreshed) } else { What::Refresh(refreshed) },
        fault: fault.as_ref().map(Fault::as_label),
        overlapped: under_way > 0,
    };
    if let Some(spoiled) = fault.as_ref().and_then(instead) {
        provider.state().log.push(log(Refreshed::NotProcessed));
        return spoiled;
    }
    let (refreshed, status, body) = {
        let mut state = provider.state();
        let (refreshed, pair) = if is_form {
            redeem(provider, &mut state, &form, fault.as_ref())
        } else {
            (Refreshed::Malformed, None)
        };
        state.log.push(log(refreshed));
        if state.remember(provider).is_err() {
            // Nobody may hold a token that this provider would forget.
            return Err(Closed);
        }
        let (status, body) = told(provider, refreshed, pair, is_form);
        (refreshed, status, body)
    };
    let issued = matches!(refreshed, Refreshed::Rotated | Refreshed::Kept | Refreshed::Repeated);
    spoil(provider, fault.filter(|_| issued), status, body).await
}

/// Makes a token of a code, in the order in which the real one looks at things.
async fn code(
    provider: &Arc<Shared>,
    form: &Form,
    is_form: bool,
    (at, account, fault): (Duration, Option<String>, Option<Fault>),
) -> Answered {
    let label = fault.as_ref().map(Fault::as_label);
    if let Some(spoiled) = fault.as_ref().and_then(instead) {
        provider.state().log.push(consent::logged(at, account, false, label));
        return spoiled;
    }
    let (status, body, issued) = {
        let mut state = provider.state();
        let now = provider.now();
        let bought = if !is_form {
            Err(told(provider, Refreshed::Malformed, None, false))
        } else if !knows_us(provider, &state, form) {
            Err(told(provider, Refreshed::ClientRefused, None, true))
        } else {
            state.consents.redeem(now, form).map_err(|why| {
                let (error, description) = match why {
                    NoCode::Finished => ("invalid_grant", "Authorization code is expired."),
                    NoCode::RedirectUri => (
                        "invalid_request",
                        "Redirect_uri is not matched with the uri when requesting code.",
                    ),
                    NoCode::Verifier => {
                        ("invalid_request", "Code verifier or code challenge is invalid.")
                    }
                };
                (provider.settings.error_status, oauth_error(error, description))
            })
        };
        let answered = match bought {
            Err((status, body)) => (status, body, false),
            Ok(code) => {
                let scopes: Vec<&str> = code.scopes.iter().map(String::as_str).collect();
                state.ledger.connect(now, &code.account, &scopes, &provider.terms());
                let pair = state.ledger.pair(&code.account);
                let body = pair.map(|pair| token_answer(provider, &pair)).unwrap_or_default();
                (200, body, true)
            }
        };
        state.log.push(consent::logged(at, account, answered.2, label));
        if state.remember(provider).is_err() {
            return Err(Closed);
        }
        answered
    };
    spoil(provider, fault.filter(|_| issued), status, body).await
}

fn knows_us(provider: &Shared, state: &super::State, form: &Form) -> bool {
    let secret = state.ledger.client_secret.as_deref();
    form.field("client_key") == Some(&provider.settings.client_key)
        && secret.is_some()
        && form.field("client_secret") == secret
}

fn redeem(
    provider: &Shared,
    state: &mut super::State,
    form: &Form,
    fault: Option<&Fault>,
) -> (Refreshed, Option<Pair>) {
    if !knows_us(provider, state, form) {
        return (Refreshed::ClientRefused, None);
    }
    match (form.field("grant_type"), form.field("refresh_token")) {
        (Some("refresh_token"), Some(token)) => {
            let keep = fault.is_some_and(Fault::keeps_refresh_token);
            state.ledger.redeem(provider.now(), token, &provider.terms(), keep)
        }
        _ => (Refreshed::Malformed, None),
    }
}

/// The answer that TikTok would give.
fn told(
    provider: &Shared,
    refreshed: Refreshed,
    pair: Option<Pair>,
    is_form: bool,
) -> (u16, Value) {
    if let Some(pair) = pair {
        return (200, token_answer(provider, &pair));
    }
    let (error, description) = match refreshed {
        Refreshed::ClientRefused => ("invalid_client", "Client key or secret is incorrect."),
        Refreshed::Malformed if !is_form => {
            // Seen with HTTP 200 only, whatever the other errors come with.
            let text = "Only `application/x-www-form-urlencoded` is supported as Content-Type.";
            return (200, oauth_error("invalid_request", text));
        }
        Refreshed::Malformed => ("unsupported_grant_type", "Grant type is not supported."),
        // One text for all of them: TikTok does not say which it was.
        _ => ("invalid_grant", "Refresh token is invalid or expired."),
    };
    (provider.settings.error_status, oauth_error(error, description))
}

fn token_answer(provider: &Shared, pair: &Pair) -> Value {
    let now = provider.now();
    // RFC 6749 section 5.1 has whole seconds; rounded down, a token issued a millisecond ago would have
    // lost one.
    let seconds_left = |ends_at: u64| (ends_at.saturating_sub(now) + 500) / 1_000;
    json!({
        "access_token": pair.access,
        "expires_in": seconds_left(pair.access_ends_at),
        "open_id": pair.open_id,
        "refresh_token": pair.refresh,
        "refresh_expires_in": seconds_left(pair.refresh_ends_at),
        "scope": pair.scopes.join(","),
        "token_type": "Bearer",
    })
}

fn oauth_error(error: &str, description: &str) -> Value {
    json!({ "error": error, "error_description": description, "log_id": log_id() })
}

/// What comes instead of handling the request at all.
fn instead(fault: &Fault) -> Option<Answered> {
    Some(match fault {
        Fault::Drop => Err(Closed),
        Fault::StatusBefore(status) => {
            Ok(json_page(*status, &oauth_error("server_error", "Something went wrong.")))
        }
        Fault::Html200 { commits: false } => Ok(html_page()),
        Fault::Redirect { status, to } => {
            let mut page = page(*status, Reply::whole(""));
            let to = HeaderValue::from_str(to).unwrap_or(HeaderValue::from_static("/"));
            page.headers_mut().insert(LOCATION, to);
            Ok(page)
        }
        Fault::RateLimit { retry_after } => {
            let mut page = json_page(429, &oauth_error("rate_limit_exceeded", "Slow down."));
            if let Some(seconds) = retry_after {
                page.headers_mut().insert(RETRY_AFTER, HeaderValue::from(*seconds));
            }
            Ok(page)
        }
        Fault::Refuse { error, description } => {
            Ok(json_page(200, &oauth_error(error, description)))
        }
        _ => return None,
    })
}

/// What comes before the request is looked at.
async fn delay(provider: &Shared, fault: Option<&Fault>) {
    match fault {
        Some(Fault::Latency(pause)) => sleep(*pause).await,
        Some(Fault::HoldRequest) => provider.hold().await,
        _ => {}
    }
}

/// What becomes of a good answer on its way out.
async fn spoil(provider: &Shared, fault: Option<Fault>, status: u16, mut body: Value) -> Answered {
    match fault {
        Some(Fault::LoseAnswer) => Err(Closed),
        Some(Fault::Truncate) => Ok(page(status, Reply::cut(body.to_string().as_bytes()))),
        Some(Fault::Trickle { pause }) => {
            Ok(page(status, Reply::trickling(body.to_string().as_bytes(), pause)))
        }
        Some(Fault::HangFor(pause)) => {
            sleep(pause).await;
            Ok(json_page(status, &body))
        }
        Some(Fault::HoldAnswer) => {
            provider.hold().await;
            Ok(json_page(status, &body))
        }
        Some(Fault::StatusAfter(status)) => {
            Ok(json_page(status, &oauth_error("server_error", "Something went wrong.")))
        }
        Some(Fault::Html200 { .. }) => Ok(html_page()),
        Some(Fault::HugeBody { bytes }) => Ok(page(status, Reply::padded(body.to_string(), bytes))),
        Some(Fault::NotUtf8) => {
            let mut bytes = body.to_string().into_bytes();
            bytes[1] = 0xff;
            Ok(page(status, Reply::whole(bytes)))
        }
        Some(Fault::OmitRefreshToken) => {
            if let Some(members) = body.as_object_mut() {
                members.remove("refresh_token");
            }
            Ok(json_page(status, &body))
        }
        Some(Fault::BlankRefreshToken) => {
            body["refresh_token"] = Value::from("");
            Ok(json_page(status, &body))
        }
        Some(Fault::NullRefreshToken) => {
            body["refresh_token"] = Value::Null;
            Ok(json_page(status, &body))
        }
        Some(Fault::Member { name, value }) => {
            body[name] = value;
            Ok(json_page(status, &body))
        }
        _ => Ok(json_page(status, &body)),
    }
}

async fn api(provider: &Arc<Shared>, call: Call, request: Request<Incoming>) -> Answered {
    let at = provider.uptime();
    let access = bearer(&request).unwrap_or_default();
    let wanted = Form(pairs_of(request.uri().query().unwrap_or_default()));
    let (account, fault) = {
        let mut state = provider.state();
        let account = state.ledger.whose(&access).map(str::to_owned);
        let now = Instant::now();
        let fault = state.planted.take(now, account.as_deref(), Surface::Api);
        (account, fault)
    };
    delay(provider, fault.as_ref()).await;
    let spoiled = fault.as_ref().and_then(instead);
    let (status, code, data) = match &spoiled {
        Some(Ok(page)) => (page.status().as_u16(), "fault", Value::Null),
        Some(Err(Closed)) => (0, "fault", Value::Null),
        None => judge(provider, call, &access, wanted.field("fields")),
    };
    let what = What::Api { call, status, code };
    let fault_label = fault.as_ref().map(Fault::as_label);
    let entry = LogEntry { at, account, what, fault: fault_label, overlapped: false };
    provider.state().log.push(entry);
    if let Some(spoiled) = spoiled {
        return spoiled;
    }
    let message = if code == "ok" { "" } else { "The request was refused." };
    let error = json!({ "code": code, "message": message, "log_id": log_id() });
    spoil(provider, fault, status, json!({ "data": data, "error": error })).await
}

/// Status, code and data of an API call.
fn judge(
    provider: &Shared,
    call: Call,
    access: &str,
    fields: Option<&str>,
) -> (u16, &'static str, Value) {
    let state = provider.state();
    let Standing::Valid { open_id, scopes } = state.ledger.standing(provider.now(), access) else {
        return (401, "access_token_invalid", json!({}));
    };
    let scope = match call {
        Call::UserInfo => "user.info.basic",
        Call::CreatorInfo | Call::Post => "video.publish",
    };
    // A field outside the granted scopes fails the whole call; this provider has only `open_id`.
    let has_scope = scopes.iter().any(|have| have == scope);
    let asks_too_much =
        call == Call::UserInfo && fields.is_some_and(|fields| fields.split(',').any(is_private));
    if !has_scope || asks_too_much {
        return (401, "scope_not_authorized", json!({}));
    }
    let data = match call {
        Call::UserInfo if fields.is_none_or(str::is_empty) => {
            return (400, "invalid_params", json!({}));
        }
        Call::UserInfo => json!({ "user": { "open_id": open_id } }),
        Call::CreatorInfo => json!({
            "creator_username": "demo",
            "privacy_level_options": ["PUBLIC_TO_EVERYONE", "SELF_ONLY"],
            "max_video_post_duration_sec": 600,
        }),
        Call::Post => json!({ "publish_id": format!("demo-publish-{}", random_hex()) }),
    };
    (200, "ok", data)
}

fn is_private(field: &str) -> bool {
    !matches!(field.trim(), "open_id" | "union_id" | "avatar_url" | "display_name")
}

/// One token request that has not been answered.
struct UnderWay {
    provider: Arc<Shared>,
    account: Option<String>,
}

impl Drop for UnderWay {
    fn drop(&mut self) {
        let Some(account) = &self.account else { return };
        let mut state = self.provider.state();
        if let Some(under_way) = state.in_flight.get_mut(account) {
            *under_way -= 1;
        }
    }
}

pub(super) struct Form(pub(super) Vec<(String, String)>);

impl Form {
    pub(super) fn field(&self, name: &str) -> Option<&str> {
        self.0.iter().find(|(have, _)| have == name).map(|(_, value)| value.as_str())
    }
}

fn content_type<B>(request: &Request<B>) -> &str {
    request.headers().get(CONTENT_TYPE).and_then(|value| value.to_str().ok()).unwrap_or_default()
}

fn bearer<B>(request: &Request<B>) -> Option<String> {
    let value = request.headers().get(AUTHORIZATION)?.to_str().ok()?;
    value.strip_prefix("Bearer ").map(str::to_owned)
}

fn json_page(status: u16, body: &Value) -> Response<Reply> {
    page(status, Reply::whole(body.to_string()))
}

fn html_page() -> Response<Reply> {
    let mut page = page(200, Reply::whole("<!doctype html><title>Sign in to the network</title>"));
    page.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("text/html"));
    page
}

/// For pages that people read.
pub(super) fn page_of(status: u16, body: Reply) -> Response<Reply> {
    page(status, body)
}

fn page(status: u16, body: Reply) -> Response<Reply> {
    let mut page = Response::new(body);
    *page.status_mut() = StatusCode::from_u16(status).unwrap_or(StatusCode::IM_A_TEAPOT);
    let json = HeaderValue::from_static("application/json; charset=utf-8");
    page.headers_mut().insert(CONTENT_TYPE, json);
    page
}

/// Different in every answer, as TikTok's is: a client that compares error texts would never back off.
fn log_id() -> String {
    format!("20261122{}", random_hex().to_uppercase())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn html_and_json_differ_in_their_type() {
        assert_eq!(html_page().headers()[CONTENT_TYPE], "text/html");
        assert!(json_page(200, &json!({})).headers()[CONTENT_TYPE].as_bytes().starts_with(b"app"));
    }

    #[test]
    fn no_two_log_ids_are_equal() {
        assert_ne!(log_id(), log_id());
    }

    #[test]
    fn only_faults_that_commit_nothing_come_instead_of_handling() {
        let spare = Duration::ZERO;
        for fault in [
            Fault::LoseAnswer,
            Fault::Truncate,
            Fault::HangFor(spare),
            Fault::HoldRequest,
            Fault::HoldAnswer,
            Fault::NotUtf8,
        ] {
            assert!(instead(&fault).is_none(), "{fault:?}");
        }
        for fault in [Fault::Drop, Fault::StatusBefore(500), Fault::Html200 { commits: false }] {
            assert!(instead(&fault).is_some(), "{fault:?}");
        }
    }
}
