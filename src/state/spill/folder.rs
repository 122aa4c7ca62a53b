//! One folder of sealed files. It may lie where everybody can write, so it is used only when it is ours alone, and
//! everything in it is reached through the folder as it was opened.

use super::{
    super::{directory, seal::fill_random},
    ENDING, hex,
};
use rustix::fs::{AtFlags, CWD, Dir, FileType, Mode, OFlags};
use std::{
    fs::File,
    io::{self, Read, Write},
    os::fd::OwnedFd,
    path::{Path, PathBuf},
    time::{Duration, SystemTime},
};

/// A folder that may not exist yet.
pub(super) struct Folder(PathBuf);

impl Folder {
    pub(super) const fn new(path: PathBuf) -> Self {
        Self(path)
    }

    pub(super) fn path(&self) -> &Path {
        &self.0
    }

    /// Whole or not at all, and durable. Makes the folder if need be.
    pub(super) fn write(&self, name: &str, record: &[u8]) -> io::Result<PathBuf> {
        let path = self.0.join(name);
        let folder = self.make()?;
        let names = names_in(&folder)?;
        if names.iter().any(|known| known == name) {
            return Ok(path);
        }
        if names.len() >= FILES_MAX || record.len() > FILE_BYTES_MAX {
            return Err(io::Error::other("as much lies there as is allowed"));
        }
        let mut random = [0; 8];
        fill_random(&mut random)?;
        let temporary = format!(".{}", hex(&random));
        let written = write_whole(&folder, &temporary, name, record);
        if written.is_err() {
            // What is not whole is of no use, and takes room.
            let _ = rustix::fs::unlinkat(&folder, &temporary, AtFlags::empty());
        }
        written.map(|()| path)
    }

    /// The files in it; none where there is no folder that is ours.
    pub(super) fn names(&self) -> Vec<String> {
        let Ok(folder) = self.open() else { return Vec::new() };
        remove_remains(&folder);
        names_in(&folder).unwrap_or_default()
    }

    /// `None` when it is not there any more, or cannot be read now.
    pub(super) fn read(&self, name: &str) -> Option<Vec<u8>> {
        let folder = self.open().ok()?;
        let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let file = rustix::fs::openat(&folder, name, flags, Mode::empty()).ok()?;
        let mut record = Vec::new();
        File::from(file).take(FILE_BYTES_MAX as u64).read_to_end(&mut record).ok()?;
        Some(record)
    }

    /// And the folder too, when nothing else is in it.
    pub(super) fn remove(&self, name: &str) {
        if let Ok(folder) = self.open()
            && rustix::fs::unlinkat(&folder, name, AtFlags::empty()).is_ok()
        {
            let _ = std::fs::remove_dir(&self.0);
        }
    }

    fn make(&self) -> io::Result<OwnedFd> {
        match rustix::fs::mkdir(&self.0, Mode::RWXU) {
            Ok(()) => {
                // Not every place may be read by us; where it may not, a power cut may take the name.
                let _ = directory::sync(directory::parent(&self.0));
            }
            Err(rustix::io::Errno::EXIST) => {}
            Err(error) => return Err(error.into()),
        }
        self.open()
    }

    /// Not through a link, and only if nobody else can put something there or take it away.
    fn open(&self) -> io::Result<OwnedFd> {
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let folder = rustix::fs::openat(CWD, &self.0, flags, Mode::empty())?;
        let about = rustix::fs::fstat(&folder)?;
        let is_ours = about.st_uid == rustix::process::geteuid().as_raw();
        if !is_ours || about.st_mode & 0o077 != 0 {
            return Err(io::Error::other("it is not ours alone; remove it"));
        }
        Ok(folder)
    }
}

fn write_whole(folder: &OwnedFd, temporary: &str, name: &str, record: &[u8]) -> io::Result<()> {
    let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let file = rustix::fs::openat(folder, temporary, flags, Mode::RUSR | Mode::WUSR)?;
    let mut file = File::from(file);
    file.write_all(record)?;
    file.sync_all()?;
    rustix::fs::renameat(folder, temporary, folder, name)?;
    rustix::fs::fsync(folder)?;
    Ok(())
}

fn names_in(folder: &OwnedFd) -> io::Result<Vec<String>> {
    let mut names = Vec::new();
    for entry in Dir::read_from(folder)? {
        let entry = entry?;
        let name = entry.file_name().to_string_lossy();
        let is_file = matches!(entry.file_type(), FileType::RegularFile | FileType::Unknown);
        if is_file && name.ends_with(ENDING) && !name.starts_with('.') {
            names.push(name.into_owned());
        }
    }
    names.sort();
    names.truncate(FILES_MAX);
    Ok(names)
}

/// What a process that was killed in the middle of a write has left. A young one may be somebody's who lives.
fn remove_remains(folder: &OwnedFd) {
    let Ok(entries) = Dir::read_from(folder) else { return };
    for entry in entries.flatten() {
        let name = entry.file_name();
        let is_one = name.to_bytes().starts_with(b".") && name.to_bytes().len() > 2;
        if is_one && is_old(folder, name).unwrap_or_default() {
            let _ = rustix::fs::unlinkat(folder, name, AtFlags::empty());
        }
    }
}

fn is_old(folder: &OwnedFd, name: &std::ffi::CStr) -> Option<bool> {
    let about = rustix::fs::statat(folder, name, AtFlags::SYMLINK_NOFOLLOW).ok()?;
    let written = Duration::from_secs(u64::try_from(about.st_mtime).ok()?);
    let age = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH + written).ok()?;
    Some(age > REMAINS_LIVE_FOR)
}

/// Far more than calls are in flight at a time, so that earlier runs' files find room as well.
const FILES_MAX: usize = 4_096;

/// A provider's answer is smaller, sealed twice and written as text too.
const FILE_BYTES_MAX: usize = 512 << 10;

/// Longer than any write takes that will be finished.
const REMAINS_LIVE_FOR: Duration = Duration::from_secs(600);
