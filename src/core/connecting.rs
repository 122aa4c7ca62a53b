//! What can become of an owner who follows a link, in the words that the owner reads.
//!
//! Each wrong turn is told apart, because each has another next step. Whatever goes wrong, the account is as it was.

use super::{AccountId, Timestamp};
use std::{sync::Arc, time::Duration};

/// Whose connection it is about, as people call it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Named {
    /// The account.
    pub id: AccountId,
    /// Its app.
    pub app: Arc<str>,
    /// Its provider's name for people.
    pub title: Arc<str>,
}

/// What a person is about to be asked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Asked {
    /// For which account.
    pub named: Named,
    /// The permissions that the provider will name.
    pub scopes: Vec<String>,
    /// When the link ends.
    pub ends_at: Timestamp,
}

/// Where a person is sent.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Departure {
    /// The provider's consent page.
    pub to: String,
    /// What the browser shows when it comes back.
    pub browser: String,
    /// For how long it keeps that.
    pub lasts: Duration,
}

/// Somebody came back, and the account is connected.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Arrived {
    /// Which account.
    pub named: Named,
    /// How its token was taken in.
    pub arrival: Arrival,
    /// False when nobody could tell whether it is the same account as before.
    pub is_proven: bool,
    /// False when the provider did not say which permissions were granted.
    pub are_scopes_known: bool,
    /// True while a person holds the account, so that its queue does not resume by itself.
    pub is_held: bool,
}

/// Somebody took a wrong turn.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Wrong {
    /// Which.
    pub turn: Turn,
    /// On the way to which account, as far as that is known.
    pub named: Option<Named>,
    /// The permissions that were not granted.
    pub missing: Vec<String>,
    /// The last part of the link with which the same browser may begin again.
    pub again: Option<String>,
    /// What to do instead, where the provider's description says it.
    pub instead: Option<String>,
}

impl Wrong {
    /// Nothing else is known.
    #[must_use]
    pub const fn turn(turn: Turn) -> Self {
        Self { turn, named: None, missing: Vec::new(), again: None, instead: None }
    }

    /// The same, on the way to this account.
    #[must_use]
    pub fn on_the_way_to(mut self, named: &Named) -> Self {
        self.named = Some(named.clone());
        self
    }
}

/// Where the way ended before a new token was saved.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Turn {
    /// The link is not ours as it stands.
    LinkAltered,
    /// The link has ended.
    LinkEnded,
    /// The link did its work.
    LinkUsed,
    /// Another browser has begun with the link, or was begun in.
    OtherBrowser,
    /// The account is not in the store, or switched off there.
    UnknownAccount,
    /// Nothing can connect accounts of this app by a link.
    NoConsentPage,
    /// Nobody was sent away with the state that came back.
    WrongState,
    /// Somebody came back with it before.
    Replayed,
    /// The person said no.
    Denied,
    /// The person consented for another account.
    OtherAccount,
    /// The person did not grant all that publishing needs.
    FewerScopes,
    /// The code was too old, or brought before.
    CodeRefused,
    /// The provider refuses the app, or what it asks for.
    AppRefused,
    /// The provider knows another redirect URI.
    RedirectUriMismatch,
    /// The provider did not answer, or not with a token.
    ProviderTrouble,
    /// Somebody else put a token into the store meanwhile.
    Overtaken,
    /// An earlier attempt is not settled.
    Busy,
    /// Our state or the store cannot be used now.
    Unavailable,
}

impl Turn {
    /// All of them.
    pub const ALL: [Self; 18] = [
        Self::LinkAltered,
        Self::LinkEnded,
        Self::LinkUsed,
        Self::OtherBrowser,
        Self::UnknownAccount,
        Self::NoConsentPage,
        Self::WrongState,
        Self::Replayed,
        Self::Denied,
        Self::OtherAccount,
        Self::FewerScopes,
        Self::CodeRefused,
        Self::AppRefused,
        Self::RedirectUriMismatch,
        Self::ProviderTrouble,
        Self::Overtaken,
        Self::Busy,
        Self::Unavailable,
    ];

    /// The word for it in metrics and in JSON.
    #[must_use]
    pub const fn as_label(self) -> &'static str {
        match self {
            Self::LinkAltered => "link_altered",
            Self::LinkEnded => "link_ended",
            Self::LinkUsed => "link_used",
            Self::OtherBrowser => "other_browser",
            Self::UnknownAccount => "unknown_account",
            Self::NoConsentPage => "no_consent_page",
            Self::WrongState => "wrong_state",
            Self::Replayed => "replayed",
            Self::Denied => "denied",
            Self::OtherAccount => "other_account",
            Self::FewerScopes => "fewer_scopes",
            Self::CodeRefused => "code_refused",
            Self::AppRefused => "app_refused",
            Self::RedirectUriMismatch => "redirect_uri_mismatch",
            Self::ProviderTrouble => "provider_trouble",
            Self::Overtaken => "overtaken",
            Self::Busy => "busy",
            Self::Unavailable => "unavailable",
        }
    }

    /// What happened, in a few words.
    #[must_use]
    pub const fn heading(self) -> &'static str {
        match self {
            Self::LinkAltered => "This link is not complete",
            Self::LinkEnded => "This link has ended",
            Self::LinkUsed => "This link was used already",
            Self::OtherBrowser => "This was begun in another browser",
            Self::UnknownAccount => "This account is not here any more",
            Self::NoConsentPage => "This account is not connected by a link",
            Self::WrongState => "This answer was not expected",
            Self::Replayed => "You have been here before",
            Self::Denied => "You did not agree",
            Self::OtherAccount => "That was another account",
            Self::FewerScopes => "Some permissions are missing",
            Self::CodeRefused => "It took too long",
            Self::AppRefused => "The app needs its operator",
            Self::RedirectUriMismatch => "The app is not registered for this address",
            Self::ProviderTrouble => "The provider did not answer as it should",
            Self::Overtaken => "Somebody else connected the account just now",
            Self::Busy => "One moment, please",
            Self::Unavailable => "We cannot do this right now",
        }
    }

    /// What that means.
    #[must_use]
    pub const fn sentence(self) -> &'static str {
        match self {
            Self::LinkAltered => {
                "A piece of it may have been lost on the way, for example where a mail program broke the line."
            }
            Self::LinkEnded => "Links work for a limited time, so that an old mail opens nothing.",
            Self::LinkUsed => {
                "Each link connects its account once. If that was you, there is nothing left to do."
            }
            Self::OtherBrowser => {
                "For your protection the browser that begins must be the one that comes back."
            }
            Self::UnknownAccount => {
                "It was removed, switched off or disconnected in your publishing tool since the link was sent."
            }
            Self::NoConsentPage => {
                "Its provider has no page for this, or the app does not name it."
            }
            Self::WrongState => {
                "It belongs to nothing that was begun here. If you had several of these pages open, only the newest one counts."
            }
            Self::Replayed => {
                "This page does its work once, and it has done it. To load it again changes nothing."
            }
            Self::Denied => "Without your consent nothing can be published to this account.",
            Self::OtherAccount => {
                "You were signed in to a different account than the one that this link is for."
            }
            Self::FewerScopes => {
                "Publishing needs all of the permissions below, and not all of them were granted."
            }
            Self::CodeRefused => {
                "The provider's answer is good for a short time only, and for one use."
            }
            Self::AppRefused => {
                "The provider does not accept the app that asked you. You did nothing wrong."
            }
            Self::RedirectUriMismatch => {
                "The provider would not send you back to us. You did nothing wrong."
            }
            Self::ProviderTrouble => {
                "You did nothing wrong. Most of the time this passes within minutes."
            }
            Self::Overtaken => "Another token is in the store by now, and it was left alone.",
            Self::Busy => "An earlier attempt to renew this account is just being settled.",
            Self::Unavailable => "Something on our side cannot be reached. You did nothing wrong.",
        }
    }

    /// What to do about it.
    #[must_use]
    pub const fn next_step(self) -> &'static str {
        match self {
            Self::LinkAltered => "Copy the whole link from the mail, or ask for a new one.",
            Self::LinkEnded | Self::LinkUsed => {
                "If the account still needs it, ask whoever sent the link for a new one."
            }
            Self::OtherBrowser => "Go on in the browser in which you began, or ask for a new link.",
            Self::UnknownAccount => {
                "Look in your publishing tool whether the account is still there, and connect it there."
            }
            Self::NoConsentPage => {
                "Connect it in your publishing tool, or ask whoever looks after that."
            }
            Self::WrongState => {
                "If the account still needs it, open the link from the mail once more."
            }
            Self::Replayed => {
                "If you were told that you are done, you are. If not, open the link from the mail once more."
            }
            Self::Denied => "If you did not mean that, begin again and agree.",
            Self::OtherAccount => {
                "Sign out at the provider, or open the link in a private window, and sign in to the right account."
            }
            Self::FewerScopes => "Begin again and leave every permission switched on.",
            Self::CodeRefused | Self::ProviderTrouble => {
                "Begin again; if that does not help, wait a few minutes."
            }
            Self::AppRefused | Self::RedirectUriMismatch => {
                "Please tell whoever looks after your publishing tool; it stands in our log as well."
            }
            Self::Overtaken => "If the account still needs it, begin again.",
            Self::Busy => "Wait a minute and begin again.",
            Self::Unavailable => "Wait a few minutes and begin again.",
        }
    }

    /// True when the same link may be begun with again at once.
    #[must_use]
    pub const fn may_begin_again(self) -> bool {
        matches!(
            self,
            Self::Denied
                | Self::OtherAccount
                | Self::FewerScopes
                | Self::CodeRefused
                | Self::ProviderTrouble
                | Self::Overtaken
                | Self::Busy
                | Self::Unavailable
        )
    }
}

/// How a new token was taken in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Arrival {
    /// It is in the store, and was read back.
    Saved,
    /// It is in the journal; the store will have it as soon as it takes it.
    Later,
}

impl Arrival {
    /// Both.
    pub const ALL: [Self; 2] = [Self::Saved, Self::Later];

    /// The word for it in metrics and in JSON.
    #[must_use]
    pub const fn as_label(self) -> &'static str {
        match self {
            Self::Saved => "connected",
            Self::Later => "saved_later",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeSet;

    #[test]
    fn every_end_of_the_way_has_its_own_words() {
        let labels: BTreeSet<_> = Turn::ALL
            .map(Turn::as_label)
            .into_iter()
            .chain(Arrival::ALL.map(Arrival::as_label))
            .collect();
        assert_eq!(labels.len(), Turn::ALL.len() + Arrival::ALL.len());
        let headings: BTreeSet<_> = Turn::ALL.map(Turn::heading).into_iter().collect();
        assert_eq!(headings.len(), Turn::ALL.len());
        for turn in Turn::ALL {
            assert!(turn.sentence().ends_with('.') && turn.next_step().ends_with('.'), "{turn:?}");
        }
    }
}
