//! What to do next, in plain words, and who has to do it. One step only: a list is what nobody begins.

use crate::core::cause::Actor;

/// The one next step.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Step {
    /// All is well.
    Nothing,
    /// It is tried again by itself.
    Wait,
    /// The owner connects the account: there is no token for it.
    Connect,
    /// The owner connects the account again.
    Reconnect,
    /// The owner connects it again and grants everything.
    ReconnectGranting,
    /// The owner connects it again, and the publishing tool asks for a refresh token.
    ReconnectOffline,
    /// Nothing ever worked: look at the registration before anybody is asked to reconnect.
    CheckSetUp,
    /// Two refresh the same account: one must stop.
    StopPublisher,
    /// Wrong client id or secret.
    MendCredentials,
    /// The secret is not there.
    MendSecretFile,
    /// Wrong redirect URI.
    MendRedirectUri,
    /// The wrong account came back.
    CompareAccount,
    /// The token is another app's.
    CompareClient,
    /// Sandbox or production.
    CompareEnvironment,
    /// The app itself may not ask for the scopes.
    ApproveScopes,
    /// The clock is off.
    MendClock,
    /// The store cannot be used.
    MendStore,
    /// The state cannot be used.
    MendState,
    /// A token waits to be saved.
    SaveAtOnce,
    /// The provider lets the account publish no more, and its owner can ask why.
    Appeal,
    /// The provider refuses to let the account publish, for a reason that is the app's or the tool's.
    MendPublishing,
    /// Nobody knows; the provider does.
    AskSupport,
}

impl Step {
    /// Every step.
    pub const ALL: [Self; 22] = [
        Self::Nothing,
        Self::Wait,
        Self::Connect,
        Self::Reconnect,
        Self::ReconnectGranting,
        Self::ReconnectOffline,
        Self::CheckSetUp,
        Self::StopPublisher,
        Self::MendCredentials,
        Self::MendSecretFile,
        Self::MendRedirectUri,
        Self::CompareAccount,
        Self::CompareClient,
        Self::CompareEnvironment,
        Self::ApproveScopes,
        Self::MendClock,
        Self::MendStore,
        Self::MendState,
        Self::SaveAtOnce,
        Self::Appeal,
        Self::MendPublishing,
        Self::AskSupport,
    ];

    /// The word for it. It is an API.
    #[must_use]
    pub const fn as_label(self) -> &'static str {
        match self {
            Self::Nothing => "nothing",
            Self::Wait => "wait",
            Self::Connect => "connect",
            Self::Reconnect => "reconnect",
            Self::ReconnectGranting => "reconnect_granting_all",
            Self::ReconnectOffline => "reconnect_with_offline_access",
            Self::CheckSetUp => "check_set_up",
            Self::StopPublisher => "stop_second_refresher",
            Self::MendCredentials => "mend_credentials",
            Self::MendSecretFile => "mend_secret_file",
            Self::MendRedirectUri => "mend_redirect_uri",
            Self::CompareAccount => "compare_account",
            Self::CompareClient => "compare_client_id",
            Self::CompareEnvironment => "compare_environment",
            Self::ApproveScopes => "get_scopes_approved",
            Self::MendClock => "mend_clock",
            Self::MendStore => "mend_store",
            Self::MendState => "mend_state",
            Self::SaveAtOnce => "make_store_writable_at_once",
            Self::Appeal => "appeal",
            Self::MendPublishing => "mend_publishing",
            Self::AskSupport => "ask_support",
        }
    }

    /// The step with this label.
    #[must_use]
    pub fn from_label(label: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|step| step.as_label() == label)
    }

    /// True when the connection works and publishing is refused all the same.
    #[must_use]
    pub const fn is_about_publishing(self) -> bool {
        matches!(self, Self::Appeal | Self::MendPublishing)
    }

    /// Who acts.
    #[must_use]
    pub const fn actor(self) -> Actor {
        match self {
            Self::Nothing | Self::Wait => Actor::Nobody,
            Self::Connect | Self::Reconnect | Self::ReconnectGranting | Self::Appeal => {
                Actor::Owner
            }
            _ => Actor::Operator,
        }
    }

    /// What to do, to whoever acts.
    #[must_use]
    pub const fn sentence(self) -> &'static str {
        match self {
            Self::Nothing => "Nothing is to be done.",
            Self::Wait => "Nothing: it is tried again by itself.",
            Self::Connect => "Connect the account in your publishing tool.",
            Self::Reconnect => "Reconnect the account in your publishing tool.",
            Self::ReconnectGranting => {
                "Reconnect the account in your publishing tool and grant every permission it asks for."
            }
            Self::ReconnectOffline => {
                "Let the publishing tool ask for offline access when it connects, then have the owner reconnect the account: it has no refresh token."
            }
            Self::CheckSetUp => {
                "Nothing has worked yet: compare client id, client secret, redirect URI, environment and scopes of the app with the provider's developer portal, then have the owner connect the account again."
            }
            Self::StopPublisher => {
                "Switch off the publishing tool's own refreshing of this account, then have the owner reconnect it: two that refresh it spend each other's tokens."
            }
            Self::MendCredentials => {
                "Compare client id and client secret with the provider's developer portal and mend them."
            }
            Self::MendSecretFile => "Make the app's client secret readable for the sidecar again.",
            Self::MendRedirectUri => {
                "Make the redirect URI in the publishing tool equal to the registered one, character for character."
            }
            Self::CompareAccount => {
                "Compare the account id in the token store with the account that was connected, and have the right one connected."
            }
            Self::CompareClient => {
                "Compare the app's client id with the one that the publishing tool connects accounts with."
            }
            Self::CompareEnvironment => {
                "Compare the app's environment, sandbox or production, with the one that the account was connected in."
            }
            Self::ApproveScopes => {
                "Get the app approved for these permissions in the provider's developer portal: no account of it has them."
            }
            Self::MendClock => "Correct the machine's clock (chrony or systemd-timesyncd).",
            Self::MendStore => "Make the token store readable and writable for the sidecar again.",
            Self::MendState => "Make the sidecar's state directory or database writable again.",
            Self::SaveAtOnce => {
                "Make the token store writable again at once, and do not stop the sidecar before it saved."
            }
            Self::Appeal => {
                "Log in at the provider with this account and look what it says about posting: only you can ask it why, or appeal. Posting goes on by itself as soon as the provider allows it."
            }
            Self::MendPublishing => {
                "Look up what the provider says below: the connection works, and it does not let the account publish. It is asked again by itself, and posting goes on when it agrees."
            }
            Self::AskSupport => {
                "Look up the provider's code below; if it says nothing, send the log id to the provider's support."
            }
        }
    }
}
