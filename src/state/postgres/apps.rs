//! What is remembered of apps: until when each was asked to wait, and whether it is refused.

use super::{
    super::{
        apps::{frozen_word, read_frozen},
        writer::{Kind, Refusal},
    },
    session::unavailable,
    text,
    work::{Work, step},
};
use crate::core::{AppMemory, Timestamp};
use std::collections::BTreeMap;
use tokio_postgres::{Row, types::FromSql};

/// Adds, or brings up to date: the longer pause, and the newer word about whether it is refused; that somebody was told
/// stays while it is refused. Sorted, so that two replicas lock rows in the same order; and the last word on an app only.
pub(in super::super) fn remember_apps(memories: &[AppMemory]) -> Work<()> {
    let last: BTreeMap<&str, &AppMemory> =
        memories.iter().map(|memory| (&*memory.name, memory)).collect();
    macro_rules! column {
        (|$memory:ident| $value:expr) => {
            last.values().map(|$memory| $value).collect::<Vec<_>>()
        };
    }
    let step = step!(
        REMEMBER,
        column!(|memory| text::store(&memory.name)),
        column!(|memory| memory.paused_until.map(Timestamp::as_unix)),
        column!(|memory| i64::from(memory.refusals)),
        column!(|memory| memory.next_try_at.map(Timestamp::as_unix)),
        column!(|memory| frozen_word(memory)),
        column!(|memory| memory.frozen.map(|(_, since)| since.as_unix())),
        column!(|memory| memory.changed_at.map(Timestamp::as_unix)),
    );
    Work::new(Kind::Write, None, vec![step], |_| Ok(()))
}

/// Everything, sorted by name.
pub(in super::super) fn app_memories() -> Work<Vec<AppMemory>> {
    Work::new(Kind::Read, None, vec![step!(ALL)], |answers| answers[0].iter().map(read).collect())
}

fn read(row: &Row) -> Result<AppMemory, Refusal> {
    let instant = |column: usize| -> Result<Option<Timestamp>, Refusal> {
        Ok(get::<Option<i64>>(row, column)?.map(Timestamp::from_unix))
    };
    let refusals: i64 = get(row, 2)?;
    let (frozen, doubted) = read_frozen(get::<Option<&str>>(row, 4)?)?;
    Ok(AppMemory {
        name: text::read(get(row, 0)?).into(),
        paused_until: instant(1)?,
        refusals: u32::try_from(refusals).unwrap_or(u32::MAX),
        next_try_at: instant(3)?,
        frozen: frozen.zip(instant(5)?),
        doubted,
        changed_at: instant(6)?,
    })
}

fn get<'a, T: FromSql<'a>>(row: &'a Row, column: usize) -> Result<T, Refusal> {
    row.try_get(column).map_err(unavailable)
}

const REMEMBER: &str = "
INSERT INTO app
SELECT * FROM unnest(
    $1::text[], $2::bigint[], $3::bigint[], $4::bigint[], $5::text[], $6::bigint[], $7::bigint[])
ON CONFLICT (name) DO UPDATE SET
    paused_until = greatest(app.paused_until, excluded.paused_until),
    (refusals, next_try_at, frozen, frozen_since, changed_at) = (
        SELECT excluded.refusals, excluded.next_try_at,
            CASE WHEN excluded.refusals > 0 THEN coalesce(excluded.frozen, app.frozen) END,
            CASE WHEN excluded.refusals > 0 THEN coalesce(excluded.frozen_since, app.frozen_since) END,
            excluded.changed_at
        WHERE excluded.changed_at >= coalesce(app.changed_at, 0)
        UNION ALL
        SELECT app.refusals, app.next_try_at, app.frozen, app.frozen_since, app.changed_at
        LIMIT 1)";

const ALL: &str = "
SELECT name, paused_until, refusals, next_try_at, frozen, frozen_since, changed_at
FROM app ORDER BY name";
