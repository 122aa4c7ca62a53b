//! Answers of odd shape, and no answers.

use crate::{NOW, answered, liveness_word, outcome_word};
use oauth_keepalive::{
    oauth::{Exchange, Outcome, Trouble},
    providers::{self, DECLARED_LIFE_MAX, TOKEN_BYTES_MAX},
};
use std::time::Duration;

#[test]
fn silence_is_told_apart_by_whether_anything_left() {
    let provider = providers::find("tiktok").unwrap();
    for (exchange, expected) in [
        (Exchange::NotSent(Trouble::Connect), "not committed: provider_outage (connect_failed)"),
        (Exchange::NotSent(Trouble::Crowded), "not committed: provider_outage (no_free_place)"),
        (Exchange::NotSent(Trouble::Unsendable), "not committed: unknown (request_unsendable)"),
        (Exchange::Lost(Trouble::Deadline), "ambiguous: provider_outage (deadline_passed)"),
        (Exchange::Lost(Trouble::Broken), "ambiguous: provider_outage (connection_broken)"),
        (Exchange::Lost(Trouble::TooLong), "ambiguous: provider_outage (answer_too_long)"),
    ] {
        assert_eq!(outcome_word(provider, &exchange), expected);
        let said = liveness_word(provider, &exchange);
        assert!(said.starts_with("unknown: "), "{said}");
    }
}

#[test]
fn fields_of_any_shape_never_cost_the_token_beside_them() {
    let provider = providers::find("tiktok").unwrap();
    let grant = |members: &str| {
        let body = format!(r#"{{"access_token":"invented-access",{members}}}"#);
        match provider.outcome(&answered(200, &body), NOW) {
            Outcome::Committed(grant) => grant,
            other => panic!("{members}: {other:?}"),
        }
    };
    for (value, expected) in [
        ("7200", Some(7_200)),
        ("\"7200\"", Some(7_200)),
        ("\" 7200 \"", Some(7_200)),
        ("7200.9", Some(7_200)),
        ("1", Some(1)),
        ("0", None),
        ("-1", None),
        ("\"\"", None),
        ("\"soon\"", None),
        ("\"NaN\"", None),
        ("\"inf\"", None),
        ("null", None),
        ("true", None),
        ("[7200]", None),
        ("9223372036854775808", None),
        ("1e300", None),
    ] {
        let life = |grant: Option<Duration>| grant.map(|life| life.as_secs());
        let read = grant(&format!(r#""expires_in":{value},"refresh_expires_in":{value}"#));
        assert_eq!(life(read.expires_in), expected, "expires_in {value}");
        assert_eq!(life(read.refresh_expires_in), expected, "refresh_expires_in {value}");
    }
    let most = DECLARED_LIFE_MAX.as_secs();
    assert_eq!(grant(&format!("\"expires_in\":{most}")).expires_in, Some(DECLARED_LIFE_MAX));
    assert_eq!(grant(&format!("\"expires_in\":{}", most + 1)).expires_in, None);

    for value in ["\"\"", "\"  \"", "null", "7", "{}", "[]"] {
        assert_eq!(grant(&format!("\"refresh_token\":{value}")).refresh, None, "{value}");
    }
    for (value, expected) in [
        ("\"a,b\"", Some(vec!["a", "b"])),
        ("\"a b\"", Some(vec!["a", "b"])),
        ("\" a, ,b \"", Some(vec!["a", "b"])),
        ("[\"a\",\"b\",3]", Some(vec!["a", "b"])),
        ("\"\"", None),
        ("[]", None),
        ("7", None),
        ("null", None),
    ] {
        let expected = expected.map(|words| words.into_iter().map(str::to_owned).collect());
        assert_eq!(grant(&format!("\"scope\":{value}")).scopes, expected, "scope {value}");
    }
    let twice = grant(r#""refresh_token":"first","refresh_token":"last""#);
    assert_eq!(twice.refresh.unwrap().expose(), "last");
    assert_eq!(grant(r#""open_id":42"#).subject.as_deref(), Some("42"));
    assert_eq!(grant(r#""open_id":{}"#).subject, None);
}

#[test]
fn only_a_usable_access_token_is_one() {
    let provider = providers::find("oauth2").unwrap();
    let is_committed = |access: &str, rest: &str| {
        let body = format!(r#"{{"access_token":{access}{rest}}}"#);
        matches!(provider.outcome(&answered(200, &body), NOW), Outcome::Committed(_))
    };
    let of_length = |length: usize| format!("\"{}\"", "a".repeat(length));
    assert!(is_committed(&of_length(TOKEN_BYTES_MAX), ""));
    assert!(!is_committed(&of_length(TOKEN_BYTES_MAX + 1), ""));
    for access in ["\"\"", "\" \\t\\n\"", "null", "7", "true", "{}", "[\"a\"]", "\"a\u{fffd}\""] {
        assert!(!is_committed(access, ""), "{access}");
    }
    assert!(!is_committed("\"a\"", ",\"refresh_token\":\"\u{fffd}\""), "half a refresh token");
    assert!(is_committed("\"a\"", ",\"name\":\"\u{fffd}\""), "a damaged name beside the token");
    assert!(is_committed("\"a\"", ",\"error\":\"invalid_grant\""), "a token beside an error");
    let with_mark = answered(200, "\u{feff}{\"access_token\":\"a\"}");
    assert!(matches!(provider.outcome(&with_mark, NOW), Outcome::Committed(_)));
}
