//! Where secrets come from. They are read when they are used and kept nowhere.

use crate::core::Secret;
use std::{fmt, path::PathBuf};

/// Where a secret comes from: never the configuration itself, so that the configuration can be shown.
/// Read when it is used, so that a mended secret file works at once.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum SecretRef {
    /// A file; one trailing newline is cut.
    File(PathBuf),
    /// An environment variable.
    Env(String),
}

/// A secret could not be read.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{place}: {reason}")]
pub struct SecretError {
    /// The file or the variable.
    pub place: String,
    /// What is wrong and what to do.
    pub reason: String,
}

impl SecretRef {
    /// Longest secret that is read, in bytes.
    pub const BYTES_MAX: u64 = 16 * 1024;

    /// Reads the secret now.
    ///
    /// # Errors
    /// When the file or variable is missing, empty, too long or not UTF-8.
    pub fn read(&self) -> Result<Secret, SecretError> {
        unimplemented!()
    }
}

impl fmt::Display for SecretRef {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::File(path) => write!(f, "file {}", path.display()),
            Self::Env(name) => write!(f, "environment variable {name}"),
        }
    }
}
