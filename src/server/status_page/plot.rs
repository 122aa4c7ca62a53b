//! Pictures as numbers: the template draws them, and each says in words what it shows.

use super::{
    scene::Scene,
    words::{self, Moment},
};
use crate::core::{
    Account, Cause, Timestamp,
    recent::{HOURS, Happening},
};
use serde::Serialize;

/// How much of the declared life is left, and where the renewal is due.
#[derive(Serialize)]
pub(super) struct Life {
    percent: u32,
    due_percent: Option<u32>,
    /// `good`, `low` or `over`: how it is coloured.
    tone: &'static str,
    whole: String,
}

impl Life {
    pub(super) fn of(account: &Account, now: Timestamp) -> Option<Self> {
        let token = account.token?;
        let (left, whole, end) = (account.life_left(now)?, token.life()?, token.expires_at?);
        let percent = (left * 100.0).ceil() as u32;
        let due_percent = due_at(account)
            .map(|due| (end.since(due).as_secs_f64() / whole.as_secs_f64() * 100.0).min(100.0))
            .map(|due| due as u32);
        let tone = match percent {
            0 => "over",
            // Past the mark by a good part of what was left then: the renewal has not come through.
            left if left * 2 < due_percent.unwrap_or(LOW_PERCENT * 2) => "low",
            _ => "good",
        };
        Some(Self { percent, due_percent, tone, whole: words::span(whole.as_secs()) })
    }
}

/// When a renewal is due, where one can still help: a date beside "reconnect" would be a false hope.
pub(super) fn due_at(account: &Account) -> Option<Timestamp> {
    let token = account.token?;
    let is_renewable =
        token.renewable_by.is_some() && !account.cause.is_some_and(Cause::needs_reconnect);
    account.due_at.filter(|_| is_renewable)
}

/// 401s of the last day, hour by hour.
#[derive(Serialize)]
pub(super) struct Hours {
    bars: Vec<Bar>,
    /// All of them.
    pub(super) sum: u64,
    words: String,
    /// Each hour that had any, for whoever cannot see the bars.
    rows: Vec<Hour>,
}

#[derive(Serialize)]
struct Bar {
    x: usize,
    /// In hundredths of the plot's height.
    height: u32,
}

#[derive(Serialize)]
struct Hour {
    from: String,
    count: u16,
}

impl Hours {
    /// `None` where there were none.
    pub(super) fn of(scene: &Scene<'_>, account: &Account) -> Option<Self> {
        let counts = scene.unauthorized(account)?;
        let most = counts.into_iter().max().filter(|most| *most > 0)?;
        let hour = |index: usize| {
            let back = 3_600 * (HOURS - 1 - index) as i64;
            let at = Timestamp::from_unix(scene.now.as_unix() / 3_600 * 3_600 - back);
            words::date(at)[11..16].to_owned()
        };
        let sum = counts.into_iter().map(u64::from).sum();
        let worst = counts.iter().position(|count| *count == most).unwrap_or_default();
        let bar = |(index, count): (usize, u16)| {
            // One among a thousand must be seen too.
            let height = (u32::from(count) * 100).div_ceil(u32::from(most)).max(BAR_LEAST);
            Bar { x: index, height }
        };
        let seen = || counts.into_iter().enumerate().filter(|(_, count)| *count > 0);
        Some(Self {
            bars: seen().map(bar).collect(),
            sum,
            words: format!(
                "{} with 401 in the last 24 hours; most, {most}, in the hour from {} UTC",
                words::counted(usize::try_from(sum).unwrap_or(usize::MAX), "answer", "answers"),
                hour(worst)
            ),
            rows: seen().map(|(index, count)| Hour { from: hour(index), count }).collect(),
        })
    }
}

/// What was left of the account's tokens over time: it falls by a second each second, and rises with each renewal.
#[derive(Serialize)]
pub(super) struct Course {
    /// Until now, as a path in a square of [`SIDE`].
    past: String,
    /// From now to the end of the token.
    ahead: String,
    now: u32,
    /// The token has not ended.
    lives: bool,
    due: Option<u32>,
    /// The same course as words.
    words: String,
    begins: Moment,
    ends: Moment,
    highest: String,
}

/// A token as long as it was the account's.
#[derive(Clone, Copy)]
struct Span {
    from: Timestamp,
    until: Timestamp,
    ends: Timestamp,
}

impl Course {
    /// `None` for an account whose token has no declared end.
    pub(super) fn of(account: &Account, now: Timestamp) -> Option<Self> {
        let spans = spans(account, now)?;
        let (first, last) = (spans.first()?, spans.last()?);
        let begins = first.from;
        let ends = last.ends.max(now);
        let highest = spans.iter().map(|span| span.ends.since(span.from).as_secs()).max()?.max(1);
        let width = ends.since(begins).as_secs().max(1);
        let x = |at: Timestamp| scaled(at.since(begins).as_secs(), width);
        let y = |span: &Span, at: Timestamp| SIDE - scaled(span.ends.since(at).as_secs(), highest);
        let mut past = String::new();
        for span in &spans {
            let pen = if past.is_empty() { 'M' } else { 'L' };
            past += &format!("{pen}{} {}", x(span.from), y(span, span.from));
            if span.ends < span.until {
                past += &format!("L{} {SIDE}", x(span.ends));
            }
            past += &format!("L{} {}", x(span.until), y(span, span.until));
        }
        let ahead = format!("M{} {}L{} {SIDE}", x(now), y(last, now), x(ends));
        let due = due_at(account).filter(|due| *due >= begins && *due <= ends);
        let left = last.ends.since(now).as_secs();
        let renewals = spans.len() - 1;
        let words = format!(
            "What was left of the access token's life since {}: {}; now {} left{}.",
            words::date(begins),
            words::counted(renewals, "new token", "new tokens"),
            if left == 0 { "nothing is".to_owned() } else { words::span(left) },
            due.map_or_else(String::new, |due| format!(
                "; renewal is due {}",
                Moment::of(due, now).words
            )),
        );
        Some(Self {
            past,
            ahead,
            now: x(now),
            lives: left > 0,
            due: due.map(x),
            words,
            begins: Moment::of(begins, now),
            ends: Moment::of(ends, now),
            highest: words::span(highest),
        })
    }
}

/// The tokens that are remembered, the present one last.
fn spans(account: &Account, now: Timestamp) -> Option<Vec<Span>> {
    let token = account.token?;
    let current = token.expires_at?;
    let marks = account.recent.as_deref().map_or(&[][..], |recent| recent.marks());
    let mut seen: Vec<(Timestamp, Timestamp)> = marks
        .iter()
        .filter_map(|mark| match mark.what {
            Happening::NewToken { ends: Some(ends), .. } => Some((mark.at.min(now), ends)),
            _ => None,
        })
        .collect();
    if seen.last().is_none_or(|(_, ends)| *ends != current) {
        let from = seen.last().map_or(token.issued_at, |(at, _)| token.issued_at.max(*at));
        seen.push((from.min(now), current));
    }
    let mut spans: Vec<Span> = seen
        .windows(2)
        .map(|two| Span { from: two[0].0, until: two[1].0, ends: two[0].1 })
        .collect();
    let (from, ends) = seen.last().copied()?;
    spans.push(Span { from, until: now, ends });
    Some(spans)
}

fn scaled(part: u64, whole: u64) -> u32 {
    u32::try_from(part.min(whole) * u64::from(SIDE) / whole).unwrap_or(SIDE)
}

/// The square that a course is drawn in; the template stretches it.
const SIDE: u32 = 1_000;

/// The least height of a bar, in hundredths.
const BAR_LEAST: u32 = 12;

/// Where no renewal is due, this much of the life is little.
const LOW_PERCENT: u32 = 10;

#[cfg(test)]
mod tests {
    use super::{super::tests::account, *};
    use crate::core::{AccountId, Event, Recent};
    use std::sync::Arc;

    fn at(seconds: i64) -> Timestamp {
        Timestamp::from_unix(1_800_000_000 + seconds)
    }

    fn renewed(times: &[(i64, i64)]) -> Option<Arc<Recent>> {
        let mut recent = Recent::default();
        for (seconds, ends) in times {
            let id = AccountId::new("tiktok", "a");
            let event = Event::Refreshed { id, expires_at: None };
            recent.note(at(*seconds), &event, Some(at(*ends)), 32);
        }
        Some(Arc::new(recent))
    }

    #[test]
    fn what_is_left_falls_until_a_renewal_and_rises_with_it() {
        let mut account = account("a", 1_000, None);
        account.recent = renewed(&[(-1_000, 0), (0, 1_000)]);
        let course = Course::of(&account, at(0)).unwrap();
        assert_eq!(course.past, "M0 0L500 1000L500 0L500 0");
        assert_eq!(course.ahead, "M500 0L1000 1000");
        assert!(course.words.contains("1 new token; now 16 min 40 s left"), "{}", course.words);
    }

    #[test]
    fn a_token_that_ended_before_the_next_one_lies_at_the_bottom_meanwhile() {
        let mut account = account("a", 500, None);
        account.recent = renewed(&[(-1_000, -500), (-250, 500)]);
        let course = Course::of(&account, at(0)).unwrap();
        assert!(course.past.contains("L333 1000L500 1000L500 0"), "{}", course.past);
    }

    #[test]
    fn an_account_of_which_nothing_is_remembered_shows_its_token() {
        let account = account("a", 600, None);
        let course = Course::of(&account, at(0)).unwrap();
        assert!(course.past.starts_with("M0 0L"), "{}", course.past);
        let mut unknown = account;
        unknown.token.as_mut().unwrap().expires_at = None;
        assert!(Course::of(&unknown, at(0)).is_none());
    }
}
