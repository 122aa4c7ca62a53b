//! What is remembered about each account from one start to the next.

use super::{
    super::{
        door,
        journal::{fingerprint, number},
        memory::MEMORY_PAGE_ROWS,
        stored_notice::cause,
        writer::{Kind, Refusal},
    },
    journal::{names, share_of},
    session::unavailable,
    text,
    work::{Step, Work, step},
};
use crate::core::{AccountId, Cause, Door, Farewell, KeptGate, Memory, Timestamp, TokenFacts};
use std::{collections::BTreeMap, sync::Arc};
use tokio_postgres::{Row, types::FromSql};

/// Adds or replaces, in one statement. Sorted, so that two replicas lock rows in the same order; and the
/// last word on an account only, since one statement may write a row once.
/// Of accounts whose share is not held by `fence` nothing is written; answers how many those were.
pub(in super::super) fn remember(fence: Option<[u8; 16]>, memories: &[Memory]) -> Work<usize> {
    let last: BTreeMap<&AccountId, &Memory> =
        memories.iter().map(|memory| (&memory.id, memory)).collect();
    macro_rules! column {
        (|$memory:ident| $value:expr) => {
            last.values().map(|$memory| $value).collect::<Vec<_>>()
        };
    }
    let step = step!(
        REMEMBER,
        column!(|memory| text::store(&memory.id.provider)),
        column!(|memory| text::store(&memory.id.account)),
        column!(|memory| memory.token.map(|token| number(token.token))),
        column!(|memory| memory.token.and_then(|token| token.renewable_by).map(number)),
        column!(|memory| memory.token.map(|token| token.issued_at.as_unix())),
        column!(|memory| instant(memory.token.and_then(|token| token.expires_at))),
        column!(|memory| instant(memory.token.and_then(|token| token.refresh_expires_at))),
        column!(|memory| memory.token.map(|token| i64::from(token.missing_scopes))),
        column!(|memory| instant(memory.told_since)),
        column!(|memory| instant(memory.last_refresh_at)),
        column!(|memory| memory.cause.map(Cause::as_label)),
        column!(|memory| instant(memory.cause_since)),
        column!(|memory| memory.told.map(Cause::as_label)),
        column!(|memory| i32::from(memory.failed_in_a_row)),
        column!(|memory| instant(memory.not_before)),
        fence.map(|holder| holder.to_vec()),
        column!(|memory| share_of(&memory.id)),
        column!(|memory| instant(memory.first_seen_at)),
        column!(|memory| door::text(memory.door, memory.left)),
    );
    let shares = last.keys().map(|id| share_of(id)).collect();
    fenced(fence, shares, step, last.len())
}

/// Forgets accounts, with the newest token and the history of each, all but a gate that is to be kept; what was not known
/// is forgotten already. Answers like [`remember`], and like there the last word on an account counts.
pub(in super::super) fn forget(fence: Option<[u8; 16]>, gone: &[Farewell]) -> Work<usize> {
    let last: BTreeMap<&AccountId, Option<KeptGate>> =
        gone.iter().map(|farewell| (&farewell.id, farewell.kept)).collect();
    let shares: Vec<i16> = last.keys().map(|id| share_of(id)).collect();
    let (providers, accounts): (Vec<_>, Vec<_>) = last.keys().map(|id| names(id)).unzip();
    let doors: Vec<_> = last.values().map(|kept| kept.and_then(door::kept)).collect();
    let holder = fence.map(|holder| holder.to_vec());
    let step = step!(FORGET, providers, accounts, holder, shares.clone(), doors);
    fenced(fence, shares, step, last.len())
}

/// Locks the shares, writes, and answers how many of `all` were not ours to write.
pub(super) fn fenced(
    fence: Option<[u8; 16]>,
    shares: Vec<i16>,
    write: Step,
    all: usize,
) -> Work<usize> {
    let steps = vec![super::shares::lock(fence, shares), write];
    Work::new(Kind::Write, None, steps, move |answers| {
        let ours: i64 = get(&answers[1][0], 0)?;
        Ok(all.saturating_sub(super::super::count(ours)))
    })
}

/// The next accounts after `after`, sorted; fewer than [`MEMORY_PAGE_ROWS`] are the last.
pub(in super::super) fn page_of_memories(after: Option<&AccountId>) -> Work<Vec<Memory>> {
    let rows = i64::try_from(MEMORY_PAGE_ROWS).expect("a page is small");
    let step = match after.map(names) {
        None => step!(FIRST_PAGE, rows),
        Some((provider, account)) => step!(NEXT_PAGE, rows, provider, account),
    };
    Work::new(Kind::Read, None, vec![step], |answers| {
        let mut memories: Vec<Memory> = Vec::with_capacity(answers[0].len());
        for row in &answers[0] {
            let provider = text::read(get(row, 0)?);
            // Sorted by provider: a million accounts share a dozen names.
            let provider = match memories.last() {
                Some(last) if *last.id.provider == *provider => Arc::clone(&last.id.provider),
                _ => provider.into(),
            };
            memories.push(read(row, provider)?);
        }
        Ok(memories)
    })
}

/// The gate of one account; `None` where nothing is remembered of it.
pub(in super::super) fn door(id: &AccountId) -> Work<Option<Door>> {
    let (provider, account) = names(id);
    let step = step!(DOOR, provider, account);
    Work::new(Kind::Read, None, vec![step], |answers| {
        answers[0].first().map(|row| Ok(door::read(get(row, 0)?)?.0)).transpose()
    })
}

fn read(row: &Row, provider: Arc<str>) -> Result<Memory, Refusal> {
    let failed: i32 = get(row, 13)?;
    let (door, left) = door::read(get(row, 16)?)?;
    Ok(Memory {
        id: AccountId::new(provider, text::read(get(row, 1)?)),
        token: read_facts(row)?,
        told_since: read_instant(row, 8)?,
        last_refresh_at: read_instant(row, 9)?,
        cause: read_cause(row, 10)?,
        cause_since: read_instant(row, 11)?,
        told: read_cause(row, 12)?,
        failed_in_a_row: u16::try_from(failed).map_err(|_| never_written())?,
        not_before: read_instant(row, 14)?,
        first_seen_at: read_instant(row, 15)?,
        door: Some(door),
        left,
    })
}

fn read_facts(row: &Row) -> Result<Option<TokenFacts>, Refusal> {
    let Some(token) = get(row, 2)? else { return Ok(None) };
    let missing: i64 = get(row, 7)?;
    Ok(Some(TokenFacts {
        token: fingerprint(token),
        renewable_by: get::<Option<i64>>(row, 3)?.map(fingerprint),
        issued_at: Timestamp::from_unix(get(row, 4)?),
        expires_at: read_instant(row, 5)?,
        refresh_expires_at: read_instant(row, 6)?,
        missing_scopes: u32::try_from(missing).map_err(|_| never_written())?,
    }))
}

fn read_instant(row: &Row, column: usize) -> Result<Option<Timestamp>, Refusal> {
    Ok(get::<Option<i64>>(row, column)?.map(Timestamp::from_unix))
}

fn read_cause(row: &Row, column: usize) -> Result<Option<Cause>, Refusal> {
    get::<Option<&str>>(row, column)?.map(cause).transpose()
}

fn get<'a, T: FromSql<'a>>(row: &'a Row, column: usize) -> Result<T, Refusal> {
    row.try_get(column).map_err(unavailable)
}

fn instant(at: Option<Timestamp>) -> Option<i64> {
    at.map(Timestamp::as_unix)
}

fn never_written() -> Refusal {
    Refusal::Damaged("a column holds something that was never written there".to_owned())
}

/// The columns of `memory`, in order, come before the share; the first sight and the gate after it.
const REMEMBER: &str = "
WITH told AS (
    SELECT * FROM unnest(
        $1::text[], $2::text[], $3::bigint[], $4::bigint[], $5::bigint[], $6::bigint[],
        $7::bigint[], $8::bigint[], $9::bigint[], $10::bigint[], $11::text[], $12::bigint[],
        $13::text[], $14::integer[], $15::bigint[], $17::smallint[],
        $18::bigint[], $19::text[]) AS told (
        provider, account, token, renewable_by, issued_at, expires_at, refresh_expires_at,
        missing_scopes, told_since, last_refresh_at, cause, cause_since, told, failed_in_a_row,
        not_before, share, first_seen_at, door)
), ours AS (
    SELECT provider, account, token, renewable_by, issued_at, expires_at, refresh_expires_at,
           missing_scopes, told_since, last_refresh_at, cause, cause_since, told, failed_in_a_row,
           not_before, first_seen_at, door
    FROM told
    WHERE $16::bytea IS NULL OR share = ANY (ARRAY (SELECT share FROM share WHERE holder = $16))
), put AS (
INSERT INTO memory
SELECT * FROM ours
ON CONFLICT (provider, account) DO UPDATE SET
    token = excluded.token, renewable_by = excluded.renewable_by, issued_at = excluded.issued_at,
    expires_at = excluded.expires_at, refresh_expires_at = excluded.refresh_expires_at,
    missing_scopes = excluded.missing_scopes, told_since = excluded.told_since,
    last_refresh_at = excluded.last_refresh_at, cause = excluded.cause,
    cause_since = excluded.cause_since, told = excluded.told,
    failed_in_a_row = excluded.failed_in_a_row, not_before = excluded.not_before,
    first_seen_at = coalesce(excluded.first_seen_at, memory.first_seen_at),
    door = coalesce(excluded.door, memory.door))
SELECT count(*) FROM ours";

const FORGET: &str = "
WITH ours AS (
    SELECT provider, account, door
    FROM unnest($1::text[], $2::text[], $4::smallint[], $5::text[]) AS gone (provider, account, share, door)
    WHERE $3::bytea IS NULL OR share = ANY (ARRAY (SELECT share FROM share WHERE holder = $3))
), taken AS (
    DELETE FROM memory USING ours
    WHERE memory.provider = ours.provider AND memory.account = ours.account AND ours.door IS NULL
), kept AS (
    INSERT INTO memory (provider, account, failed_in_a_row, door)
    SELECT provider, account, 0, door FROM ours WHERE door IS NOT NULL
    ON CONFLICT (provider, account) DO UPDATE SET
        token = NULL, renewable_by = NULL, issued_at = NULL, expires_at = NULL,
        refresh_expires_at = NULL, missing_scopes = NULL, told_since = NULL, last_refresh_at = NULL,
        cause = NULL, cause_since = NULL, told = NULL, failed_in_a_row = 0, not_before = NULL,
        first_seen_at = NULL, door = excluded.door
), dropped AS (
    DELETE FROM newest USING ours
    WHERE newest.provider = ours.provider AND newest.account = ours.account
), unspent AS (
    DELETE FROM spent USING ours
    WHERE spent.provider = ours.provider AND spent.account = ours.account
), erased AS (
    DELETE FROM history USING ours
    WHERE history.provider = ours.provider AND history.account = ours.account
)
SELECT count(*) FROM ours";

const DOOR: &str = "SELECT door FROM memory WHERE provider = $1 AND account = $2";

const FIRST_PAGE: &str = "
SELECT provider, account, token, renewable_by, issued_at, expires_at, refresh_expires_at,
       missing_scopes, told_since, last_refresh_at, cause, cause_since, told, failed_in_a_row,
       not_before, first_seen_at, door
FROM memory ORDER BY provider, account LIMIT $1";

const NEXT_PAGE: &str = "
SELECT provider, account, token, renewable_by, issued_at, expires_at, refresh_expires_at,
       missing_scopes, told_since, last_refresh_at, cause, cause_since, told, failed_in_a_row,
       not_before, first_seen_at, door
FROM memory WHERE (provider, account) > ($2, $3) ORDER BY provider, account LIMIT $1";
