//! Tables and durations for people.

use crate::core::Timestamp;
use std::fmt::Write;

/// Lines up `rows` under `head`, two blanks apart, without trailing blanks. Control characters, which an
/// account's name may hold, are shown as `·`: a terminal obeys them.
#[must_use]
pub(super) fn table<const N: usize>(head: [&str; N], rows: &[[String; N]]) -> String {
    let shown = |text: &str| -> String {
        text.chars().map(|letter| if letter.is_control() { '·' } else { letter }).collect()
    };
    let rows: Vec<[String; N]> =
        rows.iter().map(|row| row.each_ref().map(|cell| shown(cell))).collect();
    let width = |column: usize| {
        let cells = rows.iter().map(|row| row[column].chars().count());
        cells.chain([head[column].chars().count()]).max().unwrap_or_default()
    };
    let widths: [usize; N] = std::array::from_fn(width);
    let mut text = String::new();
    let head = head.map(str::to_owned);
    for row in std::iter::once(&head).chain(&rows) {
        let mut line = String::new();
        for (cell, width) in row.iter().zip(widths) {
            let pad = width - cell.chars().count();
            line.push_str(cell);
            line.extend(std::iter::repeat_n(' ', pad + 2));
        }
        let _ = writeln!(text, "{}", line.trim_end());
    }
    text
}

/// `in 1h 12m`, `3d 4h ago`, `now`: the two largest units.
#[must_use]
pub(super) fn from_now(now: Timestamp, at: Timestamp) -> String {
    let seconds = at.seconds_from(now);
    if seconds == 0 {
        return "now".to_owned();
    }
    let length = length(seconds.unsigned_abs());
    if seconds > 0 { format!("in {length}") } else { format!("{length} ago") }
}

fn length(seconds: u64) -> String {
    let units = [(86_400, 'd'), (3_600, 'h'), (60, 'm'), (1, 's')];
    let mut left = seconds;
    let mut parts = Vec::new();
    for (unit, letter) in units {
        if left >= unit || (unit == 1 && parts.is_empty()) {
            parts.push(format!("{}{letter}", left / unit));
            left %= unit;
        } else if !parts.is_empty() {
            break;
        }
        if parts.len() == 2 {
            break;
        }
    }
    parts.join(" ")
}

/// `2026-11-22 10:31:05 UTC (3h 2m ago)`.
#[must_use]
pub(super) fn moment(now: Timestamp, at: Timestamp) -> String {
    let date = jiff::Timestamp::from_second(at.as_unix())
        .expect("a timestamp of four bytes lies inside the calendar")
        .strftime("%Y-%m-%d %H:%M:%S UTC");
    // An instant is read as one word, and must not be broken in the middle.
    format!("{date} ({})", from_now(now, at)).replace(' ', NO_BREAK)
}

/// Breaks `text` at blanks so that no line is wider than [`COLUMNS`], the first line after `first`, the others
/// after as many blanks. A word that is wider than a line stays whole: it is a name or an id. Control
/// characters are shown as `·`.
#[must_use]
pub(super) fn wrapped(first: &str, text: &str) -> String {
    let shown: String =
        text.chars().map(|letter| if letter.is_control() { '·' } else { letter }).collect();
    let indent = first.chars().count();
    let mut lines = String::from(first);
    let mut width = indent;
    for word in shown.split(' ').filter(|word| !word.is_empty()) {
        let letters = word.chars().count();
        if width > indent && width + 1 + letters > COLUMNS {
            lines.push('\n');
            lines.extend(std::iter::repeat_n(' ', indent));
            width = indent;
        } else if width > indent {
            lines.push(' ');
            width += 1;
        }
        lines.push_str(&word.replace(NO_BREAK, " "));
        width += letters;
    }
    lines.push('\n');
    lines
}

/// A blank at which [`wrapped`] breaks no line.
const NO_BREAK: &str = "\u{a0}";

/// As wide as a terminal is at least, and a ticket shows without scrolling.
pub(super) const COLUMNS: usize = 80;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn long_text_goes_on_under_its_beginning_and_never_beyond_the_columns() {
        let text = "word ".repeat(40);
        let lines = wrapped("  - ", &text);
        assert!(lines.lines().all(|line| line.chars().count() <= COLUMNS), "{lines}");
        assert!(lines.lines().skip(1).all(|line| line.starts_with("    word")), "{lines}");
        assert_eq!(lines.matches("word").count(), 40);
        assert_eq!(wrapped("- ", "a\nb"), "- a·b\n");
        let now = Timestamp::from_unix(1_795_343_460);
        let dated = wrapped("", &format!("{}{}", "x".repeat(60) + " ", moment(now, now)));
        assert!(dated.ends_with("x\n2026-11-22 10:31:00 UTC (now)\n"), "{dated}");
    }

    #[test]
    fn lengths_show_their_two_largest_units() {
        for (seconds, expected) in [
            (0, "0s"),
            (59, "59s"),
            (60, "1m"),
            (3_725, "1h 2m"),
            (90_000, "1d 1h"),
            (86_405, "1d"),
        ] {
            assert_eq!(length(seconds), expected, "{seconds} s");
        }
    }

    #[test]
    fn a_name_cannot_move_the_cursor() {
        let rows = [["a\u{1b}[2Jb".to_owned(), "x".to_owned()]];
        assert_eq!(table(["NAME", "X"], &rows), "NAME    X\na·[2Jb  x\n");
    }
}
