//! What happened to accounts, kept apart from their memory.

use super::*;
use oauth_keepalive::core::{
    History,
    history::{Check, Failure, Moved, ScopesSeen, Source, Writer, Writing},
    second_clock::Moves,
};

fn full() -> History {
    let evidence = Evidence {
        cause: Cause::RefreshTokenRejected,
        detail: Some("session_policy".into()),
        code: Some("invalid_grant".into()),
        log_id: Some("20261122A1".into()),
        status: Some(400),
        at: at(20),
        retry_after: Some(Duration::from_secs(3)),
        app_wide: false,
    };
    let failure = Failure {
        evidence: Arc::new(evidence),
        first_at: at(10),
        times: u32::MAX,
        source: Source::Refresh,
        token_age: Some(Duration::from_secs(60)),
        clock_ahead: Some(-7),
    };
    let bare = Failure {
        evidence: Arc::new(Evidence::of(Cause::ProviderOutage, at(30))),
        first_at: at(30),
        times: 1,
        source: Source::Publisher,
        token_age: None,
        clock_ahead: None,
    };
    History {
        failures: vec![failure, bare],
        scopes: vec![ScopesSeen {
            at: at(1),
            missing: vec!["video.publish".into(), "ü\n\"".into()],
        }],
        writings: vec![Writing { at: at(2), by: Writer::StaleCopy }],
        check: Some(Check { at: at(3), alive: None }),
        moved: Some(Moved { at: at(4), from: "before".into() }),
        end_moves: Moves::Absolute,
        reminded_at: Some(at(5)),
    }
}

fn named(name: &str, history: History) -> (AccountId, Arc<History>) {
    (AccountId::new("tiktok", name), Arc::new(history))
}

async fn kept(state: &State) -> Vec<(AccountId, History)> {
    state.histories_of(Shares::ALL).await.unwrap()
}

pub(crate) async fn what_happened_comes_back_sorted_and_unchanged<B: Backend>() {
    let world = B::make().await;
    let state = open(&world).await;
    let written = [named("b", full()), named("a\0", History::default())];
    state.keep_histories(&written).await.unwrap();
    state.shut().await;
    let state = open(&world).await;
    let expected = [
        (AccountId::new("tiktok", "a\0"), History::default()),
        (AccountId::new("tiktok", "b"), full()),
    ];
    assert_eq!(kept(&state).await, expected);
    let share_of_b: Shares = std::iter::once(Shares::of(&written[0].0)).collect();
    assert_eq!(
        state.histories_of(share_of_b).await.unwrap(),
        expected[1..],
        "and of no other share"
    );
}

pub(crate) async fn the_last_history_of_an_account_replaces_the_one_before<B: Backend>() {
    let world = B::make().await;
    let state = open(&world).await;
    state.keep_histories(&[named("a", full()), named("a", History::default())]).await.unwrap();
    assert_eq!(kept(&state).await, [(AccountId::new("tiktok", "a"), History::default())]);
    state.keep_histories(&[named("a", full())]).await.unwrap();
    assert_eq!(kept(&state).await, [(AccountId::new("tiktok", "a"), full())]);
}

pub(crate) async fn a_forgotten_account_leaves_no_history<B: Backend>() {
    let world = B::make().await;
    let state = open(&world).await;
    state.keep_histories(&[named("a", full()), named("b", full())]).await.unwrap();
    state.forget(vec![Farewell::for_good(AccountId::new("tiktok", "a"))]).await.unwrap();
    assert_eq!(kept(&state).await, [(AccountId::new("tiktok", "b"), full())]);
}
