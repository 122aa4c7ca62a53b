//! Access tokens: only where switched on, only with the right, never while held, never an old one.

use crate::bench::Bench;
use oauth_keepalive::core::Gate;

const PATH: &str = "/v1/accounts/tiktok/a/token";

#[tokio::test]
async fn the_token_is_the_one_in_the_store_at_this_moment() {
    let bench = Bench::start().await;
    let answer = bench.get(PATH).await;
    assert_eq!(answer.json()["access_token"], "invented-access");
    assert_eq!(answer.json()["token_type"], "Bearer");
    assert_eq!(answer.header("cache-control"), Some("no-store"));
    *bench.token.lock().unwrap() = Some(("invented-newer".to_owned(), None));
    assert_eq!(bench.get(PATH).await.json()["access_token"], "invented-newer");
    bench.set("a", Gate::Canary);
    assert_eq!(bench.get(PATH).await.status, 200, "the canary needs it");
}

#[tokio::test]
async fn no_token_is_handed_out_that_must_not_or_cannot_work() {
    let bench = Bench::start().await;
    let past = bench.snapshot.load().at.minus(std::time::Duration::from_secs(10));
    for nothing in [None, Some((" ".to_owned(), None)), Some(("x".to_owned(), Some(past)))] {
        *bench.token.lock().unwrap() = nothing;
        let answer = bench.get(PATH).await;
        assert_eq!((answer.status, &*answer.code()), (409, "no_token"));
    }
    *bench.token.lock().unwrap() = Some(("invented-access".to_owned(), None));
    bench.set("a", Gate::Held);
    let answer = bench.get(PATH).await;
    assert_eq!((answer.status, &*answer.code()), (409, "gate_held"));
    assert!(answer.header("retry-after").is_some());
    let nobody = bench.get("/v1/accounts/tiktok/nowhere/token").await;
    assert_eq!(nobody.code(), "no_such_account");
}

#[tokio::test]
async fn a_store_that_does_not_answer_is_no_reason_to_guess() {
    let bench = Bench::start_with(|context| {
        context.newest = Some(std::sync::Arc::new(|_| Box::pin(std::future::ready(Err(())))));
    })
    .await;
    assert_eq!(bench.get(PATH).await.code(), "unavailable");
    let off = Bench::start_with(|context| context.newest = None).await;
    assert_eq!(off.get(PATH).await.code(), "tokens_off");
}
