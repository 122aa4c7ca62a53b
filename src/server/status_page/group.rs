//! The pages of an app and of a provider: what is known of it, and its accounts by what is wrong.

use super::{
    counts::Counts,
    list::{self, Blocks, Named},
    query::Query,
    row::Row,
    scene::Scene,
    words::{self, Moment, Tone},
};
use crate::core::{AppView, Cause, Suspect};
use serde::Serialize;

/// What the template is given.
#[derive(Serialize)]
pub(super) struct View<'a> {
    /// `App` or `Provider`.
    kind: &'static str,
    name: String,
    tone: Tone,
    headline: String,
    step: Option<String>,
    facts: Vec<Fact>,
    causes: Vec<CauseCount>,
    /// The apps of a provider.
    apps: Vec<Named>,
    rows: Vec<Row<'a>>,
    accounts: String,
    all: String,
    counts_since: Option<Moment>,
    json: String,
}

/// Something that is known.
#[derive(Serialize)]
struct Fact {
    name: &'static str,
    value: String,
    moment: Option<Moment>,
}

#[derive(Serialize)]
struct CauseCount {
    words: String,
    count: String,
    link: String,
}

/// `None` where the configuration has no such app.
pub(super) fn app<'a>(
    scene: &Scene<'a>,
    name: &str,
    query: &Query,
    blocks: &'a Blocks,
) -> Option<View<'a>> {
    let app = scene.app(name)?;
    let asked = Query { app: name.to_owned(), ..query.bare() };
    let mut facts = vec![
        Fact::of("Provider", &*app.provider),
        Fact::of("Environment", if app.is_sandbox { "sandbox" } else { "production" }),
        Fact::of(
            "Scopes it requires",
            if app.scopes.is_empty() { "none".to_owned() } else { app.scopes.join(", ") },
        ),
    ];
    facts.extend(app.secret.map(|nth| Fact::of("Client secret in use", format!("number {nth}"))));
    facts.push(Fact::of(
        "Refusals in a row",
        words::thousands(u64::from(app.refusals)).into_owned(),
    ));
    facts.extend(app.asked.map(|(answer, at)| Fact {
        moment: Some(Moment::of(at, scene.now)),
        ..Fact::of("Asked with a token that is nobody's", answer)
    }));
    let (tone, headline, step) = of_app(scene, app);
    let view = View { tone, headline, step, facts, ..grouped("App", name, scene, &asked, blocks) };
    Some(View { json: format!("{}.json", words::app_path(name)), ..view })
}

/// `None` where neither an account nor an app has this provider.
pub(super) fn provider<'a>(
    scene: &Scene<'a>,
    name: &str,
    query: &Query,
    blocks: &'a Blocks,
) -> Option<View<'a>> {
    let asked = Query { provider: name.to_owned(), ..query.bare() };
    let view = grouped("Provider", name, scene, &asked, blocks);
    let is_known =
        !view.rows.is_empty() || scene.snapshot.apps.iter().any(|app| *app.provider == *name);
    if !is_known {
        return None;
    }
    let offset = scene.snapshot.clock_offsets.iter().find(|(provider, _)| **provider == *name);
    let clock = match offset {
        Some((_, by)) => format!("{by:+} s ahead of this machine's, by its last answers"),
        None => "not compared yet".to_owned(),
    };
    let suspects =
        |app: &&AppView| *app.provider == *name && app.suspect == Some(Suspect::Provider);
    let (tone, headline) = match scene.snapshot.apps.iter().find(suspects) {
        Some(_) => (
            Tone::Bad,
            "Accounts of several apps fail together: the provider is in trouble.".to_owned(),
        ),
        None => (view.tone, view.headline.clone()),
    };
    let (counts, _) = list::rank(scene, &asked, blocks);
    let apps = apps(scene, &counts).zip(&scene.snapshot.apps);
    let apps =
        apps.filter(|(_, app)| *app.provider == *name).map(|(named, _)| named).take(APPS_SHOWN_MAX);
    let json = format!("{}.json", words::provider_path(name));
    Some(View {
        tone,
        headline,
        apps: apps.collect(),
        facts: vec![Fact::of("Clock", clock)],
        json,
        ..view
    })
}

/// Every app that the configuration names, in its order.
pub(super) fn apps<'a>(scene: &Scene<'a>, counts: &'a Counts) -> impl Iterator<Item = Named> + 'a {
    scene.snapshot.apps.iter().map(|app| {
        let (accounts, troubled) = counts.app(&app.name);
        let (tone, state) = match app.frozen {
            Some((cause, _)) => (Tone::Bad, format!("frozen: {}", words::cause(cause))),
            None => how_many(troubled),
        };
        Named {
            name: app.name.to_string(),
            link: words::app_path(&app.name),
            accounts: words::counted(accounts, "account", "accounts"),
            tone,
            state,
        }
    })
}

/// Every provider that an account has.
pub(super) fn providers<'a>(_: &Scene<'a>, counts: &'a Counts) -> impl Iterator<Item = Named> + 'a {
    counts.providers.iter().map(|provider| {
        let (tone, state) = how_many(provider.troubled);
        Named {
            name: provider.name.to_string(),
            link: words::provider_path(&provider.name),
            accounts: words::counted(provider.accounts, "account", "accounts"),
            tone,
            state,
        }
    })
}

fn how_many(troubled: usize) -> (Tone, String) {
    match troubled {
        0 => (Tone::Good, "all well".to_owned()),
        count => (Tone::Low, format!("{} not well", words::thousands(count as u64))),
    }
}

fn of_app(scene: &Scene<'_>, app: &AppView) -> (Tone, String, Option<String>) {
    if let Some((cause, since)) = app.frozen {
        let headline = format!(
            "Frozen {}: {} No account of it is renewed.",
            words::ago(since, scene.now),
            cause.sentence()
        );
        let step = format!("{}{}", words::who(cause.actor()), cause.next_step());
        return (Tone::Bad, headline, Some(step));
    }
    let headline = match app.suspect {
        None => return (Tone::Good, "The provider takes it.".to_owned(), None),
        Some(Suspect::Accounts) => "Some of its accounts fail; the app itself is in order.",
        Some(Suspect::App) => "Its accounts fail together: look at its secret and environment.",
        Some(Suspect::Provider) => "It fails together with other apps: the provider is in trouble.",
    };
    (Tone::Low, headline.to_owned(), None)
}

fn grouped<'a>(
    kind: &'static str,
    name: &str,
    scene: &Scene<'a>,
    asked: &Query,
    blocks: &'a Blocks,
) -> View<'a> {
    let (_, mut ranks) = list::rank(scene, asked, blocks);
    let found = ranks.len();
    let mut of_cause = [0_usize; Cause::ALL.len()];
    for cause in ranks.iter().filter_map(|rank| rank.account(blocks).cause) {
        of_cause[cause.index()] += 1;
    }
    let troubled: usize = of_cause.iter().sum();
    let causes = Cause::ALL.into_iter().zip(of_cause).filter(|(_, count)| *count > 0);
    let causes = causes.map(|(cause, count)| CauseCount {
        words: words::cause(cause),
        count: words::thousands(count as u64).into_owned(),
        link: Query { cause: cause.as_label().to_owned(), ..asked.clone() }.path(),
    });
    let causes = causes.collect();
    let shown = list::first_of(&mut ranks, 0, ROWS_SHOWN);
    let (tone, headline) = match troubled {
        0 => (Tone::Good, "All its accounts are well.".to_owned()),
        count => (
            Tone::Low,
            format!("{} not well.", words::counted(count, "account is", "accounts are")),
        ),
    };
    View {
        kind,
        name: name.to_owned(),
        tone,
        headline,
        step: None,
        facts: Vec::new(),
        causes,
        apps: Vec::new(),
        rows: list::rows(scene, shown, blocks),
        accounts: words::counted(found, "account", "accounts"),
        all: asked.path(),
        counts_since: scene.counts_since().map(|at| Moment::of(at, scene.now)),
        json: String::new(),
    }
}

impl Fact {
    fn of(name: &'static str, value: impl Into<String>) -> Self {
        Self { name, value: value.into(), moment: None }
    }
}

/// Accounts of an app or a provider that are shown; the list has all.
const ROWS_SHOWN: usize = 20;

const APPS_SHOWN_MAX: usize = 100;
