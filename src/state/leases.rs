//! Who may refresh an account, until when, on SQLite.
//!
//! A lease is a row with an epoch. Epochs come from one sequence and are never used twice, so whoever holds
//! an old one is found out inside the transaction that would have trusted it. The row stays when the lease
//! is given back: it says who had the account last, and only the last one may end an attempt at it.

use super::{
    Lease,
    writer::{Desk, Refusal},
};
use crate::core::{AccountId, Timestamp};
use rusqlite::{OptionalExtension, params};
use std::time::Duration;

/// `None` while another holder and its lease live.
pub(super) fn take(
    desk: &Desk,
    id: &AccountId,
    now: Timestamp,
    life: Duration,
) -> Result<Option<Lease>, Refusal> {
    let now = desk.on_the_leases_clock(now);
    if desk.shared_out.as_ref().is_some_and(|shared| !shared.may_take(id, desk.holder)) {
        return Ok(None);
    }
    let row = desk
        .connection
        .prepare_cached(
            "SELECT holder, expires_at FROM lease WHERE provider = ?1 AND account = ?2",
        )?
        .query_row((&*id.provider, &*id.account), |row| {
            Ok((row.get::<_, Vec<u8>>(0)?, row.get::<_, i64>(1)?))
        })
        .optional()?;
    if let Some((holder, expires_at)) = row
        && holder != desk.holder
        && is_live(Timestamp::from_unix(expires_at), now)
        && !desk.presence.is_gone(&holder)
    {
        return Ok(None);
    }
    desk.connection.execute(
        "DELETE FROM lease WHERE provider = ?1 AND account = ?2",
        (&*id.provider, &*id.account),
    )?;
    desk.connection.execute(
        "INSERT INTO lease (provider, account, holder, expires_at) VALUES (?1, ?2, ?3, ?4)",
        params![
            &*id.provider,
            &*id.account,
            &desk.holder[..],
            now.plus(life.min(LIFE_MAX)).as_unix()
        ],
    )?;
    let epoch = desk.connection.last_insert_rowid().unsigned_abs();
    Ok(Some(Lease { id: id.clone(), epoch }))
}

/// Gives the lease back. One that was lost is nobody's to give back, and that is no error.
pub(super) fn release(desk: &Desk, lease: &Lease) -> Result<(), Refusal> {
    desk.connection.execute(
        "UPDATE lease SET expires_at = ?5
         WHERE epoch = ?1 AND holder = ?2 AND provider = ?3 AND account = ?4",
        params![
            lease.epoch.cast_signed(),
            &desk.holder[..],
            &*lease.id.provider,
            &*lease.id.account,
            Timestamp::MIN.as_unix(),
        ],
    )?;
    Ok(())
}

/// Refuses unless the lease is the newest of its account, ours, and lasts until `until`.
pub(super) fn check(desk: &Desk, lease: &Lease, until: Timestamp) -> Result<(), Refusal> {
    let until = desk.on_the_leases_clock(until);
    let expires_at: Option<i64> = desk
        .connection
        .prepare_cached(
            "SELECT expires_at FROM lease
             WHERE epoch = ?1 AND holder = ?2 AND provider = ?3 AND account = ?4",
        )?
        .query_row(
            params![
                lease.epoch.cast_signed(),
                &desk.holder[..],
                &*lease.id.provider,
                &*lease.id.account
            ],
            |row| row.get(0),
        )
        .optional()?;
    match expires_at.map(Timestamp::from_unix) {
        Some(end) if until <= end => Ok(()),
        _ => Err(Refusal::LeaseLost(lease.id.clone())),
    }
}

/// Refuses when somebody else has taken the account over since, whether he still has it or not.
pub(super) fn check_last(desk: &Desk, id: &AccountId) -> Result<(), Refusal> {
    let is_anothers = desk
        .connection
        .prepare_cached(
            "SELECT 1 FROM lease WHERE provider = ?1 AND account = ?2 AND holder <> ?3",
        )?
        .exists((&*id.provider, &*id.account, &desk.holder[..]))?;
    if is_anothers { Err(Refusal::LeaseLost(id.clone())) } else { Ok(()) }
}

/// A lease that ends later than any lease can was written by a clock that was ahead; obeying it would
/// lock the account until that day.
fn is_live(expires_at: Timestamp, now: Timestamp) -> bool {
    expires_at > now && expires_at <= now.plus(LIFE_MAX)
}

/// Longest life of a lease.
pub(super) const LIFE_MAX: Duration = Duration::from_secs(3_600);
