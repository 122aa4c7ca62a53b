//! The status page: every account, worst first, made on the server from one snapshot.
//!
//! It works without JavaScript, and it costs one pass over the accounts: only the rows that are shown are
//! sorted and written, however large the fleet is.

use super::{
    ConfigState, Context,
    answer::{Answer, page, text},
};
use crate::{
    core::{
        Account, Cause, Snapshot, Timestamp,
        cause::Actor,
        diagnose::{self, Diagnosis, Fact, Tally},
        second_clock::{End, Moves, Provenance},
        shares::SHARES,
    },
    metrics::{accounts::HEALTHY, fleet::Totals},
};
use hyper::StatusCode;
use minijinja::{Environment, UndefinedBehavior};
use serde::Serialize;
use std::{
    borrow::Cow,
    sync::{Arc, LazyLock},
    time::Duration,
};

mod filter;

use filter::Filter;

/// The page for this query string.
pub async fn answer(context: Context, query: &str) -> Answer {
    let filter = Filter::read(query);
    // A pass over a million accounts takes tens of milliseconds; the threads that answer others must not
    // wait for it.
    let made = tokio::task::spawn_blocking(move || {
        let config = context.config.load();
        let all = context.gauges.all_replicas.load();
        render(&context.seen(), all.as_deref(), &config, &filter, context.clock.now())
    });
    match made.await {
        Ok(Ok(html)) => page(StatusCode::OK, html),
        Ok(Err(error)) => {
            tracing::error!(%error, "the status page could not be written");
            text(StatusCode::INTERNAL_SERVER_ERROR, "The status page could not be written.")
        }
        Err(_) => text(StatusCode::SERVICE_UNAVAILABLE, "The sidecar is stopping."),
    }
}

fn render(
    snapshot: &Snapshot,
    all: Option<&Totals>,
    config: &ConfigState,
    filter: &Filter,
    now: Timestamp,
) -> Result<String, minijinja::Error> {
    let (counts, mut ranks) = rank(snapshot, filter, now);
    let found = ranks.len();
    let last_page = found.saturating_sub(1) / ROWS_PER_PAGE;
    let page = filter.page.min(last_page);
    let first = page * ROWS_PER_PAGE;
    let blocks = snapshot.accounts.blocks();
    let shown = worst(&mut ranks, first);
    // One more pass over all accounts, and only for a page on which somebody is not well.
    let troubled = |rank: &Rank| rank.account(&blocks).cause.is_some();
    let tally = if shown.iter().any(troubled) { Tally::of(snapshot) } else { Tally::default() };
    let rows: Vec<Row<'_>> =
        shown.iter().map(|rank| Row::of(rank.account(&blocks), snapshot, &tally, now)).collect();
    let view = View {
        version: env!("CARGO_PKG_VERSION"),
        refresh_seconds: REFRESH_SECONDS,
        at: date(now),
        loaded: snapshot.loaded,
        accounts: snapshot.accounts.len(),
        healthy: counts.causes[Cause::ALL.len()],
        need_somebody: counts.by_actor(|actor| actor != Actor::Nobody),
        mend_themselves: counts.by_actor(|actor| actor == Actor::Nobody),
        unsaved: snapshot.unsaved,
        in_flight: snapshot.in_flight,
        store_up: snapshot.store_up,
        state_up: snapshot.state_up,
        store_read: snapshot.store_read_at.map(|at| ago(at, now)),
        last_round: ago(snapshot.at, now),
        sharing: all.map(|all| Sharing {
            holds: snapshot.holding.len(),
            shares: SHARES,
            replicas: all.replicas,
            accounts: all.accounts,
        }),
        config_at: ago(config.at, now),
        config_errors: &config.errors,
        frozen: snapshot
            .apps
            .iter()
            .filter_map(|app| {
                let (cause, since) = app.frozen?;
                Some(Frozen {
                    app: &app.name,
                    provider: &app.provider,
                    sentence: cause.sentence(),
                    next_step: cause.next_step(),
                    since: ago(since, now),
                })
            })
            .collect(),
        filtered: filter.is_set(),
        search: &filter.search,
        providers: counts.providers(filter),
        causes: counts.causes(filter),
        found,
        only_one: found == 1,
        first_shown: first + usize::from(found > 0),
        last_shown: first + rows.len(),
        rows,
        previous: (page > 0).then(|| filter.link(page - 1)),
        next: (page < last_page).then(|| filter.link(page + 1)),
    };
    TEMPLATES.get_template(TEMPLATE)?.render(minijinja::value::Serde(&view))
}

/// What the page is sorted by: how bad it is, then how little life is left, then the name.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
struct Rank {
    mildness: u8,
    /// In millionths of the declared life; the greatest number when nothing is declared.
    life_left: u32,
    block: u32,
    row: u32,
}

impl Rank {
    fn account<'a>(&self, blocks: &'a [Arc<Vec<Account>>]) -> &'a Account {
        &blocks[self.block as usize][self.row as usize]
    }
}

/// Counts all accounts and ranks those that match.
fn rank(snapshot: &Snapshot, filter: &Filter, now: Timestamp) -> (Counts, Vec<Rank>) {
    let mut counts = Counts::default();
    let mut ranks = Vec::new();
    for (block, rows) in snapshot.accounts.blocks().iter().enumerate() {
        for (row, account) in rows.iter().enumerate() {
            counts.add(account);
            if !filter.matches(account) {
                continue;
            }
            let severity = account.cause.map_or(0, Cause::severity);
            let left = account.life_left(now).map_or(u32::MAX, |left| (left * 1e6) as u32);
            ranks.push(Rank {
                mildness: u8::MAX - severity,
                life_left: left,
                block: block as u32,
                row: row as u32,
            });
        }
    }
    (counts, ranks)
}

/// The ranks of one page, sorted. What lies before and behind it is only told apart.
fn worst(ranks: &mut [Rank], first: usize) -> &[Rank] {
    if first >= ranks.len() {
        return &[];
    }
    ranks.select_nth_unstable(first);
    let rest = &mut ranks[first..];
    if rest.len() > ROWS_PER_PAGE {
        rest.select_nth_unstable(ROWS_PER_PAGE);
    }
    let shown = rest.len().min(ROWS_PER_PAGE);
    rest[..shown].sort_unstable();
    &rest[..shown]
}

/// How many accounts there are of each kind, whatever the filter.
#[derive(Default)]
struct Counts {
    /// By [`Cause::index`]; the last entry counts the healthy ones.
    causes: [usize; Cause::ALL.len() + 1],
    /// In the table's order, which is sorted.
    providers: Vec<(Arc<str>, usize)>,
}

impl Counts {
    fn add(&mut self, account: &Account) {
        self.causes[account.cause.map_or(Cause::ALL.len(), Cause::index)] += 1;
        match self.providers.last_mut() {
            Some((provider, count)) if *provider == account.id.provider => *count += 1,
            _ => self.providers.push((Arc::clone(&account.id.provider), 1)),
        }
    }

    fn by_actor(&self, who: impl Fn(Actor) -> bool) -> usize {
        Cause::ALL
            .into_iter()
            .zip(self.causes)
            .filter(|(cause, _)| who(cause.actor()))
            .map(|(_, count)| count)
            .sum()
    }

    fn providers(&self, filter: &Filter) -> Vec<Choice> {
        self.providers
            .iter()
            .map(|(provider, count)| Choice {
                value: provider.to_string(),
                label: provider.to_string(),
                count: *count,
                chosen: filter.provider == **provider,
            })
            .collect()
    }

    fn causes(&self, filter: &Filter) -> Vec<Choice> {
        let in_trouble = self.causes[..Cause::ALL.len()].iter().sum();
        let one = |value: &str, label: String, count| Choice {
            value: value.to_owned(),
            label,
            count,
            chosen: filter.cause == value,
        };
        let causes = Cause::ALL
            .into_iter()
            .zip(self.causes)
            .filter(|(cause, count)| *count > 0 || filter.cause == cause.as_label());
        [one(filter::IN_TROUBLE, "anything wrong".to_owned(), in_trouble)]
            .into_iter()
            .chain([one(HEALTHY, "nothing wrong".to_owned(), self.causes[Cause::ALL.len()])])
            .chain(causes.map(|(cause, count)| one(cause.as_label(), words(cause), count)))
            .collect()
    }
}

/// What the template is given.
#[derive(Serialize)]
struct View<'a> {
    version: &'static str,
    refresh_seconds: u32,
    at: String,
    loaded: bool,
    accounts: usize,
    healthy: usize,
    need_somebody: usize,
    mend_themselves: usize,
    unsaved: usize,
    in_flight: usize,
    store_up: bool,
    state_up: bool,
    store_read: Option<String>,
    last_round: String,
    sharing: Option<Sharing>,
    config_at: String,
    config_errors: &'a [String],
    frozen: Vec<Frozen<'a>>,
    filtered: bool,
    search: &'a str,
    providers: Vec<Choice>,
    causes: Vec<Choice>,
    found: usize,
    only_one: bool,
    first_shown: usize,
    last_shown: usize,
    rows: Vec<Row<'a>>,
    previous: Option<String>,
    next: Option<String>,
}

/// Where other replicas may look after accounts too.
#[derive(Serialize)]
struct Sharing {
    holds: usize,
    shares: usize,
    replicas: u64,
    accounts: u64,
}

/// An app whose accounts are not refreshed.
#[derive(Serialize)]
struct Frozen<'a> {
    app: &'a str,
    provider: &'a str,
    sentence: &'static str,
    next_step: &'static str,
    since: String,
}

/// An entry of a filter.
#[derive(Serialize)]
struct Choice {
    value: String,
    label: String,
    count: usize,
    chosen: bool,
}

/// One account.
#[derive(Serialize)]
struct Row<'a> {
    provider: &'a str,
    account: &'a str,
    app: &'a str,
    trouble: Option<Trouble>,
    /// What is under way, in words.
    doing: Option<&'static str>,
    missing_scopes: Vec<&'a str>,
    failure: Option<Failure<'a>>,
    life: Option<Life>,
    expires: Option<Moment>,
    refresh_expires: Option<Moment>,
    /// How that is known, where it is not simply declared.
    refresh_how: Option<&'static str>,
    due: Option<Moment>,
    last_refresh: Option<Moment>,
    unauthorized: u32,
}

impl<'a> Row<'a> {
    fn of(account: &'a Account, snapshot: &'a Snapshot, tally: &Tally, now: Timestamp) -> Self {
        let token = account.token;
        let diagnosis =
            account.cause.map(|_| diagnose::diagnose(&tally.case(snapshot, account, now)));
        Self {
            provider: &account.id.provider,
            account: &account.id.account,
            app: &account.app,
            trouble: diagnosis.and_then(|diagnosis| Trouble::of(&diagnosis, now)),
            doing: doing(account),
            missing_scopes: snapshot.missing_scopes(account).collect(),
            failure: account.last_failure.as_deref().map(|evidence| Failure {
                cause: words(evidence.cause),
                status: evidence.status,
                code: evidence.code.as_deref(),
                log_id: evidence.log_id.as_deref(),
                at: Moment::of(evidence.at, now),
            }),
            life: Life::of(account, now),
            expires: token.and_then(|token| token.expires_at).map(|at| Moment::of(at, now)),
            refresh_expires: account
                .refresh_end
                .map(|end| end.at)
                .or_else(|| token?.refresh_expires_at)
                .map(|at| Moment::of(at, now)),
            refresh_how: account.refresh_end.and_then(how),
            due: due_at(account).map(|at| Moment::of(at, now)),
            last_refresh: account.last_refresh_at.map(|at| Moment::of(at, now)),
            unauthorized: account.responses.unauthorized(),
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

/// What is wrong, and what to do.
#[derive(Serialize)]
struct Trouble {
    words: String,
    /// `severe`, `serious` or `passing`: how it is coloured.
    tone: &'static str,
    sentence: &'static str,
    next_step: &'static str,
    who: &'static str,
    since: Option<Moment>,
    /// `certain`, `likely` or `possible`.
    confidence: &'static str,
    /// What it may be instead.
    suspects: Vec<String>,
    reasons_for: Vec<Reason>,
    reasons_against: Vec<Reason>,
    ruled_out: Vec<RuledOut>,
    checks: Vec<Check>,
}

/// A fact, for people.
#[derive(Serialize)]
struct Reason {
    text: String,
    at: Option<Moment>,
}

/// What it is not.
#[derive(Serialize)]
struct RuledOut {
    cause: String,
    because: Reason,
}

/// What a person asks first, with the answer.
#[derive(Serialize)]
struct Check {
    question: &'static str,
    answer: &'static str,
}

impl Trouble {
    fn of(diagnosis: &Diagnosis, now: Timestamp) -> Option<Self> {
        let cause = diagnosis.cause?;
        let reasons = |facts: &[Fact]| {
            facts.iter().take(REASONS_SHOWN_MAX).map(|fact| Reason::of(fact, now)).collect()
        };
        Some(Self {
            words: words(cause),
            tone: match cause.severity() {
                4.. => "severe",
                2..=3 => "serious",
                _ => "passing",
            },
            sentence: cause.sentence(),
            next_step: diagnosis.step.sentence(),
            who: match diagnosis.step.actor() {
                Actor::Nobody => "",
                Actor::Owner => "Account owner: ",
                Actor::Operator => "Operator: ",
            },
            since: diagnosis.since.map(|at| Moment::of(at, now)),
            confidence: diagnosis.confidence.as_label(),
            suspects: diagnosis.suspects.iter().map(|cause| words(*cause)).collect(),
            reasons_for: reasons(&diagnosis.reasons_for),
            reasons_against: reasons(&diagnosis.reasons_against),
            ruled_out: diagnosis
                .ruled_out
                .iter()
                .take(REASONS_SHOWN_MAX)
                .map(|(cause, fact)| RuledOut {
                    cause: words(*cause),
                    because: Reason::of(fact, now),
                })
                .collect(),
            checks: diagnosis
                .checks
                .iter()
                .map(|check| Check {
                    question: check.question.sentence(),
                    answer: match check.answer {
                        Some(true) => "yes",
                        Some(false) => "no",
                        None => "not known",
                    },
                })
                .collect(),
        })
    }
}

impl Reason {
    fn of(fact: &Fact, now: Timestamp) -> Self {
        Self { text: fact.to_string(), at: fact.at.map(|at| Moment::of(at, now)) }
    }
}

/// What the last failure looked like; it stays after recovery.
#[derive(Serialize)]
struct Failure<'a> {
    cause: String,
    status: Option<u16>,
    code: Option<&'a str>,
    log_id: Option<&'a str>,
    at: Moment,
}

/// The bar: how much of the declared life is left, and where the renewal is due.
#[derive(Serialize)]
struct Life {
    percent: u32,
    due_percent: Option<u32>,
    /// `good`, `low` or `over`: how it is coloured.
    tone: &'static str,
    whole: String,
}

impl Life {
    fn of(account: &Account, now: Timestamp) -> Option<Self> {
        let token = account.token?;
        let (left, whole, end) = (account.life_left(now)?, token.life()?, token.expires_at?);
        let percent = (left * 100.0).ceil() as u32;
        let due_percent = due_at(account)
            .map(|due| (end.since(due).as_secs_f64() / whole.as_secs_f64() * 100.0).min(100.0))
            .map(|due| due as u32);
        let tone = match percent {
            0 => "over",
            // Past the mark by a good part of what was left then: the renewal has not come through.
            left if left * 2 < due_percent.unwrap_or(LOW_PERCENT * 2) => "low",
            _ => "good",
        };
        Some(Self { percent, due_percent, tone, whole: span(whole.as_secs()) })
    }
}

/// An instant for people: how far it is, and when exactly.
#[derive(Serialize)]
struct Moment {
    words: String,
    date: String,
}

impl Moment {
    fn of(at: Timestamp, now: Timestamp) -> Self {
        let words =
            if at > now { format!("in {}", span(at.since(now).as_secs())) } else { ago(at, now) };
        Self { words, date: date(at) }
    }
}

/// When a renewal is due, where one can still help: a date beside "reconnect" would be a false hope.
fn due_at(account: &Account) -> Option<Timestamp> {
    let token = account.token?;
    let is_renewable =
        token.renewable_by.is_some() && !account.cause.is_some_and(Cause::needs_reconnect);
    account.due_at.filter(|_| is_renewable)
}

const fn doing(account: &Account) -> Option<&'static str> {
    use crate::core::Busy;
    match account.busy {
        Busy::Refreshing => Some("being renewed now"),
        Busy::Saving => Some("being saved now"),
        Busy::Probing => Some("being checked now"),
        Busy::Proving => Some("being proven now"),
        Busy::Idle => None,
    }
}

/// The label as words.
fn words(cause: Cause) -> String {
    cause.as_label().replace('_', " ")
}

fn ago(at: Timestamp, now: Timestamp) -> String {
    match now.since(at).as_secs() {
        0 => "just now".to_owned(),
        seconds => format!("{} ago", span(seconds)),
    }
}

fn span(seconds: u64) -> String {
    diagnose::length(Duration::from_secs(seconds))
}

/// `2026-11-22 12:00:00 UTC`.
fn date(at: Timestamp) -> String {
    jiff::Timestamp::from_second(at.as_unix()).map_or_else(
        |_| at.as_unix().to_string(),
        |at| at.to_string().replace('T', " ").replace('Z', " UTC"),
    )
}

/// One environment for all requests; the template is part of the program, so it always loads.
static TEMPLATES: LazyLock<Environment<'static>> = LazyLock::new(|| {
    let mut environment = Environment::new();
    environment.set_undefined_behavior(UndefinedBehavior::Strict);
    environment.add_filter("thousands", thousands);
    environment
        .add_template(TEMPLATE, include_str!("status_page.html"))
        .expect("the template is part of the program and was tested with it");
    environment
});

/// `10,000`.
fn thousands(number: u64) -> Cow<'static, str> {
    let digits = number.to_string();
    let mut grouped = String::with_capacity(digits.len() * 4 / 3);
    for (index, digit) in digits.chars().enumerate() {
        if index > 0 && (digits.len() - index).is_multiple_of(3) {
            grouped.push(',');
        }
        grouped.push(digit);
    }
    grouped.into()
}

/// The ending makes minijinja escape for HTML.
const TEMPLATE: &str = "status_page.html";

/// Rows on a page.
const ROWS_PER_PAGE: usize = 200;

/// Reasons of each kind in a row: the most telling stand first, and `diagnose` tells all.
const REASONS_SHOWN_MAX: usize = 8;

/// The page loads itself again after so many seconds.
const REFRESH_SECONDS: u32 = 30;

/// Where no renewal is due, this much of the life is little.
const LOW_PERCENT: u32 = 10;

#[cfg(test)]
mod tests;
