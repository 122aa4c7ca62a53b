//! Every event that the sources log stands in `docs/logs.md`, under its level, with what to do; and nothing else
//! stands there. Its text is constant: what differs from case to case is in fields. Lines that pages show are such as are
//! logged.

#![expect(clippy::unwrap_used, reason = "a test that cannot prepare itself has failed")]

use oauth_keepalive::core::Cause;
use std::{
    collections::BTreeSet,
    fs,
    path::{Path, PathBuf},
};

const LEVELS: [&str; 4] = ["error", "warn", "info", "debug"];

/// Level and text.
type Event = (String, String);

#[test]
fn every_event_of_the_sources_stands_in_the_table_and_no_other() {
    let logged: BTreeSet<Event> = sources().iter().flat_map(|text| events_in(text)).collect();
    assert!(logged.len() > 100, "only {} events were found", logged.len());
    let told = told(&fs::read_to_string("docs/logs.md").unwrap());
    let missing: Vec<_> = logged.difference(&told).collect();
    assert!(missing.is_empty(), "docs/logs.md lacks {missing:#?}");
    let gone: Vec<_> = told.difference(&logged).collect();
    assert!(gone.is_empty(), "docs/logs.md has what nobody logs: {gone:#?}");
}

#[test]
fn the_text_of_an_event_is_constant() {
    let texts = sources().into_iter().flat_map(|text| events_in(&text));
    let changing: Vec<_> = texts.filter(|(_, text)| text.contains(['{', '}'])).collect();
    assert!(changing.is_empty(), "what changes belongs into a field: {changing:#?}");
}

#[test]
fn events_are_found_however_they_are_written() {
    let text = r#"
        tracing::warn!(account = %id, why = "a, \"b\"", "it waits");
        tracing::error!(
            %error,
            url = format!("{}/", x(1)),
            "it failed (twice)"
        );
        tracing::info!("{meaning}");
    "#;
    let found: Vec<_> = events_in(text);
    let expected = [("warn", "it waits"), ("error", "it failed (twice)"), ("info", "{meaning}")];
    assert_eq!(found, expected.map(|(level, text)| (level.to_owned(), text.to_owned())));
}

#[test]
fn a_line_that_a_page_shows_is_one_that_is_logged() {
    let told = told(&fs::read_to_string("docs/logs.md").unwrap());
    let mut shown = 0;
    for page in ["README.md", "docs", "docs/runbooks"].map(Path::new).iter().flat_map(pages_of) {
        let text = fs::read_to_string(&page).unwrap();
        for line in
            text.lines().filter(|line| line.starts_with("level=") || line.starts_with("ts="))
        {
            let fields = fields_of(line);
            let value = |wanted: &str| {
                let field = fields.iter().find(|(name, _)| name == wanted);
                field.map(|(_, value)| value.clone())
            };
            let names: Vec<&str> = fields.iter().map(|(name, _)| name.as_str()).collect();
            let head = names.strip_prefix(&["ts"]).unwrap_or(&names);
            assert!(head.starts_with(&["level", "msg"]), "{page:?}: {line}");
            let event = (value("level").unwrap(), value("msg").unwrap());
            assert!(told.contains(&event), "{page:?}: nobody logs {event:?}");
            let Some(cause) = value("cause") else {
                shown += 1;
                continue;
            };
            let cause = Cause::from_label(&cause).expect("a cause");
            let meaning = value("meaning").is_none_or(|meaning| meaning == cause.sentence());
            let step = value("next_step").is_none_or(|step| step == cause.next_step());
            assert!(
                meaning && step,
                "{page:?}: of {} something else is said: {line}",
                cause.as_label()
            );
            shown += 1;
        }
    }
    assert!(shown > 2, "only {shown} lines were found");
}

/// The pages in a folder, or the page itself.
fn pages_of(place: &&Path) -> Vec<PathBuf> {
    if place.is_file() {
        return vec![place.to_path_buf()];
    }
    let entries = fs::read_dir(place).unwrap().map(|entry| entry.unwrap().path());
    entries.filter(|path| path.extension().is_some_and(|end| end == "md")).collect()
}

/// The fields of a line in logfmt. A value in quotes has no escaped ones on our pages.
fn fields_of(line: &str) -> Vec<(String, String)> {
    let mut fields = Vec::new();
    let mut rest = line;
    while let Some((name, behind)) = rest.split_once('=') {
        let (value, next) = match behind.strip_prefix('"') {
            Some(quoted) => quoted.split_once('"').expect("a quote is closed"),
            None => behind.split_once(' ').unwrap_or((behind, "")),
        };
        fields.push((name.trim_start().to_owned(), value.to_owned()));
        rest = next;
    }
    fields
}

/// The last string among the arguments of each of the macros.
fn events_in(text: &str) -> Vec<Event> {
    let mut events = Vec::new();
    for (at, _) in text.match_indices("tracing::") {
        let rest = &text[at + "tracing::".len()..];
        let Some(level) = LEVELS
            .into_iter()
            .find(|level| rest.strip_prefix(level).is_some_and(|behind| behind.starts_with("!(")))
        else {
            continue;
        };
        let last = last_string(&rest[level.len() + 2..]);
        events.push((level.to_owned(), last.expect("every event has a text")));
    }
    events
}

/// The last string before the parenthesis that was open is closed.
fn last_string(arguments: &str) -> Option<String> {
    let (mut depth, mut last, mut open) = (1, None, None::<String>);
    let mut letters = arguments.chars();
    while let Some(letter) = letters.next() {
        match (&mut open, letter) {
            (Some(text), '\\') => text.extend(letters.next()),
            (Some(_), '"') => last = open.take(),
            (Some(text), letter) => text.push(letter),
            (None, '"') => open = Some(String::new()),
            (None, '(') => depth += 1,
            (None, ')') => depth -= 1,
            (None, _) => {}
        }
        if depth == 0 {
            return last;
        }
    }
    None
}

/// The rows of the tables, each with the level of its heading.
fn told(page: &str) -> BTreeSet<Event> {
    let mut level = None;
    let mut events = BTreeSet::new();
    for line in page.lines() {
        if let Some(heading) = line.strip_prefix("## ") {
            level = LEVELS.into_iter().find(|level| heading.starts_with(&format!("{level}:")));
        }
        let (Some(level), Some(row)) = (level, line.strip_prefix("| `")) else { continue };
        let (text, rest) = match row.strip_prefix('`') {
            Some(row) => row.split_once("`` | ").unwrap(),
            None => row.split_once("` | ").unwrap(),
        };
        assert!(rest.len() > 2, "{text}: it is not said what to do");
        if text != "msg" {
            events.insert((level.to_owned(), text.to_owned()));
        }
    }
    events
}

fn sources() -> Vec<String> {
    let (mut folders, mut texts) = (vec![PathBuf::from("src")], Vec::new());
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                folders.push(path);
            } else if path.extension().is_some_and(|extension| extension == "rs") {
                texts.push(fs::read_to_string(path).unwrap());
            }
        }
    }
    texts
}
