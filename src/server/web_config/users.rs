//! Who may come: names with bcrypt hashes, and how much of the machine guessing them may take.
//!
//! A hash is slow on purpose. Who was right once is known again by a keyed mark, so that a scrape costs no hash; who
//! is not known waits in a short line, so that wrong passwords occupy one thread and never all of them; and a
//! name that nobody has takes as long as one that somebody has.

use crate::{
    core::Secret,
    server::answer::{Answer, text},
};
use base64::{Engine as _, engine::general_purpose::STANDARD};
use hyper::{
    HeaderMap, StatusCode,
    header::{AUTHORIZATION, HeaderValue, RETRY_AFTER, WWW_AUTHENTICATE},
};
use ring::{hmac, rand::SystemRandom};
use std::{
    collections::{BTreeMap, VecDeque},
    fmt,
    sync::{Arc, Mutex, PoisonError},
};
use tokio::sync::Semaphore;
use zeroize::Zeroizing;

/// A bcrypt hash of a password.
#[derive(Clone, PartialEq, Eq)]
pub struct Hash(Arc<str>);

/// Why a text is no hash of ours.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum WrongHash {
    /// It is none, or one of another kind.
    NotBcrypt,
    /// Its cost is beyond [`COST_MAX`].
    TooDear(u32),
}

impl Hash {
    /// Takes `$2a$`, `$2b$` and `$2y$`.
    ///
    /// # Errors
    /// When it is something else, or too dear.
    pub fn parse(text: &str) -> Result<Self, WrongHash> {
        // 2x is what one old program made wrongly; here it would be computed as if it were right, and fit nobody.
        let parts: bcrypt::HashParts =
            text.parse().ok().filter(|_| !text.starts_with("$2x$")).ok_or(WrongHash::NotBcrypt)?;
        match parts.get_cost() {
            ..COST_MIN => Err(WrongHash::NotBcrypt),
            COST_MIN..=COST_MAX => Ok(Self(text.into())),
            cost => Err(WrongHash::TooDear(cost)),
        }
    }

    /// One that no password fits, and that takes as long.
    fn of_nobody(cost: u32) -> Self {
        Self(format!("$2b${cost:02}${:.<53}", "").into())
    }

    fn cost(&self) -> u32 {
        self.0.parse::<bcrypt::HashParts>().map_or(COST_MIN, |parts| parts.get_cost())
    }

    fn fits(&self, password: &str) -> bool {
        bcrypt::verify(password, &self.0).unwrap_or(false)
    }
}

impl fmt::Debug for Hash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Hash(…)")
    }
}

/// Everybody who may come.
#[derive(Clone, Debug)]
pub struct Users {
    hashes: BTreeMap<String, Hash>,
    /// For names that nobody has.
    nobody: Hash,
}

impl Default for Users {
    fn default() -> Self {
        Self::new(BTreeMap::new())
    }
}

impl Users {
    /// These and nobody else; everybody when there is none.
    #[must_use]
    pub fn new(hashes: BTreeMap<String, Hash>) -> Self {
        let dearest = hashes.values().map(Hash::cost).max().unwrap_or(COST_MIN);
        Self { hashes, nobody: Hash::of_nobody(dearest) }
    }

    /// True when everybody may come.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.hashes.is_empty()
    }
}

/// Lets users in.
pub(super) struct Door {
    /// Drawn anew by each process.
    key: hmac::Key,
    /// Marks of name, password and hash that were found to belong together; the oldest first.
    known: Mutex<VecDeque<hmac::Tag>>,
    /// Who computes a hash.
    turn: Arc<Semaphore>,
    /// Who waits for that, and who does it.
    line: Arc<Semaphore>,
}

/// Nobody comes in by this request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Refusal {
    /// It names nobody, or has the wrong password.
    Unknown,
    /// Too many wait to be looked at.
    Busy,
}

impl Refusal {
    pub(super) fn answer(self) -> Answer {
        match self {
            Self::Unknown => {
                let mut answer =
                    text(StatusCode::UNAUTHORIZED, "A user name and its password are needed here.");
                let challenge =
                    HeaderValue::from_static("Basic realm=\"oauth-keepalive\", charset=\"UTF-8\"");
                answer.headers_mut().insert(WWW_AUTHENTICATE, challenge);
                answer
            }
            Self::Busy => {
                let sentence = "Too many passwords wait to be looked at; come again.";
                let mut answer = text(StatusCode::SERVICE_UNAVAILABLE, sentence);
                answer
                    .headers_mut()
                    .insert(RETRY_AFTER, HeaderValue::from_static(RETRY_AFTER_SECONDS));
                answer
            }
        }
    }
}

impl Door {
    pub(super) fn new() -> Self {
        let key = hmac::Key::generate(hmac::HMAC_SHA256, &SystemRandom::new());
        Self {
            key: key.expect("the operating system has random numbers"),
            known: Mutex::default(),
            turn: Arc::new(Semaphore::new(HASHES_AT_ONCE_MAX)),
            line: Arc::new(Semaphore::new(HASHES_WAITING_MAX)),
        }
    }

    /// Says whether these headers are one of `users`.
    pub(super) async fn admit(&self, users: &Users, headers: &HeaderMap) -> Result<(), Refusal> {
        if users.is_empty() {
            return Ok(());
        }
        let (name, password) = credentials(headers).ok_or(Refusal::Unknown)?;
        let found = users.hashes.get(&name);
        let hash = found.unwrap_or(&users.nobody).clone();
        let mark = self.mark(&name, &password, &hash);
        if self.knows(&mark) {
            return Ok(());
        }
        let place = Arc::clone(&self.line).try_acquire_owned().map_err(|_| Refusal::Busy)?;
        let turn = Arc::clone(&self.turn).acquire_owned().await.map_err(|_| Refusal::Busy)?;
        // Of several that came together the first was looked at meanwhile.
        if self.knows(&mark) {
            return Ok(());
        }
        let looked = tokio::task::spawn_blocking(move || {
            let fits = hash.fits(password.expose());
            // Held to here: whoever hangs up does not make room for another hash before this one is computed.
            drop((turn, place));
            fits
        });
        match (looked.await, found) {
            (Ok(true), Some(_)) => {
                self.remember(mark);
                Ok(())
            }
            _ => Err(Refusal::Unknown),
        }
    }

    /// The hash is part of it, so that who was removed, or has another password now, is not known any more.
    fn mark(&self, name: &str, password: &Secret, hash: &Hash) -> hmac::Tag {
        let mut context = hmac::Context::with_key(&self.key);
        for part in [name, password.expose(), &hash.0] {
            // Its length first, so that no two lists of parts are one text.
            context.update(&(part.len() as u64).to_be_bytes());
            context.update(part.as_bytes());
        }
        context.sign()
    }

    fn knows(&self, mark: &hmac::Tag) -> bool {
        let known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        known.iter().any(|known| known.as_ref() == mark.as_ref())
    }

    fn remember(&self, mark: hmac::Tag) {
        let mut known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        if known.len() >= KNOWN_MAX {
            known.pop_front();
        }
        known.push_back(mark);
    }
}

/// What `Authorization: Basic` says (RFC 7617 section 2); of two such headers nobody knows which was meant.
fn credentials(headers: &HeaderMap) -> Option<(String, Secret)> {
    let mut all = headers.get_all(AUTHORIZATION).iter();
    let value = all.next().filter(|_| all.next().is_none())?;
    let (scheme, encoded) = value.as_bytes().split_at_checked("Basic ".len())?;
    if !scheme.eq_ignore_ascii_case(b"Basic ") {
        return None;
    }
    let decoded = Zeroizing::new(STANDARD.decode(encoded.trim_ascii()).ok()?);
    // A name has no colon, a password may.
    let (name, password) = std::str::from_utf8(&decoded).ok()?.split_once(':')?;
    Some((name.to_owned(), Secret::new(password.to_owned())))
}

/// Most users of one web configuration.
pub const USERS_MAX: usize = 64;

/// Dearest hash that is taken: each step doubles the time, and this one is most of a second.
pub const COST_MAX: u32 = 14;

/// Cheapest hash that there is.
const COST_MIN: u32 = 4;

/// Hashes that are computed side by side, each on a thread of those for slow work.
const HASHES_AT_ONCE_MAX: usize = 1;

/// Requests whose passwords are being looked at or wait for that; further ones are asked to come again.
const HASHES_WAITING_MAX: usize = 16;

/// Marks that are kept: one for each user and, in between two passwords, some more.
const KNOWN_MAX: usize = 2 * USERS_MAX;

const RETRY_AFTER_SECONDS: &str = "5";

#[cfg(test)]
mod tests {
    use super::*;

    /// As cheap as a hash can be: the tests' binary is not optimised.
    fn users(all: &[(&str, &str)]) -> Users {
        let hash = |password| Hash::parse(&bcrypt::hash(password, COST_MIN).unwrap()).unwrap();
        Users::new(
            all.iter().map(|(name, password)| ((*name).to_owned(), hash(password))).collect(),
        )
    }

    fn basic(credentials: &str) -> HeaderMap {
        let value = format!("Basic {}", STANDARD.encode(credentials));
        HeaderMap::from_iter([(AUTHORIZATION, value.parse().unwrap())])
    }

    #[tokio::test]
    async fn whoever_has_a_name_and_its_password_comes_in_and_nobody_else() {
        let door = Door::new();
        let users = users(&[("scraper", "invented:one"), ("ops", "invented-two")]);
        let cases = [
            ("scraper:invented:one", Ok(())),
            ("ops:invented-two", Ok(())),
            ("ops:invented:one", Err(Refusal::Unknown)),
            ("ops:", Err(Refusal::Unknown)),
            (":invented-two", Err(Refusal::Unknown)),
            ("nobody:invented-two", Err(Refusal::Unknown)),
            ("ops:invented-two ", Err(Refusal::Unknown)),
            ("ops", Err(Refusal::Unknown)),
            ("", Err(Refusal::Unknown)),
        ];
        for _ in 0..2 {
            for (credentials, expected) in cases {
                let admitted = door.admit(&users, &basic(credentials)).await;
                assert_eq!(admitted, expected, "{credentials}");
            }
        }
        assert_eq!(
            door.known.lock().unwrap().len(),
            2,
            "only who was right is remembered, and once"
        );
        assert_eq!(door.admit(&users, &HeaderMap::new()).await, Err(Refusal::Unknown));
        assert_eq!(door.admit(&Users::default(), &HeaderMap::new()).await, Ok(()));
    }

    #[tokio::test]
    async fn headers_that_are_not_basic_and_two_of_them_are_nobody() {
        let door = Door::new();
        let users = users(&[("ops", "invented")]);
        let encoded = STANDARD.encode("ops:invented");
        let one = |text: String| HeaderMap::from_iter([(AUTHORIZATION, text.parse().unwrap())]);
        for text in
            [format!("Bearer {encoded}"), encoded.clone(), "Basic".into(), "Basic %%%".into()]
        {
            assert_eq!(
                door.admit(&users, &one(text.clone())).await,
                Err(Refusal::Unknown),
                "{text}"
            );
        }
        assert_eq!(door.admit(&users, &one(format!("bAsIc {encoded}"))).await, Ok(()));
        let mut two = basic("ops:invented");
        two.append(AUTHORIZATION, format!("Basic {encoded}").parse().unwrap());
        assert_eq!(door.admit(&users, &two).await, Err(Refusal::Unknown));
    }

    #[tokio::test]
    async fn a_password_that_was_right_is_not_right_under_another_hash() {
        let door = Door::new();
        let headers = basic("ops:invented");
        assert_eq!(door.admit(&users(&[("ops", "invented")]), &headers).await, Ok(()));
        let later = users(&[("ops", "another")]);
        assert_eq!(door.admit(&later, &headers).await, Err(Refusal::Unknown));
        let gone = users(&[("scraper", "invented")]);
        assert_eq!(door.admit(&gone, &headers).await, Err(Refusal::Unknown));
    }

    #[tokio::test]
    async fn a_flood_of_wrong_passwords_waits_in_a_short_line_and_whoever_is_known_passes_it() {
        let door = Arc::new(Door::new());
        let users = Arc::new(users(&[("scraper", "invented")]));
        assert_eq!(door.admit(&users, &basic("scraper:invented")).await, Ok(()));
        // Nobody gets a turn, as while a dear hash is computed.
        let turn = Arc::clone(&door.turn).acquire_owned().await.unwrap();
        let guess = |nth: usize| {
            let (door, users) = (Arc::clone(&door), Arc::clone(&users));
            async move { door.admit(&users, &basic(&format!("scraper:guess-{nth}"))).await }
        };
        let mut waiting = tokio::task::JoinSet::new();
        for nth in 0..HASHES_WAITING_MAX {
            waiting.spawn(guess(nth));
        }
        while door.line.available_permits() > 0 {
            tokio::task::yield_now().await;
        }
        assert_eq!(guess(99).await, Err(Refusal::Busy));
        assert_eq!(door.admit(&users, &basic("scraper:invented")).await, Ok(()));
        drop(turn);
        while let Some(guessed) = waiting.join_next().await {
            assert_eq!(guessed.unwrap(), Err(Refusal::Unknown));
        }
        assert_eq!(door.line.available_permits(), HASHES_WAITING_MAX, "every place is free again");
    }

    #[tokio::test]
    async fn what_is_remembered_is_bounded() {
        let door = Door::new();
        for nth in 0..=KNOWN_MAX {
            let mark = hmac::sign(&door.key, &nth.to_be_bytes());
            door.remember(mark);
        }
        assert_eq!(door.known.lock().unwrap().len(), KNOWN_MAX);
        assert!(!door.knows(&hmac::sign(&door.key, &0_usize.to_be_bytes())), "the oldest is gone");
        assert!(door.knows(&hmac::sign(&door.key, &KNOWN_MAX.to_be_bytes())));
    }

    #[test]
    fn a_name_that_nobody_has_takes_as_long_as_the_dearest_that_somebody_has() {
        let mixed: BTreeMap<_, _> = [("a", 4), ("b", 6)]
            .map(|(name, cost)| (name.to_owned(), Hash::of_nobody(cost)))
            .into();
        assert_eq!(Users::new(mixed).nobody.cost(), 6);
        assert!(!Hash::of_nobody(COST_MIN).fits(""));
    }

    #[test]
    fn hashes_of_other_kinds_and_too_dear_ones_are_refused() {
        let right = bcrypt::hash("invented", COST_MIN).unwrap();
        for prefix in ["$2a$", "$2b$", "$2y$"] {
            assert!(Hash::parse(&right.replacen("$2b$", prefix, 1)).unwrap().fits("invented"));
        }
        let with_cost = |cost: &str| right.replacen("$04$", &format!("${cost}$"), 1);
        let cases = [
            (right.replacen("$2b$", "$2x$", 1), WrongHash::NotBcrypt),
            ("$argon2id$v=19$m=1$c2FsdA$aGFzaA".to_owned(), WrongHash::NotBcrypt),
            ("invented".to_owned(), WrongHash::NotBcrypt),
            (right[1..].to_owned(), WrongHash::NotBcrypt),
            (with_cost("03"), WrongHash::NotBcrypt),
            (with_cost("15"), WrongHash::TooDear(15)),
            (with_cost("31"), WrongHash::TooDear(31)),
        ];
        for (text, expected) in cases {
            assert_eq!(Hash::parse(&text), Err(expected), "{text}");
        }
        assert!(Hash::parse(&with_cost("14")).is_ok());
        assert_eq!(format!("{:?}", Hash::parse(&right).unwrap()), "Hash(…)");
    }
}
