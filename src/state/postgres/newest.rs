//! The newest token that the store was given of each account, and which refresh tokens were spent for it.

use super::{
    super::{
        EntryId,
        journal::{fingerprint, number},
        newest::{Kept, SPENT_PER_ACCOUNT_MAX, Sealed},
        writer::{Kind, Refusal},
    },
    journal::{CLOSE, LEFT_OPEN, LOCK_LEASE_OF_ENTRY, id_of, names, of_the_last_holder},
    session::unavailable,
    work::{Step, Work, step},
};
use crate::core::{AccountId, Fingerprint};

/// Ends an entry whose token is in the store and keeps that token, unless somebody else has taken the
/// account over or the entry was ended before.
pub(in super::super) fn complete(
    holder: [u8; 16],
    entry: EntryId,
    id: &AccountId,
    kept: Kept,
) -> Work<()> {
    let Kept { spent, renewable_by, sealed } = kept;
    let most = i32::try_from(SPENT_PER_ACCOUNT_MAX).expect("a handful");
    let entry_holder = holder;
    let holder = holder.to_vec();
    let keep = step!(
        KEEP,
        entry.0,
        holder.clone(),
        spent.map(number),
        renewable_by.map(number),
        most,
        sealed,
    );
    let steps = vec![
        step!(LOCK_LEASE_OF_ENTRY, entry.0),
        keep,
        note_spent(entry_holder, entry),
        step!(FORGET_SPENT, entry.0),
        step!(CLOSE, entry.0, holder.clone()),
        step!(LEFT_OPEN, entry.0, holder),
    ];
    let id = id.clone();
    Work::new(Kind::Write, Some(&id.clone()), steps, move |answers| {
        match answers.last().is_none_or(Vec::is_empty) {
            true => Ok(()),
            false => Err(Refusal::LeaseLost(id.clone())),
        }
    })
}

/// The refresh token that the entry is about is finished: it joins the spent ones, and so does `newest`. Where
/// nothing is kept, `dead` is.
pub(super) fn bury(
    holder: [u8; 16],
    entry: EntryId,
    newest: Option<Fingerprint>,
    dead: Option<Vec<u8>>,
) -> Step {
    let most = i32::try_from(SPENT_PER_ACCOUNT_MAX).expect("a handful");
    step!(BURY, entry.0, holder.to_vec(), most, newest.map(number), dead)
}

/// Says by whom the newest of the spent ones were: before the entry is closed, which says whose they are.
pub(super) fn note_spent(holder: [u8; 16], entry: EntryId) -> Step {
    step!(NOTE_SPENT, entry.0, holder.to_vec())
}

/// Who spent a refresh token, of the last few of each account.
pub(in super::super) fn spender(spent: Fingerprint) -> Work<Option<AccountId>> {
    Work::new(Kind::Read, None, vec![step!(SPENDER, number(spent))], |answers| {
        answers[0].first().map(|row| id_of(row, 0)).transpose()
    })
}

/// What is kept of one account.
pub(in super::super) fn newest(id: &AccountId) -> Work<Option<Sealed>> {
    let (provider, account) = names(id);
    Work::new(Kind::Read, None, vec![step!(NEWEST, provider, account)], |answers| {
        let Some(row) = answers[0].first() else { return Ok(None) };
        let spent: Vec<i64> = row.try_get(0).map_err(unavailable)?;
        Ok(Some(Sealed {
            spent: spent.into_iter().map(fingerprint).collect(),
            token: row.try_get(1).map_err(unavailable)?,
        }))
    })
}

/// A provider that never replaces a refresh token leaves nothing to confuse it with, and no row.
const KEEP: &str = of_the_last_holder!(
    "
INSERT INTO newest (provider, account, spent, sealed)
SELECT j.provider, j.account,
       (array_remove(array_remove($3::bigint || array_remove(coalesce(n.spent, '{}'), $3::bigint), NULL),
                     $4::bigint))[1:$5::integer],
       $6::bytea
FROM journal j LEFT JOIN newest n USING (provider, account)
WHERE j.entry = $1 AND NOT j.orphan AND ($3::bigint IS NOT NULL OR n.provider IS NOT NULL)",
    "
ON CONFLICT (provider, account) DO UPDATE SET spent = excluded.spent, sealed = excluded.sealed"
);

const BURY: &str = of_the_last_holder!(
    "
INSERT INTO newest (provider, account, spent, sealed)
SELECT j.provider, j.account,
       (j.spending || array_remove(
            array_remove($4::bigint || array_remove(coalesce(n.spent, '{}'), $4::bigint), NULL),
            j.spending))[1:$3::integer],
       coalesce(n.sealed, $5::bytea)
FROM journal j LEFT JOIN newest n USING (provider, account)
WHERE j.entry = $1 AND NOT j.orphan AND j.result IS NULL
      AND ($5::bytea IS NOT NULL OR n.provider IS NOT NULL)",
    "
ON CONFLICT (provider, account) DO UPDATE SET spent = excluded.spent"
);

/// A refresh spends one, and a death may end two. Whoever spent one first did it.
const NOTE_SPENT: &str = of_the_last_holder!(
    "
INSERT INTO spent (fingerprint, provider, account)
SELECT one, j.provider, j.account
FROM journal j JOIN newest n USING (provider, account), unnest(n.spent[1:2]) AS one
WHERE j.entry = $1 AND NOT j.orphan",
    " ON CONFLICT DO NOTHING"
);

/// What is too long ago to be kept.
const FORGET_SPENT: &str = "
DELETE FROM spent s USING journal j, newest n
WHERE j.entry = $1 AND NOT j.orphan AND n.provider = j.provider AND n.account = j.account
  AND s.provider = n.provider AND s.account = n.account AND s.fingerprint <> ALL (n.spent)";

const SPENDER: &str = "SELECT provider, account FROM spent WHERE fingerprint = $1";

const NEWEST: &str = "SELECT spent, sealed FROM newest WHERE provider = $1 AND account = $2";
