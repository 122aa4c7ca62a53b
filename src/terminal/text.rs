//! Text in columns: how wide it is, what of it fits, and where its lines end.
//!
//! A letter may take two columns, or none. Control characters are shown as `·`, for a terminal obeys them; so are
//! those that turn the direction of writing, for an account's name may be chosen by a stranger.

use unicode_width::UnicodeWidthStr;

/// The columns that `text` takes.
#[must_use]
pub fn width(text: &str) -> usize {
    text.width()
}

/// `text` without what a terminal would obey.
#[must_use]
pub fn shown(text: &str) -> String {
    text.chars().map(|letter| if is_obeyed(letter) { '·' } else { letter }).collect()
}

/// True for what moves the cursor, ends a line, or turns the direction of writing.
#[must_use]
pub fn is_obeyed(letter: char) -> bool {
    letter.is_control()
        || matches!(letter,
            '\u{061c}' | '\u{200e}' | '\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2066}'..='\u{2069}' | '\u{feff}')
}

/// `text` in at most so many columns, with `…` for what is left out of its middle: names of accounts differ at
/// their end as often as at their beginning.
#[must_use]
pub fn shortened(text: &str, columns: usize) -> String {
    if width(text) <= columns {
        return text.to_owned();
    }
    let left = columns.saturating_sub(1);
    let behind = left / 2;
    format!("{}…{}", beginning(text, left - behind), end(text, behind))
}

/// The longest beginning that fits.
fn beginning(text: &str, columns: usize) -> &str {
    let ends = text.char_indices().map(|(at, letter)| at + letter.len_utf8());
    let fits = ends.take_while(|end| width(&text[..*end]) <= columns).last();
    &text[..fits.unwrap_or_default()]
}

/// The longest end that fits, without the marks of a letter that is left out.
fn end(text: &str, columns: usize) -> &str {
    let begins = text.char_indices().rev().map(|(at, _)| at);
    let fits = begins.take_while(|begin| width(&text[*begin..]) <= columns).last();
    let end = &text[fits.unwrap_or(text.len())..];
    end.trim_start_matches(|letter: char| width(letter.encode_utf8(&mut [0; 4])) == 0)
}

/// `text` and as many blanks as fill the columns.
#[must_use]
pub fn padded(text: &str, columns: usize) -> String {
    let blanks = columns.saturating_sub(width(text));
    let mut padded = text.to_owned();
    padded.extend(std::iter::repeat_n(' ', blanks));
    padded
}

/// Breaks `text` at blanks so that no line is wider than `columns`, the first line after `first`, the others after
/// as many blanks; or after a few, where too little would be left beside `first`.
#[must_use]
pub fn wrapped(first: &str, text: &str, columns: usize) -> String {
    let beside = columns.saturating_sub(width(first));
    let indent = if beside < BESIDE_COLUMNS_MIN { INDENT_BELOW } else { usize::MAX };
    folded(first, indent.min(width(first)), text, columns)
}

/// Breaks `text` at blanks so that no line is wider than `columns`, the first line after `first`, the others after
/// `indent` blanks. What is wider than a line stays whole: it is a name or an address. What stands in `backticks`
/// stays whole where it can, for it is to be copied; so does what has blanks at which no line is broken.
#[must_use]
pub fn folded(first: &str, indent: usize, text: &str, columns: usize) -> String {
    let shown = shown(text);
    let mut lines = String::from(first);
    let mut used = width(first);
    let mut is_first = true;
    for word in words(&shown, columns.saturating_sub(indent)) {
        let taken = width(&word);
        // Beside what comes first there may be less room than below it.
        let fits_below = used > indent && used + taken > columns && indent + taken <= columns;
        if (is_first && fits_below) || (!is_first && used + 1 + taken > columns) {
            lines.truncate(lines.trim_end_matches(' ').len());
            lines.push('\n');
            lines.extend(std::iter::repeat_n(' ', indent));
            used = indent;
        } else if !is_first {
            lines.push(' ');
            used += 1;
        }
        is_first = false;
        lines.push_str(&word.replace(NO_BREAK, " "));
        used += taken;
    }
    lines.push('\n');
    lines
}

/// What is between blanks, and what is between backticks if that is no wider than `columns`.
fn words(text: &str, columns: usize) -> Vec<String> {
    let mut words = Vec::new();
    let mut rest = text.split(' ').filter(|word| !word.is_empty());
    while let Some(word) = rest.next() {
        let mut whole = word.to_owned();
        let mut beyond = rest.clone();
        while is_open(&whole) {
            let Some(next) = beyond.next() else { break };
            whole = whole + " " + next;
        }
        if !is_open(&whole) && width(&whole) <= columns {
            rest = beyond;
            words.push(whole);
        } else if width(word) > columns {
            words.extend(word.split(NO_BREAK).map(str::to_owned));
        } else {
            words.push(word.to_owned());
        }
    }
    words
}

fn is_open(text: &str) -> bool {
    text.matches('`').count() % 2 == 1
}

/// A blank at which no line is broken, unless what it holds together is wider than one.
pub const NO_BREAK: &str = "\u{a0}";

/// What must be left of a line beside its beginning, so that the text goes on there.
const BESIDE_COLUMNS_MIN: usize = 20;

/// Where it goes on otherwise.
const INDENT_BELOW: usize = 4;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn long_text_goes_on_under_its_beginning_and_never_beyond_the_columns() {
        let text = "word ".repeat(40);
        let lines = wrapped("  - ", &text, 80);
        assert!(lines.lines().all(|line| width(line) <= 80), "{lines}");
        assert!(lines.lines().skip(1).all(|line| line.starts_with("    word")), "{lines}");
        assert_eq!(lines.matches("word").count(), 40);
        assert_eq!(wrapped("- ", "a\nb", 80), "- a·b\n");
        assert_eq!(wrapped("", "1234 6789 x", 9), "1234 6789\nx\n");
        assert_eq!(wrapped("", "1234 6789 x", 8), "1234\n6789 x\n");
        let kept = wrapped("", &format!("{} 10:31:00{NO_BREAK}UTC", "x".repeat(70)), 80);
        assert!(kept.ends_with("x\n10:31:00 UTC\n"), "{kept}");
    }

    #[test]
    fn where_little_is_left_beside_a_name_the_text_goes_on_below_it() {
        let first = "  Is the environment right?  ";
        assert_eq!(wrapped(first, "yes and no", 49), "  Is the environment right?  yes and no\n");
        assert_eq!(
            wrapped(first, "yes, by what is configured", 40),
            "  Is the environment right?  yes, by\n    what is configured\n"
        );
        let at = "2026-11-23 10:31:05 UTC (12s ago)".replace(' ', NO_BREAK);
        assert_eq!(
            wrapped("  Access token ends   ", &at, 40),
            "  Access token ends\n    2026-11-23 10:31:05 UTC (12s ago)\n"
        );
        assert_eq!(wrapped("", &at, 20), "2026-11-23 10:31:05\nUTC (12s ago)\n");
    }

    #[test]
    fn letters_of_two_columns_count_twice_where_a_line_ends() {
        assert_eq!(wrapped("", "漢字 漢字 漢字", 9), "漢字 漢字\n漢字\n");
        assert_eq!(wrapped("", "漢字 漢字 漢字", 8), "漢字\n漢字\n漢字\n");
    }

    #[test]
    fn a_command_stays_on_one_line_unless_it_is_wider_than_one() {
        let text = "it is held until `oauth-keepalive resume a/b` is given.";
        assert_eq!(
            wrapped("", text, 40),
            "it is held until\n`oauth-keepalive resume a/b` is given.\n"
        );
        assert_eq!(wrapped("", "say `one two three`.", 10), "say `one\ntwo\nthree`.\n");
        assert_eq!(wrapped("", "an odd ` goes on", 10), "an odd `\ngoes on\n");
    }

    #[test]
    fn what_is_shortened_fits_and_keeps_both_ends() {
        for (text, columns, expected) in [
            ("tiktok/brand-a", 14, "tiktok/brand-a"),
            ("tiktok/brand-a", 13, "tiktok…rand-a"),
            ("tiktok/brand-a", 12, "tiktok…and-a"),
            ("abc", 1, "…"),
            // Half a letter cannot be shown.
            ("漢字漢字", 8, "漢字漢字"),
            ("漢字漢字", 7, "漢…字"),
            ("漢字漢字", 6, "漢…字"),
            ("漢字漢字", 4, "漢…"),
            // A mark goes with its letter.
            ("aaaaae\u{301}bb", 6, "aaa…bb"),
            ("🎬🎬🎬🎬", 5, "🎬…🎬"),
        ] {
            let short = shortened(text, columns);
            assert_eq!(short, expected, "{text} in {columns}");
            assert!(width(&short) <= columns, "{short}");
        }
    }

    #[test]
    fn nothing_that_a_terminal_obeys_is_left() {
        assert_eq!(shown("a\u{1b}[2Jb\u{9b}1m\u{202e}c\r\n"), "a·[2Jb·1m·c··");
        assert_eq!(shown("brand 漢 é 🎬"), "brand 漢 é 🎬");
        assert_eq!(padded("漢", 4), "漢  ");
    }
}
