//! The text of a file store: accounts out of it, new values into it.
//!
//! Pure. What it does not know it leaves alone: a publisher's own keys, comments and layout survive.

use super::{
    Care, Status, StoredAccount, effective_refresh, is_absent, scopes_from_text, scopes_to_text,
    spans::{self, Node},
    times::{self, Form, TextForm},
};
use crate::{
    core::{AccountId, Secret, Timestamp},
    oauth::Token,
};
use serde_yaml::{Mapping, Value};
use std::path::Path;
use zeroize::Zeroizing;

/// YAML or JSON.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Format {
    Yaml,
    Json,
}

impl Format {
    /// By the file's extension; `None` for a name that is neither.
    pub(super) fn of(path: &Path) -> Option<Self> {
        match path.extension()?.to_str()?.to_ascii_lowercase().as_str() {
            "yaml" | "yml" => Some(Self::Yaml),
            "json" => Some(Self::Json),
            _ => None,
        }
    }
}

/// A parsed store file.
pub(super) struct Document {
    text: Zeroizing<String>,
    format: Format,
    root: Value,
    /// What was set since the text was parsed.
    edits: Vec<(usize, &'static str, Value)>,
}

/// Where and what is wrong, free of values.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Wrong {
    /// The line, where it is known.
    pub(super) line: Option<usize>,
    /// Which entry and key.
    pub(super) path: String,
    /// What was found, what was expected.
    pub(super) reason: String,
}

impl Document {
    /// Parses the whole file.
    pub(super) fn parse(text: String, format: Format) -> Result<Self, Wrong> {
        let text = Zeroizing::new(text);
        let root = parse_value(&text, format)?;
        let document = Self { text, format, root, edits: Vec::new() };
        // An empty file is one that somebody is about to write; read as "no accounts" it would end
        // the care for all of them.
        if !matches!(document.root.get(ACCOUNTS), Some(Value::Sequence(_))) {
            return Err(Wrong {
                line: document.locate().and_then(|node| Some(node.value(ACCOUNTS)?.line())),
                path: ACCOUNTS.to_owned(),
                reason: "the file must have a list of accounts under the key `accounts` \
                         (an empty one is written `accounts: []`)"
                    .to_owned(),
            });
        }
        Ok(document)
    }

    /// How many entries there are, wrong ones included.
    pub(super) fn len(&self) -> usize {
        self.entries().len()
    }

    /// The account of entry `index`.
    pub(super) fn account(&self, index: usize, care: Care) -> Result<StoredAccount, Fault> {
        let entry = self.entries().get(index).and_then(Value::as_mapping);
        read_account(entry.ok_or_else(|| Fault::new(None, "must be a mapping"))?, care)
    }

    /// The first entry of `id`, whatever else may be wrong in it.
    pub(super) fn find(&self, id: &AccountId) -> Option<usize> {
        (0..self.len()).find(|index| self.id(*index).as_ref() == Some(id))
    }

    /// Whose entry `index` is, if that can be read.
    pub(super) fn id(&self, index: usize) -> Option<AccountId> {
        read_id(self.entries().get(index)?.as_mapping()?).ok()
    }

    /// Says where each of `faults` stands. The text is searched once for all of them.
    pub(super) fn place(&self, faults: Vec<(usize, Fault)>) -> Vec<Wrong> {
        let root = if faults.is_empty() { None } else { self.locate() };
        let accounts = root.as_ref().and_then(|root| root.value(ACCOUNTS));
        faults
            .into_iter()
            .map(|(index, fault)| {
                let entry = accounts.and_then(|accounts| accounts.element(index));
                let value = fault.key.and_then(|key| entry?.value(key)).or(entry);
                let key = fault.key.map(|key| format!(".{key}")).unwrap_or_default();
                Wrong {
                    line: value.map(Node::line),
                    path: format!("{ACCOUNTS}[{index}]{key}"),
                    reason: fault.reason,
                }
            })
            .collect()
    }

    /// Puts the token into entry `index`, which holds `stored` now; false when nothing would change.
    pub(super) fn put_token(&mut self, index: usize, stored: &StoredAccount, new: &Token) -> bool {
        let changes = self.entries()[index]
            .as_mapping()
            .map(|entry| token_changes(entry, stored, new))
            .unwrap_or_default();
        let any = !changes.is_empty();
        for (key, value) in changes {
            self.set(index, key, value);
        }
        any
    }

    /// Writes the status of entry `index`; false when it says so already.
    pub(super) fn put_status(&mut self, index: usize, status: Status) -> bool {
        let value = Value::from(status.as_text());
        let differs = self.entries()[index].get("status") != Some(&value);
        if differs {
            self.set(index, "status", value);
        }
        differs
    }

    /// Adds an entry at the end.
    pub(super) fn push(&mut self, account: &StoredAccount) {
        let entry = new_entry(account);
        if let Some(Value::Sequence(entries)) = self.root.get_mut(ACCOUNTS) {
            entries.push(entry);
        }
    }

    /// The text of the file with everything that was set. Where the places of the values are clear only
    /// they are replaced; otherwise the file is written anew with the same content.
    pub(super) fn render(&self) -> Result<Zeroizing<String>, Wrong> {
        if let Some(text) = self.spliced() {
            return Ok(text);
        }
        let written = match self.format {
            Format::Yaml => serde_yaml::to_string(&self.root).ok(),
            Format::Json if self.text.trim_end().contains('\n') => {
                serde_json::to_string_pretty(&self.root).ok()
            }
            Format::Json => serde_json::to_string(&self.root).ok(),
        };
        written.map(Zeroizing::new).ok_or_else(|| Wrong {
            line: None,
            path: ACCOUNTS.to_owned(),
            reason: "the changed content cannot be written in this format".to_owned(),
        })
    }

    fn spliced(&self) -> Option<Zeroizing<String>> {
        let root = self.locate()?;
        let accounts = root.value(ACCOUNTS)?;
        let edits = self
            .edits
            .iter()
            .map(|(index, key, value)| accounts.element(*index)?.edit(&self.text, key, value))
            .collect::<Option<Vec<_>>>()?;
        let text = Zeroizing::new(spans::apply(&self.text, edits)?);
        let parsed = parse_value(&text, self.format).ok()?;
        (parsed == self.root).then_some(text)
    }

    fn locate(&self) -> Option<Node> {
        match self.format {
            Format::Yaml => spans::locate(&self.text),
            // The parser is one for YAML, which does not know the surrogate pairs that many JSON writers
            // make of an emoji. Only places are wanted, so what is escaped may be anything as long.
            Format::Json => spans::locate(&Zeroizing::new(without_escapes(&self.text))),
        }
    }

    fn entries(&self) -> &[Value] {
        match self.root.get(ACCOUNTS) {
            Some(Value::Sequence(entries)) => entries,
            _ => &[],
        }
    }

    fn set(&mut self, index: usize, key: &'static str, value: Value) {
        let entry = self.root.get_mut(ACCOUNTS).and_then(|accounts| accounts.get_mut(index));
        if let Some(Value::Mapping(entry)) = entry {
            entry.insert(key.into(), value.clone());
            self.edits.push((index, key, value));
        }
    }
}

/// What is wrong with an entry, before anybody knows on which line.
#[derive(Debug)]
pub(super) struct Fault {
    key: Option<&'static str>,
    reason: String,
}

impl Fault {
    /// Concerns the entry as a whole, or one key of it.
    pub(super) fn new(key: Option<&'static str>, reason: impl Into<String>) -> Self {
        Self { key, reason: reason.into() }
    }
}

fn parse_value(text: &str, format: Format) -> Result<Value, Wrong> {
    // The parsers' own messages may quote the text, so only their place is passed on.
    let (line, kind) = match format {
        Format::Yaml => match serde_yaml::from_str(text) {
            Ok(value) => return Ok(value),
            Err(error) => (error.location().map(|at| at.line()), "YAML"),
        },
        Format::Json => match serde_json::from_str(text) {
            Ok(value) => return Ok(value),
            Err(error) => (Some(error.line()), "JSON"),
        },
    };
    Err(Wrong {
        line,
        path: "file".to_owned(),
        reason: format!("is not valid {kind}, or a key occurs twice in one mapping"),
    })
}

/// JSON with every escape replaced by text of the same length; outside of texts it has no backslash.
fn without_escapes(json: &str) -> String {
    let mut escaped = false;
    json.chars()
        .map(|c| {
            let part_of_escape = escaped || c == '\\';
            escaped = c == '\\' && !escaped;
            if part_of_escape && c.is_ascii() { 'x' } else { c }
        })
        .collect()
}

fn read_account(entry: &Mapping, care: Care) -> Result<StoredAccount, Fault> {
    let id = read_id(entry)?;
    let access = text(entry, "access_token")?.filter(|text| !is_absent(text));
    let refresh = text(entry, "refresh_token")?.filter(|text| !is_absent(text));
    let issued_at = care.beside_token(instant(entry, "issued_at"))?.0;
    let expires_at = care.beside_token(instant(entry, "expires_at"))?.0;
    let refresh_expires_at = care.beside_token(instant(entry, "refresh_expires_at"))?.0;
    let scopes = care.beside_token(scopes(entry))?.map(|(scopes, _)| scopes);
    let subject = care.beside_token(name(entry, "subject"))?;
    let token = access.map(|access| {
        times::without_sentinels(Token {
            access: Secret::new(access.to_owned()),
            refresh: refresh.map(|refresh| Secret::new(refresh.to_owned())),
            issued_at,
            expires_at,
            refresh_expires_at,
            scopes,
            subject: subject.clone(),
        })
    });
    let enabled = match entry.get("enabled") {
        None | Some(Value::Null) => true,
        Some(Value::Bool(enabled)) => *enabled,
        Some(_) if care == Care::TokenOnly => true,
        Some(_) => return Err(Fault::new(Some("enabled"), "must be true or false")),
    };
    Ok(StoredAccount {
        id,
        subject,
        app: care.beside_token(name(entry, "app"))?.map(Into::into),
        owner: care
            .beside_token(text(entry, "owner"))?
            .filter(|owner| !owner.trim().is_empty())
            .map(|owner| Secret::new(owner.to_owned())),
        token,
        enabled,
    })
}

fn read_id(entry: &Mapping) -> Result<AccountId, Fault> {
    let part = |key: &'static str| {
        name(entry, key)?.ok_or_else(|| Fault::new(Some(key), "is missing or empty"))
    };
    super::checked_id(&part("provider")?, &part("account")?)
        .map_err(|(key, reason)| Fault::new(Some(key), reason))
}

/// A name. Publishers use numbers as ids too, and YAML reads an unquoted one as a number.
fn name(entry: &Mapping, key: &'static str) -> Result<Option<String>, Fault> {
    match entry.get(key) {
        Some(Value::Number(number)) if !number.is_f64() => Ok(Some(number.to_string())),
        _ => Ok(text(entry, key)?.filter(|text| !text.is_empty()).map(str::to_owned)),
    }
}

fn text<'a>(entry: &'a Mapping, key: &'static str) -> Result<Option<&'a str>, Fault> {
    match entry.get(key) {
        None | Some(Value::Null) => Ok(None),
        Some(Value::String(text)) => Ok(Some(text)),
        Some(other) => Err(Fault::new(
            Some(key),
            format!("must be text, found {}; put it in quotes", kind_of(other)),
        )),
    }
}

/// An instant and how it was written; `None` for the form where there is nothing.
fn instant(entry: &Mapping, key: &'static str) -> Result<(Option<Timestamp>, Option<Form>), Fault> {
    let wrong = |reason: &str| Fault::new(Some(key), reason);
    match entry.get(key) {
        None | Some(Value::Null) => Ok((None, None)),
        Some(Value::Number(number)) => {
            let seconds = number
                .as_i64()
                .or_else(|| number.as_f64().map(|seconds| seconds as i64))
                .ok_or_else(|| wrong("is too large for seconds since the epoch"))?;
            let at = times::from_number(seconds, &Form::Seconds).map_err(wrong)?;
            Ok((at, Some(Form::Seconds)))
        }
        Some(Value::String(text)) if text.trim().is_empty() => Ok((None, None)),
        Some(Value::String(text)) => {
            let (at, form) = times::parse_text(text).ok_or_else(|| {
                wrong(
                    "must be a date such as 2026-11-22T12:00:00Z, or seconds since the epoch as a number",
                )
            })?;
            Ok((Some(at), Some(Form::Text(form))))
        }
        Some(other) => Err(wrong(&format!("must be a date or a number, found {}", kind_of(other)))),
    }
}

/// Scopes and, where they were one text, that text.
type Scopes<'a> = (Vec<String>, Option<&'a str>);

fn scopes(entry: &Mapping) -> Result<Option<Scopes<'_>>, Fault> {
    let wrong = || {
        Fault::new(
            Some("scopes"),
            "must be a list of texts, or one text separated by blanks or commas",
        )
    };
    match entry.get("scopes") {
        None | Some(Value::Null) => Ok(None),
        Some(Value::String(text)) => Ok(scopes_from_text(text).map(|list| (list, Some(&**text)))),
        Some(Value::Sequence(list)) => {
            let list = list.iter().map(|scope| scope.as_str().map(str::to_owned));
            Ok(Some((list.collect::<Option<_>>().ok_or_else(wrong)?, None)))
        }
        Some(_) => Err(wrong()),
    }
}

const fn kind_of(value: &Value) -> &'static str {
    match value {
        Value::Null => "nothing",
        Value::Bool(_) => "true or false",
        Value::Number(_) => "a number",
        Value::String(_) => "text",
        Value::Sequence(_) => "a list",
        Value::Mapping(_) => "a mapping",
        Value::Tagged(_) => "a tagged value",
    }
}

/// What must change in `entry`, which reads as `stored`, so that it holds `new`.
fn token_changes(
    entry: &Mapping,
    stored: &StoredAccount,
    new: &Token,
) -> Vec<(&'static str, Value)> {
    let old = stored.token.as_ref();
    let mut changes = Vec::new();
    if old.is_none_or(|old| old.access != new.access) {
        changes.push(("access_token", Value::from(new.access.expose())));
    }
    let old_refresh = old.and_then(|old| old.refresh.as_ref());
    let new_refresh = effective_refresh(new, old);
    if new_refresh != old_refresh
        && let Some(refresh) = new_refresh
    {
        changes.push(("refresh_token", Value::from(refresh.expose())));
    }
    let instants = [
        ("expires_at", old.and_then(|old| old.expires_at), new.expires_at),
        ("refresh_expires_at", old.and_then(|old| old.refresh_expires_at), new.refresh_expires_at),
        ("issued_at", old.and_then(|old| old.issued_at), new.issued_at),
    ];
    for (key, old_at, new_at) in instants {
        if old_at != new_at {
            let form = instant(entry, key).ok().and_then(|(_, form)| form);
            changes.push((key, instant_value(new_at, form)));
        }
    }
    if let Some(granted) = &new.scopes
        && old.and_then(|old| old.scopes.as_ref()) != Some(granted)
    {
        let as_text = scopes(entry).ok().flatten().and_then(|(_, text)| text);
        changes.push(("scopes", scopes_value(granted, as_text)));
    }
    changes
}

/// An unknown end is written as nothing: the old token's end would make the new one look expired.
fn instant_value(at: Option<Timestamp>, form: Option<Form>) -> Value {
    match (at, form) {
        (None, _) => Value::Null,
        (Some(at), Some(Form::Seconds)) => Value::from(at.as_unix()),
        (Some(at), Some(Form::Millis)) => Value::from(at.as_unix() * 1_000),
        (Some(at), Some(Form::Text(form))) => Value::from(form.write(at)),
        (Some(at), None) => Value::from(TextForm::rfc_3339().write(at)),
    }
}

fn scopes_value(scopes: &[String], as_text: Option<&str>) -> Value {
    match as_text {
        Some(text) => Value::from(scopes_to_text(scopes, Some(text))),
        None => Value::Sequence(scopes.iter().map(|scope| Value::from(scope.as_str())).collect()),
    }
}

fn new_entry(account: &StoredAccount) -> Value {
    let mut entry = Mapping::new();
    let mut put = |key: &str, value: Value| {
        entry.insert(key.into(), value);
    };
    put("provider", Value::from(&*account.id.provider));
    put("account", Value::from(&*account.id.account));
    if let Some(app) = &account.app {
        put("app", Value::from(&**app));
    }
    if let Some(owner) = &account.owner {
        put("owner", Value::from(owner.expose()));
    }
    if !account.enabled {
        put("enabled", Value::from(false));
    }
    if let Some(token) = &account.token {
        put("access_token", Value::from(token.access.expose()));
        if let Some(refresh) = effective_refresh(token, None) {
            put("refresh_token", Value::from(refresh.expose()));
        }
        let instants = [
            ("expires_at", token.expires_at),
            ("refresh_expires_at", token.refresh_expires_at),
            ("issued_at", token.issued_at),
        ];
        for (key, at) in instants.into_iter().filter(|(_, at)| at.is_some()) {
            put(key, instant_value(at, None));
        }
        if let Some(scopes) = &token.scopes {
            put("scopes", scopes_value(scopes, None));
        }
        if let Some(subject) = &token.subject {
            put("subject", Value::from(subject.as_str()));
        }
    }
    Value::Mapping(entry)
}

const ACCOUNTS: &str = "accounts";
