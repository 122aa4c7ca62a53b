//! `providers`: files that describe providers which are not in the catalogue, each as strictly read as ours.

use super::{Check, read_beside};
use crate::{
    config::{
        explain,
        problem::{KeyPath, Problem, Step},
        yaml::Document,
    },
    providers::{
        Described, Environment, FILE_BYTES_MAX, SchemaError,
        schema::{ProviderFile, WHOLE_FILE},
    },
};
use serde::Deserialize;
use std::path::{Path, PathBuf};

/// What the files describe.
#[derive(Default)]
pub(super) struct Providers {
    pub(super) described: Vec<Described>,
    /// Names of those that were refused: who uses one is not told that it is unknown as well.
    refused: Vec<String>,
}

pub(super) fn check(check: &mut Check<'_>, files: &[PathBuf], catalogue: &[&str]) -> Providers {
    if files.len() > FILES_MAX {
        let what = format!("{} files, expected at most {FILES_MAX}", files.len());
        check.problem("providers", what, "run a second sidecar for the others");
        return Providers::default();
    }
    let mut providers = Providers::default();
    for (nth, file) in files.iter().enumerate() {
        let path = check.resolved(file);
        match read_beside(&path, FILE_BYTES_MAX, NAME_ONE) {
            Ok(text) => {
                match check_one(check, &path, &text, catalogue, &providers.names(catalogue)) {
                    Ok(provider) => providers.described.push(provider),
                    Err(Refused { problems, name }) => {
                        check.problems.extend(problems);
                        providers.refused.extend(name);
                    }
                }
            }
            Err((what, remedy)) => {
                let what = format!("cannot read \"{}\": {what}", path.display());
                check.problem(KeyPath::from("providers").index(nth), what, remedy);
            }
        }
    }
    providers
}

impl Providers {
    /// The names that apps and stores may use.
    pub(super) fn names<'a>(&'a self, catalogue: &[&'a str]) -> Vec<&'a str> {
        let described = self.described.iter();
        let described = described.map(|one| one.provider(Environment::default()).name.as_str());
        let refused = self.refused.iter().map(String::as_str);
        catalogue.iter().copied().chain(described).chain(refused).collect()
    }
}

/// A file that cannot be used, with its name if that can be read.
struct Refused {
    problems: Vec<Problem>,
    name: Option<String>,
}

#[derive(Deserialize)]
struct Named {
    name: String,
}

fn check_one(
    outer: &Check<'_>,
    path: &Path,
    text: &str,
    catalogue: &[&str],
    taken: &[&str],
) -> Result<Described, Refused> {
    let mut check = Check::new(path, text, outer.overrides);
    let mut document = Document::parse(text)
        .map_err(|faults| Refused { problems: check.refused(faults, IN_THE_MANUAL), name: None })?;
    let file: ProviderFile = match document.read() {
        Ok(file) => file,
        Err(faults) => {
            let name =
                document.read().ok().map(|Named { name }| name).filter(|name| is_plain(name));
            check.document = Some(document);
            return Err(Refused { problems: check.refused(faults, IN_THE_MANUAL), name });
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
        return Err(Refused { problems: check.problems, name: None });
    }
    Described::new(text, &file).map_err(|SchemaError { at, reason }| {
        // Some reasons name their remedy themselves.
        let (what, remedy) = reason.split_once("; ").unwrap_or((&reason, IN_THE_MANUAL));
        check.problem(key_of(&at), what, remedy);
        Refused { problems: check.problems, name: Some(file.name.clone()) }
    })
}

/// Names of refused files are listed in messages, and may be anything.
fn is_plain(name: &str) -> bool {
    name.len() <= NAME_SHOWN_MAX
        && name.bytes().all(|byte| byte.is_ascii_lowercase() || byte == b'_')
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

const NAME_ONE: &str = "name a file that describes one provider";

/// Longest name of a refused file that is listed, in bytes.
const NAME_SHOWN_MAX: usize = 32;

/// Most files in the list.
const FILES_MAX: usize = 64;
