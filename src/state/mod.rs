//! What we must remember ourselves: journal, leases, account memory and history, incidents, outbox, positions
//! in logs.
//!
//! SQLite in WAL mode with `synchronous=FULL`, or PostgreSQL where replicas share the work. One thread owns
//! the connection; whatever arrives while a commit is in flight goes into the next one, and everybody is
//! answered after the commit. Tokens and mail addresses are sealed (XChaCha20-Poly1305) before they go to
//! that thread and opened after they left it.
//!
//! Read [`State`] and `calls` for what can be asked, `writer` for how it becomes durable, `journal` for the rules that
//! keep a token from being lost, `spill` for where a token lies that the journal does not take, `postgres` for
//! what is different there, `simulated` for what stands in for a disk in simulations. Several processes may open one
//! state: `leases` keeps them apart. Absent on purpose: a clock. Whoever calls says what time it is, and on
//! PostgreSQL the database's clock says when leases and claims end.

mod apps;
mod backend;
mod calls;
mod canaries;
mod consents;
mod directory;
mod door;
mod history;
mod inbox;
mod journal;
mod leases;
mod letters;
mod memory;
mod newest;
mod observed;
mod outbox;
pub mod postgres;
mod presence;
mod room;
mod schema;
mod seal;
mod sealed_token;
mod shares;
pub mod simulated;
pub mod spill;
mod stored_notice;
mod writer;

pub use calls::{
    Arranged, Closing, EntryId, Intent, Lease, Listed, Newest, OpenEntry, Owed, Thread,
};
pub use consents::{Beginning, CONSENTS_MAX, Return, Standing};
pub use inbox::{Heard, INBOX_KEPT_FOR, INBOX_MESSAGES_MAX};
pub use shares::{Beat, Counts, Held, Role};
pub use spill::{Spill, Spilled};

use self::{
    backend::Backend,
    presence::Presence,
    room::{Limits, Room},
    seal::Sealer,
    writer::{Desk, Refusal, Writer},
};
use crate::{core::AccountId, oauth::Fingerprinter};
use rusqlite::Connection;
use std::{
    path::{Path, PathBuf},
    sync::Arc,
};

/// Where our state lies. `config` fills it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Settings {
    /// A directory of our own, mode 0700; created when missing.
    pub directory: PathBuf,
    /// A file with the sealing key: 32 random bytes as base64, mode 0600. `None` makes and keeps one in
    /// the directory: better than none, but whoever steals the directory has both.
    pub key_file: Option<PathBuf>,
    /// Where everything but the key lies instead: a database that several machines share. All of them need
    /// the same key. `None` is a file in the directory.
    pub postgres: Option<postgres::Settings>,
    /// A directory for tokens that neither journal nor store takes; `None` is one that every machine has.
    pub spill: Option<PathBuf>,
}

impl Settings {
    /// Everything in one directory, its key too.
    #[must_use]
    pub const fn in_directory(directory: PathBuf) -> Self {
        Self { directory, key_file: None, postgres: None, spill: None }
    }
}

/// Why state could not do it.
#[derive(Clone, Debug, thiserror::Error)]
pub enum Error {
    /// Disk full, read-only, I/O error, locked, no connection: nothing may be spent until it works again.
    /// Whether the call was carried out is not known when a connection was lost; it may be repeated.
    #[error("state {place}: {reason}")]
    Unavailable {
        /// The file or the database.
        place: String,
        /// What went wrong.
        reason: String,
    },
    /// The key does not open what is in there, or the file is of a newer version.
    #[error("state {place}: {reason}")]
    Damaged {
        /// The file or the database.
        place: String,
        /// What was found, and what to do.
        reason: String,
    },
    /// Another holder has taken the account over.
    #[error("the lease on {id} was lost")]
    LeaseLost {
        /// Which account.
        id: AccountId,
    },
    /// An earlier attempt at the account has not been brought to its end: settle that one first.
    #[error("an earlier refresh of {id} is not settled")]
    EntryOpen {
        /// Which account.
        id: AccountId,
    },
}

/// A handle to the state; cheap to clone. Every method returns after the commit that makes it durable, and
/// a method whose future is dropped after it began is carried out all the same. When the last clone is
/// dropped, what is queued is committed and the file is closed; [`State::shut`] does that off the runtime.
#[derive(Clone)]
pub struct State(Arc<Shared>);

struct Shared {
    backend: Backend,
    sealer: Sealer,
    fingerprinter: Fingerprinter,
}

/// Opening, closing, health. Every method fails with [`Error::Unavailable`] when the file cannot be written,
/// and with [`Error::Damaged`] when it holds what it should not.
#[expect(clippy::missing_errors_doc, reason = "said once, above each block")]
impl State {
    /// Opens or creates the state as a [`Role::Guest`].
    pub async fn open(settings: &Settings) -> Result<Self, Error> {
        Self::open_as(settings, Role::Guest).await
    }

    /// Opens or creates the state.
    pub async fn open_as(settings: &Settings, role: Role) -> Result<Self, Error> {
        Self::open_within(settings, role, Limits::USUAL).await
    }

    async fn open_within(settings: &Settings, role: Role, limits: Limits) -> Result<Self, Error> {
        let (backend, sealer) = match settings.postgres.clone() {
            Some(postgres) => open_server(settings, postgres, role).await?,
            None => {
                let settings = settings.clone();
                let file = directory::database(&settings);
                let open = move || open_files(&settings, limits);
                let (writer, sealer) = Writer::start(file, open).await?;
                (Backend::Sqlite(writer), sealer)
            }
        };
        let fingerprinter = Fingerprinter::new(&sealer.derive("fingerprint"));
        Ok(Self(Arc::new(Shared { backend, sealer, fingerprinter })))
    }

    /// A state that a simulation carries.
    #[must_use]
    pub fn simulated(database: &simulated::Database, line: Arc<dyn simulated::Line>) -> Self {
        let sealer = Sealer::new(&simulated::key());
        let fingerprinter = Fingerprinter::new(&sealer.derive("fingerprint"));
        let backend = Backend::Sqlite(Writer::simulated(database.through(line)));
        Self(Arc::new(Shared { backend, sealer, fingerprinter }))
    }

    /// Keyed by this installation's key.
    #[must_use]
    pub fn fingerprinter(&self) -> Fingerprinter {
        self.0.fingerprinter.clone()
    }

    /// Can it be written durably right now, with room for a result?
    pub async fn probe(&self) -> Result<(), Error> {
        self.0.backend.probe().await
    }

    /// Looks at what `settings` name and changes nothing: for `check`. Answers in a sentence.
    ///
    /// # Errors
    /// When the directory or the key could not be used.
    pub async fn examine(settings: &Settings) -> Result<String, Error> {
        let says = directory::examine(settings)?;
        let Some(postgres) = &settings.postgres else { return Ok(says) };
        let Some(key) = directory::known_key(settings)? else { return Ok(says) };
        let place = postgres.to_string();
        let key_id = Sealer::new(&key).key_id();
        let examined = postgres::examine(postgres, key_id).await;
        examined.map(|found| format!("{says}; {found}")).map_err(|refusal| refusal.at(&place))
    }

    /// Commits since this handle was opened: far fewer than calls, when calls come together.
    #[must_use]
    pub fn commits(&self) -> u64 {
        self.0.backend.commits()
    }

    /// Gives this handle up; if it was the last, returns when the file is closed.
    pub async fn shut(self) {
        // Joining the thread waits for its last commit, which is no work for a runtime's thread.
        let _ = tokio::task::spawn_blocking(move || drop(self)).await;
    }

    fn error(&self, refusal: &Refusal) -> Error {
        self.0.backend.error(refusal)
    }
}

/// Runs in the writer's thread. The order matters: the key before anything that is sealed with it, the
/// reserve before anything that may be spent.
fn open_files(settings: &Settings, limits: Limits) -> Result<(Desk, Sealer), Error> {
    let _opening = directory::prepare(&settings.directory)?;
    let sealer = Sealer::new(&directory::key(settings)?);
    let file = directory::database(settings);
    let at_file = |refusal: Refusal| refusal.at(&file.display().to_string());
    let holder = new_holder().map_err(at_file)?;
    let (presence, is_alone) = Presence::announce(&settings.directory, &holder)?;
    let (connection, room) = open_database(settings, &file, limits, &sealer).map_err(at_file)?;
    if is_alone {
        // Fails where the disk is full; then the claims end by themselves.
        let _ = letters::unclaim_all(&connection);
    }
    Ok((Desk { connection, room, holder, presence, ahead: 0, shared_out: None }, sealer))
}

/// The directory is used for the key alone, and made all the same: it is where a person looks for it.
async fn open_server(
    settings: &Settings,
    postgres: postgres::Settings,
    role: Role,
) -> Result<(Backend, Sealer), Error> {
    let place = postgres.to_string();
    let settings = settings.clone();
    let opening = tokio::task::spawn_blocking(move || {
        let _opening = directory::prepare(&settings.directory)?;
        directory::key(&settings)
    });
    let key = opening.await.unwrap_or_else(|_| Err(writer::ended(&place)))?;
    let sealer = Sealer::new(&key);
    let holder = new_holder().map_err(|refusal| refusal.at(&place))?;
    let writer = postgres::Writer::start(postgres, sealer.key_id(), holder, role).await?;
    Ok((Backend::Postgres(writer), sealer))
}

fn open_database(
    settings: &Settings,
    file: &Path,
    limits: Limits,
    sealer: &Sealer,
) -> Result<(Connection, Room), Refusal> {
    let connection = match schema::open(file, sealer.key_id()) {
        // Even reading needs a little room, and what must be read are tokens that wait to be saved.
        Err(trouble) if trouble.is_about_room() => {
            room::remove_reserve(&settings.directory);
            schema::open(file, sealer.key_id())?
        }
        opened => opened?,
    };
    let mut room = Room::new(&settings.directory, limits, &connection)?;
    if let Err(reason) = room.ensure(&connection) {
        // Not fatal: results of an earlier run are read and saved without it; spending waits.
        tracing::warn!(reason, "no token is spent until there is room for its successor");
    }
    Ok((connection, room))
}

/// Who we are among all processes that ever were on this state.
fn new_holder() -> Result<[u8; 16], Refusal> {
    let mut holder = [0; 16];
    seal::fill_random(&mut holder).map_err(seal::no_randomness)?;
    Ok(holder)
}

/// A count as SQL tells it.
fn count(rows: i64) -> usize {
    usize::try_from(rows).expect("a count is not negative and fits into memory's range")
}
