//! Open incidents and the notices they owe, on SQLite.
//!
//! An incident and its notices are one transaction, so neither exists without the other. A row lives as long
//! as it is of use: the notice of a beginning that was sent stays until its incident is over, because it says
//! who must hear of the end; a reminder and an end that were sent go at once. Which notices go in one mail
//! stands in `letters`.

use super::{
    seal::{Context, Sealer},
    stored_notice::{notice_text, read_notice, subject_text, told_account},
    writer::{Desk, Refusal},
};
use crate::core::{
    AccountId, Cause, Recipient, Secret, Timestamp,
    digest::Mailbox,
    notices::{self, Change, Notice, Subject, Way},
};
use rusqlite::{Connection, params};
use std::time::Duration;

/// A recipient as the table holds one.
#[derive(Clone)]
pub(super) struct Addressed {
    pub(super) mailbox: Mailbox,
    pub(super) way: Way,
    pub(super) is_operator: bool,
    pub(super) address: Vec<u8>,
}

/// Opens the incident and owes its notices; false when it is open already.
pub(super) fn fire(desk: &Desk, notice: &Notice, to: &[Addressed]) -> Result<bool, Refusal> {
    if is_anothers(desk, notice) {
        return Ok(false);
    }
    let subject = subject_text(&notice.subject);
    let opened = desk.connection.execute(
        "INSERT INTO incident (subject, cause, fired_at) VALUES (?1, ?2, ?3) ON CONFLICT DO NOTHING",
        params![subject, notice.cause.as_label(), reminded_from(notice)],
    )?;
    if opened == 0 {
        return Ok(false);
    }
    let incident = desk.connection.last_insert_rowid();
    let text = notice_text(notice);
    let mut owe = desk.connection.prepare_cached(
        "INSERT INTO outbox (incident, subject, cause, change, stage, mailbox, way, operator,
                             address, sealed_for, notice, made_at)
         VALUES (?1, ?2, ?3, 'firing', 'owed', ?4, ?5, ?6, ?7, ?8, ?9, ?10)",
    )?;
    for one in to {
        owe.execute(params![
            incident,
            subject,
            notice.cause.as_label(),
            one.mailbox,
            one.way.as_label(),
            one.is_operator,
            one.address,
            sealed_for(&one.mailbox),
            text,
            notice.at.as_unix()
        ])?;
    }
    Ok(true)
}

/// From when on it is called to mind after some days; `None` for what has reminders of its own.
pub(super) fn reminded_from(notice: &Notice) -> Option<i64> {
    notices::is_called_to_mind(notice).then(|| notice.at.as_unix())
}

/// Owes a reminder to everybody who was told; false when nobody was, or when the incident is not open.
pub(super) fn remind(desk: &Desk, notice: &Notice) -> Result<bool, Refusal> {
    if is_anothers(desk, notice) {
        return Ok(false);
    }
    let owed = desk.connection.execute(
        &format!(
            "{FOLLOW} FROM outbox o JOIN incident i ON i.incident = o.incident
             WHERE i.subject = ?4 AND i.cause = ?5 AND o.change = 'firing' AND o.stage = 'sent'
               AND NOT EXISTS (SELECT 1 FROM outbox r WHERE r.incident = o.incident
                               AND r.mailbox = o.mailbox AND r.change = ?1 AND r.stage = 'owed')"
        ),
        params![
            notice.change.as_label(),
            notice_text(notice),
            notice.at.as_unix(),
            subject_text(&notice.subject),
            notice.cause.as_label()
        ],
    )?;
    Ok(owed > 0)
}

/// An incident that may have to be called to mind.
pub(super) struct Reminded {
    pub(super) incident: i64,
    pub(super) told_at: Timestamp,
    pub(super) reminded: usize,
    /// What was told; `None` when nobody was.
    pub(super) notice: Option<Notice>,
}

/// Incidents that were told before `before` and reminded of `reminded` times.
pub(super) fn to_remind(
    desk: &Desk,
    reminded: usize,
    before: Timestamp,
) -> Result<Vec<Reminded>, Refusal> {
    let mut all = desk.connection.prepare_cached(
        "SELECT incident, fired_at,
                (SELECT notice FROM outbox o WHERE o.incident = i.incident AND o.change = 'firing'
                 AND o.stage = 'sent' LIMIT 1)
         FROM incident i WHERE reminded = ?1 AND fired_at <= ?2 ORDER BY fired_at LIMIT ?3",
    )?;
    let mut rows =
        all.query(params![count(reminded), before.as_unix(), count(REMINDED_AT_ONCE)])?;
    let mut found = Vec::new();
    while let Some(row) = rows.next()? {
        let text: Option<String> = row.get(2)?;
        found.push(Reminded {
            incident: row.get(0)?,
            told_at: Timestamp::from_unix(row.get(1)?),
            reminded,
            notice: text.as_deref().map(read_notice).transpose()?,
        });
    }
    Ok(found)
}

/// Notes the reminders of an incident and owes one, unless somebody else did or it is over.
pub(super) fn call_to_mind(
    desk: &Desk,
    one: &Reminded,
    reminded: usize,
    reminder: Option<&Notice>,
) -> Result<bool, Refusal> {
    let noted = desk.connection.execute(
        "UPDATE incident SET reminded = ?3 WHERE incident = ?1 AND reminded = ?2",
        params![one.incident, count(one.reminded), count(reminded)],
    )?;
    match reminder.filter(|_| noted > 0) {
        Some(notice) => {
            // Whose incident it is was settled when it fired.
            let owed = desk.connection.execute(
                &format!(
                    "{FOLLOW} FROM outbox o
                     WHERE o.incident = ?4 AND o.change = 'firing' AND o.stage = 'sent'"
                ),
                params![
                    notice.change.as_label(),
                    notice_text(notice),
                    notice.at.as_unix(),
                    one.incident
                ],
            )?;
            Ok(owed > 0)
        }
        None => Ok(false),
    }
}

/// The earliest telling among the incidents that were reminded of so many times.
pub(super) fn oldest_told(desk: &Desk) -> Result<Vec<(usize, Timestamp)>, Refusal> {
    let mut all = desk.connection.prepare_cached(
        "SELECT reminded, min(fired_at) FROM incident WHERE fired_at IS NOT NULL GROUP BY reminded",
    )?;
    let rows = all.query_map([], |row| Ok((row.get::<_, i64>(0)?, row.get::<_, i64>(1)?)))?;
    rows.map(|row| {
        let (reminded, at) = row?;
        Ok((super::count(reminded), Timestamp::from_unix(at)))
    })
    .collect()
}

/// Closes the incident; false when it is not open.
pub(super) fn resolve(desk: &Desk, notice: &Notice) -> Result<bool, Refusal> {
    if is_anothers(desk, notice) {
        return Ok(false);
    }
    let incident: Option<i64> = desk
        .connection
        .prepare_cached(
            "DELETE FROM incident WHERE subject = ?1 AND cause = ?2 RETURNING incident",
        )?
        .query_map((subject_text(&notice.subject), notice.cause.as_label()), |row| row.get(0))?
        .next()
        .transpose()?;
    let Some(incident) = incident else { return Ok(false) };
    let connection = &desk.connection;
    // A reminder that has not left is of no use any more.
    connection
        .execute("DELETE FROM outbox WHERE incident = ?1 AND change = 'reminder'", [incident])?;
    if notice.change != Change::Withdrawn {
        owe_the_end(connection, incident, notice)?;
    }
    connection.execute(
        "DELETE FROM outbox WHERE incident = ?1 AND stage <> 'withdrawn' AND change = 'firing'",
        [incident],
    )?;
    connection.execute(
        "DELETE FROM outbox WHERE stage = 'withdrawn' AND made_at < ?1",
        [notice.at.minus(WITHDRAWN_KEPT_FOR).as_unix()],
    )?;
    Ok(true)
}

fn owe_the_end(connection: &Connection, incident: i64, notice: &Notice) -> Result<(), Refusal> {
    let text = notice_text(notice);
    let at = notice.at.as_unix();
    // New rows: what is still said about the attempt at the first mail must not settle these.
    connection.execute(
        &format!(
            "{FOLLOW} FROM outbox o LEFT JOIN letter l ON l.letter = o.letter
             WHERE o.incident = ?4 AND o.change = 'firing' AND (o.stage = 'sent'
               OR (o.stage = 'owed' AND (l.doubts > 0 OR (l.begun = 1
                   AND (l.claimed_by IS NULL OR l.claimed_until <= ?3)))))"
        ),
        params![notice.change.as_label(), text, at, incident],
    )?;
    // Somebody may be sending this very mail now. If it turns out to have left, its end is owed too.
    connection.execute(
        "UPDATE outbox SET stage = 'withdrawn', notice = ?2, made_at = ?3
         WHERE incident = ?1 AND change = 'firing' AND stage = 'owed' AND EXISTS (
             SELECT 1 FROM letter l WHERE l.letter = outbox.letter AND l.doubts = 0
             AND NOT (l.begun = 1 AND (l.claimed_by IS NULL OR l.claimed_until <= ?3)))",
        params![incident, text, at],
    )?;
    Ok(())
}

/// The accounts with an open incident.
pub(super) fn told(desk: &Desk) -> Result<Vec<(AccountId, Cause)>, Refusal> {
    let mut all =
        desk.connection.prepare_cached("SELECT subject, cause FROM incident ORDER BY incident")?;
    let mut rows = all.query([])?;
    let mut told = Vec::new();
    while let Some(row) = rows.next()? {
        let (subject, label): (String, String) = (row.get(0)?, row.get(1)?);
        told.extend(told_account(&subject, &label)?);
    }
    Ok(told)
}

/// What is about no account in particular is everybody's.
fn is_anothers(desk: &Desk, notice: &Notice) -> bool {
    matches!(&notice.subject, Subject::Account(id) if desk.is_anothers(id))
}

/// Seals an address for its mailbox, which is a keyed hash of it.
pub(super) fn addressed(sealer: &Sealer, to: &Recipient) -> Result<Addressed, Refusal> {
    let mailbox = mailbox(sealer, to.way, to.address.expose());
    let context = sealed_for(&mailbox);
    Ok(Addressed {
        mailbox,
        way: to.way,
        is_operator: to.is_operator,
        address: sealer.seal(Context::address(&context), to.address.expose().as_bytes())?,
    })
}

/// One person's mail, however the address is written.
pub(super) fn mailbox(sealer: &Sealer, way: Way, address: &str) -> Mailbox {
    let address = address.trim();
    let shape = match way {
        Way::Mail => address.to_lowercase(),
        Way::Webhook => address.to_owned(),
    };
    let digest = sealer.derive(&format!("mailbox {} {shape}", way.as_label()));
    let mut mailbox = Mailbox::default();
    mailbox.copy_from_slice(&digest[..MAILBOX_BYTES]);
    mailbox
}

/// What the address of a mailbox is sealed for.
pub(super) fn sealed_for(mailbox: &Mailbox) -> String {
    mailbox.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// Opens an address.
pub(super) fn open_address(
    sealer: &Sealer,
    sealed_for: &str,
    address: &[u8],
) -> Result<Secret, Refusal> {
    let mut bytes = sealer.open(Context::address(sealed_for), address)?;
    String::from_utf8(std::mem::take(&mut *bytes))
        .map(Secret::new)
        .map_err(|_| Refusal::Damaged("an address in its outbox is not text".to_owned()))
}

pub(super) fn count(number: usize) -> i64 {
    i64::try_from(number).unwrap_or(i64::MAX)
}

/// A notice that follows the first of its incident, to the same recipient: change ?1, text ?2, instant ?3.
const FOLLOW: &str = "
INSERT INTO outbox (incident, subject, cause, change, stage, mailbox, way, operator, address,
                    sealed_for, notice, made_at, thread)
SELECT o.incident, o.subject, o.cause, ?1, 'owed', o.mailbox, o.way, o.operator, o.address,
       o.sealed_for, ?2, ?3, o.letter";

/// How long a withdrawn notice waits for news of an attempt that was under way: longer than any attempt.
pub(super) const WITHDRAWN_KEPT_FOR: Duration = Duration::from_secs(3_600);

/// Incidents that are called to mind in one go.
pub(super) const REMINDED_AT_ONCE: usize = 200;

/// Half a SHA-256: unique without being long.
const MAILBOX_BYTES: usize = 16;
