//! Webhooks to publishers: signed, sent again until they are taken, and again after a start.

use crate::bench::PATIENCE;
use arc_swap::ArcSwap;
use oauth_keepalive::{
    clock::Clock,
    core::{
        Account, AccountId, Cause, Event, Gate, Secret, Shares, Snapshot, Timestamp, gate::Why,
    },
    hooks::{Hook, ID_HEADER, SIGNATURE_HEADER, Settings, signature},
    http_client::{self, HttpClient},
    metrics::{Format, Metrics},
    secrets::SecretRef,
    server::publisher::events::data,
};
use serde_json::Value;
use std::{
    fs,
    sync::{Arc, Mutex},
    time::Duration,
};
use tempfile::TempDir;
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpListener,
    sync::{broadcast, mpsc, watch},
    time::timeout,
};

/// What arrived, as a publisher sees it.
#[derive(Debug)]
struct Delivery {
    signature: String,
    id: String,
    body: String,
}

impl Delivery {
    fn json(&self) -> Value {
        serde_json::from_str(&self.body).unwrap()
    }
}

/// A publisher that answers with these statuses, and then always with 204.
struct Publisher {
    url: String,
    deliveries: mpsc::UnboundedReceiver<Delivery>,
}

impl Publisher {
    async fn start(statuses: &[u16]) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}/gates", listener.local_addr().unwrap());
        let (told, deliveries) = mpsc::unbounded_channel();
        let statuses = Mutex::new(statuses.to_vec());
        tokio::spawn(async move {
            while let Ok((mut socket, _)) = listener.accept().await {
                let mut bytes = Vec::new();
                let mut piece = [0; 4_096];
                let delivery = loop {
                    let read = socket.read(&mut piece).await.unwrap_or(0);
                    bytes.extend_from_slice(&piece[..read]);
                    if let Some(delivery) = whole(&bytes) {
                        break Some(delivery);
                    }
                    if read == 0 {
                        break None;
                    }
                };
                let Some(delivery) = delivery else { continue };
                let status = {
                    let mut statuses = statuses.lock().unwrap();
                    if statuses.is_empty() { 204 } else { statuses.remove(0) }
                };
                let answer = format!(
                    "HTTP/1.1 {status} Answer\r\nContent-Length: 0\r\nConnection: close\r\n\r\n"
                );
                let _ = socket.write_all(answer.as_bytes()).await;
                let _ = told.send(delivery);
            }
        });
        Self { url, deliveries }
    }

    async fn next(&mut self) -> Delivery {
        timeout(PATIENCE, self.deliveries.recv()).await.expect("a webhook comes").unwrap()
    }
}

fn whole(bytes: &[u8]) -> Option<Delivery> {
    let text = std::str::from_utf8(bytes).ok()?;
    let (head, body) = text.split_once("\r\n\r\n")?;
    let header = |name: &str| {
        let mut lines = head.lines().filter_map(|line| line.split_once(": "));
        lines.find(|(key, _)| key.eq_ignore_ascii_case(name)).map(|(_, value)| value.to_owned())
    };
    let length: usize = header("content-length")?.parse().ok()?;
    assert!(head.starts_with("POST /gates HTTP/1.1"), "{head}");
    assert_eq!(header("content-type").as_deref(), Some("application/json"));
    (body.len() == length).then(|| Delivery {
        signature: header(SIGNATURE_HEADER).unwrap(),
        id: header(ID_HEADER).unwrap(),
        body: body.to_owned(),
    })
}

struct Teller {
    events: broadcast::Sender<Event>,
    metrics: Metrics,
    snapshot: Arc<ArcSwap<Snapshot>>,
    _stop: watch::Sender<bool>,
    _folder: TempDir,
}

const SECRET: &str = "invented-gates-secret";
const SINCE: Timestamp = Timestamp::from_unix(1_800_000_000);

impl Teller {
    /// Tells `publisher` of accounts of tiktok. Of these accounts one is held already.
    fn start(publisher: &Publisher) -> Self {
        Self::start_with(publisher, |_| {})
    }

    fn start_with(publisher: &Publisher, change: impl Fn(&mut Account)) -> Self {
        let folder = tempfile::tempdir().unwrap();
        fs::write(folder.path().join("secret"), SECRET).unwrap();
        let clock = Clock::start();
        let mut now =
            Snapshot { loaded: true, holding: Shares::ALL, ..Snapshot::empty(clock.now()) };
        for (provider, account) in [("tiktok", "held"), ("tiktok", "open"), ("x", "held")] {
            let mut account = Account::new(AccountId::new(provider, account), "main".into());
            if *account.id.account == *"held" {
                account.door.gate = Gate::Held;
                account.door.since = Some(SINCE);
                account.door.why = Some(Why::Person);
            }
            change(&mut account);
            now.accounts.put(account);
        }
        let snapshot = Arc::new(ArcSwap::from_pointee(now));
        let client = HttpClient::new(&http_client::Settings {
            total_deadline: Duration::from_secs(20),
            connect_deadline: Duration::from_secs(10),
            in_flight_per_app_max: 1,
            ca_file: None,
            proxy: None,
        });
        let metrics = Metrics::new(["tiktok"], clock.now());
        let hook = Hook {
            settings: Settings {
                url: publisher.url.clone(),
                secret: SecretRef::File(folder.path().join("secret")),
                accounts: vec!["tiktok/*".to_owned()],
            },
            client: Arc::new(ArcSwap::from_pointee(client.unwrap())),
            clock,
            snapshot: Arc::clone(&snapshot),
            metrics: metrics.clone(),
            data,
        };
        let events = broadcast::Sender::new(64);
        let (stop, stopped) = watch::channel(false);
        tokio::spawn(hook.run(events.subscribe(), stopped));
        Self { events, metrics, snapshot, _stop: stop, _folder: folder }
    }

    fn moves(&self, provider: &str, account: &str, to: Gate, at: i64) {
        let event = Event::GateMoved {
            id: AccountId::new(provider, account),
            from: Gate::Open,
            to,
            why: Some(Why::Cause(Cause::ConsentRevoked)),
            at: Timestamp::from_unix(SINCE.as_unix() + at),
        };
        self.events.send(event).unwrap();
    }

    fn counted(&self, result: &str) -> u64 {
        let mut text = Vec::new();
        self.metrics.write(&mut text, Format::Classic);
        let text = String::from_utf8(text).unwrap();
        let line = format!("oauth_keepalive_gate_webhooks_total{{result=\"{result}\"}} ");
        let value = text.lines().find_map(|one| one.strip_prefix(&line));
        value.unwrap().parse().unwrap()
    }
}

#[tokio::test]
async fn a_move_is_told_under_a_signature_and_what_is_shut_is_told_at_the_start() {
    let mut publisher = Publisher::start(&[]).await;
    let teller = Teller::start(&publisher);
    let first = publisher.next().await;
    let told = first.json();
    assert_eq!((&told["account"], &told["gate"]), (&"held".into(), &"held".into()));
    assert_eq!((&told["provider"], &told["cause"]), (&"tiktok".into(), &"by_hand".into()));
    assert_eq!((&told["event"], &told["from"]), (&"gate_moved".into(), &Value::Null));
    assert_eq!((&told["id"], &told["at"]), (&first.id.clone().into(), &SINCE.as_unix().into()));

    // Accounts that are none of its own are not told; the next one that is comes after them.
    teller.moves("x", "other", Gate::Held, 5);
    teller.moves("tiktok", "open", Gate::Held, 6);
    let second = publisher.next().await;
    let told = second.json();
    assert_eq!((&told["account"], &told["from"]), (&"open".into(), &"open".into()));
    assert_eq!((&told["may_publish"], &told["cause"]), (&false.into(), &"consent_revoked".into()));
    assert_ne!(first.id, second.id);

    let at: i64 =
        second.signature.strip_prefix("t=").unwrap().split(',').next().unwrap().parse().unwrap();
    let expected =
        signature(&Secret::new(SECRET.to_owned()), Timestamp::from_unix(at), &second.body);
    assert_eq!(second.signature, expected);
    let other =
        signature(&Secret::new("another".to_owned()), Timestamp::from_unix(at), &second.body);
    assert_ne!(second.signature, other);
}

#[tokio::test]
async fn what_is_not_taken_is_sent_again_under_the_same_id_and_a_newer_gate_takes_its_place() {
    let mut publisher = Publisher::start(&[500, 302]).await;
    let teller = Teller::start(&publisher);
    let first = publisher.next().await;
    let second = publisher.next().await;
    assert_eq!((&first.id, &first.body), (&second.id, &second.body));
    // It is not taken this time either, and meanwhile the gate moves on.
    teller.moves("tiktok", "held", Gate::Canary, 9);
    let mut third = publisher.next().await;
    if third.id == first.id {
        third = publisher.next().await;
    }
    assert_eq!(third.json()["gate"], "canary");
    assert_ne!(third.id, first.id);
    assert!(teller.counted("failed") >= 2);
    let taken = async {
        while teller.counted("delivered") == 0 {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    timeout(PATIENCE, taken).await.expect("it is counted when it was taken");
}

#[tokio::test]
async fn a_gate_that_opened_just_before_the_start_is_told_as_well() {
    let mut publisher = Publisher::start(&[]).await;
    let now = Clock::start().now();
    let teller = Teller::start_with(&publisher, |account| {
        if *account.id.account == *"open" {
            account.door.since = Some(now.minus(Duration::from_secs(60)));
        }
    });
    let told = [publisher.next().await.json(), publisher.next().await.json()];
    assert_eq!((&told[0]["gate"], &told[1]["gate"]), (&"held".into(), &"open".into()));
    assert_eq!(told[1]["account"], "open");
    drop(teller);
}

#[tokio::test]
async fn the_same_gate_has_the_same_id_after_another_start() {
    let mut ids = Vec::new();
    for _ in 0..2 {
        let mut publisher = Publisher::start(&[]).await;
        let _teller = Teller::start(&publisher);
        ids.push(publisher.next().await.id);
    }
    assert_eq!(ids[0], ids[1]);
}

#[tokio::test]
async fn after_too_many_moves_at_once_what_is_so_is_told() {
    let mut publisher = Publisher::start(&[]).await;
    let teller = Teller::start(&publisher);
    publisher.next().await;
    let mut snapshot = Snapshot::clone(&teller.snapshot.load());
    snapshot
        .accounts
        .change(&AccountId::new("tiktok", "held"), |account| account.door.gate = Gate::Open);
    teller.snapshot.store(Arc::new(snapshot));
    // More than anybody keeps up with, and none of them about an account of its own.
    for _ in 0..1_000 {
        teller.moves("x", "other", Gate::Held, 1);
    }
    assert_eq!(publisher.next().await.json()["gate"], "open");
}
