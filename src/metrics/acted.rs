//! What people did from the status page.

use super::events::{Metrics, listed};
use prometheus_client::{
    encoding::EncodeLabelSet,
    metrics::{counter::Counter, family::Family},
    registry::Registry,
};

/// Counters of the status page's actions.
pub(super) type Acts = Family<Act, Counter>;

pub(super) fn acts(list: &mut Registry) -> Acts {
    listed(
        list,
        "actions",
        "What people did from the status page, by what came of it",
        Family::default(),
    )
}

/// Something that people do there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Acted {
    /// Logging in.
    LogIn,
    /// Logging out.
    LogOut,
    /// Holding an account.
    Hold,
    /// Letting it go on.
    Resume,
    /// Refreshing it.
    Refresh,
    /// Getting the link by which its owner connects it.
    Link,
}

impl Acted {
    const ALL: [Self; 6] =
        [Self::LogIn, Self::LogOut, Self::Hold, Self::Resume, Self::Refresh, Self::Link];

    /// The word for it.
    #[must_use]
    pub const fn as_label(self) -> &'static str {
        match self {
            Self::LogIn => "login",
            Self::LogOut => "logout",
            Self::Hold => "hold",
            Self::Resume => "resume",
            Self::Refresh => "refresh",
            Self::Link => "link",
        }
    }
}

/// What came of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ActionResult {
    /// What was asked for; an order is written down.
    Done,
    /// Nothing: a wrong secret, too many attempts, no session, or not a form of ours.
    Refused,
    /// Nothing, although it was asked for rightly: no such account, or it could not be written down.
    Failed,
}

impl ActionResult {
    const ALL: [Self; 3] = [Self::Done, Self::Refused, Self::Failed];

    /// The word for it.
    #[must_use]
    pub const fn as_label(self) -> &'static str {
        match self {
            Self::Done => "done",
            Self::Refused => "refused",
            Self::Failed => "failed",
        }
    }
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
pub(super) struct Act {
    action: &'static str,
    result: &'static str,
}

impl Metrics {
    /// Makes the series of actions that are switched on.
    pub fn expect_actions(&self) {
        for action in Acted::ALL {
            for result in ActionResult::ALL {
                drop(self.acts.get_or_create(&Act::of(action, result)));
            }
        }
    }

    /// Counts an action.
    pub fn acted(&self, action: Acted, result: ActionResult) {
        self.acts.get_or_create(&Act::of(action, result)).inc();
    }
}

impl Act {
    const fn of(action: Acted, result: ActionResult) -> Self {
        Self { action: action.as_label(), result: result.as_label() }
    }
}
