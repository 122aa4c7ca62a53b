//! What we must remember ourselves: journal, leases, account memory, incidents, outbox.
//!
//! SQLite in WAL mode with `synchronous=FULL`. One thread owns the connection; whatever arrives while a
//! commit is in flight goes into the next one, and everybody is answered after the commit. Tokens are
//! sealed (XChaCha20-Poly1305) before they come here and opened after they leave.

use crate::{
    core::{AccountId, Cause, Fingerprint, Secret, Timestamp, TokenFacts, notices::Notice},
    oauth::{Fingerprinter, Token},
};
use std::{path::PathBuf, time::Duration};

/// Where our state lies. `config` fills it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Settings {
    /// A directory of our own, mode 0700; created when missing.
    pub directory: PathBuf,
    /// A file with the sealing key: 32 random bytes as base64, mode 0600. `None` makes and keeps one in
    /// the directory: better than none, but whoever steals the directory has both.
    pub key_file: Option<PathBuf>,
}

/// The right to refresh one account until it expires; a newer epoch makes it worthless.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Lease {
    /// Which account.
    pub id: AccountId,
    /// Rises by one with every holder.
    pub epoch: u64,
}

/// A row of the journal: one attempt to spend a refresh token.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct EntryId(pub i64);

/// What must be durable before the first byte of a refresh request leaves.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Intent {
    /// The token being replaced.
    pub old: Fingerprint,
    /// The refresh token being spent.
    pub spending: Fingerprint,
    /// When the request starts.
    pub requested_at: Timestamp,
    /// When the request is over, whatever happens: its total deadline.
    pub over_at: Timestamp,
}

/// An attempt that has not been brought to its end.
#[derive(Clone, Debug)]
pub struct OpenEntry {
    /// Its row.
    pub entry: EntryId,
    /// Which account.
    pub id: AccountId,
    /// What was intended.
    pub intent: Intent,
    /// True when the one probe after an ambiguous outcome has been sent.
    pub probed: bool,
    /// The new token, once the provider's answer was recorded.
    pub result: Option<Token>,
}

/// How an attempt ended. The row is removed, except for an orphan.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Closing {
    /// The new token is in the store.
    Done,
    /// The refresh token was not spent, or is dead, or another token is in the store by now.
    Void,
    /// We hold a token that the store must not take, because somebody else wrote another one. It is
    /// kept, sealed, for a person or a later settlement.
    Orphan,
}

/// What is remembered about an account from one start to the next.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Memory {
    /// Which account.
    pub id: AccountId,
    /// The token that the rest is about; with another token in the store, its instants are void.
    pub token: Option<TokenFacts>,
    /// When that token was first seen.
    pub first_seen_at: Timestamp,
    /// When a refresh last succeeded.
    pub last_refresh_at: Option<Timestamp>,
    /// What is wrong.
    pub cause: Option<Cause>,
    /// Since when.
    pub cause_since: Option<Timestamp>,
    /// The cause that somebody was told about.
    pub told: Option<Cause>,
    /// Refreshes that failed in a row.
    pub failed_in_a_row: u16,
    /// Not to be tried before this.
    pub not_before: Option<Timestamp>,
}

/// A notice that is owed to one address.
#[derive(Clone, Debug)]
pub struct Owed {
    /// Its row.
    pub row: i64,
    /// The stable part of its `Message-ID`: the same in every attempt.
    pub message_key: String,
    /// The key of the first mail of this incident, for `References`; `None` for the first itself.
    pub thread_key: Option<String>,
    /// Where it goes.
    pub to: Secret,
    /// What it says.
    pub notice: Notice,
    /// Attempts so far.
    pub attempts: u32,
}

/// Why state could not do it.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// Disk full, read-only, I/O error, locked: nothing may be spent until it works again.
    #[error("state {place}: {reason}")]
    Unavailable {
        /// The file.
        place: String,
        /// What went wrong.
        reason: String,
    },
    /// The key does not open what is in there, or the file is of a newer version.
    #[error("state {place}: {reason}")]
    Damaged {
        /// The file.
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
}

/// A handle to the state; cheap to clone. Every method returns after the commit that makes it durable.
#[derive(Clone)]
pub struct State;

#[expect(
    unused_variables,
    clippy::missing_errors_doc,
    missing_docs,
    reason = "a sketch of the interface"
)]
impl State {
    /// Opens or creates the state.
    pub async fn open(settings: &Settings) -> Result<Self, Error> {
        unimplemented!()
    }
    /// Keyed by this installation's key.
    pub fn fingerprinter(&self) -> Fingerprinter {
        unimplemented!()
    }
    /// `None` while somebody else holds a live lease.
    pub async fn take_lease(
        &self,
        id: &AccountId,
        now: Timestamp,
        life: Duration,
    ) -> Result<Option<Lease>, Error> {
        unimplemented!()
    }
    pub async fn release(&self, lease: &Lease) -> Result<(), Error> {
        unimplemented!()
    }
    /// Fails with `LeaseLost` when the epoch is not ours any more.
    pub async fn intend(&self, lease: &Lease, intent: &Intent) -> Result<EntryId, Error> {
        unimplemented!()
    }
    /// Spends the one probe of an ambiguous entry; false when it was spent before.
    pub async fn intend_probe(
        &self,
        lease: &Lease,
        entry: EntryId,
        over_at: Timestamp,
    ) -> Result<bool, Error> {
        unimplemented!()
    }
    /// Records the new token. Accepted whatever happened to the lease: the provider has already
    /// forgotten the old one.
    pub async fn record_result(
        &self,
        entry: EntryId,
        id: &AccountId,
        token: &Token,
    ) -> Result<(), Error> {
        unimplemented!()
    }
    pub async fn close(&self, entry: EntryId, closing: Closing) -> Result<(), Error> {
        unimplemented!()
    }
    pub async fn open_entries(&self) -> Result<Vec<OpenEntry>, Error> {
        unimplemented!()
    }
    pub async fn open_entry(&self, id: &AccountId) -> Result<Option<OpenEntry>, Error> {
        unimplemented!()
    }
    pub async fn remember(&self, memories: Vec<Memory>) -> Result<(), Error> {
        unimplemented!()
    }
    pub async fn forget(&self, ids: Vec<AccountId>) -> Result<(), Error> {
        unimplemented!()
    }
    pub async fn memories(&self) -> Result<Vec<Memory>, Error> {
        unimplemented!()
    }
    /// Opens the incident and owes its mails in one transaction; false, and nothing owed, when it is
    /// open already.
    pub async fn fire(&self, notice: &Notice, to: Vec<Secret>) -> Result<bool, Error> {
        unimplemented!()
    }
    /// Closes the incident and owes a resolved mail to everybody who was owed the firing one; false when
    /// it is not open. A firing mail that was never sent is withdrawn together with its resolved mail.
    pub async fn resolve(&self, notice: &Notice) -> Result<bool, Error> {
        unimplemented!()
    }
    /// Mails whose time has come, oldest first.
    pub async fn owed(&self, now: Timestamp, at_most: usize) -> Result<Vec<Owed>, Error> {
        unimplemented!()
    }
    /// When the next mail may be tried, and how many are owed.
    pub async fn outbox(&self) -> Result<(Option<Timestamp>, usize), Error> {
        unimplemented!()
    }
    pub async fn sent(&self, row: i64, at: Timestamp) -> Result<(), Error> {
        unimplemented!()
    }
    pub async fn postpone(&self, row: i64, until: Timestamp) -> Result<(), Error> {
        unimplemented!()
    }
    pub async fn give_up(&self, row: i64, at: Timestamp) -> Result<(), Error> {
        unimplemented!()
    }
    /// Can it be written durably right now?
    pub async fn probe(&self) -> Result<(), Error> {
        unimplemented!()
    }
    pub async fn journal_len(&self) -> Result<usize, Error> {
        unimplemented!()
    }
}
