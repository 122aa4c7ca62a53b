//! Paths and queries, taken apart strictly: what can be read in two ways is refused.

use super::problem::Problem;
use crate::core::AccountId;
use std::{borrow::Cow, time::Duration};

/// The account in a path: two segments, each percent-encoded for itself, so that an account may hold a slash.
///
/// # Errors
/// When a segment is no text that an account could be called.
pub(super) fn account(provider: &str, account: &str) -> Result<AccountId, Problem> {
    let expected = || {
        Problem::malformed("expected /v1/accounts/{provider}/{account}, both percent-encoded UTF-8")
    };
    let provider = decoded(provider).ok_or_else(expected)?;
    let account = decoded(account).ok_or_else(expected)?;
    // Characters, as a program that was made from the description counts them. No account is longer in bytes.
    let fits = |text: &str| (1..=NAME_CHARS_MAX).contains(&text.chars().count());
    if !fits(&provider) || !fits(&account) {
        return Err(Problem::malformed("expected names of 1 to 256 characters"));
    }
    Ok(AccountId::new(provider, account))
}

/// `%2F` and the like, once and not again; `None` for half an escape and for what is no UTF-8.
pub(super) fn decoded(text: &str) -> Option<Cow<'_, str>> {
    if !text.contains('%') {
        return Some(text.into());
    }
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.bytes();
    while let Some(byte) = rest.next() {
        if byte != b'%' {
            bytes.push(byte);
            continue;
        }
        let mut digit = || char::from(rest.next()?).to_digit(16);
        let value = digit()? * 16 + digit()?;
        bytes.push(u8::try_from(value).ok()?);
    }
    String::from_utf8(bytes).ok().map(Cow::Owned)
}

/// The parameters of a query, each of which must be one of `known` and come once.
///
/// # Errors
/// When one is unknown, comes twice or is no text.
pub(in crate::server) fn query<'a, const N: usize>(
    query: Option<&'a str>,
    known: [&'static str; N],
) -> Result<[Option<Cow<'a, str>>; N], Problem> {
    let mut values = [const { None }; N];
    let pairs = query.unwrap_or_default().split('&').filter(|pair| !pair.is_empty());
    // Each name comes once, so this ends after as many pairs as there are names.
    for pair in pairs {
        let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
        let name = decoded(name).ok_or_else(unreadable)?;
        let place = known.iter().position(|one| *one == name).ok_or_else(|| {
            let names = if known.is_empty() { "no parameter".into() } else { known.join(", ") };
            Problem::malformed(format!("expected {names} in the query and nothing else"))
        })?;
        // In a query, and only there, a plus is a blank.
        let value = value.replace('+', "%20");
        let value = decoded(&value).ok_or_else(unreadable)?.into_owned();
        if values[place].replace(Cow::Owned(value)).is_some() {
            let name = known[place];
            return Err(Problem::malformed(format!("{name}: expected it once")));
        }
    }
    Ok(values)
}

/// A parameter in whole seconds, such as `30s`.
pub(super) fn seconds(name: &str, text: &str, most: Duration) -> Result<Duration, Problem> {
    let digits = text.strip_suffix('s').filter(|digits| digits.len() <= 3 && !digits.is_empty());
    // One way to write each.
    let digits = digits.filter(|digits| digits.len() == 1 || !digits.starts_with('0'));
    let digits = digits.filter(|digits| digits.bytes().all(|byte| byte.is_ascii_digit()));
    let span = digits.and_then(|digits| digits.parse().ok()).map(Duration::from_secs);
    span.filter(|span| *span <= most)
        .ok_or_else(|| Problem::malformed(format!("{name}: expected 0s to {}s", most.as_secs())))
}

fn unreadable() -> Problem {
    Problem::malformed("expected percent-encoded UTF-8 in the query")
}

/// Longest name of a provider or an account.
const NAME_CHARS_MAX: usize = AccountId::ACCOUNT_BYTES_MAX;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_escape_is_read_once_and_half_of_one_not_at_all() {
        let cases = [
            ("brand-01", Some("brand-01")),
            ("a%2Fb", Some("a/b")),
            ("a%2fb", Some("a/b")),
            ("%252F", Some("%2F")),
            ("a+b", Some("a+b")),
            ("%D7%90", Some("א")),
            ("..", Some("..")),
            ("%2E%2E", Some("..")),
            ("%", None),
            ("%2", None),
            ("%zz", None),
            ("%+1", None),
            ("%FF", None),
            ("%C0%AF", None),
        ];
        for (text, expected) in cases {
            assert_eq!(decoded(text).as_deref(), expected, "{text}");
        }
    }

    #[test]
    fn a_query_is_known_to_its_last_parameter() {
        let read = |text| query(Some(text), ["a", "b"]);
        assert_eq!(read("a=1&b=x%26y+z").unwrap(), [Some("1".into()), Some("x&y z".into())]);
        assert_eq!(read("").unwrap(), [None, None]);
        assert_eq!(read("b").unwrap(), [None, Some("".into())]);
        for wrong in ["c=1", "a=1&a=2", "a=%FF", "%FF=1", "a%=1"] {
            assert!(read(wrong).is_err(), "{wrong}");
        }
    }
}
