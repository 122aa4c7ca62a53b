//! Messages that a provider sends on its own account: whose they are, how they are signed, what they say.

use super::{
    Provider, Where,
    check::{Checked, optional_path, path_at, wrong},
    rules::Path,
    schema::{ErrorRow, WebhookForm},
};
use crate::{
    core::{Cause, Evidence, Secret, Timestamp},
    oauth::{Signature, Unbelieved},
};
use serde_json::Value;
use std::{ops::RangeInclusive, time::Duration};

/// The form of a provider's messages, checked.
#[derive(Debug)]
pub(super) struct Webhook {
    pub(super) signature: Signature,
    pub(super) at: Path,
    pub(super) subject: Path,
    pub(super) client_id: Option<Path>,
}

/// A message whose signature was checked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Message {
    /// The account at the provider.
    pub subject: String,
    /// What it says, as of when it happened.
    pub evidence: Evidence,
}

/// Why a message leads to nothing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Unheard {
    /// The provider sends none, as far as its file says.
    NotSent,
    /// Its signature is not right.
    Unbelieved(Unbelieved),
    /// It is signed and is no JSON, names no account, or is for another app.
    Malformed,
    /// It says nothing about a consent.
    Nothing,
}

impl Webhook {
    fn read(
        &self,
        provider: &Provider,
        client_id: &str,
        body: &[u8],
        now: Timestamp,
    ) -> Result<Message, Unheard> {
        let body: Value = serde_json::from_slice(body).map_err(|_| Unheard::Malformed)?;
        let text = |path: &Path| super::interpret::subject_of(path.value(&body)?);
        if let Some(path) = &self.client_id
            && text(path).is_some_and(|named| named != client_id)
        {
            return Err(Unheard::Malformed);
        }
        let happened_at = self.at.value(&body).and_then(Value::as_i64).map(Timestamp::from_unix);
        // Nothing can be said of what has not happened yet.
        let at = happened_at.unwrap_or(now).min(now);
        let said = provider.message(Where::Webhook, &body, at);
        let evidence = said.ok_or(Unheard::Nothing)?;
        // Absent, or in milliseconds: repeated and signed anew, it would speak of a consent that was given since.
        if happened_at.is_none_or(|at| at > now.plus(AHEAD_MAX)) {
            return Err(Unheard::Malformed);
        }
        let subject = text(&self.subject).ok_or(Unheard::Malformed)?;
        Ok(Message { subject, evidence })
    }
}

impl Provider {
    /// The header that a signature stands in, in small letters; `None` where no messages are sent.
    #[must_use]
    pub fn signature_header(&self) -> Option<&str> {
        self.webhook.as_ref().map(|webhook| webhook.signature.header.as_str())
    }

    /// What a message says that came at `now`, to an app with this public id and these secrets.
    ///
    /// # Errors
    /// Why it leads to nothing.
    pub fn heard(
        &self,
        header: &str,
        body: &[u8],
        client_id: &str,
        secrets: &[Secret],
        now: Timestamp,
    ) -> Result<Message, Unheard> {
        let webhook = self.webhook.as_ref().ok_or(Unheard::NotSent)?;
        webhook.signature.verify(header, body, secrets, now).map_err(Unheard::Unbelieved)?;
        webhook.read(self, client_id, body, now)
    }
}

/// What happened later than this cannot be meant: no two clocks differ by so much.
const AHEAD_MAX: Duration = Duration::from_secs(24 * 3_600);

/// What a file's own rows say about messages.
pub(super) struct Rows {
    /// The first of them.
    first: Option<usize>,
    /// The first that says what no message can.
    strange: Option<usize>,
}

impl Rows {
    pub(super) fn of(rows: &[ErrorRow]) -> Self {
        let find = |is_meant: &dyn Fn(&ErrorRow) -> bool| {
            rows.iter().position(|row| row.place == Where::Webhook && is_meant(row))
        };
        let is_strange =
            |row: &ErrorRow| !can_be_announced(row.cause) || row.app_wide == Some(true);
        Self { first: find(&|_| true), strange: find(&is_strange) }
    }

    /// Rows and form must go together.
    pub(super) fn fit(&self, webhook: Option<Webhook>) -> Checked<Option<Webhook>> {
        match (self.first, self.strange, &webhook) {
            (Some(index), _, None) => wrong(
                &format!("errors[{index}].where"),
                "nothing says how a message is signed, so none is read; add `webhook`",
            ),
            (None, _, Some(_)) => wrong(
                "webhook",
                "no row with `where: webhook` says what one means; add it to `errors`",
            ),
            (_, Some(index), _) => wrong(
                &format!("errors[{index}].cause"),
                "nothing follows from a message with this cause; expected one that an owner must mend",
            ),
            _ => Ok(webhook),
        }
    }
}

/// What an app or a provider suffers shows when it is asked.
const fn can_be_announced(cause: Cause) -> bool {
    cause.needs_reconnect() || matches!(cause, Cause::ScopeMissing)
}

/// Checks what the form alone cannot.
pub(super) fn checked(form: WebhookForm) -> Checked<Webhook> {
    let sign = form.signature;
    for (key, name) in
        [("header", &sign.header), ("timestamp", &sign.timestamp), ("digest", &sign.digest)]
    {
        if !is_name(name) {
            return wrong(
                &format!("webhook.signature.{key}"),
                format!("expected 1 to {NAME_BYTES_MAX} letters, digits, `-` and `_`"),
            );
        }
    }
    if sign.timestamp == sign.digest {
        return wrong("webhook.signature.digest", "is the same as `timestamp`");
    }
    if !TOLERANCE.contains(&sign.tolerance) {
        return wrong(
            "webhook.signature.tolerance",
            "expected 10s to 1h; with more, somebody may repeat an old message",
        );
    }
    Ok(Webhook {
        signature: Signature {
            header: sign.header.to_ascii_lowercase(),
            timestamp: sign.timestamp,
            digest: sign.digest,
            tolerance: sign.tolerance,
        },
        at: path_at("webhook.at", &form.at)?,
        subject: path_at("webhook.subject", &form.subject)?,
        client_id: optional_path("webhook.client_id", form.client_id.as_deref())?,
    })
}

fn is_name(name: &str) -> bool {
    let is_fit = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_');
    (1..=NAME_BYTES_MAX).contains(&name.len()) && name.bytes().all(is_fit)
}

/// Longest name of a header or of a part of it.
const NAME_BYTES_MAX: usize = 64;

/// Clocks differ by seconds, and whoever repeats a message needs minutes.
const TOLERANCE: RangeInclusive<Duration> = Duration::from_secs(10)..=Duration::from_secs(3_600);
