//! Who is told of what, once.

use super::{Effect, Fleet, TELL_STANDING_AFTER, ends};
use crate::core::{
    AccountId, Cause, Event, Evidence, Gate, Timestamp,
    cause::Actor,
    diagnose::{self, Step, Tally},
    gate::{self, Objection},
    notices::{self, Audience, Change, Notice, Subject},
    schedule,
};
use std::sync::Arc;

/// How something that all accounts share stands.
#[derive(Debug, Default)]
pub(super) struct Standing {
    /// Since when it is in trouble.
    since: Option<Timestamp>,
    /// Whether the operator was told.
    told: bool,
    /// Whether it was well at least once since the start.
    proven: bool,
}

impl Standing {
    pub(super) const fn is_well(&self) -> bool {
        self.since.is_none()
    }

    /// When the operator must be told, if they were not.
    pub(super) fn tell_at(&self) -> Option<Timestamp> {
        self.since.filter(|_| !self.told).map(|since| since.plus(TELL_STANDING_AFTER))
    }

    /// Takes note; answers true when that is news.
    fn note(&mut self, now: Timestamp, well: bool) -> bool {
        let news = well != self.is_well();
        if !well && news {
            self.since = Some(now);
        }
        news
    }

    /// Ends the trouble; answers since when there was some that was told of. The first time, an incident
    /// that the last run left open is ended too.
    fn end(&mut self, now: Timestamp) -> Option<Timestamp> {
        let since = self.since.take();
        let first = !std::mem::replace(&mut self.proven, true);
        let told = std::mem::take(&mut self.told);
        (told || first).then(|| since.unwrap_or(now))
    }
}

impl Fleet {
    /// Tells whoever must hear of this account's trouble, if that changed; true when it did.
    pub(super) fn tell_about(&mut self, now: Timestamp, id: &AccountId) -> bool {
        let Some(account) = self.table.find(id) else {
            return false;
        };
        // That publishing is refused is somebody's trouble when nothing else is.
        let objection = account.door.objected().filter(|_| account.cause.is_none());
        let (told, cause) =
            (account.told, account.cause.or_else(|| objection.map(|one| one.cause)));
        if told == cause && self.is_reminder_due(now, account) {
            self.remind(now, id);
            return false;
        }
        // Expiry is followed by a refresh; what becomes of that is the news.
        if told == cause
            || (objection.is_none() && gate::is_nearly_over(now, account))
            || self.stands_beside(now, account)
            || cause == Some(Cause::AccessTokenExpired)
        {
            return false;
        }
        let token = account.token;
        let in_danger = token
            .and_then(|token| schedule::danger_from(&token, &self.policy))
            .is_some_and(|at| at.has_come(now));
        // Trouble that may mend itself gets its one retry before anybody hears of it.
        let too_early = account.cause.is_some_and(mends_itself) && account.failed_in_a_row < 2;
        // What the last run left in the journal is saved before it is worth a word.
        let untried = cause == Some(Cause::UnsavedToken) && account.failed_in_a_row == 0;
        // Its app's own notice speaks for it, whatever the app is frozen for.
        let is_shared = cause.is_some() && self.apps.frozen(&account.app) == cause;
        let waits = too_early || untried || is_shared || self.is_withheld(now, account);
        let audience = match objection {
            Some(Objection { is_owners: true, .. }) => Some(Audience::Owner),
            Some(_) => Some(Audience::Operator),
            None => notices::audience(account, in_danger),
        };
        let audience = audience.filter(|_| !waits);
        if told.is_some_and(mends_itself) && cause.is_some_and(mends_itself) {
            // Rate limit or outage: for the reader it is the same trouble.
            return false;
        }
        if told.is_some_and(Cause::needs_reconnect) && cause == Some(Cause::ConsentRevoked) {
            // It has a better name now; who must reconnect it knows that already.
            return false;
        }
        let since = objection.map(|one| one.since).or(account.cause_since).unwrap_or(now);
        let evidence = match objection {
            Some(_) => account.history.as_ref().and_then(|history| history.last_objection()),
            None => account.last_failure.clone(),
        };
        // Whoever was told that publishing is refused hears of its end, too.
        let told_of = account.door.objection.filter(|one| one.is_news() && told == Some(one.cause));
        let announced = self.announced(account).filter(|_| cause == Some(Cause::NotRenewable));
        let gate = account.door.gate;
        let notice = |cause: Cause, change, audience, since| Notice {
            subject: Subject::Account(id.clone()),
            cause,
            change,
            audience,
            since,
            at: now,
            expires_at: token.and_then(|token| token.expires_at),
            evidence: evidence.clone(),
            step: None,
            missing_scopes: Vec::new(),
            accounts: 1,
            posts_at_risk: None,
            gate,
        };
        let mut owed = Vec::new();
        if let Some(told) = told {
            let began = account.told_since.unwrap_or(since);
            // Of an end that was announced and has come nobody hears that all is well.
            let came = told == Cause::NotRenewable && cause.is_some_and(Cause::needs_reconnect);
            let change = if came { Change::Withdrawn } else { Change::Resolved };
            let mut over = notice(told, change, audience_of(told), began);
            if let Some(one) = told_of {
                (over.audience, over.step) = match one.is_owners {
                    true => (Audience::Owner, Some(Step::Appeal)),
                    false => (Audience::Operator, Some(Step::MendPublishing)),
                };
            }
            owed.push(over);
        }
        let mut now_told = None;
        if let (Some(cause), Some(audience)) = (cause, audience) {
            let mut firing = notice(cause, Change::Firing, audience, since);
            firing.missing_scopes = self.names_of_missing(id);
            firing.step = self.step_for(now, id, audience);
            if let Some(announced) = announced {
                ends::word(&mut firing, &announced);
            }
            owed.push(firing);
            now_told = Some(cause);
        }
        if owed.is_empty() {
            return false;
        }
        self.table.change(id, |account| {
            account.told = now_told;
            account.told_since = now_told.map(|_| since);
        });
        self.changed.insert(id.clone());
        self.effects.extend(owed.into_iter().map(Effect::Notify));
        true
    }

    /// What the diagnosis would have its reader do; `None` where that is somebody else's to do. At most one pass over
    /// the accounts for each notice.
    pub(super) fn step_for(
        &self,
        now: Timestamp,
        id: &AccountId,
        audience: Audience,
    ) -> Option<Step> {
        let snapshot = self.snapshot(now);
        let account = snapshot.accounts.find(id)?;
        let step = diagnose::diagnose(&Tally::of(&snapshot).case(&snapshot, account, now)).step;
        let acts = match step.actor() {
            Actor::Owner => audience == Audience::Owner,
            Actor::Operator => audience == Audience::Operator,
            Actor::Nobody => false,
        };
        acts.then_some(step)
    }

    pub(super) fn tell_of_app(
        &mut self,
        now: Timestamp,
        app: &Arc<str>,
        cause: Cause,
        since: Timestamp,
        evidence: Option<Arc<Evidence>>,
    ) {
        let accounts = self.table.iter().filter(|account| account.app == *app).count();
        let subject = Subject::App(Arc::clone(app));
        let mut notice = shared(subject, cause, Change::Firing, since, now);
        notice.accounts = accounts;
        notice.evidence = evidence;
        self.effects.push_back(Effect::Notify(notice));
    }

    pub(super) fn tell_app_is_well(
        &mut self,
        now: Timestamp,
        app: &Arc<str>,
        cause: Cause,
        since: Timestamp,
    ) {
        let subject = Subject::App(Arc::clone(app));
        let notice = shared(subject, cause, Change::Resolved, since, now);
        self.effects.push_back(Effect::Notify(notice));
    }

    pub(super) fn note_store(&mut self, now: Timestamp, up: bool) {
        self.saves.answered(up);
        // A store that answers and takes no token is not up: each refresh would leave one more unsaved.
        let up = up && self.store_takes();
        if self.store.note(now, up) {
            self.report(Event::StoreUp { up });
        }
        if up && let Some(since) = self.store.end(now) {
            let notice =
                shared(Subject::Store, Cause::StoreUnreachable, Change::Resolved, since, now);
            self.effects.push_back(Effect::Notify(notice));
        }
    }

    /// Trouble with our own state is counted and logged; a notice about it would need it.
    pub(super) fn note_state(&mut self, now: Timestamp, up: bool) {
        if self.state.note(now, up) {
            self.report(Event::StateUp { up });
        }
        if up {
            self.state.end(now);
        } else {
            self.state.told = true;
        }
    }

    pub(super) fn note_clock_step(&mut self, now: Timestamp, seconds: i64) {
        if self.wall_clock.note(now, seconds == 0) {
            self.report(Event::ClockStepped { seconds });
        }
        if seconds == 0
            && let Some(since) = self.wall_clock.end(now)
        {
            let notice = shared(Subject::Host, Cause::ClockDrift, Change::Resolved, since, now);
            self.effects.push_back(Effect::Notify(notice));
        }
    }

    /// Tells the operator of shared trouble that has lasted.
    pub(super) fn tell_standing(&mut self, now: Timestamp) {
        let standings = [
            (&mut self.store, Subject::Store, Cause::StoreUnreachable),
            (&mut self.wall_clock, Subject::Host, Cause::ClockDrift),
        ];
        for (standing, subject, cause) in standings {
            if !standing.tell_at().is_some_and(|at| at.has_come(now)) {
                continue;
            }
            standing.told = true;
            let since = standing.since.unwrap_or(now);
            self.effects.push_back(Effect::Notify(shared(
                subject,
                cause,
                Change::Firing,
                since,
                now,
            )));
        }
    }

    pub(super) fn names_of_missing(&self, id: &AccountId) -> Vec<Arc<str>> {
        let Some(account) = self.table.find(id) else {
            return Vec::new();
        };
        let missing = account.token.map_or(0, |token| token.missing_scopes);
        let scopes = self.apps.find(&account.app).map(|app| Arc::clone(&app.scopes));
        scopes
            .iter()
            .flat_map(|scopes| scopes.iter())
            .enumerate()
            .filter(|(bit, _)| *bit < 32 && missing & (1 << bit) != 0)
            .map(|(_, scope)| Arc::clone(scope))
            .collect()
    }
}

/// A notice about one account of which no more is known than this.
pub(super) fn about(
    id: &AccountId,
    cause: Cause,
    change: Change,
    since: Timestamp,
    at: Timestamp,
) -> Notice {
    let subject = Subject::Account(id.clone());
    Notice {
        audience: audience_of(cause),
        accounts: 1,
        ..shared(subject, cause, change, since, at)
    }
}

/// A notice to the operator about something that accounts share.
pub(super) const fn shared(
    subject: Subject,
    cause: Cause,
    change: Change,
    since: Timestamp,
    at: Timestamp,
) -> Notice {
    Notice {
        subject,
        cause,
        change,
        audience: Audience::Operator,
        since,
        at,
        expires_at: None,
        evidence: None,
        step: None,
        missing_scopes: Vec::new(),
        accounts: 0,
        posts_at_risk: None,
        gate: Gate::Open,
    }
}

const fn audience_of(cause: Cause) -> Audience {
    match cause.actor() {
        Actor::Owner => Audience::Owner,
        Actor::Nobody | Actor::Operator => Audience::Operator,
    }
}

fn mends_itself(cause: Cause) -> bool {
    cause.actor() == Actor::Nobody || cause == Cause::Unknown
}
