//! Which post may prove which account, on SQLite.
//!
//! Written down before it may go, so that a process that was killed, or a replica that takes the account over, lets no
//! second one go. A row goes with its time, or before, when the gate has moved.

use super::writer::{Desk, Refusal};
use crate::core::{AccountId, Timestamp, permits::Canary};
use rusqlite::params;

/// Lets `post` prove `id` unless another one may; answers with the one that may.
pub(super) fn claim(
    desk: &Desk,
    id: &AccountId,
    post: &str,
    (now, until): (Timestamp, Timestamp),
) -> Result<Canary, Refusal> {
    let AccountId { provider, account } = id;
    let mut forget = desk.connection.prepare_cached("DELETE FROM canary WHERE until <= ?1")?;
    forget.execute([now.as_unix()])?;
    let mut put = desk.connection.prepare_cached(
        "INSERT INTO canary (provider, account, post, claimed_at, until) VALUES (?1, ?2, ?3, ?4, ?5)
         ON CONFLICT DO NOTHING",
    )?;
    put.execute(params![provider, account, post, now.as_unix(), until.as_unix()])?;
    let mut one = desk
        .connection
        .prepare_cached("SELECT post, until FROM canary WHERE provider = ?1 AND account = ?2")?;
    let row = |row: &rusqlite::Row<'_>| {
        let post: Option<String> = row.get(0)?;
        Ok(Canary { post: post.map(Into::into), until: Timestamp::from_unix(row.get(1)?) })
    };
    Ok(one.query_row(params![provider, account], row)?)
}

/// The post was reported: none goes before `until`, where its time is not over earlier.
pub(super) fn report(desk: &Desk, id: &AccountId, until: Timestamp) -> Result<(), Refusal> {
    let mut report = desk.connection.prepare_cached(
        "UPDATE canary SET post = NULL, until = min(until, ?3)
         WHERE provider = ?1 AND account = ?2",
    )?;
    report.execute(params![id.provider, id.account, until.as_unix()])?;
    Ok(())
}

/// The gate moved at `moved_at`: whichever post was to go before does not count any more.
pub(super) fn end(desk: &Desk, id: &AccountId, moved_at: Timestamp) -> Result<(), Refusal> {
    let mut end = desk.connection.prepare_cached(
        "DELETE FROM canary WHERE provider = ?1 AND account = ?2 AND claimed_at <= ?3",
    )?;
    end.execute(params![id.provider, id.account, moved_at.as_unix()])?;
    Ok(())
}
