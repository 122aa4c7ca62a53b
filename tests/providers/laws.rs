//! Laws for any answer at all.

use crate::{NOW, answered};
use oauth_keepalive::{
    oauth::Outcome,
    providers::{self, Renewal},
};
use proptest::prelude::*;

fn any_body() -> impl Strategy<Value = String> {
    let word = || "[a-z_{}\\[\\]\":,.0-9é\u{fffd} -]{0,12}";
    let value = prop_oneof![
        Just("null".to_owned()),
        any::<i64>().prop_map(|number| number.to_string()),
        any::<f64>()
            .prop_filter("JSON", |number| number.is_finite())
            .prop_map(|n| format!("{n:e}")),
        word().prop_map(|text| serde_json::Value::from(text).to_string()),
        Just("\"invalid_grant\"".to_owned()),
        Just("{\"code\":\"ok\",\"log_id\":\"a\"}".to_owned()),
        Just("[\"a\",{}]".to_owned()),
    ];
    let key = prop_oneof![
        Just("access_token".to_owned()),
        Just("accessJwt".to_owned()),
        Just("refresh_token".to_owned()),
        Just("expires_in".to_owned()),
        Just("scope".to_owned()),
        Just("open_id".to_owned()),
        Just("error".to_owned()),
        Just("log_id".to_owned()),
        "[a-z]{1,4}",
    ];
    let members = prop::collection::vec((key, value), 0..8).prop_map(|members| {
        let members: Vec<_> =
            members.into_iter().map(|(key, value)| format!("\"{key}\":{value}")).collect();
        format!("{{{}}}", members.join(","))
    });
    prop_oneof![4 => members, 1 => any::<String>(), 1 => word()]
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn no_answer_makes_it_panic_or_see_a_token_that_is_not_there(
        status in 100_u16..1000,
        body in any_body(),
    ) {
        let last: Option<serde_json::Value> = serde_json::from_str(&body).ok();
        for name in providers::names() {
            let provider = providers::find(name).unwrap();
            let key = if name == "bluesky" { "accessJwt" } else { "access_token" };
            let access = last.as_ref().and_then(|body| match name {
                "tiktok_business" => body.get("data")?.get(key)?.as_str(),
                _ => body.get(key)?.as_str(),
            });
            let has_token = access.is_some_and(|text| !text.trim().is_empty());
            let exchange = answered(status, &body);
            let _ = provider.liveness(&exchange, Some("me"), NOW);
            match provider.outcome(&exchange, NOW) {
                Outcome::Committed(grant) => {
                    prop_assert!(has_token && (200..300).contains(&status));
                    prop_assert_eq!(Some(grant.access.expose()), access);
                    prop_assert!(grant.refresh.is_none_or(|refresh| !refresh.is_blank()));
                }
                // A token that was there is never answered by "try the old one again", unless that is safe.
                Outcome::NotCommitted(evidence) => prop_assert!(
                    !has_token
                        || evidence.code.is_some()
                        || status == 429
                        || provider.renewal != Renewal::Rotating,
                    "{:?}", evidence
                ),
                Outcome::Dead(evidence) => prop_assert!(evidence.cause.needs_reconnect()),
                Outcome::Ambiguous(_) => {}
            }
        }
    }

    #[test]
    fn no_text_of_an_answer_gets_into_the_evidence(marker in "[a-z]{12}", status in 200_u16..600) {
        let bodies = [
            format!(r#"{{"error":"{marker}","error_description":"{marker}"}}"#),
            format!(r#"{{"error":"invalid_grant","error_description":"{marker}"}}"#),
            format!(r#"{{"error":{{"code":"{marker}","message":"{marker}"}}}}"#),
            marker.clone(),
        ];
        for body in &bodies {
            for name in providers::names() {
                let provider = providers::find(name).unwrap();
                let said = format!(
                    "{:?} {:?}",
                    provider.outcome(&answered(status, body), NOW),
                    provider.liveness(&answered(status, body), None, NOW)
                );
                prop_assert!(!said.contains(&marker), "{}", said);
            }
        }
    }
}
