//! Who is logged in. The table is on our side and bounded; the browser holds a random ticket, and we a hash of it.

use super::{What, users::Known};
use crate::core::{AccountId, Secret};
use base64::{Engine as _, prelude::BASE64_URL_SAFE_NO_PAD};
use hyper::{
    HeaderMap,
    header::{COOKIE, HeaderValue},
};
use ring::{
    digest,
    rand::{SecureRandom as _, SystemRandom},
};
use std::{collections::HashMap, time::Duration};
use tokio::time::Instant;

/// What a browser shows to be known again, 256 random bits as text.
pub(super) struct Ticket {
    text: Secret,
    /// By which name of a cookie it came.
    is_secure: bool,
}

type Digest = [u8; digest::SHA256_OUTPUT_LEN];

impl Ticket {
    fn drawn(is_secure: bool) -> Self {
        let mut bytes = [0; TICKET_BYTES];
        SystemRandom::new().fill(&mut bytes).expect("the operating system has random numbers");
        Self { text: Secret::new(text_of(&bytes)), is_secure }
    }

    /// The one that these headers hold. The name of a secure one says that no other host, and nothing unencrypted, can
    /// have put it there (RFC 6265bis section 4.1.3.2), so it goes first.
    pub(super) fn of(headers: &HeaderMap) -> Option<Self> {
        let of_name = |is_secure| {
            let all = headers.get_all(COOKIE).iter().filter_map(|header| header.to_str().ok());
            let mut pairs = all.flat_map(|header| header.split(';'));
            let text = pairs.find_map(|pair| {
                let (name, value) = pair.trim().split_once('=')?;
                (name == cookie_name(is_secure) && value.len() == TICKET_CHARS).then_some(value)
            })?;
            Some(Self { text: Secret::new(text.to_owned()), is_secure })
        };
        of_name(true).or_else(|| of_name(false))
    }

    /// Puts it into the browser: out of reach of scripts and of what other sites send.
    pub(super) fn cookie(&self, is_secure: bool) -> HeaderValue {
        cookie(is_secure, self.text.expose(), "")
    }

    /// Takes it away from there.
    pub(super) fn no_cookie(is_secure: bool) -> HeaderValue {
        cookie(is_secure, "", "; Max-Age=0")
    }

    /// What a mark of the session is made of; never the ticket itself, which no page may hold.
    pub(super) fn marked(&self) -> [u8; digest::SHA256_OUTPUT_LEN] {
        let mut context = digest::Context::new(&digest::SHA256);
        context.update(b"form ");
        context.update(self.text.expose().as_bytes());
        bytes(&context.finish())
    }

    fn digest(&self) -> Digest {
        bytes(&digest::digest(&digest::SHA256, self.text.expose().as_bytes()))
    }
}

fn bytes(digest: &digest::Digest) -> Digest {
    digest.as_ref().try_into().expect("a SHA-256 digest has its length")
}

fn cookie(is_secure: bool, value: &str, more: &str) -> HeaderValue {
    let secure = if is_secure { "; Secure" } else { "" };
    let name = cookie_name(is_secure);
    let text = format!("{name}={value}; Path=/; HttpOnly; SameSite=Strict{secure}{more}");
    let mut header = HeaderValue::from_str(&text).expect("a ticket is plain text");
    header.set_sensitive(true);
    header
}

const fn cookie_name(is_secure: bool) -> &'static str {
    if is_secure { "__Host-oauth-keepalive" } else { "oauth-keepalive" }
}

/// Somebody who is logged in.
#[derive(Clone)]
pub(super) struct Session {
    pub(super) user: Known,
    /// It began over TLS, and is not taken from a cookie that did not.
    pub(super) is_secure: bool,
    /// What came of the last action, and of which account it is.
    said: Option<(AccountId, Said, Instant)>,
    began: Instant,
    used: Instant,
}

impl Session {
    /// What the page of this account has to say, while that is news.
    pub(super) fn said(&self, id: &AccountId, now: Instant) -> Option<Said> {
        let (whose, said, at) = self.said.as_ref()?;
        (whose == id && now.duration_since(*at) < SAID_FOR).then_some(*said)
    }
}

/// What came of an action.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Said {
    Held,
    Resumed,
    Refreshed,
    RefreshedBefore,
    NotWritten,
}

impl Said {
    /// What is said when the order is written down; `is_new` unless it was before.
    pub(super) const fn of(what: What, is_new: bool) -> Self {
        match what {
            What::Resume => Self::Resumed,
            What::Refresh if is_new => Self::Refreshed,
            What::Refresh => Self::RefreshedBefore,
            What::Hold | What::Link | What::LogIn | What::LogOut => Self::Held,
        }
    }

    pub(super) const fn sentence(self) -> &'static str {
        match self {
            Self::Held => {
                "Written down: the account is held within a second, and nothing is published on it until somebody resumes it."
            }
            Self::Resumed => {
                "Written down: the account goes on as soon as it is proven, which begins within a second."
            }
            Self::Refreshed => {
                "Written down: its token is refreshed within a second, unless the provider wants to be left alone."
            }
            Self::RefreshedBefore => {
                "A refresh was asked for within the last minute already; nothing more was written down."
            }
            Self::NotWritten => {
                "It could not be written down, and nothing happens; try again in a moment."
            }
        }
    }
}

/// Everybody who is logged in.
pub(super) struct Sessions {
    all: HashMap<Digest, Session>,
    idle: Duration,
    life: Duration,
}

impl Sessions {
    pub(super) fn new(idle: Duration, life: Duration) -> Self {
        Self { all: HashMap::new(), idle, life }
    }

    /// Begins one. Where there are too many, the one that was not used for longest ends.
    pub(super) fn begin(&mut self, user: Known, is_secure: bool, now: Instant) -> Ticket {
        let (idle, life) = (self.idle, self.life);
        self.all.retain(|_, session| is_good(session, idle, life, now));
        if self.all.len() >= SESSIONS_MAX {
            let oldest = self.all.iter().min_by_key(|(_, session)| session.used);
            if let Some(digest) = oldest.map(|(digest, _)| *digest) {
                self.all.remove(&digest);
            }
        }
        let ticket = Ticket::drawn(is_secure);
        let session = Session { user, is_secure, said: None, began: now, used: now };
        self.all.insert(ticket.digest(), session);
        ticket
    }

    /// The session of a ticket. Looking does not prolong it: a page that reloads itself would never let it end.
    pub(super) fn find(&self, ticket: &Ticket, now: Instant) -> Option<Session> {
        let session = self.all.get(&ticket.digest())?;
        let is_good = is_good(session, self.idle, self.life, now);
        (is_good && session.is_secure == ticket.is_secure).then(|| session.clone())
    }

    /// Something was done in it.
    pub(super) fn used(&mut self, ticket: &Ticket, now: Instant) {
        if let Some(session) = self.all.get_mut(&ticket.digest()) {
            session.used = now;
        }
    }

    /// What the next look at this account's page says.
    pub(super) fn say(&mut self, ticket: &Ticket, id: &AccountId, said: Said, now: Instant) {
        if let Some(session) = self.all.get_mut(&ticket.digest()) {
            session.said = Some((id.clone(), said, now));
        }
    }

    pub(super) fn end(&mut self, ticket: &Ticket) {
        self.all.remove(&ticket.digest());
    }
}

fn is_good(session: &Session, idle: Duration, life: Duration, now: Instant) -> bool {
    now.duration_since(session.used) < idle && now.duration_since(session.began) < life
}

pub(super) fn text_of(bytes: &[u8]) -> String {
    BASE64_URL_SAFE_NO_PAD.encode(bytes)
}

pub(super) fn bytes_of(text: &str) -> Option<Vec<u8>> {
    BASE64_URL_SAFE_NO_PAD.decode(text).ok()
}

/// People who are logged in at one time.
pub(super) const SESSIONS_MAX: usize = 64;

const TICKET_BYTES: usize = 32;

/// As text.
const TICKET_CHARS: usize = 43;

/// For how long it is told what came of an action.
const SAID_FOR: Duration = Duration::from_secs(60);

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{secrets::SecretRef, server::actions::users};
    use std::sync::Arc;

    const IDLE: Duration = Duration::from_secs(30);
    const LIFE: Duration = Duration::from_secs(100);

    fn somebody() -> Known {
        let user =
            users::User { name: Arc::from("ops"), secret: SecretRef::Env("PATH".to_owned()) };
        let secret = user.secret.read().unwrap();
        users::Users::new(vec![user], users::draw_key()).find("ops", secret.expose()).unwrap()
    }

    fn shown(name: &str, value: &str) -> HeaderMap {
        HeaderMap::from_iter([(COOKIE, format!("a=b; {name}={value}").parse().unwrap())])
    }

    #[test]
    fn a_session_ends_when_nothing_is_done_in_it_and_at_its_age_whatever_is_done() {
        let begin = Instant::now();
        let mut sessions = Sessions::new(IDLE, LIFE);
        let idle = sessions.begin(somebody(), true, begin);
        let busy = sessions.begin(somebody(), true, begin);
        let mut now = begin;
        while now + IDLE / 2 < begin + LIFE {
            now += IDLE / 2;
            assert!(sessions.find(&busy, now).is_some(), "{:?}", now - begin);
            // Looking is not doing.
            assert_eq!(sessions.find(&idle, now).is_some(), now - begin < IDLE);
            sessions.used(&busy, now);
        }
        assert!(sessions.find(&busy, begin + LIFE).is_none());
        let next = sessions.begin(somebody(), true, begin + LIFE);
        assert_eq!(sessions.all.len(), 1, "what has ended is forgotten");
        sessions.end(&next);
        assert!(sessions.all.is_empty());
    }

    #[test]
    fn the_table_is_bounded_and_who_did_nothing_for_longest_makes_room() {
        let begin = Instant::now();
        let mut sessions = Sessions::new(Duration::from_secs(10_000), Duration::from_secs(10_000));
        let first = sessions.begin(somebody(), true, begin);
        let second = sessions.begin(somebody(), true, begin);
        sessions.used(&first, begin + Duration::from_secs(1));
        for _ in 2..=SESSIONS_MAX {
            sessions.begin(somebody(), true, begin + Duration::from_secs(2));
        }
        assert_eq!(sessions.all.len(), SESSIONS_MAX);
        let now = begin + Duration::from_secs(3);
        assert!(sessions.find(&first, now).is_some() && sessions.find(&second, now).is_none());
    }

    #[test]
    fn a_ticket_is_known_by_the_cookie_of_its_own_kind_and_by_no_other() {
        let now = Instant::now();
        let mut sessions = Sessions::new(IDLE, LIFE);
        for (is_secure, own, other) in [
            (true, "__Host-oauth-keepalive", "oauth-keepalive"),
            (false, "oauth-keepalive", "__Host-oauth-keepalive"),
        ] {
            let ticket = sessions.begin(somebody(), is_secure, now);
            let text = ticket.text.expose();
            let found = |name, value: &str| {
                let ticket = Ticket::of(&shown(name, value));
                ticket.is_some_and(|ticket| sessions.find(&ticket, now).is_some())
            };
            assert!(found(own, text));
            assert!(!found(other, text) && !found("x-oauth-keepalive", text));
            assert!(!found(own, &text[1..]) && !found(own, &"A".repeat(TICKET_CHARS)));
            let cookie = ticket.cookie(is_secure);
            let cookie = cookie.to_str().unwrap();
            assert!(cookie.contains("; Path=/; HttpOnly; SameSite=Strict"), "{cookie}");
            assert_eq!(cookie.contains("; Secure"), is_secure, "{cookie}");
        }
        assert_ne!(Ticket::drawn(true).text.expose(), Ticket::drawn(true).text.expose());
    }

    #[test]
    fn what_came_of_an_action_is_news_on_that_account_s_page_for_a_while() {
        let now = Instant::now();
        let mut sessions = Sessions::new(LIFE, LIFE);
        let ticket = sessions.begin(somebody(), false, now);
        let [a, b] = ["a", "b"].map(|account| AccountId::new("tiktok", account));
        sessions.say(&ticket, &a, Said::Held, now);
        let session = sessions.find(&ticket, now).unwrap();
        assert_eq!(session.said(&a, now), Some(Said::Held));
        assert_eq!(session.said(&b, now), None);
        assert_eq!(session.said(&a, now + SAID_FOR), None);
    }
}
