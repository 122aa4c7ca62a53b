//! Somebody writes a token back that was replaced long ago, or something that only looks like one.

use crate::{
    bench::{ALIVE, Bench, DEAD, Step, Write, answered, good, id, token},
    store::{Call, PlayedStore, Trick},
};
use oauth_keepalive::{
    core::{Farewell, Secret},
    oauth::Token,
};

/// Three refreshes: the store holds token 3; 0, 1 and 2 are spent.
async fn after_three() -> Bench {
    let mut bench = Bench::new().await;
    for (old, new) in [("0", "1"), ("1", "2"), ("2", "3")] {
        bench.answers(200, &good(new));
        bench.refresh_of(old).await;
    }
    bench
}

/// The access token of one and the refresh token of another.
fn mixed(access: &str, refresh: &str) -> Token {
    Token { access: Secret::new(format!("act.invented.{access}")), ..token(refresh) }
}

#[tokio::test(start_paused = true)]
async fn a_token_that_we_spent_is_never_sent_and_ours_is_put_back() {
    for stale in ["0", "1", "2"] {
        let bench = after_three().await;
        bench.store.put(&id(), Some(token(stale)));
        // What the fleet asks when it took the stale one for somebody's news.
        let finished = bench.refresh_of(stale).await;
        let expected = "restored; sent [0 1 2]; store 3; journal empty";
        bench.ends(stale, &finished, expected).await;
        // And when it has recognised it.
        bench.store.put(&id(), Some(token(stale)));
        let finished = bench.settle().await;
        bench.ends(stale, &finished, expected).await;
        let bench = bench.crash().await;
        bench.store.put(&id(), Some(token(stale)));
        let finished = bench.refresh_of(stale).await;
        bench.ends("after a restart", &finished, expected).await;
    }
}

#[tokio::test(start_paused = true)]
async fn what_was_never_spent_is_somebody_elses_and_stays() {
    let rows = [
        ("a new consent", token("7"), "renewed; sent [0 1 2 7]; store 8; journal empty"),
        (
            "our refresh token, another access token",
            mixed("9", "3"),
            "renewed; sent [0 1 2 3]; store 8; journal empty",
        ),
    ];
    for (sentence, theirs, expected) in rows {
        let mut bench = after_three().await;
        let known = bench.refresher.state.fingerprinter().of_token(&theirs);
        bench.store.put(&id(), Some(theirs));
        bench.answers(200, &good("8"));
        let finished = bench.refresher.refresh(&id(), known, "due").await;
        bench.ends(sentence, &finished, expected).await;
    }
}

#[tokio::test(start_paused = true)]
async fn after_a_new_consent_neither_its_own_past_nor_the_one_before_comes_back() {
    let mut bench = after_three().await;
    bench.store.put(&id(), Some(token("7")));
    bench.answers(200, &good("8"));
    bench.refresh_of("7").await;
    for stale in ["7", "0"] {
        bench.store.put(&id(), Some(token(stale)));
        let finished = bench.refresh_of(stale).await;
        let expected = "restored; sent [0 1 2 7]; store 8; journal empty";
        bench.ends(stale, &finished, expected).await;
    }
}

#[tokio::test(start_paused = true)]
async fn a_stale_write_while_the_request_is_on_the_wire_does_not_cost_the_new_token() {
    type Change = fn(&PlayedStore);
    let rows: [(&str, Change, &str); 4] = [
        (
            "an old one",
            |store| store.put(&id(), Some(token("1"))),
            "renewed; sent [0 1 2 3]; store 4; journal empty",
        ),
        (
            "the one being spent, with another access token",
            |store| store.put(&id(), Some(mixed("9", "3"))),
            "renewed; sent [0 1 2 3]; store 4; journal empty",
        ),
        (
            "a new consent",
            |store| store.put(&id(), Some(token("7"))),
            "adopted; sent [0 1 2 3]; store 7; journal orphans 1",
        ),
        (
            "an old one, and a new consent before we are back",
            |store| {
                store.put(&id(), Some(token("1")));
                let reconnects = |store: &PlayedStore| store.put(&id(), Some(token("7")));
                store.play(Call::Save, [Trick::Works, Trick::After(Box::new(reconnects))]);
            },
            "adopted; sent [0 1 2 3]; store 7; journal orphans 1",
        ),
    ];
    for (sentence, change, expected) in rows {
        let mut bench = after_three().await;
        let step: Step = Box::new(move |store| {
            change(store);
            answered(200, &good("4"))
        });
        bench.does(step);
        bench.now_received("4");
        let finished = bench.refresh_of("3").await;
        bench.ends(sentence, &finished, expected).await;
    }
}

#[tokio::test(start_paused = true)]
async fn a_verdict_about_ours_is_not_overturned_by_a_stale_write() {
    let bench = after_three().await;
    bench.does(Box::new(|store| {
        store.put(&id(), Some(token("2")));
        answered(400, DEAD)
    }));
    let finished = bench.refresh_of("3").await;
    let expected = "dead refresh_token_rejected; sent [0 1 2 3]; store 2; journal empty";
    bench.ends("not adopted", &finished, expected).await;
}

#[tokio::test(start_paused = true)]
async fn what_the_provider_has_buried_is_neither_put_back_nor_presented_again() {
    let mut bench = after_three().await;
    bench.answers(400, DEAD);
    bench.refresh_of("3").await;
    let sent = "known to be dead; sent [0 1 2 3]";
    for stale in ["2", "0", "3"] {
        bench.store.put(&id(), Some(token(stale)));
        let finished = bench.refresh_of(stale).await;
        bench.ends(stale, &finished, &format!("{sent}; store {stale}; journal empty")).await;
    }
    // The owner reconnects, that dies too, and what we had before does not come back over it.
    bench.store.put(&id(), Some(token("6")));
    bench.answers(400, DEAD);
    for word in ["dead refresh_token_rejected", "known to be dead"] {
        let finished = bench.refresh_of("6").await;
        let expected = format!("{word}; sent [0 1 2 3 6]; store 6; journal empty");
        bench.ends("a consent that died", &finished, &expected).await;
    }
    bench.store.put(&id(), Some(token("7")));
    bench.answers(200, &good("8"));
    let finished = bench.refresh_of("7").await;
    let expected = "renewed; sent [0 1 2 3 6 7]; store 8; journal empty";
    bench.ends("a new consent", &finished, expected).await;
}

#[tokio::test(start_paused = true)]
async fn an_unknown_outcome_is_settled_with_the_token_it_is_about() {
    let mut bench = after_three().await;
    bench.never_answers();
    bench.until(bench.refresh_of("3"), |bench| bench.sent().len() == 4).await;
    let crashed = bench.crash().await;
    bench = crashed;
    bench.store.put(&id(), Some(token("0")));
    bench.answers(200, ALIVE);
    bench.answers(200, &good("4"));
    let finished = bench.settle().await;
    let expected = "renewed; sent [0 1 2 3 check 3]; store 4; journal empty";
    bench.ends("the one probe", &finished, expected).await;
}

#[tokio::test(start_paused = true)]
async fn a_result_that_waits_for_the_store_goes_over_the_stale_one() {
    let mut bench = after_three().await;
    bench.answers(200, &good("4"));
    bench.store.play(Call::Save, [Trick::Fails]);
    bench.refresh_of("3").await;
    bench.store.put(&id(), Some(token("1")));
    let finished = bench.settle().await;
    let expected = "renewed; sent [0 1 2 3]; store 4; journal empty";
    bench.ends("saved", &finished, expected).await;
}

#[tokio::test(start_paused = true)]
async fn what_went_to_the_store_without_the_journal_is_kept_as_well() {
    let mut bench = Bench::new().await;
    bench.answers(200, &good("1"));
    bench.state_refuses(Write::Result);
    bench.refresh().await;
    bench.store.put(&id(), Some(token("0")));
    let finished = bench.refresh().await;
    bench.ends("put back", &finished, "restored; sent [0]; store 1; journal empty").await;
}

#[tokio::test(start_paused = true)]
async fn a_refresh_token_that_the_provider_hands_out_again_was_not_spent() {
    let mut bench = Bench::new().await;
    let again = good("1").replace("rft.invented.1", "rft.invented.0");
    bench.answers(200, &again);
    bench.refresh().await;
    // Nothing that could be confused with it, so no second copy of it lies anywhere.
    assert!(bench.refresher.state.newest(&id()).await.unwrap().is_none());
    bench.store.put(&id(), Some(token("0")));
    bench.answers(200, &good("2"));
    let finished = bench.refresh().await;
    let seen = bench.after(&finished).await;
    assert_eq!(seen, "renewed; sent [0 0]; store 2; journal empty");
}

#[tokio::test(start_paused = true)]
async fn a_store_that_cannot_be_written_gets_it_later_and_nothing_is_sent() {
    let bench = after_three().await;
    bench.store.put(&id(), Some(token("0")));
    bench.store.play(Call::Save, [Trick::Fails]);
    let finished = bench.refresh_of("0").await;
    let expected = "store down; sent [0 1 2]; store 0; journal empty";
    bench.ends("not yet", &finished, expected).await;
    let finished = bench.refresh_of("0").await;
    let expected = "restored; sent [0 1 2]; store 3; journal empty";
    bench.ends("later", &finished, expected).await;
}

#[tokio::test(start_paused = true)]
async fn of_a_forgotten_account_nothing_is_kept() {
    let bench = after_three().await;
    bench.refresher.state.forget(vec![Farewell::for_good(id())]).await.unwrap();
    assert!(bench.refresher.state.newest(&id()).await.unwrap().is_none());
}
