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

#[cfg(test)]
mod tests {
    use super::*;

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
