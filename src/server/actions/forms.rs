//! What a form sends: bounded, and understood to the last field or not at all.

use super::text;
use crate::{
    core::{AccountId, Secret},
    server::{
        answer::Answer,
        bounded::{NoBody, body},
        publisher::path,
    },
};
use hyper::{HeaderMap, StatusCode, body::Incoming, header::CONTENT_TYPE};
use std::{borrow::Cow, time::Duration};
use tokio::time::Instant;

/// The fields of any of our forms.
pub(super) struct Form {
    csrf: String,
    account: Option<AccountId>,
    user: String,
    secret: Secret,
    next: String,
}

impl Form {
    /// # Errors
    /// With the answer, when it is none of ours.
    pub(super) async fn read(headers: &HeaderMap, incoming: Incoming) -> Result<Self, Answer> {
        let kind = headers.get(CONTENT_TYPE).map_or(&b""[..], |value| value.as_bytes());
        if !kind.starts_with(b"application/x-www-form-urlencoded") {
            let sentence = "This is answered when a form is sent from the status page.";
            return Err(text(StatusCode::UNSUPPORTED_MEDIA_TYPE, sentence));
        }
        let bytes = body(incoming, FORM_BYTES_MAX, Instant::now() + FORM_DEADLINE).await;
        let bytes = bytes.map_err(|error| match error {
            NoBody::TooLarge => {
                text(StatusCode::PAYLOAD_TOO_LARGE, "That is longer than any form of ours.")
            }
            NoBody::TooSlow => {
                text(StatusCode::REQUEST_TIMEOUT, "The form did not arrive in time.")
            }
            NoBody::Broken => malformed(),
        })?;
        // Wiped when it is dropped: a secret may be in it.
        let whole = String::from_utf8(bytes.to_vec()).map(Secret::new).map_err(|_| malformed())?;
        Self::parse(whole.expose()).ok_or_else(malformed)
    }

    fn parse(whole: &str) -> Option<Self> {
        let known = ["csrf", "account", "user", "secret", "next"];
        let [csrf, account, user, secret, next] = path::query(Some(whole), known).ok()?;
        let text = |value: Option<Cow<'_, str>>| value.unwrap_or_default().into_owned();
        Some(Self {
            csrf: text(csrf),
            account: account.as_deref().and_then(AccountId::parse),
            user: text(user),
            secret: Secret::new(text(secret)),
            next: text(next),
        })
    }

    pub(super) fn csrf(&self) -> &str {
        &self.csrf
    }

    pub(super) fn account(&self) -> Option<AccountId> {
        self.account.clone()
    }

    pub(super) fn user(&self) -> &str {
        &self.user
    }

    pub(super) fn secret(&self) -> &str {
        self.secret.expose()
    }

    /// Where to go on after logging in.
    pub(super) fn next(&self) -> String {
        local(&self.next)
    }
}

/// The same of a query.
pub(super) fn next_of(query: &str) -> String {
    let [next] = path::query(Some(query), ["next"]).unwrap_or_default();
    local(&next.unwrap_or_default())
}

/// A path of ours and nothing that a browser could take for another site's: `//host`, and `/\host`, are.
fn local(path: &str) -> String {
    let plain = path.bytes().all(|byte| byte.is_ascii_graphic() && byte != b'\\');
    let is_local = path.starts_with('/') && !path.starts_with("//") && path.len() <= NEXT_BYTES_MAX;
    if plain && is_local { path.to_owned() } else { "/".to_owned() }
}

fn malformed() -> Answer {
    text(StatusCode::BAD_REQUEST, "That is no form of ours; open the page again.")
}

/// Longest form: a name and a secret, with what escapes add.
const FORM_BYTES_MAX: usize = 8 * 1024;

const FORM_DEADLINE: Duration = Duration::from_secs(10);

const NEXT_BYTES_MAX: usize = 2048;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nobody_is_led_to_another_site() {
        let long = format!("/{}", "a".repeat(NEXT_BYTES_MAX));
        let cases = [
            ("/accounts/tiktok/a%2Fb", "/accounts/tiktok/a%2Fb"),
            ("/?cause=trouble&page=2", "/?cause=trouble&page=2"),
            ("", "/"),
            ("//evil.example", "/"),
            ("/\\evil.example", "/"),
            ("https://evil.example", "/"),
            ("accounts", "/"),
            ("/a\r\nSet-Cookie: a=b", "/"),
            ("/\t/evil.example", "/"),
            (&long, "/"),
        ];
        for (next, expected) in cases {
            assert_eq!(local(next), expected, "{next}");
        }
        assert_eq!(next_of("next=%2F%2Fevil.example"), "/");
        assert_eq!(next_of("next=%2Faccounts%2Fx%2Fa%252Fb"), "/accounts/x/a%2Fb");
        assert_eq!(next_of("next=/a&next=/b"), "/");
    }

    #[test]
    fn a_form_is_read_field_by_field() {
        let form = Form::parse("csrf=abc&account=tiktok%2Fa%26b+c").unwrap();
        assert_eq!(form.csrf(), "abc");
        assert_eq!(form.account(), Some(AccountId::new("tiktok", "a&b c")));
        let form = Form::parse("user=ops&secret=a%2Bb+c&next=%2F").unwrap();
        assert_eq!((form.user(), form.secret()), ("ops", "a+b c"));
        assert!(Form::parse("csrf=a&csrf=b").is_none() && Form::parse("other=1").is_none());
        assert!(Form::parse("account=nothing").unwrap().account().is_none());
    }
}
