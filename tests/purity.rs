//! Who may know whom: the directions of the design, read off the source text.
//!
//! A rule is one line of a table. The text is searched without comments; unit tests at the end of a file
//! are left out, since a test may reach wherever it likes.

use std::{
    collections::BTreeSet,
    fs,
    path::{Path, PathBuf},
};

/// In files whose path matches one of the first, none of the second may occur; and why.
struct Ban {
    within: &'static [&'static str],
    words: &'static [&'static str],
    because: &'static str,
}

const BANS: &[Ban] = &[
    Ban {
        within: &["core/"],
        words: &[
            "std::fs",
            "std::net",
            "std::env",
            "std::process",
            "std::thread",
            "std::io",
            "std::os",
            "Instant::now",
            "SystemTime",
            "UNIX_EPOCH",
            "println!",
            "eprintln!",
        ],
        because: "the core does no I/O, reads no clock and draws nothing at random",
    },
    Ban {
        within: &["core/"],
        words: &[
            "async fn",
            ".await",
            "Mutex",
            "RwLock",
            "static mut",
            "HashMap",
            "HashSet",
            "RandomState",
        ],
        because: "the core waits for nobody, locks nothing, and answers the same when asked twice",
    },
    Ban {
        within: &[
            "core/account.rs",
            "core/table.rs",
            "core/event.rs",
            "core/notices.rs",
            "core/fleet/",
        ],
        words: &["Secret"],
        because: "snapshots, notices and events have no field that could hold a token",
    },
    Ban {
        within: &["metrics/", "server/", "delivery/", "report.rs"],
        words: &["oauth::", "TokenStore", "AnyStore", "stores::", "refresh::", "OpenEntry"],
        because: "what shows and tells is handed snapshots, so no mistake in it can print a token",
    },
];

/// Modules that files of a shell may import from this crate; `core`, themselves and what is under them
/// always. A shell that is not listed may import everything but `config`.
const ALLOWED: &[(&str, &[&str], &str)] = &[
    ("core/", &[], "the core knows nobody"),
    ("clock.rs", &[], "one clock, no opinion"),
    ("terminal/", &[], "knows what is shown, and of whom not"),
    ("logs/", &["terminal"], "events in, lines out"),
    ("secrets.rs", &[], "reads a file or a variable"),
    ("oauth/", &[], "requests and answers as values"),
    ("providers/", &["oauth"], "data, and one interpreter of it"),
    ("http_client.rs", &["oauth"], "carries a request"),
    (
        "stores/",
        &["oauth", "postgres_save", "postgres_tls", "secrets"],
        "the publisher's tables, and nobody else's",
    ),
    ("postgres_save.rs", &[], "what two shells say to each other, and nothing of either"),
    ("postgres_tls.rs", &[], "carries bytes to a server that proved who it is"),
    (
        "state/",
        &["oauth", "postgres_save", "postgres_tls", "secrets"],
        "our tables, and nobody else's",
    ),
    (
        "hooks.rs",
        &["clock", "http_client", "metrics", "oauth", "secrets"],
        "gates that moved in, signed requests out",
    ),
    ("metrics/", &["report"], "snapshots and events in, text out"),
    ("server/", &["clock", "metrics", "secrets"], "snapshots and events in, pages out"),
    (
        "observe/",
        &["clock", "metrics", "server", "state", "stores"],
        "the publisher's logs and tables in, inputs for the keeper out",
    ),
    ("delivery/", &["clock", "report", "secrets", "state"], "the outbox in, mail out"),
];

/// Who wires the parts, and so may read the configuration.
const WIRING: &[&str] = &["main.rs", "app.rs", "app/", "cli/", "demo/", "config/", "config.rs"];

/// Crates that the core may use; the first wipes secrets, which is memory and not I/O.
const CRATES_OF_THE_CORE: &[&str] = &["std", "crate", "super", "self", "zeroize"];

#[test]
fn the_core_and_the_shells_import_only_what_the_design_allows() {
    let broken = broken_rules(&sources());
    assert!(broken.is_empty(), "{}", broken.join("\n"));
}

#[test]
fn each_rule_is_broken_by_a_planted_import() {
    let planted = [
        ("core/decide.rs", "use std::fs;"),
        ("core/decide.rs", "use tokio::time::sleep;"),
        ("core/decide.rs", "use {std::sync::Arc, reqwest::Client};"),
        ("core/fleet/mod.rs", "use crate::clock::Clock;"),
        (
            "core/fleet/mod.rs",
            "use crate::{\n    core::Cause,\n    stores::{TokenStore, Saved},\n};",
        ),
        ("core/table.rs", "use super::Secret;"),
        ("metrics/accounts.rs", "fn show(token: &crate::oauth::Token) {}"),
        ("server/status.rs", "use crate::stores::AnyStore;"),
        ("delivery/mailer.rs", "use crate::{core::Event, refresh::Refresher};"),
        ("state/journal.rs", "use crate::stores::TokenStore;"),
        ("stores/file.rs", "use crate::state::State;"),
        ("keeper.rs", "use crate::{clock::Clock, config::Settings};"),
    ];
    for (path, text) in planted {
        let broken = broken_rules(&[(PathBuf::from(path), text.to_owned())]);
        assert!(!broken.is_empty(), "nobody minds {text:?} in {path}");
    }
}

fn broken_rules(sources: &[(PathBuf, String)]) -> Vec<String> {
    let mut broken = Vec::new();
    for (path, text) in sources {
        let name = path.to_string_lossy().replace('\\', "/");
        let code = code_of(text);
        for ban in
            BANS.iter().filter(|ban| ban.within.iter().any(|within| name.starts_with(within)))
        {
            for word in ban.words.iter().filter(|word| code.contains(*word)) {
                broken.push(format!("src/{name} mentions `{word}`: {}", ban.because));
            }
        }
        let ours = modules_named(&code);
        if let Some((place, allowed, because)) =
            ALLOWED.iter().find(|(place, ..)| name.starts_with(place))
        {
            let own = place.trim_end_matches(".rs").trim_end_matches('/');
            for module in &ours {
                if module != own && module != "core" && !allowed.contains(&module.as_str()) {
                    broken.push(format!("src/{name} imports `crate::{module}`: {because}"));
                }
            }
        }
        if ours.contains("config") && !WIRING.iter().any(|place| name.starts_with(place)) {
            broken.push(format!(
                "src/{name} imports `crate::config`: only those who wire the parts read it"
            ));
        }
        if name.starts_with("core/") {
            for foreign in roots(&code)
                .difference(&CRATES_OF_THE_CORE.iter().map(|name| (*name).to_owned()).collect())
            {
                broken.push(format!("src/{name} imports `{foreign}`: the core stands alone"));
            }
        }
    }
    broken
}

/// Without comments and without the unit tests at the end.
fn code_of(text: &str) -> String {
    let code = text.split("#[cfg(test)]\nmod tests").next().unwrap_or_default();
    let lines = code.lines().map(|line| line.split("//").next().unwrap_or_default());
    lines.collect::<Vec<_>>().join("\n")
}

/// The modules of this crate that `code` names, in a path or in a group.
fn modules_named(code: &str) -> BTreeSet<String> {
    let mut names = BTreeSet::new();
    for (at, word) in code.match_indices("crate::") {
        let rest = &code[at + word.len()..];
        names.extend(match rest.strip_prefix('{') {
            Some(group) => heads(group),
            None => BTreeSet::from([first_name(rest)]),
        });
    }
    names.retain(|name| name.chars().next().is_some_and(char::is_lowercase));
    names
}

/// What each `use` starts with, apart from modules declared in the same file and nested groups.
fn roots(code: &str) -> BTreeSet<String> {
    let declared: BTreeSet<&str> = code
        .lines()
        .filter_map(|line| line.trim().trim_start_matches("pub ").strip_prefix("mod "))
        .map(|rest| rest.trim_end_matches(';'))
        .collect();
    let mut names = BTreeSet::new();
    for line in
        code.match_indices("use ").filter(|(at, _)| *at == 0 || code[..*at].ends_with(['\n', ' ']))
    {
        let rest = &code[line.0 + line.1.len()..];
        names.extend(match rest.strip_prefix('{') {
            Some(group) => heads(group),
            None => BTreeSet::from([first_name(rest)]),
        });
    }
    names.retain(|name| !declared.contains(name.as_str()));
    names.retain(|name| name.chars().next().is_some_and(char::is_lowercase));
    names
}

/// The first name of each entry of a group whose brace is already open.
fn heads(group: &str) -> BTreeSet<String> {
    let mut names = BTreeSet::new();
    let (mut depth, mut entry) = (0, String::new());
    for letter in group.chars() {
        match letter {
            '{' => depth += 1,
            '}' if depth == 0 => break,
            '}' => depth -= 1,
            ',' if depth == 0 => {
                names.insert(first_name(entry.trim()));
                entry.clear();
                continue;
            }
            _ => {}
        }
        entry.push(letter);
    }
    names.insert(first_name(entry.trim()));
    names
}

fn first_name(path: &str) -> String {
    path.chars().take_while(|letter| letter.is_alphanumeric() || *letter == '_').collect()
}

/// Every source file, by its path under `src`.
fn sources() -> Vec<(PathBuf, String)> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let (mut folders, mut files) = (vec![root.clone()], Vec::new());
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(&folder).expect("src can be read") {
            let path = entry.expect("src can be read").path();
            if path.is_dir() {
                folders.push(path);
            } else if path.extension().is_some_and(|end| end == "rs")
                && path.file_stem().is_some_and(|stem| stem != "tests")
            {
                let text = fs::read_to_string(&path).expect("a source file is UTF-8");
                let below = path.strip_prefix(&root).expect("it is below src");
                files.push((below.to_owned(), text));
            }
        }
    }
    assert!(files.len() > 30, "only {} source files were found", files.len());
    files
}
