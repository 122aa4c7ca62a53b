//! Whether the publisher may publish on an account: open, held, or one publish to prove that it works.
//!
//! What shuts a gate is read from the account itself, so it cannot contradict the cause that is shown. Opening it
//! again takes more than the end of that: a new token that was saved and read back, every scope, and somebody or
//! something that published, or was told by the provider that it could. Absent on purpose: how fast held posts follow,
//! which is the business of whoever hands out permits.

use super::{Account, Busy, Cause, Evidence, Timestamp, cause::Actor};
use std::time::Duration;

/// What the publisher may do.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Gate {
    /// Publish.
    #[default]
    Open,
    /// Nothing: what is due waits.
    Held,
    /// One thing only, to prove the account.
    Canary,
}

impl Gate {
    /// All of them.
    pub const ALL: [Self; 3] = [Self::Open, Self::Held, Self::Canary];

    /// The word for it in labels, answers and state.
    #[must_use]
    pub const fn as_label(self) -> &'static str {
        match self {
            Self::Open => "open",
            Self::Held => "held",
            Self::Canary => "canary",
        }
    }

    /// The gate with this word.
    #[must_use]
    pub fn from_label(label: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|gate| gate.as_label() == label)
    }
}

/// Why a gate is, or was last, held.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Why {
    /// Something is wrong with the account.
    Cause(Cause),
    /// Somebody wanted it so.
    Person,
}

impl Why {
    /// The word for it: the cause's label, or [`BY_HAND`].
    #[must_use]
    pub const fn as_label(self) -> &'static str {
        match self {
            Self::Cause(cause) => cause.as_label(),
            Self::Person => BY_HAND,
        }
    }

    /// The reason with this word.
    #[must_use]
    pub fn from_label(label: &str) -> Option<Self> {
        if label == BY_HAND {
            return Some(Self::Person);
        }
        Cause::from_label(label).map(Self::Cause)
    }
}

/// The word for a gate that a person holds.
pub const BY_HAND: &str = "by_hand";

/// How an account proves that it works before its queue goes on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Proof {
    /// We ask the provider, with a call that publishes nothing.
    Check,
    /// The publisher publishes one thing and says how it went.
    Publish,
    /// The token that was saved and read back is proof enough: nobody can be asked and nobody tells.
    Token,
}

/// The gate of one account, and what is remembered of it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Door {
    /// What the publisher may do.
    pub gate: Gate,
    /// Why it is held or was last.
    pub why: Option<Why>,
    /// Since when `gate` is what it is; `None` while it was never anything but open.
    pub since: Option<Timestamp>,
    /// Somebody said hold, and nobody said resume.
    pub by_hand: bool,
    /// What the provider, or the publisher, said when the account was to be proven last.
    pub refused: Option<Cause>,
    /// What keeps it from being proven, for people; of the last trouble while the gate is open.
    pub objection: Option<Objection>,
    /// Not to be proven before this.
    pub prove_from: Option<Timestamp>,
    /// Attempts in a row that proved nothing.
    pub tries: u8,
    /// The publisher's own status column says that it must not publish.
    pub marked: bool,
    /// The last command that was followed, by its position among all: a command that is told again is not followed
    /// again.
    pub followed: i64,
}

/// Publishing is refused although nothing is wrong with the token. Unlike [`Door::refused`] it outlives the next try.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Objection {
    /// What was said last; never one that a refresh or a reconnect mends, which is the account's own cause.
    pub cause: Cause,
    /// Its owner can do something about it, and nobody else can.
    pub is_owners: bool,
    /// Since when.
    pub since: Timestamp,
    /// How often it was said, without a proof in between.
    pub times: u8,
}

impl Objection {
    /// The same after one more refusal with `evidence`.
    #[must_use]
    pub fn after(before: Option<Self>, evidence: &Evidence, now: Timestamp) -> Self {
        let cause = match evidence.cause.actor() {
            Actor::Operator => evidence.cause,
            // What is said of the token is confirmed or refuted elsewhere; if this goes on, nobody knows why.
            Actor::Owner | Actor::Nobody => Cause::Unknown,
        };
        let is_owners = evidence.detail.as_deref().is_some_and(|what| OWNERS.contains(&what));
        let since = before.map_or(now, |before| before.since);
        let times = before.map_or(0, |before| before.times).saturating_add(1);
        Self { cause, is_owners, since, times }
    }

    /// True when it was said often enough for somebody to hear of it.
    #[must_use]
    pub const fn is_news(&self) -> bool {
        self.times >= TOLD_AFTER
    }
}

/// Words of providers' tables for what only the account's owner can take up with the provider.
const OWNERS: [&str; 1] = ["account_banned_from_posting"];

/// Refusals after which somebody hears of it: a provider may need a moment, and once is often.
const TOLD_AFTER: u8 = 2;

impl Door {
    /// What somebody must hear of: publishing was refused again and again, and the gate is shut for it.
    #[must_use]
    pub fn objected(&self) -> Option<Objection> {
        self.objection.filter(|one| one.is_news() && self.gate != Gate::Open)
    }

    /// True while the publisher's own status column should say that it must not publish. Trouble that no person has
    /// to do with is not written there: most publishers would ask their users to reconnect.
    #[must_use]
    pub fn is_marked(&self, proof: Proof) -> bool {
        let is_for_a_person = match self.why {
            Some(Why::Cause(cause)) => cause.actor() == Actor::Owner,
            Some(Why::Person) => true,
            None => false,
        };
        // A publisher that sees only its column can prove nothing unless it may publish.
        let is_shut = match self.gate {
            Gate::Open => false,
            Gate::Held => true,
            Gate::Canary => proof == Proof::Check,
        };
        is_for_a_person && is_shut
    }

    /// What is kept while the store does not have the account; `None` when nothing keeps its queue from going on as
    /// soon as it comes back. What was said of its last token is not kept.
    #[must_use]
    pub fn kept_away(self) -> Option<Self> {
        let Self { gate, why, since, by_hand, marked, followed, .. } = self;
        let kept = Self { gate, why, since, by_hand, marked, followed, ..Self::default() };
        (by_hand || gate != Gate::Open).then_some(kept)
    }

    /// An attempt to prove the account told nothing, or that it must wait.
    pub fn prove_later(&mut self, at: Timestamp) {
        self.tries = self.tries.saturating_add(1);
        self.prove_from = Some(at);
    }
}

/// What shuts the gate of `account` now, if anything.
#[must_use]
pub fn shut_by(now: Timestamp, account: &Account) -> Option<Why> {
    let door = &account.door;
    let refused = door.refused.filter(|_| door.prove_from.is_some_and(|at| at > now));
    account
        .cause
        .filter(|cause| shuts(*cause, account, now))
        .or(refused)
        .map(Why::Cause)
        .or_else(|| door.by_hand.then_some(Why::Person))
}

/// Design section 6, column *gate*. What may mend itself leaves it open for as long as posts go out.
fn shuts(cause: Cause, account: &Account, now: Timestamp) -> bool {
    match cause {
        Cause::RefreshTokenExpired
        | Cause::RefreshTokenRejected
        | Cause::ConsentRevoked
        | Cause::ScopeMissing
        | Cause::WrongEnvironment
        | Cause::RotationLost
        | Cause::UnsavedToken => true,
        Cause::AppCredentialsRejected
        | Cause::RateLimited
        | Cause::ProviderOutage
        | Cause::StoreUnreachable
        | Cause::NotRenewable
        | Cause::Unknown => !account.is_live(now),
        // The refresh that mends it is under way or due; if that fails, its failure is the cause.
        Cause::AccessTokenExpired | Cause::ClockDrift | Cause::RedirectUriMismatch => false,
    }
}

/// The door of `account` as it should be now. `proof` says how it opens again.
#[must_use]
pub fn door(now: Timestamp, account: &Account, proof: Proof) -> Door {
    let mut old = account.door;
    if old.gate == Gate::Open || account.cause.is_some_and(|cause| cause.actor() == Actor::Owner) {
        // It was of the last trouble, or something is known that says more.
        old.objection = old.objection.filter(|one| account.told == Some(one.cause));
    }
    let moved = |gate, why| Door { gate, why, since: Some(now), ..old };
    match (old.gate, shut_by(now, account)) {
        (Gate::Held, Some(why)) => Door { why: Some(why), ..old },
        (_, Some(why)) => moved(Gate::Held, Some(why)),
        (Gate::Held, None) if is_mended(now, account) => {
            let anew = Door { refused: None, prove_from: None, ..old };
            let tries = if old.refused.is_some() { old.tries } else { 0 };
            let gate = if proof == Proof::Token { Gate::Open } else { Gate::Canary };
            Door { gate, since: Some(now), tries, ..anew }
        }
        (Gate::Canary, None) if proof == Proof::Token => moved(Gate::Open, old.why),
        (Gate::Open | Gate::Held | Gate::Canary, None) => old,
    }
}

/// The account has a token that is in the store and works as far as anybody knows. What only ended, such as an
/// outage, is not enough: nothing was renewed yet.
fn is_mended(now: Timestamp, account: &Account) -> bool {
    let has_token = account.token.is_some_and(|token| token.missing_scopes == 0);
    let is_settled = !account.unsaved && !account.in_doubt && account.busy == Busy::Idle;
    has_token
        && is_settled
        && account.is_live(now)
        && account.verdict.is_none()
        && !account.access_refused
}

/// When the gate may move by itself: where a token that nothing renews any more ends, or a proof is tried again. Or
/// when its people have waited for that long enough.
#[must_use]
pub fn recheck_at(now: Timestamp, account: &Account) -> Option<Timestamp> {
    let ends_at = account.token.and_then(|token| token.expires_at);
    let lapses = ends_at.filter(|_| account.cause.is_some() && account.door.gate != Gate::Held);
    let proves = account.door.prove_from.filter(|_| account.door.gate != Gate::Open);
    let tells = is_nearly_over(now, account).then(|| end_is_told_by(&account.door)).flatten();
    lapses.into_iter().chain(proves).chain(tells).filter(|at| *at > now).min()
}

/// True while nothing is wrong any more and the gate is about to say so: who was told of the trouble hears of its end
/// when posts go out again. Where the proof takes its time they hear of it before that.
#[must_use]
pub fn is_nearly_over(now: Timestamp, account: &Account) -> bool {
    let door = &account.door;
    let is_on_its_way = match door.gate {
        Gate::Open => false,
        // A refused proof is tried again; if it is refused then, that is told.
        Gate::Held => shut_by(now, account) != Some(Why::Person),
        Gate::Canary => end_is_told_by(door).is_none_or(|at| at > now),
    };
    account.told.is_some() && account.cause.is_none() && is_on_its_way
}

fn end_is_told_by(door: &Door) -> Option<Timestamp> {
    door.since.map(|since| since.plus(PROOF_AWAITED_FOR))
}

/// After a proof that told nothing: a quarter of a minute first, and twice as long with each further one.
#[must_use]
pub fn prove_again_after(tries: u8) -> Duration {
    let doubled = 1_u32.checked_shl(u32::from(tries)).unwrap_or(u32::MAX);
    PROVE_AGAIN_FIRST.saturating_mul(doubled).min(PROVE_AGAIN_MAX)
}

/// How long the end of trouble is not told because the account is being proven: longer than a check takes, shorter than
/// the next post may take to be due.
const PROOF_AWAITED_FOR: Duration = Duration::from_secs(10 * 60);

/// The first pause: providers need a moment before a new token counts everywhere.
const PROVE_AGAIN_FIRST: Duration = Duration::from_secs(15);

/// The longest pause between two proofs, with the queue held all the while.
const PROVE_AGAIN_MAX: Duration = Duration::from_secs(15 * 60);

#[cfg(test)]
mod tests {
    use super::*;
    use crate::core::{AccountId, Fingerprint, TokenFacts};

    fn now() -> Timestamp {
        Timestamp::from_unix(1_800_000_000)
    }

    fn at(seconds: i64) -> Timestamp {
        Timestamp::from_unix(now().as_unix() + seconds)
    }

    /// An account whose access token ends after so many seconds.
    fn account(ends_in: i64, change: impl FnOnce(&mut Account)) -> Account {
        let mut account = Account::new(AccountId::new("tiktok", "a"), "main".into());
        account.token = Some(TokenFacts {
            token: Fingerprint::from_hash(1),
            renewable_by: Some(Fingerprint::from_hash(2)),
            issued_at: at(-60),
            expires_at: Some(at(ends_in)),
            refresh_expires_at: None,
            missing_scopes: 0,
        });
        change(&mut account);
        account
    }

    fn held(account: &mut Account) {
        account.door = Door {
            gate: Gate::Held,
            why: Some(Why::Cause(Cause::ConsentRevoked)),
            since: Some(at(-600)),
            ..Door::default()
        };
    }

    #[test]
    fn every_cause_shuts_the_gate_as_the_design_says() {
        use Cause::*;
        let while_it_lives = [
            RefreshTokenExpired,
            RefreshTokenRejected,
            ConsentRevoked,
            ScopeMissing,
            WrongEnvironment,
            RotationLost,
            UnsavedToken,
        ];
        let never = [AccessTokenExpired, ClockDrift, RedirectUriMismatch];
        for cause in Cause::ALL {
            for (ends_in, expected) in
                [(60, while_it_lives.contains(&cause)), (0, !never.contains(&cause))]
            {
                let account = account(ends_in, |account| account.cause = Some(cause));
                let shut = shut_by(now(), &account);
                let why = expected.then_some(Why::Cause(cause));
                assert_eq!(shut, why, "{cause:?}, the access token ends in {ends_in} s");
            }
        }
    }

    #[test]
    fn a_gate_opens_again_only_when_everything_is_mended() {
        type Change = fn(&mut Account);
        let obstacles: [(&str, Change); 8] = [
            ("no token", |a| a.token = None),
            ("a token that has ended", |a| a.token.as_mut().unwrap().expires_at = Some(now())),
            ("a missing scope", |a| a.token.as_mut().unwrap().missing_scopes = 1),
            ("a token that is not saved", |a| a.unsaved = true),
            ("an unknown outcome", |a| a.in_doubt = true),
            ("a call under way", |a| a.busy = Busy::Refreshing),
            ("a verdict", |a| a.verdict = Some(Cause::ConsentRevoked)),
            ("a refused access token", |a| a.access_refused = true),
        ];
        for (name, obstacle) in obstacles {
            let account = account(3_600, |account| {
                held(account);
                obstacle(account);
            });
            for proof in [Proof::Check, Proof::Publish, Proof::Token] {
                let after = door(now(), &account, proof);
                assert_eq!(after, account.door, "{name}, {proof:?}");
            }
        }
        let mended = account(3_600, held);
        for (proof, gate) in [
            (Proof::Check, Gate::Canary),
            (Proof::Publish, Gate::Canary),
            (Proof::Token, Gate::Open),
        ] {
            let after = door(now(), &mended, proof);
            assert_eq!((after.gate, after.since), (gate, Some(now())), "{proof:?}");
            assert_eq!(after.why, Some(Why::Cause(Cause::ConsentRevoked)), "why it was held");
        }
    }

    #[test]
    fn what_is_held_by_hand_is_not_opened_by_good_news() {
        let account = account(3_600, |account| {
            held(account);
            account.door.by_hand = true;
        });
        let after = door(now(), &account, Proof::Check);
        assert_eq!((after.gate, after.why), (Gate::Held, Some(Why::Person)));
        assert_eq!(after.since, Some(at(-600)), "it was held all the while");
    }

    #[test]
    fn trouble_that_lapses_shuts_an_open_gate_at_that_instant() {
        let account = account(60, |account| account.cause = Some(Cause::ProviderOutage));
        assert_eq!(door(now(), &account, Proof::Check).gate, Gate::Open);
        assert_eq!(recheck_at(now(), &account), Some(at(60)));
        assert_eq!(door(at(60), &account, Proof::Check).gate, Gate::Held);
    }

    #[test]
    fn a_refused_proof_holds_for_a_while_and_is_then_tried_again() {
        let mut account = account(3_600, |account| {
            account.door.gate = Gate::Canary;
            account.door.refused = Some(Cause::Unknown);
            account.door.prove_later(at(15));
        });
        account.door = door(now(), &account, Proof::Check);
        assert_eq!(account.door.gate, Gate::Held);
        assert_eq!(recheck_at(now(), &account), Some(at(15)));
        account.door = door(at(15), &account, Proof::Check);
        assert_eq!((account.door.gate, account.door.tries), (Gate::Canary, 1));
    }

    #[test]
    fn the_status_column_says_what_a_person_has_to_do_with() {
        let door = |gate, why| Door { gate, why: Some(why), ..Door::default() };
        let owner = Why::Cause(Cause::ConsentRevoked);
        let outage = Why::Cause(Cause::ProviderOutage);
        let rows = [
            (Gate::Held, owner, Proof::Check, true),
            (Gate::Canary, owner, Proof::Check, true),
            (Gate::Canary, owner, Proof::Publish, false),
            (Gate::Open, owner, Proof::Check, false),
            (Gate::Held, Why::Person, Proof::Token, true),
            (Gate::Held, outage, Proof::Check, false),
        ];
        for (gate, why, proof, expected) in rows {
            assert_eq!(door(gate, why).is_marked(proof), expected, "{gate:?} {why:?} {proof:?}");
        }
    }

    #[test]
    fn pauses_between_proofs_grow_and_end_somewhere() {
        let pauses: Vec<u64> = (0..8).map(|tries| prove_again_after(tries).as_secs()).collect();
        assert_eq!(pauses, [15, 30, 60, 120, 240, 480, 900, 900]);
        assert_eq!(prove_again_after(u8::MAX), PROVE_AGAIN_MAX);
    }

    #[test]
    fn every_word_leads_back() {
        for gate in Gate::ALL {
            assert_eq!(Gate::from_label(gate.as_label()), Some(gate));
        }
        for why in Cause::ALL.map(Why::Cause).into_iter().chain([Why::Person]) {
            assert_eq!(Why::from_label(why.as_label()), Some(why));
        }
    }
}
