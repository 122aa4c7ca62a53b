//! What a page says before it shows any account: is all well, what is to be done next and by whom, and does the
//! sidecar itself work.

use super::{
    counts::Counts,
    query::{Query, SHUT},
    scene::Scene,
    words::{self, Moment, Tone},
};
use crate::core::{Cause, Suspect, cause::Actor, shares::SHARES, timeline::SLEW_SECONDS_MAX};
use serde::Serialize;
use std::time::Duration;

/// The answer to "is all well?".
#[derive(Serialize)]
pub(super) struct Verdict {
    pub(super) tone: Tone,
    pub(super) headline: String,
}

/// One thing to do, or to know.
#[derive(Serialize)]
pub(super) struct Todo {
    pub(super) tone: Tone,
    what: String,
    /// `You: `, `Account owner: ` or nothing.
    who: &'static str,
    step: &'static str,
    since: Option<Moment>,
    /// Where more of it is shown.
    link: Option<String>,
    /// What is wrong with the configuration, one message each.
    lines: Vec<String>,
}

/// One part of the sidecar.
#[derive(Serialize)]
pub(super) struct Part {
    pub(super) name: &'static str,
    pub(super) tone: Tone,
    pub(super) state: String,
    pub(super) detail: Option<String>,
}

/// The answer, from what is to be done.
pub(super) fn verdict(scene: &Scene<'_>, counts: &Counts, todos: &[Todo]) -> Verdict {
    let all = scene.snapshot.accounts.len();
    let of_all = |count: usize| {
        format!(
            "{} of {}",
            words::thousands(count as u64),
            words::counted(all, "account", "accounts")
        )
    };
    let needing = counts.by_actor(|actor| actor != Actor::Nobody);
    let mending = counts.by_actor(|actor| actor == Actor::Nobody);
    let say = |tone, headline| Verdict { tone, headline };
    if !scene.snapshot.loaded {
        return say(Tone::Calm, "The token store has not been read yet.".to_owned());
    }
    if needing > 0 {
        let verb = if needing == 1 { "needs" } else { "need" };
        return say(Tone::Bad, format!("{} {verb} somebody.", of_all(needing)));
    }
    if todos.iter().any(|todo| todo.tone == Tone::Bad) {
        return say(Tone::Bad, "No account needs somebody, but the sidecar does.".to_owned());
    }
    if mending > 0 {
        let (verb, itself) =
            if mending == 1 { ("has", "itself") } else { ("have", "itself, one by one") };
        let words =
            format!("Nothing to do: {} {verb} trouble that mends {itself}.", of_all(mending));
        return say(Tone::Low, words);
    }
    match all {
        0 => say(Tone::Calm, "The token store holds no account yet.".to_owned()),
        1 => say(Tone::Good, "The one account is well. Nothing to do.".to_owned()),
        _ => say(
            Tone::Good,
            format!("All {} are well. Nothing to do.", words::counted(all, "account", "accounts")),
        ),
    }
}

/// What is to be done, the most urgent first: the sidecar, apps and providers before single accounts.
pub(super) fn todos(scene: &Scene<'_>, counts: &Counts, query: &Query) -> Vec<Todo> {
    let mut todos = of_the_sidecar(scene, counts);
    todos.extend(of_apps(scene));
    todos.extend(of_accounts(scene, counts, query));
    todos.truncate(TODOS_SHOWN_MAX);
    todos
}

fn of_the_sidecar(scene: &Scene<'_>, counts: &Counts) -> Vec<Todo> {
    let snapshot = scene.snapshot;
    let mut todos = Vec::new();
    if snapshot.unsaved > 0 {
        let count = words::counted(snapshot.unsaved, "new token is", "new tokens are");
        todos.push(Todo::of_cause(Cause::UnsavedToken, format!("{count} not in the store")));
    }
    // Where accounts say so already, it is said once.
    let is_told = counts.of(Cause::StoreUnreachable) > 0;
    if !snapshot.store_up && !is_told {
        let what = Cause::StoreUnreachable.sentence().trim_end_matches('.').to_owned();
        todos.push(Todo::of_cause(Cause::StoreUnreachable, what));
    }
    if !snapshot.state_up {
        todos.push(Todo {
            who: words::who(Actor::Operator),
            step: "Make the directory or database of the state writable again; nothing is renewed before.",
            ..Todo::new(Tone::Bad, "The sidecar's own state cannot be written".to_owned())
        });
    }
    if !scene.config.errors.is_empty() {
        todos.push(Todo {
            who: words::who(Actor::Operator),
            step: "Mend the file and have it read again (SIGHUP).",
            lines: scene.config.errors.iter().take(LINES_SHOWN_MAX).cloned().collect(),
            ..Todo::new(
                Tone::Bad,
                "The configuration file was refused; the earlier one stays in force".to_owned(),
            )
        });
    }
    if scene.readings.clock_unconfirmed_step != 0 && counts.of(Cause::ClockDrift) == 0 {
        let by = words::span(scene.readings.clock_unconfirmed_step.unsigned_abs());
        todos.push(Todo {
            tone: Tone::Low,
            ..Todo::of_cause(Cause::ClockDrift, format!("This machine's clock stepped by {by}"))
        });
    }
    todos
}

fn of_apps(scene: &Scene<'_>) -> impl Iterator<Item = Todo> {
    scene.snapshot.apps.iter().filter_map(|app| {
        let link = Some(words::app_path(&app.name));
        if let Some((cause, since)) = app.frozen {
            let what = format!("App {} ({}) is frozen: {}", app.name, app.provider, words::cause(cause));
            let since = Some(Moment::of(since, scene.now));
            return Some(Todo { since, link, ..Todo::of_cause(cause, what) });
        }
        match app.suspect? {
            Suspect::Provider => Some(Todo {
                link: Some(words::provider_path(&app.provider)),
                step: Cause::ProviderOutage.next_step(),
                ..Todo::new(
                    Tone::Low,
                    format!("Provider {}: all accounts of app {} fail together", app.provider, app.name),
                )
            }),
            Suspect::App => Some(Todo {
                link,
                who: words::who(Actor::Operator),
                step: "Look at its client secret and environment before anybody is asked to reconnect.",
                ..Todo::new(Tone::Bad, format!("App {}: its accounts fail together", app.name))
            }),
            Suspect::Accounts => None,
        }
    })
}

fn of_accounts(scene: &Scene<'_>, counts: &Counts, query: &Query) -> Vec<Todo> {
    let told = |cause: Cause| {
        let is_frozen =
            |app: &crate::core::AppView| app.frozen.is_some_and(|(why, _)| why == cause);
        cause == Cause::UnsavedToken && scene.snapshot.unsaved > 0
            || scene.snapshot.apps.iter().any(is_frozen)
    };
    let mut causes: Vec<Cause> = Cause::ALL
        .into_iter()
        .filter(|cause| counts.of(*cause) > 0 && cause.actor() != Actor::Nobody && !told(*cause))
        .collect();
    causes.sort_by_key(|cause| std::cmp::Reverse(cause.severity()));
    let mut todos: Vec<Todo> = causes
        .into_iter()
        .map(|cause| {
            let asked = Query { cause: cause.as_label().to_owned(), ..query.bare() };
            let (whose, link) = match counts.only_one(cause) {
                Some(id) => (id.to_string(), query.bare().path_below(&words::account_path(id))),
                None => (words::counted(counts.of(cause), "account", "accounts"), asked.path()),
            };
            let what = format!("{whose}: {}", words::cause(cause));
            let tone = if cause.severity() >= 3 { Tone::Bad } else { Tone::Low };
            Todo { link: Some(link), tone, ..Todo::of_cause(cause, what) }
        })
        .collect();
    let waiting = counts.gate(crate::core::Gate::Canary);
    if waiting > 0 {
        let asked = Query { gate: "canary".to_owned(), ..query.bare() };
        let what = format!(
            "{} to be proven before the queue goes on",
            words::counted(waiting, "account is", "accounts are")
        );
        let step = "Nothing: one publish, or the provider's own check, opens it.";
        let link = Some(asked.path());
        todos.push(Todo { link, step, ..Todo::new(Tone::Calm, what) });
    }
    todos
}

impl Todo {
    const fn new(tone: Tone, what: String) -> Self {
        Self { tone, what, who: "", step: "", since: None, link: None, lines: Vec::new() }
    }

    fn of_cause(cause: Cause, what: String) -> Self {
        Self {
            who: words::who(cause.actor()),
            step: cause.next_step(),
            ..Self::new(Tone::Bad, what)
        }
    }
}

/// The sidecar, part by part.
pub(super) fn parts(scene: &Scene<'_>) -> Vec<Part> {
    let (snapshot, readings, now) = (scene.snapshot, scene.readings, scene.now);
    let mut parts = vec![
        Part {
            detail: Some(snapshot.store_read_at.map_or_else(
                || "not read yet".to_owned(),
                |at| format!("read {}", words::ago(at, now)),
            )),
            ..Part::up("Token store", snapshot.store_up, "reachable", "unreachable")
        },
        Part {
            detail: (readings.spilled_tokens > 0).then(|| {
                let tokens = words::thousands(readings.spilled_tokens);
                format!("{tokens} tokens in the spill")
            }),
            ..Part::up("State", snapshot.state_up, "writable", "not writable")
        },
        outbox(scene),
        clock(scene),
        last_pass(scene),
        Part {
            detail: Some(format!("read {}", words::ago(scene.config.at, now))),
            ..Part::up("Configuration", scene.config.errors.is_empty(), "in force", "refused")
        },
    ];
    if let Some(all) = readings.all_replicas {
        parts.push(Part {
            name: "Replicas",
            tone: if !snapshot.holding.is_empty() { Tone::Good } else { Tone::Low },
            state: format!("{} of {SHARES} shares held", snapshot.holding.len()),
            detail: Some(format!(
                "{} alive, {} in all",
                words::thousands(all.replicas),
                words::counted(
                    usize::try_from(all.accounts).unwrap_or(usize::MAX),
                    "account",
                    "accounts"
                )
            )),
        });
    }
    parts
}

fn outbox(scene: &Scene<'_>) -> Part {
    let (owed, held) = (scene.readings.outbox_length, scene.readings.outbox_held);
    let (tone, state) = match owed {
        0 => (Tone::Good, "nothing waits".to_owned()),
        owed => (Tone::Calm, format!("{} to be sent", words::thousands(owed))),
    };
    let detail = (held > 0).then(|| format!("{} held back by a cap", words::thousands(held)));
    Part { name: "Notices", tone, state, detail }
}

fn clock(scene: &Scene<'_>) -> Part {
    let step = scene.readings.clock_unconfirmed_step;
    let offsets = &scene.snapshot.clock_offsets;
    let worst = offsets.iter().max_by_key(|(_, by)| by.unsigned_abs());
    let slack = SLEW_SECONDS_MAX.unsigned_abs();
    let (tone, state) = match worst {
        _ if step != 0 => (Tone::Bad, format!("stepped by {}", words::span(step.unsigned_abs()))),
        None => (Tone::Calm, "not compared yet".to_owned()),
        Some((_, by)) if by.unsigned_abs() <= slack => (Tone::Good, "right".to_owned()),
        Some((_, by)) => (Tone::Low, format!("off by {}", words::span(by.unsigned_abs()))),
    };
    let detail = worst.map(|(provider, by)| format!("{by:+} s against {provider}"));
    Part { name: "Clock", tone, state, detail }
}

fn last_pass(scene: &Scene<'_>) -> Part {
    let since = scene.now.since(scene.snapshot.at);
    let tone = if since > ROUND_OLD_AFTER { Tone::Low } else { Tone::Good };
    let detail = match scene.snapshot.in_flight {
        0 => None,
        calls => Some(format!("{} under way", words::counted(calls, "call", "calls"))),
    };
    Part { name: "Last round", tone, state: words::ago(scene.snapshot.at, scene.now), detail }
}

impl Part {
    fn up(name: &'static str, is_up: bool, up: &str, down: &str) -> Self {
        let (tone, state) = if is_up { (Tone::Good, up) } else { (Tone::Bad, down) };
        Self { name, tone, state: state.to_owned(), detail: None }
    }
}

/// A number that leads to the accounts that it counts.
#[derive(Serialize)]
pub(super) struct Figure {
    number: String,
    words: String,
    tone: Tone,
    link: Option<String>,
}

/// The fleet in a few numbers.
pub(super) fn figures(scene: &Scene<'_>, counts: &Counts, query: &Query) -> Vec<Figure> {
    let owners = counts.by_actor(|actor| actor == Actor::Owner);
    let operators = counts.by_actor(|actor| actor == Actor::Operator);
    let mending = counts.by_actor(|actor| actor == Actor::Nobody);
    let to = |query: Query| Some(query.path());
    let cause = |cause: &str| to(Query { cause: cause.to_owned(), ..query.bare() });
    let one = |count: usize, words: &str, tone: Tone, link| Figure {
        number: words::thousands(count as u64).into_owned(),
        words: words.to_owned(),
        tone: if count > 0 { tone } else { Tone::Calm },
        link,
    };
    let mut figures = vec![
        one(scene.snapshot.accounts.len(), "accounts", Tone::Calm, None),
        one(counts.healthy(), "healthy", Tone::Good, cause(crate::metrics::accounts::HEALTHY)),
        one(owners, "for an owner to mend", Tone::Bad, cause(words::actor(Actor::Owner))),
        one(operators, "for you to mend", Tone::Bad, cause(words::actor(Actor::Operator))),
        one(mending, "mending by itself", Tone::Low, cause(words::actor(Actor::Nobody))),
        one(
            counts.shut(),
            "not open",
            Tone::Low,
            to(Query { gate: SHUT.to_owned(), ..query.bare() }),
        ),
        one(
            usize::try_from(counts.unauthorized).unwrap_or(usize::MAX),
            "401s in 24 h",
            Tone::Low,
            to(Query { sort: super::query::Sort::Unauthorized, ..query.bare() }),
        ),
    ];
    if let Some(posts) = posts_waiting(scene) {
        let posts = usize::try_from(posts).unwrap_or(usize::MAX);
        figures.push(one(posts, "posts waiting", Tone::Low, None));
    }
    figures
}

fn posts_waiting(scene: &Scene<'_>) -> Option<u64> {
    let stored = scene.readings.posts.as_deref();
    let stored = stored.map(|posts| posts.iter().map(|(_, one)| u64::from(one.held)).sum::<u64>());
    let asked = scene.readings.posts_held.as_deref();
    stored.max(asked.map(|posts| posts.iter().map(|(_, count)| count).sum()))
}

/// Things to do that are shown; the table below has all of them.
const TODOS_SHOWN_MAX: usize = 8;

/// Messages about the configuration that are shown; the log has all of them.
const LINES_SHOWN_MAX: usize = 20;

/// A keeper that has not been round for so long does not work as it should; the alert says so too.
const ROUND_OLD_AFTER: Duration = Duration::from_secs(120);
