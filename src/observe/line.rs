//! What one line of a publisher's log says. Pure: no file, no clock.
//!
//! Nothing of a line is ever shown or logged: a publisher may write a token into its log.

use crate::server::publisher::Place;
use regex_lite::{Captures, Regex, RegexBuilder};
use serde_json::Value;
use std::{borrow::Cow, fmt};

/// Where in a line stands what. `config` fills it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Lines {
    /// How a line is written.
    pub format: Format,
    /// What a container's runtime put around it.
    pub wrapped: Wrapped,
    /// The account: a JSON pointer, or the name of a group.
    pub account: String,
    /// Its provider.
    pub provider: Provider,
    /// The HTTP status.
    pub status: Status,
    /// What the provider answered, as text or as JSON: a JSON pointer, or the name of a group.
    pub body: Option<String>,
    /// Where such an answer came from.
    pub place: Place,
    /// Which lines are read at all.
    pub only: Option<Only>,
}

/// How a line is written.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Format {
    /// As a JSON object.
    Json,
    /// So that a regular expression with named groups finds it.
    Pattern(String),
}

/// What stands around the publisher's own line.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Wrapped {
    /// Nothing.
    #[default]
    Not,
    /// A JSON object with the line in `log`: Docker's `json-file`.
    Docker,
    /// Time, stream and a letter before it: what Kubernetes keeps (CRI).
    Cri,
}

/// The provider of an account.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Provider {
    /// Stands in the line.
    At(String),
    /// Is the same for all lines.
    Fixed(String),
}

/// The status of an answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Status {
    /// Stands in the line.
    At(String),
    /// Is the same for all lines that are found.
    Fixed(u16),
}

/// A condition on a line.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Only {
    /// What is looked at: a JSON pointer or a group; `None` for the line as it stands.
    pub at: Option<String>,
    /// What it must be.
    pub is: Is,
}

/// What a text must be.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Is {
    /// This.
    Equal(String),
    /// Something with this in it.
    Containing(String),
}

/// Reads lines.
pub struct Reader {
    lines: Lines,
    /// `None` for JSON.
    pattern: Option<Regex>,
}

/// An answer that a publisher had.
#[derive(Debug, PartialEq)]
pub struct Sighting {
    /// Of which provider.
    pub provider: String,
    /// For which account.
    pub account: String,
    /// Its HTTP status.
    pub status: u16,
    /// What was in it.
    pub body: Option<Value>,
}

/// Why a line says nothing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Nothing {
    /// It is not UTF-8.
    NotText,
    /// It has no account or no status: it is about something else.
    Unmatched,
    /// The condition is not met.
    Filtered,
    /// It has a status that is none, or was cut by whoever wrapped it.
    Malformed,
}

/// Why a pattern cannot be used.
#[derive(Debug, PartialEq, Eq)]
pub enum BadPattern {
    /// More bytes than [`PATTERN_BYTES_MAX`].
    TooLong,
    /// It means too much: many thousands of states.
    TooBig,
    /// It is no regular expression.
    Wrong(String),
    /// A key names a group that it does not have; these it has.
    NoGroup {
        /// The name.
        name: String,
        /// All there are.
        there: Vec<String>,
    },
}

/// A line, taken apart.
enum Parts<'a> {
    Json(Value),
    Groups(Captures<'a>),
}

impl Reader {
    /// Reads lines like these.
    ///
    /// # Errors
    /// When the pattern cannot be used.
    pub fn new(lines: Lines) -> Result<Self, BadPattern> {
        let pattern = match &lines.format {
            Format::Json => None,
            Format::Pattern(pattern) => Some(compiled(pattern)?),
        };
        if let Some(pattern) = &pattern {
            let there = || pattern.capture_names().flatten();
            let missing = lines.names().find(|name| there().all(|group| group != *name));
            if let Some(name) = missing {
                let there = there().map(str::to_owned).collect();
                return Err(BadPattern::NoGroup { name: name.to_owned(), there });
            }
        }
        Ok(Self { lines, pattern })
    }

    /// What the line says.
    ///
    /// # Errors
    /// When that is nothing about an account.
    pub fn read(&self, line: &[u8]) -> Result<Sighting, Nothing> {
        let line = std::str::from_utf8(line).map_err(|_| Nothing::NotText)?;
        let line = self.unwrap(line)?;
        if let Some(Only { at: None, is }) = &self.lines.only
            && !is.fits(&line)
        {
            return Err(Nothing::Filtered);
        }
        let parts = match &self.pattern {
            Some(pattern) => pattern.captures(&line).map(Parts::Groups),
            // A log has other lines too.
            None if !line.trim_start().starts_with('{') => None,
            None => serde_json::from_str(&line).ok().map(Parts::Json),
        };
        self.sighting(parts.ok_or(Nothing::Unmatched)?)
    }

    fn sighting(&self, mut parts: Parts<'_>) -> Result<Sighting, Nothing> {
        let Lines { account, provider, status, body, only, .. } = &self.lines;
        if let Some(Only { at: Some(at), is }) = only
            && !parts.text(at).is_some_and(|text| is.fits(&text))
        {
            return Err(Nothing::Filtered);
        }
        let account = parts.text(account).ok_or(Nothing::Unmatched)?.into_owned();
        let provider = match provider {
            Provider::At(at) => parts.text(at).ok_or(Nothing::Unmatched)?.into_owned(),
            Provider::Fixed(name) => name.clone(),
        };
        let status = match status {
            Status::Fixed(status) => *status,
            Status::At(at) => {
                let text = parts.text(at).ok_or(Nothing::Unmatched)?;
                status_in(&text).ok_or(Nothing::Malformed)?
            }
        };
        let body = body.as_ref().and_then(|at| parts.take(at));
        Ok(Sighting { provider, account, status, body })
    }

    /// The publisher's own line.
    fn unwrap<'a>(&self, line: &'a str) -> Result<Cow<'a, str>, Nothing> {
        match self.lines.wrapped {
            Wrapped::Not => Ok(line.into()),
            Wrapped::Docker => {
                let mut outer: Value =
                    serde_json::from_str(line).map_err(|_| Nothing::Unmatched)?;
                let Some(Value::String(mut inner)) = outer.get_mut("log").map(Value::take) else {
                    return Err(Nothing::Unmatched);
                };
                // Docker cuts long lines, and only the last piece of one ends with a newline.
                if inner.pop() != Some('\n') {
                    return Err(Nothing::Malformed);
                }
                Ok(inner.into())
            }
            Wrapped::Cri => {
                let mut parts = line.splitn(4, ' ');
                match (parts.nth(2), parts.next()) {
                    (Some("F"), Some(inner)) => Ok(inner.into()),
                    (Some("P"), _) => Err(Nothing::Malformed),
                    _ => Err(Nothing::Unmatched),
                }
            }
        }
    }
}

impl Lines {
    /// Every pointer or group that is looked for.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        let provider = match &self.provider {
            Provider::At(at) => Some(at),
            Provider::Fixed(_) => None,
        };
        let status = match &self.status {
            Status::At(at) => Some(at),
            Status::Fixed(_) => None,
        };
        let only = self.only.as_ref().and_then(|only| only.at.as_ref());
        let others = [provider, status, self.body.as_ref(), only].into_iter().flatten();
        std::iter::once(&self.account).chain(others).map(String::as_str)
    }
}

impl Is {
    fn fits(&self, text: &str) -> bool {
        match self {
            Self::Equal(wanted) => text == wanted,
            Self::Containing(part) => text.contains(part),
        }
    }
}

impl Parts<'_> {
    /// What stands there, where that is a text or a number, and not blank.
    fn text(&self, at: &str) -> Option<Cow<'_, str>> {
        let text: Cow<'_, str> = match self {
            Self::Groups(groups) => groups.name(at)?.as_str().into(),
            Self::Json(value) => match value.pointer(at)? {
                Value::String(text) => text.into(),
                Value::Number(number) => number.to_string().into(),
                Value::Bool(is_so) => is_so.to_string().into(),
                _ => return None,
            },
        };
        Some(text).filter(|text| !text.trim().is_empty())
    }

    /// What stands there, whatever it is.
    fn take(&mut self, at: &str) -> Option<Value> {
        match self {
            Self::Groups(groups) => Some(groups.name(at)?.as_str().into()),
            Self::Json(value) => Some(value.pointer_mut(at)?.take()).filter(|body| !body.is_null()),
        }
    }
}

impl fmt::Display for BadPattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::TooLong => write!(f, "longer than {PATTERN_BYTES_MAX} bytes"),
            Self::TooBig => f.write_str("a regular expression that is too big"),
            Self::Wrong(why) => write!(f, "no regular expression: {why}"),
            Self::NoGroup { name, .. } => write!(f, "has no group named `{name}`"),
        }
    }
}

/// The HTTP status that a text is.
pub(super) fn status_in(text: &str) -> Option<u16> {
    text.trim().parse().ok().filter(|status| (100..=599).contains(status))
}

fn compiled(pattern: &str) -> Result<Regex, BadPattern> {
    if pattern.len() > PATTERN_BYTES_MAX {
        return Err(BadPattern::TooLong);
    }
    // The library tells what is too big in the same way as what is wrong.
    let limited = RegexBuilder::new(pattern).size_limit(PATTERN_SIZE_MAX).build();
    limited.map_err(|error| match Regex::new(pattern) {
        Ok(_) => BadPattern::TooBig,
        Err(_) => BadPattern::Wrong(error.to_string()),
    })
}

/// Longest pattern.
pub const PATTERN_BYTES_MAX: usize = 1_024;

/// Largest compiled pattern, in bytes: what a line costs grows with it.
const PATTERN_SIZE_MAX: usize = 256 * 1024;

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn json_lines() -> Lines {
        Lines {
            format: Format::Json,
            wrapped: Wrapped::Not,
            account: "/account/id".to_owned(),
            provider: Provider::At("/platform".to_owned()),
            status: Status::At("/response/status".to_owned()),
            body: Some("/response/body".to_owned()),
            place: Place::Publish,
            only: None,
        }
    }

    fn pattern_lines(pattern: &str) -> Lines {
        Lines {
            format: Format::Pattern(pattern.to_owned()),
            account: "account".to_owned(),
            provider: Provider::Fixed("tiktok".to_owned()),
            status: Status::At("status".to_owned()),
            body: None,
            ..json_lines()
        }
    }

    fn seen(account: &str, status: u16) -> Result<Sighting, Nothing> {
        let (provider, account) = ("tiktok".to_owned(), account.to_owned());
        Ok(Sighting { provider, account, status, body: None })
    }

    #[test]
    fn a_json_line_says_what_stands_at_its_pointers() {
        let reader = Reader::new(json_lines()).unwrap();
        let rows = [
            (
                "all of it",
                r#"{"platform":"tiktok","account":{"id":"a"},"response":{"status":401}}"#,
                seen("a", 401),
            ),
            (
                "numbers and texts",
                r#" {"platform":"tiktok","account":{"id":7},"response":{"status":"200"}}"#,
                seen("7", 200),
            ),
            ("another line", r#"{"message":"started"}"#, Err(Nothing::Unmatched)),
            ("no JSON", "started", Err(Nothing::Unmatched)),
            ("half of one", r#"{"platform":"tiktok","acc"#, Err(Nothing::Unmatched)),
            (
                "no account",
                r#"{"platform":"tiktok","account":{"id":" "},"response":{"status":401}}"#,
                Err(Nothing::Unmatched),
            ),
            (
                "a status that is none",
                r#"{"platform":"tiktok","account":{"id":"a"},"response":{"status":"timeout"}}"#,
                Err(Nothing::Malformed),
            ),
            (
                "a status beyond all",
                r#"{"platform":"tiktok","account":{"id":"a"},"response":{"status":40100}}"#,
                Err(Nothing::Malformed),
            ),
            ("deeper than anybody reads", &"{\"a\":".repeat(10_000), Err(Nothing::Unmatched)),
        ];
        for (case, line, expected) in rows {
            assert_eq!(reader.read(line.as_bytes()), expected, "{case}");
        }
        assert_eq!(reader.read(b"{\"a\": \"\xff\"}"), Err(Nothing::NotText));
    }

    #[test]
    fn a_body_is_taken_as_it_stands() {
        let reader = Reader::new(json_lines()).unwrap();
        let body_of = |body: &str| {
            let line = format!(
                r#"{{"platform":"x","account":{{"id":"a"}},"response":{{"status":403,"body":{body}}}}}"#
            );
            reader.read(line.as_bytes()).unwrap().body
        };
        assert_eq!(body_of(r#"{"error":"e"}"#), Some(json!({"error": "e"})));
        assert_eq!(body_of(r#""{\"error\":1}""#), Some(json!(r#"{"error":1}"#)));
        assert_eq!(body_of("null"), None);
    }

    #[test]
    fn a_pattern_says_what_its_groups_hold() {
        let pattern = r"channel (?P<account>\S+) .*status=(?<status>\w+)";
        let reader = Reader::new(pattern_lines(pattern)).unwrap();
        let rows = [
            ("[12:00] channel brand-1 failed status=401", seen("brand-1", 401)),
            ("channel brand-1 failed status=none", Err(Nothing::Malformed)),
            ("channel  failed", Err(Nothing::Unmatched)),
            ("", Err(Nothing::Unmatched)),
        ];
        for (line, expected) in rows {
            assert_eq!(reader.read(line.as_bytes()), expected, "{line}");
        }
    }

    #[test]
    fn only_the_lines_that_fit_are_read() {
        let line = r#"{"platform":"tiktok","account":{"id":"a"},"response":{"status":401}}"#;
        let at = |pointer: &str| Some(pointer.to_owned());
        let equal = |text: &str| Is::Equal(text.to_owned());
        let containing = |text: &str| Is::Containing(text.to_owned());
        let rows = [
            (at("/platform"), equal("tiktok"), true),
            (at("/platform"), equal("tik"), false),
            (at("/platform"), containing("tik"), true),
            (at("/response/status"), equal("401"), true),
            (at("/absent"), containing(""), false),
            (None, containing("\"status\":401"), true),
            (None, containing("\"status\":403"), false),
        ];
        for (at, is, fits) in rows {
            let only = Some(Only { at, is });
            let case = format!("{only:?}");
            let reader = Reader::new(Lines { only, ..json_lines() }).unwrap();
            let expected = if fits { seen("a", 401) } else { Err(Nothing::Filtered) };
            assert_eq!(reader.read(line.as_bytes()), expected, "{case}");
        }
    }

    #[test]
    fn what_a_container_runtime_puts_around_a_line_is_taken_away() {
        let inner = r#"{"platform":"tiktok","account":{"id":"a"},"response":{"status":401}}"#;
        let docker = |log: &str| json!({"log": log, "stream": "stdout"}).to_string();
        let cri = |tag: &str| format!("2026-11-22T12:00:00.1Z stdout {tag} {inner}");
        let rows = [
            (Wrapped::Docker, docker(&format!("{inner}\n")), seen("a", 401)),
            (Wrapped::Docker, docker(inner), Err(Nothing::Malformed)),
            (Wrapped::Docker, inner.to_owned(), Err(Nothing::Unmatched)),
            (Wrapped::Cri, cri("F"), seen("a", 401)),
            (Wrapped::Cri, cri("P"), Err(Nothing::Malformed)),
            (Wrapped::Cri, inner.to_owned(), Err(Nothing::Unmatched)),
        ];
        for (wrapped, line, expected) in rows {
            let reader = Reader::new(Lines { wrapped, ..json_lines() }).unwrap();
            assert_eq!(reader.read(line.as_bytes()), expected, "{wrapped:?} {line}");
        }
    }

    #[test]
    fn a_pattern_that_cannot_be_used_says_why() {
        let why = |pattern: &str| Reader::new(pattern_lines(pattern)).err().unwrap();
        let there = vec!["account".to_owned()];
        let missing = BadPattern::NoGroup { name: "status".to_owned(), there };
        assert_eq!(why(r"(?<account>\S+)"), missing);
        assert!(matches!(why("("), BadPattern::Wrong(_)));
        assert_eq!(why(&"a".repeat(PATTERN_BYTES_MAX + 1)), BadPattern::TooLong);
        assert_eq!(why(r"(?<account>(\w{90}){90}) (?<status>\d+)"), BadPattern::TooBig);
    }
}
