//! The list of accounts. It costs one pass over them: only the rows that are shown are sorted and written, however
//! large the fleet is.

use super::{
    counts::{Choice, Counts},
    fleet::{self, Figure, Part, Todo, Verdict},
    plot,
    query::{Query, Sort},
    row::Row,
    scene::Scene,
    words::{self, Tone},
};
use crate::core::{Account, Cause, Gate, Timestamp, diagnose::Tally};
use serde::Serialize;
use std::sync::Arc;

/// What the template is given.
#[derive(Serialize)]
pub(super) struct View<'a> {
    pub(super) verdict: Verdict,
    todos: Vec<Todo>,
    figures: Vec<Figure>,
    parts: Vec<Part>,
    /// No part of the sidecar wants to be looked at.
    parts_are_well: bool,
    apps: Vec<Named>,
    providers: Vec<Named>,
    search: &'a str,
    filtered: bool,
    provider_choices: Vec<Choice>,
    app_choices: Vec<Choice>,
    cause_choices: Vec<Choice>,
    gate_choices: Vec<Choice>,
    sort_choices: Vec<SortChoice>,
    sorted: &'static str,
    refresh: Option<u32>,
    loaded: bool,
    found: usize,
    first_shown: usize,
    last_shown: usize,
    rows: Vec<Row<'a>>,
    counts_since: Option<words::Moment>,
    previous: Option<String>,
    next: Option<String>,
    pages: usize,
    page: usize,
    all: String,
    json: String,
}

/// An app or a provider, with how its accounts are.
#[derive(Serialize)]
pub(super) struct Named {
    pub(super) name: String,
    pub(super) link: String,
    pub(super) accounts: String,
    pub(super) tone: Tone,
    pub(super) state: String,
}

#[derive(Serialize)]
struct SortChoice {
    value: &'static str,
    label: &'static str,
    chosen: bool,
}

/// The page that was asked for.
pub(super) fn view<'a>(scene: &Scene<'a>, query: &'a Query, blocks: &'a Blocks) -> View<'a> {
    let (counts, mut ranks) = rank(scene, query, blocks);
    let found = ranks.len();
    let last_page = found.saturating_sub(1) / ROWS_PER_PAGE;
    let page = query.page.min(last_page);
    let first = page * ROWS_PER_PAGE;
    let shown = first_of(&mut ranks, first, ROWS_PER_PAGE);
    let rows = rows(scene, shown, blocks);
    let todos = fleet::todos(scene, &counts, query);
    let parts = fleet::parts(scene);
    View {
        verdict: fleet::verdict(scene, &counts, &todos),
        todos,
        figures: fleet::figures(scene, &counts, query),
        parts_are_well: parts.iter().all(|part| part.tone <= Tone::Calm),
        parts,
        apps: super::group::apps(scene, &counts).take(NAMED_MAX).collect(),
        providers: super::group::providers(scene, &counts).take(NAMED_MAX).collect(),
        search: &query.search,
        filtered: query.is_filtered(),
        provider_choices: counts.provider_choices(query),
        app_choices: counts.app_choices(query),
        cause_choices: counts.cause_choices(query),
        gate_choices: counts.gate_choices(query),
        sort_choices: Sort::ALL
            .map(|(sort, label)| SortChoice {
                value: sort.as_label(),
                label,
                chosen: sort == query.sort,
            })
            .into(),
        sorted: query.sort.words(),
        refresh: (query.refresh != Default::default()).then_some(query.refresh.0),
        loaded: scene.snapshot.loaded,
        found,
        first_shown: first + usize::from(found > 0),
        last_shown: first + rows.len(),
        rows,
        counts_since: scene.counts_since().map(|at| words::Moment::of(at, scene.now)),
        previous: (page > 0).then(|| query.with_page(page - 1).path()),
        next: (page < last_page).then(|| query.with_page(page + 1).path()),
        pages: last_page + 1,
        page: page + 1,
        all: query.bare().path(),
        json: query.path_below("/accounts.json"),
    }
}

/// The accounts of a snapshot, shared with it.
pub(super) type Blocks = Vec<Arc<Vec<Account>>>;

/// Rows of these accounts.
pub(super) fn rows<'a>(scene: &Scene<'a>, shown: &[Rank], blocks: &'a Blocks) -> Vec<Row<'a>> {
    let tally = tally(scene, shown, blocks);
    shown.iter().map(|rank| Row::of(rank.account(blocks), scene, &tally)).collect()
}

/// What their diagnoses need: one more pass over all accounts, and only for a page on which somebody is not well.
pub(super) fn tally(scene: &Scene<'_>, shown: &[Rank], blocks: &Blocks) -> Tally {
    let is_troubled = |rank: &Rank| rank.account(blocks).cause.is_some();
    if shown.iter().any(is_troubled) { Tally::of(scene.snapshot) } else { Tally::default() }
}

/// What a list is sorted by, and where the account is.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Rank {
    key: u64,
    block: u32,
    row: u32,
}

impl Rank {
    pub(super) fn account(self, blocks: &Blocks) -> &Account {
        &blocks[self.block as usize][self.row as usize]
    }
}

/// Counts all accounts and ranks those that match.
pub(super) fn rank(scene: &Scene<'_>, query: &Query, blocks: &Blocks) -> (Counts, Vec<Rank>) {
    let mut counts = Counts::default();
    let mut ranks = Vec::new();
    for (block, rows) in blocks.iter().enumerate() {
        for (row, account) in rows.iter().enumerate() {
            counts.add(account, scene);
            if query.matches(account) {
                let key = key(account, query.sort, scene);
                ranks.push(Rank { key, block: block as u32, row: row as u32 });
            }
        }
    }
    (counts, ranks)
}

/// The smaller stands first; of equal ones, the table's order decides, which is that of the names.
fn key(account: &Account, sort: Sort, scene: &Scene<'_>) -> u64 {
    let instant = |at: Option<Timestamp>| at.map_or(u64::MAX, |at| at.as_unix().unsigned_abs());
    match sort {
        Sort::Worst => {
            let severity = account.cause.map_or(0, Cause::severity);
            // Well, and shut all the same: somebody holds it, or it must be proven.
            let is_shut = account.door.gate != Gate::Open;
            let mildness = u64::from(u8::MAX - severity) * 2 + u64::from(!is_shut);
            // In millionths; the greatest number when no life is declared.
            let left = account.life_left(scene.now).map_or(u32::MAX, |left| (left * 1e6) as u32);
            mildness << 32 | u64::from(left)
        }
        Sort::Name => 0,
        Sort::Ends => instant(account.token.and_then(|token| token.expires_at)),
        Sort::Due => instant(plot::due_at(account)),
        // Who never was stands before everybody.
        Sort::Renewed => account.last_refresh_at.map_or(0, |at| at.as_unix().unsigned_abs()),
        Sort::Unauthorized => u64::MAX - u64::from(scene.unauthorized_sum(account)),
    }
}

/// So many ranks from `first` on, sorted. What lies before and behind them is only told apart.
pub(super) fn first_of(ranks: &mut [Rank], first: usize, most: usize) -> &[Rank] {
    if first >= ranks.len() {
        return &[];
    }
    ranks.select_nth_unstable(first);
    let rest = &mut ranks[first..];
    if rest.len() > most {
        rest.select_nth_unstable(most);
    }
    let shown = rest.len().min(most);
    rest[..shown].sort_unstable();
    &rest[..shown]
}

/// Rows on a page.
pub(super) const ROWS_PER_PAGE: usize = 100;

/// Apps and providers that are named above the list.
const NAMED_MAX: usize = 50;
