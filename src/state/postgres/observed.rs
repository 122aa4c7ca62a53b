//! How far logs and tables of the publisher were read.

use super::{
    super::{observed::POSITIONS_KEPT_FOR, writer::Kind},
    session::unavailable,
    text,
    work::{Work, step},
};
use crate::core::Timestamp;

pub(in super::super) fn position_of(name: &str) -> Work<Option<String>> {
    Work::new(Kind::Read, None, vec![step!(OF, text::store(name))], |answers| {
        let row = answers[0].first();
        let position = row.map(|row| row.try_get::<_, String>(0).map_err(unavailable));
        position.transpose().map(|position| position.map(text::read))
    })
}

/// Each replica has names of its own, so nobody waits for another one.
pub(in super::super) fn keep_position(name: &str, position: &str, at: Timestamp) -> Work<()> {
    let forget_until = at.minus(POSITIONS_KEPT_FOR).as_unix();
    let steps = vec![
        step!(FORGET, forget_until),
        step!(KEEP, text::store(name), text::store(position), at.as_unix()),
    ];
    Work::new(Kind::Write, None, steps, |_| Ok(()))
}

const OF: &str = "SELECT position FROM observed WHERE name = $1";

const FORGET: &str = "
DELETE FROM observed WHERE name IN (
    SELECT name FROM observed WHERE kept_at <= $1 FOR UPDATE SKIP LOCKED)";

const KEEP: &str = "
INSERT INTO observed (name, position, kept_at) VALUES ($1, $2, $3)
ON CONFLICT (name) DO UPDATE SET position = excluded.position, kept_at = excluded.kept_at";
