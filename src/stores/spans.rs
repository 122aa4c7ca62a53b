//! Where things stand in a YAML or JSON text, so that one value can be replaced and all the rest of a
//! publisher's file, comments and layout included, stays as it is.
//!
//! Nothing here is trusted: the caller parses the changed text again and compares.

use super::Status;
use saphyr_parser::{Event, Marker, Parser, ScalarStyle, Span};
use serde_yaml::Value;
use std::ops::Range;

/// A node with its place in the text.
pub(super) struct Node {
    line: usize,
    kind: Kind,
}

enum Kind {
    Scalar {
        text: String,
        range: Range<usize>,
        plain: bool,
    },
    Sequence(Vec<Node>),
    Mapping(Vec<(Node, Node)>),
    /// An alias, or something with an anchor or a tag: it may be shared, so it is not replaced.
    Other,
}

/// Reads the first document of `text`; `None` when this parser does not like it or it is too deep.
pub(super) fn locate(text: &str) -> Option<Node> {
    let mut reader = Reader { parser: Parser::new_from_str(text), lines: lines(text) };
    loop {
        let (event, span) = reader.next()?;
        if !matches!(event, Event::StreamStart | Event::DocumentStart(_)) {
            return reader.node(event, span, 0);
        }
    }
}

impl Node {
    /// The line it starts on, counted from 1.
    pub(super) const fn line(&self) -> usize {
        self.line
    }

    /// The value of `key` in a mapping.
    pub(super) fn value(&self, key: &str) -> Option<&Self> {
        self.pair(key).map(|(_, value)| value)
    }

    /// The element `index` of a sequence.
    pub(super) fn element(&self, index: usize) -> Option<&Self> {
        match &self.kind {
            Kind::Sequence(nodes) => nodes.get(index),
            _ => None,
        }
    }

    /// What to replace in `text` so that this mapping has `value` under `key`.
    pub(super) fn edit(&self, text: &str, key: &str, value: &Value) -> Option<Edit> {
        let written = serde_json::to_string(value).ok()?;
        if let Some((_, old)) = self.pair(key) {
            let Kind::Scalar { range, plain, .. } = &old.kind else { return None };
            let written = if *plain { as_plain(value).unwrap_or(written) } else { written };
            let blank = if range.is_empty() { " " } else { "" };
            return Some(Edit { range: range.clone(), text: format!("{blank}{written}") });
        }
        self.insertion(text, key, &written)
    }

    /// Puts a new key behind the key `account`, which every entry has.
    fn insertion(&self, text: &str, key: &str, written: &str) -> Option<Edit> {
        let (name, value) = self.pair("account")?;
        let (Kind::Scalar { range: name, .. }, Kind::Scalar { range: value, .. }) =
            (&name.kind, &value.kind)
        else {
            return None;
        };
        let line_start = text[..name.start].rfind('\n').map_or(0, |at| at + 1);
        let before = &text[line_start..name.start];
        let indent = " ".repeat(before.chars().count());
        let in_json = text[name.clone()].starts_with('"');
        if in_json {
            let gap = if before.trim().is_empty() { format!("\n{indent}") } else { " ".to_owned() };
            return Some(Edit {
                range: value.end..value.end,
                text: format!(",{gap}\"{key}\": {written}"),
            });
        }
        let end = text[value.end..].find('\n').map_or(text.len(), |at| value.end + at);
        let end = if text[..end].ends_with('\r') { end - 1 } else { end };
        Some(Edit { range: end..end, text: format!("\n{indent}{key}: {written}") })
    }

    fn pair(&self, key: &str) -> Option<&(Self, Self)> {
        let Kind::Mapping(pairs) = &self.kind else { return None };
        pairs
            .iter()
            .find(|(name, _)| matches!(&name.kind, Kind::Scalar { text, .. } if text == key))
    }
}

/// Text to be put in place of a range of bytes.
pub(super) struct Edit {
    range: Range<usize>,
    text: String,
}

/// `text` with all `edits` made; `None` when two of them overlap.
pub(super) fn apply(text: &str, mut edits: Vec<Edit>) -> Option<String> {
    edits.sort_by_key(|edit| edit.range.start);
    let mut changed = String::with_capacity(text.len() + edits.len() * 64);
    let mut done = 0;
    for edit in edits {
        changed.push_str(text.get(done..edit.range.start)?);
        changed.push_str(&edit.text);
        done = edit.range.end;
    }
    changed.push_str(text.get(done..)?);
    Some(changed)
}

/// A date that stood without quotes stays without: with them, a reader that knows dates would suddenly
/// find a text. A status is one of our own words. Nothing else is written plain, since `on` or `1e5`
/// would change their type.
fn as_plain(value: &Value) -> Option<String> {
    let text = value.as_str()?;
    let is_status =
        [Status::Connected, Status::NeedsReconnect].iter().any(|status| status.as_text() == text);
    (is_status || super::times::parse_text(text).is_some()).then(|| text.to_owned())
}

struct Reader<'a> {
    parser: Parser<'a, saphyr_parser::StrInput<'a>>,
    lines: Vec<Line<'a>>,
}

/// A line of the text and where it starts.
struct Line<'a> {
    start: usize,
    text: &'a str,
    is_ascii: bool,
}

fn lines(text: &str) -> Vec<Line<'_>> {
    let mut start = 0;
    text.split_inclusive('\n')
        .chain(std::iter::once(""))
        .map(|text| {
            let line = Line { start, text, is_ascii: text.is_ascii() };
            start += text.len();
            line
        })
        .collect()
}

impl<'a> Reader<'a> {
    fn next(&mut self) -> Option<(Event<'a>, Span)> {
        self.parser.next_event()?.ok()
    }

    fn node(&mut self, event: Event<'a>, span: Span, depth: usize) -> Option<Node> {
        if depth > DEPTH_MAX {
            return None;
        }
        let kind = match event {
            Event::Scalar(text, style, 0, None) => Kind::Scalar {
                text: text.into_owned(),
                range: self.offset(span.start)?..self.offset(span.end)?,
                plain: style == ScalarStyle::Plain,
            },
            Event::Scalar(..) | Event::Alias(_) => Kind::Other,
            Event::SequenceStart(..) => {
                let mut nodes = Vec::new();
                loop {
                    match self.next()? {
                        (Event::SequenceEnd, _) => break Kind::Sequence(nodes),
                        (event, span) => nodes.push(self.node(event, span, depth + 1)?),
                    }
                }
            }
            Event::MappingStart(..) => {
                let mut pairs = Vec::new();
                loop {
                    match self.next()? {
                        (Event::MappingEnd, _) => break Kind::Mapping(pairs),
                        (event, span) => {
                            let key = self.node(event, span, depth + 1)?;
                            let (event, span) = self.next()?;
                            pairs.push((key, self.node(event, span, depth + 1)?));
                        }
                    }
                }
            }
            _ => return None,
        };
        Some(Node { line: span.start.line(), kind })
    }

    /// The parser counts characters, and its count over lines is not reliable beyond ASCII; line and
    /// column are.
    fn offset(&self, at: Marker) -> Option<usize> {
        let line = self.lines.get(at.line().checked_sub(1)?)?;
        if line.is_ascii {
            return Some(line.start + at.col().min(line.text.len()));
        }
        // Counting characters from the start of the line for each value on it takes the square of its
        // length, and a minified file is one line.
        if line.text.len() > COUNTED_LINE_BYTES_MAX {
            return None;
        }
        let within = line.text.char_indices().map(|(offset, _)| offset).nth(at.col());
        Some(line.start + within.unwrap_or(line.text.len()))
    }
}

const COUNTED_LINE_BYTES_MAX: usize = 64 * 1024;
/// Deeper nesting than this is left to the slower way.
const DEPTH_MAX: usize = 64;
