//! What to do about one account now, and why: the whole policy on one screen.

use super::{
    Account, Busy, Cause, Gate, Proof, Timestamp,
    schedule::{self, Policy},
    second_clock::Assumed,
};
use std::{sync::Arc, time::Duration};

/// What the policy must know of an account's app and provider.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct App {
    /// Its name in the configuration.
    pub name: Arc<str>,
    /// Its provider.
    pub provider: Arc<str>,
    /// Who answers it: what is wrong there concerns every app with the same one. Usually one for a provider,
    /// but each server that keeps to the RFCs is the provider `oauth2`.
    pub server: Arc<str>,
    /// Scopes that publishing needs; at most 32.
    pub scopes: Arc<[Arc<str>]>,
    /// A token younger than this cannot be renewed.
    pub min_age: Duration,
    /// The access token is the credential: once it has ended, nothing can renew it (Instagram, Threads).
    pub only_while_live: bool,
    /// The provider keeps the refresh token: a request with an unknown outcome may be repeated.
    pub retry_is_safe: bool,
    /// Whether an access token can be tried.
    pub probe: Probe,
    /// How an account is proven before its queue goes on.
    pub proof: Proof,
    /// Registered for the provider's sandbox.
    pub is_sandbox: bool,
    /// Whether the provider may be asked about the app without spending a token.
    pub can_be_asked: bool,
    /// What is stated about its refresh tokens' lives, for where answers say nothing.
    pub assumed: Assumed,
}

/// Whether an access token can be tried, and at what price.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Probe {
    /// There is no such call.
    None,
    /// Free of charge.
    Free,
    /// Each costs money: at most one in [`BILLED_PROBE_EVERY`] for each account.
    Billed,
}

/// What to do, why, and when to ask again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Decision {
    /// What to do.
    pub action: Action,
    /// Why, as a stable word.
    pub reason: Reason,
    /// When the answer may change by itself; `None` when only an event can change it.
    pub recheck_at: Option<Timestamp>,
}

/// What there is to do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Action {
    /// Nothing now.
    Wait,
    /// Ask the provider for a new token.
    Refresh,
    /// Settle a request whose outcome is unknown, with the one probe that is allowed.
    Settle,
    /// Save the token that the store has not taken, or put back the one that was written over.
    Save,
    /// Ask the provider, free of charge, whether the access token works.
    Probe,
    /// Ask the provider whether the account could publish.
    Prove,
    /// Only a person can go on.
    AskHuman(Cause),
}

/// Why.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reason {
    /// Something is under way for this account.
    UnderWay,
    /// A token was received that the store has not taken.
    Unsaved,
    /// The store has no token for it.
    NeverConnected,
    /// The provider has spoken about this token; see the cause.
    Spoken,
    /// The refresh token's own end has passed.
    RefreshTokenEnded,
    /// Its app is refused, or suspected to be.
    AppRefused,
    /// It failed, or the provider asked for patience.
    BackingOff,
    /// The outcome of the last request is unknown.
    InDoubt,
    /// Nothing can renew it, and it nears its end.
    NothingRenewsIt,
    /// Somebody wrote a token back that ours had replaced.
    WrittenBack,
    /// The provider refused the access token before its declared end.
    AccessRefused,
    /// The publisher reported a 401.
    Questioned,
    /// A 401 was reported that has been answered already.
    AlreadyAnswered,
    /// A 401 was reported, and the check that costs money was made not long ago.
    CheckedToday,
    /// It was broken, and nothing was published since.
    Unproven,
    /// The access token has ended.
    Ended,
    /// The access token's due instant has come.
    Due,
    /// All is well.
    Fresh,
}

impl Reason {
    /// The word for it in logs.
    #[must_use]
    pub const fn as_label(self) -> &'static str {
        match self {
            Self::UnderWay => "under_way",
            Self::Unsaved => "unsaved",
            Self::NeverConnected => "never_connected",
            Self::Spoken => "provider_has_spoken",
            Self::RefreshTokenEnded => "refresh_token_ended",
            Self::AppRefused => "app_refused",
            Self::BackingOff => "backing_off",
            Self::InDoubt => "in_doubt",
            Self::NothingRenewsIt => "nothing_renews_it",
            Self::WrittenBack => "written_back",
            Self::AccessRefused => "access_refused",
            Self::Questioned => "questioned",
            Self::AlreadyAnswered => "already_answered",
            Self::CheckedToday => "checked_today",
            Self::Unproven => "unproven",
            Self::Ended => "ended",
            Self::Due => "due",
            Self::Fresh => "fresh",
        }
    }
}

/// The whole policy. Read it top to bottom: the first line that applies wins. `app_blocked_until` is set
/// while the app itself is refused.
#[must_use]
pub fn decide(
    now: Timestamp,
    account: &Account,
    app: &App,
    app_blocked_until: Option<Timestamp>,
    policy: &Policy,
) -> Decision {
    let decision = renew(now, account, app, app_blocked_until, policy);
    // Last of all: an account is proven with the token that it keeps. While the pause after a success runs, or a 401
    // is not to be asked about again, the queue need not wait.
    let may_prove =
        matches!(decision.reason, Reason::Fresh | Reason::AlreadyAnswered | Reason::CheckedToday)
            || (decision.reason == Reason::BackingOff && account.failed_in_a_row == 0);
    let is_canary = account.door.gate == Gate::Canary && app.proof == Proof::Check;
    if !(may_prove && is_canary && decision.action == Action::Wait) {
        return decision;
    }
    match account.door.prove_from.filter(|at| *at > now) {
        Some(at) => {
            wait(Reason::Unproven, decision.recheck_at.map_or(Some(at), |next| Some(next.min(at))))
        }
        None => act(Action::Prove, Reason::Unproven),
    }
}

/// What keeps the token alive.
fn renew(
    now: Timestamp,
    account: &Account,
    app: &App,
    app_blocked_until: Option<Timestamp>,
    policy: &Policy,
) -> Decision {
    if account.busy != Busy::Idle {
        return wait(Reason::UnderWay, None);
    }
    let backing_off_until = account.not_before.filter(|until| *until > now);
    if account.unsaved {
        return match backing_off_until {
            Some(until) => wait(Reason::Unsaved, Some(until)),
            None => act(Action::Save, Reason::Unsaved),
        };
    }
    let Some(token) = &account.token else {
        return ask(Cause::NotRenewable, Reason::NeverConnected, None);
    };

    // What no request of ours can mend. An attempt that is still open is settled all the same: how it ended is
    // known, and the journal must hear of it.
    let verdict = account.verdict.filter(|verdict| ends_renewing(*verdict) && !account.in_doubt);
    if let Some(verdict) = verdict {
        return ask(verdict, Reason::Spoken, None);
    }
    if token.refresh_expires_at.is_some_and(|end| end.has_come(now)) && !account.in_doubt {
        return ask(Cause::RefreshTokenExpired, Reason::RefreshTokenEnded, None);
    }
    let ended = token.expires_at.is_some_and(|end| end.has_come(now));
    let due = schedule::due(&account.id, token, app.min_age, policy);
    if token.renewable_by.is_none() || (app.only_while_live && ended) {
        return if ended {
            ask(Cause::NotRenewable, Reason::NothingRenewsIt, None)
        } else if due.has_come(now) {
            ask(Cause::NotRenewable, Reason::NothingRenewsIt, token.expires_at)
        } else {
            wait(Reason::Fresh, Some(due))
        };
    }

    // Before the refresh that would present it. Settling looks for it too.
    if account.written_back && !account.in_doubt {
        let again_at = account.restored_at.map(|at| at.plus(RESTORE_EVERY));
        // A long pause is the provider's, and this asks nothing of the provider.
        let pause = backing_off_until.filter(|until| until.since(now) <= RESTORE_EVERY);
        return match again_at.max(pause).filter(|at| *at > now) {
            Some(at) => wait(Reason::WrittenBack, Some(at)),
            None => act(Action::Save, Reason::WrittenBack),
        };
    }

    // What must wait.
    if let Some(until) = app_blocked_until.filter(|until| *until > now) {
        return wait(Reason::AppRefused, Some(until));
    }
    if let Some(until) = backing_off_until {
        return wait(Reason::BackingOff, Some(until));
    }
    if account.in_doubt {
        return act(Action::Settle, Reason::InDoubt);
    }
    let ripe_at = token.issued_at.plus(app.min_age);
    if ripe_at > now {
        return wait(Reason::Fresh, Some(ripe_at));
    }

    // What is to be done.
    if ended {
        return act(Action::Refresh, Reason::Ended);
    }
    if account.access_refused {
        return act(Action::Refresh, Reason::AccessRefused);
    }
    if due.has_come(now) {
        return act(Action::Refresh, Reason::Due);
    }
    let next = token.refresh_expires_at.map_or(due, |end| due.min(end));
    if account.questioned_at.is_some() {
        // A publisher that was handed the token a moment ago may still have used the one before.
        let margin = schedule::confirmation_margin(token, policy);
        let settled_until = token.issued_at.plus(policy.backoff_first);
        let answered_until = account.confirmed_at.map_or(settled_until, |at| at.plus(margin));
        if answered_until.max(settled_until) > now {
            return wait(Reason::AlreadyAnswered, Some(next));
        }
        let billed_from = account.checked_at().map(|at| at.plus(BILLED_PROBE_EVERY));
        return match (app.probe, billed_from) {
            (Probe::None, _) => act(Action::Refresh, Reason::Questioned),
            // Nothing is spent on what nobody confirmed: the refresh that is due anyway will tell.
            (Probe::Billed, Some(from)) if from > now => {
                wait(Reason::CheckedToday, Some(next.min(from)))
            }
            (Probe::Free | Probe::Billed, _) => act(Action::Probe, Reason::Questioned),
        };
    }
    wait(Reason::Fresh, Some(next))
}

/// A missing scope leaves the token alive, and an owner who mends it elsewhere should find it so.
const fn ends_renewing(verdict: Cause) -> bool {
    verdict.needs_reconnect() || matches!(verdict, Cause::WrongEnvironment)
}

/// A publisher that writes a spent token back whenever it can is not answered more often than this.
pub const RESTORE_EVERY: Duration = Duration::from_secs(60);

/// Between two checks of an access token that cost money (X charges for each user that is read).
pub const BILLED_PROBE_EVERY: Duration = Duration::from_secs(24 * 3_600);

const fn wait(reason: Reason, recheck_at: Option<Timestamp>) -> Decision {
    Decision { action: Action::Wait, reason, recheck_at }
}

const fn act(action: Action, reason: Reason) -> Decision {
    Decision { action, reason, recheck_at: None }
}

const fn ask(cause: Cause, reason: Reason, recheck_at: Option<Timestamp>) -> Decision {
    Decision { action: Action::AskHuman(cause), reason, recheck_at }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::core::{AccountId, Fingerprint, History, TokenFacts, history::Check};

    const LIFE: u64 = 7_200;
    const NOW: i64 = 1_800_000_000;

    fn now() -> Timestamp {
        Timestamp::from_unix(NOW)
    }

    fn app() -> App {
        App {
            name: "main".into(),
            provider: "tiktok".into(),
            server: "tiktok".into(),
            scopes: [].into(),
            min_age: Duration::ZERO,
            only_while_live: false,
            retry_is_safe: false,
            probe: Probe::Free,
            proof: Proof::Token,
            is_sandbox: false,
            can_be_asked: false,
            assumed: Assumed::default(),
        }
    }

    /// An account whose token has used this share of its life.
    fn used(share: f64) -> Account {
        let mut account = Account::new(AccountId::new("tiktok", "brand-a"), "main".into());
        let issued_at = now().minus(Duration::from_secs((LIFE as f64 * share) as u64));
        account.token = Some(TokenFacts {
            token: Fingerprint::from_hash(1),
            renewable_by: Some(Fingerprint::from_hash(2)),
            issued_at,
            expires_at: Some(issued_at.plus(Duration::from_secs(LIFE))),
            refresh_expires_at: None,
            missing_scopes: 0,
        });
        account
    }

    fn with(mut account: Account, change: impl FnOnce(&mut Account)) -> Account {
        change(&mut account);
        account
    }

    fn with_token(account: Account, change: impl FnOnce(&mut TokenFacts)) -> Account {
        with(account, |account| change(account.token.as_mut().unwrap()))
    }

    #[test]
    fn the_first_line_that_applies_wins() {
        use Action::{AskHuman, Probe, Refresh, Save, Settle, Wait};
        let soon = Some(now().plus(Duration::from_secs(30)));
        let rows: Vec<(&str, Account, Action, Reason)> = vec![
            ("a fresh token waits", used(0.1), Wait, Reason::Fresh),
            ("a token at two thirds of its life is due", used(0.67), Refresh, Reason::Due),
            ("an expired token is refreshed", used(1.0), Refresh, Reason::Ended),
            (
                "a refresh under way is left alone",
                with(used(1.5), |a| a.busy = Busy::Refreshing),
                Wait,
                Reason::UnderWay,
            ),
            (
                "an unsaved token is saved before anything else",
                with(used(1.5), |a| {
                    a.unsaved = true;
                    a.verdict = Some(Cause::RefreshTokenRejected);
                }),
                Save,
                Reason::Unsaved,
            ),
            (
                "a save that just failed is tried again a little later",
                with(used(0.1), |a| {
                    a.unsaved = true;
                    a.not_before = soon;
                }),
                Wait,
                Reason::Unsaved,
            ),
            (
                "an account without a token needs its owner",
                with(used(0.1), |a| a.token = None),
                AskHuman(Cause::NotRenewable),
                Reason::NeverConnected,
            ),
            (
                "a dead refresh token is never tried again, expired or not",
                with(used(1.5), |a| a.verdict = Some(Cause::RefreshTokenRejected)),
                AskHuman(Cause::RefreshTokenRejected),
                Reason::Spoken,
            ),
            (
                "a missing scope does not stop renewing",
                with(used(0.7), |a| a.verdict = Some(Cause::ScopeMissing)),
                Refresh,
                Reason::Due,
            ),
            (
                "a refresh token past its own end needs its owner",
                with_token(used(0.7), |t| t.refresh_expires_at = Some(now())),
                AskHuman(Cause::RefreshTokenExpired),
                Reason::RefreshTokenEnded,
            ),
            (
                "a token that nothing renews is left alone while it is young",
                with_token(used(0.1), |t| t.renewable_by = None),
                Wait,
                Reason::Fresh,
            ),
            (
                "a token that nothing renews needs its owner before it ends",
                with_token(used(0.7), |t| t.renewable_by = None),
                AskHuman(Cause::NotRenewable),
                Reason::NothingRenewsIt,
            ),
            (
                "a token that was written over is put back before anything is spent",
                with(used(1.5), |a| a.written_back = true),
                Save,
                Reason::WrittenBack,
            ),
            (
                "who writes a spent token back for ever is not answered every second",
                with(used(1.5), |a| {
                    a.written_back = true;
                    a.restored_at = Some(now().minus(RESTORE_EVERY).plus(Duration::from_secs(1)));
                }),
                Wait,
                Reason::WrittenBack,
            ),
            (
                "over a dead token nothing is put back",
                with(used(1.5), |a| {
                    a.written_back = true;
                    a.verdict = Some(Cause::RefreshTokenRejected);
                }),
                AskHuman(Cause::RefreshTokenRejected),
                Reason::Spoken,
            ),
            (
                "an account that failed waits",
                with(used(0.9), |a| a.not_before = soon),
                Wait,
                Reason::BackingOff,
            ),
            (
                "an unknown outcome is settled, not retried",
                with(used(0.9), |a| a.in_doubt = true),
                Settle,
                Reason::InDoubt,
            ),
            (
                "an attempt that a dead account left open is brought to its end",
                with(used(0.9), |a| {
                    a.in_doubt = true;
                    a.verdict = Some(Cause::RefreshTokenRejected);
                }),
                Settle,
                Reason::InDoubt,
            ),
            (
                "an unknown outcome waits out the first deadline",
                with(used(0.9), |a| {
                    a.in_doubt = true;
                    a.not_before = soon;
                }),
                Wait,
                Reason::BackingOff,
            ),
            (
                "a reported 401 is a question, asked free of charge",
                with(used(0.3), |a| a.questioned_at = Some(now())),
                Probe,
                Reason::Questioned,
            ),
            (
                "a 401 that was answered a moment ago is not asked again",
                with(used(0.3), |a| {
                    a.questioned_at = Some(now());
                    a.confirmed_at = Some(now().minus(Duration::from_secs(60)));
                }),
                Wait,
                Reason::AlreadyAnswered,
            ),
            (
                "a 401 right after a refresh may be the token before",
                with(used(0.0), |a| a.questioned_at = Some(now())),
                Wait,
                Reason::AlreadyAnswered,
            ),
            (
                "a 401 that the provider confirmed is mended by a refresh",
                with(used(0.3), |a| a.access_refused = true),
                Refresh,
                Reason::AccessRefused,
            ),
        ];
        for (sentence, account, action, reason) in rows {
            let decision = decide(now(), &account, &app(), None, &Policy::default());
            assert_eq!((decision.action, decision.reason), (action, reason), "{sentence}");
        }
    }

    #[test]
    fn a_refused_app_stops_all_its_accounts_until_it_is_tried_again() {
        let until = now().plus(Duration::from_secs(60));
        let decision = decide(now(), &used(1.5), &app(), Some(until), &Policy::default());
        assert_eq!(decision, wait(Reason::AppRefused, Some(until)));
        let decision = decide(until, &used(1.5), &app(), Some(until), &Policy::default());
        assert_eq!(decision.action, Action::Refresh);
    }

    #[test]
    fn without_a_free_check_a_401_costs_one_refresh() {
        let account = with(used(0.3), |a| a.questioned_at = Some(now()));
        let app = App { probe: Probe::None, ..app() };
        let decision = decide(now(), &account, &app, None, &Policy::default());
        assert_eq!((decision.action, decision.reason), (Action::Refresh, Reason::Questioned));
    }

    #[test]
    fn a_check_that_costs_money_is_made_once_a_day_and_nothing_is_spent_on_what_it_did_not_confirm()
    {
        let app = App { probe: Probe::Billed, ..app() };
        let hour = Duration::from_secs(3_600);
        let checked = |ago| {
            with(used(0.2), |a| {
                a.questioned_at = Some(now());
                let check = Check { at: now().minus(ago), alive: Some(true) };
                let history = History { check: Some(check), ..History::default() };
                a.history = Some(Arc::new(history));
            })
        };
        let first = with(used(0.2), |a| a.questioned_at = Some(now()));
        let rows = [
            ("nobody ever checked", first, Action::Probe, Reason::Questioned),
            ("checked an hour ago", checked(hour), Action::Wait, Reason::CheckedToday),
            ("checked a day ago", checked(hour * 24), Action::Probe, Reason::Questioned),
        ];
        for (sentence, account, action, reason) in rows {
            let decision = decide(now(), &account, &app, None, &Policy::default());
            assert_eq!((decision.action, decision.reason), (action, reason), "{sentence}");
            assert!(decision.recheck_at.is_none_or(|at| at > now()), "{sentence}");
        }
    }

    #[test]
    fn a_token_that_extends_itself_is_renewed_while_it_lives_and_never_before_its_minimum_age() {
        let app = App { only_while_live: true, min_age: Duration::from_secs(6_000), ..app() };
        let ask = |account: &Account| decide(now(), account, &app, None, &Policy::default()).action;
        assert_eq!(ask(&used(0.7)), Action::Wait, "younger than the minimum age");
        assert_eq!(ask(&used(0.9)), Action::Refresh);
        assert_eq!(ask(&used(1.0)), Action::AskHuman(Cause::NotRenewable), "too late to extend");
    }

    #[test]
    fn a_token_without_a_declared_end_is_renewed_after_the_assumed_life() {
        let account = with_token(used(0.0), |t| t.expires_at = None);
        let first = decide(now(), &account, &app(), None, &Policy::default());
        assert_eq!(first.action, Action::Wait);
        let later = decide(first.recheck_at.unwrap(), &account, &app(), None, &Policy::default());
        assert_eq!((later.action, later.reason), (Action::Refresh, Reason::Due));
    }

    /// Laws that examples miss.
    #[test]
    fn asked_twice_it_answers_the_same_and_every_recheck_lies_in_the_future() {
        let policy = Policy::default();
        for percent in 0..300_u32 {
            for flags in 0..64_u32 {
                let on = |bit: u32| flags & (1 << bit) != 0;
                let account = with(used(f64::from(percent) / 100.0), |a| {
                    a.unsaved = on(0);
                    a.in_doubt = on(1);
                    a.questioned_at = on(2).then(now);
                    a.not_before = on(3).then(|| now().plus(Duration::from_secs(9)));
                    a.access_refused = on(4);
                    let token = a.token.as_mut().unwrap();
                    token.refresh_expires_at =
                        on(5).then(|| token.issued_at.plus(Duration::from_secs(2 * LIFE)));
                });
                let decision = decide(now(), &account, &app(), None, &policy);
                assert_eq!(decision, decide(now(), &account, &app(), None, &policy));
                if let Some(at) = decision.recheck_at {
                    assert!(at > now(), "{percent} % used, flags {flags:b}: {decision:?}");
                }
            }
        }
    }

    #[test]
    fn what_is_due_stays_due_as_time_passes() {
        let policy = Policy::default();
        let account = used(0.0);
        let mut was_due = false;
        for minute in 0..400 {
            let later = now().plus(Duration::from_secs(minute * 60));
            let is_due = decide(later, &account, &app(), None, &policy).action == Action::Refresh;
            assert!(is_due || !was_due, "fresh again after {minute} minutes");
            was_due = is_due;
        }
        assert!(was_due);
    }
}
