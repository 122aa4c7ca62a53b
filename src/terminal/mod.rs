//! What a person's terminal can show: its width, colour, and one line of progress.
//!
//! Where output is piped there is no width and no colour, so that what a script reads stays the same wherever it
//! runs. Colour never carries a meaning alone: whatever is coloured says the same in a word.

pub mod progress;
pub mod text;

use std::{
    env,
    io::{self, IsTerminal},
    os::fd::AsFd,
    sync::OnceLock,
};

/// When to colour: `--color`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, clap::ValueEnum)]
pub enum When {
    /// On a terminal, unless the environment says otherwise.
    #[default]
    Auto,
    /// Piped output too.
    Always,
    /// Nowhere.
    Never,
}

/// One of the standard streams, as whoever looks at it sees it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Terminal {
    /// How wide it is; `None` where the stream is no terminal, and lines may be as long as they are.
    columns: Option<usize>,
    /// Whether it shows colour.
    colour: bool,
}

/// What a colour stands for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Tone {
    /// All is well.
    Good,
    /// Worth a look; it may mend itself.
    Doubtful,
    /// Somebody must act.
    Bad,
    /// A heading.
    Strong,
    /// Beside the point.
    Faint,
}

impl Terminal {
    /// Standard output.
    #[must_use]
    pub fn stdout() -> Self {
        Self::of(&io::stdout())
    }

    /// Standard error.
    #[must_use]
    pub fn stderr() -> Self {
        Self::of(&io::stderr())
    }

    /// A file or a pipe.
    #[must_use]
    pub const fn piped() -> Self {
        Self { columns: None, colour: false }
    }

    /// A terminal that is so wide, without colour.
    #[must_use]
    pub const fn wide(columns: usize) -> Self {
        Self { columns: Some(columns), colour: false }
    }

    fn of(stream: &(impl IsTerminal + AsFd)) -> Self {
        let is_terminal = stream.is_terminal();
        let size = rustix::termios::tcgetwinsize(stream).ok();
        // A terminal that nobody has told its size says zero.
        let columns = size.map(|size| usize::from(size.ws_col)).filter(|columns| *columns > 0);
        let when = WHEN.get().copied().unwrap_or_default();
        Self {
            columns: is_terminal.then(|| columns.unwrap_or(COLUMNS)),
            colour: is_coloured(when, is_terminal, |name| env::var(name).ok()),
        }
    }

    /// How many columns a line may have; `None` where there is no limit.
    #[must_use]
    pub const fn columns(self) -> Option<usize> {
        self.columns
    }

    /// Where sentences are broken: a long line is hard to read, however wide the window. `None` where no line is
    /// broken.
    #[must_use]
    pub fn prose_columns(self) -> Option<usize> {
        self.columns.map(|columns| columns.clamp(COLUMNS_MIN, PROSE_COLUMNS_MAX))
    }

    /// `text` in the colour of `tone`, where colour is shown.
    #[must_use]
    pub fn paint(self, tone: Tone, text: &str) -> String {
        if !self.colour || text.is_empty() {
            return text.to_owned();
        }
        let code = match tone {
            Tone::Good => "32",
            Tone::Doubtful => "33",
            Tone::Bad => "31",
            Tone::Strong => "1",
            Tone::Faint => "2",
        };
        format!("\x1b[{code}m{text}\x1b[0m")
    }

    /// Every line of `text` by itself, so that no line leaves its colour to the next.
    #[must_use]
    pub fn paint_lines(self, tone: Tone, text: &str) -> String {
        let paint = |line: &str| match line.strip_suffix('\n') {
            Some(line) => self.paint(tone, line) + "\n",
            None => self.paint(tone, line),
        };
        text.split_inclusive('\n').map(paint).collect()
    }
}

/// What `--color` says, once, before anything is printed.
pub fn prefer(when: When) {
    // Said twice only by tests in one process.
    let _ = WHEN.set(when);
}

/// The flag first, then <https://no-color.org>, then <https://bixense.com/clicolors>.
fn is_coloured(when: When, is_terminal: bool, env: impl Fn(&str) -> Option<String>) -> bool {
    let says = |name: &str| env(name).filter(|value| !value.is_empty());
    match when {
        When::Always => true,
        When::Never => false,
        When::Auto if says("NO_COLOR").is_some() => false,
        When::Auto if says("CLICOLOR_FORCE").is_some_and(|value| value != "0") => true,
        When::Auto if says("CLICOLOR").is_some_and(|value| value == "0") => false,
        When::Auto => is_terminal && says("TERM").is_none_or(|term| term != "dumb"),
    }
}

static WHEN: OnceLock<When> = OnceLock::new();

/// As wide as a terminal is at least, and a ticket shows without scrolling.
pub const COLUMNS: usize = 80;

/// Narrower windows break lines themselves; words of ours are longer than what would be left.
const COLUMNS_MIN: usize = 40;

/// The longest line of a sentence.
const PROSE_COLUMNS_MAX: usize = 100;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn colour_is_for_terminals_unless_somebody_says_otherwise() {
        use When::{Always, Auto, Never};
        type Variables = [(&'static str, &'static str)];
        let rows: &[(&str, When, bool, &Variables, bool)] = &[
            ("a terminal", Auto, true, &[("TERM", "xterm")], true),
            ("a terminal that does not say what it is", Auto, true, &[], true),
            ("a pipe", Auto, false, &[("TERM", "xterm")], false),
            ("a terminal that only prints", Auto, true, &[("TERM", "dumb")], false),
            ("a person who wants none", Auto, true, &[("NO_COLOR", "1")], false),
            ("an empty word says nothing", Auto, true, &[("NO_COLOR", "")], true),
            ("a pipe that is asked to", Auto, false, &[("CLICOLOR_FORCE", "1")], true),
            ("zero asks for nothing", Auto, false, &[("CLICOLOR_FORCE", "0")], false),
            ("none is stronger", Auto, true, &[("CLICOLOR_FORCE", "1"), ("NO_COLOR", "1")], false),
            ("switched off", Auto, true, &[("CLICOLOR", "0")], false),
            ("the flag is stronger than all", Always, false, &[("NO_COLOR", "1")], true),
            ("also the other way", Never, true, &[("CLICOLOR_FORCE", "1")], false),
        ];
        for (case, when, is_terminal, variables, expected) in rows {
            let env = |name: &str| {
                variables.iter().find(|(known, _)| *known == name).map(|(_, v)| (*v).to_owned())
            };
            assert_eq!(is_coloured(*when, *is_terminal, env), *expected, "{case}");
        }
    }

    #[test]
    fn no_line_leaves_its_colour_to_the_next() {
        let terminal = Terminal { columns: Some(80), colour: true };
        let painted = terminal.paint_lines(Tone::Bad, "one\ntwo\n");
        assert_eq!(painted, "\x1b[31mone\x1b[0m\n\x1b[31mtwo\x1b[0m\n");
        assert_eq!(Terminal::piped().paint_lines(Tone::Bad, "one\ntwo\n"), "one\ntwo\n");
    }
}
