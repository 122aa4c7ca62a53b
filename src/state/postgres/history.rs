//! What happened to each account, for whoever asks later.

use super::{
    super::{
        history::Kept,
        memory::MEMORY_PAGE_ROWS,
        writer::{Kind, Refusal},
    },
    journal::{names, share_of},
    memory::fenced,
    session::unavailable,
    text,
    work::{Work, step},
};
use crate::core::AccountId;
use std::collections::BTreeMap;

/// Adds or replaces, sorted and each account once, as the memory is. Of accounts whose share is not held by
/// `fence` nothing is written; answers how many those were.
pub(in super::super) fn keep_histories(fence: Option<[u8; 16]>, records: &[Kept]) -> Work<usize> {
    let last: BTreeMap<&AccountId, &str> =
        records.iter().map(|(id, record)| (id, record.as_str())).collect();
    let (providers, accounts): (Vec<_>, Vec<_>) = last.keys().map(|id| names(id)).unzip();
    let texts: Vec<String> = last.values().map(|record| text::store(record)).collect();
    let shares: Vec<i16> = last.keys().map(|id| share_of(id)).collect();
    let holder = fence.map(|holder| holder.to_vec());
    let step = step!(KEEP, providers, accounts, texts, holder, shares.clone());
    fenced(fence, shares, step, last.len())
}

/// The next accounts after `after`, sorted; fewer than [`MEMORY_PAGE_ROWS`] are the last.
pub(in super::super) fn page_of_histories(after: Option<&AccountId>) -> Work<Vec<Kept>> {
    let rows = i64::try_from(MEMORY_PAGE_ROWS).expect("a page is small");
    let step = match after.map(names) {
        None => step!(FIRST_PAGE, rows),
        Some((provider, account)) => step!(NEXT_PAGE, rows, provider, account),
    };
    Work::new(Kind::Read, None, vec![step], |answers| {
        let read = |row: &tokio_postgres::Row| -> Result<Kept, Refusal> {
            let column =
                |index| row.try_get::<_, String>(index).map(text::read).map_err(unavailable);
            Ok((AccountId::new(column(0)?, column(1)?), column(2)?))
        };
        answers[0].iter().map(read).collect()
    })
}

const KEEP: &str = "
WITH ours AS (
    SELECT provider, account, record
    FROM unnest($1::text[], $2::text[], $3::text[], $5::smallint[])
         AS told (provider, account, record, share)
    WHERE $4::bytea IS NULL OR share = ANY (ARRAY (SELECT share FROM share WHERE holder = $4))
), put AS (
    INSERT INTO history (provider, account, record)
    SELECT * FROM ours
    ON CONFLICT (provider, account) DO UPDATE SET record = excluded.record
)
SELECT count(*) FROM ours";

const FIRST_PAGE: &str = "
SELECT provider, account, record FROM history ORDER BY provider, account LIMIT $1";

const NEXT_PAGE: &str = "
SELECT provider, account, record FROM history
WHERE (provider, account) > ($2, $3) ORDER BY provider, account LIMIT $1";
