//! One open file: how far it was read, and whether it is still the file that was read.
//!
//! A file that was truncated may have grown again beyond the position before anybody looks. So each read begins
//! with the bytes just before the position, and they must be the ones that were there.

use ring::digest;
use serde::{Deserialize, Serialize};
use std::{
    fs::{File, Metadata},
    io,
    os::unix::fs::{FileExt, MetadataExt},
    path::Path,
};

/// Device and inode.
pub(super) type FileId = (u64, u64);

/// When a file was last written, in the file system's own time: seconds and nanoseconds.
pub(super) type Modified = (i64, i64);

/// How far a file was read: to the end of a line, or somewhere in a line that is too long.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Mark {
    /// Bytes that were read.
    offset: u64,
    /// A hash of the last of them; zero where there are none.
    before: u64,
    /// What comes next is the rest of a line that was counted as too long.
    in_long_line: bool,
}

/// A file that is being read.
pub(super) struct Tail {
    file: File,
    pub(super) id: FileId,
    pub(super) mark: Mark,
    /// Length and time of writing when it was last read to its end; `None` while there is more.
    seen: Option<(u64, Modified)>,
    /// When it was last written, as of the last look.
    pub(super) modified: Modified,
}

/// A line, without its end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Line<'a> {
    /// All of it.
    Bytes(&'a [u8]),
    /// Longer than is read; told once for each.
    TooLong,
}

/// Where a read ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Read {
    /// Every line that is there was handed out. True when it had grown.
    ToTheEnd { grown: bool },
    /// The budget was used up.
    More,
    /// What stands before the position is not what was read: truncated, or another file.
    Replaced,
}

/// What one round may still read.
#[derive(Clone, Copy, Debug)]
pub(super) struct Budget {
    pub(super) bytes: usize,
    pub(super) lines: usize,
}

impl Tail {
    /// Opens the file at `path` to be read from `mark`; `None` when there is none.
    pub(super) fn open(path: &Path, mark: Mark) -> io::Result<Option<Self>> {
        // A pipe would be waited for without end.
        match path.metadata() {
            Ok(about) if about.is_file() => {}
            Ok(_) => return Err(io::Error::other("not a regular file")),
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(error),
        }
        let file = match File::open(path) {
            Ok(file) => file,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(error),
        };
        // Of the file that was opened: another one may be at the path by now.
        let about = file.metadata()?;
        let (id, modified) = (id_of(&about), modified_of(&about));
        Ok(Some(Self { file, id, mark, seen: None, modified }))
    }

    /// The file is read from its beginning.
    pub(super) fn begin_anew(&mut self) {
        self.mark = Mark::default();
        self.seen = None;
    }

    /// Skips what is there, but for a last line that has no end yet.
    pub(super) fn skip_to_the_last_line(&mut self, buffer: &mut [u8]) -> io::Result<()> {
        let length = self.file.metadata()?.len();
        let from = length.saturating_sub(LINE_BYTES_MAX as u64);
        let wanted = usize::try_from(length - from).unwrap_or(LINE_BYTES_MAX);
        let read = read_at(&self.file, &mut buffer[..wanted], from)?;
        let end = last_newline(&buffer[..read]);
        // Without any newline in so many bytes it stands in the middle of a line that is too long.
        self.mark.in_long_line = end.is_none() && from > 0;
        let skipped = end.map_or(if from > 0 { read } else { 0 }, |end| end + 1);
        let offset = from + skipped as u64;
        let kept = skipped.min(BEFORE_BYTES_MAX);
        self.mark.offset = offset;
        self.mark.before = hash(&buffer[skipped - kept..skipped]);
        Ok(())
    }

    /// Whether what stands before `mark` in this file is what was read there.
    pub(super) fn continues(&self, mark: &Mark) -> io::Result<bool> {
        let mut bytes = [0; BEFORE_BYTES_MAX];
        let before = &mut bytes[..mark.before_len()];
        let read = read_at(&self.file, before, mark.offset - before.len() as u64)?;
        Ok(read == before.len() && hash(before) == mark.before)
    }

    /// Hands out the lines behind the position, and moves it.
    pub(super) fn read(
        &mut self,
        buffer: &mut [u8],
        budget: &mut Budget,
        each: &mut dyn FnMut(Line<'_>),
    ) -> io::Result<Read> {
        let about = self.file.metadata()?;
        let look = (about.len(), modified_of(&about));
        if self.seen == Some(look) {
            return Ok(Read::ToTheEnd { grown: false });
        }
        self.modified = look.1;
        self.seen = None;
        loop {
            let before = self.mark.before_len();
            let read = read_at(&self.file, buffer, self.mark.offset - before as u64)?;
            if read < before || hash(&buffer[..before]) != self.mark.before {
                return Ok(Read::Replaced);
            }
            let fresh = &buffer[before..read];
            let taken = self.take(fresh, budget, each);
            self.advance(&buffer[..before + taken], taken);
            if budget.bytes == 0 || budget.lines == 0 {
                return Ok(Read::More);
            }
            if taken == 0 {
                self.seen = Some(look);
                return Ok(Read::ToTheEnd { grown: true });
            }
        }
    }

    /// An earlier run saw it when it was last written then.
    pub(super) const fn was_seen(&mut self, modified: Modified) {
        // No file is as long, so that it is looked at.
        self.seen = Some((u64::MAX, modified));
    }

    /// Hardly anything was read of it yet, and it was written since it was looked at: since when. Asked once.
    pub(super) fn begins(&mut self) -> io::Result<Option<Modified>> {
        let Some(seen) = self.seen.filter(|_| !self.mark.is_telling()) else { return Ok(None) };
        let about = self.file.metadata()?;
        if seen == (about.len(), modified_of(&about)) {
            return Ok(None);
        }
        self.seen = None;
        Ok(Some(seen.1))
    }

    /// When the file was last written.
    pub(super) fn modified_now(&self) -> io::Result<Modified> {
        self.file.metadata().map(|about| modified_of(&about))
    }

    /// Bytes behind the position that are no whole line.
    pub(super) fn has_a_partial_line(&self) -> bool {
        self.seen.is_some_and(|(length, _)| length > self.mark.offset) && !self.mark.in_long_line
    }

    /// True when it was read to its end.
    pub(super) const fn is_at_its_end(&self) -> bool {
        self.seen.is_some()
    }

    /// Hands out whole lines of `fresh`, and answers how many bytes they were.
    fn take(&mut self, fresh: &[u8], budget: &mut Budget, each: &mut dyn FnMut(Line<'_>)) -> usize {
        let mut taken = 0;
        while budget.bytes > 0 && budget.lines > 0 {
            if !self.mark.in_long_line {
                // A writer that does not append leaves a hole when its file is truncated.
                let hole = fresh[taken..].iter().take_while(|byte| **byte == 0).count();
                taken += hole;
                budget.bytes = budget.bytes.saturating_sub(hole);
            }
            let rest = &fresh[taken..];
            let (length, line) = match rest.iter().position(|byte| *byte == b'\n') {
                Some(end) if std::mem::take(&mut self.mark.in_long_line) => (end + 1, None),
                Some(end) if end > LINE_BYTES_MAX => (end + 1, Some(Line::TooLong)),
                Some(end) => (end + 1, Some(Line::Bytes(without_return(&rest[..end])))),
                None if self.mark.in_long_line => (rest.len(), None),
                None if rest.len() > LINE_BYTES_MAX => {
                    self.mark.in_long_line = true;
                    (rest.len(), Some(Line::TooLong))
                }
                // A line that is still being written is read when it is complete.
                None => break,
            };
            if length == 0 {
                break;
            }
            taken += length;
            budget.bytes = budget.bytes.saturating_sub(length);
            if let Some(line) = line {
                budget.lines -= 1;
                each(line);
            }
        }
        taken
    }

    /// `read` ends with what was taken.
    fn advance(&mut self, read: &[u8], taken: usize) {
        self.mark.offset += taken as u64;
        let kept = self.mark.before_len();
        self.mark.before = hash(&read[read.len() - kept..]);
    }
}

impl Mark {
    /// False where so little was read that many files may begin alike.
    pub(super) const fn is_telling(&self) -> bool {
        self.offset >= TELLING_BYTES
    }

    /// How many bytes before the position are looked at.
    fn before_len(&self) -> usize {
        usize::try_from(self.offset).map_or(BEFORE_BYTES_MAX, |offset| offset.min(BEFORE_BYTES_MAX))
    }
}

pub(super) fn id_of(about: &Metadata) -> FileId {
    (about.dev(), about.ino())
}

pub(super) fn modified_of(about: &Metadata) -> Modified {
    (about.mtime(), about.mtime_nsec())
}

/// Fills `buffer`, but for the end of the file.
fn read_at(file: &File, buffer: &mut [u8], from: u64) -> io::Result<usize> {
    let mut filled = 0;
    while filled < buffer.len() {
        match file.read_at(&mut buffer[filled..], from + filled as u64) {
            Ok(0) => break,
            Ok(read) => filled += read,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    Ok(filled)
}

fn last_newline(bytes: &[u8]) -> Option<usize> {
    bytes.iter().rposition(|byte| *byte == b'\n')
}

fn without_return(line: &[u8]) -> &[u8] {
    line.strip_suffix(b"\r").unwrap_or(line)
}

/// Eight bytes are enough to tell files apart, and tell nobody what stood there.
fn hash(bytes: &[u8]) -> u64 {
    if bytes.is_empty() {
        return 0;
    }
    let digest = digest::digest(&digest::SHA256, bytes);
    u64::from_le_bytes(digest.as_ref()[..8].try_into().expect("a SHA-256 digest is longer"))
}

/// Longest line that is understood, in bytes. A publisher logs whole answers of providers.
pub(super) const LINE_BYTES_MAX: usize = 64 * 1024;

/// Room for what stands before the position, a line of the longest kind, and many usual ones.
pub(super) const BUFFER_BYTES: usize = 4 * LINE_BYTES_MAX + BEFORE_BYTES_MAX;

/// So many bytes before the position are compared: several lines, whose times differ.
const BEFORE_BYTES_MAX: usize = 1_024;

/// Fewer bytes than this may stand in several files.
const TELLING_BYTES: u64 = 64;

#[cfg(test)]
mod tests {
    use super::*;
    use std::{fs, io::Write};

    struct Scene {
        _folder: tempfile::TempDir,
        path: std::path::PathBuf,
        buffer: Vec<u8>,
    }

    fn scene(text: &[u8]) -> (Scene, Tail) {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("publisher.log");
        fs::write(&path, text).unwrap();
        let tail = Tail::open(&path, Mark::default()).unwrap().unwrap();
        (Scene { _folder: folder, path, buffer: vec![0; BUFFER_BYTES] }, tail)
    }

    const PLENTY: Budget = Budget { bytes: usize::MAX, lines: usize::MAX };

    impl Scene {
        fn append(&self, text: &[u8]) {
            fs::OpenOptions::new().append(true).open(&self.path).unwrap().write_all(text).unwrap();
        }

        /// What was handed out; a line that is too long is an ellipsis.
        fn lines(&mut self, tail: &mut Tail, mut budget: Budget) -> (Vec<String>, Read) {
            let mut lines = Vec::new();
            let each = &mut |line: Line<'_>| {
                lines.push(match line {
                    Line::Bytes(bytes) => String::from_utf8_lossy(bytes).into_owned(),
                    Line::TooLong => "…".to_owned(),
                });
            };
            let read = tail.read(&mut self.buffer, &mut budget, each).unwrap();
            (lines, read)
        }

        fn all(&mut self, tail: &mut Tail) -> Vec<String> {
            self.lines(tail, PLENTY).0
        }
    }

    #[test]
    fn a_line_is_handed_out_once_and_only_when_it_is_complete() {
        let (mut scene, mut tail) = scene(b"one\ntwo\r\nthr");
        assert_eq!(scene.all(&mut tail), ["one", "two"]);
        assert!(tail.has_a_partial_line());
        assert_eq!(scene.all(&mut tail), [""; 0]);
        scene.append(b"ee");
        assert_eq!(scene.all(&mut tail), [""; 0]);
        scene.append(b"\n\n");
        assert_eq!(scene.all(&mut tail), ["three", ""]);
        assert!(!tail.has_a_partial_line());
    }

    #[test]
    fn of_a_line_that_is_too_long_one_hears_once_and_of_its_neighbours_all() {
        let long = vec![b'x'; 3 * BUFFER_BYTES];
        for length in [LINE_BYTES_MAX, LINE_BYTES_MAX + 1, BUFFER_BYTES, long.len()] {
            let (mut scene, mut tail) = scene(b"one\n");
            scene.append(&long[..length]);
            let mut seen = scene.all(&mut tail);
            scene.append(b"\ntwo\n");
            seen.extend(scene.all(&mut tail));
            let middle = if length > LINE_BYTES_MAX { "…" } else { &"x".repeat(length) };
            assert_eq!(seen, ["one", middle, "two"], "{length} bytes");
        }
    }

    #[test]
    fn a_budget_interrupts_and_loses_nothing() {
        let (mut scene, mut tail) = scene(b"one\ntwo\nthree\nfour\n");
        let two = Budget { lines: 2, ..PLENTY };
        assert_eq!(scene.lines(&mut tail, two), (vec!["one".into(), "two".into()], Read::More));
        let bytes = Budget { bytes: 1, ..PLENTY };
        assert_eq!(scene.lines(&mut tail, bytes), (vec!["three".into()], Read::More));
        let grown = Read::ToTheEnd { grown: true };
        assert_eq!(scene.lines(&mut tail, PLENTY), (vec!["four".into()], grown));
        assert_eq!(scene.lines(&mut tail, PLENTY), (vec![], Read::ToTheEnd { grown: false }));
    }

    #[test]
    fn a_file_that_was_truncated_is_not_taken_for_the_same_however_long_it_is_now() {
        for new in [&b""[..], b"x\n", b"uno\ndue\n", b"uno\ndue\ntre\nquattro\n"] {
            let (mut scene, mut tail) = scene(b"one\ntwo\n");
            assert_eq!(scene.all(&mut tail).len(), 2);
            fs::write(&scene.path, new).unwrap();
            assert_eq!(scene.lines(&mut tail, PLENTY), (vec![], Read::Replaced), "{new:?}");
            tail.begin_anew();
            let lines = new.iter().filter(|byte| **byte == b'\n').count();
            assert_eq!(scene.all(&mut tail).len(), lines, "{new:?}");
        }
    }

    #[test]
    fn a_hole_at_the_beginning_is_stepped_over() {
        let mut text = vec![0; 2 * BUFFER_BYTES + 17];
        text.extend(b"one\ntwo\n");
        let (mut scene, mut tail) = scene(&text);
        assert_eq!(scene.all(&mut tail), ["one", "two"]);
    }

    #[test]
    fn whoever_begins_at_the_end_reads_the_line_that_is_being_written() {
        let long = format!("{}\nlast", "x".repeat(2 * LINE_BYTES_MAX));
        for (text, then, expected) in [
            ("one\ntw", "o\nthree\n", vec!["two", "three"]),
            ("one\n", "two\n", vec!["two"]),
            ("", "one\n", vec!["one"]),
            ("o", "ne\n", vec!["one"]),
            (&*long, " line\nnext\n", vec!["last line", "next"]),
            (&long[..LINE_BYTES_MAX + 9], "x\nnext\n", vec!["next"]),
        ] {
            let (mut scene, mut tail) = scene(text.as_bytes());
            tail.skip_to_the_last_line(&mut scene.buffer).unwrap();
            scene.append(then.as_bytes());
            assert_eq!(scene.all(&mut tail), expected);
        }
    }

    #[test]
    fn a_mark_fits_the_file_that_was_read_and_its_copies() {
        let (mut scene, mut tail) = scene("a line of the publisher\n".repeat(100).as_bytes());
        scene.all(&mut tail);
        let copy = scene.path.with_extension("copy");
        fs::copy(&scene.path, &copy).unwrap();
        let copy = Tail::open(&copy, Mark::default()).unwrap().unwrap();
        assert!(copy.continues(&tail.mark).unwrap());
        assert!(tail.mark.is_telling());
        fs::write(&scene.path, "something else that is long enough\n".repeat(100)).unwrap();
        assert!(!tail.continues(&tail.mark).unwrap());
    }
}
