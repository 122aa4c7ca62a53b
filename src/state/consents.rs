//! Links by which accounts are connected again, and the consents that were begun with them, on SQLite.
//!
//! A row appears when somebody presses the button behind a link, and goes when the link has ended. It says which
//! browser began, so that the same person may begin again and nobody else; a link that did its work is kept as
//! done until it ends, so that it works once.

use super::writer::{Desk, Refusal};
use crate::core::Timestamp;
use rusqlite::{OptionalExtension, params};

/// A consent as it is begun. Hashes only, but for what is sealed.
#[derive(Clone)]
pub(super) struct Begun {
    pub(super) link: String,
    /// Hash of what the browser shows that began it.
    pub(super) browser: Vec<u8>,
    /// Hash of what must come back with the code.
    pub(super) nonce: Vec<u8>,
    pub(super) sealed: Vec<u8>,
    pub(super) ends_at: Timestamp,
}

/// What became of a beginning.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Beginning {
    /// It is written down.
    Begun,
    /// The link did its work, or another browser began with it.
    Used,
    /// There are [`CONSENTS_MAX`]; it is to be tried later.
    Full,
}

/// What is known of a link.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Standing {
    /// Nobody has begun with it, or this browser has.
    Free,
    /// It did its work.
    Done,
    /// Another browser began with it.
    OtherBrowser,
}

/// What a person came back to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Return<T> {
    /// To this consent, for the first time.
    Now(T),
    /// To one from which somebody came back before.
    Before,
    /// To one that another browser began.
    OtherBrowser,
    /// To none that we know.
    Unknown,
}

/// A row as it answers.
pub(super) struct Known {
    pub(super) stage: String,
    pub(super) is_browser: bool,
    pub(super) is_nonce: bool,
}

impl Known {
    /// What is known of the link.
    pub(super) fn standing(&self) -> Standing {
        match (&*self.stage, self.is_browser) {
            (DONE, _) => Standing::Done,
            (_, true) => Standing::Free,
            (_, false) => Standing::OtherBrowser,
        }
    }

    /// Why nobody came back for the first time.
    pub(super) fn refusal<T>(&self) -> Return<T> {
        match (self.is_nonce, self.is_browser) {
            (false, _) => Return::Unknown,
            (true, false) => Return::OtherBrowser,
            (true, true) => Return::Before,
        }
    }
}

/// Writes a beginning down, in place of an earlier one of the same browser.
pub(super) fn begin(desk: &Desk, begun: &Begun, now: Timestamp) -> Result<Beginning, Refusal> {
    let mut forget = desk.connection.prepare_cached("DELETE FROM consent WHERE ends_at <= ?1")?;
    forget.execute([now.as_unix()])?;
    let mut put = desk.connection.prepare_cached(
        "INSERT INTO consent (link, browser, nonce, sealed, stage, ends_at)
         SELECT ?1, ?2, ?3, ?4, 'begun', ?5 WHERE EXISTS (SELECT 1 FROM consent WHERE link = ?1)
             OR (SELECT count(*) FROM consent) < ?6
         ON CONFLICT (link) DO UPDATE
         SET nonce = excluded.nonce, sealed = excluded.sealed, stage = 'begun'
         WHERE consent.browser = excluded.browser AND consent.stage <> 'done'",
    )?;
    let Begun { link, browser, nonce, sealed, ends_at } = begun;
    let values = params![link, browser, nonce, sealed, ends_at.as_unix(), CONSENTS_MAX];
    if put.execute(values)? > 0 {
        return Ok(Beginning::Begun);
    }
    let known = known(desk, link, browser, nonce)?;
    Ok(if known.is_some() { Beginning::Used } else { Beginning::Full })
}

/// What is known of a link; `None` when nobody has begun with it.
pub(super) fn known(
    desk: &Desk,
    link: &str,
    browser: &[u8],
    nonce: &[u8],
) -> Result<Option<Known>, Refusal> {
    let mut one = desk
        .connection
        .prepare_cached("SELECT stage, browser = ?2, nonce = ?3 FROM consent WHERE link = ?1")?;
    let row = |row: &rusqlite::Row<'_>| {
        Ok(Known { stage: row.get(0)?, is_browser: row.get(1)?, is_nonce: row.get(2)? })
    };
    Ok(one.query_row(params![link, browser, nonce], row).optional()?)
}

/// Somebody comes back: once, in the browser that began.
pub(super) fn come_back(
    desk: &Desk,
    link: &str,
    browser: &[u8],
    nonce: &[u8],
) -> Result<Return<Vec<u8>>, Refusal> {
    let mut take = desk.connection.prepare_cached(
        "UPDATE consent SET stage = 'returned'
         WHERE link = ?1 AND browser = ?2 AND nonce = ?3 AND stage = 'begun' RETURNING sealed",
    )?;
    let taken = take.query_row(params![link, browser, nonce], |row| row.get(0)).optional()?;
    if let Some(sealed) = taken {
        return Ok(Return::Now(sealed));
    }
    let known = known(desk, link, browser, nonce)?;
    Ok(known.map_or(Return::Unknown, |known| known.refusal()))
}

/// The link did its work.
pub(super) fn end(desk: &Desk, link: &str) -> Result<(), Refusal> {
    let mut end =
        desk.connection.prepare_cached("UPDATE consent SET stage = 'done' WHERE link = ?1")?;
    end.execute([link])?;
    Ok(())
}

/// Most links that were begun with and have not ended.
pub const CONSENTS_MAX: i64 = 100_000;

/// The stage of a link that did its work.
const DONE: &str = "done";
