//! Account memory, and how calls share a commit.

use super::*;
use oauth_keepalive::core::{Door, Gate, KeptGate, gate::Why};

fn full(name: &str) -> Memory {
    Memory {
        id: AccountId::new("tiktok", name),
        token: Some(TokenFacts {
            token: Fingerprint::from_hash(u64::MAX - 1),
            renewable_by: Some(Fingerprint::from_hash(9)),
            issued_at: at(1),
            expires_at: Some(at(2)),
            refresh_expires_at: Some(Timestamp::MAX),
            missing_scopes: u32::MAX,
        }),
        told_since: None,
        last_refresh_at: Some(at(3)),
        cause: Some(Cause::RotationLost),
        cause_since: Some(at(4)),
        told: Some(Cause::ScopeMissing),
        failed_in_a_row: u16::MAX,
        not_before: Some(at(5)),
        first_seen_at: Some(at(6)),
        door: Some(Door {
            gate: Gate::Held,
            why: Some(Why::Cause(Cause::RotationLost)),
            since: Some(at(4)),
            marked: true,
            followed: i64::MAX,
            ..Door::default()
        }),
        left: None,
    }
}

fn bare(name: &str) -> Memory {
    Memory {
        id: AccountId::new("tiktok", name),
        token: None,
        told_since: Some(at(0)),
        last_refresh_at: None,
        cause: None,
        cause_since: None,
        told: None,
        failed_in_a_row: 0,
        not_before: None,
        first_seen_at: Some(at(7)),
        door: Some(Door::default()),
        left: None,
    }
}

pub(crate) async fn what_is_remembered_comes_back_sorted_and_unchanged<B: Backend>() {
    let world = B::make().await;
    let state = open(&world).await;
    state.remember(vec![full("b"), bare("a")]).await.unwrap();
    state.shut().await;
    let state = open(&world).await;
    assert_eq!(state.memories().await.unwrap(), [bare("a"), full("b")]);
}

pub(crate) async fn a_gate_that_is_not_spoken_of_stays_as_it_is<B: Backend>() {
    let world = B::make().await;
    let state = open(&world).await;
    let id = AccountId::new("tiktok", "a");
    assert_eq!(state.door(&id).await.unwrap(), None);
    state.remember(vec![full("a")]).await.unwrap();
    state.remember(vec![Memory { door: None, ..bare("a") }]).await.unwrap();
    assert_eq!(state.door(&id).await.unwrap(), full("a").door);
    assert_eq!(state.memories().await.unwrap(), [Memory { door: full("a").door, ..bare("a") }]);
    state.remember(vec![bare("a")]).await.unwrap();
    assert_eq!(state.door(&id).await.unwrap(), Some(Door::default()));
}

pub(crate) async fn the_last_word_on_an_account_replaces_every_part_of_the_one_before<
    B: Backend,
>() {
    let world = B::make().await;
    let state = open(&world).await;
    state.remember(vec![full("a"), bare("b")]).await.unwrap();
    state.remember(vec![bare("a"), full("b")]).await.unwrap();
    assert_eq!(state.memories().await.unwrap(), [bare("a"), full("b")]);
}

pub(crate) async fn a_forgotten_account_is_forgotten_and_the_others_are_not<B: Backend>() {
    let world = B::make().await;
    let state = open(&world).await;
    state.remember(vec![full("a"), full("b")]).await.unwrap();
    let unknown = AccountId::new("tiktok", "unknown");
    state
        .forget([AccountId::new("tiktok", "a"), unknown].map(Farewell::for_good).to_vec())
        .await
        .unwrap();
    assert_eq!(state.memories().await.unwrap(), [full("b")]);
}

pub(crate) async fn of_an_account_that_may_come_back_the_gate_stays_and_nothing_else<B: Backend>() {
    let world = B::make().await;
    let state = open(&world).await;
    let id = |name| AccountId::new("tiktok", name);
    let door =
        Door { gate: Gate::Held, why: Some(Why::Cause(Cause::ConsentRevoked)), ..Door::default() };
    state.remember(vec![full("a"), full("b")]).await.unwrap();
    let gone = ["a", "never-seen"]
        .map(|name| Farewell { id: id(name), kept: Some(KeptGate { door, left: at(9) }) });
    state.forget(gone.to_vec()).await.unwrap();
    let nothing = |name| Memory { told_since: None, first_seen_at: None, ..bare(name) };
    let kept = |name| Memory { door: Some(door), left: Some(at(9)), ..nothing(name) };
    assert_eq!(state.memories().await.unwrap(), [kept("a"), full("b"), kept("never-seen")]);
    assert_eq!(state.door(&id("a")).await.unwrap(), Some(door));
    // It comes back, and goes for good.
    state.remember(vec![full("a")]).await.unwrap();
    state.forget(["a", "never-seen"].map(id).map(Farewell::for_good).to_vec()).await.unwrap();
    assert_eq!(state.memories().await.unwrap(), [full("b")]);
}

pub(crate) async fn a_thousand_calls_at_once_are_a_handful_of_commits<B: Backend>() {
    let world = B::make().await;
    let state = open(&world).await;
    let before = state.commits();
    let calls: Vec<_> = (0..1_000)
        .map(|number| {
            let state = state.clone();
            tokio::spawn(async move { state.remember(vec![bare(&number.to_string())]).await })
        })
        .collect();
    for call in calls {
        call.await.unwrap().unwrap();
    }
    let commits = state.commits() - before;
    assert!(commits < 100, "{commits} commits");
    assert_eq!(state.memories().await.unwrap().len(), 1_000);
}

pub(crate) async fn a_call_that_fails_does_not_harm_its_neighbours_in_the_commit<B: Backend>() {
    let world = B::make().await;
    let state = open(&world).await;
    intended(&state, &ann()).await;
    let lease = lease(&state, &ann()).await;
    let (intent, before) = (intent(), state.commits());
    let (one, refused, two) = tokio::join!(
        state.remember(vec![bare("a")]),
        state.intend(&lease, &intent),
        state.remember(vec![bare("b")]),
    );
    assert!(matches!(refused, Err(Error::EntryOpen { .. })));
    one.unwrap();
    two.unwrap();
    assert_eq!(state.memories().await.unwrap().len(), 2);
    assert!(state.commits() - before <= 2, "they were not together");
}

pub(crate) async fn what_was_begun_is_done_although_the_caller_went_away<B: Backend>() {
    let world = B::make().await;
    let state = open(&world).await;
    let mut call = Box::pin(state.remember(vec![bare("a")]));
    assert!(futures_poll_once(&mut call).await);
    drop(call);
    state.shut().await;
    assert_eq!(open(&world).await.memories().await.unwrap().len(), 1);
}

/// True when the future is not ready after one poll.
async fn futures_poll_once<F: Future + Unpin>(future: &mut F) -> bool {
    std::future::poll_fn(|context| {
        std::task::Poll::Ready(std::pin::Pin::new(&mut *future).poll(context).is_pending())
    })
    .await
}

pub(crate) async fn two_words_on_one_account_in_one_call_leave_the_last<B: Backend>() {
    let world = B::make().await;
    let state = open(&world).await;
    state.remember(vec![full("a"), bare("b"), bare("a")]).await.unwrap();
    assert_eq!(state.memories().await.unwrap(), [bare("a"), bare("b")]);
}

fn app(name: &str, paused_until: i64, refusals: u32, changed_at: Option<i64>) -> AppMemory {
    AppMemory {
        name: name.into(),
        paused_until: (paused_until > 0).then(|| at(paused_until)),
        refusals,
        next_try_at: (refusals > 0).then(|| at(40)),
        frozen: (refusals > 2).then(|| (Cause::AppCredentialsRejected, at(30))),
        doubted: refusals > 3,
        changed_at: changed_at.map(at),
    }
}

pub(crate) async fn of_apps_the_longer_pause_and_the_newer_word_are_kept<B: Backend>() {
    let world = B::make().await;
    let state = open(&world).await;
    let told = Some((Cause::AppCredentialsRejected, at(30)));
    let steps = [
        ("new", app("x", 50, 0, None), app("x", 50, 0, None)),
        ("refused", app("x", 0, 3, Some(20)), app("x", 50, 3, Some(20))),
        ("its accounts refused", app("x", 0, 4, Some(20)), app("x", 50, 4, Some(20))),
        ("refused itself", app("x", 0, 3, Some(20)), app("x", 50, 3, Some(20))),
        ("an older word, a longer pause", app("x", 90, 1, Some(10)), app("x", 90, 3, Some(20))),
        ("no word, a shorter pause", app("x", 60, 0, None), app("x", 90, 3, Some(20))),
        (
            "refused, by one who does not know that somebody was told",
            app("x", 0, 1, Some(25)),
            AppMemory { frozen: told, ..app("x", 90, 1, Some(25)) },
        ),
        ("accepted", app("x", 0, 0, Some(30)), app("x", 90, 0, Some(30))),
        ("refused in the same second", app("x", 0, 1, Some(30)), app("x", 90, 1, Some(30))),
    ];
    for (sentence, said, kept) in steps {
        state.remember_apps(vec![said]).await.unwrap();
        assert_eq!(state.app_memories().await.unwrap(), [kept], "{sentence}");
    }
    state.remember_apps(vec![app("b", 1, 1, None), app("a", 1, 1, None)]).await.unwrap();
    state.shut().await;
    let names: Vec<_> = open(&world).await.app_memories().await.unwrap();
    assert_eq!(names.iter().map(|one| &*one.name).collect::<Vec<_>>(), ["a", "b", "x"]);
}
