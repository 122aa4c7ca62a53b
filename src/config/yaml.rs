//! The one seam to YAML. A maintained parser turns the text into a small tree that knows its lines;
//! `serde_yaml`, which is deprecated upstream and does not always know them, is handed that tree written
//! out again in its plainest form and does the types.
//!
//! Refused on purpose: anchors, aliases, merge keys, tags, several documents, keys that are not plain
//! text. A configuration needs none of them, and each has surprised somebody.

use super::problem::{KeyPath, Step};
use saphyr_parser::{Event, Parser, ScalarStyle, ScanError, Span};
use serde::de::DeserializeOwned;
use std::{collections::HashMap, fmt::Write as _};

/// A parsed file.
pub(super) struct Document {
    root: Node,
}

/// A value with its place.
#[derive(Debug)]
struct Node {
    mark: Mark,
    kind: Kind,
    /// Left out when the tree is written for `serde_yaml`: it was complained about already.
    dropped: bool,
}

#[derive(Debug)]
enum Kind {
    Scalar { text: String, plain: bool },
    List(Vec<Node>),
    Map(Vec<Entry>),
}

#[derive(Debug)]
struct Entry {
    key: String,
    mark: Mark,
    value: Node,
}

/// A place in the text; line from 1, column from 0, both in characters.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Mark {
    pub(super) line: usize,
    pub(super) column: usize,
    pub(super) width: usize,
}

/// Something wrong with the text as YAML, or with the type of a value.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Fault {
    pub(super) key: KeyPath,
    /// Where, if not where `key` stands.
    pub(super) mark: Option<Mark>,
    pub(super) what: String,
    pub(super) remedy: String,
}

/// Which end of `key: value` is meant.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Aim {
    Key,
    Value,
}

impl Document {
    /// Parses `text`.
    pub(super) fn parse(text: &str) -> Result<Self, Vec<Fault>> {
        let mut reader = Reader { events: Parser::new_from_str(text), repeated: Vec::new() };
        let root = reader.document().map_err(|fault| vec![fault])?;
        if reader.repeated.is_empty() { Ok(Self { root }) } else { Err(reader.repeated) }
    }

    /// Reads the tree as `T`. All faults are found, not only the first: what was complained about is
    /// left out and the rest is read again.
    pub(super) fn read<T: DeserializeOwned>(&mut self) -> Result<T, Vec<Fault>> {
        let mut faults = Vec::new();
        for _ in 0..ROUNDS_MAX {
            let text = self.root.written();
            let yaml = serde_yaml::Deserializer::from_str(&text);
            let error = match serde_path_to_error::deserialize(yaml) {
                Ok(value) if faults.is_empty() => return Ok(value),
                Ok(_) => return Err(faults),
                Err(error) => error,
            };
            let path = self.root.original(&path_of(&error));
            let message = error.into_inner().to_string();
            if message.contains(UNKNOWN_KEY) || !self.is_blank_key(&path) {
                faults.push(self.fault(path.clone(), &message));
            }
            if !self.root.drop_at(&path.0) || faults.len() >= FAULTS_MAX {
                break;
            }
        }
        if faults.is_empty() {
            faults.push(Fault {
                key: KeyPath::default(),
                mark: None,
                what: format!("more than {ROUNDS_MAX} keys without a value, expected values"),
                remedy: "remove the keys that are not needed".to_owned(),
            });
        }
        Err(faults)
    }

    /// `refresh:` with nothing but comments beneath means the defaults.
    fn is_blank_key(&self, path: &KeyPath) -> bool {
        matches!(path.0.last(), Some(Step::Key(_)))
            && self.root.find(path).is_some_and(|(_, node)| node.is_null())
    }

    /// Where `key` stands; where it is missing, the innermost key around it that is there.
    pub(super) fn mark(&self, key: &KeyPath, aim: Aim) -> Option<Mark> {
        let mut steps = key.0.clone();
        let mut aim = aim;
        loop {
            if let Some((mark, node)) = self.root.find(&KeyPath(steps.clone())) {
                return match (aim, mark) {
                    // A block begins on a later line than its key; the key is what a person looks for.
                    (Aim::Value, Some(mark)) if node.mark.line > mark.line => Some(mark),
                    (Aim::Key, Some(mark)) => Some(mark),
                    _ => Some(node.mark).filter(|_| !steps.is_empty()),
                };
            }
            steps.pop()?;
            aim = Aim::Key;
        }
    }

    /// The text of the scalar at `key`.
    pub(super) fn scalar(&self, key: &KeyPath) -> Option<&str> {
        match &self.root.find(key)?.1.kind {
            Kind::Scalar { text, .. } => Some(text),
            Kind::List(_) | Kind::Map(_) => None,
        }
    }

    fn fault(&self, key: KeyPath, message: &str) -> Fault {
        let found = match self.root.find(&key) {
            Some((_, node)) => node.described(key.is_private()),
            None => "nothing".to_owned(),
        };
        let (what, remedy) = explain(message, &key, &found);
        Fault { key, mark: None, what, remedy }
    }
}

/// Builds the tree from the parser's events. Recursion is bounded by [`NESTING_MAX`].
struct Reader<'text> {
    events: Parser<'text, saphyr_parser::StrInput<'text>>,
    /// Keys that were given twice.
    repeated: Vec<Fault>,
}

impl<'text> Reader<'text> {
    fn document(&mut self) -> Result<Node, Fault> {
        let nothing = Mark { line: 1, column: 0, width: 1 };
        let mut root = Node::new(nothing, Kind::Map(Vec::new()));
        let mut documents = 0;
        loop {
            let (event, span) = self.next(&KeyPath::default())?;
            match event {
                Event::StreamStart | Event::DocumentEnd | Event::Nothing => {}
                Event::StreamEnd => return Ok(root),
                Event::DocumentStart(_) if documents > 0 => {
                    return Err(Fault::at(
                        &KeyPath::default(),
                        Mark::of(span),
                        "a second YAML document begins here, expected one",
                        "remove the `---` line, or put the second document into a file of its own",
                    ));
                }
                Event::DocumentStart(_) => documents += 1,
                event => {
                    root = self.node(event, span, &KeyPath::default())?;
                    if root.is_null() {
                        root.kind = Kind::Map(Vec::new());
                    }
                    if !matches!(root.kind, Kind::Map(_)) {
                        return Err(Fault::at(
                            &KeyPath::default(),
                            root.mark,
                            "the file begins with something else than a key, expected `key: value` lines",
                            "begin with `store:`; config.example.yaml shows every key",
                        ));
                    }
                }
            }
        }
    }

    fn node(&mut self, event: Event<'text>, span: Span, at: &KeyPath) -> Result<Node, Fault> {
        let mark = Mark::of(span);
        let (anchor, tag) = match &event {
            Event::Scalar(_, _, anchor, tag) => (*anchor, tag),
            Event::SequenceStart(anchor, tag) | Event::MappingStart(anchor, tag) => (*anchor, tag),
            _ => (1, &None),
        };
        if anchor != 0 {
            let what =
                "an anchor (`&name`) or alias (`*name`) stands here, expected the value itself";
            return Err(Fault::at(at, mark, what, "write the value out where it is needed"));
        }
        if tag.is_some() {
            let what = "a tag (`!name`) stands here, expected the value itself";
            return Err(Fault::at(at, mark, what, "remove the tag; put quotes around text"));
        }
        if at.0.len() >= NESTING_MAX {
            let what = format!("nested more than {NESTING_MAX} deep, expected at most 5");
            let remedy = "compare the indentation and the brackets with config.example.yaml";
            return Err(Fault {
                key: KeyPath::default(),
                mark: Some(mark),
                what,
                remedy: remedy.into(),
            });
        }
        let kind = match event {
            Event::Scalar(text, style, ..) => {
                Kind::Scalar { text: text.into_owned(), plain: style == ScalarStyle::Plain }
            }
            Event::SequenceStart(..) => Kind::List(self.list(at)?),
            _ => Kind::Map(self.map(at)?),
        };
        Ok(Node::new(mark, kind))
    }

    fn list(&mut self, at: &KeyPath) -> Result<Vec<Node>, Fault> {
        let mut elements = Vec::new();
        loop {
            let here = at.index(elements.len());
            match self.next(at)? {
                (Event::SequenceEnd, _) => return Ok(elements),
                (event, span) => elements.push(self.node(event, span, &here)?),
            }
        }
    }

    fn map(&mut self, at: &KeyPath) -> Result<Vec<Entry>, Fault> {
        let mut entries = Vec::new();
        let mut first_lines = HashMap::new();
        loop {
            let (event, span) = self.next(at)?;
            let mark = Mark::of(span);
            let key = match event {
                Event::MappingEnd => return Ok(entries),
                Event::Scalar(text, _, 0, None) => text.into_owned(),
                Event::Scalar(..) | Event::Alias(_) => {
                    let what = "a key with an anchor, alias or tag, expected plain text";
                    return Err(Fault::at(at, mark, what, "write the key out"));
                }
                _ => {
                    let what = "a list or mapping stands where a key belongs, expected plain text";
                    return Err(Fault::at(at, mark, what, "write `key: value`"));
                }
            };
            let here = at.key(&key);
            if key == "<<" {
                let what = "a merge key (`<<`) stands here, expected keys and values";
                return Err(Fault::at(at, mark, what, "write the keys out"));
            }
            let (event, span) = self.next(&here)?;
            let value = self.node(event, span, &here)?;
            if let Some(line) = first_lines.get(&key) {
                if self.repeated.len() < FAULTS_MAX {
                    let what = format!("given twice, first on line {line}, expected each key once");
                    self.repeated.push(Fault::at(&here, mark, &what, "keep one of the two"));
                }
                continue;
            }
            first_lines.insert(key.clone(), mark.line);
            entries.push(Entry { key, mark, value });
        }
    }

    fn next(&mut self, at: &KeyPath) -> Result<(Event<'text>, Span), Fault> {
        match self.events.next() {
            Some(Ok(next)) => Ok(next),
            Some(Err(error)) => Err(syntax(at, &error)),
            None => Ok((Event::StreamEnd, Span::default())),
        }
    }
}

fn syntax(at: &KeyPath, error: &ScanError) -> Fault {
    let marker = *error.marker();
    let mark = Mark { line: marker.line(), column: marker.col(), width: 1 };
    let tip = if error.info().contains("tab") {
        "indent with spaces, never with tabs"
    } else {
        "look at indentation, quotes and brackets on this line and the one above"
    };
    Fault::at(at, mark, &format!("not valid YAML: {}", error.info()), tip)
}

impl Node {
    fn new(mark: Mark, kind: Kind) -> Self {
        Self { mark, kind, dropped: false }
    }

    fn is_null(&self) -> bool {
        matches!(&self.kind, Kind::Scalar { text, plain: true }
            if matches!(&**text, "" | "~" | "null" | "Null" | "NULL"))
    }

    /// The node at `path`, with the place of its key if it has one.
    fn find(&self, path: &KeyPath) -> Option<(Option<Mark>, &Self)> {
        path.0.iter().try_fold((None, self), |(_, node), step| match (step, &node.kind) {
            (Step::Key(key), Kind::Map(entries)) => {
                let entry = entries.iter().find(|entry| entry.key == *key)?;
                Some((Some(entry.mark), &entry.value))
            }
            (Step::Index(index), Kind::List(elements)) => Some((None, elements.get(*index)?)),
            _ => None,
        })
    }

    fn drop_at(&mut self, path: &[Step]) -> bool {
        let Some((step, rest)) = path.split_first() else { return false };
        let child = match (step, &mut self.kind) {
            (Step::Key(key), Kind::Map(entries)) => {
                entries.iter_mut().find(|entry| entry.key == *key).map(|entry| &mut entry.value)
            }
            (Step::Index(index), Kind::List(elements)) => elements.get_mut(*index),
            _ => None,
        };
        match child {
            Some(child) if rest.is_empty() => !std::mem::replace(&mut child.dropped, true),
            Some(child) => child.drop_at(rest),
            None => false,
        }
    }

    /// `path` counts the elements that are still there; this counts those of the file.
    fn original(&self, path: &KeyPath) -> KeyPath {
        let mut node = Some(self);
        let mut original = KeyPath::default();
        for step in &path.0 {
            let (step, next) = match (step, node.map(|node| &node.kind)) {
                (Step::Index(index), Some(Kind::List(elements))) => {
                    let mut left = elements.iter().enumerate().filter(|(_, node)| !node.dropped);
                    match left.nth(*index) {
                        Some((index, node)) => (Step::Index(index), Some(node)),
                        None => (step.clone(), None),
                    }
                }
                (Step::Key(key), Some(Kind::Map(entries))) => {
                    let entry = entries.iter().find(|entry| entry.key == *key);
                    (step.clone(), entry.map(|entry| &entry.value))
                }
                _ => (step.clone(), None),
            };
            original.0.push(step);
            node = next;
        }
        original
    }

    /// The tree in flow style. A plain scalar stays plain only where that can change its type, so that
    /// `7123456789012345678` is still those digits when it is read as text.
    fn written(&self) -> String {
        let mut text = String::new();
        self.write(&mut text);
        text
    }

    fn write(&self, out: &mut String) {
        match &self.kind {
            Kind::Scalar { text, plain: true } if may_be_typed(text) => out.push_str(text),
            Kind::Scalar { plain: true, .. } if self.is_null() => out.push('~'),
            Kind::Scalar { text, .. } => write_quoted(out, text),
            Kind::List(elements) => {
                out.push('[');
                for element in elements.iter().filter(|element| !element.dropped) {
                    element.write(out);
                    out.push_str(", ");
                }
                out.push(']');
            }
            Kind::Map(entries) => {
                out.push('{');
                for entry in entries.iter().filter(|entry| !entry.value.dropped) {
                    write_quoted(out, &entry.key);
                    out.push_str(": ");
                    entry.value.write(out);
                    out.push_str(", ");
                }
                out.push('}');
            }
        }
    }

    fn described(&self, private: bool) -> String {
        match &self.kind {
            _ if self.is_null() => "nothing".to_owned(),
            Kind::Scalar { .. } if private => "text that is not shown".to_owned(),
            Kind::Scalar { text, plain } => shown(text, *plain),
            Kind::List(_) => "a list".to_owned(),
            Kind::Map(_) => "keys and values".to_owned(),
        }
    }
}

impl Mark {
    fn of(span: Span) -> Self {
        let (start, end) = (span.start, span.end);
        let same_line = start.line() == end.line();
        let width = if same_line { end.col().saturating_sub(start.col()) } else { 1 };
        Self { line: start.line(), column: start.col(), width: width.max(1) }
    }
}

impl Fault {
    fn at(key: &KeyPath, mark: Mark, what: &str, remedy: &str) -> Self {
        Self { key: key.clone(), mark: Some(mark), what: what.into(), remedy: remedy.into() }
    }
}

/// A value for a message: quoted, escaped and short.
pub(super) fn shown(text: &str, plain: bool) -> String {
    let cut: String = text.chars().take(VALUE_SHOWN_MAX).flat_map(char::escape_debug).collect();
    let dots = if text.chars().count() > VALUE_SHOWN_MAX { "…" } else { "" };
    let quote = if plain { "`" } else { "\"" };
    format!("{quote}{cut}{dots}{quote}")
}

/// The name in `known` that a person most likely meant.
pub(super) fn nearest<'a>(name: &str, known: &[&'a str]) -> Option<&'a str> {
    let wanted = name.to_ascii_lowercase().replace(['-', ' '], "_");
    let near = known.iter().map(|known| (distance(&wanted, known), *known)).min()?;
    let contained = known
        .iter()
        .filter(|known| wanted.len() > 3 && (known.contains(&*wanted) || wanted.contains(**known)))
        .min_by_key(|known| known.len().abs_diff(wanted.len()));
    if near.0 <= near.1.len().div_ceil(3) { Some(near.1) } else { contained.copied() }
}

/// Optimal string alignment distance: swapped neighbours are one slip of the fingers, not two.
fn distance(a: &str, b: &str) -> usize {
    let (a, b): (Vec<char>, Vec<char>) =
        (a.chars().take(WORD_COMPARED_MAX).collect(), b.chars().collect());
    let mut rows = vec![(0..=b.len()).collect::<Vec<_>>()];
    for i in 1..=a.len() {
        let mut row = vec![i];
        for j in 1..=b.len() {
            let differs = usize::from(a[i - 1] != b[j - 1]);
            let mut best =
                (rows[i - 1][j] + 1).min(row[j - 1] + 1).min(rows[i - 1][j - 1] + differs);
            if i > 1 && j > 1 && a[i - 1] == b[j - 2] && a[i - 2] == b[j - 1] {
                best = best.min(rows[i - 2][j - 2] + 1);
            }
            row.push(best);
        }
        rows.push(row);
    }
    rows[a.len()][b.len()]
}

fn path_of(error: &serde_path_to_error::Error<serde_yaml::Error>) -> KeyPath {
    use serde_path_to_error::Segment;
    let steps = error.path().iter().map_while(|segment| match segment {
        Segment::Seq { index } => Some(Step::Index(*index)),
        Segment::Map { key } => Some(Step::Key(key.clone())),
        // A value that is an enum, or an unknown key of one: the steps so far lead to it.
        Segment::Enum { .. } | Segment::Unknown => None,
    });
    KeyPath(steps.collect())
}

/// What serde says, in the words of a person who edits a file. Its own text may quote the value.
fn explain(message: &str, key: &KeyPath, found: &str) -> (String, String) {
    if message.contains(UNKNOWN_KEY) {
        let name = match key.0.last() {
            Some(Step::Key(name)) => name.as_str(),
            _ => "",
        };
        return explain_unknown_key(name, &quoted_names(message.split("expected").nth(1)));
    }
    if message.contains("unknown variant") {
        let known = quoted_names(message.split("expected").nth(1));
        let remedy = match nearest(found.trim_matches(['`', '"']), &known) {
            Some(known) => format!("did you mean `{known}`?"),
            None => format!("write {}", known.join(" or ")),
        };
        return (format!("found {found}, expected {}", known.join(" or ")), remedy);
    }
    if let Some((_, own)) = message.split_once(OWN_MESSAGE) {
        let own = own.split(" at line ").next().unwrap_or(own);
        let (expected, remedy) = own.split_once("; ").unwrap_or((own, "correct the value"));
        return (format!("found {found}, expected {expected}"), remedy.to_owned());
    }
    let expected = message.split_once("expected ").map_or("", |(_, expected)| expected);
    let expected = expected.split(" at line ").next().unwrap_or(expected);
    let (expected, remedy) = match expected {
        "a boolean" => ("true or false", "write true or false, without quotes"),
        "a string" => ("text", "write one value on this line"),
        "path string" => ("a file name", "write one file name on this line"),
        "a sequence" => ("a list", "write `[one, two]`, or one element per line after `- `"),
        "u16" | "u32" | "u64" | "usize" => ("a whole number", "write digits only, without quotes"),
        "f32" | "f64" => ("a number", "write a number such as 0.5, without quotes"),
        "" => ("another value", "compare with config.example.yaml"),
        _ => ("keys and values", "indent them by two blanks beneath this key"),
    };
    (format!("found {found}, expected {expected}"), remedy.to_owned())
}

fn explain_unknown_key(name: &str, known: &[&str]) -> (String, String) {
    let lower = name.to_ascii_lowercase();
    let secret = ["client_secret", "password", "secret"].into_iter().find(|word| lower == *word);
    let remedy = match (secret, nearest(name, known)) {
        (Some(word), _) if known.contains(&&*format!("{word}_file")) => format!(
            "secrets never stand in this file; put it into one and name that in `{word}_file`, \
             or name a variable in `{word}_env`"
        ),
        (_, Some(known)) => format!("did you mean `{known}`?"),
        (_, None) => "remove it, or move it to where it belongs".to_owned(),
    };
    (format!("unknown key, expected {}", alternatives(known)), remedy)
}

fn alternatives(known: &[&str]) -> String {
    match known {
        [] => "none here".to_owned(),
        [one] => (*one).to_owned(),
        [first @ .., last] => format!("{} or {last}", first.join(", ")),
    }
}

fn quoted_names(text: Option<&str>) -> Vec<&str> {
    text.unwrap_or("").split('`').skip(1).step_by(2).collect()
}

/// Only these can be anything else than text to `serde_yaml`.
fn may_be_typed(text: &str) -> bool {
    let plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '+' | '-' | '.' | '_');
    !text.is_empty()
        && text.len() <= TYPED_MAX
        && text.chars().all(plain)
        && text.trim_matches(['-', '.']) != ""
}

fn write_quoted(out: &mut String, text: &str) {
    out.push('"');
    for c in text.chars() {
        match c {
            '"' | '\\' => {
                out.push('\\');
                out.push(c);
            }
            c if c.is_ascii_graphic() || c == ' ' => out.push(c),
            c => {
                write!(out, "\\U{:08X}", u32::from(c)).expect("writing to a string does not fail");
            }
        }
    }
    out.push('"');
}

/// How our own types begin what they say through serde: `OWN_MESSAGE expected; remedy`.
pub(super) const OWN_MESSAGE: &str = "own: ";

/// How serde begins when it meets a key that a struct does not have.
const UNKNOWN_KEY: &str = "unknown field";

/// Deepest nesting; the deepest key of ours is five steps down.
const NESTING_MAX: usize = 16;

/// Most faults reported at once: beyond that it is another file altogether.
const FAULTS_MAX: usize = 20;

/// Most readings of one file while keys without a value are taken out.
const ROUNDS_MAX: usize = 200;

/// Longest piece of a value that is shown, in characters.
const VALUE_SHOWN_MAX: usize = 40;

/// Longest piece of a word that is compared with the known ones, in characters.
const WORD_COMPARED_MAX: usize = 64;

/// Longest scalar that could be a number, in bytes.
const TYPED_MAX: usize = 64;
