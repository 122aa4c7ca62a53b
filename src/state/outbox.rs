//! Open incidents and the mails they owe, on SQLite.
//!
//! An incident and its mails are one transaction, so neither exists without the other. A row lives as long
//! as it is of use: a firing mail that was sent stays until its incident is over, because it says who must
//! hear of the end; a resolved mail that was sent goes at once.

use super::{
    seal::{Context, Sealer},
    writer::{Desk, Refusal},
};
use crate::core::{
    AccountId, Cause, Evidence, Secret, Timestamp,
    diagnose::Step,
    notices::{Audience, Change, Notice, Subject},
};
use rusqlite::{Connection, OptionalExtension, Row, params};
use serde::{Deserialize, Serialize};
use std::{sync::Arc, time::Duration};

/// A mail as it lies there; the caller opens the address.
pub(super) struct Sealed {
    pub(super) row: i64,
    pub(super) incident: i64,
    pub(super) recipient: i64,
    pub(super) subject: String,
    pub(super) resolved: bool,
    pub(super) address: Vec<u8>,
    pub(super) notice: Notice,
    pub(super) attempts: u32,
}

/// What came of an attempt to send a mail.
#[derive(Clone, Copy)]
pub(super) enum Attempt {
    /// Handed over.
    Sent(Timestamp),
    /// Not handed over, or perhaps; to be tried again.
    Again { until: Timestamp, in_doubt: bool },
    /// Never to be tried again.
    GivenUp,
}

/// Opens the incident and owes its mails; false when it is open already.
pub(super) fn fire(desk: &Desk, notice: &Notice, addresses: &[Vec<u8>]) -> Result<bool, Refusal> {
    if is_anothers(desk, notice) {
        return Ok(false);
    }
    let subject = subject_text(&notice.subject);
    let opened = desk.connection.execute(
        "INSERT INTO incident (subject, cause) VALUES (?1, ?2) ON CONFLICT DO NOTHING",
        (&subject, notice.cause.as_label()),
    )?;
    if opened == 0 {
        return Ok(false);
    }
    let incident = desk.connection.last_insert_rowid();
    let text = notice_text(notice);
    let mut owe = desk.connection.prepare_cached(
        "INSERT INTO outbox (incident, recipient, subject, resolved, stage, address, notice, due_at)
         VALUES (?1, ?2, ?3, 0, 'owed', ?4, ?5, ?6)",
    )?;
    for (recipient, address) in (0_i64..).zip(addresses) {
        owe.execute(params![incident, recipient, subject, address, text, notice.at.as_unix()])?;
    }
    Ok(true)
}

/// Closes the incident; false when it is not open.
pub(super) fn resolve(desk: &Desk, notice: &Notice) -> Result<bool, Refusal> {
    if is_anothers(desk, notice) {
        return Ok(false);
    }
    let subject = subject_text(&notice.subject);
    let incident: Option<i64> = desk
        .connection
        .prepare_cached(
            "DELETE FROM incident WHERE subject = ?1 AND cause = ?2 RETURNING incident",
        )?
        .query_map((&subject, notice.cause.as_label()), |row| row.get(0))?
        .next()
        .transpose()?;
    let Some(incident) = incident else { return Ok(false) };
    if notice.change != Change::Withdrawn {
        owe_resolved(&desk.connection, incident, notice)?;
    }
    desk.connection.execute(
        "DELETE FROM outbox WHERE incident = ?1 AND stage <> 'withdrawn' AND resolved = 0",
        [incident],
    )?;
    desk.connection.execute(
        "DELETE FROM outbox WHERE stage = 'withdrawn' AND due_at < ?1",
        [notice.at.minus(WITHDRAWN_KEPT_FOR).as_unix()],
    )?;
    Ok(true)
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

/// `None` for an incident that is about no account.
pub(super) fn told_account(
    subject: &str,
    label: &str,
) -> Result<Option<(AccountId, Cause)>, Refusal> {
    let subject: StoredSubject = serde_json::from_str(subject)
        .map_err(|_| Refusal::Damaged("an incident in it is about nothing known".to_owned()))?;
    Ok(match subject {
        StoredSubject::Account { provider, account } => {
            Some((AccountId::new(provider, account), cause(label)?))
        }
        StoredSubject::App(_) | StoredSubject::Store | StoredSubject::Host => None,
    })
}

/// What is about no account in particular is everybody's.
fn is_anothers(desk: &Desk, notice: &Notice) -> bool {
    matches!(&notice.subject, Subject::Account(id) if desk.is_anothers(id))
}

fn owe_resolved(connection: &Connection, incident: i64, notice: &Notice) -> Result<(), Refusal> {
    let text = notice_text(notice);
    // New rows: what is still said about the attempt at the firing mail must not settle this one.
    connection.execute(
        "INSERT INTO outbox (incident, recipient, subject, resolved, stage, address, notice, due_at)
         SELECT incident, recipient, subject, 1, 'owed', address, ?2, ?3 FROM outbox
         WHERE incident = ?1 AND resolved = 0
           AND (stage = 'sent' OR (stage = 'owed' AND in_doubt = 1))",
        params![incident, text, notice.at.as_unix()],
    )?;
    // Somebody may be sending this very mail now. If it turns out to have left, its end is owed too.
    connection.execute(
        "UPDATE outbox SET stage = 'withdrawn', notice = ?2, due_at = ?3
         WHERE incident = ?1 AND resolved = 0 AND stage = 'owed' AND in_doubt = 0",
        params![incident, text, notice.at.as_unix()],
    )?;
    Ok(())
}

/// Claims mails that are due, oldest first. Ours are handed out to us again.
pub(super) fn owed(desk: &Desk, now: Timestamp, at_most: usize) -> Result<Vec<Sealed>, Refusal> {
    let mut due = desk.connection.prepare_cached(
        "SELECT mail, incident, recipient, subject, resolved, address, notice, attempts
         FROM outbox WHERE stage = 'owed' AND due_at <= ?1
           AND (claimed_by IS NULL OR claimed_by = ?3 OR claimed_until <= ?1)
         ORDER BY mail LIMIT ?2",
    )?;
    let limit = i64::try_from(at_most).unwrap_or(i64::MAX);
    let mut rows = due.query(params![now.as_unix(), limit, &desk.holder[..]])?;
    let mut mails = Vec::new();
    while let Some(row) = rows.next()? {
        mails.push(read(row)?);
    }
    let mut claim = desk
        .connection
        .prepare_cached("UPDATE outbox SET claimed_by = ?2, claimed_until = ?3 WHERE mail = ?1")?;
    for mail in &mails {
        claim.execute(params![mail.row, &desk.holder[..], now.plus(CLAIM_LIFE).as_unix()])?;
    }
    Ok(mails)
}

/// Nobody but us is there: what is claimed was claimed by processes that have ended.
pub(super) fn unclaim_all(connection: &Connection) -> Result<(), Refusal> {
    connection.execute(
        "UPDATE outbox SET claimed_by = NULL, claimed_until = NULL WHERE claimed_by IS NOT NULL",
        [],
    )?;
    Ok(())
}

/// When the next mail may be tried by us, and how many are owed.
pub(super) fn outlook(desk: &Desk) -> Result<(Option<Timestamp>, usize), Refusal> {
    let (next, owed): (Option<i64>, i64) = desk.connection.query_row(
        "SELECT min(iif(claimed_by IS NULL OR claimed_by = ?1, due_at, max(due_at, claimed_until))),
                count(*)
         FROM outbox WHERE stage = 'owed'",
        [&desk.holder[..]],
        |row| Ok((row.get(0)?, row.get(1)?)),
    )?;
    Ok((next.map(Timestamp::from_unix), super::count(owed)))
}

/// Takes note of an attempt. A mail that is gone was settled before.
pub(super) fn settle(desk: &Desk, mail: i64, attempt: Attempt) -> Result<(), Refusal> {
    let stage: Option<(String, bool)> = desk
        .connection
        .prepare_cached("SELECT stage, resolved FROM outbox WHERE mail = ?1")?
        .query_row([mail], |row| Ok((row.get(0)?, row.get(1)?)))
        .optional()?;
    let Some((stage, resolved)) = stage else { return Ok(()) };
    match stage.as_str() {
        "owed" => settle_owed(&desk.connection, mail, resolved, attempt, &desk.holder),
        "withdrawn" => settle_withdrawn(&desk.connection, mail, attempt),
        _ => Ok(()),
    }
}

fn settle_owed(
    connection: &Connection,
    mail: i64,
    resolved: bool,
    attempt: Attempt,
    holder: &[u8],
) -> Result<(), Refusal> {
    match attempt {
        Attempt::Again { until, in_doubt } => connection.execute(
            "UPDATE outbox SET attempts = attempts + 1, due_at = ?2, in_doubt = max(in_doubt, ?3),
                 claimed_by = iif(claimed_by = ?4, NULL, claimed_by)
             WHERE mail = ?1",
            params![mail, until.as_unix(), in_doubt, holder],
        )?,
        _ if resolved => connection.execute("DELETE FROM outbox WHERE mail = ?1", [mail])?,
        Attempt::Sent(at) => connection.execute(
            "UPDATE outbox SET stage = 'sent', due_at = ?2 WHERE mail = ?1",
            params![mail, at.as_unix()],
        )?,
        // Given up in doubt, it may have arrived: then its end is owed like that of a sent one.
        Attempt::GivenUp => connection.execute(
            "UPDATE outbox SET stage = iif(in_doubt, 'sent', 'given_up') WHERE mail = ?1",
            [mail],
        )?,
    };
    Ok(())
}

/// The incident ended while this mail was being sent.
fn settle_withdrawn(connection: &Connection, mail: i64, attempt: Attempt) -> Result<(), Refusal> {
    let at = match attempt {
        Attempt::Sent(at) => Some(at),
        Attempt::Again { until, in_doubt: true } => Some(until),
        Attempt::Again { .. } | Attempt::GivenUp => None,
    };
    if let Some(at) = at {
        connection.execute(
            "INSERT INTO outbox
                 (incident, recipient, subject, resolved, stage, address, notice, due_at)
             SELECT incident, recipient, subject, 1, 'owed', address, notice, ?2
             FROM outbox WHERE mail = ?1",
            params![mail, at.as_unix()],
        )?;
    }
    connection.execute("DELETE FROM outbox WHERE mail = ?1", [mail])?;
    Ok(())
}

/// The stable part of a mail's `Message-ID`: the same whenever it is asked for, another one for every
/// mail of every installation, and nothing to be read from it.
pub(super) fn message_key(
    sealer: &Sealer,
    incident: i64,
    recipient: i64,
    resolved: bool,
) -> String {
    let change = if resolved { "resolved" } else { "firing" };
    let digest = sealer.derive(&format!("message {incident} {recipient} {change}"));
    digest.iter().take(MESSAGE_KEY_BYTES).map(|byte| format!("{byte:02x}")).collect()
}

/// Seals an address for the mails about `subject`.
pub(super) fn seal_address(
    sealer: &Sealer,
    subject: &Subject,
    address: &str,
) -> Result<Vec<u8>, Refusal> {
    sealer.seal(Context::address(&subject_text(subject)), address.as_bytes())
}

/// Opens the address of a mail.
pub(super) fn open_address(sealer: &Sealer, mail: &Sealed) -> Result<Secret, Refusal> {
    let mut bytes = sealer.open(Context::address(&mail.subject), &mail.address)?;
    String::from_utf8(std::mem::take(&mut *bytes))
        .map(Secret::new)
        .map_err(|_| Refusal::Damaged("an address in its outbox is not text".to_owned()))
}

/// The cause with this label.
pub(super) fn cause(label: &str) -> Result<Cause, Refusal> {
    Cause::from_label(label).ok_or_else(|| {
        Refusal::Damaged("a cause in it is unknown to this version; run the newer one".to_owned())
    })
}

fn read(row: &Row<'_>) -> Result<Sealed, Refusal> {
    let text: String = row.get(6)?;
    Ok(Sealed {
        row: row.get(0)?,
        incident: row.get(1)?,
        recipient: row.get(2)?,
        subject: row.get(3)?,
        resolved: row.get(4)?,
        address: row.get(5)?,
        notice: read_notice(&text)?,
        attempts: row.get(7)?,
    })
}

/// A notice as the table holds it. Its own type, so that the core can change without the table.
#[derive(Serialize, Deserialize)]
struct StoredNotice {
    subject: StoredSubject,
    cause: String,
    resolved: bool,
    owner: bool,
    since: i64,
    at: i64,
    expires_at: Option<i64>,
    evidence: Option<StoredEvidence>,
    /// Absent in what older versions wrote.
    #[serde(default)]
    step: Option<String>,
    missing_scopes: Vec<String>,
    accounts: usize,
}

#[derive(Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
enum StoredSubject {
    Account { provider: String, account: String },
    App(String),
    Store,
    Host,
}

#[derive(Serialize, Deserialize)]
pub(super) struct StoredEvidence {
    cause: String,
    detail: Option<String>,
    code: Option<String>,
    log_id: Option<String>,
    status: Option<u16>,
    at: i64,
    retry_after_seconds: Option<u64>,
    app_wide: bool,
}

fn stored_subject(subject: &Subject) -> StoredSubject {
    match subject {
        Subject::Account(id) => StoredSubject::Account {
            provider: id.provider.to_string(),
            account: id.account.to_string(),
        },
        Subject::App(app) => StoredSubject::App(app.to_string()),
        Subject::Store => StoredSubject::Store,
        Subject::Host => StoredSubject::Host,
    }
}

/// The subject as one text: the key of its incidents.
pub(super) fn subject_text(subject: &Subject) -> String {
    serde_json::to_string(&stored_subject(subject)).expect("names and texts are always JSON")
}

/// A notice as the tables hold it.
pub(super) fn notice_text(notice: &Notice) -> String {
    let stored = StoredNotice {
        subject: stored_subject(&notice.subject),
        cause: notice.cause.as_label().to_owned(),
        resolved: notice.change != Change::Firing,
        owner: notice.audience == Audience::Owner,
        since: notice.since.as_unix(),
        at: notice.at.as_unix(),
        expires_at: notice.expires_at.map(Timestamp::as_unix),
        evidence: notice.evidence.as_deref().map(stored_evidence),
        step: notice.step.map(|step| step.as_label().to_owned()),
        missing_scopes: notice.missing_scopes.iter().map(|scope| scope.to_string()).collect(),
        accounts: notice.accounts,
    };
    serde_json::to_string(&stored).expect("names and texts are always JSON")
}

pub(super) fn stored_evidence(evidence: &Evidence) -> StoredEvidence {
    StoredEvidence {
        cause: evidence.cause.as_label().to_owned(),
        detail: evidence.detail.as_deref().map(str::to_owned),
        code: evidence.code.as_deref().map(str::to_owned),
        log_id: evidence.log_id.as_deref().map(str::to_owned),
        status: evidence.status,
        at: evidence.at.as_unix(),
        retry_after_seconds: evidence.retry_after.map(|wait| wait.as_secs()),
        app_wide: evidence.app_wide,
    }
}

/// The way back from [`notice_text`].
pub(super) fn read_notice(text: &str) -> Result<Notice, Refusal> {
    let stored: StoredNotice = serde_json::from_str(text).map_err(|_| {
        Refusal::Damaged("a notice in its outbox cannot be read; run the newer version".to_owned())
    })?;
    Ok(Notice {
        subject: match stored.subject {
            StoredSubject::Account { provider, account } => {
                Subject::Account(AccountId::new(provider, account))
            }
            StoredSubject::App(app) => Subject::App(app.into()),
            StoredSubject::Store => Subject::Store,
            StoredSubject::Host => Subject::Host,
        },
        cause: cause(&stored.cause)?,
        change: if stored.resolved { Change::Resolved } else { Change::Firing },
        audience: if stored.owner { Audience::Owner } else { Audience::Operator },
        since: Timestamp::from_unix(stored.since),
        at: Timestamp::from_unix(stored.at),
        expires_at: stored.expires_at.map(Timestamp::from_unix),
        evidence: stored.evidence.map(read_evidence).transpose()?.map(Arc::new),
        // One that this version does not know leaves the step to the cause.
        step: stored.step.as_deref().and_then(Step::from_label),
        missing_scopes: stored.missing_scopes.into_iter().map(Into::into).collect(),
        accounts: stored.accounts,
    })
}

pub(super) fn read_evidence(stored: StoredEvidence) -> Result<Evidence, Refusal> {
    Ok(Evidence {
        cause: cause(&stored.cause)?,
        detail: stored.detail.map(Into::into),
        code: stored.code.map(Into::into),
        log_id: stored.log_id.map(Into::into),
        status: stored.status,
        at: Timestamp::from_unix(stored.at),
        retry_after: stored.retry_after_seconds.map(Duration::from_secs),
        app_wide: stored.app_wide,
    })
}

/// How long a withdrawn mail waits for news of an attempt that was under way: longer than any attempt.
pub(super) const WITHDRAWN_KEPT_FOR: Duration = Duration::from_secs(3_600);

/// How long a mail that was handed out is kept from others: longer than sending one takes, and not so long
/// that the mail of a process that was killed is late.
pub(super) const CLAIM_LIFE: Duration = Duration::from_secs(120);

/// Half a SHA-256: unique without being long.
const MESSAGE_KEY_BYTES: usize = 16;
