//! What the providers' `Date` headers, taken together, say about the time.
//!
//! One answer proves nothing: a cache hands out an old one, a server's clock is wrong, the answer took its
//! time. So each provider is believed by the median of its last few answers, and all of them together only
//! where most agree. Who stands alone is shown to people and followed by nobody.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

/// The last answers of each provider.
///
/// Each is kept as the distance between the provider's clock and our steady one. Whatever becomes of our wall
/// clock, and of what we believe about it, such a distance stays as true as it was.
#[derive(Clone, Debug, Default)]
pub struct Witnesses {
    /// The newest last; at most [`SAMPLES_KEPT_MAX`] each, of at most [`WITNESSES_MAX`] providers.
    samples: BTreeMap<Arc<str>, Vec<i64>>,
    /// Grows with each answer that changed a median, so that nobody asks for nothing.
    version: u64,
}

/// What the witnesses say of a clock.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// Nothing against it: it agrees with most, or with some while nobody has a majority, or too little was heard.
    Unchallenged,
    /// More than one provider was heard, most of them agree with each other, and the clock is behind them by so
    /// many seconds (ahead of them, if negative). The clock is wrong.
    Outvoted(i64),
    /// The only provider that was heard often enough differs by so many seconds. Either clock may be wrong.
    Challenged(i64),
}

impl Witnesses {
    /// A provider said that it is `date`, in an answer that arrived when the steady clock stood at `steady`.
    ///
    /// The header was written somewhere between request and answer, so it is counted for the middle: on a slow
    /// way the error is at most half of `round_trip`.
    pub fn hear(&mut self, provider: &Arc<str>, date: i64, steady: i64, round_trip: Duration) {
        let is_new = !self.samples.contains_key(provider);
        if is_new && self.samples.len() >= WITNESSES_MAX {
            return;
        }
        let half = i64::try_from(round_trip.as_millis() / 2_000).unwrap_or(0);
        let samples = self.samples.entry(Arc::clone(provider)).or_default();
        let before = median(samples);
        if samples.len() >= SAMPLES_KEPT_MAX {
            samples.remove(0);
        }
        samples.push(date.saturating_sub(steady).saturating_add(half));
        self.version += u64::from(median(samples) != before);
    }

    /// Nothing that was heard counts any more: the steady clock itself was wrong.
    pub fn forget(&mut self) {
        self.samples.clear();
        self.version += 1;
    }

    /// Changes when [`Witnesses::each`] may say something else.
    #[must_use]
    pub const fn version(&self) -> u64 {
        self.version
    }

    /// By how many seconds each provider is ahead of a clock that is ahead of the steady one by `offset`.
    pub fn each(&self, offset: i64) -> impl Iterator<Item = (&Arc<str>, i64)> + '_ {
        let ahead = move |distance: i64| distance.saturating_sub(offset);
        self.samples.iter().filter_map(move |(name, all)| Some((name, ahead(median(all)?))))
    }

    /// What they say of a clock that is ahead of the steady one by `offset`, where a difference of up to
    /// `tolerated` seconds is none.
    #[must_use]
    pub fn verdict(&self, offset: i64, tolerated: i64) -> Verdict {
        let heard: Vec<i64> = self.samples.values().filter_map(|all| proven(all)).collect();
        let near = |a: i64, b: i64| a.abs_diff(b) <= tolerated.unsigned_abs();
        if heard.len() <= 1 {
            let challenger = heard.first().filter(|distance| !near(**distance, offset));
            return challenger.map_or(Verdict::Unchallenged, |distance| {
                Verdict::Challenged(distance.saturating_sub(offset))
            });
        }
        // The middle one of all lies within every majority that there can be.
        let middle = median(&heard).unwrap_or(offset);
        let agree = heard.iter().filter(|distance| near(**distance, middle)).count();
        if near(middle, offset) || agree * 2 <= heard.len() {
            Verdict::Unchallenged
        } else {
            Verdict::Outvoted(middle.saturating_sub(offset))
        }
    }
}

/// The lower of the two middle ones where their number is even: it was said by somebody.
fn median(all: &[i64]) -> Option<i64> {
    let mut sorted = all.to_vec();
    sorted.sort_unstable();
    sorted.get(sorted.len().checked_sub(1)? / 2).copied()
}

/// What a provider says, once it has said it often enough that one wrong answer cannot be it.
fn proven(all: &[i64]) -> Option<i64> {
    median(all).filter(|_| all.len() >= SAMPLES_PROVE)
}

/// Answers of a provider that are kept; two wrong ones among them move nothing.
pub const SAMPLES_KEPT_MAX: usize = 5;

/// Answers of a provider from which on it counts as a witness.
pub const SAMPLES_PROVE: usize = 3;

/// Providers that are listened to. More than the catalogue has, and all that anybody describes beside it.
pub const WITNESSES_MAX: usize = 64;

#[cfg(test)]
mod tests {
    use super::*;

    const TOLERATED: i64 = 60;
    const HOUR: i64 = 3_600;

    /// Witnesses who said in turn that their clocks were so far ahead of a clock that is right.
    fn heard(said: &[(&str, &[i64])]) -> Witnesses {
        let mut witnesses = Witnesses::default();
        for (name, all) in said {
            for (steady, ahead) in (1_000..).zip(*all) {
                witnesses.hear(&(*name).into(), steady + ahead, steady, Duration::ZERO);
            }
        }
        witnesses
    }

    #[test]
    fn a_clock_is_wrong_when_most_of_several_say_so_and_not_before() {
        use Verdict::{Challenged, Outvoted, Unchallenged};
        let right: &[i64] = &[0, 1, 0];
        /// Who said what, in turn.
        type Heard<'a> = &'a [(&'a str, &'a [i64])];
        let rows: &[(&str, Heard<'_>, Verdict)] = &[
            ("nobody was heard", &[], Unchallenged),
            ("one answer proves nothing", &[("a", &[HOUR])], Unchallenged),
            ("nor do two", &[("a", &[HOUR, HOUR])], Unchallenged),
            ("a minute is none", &[("a", &[60, 60, 60])], Unchallenged),
            ("one provider, again and again", &[("a", &[HOUR; 3])], Challenged(HOUR)),
            ("behind, the same", &[("a", &[-HOUR; 3])], Challenged(-HOUR)),
            ("one cached answer among good ones", &[("a", &[0, -HOUR, 0, 0])], Unchallenged),
            ("two of five", &[("a", &[0, -HOUR, 0, -HOUR, 0])], Unchallenged),
            ("one lies, the other is with us", &[("a", &[HOUR; 5]), ("b", right)], Unchallenged),
            (
                "one lies before the other is proven",
                &[("a", &[HOUR; 5]), ("b", &[0])],
                Challenged(HOUR),
            ),
            ("both agree against us", &[("a", &[HOUR; 3]), ("b", &[HOUR + 20; 3])], Outvoted(HOUR)),
            ("they contradict each other", &[("a", &[HOUR; 3]), ("b", &[-HOUR; 3])], Unchallenged),
            (
                "most agree, one lies wildly",
                &[("a", &[HOUR; 3]), ("b", &[9_000_000; 5]), ("c", &[HOUR; 3])],
                Outvoted(HOUR),
            ),
            (
                "half and half is no majority",
                &[("a", &[HOUR; 3]), ("b", &[HOUR; 3]), ("c", right), ("d", right)],
                Unchallenged,
            ),
        ];
        for (sentence, said, expected) in rows {
            assert_eq!(heard(said).verdict(0, TOLERATED), *expected, "{sentence}");
        }
    }

    #[test]
    fn whoever_believes_them_is_not_contradicted_any_more() {
        let witnesses = heard(&[("a", &[HOUR; 3]), ("b", &[HOUR; 3])]);
        assert_eq!(witnesses.verdict(HOUR, TOLERATED), Verdict::Unchallenged);
        let each: Vec<_> = witnesses.each(HOUR).map(|(name, by)| (&**name, by)).collect();
        assert_eq!(each, [("a", 0), ("b", 0)]);
    }

    #[test]
    fn a_provider_that_was_mended_is_believed_after_three_answers() {
        let mut said = vec![HOUR; 5];
        said.extend([0, 0]);
        assert_eq!(heard(&[("a", &said)]).verdict(0, TOLERATED), Verdict::Challenged(HOUR));
        said.push(0);
        assert_eq!(heard(&[("a", &said)]).verdict(0, TOLERATED), Verdict::Unchallenged);
    }

    #[test]
    fn half_of_a_slow_way_is_no_difference() {
        let mut witnesses = Witnesses::default();
        // Stamped at once, and then it took a minute and a half to arrive.
        witnesses.hear(&"a".into(), 1_000, 1_090, Duration::from_secs(90));
        let ahead: Vec<_> = witnesses.each(0).map(|(_, by)| by).collect();
        assert_eq!(ahead, [-45]);
    }

    #[test]
    fn however_many_providers_speak_the_room_is_bounded() {
        let mut witnesses = Witnesses::default();
        for n in 0..10 * WITNESSES_MAX {
            for _ in 0..10 {
                witnesses.hear(&n.to_string().into(), i64::MAX, i64::MIN, Duration::MAX);
            }
        }
        assert_eq!(witnesses.samples.len(), WITNESSES_MAX);
        assert!(witnesses.samples.values().all(|all| all.len() == SAMPLES_KEPT_MAX));
        let _ = witnesses.verdict(i64::MIN, TOLERATED);
    }
}
