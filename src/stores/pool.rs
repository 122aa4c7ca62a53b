//! A few connections to a database server, never more than were allowed.
//!
//! A connection comes back only from whoever used it to the end; one that was dropped on the way, or met
//! trouble, is closed. Nothing is ever handed out in the middle of somebody's transaction.

use std::{
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

/// Connections that nobody uses at the moment, and permits for those that may exist.
pub(super) struct Pool<C> {
    permits: Arc<Semaphore>,
    idle: Mutex<Vec<C>>,
}

/// The right to one connection.
pub(super) struct Permit(OwnedSemaphorePermit);

impl<C> Pool<C> {
    pub(super) fn new(connections_max: usize) -> Self {
        Self { permits: Arc::new(Semaphore::new(connections_max)), idle: Mutex::new(Vec::new()) }
    }

    /// Waits for the right to a connection; `None` when all were in use for all of `patience`.
    pub(super) async fn permit(&self, patience: Duration) -> Option<Permit> {
        let permit = Arc::clone(&self.permits).acquire_owned();
        let permit = tokio::time::timeout(patience, permit).await.ok()?;
        Some(Permit(permit.expect("the semaphore is never closed")))
    }

    /// A connection that somebody brought back. It may have died since.
    pub(super) fn idle(&self, _: &Permit) -> Option<C> {
        self.connections().pop()
    }

    /// Brings a connection back that was used to the end.
    pub(super) fn give_back(&self, connection: C, permit: Permit) {
        self.connections().push(connection);
        drop(permit.0);
    }

    fn connections(&self) -> std::sync::MutexGuard<'_, Vec<C>> {
        self.idle.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn what_is_dropped_is_not_handed_out_again_and_frees_its_place() {
        let pool = Pool::new(1);
        let permit = pool.permit(Duration::ZERO).await.expect("nobody has one");
        assert!(pool.permit(Duration::from_secs(1)).await.is_none(), "one is all there is");
        pool.give_back("connection", permit);
        let permit = pool.permit(Duration::ZERO).await.expect("it came back");
        assert_eq!(pool.idle(&permit), Some("connection"));
        drop(permit);
        let permit = pool.permit(Duration::ZERO).await.expect("a dropped one frees its place");
        assert_eq!(pool.idle(&permit), None);
    }
}
