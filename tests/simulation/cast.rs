//! Who takes part, and what is really so: accounts, their grants at the provider, their rows in the
//! store, and what the sidecar was told about each.

use oauth_keepalive::core::{
    AccountId, Cause, Fingerprint, Proof, Timestamp, TokenFacts,
    decide::{App, Probe},
};
use std::time::Duration;

pub(crate) const HOUR: i64 = 3_600;
pub(crate) const DAY: i64 = 24 * HOUR;

/// What the provider does with a refresh token.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Renewal {
    /// Each renewal retires it; a retired one that comes back is theft and ends the grant.
    Rotates,
    /// It stays.
    Keeps,
    /// There is none: the access token extends itself while it lives.
    Extends,
}

/// One provider with its one app.
pub(crate) struct Kind {
    pub(crate) name: &'static str,
    pub(crate) life: i64,
    pub(crate) renewal: Renewal,
    pub(crate) grant_life: Option<i64>,
    pub(crate) can_probe: bool,
    /// Whether it may be asked about its app.
    pub(crate) can_be_asked: bool,
    pub(crate) min_age: i64,
}

pub(crate) const KINDS: [Kind; 4] = [
    Kind {
        name: "strict",
        life: 2 * HOUR,
        renewal: Renewal::Rotates,
        grant_life: None,
        can_probe: true,
        can_be_asked: true,
        min_age: 0,
    },
    Kind {
        name: "daily",
        life: DAY,
        renewal: Renewal::Rotates,
        grant_life: None,
        can_probe: false,
        can_be_asked: false,
        min_age: 0,
    },
    Kind {
        name: "lasting",
        life: 60 * DAY,
        renewal: Renewal::Extends,
        grant_life: None,
        can_probe: true,
        can_be_asked: false,
        min_age: DAY,
    },
    Kind {
        name: "keeping",
        life: 6 * HOUR,
        renewal: Renewal::Keeps,
        grant_life: Some(40 * DAY),
        can_probe: true,
        can_be_asked: true,
        min_age: 0,
    },
];

impl Kind {
    pub(crate) fn app(&self) -> App {
        App {
            name: self.name.into(),
            provider: self.name.into(),
            server: self.name.into(),
            scopes: ["video.publish".into()].into(),
            min_age: Duration::from_secs(self.min_age as u64),
            only_while_live: self.renewal == Renewal::Extends,
            retry_is_safe: self.renewal == Renewal::Keeps,
            probe: if self.can_probe { Probe::Free } else { Probe::None },
            proof: if self.can_probe { Proof::Check } else { Proof::Token },
            is_sandbox: false,
            can_be_asked: self.can_be_asked,
            assumed: Default::default(),
        }
    }
}

/// A token; its number says all there is to know about its text. Later tokens have higher numbers.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Token {
    pub(crate) number: u64,
    /// What renews it, as a number; `None` when its publisher lost that.
    pub(crate) renewed_by: Option<u64>,
    pub(crate) issued_at: i64,
    pub(crate) expires_at: i64,
    pub(crate) grant_ends_at: Option<i64>,
    pub(crate) scope_missing: bool,
}

impl Token {
    pub(crate) fn facts(&self) -> TokenFacts {
        TokenFacts {
            token: Fingerprint::from_hash(self.number),
            renewable_by: self.renewed_by.map(|by| Fingerprint::from_hash(by + (1 << 40))),
            issued_at: at(self.issued_at),
            expires_at: Some(at(self.expires_at)),
            refresh_expires_at: self.grant_ends_at.map(at),
            missing_scopes: u32::from(self.scope_missing),
        }
    }

    pub(crate) const fn life(&self) -> i64 {
        self.expires_at - self.issued_at
    }
}

pub(crate) fn at(seconds: i64) -> Timestamp {
    Timestamp::from_unix(seconds)
}

/// An attempt that is written down and not closed.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Entry {
    pub(crate) old: u64,
    pub(crate) over_at: i64,
    pub(crate) probed: bool,
    pub(crate) result: Option<Token>,
    /// Since when it has a result; saving must follow soon.
    pub(crate) since: i64,
    /// True once the fleet knows that the outcome is unknown.
    pub(crate) told_in_doubt: bool,
}

/// One account, seen from everywhere.
pub(crate) struct Player {
    pub(crate) id: AccountId,
    pub(crate) kind: &'static Kind,
    // What is so at the provider.
    pub(crate) alive: bool,
    /// The newest token of the grant; the only one that a rotating provider accepts.
    pub(crate) current: u64,
    pub(crate) rotated_at: i64,
    /// The access token is refused although nobody declared its end.
    pub(crate) access_dead: bool,
    // What is so in the store.
    pub(crate) row: Option<Token>,
    pub(crate) left_at: i64,
    // What is so in our state.
    pub(crate) entry: Option<Entry>,
    // What the sidecar was told, from which follows what it must not do.
    /// The newest token that reached the fleet.
    pub(crate) reached: u64,
    /// The token that was called dead, and as what.
    pub(crate) dead: Option<(u64, Cause)>,
    /// The token for which the one probe was spent.
    pub(crate) probed: Option<u64>,
    /// The token whose renewal failed last, when the fleet heard, and until when it must stay away.
    pub(crate) failed: Option<(u64, i64, i64)>,
    /// When the free check was last begun, and on which token.
    pub(crate) checked: Option<(u64, i64)>,
    /// The last fault that touched it.
    pub(crate) trouble_at: i64,
    /// A crash tore a notice and its memory apart: what follows may be told or tried twice.
    pub(crate) torn: bool,
    /// What the publisher's status column says.
    pub(crate) connected: bool,
    pub(crate) refreshes: u64,
}

impl Player {
    pub(crate) fn new(index: usize, kind: &'static Kind) -> Self {
        Self {
            id: AccountId::new(kind.name, format!("brand-{index:04}")),
            kind,
            alive: false,
            current: 0,
            rotated_at: 0,
            access_dead: false,
            row: None,
            left_at: 0,
            entry: None,
            reached: 0,
            dead: None,
            probed: None,
            failed: None,
            checked: None,
            trouble_at: 0,
            torn: false,
            connected: true,
            refreshes: 0,
        }
    }

    /// The newest token that exists on our side: in the store, or in the journal on its way there.
    pub(crate) fn ours(&self) -> Option<Token> {
        self.entry.and_then(|entry| entry.result).or(self.row)
    }

    /// True when the sidecar can keep it alive, whatever happens to be in the way just now.
    pub(crate) fn can_be_kept(&self, now: i64) -> bool {
        let Some(token) = self.ours() else { return false };
        let accepted = self.kind.renewal != Renewal::Rotates || token.number == self.current;
        self.alive
            && accepted
            && token.renewed_by.is_some()
            && !token.scope_missing
            && !self.access_dead
            && self.dead.is_none_or(|(number, _)| number != token.number)
            && token.grant_ends_at.is_none_or(|end| now < end)
    }

    /// The causes that are true of an account that can be kept: that its grant ends is announced three weeks ahead
    /// at the most, and with a ninth of its life left in any case, whatever could be learnt of it until then.
    pub(crate) fn announced_causes(&self, now: i64) -> Vec<Option<Cause>> {
        let end = self.ours().and_then(|token| token.grant_ends_at);
        let (Some(life), Some(end)) = (self.kind.grant_life, end) else { return vec![None] };
        let announced = Some(Cause::NotRenewable);
        match end - now {
            left if left > ANNOUNCED_FROM => vec![None],
            left if left > life / 9 - SLACK => vec![None, announced],
            _ => vec![announced],
        }
    }

    /// The causes that are true of an account that cannot be kept.
    pub(crate) fn true_causes(&self, now: i64) -> Vec<Option<Cause>> {
        let Some(token) = self.ours() else { return vec![Some(Cause::NotRenewable)] };
        let mut causes = Vec::new();
        if token.grant_ends_at.is_some_and(|end| now >= end) {
            causes.push(Some(Cause::RefreshTokenExpired));
        }
        if let Some((_, cause)) = self.dead.filter(|(number, _)| *number == token.number) {
            // Rejected before the grant's end stays rejected when that end passes; after it, it ended.
            causes.push(Some(cause));
            return causes;
        }
        if token.scope_missing {
            causes.push(Some(Cause::ScopeMissing));
        }
        if token.renewed_by.is_none() {
            causes.push(Some(Cause::NotRenewable));
            if !token.scope_missing {
                causes.push(None);
            }
        }
        if causes.is_empty() {
            // It is broken at the provider, and the next renewal will find out.
            causes.push(None);
        }
        causes
    }
}

/// No end is announced earlier.
pub(crate) const ANNOUNCED_FROM: i64 = 21 * DAY;

/// A grant is seen a little after it was given.
const SLACK: i64 = 3_600;
