//! Apps, and what happens when the provider refuses one of them.
//!
//! The first refusal leaves one request at a time, each after a longer pause; after a few in a row the
//! app is frozen and the operator is told. It thaws with the first request that the provider accepts, and
//! is tried at once when its secret reads differently. An app that nobody has accepted yet has no more
//! requests under way than may be refused; one that was asked to wait has none.
//!
//! What the provider said of an app is written down, so that the next start and other replicas need not ask
//! again. That nobody waits for it is not: it says nothing about the app.

use super::{Asked, questions::Question};
use crate::core::{AccountId, AppMemory, AppView, Cause, Timestamp, decide::App};
use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

#[derive(Debug)]
struct State {
    app: App,
    /// Requests under way.
    in_flight: usize,
    /// Requests in a row that the provider refused because of the app.
    refusals: u32,
    /// The one account whose request was sent after the last refusal.
    trial: Option<AccountId>,
    /// Not to be tried before this, while there are refusals.
    next_try_at: Option<Timestamp>,
    /// Nobody takes that try up before this: whoever was refused waits for something of his own.
    unclaimed_until: Option<Timestamp>,
    /// Whether the provider has accepted it since the start.
    proven: bool,
    /// Set while the operator must act.
    frozen: Option<(Cause, Timestamp)>,
    /// What the operator was told, by whomever, when nobody here waited for its end any more.
    unended: Option<(Cause, Timestamp)>,
    /// The provider asked it to wait until then.
    paused_until: Option<Timestamp>,
    /// When the provider last refused or accepted it, as far as is known here.
    changed_at: Option<Timestamp>,
    /// Its accounts fail together and asking about it tells nothing: only a token that is renewed does.
    doubted: bool,
    /// What asking about it has told.
    question: Question,
}

/// Every app that the configuration names.
#[derive(Debug, Default)]
pub(super) struct Apps {
    by_name: BTreeMap<Arc<str>, State>,
    /// Apps of which something is to be written down.
    changed: BTreeSet<Arc<str>>,
    /// Whether it was told what the last run knew.
    is_recalled: bool,
}

impl Apps {
    /// Takes over a new configuration. An app that stays keeps what is known about it, but is tried at
    /// once: whoever changed the configuration wants to see what it does. Answers which apps require other
    /// scopes than before.
    pub(super) fn replace(&mut self, apps: Vec<App>) -> BTreeSet<Arc<str>> {
        let mut other_scopes = BTreeSet::new();
        let mut old = std::mem::take(&mut self.by_name);
        for app in apps {
            let before = old.remove(&app.name);
            if before.as_ref().is_some_and(|before| before.app.scopes != app.scopes) {
                other_scopes.insert(Arc::clone(&app.name));
            }
            let state = match before {
                Some(mut before) => {
                    before.question.begin_anew();
                    State { app, next_try_at: None, unclaimed_until: None, ..before }
                }
                None => State {
                    app,
                    in_flight: 0,
                    refusals: 0,
                    trial: None,
                    next_try_at: None,
                    unclaimed_until: None,
                    proven: false,
                    frozen: None,
                    unended: None,
                    paused_until: None,
                    changed_at: None,
                    doubted: false,
                    question: Question::default(),
                },
            };
            self.by_name.insert(Arc::clone(&state.app.name), state);
        }
        other_scopes
    }

    pub(super) fn find(&self, name: &str) -> Option<&App> {
        self.by_name.get(name).map(|state| &state.app)
    }

    pub(super) fn frozen(&self, name: &str) -> Option<Cause> {
        self.by_name.get(name)?.frozen.map(|(cause, _)| cause)
    }

    pub(super) fn is_refused(&self, name: &str) -> bool {
        self.by_name.get(name).is_some_and(|state| state.refusals > 0)
    }

    pub(super) fn blocked_until(&self, name: &str) -> Option<Timestamp> {
        let state = self.by_name.get(name)?;
        state.next_try_at.filter(|_| state.refusals > 0).max(state.paused_until)
    }

    /// The provider wants no request of the app's before `until`. Answers true when that is news.
    pub(super) fn pause(&mut self, name: &str, until: Timestamp) -> bool {
        let Some(state) = self.by_name.get_mut(name) else { return false };
        let longest = state.paused_until.max(Some(until));
        let is_news = std::mem::replace(&mut state.paused_until, longest) != longest;
        if is_news {
            self.changed.insert(Arc::clone(&state.app.name));
        }
        is_news
    }

    /// Forgets the pauses that are over.
    pub(super) fn end_pauses(&mut self, now: Timestamp) {
        for state in self.by_name.values_mut() {
            state.paused_until = state.paused_until.filter(|until| *until > now);
        }
    }

    pub(super) fn has_room(&self, name: &str, in_flight_max: usize, now: Timestamp) -> bool {
        self.by_name.get(name).is_none_or(|state| {
            if state.paused_until.is_some_and(|until| until > now) {
                return false;
            }
            if state.refusals == 0 && state.question.limits_to_one() {
                return state.in_flight == 0;
            }
            if state.refusals == 0 {
                // Any of them may be refused before the first answer is there.
                let unproven_max = in_flight_max.min(REFUSED_MAX as usize);
                return state.in_flight < if state.proven { in_flight_max } else { unproven_max };
            }
            !state.asks()
                && state.in_flight == 0
                && state.next_try_at.is_none_or(|at| at.has_come(now))
        })
    }

    pub(super) fn began(&mut self, name: &str, id: &AccountId) {
        if let Some(state) = self.by_name.get_mut(name) {
            state.in_flight += 1;
            state.trial = (state.refusals > 0).then(|| id.clone());
        }
    }

    /// Whether an answer to `id` says that the provider accepts the app now. While it is refused, only the
    /// request that tries it does: others were sent before, and one that succeeded under the old secret
    /// would thaw the app for the next to freeze it.
    pub(super) fn is_proof(&self, name: &str, id: &AccountId) -> bool {
        self.by_name.get(name).is_some_and(|state| {
            state.refusals == 0 || state.trial.as_ref() == Some(id) || state.doubted
        })
    }

    /// True when it is left alone because its accounts fail together, whatever is said of the app itself.
    pub(super) fn is_doubted(&self, name: &str) -> bool {
        self.by_name.get(name).is_some_and(|state| state.doubted)
    }

    /// True when the token of `id` was to show whether the app goes on.
    pub(super) fn is_trial_of(&self, name: &str, id: &AccountId) -> bool {
        self.by_name.get(name).is_some_and(|state| state.trial.as_ref() == Some(id))
    }

    /// True while requests of the app are under way.
    pub(super) fn is_busy(&self, name: &str) -> bool {
        self.by_name.get(name).is_some_and(|state| state.in_flight > 0)
    }

    /// Its accounts fail together: it is frozen for `cause` at once.
    pub(super) fn doubt(
        &mut self,
        name: &str,
        cause: Cause,
        now: Timestamp,
        next_try_at: Timestamp,
    ) {
        self.refused_once(name, cause, now, next_try_at, 1);
        if let Some(state) = self.by_name.get_mut(name) {
            state.doubted = true;
        }
    }

    pub(super) fn ended(&mut self, name: &str) {
        if let Some(state) = self.by_name.get_mut(name) {
            state.in_flight = state.in_flight.saturating_sub(1);
        }
    }

    /// The provider refused the app. Answers true when that froze it.
    pub(super) fn refused_once(
        &mut self,
        name: &str,
        cause: Cause,
        now: Timestamp,
        next_try_at: Timestamp,
        refusals_max: u32,
    ) -> bool {
        let Some(state) = self.by_name.get_mut(name) else {
            return false;
        };
        state.refusals = state.refusals.saturating_add(1);
        state.trial = None;
        state.next_try_at = Some(next_try_at);
        state.unclaimed_until = None;
        state.changed_at = Some(now);
        self.changed.insert(Arc::clone(&state.app.name));
        let freezes = state.refusals >= refusals_max && state.frozen.is_none();
        if freezes {
            state.freeze(Some((cause, now)));
        }
        freezes
    }

    /// The app is refused for a reason of its own, while others work. Answers since when the provider was blamed,
    /// if it was; the app must be frozen anew then.
    pub(super) fn exonerate_provider(&mut self, name: &str) -> Option<Timestamp> {
        let frozen = &mut self.by_name.get_mut(name)?.frozen;
        frozen.take_if(|(cause, _)| *cause == Cause::ProviderOutage).map(|(_, since)| since)
    }

    /// The provider accepted the app. Answers since when it was frozen, if it was and nobody was told of the end.
    pub(super) fn accepted(&mut self, name: &str, now: Timestamp) -> Option<(Cause, Timestamp)> {
        let state = self.by_name.get_mut(name)?;
        if state.refusals == 0 {
            return state.unended.take();
        }
        state.changed_at = Some(now);
        self.changed.insert(Arc::clone(&state.app.name));
        let unended = state.unended.take();
        self.release(name).or(unended)
    }

    /// Nobody waits for the app. Answers like [`Apps::accepted`].
    pub(super) fn release(&mut self, name: &str) -> Option<(Cause, Timestamp)> {
        let state = self.by_name.get_mut(name)?;
        state.refusals = 0;
        state.next_try_at = None;
        state.unclaimed_until = None;
        state.doubted = false;
        state.frozen.take()
    }

    /// What was told of the app ends for us with the first request that the provider accepts.
    pub(super) fn leave_the_end(&mut self, name: &str, told: (Cause, Timestamp)) {
        if let Some(state) = self.by_name.get_mut(name) {
            state.unended = Some(told);
        }
    }

    /// Takes over what the last run or another replica knows of the apps, where that is newer. Answers of
    /// which the accounts must be looked at.
    pub(super) fn recall(&mut self, now: Timestamp, memories: &[AppMemory]) -> Vec<Arc<str>> {
        let is_start = !std::mem::replace(&mut self.is_recalled, true);
        let mut news = Vec::new();
        for memory in memories {
            if let Some(state) = self.by_name.get_mut(&memory.name)
                && state.recall(now, memory, is_start)
            {
                news.push(Arc::clone(&memory.name));
            }
        }
        news
    }

    /// What is to be written of apps since it was last asked.
    pub(super) fn take_changed(&mut self) -> Vec<AppMemory> {
        let changed = std::mem::take(&mut self.changed);
        let memory = |state: &State| AppMemory {
            name: Arc::clone(&state.app.name),
            paused_until: state.paused_until,
            refusals: state.refusals,
            next_try_at: state.next_try_at,
            frozen: state.frozen,
            doubted: state.doubted,
            changed_at: state.changed_at,
        };
        changed.iter().filter_map(|name| self.by_name.get(name)).map(memory).collect()
    }

    /// Notes that the provider accepts the app; true the first time since the start.
    pub(super) fn prove(&mut self, name: &str) -> bool {
        self.by_name.get_mut(name).is_some_and(|state| {
            state.question.begin_anew();
            !std::mem::replace(&mut state.proven, true)
        })
    }

    pub(super) fn refusals(&self, name: &str) -> u32 {
        self.by_name.get(name).map_or(0, |state| state.refusals)
    }

    /// Answers in a row that were not good.
    pub(super) fn in_vain(&self, name: &str) -> u16 {
        self.by_name.get(name).map_or(0, |state| state.question.in_vain())
    }

    /// Somebody's token was presented and the app refused. Answers when to ask about it, if that can be
    /// hoped to tell more than another token would.
    pub(super) fn note_real_refusal(&mut self, name: &str, now: Timestamp) -> Option<Timestamp> {
        let state = self.by_name.get_mut(name)?;
        let asked = state.asks();
        state.question.note_refusal();
        // At once for the first; those that were sent beside it change nothing.
        let due = if state.refusals == 0 { None } else { state.next_try_at };
        (asked && state.asks()).then(|| due.unwrap_or(now))
    }

    /// Somebody wants to know whether the provider accepts the app. False when nobody will be asked: it cannot be, or
    /// the last answer is young.
    pub(super) fn want_question(&mut self, name: &str, now: Timestamp) -> bool {
        self.by_name.get_mut(name).is_some_and(|state| {
            state.question.want(now);
            state.question.under_way || state.is_wanted()
        })
    }

    /// The apps to be asked about now.
    pub(super) fn begin_questions(&mut self, now: Timestamp) -> Vec<Arc<str>> {
        let due = self.by_name.values_mut().filter(|state| state.is_to_be_asked(now));
        due.map(|state| {
            state.question.begin(now);
            Arc::clone(&state.app.name)
        })
        .collect()
    }

    /// False when nobody asked, as of an app that was taken out of the configuration meanwhile.
    pub(super) fn end_question(&mut self, name: &str, now: Timestamp, asked: &Asked) -> bool {
        self.by_name.get_mut(name).is_some_and(|state| {
            let was_refused = state.refusals > 0;
            state.question.end(now, asked, was_refused);
            true
        })
    }

    /// Not to be asked about, nor tried, before `at`.
    pub(super) fn ask_at(&mut self, name: &str, at: Timestamp) {
        if let Some(state) = self.by_name.get_mut(name).filter(|state| state.refusals > 0) {
            state.next_try_at = Some(at);
        }
    }

    pub(super) fn try_at_once(&mut self, name: &str, now: Timestamp) {
        if let Some(state) = self.by_name.get_mut(name).filter(|state| state.refusals > 0) {
            state.next_try_at = Some(now);
            state.unclaimed_until = None;
            state.question.begin_anew();
        }
    }

    /// Nobody is there to take up the next try before `until`.
    pub(super) fn leave_unclaimed(&mut self, name: &str, until: Timestamp) {
        if let Some(state) = self.by_name.get_mut(name) {
            state.unclaimed_until = Some(until);
        }
    }

    /// When the next app that is refused, or was asked to wait, may be tried.
    pub(super) fn next_try(&self) -> Option<Timestamp> {
        let idle = self.by_name.values().filter(|state| state.refusals > 0 && state.in_flight == 0);
        let paused = self.by_name.values().filter_map(|state| state.paused_until);
        let next = |state: &State| match state.asks() {
            true if state.question.under_way => None,
            true => state.question.at(state.next_try_at),
            false => state.next_try_at.max(state.unclaimed_until),
        };
        let wanted = self.by_name.values().filter(|state| state.is_wanted());
        let wanted = wanted.filter_map(|state| state.question.at(None));
        idle.filter_map(next).chain(wanted).chain(paused).min()
    }

    /// The refused apps that may be tried now.
    pub(super) fn to_be_tried(&self, now: Timestamp) -> Vec<Arc<str>> {
        self.by_name
            .values()
            .filter(|state| state.refusals > 0 && state.in_flight == 0 && !state.asks())
            .filter(|state| {
                let at = state.next_try_at.max(state.unclaimed_until);
                at.is_none_or(|at| at.has_come(now))
            })
            .map(|state| Arc::clone(&state.app.name))
            .collect()
    }

    pub(super) fn refused(&self) -> impl Iterator<Item = Arc<str>> + '_ {
        self.by_name
            .values()
            .filter(|state| state.refusals > 0)
            .map(|state| Arc::clone(&state.app.name))
    }

    pub(super) fn views(&self) -> Vec<AppView> {
        let view = |state: &State| AppView {
            name: Arc::clone(&state.app.name),
            provider: Arc::clone(&state.app.provider),
            scopes: Arc::clone(&state.app.scopes),
            is_sandbox: state.app.is_sandbox,
            frozen: state.frozen,
            refusals: state.refusals,
            asked: state.question.answer,
            ..AppView::default()
        };
        self.by_name.values().map(view).collect()
    }
}

impl State {
    /// True when it is asked about, while it is refused, instead of tried with somebody's token.
    const fn asks(&self) -> bool {
        // A token that is nobody's tells nothing about why those of somebody are refused.
        self.app.can_be_asked && self.question.is_worth_asking() && !self.doubted
    }

    /// True when it is to be asked about although it is not refused.
    const fn is_wanted(&self) -> bool {
        self.app.can_be_asked && self.refusals == 0 && self.question.is_wanted()
    }

    fn is_to_be_asked(&self, now: Timestamp) -> bool {
        let has_come = |at: Option<Timestamp>| at.is_none_or(|at| at.has_come(now));
        if !has_come(self.paused_until) || self.question.under_way {
            return false;
        }
        // What was sent before must have been answered, or a late refusal would be taken for a new one.
        let is_due = self.refusals > 0 && self.asks() && self.in_flight == 0;
        let due = self.question.at(self.next_try_at);
        (is_due && has_come(due)) || (self.is_wanted() && has_come(self.question.at(None)))
    }

    fn freeze(&mut self, frozen: Option<(Cause, Timestamp)>) {
        self.frozen = frozen;
        // The end of this one is the end of that one.
        self.unended.take_if(|(cause, _)| frozen.is_some_and(|(now, _)| now == *cause));
    }

    /// True when that is news.
    fn recall(&mut self, now: Timestamp, memory: &AppMemory, is_start: bool) -> bool {
        let paused_until = self.paused_until.max(memory.paused_until.filter(|until| *until > now));
        let waits = std::mem::replace(&mut self.paused_until, paused_until) != paused_until;
        if memory.changed_at <= self.changed_at {
            return waits;
        }
        self.changed_at = memory.changed_at;
        self.unclaimed_until = None;
        self.question.heard_of_another();
        if memory.refusals > 0 {
            self.refusals = memory.refusals;
            // Who was refused again may not know yet that we had told somebody.
            self.freeze(memory.frozen.or(self.frozen));
            self.doubted = memory.doubted;
            self.trial = None;
            // Whoever starts the program anew may have mended the app, and wants to see it.
            self.next_try_at = memory.next_try_at.filter(|_| !is_start);
        } else if self.refusals > 0 && self.asks() {
            // Another replica asked and heard that it is accepted. One of them is let ask, so to wait for an
            // answer of our own might be to wait for ever.
            self.refusals = 0;
            self.frozen = None;
            self.doubted = false;
            self.next_try_at = None;
            self.question.rely_on_another();
        } else {
            // Another replica was accepted: so may we be.
            self.next_try_at = None;
            self.doubted = false;
        }
        true
    }
}

/// So many requests at most are refused because of the app before it is left alone: each presents a token,
/// and providers count.
pub(super) const REFUSED_MAX: u16 = 5;
