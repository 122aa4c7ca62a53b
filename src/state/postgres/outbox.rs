//! Open incidents and the notices they owe, shared by all who may send them.

use super::{
    super::{
        outbox::{
            Addressed, REMINDED_AT_ONCE, Reminded, WITHDRAWN_KEPT_FOR, count, reminded_from,
            sealed_for,
        },
        stored_notice::{notice_text, read_notice, subject_text, told_account},
        writer::Kind,
    },
    journal::share_of,
    session::unavailable,
    shares,
    work::{Work, step},
};
use crate::core::{
    AccountId, Cause, Timestamp,
    notices::{Change, Notice, Subject},
};

/// Opens the incident and owes its notices; false when it is open already, or when it is about an account
/// whose share is not held by `fence`.
pub(in super::super) fn fire(
    fence: Option<[u8; 16]>,
    notice: &Notice,
    to: Vec<Addressed>,
) -> Work<bool> {
    let (fence, share) = fence_of(fence, notice);
    let (mut mailboxes, mut ways, mut operators) = (Vec::new(), Vec::new(), Vec::new());
    let (mut addresses, mut sealed) = (Vec::new(), Vec::new());
    for one in to {
        mailboxes.push(one.mailbox.to_vec());
        ways.push(one.way.as_label());
        operators.push(one.is_operator);
        addresses.push(one.address);
        sealed.push(sealed_for(&one.mailbox));
    }
    let fire = step!(
        FIRE,
        subject_text(&notice.subject),
        notice.cause.as_label(),
        addresses,
        notice_text(notice),
        notice.at.as_unix(),
        fence.map(|holder| holder.to_vec()),
        share,
        reminded_from(notice),
        mailboxes,
        ways,
        operators,
        sealed,
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

/// Owes a reminder to everybody who was told.
pub(in super::super) fn remind(fence: Option<[u8; 16]>, notice: &Notice) -> Work<bool> {
    let (fence, share) = fence_of(fence, notice);
    let remind = step!(
        REMIND,
        notice.change.as_label(),
        notice_text(notice),
        notice.at.as_unix(),
        subject_text(&notice.subject),
        notice.cause.as_label(),
        fence.map(|holder| holder.to_vec()),
        share,
    );
    let steps = vec![shares::lock(fence, vec![share]), remind];
    Work::new(Kind::Write, None, steps, |answers| Ok(!answers[1].is_empty()))
}

/// Incidents that were told before `before` and reminded of `reminded` times.
pub(in super::super) fn to_remind(reminded: usize, before: Timestamp) -> Work<Vec<Reminded>> {
    let find = step!(TO_REMIND, count(reminded), before.as_unix(), count(REMINDED_AT_ONCE));
    Work::new(Kind::Read, None, vec![find], move |answers| {
        let read = |row: &tokio_postgres::Row| {
            let text: Option<&str> = row.try_get(2).map_err(unavailable)?;
            Ok(Reminded {
                incident: row.try_get(0).map_err(unavailable)?,
                told_at: Timestamp::from_unix(row.try_get(1).map_err(unavailable)?),
                reminded,
                notice: text.map(read_notice).transpose()?,
            })
        };
        answers[0].iter().map(read).collect()
    })
}

/// Notes the reminders of an incident and owes one, unless somebody else did or it is over.
pub(in super::super) fn call_to_mind(
    one: &Reminded,
    reminded: usize,
    reminder: Option<&Notice>,
) -> Work<bool> {
    let call = step!(
        CALL_TO_MIND,
        one.incident,
        count(one.reminded),
        count(reminded),
        reminder.map(|notice| notice.change.as_label()),
        reminder.map(notice_text),
        reminder.map(|notice| notice.at.as_unix()),
    );
    Work::new(Kind::Write, None, vec![call], |answers| Ok(!answers[0].is_empty()))
}

/// The earliest telling among the incidents that were reminded of so many times.
pub(in super::super) fn oldest_told() -> Work<Vec<(usize, Timestamp)>> {
    Work::new(Kind::Read, None, vec![step!(OLDEST_TOLD)], |answers| {
        let read = |row: &tokio_postgres::Row| {
            let reminded = super::super::count(row.try_get(0).map_err(unavailable)?);
            Ok((reminded, Timestamp::from_unix(row.try_get(1).map_err(unavailable)?)))
        };
        answers[0].iter().map(read).collect()
    })
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
        step!(LOCK_LETTERS, subject.clone(), cause),
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

const FIRE: &str = "
WITH opened AS (
    INSERT INTO incident (subject, cause, fired_at)
    SELECT $1, $2, $8
    WHERE $6::bytea IS NULL OR EXISTS (SELECT FROM share WHERE share = $7 AND holder = $6)
    ON CONFLICT DO NOTHING RETURNING incident
), owing AS (
    INSERT INTO outbox (incident, subject, cause, change, stage, mailbox, way, operator, address,
                        sealed_for, notice, made_at)
    SELECT incident, $1, $2, 'firing', 'owed', mailbox, way, operator, address, sealed_for, $4, $5
    FROM opened,
         unnest($3::bytea[], $9::bytea[], $10::text[], $11::boolean[], $12::text[])
             WITH ORDINALITY AS recipients (address, mailbox, way, operator, sealed_for, nth)
    ORDER BY nth
)
SELECT incident FROM opened";

const REMIND: &str = "
INSERT INTO outbox (incident, subject, cause, change, stage, mailbox, way, operator, address,
                    sealed_for, notice, made_at, thread)
SELECT o.incident, o.subject, o.cause, $1, 'owed', o.mailbox, o.way, o.operator, o.address,
       o.sealed_for, $2, $3, o.letter
FROM outbox o JOIN incident i USING (incident)
WHERE i.subject = $4 AND i.cause = $5 AND o.change = 'firing' AND o.stage = 'sent'
  AND ($6::bytea IS NULL OR EXISTS (SELECT FROM share WHERE share = $7 AND holder = $6))
  AND NOT EXISTS (SELECT FROM outbox r WHERE r.incident = o.incident AND r.mailbox = o.mailbox
                  AND r.change = $1 AND r.stage = 'owed')
RETURNING mail";

const TO_REMIND: &str = "
SELECT incident, fired_at,
       (SELECT notice FROM outbox o WHERE o.incident = i.incident AND o.change = 'firing'
        AND o.stage = 'sent' LIMIT 1)
FROM incident i WHERE reminded = $1 AND fired_at <= $2 ORDER BY fired_at LIMIT $3";

const CALL_TO_MIND: &str = "
WITH noted AS (
    UPDATE incident SET reminded = $3 WHERE incident = $1 AND reminded = $2 RETURNING incident
)
INSERT INTO outbox (incident, subject, cause, change, stage, mailbox, way, operator, address,
                    sealed_for, notice, made_at, thread)
SELECT o.incident, o.subject, o.cause, $4, 'owed', o.mailbox, o.way, o.operator, o.address,
       o.sealed_for, $5, $6, o.letter
FROM outbox o JOIN noted USING (incident)
WHERE o.change = 'firing' AND o.stage = 'sent' AND $4::text IS NOT NULL
RETURNING mail";

const OLDEST_TOLD: &str =
    "SELECT reminded, min(fired_at) FROM incident WHERE fired_at IS NOT NULL GROUP BY reminded";

const LOCK_INCIDENT: &str = "SELECT FROM incident WHERE subject = $1 AND cause = $2 FOR UPDATE";

const LOCK_LETTERS: &str = "
SELECT FROM letter WHERE letter IN (
    SELECT o.letter FROM outbox o JOIN incident i USING (incident)
    WHERE i.subject = $1 AND i.cause = $2 AND o.stage = 'owed')
ORDER BY letter FOR UPDATE";

/// The ends are new rows: what is still said about the attempt at a first mail must not settle them. A
/// notice that nobody is known to have sent stays for a while as withdrawn: somebody may be sending it now,
/// and if it turns out to have left, its end is owed too.
const RESOLVE: &str = "
WITH over AS (
    DELETE FROM incident
    WHERE subject = $1 AND cause = $2
      AND ($6::bytea IS NULL OR EXISTS (SELECT FROM share WHERE share = $7 AND holder = $6))
    RETURNING incident
), lying AS (
    SELECT o.mail, o.letter, o.stage, o.change,
           coalesce(l.doubts > 0 OR (l.begun AND (l.claimed_by IS NULL
                    OR l.claimed_until <= clock_timestamp())), false) AS in_doubt
    FROM outbox o JOIN over USING (incident) LEFT JOIN letter l ON l.letter = o.letter
    WHERE o.change <> 'resolved'
), ends AS (
    INSERT INTO outbox (incident, subject, cause, change, stage, mailbox, way, operator, address,
                        sealed_for, notice, made_at, thread)
    SELECT o.incident, o.subject, o.cause, 'resolved', 'owed', o.mailbox, o.way, o.operator,
           o.address, o.sealed_for, $4, $5, o.letter
    FROM outbox o JOIN lying USING (mail)
    WHERE $3 AND lying.change = 'firing'
      AND (lying.stage = 'sent' OR (lying.stage = 'owed' AND in_doubt))
    ORDER BY o.mail
), withdrawn AS (
    UPDATE outbox SET stage = 'withdrawn', notice = $4, made_at = $5
    FROM lying
    WHERE $3 AND outbox.mail = lying.mail AND lying.change = 'firing' AND lying.stage = 'owed'
      AND NOT in_doubt AND lying.letter IS NOT NULL
), told AS (
    DELETE FROM outbox USING lying
    WHERE outbox.mail = lying.mail AND lying.stage <> 'withdrawn'
      AND NOT ($3 AND lying.change = 'firing' AND lying.stage = 'owed' AND NOT in_doubt
               AND lying.letter IS NOT NULL)
)
SELECT incident FROM over";

const FORGET_WITHDRAWN: &str = "DELETE FROM outbox WHERE stage = 'withdrawn' AND made_at < $1";

const TOLD: &str = "SELECT subject, cause FROM incident ORDER BY incident";
