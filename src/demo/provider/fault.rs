//! What can be asked of the provider to go wrong, and for whom, and how often.

use serde_json::Value;
use std::time::{Duration, Instant};

/// A way to misbehave while a request is handled. What changes an account or the app for good (a
/// revoked consent, another secret) is a method of [`super::Provider`] instead.
///
/// *Commits* means: a refresh is carried out and the old refresh token retired before the answer goes
/// wrong, so that the only copy of the new token is in an answer that nobody could read.
#[derive(Clone, Debug, PartialEq)]
pub enum Fault {
    /// Closes the connection before the request is looked at. Commits nothing.
    Drop,
    /// Commits, then closes the connection without a byte.
    LoseAnswer,
    /// Commits, then sends half of the answer and breaks the connection.
    Truncate,
    /// Commits, then sends the answer a byte at a time.
    Trickle {
        /// Before each byte.
        pause: Duration,
    },
    /// Commits, then stays silent for so long before it answers properly.
    HangFor(Duration),
    /// Waits so long before it looks at the request, then behaves.
    Latency(Duration),
    /// The same until [`super::Provider::release`]: for tests that do something meanwhile.
    HoldRequest,
    /// Commits, then stays silent until [`super::Provider::release`] and answers properly.
    HoldAnswer,
    /// This status and an error body. Commits nothing.
    StatusBefore(u16),
    /// Commits, then this status and an error body without the token.
    StatusAfter(u16),
    /// Status 200 and a page of HTML, as a captive portal or a broken proxy sends it.
    Html200 {
        /// Whether the refresh is carried out first.
        commits: bool,
    },
    /// A redirect. Commits nothing.
    Redirect {
        /// 301, 302, 303, 307 or 308.
        status: u16,
        /// The `Location`.
        to: String,
    },
    /// Status 429. Commits nothing.
    RateLimit {
        /// The `Retry-After` header in seconds; `None` leaves it out.
        retry_after: Option<u64>,
    },
    /// Commits, then sends a proper answer followed by so many blanks.
    HugeBody {
        /// About how many bytes.
        bytes: usize,
    },
    /// This OAuth error in the usual shape. Commits nothing.
    Refuse {
        /// The `error` member.
        error: &'static str,
        /// The `error_description` member.
        description: &'static str,
    },
    /// A new access token and no `refresh_token` member: the old one stays (RFC 6749 section 6).
    OmitRefreshToken,
    /// The same with a blank `refresh_token`.
    BlankRefreshToken,
    /// The same with a `refresh_token` of null.
    NullRefreshToken,
    /// Commits; the member has this value in the answer: `expires_in` as a text or of -1, an `open_id`
    /// of somebody else, fewer scopes, a member nobody knows.
    Member {
        /// Its name.
        name: &'static str,
        /// Its value.
        value: Value,
    },
    /// Commits; the answer is not UTF-8.
    NotUtf8,
}

impl Fault {
    /// The word for it in the log.
    #[must_use]
    pub const fn as_label(&self) -> &'static str {
        match self {
            Self::Drop => "drop",
            Self::LoseAnswer => "lose_answer",
            Self::Truncate => "truncate",
            Self::Trickle { .. } => "trickle",
            Self::HangFor(_) => "hang",
            Self::Latency(_) => "latency",
            Self::HoldRequest => "hold_request",
            Self::HoldAnswer => "hold_answer",
            Self::StatusBefore(_) => "status_before",
            Self::StatusAfter(_) => "status_after",
            Self::Html200 { .. } => "html",
            Self::Redirect { .. } => "redirect",
            Self::RateLimit { .. } => "rate_limit",
            Self::HugeBody { .. } => "huge_body",
            Self::Refuse { .. } => "refuse",
            Self::OmitRefreshToken => "omit_refresh_token",
            Self::BlankRefreshToken => "blank_refresh_token",
            Self::NullRefreshToken => "null_refresh_token",
            Self::Member { .. } => "member",
            Self::NotUtf8 => "not_utf8",
        }
    }

    /// True when the answer says nothing of a new refresh token because there is none.
    pub(super) const fn keeps_refresh_token(&self) -> bool {
        matches!(self, Self::OmitRefreshToken | Self::BlankRefreshToken | Self::NullRefreshToken)
    }
}

/// Which requests a fault is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Surface {
    /// The token endpoint.
    Token,
    /// The API: user info, creator info, posts.
    Api,
}

/// For how long a fault stays.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Lasting {
    /// For so many requests.
    Times(u32),
    /// From now for so long.
    For(Duration),
}

/// Faults that have been planted, oldest first. The first that fits a request is used; where none does, one
/// may be drawn.
#[derive(Default)]
pub(super) struct Planted {
    plants: Vec<Plant>,
    drawn: Option<Drawn>,
}

/// Faults that strike token requests at random.
struct Drawn {
    /// Of a million requests.
    share: u64,
    dice: u64,
    faults: Vec<Fault>,
}

struct Plant {
    account: Option<String>,
    surface: Surface,
    fault: Fault,
    left: Left,
}

enum Left {
    Times(u32),
    Until(Instant),
}

impl Planted {
    pub(super) fn plant(
        &mut self,
        now: Instant,
        account: Option<&str>,
        surface: Surface,
        fault: Fault,
        lasting: Lasting,
    ) {
        assert!(self.plants.len() < PLANTED_MAX, "a scenario plants a handful of faults");
        let left = match lasting {
            Lasting::Times(times) => Left::Times(times),
            Lasting::For(time) => Left::Until(now + time),
        };
        self.plants.push(Plant { account: account.map(str::to_owned), surface, fault, left });
    }

    pub(super) fn misbehave(&mut self, rate: f64, seed: u64, faults: Vec<Fault>) {
        // A share beyond one is one; a negative one is none.
        let share = (rate * MILLION as f64) as u64;
        self.drawn = Some(Drawn { share, dice: seed, faults });
    }

    pub(super) fn clear(&mut self) {
        self.plants.clear();
        self.drawn = None;
    }

    /// The fault for this request, used up by one.
    pub(super) fn take(
        &mut self,
        now: Instant,
        account: Option<&str>,
        surface: Surface,
    ) -> Option<Fault> {
        self.plants.retain(|plant| match plant.left {
            Left::Times(times) => times > 0,
            Left::Until(end) => now < end,
        });
        let plant = self.plants.iter_mut().find(|plant| {
            plant.surface == surface
                && plant.account.as_deref().is_none_or(|wanted| Some(wanted) == account)
        });
        let Some(plant) = plant else {
            return self.drawn.as_mut().filter(|_| surface == Surface::Token)?.take();
        };
        if let Left::Times(times) = &mut plant.left {
            *times -= 1;
        }
        Some(plant.fault.clone())
    }
}

impl Drawn {
    fn take(&mut self) -> Option<Fault> {
        if self.throw() % MILLION >= self.share || self.faults.is_empty() {
            return None;
        }
        let which = self.throw() % self.faults.len() as u64;
        self.faults.get(usize::try_from(which).ok()?).cloned()
    }

    /// Numbers that are the same for the same seed (splitmix64).
    fn throw(&mut self) -> u64 {
        self.dice = self.dice.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.dice;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }
}

const MILLION: u64 = 1_000_000;

/// Faults planted at a time.
const PLANTED_MAX: usize = 10_000;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_fault_hits_the_account_it_was_planted_for_as_often_as_it_was_planted() {
        let now = Instant::now();
        let mut planted = Planted::default();
        planted.plant(now, Some("a"), Surface::Token, Fault::LoseAnswer, Lasting::Times(2));
        assert_eq!(planted.take(now, Some("b"), Surface::Token), None);
        assert_eq!(planted.take(now, None, Surface::Token), None);
        assert_eq!(planted.take(now, Some("a"), Surface::Api), None);
        assert_eq!(planted.take(now, Some("a"), Surface::Token), Some(Fault::LoseAnswer));
        assert_eq!(planted.take(now, Some("a"), Surface::Token), Some(Fault::LoseAnswer));
        assert_eq!(planted.take(now, Some("a"), Surface::Token), None);
    }

    #[test]
    fn drawn_faults_strike_about_as_often_as_they_should_and_the_seed_decides_whom() {
        let struck = |seed: u64, surface: Surface| -> Vec<usize> {
            let mut planted = Planted::default();
            planted.misbehave(0.1, seed, vec![Fault::Drop, Fault::LoseAnswer]);
            let now = Instant::now();
            (0..2_000).filter(|_| planted.take(now, None, surface).is_some()).collect()
        };
        let first = struck(7, Surface::Token);
        assert!((150..250).contains(&first.len()), "{}", first.len());
        assert_eq!(first, struck(7, Surface::Token));
        assert_ne!(first, struck(8, Surface::Token));
        assert!(struck(7, Surface::Api).is_empty());
    }

    #[test]
    fn a_fault_for_everybody_ends_with_its_time() {
        let now = Instant::now();
        let second = Duration::from_secs(1);
        let mut planted = Planted::default();
        planted.plant(now, None, Surface::Token, Fault::Truncate, Lasting::For(second));
        assert_eq!(planted.take(now, Some("b"), Surface::Token), Some(Fault::Truncate));
        assert_eq!(planted.take(now, None, Surface::Token), Some(Fault::Truncate));
        assert_eq!(planted.take(now + second, Some("b"), Surface::Token), None);
    }
}
