//! The second clock: when the refresh token itself ends, how that is known, and when its owner hears of it.
//!
//! An access token that is renewed again and again hides that the connection behind it may end for good. Where
//! each renewal moves that end on (sliding), nobody needs to know. Where it stands (absolute), only a new
//! consent helps, and its owner should hear of it weeks ahead. Few providers say which of the two they are, so
//! it is learnt by watching.

use super::{Account, Timestamp, TokenFacts};
use std::time::Duration;

/// The end of what renews an account, as far as it is known.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct End {
    /// When.
    pub at: Timestamp,
    /// How that is known.
    pub from: Provenance,
    /// What a renewal does to it.
    pub moves: Moves,
}

/// How an end is known.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Provenance {
    /// The provider declared it, in an answer to us.
    Declared,
    /// The same, and it was watched over several answers whether it moves.
    Learnt,
    /// The publisher's store says so, and nobody else.
    Stored,
    /// Nobody says so: a life that the provider's pages state, counted from the consent or the last renewal.
    /// It never declares an account dead.
    Estimated,
}

/// What a renewal does to the end of the refresh token.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Moves {
    /// Nobody knows yet.
    #[default]
    Unknown,
    /// Nothing: it was fixed when the owner consented.
    Absolute,
    /// It moves on by as much as time did.
    Sliding,
}

/// What is stated about a provider, for where its answers are silent.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Assumed {
    /// The refresh token's life.
    pub life: Option<Duration>,
    /// What renewals do to it.
    pub moves: Moves,
}

/// What was seen of the ends that one account's answers declared.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Watched {
    /// What is believed: the same was seen twice in a row.
    pub moves: Moves,
    /// What was seen last.
    last: Moves,
}

/// By how many seconds the store's ends are later than the ones we know of the same token, where that is more
/// than what rounding explains; zero elsewhere.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Differs {
    /// The access token's.
    pub access: i32,
    /// The refresh token's.
    pub refresh: i32,
}

/// An end that its owner must hear of ahead of time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Announcement {
    /// When they hear of it first.
    pub first_at: Timestamp,
    /// When it ends.
    pub ends_at: Timestamp,
    /// How that is known.
    pub from: Provenance,
}

/// The second end of `account`; `None` where nothing is known of one, or the access token is the credential.
#[must_use]
pub fn end(account: &Account, assumed: &Assumed) -> Option<End> {
    let token = account.token.filter(|token| token.renewable_by.is_some())?;
    let watched = account.watched.moves;
    let moves = if watched == Moves::Unknown { assumed.moves } else { watched };
    if let Some(at) = token.refresh_expires_at {
        let from = match (is_ours(account, &token), watched) {
            (false, _) => Provenance::Stored,
            (true, Moves::Unknown) => Provenance::Declared,
            (true, _) => Provenance::Learnt,
        };
        return Some(End { at, from, moves });
    }
    let begins_at = match moves {
        Moves::Absolute => consented_at(account, &token),
        Moves::Sliding | Moves::Unknown => token.issued_at,
    };
    let at = begins_at.plus(assumed.life?);
    // A token that was issued after it proves the estimate wrong.
    (token.issued_at < at).then_some(End { at, from: Provenance::Estimated, moves })
}

/// How the end of the access token is known.
#[must_use]
pub fn access_end_from(account: &Account) -> Option<Provenance> {
    let token = account.token?;
    Some(match (token.expires_at, is_ours(account, &token)) {
        (None, _) => Provenance::Estimated,
        (Some(_), true) => Provenance::Declared,
        (Some(_), false) => Provenance::Stored,
    })
}

/// What the owner must hear of an account that nothing renews, or whose second clock runs out. `due` is when
/// the access token would be due; `end` is the second end.
///
/// The first word comes at a third of what is left from the consent, and three weeks ahead at the most: a
/// connection of a year is announced three weeks before its end, one of a week two days before.
#[must_use]
pub fn announcement(account: &Account, due: Timestamp, end: Option<End>) -> Option<Announcement> {
    let token = account.token?;
    if token.renewable_by.is_none() {
        let ends_at = token.expires_at?;
        let from = access_end_from(account)?;
        return Some(Announcement { first_at: due.min(ends_at), ends_at, from });
    }
    let End { at: ends_at, from, moves } = end?;
    let whole = ends_at.since(consented_at(account, &token));
    let lead = (whole / 3).min(LEAD_MAX);
    let lead = match moves {
        Moves::Sliding => return None,
        Moves::Absolute => lead,
        // It may yet move at the next renewal; but nobody hears of it on the last day only.
        Moves::Unknown if from != Provenance::Estimated => lead / 3,
        Moves::Unknown => return None,
    };
    Some(Announcement { first_at: ends_at.minus(lead), ends_at, from })
}

impl Announcement {
    /// How many of the words about this end should have been said by `now`: the first, and the reminders after
    /// it, each at about a third of what was left at the one before.
    #[must_use]
    pub fn said_by(&self, now: Timestamp) -> usize {
        self.instants().filter(|at| at.has_come(now)).count()
    }

    /// When the next one comes.
    #[must_use]
    pub fn next_after(&self, now: Timestamp) -> Option<Timestamp> {
        self.instants().find(|at| *at > now)
    }

    fn instants(&self) -> impl Iterator<Item = Timestamp> + '_ {
        let lead = self.ends_at.since(self.first_at);
        // Who is told in the morning of what ends at noon needs no second mail.
        let words = if lead < REMINDED_FROM { 1 } else { PARTS.len() };
        PARTS.iter().take(words).map(move |part| self.ends_at.minus(lead / *part))
    }
}

impl Watched {
    /// What was known before, with nothing seen yet.
    #[must_use]
    pub const fn known(moves: Moves) -> Self {
        Self { moves, last: moves }
    }

    /// A renewal brought `after` in place of `before`, and both ends were declared in answers to us. Answers
    /// true when something else is believed from now on.
    pub fn note(&mut self, before: &TokenFacts, after: &TokenFacts) -> bool {
        let Some(seen) = movement(before, after) else { return false };
        let is_news = self.last == seen && self.moves != seen;
        self.last = seen;
        if is_news {
            self.moves = seen;
        }
        is_news
    }
}

/// What became of the end while the token was renewed; `None` where that is neither one nor the other, as
/// after a new consent.
fn movement(before: &TokenFacts, after: &TokenFacts) -> Option<Moves> {
    let passed = seconds(before.issued_at, after.issued_at);
    let moved = seconds(before.refresh_expires_at?, after.refresh_expires_at?);
    if passed < WATCHED_SECONDS_MIN {
        return None;
    }
    // Both ends are rounded, and the request took its time.
    match moved.saturating_mul(4) {
        quarters if quarters.abs() <= passed => Some(Moves::Absolute),
        quarters if (passed * 3..=passed * 5).contains(&quarters) => Some(Moves::Sliding),
        _ => None,
    }
}

/// By how much what the store says of the token contradicts what we know of it.
#[must_use]
pub fn differs(known: &TokenFacts, stored: &TokenFacts) -> Differs {
    let by = |known: Option<Timestamp>, stored: Option<Timestamp>| match (known, stored) {
        (Some(known), Some(stored)) => {
            let by = seconds(known, stored);
            let by = if by.abs() < DIFFERS_FROM_SECONDS { 0 } else { by };
            i32::try_from(by).unwrap_or(if by > 0 { i32::MAX } else { i32::MIN })
        }
        // A store without a column for it contradicts nobody.
        _ => 0,
    };
    Differs {
        access: by(known.expires_at, stored.expires_at),
        refresh: by(known.refresh_expires_at, stored.refresh_expires_at),
    }
}

/// True when the token came in an answer to us.
#[must_use]
pub fn is_ours(account: &Account, token: &TokenFacts) -> bool {
    account.last_refresh_at.is_some_and(|at| token.issued_at <= at)
}

/// When the owner consented, at the latest: what happened before we first looked, nobody knows.
fn consented_at(account: &Account, token: &TokenFacts) -> Timestamp {
    let reconnected = account.history.as_ref().and_then(|history| history.reconnected_at());
    let known = reconnected.or(account.first_seen_at);
    known.map_or(token.issued_at, |at| at.min(token.issued_at))
}

const fn seconds(from: Timestamp, to: Timestamp) -> i64 {
    to.as_unix() - from.as_unix()
}

impl Provenance {
    /// The word for it in metrics, reports and state.
    #[must_use]
    pub const fn as_label(self) -> &'static str {
        match self {
            Self::Declared => "declared",
            Self::Learnt => "learnt",
            Self::Stored => "stored",
            Self::Estimated => "estimated",
        }
    }
}

impl Moves {
    /// The word for it in metrics, reports and state.
    #[must_use]
    pub const fn as_label(self) -> &'static str {
        match self {
            Self::Unknown => "unknown",
            Self::Absolute => "absolute",
            Self::Sliding => "sliding",
        }
    }

    /// The word's meaning.
    #[must_use]
    pub fn from_label(label: &str) -> Option<Self> {
        [Self::Unknown, Self::Absolute, Self::Sliding]
            .into_iter()
            .find(|one| one.as_label() == label)
    }
}

/// The first word comes this long before the end at most.
const LEAD_MAX: Duration = Duration::from_secs(21 * 24 * 3_600);

/// The parts of that time at which somebody is told: 21, 7, 3 and 1 day before a distant end.
const PARTS: [u32; 4] = [1, 3, 7, 21];

/// An end that is announced less than this ahead is announced once.
const REMINDED_FROM: Duration = Duration::from_secs(24 * 3_600);

/// Between two answers that are compared; less is lost in whole seconds.
const WATCHED_SECONDS_MIN: i64 = 4;

/// A difference between two records of one end that rounding and the length of a request do not explain.
const DIFFERS_FROM_SECONDS: i64 = 10;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::core::{
        AccountId, Fingerprint, History,
        history::{Writer, Writing},
    };
    use std::sync::Arc;

    const DAY: i64 = 86_400;
    const HOUR: i64 = 3_600;

    fn at(seconds: i64) -> Timestamp {
        Timestamp::from_unix(1_800_000_000 + seconds)
    }

    fn token(issued: i64, end: Option<i64>) -> TokenFacts {
        TokenFacts {
            token: Fingerprint::from_hash(1),
            renewable_by: Some(Fingerprint::from_hash(2)),
            issued_at: at(issued),
            expires_at: Some(at(issued + 2 * HOUR)),
            refresh_expires_at: end.map(at),
            missing_scopes: 0,
        }
    }

    /// Connected at zero, renewed by us at `issued`.
    fn account(issued: i64, end: Option<i64>, moves: Moves) -> Account {
        let mut account = Account::new(AccountId::new("tiktok", "a"), "main".into());
        account.token = Some(token(issued, end));
        account.first_seen_at = Some(at(0));
        account.last_refresh_at = Some(at(issued));
        account.watched = Watched::known(moves);
        account
    }

    #[test]
    fn whether_an_end_moves_is_seen_in_two_renewals_in_a_row() {
        use Moves::{Absolute, Sliding, Unknown};
        const YEAR: i64 = 365 * DAY;
        /// When an answer came, and when the end was by it.
        type Answers = &'static [(i64, i64)];
        let rows: [(&str, Answers, Moves); 9] = [
            ("one answer says nothing", &[(0, YEAR)], Unknown),
            ("one renewal is not enough", &[(0, YEAR), (HOUR, YEAR)], Unknown),
            ("it stands", &[(0, YEAR), (HOUR, YEAR), (2 * HOUR, YEAR)], Absolute),
            ("it stands, rounded", &[(0, YEAR), (HOUR, YEAR - 1), (2 * HOUR, YEAR + 1)], Absolute),
            ("it moves", &[(0, YEAR), (HOUR, YEAR + HOUR), (2 * HOUR, YEAR + 2 * HOUR)], Sliding),
            (
                "a new consent is neither",
                &[
                    (0, 9 * DAY),
                    (HOUR, 9 * DAY),
                    (2 * HOUR, YEAR),
                    (3 * HOUR, YEAR),
                    (4 * HOUR, YEAR),
                ],
                Absolute,
            ),
            (
                "one slip changes no belief",
                &[
                    (0, YEAR),
                    (HOUR, YEAR),
                    (2 * HOUR, YEAR),
                    (3 * HOUR, YEAR + HOUR),
                    (4 * HOUR, YEAR + HOUR),
                ],
                Absolute,
            ),
            (
                "a provider that changes its mind is believed",
                &[(0, 9), (HOUR, 9), (2 * HOUR, 9), (3 * HOUR, 9 + HOUR), (4 * HOUR, 9 + 2 * HOUR)],
                Sliding,
            ),
            (
                "within a few seconds nothing is seen",
                &[(0, 99), (1, 99), (2, 99), (3, 99)],
                Unknown,
            ),
        ];
        for (sentence, answers, expected) in rows {
            let mut watched = Watched::default();
            for pair in answers.windows(2) {
                let [(before, ended), (after, ends)] = pair else { unreachable!() };
                watched.note(&token(*before, Some(*ended)), &token(*after, Some(*ends)));
            }
            assert_eq!(watched.moves, expected, "{sentence}");
        }
    }

    #[test]
    fn an_end_says_how_it_is_known() {
        use Moves::{Absolute, Sliding, Unknown};
        use Provenance::{Declared, Estimated, Learnt, Stored};
        let year = Assumed { life: Some(Duration::from_secs(365 * 86_400)), moves: Absolute };
        let sixty = Assumed { life: Some(Duration::from_secs(60 * 86_400)), moves: Sliding };
        let none = Assumed::default();
        let stored = |mut account: Account| {
            account.last_refresh_at = None;
            account
        };
        let rows = [
            ("nobody says", account(0, None, Unknown), none, None),
            (
                "the provider said",
                account(0, Some(DAY), Unknown),
                none,
                Some((DAY, Declared, Unknown)),
            ),
            ("and was watched", account(0, Some(DAY), Sliding), none, Some((DAY, Learnt, Sliding))),
            (
                "what is seen beats what is assumed",
                account(0, Some(DAY), Sliding),
                year,
                Some((DAY, Learnt, Sliding)),
            ),
            (
                "only the store says",
                stored(account(0, Some(DAY), Unknown)),
                none,
                Some((DAY, Stored, Unknown)),
            ),
            (
                "its pages say it stands",
                account(9 * DAY, None, Unknown),
                year,
                Some((365 * DAY, Estimated, Absolute)),
            ),
            (
                "its pages say it moves",
                account(9 * DAY, None, Unknown),
                sixty,
                Some((69 * DAY, Estimated, Sliding)),
            ),
            ("a renewal after it proved it wrong", account(366 * DAY, None, Unknown), year, None),
        ];
        for (sentence, account, assumed, expected) in rows {
            let expected = expected.map(|(end, from, moves)| End { at: at(end), from, moves });
            assert_eq!(end(&account, &assumed), expected, "{sentence}");
        }
    }

    #[test]
    fn an_estimate_counts_from_the_last_consent() {
        let week = Assumed { life: Some(Duration::from_secs(7 * 86_400)), moves: Moves::Absolute };
        let mut account = account(20 * DAY, None, Moves::Unknown);
        let mut history = History::default();
        history.note_writing(Writing { at: at(19 * DAY), by: Writer::Reconnect });
        account.history = Some(Arc::new(history));
        assert_eq!(end(&account, &week).unwrap().at, at(26 * DAY));
    }

    #[test]
    fn owners_hear_weeks_ahead_of_an_end_that_stands_and_never_of_one_that_moves() {
        use Moves::{Absolute, Sliding, Unknown};
        let said = |account: &Account, assumed| {
            let found = announcement(account, at(0), end(account, &assumed))?;
            Some((seconds(found.first_at, found.ends_at), found.from))
        };
        let none = Assumed::default();
        let week = Assumed { life: Some(Duration::from_secs(7 * 86_400)), moves: Absolute };
        let guess = Assumed { life: Some(Duration::from_secs(60 * 86_400)), moves: Unknown };
        let year = Some(365 * DAY);
        let rows = [
            ("a year", account(0, year, Absolute), none, Some((21 * DAY, Provenance::Learnt))),
            ("it moves", account(0, year, Sliding), none, None),
            (
                "nobody knows",
                account(0, year, Unknown),
                none,
                Some((7 * DAY, Provenance::Declared)),
            ),
            (
                "an hour",
                account(0, Some(HOUR), Absolute),
                none,
                Some((HOUR / 3, Provenance::Learnt)),
            ),
            (
                "a week in testing",
                account(0, None, Unknown),
                week,
                Some((7 * DAY / 3, Provenance::Estimated)),
            ),
            ("a mere guess", account(0, None, Unknown), guess, None),
        ];
        for (sentence, account, assumed, expected) in rows {
            assert_eq!(said(&account, assumed), expected, "{sentence}");
        }
    }

    #[test]
    fn what_nothing_renews_is_announced_from_when_it_would_be_due() {
        let mut account = account(0, None, Moves::Unknown);
        let token = account.token.as_mut().unwrap();
        token.renewable_by = None;
        token.expires_at = Some(at(60 * DAY));
        let found = announcement(&account, at(40 * DAY), None).unwrap();
        assert_eq!((found.first_at, found.ends_at), (at(40 * DAY), at(60 * DAY)));
    }

    #[test]
    fn reminders_come_at_a_third_of_what_was_left_and_an_end_in_hours_has_none() {
        let ends_at = at(365 * DAY);
        let year =
            Announcement { first_at: ends_at.minus(LEAD_MAX), ends_at, from: Provenance::Learnt };
        let left: Vec<i64> = year.instants().map(|at| seconds(at, ends_at) / DAY).collect();
        assert_eq!(left, [21, 7, 3, 1]);
        assert_eq!(year.said_by(at(0)), 0);
        assert_eq!(year.said_by(ends_at.minus(Duration::from_secs(6 * 86_400))), 2);
        assert_eq!(year.next_after(ends_at), None);
        let short = Announcement { first_at: at(0), ends_at: at(HOUR), from: Provenance::Declared };
        assert_eq!(short.instants().count(), 1);
    }

    #[test]
    fn a_store_that_says_something_else_is_contradicted_by_so_much() {
        let known = token(0, Some(DAY));
        let rows = [
            ("the same", token(0, Some(DAY)), (0, 0)),
            ("rounded", TokenFacts { expires_at: Some(at(2 * HOUR - 9)), ..known }, (0, 0)),
            (
                "no column",
                TokenFacts { expires_at: None, refresh_expires_at: None, ..known },
                (0, 0),
            ),
            ("an hour more", TokenFacts { expires_at: Some(at(3 * HOUR)), ..known }, (3_600, 0)),
            ("a day less", token(0, Some(0)), (0, -86_400)),
            (
                "for ever",
                TokenFacts { refresh_expires_at: Some(Timestamp::MAX), ..known },
                (0, i32::MAX),
            ),
        ];
        for (sentence, stored, (access, refresh)) in rows {
            let found = differs(&known, &stored);
            assert_eq!(found.access, access, "{sentence}");
            assert!(
                found.refresh == refresh || refresh == i32::MAX && found.refresh > 0,
                "{sentence}"
            );
        }
    }
}
