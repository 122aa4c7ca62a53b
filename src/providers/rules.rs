//! The error map at work: which row fits an answer, and what may be shown of it.

use super::schema::{OutcomeWord, StatusClass, Where};
use crate::core::Cause;
use regex_lite::Regex;
use serde_json::Value;
use std::{borrow::Cow, collections::BTreeSet, sync::Arc};

/// The rows of one provider with what they need to read an answer.
#[derive(Debug)]
pub(super) struct Rules {
    pub(super) rows: Vec<Row>,
    pub(super) code: Vec<Path>,
    pub(super) subcode: Vec<Path>,
    pub(super) log_id: Vec<Path>,
    /// The words and numbers that may be shown as codes.
    pub(super) known: BTreeSet<Arc<str>>,
    pub(super) known_ranges: Vec<(i64, i64)>,
}

/// One checked row.
#[derive(Debug)]
pub(super) struct Row {
    pub(super) place: Where,
    pub(super) status: Vec<StatusClass>,
    pub(super) matcher: Option<Matcher>,
    pub(super) cause: Cause,
    pub(super) detail: Option<Arc<str>>,
    pub(super) app_wide: Option<bool>,
    pub(super) outcome: OutcomeWord,
}

/// One checked test, with what must hold besides.
#[derive(Debug)]
pub(super) struct Matcher {
    pub(super) subject: Subject,
    pub(super) test: Test,
    pub(super) and: Option<Box<Self>>,
}

/// What is tested.
#[derive(Debug)]
pub(super) enum Subject {
    Path(Path),
    BearerError,
}

/// How it is tested.
#[derive(Debug)]
pub(super) enum Test {
    OneOf(Vec<String>),
    Contains(Regex),
    Range(i64, i64),
    Present(bool),
}

/// A way into a JSON document.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Path(Vec<Step>);

#[derive(Clone, Debug, PartialEq, Eq)]
enum Step {
    Key(String),
    Each,
}

/// The parts of an answer that rows look at.
pub(super) struct Reading<'a> {
    pub(super) status: u16,
    pub(super) bearer_error: Option<&'a str>,
    /// `Null` when the answer is no JSON.
    pub(super) body: &'a Value,
}

impl Rules {
    /// The first row that fits.
    pub(super) fn row(&self, place: Where, reading: &Reading<'_>) -> Option<&Row> {
        self.rows.iter().find(|row| row.applies(place) && row.fits(reading))
    }

    /// The provider's code, with its finer code behind a slash; only words that the table knows.
    pub(super) fn shown_code(&self, body: &Value) -> Option<Arc<str>> {
        let code = self.known(&self.code, body)?;
        match self.known(&self.subcode, body) {
            Some(subcode) => Some(format!("{code}/{subcode}").into()),
            None => Some(code),
        }
    }

    /// The id for the provider's support desk. It is the provider's to choose, so it is cut down to what
    /// cannot hold markup, a header or much of a token.
    pub(super) fn shown_log_id(&self, body: &Value) -> Option<Arc<str>> {
        let text = first_text(&self.log_id, body)?;
        let harmless: String = text
            .chars()
            .filter(|c| c.is_ascii_alphanumeric() || matches!(c, '_' | '.' | '-'))
            .take(LOG_ID_BYTES_MAX)
            .collect();
        (!harmless.is_empty()).then(|| harmless.into())
    }

    fn known(&self, paths: &[Path], body: &Value) -> Option<Arc<str>> {
        let text = first_text(paths, body)?;
        if let Some(word) = self.known.get(&*text) {
            return Some(Arc::clone(word));
        }
        let number = text.parse().ok()?;
        let listed = self.known_ranges.iter().any(|(from, to)| (*from..=*to).contains(&number));
        // Written out anew: "+00190" parses too.
        listed.then(|| number.to_string().into())
    }
}

impl Row {
    fn applies(&self, place: Where) -> bool {
        match self.place {
            Where::Any => true,
            Where::Api => matches!(place, Where::Api | Where::Probe),
            own => own == place,
        }
    }

    fn fits(&self, reading: &Reading<'_>) -> bool {
        let status_fits = self.status.is_empty()
            || self.status.iter().any(|class| match class {
                StatusClass::Exactly(status) => *status == reading.status,
                StatusClass::Hundred(hundred) => *hundred == reading.status / 100,
            });
        status_fits && self.matcher.as_ref().is_none_or(|matcher| matcher.fits(reading))
    }
}

impl Matcher {
    fn fits(&self, reading: &Reading<'_>) -> bool {
        let fits = match &self.subject {
            Subject::BearerError => self.test.passes_text(reading.bearer_error),
            Subject::Path(path) => match self.test {
                Test::Present(wanted) => path.any(reading.body, &mut |v| !v.is_null()) == wanted,
                _ => path.any(reading.body, &mut |v| self.test.passes_text(as_text(v).as_deref())),
            },
        };
        fits && self.and.as_ref().is_none_or(|and| and.fits(reading))
    }
}

impl Test {
    fn passes_text(&self, text: Option<&str>) -> bool {
        match (self, text) {
            (Self::Present(wanted), text) => text.is_some() == *wanted,
            (_, None) => false,
            (Self::OneOf(words), Some(text)) => words.iter().any(|word| word == text),
            (Self::Contains(pattern), Some(text)) => pattern.is_match(text),
            (Self::Range(from, to), Some(text)) => {
                text.parse().is_ok_and(|number: i64| (*from..=*to).contains(&number))
            }
        }
    }
}

impl Path {
    /// Reads `error.errors[].reason`.
    pub(super) fn parse(text: &str) -> Result<Self, String> {
        let mut steps = Vec::new();
        for part in text.split('.') {
            let (key, each) = match part.strip_suffix("[]") {
                Some(key) => (key, true),
                None => (part, false),
            };
            if key.is_empty() || key.contains(['[', ']', ' ']) {
                return Err(format!("`{text}` is no dotted path such as `error.errors[].reason`"));
            }
            steps.push(Step::Key(key.to_owned()));
            if each {
                steps.push(Step::Each);
            }
        }
        if steps.len() > PATH_STEPS_MAX {
            return Err(format!("`{text}` has more than {PATH_STEPS_MAX} steps"));
        }
        Ok(Self(steps))
    }

    /// The one value at the end; lists are not entered.
    pub(super) fn value<'a>(&self, body: &'a Value) -> Option<&'a Value> {
        self.0.iter().try_fold(body, |value, step| match step {
            Step::Key(key) => value.get(key),
            Step::Each => None,
        })
    }

    /// The same, to take it out of the document.
    pub(super) fn value_mut<'a>(&self, body: &'a mut Value) -> Option<&'a mut Value> {
        self.0.iter().try_fold(body, |value, step| match step {
            Step::Key(key) => value.get_mut(key),
            Step::Each => None,
        })
    }

    fn any(&self, body: &Value, test: &mut dyn FnMut(&Value) -> bool) -> bool {
        any(&self.0, body, test)
    }
}

fn any(steps: &[Step], value: &Value, test: &mut dyn FnMut(&Value) -> bool) -> bool {
    match steps {
        [] => test(value),
        [Step::Key(key), rest @ ..] => value.get(key).is_some_and(|value| any(rest, value, test)),
        [Step::Each, rest @ ..] => {
            value.as_array().is_some_and(|list| list.iter().any(|value| any(rest, value, test)))
        }
    }
}

fn first_text<'a>(paths: &[Path], body: &'a Value) -> Option<Cow<'a, str>> {
    paths.iter().find_map(|path| as_text(path.value(body)?))
}

/// The text by which a value is compared: providers send 190 and "190" for the same code.
pub(super) fn as_text(value: &Value) -> Option<Cow<'_, str>> {
    match value {
        Value::String(text) => Some(Cow::Borrowed(text)),
        Value::Number(number) => Some(Cow::Owned(number.to_string())),
        Value::Bool(truth) => Some(Cow::Borrowed(if *truth { "true" } else { "false" })),
        _ => None,
    }
}

const LOG_ID_BYTES_MAX: usize = 64;
const PATH_STEPS_MAX: usize = 8;
