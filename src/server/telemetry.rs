//! Routes of the telemetry listener.

use super::{
    Context,
    actions::Actions,
    answer::{Answer, for_method, not_found, text, whole, wrong_method},
    status_page::{self, Route},
};
use crate::metrics::{Encoding, Format, Scrape, exposition::ScrapeBody};
use http_body_util::BodyExt as _;
use hyper::{
    HeaderMap, Method, Request, Response, StatusCode,
    body::Incoming,
    header::{
        ACCEPT, ACCEPT_ENCODING, AsHeaderName, CACHE_CONTROL, CONTENT_ENCODING, CONTENT_TYPE,
        HeaderValue, VARY,
    },
};
use std::{
    sync::{Arc, atomic::Ordering},
    time::Duration,
};
use tokio::{
    sync::{mpsc::error::TrySendError, oneshot},
    time::timeout,
};

/// Answers one request.
pub async fn handle(context: Context, request: Request<Incoming>) -> Answer {
    if let Some(actions) =
        context.actions.as_ref().filter(|_| Actions::answers(request.uri().path()))
    {
        return Arc::clone(actions).handle(request).await;
    }
    let method = request.method().clone();
    let reads = matches!(method, Method::GET | Method::HEAD);
    let answer = match request.uri().path() {
        "/-/reload" if matches!(method, Method::POST | Method::PUT) => reload(&context).await,
        "/-/reload" => wrong_method("POST, PUT"),
        "/metrics" | "/-/healthy" | "/-/ready" if !reads => wrong_method("GET, HEAD"),
        "/metrics" => metrics(&context, request.headers()),
        "/-/healthy" => text(StatusCode::OK, "oauth-keepalive is healthy."),
        "/-/ready" => ready(&context),
        path => match Route::of(path) {
            Some(_) if !reads => wrong_method("GET, HEAD"),
            Some(route) => {
                status_page::answer(context, route, request.uri(), request.headers()).await
            }
            None => not_found(),
        },
    };
    for_method(&method, answer)
}

fn metrics(context: &Context, headers: &HeaderMap) -> Answer {
    let format = Format::negotiate(joined(headers, ACCEPT).as_deref());
    let encoding = Encoding::negotiate(joined(headers, ACCEPT_ENCODING).as_deref());
    let scrape = Scrape::new(
        context.seen(),
        context.metrics.clone(),
        context.readings(),
        format,
        context.per_account.load(Ordering::Relaxed),
    );
    let mut answer = Response::new(ScrapeBody::new(scrape, encoding).boxed_unsync());
    let headers = answer.headers_mut();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static(format.content_type()));
    headers.insert(VARY, HeaderValue::from_static("Accept, Accept-Encoding"));
    headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    if encoding == Encoding::Gzip {
        headers.insert(CONTENT_ENCODING, HeaderValue::from_static("gzip"));
    }
    answer
}

/// A header that came in several lines is one list (RFC 9110 section 5.3).
fn joined(headers: &HeaderMap, name: impl AsHeaderName) -> Option<String> {
    let lines: Vec<&str> =
        headers.get_all(name).iter().filter_map(|line| line.to_str().ok()).collect();
    (!lines.is_empty()).then(|| lines.join(","))
}

/// Ready does not depend on any provider or on mail: their outage must not take the publisher's pod out
/// of service.
fn ready(context: &Context) -> Answer {
    if context.snapshot.load().loaded {
        return text(StatusCode::OK, "oauth-keepalive is ready.");
    }
    text(StatusCode::SERVICE_UNAVAILABLE, "The token store has not been read yet.")
}

async fn reload(context: &Context) -> Answer {
    let Some(reload) = &context.reload else {
        return text(
            StatusCode::FORBIDDEN,
            "Reloading over HTTP is switched off; set server.enable_reload, or send SIGHUP.",
        );
    };
    let (answer, outcome) = oneshot::channel();
    match reload.try_send(answer) {
        Ok(()) => {}
        Err(TrySendError::Full(_)) => {
            return text(StatusCode::SERVICE_UNAVAILABLE, "A reload is already under way.");
        }
        Err(TrySendError::Closed(_)) => {
            return text(StatusCode::SERVICE_UNAVAILABLE, "The sidecar is stopping.");
        }
    }
    match timeout(RELOAD_DEADLINE, outcome).await {
        Ok(Ok(Ok(()))) => text(StatusCode::OK, "The configuration was read again and is in force."),
        Ok(Ok(Err(errors))) => refused(&errors),
        Ok(Err(_)) => text(StatusCode::SERVICE_UNAVAILABLE, "The sidecar is stopping."),
        Err(_) => text(StatusCode::GATEWAY_TIMEOUT, "The reload is still under way."),
    }
}

fn refused(errors: &[String]) -> Answer {
    let mut message = "The old configuration stays in force:\n".to_owned();
    for error in errors {
        message.push_str(error);
        message.push('\n');
    }
    whole(StatusCode::INTERNAL_SERVER_ERROR, "text/plain; charset=utf-8", message)
}

/// Reading a file and checking it takes milliseconds; a network file system may take longer.
const RELOAD_DEADLINE: Duration = Duration::from_secs(10);
