//! Owners who cannot connect accounts because the provider refuses the app: only the operator can mend that.
//!
//! One incident for each app and reason, over all replicas: our state knows which are open. It ends with the next
//! account that is connected. Where some can be connected and others cannot, as in a sandbox that knows its testers,
//! it would begin and end again and again, so it begins once a day at most. Absent on purpose: a memory of it. After
//! a restart an incident that is open is not told again, and its end is told by whoever sees it.

use super::{Effect, Fleet, telling::shared};
use crate::core::{
    AccountId, Cause, Evidence, Timestamp,
    diagnose::Step,
    notices::{Change, Subject},
};
use std::{sync::Arc, time::Duration};

impl Fleet {
    pub(super) fn note_connect_refused(
        &mut self,
        now: Timestamp,
        app: &Arc<str>,
        evidence: Evidence,
    ) {
        let cause = match evidence.cause {
            cause @ (Cause::AppCredentialsRejected | Cause::RedirectUriMismatch) => cause,
            _ => Cause::WrongEnvironment,
        };
        let key = (Arc::clone(app), cause);
        let told_at = self.unconnectable.get(&key);
        let is_known = self.apps.find(app).is_some() && self.apps.frozen(app) != Some(cause);
        if !is_known || told_at.is_some_and(|at| now.since(*at) < BEGINS_EVERY) {
            return;
        }
        self.unconnectable.insert(key, now);
        let accounts = self.table.iter().filter(|account| account.app == *app).count();
        let subject = Subject::App(Arc::clone(app));
        let mut notice = shared(subject, cause, Change::Firing, now, now);
        notice.accounts = accounts;
        notice.step = (cause == Cause::WrongEnvironment).then_some(Step::ApproveScopes);
        notice.evidence = Some(Arc::new(evidence));
        self.effects.push_back(Effect::Notify(notice));
    }

    pub(super) fn note_connect_worked(&mut self, now: Timestamp, id: &AccountId, app: &Arc<str>) {
        // Its token is found in the store as anybody's is.
        self.table.change(id, |account| account.reconnected = true);
        for cause in REFUSALS {
            // What it is frozen for ends when it thaws.
            if self.apps.frozen(app) == Some(cause) {
                continue;
            }
            let since = self.unconnectable.get(&(Arc::clone(app), cause)).copied();
            let subject = Subject::App(Arc::clone(app));
            let notice = shared(subject, cause, Change::Resolved, since.unwrap_or(now), now);
            self.effects.push_back(Effect::Notify(notice));
        }
    }

    /// Apps that left the configuration take along what was told of them.
    pub(super) fn forget_unconnectable(&mut self) {
        let Self { unconnectable, apps, .. } = self;
        unconnectable.retain(|(app, _), _| apps.find(app).is_some());
    }
}

/// For what a provider refuses an app that accounts are to be connected with.
const REFUSALS: [Cause; 3] =
    [Cause::AppCredentialsRejected, Cause::RedirectUriMismatch, Cause::WrongEnvironment];

/// Between two beginnings of one incident.
const BEGINS_EVERY: Duration = Duration::from_secs(24 * 3_600);

#[cfg(test)]
mod tests {
    use super::super::{
        Input,
        tests::{Bench, id},
    };
    use super::*;
    use crate::core::{Event, decide::App, notices::Audience};

    const HOUR: u64 = 3_600;

    fn bench() -> Bench {
        let mut bench = Bench::new();
        bench.load(&[("a", bench.token(1, 0.1)), ("b", bench.token(2, 0.1))]);
        bench
    }

    fn refused(bench: &mut Bench, cause: Cause) {
        let evidence = bench.evidence(cause);
        bench.tell(Input::ConnectRefused { app: "main".into(), evidence });
    }

    fn told(cause: Cause, change: Change) -> (Subject, Cause, Change, Audience) {
        (Subject::App("main".into()), cause, change, Audience::Operator)
    }

    #[test]
    fn the_operator_hears_once_that_owners_cannot_connect_and_once_that_they_can() {
        let rows = [
            (Cause::RedirectUriMismatch, Cause::RedirectUriMismatch, None),
            (Cause::AppCredentialsRejected, Cause::AppCredentialsRejected, None),
            (Cause::ScopeMissing, Cause::WrongEnvironment, Some(Step::ApproveScopes)),
            (Cause::WrongEnvironment, Cause::WrongEnvironment, Some(Step::ApproveScopes)),
        ];
        for (said, cause, step) in rows {
            let mut bench = bench();
            bench.pass(60);
            refused(&mut bench, said);
            assert_eq!(bench.notices(), [told(cause, Change::Firing)], "{said:?}");
            let firing = bench.effects.iter().find_map(|effect| match effect {
                Effect::Notify(notice) => Some((notice.step, notice.accounts)),
                _ => None,
            });
            assert_eq!(firing, Some((step, 2)), "{said:?}");
            for _ in 0..5 {
                bench.pass(60);
                refused(&mut bench, said);
                assert_eq!(bench.notices(), [], "{said:?}: one incident");
            }
            bench.tell(Input::ConnectWorked { id: id("a"), app: "main".into() });
            assert_eq!(bench.notices(), [told(cause, Change::Resolved)], "{said:?}");
        }
    }

    #[test]
    fn where_some_can_and_others_cannot_it_begins_once_a_day() {
        let mut bench = bench();
        let mut begun = 0;
        for _ in 0..49 {
            refused(&mut bench, Cause::WrongEnvironment);
            begun += bench.notices().len();
            bench.tell(Input::ConnectWorked { id: id("a"), app: "main".into() });
            bench.pass(HOUR);
            bench.load(&[("a", bench.token(3, 0.1)), ("b", bench.token(4, 0.1))]);
        }
        assert_eq!(begun, 3);
    }

    #[test]
    fn of_an_app_that_is_frozen_for_it_the_operator_knows() {
        let mut bench = bench();
        refused(&mut bench, Cause::RedirectUriMismatch);
        assert_eq!(bench.notices().len(), 1, "another reason is news");
        let apps: Vec<App> = vec![super::super::tests::app("other")];
        bench.tell(Input::Configured { policy: Default::default(), apps });
        refused(&mut bench, Cause::AppCredentialsRejected);
        assert_eq!(bench.notices(), [], "an app that nobody knows");
        assert!(bench.fleet.unconnectable.is_empty());
    }

    #[test]
    fn what_our_own_page_brought_is_not_taken_for_somebody_elses() {
        let mut bench = bench();
        let is_news =
            |event: &Event| matches!(event, Event::Adopted { .. } | Event::Reconnected { .. });
        bench.tell(Input::ConnectWorked { id: id("a"), app: "main".into() });
        let (a, b) = (bench.token(3, 0.0), bench.token(4, 0.0));
        bench.load(&[("a", a), ("b", b)]);
        let expected = [Event::Reconnected { id: id("a") }, Event::Adopted { id: id("b") }];
        assert_eq!(bench.reports(is_news), expected.iter().collect::<Vec<_>>());
        // Once: whoever writes next is somebody else.
        let a = bench.token(5, 0.0);
        bench.load(&[("a", a), ("b", b)]);
        assert_eq!(bench.reports(is_news), [&Event::Adopted { id: id("a") }]);
    }
}
