//! The error map at work: which row fits an answer, and what may be shown of it.

use super::schema::{GrantWord, KnownWord, OutcomeWord, StatusClass, Where};
use crate::core::{Cause, Timestamp};
use regex_lite::Regex;
use serde_json::Value;
use std::{borrow::Cow, collections::BTreeSet, sync::Arc, time::Duration};

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
    pub(super) grant: Option<GrantWord>,
    pub(super) younger_than: Option<Duration>,
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
    Past(bool),
    DiffersFrom(KnownWord),
}

/// What is known besides the answer. What is not known makes the rows that ask for it not fit.
#[derive(Clone, Copy, Debug, Default)]
pub struct Known<'a> {
    /// What the token endpoint was asked with.
    pub grant: GrantWord,
    /// How old the token was when it was presented.
    pub token_age: Option<Duration>,
    /// The account's id at the provider.
    pub subject: Option<&'a str>,
    /// The app's public id.
    pub client_id: Option<&'a str>,
}

/// A way into a JSON document.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Path(Vec<Step>);

#[derive(Clone, Debug, PartialEq, Eq)]
enum Step {
    Key(String),
    Each,
    /// TikTok's webhooks carry their content as text that is JSON in its turn.
    Unpacked,
}

/// The parts of an answer that rows look at.
pub(super) struct Reading<'a> {
    /// `None` for what is no HTTP answer.
    pub(super) status: Option<u16>,
    pub(super) known: &'a Known<'a>,
    pub(super) at: Timestamp,
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
            Where::Any => !matches!(place, Where::Redirect | Where::Webhook),
            Where::Api => matches!(place, Where::Api | Where::Probe | Where::Publish),
            own => own == place,
        }
    }

    fn fits(&self, reading: &Reading<'_>) -> bool {
        self.fits_status(reading.status)
            && self.grant.is_none_or(|grant| grant == reading.known.grant)
            && self.younger_than.is_none_or(|age| reading.known.token_age.is_some_and(|a| a < age))
            && self.matcher.as_ref().is_none_or(|matcher| matcher.fits(reading))
    }

    fn fits_status(&self, seen: Option<u16>) -> bool {
        let fits = |class: &StatusClass, seen| match class {
            StatusClass::Exactly(status) => *status == seen,
            StatusClass::Hundred(hundred) => *hundred == seen / 100,
        };
        self.status.is_empty()
            || seen.is_some_and(|seen| self.status.iter().any(|class| fits(class, seen)))
    }
}

impl Matcher {
    pub(super) fn fits(&self, reading: &Reading<'_>) -> bool {
        let fits = match &self.subject {
            Subject::BearerError => self.test.passes_text(reading.bearer_error, reading),
            Subject::Path(path) => match self.test {
                Test::Present(wanted) => path.any(reading.body, &mut |v| !v.is_null()) == wanted,
                _ => path.any(reading.body, &mut |value| {
                    self.test.passes_text(as_text(value).as_deref(), reading)
                }),
            },
        };
        fits && self.and.as_ref().is_none_or(|and| and.fits(reading))
    }
}

impl Test {
    fn passes_text(&self, text: Option<&str>, reading: &Reading<'_>) -> bool {
        match (self, text) {
            (Self::Present(wanted), text) => text.is_some() == *wanted,
            (_, None) => false,
            (Self::OneOf(words), Some(text)) => words.iter().any(|word| word == text),
            (Self::Contains(pattern), Some(text)) => pattern.is_match(text),
            (Self::Range(from, to), Some(text)) => {
                text.parse().is_ok_and(|number: i64| (*from..=*to).contains(&number))
            }
            // Meta writes 0 for "never".
            (Self::Past(wanted), Some(text)) => text.parse().is_ok_and(|seconds: i64| {
                seconds > 0 && Timestamp::from_unix(seconds).has_come(reading.at) == *wanted
            }),
            (Self::DiffersFrom(word), Some(text)) => {
                let ours = match word {
                    KnownWord::ClientId => reading.known.client_id,
                    KnownWord::Subject => reading.known.subject,
                };
                ours.is_some_and(|ours| ours != text)
            }
        }
    }
}

impl Path {
    /// Reads `error.errors[].reason` and `content{}.reason`.
    pub(super) fn parse(text: &str) -> Result<Self, String> {
        let mut steps = Vec::new();
        for part in text.split('.') {
            let (key, beyond) = if let Some(key) = part.strip_suffix("[]") {
                (key, Some(Step::Each))
            } else if let Some(key) = part.strip_suffix("{}") {
                (key, Some(Step::Unpacked))
            } else {
                (part, None)
            };
            if key.is_empty() || key.contains(['[', ']', '{', '}', ' ']) {
                return Err(format!("`{text}` is no dotted path such as `error.errors[].reason`"));
            }
            steps.push(Step::Key(key.to_owned()));
            steps.extend(beyond);
        }
        if steps.len() > PATH_STEPS_MAX {
            return Err(format!("`{text}` has more than {PATH_STEPS_MAX} steps"));
        }
        Ok(Self(steps))
    }

    /// The one value at the end; lists and texts are not entered.
    pub(super) fn value<'a>(&self, body: &'a Value) -> Option<&'a Value> {
        self.0.iter().try_fold(body, |value, step| match step {
            Step::Key(key) => value.get(key),
            Step::Each | Step::Unpacked => None,
        })
    }

    /// The same, to take it out of the document.
    pub(super) fn value_mut<'a>(&self, body: &'a mut Value) -> Option<&'a mut Value> {
        self.0.iter().try_fold(body, |value, step| match step {
            Step::Key(key) => value.get_mut(key),
            Step::Each | Step::Unpacked => None,
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
        [Step::Unpacked, rest @ ..] => match value {
            Value::String(text) => {
                serde_json::from_str(text).is_ok_and(|inner: Value| any(rest, &inner, test))
            }
            value => any(rest, value, test),
        },
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
