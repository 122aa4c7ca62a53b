//! The cases that every kind of store must pass.

use crate::kinds::{
    ISSUED, Kind, ODD_NAME, accounts, as_text, fingerprinter, id, load, secret, take_away,
};
use oauth_keepalive::{
    core::{AccountId, Fingerprint, Timestamp},
    oauth::Token,
    stores::{AnyStore, Error, Saved, Status, StoredAccount, TokenStore},
};
use std::time::Duration;

pub(crate) async fn an_open_store_hands_out_every_account_as_the_publisher_wrote_it<K: Kind>() {
    let (found, damaged) = load(&K::make().await.open().await).await;
    let expected = accounts().into_iter().map(|account| K::HOLDS.cut(account));
    assert_eq!(texts(&found), expected.map(|account| as_text(&account)).collect::<Vec<_>>());
    assert!(damaged.is_empty(), "{damaged:?}");
}

pub(crate) async fn asking_for_one_account_answers_what_loading_did<K: Kind>() {
    let kind = K::make().await;
    let store = kind.open().await;
    for account in load(&store).await.0 {
        let one = store.get(&account.id).await.unwrap().expect("it was loaded");
        assert_eq!(as_text(&one), as_text(&account));
    }
    assert!(store.get(&id("nobody")).await.unwrap().is_none());
    assert!(store.get(&id("BRAND-A")).await.unwrap().is_none());
}

pub(crate) async fn a_saved_token_is_read_by_a_second_instance<K: Kind>() {
    let kind = K::make().await;
    let store = kind.open().await;
    for account in ["brand-a", ODD_NAME] {
        let new = rotated(account);
        let saved = store.save(&id(account), &new, held(&store, account).await).await.unwrap();
        assert_eq!(saved, Saved::Written, "{account}");
        let found = kind.open().await.get(&id(account)).await.unwrap().expect("it is there");
        let expected = StoredAccount {
            token: Some(Token {
                // Who the account is never comes from a refresh.
                subject: found.token.as_ref().and_then(|token| token.subject.clone()),
                ..new
            }),
            ..found.clone()
        };
        assert_eq!(as_text(&found), as_text(&K::HOLDS.cut(expected)));
    }
}

pub(crate) async fn dates_are_written_in_the_form_in_which_they_stood<K: Kind>() {
    let kind = K::make().await;
    let store = kind.open().await;
    let shape = |text: String| {
        text.chars().map(|c| if c.is_ascii_digit() { '0' } else { c }).collect::<String>()
    };
    let before = kind.raw_end("brand-a");
    save(&store, "brand-a", &rotated("brand-a")).await;
    let after = kind.raw_end("brand-a");
    assert_ne!(before, after);
    assert_eq!(shape(before), shape(after));
}

/// A number has no last year.
pub(crate) async fn an_end_in_the_last_year_is_none_and_does_not_stop_a_save<K: Kind>() {
    let kind = K::make().await;
    if !kind.raw_end("brand-a").contains('-') {
        return;
    }
    kind.write_end("brand-a", "9999-12-31 23:59:59");
    let store = kind.open().await;
    let (found, damaged) = load(&store).await;
    assert!(damaged.is_empty(), "{damaged:?}");
    let found = found.into_iter().find(|account| account.id == id("brand-a")).unwrap();
    assert_eq!(found.token.unwrap().expires_at, None);
    save(&store, "brand-a", &rotated("brand-a")).await;
    let found = store.get(&id("brand-a")).await.unwrap().unwrap();
    assert_eq!(found.token.unwrap().expires_at, rotated("brand-a").expires_at);
}

pub(crate) async fn a_save_against_a_token_that_is_not_there_any_more_changes_nothing<K: Kind>() {
    let kind = K::make().await;
    let store = kind.open().await;
    let expected = held(&store, "brand-a").await;
    kind.write_token("brand-a", "act.invented-theirs", "rft.invented-theirs");
    let before = kind.content();
    let saved = store.save(&id("brand-a"), &rotated("brand-a"), expected).await.unwrap();
    assert_eq!(saved, Saved::Conflict);
    assert_eq!(kind.content(), before);
}

/// A row that was never connected, or that the publisher emptied: `take_away` is what each kind calls empty.
pub(crate) async fn a_row_without_a_token_takes_a_first_one_and_no_second<K: Kind>() {
    let kind = K::make().await;
    let store = kind.open().await;
    let old = held(&store, "brand-a").await;
    kind.write_token("brand-a", "", "");
    assert!(store.get(&id("brand-a")).await.unwrap().expect("it is there").token.is_none());
    let new = rotated("brand-a");
    let against_old = store.save(&id("brand-a"), &new, old).await.unwrap();
    assert_eq!(against_old, Saved::Conflict, "whoever emptied it wants no refreshed one there");
    let saved = store.save(&id("brand-a"), &new, Fingerprint::NONE).await.unwrap();
    assert_eq!(saved, Saved::Written);
    let found = stored(&store, "brand-a").await;
    assert_eq!((&found.access, &found.refresh), (&new.access, &new.refresh));
    let again = store.save(&id("brand-a"), &new, Fingerprint::NONE).await.unwrap();
    assert_eq!(again, Saved::AlreadyThere);
    let other = Token { access: secret("act.invented-second"), ..new };
    let second = store.save(&id("brand-a"), &other, Fingerprint::NONE).await.unwrap();
    assert_eq!(second, Saved::Conflict);
}

pub(crate) async fn an_unrelated_write_neither_stops_a_save_nor_is_lost_by_it<K: Kind>() {
    let kind = K::make().await;
    let store = kind.open().await;
    let expected = held(&store, "brand-a").await;
    kind.write_campaign("brand-a", "77");
    kind.write_campaign(ODD_NAME, "78");
    let saved = store.save(&id("brand-a"), &rotated("brand-a"), expected).await.unwrap();
    assert_eq!(saved, Saved::Written);
    assert_eq!((kind.campaign("brand-a"), kind.campaign(ODD_NAME)), ("77".into(), "78".into()));
}

pub(crate) async fn a_blank_refresh_token_never_replaces_the_stored_one<K: Kind>() {
    for blank in [None, Some(""), Some(" \n"), Some("null")] {
        let kind = K::make().await;
        let store = kind.open().await;
        let new = Token { refresh: blank.map(secret), ..rotated("brand-a") };
        assert_eq!(save(&store, "brand-a", &new).await, Saved::Written);
        let found = stored(&store, "brand-a").await;
        assert_eq!(found.refresh, Some(secret("rft.invented-a1")), "{blank:?}");
        assert_eq!(found.access, new.access);
    }
}

pub(crate) async fn saving_what_is_there_already_says_so<K: Kind>() {
    let kind = K::make().await;
    let store = kind.open().await;
    let (before, new) = (held(&store, "brand-a").await, rotated("brand-a"));
    assert_eq!(save(&store, "brand-a", &new).await, Saved::Written);
    let content = kind.content();
    for expected in [before, held(&store, "brand-a").await] {
        let saved = store.save(&id("brand-a"), &new, expected).await.unwrap();
        assert_eq!(saved, Saved::AlreadyThere);
    }
    // A replay of an answer that had no refresh token.
    let without = Token { refresh: None, ..new };
    assert_eq!(store.save(&id("brand-a"), &without, before).await.unwrap(), Saved::AlreadyThere);
    assert_eq!(kind.content(), content);
}

pub(crate) async fn the_same_token_with_a_later_end_is_written<K: Kind>() {
    let kind = K::make().await;
    let store = kind.open().await;
    let old = stored(&store, "brand-a").await;
    let later = Some(Timestamp::from_unix(ISSUED + 20_000));
    let new = Token { expires_at: later, ..old };
    assert_eq!(save(&store, "brand-a", &new).await, Saved::Written);
    assert_eq!(stored(&store, "brand-a").await.expires_at, later);
}

pub(crate) async fn an_account_that_is_gone_is_not_brought_back<K: Kind>() {
    let kind = K::make().await;
    let store = kind.open().await;
    let expected = held(&store, "brand-a").await;
    kind.remove("brand-a");
    let saved = store.save(&id("brand-a"), &rotated("brand-a"), expected).await.unwrap();
    assert_eq!(saved, Saved::Gone);
    assert!(store.get(&id("brand-a")).await.unwrap().is_none());
    assert_eq!(load(&store).await.0.len(), accounts().len() - 1);
}

pub(crate) async fn of_two_saves_with_the_same_expectation_exactly_one_is_written<K: Kind>() {
    let kind = K::make().await;
    let (one, two) = (kind.open().await, kind.open().await);
    for round in 0..8 {
        let expected = held(&one, "brand-a").await;
        let new = |side: &str| {
            let text = format!("invented-{side}-{round}");
            Token { refresh: Some(secret(&text)), access: secret(&text), ..rotated("brand-a") }
        };
        let (mine, yours) = (new("mine"), new("yours"));
        let brand = id("brand-a");
        let saved =
            tokio::join!(one.save(&brand, &mine, expected), two.save(&brand, &yours, expected),);
        let (winner, outcome) = match (saved.0.unwrap(), saved.1.unwrap()) {
            (Saved::Written, other) => (mine, other),
            (other, Saved::Written) => (yours, other),
            neither => panic!("round {round}: {neither:?}"),
        };
        assert_eq!(outcome, Saved::Conflict, "round {round}");
        assert_eq!(stored(&two, "brand-a").await.access, winner.access, "round {round}");
    }
}

pub(crate) async fn an_added_account_is_there_and_a_second_one_is_refused<K: Kind>() {
    let kind = K::make().await;
    let store = kind.open().await;
    let name = "new \"brand\"\r\n\t🎬/#: - {}'%s`; DROP TABLE accounts --";
    let added = StoredAccount {
        id: id(name),
        token: Some(rotated("brand-new")),
        ..accounts().swap_remove(0)
    };
    assert_eq!(store.add(&added).await.unwrap(), Saved::Written);
    let found = kind.open().await.get(&id(name)).await.unwrap().expect("it was added");
    assert_eq!(as_text(&found), as_text(&K::HOLDS.cut(added.clone())));
    let before = kind.content();
    assert_eq!(store.add(&added).await.unwrap(), Saved::Conflict);
    assert_eq!(kind.content(), before);
    assert_eq!(save(&store, name, &rotated("again")).await, Saved::Written);
}

pub(crate) async fn marking_touches_the_status_only<K: Kind>() {
    let kind = K::make().await;
    let store = kind.open().await;
    let before = kind.content();
    store.mark(&id("brand-a"), Status::NeedsReconnect).await.unwrap();
    store.mark(&id("nobody"), Status::NeedsReconnect).await.unwrap();
    if !K::HOLDS.status {
        assert_eq!(kind.content(), before);
        return;
    }
    let broken = kind.status("brand-a").expect("it has a status now");
    store.mark(&id("brand-a"), Status::Connected).await.unwrap();
    assert_ne!(kind.status("brand-a"), Some(broken));
    assert_eq!(kind.content(), before, "back and forth leaves nothing behind");
}

pub(crate) async fn an_unreadable_entry_is_reported_and_the_rest_is_loaded<K: Kind>() {
    let kind = K::make().await;
    let store = kind.open().await;
    kind.write_end(ODD_NAME, K::NONSENSE);
    let (found, damaged) = load(&store).await;
    assert_eq!(found.len(), accounts().len() - 1);
    let [error] = damaged.as_slice() else { panic!("{damaged:?}") };
    assert_eq!(error.account(), Some(&id(ODD_NAME)), "or its account would count as gone");
    shows_no_value(error);
    let error = store.get(&id(ODD_NAME)).await.unwrap_err();
    assert_eq!(error.account(), Some(&id(ODD_NAME)), "or the whole store would count as damaged");
    shows_no_value(&error);
}

pub(crate) async fn nonsense_beside_the_token_does_not_lose_the_token<K: Kind>() {
    let kind = K::make().await;
    let store = kind.open().await;
    let expected = held(&store, "brand-a").await;
    kind.write_end("brand-a", K::NONSENSE);
    let saved = store.save(&id("brand-a"), &rotated("brand-a"), expected).await.unwrap();
    assert_eq!(saved, Saved::Written);
    assert_eq!(stored(&store, "brand-a").await.expires_at, rotated("brand-a").expires_at);
}

pub(crate) async fn a_store_that_went_away_is_unavailable_and_works_when_it_is_back<K: Kind>() {
    let kind = K::make().await;
    let store = kind.open().await;
    let expected = held(&store, "brand-a").await;
    let new = rotated("brand-a");
    let bring_back = take_away(&kind.folder());
    is_unavailable(store.get(&id("brand-a")).await);
    is_unavailable(store.load(|_| {}, |_| {}).await);
    is_unavailable(store.probe().await);
    is_unavailable(store.save(&id("brand-a"), &new, expected).await);
    is_unavailable(store.mark(&id("brand-a"), Status::NeedsReconnect).await.and_then(|()| {
        // A kind without a status has nothing to do, and that it can do without a store.
        if K::HOLDS.status { Ok(()) } else { store_is_away() }
    }));
    bring_back();
    store.probe().await.unwrap();
    assert_eq!(store.save(&id("brand-a"), &new, expected).await.unwrap(), Saved::Written);
}

pub(crate) async fn a_store_that_cannot_be_written_keeps_its_content<K: Kind>() {
    let kind = K::make().await;
    let store = kind.open().await;
    let expected = held(&store, "brand-a").await;
    let before = kind.content();
    let blocked = kind.block_writes();
    is_unavailable(store.probe().await);
    is_unavailable(store.save(&id("brand-a"), &rotated("brand-a"), expected).await);
    drop(blocked);
    assert_eq!(kind.content(), before);
    let saved = store.save(&id("brand-a"), &rotated("brand-a"), expected).await.unwrap();
    assert_eq!(saved, Saved::Written);
}

pub(crate) async fn a_probe_changes_nothing<K: Kind>() {
    let kind = K::make().await;
    let (store, before) = (kind.open().await, kind.content());
    let files = |kind: &K| {
        let mut names = std::fs::read_dir(kind.folder())
            .unwrap()
            .map(|entry| entry.unwrap().file_name())
            .filter(|name| !name.to_string_lossy().ends_with(".lock"))
            .collect::<Vec<_>>();
        names.sort();
        names
    };
    let names = files(&kind);
    store.probe().await.unwrap();
    assert_eq!(kind.content(), before);
    assert_eq!(files(&kind), names);
}

pub(crate) async fn a_change_from_outside_is_noticed_without_waiting_for_the_poll<K: Kind>() {
    let kind = K::make().await;
    let store = kind.open().await;
    // Twice: a watch on the wrong thing is deaf after the first change.
    for round in ["one", "two"] {
        kind.write_token("brand-a", &format!("act.invented-{round}"), "rft.invented-x");
        let noticed = async {
            loop {
                store.changed().await;
                let found = stored(&store, "brand-a").await;
                if found.access.expose().ends_with(round) {
                    return;
                }
            }
        };
        tokio::time::timeout(PATIENCE, noticed).await.expect("the change is noticed");
        // Dropped while it waits, it has not forgotten anything.
        assert!(tokio::time::timeout(Duration::from_millis(1), store.changed()).await.is_err());
    }
    kind.write_campaign("brand-a", "79");
    tokio::time::timeout(PATIENCE, store.changed()).await.expect("it still notices changes");
}

pub(crate) async fn our_own_save_is_no_news<K: Kind>() {
    let kind = K::make().await;
    let store = kind.open().await;
    for account in ["brand-a", ODD_NAME] {
        assert_eq!(save(&store, account, &rotated(account)).await, Saved::Written);
    }
    let returns = tokio::time::timeout(Duration::from_secs(1), store.changed()).await;
    assert!(returns.is_err(), "a save of our own was taken for somebody else's");
}

pub(crate) async fn a_token_that_is_blank_is_never_written<K: Kind>() {
    let kind = K::make().await;
    let (store, before) = (kind.open().await, kind.content());
    for blank in ["", "  ", "null"] {
        let new = Token { access: secret(blank), ..rotated("brand-a") };
        let saved = store.save(&id("brand-a"), &new, held(&store, "brand-a").await).await;
        assert!(matches!(saved, Err(Error::Damaged { .. })), "{saved:?}");
    }
    assert_eq!(kind.content(), before);
}

pub(crate) async fn a_provider_that_is_not_there_has_no_accounts<K: Kind>() {
    let kind = K::make().await;
    let (store, before) = (kind.open().await, kind.content());
    let other = AccountId::new("x", "brand-a");
    assert!(store.get(&other).await.unwrap().is_none());
    let expected = held(&store, "brand-a").await;
    let saved = store.save(&other, &rotated("brand-a"), expected).await.unwrap();
    assert_eq!(saved, Saved::Gone);
    store.mark(&other, Status::NeedsReconnect).await.unwrap();
    assert_eq!(kind.content(), before);
}

/// A new token with everything in it, of invented text.
fn rotated(name: &str) -> Token {
    let at = |seconds: i64| Some(Timestamp::from_unix(ISSUED + 5_400 + seconds));
    let name: String = name.chars().filter(char::is_ascii_alphanumeric).collect();
    Token {
        access: secret(&format!("act.invented-{name}-2!#: '\"\\é")),
        refresh: Some(secret(&format!("rft.invented-{name}-2"))),
        issued_at: at(0),
        expires_at: at(7_200),
        refresh_expires_at: at(180 * 86_400),
        scopes: Some(vec!["user.info.basic".into(), "video.upload".into()]),
        subject: Some("open-a".into()),
    }
}

async fn stored(store: &AnyStore, account: &str) -> Token {
    let found = store.get(&id(account)).await.unwrap().expect("the account is there");
    found.token.expect("it has a token")
}

async fn held(store: &AnyStore, account: &str) -> Fingerprint {
    fingerprinter().of_token(&stored(store, account).await)
}

async fn save(store: &AnyStore, account: &str, new: &Token) -> Saved {
    let expected = held(store, account).await;
    store.save(&id(account), new, expected).await.unwrap()
}

fn texts(accounts: &[StoredAccount]) -> Vec<String> {
    accounts.iter().map(as_text).collect()
}

fn is_unavailable<T: std::fmt::Debug>(answer: Result<T, Error>) {
    let error = answer.expect_err("the store is away");
    assert!(matches!(error, Error::Unavailable { .. }), "{error:?}");
    shows_no_value(&error);
}

fn store_is_away() -> Result<(), Error> {
    Err(Error::Unavailable { place: String::new(), reason: String::new() })
}

/// Every stored value of the fixtures, and everything the tests write, contains this word.
pub(crate) fn shows_no_value(error: &Error) {
    for text in [error.to_string(), format!("{error:?}")] {
        assert!(!text.contains("invented"), "{text}");
        assert!(!text.contains("example.com"), "{text}");
    }
}

pub(crate) const PATIENCE: Duration = Duration::from_secs(60);
