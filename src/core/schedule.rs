//! When a token is due, how due instants spread, how long to back off.
//!
//! Every instant comes from the token's own declared life, so tokens of two hours, a day and sixty days
//! need no constant. Nothing is drawn at random: asked twice, it answers the same.

use super::{AccountId, Timestamp, TokenFacts};
use std::time::Duration;

/// When and how hard to refresh. The settings of the same names say why.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Policy {
    /// Share of a token's own life after which it is due.
    pub due_fraction: f64,
    /// Share of the life by which due instants spread before that point.
    pub spread_fraction: f64,
    /// Share of the life left at which trouble stops being transient.
    pub danger_fraction: f64,
    /// The life to assume where nobody declared one.
    pub assumed_life: Duration,
    /// First pause after a failure, and the least distance between two refreshes of one account.
    pub backoff_first: Duration,
    /// Longest pause between two attempts.
    pub backoff_max: Duration,
    /// Refreshes under way in all.
    pub in_flight_max: usize,
    /// Refreshes under way per app.
    pub in_flight_per_app_max: usize,
    /// Refused requests in a row after which an app is frozen.
    pub app_refusals_max: u32,
}

impl Default for Policy {
    fn default() -> Self {
        Self {
            due_fraction: 2.0 / 3.0,
            spread_fraction: 0.3,
            danger_fraction: 0.15,
            assumed_life: Duration::from_secs(3_600),
            backoff_first: Duration::from_secs(5),
            backoff_max: Duration::from_secs(900),
            in_flight_max: 64,
            in_flight_per_app_max: 5,
            app_refusals_max: 3,
        }
    }
}

/// A `Retry-After` beyond this is taken for a mistake of the provider's and cut to it: a header must not
/// be able to switch an account off for a year.
pub const RETRY_AFTER_MAX: Duration = Duration::from_secs(24 * 3_600);

/// When `token` should be renewed, were it renewable.
///
/// A share of its own life after it was issued, earlier by up to the spread, but not before `min_age`.
/// Where the refresh token ends first, one last refresh is due shortly before that end, so that the
/// last access token lives as long as it can.
#[must_use]
pub fn due(id: &AccountId, token: &TokenFacts, min_age: Duration, policy: &Policy) -> Timestamp {
    let life = token.life().unwrap_or(policy.assumed_life);
    let share = policy.due_fraction - policy.spread_fraction * spread(id, token.issued_at);
    let by_life = token.issued_at.plus(floor_seconds(life.mul_f64(share.clamp(0.0, 1.0))));
    let due = by_life.max(token.issued_at.plus(min_age));
    let Some(end) = token.refresh_expires_at else {
        return due;
    };
    let last_chance = end.minus(floor_seconds(life.mul_f64(policy.danger_fraction)));
    // Only a token issued before that point gets the extra refresh; the one it brings does not, or each
    // refresh would ask for the next at once.
    if token.issued_at < last_chance { due.min(last_chance) } else { due }
}

/// From when on trouble with `token` concerns people; `None` when nobody declared its end.
#[must_use]
pub fn danger_from(token: &TokenFacts, policy: &Policy) -> Option<Timestamp> {
    let life = token.life()?;
    Some(token.expires_at?.minus(floor_seconds(life.mul_f64(policy.danger_fraction))))
}

/// How long one confirmation of a 401 answers for the next ones.
#[must_use]
pub fn confirmation_margin(token: &TokenFacts, policy: &Policy) -> Duration {
    let life = token.life().unwrap_or(policy.assumed_life);
    floor_seconds(life.mul_f64(policy.danger_fraction)).max(policy.backoff_first)
}

/// How long to leave an account alone after `failed_in_a_row` refreshes that brought nothing: one retry soon,
/// and no third request within the minute, whatever the first pause is. Only a longest pause that is shorter
/// still goes before that.
#[must_use]
pub fn retry_pause(id: &AccountId, failed_in_a_row: u16, policy: &Policy) -> Duration {
    let pause = backoff(id, failed_in_a_row, policy);
    if failed_in_a_row < 2 {
        return pause;
    }
    let less = AFTER_RETRY.mul_f64(0.25 * fraction(hash(id, u64::from(failed_in_a_row))));
    pause.max((AFTER_RETRY - less).min(policy.backoff_max))
}

/// The least of `pause` that must pass although the provider would listen sooner: nothing after the first failure, and
/// so much after the others that no third request falls into the minute.
#[must_use]
pub fn spacing(failed_in_a_row: u16, pause: Duration) -> Duration {
    if failed_in_a_row < 2 { Duration::ZERO } else { pause.min(AFTER_RETRY) }
}

/// How long to wait after `failed_in_a_row` failures: doubled each time from the first pause, up to the
/// longest, less up to a quarter that is fixed by account and count, so that accounts which failed
/// together do not come back together.
#[must_use]
pub fn backoff(id: &AccountId, failed_in_a_row: u16, policy: &Policy) -> Duration {
    let doublings = u32::from(failed_in_a_row.saturating_sub(1)).min(20);
    let full = policy.backoff_first.saturating_mul(1 << doublings).min(policy.backoff_max);
    let less = full.mul_f64(0.25 * fraction(hash(id, u64::from(failed_in_a_row))));
    (full - less).max(policy.backoff_first.min(policy.backoff_max))
}

/// A number from 0 up to 1, fixed by the account and the moment its token was issued: each new token
/// moves the account elsewhere in the spread, and asking again moves nothing.
#[must_use]
pub fn spread(id: &AccountId, issued_at: Timestamp) -> f64 {
    // A fresh draw for each look would move the instant about and could step over it for ever.
    fraction(hash(id, issued_at.as_unix().unsigned_abs()))
}

/// FNV-1a with a finishing mix: the same on every machine and in every release, because due instants of
/// running installations hang on it, and which share an account belongs to.
pub(super) fn hash(id: &AccountId, salt: u64) -> u64 {
    let bytes =
        id.provider.bytes().chain([b'/']).chain(id.account.bytes()).chain(salt.to_le_bytes());
    let mut hash = bytes.fold(0xcbf2_9ce4_8422_2325_u64, |hash, byte| {
        (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3)
    });
    hash ^= hash >> 33;
    hash = hash.wrapping_mul(0xff51_afd7_ed55_8ccd);
    hash ^= hash >> 33;
    hash
}

fn fraction(hash: u64) -> f64 {
    // 53 bits are what a double can tell apart.
    (hash >> 11) as f64 / (1_u64 << 53) as f64
}

/// `Timestamp::plus` rounds up; a share of a life must not.
fn floor_seconds(duration: Duration) -> Duration {
    Duration::from_secs(duration.as_secs())
}

/// The pause after the one retry; less up to a quarter it is still a minute.
const AFTER_RETRY: Duration = Duration::from_secs(80);

#[cfg(test)]
mod tests {
    use super::*;
    use crate::core::Fingerprint;

    const HOUR: u64 = 3_600;
    const DAY: u64 = 24 * HOUR;

    fn id(name: &str) -> AccountId {
        AccountId::new("tiktok", name)
    }

    fn token(issued: i64, life: u64, refresh_life: Option<u64>) -> TokenFacts {
        let issued_at = Timestamp::from_unix(issued);
        TokenFacts {
            token: Fingerprint::from_hash(1),
            renewable_by: Some(Fingerprint::from_hash(2)),
            issued_at,
            expires_at: Some(issued_at.plus(Duration::from_secs(life))),
            refresh_expires_at: refresh_life.map(|life| issued_at.plus(Duration::from_secs(life))),
            missing_scopes: 0,
        }
    }

    #[test]
    fn tokens_of_any_life_are_due_between_36_and_67_percent_of_it() {
        let policy = Policy::default();
        for life in [25, 2 * HOUR, DAY, 60 * DAY] {
            for n in 0..500 {
                let due = due(
                    &id(&n.to_string()),
                    &token(1_000_000, life, None),
                    Duration::ZERO,
                    &policy,
                );
                let share = due.since(Timestamp::from_unix(1_000_000)).as_secs_f64() / life as f64;
                assert!(
                    (0.32..=0.667).contains(&share),
                    "life {life} s, account {n}: due at {share}"
                );
            }
        }
    }

    /// Renewals per minute of accounts that were minted in one second, each renewed when it is due: the busiest
    /// minute over the mean, from the end of the second period on, and the least share of a life left.
    fn rush(policy: &Policy) -> (f64, f64) {
        const ACCOUNTS: u32 = 4_000;
        let minted = Timestamp::from_unix(1_800_000_000);
        let ids: Vec<AccountId> = (0..ACCOUNTS).map(|n| id(&format!("brand-{n}"))).collect();
        let settled = minted.plus(Duration::from_secs(2 * 2 * HOUR).mul_f64(policy.due_fraction));
        let mut minutes = [0.0_f64; 240];
        let mut least_left = f64::MAX;
        for id in &ids {
            let mut token = token(minted.as_unix(), 2 * HOUR, None);
            loop {
                let at = due(id, &token, Duration::ZERO, policy);
                let left = token.expires_at.unwrap().since(at).as_secs_f64();
                least_left = least_left.min(left / (2 * HOUR) as f64);
                let minute = (at.as_unix() - settled.as_unix()).div_euclid(60);
                match usize::try_from(minute) {
                    Ok(minute) if minute >= minutes.len() => break,
                    Ok(minute) => minutes[minute] += 1.0,
                    Err(_) => {}
                }
                token = self::token(at.as_unix(), 2 * HOUR, None);
            }
        }
        let mean = minutes.iter().sum::<f64>() / minutes.len() as f64;
        (minutes.into_iter().fold(0.0, f64::max) / mean, least_left)
    }

    #[test]
    fn accounts_minted_at_once_settle_to_twice_the_mean_rate_within_two_periods() {
        let (peak, left) = rush(&Policy::default());
        assert!(peak <= 2.0, "the busiest minute is {peak:.2} times the mean");
        assert!(left >= 0.2, "with {left:.2} of a life left");
        // What the default is for: less does not do it.
        let (peak, _) = rush(&Policy { spread_fraction: 0.2, ..Policy::default() });
        assert!(peak > 2.0, "{peak:.2} with a spread of a fifth");
    }

    #[test]
    fn a_minute_sees_one_failure_and_one_retry() {
        let policy = Policy::default();
        for name in ["a", "b", "c"] {
            assert!(retry_pause(&id(name), 1, &policy) < Duration::from_secs(10));
            for failures in 2..40 {
                let pause = retry_pause(&id(name), failures, &policy);
                assert!(pause >= Duration::from_secs(60), "{failures} failures: {pause:?}");
                assert!(pause <= policy.backoff_max, "{failures} failures: {pause:?}");
            }
        }
        let impatient = Policy { backoff_max: Duration::from_secs(8), ..policy };
        assert_eq!(retry_pause(&id("a"), 9, &impatient), Duration::from_secs(8));
    }

    #[test]
    fn asked_twice_it_answers_the_same_and_a_new_token_moves_the_account() {
        let issued = Timestamp::from_unix(1_000_000);
        assert_eq!(spread(&id("a"), issued).to_bits(), spread(&id("a"), issued).to_bits());
        let later = issued.plus(Duration::from_secs(1));
        assert_ne!(spread(&id("a"), issued).to_bits(), spread(&id("a"), later).to_bits());
    }

    #[test]
    fn the_hash_never_changes_from_release_to_release() {
        // Written down once: a different value here moves every due instant of every installation.
        assert_eq!(hash(&id("brand-a"), 1_800_000_000), 0x5b60_2c15_da59_de22);
    }

    #[test]
    fn accounts_minted_in_one_second_fill_the_spread_evenly() {
        let issued = Timestamp::from_unix(1_800_000_000);
        let mut tenths = [0; 10];
        for n in 0..10_000 {
            tenths[(spread(&id(&format!("brand-{n}")), issued) * 10.0) as usize] += 1;
        }
        assert!(tenths.iter().all(|count| (900..1_100).contains(count)), "{tenths:?}");
    }

    #[test]
    fn a_token_is_not_due_before_the_minimum_age_of_its_provider() {
        let due = due(
            &id("a"),
            &token(1_000_000, HOUR, None),
            Duration::from_secs(DAY),
            &Policy::default(),
        );
        assert_eq!(due, Timestamp::from_unix(1_000_000).plus(Duration::from_secs(DAY)));
    }

    #[test]
    fn one_last_refresh_is_due_shortly_before_the_refresh_token_ends() {
        let policy = Policy::default();
        let old = token(1_000_000, DAY, Some(10 * HOUR));
        let last = due(&id("a"), &old, Duration::ZERO, &policy);
        let end = old.refresh_expires_at.unwrap();
        assert!(last < end && end.since(last) <= Duration::from_secs(DAY));
        // The token which that refresh brings does not ask for another one at once.
        let new = TokenFacts {
            issued_at: last,
            expires_at: Some(last.plus(Duration::from_secs(DAY))),
            ..old
        };
        assert!(due(&id("a"), &new, Duration::ZERO, &policy) > end);
    }

    #[test]
    fn pauses_double_up_to_the_longest_and_never_fall_below_the_first() {
        let policy = Policy::default();
        let mut longest = Duration::ZERO;
        for failures in 1..200 {
            let pause = backoff(&id("a"), failures, &policy);
            assert!(pause >= policy.backoff_first, "{failures} failures: {pause:?}");
            assert!(pause <= policy.backoff_max, "{failures} failures: {pause:?}");
            longest = longest.max(pause);
        }
        assert!(longest >= policy.backoff_max.mul_f64(0.75));
    }

    #[test]
    fn a_life_without_end_or_of_no_length_is_no_reason_to_panic() {
        for life in [0, 1, u64::from(u32::MAX)] {
            let facts = token(1_000_000, life, Some(life));
            let _ = due(&id("a"), &facts, Duration::MAX, &Policy::default());
            let _ = danger_from(&facts, &Policy::default());
        }
    }
}
