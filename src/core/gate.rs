//! May the publisher publish on an account: yes, no, or one post that proves it.

use super::{Cause, Timestamp};

/// May the publisher publish on an account.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Gate {
    /// Yes.
    #[default]
    Open,
    /// No.
    Held,
    /// One post, or one read-only question, that proves the account.
    Canary,
}

impl Gate {
    /// All of them.
    pub const ALL: [Self; 3] = [Self::Open, Self::Held, Self::Canary];

    /// The word for it.
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
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Why {
    /// Something is wrong.
    Cause(Cause),
    /// A person wants it so.
    Person,
}

impl Why {
    /// The word for it.
    #[must_use]
    pub const fn as_label(self) -> &'static str {
        match self {
            Self::Cause(cause) => cause.as_label(),
            Self::Person => "by_hand",
        }
    }
}

/// The gate of one account.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Door {
    /// What it is.
    pub gate: Gate,
    /// Why it is, or was last, held.
    pub why: Option<Why>,
    /// Since when.
    pub since: Option<Timestamp>,
}
