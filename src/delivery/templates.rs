//! The shape of mails: built in, or a folder of the user's own files instead.
//!
//! A file of the user's is filled with samples before it is used, so that a misspelt placeholder is found when the
//! configuration is read and not in the night in which a mail is due.

use super::{content, digest};
use minijinja::{Environment, UndefinedBehavior, value::Serde};
use serde::Serialize;
use std::{fmt, path::Path, sync::Arc};

/// The templates in force. Cheap to clone.
#[derive(Clone)]
pub struct Templates(Arc<Environment<'static>>);

impl fmt::Debug for Templates {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Templates")
    }
}

/// Why a file cannot be used.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{file}{}: {what}", line.map(|line| format!(" line {line}")).unwrap_or_default())]
pub struct Unusable {
    /// Its name.
    pub file: String,
    /// The line, from one, where it is known.
    pub line: Option<usize>,
    /// What is wrong and what is expected.
    pub what: String,
}

impl Templates {
    /// Those of this program.
    ///
    /// # Panics
    /// Never: they are tested.
    #[must_use]
    pub fn built_in() -> Self {
        let mut templates = environment();
        for (name, source) in BUILT_IN {
            templates.add_template(name, source).expect("the built-in templates are well formed");
        }
        Self(Arc::new(templates))
    }

    /// The built-in ones, replaced by the files of the same names in `folder`.
    ///
    /// # Errors
    /// Everything that is wrong with them.
    pub fn in_folder(folder: &Path) -> Result<Self, Vec<Unusable>> {
        let mut templates = environment();
        let mut wrong = Vec::new();
        let mut found = 0;
        for (name, source) in BUILT_IN {
            let own = match read(&folder.join(name)) {
                Ok(own) => own,
                Err(what) => {
                    wrong.push(Unusable { file: name.to_owned(), line: None, what });
                    continue;
                }
            };
            found += usize::from(own.is_some());
            let source = own.unwrap_or_else(|| source.to_owned());
            if let Err(error) = templates.add_template_owned(name, source) {
                wrong.push(unusable(name, "", &error));
            }
        }
        if found == 0 && wrong.is_empty() {
            let names = BUILT_IN.map(|(name, _)| name).join(", ");
            let what = format!("none of {names} is in it");
            wrong.push(Unusable { file: folder.display().to_string(), line: None, what });
        }
        if wrong.is_empty() {
            wrong = BUILT_IN.iter().filter_map(|(name, _)| try_out(&templates, name)).collect();
        }
        if wrong.is_empty() { Ok(Self(Arc::new(templates))) } else { Err(wrong) }
    }

    pub(super) fn fill_mail(&self, view: &content::View) -> (String, String) {
        (self.fill(MAIL_TEXT, view), self.fill(MAIL_HTML, view))
    }

    pub(super) fn fill_digest(&self, view: &digest::View) -> (String, String) {
        (self.fill(DIGEST_TEXT, view), self.fill(DIGEST_HTML, view))
    }

    /// A file that was tried out and fails all the same must not keep somebody from hearing.
    fn fill(&self, name: &str, view: &impl Serialize) -> String {
        let own = self.0.get_template(name).and_then(|template| template.render(Serde(view)));
        own.unwrap_or_else(|error| {
            tracing::error!(template = name, error = %what(&error), "a template cannot be filled; the built-in one is used");
            let built_in = Self::built_in();
            let template = built_in.0.get_template(name).expect("it is built in");
            template.render(Serde(view)).expect("the view has every field that the templates use")
        })
    }
}

/// The name decides about escaping: `.html` is escaped, `.txt` is not.
fn environment() -> Environment<'static> {
    let mut templates = Environment::new();
    templates.set_undefined_behavior(UndefinedBehavior::Strict);
    templates
}

/// `None` where there is no such file.
fn read(path: &Path) -> Result<Option<String>, String> {
    match std::fs::metadata(path) {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(format!("it cannot be read: {}", error.kind())),
        Ok(file) if file.len() > TEMPLATE_BYTES_MAX => {
            return Err(format!("it is larger than {TEMPLATE_BYTES_MAX} bytes"));
        }
        Ok(_) => {}
    }
    let text = std::fs::read_to_string(path);
    text.map(Some).map_err(|error| format!("it cannot be read: {}", error.kind()))
}

/// Fills the template with every kind of sample.
fn try_out(templates: &Environment<'_>, name: &str) -> Option<Unusable> {
    let template = templates.get_template(name).ok()?;
    let source = template.source().to_owned();
    let is_digest = name == DIGEST_TEXT || name == DIGEST_HTML;
    let known: &[&str] =
        if is_digest { digest::View::PLACEHOLDERS } else { content::View::PLACEHOLDERS };
    let mut unknown: Vec<String> = template
        .undeclared_variables(false)
        .into_iter()
        .filter(|used| !known.contains(&used.as_str()))
        .collect();
    unknown.sort();
    if let Some(placeholder) = unknown.first() {
        let what =
            format!("unknown placeholder `{placeholder}`, expected one of {}", known.join(", "));
        return Some(Unusable { file: name.to_owned(), line: line_of(&source, placeholder), what });
    }
    let filled = if is_digest {
        digest::View::samples().iter().try_for_each(|view| template.render(Serde(view)).map(drop))
    } else {
        content::View::samples().iter().try_for_each(|view| template.render(Serde(view)).map(drop))
    };
    filled.err().map(|error| unusable(name, &source, &error))
}

/// The first line with a tag that uses `placeholder`.
fn line_of(source: &str, placeholder: &str) -> Option<usize> {
    let is_part = |c: char| c.is_alphanumeric() || c == '_';
    let uses = |line: &str| {
        line.contains('{') && line.split(|c| !is_part(c)).any(|word| word == placeholder)
    };
    source.lines().position(uses).map(|line| line + 1)
}

fn unusable(name: &str, source: &str, error: &minijinja::Error) -> Unusable {
    let line = error.line();
    let mut what = what(error);
    let text = line.and_then(|line| source.lines().nth(line.saturating_sub(1)));
    if let Some(text) = text {
        what = format!("{what}: `{}`", text.trim());
    }
    Unusable { file: name.to_owned(), line, what }
}

fn what(error: &minijinja::Error) -> String {
    let kind = error.kind().to_string();
    error.detail().map_or_else(|| kind.clone(), |detail| format!("{kind}, {detail}"))
}

const MAIL_TEXT: &str = "mail.txt";
const MAIL_HTML: &str = "mail.html";
const DIGEST_TEXT: &str = "digest.txt";
const DIGEST_HTML: &str = "digest.html";
const BUILT_IN: [(&str, &str); 4] = [
    (MAIL_TEXT, include_str!("templates/mail.txt")),
    (MAIL_HTML, include_str!("templates/mail.html")),
    (DIGEST_TEXT, include_str!("templates/digest.txt")),
    (DIGEST_HTML, include_str!("templates/digest.html")),
];
const TEMPLATE_BYTES_MAX: u64 = 256 * 1024;

#[cfg(test)]
mod tests {
    use super::*;

    fn loaded(name: &str, text: &str) -> Result<Templates, Vec<Unusable>> {
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join(name), text).unwrap();
        Templates::in_folder(folder.path())
    }

    #[test]
    fn every_template_of_ours_can_be_filled_with_every_sample() {
        for (name, source) in BUILT_IN {
            loaded(name, source).unwrap();
        }
    }

    #[test]
    fn a_template_of_the_users_own_is_told_apart_by_file_line_and_placeholder() {
        let cases = [
            (
                "mail.txt",
                "Hello\n{{ headline }}\n",
                "mail.txt line 2: unknown placeholder `headline`",
            ),
            ("mail.html", "{% for f in facts %}\n{{ f.lable }}{% endfor %}", "mail.html line 2"),
            ("digest.txt", "{{ heading }\n", "digest.txt line 1"),
            ("digest.html", "\n\n{% if more %}", "digest.html line 3"),
            ("digest.html", "{{ support }}", "digest.html line 1: unknown placeholder `support`"),
            ("letter.txt", "{{ heading }}", "none of mail.txt, mail.html"),
        ];
        for (name, text, expected) in cases {
            let wrong = loaded(name, text).unwrap_err();
            let said = wrong.iter().map(ToString::to_string).collect::<Vec<_>>().join("; ");
            assert!(said.contains(expected), "{name} {text:?}: {said}");
        }
    }

    #[test]
    fn the_placeholders_that_are_named_are_those_that_there_are() {
        let names = |value: serde_json::Value| {
            value.as_object().unwrap().keys().cloned().collect::<std::collections::BTreeSet<_>>()
        };
        let list = |known: &[&str]| known.iter().map(ToString::to_string).collect();
        for view in content::View::samples() {
            assert_eq!(
                names(serde_json::to_value(view).unwrap()),
                list(content::View::PLACEHOLDERS)
            );
        }
        for view in digest::View::samples() {
            assert_eq!(
                names(serde_json::to_value(view).unwrap()),
                list(digest::View::PLACEHOLDERS)
            );
        }
    }
}
