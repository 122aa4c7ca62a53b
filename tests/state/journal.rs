//! Intents, results and what becomes of them.

use super::*;

#[tokio::test]
async fn an_account_with_an_open_entry_gets_no_second_one() {
    let folder = folder();
    let (one, two) = (open(&folder).await, open(&folder).await);
    let entry = intended(&one, &ann()).await;
    let other = two.take_lease(&ann(), at(60), LIFE).await.unwrap().unwrap();
    let again = Intent { requested_at: at(61), over_at: at(71), ..intent() };
    assert!(matches!(two.intend(&other, &again).await, Err(Error::EntryOpen { .. })));
    two.close(entry, Closing::Void).await.unwrap();
    two.intend(&other, &again).await.unwrap();
}

#[tokio::test]
async fn the_one_probe_is_spent_once_over_all_processes() {
    let folder = folder();
    let (one, two) = (open(&folder).await, open(&folder).await);
    let first = lease(&one, &ann()).await;
    let entry = one.intend(&first, &intent()).await.unwrap();
    assert!(one.intend_probe(&first, entry, at(25)).await.unwrap());
    assert!(!one.intend_probe(&first, entry, at(25)).await.unwrap());
    let second = two.take_lease(&ann(), at(60), LIFE).await.unwrap().unwrap();
    assert!(!two.intend_probe(&second, entry, at(80)).await.unwrap());
    let open = two.open_entry(&ann()).await.unwrap().unwrap();
    assert!(open.probed);
    assert_eq!(open.intent.over_at, at(25));
    let stale = one.intend_probe(&first, entry, at(25)).await;
    assert!(matches!(stale, Err(Error::LeaseLost { .. })));
}

#[tokio::test]
async fn an_entry_with_a_result_needs_no_probe_and_gets_none() {
    let folder = folder();
    let state = open(&folder).await;
    let lease = lease(&state, &ann()).await;
    let entry = state.intend(&lease, &intent()).await.unwrap();
    state.record_result(entry, &ann(), &token("one")).await.unwrap();
    assert!(!state.intend_probe(&lease, entry, at(25)).await.unwrap());
}

#[tokio::test]
async fn a_result_is_taken_after_the_lease_was_lost() {
    let folder = folder();
    let (one, two) = (open(&folder).await, open(&folder).await);
    let entry = intended(&one, &ann()).await;
    two.take_lease(&ann(), at(60), LIFE).await.unwrap().unwrap();
    one.record_result(entry, &ann(), &token("late")).await.unwrap();
    let open = two.open_entry(&ann()).await.unwrap().unwrap();
    assert_eq!(open.result, Some(token("late")));
}

#[tokio::test]
async fn a_result_for_an_entry_that_somebody_closed_is_kept_as_an_orphan() {
    let folder = folder();
    let state = open(&folder).await;
    let entry = intended(&state, &ann()).await;
    state.close(entry, Closing::Void).await.unwrap();
    state.record_result(entry, &ann(), &token("late")).await.unwrap();
    state.record_result(entry, &ann(), &token("late")).await.unwrap();
    assert_eq!(state.orphans_len().await.unwrap(), 1);
    assert_eq!(state.journal_len().await.unwrap(), 0);
}

#[tokio::test]
async fn a_second_result_of_one_entry_is_kept_beside_the_first() {
    let folder = folder();
    let state = open(&folder).await;
    let entry = intended(&state, &ann()).await;
    for name in ["first", "first", "second"] {
        state.record_result(entry, &ann(), &token(name)).await.unwrap();
    }
    let open = state.open_entry(&ann()).await.unwrap().unwrap();
    assert_eq!(open.result, Some(token("first")));
    assert_eq!(state.orphans_len().await.unwrap(), 1);
}

#[tokio::test]
async fn a_closed_entry_is_gone_and_closing_it_again_does_no_harm() {
    let folder = folder();
    let state = open(&folder).await;
    for closing in [Closing::Done, Closing::Void, Closing::Orphan] {
        let entry = intended(&state, &ann()).await;
        state.close(entry, closing).await.unwrap();
        state.close(entry, closing).await.unwrap();
        assert!(state.open_entries().await.unwrap().is_empty(), "{closing:?}");
        // Without a token there is nothing to keep.
        assert_eq!(state.orphans_len().await.unwrap(), 0, "{closing:?}");
    }
}

#[tokio::test]
async fn an_orphan_survives_everything_but_four_newer_ones() {
    let folder = folder();
    let state = open(&folder).await;
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

#[tokio::test]
async fn entries_come_back_oldest_first_each_with_its_own_token() {
    let folder = folder();
    let state = open(&folder).await;
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

#[tokio::test]
async fn a_result_of_the_largest_answer_is_kept_too() {
    let folder = folder();
    let state = open(&folder).await;
    let entry = intended(&state, &ann()).await;
    let large = Token { access: Secret::new("x\"".repeat(32 << 10)), ..token("large") };
    state.record_result(entry, &ann(), &large).await.unwrap();
    assert_eq!(state.open_entry(&ann()).await.unwrap().unwrap().result, Some(large));
}

#[tokio::test]
async fn no_token_and_no_address_lies_in_clear_in_any_file() {
    let folder = folder();
    let state = open(&folder).await;
    for closing in [None, Some(Closing::Done), Some(Closing::Orphan)] {
        let id = AccountId::new("tiktok", format!("{closing:?}"));
        let entry = intended(&state, &id).await;
        state.record_result(entry, &id, &token("searched")).await.unwrap();
        if let Some(closing) = closing {
            state.close(entry, closing).await.unwrap();
        }
    }
    let to = vec![Secret::new("invented-owner@example.org".to_owned())];
    state.fire(&outbox::firing(), to).await.unwrap();
    let search = || {
        let mut seen = 0;
        for file in fs::read_dir(settings(folder.path()).directory).unwrap() {
            let path = file.unwrap().path();
            let bytes = fs::read(&path).unwrap();
            seen += bytes.len();
            for secret in ["invented-access", "invented-refresh", "invented-owner"] {
                let found = bytes.windows(secret.len()).any(|part| part == secret.as_bytes());
                assert!(!found, "{secret} in {}", path.display());
            }
        }
        seen
    };
    assert!(search() > 50_000);
    state.shut().await;
    assert!(search() > 50_000);
}
