//! All accounts, what is under way, and what is owed: told what happened, it answers what to do.
//!
//! Three verbs: [`Fleet::handle`] an input, [`Fleet::next_effect`] until there is none,
//! [`Fleet::next_wakeup`] to know when to come back. Everything that can wake the program is an
//! [`Input`]; everything it can do is an [`Effect`]. What to do about an account is decided in
//! [`super::decide`]; this file dispatches.

mod announced;
mod apps;
mod away;
mod connecting;
mod ends;
mod gating;
mod holding;
mod interface;
mod notes;
mod outcomes;
mod passes;
mod questions;
mod ready;
mod saving;
mod setback;
mod shared;
mod telling;
mod together;

pub use interface::{Asked, Blocked, Checked, Effect, Finished, Input, Reopened, Seen};

use super::{
    Account, AccountId, AppMemory, AppView, Busy, Cause, Event, Evidence, Farewell, Memory,
    Snapshot, Table, Timestamp, TokenFacts,
    correlate::Correlation,
    decide::{self, Action, App, Decision},
    diagnose::cause_of,
    schedule::{self, Policy},
};
use apps::Apps;
use away::Away;
use holding::Holding;
use notes::Notes;
use ready::{Ready, Urgency};
use saving::Saves;
use shared::Shared;
use std::{
    collections::{BTreeMap, BTreeSet, VecDeque},
    sync::Arc,
    time::Duration,
};
use telling::Standing;

/// The one owner of everything that is known about accounts.
#[derive(Debug)]
pub struct Fleet {
    /// The settings in force; replaced whole by [`Input::Configured`].
    policy: Policy,
    /// Which accounts are ours to look after.
    holding: Holding,
    /// Every account of ours; the only place where one is changed.
    table: Table,
    /// Every app and whether the provider refuses it.
    apps: Apps,
    /// Accounts for which there is something to do as soon as there is room.
    ready: Ready,
    /// Whose trouble the failures of each app look like.
    correlation: Correlation,
    /// What is under way, with the app it counts against. Ends with `Finished`, `Probed` or `Proven`.
    flying: BTreeMap<AccountId, Arc<str>>,
    /// What was remembered of accounts that have not been seen since they became ours.
    recalled: BTreeMap<AccountId, Memory>,
    /// Attempts of others or of the last run whose accounts have not been seen since they became ours.
    reopened: BTreeMap<AccountId, Reopened>,
    /// Tokens that a pass over the store found while something was under way for their accounts. The store
    /// says once that it changed, so what it said then must not be lost.
    passed_over: BTreeMap<AccountId, Option<TokenFacts>>,
    /// What was announced about accounts for which something is under way, or whose newest token nobody knows.
    announced: BTreeMap<AccountId, Arc<Evidence>>,
    /// Those of `recalled` whose rows the pass that is running could not read: they have not left.
    unreadable: BTreeSet<AccountId>,
    /// Accounts whose memory must be written.
    changed: BTreeSet<AccountId>,
    /// Gates of accounts that the store does not have at present.
    away: Away,
    /// Accounts whose memory must be removed.
    forgotten: Vec<Farewell>,
    /// Memories that must be written of accounts that are not ours any more.
    parting: Vec<Memory>,
    /// What is kept for people.
    notes: Notes,
    /// What is to be done by the shells, in order.
    effects: VecDeque<Effect>,
    /// The number of the pass over the store that is running, or ran last.
    load: u32,
    /// When a pass was last completed.
    store_read_at: Option<Timestamp>,
    /// How store, state and clock stand, and who was told.
    store: Standing,
    /// Our own state.
    state: Standing,
    /// The machine's clock.
    wall_clock: Standing,
    /// When the operator was last told that owners cannot connect accounts of an app, and of what.
    unconnectable: BTreeMap<(Arc<str>, Cause), Timestamp>,
    /// When something was last handled.
    handled_at: Option<Timestamp>,
    /// When something was first handled.
    began_at: Option<Timestamp>,
    /// Seconds by which each provider's clock is ahead of ours.
    clock_offsets: BTreeMap<Arc<str>, i64>,
    /// Accounts whose newest token the store has not taken.
    unsaved: usize,
    /// Which accounts hold one credential.
    shared: Shared,
    /// Whether the store takes tokens.
    saves: Saves,
    /// True once the program is about to end.
    stopping: bool,
}

impl Fleet {
    /// A fleet without accounts or apps, which holds no share.
    #[must_use]
    pub fn new(policy: Policy) -> Self {
        Self {
            policy,
            holding: Holding::default(),
            table: Table::default(),
            apps: Apps::default(),
            correlation: Correlation::default(),
            ready: Ready::default(),
            flying: BTreeMap::new(),
            recalled: BTreeMap::new(),
            reopened: BTreeMap::new(),
            passed_over: BTreeMap::new(),
            announced: BTreeMap::new(),
            unreadable: BTreeSet::new(),
            changed: BTreeSet::new(),
            away: Away::default(),
            forgotten: Vec::new(),
            parting: Vec::new(),
            notes: Notes::default(),
            effects: VecDeque::new(),
            load: 0,
            store_read_at: None,
            store: Standing::default(),
            state: Standing::default(),
            wall_clock: Standing::default(),
            unconnectable: BTreeMap::new(),
            handled_at: None,
            began_at: None,
            clock_offsets: BTreeMap::new(),
            unsaved: 0,
            shared: Shared::default(),
            saves: Saves::default(),
            stopping: false,
        }
    }

    /// Takes note of something that happened and works out what follows from it.
    pub fn handle(&mut self, now: Timestamp, input: Input) {
        self.note_time(now);
        self.heed_setback(now);
        self.began_at.get_or_insert(now);
        match input {
            Input::Woke => {}
            Input::Configured { policy, apps } => self.configure(now, policy, apps),
            Input::Recalled(memories) => self.take_memories(memories),
            Input::Recounted(histories) => self.notes.recount(histories),
            Input::Reopened(entries) => {
                self.reopened.extend(entries.into_iter().map(|one| (one.id.clone(), one)));
            }
            Input::AppsRecalled(memories) => self.recall_apps(now, memories),
            Input::Holding { shares, until } => self.hold(now, shares, until),
            Input::LoadBegan => {
                self.load = self.load.wrapping_add(1);
                self.holding.begin_pass();
                self.unreadable.clear();
            }
            Input::Unreadable(ids) => self.note_unreadable(&ids),
            Input::Seen(seen) => seen.into_iter().for_each(|seen| self.see(now, seen)),
            Input::LoadEnded { damaged } => self.end_load(now, damaged),
            Input::Store { up } => self.note_store(now, up),
            Input::State { up } => self.note_state(now, up),
            Input::Finished { id, result } => self.finish(now, &id, result),
            Input::Requested(ids) => self.count_requests(&ids),
            Input::AppAsked { app, asked } => self.note_answer(now, &app, asked),
            Input::Probed { id, checked } => self.note_check(now, &id, checked),
            Input::Responded { id, status, times } => self.note_response(now, &id, status, times),
            Input::Said { id, evidence } => self.note_said(now, &id, evidence),
            Input::Announced { id, evidence } => self.note_announced(now, &id, evidence),
            Input::Proven { id, checked } => self.note_proven(now, &id, checked),
            Input::Told { id, order, position } => self.follow(now, &id, order, position),
            Input::Wondered { id } => self.note_wonder(now, &id),
            Input::Asked { id } => self.note_question(now, &id),
            Input::ConnectRefused { app, evidence } => {
                self.note_connect_refused(now, &app, evidence);
            }
            Input::ConnectWorked { id, app } => self.note_connect_worked(now, &id, &app),
            Input::CredentialsChanged { app } => {
                self.apps.try_at_once(&app, now);
                self.look_at_app(now, &app);
            }
            Input::ClockOffset { provider, seconds } => {
                self.clock_offsets.insert(provider, seconds);
            }
            Input::ClockStep { seconds } => self.note_clock_step(now, seconds),
            Input::Stopping => {
                self.stopping = true;
                self.ready.clear();
                // What waited for room to be saved waits on.
                self.save_on(now);
            }
        }
        self.apps.end_pauses(now);
        self.look_at_due(now);
        self.ask_about_apps(now);
        self.release_unwaited(now);
        self.dispatch(now);
        self.tell_standing(now);
    }

    /// The next thing to do; ask until there is none.
    pub fn next_effect(&mut self) -> Option<Effect> {
        self.effects.pop_front()
    }

    /// When to call [`Fleet::handle`] with [`Input::Woke`] if nothing happens before.
    #[must_use]
    pub fn next_wakeup(&self) -> Option<Timestamp> {
        // While nothing may begin, the end of what stands in the way is an input, and no app's next try
        // is worth waking for.
        let has_room = self.may_try_apps()
            && self.store.is_well()
            && self.state.is_well()
            && self.flying.len() < self.policy.in_flight_max;
        let app = has_room.then(|| self.apps.next_try()).flatten();
        let standing = [&self.store, &self.state, &self.wall_clock];
        let telling = standing.into_iter().filter_map(|standing| standing.tell_at());
        let holding = self.holding.ends_at();
        self.table.next_recheck().into_iter().chain(app).chain(telling).chain(holding).min()
    }

    /// What must be written to memory, and whose memory must be removed, since the last call.
    pub fn take_changed(&mut self) -> (Vec<Memory>, Vec<Farewell>) {
        let changed = std::mem::take(&mut self.changed);
        let mut memories = std::mem::take(&mut self.parting);
        memories.extend(changed.iter().filter_map(|id| self.table.find(id)).map(Account::memory));
        (memories, std::mem::take(&mut self.forgotten))
    }

    /// What must be written of apps since the last call.
    pub fn take_changed_apps(&mut self) -> Vec<AppMemory> {
        self.apps.take_changed()
    }

    /// One moment of the whole fleet, for everybody else.
    #[must_use]
    pub fn snapshot(&self, now: Timestamp) -> Snapshot {
        Snapshot {
            at: now,
            began_at: self.began_at.unwrap_or(now),
            loaded: self.store_read_at.is_some(),
            holding: self.holding.shares(),
            holding_until: self.holding.ends_at(),
            busy: self.busy_shares(),
            accounts: self.held_accounts(),
            apps: self.app_views(now),
            store_up: self.store.is_well(),
            state_up: self.state.is_well(),
            store_read_at: self.store_read_at,
            in_flight: self.flying.len(),
            sharing: self.shared.accounts(),
            unsaved: self.unsaved,
            clock_offsets: self
                .clock_offsets
                .iter()
                .map(|(name, by)| (Arc::clone(name), *by))
                .collect(),
        }
    }

    fn app_views(&self, now: Timestamp) -> Vec<AppView> {
        let mut views = self.apps.views();
        for view in &mut views {
            view.suspect = self.correlation.suspect(now, &view.name);
        }
        views
    }

    /// True while something is under way or a token waits to be saved: the program must not end.
    #[must_use]
    pub fn owes_work(&self) -> bool {
        !self.flying.is_empty() || self.unsaved > 0
    }

    /// The apps that are refused now: their secrets are worth looking at.
    pub fn refused_apps(&self) -> impl Iterator<Item = Arc<str>> + '_ {
        self.apps.refused()
    }

    fn configure(&mut self, now: Timestamp, policy: Policy, apps: Vec<App>) {
        self.policy = policy;
        let other_scopes = self.apps.replace(apps);
        self.correlation.retain(|app| self.apps.find(app).is_some());
        self.forget_unconnectable();
        if !other_scopes.is_empty() {
            self.forget_missing_scopes(&other_scopes);
        }
        // Every due instant may have moved.
        self.look_at_all(now, |_| true);
    }

    /// Looks at every account whose time has come.
    fn look_at_due(&mut self, now: Timestamp) {
        loop {
            let due: Vec<AccountId> = self
                .table
                .due(now)
                .take(LOOK_AT_ONCE_MAX)
                .map(|account| account.id.clone())
                .collect();
            if due.is_empty() {
                return;
            }
            // Each look moves `recheck_at` into the future or away, so this comes to an end.
            due.iter().for_each(|id| self.look_at(now, id));
        }
    }

    fn look_at_all(&mut self, now: Timestamp, which: impl Fn(&Account) -> bool) {
        let ids: Vec<AccountId> = self
            .table
            .iter()
            .filter(|account| which(account))
            .map(|account| account.id.clone())
            .collect();
        ids.iter().for_each(|id| self.look_at(now, id));
    }

    fn look_at_app(&mut self, now: Timestamp, app: &Arc<str>) {
        self.look_at_all(now, |account| account.app == *app);
    }

    /// Decides about one account and writes down what follows: when to look again, what is wrong, who
    /// must hear of it, and whether it waits for room.
    fn look_at(&mut self, now: Timestamp, id: &AccountId) {
        self.count_as_seen(now, id);
        let Some((decision, urgency)) = self.decide(now, id) else {
            // Its app was taken out of the configuration. A pass over the store sees to it; until then
            // its time must not come again and again.
            self.table.change(id, |account| account.recheck_at = None);
            return;
        };
        let works = !matches!(decision.action, Action::Wait | Action::AskHuman(_));
        if works && self.may_begin(id, decision.action) {
            self.ready.put(id, urgency);
        }
        if !self.is_over() {
            self.note_cause(now, id, &decision);
            let is_to_be_asked = self.note_gate(now, id);
            // While something is under way, its end is the news. After the gate: of the end of trouble people hear
            // when it is open.
            if decision.reason != decide::Reason::UnderWay {
                if self.tell_about(now, id) {
                    // What was only kept to be told is not needed any more.
                    self.note_gate(now, id);
                }
                self.look_again_to_tell(now, id);
            }
            if is_to_be_asked {
                // Once: the gate has just moved to where this is asked.
                self.look_at(now, id);
            }
        }
    }

    fn decide(&mut self, now: Timestamp, id: &AccountId) -> Option<(Decision, Urgency)> {
        let account = self.table.find(id)?;
        let app = self.apps.find(&account.app)?;
        let blocked = self.apps.blocked_until(&account.app);
        let decision = decide::decide(now, account, app, blocked, &self.policy);
        debug_assert!(
            decision.recheck_at.is_none_or(|at| at > now),
            "{id}: {decision:?} at {now:?}"
        );
        let danger = account.token.and_then(|token| schedule::danger_from(&token, &self.policy));
        // Trouble that may yet mend itself becomes somebody's mail at that instant, not at the next try.
        let tell_at = danger.filter(|at| account.failed_in_a_row > 0 && *at > now);
        let renewable = account.token.filter(|token| token.renewable_by.is_some());
        let due_at = renewable.map(|token| schedule::due(id, &token, app.min_age, &self.policy));
        let refresh_end = ends::end_of(account, app);
        let word_at = self.next_word(now, account, app, refresh_end);
        let urgency = Urgency {
            app: Arc::clone(&account.app),
            saves: decision.action == Action::Save,
            ends_at: account.token.and_then(|token| token.expires_at),
        };
        self.table.change(id, |account| {
            account.due_at = due_at;
            account.refresh_end = refresh_end;
            account.recheck_at = match decision.action {
                Action::Wait | Action::AskHuman(_) => {
                    // Never now or before: that would be asked again and again for ever.
                    let at = decision.recheck_at.map(|at| tell_at.map_or(at, |tell| tell.min(at)));
                    at.into_iter()
                        .chain(word_at)
                        .min()
                        .map(|at| at.max(now.plus(Duration::from_secs(1))))
                }
                // It stands in the queue from now on.
                Action::Refresh | Action::Settle | Action::Save | Action::Probe | Action::Prove => {
                    None
                }
            };
            if decision.reason == decide::Reason::AlreadyAnswered {
                account.questioned_at = None;
            }
        });
        Some((decision, urgency))
    }

    /// An app that nobody waits for when it may be tried again is nobody's trouble: the next account that
    /// is due finds out. Otherwise an app with tokens of sixty days could stay frozen for weeks after the
    /// one account that was refused has left.
    fn release_unwaited(&mut self, now: Timestamp) {
        if !self.may_try_apps() {
            return;
        }
        for app in self.apps.to_be_tried(now) {
            if self.ready.holds_any(&app) {
                continue;
            }
            if self.apps.is_doubted(&app) {
                // Nothing was said that time alone could make untrue: the next account that is due tells.
                self.apps.leave_unclaimed(&app, now.plus(self.policy.backoff_max));
                continue;
            }
            if let Some(until) = self.first_pause_of(now, &app) {
                // Released between two tries of one account, it would be counted from the beginning again
                // and again, and never be frozen.
                self.apps.leave_unclaimed(&app, until);
                continue;
            }
            if let Some((cause, since)) = self.apps.release(&app) {
                self.report(Event::AppThawed { app: Arc::clone(&app) });
                if self.holding.has_seen_all() {
                    self.tell_app_is_well(now, &app, cause, since);
                } else {
                    // Accounts of another replica may wait for it, and the incident is theirs too.
                    self.apps.leave_the_end(&app, (cause, since));
                }
            }
            self.look_at_app(now, &app);
        }
    }

    /// False while no account can be waiting for its app: nothing is known yet, or nothing may begin.
    fn may_try_apps(&self) -> bool {
        self.store_read_at.is_some() && !self.stopping && !self.is_over()
    }

    /// When the first account of an app that waits for something of its own may go on. Looked at again from
    /// time to time, since it may leave meanwhile.
    fn first_pause_of(&self, now: Timestamp, app: &Arc<str>) -> Option<Timestamp> {
        let latest = now.plus(self.policy.backoff_max);
        self.table
            .iter()
            .filter(|account| account.app == *app)
            .filter(|account| !account.cause.is_some_and(Cause::needs_reconnect))
            .filter_map(|account| account.not_before.filter(|at| *at > now))
            .min()
            .map(|at| at.min(latest))
    }

    /// Starts what is ready, the earliest end first, as long as there is room.
    fn dispatch(&mut self, now: Timestamp) {
        while self.flying.len() < self.policy.in_flight_max {
            let per_app = self.policy.in_flight_per_app_max;
            // Nothing is spent while there is nowhere to put what comes back.
            let only_saves = !self.may_spend(now);
            let next = self.ready.take(
                only_saves,
                |app| self.apps.has_room(app, per_app, now),
                |app| self.apps.is_doubted(app),
            );
            let Some(id) = next else {
                return;
            };
            // What was true when it was put there may have changed.
            let Some((decision, urgency)) = self.decide(now, &id) else {
                continue;
            };
            match self.effect_of(now, &id, &decision) {
                Some((busy, effect)) if self.may_begin(&id, decision.action) => {
                    self.start(&id, &urgency.app, busy, effect);
                }
                None if !self.is_over() => self.note_cause(now, &id, &decision),
                _ => {}
            }
        }
    }

    /// True when this may be begun for an account: everything for one of ours until the program is about to
    /// end, and saving the token that was received in any case.
    fn may_begin(&self, id: &AccountId, action: Action) -> bool {
        let saves = action == Action::Save;
        match self.holds(id) {
            true => saves || !self.stopping,
            false => saves && self.table.find(id).is_some_and(|account| account.unsaved),
        }
    }

    fn effect_of(
        &self,
        now: Timestamp,
        id: &AccountId,
        decision: &Decision,
    ) -> Option<(Busy, Effect)> {
        let id = id.clone();
        match decision.action {
            Action::Wait | Action::AskHuman(_) => None,
            Action::Refresh => {
                let expected = self.table.find(&id)?.token?.token;
                let why = decision.reason.as_label();
                Some((Busy::Refreshing, Effect::Refresh { id, expected, why }))
            }
            Action::Settle => {
                let token = self.table.find(&id)?.token?;
                let danger = schedule::danger_from(&token, &self.policy);
                let may_wait = danger.is_some_and(|from| from > now);
                Some((Busy::Refreshing, Effect::Settle { id, may_wait }))
            }
            Action::Save => Some((Busy::Saving, Effect::Save { id })),
            Action::Probe => Some((Busy::Probing, Effect::Probe { id })),
            Action::Prove => Some((Busy::Proving, Effect::Prove { id })),
        }
    }

    fn start(&mut self, id: &AccountId, app: &Arc<str>, busy: Busy, effect: Effect) {
        assert!(!self.flying.contains_key(id), "{id}: one thing at a time");
        self.table.change(id, |account| account.busy = busy);
        self.apps.began(app, id);
        self.flying.insert(id.clone(), Arc::clone(app));
        self.effects.push_back(effect);
    }

    /// What was under way for `id` has come back.
    fn land(&mut self, id: &AccountId) -> Busy {
        if let Some(app) = self.flying.remove(id) {
            self.apps.ended(&app);
        }
        self.table.change(id, |account| std::mem::take(&mut account.busy)).unwrap_or_default()
    }

    fn note_cause(&mut self, now: Timestamp, id: &AccountId, decision: &Decision) {
        let Some(account) = self.table.find(id) else {
            return;
        };
        let to = cause_of(now, account, decision, self.apps.frozen(&account.app))
            .or_else(|| self.is_announced(now, account).then_some(Cause::NotRenewable));
        let from = account.cause;
        if from != to {
            self.table.change(id, |account| {
                account.cause = to;
                account.cause_since = to.map(|_| now);
            });
            self.changed.insert(id.clone());
            self.report(Event::CauseChanged { id: id.clone(), from, to });
        }
    }

    fn report(&mut self, event: Event) {
        self.note_recent(&event);
        self.effects.push_back(Effect::Report(event));
    }
}

/// Accounts whose ids are copied at a time while looking at what is due.
const LOOK_AT_ONCE_MAX: usize = 1_024;

/// How long store, state or clock may be in trouble before the operator is told.
const TELL_STANDING_AFTER: Duration = Duration::from_secs(60);

#[cfg(test)]
mod tests;
