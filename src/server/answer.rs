//! Answers as values.

use bytes::Bytes;
use http_body_util::{BodyExt as _, Full, combinators::UnsyncBoxBody};
use hyper::{
    Method, Response, StatusCode,
    header::{
        ALLOW, CACHE_CONTROL, CONTENT_LENGTH, CONTENT_SECURITY_POLICY, CONTENT_TYPE, HeaderValue,
        REFERRER_POLICY, X_CONTENT_TYPE_OPTIONS, X_FRAME_OPTIONS,
    },
};
use serde::Serialize;
use std::convert::Infallible;

/// What every handler answers with.
pub type Answer = Response<UnsyncBoxBody<Bytes, Infallible>>;

/// A sentence.
#[must_use]
pub fn text(status: StatusCode, sentence: &str) -> Answer {
    whole(status, "text/plain; charset=utf-8", format!("{sentence}\n"))
}

/// A value as JSON.
#[must_use]
pub fn json(status: StatusCode, value: &impl Serialize) -> Answer {
    let body = serde_json::to_string(value).expect("our own answers have only string keys");
    whole(status, "application/json", body)
}

/// A page that can run nothing, load nothing and be framed by nobody. Other sites are not told of it; our own are, because
/// a browser that may tell nobody says of a form that it comes from nowhere.
#[must_use]
pub fn page(status: StatusCode, html: String) -> Answer {
    styled_page(status, html, HeaderValue::from_static(POLICY))
}

/// The same under a policy of its own.
#[must_use]
pub fn styled_page(status: StatusCode, html: String, policy: HeaderValue) -> Answer {
    let mut answer = whole(status, "text/html; charset=utf-8", html);
    let headers = answer.headers_mut();
    headers.insert(CONTENT_SECURITY_POLICY, policy);
    headers.insert(X_FRAME_OPTIONS, HeaderValue::from_static("DENY"));
    headers.insert(REFERRER_POLICY, HeaderValue::from_static("same-origin"));
    answer
}

/// An answer of this type with this body.
#[must_use]
pub fn whole(status: StatusCode, content_type: &'static str, body: String) -> Answer {
    let length = body.len();
    let mut answer = Response::new(Full::new(Bytes::from(body)).boxed_unsync());
    *answer.status_mut() = status;
    let headers = answer.headers_mut();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static(content_type));
    headers.insert(CONTENT_LENGTH, HeaderValue::from(length));
    headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    headers.insert(X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    answer
}

/// There is nothing under this path.
#[must_use]
pub fn not_found() -> Answer {
    text(StatusCode::NOT_FOUND, "There is nothing here.")
}

/// There is, but not for this method (RFC 9110 section 15.5.6: the answer must say for which).
#[must_use]
pub fn wrong_method(allowed: &'static str) -> Answer {
    let sentence = format!("This path answers to {allowed} only.");
    let mut answer = text(StatusCode::METHOD_NOT_ALLOWED, &sentence);
    answer.headers_mut().insert(ALLOW, HeaderValue::from_static(allowed));
    answer
}

/// The same answer without its body where the method was HEAD; its headers stay (RFC 9110 section 9.3.2).
#[must_use]
pub fn for_method(method: &Method, answer: Answer) -> Answer {
    if *method == Method::HEAD {
        return answer.map(|_| Full::default().boxed_unsync());
    }
    answer
}

/// Styles stand in the page itself; the form filters the page; everything else is refused.
const POLICY: &str = "default-src 'none'; style-src 'unsafe-inline'; form-action 'self'; \
    base-uri 'none'; frame-ancestors 'none'";
