//! What we must remember ourselves: journal, leases, account memory and history, incidents, outbox, positions
//! in logs.
//!
//! SQLite in WAL mode with `synchronous=FULL`, or PostgreSQL where replicas share the work. One thread owns
//! the connection; whatever arrives while a commit is in flight goes into the next one, and everybody is
//! answered after the commit. Tokens and mail addresses are sealed (XChaCha20-Poly1305) before they go to
//! that thread and opened after they left it.
//!
//! Read [`State`] for what can be asked, `writer` for how it becomes durable, `journal` for the rules that
//! keep a token from being lost, `spill` for where a token lies that the journal does not take, `postgres` for
//! what is different there, `simulated` for what stands in for a disk in simulations. Several processes may open one
//! state: `leases` keeps them apart. Absent on purpose: a clock. Whoever calls says what time it is, and on
//! PostgreSQL the database's clock says when leases and claims end.

mod apps;
mod backend;
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

pub use consents::{Beginning, CONSENTS_MAX, Return, Standing};
pub use inbox::{Heard, INBOX_KEPT_FOR, INBOX_MESSAGES_MAX};
pub use shares::{Beat, Counts, Held, Role};
pub use spill::{Spill, Spilled};

use self::{
    backend::Backend,
    letters::Attempt,
    presence::Presence,
    room::{Limits, Room},
    seal::Sealer,
    writer::{Desk, Refusal, Writer},
};
use crate::{
    core::{
        AccountId, Announcement, AppMemory, Cause, Door, Farewell, Fingerprint, History, Memory,
        Recipient, Secret, Shares, Timestamp,
        digest::{self, Cap, Rules, Summary},
        notices::{Change, Notice, Way, reminders_by},
        permits::Canary,
    },
    oauth::{Fingerprinter, Token},
    postgres_save::{Looks, Save},
};
use rusqlite::Connection;
use std::{
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
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

/// The right to refresh one account until it expires; a newer epoch makes it worthless.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Lease {
    /// Which account.
    pub id: AccountId,
    /// Rises with every taking; never the same twice, whatever the account.
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

impl Intent {
    /// What stands for a refresh token where none is spent, but a person's `code`. No fingerprint looks so but one in
    /// four thousand million.
    #[must_use]
    pub const fn spending_of_code(code: Fingerprint) -> Fingerprint {
        Fingerprint::from_hash(code.as_hash() | OF_A_CODE)
    }

    /// True when the account's own token is left alone whatever became of the request: a person brought a code.
    #[must_use]
    pub const fn is_of_consent(&self) -> bool {
        self.spending.as_hash() & OF_A_CODE == OF_A_CODE
    }
}

/// The bits that tell the fingerprint of a code.
const OF_A_CODE: u64 = 0xffff_ffff_0000_0000;

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

/// The newest token that we put into the store, or the one that died there; and what was spent for it.
#[derive(Clone, Debug)]
pub struct Newest {
    /// The token.
    pub token: Token,
    /// The refresh tokens that providers replaced on the way to it, newest first: never to be sent again.
    pub spent: Vec<Fingerprint>,
}

/// How an attempt ended. The row is removed, except for an orphan.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Closing {
    /// The new token is in the store, and nothing of it is kept. [`State::complete`] keeps it.
    Done,
    /// The refresh token was not spent, or another token is in the store by now.
    Void,
    /// We hold a token that the store must not take, because somebody else wrote another one. It is
    /// kept, sealed, for a person or a later settlement.
    Orphan,
}

/// A mail that is owed to one address, with one notice or many.
#[derive(Clone, Debug)]
pub struct Owed {
    /// Its row.
    pub row: i64,
    /// The stable part of its `Message-ID`: the same in every attempt.
    pub message_key: String,
    /// The first mails of its incidents, for `References`; none for a first mail.
    pub threads: Vec<Thread>,
    /// Where it goes.
    pub to: Secret,
    /// How it gets there.
    pub way: Way,
    /// True when its recipient runs the sidecar.
    pub is_operator: bool,
    /// What it says, oldest first, with a key of each incident. At most [`digest::LISTED_MAX`].
    pub notices: Vec<(String, Notice)>,
    /// All that it says, counted.
    pub counts: Vec<(Change, Cause, usize)>,
    /// What it tells the operator about other people's mails.
    pub summary: Summary,
    /// Attempts so far.
    pub attempts: u32,
    /// Attempts after which nobody knows whether it arrived.
    pub doubts: u32,
    /// When it was put together.
    pub made_at: Timestamp,
}

/// The mail that another one follows.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Thread {
    /// The stable part of its `Message-ID`.
    pub key: String,
    /// Its subject line, where it was sent by a program that noted it.
    pub subject: Option<String>,
}

/// What came of putting mails together.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Arranged {
    /// Notices that a cap holds back since now.
    pub held: Vec<(Cap, usize)>,
    /// When to do it again, if nothing comes before.
    pub next: Option<Timestamp>,
}

/// A mail, or what waits to become one, for people to look at.
#[derive(Clone, Debug)]
pub struct Listed {
    /// `waiting`, `held`, `owed`, `sent` or `given_up`.
    pub stage: String,
    /// Where it goes.
    pub to: Secret,
    /// How it gets there.
    pub way: Way,
    /// True when its recipient runs the sidecar.
    pub is_operator: bool,
    /// Its subject line, once an attempt was made.
    pub subject: Option<String>,
    /// How many notices are in it.
    pub notices: usize,
    /// When it was sent, given up or made.
    pub at: Timestamp,
    /// Attempts that failed.
    pub attempts: u32,
    /// Why the last of them failed, or the cap that holds it back.
    pub failure: Option<String>,
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

/// Leases and the journal.
#[expect(clippy::missing_errors_doc, reason = "said once, above each block")]
impl State {
    /// `None` while somebody else holds a live lease, and when a replica does not hold the account's share.
    /// Each taking makes the lease before it worthless, and
    /// hands an attempt that is open over to its taker. On PostgreSQL `now` is not looked at.
    pub async fn take_lease(
        &self,
        id: &AccountId,
        now: Timestamp,
        life: Duration,
    ) -> Result<Option<Lease>, Error> {
        self.0.backend.take_lease(id, now, life).await
    }

    /// Gives a lease back; one that was lost is left alone.
    pub async fn release(&self, lease: &Lease) -> Result<(), Error> {
        self.0.backend.release(lease).await
    }

    /// Must have returned before the first byte of the request leaves. Fails with `LeaseLost` when the
    /// epoch is not ours any more or the lease does not last until `over_at`, with `EntryOpen` when an
    /// earlier attempt is not settled, with either when another account is just spending the same refresh token, and with `Unavailable` when there would be no room for the result.
    /// The very same intent again, under the same lease, is the same entry.
    pub async fn intend(&self, lease: &Lease, intent: &Intent) -> Result<EntryId, Error> {
        self.0.backend.intend(lease, intent).await
    }

    /// Spends the one probe of an ambiguous entry; false when it was spent before, or when the entry has
    /// a result or is closed by now. Fails like [`State::intend`].
    pub async fn intend_probe(
        &self,
        lease: &Lease,
        entry: EntryId,
        over_at: Timestamp,
    ) -> Result<bool, Error> {
        self.0.backend.intend_probe(lease, entry, over_at).await
    }

    /// Gives the one probe back: the provider refused it before it looked at the refresh token. Fails with
    /// `LeaseLost` when somebody else has taken the account over.
    pub async fn return_probe(&self, entry: EntryId) -> Result<(), Error> {
        self.0.backend.return_probe(entry).await
    }

    /// Records the new token. Accepted whatever happened to the lease or the entry: the provider has
    /// already forgotten the old one. What cannot be the entry's result is kept as an orphan. To be
    /// repeated until it succeeds; repeating it does no harm.
    pub async fn record_result(
        &self,
        entry: EntryId,
        id: &AccountId,
        token: &Token,
    ) -> Result<(), Error> {
        let (result, sealed) = self.sealed(id, token)?;
        self.0.backend.record_result(entry, id, result, sealed).await
    }

    /// Does in one transaction what [`State::record_result`], the store's save and [`State::complete`] do.
    /// When the publisher's table does not take the save, the result is recorded all the same and the answer
    /// is `None`: then it is to be saved as from any other entry. Fails, and is to be repeated, like
    /// [`State::record_result`].
    pub async fn record_and_save(
        &self,
        entry: EntryId,
        id: &AccountId,
        token: &Token,
        renewable_by: Option<Fingerprint>,
        spent: Option<Fingerprint>,
        save: Save,
    ) -> Result<Option<Looks>, Error> {
        let (result, sealed) = self.sealed(id, token)?;
        let kept = newest::Kept { spent, renewable_by, sealed: sealed.clone() };
        self.0.backend.record_and_save(entry, id, result, sealed, kept, save).await
    }

    fn sealed(&self, id: &AccountId, token: &Token) -> Result<(Fingerprint, Vec<u8>), Error> {
        let sealed = sealed_token::seal(&self.0.sealer, id, token);
        let sealed = sealed.map_err(|refusal| self.error(&refusal))?;
        Ok((self.0.fingerprinter.of_token(token), sealed))
    }

    /// Ends an entry; one that has been ended before is left alone. Fails with `LeaseLost` when somebody
    /// else has taken the account over: the entry is his to end. Fails with `EntryOpen` when it should be
    /// voided and has a result by now: that is a token to be saved.
    pub async fn close(&self, entry: EntryId, closing: Closing) -> Result<(), Error> {
        self.0.backend.close(entry, closing).await
    }

    /// Ends an entry whose new token is in the store, and keeps that token, sealed, as the newest of its
    /// account together with `spent`, the refresh token that the provider replaced by it; `None` when it lives
    /// on. `renewable_by` is what renews the new one. One record an account, a handful of spent tokens in it;
    /// fails like [`State::close`].
    pub async fn complete(
        &self,
        entry: EntryId,
        id: &AccountId,
        token: &Token,
        renewable_by: Option<Fingerprint>,
        spent: Option<Fingerprint>,
    ) -> Result<(), Error> {
        let sealed = sealed_token::seal(&self.0.sealer, id, token);
        let sealed = sealed.map_err(|refusal| self.error(&refusal))?;
        let kept = newest::Kept { spent, renewable_by, sealed };
        self.0.backend.complete(entry, id, kept).await
    }

    /// Ends an entry whose refresh token is finished: it counts among the spent ones from now on, and whatever is
    /// written to the store later, it is not presented again. `newest` is what would renew the token that
    /// [`State::complete`] kept: it is spent as well, for it is the dead one or older than that, and must not come
    /// back over a newer consent that has died. Where nothing was kept, `dead` is, so that the verdict outlives a
    /// crash that comes before anybody was told; `None` leaves such an account as it is. Fails like [`State::close`].
    pub async fn bury(
        &self,
        entry: EntryId,
        id: &AccountId,
        newest: Option<Fingerprint>,
        dead: Option<&Token>,
    ) -> Result<(), Error> {
        let sealed = dead.map(|token| sealed_token::seal(&self.0.sealer, id, token)).transpose();
        let sealed = sealed.map_err(|refusal| self.error(&refusal))?;
        self.0.backend.bury(entry, newest, sealed).await
    }

    /// What [`State::complete`] kept of an account, until it is forgotten.
    pub async fn newest(&self, id: &AccountId) -> Result<Option<Newest>, Error> {
        let Some(sealed) = self.0.backend.newest(id).await? else { return Ok(None) };
        let token = sealed_token::open(&self.0.sealer, id, &sealed.token);
        let token = token.map_err(|refusal| self.error(&refusal))?;
        Ok(Some(Newest { token, spent: sealed.spent }))
    }

    /// The account that spent a refresh token, so far as that is kept: whoever else holds it must not present it.
    pub async fn spender(&self, spent: Fingerprint) -> Result<Option<AccountId>, Error> {
        self.0.backend.spender(spent).await
    }

    /// Every attempt that must be brought to its end, oldest first; orphans are not among them.
    pub async fn open_entries(&self) -> Result<Vec<OpenEntry>, Error> {
        let sealed = self.0.backend.open_entries(None).await?;
        sealed.into_iter().map(|entry| self.open_sealed(entry)).collect()
    }

    /// The attempt at one account that must be brought to its end.
    pub async fn open_entry(&self, id: &AccountId) -> Result<Option<OpenEntry>, Error> {
        let sealed = self.0.backend.open_entries(Some(id)).await?;
        sealed.into_iter().next().map(|entry| self.open_sealed(entry)).transpose()
    }

    /// How many entries are open.
    pub async fn journal_len(&self) -> Result<usize, Error> {
        Ok(self.0.backend.lengths().await?.0)
    }

    /// How many tokens are kept that the store must not take.
    pub async fn orphans_len(&self) -> Result<usize, Error> {
        Ok(self.0.backend.lengths().await?.1)
    }

    fn open_sealed(&self, sealed: journal::Sealed) -> Result<OpenEntry, Error> {
        let journal::Sealed { entry, id, intent, probed, result } = sealed;
        let result = result
            .map(|record| sealed_token::open(&self.0.sealer, &id, &record))
            .transpose()
            .map_err(|refusal| self.error(&refusal))?;
        Ok(OpenEntry { entry, id, intent, probed, result })
    }
}

/// Who looks after which accounts.
#[expect(clippy::missing_errors_doc, reason = "said once, above each block")]
impl State {
    /// Says that we live, gives back what is to be given back, takes what is free, and tells what is ours
    /// from then on and how all replicas are doing. On SQLite everything is ours for ever.
    pub async fn hold(&self, beat: &Beat) -> Result<Held, Error> {
        self.0.backend.hold(beat).await
    }

    /// Gives all shares back, so that others need not wait for their end.
    pub async fn leave(&self) -> Result<(), Error> {
        self.0.backend.leave().await
    }
}

/// What is remembered about accounts.
#[expect(clippy::missing_errors_doc, reason = "said once, above each block")]
impl State {
    /// Adds or replaces, all or nothing.
    pub async fn remember(&self, memories: Vec<Memory>) -> Result<(), Error> {
        self.0.backend.remember(memories).await
    }

    /// Adds what the provider said of apps, or brings it up to date: of two pauses the longer one counts, and
    /// of two words about whether an app is refused the newer one. Not fenced: whoever heard it may say it.
    pub async fn remember_apps(&self, memories: Vec<AppMemory>) -> Result<(), Error> {
        self.0.backend.remember_apps(memories).await
    }

    /// What is remembered of apps, sorted by name; of those too that the configuration does not name any more.
    pub async fn app_memories(&self) -> Result<Vec<AppMemory>, Error> {
        self.0.backend.app_memories().await
    }

    /// Forgets, the newest token and the history too, all but a gate that is to be kept; what is not known is no
    /// error. Journal and incidents stay.
    pub async fn forget(&self, gone: Vec<Farewell>) -> Result<(), Error> {
        self.0.backend.forget(gone).await
    }

    /// Everything that is remembered, sorted by account.
    pub async fn memories(&self) -> Result<Vec<Memory>, Error> {
        self.memories_of(Shares::ALL).await
    }

    /// What is remembered of the accounts of these shares, sorted by account.
    pub async fn memories_of(&self, shares: Shares) -> Result<Vec<Memory>, Error> {
        self.0.backend.memories(shares).await
    }

    /// Keeps what happened to accounts, in place of what was kept of them before.
    pub async fn keep_histories(
        &self,
        histories: &[(AccountId, Arc<History>)],
    ) -> Result<(), Error> {
        let record =
            |(id, history): &(AccountId, Arc<History>)| (id.clone(), history::text(history));
        self.0.backend.keep_histories(histories.iter().map(record).collect()).await
    }

    /// What happened to the accounts of these shares, sorted by account. What this version cannot read is
    /// left out.
    pub async fn histories_of(&self, shares: Shares) -> Result<Vec<(AccountId, History)>, Error> {
        let records = self.0.backend.histories(shares).await?;
        let read = |(id, text): history::Kept| Some((id, history::read(&text)?));
        Ok(records.into_iter().filter_map(read).collect())
    }
}

/// What was announced of accounts.
#[expect(clippy::missing_errors_doc, reason = "said once, above each block")]
impl State {
    /// Keeps an announcement; false when it was kept before. What is older than [`INBOX_KEPT_FOR`] is forgotten,
    /// and beyond [`INBOX_MESSAGES_MAX`] the oldest. Not fenced: every replica may hear of every account.
    pub async fn take_in(&self, announcement: &Announcement) -> Result<bool, Error> {
        let letter = inbox::letter(announcement);
        let forget_until = announcement.heard_at.minus(INBOX_KEPT_FOR);
        self.0.backend.take_in(letter, forget_until).await
    }

    /// The gate of one account as it was written down last, by whoever holds it; `None` where nothing is remembered
    /// of it.
    pub async fn door(&self, id: &AccountId) -> Result<Option<Door>, Error> {
        self.0.backend.door(id).await
    }

    /// What is kept beyond `position`, the oldest first. What this version cannot read is left out.
    ///
    /// Replicas write side by side, so one at a lower position may be seen a moment later than the one after it.
    pub async fn heard_after(&self, position: i64) -> Result<Vec<Heard>, Error> {
        let kept = self.0.backend.heard_after(position).await?;
        Ok(kept
            .into_iter()
            .filter_map(|(position, letter)| inbox::read(position, letter))
            .collect())
    }
}

/// Links by which accounts are connected, and the consents that were begun with them.
#[expect(clippy::missing_errors_doc, reason = "said once, above each block")]
impl State {
    /// What links are signed with: the same for every process with our sealing key, and for nobody else.
    #[must_use]
    pub fn link_key(&self) -> ring::hmac::Key {
        ring::hmac::Key::new(ring::hmac::HMAC_SHA256, &self.0.sealer.derive("connect links"))
    }

    /// What is known of a link, to the browser that shows this.
    pub async fn consent_standing(&self, link: &str, browser: &str) -> Result<Standing, Error> {
        self.0.backend.consent_standing(link.to_owned(), hash(browser)).await
    }

    /// Writes down that `browser` began to connect an account with `link`, what must come back with the code, and
    /// what must be known then, which is sealed. The same browser may begin again until [`State::end_consent`].
    pub async fn begin_consent(
        &self,
        link: &str,
        browser: &str,
        nonce: &str,
        known: &str,
        ends_at: Timestamp,
        now: Timestamp,
    ) -> Result<Beginning, Error> {
        let sealed = self.0.sealer.seal(seal::Context::consent(link), known.as_bytes());
        let sealed = sealed.map_err(|refusal| self.error(&refusal))?;
        let (browser, nonce) = (hash(browser), hash(nonce));
        let begun = consents::Begun { link: link.to_owned(), browser, nonce, sealed, ends_at };
        self.0.backend.begin_consent(begun, now).await
    }

    /// Somebody comes back with `nonce`. It counts once, and in the browser that began; another one, or another
    /// `nonce`, changes nothing.
    pub async fn come_back(
        &self,
        link: &str,
        browser: &str,
        nonce: &str,
    ) -> Result<Return<Secret>, Error> {
        let found = self.0.backend.come_back(link.to_owned(), hash(browser), hash(nonce)).await?;
        Ok(match found {
            Return::Now(sealed) => {
                let known = self.0.sealer.open(seal::Context::consent(link), &sealed);
                let known = known.map_err(|refusal| self.error(&refusal))?;
                Return::Now(Secret::new(String::from_utf8_lossy(&known).into_owned()))
            }
            Return::Before => Return::Before,
            Return::OtherBrowser => Return::OtherBrowser,
            Return::Unknown => Return::Unknown,
        })
    }

    /// The link did its work and works no more.
    pub async fn end_consent(&self, link: &str) -> Result<(), Error> {
        self.0.backend.end_consent(link.to_owned()).await
    }
}

/// Drawn at random by us and long: its hash is nobody's to guess.
fn hash(text: &str) -> Vec<u8> {
    ring::digest::digest(&ring::digest::SHA256, text.as_bytes()).as_ref().to_vec()
}

/// Which post may prove which account.
#[expect(clippy::missing_errors_doc, reason = "said once, above each block")]
impl State {
    /// Lets `post` prove `id` from `now` until `until`, unless another one may. Answers with the one that may, whoever
    /// let it go.
    pub async fn claim_canary(
        &self,
        id: &AccountId,
        post: &str,
        now: Timestamp,
        until: Timestamp,
    ) -> Result<Canary, Error> {
        self.0.backend.claim_canary(id.clone(), post.to_owned(), (now, until)).await
    }

    /// The post was reported: it goes no more, and no other before `until`, or before its time is over.
    pub async fn report_canary(&self, id: &AccountId, until: Timestamp) -> Result<(), Error> {
        self.0.backend.report_canary(id.clone(), until).await
    }

    /// The gate moved at `moved_at`: what was let go before does not count any more.
    pub async fn end_canary(&self, id: &AccountId, moved_at: Timestamp) -> Result<(), Error> {
        self.0.backend.end_canary(id.clone(), moved_at).await
    }
}

/// How far logs and tables of the publisher were read.
#[expect(clippy::missing_errors_doc, reason = "said once, above each block")]
impl State {
    /// What was last kept under this name. Not fenced: each replica has names of its own.
    pub async fn position_of(&self, name: &str) -> Result<Option<String>, Error> {
        self.0.backend.position_of(name).await
    }

    /// Keeps a position under this name. One that nobody moved for three months is forgotten.
    pub async fn keep_position(
        &self,
        name: &str,
        position: &str,
        at: Timestamp,
    ) -> Result<(), Error> {
        self.0.backend.keep_position(name, position, at).await
    }
}

/// Incidents and the mails they owe.
#[expect(clippy::missing_errors_doc, reason = "said once, above each block")]
impl State {
    /// Opens the incident and owes its notices in one transaction; false, and nothing owed, when it is
    /// open already. The same address twice is one notice.
    pub async fn fire<R: Into<Recipient>>(
        &self,
        notice: &Notice,
        to: Vec<R>,
    ) -> Result<bool, Error> {
        let mut addressed: Vec<outbox::Addressed> = Vec::with_capacity(to.len());
        for recipient in to {
            let one = outbox::addressed(&self.0.sealer, &recipient.into())
                .map_err(|refusal| self.error(&refusal))?;
            if addressed.iter().all(|other| other.mailbox != one.mailbox) {
                addressed.push(one);
            }
        }
        self.0.backend.fire(notice, addressed).await
    }

    /// Owes a reminder of an incident to everybody who was told of it; false when nobody was.
    pub async fn remind(&self, notice: &Notice) -> Result<bool, Error> {
        self.0.backend.remind(notice).await
    }

    /// Owes the reminders that are due by the incidents' ages. Answers what was owed, and when to ask again.
    pub async fn call_to_mind(
        &self,
        now: Timestamp,
        gaps: &[Duration],
    ) -> Result<(Vec<Notice>, Option<Timestamp>), Error> {
        let mut owed = Vec::new();
        for (nth, gap) in gaps.iter().enumerate() {
            for one in self.0.backend.to_remind(nth, now.minus(*gap)).await? {
                let reminder = one.notice.clone().map(|notice| Notice {
                    change: Change::Reminder,
                    at: now,
                    ..notice
                });
                let reminded = reminders_by(one.told_at, now, gaps);
                if self.0.backend.call_to_mind(one, reminded, reminder.clone()).await? {
                    owed.extend(reminder);
                }
            }
        }
        let oldest = self.0.backend.oldest_told().await?;
        let next = oldest.into_iter().filter_map(|(nth, at)| Some(at.plus(*gaps.get(nth)?)));
        Ok((owed, next.min()))
    }

    /// Closes the incident and owes an end to everybody whose first mail was sent, or may have
    /// been; false when it is not open. What was never sent is withdrawn together with its
    /// end. After [`Change::Withdrawn`] nobody is mailed at all.
    pub async fn resolve(&self, notice: &Notice) -> Result<bool, Error> {
        self.0.backend.resolve(notice).await
    }

    /// The accounts with an open incident: what somebody was told last, whatever else was written down.
    pub async fn told(&self) -> Result<Vec<(AccountId, Cause)>, Error> {
        self.0.backend.told().await
    }

    /// Puts what waits into mails, as [`digest::plan`] says. `operators` hear of what is held back.
    pub async fn arrange(
        &self,
        way: Way,
        now: Timestamp,
        rules: &Rules,
        operators: &[Secret],
    ) -> Result<Arranged, Error> {
        let refused = |refusal| self.error(&refusal);
        let board = self.0.backend.board(way, now).await?;
        let mut known = Vec::with_capacity(operators.len());
        for address in operators {
            let to = Recipient { address: address.clone(), way, is_operator: true };
            known.push(outbox::addressed(&self.0.sealer, &to).map_err(refused)?);
        }
        let mailboxes: Vec<_> = known.iter().map(|one| one.mailbox).collect();
        let (waiting, made, fired) = (&board.waiting, &board.made, &board.fired);
        let all = digest::Known { waiting, made, fired, operators: &mailboxes };
        let planned = digest::plan(now, &all, rules);
        if planned.bundles.is_empty() && planned.held.is_empty() {
            return Ok(Arranged { held: Vec::new(), next: planned.next });
        }
        let mut letters = Vec::with_capacity(planned.bundles.len());
        for bundle in planned.bundles {
            // Only what no row has an address for.
            let address = known
                .iter()
                .find(|one| bundle.rows.is_empty() && one.mailbox == bundle.mailbox)
                .map(|one| one.address.clone());
            letters.push(letters::NewLetter {
                mailbox: bundle.mailbox,
                summary: stored_notice::summary_text(&bundle.summary),
                rows: bundle.rows,
                address,
            });
        }
        let held: Vec<_> = planned.held.iter().map(|(row, cap)| (*row, cap.as_label())).collect();
        let mut drawn = [0; 8];
        seal::fill_random(&mut drawn).map_err(seal::no_randomness).map_err(refused)?;
        let plan = i64::from_be_bytes(drawn);
        if !self.0.backend.arrange(board.plan, plan, (way, now), letters, held).await? {
            // Somebody else has planned meanwhile.
            return Ok(Arranged { held: Vec::new(), next: Some(now) });
        }
        let count = |cap| planned.held.iter().filter(|(_, by)| *by == cap).count();
        let held = Cap::ALL.map(|cap| (cap, count(cap)));
        let held = held.into_iter().filter(|(_, count)| *count > 0).collect();
        Ok(Arranged { held, next: planned.next })
    }

    /// Mails whose time has come, oldest first. They are ours for a while: another process gets none of
    /// them until they are settled, or until nothing has been heard of us for two minutes.
    pub async fn owed(&self, way: Way, now: Timestamp, at_most: usize) -> Result<Vec<Owed>, Error> {
        let sealed = self.0.backend.owed(way, now, at_most).await?;
        sealed.into_iter().map(|mail| self.open_mail(mail)).collect()
    }

    /// When the next mail may be tried by us, if that can be told. A mail that another process has claimed
    /// comes back to all when its claim ends: ask now and then.
    pub async fn next_due(&self, way: Way) -> Result<Option<Timestamp>, Error> {
        self.0.backend.next_due(way).await
    }

    /// How many mails are on their way or about to be made, and how many notices a cap holds back.
    pub async fn outbox(&self, way: Way) -> Result<(usize, usize), Error> {
        let (letters, waiting, held) = self.0.backend.lengths_of_outbox(way).await?;
        Ok((letters + waiting, held))
    }

    /// The newest mails, and what waits to become one.
    pub async fn mails(&self, at_most: usize) -> Result<Vec<Listed>, Error> {
        let sealed = self.0.backend.list(at_most).await?;
        let open = |one: letters::Listed| {
            let to = outbox::open_address(&self.0.sealer, &one.sealed_for, &one.address)?;
            Ok(Listed {
                stage: one.stage,
                to,
                way: one.way,
                is_operator: one.is_operator,
                subject: one.subject,
                notices: one.notices,
                at: one.at,
                attempts: one.attempts,
                failure: one.failure,
            })
        };
        let opened = sealed.into_iter().map(open).collect::<Result<_, Refusal>>();
        opened.map_err(|refusal| self.error(&refusal))
    }

    /// An attempt is about to begin, under this subject line; false when the mail is not ours to send any
    /// more. From now on it may have left, until something else is said.
    pub async fn begin(&self, row: i64, subject: &str) -> Result<bool, Error> {
        self.0.backend.begin(row, subject).await
    }

    /// The mail was handed over.
    pub async fn sent(&self, row: i64, at: Timestamp) -> Result<(), Error> {
        self.settle(row, Attempt::Sent(at)).await
    }

    /// The mail was not handed over, or, `in_doubt`, its acknowledgement was lost; it is tried again later.
    /// Should an incident of a mail in doubt end first, its recipient hears of the end.
    pub async fn postpone(
        &self,
        row: i64,
        until: Timestamp,
        in_doubt: bool,
        failure: &str,
    ) -> Result<(), Error> {
        self.settle(row, Attempt::Again { until, in_doubt, failure: failure.to_owned() }).await
    }

    /// The mail is never tried again; its recipient hears nothing of the end either, unless it may have
    /// arrived.
    pub async fn give_up(&self, row: i64, at: Timestamp, failure: &str) -> Result<(), Error> {
        self.settle(row, Attempt::GivenUp { at, failure: failure.to_owned() }).await
    }

    async fn settle(&self, row: i64, attempt: Attempt) -> Result<(), Error> {
        self.0.backend.settle(row, attempt).await
    }

    fn open_mail(&self, sealed: letters::Sealed) -> Result<Owed, Error> {
        let sealer = &self.0.sealer;
        let to = sealed.open(sealer).map_err(|refusal| self.error(&refusal))?;
        let thread =
            |(letter, subject)| Thread { key: letters::message_key(sealer, letter), subject };
        let told = |(incident, notice)| (letters::incident_key(sealer, incident), notice);
        Ok(Owed {
            row: sealed.row,
            message_key: letters::message_key(sealer, sealed.row),
            threads: sealed.threads.into_iter().map(thread).collect(),
            to,
            way: sealed.way,
            is_operator: sealed.is_operator,
            notices: sealed.notices.into_iter().map(told).collect(),
            counts: sealed.counts,
            summary: sealed.summary,
            attempts: sealed.attempts,
            doubts: sealed.doubts,
            made_at: sealed.made_at,
        })
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
