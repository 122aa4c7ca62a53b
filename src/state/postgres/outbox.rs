//! Open incidents and the mails they owe, shared by all who may send them.
//!
//! A mail that was handed out is claimed for a while: nobody else gets it until the claim has ended. Every
//! step that somebody takes renews the claims that he still holds, so a batch may take its time.

use super::{
    super::{
        outbox::{
            Attempt, CLAIM_LIFE, Sealed, WITHDRAWN_KEPT_FOR, notice_text, read_notice,
            subject_text, told_account,
        },
        writer::Kind,
    },
    journal::{done, share_of},
    session::unavailable,
    shares,
    work::{Step, Work, step},
};
use crate::core::{
    AccountId, Cause, Timestamp,
    notices::{Change, Notice, Subject},
};
use tokio_postgres::Row;

/// Opens the incident and owes its mails; false when it is open already, or when it is about an account
/// whose share is not held by `fence`.
pub(in super::super) fn fire(
    fence: Option<[u8; 16]>,
    notice: &Notice,
    addresses: Vec<Vec<u8>>,
) -> Work<bool> {
    let (fence, share) = fence_of(fence, notice);
    let fire = step!(
        FIRE,
        subject_text(&notice.subject),
        notice.cause.as_label(),
        addresses,
        notice_text(notice),
        notice.at.as_unix(),
        fence.map(|holder| holder.to_vec()),
        share,
    );
    let steps = vec![shares::lock(fence, vec![share]), fire];
    Work::new(Kind::Write, None, steps, |answers| Ok(!answers[1].is_empty()))
}

/// Who must hold which share for this notice: what is about no account in particular is everybody's.
fn fence_of(fence: Option<[u8; 16]>, notice: &Notice) -> (Option<[u8; 16]>, i16) {
    match &notice.subject {
        Subject::Account(id) => (fence, share_of(id)),
        _ => (None, 0),
    }
}

/// Closes the incident; false when it is not open, or not ours to close.
pub(in super::super) fn resolve(fence: Option<[u8; 16]>, notice: &Notice) -> Work<bool> {
    let (fence, share) = fence_of(fence, notice);
    let subject = subject_text(&notice.subject);
    let cause = notice.cause.as_label();
    let steps = vec![
        shares::lock(fence, vec![share]),
        step!(LOCK_INCIDENT, subject.clone(), cause),
        // Somebody may be settling one of its mails now: wait for that, then look.
        step!(LOCK_MAILS, subject.clone(), cause),
        step!(
            RESOLVE,
            subject,
            cause,
            notice.change != Change::Withdrawn,
            notice_text(notice),
            notice.at.as_unix(),
            fence.map(|holder| holder.to_vec()),
            share,
        ),
        step!(FORGET_WITHDRAWN, notice.at.minus(WITHDRAWN_KEPT_FOR).as_unix()),
    ];
    Work::new(Kind::Write, None, steps, |answers| Ok(!answers[3].is_empty()))
}

/// Claims mails that are due, oldest first.
pub(in super::super) fn owed(
    holder: [u8; 16],
    now: Timestamp,
    at_most: usize,
) -> Work<Vec<Sealed>> {
    let claim = step!(
        OWED,
        now.as_unix(),
        holder.to_vec(),
        i64::try_from(at_most).unwrap_or(i64::MAX),
        CLAIM_LIFE.as_secs_f64(),
    );
    Work::new(Kind::Write, None, vec![claim], |answers| answers[0].iter().map(read).collect())
}

/// When the next mail may be tried by us, and how many are owed.
pub(in super::super) fn outlook(holder: [u8; 16]) -> Work<(Option<Timestamp>, usize)> {
    Work::new(Kind::Read, None, vec![step!(OUTLOOK, holder.to_vec())], |answers| {
        let row = &answers[0][0];
        let next: Option<i64> = row.try_get(0).map_err(unavailable)?;
        let owed: i64 = row.try_get(1).map_err(unavailable)?;
        Ok((next.map(Timestamp::from_unix), super::super::count(owed)))
    })
}

/// The accounts with an open incident.
pub(in super::super) fn told() -> Work<Vec<(AccountId, Cause)>> {
    Work::new(Kind::Read, None, vec![step!(TOLD)], |answers| {
        let mut told = Vec::new();
        for row in &answers[0] {
            let (subject, label): (&str, &str) =
                (row.try_get(0).map_err(unavailable)?, row.try_get(1).map_err(unavailable)?);
            told.extend(told_account(subject, label)?);
        }
        Ok(told)
    })
}

/// Takes note of an attempt. A mail that is gone was settled before.
pub(in super::super) fn settle(holder: [u8; 16], mail: i64, attempt: Attempt) -> Work<()> {
    let mut steps = vec![step!(LOCK_MAIL, mail)];
    // The end of an incident that ended while this mail was being sent.
    let the_end = |at: Timestamp| step!(OWE_THE_END, mail, at.as_unix());
    match attempt {
        Attempt::Again { until, in_doubt } => {
            steps.push(step!(AGAIN, mail, until.as_unix(), in_doubt, holder.to_vec()));
            steps.extend(in_doubt.then(|| the_end(until)));
            steps.push(step!(DROP_WITHDRAWN, mail));
        }
        Attempt::Sent(at) => {
            steps.extend([the_end(at), step!(DROP_ENDED, mail), step!(SENT, mail, at.as_unix())]);
        }
        Attempt::GivenUp => steps.extend([step!(DROP_ENDED, mail), step!(GIVE_UP, mail)]),
    }
    steps.push(step!(RENEW_CLAIMS, holder.to_vec(), CLAIM_LIFE.as_secs_f64()));
    done(None, steps)
}

/// Gives back what was claimed and not settled.
pub(super) fn unclaim(holder: [u8; 16]) -> Step {
    step!(UNCLAIM, holder.to_vec())
}

fn read(row: &Row) -> Result<Sealed, super::Refusal> {
    let text: String = row.try_get(6).map_err(unavailable)?;
    let attempts: i64 = row.try_get(7).map_err(unavailable)?;
    Ok(Sealed {
        row: row.try_get(0).map_err(unavailable)?,
        incident: row.try_get(1).map_err(unavailable)?,
        recipient: row.try_get(2).map_err(unavailable)?,
        subject: row.try_get(3).map_err(unavailable)?,
        resolved: row.try_get(4).map_err(unavailable)?,
        address: row.try_get(5).map_err(unavailable)?,
        notice: read_notice(&text)?,
        attempts: u32::try_from(attempts).unwrap_or(u32::MAX),
    })
}

const FIRE: &str = "
WITH opened AS (
    INSERT INTO incident (subject, cause)
    SELECT $1, $2
    WHERE $6::bytea IS NULL OR EXISTS (SELECT FROM share WHERE share = $7 AND holder = $6)
    ON CONFLICT DO NOTHING RETURNING incident
), owing AS (
    INSERT INTO outbox (incident, recipient, subject, resolved, stage, address, notice, due_at)
    SELECT incident, nth - 1, $1, false, 'owed', address, $4, $5
    FROM opened, unnest($3::bytea[]) WITH ORDINALITY AS recipients (address, nth) ORDER BY nth
)
SELECT incident FROM opened";

const LOCK_INCIDENT: &str = "SELECT FROM incident WHERE subject = $1 AND cause = $2 FOR UPDATE";

const LOCK_MAILS: &str = "
SELECT FROM outbox o JOIN incident i USING (incident)
WHERE i.subject = $1 AND i.cause = $2 ORDER BY o.mail FOR UPDATE OF o";

/// The ends are new rows: what is still said about the attempt at a firing mail must not settle them. A
/// mail that nobody is known to have sent stays for a while as withdrawn: somebody may be sending it now,
/// and if it turns out to have left, its end is owed too.
const RESOLVE: &str = "
WITH over AS (
    DELETE FROM incident
    WHERE subject = $1 AND cause = $2
      AND ($6::bytea IS NULL OR EXISTS (SELECT FROM share WHERE share = $7 AND holder = $6))
    RETURNING incident
), ends AS (
    INSERT INTO outbox (incident, recipient, subject, resolved, stage, address, notice, due_at)
    SELECT incident, recipient, subject, true, 'owed', address, $4, $5
    FROM outbox JOIN over USING (incident)
    WHERE $3 AND NOT resolved AND (stage = 'sent' OR (stage = 'owed' AND in_doubt))
    ORDER BY mail
), withdrawn AS (
    UPDATE outbox SET stage = 'withdrawn', notice = $4, due_at = $5,
                      claimed_by = NULL, claimed_until = NULL
    FROM over
    WHERE $3 AND outbox.incident = over.incident AND NOT resolved AND stage = 'owed' AND NOT in_doubt
), told AS (
    DELETE FROM outbox USING over
    WHERE outbox.incident = over.incident AND NOT resolved AND stage <> 'withdrawn'
      AND NOT ($3 AND stage = 'owed' AND NOT in_doubt)
)
SELECT incident FROM over";

const FORGET_WITHDRAWN: &str = "DELETE FROM outbox WHERE stage = 'withdrawn' AND due_at < $1";

/// Of the rows that another transaction has locked none is waited for: they are somebody else's just now.
const OWED: &str = "
WITH due AS (
    SELECT mail FROM outbox
    WHERE stage = 'owed' AND due_at <= $1
      AND (claimed_by IS NULL OR claimed_by = $2 OR claimed_until <= clock_timestamp())
    ORDER BY mail LIMIT $3 FOR UPDATE SKIP LOCKED
), claimed AS (
    UPDATE outbox SET claimed_by = $2,
                      claimed_until = clock_timestamp() + $4::float8 * interval '1 second'
    FROM due WHERE outbox.mail = due.mail
    RETURNING outbox.mail, incident, recipient, subject, resolved, address, notice, attempts
)
SELECT * FROM claimed ORDER BY mail";

/// What others have claimed has no instant on our clock; we come by in any case.
const OUTLOOK: &str = "
SELECT min(due_at) FILTER (
           WHERE claimed_by IS NULL OR claimed_by = $1 OR claimed_until <= clock_timestamp()),
       count(*)
FROM outbox WHERE stage = 'owed'";

const LOCK_MAIL: &str = "SELECT FROM outbox WHERE mail = $1 FOR UPDATE";

const AGAIN: &str = "
UPDATE outbox SET attempts = attempts + 1, due_at = $2, in_doubt = in_doubt OR $3,
    claimed_until = CASE WHEN claimed_by = $4 THEN NULL ELSE claimed_until END,
    claimed_by = CASE WHEN claimed_by = $4 THEN NULL ELSE claimed_by END
WHERE mail = $1 AND stage = 'owed'";

const OWE_THE_END: &str = "
INSERT INTO outbox (incident, recipient, subject, resolved, stage, address, notice, due_at)
SELECT incident, recipient, subject, true, 'owed', address, notice, $2
FROM outbox WHERE mail = $1 AND stage = 'withdrawn'";

const DROP_WITHDRAWN: &str = "DELETE FROM outbox WHERE mail = $1 AND stage = 'withdrawn'";

const DROP_ENDED: &str = "
DELETE FROM outbox
WHERE mail = $1 AND (stage = 'withdrawn' OR (stage = 'owed' AND resolved))";

const SENT: &str = "
UPDATE outbox SET stage = 'sent', due_at = $2, claimed_by = NULL, claimed_until = NULL
WHERE mail = $1 AND stage = 'owed'";

/// Given up in doubt, it may have arrived: then its end is owed like that of a sent one.
const GIVE_UP: &str = "
UPDATE outbox SET stage = CASE WHEN in_doubt THEN 'sent' ELSE 'given_up' END,
    claimed_by = NULL, claimed_until = NULL
WHERE mail = $1 AND stage = 'owed'";

/// Only those that need it: a batch of mails must not rewrite the rest of itself with every mail.
const RENEW_CLAIMS: &str = "
UPDATE outbox SET claimed_until = clock_timestamp() + $2::float8 * interval '1 second'
WHERE stage = 'owed' AND claimed_by = $1
  AND claimed_until < clock_timestamp() + $2::float8 * interval '0.5 second'
  AND claimed_until > clock_timestamp()";

const UNCLAIM: &str =
    "UPDATE outbox SET claimed_by = NULL, claimed_until = NULL WHERE claimed_by = $1";

const TOLD: &str = "SELECT subject, cause FROM incident ORDER BY incident";
