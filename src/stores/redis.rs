//! A store in Redis, or a server that speaks its protocol (Valkey, KeyDB): one hash per account.
//!
//! A save is one script, which Redis runs alone: it compares the token fields with what was read, byte
//! for byte, and writes only then. Fields that are not mapped stay as they are. The server's settings are
//! never changed, its persistence and its notifications are what its owner made them;
//! [`RedisStore::warnings`] says where they do not fit tokens.
//!
//! Absent on purpose: Redis Cluster and Sentinel, accounts as JSON in one value, and `WAITAOF`, which
//! would make every save on the shared connection wait for the one before; `appendfsync always` gives the
//! same without it.

mod fields;
mod key;
mod link;
mod news;
mod scripts;
mod server;

pub use fields::Fields;
pub use key::KeyPattern;

use super::{
    Care, Error, Plan, Saved, Status, StoredAccount, TokenStore, check_new, fingerprint_once_saved,
    plan, watch::Watch,
};
use crate::{
    core::{AccountId, Fingerprint},
    oauth::{Fingerprinter, Token},
    secrets::SecretRef,
};
use fields::{Change, Raw};
use link::{Link, Trouble};
use news::{News, Pass};
use redis::{RedisResult, Script};
use std::{collections::HashSet, path::PathBuf, sync::Arc, time::Duration};

/// Which server, which keys, which fields.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Settings {
    /// Where it listens.
    pub address: Address,
    /// The number of the database.
    pub database: u16,
    /// The user of its access control list; `None` is the default user.
    pub username: Option<String>,
    /// The user's password.
    pub password: Option<SecretRef>,
    /// For TCP, TLS and log-in together.
    pub connect_timeout: Duration,
    /// For one command; what is later may yet have been executed.
    pub command_timeout: Duration,
    /// How often to ask whether anything was written, besides being told.
    pub poll_every: Duration,
    /// Whether to listen to keyspace notifications, which the server's owner switches on.
    pub notifications: bool,
    /// What the keys look like.
    pub key: KeyPattern,
    /// What the fields are called.
    pub fields: Fields,
}

/// Where a server listens.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Address {
    /// On the network.
    Tcp {
        /// Name or number.
        host: String,
        /// Port.
        port: u16,
        /// `None` only on this machine: tokens would be readable on the way.
        tls: Option<Tls>,
    },
    /// A socket on this machine.
    Unix(PathBuf),
}

/// Whose certificates are trusted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Tls {
    /// A PEM file with the only authorities to trust; the system's when absent.
    pub ca_file: Option<PathBuf>,
}

impl Settings {
    /// Which server and database, for people.
    #[must_use]
    pub fn place(&self) -> String {
        let at = match &self.address {
            Address::Tcp { host, port, .. } if host.contains(':') => format!("[{host}]:{port}"),
            Address::Tcp { host, port, .. } => format!("{host}:{port}"),
            Address::Unix(path) => path.display().to_string(),
        };
        format!("redis {at}, database {}", self.database)
    }
}

/// See the module.
pub struct RedisStore {
    settings: Settings,
    fingerprinter: Fingerprinter,
    link: Arc<Link>,
    news: Arc<News>,
    watch: Watch<Option<u64>>,
    _listener: Option<server::Listener>,
}

impl RedisStore {
    /// Connects, and listens to notifications where that is wanted.
    ///
    /// # Errors
    /// When the server cannot be reached, does not let us in, or refuses to be read.
    pub async fn open(settings: Settings, fingerprinter: Fingerprinter) -> Result<Self, Error> {
        let link = Arc::new(Link::new(settings.clone()));
        let counted = server::counted(&link).await?;
        let news = Arc::new(News::new(settings.poll_every, counted));
        let told = news.told();
        // Before anything is read, so that no write falls between the reading and the listening.
        let listener = match settings.notifications {
            true => Some(server::listen(&link, &news, &settings).await),
            false => None,
        };
        let watch = Watch::told_by(told, settings.poll_every, Some(news.version()));
        let store = Self { settings, fingerprinter, link, news, watch, _listener: listener };
        store.raws(&[store.settings.key.nobodys().into_bytes()]).await?;
        Ok(store)
    }

    /// What works and is dangerous all the same: persistence that is off, eviction, notifications that
    /// never come. For `check`.
    ///
    /// # Errors
    /// When the server cannot be asked.
    pub async fn warnings(&self) -> Result<Vec<String>, Error> {
        server::warnings(&self.link, &self.settings).await
    }

    /// The mapped fields of each key, in the order of `keys`; `None` where there is no such key.
    async fn raws(&self, keys: &[Vec<u8>]) -> Result<Vec<Found>, Error> {
        let fields = &self.settings.fields;
        let names = fields.read_names();
        let mut pipeline = redis::pipe();
        for key in keys {
            pipeline.cmd("HMGET").arg(key).arg(&names);
        }
        pipeline.ignore_errors();
        let answers: Vec<RedisResult<Vec<Option<Vec<u8>>>>> =
            self.link.read(&pipeline).await.map_err(|trouble| self.link.error(trouble))?;
        let mut found = Vec::with_capacity(keys.len());
        for (key, answer) in keys.iter().zip(answers) {
            found.push(match answer {
                Ok(values) => {
                    let raw = Raw::of(fields, values);
                    // A hash without one of our fields looks like no hash at all.
                    if raw.is_empty() && !self.exists(key).await? {
                        Found::Nothing
                    } else {
                        Found::Hash(raw)
                    }
                }
                Err(error) if link::code(&error) == Some("WRONGTYPE") => Found::NoHash(
                    self.link.error_at(Trouble::Refused(error), &String::from_utf8_lossy(key)),
                ),
                Err(error) => return Err(self.link.error(Trouble::Refused(error))),
            });
        }
        Ok(found)
    }

    async fn exists(&self, key: &[u8]) -> Result<bool, Error> {
        let mut exists = redis::cmd("EXISTS");
        exists.arg(key);
        self.link.read(&exists).await.map_err(|trouble| self.link.error(trouble))
    }

    /// Reads everything, a batch at a time. `quiet` when the caller gets all of it through `each`, so that
    /// a difference is no news to him.
    async fn walk(&self, quiet: bool, mut each: impl FnMut(&[u8], Found)) -> Result<(), Error> {
        let pass = self.news.begin(server::counted(&self.link).await?);
        let walked = self.walk_all(&pass, quiet, &mut each).await;
        match walked {
            Ok(()) => self.news.end(pass, quiet),
            Err(_) => self.news.abandoned(),
        }
        walked
    }

    async fn walk_all(
        &self,
        pass: &Pass,
        quiet: bool,
        each: &mut impl FnMut(&[u8], Found),
    ) -> Result<(), Error> {
        let glob = self.settings.key.glob();
        // `SCAN` may name a key twice while the server rebuilds its table.
        let mut met = HashSet::new();
        let mut cursor = 0_u64;
        loop {
            let mut scan = redis::cmd("SCAN");
            scan.arg(cursor).arg("MATCH").arg(&glob).arg("COUNT").arg(SCAN_COUNT);
            let (next, mut keys): (u64, Vec<Vec<u8>>) =
                self.link.read(&scan).await.map_err(|trouble| self.link.error(trouble))?;
            keys.retain(|key| met.insert(self.news.hash(key)));
            for batch in keys.chunks(BATCH_KEYS_MAX) {
                for (key, found) in batch.iter().zip(self.raws(batch).await?) {
                    if let Some(raw) = found.digested() {
                        self.news.passed(pass, key, &raw, quiet);
                    }
                    each(key, found);
                }
            }
            cursor = next;
            if cursor == 0 {
                return Ok(());
            }
        }
    }

    async fn find(
        &self,
        id: &AccountId,
        key: &str,
        care: Care,
    ) -> Result<Option<(Raw, StoredAccount)>, Error> {
        match self.raws(&[key.as_bytes().to_vec()]).await?.pop() {
            Some(Found::Hash(raw)) => {
                let account = self.account(id.clone(), key, &raw, care)?;
                Ok(Some((raw, account)))
            }
            Some(Found::NoHash(error)) => Err(error.of(id)),
            Some(Found::Nothing) | None => Ok(None),
        }
    }

    fn account(
        &self,
        id: AccountId,
        key: &str,
        raw: &Raw,
        care: Care,
    ) -> Result<StoredAccount, Error> {
        raw.read(&self.settings.fields, id.clone(), care).map_err(|fault| {
            self.link.damaged(key, format!("field {} {}", fault.field, fault.reason)).of(&id)
        })
    }

    /// Runs the script of a save.
    async fn compare_and_set(
        &self,
        key: &str,
        raw: &Raw,
        changes: &[Change],
    ) -> Result<Wrote, Trouble> {
        let fields = &self.settings.fields;
        let name = |slot: usize| fields.name(slot).unwrap_or_default();
        let script = Script::new(scripts::COMPARE_AND_SET);
        let mut call = script.key(key);
        let compared = [fields::ACCESS, fields::REFRESH];
        let compared = compared.iter().filter(|slot| fields.name(**slot).is_some());
        call.arg(compared.clone().count());
        for slot in compared {
            let value = raw.value(*slot);
            call.arg(name(*slot)).arg(u8::from(value.is_some())).arg(value.unwrap_or_default());
        }
        let names = fields.read_names();
        call.arg(names.len()).arg(&names);
        let (set, unset): (Vec<_>, Vec<_>) =
            changes.iter().partition(|change| change.value.is_some());
        call.arg(set.len());
        for change in set {
            call.arg(name(change.slot)).arg(change.value.as_ref().map_or("", |value| &***value));
        }
        for change in unset {
            call.arg(name(change.slot));
        }
        let (said, before): (String, Vec<Option<Vec<u8>>>) = self.link.send(&call).await?;
        Ok(match &*said {
            "written" => Wrote::Yes { before: Box::new(Raw::of(fields, before)) },
            "gone" => Wrote::Gone,
            _ => Wrote::Other,
        })
    }

    async fn read_back(
        &self,
        id: &AccountId,
        key: &str,
        written: Fingerprint,
    ) -> Result<(), Error> {
        let found = self.find(id, key, Care::TokenOnly).await?;
        let token = found.and_then(|(_, account)| account.token);
        if token.map(|token| self.fingerprinter.of_token(&token)) == Some(written) {
            return Ok(());
        }
        let reason = "the token read back is not the one just written; somebody else writes this key \
                      without looking, or the server lost its memory";
        Err(self.link.damaged(key, reason.to_owned()))
    }

    /// Looks at what was touched, and at everything when that is due.
    async fn look(&self) -> Result<u64, Error> {
        let (touched, everything) = self.news.due();
        for batch in touched.chunks(BATCH_KEYS_MAX) {
            let keys = batch.iter().map(|(key, _)| key.clone()).collect::<Vec<_>>();
            for ((key, at), found) in batch.iter().zip(self.raws(&keys).await?) {
                self.news.settle(key, *at, found.digested().as_deref());
            }
        }
        if everything {
            let counted = server::counted(&self.link).await?;
            if self.news.moved(counted.as_ref())
                && !self.news.moved_before_first_pass(counted.as_ref())
            {
                self.walk(false, |_, _| {}).await?;
            }
        }
        Ok(self.news.version())
    }
}

/// What stands at a key.
enum Found {
    Nothing,
    Hash(Raw),
    /// Something of another type.
    NoHash(Error),
}

impl Found {
    /// What is compared to tell a change; something of another type is like a hash without our fields.
    fn digested(&self) -> Option<std::borrow::Cow<'_, Raw>> {
        match self {
            Self::Nothing => None,
            Self::Hash(raw) => Some(std::borrow::Cow::Borrowed(raw)),
            Self::NoHash(_) => Some(std::borrow::Cow::Owned(Raw::default())),
        }
    }
}

/// What the script of a save did.
enum Wrote {
    /// It wrote; so it stood before.
    Yes { before: Box<Raw> },
    /// There is no such key any more.
    Gone,
    /// The token fields are not what they were when they were read.
    Other,
}

impl TokenStore for RedisStore {
    async fn load(
        &self,
        mut each: impl FnMut(StoredAccount) + Send,
        mut damaged: impl FnMut(Error) + Send,
    ) -> Result<(), Error> {
        self.walk(true, |key, found| {
            let shown = String::from_utf8_lossy(key);
            let read = match found {
                Found::Nothing => return,
                Found::NoHash(error) => Err(match self.settings.key.id(key) {
                    Ok(id) => error.of(&id),
                    Err(_) => error,
                }),
                Found::Hash(raw) => self
                    .settings
                    .key
                    .id(key)
                    .map_err(|reason| self.link.damaged(&shown, reason))
                    .and_then(|id| self.account(id, &shown, &raw, Care::All)),
            };
            match read {
                Ok(account) => each(account),
                Err(error) => damaged(error),
            }
        })
        .await
    }

    async fn get(&self, id: &AccountId) -> Result<Option<StoredAccount>, Error> {
        let Some(key) = self.settings.key.key(id) else { return Ok(None) };
        Ok(self.find(id, &key, Care::All).await?.map(|(_, account)| account))
    }

    async fn save(
        &self,
        id: &AccountId,
        token: &Token,
        expected: Fingerprint,
    ) -> Result<Saved, Error> {
        check_new(id, token)?;
        let Some(key) = self.settings.key.key(id) else { return Ok(Saved::Gone) };
        let mut last = None;
        for _ in 0..SAVES_MAX {
            let Some((raw, stored)) = self.find(id, &key, Care::TokenOnly).await? else {
                return Ok(Saved::Gone);
            };
            let old = stored.token.as_ref();
            if let Plan::Nothing(saved) = plan(&self.fingerprinter, old, token, expected) {
                // An attempt whose answer was lost did write, if its token is what stands there now.
                let ours = last.is_some() && saved == Saved::AlreadyThere;
                return Ok(if ours { Saved::Written } else { saved });
            }
            let changes = raw.changes(&self.settings.fields, &stored, token);
            if changes.is_empty() {
                return Ok(Saved::AlreadyThere);
            }
            let written = fingerprint_once_saved(&self.fingerprinter, old, token);
            match self.compare_and_set(&key, &raw, &changes).await {
                Ok(Wrote::Yes { before }) => {
                    let after = Raw::clone(&before).with(&changes);
                    self.news.wrote(key.as_bytes(), Some(&before), &after);
                    self.read_back(id, &key, written).await?;
                    return Ok(Saved::Written);
                }
                Ok(Wrote::Gone) => return Ok(Saved::Gone),
                // Somebody was faster; what he wrote is looked at anew.
                Ok(Wrote::Other) => {}
                // Whether it was executed shows when the account is read again, on a new connection. The
                // script may also be executed after that; it still compares, so it does no harm then.
                Err(Trouble::Lost(error)) => last = Some(error),
                Err(trouble) => return Err(self.link.error_at(trouble, &key)),
            }
        }
        Err(last.unwrap_or_else(|| {
            self.link.unavailable("the token fields change faster than they can be compared")
        }))
    }

    async fn mark(&self, id: &AccountId, status: Status) -> Result<(), Error> {
        let (Some(field), Some(key)) = (&self.settings.fields.status, self.settings.key.key(id))
        else {
            return Ok(());
        };
        let value = match status {
            Status::Connected => &field.connected,
            Status::NeedsReconnect => &field.needs_reconnect,
        };
        let script = Script::new(scripts::MARK);
        let mut call = script.key(&*key);
        call.arg(&*field.name).arg(&**value);
        // Twice does the same as once.
        self.link.read::<()>(&call).await.map_err(|trouble| self.link.error_at(trouble, &key))
    }

    async fn add(&self, account: &StoredAccount) -> Result<Saved, Error> {
        let Some(key) = self.settings.key.key(&account.id) else {
            return Err(Error::Damaged {
                place: format!("new account {}", account.id),
                reason: "the keys of this store are for accounts of another provider".to_owned(),
            });
        };
        let script = Script::new(scripts::ADD);
        let mut call = script.key(&*key);
        for (name, value) in fields::of_new(&self.settings.fields, account) {
            call.arg(name).arg(&**value);
        }
        let added: bool =
            self.link.send(&call).await.map_err(|trouble| self.link.error_at(trouble, &key))?;
        if !added {
            return Ok(Saved::Conflict);
        }
        if let Some((raw, _)) = self.find(&account.id, &key, Care::TokenOnly).await? {
            self.news.wrote(key.as_bytes(), None, &raw);
        }
        Ok(Saved::Written)
    }

    async fn probe(&self) -> Result<(), Error> {
        let nobodys = self.settings.key.nobodys();
        server::writable(&self.link, &nobodys).await?;
        // The script itself ends at a key that does not exist, after all permissions were asked for.
        self.raws(&[nobodys.clone().into_bytes()]).await?;
        self.compare_and_set(&nobodys, &Raw::default(), &[])
            .await
            .map(drop)
            .map_err(|trouble| self.link.error_at(trouble, &nobodys))
    }

    async fn changed(&self) {
        self.watch.changed(|| async { self.look().await.ok() }).await;
    }
}

/// Checks that the server is there. There is nothing to make: a hash comes with its first field.
pub(super) async fn create(settings: &Settings) -> Result<(), Error> {
    let quiet = Settings { notifications: false, ..settings.clone() };
    RedisStore::open(quiet, Fingerprinter::new(&[])).await.map(drop)
}

/// Attempts of one save, against somebody who keeps writing or a connection that keeps breaking.
const SAVES_MAX: u32 = 3;
/// How many slots of its table the server looks at per `SCAN`, and about how many keys it names.
const SCAN_COUNT: u32 = 512;
/// Accounts, and so tokens, that are held at once while reading.
const BATCH_KEYS_MAX: usize = 128;
