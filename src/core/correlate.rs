//! Whose trouble it is when accounts fail: their own, their app's, or their provider's.
//!
//! A few accounts have lost scopes or consent. All accounts of an app at once have an app with a wrong secret
//! or in the wrong environment. Several apps at once, answered by the same server, have a provider in trouble.
//! It counts only what the provider said about tokens and apps: silence and limits have causes of their own.
//!
//! Nothing here looks at all accounts: of each app it keeps the few that failed last since one succeeded.

use super::{AccountId, Timestamp};
use std::{
    collections::{BTreeMap, VecDeque},
    sync::Arc,
    time::Duration,
};

/// Whose trouble it looks like. The label is an API: it stands in evidence and on the status page.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Suspect {
    /// The accounts themselves: their scopes and consents.
    Accounts,
    /// The app: its secret or its environment.
    App,
    /// The provider.
    Provider,
}

/// What was heard lately of every app.
#[derive(Debug, Default)]
pub struct Correlation {
    /// By app; ends with the app.
    recent: BTreeMap<Arc<str>, Recent>,
}

#[derive(Debug)]
struct Recent {
    /// Who answers it.
    server: Arc<str>,
    /// Accounts that failed since one succeeded, each once, the one that failed last at the end. At most
    /// [`AT_ONCE`]: more would not change the answer.
    failed: VecDeque<(AccountId, Timestamp)>,
    /// When the provider first and last refused the app itself, since it last accepted it.
    refused: Option<(Timestamp, Timestamp)>,
    /// When one succeeded last.
    succeeded_at: Option<Timestamp>,
}

impl Suspect {
    /// The word for it.
    #[must_use]
    pub const fn as_label(self) -> &'static str {
        match self {
            Self::Accounts => "accounts",
            Self::App => "app",
            Self::Provider => "provider",
        }
    }
}

impl Correlation {
    /// Forgets all apps but these.
    pub fn retain(&mut self, keep: impl Fn(&str) -> bool) {
        self.recent.retain(|app, _| keep(app));
    }

    /// The provider gave an account of `app` a token.
    pub fn succeeded(&mut self, now: Timestamp, app: &Arc<str>, server: &Arc<str>) {
        let recent = self.of(app, server);
        recent.failed.clear();
        recent.refused = None;
        recent.succeeded_at = Some(now);
    }

    /// The provider refused the token of `id`, or the app when it was presented.
    pub fn failed(&mut self, now: Timestamp, app: &Arc<str>, server: &Arc<str>, id: &AccountId) {
        let recent = self.of(app, server);
        recent.failed.retain(|(known, at)| known != id && is_recent(*at, now));
        if recent.failed.len() == AT_ONCE {
            recent.failed.pop_front();
        }
        recent.failed.push_back((id.clone(), now));
    }

    /// The provider refused `app` itself.
    pub fn refused(&mut self, now: Timestamp, app: &Arc<str>, server: &Arc<str>) {
        let recent = self.of(app, server);
        let (first, _) = recent.refused.unwrap_or((now, now));
        recent.refused = Some((first, now));
    }

    /// The provider says that it accepts `app`. What it says of tokens is another matter.
    pub fn accepted(&mut self, app: &str) {
        if let Some(recent) = self.recent.get_mut(app) {
            recent.refused = None;
        }
    }

    /// True when so many accounts of `app` were refused lately, with no success between them, that it is not they.
    #[must_use]
    pub fn accounts_fail_together(&self, now: Timestamp, app: &str) -> bool {
        let recent = self.recent.get(app);
        recent.is_some_and(|recent| {
            recent.failed.iter().filter(|(_, at)| is_recent(*at, now)).count() >= AT_ONCE
        })
    }

    /// Whose trouble the failures of `app` are; `None` while there are none.
    #[must_use]
    pub fn suspect(&self, now: Timestamp, app: &str) -> Option<Suspect> {
        let recent = self.recent.get(app)?;
        recent.lately(now).next()?;
        Some(match recent.fails_together(now) {
            None => Suspect::Accounts,
            Some(since) if self.fails_beside(now, app, &recent.server, since) => Suspect::Provider,
            Some(_) => Suspect::App,
        })
    }

    /// True when another app of the same server fails as a whole too, and every one that does not has had no
    /// success meanwhile.
    fn fails_beside(&self, now: Timestamp, app: &str, server: &str, since: Timestamp) -> bool {
        let mut others =
            self.recent.iter().filter(|(name, other)| &***name != app && *other.server == *server);
        let mut together = false;
        let none_works = others.all(|(_, other)| {
            let fails = other.fails_together(now).is_some();
            together |= fails;
            let works = other.succeeded_at.is_some_and(|at| at >= since && is_recent(at, now));
            // Of one that fails, every success came before.
            fails || !works
        });
        together && none_works
    }

    fn of(&mut self, app: &Arc<str>, server: &Arc<str>) -> &mut Recent {
        let recent = self.recent.entry(Arc::clone(app)).or_insert_with(|| Recent {
            server: Arc::clone(server),
            failed: VecDeque::new(),
            refused: None,
            succeeded_at: None,
        });
        // The configuration may have moved it.
        recent.server.clone_from(server);
        recent
    }
}

impl Recent {
    fn lately(&self, now: Timestamp) -> impl Iterator<Item = Timestamp> + '_ {
        let failed = self.failed.iter().map(|(_, at)| *at);
        failed.chain(self.refused.map(|(_, last)| last)).filter(move |at| is_recent(*at, now))
    }

    /// Since when the app itself is refused, or so many accounts fail that it is the app, if that is so.
    fn fails_together(&self, now: Timestamp) -> Option<Timestamp> {
        let first = self.lately(now).min()?;
        let refused = self.refused.filter(|(_, last)| is_recent(*last, now));
        match refused {
            // Not since the last refusal: what works beside the app is seldom asked for in that very second.
            Some((since, _)) => Some(first.min(since)),
            None => (self.lately(now).count() >= AT_ONCE).then_some(first),
        }
    }
}

fn is_recent(at: Timestamp, now: Timestamp) -> bool {
    at.plus(WITHIN) > now
}

/// So many accounts of an app, with no success between them, fail at once: their owners have not all left
/// within [`WITHIN`].
pub const AT_ONCE: usize = 5;

/// How long a failure counts.
pub const WITHIN: Duration = Duration::from_secs(15 * 60);

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: Timestamp = Timestamp::from_unix(1_800_000_000);

    /// `a1` fails an account of app `a`, `a` gives one a token, `a!` refuses the app, `a?` accepts it when asked, `+60` lets so many seconds pass. Apps with a
    /// capital are at another provider.
    fn told(story: &str) -> (Correlation, Timestamp) {
        let mut correlation = Correlation::default();
        let mut now = NOW;
        for word in story.split_whitespace() {
            if let Some(seconds) = word.strip_prefix('+') {
                now = now.plus(Duration::from_secs(seconds.parse().unwrap()));
                continue;
            }
            let (app, account) = word.split_at(1);
            let provider = if app.chars().all(char::is_uppercase) { "x" } else { "tiktok" };
            let app: Arc<str> = app.into();
            match account {
                "" => correlation.succeeded(now, &app, &provider.into()),
                "!" => correlation.refused(now, &app, &provider.into()),
                "?" => correlation.accepted(&app),
                account => {
                    let id = AccountId::new(provider, account);
                    correlation.failed(now, &app, &provider.into(), &id);
                }
            }
        }
        (correlation, now)
    }

    #[test]
    fn a_few_are_accounts_all_at_once_are_the_app_and_several_apps_are_the_provider() {
        use Suspect::{Accounts, App, Provider};
        for (sentence, story, expected) in [
            ("nothing was heard", "", None),
            ("all is well", "a a", None),
            ("one account has its own trouble", "a a1", Some(Accounts)),
            ("so have four", "a1 a2 a3 a4", Some(Accounts)),
            ("five in a row are the app", "a1 a2 a3 a4 a5", Some(App)),
            ("more of them are too", "a1 a2 a3 a4 a5 a6 a7 a8", Some(App)),
            ("one that fails again and again is one", "a1 a1 a1 a1 a1 a1", Some(Accounts)),
            ("a success between them speaks for the app", "a1 a2 a3 a a4 a5", Some(Accounts)),
            ("a success after them ends it", "a1 a2 a3 a4 a5 a", None),
            ("what failed long ago counts no more", "a1 a2 a3 +900 a4 a5", Some(Accounts)),
            ("just before that it counts", "a1 a2 a3 +899 a4 a5", Some(App)),
            ("and nothing counts when all is long ago", "a1 a2 a3 a4 a5 +900", None),
            (
                "two apps of a provider at once are the provider",
                "b1 b2 b3 b4 b5 a1 a2 a3 a4 a5",
                Some(Provider),
            ),
            (
                "an app of another provider proves nothing",
                "B1 B2 B3 B4 B5 a1 a2 a3 a4 a5",
                Some(App),
            ),
            ("an app that is refused is the app", "a!", Some(App)),
            ("until it is accepted", "a! a?", None),
            ("or an account of it is", "a! a", None),
            ("what was refused long ago says nothing", "a! +900", None),
            (
                "accepted when asked, its accounts may fail together all the same",
                "a1 a2 a3 a4 a5 a! a?",
                Some(App),
            ),
            ("two that are refused are the provider", "b! a!", Some(Provider)),
            (
                "a third that works between their refusals speaks for the provider",
                "b! a! +1 c +1 b! a!",
                Some(App),
            ),
            ("what it did long ago counts no more", "b! a! +1 c +900 b! a!", Some(Provider)),
            (
                "one that worked and is refused itself by now does not",
                "a! +1 b +1 b! a!",
                Some(Provider),
            ),
            ("a second app with a few is no second app", "b1 b2 a1 a2 a3 a4 a5", Some(App)),
            (
                "a third app that works speaks for the provider",
                "b1 b2 b3 b4 b5 a1 a2 a3 a4 a5 c",
                Some(App),
            ),
            (
                "one that worked before says nothing",
                "c +1 b1 b2 b3 b4 b5 a1 a2 a3 a4 a5",
                Some(Provider),
            ),
        ] {
            let (correlation, now) = told(story);
            assert_eq!(correlation.suspect(now, "a"), expected, "{sentence}: {story}");
        }
    }

    #[test]
    fn what_is_kept_does_not_grow_with_the_accounts_that_fail() {
        let mut correlation = Correlation::default();
        let app: Arc<str> = "a".into();
        for number in 0..50_000 {
            let id = AccountId::new("tiktok", format!("{number}"));
            correlation.failed(NOW, &app, &app, &id);
        }
        assert_eq!(correlation.recent["a"].failed.len(), AT_ONCE);
        assert_eq!(correlation.suspect(NOW, "a"), Some(Suspect::App));
        correlation.retain(|_| false);
        assert!(correlation.recent.is_empty());
    }

    #[test]
    fn asked_twice_it_answers_the_same() {
        let (correlation, now) = told("a1 a2 a3 a4 a5");
        assert_eq!(correlation.suspect(now, "a"), correlation.suspect(now, "a"));
    }
}
