//! One line on standard error that says how far a long piece of work has come.
//!
//! Only on a terminal, only for work that lasts, and gone when it is done: neither a log nor a pipe ever holds a piece
//! of it. Whatever else is written to standard error meanwhile goes through [`aside`], which takes the line away
//! before and puts it back afterwards.

use super::{Terminal, text};
use std::{
    env,
    io::{self, Write},
    sync::{Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};

/// Work that is under way. Its line goes away when this is dropped.
#[derive(Debug)]
pub struct Progress {
    what: &'static str,
    /// How much there is to do, where that is known.
    total: Option<usize>,
    done: usize,
    began: Instant,
    drawn_at: Option<Instant>,
    /// `None` where nobody looks.
    columns: Option<usize>,
}

impl Progress {
    /// Begins `what`, such as `reading accounts`.
    #[must_use]
    pub fn begin(what: &'static str, total: Option<usize>) -> Self {
        let is_dumb = env::var("TERM").is_ok_and(|term| term == "dumb");
        let columns = Terminal::stderr().columns().filter(|_| !is_dumb);
        Self { what, total, done: 0, began: Instant::now(), drawn_at: None, columns }
    }

    /// True where somebody looks at it.
    #[must_use]
    pub const fn is_seen(&self) -> bool {
        self.columns.is_some()
    }

    /// One more is done.
    pub fn step(&mut self) {
        self.reach(self.done + 1);
    }

    /// So many are done.
    pub fn reach(&mut self, done: usize) {
        self.done = done;
        let Some(columns) = self.columns else { return };
        let now = Instant::now();
        let is_time = match self.drawn_at {
            None => now.duration_since(self.began) >= SHOWN_AFTER,
            Some(drawn_at) => now.duration_since(drawn_at) >= DRAWN_EVERY,
        };
        if !is_time {
            return;
        }
        self.drawn_at = Some(now);
        let elapsed = now.duration_since(self.began);
        // A line that fills the last column makes some terminals begin a new one.
        let line = line(self.what, done, self.total, elapsed, columns.saturating_sub(1));
        let mut shown = lock();
        if shown.as_deref() != Some(line.as_str()) {
            *shown = Some(line);
            write(&[], shown.as_deref());
        }
    }
}

impl Drop for Progress {
    fn drop(&mut self) {
        if self.drawn_at.is_some() {
            *lock() = None;
            write(CLEAR, None);
        }
    }
}

/// Writes to standard error, in one piece, above a line of progress if there is one. A terminal that went away ends
/// nothing.
pub fn aside(bytes: &[u8]) {
    let shown = lock();
    match shown.as_deref() {
        Some(line) => write(&[CLEAR, bytes].concat(), Some(line)),
        None => write(bytes, None),
    }
}

fn write(bytes: &[u8], line: Option<&str>) {
    let mut all = bytes.to_vec();
    if let Some(line) = line {
        all.push(b'\r');
        all.extend_from_slice(line.as_bytes());
        all.extend_from_slice(b"\x1b[K");
    }
    let mut stderr = io::stderr().lock();
    let _ = stderr.write_all(&all).and_then(|()| stderr.flush());
}

/// `importing  [######    ]  12,345 of 20,000  61%  3s left`, and less where that is too wide.
fn line(
    what: &str,
    done: usize,
    total: Option<usize>,
    elapsed: Duration,
    columns: usize,
) -> String {
    let Some(total) = total.filter(|total| *total > 0) else {
        return text::shortened(&format!("{what}  {}", grouped(done)), columns);
    };
    let done = done.min(total);
    let percent = done as f64 / total as f64;
    let mut behind = format!("  {} of {}  {:.0}%", grouped(done), grouped(total), percent * 100.0);
    if done > 0 && elapsed >= FORESEEN_AFTER {
        let left = elapsed.mul_f64((total - done) as f64 / done as f64);
        let left = humantime::format_duration(Duration::from_secs(left.as_secs().max(1)));
        behind += &format!("  {left} left");
    }
    let taken = text::width(what) + text::width(&behind) + "  []".len();
    let bar = columns.saturating_sub(taken).min(BAR_COLUMNS_MAX);
    if bar < BAR_COLUMNS_MIN {
        return text::shortened(&format!("{what}{behind}"), columns);
    }
    let full = (percent * bar as f64) as usize;
    format!("{what}  [{}{}]{behind}", "#".repeat(full), " ".repeat(bar - full))
}

/// `12,345`
#[must_use]
pub fn grouped(number: usize) -> String {
    let digits = number.to_string();
    let mut text = String::new();
    for (nth, digit) in digits.chars().enumerate() {
        if nth > 0 && (digits.len() - nth).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

fn lock() -> MutexGuard<'static, Option<String>> {
    SHOWN.lock().unwrap_or_else(PoisonError::into_inner)
}

/// The line that stands on the terminal now.
static SHOWN: Mutex<Option<String>> = Mutex::new(None);

const CLEAR: &[u8] = b"\r\x1b[K";

/// Work that is done sooner shows nothing: a line that flashes up is noise.
const SHOWN_AFTER: Duration = Duration::from_millis(500);

/// Nobody reads faster.
const DRAWN_EVERY: Duration = Duration::from_millis(100);

/// Before that a guess would jump about.
const FORESEEN_AFTER: Duration = Duration::from_secs(2);

const BAR_COLUMNS_MIN: usize = 8;
const BAR_COLUMNS_MAX: usize = 30;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_line_tells_what_is_known_and_never_exceeds_the_columns() {
        let seconds = Duration::from_secs;
        for (done, total, elapsed, columns, expected) in [
            (1_234, None, seconds(1), 79, "reading  1,234"),
            (
                5_000,
                Some(20_000),
                seconds(1),
                79,
                "reading  [#######                       ]  5,000 of 20,000  25%",
            ),
            (
                5_000,
                Some(20_000),
                seconds(10),
                79,
                "reading  [#######                       ]  5,000 of 20,000  25%  30s left",
            ),
            (5_000, Some(20_000), seconds(1), 39, "reading  5,000 of 20,000  25%"),
            (9, Some(9), seconds(1), 30, "reading  9 of 9  100%"),
            (0, Some(0), seconds(1), 79, "reading  0"),
        ] {
            let line = line("reading", done, total, elapsed, columns);
            assert_eq!(line, expected);
            assert!(text::width(&line) <= columns, "{line}");
        }
        assert!(
            text::width(&line("reading accounts", 1 << 40, Some(1 << 40), seconds(9), 12)) <= 12
        );
    }

    #[test]
    fn thousands_are_told_apart() {
        for (number, expected) in
            [(0, "0"), (999, "999"), (1_000, "1,000"), (1_234_567, "1,234,567")]
        {
            assert_eq!(grouped(number), expected);
        }
    }
}
