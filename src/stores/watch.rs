//! Waiting until a store on this machine may have changed.
//!
//! The directories are watched and never the file: a watch on a file goes deaf with the first atomic
//! replacement, and a Kubernetes volume never names the file at all. An event is only a reason to look;
//! looking again every so often makes up for events that are lost.

use notify::{EventKind, RecommendedWatcher, RecursiveMode, Watcher, event::AccessKind};
use std::{
    future::Future,
    path::PathBuf,
    sync::{Mutex, PoisonError},
    time::Duration,
};
use tokio::{sync::watch, time::Instant};

/// Compares what a look finds with what was found before. `S` is whatever changes when the store does.
pub(super) struct Watch<S> {
    state: Mutex<State<S>>,
    /// Counts events; the number itself means nothing.
    events: watch::Receiver<u64>,
    poll_every: Duration,
    /// Its thread ends when it is dropped. `None` where the system has no watches left: then the poll
    /// is all there is.
    _watcher: Option<RecommendedWatcher>,
}

struct State<S> {
    seen: S,
    /// The event count up to which a look has been taken.
    events_looked_at: u64,
    next_poll: Instant,
    /// No look before this, so that a directory in which something is always going on does not keep us busy.
    not_before: Instant,
}

impl<S: PartialEq> Watch<S> {
    /// Starts watching; `seen` is what a look would find now.
    pub(super) fn start(directories: &[PathBuf], poll_every: Duration, seen: S) -> Self {
        let (count, events) = watch::channel(0);
        let watcher = watcher(directories, count);
        Self { _watcher: watcher, ..Self::told_by(events, poll_every, seen) }
    }

    /// The same for a store that is told of changes in another way: `events` counts them.
    pub(super) fn told_by(events: watch::Receiver<u64>, poll_every: Duration, seen: S) -> Self {
        let now = Instant::now();
        Self {
            state: Mutex::new(State {
                seen,
                events_looked_at: 0,
                next_poll: now + poll_every,
                not_before: now,
            }),
            events,
            poll_every,
            _watcher: None,
        }
    }

    /// Returns when a look finds something else than before. Safe to drop: what has been seen is noted
    /// in the same step in which this returns.
    pub(super) async fn changed<F: Future<Output = S>>(&self, look: impl Fn() -> F) {
        loop {
            let events = self.until_worth_a_look().await;
            let found = look().await;
            let now = Instant::now();
            let mut state = self.state();
            state.events_looked_at = events;
            state.next_poll = now + self.poll_every;
            state.not_before = now + PAUSE;
            if state.seen != found {
                state.seen = found;
                return;
            }
        }
    }

    /// Takes note of a write of our own: nobody needs to be told, unless somebody else wrote as well.
    pub(super) fn wrote(&self, before: &S, after: S) {
        let mut state = self.state();
        if state.seen == *before {
            state.seen = after;
        }
    }

    /// The same where only a part of what has been seen is ours.
    pub(super) fn adjust(&self, change: impl FnOnce(&mut S)) {
        change(&mut self.state().seen);
    }

    async fn until_worth_a_look(&self) -> u64 {
        let (handled, next_poll, not_before) = {
            let state = self.state();
            (state.events_looked_at, state.next_poll, state.not_before)
        };
        let mut events = self.events.clone();
        let event = async {
            if events.wait_for(|count| *count != handled).await.is_err() {
                std::future::pending::<()>().await;
            }
            // Writers come in bursts; the last event of one is the one worth a look.
            tokio::time::sleep(PAUSE).await;
        };
        tokio::select! {
            () = event => {}
            () = tokio::time::sleep_until(next_poll) => {}
        }
        tokio::time::sleep_until(not_before).await;
        *self.events.borrow()
    }

    fn state(&self) -> std::sync::MutexGuard<'_, State<S>> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn watcher(directories: &[PathBuf], count: watch::Sender<u64>) -> Option<RecommendedWatcher> {
    let mut watcher = notify::recommended_watcher(move |event: notify::Result<notify::Event>| {
        // A watcher in trouble has lost events, so trouble counts as one.
        if event.map_or(true, |event| may_be_a_change(event.kind)) {
            count.send_modify(|count| *count = count.wrapping_add(1));
        }
    })
    .ok()?;
    for directory in directories {
        if let Err(error) = watcher.watch(directory, RecursiveMode::NonRecursive) {
            tracing::warn!(
                directory = %directory.display(), %error,
                "the directory cannot be watched; changes are noticed by polling only",
            );
        }
    }
    Some(watcher)
}

/// Being read is not being changed, and we read ourselves.
fn may_be_a_change(kind: EventKind) -> bool {
    !matches!(kind, EventKind::Access(access) if !matches!(access, AccessKind::Close(notify::event::AccessMode::Write)))
}

/// Between an event and the look, and between two looks.
const PAUSE: Duration = Duration::from_millis(300);

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::atomic::{AtomicU32, Ordering};

    const MINUTE: Duration = Duration::from_secs(60);

    /// Nothing is watched here, so only the poll can notice.
    fn blind(seen: u32) -> Watch<u32> {
        Watch::start(&[], MINUTE, seen)
    }

    #[tokio::test(start_paused = true)]
    async fn a_lost_event_costs_one_poll_interval_and_no_more() {
        let watch = blind(1);
        let started = Instant::now();
        watch.changed(|| async { 2 }).await;
        assert_eq!(started.elapsed(), MINUTE);
    }

    #[tokio::test(start_paused = true)]
    async fn a_poll_that_finds_the_same_is_no_change() {
        let (watch, looks) = (blind(1), AtomicU32::new(0));
        let look = || async {
            looks.fetch_add(1, Ordering::Relaxed);
            1
        };
        let hour = tokio::time::timeout(60 * MINUTE + PAUSE, watch.changed(look)).await;
        assert!(hour.is_err());
        assert_eq!(looks.load(Ordering::Relaxed), 60);
    }

    #[tokio::test(start_paused = true)]
    async fn being_dropped_over_and_over_does_not_put_the_poll_off() {
        let watch = blind(1);
        let started = Instant::now();
        while tokio::time::timeout(Duration::from_secs(1), watch.changed(|| async { 2 }))
            .await
            .is_err()
        {}
        assert!(started.elapsed() <= MINUTE + Duration::from_secs(1));
    }

    #[tokio::test(start_paused = true)]
    async fn a_store_that_changes_with_every_look_is_reported_at_intervals() {
        let watch = Watch::start(&[], Duration::from_millis(1), 0);
        let looks = AtomicU32::new(0);
        let started = Instant::now();
        for _ in 0..10 {
            watch.changed(|| async { looks.fetch_add(1, Ordering::Relaxed) + 1 }).await;
        }
        assert!(started.elapsed() >= 9 * PAUSE);
    }

    #[tokio::test(start_paused = true)]
    async fn a_write_of_our_own_hides_nobody_elses() {
        let watch = blind(1);
        watch.wrote(&1, 2);
        let own = watch.changed(|| async { 2 });
        assert!(tokio::time::timeout(2 * MINUTE, own).await.is_err(), "our own write is no news");
        watch.wrote(&3, 4);
        watch.changed(|| async { 4 }).await;
    }
}
