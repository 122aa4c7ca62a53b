//! The pure core lives through months of trouble in seconds.

#[path = "simulation/cast.rs"]
mod cast;
#[path = "simulation/dice.rs"]
mod dice;
#[path = "simulation/laws.rs"]
mod laws;
#[path = "simulation/world.rs"]
mod world;

use cast::DAY;
use laws::Laws;
use oauth_keepalive::core::schedule::Policy;
use std::time::Instant;
use world::{Plan, World};

/// Tight enough that accounts wait for room.
fn policy() -> Policy {
    Policy { in_flight_max: 12, in_flight_per_app_max: 5, ..Policy::default() }
}

fn number(variable: &str) -> Option<u64> {
    std::env::var(variable).ok()?.parse().ok()
}

#[test]
fn every_law_holds_through_months_of_trouble() {
    let seeds: Vec<u64> = match number("SEED") {
        Some(seed) => vec![seed],
        None => (1..=number("SEEDS").unwrap_or(6)).collect(),
    };
    let (mut years, mut refreshes, began) = (0.0, 0, Instant::now());
    for seed in seeds {
        let plan = Plan { seed, cast: [12, 40, 40, 20], days: 60, rough: true, minted_at_once: false, policy: policy() };
        println!("SEED={seed}");
        let mut world = World::new(plan);
        world.play(world.began + 60 * DAY);
        Laws::settled(&mut world);
        let renewed: u64 = world.people.iter().map(|person| person.refreshes).sum();
        println!("  {renewed} refreshes, {} notices, {} restarts", world.laws.notices, world.laws.restarts);
        years += Laws::years(&world);
        refreshes += renewed;
    }
    println!("{years:.0} account-years, {refreshes} refreshes in {:.1} s", began.elapsed().as_secs_f64());
}
