//! Why a request was not answered as hoped: problem details (RFC 9457) with a word that never changes.
//!
//! No text in here repeats what was sent: a confused publisher may send a token anywhere.

use crate::server::{
    answer::{Answer, whole},
    bounded::NoBody,
};
use hyper::{
    StatusCode,
    header::{ALLOW, HeaderValue, RETRY_AFTER, WWW_AUTHENTICATE},
};
use serde_json::json;
use std::{borrow::Cow, time::Duration};

/// One refusal.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Problem {
    /// Which one.
    pub code: Code,
    /// What was expected, and what to do.
    pub detail: Cow<'static, str>,
    /// Worth asking again after this.
    pub retry_after: Option<Duration>,
    /// The methods that the path has, where it lacks the one that was asked for.
    allow: Option<&'static str>,
}

macro_rules! codes {
    ($($(#[$doc:meta])* $name:ident $word:literal $status:ident $title:literal;)*) => {
        /// The words of all refusals. They are part of the interface: programs compare them.
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        pub enum Code {
            $($(#[$doc])* $name,)*
        }

        impl Code {
            /// All of them.
            pub const ALL: [Self; [$($word),*].len()] = [$(Self::$name),*];

            /// The word itself.
            #[must_use]
            pub const fn as_label(self) -> &'static str {
                match self {
                    $(Self::$name => $word,)*
                }
            }

            /// The status that it comes with.
            #[must_use]
            pub const fn status(self) -> StatusCode {
                match self {
                    $(Self::$name => StatusCode::$status,)*
                }
            }

            const fn title(self) -> &'static str {
                match self {
                    $(Self::$name => $title,)*
                }
            }
        }
    };
}

codes! {
    /// The body, the path or a parameter is not what was expected.
    Malformed "malformed" BAD_REQUEST "Not the request that was expected";
    /// The cursor is none of ours.
    BadCursor "bad_cursor" BAD_REQUEST "Not a cursor of this list";
    /// No secret, or one that is nobody's.
    Unauthorized "unauthorized" UNAUTHORIZED "Not the secret of a client";
    /// The client may not do this.
    RightMissing "right_missing" FORBIDDEN "This client lacks the right";
    /// The client has nothing to do with this account, whether it exists or not.
    AccountNotYours "account_not_yours" FORBIDDEN "This client may not ask about the account";
    /// Tokens are not handed out here at all.
    TokensOff "tokens_off" FORBIDDEN "Tokens are not served";
    /// There is nothing under this path.
    NoSuchPath "no_such_path" NOT_FOUND "There is nothing under this path";
    /// Nobody knows this account.
    NoSuchAccount "no_such_account" NOT_FOUND "There is no such account";
    /// The path has other methods.
    WrongMethod "wrong_method" METHOD_NOT_ALLOWED "The path has other methods";
    /// The body did not come.
    TooSlow "too_slow" REQUEST_TIMEOUT "The body did not arrive in time";
    /// The gate is held.
    GateHeld "gate_held" CONFLICT "The gate of the account is held";
    /// There is no access token that could work.
    NoToken "no_token" CONFLICT "The account has no access token that works";
    /// The body is longer than may be.
    TooLarge "too_large" PAYLOAD_TOO_LARGE "Longer than may be";
    /// As many wait already as may.
    TooManyWait "too_many_wait" SERVICE_UNAVAILABLE "Too many wait already";
    /// Another replica looks after the account.
    NotHeldHere "not_held_here" SERVICE_UNAVAILABLE "Another replica looks after the account";
    /// It cannot be done just now.
    Unavailable "unavailable" SERVICE_UNAVAILABLE "It cannot be done now";
}

impl Problem {
    /// A problem with the sentence that says what to do.
    #[must_use]
    pub fn new(code: Code, detail: impl Into<Cow<'static, str>>) -> Self {
        let retry_after = match code.status() {
            StatusCode::SERVICE_UNAVAILABLE => Some(RETRY_AFTER_USUAL),
            _ => None,
        };
        Self { code, detail: detail.into(), retry_after, allow: None }
    }

    /// What was sent is not what was expected.
    #[must_use]
    pub fn malformed(detail: impl Into<Cow<'static, str>>) -> Self {
        Self::new(Code::Malformed, detail)
    }

    /// It cannot be done now.
    #[must_use]
    pub fn unavailable(detail: &'static str) -> Self {
        Self::new(Code::Unavailable, detail)
    }

    /// The path has only these methods (RFC 9110 section 15.5.6 demands the list).
    #[must_use]
    pub fn wrong_method(allowed: &'static str) -> Self {
        let detail = format!("this path answers to {allowed} only");
        Self { allow: Some(allowed), ..Self::new(Code::WrongMethod, detail) }
    }

    /// As an answer.
    #[must_use]
    pub fn into_answer(self) -> Answer {
        let status = self.code.status();
        let body = json!({
            "type": "about:blank",
            "title": self.code.title(),
            "status": status.as_u16(),
            "code": self.code.as_label(),
            "detail": self.detail,
        });
        let mut answer = whole(status, "application/problem+json", body.to_string());
        let headers = answer.headers_mut();
        if self.code == Code::Unauthorized {
            headers.insert(WWW_AUTHENTICATE, HeaderValue::from_static(BEARER));
        }
        if status == StatusCode::FORBIDDEN {
            // RFC 6750 section 3.1: the secret was right and does not reach so far.
            headers.insert(WWW_AUTHENTICATE, HeaderValue::from_static(BEARER_NOT_ENOUGH));
        }
        if let Some(allow) = self.allow {
            headers.insert(ALLOW, HeaderValue::from_static(allow));
        }
        if let Some(after) = self.retry_after {
            headers.insert(RETRY_AFTER, HeaderValue::from(after.as_secs().max(1)));
        }
        answer
    }
}

impl From<NoBody> for Problem {
    fn from(why: NoBody) -> Self {
        match why {
            NoBody::TooLarge => Self::new(Code::TooLarge, "the body is longer than may be"),
            NoBody::TooSlow => Self::new(Code::TooSlow, "send the whole body at once"),
            NoBody::Broken => Self::malformed("the body broke off"),
        }
    }
}

const BEARER: &str = "Bearer realm=\"oauth-keepalive\"";
const BEARER_NOT_ENOUGH: &str = "Bearer realm=\"oauth-keepalive\", error=\"insufficient_scope\"";

/// The keeper takes what is brought to it in each round.
const RETRY_AFTER_USUAL: Duration = Duration::from_secs(1);
