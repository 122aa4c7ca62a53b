//! Room for a result is kept before a token is spent.
//!
//! A file of real bytes lies beside the database. When a result does not fit any more, the file is removed and
//! the result takes its room; until the file can be made again, no token is spent. The database has a largest
//! size as well, and the same rule holds for that.

use super::{directory, seal::fill_random};
use rusqlite::Connection;
use std::{
    fs,
    io::Write,
    path::{Path, PathBuf},
};

/// The reserve of one state directory.
pub(super) struct Room {
    file: PathBuf,
    limits: Limits,
    /// False from the moment the reserve was given up until it was made again.
    whole: bool,
}

/// How much room state may take.
#[derive(Clone, Copy)]
pub(super) struct Limits {
    /// Bytes in the reserve file.
    pub(super) reserve_bytes: usize,
    /// Largest database, in pages, while there is a reserve.
    pub(super) pages_max: u32,
    /// Pages by which the database may grow beyond that once the reserve is given up.
    pub(super) reserve_pages: u32,
}

impl Limits {
    /// What every state gets. The reserve takes the results of a few hundred calls in flight; the database
    /// has room for far more accounts than one process keeps.
    pub(super) const USUAL: Self =
        Self { reserve_bytes: 4 << 20, pages_max: 4 << 20, reserve_pages: 1 << 10 };
}

impl Room {
    /// Knows where the reserve lies, and limits the database. [`Room::ensure`] makes it.
    pub(super) fn new(
        directory: &Path,
        limits: Limits,
        connection: &Connection,
    ) -> Result<Self, rusqlite::Error> {
        let room = Self { file: directory.join(RESERVE_FILE), limits, whole: true };
        room.limit(connection)?;
        Ok(room)
    }

    /// Fails when there is no room for a result now: then nothing may be spent.
    pub(super) fn ensure(&mut self, connection: &Connection) -> Result<(), String> {
        // The file is asked every time: another process on this state may have given it up.
        let length = fs::metadata(&self.file).map_or(0, |data| data.len());
        if length != self.limits.reserve_bytes as u64 {
            self.fill().map_err(|error| {
                let file = self.file.display();
                format!("no room for a result, {file} cannot be written: {error}; free disk space")
            })?;
        }
        let pages = |error| format!("its size is not known: {error}");
        if !self.whole {
            self.whole = true;
            self.limit(connection).map_err(pages)?;
        }
        let taken = page_count(connection).map_err(pages)?;
        if taken >= self.limits.pages_max {
            return Err(format!("no room for a result, the database has {taken} pages"));
        }
        Ok(())
    }

    /// Gives the reserve up for a result that did not fit.
    pub(super) fn release(&mut self, connection: &Connection) {
        // Not there, or not removable: the commit that follows says whether there is room now.
        let _ = fs::remove_file(&self.file);
        self.whole = false;
        let _ = self.limit(connection);
    }

    fn limit(&self, connection: &Connection) -> Result<(), rusqlite::Error> {
        let Limits { pages_max, reserve_pages, .. } = self.limits;
        let pages = if self.whole { pages_max } else { pages_max.saturating_add(reserve_pages) };
        connection.pragma_update_and_check(None, "max_page_count", pages, |_| Ok(()))
    }

    fn fill(&self) -> std::io::Result<()> {
        let filled = write_reserve(&self.file, self.limits.reserve_bytes);
        if filled.is_err() {
            // Half a reserve would take the room that somebody else may need to finish.
            let _ = fs::remove_file(&self.file);
        }
        filled
    }
}

/// Real bytes: a sparse file, or one that compresses to nothing, reserves nothing.
fn write_reserve(path: &Path, bytes: usize) -> std::io::Result<()> {
    let mut file = directory::private_file(path)?;
    file.set_len(0)?;
    let mut block = [0; 64 << 10];
    let mut left = bytes;
    while left > 0 {
        fill_random(&mut block)?;
        let part = left.min(block.len());
        file.write_all(&block[..part])?;
        left -= part;
    }
    file.sync_all()
}

fn page_count(connection: &Connection) -> Result<u32, rusqlite::Error> {
    connection.pragma_query_value(None, "page_count", |row| row.get(0))
}

/// The reserve, inside the state directory.
const RESERVE_FILE: &str = "reserve";
