//! The questions that a person asks first, answered from what is known.

use super::{Case, Fact, What, reasons};
use crate::core::{Cause, history::Failure};

/// A question, its answer, and what the answer rests on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Check {
    /// What is asked.
    pub question: Question,
    /// `None` where nothing is known that would answer it.
    pub answer: Option<bool>,
    /// Why, if there is an answer, or why there is none.
    pub because: Option<Fact>,
}

/// What is asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Question {
    /// Does the provider still know the connection?
    StillConnected,
    /// Did it work before it failed?
    WorkedBefore,
    /// Did the granted permissions change?
    PermissionsChanged,
    /// Has the token ended, or does it soon?
    NearItsEnd,
    /// Are client id and secret right?
    CredentialsRight,
    /// Is the redirect URI right?
    RedirectUriRight,
    /// Is the environment right?
    EnvironmentRight,
    /// Is it the right account's token?
    AccountRight,
}

impl Question {
    /// Every question, in the order in which a person asks.
    pub const ALL: [Self; 8] = [
        Self::StillConnected,
        Self::WorkedBefore,
        Self::PermissionsChanged,
        Self::NearItsEnd,
        Self::CredentialsRight,
        Self::RedirectUriRight,
        Self::EnvironmentRight,
        Self::AccountRight,
    ];

    /// The word for it. It is an API.
    #[must_use]
    pub const fn as_label(self) -> &'static str {
        match self {
            Self::StillConnected => "still_connected",
            Self::WorkedBefore => "worked_before",
            Self::PermissionsChanged => "permissions_changed",
            Self::NearItsEnd => "near_its_end",
            Self::CredentialsRight => "credentials_right",
            Self::RedirectUriRight => "redirect_uri_right",
            Self::EnvironmentRight => "environment_right",
            Self::AccountRight => "account_right",
        }
    }

    /// For people.
    #[must_use]
    pub const fn sentence(self) -> &'static str {
        match self {
            Self::StillConnected => "Is it still connected?",
            Self::WorkedBefore => "Did it work before?",
            Self::PermissionsChanged => "Did its permissions change?",
            Self::NearItsEnd => "Is the token at its end?",
            Self::CredentialsRight => "Are client id and secret right?",
            Self::RedirectUriRight => "Is the redirect URI right?",
            Self::EnvironmentRight => "Is the environment right?",
            Self::AccountRight => "Is it the right account's token?",
        }
    }
}

/// All questions, answered.
pub(super) fn checks(case: &Case<'_>, cause: Option<Cause>) -> Vec<Check> {
    let check = |question| {
        let (answer, because) = answer(case, cause, question);
        Check { question, answer, because }
    };
    Question::ALL.map(check).into()
}

fn answer(
    case: &Case<'_>,
    cause: Option<Cause>,
    question: Question,
) -> (Option<bool>, Option<Fact>) {
    match question {
        Question::StillConnected => still_connected(case, cause),
        Question::WorkedBefore => match case.worked_at() {
            Some(_) => (Some(true), Some(reasons::last_good(case))),
            None if case.has_ok_responses() => (Some(true), None),
            None => (None, Some(Fact::of(What::NeverRefreshed))),
        },
        Question::PermissionsChanged => permissions_changed(case),
        Question::NearItsEnd => near_its_end(case),
        Question::CredentialsRight => credentials_right(case, cause),
        Question::RedirectUriRight => match latest(case, Cause::RedirectUriMismatch) {
            Some(failure) => (Some(false), Some(Fact::said(failure))),
            // A token that was ever renewed came through it.
            None => (case.worked_at().map(|_| true), None),
        },
        Question::EnvironmentRight => {
            let kind = if case.app.is_sandbox { What::Sandbox } else { What::Production };
            let is_wrong =
                cause == Some(Cause::WrongEnvironment) && !reasons::is_about_account(case);
            let answer = if is_wrong { Some(false) } else { case.worked_at().map(|_| true) };
            (answer, Some(Fact::of(kind)))
        }
        Question::AccountRight => {
            if cause == Some(Cause::WrongEnvironment) && reasons::is_about_account(case) {
                return (Some(false), Some(Fact::of(What::AnothersToken)));
            }
            // A check compares whose token it is.
            let check = case.history().and_then(|history| history.check);
            match check.filter(|check| check.alive == Some(true)) {
                Some(check) => (Some(true), Some(Fact::at(What::CheckedAlive, check.at))),
                None => (None, None),
            }
        }
    }
}

fn still_connected(case: &Case<'_>, cause: Option<Cause>) -> (Option<bool>, Option<Fact>) {
    let account = case.account;
    if account.token.is_none() {
        return (Some(false), Some(Fact::of(What::NoToken)));
    }
    let failure = case.history().and_then(|history| history.last_failure());
    if cause.is_some_and(Cause::needs_reconnect) {
        let said = failure.filter(|failure| failure.evidence.cause.needs_reconnect());
        let ended = || reasons::refresh_end(case);
        return (Some(false), said.map(Fact::said).or_else(ended));
    }
    let failed_at = failure.map(|failure| failure.evidence.at);
    match case.worked_at() {
        Some(at) if failed_at.is_none_or(|failed| at >= failed) => {
            (Some(true), Some(reasons::last_good(case)))
        }
        _ => (None, failure.map(Fact::said)),
    }
}

fn permissions_changed(case: &Case<'_>) -> (Option<bool>, Option<Fact>) {
    if let Some(lost) = reasons::lost_scopes(case) {
        return (Some(true), Some(lost));
    }
    if !case.missing.is_empty() {
        return (None, Some(reasons::missing_scopes(case)));
    }
    match case.scopes_known {
        true => (Some(false), Some(Fact::of(What::ScopesComplete))),
        false => (None, Some(Fact::of(What::ScopesUnknown))),
    }
}

fn near_its_end(case: &Case<'_>) -> (Option<bool>, Option<Fact>) {
    let Some(token) = &case.account.token else { return (None, None) };
    if let Some(end) = token.refresh_expires_at.filter(|end| end.has_come(case.now)) {
        return (Some(true), Some(Fact::at(What::RefreshEnded, end)));
    }
    // That is what the cause says: its owner has been told.
    let is_announced = case.account.cause == Some(Cause::NotRenewable);
    if let Some(end) = case.account.refresh_end.filter(|_| is_announced) {
        return (Some(true), Some(Fact::at(What::ConnectionEnds(end.from), end.at)));
    }
    let Some(end) = token.expires_at else {
        return (None, Some(Fact::of(What::AccessEndUnknown)));
    };
    if end.has_come(case.now) {
        return (Some(true), Some(Fact::at(What::AccessEnded, end)));
    }
    let is_near = case.account.life_left(case.now).is_some_and(|left| left < NEAR_ITS_END);
    (Some(is_near), Some(Fact::at(What::AccessLives, end)))
}

fn credentials_right(case: &Case<'_>, cause: Option<Cause>) -> (Option<bool>, Option<Fact>) {
    if let Some(junk) = case.app.junk {
        let what = if junk.app_is_accepted { What::AppAccepted } else { What::AppRefusedJunk };
        return (Some(junk.app_is_accepted), Some(Fact::at(what, junk.at)));
    }
    if let Some((refused, at)) = case.app.frozen.or(case.app.refused) {
        return (Some(false), Some(Fact::at(What::AppRefused(refused), at)));
    }
    if cause == Some(Cause::AppCredentialsRejected) {
        return (Some(false), None);
    }
    let own = case.account.last_refresh_at.map(|at| Fact::at(What::Refreshed, at));
    let others = case.app.others_renewed_at.map(|at| Fact::at(What::OthersRenewed, at));
    match [own, others].into_iter().flatten().max_by_key(|fact| fact.at) {
        Some(fact) => (Some(true), Some(fact)),
        None => (None, Some(Fact::of(What::NeverRefreshed))),
    }
}

/// A failure of this kind that nothing good came after.
fn latest<'a>(case: &'a Case<'_>, cause: Cause) -> Option<&'a Failure> {
    let failure = case.history()?.last_of(cause)?;
    case.worked_at().is_none_or(|at| failure.evidence.at > at).then_some(failure)
}

/// The share of its life from which on a token counts as near its end.
const NEAR_ITS_END: f64 = 0.15;
