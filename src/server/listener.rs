//! Accepts connections and serves HTTP/1 on them, bounded in number and in time.

use super::{
    answer::Answer,
    socket::{Accepted, Socket},
};
use hyper::{Request, body::Incoming, server::conn::http1, service::service_fn};
use hyper_util::rt::{TokioIo, TokioTimer};
use std::{convert::Infallible, io, pin::pin, sync::Arc, time::Duration};
use tokio::{
    sync::{Semaphore, watch},
    task::JoinSet,
    time::{sleep, timeout},
};

/// Bounds on what clients may take up.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// Open connections; more wait in the kernel's queue.
    pub connections_max: usize,
    /// From the moment a connection waits for a request to the end of the request's headers. So it is
    /// also how long an idle connection is kept.
    pub header_deadline: Duration,
    /// A connection is closed at this age, after the answer that is under way: a client that reads
    /// nothing must not hold its place for ever.
    pub connection_life_max: Duration,
    /// After that, or after the stop, how long an answer may still take.
    pub last_answer_deadline: Duration,
}

impl Limits {
    /// The usual bounds with this many connections.
    #[must_use]
    pub const fn with_connections(connections_max: usize) -> Self {
        Self {
            connections_max,
            header_deadline: HEADER_DEADLINE,
            connection_life_max: CONNECTION_LIFE_MAX,
            last_answer_deadline: LAST_ANSWER_DEADLINE,
        }
    }
}

/// Serves until `stop` turns true, then lets answers that are under way be finished. An error of one
/// connection is that connection's end and nothing else's.
pub async fn run<H, F>(
    listener: impl Into<Socket>,
    limits: Limits,
    handler: H,
    mut stop: watch::Receiver<bool>,
) where
    H: Fn(Request<Incoming>) -> F + Clone + Send + Sync + 'static,
    F: Future<Output = Answer> + Send + 'static,
{
    let listener = listener.into();
    let places = Arc::new(Semaphore::new(limits.connections_max));
    let mut connections = JoinSet::new();
    loop {
        let place = Arc::clone(&places).acquire_owned();
        let accepted = tokio::select! {
            // Who stopped caring is told apart from who says stop: neither wants more connections.
            _ = stop.wait_for(|stop| *stop) => break,
            Some(_) = connections.join_next() => continue,
            accepted = async { (place.await, accept(&listener).await) } => accepted,
        };
        let (Ok(place), stream) = accepted else { break };
        let (handler, stop) = (handler.clone(), stop.clone());
        connections.spawn(async move {
            serve(stream, limits, handler, stop).await;
            drop(place);
        });
    }
    drop(listener);
    while connections.join_next().await.is_some() {}
}

/// The next connection. Accepting fails when file descriptors run out and when a client is gone before it
/// was accepted; both pass, and a listener that gave up would be a sidecar nobody can see any more.
async fn accept(listener: &Socket) -> Accepted {
    let mut pause = ACCEPT_PAUSE_FIRST;
    loop {
        match listener.accept().await {
            Ok(accepted) => return accepted,
            Err(error) if is_about_one_connection(&error) => {}
            Err(error) => {
                tracing::warn!(%error, "no connection can be accepted; it is tried again");
                sleep(pause).await;
                pause = (pause * 2).min(ACCEPT_PAUSE_MAX);
            }
        }
    }
}

fn is_about_one_connection(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::ConnectionAborted | io::ErrorKind::ConnectionReset)
}

async fn serve<H, F>(
    accepted: Accepted,
    limits: Limits,
    handler: H,
    mut stop: watch::Receiver<bool>,
) where
    H: Fn(Request<Incoming>) -> F,
    F: Future<Output = Answer>,
{
    // A handshake is part of the head: whoever never finishes it must not hold a place.
    let opened = tokio::select! {
        opened = timeout(limits.header_deadline, accepted.open()) => opened,
        _ = stop.wait_for(|stop| *stop) => return,
    };
    let Ok(Ok(stream)) = opened else { return };
    let service = service_fn(|request| {
        let answer = handler(request);
        async { Ok::<_, Infallible>(answer.await) }
    });
    let mut connection = pin!(
        http1::Builder::new()
            // Without a timer hyper has no deadlines at all, not even the one set below.
            .timer(TokioTimer::new())
            .header_read_timeout(limits.header_deadline)
            .max_buf_size(BUFFER_BYTES_MAX)
            .serve_connection(TokioIo::new(stream), service)
    );
    tokio::select! {
        _ = connection.as_mut() => return,
        () = sleep(limits.connection_life_max) => {}
        _ = stop.wait_for(|stop| *stop) => {}
    }
    connection.as_mut().graceful_shutdown();
    let _ = timeout(limits.last_answer_deadline, connection).await;
}

/// How long a request's headers may take.
pub const HEADER_DEADLINE: Duration = Duration::from_secs(5);

/// How old a connection may become.
pub const CONNECTION_LIFE_MAX: Duration = Duration::from_secs(300);

/// How long the last answer of a connection may take. Prometheus' own scrape timeout is ten seconds.
pub const LAST_ANSWER_DEADLINE: Duration = Duration::from_secs(15);

/// Longest request head, and what is buffered of an answer.
const BUFFER_BYTES_MAX: usize = 32 * 1024;

const ACCEPT_PAUSE_FIRST: Duration = Duration::from_millis(5);
const ACCEPT_PAUSE_MAX: Duration = Duration::from_secs(1);
