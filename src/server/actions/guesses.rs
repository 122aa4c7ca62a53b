//! How often somebody may try to log in: a few times at once, then now and then. Counted by name, so that guessing at one
//! does not keep another out, and in a table of fixed size, so that inventing names costs us nothing.

use std::time::Duration;
use tokio::time::Instant;

/// Attempts that are left, in buckets by name.
pub(super) struct Guesses([Bucket; BUCKETS]);

#[derive(Clone, Copy)]
struct Bucket {
    left: u32,
    since: Instant,
}

impl Guesses {
    pub(super) const fn new(now: Instant) -> Self {
        Self([Bucket { left: AT_ONCE_MAX, since: now }; BUCKETS])
    }

    /// Takes an attempt, or says when there is one again.
    pub(super) fn take(&mut self, bucket: usize, now: Instant) -> Result<(), Duration> {
        let bucket = &mut self.0[bucket % BUCKETS];
        let grown = now.duration_since(bucket.since).as_secs() / ONE_MORE_EVERY.as_secs();
        if grown > 0 {
            let grown = u32::try_from(grown).unwrap_or(u32::MAX);
            bucket.left = bucket.left.saturating_add(grown).min(AT_ONCE_MAX);
            bucket.since = now;
        }
        if bucket.left == 0 {
            return Err(ONE_MORE_EVERY.saturating_sub(now.duration_since(bucket.since)));
        }
        if bucket.left == AT_ONCE_MAX {
            bucket.since = now;
        }
        bucket.left -= 1;
        Ok(())
    }

    /// It was no guess.
    pub(super) fn give_back(&mut self, bucket: usize) {
        let bucket = &mut self.0[bucket % BUCKETS];
        bucket.left = (bucket.left + 1).min(AT_ONCE_MAX);
    }
}

/// Wrong attempts at one name that are taken one after the other.
const AT_ONCE_MAX: u32 = 5;

/// When there is one more.
const ONE_MORE_EVERY: Duration = Duration::from_secs(10);

const BUCKETS: usize = 256;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_few_attempts_are_taken_at_once_and_then_one_now_and_then() {
        let begin = Instant::now();
        let mut guesses = Guesses::new(begin);
        for _ in 0..AT_ONCE_MAX {
            assert_eq!(guesses.take(7, begin), Ok(()));
        }
        assert_eq!(guesses.take(7, begin), Err(ONE_MORE_EVERY));
        assert_eq!(guesses.take(8, begin), Ok(()), "another name is not kept out");
        assert_eq!(guesses.take(7, begin + ONE_MORE_EVERY), Ok(()));
        assert!(guesses.take(7, begin + ONE_MORE_EVERY).is_err());
        let much_later = begin + ONE_MORE_EVERY * 1000;
        for _ in 0..AT_ONCE_MAX {
            assert_eq!(guesses.take(7, much_later), Ok(()));
        }
        assert!(guesses.take(7, much_later).is_err(), "what nobody used is not saved up");
    }

    #[test]
    fn who_is_right_uses_up_nothing() {
        let now = Instant::now();
        let mut guesses = Guesses::new(now);
        for _ in 0..AT_ONCE_MAX * 3 {
            assert_eq!(guesses.take(3, now), Ok(()));
            guesses.give_back(3);
        }
    }
}
