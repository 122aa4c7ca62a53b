//! The one connection that carries every call, and the queue in front of it.
//!
//! As on SQLite, whatever arrives while a commit is in flight goes into the next one, and nobody is
//! answered before the commit. A connection that was lost is made again, with a pause that grows. Whether a
//! COMMIT whose answer was lost took place is not known, and its calls are told that state is unavailable:
//! each of them can be repeated.

use super::{
    super::{
        Error,
        seal::KeyId,
        shares::Role,
        writer::{Kind, Refusal, ended},
    },
    Settings, letters,
    save::{STATEMENT_MAX, Saves},
    session::{self, Answers, Carried, Request, Session},
    work::{Step, Work},
};
use crate::core::AccountId;
use std::{
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    thread::JoinHandle,
    time::{Duration, Instant},
};
use tokio::{
    runtime,
    sync::{mpsc, oneshot},
    time::timeout,
};

/// The handle: its last owner ends the thread and waits for it.
pub(in super::super) struct Writer {
    /// Taken out when the handle is dropped; that is what ends the thread.
    jobs: Option<mpsc::Sender<Box<dyn Job>>>,
    /// Joined on drop, so that what was queued has been tried when the handle is gone.
    thread: Option<JoinHandle<()>>,
    /// Commits that wrote something; counted by the thread.
    commits: Arc<AtomicU64>,
    /// The database, for messages.
    place: Arc<str>,
    /// Who we are among the processes on this state.
    holder: [u8; 16],
    /// Whether we look after shares of the accounts.
    role: Role,
}

/// One call and the caller who waits for it.
trait Job: Send {
    fn request(&self) -> Request<'_>;
    fn about(&self) -> Option<&AccountId>;
    fn answer(self: Box<Self>, place: &str, outcome: Result<Answers, Error>);
}

struct Task<T> {
    work: Work<T>,
    caller: oneshot::Sender<Result<T, Error>>,
}

impl<T: Send> Job for Task<T> {
    fn request(&self) -> Request<'_> {
        let Work { kind, steps, attempted, .. } = &self.work;
        Request { kind: *kind, steps, attempted: attempted.as_ref() }
    }

    fn about(&self) -> Option<&AccountId> {
        self.work.about.as_ref()
    }

    fn answer(self: Box<Self>, place: &str, outcome: Result<Answers, Error>) {
        let read = &self.work.read;
        let answer =
            outcome.and_then(|answers| read(&answers).map_err(|refusal| refusal.at(place)));
        // A caller who went away does not need the answer; the work is durable all the same.
        let _ = self.caller.send(answer);
    }
}

impl Writer {
    /// Connects, and starts the thread that keeps the connection. A thread of its own, so that the state
    /// outlives the runtime of whoever opened it for as long as something is queued.
    pub(in super::super) async fn start(
        settings: Settings,
        key_id: KeyId,
        holder: [u8; 16],
        role: Role,
    ) -> Result<Self, Error> {
        let place: Arc<str> = settings.to_string().into();
        let commits = Arc::new(AtomicU64::new(0));
        let (jobs, queue) = mpsc::channel(QUEUE_JOBS_MAX);
        let (opened, wait) = oneshot::channel();
        let thread_side = Committer {
            settings,
            key_id,
            holder,
            place: Arc::clone(&place),
            commits: Arc::clone(&commits),
            queue,
            session: None,
            failed: None,
            saves_rest_until: None,
        };
        let sorry = |error: std::io::Error| Error::Unavailable {
            place: place.to_string(),
            reason: format!("its thread cannot be started: {error}"),
        };
        let runtime = runtime::Builder::new_current_thread().enable_all().build().map_err(sorry)?;
        let thread = std::thread::Builder::new()
            .name("state".to_owned())
            .spawn(move || runtime.block_on(thread_side.run(opened)))
            .map_err(sorry)?;
        let writer = Self {
            jobs: Some(jobs),
            thread: Some(thread),
            commits,
            place: Arc::clone(&place),
            holder,
            role,
        };
        wait.await.unwrap_or_else(|_| Err(ended(&place)))?;
        Ok(writer)
    }

    /// Queues the work and waits for the commit. Dropping the future does not take the work back.
    pub(in super::super) async fn run<T: Send + 'static>(&self, work: Work<T>) -> Result<T, Error> {
        let (caller, answer) = oneshot::channel();
        let job = Box::new(Task { work, caller });
        let jobs = self.jobs.as_ref().ok_or_else(|| ended(&self.place))?;
        jobs.send(job).await.map_err(|_| ended(&self.place))?;
        answer.await.unwrap_or_else(|_| Err(ended(&self.place)))
    }

    /// Commits so far that wrote something.
    pub(in super::super) fn commits(&self) -> u64 {
        self.commits.load(Ordering::Relaxed)
    }

    /// The database, for messages.
    pub(in super::super) fn place(&self) -> &str {
        &self.place
    }

    /// Who we are among the processes on this state.
    pub(in super::super) const fn holder(&self) -> [u8; 16] {
        self.holder
    }

    /// Who must hold the share of an account that is written about; `None` when that is not asked.
    pub(in super::super) const fn fence(&self) -> Option<[u8; 16]> {
        match self.role {
            Role::Replica => Some(self.holder),
            Role::Guest => None,
        }
    }
}

impl Drop for Writer {
    fn drop(&mut self) {
        // The queue ends when its sender is gone; what is in it is still tried.
        self.jobs = None;
        if let Some(thread) = self.thread.take() {
            // A panic in the thread was printed there and has been answered with `Unavailable`.
            let _ = thread.join();
        }
    }
}

/// The thread's side.
struct Committer {
    settings: Settings,
    key_id: KeyId,
    holder: [u8; 16],
    place: Arc<str>,
    commits: Arc<AtomicU64>,
    queue: mpsc::Receiver<Box<dyn Job>>,
    /// `None` until it is needed again after it was lost.
    session: Option<Session>,
    /// The last attempt to connect, if it failed: when, for how long to wait, and why.
    failed: Option<Failure>,
    /// The publisher's table held everybody up a moment ago: until then results are recorded alone.
    saves_rest_until: Option<Instant>,
}

struct Failure {
    at: Instant,
    pause: Duration,
    error: Error,
}

/// Why a transaction was not, or perhaps not, committed.
struct Trouble {
    error: Error,
    /// Another transaction with fewer calls in it may go through.
    of_one_job: bool,
}

impl Committer {
    async fn run(mut self, mut opened: oneshot::Sender<Result<(), Error>>) {
        let session = tokio::select! {
            session = session::open(&self.settings, self.key_id) => session,
            // Whoever started this thread has been told to end, and waits for it.
            () = opened.closed() => return,
        };
        match session {
            Ok(session) => self.session = Some(session),
            Err(refusal) => return drop(opened.send(Err(refusal.at(&self.place)))),
        }
        if opened.send(Ok(())).is_err() {
            return;
        }
        let mut batch = Vec::new();
        while let Some(first) = self.queue.recv().await {
            batch.push(first);
            while batch.len() < BATCH_JOBS_MAX && saves(&batch) < BATCH_SAVES_MAX {
                let Ok(next) = self.queue.try_recv() else { break };
                batch.push(next);
            }
            self.settle(std::mem::take(&mut batch)).await;
        }
        self.leave().await;
    }

    /// Commits the batch and answers everybody in it.
    async fn settle(&mut self, mut batch: Vec<Box<dyn Job>>) {
        batch.sort_by(|a, b| order(&**a).cmp(&order(&**b)));
        let trouble = match self.transact(&batch, Saves::Try).await {
            Ok(answers) => return self.answer(batch, answers),
            Err(trouble) => trouble,
        };
        if trouble.of_one_job && batch.len() > 1 {
            return self.settle_one_by_one(batch).await;
        }
        // Reading again does no harm, and a result exists nowhere else in the world.
        let (again, others): (Vec<_>, Vec<_>) =
            batch.into_iter().partition(|job| job.request().kind != Kind::Write);
        self.refuse(others, &trouble.error);
        if again.is_empty() {
            return;
        }
        // Should it have been committed, their table tells; once more it must not keep a result waiting.
        match self.transact(&again, Saves::Check).await {
            Ok(answers) => self.answer(again, answers),
            Err(trouble) => self.refuse(again, &trouble.error),
        }
    }

    /// One of them spoils it for the others; which one, shows when each is alone.
    async fn settle_one_by_one(&mut self, batch: Vec<Box<dyn Job>>) {
        for job in batch {
            let alone = [job];
            let outcome = self.transact(&alone, Saves::Try).await;
            match outcome {
                Ok(answers) => self.answer(alone.into(), answers),
                Err(trouble) => self.refuse(alone.into(), &trouble.error),
            }
        }
    }

    fn answer(&self, jobs: Vec<Box<dyn Job>>, answers: Vec<Answers>) {
        for (job, answers) in jobs.into_iter().zip(answers) {
            job.answer(&self.place, Ok(answers));
        }
    }

    fn refuse(&self, jobs: Vec<Box<dyn Job>>, error: &Error) {
        for job in jobs {
            job.answer(&self.place, Err(error.clone()));
        }
    }

    async fn transact(
        &mut self,
        jobs: &[Box<dyn Job>],
        saves_now: Saves,
    ) -> Result<Vec<Answers>, Trouble> {
        let place = Arc::clone(&self.place);
        let limit = self.settings.statement_timeout * TRANSACTION_STATEMENTS_SLOW_MAX
            + STATEMENT_MAX * saves(jobs);
        let rest = self.saves_rest_until.is_some_and(|until| Instant::now() < until);
        let saves_now = if rest { Saves::Leave } else { saves_now };
        let session = self.session().await?;
        let requests: Vec<_> = jobs.iter().map(|job| job.request()).collect();
        let error = match timeout(limit, session.transact(&requests, saves_now)).await {
            Ok(Ok(Carried { answers, held_up })) => {
                if held_up {
                    self.saves_rest_until = Some(Instant::now() + SAVES_REST);
                }
                if requests.iter().any(|request| request.kind != Kind::Read) {
                    self.commits.fetch_add(1, Ordering::Relaxed);
                }
                return Ok(answers);
            }
            Ok(Err(error)) if error.code().is_some() && session.is_open() => {
                return Err(Trouble {
                    of_one_job: session::is_of_one_request(&error),
                    error: session::unavailable(error).at(&place),
                });
            }
            Ok(Err(error)) => session::unavailable(error),
            Err(_) => Refusal::Unavailable(format!("no answer within {} s", limit.as_secs_f32())),
        };
        // What is still on its way there must not be mistaken for an answer to what comes next.
        self.session = None;
        Err(Trouble { error: error.at(&place), of_one_job: false })
    }

    /// The connection, made again if need be. While the pause after a failure lasts, the failure is the
    /// answer: callers learn at once that nothing may be spent.
    async fn session(&mut self) -> Result<&mut Session, Trouble> {
        let open = self.session.take_if(|session| !session.is_open()).is_none();
        if let (true, Some(_)) = (open, &self.session) {
            return Ok(self.session.as_mut().expect("it was there a line ago"));
        }
        let mut pause = PAUSE_FIRST;
        if let Some(failed) = &self.failed {
            if failed.at.elapsed() < failed.pause {
                return Err(Trouble { error: failed.error.clone(), of_one_job: false });
            }
            pause = (failed.pause * 2).min(PAUSE_MAX);
        }
        match session::open(&self.settings, self.key_id).await {
            Ok(session) => {
                self.failed = None;
                Ok(self.session.insert(session))
            }
            Err(refusal) => {
                let error = refusal.at(&self.place);
                self.failed = Some(Failure { at: Instant::now(), pause, error: error.clone() });
                Err(Trouble { error, of_one_job: false })
            }
        }
    }

    /// Mails that nobody will send for us now are for others; without this they wait for the claim's end.
    async fn leave(&mut self) {
        let steps: [Step; 1] = [letters::unclaim(self.holder)];
        if let Some(session) = &mut self.session {
            let request = Request { kind: Kind::Write, steps: &steps, attempted: None };
            let leaving = [request];
            let leaving = session.transact(&leaving, Saves::Leave);
            let _ = timeout(self.settings.statement_timeout, leaving).await;
        }
    }
}

fn saves(jobs: &[Box<dyn Job>]) -> u32 {
    jobs.iter().map(|job| u32::from(job.request().attempted.is_some())).sum()
}

/// Calls about no account in particular come last, in the order in which they arrived.
fn order(job: &dyn Job) -> (bool, Option<&AccountId>) {
    (job.about().is_none(), job.about())
}

/// Jobs that may wait for the thread; whoever brings one more waits for a place.
const QUEUE_JOBS_MAX: usize = 4_096;

/// Jobs in one transaction: enough to make the commit cheap, few enough to answer the first one soon.
const BATCH_JOBS_MAX: usize = 1_024;

/// Saves into the publisher's table in one transaction: if all of them wait as long as they may, everybody
/// else in it waits for the sum.
const BATCH_SAVES_MAX: u32 = 8;

/// How long results are recorded alone after the publisher's table has held everybody up.
const SAVES_REST: Duration = Duration::from_secs(5);

/// How many statements of one transaction may take the longest time that one may take.
const TRANSACTION_STATEMENTS_SLOW_MAX: u32 = 2;

/// Pause after the first failure to connect; each further one is twice as long.
const PAUSE_FIRST: Duration = Duration::from_millis(100);
const PAUSE_MAX: Duration = Duration::from_secs(2);
