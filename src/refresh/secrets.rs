//! The client secrets of an app, and which of them is in use.
//!
//! During a rotation there are two: the provider takes the new one from some moment on, and the old one up
//! to some moment. Nobody here knows when, so the one that was not refused is used, and remembered until it is.

use crate::{
    core::Secret,
    secrets::{SecretError, SecretRef},
};
use std::sync::atomic::{AtomicUsize, Ordering};

/// In the order in which they are tried. Empty for a public client.
#[derive(Debug, Default)]
pub struct Secrets {
    listed: Vec<SecretRef>,
    /// The position of the one that was not refused last.
    in_use: AtomicUsize,
}

/// One of them as it reads now, with its position.
#[derive(Debug)]
pub struct Read {
    /// Its position in the configuration, from zero.
    pub position: usize,
    /// Itself; `None` for a public client.
    pub secret: Option<Secret>,
}

impl From<Vec<SecretRef>> for Secrets {
    fn from(listed: Vec<SecretRef>) -> Self {
        Self { listed, in_use: AtomicUsize::new(0) }
    }
}

impl Secrets {
    /// How many requests can differ by their secret: a public client sends none, once.
    #[must_use]
    pub fn ways(&self) -> usize {
        self.listed.len().max(1)
    }

    /// The position of the one in use; `None` for a public client.
    #[must_use]
    pub fn in_use(&self) -> Option<usize> {
        (!self.listed.is_empty()).then(|| self.in_use.load(Ordering::Relaxed))
    }

    /// The one in use, or the first other that can be read.
    ///
    /// # Errors
    /// Why the one in use cannot be read, when no other can be either.
    pub fn read(&self) -> Result<Read, SecretError> {
        let preferred = self.in_use.load(Ordering::Relaxed);
        self.read_at(preferred).or_else(|error| {
            let others = (0..self.listed.len()).filter(|position| *position != preferred);
            others.map(|position| self.read_at(position)).find_map(Result::ok).ok_or(error)
        })
    }

    /// The one at `position`, which is less than [`Secrets::ways`].
    ///
    /// # Errors
    /// Why it cannot be read.
    pub fn read_at(&self, position: usize) -> Result<Read, SecretError> {
        let secret = self.listed.get(position).map(SecretRef::read).transpose()?;
        Ok(Read { position, secret })
    }

    /// Notes that the provider did not refuse the one at `position`. True when another was in use before.
    pub fn keep(&self, position: usize) -> bool {
        self.in_use.swap(position, Ordering::Relaxed) != position
    }

    /// Notes that the provider refused the one at `position`; the next one is tried with the next request.
    /// Of several requests that were refused together, one makes the step. True for that one, where there
    /// is another to go on to.
    pub fn step_from(&self, position: usize) -> bool {
        let next = (position + 1) % self.ways();
        let stepped =
            self.in_use.compare_exchange(position, next, Ordering::Relaxed, Ordering::Relaxed);
        stepped.is_ok() && next != position
    }

    /// Goes on with what `before` had found out, if they are the same secrets.
    pub fn go_on_from(&self, before: &Self) {
        if self.listed == before.listed {
            self.in_use.store(before.in_use.load(Ordering::Relaxed), Ordering::Relaxed);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;

    fn written(texts: &[&str]) -> (tempfile::TempDir, Secrets) {
        let folder = tempfile::tempdir().unwrap();
        let file = |(nth, text): (usize, &&str)| {
            let path = folder.path().join(format!("secret-{nth}"));
            if !text.is_empty() {
                fs::write(&path, text).unwrap();
            }
            SecretRef::File(path)
        };
        let listed: Vec<SecretRef> = texts.iter().enumerate().map(file).collect();
        (folder, Secrets::from(listed))
    }

    fn read(secrets: &Secrets) -> (usize, String) {
        let Read { position, secret } = secrets.read().unwrap();
        (position, secret.unwrap().expose().to_owned())
    }

    #[test]
    fn the_first_is_used_until_another_was_not_refused_and_that_is_remembered() {
        let (_folder, secrets) = written(&["new", "old"]);
        assert_eq!((secrets.ways(), secrets.in_use()), (2, Some(0)));
        assert_eq!(read(&secrets), (0, "new".to_owned()));
        assert!(secrets.keep(1));
        assert!(!secrets.keep(1), "it was in use before");
        assert_eq!(read(&secrets), (1, "old".to_owned()));
    }

    #[test]
    fn requests_that_were_refused_together_make_one_step() {
        let (_folder, secrets) = written(&["new", "old"]);
        assert!(secrets.step_from(0));
        assert!(!secrets.step_from(0));
        assert_eq!(secrets.in_use(), Some(1));
        assert!(secrets.step_from(1), "from the last it goes back to the first");
        assert_eq!(secrets.in_use(), Some(0));
        let (_folder, alone) = written(&["only"]);
        assert!(!alone.step_from(0));
        assert_eq!(alone.in_use(), Some(0));
    }

    #[test]
    fn one_that_cannot_be_read_is_passed_over_while_another_can() {
        let (_folder, secrets) = written(&["", "old"]);
        assert_eq!(read(&secrets), (1, "old".to_owned()));
        let (_folder, none) = written(&["", ""]);
        let error = none.read().unwrap_err();
        assert!(error.place.ends_with("secret-0"), "{error}");
    }

    #[test]
    fn a_public_client_has_no_secret_and_one_way_to_ask() {
        let secrets = Secrets::default();
        assert_eq!((secrets.ways(), secrets.in_use()), (1, None));
        assert!(secrets.read().unwrap().secret.is_none());
        assert!(!secrets.step_from(0));
    }

    #[test]
    fn a_reload_goes_on_with_the_same_list_and_begins_anew_with_another() {
        let (_folder, before) = written(&["new", "old"]);
        before.keep(1);
        let same = Secrets::from(before.listed.clone());
        same.go_on_from(&before);
        assert_eq!(same.in_use(), Some(1));
        let mut turned = before.listed.clone();
        turned.reverse();
        let turned = Secrets::from(turned);
        turned.go_on_from(&before);
        assert_eq!(turned.in_use(), Some(0));
    }
}
