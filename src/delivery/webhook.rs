//! Notices to webhooks: the body of one request, its signature, and what its answer means.
//!
//! The request itself is the carrier's. Absent on purpose: addresses of people and everything that could hold a
//! token; a webhook is told what the operator's mail says, and the incident by a key to tell it apart.

use super::{
    Carrier, Post, Uncarried, Webhook, WebhookFormat,
    content::{in_short, step, what_is_wrong},
    message::Letter,
    smtp::Undelivered,
    words::shown,
};
use crate::core::{
    Secret, Timestamp,
    notices::{Audience, Notice, Subject},
};
use ring::hmac;
use serde_json::{Value, json};

/// Hands `letter` to the webhook.
///
/// # Errors
/// What to do about it; no error names the URL.
pub(super) async fn post(
    carrier: &Carrier,
    webhook: &Webhook,
    letter: &Letter<'_>,
) -> Result<(), Undelivered> {
    let later = |reason: &str, may_have_arrived| Undelivered::TryAgain {
        reason: reason.to_owned(),
        may_have_arrived,
    };
    let unreadable = |_| later("the file or variable with its URL or secret cannot be read", false);
    let url = webhook.url.read().map_err(unreadable)?;
    let secret = webhook.secret.as_ref().map(super::SecretRef::read).transpose();
    let body = body(webhook.format, letter);
    let mut headers = vec![("idempotency-key".to_owned(), plain(letter.message_key))];
    if let Some(secret) = secret.map_err(unreadable)? {
        headers.push((SIGNATURE.to_owned(), Secret::new(signature(&secret, letter.now, &body))));
    }
    match carrier(Post { url, headers, body }).await {
        Ok(status) => answered(status),
        Err(Uncarried::NotSent) => Err(later("no connection to the webhook", false)),
        Err(Uncarried::Lost) => Err(later("the webhook did not answer", true)),
    }
}

fn plain(text: &str) -> Secret {
    Secret::new(text.to_owned())
}

/// What the webhook said. It may have taken a notice that it answers with 5xx; it sees the same
/// `Idempotency-Key` again, so that is no doubt worth giving a notice up for.
fn answered(status: u16) -> Result<(), Undelivered> {
    let reason = format!("HTTP status {status}");
    match status {
        200..=299 => Ok(()),
        408 | 425 | 429 | 500..=599 => {
            Err(Undelivered::TryAgain { reason, may_have_arrived: false })
        }
        _ => Err(Undelivered::Pointless { reason }),
    }
}

/// `t=1800000000,s=5f…`: HMAC-SHA256 over the instant, a dot and the body, as the events that are sent to us.
fn signature(secret: &Secret, now: Timestamp, body: &str) -> String {
    let instant = now.as_unix().to_string();
    let key = hmac::Key::new(hmac::HMAC_SHA256, secret.expose().trim().as_bytes());
    let tag = hmac::sign(&key, [instant.as_bytes(), b".", body.as_bytes()].concat().as_slice());
    let digest: String = tag.as_ref().iter().map(|byte| format!("{byte:02x}")).collect();
    format!("t={instant},s={digest}")
}

fn body(format: WebhookFormat, letter: &Letter<'_>) -> String {
    match format {
        WebhookFormat::Json => as_json(letter).to_string(),
        WebhookFormat::Slack => json!({ "text": as_slack(letter) }).to_string(),
    }
}

fn as_json(letter: &Letter<'_>) -> Value {
    let notices: Vec<Value> =
        letter.notices.iter().map(|(key, notice)| notice_json(letter, key, notice)).collect();
    let many: Vec<Value> = letter
        .summary
        .many
        .iter()
        .map(|one| {
            json!({
                "provider": &*one.provider, "cause": one.cause.as_label(),
                "accounts": one.accounts, "owners": one.owners,
            })
        })
        .collect();
    json!({
        "version": 1,
        "id": letter.message_key,
        "sent_at": letter.now.as_unix(),
        "summary": letter.subject(),
        "total": letter.total(),
        "notices": notices,
        "many": many,
        "held_back": letter.summary.held,
    })
}

fn notice_json(letter: &Letter<'_>, key: &str, notice: &Notice) -> Value {
    let (kind, provider, name) = match &notice.subject {
        Subject::Account(id) => {
            ("account", Some(shown(&id.provider, NAME_MAX)), shown(&id.account, NAME_MAX))
        }
        Subject::App(app) => ("app", None, shown(app, NAME_MAX)),
        Subject::Store => ("store", None, String::new()),
        Subject::Host => ("sidecar", None, String::new()),
    };
    let lasts = notice.change.is_trouble();
    let scopes: Vec<String> =
        notice.missing_scopes.iter().take(SCOPES_MAX).map(|scope| shown(scope, NAME_MAX)).collect();
    json!({
        "incident": key,
        "change": notice.change.as_label(),
        "subject": kind,
        "provider": provider,
        "name": name,
        "cause": notice.cause.as_label(),
        "severity": notice.cause.severity(),
        "audience": if notice.audience == Audience::Owner { "owner" } else { "operator" },
        "what": if lasts { what_is_wrong(notice, letter.now) } else { in_short(notice).to_owned() },
        "step": lasts.then(|| step(notice)),
        "since": notice.since.as_unix(),
        "at": notice.at.as_unix(),
        "expires_at": notice.expires_at.map(Timestamp::as_unix),
        "missing_scopes": scopes,
        "accounts": notice.accounts,
        "posts_at_risk": notice.posts_at_risk,
    })
}

/// Slack's own markup, of which only three characters must be written otherwise.
fn as_slack(letter: &Letter<'_>) -> String {
    let words = super::content::words(letter);
    let mut lines: Vec<String> = Vec::new();
    let mut length = 0;
    for (nth, line) in words.text.lines().enumerate() {
        let line = line.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;");
        let line = if nth == 0 { format!("*{line}*") } else { line };
        length += line.chars().count() + 1;
        if length > SLACK_CHARS_MAX {
            lines.push("…".to_owned());
            break;
        }
        lines.push(line);
    }
    lines.join("\n")
}

/// The header with the signature.
const SIGNATURE: &str = "keepalive-signature";
const NAME_MAX: usize = 200;
const SCOPES_MAX: usize = 50;
const SLACK_CHARS_MAX: usize = 3_000;

#[cfg(test)]
mod tests {
    use super::{
        super::message::{
            Role,
            tests::{notice, with_letter},
        },
        *,
    };
    use crate::{
        core::{Cause, notices::Change},
        oauth::Signature,
    };
    use std::time::Duration;

    #[test]
    fn the_answer_decides_whether_it_is_tried_again() {
        for (status, expected) in [
            (200, "ok"),
            (204, "ok"),
            (301, "never"),
            (404, "never"),
            (410, "never"),
            (429, "later"),
            (503, "later"),
        ] {
            let found = match answered(status) {
                Ok(()) => "ok",
                Err(Undelivered::Pointless { .. }) => "never",
                Err(_) => "later",
            };
            assert_eq!(found, expected, "{status}");
        }
    }

    #[test]
    fn json_tells_the_incident_apart_and_holds_no_address() {
        let mut notice = notice("brand-a", Cause::ScopeMissing, Audience::Owner);
        notice.missing_scopes = vec!["video.publish".into()];
        let value = with_letter(&notice, as_json);
        assert_eq!(value["notices"][0]["incident"], "00ff");
        assert_eq!(value["notices"][0]["change"], "firing");
        assert_eq!(value["notices"][0]["name"], "brand-a");
        assert_eq!(value["notices"][0]["missing_scopes"][0], "video.publish");
        assert_eq!(value["total"], 1);
        assert!(!value.to_string().contains('@'), "{value}");
        notice.change = Change::Resolved;
        let end = with_letter(&notice, as_json);
        assert_eq!(
            (&end["notices"][0]["change"], &end["notices"][0]["step"]),
            (&json!("resolved"), &json!(null))
        );
    }

    #[test]
    fn slack_reads_the_mail_as_text_and_obeys_no_name() {
        let notice = notice("<!channel> & co", Cause::Unknown, Audience::Operator);
        let text = with_letter(&notice, as_slack);
        assert!(text.starts_with('*'), "{text}");
        assert!(text.contains("&lt;!channel&gt; &amp; co") && !text.contains('<'), "{text}");
        assert!(text.chars().count() <= SLACK_CHARS_MAX);
    }

    #[test]
    fn nobody_who_reads_a_channel_is_taken_for_the_owner_of_what_it_tells() {
        let mut notice = notice("brand-a", Cause::ConsentRevoked, Audience::Owner);
        let text = |notice: &_| {
            let channel =
                |letter: &Letter<'_>| as_slack(&Letter { role: Role::Channel, ..*letter });
            with_letter(notice, channel).split_whitespace().collect::<Vec<_>>().join(" ")
        };
        let told = text(&notice);
        assert!(told.contains("this channel is told of the TikTok account “brand-a”"), "{told}");
        assert!(told.contains("A few reminders follow"), "{told}");
        assert!(!told.contains("you are the owner") && !told.contains("one mail"), "{told}");
        notice.change = Change::Resolved;
        assert!(!text(&notice).contains("reminders"), "it is over");
    }

    #[test]
    fn the_signature_is_the_one_that_we_believe_ourselves() {
        let secret = Secret::new("invented".to_owned());
        let now = Timestamp::from_unix(1_800_000_000);
        let form = Signature {
            header: SIGNATURE.to_owned(),
            timestamp: "t".to_owned(),
            digest: "s".to_owned(),
            tolerance: Duration::from_secs(300),
        };
        let header = signature(&secret, now, "{}");
        assert_eq!(form.verify(&header, b"{}", &[secret], now), Ok(now));
    }
}
