//! Links that were begun with: by one browser, until they end, and done once.

use super::*;
use oauth_keepalive::state::{Beginning, Return, Standing};

const LINK: &str = "0123456789abcdef";

async fn begin(state: &State, browser: &str, nonce: &str) -> Beginning {
    state.begin_consent(LINK, browser, nonce, "invented-verifier", at(60), at(0)).await.unwrap()
}

async fn back(state: &State, browser: &str, nonce: &str) -> Return<String> {
    match state.come_back(LINK, browser, nonce).await.unwrap() {
        Return::Now(known) => Return::Now(known.expose().to_owned()),
        Return::Before => Return::Before,
        Return::OtherBrowser => Return::OtherBrowser,
        Return::Unknown => Return::Unknown,
    }
}

pub(crate) async fn who_began_comes_back_once_in_any_process<B: Backend>() {
    let world = B::make().await;
    let state = open(&world).await;
    assert_eq!(state.consent_standing(LINK, "").await.unwrap(), Standing::Free);
    assert_eq!(begin(&state, "ann", "one").await, Beginning::Begun);
    let other = open(&world).await;
    assert_eq!(back(&other, "bob", "one").await, Return::OtherBrowser);
    assert_eq!(back(&other, "ann", "two").await, Return::Unknown);
    assert_eq!(back(&other, "bob", "two").await, Return::Unknown);
    let known = Return::Now("invented-verifier".to_owned());
    assert_eq!(back(&other, "ann", "one").await, known, "none of that took it away");
    assert_eq!(back(&state, "ann", "one").await, Return::Before);
    assert!(matches!(state.come_back("another", "ann", "one").await.unwrap(), Return::Unknown));
}

pub(crate) async fn the_same_browser_may_begin_again_until_it_is_done<B: Backend>() {
    let world = B::make().await;
    let state = open(&world).await;
    begin(&state, "ann", "one").await;
    assert_eq!(begin(&state, "bob", "two").await, Beginning::Used);
    assert_eq!(state.consent_standing(LINK, "bob").await.unwrap(), Standing::OtherBrowser);
    assert_eq!(begin(&state, "ann", "three").await, Beginning::Begun);
    assert_eq!(back(&state, "ann", "one").await, Return::Unknown, "the newest counts");
    assert!(matches!(back(&state, "ann", "three").await, Return::Now(_)));
    assert_eq!(begin(&state, "ann", "four").await, Beginning::Begun, "it led nowhere");
    state.end_consent(LINK).await.unwrap();
    for browser in ["ann", "bob"] {
        assert_eq!(begin(&state, browser, "five").await, Beginning::Used);
        assert_eq!(state.consent_standing(LINK, browser).await.unwrap(), Standing::Done);
    }
    assert_eq!(back(&state, "ann", "four").await, Return::Before);
}

pub(crate) async fn of_two_that_begin_at_once_one_does<B: Backend>() {
    let world = B::make().await;
    let (one, two) = (open(&world).await, open(&world).await);
    let (ann, bob) = tokio::join!(begin(&one, "ann", "one"), begin(&two, "bob", "two"));
    let begun = [ann, bob].iter().filter(|one| **one == Beginning::Begun).count();
    assert_eq!(begun, 1, "{ann:?} {bob:?}");
}

pub(crate) async fn what_has_ended_is_forgotten_and_nothing_lies_in_clear<B: Backend>() {
    let world = B::make().await;
    let state = open(&world).await;
    begin(&state, "ann-invented", "one-invented").await;
    let contents = world.contents().await;
    for text in ["ann-invented", "one-invented", "invented-verifier"] {
        let found = contents.windows(text.len()).any(|window| window == text.as_bytes());
        assert!(!found, "{text} lies there in clear");
    }
    let later = state.begin_consent("another", "bob", "two", "", at(120), at(60)).await.unwrap();
    assert_eq!(later, Beginning::Begun);
    assert_eq!(back(&state, "ann-invented", "one-invented").await, Return::Unknown);
}
