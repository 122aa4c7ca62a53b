//! Who may refresh an account.

use super::*;

pub(crate) async fn of_two_states_on_one_directory_exactly_one_gets_the_lease<B: Backend>() {
    let world = B::make().await;
    let (one, two) = (open(&world).await, open(&world).await);
    for account in 0..20 {
        let id = AccountId::new("tiktok", format!("account-{account}"));
        let (first, second) =
            tokio::join!(one.take_lease(&id, at(0), LIFE), two.take_lease(&id, at(0), LIFE));
        let winners = [first.unwrap(), second.unwrap()].iter().flatten().count();
        assert_eq!(winners, 1, "{id}");
    }
}

pub(crate) async fn an_expired_lease_is_taken_over_and_its_old_holder_cannot_intend<B: Backend>() {
    let world = B::make().await;
    let (one, two) = (open(&world).await, open(&world).await);
    let old = one.take_lease(&ann(), at(0), LIFE).await.unwrap().unwrap();
    let almost = world.pass_almost(30).await;
    assert_eq!(two.take_lease(&ann(), almost, LIFE).await.unwrap(), None);
    let over = world.pass_the_rest(30).await;
    let new = two.take_lease(&ann(), over, LIFE).await.unwrap().unwrap();
    assert!(new.epoch > old.epoch);
    assert!(matches!(one.intend(&old, &intent()).await, Err(Error::LeaseLost { .. })));
    assert_eq!(one.journal_len().await.unwrap(), 0);
    two.intend(&new, &intent()).await.unwrap();
}

pub(crate) async fn an_expired_lease_that_nobody_took_cannot_intend_either<B: Backend>() {
    let world = B::make().await;
    let state = open(&world).await;
    let lease = lease(&state, &ann()).await;
    world.pass(30).await;
    let late = Intent { requested_at: at(30), over_at: at(40), ..intent() };
    assert!(matches!(state.intend(&lease, &late).await, Err(Error::LeaseLost { .. })));
}

pub(crate) async fn taking_our_own_lease_again_makes_the_first_one_worthless<B: Backend>() {
    let world = B::make().await;
    let state = open(&world).await;
    let (first, second) = (lease(&state, &ann()).await, lease(&state, &ann()).await);
    assert!(second.epoch > first.epoch);
    assert!(matches!(state.intend(&first, &intent()).await, Err(Error::LeaseLost { .. })));
}

pub(crate) async fn an_epoch_cannot_be_borrowed_for_another_account_or_by_another_holder<
    B: Backend,
>() {
    let world = B::make().await;
    let (one, two) = (open(&world).await, open(&world).await);
    let lease = lease(&one, &ann()).await;
    let forged = Lease { id: AccountId::new("tiktok", "bob"), epoch: lease.epoch };
    assert!(matches!(one.intend(&forged, &intent()).await, Err(Error::LeaseLost { .. })));
    assert!(matches!(two.intend(&lease, &intent()).await, Err(Error::LeaseLost { .. })));
}

pub(crate) async fn a_lease_that_is_given_back_is_free_and_its_epoch_is_never_used_again<
    B: Backend,
>() {
    let world = B::make().await;
    let (one, two) = (open(&world).await, open(&world).await);
    let old = lease(&one, &ann()).await;
    one.release(&old).await.unwrap();
    let new = lease(&two, &ann()).await;
    assert!(new.epoch > old.epoch);
    // Giving back what was lost takes nothing from its new holder.
    one.release(&old).await.unwrap();
    two.intend(&new, &intent()).await.unwrap();
}

pub(crate) async fn a_lease_from_a_clock_that_was_years_ahead_locks_nothing<B: Backend>() {
    let world = B::make().await;
    let (one, two) = (open(&world).await, open(&world).await);
    one.take_lease(&ann(), at(300_000_000), LIFE).await.unwrap().unwrap();
    world.pass(-300_000_000).await;
    assert!(two.take_lease(&ann(), at(0), LIFE).await.unwrap().is_some());
}

pub(crate) async fn an_intent_whose_call_would_outlast_the_lease_is_refused<B: Backend>() {
    let world = B::make().await;
    let state = open(&world).await;
    let lease = lease(&state, &ann()).await;
    let long = Intent { over_at: at(31), requested_at: at(0), ..intent() };
    assert!(matches!(state.intend(&lease, &long).await, Err(Error::LeaseLost { .. })));
    state.intend(&lease, &intent()).await.unwrap();
}

pub(crate) async fn whoever_is_late_gives_back_his_own_lease_and_not_the_one_after_it<
    B: Backend,
>() {
    let world = B::make().await;
    let (one, two) = (open(&world).await, open(&world).await);
    let (first, second) = (lease(&one, &ann()).await, lease(&one, &ann()).await);
    one.release(&first).await.unwrap();
    assert_eq!(two.take_lease(&ann(), at(0), LIFE).await.unwrap(), None);
    one.intend(&second, &intent()).await.unwrap();
    one.release(&second).await.unwrap();
    assert!(two.take_lease(&ann(), at(0), LIFE).await.unwrap().is_some());
}

pub(crate) async fn a_lease_that_was_given_back_allows_nothing_any_more<B: Backend>() {
    let world = B::make().await;
    let state = open(&world).await;
    let lease = lease(&state, &ann()).await;
    let entry = state.intend(&lease, &intent()).await.unwrap();
    state.release(&lease).await.unwrap();
    let probed = state.intend_probe(&lease, entry, at(20)).await;
    assert!(matches!(probed, Err(Error::LeaseLost { .. })), "{probed:?}");
    state.close(entry, Closing::Void).await.unwrap();
    assert!(matches!(state.intend(&lease, &intent()).await, Err(Error::LeaseLost { .. })));
}

pub(crate) async fn each_taking_has_a_higher_epoch_whoever_takes_and_gives_back<B: Backend>() {
    let world = B::make().await;
    let states = [open(&world).await, open(&world).await];
    let mut newest = 0;
    for round in 0..20 {
        let state = &states[round % 2];
        let lease = lease(state, &ann()).await;
        assert!(lease.epoch > newest, "round {round}");
        newest = lease.epoch;
        state.release(&lease).await.unwrap();
    }
}
