//! Which accounts the status page shows, read from its query string.

use crate::{
    core::{Account, Cause},
    metrics::accounts::HEALTHY,
};
use std::fmt::Write as _;

/// What was asked for. Text that means nothing matches nothing; a page that does not exist is the last.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Filter {
    /// Counted from zero here, from one in the query string.
    pub(super) page: usize,
    /// Part of `provider/account`, in any case.
    pub(super) search: String,
    /// A provider's name, or nothing for all.
    pub(super) provider: String,
    /// A cause's label, [`HEALTHY`], [`IN_TROUBLE`], or nothing for all.
    pub(super) cause: String,
}

/// The value of `cause` that stands for every cause.
pub(super) const IN_TROUBLE: &str = "any";

impl Filter {
    /// Reads `q=…&provider=…&cause=…&page=…`.
    pub(super) fn read(query: &str) -> Self {
        let mut filter = Self::default();
        for (key, value) in
            query.split('&').take(PARAMETERS_MAX).filter_map(|pair| pair.split_once('='))
        {
            let value = decoded(value);
            match key {
                "q" => filter.search = value.trim().to_owned(),
                "provider" => filter.provider = value,
                "cause" => filter.cause = value,
                "page" => filter.page = value.parse().unwrap_or(1_usize).saturating_sub(1),
                _ => {}
            }
        }
        filter
    }

    pub(super) fn is_set(&self) -> bool {
        [&self.search, &self.provider, &self.cause].into_iter().any(|part| !part.is_empty())
    }

    pub(super) fn matches(&self, account: &Account) -> bool {
        let cause_fits = match &*self.cause {
            "" => true,
            IN_TROUBLE => account.cause.is_some(),
            HEALTHY => account.cause.is_none(),
            label => account.cause.map(Cause::as_label) == Some(label),
        };
        cause_fits
            && (self.provider.is_empty() || *self.provider == *account.id.provider)
            && (self.search.is_empty() || self.finds(account))
    }

    /// The same question for another page, as a link.
    pub(super) fn link(&self, page: usize) -> String {
        let mut link = format!("?page={}", page + 1);
        for (key, value) in
            [("q", &self.search), ("provider", &self.provider), ("cause", &self.cause)]
        {
            if !value.is_empty() {
                write!(link, "&{key}={}", encoded(value)).expect("a string takes every character");
            }
        }
        link
    }

    /// Somebody types part of a name, or pastes `provider/account` whole.
    fn finds(&self, account: &Account) -> bool {
        contains(&account.id.account, &self.search)
            || self.search.contains('/') && contains(&account.id.to_string(), &self.search)
    }
}

/// Upper and lower case are not told apart in ASCII; other letters are compared as they are.
fn contains(text: &str, part: &str) -> bool {
    text.len() >= part.len()
        && text
            .as_bytes()
            .windows(part.len())
            .any(|window| window.eq_ignore_ascii_case(part.as_bytes()))
}

/// A form's value (`application/x-www-form-urlencoded`), cut to a length that fits every name.
fn decoded(text: &str) -> String {
    let mut bytes = Vec::new();
    let mut rest = text.as_bytes();
    while let [byte, after @ ..] = rest
        && bytes.len() < VALUE_BYTES_MAX
    {
        rest = after;
        match (byte, hex_pair(after)) {
            (b'+', _) => bytes.push(b' '),
            (b'%', Some(byte)) => {
                bytes.push(byte);
                rest = &after[2..];
            }
            (byte, _) => bytes.push(*byte),
        }
    }
    String::from_utf8_lossy(&bytes).into_owned()
}

fn hex_pair(bytes: &[u8]) -> Option<u8> {
    let digits = bytes.get(..2).filter(|two| two.iter().all(u8::is_ascii_hexdigit))?;
    u8::from_str_radix(std::str::from_utf8(digits).ok()?, 16).ok()
}

fn encoded(text: &str) -> String {
    let mut encoded = String::new();
    for byte in text.bytes() {
        if byte.is_ascii_alphanumeric() || b"-._~".contains(&byte) {
            encoded.push(char::from(byte));
        } else {
            write!(encoded, "%{byte:02X}").expect("a string takes every character");
        }
    }
    encoded
}

/// As long as the longest account key.
const VALUE_BYTES_MAX: usize = 256;

const PARAMETERS_MAX: usize = 16;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::core::AccountId;

    #[test]
    fn a_link_leads_to_the_same_question() {
        for search in ["", "a b", "50% & more=yes", "🎬/\"<x>", "%zz%4"] {
            let filter = Filter {
                page: 3,
                search: search.to_owned(),
                provider: "tiktok".into(),
                cause: "consent_revoked".into(),
            };
            let link = filter.link(3);
            assert_eq!(Filter::read(link.trim_start_matches('?')), filter, "{link}");
        }
    }

    #[test]
    fn nonsense_is_the_first_page() {
        for query in ["", "&&&", "page=-1", "page=0", "page=x", "%", "=", "page"] {
            assert_eq!(Filter::read(query).page, 0, "{query}");
        }
    }

    #[test]
    fn a_value_is_no_longer_than_a_name_can_be() {
        let filter = Filter::read(&format!("provider={}", "x".repeat(10_000)));
        assert_eq!(filter.provider.len(), VALUE_BYTES_MAX);
    }

    #[test]
    fn accounts_are_found_by_part_of_their_name_provider_and_cause() {
        let mut account = Account::new(AccountId::new("tiktok", "Brand-7"), "main".into());
        account.cause = Some(Cause::ConsentRevoked);
        let cases = [
            ("", true),
            ("q=brand", true),
            ("q=%20AND-7%20", true),
            ("q=tiktok/brand", true),
            ("q=tiktok", false),
            ("q=brand-8", false),
            ("provider=tiktok", true),
            ("provider=tik", false),
            ("cause=any", true),
            ("cause=none", false),
            ("cause=consent_revoked", true),
            ("cause=unknown", false),
            ("cause=nonsense", false),
            ("provider=tiktok&cause=any&q=7", true),
            ("provider=x&cause=any&q=7", false),
        ];
        for (query, expected) in cases {
            assert_eq!(Filter::read(query).matches(&account), expected, "{query}");
        }
    }
}
