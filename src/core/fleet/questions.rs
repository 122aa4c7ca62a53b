//! The question about an app: asked with a token that is nobody's instead of trying an account's.
//!
//! While the provider refuses the app no real token is presented; it is asked about, less and less often, and
//! the app goes on when the answer is that it is accepted. The first real request after that proves it.
//! Whoever said so and then refuses a real token is not believed again until somebody was accepted, and an
//! app of which nothing can be learnt goes back to one real request at a time.

use super::{Asked, Effect, Fleet, apps::REFUSED_MAX};
use crate::core::{
    AccountId, Cause, Event, Evidence, Suspect, Timestamp,
    correlate::WITHIN,
    schedule::{self, RETRY_AFTER_MAX},
};
use std::{sync::Arc, time::Duration};

/// What is known from asking about one app.
#[derive(Debug, Default)]
pub(super) struct Question {
    /// Whether it is being asked now.
    pub(super) under_way: bool,
    /// What the last answer was, and when it came.
    pub(super) answer: Option<(&'static str, Timestamp)>,
    /// Not to be asked again before this, whatever happens.
    not_before: Option<Timestamp>,
    /// Answers in a row that told nothing.
    unclear: u8,
    /// How often in a row another replica was the one to ask, and nothing was heard of it.
    elsewhere: u8,
    /// Answers in a row that were not good.
    in_vain: u16,
    /// Somebody wants to know although the provider has not refused the app.
    is_wanted: bool,
    /// It goes on because of an answer; no account has been accepted since.
    is_unproven: bool,
    /// The provider refused a real token after it had said that it accepts the app.
    is_distrusted: bool,
}

impl Question {
    /// Whether an answer can be hoped for.
    pub(super) const fn is_worth_asking(&self) -> bool {
        !self.is_distrusted && self.unclear < UNCLEAR_MAX && self.elsewhere < ELSEWHERE_MAX
    }

    /// True when one real request at a time is enough until the answer is proven.
    pub(super) const fn limits_to_one(&self) -> bool {
        self.is_unproven
    }

    /// When it may be asked next, if `due` is when one wants to.
    pub(super) fn at(&self, due: Option<Timestamp>) -> Option<Timestamp> {
        due.max(self.not_before)
    }

    pub(super) const fn in_vain(&self) -> u16 {
        self.in_vain
    }

    pub(super) const fn is_wanted(&self) -> bool {
        self.is_wanted && !self.under_way && self.is_worth_asking()
    }

    /// Notes a wish to know, unless the last answer is young.
    pub(super) fn want(&mut self, now: Timestamp) {
        let knows = self.answer.is_some_and(|(_, at)| at.plus(WITHIN) > now);
        self.is_wanted |= !knows;
    }

    pub(super) fn begin(&mut self, now: Timestamp) {
        self.under_way = true;
        self.is_wanted = false;
        self.not_before = Some(now.plus(ASK_EVERY_MIN));
    }

    /// `was_refused` says that the app waits for the answer.
    pub(super) fn end(&mut self, now: Timestamp, asked: &Asked, was_refused: bool) {
        self.under_way = false;
        self.elsewhere = match asked {
            Asked::Elsewhere => self.elsewhere.saturating_add(1),
            _ => 0,
        };
        let word = match asked {
            Asked::Accepted => "accepted",
            Asked::Refused(_) => "refused",
            Asked::Unclear(_) => "unclear",
            Asked::Elsewhere => return,
        };
        self.answer = Some((word, now));
        self.in_vain = if word == "accepted" { 0 } else { self.in_vain.saturating_add(1) };
        self.unclear = if word == "unclear" { self.unclear.saturating_add(1) } else { 0 };
        self.is_unproven |= was_refused && word == "accepted";
    }

    /// Another replica wrote down what it knows, so it looks after the app.
    pub(super) const fn heard_of_another(&mut self) {
        self.elsewhere = 0;
    }

    /// Another replica heard that the app is accepted; one of our accounts proves it.
    pub(super) const fn rely_on_another(&mut self) {
        self.is_unproven = true;
    }

    /// The provider refused a real token because of the app.
    pub(super) const fn note_refusal(&mut self) {
        self.is_distrusted |= self.is_unproven;
        self.is_unproven = false;
        self.unclear = 0;
        self.elsewhere = 0;
    }

    /// The provider dealt with an account of the app, or somebody mended what may have been wrong.
    pub(super) const fn begin_anew(&mut self) {
        self.is_unproven = false;
        self.is_distrusted = false;
        self.unclear = 0;
        self.elsewhere = 0;
    }
}

impl Fleet {
    /// Asks about the apps whose time has come.
    pub(super) fn ask_about_apps(&mut self, now: Timestamp) {
        // Whoever asks needs a lease, and so our state.
        if !self.may_try_apps() || !self.state.is_well() {
            return;
        }
        for app in self.apps.begin_questions(now) {
            self.effects.push_back(Effect::AskAboutApp { app });
        }
    }

    /// The question about an app came back.
    pub(super) fn note_answer(&mut self, now: Timestamp, app: &Arc<str>, asked: Asked) {
        if !self.apps.end_question(app, now, &asked) {
            return;
        }
        match asked {
            // Then it is neither the secret nor so many owners.
            Asked::Accepted if self.doubts_app_although_it_is_accepted(now, app) => {}
            Asked::Unclear(_) if self.doubts_app_although_it_is_accepted(now, app) => {}
            Asked::Accepted => self.accept_on_its_word(now, app),
            Asked::Refused(evidence) => {
                let evidence = Arc::new(evidence);
                let pause = self.pause_of_question(app);
                let next_try_at = now.plus(pause);
                let refusals_max = self.policy.app_refusals_max;
                let frozen = self.count_refusal(now, app, &evidence, next_try_at, refusals_max);
                if let Some(cause) = frozen {
                    self.announce_freeze(now, app, cause, evidence);
                }
            }
            Asked::Unclear(evidence) => self.ask_later(now, app, evidence.retry_after),
            Asked::Elsewhere => {
                // What the other one hears is heard of soon, if it asks at all: an app that no account of its
                // own waits for it may have let go. Not as soon as after a first failure, though: it may still
                // be asking.
                let pause = schedule::backoff(&self.id_of_app(app), 2, &self.policy);
                self.apps.ask_at(app, now.plus(pause));
            }
        }
        self.look_at_app(now, app);
    }

    fn accept_on_its_word(&mut self, now: Timestamp, app: &Arc<str>) {
        self.correlation.accepted(app);
        if let Some((cause, since)) = self.apps.accepted(app, now) {
            self.report(Event::AppThawed { app: Arc::clone(app) });
            self.tell_app_is_well(now, app, cause, since);
        }
    }

    fn ask_later(&mut self, now: Timestamp, app: &Arc<str>, retry_after: Option<Duration>) {
        if let Some(asked) = retry_after {
            let until = now.plus(asked.min(RETRY_AFTER_MAX));
            if self.apps.pause(app, until) {
                self.report(Event::AppPaused { app: Arc::clone(app), until });
            }
        }
        let pause = self.pause_of_question(app);
        self.apps.ask_at(app, now.plus(pause));
    }

    /// The provider refused the app when the token of `id` was presented.
    pub(super) fn refuse_app(&mut self, now: Timestamp, id: &AccountId, evidence: Evidence) {
        let Some(app) = self.table.find(id).map(|account| Arc::clone(&account.app)) else {
            return;
        };
        let pause = self.pause_of_app(&app, self.apps.refusals(&app).saturating_add(1));
        let question_at = self.apps.note_real_refusal(&app, now);
        let evidence = Arc::new(evidence);
        let next_try_at = question_at.unwrap_or_else(|| now.plus(pause));
        // Several that were refused together may all have gone with a secret that was replaced just now: what
        // the question finds out about the others is waited for.
        let refusals_max = match question_at {
            Some(_) => u32::MAX,
            None => self.policy.app_refusals_max,
        };
        let frozen = self.count_refusal(now, &app, &evidence, next_try_at, refusals_max);
        // The account is not to blame: neither its count nor its pause grows.
        self.fail(now, id, Evidence::clone(&evidence), |_| {});
        if let Some(cause) = frozen {
            self.announce_freeze(now, &app, cause, evidence);
        }
    }

    /// One more refusal of the app, whether somebody's token was presented or nobody's. Answers for which
    /// cause that froze it.
    fn count_refusal(
        &mut self,
        now: Timestamp,
        app: &Arc<str>,
        evidence: &Evidence,
        next_try_at: Timestamp,
        refusals_max: u32,
    ) -> Option<Cause> {
        if let Some(server) = self.apps.find(app).map(|app| Arc::clone(&app.server)) {
            self.correlation.refused(now, app, &server);
        }
        let cause = match self.correlation.suspect(now, app) {
            Some(Suspect::Provider) => Cause::ProviderOutage,
            _ => evidence.cause,
        };
        let freezes = self.apps.refusals(app).saturating_add(1) >= refusals_max;
        if freezes
            && cause != Cause::ProviderOutage
            && let Some(since) = self.apps.exonerate_provider(app)
        {
            self.tell_app_is_well(now, app, Cause::ProviderOutage, since);
        }
        self.apps.refused_once(app, cause, now, next_try_at, refusals_max).then_some(cause)
    }

    pub(super) fn announce_freeze(
        &mut self,
        now: Timestamp,
        app: &Arc<str>,
        cause: Cause,
        evidence: Arc<Evidence>,
    ) {
        self.report(Event::AppFrozen { app: Arc::clone(app), cause });
        self.tell_of_app(now, app, cause, now, Some(evidence));
        self.look_at_app(now, app);
    }

    /// How long an app is not asked about after answers that were not good. They cost nobody's token, so the
    /// pauses only double.
    fn pause_of_question(&self, app: &Arc<str>) -> Duration {
        schedule::backoff(&self.id_of_app(app), self.apps.in_vain(app).max(1), &self.policy)
    }

    fn id_of_app(&self, app: &Arc<str>) -> AccountId {
        let provider = self.apps.find(app).map(|app| Arc::clone(&app.provider));
        AccountId::new(provider.unwrap_or_default(), Arc::clone(app))
    }

    /// How long an app that was refused so many times in a row is left alone.
    pub(super) fn pause_of_app(&self, app: &Arc<str>, times: u32) -> Duration {
        let of_app = self.id_of_app(app);
        match u16::try_from(times) {
            Ok(times) if times < REFUSED_MAX => schedule::backoff(&of_app, times, &self.policy),
            _ => self.policy.backoff_max,
        }
    }
}

/// An app is not asked about more often than this, whatever happens to its secret meanwhile.
pub(super) const ASK_EVERY_MIN: Duration = Duration::from_secs(5);

/// After so many answers in a row that told nothing a real request tells.
const UNCLEAR_MAX: u8 = 3;

/// The same after so many times that another replica was to ask and said nothing.
const ELSEWHERE_MAX: u8 = 3;

#[cfg(test)]
mod tests;
