//! All accounts, sorted by provider and account, in blocks that are shared with readers.
//!
//! Readers hold a clone of the block list. A block is copied only when it is changed while a reader
//! still holds it, so a snapshot of a million accounts costs a few thousand reference counts, and
//! the keeper never waits for a slow scrape.

use super::{Account, AccountId, Cause, Shares, Suspect, Timestamp};
use std::sync::Arc;

/// Accounts per block. Small enough that copying one is microseconds, large enough that the list of
/// blocks stays short.
pub const BLOCK_ACCOUNTS_MAX: usize = 256;

/// Every account, in order.
#[derive(Clone, Debug, Default)]
pub struct Table {
    /// Never empty blocks, each sorted, each entirely before the next.
    blocks: Vec<Block>,
    accounts: usize,
}

#[derive(Clone, Debug)]
struct Block {
    rows: Arc<Vec<Account>>,
    /// The earliest `recheck_at` in the block: a pass over all accounts looks at one number for each
    /// block in which nothing is due.
    next_recheck: Option<Timestamp>,
}

impl Block {
    fn new(rows: Vec<Account>) -> Self {
        let next_recheck = rows.iter().filter_map(|row| row.recheck_at).min();
        Self { rows: Arc::new(rows), next_recheck }
    }
}

impl Table {
    /// How many accounts.
    #[must_use]
    pub const fn len(&self) -> usize {
        self.accounts
    }

    /// True when there is none.
    #[must_use]
    pub const fn is_empty(&self) -> bool {
        self.accounts == 0
    }

    /// All accounts, in order of provider and account.
    pub fn iter(&self) -> impl Iterator<Item = &Account> + '_ {
        self.blocks.iter().flat_map(|block| block.rows.iter())
    }

    /// The accounts in blocks of at most [`BLOCK_ACCOUNTS_MAX`]: for a writer that wants to hold one
    /// chunk at a time.
    #[must_use]
    pub fn blocks(&self) -> Vec<Arc<Vec<Account>>> {
        self.blocks.iter().map(|block| Arc::clone(&block.rows)).collect()
    }

    /// The account with this id.
    #[must_use]
    pub fn find(&self, id: &AccountId) -> Option<&Account> {
        let block = self.blocks.get(self.block_of(id))?;
        let row = block.rows.binary_search_by(|row| row.id.cmp(id)).ok()?;
        block.rows.get(row)
    }

    /// Changes one account; `None` when there is no such account.
    pub fn change<R>(
        &mut self,
        id: &AccountId,
        change: impl FnOnce(&mut Account) -> R,
    ) -> Option<R> {
        let at = self.block_of(id);
        let block = self.blocks.get_mut(at)?;
        let row = block.rows.binary_search_by(|row| row.id.cmp(id)).ok()?;
        let rows = Arc::make_mut(&mut block.rows);
        let before = rows[row].recheck_at;
        let answer = change(&mut rows[row]);
        let after = rows[row].recheck_at;
        if before != after {
            block.next_recheck =
                if after.is_some_and(|at| block.next_recheck.is_none_or(|next| at <= next)) {
                    after
                } else {
                    rows.iter().filter_map(|row| row.recheck_at).min()
                };
        }
        Some(answer)
    }

    /// Adds an account, or replaces the one with the same id.
    pub fn put(&mut self, account: Account) {
        if self.blocks.is_empty() {
            self.blocks.push(Block::new(vec![account]));
            self.accounts = 1;
            return;
        }
        let at = self.block_of(&account.id);
        let rows = Arc::make_mut(&mut self.blocks[at].rows);
        match rows.binary_search_by(|row| row.id.cmp(&account.id)) {
            Ok(row) => rows[row] = account,
            Err(row) => {
                rows.insert(row, account);
                self.accounts += 1;
            }
        }
        let mut rows = std::mem::take(rows);
        if rows.len() > BLOCK_ACCOUNTS_MAX {
            // Uneven on purpose: accounts usually arrive in order, and full blocks are what we want.
            let tail = rows.split_off(BLOCK_ACCOUNTS_MAX * 7 / 8);
            self.blocks.insert(at + 1, Block::new(tail));
        }
        self.blocks[at] = Block::new(rows);
    }

    /// Takes an account out.
    pub fn remove(&mut self, id: &AccountId) -> Option<Account> {
        let at = self.block_of(id);
        let block = self.blocks.get_mut(at)?;
        let row = block.rows.binary_search_by(|row| row.id.cmp(id)).ok()?;
        let rows = Arc::make_mut(&mut block.rows);
        let account = rows.remove(row);
        self.accounts -= 1;
        if rows.is_empty() {
            self.blocks.remove(at);
        } else {
            self.blocks[at] = Block::new(std::mem::take(rows));
        }
        Some(account)
    }

    /// The earliest instant at which any account must be looked at.
    #[must_use]
    pub fn next_recheck(&self) -> Option<Timestamp> {
        self.blocks.iter().filter_map(|block| block.next_recheck).min()
    }

    /// Every account whose `recheck_at` has come.
    pub fn due(&self, now: Timestamp) -> impl Iterator<Item = &Account> + '_ {
        self.blocks
            .iter()
            .filter(move |block| block.next_recheck.is_some_and(|at| at.has_come(now)))
            .flat_map(|block| block.rows.iter())
            .filter(move |row| row.recheck_at.is_some_and(|at| at.has_come(now)))
    }

    /// The block that holds `id`, or would.
    fn block_of(&self, id: &AccountId) -> usize {
        self.blocks
            .partition_point(|block| block.rows.first().is_some_and(|first| first.id <= *id))
            .saturating_sub(1)
    }
}

/// What everybody but the keeper sees: one moment of the whole fleet. It has no field that could hold
/// a secret, so no mistake in a page, a metric or a mail can print one.
#[derive(Clone, Debug)]
pub struct Snapshot {
    /// When it was taken, on the program's clock.
    pub at: Timestamp,
    /// When the fleet was first told anything: what [`super::Recent`] holds is not older.
    pub began_at: Timestamp,
    /// False until the store has been read for the first time.
    pub loaded: bool,
    /// The shares whose accounts are ours to look after.
    pub holding: Shares,
    /// When that ends unless it is renewed; `None` for never.
    pub holding_until: Option<Timestamp>,
    /// Shares with a call under way, a token to be saved or a memory to be written, ours or not.
    pub busy: Shares,
    /// Every account of the shares that are held.
    pub accounts: Table,
    /// Every app that the configuration names, by name.
    pub apps: Vec<AppView>,
    /// False while the store cannot be read or written.
    pub store_up: bool,
    /// False while our own state cannot be written.
    pub state_up: bool,
    /// When the store was last read from end to end.
    pub store_read_at: Option<Timestamp>,
    /// Refreshes and saves under way.
    pub in_flight: usize,
    /// Accounts whose row held the same credential as another's when the store was read last.
    pub sharing: usize,
    /// Accounts whose newest token the store has not taken.
    pub unsaved: usize,
    /// Seconds by which a provider's clock is ahead of ours, by provider, from `Date` headers.
    pub clock_offsets: Vec<(Arc<str>, i64)>,
}

/// An app as others may see it.
#[derive(Clone, Debug, Default)]
pub struct AppView {
    /// Its name in the configuration.
    pub name: Arc<str>,
    /// Its provider.
    pub provider: Arc<str>,
    /// The scopes it requires; bit n of [`super::TokenFacts::missing_scopes`] is entry n.
    pub scopes: Arc<[Arc<str>]>,
    /// Registered for the provider's sandbox.
    pub is_sandbox: bool,
    /// Why no account of this app is refreshed now, and since when.
    pub frozen: Option<(Cause, Timestamp)>,
    /// Requests in a row that the provider refused because of the app, questions about it among them.
    pub refusals: u32,
    /// What the provider said when it was last asked about the app, with a token that is nobody's:
    /// `accepted`, `refused` or `unclear`, and when.
    pub asked: Option<(&'static str, Timestamp)>,
    /// Whose trouble the failures of its accounts look like; `None` while none fails.
    pub suspect: Option<Suspect>,
    /// The position of the client secret in use, from one; `None` for an app without.
    pub secret: Option<u16>,
}

/// What is remembered of an app from one start to the next, and what other replicas learn of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AppMemory {
    /// Its name in the configuration.
    pub name: Arc<str>,
    /// The provider asked it to wait until then.
    pub paused_until: Option<Timestamp>,
    /// Requests in a row that the provider refused because of the app.
    pub refusals: u32,
    /// Not to be tried before this, while there are refusals.
    pub next_try_at: Option<Timestamp>,
    /// Set while the operator must act: why, and since when.
    pub frozen: Option<(Cause, Timestamp)>,
    /// It was not refused itself: its accounts were, one after the other.
    pub doubted: bool,
    /// When the provider last refused or accepted it, if it ever did.
    pub changed_at: Option<Timestamp>,
}

impl Snapshot {
    /// The snapshot before anything is known.
    #[must_use]
    pub fn empty(at: Timestamp) -> Self {
        Self {
            at,
            began_at: at,
            loaded: false,
            holding: Shares::NONE,
            holding_until: None,
            busy: Shares::NONE,
            accounts: Table::default(),
            apps: Vec::new(),
            store_up: true,
            state_up: true,
            store_read_at: None,
            in_flight: 0,
            sharing: 0,
            unsaved: 0,
            clock_offsets: Vec::new(),
        }
    }

    /// What is still true of it at `now`, if less: a process that was stopped for a while must not show
    /// accounts that somebody else looks after by now.
    #[must_use]
    pub fn as_of(&self, now: Timestamp) -> Option<Self> {
        let is_over = self.holding_until.is_some_and(|until| until.has_come(now));
        is_over.then(|| Self {
            holding: Shares::NONE,
            holding_until: None,
            accounts: Table::default(),
            apps: self.apps.clone(),
            clock_offsets: self.clock_offsets.clone(),
            ..*self
        })
    }

    /// The names of the scopes that `account` lacks.
    pub fn missing_scopes<'a>(
        &'a self,
        account: &'a Account,
    ) -> impl Iterator<Item = &'a str> + 'a {
        let missing = account.token.map_or(0, |token| token.missing_scopes);
        self.apps
            .iter()
            .find(|app| app.name == account.app)
            .into_iter()
            .flat_map(|app| app.scopes.iter())
            .enumerate()
            .filter(move |(bit, _)| *bit < 32 && missing & (1 << bit) != 0)
            .map(|(_, scope)| &**scope)
    }
}
