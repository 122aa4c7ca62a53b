//! Asks the publisher's own table of errors now and then, for the rows behind the last one that was seen.
//!
//! The position is the text that the question itself answers with, so that it may be a number, an instant, or both
//! together. Rows are counted before their position is remembered: after a crash those of one round may be counted
//! again. What a transaction inserts late, below a position that was seen, is not found: whoever writes the
//! question leaves the last few seconds out.

use super::{Observer, Query, Sighting, Start, goes_on_after, handover::Batch, line::status_in};
use crate::{
    core::Timestamp,
    metrics::observed::{RowResult, SourceKind},
    server::publisher::Place,
    stores::{AnswerRow, AnyStore, Error, Question},
};
use serde_json::Value;
use std::time::Duration;
use tokio::sync::watch;

/// The question as the store takes it.
struct Asking {
    columns: Vec<&'static str>,
    sql: String,
    provider_name: Option<String>,
}

pub(super) async fn ask(observer: Observer, query: Query, mut stop: watch::Receiver<bool>) {
    // Another question has positions of another kind.
    let key = observer.key("query", &fingerprint(&query.sql));
    observer.metrics.expect_query();
    let Some(remembered) = observer.remembered(&key, &mut stop).await else { return };
    if !observer.knows_the_accounts(&mut stop).await {
        return;
    }
    // What was there before is stepped over, round by round.
    let mut counts = remembered.is_some() || query.start == Start::Beginning;
    let mut position = remembered.unwrap_or_else(|| query.first.clone());
    let mut trouble = String::new();
    loop {
        let pause = match round(&observer, &query, &position, counts).await {
            Ok(None) => return,
            Ok(Some((next, is_full))) => {
                trouble.clear();
                observer.metrics.observing(SourceKind::Query, "", true);
                counts |= !is_full;
                if next != position || counts {
                    keep(&observer, &key, &next, observer.clock.now()).await;
                }
                if is_full && next == position {
                    tracing::error!(
                        "observe.query: a whole round of rows has the position that was asked from; it would be counted for ever, and is not counted again: let the question answer with positions beyond it"
                    );
                    return;
                }
                position = next;
                if is_full { Duration::ZERO } else { query.every }
            }
            Err(error) => {
                observer.metrics.observing(SourceKind::Query, "", false);
                let error = error.to_string();
                // The same again and again is said once.
                if error != trouble {
                    tracing::warn!(%error, "the publisher's errors cannot be asked for");
                    trouble = error;
                }
                query.every
            }
        };
        if !goes_on_after(pause, &mut stop).await {
            return;
        }
    }
}

/// Reads, hands over, and answers with the last position and whether there may be more; `None` when there is
/// no keeper any more.
async fn round(
    observer: &Observer,
    query: &Query,
    position: &str,
    counts: bool,
) -> Result<Option<(String, bool)>, Error> {
    let asking = Asking::prepare(&observer.store, query).await?;
    let rows = observer.store.ask(asking.question(position)).await?;
    let is_full = rows.len() >= ROWS_PER_ROUND;
    let last = rows.last().and_then(|row| row[POSITION].clone());
    let last = last.unwrap_or_else(|| position.to_owned());
    if counts {
        let snapshot = observer.snapshot.load_full();
        let mut batch = Batch::default();
        let mut results = [0; RowResult::ALL.len()];
        for row in rows {
            let result = match asking.read(row) {
                None => RowResult::Malformed,
                Some(seen) => match batch.add(observer, &snapshot, seen, Place::Publish) {
                    true => RowResult::Counted,
                    false => RowResult::UnknownAccount,
                },
            };
            results[result as usize] += 1;
        }
        observer.metrics.rows_observed(&results);
        if !batch.hand_over(observer).await {
            return Ok(None);
        }
    }
    Ok(Some((last, is_full)))
}

async fn keep(observer: &Observer, key: &str, position: &str, at: Timestamp) {
    if let Err(error) = observer.state.keep_position(key, position, at).await {
        tracing::debug!(%error, "how far the publisher's errors were read is not written down");
    }
}

impl Asking {
    /// Looks which columns there are.
    async fn prepare(store: &AnyStore, query: &Query) -> Result<Self, Error> {
        let columns = prepare(store, query).await?;
        let (sql, provider_name) = (query.sql.clone(), query.provider_name.clone());
        Ok(Self { columns, sql, provider_name })
    }

    fn question(&self, position: &str) -> Question {
        Question {
            sql: self.sql.clone(),
            parameter: PARAMETER,
            value: position.to_owned(),
            columns: self.columns.clone(),
            order_by: Some("position"),
            rows_max: ROWS_PER_ROUND,
        }
    }

    fn read(&self, row: AnswerRow) -> Option<Sighting> {
        let mut row = row.into_iter();
        let (_position, account, status) = (row.next()?, row.next()??, row.next()??);
        let mut others = self.columns.iter().skip(3).zip(row);
        let mut other =
            |name| others.find(|(column, _)| **column == name).and_then(|found| found.1);
        let provider = self.provider_name.clone().or_else(|| other("provider"))?;
        let body = other("body").map(Value::String);
        let status = status_in(&status)?;
        let is_named = !account.trim().is_empty() && !provider.trim().is_empty();
        is_named.then_some(Sighting { provider, account, status, body })
    }
}

/// Tells questions apart.
fn fingerprint(sql: &str) -> String {
    let digest = ring::digest::digest(&ring::digest::SHA256, sql.as_bytes());
    digest.as_ref()[..8].iter().map(|byte| format!("{byte:02x}")).collect()
}

/// Looks which of the wanted columns there are.
pub(super) async fn prepare(store: &AnyStore, query: &Query) -> Result<Vec<&'static str>, Error> {
    let there = store.columns_of(&query.sql, PARAMETER).await?;
    let damaged = |reason| Error::Damaged {
        place: "the publisher's errors cannot be asked for".to_owned(),
        reason,
    };
    columns_of(&there, query).map_err(damaged)
}

/// What a question answers with of what is wanted.
///
/// # Errors
/// A sentence about what is missing.
fn columns_of(there: &[String], query: &Query) -> Result<Vec<&'static str>, String> {
    let has = |name: &str| there.iter().any(|column| column == name);
    let mut columns = vec!["position", "account", "status"];
    if query.provider_name.is_none() {
        columns.push("provider");
    }
    let missing: Vec<_> = columns.iter().copied().filter(|name| !has(name)).collect();
    if !missing.is_empty() {
        return Err(format!(
            "its answer has no column {}; it has: {}",
            missing.join(" and no column "),
            there.join(", ")
        ));
    }
    columns.extend(has("body").then_some("body"));
    Ok(columns)
}

/// What stands for the last position in a question.
const PARAMETER: &str = "position";

/// Rows that are read at a time.
const ROWS_PER_ROUND: usize = 1_000;

/// The first of the columns.
const POSITION: usize = 0;
