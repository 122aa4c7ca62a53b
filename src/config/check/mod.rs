//! Types become meaning: every range, reference and contradiction is looked at here, and what passes is
//! [`Settings`].
//!
//! A section with a problem still yields a value, so that the next one is looked at too; nobody ever sees
//! that value, because a file with a problem yields no settings.

mod actions;
mod apps;
mod consent;
mod dangers;
mod mail;
mod notify;
mod observe;
mod providers;
mod publisher;
mod redis_store;
mod service;
mod state;
mod store;
mod web;

use super::{
    Loaded, Overrides, Problem, Problems, Settings, Warning, explain, file,
    problem::{Excerpt, KeyPath, Place, Step},
    yaml::{self, Aim, Document, Fault},
};
use crate::{
    delivery::Settings as Delivery,
    logs::Settings as Log,
    secrets::{SecretError, SecretRef},
};
use reqwest::Url;
use std::{
    fmt::Display,
    fs::File,
    io::{self, Read as _},
    ops::RangeInclusive,
    path::{Path, PathBuf},
};

/// Reads `text`, which stands in `path`, as settings.
pub(super) fn check(
    path: &Path,
    text: &str,
    catalogue: &[&str],
    overrides: &Overrides,
) -> Result<Loaded, Problems> {
    let mut check = Check::new(path, text, overrides);
    let mut document = Document::parse(text).map_err(|faults| check.refuse(faults))?;
    let file: file::File = match document.read() {
        Ok(file) => file,
        Err(faults) => {
            check.document = Some(document);
            return Err(check.refuse(faults));
        }
    };
    check.document = Some(document);

    let providers = providers::check(&mut check, &file.providers, catalogue);
    let names = providers.names(catalogue);
    let store = store::check(&mut check, &file.store, &names);
    let apps = apps::check(&mut check, &file.apps, &store, &providers.described, &names);
    let settings = Settings {
        refresh: service::refresh(&mut check, &file.refresh),
        http: service::http(&mut check, &file.http),
        delivery: Delivery {
            webhooks: notify::check(&mut check, &file.notify),
            ..mail::check(&mut check, &file.mail)
        },
        server: service::server(&mut check, &file),
        hooks: publisher::webhooks(&mut check, &file.publisher),
        gate: super::Gate { proof: file.gate.proof },
        observe: observe::check(&mut check, &file.observe, &store, &names),
        metrics: super::Metrics { per_account: file.metrics.per_account },
        log: Log { level: file.log.level, format: file.log.format },
        state: state::check(&mut check, &file.state, &store),
        store,
        providers: providers.described,
        apps,
    };
    consent::check(&mut check, &settings);
    dangers::warn(&mut check, &settings);

    if check.problems.is_empty() {
        Ok(Loaded { settings, warnings: check.warnings })
    } else {
        // This file first, then those that it names.
        let order =
            |Problem { place, .. }: &Problem| (place.file != path, place.file.clone(), place.line);
        check.problems.sort_by_cached_key(order);
        Err(Problems(check.problems))
    }
}

/// The file being checked, and what was found so far.
struct Check<'a> {
    path: &'a Path,
    /// What the command line says instead.
    overrides: &'a Overrides,
    lines: Vec<&'a str>,
    document: Option<Document>,
    problems: Vec<Problem>,
    warnings: Vec<Warning>,
}

impl<'a> Check<'a> {
    fn new(path: &'a Path, text: &'a str, overrides: &'a Overrides) -> Self {
        let lines = text.lines().collect();
        Self { path, overrides, lines, document: None, problems: Vec::new(), warnings: Vec::new() }
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

    /// The same for a value that is not to be shown.
    fn problem_unshown(&mut self, key: KeyPath, what: String, remedy: String) {
        let place = self.place(key, Aim::Key);
        self.problems.push(Problem { place, what, remedy });
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
                Some(mark) => self.place_of_fault(fault.key, mark),
                None if fault.what.starts_with(explain::UNKNOWN_KEY_FOUND) => {
                    self.place(fault.key, Aim::Key)
                }
                None => self.place(fault.key, Aim::Value),
            };
            Problem { place, what: fault.what, remedy: fault.remedy }
        };
        let mut problems: Vec<_> = faults.into_iter().map(problem).collect();
        problems.sort_by_key(|problem| problem.place.line);
        Problems(problems)
    }

    /// The same for a file that this one names; `manual` says what may stand in it.
    fn refused(&self, faults: Vec<Fault>, manual: &str) -> Vec<Problem> {
        let mut problems = self.refuse(faults).0;
        for problem in &mut problems {
            if problem.remedy.contains(EXAMPLE_OF_ALL) {
                problem.remedy = manual.to_owned();
            }
            // It may have been named by mistake, and hold a secret.
            if problem.place.key.0.is_empty() {
                problem.place = self.place(KeyPath::default(), Aim::Key);
            }
        }
        problems
    }

    fn place(&self, key: KeyPath, aim: Aim) -> Place {
        let aim = if key.is_private() { Aim::Key } else { aim };
        let marked = self.document.as_ref().and_then(|document| document.mark(&key, aim));
        let excerpt = marked.and_then(|(mark, marked)| match marked {
            // An element of a list has no key that could be marked instead.
            Aim::Value if key.is_private() => None,
            marked => Excerpt::new(self.line(mark)?, mark.column, mark.width, marked == Aim::Value),
        });
        // What is missing altogether is missing from the beginning.
        let line = marked.map_or(1, |(mark, _)| mark.line);
        Place { file: self.path.to_owned(), line: Some(line), key, excerpt }
    }

    /// Where the text is no YAML, nothing is known of its values: only a key is shown.
    fn place_of_fault(&self, key: KeyPath, mark: yaml::Mark) -> Place {
        let excerpt = self.line(mark).and_then(|line| {
            let from = line.find(|c: char| c.is_ascii_alphabetic())?;
            let name = line[from..].split_once(':')?.0;
            let first = line[..from].trim_matches([' ', '-', '\t']).is_empty();
            first.then(|| Excerpt::new(line, from, name.chars().count(), false)).flatten()
        });
        Place { file: self.path.to_owned(), line: Some(mark.line), key, excerpt }
    }

    fn line(&self, mark: yaml::Mark) -> Option<&'a str> {
        self.lines.get(mark.line.checked_sub(1)?).copied()
    }

    /// Relative names are meant from the directory in which the configuration lies.
    fn resolved(&self, path: &Path) -> PathBuf {
        let directory = self.path.parent().unwrap_or_else(|| Path::new(""));
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
            Some(text) if text.contains("${") => {
                let what =
                    format!("variables (`${{…}}`) are not expanded here, expected {meaning}");
                self.problem(
                    key,
                    what,
                    "write the value itself; secrets have keys that end in _env",
                );
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
        match (file, env) {
            (None, None) => None,
            (Some(_), Some(_)) => {
                self.both_given(at, name);
                None
            }
            (Some(path), None) => Some(self.secret_file(file_key, path, wanted)),
            (None, Some(variable)) => self.secret_variable(env_key, variable, wanted),
        }
    }

    fn both_given(&mut self, at: &KeyPath, name: &str) {
        let what = format!("both {name}_file and {name}_env are given, expected one of them");
        self.problem(at.key(&format!("{name}_env")), what, "remove one of the two");
    }

    /// The file at `key`; `wanted` says whether it must be readable.
    fn secret_file(&mut self, key: KeyPath, path: &Path, wanted: bool) -> SecretRef {
        let resolved = self.resolved(path);
        let reference = SecretRef::File(resolved.clone());
        if wanted {
            match reference.read() {
                Err(error) => {
                    self.unreadable(key, &format!("cannot read \"{}\"", path.display()), &error);
                }
                Ok(_) => self.warn_if_open(key, &resolved),
            }
        }
        reference
    }

    /// The variable at `key`, the same.
    fn secret_variable(&mut self, key: KeyPath, name: &str, wanted: bool) -> Option<SecretRef> {
        if !is_variable_name(name) {
            self.problem(
                key,
                "not the name of an environment variable, expected capitals, digits and _",
                "write a name such as CLIENT_SECRET here, and put the secret in that variable",
            );
            return None;
        }
        let reference = SecretRef::Env(name.to_owned());
        if let Some(error) = reference.read().err().filter(|_| wanted) {
            self.unreadable(key, &error.place, &error);
        }
        Some(reference)
    }

    fn unreadable(&mut self, key: KeyPath, what: &str, error: &SecretError) {
        let (reason, remedy) = error.reason.split_once("; ").unwrap_or((&error.reason, "mend it"));
        self.problem(key, format!("{what}: {reason}"), remedy);
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
        let reason = match File::open(&resolved).and_then(|file| file.metadata()) {
            Ok(about) if about.is_file() => return resolved,
            Ok(_) => "not a regular file".to_owned(),
            Err(error) if error.kind() == io::ErrorKind::NotFound => "no such file".to_owned(),
            Err(error) => error.kind().to_string(),
        };
        self.problem(key, format!("cannot read \"{}\": {reason}", path.display()), remedy);
        resolved
    }

    /// An absolute URL without user name, query or fragment. Its text is only shown once that is known:
    /// user names and queries hold passwords.
    fn url(&mut self, key: KeyPath, text: &str, schemes: &[&str], example: &str) -> Option<Url> {
        let correct = format!("write it like {example}");
        let expected = schemes.join(" or ");
        let Ok(url) = Url::parse(text) else {
            let what = format!("not an absolute URL, expected {expected}");
            self.problem_unshown(key, what, correct);
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
        let what = format!("{wrong}, expected {expected} and nothing after the path");
        self.problem_unshown(key, what, correct);
        None
    }
}

/// A file that the configuration names and that is part of it; `Err` is what is wrong and what to do.
fn read_beside(
    path: &Path,
    bytes_max: usize,
    name_one: &'static str,
) -> Result<String, (String, &'static str)> {
    let unreadable = |error: &io::Error| match error.kind() {
        io::ErrorKind::NotFound => {
            ("no such file".to_owned(), "correct the path; it is meant from this file's directory")
        }
        kind => (kind.to_string(), "name a file that this process may read"),
    };
    // A pipe would be waited for without end.
    match path.metadata() {
        Ok(metadata) if !metadata.is_file() => {
            return Err(("this is no file".to_owned(), name_one));
        }
        Ok(_) => {}
        Err(error) => return Err(unreadable(&error)),
    }
    let mut bytes = Vec::new();
    File::open(path)
        .and_then(|file| file.take(bytes_max as u64 + 1).read_to_end(&mut bytes))
        .map_err(|error| unreadable(&error))?;
    if bytes.len() > bytes_max {
        return Err((format!("longer than {bytes_max} bytes"), name_one));
    }
    String::from_utf8(bytes).map_err(|_| ("not UTF-8 text".to_owned(), "save the file as UTF-8"))
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
    match &key.0[..] {
        [.., Step::Key(parent), Step::Key(name)] => format!("add `{name}: …` beneath `{parent}:`"),
        [.., Step::Key(name)] => format!("add `{name}: …` to this element"),
        _ => "add it".to_owned(),
    }
}

/// What remedies for the configuration itself point at.
const EXAMPLE_OF_ALL: &str = "config.example.yaml";

/// Longest name, id or host, in characters.
const TEXT_MAX: usize = 256;

/// Longest name of an environment variable.
const VARIABLE_MAX: usize = 128;

/// The permission bit that lets every user read.
const OTHERS_READ: u32 = 0o004;
