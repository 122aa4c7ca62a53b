//! The only reader of the clock.

use crate::core::{
    Timestamp,
    timeline::{Reading, Timeline},
};
use std::sync::{Arc, Mutex, PoisonError};

/// Tells the program's time. Cheap to clone; all clones tell the same.
///
/// It follows a clock that also counts while the machine is suspended, so a step of the wall clock does
/// not move the program's time until a provider's `Date` header confirms it; see [`Timeline`].
#[derive(Clone, Debug)]
pub struct Clock(Arc<Mutex<Timeline>>);

impl Clock {
    /// Starts from what the wall clock says.
    #[must_use]
    pub fn start() -> Self {
        Self(Arc::new(Mutex::new(Timeline::start(read()))))
    }

    /// The program's time.
    #[must_use]
    pub fn now(&self) -> Timestamp {
        self.with(|timeline| timeline.now(read()))
    }

    /// Takes note of a provider's `Date` header that arrived just now, and answers by how many seconds
    /// that clock is ahead of ours.
    pub fn observe_date(&self, date: Timestamp) -> i64 {
        self.with(|timeline| timeline.observe_date(read(), date))
    }

    /// Seconds by which the wall clock is ahead of the program's time; not zero after a step that
    /// nobody has confirmed.
    #[must_use]
    pub fn unconfirmed_step(&self) -> i64 {
        self.with(|timeline| timeline.unconfirmed_step(read()))
    }

    fn with<R>(&self, ask: impl FnOnce(&mut Timeline) -> R) -> R {
        ask(&mut self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

fn read() -> Reading {
    let since_boot = rustix::time::clock_gettime(rustix::time::ClockId::Boottime);
    let wall = rustix::time::clock_gettime(rustix::time::ClockId::Realtime);
    Reading { steady: since_boot.tv_sec, wall: wall.tv_sec }
}
