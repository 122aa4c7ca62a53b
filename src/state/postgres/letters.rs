//! Which notices go in one mail, and what became of each mail, shared by all who may send them.
//!
//! A mail that was handed out is claimed for a while: nobody else gets it until the claim has ended. Every
//! step that somebody takes renews the claims that he still holds, so a batch may take its time.

use super::{
    super::{
        letters::{
            Attempt, Board, CLAIM_LIFE, LETTERS_KEPT_FOR, LIST, Listed, MADE_COUNT_FOR, NewLetter,
            Sealed, WAITING_MAX, fired_of, made_of, way_of,
        },
        outbox::{count, sealed_for},
        stored_notice::{cause, change, read_notice, read_summary},
        writer::Kind,
    },
    journal::done,
    session::unavailable,
    work::{Step, Work, step},
};
use crate::core::{
    Timestamp,
    digest::{LISTED_MAX, MANY_WITHIN, Mailbox, THREADS_MAX, Waiting},
    notices::Way,
};
use tokio_postgres::{Row, types::FromSql};

/// What waits, and what was made lately.
pub(in super::super) fn board(way: Way, now: Timestamp) -> Work<Board> {
    let steps = vec![
        step!(PLAN),
        step!(WAITING, way.as_label(), count(WAITING_MAX)),
        step!(MADE, way.as_label(), now.minus(MADE_COUNT_FOR).as_unix()),
        step!(FIRED, now.minus(MANY_WITHIN).as_unix(), count(WAITING_MAX)),
    ];
    Work::new(Kind::Read, None, steps, |answers| {
        let waiting = |row: &Row| {
            Ok(Waiting {
                row: at(row, 0)?,
                mailbox: mailbox(row, 1)?,
                is_operator: at(row, 2)?,
                cause: cause(at(row, 3)?)?,
                change: change(at(row, 4)?)?,
                since: Timestamp::from_unix(at(row, 5)?),
                is_held: at(row, 6)?,
            })
        };
        let made = |row: &Row| made_of(mailbox(row, 0)?, at(row, 1)?, at(row, 2)?);
        let fired = |row: &Row| fired_of(mailbox(row, 0)?, at(row, 1)?, at(row, 2)?, at(row, 3)?);
        let fired = answers[3].iter().map(fired).filter_map(Result::transpose);
        Ok(Board {
            plan: answers[0].first().map_or(Ok(0), |row| at(row, 0))?,
            waiting: answers[1].iter().map(waiting).collect::<Result<_, super::Refusal>>()?,
            made: answers[2].iter().map(made).collect::<Result<_, _>>()?,
            fired: fired.collect::<Result<_, _>>()?,
        })
    })
}

/// Makes mails and notes what is held back; false, and nothing done, when somebody else has planned since.
pub(in super::super) fn arrange(
    seen: i64,
    plan: i64,
    (way, now): (Way, Timestamp),
    letters: Vec<NewLetter>,
    held: &[(i64, &'static str)],
) -> Work<bool> {
    let mut steps = vec![step!(REPLAN, seen, plan)];
    for letter in letters {
        let first = letter.rows.first().copied();
        steps.push(step!(
            MAKE,
            plan,
            first,
            letter.rows,
            letter.mailbox.to_vec(),
            way.as_label(),
            letter.address,
            sealed_for(&letter.mailbox),
            letter.summary,
            now.as_unix(),
        ));
    }
    let (rows, caps): (Vec<i64>, Vec<&'static str>) = held.iter().copied().unzip();
    steps.push(step!(HOLD, plan, rows, caps));
    steps.push(step!(FORGET_EMPTY));
    steps.push(step!(FORGET_LETTERS, now.minus(LETTERS_KEPT_FOR).as_unix()));
    Work::new(Kind::Write, None, steps, |answers| Ok(!answers[0].is_empty()))
}

/// Claims mails that are due, oldest first. Their contents are asked for with [`contents`].
pub(in super::super) fn owed(
    holder: [u8; 16],
    way: Way,
    now: Timestamp,
    at_most: usize,
) -> Work<Vec<Sealed>> {
    let claim = step!(
        OWED,
        now.as_unix(),
        holder.to_vec(),
        count(at_most),
        CLAIM_LIFE.as_secs_f64(),
        way.as_label(),
    );
    Work::new(Kind::Write, None, vec![claim], |answers| answers[0].iter().map(read).collect())
}

/// The rows of [`contents`]: which mail, then what one of its three queries answers.
type Contents = (
    Vec<(i64, i64, crate::core::notices::Notice)>,
    Vec<(i64, (crate::core::notices::Change, crate::core::Cause, usize))>,
    Vec<(i64, (i64, Option<String>))>,
);

/// What is in these mails.
pub(in super::super) fn contents(letters: Vec<i64>) -> Work<Contents> {
    let steps = vec![
        step!(NOTICES, letters.clone(), count(LISTED_MAX)),
        step!(COUNTS, letters.clone()),
        step!(THREADS, letters, count(THREADS_MAX)),
    ];
    Work::new(Kind::Read, None, steps, |answers| {
        let notice = |row: &Row| Ok((at(row, 0)?, at(row, 1)?, read_notice(at(row, 2)?)?));
        let counted = |row: &Row| {
            let number = super::super::count(at(row, 3)?);
            Ok((at(row, 0)?, (change(at(row, 1)?)?, cause(at(row, 2)?)?, number)))
        };
        let thread = |row: &Row| Ok((at(row, 0)?, (at(row, 1)?, at(row, 2)?)));
        Ok((
            answers[0].iter().map(notice).collect::<Result<_, super::Refusal>>()?,
            answers[1].iter().map(counted).collect::<Result<_, super::Refusal>>()?,
            answers[2].iter().map(thread).collect::<Result<_, super::Refusal>>()?,
        ))
    })
}

/// An attempt is about to begin; false when the mail is not ours to send any more.
pub(in super::super) fn begin_letter(holder: [u8; 16], letter: i64, subject: &str) -> Work<bool> {
    let begin = step!(BEGIN, letter, subject.to_owned(), holder.to_vec());
    Work::new(Kind::Write, None, vec![begin], |answers| Ok(!answers[0].is_empty()))
}

/// When the next mail may be tried by us. What others have claimed has no instant on our clock; we come by in
/// any case.
pub(in super::super) fn next_due(holder: [u8; 16], way: Way) -> Work<Option<Timestamp>> {
    let next = step!(NEXT_DUE, holder.to_vec(), way.as_label());
    Work::new(Kind::Read, None, vec![next], |answers| {
        let next: Option<i64> = at(&answers[0][0], 0)?;
        Ok(next.map(Timestamp::from_unix))
    })
}

/// How many mails are on their way, how many notices wait to be put into one, and how many of those a cap holds.
pub(in super::super) fn lengths_of_outbox(way: Way) -> Work<(usize, usize, usize)> {
    Work::new(Kind::Read, None, vec![step!(LENGTHS, way.as_label())], |answers| {
        let row = &answers[0][0];
        let number = |nth| Ok::<_, super::Refusal>(super::super::count(at(row, nth)?));
        Ok((number(0)?, number(1)?, number(2)?))
    })
}

/// Takes note of an attempt. A mail that is gone was settled before.
pub(in super::super) fn settle(holder: [u8; 16], letter: i64, attempt: Attempt) -> Work<()> {
    let mut steps = vec![step!(LOCK_LETTER, letter)];
    // The end of an incident that ended while this mail was being sent.
    let the_end = |at: Timestamp| step!(OWE_THE_END, letter, at.as_unix());
    match attempt {
        Attempt::Again { until, in_doubt, failure } => {
            steps.extend(in_doubt.then(|| the_end(until)));
            steps.push(step!(DROP_WITHDRAWN, letter));
            let (until, doubts) = (until.as_unix(), i64::from(in_doubt));
            steps.push(step!(AGAIN, letter, until, doubts, holder.to_vec(), failure));
        }
        Attempt::Sent(at) => {
            steps.extend([the_end(at), step!(DROP_WITHDRAWN, letter)]);
            steps.extend(end(letter, "sent", at, None));
        }
        Attempt::GivenUp { at, failure } => {
            steps.push(step!(DROP_WITHDRAWN, letter));
            steps.extend(end(letter, "given_up", at, Some(failure)));
        }
    }
    steps.push(step!(RENEW_CLAIMS, holder.to_vec(), CLAIM_LIFE.as_secs_f64()));
    done(None, steps)
}

fn end(letter: i64, stage: &'static str, at: Timestamp, failure: Option<String>) -> [Step; 4] {
    [
        step!(COUNT_NOTICES, letter),
        step!(DROP_FOLLOWERS, letter),
        step!(END_ROWS, letter, stage),
        step!(END_LETTER, letter, stage, at.as_unix(), failure),
    ]
}

/// The newest mails, and what waits to become one.
pub(in super::super) fn list(at_most: usize) -> Work<Vec<Listed>> {
    Work::new(Kind::Read, None, vec![step!(LIST, count(at_most))], |answers| {
        let read = |row: &Row| {
            Ok(Listed {
                stage: at(row, 0)?,
                way: way_of(at(row, 1)?),
                is_operator: at(row, 2)?,
                sealed_for: at(row, 3)?,
                address: at(row, 4)?,
                subject: at(row, 5)?,
                notices: super::super::count(at(row, 6)?),
                at: Timestamp::from_unix(at(row, 7)?),
                attempts: attempts(at(row, 8)?),
                failure: at(row, 9)?,
            })
        };
        answers[0].iter().map(read).collect()
    })
}

/// Gives back what was claimed and not settled.
pub(super) fn unclaim(holder: [u8; 16]) -> Step {
    step!(UNCLAIM, holder.to_vec())
}

fn read(row: &Row) -> Result<Sealed, super::Refusal> {
    Ok(Sealed {
        row: at(row, 0)?,
        way: way_of(at(row, 1)?),
        is_operator: at(row, 2)?,
        sealed_for: at(row, 3)?,
        address: at(row, 4)?,
        summary: read_summary(at(row, 5)?)?,
        attempts: attempts(at(row, 6)?),
        doubts: attempts(at(row, 7)?),
        made_at: Timestamp::from_unix(at(row, 8)?),
        notices: Vec::new(),
        counts: Vec::new(),
        threads: Vec::new(),
    })
}

fn at<'a, T: FromSql<'a>>(row: &'a Row, nth: usize) -> Result<T, super::Refusal> {
    row.try_get(nth).map_err(unavailable)
}

fn mailbox(row: &Row, nth: usize) -> Result<Mailbox, super::Refusal> {
    at::<&[u8]>(row, nth)?
        .try_into()
        .map_err(|_| super::Refusal::Damaged("a mailbox in its outbox has no hash".to_owned()))
}

fn attempts(number: i64) -> u32 {
    u32::try_from(number).unwrap_or(u32::MAX)
}

const PLAN: &str = "SELECT value FROM meta WHERE name = 'plan'";

const WAITING: &str = "
SELECT mail, mailbox, operator, cause, change, made_at, held IS NOT NULL FROM outbox
WHERE stage = 'owed' AND letter IS NULL AND way = $1 ORDER BY mail LIMIT $2";

const MADE: &str = "SELECT mailbox, made_at, summary FROM letter WHERE way = $1 AND made_at > $2";

const FIRED: &str = "
SELECT mailbox, subject, cause, made_at FROM outbox
WHERE made_at >= $1 AND change = 'firing' AND NOT operator AND way = 'mail' LIMIT $2";

const REPLAN: &str =
    "UPDATE meta SET value = $2 WHERE name = 'plan' AND value = $1 RETURNING value";

/// Nobody else writes our number: it was drawn.
const MAKE: &str = "
WITH made AS (
    INSERT INTO letter (mailbox, way, operator, address, sealed_for, summary, stage, made_at, due_at)
    SELECT mailbox, way, operator, address, sealed_for, $8, 'owed', $9, $9 FROM (
        SELECT mailbox, way, operator, address, sealed_for FROM outbox
        WHERE mail = $2 AND $6::bytea IS NULL
        UNION ALL SELECT $4::bytea, $5, true, $6, $7 WHERE $6::bytea IS NOT NULL
    ) AS found
    WHERE EXISTS (SELECT FROM meta WHERE name = 'plan' AND value = $1)
    RETURNING letter
)
UPDATE outbox SET letter = made.letter, held = NULL FROM made
WHERE mail = ANY($3::bigint[]) AND stage = 'owed' AND outbox.letter IS NULL";

const HOLD: &str = "
UPDATE outbox SET held = those.cap FROM unnest($2::bigint[], $3::text[]) AS those (mail, cap)
WHERE outbox.mail = those.mail AND held IS NULL
  AND EXISTS (SELECT FROM meta WHERE name = 'plan' AND value = $1)";

/// Of what was over before its mail left.
const FORGET_EMPTY: &str = "
DELETE FROM letter WHERE stage = 'owed' AND summary IS NULL
  AND NOT EXISTS (SELECT FROM outbox o WHERE o.letter = letter.letter)";

const FORGET_LETTERS: &str = "
DELETE FROM letter WHERE stage <> 'owed' AND made_at < $1
  AND NOT EXISTS (SELECT FROM outbox o WHERE o.letter = letter.letter)
  AND NOT EXISTS (SELECT FROM outbox o WHERE o.thread = letter.letter)";

/// Of the rows that another transaction has locked none is waited for: they are somebody else's just now.
const OWED: &str = "
WITH due AS (
    SELECT letter FROM letter
    WHERE stage = 'owed' AND way = $5 AND due_at <= $1
      AND (claimed_by IS NULL OR claimed_by = $2 OR claimed_until <= clock_timestamp())
      AND (summary IS NOT NULL OR EXISTS (
          SELECT FROM outbox o WHERE o.letter = letter.letter AND o.stage = 'owed'))
    ORDER BY letter LIMIT $3 FOR UPDATE SKIP LOCKED
), claimed AS (
    UPDATE letter SET claimed_by = $2, doubts = doubts + begun::int, begun = false,
                      claimed_until = clock_timestamp() + $4::float8 * interval '1 second'
    FROM due WHERE letter.letter = due.letter
    RETURNING letter.letter, way, operator, sealed_for, address, summary, attempts, doubts, made_at
)
SELECT * FROM claimed ORDER BY letter";

const NOTICES: &str = "
SELECT letter, incident, notice FROM (
    SELECT letter, incident, notice, mail,
           row_number() OVER (PARTITION BY letter ORDER BY mail) AS nth
    FROM outbox WHERE letter = ANY($1::bigint[]) AND stage = 'owed'
) AS numbered WHERE nth <= $2 ORDER BY letter, mail";

const COUNTS: &str = "
SELECT letter, change, cause, count(*) FROM outbox
WHERE letter = ANY($1::bigint[]) AND stage = 'owed'
GROUP BY letter, change, cause ORDER BY count(*) DESC, change, cause";

const THREADS: &str = "
SELECT letter, thread, subject FROM (
    SELECT o.letter, o.thread, l.subject,
           row_number() OVER (PARTITION BY o.letter ORDER BY o.thread) AS nth
    FROM (SELECT DISTINCT letter, thread FROM outbox
          WHERE letter = ANY($1::bigint[]) AND stage = 'owed' AND thread IS NOT NULL) AS o
    LEFT JOIN letter l ON l.letter = o.thread
) AS numbered WHERE nth <= $2 ORDER BY letter, thread";

const BEGIN: &str = "
UPDATE letter SET begun = true, subject = $2
WHERE letter = $1 AND stage = 'owed' AND claimed_by = $3 RETURNING letter";

const NEXT_DUE: &str = "
SELECT min(due_at) FILTER (
           WHERE claimed_by IS NULL OR claimed_by = $1 OR claimed_until <= clock_timestamp())
FROM letter WHERE stage = 'owed' AND way = $2 AND (summary IS NOT NULL OR EXISTS (
    SELECT FROM outbox o WHERE o.letter = letter.letter AND o.stage = 'owed'))";

const LENGTHS: &str = "
SELECT (SELECT count(*) FROM letter WHERE stage = 'owed' AND way = $1
        AND (summary IS NOT NULL OR EXISTS (
            SELECT FROM outbox o WHERE o.letter = letter.letter AND o.stage = 'owed'))),
       count(*) FILTER (WHERE held IS NULL), count(*) FILTER (WHERE held IS NOT NULL)
FROM outbox WHERE stage = 'owed' AND letter IS NULL AND way = $1";

const LOCK_LETTER: &str = "SELECT FROM letter WHERE letter = $1 FOR UPDATE";

const OWE_THE_END: &str = "
INSERT INTO outbox (incident, subject, cause, change, stage, mailbox, way, operator, address,
                    sealed_for, notice, made_at, thread)
SELECT incident, subject, cause, 'resolved', 'owed', mailbox, way, operator, address, sealed_for,
       notice, $2, letter
FROM outbox WHERE letter = $1 AND stage = 'withdrawn'
  AND EXISTS (SELECT FROM letter l WHERE l.letter = $1 AND l.stage = 'owed')";

const DROP_WITHDRAWN: &str = "
DELETE FROM outbox WHERE letter = $1 AND stage = 'withdrawn'
  AND EXISTS (SELECT FROM letter l WHERE l.letter = $1 AND l.stage = 'owed')";

const AGAIN: &str = "
UPDATE letter SET attempts = attempts + 1, due_at = $2, doubts = doubts + $3, failure = $5,
    begun = CASE WHEN claimed_by = $4 THEN false ELSE begun END,
    claimed_until = CASE WHEN claimed_by = $4 THEN NULL ELSE claimed_until END,
    claimed_by = CASE WHEN claimed_by = $4 THEN NULL ELSE claimed_by END
WHERE letter = $1 AND stage = 'owed'";

const COUNT_NOTICES: &str = "
UPDATE letter SET notices = (SELECT count(*) FROM outbox o WHERE o.letter = $1 AND o.stage = 'owed')
WHERE letter = $1 AND stage = 'owed'";

const DROP_FOLLOWERS: &str = "
DELETE FROM outbox WHERE letter = $1 AND stage = 'owed' AND change <> 'firing'
  AND EXISTS (SELECT FROM letter l WHERE l.letter = $1 AND l.stage = 'owed')";

/// Given up in doubt, it may have arrived: then its end is owed like that of a sent one.
const END_ROWS: &str = "
UPDATE outbox SET stage = CASE WHEN $2 = 'sent' OR l.doubts > 0 THEN 'sent' ELSE 'given_up' END
FROM letter l
WHERE outbox.letter = $1 AND outbox.stage = 'owed' AND l.letter = $1 AND l.stage = 'owed'";

const END_LETTER: &str = "
UPDATE letter SET stage = $2, ended_at = $3, begun = false, failure = coalesce($4, failure),
    attempts = attempts + CASE WHEN $2 = 'given_up' THEN 1 ELSE 0 END,
    claimed_by = NULL, claimed_until = NULL
WHERE letter = $1 AND stage = 'owed'";

/// Only those that need it: a batch of mails must not rewrite the rest of itself with every mail.
const RENEW_CLAIMS: &str = "
UPDATE letter SET claimed_until = clock_timestamp() + $2::float8 * interval '1 second'
WHERE stage = 'owed' AND claimed_by = $1
  AND claimed_until < clock_timestamp() + $2::float8 * interval '0.5 second'
  AND claimed_until > clock_timestamp()";

const UNCLAIM: &str = "
UPDATE letter SET claimed_by = NULL, claimed_until = NULL, doubts = doubts + begun::int, begun = false
WHERE claimed_by = $1";
