//! What is remembered of apps, on SQLite: until when each was asked to wait, and whether it is refused.

use super::writer::{Desk, Refusal};
use crate::core::{AppMemory, Cause, Timestamp, account::FAIL_TOGETHER};
use rusqlite::{Row, params};

/// Adds, or brings up to date: the longer pause, and the newer word about whether it is refused.
pub(super) fn remember(desk: &Desk, memories: &[AppMemory]) -> Result<(), Refusal> {
    let mut put = desk.connection.prepare_cached(
        "INSERT INTO app VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7)
         ON CONFLICT DO UPDATE SET
             paused_until = nullif(max(ifnull(app.paused_until, 0), ifnull(excluded.paused_until, 0)), 0),
             (refusals, next_try_at, frozen, frozen_since, changed_at) = (
                 SELECT excluded.refusals, excluded.next_try_at, excluded.frozen, excluded.frozen_since, excluded.changed_at
                 WHERE excluded.changed_at >= ifnull(app.changed_at, 0)
                 UNION ALL
                 SELECT app.refusals, app.next_try_at, app.frozen, app.frozen_since, app.changed_at
                 LIMIT 1)",
    )?;
    for memory in memories {
        put.execute(params![
            &*memory.name,
            memory.paused_until.map(Timestamp::as_unix),
            memory.refusals,
            memory.next_try_at.map(Timestamp::as_unix),
            frozen_word(memory),
            memory.frozen.map(|(_, since)| since.as_unix()),
            memory.changed_at.map(Timestamp::as_unix),
        ])?;
    }
    Ok(())
}

/// Everything, sorted by name.
pub(super) fn memories(desk: &Desk) -> Result<Vec<AppMemory>, Refusal> {
    let mut all = desk.connection.prepare_cached(
        "SELECT name, paused_until, refusals, next_try_at, frozen, frozen_since, changed_at
         FROM app ORDER BY name",
    )?;
    let mut rows = all.query([])?;
    let mut memories = Vec::new();
    while let Some(row) = rows.next()? {
        memories.push(read(row)?);
    }
    Ok(memories)
}

fn read(row: &Row<'_>) -> Result<AppMemory, Refusal> {
    let instant = |column: usize| -> Result<Option<Timestamp>, Refusal> {
        Ok(row.get::<_, Option<i64>>(column)?.map(Timestamp::from_unix))
    };
    let word = row.get::<_, Option<String>>(4)?;
    let (frozen, doubted) = read_frozen(word.as_deref())?;
    Ok(AppMemory {
        name: row.get::<_, String>(0)?.into(),
        paused_until: instant(1)?,
        refusals: row.get(2)?,
        next_try_at: instant(3)?,
        frozen: frozen.zip(instant(5)?),
        doubted,
        changed_at: instant(6)?,
    })
}

/// Why it is frozen, in one word: what it is suspected of is kept, and on what grounds.
pub(super) fn frozen_word(memory: &AppMemory) -> Option<&'static str> {
    let (cause, _) = memory.frozen?;
    let suspected = memory.doubted && cause == Cause::AppCredentialsRejected;
    Some(if suspected { FAIL_TOGETHER } else { cause.as_label() })
}

/// The way back.
pub(super) fn read_frozen(word: Option<&str>) -> Result<(Option<Cause>, bool), Refusal> {
    match word {
        None => Ok((None, false)),
        Some(FAIL_TOGETHER) => Ok((Some(Cause::AppCredentialsRejected), true)),
        Some(label) => Ok((Some(super::stored_notice::cause(label)?), false)),
    }
}
