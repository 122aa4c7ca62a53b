//! The HTTP surface over real sockets, also against clients that are slow, hostile or too many.
#![expect(clippy::unwrap_used, reason = "a test that cannot go on stops where it stands")]

use arc_swap::ArcSwap;
use flate2::read::GzDecoder;
use oauth_keepalive::{
    clock::Clock,
    core::{Account, AccountId, Snapshot, Table},
    metrics::Metrics,
    server::{self, ConfigState, Context, Limits, ReloadRequest, telemetry},
};
use std::{
    io::Read as _,
    net::SocketAddr,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::{TcpListener, TcpStream},
    sync::{mpsc, watch},
    task::JoinHandle,
    time::timeout,
};

/// Longer than anything here takes; a test that waits this long has failed.
const PATIENCE: Duration = Duration::from_secs(60);

/// Long enough for an answer on loopback to have arrived, where none must.
const A_MOMENT: Duration = Duration::from_millis(300);

struct Server {
    address: SocketAddr,
    stop: watch::Sender<bool>,
    task: JoinHandle<()>,
}

fn fleet(accounts: impl IntoIterator<Item = &'static str>) -> Snapshot {
    let mut table = Table::default();
    for name in accounts {
        table.put(Account::new(AccountId::new("tiktok", name), "main".into()));
    }
    Snapshot { loaded: true, accounts: table, ..Snapshot::empty(Clock::start().now()) }
}

fn context(snapshot: Snapshot) -> Context {
    let now = Clock::start().now();
    Context {
        snapshot: Arc::new(ArcSwap::from_pointee(snapshot)),
        metrics: Metrics::new(["tiktok"], now),
        gauges: Arc::default(),
        clock: Clock::start(),
        per_account: Arc::new(AtomicBool::new(true)),
        reload: None,
        config: Arc::new(ArcSwap::from_pointee(ConfigState { at: now, errors: Vec::new() })),
        actions: None,
    }
}

async fn serve_with(context: Context, limits: Limits) -> Server {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let (stop, stopped) = watch::channel(false);
    let handler = move |request| telemetry::handle(context.clone(), request);
    let task = tokio::spawn(server::run(listener, limits, handler, stopped));
    Server { address, stop, task }
}

async fn serve(context: Context) -> Server {
    serve_with(context, Limits::with_connections(16)).await
}

/// Sends the bytes as they are and reads until the server closes.
async fn exchange(address: SocketAddr, request: &[u8]) -> Vec<u8> {
    let talk = async {
        let mut stream = TcpStream::connect(address).await.unwrap();
        // The server may answer and close before it has read everything.
        let _ = stream.write_all(request).await;
        let mut answer = Vec::new();
        let _ = stream.read_to_end(&mut answer).await;
        answer
    };
    timeout(PATIENCE, talk).await.expect("an answer")
}

struct Answer {
    status: u16,
    head: String,
    body: Vec<u8>,
}

impl Answer {
    fn header(&self, name: &str) -> Option<&str> {
        self.head.lines().find_map(|line| {
            let (key, value) = line.split_once(": ")?;
            key.eq_ignore_ascii_case(name).then_some(value)
        })
    }

    fn text(&self) -> &str {
        std::str::from_utf8(&self.body).unwrap()
    }
}

/// `headers` are whole lines, each ended by `\r\n`.
async fn ask(server: &Server, line: &str, headers: &str) -> Answer {
    let request = format!("{line} HTTP/1.1\r\nHost: a\r\nConnection: close\r\n{headers}\r\n");
    read_answer(&exchange(server.address, request.as_bytes()).await)
}

fn read_answer(bytes: &[u8]) -> Answer {
    let end = bytes.windows(4).position(|four| four == b"\r\n\r\n").expect("a whole head");
    let head = String::from_utf8(bytes[..end].to_vec()).unwrap();
    let mut answer = Answer {
        status: head[9..12].parse().unwrap(),
        head: head.clone(),
        body: bytes[end + 4..].to_vec(),
    };
    if answer.header("transfer-encoding") == Some("chunked") && !answer.body.is_empty() {
        answer.body = unchunked(&answer.body);
    }
    answer
}

fn unchunked(mut rest: &[u8]) -> Vec<u8> {
    let mut body = Vec::new();
    loop {
        let end = rest.windows(2).position(|two| two == b"\r\n").expect("a chunk size");
        let size = std::str::from_utf8(&rest[..end]).unwrap();
        let size = usize::from_str_radix(size, 16).unwrap();
        if size == 0 {
            return body;
        }
        body.extend_from_slice(&rest[end + 2..end + 2 + size]);
        rest = &rest[end + 4 + size..];
    }
}

#[tokio::test]
async fn each_path_answers_to_its_methods_and_to_nothing_else() {
    let server = serve(context(fleet(["a"]))).await;
    let cases = [
        ("GET /", 200, None),
        ("GET /?page=7&q=%22%3Cb%3E", 200, None),
        ("GET /accounts/tiktok/a", 200, None),
        ("GET /accounts/tiktok/a.json", 200, None),
        ("GET /accounts/tiktok/nobody", 404, None),
        ("GET /accounts.json?page=2", 200, None),
        ("GET /providers/tiktok", 200, None),
        ("GET /apps/none.json", 404, None),
        ("HEAD /accounts/tiktok/a", 200, None),
        ("POST /accounts/tiktok/a", 405, Some("GET, HEAD")),
        ("POST /accounts.json", 405, Some("GET, HEAD")),
        ("GET /metrics", 200, None),
        ("GET /metrics?x=1", 200, None),
        ("GET /-/healthy", 200, None),
        ("GET /-/ready", 200, None),
        ("HEAD /metrics", 200, None),
        ("HEAD /", 200, None),
        ("GET /nothing", 404, None),
        ("POST /nothing", 404, None),
        ("GET /metrics/", 404, None),
        ("GET //metrics", 404, None),
        ("POST /metrics", 405, Some("GET, HEAD")),
        ("DELETE /", 405, Some("GET, HEAD")),
        ("GET /-/reload", 405, Some("POST, PUT")),
        ("POST /-/reload", 403, None),
    ];
    for (line, status, allow) in cases {
        let answer = ask(&server, line, "").await;
        assert_eq!(answer.status, status, "{line}");
        assert_eq!(answer.header("allow"), allow, "{line}");
        assert_eq!(line.starts_with("HEAD") && status == 200, answer.body.is_empty(), "{line}");
    }
}

#[tokio::test]
async fn a_scraper_gets_the_format_and_the_coding_it_asked_for() {
    let server = serve(context(fleet(["a"]))).await;
    let plain = ask(&server, "GET /metrics", "").await;
    assert_eq!(plain.header("content-type"), Some("text/plain; version=0.0.4; charset=utf-8"));
    assert_eq!(plain.header("content-encoding"), None);
    assert!(plain.text().contains("# TYPE oauth_keepalive_api_responses_total counter\n"));

    let asked = "Accept: application/openmetrics-text;version=1.0.0\r\nAccept: text/plain;q=0.5\r\n\
                 Accept-Encoding: gzip\r\n";
    let packed = ask(&server, "GET /metrics", asked).await;
    assert_eq!(
        packed.header("content-type"),
        Some("application/openmetrics-text; version=1.0.0; charset=utf-8")
    );
    assert_eq!(packed.header("content-encoding"), Some("gzip"));
    assert_eq!(packed.header("vary"), Some("Accept, Accept-Encoding"));
    let mut text = String::new();
    GzDecoder::new(&*packed.body).read_to_string(&mut text).unwrap();
    assert!(text.contains("# TYPE oauth_keepalive_api_responses counter\n"), "{text}");
    assert!(text.ends_with("# EOF\n"));
}

#[tokio::test]
async fn a_client_of_the_nineties_is_served() {
    let server = serve(context(fleet(["a"]))).await;
    let answer = exchange(server.address, b"GET /metrics HTTP/1.0\r\n\r\n").await;
    let answer = read_answer(&answer);
    assert_eq!(answer.header("transfer-encoding"), None);
    assert!(answer.text().contains("oauth_keepalive_store_up 1\n"));
}

#[tokio::test]
async fn an_account_that_is_gone_is_gone_from_the_next_scrape() {
    let context = context(fleet(["stays", "leaves"]));
    let server = serve(context.clone()).await;
    assert!(ask(&server, "GET /metrics", "").await.text().contains("account=\"leaves\""));
    context.snapshot.store(Arc::new(fleet(["stays"])));
    let after = ask(&server, "GET /metrics", "").await;
    assert!(!after.text().contains("leaves") && after.text().contains("account=\"stays\""));
    context.per_account.store(false, Ordering::Relaxed);
    assert!(!ask(&server, "GET /metrics", "").await.text().contains("account=\""));
}

#[tokio::test]
async fn ready_means_that_the_store_was_read_and_healthy_does_not() {
    let context = context(Snapshot::empty(Clock::start().now()));
    let server = serve(context.clone()).await;
    assert_eq!(ask(&server, "GET /-/ready", "").await.status, 503);
    assert_eq!(ask(&server, "GET /-/healthy", "").await.status, 200);
    context.snapshot.store(Arc::new(Snapshot { store_up: false, ..fleet(["a"]) }));
    assert_eq!(ask(&server, "GET /-/ready", "").await.status, 200, "once read, a latch");
}

#[tokio::test]
async fn the_status_page_shows_hostile_names_as_text_and_may_run_nothing() {
    let server = serve(context(fleet(["<script>alert('x')</script>"]))).await;
    let answer = ask(&server, "GET /", "").await;
    assert!(!answer.text().contains("<script"), "{}", answer.text());
    assert!(answer.text().contains("&lt;script&gt;"));
    let policy = answer.header("content-security-policy").unwrap();
    assert!(policy.starts_with("default-src 'none';"), "{policy}");
    assert_eq!(answer.header("x-content-type-options"), Some("nosniff"));
}

#[tokio::test]
async fn a_reload_answers_with_what_came_of_it() {
    let (reload, mut asked) = mpsc::channel::<ReloadRequest>(1);
    let server = serve(Context { reload: Some(reload), ..context(fleet(["a"])) }).await;
    tokio::spawn(async move {
        let mut outcomes = [Ok(()), Err(vec!["config.yaml:3: unknown key".to_owned()])].into_iter();
        while let Some(request) = asked.recv().await {
            request.send(outcomes.next().unwrap()).unwrap();
        }
    });
    assert_eq!(ask(&server, "POST /-/reload", "Content-Length: 0\r\n").await.status, 200);
    let refused = ask(&server, "PUT /-/reload", "Content-Length: 0\r\n").await;
    assert_eq!(refused.status, 500);
    assert!(refused.text().contains("config.yaml:3: unknown key"));
}

#[tokio::test]
async fn a_request_that_is_never_finished_is_closed() {
    let limits =
        Limits { header_deadline: Duration::from_millis(200), ..Limits::with_connections(4) };
    let server = serve_with(context(fleet(["a"])), limits).await;
    for sent in [&b"GET /metrics HTTP/1.1\r\nHost:"[..], b""] {
        exchange(server.address, sent).await;
    }
}

#[tokio::test]
async fn a_head_without_end_is_refused() {
    let server = serve(context(fleet(["a"]))).await;
    let request = format!("GET / HTTP/1.1\r\nHost: a\r\nX: {}", "x".repeat(200_000));
    let answer = read_answer(&exchange(server.address, request.as_bytes()).await);
    assert_eq!(answer.status, 431);
}

#[tokio::test]
async fn one_connection_too_many_waits_until_another_ends() {
    let server = serve_with(context(fleet(["a"])), Limits::with_connections(2)).await;
    let mut open = Vec::new();
    for _ in 0..2 {
        let mut stream = TcpStream::connect(server.address).await.unwrap();
        stream.write_all(b"GET /-/healthy HTTP/1.1\r\nHost: a\r\n\r\n").await.unwrap();
        let mut answer = [0; 12];
        timeout(PATIENCE, stream.read_exact(&mut answer)).await.unwrap().unwrap();
        open.push(stream);
    }
    let mut third = TcpStream::connect(server.address).await.unwrap();
    third.write_all(b"GET /-/healthy HTTP/1.1\r\nHost: a\r\n\r\n").await.unwrap();
    let mut answer = [0; 12];
    assert!(timeout(A_MOMENT, third.read_exact(&mut answer)).await.is_err(), "no place is free");
    open.pop();
    timeout(PATIENCE, third.read_exact(&mut answer)).await.unwrap().unwrap();
    assert_eq!(&answer, b"HTTP/1.1 200");
}

#[tokio::test]
async fn a_client_that_reads_nothing_loses_its_place_and_delays_no_stop() {
    let limits = Limits {
        connection_life_max: Duration::from_secs(1),
        last_answer_deadline: Duration::from_secs(1),
        ..Limits::with_connections(1)
    };
    let mut large = Table::default();
    for number in 0..30_000 {
        let id = AccountId::new("tiktok", format!("account-{number:06}"));
        large.put(Account::new(id, "main".into()));
    }
    let large = Snapshot { accounts: large, ..fleet([]) };
    let server = serve_with(context(large), limits).await;
    let mut lazy = TcpStream::connect(server.address).await.unwrap();
    lazy.write_all(b"GET /metrics HTTP/1.1\r\nHost: a\r\n\r\n").await.unwrap();
    assert_eq!(ask(&server, "GET /-/healthy", "").await.status, 200, "its place was given on");

    let mut lazy = TcpStream::connect(server.address).await.unwrap();
    lazy.write_all(b"GET /metrics HTTP/1.1\r\nHost: a\r\n\r\n").await.unwrap();
    lazy.readable().await.unwrap();
    server.stop.send(true).unwrap();
    timeout(PATIENCE, server.task).await.expect("it stops all the same").unwrap();
    assert!(TcpStream::connect(server.address).await.is_err(), "nobody listens any more");
}

#[tokio::test]
async fn a_stop_lets_the_answer_under_way_be_finished() {
    let (reload, mut asked) = mpsc::channel::<ReloadRequest>(1);
    let server = serve(Context { reload: Some(reload), ..context(fleet(["a"])) }).await;
    let address = server.address;
    let request = b"POST /-/reload HTTP/1.1\r\nHost: a\r\nContent-Length: 0\r\n\r\n";
    let asking = tokio::spawn(async move { exchange(address, request).await });
    let under_way = timeout(PATIENCE, asked.recv()).await.unwrap().unwrap();
    server.stop.send(true).unwrap();
    under_way.send(Ok(())).unwrap();
    assert_eq!(read_answer(&asking.await.unwrap()).status, 200);
    timeout(PATIENCE, server.task).await.unwrap().unwrap();
}
