//! A listener with a few accounts behind it, and everything that it hands on.

use arc_swap::ArcSwap;
use oauth_keepalive::{
    clock::Clock,
    core::{
        Account, AccountId, Announcement, Cause, Door, Evidence, Gate, Secret, Shares, Snapshot,
        Table, Timestamp, Why,
        permits::{Canary, Pace},
    },
    metrics::Metrics,
    secrets::SecretRef,
    server::{
        self, Limits,
        publisher::{
            AccessToken, Canaries, Client, Clients, Context, News, Permits, Promise, Response,
            Right, WhenUnknown, handle,
        },
        webhooks::Delivery,
    },
};
use serde_json::Value;
use std::{
    fs,
    net::SocketAddr,
    sync::{Arc, Mutex},
    time::Duration,
};
use tempfile::TempDir;
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::{TcpListener, TcpStream},
    sync::{Semaphore, mpsc, watch},
    time::timeout,
};

/// Longer than anything here takes; a test that waits this long has failed.
pub(crate) const PATIENCE: Duration = Duration::from_secs(60);

/// How long a body may take here.
const BODY_DEADLINE: Duration = Duration::from_secs(3);

/// The client that may do everything, as a header line.
pub(crate) const RIGHT: &str = "Authorization: Bearer invented-secret\r\n";

pub(crate) struct Bench {
    pub(crate) address: SocketAddr,
    pub(crate) metrics: Metrics,
    pub(crate) snapshot: Arc<ArcSwap<Snapshot>>,
    /// What the state remembers.
    pub(crate) remembered: Arc<Mutex<Result<Option<Door>, ()>>>,
    pub(crate) folder: TempDir,
    /// The access token in the store, with its end.
    pub(crate) token: Arc<Mutex<Option<Stored>>>,
    /// What was written down.
    orders: Arc<Mutex<Vec<Announcement>>>,
    pub(crate) news: Arc<News>,
    responses: Mutex<mpsc::Receiver<Vec<Response>>>,
    pub(crate) stop: watch::Sender<bool>,
    /// Which post may prove the account; an error when that cannot be written down.
    pub(crate) written: Arc<Mutex<Result<Option<Canary>, ()>>>,
}

struct Written(Arc<Mutex<Result<Option<Canary>, ()>>>);

impl Canaries for Written {
    fn claim(
        &self,
        _: &AccountId,
        post: &Arc<str>,
        now: Timestamp,
        until: Timestamp,
    ) -> Promise<Result<Canary, ()>> {
        let mut written = self.0.lock().unwrap();
        let claim = Canary { post: Some(Arc::clone(post)), until };
        let answer = match &mut *written {
            Ok(known) => {
                let in_force = known.take().filter(|known| !known.until.has_come(now));
                Ok(known.insert(in_force.unwrap_or(claim)).clone())
            }
            Err(()) => Err(()),
        };
        Box::pin(std::future::ready(answer))
    }

    fn report(&self, _: &AccountId, until: Timestamp) -> Promise<()> {
        if let Ok(Some(known)) = &mut *self.0.lock().unwrap() {
            (known.post, known.until) = (None, known.until.min(until));
        }
        Box::pin(std::future::ready(()))
    }
}

impl Bench {
    pub(crate) async fn start() -> Self {
        Self::start_with(|_| {}).await
    }

    /// The same with another context.
    pub(crate) async fn start_with(change: impl FnOnce(&mut Context)) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let now = Clock::start().now();
        let metrics = Metrics::new(["tiktok"], now);
        let (responses, received) = mpsc::channel(1);
        let snapshot = Arc::new(ArcSwap::from_pointee(fleet()));
        let remembered = Arc::new(Mutex::new(Ok(None)));
        let memory = Arc::clone(&remembered);
        let token = Arc::new(Mutex::new(Some(("invented-access".to_owned(), None))));
        let stored = Arc::clone(&token);
        let (deliveries, delivered) = mpsc::channel(4);
        let orders = Arc::new(Mutex::new(Vec::new()));
        tokio::spawn(write_down(delivered, Arc::clone(&orders)));
        let (stop, stopped) = watch::channel(false);
        let news = Arc::new(News::new());
        let written = Arc::new(Mutex::new(Ok(None)));
        let mut context = Context {
            snapshot: Arc::clone(&snapshot),
            clock: Clock::start(),
            metrics: metrics.clone(),
            clients: Clients::new(clients(&folder)),
            when_unknown: WhenUnknown::Open,
            remembered: Arc::new(move |_| Box::pin(std::future::ready(*memory.lock().unwrap()))),
            newest: Some(Arc::new(move |_| {
                let token = stored.lock().unwrap().clone();
                let token = token.map(|(access, expires_at)| AccessToken {
                    access: Secret::new(access),
                    expires_at,
                });
                Box::pin(std::future::ready(Ok(token)))
            })),
            permits: Arc::new(Permits::new(PACE, metrics.clone())),
            canaries: Arc::new(Written(Arc::clone(&written))),
            news: Arc::clone(&news),
            waiters: Arc::new(Semaphore::new(2)),
            stop: stopped.clone(),
            deliveries,
            understand: Arc::new(|app, answered| {
                assert_eq!(app, "main");
                (answered.body["code"] == "known")
                    .then(|| Evidence::of(Cause::ScopeMissing, Timestamp::MIN))
            }),
            responses,
            body_deadline: BODY_DEADLINE,
        };
        change(&mut context);
        let context = Arc::new(context);
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let handler = move |request| handle(Arc::clone(&context), request);
        tokio::spawn(server::run(listener, Limits::with_connections(16), handler, stopped));
        let responses = Mutex::new(received);
        Self {
            address,
            metrics,
            snapshot,
            remembered,
            folder,
            token,
            orders,
            news,
            responses,
            stop,
            written,
        }
    }

    /// What was handed to the keeper.
    pub(crate) fn received(&self) -> Result<Vec<Response>, mpsc::error::TryRecvError> {
        self.responses.lock().unwrap().try_recv()
    }

    /// What was written down so far.
    pub(crate) fn orders(&self) -> Vec<Announcement> {
        self.orders.lock().unwrap().clone()
    }

    /// Posts as the client that may do everything.
    pub(crate) async fn post(&self, path: &str, body: &str) -> Answer {
        self.send("POST", path, RIGHT, body).await
    }

    /// `headers` are whole lines, each ended by `\r\n`.
    pub(crate) async fn send(&self, method: &str, path: &str, headers: &str, body: &str) -> Answer {
        let length = body.len();
        let request = format!(
            "{method} {path} HTTP/1.1\r\nHost: a\r\nConnection: close\r\n{headers}\
             Content-Length: {length}\r\n\r\n{body}"
        );
        read_answer(&exchange(self.address, request.as_bytes()).await)
    }

    /// `line` is method and path.
    pub(crate) async fn ask(&self, line: &str, headers: &str) -> Answer {
        let (method, path) = line.split_once(' ').unwrap();
        self.send(method, path, headers, "").await
    }

    /// As the client that may do everything.
    pub(crate) async fn get(&self, path: &str) -> Answer {
        self.send("GET", path, RIGHT, "").await
    }

    /// The gates of these accounts become these.
    pub(crate) fn set(&self, account: &str, gate: Gate) {
        let mut snapshot = Snapshot::clone(&self.snapshot.load());
        let now = snapshot.at;
        snapshot.accounts.change(&AccountId::new("tiktok", account), |account| {
            account.door.gate = gate;
            account.door.why = Some(Why::Cause(Cause::ConsentRevoked));
            account.door.since = Some(now);
        });
        self.snapshot.store(Arc::new(snapshot));
    }
}

/// The inbox: what has the same key is known already.
async fn write_down(
    mut delivered: mpsc::Receiver<Delivery>,
    orders: Arc<Mutex<Vec<Announcement>>>,
) {
    while let Some((announcement, answer)) = delivered.recv().await {
        let mut orders = orders.lock().unwrap();
        let is_new = orders.iter().all(|known| known.key != announcement.key);
        if is_new {
            orders.push(announcement);
        }
        let _ = answer.send(is_new);
    }
}

/// An access token with its end.
type Stored = (String, Option<Timestamp>);

pub(crate) const PACE: Pace =
    Pace { canary_deadline: Duration::from_secs(600), resume_every: Duration::from_secs(1_000) };

/// `a`, `b` and one with a name that is hard to write.
fn fleet() -> Snapshot {
    let mut table = Table::default();
    for name in ["a", "b", HARD] {
        table.put(Account::new(AccountId::new("tiktok", name), "main".into()));
    }
    let at = Clock::start().now();
    Snapshot { loaded: true, holding: Shares::ALL, accounts: table, ..Snapshot::empty(at) }
}

/// An account as no URL likes it.
pub(crate) const HARD: &str = "a/b %2F ?#\"א";

/// One that may do everything, one for each right alone, and one that sees `b` alone. The secret of `NAME` is
/// `secret-of-NAME`.
fn clients(folder: &TempDir) -> Vec<Client> {
    let client = |name: &str, secret: &str, rights: &[Right], accounts: &str| {
        let path = folder.path().join(name);
        fs::write(&path, secret).unwrap();
        Client {
            name: name.into(),
            secret: SecretRef::File(path),
            rights: rights.to_vec(),
            accounts: vec![accounts.to_owned()],
        }
    };
    let mut all = vec![client("all", "invented-secret", &Right::ALL, "*")];
    for right in Right::ALL {
        let name = right.as_label();
        all.push(client(name, &format!("secret-of-{name}"), &[right], "*"));
    }
    all.push(client("only-b", "secret-of-only-b", &Right::ALL, "tiktok/b"));
    all
}

/// The header line of a client.
pub(crate) fn as_client(name: &str) -> String {
    format!("Authorization: Bearer secret-of-{name}\r\n")
}

/// Sends the bytes as they are and reads until the server closes.
pub(crate) async fn exchange(address: SocketAddr, request: &[u8]) -> Vec<u8> {
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

pub(crate) struct Answer {
    pub(crate) status: u16,
    pub(crate) head: String,
    pub(crate) body: Vec<u8>,
}

impl Answer {
    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        self.head.lines().find_map(|line| {
            let (key, value) = line.split_once(": ")?;
            key.eq_ignore_ascii_case(name).then_some(value)
        })
    }

    pub(crate) fn text(&self) -> &str {
        std::str::from_utf8(&self.body).unwrap()
    }

    pub(crate) fn json(&self) -> Value {
        serde_json::from_slice(&self.body).unwrap_or_else(|_| panic!("no JSON: {}", self.text()))
    }

    /// The word of a problem, after a look at the rest of it.
    pub(crate) fn code(&self) -> String {
        assert_eq!(
            self.header("content-type"),
            Some("application/problem+json"),
            "{}",
            self.text()
        );
        let problem = self.json();
        assert_eq!(problem["status"], self.status, "{problem}");
        for key in ["type", "title", "detail"] {
            assert!(problem[key].as_str().is_some_and(|text| !text.is_empty()), "{problem}");
        }
        problem["code"].as_str().unwrap().to_owned()
    }
}

pub(crate) fn read_answer(bytes: &[u8]) -> Answer {
    let end = bytes.windows(4).position(|four| four == b"\r\n\r\n").expect("a whole head");
    let head = String::from_utf8(bytes[..end].to_vec()).unwrap();
    Answer { status: head[9..12].parse().unwrap(), head, body: bytes[end + 4..].to_vec() }
}
