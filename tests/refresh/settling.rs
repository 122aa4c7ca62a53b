//! Nobody knows whether the refresh token was spent: the second look, the one probe, and never another.

use crate::{
    bench::{ALIVE, APP_REFUSED, Bench, DEAD, DEADLINE, Write, answered, good, id, token},
    store::{Call, Trick},
};
use oauth_keepalive::{core::AccountId, oauth::Trouble, providers::Provider};
use std::time::Duration;

/// A bench after a request whose outcome nobody knows, with its deadline behind it.
async fn in_doubt() -> Bench {
    let mut bench = Bench::new().await;
    bench.is_lost(Trouble::Deadline);
    let finished = bench.refresh().await;
    bench.ends("in doubt", &finished, "ambiguous; sent [0]; store 0; journal intent").await;
    bench.wait(DEADLINE + Duration::from_secs(1)).await;
    bench.answers(200, ALIVE);
    bench
}

#[tokio::test(start_paused = true)]
async fn before_the_first_deadline_nothing_is_sent() {
    let bench = Bench::new().await;
    bench.is_lost(Trouble::Broken);
    bench.refresh().await;
    for _ in 0..9 {
        bench.wait(Duration::from_secs(1)).await;
        let finished = bench.settle().await;
        let expected = "ambiguous; sent [0]; store 0; journal intent";
        bench.ends("too early", &finished, expected).await;
        let finished = bench.refresh().await;
        bench.ends("a refresh is no way round it", &finished, expected).await;
    }
}

#[tokio::test(start_paused = true)]
async fn a_store_that_changed_settles_it_without_a_request() {
    let bench = in_doubt().await;
    bench.store.put(&id(), Some(token("7")));
    let finished = bench.settle().await;
    let expected = "adopted; sent [0]; store 7; journal empty";
    bench.ends("the publisher won", &finished, expected).await;
}

#[tokio::test(start_paused = true)]
async fn the_one_probe_decides() {
    type Setting = fn(&mut Bench);
    let rows: [(&str, Setting, &str); 8] = [
        (
            "the first request never arrived",
            |bench| bench.answers(200, &good("1")),
            "renewed; sent [0 check 0]; store 1; journal empty",
        ),
        (
            "it arrived, and its answer is lost",
            |bench| bench.answers(400, DEAD),
            "dead rotation_lost; sent [0 check 0]; store 0; journal empty",
        ),
        (
            "it ends in the dark as well",
            |bench| bench.is_lost(Trouble::Deadline),
            "dead rotation_lost; sent [0 check 0]; store 0; journal empty",
        ),
        (
            "it is dead, and the publisher won meanwhile",
            |bench| {
                bench.does(Box::new(|store| {
                    store.put(&id(), Some(token("7")));
                    answered(400, DEAD)
                }));
            },
            "adopted; sent [0 check 0]; store 7; journal empty",
        ),
        (
            "it ends in the dark, and the publisher won meanwhile",
            |bench| {
                bench.does(Box::new(|store| {
                    store.put(&id(), Some(token("7")));
                    answered(502, "<html>")
                }));
            },
            "adopted; sent [0 check 0]; store 7; journal empty",
        ),
        (
            "it is refused before it is looked at",
            |bench| bench.answers(401, APP_REFUSED),
            "not committed app_credentials_rejected of the app; sent [0 check 0-]; store 0; journal intent",
        ),
        (
            "it never leaves",
            |bench| bench.is_not_reached(Trouble::Connect),
            "not committed provider_outage; sent [0 check 0-]; store 0; journal intent",
        ),
        (
            "its token cannot be saved",
            |bench| {
                bench.answers(200, &good("1"));
                bench.store.play(Call::Save, [Trick::Fails]);
            },
            "unsaved; sent [0 check 0]; store 0; journal result 1",
        ),
    ];
    for (sentence, setting, expected) in rows {
        let mut bench = in_doubt().await;
        setting(&mut bench);
        let finished = bench.settle().await;
        bench.ends(sentence, &finished, expected).await;
    }
}

#[tokio::test(start_paused = true)]
async fn a_probe_that_was_not_looked_at_may_be_sent_later() {
    let mut bench = in_doubt().await;
    bench.answers(429, "{}");
    bench.settle().await;
    // The probe's own deadline has to pass as well.
    bench.wait(DEADLINE + Duration::from_secs(1)).await;
    bench.answers(200, ALIVE);
    bench.answers(200, &good("1"));
    let finished = bench.settle().await;
    let expected = "renewed; sent [0 check 0- check 0]; store 1; journal empty";
    bench.ends("later", &finished, expected).await;
}

/// An hour of 503s would otherwise cost every account that was due in it: the first answer leaves a doubt,
/// and the second one a verdict.
#[tokio::test(start_paused = true)]
async fn while_the_provider_answers_nothing_the_one_probe_is_kept() {
    let mut bench = Bench::new().await;
    bench.answers(503, "<html>");
    bench.refresh().await;
    let mut sent = "0".to_owned();
    for _ in 0..60 {
        bench.wait(Duration::from_secs(60)).await;
        bench.answers(503, "<html>");
        let finished = bench.settle().await;
        sent.push_str(" check");
        let expected = format!("provider silent; sent [{sent}]; store 0; journal intent");
        bench.ends("in the outage", &finished, &expected).await;
    }
    bench.answers(200, ALIVE);
    bench.answers(200, &good("1"));
    let finished = bench.settle().await;
    let expected = format!("renewed; sent [{sent} check 0]; store 1; journal empty");
    bench.ends("after the outage", &finished, &expected).await;
}

#[tokio::test(start_paused = true)]
async fn where_nothing_is_free_the_one_probe_is_kept_until_the_provider_answers_somebody() {
    let mut bench = Bench::with_provider(unasked()).await;
    let bob = AccountId::new("tiktok", "bob");
    bench.answers(503, "<html>");
    bench.refresh().await;
    for _ in 0..25 {
        bench.wait(Duration::from_secs(60)).await;
        let finished = bench.settle().await;
        bench
            .ends("in the outage", &finished, "provider silent; sent [0]; store 0; journal intent")
            .await;
    }
    bench.store.put(&bob, Some(token("5")));
    let theirs = bench.refresher.state.fingerprinter().of_token(&token("5"));
    // An outage that is told in words is one all the same.
    bench.answers(500, "{}");
    bench.refresher.refresh(&bob, theirs, "due").await;
    let finished = bench.settle().await;
    bench.ends("still", &finished, "provider silent; sent [0 5]; store 0; journal intent").await;
    bench.answers(400, DEAD);
    bench.wait(Duration::from_secs(60)).await;
    bench.refresher.settle(&bob, false).await;
    bench.answers(200, &good("1"));
    let finished = bench.settle().await;
    bench.ends("it is back", &finished, "renewed; sent [0 5 5 0]; store 1; journal empty").await;
}

#[tokio::test(start_paused = true)]
async fn where_nothing_is_free_the_one_probe_is_sent_when_it_cannot_wait_or_nobody_else_is_heard() {
    for (sentence, minutes, may_wait) in [("it nears its end", 1, false), ("in vain", 31, true)] {
        let mut bench = Bench::with_provider(unasked()).await;
        bench.answers(503, "<html>");
        bench.refresh().await;
        bench.wait(Duration::from_secs(60 * minutes)).await;
        bench.answers(200, &good("1"));
        let finished = bench.refresher.settle(&id(), may_wait).await;
        bench.ends(sentence, &finished, "renewed; sent [0 0]; store 1; journal empty").await;
    }
}

#[tokio::test(start_paused = true)]
async fn there_is_never_a_second_probe() {
    // The process dies while the probe is on the wire.
    let bench = in_doubt().await;
    bench.never_answers();
    bench.until(bench.settle(), |bench| bench.sent().len() == 3).await;
    let bench = bench.crash().await;
    let finished = bench.settle().await;
    let expected = "dead rotation_lost; sent [0 check 0]; store 0; journal empty";
    bench.ends("never again", &finished, expected).await;
}

#[tokio::test(start_paused = true)]
async fn a_probe_that_was_noted_unheard_and_not_sent_may_be_sent_later() {
    let mut bench = in_doubt().await;
    bench.state_refuses(Write::Probe);
    let finished = bench.settle().await;
    let expected = "state down; sent [0 check]; store 0; journal intent";
    bench.ends("not heard of", &finished, expected).await;
    bench.state_works_again(Write::Probe);
    bench.the_probe_is_noted();
    bench.wait(DEADLINE + Duration::from_secs(1)).await;
    bench.answers(200, ALIVE);
    bench.answers(200, &good("1"));
    let finished = bench.settle().await;
    let expected = "renewed; sent [0 check check 0]; store 1; journal empty";
    bench.ends("later", &finished, expected).await;
}

#[tokio::test(start_paused = true)]
async fn an_intent_that_was_written_unheard_and_not_sent_is_not_taken_for_a_lost_request() {
    let mut bench = Bench::new().await;
    bench.state_refuses(Write::Intent);
    let finished = bench.refresh().await;
    bench.ends("not heard of", &finished, "state down; sent []; store 0; journal empty").await;
    bench.state_works_again(Write::Intent);
    bench.the_intent_lies_there().await;
    // The next request is an ordinary one: what becomes of it may be asked for once.
    bench.is_lost(Trouble::Deadline);
    let finished = bench.refresh().await;
    bench.ends("lost", &finished, "ambiguous; sent [0]; store 0; journal intent").await;
    bench.wait(DEADLINE).await;
    bench.answers(200, ALIVE);
    bench.answers(200, &good("1"));
    let finished = bench.settle().await;
    bench.ends("found", &finished, "renewed; sent [0 check 0]; store 1; journal empty").await;
}

/// The process that sent the first request was stopped for a while, and has its answer after all.
#[tokio::test(start_paused = true)]
async fn an_answer_that_comes_late_is_saved_although_the_probe_was_refused() {
    let mut bench = in_doubt().await;
    let state = bench.refresher.state.clone();
    let entry = state.open_entry(&id()).await.unwrap().unwrap().entry;
    bench.does(Box::new(move |_| {
        let late = async move { state.record_result(entry, &id(), &token("1")).await };
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        std::thread::spawn(move || runtime.block_on(late)).join().unwrap().unwrap();
        answered(400, DEAD)
    }));
    bench.now_received("1");
    let finished = bench.settle().await;
    let expected = "renewed; sent [0 check 0]; store 1; journal empty";
    bench.ends("late", &finished, expected).await;
}

#[tokio::test(start_paused = true)]
async fn nothing_is_probed_while_the_new_token_would_have_no_place() {
    type Setting = fn(&mut Bench);
    let rows: [(&str, Setting, &str); 3] = [
        (
            "the store takes nothing",
            |bench| bench.store.play(Call::Probe, [Trick::Fails]),
            "store down; sent [0]; store 0; journal intent",
        ),
        (
            "the store cannot be read",
            |bench| bench.store.play(Call::Get, [Trick::Fails]),
            "store down; sent [0]; store 0; journal intent",
        ),
        (
            "the probe cannot be noted",
            |bench| bench.state_refuses(Write::Probe),
            "state down; sent [0 check]; store 0; journal intent",
        ),
    ];
    for (sentence, setting, expected) in rows {
        let mut bench = in_doubt().await;
        setting(&mut bench);
        let finished = bench.settle().await;
        bench.ends(sentence, &finished, expected).await;
    }
}

#[tokio::test(start_paused = true)]
async fn a_verdict_that_waited_for_the_store_is_given_without_another_request() {
    for (theirs, expected) in [
        (Some("7"), "adopted; sent [0]; store 7; journal empty"),
        (None, "dead refresh_token_rejected; sent [0]; store 0; journal empty"),
    ] {
        let mut bench = Bench::new().await;
        bench.answers(400, DEAD);
        bench.store.play(Call::Get, [Trick::Works]);
        bench.store.play(Call::Get, std::iter::repeat_with(|| Trick::Fails).take(3));
        let finished = bench.refresh().await;
        bench.ends("it waits", &finished, "ambiguous; sent [0]; store 0; journal probed").await;
        if let Some(theirs) = theirs {
            bench.store.put(&id(), Some(token(theirs)));
        }
        let finished = bench.settle().await;
        bench.ends("it is given", &finished, expected).await;
    }
}

#[tokio::test(start_paused = true)]
async fn a_verdict_that_can_be_noted_nowhere_is_kept_in_mind_and_nothing_is_sent_again() {
    let mut bench = Bench::new().await;
    bench.answers(400, DEAD);
    bench.state_refuses(Write::Probe);
    bench.store.play(Call::Get, [Trick::Works]);
    bench.store.play(Call::Get, std::iter::repeat_with(|| Trick::Fails).take(3));
    let finished = bench.refresh().await;
    bench.ends("it waits", &finished, "ambiguous; sent [0]; store 0; journal intent").await;
    bench.state_works_again(Write::Probe);
    bench.wait(DEADLINE + Duration::from_secs(1)).await;
    let finished = bench.settle().await;
    let expected = "dead refresh_token_rejected; sent [0]; store 0; journal empty";
    bench.ends("it is given", &finished, expected).await;
}

#[tokio::test(start_paused = true)]
async fn a_dead_token_is_presented_by_nobody_else_although_the_verdict_was_not_remembered() {
    let mut bench = Bench::new().await;
    bench.answers(400, DEAD);
    let finished = bench.refresh().await;
    let expected = "dead refresh_token_rejected; sent [0]; store 0; journal empty";
    bench.ends("it is given", &finished, expected).await;
    // Whoever has the account next knows nothing but what lies in the journal.
    let mut bench = bench.crash().await;
    let finished = bench.refresh().await;
    let expected = "known to be dead; sent [0]; store 0; journal empty";
    bench.ends("it is given again", &finished, expected).await;
    bench.store.put(&id(), Some(token("5")));
    bench.answers(200, &good("6"));
    let finished = bench.refresh_of("5").await;
    bench.ends("reconnected", &finished, "renewed; sent [0 5]; store 6; journal empty").await;
}

#[tokio::test(start_paused = true)]
async fn where_the_refresh_token_stays_an_unknown_outcome_is_simply_tried_again() {
    let mut bench = Bench::with_provider(steady()).await;
    bench.is_lost(Trouble::Deadline);
    let finished = bench.refresh().await;
    bench.ends("lost", &finished, "ambiguous; sent [0]; store 0; journal empty").await;
    bench.answers(500, "{}");
    let finished = bench.refresh().await;
    bench.ends("again", &finished, "ambiguous; sent [0 0]; store 0; journal empty").await;
    bench.answers(200, r#"{"access_token":"act.invented.1","expires_in":3600}"#);
    let finished = bench.refresh().await;
    bench.ends("at last", &finished, "renewed; sent [0 0 0]; store 1+0; journal empty").await;
}

#[tokio::test(start_paused = true)]
async fn where_the_refresh_token_stays_a_crash_is_no_reason_to_wait() {
    let bench = Bench::with_provider(steady()).await;
    bench.never_answers();
    bench.until(bench.refresh(), |bench| bench.sent().len() == 1).await;
    let mut bench = bench.crash().await;
    bench.answers(200, r#"{"access_token":"act.invented.1","expires_in":3600}"#);
    let finished = bench.settle().await;
    bench.ends("at once", &finished, "renewed; sent [0 0]; store 1+0; journal empty").await;
}

/// A provider that replaces its refresh tokens and can be asked nothing for free.
fn unasked() -> &'static Provider {
    let yaml = "
name: tiktok
title: Unasked
docs: [https://example.org/tokens]
renewal: rotating
endpoints: {token: https://example.org/token}
refresh:
  params: {client_id: '{client_id}', grant_type: refresh_token, refresh_token: '{refresh_token}'}
errors:
  - {where: token, match: {path: error, eq: invalid_grant}, cause: refresh_token_rejected}
";
    Box::leak(Box::new(Provider::from_yaml(yaml).unwrap()))
}

/// A provider whose refresh tokens stay.
fn steady() -> &'static Provider {
    let yaml = "
name: tiktok
title: Steady
docs: [https://example.org/tokens]
renewal: stable
endpoints: {token: https://example.org/token}
refresh:
  params: {client_id: '{client_id}', grant_type: refresh_token, refresh_token: '{refresh_token}'}
errors:
  - {where: token, match: {path: error, eq: invalid_grant}, cause: refresh_token_rejected}
";
    Box::leak(Box::new(Provider::from_yaml(yaml).unwrap()))
}

#[tokio::test(start_paused = true)]
async fn a_request_that_was_refused_while_our_state_was_full_is_not_taken_for_a_lost_one() {
    let mut bench = Bench::new().await;
    bench.state_refuses(Write::Close);
    bench.answers(429, "{}");
    let finished = bench.refresh().await;
    let expected = "not committed rate_limited of the app; sent [0-]; store 0; journal intent";
    bench.ends("refused, and not voided", &finished, expected).await;
    bench.wait(DEADLINE).await;
    let finished = bench.refresh().await;
    let expected = "state down; sent [0-]; store 0; journal intent";
    bench.ends("still not", &finished, expected).await;
    bench.state_works_again(Write::Close);
    // The next request is an ordinary one: what becomes of it may be asked for once.
    bench.is_lost(Trouble::Deadline);
    let finished = bench.refresh().await;
    bench.ends("lost", &finished, "ambiguous; sent [0- 0]; store 0; journal intent").await;
    bench.wait(DEADLINE).await;
    bench.answers(200, ALIVE);
    bench.answers(200, &good("1"));
    let finished = bench.settle().await;
    bench.ends("found", &finished, "renewed; sent [0- 0 check 0]; store 1; journal empty").await;
}
