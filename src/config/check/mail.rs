//! `mail`: who is told, and how.

use super::{Check, add, is_loopback};
use crate::{
    config::{
        explain,
        file::{self, Span},
        problem::KeyPath,
    },
    core::{Secret, digest::Rules},
    delivery::{Owner, Settings, Smtp, SmtpTls, templates::Templates},
};
use jiff::tz::TimeZone;
use lettre::message::Mailbox;
use std::{path::Path, time::Duration};

pub(super) fn check(check: &mut Check<'_>, mail: &file::Mail) -> Settings {
    let at = KeyPath::from("mail");
    if mail.enabled && mail.from.is_none() {
        check.problem(
            at.key("from"),
            "missing, expected the sender's address because mail is enabled",
            add(&at.key("from")),
        );
    }
    if mail.enabled && mail.operator.is_empty() {
        check.problem(
            at.key("operator"),
            "missing, expected at least one address because mail is enabled",
            "add `operator: [you@example.com]`: they hear what no owner can mend",
        );
    }
    if mail.operator.len() > OPERATORS_MAX {
        let what = format!("{} addresses, expected at most {OPERATORS_MAX}", mail.operator.len());
        check.problem(at.key("operator"), what, "use a mailing list");
    }
    if let Some(from) = &mail.from {
        address(check, at.key("from"), from);
    }
    for (nth, operator) in mail.operator.iter().enumerate().take(OPERATORS_MAX) {
        address(check, at.key("operator").index(nth), operator);
    }
    let smtp = smtp(check, mail.enabled, &mail.smtp);
    Settings {
        smtp: smtp.filter(|_| mail.enabled),
        from: mail.from.as_ref().map_or_else(|| Secret::new(String::new()), |from| from.0.clone()),
        operator: mail.operator.iter().map(|address| address.0.clone()).collect(),
        owners: owners(check, &mail.owners),
        external_url: external_url(check, mail.external_url.as_deref()),
        rules: rules(check, mail),
        reminders: reminders(check, &mail.reminders),
        time_zone: time_zone(check, at.key("time_zone"), &mail.time_zone),
        templates: templates(check, mail.templates.as_deref()),
        webhooks: Vec::new(),
    }
}

fn rules(check: &mut Check<'_>, mail: &file::Mail) -> Rules {
    check.within(
        "mail.digest_after",
        mail.digest_after,
        Span::seconds(0)..=Span::seconds(DIGEST_AFTER_MAX),
    );
    let caps = &mail.caps;
    check.within("mail.caps.owner_per_day", caps.owner_per_day, 1..=CAP_MAX);
    check.within("mail.caps.total_per_hour", caps.total_per_hour, 10..=CAP_MAX);
    Rules {
        quiet: mail.digest_after.0,
        owner_per_day: caps.owner_per_day as usize,
        total_per_hour: caps.total_per_hour as usize,
        ..Rules::default()
    }
}

fn reminders(check: &mut Check<'_>, gaps: &[Span]) -> Vec<Duration> {
    let at = KeyPath::from("mail.reminders");
    if gaps.len() > REMINDERS_MAX {
        let what = format!("{} elements, expected at most {REMINDERS_MAX}", gaps.len());
        check.problem(
            at,
            what,
            "leave some out; whoever did not act after those is told otherwise",
        );
        return Vec::new();
    }
    let mut before = Duration::ZERO;
    for (nth, gap) in gaps.iter().enumerate() {
        let here = at.index(nth);
        if gap.0 < REMINDER_MIN || gap.0 > REMINDER_MAX {
            let what = format!("found {gap}, expected 1h to 365days");
            check.problem(here, what, "write the age of the trouble, such as 3d");
        } else if gap.0 <= before {
            let what = format!("found {gap}, expected more than the one before it");
            check.problem(here, what, "write rising ages, such as [1d, 3d, 7d]");
        }
        before = gap.0;
    }
    gaps.iter().map(|gap| gap.0).collect()
}

fn time_zone(check: &mut Check<'_>, key: KeyPath, name: &str) -> TimeZone {
    TimeZone::get(name).unwrap_or_else(|_| {
        let shown = explain::shown(name, true);
        let what = format!("{shown} is no time zone, expected a name of the IANA database");
        check.problem(key, what, "write one such as Europe/Berlin, or UTC");
        TimeZone::UTC
    })
}

fn templates(check: &mut Check<'_>, folder: Option<&Path>) -> Templates {
    let Some(folder) = folder else { return Templates::built_in() };
    let resolved = check.resolved(folder);
    Templates::in_folder(&resolved).unwrap_or_else(|wrong| {
        for one in wrong {
            let remedy = "correct the file; docs/notices.md lists the placeholders";
            check.problem(KeyPath::from("mail.templates"), one.to_string(), remedy);
        }
        Templates::built_in()
    })
}

/// The address itself is never part of the message.
fn address(check: &mut Check<'_>, key: KeyPath, address: &file::Address) {
    let text = address.0.expose();
    let wrong = if text.contains(char::is_control) {
        "holds a line break or control character"
    } else if !text.contains('@') {
        "has no @ in it"
    } else if text.len() > ADDRESS_MAX || text.parse::<Mailbox>().is_err() {
        "is not a mail address"
    } else {
        return;
    };
    check.problem(
        key,
        format!("what stands here {wrong}, expected one mail address"),
        "write you@example.com, or \"Your Name <you@example.com>\"",
    );
}

fn owners(check: &mut Check<'_>, owners: &[file::Owner]) -> Vec<Owner> {
    let at = KeyPath::from("mail.owners");
    if owners.len() > OWNERS_MAX {
        let what = format!("{} elements, expected at most {OWNERS_MAX}", owners.len());
        check.problem(at, what, "use patterns, or the store's owner column");
        return Vec::new();
    }
    let mut checked: Vec<Owner> = Vec::new();
    for (nth, owner) in owners.iter().enumerate() {
        let here = at.index(nth);
        let accounts = pattern(check, here.key("accounts"), owner.accounts.as_deref());
        let to = match &owner.to {
            Some(to) => {
                address(check, here.key("to"), to);
                to.0.clone()
            }
            None => {
                let what = "missing, expected the owner's mail address";
                check.problem(here.key("to"), what, add(&here.key("to")));
                Secret::new(String::new())
            }
        };
        if let Some(first) = checked.iter().position(|first| covers(&first.accounts, &accounts)) {
            check.warn(
                here.key("accounts"),
                format!(
                    "never used: mail.owners[{first}] matches all of it, and the first match wins"
                ),
                "move it further up, or remove it",
            );
        }
        let time_zone =
            owner.time_zone.as_deref().map(|name| time_zone(check, here.key("time_zone"), name));
        checked.push(Owner { accounts, to, time_zone });
    }
    checked
}

pub(super) fn pattern(check: &mut Check<'_>, key: KeyPath, text: Option<&str>) -> String {
    let meaning = "accounts such as tiktok/brand-*";
    let pattern = check.text(key.clone(), text, meaning);
    if !pattern.is_empty() && !pattern.contains(['/', '*']) {
        check.problem(
            key,
            format!("{} names no provider, expected {meaning}", explain::shown(&pattern, true)),
            "write provider/account; `*` stands for any text",
        );
    }
    pattern
}

/// Whether every account that `later` matches is matched by `earlier` too. A `*` in `later` is taken as
/// a letter: only a `*` in `earlier` can swallow it, and then it swallows whatever that stands for.
fn covers(earlier: &str, later: &str) -> bool {
    let Some((head, rest)) = earlier.split_once('*') else { return earlier == later };
    let Some(mut left) = later.strip_prefix(head) else { return false };
    let mut pieces: Vec<_> = rest.split('*').collect();
    let tail = pieces.pop().unwrap_or_default();
    for piece in pieces {
        match left.find(piece) {
            Some(at) => left = &left[at + piece.len()..],
            None => return false,
        }
    }
    left.ends_with(tail)
}

fn external_url(check: &mut Check<'_>, text: Option<&str>) -> Option<String> {
    let text = text?;
    let key = KeyPath::from("mail.external_url");
    check.url(key, text, &["https", "http"], "https://keepalive.example.com")?;
    Some(text.trim_end_matches('/').to_owned())
}

fn smtp(check: &mut Check<'_>, enabled: bool, smtp: &file::Smtp) -> Option<Smtp> {
    let at = KeyPath::from("mail.smtp");
    check.within("mail.smtp.port", smtp.port, 1..=65_535);
    check.within("mail.smtp.deadline", smtp.deadline, Span::seconds(1)..=Span::seconds(5 * 60));
    let login = login(check, enabled, smtp);
    let remedy = "name a PEM file with certificates, or remove ca_file to trust the system's";
    let ca_file =
        smtp.ca_file.as_deref().map(|path| check.readable("mail.smtp.ca_file", path, remedy));
    if smtp.host.is_none() && !enabled {
        return None;
    }
    let meaning = "the host name of a mail server";
    let host = check.text(at.key("host"), smtp.host.as_deref(), meaning);
    let is_address = host.parse::<std::net::IpAddr>().is_ok();
    if host.contains(['/', '@', ' ']) || (host.contains(':') && !is_address) {
        check.problem(
            at.key("host"),
            format!(
                "{} is not a host name alone, expected {meaning}",
                explain::shown(&host, false)
            ),
            "write it like smtp.example.com; the port has a key of its own",
        );
    }
    let tls = match smtp.tls {
        file::SmtpTls::StartTls => SmtpTls::StartTls,
        file::SmtpTls::Implicit => SmtpTls::Implicit,
        file::SmtpTls::None => SmtpTls::None,
    };
    if tls == SmtpTls::None && !host.is_empty() && !is_loopback(&host) {
        check.problem(
            at.key("tls"),
            format!(
                "none is for this machine alone, found the host {}",
                explain::shown(&host, true)
            ),
            "write starttls (port 587) or implicit (port 465)",
        );
    }
    Some(Smtp { host, port: smtp.port, tls, login, ca_file, deadline: smtp.deadline.0 })
}

fn login(
    check: &mut Check<'_>,
    enabled: bool,
    smtp: &file::Smtp,
) -> Option<(String, crate::secrets::SecretRef)> {
    let at = KeyPath::from("mail.smtp");
    let (file, env) = (smtp.password_file.as_deref(), smtp.password_env.as_deref());
    let password = check.secret(&at, "password", file, env, enabled);
    let has_password = file.is_some() || env.is_some();
    match &smtp.username {
        None if has_password => {
            let key = at.key(if file.is_some() { "password_file" } else { "password_env" });
            let what = "a password without a username, expected both or neither";
            check.problem(key, what, "add `username: …`, or remove the password");
            None
        }
        None => None,
        Some(username) => {
            if !has_password {
                check.problem(
                    at.key("username"),
                    "a username without a password, expected both or neither",
                    "add `password_file: …`, or remove the username",
                );
            }
            let username = check.text(at.key("username"), Some(username), "a user name");
            password.map(|password| (username, password))
        }
    }
}

/// Most operators; a mailing list takes more.
const OPERATORS_MAX: usize = 16;

/// Most owner patterns: each new account is held against all of them.
const OWNERS_MAX: usize = 1000;

/// Longest quiet that a first mail waits for, in seconds: nobody should hear much later than the publisher's log.
const DIGEST_AFTER_MAX: u64 = 60;

/// Largest cap on mails.
const CAP_MAX: u32 = 100_000;

const REMINDERS_MAX: usize = 10;
const REMINDER_MIN: Duration = Duration::from_secs(60 * 60);
const REMINDER_MAX: Duration = Duration::from_secs(365 * 24 * 60 * 60);

/// Longest address with its name, in bytes.
const ADDRESS_MAX: usize = 320;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_earlier_pattern_covers_a_later_one_only_if_it_matches_all_of_it() {
        let cases = [
            ("the same", "tiktok/a", "tiktok/a", true),
            ("another", "tiktok/a", "tiktok/b", false),
            ("everything", "*", "tiktok/brand-*", true),
            ("a provider", "tiktok/*", "tiktok/brand-*", true),
            ("the narrower first", "tiktok/brand-*", "tiktok/*", false),
            ("a middle", "*/brand-*-eu", "x/brand-shoes-eu", true),
            ("a missing middle", "*/brand-*-eu", "x/brand-shoes-us", false),
            ("head and tail do not share letters", "ab*ba", "aba", false),
        ];
        for (name, earlier, later, expected) in cases {
            assert_eq!(covers(earlier, later), expected, "{name}");
        }
    }
}
