//! Where secrets come from. They are read when they are used and kept nowhere.

use crate::core::Secret;
use std::{
    env, fmt,
    fs::File,
    io::{self, Read},
    path::{Path, PathBuf},
};
use zeroize::Zeroizing;

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
        let read = match self {
            Self::File(path) => read_file(path),
            Self::Env(name) => read_variable(name),
        };
        read.map_err(|reason| SecretError { place: self.to_string(), reason })
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

fn read_file(path: &Path) -> Result<Secret, String> {
    // A pipe or a terminal would be waited for without end, and read away what the next reader needs.
    let about = path.metadata().map_err(|error| unreadable(&error))?;
    if !about.is_file() {
        return Err("not a regular file; name the file that holds the secret".to_owned());
    }
    let file = File::open(path).map_err(|error| unreadable(&error))?;
    // Reserved at once: a growing buffer would leave copies of the secret behind.
    let mut bytes = Zeroizing::new(Vec::with_capacity(BUFFER));
    file.take(SecretRef::BYTES_MAX + 1)
        .read_to_end(&mut bytes)
        .map_err(|error| unreadable(&error))?;
    if bytes.len() as u64 > SecretRef::BYTES_MAX {
        return Err(too_long());
    }
    if bytes.last() == Some(&b'\n') {
        bytes.pop();
        if bytes.last() == Some(&b'\r') {
            bytes.pop();
        }
    }
    if std::str::from_utf8(&bytes).is_err() {
        return Err("not UTF-8 text; write the secret as plain text".to_owned());
    }
    let text = String::from_utf8(std::mem::take(&mut *bytes)).expect("it was found to be UTF-8");
    unless_blank(Secret::new(text), "the file is empty; put the secret in it")
}

fn read_variable(name: &str) -> Result<Secret, String> {
    match env::var(name).map(Secret::new) {
        Ok(secret) if secret.expose().len() as u64 > SecretRef::BYTES_MAX => Err(too_long()),
        Ok(secret) => unless_blank(secret, "it is empty; put the secret in it"),
        Err(env::VarError::NotPresent) => {
            Err("it is not set; set it for this process, or use a file".to_owned())
        }
        Err(env::VarError::NotUnicode(_)) => {
            Err("not UTF-8 text; write the secret as plain text".to_owned())
        }
    }
}

fn unless_blank(secret: Secret, otherwise: &str) -> Result<Secret, String> {
    if secret.is_blank() { Err(otherwise.to_owned()) } else { Ok(secret) }
}

fn too_long() -> String {
    format!("longer than {} bytes; name the file that holds only the secret", SecretRef::BYTES_MAX)
}

fn unreadable(error: &io::Error) -> String {
    match error.kind() {
        io::ErrorKind::NotFound => {
            "no such file; put the secret in that file or correct the path".to_owned()
        }
        io::ErrorKind::PermissionDenied => {
            "permission denied; let the user of this process read it".to_owned()
        }
        // The system's own words for the kind, without the number behind them.
        kind => format!("{kind}; correct the path or mend the file"),
    }
}

/// Room for the longest secret and the byte that shows it to be too long.
const BUFFER: usize = SecretRef::BYTES_MAX as usize + 1;

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;

    fn written(content: &[u8]) -> (tempfile::TempDir, SecretRef) {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("secret");
        fs::write(&path, content).unwrap();
        (directory, SecretRef::File(path))
    }

    #[test]
    fn one_trailing_newline_is_cut_and_nothing_else() {
        let cases: [(&[u8], &str); 5] = [
            (b"invented", "invented"),
            (b"invented\n", "invented"),
            (b"invented\r\n", "invented"),
            (b"invented\n\n", "invented\n"),
            (b" invented ", " invented "),
        ];
        for (content, secret) in cases {
            let (_directory, reference) = written(content);
            assert_eq!(reference.read().unwrap().expose(), secret, "{content:?}");
        }
    }

    #[test]
    fn a_file_without_a_usable_secret_is_refused_with_a_remedy() {
        let long = vec![b'x'; BUFFER];
        let cases: [(&str, &[u8], &str); 4] = [
            ("empty", b"", "the file is empty; put the secret in it"),
            ("blank", b" \n", "the file is empty; put the secret in it"),
            ("binary", b"\xff\xfe", "not UTF-8 text; write the secret as plain text"),
            ("long", &long, "longer than 16384 bytes; name the file that holds only the secret"),
        ];
        for (name, content, reason) in cases {
            let (_directory, reference) = written(content);
            assert_eq!(reference.read().unwrap_err().reason, reason, "{name}");
        }
        let (_directory, reference) = written(&long[1..]);
        assert!(reference.read().is_ok(), "the longest secret is read");
    }

    #[test]
    fn a_directory_or_a_missing_file_is_not_a_secret() {
        let directory = tempfile::tempdir().unwrap();
        let error = SecretRef::File(directory.path().to_owned()).read().unwrap_err();
        assert!(error.reason.starts_with("not a regular file"), "{error}");
        let error = SecretRef::File(directory.path().join("absent")).read().unwrap_err();
        assert!(error.to_string().contains("absent: no such file; put the secret"), "{error}");
    }

    #[test]
    fn a_variable_that_is_not_set_is_named() {
        let error = SecretRef::Env("OAUTH_KEEPALIVE_NEVER_SET".to_owned()).read().unwrap_err();
        assert_eq!(
            error.to_string(),
            "environment variable OAUTH_KEEPALIVE_NEVER_SET: it is not set; \
             set it for this process, or use a file"
        );
        assert!(SecretRef::Env("PATH".to_owned()).read().is_ok());
    }
}
