//! The only reader of the clock.

use crate::core::{
    Timestamp,
    timeline::{Dated, Reading, Timeline},
};
use std::{
    fmt,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

/// Tells the program's time. Cheap to clone; all clones tell the same.
///
/// It follows a clock that also counts while the machine is suspended, so a step of the wall clock does
/// not move the program's time until a provider's `Date` header confirms it; see [`Timeline`].
#[derive(Clone, Debug)]
pub struct Clock(Arc<Both>);

#[derive(Debug)]
struct Both {
    timeline: Mutex<Timeline>,
    source: Source,
}

/// Where readings come from.
enum Source {
    /// The machine.
    Machine,
    /// The runtime's time, from an instant and a moment on.
    Runtime(Timestamp, tokio::time::Instant),
    /// Whoever simulates.
    Played(Box<dyn Fn() -> Reading + Send + Sync>),
}

impl fmt::Debug for Source {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Machine => "Machine",
            Self::Runtime(..) => "Runtime",
            Self::Played(_) => "Played",
        })
    }
}

impl Clock {
    /// Starts from what the wall clock says.
    #[must_use]
    pub fn start() -> Self {
        Self::of(Source::Machine)
    }

    /// It is `at` now, and time passes as it does for the runtime's timers: a test that pauses and advances
    /// those moves the whole program.
    #[must_use]
    pub fn simulated(at: Timestamp) -> Self {
        Self::of(Source::Runtime(at, tokio::time::Instant::now()))
    }

    /// Two clocks that a simulation reads for us, wall clock that steps included.
    #[must_use]
    pub fn played(read: impl Fn() -> Reading + Send + Sync + 'static) -> Self {
        Self::of(Source::Played(Box::new(read)))
    }

    /// The program's time.
    #[must_use]
    pub fn now(&self) -> Timestamp {
        self.with(Timeline::now)
    }

    /// Takes note of a provider's `Date` header that arrived just now, and answers by how many seconds
    /// that clock is ahead of ours.
    pub fn observe(&self, dated: Dated<'_>) -> i64 {
        self.with(|timeline, reading| timeline.observe(reading, dated))
    }

    /// By how many seconds each provider's clock is ahead of ours, by its last answers, if that can have
    /// changed since `seen`.
    #[must_use]
    pub fn offsets_since(&self, seen: &mut (u64, i64)) -> Vec<(Arc<str>, i64)> {
        self.with(|timeline, _| {
            if std::mem::replace(seen, timeline.version()) == timeline.version() {
                return Vec::new();
            }
            timeline.offsets().map(|(name, ahead)| (Arc::clone(name), ahead)).collect()
        })
    }

    /// By how many seconds the machine's clock seems to be wrong, by a step of its own or by what providers
    /// say; zero while nothing speaks against it.
    #[must_use]
    pub fn machine_is_off_by(&self) -> i64 {
        self.with(|timeline, reading| timeline.machine_is_off_by(reading))
    }

    /// How far the machine's clock is ahead of the time that several providers agreed on.
    #[must_use]
    pub fn machine_is_ahead_by(&self) -> Duration {
        let ahead = self.with(|timeline, reading| timeline.machine_is_ahead_by(reading));
        Duration::from_secs(ahead.unsigned_abs())
    }

    /// Seconds by which the wall clock is ahead of the program's time; not zero after a step that
    /// nobody has confirmed.
    #[must_use]
    pub fn unconfirmed_step(&self) -> i64 {
        self.with(|timeline, reading| timeline.unconfirmed_step(reading))
    }

    /// A reading of the clock that never steps and counts through suspend; its zero means nothing. For
    /// measuring what must not be longer than a lease.
    #[must_use]
    pub fn steady(&self) -> Duration {
        match &self.0.source {
            Source::Machine => {
                let since_boot = rustix::time::clock_gettime(rustix::time::ClockId::Boottime);
                Duration::try_from(since_boot).unwrap_or_default()
            }
            Source::Runtime(_, origin) => origin.elapsed(),
            Source::Played(read) => {
                Duration::from_secs(read().steady.try_into().unwrap_or_default())
            }
        }
    }

    fn of(source: Source) -> Self {
        let timeline = Mutex::new(Timeline::start(source.read()));
        Self(Arc::new(Both { timeline, source }))
    }

    fn with<R>(&self, ask: impl FnOnce(&mut Timeline, Reading) -> R) -> R {
        let mut timeline = self.0.timeline.lock().unwrap_or_else(PoisonError::into_inner);
        ask(&mut timeline, self.0.source.read())
    }
}

impl Source {
    fn read(&self) -> Reading {
        match self {
            Self::Machine => {
                let since_boot = rustix::time::clock_gettime(rustix::time::ClockId::Boottime);
                let wall = rustix::time::clock_gettime(rustix::time::ClockId::Realtime);
                Reading { steady: since_boot.tv_sec, wall: wall.tv_sec }
            }
            Self::Runtime(at, origin) => {
                let seconds = at.as_unix() + origin.elapsed().as_secs().cast_signed();
                Reading { steady: seconds, wall: seconds }
            }
            Self::Played(read) => read(),
        }
    }
}
