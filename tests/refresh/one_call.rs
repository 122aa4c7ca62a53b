//! One call of `refresh`, and what there is to see after it.

use crate::{
    bench::{APP_REFUSED, Bench, DEAD, Write, answered, good, good_of, id, open, token},
    store::{Call, Trick},
};
use oauth_keepalive::{
    core::{Timestamp, fleet::Finished},
    oauth::{Exchange, Trouble},
};
use std::{fs, sync::Arc, time::Duration};

type Setting = fn(&mut Bench);

/// A sentence, what is so, what is seen after one refresh.
async fn check(rows: &[(&str, Setting, &str)]) {
    for (sentence, setting, expected) in rows {
        let mut bench = Bench::new().await;
        setting(&mut bench);
        let finished = bench.refresh().await;
        bench.ends(sentence, &finished, expected).await;
    }
}

#[tokio::test(start_paused = true)]
async fn before_anything_is_sent() {
    check(&[
        (
            "a token that somebody else replaced is adopted",
            |bench| bench.store.put(&id(), Some(token("7"))),
            "adopted; sent []; store 7; journal empty",
        ),
        (
            "an account that left the store is left alone",
            |bench| bench.store.remove(&id()),
            "gone; sent []; store no row; journal empty",
        ),
        (
            "an account that was switched off is left alone",
            |bench| bench.store.switch_off(&id()),
            "gone; sent []; store 0; journal empty",
        ),
        (
            "a row without a token has nothing to refresh",
            |bench| bench.store.put(&id(), None),
            "no token; sent []; store no token; journal empty",
        ),
        (
            "an account whose app left the configuration is left alone",
            |bench| bench.refresher.apps.store(Arc::default()),
            "gone; sent []; store 0; journal empty",
        ),
        (
            "nothing is spent when the secret cannot be read",
            |bench| fs::remove_file(bench.folder.path().join("secret")).unwrap(),
            "no credentials; sent []; store 0; journal empty",
        ),
        (
            "nothing is spent when the store cannot be read",
            |bench| bench.store.play(Call::Get, [Trick::Fails]),
            "store down; sent []; store 0; journal empty",
        ),
        (
            "nothing is spent when the store could not take the new token",
            |bench| bench.store.play(Call::Probe, [Trick::Fails]),
            "store down; sent []; store 0; journal empty",
        ),
        (
            "nothing is spent when the lease cannot be written",
            |bench| bench.state_refuses(Write::Lease),
            "state down; sent []; store 0; journal empty",
        ),
        (
            "nothing is spent when the intent cannot be written",
            |bench| bench.state_refuses(Write::Intent),
            "state down; sent []; store 0; journal empty",
        ),
    ])
    .await;
}

#[tokio::test(start_paused = true)]
async fn nothing_is_sent_while_another_process_is_at_it() {
    let mut bench = Bench::new().await;
    let other = open(bench.folder.path()).await;
    let now = bench.refresher.clock.now();
    let lease = other.take_lease(&id(), now, Duration::from_secs(60)).await.unwrap().unwrap();
    let finished = bench.refresh().await;
    let expected = "lease held; sent []; store 0; journal empty";
    bench.ends("the other is at it", &finished, expected).await;

    other.release(&lease).await.unwrap();
    bench.answers(200, &good("1"));
    let finished = bench.refresh().await;
    let expected = "renewed; sent [0]; store 1; journal empty";
    bench.ends("the other is done", &finished, expected).await;
}

#[tokio::test(start_paused = true)]
async fn the_answer_decides() {
    check(&[
        (
            "a good answer is journalled, saved, closed",
            |bench| bench.answers(200, &good("1")),
            "renewed; sent [0]; store 1; journal empty",
        ),
        (
            "an answer without a refresh token keeps the stored one",
            |bench| bench.answers(200, r#"{"access_token":"act.invented.1","expires_in":7200}"#),
            "renewed; sent [0]; store 1+0; journal empty",
        ),
        (
            "an answer with a blank refresh token keeps the stored one",
            |bench| {
                let blank = r#"{"access_token":"act.invented.1","refresh_token":" "}"#;
                bench.answers(200, blank);
            },
            "renewed; sent [0]; store 1+0; journal empty",
        ),
        (
            "a connection that was refused spends nothing",
            |bench| bench.is_not_reached(Trouble::Connect),
            "not committed provider_outage; sent [0-]; store 0; journal empty",
        ),
        (
            "no free place spends nothing",
            |bench| bench.is_not_reached(Trouble::Crowded),
            "not committed provider_outage; sent [0-]; store 0; journal empty",
        ),
        (
            "too many requests spend nothing",
            |bench| bench.answers(429, "{}"),
            "not committed rate_limited of the app; sent [0-]; store 0; journal empty",
        ),
        (
            "a refused app spends nothing, with 401",
            |bench| bench.answers(401, APP_REFUSED),
            "not committed app_credentials_rejected of the app; sent [0-]; store 0; journal empty",
        ),
        (
            "a refused app spends nothing, with 200",
            |bench| bench.answers(200, APP_REFUSED),
            "not committed app_credentials_rejected of the app; sent [0-]; store 0; journal empty",
        ),
        (
            "a refused refresh token is dead, with 400",
            |bench| bench.answers(400, DEAD),
            "dead refresh_token_rejected; sent [0]; store 0; journal empty",
        ),
        (
            "a refused refresh token is dead, with 200",
            |bench| bench.answers(200, DEAD),
            "dead refresh_token_rejected; sent [0]; store 0; journal empty",
        ),
        (
            "after the deadline nobody knows",
            |bench| bench.is_lost(Trouble::Deadline),
            "ambiguous; sent [0]; store 0; journal intent",
        ),
        (
            "after a broken connection nobody knows",
            |bench| bench.is_lost(Trouble::Broken),
            "ambiguous; sent [0]; store 0; journal intent",
        ),
        (
            "after an answer without end nobody knows",
            |bench| bench.is_lost(Trouble::TooLong),
            "ambiguous; sent [0]; store 0; journal intent",
        ),
        (
            "after a 500 nobody knows",
            |bench| bench.answers(500, "{}"),
            "ambiguous; sent [0]; store 0; journal intent",
        ),
        (
            "after a gateway's page nobody knows",
            |bench| bench.answers(200, "<html>Bad gateway</html>"),
            "ambiguous; sent [0]; store 0; journal intent",
        ),
        (
            "after a redirect nobody knows",
            |bench| bench.answers(307, ""),
            "ambiguous; sent [0]; store 0; journal intent",
        ),
        (
            "another account's token is kept and not stored",
            |bench| bench.answers(200, &good_of("1", "open-bob")),
            "wrong wrong_environment; sent [0]; store 0; journal orphans 1",
        ),
    ])
    .await;
}

#[tokio::test(start_paused = true)]
async fn a_verdict_is_not_given_before_another_look_at_the_store() {
    check(&[
        (
            "the publisher won the race: theirs is adopted",
            |bench| bench.does(wins("7")),
            "adopted; sent [0]; store 7; journal empty",
        ),
        (
            "disconnected meanwhile: nobody is told to reconnect",
            |bench| {
                bench.does(Box::new(|store| {
                    store.switch_off(&id());
                    answered(400, DEAD)
                }));
            },
            "gone; sent [0]; store 0; journal empty",
        ),
        (
            "the store cannot be read at first",
            |bench| {
                bench.does(wins("7"));
                bench.store.play(Call::Get, [Trick::Works, Trick::Fails, Trick::Fails]);
            },
            "adopted; sent [0]; store 7; journal empty",
        ),
        (
            "the store cannot be read for long: the verdict waits",
            |bench| {
                bench.does(wins("7"));
                bench.store.play(Call::Get, [Trick::Works]);
                bench.store.play(Call::Get, std::iter::repeat_with(|| Trick::Fails).take(9));
            },
            "ambiguous; sent [0]; store 7; journal probed",
        ),
    ])
    .await;
}

fn wins(number: &'static str) -> crate::bench::Step {
    Box::new(move |store| -> Exchange {
        store.put(&id(), Some(token(number)));
        answered(400, DEAD)
    })
}

#[tokio::test(start_paused = true)]
async fn lives_count_from_the_start_of_the_request() {
    let mut bench = Bench::new().await;
    bench.answers_after(Duration::from_secs(7), &good("1"));
    let began = bench.refresher.clock.now();
    let finished = bench.refresh().await;
    assert_eq!(bench.refresher.clock.now().since(began), Duration::from_secs(7));
    let stored = bench.store.token(&id()).unwrap();
    let ends = |life| Some(began.plus(Duration::from_secs(life)));
    assert_eq!(stored.issued_at, Some(began));
    assert_eq!(stored.expires_at, ends(7_200));
    assert_eq!(stored.refresh_expires_at, ends(15_552_000));
    let Finished::Renewed(facts) = finished else { panic!("{finished:?}") };
    assert_eq!((facts.issued_at, facts.expires_at), (began, ends(7_200)));
}

#[tokio::test(start_paused = true)]
async fn what_the_provider_is_asked_is_what_the_store_holds_at_that_moment() {
    let mut bench = Bench::new().await;
    // The fleet has not heard of 7 yet, so it asks for a refresh of 0; then it asks for one of 7.
    bench.store.put(&id(), Some(token("7")));
    let finished = bench.refresh().await;
    let expected = "adopted; sent []; store 7; journal empty";
    bench.ends("a decision about an old token", &finished, expected).await;
    bench.answers(200, &good("8"));
    let finished = bench.refresh_of("7").await;
    let expected = "renewed; sent [7]; store 8; journal empty";
    bench.ends("a decision about this one", &finished, expected).await;
    assert_ne!(bench.refresher.clock.now(), Timestamp::MIN);
}
