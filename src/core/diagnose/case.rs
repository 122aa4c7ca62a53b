//! What is known when an account is diagnosed: the account, its app among all accounts, and the host.

use crate::core::{Account, AccountId, Cause, Snapshot, Timestamp};
use std::{collections::BTreeMap, sync::Arc};

/// Everything that a diagnosis rests on.
#[derive(Clone, Debug)]
pub struct Case<'a> {
    /// When it is made.
    pub now: Timestamp,
    /// The account, with what was kept of it.
    pub account: &'a Account,
    /// Its app.
    pub app: AppFacts<'a>,
    /// The required scopes that the token lacks, by name.
    pub missing: Vec<&'a str>,
    /// Whether it is known at all which scopes were granted: nothing missing says nothing otherwise.
    pub scopes_known: bool,
    /// By how many seconds the provider's clock is ahead of ours, if that is known.
    pub clock_ahead: Option<i64>,
    /// Whether the store can be read and written.
    pub store_up: bool,
    /// The same of our own state.
    pub state_up: bool,
}

/// What is known of an account's app. Whoever knows more than a snapshot says fills it in.
#[derive(Clone, Debug, Default)]
pub struct AppFacts<'a> {
    /// Its name in the configuration.
    pub name: &'a str,
    /// Registered for the provider's sandbox.
    pub is_sandbox: bool,
    /// Its accounts, this one among them.
    pub accounts: usize,
    /// Those that have the same trouble, this one among them.
    pub sharing: usize,
    /// When a refresh last succeeded for another account of the app.
    pub others_renewed_at: Option<Timestamp>,
    /// The provider refused the app and has renewed nothing of it since: why, and when.
    pub refused: Option<(Cause, Timestamp)>,
    /// Why, and since when, nothing of the app is refreshed.
    pub frozen: Option<(Cause, Timestamp)>,
    /// What the provider said to a refresh token that never existed: it refuses the app before it looks at a
    /// token.
    pub junk: Option<JunkAnswer>,
}

/// The answer to a refresh with an invented refresh token.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct JunkAnswer {
    /// When it came.
    pub at: Timestamp,
    /// True when only the token was refused, so that the app's credentials are right.
    pub app_is_accepted: bool,
}

/// Every app among all accounts: what one account cannot tell.
#[derive(Debug, Default)]
pub struct Tally(BTreeMap<Arc<str>, OfApp>);

#[derive(Debug, Default)]
struct OfApp {
    accounts: usize,
    causes: [usize; Cause::ALL.len()],
    /// The two newest refreshes that succeeded, the newest first: one of them is another account's.
    renewed: [Option<(Timestamp, AccountId)>; 2],
    refused: Option<(Cause, Timestamp)>,
}

impl Tally {
    /// One pass over all accounts.
    #[must_use]
    pub fn of(snapshot: &Snapshot) -> Self {
        let mut apps = BTreeMap::<Arc<str>, OfApp>::new();
        for account in snapshot.accounts.iter() {
            match apps.get_mut(&account.app) {
                Some(app) => app.add(account),
                None => apps.entry(Arc::clone(&account.app)).or_default().add(account),
            }
        }
        Self(apps)
    }

    /// The case of one account of the snapshot.
    #[must_use]
    pub fn case<'a>(
        &self,
        snapshot: &'a Snapshot,
        account: &'a Account,
        now: Timestamp,
    ) -> Case<'a> {
        let view = snapshot.apps.iter().find(|app| app.name == account.app);
        let provider = &account.id.provider;
        let offset = snapshot.clock_offsets.iter().find(|(name, _)| name == provider);
        let kept = || account.history.as_ref()?.last_failure()?.clock_ahead;
        let missing: Vec<&str> = snapshot.missing_scopes(account).collect();
        let told = account.history.as_ref().is_some_and(|history| !history.scopes.is_empty());
        let mut app = self.0.get(&account.app).map(|app| app.facts(account)).unwrap_or_default();
        app.name = &account.app;
        app.is_sandbox = view.is_some_and(|view| view.is_sandbox);
        app.frozen = view.and_then(|view| view.frozen);
        let junk = view.and_then(|view| view.asked).and_then(|(word, at)| match word {
            "accepted" => Some(JunkAnswer { at, app_is_accepted: true }),
            "refused" => Some(JunkAnswer { at, app_is_accepted: false }),
            _ => None,
        });
        // What real tokens were answered later knows better.
        let later = |junk: &JunkAnswer| match junk.app_is_accepted {
            true => app.refused.map(|(_, at)| at),
            false => app.others_renewed_at.max(account.last_refresh_at),
        };
        app.junk = junk.filter(|junk| later(junk).is_none_or(|at| at <= junk.at));
        Case {
            now,
            account,
            app,
            scopes_known: told || !missing.is_empty(),
            missing,
            clock_ahead: offset.map(|(_, ahead)| *ahead).or_else(kept),
            store_up: snapshot.store_up,
            state_up: snapshot.state_up,
        }
    }
}

impl OfApp {
    fn add(&mut self, account: &Account) {
        self.accounts += 1;
        if let Some(cause) = account.cause {
            self.causes[cause.index()] += 1;
        }
        if let Some(at) = account.last_refresh_at {
            let entry = || Some((at, account.id.clone()));
            match &self.renewed {
                [Some((newest, _)), _] if at <= *newest => {
                    if self.renewed[1].as_ref().is_none_or(|(second, _)| at > *second) {
                        self.renewed[1] = entry();
                    }
                }
                _ => {
                    self.renewed.swap(0, 1);
                    self.renewed[0] = entry();
                }
            }
        }
        let last = account.history.as_ref().and_then(|history| history.last_failure());
        if let Some(evidence) = last.map(|last| &last.evidence).filter(|last| last.app_wide)
            && evidence.cause == Cause::AppCredentialsRejected
            && self.refused.is_none_or(|(_, at)| evidence.at > at)
        {
            self.refused = Some((evidence.cause, evidence.at));
        }
    }

    fn facts(&self, account: &Account) -> AppFacts<'static> {
        let newest = self.renewed[0].as_ref().map(|(at, _)| *at);
        let is_another = |renewed: &&(Timestamp, AccountId)| renewed.1 != account.id;
        AppFacts {
            accounts: self.accounts,
            sharing: account.cause.map_or(0, |cause| self.causes[cause.index()]),
            others_renewed_at: self.renewed.iter().flatten().find(is_another).map(|(at, _)| *at),
            refused: self.refused.filter(|(_, at)| newest.is_none_or(|newest| *at > newest)),
            ..AppFacts::default()
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::core::{
        AppView, Evidence, History, Table,
        history::{Failure, Source},
    };

    fn at(seconds: i64) -> Timestamp {
        Timestamp::from_unix(1_800_000_000 + seconds)
    }

    fn snapshot(accounts: impl IntoIterator<Item = Account>) -> Snapshot {
        let mut table = Table::default();
        accounts.into_iter().for_each(|account| table.put(account));
        Snapshot { accounts: table, ..Snapshot::empty(at(0)) }
    }

    fn account(name: &str, renewed: i64, refused: Option<i64>) -> Account {
        let mut account = Account::new(AccountId::new("tiktok", name), "main".into());
        account.last_refresh_at = Some(at(renewed));
        if let Some(seconds) = refused {
            let mut evidence = Evidence::of(Cause::AppCredentialsRejected, at(seconds));
            evidence.app_wide = true;
            let failure = Failure {
                evidence: Arc::new(evidence),
                first_at: at(seconds),
                times: 1,
                source: Source::Refresh,
                token_age: None,
                clock_ahead: None,
            };
            let history = History { failures: vec![failure], ..History::default() };
            account.history = Some(Arc::new(history));
        }
        account
    }

    fn facts_of(snapshot: &Snapshot, name: &str) -> (Option<Timestamp>, Option<Timestamp>) {
        let account = snapshot.accounts.find(&AccountId::new("tiktok", name)).unwrap();
        let case = Tally::of(snapshot).case(snapshot, account, at(0));
        (case.app.others_renewed_at, case.app.refused.map(|(_, at)| at))
    }

    #[test]
    fn an_accounts_own_refresh_says_nothing_about_the_others() {
        let accounts =
            snapshot([account("a", 10, None), account("b", 30, None), account("c", 20, None)]);
        assert_eq!(facts_of(&accounts, "a").0, Some(at(30)));
        assert_eq!(facts_of(&accounts, "b").0, Some(at(20)));
        assert_eq!(facts_of(&snapshot([account("a", 10, None)]), "a").0, None);
    }

    #[test]
    fn what_the_provider_said_to_an_invented_token_is_told_if_it_said_anything() {
        for (word, expected) in
            [("accepted", Some(true)), ("refused", Some(false)), ("unclear", None)]
        {
            let mut snapshot = snapshot([account("a", 1, None)]);
            let view =
                AppView { name: "main".into(), asked: Some((word, at(5))), ..AppView::default() };
            snapshot.apps.push(view);
            let account = snapshot.accounts.find(&AccountId::new("tiktok", "a")).unwrap();
            let case = Tally::of(&snapshot).case(&snapshot, account, at(6));
            assert_eq!(case.app.junk.map(|junk| junk.app_is_accepted), expected, "{word}");
        }
    }

    #[test]
    fn what_real_tokens_were_answered_later_goes_before_an_invented_one() {
        for (word, one) in
            [("accepted", account("a", 1, Some(9))), ("refused", account("a", 9, None))]
        {
            let mut snapshot = snapshot([one]);
            let view =
                AppView { name: "main".into(), asked: Some((word, at(5))), ..AppView::default() };
            snapshot.apps.push(view);
            let account = snapshot.accounts.iter().next().unwrap();
            assert_eq!(
                Tally::of(&snapshot).case(&snapshot, account, at(9)).app.junk,
                None,
                "{word}"
            );
        }
    }

    #[test]
    fn a_refused_app_is_refused_until_any_of_its_accounts_is_renewed() {
        let refused = snapshot([account("a", 10, Some(40)), account("b", 30, None)]);
        assert_eq!(facts_of(&refused, "b").1, Some(at(40)));
        let over = snapshot([account("a", 10, Some(40)), account("b", 50, None)]);
        assert_eq!(facts_of(&over, "a").1, None);
    }
}
