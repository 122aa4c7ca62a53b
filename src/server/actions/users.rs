//! Who may act: names with secrets, which are read when they are compared and kept nowhere.

use crate::{core::Secret, secrets::SecretRef};
use ring::{hmac, rand::SystemRandom};
use std::sync::Arc;

/// Somebody who may act. `config` fills it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct User {
    /// What the log calls him.
    pub name: Arc<str>,
    /// What he logs in with.
    pub secret: SecretRef,
}

/// Somebody who logged in, with a mark of the secret by which he did.
#[derive(Clone)]
pub(super) struct Known {
    pub(super) name: Arc<str>,
    mark: hmac::Tag,
}

/// Everybody who may act.
pub(super) struct Users {
    users: Vec<User>,
    key: hmac::Key,
}

impl Users {
    pub(super) const fn new(users: Vec<User>, key: hmac::Key) -> Self {
        Self { users, key }
    }

    /// Every user is compared, whichever fits, and as a keyed hash: how long an answer takes tells nobody which name
    /// there is, or how much of a secret was right.
    pub(super) fn find(&self, name: &str, secret: &str) -> Option<Known> {
        let sent = self.mark(name, secret);
        let mut found = None;
        for user in &self.users {
            let expected = read(user);
            let fits = self.fits(user, &expected, &sent);
            if fits && found.is_none() {
                found = Some(Known { name: Arc::clone(&user.name), mark: sent });
            }
        }
        found
    }

    /// A session ends when the secret that it began with is changed.
    pub(super) fn still_is(&self, known: &Known) -> bool {
        let user = self.users.iter().find(|user| user.name == known.name);
        user.is_some_and(|user| self.fits(user, &read(user), &known.mark))
    }

    /// A blank secret would let in whoever sends none.
    fn fits(&self, user: &User, expected: &Secret, sent: &hmac::Tag) -> bool {
        let text = marked(&user.name, expected.expose());
        hmac::verify(&self.key, text.expose().as_bytes(), sent.as_ref()).is_ok()
            && !expected.is_blank()
    }

    fn mark(&self, name: &str, secret: &str) -> hmac::Tag {
        hmac::sign(&self.key, marked(name, secret).expose().as_bytes())
    }
}

/// The name's length first, so that no two pairs are one text.
fn marked(name: &str, secret: &str) -> Secret {
    Secret::new(format!("{} {name}{secret}", name.len()))
}

fn read(user: &User) -> Secret {
    user.secret.read().unwrap_or_else(|error| {
        tracing::error!(user = %user.name, %error, "nobody can be this user, because the secret cannot be read");
        Secret::new(String::new())
    })
}

/// Which of the buckets guesses at this name fall into: as hard to aim at for names that nobody has.
pub(super) fn bucket_of(key: &hmac::Key, name: &str) -> usize {
    hmac::sign(key, name.as_bytes()).as_ref()[0].into()
}

pub(super) fn draw_key() -> hmac::Key {
    let key = hmac::Key::generate(hmac::HMAC_SHA256, &SystemRandom::new());
    key.expect("the operating system has random numbers")
}
