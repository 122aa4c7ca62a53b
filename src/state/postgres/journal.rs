//! Leases, and attempts to spend a refresh token from the intent to the saved token.
//!
//! The same rules as on SQLite. What is added are locks: whoever relies on a lease locks its row first, so
//! that a taker waits until that transaction is over, or is over before it. A later statement of the same
//! transaction then sees what the taker left, since each has a snapshot of its own (READ COMMITTED).

use super::{
    super::{
        Closing, EntryId, Intent, Lease,
        journal::{ORPHANS_PER_ACCOUNT_MAX, RESULT_RESERVED_BYTES, Sealed, fingerprint, number},
        leases::LIFE_MAX,
        writer::{Kind, Refusal},
    },
    newest,
    session::unavailable,
    shares, text,
    work::{Step, Value, Work, step},
};
use crate::core::{AccountId, Fingerprint, Shares, Timestamp};
use std::time::Duration;
use tokio_postgres::Row;

/// `None` while another holder's lease lives, and when the account's share is not held by `fence`.
pub(in super::super) fn take_lease(
    holder: [u8; 16],
    fence: Option<[u8; 16]>,
    id: &AccountId,
    life: Duration,
) -> Work<Option<Lease>> {
    let (provider, account) = names(id);
    let take = step!(
        TAKE_LEASE,
        provider,
        account,
        holder.to_vec(),
        life.min(LIFE_MAX).as_secs_f64(),
        LIFE_MAX.as_secs_f64(),
        fence.map(|holder| holder.to_vec()),
        share_of(id),
    );
    let (provider, account) = names(id);
    let look = step!(LOCK_LEASE, provider, account);
    let steps = vec![shares::lock(fence, vec![share_of(id)]), look, take];
    let id = id.clone();
    Work::new(Kind::Write, Some(&id.clone()), steps, move |answers| {
        let Some(row) = answers[2].first() else { return Ok(None) };
        let epoch: i64 = row.try_get(0).map_err(unavailable)?;
        Ok(Some(Lease { id: id.clone(), epoch: epoch.unsigned_abs() }))
    })
}

/// Gives the lease back. One that was lost is nobody's to give back, and that is no error.
pub(in super::super) fn release(holder: [u8; 16], lease: &Lease) -> Work<()> {
    done(Some(&lease.id), vec![step_of_lease(RELEASE, holder, lease, [])])
}

/// Writes the intent, with room for its result, if the lease allows it.
pub(in super::super) fn intend(holder: [u8; 16], lease: &Lease, intent: &Intent) -> Work<EntryId> {
    // Of our clock only the length of the call is used, never an instant.
    let call = intent.over_at.since(intent.requested_at).as_secs_f64();
    let of_intent = || {
        [
            Box::new(number(intent.old)) as Value,
            Box::new(number(intent.spending)),
            Box::new(intent.requested_at.as_unix()),
            Box::new(intent.over_at.as_unix()),
        ]
    };
    let reserved = vec![0_u8; RESULT_RESERVED_BYTES];
    let [old, spending, requested_at, over_at] = of_intent();
    let made = [old, spending, requested_at, over_at, Box::new(call), Box::new(reserved)];
    let id = lease.id.clone();
    let steps = vec![
        step_of_lease(LOCK_LIVE_LEASE, holder, lease, [Box::new(call)]),
        step_of_lease(INTEND, holder, lease, made),
        step_of_lease(SAME_INTENT, holder, lease, of_intent()),
    ];
    Work::new(Kind::Write, Some(&lease.id), steps, move |answers| {
        if answers[0].is_empty() {
            return Err(Refusal::LeaseLost(id.clone()));
        }
        match (answers[1].first(), answers[2].first()) {
            (Some(made), _) => Ok(EntryId(made.try_get(0).map_err(unavailable)?)),
            (None, Some(open)) if open.try_get(1).map_err(unavailable)? => {
                Ok(EntryId(open.try_get(0).map_err(unavailable)?))
            }
            (None, Some(_)) => Err(Refusal::EntryOpen(id.clone())),
            // The lease ended between two statements, or another row's account spends the same refresh token.
            (None, None) => Err(Refusal::LeaseLost(id.clone())),
        }
    })
}

/// Spends the one probe of an entry that has no result; false when it cannot be spent any more.
pub(in super::super) fn intend_probe(
    holder: [u8; 16],
    lease: &Lease,
    entry: EntryId,
    over_at: Timestamp,
) -> Work<bool> {
    let id = lease.id.clone();
    let steps = vec![
        step_of_lease(LOCK_LIVE_LEASE, holder, lease, [Box::new(0_f64)]),
        step_of_lease(
            INTEND_PROBE,
            holder,
            lease,
            [Box::new(entry.0) as Value, Box::new(over_at.as_unix())],
        ),
    ];
    Work::new(Kind::Write, Some(&lease.id), steps, move |answers| {
        match (answers[0].is_empty(), answers[1].is_empty()) {
            (true, _) => Err(Refusal::LeaseLost(id.clone())),
            (false, none) => Ok(!none),
        }
    })
}

/// Gives the one probe back: the provider refused it before it looked at the refresh token.
pub(in super::super) fn return_probe(holder: [u8; 16], entry: EntryId) -> Work<()> {
    let steps = vec![
        step!(LOCK_LEASE_OF_ENTRY, entry.0),
        step!(RETURN_PROBE, entry.0, holder.to_vec()),
        step!(LEFT_OPEN, entry.0, holder.to_vec()),
    ];
    Work::new(Kind::Write, None, steps, |answers| match answers[2].first() {
        Some(open) if open.try_get(2).map_err(unavailable)? => {
            Err(Refusal::LeaseLost(id_of(open, 0)?))
        }
        _ => Ok(()),
    })
}

/// Keeps the result, whatever happened to the lease or to the entry.
pub(in super::super) fn record_result(
    entry: EntryId,
    id: &AccountId,
    result: Fingerprint,
    sealed: Vec<u8>,
) -> Work<()> {
    let (provider, account) = names(id);
    let record = step!(
        RECORD_RESULT,
        entry.0,
        provider.clone(),
        account.clone(),
        number(result),
        sealed.clone(),
    );
    let keep = step!(KEEP_ORPHAN, provider.clone(), account.clone(), number(result), sealed);
    let steps = vec![record, keep, step!(TRIM_ORPHANS, provider, account, ORPHANS_PER_ACCOUNT_MAX)];
    Work::new(Kind::Result, Some(id), steps, |_| Ok(()))
}

/// Ends an entry, unless somebody else has taken the account over. One that is gone has been ended before.
pub(in super::super) fn close(holder: [u8; 16], entry: EntryId, closing: Closing) -> Work<()> {
    let of_entry = |sql| step!(sql, entry.0, holder.to_vec());
    let mut steps = vec![step!(LOCK_LEASE_OF_ENTRY, entry.0)];
    match closing {
        Closing::Done => steps.push(of_entry(CLOSE)),
        // A result that came in the meantime is a token, and is not voided.
        Closing::Void => steps.push(of_entry(CLOSE_WITHOUT_RESULT)),
        // Without a token there is nothing to keep.
        Closing::Orphan => steps.extend([
            of_entry(CLOSE_WITHOUT_RESULT),
            of_entry(CLOSE_AS_ORPHAN),
            step!(TRIM_ORPHANS_OF_ENTRY, entry.0, ORPHANS_PER_ACCOUNT_MAX),
        ]),
    }
    ended(holder, entry, steps)
}

/// Ends an entry whose refresh token is finished, unless it has a result by now.
pub(in super::super) fn bury(
    holder: [u8; 16],
    entry: EntryId,
    newest: Option<Fingerprint>,
    dead: Option<Vec<u8>>,
) -> Work<()> {
    let steps = vec![
        step!(LOCK_LEASE_OF_ENTRY, entry.0),
        newest::bury(holder, entry, newest, dead),
        newest::note_spent(holder, entry),
        step!(CLOSE_WITHOUT_RESULT, entry.0, holder.to_vec()),
    ];
    ended(holder, entry, steps)
}

/// Carries `steps` out, which should leave the entry closed.
fn ended(holder: [u8; 16], entry: EntryId, mut steps: Vec<Step>) -> Work<()> {
    steps.push(step!(LEFT_OPEN, entry.0, holder.to_vec()));
    Work::new(Kind::Write, None, steps, |answers| {
        let Some(open) = answers.last().and_then(|rows| rows.first()) else { return Ok(()) };
        let id = id_of(open, 0)?;
        match open.try_get(2).map_err(unavailable)? {
            true => Err(Refusal::LeaseLost(id)),
            false => Err(Refusal::EntryOpen(id)),
        }
    })
}

/// Every open entry, or the one of one account, oldest first.
pub(in super::super) fn open_entries(of: Option<&AccountId>) -> Work<Vec<Sealed>> {
    let step = match of.map(names) {
        None => step!(OPEN_ENTRIES),
        Some((provider, account)) => step!(OPEN_ENTRY, provider, account),
    };
    Work::new(Kind::Read, None, vec![step], |answers| answers[0].iter().map(read).collect())
}

/// How many entries are open, and how many orphans are kept.
pub(in super::super) fn lengths() -> Work<(usize, usize)> {
    Work::new(Kind::Read, None, vec![step!(LENGTHS)], |answers| {
        let count = |column| answers[0][0].try_get(column).map(super::super::count);
        Ok((count(0).map_err(unavailable)?, count(1).map_err(unavailable)?))
    })
}

/// Writes something that means nothing.
pub(in super::super) fn probe() -> Work<()> {
    done(None, vec![step!("UPDATE meta SET value = value + 1 WHERE name = 'probe'")])
}

/// The share of an account, as the tables have it.
pub(super) fn share_of(id: &AccountId) -> i16 {
    i16::from(Shares::of(id))
}

/// A call whose statements are all there is to it.
pub(super) fn done(about: Option<&AccountId>, steps: Vec<Step>) -> Work<()> {
    Work::new(Kind::Write, about, steps, |_| Ok(()))
}

/// An account's names as the tables hold them.
pub(super) fn names(id: &AccountId) -> (String, String) {
    (text::store(&id.provider), text::store(&id.account))
}

/// The account whose names stand in a row from `column` on.
pub(super) fn id_of(row: &Row, column: usize) -> Result<AccountId, Refusal> {
    let name = |column| row.try_get(column).map(text::read).map_err(unavailable);
    Ok(AccountId::new(name(column)?, name(column + 1)?))
}

fn step_of_lease<const N: usize>(
    sql: &'static str,
    holder: [u8; 16],
    lease: &Lease,
    rest: [Value; N],
) -> Step {
    let (provider, account) = names(&lease.id);
    let mut step = step!(sql, provider, account, lease.epoch.cast_signed(), holder.to_vec());
    step.values.extend(rest);
    step
}

fn read(row: &Row) -> Result<Sealed, Refusal> {
    let number = |column| row.try_get::<_, i64>(column).map_err(unavailable);
    let result: Option<i64> = row.try_get(8).map_err(unavailable)?;
    let sealed = result.map(|_| row.try_get(9)).transpose().map_err(unavailable)?;
    Ok(Sealed {
        entry: EntryId(number(0)?),
        id: id_of(row, 1)?,
        intent: Intent {
            old: fingerprint(number(3)?),
            spending: fingerprint(number(4)?),
            requested_at: Timestamp::from_unix(number(5)?),
            over_at: Timestamp::from_unix(number(6)?),
        },
        probed: row.try_get(7).map_err(unavailable)?,
        result: sealed,
    })
}

/// A lease that ends later than any lease can was written by a clock that was ahead; obeying it would lock
/// the account until that day. The epoch is drawn again after a row that stands in the way has been locked,
/// or one drawn before a neighbour's could be written after it.
///
/// Whoever holds the share need not wait for a lease from before that, unless a request may be under way
/// under it: an intent that comes later is refused for its epoch, and a token that was received can be saved
/// by anybody.
const TAKE_LEASE: &str = "
INSERT INTO lease (provider, account, epoch, holder, expires_at)
SELECT $1, $2, nextval('epoch'), $3, clock_timestamp() + $4::float8 * interval '1 second'
WHERE $6::bytea IS NULL OR EXISTS (
    SELECT FROM share WHERE share = $7 AND holder = $6 AND until > clock_timestamp())
ON CONFLICT (provider, account) DO UPDATE
SET epoch = nextval('epoch'), holder = excluded.holder,
    expires_at = clock_timestamp() + $4::float8 * interval '1 second'
WHERE lease.holder = excluded.holder OR NOT (
    lease.expires_at > clock_timestamp()
    AND lease.expires_at <= clock_timestamp() + $5::float8 * interval '1 second')
    OR ($6::bytea IS NOT NULL AND NOT EXISTS (
        SELECT FROM journal
        WHERE provider = $1 AND account = $2 AND NOT orphan AND result IS NULL))
RETURNING epoch";

/// A statement of its own before the one that takes: so that sees what whoever was just intending left.
const LOCK_LEASE: &str = "SELECT FROM lease WHERE provider = $1 AND account = $2 FOR UPDATE";

const RELEASE: &str = "
UPDATE lease SET expires_at = '-infinity'
WHERE provider = $1 AND account = $2 AND epoch = $3 AND holder = $4";

/// The lease must outlive the call that is made under it.
const LOCK_LIVE_LEASE: &str = "
SELECT FROM lease
WHERE provider = $1 AND account = $2 AND epoch = $3 AND holder = $4
  AND expires_at > clock_timestamp() + $5::float8 * interval '1 second'
FOR SHARE";

const INTEND: &str = "
INSERT INTO journal
    (provider, account, epoch, old, spending, requested_at, over_at, sealed)
SELECT provider, account, epoch, $5::bigint, $6::bigint, $7::bigint, $8::bigint, $10::bytea
FROM lease
WHERE provider = $1 AND account = $2 AND epoch = $3 AND holder = $4
  AND expires_at > clock_timestamp() + $9::float8 * interval '1 second'
ON CONFLICT DO NOTHING
RETURNING entry";

/// The same call again, because the answer to the first was lost: nothing has been sent yet.
const SAME_INTENT: &str = "
SELECT j.entry,
       j.epoch = l.epoch AND j.old = $5 AND j.spending = $6 AND j.requested_at = $7
       AND j.over_at = $8 AND NOT j.probed AND j.result IS NULL
FROM journal j JOIN lease l USING (provider, account)
WHERE provider = $1 AND account = $2 AND NOT j.orphan AND l.epoch = $3 AND l.holder = $4";

const INTEND_PROBE: &str = "
UPDATE journal j SET probed = true, over_at = $6 FROM lease l
WHERE j.entry = $5 AND j.provider = $1 AND j.account = $2
  AND NOT j.probed AND NOT j.orphan AND j.result IS NULL
  AND l.provider = $1 AND l.account = $2 AND l.epoch = $3 AND l.holder = $4
  AND l.expires_at > clock_timestamp()
RETURNING j.entry";

pub(super) const LOCK_LEASE_OF_ENTRY: &str = "
SELECT FROM lease l JOIN journal j USING (provider, account) WHERE j.entry = $1 FOR SHARE OF l";

/// True in each of these: `$2` has the account of entry `$1`, or had it last.
macro_rules! of_the_last_holder {
    ($before:literal $(, $after:literal)?) => {
        concat!(
            $before,
            " AND NOT EXISTS (SELECT FROM lease l
                WHERE l.provider = j.provider AND l.account = j.account AND l.holder <> $2)"
            $(, $after)?
        )
    };
}
pub(super) use of_the_last_holder;

const RETURN_PROBE: &str = of_the_last_holder!(
    "UPDATE journal j SET probed = false WHERE j.entry = $1 AND NOT j.orphan AND j.result IS NULL"
);

pub(super) const CLOSE: &str =
    of_the_last_holder!("DELETE FROM journal j WHERE j.entry = $1 AND NOT j.orphan");

const CLOSE_WITHOUT_RESULT: &str = of_the_last_holder!(
    "DELETE FROM journal j WHERE j.entry = $1 AND NOT j.orphan AND j.result IS NULL"
);

const CLOSE_AS_ORPHAN: &str =
    of_the_last_holder!("UPDATE journal j SET orphan = true WHERE j.entry = $1 AND NOT j.orphan");

/// An entry that was not closed, and whether that is because somebody else has taken the account over.
pub(super) const LEFT_OPEN: &str = "
SELECT j.provider, j.account,
       EXISTS (SELECT FROM lease l
               WHERE l.provider = j.provider AND l.account = j.account AND l.holder <> $2)
FROM journal j WHERE j.entry = $1 AND NOT j.orphan";

const RECORD_RESULT: &str = "
UPDATE journal SET result = $4, sealed = $5
WHERE entry = $1 AND provider = $2 AND account = $3 AND result IS NULL AND NOT orphan";

/// A holder that slept through its lease has an answer too, or the entry was closed by somebody else. Which
/// of two tokens lives is not ours to guess: the first stays the result, this one is kept beside it.
const KEEP_ORPHAN: &str = "
INSERT INTO journal
    (provider, account, epoch, old, spending, requested_at, over_at, orphan, result, sealed)
SELECT $1::text, $2::text, 0, 0, 0, 0, 0, true, $3::bigint, $4::bytea
WHERE NOT EXISTS (
    SELECT FROM journal WHERE provider = $1::text AND account = $2::text AND result = $3::bigint)";

/// The newest orphans are the ones that may still be worth something.
const TRIM_ORPHANS: &str = "
DELETE FROM journal WHERE provider = $1 AND account = $2 AND orphan AND entry NOT IN (
    SELECT entry FROM journal WHERE provider = $1 AND account = $2 AND orphan
    ORDER BY entry DESC LIMIT $3)";

const TRIM_ORPHANS_OF_ENTRY: &str = "
DELETE FROM journal j USING journal e
WHERE e.entry = $1 AND e.orphan AND j.provider = e.provider AND j.account = e.account AND j.orphan
  AND j.entry NOT IN (
    SELECT o.entry FROM journal o
    WHERE o.provider = e.provider AND o.account = e.account AND o.orphan
    ORDER BY o.entry DESC LIMIT $2)";

const OPEN_ENTRIES: &str = "
SELECT entry, provider, account, old, spending, requested_at, over_at, probed, result,
       CASE WHEN result IS NOT NULL THEN sealed END
FROM journal WHERE NOT orphan ORDER BY entry";

const OPEN_ENTRY: &str = "
SELECT entry, provider, account, old, spending, requested_at, over_at, probed, result,
       CASE WHEN result IS NOT NULL THEN sealed END
FROM journal WHERE NOT orphan AND provider = $1 AND account = $2";

const LENGTHS: &str = "
SELECT count(*) FILTER (WHERE NOT orphan), count(*) FILTER (WHERE orphan) FROM journal";
