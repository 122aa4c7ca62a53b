//! One event as one line.

use crate::terminal::{Terminal, Tone, text};
use std::fmt::{self, Write};
use tracing::{
    Event, Level,
    field::{Field, Visit},
};

/// An event that is to be written.
pub(super) struct Line {
    at: jiff::Timestamp,
    level: Level,
    message: String,
    fields: Vec<(&'static str, Value)>,
}

/// What a field holds.
enum Value {
    Text(String),
    /// A number or a truth, which JSON writes without quotes.
    Bare(String),
}

impl Line {
    pub(super) fn of(event: &Event<'_>, at: jiff::Timestamp) -> Self {
        let metadata = event.metadata();
        let mut line =
            Self { at, level: *metadata.level(), message: String::new(), fields: Vec::new() };
        event.record(&mut line);
        if let Some(provider) = line.provider() {
            line.fields.push(("provider", Value::Text(provider)));
        }
        if !metadata.target().starts_with(env!("CARGO_CRATE_NAME")) {
            line.fields.push(("library", Value::Text(metadata.target().to_owned())));
        }
        line
    }

    /// That of the account, so that lines can be sorted by it as metrics can.
    fn provider(&self) -> Option<String> {
        let has = |wanted: &str| self.fields.iter().find(|(name, _)| *name == wanted);
        let (_, Value::Text(account)) = has("account").filter(|_| has("provider").is_none())?
        else {
            return None;
        };
        account.split_once('/').map(|(provider, _)| provider.to_owned())
    }

    /// `ts=… level=info msg="healthy again" account=tiktok/brand-a provider=tiktok`; the journal has an instant of
    /// its own.
    pub(super) fn logfmt(&self, is_journal: bool) -> String {
        let mut line = match is_journal {
            true => String::new(),
            false => format!("ts={} ", self.instant()),
        };
        line += &format!("level={} msg=", self.word());
        push_value(&mut line, &self.message);
        for (name, value) in &self.fields {
            line += &format!(" {name}=");
            push_value(&mut line, value.text());
        }
        line
    }

    /// The same as an object; it is whole wherever it goes.
    pub(super) fn json(&self) -> String {
        let mut line = format!(r#"{{"ts":"{}","level":"{}","msg":"#, self.instant(), self.word());
        push_quoted(&mut line, &self.message);
        for (name, value) in &self.fields {
            push_name(&mut line, name);
            match value {
                Value::Text(text) => push_quoted(&mut line, text),
                Value::Bare(text) => line += text,
            }
        }
        line + "}"
    }

    /// For a person's eyes: on a terminal it goes on beneath its beginning.
    pub(super) fn text(&self, terminal: Terminal, is_journal: bool) -> String {
        let mut first = match is_journal {
            true => String::new(),
            false => self.at.strftime("%H:%M:%SZ ").to_string(),
        };
        first += &format!("{:<6}", self.word());
        let mut rest = self.message.clone();
        // The name of an account begins with its provider.
        let says_something =
            |(name, value): &&(&str, Value)| *name != "provider" && !value.text().is_empty();
        for (name, value) in self.fields.iter().filter(says_something) {
            rest += &format!(" {name}=");
            push_value(&mut rest, value.text());
        }
        let line = match terminal.columns() {
            Some(columns) => text::wrapped(&first, &rest, columns),
            None => first + &text::shown(&rest),
        };
        let tone = match self.level {
            Level::ERROR => Tone::Bad,
            Level::WARN => Tone::Doubtful,
            _ => Tone::Faint,
        };
        let word = self.word();
        line.trim_end().replacen(word, &terminal.paint(tone, word), 1)
    }

    /// What the journal reads off the beginning of a line, as it is in syslog.
    pub(super) const fn journal_priority(&self) -> &'static str {
        match self.level {
            Level::ERROR => "<3>",
            Level::WARN => "<4>",
            Level::INFO => "<6>",
            _ => "<7>",
        }
    }

    fn instant(&self) -> impl fmt::Display {
        self.at.strftime("%Y-%m-%dT%H:%M:%S.%3fZ")
    }

    const fn word(&self) -> &'static str {
        match self.level {
            Level::ERROR => "error",
            Level::WARN => "warn",
            Level::INFO => "info",
            _ => "debug",
        }
    }

    fn push(&mut self, field: &Field, mut text: String, is_bare: bool) {
        if let Some((cut, _)) = text.char_indices().find(|(at, _)| *at >= VALUE_BYTES_MAX) {
            text.truncate(cut);
            text.push('…');
        }
        match field.name() {
            "message" => self.message = text,
            name if is_bare => self.fields.push((name, Value::Bare(text))),
            name => self.fields.push((name, Value::Text(text))),
        }
    }
}

impl Visit for Line {
    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        self.push(field, format!("{value:?}"), false);
    }

    fn record_str(&mut self, field: &Field, value: &str) {
        self.push(field, value.to_owned(), false);
    }

    fn record_i64(&mut self, field: &Field, value: i64) {
        self.push(field, value.to_string(), true);
    }

    fn record_u64(&mut self, field: &Field, value: u64) {
        self.push(field, value.to_string(), true);
    }

    fn record_u128(&mut self, field: &Field, value: u128) {
        self.push(field, value.to_string(), true);
    }

    fn record_bool(&mut self, field: &Field, value: bool) {
        self.push(field, value.to_string(), true);
    }
}

impl Value {
    fn text(&self) -> &str {
        let (Self::Text(text) | Self::Bare(text)) = self;
        text
    }
}

/// As it is where a reader cannot mistake its end, quoted elsewhere.
fn push_value(line: &mut String, value: &str) {
    let is_plain = |letter: char| {
        !letter.is_whitespace() && !matches!(letter, '"' | '=') && !text::is_obeyed(letter)
    };
    if !value.is_empty() && value.chars().all(is_plain) {
        line.push_str(value);
    } else {
        push_quoted(line, value);
    }
}

/// As a string of JSON, which is one of logfmt too. What would end a line, or what a terminal would obey, is escaped
/// also where JSON does not ask for it.
fn push_quoted(line: &mut String, value: &str) {
    line.push('"');
    for letter in value.chars() {
        // Writing to a string does not fail.
        let _ = match letter {
            '"' => line.write_str("\\\""),
            '\\' => line.write_str("\\\\"),
            '\n' => line.write_str("\\n"),
            '\r' => line.write_str("\\r"),
            '\t' => line.write_str("\\t"),
            // All of them are in the first plane, so that four digits do.
            _ if text::is_obeyed(letter) => write!(line, "\\u{:04x}", u32::from(letter)),
            _ => line.write_char(letter),
        };
    }
    line.push('"');
}

fn push_name(line: &mut String, name: &str) {
    line.push(',');
    push_quoted(line, name);
    line.push(':');
}

/// What a value may be long; the rest is cut off.
const VALUE_BYTES_MAX: usize = 4_096;

#[cfg(test)]
mod tests {
    use super::*;

    fn line(fields: &[(&'static str, &str)]) -> Line {
        let fields = fields.iter().map(|(name, text)| (*name, Value::Text((*text).to_owned())));
        Line {
            at: "2026-11-22T10:31:05.0426Z".parse().unwrap(),
            level: Level::WARN,
            message: "a refresh failed".to_owned(),
            fields: fields.chain([("times", Value::Bare("3".to_owned()))]).collect(),
        }
    }

    const HOSTILE: &str = "a\nts=1 level=error \"msg\"=\\x\u{1b}[2J\u{85}\u{2028}\u{202e}\u{0}é漢";

    #[test]
    fn a_line_has_the_same_keys_in_the_same_order_in_both_forms() {
        let line = line(&[("account", "tiktok/brand-a"), ("error", "no answer"), ("empty", "")]);
        assert_eq!(
            line.logfmt(false),
            "ts=2026-11-22T10:31:05.042Z level=warn msg=\"a refresh failed\" account=tiktok/brand-a \
             error=\"no answer\" empty=\"\" times=3"
        );
        assert_eq!(
            line.logfmt(true),
            "level=warn msg=\"a refresh failed\" account=tiktok/brand-a error=\"no answer\" empty=\"\" times=3"
        );
        assert_eq!(
            line.json(),
            "{\"ts\":\"2026-11-22T10:31:05.042Z\",\"level\":\"warn\",\"msg\":\"a refresh failed\",\
             \"account\":\"tiktok/brand-a\",\"error\":\"no answer\",\"empty\":\"\",\"times\":3}"
        );
    }

    #[test]
    fn whatever_a_value_holds_it_is_one_line_and_reads_back() {
        let line = line(&[("error", HOSTILE), ("plain", "a\\b")]);
        let read: serde_json::Value = serde_json::from_str(&line.json()).unwrap();
        assert_eq!(read["error"], HOSTILE);
        assert_eq!(read["times"], 3);
        for text in [line.logfmt(false), line.json(), line.text(Terminal::piped(), false)] {
            assert!(!text.contains(text::is_obeyed), "{text:?}");
        }
        let logfmt = line.logfmt(false);
        let (_, value) = logfmt.split_once("error=").unwrap();
        let value = value.strip_suffix(" plain=a\\b times=3").unwrap();
        assert_eq!(serde_json::from_str::<String>(value).unwrap(), HOSTILE);
    }

    #[test]
    fn people_read_the_time_the_level_and_the_sentence_first() {
        let line = line(&[("account", "tiktok/brand-a"), ("empty", "")]);
        assert_eq!(
            line.text(Terminal::piped(), false),
            "10:31:05Z warn  a refresh failed account=tiktok/brand-a times=3"
        );
        assert_eq!(
            line.text(Terminal::wide(40), false),
            "10:31:05Z warn  a refresh failed\n                account=tiktok/brand-a\n                times=3"
        );
    }
}
