//! What a mail with many notices says: what happened, to which accounts, and what to do, once for all of them.

use super::{
    content::{
        About, BY_LINK, NAME_CHARS_MAX, URL_CHARS_MAX, again, capitalised, colour, in_short, posts,
        reconnect_link, step, what_is_wrong,
    },
    message::{Letter, Role},
    samples,
    words::{readable, roughly, short, shown},
};
use crate::core::{
    Cause,
    cause::Actor,
    digest::Many,
    notices::{Audience, Change, Notice},
};
use serde::Serialize;
use std::collections::BTreeSet;

/// The line of a mail that follows no other.
pub(super) fn subject_line(letter: &Letter<'_>) -> String {
    format!("[oauth-keepalive] {}", headline(letter))
}

/// What the templates see: finished text, nothing to decide.
#[derive(Serialize)]
pub(super) struct View {
    heading: String,
    /// What a mail program shows beside the subject.
    preheader: String,
    colour: &'static str,
    /// What happened to other people's accounts, for the operator.
    summary: Vec<String>,
    /// The notices, those of one cause together.
    groups: Vec<Group>,
    /// How many more there are, where they are not all listed.
    more: Option<String>,
    link: Option<String>,
    why: String,
}

#[derive(Serialize)]
struct Group {
    what: String,
    step: Option<&'static str>,
    entries: Vec<Entry>,
}

#[derive(Serialize)]
struct Entry {
    name: String,
    provider: String,
    detail: String,
    link: Option<String>,
}

impl View {
    /// What a template may name.
    pub(super) const PLACEHOLDERS: &'static [&'static str] =
        &["heading", "preheader", "colour", "summary", "groups", "more", "link", "why"];

    pub(super) fn of(letter: &Letter<'_>) -> Self {
        let listed = letter.notices.len();
        let rest = letter.total().saturating_sub(listed);
        let heading = capitalised(&headline(letter));
        let groups = groups(letter);
        let worst = letter.notices.iter().map(|(_, notice)| notice);
        let worst =
            worst.max_by_key(|notice| (notice.change.is_trouble(), notice.cause.severity()));
        let summary = summary(letter);
        let names: Vec<&str> = groups
            .iter()
            .flat_map(|group| &group.entries)
            .take(NAMED_MAX)
            .map(|entry| entry.name.as_str())
            .collect();
        let preheader = if names.is_empty() {
            summary.join(" ")
        } else {
            let rest = letter.total() - names.len();
            let rest = if rest > 0 { format!(" and {}", more(rest)) } else { String::new() };
            format!("{heading}: {}{rest}.", names.join(", "))
        };
        Self {
            heading,
            preheader,
            colour: worst.map_or(WARNING, colour),
            summary,
            groups,
            more: (rest > 0).then(|| format!("And {}.", more(rest))),
            link: letter.external_url.map(|url| shown(url, URL_CHARS_MAX)),
            why: why(letter),
        }
    }

    /// One of each kind, invented.
    pub(super) fn samples() -> Vec<Self> {
        let mut views = Vec::new();
        samples::each(|letter| {
            if letter.only().is_none() {
                views.push(Self::of(letter));
            }
        });
        views
    }
}

/// What a mail program shows first: how many, and what of.
fn headline(letter: &Letter<'_>) -> String {
    let total = letter.total();
    if total == 0 {
        return match letter.summary.many.as_slice() {
            [] => format!("{} held back by a cap on mails", notices(letter.summary.held)),
            many => headline_of_many(many),
        };
    }
    let is_over = letter.counts.iter().all(|(change, _, _)| !change.is_trouble());
    let for_owners = letter.notices.iter().all(|(_, one)| one.audience == Audience::Owner);
    let causes: BTreeSet<&str> = letter.counts.iter().map(|(_, cause, _)| short(*cause)).collect();
    let one_cause = if let [only] = Vec::from_iter(causes)[..] { Some(only) } else { None };
    match (is_over, for_owners, one_cause) {
        (true, true, _) => format!("{} again", works(total)),
        (true, false, _) if total == 1 => "1 problem is over".to_owned(),
        (true, false, _) => format!("{total} problems are over"),
        (false, true, Some(cause)) => format!("{}: {cause}", accounts(total)),
        (false, true, None) => format!("{} need you", accounts(total)),
        (false, false, Some(cause)) => format!("{}: {cause}", problems(total)),
        (false, false, None) => format!("{} need you", problems(total)),
    }
}

fn headline_of_many(many: &[Many]) -> String {
    let total = many.iter().map(|one| one.accounts).sum();
    let causes: BTreeSet<&str> = many.iter().map(|one| short(one.cause)).collect();
    match Vec::from_iter(causes)[..] {
        [cause] => format!("{}: {}", accounts(total), without_request(cause)),
        _ => format!("{} failed within minutes", accounts(total)),
    }
}

/// The operator cannot reconnect anything.
fn without_request(cause: &str) -> &str {
    cause.strip_suffix(", please reconnect").unwrap_or(cause)
}

fn works(total: usize) -> String {
    if total == 1 { "1 account works".to_owned() } else { format!("{total} accounts work") }
}

fn accounts(total: usize) -> String {
    if total == 1 { "1 account".to_owned() } else { format!("{total} accounts") }
}

fn problems(total: usize) -> String {
    if total == 1 { "1 problem".to_owned() } else { format!("{total} problems") }
}

fn notices(total: usize) -> String {
    if total == 1 { "1 notice is".to_owned() } else { format!("{total} notices are") }
}

fn more(rest: usize) -> String {
    format!("{rest} more")
}

/// What is told about other people's mails, in sentences.
fn summary(letter: &Letter<'_>) -> Vec<String> {
    let of_many = |one: &Many| {
        let title = letter.titles.get(&*one.provider).map_or(&*one.provider, String::as_str);
        let owners = if one.owners == 1 { "1 owner" } else { "different owners" };
        let owners =
            if one.owners > 1 { format!("{} {owners}", one.owners) } else { owners.to_owned() };
        format!(
            "{}: {} of {owners}, {} ({}). The owners were told.",
            shown(title, NAME_CHARS_MAX),
            accounts(one.accounts),
            without_request(short(one.cause)),
            one.cause.as_label()
        )
    };
    let mut said: Vec<String> = letter.summary.many.iter().map(of_many).collect();
    if !said.is_empty() {
        said.push(MANY_HINT.to_owned());
    }
    if letter.summary.held > 0 {
        said.push(format!(
            "{} held back by a cap on mails (mail.caps). Nothing is lost: they are in the next mail to the same person.",
            capitalised(&notices(letter.summary.held))
        ));
    }
    said
}

/// Notices with the same cause and the same way to mend it are told once, with their accounts below.
fn groups(letter: &Letter<'_>) -> Vec<Group> {
    let mut groups: Vec<((Cause, bool, &'static str), Group)> = Vec::new();
    for (_, notice) in letter.notices {
        let lasts = notice.change.is_trouble();
        let has_link = reconnect_link(letter, notice).is_some();
        let advice = if has_link { BY_LINK } else { step(notice) };
        let key = (notice.cause, lasts, advice);
        let group = match groups.iter_mut().find(|(known, _)| *known == key) {
            Some((_, group)) => group,
            None => {
                let what = if lasts { what_is_wrong(notice, letter.now) } else { over(notice) };
                let step = lasts.then_some(advice);
                groups.push((key, Group { what, step, entries: Vec::new() }));
                &mut groups.last_mut().expect("it was pushed above").1
            }
        };
        group.entries.push(entry(letter, notice));
    }
    groups.into_iter().map(|(_, group)| group).collect()
}

fn over(notice: &Notice) -> String {
    format!("Over, and nothing is left to do: {}.", without_request(in_short(notice)))
}

fn entry(letter: &Letter<'_>, notice: &Notice) -> Entry {
    let about = About::of(letter, notice);
    let detail = if notice.change.is_trouble() {
        let posts = posts(notice, letter.now).sentence(letter.now, letter.zone);
        let since = readable(notice.since, letter.zone);
        let reminds = notice.change == Change::Reminder;
        let reminder = if reminds { "Still so. " } else { "" };
        let risk = notice.posts_at_risk.filter(|posts| *posts > 0);
        let risk =
            risk.map(|posts| format!(" Planned posts at risk: {posts}.")).unwrap_or_default();
        format!("{reminder}Since {since}. {posts}{risk}")
    } else {
        format!("It lasted {}.", roughly(notice.at.since(notice.since)))
    };
    Entry {
        name: if about.name.is_empty() { capitalised(&about.long) } else { about.name.clone() },
        provider: about.provider.unwrap_or_default(),
        detail,
        link: reconnect_link(letter, notice),
    }
}

fn why(letter: &Letter<'_>) -> String {
    let reason = match letter.role {
        Role::Owner => "you are the owner of these accounts",
        Role::Operator => "you run oauth-keepalive",
        Role::StandIn => {
            "you run oauth-keepalive and no mail address is known for the owners of these accounts"
        }
        Role::Channel => "this channel is told of these accounts",
    };
    let lasts = letter.notices.iter().any(|(_, one)| one.change.is_trouble());
    let needs_owner = letter.notices.iter().any(|(_, one)| one.cause.actor() == Actor::Owner);
    let again = if lasts && needs_owner { again(letter.role) } else { "" };
    format!(
        "You receive this because {reason}. It was sent by oauth-keepalive, which keeps the \
         connections of your publishing tool alive. It never asks for a password.{again}"
    )
}

const MANY_HINT: &str = "When so many fail within minutes, look at what they share before their owners do: the app at the provider, the client secret, an announcement of the provider.";
const WARNING: &str = "#e37400";
/// Names in the line beside the subject.
const NAMED_MAX: usize = 3;

#[cfg(test)]
mod tests {
    use super::{
        super::message::tests::{SINCE, notice, with_letter},
        *,
    };
    use crate::core::digest::Summary;
    use std::sync::Arc;

    type Told = Vec<(String, Notice)>;

    fn several(names: &[&str], change: Change, audience: Audience) -> Told {
        let told = |name: &&str| {
            let mut one = notice(name, Cause::ConsentRevoked, audience);
            one.change = change;
            ((*name).to_owned(), one)
        };
        names.iter().map(told).collect()
    }

    fn looked<R>(
        told: &Told,
        total: usize,
        summary: &Summary,
        look: impl Fn(&Letter<'_>) -> R,
    ) -> R {
        let anybody = notice("x", Cause::Unknown, Audience::Owner);
        let counts: Vec<_> =
            told.first().map(|(_, one)| (one.change, one.cause, total)).into_iter().collect();
        with_letter(&anybody, |letter| {
            look(&Letter { notices: told, counts: &counts, summary, ..*letter })
        })
    }

    #[test]
    fn many_notices_are_told_once_with_a_list_and_a_bound() {
        let told = several(&["brand-a", "brand-b"], Change::Firing, Audience::Owner);
        let words = looked(&told, 42, &Summary::default(), super::super::content::words);
        assert_eq!(
            words.subject,
            "[oauth-keepalive] 42 accounts: permission withdrawn, please reconnect"
        );
        assert_eq!(words.text.matches("WHAT TO DO").count(), 1, "{}", words.text);
        for needed in ["- brand-a at TikTok.", "- brand-b at TikTok.", "And 40 more."] {
            assert!(words.text.contains(needed), "{needed} is missing in {}", words.text);
        }
        assert!(words.html.contains("And 40 more.") && words.html.contains("<bdi>brand-b</bdi>"));
        assert!(words.text.lines().all(|line| line.chars().count() <= 72), "{}", words.text);
    }

    #[test]
    fn the_heading_says_what_the_reader_must_know() {
        let none = Summary::default();
        let two = ["a", "b"];
        let cases = [
            (several(&two, Change::Resolved, Audience::Owner), 2, "2 accounts work again"),
            (several(&two, Change::Resolved, Audience::Operator), 2, "2 problems are over"),
            (
                several(&two, Change::Firing, Audience::Operator),
                2,
                "2 problems: permission withdrawn, please reconnect",
            ),
        ];
        for (told, total, expected) in cases {
            assert_eq!(looked(&told, total, &none, headline), expected);
        }
        let mut mixed = several(&two, Change::Firing, Audience::Owner);
        mixed[1].1.cause = Cause::ScopeMissing;
        let anybody = notice("x", Cause::Unknown, Audience::Owner);
        let counts =
            [(Change::Firing, Cause::ConsentRevoked, 1), (Change::Firing, Cause::ScopeMissing, 1)];
        let said = with_letter(&anybody, |letter| {
            headline(&Letter { notices: &mixed, counts: &counts, ..*letter })
        });
        assert_eq!(said, "2 accounts need you");
    }

    #[test]
    fn the_operator_reads_how_many_owners_were_told_and_what_is_held_back() {
        let many = Many {
            provider: "tiktok".into(),
            cause: Cause::ConsentRevoked,
            accounts: 1_000,
            owners: 50,
        };
        let summary = Summary { many: vec![many], held: 12 };
        let words = looked(&Vec::new(), 0, &summary, super::super::content::words);
        assert_eq!(words.subject, "[oauth-keepalive] 1000 accounts: permission withdrawn");
        let text = words.text.replace('\n', " ");
        assert!(text.contains("TikTok: 1000 accounts of 50 different owners"), "{text}");
        assert!(text.contains("12 notices are held back by a cap"), "{text}");
        let held = Summary { many: Vec::new(), held: 1 };
        assert_eq!(
            looked(&Vec::new(), 0, &held, headline),
            "1 notice is held back by a cap on mails"
        );
    }

    #[test]
    fn whoever_can_reconnect_by_a_link_has_one_and_is_told_so() {
        let links: super::super::Links = Arc::new(|id, at| {
            Some(format!("https://keeper.example.com/c/{}-{}", id.account, at.as_unix()))
        });
        let told = several(&["brand-a", "brand-b"], Change::Firing, Audience::Owner);
        let fill = |letter: &Letter<'_>| {
            super::super::content::words(&Letter { links: Some(&links), ..*letter })
        };
        let words = looked(&told, 2, &Summary::default(), fill);
        let link = format!("https://keeper.example.com/c/brand-b-{}", SINCE.as_unix() + 60);
        assert!(words.text.contains(&link), "{}", words.text);
        assert!(words.text.replace('\n', " ").contains(BY_LINK), "{}", words.text);
        let single = with_letter(&told[0].1, fill);
        assert!(single.text.contains("Reconnect here: https://"), "{}", single.text);
        assert!(single.html.contains("Reconnect “brand-a”"), "{}", single.html);
        let mut operators = told[0].1.clone();
        operators.audience = Audience::Operator;
        assert!(!with_letter(&operators, fill).text.contains("/c/"), "nobody else's business");
    }
}
