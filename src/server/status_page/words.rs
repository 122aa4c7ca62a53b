//! Instants, spans and names as people read them.

use crate::core::{
    AccountId, Cause, Gate, Timestamp, Why,
    cause::Actor,
    diagnose,
    gate::{BY_HAND, Door},
};
use serde::Serialize;
use std::{borrow::Cow, fmt::Write as _, time::Duration};

/// An instant for people: how far it is, and when exactly.
#[derive(Clone, Debug, Serialize)]
pub(super) struct Moment {
    pub(super) words: String,
    pub(super) date: String,
    /// As HTML's `datetime` wants it.
    machine: String,
    /// It has not come yet.
    ahead: bool,
}

impl Moment {
    pub(super) fn of(at: Timestamp, now: Timestamp) -> Self {
        let ahead = at > now;
        let words =
            if ahead { format!("in {}", span(at.since(now).as_secs())) } else { ago(at, now) };
        Self { words, date: date(at), machine: iso(at), ahead }
    }
}

/// How bad something is: it chooses the colour, and never says anything that the words do not.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "lowercase")]
pub(super) enum Tone {
    /// As it should be.
    Good,
    /// Worth knowing.
    Calm,
    /// It mends itself, or is for later.
    Low,
    /// Somebody must act.
    Bad,
}

impl Tone {
    pub(super) const fn of(cause: Cause) -> Self {
        match cause.severity() {
            4.. => Self::Bad,
            2..=3 => Self::Low,
            _ => Self::Calm,
        }
    }
}

/// The label as words.
pub(super) fn cause(cause: Cause) -> String {
    cause.as_label().replace('_', " ")
}

/// The word before what is to be done; nobody needs none.
pub(super) const fn who(actor: Actor) -> &'static str {
    match actor {
        Actor::Nobody => "",
        Actor::Owner => "Account owner: ",
        Actor::Operator => "You: ",
    }
}

pub(super) const fn actor(actor: Actor) -> &'static str {
    match actor {
        Actor::Nobody => "nobody",
        Actor::Owner => "owner",
        Actor::Operator => "operator",
    }
}

/// The gate, and why it is shut, in a few words.
pub(super) fn gate(door: &Door) -> String {
    match (door.gate, door.why) {
        (Gate::Open, _) => "open".to_owned(),
        (Gate::Held, Some(why)) => format!("held: {}", reason(why)),
        (Gate::Held, None) => "held".to_owned(),
        (Gate::Canary, _) => "canary".to_owned(),
    }
}

/// What the gate means for the publisher, and what moves it.
pub(super) fn gate_sentence(door: &Door) -> String {
    match door.gate {
        Gate::Open => "The publisher may publish.".to_owned(),
        Gate::Held if door.why == Some(Why::Person) => {
            "Nothing is published: somebody holds it by hand, until somebody says resume.".to_owned()
        }
        Gate::Held => {
            let why = door.why.map_or_else(String::new, |why| format!(" because of {}", reason(why)));
            format!(
                "Nothing is published{why}. It opens after a new token was saved and one publish, or the provider's own check, worked."
            )
        }
        Gate::Canary => {
            "The token is new: one publish, or the provider's own check, must work before the queue goes on."
                .to_owned()
        }
    }
}

fn reason(why: Why) -> String {
    match why {
        Why::Cause(one) => cause(one),
        Why::Person => BY_HAND.replace('_', " "),
    }
}

pub(super) fn ago(at: Timestamp, now: Timestamp) -> String {
    match now.since(at).as_secs() {
        0 => "just now".to_owned(),
        seconds => format!("{} ago", span(seconds)),
    }
}

pub(super) fn span(seconds: u64) -> String {
    diagnose::length(Duration::from_secs(seconds))
}

/// `2026-11-22 12:00:00 UTC`.
pub(super) fn date(at: Timestamp) -> String {
    iso(at).replace('T', " ").replace('Z', " UTC")
}

/// `2026-11-22T12:00:00Z`.
fn iso(at: Timestamp) -> String {
    jiff::Timestamp::from_second(at.as_unix())
        .map_or_else(|_| at.as_unix().to_string(), |at| at.to_string())
}

/// `10,000`.
pub(super) fn thousands(number: u64) -> Cow<'static, str> {
    let digits = number.to_string();
    let mut grouped = String::with_capacity(digits.len() * 4 / 3);
    for (index, digit) in digits.chars().enumerate() {
        if index > 0 && (digits.len() - index).is_multiple_of(3) {
            grouped.push(',');
        }
        grouped.push(digit);
    }
    grouped.into()
}

/// `1 account`, `10,000 accounts`.
pub(super) fn counted(number: usize, one: &str, many: &str) -> String {
    format!("{} {}", thousands(number as u64), if number == 1 { one } else { many })
}

/// Where the page of an account is. Both parts are encoded, so that a slash in a name is not one in the path and a name
/// that ends in `.json` is not taken for its JSON.
#[must_use]
pub fn account_path(id: &AccountId) -> String {
    format!("/accounts/{}/{}", segment(&id.provider), segment(&id.account))
}

pub(super) fn app_path(name: &str) -> String {
    format!("/apps/{}", segment(name))
}

pub(super) fn provider_path(name: &str) -> String {
    format!("/providers/{}", segment(name))
}

/// One part of a path.
fn segment(text: &str) -> String {
    let encoded = percent_encoded(text);
    match encoded.strip_suffix(".json") {
        Some(rest) => format!("{rest}%2Ejson"),
        None => encoded,
    }
}

pub(in crate::server) fn percent_encoded(text: &str) -> String {
    let mut encoded = String::with_capacity(text.len());
    for byte in text.bytes() {
        if byte.is_ascii_alphanumeric() || b"-._~".contains(&byte) {
            encoded.push(char::from(byte));
        } else {
            write!(encoded, "%{byte:02X}").expect("a string takes every character");
        }
    }
    encoded
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_are_said_in_their_two_largest_units() {
        let cases = [
            (0, "0 s"),
            (59, "59 s"),
            (60, "1 min"),
            (61, "1 min 1 s"),
            (3600, "1 h"),
            (86_399, "23 h 59 min"),
            (86_400 * 60 + 7200, "60 d 2 h"),
            (86_400 + 59, "1 d"),
        ];
        for (seconds, expected) in cases {
            assert_eq!(span(seconds), expected);
        }
        assert_eq!(thousands(1_234_567), "1,234,567");
        assert_eq!(thousands(999), "999");
    }

    #[test]
    fn a_path_says_which_account_whatever_it_is_called() {
        let rows = [
            ("brand-a", "/accounts/tiktok/brand-a"),
            ("a/b c", "/accounts/tiktok/a%2Fb%20c"),
            ("a.json", "/accounts/tiktok/a%2Ejson"),
            ("<x>&\"ü", "/accounts/tiktok/%3Cx%3E%26%22%C3%BC"),
        ];
        for (name, path) in rows {
            assert_eq!(account_path(&AccountId::new("tiktok", name)), path);
        }
    }
}
