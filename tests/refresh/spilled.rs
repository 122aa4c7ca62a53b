//! A token has come that neither journal nor store takes, and the process ends: what lies in the spill is all there
//! is, or it is older than what has been done since.

use crate::{
    bench::{Bench, DEAD, Write, good, id, token},
    store::{Call, Trick},
};
use oauth_keepalive::core::fleet::Finished;
use std::{fs, path::PathBuf};

/// What the journal refuses and the store does not take either, when the process is killed.
async fn spilled() -> Bench {
    let mut bench = Bench::new().await;
    bench.answers(200, &good("1"));
    bench.state_refuses(Write::Result);
    bench.store.play(Call::Save, [Trick::Fails]);
    let finished = bench.refresh().await;
    let expected = "unsaved; sent [0]; store 0; journal intent held 1 spilled 1";
    bench.ends("in the spill", &finished, expected).await;
    bench
}

async fn crashed() -> Bench {
    let bench = spilled().await.crash().await;
    bench.state_works_again(Write::Result);
    bench
}

fn folder(bench: &Bench) -> PathBuf {
    let ours = |path: &PathBuf| path.to_string_lossy().contains("oauth-keepalive-");
    let entries = fs::read_dir(bench.folder.path()).unwrap();
    entries.map(|entry| entry.unwrap().path()).find(ours).expect("something lies in the spill")
}

/// Takes the files away, as if this process did not know of them; the answer puts them back.
fn hide(bench: &Bench) -> impl FnOnce() + use<> {
    let from = folder(bench);
    let to = bench.folder.path().join("hidden");
    fs::rename(&from, &to).unwrap();
    move || fs::rename(to, from).unwrap()
}

#[tokio::test(start_paused = true)]
async fn the_next_run_brings_it_into_the_journal_and_from_there_into_the_store() {
    let bench = crashed().await;
    bench.refresher.take_in_spilled().await;
    let finished = bench.settle().await;
    bench.ends("saved", &finished, "renewed; sent [0]; store 1; journal empty").await;
}

#[tokio::test(start_paused = true)]
async fn the_run_that_put_it_there_takes_it_away_again() {
    let bench = spilled().await;
    bench.state_works_again(Write::Result);
    bench.refresher.take_in_spilled().await;
    assert_eq!(bench.refresher.held.spilled(), 1, "it is held, so it is no other run's");
    bench.refresher.journal_held().await;
    let finished = bench.settle().await;
    bench.ends("saved", &finished, "renewed; sent [0]; store 1; journal empty").await;
}

#[tokio::test(start_paused = true)]
async fn while_the_journal_does_not_take_it_the_next_run_gives_it_to_the_store() {
    let bench = spilled().await.crash().await;
    bench.refresher.take_in_spilled().await;
    assert_eq!((bench.refresher.held.len(), bench.refresher.held.spilled()), (1, 1));
    bench.state_refuses(Write::Lease);
    let finished = bench.settle().await;
    bench.ends("saved", &finished, "renewed; sent [0]; store 1; journal intent").await;
    // The entry was the dead process's to end.
    bench.state_works_again(Write::Lease);
    let finished = bench.settle().await;
    bench.ends("closed", &finished, "adopted; sent [0]; store 1; journal empty").await;
}

#[tokio::test(start_paused = true)]
async fn an_account_that_was_given_up_without_it_is_well_again() {
    let bench = crashed().await;
    let show = hide(&bench);
    let mut bench = bench;
    bench.answers(200, crate::bench::ALIVE);
    bench.answers(400, DEAD);
    let finished = bench.settle().await;
    let seen = bench.after(&finished).await;
    assert_eq!(seen, "dead rotation_lost; sent [0 check 0]; store 0; journal empty");
    show();
    bench.refresher.take_in_spilled().await;
    let expected = "dead rotation_lost; sent [0 check 0]; store 1; journal empty";
    bench.ends("the store has what the provider gave out", &finished, expected).await;
}

#[tokio::test(start_paused = true)]
async fn a_newer_consent_wins_over_it() {
    // While its attempt is open it becomes its result, and is set aside like any other.
    for is_closed_before in [false, true] {
        let bench = crashed().await;
        bench.store.put(&id(), Some(token("7")));
        let show = hide(&bench);
        if is_closed_before {
            bench.settle().await;
        }
        show();
        bench.refresher.take_in_spilled().await;
        let finished = bench.settle().await;
        let expected = "adopted; sent [0]; store 7; journal orphans 1";
        bench.ends("theirs stays", &finished, expected).await;
    }
}

#[tokio::test(start_paused = true)]
async fn a_file_that_could_not_be_removed_brings_nothing_old_back() {
    let bench = spilled().await;
    let file = fs::read_dir(folder(&bench)).unwrap().next().unwrap().unwrap().path();
    let content = fs::read(&file).unwrap();
    let again = || {
        let _ = fs::create_dir(file.parent().unwrap());
        let ours = std::os::unix::fs::PermissionsExt::from_mode(0o700);
        fs::set_permissions(file.parent().unwrap(), ours).unwrap();
        fs::write(&file, &content).unwrap();
    };
    bench.state_works_again(Write::Result);
    bench.refresher.journal_held().await;
    let finished = bench.settle().await;

    again();
    bench.refresher.take_in_spilled().await;
    let expected = "renewed; sent [0]; store 1; journal empty";
    bench.ends("the store has it", &finished, expected).await;

    let mut bench = bench;
    bench.answers(200, &good("2"));
    let finished = bench.refresh_of("1").await;
    // Somebody with a cached row helps it along.
    bench.store.put(&id(), Some(token("0")));
    again();
    bench.refresher.take_in_spilled().await;
    let expected = "renewed; sent [0 1]; store 0; journal empty";
    let seen = bench.after(&finished).await;
    assert_eq!(seen, expected, "one that was spent is nobody's any more");
    let finished = bench.refresh_of("0").await;
    bench.ends("ours", &finished, "restored; sent [0 1]; store 2; journal empty").await;
}

#[tokio::test(start_paused = true)]
async fn one_that_has_died_since_is_not_brought_back() {
    let bench = crashed().await;
    let show = hide(&bench);
    // Another process asks once more, a provider that forgives hands out the same again, and that dies.
    let mut bench = bench;
    bench.answers(200, crate::bench::ALIVE);
    bench.answers(200, &good("1"));
    bench.settle().await;
    bench.answers(400, DEAD);
    let finished = bench.refresh_of("1").await;
    bench.store.put(&id(), Some(token("0")));
    show();
    bench.refresher.take_in_spilled().await;
    let expected = "dead refresh_token_rejected; sent [0 check 0 1]; store 0; journal empty";
    assert_eq!(bench.after(&finished).await, expected);
}

#[tokio::test(start_paused = true)]
async fn one_that_another_successor_has_replaced_is_not_brought_back() {
    let bench = crashed().await;
    let show = hide(&bench);
    let mut bench = bench;
    bench.answers(200, crate::bench::ALIVE);
    bench.answers(200, &good("2"));
    let finished = bench.settle().await;
    bench.store.put(&id(), Some(token("0")));
    show();
    bench.refresher.take_in_spilled().await;
    let expected = "renewed; sent [0 check 0]; store 0; journal empty";
    assert_eq!(bench.after(&finished).await, expected);
    let finished = bench.refresh_of("0").await;
    let expected = "restored; sent [0 check 0]; store 2; journal empty";
    assert_eq!(bench.after(&finished).await, expected);
}

#[tokio::test(start_paused = true)]
async fn of_another_attempt_with_the_same_number_it_is_not_the_result() {
    let bench = crashed().await;
    bench.store.put(&id(), Some(token("7")));
    // As in a state that was begun anew and counts from one again.
    bench.sql("UPDATE journal SET old = old + 1, spending = spending + 1");
    let finished = Finished::Gone;
    bench.refresher.take_in_spilled().await;
    let expected = "gone; sent [0]; store 7; journal intent orphans 1";
    bench.ends("another attempt", &finished, expected).await;
}

#[tokio::test(start_paused = true)]
async fn while_the_store_cannot_be_asked_a_stray_one_stays() {
    let bench = crashed().await;
    let show = hide(&bench);
    bench.store.put(&id(), Some(token("7")));
    let finished = bench.settle().await;
    show();
    bench.store.play(Call::Get, [Trick::Fails]);
    bench.refresher.take_in_spilled().await;
    bench.ends("waits", &finished, "adopted; sent [0]; store 7; journal empty spilled 1").await;
    assert!(bench.refresher.held.awaits_spilled());
    bench.refresher.take_in_spilled().await;
    bench.ends("placed", &finished, "adopted; sent [0]; store 7; journal orphans 1").await;
}
