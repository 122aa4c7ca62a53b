//! Gates that move, as they move: server-sent events.
//!
//! Each event has an id; a client that lost its connection says the last one it saw and gets what came since, from a
//! bounded ring. Where that is not known any more it is told so, and reads the list again. A stream ends by itself after
//! a few minutes, so that a client whose secret was taken away is gone by then.

use super::{
    Client, Context, path,
    problem::{Code, Problem},
};
use crate::{
    core::{
        Gate, Timestamp,
        gate::Why,
        moves::{Move, Moves},
    },
    server::answer::Answer,
};
use bytes::Bytes;
use http_body_util::BodyExt as _;
use hyper::{
    HeaderMap, Response,
    body::{Body, Frame},
    header::{CACHE_CONTROL, CONTENT_TYPE, HeaderValue},
};
use ring::rand::{SecureRandom as _, SystemRandom};
use serde_json::json;
use std::{
    convert::Infallible,
    pin::Pin,
    sync::{Arc, Mutex, PoisonError},
    task::{self, Poll},
    time::Duration,
};
use tokio::{
    sync::{OwnedSemaphorePermit, mpsc, watch},
    time::{Instant, sleep_until},
};

/// The last moves, for all who listen.
pub struct News {
    /// Tells the ids of this process from those of another.
    run: String,
    moves: Mutex<Moves>,
    last: watch::Sender<u64>,
}

impl News {
    /// Nothing has happened yet.
    ///
    /// # Panics
    /// When the operating system has no random numbers, which nothing in this program survives.
    #[must_use]
    pub fn new() -> Self {
        let mut drawn = [0; 4];
        SystemRandom::new().fill(&mut drawn).expect("the operating system has random numbers");
        Self {
            run: format!("{:08x}", u32::from_be_bytes(drawn)),
            moves: Mutex::new(Moves::new(MOVES_KEPT)),
            last: watch::Sender::new(0),
        }
    }

    /// A gate moved.
    pub fn push(&self, one: Move) {
        let last = self.moves().push(one);
        self.last.send_replace(last);
    }

    /// Nobody knows what moved.
    pub fn lose(&self) {
        let last = self.moves().lose();
        self.last.send_replace(last);
    }

    fn moves(&self) -> std::sync::MutexGuard<'_, Moves> {
        self.moves.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// What `client` gets after `number`, and the number of the last; a reset where that is not known any more.
    fn after(&self, number: Option<u64>, client: &Client) -> (String, u64) {
        let moves = self.moves();
        let last = moves.last();
        let Some(news) = number.and_then(|number| moves.after(number)) else {
            return (format!("id: {}-{last}\nevent: reset\ndata: {{}}\n\n", self.run), last);
        };
        let mut text = String::new();
        let mut reached = number.unwrap_or(last);
        for (number, one) in news.take(EVENTS_AT_ONCE_MAX) {
            reached = number;
            if client.may_see(&one.id) {
                text += &format!("id: {}-{number}\nevent: gate\ndata: {}\n\n", self.run, data(one));
            }
        }
        (text, reached)
    }

    /// The number in an id that this process gave.
    fn number(&self, id: &str) -> Option<u64> {
        let (run, number) = id.split_once('-')?;
        (run == self.run).then(|| number.parse().ok())?
    }
}

impl Default for News {
    fn default() -> Self {
        Self::new()
    }
}

/// A move as it is told, here and by webhooks.
#[must_use]
pub fn data(one: &Move) -> serde_json::Value {
    json!({
        "provider": &*one.id.provider,
        "account": &*one.id.account,
        "from": one.from.map(Gate::as_label),
        "gate": one.to.as_label(),
        "may_publish": one.to == Gate::Open,
        "cause": one.why.filter(|_| one.to != Gate::Open).map(Why::as_label),
        "at": Timestamp::as_unix(one.at),
    })
}

pub(super) fn answer(
    context: &Context,
    client: &Client,
    headers: &HeaderMap,
    query: Option<&str>,
) -> Result<Answer, Problem> {
    client.needs(super::Right::Read)?;
    let [how_long] = path::query(query, ["for"])?;
    let life = how_long
        .map_or(Ok(STREAM_LIFE_MAX), |text| path::seconds("for", &text, STREAM_LIFE_MAX))?;
    let last_id = headers.get("last-event-id").map(HeaderValue::as_bytes);
    let from = match last_id {
        // From now on.
        None => Some(context.news.moves().last()),
        Some(id) => std::str::from_utf8(id).ok().and_then(|id| context.news.number(id)),
    };
    let place = place(context)?;
    let (feed, fed) = mpsc::channel(PIECES_WAITING_MAX);
    let stream = Stream {
        news: Arc::clone(&context.news),
        client: client.clone(),
        feed,
        until: Instant::now() + life,
        stop: context.stop.clone(),
        _place: place,
    };
    tokio::spawn(stream.run(from));
    let mut answer = Response::new(Fed(fed).boxed_unsync());
    let headers = answer.headers_mut();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static("text/event-stream"));
    headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    // Proxies that collect an answer before they pass it on would make it useless.
    headers.insert("x-accel-buffering", HeaderValue::from_static("no"));
    Ok(answer)
}

/// A place among those who wait.
pub(super) fn place(context: &Context) -> Result<OwnedSemaphorePermit, Problem> {
    Arc::clone(&context.waiters).try_acquire_owned().map_err(|_| {
        let mut problem = Problem::new(
            Code::TooManyWait,
            "as many wait for news already as may; ask without waiting",
        );
        problem.retry_after = Some(RETRY_WHEN_FULL);
        problem
    })
}

/// One who listens.
struct Stream {
    news: Arc<News>,
    client: Client,
    feed: mpsc::Sender<Bytes>,
    until: Instant,
    stop: watch::Receiver<bool>,
    _place: OwnedSemaphorePermit,
}

impl Stream {
    async fn run(mut self, from: Option<u64>) {
        let mut last = self.news.last.subscribe();
        let mut from = from;
        if !self.say(format!("retry: {RETRY_MS}\n\n")).await {
            return;
        }
        loop {
            last.borrow_and_update();
            let (text, reached) = self.news.after(from, &self.client);
            let is_behind = from != Some(reached) && reached < self.news.moves().last();
            from = Some(reached);
            if !text.is_empty() && !self.say(text).await {
                return;
            }
            if is_behind {
                continue;
            }
            let beat = Instant::now() + HEARTBEAT_EVERY;
            let say = tokio::select! {
                changed = last.changed() => changed.is_ok().then(String::new),
                () = self.feed.closed() => None,
                () = sleep_until(self.until) => None,
                _ = self.stop.wait_for(|stop| *stop) => None,
                () = sleep_until(beat) => Some(":\n\n".to_owned()),
            };
            let Some(text) = say else { return };
            if !text.is_empty() && !self.say(text).await {
                return;
            }
        }
    }

    /// False when nobody listens any more. Whoever reads nothing loses the place with the connection.
    async fn say(&mut self, text: String) -> bool {
        tokio::select! {
            said = self.feed.send(text.into()) => said.is_ok(),
            () = sleep_until(self.until) => false,
            _ = self.stop.wait_for(|stop| *stop) => false,
        }
    }
}

/// A body that is fed.
struct Fed(mpsc::Receiver<Bytes>);

impl Body for Fed {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut task::Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        self.0.poll_recv(context).map(|piece| piece.map(|piece| Ok(Frame::data(piece))))
    }
}

/// Moves that are kept for those who come back.
pub const MOVES_KEPT: usize = 4_096;

/// Who may wait for news at a time, on streams and at gates.
pub const WAITERS_MAX: usize = 128;

/// Shorter than a connection may live, so that a stream ends between two events and not within one.
const STREAM_LIFE_MAX: Duration = Duration::from_secs(240);

/// Often enough that no proxy on the way thinks the connection dead.
const HEARTBEAT_EVERY: Duration = Duration::from_secs(15);

const EVENTS_AT_ONCE_MAX: usize = 256;
const PIECES_WAITING_MAX: usize = 4;
const RETRY_MS: u64 = 1_000;
const RETRY_WHEN_FULL: Duration = Duration::from_secs(10);
