//! One account as a line of a table.

use super::{
    plot::{self, Hours, Life},
    scene::Scene,
    words::{self, Moment, Tone},
};
use crate::core::{
    Account, Busy, Cause, Gate,
    diagnose::{self, Diagnosis, Tally},
    second_clock::{End, Moves, Provenance},
};
use serde::Serialize;
use std::time::Duration;

/// One account.
#[derive(Serialize)]
pub(super) struct Row<'a> {
    provider: &'a str,
    account: &'a str,
    app: &'a str,
    link: String,
    trouble: Option<Trouble>,
    /// What is under way, in words.
    doing: Option<&'static str>,
    missing_scopes: Vec<&'a str>,
    gate: GateView,
    /// Posts that wait, if any do.
    posts: Option<String>,
    life: Option<Life>,
    expires: Option<Moment>,
    due: Option<Moment>,
    connection: Option<Connection>,
    /// Whether the provider takes the connection no more, whatever end it once declared.
    is_over: bool,
    last_refresh: Option<Moment>,
    unauthorized: Option<Hours>,
}

/// What is wrong, and what to do.
#[derive(Serialize)]
pub(super) struct Trouble {
    pub(super) words: String,
    pub(super) tone: Tone,
    pub(super) sentence: &'static str,
    pub(super) who: &'static str,
    pub(super) next_step: &'static str,
    pub(super) since: Option<Moment>,
}

/// May the publisher publish?
#[derive(Serialize)]
pub(super) struct GateView {
    words: String,
    tone: Tone,
    sentence: String,
    since: Option<Moment>,
}

/// The refresh token's own end.
#[derive(Serialize)]
struct Connection {
    at: Moment,
    /// How that is known, where it is not simply declared.
    how: Option<&'static str>,
    /// Worth a line in a list: it ended, or comes soon and no renewal moves it.
    matters: bool,
}

impl<'a> Row<'a> {
    pub(super) fn of(account: &'a Account, scene: &Scene<'a>, tally: &Tally) -> Self {
        let now = scene.now;
        let moment = |at| Moment::of(at, now);
        let token = account.token;
        let diagnosis =
            account.cause.map(|_| diagnose::diagnose(&tally.case(scene.snapshot, account, now)));
        let end = account.refresh_end;
        let ends = end.map(|end| end.at).or_else(|| token?.refresh_expires_at);
        let is_over = account.cause.is_some_and(Cause::needs_reconnect);
        let posts = scene.posts_waiting(&account.id).filter(|posts| *posts > 0);
        Self {
            provider: &account.id.provider,
            account: &account.id.account,
            app: &account.app,
            link: words::account_path(&account.id),
            trouble: diagnosis.and_then(|diagnosis| Trouble::of(&diagnosis, scene)),
            doing: doing(account.busy),
            missing_scopes: scene.snapshot.missing_scopes(account).collect(),
            gate: GateView::of(account, scene),
            posts: posts.map(|posts| {
                words::counted(
                    usize::try_from(posts).unwrap_or(usize::MAX),
                    "post waits",
                    "posts wait",
                )
            }),
            life: Life::of(account, now),
            expires: token.and_then(|token| token.expires_at).map(moment),
            due: plot::due_at(account).map(moment),
            // An end to come, of what the provider takes no more, would be a false hope.
            connection: ends.filter(|at| *at <= now || !is_over).map(|at| Connection {
                at: moment(at),
                how: end.and_then(how),
                matters: at <= now
                    || at.since(now) < CONNECTION_SOON
                        && (account.cause.is_some()
                            || end.is_none_or(|end| end.moves != Moves::Sliding)),
            }),
            is_over,
            last_refresh: account.last_refresh_at.map(moment),
            unauthorized: Hours::of(scene, account),
        }
    }
}

impl Trouble {
    pub(super) fn of(diagnosis: &Diagnosis, scene: &Scene<'_>) -> Option<Self> {
        let cause = diagnosis.cause?;
        Some(Self {
            words: words::cause(cause),
            tone: Tone::of(cause),
            sentence: cause.sentence(),
            who: words::who(diagnosis.step.actor()),
            next_step: diagnosis.step.sentence(),
            since: diagnosis.since.map(|at| Moment::of(at, scene.now)),
        })
    }
}

impl GateView {
    pub(super) fn of(account: &Account, scene: &Scene<'_>) -> Self {
        let door = &account.door;
        Self {
            words: words::gate(door),
            tone: match door.gate {
                Gate::Open => Tone::Good,
                Gate::Held => Tone::Bad,
                Gate::Canary => Tone::Low,
            },
            sentence: words::gate_sentence(door),
            since: door.since.map(|at| Moment::of(at, scene.now)),
        }
    }
}

/// What a reader should know of an end beside its instant.
const fn how(end: End) -> Option<&'static str> {
    match (end.from, end.moves) {
        (Provenance::Estimated, Moves::Sliding) => Some("an estimate; each renewal moves it on"),
        (Provenance::Estimated, _) => Some("an estimate"),
        (_, Moves::Sliding) => Some("each renewal moves it on"),
        (_, Moves::Absolute) => Some("renewals do not move it"),
        (Provenance::Stored, Moves::Unknown) => Some("by what the store says"),
        (_, Moves::Unknown) => None,
    }
}

const fn doing(busy: Busy) -> Option<&'static str> {
    match busy {
        Busy::Refreshing => Some("being renewed now"),
        Busy::Saving => Some("being saved now"),
        Busy::Probing => Some("being checked now"),
        Busy::Proving => Some("being proven now"),
        Busy::Idle => None,
    }
}

/// An end of a connection that is further away is no news in a list.
const CONNECTION_SOON: Duration = Duration::from_secs(30 * 86_400);
