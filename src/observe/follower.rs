//! Follows one log through rotation, truncation and restarts, so that each line is handed out once.
//!
//! A log is a path behind which stands one file after the other. All of them stay open until they are quiet,
//! oldest first, so that the rest of a rotated file is read before its successor begins. Where a file was copied
//! away and truncated, the rest is read from the copy. What nobody can know is counted as a gap: lines that were
//! written between copy and truncation, and files that were compressed or removed before they were read.
//!
//! Absent on purpose: events of the file system. Looking costs a few system calls, and works on network file
//! systems and in containers too.

use super::tail::{
    BUFFER_BYTES, Budget, FileId, Line, Mark, Modified, Read, Tail, id_of, modified_of,
};
use serde::{Deserialize, Serialize};
use std::{
    collections::VecDeque,
    fs, io,
    path::{Path, PathBuf},
    time::{Duration, Instant},
};

/// Where the first file that is ever seen is begun.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Start {
    /// With what is written from now on.
    #[default]
    End,
    /// With its first line.
    Beginning,
}

/// Everything that must be remembered to go on after a restart.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Position {
    /// Oldest first.
    files: Vec<Place>,
}

/// How far one file was read.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
struct Place {
    id: FileId,
    mark: Mark,
    modified: Modified,
    /// It had been rotated away and was read to its end.
    is_done: bool,
    /// It is a copy of what was truncated.
    is_copy: bool,
}

impl Position {
    /// Both are about the same files.
    #[must_use]
    pub fn is_in_the_same_files_as(&self, other: &Self) -> bool {
        self.files.iter().map(|place| place.id).eq(other.files.iter().map(|place| place.id))
    }
}

/// One log.
pub struct Follower {
    path: PathBuf,
    /// Where the first file is begun; `None` once there was one, or it is known that there was none.
    start: Option<Start>,
    /// Oldest first; the last one is the one at the path, unless that is gone.
    files: Vec<File>,
    /// Files that are not to be read again, the newest last. A copy may be overwritten by the next one, and is
    /// another one then.
    done: VecDeque<(FileId, Option<Modified>)>,
    /// Remembered, and not looked for yet.
    remembered: Vec<Place>,
    buffer: Vec<u8>,
}

/// A file that is open.
struct File {
    tail: Tail,
    /// When it was last found to have grown.
    grown_at: Instant,
    /// Nobody writes it any more: it is a copy.
    is_copy: bool,
}

/// A file that may be the log under an older name.
struct Rotated {
    path: PathBuf,
    id: FileId,
    modified: Modified,
}

/// What one round found beside lines.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Round {
    /// There is more to read at once.
    pub more: bool,
    /// How often lines may have been missed.
    pub gaps: u32,
    /// Last lines without an end, in files that nobody writes any more.
    pub partial: u32,
}

impl Follower {
    /// Goes on from `position`, or begins with `start` where there is none.
    #[must_use]
    pub fn new(path: PathBuf, start: Start, position: Option<Position>) -> Self {
        Self {
            path,
            start: position.is_none().then_some(start),
            files: Vec::new(),
            done: VecDeque::new(),
            remembered: position.unwrap_or_default().files,
            buffer: vec![0; BUFFER_BYTES],
        }
    }

    /// Looks once and hands out what is new, up to a bound. What was handed out belongs to
    /// [`Follower::position`] from then on.
    ///
    /// # Errors
    /// When a file or its folder cannot be read; the next round tries again.
    pub fn round(&mut self, each: &mut dyn FnMut(Line<'_>)) -> io::Result<Round> {
        let round = self.try_round(each);
        if round.is_err() {
            // On a network file system an open file may have become worthless. It is looked for anew.
            self.remembered = self.position().files;
            self.files.clear();
        }
        round
    }

    /// What to remember.
    #[must_use]
    pub fn position(&self) -> Position {
        let last = self.files.len().saturating_sub(1);
        let open = self.files.iter().enumerate().map(|(index, file)| {
            let is_done = index < last && file.tail.is_at_its_end();
            Place { is_done, ..file.place() }
        });
        Position { files: self.remembered.iter().copied().chain(open).collect() }
    }

    fn try_round(&mut self, each: &mut dyn FnMut(Line<'_>)) -> io::Result<Round> {
        let mut round = Round::default();
        self.find_remembered(&mut round)?;
        self.open_what_is_new(&mut round)?;
        let mut budget = Budget { bytes: BYTES_PER_ROUND, lines: LINES_PER_ROUND };
        self.look_behind_the_beginning(&mut round)?;
        for index in 0..self.files.len() {
            let File { tail, grown_at, .. } = &mut self.files[index];
            match tail.read(&mut self.buffer, &mut budget, each)? {
                Read::ToTheEnd { grown: false } => {}
                Read::ToTheEnd { grown: true } => *grown_at = Instant::now(),
                Read::More => {
                    *grown_at = Instant::now();
                    round.more = true;
                    break;
                }
                Read::Replaced => {
                    self.read_rest_elsewhere(index, &mut round)?;
                    round.more = true;
                    break;
                }
            }
        }
        self.let_go(&mut round);
        Ok(round)
    }

    /// Opens what was being read when the position was remembered.
    fn find_remembered(&mut self, round: &mut Round) -> io::Result<()> {
        if self.remembered.is_empty() {
            return Ok(());
        }
        let remembered = self.remembered.clone();
        let current = Tail::open(&self.path, Mark::default())?;
        let mut files = Vec::new();
        for (index, place) in remembered.iter().enumerate() {
            let is_last = index + 1 == remembered.len();
            if let Some(tail) = self.find(place, current.as_ref())? {
                let is_current = current.as_ref().is_some_and(|current| current.id == tail.id);
                let is_copy = place.is_copy || (!is_current && tail.id.1 != place.id.1);
                let since = tail.modified;
                files.push(File { is_copy, ..File::new(tail) });
                // It was rotated away while nobody looked, perhaps more than once.
                if is_last && !is_current {
                    let newer = self.open_newer_than(since, &files)?;
                    files.extend(newer.into_iter().map(|tail| File { is_copy, ..File::new(tail) }));
                }
            } else if current.as_ref().is_some_and(|current| current.id == place.id) {
                let rest = self.rest_of(place, &files, round)?;
                files.extend(rest);
            } else {
                round.gaps += u32::from(!place.is_done);
            }
        }
        self.files = files;
        self.remembered.clear();
        Ok(())
    }

    /// The file that was read up to there: the one with its inode, or one that begins with the same.
    fn find(&self, place: &Place, current: Option<&Tail>) -> io::Result<Option<Tail>> {
        let is_it = |tail: &Tail| -> io::Result<bool> {
            let is_likely = tail.id.1 == place.id.1 || place.mark.is_telling();
            Ok(is_likely && tail.continues(&place.mark)?)
        };
        let has_number = |id: FileId| id.1 == place.id.1;
        let is_current = |id: FileId| current.is_some_and(|current| current.id == id);
        let names = self.names();
        let mut all = self.entries()?;
        // By its number whatever it is called now, if enough was read to tell: numbers are used again.
        all.retain(|about| {
            let is_likely = has_number(about.id) && place.mark.is_telling();
            !is_current(about.id) && (is_likely || is_name_of_rotated(&about.path, &names))
        });
        let mut likely: Vec<_> = all.into_iter().map(|about| (about.id, about.path)).collect();
        likely.extend(current.map(|current| (current.id, self.path.clone())));
        // What carries its number goes before what only reads alike, and the path before other names.
        likely.sort_by_key(|(id, _)| (!has_number(*id), !is_current(*id)));
        for (id, path) in likely {
            let Some(mut tail) = Tail::open(&path, place.mark)? else { continue };
            if is_it(&tail)? {
                if is_current(id) {
                    tail.was_seen(place.modified);
                }
                return Ok(Some(tail));
            }
        }
        Ok(None)
    }

    /// Opens the file at the path when it is another one than before.
    fn open_what_is_new(&mut self, round: &mut Round) -> io::Result<()> {
        let Some(mut tail) = Tail::open(&self.path, Mark::default())? else {
            // Whatever appears later is read from its beginning.
            self.start = None;
            return Ok(());
        };
        if self.files.iter().any(|file| file.tail.id == tail.id) {
            return Ok(());
        }
        if self.start.take() == Some(Start::End) {
            tail.skip_to_the_last_line(&mut self.buffer)?;
        } else if let Some(last) = self.files.last() {
            let since = last.tail.modified_now()?;
            let new = File::new(tail);
            let between = self.open_newer_than(since, std::slice::from_ref(&new))?;
            self.files.extend(between.into_iter().map(File::new));
            self.files.push(new);
            self.close_the_oldest(round);
            return Ok(());
        }
        self.files.push(File::new(tail));
        Ok(())
    }

    /// Read to its end or not: somebody rotates faster than anybody could read.
    fn close_the_oldest(&mut self, round: &mut Round) {
        while self.files.len() > FILES_MAX {
            let oldest = self.files.remove(0);
            round.gaps += u32::from(!oldest.tail.is_at_its_end());
            self.forget(&oldest);
        }
    }

    /// Where hardly anything was read yet, nothing tells whether the file was truncated since the last look and
    /// begun in the same way. If it was, what was in it lies beside it.
    fn look_behind_the_beginning(&mut self, round: &mut Round) -> io::Result<()> {
        let Some(last) = self.files.last_mut() else { return Ok(()) };
        let Some(modified) = last.tail.begins()? else { return Ok(()) };
        let place = Place { modified, ..last.place() };
        let copies = self.rest_of(&place, &[], round)?;
        let last = self.files.len() - 1;
        if !copies.is_empty() {
            self.files[last].tail.begin_anew();
            self.files.splice(last..last, copies);
        }
        Ok(())
    }

    /// The file at `index` is not what was read. What was in it may have been copied away before.
    fn read_rest_elsewhere(&mut self, index: usize, round: &mut Round) -> io::Result<()> {
        if self.files[index].is_copy {
            // The next copy was made over it, and is found like any other.
            self.files.remove(index);
            round.gaps += 1;
            return Ok(());
        }
        let place = self.files[index].place();
        let rest = self.rest_of(&place, &[], round)?;
        self.files[index].tail.begin_anew();
        self.files.splice(index..index, rest);
        self.close_the_oldest(round);
        Ok(())
    }

    /// What followed the position in a file that was truncated, as far as copies hold it.
    fn rest_of(&self, place: &Place, opened: &[File], round: &mut Round) -> io::Result<Vec<File>> {
        let mut since = place.modified;
        let mut rest = Vec::new();
        for about in self.rotated(opened)? {
            // So little was read that any older copy may begin like this.
            if !place.mark.is_telling() && about.modified <= place.modified {
                continue;
            }
            if let Some(copy) = Tail::open(&about.path, place.mark)?
                && copy.continues(&place.mark)?
            {
                since = copy.modified;
                rest.push(File { is_copy: true, ..File::new(copy) });
                break;
            }
        }
        if rest.is_empty() && place.mark.is_telling() {
            round.gaps += 1;
            return Ok(rest);
        }
        let newer = self.open_newer_than(since, &rest)?;
        rest.extend(newer.into_iter().map(|tail| File { is_copy: true, ..File::new(tail) }));
        Ok(rest)
    }

    /// Files that were the log for a while and that nobody has read, oldest first.
    fn open_newer_than(&self, since: Modified, opened: &[File]) -> io::Result<Vec<Tail>> {
        let mut newer = Vec::new();
        for about in self.rotated(opened)?.into_iter().filter(|about| about.modified > since) {
            newer.extend(Tail::open(&about.path, Mark::default())?);
        }
        Ok(newer)
    }

    /// Files that carry the log's name with something behind it, and are not being read; oldest first.
    fn rotated(&self, opened: &[File]) -> io::Result<Vec<Rotated>> {
        let current = self.path.metadata().ok().map(|about| id_of(&about));
        let is_known = |about: &Rotated| {
            let is_done = |(id, modified): &(FileId, Option<Modified>)| {
                *id == about.id && modified.is_none_or(|modified| modified == about.modified)
            };
            let open = self.files.iter().chain(opened);
            current == Some(about.id)
                || self.done.iter().any(is_done)
                || open.map(|file| file.tail.id).any(|id| id == about.id)
        };
        let names = self.names();
        let mut all = self.entries()?;
        all.retain(|about| is_name_of_rotated(&about.path, &names) && !is_known(about));
        all.sort_by_key(|about| about.modified);
        Ok(all)
    }

    /// Regular files in the log's folder.
    fn entries(&self) -> io::Result<Vec<Rotated>> {
        let folder = match fs::canonicalize(&self.path).unwrap_or_else(|_| self.path.clone()) {
            path if path.parent().is_some_and(|parent| parent != Path::new("")) => {
                path.parent().expect("it was just seen").to_owned()
            }
            _ => PathBuf::from("."),
        };
        let mut entries = Vec::new();
        for entry in fs::read_dir(folder)?.take(FOLDER_ENTRIES_MAX) {
            let path = entry?.path();
            // Another rotation may be removing it.
            let Ok(about) = path.symlink_metadata() else { continue };
            if about.is_file() {
                let (id, modified) = (id_of(&about), modified_of(&about));
                entries.push(Rotated { path, id, modified });
            }
        }
        Ok(entries)
    }

    /// What the log may be called: as it is configured, and as what a link leads to.
    fn names(&self) -> Vec<String> {
        let at = fs::canonicalize(&self.path).unwrap_or_else(|_| self.path.clone());
        let names = [self.path.file_name(), at.file_name()].into_iter().flatten();
        names.filter_map(|name| name.to_str()).map(str::to_owned).collect()
    }

    /// Closes files that were rotated away and in which nothing happens any more: a writer may go on in the old
    /// file until it is told of the new one.
    fn let_go(&mut self, round: &mut Round) {
        let Some(last) = self.files.pop() else { return };
        let is_over = |file: &mut File| {
            let is_quiet = file.is_copy || file.grown_at.elapsed() >= ROTATED_IS_KEPT_FOR;
            is_quiet && file.tail.is_at_its_end()
        };
        for file in self.files.extract_if(.., is_over).collect::<Vec<_>>() {
            round.partial += u32::from(file.tail.has_a_partial_line());
            self.forget(&file);
        }
        self.files.push(last);
    }

    fn forget(&mut self, file: &File) {
        let Tail { id, modified, .. } = file.tail;
        self.done.push_back((id, file.is_copy.then_some(modified)));
        if self.done.len() > DONE_MAX {
            self.done.pop_front();
        }
    }
}

impl File {
    fn new(tail: Tail) -> Self {
        Self { tail, grown_at: Instant::now(), is_copy: false }
    }

    fn place(&self) -> Place {
        let Tail { id, mark, modified, .. } = self.tail;
        Place { id, mark, modified, is_done: false, is_copy: self.is_copy }
    }
}

/// `publisher.log.1`, `publisher.log-20261122`, `publisher.log.old`; nothing that is compressed, and no other
/// log whose name begins alike.
fn is_name_of_rotated(path: &Path, names: &[String]) -> bool {
    let Some(name) = path.file_name().and_then(|name| name.to_str()) else { return false };
    names.iter().any(|log| {
        let Some(rest) = name.strip_prefix(log.as_str()) else { return false };
        let Some(rest) = rest.strip_prefix(['.', '-', '_']) else { return false };
        let is_compressed = COMPRESSED.iter().any(|end| rest.ends_with(end));
        let is_numbered = rest.starts_with(|first: char| first.is_ascii_digit());
        !is_compressed && (is_numbered || rest == "old")
    })
}

/// What is read before others get their turn.
const BYTES_PER_ROUND: usize = 1024 * 1024;
pub(super) const LINES_PER_ROUND: usize = 10_000;

/// Files of one log that are open at a time.
const FILES_MAX: usize = 16;

/// Files that were read and are remembered as such.
const DONE_MAX: usize = 64;

/// Entries of a folder that are looked at when a log was rotated.
const FOLDER_ENTRIES_MAX: usize = 10_000;

/// For how long a rotated file must be quiet before it is closed.
const ROTATED_IS_KEPT_FOR: Duration = Duration::from_secs(60);

/// Ends of names of what cannot be read as text.
const COMPRESSED: [&str; 6] = ["gz", "bz2", "xz", "zst", "lz4", "zip"];

#[cfg(test)]
mod tests;
