//! The newest token of an account, and what was spent for it.

use super::*;

fn by(number: u64) -> Option<Fingerprint> {
    Some(Fingerprint::from_hash(number))
}

/// One refresh from its intent to its end.
async fn renewed(state: &State, id: &AccountId, name: &str, by: u64, spent: Option<u64>) {
    let entry = intended(state, id).await;
    let by = Some(Fingerprint::from_hash(by));
    let spent = spent.map(Fingerprint::from_hash);
    state.complete(entry, id, &token(name), by, spent).await.unwrap();
}

pub(crate) async fn the_newest_is_kept_with_the_last_few_that_were_spent<B: Backend>() {
    let world = B::make().await;
    let state = open(&world).await;
    assert!(state.newest(&ann()).await.unwrap().is_none());
    for number in 1..=20 {
        renewed(&state, &ann(), &number.to_string(), number + 1, Some(number)).await;
    }
    drop(state);
    let state = open(&world).await;
    let newest = state.newest(&ann()).await.unwrap().unwrap();
    assert_eq!(newest.token, token("20"));
    let spent: Vec<u64> = newest.spent.iter().map(|one| one.as_hash()).collect();
    assert_eq!(spent, [20, 19, 18, 17, 16, 15, 14, 13]);
    assert!(state.open_entries().await.unwrap().is_empty());
    // The next one is of no other account.
    assert!(state.newest(&AccountId::new("tiktok", "bob")).await.unwrap().is_none());
}

pub(crate) async fn a_refresh_token_that_lives_on_is_not_among_the_spent<B: Backend>() {
    let world = B::make().await;
    let state = open(&world).await;
    // Nothing was ever replaced: there is nothing to keep.
    renewed(&state, &ann(), "a", 1, None).await;
    assert!(state.newest(&ann()).await.unwrap().is_none());
    renewed(&state, &ann(), "b", 2, Some(1)).await;
    renewed(&state, &ann(), "c", 2, None).await;
    let newest = state.newest(&ann()).await.unwrap().unwrap();
    assert_eq!((newest.token, newest.spent), (token("c"), vec![by(1).unwrap()]));
    // The provider hands the first one out again, however strange that is.
    renewed(&state, &ann(), "d", 1, Some(2)).await;
    let newest = state.newest(&ann()).await.unwrap().unwrap();
    assert_eq!((newest.token, newest.spent), (token("d"), vec![by(2).unwrap()]));
}

pub(crate) async fn an_end_that_is_told_again_keeps_nothing_older<B: Backend>() {
    let world = B::make().await;
    let state = open(&world).await;
    let first = intended(&state, &ann()).await;
    state.complete(first, &ann(), &token("a"), by(2), by(1)).await.unwrap();
    renewed(&state, &ann(), "b", 3, Some(2)).await;
    state.complete(first, &ann(), &token("a"), by(2), by(1)).await.unwrap();
    assert_eq!(state.newest(&ann()).await.unwrap().unwrap().token, token("b"));
}

pub(crate) async fn who_lost_the_account_can_keep_nothing<B: Backend>() {
    let world = B::make().await;
    let (one, two) = (open(&world).await, open(&world).await);
    let entry = intended(&one, &ann()).await;
    world.pass(60).await;
    two.take_lease(&ann(), at(60), LIFE).await.unwrap().unwrap();
    let kept = one.complete(entry, &ann(), &token("a"), by(2), by(1)).await;
    assert!(matches!(kept, Err(Error::LeaseLost { .. })), "{kept:?}");
    assert!(two.newest(&ann()).await.unwrap().is_none());
    assert!(two.open_entry(&ann()).await.unwrap().is_some());
}

pub(crate) async fn a_forgotten_account_leaves_no_token<B: Backend>() {
    let world = B::make().await;
    let state = open(&world).await;
    let bob = AccountId::new("tiktok", "bob");
    renewed(&state, &ann(), "a", 2, Some(1)).await;
    renewed(&state, &bob, "b", 2, Some(1)).await;
    state.forget(vec![Farewell::for_good(ann())]).await.unwrap();
    assert!(state.newest(&ann()).await.unwrap().is_none());
    assert_eq!(state.newest(&bob).await.unwrap().unwrap().token, token("b"));
}

pub(crate) async fn a_dead_refresh_token_counts_as_spent<B: Backend>() {
    let world = B::make().await;
    let state = open(&world).await;
    renewed(&state, &ann(), "a", 2, Some(1)).await;
    let entry = intended(&state, &ann()).await;
    let dead = state.open_entry(&ann()).await.unwrap().unwrap().intent.spending;
    for _ in 0..2 {
        state.bury(entry, &ann(), by(2), Some(&token("dead"))).await.unwrap();
    }
    let newest = state.newest(&ann()).await.unwrap().unwrap();
    let spent = vec![dead, by(2).unwrap(), by(1).unwrap()];
    assert_eq!((newest.token, &newest.spent), (token("a"), &spent));
    // What came in meanwhile is a token.
    let entry = intended(&state, &ann()).await;
    state.record_result(entry, &ann(), &token("b")).await.unwrap();
    let closed = state.bury(entry, &ann(), None, Some(&token("dead"))).await;
    assert!(matches!(closed, Err(Error::EntryOpen { .. })), "{closed:?}");
    assert_eq!(state.newest(&ann()).await.unwrap().unwrap().spent, spent);
}

pub(crate) async fn a_refresh_token_that_died_before_any_was_kept_is_remembered_with_it<
    B: Backend,
>() {
    let world = B::make().await;
    let state = open(&world).await;
    let entry = intended(&state, &ann()).await;
    state.bury(entry, &ann(), None, None).await.unwrap();
    assert!(state.newest(&ann()).await.unwrap().is_none(), "there is nothing to keep");
    let entry = intended(&state, &ann()).await;
    let dead = state.open_entry(&ann()).await.unwrap().unwrap().intent.spending;
    state.bury(entry, &ann(), None, Some(&token("dead"))).await.unwrap();
    assert!(state.open_entry(&ann()).await.unwrap().is_none());
    let newest = state.newest(&ann()).await.unwrap().unwrap();
    assert_eq!((newest.token, newest.spent), (token("dead"), vec![dead]));
    // The next one that works takes its place.
    renewed(&state, &ann(), "b", 9, Some(8)).await;
    let newest = state.newest(&ann()).await.unwrap().unwrap();
    assert_eq!((newest.token, newest.spent), (token("b"), vec![by(8).unwrap(), dead]));
    // Who lost the account cannot bury it.
    let other = open(&world).await;
    let entry = intended(&state, &ann()).await;
    world.pass(60).await;
    other.take_lease(&ann(), at(60), LIFE).await.unwrap().unwrap();
    let buried = state.bury(entry, &ann(), None, Some(&token("dead"))).await;
    assert!(matches!(buried, Err(Error::LeaseLost { .. })), "{buried:?}");
    assert_eq!(state.newest(&ann()).await.unwrap().unwrap().token, token("b"));
}

pub(crate) async fn who_spent_a_refresh_token_is_known_until_it_is_too_long_ago<B: Backend>() {
    let world = B::make().await;
    let state = open(&world).await;
    let bob = AccountId::new("tiktok", "bob");
    let spent = |number: u64| Fingerprint::from_hash(10_000 + number);
    for number in 0..10 {
        let intent = Intent { spending: spent(number), ..intent() };
        let lease = lease(&state, &ann()).await;
        let entry = state.intend(&lease, &intent).await.unwrap();
        state.record_result(entry, &ann(), &token("new")).await.unwrap();
        let next = Some(spent(number + 1));
        state.complete(entry, &ann(), &token("new"), next, Some(spent(number))).await.unwrap();
        assert_eq!(state.spender(spent(number)).await.unwrap(), Some(ann()));
    }
    assert_eq!(state.spender(spent(10)).await.unwrap(), None, "it is the newest");
    assert_eq!(state.spender(spent(0)).await.unwrap(), None, "it is too long ago");
    assert_eq!(state.spender(spent(2)).await.unwrap(), Some(ann()));
    // A death counts too, and whoever spent one first did it.
    for (number, spender) in [(20, bob.clone()), (9, ann())] {
        let intent = Intent { spending: spent(number), ..intent() };
        let lease = lease(&state, &bob).await;
        let entry = state.intend(&lease, &intent).await.unwrap();
        state.bury(entry, &bob, None, Some(&token("dead"))).await.unwrap();
        assert_eq!(state.spender(spent(number)).await.unwrap(), Some(spender));
    }
    drop(state);
    let state = open(&world).await;
    state.forget(vec![Farewell::for_good(ann())]).await.unwrap();
    assert_eq!(state.spender(spent(5)).await.unwrap(), None, "nobody knows it any more");
    assert_eq!(state.spender(spent(20)).await.unwrap(), Some(bob));
}

pub(crate) async fn a_refresh_token_is_spent_for_one_account_at_a_time<B: Backend>() {
    let world = B::make().await;
    let (one, two) = (open(&world).await, open(&world).await);
    for number in 0..20 {
        let intent = Intent { spending: Fingerprint::from_hash(500 + number), ..intent() };
        let named = |name: &str| AccountId::new("tiktok", format!("{name}-{number}"));
        let (ours, theirs) = (lease(&one, &named("a")).await, lease(&two, &named("b")).await);
        let (first, second) =
            tokio::join!(one.intend(&ours, &intent), two.intend(&theirs, &intent));
        assert_ne!(first.is_ok(), second.is_ok(), "{first:?} {second:?}");
        let refused = first.as_ref().err().or_else(|| second.as_ref().err()).unwrap();
        assert!(
            matches!(refused, Error::EntryOpen { .. } | Error::LeaseLost { .. }),
            "somebody else is at it: {refused}"
        );
        // Once that is over the other one may, if it is still worth it.
        match (first, second) {
            (Ok(entry), _) => {
                one.close(entry, Closing::Void).await.unwrap();
                two.intend(&theirs, &intent).await.unwrap();
            }
            (_, Ok(entry)) => {
                two.close(entry, Closing::Void).await.unwrap();
                one.intend(&ours, &intent).await.unwrap();
            }
            (Err(_), Err(_)) => {}
        }
    }
}
