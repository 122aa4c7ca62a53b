//! From what is known about one account to what is wrong with it, why we think so, and what to do next.
//!
//! [`cause_of`] is asked at every look of the fleet and names the cause. [`diagnose`] is asked when a person
//! wants to know: it starts from that cause, weighs what the account's history, its app and the clocks say
//! beside it, and may sharpen it. Nothing here is decided by: refreshes, gates and notices follow the cause.

mod case;
mod checks;
mod facts;
mod reasons;
mod steps;

pub use case::{AppFacts, Case, JunkAnswer, Tally};
pub use checks::{Check, Question};
pub use facts::{Fact, Said, What, length};
pub use steps::Step;

use super::{
    Account, Cause, Timestamp,
    decide::{Action, Decision},
};

/// What is wrong with one account, with everything that speaks for it and against it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Diagnosis {
    /// What is wrong; `None` is healthy. Usually what the account shows everywhere, sometimes finer.
    pub cause: Option<Cause>,
    /// How sure that is.
    pub confidence: Confidence,
    /// Since when.
    pub since: Option<Timestamp>,
    /// What speaks for it, the most telling first.
    pub reasons_for: Vec<Fact>,
    /// What speaks against it, the most telling first.
    pub reasons_against: Vec<Fact>,
    /// What it may be instead, the likeliest first; empty when the confidence is certain.
    pub suspects: Vec<Cause>,
    /// What it is not, and why.
    pub ruled_out: Vec<(Cause, Fact)>,
    /// What a person asks first, answered.
    pub checks: Vec<Check>,
    /// The one thing to do next.
    pub step: Step,
}

/// How sure a diagnosis is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Confidence {
    /// A guess from the circumstances: what is suspected beside it is about as likely.
    Possible,
    /// It explains what was seen better than anything else that is known.
    Likely,
    /// The provider said it in so many words, or it follows from what was declared, and nothing speaks
    /// against it.
    Certain,
}

impl Confidence {
    /// The word for it. It is an API.
    #[must_use]
    pub const fn as_label(self) -> &'static str {
        match self {
            Self::Possible => "possible",
            Self::Likely => "likely",
            Self::Certain => "certain",
        }
    }
}

/// Everything that can be said about one account.
#[must_use]
pub fn diagnose(case: &Case<'_>) -> Diagnosis {
    let cause = reasons::sharpened(case);
    let weighed = reasons::weigh(case, cause);
    let ruled_out = reasons::ruled_out(case, cause, &weighed.suspects);
    let is_shown = cause == case.account.cause;
    let kept = || Some(case.history()?.last_of(cause?)?.first_at);
    Diagnosis {
        cause,
        confidence: weighed.confidence,
        since: case.account.cause_since.filter(|_| is_shown && cause.is_some()).or_else(kept),
        reasons_for: weighed.reasons_for,
        reasons_against: weighed.reasons_against,
        suspects: weighed.suspects,
        ruled_out,
        checks: checks::checks(case, cause),
        step: weighed.step,
    }
}

/// What is wrong with `account`, given what `decide` made of it; `None` is healthy. The first line that
/// applies wins: what is most urgent to a person stands first. `app_frozen` is the cause for which its
/// app is frozen.
#[must_use]
pub fn cause_of(
    now: Timestamp,
    account: &Account,
    decision: &Decision,
    app_frozen: Option<Cause>,
) -> Option<Cause> {
    if account.unsaved {
        return Some(Cause::UnsavedToken);
    }
    if let Some(verdict) = account.verdict {
        return Some(refined(now, account, verdict));
    }
    if let Action::AskHuman(cause) = decision.action {
        return Some(cause);
    }
    if account.token.is_some_and(|token| token.missing_scopes != 0) {
        return Some(Cause::ScopeMissing);
    }
    if app_frozen.is_some() {
        return app_frozen;
    }
    if account.failed_in_a_row > 0 {
        return Some(account.last_failure.as_ref().map_or(Cause::Unknown, |last| last.cause));
    }
    (account.access_refused || !account.is_live(now)).then_some(Cause::AccessTokenExpired)
}

/// Providers answer "expired or revoked" in one word; where the token's own end has passed, it expired.
fn refined(now: Timestamp, account: &Account, verdict: Cause) -> Cause {
    let ended = account
        .token
        .and_then(|token| token.refresh_expires_at)
        .is_some_and(|end| end.has_come(now));
    if verdict == Cause::RefreshTokenRejected && ended {
        Cause::RefreshTokenExpired
    } else {
        verdict
    }
}

#[cfg(test)]
mod tests;

#[cfg(test)]
mod cause_tests {
    use super::*;
    use crate::core::{AccountId, Evidence, Fingerprint, TokenFacts, decide::Reason};
    use std::{sync::Arc, time::Duration};

    fn now() -> Timestamp {
        Timestamp::from_unix(1_800_000_000)
    }

    fn account(change: impl FnOnce(&mut Account, &mut TokenFacts)) -> Account {
        let mut account = Account::new(AccountId::new("tiktok", "a"), "main".into());
        let mut token = TokenFacts {
            token: Fingerprint::from_hash(1),
            renewable_by: Some(Fingerprint::from_hash(2)),
            issued_at: now(),
            expires_at: Some(now().plus(Duration::from_secs(60))),
            refresh_expires_at: None,
            missing_scopes: 0,
        };
        change(&mut account, &mut token);
        account.token = Some(token);
        account
    }

    #[test]
    fn what_is_most_urgent_to_a_person_is_said_first() {
        let failure = |cause| Some(Arc::new(Evidence::of(cause, now())));
        let wait = Action::Wait;
        let rows = [
            ("nothing is wrong", account(|_, _| {}), wait, None, None),
            (
                "an unsaved token outranks everything",
                account(|a, _| {
                    a.unsaved = true;
                    a.verdict = Some(Cause::ScopeMissing);
                }),
                wait,
                Some(Cause::AppCredentialsRejected),
                Some(Cause::UnsavedToken),
            ),
            (
                "a rejected refresh token whose own end has passed has expired",
                account(|a, t| {
                    a.verdict = Some(Cause::RefreshTokenRejected);
                    t.refresh_expires_at = Some(now());
                }),
                wait,
                None,
                Some(Cause::RefreshTokenExpired),
            ),
            (
                "a rejected refresh token before its end was rejected",
                account(|a, t| {
                    a.verdict = Some(Cause::RefreshTokenRejected);
                    t.refresh_expires_at = Some(now().plus(Duration::from_secs(1)));
                }),
                wait,
                None,
                Some(Cause::RefreshTokenRejected),
            ),
            (
                "a missing scope is the owner's, whatever state the app is in",
                account(|_, t| t.missing_scopes = 1),
                wait,
                Some(Cause::AppCredentialsRejected),
                Some(Cause::ScopeMissing),
            ),
            (
                "a refused app is the cause for accounts that are otherwise well",
                account(|_, _| {}),
                wait,
                Some(Cause::AppCredentialsRejected),
                Some(Cause::AppCredentialsRejected),
            ),
            (
                "a failure in a row is what it looked like",
                account(|a, _| {
                    a.failed_in_a_row = 1;
                    a.last_failure = failure(Cause::RateLimited);
                }),
                wait,
                None,
                Some(Cause::RateLimited),
            ),
            (
                "a failure that is over is history",
                account(|a, _| a.last_failure = failure(Cause::RateLimited)),
                wait,
                None,
                None,
            ),
            (
                "a passed end is an expired access token",
                account(|_, t| t.expires_at = Some(now())),
                wait,
                None,
                Some(Cause::AccessTokenExpired),
            ),
            (
                "what the policy asks a person for stands",
                account(|_, _| {}),
                Action::AskHuman(Cause::NotRenewable),
                None,
                Some(Cause::NotRenewable),
            ),
        ];
        for (sentence, account, action, frozen, expected) in rows {
            let decision = Decision { action, reason: Reason::Fresh, recheck_at: None };
            assert_eq!(cause_of(now(), &account, &decision, frozen), expected, "{sentence}");
        }
    }
}
