//! The one seam to YAML. A maintained parser turns the text into a small tree that knows its lines;
//! `serde_yaml`, which is deprecated upstream and does not always know them, is handed that tree written
//! out again in its plainest form and does the types.
//!
//! Refused on purpose: anchors, aliases, merge keys, tags, several documents, keys that are not plain
//! text. A configuration needs none of them, and each has surprised somebody.

use super::{
    explain::{UNKNOWN_KEY, explain, missing_key, shown},
    problem::{KeyPath, Step},
};
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
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
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
            let is_new = !self.is_blank_key(&path) && !self.was_refused(&path, &message);
            if message.contains(UNKNOWN_KEY) || is_new {
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

    /// A key is missing only because it was left out after a complaint about its value.
    fn was_refused(&self, path: &KeyPath, message: &str) -> bool {
        missing_key(message).is_some_and(|name| {
            let found = self.root.find(&path.key(name));
            found.is_some_and(|(_, node)| !node.is_null())
        })
    }

    /// Where `key` stands, and whether its key or its value is marked; where it is missing, the
    /// innermost key around it that is there.
    pub(super) fn mark(&self, key: &KeyPath, mut aim: Aim) -> Option<(Mark, Aim)> {
        let mut steps = key.clone();
        while !steps.0.is_empty() {
            if let Some((key_mark, node)) = self.root.find(&steps) {
                return Some(match key_mark {
                    Some(mark) if aim == Aim::Key => (mark, Aim::Key),
                    // A block begins on a later line than its key; the key is what a person looks for.
                    Some(mark) if node.mark.line > mark.line || !node.is_scalar() => {
                        (mark, Aim::Key)
                    }
                    _ => (node.mark, Aim::Value),
                });
            }
            steps.0.pop();
            aim = Aim::Key;
        }
        None
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
    if error.info().contains("anchor") {
        return Fault::at(at, mark, ANCHOR_FOUND, "write the value out where it is needed");
    }
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

    fn is_scalar(&self) -> bool {
        matches!(self.kind, Kind::Scalar { .. })
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
            // `serde_yaml` would read a blank as the text `~` where text is wanted. A list fits nowhere
            // but where it means the default too; elsewhere the key is then left out.
            _ if self.is_null() => out.push_str("[]"),
            Kind::Scalar { text, plain: true } if may_be_typed(text) => out.push_str(text),
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

/// Only these can be anything else than text to `serde_yaml`.
fn may_be_typed(text: &str) -> bool {
    let plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '+' | '-' | '.' | '_');
    !text.is_empty()
        && text.len() <= TYPED_MAX
        && text.chars().all(plain)
        && !text.trim_matches(['-', '.']).is_empty()
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

const ANCHOR_FOUND: &str =
    "an anchor (`&name`) or alias (`*name`) stands here, expected the value itself";

/// Deepest nesting; the deepest key of ours is five steps down.
const NESTING_MAX: usize = 16;

/// Most faults reported at once: beyond that it is another file altogether.
const FAULTS_MAX: usize = 20;

/// Most readings of one file while keys without a value are taken out.
const ROUNDS_MAX: usize = 200;

/// Longest scalar that could be a number, in bytes.
const TYPED_MAX: usize = 64;

#[cfg(test)]
mod tests {
    use super::{
        super::{explain::quoted_names, file::File},
        *,
    };
    use proptest::prelude::*;

    const EXAMPLE: &str = include_str!("../../config.example.yaml");

    #[test]
    fn a_place_is_found_for_keys_values_elements_and_what_is_missing() {
        let document = Document::parse("a:\n  b: [x, yy]\n  'c d':\n    - e: ü f\n").unwrap();
        let cases = [
            ("a key", "a.b", Aim::Key, (2, 2, 1), Aim::Key),
            ("a list is found by its key", "a.b", Aim::Value, (2, 2, 1), Aim::Key),
            ("an element", "a.b[1]", Aim::Value, (2, 9, 2), Aim::Value),
            ("a quoted key", "a.c d", Aim::Key, (3, 2, 5), Aim::Key),
            ("a block is found by its key", "a.c d", Aim::Value, (3, 2, 5), Aim::Key),
            ("characters, not bytes", "a.c d[0].e", Aim::Value, (4, 9, 3), Aim::Value),
            ("what is missing", "a.c d[0].z.z", Aim::Value, (4, 6, 1), Aim::Value),
        ];
        for (name, key, aim, (line, column, width), marked) in cases {
            let found = document.mark(&key.into(), aim);
            assert_eq!(found, Some((Mark { line, column, width }, marked)), "{name}");
        }
        assert_eq!(document.mark(&"z".into(), Aim::Value), None);
    }

    #[test]
    fn what_is_written_out_again_reads_as_the_text_itself() {
        let odd = "\
            store: {path: \"a\\tb\", table: 'it''s'}\n\
            apps:\n- client_id: 0123\n  name: 7123456789012345678901\n  provider: ~\n\
            - {client_id: 1e5, name: .5, provider: 0x1F, scopes: [yes, null-ish, \"null\", '1']}\n\
            mail:\n  from: >\n    folded ü\n    text\n  external_url: a:b#c{d}\n\
            metrics: {per_account: false}\nrefresh: {due_after: 1e-1, in_flight_max: 0x10}\n";
        for text in [EXAMPLE, odd] {
            let direct: File = serde_yaml::from_str(
                &text
                    .replace("endpoints:", "endpoints: {}")
                    .replace("owners:", "owners: []")
                    .replace("clients:", "clients: []")
                    .replace("  webhooks:", "  webhooks: []"),
            )
            .unwrap();
            let ours: File = Document::parse(text).unwrap().read().unwrap();
            assert_eq!(ours, direct);
        }
    }

    /// A key that is in the code and not in the manual would be found by nobody.
    #[test]
    fn the_example_shows_every_key() {
        let all = uncommented(EXAMPLE);
        let document = Document::parse(&all).unwrap();
        let mut mappings = Vec::new();
        collect_mappings(&document.root, &KeyPath::default(), &mut mappings);
        assert!(mappings.len() > 15, "{}", mappings.len());
        for (path, keys) in mappings {
            let mut document = Document::parse(&all).unwrap();
            add_unknown_key(&mut document.root, &path.0);
            let error = serde_path_to_error::deserialize::<_, File>(
                serde_yaml::Deserializer::from_str(&document.root.written()),
            )
            .unwrap_err();
            let message = error.into_inner().to_string();
            assert!(message.contains(UNKNOWN_KEY), "{path}: {message}");
            for known in quoted_names(message.split("expected").nth(1)) {
                assert!(
                    keys.iter().any(|key| key == known),
                    "{path}.{known} is not in the example"
                );
            }
        }
    }

    #[test]
    fn the_example_says_something_about_every_key() {
        let mut before = "";
        for line in EXAMPLE.lines() {
            let key = line.trim_start_matches([' ', '#', '-']).split_once(':').map(|(key, _)| key);
            let is_key =
                key.is_some_and(|key| key.chars().all(|c| c.is_ascii_lowercase() || c == '_'));
            if is_key && !line.trim_start().starts_with("# ") {
                assert!(before.trim_start().starts_with("# "), "no comment above: {line}");
            }
            before = line;
        }
    }

    proptest! {
        #[test]
        fn no_text_makes_it_panic(text in "[a-c:\\[\\]{},#&*!|>'\"%@`?<~\n\t \r\u{0}\u{feff}ü.-]{0,60}") {
            if let Ok(mut document) = Document::parse(&text) {
                let _ = document.read::<File>();
            }
        }

        #[test]
        fn any_text_value_survives_being_written_out(value in any::<String>()) {
            let mut quoted = String::new();
            write_quoted(&mut quoted, &value);
            let read: String = serde_yaml::from_str(&quoted).unwrap();
            prop_assert_eq!(read, value);
        }
    }

    /// Keys without a default stand in the example behind a `#` without a blank.
    fn uncommented(text: &str) -> String {
        let mut all = String::new();
        for line in text.lines() {
            match line.trim_start().strip_prefix('#') {
                Some(key) if key.starts_with(|c: char| c.is_ascii_lowercase() || c == '-') => {
                    all += &line.replacen('#', "", 1);
                }
                _ => all += line,
            }
            all.push('\n');
        }
        all
    }

    fn collect_mappings(node: &Node, at: &KeyPath, found: &mut Vec<(KeyPath, Vec<String>)>) {
        match &node.kind {
            Kind::Map(entries) => {
                found.push((at.clone(), entries.iter().map(|entry| entry.key.clone()).collect()));
                for entry in entries {
                    collect_mappings(&entry.value, &at.key(&entry.key), found);
                }
            }
            Kind::List(elements) => {
                for (nth, element) in elements.iter().enumerate() {
                    collect_mappings(element, &at.index(nth), found);
                }
            }
            Kind::Scalar { .. } => {}
        }
    }

    fn add_unknown_key(node: &mut Node, path: &[Step]) {
        match (&mut node.kind, path.split_first()) {
            (Kind::Map(entries), None) => {
                let kind = Kind::Scalar { text: "1".to_owned(), plain: true };
                let (mark, key) = (node.mark, "surely_unknown".to_owned());
                entries.push(Entry { key, mark, value: Node::new(mark, kind) });
            }
            (Kind::Map(entries), Some((Step::Key(key), rest))) => {
                let entry = entries.iter_mut().find(|entry| entry.key == *key).unwrap();
                add_unknown_key(&mut entry.value, rest);
            }
            (Kind::List(elements), Some((Step::Index(index), rest))) => {
                add_unknown_key(&mut elements[*index], rest);
            }
            _ => unreachable!("the path was collected from this tree"),
        }
    }
}
