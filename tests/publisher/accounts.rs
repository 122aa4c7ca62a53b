//! The list, one account, and its gate; and paths that mean harm.

use crate::bench::{Bench, HARD, RIGHT};
use oauth_keepalive::{
    core::{Account, AccountId, Door, Gate, Shares, Snapshot, Timestamp},
    server::publisher::{OPEN_API, STALE_AFTER, WhenUnknown},
};
use std::sync::Arc;

#[tokio::test]
async fn the_list_comes_in_pages_and_each_account_once() {
    let bench = Bench::start().await;
    let mut snapshot = Snapshot::clone(&bench.snapshot.load());
    for number in 0..1_500 {
        let id = AccountId::new("x", format!("many-{number:04}"));
        snapshot.accounts.put(Account::new(id, "other".into()));
    }
    bench.snapshot.store(Arc::new(snapshot));
    let mut seen = Vec::new();
    let mut path = "/v1/accounts?limit=400".to_owned();
    loop {
        let page = bench.get(&path).await.json();
        let accounts = page["accounts"].as_array().unwrap();
        assert!(accounts.len() <= 400);
        seen.extend(accounts.iter().map(|one| one["account"].as_str().unwrap().to_owned()));
        let Some(next) = page["next"].as_str() else { break };
        path = format!("/v1/accounts?limit=400&cursor={next}");
    }
    assert_eq!(seen.len(), 1_503);
    seen.sort_unstable();
    seen.dedup();
    assert_eq!(seen.len(), 1_503);
    let few = bench.get("/v1/accounts?provider=x&app=other&cause=none&gate=open&limit=1").await;
    assert_eq!(few.json()["accounts"][0]["account"], "many-0000");
}

#[tokio::test]
async fn the_list_is_filtered() {
    let bench = Bench::start().await;
    bench.set("b", Gate::Held);
    for (query, expected) in [
        ("gate=held", 1),
        ("gate=open", 2),
        ("gate=canary", 0),
        ("provider=tiktok", 3),
        ("provider=x", 0),
        ("app=main&gate=held", 1),
        ("app=other", 0),
        ("cause=none", 3),
        ("cause=consent_revoked", 0),
    ] {
        let list = bench.get(&format!("/v1/accounts?{query}")).await.json();
        assert_eq!(list["accounts"].as_array().unwrap().len(), expected, "{query}");
    }
}

#[tokio::test]
async fn a_query_that_nobody_understands_is_refused() {
    let bench = Bench::start().await;
    let long = format!("cursor={}", "a".repeat(5_000));
    for query in [
        "limit=0",
        "limit=1001",
        "limit=-1",
        "limit=+1",
        "limit=",
        "limit=1&limit=1",
        "gate=shut",
        "cause=bad",
        "cause=",
        "provider=",
        "marker=1",
        "app=%FF",
        "app=%",
    ] {
        let answer = bench.get(&format!("/v1/accounts?{query}")).await;
        assert_eq!((answer.status, &*answer.code()), (400, "malformed"), "{query}");
        assert!(!answer.text().contains("marker"), "{}", answer.text());
    }
    for query in ["cursor=", "cursor=!", "cursor=AAAA", "cursor=_w", &long] {
        let answer = bench.get(&format!("/v1/accounts?{query}")).await;
        assert_eq!((answer.status, &*answer.code()), (400, "bad_cursor"), "{query}");
    }
}

#[tokio::test]
async fn an_account_with_a_hard_name_is_found_by_its_escapes() {
    let bench = Bench::start().await;
    let escaped: String = HARD.bytes().map(|byte| format!("%{byte:02X}")).collect();
    let one = bench.get(&format!("/v1/accounts/tiktok/{escaped}")).await;
    assert_eq!(one.json()["account"], HARD);
    let gate = bench.get(&format!("/v1/accounts/tiktok/{escaped}/gate")).await;
    assert_eq!(gate.json()["gate"], "open");
}

#[tokio::test]
async fn paths_that_mean_harm_find_nothing() {
    let bench = Bench::start().await;
    for (path, status, code) in [
        ("/v1/accounts/tiktok/..%2Fa", 404, "no_such_account"),
        ("/v1/accounts/tiktok/%2E%2E", 404, "no_such_account"),
        ("/v1/accounts/tiktok/%00", 404, "no_such_account"),
        ("/v1/accounts/tiktok/%2561", 404, "no_such_account"),
        ("/v1/accounts/tiktok/A", 404, "no_such_account"),
        ("/v1/accounts/tiktok/%FF", 400, "malformed"),
        ("/v1/accounts/tiktok/%C0%AF", 400, "malformed"),
        ("/v1/accounts/tiktok/%", 400, "malformed"),
        ("/v1/accounts/tiktok/%zz", 400, "malformed"),
        ("/v1/accounts/tiktok/", 400, "malformed"),
        ("/v1/accounts//a", 400, "malformed"),
        ("/v1/accounts/tiktok", 404, "no_such_path"),
        ("/v1/accounts/", 404, "no_such_path"),
        ("/v1/accounts/tiktok/a/", 404, "no_such_path"),
        ("/v1/accounts/tiktok/a/gate/x", 404, "no_such_path"),
        ("/v1//accounts", 404, "no_such_path"),
        ("/v1/../v1/accounts", 404, "no_such_path"),
        ("/v1/accounts;a=b", 404, "no_such_path"),
        ("/V1/accounts", 404, "no_such_path"),
        ("/metrics", 404, "no_such_path"),
        ("/", 404, "no_such_path"),
    ] {
        let answer = bench.get(path).await;
        assert_eq!((answer.status, &*answer.code()), (status, code), "{path}");
    }
    let long = format!("/v1/accounts/tiktok/{}", "a".repeat(257));
    assert_eq!(bench.get(&long).await.code(), "malformed");
}

#[tokio::test]
async fn a_wrong_method_is_told_the_right_ones() {
    let bench = Bench::start().await;
    for (line, allow) in [
        ("POST /v1/accounts", "GET, HEAD"),
        ("DELETE /v1/accounts/tiktok/a", "GET, HEAD"),
        ("PUT /v1/accounts/tiktok/a/gate", "GET, HEAD"),
        ("TRACE /v1/openapi.json", "GET, HEAD"),
        ("POST /v1/accounts/tiktok/a/token", "GET, HEAD"),
        ("GET /v1/accounts/tiktok/a/permits", "POST"),
        ("PUT /v1/accounts/tiktok/a/hold", "POST"),
        ("HEAD /v1/events", "GET"),
        ("POST /v1/events", "GET"),
        ("GET /v1/responses", "POST"),
        ("OPTIONS /v1/responses", "POST"),
    ] {
        let answer = bench.ask(line, RIGHT).await;
        assert_eq!((answer.status, answer.header("allow")), (405, Some(allow)), "{line}");
        if !line.starts_with("HEAD") {
            assert_eq!(answer.code(), "wrong_method");
        }
    }
    let head = bench.ask("HEAD /v1/accounts", RIGHT).await;
    assert_eq!((head.status, head.body.len()), (200, 0));
}

#[tokio::test]
async fn a_gate_says_whether_to_publish_and_why_not() {
    let bench = Bench::start().await;
    let open = bench.get("/v1/accounts/tiktok/a/gate").await;
    let told = open.json();
    assert_eq!((&told["gate"], &told["may_publish"]), (&"open".into(), &true.into()));
    assert_eq!((&told["known"], told.get("retry_after")), (&true.into(), None));
    assert!(told["cause"].is_null());
    bench.set("a", Gate::Held);
    let held = bench.get("/v1/accounts/tiktok/a/gate").await;
    assert_ne!(open.header("etag"), held.header("etag"));
    let told = held.json();
    assert_eq!((&told["gate"], &told["may_publish"]), (&"held".into(), &false.into()));
    assert_eq!(told["cause"], "consent_revoked");
    assert!(told["since"].is_i64() && told["retry_after"].is_u64(), "{told}");
    let account = bench.get("/v1/accounts/tiktok/a").await.json();
    assert_eq!(account["gate"], told);
}

#[tokio::test]
async fn what_is_not_known_is_said_to_be_unknown_and_what_was_shut_stays_shut() {
    for (setting, word) in [(WhenUnknown::Open, "open"), (WhenUnknown::Held, "held")] {
        let bench = Bench::start_with(|context| context.when_unknown = setting).await;
        bench.set("b", Gate::Held);
        let good = Snapshot::clone(&bench.snapshot.load());
        let stale = Snapshot { at: good.at.minus(STALE_AFTER), ..good.clone() };
        let down = Snapshot { state_up: false, ..good.clone() };
        for (case, snapshot) in [("stale", stale), ("the state is down", down)] {
            bench.snapshot.store(Arc::new(snapshot));
            for (account, expected) in [("a", word), ("b", "held")] {
                let told = bench.get(&format!("/v1/accounts/tiktok/{account}/gate")).await.json();
                assert_eq!(
                    (&told["gate"], &told["known"]),
                    (&expected.into(), &false.into()),
                    "{case}"
                );
            }
        }
        // Before the store was read nobody knows which accounts there are.
        bench.snapshot.store(Arc::new(Snapshot::empty(good.at)));
        let told = bench.get("/v1/accounts/tiktok/a/gate").await.json();
        assert_eq!((&told["gate"], &told["known"]), (&word.into(), &false.into()));
        *bench.remembered.lock().unwrap() = Ok(Some(held()));
        let told = bench.get("/v1/accounts/tiktok/a/gate").await.json();
        assert_eq!((&told["gate"], &told["known"]), (&"held".into(), &false.into()));
        assert_eq!(bench.get("/v1/accounts").await.status, 503);
        assert_eq!(bench.get("/v1/accounts/tiktok/a").await.status, 503);
    }
}

fn held() -> Door {
    Door { gate: Gate::Held, since: Some(Timestamp::from_unix(1)), ..Door::default() }
}

#[tokio::test]
async fn an_account_of_another_replica_is_answered_from_what_that_one_wrote_down() {
    let bench = Bench::start().await;
    let mine = Snapshot { holding: Shares::NONE, ..Snapshot::clone(&bench.snapshot.load()) };
    bench.snapshot.store(Arc::new(mine));
    let path = "/v1/accounts/tiktok/elsewhere/gate";
    for nothing in [Ok(None), Err(())] {
        *bench.remembered.lock().unwrap() = nothing;
        let answer = bench.get(path).await;
        assert_eq!((answer.status, &*answer.code()), (503, "not_held_here"));
        assert!(answer.header("retry-after").is_some());
    }
    *bench.remembered.lock().unwrap() = Ok(Some(held()));
    let told = bench.get(path).await.json();
    assert_eq!((&told["gate"], &told["known"]), (&"held".into(), &true.into()));
    assert_eq!(bench.get("/v1/accounts/tiktok/elsewhere").await.code(), "not_held_here");
}

#[tokio::test]
async fn the_description_needs_no_secret() {
    let bench = Bench::start().await;
    let answer = bench.ask("GET /v1/openapi.json", "").await;
    assert_eq!((answer.status, answer.text()), (200, OPEN_API));
}
