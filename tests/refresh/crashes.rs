//! The process dies in the middle, and the next one takes over.

use crate::{
    bench::{ALIVE, Bench, DEAD, Write, good, good_of, id, token},
    store::{Call, Trick},
};

/// Died after the intent: the request is on the wire, and nobody hears the answer.
async fn after_the_intent() -> Bench {
    let bench = Bench::new().await;
    bench.never_answers();
    bench.until(bench.refresh(), |bench| bench.sent().len() == 1).await;
    bench.crash().await
}

/// Died after the result was journalled: the store was being written.
async fn after_the_result(number: &str, open_id: &str) -> Bench {
    let mut bench = Bench::new().await;
    bench.answers(200, &good_of(number, open_id));
    if open_id == "open-ann" {
        bench.store.play(Call::Save, [Trick::Hangs]);
        bench.until(bench.refresh(), |bench| bench.store.hangs_in(Call::Save)).await;
    } else {
        // Another account's token never gets as far as the store; it is the closing that did not happen.
        bench.state_refuses(Write::Orphan);
        bench.refresh().await;
        bench.state_works_again(Write::Orphan);
    }
    bench.crash().await
}

#[tokio::test(start_paused = true)]
async fn after_the_intent_the_one_probe_follows() {
    for (status, body, expected) in [
        (200, good("1"), "renewed; sent [0 check 0]; store 1; journal empty"),
        (400, DEAD.to_owned(), "dead rotation_lost; sent [0 check 0]; store 0; journal empty"),
    ] {
        let mut bench = after_the_intent().await;
        let seen = bench.refresher.state.open_entries().await.unwrap();
        assert_eq!(seen.len(), 1, "the next run knows of it");
        bench.answers(200, ALIVE);
        bench.answers(status, &body);
        let finished = bench.settle().await;
        bench.ends("after the intent", &finished, expected).await;
    }
}

#[tokio::test(start_paused = true)]
async fn after_the_intent_a_store_that_changed_says_it_all() {
    let bench = after_the_intent().await;
    bench.store.put(&id(), Some(token("7")));
    let finished = bench.settle().await;
    let expected = "adopted; sent [0]; store 7; journal empty";
    bench.ends("the publisher was faster", &finished, expected).await;
}

#[tokio::test(start_paused = true)]
async fn after_the_result_it_is_saved() {
    let bench = after_the_result("1", "open-ann").await;
    let finished = bench.settle().await;
    let expected = "renewed; sent [0]; store 1; journal empty";
    bench.ends("after the result", &finished, expected).await;
}

#[tokio::test(start_paused = true)]
async fn after_the_result_a_newer_consent_still_wins() {
    let bench = after_the_result("1", "open-ann").await;
    bench.store.put(&id(), Some(token("7")));
    let finished = bench.settle().await;
    let expected = "adopted; sent [0]; store 7; journal orphans 1";
    bench.ends("reconnected meanwhile", &finished, expected).await;
}

#[tokio::test(start_paused = true)]
async fn after_the_result_another_accounts_token_is_still_not_stored() {
    let bench = after_the_result("1", "open-bob").await;
    let finished = bench.settle().await;
    let expected = "wrong wrong_environment; sent [0]; store 0; journal orphans 1";
    bench.ends("another account's", &finished, expected).await;
}

#[tokio::test(start_paused = true)]
async fn after_the_save_it_is_only_closed() {
    let mut bench = Bench::new().await;
    bench.answers(200, &good("1"));
    bench.state_refuses(Write::Close);
    bench.refresh().await;
    bench.state_works_again(Write::Close);
    let bench = bench.crash().await;
    let finished = bench.settle().await;
    let expected = "renewed; sent [0]; store 1; journal empty";
    bench.ends("after the save", &finished, expected).await;
}

#[tokio::test(start_paused = true)]
async fn a_dead_process_holds_nothing_up_and_nothing_is_done_twice() {
    let bench = Bench::new().await;
    bench.never_answers();
    bench.until(bench.refresh(), |bench| bench.sent().len() == 1).await;
    let bench = bench.crash_and_come_back_at_once().await;
    let finished = bench.settle().await;
    // Its lease is free at once, and the request that it sent may still be under way.
    let expected = "ambiguous; sent [0]; store 0; journal intent";
    bench.ends("before the first deadline", &finished, expected).await;
}

#[tokio::test(start_paused = true)]
async fn a_token_that_is_known_to_be_dead_is_not_presented_again() {
    // While the store is looked at once more; nothing but the answer has been written down.
    let mut bench = Bench::new().await;
    bench.answers(400, DEAD);
    bench.store.play(Call::Get, [Trick::Works, Trick::Hangs]);
    bench.until(bench.refresh(), |bench| bench.store.hangs_in(Call::Get)).await;
    let bench = bench.crash().await;
    let finished = bench.settle().await;
    let expected = "dead rotation_lost; sent [0]; store 0; journal empty";
    bench.ends("before the verdict", &finished, expected).await;

    // The attempt is closed, and the memory of the verdict was not written.
    let mut bench = Bench::new().await;
    bench.answers(400, DEAD);
    let finished = bench.refresh().await;
    let expected = "dead refresh_token_rejected; sent [0]; store 0; journal empty";
    bench.ends("the verdict", &finished, expected).await;
    let bench = bench.crash().await;
    let finished = bench.refresh().await;
    let expected = "known to be dead; sent [0]; store 0; journal empty";
    bench.ends("after the verdict", &finished, expected).await;

    // A new consent is asked about, and only it.
    let mut bench = bench;
    bench.store.put(&id(), Some(token("7")));
    bench.answers(200, &good("8"));
    let finished = bench.refresh_of("7").await;
    let expected = "renewed; sent [0 7]; store 8; journal empty";
    bench.ends("a new consent", &finished, expected).await;
}

#[tokio::test(start_paused = true)]
async fn a_verdict_that_cannot_be_written_down_is_written_later_and_nothing_is_sent_again() {
    let mut bench = Bench::new().await;
    bench.answers(400, DEAD);
    bench.state_refuses(Write::Close);
    let finished = bench.refresh().await;
    let expected = "ambiguous; sent [0]; store 0; journal probed";
    bench.ends("refused", &finished, expected).await;
    let finished = bench.settle().await;
    bench.ends("still refused", &finished, expected).await;
    bench.state_works_again(Write::Close);
    let finished = bench.settle().await;
    let expected = "dead refresh_token_rejected; sent [0]; store 0; journal empty";
    bench.ends("written", &finished, expected).await;
}
