//! What is wrong with a configuration file, said so that a person can mend it: file, line, key, what was
//! found, what was expected, what to do.
//!
//! A source line is shown beneath with a caret, but never a value that may be a secret or a mail address:
//! people paste secrets where a file name belongs, and messages end up in logs.

use std::{fmt, path::PathBuf};

/// The way from the root of the file to a key or an element: `apps[0].client_secret_file`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct KeyPath(pub(super) Vec<Step>);

/// One step of a [`KeyPath`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Step {
    /// Into a mapping.
    Key(String),
    /// Into a list.
    Index(usize),
}

/// Where something is wrong.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Place {
    /// The file as it was named.
    pub file: PathBuf,
    /// Line, counted from 1; `None` when the file could not be read at all.
    pub line: Option<usize>,
    /// The key; empty when the file as a whole is meant.
    pub key: KeyPath,
    /// The source line and the marked part of it.
    pub(super) excerpt: Option<Excerpt>,
}

/// A source line that may be shown, already shortened and stripped of values that may be secret.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Excerpt {
    /// The text of the line.
    pub(super) text: String,
    /// Where the caret begins, in characters from 0.
    pub(super) column: usize,
    /// How many carets; at least one.
    pub(super) width: usize,
}

/// Something that keeps a configuration from being used.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Problem {
    /// Where.
    pub place: Place,
    /// What was found and what was expected.
    pub what: String,
    /// What to do.
    pub remedy: String,
}

/// Something legal that may hurt.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Warning {
    /// Where.
    pub place: Place,
    /// What may hurt, and how.
    pub what: String,
    /// What to do.
    pub remedy: String,
}

/// Everything that is wrong with a file; never empty.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Problems(pub Vec<Problem>);

impl std::error::Error for Problems {}

impl Problem {
    /// The message without the source line, for a log or a status page.
    #[must_use]
    pub fn sentence(&self) -> String {
        sentence(&self.place, "", &self.what, &self.remedy)
    }
}

impl Warning {
    /// The message without the source line, for a log or a status page.
    #[must_use]
    pub fn sentence(&self) -> String {
        sentence(&self.place, "warning: ", &self.what, &self.remedy)
    }
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.sentence())?;
        write_excerpt(f, &self.place)
    }
}

impl fmt::Display for Warning {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.sentence())?;
        write_excerpt(f, &self.place)
    }
}

impl fmt::Display for Problems {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (nth, problem) in self.0.iter().enumerate() {
            if nth > 0 {
                f.write_str("\n")?;
            }
            write!(f, "{problem}")?;
        }
        Ok(())
    }
}

fn sentence(place: &Place, prefix: &str, what: &str, remedy: &str) -> String {
    let mut text = place.file.display().to_string();
    if let Some(line) = place.line {
        text += &format!(":{line}");
    }
    text += ": ";
    text += prefix;
    if !place.key.0.is_empty() {
        text += &format!("{}: ", place.key);
    }
    text + what + "; " + remedy
}

fn write_excerpt(f: &mut fmt::Formatter<'_>, place: &Place) -> fmt::Result {
    let (Some(line), Some(excerpt)) = (place.line, &place.excerpt) else { return Ok(()) };
    let margin = line.to_string();
    let blank = " ".repeat(margin.len());
    let indent = " ".repeat(excerpt.column);
    let carets = "^".repeat(excerpt.width);
    write!(f, "\n {margin} | {}\n {blank} | {indent}{carets}", excerpt.text)
}

impl Excerpt {
    /// Longest piece of a line that is shown, so that it fits a terminal.
    const TEXT_MAX: usize = 72;

    /// The line with the part from `column` on marked. With `value` false, nothing is shown behind the
    /// colon that follows the marked key; `None` where even the rest may hold something private.
    pub(super) fn new(line: &str, column: usize, width: usize, value: bool) -> Option<Self> {
        let line = line.replace('\t', " ");
        let marked_to = column + width.max(1);
        let shown: String = if value {
            line.trim_end().chars().take(Self::TEXT_MAX).collect()
        } else {
            let key: String = line.chars().take(marked_to).collect();
            if line.chars().skip(marked_to).any(|c| !c.is_whitespace() && c != ':') {
                format!("{key}: …")
            } else {
                line.trim_end().chars().take(Self::TEXT_MAX).collect()
            }
        };
        let elsewhere: String =
            shown.chars().take(column).chain(shown.chars().skip(marked_to)).collect();
        let elsewhere =
            SHOWN_ALL_THE_SAME.iter().fold(elsewhere, |text, key| text.replace(key, ""));
        let visible = column < Self::TEXT_MAX && column < shown.chars().count().max(1);
        // In flow style several keys share the line, and the marked one may be the harmless one.
        if !visible || shown.contains(char::is_control) || names_something_private(&elsewhere) {
            return None;
        }
        let width = width.clamp(1, shown.chars().count().saturating_sub(column).max(1));
        Some(Self { text: shown, column, width })
    }
}

impl KeyPath {
    /// One step further, into a mapping.
    #[must_use]
    pub fn key(&self, name: &str) -> Self {
        let mut steps = self.0.clone();
        steps.push(Step::Key(name.to_owned()));
        Self(steps)
    }

    /// One step further, into a list.
    #[must_use]
    pub fn index(&self, index: usize) -> Self {
        let mut steps = self.0.clone();
        steps.push(Step::Index(index));
        Self(steps)
    }

    /// Whether what stands at this key may be a secret or a mail address and is therefore never shown.
    pub(super) fn is_private(&self) -> bool {
        self.0.iter().any(|step| match step {
            Step::Key(name) => {
                names_something_private(name) && !SHOWN_ALL_THE_SAME.contains(&&**name)
            }
            Step::Index(_) => false,
        })
    }
}

impl From<&str> for KeyPath {
    /// Reads the dotted form, for keys that this program itself names.
    fn from(text: &str) -> Self {
        text.split('.').fold(Self::default(), |path, part| match part.split_once('[') {
            Some((name, index)) => {
                let index = index.trim_end_matches(']').parse();
                path.key(name).index(index.expect("an index in a key path is a number"))
            }
            None => path.key(part),
        })
    }
}

impl fmt::Display for KeyPath {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (nth, step) in self.0.iter().enumerate() {
            match step {
                // A key is the user's own text: it may be long, or hold control characters.
                Step::Key(name) => {
                    let dot = if nth > 0 { "." } else { "" };
                    let shown: String = name.escape_debug().take(KEY_SHOWN_MAX).collect();
                    write!(f, "{dot}{shown}")?;
                }
                Step::Index(index) => write!(f, "[{index}]")?,
            }
        }
        Ok(())
    }
}

fn names_something_private(text: &str) -> bool {
    let text = text.to_ascii_lowercase();
    PRIVATE.iter().any(|word| text.contains(word))
        || text
            .split(|c: char| !c.is_ascii_alphanumeric())
            .any(|word| PRIVATE_WORDS.contains(&word))
}

/// Longest piece of a key that is shown, in characters.
const KEY_SHOWN_MAX: usize = 60;

/// A key that contains one of these may hold a secret or an address.
const PRIVATE: [&str; 7] = ["secret", "passw", "credential", "bearer", "operator", "owner", "@"];

/// The same, as whole words.
const PRIVATE_WORDS: [&str; 4] = ["from", "to", "username", "pass"];

/// These contain such a word and hold a file name, which is what a person needs to see.
const SHOWN_ALL_THE_SAME: [&str; 4] =
    ["client_secret_file", "password_file", "secret_file", "owners"];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_path_reads_as_it_was_written() {
        for text in ["store", "apps[0].client_id", "store.columns.expires_at.unit"] {
            assert_eq!(KeyPath::from(text).to_string(), text);
        }
    }

    #[test]
    fn an_excerpt_marks_the_value_and_shows_no_private_neighbour() {
        let cases = [
            ("value", "  port: none", 8, 4, true, Some("  port: none")),
            ("key only", "  client_secret: hunter2", 2, 13, false, Some("  client_secret: …")),
            ("neighbour before", "{secret: hunter2, port: x}", 24, 1, true, None),
            ("neighbour behind", "{port: x, password: hunter2}", 7, 1, true, None),
            (
                "neighbour behind a key",
                "{prot: 1, password: hunter2}",
                1,
                4,
                false,
                Some("{prot: …"),
            ),
            ("address", "  x: [someone@example.org]", 5, 3, true, None),
            ("column behind the end", "a: b", 90, 1, true, None),
        ];
        for (name, line, column, width, value, shown) in cases {
            let excerpt = Excerpt::new(line, column, width, value);
            assert_eq!(excerpt.as_ref().map(|excerpt| &*excerpt.text), shown, "{name}");
        }
    }
}
