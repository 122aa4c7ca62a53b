//! A token with its instants, and what may be known about it.

use crate::core::{Fingerprint, Secret, Timestamp, TokenFacts};
use std::time::Duration;

/// A whole token. It exists only in stores, in state, in here, and in the one call that uses it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Token {
    /// What the publisher sends with each post.
    pub access: Secret,
    /// What buys the next access token; `None` where the provider gave none.
    pub refresh: Option<Secret>,
    /// When the provider issued it, if anybody recorded that.
    pub issued_at: Option<Timestamp>,
    /// The access token's declared end.
    pub expires_at: Option<Timestamp>,
    /// The refresh token's declared end.
    pub refresh_expires_at: Option<Timestamp>,
    /// Granted scopes; `None` when unknown.
    pub scopes: Option<Vec<String>>,
    /// The provider's own id of the account (`open_id`, `sub`), where it is known.
    pub subject: Option<String>,
}

impl Token {
    /// Everything about the token that is no secret.
    ///
    /// `renews_itself` says that the access token is the credential (Instagram, Threads).
    /// `first_seen_at` stands in for an unrecorded issue time. `required` is the app's list of
    /// scopes; beyond 32 they are not told apart.
    #[must_use]
    pub fn facts(
        &self,
        fingerprinter: &Fingerprinter,
        renews_itself: bool,
        first_seen_at: Timestamp,
        required: &[std::sync::Arc<str>],
    ) -> TokenFacts {
        let refresh = self.refresh.as_ref().filter(|refresh| !refresh.is_blank());
        let renewable_by = if renews_itself { Some(&self.access) } else { refresh };
        let missing_scopes = self.scopes.as_ref().map_or(0, |granted| {
            required
                .iter()
                .take(32)
                .enumerate()
                .filter(|(_, scope)| !granted.iter().any(|have| have.as_str() == &***scope))
                .fold(0, |mask, (bit, _)| mask | (1 << bit))
        });
        TokenFacts {
            token: fingerprinter.of_token(self),
            renewable_by: renewable_by.map(|secret| fingerprinter.of_secret(secret)),
            issued_at: self.issued_at.unwrap_or(first_seen_at),
            expires_at: self.expires_at,
            refresh_expires_at: self.refresh_expires_at,
            missing_scopes,
        }
    }
}

/// A parsed success answer of a token endpoint. Which account it belongs to is checked by the caller.
#[derive(Clone)]
pub struct Grant {
    /// The new access token, never blank.
    pub access: Secret,
    /// The new refresh token; `None` when the answer had none or a blank one, and then the old one stays
    /// (RFC 6749 section 6).
    pub refresh: Option<Secret>,
    /// Declared life of the access token.
    pub expires_in: Option<Duration>,
    /// Declared life of the refresh token from now.
    pub refresh_expires_in: Option<Duration>,
    /// Granted scopes; `None` when the answer does not say, which means "as before" (RFC 6749 section 5.1).
    pub scopes: Option<Vec<String>>,
    /// The provider's id of the account.
    pub subject: Option<String>,
}

impl Grant {
    /// The token that the store should now hold. Expiries count from the **start** of the request: the
    /// provider's clock started before its answer reached us.
    #[must_use]
    pub fn onto(self, old: &Token, requested_at: Timestamp) -> Token {
        // A new refresh token without a declared end does not inherit the old one's end.
        let rotated = self.refresh.is_some() && self.refresh != old.refresh;
        let kept_end = if rotated { None } else { old.refresh_expires_at };
        Token {
            access: self.access,
            refresh: self.refresh.or_else(|| old.refresh.clone()),
            issued_at: Some(requested_at),
            expires_at: self.expires_in.map(|life| requested_at.plus(life)),
            refresh_expires_at: self
                .refresh_expires_in
                .map(|life| requested_at.plus(life))
                .or(kept_end),
            scopes: self.scopes.or_else(|| old.scopes.clone()),
            subject: self.subject.or_else(|| old.subject.clone()),
        }
    }
}

/// One app's registration at the provider, read when it is about to be used.
pub struct Credentials {
    /// Public id of the app (`client_key` at TikTok).
    pub client_id: String,
    /// Its secret; absent for public clients.
    pub client_secret: Option<Secret>,
}

/// Makes fingerprints with a key of this installation, so that equal tokens in two installations look
/// different and nobody can test guesses against a dashboard.
#[derive(Clone)]
pub struct Fingerprinter(ring::hmac::Key);

impl Fingerprinter {
    /// From key material that stays with the state.
    #[must_use]
    pub fn new(key: &[u8]) -> Self {
        Self(ring::hmac::Key::new(ring::hmac::HMAC_SHA256, key))
    }

    /// Of one secret.
    #[must_use]
    pub fn of_secret(&self, secret: &Secret) -> Fingerprint {
        self.of_parts([secret.expose()])
    }

    /// Of access and refresh token together: changes when either does.
    #[must_use]
    pub fn of_token(&self, token: &Token) -> Fingerprint {
        let refresh = token.refresh.as_ref().map_or("", |refresh| refresh.expose());
        self.of_parts([token.access.expose(), refresh])
    }

    fn of_parts<const N: usize>(&self, parts: [&str; N]) -> Fingerprint {
        let mut context = ring::hmac::Context::with_key(&self.0);
        for part in parts {
            // The length goes first, or ("ab", "c") and ("a", "bc") would be one token.
            context.update(&(part.len() as u64).to_be_bytes());
            context.update(part.as_bytes());
        }
        let tag = context.sign();
        let mut head = [0; 8];
        head.copy_from_slice(&tag.as_ref()[..8]);
        Fingerprint::from_hash(u64::from_be_bytes(head))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn token(access: &str, refresh: Option<&str>) -> Token {
        Token {
            access: Secret::new(access.to_owned()),
            refresh: refresh.map(|text| Secret::new(text.to_owned())),
            issued_at: None,
            expires_at: None,
            refresh_expires_at: Some(Timestamp::from_unix(5_000)),
            scopes: Some(vec!["video.publish".to_owned()]),
            subject: None,
        }
    }

    fn grant(refresh: Option<&str>) -> Grant {
        Grant {
            access: Secret::new("new-access".to_owned()),
            refresh: refresh.map(|text| Secret::new(text.to_owned())),
            expires_in: Some(Duration::from_secs(60)),
            refresh_expires_in: None,
            scopes: None,
            subject: None,
        }
    }

    #[test]
    fn an_answer_without_a_refresh_token_keeps_the_stored_one_and_its_end() {
        let kept = grant(None).onto(&token("old", Some("keep-me")), Timestamp::from_unix(1_000));
        assert_eq!(kept.refresh, Some(Secret::new("keep-me".to_owned())));
        assert_eq!(kept.refresh_expires_at, Some(Timestamp::from_unix(5_000)));
        assert_eq!(kept.expires_at, Some(Timestamp::from_unix(1_060)));
        assert_eq!(kept.scopes, Some(vec!["video.publish".to_owned()]));
    }

    #[test]
    fn a_rotated_refresh_token_does_not_inherit_the_old_end() {
        let new =
            grant(Some("rotated")).onto(&token("old", Some("r0")), Timestamp::from_unix(1_000));
        assert_eq!(new.refresh_expires_at, None);
    }

    #[test]
    fn moving_a_byte_between_access_and_refresh_token_changes_the_fingerprint() {
        let maker = Fingerprinter::new(b"invented key");
        let one = maker.of_token(&token("ab", Some("c")));
        assert_ne!(one, maker.of_token(&token("a", Some("bc"))));
        assert_ne!(one, Fingerprinter::new(b"other key").of_token(&token("ab", Some("c"))));
    }

    #[test]
    fn a_blank_refresh_token_renews_nothing() {
        let maker = Fingerprinter::new(b"invented key");
        let facts = token("a", Some("  ")).facts(&maker, false, Timestamp::MIN, &[]);
        assert_eq!(facts.renewable_by, None);
    }

    #[test]
    fn each_required_scope_that_was_not_granted_is_one_bit() {
        let maker = Fingerprinter::new(b"invented key");
        let required = ["user.info.basic", "video.publish", "video.upload"].map(Into::into);
        let facts = token("a", Some("r")).facts(&maker, false, Timestamp::MIN, &required);
        assert_eq!(facts.missing_scopes, 0b101);
    }
}
