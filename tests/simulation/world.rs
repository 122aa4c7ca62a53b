//! The simulated world: time jumps from event to event; a shell that keeps the contract of
//! `src/refresh.rs`, `src/loader.rs` and `src/keeper.rs`; a provider, a store, a state, and a publisher
//! that misbehave. What must hold is asserted in `laws.rs`.

#[path = "nature.rs"]
mod nature;
#[path = "provider.rs"]
mod provider;
#[path = "shell.rs"]
mod shell;

use crate::{
    cast::{DAY, HOUR, KINDS, Kind, Player, Token, at},
    dice::Dice,
    laws::{Laws, NEVER},
};
use nature::{HAZARDS, Hazard};
use oauth_keepalive::core::{
    AccountId, Cause, Event, Evidence, Farewell, KeptGate, Memory, Shares,
    fleet::{Effect, Fleet, Input, Reopened, Seen},
    schedule::Policy,
    timeline::{Reading, Timeline},
};
use std::{
    cmp::Reverse,
    collections::{BTreeMap, BinaryHeap},
    sync::Arc,
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
    ProofAnswers { who: usize },
    AppAnswers { app: Arc<str> },
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
    /// Whether it answers 429 meanwhile, or not at all.
    provider_is_busy: bool,
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
            provider_is_busy: false,
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
            // A process that starts while the wall clock is wrong has nothing to tell it so.
            What::Kill if self.wall_step == 0 => self.kill(),
            What::Kill => {}
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
            What::ProofAnswers { who } => self.answer_proof(who),
            What::AppAnswers { app } => self.answer_about(app),
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
        self.tell(Input::Holding { shares: Shares::ALL, until: None });
        self.soon(0, What::PassBegins);
    }

    fn kill(&mut self) {
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
                Effect::Settle { id, .. } => {
                    let who = self.index[&id];
                    Laws::begin_settlement(self, who);
                    self.go(who, Job::Settle);
                }
                Effect::Save { id } => {
                    let who = self.index[&id];
                    Laws::begin_save(self, who);
                    self.go(who, Job::Settle);
                }
                Effect::Probe { id } => {
                    let who = self.index[&id];
                    Laws::begin_check(self, who);
                    let delay = self.dice.between(1, 6);
                    self.soon(delay, What::CheckAnswers { who });
                }
                Effect::Prove { id } => {
                    let who = self.index[&id];
                    Laws::begin_proof(self, who);
                    let delay = self.dice.between(1, 6);
                    self.soon(delay, What::ProofAnswers { who });
                }
                Effect::AskAboutApp { app } => {
                    let delay = self.dice.between(1, 6);
                    self.soon(delay, What::AppAnswers { app });
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
        for Farewell { id, kept } in forgotten {
            self.memories.remove(&id);
            if let Some(kept) = kept {
                self.memories.insert(id.clone(), only_the_gate(id, kept));
            }
        }
        for memory in memories {
            Laws::remembered(self, &memory);
            self.memories.insert(memory.id.clone(), memory);
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
}

/// What our state has of an account that may come back.
fn only_the_gate(id: AccountId, kept: KeptGate) -> Memory {
    Memory {
        id,
        token: None,
        last_refresh_at: None,
        cause: None,
        cause_since: None,
        told: None,
        told_since: None,
        failed_in_a_row: 0,
        not_before: None,
        first_seen_at: None,
        door: Some(kept.door),
        left: Some(kept.left),
    }
}
