//! SQLite: the one thread that owns the connection, and the queue in front of it.
//!
//! A durable commit costs one fsync, whatever is in it. So whatever arrives while a commit is in flight
//! goes into the next one, each job in a savepoint of its own, and nobody is answered before the commit.
//! Absent on purpose: retries in general. A job that failed is the caller's to repeat; only a result, which
//! exists nowhere else in the world, gets a second try with the reserved room.

use super::{
    Error,
    presence::Presence,
    room::Room,
    shares::{Beat, Held},
    simulated::{SharedOut, Simulated},
};
use crate::core::{AccountId, Timestamp};
use rusqlite::{Connection, ErrorCode};
use std::{
    path::PathBuf,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    thread::JoinHandle,
};
use tokio::sync::{mpsc, oneshot};

/// The handle: its last owner ends the thread and waits for it.
pub(super) struct Writer {
    /// Stands in for the thread in a simulation; there is none then.
    simulated: Option<Simulated>,
    /// Taken out when the handle is dropped; that is what ends the thread.
    jobs: Option<mpsc::Sender<Box<dyn Job>>>,
    /// Joined on drop, so that the file is closed when the handle is gone.
    thread: Option<JoinHandle<()>>,
    /// Commits that wrote something; counted by the thread.
    commits: Arc<AtomicU64>,
    /// The file, for messages.
    place: Arc<str>,
}

/// What a job may use.
pub(super) struct Desk {
    /// The connection, inside the transaction and the job's savepoint.
    pub(super) connection: Connection,
    /// The room kept for results.
    pub(super) room: Room,
    /// Who we are among the processes on this state.
    pub(super) holder: [u8; 16],
    /// Tells the others that we are there, and us which of them are.
    pub(super) presence: Presence,
    /// By how many seconds the caller's clock is ahead of the one that leases end by. Nothing on one machine;
    /// replicas on several are simulated on this database too.
    pub(super) ahead: i64,
    /// Who holds which accounts, where a simulation shares them out.
    pub(super) shared_out: Option<SharedOut>,
}

impl Desk {
    /// True when somebody else looks after the account, who knows better.
    pub(super) fn is_anothers(&self, id: &AccountId) -> bool {
        self.shared_out.as_ref().is_some_and(|shared| !shared.is_held_by(id, self.holder))
    }

    /// An instant of the caller's clock on the one that leases end by.
    pub(super) fn on_the_leases_clock(&self, at: Timestamp) -> Timestamp {
        if self.ahead == 0 { at } else { Timestamp::from_unix(at.as_unix() - self.ahead) }
    }
}

/// What a job asks of its commit.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    /// Writes nothing.
    Read,
    /// Writes something that can be repeated later.
    Write,
    /// Writes a token that exists nowhere else: it may use the reserved room.
    Result,
}

/// Why a job was not done. The thread adds the place and makes it an [`Error`].
#[derive(Debug)]
pub(super) enum Refusal {
    /// SQLite said so.
    Sqlite(rusqlite::Error),
    /// No room for a result, or no randomness for a nonce.
    Unavailable(String),
    /// A record that cannot be read.
    Damaged(String),
    /// The lease is not ours any more.
    LeaseLost(AccountId),
    /// The account has an attempt that must be settled first.
    EntryOpen(AccountId),
}

impl From<rusqlite::Error> for Refusal {
    fn from(error: rusqlite::Error) -> Self {
        Self::Sqlite(error)
    }
}

/// One piece of work and the caller who waits for it.
trait Job: Send {
    fn kind(&self) -> Kind;
    /// Does the work inside a savepoint. May be called again after a rollback.
    fn perform(&mut self, desk: &mut Desk) -> Result<(), Refusal>;
    /// Remembers why the job alone failed; its savepoint was rolled back.
    fn refuse(&mut self, error: Error);
    /// The commit is over: tells the caller.
    fn answer(self: Box<Self>, committed: Result<(), Error>);
}

struct Task<T, F> {
    kind: Kind,
    work: F,
    outcome: Option<Result<T, Error>>,
    caller: oneshot::Sender<Result<T, Error>>,
}

impl<T, F> Job for Task<T, F>
where
    T: Send,
    F: FnMut(&mut Desk) -> Result<T, Refusal> + Send,
{
    fn kind(&self) -> Kind {
        self.kind
    }

    fn perform(&mut self, desk: &mut Desk) -> Result<(), Refusal> {
        let value = (self.work)(desk)?;
        self.outcome = Some(Ok(value));
        Ok(())
    }

    fn refuse(&mut self, error: Error) {
        self.outcome = Some(Err(error));
    }

    fn answer(self: Box<Self>, committed: Result<(), Error>) {
        let outcome = match committed {
            Ok(()) => self.outcome.expect("a committed job was performed or refused"),
            Err(error) => Err(error),
        };
        // A caller who went away does not need the answer; the work is durable all the same.
        let _ = self.caller.send(outcome);
    }
}

impl Writer {
    /// Starts the thread; `open` runs in it, so that no file is touched by the caller's thread.
    pub(super) async fn start<T: Send + 'static>(
        file: PathBuf,
        open: impl FnOnce() -> Result<(Desk, T), Error> + Send + 'static,
    ) -> Result<(Self, T), Error> {
        let place: Arc<str> = file.display().to_string().into();
        let commits = Arc::new(AtomicU64::new(0));
        let (jobs, queue) = mpsc::channel(QUEUE_JOBS_MAX);
        let (opened, wait) = oneshot::channel();
        let mut thread_side =
            Committer { place: Arc::clone(&place), commits: Arc::clone(&commits), queue };
        let thread = std::thread::Builder::new()
            .name("state".to_owned())
            .spawn(move || match open() {
                Ok((desk, rest)) => {
                    if opened.send(Ok(rest)).is_ok() {
                        thread_side.run(desk);
                    }
                }
                Err(error) => drop(opened.send(Err(error))),
            })
            .map_err(|error| Error::Unavailable {
                place: place.to_string(),
                reason: format!("its thread cannot be started: {error}"),
            })?;
        let writer = Self {
            simulated: None,
            jobs: Some(jobs),
            thread: Some(thread),
            commits,
            place: Arc::clone(&place),
        };
        let rest = wait.await.unwrap_or_else(|_| Err(ended(&place)))?;
        Ok((writer, rest))
    }

    /// Without a thread: whoever simulates carries the work out.
    pub(super) fn simulated(simulated: Simulated) -> Self {
        Self {
            simulated: Some(simulated),
            jobs: None,
            thread: None,
            commits: Arc::default(),
            place: "simulated".into(),
        }
    }

    /// Queues the work and waits for the commit. Dropping the future does not take the work back.
    pub(super) async fn run<T: Send + 'static>(
        &self,
        kind: Kind,
        work: impl FnMut(&mut Desk) -> Result<T, Refusal> + Send + 'static,
    ) -> Result<T, Error> {
        if let Some(simulated) = &self.simulated {
            return simulated.run(kind, work).await;
        }
        let (caller, answer) = oneshot::channel();
        let job = Box::new(Task { kind, work, outcome: None, caller });
        let jobs = self.jobs.as_ref().ok_or_else(|| ended(&self.place))?;
        jobs.send(job).await.map_err(|_| ended(&self.place))?;
        answer.await.unwrap_or_else(|_| Err(ended(&self.place)))
    }

    /// Everything is ours, for ever; a simulation may share it out.
    pub(super) async fn hold(&self, beat: &Beat) -> Result<Held, Error> {
        match &self.simulated {
            Some(simulated) => simulated.hold(beat).await,
            None => Ok(Held::alone(beat.counts)),
        }
    }

    /// Gives everything back.
    pub(super) async fn leave(&self) -> Result<(), Error> {
        match &self.simulated {
            Some(simulated) => simulated.leave().await,
            None => Ok(()),
        }
    }

    /// Commits so far that wrote something.
    pub(super) fn commits(&self) -> u64 {
        self.commits.load(Ordering::Relaxed)
    }

    /// The file, for messages.
    pub(super) fn place(&self) -> &str {
        &self.place
    }
}

impl Drop for Writer {
    fn drop(&mut self) {
        // The queue ends when its sender is gone; what is in it is still committed.
        self.jobs = None;
        if let Some(thread) = self.thread.take() {
            // A panic in the thread was printed there and has been answered with `Unavailable`.
            let _ = thread.join();
        }
    }
}

/// The thread's side.
struct Committer {
    place: Arc<str>,
    commits: Arc<AtomicU64>,
    queue: mpsc::Receiver<Box<dyn Job>>,
}

impl Committer {
    fn run(&mut self, mut desk: Desk) {
        let mut batch = Vec::new();
        while let Some(first) = self.queue.blocking_recv() {
            batch.push(first);
            while batch.len() < BATCH_JOBS_MAX {
                let Ok(next) = self.queue.try_recv() else { break };
                batch.push(next);
            }
            self.settle(&mut desk, std::mem::take(&mut batch));
        }
    }

    /// Commits the batch and answers everybody in it.
    fn settle(&self, desk: &mut Desk, mut batch: Vec<Box<dyn Job>>) {
        let Err(trouble) = self.commit(desk, &mut batch) else {
            return batch.into_iter().for_each(|job| job.answer(Ok(())));
        };
        let (mut results, others): (Vec<_>, Vec<_>) =
            batch.into_iter().partition(|job| job.kind() == Kind::Result);
        let retried = if results.is_empty() {
            Ok(())
        } else {
            // Alone, so that nothing that can wait takes the room; and with the reserve given up, which
            // is kept for this moment only.
            if trouble.is_about_room() {
                desk.room.release(&desk.connection);
            }
            self.commit(desk, &mut results)
        };
        for job in results {
            job.answer(retried.as_ref().copied().map_err(|trouble| self.error(trouble)));
        }
        others.into_iter().for_each(|job| job.answer(Err(self.error(&trouble))));
    }

    /// One transaction. After an error nobody may rely on any of it; whether a failed fsync left it on the
    /// disk, only a restart would tell.
    fn commit(&self, desk: &mut Desk, batch: &mut [Box<dyn Job>]) -> Result<(), Refusal> {
        let writes = batch.iter().any(|job| job.kind() != Kind::Read);
        let begin = if writes { "BEGIN IMMEDIATE" } else { "BEGIN DEFERRED" };
        desk.connection.execute_batch(begin)?;
        let done = batch
            .iter_mut()
            .try_for_each(|job| self.perform(desk, &mut **job))
            .and_then(|()| Ok(desk.connection.execute_batch("COMMIT")?));
        if done.is_err() && !desk.connection.is_autocommit() {
            // If even this fails, the next BEGIN fails too, and says so.
            let _ = desk.connection.execute_batch("ROLLBACK");
        }
        if done.is_ok() && writes {
            self.commits.fetch_add(1, Ordering::Relaxed);
        }
        done
    }

    /// One job in its savepoint. An error ruins the whole transaction; a refusal of this job alone does
    /// not harm the others.
    fn perform(&self, desk: &mut Desk, job: &mut dyn Job) -> Result<(), Refusal> {
        desk.connection.execute_batch("SAVEPOINT job")?;
        match job.perform(desk) {
            Ok(()) => desk.connection.execute_batch("RELEASE job")?,
            // SQLite rolls the whole transaction back by itself on some errors.
            Err(refusal) if ruins(&refusal) || desk.connection.is_autocommit() => {
                return Err(refusal);
            }
            Err(refusal) => {
                desk.connection.execute_batch("ROLLBACK TO job; RELEASE job")?;
                job.refuse(self.error(&refusal));
            }
        }
        Ok(())
    }

    fn error(&self, refusal: &Refusal) -> Error {
        refusal.at(&self.place)
    }
}

impl Refusal {
    /// True when more room might help. Not every write of SQLite tells a full disk from a broken one.
    pub(super) fn is_about_room(&self) -> bool {
        matches!(self, Self::Sqlite(rusqlite::Error::SqliteFailure(failure, _)) if matches!(
            failure.code,
            ErrorCode::DiskFull | ErrorCode::SystemIoFailure | ErrorCode::CannotOpen
        ))
    }

    /// The same, for the caller.
    pub(super) fn at(&self, place: &str) -> Error {
        let place = place.to_owned();
        match self {
            Self::Sqlite(error) if is_damage(error) => {
                Error::Damaged { place, reason: format!("{}; {RESTORE}", said(error)) }
            }
            Self::Sqlite(error) => Error::Unavailable { place, reason: said(error) },
            Self::Unavailable(reason) => Error::Unavailable { place, reason: reason.clone() },
            Self::Damaged(reason) => Error::Damaged { place, reason: reason.clone() },
            Self::LeaseLost(id) => Error::LeaseLost { id: id.clone() },
            Self::EntryOpen(id) => Error::EntryOpen { id: id.clone() },
        }
    }
}

/// What SQLite said, without the statement and without any value in it.
fn said(error: &rusqlite::Error) -> String {
    match error {
        rusqlite::Error::SqliteFailure(failure, _) => match failure.code {
            ErrorCode::DiskFull => "the disk, or the room that state may take, is full".to_owned(),
            ErrorCode::DatabaseBusy | ErrorCode::DatabaseLocked => {
                "another process has held its lock for too long".to_owned()
            }
            ErrorCode::ReadOnly => "it cannot be written: read-only".to_owned(),
            _ => failure.to_string(),
        },
        rusqlite::Error::InvalidColumnType(..)
        | rusqlite::Error::FromSqlConversionFailure(..)
        | rusqlite::Error::IntegralValueOutOfRange(..) => {
            "a column holds something that was never written there".to_owned()
        }
        _ => "SQLite refused a statement".to_owned(),
    }
}

fn is_damage(error: &rusqlite::Error) -> bool {
    match error {
        rusqlite::Error::SqliteFailure(failure, _) => {
            matches!(failure.code, ErrorCode::DatabaseCorrupt | ErrorCode::NotADatabase)
        }
        rusqlite::Error::InvalidColumnType(..)
        | rusqlite::Error::FromSqlConversionFailure(..)
        | rusqlite::Error::IntegralValueOutOfRange(..) => true,
        _ => false,
    }
}

/// True when the disk is to blame and not the job: its neighbours would fail too.
fn ruins(refusal: &Refusal) -> bool {
    let Refusal::Sqlite(rusqlite::Error::SqliteFailure(failure, _)) = refusal else { return false };
    matches!(
        failure.code,
        ErrorCode::DiskFull
            | ErrorCode::SystemIoFailure
            | ErrorCode::OutOfMemory
            | ErrorCode::ReadOnly
            | ErrorCode::DatabaseCorrupt
            | ErrorCode::NotADatabase
            | ErrorCode::DatabaseBusy
    )
}

/// The other side of the queue is gone.
pub(super) fn ended(place: &str) -> Error {
    Error::Unavailable { place: place.to_owned(), reason: "its thread has ended".to_owned() }
}

/// Jobs that may wait for the thread; whoever brings one more waits for a place.
const QUEUE_JOBS_MAX: usize = 4_096;

/// Jobs in one transaction: enough to make the fsync cheap, few enough to answer the first one soon.
const BATCH_JOBS_MAX: usize = 1_024;

/// What to do about a damaged file.
pub(super) const RESTORE: &str =
    "stop the sidecar, then restore the directory from a backup or move it away to start afresh";
