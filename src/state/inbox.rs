//! What was announced of accounts under a signature, on SQLite.
//!
//! Kept before it is answered, so that whoever sends it need not send it again, and for longer than anybody
//! sends it again, so that the same message twice is known as one. All replicas read it: the one that heard it
//! need not be the one that has the account.

use super::{
    stored_notice::{StoredEvidence, read_evidence, stored_evidence},
    writer::{Desk, Refusal},
};
use crate::core::{AccountId, Announcement, Order, Said, Timestamp, Whose};
use rusqlite::params;
use serde::{Deserialize, Serialize};
use std::time::Duration;

/// One announcement, and where it stands among the others.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Heard {
    /// Rises from one to the next.
    pub position: i64,
    /// What it was.
    pub announcement: Announcement,
}

/// One as the tables hold it.
pub(super) struct Letter {
    pub(super) key: String,
    pub(super) record: String,
    pub(super) heard_at: i64,
}

/// Keeps it unless it is there, after forgetting what nobody sends again.
pub(super) fn take_in(
    desk: &Desk,
    letter: &Letter,
    forget_until: Timestamp,
) -> Result<bool, Refusal> {
    let mut forget = desk.connection.prepare_cached(
        "DELETE FROM inbox WHERE heard_at <= ?1
         OR position <= (SELECT position FROM inbox ORDER BY position DESC LIMIT 1 OFFSET ?2)",
    )?;
    forget.execute(params![forget_until.as_unix(), KEPT_BEFORE_ONE_MORE])?;
    let mut put = desk.connection.prepare_cached(
        "INSERT INTO inbox (key, record, heard_at) VALUES (?1, ?2, ?3) ON CONFLICT DO NOTHING",
    )?;
    Ok(put.execute(params![letter.key, letter.record, letter.heard_at])? > 0)
}

/// The oldest first.
pub(super) fn heard_after(desk: &Desk, position: i64) -> Result<Vec<(i64, Letter)>, Refusal> {
    let mut all = desk.connection.prepare_cached(
        "SELECT position, key, record, heard_at FROM inbox WHERE position > ?1 ORDER BY position",
    )?;
    let row = |row: &rusqlite::Row<'_>| {
        let (key, record, heard_at) = (row.get(1)?, row.get(2)?, row.get(3)?);
        Ok((row.get(0)?, Letter { key, record, heard_at }))
    };
    Ok(all.query_map([position], row)?.collect::<Result<_, _>>()?)
}

#[derive(Serialize, Deserialize)]
struct Stored {
    whose: StoredWhose,
    /// What was said of the token.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    evidence: Option<StoredEvidence>,
    /// What is wanted. Absent, like the other, when the account was connected again.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    order: Option<StoredOrder>,
}

#[derive(Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
enum StoredOrder {
    Hold,
    Resume,
    Prove,
    Refresh,
    Published { worked: bool, evidence: Option<StoredEvidence> },
}

#[derive(Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
enum StoredWhose {
    Account { provider: String, account: String },
    Subject { app: String, subject: String },
}

/// An announcement as the tables hold it.
pub(super) fn letter(announcement: &Announcement) -> Letter {
    let whose = match &announcement.whose {
        Whose::Account(id) => StoredWhose::Account {
            provider: id.provider.to_string(),
            account: id.account.to_string(),
        },
        Whose::Subject { app, subject } => {
            StoredWhose::Subject { app: app.to_string(), subject: subject.to_string() }
        }
    };
    let (evidence, order) = match &announcement.said {
        Said::Evidence(evidence) => (Some(stored_evidence(evidence)), None),
        Said::Connected => (None, None),
        Said::Order(order) => (None, Some(stored_order(order))),
    };
    let record = serde_json::to_string(&Stored { whose, evidence, order });
    Letter {
        key: announcement.key.to_string(),
        record: record.expect("names and texts are always JSON"),
        heard_at: announcement.heard_at.as_unix(),
    }
}

/// The way back from [`letter`]; `None` for what this version does not understand.
pub(super) fn read(position: i64, letter: Letter) -> Option<Heard> {
    let stored: Stored = serde_json::from_str(&letter.record).ok()?;
    let whose = match stored.whose {
        StoredWhose::Account { provider, account } => {
            Whose::Account(AccountId::new(provider, account))
        }
        StoredWhose::Subject { app, subject } => {
            Whose::Subject { app: app.into(), subject: subject.into() }
        }
    };
    let announcement = Announcement {
        key: letter.key.into(),
        whose,
        said: match (stored.evidence, stored.order) {
            (Some(evidence), _) => Said::Evidence(read_evidence(evidence).ok()?),
            (None, Some(order)) => Said::Order(read_order(order)?),
            (None, None) => Said::Connected,
        },
        heard_at: Timestamp::from_unix(letter.heard_at),
    };
    Some(Heard { position, announcement })
}

fn stored_order(order: &Order) -> StoredOrder {
    match order {
        Order::Hold => StoredOrder::Hold,
        Order::Resume => StoredOrder::Resume,
        Order::Prove => StoredOrder::Prove,
        Order::Refresh => StoredOrder::Refresh,
        Order::Published { worked, evidence } => StoredOrder::Published {
            worked: *worked,
            evidence: evidence.as_ref().map(stored_evidence),
        },
    }
}

fn read_order(order: StoredOrder) -> Option<Order> {
    Some(match order {
        StoredOrder::Hold => Order::Hold,
        StoredOrder::Resume => Order::Resume,
        StoredOrder::Prove => Order::Prove,
        StoredOrder::Refresh => Order::Refresh,
        StoredOrder::Published { worked, evidence } => {
            Order::Published { worked, evidence: evidence.map(read_evidence).transpose().ok()? }
        }
    })
}

/// How long an announcement is kept. TikTok repeats what was not answered for 72 hours.
pub const INBOX_KEPT_FOR: Duration = Duration::from_secs(7 * 24 * 3_600);

/// Most announcements that are kept: of more, the oldest are forgotten.
pub const INBOX_MESSAGES_MAX: usize = 10_000;

/// How many stay where one more is about to come.
pub(super) const KEPT_BEFORE_ONE_MORE: i64 = INBOX_MESSAGES_MAX as i64 - 1;
