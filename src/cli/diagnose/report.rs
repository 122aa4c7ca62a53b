//! The report for people: fit for a ticket in 80 columns, and for a terminal in as many as it has.

use super::{
    super::{accounts::tone, gate, output::moment},
    Found, FoundApp, environment, who,
};
use crate::{
    core::{
        Cause, Timestamp,
        diagnose::{Check, Confidence, Fact, length},
        history::{Failure, Source, Writer},
    },
    terminal::{self, Terminal, Tone, text::wrapped},
};
use std::fmt::Write;

/// What is written, and for whom.
pub(super) struct Report {
    terminal: Terminal,
    columns: usize,
    now: Timestamp,
    pub(super) text: String,
}

impl Report {
    pub(super) fn new(terminal: Terminal, now: Timestamp) -> Self {
        let columns = terminal.prose_columns().unwrap_or(terminal::COLUMNS);
        Self { terminal, columns, now, text: String::new() }
    }

    /// `text` after `first`, and beneath itself where it is long.
    fn put(&mut self, first: &str, text: &str) {
        self.text += &wrapped(first, text, self.columns);
    }

    /// The line under which the rest of an account or an app stands.
    fn head(&mut self, tone: Tone, text: &str) {
        let line = wrapped("", text, self.columns);
        self.text += &self.terminal.paint_lines(tone, &line);
    }

    fn title(&mut self, title: &str) {
        let title = self.terminal.paint(Tone::Strong, title);
        // Writing to a string does not fail.
        let _ = writeln!(self.text, "\n  {title}");
    }

    fn moment(&self, at: Timestamp) -> String {
        moment(self.now, at)
    }

    /// All about one account.
    pub(super) fn account(&mut self, found: &Found<'_>) {
        let Found { account, diagnosis, .. } = found;
        match diagnosis.cause {
            Some(cause) => {
                let sure = diagnosis.confidence.as_label();
                let head = format!("{}: {}, {sure}", account.id, cause.as_label());
                self.head(tone(Some(cause)), &head);
                self.put("  ", cause.sentence());
            }
            None => self.head(Tone::Good, &format!("{}: nothing is wrong", account.id)),
        }
        let step = diagnosis.step;
        let step = match who(step.actor()) {
            Some(who) => format!("{who}: {}", step.sentence()),
            None => step.sentence().to_owned(),
        };
        self.put("  Next step   ", &step);
        if let Some(since) = diagnosis.since {
            self.put("  Since       ", &self.moment(since));
        }
        let since = account.door.since.map(|at| self.moment(at));
        let gate = gate::in_words(&account.id, &account.door, since.as_deref());
        self.put("  Gate        ", &gate);
        if diagnosis.confidence != Confidence::Certain && !diagnosis.suspects.is_empty() {
            self.put("  Or          ", &labels(&diagnosis.suspects));
        }
        self.list("What speaks for it", &diagnosis.reasons_for);
        self.list("What speaks against it", &diagnosis.reasons_against);
        if !diagnosis.ruled_out.is_empty() {
            self.title("Ruled out");
            for (cause, fact) in &diagnosis.ruled_out {
                self.put("  - ", &format!("{}: {}", cause.as_label(), self.timed(fact)));
            }
        }
        self.title("What a person asks first");
        let told: Vec<&Fact> = diagnosis
            .reasons_for
            .iter()
            .chain(&diagnosis.reasons_against)
            .chain(diagnosis.ruled_out.iter().map(|(_, fact)| fact))
            .collect();
        for one in &diagnosis.checks {
            let because = one.because.as_ref().filter(|fact| !told.contains(fact));
            self.check(one, because);
        }
        self.title("Evidence");
        self.evidence(found);
        self.text.push('\n');
    }

    /// The app itself.
    pub(super) fn app(&mut self, found: &FoundApp) {
        let FoundApp { app, accounts, well, .. } = found;
        let tone = match found.secret_trouble {
            Some(_) => Tone::Bad,
            None => Tone::Strong,
        };
        self.head(tone, &format!("app {}", app.name));
        let about =
            format!("{}, {}, client id {}", app.provider.name, environment(app), app.client_id);
        self.put("  Registered  ", &about);
        let plural = if *accounts == 1 { "" } else { "s" };
        self.put("  Accounts    ", &format!("{accounts} account{plural}, {well} of them well"));
        let renewed =
            found.last_refresh_at.map_or_else(|| "never".to_owned(), |at| self.moment(at));
        self.put("  Refreshed   ", &renewed);
        let secret = match &found.secret_trouble {
            Some(trouble) => format!("cannot be read: {trouble}"),
            None if app.client_secrets.in_use().is_none() => "none is configured".to_owned(),
            None => "can be read".to_owned(),
        };
        self.put("  Secret      ", &secret);
        self.text.push('\n');
    }

    /// How many were told of, and of how many there are.
    pub(super) fn closing(&mut self, found: &[Found<'_>], accounts: usize) {
        let plural = if accounts == 1 { "" } else { "s" };
        // Writing to a string does not fail.
        let _ = writeln!(self.text, "{accounts} account{plural}, {} not well", found.len());
    }

    fn list(&mut self, title: &str, facts: &[Fact]) {
        if facts.is_empty() {
            return;
        }
        self.title(title);
        for fact in facts {
            self.put("  - ", &self.timed(fact));
        }
    }

    /// The sentence, and when.
    fn timed(&self, fact: &Fact) -> String {
        let sentence = fact.to_string();
        let Some(at) = fact.at else { return sentence };
        let mut text = format!("{}: {}", sentence.trim_end_matches('.'), self.moment(at));
        if let Some(since) = fact.since {
            // Writing to a string does not fail.
            let _ = write!(text, ", first {}", self.moment(since));
        }
        text
    }

    fn check(&mut self, check: &Check, because: Option<&Fact>) {
        let answer = match check.answer {
            Some(true) => "yes",
            Some(false) => "no",
            None => "not known",
        };
        let first = format!("  {:<34}", check.question.sentence());
        let because = because.map(|fact| format!(" - {}", self.timed(fact))).unwrap_or_default();
        self.put(&first, &format!("{answer}{because}"));
    }

    fn line(&mut self, name: &str, value: &str) {
        self.put(&format!("  {name:<20}"), value);
    }

    fn evidence(&mut self, found: &Found<'_>) {
        let account = found.account;
        let now = self.now;
        let at =
            |at: Option<Timestamp>| at.map_or_else(|| "not known".to_owned(), |at| moment(now, at));
        let registered = found.app.as_ref().map_or_else(String::new, |app| {
            format!(" ({}, client id {})", environment(app), app.client_id)
        });
        self.line("App", &format!("{}{registered}", account.app));
        if let Some(app) = &found.app {
            self.line("Required", &or_none(app.scopes.iter().map(|scope| &**scope)));
        }
        let granted = found.granted.map(|granted| or_none(granted.iter().map(String::as_str)));
        self.line("Granted", &granted.unwrap_or_else(|| "not recorded in the store".to_owned()));
        if let Some(token) = &account.token {
            self.line("Token", &format!("{} (a fingerprint)", token.token));
            self.line("Issued, or found", &moment(now, token.issued_at));
            self.line("Access token ends", &at(token.expires_at));
            let end = account.refresh_end;
            let known =
                end.map(|end| format!(" ({}, {})", end.from.as_label(), end.moves.as_label()));
            let ends_at = end.map(|end| end.at).or(token.refresh_expires_at);
            self.line("Refresh token ends", &(at(ends_at) + known.as_deref().unwrap_or_default()));
        }
        self.line("First seen", &at(account.first_seen_at));
        self.line(
            "Last good refresh",
            &account.last_refresh_at.map_or_else(|| "none".into(), |a| moment(now, a)),
        );
        let Some(history) = &account.history else { return };
        for writing in &history.writings {
            self.line("Written by", &format!("{} {}", writer(writing.by), moment(now, writing.at)));
        }
        for seen in &history.scopes {
            let missing = or_none(seen.missing.iter().map(|scope| &**scope));
            self.line("Missing from", &format!("{}: {missing}", moment(now, seen.at)));
        }
        if let Some(check) = history.check {
            let said = match check.alive {
                Some(true) => "it works",
                Some(false) => "it is refused",
                None => "no answer",
            };
            self.line("Last tried", &format!("{}: {said}", moment(now, check.at)));
        }
        history.failures.iter().rev().for_each(|one| self.line("Failure", &failure(one, now)));
    }
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
