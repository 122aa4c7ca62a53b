//! Blocking work off the async threads, with bounds.

use super::{Error, StoredAccount};
use std::ops::ControlFlow;
use tokio::{
    sync::mpsc,
    task::{JoinError, spawn_blocking},
};

/// Runs `work` where it may block. Dropping the future does not stop it: a write that has begun ends.
pub(super) async fn run<R: Send + 'static>(
    work: impl FnOnce() -> Result<R, Error> + Send + 'static,
) -> Result<R, Error> {
    spawn_blocking(work).await.unwrap_or_else(|error| Err(stopped(error)))
}

/// Runs `work`, which hands out rows one at a time, and passes them on to the caller's functions.
/// Dropping the future makes the next row end the work.
pub(super) async fn stream(
    work: impl FnOnce(&mut Rows<'_>) -> Result<(), Error> + Send + 'static,
    mut each: impl FnMut(StoredAccount) + Send,
    mut damaged: impl FnMut(Error) + Send,
) -> Result<(), Error> {
    let (send, mut receive) = mpsc::channel(ROWS_WAITING_MAX);
    let work = spawn_blocking(move || {
        work(&mut |row| match send.blocking_send(row) {
            Ok(()) => ControlFlow::Continue(()),
            Err(_) => ControlFlow::Break(()),
        })
    });
    while let Some(row) = receive.recv().await {
        match row {
            Ok(account) => each(account),
            Err(error) => damaged(error),
        }
    }
    work.await.unwrap_or_else(|error| Err(stopped(error)))
}

/// Takes a row; `Break` when nobody wants more.
pub(super) type Rows<'a> = dyn FnMut(Result<StoredAccount, Error>) -> ControlFlow<()> + 'a;

/// A panic goes on in the caller, with its own message. Otherwise the program is ending.
fn stopped(error: JoinError) -> Error {
    match error.try_into_panic() {
        Ok(panic) => std::panic::resume_unwind(panic),
        Err(_) => Error::Unavailable {
            place: "store".to_owned(),
            reason: "the program is ending and takes no more work".to_owned(),
        },
    }
}

/// Rows, and so tokens, that wait between the reader and the caller.
const ROWS_WAITING_MAX: usize = 64;
