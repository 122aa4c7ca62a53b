//! A code that a person brought, situation by situation: what comes of it, and what is left alone.

use crate::{
    bench::{ALIVE, APP_REFUSED, Bench, DEAD, DEADLINE, Write, good, good_of, id, token},
    store::{Call, Trick},
};
use oauth_keepalive::{
    core::Secret,
    oauth::{Token, Trouble},
    providers::Provider,
    refresh::{Connected, Consent},
};
use std::time::Duration;

fn consent(bench: &Bench, code: &str) -> Consent {
    let apps = bench.refresher.apps.load();
    Consent {
        id: id(),
        app: std::sync::Arc::clone(apps.values().next().unwrap()),
        code: Secret::new(format!("code.{code}")),
        redirect_uri: "https://connect.example/connect/callback".to_owned(),
        verifier: None,
        asked: vec!["video.publish".to_owned()],
        replaces: Some(bench.refresher.state.fingerprinter().of_token(&token("0"))),
        key_is_subject: false,
        may_add: false,
    }
}

fn word(connected: &Connected) -> String {
    match connected {
        Connected::Saved { is_proven, .. } if *is_proven => "saved".to_owned(),
        Connected::Saved { .. } => "saved, nobody knows whose".to_owned(),
        Connected::Later => "later".to_owned(),
        Connected::Theirs => "theirs".to_owned(),
        Connected::OtherAccount => "other account".to_owned(),
        Connected::FewerScopes(missing) => format!("without {}", missing.join(", ")),
        Connected::Refused(evidence) => format!("refused {}", evidence.cause.as_label()),
        Connected::NotThere => "not there".to_owned(),
        Connected::Busy => "busy".to_owned(),
        Connected::Unavailable => "unavailable".to_owned(),
    }
}

async fn after(bench: &Bench, connected: &Connected) -> String {
    format!("{}; {}", word(connected), bench.looks().await)
}

type Setting = fn(&mut Bench);

async fn check(rows: &[(&str, Setting, &str)]) {
    for (sentence, setting, expected) in rows {
        let mut bench = Bench::new().await;
        setting(&mut bench);
        let connected = bench.refresher.connect(&consent(&bench, "c")).await;
        assert_eq!(after(&bench, &connected).await, *expected, "{sentence}");
    }
}

fn nameless() -> Token {
    Token { subject: None, ..token("0") }
}

#[tokio::test(start_paused = true)]
async fn what_a_code_buys_is_saved_when_it_fits_and_left_alone_when_it_does_not() {
    check(&[
        (
            "a token of the same account goes into the store",
            |bench| bench.answers(200, &good("7")),
            "saved; sent [c]; store 7; journal empty",
        ),
        (
            "another account's goes nowhere",
            |bench| bench.answers(200, &good_of("7", "open-bob")),
            "other account; sent [c]; store 0; journal empty",
        ),
        (
            "one that may not publish is kept aside",
            |bench| bench.answers(200, &good("7").replace(",video.publish", "")),
            "without video.publish; sent [c]; store 0; journal orphans 1",
        ),
        (
            "a code that is finished changes nothing",
            |bench| bench.answers(200, DEAD),
            "refused refresh_token_rejected; sent [c]; store 0; journal empty",
        ),
        (
            "nor does an app that is refused",
            |bench| bench.answers(200, APP_REFUSED),
            "refused app_credentials_rejected; sent [c-]; store 0; journal empty",
        ),
        (
            "nor an answer that got lost: the code is gone, and the account as it was",
            |bench| bench.is_lost(Trouble::Deadline),
            "refused provider_outage; sent [c]; store 0; journal empty",
        ),
        (
            "where nobody ever said whose it was, the token is taken and that is said",
            |bench| {
                bench.store.put(&id(), Some(nameless()));
                bench.answers(200, &good("7"));
            },
            "saved, nobody knows whose; sent [c]; store 7; journal empty",
        ),
        (
            "where the answer does not say whose it is, the check does",
            |bench| {
                bench.answers(200, &good("7").replace("open_id", "x"));
                bench.answers(200, ALIVE);
            },
            "saved; sent [c check]; store 7; journal empty",
        ),
        (
            "and finds another's",
            |bench| {
                bench.answers(200, &good("7").replace("open_id", "x"));
                bench.answers(200, &ALIVE.replace("open-ann", "open-bob"));
            },
            "other account; sent [c check]; store 0; journal empty",
        ),
        (
            "a row that holds no token gets its first one",
            |bench| {
                bench.store.put(&id(), None);
                bench.answers(200, &good("7"));
            },
            "saved, nobody knows whose; sent [c]; store 7; journal empty",
        ),
        (
            "and none of another account, where the row says whose it is",
            |bench| {
                bench.store.put_of(&id(), Some("open-bob"), None);
                bench.answers(200, &good("7"));
            },
            "other account; sent [c]; store no token; journal empty",
        ),
        (
            "unless somebody else has put one there meanwhile",
            |bench| {
                bench.store.put(&id(), None);
                let body = good("7");
                bench.does(Box::new(move |store| {
                    store.put(&id(), Some(token("9")));
                    crate::bench::answered(200, &body)
                }));
            },
            "theirs; sent [c]; store 9; journal orphans 1",
        ),
        (
            "somebody else's newer token is left alone, and ours kept aside",
            |bench| {
                let body = good("7");
                bench.does(Box::new(move |store| {
                    store.put(&id(), Some(token("9")));
                    crate::bench::answered(200, &body)
                }));
            },
            "theirs; sent [c]; store 9; journal orphans 1",
        ),
    ])
    .await;
}

#[tokio::test(start_paused = true)]
async fn nothing_is_sent_where_what_came_back_could_not_be_kept() {
    check(&[
        (
            "an account that left",
            |bench| bench.store.remove(&id()),
            "not there; sent []; store no row; journal empty",
        ),
        (
            "an account that was switched off",
            |bench| bench.store.switch_off(&id()),
            "not there; sent []; store 0; journal empty",
        ),
        (
            "a state that does not take the intent",
            |bench| bench.state_refuses(Write::Intent),
            "unavailable; sent []; store 0; journal empty",
        ),
        (
            "a secret that cannot be read",
            |bench| std::fs::remove_file(bench.folder.path().join("secret")).unwrap(),
            "unavailable; sent []; store 0; journal empty",
        ),
    ])
    .await;
}

#[tokio::test(start_paused = true)]
async fn a_token_that_was_received_is_not_lost_whatever_fails() {
    // The store is away while the person comes back, or from then on.
    for call in [Call::Get, Call::Save] {
        let mut bench = Bench::new().await;
        bench.store.play(call, [Trick::Fails]);
        bench.answers(200, &good("7"));
        let connected = bench.refresher.connect(&consent(&bench, "c")).await;
        let seen = after(&bench, &connected).await;
        assert_eq!(seen, "later; sent [c]; store 0; journal result 7", "{call:?}");
        let finished = bench.settle().await;
        bench
            .ends("it is saved later", &finished, "renewed; sent [c]; store 7; journal empty")
            .await;
    }
    // The same of a row that holds no token yet.
    let mut bench = Bench::new().await;
    bench.store.put(&id(), None);
    bench.store.play(Call::Save, [Trick::Fails]);
    bench.answers(200, &good("7"));
    let connected = bench.refresher.connect(&consent(&bench, "c")).await;
    assert_eq!(
        after(&bench, &connected).await,
        "later; sent [c]; store no token; journal result 7"
    );
    let finished = bench.settle().await;
    bench.ends("it is saved later", &finished, "renewed; sent [c]; store 7; journal empty").await;
    // Our state does not take the result.
    let mut bench = Bench::new().await;
    bench.state_refuses(Write::Result);
    bench.answers(200, &good("7"));
    let connected = bench.refresher.connect(&consent(&bench, "c")).await;
    assert_eq!(after(&bench, &connected).await, "saved; sent [c]; store 7; journal empty");
}

#[tokio::test(start_paused = true)]
async fn an_attempt_before_is_brought_to_its_end_first() {
    let mut bench = Bench::new().await;
    bench.is_lost(Trouble::Broken);
    assert!(!matches!(bench.refresh().await, oauth_keepalive::core::fleet::Finished::Renewed(_)));
    let connected = bench.refresher.connect(&consent(&bench, "c")).await;
    assert_eq!(after(&bench, &connected).await, "busy; sent [0]; store 0; journal intent");
    bench.wait(DEADLINE + Duration::from_secs(1)).await;
    // The check answers, the one probe is refused, and then the code is good.
    bench.answers(200, ALIVE);
    bench.answers(200, DEAD);
    bench.answers(200, &good("7"));
    let connected = bench.refresher.connect(&consent(&bench, "d")).await;
    assert_eq!(
        after(&bench, &connected).await,
        "saved; sent [0 check 0 d]; store 7; journal empty"
    );
}

#[tokio::test(start_paused = true)]
async fn while_another_process_is_at_the_account_nothing_is_sent() {
    let bench = Bench::new().await;
    let other = crate::bench::open(bench.folder.path()).await;
    let (now, life) = (bench.refresher.clock.now(), Duration::from_secs(600));
    let lease = other.take_lease(&id(), now, life).await.unwrap().unwrap();
    let connected = bench.refresher.connect(&consent(&bench, "c")).await;
    assert_eq!(after(&bench, &connected).await, "busy; sent []; store 0; journal empty");
    other.release(&lease).await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn a_crash_on_the_way_spends_nothing_of_the_account() {
    let bench = Bench::new().await;
    bench.never_answers();
    let before = consent(&bench, "c");
    {
        let call = bench.refresher.connect(&before);
        tokio::pin!(call);
        while bench.sent().is_empty() {
            tokio::select! {
                biased;
                _ = &mut call => panic!("nobody has answered"),
                () = tokio::task::yield_now() => {}
            }
        }
    }
    drop(before);
    let mut bench = bench.crash().await;
    assert_eq!(bench.looks().await, "sent [c]; store 0; journal intent");
    // An ordinary refresh with the account's own token, and no probe before it.
    bench.answers(200, &good("8"));
    let finished = bench.refresh().await;
    bench
        .ends("as if nobody had come", &finished, "renewed; sent [c 0]; store 8; journal empty")
        .await;
}

#[tokio::test(start_paused = true)]
async fn a_short_lived_token_is_made_a_long_lived_one_before_anything_is_kept() {
    let yaml = std::fs::read_to_string("src/providers/data/tiktok.yaml").unwrap();
    let yaml = yaml.replacen(
        "authorize:\n",
        "authorize:\n  lengthen: {method: GET, client_auth: none, params: {access_token: \"{access_token}\"}}\n",
        1,
    );
    let yaml =
        yaml.replacen("  probe:", "  lengthen: https://open.tiktokapis.com/long/\n  probe:", 1);
    let provider: &'static Provider = Box::leak(Box::new(Provider::from_yaml(&yaml).unwrap()));
    for (answers, expected) in [
        (vec![true], "saved; sent [c check]; store 9+7; journal empty"),
        (vec![false, false, true], "saved; sent [c check check check]; store 9+7; journal empty"),
        (
            vec![false, false, false],
            "refused provider_outage; sent [c check check check]; store 0; journal empty",
        ),
    ] {
        let mut bench = Bench::with_provider(provider).await;
        bench.answers(200, &good("7"));
        for is_good in answers {
            match is_good {
                true => {
                    bench.answers(200, r#"{"access_token":"act.invented.9","expires_in":5000}"#)
                }
                false => bench.is_lost(Trouble::Deadline),
            }
        }
        let connected = bench.refresher.connect(&consent(&bench, "c")).await;
        assert_eq!(after(&bench, &connected).await, expected);
    }
}
