//! Links by which accounts are connected again, and the consents that were begun with them.

use super::{
    super::{
        consents::{Beginning, Begun, CONSENTS_MAX, Known, Return, Standing},
        writer::{Kind, Refusal},
    },
    session::unavailable,
    work::{Work, step},
};
use crate::core::Timestamp;
use tokio_postgres::Row;

/// Writes a beginning down, in place of an earlier one of the same browser.
pub(in super::super) fn begin(begun: Begun, now: Timestamp) -> Work<Beginning> {
    let Begun { link, browser, nonce, sealed, ends_at } = begun;
    let put = step!(
        PUT,
        link.clone(),
        browser.clone(),
        nonce.clone(),
        sealed,
        ends_at.as_unix(),
        CONSENTS_MAX
    );
    let steps = vec![step!(FORGET, now.as_unix()), put, step!(KNOWN, link, browser, nonce)];
    Work::new(Kind::Write, None, steps, |answers| {
        Ok(match (answers[1].is_empty(), answers[2].is_empty()) {
            (false, _) => Beginning::Begun,
            (true, false) => Beginning::Used,
            (true, true) => Beginning::Full,
        })
    })
}

/// What is known of a link.
pub(in super::super) fn standing(link: String, browser: Vec<u8>) -> Work<Standing> {
    let steps = vec![step!(KNOWN, link, browser, Vec::<u8>::new())];
    Work::new(Kind::Read, None, steps, |answers| {
        answers[0].first().map_or(Ok(Standing::Free), |row| Ok(known(row)?.standing()))
    })
}

/// Somebody comes back: once, in the browser that began.
pub(in super::super) fn come_back(
    link: String,
    browser: Vec<u8>,
    nonce: Vec<u8>,
) -> Work<Return<Vec<u8>>> {
    let take = step!(TAKE, link.clone(), browser.clone(), nonce.clone());
    let steps = vec![take, step!(KNOWN, link, browser, nonce)];
    Work::new(Kind::Write, None, steps, |answers| {
        if let Some(row) = answers[0].first() {
            return row.try_get(0).map(Return::Now).map_err(unavailable);
        }
        answers[1].first().map_or(Ok(Return::Unknown), |row| Ok(known(row)?.refusal()))
    })
}

/// The link did its work.
pub(in super::super) fn end(link: String) -> Work<()> {
    Work::new(Kind::Write, None, vec![step!(END, link)], |_| Ok(()))
}

fn known(row: &Row) -> Result<Known, Refusal> {
    Ok(Known {
        stage: row.try_get(0).map_err(unavailable)?,
        is_browser: row.try_get(1).map_err(unavailable)?,
        is_nonce: row.try_get(2).map_err(unavailable)?,
    })
}

const FORGET: &str = "
DELETE FROM consent WHERE link IN (
    SELECT link FROM consent WHERE ends_at <= $1 FOR UPDATE SKIP LOCKED)";

const PUT: &str = "
INSERT INTO consent (link, browser, nonce, sealed, stage, ends_at)
SELECT $1::text, $2::bytea, $3::bytea, $4::bytea, 'begun', $5::bigint
WHERE EXISTS (SELECT FROM consent WHERE link = $1::text)
    OR (SELECT count(*) FROM consent) < $6::bigint
ON CONFLICT (link) DO UPDATE
SET nonce = excluded.nonce, sealed = excluded.sealed, stage = 'begun'
WHERE consent.browser = excluded.browser AND consent.stage <> 'done'
RETURNING 1";

const KNOWN: &str = "
SELECT stage, browser = $2::bytea, nonce = $3::bytea FROM consent WHERE link = $1";

const TAKE: &str = "
UPDATE consent SET stage = 'returned'
WHERE link = $1 AND browser = $2::bytea AND nonce = $3::bytea AND stage = 'begun'
RETURNING sealed";

const END: &str = "UPDATE consent SET stage = 'done' WHERE link = $1";
