//! Types become meaning: every range, reference and contradiction is looked at here, and what passes is
//! [`Settings`].
//!
//! A section with a problem still yields a value, so that the next one is looked at too; nobody ever sees
//! that value, because a file with a problem yields no settings.

mod apps;
mod dangers;
mod mail;
mod service;
mod store;

use super::{
    Loaded, Problem, Problems, Settings, Warning, file,
    problem::{Excerpt, KeyPath, Place},
    yaml::{self, Aim, Document, Fault},
};
use crate::secrets::SecretRef;
use reqwest::Url;
use std::{
    fmt::Display,
    ops::RangeInclusive,
    path::{Path, PathBuf},
};

/// Reads `text`, which stands in `path`, as settings.
pub(super) fn check(path: &Path, text: &str, providers: &[&str]) -> Result<Loaded, Problems> {
    let mut check = Check::new(path, text);
    let mut document = Document::parse(text).map_err(|faults| check.refuse(faults))?;
    let file: file::File = match document.read() {
        Ok(file) => file,
        Err(faults) => {
            check.document = Some(document);
            return Err(check.refuse(faults));
        }
    };
    check.document = Some(document);

    let store = store::check(&mut check, &file.store, providers);
    let apps = apps::check(&mut check, &file.apps, &store, providers);
    let settings = Settings {
        refresh: service::refresh(&mut check, &file.refresh),
        http: service::http(&mut check, &file.http),
        delivery: mail::check(&mut check, &file.mail),
        server: service::server(&mut check, &file.server, &file.reports),
        metrics: super::Metrics { per_account: file.metrics.per_account },
        state: service::state(&mut check, &file.state, &store),
        store,
        apps,
    };
    dangers::warn(&mut check, &settings);

    if check.problems.is_empty() {
        Ok(Loaded { settings, warnings: check.warnings })
    } else {
        check.problems.sort_by_key(|problem| problem.place.line);
        Err(Problems(check.problems))
    }
}

/// The file being checked, and what was found so far.
struct Check<'a> {
    path: &'a Path,
    lines: Vec<&'a str>,
    document: Option<Document>,
    problems: Vec<Problem>,
    warnings: Vec<Warning>,
}

impl<'a> Check<'a> {
    fn new(path: &'a Path, text: &'a str) -> Self {
        let lines = text.lines().collect();
        Self { path, lines, document: None, problems: Vec::new(), warnings: Vec::new() }
    }

    /// The value at `key` is wrong.
    fn problem(
        &mut self,
        key: impl Into<KeyPath>,
        what: impl Into<String>,
        remedy: impl Into<String>,
    ) {
        let place = self.place(key.into(), Aim::Value);
        self.problems.push(Problem { place, what: what.into(), remedy: remedy.into() });
    }

    /// The value at `key` is legal and may hurt.
    fn warn(
        &mut self,
        key: impl Into<KeyPath>,
        what: impl Into<String>,
        remedy: impl Into<String>,
    ) {
        let place = self.place(key.into(), Aim::Value);
        self.warnings.push(Warning { place, what: what.into(), remedy: remedy.into() });
    }

    fn refuse(&self, faults: Vec<Fault>) -> Problems {
        let problem = |fault: Fault| {
            let place = match fault.mark {
                Some(mark) => self.place_at(fault.key, mark, false),
                None if fault.what.starts_with("unknown key") => self.place(fault.key, Aim::Key),
                None => self.place(fault.key, Aim::Value),
            };
            Problem { place, what: fault.what, remedy: fault.remedy }
        };
        let mut problems: Vec<_> = faults.into_iter().map(problem).collect();
        problems.sort_by_key(|problem| problem.place.line);
        Problems(problems)
    }

    fn place(&self, key: KeyPath, aim: Aim) -> Place {
        let mark = self.document.as_ref().and_then(|document| document.mark(&key, aim));
        // What is missing altogether is missing from the beginning.
        let mark = mark.unwrap_or(yaml::Mark { line: 1, column: 0, width: 0 });
        let value = aim == Aim::Value && mark.width > 0 && !key.is_private();
        self.place_at(key, mark, value)
    }

    fn place_at(&self, key: KeyPath, mark: yaml::Mark, value: bool) -> Place {
        let line = self.lines.get(mark.line.saturating_sub(1)).filter(|_| mark.width > 0);
        let excerpt = line.and_then(|line| {
            // A private value is not marked but its key is.
            let before: String = line.chars().take(mark.column).collect();
            match before.rfind(": ").filter(|_| !value) {
                Some(colon) => {
                    let name = before[..colon].trim_start_matches([' ', '-', '{']);
                    let column = before[..colon].chars().count() - name.chars().count();
                    Excerpt::new(line, column, name.chars().count(), false)
                }
                None => Excerpt::new(line, mark.column, mark.width, value),
            }
        });
        Place { file: self.path.to_owned(), line: Some(mark.line.max(1)), key, excerpt }
    }

    /// Relative names are meant from the directory in which the configuration lies.
    fn resolved(&self, path: &Path) -> PathBuf {
        let directory = self.path.parent().unwrap_or(Path::new(""));
        directory.join(path).components().collect()
    }

    /// Refuses a number or span outside `range`; not-a-number lies outside every range.
    fn within<T: PartialOrd + Display>(&mut self, key: &str, value: T, range: RangeInclusive<T>) {
        if !range.contains(&value) {
            let (least, most) = range.into_inner();
            self.problem(
                key,
                format!("found {value}, expected {least} to {most}"),
                format!("write a value from {least} to {most}"),
            );
        }
    }

    /// Refuses text that is missing, blank or broken over lines.
    fn text(&mut self, key: KeyPath, value: Option<&str>, meaning: &str) -> String {
        match value {
            None => self.problem(key.clone(), format!("missing, expected {meaning}"), add(&key)),
            Some(text) if text.trim().is_empty() => {
                self.problem(key, format!("empty, expected {meaning}"), "write it after the colon");
            }
            Some(text) if text.contains(char::is_control) => {
                let what = format!("holds a line break or control character, expected {meaning}");
                self.problem(key, what, "write it on one line");
            }
            Some(text) if text.chars().count() > TEXT_MAX => {
                let what = format!("longer than {TEXT_MAX} characters, expected {meaning}");
                self.problem(key, what, "shorten it");
            }
            Some(text) => return text.to_owned(),
        }
        String::new()
    }

    /// `name_file` or `name_env`, not both; `wanted` says whether it is used, and so must be readable.
    fn secret(
        &mut self,
        at: &KeyPath,
        name: &str,
        file: Option<&Path>,
        env: Option<&str>,
        wanted: bool,
    ) -> Option<SecretRef> {
        let (file_key, env_key) = (at.key(&format!("{name}_file")), at.key(&format!("{name}_env")));
        let (reference, key) = match (file, env) {
            (None, None) => return None,
            (Some(_), Some(_)) => {
                let what =
                    format!("both {name}_file and {name}_env are given, expected one of them");
                self.problem(env_key, what, "remove one of the two");
                return None;
            }
            (Some(path), None) => (SecretRef::File(self.resolved(path)), file_key),
            (None, Some(variable)) if is_variable_name(variable) => {
                (SecretRef::Env(variable.to_owned()), env_key)
            }
            (None, Some(_)) => {
                self.problem(
                    env_key,
                    "not the name of an environment variable, expected capitals, digits and _",
                    "write a name such as CLIENT_SECRET here, and put the secret in that variable",
                );
                return None;
            }
        };
        if !wanted {
            return Some(reference);
        }
        match reference.read() {
            Err(error) => {
                let what = match file {
                    Some(path) => format!("cannot read \"{}\"", path.display()),
                    None => error.place.clone(),
                };
                let (reason, remedy) =
                    error.reason.split_once("; ").unwrap_or((&error.reason, "mend it"));
                self.problem(key, format!("{what}: {reason}"), remedy);
            }
            Ok(_) => {
                if let SecretRef::File(path) = &reference {
                    self.warn_if_open(key, path);
                }
            }
        }
        Some(reference)
    }

    /// Warns of a secret that every user of the machine can read.
    fn warn_if_open(&mut self, key: KeyPath, path: &Path) {
        use std::os::unix::fs::PermissionsExt;
        let Ok(about) = path.metadata() else { return };
        if about.permissions().mode() & OTHERS_READ != 0 {
            self.warn(
                key,
                "every user of this machine can read that file",
                "chmod 600 it; in Kubernetes set defaultMode: 0400",
            );
        }
    }

    /// A file that must be there when the program starts.
    fn readable(&mut self, key: &str, path: &Path, remedy: &str) -> PathBuf {
        let resolved = self.resolved(path);
        let reason = match std::fs::File::open(&resolved).and_then(|file| file.metadata()) {
            Ok(about) if about.is_file() => return resolved,
            Ok(_) => "not a regular file".to_owned(),
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => "no such file".to_owned(),
            Err(error) => error.kind().to_string(),
        };
        self.problem(key, format!("cannot read \"{}\": {reason}", path.display()), remedy);
        resolved
    }

    /// An absolute URL without user name, query or fragment. Its text is only shown once that is known:
    /// user names and queries hold passwords.
    fn url(&mut self, key: KeyPath, text: &str, schemes: &[&str], example: &str) -> Option<Url> {
        let expected = format!("expected a URL such as {example}");
        let correct = format!("write it like {example}");
        let Ok(url) = Url::parse(text) else {
            self.problem(key, format!("not an absolute URL, {expected}"), correct);
            return None;
        };
        let wrong = if !url.username().is_empty() || url.password().is_some() {
            "the URL has a user name or password in it"
        } else if url.query().is_some() {
            "the URL has a query (`?…`) in it"
        } else if url.fragment().is_some() {
            "the URL has a fragment (`#…`) in it"
        } else if !schemes.contains(&url.scheme()) {
            "the URL has another scheme"
        } else if url.host_str().is_none_or(str::is_empty) {
            "the URL has no host"
        } else {
            return Some(url);
        };
        let schemes = schemes.join(" or ");
        let what = format!("{wrong}, expected {schemes} and nothing after the path");
        self.problem(key, what, correct);
        None
    }
}

/// Whether `host` is this machine, so that what is sent there cannot be read on the way.
fn is_loopback(host: &str) -> bool {
    let host = host.trim_start_matches('[').trim_end_matches(']');
    host.eq_ignore_ascii_case("localhost")
        || host.parse::<std::net::IpAddr>().is_ok_and(|address| address.is_loopback())
}

/// Capitals only: a secret that was pasted here by mistake then hardly passes for a name and is not shown.
fn is_variable_name(text: &str) -> bool {
    let word = |c: char| c.is_ascii_uppercase() || c.is_ascii_digit() || c == '_';
    text.len() <= VARIABLE_MAX
        && text.starts_with(|c| word(c) && !c.is_ascii_digit())
        && text.chars().all(word)
}

fn add(key: &KeyPath) -> String {
    match key.0.last() {
        Some(super::problem::Step::Key(name)) => format!("add `{name}: …` here"),
        _ => "add it here".to_owned(),
    }
}

/// `a`, `a or b`, `a, b or c`.
fn alternatives(names: &[&str]) -> String {
    match names {
        [] => "nothing".to_owned(),
        [one] => (*one).to_owned(),
        [first @ .., last] => format!("{} or {last}", first.join(", ")),
    }
}

/// Longest name, id or host, in characters.
const TEXT_MAX: usize = 256;

/// Longest name of an environment variable.
const VARIABLE_MAX: usize = 128;

/// The permission bit that lets every user read.
const OTHERS_READ: u32 = 0o004;
