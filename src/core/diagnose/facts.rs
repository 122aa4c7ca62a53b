//! What speaks for a cause or against it: each a value, with a stable word for scripts and a sentence for
//! people.

use crate::core::{
    Cause, Revoker, Timestamp,
    history::{Failure, Source, Writer},
    second_clock::Provenance,
};
use std::{fmt, sync::Arc, time::Duration};

/// One thing that is known.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Fact {
    /// What.
    pub what: What,
    /// When it was, or will be.
    pub at: Option<Timestamp>,
    /// When it began, where it was seen more than once.
    pub since: Option<Timestamp>,
}

/// What is known.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum What {
    /// The provider said something, or nothing came.
    Said(Said),
    /// So old was the token when it failed last.
    TokenAge(Duration),
    /// Our last refresh that succeeded.
    Refreshed,
    /// We never refreshed it.
    NeverRefreshed,
    /// The store was first seen to hold the account.
    FirstSeen,
    /// The access token's declared end has passed.
    AccessEnded,
    /// It has not.
    AccessLives,
    /// Nobody declared one.
    AccessEndUnknown,
    /// The refresh token's declared end has passed.
    RefreshEnded,
    /// It has not.
    RefreshLives,
    /// The connection ends for good, whatever is renewed meanwhile, as far as is known in this way.
    ConnectionEnds(Provenance),
    /// The store contradicts what was declared of the access token's end, by so many seconds.
    StoreDiffers(i32),
    /// Only a token that lives can be extended.
    TooOldToExtend,
    /// There is nothing that could renew the token.
    NothingRenews,
    /// The store's row holds no token.
    NoToken,
    /// The access token was tried and works.
    CheckedAlive,
    /// It was tried and refused.
    CheckedRefused,
    /// The publisher reported so many answers of 401 since the sidecar started.
    Unauthorized(u32),
    /// These required scopes are not granted.
    ScopesMissing(Vec<Arc<str>>),
    /// These were lost at that moment.
    ScopesLost(Vec<Arc<str>>),
    /// Every required scope is granted.
    ScopesComplete,
    /// Nobody recorded which scopes were granted.
    ScopesUnknown,
    /// The token is another account's.
    AnothersToken,
    /// The token was issued to another client id.
    AnothersClient,
    /// The app is registered for the sandbox.
    Sandbox,
    /// The app is registered for production.
    Production,
    /// Somebody else wrote to the token in the store last.
    WroteLast(Writer),
    /// We wrote the token in the store last.
    WeWroteLast,
    /// The account belonged to this app before.
    MovedFrom(Arc<str>),
    /// So many of the app's accounts have the same trouble.
    Shared {
        /// With this one.
        sharing: usize,
        /// In all.
        accounts: usize,
    },
    /// No other account of the app has it.
    Alone {
        /// How many the app has.
        accounts: usize,
    },
    /// Another account of the app was refreshed.
    OthersRenewed,
    /// The provider refuses the app.
    AppRefused(Cause),
    /// An invented token was refused like any other: the app's credentials are right.
    AppAccepted,
    /// An invented token was refused because of the app.
    AppRefusedJunk,
    /// The app's secret cannot be read.
    SecretUnreadable,
    /// By so many seconds the provider's clock is ahead of ours.
    ClockAhead(i64),
    /// The two agree.
    ClockAgrees,
    /// The store can be used, or not.
    Store(bool),
    /// Our own state can be written, or not.
    State(bool),
    /// The outcome of a request is unknown.
    InDoubt,
    /// A new token is in our journal and not in the store.
    Unsaved,
    /// It is tried again at that moment.
    TriedAgain,
}

/// What the provider said, cut down to what may be shown.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Said {
    /// Who heard it.
    pub source: Source,
    /// What it was taken for.
    pub cause: Cause,
    /// HTTP status; `None` when there was no answer.
    pub status: Option<u16>,
    /// The provider's code.
    pub code: Option<Arc<str>>,
    /// A finer word from the provider's table, or what became of the request.
    pub detail: Option<Arc<str>>,
    /// The provider's request id.
    pub log_id: Option<Arc<str>>,
    /// How often since the last good refresh.
    pub times: u32,
}

impl Fact {
    /// Without an instant.
    #[must_use]
    pub const fn of(what: What) -> Self {
        Self { what, at: None, since: None }
    }

    /// With one, if it is known.
    #[must_use]
    pub fn at(what: What, at: impl Into<Option<Timestamp>>) -> Self {
        Self { what, at: at.into(), since: None }
    }

    /// What a failure shows.
    #[must_use]
    pub fn said(failure: &Failure) -> Self {
        let evidence = &failure.evidence;
        let said = Said {
            source: failure.source,
            cause: evidence.cause,
            status: evidence.status,
            code: evidence.code.clone(),
            detail: evidence.detail.clone(),
            log_id: evidence.log_id.clone(),
            times: failure.times,
        };
        let since = (failure.first_at != evidence.at).then_some(failure.first_at);
        Self { what: What::Said(said), at: Some(evidence.at), since }
    }

    /// The word for it. It is an API.
    #[must_use]
    pub const fn as_label(&self) -> &'static str {
        match &self.what {
            What::Said(_) => "said",
            What::TokenAge(_) => "token_age",
            What::Refreshed => "refreshed",
            What::NeverRefreshed => "never_refreshed",
            What::FirstSeen => "first_seen",
            What::AccessEnded => "access_token_ended",
            What::AccessLives => "access_token_lives",
            What::AccessEndUnknown => "access_token_end_unknown",
            What::RefreshEnded => "refresh_token_ended",
            What::RefreshLives => "refresh_token_lives",
            What::ConnectionEnds(_) => "connection_ends",
            What::StoreDiffers(_) => "store_differs",
            What::TooOldToExtend => "too_old_to_extend",
            What::NothingRenews => "nothing_renews",
            What::NoToken => "no_token",
            What::CheckedAlive => "checked_alive",
            What::CheckedRefused => "checked_refused",
            What::Unauthorized(_) => "unauthorized_reported",
            What::ScopesMissing(_) => "scopes_missing",
            What::ScopesLost(_) => "scopes_lost",
            What::ScopesComplete => "scopes_complete",
            What::ScopesUnknown => "scopes_unknown",
            What::AnothersToken => "another_account",
            What::AnothersClient => "another_client",
            What::Sandbox => "sandbox",
            What::Production => "production",
            What::WroteLast(Writer::Publisher) => "publisher_wrote_last",
            What::WroteLast(Writer::Reconnect) => "reconnected",
            What::WroteLast(Writer::StaleCopy) => "stale_copy_written",
            What::WroteLast(Writer::Removed) => "token_removed",
            What::WeWroteLast => "we_wrote_last",
            What::MovedFrom(_) => "moved_from_app",
            What::Shared { .. } => "shared",
            What::Alone { .. } => "alone",
            What::OthersRenewed => "others_renewed",
            What::AppRefused(_) => "app_refused",
            What::AppAccepted => "app_accepted",
            What::AppRefusedJunk => "app_refused_junk",
            What::SecretUnreadable => "secret_unreadable",
            What::ClockAhead(_) => "clock_off",
            What::ClockAgrees => "clock_agrees",
            What::Store(true) => "store_up",
            What::Store(false) => "store_down",
            What::State(true) => "state_up",
            What::State(false) => "state_down",
            What::InDoubt => "outcome_unknown",
            What::Unsaved => "unsaved",
            What::TriedAgain => "tried_again",
        }
    }
}

impl fmt::Display for Fact {
    /// A sentence without its instant, which whoever shows it puts beside it.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let plain = match &self.what {
            What::Said(said) => return said.fmt(f),
            What::TokenAge(age) => {
                return write!(f, "The token was {} old when it failed.", length(*age));
            }
            What::Unauthorized(times) => {
                let plural = if *times == 1 { "" } else { "s" };
                return write!(f, "The publishing tool reported 401 {times} time{plural}.");
            }
            What::ScopesMissing(names) => return write!(f, "Not granted: {}.", names.join(", ")),
            What::ScopesLost(names) => {
                return write!(f, "It was granted before and then lost: {}.", names.join(", "));
            }
            What::MovedFrom(app) => return write!(f, "The account belonged to app {app} before."),
            What::Shared { sharing, accounts } => {
                return write!(f, "{sharing} of the app's {accounts} accounts have it.");
            }
            What::Alone { accounts } => {
                return write!(
                    f,
                    "It is the only one of the app's {accounts} accounts that has it."
                );
            }
            What::AppRefused(cause) => {
                return write!(f, "The provider refuses the app ({}).", cause.as_label());
            }
            What::ClockAhead(seconds) => return clock(f, *seconds),
            What::StoreDiffers(seconds) => {
                let by = length(Duration::from_secs(seconds.unsigned_abs().into()));
                let way = if *seconds > 0 { "later" } else { "earlier" };
                return write!(
                    f,
                    "The store says that the token ends {by} {way} than was declared."
                );
            }
            What::ConnectionEnds(from) => match from {
                Provenance::Declared => "By what the provider declared, the connection ends.",
                Provenance::Learnt => {
                    "The provider declared when the connection ends, and renewals do not move it."
                }
                Provenance::Stored => "By what the store says, the connection ends.",
                Provenance::Estimated => {
                    "By what the provider's pages say, the connection ends; this is an estimate."
                }
            },
            What::TooOldToExtend => "Only a token that lives can be extended; this one ended.",
            What::Refreshed => "It was refreshed successfully.",
            What::NeverRefreshed => "No refresh of it has succeeded here.",
            What::FirstSeen => "The account was first seen in the store.",
            What::AccessEnded => "The access token reached its declared end.",
            What::AccessLives => "The access token has not reached its declared end.",
            What::AccessEndUnknown => "Nobody declared when the access token ends.",
            What::RefreshEnded => "The refresh token reached its declared end.",
            What::RefreshLives => "The refresh token has not reached its declared end.",
            What::NothingRenews => "The store holds nothing that could renew the token.",
            What::NoToken => "The store's row holds no token.",
            What::CheckedAlive => "The access token was tried at the provider and works.",
            What::CheckedRefused => "The access token was tried at the provider and refused.",
            What::ScopesComplete => "Every required permission is granted.",
            What::ScopesUnknown => "It is not recorded which permissions were granted.",
            What::AnothersToken => "The token belongs to another account at the provider.",
            What::AnothersClient => "The token was issued to another client id.",
            What::Sandbox => "The app is configured for the provider's sandbox.",
            What::Production => "The app is configured for production.",
            What::WroteLast(Writer::Publisher) => {
                "Somebody else wrote the token last: the publishing tool, or a new connection."
            }
            What::WroteLast(Writer::Reconnect) => "The account was connected anew.",
            What::WroteLast(Writer::StaleCopy) => {
                "Somebody wrote a token back that had been replaced; the newest was put back."
            }
            What::WroteLast(Writer::Removed) => "Somebody took the token out of the store.",
            What::WeWroteLast => "This sidecar wrote the token in the store last.",
            What::OthersRenewed => "Another account of the same app was refreshed.",
            What::AppAccepted => {
                "The provider accepts the app's credentials with an invented token."
            }
            What::AppRefusedJunk => "The provider refuses the app with an invented token too.",
            What::SecretUnreadable => "The app's client secret cannot be read here.",
            What::ClockAgrees => "This machine's clock agrees with the provider's.",
            What::Store(true) => "The token store can be read and written.",
            What::Store(false) => "The token store cannot be read or written.",
            What::State(true) => "The sidecar's own state can be written.",
            What::State(false) => "The sidecar's own state cannot be written.",
            What::InDoubt => "The outcome of the last request is unknown.",
            What::Unsaved => "A new token is in the sidecar's journal and not in the store.",
            What::TriedAgain => "It is tried again.",
        };
        f.write_str(plain)
    }
}

impl fmt::Display for Said {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self.source {
            Source::Refresh => "Asked for a new token, the provider answered",
            Source::Check => "Tried with the access token, the provider answered",
            Source::Publisher => "Called by the publishing tool, the provider answered",
            Source::Announcement => "A message whose signature was checked said",
        })?;
        if self.source == Source::Announcement && self.cause == Cause::ConsentRevoked {
            let by = match Revoker::of_detail(self.detail.as_deref()) {
                Revoker::User => "that the user took the consent back",
                Revoker::Provider => "that the provider ended the consent",
                Revoker::Developer => {
                    "that the consent was taken back by whoever the app belongs to"
                }
                Revoker::Unknown => "that the consent was taken back, and not by whom",
            };
            write!(f, " {by}")?;
        }
        match self.status {
            Some(status) => write!(f, " HTTP {status}")?,
            // Something came all the same, as a message.
            None if self.source == Source::Announcement => {}
            None if self.source == Source::Publisher || self.code.is_some() => {}
            None => f.write_str(" nothing")?,
        }
        let parts = [("code", &self.code), ("detail", &self.detail), ("log id", &self.log_id)];
        for (name, part) in parts {
            if let Some(part) = part {
                write!(f, ", {name} {part}")?;
            }
        }
        write!(f, "; read as {}", self.cause.as_label())?;
        match self.times {
            0 | 1 => f.write_str("."),
            times => write!(f, ", {times} times."),
        }
    }
}

fn clock(f: &mut fmt::Formatter<'_>, ahead: i64) -> fmt::Result {
    let by = length(Duration::from_secs(ahead.unsigned_abs()));
    let way = if ahead > 0 { "ahead of" } else { "behind" };
    write!(f, "The provider's clock is {by} {way} this machine's.")
}

/// A duration in its two largest units, as in `3 d 4 h`.
#[must_use]
pub fn length(duration: Duration) -> String {
    const UNITS: [(&str, u64); 4] = [("d", 86_400), ("h", 3_600), ("min", 60), ("s", 1)];
    let seconds = duration.as_secs();
    let largest = UNITS.iter().position(|(_, size)| seconds >= *size).unwrap_or(UNITS.len() - 1);
    let mut rest = seconds;
    let mut words = Vec::new();
    for (unit, size) in UNITS.iter().skip(largest).take(2) {
        if rest / size > 0 || words.is_empty() {
            words.push(format!("{} {unit}", rest / size));
        }
        rest %= size;
    }
    words.join(" ")
}
