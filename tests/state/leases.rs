//! Who may refresh an account.

use super::*;

#[tokio::test]
async fn of_two_states_on_one_directory_exactly_one_gets_the_lease() {
    let folder = folder();
    let (one, two) = (open(&folder).await, open(&folder).await);
    for account in 0..20 {
        let id = AccountId::new("tiktok", format!("account-{account}"));
        let (first, second) =
            tokio::join!(one.take_lease(&id, at(0), LIFE), two.take_lease(&id, at(0), LIFE));
        let winners = [first.unwrap(), second.unwrap()].iter().flatten().count();
        assert_eq!(winners, 1, "{id}");
    }
}

#[tokio::test]
async fn an_expired_lease_is_taken_over_and_its_old_holder_cannot_intend() {
    let folder = folder();
    let (one, two) = (open(&folder).await, open(&folder).await);
    let old = one.take_lease(&ann(), at(0), LIFE).await.unwrap().unwrap();
    assert_eq!(two.take_lease(&ann(), at(29), LIFE).await.unwrap(), None);
    let new = two.take_lease(&ann(), at(30), LIFE).await.unwrap().unwrap();
    assert!(new.epoch > old.epoch);
    assert!(matches!(one.intend(&old, &intent()).await, Err(Error::LeaseLost { .. })));
    assert_eq!(one.journal_len().await.unwrap(), 0);
    two.intend(&new, &intent()).await.unwrap();
}

#[tokio::test]
async fn an_expired_lease_that_nobody_took_cannot_intend_either() {
    let folder = folder();
    let state = open(&folder).await;
    let lease = lease(&state, &ann()).await;
    let late = Intent { requested_at: at(30), over_at: at(40), ..intent() };
    assert!(matches!(state.intend(&lease, &late).await, Err(Error::LeaseLost { .. })));
}

#[tokio::test]
async fn taking_our_own_lease_again_makes_the_first_one_worthless() {
    let folder = folder();
    let state = open(&folder).await;
    let (first, second) = (lease(&state, &ann()).await, lease(&state, &ann()).await);
    assert!(second.epoch > first.epoch);
    assert!(matches!(state.intend(&first, &intent()).await, Err(Error::LeaseLost { .. })));
}

#[tokio::test]
async fn an_epoch_cannot_be_borrowed_for_another_account_or_by_another_holder() {
    let folder = folder();
    let (one, two) = (open(&folder).await, open(&folder).await);
    let lease = lease(&one, &ann()).await;
    let forged = Lease { id: AccountId::new("tiktok", "bob"), epoch: lease.epoch };
    assert!(matches!(one.intend(&forged, &intent()).await, Err(Error::LeaseLost { .. })));
    assert!(matches!(two.intend(&lease, &intent()).await, Err(Error::LeaseLost { .. })));
}

#[tokio::test]
async fn a_lease_that_is_given_back_is_free_and_its_epoch_is_never_used_again() {
    let folder = folder();
    let (one, two) = (open(&folder).await, open(&folder).await);
    let old = lease(&one, &ann()).await;
    one.release(&old).await.unwrap();
    let new = lease(&two, &ann()).await;
    assert!(new.epoch > old.epoch);
    // Giving back what was lost takes nothing from its new holder.
    one.release(&old).await.unwrap();
    two.intend(&new, &intent()).await.unwrap();
}

#[tokio::test]
async fn a_lease_from_a_clock_that_was_years_ahead_locks_nothing() {
    let folder = folder();
    let (one, two) = (open(&folder).await, open(&folder).await);
    one.take_lease(&ann(), at(300_000_000), LIFE).await.unwrap().unwrap();
    assert!(two.take_lease(&ann(), at(0), LIFE).await.unwrap().is_some());
}

#[tokio::test]
async fn a_holder_that_is_gone_has_no_lease_and_one_that_is_there_keeps_its_own() {
    let folder = folder();
    let (one, two) = (open(&folder).await, open(&folder).await);
    one.take_lease(&ann(), at(0), LIFE).await.unwrap().unwrap();
    // A third one that starts must not take the living for dead.
    let three = open(&folder).await;
    assert_eq!(two.take_lease(&ann(), at(1), LIFE).await.unwrap(), None);
    assert_eq!(three.take_lease(&ann(), at(1), LIFE).await.unwrap(), None);
    one.shut().await;
    assert!(two.take_lease(&ann(), at(1), LIFE).await.unwrap().is_some());
}

#[tokio::test]
async fn what_holders_leave_in_the_directory_is_cleared_away() {
    let folder = folder();
    let holders = || {
        let entries = fs::read_dir(folder.path().join("state")).unwrap();
        let names = entries.map(|entry| entry.unwrap().file_name().into_string().unwrap());
        names.filter(|name| name.ends_with(".holder")).collect::<Vec<_>>()
    };
    open(&folder).await.shut().await;
    assert_eq!(holders(), [""; 0]);
    fs::write(folder.path().join("state/dead.holder"), "").unwrap();
    let state = open(&folder).await;
    assert_eq!(holders().len(), 1, "its own");
    state.shut().await;
    assert_eq!(holders(), [""; 0]);
}
