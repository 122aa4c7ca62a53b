//! The whole program, but for its disks and sockets, in an invented world: real keeper, clerk, loader,
//! refresher and fleet, and the real tables and statements of our state, on one thread and a clock that jumps
//! from event to event. Providers, the publisher with its store, what lies between us and our state, clocks,
//! and one to three replicas are simulated, each with latency and faults of its own.

mod faults;
mod laws;
mod nature;
mod provider;
mod replica;
mod store;
mod truth;
mod world;

use crate::dice::Dice;
use faults::Fault;
use oauth_keepalive::core::schedule::Policy;
use replica::PROVIDERS;
use std::{
    cmp::Reverse,
    collections::{BTreeMap, BinaryHeap},
    sync::Arc,
};
use truth::{HOUR, MINUTE, Maker, Millis, Player};
use world::{Broken, World, clock};

/// How long a world is played, and from when on nothing goes wrong any more.
const PLAYED: Millis = 10 * HOUR;
const QUIET_FROM: Millis = 6 * HOUR + 30 * MINUTE;

/// How often the laws are looked at.
const SWEPT_EVERY: Millis = 5 * MINUTE;

/// How often it is looked whether two replicas show the same account.
const SHOWN_LOOKED_AT_EVERY: Millis = 7_300;

/// Lines of a timeline that are printed, unless `SIMULATION_LINES` says otherwise.
const LINES_SHOWN: u64 = 80;

/// What was played.
#[derive(Default)]
pub(crate) struct Summary {
    pub(crate) seeds: u64,
    pub(crate) years: f64,
    pub(crate) account_years: f64,
    pub(crate) refreshes: u64,
    pub(crate) requests: u64,
    pub(crate) lives: u64,
    pub(crate) mails: u64,
    pub(crate) replicas: [u64; 3],
    pub(crate) faults: BTreeMap<&'static str, u64>,
    /// Of everything that happened: the same seed leads to the same number.
    pub(crate) digest: u64,
}

/// A law that did not hold, with what led to it.
pub(crate) struct Failure {
    broken: Broken,
    timeline: Vec<(Millis, Option<usize>, String)>,
}

/// Plays one seed without the faults in `without`.
fn play(seed: u64, without: u64, records: bool) -> Result<Summary, Box<Failure>> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_time()
        .start_paused(true)
        .build()
        .expect("a runtime of one thread needs nothing");
    runtime.block_on(run(seed, without, records))
}

async fn run(seed: u64, without: u64, records: bool) -> Result<Summary, Box<Failure>> {
    let mut dice = Dice::new(seed ^ 0xca57);
    let drawn = [1, 1, 1, 1, 1, 2, 2, 3][dice.index(8)];
    let replicas = crate::number("SIMULATION_REPLICAS").map_or(drawn, |count| count as usize);
    let world = World::new(seed, without, replicas, records);
    let policy = Policy::default();
    let players = dice.between(3, 7) as usize;
    for who in 0..players {
        let app = dice.index(2);
        let life = dice.between(40, 120) * MINUTE;
        let mut player = Player::new(who, app, PROVIDERS[app], life);
        let age = dice.between(0, life / 2);
        player.mint(Maker::Owner, -age);
        player.put(0, -age, 0);
        world.truth().players.push(player);
    }
    let mut agenda = BinaryHeap::new();
    for (fault, every) in nature::HAZARDS {
        let first = world.truth().faults.die(fault).between(every / 4, every * 5 / 4);
        agenda.push(Reverse((first, fault as usize)));
    }
    for replica in 0..replicas {
        let mut truth = world.truth();
        if truth.faults.strikes(Fault::ClockSkew, 4_000) {
            truth.skews[replica] = truth.faults.die(Fault::ClockSkew).between(-20, 20);
        }
        drop(truth);
        nature::start(&world, replica, policy);
    }
    let (mut next_sweep, mut dues) = (SWEPT_EVERY, laws::Dues::new());
    loop {
        let mut next = agenda.peek().map_or(PLAYED, |Reverse((at, _))| *at).min(next_sweep);
        if replicas > 1 {
            next = next.min(world.now() + SHOWN_LOOKED_AT_EVERY);
            laws::shown_once(&mut world.truth());
        }
        let next = next.min(PLAYED);
        world.sleep(next - world.now()).await;
        let now = world.now();
        if now >= QUIET_FROM {
            end_trouble(&world);
        }
        if now >= next_sweep {
            next_sweep += SWEPT_EVERY;
            laws::sweep(&world, &mut dues).await;
        }
        while let Some(Reverse((at, fault))) = agenda.peek().copied()
            && at <= now
        {
            agenda.pop();
            let (fault, _) = Fault::ALL[fault];
            let every =
                nature::HAZARDS.iter().find(|(own, _)| *own == fault).map_or(HOUR, |own| own.1);
            let wait = world.truth().faults.die(fault).between(every / 2, every * 3 / 2);
            agenda.push(Reverse((now + wait, fault as usize)));
            nature::strike(&world, fault, policy).await;
        }
        if world.truth().broken.is_some() || now >= PLAYED {
            break;
        }
    }
    if world.truth().broken.is_none() {
        laws::settled(&world, &mut dues).await;
    }
    let outcome = conclude(&world, replicas);
    // The processes hold the world and the world holds them.
    world.truth().processes.clear();
    outcome
}

/// From here on nothing goes wrong, and nobody who is broken is mended.
fn end_trouble(world: &World) {
    let mut truth = world.truth();
    truth.faults.over = true;
}

fn conclude(world: &Arc<World>, replicas: usize) -> Result<Summary, Box<Failure>> {
    let mut truth = world.truth();
    if let Some(broken) = truth.broken.take() {
        let timeline = truth.timeline.take().unwrap_or_default();
        return Err(Box::new(Failure { broken, timeline }));
    }
    let refreshes = truth.players.iter().map(|player| player.refreshes).sum();
    let mut summary = Summary {
        seeds: 1,
        years: PLAYED as f64 / (365 * 24 * HOUR) as f64,
        account_years: truth.players.len() as f64 * PLAYED as f64 / (365 * 24 * HOUR) as f64,
        refreshes,
        requests: truth.requests,
        lives: truth.lives,
        mails: truth.mails.len() as u64,
        faults: truth.fault_counts(),
        ..Summary::default()
    };
    summary.replicas[replicas - 1] = 1;
    let last_die = truth.io.between(0, i64::from(u32::MAX)) as u64;
    let parts = truth.mails.iter().map(|mail| mail.at as u64);
    let ends =
        truth.players.iter().map(|player| player.tokens.last().map_or(0, |one| one.at as u64));
    summary.digest = parts
        .chain(ends)
        .chain([truth.requests, refreshes, last_die])
        .fold(0, |digest: u64, part| digest.rotate_left(7).wrapping_mul(0x0100_0000_01b3) ^ part);
    Ok(summary)
}

impl Summary {
    pub(crate) fn add(&mut self, other: &Self) {
        self.seeds += other.seeds;
        self.years += other.years;
        self.account_years += other.account_years;
        self.refreshes += other.refreshes;
        self.requests += other.requests;
        self.lives += other.lives;
        self.mails += other.mails;
        for (mine, theirs) in self.replicas.iter_mut().zip(other.replicas) {
            *mine += theirs;
        }
        for (name, count) in &other.faults {
            *self.faults.entry(name).or_default() += count;
        }
        self.digest ^= other.digest;
    }
}

/// Plays one seed; a failure is made smaller, and told with the command that repeats it.
pub(crate) fn judge(seed: u64, without: u64, shrinks: bool) -> Result<Summary, String> {
    let failure = match play(seed, without, false) {
        Ok(summary) => return Ok(summary),
        Err(failure) => failure,
    };
    let law = failure.broken.law;
    let mut smaller = without;
    for (fault, _) in Fault::ALL {
        let tried = smaller | fault.bit();
        if shrinks
            && tried != smaller
            && matches!(play(seed, tried, false), Err(same) if same.broken.law == law)
        {
            smaller = tried;
        }
    }
    let told = match play(seed, smaller, true) {
        Err(failure) => *failure,
        Ok(_) => *failure,
    };
    Err(tell(seed, without, smaller, &told))
}

fn tell(seed: u64, without: u64, smaller: u64, failure: &Failure) -> String {
    let names = |mask: u64| {
        let which = Fault::ALL.iter().filter(|(fault, _)| mask & fault.bit() != 0);
        which.map(|(_, name)| *name).collect::<Vec<_>>().join(",")
    };
    let who = failure.broken.who;
    let concerns = |of: &Option<usize>| of.is_none() || who.is_none() || *of == who;
    let lines: Vec<String> = failure
        .timeline
        .iter()
        .filter(|(_, of, _)| concerns(of))
        .map(|(at, of, what)| {
            let of = of.map_or_else(|| "-".to_owned(), |of| of.to_string());
            format!("  {} {of:>2} {what}", clock(*at))
        })
        .collect();
    let shown = crate::number("SIMULATION_LINES").unwrap_or(LINES_SHOWN);
    let from = lines.len().saturating_sub(shown as usize);
    let left = names(Fault::ALL.iter().fold(0, |all, (fault, _)| all | fault.bit()) & !smaller);
    format!(
        "seed {seed}: {}\n{}\nit takes no more than: {left}\nagain: SIMULATION_SEED={seed} SIMULATION_WITHOUT={} cargo test --test simulation whole -- --nocapture\n(first seen without: {})",
        failure.broken,
        lines[from..].join("\n"),
        names(smaller),
        names(without),
    )
}

/// The faults in a list of names, as `SIMULATION_WITHOUT` gives it.
pub(crate) fn mask(names: &str) -> u64 {
    let named = |name: &str| {
        Fault::named(name).unwrap_or_else(|| panic!("there is no fault named {name}")).bit()
    };
    names.split(',').filter(|name| !name.is_empty()).map(named).fold(0, |all, one| all | one)
}

/// True when the same seed leads to the same end twice.
pub(crate) fn repeats(seed: u64) -> bool {
    let digest = |()| play(seed, 0, false).map(|summary| summary.digest).ok();
    digest(()) == digest(())
}
