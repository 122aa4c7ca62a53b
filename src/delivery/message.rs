//! Notices as a mail with its headers. Pure: the same letter gives the same mail.
//!
//! Absent on purpose: remote resources in the HTML, more than one recipient, and anything that could
//! hold a token: a [`Notice`] has no room for one.

use super::{
    Links,
    content::{self, Words, words},
    digest,
    templates::Templates,
};
use crate::{
    core::{
        Cause, Secret, Timestamp,
        digest::Summary,
        notices::{Change, Notice},
    },
    state::Thread,
};
use jiff::tz::TimeZone;
use lettre::{
    Address, Message,
    message::{
        Mailbox, MultiPart,
        header::{HeaderName, HeaderValue},
    },
};
use std::{
    collections::BTreeMap,
    fmt,
    time::{Duration, SystemTime},
};

/// Everything that one mail is made of.
#[derive(Clone, Copy)]
pub struct Letter<'a> {
    /// What it says, oldest first, each with a key of its incident; of many only the first.
    pub notices: &'a [(String, Notice)],
    /// All that it says, counted.
    pub counts: &'a [(Change, Cause, usize)],
    /// What it tells the operator about other people's mails.
    pub summary: &'a Summary,
    /// When it is sent: "posts still go out" must be true when it is read, not when it was decided.
    pub now: Timestamp,
    /// The providers' names for people, by provider; a provider's own name is used where there is none.
    pub titles: &'a BTreeMap<String, String>,
    /// Why this person receives it.
    pub role: Role,
    /// Where this person lives.
    pub zone: &'a TimeZone,
    /// Base URL of the status page.
    pub external_url: Option<&'a str>,
    /// Makes the link that reconnects an account.
    pub links: Option<&'a Links>,
    /// `From`.
    pub from: &'a Secret,
    /// The one recipient.
    pub to: &'a Secret,
    /// The stable part of `Message-ID`.
    pub message_key: &'a str,
    /// The first mails of its incidents, for a mail that follows them.
    pub threads: &'a [Thread],
    /// The shape of it.
    pub templates: &'a Templates,
}

impl fmt::Debug for Letter<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Letter").field("message_key", &self.message_key).finish_non_exhaustive()
    }
}

impl Letter<'_> {
    /// The one notice of it, where it has one and says nothing else.
    #[must_use]
    pub fn only(&self) -> Option<&Notice> {
        match self.notices {
            [(_, notice)] if self.total() == 1 && self.summary.is_empty() => Some(notice),
            _ => None,
        }
    }

    /// How many notices it stands for.
    #[must_use]
    pub fn total(&self) -> usize {
        let counted = self.counts.iter().map(|(_, _, count)| *count).sum();
        self.notices.len().max(counted)
    }

    /// The subject line. A mail that follows another has its line, or mail programs do not put the two together:
    /// for some of them the line decides, and `Re:` is the one word that they look past.
    #[must_use]
    pub fn subject(&self) -> String {
        let own = || match self.only() {
            Some(notice) => content::subject_line(notice),
            None => digest::subject_line(self),
        };
        match self.threads {
            [] => own(),
            [thread] => {
                let line = thread.subject.clone().unwrap_or_else(own);
                if line.starts_with(FOLLOWS) { line } else { format!("{FOLLOWS}{line}") }
            }
            _ => own(),
        }
    }
}

/// Why somebody receives a mail. Told in its last line, because an unexpected mail that asks to
/// reconnect an account is what phishing looks like.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Role {
    /// The account is theirs.
    Owner,
    /// They run the sidecar.
    Operator,
    /// They run the sidecar, and nobody knows whose account it is.
    StandIn,
    /// A webhook shows it to whoever reads there.
    Channel,
}

/// A letter cannot become a mail, however often it is tried.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Unsendable {
    /// Withdrawn notices are nobody's mail.
    #[error("the notice was withdrawn")]
    Withdrawn,
    /// The configured sender is not a mail address.
    #[error("`mail.from` is not a mail address")]
    Sender,
    /// The recipient is not a mail address.
    #[error("the recipient is not a mail address")]
    Recipient,
}

/// The whole mail with its headers.
///
/// # Errors
/// When an address cannot be read, or the notice was withdrawn.
pub fn render(letter: &Letter<'_>) -> Result<Message, Unsendable> {
    if letter.notices.iter().any(|(_, notice)| notice.change == Change::Withdrawn) {
        return Err(Unsendable::Withdrawn);
    }
    let from = mailbox(letter.from).ok_or(Unsendable::Sender)?;
    // Only the address: a display name out of somebody's database has no business in a header.
    let to = mailbox(letter.to).ok_or(Unsendable::Recipient)?.email;
    Ok(assemble(letter, from, to, words(letter)))
}

/// A mail that says that mails arrive.
///
/// # Errors
/// When an address cannot be read.
pub fn test_mail(from: &Secret, to: &Secret, now: Timestamp) -> Result<Message, Unsendable> {
    let from = mailbox(from).ok_or(Unsendable::Sender)?;
    let to = mailbox(to).ok_or(Unsendable::Recipient)?.email;
    let key = format!("test-{}", now.as_unix());
    let letter = Letter {
        notices: &[],
        counts: &[],
        summary: &Summary::default(),
        now,
        titles: &BTreeMap::new(),
        role: Role::Operator,
        zone: &TimeZone::UTC,
        external_url: None,
        links: None,
        from: &Secret::new(String::new()),
        to: &Secret::new(String::new()),
        message_key: &key,
        threads: &[],
        templates: &Templates::built_in(),
    };
    let words = Words {
        subject: "[oauth-keepalive] Test".to_owned(),
        text: format!("{TEST}\n"),
        html: format!("<!doctype html><html lang=\"en\"><body><p>{TEST}</p></body></html>"),
    };
    Ok(assemble(&letter, from, to, words))
}

/// True when `address` can be a recipient.
#[must_use]
pub fn is_address(address: &Secret) -> bool {
    mailbox(address).is_some()
}

fn mailbox(address: &Secret) -> Option<Mailbox> {
    let text = address.expose().trim();
    // The parser accepts folded lines; nothing that spans lines is an address here.
    if text.len() > ADDRESS_BYTES_MAX || text.chars().any(char::is_control) {
        return None;
    }
    text.parse().ok()
}

fn assemble(letter: &Letter<'_>, from: Mailbox, to: Address, words: Words) -> Message {
    let host = from.email.domain().to_owned();
    let mut builder = Message::builder()
        .date(SystemTime::UNIX_EPOCH + Duration::from_secs(letter.now.as_unix().unsigned_abs()))
        .message_id(Some(message_id(letter.message_key, &host)))
        .raw_header(plain("List-Id", format!("oauth-keepalive <oauth-keepalive.{host}>")))
        // RFC 3834 section 5; the second is what Exchange obeys. Neither may call out a holiday reply.
        .raw_header(plain("Auto-Submitted", "auto-generated".to_owned()))
        .raw_header(plain("X-Auto-Response-Suppress", "All".to_owned()))
        .from(from)
        .to(Mailbox::new(None, to))
        .subject(words.subject);
    let threads: Vec<String> =
        letter.threads.iter().map(|thread| message_id(&thread.key, &host)).collect();
    if let Some(last) = threads.last() {
        builder = builder.in_reply_to(last.clone()).references(threads.join(" "));
    }
    builder
        .multipart(MultiPart::alternative_plain_html(words.text, words.html))
        .expect("sender, recipient and date are set")
}

fn plain(name: &'static str, value: String) -> HeaderValue {
    HeaderValue::new(HeaderName::new_from_ascii_str(name), value)
}

/// Our keys are plain already; whatever is not could end the header.
fn message_id(key: &str, host: &str) -> String {
    let plain: String = key
        .chars()
        .take(KEY_CHARS_MAX)
        .map(|c| if c.is_ascii_alphanumeric() || "-_.".contains(c) { c } else { '-' })
        .collect();
    format!("<{plain}@{host}>")
}

const TEST: &str =
    "This is a test of oauth-keepalive. Mails arrive; nothing is wrong and nothing is to be done.";

/// Before the subject line of a mail that follows another.
const FOLLOWS: &str = "Re: ";
const KEY_CHARS_MAX: usize = 64;
/// RFC 5321 allows 254 for the address; the rest is for a display name.
const ADDRESS_BYTES_MAX: usize = 512;

#[cfg(test)]
pub(super) mod tests {
    use super::*;
    use crate::core::{
        AccountId, Cause, Gate,
        notices::{Audience, Subject},
    };

    /// 22 November 2026, 10:31 UTC.
    pub(in crate::delivery) const SINCE: Timestamp = Timestamp::from_unix(1_795_343_460);

    pub(in crate::delivery) fn notice(account: &str, cause: Cause, audience: Audience) -> Notice {
        Notice {
            subject: Subject::Account(AccountId::new("tiktok", account)),
            cause,
            change: Change::Firing,
            audience,
            since: SINCE,
            at: SINCE.plus(Duration::from_secs(60)),
            expires_at: Some(SINCE.plus(Duration::from_secs(7200))),
            evidence: None,
            step: None,
            missing_scopes: Vec::new(),
            accounts: 1,
            posts_at_risk: None,
            gate: Gate::Open,
        }
    }

    fn secret(text: &str) -> Secret {
        Secret::new(text.to_owned())
    }

    /// Calls `look` with the letter that an ordinary owner of `notice` gets.
    pub(in crate::delivery) fn with_letter<R>(
        notice: &Notice,
        look: impl FnOnce(&Letter<'_>) -> R,
    ) -> R {
        let change = if notice.change.is_trouble() { Change::Firing } else { notice.change };
        look(&Letter {
            notices: &[("00ff".to_owned(), notice.clone())],
            counts: &[(change, notice.cause, 1)],
            summary: &Summary::default(),
            now: notice.at,
            titles: &BTreeMap::from([("tiktok".to_owned(), "TikTok".to_owned())]),
            role: match notice.audience {
                Audience::Owner => Role::Owner,
                Audience::Operator => Role::Operator,
            },
            zone: &TimeZone::UTC,
            external_url: Some("https://keeper.example.com"),
            links: None,
            from: &secret("Keeper <keeper@example.com>"),
            to: &secret("anna@example.com"),
            message_key: "0a1b-2",
            threads: &[],
            templates: &Templates::built_in(),
        })
    }

    fn formatted(notice: &Notice) -> String {
        let message = with_letter(notice, render).unwrap();
        String::from_utf8(message.formatted()).unwrap()
    }

    #[test]
    fn no_name_can_add_a_header_a_recipient_or_a_line() {
        let long = "n".repeat(10 * 1024);
        let names = [
            "x\r\nBcc: a@b",
            "x\nBcc: a@b",
            "x\rBcc: a@b",
            "x\r\n\r\n<h1>free</h1>",
            "nul\0name",
            "חשבון\u{202e}abc",
            "👩‍👩‍👧 studio",
            "\"}\n",
            "=?utf-8?q?x=0D=0ABcc:_a@b?=",
            long.as_str(),
        ];
        for name in names {
            let mut notice = notice(name, Cause::ScopeMissing, Audience::Owner);
            notice.missing_scopes = vec![name.into()];
            let message = with_letter(&notice, render).unwrap();
            assert_eq!(message.envelope().to().len(), 1, "{name:?}");
            let text = String::from_utf8(message.formatted()).unwrap();
            let (head, _) = text.split_once("\r\n\r\n").unwrap();
            let fields: Vec<&str> = head
                .split("\r\n")
                .filter(|line| !line.starts_with([' ', '\t']))
                .map(|line| line.split(':').next().unwrap())
                .collect();
            let expected = [
                "Date",
                "Message-ID",
                "List-Id",
                "Auto-Submitted",
                "X-Auto-Response-Suppress",
                "From",
                "To",
                "Subject",
                "MIME-Version",
                "Content-Type",
            ];
            assert_eq!(fields, expected, "{name:?}");
            assert!(text.len() < 16 * 1024, "{name:?} makes a mail of {} bytes", text.len());
            for line in text.split("\r\n") {
                assert!(
                    line.len() <= 998 && !line.contains(['\r', '\n', '\0']),
                    "{name:?}: {line:?}"
                );
            }
            let Words { subject, html, .. } = with_letter(&notice, words);
            assert!(!html.contains("<h1>free"), "{name:?}");
            assert!(!subject.chars().any(char::is_control), "{subject:?}");
            assert!(subject.chars().count() < 160, "{subject:?}");
        }
    }

    #[test]
    fn every_attempt_carries_the_same_message_id_and_the_follower_names_the_first() {
        let mut notice = notice("brand-a", Cause::ConsentRevoked, Audience::Owner);
        let first = formatted(&notice);
        assert!(first.contains("Message-ID: <0a1b-2@example.com>\r\n"), "{first}");
        assert!(!first.contains("References"), "{first}");
        notice.change = Change::Resolved;
        let second = with_letter(&notice, |letter| {
            let letter = Letter {
                message_key: "next>\r\nBcc: x",
                threads: &[Thread { key: "0a1b-2".to_owned(), subject: Some("What?".to_owned()) }],
                ..*letter
            };
            String::from_utf8(render(&letter).unwrap().formatted()).unwrap()
        });
        for line in [
            "Message-ID: <next---Bcc--x@example.com>\r\n",
            "In-Reply-To: <0a1b-2@example.com>\r\n",
            "References: <0a1b-2@example.com>\r\n",
            "Subject: Re: What?\r\n",
            "Auto-Submitted: auto-generated\r\n",
            "X-Auto-Response-Suppress: All\r\n",
        ] {
            assert!(second.contains(line), "{line} is missing in {second}");
        }
    }

    #[test]
    fn an_address_that_is_none_is_refused_and_a_display_name_is_dropped() {
        let notice = notice("a", Cause::Unknown, Audience::Owner);
        let cases = [
            ("anna@example.com", Ok("anna@example.com")),
            ("Anna <anna@example.com>", Ok("anna@example.com")),
            (" anna@example.com\n", Ok("anna@example.com")),
            ("", Err(Unsendable::Recipient)),
            ("anna", Err(Unsendable::Recipient)),
            ("anna@example.com, bob@example.com", Err(Unsendable::Recipient)),
            ("anna@example.com\r\nBcc: bob@example.com", Err(Unsendable::Recipient)),
            ("anna@example.com> SIZE=1\r\nRCPT TO:<bob@example.com", Err(Unsendable::Recipient)),
        ];
        for (address, expected) in cases {
            let result =
                with_letter(&notice, |letter| render(&Letter { to: &secret(address), ..*letter }));
            let to = result.map(|mail| mail.envelope().to()[0].to_string());
            assert_eq!(to, expected.map(str::to_owned), "{address:?}");
        }
        let sender = with_letter(&notice, |letter| {
            render(&Letter { from: &secret("nobody"), ..*letter }).map(|_| ())
        });
        assert_eq!(sender, Err(Unsendable::Sender));
    }

    #[test]
    fn nobody_is_mailed_about_what_was_withdrawn() {
        let mut notice = notice("a", Cause::Unknown, Audience::Owner);
        notice.change = Change::Withdrawn;
        assert_eq!(with_letter(&notice, render).map(|_| ()), Err(Unsendable::Withdrawn));
    }
}
