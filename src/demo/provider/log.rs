//! What the provider saw and did: the truth against which everybody else's counts are held.

use std::time::Duration;

/// One request that the provider handled.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LogEntry {
    /// When it arrived, since the provider started.
    pub at: Duration,
    /// Whose token came with it, if it was one of ours, dead or alive.
    pub account: Option<String>,
    /// What it was.
    pub what: What,
    /// The fault that was played on it.
    pub fault: Option<&'static str>,
    /// True when another token request for this account had not been answered yet.
    pub overlapped: bool,
}

/// What was asked and how it went, as the provider knows it; the asker may have seen something else.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum What {
    /// A request to the token endpoint.
    Refresh(Refreshed),
    /// The same with a refresh token that is nobody's, to ask about the app; it is no refresh.
    Question(Refreshed),
    /// A code of somebody who consented, to the token endpoint.
    Code {
        /// Whether it bought a token.
        issued: bool,
    },
    /// A request to the API.
    Api {
        /// Which one.
        call: Call,
        /// The HTTP status.
        status: u16,
        /// TikTok's `error.code`; `ok` when all went well.
        code: &'static str,
    },
}

/// What became of a token request.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Refreshed {
    /// A new token; the old refresh token is retired.
    Rotated,
    /// A new access token; the refresh token stays.
    Kept,
    /// A retired refresh token within its grace: the same new token once more.
    Repeated,
    /// A retired refresh token, refused.
    Retired,
    /// The consent is revoked, or the whole family of tokens.
    Revoked,
    /// The refresh token reached its end.
    Ended,
    /// No refresh token of ours.
    Stranger,
    /// Client key or secret are wrong.
    ClientRefused,
    /// Wrong content type, grant type or method.
    Malformed,
    /// A fault struck first: nothing was spent.
    NotProcessed,
}

/// The API calls that the provider knows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Call {
    /// `/v2/user/info/`
    UserInfo,
    /// `/v2/post/publish/creator_info/query/`
    CreatorInfo,
    /// `/v2/post/publish/video/init/`
    Post,
}

impl LogEntry {
    /// True when a refresh token was presented that had been replaced before.
    #[must_use]
    pub const fn retired_presented(&self) -> bool {
        matches!(self.what, What::Refresh(Refreshed::Retired | Refreshed::Repeated))
    }

    /// True when a new token was issued.
    #[must_use]
    pub const fn issued(&self) -> bool {
        matches!(self.what, What::Refresh(Refreshed::Rotated | Refreshed::Kept))
    }

    /// How a correct client counts this token request: `committed`, `not_committed`, `dead` or
    /// `ambiguous`. `None` for the API, and where it depends on the client's deadline.
    #[must_use]
    pub fn should_read_as(&self) -> Option<&'static str> {
        let What::Refresh(refreshed) = self.what else { return None };
        match self.fault {
            Some("drop" | "lose_answer" | "truncate" | "status_after" | "html" | "redirect") => {
                Some("ambiguous")
            }
            Some("status_before" | "huge_body" | "not_utf8") => Some("ambiguous"),
            Some("rate_limit") => Some("not_committed"),
            Some("hang" | "trickle" | "latency" | "refuse" | "member") => None,
            _ => Some(match refreshed {
                Refreshed::Rotated | Refreshed::Kept | Refreshed::Repeated => "committed",
                Refreshed::Retired
                | Refreshed::Revoked
                | Refreshed::Ended
                | Refreshed::Stranger => "dead",
                Refreshed::ClientRefused | Refreshed::Malformed | Refreshed::NotProcessed => {
                    "not_committed"
                }
            }),
        }
    }
}

/// The log, with a bound.
#[derive(Default)]
pub(super) struct Log {
    pub(super) entries: Vec<LogEntry>,
    /// Entries that found no room.
    pub(super) cut: u64,
}

impl Log {
    pub(super) fn push(&mut self, entry: LogEntry) {
        if self.entries.len() < ENTRIES_MAX {
            self.entries.push(entry);
        } else {
            self.cut += 1;
        }
    }
}

/// Entries that are kept; a day of demo with a thousand accounts.
const ENTRIES_MAX: usize = 5_000_000;
