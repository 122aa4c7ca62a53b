//! The one post that may prove an account, whoever let it go.

use super::*;
use oauth_keepalive::core::permits::Canary;

async fn claim(state: &State, post: &str, now: i64, until: i64) -> (Option<String>, i64) {
    let Canary { post, until } =
        state.claim_canary(&ann(), post, at(now), at(until)).await.unwrap();
    (post.map(|post| post.to_string()), until.as_unix() - at(0).as_unix())
}

fn may(post: &str, until: i64) -> (Option<String>, i64) {
    (Some(post.to_owned()), until)
}

pub(crate) async fn one_post_may_prove_an_account_until_its_time_is_over<B: Backend>() {
    let world = B::make().await;
    let (one, two) = (open(&world).await, open(&world).await);
    assert_eq!(claim(&one, "first", 0, 60).await, may("first", 60));
    assert_eq!(claim(&two, "second", 1, 61).await, may("first", 60), "in any process");
    assert_eq!(claim(&two, "first", 2, 62).await, may("first", 60), "the same again is the same");
    let other =
        two.claim_canary(&AccountId::new("tiktok", "bob"), "second", at(1), at(61)).await.unwrap();
    assert_eq!(other.post.as_deref(), Some("second"), "another account has its own");
    assert_eq!(claim(&two, "second", 59, 119).await, may("first", 60));
    assert_eq!(claim(&two, "second", 60, 120).await, may("second", 120));
}

pub(crate) async fn a_post_that_was_reported_goes_no_more_and_the_next_one_soon<B: Backend>() {
    let world = B::make().await;
    let (one, two) = (open(&world).await, open(&world).await);
    claim(&one, "first", 0, 60).await;
    two.report_canary(&ann(), at(20)).await.unwrap();
    assert_eq!(claim(&one, "first", 19, 79).await, (None, 20));
    assert_eq!(claim(&two, "second", 19, 79).await, (None, 20));
    assert_eq!(claim(&two, "second", 20, 80).await, may("second", 80));
    one.report_canary(&ann(), at(200)).await.unwrap();
    assert_eq!(claim(&one, "third", 79, 139).await, (None, 80), "its time is over before that");
}

pub(crate) async fn a_gate_that_moved_ends_what_was_let_go_before_and_nothing_newer<B: Backend>() {
    let world = B::make().await;
    let state = open(&world).await;
    claim(&state, "first", 10, 60).await;
    state.end_canary(&ann(), at(9)).await.unwrap();
    assert_eq!(claim(&state, "second", 11, 71).await, may("first", 60), "it is newer than that");
    state.end_canary(&AccountId::new("tiktok", "bob"), at(12)).await.unwrap();
    assert_eq!(claim(&state, "second", 13, 73).await, may("first", 60), "that was another account");
    state.end_canary(&ann(), at(12)).await.unwrap();
    assert_eq!(claim(&state, "second", 13, 73).await, may("second", 73));
}

pub(crate) async fn of_posts_that_ask_at_once_one_may_go<B: Backend>() {
    let world = B::make().await;
    let (one, two) = (open(&world).await, open(&world).await);
    for round in 0..5_i64 {
        let (now, until) = (round * 100, round * 100 + 60);
        let (first, second) =
            tokio::join!(claim(&one, "first", now, until), claim(&two, "second", now, until));
        assert_eq!(first, second, "both say which");
    }
}
