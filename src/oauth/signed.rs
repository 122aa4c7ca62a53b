//! Messages that nobody asked for, and that are believed because of their signature.
//!
//! One form: a header such as `t=1800000000,s=5f…`, whose digest is HMAC-SHA256 (RFC 2104) over the instant, a dot
//! and the body as it came. The instant is signed too, so a message that is repeated later is refused for its age.

use crate::core::{Secret, Timestamp};
use ring::hmac;
use std::time::Duration;

/// Where the parts of a signature stand, and how old it may be.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Signature {
    /// The header's name, in small letters.
    pub header: String,
    /// What stands before the instant in it.
    pub timestamp: String,
    /// What stands before a digest in it; there may be several, where the sender changes its secret.
    pub digest: String,
    /// How far its instant may be from our clock, either way.
    pub tolerance: Duration,
}

/// Why a message is not believed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Unbelieved {
    /// It has no signature that can be read.
    Unsigned,
    /// None of the secrets made it, or the body is another.
    Wrong,
    /// It was signed too long ago, or will be.
    Old,
}

impl Signature {
    /// When `body` was signed, if one of `secrets` did it, and about now. Every secret is tried, whatever the one
    /// before said.
    ///
    /// # Errors
    /// Why it is not believed.
    pub fn verify(
        &self,
        header: &str,
        body: &[u8],
        secrets: &[Secret],
        now: Timestamp,
    ) -> Result<Timestamp, Unbelieved> {
        let (instant, digests) = self.parts(header).ok_or(Unbelieved::Unsigned)?;
        let signed = [instant.as_bytes(), b".", body].concat();
        let is_made_with = |secret: &Secret| {
            let key = hmac::Key::new(hmac::HMAC_SHA256, secret.expose().as_bytes());
            digests.iter().any(|digest| hmac::verify(&key, &signed, digest).is_ok())
        };
        // An empty secret is everybody's.
        if !secrets.iter().any(|secret| !secret.is_blank() && is_made_with(secret)) {
            return Err(Unbelieved::Wrong);
        }
        let at = instant.parse().map(Timestamp::from_unix).map_err(|_| Unbelieved::Unsigned)?;
        let apart = at.since(now).max(now.since(at));
        if apart > self.tolerance { Err(Unbelieved::Old) } else { Ok(at) }
    }

    /// The instant as it is written, and the digests.
    fn parts<'a>(&self, header: &'a str) -> Option<(&'a str, Vec<[u8; DIGEST_BYTES]>)> {
        if header.len() > HEADER_BYTES_MAX {
            return None;
        }
        let named = |name: &str| {
            let part = |part: &'a str| part.trim().split_once('=');
            let named = header.split(',').filter_map(part);
            let name = name.to_owned();
            named.filter(move |(known, _)| *known == name).map(|(_, value)| value)
        };
        let instant = named(&self.timestamp).next()?;
        let is_number = !instant.is_empty() && instant.bytes().all(|byte| byte.is_ascii_digit());
        let digests: Vec<_> = named(&self.digest).filter_map(unhex).take(DIGESTS_MAX).collect();
        (is_number && !digests.is_empty()).then_some((instant, digests))
    }
}

fn unhex(text: &str) -> Option<[u8; DIGEST_BYTES]> {
    let (pairs, rest) = text.as_bytes().as_chunks::<2>();
    let mut digest = [0; DIGEST_BYTES];
    if pairs.len() != DIGEST_BYTES || !rest.is_empty() {
        return None;
    }
    for (byte, [high, low]) in digest.iter_mut().zip(pairs) {
        let value = |digit: u8| char::from(digit).to_digit(16);
        *byte = u8::try_from(value(*high)? * 16 + value(*low)?).ok()?;
    }
    Some(digest)
}

/// Of SHA-256.
const DIGEST_BYTES: usize = 32;

/// Longest header that is read.
const HEADER_BYTES_MAX: usize = 1024;

/// Most digests that are compared.
const DIGESTS_MAX: usize = 4;

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: i64 = 1_800_000_000;
    const BODY: &[u8] = br#"{"event":"authorization.removed"}"#;

    /// A sentence, a header, the secrets, and what follows.
    type Row = (&'static str, String, &'static [&'static str], Result<i64, Unbelieved>);

    fn form() -> Signature {
        Signature {
            header: "invented-signature".to_owned(),
            timestamp: "t".to_owned(),
            digest: "s".to_owned(),
            tolerance: Duration::from_secs(300),
        }
    }

    fn digest(secret: &str, instant: i64, body: &[u8]) -> String {
        let key = hmac::Key::new(hmac::HMAC_SHA256, secret.as_bytes());
        let tag = hmac::sign(&key, &[instant.to_string().as_bytes(), b".", body].concat());
        tag.as_ref().iter().map(|byte| format!("{byte:02x}")).collect()
    }

    fn verdict(header: &str, secrets: &[&str]) -> Result<i64, Unbelieved> {
        let secrets: Vec<Secret> = secrets.iter().map(|one| Secret::new((*one).into())).collect();
        let now = Timestamp::from_unix(NOW);
        form().verify(header, BODY, &secrets, now).map(Timestamp::as_unix)
    }

    #[test]
    fn a_signature_is_what_openssl_makes_of_the_same() {
        // printf '1800000000.{"event":"authorization.removed"}' | openssl dgst -sha256 -hmac invented-secret
        let known = "39b02ccf49d60349eca9f3c77c0c16f96466ab536cc0530552a7e0d33c63205a";
        assert_eq!(digest("invented-secret", NOW, BODY), known);
    }

    #[test]
    fn only_one_of_the_secrets_about_now_and_over_the_very_body_is_believed() {
        let good = digest("new", NOW, BODY);
        let signed = |instant: i64| format!("t={instant},s={}", digest("new", instant, BODY));
        let rows: [Row; 22] = [
            ("as it should be", signed(NOW), &["new"], Ok(NOW)),
            ("while the secret changes: the new one first", signed(NOW), &["new", "old"], Ok(NOW)),
            ("while the secret changes: the old one first", signed(NOW), &["old", "new"], Ok(NOW)),
            ("the other way round, with blanks", format!(" s={good} , t={NOW}"), &["new"], Ok(NOW)),
            ("parts that nobody knows", format!("v=2,t={NOW},s={good},x"), &["new"], Ok(NOW)),
            ("capitals", format!("t={NOW},s={}", good.to_uppercase()), &["new"], Ok(NOW)),
            (
                "two digests, one of them right",
                format!("t={NOW},s={},s={good}", digest("old", NOW, BODY)),
                &["new"],
                Ok(NOW),
            ),
            ("at the edge of the past", signed(NOW - 300), &["new"], Ok(NOW - 300)),
            ("at the edge of the future", signed(NOW + 300), &["new"], Ok(NOW + 300)),
            ("too old", signed(NOW - 301), &["new"], Err(Unbelieved::Old)),
            ("too far ahead", signed(NOW + 301), &["new"], Err(Unbelieved::Old)),
            ("another secret", signed(NOW), &["other"], Err(Unbelieved::Wrong)),
            ("no secret", signed(NOW), &[], Err(Unbelieved::Wrong)),
            (
                "a blank secret is everybody's",
                format!("t={NOW},s={}", digest("", NOW, BODY)),
                &[""],
                Err(Unbelieved::Wrong),
            ),
            (
                "another instant than the signed one",
                format!("t={},s={good}", NOW + 1),
                &["new"],
                Err(Unbelieved::Wrong),
            ),
            (
                "the first of two instants counts",
                format!("t={},t={NOW},s={good}", NOW + 1),
                &["new"],
                Err(Unbelieved::Wrong),
            ),
            (
                "another body",
                format!("t={NOW},s={}", digest("new", NOW, b"{}")),
                &["new"],
                Err(Unbelieved::Wrong),
            ),
            (
                "a truncated digest",
                format!("t={NOW},s={}", &good[..62]),
                &["new"],
                Err(Unbelieved::Unsigned),
            ),
            (
                "half a byte too much",
                format!("t={NOW},s={good}0"),
                &["new"],
                Err(Unbelieved::Unsigned),
            ),
            ("no instant", format!("s={good}"), &["new"], Err(Unbelieved::Unsigned)),
            (
                "an instant that is no number",
                format!("t=+{NOW},s={good}"),
                &["new"],
                Err(Unbelieved::Unsigned),
            ),
            (
                "a header without end",
                format!("{},t={NOW},s={good}", "x".repeat(1024)),
                &["new"],
                Err(Unbelieved::Unsigned),
            ),
        ];
        for (sentence, header, secrets, expected) in rows {
            assert_eq!(verdict(&header, secrets), expected, "{sentence}");
        }
        for junk in ["", "=", "t=,s=", "t=1,s=zz", "t=99999999999999999999,s=00", "\u{e9}=1"] {
            assert_eq!(verdict(junk, &["new"]), Err(Unbelieved::Unsigned), "{junk:?}");
        }
    }

    #[test]
    fn an_instant_beyond_all_numbers_is_no_signature() {
        let instant = "99999999999999999999999";
        let key = hmac::Key::new(hmac::HMAC_SHA256, b"new");
        let tag = hmac::sign(&key, &[instant.as_bytes(), b".", BODY].concat());
        let digest: String = tag.as_ref().iter().map(|byte| format!("{byte:02x}")).collect();
        let header = format!("t={instant},s={digest}");
        assert_eq!(verdict(&header, &["new"]), Err(Unbelieved::Unsigned));
    }
}
