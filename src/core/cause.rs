//! Every cause: its label, how far it reaches, who must act, and what to tell them.

/// What is wrong with an account. The label is an API: it stands in metrics, alerts, mails and state.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[repr(u8)]
pub enum Cause {
    /// The access token reached its end, or a 401 was confirmed. A refresh mends it.
    AccessTokenExpired,
    /// The refresh token reached its own declared end.
    RefreshTokenExpired,
    /// The provider called the refresh token dead without saying why.
    RefreshTokenRejected,
    /// The provider said that the owner, or somebody for them, took the consent back.
    ConsentRevoked,
    /// A scope that the app requires is not granted.
    ScopeMissing,
    /// The provider refuses the app itself: `invalid_client` and kin.
    AppCredentialsRejected,
    /// The redirect URI is not the registered one; only at authorize or code exchange.
    RedirectUriMismatch,
    /// Sandbox and production mixed, another account's token, an app that is not approved.
    WrongEnvironment,
    /// The provider asked us to wait.
    RateLimited,
    /// The provider, or the way to it, is out of order.
    ProviderOutage,
    /// Our clock and the provider's differ.
    ClockDrift,
    /// The publisher's store, or our state, cannot be read or written.
    StoreUnreachable,
    /// A request's outcome stayed unknown and the one probe was refused: the new token never reached us.
    RotationLost,
    /// A new token was received and the store has not taken it.
    UnsavedToken,
    /// The token works and nothing can renew it.
    NotRenewable,
    /// Anything else.
    Unknown,
}

/// How far a cause reaches.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BlastRadius {
    /// One account.
    Account,
    /// Every account of one app.
    App,
    /// Every account at one provider.
    Provider,
    /// Everything this process keeps.
    Host,
}

/// Who can do something about it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Actor {
    /// Nobody needs to: it is retried.
    Nobody,
    /// The owner of the account.
    Owner,
    /// Whoever runs the sidecar.
    Operator,
}

impl Cause {
    /// All causes, in the order of their numbers.
    pub const ALL: [Self; 16] = [
        Self::AccessTokenExpired,
        Self::RefreshTokenExpired,
        Self::RefreshTokenRejected,
        Self::ConsentRevoked,
        Self::ScopeMissing,
        Self::AppCredentialsRejected,
        Self::RedirectUriMismatch,
        Self::WrongEnvironment,
        Self::RateLimited,
        Self::ProviderOutage,
        Self::ClockDrift,
        Self::StoreUnreachable,
        Self::RotationLost,
        Self::UnsavedToken,
        Self::NotRenewable,
        Self::Unknown,
    ];

    /// The word for it in labels, logs and state.
    #[must_use]
    pub const fn as_label(self) -> &'static str {
        match self {
            Self::AccessTokenExpired => "access_token_expired",
            Self::RefreshTokenExpired => "refresh_token_expired",
            Self::RefreshTokenRejected => "refresh_token_rejected",
            Self::ConsentRevoked => "consent_revoked",
            Self::ScopeMissing => "scope_missing",
            Self::AppCredentialsRejected => "app_credentials_rejected",
            Self::RedirectUriMismatch => "redirect_uri_mismatch",
            Self::WrongEnvironment => "wrong_environment",
            Self::RateLimited => "rate_limited",
            Self::ProviderOutage => "provider_outage",
            Self::ClockDrift => "clock_drift",
            Self::StoreUnreachable => "store_unreachable",
            Self::RotationLost => "rotation_lost",
            Self::UnsavedToken => "unsaved_token",
            Self::NotRenewable => "not_renewable",
            Self::Unknown => "unknown",
        }
    }

    /// The cause with this label.
    #[must_use]
    pub fn from_label(label: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|cause| cause.as_label() == label)
    }

    /// Position in [`Cause::ALL`].
    #[must_use]
    pub const fn index(self) -> usize {
        self as usize
    }

    /// How far it reaches.
    #[must_use]
    pub const fn blast_radius(self) -> BlastRadius {
        match self {
            Self::AppCredentialsRejected | Self::RedirectUriMismatch => BlastRadius::App,
            Self::ProviderOutage => BlastRadius::Provider,
            Self::ClockDrift | Self::StoreUnreachable => BlastRadius::Host,
            _ => BlastRadius::Account,
        }
    }

    /// Who must act.
    #[must_use]
    pub const fn actor(self) -> Actor {
        match self {
            Self::AccessTokenExpired | Self::RateLimited | Self::ProviderOutage => Actor::Nobody,
            Self::RefreshTokenExpired
            | Self::RefreshTokenRejected
            | Self::ConsentRevoked
            | Self::ScopeMissing
            | Self::RotationLost
            | Self::NotRenewable => Actor::Owner,
            Self::AppCredentialsRejected
            | Self::RedirectUriMismatch
            | Self::WrongEnvironment
            | Self::ClockDrift
            | Self::StoreUnreachable
            | Self::UnsavedToken
            | Self::Unknown => Actor::Operator,
        }
    }

    /// True when no request of ours can mend it: only a person or a new token in the store.
    #[must_use]
    pub const fn needs_reconnect(self) -> bool {
        matches!(
            self,
            Self::RefreshTokenExpired
                | Self::RefreshTokenRejected
                | Self::ConsentRevoked
                | Self::RotationLost
        )
    }

    /// How urgent it is; the status page shows the highest first.
    #[must_use]
    pub const fn severity(self) -> u8 {
        match self {
            Self::UnsavedToken => 5,
            Self::RefreshTokenExpired
            | Self::RefreshTokenRejected
            | Self::ConsentRevoked
            | Self::RotationLost
            | Self::AppCredentialsRejected
            | Self::WrongEnvironment => 4,
            Self::ScopeMissing | Self::StoreUnreachable | Self::NotRenewable => 3,
            Self::AccessTokenExpired
            | Self::RedirectUriMismatch
            | Self::ClockDrift
            | Self::Unknown => 2,
            Self::RateLimited | Self::ProviderOutage => 1,
        }
    }

    /// What happened, for somebody who knows nothing of OAuth.
    #[must_use]
    pub const fn sentence(self) -> &'static str {
        match self {
            Self::AccessTokenExpired => "The access token has expired.",
            Self::RefreshTokenExpired => {
                "The connection reached the end of its life and can no longer be renewed."
            }
            Self::RefreshTokenRejected => {
                "The provider no longer accepts this connection. It expired, or somebody removed it."
            }
            Self::ConsentRevoked => "The permission for this connection was withdrawn.",
            Self::ScopeMissing => "A permission that publishing needs was not granted.",
            Self::AppCredentialsRejected => {
                "The provider refuses the app itself: its client id or client secret is wrong."
            }
            Self::RedirectUriMismatch => "The redirect URI is not the one registered for the app.",
            Self::WrongEnvironment => {
                "The token does not belong to this account, app or environment."
            }
            Self::RateLimited => "The provider asked to be called less often.",
            Self::ProviderOutage => "The provider cannot be reached or answers with errors.",
            Self::ClockDrift => "This machine's clock differs from the provider's.",
            Self::StoreUnreachable => "The token store cannot be read or written.",
            Self::RotationLost => {
                "The provider's answer to a renewal was lost on the way, and the old token is spent."
            }
            Self::UnsavedToken => "A new token was received but the token store has not taken it.",
            Self::NotRenewable => "The connection works now but cannot be renewed before it ends.",
            Self::Unknown => "Renewing failed for a reason that the provider did not make clear.",
        }
    }

    /// The one thing to do next.
    #[must_use]
    pub const fn next_step(self) -> &'static str {
        match self {
            Self::AccessTokenExpired | Self::RateLimited | Self::ProviderOutage => {
                "Nothing: it is tried again by itself."
            }
            Self::RefreshTokenExpired
            | Self::RefreshTokenRejected
            | Self::ConsentRevoked
            | Self::RotationLost
            | Self::NotRenewable => "Reconnect the account in your publishing tool.",
            Self::ScopeMissing => {
                "Reconnect the account in your publishing tool and grant every permission it asks for."
            }
            Self::AppCredentialsRejected => {
                "Compare client id and client secret with the provider's developer portal and mend them."
            }
            Self::RedirectUriMismatch => {
                "Make the redirect URI in the configuration equal to the registered one, character for character."
            }
            Self::WrongEnvironment => {
                "Check which app, environment and account this token was issued for."
            }
            Self::ClockDrift => "Correct the machine's clock (chrony or systemd-timesyncd).",
            Self::StoreUnreachable => {
                "Make the token store readable and writable for the sidecar again."
            }
            Self::UnsavedToken => {
                "Make the token store writable again at once, and do not stop the sidecar before it saved."
            }
            Self::Unknown => {
                "Look at the evidence on the status page and at the provider's status."
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_label_leads_back_to_its_cause() {
        for (index, cause) in Cause::ALL.into_iter().enumerate() {
            assert_eq!(Cause::from_label(cause.as_label()), Some(cause));
            assert_eq!(cause.index(), index);
        }
    }

    #[test]
    fn what_nobody_can_mend_is_nobodys_duty() {
        for cause in Cause::ALL {
            assert!(
                !(cause.needs_reconnect() && cause.actor() != Actor::Owner),
                "{cause:?}: only the owner can reconnect"
            );
        }
    }
}
