//! What a network and a busy server do to a store, the same for every kind of server.

use crate::{
    contract::{PATIENCE, shows_no_value},
    kinds::{fingerprinter, id, token},
    servers::{Cut, Server, Speaks, Table},
};
use oauth_keepalive::{
    oauth::Token,
    stores::{
        AnyStore, Error, Saved, Settings, TokenStore, place_of,
        server::{Host, Tls},
    },
};
use std::{sync::Arc, time::Duration};
use tokio::time::Instant;

/// The token of `brand-a` in every table of these tests.
fn old() -> Token {
    token("act.invented-a1", Some("rft.invented-a1"))
}

fn new() -> Token {
    token("act.invented-2", Some("rft.invented-2"))
}

pub(crate) async fn checks_certificates(table: &Table) {
    let with = |host: &str, tls: Tls, ca: Option<&str>| {
        let mut settings = table.server_settings();
        settings.host = Host::Tcp(host.into(), table.server.port);
        settings.tls = tls;
        settings.ca_file = ca.map(|ca| table.server.folder.join(ca));
        table.of_kind(settings)
    };
    let settings = with("localhost", Tls::Require, Some("ca.pem"));
    let store = AnyStore::open(&settings, fingerprinter()).await.unwrap();
    assert!(store.get(&id("brand-a")).await.unwrap().is_some());
    for (host, ca) in [
        // The certificate names localhost only.
        ("127.0.0.1", Some("ca.pem")),
        ("localhost", Some("other-ca.pem")),
        ("localhost", None),
        ("localhost", Some("server.key")),
        ("localhost", Some("absent.pem")),
    ] {
        let settings = with(host, Tls::Require, ca);
        let error = AnyStore::open(&settings, fingerprinter()).await.expect_err("not trusted");
        assert!(matches!(error, Error::Unavailable { .. }), "{error:?}");
        shows_no_value(&error);
    }
    for settings in [with("127.0.0.1", Tls::Off, None), table.settings()] {
        AnyStore::open(&settings, fingerprinter()).await.unwrap();
        let shown = format!("{settings:?} {}", place_of(&settings));
        assert!(!shown.contains(&table.server.password()), "{shown}");
    }
}

/// A server of its own, because it is killed.
pub(crate) async fn killed_and_started(
    speaks: Speaks,
    make: impl FnOnce(&'static Server) -> Table,
) {
    let server: &'static Server = Box::leak(Box::new(Server::start(speaks)));
    let table = make(server);
    let store = Arc::new(table.open().await);
    assert!(store.get(&id("brand-a")).await.unwrap().is_some());
    server.kill();
    for error in [
        store.get(&id("brand-a")).await.map(drop),
        store.probe().await,
        store.load(|_| {}, |_| {}).await,
        store.save(&id("brand-a"), &new(), fingerprinter().of_token(&old())).await.map(drop),
    ] {
        let error = error.expect_err("the server is dead");
        assert!(matches!(error, Error::Unavailable { .. }), "{error:?}");
        shows_no_value(&error);
    }
    server.start_again();
    store.probe().await.unwrap();
    let expected = fingerprinter().of_token(&old());
    let saved = store.save(&id("brand-a"), &new(), expected).await.unwrap();
    assert_eq!(saved, Saved::Written);
    // And once more, this time while saves are on their way: each is either written or not, never half.
    let mut held = fingerprinter().of_token(&new());
    let mut last = new();
    let mut saves = 0;
    let killing = std::thread::spawn(move || {
        std::thread::sleep(Duration::from_millis(300));
        server.kill();
        server.start_again();
    });
    let until = Instant::now() + PATIENCE;
    while !(killing.is_finished() && saves > 5) {
        assert!(Instant::now() < until, "the server came back");
        let next =
            token(&format!("act.invented-n{saves}"), Some(&format!("rft.invented-n{saves}")));
        match store.save(&id("brand-a"), &next, held).await {
            Ok(Saved::Written | Saved::AlreadyThere) => {
                held = fingerprinter().of_token(&next);
                last = next;
                saves += 1;
            }
            Ok(other) => panic!("{other:?}"),
            Err(error) => assert!(matches!(error, Error::Unavailable { .. }), "{error:?}"),
        }
    }
    killing.join().unwrap();
    let found = store.get(&id("brand-a")).await.unwrap().unwrap().token.unwrap();
    assert_eq!((found.access, found.refresh), (last.access, last.refresh));
}

pub(crate) async fn locked_row(table: &Table) {
    let store = table.open().await;
    let expected = fingerprinter().of_token(&old());
    let before = table.content();
    let lock = table.block_row("brand-a");
    let started = Instant::now();
    let error = store.save(&id("brand-a"), &new(), expected).await.expect_err("it is locked");
    assert!(matches!(error, Error::Unavailable { .. }), "{error:?}");
    assert!(started.elapsed() < PATIENCE, "{:?}", started.elapsed());
    shows_no_value(&error);
    // One locked row does not keep the others from being refreshed.
    store.probe().await.unwrap();
    assert!(store.get(&id("brand-a")).await.unwrap().is_some(), "reading waits for nobody");
    drop(lock);
    assert_eq!(table.content(), before);
    // A save that nobody waits for any more ends all the same.
    let lock = table.block_row("brand-a");
    let brand = id("brand-a");
    let token = new();
    let save = store.save(&brand, &token, expected);
    assert!(tokio::time::timeout(Duration::from_millis(100), save).await.is_err());
    drop(lock);
    let until = Instant::now() + PATIENCE;
    loop {
        let found = store.get(&brand).await.unwrap().unwrap().token.unwrap();
        if found.access == token.access {
            break;
        }
        assert!(Instant::now() < until, "a save that was begun is finished");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

/// The connection breaks in the very moment of the commit: only the server knows what became of it.
pub(crate) async fn lost_commit(table: &Table) {
    let store = table.open().await;
    let (before, expected) = (table.content(), fingerprinter().of_token(&old()));
    *table.cut.lock().unwrap() = Some(Cut::BeforeCommit);
    let error = store.save(&id("brand-a"), &new(), expected).await.expect_err("it was not written");
    assert!(matches!(error, Error::Unavailable { .. }), "{error:?}");
    shows_no_value(&error);
    assert_eq!(table.content(), before);
    *table.cut.lock().unwrap() = Some(Cut::AfterCommit);
    let saved = store.save(&id("brand-a"), &new(), expected).await.unwrap();
    assert_eq!(saved, Saved::Written, "it was, and nobody said so");
    assert_eq!(*table.cut.lock().unwrap(), None, "both connections were cut");
    let found = store.get(&id("brand-a")).await.unwrap().unwrap().token.unwrap();
    assert_eq!(found.access, new().access);
}

pub(crate) async fn hundred_readers(table: &Table, connections: &str) {
    let store = Arc::new(table.open().await);
    let readers: Vec<_> = (0..100)
        .map(|_| {
            let store = Arc::clone(&store);
            tokio::spawn(async move { store.get(&id("brand-a")).await })
        })
        .collect();
    let mut most = 0;
    for reader in readers {
        let rows = table.publisher.rows(connections);
        most = most.max(rows[0][0].as_ref().unwrap().parse::<u32>().unwrap());
        assert!(reader.await.unwrap().unwrap().is_some());
    }
    assert!((1..=3).contains(&most), "{most} connections");
}

/// Without a column that moves, or a channel, the server sums up its rows for us.
pub(crate) async fn noticed_by_the_sum(table: &Table) {
    let settings = match table.settings() {
        Settings::Postgres(settings) | Settings::Mysql(settings) => settings,
        other => panic!("{other:?}"),
    };
    let settings = oauth_keepalive::stores::server::Settings { change_column: None, ..settings };
    let store = AnyStore::open(&table.of_kind(settings), fingerprinter()).await.unwrap();
    let expected = fingerprinter().of_token(&old());
    assert_eq!(store.save(&id("brand-a"), &new(), expected).await.unwrap(), Saved::Written);
    let second = Duration::from_secs(1);
    assert!(tokio::time::timeout(second, store.changed()).await.is_err(), "our own is no news");
    table.set("brand-a", &table.columns.access_token, "act.invented-theirs");
    tokio::time::timeout(PATIENCE, store.changed()).await.expect("a token was written");
    table.remove("off");
    tokio::time::timeout(PATIENCE, store.changed()).await.expect("a row was deleted");
    assert!(tokio::time::timeout(second, store.changed()).await.is_err(), "that was all");
}
