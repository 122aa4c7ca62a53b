//! What was announced of accounts under a signature.

use super::{
    super::{
        inbox::{KEPT_BEFORE_ONE_MORE, Letter},
        writer::{Kind, Refusal},
    },
    session::unavailable,
    text,
    work::{Work, step},
};
use crate::core::Timestamp;
use tokio_postgres::Row;

/// Keeps it unless it is there, after forgetting what nobody sends again. Whoever else forgets the same rows
/// has locked them, and does it.
pub(in super::super) fn take_in(letter: Letter, forget_until: Timestamp) -> Work<bool> {
    let Letter { key, record, heard_at } = letter;
    let steps = vec![
        step!(FORGET, forget_until.as_unix(), KEPT_BEFORE_ONE_MORE),
        step!(PUT, text::store(&key), text::store(&record), heard_at),
    ];
    Work::new(Kind::Write, None, steps, |answers| Ok(!answers[1].is_empty()))
}

/// The oldest first.
pub(in super::super) fn heard_after(position: i64) -> Work<Vec<(i64, Letter)>> {
    Work::new(Kind::Read, None, vec![step!(HEARD, position)], |answers| {
        answers[0].iter().map(read).collect()
    })
}

fn read(row: &Row) -> Result<(i64, Letter), Refusal> {
    let column = |index| row.try_get::<_, String>(index).map(text::read).map_err(unavailable);
    let (key, record) = (column(1)?, column(2)?);
    let heard_at = row.try_get(3).map_err(unavailable)?;
    Ok((row.try_get(0).map_err(unavailable)?, Letter { key, record, heard_at }))
}

const FORGET: &str = "
DELETE FROM inbox WHERE position IN (
    SELECT position FROM inbox
    WHERE heard_at <= $1
        OR position <= (SELECT position FROM inbox ORDER BY position DESC LIMIT 1 OFFSET $2)
    FOR UPDATE SKIP LOCKED)";

const PUT: &str = "
INSERT INTO inbox (key, record, heard_at) VALUES ($1, $2, $3)
ON CONFLICT (key) DO NOTHING RETURNING position";

const HEARD: &str = "
SELECT position, key, record, heard_at FROM inbox WHERE position > $1 ORDER BY position";
