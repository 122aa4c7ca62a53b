//! Which post may prove which account.

use super::{
    super::writer::{Kind, Refusal},
    session::unavailable,
    work::{Work, step},
};
use crate::core::{AccountId, Timestamp, permits::Canary};

/// Lets `post` prove `id` unless another one may; answers with the one that may.
pub(in super::super) fn claim_canary(
    id: &AccountId,
    post: String,
    (now, until): (Timestamp, Timestamp),
) -> Work<Canary> {
    let (provider, account) = (id.provider.to_string(), id.account.to_string());
    let put = step!(PUT, provider.clone(), account.clone(), post, now.as_unix(), until.as_unix());
    let steps = vec![step!(FORGET, now.as_unix()), put, step!(KNOWN, provider, account)];
    Work::new(Kind::Write, None, steps, |answers| {
        let damaged = || Refusal::Damaged("what was just written is not there".to_owned());
        let row = answers[2].first().ok_or_else(damaged)?;
        let post: Option<String> = row.try_get(0).map_err(unavailable)?;
        let until = row.try_get(1).map_err(unavailable)?;
        Ok(Canary { post: post.map(Into::into), until: Timestamp::from_unix(until) })
    })
}

/// The post was reported: none goes before `until`, where its time is not over earlier.
pub(in super::super) fn report_canary(id: &AccountId, until: Timestamp) -> Work<()> {
    let (provider, account) = (id.provider.to_string(), id.account.to_string());
    let steps = vec![step!(REPORT, provider, account, until.as_unix())];
    Work::new(Kind::Write, None, steps, |_| Ok(()))
}

/// The gate moved at `moved_at`: whichever post was to go before does not count any more.
pub(in super::super) fn end_canary(id: &AccountId, moved_at: Timestamp) -> Work<()> {
    let (provider, account) = (id.provider.to_string(), id.account.to_string());
    let steps = vec![step!(END, provider, account, moved_at.as_unix())];
    Work::new(Kind::Write, None, steps, |_| Ok(()))
}

const FORGET: &str = "
DELETE FROM canary WHERE (provider, account) IN (
    SELECT provider, account FROM canary WHERE until <= $1 FOR UPDATE SKIP LOCKED)";

const PUT: &str = "
INSERT INTO canary (provider, account, post, claimed_at, until)
VALUES ($1, $2, $3, $4, $5)
ON CONFLICT (provider, account) DO UPDATE
SET post = excluded.post, claimed_at = excluded.claimed_at, until = excluded.until
WHERE canary.until <= excluded.claimed_at";

const KNOWN: &str = "SELECT post, until FROM canary WHERE provider = $1 AND account = $2";

const REPORT: &str = "
UPDATE canary SET post = NULL, until = least(until, $3)
WHERE provider = $1 AND account = $2";

const END: &str = "
DELETE FROM canary WHERE provider = $1 AND account = $2 AND claimed_at <= $3";
