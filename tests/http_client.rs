//! The outgoing HTTP client against servers that misbehave, over real sockets.
//!
//! What matters is the line between "cannot have been processed" and "may have been": a refresh token
//! that is presented twice can cost the whole account.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on should stop")]

use oauth_keepalive::{
    core::Secret,
    http_client::{ANSWER_BYTES_MAX, Error, HttpClient, Settings},
    oauth::{Answer, Body, Exchange, Method, Outcome, Request, Trouble},
};
use std::{
    io::{BufRead, BufReader},
    path::Path,
    process::{Child, Command, Stdio},
    sync::{
        Arc, Mutex,
        atomic::{AtomicUsize, Ordering::SeqCst},
    },
    time::Duration,
};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
    time::timeout,
};

/// What the server does with each connection, once it has read the request.
#[derive(Clone)]
enum Script {
    /// Writes this and closes.
    Say(Vec<u8>),
    /// Writes this and keeps the connection open.
    SayAndHang(Vec<u8>),
    /// Writes this, then a byte now and then, for ever.
    SayAndDrip(Vec<u8>),
    /// Writes this, then as much as anybody takes, up to 200 MB.
    SayAndFlood(Vec<u8>),
    /// Closes with a reset, after reading one byte.
    Reset,
}

struct Server {
    url: String,
    requests: Arc<Mutex<Vec<String>>>,
    flooded: Arc<AtomicUsize>,
}

impl Server {
    async fn start(script: Script) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let server = Self {
            url: format!("http://{}/token/", listener.local_addr().unwrap()),
            requests: Arc::default(),
            flooded: Arc::default(),
        };
        let (requests, flooded) = (Arc::clone(&server.requests), Arc::clone(&server.flooded));
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                let (script, requests, flooded) =
                    (script.clone(), Arc::clone(&requests), Arc::clone(&flooded));
                tokio::spawn(async move {
                    // A client that goes away mid-conversation is part of the test.
                    let _ = play(stream, script, &requests, &flooded).await;
                });
            }
        });
        server
    }

    fn seen(&self) -> usize {
        self.requests.lock().unwrap().len()
    }
}

async fn play(
    mut stream: TcpStream,
    script: Script,
    requests: &Mutex<Vec<String>>,
    flooded: &AtomicUsize,
) -> std::io::Result<()> {
    if let Script::Reset = script {
        // What is left unread when the socket closes makes the kernel send a reset.
        stream.read_u8().await?;
        requests.lock().unwrap().push(String::new());
        return Ok(());
    }
    let request = read_request(&mut stream).await?;
    requests.lock().unwrap().push(request);
    match script {
        Script::Say(bytes) => {
            stream.write_all(&bytes).await?;
            stream.shutdown().await
        }
        Script::SayAndHang(bytes) => {
            stream.write_all(&bytes).await?;
            std::future::pending().await
        }
        Script::SayAndDrip(bytes) => {
            stream.write_all(&bytes).await?;
            loop {
                stream.write_all(b" ").await?;
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
        }
        Script::SayAndFlood(bytes) => {
            stream.write_all(&bytes).await?;
            let block = [b' '; 64 * 1024];
            for _ in 0..3_200 {
                stream.write_all(&block).await?;
                flooded.fetch_add(block.len(), SeqCst);
            }
            Ok(())
        }
        Script::Reset => unreachable!("answered above"),
    }
}

async fn read_request(stream: &mut TcpStream) -> std::io::Result<String> {
    let mut bytes = Vec::new();
    loop {
        let mut block = [0; 4096];
        let count = stream.read(&mut block).await?;
        if count == 0 {
            return Err(std::io::ErrorKind::UnexpectedEof.into());
        }
        bytes.extend_from_slice(&block[..count]);
        let text = String::from_utf8_lossy(&bytes).into_owned();
        if let Some((head, body)) = text.split_once("\r\n\r\n") {
            let length = head
                .lines()
                .find_map(|line| {
                    line.to_ascii_lowercase().strip_prefix("content-length: ")?.parse().ok()
                })
                .unwrap_or(0);
            if body.len() >= length {
                return Ok(text);
            }
        }
    }
}

/// Deadlines that a busy machine keeps easily.
fn settings() -> Settings {
    Settings {
        total_deadline: Duration::from_secs(60),
        connect_deadline: Duration::from_secs(20),
        in_flight_per_app_max: 4,
        ca_file: None,
        proxy: None,
    }
}

/// Deadlines for tests that wait for them to pass.
fn impatient() -> Settings {
    Settings {
        total_deadline: Duration::from_secs(3),
        connect_deadline: Duration::from_secs(2),
        ..settings()
    }
}

fn client() -> HttpClient {
    HttpClient::new(&settings()).unwrap()
}

/// Long enough that a test which needs it has failed, for anything that must end by itself.
const PATIENCE: Duration = Duration::from_secs(90);

fn secret(text: &str) -> Secret {
    Secret::new(text.to_owned())
}

fn refresh(url: &str) -> Request {
    Request {
        method: Method::Post,
        endpoint: url.to_owned(),
        query: Vec::new(),
        headers: vec![("X-Invented".to_owned(), secret("header value"))],
        body: Body::Form(vec![
            ("grant_type".to_owned(), secret("refresh_token")),
            ("refresh_token".to_owned(), secret("invented & odd")),
        ]),
    }
}

async fn send(client: &HttpClient, request: Request) -> Exchange {
    timeout(PATIENCE, client.send("app", request)).await.expect("every request ends by itself")
}

fn word(exchange: &Exchange) -> String {
    match exchange {
        Exchange::NotSent(trouble) => format!("not sent: {}", trouble.as_label()),
        Exchange::Lost(trouble) => format!("lost: {}", trouble.as_label()),
        Exchange::Answered(answer) => format!("answered: {}", answer.status),
    }
}

fn answered(exchange: Exchange) -> Answer {
    match exchange {
        Exchange::Answered(answer) => answer,
        other => panic!("expected an answer, got `{}`", word(&other)),
    }
}

fn ok(headers: &str, body: &str) -> Vec<u8> {
    format!("HTTP/1.1 200 OK\r\n{headers}content-length: {}\r\n\r\n{body}", body.len()).into()
}

#[tokio::test]
async fn what_was_sent_and_not_answered_is_lost_and_sent_only_once() {
    let head = |rest: &str| format!("HTTP/1.1 200 OK\r\n{rest}").into_bytes();
    let cases = [
        ("hangs before the answer", Script::SayAndHang(Vec::new()), "lost: deadline_passed"),
        ("hangs in the head", Script::SayAndHang(head("date:")), "lost: deadline_passed"),
        (
            "hangs in the body",
            Script::SayAndHang(head("content-length: 9\r\n\r\n{}")),
            "lost: deadline_passed",
        ),
        (
            "drips its body for ever",
            Script::SayAndDrip(head("content-length: 60000\r\n\r\n")),
            "lost: deadline_passed",
        ),
        ("closes without an answer", Script::Say(Vec::new()), "lost: connection_broken"),
        ("resets the connection", Script::Reset, "lost: connection_broken"),
        (
            "cuts its body short",
            Script::Say(head("content-length: 900\r\n\r\n{\"access_token\":\"inv")),
            "lost: connection_broken",
        ),
        (
            "ends within a chunk",
            Script::Say(head("transfer-encoding: chunked\r\n\r\nff\r\n{\"access_token\"")),
            "lost: connection_broken",
        ),
        (
            "ends without the last chunk",
            Script::Say(head("transfer-encoding: chunked\r\n\r\n2\r\n{}\r\n")),
            "lost: connection_broken",
        ),
        (
            "speaks no HTTP",
            Script::Say(b"220 mail.example ESMTP\r\n".to_vec()),
            "lost: connection_broken",
        ),
        (
            "sends a head without end",
            Script::SayAndFlood(head("x-long: ")),
            "lost: connection_broken",
        ),
        (
            "declares 200 MB",
            Script::SayAndFlood(head("content-length: 209715200\r\n\r\n")),
            "lost: answer_too_long",
        ),
        ("floods without a length", Script::SayAndFlood(head("\r\n")), "lost: answer_too_long"),
    ];
    for (name, script, expected) in cases {
        let server = Server::start(script).await;
        let waits = expected == "lost: deadline_passed";
        let settings = if waits { impatient() } else { settings() };
        let client = HttpClient::new(&settings).unwrap();
        let exchange = send(&client, refresh(&server.url)).await;
        assert_eq!(word(&exchange), expected, "a server that {name}");
        assert_eq!(server.seen(), 1, "a server that {name} saw more than one request");
        assert!(
            server.flooded.load(SeqCst) < 100 * ANSWER_BYTES_MAX,
            "a server that {name} could send {} bytes",
            server.flooded.load(SeqCst)
        );
    }
}

/// What a provider may answer, byte for byte, and what it says about the refresh token.
#[tokio::test]
async fn every_answer_that_a_socket_can_carry_comes_to_one_of_the_four_outcomes() {
    const GOOD: &str =
        r#"{"access_token":"act.invented","expires_in":7200,"refresh_token":"rft.invented"}"#;
    let says = |status: &str, body: &str| {
        format!("HTTP/1.1 {status}\r\ncontent-length: {}\r\n\r\n{body}", body.len()).into_bytes()
    };
    let ok = |body: &str| says("200 OK", body);
    let raw = |text: &str| text.as_bytes().to_vec();
    let bytes = |body: &[u8]| {
        let mut answer =
            format!("HTTP/1.1 200 OK\r\ncontent-length: {}\r\n\r\n", body.len()).into_bytes();
        answer.extend_from_slice(body);
        answer
    };
    let html = "<html><body>invented</body></html>";
    let large = format!(r#"{{"access_token":"{}"}}"#, "a".repeat(ANSWER_BYTES_MAX));
    let cases: Vec<(&str, Vec<u8>, &str)> = vec![
        ("a good answer", ok(GOOD), "committed"),
        (
            "in chunks",
            raw(&format!(
                "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n{:x}\r\n{GOOD}\r\n0\r\n\r\n",
                GOOD.len()
            )),
            "committed",
        ),
        (
            "until the connection closes",
            raw(&format!("HTTP/1.1 200 OK\r\n\r\n{GOOD}")),
            "committed",
        ),
        ("in the older protocol", raw(&format!("HTTP/1.0 200 OK\r\n\r\n{GOOD}")), "committed"),
        (
            "after an interim answer",
            [raw("HTTP/1.1 100 Continue\r\n\r\n"), ok(GOOD)].concat(),
            "committed",
        ),
        (
            "after early hints",
            [raw("HTTP/1.1 103 Early Hints\r\nlink: <a>\r\n\r\n"), ok(GOOD)].concat(),
            "committed",
        ),
        ("as created", says("201 Created", GOOD), "committed"),
        ("behind a byte order mark", ok(&format!("\u{feff}{GOOD}")), "committed"),
        (
            "with an error beside it",
            ok(&GOOD.replacen('{', r#"{"error":"invalid_grant","#, 1)),
            "committed",
        ),
        (
            "with the same key twice",
            ok(&GOOD.replacen('{', r#"{"access_token":"act.first","#, 1)),
            "committed",
        ),
        (
            "without a refresh token",
            ok(r#"{"access_token":"act.invented","expires_in":7200}"#),
            "committed",
        ),
        (
            "with a refresh token that is a number",
            ok(r#"{"access_token":"act.invented","refresh_token":7}"#),
            "committed",
        ),
        (
            "with a life in words",
            ok(r#"{"access_token":"act.invented","expires_in":"soon"}"#),
            "committed",
        ),
        (
            "with bytes that are no text beside the token",
            bytes(b"{\"access_token\":\"act.invented\",\"scope\":\"\xff\xfe\"}"),
            "committed",
        ),
        (
            "with bytes that are no text in the token",
            bytes(b"{\"access_token\":\"act.\xff\xfe\"}"),
            "ambiguous",
        ),
        ("with a token that is a number", ok(r#"{"access_token":7}"#), "ambiguous"),
        ("with a token that is null", ok(r#"{"access_token":null}"#), "ambiguous"),
        ("with a blank token", ok(r#"{"access_token":"  "}"#), "ambiguous"),
        ("an object with nothing in it", ok("{}"), "ambiguous"),
        ("a list", ok("[]"), "ambiguous"),
        ("JSON that ends too early", ok(&GOOD[..40]), "ambiguous"),
        ("JSON with something behind it", ok(&format!("{GOOD} invented")), "ambiguous"),
        ("nothing at all with 200", ok(""), "ambiguous"),
        ("no content", raw("HTTP/1.1 204 No Content\r\n\r\n"), "ambiguous"),
        ("a page with 200", ok(html), "ambiguous"),
        ("more than anybody reads", ok(&large), "ambiguous"),
        (
            "a chunk of no size",
            raw("HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\nzz\r\n{}\r\n0\r\n\r\n"),
            "ambiguous",
        ),
        (
            "two lengths",
            raw(&format!(
                "HTTP/1.1 200 OK\r\ncontent-length: 5\r\ncontent-length: {}\r\n\r\n{GOOD}",
                GOOD.len()
            )),
            "ambiguous",
        ),
        (
            "a length that is none",
            raw(&format!("HTTP/1.1 200 OK\r\ncontent-length: many\r\n\r\n{GOOD}")),
            "ambiguous",
        ),
        (
            "another protocol from now on",
            raw(
                "HTTP/1.1 101 Switching Protocols\r\nupgrade: invented\r\nconnection: upgrade\r\n\r\n",
            ),
            "ambiguous",
        ),
        (
            "a redirect with a token",
            says("307 Temporary Redirect\r\nlocation: http://127.0.0.1:9/", GOOD),
            "ambiguous",
        ),
        ("not modified", raw("HTTP/1.1 304 Not Modified\r\n\r\n"), "ambiguous"),
        ("a refusal with a token", says("400 Bad Request", GOOD), "ambiguous"),
        ("a page with 400", says("400 Bad Request", html), "not committed"),
        ("a page with 404", says("404 Not Found", html), "not committed"),
        ("nothing with 403", says("403 Forbidden", ""), "not committed"),
        ("a limit", says("429 Too Many Requests", ""), "not committed app-wide"),
        (
            "a refused app",
            says("401 Unauthorized", r#"{"error":"invalid_client"}"#),
            "not committed app-wide",
        ),
        ("a refused app with 200", ok(r#"{"error":"invalid_client"}"#), "not committed app-wide"),
        ("a refused token", says("400 Bad Request", r#"{"error":"invalid_grant"}"#), "dead"),
        ("a refused token with 200", ok(r#"{"error":"invalid_grant"}"#), "dead"),
        ("an outage", says("500 Internal Server Error", ""), "ambiguous"),
        ("a page with 503", says("503 Service Unavailable", html), "ambiguous"),
        ("a good answer with 502", says("502 Bad Gateway", GOOD), "ambiguous"),
        ("a status that nobody knows", says("799 Invented", GOOD), "ambiguous"),
    ];
    let provider = oauth_keepalive::providers::find("tiktok").unwrap();
    let mut wrong = Vec::new();
    for (name, answer, expected) in cases {
        let server = Server::start(Script::Say(answer)).await;
        let exchange = send(&client(), refresh(&server.url)).await;
        let now = oauth_keepalive::core::Timestamp::from_unix(1_800_000_000);
        let outcome = match provider.outcome(&exchange, now) {
            Outcome::Committed(_) => "committed",
            Outcome::NotCommitted(evidence) if evidence.app_wide => "not committed app-wide",
            Outcome::NotCommitted(_) => "not committed",
            Outcome::Dead(_) => "dead",
            Outcome::Ambiguous(_) => "ambiguous",
        };
        if outcome != expected || server.seen() != 1 {
            wrong.push((name, outcome, expected, word(&exchange), server.seen()));
        }
    }
    assert!(wrong.is_empty(), "{wrong:#?}");
}

#[tokio::test]
async fn what_never_reached_a_server_is_not_sent() {
    let closed = {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        listener.local_addr().unwrap()
    };
    let silent = Server::start(Script::SayAndHang(Vec::new())).await;
    let plain = Server::start(Script::Say(ok("", "{}"))).await;
    for (name, url, expected) in [
        ("refused", format!("http://{closed}/"), "not sent: connect_failed"),
        ("unknown host", "https://provider.invalid/".to_owned(), "not sent: connect_failed"),
        ("no TLS answer", silent.url.replace("http:", "https:"), "not sent: connect_failed"),
        ("no TLS at all", plain.url.replace("http:", "https:"), "not sent: connect_failed"),
        (
            "plain HTTP abroad",
            "http://provider.example/".to_owned(),
            "not sent: request_unsendable",
        ),
        ("no URL", "provider.example/token".to_owned(), "not sent: request_unsendable"),
    ] {
        assert_eq!(
            word(&send(&HttpClient::new(&impatient()).unwrap(), refresh(&url)).await),
            expected,
            "{name}"
        );
    }
    assert_eq!(plain.seen(), 0, "a TLS greeting is no request");
}

#[tokio::test]
async fn a_header_that_cannot_be_sent_stops_the_request_here() {
    let server = Server::start(Script::Say(ok("", "{}"))).await;
    let mut request = refresh(&server.url);
    request.headers = vec![("Authorization".to_owned(), secret("Bearer a\r\nX-Injected: b"))];
    assert_eq!(word(&send(&client(), request).await), "not sent: request_unsendable");
    assert_eq!(server.seen(), 0);
}

#[tokio::test]
async fn no_redirect_is_followed() {
    let stranger = Server::start(Script::Say(ok("", r#"{"access_token":"of a stranger"}"#))).await;
    for status in [301, 302, 303, 307, 308] {
        let answer = format!(
            "HTTP/1.1 {status} Elsewhere\r\nlocation: {}\r\ncontent-length: 0\r\n\r\n",
            stranger.url
        );
        let server = Server::start(Script::Say(answer.into())).await;
        let exchange = send(&client(), refresh(&server.url)).await;
        assert_eq!(word(&exchange), format!("answered: {status}"));
        assert_eq!(server.seen(), 1);
    }
    assert_eq!(stranger.seen(), 0, "a token went to a host that nobody configured");
}

#[tokio::test]
async fn the_request_carries_what_it_should_and_nothing_else() {
    let server = Server::start(Script::Say(ok("set-cookie: a=b\r\n", "{}"))).await;
    let client = client();
    send(&client, refresh(&server.url)).await;
    let mut get = refresh(&format!("{}?v=25", server.url));
    get.method = Method::Get;
    get.body = Body::Empty;
    get.query = vec![("access_token".to_owned(), secret("a&b=c"))];
    send(&client, get).await;
    let mut json = refresh(&server.url);
    json.body = Body::Json(vec![("client_id".to_owned(), secret("x\"y"))]);
    send(&client, json).await;

    let requests = server.requests.lock().unwrap();
    let first = requests[0].to_ascii_lowercase();
    assert!(first.starts_with("post /token/ http/1.1\r\n"), "{first}");
    assert!(
        first.ends_with("\r\n\r\ngrant_type=refresh_token&refresh_token=invented+%26+odd"),
        "{first}"
    );
    assert!(first.contains("content-type: application/x-www-form-urlencoded\r\n"), "{first}");
    assert!(first.contains("x-invented: header value\r\n"), "{first}");
    let agent = format!("user-agent: oauth-keepalive/{}\r\n", env!("CARGO_PKG_VERSION"));
    assert!(first.contains(&agent), "{first}");
    assert!(requests[1].starts_with("GET /token/?v=25&access_token=a%26b%3Dc HTTP/1.1\r\n"));
    assert!(requests[2].ends_with("\r\n\r\n{\"client_id\":\"x\\\"y\" }"), "{}", requests[2]);
    for request in requests.iter() {
        let request = request.to_ascii_lowercase();
        for absent in ["cookie:", "referer:", "accept-encoding:"] {
            assert!(!request.contains(absent), "{absent} in {request}");
        }
    }
}

#[tokio::test]
async fn headers_that_matter_are_read() {
    let headers = "date: Sun, 22 Nov 2026 12:00:00 GMT\r\nretry-after: Sun, 22 Nov 2026 12:01:30 GMT\r\n\
                   www-authenticate: Bearer realm=\"x\", error=\"insufficient_scope\"\r\n";
    let server = Server::start(Script::Say(ok(headers, "{\"a\":1}"))).await;
    let answer = answered(send(&client(), refresh(&server.url)).await);
    assert_eq!(answer.date.map(|date| date.as_unix()), Some(1_795_348_800));
    assert_eq!(answer.retry_after, Some(Duration::from_secs(90)));
    assert_eq!(answer.bearer_error.as_deref(), Some("insufficient_scope"));
    assert_eq!(answer.body.expose(), "{\"a\":1}");
}

#[tokio::test]
async fn bodies_up_to_the_limit_arrive_whole_however_they_are_cut() {
    let longest = " ".repeat(ANSWER_BYTES_MAX);
    let chunked = b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n\
                    5\r\n{\"acc\r\n6\r\ness\":1\r\n1\r\n}\r\n0\r\n\r\n";
    for (name, bytes, expected) in [
        ("as long as allowed", ok("", &longest), longest.as_str()),
        ("chunked", chunked.to_vec(), r#"{"access":1}"#),
        ("ended by the close", b"HTTP/1.0 200 OK\r\n\r\n{}".to_vec(), "{}"),
        ("empty", ok("", ""), ""),
        (
            "with a byte that is not UTF-8",
            b"HTTP/1.1 200 OK\r\ncontent-length: 3\r\n\r\n\"\xff\"".to_vec(),
            "\"\u{fffd}\"",
        ),
    ] {
        let server = Server::start(Script::Say(bytes)).await;
        let answer = answered(send(&client(), refresh(&server.url)).await);
        assert!(answer.body.expose() == expected, "{name}");
    }
}

#[tokio::test]
async fn no_connection_is_used_twice() {
    // Each of its connections answers once and then stays silent.
    let server = Server::start(Script::SayAndHang(ok("", "{}"))).await;
    let client = HttpClient::new(&impatient()).unwrap();
    for _ in 0..3 {
        answered(send(&client, refresh(&server.url)).await);
    }
    assert_eq!(server.seen(), 3);
}

#[tokio::test]
async fn one_app_cannot_take_the_places_of_another() {
    let server = Server::start(Script::SayAndHang(Vec::new())).await;
    let settings = Settings {
        in_flight_per_app_max: 1,
        connect_deadline: Duration::from_secs(1),
        ..settings()
    };
    let client = HttpClient::new(&settings).unwrap();
    let spawn = |app: &'static str| {
        let (client, request) = (client.clone(), refresh(&server.url));
        tokio::spawn(async move { client.send(app, request).await })
    };
    let held = spawn("busy");
    until(|| server.seen() == 1).await;
    let second = timeout(PATIENCE, client.send("busy", refresh(&server.url))).await.unwrap();
    assert_eq!(word(&second), "not sent: no_free_place");
    let other = spawn("idle");
    until(|| server.seen() == 2).await;
    held.abort();
    let third = spawn("busy");
    until(|| server.seen() == 3).await;
    other.abort();
    third.abort();
}

async fn until(condition: impl Fn() -> bool) {
    let wait = async {
        while !condition() {
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
    };
    timeout(PATIENCE, wait).await.expect("the condition comes true");
}

#[tokio::test]
async fn a_proxy_in_the_environment_is_ignored() {
    const TARGET: &str = "OAUTH_KEEPALIVE_TEST_TARGET";
    // The environment of a process is read-only once it has threads, so the test runs itself again.
    if let Ok(target) = std::env::var(TARGET) {
        answered(send(&client(), refresh(&target)).await);
        return;
    }
    let target = Server::start(Script::Say(ok("", "{}"))).await;
    let proxy = Server::start(Script::Say(ok("", "{}"))).await;
    let mut again = tokio::task::spawn_blocking({
        let (target, proxy) = (target.url.clone(), proxy.url.clone());
        move || {
            Command::new(std::env::current_exe().unwrap())
                .args(["--exact", "a_proxy_in_the_environment_is_ignored"])
                .env(TARGET, target)
                .envs(
                    ["http_proxy", "HTTP_PROXY", "all_proxy", "ALL_PROXY"]
                        .map(|name| (name, &proxy)),
                )
                .env_remove("no_proxy")
                .env_remove("NO_PROXY")
                .stdout(Stdio::null())
                .status()
        }
    });
    let status = timeout(PATIENCE, &mut again).await.unwrap().unwrap().unwrap();
    assert!(status.success());
    assert_eq!((target.seen(), proxy.seen()), (1, 0));
}

#[tokio::test]
async fn a_configured_proxy_is_used() {
    let proxy = Server::start(Script::Say(ok("", "{}"))).await;
    let settings =
        Settings { proxy: Some(proxy.url.trim_end_matches("/token/").to_owned()), ..settings() };
    let client = HttpClient::new(&settings).unwrap();
    answered(send(&client, refresh("http://127.0.0.1:9/token/")).await);
    assert!(
        proxy.requests.lock().unwrap()[0].starts_with("POST http://127.0.0.1:9/token/ HTTP/1.1")
    );
}

#[test]
fn settings_that_cannot_work_are_refused_by_name() {
    let folder = tempfile::tempdir().unwrap();
    let no_pem = folder.path().join("ca.pem");
    std::fs::write(&no_pem, "hello").unwrap();
    let refused = |change: &dyn Fn(&mut Settings)| {
        let mut settings = settings();
        change(&mut settings);
        HttpClient::new(&settings).err().map(|error| error.to_string())
    };
    let missing = folder.path().join("none.pem");
    for (change, expected) in [
        (
            &(|s: &mut Settings| s.connect_deadline = s.total_deadline) as &dyn Fn(&mut Settings),
            "connect_deadline: must be shorter than total_deadline".to_owned(),
        ),
        (
            &|s: &mut Settings| s.connect_deadline = Duration::ZERO,
            "connect_deadline: must be longer than zero".to_owned(),
        ),
        (
            &|s: &mut Settings| s.in_flight_per_app_max = 0,
            "in_flight_per_app_max: must be at least 1".to_owned(),
        ),
        (
            &|s: &mut Settings| s.proxy = Some("http://".to_owned()),
            "proxy: is no proxy; expected http://host:port".to_owned(),
        ),
        (
            &|s: &mut Settings| s.ca_file = Some(missing.clone()),
            format!("ca_file {}: cannot be read (entity not found)", missing.display()),
        ),
        (
            &|s: &mut Settings| s.ca_file = Some(no_pem.clone()),
            format!("ca_file {}: holds no PEM certificate", no_pem.display()),
        ),
    ] {
        assert_eq!(refused(change), Some(expected));
    }
    assert!(matches!(HttpClient::new(&settings()), Ok(_) | Err(Error::Tls)));
}

#[tokio::test]
async fn a_certificate_is_checked_before_anything_is_sent() {
    let folder = tempfile::tempdir().unwrap();
    make_certificates(folder.path());
    let trusting = Settings { ca_file: Some(folder.path().join("ca.pem")), ..settings() };
    let distrusting = Settings { ca_file: None, ..trusting.clone() };
    for (leaf, settings, expected) in [
        ("here", &trusting, "answered: 200"),
        ("here", &distrusting, "not sent: connect_failed"),
        ("elsewhere", &trusting, "not sent: connect_failed"),
        ("expired", &trusting, "not sent: connect_failed"),
        ("self", &trusting, "not sent: connect_failed"),
    ] {
        let server = TlsServer::start(folder.path(), leaf);
        let client = HttpClient::new(settings).unwrap();
        let mut request = refresh(&server.url);
        request.method = Method::Get;
        request.body = Body::Empty;
        let exchange = send(&client, request).await;
        assert_eq!(
            word(&exchange),
            expected,
            "certificate `{leaf}`, own authority: {}",
            settings.ca_file.is_some()
        );
    }
}

/// An authority, and certificates that are good, for another host, expired, and signed by themselves.
fn make_certificates(folder: &Path) {
    let openssl = |arguments: &str| {
        let output = Command::new("openssl")
            .args(arguments.split(' '))
            .current_dir(folder)
            .output()
            .expect("the tests need the openssl command");
        assert!(
            output.status.success(),
            "{arguments}: {}",
            String::from_utf8_lossy(&output.stderr)
        );
    };
    let key = "-newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes";
    openssl(&format!(
        "req -x509 {key} -keyout ca.key -out ca.pem -days 2 -subj /CN=invented-authority"
    ));
    std::fs::write(folder.join("ca.cnf"), AUTHORITY).unwrap();
    std::fs::write(folder.join("index.txt"), "").unwrap();
    for (leaf, names, until) in [
        ("here", "IP:127.0.0.1", "21000101000000Z"),
        ("elsewhere", "DNS:elsewhere.example", "21000101000000Z"),
        ("expired", "IP:127.0.0.1", "20200201000000Z"),
    ] {
        openssl(&format!(
            "req -new {key} -keyout {leaf}.key -out {leaf}.csr -subj /CN={leaf} -addext subjectAltName={names}"
        ));
        openssl(&format!(
            "ca -config ca.cnf -batch -in {leaf}.csr -out {leaf}.pem -notext \
             -startdate 20200101000000Z -enddate {until}"
        ));
    }
    openssl(&format!(
        "req -x509 {key} -keyout self.key -out self.pem -days 2 -subj /CN=self -addext subjectAltName=IP:127.0.0.1"
    ));
}

/// Of the commands that issue certificates only `openssl ca` takes an end in the past in every version.
const AUTHORITY: &str = "\
[ca]
default_ca = here
[here]
certificate = ca.pem
private_key = ca.key
database = index.txt
rand_serial = yes
new_certs_dir = .
default_md = sha256
policy = names
copy_extensions = copy
[names]
commonName = supplied
";

struct TlsServer {
    process: Child,
    url: String,
}

impl TlsServer {
    fn start(folder: &Path, leaf: &str) -> Self {
        let mut process = Command::new("openssl")
            .args(["s_server", "-accept", "127.0.0.1:0", "-www", "-cert"])
            .args([format!("{leaf}.pem"), "-key".to_owned(), format!("{leaf}.key")])
            .current_dir(folder)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .expect("the tests need the openssl command");
        let port = BufReader::new(process.stdout.take().unwrap())
            .lines()
            .map_while(Result::ok)
            .find_map(|line| line.strip_prefix("ACCEPT ")?.rsplit(':').next()?.parse::<u16>().ok())
            .expect("openssl says where it listens");
        Self { process, url: format!("https://127.0.0.1:{port}/") }
    }
}

impl Drop for TlsServer {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

#[test]
fn nothing_that_is_shown_of_a_request_holds_a_token() {
    let mut request = refresh("https://provider.example/token/");
    request.query = vec![("access_token".to_owned(), secret("invented-query"))];
    let shown = format!("{request:?}");
    assert_eq!(shown, "Post https://provider.example/token/");
    assert_eq!(Trouble::Broken.as_label(), "connection_broken");
}
