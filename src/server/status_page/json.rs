//! The same as the pages say, for programs. Field names are an API and described in `docs/status.md`; instants are Unix
//! seconds, what is not known is `null`.

use super::{
    counts::Counts,
    fleet,
    list::{self, Blocks, ROWS_PER_PAGE},
    plot,
    query::Query,
    scene::Scene,
    timeline, words,
};
use crate::core::{
    Account, AccountId, AppView, Cause, Gate, Suspect, Timestamp, Why,
    diagnose::{self, Fact, Tally},
    recent::{HOURS, Happening},
};
use serde::Serialize;

#[derive(Serialize)]
pub(super) struct List<'a> {
    at: i64,
    counted_since: i64,
    loaded: bool,
    verdict: String,
    fleet: Fleet,
    sidecar: Vec<fleet::Part>,
    apps: Vec<App<'a>>,
    found: usize,
    page: usize,
    pages: usize,
    /// Where the next page is; `null` on the last one.
    next: Option<String>,
    accounts: Vec<Row<'a>>,
}

#[derive(Serialize)]
struct Fleet {
    accounts: usize,
    healthy: usize,
    held: usize,
    canary: usize,
    unsaved: usize,
    in_flight: usize,
    unauthorized_last_day: u64,
}

#[derive(Serialize)]
struct Row<'a> {
    provider: &'a str,
    account: &'a str,
    app: &'a str,
    cause: Option<&'static str>,
    cause_since: Option<i64>,
    who_acts: Option<&'static str>,
    next_step: Option<&'static str>,
    gate: Door,
    issued_at: Option<i64>,
    expires_at: Option<i64>,
    refresh_expires_at: Option<i64>,
    refresh_due_at: Option<i64>,
    /// From 1 down to 0.
    life_left: Option<f64>,
    last_refresh_at: Option<i64>,
    missing_scopes: Vec<&'a str>,
    unauthorized_last_day: u32,
    posts_waiting: Option<u64>,
    page: String,
}

#[derive(Serialize)]
struct Door {
    gate: &'static str,
    why: Option<&'static str>,
    since: Option<i64>,
}

/// One account.
#[derive(Serialize)]
pub(super) struct One<'a> {
    at: i64,
    counted_since: i64,
    #[serde(flatten)]
    row: Row<'a>,
    fingerprint: Option<String>,
    first_seen_at: Option<i64>,
    /// The oldest hour first, the one that is running last.
    unauthorized_by_hour: [u16; HOURS],
    diagnosis: Diagnosis,
    tokens: Vec<Token>,
    timeline: Vec<Line>,
}

#[derive(Serialize)]
struct Diagnosis {
    confidence: Option<&'static str>,
    suspects: Vec<&'static str>,
    reasons_for: Vec<Reason>,
    reasons_against: Vec<Reason>,
    ruled_out: Vec<RuledOut>,
}

#[derive(Serialize)]
struct Reason {
    text: String,
    at: Option<i64>,
}

#[derive(Serialize)]
struct RuledOut {
    cause: &'static str,
    because: Reason,
}

/// A token that the account got since the start.
#[derive(Serialize)]
struct Token {
    from: i64,
    ends: i64,
}

#[derive(Serialize)]
struct Line {
    at: i64,
    what: String,
    detail: Option<String>,
}

/// An app.
#[derive(Serialize)]
pub(super) struct App<'a> {
    name: &'a str,
    provider: &'a str,
    sandbox: bool,
    frozen: Option<&'static str>,
    frozen_since: Option<i64>,
    refusals: u32,
    suspect: Option<&'static str>,
    accounts: usize,
    not_well: usize,
}

/// A provider.
#[derive(Serialize)]
pub(super) struct Provider<'a> {
    name: String,
    clock_ahead: Option<i64>,
    accounts: usize,
    not_well: usize,
    apps: Vec<App<'a>>,
}

/// What was asked for could not be shown.
#[derive(Serialize)]
pub(super) struct Missing {
    pub(super) error: String,
}

pub(super) fn list<'a>(scene: &Scene<'a>, query: &Query, blocks: &'a Blocks) -> List<'a> {
    let (counts, mut ranks) = list::rank(scene, query, blocks);
    let found = ranks.len();
    let last_page = found.saturating_sub(1) / ROWS_PER_PAGE;
    let page = query.page.min(last_page);
    let shown = list::first_of(&mut ranks, page * ROWS_PER_PAGE, ROWS_PER_PAGE);
    let tally = list::tally(scene, shown, blocks);
    let todos = fleet::todos(scene, &counts, query);
    let next = (page < last_page).then(|| query.with_page(page + 1).path_below("/accounts.json"));
    List {
        at: scene.now.as_unix(),
        counted_since: scene.snapshot.began_at.as_unix(),
        loaded: scene.snapshot.loaded,
        verdict: fleet::verdict(scene, &counts, &todos).headline,
        fleet: Fleet {
            accounts: scene.snapshot.accounts.len(),
            healthy: counts.healthy(),
            held: counts.gate(Gate::Held),
            canary: counts.gate(Gate::Canary),
            unsaved: scene.snapshot.unsaved,
            in_flight: scene.snapshot.in_flight,
            unauthorized_last_day: counts.unauthorized,
        },
        sidecar: fleet::parts(scene),
        apps: scene.snapshot.apps.iter().map(|one| App::of(one, &counts)).collect(),
        found,
        page: page + 1,
        pages: last_page + 1,
        next,
        accounts: shown.iter().map(|rank| row(rank.account(blocks), scene, &tally)).collect(),
    }
}

/// `None` where the snapshot has no such account.
pub(super) fn account<'a>(scene: &Scene<'a>, id: &AccountId) -> Option<One<'a>> {
    let account = scene.snapshot.accounts.find(id)?;
    let tally = Tally::of(scene.snapshot);
    let diagnosis = diagnose::diagnose(&tally.case(scene.snapshot, account, scene.now));
    let reasons = |facts: &[Fact]| facts.iter().map(Reason::of).collect();
    let marks = account.recent.as_deref().map_or(&[][..], |recent| recent.marks());
    Some(One {
        at: scene.now.as_unix(),
        counted_since: scene.snapshot.began_at.as_unix(),
        row: row(account, scene, &tally),
        fingerprint: account.token.map(|token| token.token.to_string()),
        first_seen_at: unix(account.first_seen_at),
        unauthorized_by_hour: scene.unauthorized(account).unwrap_or_default(),
        diagnosis: Diagnosis {
            confidence: diagnosis.cause.map(|_| diagnosis.confidence.as_label()),
            suspects: diagnosis.suspects.iter().map(|cause| cause.as_label()).collect(),
            reasons_for: reasons(&diagnosis.reasons_for),
            reasons_against: reasons(&diagnosis.reasons_against),
            ruled_out: diagnosis
                .ruled_out
                .iter()
                .map(|(cause, fact)| RuledOut {
                    cause: cause.as_label(),
                    because: Reason::of(fact),
                })
                .collect(),
        },
        tokens: marks
            .iter()
            .filter_map(|mark| match mark.what {
                Happening::NewToken { ends: Some(ends), .. } => {
                    Some(Token { from: mark.at.as_unix(), ends: ends.as_unix() })
                }
                _ => None,
            })
            .collect(),
        timeline: timeline::of(account, scene.now)
            .into_iter()
            .map(|line| Line { at: line.at.as_unix(), what: line.what, detail: line.detail })
            .collect(),
    })
}

/// `None` where the configuration has no such app.
pub(super) fn app<'a>(scene: &Scene<'a>, name: &str, blocks: &Blocks) -> Option<App<'a>> {
    let (counts, _) = list::rank(scene, &Query::default(), blocks);
    scene.app(name).map(|app| App::of(app, &counts))
}

/// `None` where neither an account nor an app has this provider.
pub(super) fn provider<'a>(scene: &Scene<'a>, name: &str, blocks: &Blocks) -> Option<Provider<'a>> {
    let (counts, _) = list::rank(scene, &Query::default(), blocks);
    let (accounts, not_well) = counts.provider(name);
    let apps = scene.snapshot.apps.iter().filter(|app| *app.provider == *name);
    let apps: Vec<App<'a>> = apps.map(|app| App::of(app, &counts)).collect();
    let offset = scene.snapshot.clock_offsets.iter().find(|(provider, _)| **provider == *name);
    let is_known = accounts > 0 || !apps.is_empty();
    is_known.then(|| Provider {
        name: name.to_owned(),
        clock_ahead: offset.map(|(_, by)| *by),
        accounts,
        not_well,
        apps,
    })
}

fn row<'a>(account: &'a Account, scene: &Scene<'a>, tally: &Tally) -> Row<'a> {
    let token = account.token;
    let step = account
        .cause
        .map(|_| diagnose::diagnose(&tally.case(scene.snapshot, account, scene.now)).step);
    let refresh_end = account.refresh_end.map(|end| end.at);
    Row {
        provider: &account.id.provider,
        account: &account.id.account,
        app: &account.app,
        cause: account.cause.map(Cause::as_label),
        cause_since: unix(account.cause_since),
        who_acts: step.map(|step| words::actor(step.actor())),
        next_step: step.map(|step| step.sentence()),
        gate: Door {
            gate: account.door.gate.as_label(),
            why: account.door.why.filter(|_| account.door.gate != Gate::Open).map(Why::as_label),
            since: unix(account.door.since),
        },
        issued_at: unix(token.map(|token| token.issued_at)),
        expires_at: unix(token.and_then(|token| token.expires_at)),
        refresh_expires_at: unix(refresh_end.or_else(|| token?.refresh_expires_at)),
        refresh_due_at: unix(plot::due_at(account)),
        // Four digits are what a bar can show.
        life_left: account.life_left(scene.now).map(|left| (left * 1e4).round() / 1e4),
        last_refresh_at: unix(account.last_refresh_at),
        missing_scopes: scene.snapshot.missing_scopes(account).collect(),
        unauthorized_last_day: scene.unauthorized_sum(account),
        posts_waiting: scene.posts_waiting(&account.id),
        page: words::account_path(&account.id),
    }
}

impl<'a> App<'a> {
    fn of(app: &'a AppView, counts: &Counts) -> Self {
        let (accounts, not_well) = counts.app(&app.name);
        Self {
            name: &app.name,
            provider: &app.provider,
            sandbox: app.is_sandbox,
            frozen: app.frozen.map(|(cause, _)| cause.as_label()),
            frozen_since: unix(app.frozen.map(|(_, since)| since)),
            refusals: app.refusals,
            suspect: app.suspect.map(Suspect::as_label),
            accounts,
            not_well,
        }
    }
}

impl Reason {
    fn of(fact: &Fact) -> Self {
        Self { text: fact.to_string(), at: unix(fact.at) }
    }
}

fn unix(at: Option<Timestamp>) -> Option<i64> {
    at.map(Timestamp::as_unix)
}
