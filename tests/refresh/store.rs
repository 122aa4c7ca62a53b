//! A token store that is played: it fails, and changes between two calls, as it is told.

use oauth_keepalive::{
    core::{AccountId, Fingerprint},
    oauth::{Fingerprinter, Token},
    stores::{Error, Saved, Status, StoredAccount, TokenStore},
};
use std::{
    collections::{BTreeMap, VecDeque},
    sync::Mutex,
};

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Call {
    Get,
    Load,
    Save,
    Mark,
    Probe,
}

/// What one call does instead of what it should.
pub(crate) enum Trick {
    Fails,
    /// Written, and then the connection breaks.
    WrittenUnheard,
    /// Never comes back.
    Hangs,
    /// As it should, but first somebody else does this.
    After(Box<dyn FnOnce(&PlayedStore) + Send>),
    /// As it should.
    Works,
}

pub(crate) struct PlayedStore {
    rows: Mutex<BTreeMap<AccountId, StoredAccount>>,
    tricks: Mutex<BTreeMap<Call, VecDeque<Trick>>>,
    /// Calls that never come back.
    hanging: Mutex<Vec<Call>>,
    /// What each status column says; nothing before it was first written.
    marks: Mutex<BTreeMap<AccountId, &'static str>>,
    maker: Fingerprinter,
}

impl PlayedStore {
    pub(crate) fn new(maker: Fingerprinter) -> Self {
        Self {
            rows: Mutex::default(),
            tricks: Mutex::default(),
            hanging: Mutex::default(),
            marks: Mutex::default(),
            maker,
        }
    }

    pub(crate) fn put(&self, id: &AccountId, token: Option<Token>) {
        self.put_of(id, None, token);
    }

    /// The same, whose row says whose it is.
    pub(crate) fn put_of(&self, id: &AccountId, subject: Option<&str>, token: Option<Token>) {
        let subject = subject.map(str::to_owned);
        let row =
            StoredAccount { id: id.clone(), app: None, owner: None, subject, token, enabled: true };
        self.rows.lock().unwrap().insert(id.clone(), row);
    }

    pub(crate) fn remove(&self, id: &AccountId) {
        self.rows.lock().unwrap().remove(id);
    }

    pub(crate) fn switch_off(&self, id: &AccountId) {
        self.rows.lock().unwrap().get_mut(id).unwrap().enabled = false;
    }

    pub(crate) fn token(&self, id: &AccountId) -> Option<Token> {
        self.rows.lock().unwrap().get(id)?.token.clone()
    }

    #[allow(dead_code, reason = "the keeper's tests ask")]
    pub(crate) fn mark_of(&self, id: &AccountId) -> Option<&'static str> {
        self.marks.lock().unwrap().get(id).copied()
    }

    pub(crate) fn has(&self, id: &AccountId) -> bool {
        self.rows.lock().unwrap().contains_key(id)
    }

    /// The next calls of this kind, in order; after those it works.
    pub(crate) fn play(&self, call: Call, tricks: impl IntoIterator<Item = Trick>) {
        self.tricks.lock().unwrap().entry(call).or_default().extend(tricks);
    }

    pub(crate) fn hangs_in(&self, call: Call) -> bool {
        self.hanging.lock().unwrap().contains(&call)
    }

    fn next(&self, call: Call) -> Trick {
        let mut tricks = self.tricks.lock().unwrap();
        tricks.get_mut(&call).and_then(VecDeque::pop_front).unwrap_or(Trick::Works)
    }

    async fn begin(&self, call: Call) -> Result<bool, Error> {
        match self.next(call) {
            Trick::Works => Ok(true),
            Trick::Fails => Err(broken()),
            Trick::WrittenUnheard => Ok(false),
            Trick::Hangs => {
                self.hanging.lock().unwrap().push(call);
                std::future::pending().await
            }
            Trick::After(change) => {
                change(self);
                Ok(true)
            }
        }
    }

    fn save_now(&self, id: &AccountId, token: &Token, expected: Fingerprint) -> Saved {
        let mut rows = self.rows.lock().unwrap();
        let Some(row) = rows.get_mut(id) else {
            return Saved::Gone;
        };
        let Some(stored) = &row.token else {
            if expected != Fingerprint::NONE {
                return Saved::Conflict;
            }
            row.token = Some(token.clone());
            return Saved::Written;
        };
        let there = self.maker.of_token(stored);
        if there == self.maker.of_token(token) {
            return Saved::AlreadyThere;
        }
        if there != expected {
            return Saved::Conflict;
        }
        row.token = Some(token.clone());
        Saved::Written
    }
}

impl TokenStore for PlayedStore {
    async fn load(
        &self,
        mut each: impl FnMut(StoredAccount) + Send,
        _: impl FnMut(Error) + Send,
    ) -> Result<(), Error> {
        let rows: Vec<StoredAccount> = self.rows.lock().unwrap().values().cloned().collect();
        rows.into_iter().for_each(&mut each);
        // A pass that fails has handed out what it read until then.
        self.begin(Call::Load).await.map(|_| ())
    }

    async fn get(&self, id: &AccountId) -> Result<Option<StoredAccount>, Error> {
        self.begin(Call::Get).await?;
        Ok(self.rows.lock().unwrap().get(id).cloned())
    }

    async fn save(
        &self,
        id: &AccountId,
        token: &Token,
        expected: Fingerprint,
    ) -> Result<Saved, Error> {
        let is_heard = self.begin(Call::Save).await?;
        let saved = self.save_now(id, token, expected);
        if is_heard { Ok(saved) } else { Err(broken()) }
    }

    async fn mark(&self, id: &AccountId, status: Status) -> Result<(), Error> {
        let is_heard = self.begin(Call::Mark).await?;
        self.marks.lock().unwrap().insert(id.clone(), status.as_text());
        if is_heard { Ok(()) } else { Err(broken()) }
    }

    async fn add(&self, _: &StoredAccount) -> Result<Saved, Error> {
        unreachable!("a refresh adds no account")
    }

    async fn probe(&self) -> Result<(), Error> {
        self.begin(Call::Probe).await.map(|_| ())
    }

    async fn changed(&self) {
        std::future::pending().await
    }
}

fn broken() -> Error {
    Error::Unavailable { place: "played store".to_owned(), reason: "as told".to_owned() }
}
