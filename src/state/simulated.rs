//! Our state in a simulation: the real tables and statements on a database in memory, without a thread.
//!
//! What a disk, a network and a crash do to a call is invented by whoever simulates, through [`Line`]: how
//! long it takes, whether it is carried out, whether its answer arrives. Several replicas share one
//! [`Database`], each with a line of its own. Absent on purpose: commits of several calls together, and room
//! that runs out; those are tested on real files.

use super::{
    Error, Sealer,
    presence::Presence,
    room::Room,
    schema,
    seal::Key,
    writer::{Desk, Kind, Refusal},
};
use std::{
    future::Future,
    pin::Pin,
    sync::{Arc, Mutex, PoisonError},
};
use zeroize::Zeroizing;

/// What one call does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Call {
    /// Reads.
    Read,
    /// Writes something that can be repeated.
    Write,
    /// Writes a token that exists nowhere else.
    Result,
}

/// What becomes of one call.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fate {
    /// It is carried out.
    Works,
    /// It is not carried out.
    Fails,
    /// It is carried out and the caller hears that it was not.
    Unheard,
}

/// Something that ends later, or never.
pub type Later<T> = Pin<Box<dyn Future<Output = T> + Send>>;

/// What lies between one process and the database.
pub trait Line: Send + Sync {
    /// Whose line this is; the same process is the same holder of leases.
    fn holder(&self) -> [u8; 16];

    /// By how many seconds the process's clock is ahead of the database's.
    fn ahead(&self) -> i64;

    /// Before the call reaches the database. One that never ends is a process that has died.
    fn request(&self, call: Call) -> Later<Fate>;

    /// Before the answer reaches the process.
    fn answer(&self, call: Call) -> Later<()>;
}

/// A database that several processes share.
#[derive(Clone)]
pub struct Database(Arc<Mutex<Desk>>);

impl Database {
    /// An empty one.
    #[must_use]
    pub fn new() -> Self {
        let key_id = Sealer::new(&key()).key_id();
        let connection = schema::in_memory(key_id).expect("memory takes the tables of the schema");
        Self(Arc::new(Mutex::new(Desk {
            connection,
            room: Room::boundless(),
            holder: [0; 16],
            presence: Presence::unknown(),
            ahead: 0,
        })))
    }

    pub(super) fn through(&self, line: Arc<dyn Line>) -> Simulated {
        Simulated { database: self.clone(), line }
    }
}

impl Default for Database {
    fn default() -> Self {
        Self::new()
    }
}

/// What stands in for the thread.
pub(super) struct Simulated {
    database: Database,
    line: Arc<dyn Line>,
}

impl Simulated {
    pub(super) async fn run<T>(
        &self,
        kind: Kind,
        mut work: impl FnMut(&mut Desk) -> Result<T, Refusal>,
    ) -> Result<T, Error> {
        let call = match kind {
            Kind::Read => Call::Read,
            Kind::Write => Call::Write,
            Kind::Result => Call::Result,
        };
        let fate = self.line.request(call).await;
        let done = if fate == Fate::Fails {
            Err(Refusal::Unavailable("as simulated".to_owned()))
        } else {
            self.perform(&mut work)
        };
        self.line.answer(call).await;
        let heard = match fate {
            Fate::Unheard => Err(Refusal::Unavailable("its answer was lost".to_owned())),
            Fate::Works | Fate::Fails => done,
        };
        heard.map_err(|refusal| refusal.at(PLACE))
    }

    /// One transaction of its own.
    fn perform<T>(
        &self,
        work: &mut impl FnMut(&mut Desk) -> Result<T, Refusal>,
    ) -> Result<T, Refusal> {
        let mut desk = self.database.0.lock().unwrap_or_else(PoisonError::into_inner);
        desk.holder = self.line.holder();
        desk.ahead = self.line.ahead();
        desk.connection.prepare_cached("SAVEPOINT call")?.execute([])?;
        let done = work(&mut desk);
        if done.is_err() {
            desk.connection.prepare_cached("ROLLBACK TO call")?.execute([])?;
        }
        desk.connection.prepare_cached("RELEASE call")?.execute([])?;
        done
    }
}

/// Not a secret: what it seals is invented.
pub(super) fn key() -> Key {
    Zeroizing::new(KEY)
}

const KEY: [u8; 32] = *b"an invented key of 32 bytes here";

const PLACE: &str = "simulated";
