//! Accounts of one app whose tokens are refused one after the other, with no success between them.
//!
//! Owners do not leave all at once. Where the provider refuses the app itself, asking about it tells. Where it
//! accepts the app and refuses the tokens all the same, they were issued to another app or in another
//! environment, or the provider has forgotten them all. In either case each further request gives up one more
//! token, and each mail blames one more owner: so the app is left alone but for one token now and then, the
//! operator is told once, and the owners only when it is known that the app is not to blame.
//!
//! Absent on purpose: waiting with the first few owners until others fail. A few are a few, until they are more.

use super::Fleet;
use crate::core::{
    Account, AccountId, Cause, Event, Evidence, Suspect, Timestamp, account::FAIL_TOGETHER,
};
use std::{sync::Arc, time::Duration};

impl Fleet {
    /// The token of `id` was refused, and so were those of others before it.
    pub(super) fn suspect_app(&mut self, now: Timestamp, app: &Arc<str>, id: &AccountId) {
        if self.apps.is_doubted(app) {
            // The one that was to show whether it goes on.
            if self.apps.is_trial_of(app, id) {
                let pause = self.pause_of_doubt(app);
                let cause = self.cause_of_doubt(now, app);
                self.apps.refused_once(app, cause, now, now.plus(pause), 1);
            }
            return;
        }
        if self.apps.is_refused(app) || self.apps.want_question(app, now) {
            return;
        }
        self.doubt_app(now, app);
    }

    /// The provider accepts the app, or does not say. True when its accounts fail together all the same.
    pub(super) fn doubts_app_although_it_is_accepted(
        &mut self,
        now: Timestamp,
        app: &Arc<str>,
    ) -> bool {
        let doubts =
            !self.apps.is_refused(app) && self.correlation.accounts_fail_together(now, app);
        if doubts {
            self.doubt_app(now, app);
        }
        doubts
    }

    fn doubt_app(&mut self, now: Timestamp, app: &Arc<str>) {
        let cause = self.cause_of_doubt(now, app);
        let pause = self.pause_of_doubt(app);
        self.apps.doubt(app, cause, now, now.plus(pause));
        let mut evidence = Evidence::of(cause, now);
        evidence.app_wide = true;
        evidence.detail = Some(FAIL_TOGETHER.into());
        self.announce_freeze(now, app, cause, Arc::new(evidence));
    }

    fn cause_of_doubt(&self, now: Timestamp, app: &Arc<str>) -> Cause {
        match self.correlation.suspect(now, app) {
            Some(Suspect::Provider) => Cause::ProviderOutage,
            _ => Cause::AppCredentialsRejected,
        }
    }

    /// Each try gives up one more token, so the pauses begin long.
    fn pause_of_doubt(&self, app: &Arc<str>) -> Duration {
        self.pause_of_app(app, self.apps.refusals(app).saturating_add(PAUSES_LIKE_REFUSALS))
    }

    /// True when the owner of `account` is not to hear yet that it is refused: the app may be to blame.
    pub(super) fn is_withheld(&self, now: Timestamp, account: &Account) -> bool {
        if account.cause != Some(Cause::RefreshTokenRejected) {
            return false;
        }
        self.withheld_until(account).is_some_and(|until| until > now)
    }

    /// Whoever is withheld hears of it in the end, whatever becomes of the app and of the others.
    pub(super) fn look_again_to_tell(&mut self, now: Timestamp, id: &AccountId) {
        let Some(account) = self.table.find(id) else { return };
        if account.told == account.cause || !self.is_withheld(now, account) {
            return;
        }
        let Some(at) = self.withheld_until(account) else { return };
        self.table.change(id, |account| {
            account.recheck_at = Some(account.recheck_at.map_or(at, |recheck| recheck.min(at)));
        });
    }

    fn withheld_until(&self, account: &Account) -> Option<Timestamp> {
        let since = account.cause_since?;
        if self.apps.is_doubted(&account.app) {
            return Some(since.plus(WITHHELD_MAX));
        }
        let others = self.apps.is_busy(&account.app);
        others.then(|| since.plus(self.policy.backoff_first * 2))
    }

    /// Somebody connected an account anew that was refused with the others: a person has been at it, and the next
    /// token tells more than waiting does.
    pub(super) fn end_doubt_of(&mut self, now: Timestamp, id: &AccountId) {
        let Some(app) = self.table.find(id).map(|account| Arc::clone(&account.app)) else { return };
        if !self.apps.is_doubted(&app) {
            return;
        }
        if let Some((cause, since)) = self.apps.accepted(&app, now) {
            self.report(Event::AppThawed { app: Arc::clone(&app) });
            self.tell_app_is_well(now, &app, cause, since);
            self.look_at_app(now, &app);
        }
    }
}

/// Owners of refused accounts are not told for so long while their app is in doubt: whoever runs the program can mend
/// it by then, and a token of a day that was due at two thirds of its life is still good.
const WITHHELD_MAX: Duration = Duration::from_secs(4 * 3_600);

/// The first try of an app in doubt comes after the pause that an app has which was refused once more than so often.
const PAUSES_LIKE_REFUSALS: u32 = 3;

#[cfg(test)]
mod tests;
