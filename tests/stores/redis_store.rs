//! What only Redis can do wrong.

use crate::{
    contract::shows_no_value,
    kinds::{fingerprinter, id, load, secret, token},
    redis_kind::{PATIENCE, Server, open, settings},
};
use oauth_keepalive::{
    core::{AccountId, Timestamp},
    oauth::Token,
    stores::{AnyStore, Error, Saved, StoredAccount, TokenStore, redis::Settings as Redis},
};
use std::{
    collections::BTreeSet,
    fs,
    time::{Duration, Instant},
};
use tempfile::TempDir;

pub(crate) fn server(arguments: &[&str]) -> (TempDir, Server) {
    let directory = tempfile::tempdir().unwrap();
    let server = Server::start(directory.path(), arguments);
    (directory, server)
}

pub(crate) fn account(name: &str, text: &str) -> StoredAccount {
    account_of(id(name), text)
}

fn account_of(id: AccountId, text: &str) -> StoredAccount {
    let token = token(&format!("act.invented-{text}"), Some(&format!("rft.invented-{text}")));
    StoredAccount { id, app: None, owner: None, subject: None, token: Some(token), enabled: true }
}

pub(crate) fn new(text: &str) -> Token {
    account("any", text).token.unwrap()
}

pub(crate) async fn access(store: &AnyStore, id: &AccountId) -> String {
    let token = store.get(id).await.unwrap().expect("it is there").token.expect("with a token");
    token.access.expose().to_owned()
}

#[tokio::test]
async fn a_server_that_was_restarted_is_unavailable_meanwhile_and_then_used_again() {
    let (_directory, mut server) = server(&["--appendonly", "yes", "--appendfsync", "always"]);
    let store = open(&settings(server.socket())).await;
    store.add(&account("brand", "1")).await.unwrap();
    let expected = fingerprinter().of_token(&new("1"));
    server.kill();
    let error = store.save(&id("brand"), &new("2"), expected).await.unwrap_err();
    assert!(matches!(error, Error::Unavailable { .. }), "{error}");
    shows_no_value(&error);
    server.start_again();
    // The server forgot the script, and the connection is dead.
    assert_eq!(store.save(&id("brand"), &new("2"), expected).await.unwrap(), Saved::Written);
    server.kill();
    server.start_again();
    assert_eq!(access(&store, &id("brand")).await, "act.invented-2");
    server.run(&["SCRIPT", "FLUSH"]);
    let expected = fingerprinter().of_token(&new("2"));
    assert_eq!(store.save(&id("brand"), &new("3"), expected).await.unwrap(), Saved::Written);
}

#[tokio::test]
async fn a_server_that_hangs_is_given_up_in_time_and_a_late_save_is_found_by_the_next() {
    let (_directory, server) = server(&[]);
    let hasty = Redis {
        command_timeout: Duration::from_secs(2),
        connect_timeout: Duration::from_secs(2),
        ..settings(server.socket())
    };
    let store = open(&hasty).await;
    store.add(&account("brand", "1")).await.unwrap();
    server.run(&["CLIENT", "PAUSE", "600000", "WRITE"]);
    let began = Instant::now();
    let expected = fingerprinter().of_token(&new("1"));
    let error = store.save(&id("brand"), &new("2"), expected).await.unwrap_err();
    assert!(matches!(error, Error::Unavailable { .. }), "{error}");
    assert!(began.elapsed() < PATIENCE, "{:?}", began.elapsed());
    server.run(&["CLIENT", "UNPAUSE"]);
    let saved = loop {
        match store.save(&id("brand"), &new("2"), expected).await {
            Ok(saved) => break saved,
            Err(_) => assert!(began.elapsed() < PATIENCE, "it never came back"),
        }
    };
    assert!(matches!(saved, Saved::Written | Saved::AlreadyThere), "{saved:?}");
    assert_eq!(access(&store, &id("brand")).await, "act.invented-2");
}

#[tokio::test]
async fn a_hundred_saves_at_once_write_exactly_one_token() {
    let (_directory, server) = server(&[]);
    let stores = [open(&settings(server.socket())).await, open(&settings(server.socket())).await];
    stores[0].add(&account("brand", "1")).await.unwrap();
    let expected = fingerprinter().of_token(&new("1"));
    let stores = std::sync::Arc::new(stores);
    let mut saves = tokio::task::JoinSet::new();
    for nth in 0..100 {
        let stores = std::sync::Arc::clone(&stores);
        saves.spawn(async move {
            let token = new(&format!("of-{nth}"));
            (nth, stores[nth % 2].save(&id("brand"), &token, expected).await.unwrap())
        });
    }
    let saved = saves.join_all().await;
    let winners: Vec<_> = saved.iter().filter(|(_, saved)| *saved == Saved::Written).collect();
    let [(winner, _)] = winners[..] else { panic!("{saved:?}") };
    assert_eq!(access(&stores[0], &id("brand")).await, format!("act.invented-of-{winner}"));
}

#[tokio::test]
async fn a_server_that_takes_no_writes_is_found_before_a_token_is_spent() {
    let (_directory, server) = server(&[]);
    let store = open(&settings(server.socket())).await;
    store.add(&account("brand", "1")).await.unwrap();
    let expected = fingerprinter().of_token(&new("1"));
    for (what, spoil, mend, word) in [
        (
            "a replica",
            &["REPLICAOF", "127.0.0.1", "1"][..],
            &["REPLICAOF", "NO", "ONE"][..],
            "replica",
        ),
        (
            "full",
            &["CONFIG", "SET", "maxmemory", "1"],
            &["CONFIG", "SET", "maxmemory", "0"],
            "memory is full",
        ),
        (
            "too few replicas",
            &["CONFIG", "SET", "min-replicas-to-write", "1"],
            &["CONFIG", "SET", "min-replicas-to-write", "0"],
            "too few replicas",
        ),
    ] {
        let before = server.content();
        server.run(spoil);
        let probed = store.probe().await.unwrap_err();
        let saved = store.save(&id("brand"), &new("2"), expected).await.unwrap_err();
        for error in [probed, saved] {
            assert!(matches!(error, Error::Unavailable { .. }), "{what}: {error}");
            assert!(error.to_string().contains(word), "{what}: {error}");
            shows_no_value(&error);
        }
        assert_eq!(server.content(), before, "{what}");
        server.run(mend);
        store.probe().await.unwrap();
    }
    assert_eq!(store.save(&id("brand"), &new("2"), expected).await.unwrap(), Saved::Written);
}

#[tokio::test]
async fn failing_snapshots_are_found_before_a_token_is_spent() {
    let (directory, server) = server(&["--save", "3600 1", "--enable-protected-configs", "yes"]);
    let store = open(&settings(server.socket())).await;
    // No directory, no snapshot: that stops root as well.
    let data = directory.path().join("data");
    fs::create_dir(&data).unwrap();
    server.run(&["CONFIG", "SET", "dir", data.to_str().unwrap()]);
    fs::remove_dir(&data).unwrap();
    store.add(&account("brand", "1")).await.unwrap();
    server.run(&["BGSAVE"]);
    let deadline = Instant::now() + PATIENCE;
    let error = loop {
        if let Err(error) = store.probe().await {
            break error;
        }
        assert!(Instant::now() < deadline, "a failed snapshot goes unnoticed");
        tokio::task::yield_now().await;
    };
    assert!(error.to_string().contains("snapshots fail"), "{error}");
}

#[tokio::test]
async fn persistence_and_eviction_that_lose_tokens_are_warned_of() {
    let (_directory, server) = server(&[]);
    let store = open(&settings(server.socket())).await;
    let warned = async |word: &str| {
        let warnings = store.warnings().await.unwrap();
        warnings.iter().any(|warning| warning.contains(word))
    };
    assert!(warned("persistence is off").await);
    server.run(&["CONFIG", "SET", "save", "60 1"]);
    assert!(warned("appendonly is off").await);
    server.run(&["CONFIG", "SET", "appendonly", "yes"]);
    assert!(warned("appendfsync is not always").await);
    server.run(&["CONFIG", "SET", "appendfsync", "always"]);
    assert_eq!(store.warnings().await.unwrap(), Vec::<String>::new());
    server.run(&["CONFIG", "SET", "maxmemory", "100mb", "maxmemory-policy", "allkeys-lru"]);
    assert!(warned("evicts any key").await);
    server.run(&["CONFIG", "SET", "notify-keyspace-events", ""]);
    assert!(warned("notifications are off").await);
}

#[tokio::test]
async fn a_notification_ends_the_waiting_at_once_and_only_for_what_concerns_us() {
    let (_directory, server) = server(&[]);
    let store = open(&settings(server.socket())).await;
    store.add(&account("brand", "1")).await.unwrap();
    load(&store).await;
    server.run(&["HSET", "oauth:tiktok:brand", "posts_today", "3"]);
    server.run(&["SET", "elsewhere", "3"]);
    let quiet = tokio::time::timeout(Duration::from_secs(1), store.changed()).await;
    assert!(quiet.is_err(), "a field that means nothing to us was news");
    for change in [
        &["HSET", "oauth:tiktok:brand", "access_token", "act.invented-theirs"][..],
        &["HSET", "oauth:tiktok:brand-2", "access_token", "act.invented-theirs"],
        &["HDEL", "oauth:tiktok:brand", "refresh_token"],
        &["DEL", "oauth:tiktok:brand"],
        &["RENAME", "oauth:tiktok:brand-2", "oauth:tiktok:brand-3"],
        &["PEXPIRE", "oauth:tiktok:brand-3", "1"],
    ] {
        server.run(change);
        // Polling would come tomorrow.
        let noticed = tokio::time::timeout(PATIENCE, store.changed()).await;
        assert!(noticed.is_ok(), "{change:?} is not noticed");
        // What one change may tell a second time is over before the next.
        while tokio::time::timeout(Duration::from_millis(700), store.changed()).await.is_ok() {}
    }
}

#[tokio::test]
async fn without_notifications_a_change_is_noticed_by_polling_and_our_own_is_no_news() {
    for server_tells in [true, false] {
        let (_directory, server) = server(&["--notify-keyspace-events", ""]);
        let polling = Redis {
            poll_every: Duration::from_millis(100),
            notifications: server_tells,
            ..settings(server.socket())
        };
        let store = open(&polling).await;
        for name in ["a", "b", "c"] {
            store.add(&account(name, "1")).await.unwrap();
        }
        load(&store).await;
        let expected = fingerprinter().of_token(&new("1"));
        store.save(&id("a"), &new("2"), expected).await.unwrap();
        let quiet = tokio::time::timeout(Duration::from_secs(1), store.changed()).await;
        assert!(quiet.is_err(), "our own save was news");
        for change in [
            &["HSET", "oauth:tiktok:b", "access_token", "act.invented-theirs"][..],
            &["DEL", "oauth:tiktok:c"],
            &["HSET", "oauth:tiktok:d", "access_token", "act.invented-theirs"],
        ] {
            server.run(change);
            tokio::time::timeout(PATIENCE, store.changed()).await.expect("it is noticed");
        }
        let quiet = tokio::time::timeout(Duration::from_millis(500), store.changed()).await;
        assert!(quiet.is_err(), "told twice");
    }
}

#[tokio::test]
async fn what_was_written_while_the_notifications_were_lost_is_noticed() {
    let (_directory, server) = server(&[]);
    let store = open(&settings(server.socket())).await;
    store.add(&account("brand", "1")).await.unwrap();
    load(&store).await;
    // What was told of our own write is looked at before.
    let quiet = tokio::time::timeout(Duration::from_secs(1), store.changed()).await;
    assert!(quiet.is_err(), "our own account was news");
    // The subscription is gone when the write comes, and nobody is told.
    server.run(&["CLIENT", "KILL", "TYPE", "pubsub"]);
    server.run(&["HSET", "oauth:tiktok:brand", "access_token", "act.invented-theirs"]);
    tokio::time::timeout(PATIENCE, store.changed()).await.expect("it is noticed");
}

#[tokio::test]
async fn hostile_names_do_not_mix_accounts() {
    let (_directory, server) = server(&[]);
    let store = open(&settings(server.socket())).await;
    let providers = ["tiktok", "tik:tok", "tik%3Atok", "*", "[a-z]", "t?"];
    let names = [
        "a",
        "tok:a",
        ":",
        "{a}",
        "a*",
        "a?",
        "[a]",
        "a\\",
        "a\nb",
        "🎬",
        "a b",
        "%3A",
        "a\r\nDEL x",
    ];
    let every = || {
        providers
            .iter()
            .flat_map(|provider| names.iter().map(|name| AccountId::new(*provider, *name)))
    };
    for (nth, id) in every().enumerate() {
        let added = store.add(&account_of(id.clone(), &nth.to_string())).await.unwrap();
        assert_eq!(added, Saved::Written, "{id:?}");
    }
    let (found, damaged) = load(&store).await;
    assert!(damaged.is_empty(), "{damaged:?}");
    let ids: BTreeSet<_> = found.iter().map(|account| account.id.clone()).collect();
    assert_eq!(ids, every().collect());
    for (nth, id) in every().enumerate() {
        assert_eq!(access(&store, &id).await, format!("act.invented-{nth}"), "{id:?}");
    }
    let one = AccountId::new("*", "a*");
    let nth = every().position(|id| id == one).unwrap();
    let expected = fingerprinter().of_token(&new(&nth.to_string()));
    assert_eq!(store.save(&one, &new("saved"), expected).await.unwrap(), Saved::Written);
    let changed =
        load(&store).await.0.into_iter().filter(|account| {
            account.token.as_ref().unwrap().access == secret("act.invented-saved")
        });
    assert_eq!(changed.map(|account| account.id).collect::<Vec<_>>(), [one]);
}

#[tokio::test]
async fn thousands_of_accounts_are_each_handed_out_once_and_wrong_keys_are_named() {
    let (_directory, server) = server(&[]);
    let mut fill = redis::pipe();
    for nth in 0..5_000 {
        let key = format!("oauth:tiktok:brand-{nth}");
        fill.cmd("HSET")
            .arg(key)
            .arg("access_token")
            .arg("act.invented")
            .arg("expires_at")
            .arg(nth);
        fill.cmd("SET").arg(format!("other:{nth}")).arg("invented");
    }
    fill.exec(&mut server.connection()).unwrap();
    server.run(&["SET", "oauth:tiktok:text", "invented"]);
    server.run(&["RPUSH", "oauth:tiktok:list", "invented"]);
    server.run(&["HSET", "oauth::nameless", "access_token", "invented"]);
    server.run(&["HSET", "oauth:tiktok:unmapped", "posts", "3"]);
    let store = open(&settings(server.socket())).await;
    let (found, damaged) = load(&store).await;
    assert_eq!(found.len(), 5_001);
    assert_eq!(found.iter().filter(|account| account.token.is_none()).count(), 1);
    assert_eq!(damaged.len(), 3, "{damaged:?}");
    for error in damaged {
        assert!(matches!(error, Error::Damaged { .. } | Error::Row { .. }), "{error}");
        assert!(error.to_string().contains("key \"oauth:"), "{error}");
        shows_no_value(&error);
    }
    let text = store.get(&id("text")).await.unwrap_err();
    assert!(text.to_string().contains("is no hash"), "{text}");
    let saved = store.save(&id("text"), &new("1"), fingerprinter().of_token(&new("0"))).await;
    assert!(matches!(saved, Err(Error::Damaged { .. } | Error::Row { .. })), "{saved:?}");
}

#[tokio::test]
async fn fields_that_are_not_mapped_and_the_life_of_a_key_survive_a_save() {
    let (_directory, server) = server(&[]);
    let store = open(&settings(server.socket())).await;
    let ends = Token { expires_at: Some(Timestamp::from_unix(1_795_348_800)), ..new("1") };
    let account = StoredAccount { token: Some(ends), ..account("brand", "1") };
    store.add(&account).await.unwrap();
    let binary: &[u8] = b"\x00\xff invented";
    let key = "oauth:tiktok:brand";
    redis::cmd("HSET").arg(key).arg("blob").arg(binary).exec(&mut server.connection()).unwrap();
    server.run(&["EXPIRE", key, "10000"]);
    let expected = fingerprinter().of_token(&new("1"));
    assert_eq!(store.save(&id("brand"), &new("2"), expected).await.unwrap(), Saved::Written);
    let blob: Vec<u8> =
        redis::cmd("HGET").arg(key).arg("blob").query(&mut server.connection()).unwrap();
    assert_eq!(blob, binary);
    let left: i64 = redis::cmd("TTL").arg(key).query(&mut server.connection()).unwrap();
    assert!(left > 9_000, "{left}");
    assert_eq!(server.field(key, "expires_at"), None, "an end that nobody declared is no field");
}
