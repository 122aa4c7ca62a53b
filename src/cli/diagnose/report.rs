//! The report for people: 80 columns, fit for a ticket.

use super::{
    super::output::{moment, wrapped},
    Found, FoundApp, environment, who,
};
use crate::core::{
    Cause, Timestamp,
    diagnose::{Check, Confidence, Fact, length},
    history::{Failure, Source, Writer},
};
use std::fmt::Write;

/// All about one account.
pub(super) fn account(found: &Found<'_>, now: Timestamp) -> String {
    let Found { account, diagnosis, .. } = found;
    let mut text = match diagnosis.cause {
        Some(cause) => {
            let sure = diagnosis.confidence.as_label();
            let head = format!("{}: {}, {sure}", account.id, cause.as_label());
            wrapped("", &head) + &wrapped("  ", cause.sentence())
        }
        None => wrapped("", &format!("{}: nothing is wrong", account.id)),
    };
    let step = diagnosis.step;
    let step = match who(step.actor()) {
        Some(who) => format!("{who}: {}", step.sentence()),
        None => step.sentence().to_owned(),
    };
    text += &wrapped("  Next step   ", &step);
    if let Some(since) = diagnosis.since {
        text += &wrapped("  Since       ", &moment(now, since));
    }
    if diagnosis.confidence != Confidence::Certain && !diagnosis.suspects.is_empty() {
        text += &wrapped("  Or          ", &labels(&diagnosis.suspects));
    }
    text += &list("What speaks for it", &diagnosis.reasons_for, now);
    text += &list("What speaks against it", &diagnosis.reasons_against, now);
    if !diagnosis.ruled_out.is_empty() {
        text += "\n  Ruled out\n";
        for (cause, fact) in &diagnosis.ruled_out {
            text += &wrapped("  - ", &format!("{}: {}", cause.as_label(), timed(fact, now)));
        }
    }
    text += "\n  What a person asks first\n";
    let told: Vec<&Fact> = diagnosis
        .reasons_for
        .iter()
        .chain(&diagnosis.reasons_against)
        .chain(diagnosis.ruled_out.iter().map(|(_, fact)| fact))
        .collect();
    for one in &diagnosis.checks {
        let because = one.because.as_ref().filter(|fact| !told.contains(fact));
        text += &check(one, because, now);
    }
    text += "\n  Evidence\n";
    text += &evidence(found, now);
    text.push('\n');
    text
}

/// The app itself.
pub(super) fn app(found: &FoundApp, now: Timestamp) -> String {
    let FoundApp { app, accounts, well, .. } = found;
    let mut text = wrapped("", &format!("app {}", app.name));
    let about = format!("{}, {}, client id {}", app.provider.name, environment(app), app.client_id);
    text += &wrapped("  Registered  ", &about);
    let plural = if *accounts == 1 { "" } else { "s" };
    text += &wrapped("  Accounts    ", &format!("{accounts} account{plural}, {well} of them well"));
    let renewed = found.last_refresh_at.map_or_else(|| "never".to_owned(), |at| moment(now, at));
    text += &wrapped("  Refreshed   ", &renewed);
    let secret = match &found.secret_trouble {
        Some(trouble) => format!("cannot be read: {trouble}"),
        None if app.client_secrets.in_use().is_none() => "none is configured".to_owned(),
        None => "can be read".to_owned(),
    };
    text += &wrapped("  Secret      ", &secret);
    text.push('\n');
    text
}

/// How many were told of, and of how many there are.
pub(super) fn closing(found: &[Found<'_>], accounts: usize) -> String {
    let plural = if accounts == 1 { "" } else { "s" };
    format!("{accounts} account{plural}, {} not well\n", found.len())
}

fn list(title: &str, facts: &[Fact], now: Timestamp) -> String {
    if facts.is_empty() {
        return String::new();
    }
    let mut text = format!("\n  {title}\n");
    for fact in facts {
        text += &wrapped("  - ", &timed(fact, now));
    }
    text
}

/// The sentence, and when.
fn timed(fact: &Fact, now: Timestamp) -> String {
    let sentence = fact.to_string();
    let Some(at) = fact.at else { return sentence };
    let mut text = format!("{}: {}", sentence.trim_end_matches('.'), moment(now, at));
    if let Some(since) = fact.since {
        // Writing to a string does not fail.
        let _ = write!(text, ", first {}", moment(now, since));
    }
    text
}

fn check(check: &Check, because: Option<&Fact>, now: Timestamp) -> String {
    let answer = match check.answer {
        Some(true) => "yes",
        Some(false) => "no",
        None => "not known",
    };
    let first = format!("  {:<34}", check.question.sentence());
    let because = because.map(|fact| format!(" - {}", timed(fact, now))).unwrap_or_default();
    wrapped(&first, &format!("{answer}{because}"))
}

fn evidence(found: &Found<'_>, now: Timestamp) -> String {
    let account = found.account;
    let at =
        |at: Option<Timestamp>| at.map_or_else(|| "not known".to_owned(), |at| moment(now, at));
    let mut text = String::new();
    let mut line = |name: &str, value: String| text += &wrapped(&format!("  {name:<20}"), &value);
    let registered = found.app.as_ref().map_or_else(String::new, |app| {
        format!(" ({}, client id {})", environment(app), app.client_id)
    });
    line("App", format!("{}{registered}", account.app));
    if let Some(app) = &found.app {
        line("Required", or_none(app.scopes.iter().map(|scope| &**scope)));
    }
    let granted = found.granted.map(|granted| or_none(granted.iter().map(String::as_str)));
    line("Granted", granted.unwrap_or_else(|| "not recorded in the store".to_owned()));
    if let Some(token) = &account.token {
        line("Token", format!("{} (a fingerprint)", token.token));
        line("Issued, or found", moment(now, token.issued_at));
        line("Access token ends", at(token.expires_at));
        let end = account.refresh_end;
        let known = end.map(|end| format!(" ({}, {})", end.from.as_label(), end.moves.as_label()));
        let ends_at = end.map(|end| end.at).or(token.refresh_expires_at);
        line("Refresh token ends", at(ends_at) + known.as_deref().unwrap_or_default());
    }
    line("First seen", at(account.first_seen_at));
    line(
        "Last good refresh",
        account.last_refresh_at.map_or_else(|| "none".into(), |a| moment(now, a)),
    );
    let Some(history) = &account.history else { return text };
    for writing in &history.writings {
        line("Written by", format!("{} {}", writer(writing.by), moment(now, writing.at)));
    }
    for seen in &history.scopes {
        let missing = or_none(seen.missing.iter().map(|scope| &**scope));
        line("Missing from", format!("{}: {missing}", moment(now, seen.at)));
    }
    if let Some(check) = history.check {
        let said = match check.alive {
            Some(true) => "it works",
            Some(false) => "it is refused",
            None => "no answer",
        };
        line("Last tried", format!("{}: {said}", moment(now, check.at)));
    }
    history.failures.iter().rev().for_each(|one| line("Failure", failure(one, now)));
    text
}

fn failure(failure: &Failure, now: Timestamp) -> String {
    let evidence = &failure.evidence;
    let mut text = format!("{}: {}", moment(now, evidence.at), evidence.cause.as_label());
    let mut add = |words: String| text += &words;
    evidence.status.into_iter().for_each(|status| add(format!(", HTTP {status}")));
    for (name, part) in
        [("code", &evidence.code), ("detail", &evidence.detail), ("log id", &evidence.log_id)]
    {
        part.iter().for_each(|part| add(format!(", {name} {part}")));
    }
    failure.token_age.into_iter().for_each(|age| add(format!(", token {} old", length(age))));
    if failure.times > 1 {
        add(format!(", {} times since {}", failure.times, moment(now, failure.first_at)));
    }
    add(match failure.source {
        Source::Refresh => ", refreshing".to_owned(),
        Source::Check => ", trying the access token".to_owned(),
        Source::Publisher => ", reported by the publisher".to_owned(),
        Source::Announcement => ", announced under a signature".to_owned(),
    });
    text
}

const fn writer(writer: Writer) -> &'static str {
    match writer {
        Writer::Publisher => "somebody else (publisher, or connected anew)",
        Writer::Reconnect => "a new connection",
        Writer::StaleCopy => "somebody with an old copy, put right",
        Writer::Removed => "somebody who took it away",
    }
}

fn or_none<'a>(names: impl Iterator<Item = &'a str>) -> String {
    let names: Vec<&str> = names.collect();
    if names.is_empty() { "nothing".to_owned() } else { names.join(", ") }
}

fn labels(causes: &[Cause]) -> String {
    causes.iter().map(|cause| cause.as_label()).collect::<Vec<_>>().join(", ")
}
