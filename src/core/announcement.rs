//! What a provider says about an account on its own account, or a publisher that knows more: under a signature,
//! and without having been asked.
//!
//! It is believed, but it is about the token of its own time: whoever connected the account again since has
//! answered it. Absent on purpose: signatures. Whoever makes one of these has checked it.

use super::{AccountId, Evidence, Timestamp, TokenFacts};
use std::{sync::Arc, time::Duration};

/// One message about one account.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Announcement {
    /// Tells it from all others; the same message delivered again has the same.
    pub key: Arc<str>,
    /// Whom it is about.
    pub whose: Whose,
    /// What it says.
    pub said: Said,
    /// When we heard it.
    pub heard_at: Timestamp,
}

/// What an announcement says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Said {
    /// Something about the account's token, as of when.
    Evidence(Evidence),
    /// The account was connected again.
    Connected,
    /// Somebody wants something done, or did it himself.
    Order(Order),
}

/// What people and publishers want of an account.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Order {
    /// Publish nothing until somebody says [`Order::Resume`].
    Hold,
    /// Go on, as soon as the account is proven.
    Resume,
    /// Prove the account now.
    Prove,
    /// Refresh it now.
    Refresh,
    /// The publisher's canary came to this.
    Published {
        /// Whether it was taken.
        worked: bool,
        /// What the provider said, as far as it is understood.
        evidence: Option<Evidence>,
    },
}

/// Whom an announcement is about.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Whose {
    /// An account by its key in the store.
    Account(AccountId),
    /// Every account of an app that is this one at the provider.
    Subject {
        /// The app that was told.
        app: Arc<str>,
        /// The provider's id of the account.
        subject: Arc<str>,
    },
}

/// Who took a consent back.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Revoker {
    /// The person who had given it.
    User,
    /// The provider: the account was deleted or banned, or its owner may not use the app any more.
    Provider,
    /// Whoever the app belongs to.
    Developer,
    /// It is not said.
    Unknown,
}

impl Revoker {
    /// All of them.
    pub const ALL: [Self; 4] = [Self::User, Self::Provider, Self::Developer, Self::Unknown];

    /// The word for them in labels and messages.
    #[must_use]
    pub const fn as_label(self) -> &'static str {
        match self {
            Self::User => "user",
            Self::Provider => "provider",
            Self::Developer => "developer",
            Self::Unknown => "unknown",
        }
    }

    /// Who has this word.
    #[must_use]
    pub fn from_label(label: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|one| one.as_label() == label)
    }

    /// The finer word of evidence that says so; `None` where it is not said.
    #[must_use]
    pub const fn as_detail(self) -> Option<&'static str> {
        match self {
            Self::User => Some("revoked_by_user"),
            Self::Provider => Some("revoked_by_provider"),
            Self::Developer => Some("revoked_by_developer"),
            Self::Unknown => None,
        }
    }

    /// Whom evidence names.
    #[must_use]
    pub fn named_in(evidence: &Evidence) -> Self {
        Self::of_detail(evidence.detail.as_deref())
    }

    /// Whom the finer word of evidence names.
    #[must_use]
    pub fn of_detail(detail: Option<&str>) -> Self {
        if detail == Some(ACCOUNT_GONE) {
            return Self::Provider;
        }
        let says = |one: &Self| one.as_detail().is_some() && one.as_detail() == detail;
        Self::ALL.into_iter().find(says).unwrap_or(Self::Unknown)
    }
}

/// How an announcement bears on the token that the store holds now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Bearing {
    /// It is about a token before this one.
    Past,
    /// Nobody can tell, from two clocks, which was first.
    Unclear,
    /// It is about this one.
    Present,
}

/// How something that was true at `said_at` bears on `token`.
#[must_use]
pub fn bearing(token: &TokenFacts, said_at: Timestamp) -> Bearing {
    if said_at.plus(CLOCKS_APART_MAX) < token.issued_at {
        Bearing::Past
    } else if token.issued_at.plus(CLOCKS_APART_MAX) < said_at {
        Bearing::Present
    } else {
        Bearing::Unclear
    }
}

/// The one finer word of the catalogue that names the account and not who did it.
const ACCOUNT_GONE: &str = "account_gone_or_banned";

/// The announcement's instant is of the provider's clock, and the token's of ours or of the publisher's, or the
/// moment at which a pass over the store first met it.
pub const CLOCKS_APART_MAX: Duration = Duration::from_secs(5 * 60);

#[cfg(test)]
mod tests {
    use super::*;
    use crate::core::{Cause, Fingerprint};

    #[test]
    fn what_was_said_before_the_token_is_past_and_what_was_said_long_after_is_about_it() {
        let issued_at = Timestamp::from_unix(1_800_000_000);
        let token = TokenFacts {
            token: Fingerprint::from_hash(1),
            renewable_by: None,
            issued_at,
            expires_at: None,
            refresh_expires_at: None,
            missing_scopes: 0,
        };
        let second = Duration::from_secs(1);
        let apart = CLOCKS_APART_MAX;
        for (said_at, expected) in [
            (issued_at.minus(apart + second), Bearing::Past),
            (issued_at.minus(apart), Bearing::Unclear),
            (issued_at, Bearing::Unclear),
            (issued_at.plus(apart), Bearing::Unclear),
            (issued_at.plus(apart + second), Bearing::Present),
        ] {
            assert_eq!(bearing(&token, said_at), expected, "{said_at:?}");
        }
    }

    #[test]
    fn evidence_names_who_took_the_consent_back() {
        let mut evidence = Evidence::of(Cause::ConsentRevoked, Timestamp::from_unix(0));
        assert_eq!(Revoker::named_in(&evidence), Revoker::Unknown);
        for one in Revoker::ALL {
            evidence.detail = one.as_detail().map(Into::into);
            assert_eq!(Revoker::named_in(&evidence), one);
            assert_eq!(Revoker::from_label(one.as_label()), Some(one));
        }
        evidence.detail = Some(ACCOUNT_GONE.into());
        assert_eq!(Revoker::named_in(&evidence), Revoker::Provider);
    }
}
