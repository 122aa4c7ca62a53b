//! `providers`: files that describe providers which are not in the catalogue, each as strictly read as ours.

use super::Check;
use crate::{
    config::{
        explain,
        problem::{KeyPath, Problem, Step},
        yaml::{Aim, Document, Fault},
    },
    providers::{
        Described, Environment, FILE_BYTES_MAX, SchemaError,
        schema::{ProviderFile, WHOLE_FILE},
    },
};
use std::{
    fs::File,
    io::{self, Read},
    path::{Path, PathBuf},
};

pub(super) fn check(
    check: &mut Check<'_>,
    files: &[PathBuf],
    catalogue: &[&str],
) -> Vec<Described> {
    if files.len() > FILES_MAX {
        let what = format!("{} files, expected at most {FILES_MAX}", files.len());
        check.problem("providers", what, "run a second sidecar for the others");
        return Vec::new();
    }
    let mut described = Vec::new();
    for (nth, file) in files.iter().enumerate() {
        let path = check.resolved(file);
        match read(&path) {
            Ok(text) => {
                let taken = names(catalogue, &described);
                match check_one(&path, &text, catalogue, &taken) {
                    Ok(provider) => described.push(provider),
                    Err(problems) => check.problems.extend(problems),
                }
            }
            Err((what, remedy)) => {
                let what = format!("cannot read \"{}\": {what}", path.display());
                check.problem(KeyPath::from("providers").index(nth), what, remedy);
            }
        }
    }
    described
}

/// The names that apps and stores may use.
pub(super) fn names<'a>(catalogue: &[&'a str], described: &[Described]) -> Vec<&'a str> {
    let described =
        described.iter().map(|provider| provider.provider(Environment::default()).name.as_str());
    catalogue.iter().copied().chain(described).collect()
}

fn read(path: &Path) -> Result<String, (String, &'static str)> {
    let unreadable = |error: &io::Error| match error.kind() {
        io::ErrorKind::NotFound => {
            ("no such file".to_owned(), "correct the path; it is meant from this file's directory")
        }
        kind => (kind.to_string(), "name a file that this process may read"),
    };
    // A pipe would be waited for without end.
    match path.metadata() {
        Ok(metadata) if !metadata.is_file() => {
            return Err(("this is no file".to_owned(), "name a file that describes one provider"));
        }
        Ok(_) => {}
        Err(error) => return Err(unreadable(&error)),
    }
    let mut bytes = Vec::new();
    File::open(path)
        .and_then(|file| file.take(FILE_BYTES_MAX as u64 + 1).read_to_end(&mut bytes))
        .map_err(|error| unreadable(&error))?;
    if bytes.len() > FILE_BYTES_MAX {
        let what = format!("longer than {FILE_BYTES_MAX} bytes");
        return Err((what, "name a file that describes one provider"));
    }
    String::from_utf8(bytes).map_err(|_| ("not UTF-8 text".to_owned(), "save the file as UTF-8"))
}

fn check_one(
    path: &Path,
    text: &str,
    catalogue: &[&str],
    taken: &[&str],
) -> Result<Described, Vec<Problem>> {
    let mut check = Check::new(path, text);
    let mut document = Document::parse(text).map_err(|faults| check.refused(faults))?;
    let file: ProviderFile = match document.read() {
        Ok(file) => file,
        Err(faults) => {
            check.document = Some(document);
            return Err(check.refused(faults));
        }
    };
    check.document = Some(document);
    if taken.contains(&&*file.name) {
        let (whose, remedy) = if catalogue.contains(&&*file.name) {
            (
                "a provider of the catalogue",
                "choose another name; built-in providers stay as they are",
            )
        } else {
            ("described by an earlier file of the list", "give each provider a name of its own")
        };
        let what = format!("{} is {whose}, expected a new name", explain::shown(&file.name, true));
        check.problem("name", what, remedy);
        return Err(check.problems);
    }
    Described::new(text, &file).map_err(|SchemaError { at, reason }| {
        // Some reasons name their remedy themselves.
        let (what, remedy) = reason.split_once("; ").unwrap_or((&reason, IN_THE_MANUAL));
        check.problem(key_of(&at), what, remedy);
        check.problems
    })
}

impl Check<'_> {
    fn refused(&self, faults: Vec<Fault>) -> Vec<Problem> {
        let mut problems = self.refuse(faults).0;
        for problem in &mut problems {
            if problem.remedy.contains(EXAMPLE_OF_ALL) {
                problem.remedy = IN_THE_MANUAL.to_owned();
            }
            // It may have been named by mistake, and hold a secret.
            if problem.place.key.0.is_empty() {
                problem.place = self.place(KeyPath::default(), Aim::Key);
            }
        }
        problems
    }
}

/// `errors[3].match.re`. The names of headers and parameters are the user's, so anything may stand in them.
fn key_of(at: &str) -> KeyPath {
    if at == WHOLE_FILE {
        return KeyPath::default();
    }
    at.split('.').fold(KeyPath::default(), |mut path, part| {
        let indexed = part.strip_suffix(']').and_then(|part| part.split_once('['));
        match indexed.map(|(name, index)| (name, index.parse())) {
            Some((name, Ok(index))) => path.key(name).index(index),
            _ => {
                path.0.push(Step::Key(part.to_owned()));
                path
            }
        }
    })
}

const IN_THE_MANUAL: &str = "docs/providers.md says what may stand in such a file";

/// What remedies for the configuration itself point at.
const EXAMPLE_OF_ALL: &str = "config.example.yaml";

/// Most files in the list.
const FILES_MAX: usize = 64;
