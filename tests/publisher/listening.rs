//! Gates that move, for whoever listens: server-sent events, and a gate that is waited for.

use crate::bench::{Bench, PATIENCE, RIGHT, as_client};
use oauth_keepalive::{
    core::{AccountId, Cause, Gate, Timestamp, gate::Why, moves::Move},
    server::publisher::events::MOVES_KEPT,
};
use std::time::Duration;
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpStream,
    time::timeout,
};

fn moved(account: &str, to: Gate) -> Move {
    Move {
        id: AccountId::new("tiktok", account),
        from: Some(Gate::Open),
        to,
        why: Some(Why::Cause(Cause::ConsentRevoked)),
        at: Timestamp::from_unix(1_800_000_000),
    }
}

/// A stream that is read as it comes.
struct Stream {
    socket: TcpStream,
    text: String,
}

impl Stream {
    async fn open(bench: &Bench, path: &str, headers: &str) -> Self {
        let mut socket = TcpStream::connect(bench.address).await.unwrap();
        let request = format!("GET {path} HTTP/1.1\r\nHost: a\r\n{headers}\r\n");
        socket.write_all(request.as_bytes()).await.unwrap();
        Self { socket, text: String::new() }
    }

    /// Reads until `words` have come.
    async fn until(&mut self, words: &str) -> &str {
        let read = async {
            while !self.text.contains(words) {
                let mut bytes = [0; 4_096];
                let read = self.socket.read(&mut bytes).await.unwrap();
                assert!(read > 0, "it ended: {}", self.text);
                self.text += &String::from_utf8_lossy(&bytes[..read]);
            }
        };
        assert!(timeout(PATIENCE, read).await.is_ok(), "{words} never came: {}", self.text);
        &self.text
    }

    /// The last id in it.
    fn last_id(&self) -> &str {
        self.text.rsplit("id: ").next().unwrap().lines().next().unwrap()
    }
}

#[tokio::test]
async fn a_move_is_told_to_those_who_listen_and_again_to_whoever_comes_back() {
    let bench = Bench::start().await;
    let mut stream = Stream::open(&bench, "/v1/events", RIGHT).await;
    stream.until("retry: ").await;
    bench.news.push(moved("a", Gate::Held));
    let text = stream.until("\"gate\":\"held\"").await;
    assert!(text.contains("content-type: text/event-stream"), "{text}");
    assert!(text.contains("event: gate\n") && text.contains("\"cause\":\"consent_revoked\""));
    assert!(text.contains("\"may_publish\":false"), "{text}");
    let seen = stream.last_id().to_owned();
    drop(stream);

    bench.news.push(moved("b", Gate::Canary));
    bench.news.push(moved("a", Gate::Open));
    let headers = format!("{RIGHT}Last-Event-ID: {seen}\r\n");
    let mut again = Stream::open(&bench, "/v1/events", &headers).await;
    let text = again.until("\"gate\":\"open\"").await;
    assert!(text.contains("\"gate\":\"canary\"") && !text.contains("\"gate\":\"held\""), "{text}");
    assert!(!text.contains("reset"), "{text}");
}

#[tokio::test]
async fn whoever_missed_what_nobody_knows_any_more_is_told_so() {
    let bench = Bench::start().await;
    for _ in 0..=MOVES_KEPT {
        bench.news.push(moved("a", Gate::Held));
    }
    let (first_of_this_run, last_of_another) = {
        let mut stream = Stream::open(&bench, "/v1/events", RIGHT).await;
        stream.until("retry: ").await;
        bench.news.push(moved("a", Gate::Open));
        stream.until("id: ").await;
        let (run, number) = stream.last_id().split_once('-').unwrap();
        (format!("{run}-0"), format!("00000000-{number}"))
    };
    for id in [&*first_of_this_run, &last_of_another, "nonsense", "-", "é", &"9".repeat(500)] {
        let headers = format!("{RIGHT}Last-Event-ID: {id}\r\n");
        let mut stream = Stream::open(&bench, "/v1/events", &headers).await;
        stream.until("event: reset\n").await;
        bench.news.push(moved("b", Gate::Canary));
        stream.until("\"gate\":\"canary\"").await;
    }
    let mut stream = Stream::open(&bench, "/v1/events", RIGHT).await;
    stream.until("retry: ").await;
    bench.news.lose();
    stream.until("event: reset\n").await;
}

#[tokio::test]
async fn whoever_is_far_behind_catches_up_at_once() {
    let bench = Bench::start().await;
    let mut stream = Stream::open(&bench, "/v1/events", RIGHT).await;
    stream.until("retry: ").await;
    bench.news.push(moved("a", Gate::Held));
    stream.until("\"gate\":\"held\"").await;
    let seen = stream.last_id().to_owned();
    drop(stream);
    // More than fifteen pieces hold: one with each heartbeat would take minutes.
    (0..MOVES_KEPT - 10).for_each(|_| bench.news.push(moved("a", Gate::Held)));
    bench.news.push(moved("last", Gate::Canary));
    let headers = format!("{RIGHT}Last-Event-ID: {seen}\r\n");
    let mut again = Stream::open(&bench, "/v1/events", &headers).await;
    again.until("\"account\":\"last\"").await;
}

#[tokio::test]
async fn accounts_of_others_are_not_told() {
    let bench = Bench::start().await;
    let mut stream = Stream::open(&bench, "/v1/events", &as_client("only-b")).await;
    stream.until("retry: ").await;
    bench.news.push(moved("a", Gate::Held));
    bench.news.push(moved("b", Gate::Held));
    let text = stream.until("\"account\":\"b\"").await;
    assert!(!text.contains("\"account\":\"a\""), "{text}");
}

#[tokio::test]
async fn those_who_wait_are_bounded_and_leave_their_place() {
    let bench = Bench::start().await;
    let mut all = Vec::new();
    for _ in 0..2 {
        let mut stream = Stream::open(&bench, "/v1/events", RIGHT).await;
        stream.until("retry: ").await;
        all.push(stream);
    }
    let refused = bench.get("/v1/events").await;
    assert_eq!((refused.status, &*refused.code()), (503, "too_many_wait"));
    let refused = bench.get("/v1/accounts/tiktok/a/gate?wait=1s").await;
    assert_eq!(refused.code(), "too_many_wait");
    assert_eq!(bench.get("/v1/accounts/tiktok/a/gate").await.status, 200, "without waiting");
    all.clear();
    let freed = async {
        while bench.get("/v1/events?for=0s").await.status != 200 {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    timeout(PATIENCE, freed).await.expect("the places of those who left are free");
    assert_eq!(bench.get("/v1/events?for=241s").await.code(), "malformed");
}

#[tokio::test]
async fn a_stop_ends_those_who_wait() {
    let bench = Bench::start().await;
    let mut stream = Stream::open(&bench, "/v1/events", RIGHT).await;
    stream.until("retry: ").await;
    bench.stop.send(true).unwrap();
    let mut rest = Vec::new();
    timeout(PATIENCE, stream.socket.read_to_end(&mut rest)).await.expect("it ends").unwrap();
}

#[tokio::test]
async fn a_gate_that_is_waited_for_is_told_when_it_moves() {
    let bench = Bench::start().await;
    let now = bench.get("/v1/accounts/tiktok/a/gate").await;
    let etag = now.header("etag").unwrap().trim_matches('"').to_owned();
    let path = format!("/v1/accounts/tiktok/a/gate?wait=60s&since={etag}");
    let waiting = async {
        let told = bench.get(&path).await.json();
        assert_eq!(told["gate"], "held");
    };
    let moving = async {
        tokio::time::sleep(Duration::from_millis(300)).await;
        bench.set("a", Gate::Held);
    };
    let both = async { tokio::join!(waiting, moving) };
    timeout(PATIENCE, both).await.expect("long before the minute is over");
    // What is known to be old needs no waiting.
    let path = "/v1/accounts/tiktok/a/gate?wait=60s&since=older";
    assert_eq!(timeout(PATIENCE, bench.get(path)).await.unwrap().json()["gate"], "held");
    let same = bench.get("/v1/accounts/tiktok/a/gate?wait=1s").await;
    assert_eq!(same.json()["gate"], "held", "nothing moved, and the time is over");
    for wrong in ["wait=61s", "wait=1", "wait=-1s", "wait=s", "wait=1m", "wait=", "since=a&since=b"]
    {
        let answer = bench.get(&format!("/v1/accounts/tiktok/a/gate?{wrong}")).await;
        assert_eq!(answer.code(), "malformed", "{wrong}");
    }
}
