//! The publisher's listener: may I publish, and what became of it.
//!
//! | route | right | answer |
//! | --- | --- | --- |
//! | `GET /v1/openapi.json` | – | this table, for programs |
//! | `GET /v1/accounts` | `read` | the accounts, page by page |
//! | `GET /v1/accounts/{provider}/{account}` | `read` | one of them |
//! | `GET …/gate` | `read` | whether the publisher may publish; `?wait=30s&since=` waits for a change |
//! | `GET /v1/events` | `read` | gates that move, as server-sent events |
//! | `GET …/token` | `token` | the newest access token, where that is switched on |
//! | `POST …/permits` | `publish` | whether this post may be published now |
//! | `POST …/canary` | `publish` | takes what became of the post that was to prove the account |
//! | `POST …/hold`, `POST …/resume` | `hold` | holds the account by hand, or lets it go on |
//! | `POST …/refresh` | `refresh` | asks for a refresh now |
//! | `POST /v1/responses` | `report` | takes status codes that the publisher saw |
//!
//! Every request is bounded in size and time and untrusted. Nothing in here decides anything: what is asked for is
//! handed to the keeper, through the inbox, where it must outlive the process. Handlers see snapshots, which have no
//! field that could hold a token; the one that hands a token out is switched on for itself and reads it from the store
//! at that moment.

mod accounts;
mod clients;
pub mod events;
mod gates;
mod orders;
pub(super) mod path;
mod permits;
mod problem;
pub mod responses;
mod tokens;
mod whole;

pub use accounts::PAGE_MAX;
pub use clients::{Client, Clients, Right};
pub use events::{News, WAITERS_MAX};
pub use gates::{Remembered, STALE_AFTER, WAIT_MAX, WhenUnknown};
pub use permits::{Canaries, POST_CHARS_MAX, Permits};
pub use problem::{Code, Problem};
pub use responses::{Answered, Place, Response, Understand};
pub use tokens::{AccessToken, Newest};

use super::{
    answer::{Answer, for_method, whole},
    socket::Listen,
    tls::CertificateFiles,
    webhooks::Delivery,
};
use crate::{
    clock::Clock,
    core::{AccountId, Order, Snapshot, permits::Pace},
    metrics::Metrics,
};
use arc_swap::ArcSwap;
use hyper::{Method, Request, StatusCode, body::Incoming};
use std::{future::Future, pin::Pin, sync::Arc, time::Duration};
use tokio::sync::{Semaphore, mpsc, watch};

/// The listener. `config` fills it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Settings {
    /// Loopback or a socket, unless the operator says otherwise.
    pub listen: Listen,
    /// What it shows, when it speaks TLS.
    pub certificate: Option<CertificateFiles>,
    /// Who may ask.
    pub clients: Vec<Client>,
    /// What a publisher is told while the gate is not known.
    pub when_unknown: WhenUnknown,
    /// How fast an account goes on after trouble.
    pub pace: Pace,
    /// Whether access tokens are handed out.
    pub serve_tokens: bool,
}

/// What the handlers see. `app` fills it.
pub struct Context {
    /// The fleet; swapped whole by the keeper.
    pub snapshot: Arc<ArcSwap<Snapshot>>,
    /// The program's time.
    pub clock: Clock,
    /// Where rejected reports are counted.
    pub metrics: Metrics,
    /// Who may ask.
    pub clients: Clients,
    /// What a publisher is told while the gate is not known.
    pub when_unknown: WhenUnknown,
    /// What our state remembers of accounts that are not in the snapshot.
    pub remembered: Arc<Remembered>,
    /// Reads access tokens from the store; `None` while tokens are not served.
    pub newest: Option<Arc<Newest>>,
    /// The posts that wait.
    pub permits: Arc<Permits>,
    /// Writes down which of them may prove an account.
    pub canaries: Arc<dyn Canaries>,
    /// To whoever writes orders down. Bounded; while it is full the publisher is asked to come again.
    pub deliveries: mpsc::Sender<Delivery>,
    /// Gates that moved.
    pub news: Arc<News>,
    /// Places for those who wait for them.
    pub waiters: Arc<Semaphore>,
    /// Ends those who wait.
    pub stop: watch::Receiver<bool>,
    /// Understands what a provider said.
    pub understand: Arc<Understand>,
    /// To the keeper. Bounded; while it is full the publisher is asked to come again.
    pub responses: mpsc::Sender<Vec<Response>>,
    /// How long the body of a request may take; [`BODY_DEADLINE`] outside tests.
    pub body_deadline: Duration,
}

/// Something that is answered later.
pub type Promise<T> = Pin<Box<dyn Future<Output = T> + Send>>;

impl Context {
    /// What is true of the fleet now: a snapshot from before the process was stopped says too much.
    fn seen(&self) -> Arc<Snapshot> {
        let snapshot = self.snapshot.load_full();
        snapshot.as_of(self.clock.now()).map_or(snapshot, Arc::new)
    }
}

/// Answers one request.
pub async fn handle(context: Arc<Context>, request: Request<Incoming>) -> Answer {
    let method = request.method().clone();
    let answer = route(&context, request).await.unwrap_or_else(Problem::into_answer);
    for_method(&method, answer)
}

async fn route(context: &Context, request: Request<Incoming>) -> Result<Answer, Problem> {
    let uri = request.uri().clone();
    let operation = Operation::of(uri.path())?;
    operation.takes(request.method())?;
    if operation == Operation::OpenApi {
        path::query(uri.query(), [])?;
        return Ok(whole(StatusCode::OK, "application/json", OPEN_API.to_owned()));
    }
    let client = context.clients.identify(request.headers());
    if operation == Operation::Responses {
        // Its refusals are counted.
        return responses::answer(context, client, request).await;
    }
    let client = client?;
    let query = uri.query();
    match operation {
        Operation::OpenApi | Operation::Responses => unreachable!("answered above"),
        Operation::Accounts => accounts::list(context, client, query),
        Operation::Events => events::answer(context, client, request.headers(), query),
        Operation::Account(provider, account) => {
            let id = may(client, Right::Read, provider, account)?;
            accounts::one(context, &id, query)
        }
        Operation::Of(provider, account, leaf) => {
            let id = may(client, leaf.right(), provider, account)?;
            match leaf {
                Leaf::Gate => gates::answer(context, &id, query).await,
                Leaf::Token => tokens::answer(context, client, &id, query).await,
                Leaf::Permits => permits::answer(context, client, &id, request).await,
                Leaf::Canary => orders::canary(context, &id, request).await,
                Leaf::Hold => orders::order(context, &id, Order::Hold, request).await,
                Leaf::Resume => orders::order(context, &id, Order::Resume, request).await,
                Leaf::Refresh => orders::order(context, &id, Order::Refresh, request).await,
            }
        }
    }
}

/// The account in the path, when the client may do this with it.
fn may(client: &Client, right: Right, provider: &str, account: &str) -> Result<AccountId, Problem> {
    client.needs(right)?;
    let id = path::account(provider, account)?;
    client.needs_account(&id)?;
    Ok(id)
}

/// What a path stands for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Operation<'a> {
    OpenApi,
    Responses,
    Accounts,
    Events,
    Account(&'a str, &'a str),
    /// What is under an account.
    Of(&'a str, &'a str, Leaf),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Leaf {
    Gate,
    Token,
    Permits,
    Canary,
    Hold,
    Resume,
    Refresh,
}

impl Leaf {
    fn of(word: &str) -> Option<Self> {
        Some(match word {
            "gate" => Self::Gate,
            "token" => Self::Token,
            "permits" => Self::Permits,
            "canary" => Self::Canary,
            "hold" => Self::Hold,
            "resume" => Self::Resume,
            "refresh" => Self::Refresh,
            _ => return None,
        })
    }

    const fn right(self) -> Right {
        match self {
            Self::Gate => Right::Read,
            Self::Token => Right::Token,
            Self::Permits | Self::Canary => Right::Publish,
            Self::Hold | Self::Resume => Right::Hold,
            Self::Refresh => Right::Refresh,
        }
    }

    const fn reads(self) -> bool {
        matches!(self, Self::Gate | Self::Token)
    }
}

impl<'a> Operation<'a> {
    fn of(path: &'a str) -> Result<Self, Problem> {
        let mut parts = path.strip_prefix("/v1/").unwrap_or_default().split('/');
        let parts: [Option<&str>; 5] = std::array::from_fn(|_| parts.next());
        let known = match parts {
            [Some("openapi.json"), None, ..] => Some(Self::OpenApi),
            [Some("responses"), None, ..] => Some(Self::Responses),
            [Some("accounts"), None, ..] => Some(Self::Accounts),
            [Some("events"), None, ..] => Some(Self::Events),
            [Some("accounts"), Some(provider), Some(account), None, _] => {
                Some(Self::Account(provider, account))
            }
            [Some("accounts"), Some(provider), Some(account), Some(leaf), None] => {
                Leaf::of(leaf).map(|leaf| Self::Of(provider, account, leaf))
            }
            _ => None,
        };
        let detail = "GET /v1/openapi.json lists every path";
        known.ok_or_else(|| Problem::new(Code::NoSuchPath, detail))
    }

    fn takes(self, method: &Method) -> Result<(), Problem> {
        let posts = match self {
            Self::Responses => true,
            Self::Of(_, _, leaf) => !leaf.reads(),
            Self::OpenApi | Self::Accounts | Self::Events | Self::Account(..) => false,
        };
        let takes = match *method {
            // A stream has no end that its head could be taken off from.
            Method::HEAD if self == Self::Events => false,
            Method::GET | Method::HEAD => !posts,
            Method::POST => posts,
            _ => false,
        };
        if takes {
            return Ok(());
        }
        Err(Problem::wrong_method(match self {
            Self::Events => "GET",
            _ if posts => "POST",
            _ => "GET, HEAD",
        }))
    }
}

/// The whole interface, for programs.
pub const OPEN_API: &str = include_str!("openapi.json");

/// How long the body of a request may take.
pub const BODY_DEADLINE: Duration = Duration::from_secs(10);
