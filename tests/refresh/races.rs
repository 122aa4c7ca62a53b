//! Somebody else writes the store while our request is on the wire.

use crate::{
    bench::{Bench, Step, Write, answered, good, id, token},
    store::{Call, PlayedStore, Trick},
};

type Change = fn(&PlayedStore);

/// A good answer, and meanwhile `change` happens to the store.
fn meanwhile(change: Change) -> Step {
    Box::new(move |store| {
        change(store);
        answered(200, &good("1"))
    })
}

#[tokio::test(start_paused = true)]
async fn a_newer_consent_wins_and_ours_is_kept_aside() {
    let rows: [(&str, Change, &str); 4] = [
        (
            "its owner reconnects it",
            |store| store.put(&id(), Some(token("7"))),
            "adopted; sent [0]; store 7; journal orphans 1",
        ),
        (
            "its row is removed",
            |store| store.remove(&id()),
            "gone; sent [0]; store no row; journal orphans 1",
        ),
        (
            "its token is taken out",
            |store| store.put(&id(), None),
            "no token; sent [0]; store no token; journal orphans 1",
        ),
        (
            "the publisher was handed the same token",
            |store| store.put(&id(), Some(token("1"))),
            "renewed; sent [0]; store 1; journal empty",
        ),
    ];
    for (sentence, change, expected) in rows {
        let mut bench = Bench::new().await;
        bench.does(meanwhile(change));
        bench.now_received("1");
        let finished = bench.refresh().await;
        bench.ends(sentence, &finished, expected).await;
    }
}

#[tokio::test(start_paused = true)]
async fn the_last_moment_before_the_save_counts_too() {
    let mut bench = Bench::new().await;
    bench.answers(200, &good("1"));
    let reconnect = |store: &PlayedStore| store.put(&id(), Some(token("7")));
    bench.store.play(Call::Save, [Trick::After(Box::new(reconnect))]);
    let finished = bench.refresh().await;
    let expected = "adopted; sent [0]; store 7; journal orphans 1";
    bench.ends("between the answer and the save", &finished, expected).await;
    bench.answers(200, &good("8"));
    let finished = bench.refresh_of("7").await;
    let expected = "renewed; sent [0 7]; store 8; journal orphans 1";
    bench.ends("and theirs lives on", &finished, expected).await;
}

#[tokio::test(start_paused = true)]
async fn a_token_without_a_place_is_not_dropped_when_the_journal_does_not_take_it() {
    let changes: [(&str, Change, &str, &str); 3] = [
        (
            "its owner reconnects it",
            |store| store.put(&id(), Some(token("7"))),
            "adopted; sent [0]; store 7; journal intent held 1 spilled 1",
            "adopted; sent [0]; store 7; journal orphans 1",
        ),
        (
            "its row is removed",
            |store| store.remove(&id()),
            "gone; sent [0]; store no row; journal intent held 1 spilled 1",
            "gone; sent [0]; store no row; journal result 1",
        ),
        (
            "its row is emptied",
            |store| store.put(&id(), None),
            "no token; sent [0]; store no token; journal intent held 1 spilled 1",
            "no token; sent [0]; store no token; journal result 1",
        ),
    ];
    for (sentence, change, at_once, in_the_end) in changes {
        let mut bench = Bench::new().await;
        bench.does(meanwhile(change));
        bench.now_received("1");
        bench.state_refuses(Write::Result);
        let finished = bench.refresh().await;
        bench.ends(sentence, &finished, at_once).await;
        let finished = bench.settle().await;
        bench.ends(sentence, &finished, at_once).await;
        bench.state_works_again(Write::Result);
        let finished = bench.settle().await;
        bench.ends(sentence, &finished, in_the_end).await;
    }
}

#[tokio::test(start_paused = true)]
async fn a_save_that_was_written_and_not_heard_of_is_found_there() {
    let mut bench = Bench::new().await;
    bench.answers(200, &good("1"));
    bench.store.play(Call::Save, [Trick::WrittenUnheard]);
    let finished = bench.refresh().await;
    let expected = "unsaved; sent [0]; store 1; journal result 1";
    bench.ends("not heard of", &finished, expected).await;
    let finished = bench.settle().await;
    bench.ends("found there", &finished, "renewed; sent [0]; store 1; journal empty").await;
}
