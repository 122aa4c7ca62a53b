//! Hold, resume, refresh, and the canary's report: written down once, then answered.

use crate::bench::{Bench, RIGHT};
use oauth_keepalive::core::{Cause, Gate, Order, Said, Snapshot, Whose};
use std::sync::Arc;

fn order(said: &Said) -> &Order {
    match said {
        Said::Order(order) => order,
        Said::Evidence(_) | Said::Connected => panic!("no order: {said:?}"),
    }
}

#[tokio::test]
async fn an_order_is_written_down_and_each_request_is_one() {
    let bench = Bench::start().await;
    let wanted = [("hold", Order::Hold), ("resume", Order::Resume), ("refresh", Order::Refresh)];
    for (word, _) in &wanted {
        let path = format!("/v1/accounts/tiktok/a/{word}");
        for body in ["", "{}"] {
            let answer = bench.post(&path, body).await;
            assert_eq!((answer.status, answer.text()), (202, r#"{"accepted":true}"#));
        }
    }
    let orders = bench.orders();
    // Two of refreshing would be three if a minute began between them; holds are never one.
    assert!((5..=6).contains(&orders.len()), "{orders:?}");
    for (nth, announcement) in orders.iter().enumerate() {
        assert_eq!(order(&announcement.said), &wanted[nth / 2].1);
        let Whose::Account(id) = &announcement.whose else { panic!("{:?}", announcement.whose) };
        assert_eq!(id.to_string(), "tiktok/a");
    }
}

#[tokio::test]
async fn the_same_request_again_with_its_idempotency_key_is_no_other_order() {
    let bench = Bench::start().await;
    let headers = format!("{RIGHT}Idempotency-Key: invented-1\r\n");
    for _ in 0..3 {
        let path = "/v1/accounts/tiktok/a/hold";
        assert_eq!(bench.send("POST", path, &headers, "").await.status, 202);
    }
    assert_eq!(bench.orders().len(), 1);
    for path in ["/v1/accounts/tiktok/b/hold", "/v1/accounts/tiktok/a/resume"] {
        assert_eq!(bench.send("POST", path, &headers, "").await.status, 202);
    }
    assert_eq!(bench.orders().len(), 3, "another account and another order are others");
    let long = format!("{RIGHT}Idempotency-Key: {}\r\n", "x".repeat(257));
    for headers in [long, format!("{headers}Idempotency-Key: invented-2\r\n")] {
        let answer = bench.send("POST", "/v1/accounts/tiktok/a/hold", &headers, "").await;
        assert_eq!(answer.code(), "malformed");
    }
}

#[tokio::test]
async fn an_order_about_nobody_or_with_more_than_it_needs_is_refused() {
    let bench = Bench::start().await;
    for (path, body, code) in [
        ("/v1/accounts/tiktok/nowhere/hold", "", "no_such_account"),
        ("/v1/accounts/tiktok/nowhere/refresh", "{}", "no_such_account"),
        ("/v1/accounts/tiktok/a/hold", "{\"marker\":1}", "malformed"),
        ("/v1/accounts/tiktok/a/hold", "marker", "malformed"),
        ("/v1/accounts/tiktok/a/hold?marker=1", "", "malformed"),
        ("/v1/accounts/tiktok/a/refresh", "null", "malformed"),
    ] {
        let answer = bench.post(path, body).await;
        assert_eq!(answer.code(), code, "{path} {body}");
        assert!(!answer.text().contains("marker"), "{}", answer.text());
    }
    let long = format!("{{{}}}", " ".repeat(2_000));
    assert_eq!(bench.post("/v1/accounts/tiktok/a/hold", &long).await.code(), "too_large");
    assert!(bench.orders().is_empty());
}

#[tokio::test]
async fn what_cannot_be_written_down_is_not_said_to_be() {
    let bench = Bench::start_with(|context| {
        let (deliveries, _) = tokio::sync::mpsc::channel(1);
        context.deliveries = deliveries;
    })
    .await;
    let answer = bench.post("/v1/accounts/tiktok/a/hold", "").await;
    assert_eq!((answer.status, &*answer.code()), (503, "unavailable"));
    assert!(answer.header("retry-after").is_some());
}

#[tokio::test]
async fn a_canary_is_taken_while_one_is_waited_for() {
    let bench = Bench::start().await;
    let path = "/v1/accounts/tiktok/a/canary";
    let nothing_waits = bench.post(path, r#"{"worked":true}"#).await;
    assert_eq!(nothing_waits.json(), serde_json::json!({"accepted": false, "gate": "open"}));
    bench.set("a", Gate::Canary);
    let worked = bench.post(path, r#"{"worked":true,"status":200}"#).await;
    assert_eq!(worked.status, 202);
    let body = r#"{"worked":false,"status":401,"body":{"code":"known","token":"marker"}}"#;
    assert_eq!(bench.post(path, body).await.status, 202);
    let orders = bench.orders();
    assert_eq!(orders.len(), 2);
    let published = Order::Published { worked: true, evidence: None };
    assert_eq!(order(&orders[0].said), &published);
    let Order::Published { worked: false, evidence: Some(evidence) } = order(&orders[1].said)
    else {
        panic!("{:?}", orders[1])
    };
    assert_eq!(evidence.cause, Cause::ScopeMissing);
    assert!(!format!("{orders:?}").contains("marker"));
}

#[tokio::test]
async fn a_canary_is_checked_and_never_repeated() {
    let bench = Bench::start().await;
    bench.set("a", Gate::Canary);
    for body in [
        "",
        "{}",
        "marker",
        r#"{"worked":"marker"}"#,
        r#"{"worked":true,"marker":1}"#,
        r#"{"worked":true,"status":99}"#,
        r#"{"worked":true,"status":600}"#,
        r#"{"worked":true,"status":-1}"#,
        "\u{feff}{\"worked\":true}",
    ] {
        let answer = bench.post("/v1/accounts/tiktok/a/canary", body).await;
        assert_eq!(answer.code(), "malformed", "{body}");
        assert!(!answer.text().contains("marker"), "{}", answer.text());
    }
    assert!(bench.orders().is_empty());
}

#[tokio::test]
async fn a_hold_goes_on_while_the_state_is_in_trouble() {
    let bench = Bench::start().await;
    let down = Snapshot { state_up: false, ..Snapshot::clone(&bench.snapshot.load()) };
    bench.snapshot.store(Arc::new(down));
    assert_eq!(bench.post("/v1/accounts/tiktok/a/hold", "").await.status, 202);
}
