//! A place for a token that was received and that the journal does not take: sealed files in a folder of our own,
//! on another filesystem than the state where there is one. Whatever ends the process then takes nothing with it.
//!
//! A file holds what the journal would have been told, sealed with the state's key; its name says nothing. What
//! becomes of a file is decided in `refresh::spilled`. Absent on purpose: a folder before it is needed, so that
//! nothing is left behind where nothing was ever spilled; and a promise beyond the machine's next start, since the
//! only place that is left may be in its memory.

mod folder;

use super::{
    EntryId, Error, OpenEntry, Settings, State, seal::Context, sealed_token, writer::Refusal,
};
use crate::{
    core::{AccountId, Fingerprint},
    oauth::Token,
};
use base64::{Engine, engine::general_purpose::STANDARD};
use folder::Folder;
use ring::hmac;
use rustix::fs::{Access, access};
use serde::{Deserialize, Serialize};
use std::{
    collections::{BTreeMap, BTreeSet},
    fmt::Write,
    fs,
    os::unix::fs::MetadataExt,
    path::{Path, PathBuf},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

/// A received token with everything that says where it belongs.
#[derive(Clone, Debug)]
pub struct Spilled {
    /// The journal entry of its attempt.
    pub entry: EntryId,
    /// Which account.
    pub id: AccountId,
    /// The token that the store held when this one was asked for.
    pub old: Fingerprint,
    /// The refresh token that was spent for it.
    pub spending: Fingerprint,
    /// The token.
    pub token: Token,
}

impl Spilled {
    /// True when `open` is the attempt that brought this token. The number alone does not say it: a state that was
    /// begun anew counts from one again.
    #[must_use]
    pub fn is_of(&self, open: &OpenEntry) -> bool {
        let Self { entry, id, old, spending, .. } = self;
        (&open.entry, &open.id, &open.intent.old, &open.intent.spending)
            == (entry, id, old, spending)
    }
}

/// A file that lies in the spill, by its name.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Name(String);

/// What lies where, as far as this process knows.
pub struct Spill {
    /// Where to put a file, best first; where to look for files, all of them.
    folders: Vec<Folder>,
    /// True for those that can be opened.
    lying: Mutex<BTreeMap<Name, bool>>,
}

impl Spill {
    /// How many files lie there.
    #[must_use]
    pub fn len(&self) -> usize {
        self.lying().len()
    }

    /// True when there is none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.lying().is_empty()
    }

    /// The files that can be opened.
    #[must_use]
    pub fn readable(&self) -> BTreeSet<Name> {
        let lying = self.lying();
        lying
            .iter()
            .filter(|(_, is_readable)| **is_readable)
            .map(|(name, _)| name.clone())
            .collect()
    }

    /// Puts a file into the first folder that takes it, durably, and says where it lies. The same file again is no
    /// error.
    ///
    /// # Errors
    /// With the last refusal, when no folder takes it.
    pub async fn write(self: &Arc<Self>, name: &Name, record: Vec<u8>) -> Result<PathBuf, String> {
        let (spill, name) = (Arc::clone(self), name.clone());
        // A disk in trouble may take its time, and others must go on meanwhile.
        let writing = tokio::task::spawn_blocking(move || {
            let mut refusal = "there is no place for it".to_owned();
            for folder in &spill.folders {
                match folder.write(&name.0, &record) {
                    Ok(path) => {
                        spill.lying().insert(name, true);
                        return Ok(path);
                    }
                    Err(error) => refusal = format!("{}: {error}", folder.path().display()),
                }
            }
            Err(refusal)
        });
        writing.await.unwrap_or_else(|_| Err("its writer failed inside".to_owned()))
    }

    /// Everything that lies there, but for `known` and for what was refused before.
    pub async fn read(self: &Arc<Self>, known: BTreeSet<Name>) -> Vec<(Name, Vec<u8>)> {
        let spill = Arc::clone(self);
        let reading = tokio::task::spawn_blocking(move || {
            let before: BTreeSet<Name> = spill.lying().keys().cloned().collect();
            let mut found = BTreeMap::new();
            let mut records = Vec::new();
            for folder in &spill.folders {
                for name in folder.names().into_iter().map(Name) {
                    let refused = spill.lying().get(&name) == Some(&false);
                    found.insert(name.clone(), !refused);
                    if !refused && !known.contains(&name) {
                        records.extend(folder.read(&name.0).map(|record| (name, record)));
                    }
                }
            }
            let mut lying = spill.lying();
            // What was written while we looked may have been missed.
            lying.retain(|name, _| !before.contains(name));
            lying.extend(found);
            records
        });
        reading.await.unwrap_or_default()
    }

    /// What could not be opened is counted and left alone.
    pub fn refuse(&self, name: &Name) {
        self.lying().insert(name.clone(), false);
    }

    /// The token is in a better place. A file that cannot be removed is met again, and found to be of no use.
    pub fn remove(&self, name: &Name) {
        self.folders.iter().for_each(|folder| folder.remove(&name.0));
        self.lying().remove(name);
    }

    fn lying(&self) -> MutexGuard<'_, BTreeMap<Name, bool>> {
        self.lying.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    /// Where tokens of this state may be spilled. Nothing is made or looked at yet.
    #[must_use]
    pub fn spill(&self, settings: &Settings) -> Spill {
        let ours = hex(&self.0.sealer.derive("spill folder")[..FOLDER_HASH_BYTES]);
        let folder = |place: PathBuf| Folder::new(place.join(format!("oauth-keepalive-{ours}")));
        let folders = places(settings).into_iter().map(folder).collect();
        Spill { folders, lying: Mutex::default() }
    }

    /// The file for a token: the same token of the same attempt is the same file.
    ///
    /// # Errors
    /// When the system gives no randomness.
    pub fn seal_spilled(&self, spilled: &Spilled) -> Result<(Name, Vec<u8>), Error> {
        let Spilled { entry, id, old, spending, token } = spilled;
        let sealer = &self.0.sealer;
        let sealed = || -> Result<Vec<u8>, Refusal> {
            let plain = Plain {
                provider: (&*id.provider).into(),
                account: (&*id.account).into(),
                entry: entry.0,
                old: old.as_hash(),
                spending: spending.as_hash(),
                token: STANDARD.encode(sealed_token::seal(sealer, id, token)?),
            };
            let text = serde_json::to_vec(&plain).expect("numbers and texts are always JSON");
            sealer.seal(Context::spilled(), &text)
        };
        let sealed = sealed().map_err(|refusal| self.error(&refusal))?;
        let key = hmac::Key::new(hmac::HMAC_SHA256, &sealer.derive("spill name"));
        let token = self.0.fingerprinter.of_token(token).as_hash();
        let named = format!("{} {} {token} {id}", entry.0, spending.as_hash());
        let hash = hmac::sign(&key, named.as_bytes());
        Ok((Name(format!("{}{ENDING}", hex(&hash.as_ref()[..NAME_HASH_BYTES]))), sealed))
    }

    /// The way back from [`State::seal_spilled`].
    ///
    /// # Errors
    /// When it was sealed with another key, altered, or is of a newer version.
    pub fn open_spilled(&self, record: &[u8]) -> Result<Spilled, Error> {
        let sealer = &self.0.sealer;
        let opened = || -> Result<Spilled, Refusal> {
            let newer =
                || Refusal::Damaged("a spilled token is of a newer version; run that".to_owned());
            let text = sealer.open(Context::spilled(), record)?;
            let plain: Plain = serde_json::from_slice(&text).map_err(|_| newer())?;
            let id = AccountId::new(plain.provider, plain.account);
            let sealed = STANDARD.decode(&plain.token).map_err(|_| newer())?;
            Ok(Spilled {
                entry: EntryId(plain.entry),
                token: sealed_token::open(sealer, &id, &sealed)?,
                id,
                old: Fingerprint::from_hash(plain.old),
                spending: Fingerprint::from_hash(plain.spending),
            })
        };
        opened().map_err(|refusal| self.error(&refusal))
    }

    /// Keeps a token that belongs to no attempt any more, as an orphan.
    ///
    /// # Errors
    /// Like [`State::record_result`].
    pub async fn keep_aside(&self, id: &AccountId, token: &Token) -> Result<(), Error> {
        self.record_result(NO_ENTRY, id, token).await
    }
}

/// Looks at where a token would be spilled and changes nothing: for `check`. Answers in a sentence.
///
/// # Errors
/// When there is no such place, or when it shares the disk with the state.
pub fn examine(settings: &Settings) -> Result<String, String> {
    let (Some(place), remedy) = (first_usable(settings), "name a directory under state.spill")
    else {
        return Err(match &settings.spill {
            Some(place) => format!(
                "{}: no token could be spilled there; make it a directory that the sidecar's user may write to",
                place.display()
            ),
            None => "no place for tokens that neither state nor store takes; name a directory on another disk under state.spill".to_owned(),
        });
    };
    let says = format!("{} takes tokens that neither state nor store takes", place.display());
    // A database server's disk is not ours to compare with.
    if settings.postgres.is_none() && device_of(&place) == device_of(&settings.directory) {
        return Err(format!(
            "{says}, and lies on the same filesystem as state.directory: a full or failing disk takes both; {remedy} on another one"
        ));
    }
    Ok(match rustix::fs::statfs(&place) {
        Ok(about) if about.f_type == TMPFS => {
            format!("{says}; it is in memory and outlives the program, not the machine")
        }
        _ => says,
    })
}

fn first_usable(settings: &Settings) -> Option<PathBuf> {
    places(settings)
        .into_iter()
        .find(|place| place.is_dir() && access(place, Access::WRITE_OK | Access::EXEC_OK).is_ok())
}

/// The one that was named; otherwise what every machine has, with those first that do not share the state's disk:
/// what is wrong with that would be wrong with them. Of these the first outlives the machine's next start.
fn places(settings: &Settings) -> Vec<PathBuf> {
    if let Some(place) = &settings.spill {
        return vec![place.clone()];
    }
    let mut places = vec![PathBuf::from("/var/tmp")];
    for place in [std::env::temp_dir(), PathBuf::from("/dev/shm")] {
        if !places.contains(&place) {
            places.push(place);
        }
    }
    let ours = device_of(&settings.directory);
    places.sort_by_key(|place| device_of(place) == ours);
    places
}

/// Of the nearest directory that exists.
fn device_of(path: &Path) -> Option<u64> {
    path.ancestors().find_map(|path| fs::metadata(path).ok()).map(|about| about.dev())
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().fold(String::new(), |mut text, byte| {
        write!(text, "{byte:02x}").expect("a text in memory takes everything");
        text
    })
}

/// What is sealed. The token is sealed once more inside, so that it is never in clear outside of that.
#[derive(Serialize, Deserialize)]
struct Plain {
    provider: String,
    account: String,
    entry: i64,
    old: u64,
    spending: u64,
    token: String,
}

/// Entries are numbered from one.
const NO_ENTRY: EntryId = EntryId(0);

/// What a finished file's name ends with.
const ENDING: &str = ".sealed";

/// Enough to tell installations on one machine apart.
const FOLDER_HASH_BYTES: usize = 8;
/// Enough that two tokens never have one name.
const NAME_HASH_BYTES: usize = 16;

/// What statfs(2) calls a filesystem that is in memory.
const TMPFS: rustix::fs::FsWord = 0x0102_1994;

#[cfg(test)]
mod tests;
