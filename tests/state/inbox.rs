//! What was announced of accounts: kept once, for every process, and not for ever.

use super::*;
use oauth_keepalive::{
    core::{Announcement, Order, Revoker, Said, Whose},
    state::{Heard, INBOX_KEPT_FOR, INBOX_MESSAGES_MAX},
};

fn announced(key: &str, seconds: i64) -> Announcement {
    let detail = Revoker::User.as_detail().map(Into::into);
    Announcement {
        key: key.into(),
        whose: Whose::Subject { app: "main".into(), subject: "invented-\"ü\0\n".into() },
        said: Said::Evidence(Evidence {
            detail,
            ..Evidence::of(Cause::ConsentRevoked, at(seconds))
        }),
        heard_at: at(seconds),
    }
}

async fn kept(state: &State) -> Vec<Announcement> {
    let heard = state.heard_after(0).await.unwrap();
    assert!(heard.is_sorted_by_key(|one| one.position));
    heard.into_iter().map(|one| one.announcement).collect()
}

pub(crate) async fn what_was_announced_is_kept_once_and_comes_back_unchanged<B: Backend>() {
    let world = B::make().await;
    let state = open(&world).await;
    let by_subject = announced("one", 1);
    let by_account = Announcement {
        whose: Whose::Account(AccountId::new("tiktok", "a\0b")),
        said: Said::Connected,
        ..announced("two", 2)
    };
    assert!(state.take_in(&by_subject).await.unwrap());
    assert!(state.take_in(&by_account).await.unwrap());
    let again = Announcement { heard_at: at(9), ..announced("one", 8) };
    assert!(!state.take_in(&again).await.unwrap(), "the same key is the same message");
    drop(state);
    let state = open(&world).await;
    assert_eq!(kept(&state).await, [by_subject, by_account.clone()]);
    let Heard { position, .. } = state.heard_after(0).await.unwrap().remove(0);
    let later = state.heard_after(position).await.unwrap();
    assert_eq!(later.into_iter().map(|one| one.announcement).collect::<Vec<_>>(), [by_account]);
}

pub(crate) async fn every_order_comes_back_as_it_was_given<B: Backend>() {
    let world = B::make().await;
    let state = open(&world).await;
    let refused = Evidence { status: Some(403), ..Evidence::of(Cause::ScopeMissing, at(3)) };
    let orders = [
        Order::Hold,
        Order::Resume,
        Order::Prove,
        Order::Refresh,
        Order::Published { worked: true, evidence: None },
        Order::Published { worked: false, evidence: Some(refused) },
    ];
    let mut given = Vec::new();
    for (order, seconds) in orders.into_iter().zip(0..) {
        let key = format!("order-{seconds}");
        given.push(Announcement { said: Said::Order(order), ..announced(&key, seconds) });
        assert!(state.take_in(&given[given.len() - 1]).await.unwrap());
    }
    assert_eq!(kept(&state).await, given);
}

pub(crate) async fn processes_that_hear_the_same_at_once_keep_it_once<B: Backend>() {
    let world = B::make().await;
    let (one, two) = (open(&world).await, open(&world).await);
    for number in 0..20 {
        let heard = announced(&format!("key-{number}"), number);
        let (first, second) = tokio::join!(one.take_in(&heard), two.take_in(&heard));
        assert_ne!(first.unwrap(), second.unwrap(), "one of them is told that it is new");
    }
    assert_eq!(kept(&one).await.len(), 20);
    assert_eq!(kept(&one).await, kept(&two).await);
}

pub(crate) async fn what_nobody_sends_again_is_forgotten<B: Backend>() {
    let world = B::make().await;
    let state = open(&world).await;
    let life = i64::try_from(INBOX_KEPT_FOR.as_secs()).unwrap();
    for (key, seconds) in [("old", 0), ("young", 1), ("new", life)] {
        assert!(state.take_in(&announced(key, seconds)).await.unwrap());
    }
    let keys: Vec<_> = kept(&state).await.into_iter().map(|one| one.key).collect();
    assert_eq!(keys, [Arc::from("young"), Arc::from("new")]);
}

pub(crate) async fn of_too_many_the_oldest_are_forgotten<B: Backend>() {
    let world = B::make().await;
    let state = open(&world).await;
    let more = 3;
    let numbers: Vec<usize> = (0..INBOX_MESSAGES_MAX + more).collect();
    for some in numbers.chunks(256) {
        let all = some.iter().map(|number| {
            let (state, heard) = (state.clone(), announced(&format!("key-{number}"), 1));
            tokio::spawn(async move { state.take_in(&heard).await })
        });
        for one in all.collect::<Vec<_>>() {
            assert!(one.await.unwrap().unwrap());
        }
    }
    let keys: Vec<_> = kept(&state).await.into_iter().map(|one| one.key).collect();
    assert_eq!(keys.len(), INBOX_MESSAGES_MAX);
    let last = format!("key-{}", INBOX_MESSAGES_MAX + more - 1);
    assert!(keys.iter().any(|key| **key == *last) && !keys.contains(&"key-0".into()));
}
