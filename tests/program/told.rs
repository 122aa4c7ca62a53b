//! What a failed wait says: enough to see why, and short enough to be read where only the end of a log is kept.
//!
//! Nothing in here may fail or wait for long, whatever has become of the program and of its store.

use crate::{http, world::World};
use oauth_keepalive::demo::provider::{LogEntry, What};
use rusqlite::{Connection, OpenFlags};
use std::{collections::BTreeMap, fmt::Write as _, fs, time::Duration};

impl World {
    /// Everything that helps to understand why something did not happen.
    pub(crate) fn tell(&self) -> String {
        let log = self.provider.log();
        let first = log.len().saturating_sub(ENTRIES_TOLD);
        let entries: String = log[first..].iter().map(|entry| format!("{entry:?}\n")).collect();
        let mails = self.mailbox.mails();
        let subjects: Vec<_> = mails.iter().map(|mail| (&mail.to, &mail.subject)).collect();
        format!(
            "--- shown\n{}--- accounts: in the store, and the last answers to their requests\n{}--- journal\n{}\
             --- mails\n{subjects:?}\n--- provider: the last of {} requests, {} held back\n{entries}\
             --- program\n{}",
            self.shown(),
            self.standings(&log),
            self.journal(),
            log.len(),
            self.provider.held(),
            self.program.as_ref().map(|program| last_lines(&program.log())).unwrap_or_default(),
        )
    }

    /// What the program says of itself: who is not well, and how everything shared stands.
    fn shown(&self) -> String {
        let Some(program) = &self.program else { return "there is no program\n".to_owned() };
        match http::get_at_once(program.telemetry, "/metrics") {
            Ok(text) => text
                .lines()
                .filter_map(|line| line.strip_prefix("oauth_keepalive_"))
                .filter(|line| SHOWN.iter().any(|name| line.starts_with(name)) || is_trouble(line))
                .take(SHOWN_MAX)
                .map(|line| format!("{line}\n"))
                .collect(),
            Err(error) => format!("it does not answer: {error}\n"),
        }
    }

    fn standings(&self, log: &[LogEntry]) -> String {
        let mut answers: BTreeMap<&str, Vec<String>> = BTreeMap::new();
        for entry in log {
            if let (Some(account), What::Refresh(how)) = (&entry.account, &entry.what) {
                let at = entry.at.as_secs_f32();
                answers.entry(account).or_default().push(format!("{how:?} at {at:.1} s"));
            }
        }
        let mut told = String::new();
        for (account, answers) in answers.iter().take(ACCOUNTS_TOLD) {
            let last = &answers[answers.len().saturating_sub(ANSWERS_TOLD)..];
            let stored = self.stored_refresh_token(account);
            let is_newest = self
                .provider
                .current(account)
                .and_then(|token| token.refresh)
                .map(|token| stored.as_deref() == Some(token.expose()));
            let stored = match (&stored, is_newest) {
                (None, _) => "unreadable",
                (_, Some(true)) => "the newest",
                _ => "another",
            };
            let _ = writeln!(
                told,
                "{account}: {stored}; {} in all, {}",
                answers.len(),
                last.join(", ")
            );
        }
        told
    }

    fn stored_refresh_token(&self, account: &str) -> Option<String> {
        let sql = "SELECT refresh_token FROM accounts WHERE account = ?1";
        look_into(&self.path("publisher.db"))?.query_row(sql, [account], |row| row.get(0)).ok()
    }

    /// The attempts that the state holds open, without a token.
    fn journal(&self) -> String {
        let rows = || -> Option<String> {
            let database = look_into(&self.path("state/state.db"))?;
            let sql = "SELECT account || ': over at ' || over_at || ', probed ' || probed || ', has a token ' \
                       || (result IS NOT NULL) || ', orphan ' || orphan || ', now ' || unixepoch() FROM journal";
            let mut statement = database.prepare(sql).ok()?;
            let rows = statement.query_map([], |row| row.get::<_, String>(0)).ok()?;
            Some(rows.flatten().take(ACCOUNTS_TOLD).map(|row| row + "\n").collect())
        };
        rows().unwrap_or_else(|| "cannot be read\n".to_owned())
    }
}

/// The end of a log, and the warnings before it; the file itself is gone when somebody reads this.
pub(crate) fn last_lines(log: &str) -> String {
    let lines: Vec<&str> = log.lines().collect();
    let (before, last) = lines.split_at(lines.len().saturating_sub(LINES_TOLD));
    let is_warning = |line: &&&str| line.contains("WARN") || line.contains("ERROR");
    let warnings: Vec<&str> = before.iter().filter(is_warning).copied().collect();
    let warnings = &warnings[warnings.len().saturating_sub(WARNINGS_TOLD)..];
    format!("{}\n[...]\n{}\n", warnings.join("\n"), last.join("\n"))
}

fn look_into(path: &std::path::Path) -> Option<Connection> {
    fs::metadata(path).ok()?;
    let flags = OpenFlags::SQLITE_OPEN_READ_ONLY | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    let database = Connection::open_with_flags(path, flags).ok()?;
    database.busy_timeout(Duration::from_secs(1)).ok()?;
    Some(database)
}

/// A series that says what is wrong with whom.
fn is_trouble(line: &str) -> bool {
    line.starts_with("cause{") && line.ends_with(" 1") && !line.contains("cause=\"none\"")
}

/// What a failed wait is most often about.
const SHOWN: [&str; 9] = [
    "store_up",
    "state_up",
    "unsaved_tokens",
    "spilled_tokens",
    "journal_entries",
    "outbox_length",
    "app_frozen",
    "shares_held",
    "refresh_outcomes_total",
];

const SHOWN_MAX: usize = 60;
const ACCOUNTS_TOLD: usize = 12;
const ANSWERS_TOLD: usize = 6;
const ENTRIES_TOLD: usize = 12;
const LINES_TOLD: usize = 40;
const WARNINGS_TOLD: usize = 20;
