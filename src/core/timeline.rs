//! What time it is when the wall clock cannot be trusted at every moment.
//!
//! A fleet must neither expire nor refresh because somebody set the machine's clock a day ahead. So time
//! follows a steady clock (one that also counts through suspend) from where the wall clock stood at the
//! start; when the wall clock then steps, time stays where it is until a provider's `Date` header says
//! which of the two is right.

use super::Timestamp;

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
}

/// A difference up to this many seconds is the wall clock being disciplined by NTP: it is followed.
pub const SLEW_SECONDS_MAX: i64 = 5;

/// A wall clock within this many seconds of a provider's `Date` header is confirmed by it: the header
/// has whole seconds and the answer took its time.
pub const DATE_AGREES_SECONDS_MAX: i64 = 60;

impl Timeline {
    /// Believes the wall clock, for want of anything better.
    #[must_use]
    pub const fn start(reading: Reading) -> Self {
        Self { offset: reading.wall - reading.steady }
    }

    /// The time now. Follows small corrections of the wall clock; stays put when it steps.
    pub fn now(&mut self, reading: Reading) -> Timestamp {
        if self.step(reading).abs() <= SLEW_SECONDS_MAX {
            self.offset = reading.wall - reading.steady;
        }
        Timestamp::from_unix(reading.steady + self.offset)
    }

    /// A provider said it is `date`. Adopts the wall clock where that agrees with it and we do not.
    /// Answers by how many seconds the provider is ahead of the time believed before.
    pub fn observe_date(&mut self, reading: Reading, date: Timestamp) -> i64 {
        let believed = self.now(reading);
        let ahead = date.as_unix() - believed.as_unix();
        let wall_agrees = (date.as_unix() - reading.wall).abs() <= DATE_AGREES_SECONDS_MAX;
        if ahead.abs() > DATE_AGREES_SECONDS_MAX && wall_agrees {
            self.offset = reading.wall - reading.steady;
        }
        ahead
    }

    /// Seconds by which the wall clock is ahead of the time believed; zero while they agree.
    #[must_use]
    pub const fn unconfirmed_step(&self, reading: Reading) -> i64 {
        let step = self.step(reading);
        if step.abs() <= SLEW_SECONDS_MAX { 0 } else { step }
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
        let ahead = timeline.observe_date(at(30, DAY), Timestamp::from_unix(NOON + 30 + DAY));
        assert_eq!(ahead, DAY);
        assert_eq!(timeline.now(at(31, DAY)), Timestamp::from_unix(NOON + 31 + DAY));
        assert_eq!(timeline.unconfirmed_step(at(31, DAY)), 0);
    }

    #[test]
    fn a_providers_date_that_agrees_with_us_keeps_us_where_we_are() {
        let mut timeline = Timeline::start(at(0, 0));
        timeline.observe_date(at(30, DAY), Timestamp::from_unix(NOON + 31));
        assert_eq!(timeline.now(at(32, DAY)), Timestamp::from_unix(NOON + 32));
    }

    #[test]
    fn a_provider_that_agrees_with_neither_moves_nothing() {
        let mut timeline = Timeline::start(at(0, 0));
        timeline.observe_date(at(30, DAY), Timestamp::from_unix(NOON - 7 * DAY));
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
}
