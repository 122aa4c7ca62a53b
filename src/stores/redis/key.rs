//! Which key holds which account.

use crate::core::AccountId;

/// A pattern such as `oauth:{provider}:{account}`.
///
/// The account is taken as it is, whatever is in it. So that two accounts never meet in one key, the
/// provider's name must not contain the text between the two; where it would, its `%` and the first
/// character of that text are written as `%25` and kin.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KeyPattern {
    before: String,
    names: Names,
    after: String,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Names {
    /// `{provider}`, this text, `{account}`.
    ProviderFirst(String),
    /// `{account}`, this text, `{provider}`.
    AccountFirst(String),
    /// `{account}` alone; all of them belong to this provider.
    OneProvider(String),
}

impl KeyPattern {
    /// Our own layout.
    pub const SIMPLE: &str = "oauth:{provider}:{account}";

    /// Reads a pattern. `provider_name` is the provider of all accounts where the keys do not say it.
    ///
    /// # Errors
    /// What is wrong with it and what to write instead.
    pub fn new(pattern: &str, provider_name: Option<&str>) -> Result<Self, &'static str> {
        let once = |placeholder: &str| match pattern.matches(placeholder).count() {
            0 => Ok(None),
            1 => Ok(pattern.find(placeholder)),
            _ => Err("names a placeholder twice; write each of them once"),
        };
        let account = once(ACCOUNT)?
            .ok_or("has no {account} in it; write for example oauth:{provider}:{account}")?;
        let provider = once(PROVIDER)?;
        let (names, from, to) = match (provider, provider_name) {
            (Some(_), Some(_)) => {
                return Err("has {provider} in it while provider_name is given; keep one of them");
            }
            (None, None) => {
                return Err("has no {provider} in it; add it, or give provider_name");
            }
            (None, Some(name)) => {
                (Names::OneProvider(name.to_owned()), account, account + ACCOUNT.len())
            }
            (Some(provider), None) if provider < account => {
                let between = &pattern[provider + PROVIDER.len()..account];
                (Names::ProviderFirst(between.to_owned()), provider, account + ACCOUNT.len())
            }
            (Some(provider), None) => {
                let between = &pattern[account + ACCOUNT.len()..provider];
                (Names::AccountFirst(between.to_owned()), account, provider + PROVIDER.len())
            }
        };
        if matches!(&names, Names::ProviderFirst(text) | Names::AccountFirst(text) if text.is_empty())
        {
            return Err("has nothing between {provider} and {account}; write a colon there");
        }
        let (before, after) = (pattern[..from].to_owned(), pattern[to..].to_owned());
        if before.is_empty() && after.is_empty() {
            return Err(
                "matches every key of the database; begin it with a fixed text such as oauth:",
            );
        }
        Ok(Self { before, names, after })
    }

    /// The account's key; `None` where accounts of its provider cannot be.
    pub(super) fn key(&self, id: &AccountId) -> Option<String> {
        let (before, after) = (&self.before, &self.after);
        let (provider, account) = (&*id.provider, &*id.account);
        Some(match &self.names {
            Names::OneProvider(only) if only != provider => return None,
            Names::OneProvider(_) => format!("{before}{account}{after}"),
            Names::ProviderFirst(text) => {
                format!("{before}{}{text}{account}{after}", escaped(provider, text))
            }
            Names::AccountFirst(text) => {
                format!("{before}{account}{text}{}{after}", escaped(provider, text))
            }
        })
    }

    /// Whose key it is, or why it is nobody's.
    pub(super) fn id(&self, key: &[u8]) -> Result<AccountId, String> {
        let key = std::str::from_utf8(key).map_err(|_| "its name is not UTF-8".to_owned())?;
        let names = key
            .strip_prefix(&*self.before)
            .and_then(|rest| rest.strip_suffix(&*self.after))
            .ok_or("its name does not match the pattern in store.redis.key")?;
        let parts = match &self.names {
            Names::OneProvider(provider) => Some((provider.clone(), names)),
            Names::ProviderFirst(text) => names
                .split_once(&**text)
                .and_then(|(provider, account)| Some((unescaped(provider)?, account))),
            Names::AccountFirst(text) => names
                .rsplit_once(&**text)
                .and_then(|(account, provider)| Some((unescaped(provider)?, account))),
        };
        let (provider, account) =
            parts.ok_or("its name does not match the pattern in store.redis.key")?;
        let id = crate::stores::checked_id(&provider, account)
            .map_err(|(which, reason)| format!("the {which} in its name {reason}"))?;
        // Only what we would write is read: otherwise one account could have two keys.
        if self.key(&id).as_deref() != Some(key) {
            return Err("the provider in its name is not escaped as it should be".to_owned());
        }
        Ok(id)
    }

    /// A key that belongs to no account, for a write that changes nothing.
    pub(super) fn nobodys(&self) -> String {
        format!("{}{}", self.before, self.after)
    }

    /// What every key looks like, for `SCAN`.
    pub(super) fn glob(&self) -> String {
        let (before, after) = (literal(&self.before), literal(&self.after));
        match &self.names {
            Names::OneProvider(_) => format!("{before}*{after}"),
            Names::ProviderFirst(text) | Names::AccountFirst(text) => {
                format!("{before}*{}*{after}", literal(text))
            }
        }
    }
}

/// `text` in a glob pattern of Redis, meaning itself.
pub(super) fn literal(text: &str) -> String {
    let mut pattern = String::with_capacity(text.len());
    for c in text.chars() {
        if matches!(c, '*' | '?' | '[' | ']' | '\\' | '^') {
            pattern.push('\\');
        }
        pattern.push(c);
    }
    pattern
}

fn escaped(provider: &str, between: &str) -> String {
    let first = between.chars().next();
    if !provider.chars().any(|c| c == '%' || Some(c) == first) {
        return provider.to_owned();
    }
    let mut text = String::with_capacity(provider.len() + 8);
    for c in provider.chars() {
        if c == '%' || Some(c) == first {
            let mut bytes = [0; 4];
            for byte in c.encode_utf8(&mut bytes).bytes() {
                text.push_str(&format!("%{byte:02X}"));
            }
        } else {
            text.push(c);
        }
    }
    text
}

fn unescaped(text: &str) -> Option<String> {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let [first, tail @ ..] = rest {
        rest = if *first == b'%' {
            let digits = std::str::from_utf8(tail.get(..2)?).ok()?;
            bytes.push(u8::from_str_radix(digits, 16).ok()?);
            &tail[2..]
        } else {
            bytes.push(*first);
            tail
        };
    }
    String::from_utf8(bytes).ok()
}

const ACCOUNT: &str = "{account}";
const PROVIDER: &str = "{provider}";

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const PATTERNS: [&str; 6] = [
        KeyPattern::SIMPLE,
        "oauth:{account}:{provider}",
        "{provider}::{account}:token",
        "t[*]{account}aa{provider}",
        "{{provider}}/{account}",
        "é{provider}é{account}é",
    ];

    #[test]
    fn keys_are_what_a_publisher_would_write() {
        for (pattern, key) in [
            (PATTERNS[0], "oauth:tiktok:brand:a*"),
            (PATTERNS[1], "oauth:brand:a*:tiktok"),
            (PATTERNS[2], "tiktok::brand:a*:token"),
            (PATTERNS[4], "{tiktok}/brand:a*"),
        ] {
            let pattern = KeyPattern::new(pattern, None).unwrap();
            let id = AccountId::new("tiktok", "brand:a*");
            assert_eq!(pattern.key(&id).as_deref(), Some(key));
            assert_eq!(pattern.id(key.as_bytes()), Ok(id));
        }
        let only = KeyPattern::new("tokens:{account}", Some("x")).unwrap();
        assert_eq!(only.key(&AccountId::new("x", "1")).as_deref(), Some("tokens:1"));
        assert_eq!(only.key(&AccountId::new("tiktok", "1")), None);
    }

    #[test]
    fn a_pattern_that_cannot_tell_accounts_apart_is_refused() {
        for (pattern, provider, word) in [
            ("oauth:{provider}", None, "no {account}"),
            ("oauth:{account}", None, "no {provider}"),
            ("oauth:{provider}:{account}", Some("x"), "provider_name"),
            ("oauth:{provider}{account}", None, "nothing between"),
            ("{provider}:{account}", None, "every key"),
            ("{account}", Some("x"), "every key"),
            ("oauth:{provider}:{account}:{account}", None, "twice"),
        ] {
            let error = KeyPattern::new(pattern, provider).unwrap_err();
            assert!(error.contains(word), "{pattern}: {error}");
        }
    }

    #[test]
    fn a_key_that_is_nobodys_says_why() {
        let pattern = KeyPattern::new(KeyPattern::SIMPLE, None).unwrap();
        for key in [
            &b"oauth:tiktok"[..],
            b"oauth::brand",
            b"oauth:tiktok:",
            b"other:tiktok:a",
            b"oauth:\xff:a",
            b"oauth:%74iktok:a",
            b"oauth:%7:a",
        ] {
            assert!(pattern.id(key).is_err(), "{key:?}");
        }
        let nobodys = pattern.nobodys();
        assert!(pattern.id(nobodys.as_bytes()).is_err());
    }

    fn any_name() -> impl Strategy<Value = String> {
        proptest::collection::vec(
            prop_oneof![
                Just(':'),
                Just('%'),
                Just('a'),
                Just('é'),
                Just('*'),
                Just('{'),
                Just('}'),
                Just('\n'),
                Just('3'),
                Just('🙂'),
                any::<char>()
            ],
            1..12,
        )
        .prop_map(|chars| chars.into_iter().collect())
    }

    proptest! {
        #[test]
        fn every_account_has_a_key_of_its_own_and_is_found_by_it(
            provider in any_name(), account in any_name(), other in any_name(), which in 0..PATTERNS.len()
        ) {
            let pattern = KeyPattern::new(PATTERNS[which], None).unwrap();
            let id = AccountId::new(&*provider, &*account);
            let key = pattern.key(&id).unwrap();
            if crate::stores::checked_id(&provider, &account).is_ok() {
                prop_assert_eq!(pattern.id(key.as_bytes()), Ok(id.clone()));
            }
            let other = AccountId::new(&*other, &*account);
            prop_assert_eq!(pattern.key(&other).unwrap() == key, other == id);
        }
    }
}
