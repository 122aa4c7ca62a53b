//! Links by which one account is connected: signed, ending, and known again when they come.
//!
//! Whoever has a link may connect the account it names and nothing else. It is made from the account, the instant
//! and our key alone, so nothing is kept of a link that nobody uses; that it is used once, our state sees to. Absent
//! on purpose: I/O, randomness and the clock.

use crate::core::{AccountId, Timestamp};
use base64::{Engine as _, prelude::BASE64_URL_SAFE_NO_PAD};
use ring::hmac;
use std::{fmt, time::Duration};

/// Makes and reads them.
#[derive(Clone)]
pub struct Links {
    key: hmac::Key,
    base: String,
    life: Duration,
}

impl fmt::Debug for Links {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Links below {}", self.base)
    }
}

/// A link that was ours, and has not ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Link {
    /// The one account that it is for.
    pub id: AccountId,
    /// When it ends.
    pub ends_at: Timestamp,
    /// What our state knows it by. It says nothing about the link itself.
    pub key: String,
}

/// Why a link leads nowhere.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Unusable {
    /// We did not make it, or somebody changed it, or lost a piece of it.
    Altered,
    /// It was ours, and has ended.
    Ended(AccountId),
}

impl Links {
    /// Links below `base`, which live for `life`.
    #[must_use]
    pub const fn new(key: hmac::Key, base: String, life: Duration) -> Self {
        Self { key, base, life }
    }

    /// The address of a link for this account. The same account and instant give the same link, so that a mail
    /// that is sent twice holds it twice.
    #[must_use]
    pub fn mint(&self, id: &AccountId, now: Timestamp) -> String {
        format!("{}{PATH}{}", self.base, self.text(id, now.plus(self.life)))
    }

    fn text(&self, id: &AccountId, ends_at: Timestamp) -> String {
        let claim = claim(id, ends_at);
        let tag = hmac::sign(&self.key, &claim);
        let encode = |bytes: &[u8]| BASE64_URL_SAFE_NO_PAD.encode(bytes);
        format!("{}.{}", encode(&claim), encode(tag.as_ref()))
    }

    /// The last part of a link's path, understood.
    ///
    /// # Errors
    /// Why it leads nowhere.
    pub fn read(&self, text: &str, now: Timestamp) -> Result<Link, Unusable> {
        if text.len() > TEXT_BYTES_MAX {
            return Err(Unusable::Altered);
        }
        let (claim, tag) = text.split_once('.').ok_or(Unusable::Altered)?;
        let decode = |text: &str| BASE64_URL_SAFE_NO_PAD.decode(text);
        let (Ok(claim), Ok(tag)) = (decode(claim), decode(tag)) else {
            return Err(Unusable::Altered);
        };
        // In constant time, and before anything in it is believed.
        hmac::verify(&self.key, &claim, &tag).map_err(|_| Unusable::Altered)?;
        let (id, ends_at) = claimed(&claim).ok_or(Unusable::Altered)?;
        if ends_at.has_come(now) {
            return Err(Unusable::Ended(id));
        }
        let key = tag.iter().take(KEY_BYTES).map(|byte| format!("{byte:02x}")).collect();
        Ok(Link { id, ends_at, key })
    }
}

/// A version, the end, the length of the provider's name, that name, and the account's.
fn claim(id: &AccountId, ends_at: Timestamp) -> Vec<u8> {
    let provider = id.provider.as_bytes();
    // `stores` and the configuration let no longer name through.
    let length = u16::try_from(provider.len()).unwrap_or(u16::MAX);
    [
        &[VERSION][..],
        &ends_at.as_unix().to_be_bytes(),
        &length.to_be_bytes(),
        provider,
        id.account.as_bytes(),
    ]
    .concat()
}

fn claimed(claim: &[u8]) -> Option<(AccountId, Timestamp)> {
    let (&[version], rest) = claim.split_first_chunk::<1>()?;
    let (ends_at, rest) = rest.split_first_chunk::<8>()?;
    let (length, rest) = rest.split_first_chunk::<2>()?;
    let (provider, account) = rest.split_at_checked(u16::from_be_bytes(*length).into())?;
    let text = |bytes: &[u8]| {
        std::str::from_utf8(bytes).ok().filter(|text| !text.is_empty()).map(str::to_owned)
    };
    let id = AccountId::new(text(provider)?, text(account)?);
    let is_ours = version == VERSION;
    is_ours.then(|| (id, Timestamp::from_unix(i64::from_be_bytes(*ends_at))))
}

/// What stands before the last part of a link's path.
pub const PATH: &str = "/connect/account/";

const VERSION: u8 = 1;

/// How much of the signature names a link in our state.
const KEY_BYTES: usize = 16;

/// Longest text that is looked at: the longest names there may be, encoded.
const TEXT_BYTES_MAX: usize = 1_024;

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: Timestamp = Timestamp::from_unix(1_800_000_000);
    const DAY: Duration = Duration::from_secs(86_400);

    fn links(key: &[u8]) -> Links {
        let key = hmac::Key::new(hmac::HMAC_SHA256, key);
        Links::new(key, "https://connect.example".to_owned(), DAY)
    }

    fn text_of(link: &str) -> &str {
        link.strip_prefix("https://connect.example/connect/account/").unwrap()
    }

    #[test]
    fn a_link_names_its_account_until_the_second_it_ends() {
        let id = AccountId::new("tiktok", "brand/ü ?#");
        let links = links(b"invented");
        let link = links.mint(&id, NOW);
        assert!(text_of(&link).bytes().all(|b| b.is_ascii_alphanumeric() || b"-_.".contains(&b)));
        let last = NOW.plus(DAY).minus(Duration::from_secs(1));
        let read = links.read(text_of(&link), last).unwrap();
        assert_eq!((&read.id, read.ends_at), (&id, NOW.plus(DAY)));
        assert_eq!(links.read(text_of(&link), NOW.plus(DAY)), Err(Unusable::Ended(id)));
    }

    #[test]
    fn the_same_account_and_instant_give_one_link_and_others_give_others() {
        let links = links(b"invented");
        let key = |account: &str, at| {
            let link = links.mint(&AccountId::new("tiktok", account), at);
            links.read(text_of(&link), at).unwrap().key
        };
        assert_eq!(key("a", NOW), key("a", NOW));
        assert_ne!(key("a", NOW), key("a", NOW.plus(Duration::from_secs(1))));
        assert_ne!(key("a", NOW), key("b", NOW));
    }

    #[test]
    fn what_moves_a_byte_between_the_names_is_another_link() {
        let links = links(b"invented");
        let one = links.mint(&AccountId::new("tiktok", "a"), NOW);
        let other = links.mint(&AccountId::new("tikto", "ka"), NOW);
        assert_ne!(one, other);
    }

    #[test]
    fn every_changed_or_missing_byte_is_noticed_and_so_is_another_key() {
        let ours = links(b"invented");
        let link = ours.mint(&AccountId::new("tiktok", "brand-01"), NOW);
        let text = text_of(&link);
        for at in 0..text.len() {
            let mut bytes = text.as_bytes().to_vec();
            bytes[at] = if bytes[at] == b'A' { b'B' } else { b'A' };
            let changed = String::from_utf8(bytes).unwrap();
            assert_eq!(ours.read(&changed, NOW), Err(Unusable::Altered), "{at}");
            assert_eq!(ours.read(&text[..at], NOW), Err(Unusable::Altered), "{at}");
        }
        assert_eq!(links(b"another").read(text, NOW), Err(Unusable::Altered));
        assert_eq!(ours.read("", NOW), Err(Unusable::Altered));
        assert_eq!(ours.read(&"a.".repeat(2_000), NOW), Err(Unusable::Altered));
    }
}
