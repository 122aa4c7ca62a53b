//! The listener for messages that nobody asked for: a provider's, and those of a publisher that knows more.
//!
//! It may be shown to the Internet, so it is apart from all others, and nothing is believed without a signature.
//! A message is answered with 200 when it is written down, and not before: what is not answered is sent again.
//! The same one again is answered with 200 as well and changes nothing. Error texts never repeat what was sent.

use super::{
    answer::{Answer, for_method, json, not_found, wrong_method},
    bounded::{NoBody, body},
};
use crate::{
    clock::Clock,
    core::{AccountId, Announcement, Cause, Evidence, Revoker, Said, Timestamp, Whose},
    metrics::{
        Metrics,
        events::{FROM_NOBODY, FROM_PUBLISHER, MessageResult},
    },
};
use bytes::Bytes;
use hyper::{
    HeaderMap, Method, Request, StatusCode,
    body::Incoming,
    header::{HeaderValue, RETRY_AFTER},
};
use ring::digest;
use serde::Deserialize;
use std::{sync::Arc, time::Duration};
use tokio::{
    sync::{mpsc, oneshot},
    time::{Instant, timeout},
};

/// What the handlers of this listener see. `app` fills it.
#[derive(Clone)]
pub struct Context {
    /// Where messages are counted.
    pub metrics: Metrics,
    /// The program's time.
    pub clock: Clock,
    /// Understands providers.
    pub provider: Arc<Understand>,
    /// Checks the signature of a publisher's event; `None` where publishers may send none.
    pub publisher: Option<Arc<Check>>,
    /// To whoever writes them down. Bounded; while it is full the sender is asked to come again.
    pub deliveries: mpsc::Sender<Delivery>,
    /// How long the body of a message may take; [`BODY_DEADLINE`] outside tests.
    pub body_deadline: Duration,
}

/// What to write down, and where to say whether it is new. Whoever cannot write it down drops the latter.
pub type Delivery = (Announcement, oneshot::Sender<bool>);

/// What a provider's message to the app of this name says; `None` when there is no such app, or its provider sends
/// none.
pub type Understand = dyn Fn(&str, &HeaderMap, &[u8]) -> Option<Told> + Send + Sync;

/// When the body was signed, or why it is not believed.
pub type Check = dyn Fn(&HeaderMap, &[u8]) -> Result<Timestamp, MessageResult> + Send + Sync;

/// A provider's message, understood.
pub struct Told {
    /// The provider.
    pub provider: String,
    /// The account at the provider and what is said of it, or why nothing follows.
    pub said: Result<(String, Evidence), MessageResult>,
}

/// Answers one request.
pub async fn handle(context: Context, request: Request<Incoming>) -> Answer {
    let method = request.method().clone();
    let path = request.uri().path().to_owned();
    let answer = match (path.strip_prefix("/webhooks/"), &*path, &method) {
        (Some(app), _, &Method::POST) => from_provider(&context, app, request).await,
        (None, "/v1/events", &Method::POST) if context.publisher.is_some() => {
            from_publisher(&context, request).await
        }
        (Some(_), ..) => wrong_method("POST"),
        (None, "/v1/events", _) if context.publisher.is_some() => wrong_method("POST"),
        _ => not_found(),
    };
    for_method(&method, answer)
}

async fn from_provider(context: &Context, app: &str, request: Request<Incoming>) -> Answer {
    let (head, body) = match whole(context, request).await {
        Ok(whole) => whole,
        Err(result) => return counted(context, FROM_NOBODY, result, ""),
    };
    let Some(Told { provider, said }) = (context.provider)(app, &head, &body) else {
        return counted(context, FROM_NOBODY, MessageResult::UnknownApp, "");
    };
    let (subject, evidence) = match said {
        Ok(said) => said,
        Err(result) => return counted(context, &provider, result, ""),
    };
    let announcement = Announcement {
        // The signature differs each time it is delivered; what it says does not.
        key: key_of(&[b"app", app.as_bytes(), &body]),
        whose: Whose::Subject { app: app.into(), subject: subject.into() },
        said: Said::Evidence(evidence),
        heard_at: context.clock.now(),
    };
    let result = deliver(context, announcement).await;
    counted(context, &provider, result, "")
}

async fn from_publisher(context: &Context, request: Request<Incoming>) -> Answer {
    let result = match whole(context, request).await {
        Ok((head, body)) => take_event(context, &head, &body).await,
        Err(result) => Err((result, "")),
    };
    let (result, expected) = result.unwrap_or_else(|refused| refused);
    counted(context, FROM_PUBLISHER, result, expected)
}

/// `Err` comes with what was expected, where that helps.
async fn take_event(
    context: &Context,
    head: &HeaderMap,
    body: &[u8],
) -> Result<(MessageResult, &'static str), (MessageResult, &'static str)> {
    let check = context.publisher.as_ref().ok_or((MessageResult::UnknownApp, ""))?;
    let signed_at = check(head, body).map_err(|result| (result, ""))?;
    let malformed = |expected| (MessageResult::Malformed, expected);
    let event: Event = serde_json::from_slice(body).map_err(|_| malformed(EXPECTED))?;
    let announcement = event.announcement(context.clock.now(), signed_at).map_err(malformed)?;
    Ok((deliver(context, announcement).await, ""))
}

async fn whole(
    context: &Context,
    request: Request<Incoming>,
) -> Result<(HeaderMap, Bytes), MessageResult> {
    let deadline = Instant::now() + context.body_deadline;
    let (head, incoming) = request.into_parts();
    match body(incoming, BODY_BYTES_MAX, deadline).await {
        Ok(body) => Ok((head.headers, body)),
        Err(NoBody::TooLarge) => Err(MessageResult::TooLarge),
        Err(NoBody::TooSlow) => Err(MessageResult::TooSlow),
        Err(NoBody::Broken) => Err(MessageResult::Malformed),
    }
}

async fn deliver(context: &Context, announcement: Announcement) -> MessageResult {
    let (told, answer) = oneshot::channel();
    if context.deliveries.try_send((announcement, told)).is_err() {
        return MessageResult::Unavailable;
    }
    match timeout(WRITTEN_WITHIN, answer).await {
        Ok(Ok(true)) => MessageResult::Taken,
        Ok(Ok(false)) => MessageResult::Duplicate,
        _ => MessageResult::Unavailable,
    }
}

fn counted(context: &Context, from: &str, result: MessageResult, expected: &str) -> Answer {
    context.metrics.webhook(from, result);
    let (status, sentence) = match result {
        MessageResult::Taken => (StatusCode::OK, "taken"),
        MessageResult::Duplicate => (StatusCode::OK, "taken before"),
        MessageResult::Ignored => (StatusCode::OK, "nothing follows from it"),
        MessageResult::Unsigned => {
            (StatusCode::UNAUTHORIZED, "expected a signature made with the secret")
        }
        MessageResult::Old => (
            StatusCode::BAD_REQUEST,
            "signed too long ago, or by a clock that is ahead; sign it anew",
        ),
        MessageResult::Malformed if expected.is_empty() => {
            (StatusCode::BAD_REQUEST, "not the message that was expected")
        }
        MessageResult::Malformed => (StatusCode::BAD_REQUEST, expected),
        MessageResult::TooLarge => (StatusCode::PAYLOAD_TOO_LARGE, "longer than a message may be"),
        MessageResult::TooSlow => (StatusCode::REQUEST_TIMEOUT, "the body did not arrive in time"),
        MessageResult::Unavailable => {
            (StatusCode::SERVICE_UNAVAILABLE, "it cannot be taken now; send it again")
        }
        MessageResult::UnknownApp => {
            (StatusCode::NOT_FOUND, "no app of this name has a provider that sends messages")
        }
    };
    let key = if status.is_success() { "result" } else { "error" };
    let mut answer = json(status, &serde_json::json!({ key: sentence }));
    if result == MessageResult::Unavailable {
        answer.headers_mut().insert(RETRY_AFTER, HeaderValue::from_static(RETRY_AFTER_SECONDS));
    }
    answer
}

/// What a publisher announces.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Event {
    /// The publisher's own name for it: the same again is the same event.
    id: String,
    provider: String,
    account: String,
    event: Kind,
    /// When it happened, in Unix seconds; when it was signed if absent.
    at: Option<i64>,
    /// Who took the consent back.
    by: Option<String>,
}

#[derive(Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
enum Kind {
    ConsentRevoked,
    ScopeRemoved,
    Reconnected,
}

impl Event {
    /// `Err` says what was expected.
    fn announcement(
        self,
        now: Timestamp,
        signed_at: Timestamp,
    ) -> Result<Announcement, &'static str> {
        if !(1..=ID_BYTES_MAX).contains(&self.id.len()) {
            return Err("id: expected 1 to 256 bytes");
        }
        let has_account = (1..=AccountId::ACCOUNT_BYTES_MAX).contains(&self.account.len());
        if !has_account || !(1..=PROVIDER_BYTES_MAX).contains(&self.provider.len()) {
            return Err("provider and account: expected the account's names in the store");
        }
        let by = match (&self.by, self.event) {
            (None, _) => Revoker::Unknown,
            (Some(by), Kind::ConsentRevoked) => Revoker::from_label(by)
                .ok_or("by: expected user, provider, developer or unknown")?,
            (Some(_), _) => return Err("by: only a consent that was revoked has it"),
        };
        let at = self.at.map_or(signed_at, |at| Timestamp::from_unix(at).min(signed_at));
        let evidence = |cause, detail: Option<&'static str>| {
            Said::Evidence(Evidence { detail: detail.map(Into::into), ..Evidence::of(cause, at) })
        };
        Ok(Announcement {
            key: key_of(&[b"publisher", self.id.as_bytes()]),
            said: match self.event {
                Kind::ConsentRevoked => evidence(Cause::ConsentRevoked, by.as_detail()),
                Kind::ScopeRemoved => evidence(Cause::ScopeMissing, None),
                Kind::Reconnected => Said::Connected,
            },
            whose: Whose::Account(AccountId::new(self.provider, self.account)),
            heard_at: now,
        })
    }
}

/// A hash: what is kept to know a message again must not be the message.
pub(super) fn key_of(parts: &[&[u8]]) -> Arc<str> {
    let mut hash = digest::Context::new(&digest::SHA256);
    for part in parts {
        // Its length first, so that no two lists of parts are one text.
        hash.update(&(part.len() as u64).to_be_bytes());
        hash.update(part);
    }
    let text: String = hash.finish().as_ref().iter().map(|byte| format!("{byte:02x}")).collect();
    text.into()
}

/// Longest message.
pub const BODY_BYTES_MAX: usize = 64 * 1024;

/// How long the body of a message may take.
pub const BODY_DEADLINE: Duration = Duration::from_secs(10);

/// How long writing it down may take before the sender is asked to come again.
pub(super) const WRITTEN_WITHIN: Duration = Duration::from_secs(10);

const RETRY_AFTER_SECONDS: &str = "10";
const ID_BYTES_MAX: usize = 256;
const PROVIDER_BYTES_MAX: usize = 64;

const EXPECTED: &str = r#"expected {"id":"1","provider":"tiktok","account":"a","event":"consent_revoked","at":1800000000,"by":"user"}"#;
