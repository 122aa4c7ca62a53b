//! What happened to one account, the newest first: from its history, which outlives a restart, and from what is
//! remembered since the start.

use super::words::{self, Moment, Tone};
use crate::core::{
    Account, Timestamp,
    history::{Failure, History, Source, Writer},
    recent::{Happening, Mark, Origin},
};
use serde::Serialize;

/// One line of it.
#[derive(Serialize)]
pub(super) struct Line {
    #[serde(skip)]
    pub(super) at: Timestamp,
    pub(super) when: Moment,
    pub(super) tone: Tone,
    pub(super) what: String,
    pub(super) detail: Option<String>,
}

/// At most [`LINES_SHOWN_MAX`] of them.
pub(super) fn of(account: &Account, now: Timestamp) -> Vec<Line> {
    let mut lines = Vec::new();
    let mut add = |at: Timestamp, tone, what: String, detail: Option<String>| {
        lines.push(Line { at, when: Moment::of(at, now), tone, what, detail });
    };
    let marks = account.recent.as_deref().map_or(&[][..], |recent| recent.marks());
    if let Some(history) = account.history.as_deref() {
        of_history(history, marks, &mut add);
    }
    for mark in marks {
        let (tone, what) = of_mark(mark);
        let detail = match mark.what {
            Happening::NewToken { ends: Some(ends), .. } => {
                Some(format!("ends {}", words::date(ends)))
            }
            _ => None,
        };
        add(mark.at, tone, what, detail);
    }
    let is_marked = |at| marks.iter().any(|mark| mark.at.since(at).as_secs() < 2 && mark.at >= at);
    if let Some(at) = account.last_refresh_at.filter(|at| !is_marked(*at)) {
        add(at, Tone::Good, "Renewed".to_owned(), None);
    }
    if let Some(at) = account.first_seen_at {
        add(at, Tone::Calm, "First seen in the token store".to_owned(), None);
    }
    // Within a second, what followed stands above what it followed from: the sort keeps the order of equals.
    lines.reverse();
    lines.sort_by_key(|line| std::cmp::Reverse(line.at));
    lines.truncate(LINES_SHOWN_MAX);
    lines
}

fn of_mark(mark: &Mark) -> (Tone, String) {
    let (tone, what) = match mark.what {
        Happening::NewToken { from: Origin::Refresh, .. } => (Tone::Good, "Renewed"),
        Happening::NewToken { from: Origin::Store, .. } => {
            (Tone::Calm, "A token that somebody else put into the store was taken over")
        }
        Happening::NewToken { from: Origin::Consent, .. } => {
            (Tone::Good, "Its owner connected it again")
        }
        Happening::NewToken { from: Origin::Shared, .. } => {
            (Tone::Good, "Renewed with another account that has the same credential")
        }
        Happening::NewToken { from: Origin::Restored, .. } => {
            (Tone::Low, "The newest token was put back into the store")
        }
        Happening::Unsaved => (Tone::Bad, "The token store did not take a new token"),
        Happening::Became(None) => (Tone::Good, "Healthy again"),
        Happening::Became(Some(cause)) => {
            return (Tone::of(cause), format!("Not well: {}", words::cause(cause)));
        }
        Happening::Gate(gate, why) => {
            let door = crate::core::Door { gate, why, ..Default::default() };
            let tone = if gate == crate::core::Gate::Held { Tone::Low } else { Tone::Calm };
            return (tone, format!("Gate {}", words::gate(&door)));
        }
        Happening::PublishChecked(true) => (Tone::Good, "The provider says that it could publish"),
        Happening::PublishChecked(false) => {
            (Tone::Bad, "The provider says that it could not publish")
        }
        Happening::Tried(true) => (Tone::Good, "The access token was tried and works"),
        Happening::Tried(false) => (Tone::Bad, "The access token was tried and is refused"),
    };
    (tone, what.to_owned())
}

fn of_history(
    history: &History,
    marks: &[Mark],
    add: &mut impl FnMut(Timestamp, Tone, String, Option<String>),
) {
    for failure in &history.failures {
        let what = format!("{}: {}", seen_by(failure.source), words::cause(failure.evidence.cause));
        add(failure.evidence.at, Tone::of(failure.evidence.cause), what, Some(of_failure(failure)));
    }
    for seen in &history.scopes {
        let names: Vec<&str> = seen.missing.iter().map(|name| &**name).collect();
        let (tone, what) = match names.is_empty() {
            true => (Tone::Good, "Every scope is granted".to_owned()),
            false => (Tone::Low, format!("Not granted: {}", names.join(", "))),
        };
        add(seen.at, tone, what, None);
    }
    for writing in &history.writings {
        add(writing.at, Tone::Calm, of_writer(writing.by).to_owned(), None);
    }
    let tried =
        |at| marks.iter().any(|mark| matches!(mark.what, Happening::Tried(_)) && mark.at == at);
    if let Some(check) = history.check.filter(|check| !tried(check.at)) {
        let (tone, what) = match check.alive {
            Some(true) => (Tone::Good, "The access token was tried and works"),
            Some(false) => (Tone::Bad, "The access token was tried and is refused"),
            None => {
                (Tone::Calm, "The access token was tried, and the provider said nothing about it")
            }
        };
        add(check.at, tone, what.to_owned(), None);
    }
    if let Some(moved) = &history.moved {
        add(moved.at, Tone::Calm, format!("Came from app {}", moved.from), None);
    }
    if let Some(at) = history.reminded_at {
        add(at, Tone::Calm, "Its owner was reminded of the connection's end".to_owned(), None);
    }
}

const fn seen_by(source: Source) -> &'static str {
    match source {
        Source::Refresh => "The renewal failed",
        Source::Check => "A check failed",
        Source::Publisher => "The publisher reported",
        Source::Announcement => "Announced under a signature",
    }
}

const fn of_writer(by: Writer) -> &'static str {
    match by {
        Writer::Publisher => "Somebody else wrote another token into the store",
        Writer::Reconnect => "Connected anew",
        Writer::StaleCopy => "Somebody else wrote an old token back",
        Writer::Removed => "Somebody else took the token out of the store",
    }
}

/// `HTTP 400, code invalid_grant, log id 2026…, 3 times since …`.
fn of_failure(failure: &Failure) -> String {
    let evidence = &failure.evidence;
    let mut parts = Vec::new();
    parts.extend(evidence.status.map(|status| format!("HTTP {status}")));
    parts.extend(evidence.code.as_deref().map(|code| format!("code {code}")));
    parts.extend(evidence.detail.as_deref().map(|detail| detail.replace('_', " ")));
    parts.extend(evidence.log_id.as_deref().map(|log_id| format!("log id {log_id}")));
    if failure.times > 1 {
        let times = words::thousands(u64::from(failure.times));
        parts.push(format!("{times} times since {}", words::date(failure.first_at)));
    }
    let age = failure.token_age.map(|age| words::span(age.as_secs()));
    parts.extend(age.map(|age| format!("the token was {age} old")));
    parts.join(", ")
}

/// Lines of a page; less than a history and the marks could fill together.
const LINES_SHOWN_MAX: usize = 50;
