//! What is kept about an account for whoever asks later what went wrong, since when, and what changed before.
//!
//! An account on which nothing ever happened has none. Everything in it is bounded, and nothing in it is a
//! secret: codes that a provider's table knows, filtered request ids, names of scopes and apps, instants.

use super::{Cause, Evidence, Timestamp, second_clock::Moves};
use std::{sync::Arc, time::Duration};

/// What happened to one account.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct History {
    /// Kinds of failure, the one that was seen last at the end; at most [`FAILURES_KEPT_MAX`].
    pub failures: Vec<Failure>,
    /// Each change of what the app requires and the token lacks, the newest last; at most
    /// [`CHANGES_KEPT_MAX`]. Before the first, nothing was known to be missing.
    pub scopes: Vec<ScopesSeen>,
    /// What others did to the token in the store, the newest last; at most [`CHANGES_KEPT_MAX`]. What we
    /// wrote ourselves is the last refresh.
    pub writings: Vec<Writing>,
    /// The last check of an access token.
    pub check: Option<Check>,
    /// The app that the account belonged to before the present one.
    pub moved: Option<Moved>,
    /// What renewals were seen to do to the refresh token's end, where that is not what they usually do: where
    /// it stands still.
    pub end_moves: Moves,
    /// When its owner was last reminded of an end.
    pub reminded_at: Option<Timestamp>,
}

/// One kind of failure, as often as it was seen without a good refresh in between.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Failure {
    /// What was seen the last time, and when.
    pub evidence: Arc<Evidence>,
    /// When it was seen first.
    pub first_at: Timestamp,
    /// How often.
    pub times: u32,
    /// Who saw it.
    pub source: Source,
    /// How old the token was the last time.
    pub token_age: Option<Duration>,
    /// By how many seconds the provider's clock was ahead of ours, if that was known.
    pub clock_ahead: Option<i64>,
}

/// Who saw a failure.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Source {
    /// We, when we asked for a new token.
    Refresh,
    /// We, when we tried the access token.
    Check,
    /// The publisher, who reported what it was answered.
    Publisher,
    /// The provider, or the publisher, who announced it under a signature.
    Announcement,
}

/// What the token lacked from an instant on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ScopesSeen {
    /// Since when.
    pub at: Timestamp,
    /// The required scopes that were not granted; none when all were.
    pub missing: Vec<Arc<str>>,
}

/// Somebody else changed the token in the store.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Writing {
    /// When that was noticed.
    pub at: Timestamp,
    /// What they did.
    pub by: Writer,
}

/// What somebody else did to the token in the store.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Writer {
    /// Put another token there: the publisher refreshes too, or its owner connected it again.
    Publisher,
    /// Put another token there that only a new consent can have brought.
    Reconnect,
    /// Put a token back that we had replaced.
    StaleCopy,
    /// Took the token away.
    Removed,
}

/// A check of an access token.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Check {
    /// When.
    pub at: Timestamp,
    /// What it said; `None` when it said nothing about the token.
    pub alive: Option<bool>,
}

/// The account was given to another app.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Moved {
    /// When that was noticed.
    pub at: Timestamp,
    /// The app before.
    pub from: Arc<str>,
}

impl History {
    /// True when there is nothing to keep.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        *self == Self::default()
    }

    /// A failure was seen. It joins one of the same kind if no refresh succeeded since that was seen: what
    /// came back after a recovery began anew.
    pub fn note_failure(&mut self, mut seen: Failure, last_good: Option<Timestamp>) {
        let joins = |known: &Failure| {
            known.is_like(&seen) && last_good.is_none_or(|good| known.evidence.at > good)
        };
        if let Some(index) = self.failures.iter().position(joins) {
            let known = self.failures.remove(index);
            seen.first_at = known.first_at;
            seen.times = known.times.saturating_add(seen.times);
        }
        push_within(&mut self.failures, seen, FAILURES_KEPT_MAX);
    }

    /// The token lacks these scopes now. Answers whether that is news.
    pub fn note_scopes(&mut self, at: Timestamp, missing: Vec<Arc<str>>) -> bool {
        let known = self.scopes.last().map_or(&[][..], |last| &last.missing);
        let is_news = known != missing;
        if is_news {
            push_within(&mut self.scopes, ScopesSeen { at, missing }, CHANGES_KEPT_MAX);
        }
        is_news
    }

    /// Somebody else changed the token in the store. What goes on and on is one line, of the last time.
    pub fn note_writing(&mut self, writing: Writing) {
        if self.writings.last().is_some_and(|last| last.by == writing.by) {
            self.writings.pop();
        }
        push_within(&mut self.writings, writing, CHANGES_KEPT_MAX);
    }

    /// What was said last when the account was to be proven, or tried.
    #[must_use]
    pub fn last_objection(&self) -> Option<Arc<Evidence>> {
        let said = |one: &&Failure| matches!(one.source, Source::Check | Source::Publisher);
        self.failures.iter().rev().find(said).map(|one| Arc::clone(&one.evidence))
    }

    /// The failure that was seen last, whatever it was.
    #[must_use]
    pub fn last_failure(&self) -> Option<&Failure> {
        self.failures.last()
    }

    /// The last failure of this cause.
    #[must_use]
    pub fn last_of(&self, cause: Cause) -> Option<&Failure> {
        self.failures.iter().rev().find(|failure| failure.evidence.cause == cause)
    }

    /// What others did last to the token in the store.
    #[must_use]
    pub fn last_writing(&self) -> Option<Writing> {
        self.writings.last().copied()
    }

    /// When the account was last seen to have been connected anew.
    #[must_use]
    pub fn reconnected_at(&self) -> Option<Timestamp> {
        let is_consent = |writing: &&Writing| writing.by == Writer::Reconnect;
        self.writings.iter().rev().find(is_consent).map(|writing| writing.at)
    }
}

impl Failure {
    fn is_like(&self, other: &Self) -> bool {
        let kind = |failure: &Self| {
            let Evidence { cause, detail, code, status, app_wide, .. } = &*failure.evidence;
            (*cause, detail.clone(), code.clone(), *status, *app_wide, failure.source)
        };
        kind(self) == kind(other)
    }
}

impl Source {
    /// The word for it in state and reports.
    #[must_use]
    pub const fn as_label(self) -> &'static str {
        match self {
            Self::Refresh => "refresh",
            Self::Check => "check",
            Self::Publisher => "publisher",
            Self::Announcement => "announcement",
        }
    }

    /// The source with this label.
    #[must_use]
    pub fn from_label(label: &str) -> Option<Self> {
        [Self::Refresh, Self::Check, Self::Publisher, Self::Announcement]
            .into_iter()
            .find(|one| one.as_label() == label)
    }
}

impl Writer {
    const ALL: [Self; 4] = [Self::Publisher, Self::Reconnect, Self::StaleCopy, Self::Removed];

    /// The word for it in state and reports.
    #[must_use]
    pub const fn as_label(self) -> &'static str {
        match self {
            Self::Publisher => "publisher",
            Self::Reconnect => "reconnect",
            Self::StaleCopy => "stale_copy",
            Self::Removed => "removed",
        }
    }

    /// The writer with this label.
    #[must_use]
    pub fn from_label(label: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|one| one.as_label() == label)
    }
}

/// Adds to the end and lets the oldest go.
fn push_within<T>(list: &mut Vec<T>, item: T, most: usize) {
    if list.len() >= most {
        list.drain(..=list.len() - most);
    }
    list.push(item);
}

/// Kinds of failure that are kept of an account: what it is now, and what went before.
pub const FAILURES_KEPT_MAX: usize = 6;

/// Changes of each other kind that are kept of an account.
pub const CHANGES_KEPT_MAX: usize = 4;

#[cfg(test)]
mod tests {
    use super::*;

    fn at(seconds: i64) -> Timestamp {
        Timestamp::from_unix(1_800_000_000 + seconds)
    }

    fn failure(cause: Cause, seconds: i64) -> Failure {
        Failure {
            evidence: Arc::new(Evidence::of(cause, at(seconds))),
            first_at: at(seconds),
            times: 1,
            source: Source::Refresh,
            token_age: Some(Duration::from_secs(60)),
            clock_ahead: None,
        }
    }

    #[test]
    fn the_same_failure_again_is_counted_and_keeps_when_it_began() {
        let mut history = History::default();
        for second in [0, 10, 20] {
            history.note_failure(failure(Cause::ProviderOutage, second), None);
        }
        let [only] = &history.failures[..] else { panic!("{history:?}") };
        assert_eq!((only.times, only.first_at, only.evidence.at), (3, at(0), at(20)));
    }

    #[test]
    fn a_failure_after_a_recovery_began_anew() {
        let mut history = History::default();
        history.note_failure(failure(Cause::ProviderOutage, 0), None);
        history.note_failure(failure(Cause::ProviderOutage, 20), Some(at(10)));
        let began: Vec<_> = history.failures.iter().map(|one| one.first_at).collect();
        assert_eq!(began, [at(0), at(20)]);
    }

    #[test]
    fn however_much_happens_only_the_last_few_kinds_are_kept() {
        let mut history = History::default();
        for (second, cause) in (0..).zip(Cause::ALL) {
            history.note_failure(failure(cause, second), None);
            history.note_scopes(at(second), vec![format!("scope-{second}").into()]);
            let by = Writer::ALL[usize::try_from(second).unwrap() % Writer::ALL.len()];
            history.note_writing(Writing { at: at(second), by });
        }
        assert_eq!(history.failures.len(), FAILURES_KEPT_MAX);
        assert_eq!(history.scopes.len(), CHANGES_KEPT_MAX);
        assert_eq!(history.writings.len(), CHANGES_KEPT_MAX);
        assert_eq!(history.last_failure().unwrap().evidence.cause, Cause::Unknown);
    }

    #[test]
    fn scopes_are_noted_when_they_change_and_not_before() {
        let mut history = History::default();
        assert!(!history.note_scopes(at(0), vec![]), "nothing missing is no news");
        assert!(history.note_scopes(at(1), vec!["video.publish".into()]));
        assert!(!history.note_scopes(at(2), vec!["video.publish".into()]));
        assert!(history.note_scopes(at(3), vec![]));
        assert_eq!(history.scopes.len(), 2);
    }

    #[test]
    fn a_publisher_that_writes_every_hour_is_one_line() {
        let mut history = History::default();
        history.note_writing(Writing { at: at(0), by: Writer::Reconnect });
        for hour in 1..50 {
            history.note_writing(Writing { at: at(hour * 3_600), by: Writer::Publisher });
        }
        assert_eq!(history.writings.len(), 2);
        assert_eq!(history.reconnected_at(), Some(at(0)));
    }
}
