//! What must hold, whatever happens. Each failure names the seed, the time and the account.

use crate::{
    cast::{DAY, KINDS, Renewal, Token},
    world::World,
};
use oauth_keepalive::core::{
    AccountId, Cause, Gate, Memory, Timestamp, fleet::Finished, gate, notices::Subject,
    schedule::Policy,
};
use std::{collections::BTreeMap, time::Duration};

pub(crate) const NEVER: i64 = i64::MAX;

/// How long after its last trouble an account may take to be well: the longest `Retry-After` that is
/// played, the longest pause, and its turn among all that wait.
const WELL_WITHIN: i64 = 45 * 60;

/// How long after its last trouble a token that was received may wait to be saved.
const SAVED_WITHIN: i64 = 5 * 60;

/// Fails with the seed and the time.
macro_rules! law {
    ($world:expr, $holds:expr, $($words:tt)+) => {
        assert!($holds, "seed {}, second {}: {}", $world.laws.seed, $world.t - $world.began, format!($($words)+))
    };
}

#[path = "telling.rs"]
mod telling;

/// What was seen so far, as far as later events are judged by it.
pub(crate) struct Laws {
    pub(crate) seed: u64,
    policy: Policy,
    /// What is under way, by account, with its app.
    calls: BTreeMap<usize, &'static str>,
    /// Open incidents, as the outbox knows them, with the token in the store when they began.
    incidents: BTreeMap<(Subject, Cause), u64>,
    pub(crate) store_believed: bool,
    pub(crate) state_believed: bool,
    /// The end of the last trouble that all share.
    pub(crate) shared_trouble_at: i64,
    pub(crate) app_refusals: [i64; 4],
    pub(crate) app_tries_allowed: [i64; 4],
    pub(crate) pass_began: i64,
    started_at: i64,
    /// Every refresh that was begun: when, whose, and when the old token would have ended.
    pub(crate) starts: Vec<(i64, usize, i64)>,
    /// When each account was due, for which token, under which setting: asked twice, the answer is the same.
    dues: BTreeMap<AccountId, (u64, u64, Option<Timestamp>)>,
    pub(crate) notices: u64,
    pub(crate) restarts: u64,
}

impl Laws {
    pub(crate) const fn new(seed: u64, policy: Policy) -> Self {
        Self {
            seed,
            policy,
            calls: BTreeMap::new(),
            incidents: BTreeMap::new(),
            store_believed: true,
            state_believed: true,
            shared_trouble_at: 0,
            app_refusals: [0; 4],
            app_tries_allowed: [0; 4],
            pass_began: 0,
            started_at: 0,
            starts: Vec::new(),
            dues: BTreeMap::new(),
            notices: 0,
            restarts: 0,
        }
    }

    pub(crate) fn shared_trouble(&mut self, _from: i64, until: i64) {
        self.shared_trouble_at = self.shared_trouble_at.max(until);
    }

    pub(crate) fn note_kill(&mut self) {
        self.calls.clear();
    }

    pub(crate) fn note_start(&mut self, now: i64) {
        self.started_at = now;
        self.restarts += 1;
        self.store_believed = true;
        self.state_believed = true;
        // A new process learns anew that an app is refused.
        let again = self.tries_allowed(0);
        self.app_tries_allowed.iter_mut().for_each(|allowed| *allowed += again);
    }

    /// A configuration or a secret that changed is tried at once.
    pub(crate) fn reloaded(&mut self) {
        self.app_tries_allowed.iter_mut().for_each(|allowed| *allowed += 2);
    }

    /// Requests for a refused app: those on the wire when it began, a few while the pauses grow, and one
    /// for each longest pause.
    pub(crate) fn tries_allowed(&self, seconds: i64) -> i64 {
        let longest = self.policy.backoff_max.as_secs() as i64 * 3 / 4;
        self.policy.in_flight_per_app_max as i64 + 10 + seconds / longest
    }

    fn trouble_free_since(world: &World, who: usize, since: i64) -> bool {
        world.people[who].trouble_at < since && world.laws.shared_trouble_at < since
    }

    pub(crate) fn check_wakeup(world: &World, now: Timestamp) {
        let wakeup = world.fleet.as_ref().and_then(|fleet| fleet.next_wakeup());
        law!(
            world,
            wakeup.is_none_or(|at| at > now),
            "wants to be woken at {wakeup:?}, and it is {now:?}"
        );
    }

    // --- Before something begins ---------------------------------------------------------------------

    /// Saving asks nothing of the provider, so no app's room bounds it.
    pub(crate) fn begin_save(world: &mut World, who: usize) {
        Self::begin_for(world, who, "the store");
    }

    pub(crate) fn begin(world: &mut World, who: usize) {
        let app = world.people[who].kind.name;
        Self::begin_for(world, who, app);
        let of_app = world.laws.calls.values().filter(|one| **one == app).count();
        let most = world.laws.policy.in_flight_per_app_max;
        law!(world, of_app <= most, "{of_app} under way for {app}");
    }

    fn begin_for(world: &mut World, who: usize, app: &'static str) {
        let before = world.laws.calls.insert(who, app);
        let person = &world.people[who];
        law!(world, before.is_none(), "{}: two things under way at once", person.id);
        let (all, policy) = (world.laws.calls.len(), &world.laws.policy);
        law!(world, all <= policy.in_flight_max, "{all} under way");
    }

    pub(crate) fn end(world: &mut World, who: usize) {
        let was = world.laws.calls.remove(&who);
        law!(world, was.is_some(), "{}: ended without a beginning", world.people[who].id);
    }

    pub(crate) fn begin_refresh(world: &mut World, who: usize, expected: u64, why: &str) {
        Self::begin(world, who);
        let t = world.t;
        let person = &world.people[who];
        let (id, token) = (&person.id, world.tokens[expected as usize - 1]);
        law!(
            world,
            expected >= person.reached,
            "{id}: token {expected} again, and {} reached us",
            person.reached
        );
        if let Some(entry) = person.entry.filter(|entry| entry.old == expected) {
            law!(world, entry.result.is_none(), "{id}: a refresh while its new token is unsaved");
            let settles = person.kind.renewal == Renewal::Keeps || !entry.told_in_doubt;
            law!(world, settles, "{id}: an unknown outcome is repeated instead of settled");
        }
        law!(
            world,
            person.dead.is_none_or(|(dead, _)| dead != expected),
            "{id}: a dead token is tried again"
        );
        Self::keeps_away(world, who, expected);
        Self::may_spend(world, who);
        let margin = world.laws.policy.spread_fraction + world.laws.policy.danger_fraction;
        let earliest = token.issued_at
            + (token.life() as f64 * (0.599 - world.laws.policy.spread_fraction)) as i64;
        let last_chance =
            token.grant_ends_at.map_or(NEVER, |end| end - (token.life() as f64 * margin) as i64);
        law!(
            world,
            why != "due" || t >= earliest.min(last_chance),
            "{id}: refreshed {} s after it was issued",
            t - token.issued_at
        );
        law!(world, why != "ended" || t >= token.expires_at, "{id}: has not ended");
        let is_current =
            person.row.is_some_and(|row| row.number == expected) && person.current == expected;
        let refused = person.access_dead || !person.alive || t >= token.expires_at;
        law!(
            world,
            why != "access_refused" || !is_current || refused,
            "{id}: nobody refused its access token"
        );
        world.laws.starts.push((t, who, token.expires_at));
    }

    pub(crate) fn begin_settlement(world: &mut World, who: usize) {
        Self::begin(world, who);
        let person = &world.people[who];
        if let Some(entry) = person.entry.filter(|entry| entry.result.is_none()) {
            law!(
                world,
                world.t >= entry.over_at,
                "{}: settled while the first request may be under way",
                person.id
            );
            Self::keeps_away(world, who, entry.old);
        }
        Self::may_spend(world, who);
    }

    pub(crate) fn begin_check(world: &mut World, who: usize) {
        Self::begin(world, who);
        Self::may_spend(world, who);
        let person = &world.people[who];
        let Some(row) = person.row else { return };
        let margin = (row.life() as f64 * world.laws.policy.danger_fraction) as i64;
        if let Some((number, at)) = person.checked.filter(|(_, at)| *at >= world.laws.started_at) {
            let far = number != row.number || world.t - at >= margin;
            law!(world, far, "{}: checked twice within {} s", person.id, world.t - at);
        }
        world.people[who].checked = Some((row.number, world.t));
    }

    /// Nothing is spent by it, and it is for an account that was held.
    pub(crate) fn begin_proof(world: &mut World, who: usize) {
        Self::begin(world, who);
        let id = world.people[who].id.clone();
        let now = Timestamp::from_unix(world.believed());
        let snapshot = world.fleet.as_ref().map(|fleet| fleet.snapshot(now));
        let gate = snapshot.map(|snapshot| snapshot.accounts.find(&id).map(|one| one.door.gate));
        law!(world, gate == Some(Some(Gate::Canary)), "{id}: is proven while its gate is {gate:?}");
    }

    /// After a failure, at least the first pause; after a `Retry-After`, to the second.
    fn keeps_away(world: &World, who: usize, number: u64) {
        let person = &world.people[who];
        if let Some((_, at, until)) = person.failed.filter(|(failed, ..)| *failed == number) {
            law!(
                world,
                world.t >= until,
                "{}: {} s after a failure, and {} s are due",
                person.id,
                world.t - at,
                until - at
            );
        }
    }

    fn may_spend(world: &World, who: usize) {
        // One that answers and has refused a few tokens is tried now and then.
        let store_works = world.laws.store_believed || world.store_works();
        let works = store_works && world.laws.state_believed;
        law!(world, works, "{}: spends while store or state take nothing", world.people[who].id);
    }

    pub(crate) fn sends(world: &mut World, who: usize, number: u64, probe: bool) {
        let person = &mut world.people[who];
        let second = probe && person.probed.replace(number) == Some(number);
        let again = person.dead.is_some_and(|(dead, _)| dead == number);
        let id = person.id.clone();
        law!(world, !second, "{id}: a second probe");
        law!(world, !again, "{id}: a dead token on the wire");
    }

    // --- After something ended -----------------------------------------------------------------------

    pub(crate) fn finished(world: &mut World, who: usize, result: &Finished) {
        Self::end(world, who);
        let (t, first) = (world.t, world.laws.policy.backoff_first.as_secs() as i64);
        let held = world.people[who].row.map(|row| row.number);
        let person = &mut world.people[who];
        match result {
            Finished::Renewed(facts)
            | Finished::Adopted(facts)
            | Finished::Restored(facts)
            | Finished::Shared(facts)
            | Finished::Unsaved(facts) => {
                person.reached = person.reached.max(facts.token.as_hash());
            }
            Finished::Dead(evidence) | Finished::KnownDead(evidence) => {
                person.dead = held.map(|number| (number, evidence.cause));
                person.trouble_at = t;
            }
            Finished::NotCommitted(evidence) => {
                let asked =
                    evidence.retry_after.unwrap_or_else(|| Duration::from_secs(first as u64));
                let away = if evidence.app_wide { 0 } else { asked.as_secs() as i64 };
                person.failed = held.map(|number| (number, t, t + away));
                person.trouble_at = t;
            }
            Finished::Ambiguous { over_at, .. } => {
                let until = (t + first).max(over_at.as_unix());
                person.failed = held.map(|number| (number, t, until));
                person.trouble_at = t;
                if let Some(entry) = &mut person.entry {
                    entry.told_in_doubt = true;
                }
            }
            Finished::Blocked(_)
            | Finished::Gone
            | Finished::NoToken
            | Finished::WrongAccount(_) => person.trouble_at = t,
        }
    }

    /// A renewed token replaces `old` in the store.
    pub(crate) fn replaced(world: &World, who: usize, old: Token) {
        let late = world.t >= old.expires_at && Self::trouble_free_since(world, who, old.issued_at);
        law!(world, !late, "{}: a healthy account reached its end", world.people[who].id);
    }

    pub(crate) fn remembered(world: &mut World, memory: &Memory) {
        let who = world.index[&memory.id];
        let number = memory.token.map_or(0, |token| token.token.as_hash());
        let person = &mut world.people[who];
        person.torn &= memory.told.is_some();
        let (reached, id) = (person.reached, person.id.clone());
        let since = person.row.is_some();
        law!(
            world,
            number >= reached || !since,
            "{id}: went back to token {number}, and {reached} reached us"
        );
    }

    // --- Now and then, and in the end ----------------------------------------------------------------

    pub(crate) fn app_mended(world: &World, app: usize) {
        let (refused, allowed) = (world.laws.app_refusals[app], world.laws.app_tries_allowed[app]);
        let name = KINDS[app].name;
        law!(
            world,
            refused <= allowed,
            "{name}: {refused} requests for a refused app, {allowed} at most"
        );
        let key = (Subject::App(name.into()), Cause::AppCredentialsRejected);
        let told = world.laws.incidents.contains_key(&key);
        // A restart shortly before the end learns it anew.
        let restarted = world.t - world.laws.started_at < 3_600;
        law!(
            world,
            told || refused < 5 || restarted,
            "{name}: refused {refused} times, and nobody was told"
        );
    }

    pub(crate) fn pass_ended(world: &mut World, left_before: i64) {
        let now = Timestamp::from_unix(world.believed());
        let Some(fleet) = &world.fleet else { return };
        let table = fleet.snapshot(now).accounts;
        for (who, person) in world.people.iter().enumerate() {
            let known = table.find(&person.id).is_some();
            let gone = person.row.is_none() && person.left_at < left_before;
            let busy = world.laws.calls.contains_key(&who);
            law!(world, !(gone && known) || busy, "{}: has left, and is still shown", person.id);
            let here = person.row.is_some() && person.trouble_at < left_before - 120;
            law!(world, !here || known, "{}: is in the store, and not shown", person.id);
        }
    }

    pub(crate) fn sweep(world: &mut World) {
        let now = Timestamp::from_unix(world.believed());
        let Some(fleet) = &world.fleet else { return };
        let snapshot = fleet.snapshot(now);
        law!(
            world,
            snapshot.in_flight == world.laws.calls.len(),
            "{} are said to be under way",
            snapshot.in_flight
        );
        let t = world.t;
        let since_shared = t - world.laws.shared_trouble_at.max(world.laws.started_at);
        for (app, mended_at) in world.app_refused_until.iter().enumerate() {
            let frozen = snapshot
                .apps
                .iter()
                .any(|view| *view.name == *KINDS[app].name && view.frozen.is_some());
            let over = t - mended_at > WELL_WITHIN && since_shared > WELL_WITHIN;
            // Only a request shows that it is accepted again.
            let asked = world.laws.starts.iter().rev().take(200).any(|(at, who, _)| {
                at - mended_at > 60 && world.people[*who].kind.name == KINDS[app].name
            });
            law!(world, !(frozen && over && asked), "{}: still frozen", KINDS[app].name);
        }
        let mut dues = BTreeMap::new();
        for account in snapshot.accounts.iter() {
            let person = &world.people[world.index[&account.id]];
            let calm = (t - person.trouble_at).min(since_shared);
            if let Some(entry) = person.entry.filter(|entry| entry.result.is_some()) {
                let waits = calm.min(t - entry.since);
                law!(
                    world,
                    waits <= SAVED_WITHIN,
                    "{}: its new token is unsaved for {waits} s",
                    person.id
                );
            }
            let (Some(ours), Some(theirs)) = (person.ours(), account.token) else { continue };
            let share = world.plan.policy.due_fraction.to_bits();
            let due = (theirs.token.as_hash(), share, account.due_at);
            let (id, same) = (
                &person.id,
                world.laws.dues.get(&account.id).filter(|old| (old.0, old.1) == (due.0, due.1)),
            );
            law!(
                world,
                same.is_none_or(|old| old.2 == due.2),
                "{id}: was due at {same:?}, and is at {due:?}"
            );
            dues.insert(account.id.clone(), due);
            if person.row.is_none() || !person.can_be_kept(t) {
                continue;
            }
            let never_troubled =
                Self::trouble_free_since(world, world.index[&account.id], ours.issued_at);
            let lives = t < ours.expires_at;
            law!(
                world,
                lives || !never_troubled,
                "{}: a healthy account reached its end",
                person.id
            );
            if calm > WELL_WITHIN {
                law!(world, lives, "{}: ended, and its trouble is over for {calm} s", person.id);
                let cause = account.cause;
                law!(
                    world,
                    person.announced_causes(t).contains(&cause),
                    "{}: {cause:?}, and its trouble is over for {calm} s\n{account:?}\n{:?} {:?}",
                    person.id,
                    person.entry,
                    person.row
                );
                let shown = theirs.token.as_hash();
                let idle = person.entry.is_none();
                law!(
                    world,
                    shown == ours.number || !idle,
                    "{}: shows token {shown}, has {}\n{account:?}\n{:?} {:?} reached {} trouble {}",
                    person.id,
                    ours.number,
                    person.entry,
                    person.row,
                    person.reached,
                    person.trouble_at
                );
            }
        }
        world.laws.dues = dues;
    }

    /// Nothing has gone wrong for days: everybody knows what is so.
    pub(crate) fn settled(world: &mut World) {
        Self::sweep(world);
        let now = Timestamp::from_unix(world.believed());
        let Some(fleet) = &world.fleet else { return law!(world, false, "the process is dead") };
        let snapshot = fleet.snapshot(now);
        law!(
            world,
            snapshot.unsaved == 0 && snapshot.store_up && snapshot.state_up,
            "not all is well"
        );
        let t = world.t;
        for person in &world.people {
            let id = &person.id;
            let open: Vec<Cause> = world
                .laws
                .incidents
                .keys()
                .filter(|(subject, _)| *subject == Subject::Account(id.clone()))
                .map(|(_, cause)| *cause)
                .collect();
            let Some(account) = snapshot.accounts.find(id) else {
                law!(world, person.row.is_none(), "{id}: is not shown");
                law!(world, open.is_empty(), "{id}: has left, and {open:?} is open");
                continue;
            };
            let told: Vec<Cause> = account.cause.into_iter().collect();
            law!(world, open == told, "{id}: is {:?}, and open is {open:?}", account.cause);
            let door = account.door;
            law!(
                world,
                person.connected != door.marked,
                "{id}: is {:?} with {door:?}, and its status says connected: {}",
                account.cause,
                person.connected
            );
            let is_shut = gate::shut_by(snapshot.at, account).is_some();
            let expected = if is_shut { Gate::Held } else { Gate::Open };
            law!(
                world,
                door.gate == expected,
                "{id}: is {:?}, and its gate {door:?}",
                account.cause
            );
            let expected = if person.can_be_kept(t) {
                person.announced_causes(t)
            } else {
                person.true_causes(t)
            };
            law!(
                world,
                expected.contains(&account.cause),
                "{id}: is {:?}, and the truth is {expected:?}",
                account.cause
            );
        }
        let shared: Vec<_> = world
            .laws
            .incidents
            .keys()
            .filter(|(subject, _)| !matches!(subject, Subject::Account(_)))
            .collect();
        law!(world, shared.is_empty(), "still open: {shared:?}");
    }

    /// Account-years that were played.
    pub(crate) fn years(world: &World) -> f64 {
        world.people.len() as f64 * (world.t - world.began) as f64 / (365 * DAY) as f64
    }
}
