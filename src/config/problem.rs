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

    /// The line with the part from `column` on marked: a value that may be shown, or only a key. What
    /// belongs to other keys of the same line is left out, for it may be anything.
    pub(super) fn new(line: &str, column: usize, width: usize, value: bool) -> Option<Self> {
        let before: String = line.chars().take(column).collect();
        let marked: String = line.chars().skip(column).take(width).collect();
        let behind: String = line.chars().skip(column + width).collect();
        let behind = behind.trim_end();
        if !value && !looks_like_a_key(marked.trim_matches(['"', '\''])) {
            return None;
        }
        let colons = before.matches(':').count() + behind.matches(':').count();
        let indent = before.len() - before.trim_start_matches([' ', '-', '\t']).len();
        let shown_before = match (value, indent == before.len()) {
            (true, _) if colons <= 1 => before,
            (_, true) => before,
            _ => format!("{}… {}", &before[..indent], if value { own_key(&before) } else { "" }),
        };
        let shown_behind = match behind.trim_start_matches([' ', ':']) {
            "" => behind,
            _ if value && colons <= 1 => behind,
            _ if value => " …",
            _ => ": …",
        };
        let column = shown_before.chars().count();
        let text = format!("{shown_before}{marked}{shown_behind}").replace('\t', " ");
        let private =
            names_something_private(&shown_before) || names_something_private(shown_behind);
        if column >= Self::TEXT_MAX || text.contains(char::is_control) || (private && value) {
            return None;
        }
        let text: String = text.chars().take(Self::TEXT_MAX).collect();
        let width = marked.chars().count().min(text.chars().count().saturating_sub(column)).max(1);
        Some(Self { text, column, width })
    }
}

/// `port: ` in `{host: h, port: `.
fn own_key(before: &str) -> &str {
    let from = before.rfind([' ', ',', '{', '[']).filter(|_| !before.ends_with(' '));
    let from = from.or_else(|| before.trim_end().rfind([' ', ',', '{', '[']));
    let own = &before[from.map_or(0, |from| from + 1)..];
    let name = own.trim_end_matches([' ', ':', '"', '\'']);
    if own.contains(':') && looks_like_a_key(name) { own } else { "" }
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
                Step::Key(name) => {
                    let dot = if nth > 0 { "." } else { "" };
                    write!(f, "{dot}{}", if looks_like_a_key(name) { name } else { "…" })?;
                }
                Step::Index(index) => write!(f, "[{index}]")?,
            }
        }
        Ok(())
    }
}

/// A missing colon or quote makes a key of a value, and that may be a secret: such a key is not shown.
pub(super) fn looks_like_a_key(name: &str) -> bool {
    let plain = |c: char| c.is_ascii_alphabetic() || c == '_' || c == '-';
    (1..=KEY_SHOWN_MAX).contains(&name.len()) && name.chars().all(plain)
}

fn names_something_private(text: &str) -> bool {
    let text = SHOWN_ALL_THE_SAME
        .iter()
        .fold(text.to_ascii_lowercase(), |text, key| text.replace(key, ""));
    PRIVATE.iter().any(|word| text.contains(word))
        || text
            .split(|c: char| !c.is_ascii_alphanumeric())
            .any(|word| PRIVATE_WORDS.contains(&word))
}

/// Longest key that is shown, in bytes.
const KEY_SHOWN_MAX: usize = 32;

/// A key that contains one of these may hold a secret or an address.
const PRIVATE: [&str; 8] =
    ["secret", "passw", "credential", "bearer", "operator", "owner", "basic_auth", "@"];

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
            ("key of a block", "refresh:", 0, 7, false, Some("refresh:")),
            ("neighbour before", "{pas: hunter2, port: x}", 21, 1, true, Some("… port: x …")),
            ("neighbour behind", "- {port: x, pas: hunter2}", 9, 1, true, Some("- … port: x …")),
            ("neighbour of a key", "{prot: 1, pas: hunter2}", 1, 4, false, Some("… prot: …")),
            ("list", "scopes: [a, 'b c', d]", 12, 5, true, Some("scopes: [a, 'b c', d]")),
            ("private list", "secrets: [a, b]", 10, 1, true, None),
            ("comment", "port: x # password: hunter2", 6, 1, true, Some("… port: x …")),
            ("a value that became a key", "password hunter2: 1", 0, 16, false, None),
            ("column behind the end", "a: b", 90, 1, false, None),
        ];
        for (name, line, column, width, value, shown) in cases {
            let excerpt = Excerpt::new(line, column, width, value);
            assert_eq!(excerpt.as_ref().map(|excerpt| &*excerpt.text), shown, "{name}");
        }
    }
}
