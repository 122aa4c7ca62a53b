//! The simulated world: time jumps from event to event; a shell that keeps the contract of
//! `src/refresh.rs`, `src/loader.rs` and `src/keeper.rs`; a provider, a store, a state, and a publisher
//! that misbehave. What must hold is asserted in `laws.rs`.

use crate::{
    cast::{DAY, Entry, HOUR, KINDS, Kind, Player, Renewal, Token, at},
    dice::Dice,
    laws::{Laws, NEVER},
};
use oauth_keepalive::core::{
    AccountId, Cause, Event, Evidence, Fingerprint, Memory,
    fleet::{Blocked, Checked, Effect, Finished, Fleet, Input, Reopened, Seen},
    schedule::Policy,
    timeline::{Reading, Timeline},
};
use std::{
    cmp::Reverse,
    collections::{BTreeMap, BinaryHeap},
    time::Duration,
};

/// What to play.
pub(crate) struct Plan {
    pub(crate) seed: u64,
    /// How many accounts of each kind.
    pub(crate) cast: [usize; 4],
    pub(crate) days: i64,
    /// Whether anything goes wrong.
    pub(crate) rough: bool,
    /// Whether all tokens are minted in one second.
    pub(crate) minted_at_once: bool,
    pub(crate) policy: Policy,
}

/// What will happen.
#[derive(Clone, Debug)]
pub(crate) enum What {
    Start,
    Kill,
    PassBegins,
    PassReads { from: usize, seen: Vec<Seen> },
    PassEnds { left_before: i64, seen: Vec<Seen> },
    Look,
    Work { who: usize, job: Job },
    Arrives { who: usize, life: u64, number: u64, probe: bool, asked_at: i64, fate: Fate },
    Answers { who: usize, answer: Answer, probe: bool },
    Saves { who: usize },
    CheckAnswers { who: usize },
    Hazard(Hazard),
    AppMended(usize),
    ClockReturns,
    Report { who: usize, number: u64, left: u32 },
    Reconnects { who: usize },
    Sweep,
}

#[derive(Clone, Copy, Debug)]
pub(crate) enum Job {
    Refresh { expected: u64 },
    Settle,
}

/// What becomes of a request on its way.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Fate {
    Arrives,
    NeverLeaves,
    TooMany(i64),
    LostBefore,
    LostAfter,
}

#[derive(Clone, Debug)]
pub(crate) enum Answer {
    Token(Token),
    Dead(Cause),
    Not { cause: Cause, retry_after: Option<i64>, app_wide: bool },
    Lost,
}

/// What goes wrong, or just happens, now and then.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Hazard {
    ProviderDown,
    StoreDown,
    StateDown,
    AppRefused,
    ClockJumps,
    Reload,
    Crash,
    PublisherRefreshes,
    OwnerReconnects,
    Revoked,
    AccessDies,
    FalseStorm,
    Leaves,
    Pass,
}

/// Each hazard with the mean time between two of its kind.
const HAZARDS: [(Hazard, i64); 14] = [
    (Hazard::ProviderDown, 6 * DAY),
    (Hazard::StoreDown, 5 * DAY),
    (Hazard::StateDown, 9 * DAY),
    (Hazard::AppRefused, 7 * DAY),
    (Hazard::ClockJumps, 4 * DAY),
    (Hazard::Reload, 2 * DAY),
    (Hazard::Crash, DAY),
    (Hazard::PublisherRefreshes, 3 * HOUR),
    (Hazard::OwnerReconnects, 9 * HOUR),
    (Hazard::Revoked, 12 * HOUR),
    (Hazard::AccessDies, 8 * HOUR),
    (Hazard::FalseStorm, 8 * HOUR),
    (Hazard::Leaves, DAY),
    (Hazard::Pass, HOUR),
];

pub(crate) struct World {
    pub(crate) plan: Plan,
    pub(crate) dice: Dice,
    pub(crate) t: i64,
    pub(crate) began: i64,
    events: BinaryHeap<Reverse<(i64, u64)>>,
    /// What happens at each of them, and in which life of the process; `None` when it outlives that.
    scripts: BTreeMap<u64, (Option<u64>, What)>,
    made: u64,
    /// The process: `None` while it is dead.
    pub(crate) fleet: Option<Fleet>,
    pub(crate) life: u64,
    timeline: Timeline,
    wall_step: i64,
    step_told: i64,
    memories: BTreeMap<AccountId, Memory>,
    pub(crate) people: Vec<Player>,
    pub(crate) index: BTreeMap<AccountId, usize>,
    pub(crate) tokens: Vec<Token>,
    pub(crate) provider_down_until: i64,
    pub(crate) store_down_until: i64,
    pub(crate) state_down_until: i64,
    pub(crate) app_refused_until: [i64; 4],
    passing: bool,
    pub(crate) quiet_from: i64,
    pub(crate) laws: Laws,
}

/// From the start of a request to when it is certainly over.
const DEADLINE: i64 = 10;

/// A retired token that comes back this soon lost a race; later it is theft.
const GRACE: i64 = 30;

const EPOCH: i64 = 1_800_000_000;

impl World {
    pub(crate) fn new(plan: Plan) -> Self {
        let (dice, days) = (Dice::new(plan.seed), plan.days);
        let mut world = Self {
            dice,
            t: EPOCH,
            began: EPOCH,
            events: BinaryHeap::new(),
            scripts: BTreeMap::new(),
            made: 0,
            fleet: None,
            life: 0,
            timeline: Timeline::start(Reading { steady: 0, wall: EPOCH }),
            wall_step: 0,
            step_told: 0,
            memories: BTreeMap::new(),
            people: Vec::new(),
            index: BTreeMap::new(),
            tokens: Vec::new(),
            provider_down_until: 0,
            store_down_until: 0,
            state_down_until: 0,
            app_refused_until: [0; 4],
            passing: false,
            quiet_from: EPOCH + (days - 4).max(0) * DAY,
            laws: Laws::new(plan.seed, plan.policy),
            plan,
        };
        for (kind, count) in KINDS.iter().zip(world.plan.cast) {
            for _ in 0..count {
                let who = world.people.len();
                world.people.push(Player::new(who, kind));
                world.index.insert(world.people[who].id.clone(), who);
                let late = world.plan.rough && world.dice.chance(50);
                let token = world.grant(who, 0);
                let age = if world.plan.minted_at_once {
                    0
                } else {
                    world.dice.between(0, kind.life / 2)
                };
                let person = &mut world.people[who];
                person.row = (!late).then_some(Token {
                    issued_at: token.issued_at - age,
                    expires_at: token.expires_at - age,
                    ..token
                });
                world.tokens[token.number as usize - 1] = person.row.unwrap_or(token);
                if late {
                    let delay = world.dice.between(HOUR, 20 * DAY);
                    world.always(delay, What::Reconnects { who });
                }
            }
        }
        world.always(0, What::Start);
        world.always(1_800, What::Sweep);
        for (hazard, every) in HAZARDS {
            if world.plan.rough || matches!(hazard, Hazard::Pass) {
                let first = world.dice.between(every / 4, every);
                world.always(first, What::Hazard(hazard));
            }
        }
        world
    }

    /// Plays until `until`.
    pub(crate) fn play(&mut self, until: i64) {
        loop {
            let event = self.events.peek().map(|Reverse((when, _))| *when).unwrap_or(NEVER);
            let believed = self.believed();
            let wakeup = self.fleet.as_ref().and_then(Fleet::next_wakeup);
            // The fleet's instants are on its own clock; ours runs as fast.
            let wake = wakeup.map_or(NEVER, |at| self.t + at.as_unix() - believed);
            let next = event.min(wake);
            if next > until {
                self.t = until;
                return;
            }
            self.t = next;
            if event <= next {
                let Some(Reverse((_, number))) = self.events.pop() else { return };
                if let Some((life, what)) = self.scripts.remove(&number)
                    && life.is_none_or(|life| life == self.life && self.fleet.is_some())
                {
                    self.happen(what);
                }
            } else {
                self.tell(Input::Woke);
            }
        }
    }

    fn always(&mut self, delay: i64, what: What) {
        self.script(delay, None, what);
    }

    /// Ends with the process.
    fn soon(&mut self, delay: i64, what: What) {
        self.script(delay, Some(self.life), what);
    }

    fn script(&mut self, delay: i64, life: Option<u64>, what: What) {
        self.made += 1;
        self.scripts.insert(self.made, (life, what));
        self.events.push(Reverse((self.t + delay.max(0), self.made)));
    }

    const fn reading(&self) -> Reading {
        Reading { steady: self.t - EPOCH, wall: self.t + self.wall_step }
    }

    /// The program's time, which may differ from ours.
    pub(crate) fn believed(&mut self) -> i64 {
        self.timeline.now(self.reading()).as_unix()
    }

    pub(crate) const fn store_works(&self) -> bool {
        self.t >= self.store_down_until
    }

    fn happen(&mut self, what: What) {
        match what {
            What::Start => self.start(),
            What::Kill => self.kill(),
            What::PassBegins => self.begin_pass(),
            What::PassReads { from, seen } => self.read_batch(from, seen),
            What::PassEnds { left_before, seen } => self.end_pass(left_before, seen),
            What::Look => self.look_at_trouble(),
            What::Work { who, job } => self.work(who, job),
            What::Arrives { who, life, number, probe, asked_at, fate } => {
                self.arrive(who, life, number, probe, asked_at, fate);
            }
            What::Answers { who, answer, probe } => self.answer(who, answer, probe),
            What::Saves { who } => self.save(who),
            What::CheckAnswers { who } => self.answer_check(who),
            What::Hazard(hazard) => self.hazard(hazard),
            What::AppMended(app) => self.mend_app(app),
            What::ClockReturns => self.step_clock(0),
            What::Report { who, number, left } => self.report(who, number, left),
            What::Reconnects { who } => self.reconnect(who),
            What::Sweep => {
                self.always(1_800, What::Sweep);
                Laws::sweep(self);
            }
        }
    }

    // --- The process ---------------------------------------------------------------------------------

    fn start(&mut self) {
        self.life += 1;
        self.passing = false;
        self.timeline = Timeline::start(self.reading());
        self.step_told = 0;
        self.laws.note_start(self.t);
        self.fleet = Some(Fleet::new(self.plan.policy));
        self.tell(Input::Configured {
            policy: self.plan.policy,
            apps: KINDS.iter().map(Kind::app).collect(),
        });
        self.tell(Input::Recalled(self.memories.values().cloned().collect()));
        let reopened = |person: &Player| {
            let entry = person.entry?;
            let unsaved = entry.result.map(|token| token.facts());
            Some(Reopened { id: person.id.clone(), unsaved, over_at: at(entry.over_at) })
        };
        let reopened = self.people.iter().filter_map(reopened).collect();
        for person in &mut self.people {
            if let Some(entry) = &mut person.entry {
                entry.told_in_doubt = true;
            }
        }
        self.tell(Input::Reopened(reopened));
        self.soon(0, What::PassBegins);
    }

    fn kill(&mut self) {
        if std::env::var_os("TRACE").is_some() {
            println!("{} kill", self.t);
        }
        self.fleet = None;
        self.laws.note_kill();
        let away = if self.dice.chance(100) {
            self.dice.between(600, 3 * HOUR)
        } else {
            self.dice.between(1, 60)
        };
        self.laws.shared_trouble_at = self.laws.shared_trouble_at.max(self.t + away);
        self.always(away, What::Start);
    }

    /// Hands something to the fleet and does what it answers, in the keeper's and the clerk's order.
    pub(crate) fn tell(&mut self, input: Input) {
        let now = at(self.believed());
        let Some(fleet) = &mut self.fleet else { return };
        fleet.handle(now, input);
        let effects: Vec<Effect> = std::iter::from_fn(|| fleet.next_effect()).collect();
        let (memories, forgotten) = fleet.take_changed();
        Laws::check_wakeup(self, now);
        let mut notices = Vec::new();
        for effect in effects {
            match effect {
                Effect::Refresh { id, expected, why } => {
                    let (who, expected) = (self.index[&id], expected.as_hash());
                    Laws::begin_refresh(self, who, expected, why);
                    self.go(who, Job::Refresh { expected });
                }
                Effect::Settle { id } => {
                    let who = self.index[&id];
                    Laws::begin_settlement(self, who);
                    self.go(who, Job::Settle);
                }
                Effect::Save { id } => {
                    let who = self.index[&id];
                    Laws::begin(self, who);
                    self.go(who, Job::Settle);
                }
                Effect::Probe { id } => {
                    let who = self.index[&id];
                    Laws::begin_check(self, who);
                    let delay = self.dice.between(1, 6);
                    self.soon(delay, What::CheckAnswers { who });
                }
                Effect::Notify(notice) => notices.push(notice),
                Effect::Mark { id, connected } => {
                    let who = self.index[&id];
                    let person = &mut self.people[who];
                    // A row that is not there has no column.
                    person.connected = connected || person.row.is_none();
                }
                Effect::Report(Event::StoreUp { up }) => {
                    self.laws.store_believed = up;
                    self.look_soon();
                }
                Effect::Report(Event::StateUp { up }) => {
                    self.laws.state_believed = up;
                    self.look_soon();
                }
                Effect::Report(_) => {}
            }
        }
        if std::env::var_os("TRACE").is_some() {
            for m in &memories {
                println!("{} mem {:?}", self.t, m);
            }
        }
        let tears = !notices.is_empty()
            && self.plan.rough
            && self.t < self.quiet_from
            && self.wall_step == 0
            && Laws::will_be_told_again(self, &notices)
            && self.dice.chance(30);
        for notice in notices {
            Laws::notice(self, &notice);
        }
        if tears {
            // The notices are in the outbox, what goes with them is not remembered.
            for memory in &memories {
                self.people[self.index[&memory.id]].torn = true;
            }
            self.kill();
            return;
        }
        for memory in memories {
            Laws::remembered(self, &memory);
            self.memories.insert(memory.id.clone(), memory);
        }
        for id in forgotten {
            self.memories.remove(&id);
        }
    }

    fn go(&mut self, who: usize, job: Job) {
        let delay = self.dice.between(0, 2);
        self.soon(delay, What::Work { who, job });
    }

    fn look_soon(&mut self) {
        let until = self.store_down_until.max(self.state_down_until);
        let delay = (until - self.t).max(0) + 2;
        self.soon(delay, What::Look);
    }

    fn look_at_trouble(&mut self) {
        if self.store_works() && !self.laws.store_believed {
            self.tell(Input::Store { up: true });
        }
        if self.t >= self.state_down_until && !self.laws.state_believed {
            self.tell(Input::State { up: true });
        }
        if !(self.laws.store_believed && self.laws.state_believed) {
            self.look_soon();
        }
    }

    // --- Passes over the store -----------------------------------------------------------------------

    fn begin_pass(&mut self) {
        if std::mem::replace(&mut self.passing, true) {
            // What changed since its rows were read is for the next pass.
            return self.soon(5, What::PassBegins);
        }
        self.tell(Input::LoadBegan);
        self.soon(0, What::PassReads { from: 0, seen: Vec::new() });
        self.laws.pass_began = self.t;
    }

    /// Reads a part of the rows; all are handed over at the end, when the first are seconds old.
    fn read_batch(&mut self, from: usize, mut seen: Vec<Seen>) {
        let fails = !self.store_works()
            || (self.plan.rough && self.t < self.quiet_from && self.dice.chance(4));
        if fails {
            self.passing = false;
            self.tell(Input::Store { up: false });
            self.soon(5, What::PassBegins);
            return;
        }
        let to = (from + 64).min(self.people.len());
        seen.extend(self.people[from..to].iter().filter(|person| person.row.is_some()).map(
            |person| Seen {
                id: person.id.clone(),
                app: person.kind.name.into(),
                token: person.row.map(|token| token.facts()),
            },
        ));
        let delay = if self.plan.rough { self.dice.between(0, 4) } else { 0 };
        let left_before = self.laws.pass_began;
        let next = if to < self.people.len() {
            What::PassReads { from: to, seen }
        } else {
            What::PassEnds { left_before, seen }
        };
        self.soon(delay, next);
    }

    fn end_pass(&mut self, left_before: i64, mut seen: Vec<Seen>) {
        self.passing = false;
        let life = self.life;
        while !seen.is_empty() && self.life == life && self.fleet.is_some() {
            let rest = seen.split_off(seen.len().min(100));
            self.tell(Input::Seen(std::mem::replace(&mut seen, rest)));
        }
        self.tell(Input::LoadEnded { damaged: 0 });
        Laws::pass_ended(self, left_before);
    }

    /// The store notices a change by itself, a little later.
    fn store_changed(&mut self) {
        let delay = self.dice.between(1, 90);
        self.soon(delay, What::PassBegins);
    }

    // --- One attempt, as `Refresher` does it ---------------------------------------------------------

    fn read_fails(&mut self) -> bool {
        !self.store_works() || self.fault(5)
    }

    /// True now and then, while things may go wrong.
    fn fault(&mut self, per_mille: i64) -> bool {
        self.plan.rough && self.t < self.quiet_from && self.dice.chance(per_mille)
    }

    fn work(&mut self, who: usize, job: Job) {
        if self.read_fails() {
            return self.finish(who, Finished::Blocked(Blocked::StoreDown));
        }
        let Some(row) = self.people[who].row else {
            return self.finish(who, Finished::Gone);
        };
        let state_works = self.t >= self.state_down_until;
        match (self.people[who].entry, job) {
            (Some(entry), _) => self.take_up(who, row, entry),
            (None, Job::Settle) => self.finish(who, Finished::Adopted(row.facts())),
            (None, Job::Refresh { expected }) if row.number != expected => {
                self.finish(who, Finished::Adopted(row.facts()));
            }
            (None, Job::Refresh { .. }) if !state_works => {
                self.finish(who, Finished::Blocked(Blocked::StateDown));
            }
            (None, Job::Refresh { .. }) => self.intend(who, row.number),
        }
    }

    fn intend(&mut self, who: usize, number: u64) {
        let over_at = self.t + DEADLINE;
        self.people[who].entry = Some(Entry {
            old: number,
            over_at,
            probed: false,
            result: None,
            since: self.t,
            told_in_doubt: false,
        });
        self.send(who, number, false);
    }

    fn take_up(&mut self, who: usize, row: Token, entry: Entry) {
        if entry.result.is_some() {
            let delay = self.dice.between(0, 1);
            return self.soon(delay, What::Saves { who });
        }
        if row.number != entry.old {
            self.people[who].entry = None;
            return self.finish(who, Finished::Adopted(row.facts()));
        }
        if self.people[who].kind.renewal == Renewal::Keeps {
            return self.intend(who, row.number);
        }
        if entry.over_at > self.t {
            let evidence = self.evidence(Cause::ProviderOutage);
            return self.finish(who, Finished::Ambiguous { evidence, over_at: at(entry.over_at) });
        }
        if self.t < self.state_down_until {
            return self.finish(who, Finished::Blocked(Blocked::StateDown));
        }
        if entry.probed {
            return self.give_up(who);
        }
        if let Some(entry) = &mut self.people[who].entry {
            entry.probed = true;
            entry.over_at = self.t + DEADLINE;
        }
        self.send(who, row.number, true);
    }

    fn send(&mut self, who: usize, number: u64, probe: bool) {
        Laws::sends(self, who, number, probe);
        let fate = match () {
            () if self.fault(8) => Fate::NeverLeaves,
            () if self.fault(10) => Fate::TooMany(self.dice.between(1, 1_200)),
            () if self.fault(4) => Fate::LostBefore,
            () if self.fault(3) => Fate::LostAfter,
            () => Fate::Arrives,
        };
        let delay = self.dice.between(0, 3);
        let (life, asked_at) = (self.life, self.t);
        self.always(delay, What::Arrives { who, life, number, probe, asked_at, fate });
    }

    /// At the provider; the answer finds its way only to the process that asked.
    fn arrive(
        &mut self,
        who: usize,
        life: u64,
        number: u64,
        probe: bool,
        asked_at: i64,
        fate: Fate,
    ) {
        let not = |cause, retry_after, app_wide| Answer::Not { cause, retry_after, app_wide };
        let kind = self.people[who].kind;
        let app = KINDS.iter().position(|one| one.name == kind.name).expect("one of the four");
        let answer = match fate {
            _ if self.t < self.provider_down_until => not(Cause::ProviderOutage, None, false),
            Fate::NeverLeaves => not(Cause::ProviderOutage, None, false),
            _ if self.t < self.app_refused_until[app] => {
                self.laws.app_refusals[app] += 1;
                not(Cause::AppCredentialsRejected, None, true)
            }
            Fate::TooMany(seconds) => not(Cause::RateLimited, Some(seconds), false),
            Fate::LostBefore => Answer::Lost,
            Fate::Arrives | Fate::LostAfter => {
                let answer = self.renew(who, number, probe, asked_at);
                if fate == Fate::LostAfter { Answer::Lost } else { answer }
            }
        };
        if fate != Fate::Arrives || !matches!(answer, Answer::Token(_)) {
            self.people[who].trouble_at = self.t;
        }
        let delay = match answer {
            Answer::Lost => asked_at + DEADLINE - self.t,
            _ => self.dice.between(0, 5),
        };
        self.script(delay, Some(life), What::Answers { who, answer, probe });
    }

    fn renew(&mut self, who: usize, number: u64, probe: bool, asked_at: i64) -> Answer {
        let person = &mut self.people[who];
        let token = self.tokens[number as usize - 1];
        let rotates = person.kind.renewal == Renewal::Rotates;
        if rotates && number != person.current {
            if self.t - person.rotated_at > GRACE {
                assert!(
                    probe,
                    "seed {}: {} presented a retired token that was not in doubt",
                    self.plan.seed, person.id
                );
                person.alive = false;
            }
            return Answer::Dead(Cause::RefreshTokenRejected);
        }
        let ended = token.grant_ends_at.is_some_and(|end| self.t >= end);
        let too_late = person.kind.renewal == Renewal::Extends && self.t >= token.expires_at;
        // A second consent ends the first grant.
        let of_old_grant = token.renewed_by.is_none_or(|by| {
            person.kind.renewal == Renewal::Keeps
                && by != self.tokens[person.current as usize - 1].renewed_by.unwrap_or(by)
        });
        if !person.alive || ended || too_late || of_old_grant {
            return Answer::Dead(Cause::RefreshTokenRejected);
        }
        assert!(
            self.t - token.issued_at >= person.kind.min_age,
            "seed {}: {} is asked too young",
            self.plan.seed,
            person.id
        );
        person.refreshes += 1;
        Answer::Token(self.mint(
            who,
            asked_at,
            token.renewed_by,
            token.grant_ends_at,
            token.scope_missing,
        ))
    }

    /// A token from a new consent.
    fn grant(&mut self, who: usize, scope_missing: i64) -> Token {
        let kind = self.people[who].kind;
        let scope_missing = self.plan.rough && self.dice.chance(scope_missing);
        let ends = kind.grant_life.map(|life| self.t + life);
        let person = &mut self.people[who];
        person.alive = true;
        let family = self.tokens.len() as u64 + 1;
        self.mint(who, self.t, Some(family), ends, scope_missing)
    }

    fn mint(
        &mut self,
        who: usize,
        issued_at: i64,
        family: Option<u64>,
        ends: Option<i64>,
        scope_missing: bool,
    ) -> Token {
        let number = self.tokens.len() as u64 + 1;
        let person = &mut self.people[who];
        let renewed_by = match person.kind.renewal {
            Renewal::Rotates | Renewal::Extends => Some(number),
            Renewal::Keeps => family,
        };
        let token = Token {
            number,
            renewed_by,
            issued_at,
            expires_at: issued_at + person.kind.life,
            grant_ends_at: ends,
            scope_missing,
        };
        person.current = number;
        person.rotated_at = self.t;
        person.access_dead = false;
        self.tokens.push(token);
        token
    }

    fn answer(&mut self, who: usize, answer: Answer, probe: bool) {
        // A `Date` header came with it.
        let reading = self.reading();
        self.timeline.observe_date(reading, at(self.t));
        let seconds = self.timeline.unconfirmed_step(reading);
        let over_at = self.people[who].entry.map_or(self.t, |entry| entry.over_at);
        match answer {
            Answer::Token(token) => {
                if let Some(entry) = &mut self.people[who].entry {
                    entry.result = Some(token);
                    entry.since = self.t;
                }
                let delay = self.dice.between(0, 2);
                self.soon(delay, What::Saves { who });
            }
            Answer::Dead(_)
                if self.people[who].row.is_some_and(|row| {
                    self.people[who].entry.is_some_and(|entry| entry.old != row.number)
                }) =>
            {
                // Somebody won the race; the row is read again before anybody is called dead.
                let row = self.people[who].row.expect("just looked at");
                self.people[who].entry = None;
                self.finish(who, Finished::Adopted(row.facts()));
            }
            Answer::Dead(cause) => {
                self.people[who].entry = None;
                let cause = if probe { Cause::RotationLost } else { cause };
                let evidence = self.evidence(cause);
                self.finish(who, Finished::Dead(evidence));
            }
            Answer::Not { cause, retry_after, app_wide } => {
                match &mut self.people[who].entry {
                    Some(entry) if probe => {
                        entry.probed = false;
                        self.people[who].probed = None;
                    }
                    entry => *entry = None,
                }
                let mut evidence = self.evidence(cause);
                evidence.retry_after =
                    retry_after.map(|seconds| Duration::from_secs(seconds as u64));
                evidence.app_wide = app_wide;
                self.finish(who, Finished::NotCommitted(evidence));
            }
            Answer::Lost if probe => self.give_up(who),
            Answer::Lost => {
                if self.people[who].kind.renewal == Renewal::Keeps {
                    self.people[who].entry = None;
                }
                let evidence = self.evidence(Cause::ProviderOutage);
                self.finish(who, Finished::Ambiguous { evidence, over_at: at(over_at) });
            }
        }
        self.note_clock(seconds);
    }

    fn give_up(&mut self, who: usize) {
        self.people[who].entry = None;
        self.people[who].trouble_at = self.t;
        let evidence = self.evidence(Cause::RotationLost);
        self.finish(who, Finished::Dead(evidence));
    }

    /// By compare-and-set on the token.
    fn save(&mut self, who: usize) {
        let Some(Entry { old, result: Some(token), .. }) = self.people[who].entry else { return };
        let facts = token.facts();
        let half = self.fault(3);
        let refused = !self.store_works() || self.fault(8);
        let result = match self.people[who].row {
            _ if refused => Finished::Unsaved(facts),
            None => Finished::Gone,
            Some(row) if row.number == token.number => Finished::Renewed(facts),
            Some(row) if row.number != old => Finished::Adopted(row.facts()),
            Some(row) => {
                Laws::replaced(self, who, row);
                self.people[who].row = Some(token);
                // Written, and the answer was lost: it is saved again, which does no harm.
                if half { Finished::Unsaved(facts) } else { Finished::Renewed(facts) }
            }
        };
        if matches!(result, Finished::Unsaved(_)) {
            self.people[who].trouble_at = self.t;
        } else {
            self.people[who].entry = None;
        }
        self.finish(who, result);
    }

    fn answer_check(&mut self, who: usize) {
        let person = &self.people[who];
        let cause = match () {
            () if self.t < self.provider_down_until || person.row.is_none() => None,
            () if !person.alive && self.dice.chance(500) => Some(Cause::ConsentRevoked),
            () if !person.alive || person.access_dead => Some(Cause::AccessTokenExpired),
            () if person.row.is_some_and(|row| self.t >= row.expires_at) => {
                Some(Cause::AccessTokenExpired)
            }
            () => {
                Laws::end(self, who);
                return self.tell(Input::Probed {
                    id: self.people[who].id.clone(),
                    checked: Checked::Alive,
                });
            }
        };
        let checked =
            cause.map_or(Checked::Unknown, |cause| Checked::Refused(self.evidence(cause)));
        if cause == Some(Cause::ConsentRevoked) {
            let person = &mut self.people[who];
            person.dead = person.ours().map(|token| (token.number, Cause::ConsentRevoked));
        }
        Laws::end(self, who);
        self.tell(Input::Probed { id: self.people[who].id.clone(), checked });
    }

    fn finish(&mut self, who: usize, result: Finished) {
        Laws::finished(self, who, &result);
        self.tell(Input::Finished { id: self.people[who].id.clone(), result });
    }

    fn evidence(&mut self, cause: Cause) -> Evidence {
        Evidence::of(cause, at(self.believed()))
    }

    fn step_clock(&mut self, step: i64) {
        self.wall_step = step;
        self.believed();
        let seconds = self.timeline.unconfirmed_step(self.reading());
        self.note_clock(seconds);
    }

    fn note_clock(&mut self, seconds: i64) {
        if self.fleet.is_some() && seconds != self.step_told {
            self.step_told = seconds;
            self.tell(Input::ClockStep { seconds });
        }
    }

    // --- What happens by itself ----------------------------------------------------------------------

    fn hazard(&mut self, hazard: Hazard) {
        let (_, every) = HAZARDS
            .iter()
            .find(|(one, _)| std::mem::discriminant(one) == std::mem::discriminant(&hazard))
            .expect("in the list");
        let next = self.dice.between(every / 2, every * 3 / 2);
        self.always(next, What::Hazard(hazard));
        if matches!(hazard, Hazard::Pass) {
            return self.soon(0, What::PassBegins);
        }
        if self.t >= self.quiet_from {
            return;
        }
        let who = self.dice.index(self.people.len());
        match hazard {
            Hazard::Pass => {}
            Hazard::ProviderDown => {
                self.provider_down_until = self.t + self.dice.between(60, 5 * HOUR);
                self.laws.shared_trouble(self.t, self.provider_down_until);
            }
            Hazard::StoreDown => {
                self.store_down_until = self.t + self.dice.between(60, 5 * HOUR);
                self.laws.shared_trouble(self.t, self.store_down_until);
            }
            Hazard::StateDown => {
                self.state_down_until = self.t + self.dice.between(60, 2 * HOUR);
                self.laws.shared_trouble(self.t, self.state_down_until);
            }
            Hazard::AppRefused => {
                let app = self.dice.index(KINDS.len());
                let lasts = self.dice.between(600, 6 * HOUR);
                self.app_refused_until[app] = self.t + lasts;
                self.laws.shared_trouble(self.t, self.t + lasts);
                self.laws.app_refusals[app] = 0;
                self.laws.app_tries_allowed[app] = self.laws.tries_allowed(lasts);
                self.always(lasts, What::AppMended(app));
            }
            Hazard::ClockJumps if self.wall_step == 0 && self.fleet.is_some() => {
                let lasts = self.dice.between(600, 8 * HOUR);
                let step = if self.dice.chance(500) { DAY } else { -DAY };
                self.step_clock(step);
                self.always(lasts, What::ClockReturns);
            }
            Hazard::ClockJumps => {}
            Hazard::Reload => {
                let share = self.dice.between(60, 66) as f64 / 100.0;
                self.plan.policy.due_fraction = share;
                self.laws.reloaded();
                self.tell(Input::Configured {
                    policy: self.plan.policy,
                    apps: KINDS.iter().map(Kind::app).collect(),
                });
            }
            // A process that starts while the wall clock is wrong has nothing to tell it so.
            Hazard::Crash if self.fleet.is_some() && self.wall_step == 0 => self.kill(),
            Hazard::Crash => {}
            Hazard::PublisherRefreshes => self.publisher_refreshes(who),
            Hazard::OwnerReconnects => self.reconnect(who),
            Hazard::Revoked => {
                let delay = self.dice.between(2 * HOUR, 4 * DAY);
                self.people[who].alive = false;
                self.people[who].trouble_at = self.t;
                self.report_soon(who, 5);
                self.always(delay, What::Reconnects { who });
            }
            Hazard::AccessDies => {
                self.people[who].access_dead = self.people[who].row.is_some();
                self.people[who].trouble_at = self.t;
                self.report_soon(who, 2_000);
            }
            Hazard::FalseStorm => self.report_soon(who, 60),
            Hazard::Leaves => {
                let person = &mut self.people[who];
                person.row = None;
                person.left_at = self.t;
                person.connected = true;
                let delay = self.dice.between(HOUR, 6 * DAY);
                self.always(delay, What::Reconnects { who });
                self.store_changed();
            }
        }
    }

    fn publisher_refreshes(&mut self, who: usize) {
        let person = &self.people[who];
        let Some(row) = person.row else { return };
        let works = person.alive && row.number == person.current && row.renewed_by.is_some();
        let in_time = row.grant_ends_at.is_none_or(|end| self.t < end) && self.t < row.expires_at;
        let app =
            KINDS.iter().position(|kind| kind.name == person.kind.name).expect("one of the four");
        let open = self.t >= self.provider_down_until && self.t >= self.app_refused_until[app];
        if works && in_time && open && self.store_works() && person.kind.renewal != Renewal::Extends
        {
            let token =
                self.mint(who, self.t, row.renewed_by, row.grant_ends_at, row.scope_missing);
            self.people[who].row = Some(token);
            self.people[who].trouble_at = self.t;
            self.store_changed();
        }
    }

    fn reconnect(&mut self, who: usize) {
        if self.t >= self.quiet_from || !self.store_works() {
            return;
        }
        let mut token = self.grant(who, 120);
        if self.dice.chance(60) {
            token.renewed_by = None;
            self.tokens[token.number as usize - 1] = token;
        }
        if token.scope_missing || token.renewed_by.is_none() {
            let delay = self.dice.between(6 * HOUR, 4 * DAY);
            self.always(delay, What::Reconnects { who });
        }
        self.people[who].row = Some(token);
        self.people[who].trouble_at = self.t;
        self.store_changed();
    }

    fn mend_app(&mut self, app: usize) {
        Laws::app_mended(self, app);
        let name = KINDS[app].name;
        let refused =
            self.fleet.as_ref().is_some_and(|fleet| fleet.refused_apps().any(|one| *one == *name));
        // Half of the time the secret was changed, and the keeper sees that; otherwise it just works again.
        if refused && self.dice.chance(500) {
            self.laws.reloaded();
            self.tell(Input::CredentialsChanged { app: name.into() });
        }
    }

    fn report_soon(&mut self, who: usize, times: u32) {
        if let Some(row) = self.people[who].row {
            let delay = self.dice.between(1, 600);
            self.always(delay, What::Report { who, number: row.number, left: times });
        }
    }

    /// The publisher had a 401 and says so; it goes on until the token is another.
    fn report(&mut self, who: usize, number: u64, left: u32) {
        if left == 0 || self.people[who].row.is_none_or(|row| row.number != number) {
            return;
        }
        let delay = self.dice.between(5, 900);
        self.always(delay, What::Report { who, number, left: left - 1 });
        self.tell(Input::Responded { id: self.people[who].id.clone(), status: 401, times: 3 });
    }

    pub(crate) fn token_of(&self, fingerprint: Fingerprint) -> Token {
        self.tokens[fingerprint.as_hash() as usize - 1]
    }
}
