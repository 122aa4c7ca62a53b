//! One outgoing request, bounded in every way.
//!
//! Absent on purpose: redirects, cookies, proxies from the environment, retries, and any error text
//! that could hold a URL or a body.

use crate::{
    core::{Secret, Timestamp},
    oauth::{Answer, Body, Exchange, Method, Request, Trouble, form_of},
};
use reqwest::{Certificate, Client, Proxy, Response, Url, header, redirect, retry};
use std::{
    collections::HashMap,
    path::PathBuf,
    pin::pin,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};
use tokio::{
    sync::{OwnedSemaphorePermit, Semaphore},
    time::{Instant, timeout, timeout_at},
};
use zeroize::Zeroizing;

/// Longest answer that is read, in bytes. A token answer is under 4 KiB everywhere.
pub const ANSWER_BYTES_MAX: usize = 64 * 1024;

/// Bounds on outgoing requests. `config` fills it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Settings {
    /// From the first byte of a name look-up to the last byte of the answer. Waiting for a place among
    /// the app's own requests comes before it and takes [`Settings::connect_deadline`] at most.
    pub total_deadline: Duration,
    /// For DNS, TCP and TLS together. Shorter than the total, so that "never left" can be told from
    /// "lost on the way".
    pub connect_deadline: Duration,
    /// Requests under way per app.
    pub in_flight_per_app_max: usize,
    /// PEM file with the only certificate authorities to trust, instead of the system's.
    pub ca_file: Option<PathBuf>,
    /// `http://host:port` of a proxy; the environment is not consulted.
    pub proxy: Option<String>,
}

impl Settings {
    /// Longest time that [`HttpClient::send`] takes. A lease has to outlive it.
    #[must_use]
    pub fn call_deadline(&self) -> Duration {
        self.connect_deadline.saturating_add(self.total_deadline).saturating_add(LAST_LOOK)
    }
}

/// Why there is no client.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    /// A setting contradicts another or cannot be used.
    #[error("{key}: {reason}")]
    Setting {
        /// The field of [`Settings`].
        key: &'static str,
        /// What is wrong and what to do.
        reason: &'static str,
    },
    /// The file with the certificate authorities cannot be used.
    #[error("ca_file {}: {reason}", path.display())]
    CaFile {
        /// Which file.
        path: PathBuf,
        /// What is wrong and what to do.
        reason: String,
    },
    /// TLS could not be set up, mostly because the system has no certificate authorities.
    #[error("no TLS client could be made; install the system's CA certificates or name a ca_file")]
    Tls,
}

/// Sends requests to providers. Cheap to clone; clones share their limits.
#[derive(Clone)]
pub struct HttpClient {
    client: Client,
    settings: Arc<Settings>,
    /// Places for requests under way, by app. Only configured apps call, so it stays small; apps that a
    /// reload removed go when room is needed.
    places: Arc<Mutex<HashMap<String, Arc<Semaphore>>>>,
}

/// Makes ring the process's cryptography. Every `main` and every test calls it before the first client;
/// again does no harm.
pub fn install_crypto() {
    // An error means that a provider is installed already.
    let _ = rustls::crypto::ring::default_provider().install_default();
}

impl HttpClient {
    /// A client with these bounds.
    ///
    /// # Errors
    /// When a setting cannot be used; see [`Error`].
    pub fn new(settings: &Settings) -> Result<Self, Error> {
        install_crypto();
        let wrong = |key, reason| Err(Error::Setting { key, reason });
        if settings.connect_deadline.is_zero() {
            return wrong("connect_deadline", "must be longer than zero");
        }
        if settings.connect_deadline >= settings.total_deadline {
            // Else a connection that never came could not be told from an answer that never came.
            return wrong("connect_deadline", "must be shorter than total_deadline");
        }
        if !(1..=Semaphore::MAX_PERMITS).contains(&settings.in_flight_per_app_max) {
            return wrong("in_flight_per_app_max", "must be at least 1");
        }
        Ok(Self {
            client: client(settings)?,
            settings: Arc::new(settings.clone()),
            places: Arc::default(),
        })
    }

    /// Sends one request, once, and says what became of it. Dropping the future may lose a token that
    /// the provider has already replaced: run it in a task of its own.
    pub async fn send(&self, app: &str, request: Request) -> Exchange {
        let Some(prepared) = self.prepare(request) else {
            return Exchange::NotSent(Trouble::Unsendable);
        };
        let Ok(place) = timeout(self.settings.connect_deadline, self.place(app)).await else {
            return Exchange::NotSent(Trouble::Crowded);
        };
        let deadline = Instant::now() + self.settings.total_deadline;
        let mut exchange = pin!(self.exchange(prepared));
        let mut ended = timeout_at(deadline, &mut exchange).await;
        if ended.is_err() {
            // A process that was stopped finds its time over and the answer here already; not to look would
            // lose the token in it.
            ended = timeout(LAST_LOOK, exchange).await;
        }
        drop(place);
        // Connecting has a shorter deadline of its own, so that what ends here was on its way.
        ended.unwrap_or(Exchange::Lost(Trouble::Deadline))
    }

    async fn place(&self, app: &str) -> Option<OwnedSemaphorePermit> {
        let places = {
            let mut by_app = self.places.lock().unwrap_or_else(PoisonError::into_inner);
            if by_app.len() >= APPS_MAX && !by_app.contains_key(app) {
                by_app.retain(|_, places| Arc::strong_count(places) > 1);
            }
            let fresh = || Arc::new(Semaphore::new(self.settings.in_flight_per_app_max));
            Arc::clone(by_app.entry(app.to_owned()).or_insert_with(fresh))
        };
        // Never closed, so there is always an answer.
        places.acquire_owned().await.ok()
    }

    fn prepare(&self, request: Request) -> Option<reqwest::Request> {
        let url = endpoint(&request)?;
        let mut builder = match request.method {
            Method::Get => self.client.get(url),
            Method::Post => self.client.post(url),
        };
        for (name, value) in &request.headers {
            let mut value = header::HeaderValue::from_str(value.expose()).ok()?;
            value.set_sensitive(true);
            builder = builder.header(name.as_str(), value);
        }
        builder = match request.body {
            Body::Empty => builder,
            Body::Form(pairs) => builder
                .header(header::CONTENT_TYPE, "application/x-www-form-urlencoded")
                .body(form_of(&pairs).expose().to_owned()),
            Body::Json(members) => builder
                .header(header::CONTENT_TYPE, "application/json")
                .body(json_of(&members).expose().to_owned()),
            Body::Whole(text) => builder
                .header(header::CONTENT_TYPE, "application/json")
                .body(text.expose().to_owned()),
        };
        builder.build().ok()
    }

    async fn exchange(&self, request: reqwest::Request) -> Exchange {
        match self.client.execute(request).await {
            Ok(response) => match answer(response).await {
                Ok(answer) => Exchange::Answered(answer),
                Err(trouble) => Exchange::Lost(trouble),
            },
            // The error itself is dropped here: its text holds the URL, and with it a token.
            Err(error) if error.is_connect() => Exchange::NotSent(Trouble::Connect),
            Err(error) if error.is_builder() => Exchange::NotSent(Trouble::Unsendable),
            Err(_) => Exchange::Lost(Trouble::Broken),
        }
    }
}

fn client(settings: &Settings) -> Result<Client, Error> {
    let mut builder = Client::builder()
        .user_agent(concat!("oauth-keepalive/", env!("CARGO_PKG_VERSION")))
        // A redirect that is followed hands client secret and refresh token to whoever it names.
        .redirect(redirect::Policy::none())
        .retry(retry::never())
        .referer(false)
        .http1_only()
        .no_proxy()
        .connect_timeout(settings.connect_deadline)
        // A connection of its own for every request: on a kept one, a server that closes it for idleness
        // looks like a server that took the request and died.
        .pool_max_idle_per_host(0);
    if let Some(proxy) = &settings.proxy {
        let reason = "is no proxy; expected http://host:port";
        let proxy = Proxy::all(proxy).map_err(|_| Error::Setting { key: "proxy", reason })?;
        builder = builder.proxy(proxy);
    }
    if let Some(path) = &settings.ca_file {
        builder = builder.tls_certs_only(authorities(path)?);
    }
    builder.build().map_err(|_| Error::Tls)
}

fn authorities(path: &std::path::Path) -> Result<Vec<Certificate>, Error> {
    let wrong = |reason: String| Error::CaFile { path: path.to_owned(), reason };
    let pem =
        std::fs::read(path).map_err(|error| wrong(format!("cannot be read ({})", error.kind())))?;
    let certificates = Certificate::from_pem_bundle(&pem).unwrap_or_default();
    if certificates.is_empty() {
        return Err(wrong("holds no PEM certificate".to_owned()));
    }
    Ok(certificates)
}

/// The whole URL, if it is one that tokens may be sent to: TLS, or this very machine.
fn endpoint(request: &Request) -> Option<Url> {
    let mut url = Url::parse(&request.endpoint).ok()?;
    let host = url.host_str()?;
    let loopback = host == "localhost"
        || host
            .trim_matches(['[', ']'])
            .parse()
            .is_ok_and(|address: std::net::IpAddr| address.is_loopback());
    let allowed = url.scheme() == "https" || (url.scheme() == "http" && loopback);
    if !allowed || !url.username().is_empty() || url.password().is_some() {
        return None;
    }
    if !request.query.is_empty() {
        let own = form_of(&request.query);
        let query = match url.query().filter(|query| !query.is_empty()) {
            Some(configured) => Secret::new([configured, "&", own.expose()].concat()),
            None => own,
        };
        url.set_query(Some(query.expose()));
    }
    url.set_fragment(None);
    Some(url)
}

fn json_of(members: &[(String, Secret)]) -> Secret {
    // Six bytes is the longest escape; room beforehand, so that growing leaves no copies behind.
    let room = members.iter().map(|(name, value)| 6 * (name.len() + value.expose().len()) + 8);
    let mut json = Vec::with_capacity(room.sum::<usize>() + 2);
    json.push(b'{');
    for (name, value) in members {
        if json.len() > 1 {
            json.push(b',');
        }
        for (text, end) in [(name.as_str(), b':'), (value.expose(), b' ')] {
            serde_json::to_writer(&mut json, text).expect("a text is always JSON");
            json.push(end);
        }
    }
    json.push(b'}');
    Secret::new(String::from_utf8(json).expect("serde_json writes UTF-8"))
}

async fn answer(mut response: Response) -> Result<Answer, Trouble> {
    let status = response.status().as_u16();
    let text = |name| response.headers().get(name)?.to_str().ok();
    let date = text(header::DATE).and_then(http_date);
    let retry_after = text(header::RETRY_AFTER).and_then(|value| retry_after(value, date));
    // Out of somebody's cache it says what time it was (RFC 9111 section 5.1).
    let is_aged = text(header::AGE).is_some_and(|age| age.trim() != "0");
    let date = date.filter(|_| !is_aged);
    let bearer_error = text(header::WWW_AUTHENTICATE).and_then(bearer_error).map(str::to_owned);
    let mut body = Zeroizing::new(Vec::with_capacity(BODY_BYTES_USUAL));
    while let Some(chunk) = response.chunk().await.map_err(|_| Trouble::Broken)? {
        if body.len() + chunk.len() > ANSWER_BYTES_MAX {
            return Err(Trouble::TooLong);
        }
        body.extend_from_slice(&chunk);
    }
    let body = Secret::new(String::from_utf8_lossy(&body).into_owned());
    Ok(Answer { status, retry_after, date, bearer_error, body })
}

/// RFC 9110 section 10.2.3: seconds, or a date. A date counts from the provider's own clock, since ours
/// may be off; without one it says nothing.
fn retry_after(value: &str, date: Option<Timestamp>) -> Option<Duration> {
    let value = value.trim();
    if !value.is_empty() && value.bytes().all(|byte| byte.is_ascii_digit()) {
        // More digits than fit are still a request to stay away for long.
        let seconds = value.parse().unwrap_or(u64::MAX);
        return Some(Duration::from_secs(seconds).min(RETRY_AFTER_MAX));
    }
    Some(http_date(value)?.since(date?).min(RETRY_AFTER_MAX))
}

/// IMF-fixdate (RFC 9110 section 5.6.7), `Sun, 06 Nov 1994 08:49:37 GMT`; the obsolete forms are left to
/// the past.
fn http_date(value: &str) -> Option<Timestamp> {
    let instant = jiff::fmt::strtime::parse("%a, %d %b %Y %H:%M:%S GMT", value.trim()).ok()?;
    let zoned = instant.to_datetime().ok()?.to_zoned(jiff::tz::TimeZone::UTC).ok()?;
    Some(Timestamp::from_unix(zoned.timestamp().as_second()))
}

/// The `error` parameter of `WWW-Authenticate: Bearer realm="x", error="invalid_token"`. Only the words
/// of RFC 6750 section 3.1 have a meaning, so only a plain word is taken.
fn bearer_error(value: &str) -> Option<&str> {
    let (_, rest) = value.match_indices("error=").find_map(|(at, name)| {
        // Not `x_error=`.
        let before = value[..at].bytes().last();
        let begins = before.is_none_or(|byte| matches!(byte, b' ' | b',' | b'\t'));
        begins.then(|| value[at..].split_at(name.len()))
    })?;
    let word = match rest.strip_prefix('"') {
        Some(quoted) => quoted.split('"').next()?,
        None => rest.split([',', ' ', '\t']).next()?,
    };
    let plain = |byte: u8| byte.is_ascii_lowercase() || byte == b'_';
    (1..=BEARER_ERROR_BYTES_MAX).contains(&word.len()).then_some(word)?;
    word.bytes().all(plain).then_some(word)
}

/// Apps whose places are remembered at once.
const APPS_MAX: usize = 1024;
/// Long enough to read what has arrived, too short for anything to come.
const LAST_LOOK: Duration = Duration::from_millis(100);
/// Room for an ordinary token answer.
const BODY_BYTES_USUAL: usize = 4 * 1024;
const BEARER_ERROR_BYTES_MAX: usize = 64;
/// So that adding it to an instant is safe everywhere. The caller's own cap is far shorter.
const RETRY_AFTER_MAX: Duration = Duration::from_secs(366 * 86_400);

#[cfg(test)]
mod tests {
    use super::*;

    const NOON: &str = "Sun, 22 Nov 2026 12:00:00 GMT";

    #[test]
    fn retry_after_is_read_as_seconds_or_as_a_date() {
        let noon = http_date(NOON);
        let seconds = |s| Some(Duration::from_secs(s));
        for (value, date, expected) in [
            ("0", None, seconds(0)),
            (" 120 ", None, seconds(120)),
            ("86400", None, seconds(86_400)),
            ("99999999999999999999999999", None, Some(RETRY_AFTER_MAX)),
            ("Sat, 22 Nov 2070 12:00:30 GMT", noon, Some(RETRY_AFTER_MAX)),
            ("Sun, 22 Nov 2026 12:00:30 GMT", noon, seconds(30)),
            ("Sun, 22 Nov 2026 11:00:00 GMT", noon, seconds(0)),
            ("Sun, 22 Nov 2026 12:00:30 GMT", None, None),
            ("-5", noon, None),
            ("1.5", noon, None),
            ("", noon, None),
            ("soon", noon, None),
        ] {
            assert_eq!(retry_after(value, date), expected, "{value:?}");
        }
    }

    #[test]
    fn dates_are_read_in_the_one_form_that_servers_must_send() {
        assert_eq!(
            http_date("Sun, 06 Nov 1994 08:49:37 GMT"),
            Some(Timestamp::from_unix(784_111_777))
        );
        for other in ["", "Sunday, 06-Nov-94 08:49:37 GMT", "1994-11-06T08:49:37Z", "Sun, 99 Nov"] {
            assert_eq!(http_date(other), None, "{other:?}");
        }
    }

    #[test]
    fn the_bearer_error_is_found_among_other_parameters() {
        for (value, expected) in [
            (r#"Bearer error="invalid_token""#, Some("invalid_token")),
            (
                r#"Bearer realm="a", error="insufficient_scope", scope="b""#,
                Some("insufficient_scope"),
            ),
            ("Bearer error=invalid_token, realm=x", Some("invalid_token")),
            (r#"Bearer error_description="error", x_error="no""#, None),
            (r#"Bearer error="<script>""#, None),
            (r#"Bearer error="unended"#, Some("unended")),
            ("Bearer", None),
            ("Bearer error=", None),
        ] {
            assert_eq!(bearer_error(value), expected, "{value}");
        }
    }

    #[test]
    fn tokens_go_over_tls_or_nowhere_but_here() {
        for (url, allowed) in [
            ("https://open.example/token/", true),
            ("http://127.0.0.1:8641/token/", true),
            ("http://[::1]:8641/token/", true),
            ("http://localhost/token/", true),
            ("http://open.example/token/", false),
            ("http://169.254.169.254/latest/", false),
            ("http://localhost.open.example/", false),
            ("https://user:word@open.example/", false),
            ("file:///etc/passwd", false),
            ("unix:/run/socket", false),
            ("token", false),
            ("", false),
        ] {
            let request = Request {
                method: Method::Get,
                endpoint: url.to_owned(),
                query: Vec::new(),
                headers: Vec::new(),
                body: Body::Empty,
            };
            assert_eq!(endpoint(&request).is_some(), allowed, "{url}");
        }
    }

    #[test]
    fn json_bodies_are_escaped_and_keep_their_order() {
        let member = |name: &str, value: &str| (name.to_owned(), Secret::new(value.to_owned()));
        let json = json_of(&[member("b", "quote\" slash\\ line\n"), member("a", "ü")]);
        assert_eq!(json.expose(), r#"{"b":"quote\" slash\\ line\n" ,"a":"ü" }"#);
    }
}
