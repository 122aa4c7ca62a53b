//! Validate the connection, then publish, in one motion: permits.
//!
//! Who may go and who waits is decided in [`crate::core::permits`]; this reads the gate, asks there under a lock that
//! nobody holds for longer than that, and hands out the token where that is wanted and allowed. The post that is to
//! prove an account goes when that is written down: after a kill, or at another replica, it is still the only one.

use super::{
    Client, Context, Promise, Right, gates, path,
    problem::{Code, Problem},
    tokens,
    whole::Whole,
};
use crate::{
    core::{
        AccountId, Gate, Snapshot, Timestamp,
        permits::{Ask, Canary, Forgotten, Kind, Pace, Permit, Permits as Lines},
    },
    metrics::{Metrics, events::PermitAnswer},
    server::{
        answer::{Answer, json},
        bounded::body,
    },
};
use hyper::{Request, StatusCode, body::Incoming};
use serde::{Deserialize, Serialize};
use std::{
    collections::BTreeSet,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};
use tokio::time::Instant;

/// Writes down which post may prove which account. `app` fills it.
pub trait Canaries: Send + Sync {
    /// Lets `post` prove `id` until `until`, unless another one may, and answers with the one that may. An error when
    /// it cannot be written down.
    fn claim(
        &self,
        id: &AccountId,
        post: &Arc<str>,
        now: Timestamp,
        until: Timestamp,
    ) -> Promise<Result<Canary, ()>>;

    /// The post was reported: it goes no more, and no other one before `until`.
    fn report(&self, id: &AccountId, until: Timestamp) -> Promise<()>;
}

/// Every post that waits, for all handlers.
pub struct Permits {
    lines: Mutex<Lines>,
    /// Accounts of which it is written down which post may prove them.
    written: Mutex<BTreeSet<AccountId>>,
    metrics: Metrics,
    /// Set with each change, until somebody looks.
    changed: AtomicBool,
}

impl Permits {
    /// Nobody waits yet.
    #[must_use]
    pub fn new(pace: Pace, metrics: Metrics) -> Self {
        Self {
            lines: Mutex::new(Lines::new(pace)),
            written: Mutex::default(),
            metrics,
            changed: AtomicBool::new(true),
        }
    }

    /// It goes on at another pace.
    pub fn set_pace(&self, pace: Pace) {
        self.change(|lines| lines.set_pace(pace));
    }

    /// The gate of an account moved. True when something that was written down of it is over.
    pub fn see(&self, now: Timestamp, id: &AccountId, gate: Gate) -> bool {
        self.change(|lines| lines.see(now, id, gate));
        gate != Gate::Canary && self.written().remove(id)
    }

    /// The post that was to prove an account was reported.
    pub(super) fn reported(&self, now: Timestamp, id: &AccountId) {
        self.change(|lines| lines.reported(now, id));
    }

    fn claimed(&self, id: &AccountId, canary: Canary) {
        self.written().insert(id.clone());
        self.change(|lines| lines.claimed(id, canary));
    }

    /// Forgets who asks no more, and the accounts that are not ours any more.
    pub fn sweep(&self, now: Timestamp, snapshot: &Snapshot) {
        self.change(|lines| {
            lines.sweep(now);
            if snapshot.loaded {
                lines.retain(|id| snapshot.accounts.find(id).is_some());
            }
        });
        if snapshot.loaded {
            self.written().retain(|id| snapshot.accounts.find(id).is_some());
        }
    }

    /// Each account with posts that wait, when that may differ from what was told last.
    #[must_use]
    pub fn news(&self) -> Option<Vec<(AccountId, u64)>> {
        let news = self.changed.swap(false, Ordering::AcqRel);
        let of = |(id, posts): (&AccountId, usize)| (id.clone(), posts as u64);
        news.then(|| self.lock().waiting().map(of).collect())
    }

    fn change<R>(&self, change: impl FnOnce(&mut Lines) -> R) -> R {
        let mut lines = self.lock();
        let before = lines.forgotten();
        let answer = change(&mut lines);
        let after = lines.forgotten();
        drop(lines);
        self.changed.store(true, Ordering::Release);
        let Forgotten { full, absent } = before;
        self.metrics.posts_forgotten(after.full - full, after.absent - absent);
        answer
    }

    fn written(&self) -> MutexGuard<'_, BTreeSet<AccountId>> {
        self.written.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn lock(&self) -> MutexGuard<'_, Lines> {
        // What a panic left behind is at worst a post too many or too few.
        self.lines.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

pub(super) async fn answer(
    context: &Context,
    client: &Client,
    id: &AccountId,
    request: Request<Incoming>,
) -> Result<Answer, Problem> {
    path::query(request.uri().query(), [])?;
    let deadline = Instant::now() + context.body_deadline;
    let bytes = body(request.into_body(), BODY_BYTES_MAX, deadline).await?;
    let wish = Wish::read(&bytes)?;
    let newest = match wish.token {
        true => {
            client.needs(Right::Token)?;
            Some(tokens::newest(context)?)
        }
        false => None,
    };
    let ends_at = context.seen().accounts.find(id).and_then(|account| account.token?.expires_at);
    let seen = gates::seen(context, id).await?;
    let is_here = context.seen().accounts.find(id).is_some();
    if !is_here && seen.gate == Gate::Canary {
        // Exactly one post may go, and only whoever looks after the account can say which.
        return Err(Problem::new(
            Code::NotHeldHere,
            "ask the replica that looks after this account",
        ));
    }
    let ask = Ask {
        post: wish.post.into(),
        scheduled_at: wish.scheduled_at.map(|Whole(at)| Timestamp::from_unix(at)),
    };
    let now = context.clock.now();
    let permit = match (is_here, seen.gate) {
        (false, Gate::Held) => {
            Permit::Wait { retry_after: seen.retry_after().unwrap_or_default(), ahead: 0 }
        }
        _ => context.permits.change(|lines| lines.ask(now, id, seen.gate, &ask)),
    };
    let permit = match permit {
        Permit::Granted { kind: Kind::Canary, deadline } => {
            written_down(context, id, &ask, (now, deadline)).await?
        }
        permit => permit,
    };
    let view = match permit {
        Permit::Wait { retry_after, ahead } => {
            let answer =
                if seen.gate == Gate::Held { PermitAnswer::Held } else { PermitAnswer::Wait };
            context.metrics.permit(answer);
            View::refused(&seen, retry_after, ahead)
        }
        Permit::Granted { kind, deadline } => {
            context.metrics.permit(match kind {
                Kind::Open => PermitAnswer::Open,
                Kind::Canary => PermitAnswer::Canary,
            });
            let token = match newest {
                Some(newest) => Some(tokens::read(context, newest, client, id).await?),
                None => None,
            };
            let deadline = ends_at.map_or(deadline, |end| end.max(now).min(deadline));
            let view =
                View::granted(&seen, kind, deadline, token.as_ref().map(|token| token.view()));
            return Ok(json(StatusCode::OK, &view));
        }
    };
    Ok(json(StatusCode::OK, &view))
}

/// What the post that would prove the account is told when it is known which one may, whoever let it go.
async fn written_down(
    context: &Context,
    id: &AccountId,
    ask: &Ask,
    (now, until): (Timestamp, Timestamp),
) -> Result<Permit, Problem> {
    let claim = context.canaries.claim(id, &ask.post, now, until).await;
    let again =
        || Problem::unavailable("which post is to prove it cannot be written down; ask again");
    context.permits.claimed(id, claim.map_err(|()| again())?);
    Ok(context.permits.change(|lines| lines.ask(now, id, Gate::Canary, ask)))
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Wish {
    post: String,
    scheduled_at: Option<Whole>,
    /// Whether the token should come along.
    #[serde(default)]
    token: bool,
}

impl Wish {
    fn read(bytes: &[u8]) -> Result<Self, Problem> {
        let wish: Self = serde_json::from_slice(bytes).map_err(|error| {
            let (line, column) = (error.line(), error.column());
            let expected = r#"{"post":"id","scheduled_at":1800000000}"#;
            Problem::malformed(format!("line {line} column {column}: expected {expected}"))
        })?;
        if !(1..=POST_CHARS_MAX).contains(&wish.post.chars().count()) {
            return Err(Problem::malformed(format!(
                "post: expected 1 to {POST_CHARS_MAX} characters"
            )));
        }
        if wish.scheduled_at.is_some_and(|Whole(at)| !(0..=SCHEDULED_MAX).contains(&at)) {
            return Err(Problem::malformed("scheduled_at: expected Unix seconds"));
        }
        Ok(wish)
    }
}

#[derive(Serialize)]
struct View<'a> {
    granted: bool,
    gate: &'static str,
    cause: Option<&'static str>,
    known: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    kind: Option<&'static str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    deadline: Option<i64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    token: Option<tokens::View<'a>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    retry_after: Option<u64>,
    /// Posts of the account that go first.
    #[serde(skip_serializing_if = "Option::is_none")]
    ahead: Option<usize>,
}

impl<'a> View<'a> {
    fn of(seen: &gates::Seen, granted: bool) -> Self {
        let gates::View { gate, cause, known, .. } = seen.view();
        Self {
            granted,
            gate,
            cause,
            known,
            kind: None,
            deadline: None,
            token: None,
            retry_after: None,
            ahead: None,
        }
    }

    fn refused(seen: &gates::Seen, retry_after: Duration, ahead: usize) -> Self {
        let retry_after = Some(retry_after.as_secs().max(1));
        Self { retry_after, ahead: Some(ahead), ..Self::of(seen, false) }
    }

    fn granted(
        seen: &gates::Seen,
        kind: Kind,
        deadline: Timestamp,
        token: Option<tokens::View<'a>>,
    ) -> Self {
        let kind = Some(kind.as_label());
        Self { kind, deadline: Some(deadline.as_unix()), token, ..Self::of(seen, true) }
    }
}

/// Longest name of a post.
pub const POST_CHARS_MAX: usize = 128;

const BODY_BYTES_MAX: usize = 4 * 1024;

/// The last second that our instants can express.
const SCHEDULED_MAX: i64 = Timestamp::MAX.as_unix();
