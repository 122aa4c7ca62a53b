//! `observe`: logs, questions, and our own check now and then.

use super::{Check, add, store};
use crate::{
    config::{
        explain,
        file::{self, Span},
        problem::KeyPath,
    },
    observe::{
        BadPattern, Format, Is, LOGS_MAX, Lines, Log, Only, PATTERN_BYTES_MAX, Posts, Provider,
        Query, Reader, Settings, Status,
    },
    stores,
};
use std::{collections::BTreeMap, ops::RangeInclusive, path::Path};

pub(super) fn check(
    check: &mut Check<'_>,
    observe: &file::Observe,
    store: &stores::Settings,
    providers: &[&str],
) -> Settings {
    let file::Observe { logs, query, posts, probe } = observe;
    check.within("observe.query.every", query.every, QUERY_EVERY);
    check.within("observe.posts.every", posts.every, QUERY_EVERY);
    check.within("observe.posts.window", posts.window, WINDOW);
    check.within("observe.probe.every", probe.every, PROBE_EVERY);
    let query = query.sql.as_deref().map(|sql| Query {
        sql: question(check, "observe.query", sql, ":position", store),
        provider_name: fixed(check, "observe.query", query.provider_name.as_deref(), providers),
        first: query.first.clone(),
        start: query.start,
        every: query.every.0,
    });
    let posts = posts.sql.as_deref().map(|sql| Posts {
        sql: question(check, "observe.posts", sql, ":until", store),
        provider_name: fixed(check, "observe.posts", posts.provider_name.as_deref(), providers),
        every: posts.every.0,
        window: posts.window.0,
    });
    let probe = probe.enabled.then_some(probe.every.0);
    Settings { logs: all_logs(check, logs, providers), query, posts, probe }
}

fn all_logs(check: &mut Check<'_>, logs: &[file::ObservedLog], providers: &[&str]) -> Vec<Log> {
    if logs.len() > LOGS_MAX {
        let what = format!("{} logs, expected at most {LOGS_MAX}", logs.len());
        check.problem("observe.logs", what, "let the publisher write them into one");
        return Vec::new();
    }
    let mut first: BTreeMap<String, usize> = BTreeMap::new();
    let mut checked = Vec::new();
    for (nth, written) in logs.iter().enumerate() {
        let at = KeyPath::from("observe.logs").index(nth);
        let log = log(check, &at, written, providers);
        if let Some(other) = first.get(&log.name).filter(|_| !log.name.is_empty()) {
            let what = format!("the name {} is that of element {other}", shown(&log.name));
            check.problem(at.key("name"), what, "give each of them a `name` of its own");
        }
        first.entry(log.name.clone()).or_insert(nth);
        checked.push(log);
    }
    checked
}

fn log(check: &mut Check<'_>, at: &KeyPath, log: &file::ObservedLog, providers: &[&str]) -> Log {
    let path = match &log.path {
        None => {
            let key = at.key("path");
            check.problem(key.clone(), "missing, expected the publisher's log", add(&key));
            Path::new("").to_owned()
        }
        Some(path) => check.resolved(path),
    };
    if path.is_dir() {
        let remedy = "name the file in it, whether or not it is there yet";
        check.problem(at.key("path"), "this is a directory, expected a file", remedy);
    }
    let of_file = path.file_name().and_then(|name| name.to_str()).map(str::to_owned);
    let name = match &log.name {
        Some(name) => check.text(at.key("name"), Some(name), "a name for metrics"),
        None => of_file.unwrap_or_default(),
    };
    Log { name, path, lines: lines(check, at, log, providers), start: log.start }
}

fn lines(
    check: &mut Check<'_>,
    at: &KeyPath,
    log: &file::ObservedLog,
    providers: &[&str],
) -> Lines {
    let is_json = log.format == file::LogFormat::Json;
    let format = match (&log.pattern, is_json) {
        (None, true) => Format::Json,
        (Some(_), true) => {
            let remedy = "write `format: pattern`, or remove the pattern";
            check.problem(at.key("pattern"), "given, and the format is json", remedy);
            Format::Json
        }
        (Some(pattern), false) => Format::Pattern(pattern.clone()),
        (None, false) => {
            let key = at.key("pattern");
            check.problem(key.clone(), "missing, expected a regular expression", add(&key));
            Format::Json
        }
    };
    // A pattern names its groups; a pointer must be told.
    let group = |name: &str| (!is_json).then(|| name.to_owned());
    let account = log.account.clone().or_else(|| group("account")).unwrap_or_else(|| {
        let key = at.key("account");
        check.problem(key.clone(), "missing, expected a JSON pointer to the account", add(&key));
        String::new()
    });
    let provider = provider(check, at, log, providers);
    let status = status(check, at, log, group("status"));
    let (wrapped, body, place) = (log.wrapped, log.body.clone(), log.place);
    let only = log.only.as_ref().and_then(|one| only(check, &at.key("only"), one));
    let lines = Lines { format, wrapped, account, provider, status, body, place, only };
    if is_json {
        pointers(check, at, log);
    } else if log.pattern.is_some() {
        pattern(check, at, &lines);
    }
    lines
}

fn provider(
    check: &mut Check<'_>,
    at: &KeyPath,
    log: &file::ObservedLog,
    providers: &[&str],
) -> Provider {
    match (&log.provider, &log.provider_name) {
        (Some(place), None) => Provider::At(place.clone()),
        (None, Some(name)) => {
            store::known_provider(check, at.key("provider_name"), name, providers);
            Provider::Fixed(name.clone())
        }
        (given, _) => {
            let (key, what) = match given {
                Some(_) => ("provider_name", "given beside `provider`, expected one of the two"),
                None => ("provider", "missing, expected where the provider stands"),
            };
            let remedy = "keep `provider: …` where each line names it, `provider_name: …` where all lines have the same one";
            check.problem(at.key(key), what, remedy);
            Provider::Fixed(String::new())
        }
    }
}

fn status(
    check: &mut Check<'_>,
    at: &KeyPath,
    log: &file::ObservedLog,
    usual: Option<String>,
) -> Status {
    match (&log.status, log.status_code) {
        (Some(_), Some(_)) => {
            let what = "given beside `status`, expected one of the two";
            check.problem(at.key("status_code"), what, "remove one of the two");
        }
        (Some(place), None) => return Status::At(place.clone()),
        (None, Some(code)) if (100..=599).contains(&code) => return Status::Fixed(code),
        (None, Some(code)) => {
            let what = format!("found {code}, expected an HTTP status, 100 to 599");
            check.problem(at.key("status_code"), what, "write 401 for lines that mean just that");
        }
        (None, None) => match usual {
            Some(usual) => return Status::At(usual),
            None => {
                let key = at.key("status");
                let what = "missing, expected a JSON pointer to the HTTP status";
                check.problem(key.clone(), what, add(&key));
            }
        },
    }
    Status::Fixed(401)
}

fn only(check: &mut Check<'_>, at: &KeyPath, only: &file::ObservedOnly) -> Option<Only> {
    let is = match (&only.equals, &only.contains) {
        (Some(text), None) => Is::Equal(text.clone()),
        (None, Some(text)) => Is::Containing(text.clone()),
        _ => {
            let what = "expected either `equals` or `contains`";
            check.problem(at.clone(), what, "write one of them, with the text that is looked for");
            return None;
        }
    };
    Some(Only { at: only.at.clone(), is })
}

/// Each begins with a slash; anything else is found in no line.
fn pointers(check: &mut Check<'_>, at: &KeyPath, log: &file::ObservedLog) {
    let only = log.only.as_ref().and_then(|only| only.at.as_ref());
    for (key, pointer) in [
        (at.key("account"), log.account.as_ref()),
        (at.key("provider"), log.provider.as_ref()),
        (at.key("status"), log.status.as_ref()),
        (at.key("body"), log.body.as_ref()),
        (at.key("only").key("at"), only),
    ] {
        let Some(pointer) = pointer.filter(|pointer| !pointer.starts_with('/')) else { continue };
        let what =
            format!("found {}, expected a JSON pointer, which begins with /", shown(pointer));
        check.problem(key, what, "write /account/id for {\"account\":{\"id\":…}}");
    }
}

fn pattern(check: &mut Check<'_>, at: &KeyPath, lines: &Lines) {
    let Err(bad) = Reader::new(lines.clone()) else { return };
    let remedy = match &bad {
        BadPattern::TooLong => format!("shorten it to {PATTERN_BYTES_MAX} bytes"),
        BadPattern::TooBig => "lower its repetitions such as {100}".to_owned(),
        BadPattern::Wrong(_) => {
            "mend it; in single quotes YAML leaves backslashes alone".to_owned()
        }
        BadPattern::NoGroup { name, there } if there.is_empty() => {
            format!("write (?<{name}>…) around what it stands for; it has no groups with names")
        }
        BadPattern::NoGroup { name, there } => {
            let there = there.join(", ");
            format!("write (?<{name}>…) around what it stands for; its groups are {there}")
        }
    };
    check.problem(at.key("pattern"), bad.to_string(), remedy);
}

fn question(
    check: &mut Check<'_>,
    section: &str,
    sql: &str,
    parameter: &str,
    store: &stores::Settings,
) -> String {
    let key = || KeyPath::from(section).key("sql");
    let is_database = match store {
        stores::Settings::File(_) | stores::Settings::Redis(_) => false,
        stores::Settings::Sqlite(_)
        | stores::Settings::Postgres(_)
        | stores::Settings::Mysql(_) => true,
    };
    if !is_database {
        let what = "given, and the store is no database that could be asked";
        check.problem(key(), what, "remove it, or follow the publisher's log");
    } else if sql.trim().is_empty() {
        check.problem(key(), "empty, expected a SELECT", "write it after the colon, or remove it");
    } else if sql.len() > SQL_BYTES_MAX {
        let what = format!("longer than {SQL_BYTES_MAX} bytes");
        check.problem(key(), what, "make a view of it in the publisher's database");
    } else if !sql.contains(parameter) {
        let what = format!("has no {parameter}, expected it where the value belongs");
        let remedy = match parameter {
            ":position" => "write WHERE id > :position, or what your rows grow by",
            _ => {
                "write publish_at < :until, with the conversion from Unix time that your database has"
            }
        };
        check.problem(key(), what, remedy);
    }
    sql.to_owned()
}

fn fixed(
    check: &mut Check<'_>,
    section: &str,
    name: Option<&str>,
    providers: &[&str],
) -> Option<String> {
    let name = name?;
    store::known_provider(check, KeyPath::from(section).key("provider_name"), name, providers);
    Some(name.to_owned())
}

fn shown(text: &str) -> String {
    explain::shown(text, false)
}

/// More often is a burden on the publisher's database, less often nobody would wait for.
const QUERY_EVERY: RangeInclusive<Span> = Span::seconds(1)..=Span::seconds(24 * 3_600);
const WINDOW: RangeInclusive<Span> = Span::seconds(60)..=Span::seconds(31 * 24 * 3_600);
const PROBE_EVERY: RangeInclusive<Span> = Span::seconds(10 * 60)..=Span::seconds(31 * 24 * 3_600);

/// Longest question.
const SQL_BYTES_MAX: usize = 8 * 1024;
