//! Who must hear what: of each incident its beginning, a few reminders while it lasts, and its end. What goes
//! into one mail is decided in [`super::digest`].

use super::{Account, AccountId, Cause, Evidence, Gate, Timestamp, cause::Actor, diagnose::Step};
use std::{fmt, sync::Arc, time::Duration};

/// What a notice is about.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Subject {
    /// One account.
    Account(AccountId),
    /// One app, with all its accounts.
    App(Arc<str>),
    /// The token store.
    Store,
    /// The machine or the sidecar itself.
    Host,
}

impl fmt::Display for Subject {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Account(id) => write!(f, "account {id}"),
            Self::App(app) => write!(f, "app {app}"),
            Self::Store => f.write_str("token store"),
            Self::Host => f.write_str("sidecar"),
        }
    }
}

/// Who receives it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Audience {
    /// The account's owner: they can act.
    Owner,
    /// Whoever runs the sidecar: only they can act.
    Operator,
}

impl Audience {
    /// The word for it in the log.
    #[must_use]
    pub const fn as_label(self) -> &'static str {
        match self {
            Self::Owner => "owner",
            Self::Operator => "operator",
        }
    }
}

/// Which way the trouble went.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Change {
    /// It began.
    Firing,
    /// It lasts, and was told of a while ago.
    Reminder,
    /// It is over.
    Resolved,
    /// It is of no interest any more: the account left the store or was switched off. Nobody is mailed.
    Withdrawn,
}

/// One thing to tell. It has no field that could hold a token or an address.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Notice {
    /// What it is about.
    pub subject: Subject,
    /// What is, or was, wrong.
    pub cause: Cause,
    /// Which way it went.
    pub change: Change,
    /// Who hears it.
    pub audience: Audience,
    /// When the trouble began.
    pub since: Timestamp,
    /// When this notice was decided.
    pub at: Timestamp,
    /// When the access token ends, where that is known: until then posts still go out.
    pub expires_at: Option<Timestamp>,
    /// What the provider said, if anything.
    pub evidence: Option<Arc<Evidence>>,
    /// What its reader is to do, where the evidence says more than the cause; the cause's own step otherwise.
    pub step: Option<Step>,
    /// Names of required scopes that are not granted.
    pub missing_scopes: Vec<Arc<str>>,
    /// How many accounts share the trouble: 1 for an account, all of its accounts for an app.
    pub accounts: usize,
    /// How many planned posts cannot go out while it lasts, where the publisher's store can tell.
    pub posts_at_risk: Option<u32>,
    /// What the publisher may do with the account meanwhile; open for what is about no account.
    pub gate: Gate,
}

/// How a notice gets to somebody.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Way {
    /// By the mail server.
    Mail,
    /// By a request to a webhook.
    Webhook,
}

impl Way {
    /// The word for it in state and metrics.
    #[must_use]
    pub const fn as_label(self) -> &'static str {
        match self {
            Self::Mail => "mail",
            Self::Webhook => "webhook",
        }
    }
}

impl Change {
    /// All of them.
    pub const ALL: [Self; 4] = [Self::Firing, Self::Reminder, Self::Resolved, Self::Withdrawn];

    /// The word for it in state, metrics and webhooks.
    #[must_use]
    pub const fn as_label(self) -> &'static str {
        match self {
            Self::Firing => "firing",
            Self::Reminder => "reminder",
            Self::Resolved => "resolved",
            Self::Withdrawn => "withdrawn",
        }
    }

    /// The change with this label.
    #[must_use]
    pub fn from_label(label: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|change| change.as_label() == label)
    }

    /// True while the trouble lasts.
    #[must_use]
    pub const fn is_trouble(self) -> bool {
        matches!(self, Self::Firing | Self::Reminder)
    }
}

/// True when `firing` is called to mind after some days. An end that is announced has words of its own, which
/// come closer together as it comes closer.
#[must_use]
pub fn is_called_to_mind(firing: &Notice) -> bool {
    let is_announced = firing.cause == Cause::NotRenewable
        && firing.expires_at.is_some_and(|end| !end.has_come(firing.at));
    !is_announced
}

/// How many reminders of an incident that was told at `told_at` are behind it at `now`. `gaps` are ages of the
/// incident, rising. Whoever slept through two of them sends one.
#[must_use]
pub fn reminders_by(told_at: Timestamp, now: Timestamp, gaps: &[Duration]) -> usize {
    gaps.iter().filter(|gap| told_at.plus(**gap).has_come(now)).count()
}

/// True for what waits for no digest and no cap: a token may be lost by waiting.
#[must_use]
pub const fn is_urgent(cause: Cause, change: Change) -> bool {
    matches!(cause, Cause::UnsavedToken) && change.is_trouble()
}

/// Who must hear of `account`'s trouble now, if anybody. `in_danger` says that the token has entered its
/// danger margin, or ended: before that, trouble that mends itself is nobody's mail.
#[must_use]
pub fn audience(account: &Account, in_danger: bool) -> Option<Audience> {
    let cause = account.cause?;
    // The app's own notice speaks for all its accounts; a hundred owners can do nothing about a secret.
    if cause.blast_radius() == super::cause::BlastRadius::App {
        return None;
    }
    match cause.actor() {
        Actor::Owner => Some(Audience::Owner),
        // Expiry alone is mended by the refresh that follows it; if that fails, the failure is the cause.
        Actor::Nobody if cause == Cause::AccessTokenExpired => None,
        Actor::Nobody => in_danger.then_some(Audience::Operator),
        Actor::Operator => match cause {
            Cause::UnsavedToken | Cause::WrongEnvironment => Some(Audience::Operator),
            // The store's own notice speaks for all accounts.
            Cause::StoreUnreachable | Cause::ClockDrift => None,
            _ => in_danger.then_some(Audience::Operator),
        },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_cause_reaches_the_person_who_can_act_and_nobody_else() {
        let cases = [
            (Cause::ConsentRevoked, false, Some(Audience::Owner)),
            (Cause::RefreshTokenExpired, false, Some(Audience::Owner)),
            (Cause::ScopeMissing, false, Some(Audience::Owner)),
            (Cause::NotRenewable, false, Some(Audience::Owner)),
            (Cause::UnsavedToken, false, Some(Audience::Operator)),
            (Cause::WrongEnvironment, false, Some(Audience::Operator)),
            // The app's notice and the store's notice speak for their accounts.
            (Cause::AppCredentialsRejected, true, None),
            (Cause::StoreUnreachable, true, None),
            // Transient trouble is never death.
            (Cause::AccessTokenExpired, true, None),
            (Cause::ProviderOutage, false, None),
            (Cause::RateLimited, false, None),
            (Cause::Unknown, false, None),
            (Cause::ProviderOutage, true, Some(Audience::Operator)),
            (Cause::RateLimited, true, Some(Audience::Operator)),
            (Cause::Unknown, true, Some(Audience::Operator)),
        ];
        for (cause, in_danger, expected) in cases {
            let mut account = Account::new(AccountId::new("tiktok", "a"), "main".into());
            account.cause = Some(cause);
            assert_eq!(
                audience(&account, in_danger),
                expected,
                "{cause:?}, in danger: {in_danger}"
            );
        }
    }

    #[test]
    fn reminders_come_at_widening_ages_and_end() {
        let day = Duration::from_secs(86_400);
        let gaps = [day, day * 3, day * 7];
        let told_at = Timestamp::from_unix(1_000_000);
        let cases =
            [(0, 0), (86_399, 0), (86_400, 1), (3 * 86_400, 2), (6 * 86_400, 2), (400 * 86_400, 3)];
        for (seconds, expected) in cases {
            let now = told_at.plus(Duration::from_secs(seconds));
            assert_eq!(reminders_by(told_at, now, &gaps), expected, "after {seconds} s");
        }
        assert_eq!(reminders_by(told_at, told_at.plus(day), &[]), 0, "none are wanted");
    }

    #[test]
    fn a_healthy_account_is_no_news() {
        let account = Account::new(AccountId::new("tiktok", "a"), "main".into());
        assert_eq!(audience(&account, true), None);
    }
}
