//! A token has come, and then something fails.

use crate::{
    bench::{Bench, Write, good, good_of, id, token},
    store::{Call, Trick},
};

#[tokio::test(start_paused = true)]
async fn a_store_that_takes_nothing_is_tried_until_it_does() {
    for failures in [1, 2, 50] {
        let mut bench = Bench::new().await;
        bench.answers(200, &good("1"));
        bench.store.play(Call::Save, std::iter::repeat_with(|| Trick::Fails).take(failures));
        let mut finished = bench.refresh().await;
        for _ in 0..failures {
            let expected = "unsaved; sent [0]; store 0; journal result 1";
            bench.ends("not saved yet", &finished, expected).await;
            finished = bench.settle().await;
        }
        let expected = "renewed; sent [0]; store 1; journal empty";
        bench.ends("saved in the end", &finished, expected).await;
    }
}

#[tokio::test(start_paused = true)]
async fn a_refresh_that_is_asked_for_meanwhile_saves_instead_of_spending() {
    let mut bench = Bench::new().await;
    bench.answers(200, &good("1"));
    bench.store.play(Call::Save, [Trick::Fails]);
    bench.refresh().await;
    let finished = bench.refresh().await;
    let expected = "renewed; sent [0]; store 1; journal empty";
    bench.ends("no second request", &finished, expected).await;
}

#[tokio::test(start_paused = true)]
async fn a_result_that_the_journal_does_not_take_is_saved_all_the_same() {
    let mut bench = Bench::new().await;
    bench.answers(200, &good("1"));
    bench.state_refuses(Write::Result);
    let finished = bench.refresh().await;
    let expected = "renewed; sent [0]; store 1; journal empty";
    bench.ends("from memory", &finished, expected).await;
}

#[tokio::test(start_paused = true)]
async fn what_neither_takes_is_held_and_goes_to_whichever_works_first() {
    // The store first.
    let mut bench = Bench::new().await;
    bench.answers(200, &good("1"));
    bench.state_refuses(Write::Result);
    bench.store.play(Call::Save, [Trick::Fails, Trick::Fails]);
    let finished = bench.refresh().await;
    let held = "unsaved; sent [0]; store 0; journal intent held 1 spilled 1";
    bench.ends("held", &finished, held).await;
    let finished = bench.settle().await;
    bench.ends("still held", &finished, held).await;
    let finished = bench.settle().await;
    let expected = "renewed; sent [0]; store 1; journal empty";
    bench.ends("the store works", &finished, expected).await;

    // The journal first: it is not held any longer than that.
    let mut bench = Bench::new().await;
    bench.answers(200, &good("1"));
    bench.state_refuses(Write::Result);
    bench.store.play(Call::Save, std::iter::repeat_with(|| Trick::Fails).take(2));
    bench.refresh().await;
    bench.state_works_again(Write::Result);
    bench.refresher.journal_held().await;
    let finished = bench.settle().await;
    let expected = "unsaved; sent [0]; store 0; journal result 1";
    bench.ends("the journal works", &finished, expected).await;
}

#[tokio::test(start_paused = true)]
async fn a_state_that_takes_nothing_at_all_does_not_keep_it_from_the_store() {
    let mut bench = Bench::new().await;
    bench.answers(200, &good("1"));
    bench.state_refuses(Write::Result);
    bench.store.play(Call::Save, [Trick::Fails, Trick::Fails]);
    bench.refresh().await;
    bench.state_refuses(Write::Lease);
    bench.state_refuses(Write::Close);
    let finished = bench.settle().await;
    let expected = "unsaved; sent [0]; store 0; journal intent held 1 spilled 1";
    bench.ends("neither", &finished, expected).await;
    let finished = bench.settle().await;
    let expected = "renewed; sent [0]; store 1; journal intent";
    bench.ends("the store works", &finished, expected).await;
    // The entry that could not be closed is found to be of no interest.
    bench.state_works_again(Write::Lease);
    bench.state_works_again(Write::Close);
    let finished = bench.settle().await;
    bench.ends("closed", &finished, "adopted; sent [0]; store 1; journal empty").await;
}

#[tokio::test(start_paused = true)]
async fn an_end_that_could_not_be_written_is_written_when_it_can_be_and_only_if_the_token_is_still_ours()
 {
    for (theirs, journal) in
        [(false, "store 1; journal empty"), (true, "store 7; journal result 1")]
    {
        let mut bench = Bench::new().await;
        bench.answers(200, &good("1"));
        bench.state_refuses(Write::Close);
        let finished = bench.refresh().await;
        bench.ends("open", &finished, "renewed; sent [0]; store 1; journal result 1").await;
        bench.refresher.write_ends().await;
        assert!(bench.refresher.held.owes_ends());
        bench.ends("still open", &finished, "renewed; sent [0]; store 1; journal result 1").await;
        bench.state_works_again(Write::Close);
        if theirs {
            bench.store.put(&id(), Some(token("7")));
        }
        bench.refresher.write_ends().await;
        assert!(!bench.refresher.held.owes_ends());
        bench.ends("written", &finished, &format!("renewed; sent [0]; {journal}")).await;
    }
}

#[tokio::test(start_paused = true)]
async fn what_is_held_of_one_attempt_never_becomes_the_result_of_another() {
    let mut bench = Bench::new().await;
    bench.answers(200, &good_of("1", "open-bob"));
    bench.state_refuses(Write::Result);
    let finished = bench.refresh().await;
    let expected = "wrong wrong_environment; sent [0]; store 0; journal intent held 1 spilled 1";
    bench.ends("another account's, held", &finished, expected).await;
    // Its owner reconnects; the journal works again.
    bench.store.put(&id(), Some(token("7")));
    bench.state_works_again(Write::Result);
    let finished = bench.refresh_of("7").await;
    let expected = "adopted; sent [0]; store 7; journal orphans 1";
    bench.ends("set aside", &finished, expected).await;
    bench.answers(200, &good("8"));
    bench.state_refuses(Write::Result);
    let finished = bench.refresh_of("7").await;
    let expected = "renewed; sent [0 7]; store 8; journal orphans 1";
    bench.ends("the account's own", &finished, expected).await;
}

#[tokio::test(start_paused = true)]
async fn a_token_that_was_saved_is_not_saved_again_over_a_later_one() {
    let mut bench = Bench::new().await;
    bench.answers(200, &good("1"));
    bench.state_refuses(Write::Close);
    let finished = bench.refresh().await;
    let expected = "renewed; sent [0]; store 1; journal result 1";
    bench.ends("saved, and not closed", &finished, expected).await;
    bench.store.put(&id(), Some(token("7")));
    bench.state_works_again(Write::Close);
    let finished = bench.refresh_of("7").await;
    let expected = "adopted; sent [0]; store 7; journal orphans 1";
    bench.ends("theirs stays", &finished, expected).await;
}

#[tokio::test(start_paused = true)]
async fn a_token_whose_app_left_the_configuration_is_saved_all_the_same() {
    let mut bench = Bench::new().await;
    bench.answers(200, &good("1"));
    bench.store.play(Call::Save, [Trick::Fails, Trick::Fails]);
    bench.refresh().await;
    bench.refresher.apps.store(Default::default());
    let finished = bench.settle().await;
    let expected = "gone; sent [0]; store 0; journal result 1";
    bench.ends("not yet", &finished, expected).await;
    let finished = bench.settle().await;
    bench.ends("saved", &finished, "gone; sent [0]; store 1; journal empty").await;
}
