//! Which of the processes that opened this state are still there.
//!
//! The end of a lease is for a holder that hangs. One that was killed is known to be gone at once: each
//! holder keeps a file locked, and the system lets go of a dead process's locks. Without that, a provider
//! that forgives a lost answer for half a minute has forgotten it when the probe may be sent at last.

use super::{
    Error,
    directory::{private_file, unavailable},
};
use std::{
    fs::{self, File, TryLockError},
    io,
    path::{Path, PathBuf},
};

/// Ours; the file goes away with it.
pub(super) struct Presence(Option<Announced>);

struct Announced {
    directory: PathBuf,
    /// Our own.
    file: PathBuf,
    /// Held for as long as we are there.
    _lock: File,
}

impl Presence {
    /// Says that `holder` is there, removes what the dead left, and tells whether nobody else is there. Only
    /// while the directory is held for opening: a file that is made and not locked yet looks like a dead
    /// one's.
    pub(super) fn announce(directory: &Path, holder: &[u8]) -> Result<(Self, bool), Error> {
        let is_alone = sweep(directory);
        let file = file_of(directory, holder);
        let locked = private_file(&file).and_then(|lock| Ok(lock.try_lock().map(|()| lock)?));
        let lock = locked
            .map_err(|error| unavailable(&file, format!("cannot make and lock it: {error}")))?;
        let announced = Announced { directory: directory.to_owned(), file, _lock: lock };
        Ok((Self(Some(announced)), is_alone))
    }

    /// Nobody is known to be gone, as on a server: leases end by themselves.
    pub(super) const fn unknown() -> Self {
        Self(None)
    }

    /// True when `holder` has certainly ended.
    pub(super) fn is_gone(&self, holder: &[u8]) -> bool {
        self.0.as_ref().is_some_and(|ours| is_left(&file_of(&ours.directory, holder)))
    }
}

impl Drop for Announced {
    fn drop(&mut self) {
        // One that stays is swept at the next start.
        let _ = fs::remove_file(&self.file);
    }
}

/// Removes what the dead left. True when nothing else was found; when in doubt, somebody is there.
fn sweep(directory: &Path) -> bool {
    let Ok(entries) = fs::read_dir(directory) else { return false };
    let names = entries.filter_map(Result::ok).map(|entry| entry.path());
    let holders = names.filter(|path| path.extension().is_some_and(|suffix| suffix == SUFFIX));
    let mut is_alone = true;
    for (swept, file) in holders.enumerate() {
        if swept == SWEPT_MAX {
            return false;
        }
        if is_left(&file) {
            let _ = fs::remove_file(file);
        } else {
            is_alone = false;
        }
    }
    is_alone
}

/// True when nobody holds the file locked, or it is not there. When in doubt, somebody does: then the
/// lease ends by itself.
fn is_left(file: &Path) -> bool {
    match File::open(file) {
        Ok(file) => !matches!(
            file.try_lock_shared(),
            Err(TryLockError::WouldBlock | TryLockError::Error(_))
        ),
        Err(error) => error.kind() == io::ErrorKind::NotFound,
    }
}

fn file_of(directory: &Path, holder: &[u8]) -> PathBuf {
    let name: String = holder.iter().map(|byte| format!("{byte:02x}")).collect();
    directory.join(name).with_extension(SUFFIX)
}

const SUFFIX: &str = "holder";

/// Files of dead holders that one start removes.
const SWEPT_MAX: usize = 10_000;
