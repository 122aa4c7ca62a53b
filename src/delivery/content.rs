//! What a mail with one notice says: subject, text and HTML. Pure, and finished before a template sees it: the
//! templates decide nothing. Many notices in one mail are in `digest`.

use super::{
    digest,
    message::{Letter, Role},
    samples,
    words::{Posts, readable, roughly, short, shown},
};
use crate::core::{
    Cause, Evidence, Gate, Timestamp,
    account::FAIL_TOGETHER,
    cause::Actor,
    diagnose::Step,
    notices::{Audience, Change, Notice, Subject},
    second_clock::Provenance,
};
use serde::Serialize;

/// The words of a mail, without addresses.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Words {
    /// `Subject`.
    pub(super) subject: String,
    /// The text part, at most 72 columns wide except for long names and links.
    pub(super) text: String,
    /// The HTML part.
    pub(super) html: String,
}

/// What the mail says.
#[must_use]
pub(super) fn words(letter: &Letter<'_>) -> Words {
    let (text, html) = match letter.only() {
        Some(notice) => letter.templates.fill_mail(&View::of(letter, notice)),
        None => letter.templates.fill_digest(&digest::View::of(letter)),
    };
    Words { subject: letter.subject(), text: wrapped(&text), html }
}

/// The first mail's line.
pub(super) fn subject_line(notice: &Notice) -> String {
    let about = match &notice.subject {
        Subject::Account(id) => shown(&id.to_string(), NAME_CHARS_MAX),
        other => shown(&other.to_string(), NAME_CHARS_MAX),
    };
    format!("[oauth-keepalive] {about}: {}", in_short(notice))
}

/// The few words for what is, or was, wrong.
pub(super) fn in_short(notice: &Notice) -> &'static str {
    match notice.step {
        Some(Step::Connect) => "not connected",
        Some(step) if step.is_about_publishing() => "publishing is refused",
        Some(Step::ApproveScopes) if is_about_app(notice) => "the app is not approved",
        _ => short(notice.cause),
    }
}

/// The connection works, and publishing is refused all the same.
fn is_about_publishing(notice: &Notice) -> bool {
    notice.step.is_some_and(Step::is_about_publishing)
}

const fn is_about_app(notice: &Notice) -> bool {
    matches!(notice.subject, Subject::App(_))
}

/// What has become of the posts.
pub(super) fn posts(notice: &Notice, now: Timestamp) -> Posts {
    match notice.step {
        Some(Step::Connect) => Posts::Stopped,
        Some(step) if step.is_about_publishing() => Posts::Held,
        _ => Posts::under(notice.cause, notice.expires_at, now),
    }
}

/// What the templates see: finished text, nothing to decide.
#[derive(Serialize)]
pub(super) struct View {
    heading: String,
    /// What a mail program shows beside the subject.
    preheader: String,
    /// The heading again in three pieces, so that the HTML can keep the name in one.
    heading_before: String,
    heading_name: String,
    heading_after: String,
    colour: &'static str,
    what: String,
    posts: String,
    step: Option<&'static str>,
    missing: Vec<String>,
    facts: Vec<Fact>,
    support: Option<String>,
    link: Option<String>,
    /// What stands on the button of `link`.
    link_label: String,
    /// What stands before the link in text.
    link_name: &'static str,
    /// True when the link mends the trouble.
    acts: bool,
    why: String,
}

#[derive(Serialize)]
struct Fact {
    label: &'static str,
    value: String,
}

impl View {
    /// What a template may name.
    pub(super) const PLACEHOLDERS: &'static [&'static str] = &[
        "heading",
        "preheader",
        "heading_before",
        "heading_name",
        "heading_after",
        "colour",
        "what",
        "posts",
        "step",
        "missing",
        "facts",
        "support",
        "link",
        "link_label",
        "link_name",
        "acts",
        "why",
    ];

    /// One of each kind, invented.
    pub(super) fn samples() -> Vec<Self> {
        let mut views = Vec::new();
        samples::each(|letter| views.extend(letter.only().map(|one| Self::of(letter, one))));
        views
    }

    pub(super) fn of(letter: &Letter<'_>, notice: &Notice) -> Self {
        let now = letter.now;
        let about = About::of(letter, notice);
        let lasts = notice.change.is_trouble();
        let (what, posts) = if lasts {
            let posts = posts(notice, now);
            (what_is_wrong(notice, now), with_risk(posts.sentence(now, letter.zone), notice))
        } else {
            what_is_over(notice)
        };
        let heading = about.heading(notice);
        let (before, after) = heading.split_once(&about.quoted).unwrap_or((&heading, ""));
        let link = link(letter, notice, &about);
        Self {
            heading_before: before.to_owned(),
            heading_name: about.quoted.clone(),
            heading_after: after.to_owned(),
            preheader: if lasts {
                format!("{heading}. {posts}")
            } else {
                format!("{heading}. {what}")
            },
            heading,
            colour: colour(notice),
            what: if notice.change == Change::Reminder { since(notice, now, &what) } else { what },
            posts,
            step: lasts.then(|| if link.acts { BY_LINK } else { step(notice) }),
            missing: if lasts { missing(notice) } else { Vec::new() },
            facts: facts(letter, notice, &about),
            support: support(letter, notice, &about),
            link: link.url,
            link_label: link.label,
            link_name: link.name,
            acts: link.acts,
            why: why(letter.role, notice, &about),
        }
    }
}

/// A link and what is written on it.
struct Link {
    url: Option<String>,
    label: String,
    name: &'static str,
    acts: bool,
}

/// The one thing to click: it mends the trouble where that can be done by a click, and shows it otherwise.
fn link(letter: &Letter<'_>, notice: &Notice, about: &About) -> Link {
    let url = reconnect_link(letter, notice);
    if url.is_some() {
        let label = format!("Reconnect {}", about.quoted);
        return Link { url, label, name: "Reconnect here", acts: true };
    }
    let url = letter.external_url.map(|url| shown(url, URL_CHARS_MAX));
    Link { url, label: "See the current status".to_owned(), name: "Status page", acts: false }
}

/// With which the account of `notice` is reconnected, for somebody who can do that.
pub(super) fn reconnect_link(letter: &Letter<'_>, notice: &Notice) -> Option<String> {
    let Subject::Account(id) = &notice.subject else { return None };
    let helps = notice.change.is_trouble()
        && notice.audience == Audience::Owner
        && !is_about_publishing(notice);
    let made = letter.links.filter(|_| helps).and_then(|links| links(id, letter.now))?;
    // A link that was cut would be another one.
    (made.len() <= LINK_BYTES_MAX && !made.chars().any(char::is_control)).then_some(made)
}

fn with_risk(posts: String, notice: &Notice) -> String {
    match notice.posts_at_risk {
        None | Some(0) => posts,
        Some(1) => format!("{posts} One planned post is at risk."),
        Some(many) => format!("{posts} {many} planned posts are at risk."),
    }
}

fn since(notice: &Notice, now: Timestamp, what: &str) -> String {
    let age = roughly(now.since(notice.since));
    format!("This is a reminder: for {age} nothing has changed. {what}")
}

/// What the notice is about, in words fit to be shown.
pub(super) struct About {
    /// `TikTok account “brand-a”`.
    pub(super) long: String,
    /// The provider's name for people, where an account is concerned.
    pub(super) provider: Option<String>,
    /// The name itself; empty where there is only one such thing.
    pub(super) name: String,
    /// The name as it stands in `long`.
    quoted: String,
}

impl About {
    pub(super) fn of(letter: &Letter<'_>, notice: &Notice) -> Self {
        let clean = |text: &str| shown(text, NAME_CHARS_MAX);
        let (kind, provider, name) = match &notice.subject {
            Subject::Account(id) => {
                let title = letter.titles.get(&*id.provider).map_or(&*id.provider, String::as_str);
                let provider = clean(title);
                (format!("{provider} account"), Some(provider), clean(&id.account))
            }
            Subject::App(app) => ("app".to_owned(), None, clean(app)),
            other => (other.to_string(), None, String::new()),
        };
        if name.is_empty() {
            return Self { long: kind, provider, name, quoted: String::new() };
        }
        let quoted = format!("“{name}”");
        Self { long: format!("{kind} {quoted}"), provider, name, quoted }
    }

    fn heading(&self, notice: &Notice) -> String {
        match (notice.change, notice.audience) {
            (Change::Firing | Change::Reminder, Audience::Owner)
                if notice.cause.actor() == Actor::Owner =>
            {
                let verb = if notice.step == Some(Step::Connect) { "connect" } else { "reconnect" };
                format!("Please {verb} your {}", self.long)
            }
            (Change::Firing | Change::Reminder, _) => {
                capitalised(&format!("{}: {}", self.long, in_short(notice)))
            }
            (_, Audience::Owner) => format!("Your {} works again", self.long),
            (_, Audience::Operator) => capitalised(&format!("{}: all is well again", self.long)),
        }
    }
}

pub(super) fn what_is_wrong(notice: &Notice, now: Timestamp) -> String {
    if fails_together(notice) {
        return FAIL_TOGETHER_WHAT.to_owned();
    }
    match notice.step {
        Some(Step::Connect) => return UNCONNECTED_WHAT.to_owned(),
        Some(step) if step.is_about_publishing() => return PUBLISHING_WHAT.to_owned(),
        Some(Step::ApproveScopes) if is_about_app(notice) => return UNAPPROVED_WHAT.to_owned(),
        _ => {}
    }
    let sentence = notice.cause.sentence();
    if notice.cause != Cause::NotRenewable {
        return sentence.to_owned();
    }
    if notice.expires_at.is_some_and(|end| end.has_come(now)) {
        return TOO_OLD.to_owned();
    }
    let is_estimate =
        |evidence: &Evidence| evidence.detail.as_deref() == Some(Provenance::Estimated.as_label());
    if notice.evidence.as_deref().is_some_and(is_estimate) {
        return format!("{sentence} {ESTIMATE}");
    }
    sentence.to_owned()
}

fn what_is_over(notice: &Notice) -> (String, String) {
    let lasted = roughly(notice.at.since(notice.since));
    let what = format!("The trouble is over; it lasted {lasted}. Nothing is left to do for it.");
    let posts = match (notice.audience, notice.gate) {
        (Audience::Operator, _) if !is_about_publishing(notice) => "Tokens are renewed again.",
        // It was proven late, or somebody holds the queue.
        (_, Gate::Canary) => "Posts go out again as soon as one has gone through.",
        (_, Gate::Held) => {
            "Posts are still held for another reason, and whoever can end that knows of it."
        }
        (Audience::Owner, Gate::Open) => {
            "Posts go out again. Please check in your publishing tool whether one was missed in the meantime."
        }
        (Audience::Operator, Gate::Open) => "Posts go out again.",
    };
    (what, posts.to_owned())
}

pub(super) const fn colour(notice: &Notice) -> &'static str {
    match (notice.change, notice.cause.severity()) {
        (Change::Firing | Change::Reminder, 4..) => "#c5221f",
        (Change::Firing | Change::Reminder, _) => "#e37400",
        (Change::Resolved | Change::Withdrawn, _) => "#188038",
    }
}

/// "It is tried again by itself" is true and not enough for somebody who is told because the token is
/// about to end.
pub(super) fn step(notice: &Notice) -> &'static str {
    if fails_together(notice) {
        return FAIL_TOGETHER_STEP;
    }
    if let Some(step) = notice.step {
        return step.sentence();
    }
    match notice.cause {
        Cause::AccessTokenExpired | Cause::RateLimited | Cause::ProviderOutage => {
            "It is tried again by itself. Look at the provider's status page if it lasts."
        }
        other => other.next_step(),
    }
}

/// The provider refuses its accounts one after the other; what it says of the app itself is another matter.
fn fails_together(notice: &Notice) -> bool {
    let detail = notice.evidence.as_ref().and_then(|evidence| evidence.detail.as_deref());
    detail == Some(FAIL_TOGETHER)
}

const UNCONNECTED_WHAT: &str = "The token store holds no token for this account: it was never connected, or somebody disconnected it.";

const UNAPPROVED_WHAT: &str = "An owner could not connect an account: the provider does not let the app ask for what it needs.";

const PUBLISHING_WHAT: &str =
    "The connection works, but the provider does not let this account publish.";

const FAIL_TOGETHER_WHAT: &str = "The provider refuses the accounts of this app one after the other. So many owners do not leave at once: the app is left alone, and only one token is tried now and then.";

const FAIL_TOGETHER_STEP: &str = "Check that client id and environment are those with which the accounts were connected. If they are, the provider has ended the connections, and the owners must reconnect; each of them hears of it a few hours after the account was refused.";

fn missing(notice: &Notice) -> Vec<String> {
    let mut names: Vec<String> = notice
        .missing_scopes
        .iter()
        .take(MISSING_MAX)
        .map(|name| shown(name, NAME_CHARS_MAX))
        .collect();
    if notice.missing_scopes.len() > MISSING_MAX {
        names.push(format!("and {} more", notice.missing_scopes.len() - MISSING_MAX));
    }
    names
}

fn facts(letter: &Letter<'_>, notice: &Notice, about: &About) -> Vec<Fact> {
    let readable = |at| readable(at, letter.zone);
    let mut facts = Vec::new();
    let mut add = |label, value| facts.push(Fact { label, value });
    if let Some(provider) = &about.provider {
        add("Account", format!("{} at {provider}", about.name));
    }
    if let Subject::App(_) = notice.subject {
        add("App", about.name.clone());
    }
    if notice.change == Change::Resolved {
        let what = match is_about_publishing(notice) {
            true => PUBLISHING_WHAT,
            false => notice.cause.sentence(),
        };
        add("What it was", what.to_owned());
    }
    if notice.change == Change::Resolved {
        add("Began", readable(notice.since));
        add("Ended", readable(notice.at));
    } else {
        add("Since", readable(notice.since));
    }
    if notice.audience == Audience::Operator {
        add("Cause", notice.cause.as_label().to_owned());
        // Of what is over none is left.
        if notice.change.is_trouble() {
            add("Accounts affected", notice.accounts.to_string());
        }
    }
    facts
}

/// One line to pass on: codes and numbers that only the provider's support understands.
fn support(letter: &Letter<'_>, notice: &Notice, about: &About) -> Option<String> {
    // What is announced was said by nobody.
    let evidence = notice.evidence.as_deref().filter(|e| e.cause != Cause::NotRenewable)?;
    let clean = |text: &str| shown(text, CODE_CHARS_MAX);
    let mut said = vec![notice.cause.as_label().to_owned()];
    said.extend(evidence.status.map(|status| format!("HTTP status {status}")));
    said.extend(evidence.code.as_deref().map(|code| format!("code {}", clean(code))));
    said.extend(evidence.detail.as_deref().map(|detail| format!("detail {}", clean(detail))));
    said.extend(evidence.log_id.as_deref().map(|log_id| format!("log id {}", clean(log_id))));
    said.push(format!("seen {}", readable(evidence.at, letter.zone)));
    let who = about.provider.as_ref().map(|name| format!("{name}: ")).unwrap_or_default();
    Some(who + &said.join(", "))
}

fn why(role: Role, notice: &Notice, about: &About) -> String {
    let reason = match role {
        Role::Owner => format!("you are the owner of the {}", about.long),
        Role::Operator => "you run oauth-keepalive".to_owned(),
        Role::StandIn => format!(
            "you run oauth-keepalive and no mail address is known for the owner of the {}",
            about.long
        ),
        Role::Channel => format!("this channel is told of the {}", about.long),
    };
    let again = if notice.change.is_trouble() { again(role) } else { "" };
    format!(
        "You receive this because {reason}. It was sent by oauth-keepalive, which keeps the \
         connections of your publishing tool alive. It never asks for a password.{again}"
    )
}

/// What follows while the trouble lasts.
pub(super) const fn again(role: Role) -> &'static str {
    match role {
        Role::Channel => " A few reminders follow while it lasts, and a last word when it is over.",
        Role::Owner | Role::Operator | Role::StandIn => {
            " You get a few reminders while it lasts, and one mail when it is over."
        }
    }
}

pub(super) fn capitalised(text: &str) -> String {
    let mut chars = text.chars();
    chars.next().map_or_else(String::new, |first| first.to_uppercase().chain(chars).collect())
}

/// Breaks lines at spaces; a word that is wider than a line stays whole, because it is a link or a name.
fn wrapped(text: &str) -> String {
    let mut lines: Vec<String> = Vec::new();
    for line in text.trim_end().lines() {
        if line.is_empty() && lines.last().is_some_and(String::is_empty) {
            continue;
        }
        let is_deeper = line.starts_with("  ");
        let indent = if is_deeper || line.starts_with("- ") { "  " } else { "" };
        let mut current = if is_deeper { indent.to_owned() } else { String::new() };
        for word in line.trim_start().split(' ') {
            let width = current.chars().count() + 1 + word.chars().count();
            if width > TEXT_COLUMNS && !current.trim().is_empty() {
                lines.push(std::mem::replace(&mut current, indent.to_owned()));
                current.push_str(word);
            } else {
                if !current.trim().is_empty() {
                    current.push(' ');
                }
                current.push_str(word);
            }
        }
        lines.push(current);
    }
    lines.join("\n") + "\n"
}

/// What to do where there is a link that does it.
pub(super) const BY_LINK: &str = "Open the link, log in, and grant everything that is asked for. Nothing else is needed: posting goes on by itself.";
const TOO_OLD: &str = "The connection became too old to be renewed and has ended.";
const ESTIMATE: &str = "The provider does not say when that is; the date is an estimate.";
/// What RFC 5322 section 2.1.1 leaves of 78 columns once a reply has quoted it.
const TEXT_COLUMNS: usize = 72;
pub(super) const NAME_CHARS_MAX: usize = 64;
const CODE_CHARS_MAX: usize = 80;
pub(super) const URL_CHARS_MAX: usize = 500;
const LINK_BYTES_MAX: usize = 2_000;
const MISSING_MAX: usize = 16;

#[cfg(test)]
mod tests {
    use super::{
        super::message::tests::{SINCE, notice, with_letter},
        *,
    };
    use crate::{core::diagnose::Step, state::Thread};
    use std::{sync::Arc, time::Duration};

    #[test]
    fn what_the_diagnosis_says_to_do_goes_before_what_the_cause_says() {
        let mut notice = notice("brand-a", Cause::WrongEnvironment, Audience::Operator);
        let by_cause = with_letter(&notice, words).text;
        assert!(unwrapped(&by_cause).contains(Cause::WrongEnvironment.next_step()), "{by_cause}");
        notice.step = Some(Step::CompareAccount);
        let by_step = with_letter(&notice, words).text;
        assert!(unwrapped(&by_step).contains(Step::CompareAccount.sentence()), "{by_step}");
        assert!(!unwrapped(&by_step).contains(Cause::WrongEnvironment.next_step()), "{by_step}");
    }

    #[test]
    fn an_operator_reads_that_the_accounts_of_an_app_are_refused_together() {
        let mut notice = notice("", Cause::AppCredentialsRejected, Audience::Operator);
        notice.subject = Subject::App("main".into());
        let mut evidence = Evidence::of(Cause::AppCredentialsRejected, notice.at);
        evidence.detail = Some(FAIL_TOGETHER.into());
        notice.evidence = Some(Arc::new(evidence));
        let text = unwrapped(&with_letter(&notice, words).text);
        assert!(text.contains("one after the other"), "{text}");
        assert!(text.contains("Check that client id and environment"), "{text}");
    }

    fn unwrapped(text: &str) -> String {
        text.replace('\n', " ")
    }

    #[test]
    fn an_owner_reads_what_happened_since_when_and_what_to_do() {
        let mut notice = notice("brand-a", Cause::ScopeMissing, Audience::Owner);
        notice.missing_scopes = vec!["video.publish".into()];
        let words = with_letter(&notice, words);
        assert_eq!(
            words.subject,
            "[oauth-keepalive] tiktok/brand-a: a permission is missing, please reconnect"
        );
        let expected = "\
Please reconnect your TikTok account “brand-a”

A permission that publishing needs was not granted. Posts that need this
permission are not going out now.

WHAT TO DO
Reconnect the account in your publishing tool and grant every permission
it asks for.

MISSING PERMISSIONS
- video.publish

DETAILS
Account: brand-a at TikTok
Since: 22 November 2026, 10:31 UTC
Status page: https://keeper.example.com

You receive this because you are the owner of the TikTok account
“brand-a”. It was sent by oauth-keepalive, which keeps the connections
of your publishing tool alive. It never asks for a password. You get a
few reminders while it lasts, and one mail when it is over.
";
        assert_eq!(words.text, expected);
    }

    #[test]
    fn owners_are_spared_the_jargon_and_operators_are_not() {
        for cause in Cause::ALL {
            let owner = with_letter(&notice("a", cause, Audience::Owner), words);
            let operator = with_letter(&notice("a", cause, Audience::Operator), words);
            assert!(!owner.text.contains(cause.as_label()), "{cause:?}");
            assert!(operator.text.contains(&format!("Cause: {}", cause.as_label())), "{cause:?}");
            assert!(operator.text.contains("Accounts affected: 1"), "{cause:?}");
            assert_eq!(owner.subject, operator.subject, "{cause:?}");
        }
        let mut app = notice("a", Cause::AppCredentialsRejected, Audience::Operator);
        app.subject = Subject::App("main".into());
        app.accounts = 120;
        let text = with_letter(&app, words).text;
        assert!(
            text.contains("App: main\n") && text.contains("Accounts affected: 120\n"),
            "{text}"
        );
    }

    #[test]
    fn a_resolved_mail_has_the_line_of_its_firing_mail_and_leaves_nothing_to_do() {
        for cause in Cause::ALL {
            for audience in [Audience::Owner, Audience::Operator] {
                let mut notice = notice("brand-a", cause, audience);
                let firing = with_letter(&notice, words);
                notice.change = Change::Resolved;
                notice.at = SINCE.plus(Duration::from_secs(7200));
                let resolved = with_letter(&notice, |letter| {
                    let subject = Some(firing.subject.clone());
                    let threads = [Thread { key: "0a1b-1".to_owned(), subject }];
                    words(&Letter { threads: &threads, ..*letter })
                });
                assert_eq!(resolved.subject, format!("Re: {}", firing.subject));
                assert!(resolved.text.contains("it lasted about 2 hours"), "{}", resolved.text);
                assert!(firing.text.contains("WHAT TO DO"), "{}", firing.text);
                assert!(!resolved.text.contains("WHAT TO DO"), "{}", resolved.text);
                assert!(!resolved.text.contains("Please reconnect"), "{}", resolved.text);
            }
        }
    }

    #[test]
    fn a_resolved_mail_says_of_posts_what_the_gate_lets_through() {
        for (gate, says) in [
            (Gate::Open, "Posts go out again. Please check"),
            (Gate::Canary, "as soon as one has gone through"),
            (Gate::Held, "still held"),
        ] {
            let mut notice = notice("brand-a", Cause::ConsentRevoked, Audience::Owner);
            (notice.change, notice.gate) = (Change::Resolved, gate);
            let words = with_letter(&notice, words);
            let text = words.text.split_whitespace().collect::<Vec<_>>().join(" ");
            assert!(text.contains(says), "{text}");
            assert_eq!(text.contains("Please check"), gate == Gate::Open, "{text}");
        }
    }

    #[test]
    fn text_and_html_tell_the_same_and_the_text_fits_its_columns() {
        for cause in Cause::ALL {
            for audience in [Audience::Owner, Audience::Operator] {
                let words = with_letter(&notice("brand-a", cause, audience), words);
                for part in [&words.text, &words.html] {
                    for needed in ["22 November 2026, 10:31 UTC", "brand-a", "keeper.example.com"] {
                        assert!(
                            part.replace("&#x2f;", "/").contains(needed),
                            "{cause:?}: {needed} is missing in {part}"
                        );
                    }
                }
                for line in words.text.lines() {
                    assert!(line.chars().count() <= TEXT_COLUMNS, "{line}");
                    assert_eq!(line, line.trim_end(), "{line}");
                }
                assert!(!words.text.contains("\n\n\n"), "{}", words.text);
            }
        }
    }

    #[test]
    fn the_support_line_carries_the_providers_codes_and_no_more() {
        let mut notice = notice("brand-a", Cause::ConsentRevoked, Audience::Owner);
        notice.evidence = Some(Arc::new(Evidence {
            code: Some("invalid_grant\r\nX: y".into()),
            log_id: Some("202611221031A1".into()),
            status: Some(400),
            ..Evidence::of(Cause::ConsentRevoked, SINCE)
        }));
        let text = with_letter(&notice, words).text.replace('\n', " ");
        let expected = "TikTok: consent_revoked, HTTP status 400, code invalid_grant\u{fffd}\u{fffd}X: y, \
                        log id 202611221031A1, seen 22 November 2026, 10:31 UTC";
        assert!(text.contains(expected), "{text}");
    }

    #[test]
    fn an_announced_end_says_until_when_posts_go_out_and_whether_that_is_a_guess() {
        let mut notice = notice("brand-a", Cause::NotRenewable, Audience::Owner);
        notice.expires_at = Some(SINCE.plus(Duration::from_secs(21 * 24 * 3_600)));
        let estimate = Evidence {
            detail: Some("estimated".into()),
            ..Evidence::of(Cause::NotRenewable, SINCE)
        };
        let rows = [
            (None, "works now but cannot be renewed before it ends. Posts still go out until"),
            (Some(estimate), "the date is an estimate. Posts still go out until"),
        ];
        for (evidence, expected) in rows {
            notice.evidence = evidence.map(Arc::new);
            let text = with_letter(&notice, words).text.replace('\n', " ");
            assert!(text.contains(expected), "{text}");
            assert!(text.contains("Please reconnect your") && !text.contains("detail"), "{text}");
        }
        notice.expires_at = Some(SINCE);
        let text = with_letter(&notice, words).text.replace('\n', " ");
        assert!(
            text.contains("too old to be renewed and has ended. Posts are not going"),
            "{text}"
        );
    }

    #[test]
    fn html_escapes_what_text_shows_as_it_is() {
        let words = with_letter(&notice("<b>&\"'", Cause::Unknown, Audience::Owner), words);
        assert!(words.text.contains("“<b>&\"'”"), "{}", words.text);
        assert!(!words.html.contains("<b>"), "{}", words.html);
        assert!(words.html.contains("&lt;b&gt;&amp;&quot;&#x27;"), "{}", words.html);
    }

    #[test]
    fn the_html_loads_nothing_from_anywhere() {
        let html = with_letter(&notice("a", Cause::Unknown, Audience::Owner), words).html;
        for remote in ["src=", "url(", "@import", "<link", "<script", "<img", "http:"] {
            assert!(!html.contains(remote), "{remote} in {html}");
        }
        assert_eq!(html.matches("<h1").count(), 1);
    }
}
