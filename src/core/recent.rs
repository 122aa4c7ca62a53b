//! What happened to an account lately, for whoever looks at its page: renewals, gates, causes, and how many 401s each
//! hour brought.
//!
//! It is kept in memory only, from when this process looks after the account: a restart forgets it, and whoever shows
//! it must say since when it counts. What must outlive a restart is in [`super::history`]. Nothing is decided by it.

use super::{AccountId, Cause, Event, Gate, Timestamp, gate::Why};

/// What happened to one account since this process looks after it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Recent {
    /// The newest last; at most [`MARKS_KEPT_MAX`].
    marks: Vec<Mark>,
    /// `None` while nobody reported a 401: that is most accounts, always.
    unauthorized: Option<Box<Hours>>,
}

/// Something happened.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Mark {
    /// When.
    pub at: Timestamp,
    /// What.
    pub what: Happening,
}

/// What can happen that is worth a line on a page. Failures are not among them: [`super::history`] keeps those.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Happening {
    /// The account has a token that it did not have before.
    NewToken {
        /// Who brought it.
        from: Origin,
        /// Its declared end.
        ends: Option<Timestamp>,
    },
    /// A new token was received and the store did not take it.
    Unsaved,
    /// Something else is wrong than before; `None` when it became well.
    Became(Option<Cause>),
    /// Its gate moved; why it is, or was last, held.
    Gate(Gate, Option<Why>),
    /// The provider was asked whether the account could publish, and said yes or no.
    PublishChecked(bool),
    /// Its access token was tried, and the provider takes it or not.
    Tried(bool),
}

/// Who brought a token.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Origin {
    /// A refresh of ours.
    Refresh,
    /// Somebody put it into the store.
    Store,
    /// Its owner connected the account again, by a link of ours.
    Consent,
    /// A refresh for another account with the same credential.
    Shared,
    /// We put the newest one back after somebody had written an old one.
    Restored,
}

/// How often something happened in each of the last hours.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Hours {
    /// The hour of the last entry, counted from 1970.
    newest: u32,
    /// The newest last.
    counts: [u16; HOURS],
}

impl Recent {
    /// The account that an event is about, if it is one that [`Recent::note`] keeps.
    #[must_use]
    pub fn subject(event: &Event) -> Option<&AccountId> {
        match event {
            Event::Refreshed { id, .. }
            | Event::Adopted { id }
            | Event::Reconnected { id }
            | Event::Shared { id }
            | Event::Restored { id }
            | Event::Unsaved { id }
            | Event::CauseChanged { id, .. }
            | Event::GateMoved { id, .. }
            | Event::PublishChecked { id, .. }
            | Event::Probed { id, .. }
            | Event::ResponsesReported { id, status: UNAUTHORIZED, .. } => Some(id),
            _ => None,
        }
    }

    /// Keeps what `event` says. `ends` is the declared end of the token that the account has now; `most` is how many
    /// marks may be kept.
    pub fn note(&mut self, now: Timestamp, event: &Event, ends: Option<Timestamp>, most: usize) {
        let new_token = |from| Happening::NewToken { from, ends };
        let what = match event {
            Event::Refreshed { .. } => new_token(Origin::Refresh),
            Event::Adopted { .. } => new_token(Origin::Store),
            Event::Reconnected { .. } => new_token(Origin::Consent),
            Event::Shared { .. } => new_token(Origin::Shared),
            Event::Restored { .. } => new_token(Origin::Restored),
            Event::Unsaved { .. } => Happening::Unsaved,
            Event::CauseChanged { to, .. } => Happening::Became(*to),
            Event::GateMoved { to, why, .. } => Happening::Gate(*to, *why),
            Event::PublishChecked { result: "passed", .. } => Happening::PublishChecked(true),
            Event::PublishChecked { result: "refused", .. } => Happening::PublishChecked(false),
            Event::Probed { result: "alive", .. } => Happening::Tried(true),
            Event::Probed { result: "refused", .. } => Happening::Tried(false),
            Event::ResponsesReported { status: UNAUTHORIZED, times, .. } => {
                return self.count_unauthorized(now, *times);
            }
            _ => return,
        };
        self.mark(Mark { at: now, what }, most.min(MARKS_KEPT_MAX));
    }

    /// What happened, the newest last.
    #[must_use]
    pub fn marks(&self) -> &[Mark] {
        &self.marks
    }

    /// 401s in each of the last [`HOURS`] hours by the clock, the one that is running last.
    #[must_use]
    pub fn unauthorized(&self, now: Timestamp) -> [u16; HOURS] {
        let mut hours = self.unauthorized.as_deref().copied().unwrap_or_else(|| Hours::at(now));
        hours.turn_to(hour_of(now));
        hours.counts
    }

    /// What goes on and on is one mark, of the last time.
    fn mark(&mut self, mark: Mark, most: usize) {
        let repeats = matches!(mark.what, Happening::Tried(_) | Happening::PublishChecked(_));
        if repeats && self.marks.last().is_some_and(|last| last.what == mark.what) {
            self.marks.pop();
        }
        if self.marks.len() >= most {
            self.marks.drain(..=self.marks.len() - most);
        }
        // A million accounts have one of these: what doubling would leave empty is not spent.
        self.marks.reserve_exact(1);
        self.marks.push(mark);
    }

    fn count_unauthorized(&mut self, now: Timestamp, times: u32) {
        let hours = self.unauthorized.get_or_insert_with(|| Box::new(Hours::at(now)));
        hours.turn_to(hour_of(now));
        let running = &mut hours.counts[HOURS - 1];
        *running = running.saturating_add(u16::try_from(times).unwrap_or(u16::MAX));
    }
}

impl Hours {
    const fn at(now: Timestamp) -> Self {
        Self { newest: hour_of(now), counts: [0; HOURS] }
    }

    /// Lets go what is too long ago. A clock that was set back moves nothing.
    fn turn_to(&mut self, hour: u32) {
        let passed = hour.saturating_sub(self.newest) as usize;
        if passed == 0 {
            return;
        }
        self.counts.rotate_left(passed.min(HOURS) % HOURS);
        self.counts[HOURS - passed.min(HOURS)..].fill(0);
        self.newest = hour;
    }
}

const fn hour_of(at: Timestamp) -> u32 {
    // Seconds fit four bytes.
    (at.as_unix() / 3_600) as u32
}

/// Hours of which 401s are kept.
pub const HOURS: usize = 24;

/// Marks that are kept of an account.
pub const MARKS_KEPT_MAX: usize = 32;

const UNAUTHORIZED: u16 = 401;

#[cfg(test)]
mod tests {
    use super::*;

    fn at(seconds: i64) -> Timestamp {
        Timestamp::from_unix(1_800_000_000 + seconds)
    }

    fn id() -> AccountId {
        AccountId::new("tiktok", "a")
    }

    fn unauthorized(times: u32) -> Event {
        Event::ResponsesReported { id: id(), status: 401, times }
    }

    fn noted(events: impl IntoIterator<Item = (i64, Event)>) -> Recent {
        let mut recent = Recent::default();
        for (seconds, event) in events {
            recent.note(at(seconds), &event, None, MARKS_KEPT_MAX);
        }
        recent
    }

    #[test]
    fn each_hour_of_the_last_day_has_its_own_count() {
        let recent = noted([(0, unauthorized(2)), (10, unauthorized(1)), (7_200, unauthorized(4))]);
        let rows = [
            (7_200, 21, 3, 4),
            (3_600 * 23, 0, 3, 0),
            (3_600 * 24, 1, 4, 0),
            (3_600 * 25, 0, 4, 0),
        ];
        for (now, hour, count, running) in rows {
            let hours = recent.unauthorized(at(now));
            assert_eq!((hours[hour], hours[HOURS - 1]), (count, running), "{now}: {hours:?}");
        }
        assert_eq!(recent.unauthorized(at(3_600 * 26)), [0; HOURS], "a day later nothing is left");
        assert_eq!(recent.unauthorized(at(86_400 * 400)), [0; HOURS]);
    }

    #[test]
    fn a_clock_that_is_set_back_loses_no_count() {
        let recent = noted([(7_200, unauthorized(1)), (0, unauthorized(1))]);
        assert_eq!(recent.unauthorized(at(0)).iter().sum::<u16>(), 2);
    }

    #[test]
    fn a_count_stops_at_its_end() {
        let recent = noted([(0, unauthorized(u32::MAX)), (1, unauthorized(9))]);
        assert_eq!(recent.unauthorized(at(1))[HOURS - 1], u16::MAX);
    }

    #[test]
    fn only_the_last_marks_are_kept_and_checks_that_say_the_same_are_one() {
        let probed = |result| Event::Probed { id: id(), result };
        let recent = noted([(0, probed("alive")), (5, probed("unknown")), (9, probed("alive"))]);
        assert_eq!(recent.marks(), [Mark { at: at(9), what: Happening::Tried(true) }]);
        let refreshed = |seconds| (seconds, Event::Refreshed { id: id(), expires_at: None });
        let recent = noted((0..100).map(refreshed));
        assert_eq!(recent.marks().len(), MARKS_KEPT_MAX);
        assert_eq!(recent.marks().last().unwrap().at, at(99));
        assert_eq!(recent.marks.capacity(), MARKS_KEPT_MAX, "nothing is reserved in vain");
    }

    #[test]
    fn what_is_kept_of_an_account_is_small() {
        assert!(size_of::<Mark>() <= 12, "{} bytes", size_of::<Mark>());
        assert!(size_of::<Recent>() <= 32, "{} bytes", size_of::<Recent>());
    }
}
