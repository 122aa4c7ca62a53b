//! What came of one round, in words and in one line for machines.

use crate::{
    harness::Report,
    options::{Before, Course, Harm, Round},
    ordeal::Ending,
    points::{Point, Reference, Zone},
    scene::Verdict,
};
use std::collections::BTreeMap;

/// The figures of one round and every condition that does not hold.
pub(crate) fn of(
    round: Round,
    reference: &Reference,
    expected: usize,
    endings: Vec<(Point, Result<Ending, String>)>,
) -> Report {
    let mut tally = Tally::default();
    let mut calls = BTreeMap::<String, usize>::new();
    for (point, ending) in endings {
        *calls.entry(point.name.clone()).or_default() += 1;
        match ending {
            Ok(ending) => tally.count(round, &point, ending),
            Err(panic) => tally.violations.push(format!("{point}: the harness failed: {panic}")),
        }
    }
    if tally.hit * 2 < expected || tally.hit == 0 {
        tally.violations.push(format!("only {} of {expected} points were hit", tally.hit));
    }
    let window = reference.window();
    // At a start every thread has something to do, and all of their calls are counted.
    if window > WINDOW_MAX && round.course == Course::Rotation {
        let text = format!("{window} system calls between the answer and its first durable write");
        tally.violations.push(text);
    }
    if round.course == Course::Rotation && round.grace > 0 && tally.lost > 0 {
        let text = "a provider that forgives for 30 s and yet a token was lost";
        tally.violations.push(text.to_owned());
    }
    let Tally { hit, lost, silent, missed, places, mut violations } = tally;
    for violation in &mut violations {
        *violation = format!("{}: {violation}", round.sentence());
    }
    let lines = vec![
        format!(
            "{}: {expected} points, {} not met: {}",
            round.sentence(),
            missed.len(),
            missed.join(" "),
        ),
        format!("calls: {calls:?}"),
        format!("lost at: {places:?}"),
        format!(
            "{}_points={hit} lost={lost} lost_silently={silent} window_syscalls={window}",
            round.harm.as_label(),
        ),
    ];
    Report { lines, violations }
}

/// False where the first kill has cost the token, and the provider does not forgive.
fn may_be_renewed(round: Round) -> bool {
    round.course != Course::Recovery(Before::Journalling) || round.grace > 0
}

/// An error is not an end: whoever survives has the answer in his hands, once it came.
const fn may_be_lost(round: Round, zone: Zone) -> bool {
    match (round.course, round.harm) {
        (Course::Rotation, Harm::Kill) => matches!(zone, Zone::OnTheWire | Zone::Window),
        (Course::Rotation, Harm::Eio | Harm::Enospc) => matches!(zone, Zone::OnTheWire),
        (Course::Recovery(Before::Saving), _) => false,
        (Course::Recovery(Before::Journalling), _) if round.grace == 0 => true,
        // The one probe is spent, and nobody asks a third time.
        (Course::Recovery(Before::Journalling), _) => {
            matches!(zone, Zone::Noted | Zone::OnTheWire | Zone::Window)
        }
    }
}

#[derive(Default)]
struct Tally {
    hit: usize,
    lost: usize,
    silent: usize,
    missed: Vec<String>,
    places: BTreeMap<Zone, Vec<String>>,
    violations: Vec<String>,
}

impl Tally {
    fn count(&mut self, round: Round, point: &Point, ending: Ending) {
        let Ending { met, struck, verdict, requests, told } = ending;
        let is_recovery = round.course != Course::Rotation;
        match met {
            true => self.hit += 1,
            // The threads of a start take turns as they like.
            false if point.is_exact() && !is_recovery => {
                self.violations.push(format!("{point} was never met; {told}"))
            }
            false => self.missed.push(point.to_string()),
        }
        let asked_max = if round.course == Course::Recovery(Before::Saving) { 1 } else { 2 };
        if is_recovery && requests > asked_max {
            self.violations
                .push(format!("{point}: a token was asked for {requests} times; {told}"));
        }
        match verdict {
            Verdict::Alive if !may_be_renewed(round) => {
                self.violations.push(format!("{point}: alive, and the first kill was too late"));
            }
            Verdict::Alive => {}
            Verdict::Lost(cause) => {
                self.lost += 1;
                // Between the end of an attempt and the memory of what it was, only the end is known.
                if cause != TRUE_CAUSE && !(is_recovery && cause == END_ALONE) {
                    self.violations.push(format!("{point}: called {cause}; {told}"));
                }
                let zone = struck.unwrap_or(Zone::Before);
                self.places.entry(zone).or_default().push(point.to_string());
                if !may_be_lost(round, zone) {
                    self.violations.push(format!("{point} ({zone:?}): lost; {told}"));
                }
            }
            Verdict::GivenUp => {
                self.lost += 1;
                self.violations.push(format!("{point}: given up and alive; {told}"));
            }
            Verdict::Silent(what) => {
                self.silent += 1;
                self.violations.push(format!("{point} ({struck:?}): {what}; {told}"));
            }
        }
    }
}

/// More than these between the last receive and the first durable write is a step that does not belong there;
/// other threads of the program have their share in them.
const WINDOW_MAX: usize = 30;
/// What the program must call each of these losses: it knows that it had sent the token.
const TRUE_CAUSE: &str = "rotation_lost";
/// What it calls a token of which it knows that it is dead, and nothing else.
const END_ALONE: &str = "refresh_token_rejected";
