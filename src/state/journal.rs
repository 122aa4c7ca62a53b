//! Attempts to spend a refresh token, from the intent to the saved token, on SQLite.
//!
//! An account has at most one open entry. Nothing here forgets a token: a result is taken whatever happened
//! to its entry in the meantime, and what cannot be an entry's result is kept as an orphan.

use super::{
    Closing, EntryId, Intent, Lease, leases, newest,
    writer::{Desk, Refusal},
};
use crate::core::{AccountId, Fingerprint, Timestamp};
use rusqlite::{Connection, OptionalExtension, Row, params};

/// An open entry as it lies there; the caller opens the sealed part.
pub(super) struct Sealed {
    pub(super) entry: EntryId,
    pub(super) id: AccountId,
    pub(super) intent: Intent,
    pub(super) probed: bool,
    pub(super) result: Option<Vec<u8>>,
}

/// Writes the intent, with room for its result, if the lease allows it.
pub(super) fn intend(desk: &mut Desk, lease: &Lease, intent: &Intent) -> Result<EntryId, Refusal> {
    leases::check(desk, lease, intent.over_at)?;
    let AccountId { provider, account } = &lease.id;
    if let Some(same) = open_entry_of(&desk.connection, lease, intent)? {
        // The same call again, because the answer to the first was lost: nothing has been sent yet.
        return same.ok_or_else(|| Refusal::EntryOpen(lease.id.clone()));
    }
    if is_being_spent(desk, intent.spending)? {
        // By another row with the same refresh token.
        return Err(Refusal::EntryOpen(lease.id.clone()));
    }
    desk.room.ensure(&desk.connection).map_err(Refusal::Unavailable)?;
    desk.connection.execute(
        "INSERT INTO journal (provider, account, old, spending, requested_at, over_at, sealed, epoch)
         VALUES (?1, ?2, ?3, ?4, ?5, ?6, zeroblob(?7), ?8)",
        params![
            &**provider,
            &**account,
            number(intent.old),
            number(intent.spending),
            intent.requested_at.as_unix(),
            intent.over_at.as_unix(),
            RESULT_RESERVED_BYTES as i64,
            lease.epoch.cast_signed(),
        ],
    )?;
    Ok(EntryId(desk.connection.last_insert_rowid()))
}

fn is_being_spent(desk: &Desk, spending: Fingerprint) -> Result<bool, Refusal> {
    let found = desk
        .connection
        .prepare_cached("SELECT 1 FROM journal WHERE spending = ?1 AND orphan = 0")?
        .exists([number(spending)])?;
    Ok(found)
}

/// Spends the one probe of an entry that has no result; false when it cannot be spent any more.
pub(super) fn intend_probe(
    desk: &mut Desk,
    lease: &Lease,
    entry: EntryId,
    over_at: Timestamp,
) -> Result<bool, Refusal> {
    leases::check(desk, lease, over_at)?;
    desk.room.ensure(&desk.connection).map_err(Refusal::Unavailable)?;
    let changed = desk.connection.execute(
        "UPDATE journal SET probed = 1, over_at = ?4
         WHERE entry = ?1 AND provider = ?2 AND account = ?3
           AND probed = 0 AND orphan = 0 AND result IS NULL",
        params![entry.0, &*lease.id.provider, &*lease.id.account, over_at.as_unix()],
    )?;
    Ok(changed == 1)
}

/// Gives the one probe back: the provider refused it before it looked at the refresh token.
pub(super) fn return_probe(desk: &Desk, entry: EntryId) -> Result<(), Refusal> {
    if let Some((id, _)) = open_account(desk, entry)? {
        leases::check_last(desk, &id)?;
    }
    desk.connection.execute(
        "UPDATE journal SET probed = 0 WHERE entry = ?1 AND orphan = 0 AND result IS NULL",
        [entry.0],
    )?;
    Ok(())
}

/// Keeps the result, whatever happened to the lease or to the entry.
pub(super) fn record_result(
    desk: &Desk,
    entry: EntryId,
    id: &AccountId,
    result: Fingerprint,
    sealed: &[u8],
) -> Result<(), Refusal> {
    let before: Option<Option<i64>> = desk
        .connection
        .prepare_cached(
            "SELECT result FROM journal WHERE entry = ?1 AND provider = ?2 AND account = ?3",
        )?
        .query_row((entry.0, &*id.provider, &*id.account), |row| row.get(0))
        .optional()?;
    match before {
        Some(None) => {
            desk.connection.execute(
                "UPDATE journal SET result = ?2, sealed = ?3 WHERE entry = ?1",
                params![entry.0, number(result), sealed],
            )?;
            Ok(())
        }
        // The same again: the caller did not hear of the first commit.
        Some(Some(known)) if known == number(result) => Ok(()),
        // A holder that slept through its lease has an answer too. Which of the two tokens lives is
        // not ours to guess: the first stays the result, this one is kept beside it.
        Some(Some(_)) => insert_orphan(&desk.connection, id, result, sealed),
        // Somebody else has closed the entry.
        None => insert_orphan(&desk.connection, id, result, sealed),
    }
}

/// Ends an entry, unless somebody else has taken the account over. One that is gone has been ended before.
pub(super) fn close(desk: &Desk, entry: EntryId, closing: Closing) -> Result<(), Refusal> {
    let Some((id, has_result)) = open_account(desk, entry)? else { return Ok(()) };
    leases::check_last(desk, &id)?;
    match (closing, has_result) {
        // A result that came in the meantime is a token, and is not voided.
        (Closing::Void, true) => return Err(Refusal::EntryOpen(id)),
        (Closing::Orphan, true) => {
            desk.connection.execute("UPDATE journal SET orphan = 1 WHERE entry = ?1", [entry.0])?;
            trim_orphans(&desk.connection, &id)?;
        }
        // An orphan without a token is nothing to keep.
        (Closing::Done, _) | (Closing::Void | Closing::Orphan, false) => {
            desk.connection.execute("DELETE FROM journal WHERE entry = ?1", [entry.0])?;
        }
    }
    Ok(())
}

/// Ends an entry whose refresh token is finished, unless it has a result by now.
pub(super) fn bury(
    desk: &Desk,
    entry: EntryId,
    newest: Option<Fingerprint>,
    dead: Option<&[u8]>,
) -> Result<(), Refusal> {
    let Some((id, has_result)) = open_account(desk, entry)? else { return Ok(()) };
    leases::check_last(desk, &id)?;
    if has_result {
        return Err(Refusal::EntryOpen(id));
    }
    newest::bury(desk, entry, &id, newest, dead)?;
    desk.connection.execute("DELETE FROM journal WHERE entry = ?1", [entry.0])?;
    Ok(())
}

/// Every open entry, or the one of one account, oldest first.
pub(super) fn open_entries(desk: &Desk, of: Option<&AccountId>) -> Result<Vec<Sealed>, Refusal> {
    let all = "SELECT entry, provider, account, old, spending, requested_at, over_at, probed, result, sealed
         FROM journal WHERE orphan = 0";
    let rows = match of {
        None => desk
            .connection
            .prepare_cached(&format!("{all} ORDER BY entry"))?
            .query_map([], read)?
            .collect::<Result<Vec<_>, _>>()?,
        Some(id) => desk
            .connection
            .prepare_cached(&format!("{all} AND provider = ?1 AND account = ?2"))?
            .query_map((&*id.provider, &*id.account), read)?
            .collect::<Result<Vec<_>, _>>()?,
    };
    Ok(rows)
}

/// How many entries are open, and how many orphans are kept.
pub(super) fn lengths(desk: &Desk) -> Result<(usize, usize), Refusal> {
    let (open, orphans): (i64, i64) = desk.connection.query_row(
        "SELECT count(*) FILTER (WHERE orphan = 0), count(*) FILTER (WHERE orphan = 1) FROM journal",
        [],
        |row| Ok((row.get(0)?, row.get(1)?)),
    )?;
    Ok((super::count(open), super::count(orphans)))
}

/// `None` when the account has no open entry; `Some(None)` when it has another than this very intent.
fn open_entry_of(
    connection: &Connection,
    lease: &Lease,
    intent: &Intent,
) -> Result<Option<Option<EntryId>>, Refusal> {
    Ok(connection
        .prepare_cached(
            "SELECT entry, epoch = ?3 AND old = ?4 AND spending = ?5 AND requested_at = ?6
                           AND over_at = ?7 AND probed = 0 AND result IS NULL
             FROM journal WHERE provider = ?1 AND account = ?2 AND orphan = 0",
        )?
        .query_row(
            params![
                &*lease.id.provider,
                &*lease.id.account,
                lease.epoch.cast_signed(),
                number(intent.old),
                number(intent.spending),
                intent.requested_at.as_unix(),
                intent.over_at.as_unix(),
            ],
            |row| Ok(row.get::<_, bool>(1)?.then_some(EntryId(row.get(0)?))),
        )
        .optional()?)
}

/// The account of an entry that is open, and whether it has a result.
fn open_account(desk: &Desk, entry: EntryId) -> Result<Option<(AccountId, bool)>, Refusal> {
    Ok(desk
        .connection
        .prepare_cached(
            "SELECT provider, account, result IS NOT NULL FROM journal
             WHERE entry = ?1 AND orphan = 0",
        )?
        .query_row([entry.0], |row| {
            Ok((AccountId::new(row.get::<_, String>(0)?, row.get::<_, String>(1)?), row.get(2)?))
        })
        .optional()?)
}

/// True while the entry is there and the account's.
pub(super) fn is_open(desk: &Desk, entry: EntryId, id: &AccountId) -> Result<bool, Refusal> {
    Ok(open_account(desk, entry)?.is_some_and(|(account, _)| account == *id))
}

fn insert_orphan(
    connection: &Connection,
    id: &AccountId,
    result: Fingerprint,
    sealed: &[u8],
) -> Result<(), Refusal> {
    let known = connection
        .prepare_cached(
            "SELECT 1 FROM journal
             WHERE provider = ?1 AND account = ?2 AND orphan = 1 AND result = ?3",
        )?
        .exists((&*id.provider, &*id.account, number(result)))?;
    if known {
        return Ok(());
    }
    connection.execute(
        "INSERT INTO journal
             (provider, account, old, spending, requested_at, over_at, orphan, result, sealed)
         VALUES (?1, ?2, 0, 0, 0, 0, 1, ?3, ?4)",
        params![&*id.provider, &*id.account, number(result), sealed],
    )?;
    trim_orphans(connection, id)
}

/// The newest orphans are the ones that may still be worth something.
fn trim_orphans(connection: &Connection, id: &AccountId) -> Result<(), Refusal> {
    connection.execute(
        "DELETE FROM journal WHERE provider = ?1 AND account = ?2 AND orphan = 1 AND entry NOT IN (
             SELECT entry FROM journal WHERE provider = ?1 AND account = ?2 AND orphan = 1
             ORDER BY entry DESC LIMIT ?3)",
        params![&*id.provider, &*id.account, ORPHANS_PER_ACCOUNT_MAX],
    )?;
    Ok(())
}

fn read(row: &Row<'_>) -> rusqlite::Result<Sealed> {
    let result: Option<i64> = row.get(8)?;
    Ok(Sealed {
        entry: EntryId(row.get(0)?),
        id: AccountId::new(row.get::<_, String>(1)?, row.get::<_, String>(2)?),
        intent: Intent {
            old: fingerprint(row.get(3)?),
            spending: fingerprint(row.get(4)?),
            requested_at: Timestamp::from_unix(row.get(5)?),
            over_at: Timestamp::from_unix(row.get(6)?),
        },
        probed: row.get(7)?,
        result: result.map(|_| row.get(9)).transpose()?,
    })
}

/// A fingerprint as the tables hold it: SQL has no unsigned numbers.
pub(super) const fn number(fingerprint: Fingerprint) -> i64 {
    fingerprint.as_hash().cast_signed()
}

/// The way back from [`number`].
pub(super) const fn fingerprint(number: i64) -> Fingerprint {
    Fingerprint::from_hash(number.cast_unsigned())
}

/// Room kept in the row from the intent on: most sealed tokens fit, the others have the reserve.
pub(super) const RESULT_RESERVED_BYTES: usize = 1_024;

/// Tokens without a place that are kept per account.
pub(super) const ORPHANS_PER_ACCOUNT_MAX: i64 = 4;
