//! Which replica holds which share.
//!
//! A share is a row with its holder, the end of that by the database's clock, and an epoch that rises when
//! it gets another holder. Nobody is elected and nobody waits: each replica takes what is free, up to its
//! fair part, leaving out rows that another transaction is just taking. Whoever writes about an account
//! locks its share's row first, so that a new holder comes before or after that, never between.

use super::{
    super::{
        shares::{Beat, Counts, Held},
        writer::{Kind, Refusal},
    },
    journal::done,
    session::unavailable,
    work::{Step, Work, step},
};
use crate::core::shares::SHARES;
use std::{collections::BTreeMap, time::Duration};
use tokio_postgres::Row;

/// Says that we live, gives back, renews, takes what is free, and tells how things stand.
pub(in super::super) fn hold(holder: [u8; 16], beat: &Beat) -> Work<Held> {
    let holder = || holder.to_vec();
    let count = |count: u64| i64::try_from(count).unwrap_or(i64::MAX);
    let life = beat.lease.as_secs_f64();
    let releasing: Vec<i16> = beat.releasing.iter().map(i16::from).collect();
    let steps = vec![
        step!(
            LIVE,
            holder(),
            beat.name.clone(),
            life,
            count(beat.counts.accounts),
            count(beat.counts.needing_reconnect),
            count(beat.counts.unsaved),
            count(beat.counts.in_flight),
        ),
        step!(BURY),
        step!(GIVE_BACK, holder(), releasing),
        step!(RENEW, holder(), life),
        step!(TAKE, holder(), life, beat.takes, SHARES as i64),
        step!(MINE, holder()),
        step!(TOTALS),
        step!(NEXT_FREE, holder()),
    ];
    let lease = beat.lease;
    Work::new(Kind::Write, None, steps, move |answers| {
        let [.., mine, totals, next_free] = answers else {
            unreachable!("each step has its rows");
        };
        read(lease, mine, &totals[0], &next_free[0])
    })
}

/// Gives everything back and is no member any more.
pub(in super::super) fn leave(holder: [u8; 16]) -> Work<()> {
    let all: Vec<i16> = (0..SHARES as i16).collect();
    let holder = || holder.to_vec();
    done(None, vec![step!(GIVE_BACK, holder(), all), step!(LEAVE, holder())])
}

/// Locks those of `shares` that are held by `fence`, until the transaction ends. Nothing for a guest.
pub(super) fn lock(fence: Option<[u8; 16]>, shares: Vec<i16>) -> Step {
    step!(LOCK, fence.map(|holder| holder.to_vec()), shares)
}

fn read(lease: Duration, mine: &[Row], totals: &Row, next_free: &Row) -> Result<Held, Refusal> {
    let mut shares = BTreeMap::new();
    for row in mine {
        let share: i16 = row.try_get(0).map_err(unavailable)?;
        let epoch: i64 = row.try_get(1).map_err(unavailable)?;
        let share = u8::try_from(share)
            .map_err(|_| Refusal::Damaged("there is a share that was never made".to_owned()))?;
        shares.insert(share, epoch.unsigned_abs());
    }
    let total = |column| -> Result<u64, Refusal> {
        totals.try_get::<_, i64>(column).map(i64::unsigned_abs).map_err(unavailable)
    };
    let members = usize::try_from(total(0)?).unwrap_or(usize::MAX).max(1);
    let next_free: Option<f64> = next_free.try_get(0).map_err(unavailable)?;
    Ok(Held {
        surplus: shares.len().saturating_sub(SHARES.div_ceil(members)),
        shares,
        lasts: Some(lease),
        members,
        totals: Counts {
            accounts: total(1)?,
            needing_reconnect: total(2)?,
            unsaved: total(3)?,
            in_flight: total(4)?,
        },
        next_free_in: next_free.and_then(|seconds| Duration::try_from_secs_f64(seconds).ok()),
    })
}

const LIVE: &str = "
INSERT INTO member (holder, name, until, accounts, needing_reconnect, unsaved, in_flight)
VALUES ($1, $2, clock_timestamp() + $3::float8 * interval '1 second', $4, $5, $6, $7)
ON CONFLICT (holder) DO UPDATE SET
    name = excluded.name, until = clock_timestamp() + $3::float8 * interval '1 second',
    accounts = excluded.accounts, needing_reconnect = excluded.needing_reconnect,
    unsaved = excluded.unsaved, in_flight = excluded.in_flight";

/// Members that went without a word are kept for a while, for a person who looks.
const BURY: &str = "
DELETE FROM member WHERE holder IN (
    SELECT holder FROM member WHERE until < clock_timestamp() - interval '1 hour'
    FOR UPDATE SKIP LOCKED)";

const GIVE_BACK: &str = "
UPDATE share SET holder = NULL, until = '-infinity' WHERE holder = $1 AND share = ANY($2)";

/// What has expired and was taken by nobody is still ours: nobody can have acted on it.
const RENEW: &str = "
UPDATE share SET until = clock_timestamp() + $2::float8 * interval '1 second' WHERE holder = $1";

const TAKE: &str = "
WITH free AS (
    SELECT share FROM share
    WHERE holder IS NULL OR (holder <> $1 AND until <= clock_timestamp())
    ORDER BY share
    LIMIT CASE WHEN $3 THEN greatest(0,
        ceil($4::bigint::float8 / (
            SELECT greatest(1, count(*)) FROM member WHERE until > clock_timestamp()))::bigint
        - (SELECT count(*) FROM share WHERE holder = $1)) ELSE 0 END
    FOR UPDATE SKIP LOCKED
)
UPDATE share SET holder = $1, epoch = epoch + 1,
                 until = clock_timestamp() + $2::float8 * interval '1 second'
FROM free WHERE share.share = free.share";

const MINE: &str = "SELECT share, epoch FROM share WHERE holder = $1";

const TOTALS: &str = "
SELECT count(*), coalesce(sum(accounts), 0)::bigint, coalesce(sum(needing_reconnect), 0)::bigint,
       coalesce(sum(unsaved), 0)::bigint, coalesce(sum(in_flight), 0)::bigint
FROM member WHERE until > clock_timestamp()";

const NEXT_FREE: &str = "
SELECT extract(epoch FROM min(until) - clock_timestamp())::float8
FROM share WHERE holder <> $1 AND until > clock_timestamp()";

const LEAVE: &str = "DELETE FROM member WHERE holder = $1";

const LOCK: &str = "
SELECT FROM share WHERE holder = $1 AND share = ANY($2) ORDER BY share FOR SHARE";
