//! What was announced about accounts under a signature, and what follows from it.
//!
//! That a consent was taken back is proof, so no refresh is spent on it. But it is proof about the token of its
//! time: where two clocks cannot tell which was first, the provider is asked, and a newer token wins. Absent on
//! purpose: the memory of what was announced. Whoever brings it brings it again after a restart, and hearing it
//! twice changes nothing.

use super::Fleet;
use crate::core::{
    Account, AccountId, Busy, Cause, Event, Evidence, Revoker, Timestamp,
    announcement::{Bearing, bearing},
    history::Source,
};
use std::sync::Arc;

impl Fleet {
    /// Something was announced about an account.
    pub(super) fn note_announced(&mut self, now: Timestamp, id: &AccountId, evidence: Evidence) {
        let Some(token) = self.table.find(id).and_then(|account| account.token) else {
            return;
        };
        let is_revoked = evidence.cause == Cause::ConsentRevoked;
        if bearing(&token, evidence.at) == Bearing::Past {
            if is_revoked {
                self.tell_announced(id, &evidence, "overtaken");
            }
            return;
        }
        let evidence = Arc::new(evidence);
        if !self.was_announced(id, &evidence) {
            self.note_failure(now, id, &evidence, Source::Announcement);
        }
        if !is_revoked {
            self.heed_claim(now, id, &evidence);
        } else if self.table.find(id).is_some_and(is_unsettled) {
            self.tell_announced(id, &evidence, "waits");
            self.announced.insert(id.clone(), evidence);
        } else {
            self.heed_revocation(now, id, evidence);
        }
    }

    /// What was under way for `id` has ended, and so it is known which token it has.
    pub(super) fn heed_what_waited(&mut self, now: Timestamp, id: &AccountId) {
        if self.table.find(id).is_some_and(is_unsettled) {
            return;
        }
        if let Some(evidence) = self.announced.remove(id) {
            self.heed_revocation(now, id, evidence);
        }
    }

    /// The provider calls a refresh token dead and does not say why; what was announced about it does.
    pub(super) fn named_by_announcement(&self, id: &AccountId, refused: Evidence) -> Evidence {
        let announced = || {
            let account = self.table.find(id)?;
            let token = account.token?;
            let failures = &account.history.as_ref()?.failures;
            let is_about_it = |evidence: &Evidence| {
                evidence.cause == Cause::ConsentRevoked
                    && bearing(&token, evidence.at) != Bearing::Past
            };
            let found = failures
                .iter()
                .rev()
                .find(|one| one.source == Source::Announcement && is_about_it(&one.evidence))?;
            Some(found.evidence.detail.clone())
        };
        match announced() {
            Some(detail) => Evidence { cause: Cause::ConsentRevoked, detail, ..refused },
            None => refused,
        }
    }

    fn heed_revocation(&mut self, now: Timestamp, id: &AccountId, evidence: Arc<Evidence>) {
        let Some(account) = self.table.find(id) else { return };
        let Some(token) = account.token else { return };
        let is_dead = account.verdict.is_some_and(Cause::needs_reconnect);
        let result = match (account.verdict, bearing(&token, evidence.at)) {
            (Some(Cause::ConsentRevoked), _) => return,
            (_, Bearing::Past) => "overtaken",
            (_, Bearing::Unclear) if !is_dead => "asked",
            _ => "revoked",
        };
        self.tell_announced(id, &evidence, result);
        // A token that was issued a moment ago is asked about when it has settled, or nobody would.
        let settled_at = token.issued_at.plus(self.policy.backoff_first);
        self.table.change(id, |account| match result {
            "revoked" => {
                account.verdict = Some(Cause::ConsentRevoked);
                account.last_failure = Some(evidence);
                account.questioned_at = None;
            }
            "asked" => {
                account.questioned_at = Some(now);
                account.confirmed_at = None;
                account.not_before = account.not_before.max(Some(settled_at));
            }
            _ => {}
        });
        self.changed.insert(id.clone());
        self.look_at(now, id);
    }

    fn was_announced(&self, id: &AccountId, evidence: &Evidence) -> bool {
        let history = self.table.find(id).and_then(|account| account.history.as_ref());
        history.is_some_and(|history| {
            history
                .failures
                .iter()
                .any(|one| one.source == Source::Announcement && *one.evidence == *evidence)
        })
    }

    fn tell_announced(&mut self, id: &AccountId, evidence: &Evidence, result: &'static str) {
        let by = Revoker::named_in(evidence);
        self.report(Event::Announced { id: id.clone(), by, result });
    }
}

/// True while it may be that another token than the known one is the account's by now.
fn is_unsettled(account: &Account) -> bool {
    account.busy != Busy::Idle || account.unsaved || account.in_doubt
}

#[cfg(test)]
mod tests {
    use super::{
        super::{
            Input,
            tests::{Bench, id},
        },
        *,
    };
    use crate::core::{
        fleet::{Checked, Finished},
        notices::{Audience, Change, Subject},
    };
    use std::time::Duration;

    const HOUR: u64 = 3_600;

    /// A bench with an account whose token is an hour old.
    fn bench() -> Bench {
        let mut bench = Bench::new();
        bench.load(&[("a", bench.token(1, 0.5))]);
        bench
    }

    fn announced(bench: &mut Bench, seconds_ago: u64) {
        let evidence = Evidence {
            detail: Revoker::User.as_detail().map(Into::into),
            ..Evidence::of(Cause::ConsentRevoked, bench.now.minus(Duration::from_secs(seconds_ago)))
        };
        bench.tell(Input::Announced { id: id("a"), evidence });
    }

    fn results(bench: &Bench) -> Vec<&'static str> {
        bench
            .reports(|event| matches!(event, Event::Announced { .. }))
            .into_iter()
            .map(|event| match event {
                Event::Announced { by: Revoker::User, result, .. } => *result,
                other => panic!("{other:?}"),
            })
            .collect()
    }

    fn firing(cause: Cause) -> (Subject, Cause, Change, Audience) {
        (Subject::Account(id("a")), cause, Change::Firing, Audience::Owner)
    }

    #[test]
    fn a_consent_that_was_taken_back_ends_a_healthy_account_without_a_request() {
        let mut bench = bench();
        announced(&mut bench, 1);
        assert_eq!(results(&bench), ["revoked"]);
        assert_eq!(bench.started(), [""; 0]);
        assert_eq!(bench.notices(), [firing(Cause::ConsentRevoked)]);
        let account = bench.account("a");
        assert_eq!(account.cause, Some(Cause::ConsentRevoked));
        assert_eq!(
            account.last_failure.as_ref().unwrap().detail.as_deref(),
            Some("revoked_by_user")
        );
        bench.pass(48 * HOUR);
        assert_eq!(bench.started(), [""; 0], "nothing is spent on it any more");
    }

    #[test]
    fn hearing_it_again_changes_nothing() {
        let mut bench = bench();
        announced(&mut bench, 1);
        let before = format!("{:?}", bench.account("a"));
        announced(&mut bench, 1);
        assert_eq!(results(&bench), [""; 0]);
        assert_eq!(bench.notices(), []);
        assert_eq!(format!("{:?}", bench.account("a")), before);
    }

    #[test]
    fn a_newer_token_has_answered_it() {
        let mut bench = bench();
        announced(&mut bench, 2 * HOUR);
        assert_eq!(results(&bench), ["overtaken"]);
        assert_eq!((bench.account("a").cause, bench.started().len()), (None, 0));
        assert_eq!(bench.account("a").history, None);
    }

    #[test]
    fn whoever_connects_again_is_healthy_whatever_is_heard_once_more() {
        let mut bench = bench();
        announced(&mut bench, 1);
        let said = bench.now.minus(Duration::from_secs(1));
        bench.pass(HOUR);
        bench.load(&[("a", bench.token(2, 0.0))]);
        assert_eq!(bench.account("a").cause, None);
        let evidence = Evidence::of(Cause::ConsentRevoked, said);
        bench.tell(Input::Announced { id: id("a"), evidence });
        assert_eq!(bench.account("a").cause, None);
    }

    #[test]
    fn where_two_clocks_cannot_tell_the_provider_is_asked_first() {
        let mut bench = Bench::new();
        bench.load(&[("a", bench.token(1, 0.02))]);
        announced(&mut bench, 200);
        assert_eq!(results(&bench), ["asked"]);
        assert_eq!((bench.account("a").cause, bench.started()), (None, vec!["probe a".to_owned()]));
        bench.tell(Input::Probed { id: id("a"), checked: Checked::Alive });
        assert_eq!((bench.account("a").cause, bench.started().len()), (None, 0));
    }

    #[test]
    fn a_token_of_a_moment_ago_is_asked_about_when_it_has_settled() {
        let mut bench = Bench::new();
        bench.load(&[("a", bench.token(1, 0.0))]);
        announced(&mut bench, 0);
        assert_eq!((results(&bench), bench.started()), (vec!["asked"], vec![]));
        bench.pass(HOUR / 4);
        assert_eq!(bench.started(), ["probe a"]);
    }

    #[test]
    fn a_rejected_token_gets_its_better_name_and_nobody_a_second_mail() {
        for first in [Cause::RefreshTokenRejected, Cause::RotationLost] {
            let mut bench = Bench::new();
            bench.load(&[("a", bench.token(1, 0.9))]);
            bench.finish("a", Finished::Dead(bench.evidence(first)));
            assert_eq!(bench.notices(), [firing(first)]);
            announced(&mut bench, 1);
            assert_eq!((results(&bench), bench.notices()), (vec!["revoked"], vec![]));
            assert_eq!(bench.account("a").cause, Some(Cause::ConsentRevoked));
            bench.pass(60);
            bench.load(&[("a", bench.token(2, 0.0))]);
            let subject = Subject::Account(id("a"));
            assert_eq!(
                bench.notices(),
                [(subject, first, Change::Resolved, Audience::Owner)],
                "what was told ends"
            );
        }
    }

    #[test]
    fn a_refusal_after_it_is_called_by_its_name() {
        let mut bench = Bench::new();
        bench.load(&[("a", bench.token(1, 0.9))]);
        announced(&mut bench, 1);
        assert_eq!(results(&bench), ["waits"], "a refresh is under way");
        let mut refused = bench.evidence(Cause::RefreshTokenRejected);
        refused.code = Some("invalid_grant".into());
        bench.finish("a", Finished::Dead(refused));
        assert_eq!(bench.notices(), [firing(Cause::ConsentRevoked)]);
        let last = bench.account("a").last_failure.clone().unwrap();
        let shown = (last.detail.as_deref(), last.code.as_deref());
        assert_eq!(shown, (Some("revoked_by_user"), Some("invalid_grant")));
    }

    #[test]
    fn a_refresh_that_was_under_way_and_came_back_is_asked_about() {
        let mut bench = Bench::new();
        bench.load(&[("a", bench.token(1, 0.9))]);
        announced(&mut bench, 1);
        bench.finish("a", Finished::Renewed(bench.token(2, 0.0)));
        assert_eq!(results(&bench), ["asked"]);
        bench.pass(HOUR / 4);
        assert_eq!(bench.started(), ["probe a"]);
    }

    #[test]
    fn what_is_unsaved_is_saved_first() {
        let mut bench = Bench::new();
        bench.load(&[("a", bench.token(1, 0.9))]);
        let new = bench.token(2, 0.0);
        bench.finish("a", Finished::Unsaved(new));
        bench.pass(1_200);
        assert_eq!(bench.started(), ["save a"]);
        announced(&mut bench, 1);
        bench.finish("a", Finished::Unsaved(new));
        assert_eq!(bench.account("a").cause, Some(Cause::UnsavedToken));
        bench.pass(60);
        bench.finish("a", Finished::Renewed(new));
        assert_eq!(bench.account("a").cause, Some(Cause::ConsentRevoked));
    }

    #[test]
    fn a_missing_scope_that_is_announced_keeps_the_token_alive() {
        let mut bench = bench();
        let evidence = bench.evidence(Cause::ScopeMissing);
        bench.tell(Input::Announced { id: id("a"), evidence });
        assert_eq!(bench.account("a").cause, Some(Cause::ScopeMissing));
        bench.pass(HOUR);
        assert_eq!(bench.started(), ["refresh a"]);
    }

    #[test]
    fn a_restart_knows_it() {
        let mut before = bench();
        announced(&mut before, 1);
        let token = before.account("a").token.unwrap();
        let (memories, _) = before.fleet.take_changed();
        let mut after = Bench::new();
        after.tell(Input::Recalled(memories));
        after.load(&[("a", token)]);
        assert_eq!(after.account("a").verdict, Some(Cause::ConsentRevoked));
        announced(&mut after, 1);
        assert_eq!((after.started().len(), after.notices()), (0, vec![]));
    }
}
