//! The newest token that the store was given of each account, and which refresh tokens were spent for it, on
//! SQLite.
//!
//! A publisher with a cached row may write an older token back over it. Without this the newer one would be
//! gone, and the older, presented again, may cost the whole grant. And where several rows hold one refresh token,
//! whoever spends it says so here before another row's account comes to it.

use super::{
    EntryId, journal,
    journal::{fingerprint, number},
    leases,
    writer::{Desk, Refusal},
};
use crate::core::{AccountId, Fingerprint};
use rusqlite::{OptionalExtension, params};

/// What an attempt that succeeded leaves behind.
#[derive(Clone)]
pub(super) struct Kept {
    /// The refresh token that it used up; `None` where the provider lets it live.
    pub(super) spent: Option<Fingerprint>,
    /// What renews the new token: never among the spent ones, even if a provider hands one out again.
    pub(super) renewable_by: Option<Fingerprint>,
    /// The new token.
    pub(super) sealed: Vec<u8>,
}

/// The record of one account; the caller opens the sealed part.
pub(super) struct Sealed {
    pub(super) spent: Vec<Fingerprint>,
    pub(super) token: Vec<u8>,
}

/// Ends an entry whose token is in the store and keeps that token. An entry that is gone has been ended
/// before, and somebody may have kept a newer one since.
pub(super) fn complete(
    desk: &Desk,
    entry: EntryId,
    id: &AccountId,
    kept: &Kept,
) -> Result<(), Refusal> {
    if !journal::is_open(desk, entry, id)? {
        return Ok(());
    }
    leases::check_last(desk, id)?;
    let before = of(desk, id)?.map(|before| before.spent);
    // A provider that never replaces a refresh token leaves nothing to confuse it with.
    if kept.spent.is_some() || before.is_some() {
        let before = before.unwrap_or_default();
        let spent = kept.spent.into_iter().chain(before.iter().copied());
        let newest_first = bounded(spent.filter(|one| Some(*one) != kept.renewable_by));
        put(desk, id, &before, &newest_first, &kept.sealed)?;
    }
    desk.connection.execute("DELETE FROM journal WHERE entry = ?1", [entry.0])?;
    Ok(())
}

/// The refresh token that the entry is about is finished: it joins the spent ones, and so does `newest`. Where
/// nothing is kept, `dead` is.
pub(super) fn bury(
    desk: &Desk,
    entry: EntryId,
    id: &AccountId,
    newest: Option<Fingerprint>,
    dead: Option<&[u8]>,
) -> Result<(), Refusal> {
    let before = of(desk, id)?.map(|before| (before.spent, before.token));
    let Some((before, token)) = before.or_else(|| Some((Vec::new(), dead?.to_owned()))) else {
        return Ok(());
    };
    let dead: i64 = desk
        .connection
        .prepare_cached("SELECT spending FROM journal WHERE entry = ?1")?
        .query_row([entry.0], |row| row.get(0))?;
    let known = before.iter().copied();
    let spent = bounded(std::iter::once(fingerprint(dead)).chain(newest).chain(known));
    put(desk, id, &before, &spent, &token)
}

/// Who spent a refresh token, of the last few of each account.
pub(super) fn spender(desk: &Desk, spent: Fingerprint) -> Result<Option<AccountId>, Refusal> {
    Ok(desk
        .connection
        .prepare_cached("SELECT provider, account FROM spent WHERE fingerprint = ?1")?
        .query_row([number(spent)], |row| {
            Ok(AccountId::new(row.get::<_, String>(0)?, row.get::<_, String>(1)?))
        })
        .optional()?)
}

/// An account is forgotten: so is what it spent.
pub(super) fn forget(desk: &Desk, id: &AccountId) -> Result<(), Refusal> {
    let Some(known) = of(desk, id)? else { return Ok(()) };
    note_spent(desk, id, &known.spent, &[])?;
    desk.connection
        .prepare_cached("DELETE FROM newest WHERE provider = ?1 AND account = ?2")?
        .execute((&*id.provider, &*id.account))?;
    Ok(())
}

/// Whoever spent one first did it.
fn note_spent(
    desk: &Desk,
    id: &AccountId,
    before: &[Fingerprint],
    after: &[Fingerprint],
) -> Result<(), Refusal> {
    let mut note = desk.connection.prepare_cached(
        "INSERT INTO spent (fingerprint, provider, account) VALUES (?1, ?2, ?3)
         ON CONFLICT DO NOTHING",
    )?;
    for one in after.iter().filter(|one| !before.contains(one)) {
        note.execute(params![number(*one), &*id.provider, &*id.account])?;
    }
    let mut forget = desk.connection.prepare_cached(
        "DELETE FROM spent WHERE fingerprint = ?1 AND provider = ?2 AND account = ?3",
    )?;
    for one in before.iter().filter(|one| !after.contains(one)) {
        forget.execute(params![number(*one), &*id.provider, &*id.account])?;
    }
    Ok(())
}

fn put(
    desk: &Desk,
    id: &AccountId,
    before: &[Fingerprint],
    spent: &[Fingerprint],
    sealed: &[u8],
) -> Result<(), Refusal> {
    note_spent(desk, id, before, spent)?;
    desk.connection
        .prepare_cached(
            "INSERT INTO newest (provider, account, spent, sealed) VALUES (?1, ?2, ?3, ?4)
             ON CONFLICT DO UPDATE SET spent = excluded.spent, sealed = excluded.sealed",
        )?
        .execute(params![&*id.provider, &*id.account, to_bytes(spent), sealed])?;
    Ok(())
}

/// The first few, each once.
fn bounded(spent: impl Iterator<Item = Fingerprint>) -> Vec<Fingerprint> {
    let mut newest_first: Vec<Fingerprint> = Vec::with_capacity(SPENT_PER_ACCOUNT_MAX);
    for one in spent {
        if newest_first.len() < SPENT_PER_ACCOUNT_MAX && !newest_first.contains(&one) {
            newest_first.push(one);
        }
    }
    newest_first
}

/// What is kept of one account.
pub(super) fn of(desk: &Desk, id: &AccountId) -> Result<Option<Sealed>, Refusal> {
    Ok(desk
        .connection
        .prepare_cached("SELECT spent, sealed FROM newest WHERE provider = ?1 AND account = ?2")?
        .query_row((&*id.provider, &*id.account), |row| {
            Ok(Sealed { spent: from_bytes(&row.get::<_, Vec<u8>>(0)?), token: row.get(1)? })
        })
        .optional()?)
}

fn to_bytes(spent: &[Fingerprint]) -> Vec<u8> {
    spent.iter().flat_map(|one| number(*one).to_be_bytes()).collect()
}

fn from_bytes(bytes: &[u8]) -> Vec<Fingerprint> {
    let (numbers, _) = bytes.as_chunks::<8>();
    numbers.iter().map(|bytes| fingerprint(i64::from_be_bytes(*bytes))).collect()
}

/// Spent refresh tokens that are remembered per account: a cached row is seldom older than the last few.
pub(super) const SPENT_PER_ACCOUNT_MAX: usize = 8;
