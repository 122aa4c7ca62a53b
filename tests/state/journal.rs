//! Intents, results and what becomes of them.

use super::*;

pub(crate) async fn an_account_with_an_open_entry_gets_no_second_one<B: Backend>() {
    let world = B::make().await;
    let (one, two) = (open(&world).await, open(&world).await);
    let entry = intended(&one, &ann()).await;
    world.pass(60).await;
    let other = two.take_lease(&ann(), at(60), LIFE).await.unwrap().unwrap();
    let again = Intent { requested_at: at(61), over_at: at(71), ..intent() };
    assert!(matches!(two.intend(&other, &again).await, Err(Error::EntryOpen { .. })));
    two.close(entry, Closing::Void).await.unwrap();
    two.intend(&other, &again).await.unwrap();
}

pub(crate) async fn the_one_probe_is_spent_once_over_all_processes<B: Backend>() {
    let world = B::make().await;
    let (one, two) = (open(&world).await, open(&world).await);
    let first = lease(&one, &ann()).await;
    let entry = one.intend(&first, &intent()).await.unwrap();
    assert!(one.intend_probe(&first, entry, at(25)).await.unwrap());
    assert!(!one.intend_probe(&first, entry, at(25)).await.unwrap());
    world.pass(60).await;
    let second = two.take_lease(&ann(), at(60), LIFE).await.unwrap().unwrap();
    assert!(!two.intend_probe(&second, entry, at(80)).await.unwrap());
    let open = two.open_entry(&ann()).await.unwrap().unwrap();
    assert!(open.probed);
    assert_eq!(open.intent.over_at, at(25));
    let stale = one.intend_probe(&first, entry, at(25)).await;
    assert!(matches!(stale, Err(Error::LeaseLost { .. })));
}

pub(crate) async fn an_entry_with_a_result_needs_no_probe_and_gets_none<B: Backend>() {
    let world = B::make().await;
    let state = open(&world).await;
    let lease = lease(&state, &ann()).await;
    let entry = state.intend(&lease, &intent()).await.unwrap();
    state.record_result(entry, &ann(), &token("one")).await.unwrap();
    assert!(!state.intend_probe(&lease, entry, at(25)).await.unwrap());
}

pub(crate) async fn a_result_is_taken_after_the_lease_was_lost<B: Backend>() {
    let world = B::make().await;
    let (one, two) = (open(&world).await, open(&world).await);
    let entry = intended(&one, &ann()).await;
    world.pass(60).await;
    two.take_lease(&ann(), at(60), LIFE).await.unwrap().unwrap();
    one.record_result(entry, &ann(), &token("late")).await.unwrap();
    let open = two.open_entry(&ann()).await.unwrap().unwrap();
    assert_eq!(open.result, Some(token("late")));
}

pub(crate) async fn a_result_for_an_entry_that_somebody_closed_is_kept_as_an_orphan<B: Backend>() {
    let world = B::make().await;
    let state = open(&world).await;
    let entry = intended(&state, &ann()).await;
    state.close(entry, Closing::Void).await.unwrap();
    state.record_result(entry, &ann(), &token("late")).await.unwrap();
    state.record_result(entry, &ann(), &token("late")).await.unwrap();
    assert_eq!(state.orphans_len().await.unwrap(), 1);
    assert_eq!(state.journal_len().await.unwrap(), 0);
}

pub(crate) async fn a_second_result_of_one_entry_is_kept_beside_the_first<B: Backend>() {
    let world = B::make().await;
    let state = open(&world).await;
    let entry = intended(&state, &ann()).await;
    for name in ["first", "first", "second"] {
        state.record_result(entry, &ann(), &token(name)).await.unwrap();
    }
    let open = state.open_entry(&ann()).await.unwrap().unwrap();
    assert_eq!(open.result, Some(token("first")));
    assert_eq!(state.orphans_len().await.unwrap(), 1);
}

pub(crate) async fn a_closed_entry_is_gone_and_closing_it_again_does_no_harm<B: Backend>() {
    let world = B::make().await;
    let state = open(&world).await;
    for closing in [Closing::Done, Closing::Void, Closing::Orphan] {
        let entry = intended(&state, &ann()).await;
        state.close(entry, closing).await.unwrap();
        state.close(entry, closing).await.unwrap();
        assert!(state.open_entries().await.unwrap().is_empty(), "{closing:?}");
        // Without a token there is nothing to keep.
        assert_eq!(state.orphans_len().await.unwrap(), 0, "{closing:?}");
    }
}

pub(crate) async fn an_orphan_survives_everything_but_four_newer_ones<B: Backend>() {
    let world = B::make().await;
    let state = open(&world).await;
    let mut first = None;
    for name in ["a", "b", "c", "d", "e", "f"] {
        let entry = intended(&state, &ann()).await;
        state.record_result(entry, &ann(), &token(name)).await.unwrap();
        state.close(entry, Closing::Orphan).await.unwrap();
        state.close(*first.get_or_insert(entry), Closing::Done).await.unwrap();
    }
    assert_eq!(state.orphans_len().await.unwrap(), 4);
    assert!(state.open_entries().await.unwrap().is_empty());
    // Those of another account do not count.
    let bob = AccountId::new("tiktok", "bob");
    let entry = intended(&state, &bob).await;
    state.record_result(entry, &bob, &token("g")).await.unwrap();
    state.close(entry, Closing::Orphan).await.unwrap();
    assert_eq!(state.orphans_len().await.unwrap(), 5);
}

pub(crate) async fn entries_come_back_oldest_first_each_with_its_own_token<B: Backend>() {
    let world = B::make().await;
    let state = open(&world).await;
    for name in ["c", "a", "b"] {
        let id = AccountId::new("tiktok", name);
        let entry = intended(&state, &id).await;
        state.record_result(entry, &id, &token(name)).await.unwrap();
    }
    let entries = state.open_entries().await.unwrap();
    let names: Vec<_> = entries.iter().map(|entry| &*entry.id.account).collect();
    assert_eq!(names, ["c", "a", "b"]);
    assert!(entries.iter().all(|open| open.result == Some(token(&open.id.account))));
    assert_eq!(state.journal_len().await.unwrap(), 3);
}

pub(crate) async fn a_result_of_the_largest_answer_is_kept_too<B: Backend>() {
    let world = B::make().await;
    let state = open(&world).await;
    let entry = intended(&state, &ann()).await;
    let large = Token { access: Secret::new("x\"".repeat(32 << 10)), ..token("large") };
    state.record_result(entry, &ann(), &large).await.unwrap();
    assert_eq!(state.open_entry(&ann()).await.unwrap().unwrap().result, Some(large));
}

pub(crate) async fn no_token_and_no_address_lies_there_in_clear<B: Backend>() {
    let world = B::make().await;
    let state = open(&world).await;
    for closing in [None, Some(Closing::Done), Some(Closing::Orphan)] {
        let id = AccountId::new("tiktok", format!("{closing:?}"));
        let entry = intended(&state, &id).await;
        state.record_result(entry, &id, &token("searched")).await.unwrap();
        if let Some(closing) = closing {
            state.close(entry, closing).await.unwrap();
        }
    }
    let entry = intended(&state, &ann()).await;
    let (by, spent) = (Some(Fingerprint::from_hash(2)), Some(Fingerprint::from_hash(1)));
    state.complete(entry, &ann(), &token("searched"), by, spent).await.unwrap();
    let to = vec![Secret::new("invented-owner@example.org".to_owned())];
    state.fire(&outbox::firing(), to).await.unwrap();
    let contents = world.contents().await;
    assert!(contents.len() > 1_000);
    for secret in ["invented-access", "invented-refresh", "invented-owner"] {
        let found = contents.windows(secret.len()).any(|part| part == secret.as_bytes());
        assert!(!found, "{secret} lies there in clear");
    }
    // What was not found could have been.
    assert!(contents.windows(6).any(|part| part == b"tiktok"));
}

pub(crate) async fn an_intent_that_is_repeated_under_its_lease_is_the_same_entry<B: Backend>() {
    let world = B::make().await;
    let state = open(&world).await;
    let first = lease(&state, &ann()).await;
    let entry = state.intend(&first, &intent()).await.unwrap();
    assert_eq!(state.intend(&first, &intent()).await.unwrap(), entry);
    let other = Intent { spending: Fingerprint::from_hash(8), ..intent() };
    assert!(matches!(state.intend(&first, &other).await, Err(Error::EntryOpen { .. })));
    state.intend_probe(&first, entry, at(11)).await.unwrap();
    // By now a request may have left: it is not the same any more.
    assert!(matches!(state.intend(&first, &intent()).await, Err(Error::EntryOpen { .. })));
    let second = lease(&state, &ann()).await;
    assert!(matches!(state.intend(&second, &intent()).await, Err(Error::EntryOpen { .. })));
}

pub(crate) async fn a_holder_whose_account_was_taken_over_can_end_nothing<B: Backend>() {
    for closing in [Closing::Done, Closing::Void, Closing::Orphan] {
        let world = B::make().await;
        let (one, two) = (open(&world).await, open(&world).await);
        let entry = intended(&one, &ann()).await;
        world.pass(60).await;
        let taken = two.take_lease(&ann(), at(60), LIFE).await.unwrap().unwrap();
        for given_back in [false, true] {
            let closed = one.close(entry, closing).await;
            assert!(matches!(closed, Err(Error::LeaseLost { id }) if id == ann()), "{closing:?}");
            let returned = one.return_probe(entry).await;
            assert!(matches!(returned, Err(Error::LeaseLost { .. })), "{given_back}");
            assert_eq!(one.journal_len().await.unwrap(), 1);
            // Whether he still has it or not: he knows more than we do.
            two.release(&taken).await.unwrap();
        }
        two.close(entry, closing).await.unwrap();
        assert_eq!(one.journal_len().await.unwrap(), 0);
        // What is gone was ended, by whomever.
        one.close(entry, closing).await.unwrap();
    }
}

pub(crate) async fn a_holder_who_was_late_and_whom_nobody_replaced_may_end_his_attempt<
    B: Backend,
>() {
    let world = B::make().await;
    let state = open(&world).await;
    let entry = intended(&state, &ann()).await;
    world.pass(60).await;
    state.record_result(entry, &ann(), &token("one")).await.unwrap();
    state.close(entry, Closing::Done).await.unwrap();
    assert_eq!(state.journal_len().await.unwrap(), 0);
}

pub(crate) async fn an_entry_that_got_its_result_is_not_voided<B: Backend>() {
    let world = B::make().await;
    let state = open(&world).await;
    let entry = intended(&state, &ann()).await;
    state.record_result(entry, &ann(), &token("one")).await.unwrap();
    let closed = state.close(entry, Closing::Void).await;
    assert!(matches!(closed, Err(Error::EntryOpen { .. })), "{closed:?}");
    let open = state.open_entry(&ann()).await.unwrap().unwrap();
    assert_eq!(open.result, Some(token("one")));
}

pub(crate) async fn a_probe_that_is_given_back_can_be_spent_again<B: Backend>() {
    let world = B::make().await;
    let state = open(&world).await;
    let lease = lease(&state, &ann()).await;
    let entry = state.intend(&lease, &intent()).await.unwrap();
    for _ in 0..2 {
        assert!(state.intend_probe(&lease, entry, at(20)).await.unwrap());
        state.return_probe(entry).await.unwrap();
    }
    assert!(!state.open_entry(&ann()).await.unwrap().unwrap().probed);
}

pub(crate) async fn accounts_with_any_name_are_kept_apart<B: Backend>() {
    let world = B::make().await;
    let state = open(&world).await;
    let names = ["a\0b", "a\u{1}b", "a\u{1}0b", "'; DROP TABLE lease; --", "ü\u{202e}", "%_\\", ""];
    for name in names {
        let id = AccountId::new("x\0y", name);
        let entry = intended(&state, &id).await;
        state.record_result(entry, &id, &token(name)).await.unwrap();
    }
    let entries = state.open_entries().await.unwrap();
    let known: Vec<_> = entries.iter().map(|entry| &*entry.id.account).collect();
    assert_eq!(known, names);
    assert!(entries.iter().all(|open| open.result == Some(token(&open.id.account))));
}
