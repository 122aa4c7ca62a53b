//! Providers that a user describes in the form of the catalogue.

use super::{
    Environment, Provider, SchemaError,
    schema::{self, ProviderFile},
};
use std::sync::{Mutex, PoisonError};

/// One described provider, in both environments.
///
/// It lives as long as the process: apps and calls in flight refer to it. A reload that changes the
/// description leaves the former one behind, which is why their number has a bound.
#[derive(Clone, Copy, Debug)]
pub struct Described {
    production: &'static Provider,
    sandbox: &'static Provider,
}

impl Described {
    /// Builds what `file` says. `source` is its text: what reads the same is the same.
    ///
    /// # Errors
    /// The first contradiction in it, by its key.
    pub fn new(source: &str, file: &ProviderFile) -> Result<Self, SchemaError> {
        let mut kept = KEPT.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some((_, known)) = kept.iter().find(|(text, _)| text == source) {
            return Ok(*known);
        }
        let build = |environment| Provider::from_file_in(file.clone(), environment);
        let (production, sandbox) = (build(Environment::Production)?, build(Environment::Sandbox)?);
        if kept.len() >= DESCRIPTIONS_MAX {
            let at = schema::WHOLE_FILE.to_owned();
            let reason =
                format!("is description {DESCRIPTIONS_MAX} since the start; restart this program");
            return Err(SchemaError { at, reason });
        }
        let described = Self {
            production: Box::leak(Box::new(production)),
            sandbox: Box::leak(Box::new(sandbox)),
        };
        kept.push((source.to_owned(), described));
        Ok(described)
    }

    /// The provider as apps of `environment` see it.
    #[must_use]
    pub const fn provider(&self, environment: Environment) -> &'static Provider {
        match environment {
            Environment::Production => self.production,
            Environment::Sandbox => self.sandbox,
        }
    }
}

static KEPT: Mutex<Vec<(String, Described)>> = Mutex::new(Vec::new());

/// Most descriptions, changed ones included, that one process keeps.
const DESCRIPTIONS_MAX: usize = 256;
