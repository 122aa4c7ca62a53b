//! Seals what must not lie in clear: tokens and mail addresses.
//!
//! XChaCha20-Poly1305 with a random nonce. What a record is for is sealed in with it, so that a record copied
//! to another account's row does not open. Each record names its key, so that keys can be changed.

use super::writer::Refusal;
use crate::core::AccountId;
use chacha20poly1305::{
    XChaCha20Poly1305, XNonce,
    aead::{Aead, KeyInit, Payload},
};
use ring::hmac;
use std::io;
use zeroize::Zeroizing;

/// Thirty-two random bytes, wiped when dropped.
pub(super) type Key = Zeroizing<[u8; KEY_BYTES]>;

/// Which key sealed a record; says nothing about the key.
pub(super) type KeyId = [u8; KEY_ID_BYTES];

/// Seals, opens, and derives everything else that must hang on this installation's key.
pub(super) struct Sealer {
    cipher: XChaCha20Poly1305,
    key_id: KeyId,
    master: hmac::Key,
}

/// What a record is for.
#[derive(Clone, Copy)]
pub(super) struct Context<'a> {
    purpose: &'static str,
    parts: [&'a str; 2],
}

impl<'a> Context<'a> {
    /// A token of this account.
    pub(super) fn token(id: &'a AccountId) -> Self {
        Self { purpose: "token", parts: [&id.provider, &id.account] }
    }

    /// An address that hears of this subject.
    pub(super) const fn address(subject: &'a str) -> Self {
        Self { purpose: "address", parts: [subject, ""] }
    }

    /// A token with its attempt, outside of the journal.
    pub(super) const fn spilled() -> Self {
        Self { purpose: "spilled", parts: ["", ""] }
    }

    /// What a consent that was begun with this link must know when it ends.
    pub(super) const fn consent(link: &'a str) -> Self {
        Self { purpose: "consent", parts: [link, ""] }
    }

    fn as_bytes(&self) -> Vec<u8> {
        let mut bytes = Vec::new();
        for part in [self.purpose, self.parts[0], self.parts[1]] {
            // The length goes first, or moving a byte between two parts would change nothing.
            bytes.extend_from_slice(&(part.len() as u64).to_be_bytes());
            bytes.extend_from_slice(part.as_bytes());
        }
        bytes
    }
}

impl Sealer {
    /// From the key in the key file.
    pub(super) fn new(key: &Key) -> Self {
        let master = hmac::Key::new(hmac::HMAC_SHA256, &key[..]);
        let sealing = hmac::sign(&master, b"seal");
        let cipher = XChaCha20Poly1305::new_from_slice(sealing.as_ref())
            .expect("SHA-256 has as many bytes as the cipher's key");
        let mut key_id = [0; KEY_ID_BYTES];
        key_id.copy_from_slice(&hmac::sign(&master, b"key id").as_ref()[..KEY_ID_BYTES]);
        Self { cipher, key_id, master }
    }

    /// Which key this is.
    pub(super) const fn key_id(&self) -> KeyId {
        self.key_id
    }

    /// Thirty-two bytes that only this installation can compute.
    pub(super) fn derive(&self, label: &str) -> Zeroizing<Vec<u8>> {
        Zeroizing::new(hmac::sign(&self.master, label.as_bytes()).as_ref().to_vec())
    }

    /// Seals `plain` for `context`.
    pub(super) fn seal(&self, context: Context<'_>, plain: &[u8]) -> Result<Vec<u8>, Refusal> {
        let mut nonce = [0; NONCE_BYTES];
        fill_random(&mut nonce).map_err(no_randomness)?;
        let payload = Payload { msg: plain, aad: &context.as_bytes() };
        let sealed = self
            .cipher
            .encrypt(&XNonce::from(nonce), payload)
            .expect("the cipher takes any text that fits into memory");
        Ok([&[FORMAT][..], &self.key_id, &nonce, &sealed].concat())
    }

    /// Opens what was sealed for `context`.
    pub(super) fn open(
        &self,
        context: Context<'_>,
        record: &[u8],
    ) -> Result<Zeroizing<Vec<u8>>, Refusal> {
        let damaged = |reason: &str| Refusal::Damaged(reason.to_owned());
        let (head, sealed) = record
            .split_at_checked(HEAD_BYTES)
            .ok_or_else(|| damaged("a sealed record is short"))?;
        if head[0] != FORMAT {
            return Err(damaged("a sealed record is of a newer version; run that version"));
        }
        let (key_id, nonce) = head[1..].split_at(KEY_ID_BYTES);
        if key_id != self.key_id {
            return Err(damaged("a record was sealed with another key; bring that key file back"));
        }
        let nonce: [u8; NONCE_BYTES] = nonce.try_into().expect("the head has room for one nonce");
        let payload = Payload { msg: sealed, aad: &context.as_bytes() };
        let plain = self
            .cipher
            .decrypt(&XNonce::from(nonce), payload)
            .map_err(|_| damaged("a sealed record was altered; restore it from a backup"))?;
        Ok(Zeroizing::new(plain))
    }
}

/// Fills `bytes` from the system's generator.
pub(super) fn fill_random(bytes: &mut [u8]) -> io::Result<()> {
    getrandom::fill(bytes).map_err(|error| io::Error::other(error.to_string()))
}

/// The system's generator failed.
pub(super) fn no_randomness(error: io::Error) -> Refusal {
    Refusal::Unavailable(format!("the system gives no randomness: {error}"))
}

/// Length of the key, in bytes.
pub(super) const KEY_BYTES: usize = 32;

/// The first byte of every record.
const FORMAT: u8 = 1;
const KEY_ID_BYTES: usize = 4;
const NONCE_BYTES: usize = 24;
const HEAD_BYTES: usize = 1 + KEY_ID_BYTES + NONCE_BYTES;

#[cfg(test)]
mod tests {
    use super::*;

    fn sealer(byte: u8) -> Sealer {
        Sealer::new(&Zeroizing::new([byte; KEY_BYTES]))
    }

    fn reason<T>(result: Result<T, Refusal>) -> String {
        match result {
            Err(Refusal::Damaged(reason)) => reason,
            Err(other) => panic!("expected damage, got {other:?}"),
            Ok(_) => panic!("expected damage, and it opened"),
        }
    }

    #[test]
    fn a_record_opens_for_its_own_account_only() {
        let ann = AccountId::new("tiktok", "ann");
        let record = sealer(1).seal(Context::token(&ann), b"invented").unwrap();
        assert_eq!(&**sealer(1).open(Context::token(&ann), &record).unwrap(), b"invented");
        for other in [AccountId::new("tiktok", "bob"), AccountId::new("tikto", "kann")] {
            assert!(reason(sealer(1).open(Context::token(&other), &record)).contains("altered"));
        }
        assert!(reason(sealer(1).open(Context::address("ann"), &record)).contains("altered"));
    }

    #[test]
    fn a_record_of_another_key_names_the_remedy() {
        let id = AccountId::new("tiktok", "ann");
        let record = sealer(1).seal(Context::token(&id), b"invented").unwrap();
        assert!(reason(sealer(2).open(Context::token(&id), &record)).contains("another key"));
    }

    #[test]
    fn every_flipped_or_missing_byte_is_noticed() {
        let id = AccountId::new("tiktok", "ann");
        let record = sealer(1).seal(Context::token(&id), b"invented").unwrap();
        for at in 0..record.len() {
            let mut flipped = record.clone();
            flipped[at] ^= 1;
            reason(sealer(1).open(Context::token(&id), &flipped));
            reason(sealer(1).open(Context::token(&id), &record[..at]));
        }
    }

    #[test]
    fn the_same_text_sealed_twice_looks_different() {
        let id = AccountId::new("tiktok", "ann");
        let sealer = sealer(1);
        let (one, two) = (
            sealer.seal(Context::token(&id), b"invented").unwrap(),
            sealer.seal(Context::token(&id), b"invented").unwrap(),
        );
        assert_ne!(one, two);
    }
}
