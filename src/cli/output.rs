//! What commands print: tables, sentences, lengths of time. On a terminal it fits; elsewhere it is whole.

use crate::{
    core::Timestamp,
    terminal::{
        Terminal, Tone, progress,
        text::{self, NO_BREAK, folded, padded, shown, width},
    },
};
use std::io::{self, Write as _};

/// One cell of a table.
pub(super) struct Cell {
    text: String,
    tone: Option<Tone>,
}

impl Cell {
    /// In a colour where there is one.
    pub(super) fn toned(text: impl Into<String>, tone: Tone) -> Self {
        Self { text: text.into(), tone: Some(tone) }
    }
}

impl From<String> for Cell {
    fn from(text: String) -> Self {
        Self { text, tone: None }
    }
}

/// A table, and whether all of it is there.
pub(super) struct Table {
    pub(super) text: String,
    pub(super) is_whole: bool,
}

/// What a table does where it is wider than the terminal.
pub(super) enum Give {
    /// It leaves this column out.
    Out(usize),
    /// It shortens this column, down to so many columns of the terminal.
    Short(usize, usize),
}

/// Lines up `rows` under `head`, two blanks apart, without trailing blanks; of no rows there is no table. What
/// `gives` says happens in its order, and only until it fits; what is then left over goes to those that were shortened.
#[must_use]
pub(super) fn table<const N: usize>(
    terminal: Terminal,
    head: [&str; N],
    rows: Vec<[Cell; N]>,
    gives: &[Give],
) -> Table {
    if rows.is_empty() {
        return Table { text: String::new(), is_whole: true };
    }
    let head = head.map(|name| Cell::toned(name, Tone::Strong));
    let mut rows: Vec<[Cell; N]> = std::iter::once(head).chain(rows).collect();
    for cell in rows.iter_mut().flatten() {
        cell.text = shown(&cell.text);
    }
    let widest = |column: usize| rows.iter().map(|row| width(&row[column].text)).max();
    let mut widths: [usize; N] = std::array::from_fn(|column| widest(column).unwrap_or_default());
    let whole = widths.iter().sum::<usize>() + BETWEEN.len() * (N - 1);
    let mut excess = whole.saturating_sub(terminal.columns().unwrap_or(whole));
    let is_whole = excess == 0;
    let natural = widths;
    let mut left_over = 0;
    for give in gives {
        let given = match give {
            Give::Out(_) if excess == 0 => 0,
            Give::Out(column) => std::mem::take(&mut widths[*column]) + BETWEEN.len(),
            Give::Short(column, least) => {
                let given = widths[*column].saturating_sub(*least).min(excess);
                widths[*column] -= given;
                given
            }
        };
        left_over += given.saturating_sub(excess);
        excess = excess.saturating_sub(given);
    }
    for (width, natural) in widths.iter_mut().zip(natural).filter(|(width, _)| **width > 0) {
        let back = (natural - *width).min(left_over);
        *width += back;
        left_over -= back;
    }
    let mut text = String::new();
    for row in &rows {
        let mut line = String::new();
        for (cell, width) in row.iter().zip(widths).filter(|(_, width)| *width > 0) {
            let fitting = text::shortened(&cell.text, width);
            let blanks = padded(&fitting, width).split_off(fitting.len());
            line +=
                &cell.tone.map_or_else(|| fitting.clone(), |tone| terminal.paint(tone, &fitting));
            line = line + &blanks + BETWEEN;
        }
        text = text + line.trim_end() + "\n";
    }
    Table { text, is_whole }
}

/// What stands under a table that is not whole.
#[must_use]
pub(super) fn not_whole(terminal: Terminal) -> String {
    let told = sentence_for(terminal, "", "Not all of it fits here; --wide shows it whole.");
    terminal.paint_lines(Tone::Faint, &told)
}

/// Prints what a command found out. Whoever reads the first lines only closes the pipe; that is no failure.
pub(super) fn print(text: &str) {
    let mut out = io::stdout().lock();
    let _ = out.write_all(text.as_bytes()).and_then(|()| out.flush());
}

/// Prints a line for a script.
pub(super) fn print_json(value: &serde_json::Value) {
    print(&format!("{value}\n"));
}

/// Prints a sentence: broken between words on a terminal, one line elsewhere.
pub(super) fn say(sentence: &str) {
    print(&sentence_for(Terminal::stdout(), "", sentence));
}

/// Prints a sentence that is beside the point, to standard error.
pub(super) fn remark(sentence: &str) {
    progress::aside(sentence_for(Terminal::stderr(), "", sentence).as_bytes());
}

/// Prints a problem the way every command does: each of its lines that is no excerpt of a file is a sentence.
pub(super) fn complain(problem: impl std::fmt::Display) {
    let terminal = Terminal::stderr();
    let mut text = String::new();
    for (nth, line) in problem.to_string().lines().enumerate() {
        let name = if nth == 0 { "oauth-keepalive: " } else { "" };
        text += &match line.starts_with(' ') {
            true => format!("{line}\n"),
            false => sentence_for(terminal, name, line),
        };
    }
    let text = text.replacen("oauth-keepalive:", &terminal.paint(Tone::Bad, "oauth-keepalive:"), 1);
    progress::aside(text.as_bytes());
}

/// A sentence as it is printed: broken between words on a terminal, one line elsewhere.
#[must_use]
pub(super) fn sentence_for(terminal: Terminal, first: &str, sentence: &str) -> String {
    match terminal.prose_columns() {
        Some(columns) => folded(first, SENTENCE_INDENT, sentence, columns),
        None => format!("{first}{}\n", shown(sentence)),
    }
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

/// Between two columns of a table.
const BETWEEN: &str = "  ";

/// Where a sentence goes on that is longer than a line.
const SENTENCE_INDENT: usize = 2;

#[cfg(test)]
mod tests {
    use super::*;

    fn rows(names: &[&str]) -> Vec<[Cell; 3]> {
        let row = |name: &&str| {
            let [name, app] = [*name, "the-main-app"].map(|text| Cell::from(text.to_owned()));
            [name, Cell::toned("ok", Tone::Good), app]
        };
        names.iter().map(row).collect()
    }

    #[test]
    fn a_table_fits_its_terminal_to_the_last_column_and_is_whole_in_a_pipe() {
        let names = ["tiktok/a-long-name-01", "tiktok/漢字漢字漢字漢字"];
        let gives = [Give::Short(2, 6), Give::Short(0, 10)];
        let piped = table(Terminal::piped(), ["ACCOUNT", "STATE", "APP"], rows(&names), &gives);
        assert!(piped.is_whole && piped.text.contains(names[0]) && piped.text.contains(names[1]));
        let whole = piped.text.lines().map(width).max().unwrap();
        for columns in 27..=whole + 1 {
            let rows = rows(&names);
            let table = table(Terminal::wide(columns), ["ACCOUNT", "STATE", "APP"], rows, &gives);
            let widest = table.text.lines().map(width).max().unwrap();
            assert!(widest <= columns, "{columns}:\n{}", table.text);
            assert_eq!(table.is_whole, columns >= whole, "{columns}");
            // A letter of two columns may leave one of them empty.
            assert!(widest + 1 >= columns.min(whole), "{columns}:\n{}", table.text);
        }
    }

    #[test]
    fn columns_that_may_not_give_stay_whole_however_narrow_it_is() {
        let rows = rows(&["tiktok/a-long-name-01"]);
        let table =
            table(Terminal::wide(10), ["ACCOUNT", "STATE", "APP"], rows, &[Give::Short(0, 8)]);
        assert!(table.text.contains("tikt…-01  ok     the-main-app"), "{}", table.text);
    }

    #[test]
    fn a_column_is_left_out_only_where_it_does_not_fit() {
        let gives = [Give::Out(2), Give::Short(0, 8)];
        let table = |columns| {
            let rows = rows(&["tiktok/a-name"]);
            table(Terminal::wide(columns), ["ACCOUNT", "STATE", "APP"], rows, &gives).text
        };
        assert!(table(34).contains("tiktok/a-name  ok     the-main-app"), "{}", table(34));
        assert_eq!(table(33), "ACCOUNT        STATE\ntiktok/a-name  ok\n");
        assert_eq!(table(19), "ACCOUNT       STATE\ntiktok…-name  ok\n");
    }

    #[test]
    fn what_a_column_that_is_left_out_frees_goes_to_the_shortened_ones() {
        let rows = rows(&["tiktok/a-long-name-01"]);
        let gives = [Give::Short(0, 8), Give::Out(2)];
        let table = table(Terminal::wide(27), ["ACCOUNT", "STATE", "APP"], rows, &gives);
        assert_eq!(table.text, "ACCOUNT               STATE\ntiktok/a-l…g-name-01  ok\n");
    }

    #[test]
    fn a_sentence_is_broken_on_a_terminal_only() {
        let sentence = "word ".repeat(30);
        assert_eq!(sentence_for(Terminal::piped(), "", sentence.trim()).lines().count(), 1);
        let broken = sentence_for(Terminal::wide(80), "", &sentence);
        assert!(broken.lines().all(|line| width(line) <= 80) && broken.contains("\n  word"));
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
        let rows = vec![["a\u{1b}[2Jb", "x"].map(|text| Cell::from(text.to_owned()))];
        let table = table(Terminal::piped(), ["NAME", "X"], rows, &[]);
        assert_eq!(table.text, "NAME    X\na·[2Jb  x\n");
    }
}
