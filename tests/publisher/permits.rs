//! Permits as a publisher meets them; who goes when is tested beside `core::permits`.

use crate::bench::{Bench, as_client};
use oauth_keepalive::{
    core::{Gate, Shares, Snapshot, permits::Canary},
    metrics::Format,
    server::publisher::{POST_CHARS_MAX, STALE_AFTER, WhenUnknown},
};
use serde_json::{Value, json};
use std::{sync::Arc, time::Duration};

const PATH: &str = "/v1/accounts/tiktok/a/permits";

async fn ask(bench: &Bench, post: &str) -> Value {
    let answer = bench.post(PATH, &json!({ "post": post }).to_string()).await;
    assert_eq!(answer.status, 200, "{}", answer.text());
    answer.json()
}

#[tokio::test]
async fn an_open_account_gets_a_permit_with_a_deadline() {
    let bench = Bench::start().await;
    let permit = ask(&bench, "1").await;
    assert_eq!((&permit["granted"], &permit["kind"]), (&json!(true), &json!("open")));
    assert!(permit["deadline"].as_i64().unwrap() > bench.snapshot.load().at.as_unix());
    assert_eq!((permit.get("token"), permit.get("retry_after")), (None, None));
}

#[tokio::test]
async fn a_held_post_waits_one_proves_the_account_and_the_others_follow_in_order() {
    let bench = Bench::start().await;
    bench.set("a", Gate::Held);
    let held = ask(&bench, "1").await;
    assert_eq!((&held["granted"], &held["gate"]), (&json!(false), &json!("held")));
    assert_eq!((&held["cause"], held.get("deadline")), (&json!("consent_revoked"), None));
    assert!(held["retry_after"].as_u64().unwrap() > 0);
    ask(&bench, "2").await;
    bench.set("a", Gate::Canary);
    assert_eq!(ask(&bench, "2").await["granted"], false);
    assert_eq!(ask(&bench, "1").await["kind"], "canary");
    assert_eq!(ask(&bench, "2").await["granted"], false);
    assert_eq!(bench.post("/v1/accounts/tiktok/a/canary", r#"{"worked":true}"#).await.status, 202);
    bench.set("a", Gate::Open);
    let behind = ask(&bench, "3").await;
    assert_eq!((&behind["granted"], &behind["ahead"]), (&json!(false), &json!(1)));
    let first = ask(&bench, "2").await;
    assert_eq!(
        (&first["granted"], &first["ahead"], &first["gate"]),
        (&json!(false), &json!(0), &json!("open"))
    );
    let mut text = Vec::new();
    bench.metrics.write(&mut text, Format::Classic);
    let text = String::from_utf8(text).unwrap();
    for line in [
        r#"oauth_keepalive_permits_total{answer="held"} 2"#,
        r#"oauth_keepalive_permits_total{answer="canary"} 1"#,
        r#"oauth_keepalive_permits_total{answer="wait"} 4"#,
        r#"oauth_keepalive_permits_total{answer="open"} 0"#,
    ] {
        assert!(text.contains(line), "{line}: {text}");
    }
}

#[tokio::test]
async fn which_post_may_prove_an_account_is_what_is_written_down_whoever_wrote_it() {
    let bench = Bench::start().await;
    bench.set("a", Gate::Canary);
    let until = bench.snapshot.load().at.plus(Duration::from_secs(300));
    let elsewhere = Canary { post: Some("elsewhere".into()), until };
    *bench.written.lock().unwrap() = Ok(Some(elsewhere));
    assert_eq!(ask(&bench, "1").await["granted"], false, "another one may, before the restart");
    assert_eq!(ask(&bench, "1").await["granted"], false);
    let granted = ask(&bench, "elsewhere").await;
    assert_eq!(
        (&granted["kind"], &granted["deadline"]),
        (&json!("canary"), &json!(until.as_unix()))
    );
    let reported = bench.post("/v1/accounts/tiktok/a/canary", r#"{"worked":true}"#).await;
    assert_eq!(reported.status, 202);
    for post in ["1", "elsewhere"] {
        assert_eq!(ask(&bench, post).await["granted"], false, "the gate moves first");
    }
    let written = bench.written.lock().unwrap().clone().unwrap().unwrap();
    assert!(written.post.is_none() && written.until < until, "{written:?}");
}

#[tokio::test]
async fn a_canary_that_cannot_be_written_down_does_not_go() {
    let bench = Bench::start().await;
    bench.set("a", Gate::Canary);
    *bench.written.lock().unwrap() = Err(());
    let refused = bench.post(PATH, r#"{"post":"1"}"#).await;
    assert_eq!((refused.status, refused.code()), (503, "unavailable".to_owned()));
    let again = bench.post(PATH, r#"{"post":"1"}"#).await;
    assert_eq!(again.status, 503, "what is only remembered is not enough");
    *bench.written.lock().unwrap() = Ok(None);
    assert_eq!(ask(&bench, "1").await["kind"], "canary");
}

#[tokio::test]
async fn a_token_comes_along_where_that_is_wanted_and_allowed() {
    let bench = Bench::start().await;
    let wish = r#"{"post":"1","token":true}"#;
    let permit = bench.post(PATH, wish).await;
    assert_eq!(permit.header("cache-control"), Some("no-store"));
    assert_eq!(permit.json()["token"]["access_token"], "invented-access");
    let without = bench.send("POST", PATH, &as_client("publish"), wish).await;
    assert_eq!(without.code(), "right_missing");
    bench.set("a", Gate::Held);
    let held = bench.post(PATH, wish).await;
    assert!(!held.text().contains("invented-access"), "{}", held.text());
    let off = Bench::start_with(|context| context.newest = None).await;
    assert_eq!(off.post(PATH, wish).await.code(), "tokens_off");
}

#[tokio::test]
async fn a_wish_is_checked_and_never_repeated() {
    let bench = Bench::start().await;
    let long = json!({ "post": "x".repeat(POST_CHARS_MAX + 1) }).to_string();
    for body in [
        "",
        "{}",
        "[]",
        "marker",
        r#"{"post":""}"#,
        r#"{"post":1}"#,
        r#"{"post":"1","marker":1}"#,
        r#"{"post":"1","scheduled_at":-1}"#,
        r#"{"post":"1","scheduled_at":"marker"}"#,
        r#"{"post":"1","scheduled_at":99999999999}"#,
        r#"{"post":"1","token":"marker"}"#,
        &long,
    ] {
        let answer = bench.post(PATH, body).await;
        assert_eq!(answer.code(), "malformed", "{body}");
        assert!(!answer.text().contains("marker"), "{}", answer.text());
    }
    let huge = json!({ "post": "x".repeat(10_000) }).to_string();
    assert_eq!(bench.post(PATH, &huge).await.code(), "too_large");
}

#[tokio::test]
async fn while_nothing_is_known_the_setting_decides_and_says_so() {
    for (setting, granted) in [(WhenUnknown::Open, true), (WhenUnknown::Held, false)] {
        let bench = Bench::start_with(|context| context.when_unknown = setting).await;
        let now = Snapshot::clone(&bench.snapshot.load());
        bench.snapshot.store(Arc::new(Snapshot { at: now.at.minus(STALE_AFTER), ..now }));
        let permit = ask(&bench, "1").await;
        assert_eq!((&permit["granted"], &permit["known"]), (&json!(granted), &json!(false)));
    }
}

#[tokio::test]
async fn who_may_prove_an_account_is_said_by_the_replica_that_has_it_alone() {
    let bench = Bench::start().await;
    let mine = Snapshot { holding: Shares::NONE, ..Snapshot::clone(&bench.snapshot.load()) };
    bench.snapshot.store(Arc::new(mine));
    let path = "/v1/accounts/tiktok/elsewhere/permits";
    for (gate, expected) in
        [(Gate::Open, Some(true)), (Gate::Held, Some(false)), (Gate::Canary, None)]
    {
        let door = oauth_keepalive::core::Door { gate, ..Default::default() };
        *bench.remembered.lock().unwrap() = Ok(Some(door));
        let answer = bench.post(path, r#"{"post":"1"}"#).await;
        match expected {
            Some(granted) => assert_eq!(answer.json()["granted"], granted, "{gate:?}"),
            None => assert_eq!(answer.code(), "not_held_here"),
        }
    }
}
