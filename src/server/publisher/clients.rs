//! Who may ask what: clients by their bearer secrets, with rights and accounts.
//!
//! Every secret is read at each request, so that a changed one works at once, and every one of them is compared,
//! whichever fits: how long an answer takes tells nobody which client was nearly right, or how many there are before
//! it.

use super::problem::{Code, Problem};
use crate::{
    core::{AccountId, Secret, pattern},
    secrets::SecretRef,
};
use hyper::{HeaderMap, header::AUTHORIZATION};
use ring::{hmac, rand::SystemRandom};
use std::sync::Arc;

/// Somebody who may ask. `config` fills it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Client {
    /// What it is called in the log.
    pub name: Arc<str>,
    /// What it sends as `Authorization: Bearer …`.
    pub secret: SecretRef,
    /// What it may do.
    pub rights: Vec<Right>,
    /// Patterns; it may do that with the accounts that one of them matches.
    pub accounts: Vec<String>,
}

/// Something that a client may do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Right {
    /// See accounts, gates and what changes about them.
    Read,
    /// Report what the provider answered.
    Report,
    /// Ask for permits, and say what became of a canary.
    Publish,
    /// Hold an account by hand, and let it go on.
    Hold,
    /// Ask for a refresh now.
    Refresh,
    /// Get access tokens.
    Token,
}

impl Right {
    /// All of them.
    pub const ALL: [Self; 6] =
        [Self::Read, Self::Report, Self::Publish, Self::Hold, Self::Refresh, Self::Token];

    /// The word for it in the configuration.
    #[must_use]
    pub const fn as_label(self) -> &'static str {
        match self {
            Self::Read => "read",
            Self::Report => "report",
            Self::Publish => "publish",
            Self::Hold => "hold",
            Self::Refresh => "refresh",
            Self::Token => "token",
        }
    }

    /// The right with this word.
    #[must_use]
    pub fn from_label(label: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|right| right.as_label() == label)
    }
}

/// Everybody who may ask, and how secrets are compared.
#[derive(Clone)]
pub struct Clients {
    clients: Arc<[Client]>,
    /// Drawn anew by each process. Keyed hashes are compared in a time that does not hang on what they are of.
    key: hmac::Key,
}

impl Clients {
    /// These and nobody else.
    ///
    /// # Panics
    /// When the operating system has no random numbers, which nothing in this program survives.
    #[must_use]
    pub fn new(clients: Vec<Client>) -> Self {
        let key = hmac::Key::generate(hmac::HMAC_SHA256, &SystemRandom::new());
        let key = key.expect("the operating system has random numbers");
        Self { clients: clients.into(), key }
    }

    /// Who sent these headers.
    ///
    /// # Errors
    /// When it is nobody, or when that cannot be known because no secret can be read.
    pub fn identify(&self, headers: &HeaderMap) -> Result<&Client, Problem> {
        let sent = bearer(headers);
        let sent_mark = hmac::sign(&self.key, sent.unwrap_or_default());
        let mut found = None;
        let mut unreadable = 0;
        for client in self.clients.iter() {
            let expected = client.secret.read().unwrap_or_else(|error| {
                tracing::error!(client = %client.name, %error, "nobody can be this client, because its secret cannot be read");
                unreadable += 1;
                Secret::new(String::new())
            });
            let fits = hmac::verify(&self.key, expected.expose().as_bytes(), sent_mark.as_ref());
            // A blank secret would let in whoever sends none. Whoever fits, the others are looked at as well.
            if fits.is_ok() && !expected.is_blank() && sent.is_some() && found.is_none() {
                found = Some(client);
            }
        }
        match found {
            Some(client) => Ok(client),
            None if unreadable > 0 && sent.is_some() => {
                Err(Problem::unavailable("the secrets of clients cannot be read now"))
            }
            None => Err(Problem::new(
                Code::Unauthorized,
                "expected `Authorization: Bearer` and the secret of a client",
            )),
        }
    }
}

impl Client {
    /// # Errors
    /// When it may not do this at all.
    pub fn needs(&self, right: Right) -> Result<(), Problem> {
        self.needs_one_of(&[right])
    }

    /// # Errors
    /// When it may do none of these.
    pub fn needs_one_of(&self, rights: &[Right]) -> Result<(), Problem> {
        if rights.iter().any(|right| self.rights.contains(right)) {
            return Ok(());
        }
        let words: Vec<_> = rights.iter().map(|right| right.as_label()).collect();
        let words = words.join(" or ");
        Err(Problem::new(
            Code::RightMissing,
            format!("expected a client with the right {words}; add it to publisher.clients"),
        ))
    }

    /// True when it may do what it may with this account.
    #[must_use]
    pub fn may_see(&self, id: &AccountId) -> bool {
        let name = id.to_string();
        self.accounts.iter().any(|accounts| pattern::matches(accounts, &name))
    }

    /// # Errors
    /// When this account is none of its own: the same answer whether there is such an account or not.
    pub fn needs_account(&self, id: &AccountId) -> Result<(), Problem> {
        if self.may_see(id) {
            return Ok(());
        }
        Err(Problem::new(
            Code::AccountNotYours,
            "expected an account that one of the client's patterns matches",
        ))
    }
}

/// The only bearer secret; of two nobody knows which was meant.
fn bearer(headers: &HeaderMap) -> Option<&[u8]> {
    let mut all = headers.get_all(AUTHORIZATION).iter();
    let value = all.next().filter(|_| all.next().is_none())?;
    let (scheme, secret) = value.as_bytes().split_at_checked("Bearer ".len())?;
    scheme.eq_ignore_ascii_case(b"Bearer ").then_some(secret)
}
