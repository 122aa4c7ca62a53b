//! How far logs and tables of the publisher were read, on SQLite.

use super::writer::{Desk, Refusal};
use crate::core::Timestamp;
use rusqlite::{OptionalExtension, params};
use std::time::Duration;

pub(super) fn position_of(desk: &Desk, name: &str) -> Result<Option<String>, Refusal> {
    let sql = "SELECT position FROM observed WHERE name = ?1";
    let mut one = desk.connection.prepare_cached(sql)?;
    Ok(one.query_row([name], |row| row.get(0)).optional()?)
}

/// Keeps a position, and forgets those of logs and machines that are not heard of any more.
pub(super) fn keep_position(
    desk: &Desk,
    name: &str,
    position: &str,
    at: Timestamp,
) -> Result<(), Refusal> {
    let forget_until = at.minus(POSITIONS_KEPT_FOR).as_unix();
    let mut forget = desk.connection.prepare_cached("DELETE FROM observed WHERE kept_at <= ?1")?;
    forget.execute([forget_until])?;
    let mut put = desk.connection.prepare_cached(
        "INSERT INTO observed (name, position, kept_at) VALUES (?1, ?2, ?3)
         ON CONFLICT (name) DO UPDATE SET position = excluded.position, kept_at = excluded.kept_at",
    )?;
    put.execute(params![name, position, at.as_unix()])?;
    Ok(())
}

/// For how long a position is kept that nobody moves: a replica whose machine has another name after each start
/// leaves one behind every time. A log in which nothing was written for so long is begun like a new one.
pub(super) const POSITIONS_KEPT_FOR: Duration = Duration::from_secs(90 * 24 * 3_600);
