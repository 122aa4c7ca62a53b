//! What may be known about an account. Nothing in this file can hold a token.

use super::{
    Cause, Door, History, Recent, Timestamp,
    second_clock::{Differs, End, Watched},
    timeline::SLEW_SECONDS_MAX,
};
use std::{fmt, num::NonZeroU64, sync::Arc, time::Duration};

/// One login at one provider. Written `provider/account` wherever a person types or reads it.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct AccountId {
    /// The provider's name in the catalogue or the configuration, such as `tiktok`.
    pub provider: Arc<str>,
    /// The account's key in the publisher's store.
    pub account: Arc<str>,
}

impl AccountId {
    /// Longest account key that is accepted, in bytes. It becomes a label on every series.
    pub const ACCOUNT_BYTES_MAX: usize = 256;

    /// Names an account. The caller has checked that neither part is empty: an empty label value
    /// disappears in Prometheus, and two accounts would become one.
    #[must_use]
    pub fn new(provider: impl Into<Arc<str>>, account: impl Into<Arc<str>>) -> Self {
        Self { provider: provider.into(), account: account.into() }
    }

    /// Reads `provider/account` as [`fmt::Display`] writes it; the account itself may contain slashes.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        let (provider, account) = text.split_once('/')?;
        let fits =
            !provider.is_empty() && !account.is_empty() && account.len() <= Self::ACCOUNT_BYTES_MAX;
        fits.then(|| Self::new(provider, account))
    }
}

impl fmt::Display for AccountId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.provider, self.account)
    }
}

impl fmt::Debug for AccountId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// Keyed hash of a token: tells two tokens apart, tells nothing about either. Safe to show and to log.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct Fingerprint(NonZeroU64);

impl Fingerprint {
    /// Of no token: what a row must hold into which a first one is saved.
    pub const NONE: Self = Self::from_hash(0);

    /// From the first eight bytes of the keyed hash. Zero is folded into one so that "no token" costs
    /// no room.
    #[must_use]
    pub const fn from_hash(hash: u64) -> Self {
        match NonZeroU64::new(hash) {
            Some(hash) => Self(hash),
            None => Self(NonZeroU64::MIN),
        }
    }

    /// The hash as a number, for our own tables.
    #[must_use]
    pub const fn as_hash(self) -> u64 {
        self.0.get()
    }
}

impl fmt::Display for Fingerprint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:016x}", self.0)
    }
}

impl fmt::Debug for Fingerprint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// What may be known about a token: everything but the token.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TokenFacts {
    /// Of access and refresh token together: changes when either does.
    pub token: Fingerprint,
    /// Of the refresh token alone, or of the access token where that is what renews itself; `None`
    /// when nothing can renew this token.
    pub renewable_by: Option<Fingerprint>,
    /// When the provider issued it; the moment it was first seen where nobody recorded that.
    pub issued_at: Timestamp,
    /// The access token's declared end; `None` when nobody declared one.
    pub expires_at: Option<Timestamp>,
    /// The refresh token's declared end; `None` when nobody declared one.
    pub refresh_expires_at: Option<Timestamp>,
    /// One bit per scope that the app requires and the provider did not grant, in the order of the
    /// app's list; zero when the granted scopes are unknown.
    pub missing_scopes: u32,
}

impl TokenFacts {
    /// The same token as it must be counted where it is `now`.
    ///
    /// Nothing is issued later than now: where it seems so, whoever wrote the instants down had a clock that
    /// is ahead of ours, or ours was set back since, and its ends are too late by the same. Believed as they
    /// stand, they would have the token renewed after it died.
    #[must_use]
    pub fn as_seen(mut self, now: Timestamp) -> Self {
        let ahead = self.issued_at.since(now);
        if ahead > Duration::from_secs(SLEW_SECONDS_MAX.unsigned_abs()) {
            let back = |at: Timestamp| at.minus(ahead);
            self.issued_at = now;
            self.expires_at = self.expires_at.map(back);
            self.refresh_expires_at = self.refresh_expires_at.map(back);
        }
        self
    }

    /// The declared life of the access token.
    #[must_use]
    pub fn life(&self) -> Option<Duration> {
        self.expires_at.map(|end| end.since(self.issued_at)).filter(|life| !life.is_zero())
    }
}

/// One thing at a time per account, so that "refreshing and saving at once" cannot be written.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub enum Busy {
    /// Nothing is under way.
    #[default]
    Idle,
    /// A refresh has been handed to the shell and has not come back.
    Refreshing,
    /// A token that was received is being saved again.
    Saving,
    /// The access token is being tried at the provider's free check.
    Probing,
    /// The provider is being asked whether the account could publish.
    Proving,
}

/// What the provider said or the network did, with everything cut away that could hold a secret.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Evidence {
    /// What it amounts to.
    pub cause: Cause,
    /// A finer word from the provider's own table, such as `session_policy`.
    pub detail: Option<Arc<str>>,
    /// The provider's error code, only where its table knows the code; never free text.
    pub code: Option<Arc<str>>,
    /// The provider's request id for its support desk, filtered to harmless characters.
    pub log_id: Option<Arc<str>>,
    /// HTTP status, where there was an answer.
    pub status: Option<u16>,
    /// When it was seen.
    pub at: Timestamp,
    /// How long the provider asked us to stay away.
    pub retry_after: Option<Duration>,
    /// True when the answer concerns the app, and so every account of it.
    pub app_wide: bool,
}

/// The [`detail`](Evidence::detail) of evidence that is ours and no provider's: accounts of one app are refused one
/// after the other.
pub const FAIL_TOGETHER: &str = "accounts_fail_together";

impl Evidence {
    /// Evidence of `cause` with nothing else known.
    #[must_use]
    pub fn of(cause: Cause, at: Timestamp) -> Self {
        Self {
            cause,
            detail: None,
            code: None,
            log_id: None,
            status: None,
            at,
            retry_after: None,
            app_wide: false,
        }
    }
}

/// HTTP answers the publisher had from the provider's API, counted since this process started.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Responses([u32; Self::CODES.len()]);

impl Responses {
    /// The status codes that are told apart; the last entry is everything else. A fixed list, because
    /// each is a series per account.
    pub const CODES: [&'static str; 5] = ["200", "401", "403", "429", "other"];

    /// Counts `times` answers with `status`.
    pub fn count(&mut self, status: u16, times: u32) {
        let index = Self::index(status);
        self.0[index] = self.0[index].saturating_add(times);
    }

    /// The entry of [`Responses::CODES`] that `status` is counted under.
    #[must_use]
    pub const fn code(status: u16) -> &'static str {
        Self::CODES[Self::index(status)]
    }

    const fn index(status: u16) -> usize {
        match status {
            200..=299 => 0,
            401 => 1,
            403 => 2,
            429 => 3,
            _ => 4,
        }
    }

    /// Each code with its count, in a fixed order.
    pub fn iter(&self) -> impl Iterator<Item = (&'static str, u32)> + '_ {
        Self::CODES.into_iter().zip(self.0)
    }

    /// How many 401s.
    #[must_use]
    pub const fn unauthorized(&self) -> u32 {
        self.0[1]
    }
}

/// What is remembered about an account from one start to the next.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Memory {
    /// Which account.
    pub id: AccountId,
    /// The token that the rest is about; with another token in the store, its instants are void.
    pub token: Option<TokenFacts>,
    /// When a refresh last succeeded.
    pub last_refresh_at: Option<Timestamp>,
    /// What is wrong.
    pub cause: Option<Cause>,
    /// Since when.
    pub cause_since: Option<Timestamp>,
    /// The cause that somebody was told about.
    pub told: Option<Cause>,
    /// Since when what they were told of holds.
    pub told_since: Option<Timestamp>,
    /// Refreshes that failed in a row.
    pub failed_in_a_row: u16,
    /// Not to be tried before this.
    pub not_before: Option<Timestamp>,
    /// When the store was first seen to hold the account.
    pub first_seen_at: Option<Timestamp>,
    /// Its gate; `None` leaves what is remembered of that as it is.
    pub door: Option<Door>,
    /// Since when the store does not have it; then nothing but its gate is remembered.
    pub left: Option<Timestamp>,
}

/// What stays of an account that the store does not have any more.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Farewell {
    /// Which account.
    pub id: AccountId,
    /// Its gate, if that must be as it was should the account come back.
    pub kept: Option<KeptGate>,
}

/// The gate of an account that the store does not have at present.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct KeptGate {
    /// As it was.
    pub door: Door,
    /// Since when the store does not have the account.
    pub left: Timestamp,
}

impl Farewell {
    /// Nothing stays.
    #[must_use]
    pub const fn for_good(id: AccountId) -> Self {
        Self { id, kept: None }
    }
}

/// An account as the fleet holds it and as everybody else may see it. A million of these must fit, so
/// times are four bytes and rare things are behind one pointer.
#[derive(Clone, Debug)]
pub struct Account {
    /// Which account.
    pub id: AccountId,
    /// The client registration it was connected through.
    pub app: Arc<str>,
    /// The token the store holds, or the one we hold for it while it is unsaved; `None` when the store
    /// has a row without a token. Written on load and after each refresh.
    pub token: Option<TokenFacts>,
    /// What is wrong now; `None` while it is healthy. Written by the fleet only.
    pub cause: Option<Cause>,
    /// Since when `cause` holds.
    pub cause_since: Option<Timestamp>,
    /// What the provider said about this very token, beyond mending by a refresh; void as soon as
    /// somebody else's token appears in the store. `cause` is derived from it.
    pub verdict: Option<Cause>,
    /// True when the provider itself refused this access token, whatever its declared end says.
    pub access_refused: bool,
    /// The pass over the store in which this account was last seen.
    pub seen_in: u32,
    /// The pass over the store during which we last changed this account's token: what that pass read
    /// of it may be older than what we wrote.
    pub changed_in: u32,
    /// Whether the publisher may publish, and why not.
    pub door: Door,
    /// What the last failure looked like. It stays after recovery: "what was it yesterday?".
    pub last_failure: Option<Arc<Evidence>>,
    /// What happened to it, for whoever asks later; `None` where nothing ever did.
    pub history: Option<Arc<History>>,
    /// What happened to it since this process looks after it, for its page.
    pub recent: Option<Arc<Recent>>,
    /// When the store was first seen to hold it, in this run or an earlier one.
    pub first_seen_at: Option<Timestamp>,
    /// When a refresh last put a new token into the store.
    pub last_refresh_at: Option<Timestamp>,
    /// Not to be tried before this, after a failure or on the provider's request.
    pub not_before: Option<Timestamp>,
    /// When its next refresh is due by the token's own life; `None` when nothing can renew it.
    pub due_at: Option<Timestamp>,
    /// When the fleet must look at this account again; `None` when only an event can change anything.
    pub recheck_at: Option<Timestamp>,
    /// When the publisher last reported a 401 for this token that has not been answered yet.
    pub questioned_at: Option<Timestamp>,
    /// When a 401 last led to a confirmation, so that it does so once per margin.
    pub confirmed_at: Option<Timestamp>,
    /// The cause that somebody was told about and that has not been resolved yet.
    pub told: Option<Cause>,
    /// Since when what they were told of holds.
    pub told_since: Option<Timestamp>,
    /// Refreshes that failed in a row.
    pub failed_in_a_row: u16,
    /// What was seen of the refresh token's declared ends. What it came to is kept in the history.
    pub watched: Watched,
    /// The refresh token's own end, as far as it is known. Written at each look.
    pub refresh_end: Option<End>,
    /// By how much the store contradicts what is known of its token's ends. Written when a pass reads it.
    pub differs: Differs,
    /// What is under way.
    pub busy: Busy,
    /// True while a token was received that the store has not taken.
    pub unsaved: bool,
    /// True while the outcome of the last request is not known; it is settled by one probe.
    pub in_doubt: bool,
    /// What renewed the token before this one, and was spent for it: seen in the store again, it is nobody's
    /// new consent.
    pub replaced: Option<Fingerprint>,
    /// True while the store holds that one, and ours must be put back.
    pub written_back: bool,
    /// Its owner connected it by a link of ours, and the token of that has not been found in the store yet.
    pub reconnected: bool,
    /// How often in a row ours had to be put back.
    pub restores: u8,
    /// When it last was.
    pub restored_at: Option<Timestamp>,
    /// Publish answers by status code.
    pub responses: Responses,
    /// Requests to the token endpoint that ended since this process started.
    pub refresh_attempts: u32,
    /// Refresh requests that did not bring a new token, by cause; allocated with the first failure.
    pub refresh_failures: Option<Arc<[u32; Cause::ALL.len()]>>,
}

impl Account {
    /// An account about which nothing is known but its name.
    #[must_use]
    pub fn new(id: AccountId, app: Arc<str>) -> Self {
        Self {
            id,
            app,
            token: None,
            cause: None,
            cause_since: None,
            verdict: None,
            access_refused: false,
            seen_in: 0,
            changed_in: 0,
            door: Door::default(),
            last_failure: None,
            history: None,
            recent: None,
            first_seen_at: None,
            last_refresh_at: None,
            not_before: None,
            due_at: None,
            recheck_at: None,
            questioned_at: None,
            confirmed_at: None,
            told: None,
            told_since: None,
            failed_in_a_row: 0,
            watched: Watched::default(),
            refresh_end: None,
            differs: Differs::default(),
            busy: Busy::Idle,
            unsaved: false,
            in_doubt: false,
            replaced: None,
            written_back: false,
            reconnected: false,
            restores: 0,
            restored_at: None,
            responses: Responses::default(),
            refresh_attempts: 0,
            refresh_failures: None,
        }
    }

    /// True when `theirs` is renewed by what was spent for the token that we know.
    #[must_use]
    pub fn has_replaced(&self, theirs: &TokenFacts) -> bool {
        let known = self.token.and_then(|token| token.renewable_by);
        self.replaced.is_some() && theirs.renewable_by == self.replaced && known != self.replaced
    }

    /// Takes over a token that a refresh brought.
    pub fn replace_token(&mut self, new: TokenFacts) {
        let old = self.token.replace(new).and_then(|old| old.renewable_by);
        // A provider that hands the same refresh token out again has spent nothing.
        if old.is_some() && old != new.renewable_by {
            self.replaced = old;
        }
        self.reconnected = false;
    }

    /// What must be known of this account after a restart.
    #[must_use]
    pub fn memory(&self) -> Memory {
        Memory {
            id: self.id.clone(),
            token: self.token,
            last_refresh_at: self.last_refresh_at,
            cause: self.cause,
            cause_since: self.cause_since,
            told: self.told,
            told_since: self.told_since,
            failed_in_a_row: self.failed_in_a_row,
            not_before: self.not_before,
            first_seen_at: self.first_seen_at,
            door: Some(self.door),
            left: None,
        }
    }

    /// When the access token was last tried, by ourselves.
    #[must_use]
    pub fn checked_at(&self) -> Option<Timestamp> {
        self.history.as_ref()?.check.map(|check| check.at)
    }

    /// The share of its declared life that the access token has left, from 1 down to 0; `None` when no
    /// end was declared.
    #[must_use]
    pub fn life_left(&self, now: Timestamp) -> Option<f64> {
        let token = self.token?;
        let left = token.expires_at?.since(now).as_secs_f64();
        Some((left / token.life()?.as_secs_f64()).min(1.0))
    }

    /// True while the access token has not reached its declared end. A token without a declared end
    /// counts as live: "unknown" is not "never" and not "over".
    #[must_use]
    pub fn is_live(&self, now: Timestamp) -> bool {
        self.token.is_some_and(|token| token.expires_at.is_none_or(|end| now < end))
    }
}
