//! The small HTTP server beneath the stage's provider and mailbox, with bodies that can misbehave.

use bytes::Bytes;
use http_body_util::{BodyExt, Limited};
use hyper::{
    Request, Response,
    body::{Body, Frame, Incoming, SizeHint},
    server::conn::http1,
    service::service_fn,
};
use hyper_util::rt::{TokioIo, TokioTimer};
use std::{
    collections::VecDeque,
    fmt,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
    time::Duration,
};
use tokio::{
    net::TcpListener,
    sync::Semaphore,
    task::JoinSet,
    time::{Sleep, sleep},
};

/// The connection is to be closed without another byte.
#[derive(Debug)]
pub(super) struct Closed;

impl fmt::Display for Closed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("the connection was closed on purpose")
    }
}

impl std::error::Error for Closed {}

/// Answers requests on `listener` until it is dropped; then open connections end too.
pub(super) async fn serve<H, F>(listener: TcpListener, answer: H)
where
    H: Fn(Request<Incoming>) -> F + Clone + Send + Sync + 'static,
    F: Future<Output = Result<Response<Reply>, Closed>> + Send + 'static,
{
    let room = Arc::new(Semaphore::new(CONNECTIONS_MAX));
    let mut connections = JoinSet::new();
    loop {
        let Ok(permit) = Arc::clone(&room).acquire_owned().await else { return };
        let Ok((stream, _)) = listener.accept().await else {
            // Usually "too many open files": a pause lets connections end, a return would end the stage.
            sleep(ACCEPT_PAUSE).await;
            continue;
        };
        while connections.try_join_next().is_some() {}
        let answer = answer.clone();
        connections.spawn(async move {
            let connection = http1::Builder::new()
                .timer(TokioTimer::new())
                .header_read_timeout(HEADER_DEADLINE)
                .serve_connection(TokioIo::new(stream), service_fn(answer));
            // A connection that was closed on purpose reports that as its error.
            let _ = connection.await;
            drop(permit);
        });
    }
}

/// The request's body, if it is UTF-8 of at most [`REQUEST_BYTES_MAX`].
pub(super) async fn text_of(body: Incoming) -> Option<String> {
    let bytes = Limited::new(body, REQUEST_BYTES_MAX).collect().await.ok()?.to_bytes();
    String::from_utf8(bytes.to_vec()).ok()
}

/// The pairs of a form body or of a query. A pair that is no UTF-8 after decoding is left out.
pub(super) fn pairs_of(encoded: &str) -> Vec<(String, String)> {
    encoded
        .split('&')
        .filter(|pair| !pair.is_empty())
        .filter_map(|pair| {
            let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
            Some((decode(name)?, decode(value)?))
        })
        .collect()
}

fn decode(text: &str) -> Option<String> {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.bytes();
    while let Some(byte) = rest.next() {
        bytes.push(match byte {
            b'+' => b' ',
            b'%' => {
                let high = char::from(rest.next()?).to_digit(16)?;
                let low = char::from(rest.next()?).to_digit(16)?;
                u8::try_from(high * 16 + low).ok()?
            }
            plain => plain,
        });
    }
    String::from_utf8(bytes).ok()
}

/// A client for the stage's own errands. No TLS is spoken on the stage; a set of no authorities saves
/// reading the system's.
pub(super) fn client() -> reqwest::Client {
    let ring = Arc::new(rustls::crypto::ring::default_provider());
    let tls = rustls::ClientConfig::builder_with_provider(ring)
        .with_safe_default_protocol_versions()
        .expect("ring speaks the default versions of TLS")
        .with_root_certificates(rustls::RootCertStore::empty())
        .with_no_client_auth();
    reqwest::Client::builder()
        .tls_backend_preconfigured(tls)
        .redirect(reqwest::redirect::Policy::none())
        .no_proxy()
        .timeout(ERRAND_DEADLINE)
        .build()
        .expect("nothing in these settings can fail")
}

/// A body in pieces, each after a pause; a piece may be the end of the connection.
pub(super) struct Reply {
    pieces: VecDeque<(Duration, Option<Bytes>)>,
    /// What `Content-Length` claims; `None` sends chunks.
    claimed: Option<u64>,
    pausing: Option<Pin<Box<Sleep>>>,
}

impl Reply {
    /// All of it at once.
    pub(super) fn whole(body: impl Into<Bytes>) -> Self {
        let body = body.into();
        let claimed = Some(body.len() as u64);
        Self::new([(Duration::ZERO, Some(body))], claimed)
    }

    /// Claims the whole length, sends half of it, and breaks the connection.
    pub(super) fn cut(body: &[u8]) -> Self {
        let half = Bytes::copy_from_slice(&body[..body.len() / 2]);
        // The pause lets the first half leave; without it hyper drops what it has buffered.
        Self::new([(Duration::ZERO, Some(half)), (BEFORE_THE_CUT, None)], Some(body.len() as u64))
    }

    /// A byte at a time.
    pub(super) fn trickling(body: &[u8], pause: Duration) -> Self {
        let pieces = body.iter().map(|byte| (pause, Some(Bytes::copy_from_slice(&[*byte]))));
        Self::new(pieces, Some(body.len() as u64))
    }

    /// The body and then blanks, in chunks, up to about `bytes`.
    pub(super) fn padded(body: impl Into<Bytes>, bytes: usize) -> Self {
        let padding = Bytes::from(vec![b' '; PADDING_BYTES]);
        let first = (Duration::ZERO, Some(body.into()));
        let more = (0..bytes / PADDING_BYTES).map(|_| (Duration::ZERO, Some(padding.clone())));
        Self::new(std::iter::once(first).chain(more), None)
    }

    fn new(
        pieces: impl IntoIterator<Item = (Duration, Option<Bytes>)>,
        claimed: Option<u64>,
    ) -> Self {
        Self { pieces: pieces.into_iter().collect(), claimed, pausing: None }
    }
}

impl Body for Reply {
    type Data = Bytes;
    type Error = Closed;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Closed>>> {
        let Some((pause, _)) = self.pieces.front() else { return Poll::Ready(None) };
        if !pause.is_zero() {
            let pause = *pause;
            let pausing = self.pausing.get_or_insert_with(|| Box::pin(sleep(pause)));
            std::task::ready!(pausing.as_mut().poll(context));
            self.pausing = None;
        }
        let piece = self.pieces.pop_front().and_then(|(_, piece)| piece);
        Poll::Ready(Some(piece.map(Frame::data).ok_or(Closed)))
    }

    fn is_end_stream(&self) -> bool {
        self.pieces.is_empty()
    }

    fn size_hint(&self) -> SizeHint {
        self.claimed.map_or_else(SizeHint::default, SizeHint::with_exact)
    }
}

/// Connections served at a time; more wait in the kernel's queue.
const CONNECTIONS_MAX: usize = 1024;
/// Longest body that a request may have.
const REQUEST_BYTES_MAX: usize = 64 * 1024;
const HEADER_DEADLINE: Duration = Duration::from_secs(30);
const ERRAND_DEADLINE: Duration = Duration::from_secs(5);
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);
const BEFORE_THE_CUT: Duration = Duration::from_millis(20);
const PADDING_BYTES: usize = 64 * 1024;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_form_is_decoded_and_damaged_pairs_are_left_out() {
        let pairs = pairs_of("grant_type=refresh_token&a=x%2By+z&bad=%zz&cut=%2&alone&=v");
        let expected = [("grant_type", "refresh_token"), ("a", "x+y z"), ("alone", ""), ("", "v")];
        assert_eq!(pairs, expected.map(|(name, value)| (name.to_owned(), value.to_owned())));
    }
}
