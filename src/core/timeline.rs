//! What time it is when the wall clock cannot be trusted at every moment.
//!
//! A fleet must neither expire nor refresh because somebody set the machine's clock a day ahead. So time
//! follows a steady clock (one that also counts through suspend) from where the wall clock stood at the
//! start; when the wall clock then steps, time stays where it is until a provider's `Date` header says
//! which of the two is right.
//!
//! The wall clock may also have been wrong from the start. Several providers that agree against it are then
//! believed instead, and time moves to theirs. That is where expiry arithmetic is put right: the ends that a
//! publisher wrote are instants of the real time, and so must be the ones that we write for it. An end that is
//! counted from an answer (`expires_in`) would need no correction for ourselves, which is why one provider
//! that stands alone may safely be left unbelieved: its accounts are renewed by their lives all the same, and
//! people are told of the difference.

use super::{
    Timestamp,
    witness::{Verdict, Witnesses},
};
use std::{sync::Arc, time::Duration};

/// One look at the two clocks, in seconds.
#[derive(Clone, Copy, Debug)]
pub struct Reading {
    /// A clock that never steps and counts through suspend; its zero means nothing.
    pub steady: i64,
    /// The wall clock, seconds since the Unix epoch.
    pub wall: i64,
}

/// The program's time. Pure: it is handed every reading.
#[derive(Clone, Debug)]
pub struct Timeline {
    /// Wall time minus steady time, as believed now. Changed at the start, by slewing, and by evidence.
    offset: i64,
    /// True while that is what providers said, against the wall clock.
    is_theirs: bool,
    /// What providers said.
    witnesses: Witnesses,
}

/// An answer of a provider that says what time it is.
#[derive(Clone, Copy, Debug)]
pub struct Dated<'a> {
    /// Who answered.
    pub provider: &'a Arc<str>,
    /// Its `Date` header.
    pub date: Timestamp,
    /// From sending the request to having the answer.
    pub round_trip: Duration,
}

/// A difference up to this many seconds is the wall clock being disciplined by NTP: it is followed.
pub const SLEW_SECONDS_MAX: i64 = 5;

/// A wall clock within this many seconds of a provider's `Date` header is confirmed by it: the header
/// has whole seconds and the answer took its time.
pub const DATE_AGREES_SECONDS_MAX: i64 = 60;

impl Timeline {
    /// Believes the wall clock, for want of anything better.
    #[must_use]
    pub fn start(reading: Reading) -> Self {
        let offset = reading.wall - reading.steady;
        Self { offset, is_theirs: false, witnesses: Witnesses::default() }
    }

    /// The time now. Follows small corrections of the wall clock; stays put when it steps.
    pub fn now(&mut self, reading: Reading) -> Timestamp {
        if self.step(reading).abs() <= SLEW_SECONDS_MAX {
            self.follow_wall(reading);
        }
        Timestamp::from_unix(reading.steady + self.offset)
    }

    /// A provider said what time it is, in an answer that arrived just now. Answers by how many seconds it is
    /// ahead of the time believed before.
    ///
    /// The wall clock is adopted where it and this one answer agree and we do not: two that have nothing to do
    /// with each other say the same. Without the wall clock it takes most of several providers.
    pub fn observe(&mut self, reading: Reading, dated: Dated<'_>) -> i64 {
        let believed = self.now(reading);
        let Dated { provider, date, round_trip } = dated;
        let ahead = date.as_unix() - believed.as_unix();
        let wall_agrees = (date.as_unix() - reading.wall).abs() <= DATE_AGREES_SECONDS_MAX;
        let is_off = ahead.abs() > DATE_AGREES_SECONDS_MAX;
        self.witnesses.hear(provider, date.as_unix(), reading.steady, round_trip);
        if let Verdict::Outvoted(by) = self.verdict() {
            self.offset += by;
            self.is_theirs = true;
            let step = self.step(reading);
            if step.abs() <= DATE_AGREES_SECONDS_MAX {
                // They only say what the wall clock says, and that to the second.
                self.follow_wall(reading);
            }
        } else if is_off && wall_agrees && !self.is_theirs {
            self.follow_wall(reading);
            // The steady clock did not count through what happened (a virtual machine that was stopped and went
            // on), or we began from a wrong wall clock: what was heard before says nothing about now.
            self.witnesses.forget();
            self.witnesses.hear(provider, date.as_unix(), reading.steady, round_trip);
        }
        ahead
    }

    /// What providers say of the time believed now.
    #[must_use]
    pub fn verdict(&self) -> Verdict {
        self.witnesses.verdict(self.offset, DATE_AGREES_SECONDS_MAX)
    }

    /// By how many seconds each provider is ahead of the time believed, by its last answers.
    pub fn offsets(&self) -> impl Iterator<Item = (&Arc<str>, i64)> + '_ {
        self.witnesses.each(self.offset)
    }

    /// Changes when [`Timeline::offsets`] may say something else.
    #[must_use]
    pub const fn version(&self) -> (u64, i64) {
        (self.witnesses.version(), self.offset)
    }

    /// By how many seconds the machine's clock is ahead of what several providers agreed on; zero where it is not.
    /// A publisher on the same machine writes its ends so much too late.
    #[must_use]
    pub fn machine_is_ahead_by(&self, reading: Reading) -> i64 {
        if self.is_theirs { self.step(reading).max(0) } else { 0 }
    }

    /// By how many seconds the machine's clock seems to be wrong; zero while nothing speaks against it. Not what
    /// is added to anything: it is for people.
    #[must_use]
    pub fn machine_is_off_by(&self, reading: Reading) -> i64 {
        match (self.unconfirmed_step(reading), self.verdict()) {
            (0, Verdict::Challenged(ahead)) => -ahead,
            (step, _) => step,
        }
    }

    /// Seconds by which the wall clock is ahead of the time believed; zero while they agree.
    #[must_use]
    pub const fn unconfirmed_step(&self, reading: Reading) -> i64 {
        let step = self.step(reading);
        if step.abs() <= SLEW_SECONDS_MAX { 0 } else { step }
    }

    const fn follow_wall(&mut self, reading: Reading) {
        self.offset = reading.wall - reading.steady;
        self.is_theirs = false;
    }

    const fn step(&self, reading: Reading) -> i64 {
        reading.wall - (reading.steady + self.offset)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const DAY: i64 = 86_400;
    const NOON: i64 = 1_800_000_000;

    fn at(elapsed: i64, wall_step: i64) -> Reading {
        Reading { steady: 1_000 + elapsed, wall: NOON + elapsed + wall_step }
    }

    fn says(timeline: &mut Timeline, who: &str, reading: Reading, date: Timestamp) -> i64 {
        let provider = who.into();
        timeline.observe(reading, Dated { provider: &provider, date, round_trip: Duration::ZERO })
    }

    /// Each of them answers once a minute, and its clock is ahead of the wall clock by so many seconds.
    fn hear(timeline: &mut Timeline, minutes: i64, wall_step: i64, clocks: &[(&str, i64)]) {
        for minute in 0..minutes {
            for (who, ahead) in clocks {
                let date = Timestamp::from_unix(NOON + minute * 60 + ahead);
                says(timeline, who, at(minute * 60, wall_step), date);
            }
        }
    }

    #[test]
    fn a_wall_clock_that_jumps_a_day_in_either_direction_does_not_move_time() {
        for step in [DAY, -DAY, 3_600, -3_600, 10 * 365 * DAY] {
            let mut timeline = Timeline::start(at(0, 0));
            assert_eq!(timeline.now(at(30, step)), Timestamp::from_unix(NOON + 30), "step {step}");
            assert_eq!(timeline.unconfirmed_step(at(30, step)), step);
        }
    }

    #[test]
    fn a_providers_date_that_agrees_with_the_wall_clock_confirms_the_jump() {
        let mut timeline = Timeline::start(at(0, 0));
        let ahead = says(&mut timeline, "a", at(30, DAY), Timestamp::from_unix(NOON + 30 + DAY));
        assert_eq!(ahead, DAY);
        assert_eq!(timeline.now(at(31, DAY)), Timestamp::from_unix(NOON + 31 + DAY));
        assert_eq!(timeline.unconfirmed_step(at(31, DAY)), 0);
    }

    #[test]
    fn a_providers_date_that_agrees_with_us_keeps_us_where_we_are() {
        let mut timeline = Timeline::start(at(0, 0));
        says(&mut timeline, "a", at(30, DAY), Timestamp::from_unix(NOON + 31));
        assert_eq!(timeline.now(at(32, DAY)), Timestamp::from_unix(NOON + 32));
    }

    #[test]
    fn a_provider_that_agrees_with_neither_moves_nothing() {
        let mut timeline = Timeline::start(at(0, 0));
        says(&mut timeline, "a", at(30, DAY), Timestamp::from_unix(NOON - 7 * DAY));
        assert_eq!(timeline.now(at(32, DAY)), Timestamp::from_unix(NOON + 32));
    }

    #[test]
    fn a_clock_that_is_slewed_second_by_second_is_followed() {
        let mut timeline = Timeline::start(at(0, 0));
        for second in 1..100 {
            let now = timeline.now(at(second * 60, second * 4));
            assert_eq!(now, Timestamp::from_unix(NOON + second * 64));
        }
    }

    #[test]
    fn a_suspended_machine_wakes_up_later_and_not_stepped() {
        let mut timeline = Timeline::start(at(0, 0));
        assert_eq!(timeline.now(at(DAY, 0)), Timestamp::from_unix(NOON + DAY));
        assert_eq!(timeline.unconfirmed_step(at(DAY, 0)), 0);
    }

    #[test]
    fn a_machine_whose_clock_was_wrong_from_the_start_learns_the_time_from_two_providers() {
        for wrong in [-DAY, -3_600, 3_600, DAY] {
            let mut timeline = Timeline::start(at(0, wrong));
            hear(&mut timeline, 3, wrong, &[("a", 0), ("b", 1)]);
            assert_eq!(timeline.now(at(120, wrong)), Timestamp::from_unix(NOON + 120), "{wrong}");
            assert_eq!(timeline.machine_is_off_by(at(120, wrong)), wrong);
            assert_eq!(timeline.machine_is_ahead_by(at(120, wrong)), wrong.max(0));
            // Somebody sets the clock right.
            assert_eq!(timeline.now(at(180, 0)), Timestamp::from_unix(NOON + 180), "{wrong}");
            assert_eq!(timeline.machine_is_off_by(at(180, 0)), 0);
        }
    }

    #[test]
    fn one_lying_server_moves_nothing_however_often_it_lies() {
        for others in [&[][..], &[("good", 0)], &[("good", 0), ("better", -1)]] {
            let mut timeline = Timeline::start(at(0, 0));
            for minutes in 0..50 {
                for lie in [-3_600, -DAY, DAY * 3_650] {
                    let mut clocks = others.to_vec();
                    clocks.push(("liar", lie));
                    hear(&mut timeline, minutes, 0, &clocks);
                    let now = timeline.now(at(minutes * 60, 0));
                    assert_eq!(now, Timestamp::from_unix(NOON + minutes * 60));
                }
            }
            let told = timeline.machine_is_off_by(at(0, 0));
            assert_eq!(told == 0, !others.is_empty(), "alone it is worth a word: {told}");
        }
    }

    #[test]
    fn one_server_that_lies_as_the_wall_clock_does_changes_nothing_that_several_agreed_on() {
        let mut timeline = Timeline::start(at(0, -3_600));
        hear(&mut timeline, 3, -3_600, &[("a", 0), ("b", 0)]);
        says(&mut timeline, "liar", at(180, -3_600), Timestamp::from_unix(NOON + 180 - 3_600));
        assert_eq!(timeline.now(at(180, -3_600)), Timestamp::from_unix(NOON + 180));
    }

    #[test]
    fn a_virtual_machine_that_stood_still_forgets_what_it_heard_before() {
        let mut timeline = Timeline::start(at(0, 0));
        hear(&mut timeline, 5, 0, &[("a", 0), ("b", 0)]);
        // An hour passed that the steady clock did not count; the wall clock was set right.
        says(&mut timeline, "a", at(300, 3_600), Timestamp::from_unix(NOON + 300 + 3_600));
        for minute in 6..20 {
            let late = at(minute * 60, 3_600);
            let date = Timestamp::from_unix(NOON + minute * 60 + 3_600);
            says(&mut timeline, "b", late, date);
            assert_eq!(timeline.now(late), date);
        }
    }
}
