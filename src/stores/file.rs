//! A store in one YAML or JSON file.
//!
//! The file is replaced whole: lock, read, compare, write beside it, rename, read back. The lock is ours
//! alone (`<name>.lock`); a publisher that does not take it is noticed because the file is looked at once
//! more right before the rename. Between that look and the rename lie two system calls in which a
//! write of the publisher could be overtaken; a publisher that writes that often belongs in a database.

use super::{
    Care, Error, Plan, Saved, Status, StoredAccount, TokenStore, blocking, check_new,
    directories_of, directory_of,
    document::{Document, Fault, Format, Wrong},
    fingerprint_once_saved, plan,
    watch::Watch,
};
use crate::{
    core::{AccountId, Fingerprint},
    oauth::{Fingerprinter, Token},
};
use std::{
    collections::HashSet,
    fs::{self, DirBuilder, File, OpenOptions},
    io::{self, Read, Write},
    os::unix::fs::{MetadataExt, OpenOptionsExt, PermissionsExt},
    path::{Path, PathBuf},
    sync::Arc,
    time::{Duration, Instant},
};
use tokio::sync::Mutex;

/// Where the file is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Settings {
    /// `.yaml`, `.yml` or `.json`.
    pub path: PathBuf,
    /// How often the file is looked at besides watching its directory.
    pub poll_every: Duration,
}

/// See the module.
pub struct FileStore {
    place: Arc<Place>,
    /// Writers of this process queue here, without a thread each; those of other processes at the lock
    /// file.
    writing: Arc<Mutex<()>>,
    watch: Arc<Watch<Option<Signature>>>,
}

/// The file and how to read it.
struct Place {
    path: PathBuf,
    format: Format,
    fingerprinter: Fingerprinter,
}

/// What changes when the file does. The inode tells a replaced file, the change time tells a rewritten
/// one even if somebody sets its modification time back.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Signature {
    device_and_inode: (u64, u64),
    bytes: u64,
    modified: (i64, i64),
    changed: (i64, i64),
}

impl FileStore {
    /// Opens a file that exists.
    ///
    /// # Errors
    /// When it cannot be read, or is neither YAML nor JSON by its name or content.
    pub async fn open(settings: Settings, fingerprinter: Fingerprinter) -> Result<Self, Error> {
        let Settings { path, poll_every } = settings;
        let format = format_of(&path)?;
        let place = Arc::new(Place { path, format, fingerprinter });
        let (seen, directories) = {
            let place = Arc::clone(&place);
            blocking::run(move || {
                let seen = place.signature();
                place.read()?;
                Ok((seen, directories_of(&place.path)))
            })
            .await?
        };
        Ok(Self {
            place,
            writing: Arc::default(),
            watch: Arc::new(Watch::start(&directories, poll_every, seen)),
        })
    }

    /// Changes the file under the lock. `change` answers what to report, and whether to write.
    async fn rewrite<R: Send + 'static>(
        &self,
        change: impl Fn(&Place, &mut Document) -> Result<Change<R>, Error> + Send + 'static,
    ) -> Result<R, Error> {
        let turn = Arc::clone(&self.writing).lock_owned().await;
        let (place, watch) = (Arc::clone(&self.place), Arc::clone(&self.watch));
        blocking::run(move || {
            let _turn = turn;
            for _ in 0..REWRITES_MAX {
                // Anew each time: the path may lead to another file by now.
                let held = place.lock()?;
                let before = place.signature();
                let mut document = place.read()?;
                let answer = match change(&place, &mut document)? {
                    Change::Nothing(answer) => return Ok(answer),
                    Change::Write(answer) => answer,
                };
                let text = document.render().map_err(|wrong| place.damaged(wrong))?;
                if held.replace(&place, text.as_bytes(), before.as_ref())? {
                    watch.wrote(&before, place.signature());
                    return Ok(answer);
                }
            }
            Err(place.unavailable("it changes faster than it can be written; try again later"))
        })
        .await
    }
}

/// What a change amounts to.
enum Change<R> {
    Write(R),
    Nothing(R),
}

impl TokenStore for FileStore {
    async fn load(
        &self,
        each: impl FnMut(StoredAccount) + Send,
        damaged: impl FnMut(Error) + Send,
    ) -> Result<(), Error> {
        let place = Arc::clone(&self.place);
        blocking::stream(move |rows| place.load(rows), each, damaged).await
    }

    async fn get(&self, id: &AccountId) -> Result<Option<StoredAccount>, Error> {
        let (place, id) = (Arc::clone(&self.place), id.clone());
        blocking::run(move || place.account(&place.read()?, &id, Care::All)).await
    }

    async fn save(
        &self,
        id: &AccountId,
        token: &Token,
        expected: Fingerprint,
    ) -> Result<Saved, Error> {
        check_new(id, token)?;
        let (wanted, id, token) = (id.clone(), id.clone(), token.clone());
        let (saved, written) = self
            .rewrite(move |place, document| {
                let Some(stored) = place.account(document, &id, Care::TokenOnly)? else {
                    return Ok(Change::Nothing((Saved::Gone, None)));
                };
                let old = stored.token.as_ref();
                if let Plan::Nothing(saved) = plan(&place.fingerprinter, old, &token, expected) {
                    return Ok(Change::Nothing((saved, None)));
                }
                let index = document.find(&id).expect("the account was read from this document");
                let written = fingerprint_once_saved(&place.fingerprinter, old, &token);
                Ok(if document.put_token(index, &stored, &token) {
                    Change::Write((Saved::Written, Some(written)))
                } else {
                    Change::Nothing((Saved::AlreadyThere, None))
                })
            })
            .await?;
        if let Some(written) = written {
            self.read_back(wanted, written).await?;
        }
        Ok(saved)
    }

    async fn mark(&self, id: &AccountId, status: Status) -> Result<(), Error> {
        let id = id.clone();
        self.rewrite(move |_, document| {
            Ok(match document.find(&id) {
                Some(index) if document.put_status(index, status) => Change::Write(()),
                _ => Change::Nothing(()),
            })
        })
        .await
    }

    async fn add(&self, account: &StoredAccount) -> Result<Saved, Error> {
        let account = account.clone();
        self.rewrite(move |_, document| {
            if document.find(&account.id).is_some() {
                return Ok(Change::Nothing(Saved::Conflict));
            }
            document.push(&account);
            Ok(Change::Write(Saved::Written))
        })
        .await
    }

    async fn probe(&self) -> Result<(), Error> {
        let turn = Arc::clone(&self.writing).lock_owned().await;
        let place = Arc::clone(&self.place);
        blocking::run(move || {
            let _turn = turn;
            let held = place.lock()?;
            place.read()?;
            held.write_beside(&place, b"")?;
            fs::remove_file(&held.temporary).map_err(|error| place.failed("remove", &error))
        })
        .await
    }

    async fn changed(&self) {
        self.watch
            .changed(|| {
                let place = Arc::clone(&self.place);
                async move { blocking::run(move || Ok(place.signature())).await.ok().flatten() }
            })
            .await;
    }
}

impl FileStore {
    async fn read_back(&self, id: AccountId, written: Fingerprint) -> Result<(), Error> {
        let place = Arc::clone(&self.place);
        blocking::run(move || {
            let token = place
                .account(&place.read()?, &id, Care::TokenOnly)?
                .and_then(|account| account.token);
            let found = token.map(|token| place.fingerprinter.of_token(&token));
            if found == Some(written) {
                return Ok(());
            }
            Err(Error::Damaged {
                place: format!("{}, account {id}", place.path.display()),
                reason:
                    "the token read back is not the one just written; somebody else writes this \
                         file without looking"
                        .to_owned(),
            })
        })
        .await
    }
}

impl Place {
    fn load(&self, rows: &mut blocking::Rows<'_>) -> Result<(), Error> {
        let document = self.read()?;
        let mut seen = HashSet::new();
        let mut faults = Vec::new();
        for index in 0..document.len() {
            match document.account(index, Care::All) {
                Ok(account) if !seen.insert(account.id.clone()) => {
                    let reason =
                        "the same provider and account stand further up; only the first counts";
                    faults.push((index, Fault::new(Some("account"), reason)));
                }
                Ok(account) => {
                    if rows(Ok(account)).is_break() {
                        return Ok(());
                    }
                }
                Err(fault) => faults.push((index, fault)),
            }
        }
        let ids: Vec<_> = faults.iter().map(|(index, _)| document.id(*index)).collect();
        let _ = document.place(faults).into_iter().zip(ids).try_for_each(|(wrong, id)| {
            let damaged = self.damaged(wrong);
            rows(Err(match id {
                Some(id) => damaged.of(&id),
                None => damaged,
            }))
        });
        Ok(())
    }

    fn account(
        &self,
        document: &Document,
        id: &AccountId,
        care: Care,
    ) -> Result<Option<StoredAccount>, Error> {
        let Some(index) = document.find(id) else { return Ok(None) };
        document.account(index, care).map(Some).map_err(|fault| {
            let wrong = document.place(vec![(index, fault)]).pop();
            self.damaged(wrong.expect("one fault has one place")).of(id)
        })
    }

    fn read(&self) -> Result<Document, Error> {
        let failed = |error: &io::Error| self.failed("read", error);
        let file = File::open(&self.path).map_err(|error| failed(&error))?;
        let bytes = file.metadata().map_err(|error| failed(&error))?.len();
        let mut text =
            String::with_capacity(usize::try_from(bytes.min(FILE_BYTES_MAX)).unwrap_or(0));
        file.take(FILE_BYTES_MAX + 1).read_to_string(&mut text).map_err(|error| {
            match error.kind() {
                io::ErrorKind::InvalidData => self.damaged(Wrong {
                    line: None,
                    path: "file".to_owned(),
                    reason: "is not UTF-8".to_owned(),
                }),
                _ => failed(&error),
            }
        })?;
        if text.len() as u64 > FILE_BYTES_MAX {
            return Err(self.damaged(Wrong {
                line: None,
                path: "file".to_owned(),
                reason: format!(
                    "is larger than {} MiB; use a database for that many accounts",
                    FILE_BYTES_MAX >> 20
                ),
            }));
        }
        Document::parse(text, self.format).map_err(|wrong| self.damaged(wrong))
    }

    fn signature(&self) -> Option<Signature> {
        let data = fs::metadata(&self.path).ok()?;
        Some(Signature {
            device_and_inode: (data.dev(), data.ino()),
            bytes: data.len(),
            modified: (data.mtime(), data.mtime_nsec()),
            changed: (data.ctime(), data.ctime_nsec()),
        })
    }

    /// Takes the lock, beside the file behind the path: whoever comes through another link meets us
    /// there.
    fn lock(&self) -> Result<Held, Error> {
        let target = fs::canonicalize(&self.path).map_err(|error| self.failed("find", &error))?;
        let name = target.file_name().unwrap_or_default().to_string_lossy().into_owned();
        let directory = directory_of(&target);
        let lock = OpenOptions::new()
            .create(true)
            .truncate(false)
            .write(true)
            .mode(MODE_OF_NEW_FILES)
            .open(directory.join(format!("{name}.lock")))
            .map_err(|error| self.failed("lock", &error))?;
        let started = Instant::now();
        loop {
            match lock.try_lock() {
                Ok(()) => break,
                Err(fs::TryLockError::WouldBlock) if started.elapsed() < LOCK_WAIT_MAX => {
                    std::thread::sleep(LOCK_RETRY_EVERY);
                }
                Err(fs::TryLockError::WouldBlock) => {
                    return Err(self.unavailable("another program holds its lock file"));
                }
                Err(fs::TryLockError::Error(error)) => return Err(self.failed("lock", &error)),
            }
        }
        let temporary = directory.join(format!(".{name}.new"));
        Ok(Held { _lock: lock, target, directory, temporary })
    }

    fn damaged(&self, wrong: Wrong) -> Error {
        let line = wrong.line.map(|line| format!(":{line}")).unwrap_or_default();
        let place = format!("{}{line}: {}", self.path.display(), wrong.path);
        Error::Damaged { place, reason: wrong.reason }
    }

    fn failed(&self, what: &str, error: &io::Error) -> Error {
        self.unavailable(&format!("cannot {what} it: {}", error.kind()))
    }

    fn unavailable(&self, reason: &str) -> Error {
        Error::Unavailable { place: self.path.display().to_string(), reason: reason.to_owned() }
    }
}

/// The lock, and the names that may be used while it is held.
struct Held {
    _lock: File,
    target: PathBuf,
    directory: PathBuf,
    /// Always the same name, so that what a crash leaves behind, tokens in it, is gone with the next
    /// write.
    temporary: PathBuf,
}

impl Held {
    /// Replaces the file if it still is what was read; false when somebody was faster.
    fn replace(
        &self,
        place: &Place,
        content: &[u8],
        read: Option<&Signature>,
    ) -> Result<bool, Error> {
        let written = self.write_beside(place, content).and_then(|()| {
            if place.signature().as_ref() != read {
                return Ok(false);
            }
            fs::rename(&self.temporary, &self.target)
                .map_err(|error| place.failed("replace", &error))?;
            Ok(true)
        });
        if !matches!(written, Ok(true)) {
            let _ = fs::remove_file(&self.temporary);
            return written;
        }
        // The rename is durable only with its directory.
        File::open(&self.directory)
            .and_then(|directory| directory.sync_all())
            .map_err(|error| place.failed("sync the directory of", &error))?;
        Ok(true)
    }

    /// Writes a file that may take the target's place: same mode, same owner, on the disk.
    fn write_beside(&self, place: &Place, content: &[u8]) -> Result<(), Error> {
        let failed = |what: &str| {
            let what = format!("write a new version of ({what})");
            move |error: io::Error| place.failed(&what, &error)
        };
        let old = fs::metadata(&self.target).map_err(failed("its mode"))?;
        match fs::remove_file(&self.temporary) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => {
                return Err(failed("remove the last attempt")(error));
            }
            _ => {}
        }
        let mut file = OpenOptions::new()
            .create_new(true)
            .write(true)
            .mode(MODE_OF_NEW_FILES)
            .open(&self.temporary)
            .map_err(failed("create"))?;
        self.keep_owner(place, &old, &file)?;
        let mode = fs::Permissions::from_mode(old.permissions().mode() & MODE_BITS);
        file.set_permissions(mode).map_err(failed("set its mode"))?;
        file.write_all(content).map_err(failed("content"))?;
        file.sync_all().map_err(failed("sync"))
    }

    /// A file that belongs to us is of no use to a publisher that runs as somebody else.
    fn keep_owner(&self, place: &Place, old: &fs::Metadata, new: &File) -> Result<(), Error> {
        let made = new.metadata().map_err(|error| place.failed("read", &error))?;
        if (made.uid(), made.gid()) == (old.uid(), old.gid()) {
            return Ok(());
        }
        if std::os::unix::fs::fchown(new, Some(old.uid()), Some(old.gid())).is_ok() {
            return Ok(());
        }
        let group_kept = made.gid() == old.gid()
            || std::os::unix::fs::fchown(new, None, Some(old.gid())).is_ok();
        if group_kept && old.mode() & GROUP_READS_AND_WRITES == GROUP_READS_AND_WRITES {
            return Ok(());
        }
        let _ = fs::remove_file(&self.temporary);
        Err(place.unavailable(
            "it belongs to another user, who could not read it any more once it is replaced; run the \
             sidecar as that user, or let both share its group with mode 0660",
        ))
    }
}

/// Makes a file without accounts where there is none.
pub(super) fn create(settings: &Settings) -> Result<(), Error> {
    let content = match format_of(&settings.path)? {
        Format::Yaml => "accounts: []\n",
        Format::Json => "{\n  \"accounts\": []\n}\n",
    };
    let made =
        DirBuilder::new().recursive(true).create(directory_of(&settings.path)).and_then(|()| {
            let mut file = OpenOptions::new()
                .create_new(true)
                .write(true)
                .mode(MODE_OF_NEW_FILES)
                .open(&settings.path)?;
            file.write_all(content.as_bytes())?;
            file.sync_all()
        });
    match made {
        Err(error) if error.kind() != io::ErrorKind::AlreadyExists => Err(Error::Unavailable {
            place: settings.path.display().to_string(),
            reason: format!("cannot create it: {}", error.kind()),
        }),
        _ => Ok(()),
    }
}

fn format_of(path: &Path) -> Result<Format, Error> {
    Format::of(path).ok_or_else(|| Error::Damaged {
        place: path.display().to_string(),
        reason: "the name of a store file must end in .yaml, .yml or .json".to_owned(),
    })
}

/// Largest file that is read. Each save reads and writes all of it.
const FILE_BYTES_MAX: u64 = 64 * 1024 * 1024;
/// Attempts of one save against a publisher that keeps writing.
const REWRITES_MAX: u32 = 3;
const LOCK_WAIT_MAX: Duration = Duration::from_secs(5);
const LOCK_RETRY_EVERY: Duration = Duration::from_millis(10);
const MODE_OF_NEW_FILES: u32 = 0o600;
const MODE_BITS: u32 = 0o7777;
const GROUP_READS_AND_WRITES: u32 = 0o060;
