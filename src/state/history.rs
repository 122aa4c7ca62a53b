//! What happened to each account, for whoever asks later: one record per account on which anything ever did.
//!
//! Apart from the memory, so that a quiet refresh writes nothing here and gaining shares reads nothing of
//! accounts that were always well. A record that cannot be read is left out: evidence helps people, and nothing
//! waits for it.

use super::{
    stored_notice::{StoredEvidence, read_evidence, stored_evidence},
    writer::{Desk, Refusal},
};
use crate::core::{
    AccountId, History, Timestamp,
    history::{
        CHANGES_KEPT_MAX, Check, FAILURES_KEPT_MAX, Failure, Moved, ScopesSeen, Source, Writer,
        Writing,
    },
    second_clock::Moves,
};
use rusqlite::params;
use serde::{Deserialize, Serialize};
use std::{sync::Arc, time::Duration};

/// A record as the tables hold it.
pub(super) type Kept = (AccountId, String);

/// Adds or replaces.
pub(super) fn keep(desk: &Desk, records: &[Kept]) -> Result<(), Refusal> {
    let mut put = desk.connection.prepare_cached(
        "INSERT INTO history (provider, account, record) VALUES (?1, ?2, ?3)
         ON CONFLICT DO UPDATE SET record = excluded.record",
    )?;
    for (id, record) in records.iter().filter(|(id, _)| !desk.is_anothers(id)) {
        put.execute(params![&*id.provider, &*id.account, record])?;
    }
    Ok(())
}

/// Everything, sorted by account.
pub(super) fn all(desk: &Desk) -> Result<Vec<Kept>, Refusal> {
    let mut all = desk.connection.prepare_cached(
        "SELECT provider, account, record FROM history ORDER BY provider, account",
    )?;
    let row = |row: &rusqlite::Row<'_>| {
        let id = AccountId::new(row.get::<_, String>(0)?, row.get::<_, String>(1)?);
        Ok((id, row.get(2)?))
    };
    Ok(all.query_map([], row)?.collect::<Result<_, _>>()?)
}

#[derive(Serialize, Deserialize)]
struct Stored {
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    failures: Vec<StoredFailure>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    scopes: Vec<(i64, Vec<String>)>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    writings: Vec<(i64, String)>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    check: Option<(i64, Option<bool>)>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    moved: Option<(i64, String)>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    end_moves: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    reminded_at: Option<i64>,
}

#[derive(Serialize, Deserialize)]
struct StoredFailure {
    #[serde(flatten)]
    evidence: StoredEvidence,
    first_at: i64,
    times: u32,
    source: String,
    token_age_seconds: Option<u64>,
    clock_ahead: Option<i64>,
}

/// A history as one text.
pub(super) fn text(history: &History) -> String {
    let failure = |failure: &Failure| StoredFailure {
        evidence: stored_evidence(&failure.evidence),
        first_at: failure.first_at.as_unix(),
        times: failure.times,
        source: failure.source.as_label().to_owned(),
        token_age_seconds: failure.token_age.map(|age| age.as_secs()),
        clock_ahead: failure.clock_ahead,
    };
    let names = |names: &[Arc<str>]| names.iter().map(|name| name.to_string()).collect();
    let stored = Stored {
        failures: history.failures.iter().map(failure).collect(),
        scopes: history.scopes.iter().map(|s| (s.at.as_unix(), names(&s.missing))).collect(),
        writings: history
            .writings
            .iter()
            .map(|writing| (writing.at.as_unix(), writing.by.as_label().to_owned()))
            .collect(),
        check: history.check.map(|check| (check.at.as_unix(), check.alive)),
        moved: history.moved.as_ref().map(|moved| (moved.at.as_unix(), moved.from.to_string())),
        end_moves: Some(history.end_moves)
            .filter(|moves| *moves != Moves::default())
            .map(|moves| moves.as_label().to_owned()),
        reminded_at: history.reminded_at.map(Timestamp::as_unix),
    };
    serde_json::to_string(&stored).expect("names and numbers are always JSON")
}

/// The way back from [`text`]; `None` for what this version does not understand.
pub(super) fn read(text: &str) -> Option<History> {
    let stored: Stored = serde_json::from_str(text).ok()?;
    let at = Timestamp::from_unix;
    let failure = |stored: StoredFailure| {
        Some(Failure {
            evidence: Arc::new(read_evidence(stored.evidence).ok()?),
            first_at: at(stored.first_at),
            times: stored.times,
            source: Source::from_label(&stored.source)?,
            token_age: stored.token_age_seconds.map(Duration::from_secs),
            clock_ahead: stored.clock_ahead,
        })
    };
    let names = |names: Vec<String>| names.into_iter().map(Into::into).collect();
    let writing = |(seconds, by): (i64, String)| {
        Some(Writing { at: at(seconds), by: Writer::from_label(&by)? })
    };
    Some(History {
        failures: stored.failures.into_iter().filter_map(failure).take(FAILURES_KEPT_MAX).collect(),
        scopes: stored
            .scopes
            .into_iter()
            .map(|(seconds, missing)| ScopesSeen { at: at(seconds), missing: names(missing) })
            .take(CHANGES_KEPT_MAX)
            .collect(),
        writings: stored.writings.into_iter().filter_map(writing).take(CHANGES_KEPT_MAX).collect(),
        check: stored.check.map(|(seconds, alive)| Check { at: at(seconds), alive }),
        moved: stored.moved.map(|(seconds, from)| Moved { at: at(seconds), from: from.into() }),
        end_moves: stored.end_moves.and_then(|word| Moves::from_label(&word)).unwrap_or_default(),
        reminded_at: stored.reminded_at.map(at),
    })
}
