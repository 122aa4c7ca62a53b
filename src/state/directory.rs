//! The directory that state lies in, and the key beside it.

use super::{
    Error, Settings,
    seal::{KEY_BYTES, Key, fill_random},
};
use base64::{Engine, engine::general_purpose::STANDARD};
use std::{
    fs::{self, DirBuilder, File, OpenOptions, TryLockError},
    io::{self, Read, Write},
    os::unix::fs::{DirBuilderExt, OpenOptionsExt, PermissionsExt},
    path::{Path, PathBuf},
    time::{Duration, Instant},
};
use zeroize::Zeroizing;

/// Held while a state is opened: two processes that start at once must not make two keys.
pub(super) struct Opening {
    _lock: File,
}

/// The database inside the directory.
pub(super) fn database(settings: &Settings) -> PathBuf {
    settings.directory.join(DATABASE_FILE)
}

/// Makes the directory if need be and holds it for opening.
pub(super) fn prepare(directory: &Path) -> Result<Opening, Error> {
    let sorry = |what: &str, error: &io::Error| unavailable(directory, format!("{what}: {error}"));
    if !directory.exists() {
        DirBuilder::new()
            .recursive(true)
            .mode(0o700)
            .create(directory)
            .map_err(|error| sorry("cannot make the directory", &error))?;
        sync_names_of(directory);
    }
    let data = fs::metadata(directory).map_err(|error| sorry("cannot look at it", &error))?;
    if !data.is_dir() {
        return Err(unavailable(directory, "is not a directory; name another one".to_owned()));
    }
    warn_if_open(directory, &data);
    let lock = File::open(directory).map_err(|error| sorry("cannot open the directory", &error))?;
    lock_within(&lock, LOCK_TIMEOUT)
        .map_err(|error| sorry("another process has been opening it for too long", &error))?;
    is_writable(directory).map_err(|error| {
        sorry("cannot write there, make it writable for the sidecar's user", &error)
    })?;
    Ok(Opening { _lock: lock })
}

/// Reads the sealing key; makes one when the state is new and no key file was named.
pub(super) fn key(settings: &Settings) -> Result<Key, Error> {
    if let Some(file) = &settings.key_file {
        return read_key(file);
    }
    let file = settings.directory.join(KEY_FILE);
    if file.exists() {
        return read_key(&file);
    }
    if database(settings).exists() {
        // A new key would not open what is in there, and would stand where the right one belongs.
        let reason = "the key of this state is missing; bring it back, or move the whole directory away to start afresh";
        return Err(damaged(&file, reason.to_owned()));
    }
    make_key(&file)
}

/// Says how the directory and the key stand, without making either.
pub(super) fn examine(settings: &Settings) -> Result<String, Error> {
    let directory = &settings.directory;
    let place = directory.display();
    if let Some(file) = &settings.key_file {
        read_key(file)?;
    }
    let is_new = !directory.exists();
    // The nearest one that exists: the rest is made at the first start.
    let nearest =
        directory.ancestors().find(|path| path.exists()).unwrap_or_else(|| Path::new("."));
    let access =
        rustix::fs::access(nearest, rustix::fs::Access::WRITE_OK | rustix::fs::Access::EXEC_OK);
    access.map_err(|error| {
        let reason =
            format!("cannot write there ({error}); make it writable for the sidecar's user");
        unavailable(nearest, reason)
    })?;
    if !nearest.is_dir() {
        return Err(unavailable(nearest, "is not a directory; name another one".to_owned()));
    }
    if is_new {
        return Ok(format!("{place} will be made at the first start"));
    }
    if settings.key_file.is_none() && database(settings).exists() {
        read_key(&directory.join(KEY_FILE))?;
    }
    Ok(format!("{place} is writable"))
}

/// The key as it is; `None` when there is none yet.
pub(super) fn known_key(settings: &Settings) -> Result<Option<Key>, Error> {
    let file = settings.key_file.clone().unwrap_or_else(|| settings.directory.join(KEY_FILE));
    if settings.key_file.is_none() && !file.exists() {
        return Ok(None);
    }
    read_key(&file).map(Some)
}

/// Opens or creates a file that only its owner may read.
pub(super) fn private_file(path: &Path) -> io::Result<File> {
    OpenOptions::new().create(true).truncate(false).write(true).mode(0o600).open(path)
}

/// Makes the names in a directory durable.
pub(super) fn sync(directory: &Path) -> io::Result<()> {
    File::open(directory)?.sync_all()
}

fn read_key(path: &Path) -> Result<Key, Error> {
    let mut text = Zeroizing::new(Vec::with_capacity(KEY_FILE_BYTES_MAX));
    let opened = File::open(path).and_then(|file| {
        warn_if_open(path, &file.metadata()?);
        file.take(KEY_FILE_BYTES_MAX as u64).read_to_end(&mut text)
    });
    opened.map_err(|error| damaged(path, format!("the key cannot be read: {error}")))?;
    let mut key = Key::new([0; KEY_BYTES]);
    match STANDARD.decode(text.trim_ascii()).map(Zeroizing::new) {
        Ok(bytes) if bytes.len() == KEY_BYTES => {
            key.copy_from_slice(&bytes);
            Ok(key)
        }
        _ => Err(damaged(
            path,
            format!(
                "expected {KEY_BYTES} random bytes as base64; `head -c {KEY_BYTES} /dev/urandom | base64` makes some for a new state"
            ),
        )),
    }
}

fn make_key(path: &Path) -> Result<Key, Error> {
    let mut key = Key::new([0; KEY_BYTES]);
    let written = fill_random(&mut key[..]).and_then(|()| write_key(path, &key));
    written.map_err(|error| unavailable(path, format!("cannot make a key: {error}")))?;
    Ok(key)
}

/// Whole or not at all: half a key after a crash would make the state unreadable.
fn write_key(path: &Path, key: &Key) -> io::Result<()> {
    let temporary = path.with_extension("new");
    let mut text = Zeroizing::new(STANDARD.encode(&key[..]));
    text.push('\n');
    let mut file = private_file(&temporary)?;
    file.set_len(0)?;
    file.write_all(text.as_bytes())?;
    file.sync_all()?;
    fs::rename(&temporary, path)?;
    sync(parent(path))
}

/// Where the name of `path` stands.
pub(super) fn parent(path: &Path) -> &Path {
    match path.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => parent,
        _ => Path::new("."),
    }
}

/// After a power cut a directory whose name was never synced is gone, with a journal that was. The
/// ancestors that existed before need it not, and may not even be readable for us.
fn sync_names_of(directory: &Path) {
    for path in directory.ancestors().filter(|path| !path.as_os_str().is_empty()) {
        let _ = sync(parent(path));
    }
}

fn lock_within(file: &File, timeout: Duration) -> io::Result<()> {
    let begun = Instant::now();
    loop {
        match file.try_lock() {
            Err(TryLockError::WouldBlock) if begun.elapsed() < timeout => {
                std::thread::sleep(LOCK_PAUSE);
            }
            done => return done.map_err(io::Error::from),
        }
    }
}

/// Tried with a file, since mode bits say nothing about read-only mounts.
fn is_writable(directory: &Path) -> io::Result<()> {
    let probe = directory.join(PROBE_FILE);
    private_file(&probe)?;
    fs::remove_file(probe)
}

fn warn_if_open(path: &Path, data: &fs::Metadata) {
    let mode = data.permissions().mode() & 0o777;
    if mode & 0o077 != 0 {
        tracing::warn!(
            path = %path.display(),
            mode = %format!("{mode:o}"),
            "other users can reach our state; take their rights away with chmod go="
        );
    }
}

pub(super) fn unavailable(place: &Path, reason: String) -> Error {
    Error::Unavailable { place: place.display().to_string(), reason }
}

fn damaged(place: &Path, reason: String) -> Error {
    Error::Damaged { place: place.display().to_string(), reason }
}

const DATABASE_FILE: &str = "state.db";
const KEY_FILE: &str = "key";
const PROBE_FILE: &str = "probe";

/// Most that is read of a key file: the key as base64 is 44 bytes.
const KEY_FILE_BYTES_MAX: usize = 256;

/// How long another process may take to open the same state: it makes a key and some tables.
const LOCK_TIMEOUT: Duration = Duration::from_secs(10);
const LOCK_PAUSE: Duration = Duration::from_millis(20);
