//! Every event that the sources log stands in `docs/logs.md`, under its level, with what to do; and nothing else
//! stands there. Its text is constant: what differs from case to case is in fields.

#![expect(clippy::unwrap_used, reason = "a test that cannot prepare itself has failed")]

use std::{collections::BTreeSet, fs, path::PathBuf};

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
