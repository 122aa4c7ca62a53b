//! What follows from the end of a refresh, a save or a check.

use super::{Blocked, Checked, Finished, Fleet};
use crate::core::{
    Account, AccountId, AppMemory, Busy, Cause, Event, Evidence, Timestamp, TokenFacts, decide,
    history::Source,
    schedule::{self, RETRY_AFTER_MAX},
};
use std::{sync::Arc, time::Duration};

impl Fleet {
    /// A refresh, a settlement or a save came to its end.
    pub(super) fn finish(&mut self, now: Timestamp, id: &AccountId, result: Finished) {
        let busy = self.land(id);
        let theirs = self.passed_over.remove(id);
        if busy == Busy::Refreshing && self.speaks_for_its_app(id, &result) {
            self.accept_app_of(now, id);
        }
        self.correlate(now, id, busy, &result);
        self.conclude_beside(now, id, result, theirs);
        self.heed_what_waited(now, id);
        self.let_go(id);
    }

    /// What follows, where a pass over the store may have found another token meanwhile.
    fn conclude_beside(
        &mut self,
        now: Timestamp,
        id: &AccountId,
        result: Finished,
        theirs: Option<Option<TokenFacts>>,
    ) {
        match (result, theirs) {
            // A verdict about a token that the store has replaced in the meantime is no news.
            (
                Finished::Dead(_) | Finished::KnownDead(_) | Finished::WrongAccount(_),
                Some(theirs),
            ) if !self.is_spent(id, theirs) => {
                self.take_theirs(now, id, theirs);
            }
            (
                result @ (Finished::NotCommitted(_)
                | Finished::Ambiguous { .. }
                | Finished::Blocked(_)
                | Finished::Dead(_)
                | Finished::KnownDead(_)
                | Finished::WrongAccount(_)),
                Some(theirs),
            ) => {
                self.conclude(now, id, result);
                self.take_theirs(now, id, theirs);
            }
            // The others have looked at the store themselves, later than the pass did.
            (result, _) => self.conclude(now, id, result),
        }
    }

    /// Told by whoever sent them: what an attempt came to does not say how many there were.
    pub(super) fn count_requests(&mut self, ids: &[AccountId]) {
        for id in ids {
            self.table.change(id, |account| {
                account.refresh_attempts = account.refresh_attempts.saturating_add(1);
            });
        }
    }

    fn conclude(&mut self, now: Timestamp, id: &AccountId, result: Finished) {
        match result {
            Finished::Renewed(token) => self.renew(now, id, token),
            Finished::Adopted(token) => {
                // What a pass that is running has read of it is older.
                let pass = self.load;
                self.table.change(id, |account| account.changed_in = pass);
                self.take_over(now, id, Some(token));
            }
            Finished::Restored(token) => self.restore(now, id, token),
            Finished::Shared(token) => self.take_share(now, id, token),
            Finished::Unsaved(token) => self.hold_unsaved(now, id, token),
            Finished::Dead(_) if self.is_known_dead(id) => {
                self.table.change(id, |account| account.in_doubt = false);
                self.look_at(now, id);
            }
            Finished::Dead(evidence) => {
                self.give_up_saving(id);
                let evidence = self.named_by_announcement(id, evidence);
                let verdict = evidence.cause;
                self.fail(now, id, evidence, |account| {
                    account.in_doubt = false;
                    account.verdict = Some(if verdict.needs_reconnect() {
                        verdict
                    } else {
                        Cause::RefreshTokenRejected
                    });
                });
            }
            Finished::KnownDead(mut evidence) => {
                // Its owner was told why; what is noted of the token says only that it is over.
                let told = self.table.find(id).and_then(|account| account.told.or(account.cause));
                evidence.cause =
                    told.filter(|told| told.needs_reconnect()).unwrap_or(evidence.cause);
                self.conclude(now, id, Finished::Dead(evidence));
            }
            Finished::WrongAccount(evidence) => {
                self.give_up_saving(id);
                self.fail(now, id, evidence, |account| {
                    account.in_doubt = false;
                    account.verdict = Some(Cause::WrongEnvironment);
                });
            }
            Finished::NotCommitted(evidence) if evidence.cause == Cause::RateLimited => {
                self.pause_app_of(now, id, &evidence);
                self.back_off(now, id, evidence);
            }
            Finished::NotCommitted(evidence) if evidence.app_wide => {
                self.refuse_app(now, id, evidence)
            }
            Finished::NotCommitted(evidence) => self.back_off(now, id, evidence),
            Finished::Ambiguous { evidence, over_at } => self.doubt(now, id, evidence, over_at),
            // Somebody else has it, and finds the token in the journal.
            Finished::Blocked(Blocked::LeaseHeld) if !self.was_given(id) => self.give_up_saving(id),
            Finished::Blocked(blocked) => self.block(now, id, blocked),
            // Whose it is now sees for himself, and closes what is open about it.
            Finished::Gone if !self.holds(id) => self.give_up_saving(id),
            Finished::Gone => {
                self.give_up_saving(id);
                self.bid_farewell(now, id);
            }
            Finished::NoToken => {
                self.note_writing(now, id, None, false);
                self.adopt(now, id, None);
            }
        }
    }

    /// An attempt that was open at the start ends, and why was known before it: that is no new failure, and says
    /// more than an end that was found in the journal.
    fn is_known_dead(&self, id: &AccountId) -> bool {
        let account = self.table.find(id);
        account.is_some_and(|account| {
            account.in_doubt
                && !account.unsaved
                && account.verdict.is_some_and(Cause::needs_reconnect)
        })
    }

    fn renew(&mut self, now: Timestamp, id: &AccountId, token: TokenFacts) {
        let spacing = self.policy.backoff_first;
        let pass = self.load;
        let before = self.table.find(id).and_then(|account| account.token?.renewable_by);
        self.watch_end(id, &token);
        let was_unsaved = self.table.change(id, |account| {
            account.replace_token(token);
            account.written_back = false;
            account.changed_in = pass;
            account.last_refresh_at = Some(now);
            account.failed_in_a_row = 0;
            // A provider that declares lives of a second must not be asked every second.
            account.not_before = Some(now.plus(spacing));
            account.in_doubt = false;
            // Our own refresh carries the old grant on: a scope that was missing is still missing.
            account.verdict = account.verdict.filter(|verdict| *verdict == Cause::ScopeMissing);
            // Both are answered by it; one that is left standing would spend another refresh.
            let was_questioned = account.questioned_at.take().is_some();
            let was_refused = std::mem::take(&mut account.access_refused);
            if was_questioned || was_refused {
                account.confirmed_at = Some(now);
            }
            std::mem::take(&mut account.unsaved)
        });
        self.unsaved -= usize::from(was_unsaved == Some(true));
        self.saves.worked();
        self.changed.insert(id.clone());
        self.note_scopes(now, id);
        self.report(Event::Refreshed { id: id.clone(), expires_at: token.expires_at });
        self.look_at(now, id);
        let replaced = self.table.find(id).and_then(|account| account.replaced);
        self.send_for_share(
            now,
            id,
            before.filter(|before| Some(*before) != token.renewable_by).or(replaced),
        );
    }

    /// Somebody had written a spent token back, and ours is in the store again.
    fn restore(&mut self, now: Timestamp, id: &AccountId, token: TokenFacts) {
        let pass = self.load;
        let first_pause = self.policy.backoff_first;
        let times = self.table.change(id, |account| {
            // After a start, or of another replica's account: how ours fared before is not known.
            let is_another = account.token.map(|known| known.token) != Some(token.token);
            if is_another {
                account.token = Some(token);
                account.verdict = None;
                account.access_refused = false;
                account.failed_in_a_row = 0;
            }
            account.changed_in = pass;
            account.written_back = false;
            let goes_on =
                account.restored_at.is_some_and(|at| now < at.plus(RESTORES_IN_A_ROW_WITHIN));
            account.restores = if goes_on { account.restores.saturating_add(1) } else { 1 };
            account.restored_at = Some(now);
            // The refresh that found it is still to be made, but not in a race with whoever wrote it.
            let pause = if goes_on || is_another { decide::RESTORE_EVERY } else { first_pause };
            account.not_before = account.not_before.max(Some(now.plus(pause)));
            account.restores
        });
        self.saves.worked();
        if let Some(times) = times.filter(|times| *times >= RESTORES_TOLD_FROM) {
            self.report(Event::WrittenBack { id: id.clone(), times });
        }
        self.changed.insert(id.clone());
        self.note_stale_copy(now, id);
        self.note_scopes(now, id);
        self.look_at(now, id);
    }

    fn hold_unsaved(&mut self, now: Timestamp, id: &AccountId, token: TokenFacts) {
        let policy = self.policy;
        let pass = self.load;
        let was_unsaved = self.table.change(id, |account| {
            account.replace_token(token);
            account.changed_in = pass;
            account.in_doubt = false;
            account.failed_in_a_row = account.failed_in_a_row.saturating_add(1);
            let pause = schedule::backoff(id, account.failed_in_a_row, &policy).min(SAVE_AGAIN_MAX);
            account.not_before = Some(now.plus(pause));
            std::mem::replace(&mut account.unsaved, true)
        });
        // A row that was known to refuse its token says nothing about the others.
        if was_unsaved == Some(false) {
            self.unsaved += 1;
            self.saves.refused_another(now);
            // Whatever kept the store from taking it may keep it from taking the next one.
            self.note_store(now, false);
        }
        self.report(Event::Unsaved { id: id.clone() });
        self.look_at(now, id);
    }

    fn back_off(&mut self, now: Timestamp, id: &AccountId, evidence: Evidence) {
        let policy = self.policy;
        let cause = evidence.cause;
        // To the second: the provider knows when it will listen again. Absurd values are cut.
        let asked = evidence.retry_after.map(|asked| asked.min(RETRY_AFTER_MAX));
        self.fail(now, id, evidence, |account| {
            account.failed_in_a_row = account.failed_in_a_row.saturating_add(1);
            let pause = schedule::retry_pause(id, account.failed_in_a_row, &policy);
            // Not less than what keeps a third request out of the minute, though: who asks for a second's patience
            // each time would get a request each second.
            let asked =
                asked.map(|asked| asked.max(schedule::spacing(account.failed_in_a_row, pause)));
            account.not_before = Some(now.plus(asked.unwrap_or(pause).max(Duration::from_secs(1))));
            if matches!(cause, Cause::ScopeMissing | Cause::WrongEnvironment) {
                account.verdict = Some(cause);
            }
        });
    }

    fn doubt(&mut self, now: Timestamp, id: &AccountId, evidence: Evidence, over_at: Timestamp) {
        let app = self.table.find(id).and_then(|account| self.apps.find(&account.app));
        if app.is_some_and(|app| app.retry_is_safe) {
            self.back_off(now, id, evidence);
            return;
        }
        let first_pause = now.plus(self.policy.backoff_first);
        self.fail(now, id, evidence, |account| {
            account.failed_in_a_row = account.failed_in_a_row.saturating_add(1);
            account.in_doubt = true;
            account.not_before = Some(over_at.max(first_pause));
        });
    }

    /// The provider wants nothing more from the whole app for a while: to ask it account after account is
    /// what it asked us not to do.
    fn pause_app_of(&mut self, now: Timestamp, id: &AccountId, evidence: &Evidence) {
        let asked = evidence.retry_after.filter(|_| evidence.app_wide);
        let app = self.table.find(id).map(|account| Arc::clone(&account.app));
        if let (Some(asked), Some(app)) = (asked, app) {
            let until = now.plus(asked.min(RETRY_AFTER_MAX));
            if self.apps.pause(&app, until) {
                self.report(Event::AppPaused { app, until });
            }
        }
    }

    /// What the end of an attempt says about whose trouble it is.
    fn correlate(&mut self, now: Timestamp, id: &AccountId, busy: Busy, result: &Finished) {
        let Some(app) = self.table.find(id).map(|account| Arc::clone(&account.app)) else {
            return;
        };
        let Some(server) = self.apps.find(&app).map(|app| Arc::clone(&app.server)) else {
            return;
        };
        match result {
            Finished::Renewed(_) | Finished::Unsaved(_) if busy == Busy::Refreshing => {
                self.correlation.succeeded(now, &app, &server);
            }
            Finished::Dead(evidence)
            | Finished::WrongAccount(evidence)
            | Finished::NotCommitted(evidence)
                if is_about_the_token(evidence) =>
            {
                // Of one that ended before it was refused nobody knows for how long it has been dead.
                if self.table.find(id).is_some_and(|account| account.is_live(now)) {
                    self.correlation.failed(now, &app, &server, id);
                }
                if self.apps.is_doubted(&app) || self.correlation.accounts_fail_together(now, &app)
                {
                    self.suspect_app(now, &app, id);
                }
            }
            // The one that was to show whether the app goes on, whatever became of it.
            Finished::Dead(_) if self.apps.is_doubted(&app) => self.suspect_app(now, &app, id),
            _ => {}
        }
    }

    /// True when the provider dealt with the account, so that it accepts the app. Of an app in doubt that was never
    /// the question: only a token that is renewed ends the doubt.
    fn speaks_for_its_app(&self, id: &AccountId, result: &Finished) -> bool {
        match result {
            Finished::Renewed(_) | Finished::Unsaved(_) => true,
            Finished::Dead(_) | Finished::WrongAccount(_) => {
                !self.table.find(id).is_some_and(|account| self.apps.is_doubted(&account.app))
            }
            _ => false,
        }
    }

    /// The provider dealt with the account.
    fn accept_app_of(&mut self, now: Timestamp, id: &AccountId) {
        let Some(app) = self.table.find(id).map(|account| Arc::clone(&account.app)) else {
            return;
        };
        if !self.apps.is_proof(&app, id) {
            return;
        }
        let was_refused = self.apps.is_refused(&app);
        let first = self.apps.prove(&app);
        if let Some((cause, since)) = self.apps.accepted(&app, now) {
            self.report(Event::AppThawed { app: Arc::clone(&app) });
            self.tell_app_is_well(now, &app, cause, since);
        } else if first {
            // An incident that the last run opened ends here; where there is none, nothing is said.
            self.tell_app_is_well(now, &app, Cause::AppCredentialsRejected, now);
        }
        if was_refused {
            self.look_at_app(now, &app);
        }
    }

    /// What the last run, or another replica, knows of the apps.
    pub(super) fn recall_apps(&mut self, now: Timestamp, mut memories: Vec<AppMemory>) {
        let latest = now.plus(RETRY_AFTER_MAX);
        for memory in &mut memories {
            memory.paused_until = memory.paused_until.map(|until| until.min(latest));
            memory.next_try_at = memory.next_try_at.map(|at| at.min(latest));
        }
        for app in self.apps.recall(now, &memories) {
            self.look_at_app(now, &app);
        }
    }

    fn block(&mut self, now: Timestamp, id: &AccountId, blocked: Blocked) {
        match blocked {
            Blocked::LeaseHeld | Blocked::ProviderSilent | Blocked::RowDamaged => {}
            Blocked::StoreDown => self.note_store(now, false),
            Blocked::StateDown => self.note_state(now, false),
            Blocked::NoCredentials => {
                let mut evidence = Evidence::of(Cause::AppCredentialsRejected, now);
                evidence.app_wide = true;
                evidence.detail = Some("secret_unreadable".into());
                self.refuse_app(now, id, evidence);
                return;
            }
        }
        let pause = match blocked {
            // It has not answered for a while already: every account in doubt asks it.
            // A person must mend the row; the pass that finds it mended brings what it holds.
            Blocked::RowDamaged | Blocked::ProviderSilent => {
                schedule::backoff(id, SILENT_LIKE_FAILURES, &self.policy)
            }
            _ => self.policy.backoff_first,
        };
        let until = now.plus(pause);
        self.table.change(id, |account| {
            account.not_before = Some(until);
            // A save that came to nothing is one that was tried.
            let failures = u16::from(account.unsaved && blocked != Blocked::LeaseHeld);
            account.failed_in_a_row = account.failed_in_a_row.saturating_add(failures);
        });
        self.look_at(now, id);
    }

    /// Keeps the evidence, counts the failure, lets `change` draw the consequence.
    pub(super) fn fail(
        &mut self,
        now: Timestamp,
        id: &AccountId,
        evidence: Evidence,
        change: impl FnOnce(&mut Account),
    ) {
        let evidence = Arc::new(evidence);
        self.note_failure(now, id, &evidence, Source::Refresh);
        let kept = Arc::clone(&evidence);
        let retry_at = self.table.change(id, |account| {
            count_failure(account, kept.cause);
            account.last_failure = Some(kept);
            change(account);
            account.not_before.filter(|at| *at > now && account.verdict.is_none())
        });
        self.changed.insert(id.clone());
        let retry_at = retry_at.flatten();
        self.report(Event::RefreshFailed { id: id.clone(), evidence, retry_at });
        self.look_at(now, id);
    }

    /// The free check of an access token came back.
    pub(super) fn note_check(&mut self, now: Timestamp, id: &AccountId, checked: Checked) {
        self.land(id);
        let result = match &checked {
            Checked::Alive => "alive",
            Checked::Refused(_) => "refused",
            Checked::Unknown => "unknown",
        };
        self.report(Event::Probed { id: id.clone(), result });
        if let Some(theirs) = self.passed_over.remove(id) {
            // The answer is about a token that the store has replaced in the meantime.
            self.take_theirs(now, id, theirs);
            self.heed_what_waited(now, id);
            self.let_go(id);
            return;
        }
        let alive = match &checked {
            Checked::Alive => Some(true),
            Checked::Refused(_) => Some(false),
            Checked::Unknown => None,
        };
        self.note_checked(now, id, alive);
        let refused = match checked {
            Checked::Refused(evidence) => Some(Arc::new(evidence)),
            Checked::Alive | Checked::Unknown => None,
        };
        if let Some(evidence) = &refused {
            self.note_failure(now, id, evidence, Source::Check);
        }
        self.table.change(id, |account| {
            account.questioned_at = None;
            account.confirmed_at = Some(now);
            let Some(evidence) = refused else {
                return;
            };
            match evidence.cause {
                // A refresh cannot mend these, so none is spent on them.
                Cause::ScopeMissing | Cause::WrongEnvironment | Cause::ConsentRevoked => {
                    account.verdict = Some(evidence.cause);
                }
                _ => account.access_refused = true,
            }
            account.last_failure = Some(evidence);
        });
        self.changed.insert(id.clone());
        self.look_at(now, id);
        self.heed_what_waited(now, id);
        self.let_go(id);
    }

    /// The publisher had answers from the provider's API.
    pub(super) fn note_response(
        &mut self,
        now: Timestamp,
        id: &AccountId,
        status: u16,
        times: u32,
    ) {
        let known = self.table.change(id, |account| {
            account.responses.count(status, times);
            let asks = status == 401 && times > 0 && account.verdict.is_none();
            if asks && account.questioned_at.is_none() {
                account.questioned_at = Some(now);
            }
            asks
        });
        let Some(asks) = known else {
            return;
        };
        self.report(Event::ResponsesReported { id: id.clone(), status, times });
        if (200..300).contains(&status) && times > 0 {
            self.heed_publish(now, id);
        }
        if asks {
            self.look_at(now, id);
        }
    }

    /// The publisher passed on what the provider said. It is a claim: what would end an account is asked of
    /// the provider first, and a missing scope, which no check of ours can see, keeps the token alive.
    pub(super) fn note_said(&mut self, now: Timestamp, id: &AccountId, evidence: Evidence) {
        if self.table.find(id).is_none() {
            return;
        }
        let evidence = Arc::new(evidence);
        self.note_failure(now, id, &evidence, Source::Publisher);
        self.heed_claim(now, id, &evidence);
    }

    /// What follows from a claim.
    pub(super) fn heed_claim(&mut self, now: Timestamp, id: &AccountId, evidence: &Arc<Evidence>) {
        self.table.change(id, |account| {
            if account.verdict.is_some() {
                return;
            }
            match evidence.cause {
                Cause::ScopeMissing => {
                    account.verdict = Some(Cause::ScopeMissing);
                    account.questioned_at = None;
                    account.last_failure = Some(Arc::clone(evidence));
                }
                cause if cause.needs_reconnect() => account.questioned_at = Some(now),
                Cause::AccessTokenExpired | Cause::WrongEnvironment => {
                    account.questioned_at = Some(now);
                }
                _ => {}
            }
        });
        self.look_at(now, id);
    }

    /// Nobody reported anything, and the account is to be checked all the same: free of charge or not at all.
    pub(super) fn note_wonder(&mut self, now: Timestamp, id: &AccountId) {
        let Some(account) = self.table.find(id) else {
            return;
        };
        let app = self.apps.find(&account.app);
        // Without a check a question would be answered by a refresh.
        let is_free = app.is_some_and(|app| app.probe == decide::Probe::Free);
        let is_quiet = account.cause.is_none() && account.questioned_at.is_none();
        if !is_free || !is_quiet {
            return;
        }
        self.table.change(id, |account| account.questioned_at = Some(now));
        self.look_at(now, id);
    }

    /// Somebody asked for a refresh now: what the provider has not refused for good is tried.
    pub(super) fn note_question(&mut self, now: Timestamp, id: &AccountId) {
        self.table.change(id, |account| {
            account.access_refused = true;
            account.not_before = None;
        });
        self.look_at(now, id);
    }
}

/// False for silence, limits and refusals of the app, which have causes of their own; and for answers that were lost,
/// of which an outage leaves many at once.
const fn is_about_the_token(evidence: &Evidence) -> bool {
    let is_others =
        matches!(evidence.cause, Cause::RateLimited | Cause::ProviderOutage | Cause::RotationLost);
    !evidence.app_wide && !is_others
}

fn count_failure(account: &mut Account, cause: Cause) {
    let counts = account.refresh_failures.get_or_insert_with(|| Arc::new([0; Cause::ALL.len()]));
    let count = &mut Arc::make_mut(counts)[cause.index()];
    *count = count.saturating_add(1);
}

/// A provider that is silent, or a row that cannot be read, is asked again after the pause that so many failures in a row have.
const SILENT_LIKE_FAILURES: u16 = 4;

/// Tokens that were put back within this time of each other are one story.
const RESTORES_IN_A_ROW_WITHIN: Duration = Duration::from_secs(3_600);

/// From so many on, a person must look at what the publisher does.
const RESTORES_TOLD_FROM: u8 = 3;

/// Longest pause between two attempts to save a token: it is the most urgent thing there is.
const SAVE_AGAIN_MAX: Duration = Duration::from_secs(30);
