//! Two rows of the store hold one credential, and it is presented once.

use crate::{
    bench::{Bench, DEAD, DEADLINE, answered, good, good_of, id, name, token},
    store::{Call, PlayedStore, Trick},
};
use oauth_keepalive::{
    core::{
        AccountId,
        fleet::{Blocked, Finished},
    },
    oauth::Token,
    providers,
};
use std::time::Duration;

/// A page of the person whose login the bench's own account is.
fn page() -> AccountId {
    AccountId::new("tiktok", "anns-page")
}

fn of_page(number: &str) -> Token {
    Token { subject: Some("open-page".to_owned()), ..token(number) }
}

async fn bench() -> Bench {
    let bench = Bench::new().await;
    bench.store.put(&page(), Some(of_page("0")));
    bench
}

async fn refresh_page(bench: &Bench, number: &str) -> Finished {
    let expected = bench.refresher.state.fingerprinter().of_token(&of_page(number));
    bench.refresher.refresh(&page(), expected, "due").await
}

/// The page's row, and all that was sent.
fn seen(bench: &Bench) -> (String, Option<String>, Vec<String>) {
    let stored = bench.store.token(&page()).unwrap();
    (name(&stored), stored.subject, bench.sent())
}

fn has(number: &str, sent: &[&str]) -> (String, Option<String>, Vec<String>) {
    let sent = sent.iter().map(|&one| one.to_owned()).collect();
    (number.to_owned(), Some("open-page".to_owned()), sent)
}

#[tokio::test(start_paused = true)]
async fn what_was_refreshed_for_one_row_is_given_to_the_other_and_not_presented_again() {
    for asked in ["refresh", "settle", "refresh after a crash", "settle after a crash"] {
        let mut bench = bench().await;
        bench.answers(200, &good("1"));
        assert!(matches!(bench.refresh().await, Finished::Renewed(_)));
        if asked.ends_with("crash") {
            bench = bench.crash().await;
        }
        let finished = match asked.starts_with("refresh") {
            true => refresh_page(&bench, "0").await,
            false => bench.refresher.settle(&page(), true).await,
        };
        assert!(matches!(finished, Finished::Shared(_)), "{asked}: {finished:?}");
        assert_eq!(seen(&bench), has("1", &["0"]), "{asked}");
        bench.ends(asked, &finished, "shared; sent [0]; store 1; journal empty").await;
    }
}

#[tokio::test(start_paused = true)]
async fn either_row_may_be_the_first_each_time() {
    let mut bench = bench().await;
    bench.answers(200, &good("1"));
    bench.refresh().await;
    refresh_page(&bench, "0").await;
    // The provider calls the page by the name of its person, which is no other account's token.
    bench.store.put(&page(), Some(token("1")));
    bench.answers(200, &good("2"));
    let expected = bench.refresher.state.fingerprinter().of_token(&token("1"));
    let finished = bench.refresher.refresh(&page(), expected, "due").await;
    assert!(matches!(finished, Finished::Renewed(_)), "{finished:?}");
    let finished = bench.refresh_of("1").await;
    bench
        .ends("the other way round", &finished, "shared; sent [0 1]; store 2; journal empty")
        .await;
}

#[tokio::test(start_paused = true)]
async fn a_row_that_missed_several_rotations_gets_the_newest_if_it_names_the_same_login() {
    for is_same_login in [true, false] {
        let mut bench = bench().await;
        for (old, new) in [("0", "1"), ("1", "2"), ("2", "3")] {
            bench.answers(200, &good(new));
            bench.refresh_of(old).await;
        }
        if is_same_login {
            bench.store.put(&page(), Some(token("0")));
            assert!(matches!(refresh_page(&bench, "0").await, Finished::Shared(_)));
        } else {
            // Whoever reconnected the account meanwhile may be somebody else.
            assert!(matches!(refresh_page(&bench, "0").await, Finished::KnownDead(_)));
            assert_eq!(bench.store.token(&page()).map(|token| name(&token)), Some("0".to_owned()));
        }
        assert_eq!(bench.sent(), ["0", "1", "2"], "nothing is presented again");
    }
}

#[tokio::test(start_paused = true)]
async fn what_another_consent_brought_is_nobody_elses() {
    let mut bench = bench().await;
    bench.answers(200, &good("1"));
    bench.refresh().await;
    // Another person connects the account that was refreshed first.
    bench.store.put(&id(), Some(token("7")));
    bench.answers(200, &good("8"));
    bench.refresh_of("7").await;
    assert!(matches!(refresh_page(&bench, "0").await, Finished::KnownDead(_)));
    assert_eq!(bench.store.token(&page()).map(|token| name(&token)), Some("0".to_owned()));
}

#[tokio::test(start_paused = true)]
async fn while_it_is_presented_for_one_row_it_is_not_for_the_other() {
    let mut bench = bench().await;
    bench.answers_after(Duration::from_secs(5), &good("1"));
    let (one, two) = tokio::join!(bench.refresh(), async {
        while bench.sent().is_empty() {
            tokio::task::yield_now().await;
        }
        let call = refresh_page(&bench, "0");
        tokio::pin!(call);
        loop {
            tokio::select! {
                biased;
                finished = &mut call => break finished,
                // Never idle, or the paused clock would run ahead of the thread that writes our state.
                () = tokio::task::yield_now() => {}
            }
        }
    });
    assert!(matches!(one, Finished::Renewed(_)), "{one:?}");
    assert!(matches!(two, Finished::Blocked(Blocked::LeaseHeld)), "{two:?}");
    assert_eq!(seen(&bench), has("0", &["0"]));
    assert!(matches!(refresh_page(&bench, "0").await, Finished::Shared(_)));
    assert_eq!(seen(&bench), has("1", &["0"]));
}

#[tokio::test(start_paused = true)]
async fn a_crash_before_the_first_save_keeps_the_other_row_waiting_for_it() {
    let mut bench = bench().await;
    bench.answers(200, &good("1"));
    bench.store.play(Call::Save, [Trick::Fails]);
    let finished = bench.refresh().await;
    assert!(matches!(finished, Finished::Unsaved(_)), "{finished:?}");
    let bench = bench.crash().await;
    let finished = refresh_page(&bench, "0").await;
    assert!(matches!(finished, Finished::Blocked(Blocked::LeaseHeld)), "{finished:?}");
    let finished = bench.settle().await;
    bench.ends("saved", &finished, "renewed; sent [0]; store 1; journal empty").await;
    assert!(matches!(refresh_page(&bench, "0").await, Finished::Shared(_)));
    assert_eq!(seen(&bench), has("1", &["0"]));
}

#[tokio::test(start_paused = true)]
async fn an_outcome_that_nobody_knows_is_settled_by_one_probe_for_both_rows() {
    let mut bench = bench().await;
    bench.is_lost(oauth_keepalive::oauth::Trouble::Deadline);
    assert!(matches!(bench.refresh().await, Finished::Ambiguous { .. }));
    let finished = refresh_page(&bench, "0").await;
    assert!(matches!(finished, Finished::Blocked(Blocked::LeaseHeld)), "{finished:?}");
    bench.wait(DEADLINE * 2).await;
    bench.does(Box::new(|_| answered(200, crate::bench::ALIVE)));
    bench.answers(200, DEAD);
    let finished = bench.settle().await;
    assert!(matches!(finished, Finished::Dead(_)), "{finished:?}");
    let finished = refresh_page(&bench, "0").await;
    assert!(matches!(finished, Finished::KnownDead(_)), "{finished:?}");
    assert_eq!(bench.sent(), ["0", "check", "0"], "never a second probe");
}

#[tokio::test(start_paused = true)]
async fn a_dead_credential_is_refused_once_for_all_its_rows() {
    let mut bench = bench().await;
    bench.answers(200, DEAD);
    assert!(matches!(bench.refresh().await, Finished::Dead(_)));
    for _ in 0..2 {
        let finished = refresh_page(&bench, "0").await;
        assert!(matches!(finished, Finished::KnownDead(_)), "{finished:?}");
    }
    assert_eq!(bench.sent(), ["0"]);
    // Whoever connects one of them again has a credential of its own.
    bench.store.put(&page(), Some(of_page("7")));
    bench.answers(200, &good("8").replace("open-ann", "open-page"));
    let finished = refresh_page(&bench, "7").await;
    assert!(matches!(finished, Finished::Renewed(_)), "{finished:?}");
}

#[tokio::test(start_paused = true)]
async fn what_somebody_else_writes_meanwhile_is_never_overwritten() {
    let mut bench = bench().await;
    bench.answers(200, &good("1"));
    bench.refresh().await;
    let theirs = |store: &PlayedStore| store.put(&page(), Some(of_page("9")));
    bench.store.play(Call::Save, [Trick::After(Box::new(theirs))]);
    let finished = refresh_page(&bench, "0").await;
    assert!(matches!(finished, Finished::Blocked(Blocked::LeaseHeld)), "{finished:?}");
    assert_eq!(seen(&bench), has("9", &["0"]));
}

#[tokio::test(start_paused = true)]
async fn a_state_that_cannot_say_who_spent_it_lets_nobody_present_it() {
    let mut bench = bench().await;
    bench.answers(200, &good("1"));
    bench.refresh().await;
    bench.sql("ALTER TABLE spent RENAME TO away");
    let finished = refresh_page(&bench, "0").await;
    assert!(matches!(finished, Finished::Blocked(Blocked::StateDown)), "{finished:?}");
    bench.sql("ALTER TABLE away RENAME TO spent");
    assert!(matches!(refresh_page(&bench, "0").await, Finished::Shared(_)));
    assert_eq!(seen(&bench), has("1", &["0"]));
}

#[tokio::test(start_paused = true)]
async fn one_that_lives_on_is_everybodys_to_use() {
    let google = providers::find("google").unwrap();
    let mut bench = Bench::with_provider(google).await;
    let page = AccountId::new("google", "channel");
    assert!(
        matches!(bench.refresh().await, Finished::Gone),
        "the bench's account is of another provider"
    );
    bench.store.put(&page, Some(of_page("0")));
    let sibling = AccountId::new("google", "other-channel");
    bench.store.put(&sibling, Some(of_page("0")));
    let expected = bench.refresher.state.fingerprinter().of_token(&of_page("0"));
    for account in [&page, &sibling] {
        bench.answers(
            200,
            r#"{"access_token":"act.invented.1","expires_in":3600,"token_type":"Bearer"}"#,
        );
        let finished = bench.refresher.refresh(account, expected, "due").await;
        assert!(matches!(finished, Finished::Renewed(_)), "{finished:?}");
    }
    assert_eq!(bench.sent().len(), 2);
}

/// An attempt of which nobody will know how it ended must not keep the other row from being refreshed for ever.
#[tokio::test(start_paused = true)]
async fn a_row_that_leaves_in_doubt_does_not_hold_up_the_other_one() {
    for leaves in
        [PlayedStore::remove, PlayedStore::switch_off, |store: &PlayedStore, id: &AccountId| {
            store.put(id, None)
        }]
    {
        let mut bench = bench().await;
        bench.is_lost(oauth_keepalive::oauth::Trouble::Deadline);
        bench.refresh().await;
        assert!(matches!(refresh_page(&bench, "0").await, Finished::Blocked(Blocked::LeaseHeld)));
        leaves(&bench.store, &id());
        bench.settle().await;
        bench.answers(200, &good_of("1", "open-page"));
        let finished = refresh_page(&bench, "0").await;
        assert!(matches!(finished, Finished::Renewed(_)), "{finished:?}");
    }
}
