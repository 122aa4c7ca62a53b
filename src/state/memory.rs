//! What is remembered about each account from one start to the next, on SQLite.

use super::{
    door,
    journal::{fingerprint, number},
    newest,
    writer::{Desk, Refusal},
};
use crate::core::{AccountId, Cause, Door, Farewell, Memory, Timestamp, TokenFacts};
use rusqlite::{Row, params};
use std::sync::Arc;

/// Adds or replaces.
pub(super) fn remember(desk: &Desk, memories: &[Memory]) -> Result<(), Refusal> {
    let mut put = desk.connection.prepare_cached(
        "INSERT INTO memory VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12, ?13, ?14, ?15, ?16, ?17)
         ON CONFLICT DO UPDATE SET
             token = excluded.token, renewable_by = excluded.renewable_by,
             issued_at = excluded.issued_at, expires_at = excluded.expires_at,
             refresh_expires_at = excluded.refresh_expires_at,
             missing_scopes = excluded.missing_scopes, told_since = excluded.told_since,
             last_refresh_at = excluded.last_refresh_at, cause = excluded.cause,
             cause_since = excluded.cause_since, told = excluded.told,
             failed_in_a_row = excluded.failed_in_a_row, not_before = excluded.not_before,
             first_seen_at = coalesce(excluded.first_seen_at, first_seen_at),
             door = coalesce(excluded.door, door)",
    )?;
    for memory in memories.iter().filter(|memory| !desk.is_anothers(&memory.id)) {
        let token = memory.token;
        put.execute(params![
            &*memory.id.provider,
            &*memory.id.account,
            token.map(|token| number(token.token)),
            token.and_then(|token| token.renewable_by).map(number),
            token.map(|token| token.issued_at.as_unix()),
            token.and_then(|token| token.expires_at).map(Timestamp::as_unix),
            token.and_then(|token| token.refresh_expires_at).map(Timestamp::as_unix),
            token.map(|token| token.missing_scopes),
            memory.told_since.map(Timestamp::as_unix),
            memory.last_refresh_at.map(Timestamp::as_unix),
            memory.cause.map(Cause::as_label),
            memory.cause_since.map(Timestamp::as_unix),
            memory.told.map(Cause::as_label),
            memory.failed_in_a_row,
            memory.not_before.map(Timestamp::as_unix),
            memory.first_seen_at.map(Timestamp::as_unix),
            door::text(memory.door, memory.left),
        ])?;
    }
    Ok(())
}

/// The gate of one account; `None` where nothing is remembered of it.
pub(super) fn door(desk: &Desk, id: &AccountId) -> Result<Option<Door>, Refusal> {
    let mut one = desk
        .connection
        .prepare_cached("SELECT door FROM memory WHERE provider = ?1 AND account = ?2")?;
    let mut rows = one.query((&*id.provider, &*id.account))?;
    let Some(row) = rows.next()? else { return Ok(None) };
    Ok(Some(door::read(row.get::<_, Option<String>>(0)?.as_deref())?.0))
}

/// Forgets accounts, with the newest token and the history of each, all but a gate that is to be kept; what was not
/// known is forgotten already.
pub(super) fn forget(desk: &Desk, gone: &[Farewell]) -> Result<(), Refusal> {
    let delete = |sql| desk.connection.prepare_cached(sql);
    let mut memory = delete("DELETE FROM memory WHERE provider = ?1 AND account = ?2")?;
    let mut history = delete("DELETE FROM history WHERE provider = ?1 AND account = ?2")?;
    let mut gate = desk.connection.prepare_cached(
        "INSERT INTO memory (provider, account, failed_in_a_row, door) VALUES (?1, ?2, 0, ?3)",
    )?;
    for Farewell { id, kept } in gone.iter().filter(|farewell| !desk.is_anothers(&farewell.id)) {
        memory.execute((&*id.provider, &*id.account))?;
        newest::forget(desk, id)?;
        history.execute((&*id.provider, &*id.account))?;
        if let Some(door) = kept.and_then(door::kept) {
            gate.execute((&*id.provider, &*id.account, door))?;
        }
    }
    Ok(())
}

/// Everything, sorted by account.
pub(super) fn memories(desk: &Desk) -> Result<Vec<Memory>, Refusal> {
    let mut all = desk.connection.prepare_cached(
        "SELECT provider, account, token, renewable_by, issued_at, expires_at, refresh_expires_at,
                missing_scopes, told_since, last_refresh_at, cause, cause_since, told,
                failed_in_a_row, not_before, first_seen_at, door
         FROM memory ORDER BY provider, account",
    )?;
    let mut rows = all.query([])?;
    let mut memories: Vec<Memory> = Vec::new();
    while let Some(row) = rows.next()? {
        let provider: String = row.get(0)?;
        // Sorted by provider: a million accounts share a dozen names.
        let provider = match memories.last() {
            Some(last) if *last.id.provider == *provider => Arc::clone(&last.id.provider),
            _ => provider.into(),
        };
        memories.push(read(row, provider)?);
    }
    Ok(memories)
}

fn read(row: &Row<'_>, provider: Arc<str>) -> Result<Memory, Refusal> {
    let (door, left) = door::read(row.get::<_, Option<String>>(16)?.as_deref())?;
    Ok(Memory {
        id: AccountId::new(provider, row.get::<_, String>(1)?),
        token: read_facts(row)?,
        told_since: instant(row, 8)?,
        last_refresh_at: instant(row, 9)?,
        cause: cause(row, 10)?,
        cause_since: instant(row, 11)?,
        told: cause(row, 12)?,
        failed_in_a_row: row.get(13)?,
        not_before: instant(row, 14)?,
        first_seen_at: instant(row, 15)?,
        door: Some(door),
        left,
    })
}

fn read_facts(row: &Row<'_>) -> Result<Option<TokenFacts>, Refusal> {
    let Some(token) = row.get(2)? else { return Ok(None) };
    Ok(Some(TokenFacts {
        token: fingerprint(token),
        renewable_by: row.get::<_, Option<i64>>(3)?.map(fingerprint),
        issued_at: Timestamp::from_unix(row.get(4)?),
        expires_at: instant(row, 5)?,
        refresh_expires_at: instant(row, 6)?,
        missing_scopes: row.get(7)?,
    }))
}

fn instant(row: &Row<'_>, column: usize) -> Result<Option<Timestamp>, Refusal> {
    Ok(row.get::<_, Option<i64>>(column)?.map(Timestamp::from_unix))
}

fn cause(row: &Row<'_>, column: usize) -> Result<Option<Cause>, Refusal> {
    row.get::<_, Option<String>>(column)?
        .map(|label| super::stored_notice::cause(&label))
        .transpose()
}

/// Rows that are read from a server at once: few enough for its time limit, many enough to be few pages.
pub(super) const MEMORY_PAGE_ROWS: usize = 20_000;
