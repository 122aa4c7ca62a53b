//! Which tokens the provider honours. Pure: it is told the time in milliseconds since the epoch and
//! draws token texts from the operating system; it survives a crash as a JSON file.

use super::log::Refreshed;
use crate::demo::random_hex;
use serde::{Deserialize, Serialize};
use std::{
    collections::{BTreeMap, HashMap},
    time::Duration,
};

/// An instant in milliseconds since the epoch.
pub(super) type Millis = u64;

/// Everything the provider remembers.
#[derive(Serialize, Deserialize)]
pub(super) struct Ledger {
    /// `None` while the app is banned: no secret is right then.
    pub(super) client_secret: Option<String>,
    /// When the ledger was last written.
    pub(super) written_at: Millis,
    pub(super) grants: BTreeMap<String, Consent>,
    /// Whose each token is or was; built on load.
    #[serde(skip)]
    whose: HashMap<String, String>,
    /// Every text that must never be shown, in order of issue.
    #[serde(skip)]
    pub(super) issued: Vec<String>,
}

/// What an account's owner agreed to, and the tokens that came of it.
#[derive(Serialize, Deserialize)]
pub(super) struct Consent {
    pub(super) open_id: String,
    pub(super) scopes: Vec<String>,
    pub(super) given: bool,
    refresh: RefreshToken,
    /// Newest last.
    retired: Vec<RetiredToken>,
    /// Newest last.
    access: Vec<AccessToken>,
}

#[derive(Serialize, Deserialize)]
struct RefreshToken {
    text: String,
    ends_at: Millis,
    /// Its end does not move when it is rotated.
    end_is_fixed: bool,
}

#[derive(Serialize, Deserialize)]
struct RetiredToken {
    text: String,
    retired_at: Millis,
}

#[derive(Clone, Serialize, Deserialize)]
struct AccessToken {
    text: String,
    issued_at: Millis,
    ends_at: Millis,
    /// As they were when it was issued: a permission that is withdrawn shows with the next token.
    scopes: Vec<String>,
}

/// How tokens are issued and honoured.
pub(super) struct Terms {
    pub(super) life: Duration,
    pub(super) refresh_life: Duration,
    pub(super) grace: Duration,
    pub(super) reuse_revokes_family: bool,
}

/// A token as it stands in an answer.
pub(super) struct Pair {
    pub(super) access: String,
    pub(super) issued_at: Millis,
    pub(super) access_ends_at: Millis,
    pub(super) refresh: String,
    pub(super) refresh_ends_at: Millis,
    pub(super) scopes: Vec<String>,
    pub(super) open_id: String,
}

/// What an access token is good for.
pub(super) enum Standing<'a> {
    /// Unknown, expired, or the consent is gone.
    Invalid,
    Valid {
        open_id: &'a str,
        scopes: &'a [String],
    },
}

impl Ledger {
    pub(super) fn new(client_secret: &str) -> Self {
        let mut ledger = Self {
            client_secret: None,
            written_at: 0,
            grants: BTreeMap::new(),
            whose: HashMap::new(),
            issued: Vec::new(),
        };
        ledger.set_secret(client_secret);
        ledger
    }

    /// Reads what an earlier provider wrote. The grace of a token that was retired shortly before the
    /// end starts again: the time in which nobody could ask does not count against it.
    pub(super) fn load(text: &str, now: Millis, grace: Duration) -> serde_json::Result<Self> {
        let mut ledger: Self = serde_json::from_str(text)?;
        let written_at = ledger.written_at;
        for (account, consent) in &mut ledger.grants {
            if let Some(last) = consent.retired.last_mut()
                && written_at < later(last.retired_at, grace)
            {
                last.retired_at = now;
            }
            let tokens = std::iter::once(&consent.refresh.text)
                .chain(consent.retired.iter().map(|token| &token.text))
                .chain(consent.access.iter().map(|token| &token.text));
            for token in tokens {
                ledger.whose.insert(token.clone(), account.clone());
                ledger.issued.push(token.clone());
            }
        }
        ledger.issued.extend(ledger.client_secret.clone());
        Ok(ledger)
    }

    pub(super) fn set_secret(&mut self, secret: &str) {
        self.issued.push(secret.to_owned());
        self.client_secret = Some(secret.to_owned());
    }

    /// The account that a token is or was issued to.
    pub(super) fn whose(&self, token: &str) -> Option<&str> {
        self.whose.get(token).map(String::as_str)
    }

    /// A fresh consent, replacing any earlier one, whose token was issued at `issued_at`.
    pub(super) fn connect(
        &mut self,
        issued_at: Millis,
        account: &str,
        scopes: &[&str],
        terms: &Terms,
    ) {
        let text = self.draw("demo-refresh", account);
        let refresh = RefreshToken {
            text,
            ends_at: later(issued_at, terms.refresh_life),
            end_is_fixed: false,
        };
        let consent = Consent {
            open_id: format!("demo-open-id-{account}"),
            scopes: scopes.iter().map(|scope| (*scope).to_owned()).collect(),
            given: true,
            refresh,
            retired: Vec::new(),
            access: Vec::new(),
        };
        self.grants.insert(account.to_owned(), consent);
        self.issue_access(issued_at, account, terms);
    }

    /// Makes the refresh token end at `ends_at`, however often it is rotated until then.
    pub(super) fn end_refresh_token_at(&mut self, account: &str, ends_at: Millis) {
        if let Some(consent) = self.grants.get_mut(account) {
            consent.refresh.ends_at = ends_at;
            consent.refresh.end_is_fixed = true;
        }
    }

    /// Exchanges a refresh token. With `keep_refresh_token` only the access token is new.
    pub(super) fn redeem(
        &mut self,
        now: Millis,
        presented: &str,
        terms: &Terms,
        keep_refresh_token: bool,
    ) -> (Refreshed, Option<Pair>) {
        let Some(account) = self.whose.get(presented).cloned() else {
            return (Refreshed::Stranger, None);
        };
        let Some(consent) = self.grants.get_mut(&account) else {
            return (Refreshed::Stranger, None);
        };
        if !consent.given {
            return (Refreshed::Revoked, None);
        }
        if let Some(retired) = consent.retired.iter().position(|token| token.text == presented) {
            let is_last = retired + 1 == consent.retired.len();
            let in_grace = now < later(consent.retired[retired].retired_at, terms.grace);
            if is_last && in_grace {
                return (Refreshed::Repeated, self.pair(&account));
            }
            if terms.reuse_revokes_family {
                consent.given = false;
            }
            return (Refreshed::Retired, None);
        }
        if consent.refresh.text != presented {
            // An access token of ours, or a token of a consent that was replaced.
            return (Refreshed::Stranger, None);
        }
        if consent.refresh.ends_at <= now {
            return (Refreshed::Ended, None);
        }
        if !keep_refresh_token {
            self.rotate(now, &account, terms);
        }
        self.issue_access(now, &account, terms);
        let done = if keep_refresh_token { Refreshed::Kept } else { Refreshed::Rotated };
        (done, self.pair(&account))
    }

    /// What `access` is good for now.
    pub(super) fn standing(&self, now: Millis, access: &str) -> Standing<'_> {
        let consent = self.whose(access).and_then(|account| self.grants.get(account));
        let Some(consent) = consent.filter(|consent| consent.given) else {
            return Standing::Invalid;
        };
        match consent.access.iter().find(|token| token.text == access && now < token.ends_at) {
            Some(token) => Standing::Valid { open_id: &consent.open_id, scopes: &token.scopes },
            None => Standing::Invalid,
        }
    }

    /// The newest token of an account.
    pub(super) fn pair(&self, account: &str) -> Option<Pair> {
        let consent = self.grants.get(account)?;
        let access = consent.access.last()?;
        Some(Pair {
            access: access.text.clone(),
            issued_at: access.issued_at,
            access_ends_at: access.ends_at,
            refresh: consent.refresh.text.clone(),
            refresh_ends_at: consent.refresh.ends_at,
            scopes: access.scopes.clone(),
            open_id: consent.open_id.clone(),
        })
    }

    fn rotate(&mut self, now: Millis, account: &str, terms: &Terms) {
        let text = self.draw("demo-refresh", account);
        let Some(consent) = self.grants.get_mut(account) else { return };
        let retired = std::mem::replace(&mut consent.refresh.text, text);
        if !consent.refresh.end_is_fixed {
            consent.refresh.ends_at = later(now, terms.refresh_life);
        }
        if consent.retired.len() == RETIRED_MAX {
            let forgotten = consent.retired.remove(0);
            self.whose.remove(&forgotten.text);
        }
        consent.retired.push(RetiredToken { text: retired, retired_at: now });
    }

    fn issue_access(&mut self, now: Millis, account: &str, terms: &Terms) {
        let text = self.draw("demo-access", account);
        let Some(consent) = self.grants.get_mut(account) else { return };
        if consent.access.len() == ACCESS_MAX {
            let forgotten = consent.access.remove(0);
            self.whose.remove(&forgotten.text);
        }
        let scopes = consent.scopes.clone();
        let ends_at = later(now, terms.life);
        consent.access.push(AccessToken { text, issued_at: now, ends_at, scopes });
    }

    /// A token text that cannot be mistaken for a real one and is found by a search.
    fn draw(&mut self, kind: &str, account: &str) -> String {
        let text = format!("{kind}-{}", random_hex());
        self.whose.insert(text.clone(), account.to_owned());
        self.issued.push(text.clone());
        text
    }
}

fn later(at: Millis, by: Duration) -> Millis {
    at.saturating_add(u64::try_from(by.as_millis()).unwrap_or(u64::MAX))
}

/// Retired refresh tokens that are still recognised, per account.
const RETIRED_MAX: usize = 512;
/// Access tokens that are remembered, per account; the older ones ended long ago.
const ACCESS_MAX: usize = 16;

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: Millis = 1_800_000_000_000;
    const SECOND: Millis = 1_000;

    fn terms(grace: u64) -> Terms {
        Terms {
            life: Duration::from_secs(60),
            refresh_life: Duration::from_secs(3_600),
            grace: Duration::from_secs(grace),
            reuse_revokes_family: false,
        }
    }

    fn ledger(terms: &Terms) -> (Ledger, String) {
        let mut ledger = Ledger::new("demo-secret-invented");
        ledger.connect(NOW, "a", &["user.info.basic"], terms);
        let refresh = ledger.pair("a").unwrap().refresh;
        (ledger, refresh)
    }

    #[test]
    fn a_rotation_retires_the_refresh_token_at_once() {
        let terms = terms(0);
        let (mut ledger, first) = ledger(&terms);
        let (done, pair) = ledger.redeem(NOW, &first, &terms, false);
        assert_eq!(done, Refreshed::Rotated);
        assert_ne!(pair.unwrap().refresh, first);
        assert_eq!(ledger.redeem(NOW, &first, &terms, false).0, Refreshed::Retired);
    }

    #[test]
    fn within_the_grace_the_predecessor_buys_the_same_token_again_and_older_ones_do_not() {
        let terms = terms(30);
        let (mut ledger, first) = ledger(&terms);
        let second = ledger.redeem(NOW, &first, &terms, false).1.unwrap();
        let (done, again) = ledger.redeem(NOW + 29 * SECOND, &first, &terms, false);
        let again = again.unwrap();
        assert_eq!(done, Refreshed::Repeated);
        assert_eq!((again.access, again.refresh), (second.access, second.refresh.clone()));
        assert_eq!(
            ledger.redeem(NOW + 30 * SECOND, &first, &terms, false).0,
            Refreshed::Retired,
            "the grace is over"
        );
        ledger.redeem(NOW + 10 * SECOND, &second.refresh, &terms, false);
        assert_eq!(ledger.redeem(NOW + 11 * SECOND, &first, &terms, false).0, Refreshed::Retired);
    }

    #[test]
    fn reuse_can_cost_the_whole_family() {
        let terms = Terms { reuse_revokes_family: true, ..terms(0) };
        let (mut ledger, first) = ledger(&terms);
        let second = ledger.redeem(NOW, &first, &terms, false).1.unwrap();
        ledger.redeem(NOW, &first, &terms, false);
        assert_eq!(ledger.redeem(NOW, &second.refresh, &terms, false).0, Refreshed::Revoked);
    }

    #[test]
    fn a_fixed_end_does_not_move_with_rotation() {
        let terms = terms(0);
        let (mut ledger, first) = ledger(&terms);
        ledger.end_refresh_token_at("a", NOW + 10 * SECOND);
        let pair = ledger.redeem(NOW + 5 * SECOND, &first, &terms, false).1.unwrap();
        assert_eq!(pair.refresh_ends_at, NOW + 10 * SECOND);
        let (done, _) = ledger.redeem(NOW + 10 * SECOND, &pair.refresh, &terms, false);
        assert_eq!(done, Refreshed::Ended);
    }

    #[test]
    fn a_reloaded_ledger_honours_and_refuses_the_same_tokens() {
        let terms = terms(30);
        let (mut ledger, first) = ledger(&terms);
        let second = ledger.redeem(NOW, &first, &terms, false).1.unwrap();
        ledger.written_at = NOW;
        let text = serde_json::to_string(&ledger).unwrap();

        // An hour later: the grace that was running when the ledger was written starts again.
        let start = NOW + 3_500 * SECOND;
        let mut reloaded = Ledger::load(&text, start, terms.grace).unwrap();
        assert!(matches!(reloaded.standing(NOW, &second.access), Standing::Valid { .. }));
        let done = reloaded.redeem(start + SECOND, &first, &terms, false).0;
        assert_eq!(done, Refreshed::Repeated);
        let done = reloaded.redeem(start + SECOND, &second.refresh, &terms, false).0;
        assert_eq!(done, Refreshed::Rotated);
        assert!(reloaded.issued.contains(&first));
    }
}
