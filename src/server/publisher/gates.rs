//! The gate of one account, for a publisher that is about to publish.

use super::{
    Context, Promise,
    accounts::etag_of,
    events, path,
    problem::{Code, Problem},
};
use crate::{
    core::{Account, AccountId, Door, Gate, Snapshot, Timestamp, Why},
    server::answer::{Answer, json},
};
use hyper::{
    StatusCode,
    header::{ETAG, HeaderValue},
};
use serde::Serialize;
use std::{borrow::Cow, time::Duration};
use tokio::time::{Instant, sleep_until};

/// What a publisher is told while nobody knows the gate.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum WhenUnknown {
    /// Publish, as it would without a sidecar.
    #[default]
    Open,
    /// Wait.
    Held,
}

/// What our state remembers of an account's gate; `Err` when it does not answer.
pub type Remembered = dyn Fn(AccountId) -> Promise<Result<Option<Door>, ()>> + Send + Sync;

/// A gate as it is told.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Seen {
    pub(super) gate: Gate,
    pub(super) why: Option<Why>,
    pub(super) since: Option<Timestamp>,
    /// False when it is the setting that speaks, or what was last known.
    pub(super) known: bool,
}

/// A gate in an answer.
#[derive(Clone, Debug, Serialize)]
pub(super) struct View {
    pub(super) gate: &'static str,
    pub(super) may_publish: bool,
    pub(super) cause: Option<&'static str>,
    pub(super) since: Option<i64>,
    pub(super) known: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) retry_after: Option<u64>,
    /// What `?since=` wants to be told.
    pub(super) etag: String,
}

impl Seen {
    /// Worth asking again after this.
    pub(super) const fn retry_after(&self) -> Option<Duration> {
        match self.gate {
            Gate::Open => None,
            Gate::Canary => Some(RETRY_WHILE_CANARY),
            Gate::Held => Some(RETRY_WHILE_HELD),
        }
    }

    pub(super) fn view(self) -> View {
        let cause = self.why.filter(|_| self.gate != Gate::Open).map(Why::as_label);
        View {
            gate: self.gate.as_label(),
            may_publish: self.gate == Gate::Open,
            cause,
            since: self.since.map(Timestamp::as_unix),
            known: self.known,
            retry_after: self.retry_after().map(|after| after.as_secs()),
            etag: etag_of(&self),
        }
    }
}

pub(super) async fn answer(
    context: &Context,
    id: &AccountId,
    query: Option<&str>,
) -> Result<Answer, Problem> {
    let [wait, since] = path::query(query, ["wait", "since"])?;
    let wait = wait.map_or(Ok(Duration::ZERO), |text| path::seconds("wait", &text, WAIT_MAX))?;
    if since.as_ref().is_some_and(|since| since.chars().count() > ETAG_CHARS_MAX) {
        return Err(Problem::malformed("since: expected the etag of an earlier answer"));
    }
    let mut seen = seen(context, id).await?;
    if !wait.is_zero() {
        let known = since.map_or_else(|| etag_of(&seen), Cow::into_owned);
        seen = changed(context, id, seen, known.trim_matches('"'), wait).await?;
    }
    let view = seen.view();
    let etag = HeaderValue::from_str(&format!("\"{}\"", view.etag));
    let mut answer = json(StatusCode::OK, &view);
    answer.headers_mut().insert(ETAG, etag.expect("it is made of digits and letters"));
    Ok(answer)
}

/// The gate once it is told otherwise than `known`, or after `wait`.
async fn changed(
    context: &Context,
    id: &AccountId,
    mut seen: Seen,
    known: &str,
    wait: Duration,
) -> Result<Seen, Problem> {
    let _place = events::place(context)?;
    let until = Instant::now() + wait;
    let mut stop = context.stop.clone();
    while etag_of(&seen) == known && Instant::now() < until {
        // What another replica wrote down is read from the state, which others need as well.
        let is_here = context.snapshot.load().accounts.find(id).is_some();
        let look_at = Instant::now() + if is_here { LOOK_EVERY } else { LOOK_ELSEWHERE_EVERY };
        tokio::select! {
            () = sleep_until(look_at.min(until)) => {}
            _ = stop.wait_for(|stop| *stop) => break,
        }
        seen = self::seen(context, id).await?;
    }
    Ok(seen)
}

/// The gate as far as it is known.
pub(super) async fn seen(context: &Context, id: &AccountId) -> Result<Seen, Problem> {
    let snapshot = context.seen();
    let now = context.clock.now();
    if let Some(account) = snapshot.accounts.find(id) {
        return Ok(of_account(context, &snapshot, account));
    }
    let is_ours = snapshot.holding.contain(id);
    if is_ours && is_current(&snapshot, now) {
        return Err(no_such_account());
    }
    let is_anothers = snapshot.loaded && !is_ours;
    let remembered = (context.remembered)(id.clone()).await;
    match remembered {
        Ok(Some(door)) if is_anothers => Ok(Seen::of(&door, true)),
        _ if is_anothers => Err(Problem::new(
            Code::NotHeldHere,
            "another replica looks after this account and has not written its gate down; ask that one, or again",
        )),
        Ok(Some(door)) => Ok(last_known(&door, context.when_unknown)),
        Ok(None) | Err(()) => Ok(last_known(&Door::default(), context.when_unknown)),
    }
}

/// The gate of an account that the snapshot has.
pub(super) fn of_account(context: &Context, snapshot: &Snapshot, account: &Account) -> Seen {
    if is_current(snapshot, context.clock.now()) {
        return Seen::of(&account.door, true);
    }
    last_known(&account.door, context.when_unknown)
}

pub(super) fn no_such_account() -> Problem {
    Problem::new(Code::NoSuchAccount, "expected an account that is in the store and switched on")
}

impl Seen {
    const fn of(door: &Door, known: bool) -> Self {
        Self { gate: door.gate, why: door.why, since: door.since, known }
    }
}

/// What was shut stays shut: it needed proof, and there is none. Only of what was open the setting decides.
const fn last_known(door: &Door, when_unknown: WhenUnknown) -> Seen {
    let seen = Seen::of(door, false);
    match (door.gate, when_unknown) {
        (Gate::Open, WhenUnknown::Held) => {
            Seen { gate: Gate::Held, why: None, since: None, ..seen }
        }
        _ => seen,
    }
}

/// True while the snapshot says what is so: the store was read, the state takes what is decided, and the keeper has
/// been round lately.
pub(super) fn is_current(snapshot: &Snapshot, now: Timestamp) -> bool {
    snapshot.loaded && snapshot.state_up && now.since(snapshot.at) < STALE_AFTER
}

/// The keeper goes round once a minute at least.
pub const STALE_AFTER: Duration = Duration::from_secs(3 * 60);

/// Longest wait for a change.
pub const WAIT_MAX: Duration = Duration::from_secs(60);

/// Longer than any that we give.
const ETAG_CHARS_MAX: usize = 512;

const LOOK_EVERY: Duration = Duration::from_millis(250);
const LOOK_ELSEWHERE_EVERY: Duration = Duration::from_secs(2);
const RETRY_WHILE_HELD: Duration = Duration::from_secs(60);
const RETRY_WHILE_CANARY: Duration = Duration::from_secs(15);

#[cfg(test)]
mod tests {
    use super::*;
    use crate::core::Cause;

    #[test]
    fn while_nothing_is_known_the_setting_decides_about_open_gates_alone() {
        let door =
            |gate| Door { gate, why: Some(Why::Cause(Cause::ConsentRevoked)), ..Door::default() };
        let cases = [
            (Gate::Open, WhenUnknown::Open, Gate::Open),
            (Gate::Open, WhenUnknown::Held, Gate::Held),
            (Gate::Held, WhenUnknown::Open, Gate::Held),
            (Gate::Held, WhenUnknown::Held, Gate::Held),
            (Gate::Canary, WhenUnknown::Open, Gate::Canary),
            (Gate::Canary, WhenUnknown::Held, Gate::Canary),
        ];
        for (gate, when_unknown, expected) in cases {
            let seen = last_known(&door(gate), when_unknown);
            assert_eq!((seen.gate, seen.known), (expected, false), "{gate:?} {when_unknown:?}");
        }
    }

    #[test]
    fn a_snapshot_is_believed_for_as_long_as_the_keeper_goes_round() {
        let now = Timestamp::from_unix(1_800_000_000);
        let good = Snapshot { loaded: true, ..Snapshot::empty(now) };
        let cases = [
            ("fresh", good.clone(), true),
            ("never read", Snapshot { loaded: false, ..good.clone() }, false),
            ("the state is away", Snapshot { state_up: false, ..good.clone() }, false),
            ("the store is away", Snapshot { store_up: false, ..good.clone() }, true),
            (
                "just not old",
                Snapshot { at: now.minus(STALE_AFTER - Duration::from_secs(1)), ..good.clone() },
                true,
            ),
            ("old", Snapshot { at: now.minus(STALE_AFTER), ..good }, false),
        ];
        for (case, snapshot, expected) in cases {
            assert_eq!(is_current(&snapshot, now), expected, "{case}");
        }
    }
}
