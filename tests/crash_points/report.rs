//! What came of one round, in words and in one line for machines.

use crate::{
    options::{Harm, Round},
    ordeal::Ending,
    points::{Point, Reference, Zone},
    scene::Verdict,
};
use std::{collections::BTreeMap, time::Duration};

/// The figures and every condition that does not hold.
pub(crate) struct Report {
    lines: Vec<String>,
    pub(crate) violations: Vec<String>,
}

impl Report {
    pub(crate) fn of(
        round: Round,
        reference: &Reference,
        expected: usize,
        endings: Vec<(Point, Result<Ending, String>)>,
        took: Duration,
    ) -> Self {
        let mut tally = Tally::default();
        for (point, ending) in endings {
            match ending {
                Ok(ending) => tally.count(round, &point, ending),
                Err(panic) => {
                    tally.violations.push(format!("{point}: the harness failed: {panic}"))
                }
            }
        }
        if tally.hit == 0 {
            tally.violations.push("not one point was hit".to_owned());
        }
        if reference.window() > WINDOW_MAX {
            let window = reference.window();
            let text =
                format!("{window} system calls between the answer and its first durable write");
            tally.violations.push(text);
        }
        if round.grace > 0 && tally.lost > 0 {
            tally
                .violations
                .push("a provider that forgives for 30 s and yet a token was lost".to_owned());
        }
        let Tally { hit, lost, silent, missed, places, mut violations } = tally;
        for violation in &mut violations {
            *violation = format!("{}: {violation}", round.harm.as_label());
        }
        let lines = vec![
            format!(
                "{} at {expected} points, grace {} s, in {} s; {} not met: {}",
                round.harm.as_label(),
                round.grace,
                took.as_secs(),
                missed.len(),
                missed.join(" "),
            ),
            format!("lost at: {places:?}"),
            format!(
                "{}_points={hit} lost={lost} lost_silently={silent} window_syscalls={}",
                round.harm.as_label(),
                reference.window(),
            ),
        ];
        Self { lines, violations }
    }

    pub(crate) fn print(&self) {
        for violation in &self.violations {
            println!("VIOLATED {violation}");
        }
        for line in &self.lines {
            println!("{line}");
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
        let Ending { met, struck, verdict, told } = ending;
        match met {
            true => self.hit += 1,
            false if point.is_exact() => {
                self.violations.push(format!("{point} was never met; {told}"))
            }
            false => self.missed.push(point.to_string()),
        }
        match verdict {
            Verdict::Alive => {}
            Verdict::Lost(cause) => {
                self.lost += 1;
                if cause != TRUE_CAUSE {
                    self.violations.push(format!("{point}: called {cause}; {told}"));
                }
                let zone = struck.unwrap_or(Zone::Before);
                self.places.entry(zone).or_default().push(point.to_string());
                // An error is not an end: whoever survives has the answer in his hands, once it came.
                let may_be_lost = match round.harm {
                    Harm::Kill => matches!(zone, Zone::OnTheWire | Zone::Window),
                    Harm::Eio | Harm::Enospc => zone == Zone::OnTheWire,
                };
                if !may_be_lost {
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
