//! Notices as the tables hold them: JSON with types of its own, so that the core can change without the tables.

use super::writer::Refusal;
use crate::core::{
    AccountId, Cause, Evidence, Gate, Timestamp,
    diagnose::Step,
    digest::{Many, Summary},
    notices::{Audience, Change, Notice, Subject},
};
use serde::{Deserialize, Serialize};
use std::{sync::Arc, time::Duration};

/// The cause with this label.
pub(in crate::state) fn cause(label: &str) -> Result<Cause, Refusal> {
    Cause::from_label(label).ok_or_else(|| {
        Refusal::Damaged("a cause in it is unknown to this version; run the newer one".to_owned())
    })
}

/// The change with this label.
pub(in crate::state) fn change(label: &str) -> Result<Change, Refusal> {
    Change::from_label(label).ok_or_else(|| {
        Refusal::Damaged("a change in it is unknown to this version; run the newer one".to_owned())
    })
}

/// A notice as the table holds it. Its own type, so that the core can change without the table.
#[derive(Serialize, Deserialize)]
struct StoredNotice {
    subject: StoredSubject,
    cause: String,
    resolved: bool,
    /// Absent in what older versions wrote; then `resolved` says it.
    #[serde(default)]
    change: Option<String>,
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
    #[serde(default)]
    posts_at_risk: Option<u32>,
    /// Absent while it is open, and in what older versions wrote.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    gate: Option<String>,
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
pub(in crate::state) struct StoredEvidence {
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
pub(in crate::state) fn subject_text(subject: &Subject) -> String {
    serde_json::to_string(&stored_subject(subject)).expect("names and texts are always JSON")
}

/// A notice as the tables hold it.
pub(in crate::state) fn notice_text(notice: &Notice) -> String {
    let stored = StoredNotice {
        subject: stored_subject(&notice.subject),
        cause: notice.cause.as_label().to_owned(),
        resolved: !notice.change.is_trouble(),
        change: Some(notice.change.as_label().to_owned()),
        owner: notice.audience == Audience::Owner,
        since: notice.since.as_unix(),
        at: notice.at.as_unix(),
        expires_at: notice.expires_at.map(Timestamp::as_unix),
        evidence: notice.evidence.as_deref().map(stored_evidence),
        step: notice.step.map(|step| step.as_label().to_owned()),
        missing_scopes: notice.missing_scopes.iter().map(|scope| scope.to_string()).collect(),
        accounts: notice.accounts,
        posts_at_risk: notice.posts_at_risk,
        gate: Some(notice.gate)
            .filter(|gate| *gate != Gate::Open)
            .map(|gate| gate.as_label().to_owned()),
    };
    serde_json::to_string(&stored).expect("names and texts are always JSON")
}

pub(in crate::state) fn stored_evidence(evidence: &Evidence) -> StoredEvidence {
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
pub(in crate::state) fn read_notice(text: &str) -> Result<Notice, Refusal> {
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
        change: match (stored.change.as_deref(), stored.resolved) {
            (Some(label), _) => change(label)?,
            (None, true) => Change::Resolved,
            (None, false) => Change::Firing,
        },
        audience: if stored.owner { Audience::Owner } else { Audience::Operator },
        since: Timestamp::from_unix(stored.since),
        at: Timestamp::from_unix(stored.at),
        expires_at: stored.expires_at.map(Timestamp::from_unix),
        evidence: stored.evidence.map(read_evidence).transpose()?.map(Arc::new),
        // One that this version does not know leaves the step to the cause.
        step: stored.step.as_deref().and_then(Step::from_label),
        missing_scopes: stored.missing_scopes.into_iter().map(Into::into).collect(),
        accounts: stored.accounts,
        posts_at_risk: stored.posts_at_risk,
        gate: stored.gate.as_deref().and_then(Gate::from_label).unwrap_or_default(),
    })
}

pub(in crate::state) fn read_evidence(stored: StoredEvidence) -> Result<Evidence, Refusal> {
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

/// Provider and account of a subject's text, where it is about one.
pub(in crate::state) fn account_of(subject: &str) -> Option<AccountId> {
    match serde_json::from_str(subject).ok()? {
        StoredSubject::Account { provider, account } => Some(AccountId::new(provider, account)),
        StoredSubject::App(_) | StoredSubject::Store | StoredSubject::Host => None,
    }
}

/// `None` for an incident that is about no account.
pub(in crate::state) fn told_account(
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

/// A summary as the tables hold it.
#[derive(Serialize, Deserialize)]
struct StoredSummary {
    many: Vec<StoredMany>,
    held: usize,
}

#[derive(Serialize, Deserialize)]
struct StoredMany {
    provider: String,
    cause: String,
    accounts: usize,
    owners: usize,
}

/// A summary as one text; `None` for an empty one.
pub(in crate::state) fn summary_text(summary: &Summary) -> Option<String> {
    if summary.is_empty() {
        return None;
    }
    let many = |one: &Many| StoredMany {
        provider: one.provider.to_string(),
        cause: one.cause.as_label().to_owned(),
        accounts: one.accounts,
        owners: one.owners,
    };
    let stored =
        StoredSummary { many: summary.many.iter().map(many).collect(), held: summary.held };
    Some(serde_json::to_string(&stored).expect("names and numbers are always JSON"))
}

/// The way back from [`summary_text`].
pub(in crate::state) fn read_summary(text: Option<&str>) -> Result<Summary, Refusal> {
    let Some(text) = text else { return Ok(Summary::default()) };
    let stored: StoredSummary = serde_json::from_str(text).map_err(|_| {
        Refusal::Damaged("a summary in its outbox cannot be read; run the newer version".to_owned())
    })?;
    let many = stored.many.into_iter().map(|one| {
        Ok(Many {
            provider: one.provider.into(),
            cause: cause(&one.cause)?,
            accounts: one.accounts,
            owners: one.owners,
        })
    });
    Ok(Summary { many: many.collect::<Result<_, Refusal>>()?, held: stored.held })
}
