//! Which notices go in one mail, and what became of each mail, on SQLite.
//!
//! Notices are put together by a plan that was made from what lay there a moment ago; a plan that somebody else's
//! has overtaken changes nothing. That an attempt begins is durable before its first byte, so that after a crash it
//! is known that the mail may have left: two such doubts are the most.

use super::{
    outbox::{count, open_address, sealed_for},
    seal::Sealer,
    stored_notice::{account_of, cause, change, read_notice, read_summary},
    writer::{Desk, Refusal},
};
use crate::core::{
    Cause, Secret, Timestamp,
    digest::{
        Fired, LISTED_MAX, MANY_WITHIN, Made, Mailbox, Summarised, Summary, THREADS_MAX, Waiting,
    },
    notices::{Change, Notice, Way},
};
use rusqlite::{Connection, Row, params};
use std::time::Duration;

/// Everything that a plan is made from.
pub(super) struct Board {
    /// Of the last plan: whoever finds another one is too late.
    pub(super) plan: i64,
    pub(super) waiting: Vec<Waiting>,
    pub(super) made: Vec<Made>,
    pub(super) fired: Vec<Fired>,
}

/// A mail to be made.
#[derive(Clone)]
pub(super) struct NewLetter {
    pub(super) mailbox: Mailbox,
    pub(super) rows: Vec<i64>,
    pub(super) summary: Option<String>,
    /// Where no row has it.
    pub(super) address: Option<Vec<u8>>,
}

/// A mail as it lies there; the caller opens the address.
pub(super) struct Sealed {
    pub(super) row: i64,
    pub(super) way: Way,
    pub(super) is_operator: bool,
    pub(super) sealed_for: String,
    pub(super) address: Vec<u8>,
    pub(super) summary: Summary,
    pub(super) attempts: u32,
    pub(super) doubts: u32,
    pub(super) made_at: Timestamp,
    /// Incident and notice, oldest first, [`LISTED_MAX`] at the most.
    pub(super) notices: Vec<(i64, Notice)>,
    pub(super) counts: Vec<(Change, Cause, usize)>,
    /// The first mails of its incidents, with their subject lines.
    pub(super) threads: Vec<(i64, Option<String>)>,
}

/// What came of an attempt to send a mail.
#[derive(Clone)]
pub(super) enum Attempt {
    /// Handed over.
    Sent(Timestamp),
    /// Not handed over, or perhaps; to be tried again.
    Again { until: Timestamp, in_doubt: bool, failure: String },
    /// Never to be tried again.
    GivenUp { at: Timestamp, failure: String },
}

/// A mail for people to look at.
pub(super) struct Listed {
    pub(super) stage: String,
    pub(super) way: Way,
    pub(super) is_operator: bool,
    pub(super) sealed_for: String,
    pub(super) address: Vec<u8>,
    pub(super) subject: Option<String>,
    pub(super) notices: usize,
    pub(super) at: Timestamp,
    pub(super) attempts: u32,
    pub(super) failure: Option<String>,
}

/// What waits, and what was made lately.
pub(super) fn board(desk: &Desk, way: Way, now: Timestamp) -> Result<Board, Refusal> {
    let connection = &desk.connection;
    let plan =
        connection.query_row("SELECT value FROM meta WHERE name = 'plan'", [], |row| row.get(0))?;
    let mut waiting = Vec::new();
    let mut all = connection.prepare_cached(
        "SELECT mail, mailbox, operator, cause, change, made_at, held IS NOT NULL FROM outbox
         WHERE stage = 'owed' AND letter IS NULL AND way = ?1 ORDER BY mail LIMIT ?2",
    )?;
    let mut rows = all.query(params![way.as_label(), count(WAITING_MAX)])?;
    while let Some(row) = rows.next()? {
        waiting.push(Waiting {
            row: row.get(0)?,
            mailbox: row.get(1)?,
            is_operator: row.get(2)?,
            cause: cause(&row.get::<_, String>(3)?)?,
            change: change(&row.get::<_, String>(4)?)?,
            since: Timestamp::from_unix(row.get(5)?),
            is_held: row.get(6)?,
        });
    }
    let mut made = Vec::new();
    let mut all = connection.prepare_cached(
        "SELECT mailbox, made_at, summary FROM letter WHERE way = ?1 AND made_at > ?2",
    )?;
    let mut rows = all.query(params![way.as_label(), now.minus(MADE_COUNT_FOR).as_unix()])?;
    while let Some(row) = rows.next()? {
        let summary: Option<String> = row.get(2)?;
        made.push(made_of(row.get(0)?, row.get(1)?, summary.as_deref())?);
    }
    let mut fired = Vec::new();
    let mut all = connection.prepare_cached(
        "SELECT mailbox, subject, cause, made_at FROM outbox
         WHERE made_at >= ?1 AND change = 'firing' AND NOT operator AND way = 'mail' LIMIT ?2",
    )?;
    let mut rows = all.query(params![now.minus(MANY_WITHIN).as_unix(), count(WAITING_MAX)])?;
    while let Some(row) = rows.next()? {
        let (subject, label): (String, String) = (row.get(1)?, row.get(2)?);
        fired.extend(fired_of(row.get(0)?, subject, &label, row.get(3)?)?);
    }
    Ok(Board { plan, waiting, made, fired })
}

pub(super) fn made_of(mailbox: Mailbox, at: i64, summary: Option<&str>) -> Result<Made, Refusal> {
    let summary = read_summary(summary)?;
    let summary = Summarised { many: !summary.many.is_empty(), held: summary.held > 0 };
    Ok(Made { mailbox, at: Timestamp::from_unix(at), summary })
}

pub(super) fn fired_of(
    mailbox: Mailbox,
    subject: String,
    label: &str,
    at: i64,
) -> Result<Option<Fired>, Refusal> {
    let Some(id) = account_of(&subject) else { return Ok(None) };
    let (cause, at) = (cause(label)?, Timestamp::from_unix(at));
    Ok(Some(Fired { mailbox, account: subject.into(), provider: id.provider, cause, at }))
}

/// Makes mails and notes what is held back; false, and nothing done, when somebody else has planned since.
pub(super) fn arrange(
    desk: &Desk,
    seen: i64,
    plan: i64,
    (way, now): (Way, Timestamp),
    letters: &[NewLetter],
    held: &[(i64, &'static str)],
) -> Result<bool, Refusal> {
    let connection = &desk.connection;
    let planned = connection
        .execute("UPDATE meta SET value = ?2 WHERE name = 'plan' AND value = ?1", [seen, plan])?;
    if planned == 0 {
        return Ok(false);
    }
    letters.iter().try_for_each(|letter| make(connection, letter, way, now))?;
    let mut hold = connection
        .prepare_cached("UPDATE outbox SET held = ?2 WHERE mail = ?1 AND held IS NULL")?;
    for (row, cap) in held {
        hold.execute(params![row, cap])?;
    }
    // Of what was over before its mail left.
    connection.execute(
        "DELETE FROM letter WHERE stage = 'owed' AND summary IS NULL
         AND NOT EXISTS (SELECT 1 FROM outbox o WHERE o.letter = letter.letter)",
        [],
    )?;
    connection.execute(
        "DELETE FROM letter WHERE stage <> 'owed' AND made_at < ?1
         AND NOT EXISTS (SELECT 1 FROM outbox o WHERE o.letter = letter.letter)
         AND NOT EXISTS (SELECT 1 FROM outbox o WHERE o.thread = letter.letter)",
        [now.minus(LETTERS_KEPT_FOR).as_unix()],
    )?;
    Ok(true)
}

fn make(
    connection: &Connection,
    letter: &NewLetter,
    way: Way,
    now: Timestamp,
) -> Result<(), Refusal> {
    let from = "INSERT INTO letter (mailbox, way, operator, address, sealed_for, summary, stage,
                                    made_at, due_at)";
    let (at, way) = (now.as_unix(), way.as_label());
    let made = match &letter.address {
        Some(address) => connection
            .prepare_cached(&format!("{from} VALUES (?1, ?2, 1, ?3, ?4, ?5, 'owed', ?6, ?6)"))?
            .execute(params![
                letter.mailbox,
                way,
                address,
                sealed_for(&letter.mailbox),
                letter.summary,
                at
            ])?,
        None => connection
            .prepare_cached(&format!(
                "{from} SELECT mailbox, way, operator, address, sealed_for, ?2, 'owed', ?3, ?3
                 FROM outbox WHERE mail = ?1"
            ))?
            .execute(params![letter.rows.first(), letter.summary, at])?,
    };
    if made == 0 {
        return Ok(());
    }
    let made = connection.last_insert_rowid();
    let mut put = connection.prepare_cached(
        "UPDATE outbox SET letter = ?2, held = NULL
         WHERE mail = ?1 AND stage = 'owed' AND letter IS NULL",
    )?;
    for row in &letter.rows {
        put.execute([*row, made])?;
    }
    Ok(())
}

/// Claims mails that are due, oldest first. Ours are handed out to us again.
pub(super) fn owed(
    desk: &Desk,
    way: Way,
    now: Timestamp,
    at_most: usize,
) -> Result<Vec<Sealed>, Refusal> {
    let connection = &desk.connection;
    let claimed = {
        let mut due = connection.prepare_cached(
            "SELECT letter FROM letter WHERE stage = 'owed' AND way = ?4 AND due_at <= ?1
               AND (claimed_by IS NULL OR claimed_by = ?3 OR claimed_until <= ?1)
               AND (summary IS NOT NULL OR EXISTS (
                   SELECT 1 FROM outbox o WHERE o.letter = letter.letter AND o.stage = 'owed'))
             ORDER BY letter LIMIT ?2",
        )?;
        let values = params![now.as_unix(), count(at_most), &desk.holder[..], way.as_label()];
        let rows = due.query_map(values, |row| row.get(0))?;
        rows.collect::<Result<Vec<i64>, _>>()?
    };
    let mut claim = connection.prepare_cached(
        "UPDATE letter SET claimed_by = ?2, claimed_until = ?3, doubts = doubts + begun, begun = 0
         WHERE letter = ?1
         RETURNING way, operator, sealed_for, address, summary, attempts, doubts, made_at",
    )?;
    let until = now.plus(CLAIM_LIFE).as_unix();
    let mut mails = Vec::new();
    for letter in claimed {
        let mut rows = claim.query(params![letter, &desk.holder[..], until])?;
        let Some(row) = rows.next()? else { continue };
        let mut mail = read(letter, row)?;
        fill(connection, &mut mail)?;
        mails.push(mail);
    }
    Ok(mails)
}

fn read(letter: i64, row: &Row<'_>) -> Result<Sealed, Refusal> {
    let summary: Option<String> = row.get(4)?;
    Ok(Sealed {
        row: letter,
        way: way_of(&row.get::<_, String>(0)?),
        is_operator: row.get(1)?,
        sealed_for: row.get(2)?,
        address: row.get(3)?,
        summary: read_summary(summary.as_deref())?,
        attempts: row.get(5)?,
        doubts: row.get(6)?,
        made_at: Timestamp::from_unix(row.get(7)?),
        notices: Vec::new(),
        counts: Vec::new(),
        threads: Vec::new(),
    })
}

fn fill(connection: &Connection, mail: &mut Sealed) -> Result<(), Refusal> {
    let mut all = connection.prepare_cached(
        "SELECT incident, notice FROM outbox WHERE letter = ?1 AND stage = 'owed'
         ORDER BY mail LIMIT ?2",
    )?;
    let mut rows = all.query([mail.row, count(LISTED_MAX)])?;
    while let Some(row) = rows.next()? {
        mail.notices.push((row.get(0)?, read_notice(&row.get::<_, String>(1)?)?));
    }
    let mut all = connection.prepare_cached(
        "SELECT change, cause, count(*) FROM outbox WHERE letter = ?1 AND stage = 'owed'
         GROUP BY change, cause ORDER BY count(*) DESC, change, cause",
    )?;
    let mut rows = all.query([mail.row])?;
    while let Some(row) = rows.next()? {
        let (named, label): (String, String) = (row.get(0)?, row.get(1)?);
        mail.counts.push((change(&named)?, cause(&label)?, super::count(row.get(2)?)));
    }
    let mut all = connection.prepare_cached(
        "SELECT o.thread, l.subject FROM outbox o LEFT JOIN letter l ON l.letter = o.thread
         WHERE o.letter = ?1 AND o.stage = 'owed' AND o.thread IS NOT NULL
         GROUP BY o.thread ORDER BY o.thread LIMIT ?2",
    )?;
    let mut rows = all.query([mail.row, count(THREADS_MAX)])?;
    while let Some(row) = rows.next()? {
        mail.threads.push((row.get(0)?, row.get(1)?));
    }
    Ok(())
}

/// An attempt is about to begin; false when the mail is not ours to send any more.
pub(super) fn begin(desk: &Desk, letter: i64, subject: &str) -> Result<bool, Refusal> {
    let begun = desk.connection.execute(
        "UPDATE letter SET begun = 1, subject = ?2
         WHERE letter = ?1 AND stage = 'owed' AND claimed_by = ?3",
        params![letter, subject, &desk.holder[..]],
    )?;
    Ok(begun > 0)
}

/// Nobody but us is there: what is claimed was claimed by processes that have ended.
pub(super) fn unclaim_all(connection: &Connection) -> Result<(), Refusal> {
    connection.execute(
        "UPDATE letter SET claimed_by = NULL, claimed_until = NULL, doubts = doubts + begun, begun = 0
         WHERE claimed_by IS NOT NULL",
        [],
    )?;
    Ok(())
}

/// When the next mail may be tried by us.
pub(super) fn next_due(desk: &Desk, way: Way) -> Result<Option<Timestamp>, Refusal> {
    let next: Option<i64> = desk.connection.query_row(
        "SELECT min(iif(claimed_by IS NULL OR claimed_by = ?1, due_at, max(due_at, claimed_until)))
         FROM letter WHERE stage = 'owed' AND way = ?2 AND (summary IS NOT NULL OR EXISTS (
             SELECT 1 FROM outbox o WHERE o.letter = letter.letter AND o.stage = 'owed'))",
        params![&desk.holder[..], way.as_label()],
        |row| row.get(0),
    )?;
    Ok(next.map(Timestamp::from_unix))
}

/// How many mails are on their way, how many notices wait to be put into one, and how many of those a cap holds.
pub(super) fn lengths(desk: &Desk, way: Way) -> Result<(usize, usize, usize), Refusal> {
    let count = |sql: &str| -> Result<usize, Refusal> {
        let rows = desk.connection.query_row(sql, [way.as_label()], |row| row.get(0))?;
        Ok(super::count(rows))
    };
    Ok((
        count(
            "SELECT count(*) FROM letter WHERE stage = 'owed' AND way = ?1
             AND (summary IS NOT NULL OR EXISTS (
                 SELECT 1 FROM outbox o WHERE o.letter = letter.letter AND o.stage = 'owed'))",
        )?,
        count(
            "SELECT count(*) FROM outbox WHERE stage = 'owed' AND letter IS NULL AND way = ?1
             AND held IS NULL",
        )?,
        count(
            "SELECT count(*) FROM outbox WHERE stage = 'owed' AND letter IS NULL AND way = ?1
             AND held IS NOT NULL",
        )?,
    ))
}

/// Takes note of an attempt. A mail that is gone was settled before.
pub(super) fn settle(desk: &Desk, letter: i64, attempt: &Attempt) -> Result<(), Refusal> {
    let connection = &desk.connection;
    let is_owed = connection
        .prepare_cached("SELECT 1 FROM letter WHERE letter = ?1 AND stage = 'owed'")?
        .exists([letter])?;
    if !is_owed {
        return Ok(());
    }
    let (may_have_left, at) = match attempt {
        Attempt::Sent(at) => (true, Some(*at)),
        Attempt::Again { until, in_doubt, .. } => (*in_doubt, Some(*until)),
        Attempt::GivenUp { .. } => (false, None),
    };
    if let Some(at) = at.filter(|_| may_have_left) {
        connection.execute(
            "INSERT INTO outbox (incident, subject, cause, change, stage, mailbox, way, operator,
                                 address, sealed_for, notice, made_at, thread)
             SELECT incident, subject, cause, 'resolved', 'owed', mailbox, way, operator, address,
                    sealed_for, notice, ?2, letter
             FROM outbox WHERE letter = ?1 AND stage = 'withdrawn'",
            [letter, at.as_unix()],
        )?;
    }
    connection.execute("DELETE FROM outbox WHERE letter = ?1 AND stage = 'withdrawn'", [letter])?;
    match attempt {
        Attempt::Again { until, in_doubt, failure } => {
            connection.execute(
                "UPDATE letter SET attempts = attempts + 1, due_at = ?2, doubts = doubts + ?3,
                     begun = iif(claimed_by = ?4, 0, begun), failure = ?5,
                     claimed_by = iif(claimed_by = ?4, NULL, claimed_by)
                 WHERE letter = ?1",
                params![letter, until.as_unix(), in_doubt, &desk.holder[..], failure],
            )?;
        }
        Attempt::Sent(at) => {
            end(connection, letter, "sent", "'sent'", *at)?;
        }
        Attempt::GivenUp { at, failure } => {
            connection.execute(
                "UPDATE letter SET failure = ?2, attempts = attempts + 1 WHERE letter = ?1",
                params![letter, failure],
            )?;
            // Given up in doubt, it may have arrived: then its end is owed like that of a sent one.
            let stage =
                "(SELECT iif(doubts > 0, 'sent', 'given_up') FROM letter WHERE letter = ?1)";
            end(connection, letter, "given_up", stage, *at)?;
        }
    }
    Ok(())
}

/// The mail is of no more use but for its thread; what followed in it is of none at all.
fn end(
    connection: &Connection,
    letter: i64,
    stage: &str,
    rows: &str,
    at: Timestamp,
) -> Result<(), Refusal> {
    let notices = "(SELECT count(*) FROM outbox WHERE letter = ?1 AND stage = 'owed')";
    connection
        .execute(&format!("UPDATE letter SET notices = {notices} WHERE letter = ?1"), [letter])?;
    connection.execute(
        "DELETE FROM outbox WHERE letter = ?1 AND stage = 'owed' AND change <> 'firing'",
        [letter],
    )?;
    connection.execute(
        &format!("UPDATE outbox SET stage = {rows} WHERE letter = ?1 AND stage = 'owed'"),
        [letter],
    )?;
    connection.execute(
        "UPDATE letter SET stage = ?2, ended_at = ?3, begun = 0, claimed_by = NULL,
             claimed_until = NULL
         WHERE letter = ?1",
        params![letter, stage, at.as_unix()],
    )?;
    Ok(())
}

/// The newest mails, and what waits to become one.
pub(super) fn list(desk: &Desk, at_most: usize) -> Result<Vec<Listed>, Refusal> {
    let mut all = desk.connection.prepare_cached(LIST)?;
    let mut rows = all.query([count(at_most)])?;
    let mut listed = Vec::new();
    while let Some(row) = rows.next()? {
        listed.push(Listed {
            stage: row.get(0)?,
            way: way_of(&row.get::<_, String>(1)?),
            is_operator: row.get(2)?,
            sealed_for: row.get(3)?,
            address: row.get(4)?,
            subject: row.get(5)?,
            notices: super::count(row.get(6)?),
            at: Timestamp::from_unix(row.get(7)?),
            attempts: row.get(8)?,
            failure: row.get(9)?,
        });
    }
    Ok(listed)
}

pub(super) fn way_of(label: &str) -> Way {
    if label == Way::Webhook.as_label() { Way::Webhook } else { Way::Mail }
}

/// The stable part of a mail's `Message-ID`: the same whenever it is asked for, another one for every
/// mail of every installation, and nothing to be read from it.
pub(super) fn message_key(sealer: &Sealer, letter: i64) -> String {
    key(sealer, &format!("letter {letter}"))
}

/// The same for an incident, which webhooks tell apart by it.
pub(super) fn incident_key(sealer: &Sealer, incident: i64) -> String {
    key(sealer, &format!("incident {incident}"))
}

fn key(sealer: &Sealer, label: &str) -> String {
    let digest = sealer.derive(label);
    digest.iter().take(MESSAGE_KEY_BYTES).map(|byte| format!("{byte:02x}")).collect()
}

impl Sealed {
    /// Where it goes.
    pub(super) fn open(&self, sealer: &Sealer) -> Result<Secret, Refusal> {
        open_address(sealer, &self.sealed_for, &self.address)
    }
}

/// In both databases. What waits stands once for each recipient.
pub(super) const LIST: &str = "
SELECT * FROM (
    SELECT CASE WHEN o.held IS NULL THEN 'waiting' ELSE 'held' END AS stage, o.way, o.operator,
           o.sealed_for, o.address, CAST(NULL AS TEXT) AS subject, g.notices, g.at, 0 AS attempts,
           o.held AS failure
    FROM outbox o JOIN (
        SELECT min(mail) AS mail, count(*) AS notices, min(made_at) AS at FROM outbox
        WHERE stage = 'owed' AND letter IS NULL GROUP BY held, way, operator, sealed_for
    ) AS g ON g.mail = o.mail
    UNION ALL
    SELECT stage, way, operator, sealed_for, address, subject,
           CASE WHEN stage = 'owed' THEN (SELECT count(*) FROM outbox o WHERE o.letter = l.letter)
                ELSE notices END,
           coalesce(ended_at, made_at), attempts, failure
    FROM letter l
) AS listed ORDER BY at DESC LIMIT $1";

/// How long a mail that was handed out is kept from others: longer than sending one takes, and not so long
/// that the mail of a process that was killed is late.
pub(super) const CLAIM_LIFE: Duration = Duration::from_secs(120);

/// Notices that one plan looks at.
pub(super) const WAITING_MAX: usize = 100_000;

/// The longest window of a cap.
pub(super) const MADE_COUNT_FOR: Duration = Duration::from_secs(24 * 60 * 60);

/// How long a mail that was sent can be looked at.
pub(super) const LETTERS_KEPT_FOR: Duration = Duration::from_secs(30 * 24 * 60 * 60);

/// Half a SHA-256: unique without being long.
const MESSAGE_KEY_BYTES: usize = 16;
