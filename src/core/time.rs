//! Instants for the core: whole seconds on the Unix scale, four bytes, never failing.
//!
//! There is no way to ask what time it is in here; `now` is always an argument.

use std::{fmt, num::NonZeroU32, time::Duration};

/// An instant in whole seconds since 1970-01-01T00:00:00Z.
///
/// Four bytes, and `Option<Timestamp>` is four bytes too: a fleet of a million accounts holds ten of
/// them per account. Arithmetic saturates, so a provider's `expires_in` of 2^63 is the end of the
/// scale and not a panic.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Timestamp(NonZeroU32);

impl Timestamp {
    /// The first instant that can be expressed, one second after the epoch.
    pub const MIN: Self = Self(NonZeroU32::MIN);
    /// The last instant that can be expressed, in the year 2106.
    pub const MAX: Self = Self(NonZeroU32::MAX);

    /// The instant `seconds` after the epoch, or the nearest one that can be expressed.
    #[must_use]
    pub const fn from_unix(seconds: i64) -> Self {
        if seconds < 1 {
            return Self::MIN;
        }
        if seconds >= u32::MAX as i64 {
            return Self::MAX;
        }
        match NonZeroU32::new(seconds as u32) {
            Some(seconds) => Self(seconds),
            None => Self::MIN,
        }
    }

    /// Seconds since the epoch.
    #[must_use]
    pub const fn as_unix(self) -> i64 {
        self.0.get() as i64
    }

    /// This instant moved later. Part of a second counts as a whole one: what is asked to happen
    /// later must not be found due at once.
    #[must_use]
    pub fn plus(self, duration: Duration) -> Self {
        let seconds = duration.as_secs().saturating_add(u64::from(duration.subsec_nanos() > 0));
        Self(self.0.saturating_add(u32::try_from(seconds).unwrap_or(u32::MAX)))
    }

    /// This instant moved earlier by whole seconds.
    #[must_use]
    pub fn minus(self, duration: Duration) -> Self {
        let seconds = i64::try_from(duration.as_secs()).unwrap_or(i64::MAX);
        Self::from_unix(self.as_unix().saturating_sub(seconds))
    }

    /// How long after `earlier` this is; nothing when it is not after it.
    #[must_use]
    pub fn since(self, earlier: Self) -> Duration {
        Duration::from_secs(u64::from(self.0.get().saturating_sub(earlier.0.get())))
    }

    /// Seconds from `now` until this instant, negative when it has passed.
    #[must_use]
    pub const fn seconds_from(self, now: Self) -> i64 {
        self.as_unix() - now.as_unix()
    }

    /// True when the instant has come.
    #[must_use]
    pub fn has_come(self, now: Self) -> bool {
        self <= now
    }
}

impl fmt::Debug for Timestamp {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "@{}", self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn arithmetic_stops_at_the_ends_of_the_scale() {
        assert_eq!(Timestamp::from_unix(i64::MAX), Timestamp::MAX);
        assert_eq!(Timestamp::from_unix(-5), Timestamp::MIN);
        assert_eq!(Timestamp::MAX.plus(Duration::MAX), Timestamp::MAX);
        assert_eq!(Timestamp::from_unix(10).minus(Duration::from_secs(u64::MAX)), Timestamp::MIN);
    }

    #[test]
    fn a_part_of_a_second_later_is_later() {
        let now = Timestamp::from_unix(100);
        assert!(now.plus(Duration::from_millis(1)) > now);
    }

    #[test]
    fn an_unknown_instant_costs_no_room() {
        assert_eq!(size_of::<Option<Timestamp>>(), 4);
    }
}
