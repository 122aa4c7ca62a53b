//! The second clock of each account: watched, announced, and told of again as it runs down.

use super::{Effect, Fleet};
use crate::core::{
    Account, AccountId, Cause, Evidence, Timestamp, TokenFacts,
    cause::Actor,
    decide::App,
    notices::{Audience, Change, Notice, Subject},
    schedule,
    second_clock::{self, Announcement, Differs, End, Moves, Watched},
};
use std::sync::Arc;

/// When what renews `account` ends, as far as that is known.
pub(super) fn end_of(account: &Account, app: &App) -> Option<End> {
    if app.only_while_live {
        // The access token is the credential, and its end is the only one.
        return None;
    }
    second_clock::end(account, &app.assumed)
}

/// An account is seen for the first time in this run.
pub(super) fn take_up(account: &mut Account, stored: Option<&TokenFacts>) {
    let kept = account.history.as_ref().map(|history| history.end_moves);
    account.watched = Watched::known(kept.unwrap_or_default());
    compare(account, stored);
}

/// A pass over the store read the token that is known.
pub(super) fn compare(account: &mut Account, stored: Option<&TokenFacts>) {
    let known = account.token.filter(|known| second_clock::is_ours(account, known));
    let same = known.zip(stored).filter(|(known, stored)| known.token == stored.token);
    account.differs =
        same.map_or_else(Differs::default, |(known, stored)| second_clock::differs(&known, stored));
}

/// Makes a notice that something cannot be renewed speak of the end that is announced.
pub(super) fn word(notice: &mut Notice, announced: &Announcement) {
    notice.expires_at = Some(announced.ends_at);
    let mut evidence = Evidence::of(Cause::NotRenewable, notice.at);
    evidence.detail = Some(announced.from.as_label().into());
    notice.evidence = Some(Arc::new(evidence));
}

impl Fleet {
    /// A renewal of ours brought `new`. Before the account takes it over.
    pub(super) fn watch_end(&mut self, id: &AccountId, new: &TokenFacts) {
        let news = self.table.change(id, |account| {
            account.differs = Differs::default();
            let known = account.token.filter(|known| second_clock::is_ours(account, known));
            let is_news = known.is_some_and(|known| account.watched.note(&known, new));
            is_news.then_some(account.watched.moves)
        });
        // That it moves is the usual case, is seen again soon, and worth no record.
        let Some(moves) = news.flatten() else { return };
        let worth = if moves == Moves::Absolute { moves } else { Moves::Unknown };
        let kept = self.table.find(id).and_then(|account| account.history.as_ref());
        if kept.map_or(Moves::Unknown, |history| history.end_moves) != worth {
            self.note(id, |_, history| history.end_moves = worth);
        }
    }

    /// The end of which the owner of `account` must hear ahead of time.
    pub(super) fn announced(&self, account: &Account) -> Option<Announcement> {
        let app = self.apps.find(&account.app)?;
        self.announcement(account, app, account.refresh_end)
    }

    /// When the next word about it is due, once `account` ends at `end`.
    pub(super) fn next_word(
        &self,
        now: Timestamp,
        account: &Account,
        app: &App,
        end: Option<End>,
    ) -> Option<Timestamp> {
        self.announcement(account, app, end)?.next_after(now)
    }

    /// True when the owner should have heard by now.
    pub(super) fn is_announced(&self, now: Timestamp, account: &Account) -> bool {
        self.announced(account).is_some_and(|announced| announced.first_at.has_come(now))
    }

    /// True when trouble of another kind changes nothing about what the owner was told: that it ends.
    pub(super) fn stands_beside(&self, now: Timestamp, account: &Account) -> bool {
        let is_others = account.cause.is_some_and(|cause| cause.actor() != Actor::Owner);
        account.told == Some(Cause::NotRenewable) && is_others && self.is_announced(now, account)
    }

    /// True when the end has come so much closer that its owner should hear of it again.
    pub(super) fn is_reminder_due(&self, now: Timestamp, account: &Account) -> bool {
        if account.told != Some(Cause::NotRenewable) {
            return false;
        }
        let reminded = account.history.as_ref().and_then(|history| history.reminded_at);
        let Some(told_at) = reminded.max(account.told_since) else { return false };
        self.announced(account).is_some_and(|announced| {
            !announced.ends_at.has_come(now) && announced.said_by(now) > announced.said_by(told_at)
        })
    }

    /// Calls the end to mind, in the thread of the first word about it.
    pub(super) fn remind(&mut self, now: Timestamp, id: &AccountId) {
        let Some(account) = self.table.find(id) else { return };
        let Some(announced) = self.announced(account) else { return };
        let mut again = Notice {
            subject: Subject::Account(id.clone()),
            cause: Cause::NotRenewable,
            change: Change::Reminder,
            audience: Audience::Owner,
            since: account.told_since.or(account.cause_since).unwrap_or(now),
            at: now,
            expires_at: None,
            evidence: None,
            step: self.step_for(now, id, Audience::Owner),
            missing_scopes: Vec::new(),
            accounts: 1,
            posts_at_risk: None,
            gate: account.door.gate,
        };
        word(&mut again, &announced);
        self.effects.push_back(Effect::Notify(again));
        self.note(id, |_, history| history.reminded_at = Some(now));
    }

    fn announcement(&self, account: &Account, app: &App, end: Option<End>) -> Option<Announcement> {
        let token = account.token?;
        let due = schedule::due(&account.id, &token, app.min_age, &self.policy);
        second_clock::announcement(account, due, end)
    }
}

#[cfg(test)]
mod tests {
    use super::super::{
        Finished, Input, Seen,
        tests::{Bench, app, id},
    };
    use super::*;
    use crate::core::{
        Shares,
        schedule::Policy,
        second_clock::{Assumed, Provenance},
    };
    use std::time::Duration;

    const DAY: u64 = 86_400;
    const TOKEN_DAYS: u64 = 2;

    /// Renews `a` whenever it asks for it, as a provider whose refresh token ends as `end` says. Answers what
    /// its owner was told, with the days that were left.
    fn live(
        bench: &mut Bench,
        days: u64,
        end: impl Fn(Timestamp) -> Timestamp,
    ) -> Vec<(Change, u64)> {
        let mut told = Vec::new();
        let mut number = 10;
        for _ in 0..days * 24 {
            bench.pass(3_600);
            note(bench, &mut told);
            if bench.started().iter().any(|one| one == "refresh a") {
                number += 1;
                let token = long(bench, number, end(bench.now));
                bench.finish("a", Finished::Renewed(token));
                note(bench, &mut told);
            }
        }
        told
    }

    fn note(bench: &Bench, told: &mut Vec<(Change, u64)>) {
        for effect in &bench.effects {
            if let Effect::Notify(notice) = effect
                && notice.cause == Cause::NotRenewable
            {
                let left = notice.expires_at.map_or(0, |end| end.since(bench.now).as_secs() / DAY);
                told.push((notice.change, left));
            }
        }
    }

    fn long(bench: &Bench, number: u64, end: Timestamp) -> TokenFacts {
        let mut token = bench.token(number, 0.0);
        token.expires_at = Some(bench.now.plus(Duration::from_secs(TOKEN_DAYS * DAY)));
        token.refresh_expires_at = Some(end);
        token
    }

    #[test]
    fn an_end_that_stands_is_announced_three_weeks_ahead_and_called_to_mind() {
        let mut bench = Bench::new();
        let end = bench.now.plus(Duration::from_secs(180 * DAY));
        let first = long(&bench, 1, end);
        bench.load(&[("a", first)]);
        let told = live(&mut bench, 185, |_| end);
        let firing: Vec<u64> =
            told.iter().filter(|(change, _)| change.is_trouble()).map(|(_, left)| *left).collect();
        let announced: Vec<u64> = firing.iter().copied().filter(|left| *left > 0).collect();
        assert_eq!(announced.len(), 4, "{told:?}");
        for (left, expected) in announced.iter().zip([21, 7, 3, 1]) {
            assert!(left.abs_diff(expected) <= 1, "{told:?}");
        }
        assert_eq!(bench.account("a").cause, Some(Cause::RefreshTokenExpired));
        assert!(told.iter().all(|(change, _)| *change != Change::Resolved), "{told:?}");
        assert_eq!(bench.account("a").refresh_end.map(|end| end.from), Some(Provenance::Learnt));
    }

    #[test]
    fn an_end_that_moves_is_nobodys_news() {
        let mut bench = Bench::new();
        let life = Duration::from_secs(30 * DAY);
        let first = long(&bench, 1, bench.now.plus(life));
        bench.load(&[("a", first)]);
        assert_eq!(live(&mut bench, 120, |now| now.plus(life)), []);
        assert_eq!(bench.account("a").cause, None);
        assert_eq!(bench.account("a").history, None, "and writes nothing");
    }

    #[test]
    fn a_new_consent_is_the_end_of_the_announcement() {
        let mut bench = Bench::new();
        let end = bench.now.plus(Duration::from_secs(90 * DAY));
        let first = long(&bench, 1, end);
        bench.load(&[("a", first)]);
        let told = live(&mut bench, 75, |_| end);
        assert_eq!(told.len(), 1, "{told:?}");
        assert_eq!(bench.account("a").cause, Some(Cause::NotRenewable));
        let new = long(&bench, 99, bench.now.plus(Duration::from_secs(90 * DAY)));
        bench.load(&[("a", new)]);
        let mut told = Vec::new();
        note(&bench, &mut told);
        assert!(matches!(told[..], [(Change::Resolved, _)]), "{told:?}");
        assert_eq!(bench.account("a").cause, None);
    }

    #[test]
    fn a_restart_says_nothing_twice_and_forgets_no_reminder() {
        let mut bench = Bench::new();
        let end = bench.now.plus(Duration::from_secs(180 * DAY));
        let first = long(&bench, 1, end);
        bench.load(&[("a", first)]);
        // The first word and the first reminder.
        let _ = live(&mut bench, 174, |_| end);
        let (memories, _) = bench.fleet.take_changed();
        let histories = bench.fleet.take_histories();
        let token = bench.account("a").token.unwrap();

        let mut after = Bench::new();
        after.now = bench.now;
        after.tell(Input::Holding { shares: Shares::NONE, until: None });
        after.tell(Input::Recalled(memories));
        after.tell(Input::Recounted(
            histories.into_iter().map(|(id, one)| (id, (*one).clone())).collect(),
        ));
        after.tell(Input::Holding { shares: Shares::ALL, until: None });
        after.load(&[("a", token)]);
        let mut told = Vec::new();
        note(&after, &mut told);
        assert_eq!(told, []);
        let told = live(&mut after, 5, |_| end);
        let again = told.iter().filter(|(change, _)| *change == Change::Reminder).count();
        assert_eq!(again, 2, "three days and one: {told:?}");
    }

    #[test]
    fn trouble_that_passes_does_not_tell_the_owner_that_all_is_well() {
        let mut bench = Bench::new();
        let end = bench.now.plus(Duration::from_secs(90 * DAY));
        let first = long(&bench, 1, end);
        bench.load(&[("a", first)]);
        let _ = live(&mut bench, 72, |_| end);
        assert_eq!(bench.account("a").told, Some(Cause::NotRenewable));
        let mut told = Vec::new();
        for _ in 0..48 {
            bench.pass(3_600);
            note(&bench, &mut told);
            if bench.started().iter().any(|one| one == "refresh a") {
                let evidence = bench.evidence(Cause::ProviderOutage);
                bench.finish("a", Finished::NotCommitted(evidence));
                note(&bench, &mut told);
                assert_eq!(bench.account("a").cause, Some(Cause::ProviderOutage));
            }
        }
        assert_eq!(told, []);
        let _ = live(&mut bench, 3, |_| end);
        assert_eq!(bench.account("a").cause, Some(Cause::NotRenewable));
        assert!(bench.account("a").refresh_failures.is_some());
    }

    #[test]
    fn an_app_in_testing_announces_its_week_and_an_estimate_ends_nothing() {
        let mut bench = Bench::new();
        let week = Assumed { life: Some(Duration::from_secs(7 * DAY)), moves: Moves::Absolute };
        let apps = vec![App { assumed: week, retry_is_safe: true, ..app("main") }];
        bench.tell(Input::Configured { policy: Policy::default(), apps });
        let first = bench.token(1, 0.0);
        bench.load(&[("a", first)]);
        let renewed = |bench: &mut Bench, hours: u64| {
            let mut told = Vec::new();
            for _ in 0..hours {
                bench.pass(3_600);
                note(bench, &mut told);
                if bench.started().iter().any(|one| one == "refresh a") {
                    let mut token = bench.token(bench.now.as_unix().unsigned_abs(), 0.0);
                    token.renewable_by = first.renewable_by;
                    bench.finish("a", Finished::Renewed(token));
                    note(bench, &mut told);
                }
            }
            told
        };
        let told = renewed(&mut bench, 6 * 24 + 12);
        assert_eq!(told.first(), Some(&(Change::Firing, 2)), "{told:?}");
        let firing = told.iter().filter(|(change, _)| change.is_trouble()).count();
        assert_eq!(firing, 2, "{told:?}");
        assert_eq!(bench.account("a").refresh_end.map(|end| end.from), Some(Provenance::Estimated));
        // Its owner consents again: another refresh token, which such a provider hands out for nothing else.
        let mut new = bench.token(7, 0.0);
        new.renewable_by = Some(crate::core::Fingerprint::from_hash(77));
        bench.load(&[("a", new)]);
        assert_eq!(bench.account("a").cause, None);
        // And this one proves the estimate wrong.
        let told = renewed(&mut bench, 9 * 24);
        assert_eq!(bench.account("a").cause, None, "{told:?}");
        assert!(matches!(told.last(), Some((Change::Resolved, _))), "{told:?}");
    }

    #[test]
    fn a_store_that_contradicts_what_was_declared_is_noticed_and_not_believed() {
        let mut bench = Bench::new();
        bench.load(&[("a", bench.token(1, 0.9))]);
        let new = bench.token(2, 0.0);
        bench.finish("a", Finished::Renewed(new));
        let mut stored = new;
        stored.expires_at = new.expires_at.map(|end| end.plus(Duration::from_secs(DAY)));
        bench.pass(60);
        bench.load(&[("a", stored)]);
        assert_eq!(bench.account("a").differs, Differs { access: 86_400, refresh: 0 });
        assert_eq!(bench.account("a").token, Some(new));
        bench.pass(60);
        bench.load(&[("a", new)]);
        assert_eq!(bench.account("a").differs, Differs::default());
        let seen = Seen { id: id("a"), app: "main".into(), token: Some(bench.token(3, 0.0)) };
        bench.tell(Input::Seen(vec![seen]));
        assert_eq!(bench.account("a").differs, Differs::default());
    }
}
