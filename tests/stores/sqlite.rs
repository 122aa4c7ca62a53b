//! What only a SQLite database can do wrong.

use crate::{
    contract::shows_no_value,
    kinds::{Database, camel_columns, fingerprinter, id, load, millis_columns, token},
};
use oauth_keepalive::{
    core::Timestamp,
    oauth::Token,
    stores::{
        AnyStore, Error, Saved, StoredAccount, TokenStore,
        sqlite::{Columns, TimeColumn, TimeUnit},
    },
};
use std::fs;

const MILLIS: &str = include_str!("../fixtures/stores/millis.sql");
const CAMEL: &str = include_str!("../fixtures/stores/camel.sql");

#[tokio::test]
async fn what_is_missing_is_named_together_with_what_is_there() {
    let column = Columns { refresh_token: Some("refresh".into()), ..millis_columns() };
    let name = Columns { access_token: "bearer\" --".into(), ..millis_columns() };
    for (table, columns, sql, words) in [
        ("accounts", millis_columns(), MILLIS, "no table `accounts`; there is: social_logins"),
        ("social_logins", column, MILLIS, "no column `refresh`; its columns are: id, handle, "),
        ("social_logins", name, MILLIS, "letters, digits and underscores"),
        ("x; DROP TABLE y", millis_columns(), MILLIS, "letters, digits and underscores"),
        ("accounts", millis_columns(), "", "no table `accounts`; there is: none"),
    ] {
        let database = Database::with(table, columns, sql);
        let opened = AnyStore::open(&database.settings(), fingerprinter()).await;
        let error = opened.expect_err(words);
        assert!(matches!(error, Error::Damaged { .. }), "{error:?}");
        assert!(error.to_string().contains(words), "{error}");
    }
}

#[tokio::test]
async fn a_file_that_is_no_database_or_is_not_there_is_refused() {
    let database = Database::with("social_logins", millis_columns(), MILLIS);
    fs::write(
        database.path(),
        "invented text, and enough of it to be longer than a header ".repeat(9),
    )
    .unwrap();
    let error = AnyStore::open(&database.settings(), fingerprinter()).await.expect_err("text");
    assert!(matches!(error, Error::Damaged { .. }), "{error:?}");
    fs::remove_file(database.path()).unwrap();
    let error = AnyStore::open(&database.settings(), fingerprinter()).await.expect_err("gone");
    assert!(matches!(error, Error::Unavailable { .. }), "{error:?}");
    assert!(!database.path().exists(), "opening makes no file");
}

#[tokio::test]
async fn an_unknown_end_is_written_in_a_column_that_refuses_null() {
    let database = Database::with("social_logins", millis_columns(), MILLIS);
    save(&database, &token("act.invented-2", None)).await;
    assert_eq!(database.value("brand-a", "bearer_until").as_deref(), Some("0"));
    assert_eq!(stored(&database, "brand-a").await.expires_at, None);
}

#[tokio::test]
async fn a_first_date_is_written_as_the_other_rows_have_theirs() {
    let database = Database::with("Integration", camel_columns(), CAMEL);
    database
        .connection()
        .execute_batch("UPDATE Integration SET tokenExpiration = NULL WHERE id = '1'")
        .unwrap();
    let end = Some(Timestamp::from_unix(1_795_352_400));
    save(&database, &Token { expires_at: end, ..token("act.invented-2", None) }).await;
    let written = database.value("brand-a", "tokenExpiration");
    assert_eq!(written.as_deref(), Some("2026-11-22 13:00:00.000"));
}

#[tokio::test]
async fn the_publishers_journal_mode_stays() {
    for mode in ["wal", "delete", "truncate"] {
        let database = Database::with("social_logins", millis_columns(), MILLIS);
        let now = |database: &Database| {
            let connection = database.connection();
            connection.query_row("PRAGMA journal_mode", [], |row| row.get::<_, String>(0)).unwrap()
        };
        database.connection().pragma_update(None, "journal_mode", mode).unwrap();
        let before = now(&database);
        save(&database, &token("act.invented-2", None)).await;
        assert_eq!(now(&database), before, "{mode}");
    }
}

#[tokio::test]
async fn a_trigger_that_changes_the_token_does_not_go_unnoticed() {
    let sql = format!(
        "{MILLIS} CREATE TRIGGER meddle AFTER UPDATE OF bearer ON social_logins BEGIN \
         UPDATE social_logins SET bearer = 'act.invented-other' WHERE id = NEW.id; END;"
    );
    let database = Database::with("social_logins", millis_columns(), &sql);
    let store = database.open().await;
    let expected = fingerprinter().of_token(&stored(&database, "brand-a").await);
    let error = store.save(&id("brand-a"), &token("act.invented-2", None), expected).await;
    let error = error.expect_err("another token was read back");
    assert!(matches!(error, Error::Damaged { .. }), "{error:?}");
    shows_no_value(&error);
}

#[tokio::test]
async fn a_restored_backup_is_written_to_and_not_the_deleted_file() {
    let database = Database::with("social_logins", millis_columns(), MILLIS);
    let store = database.open().await;
    let backup = database.folder().join("backup.db");
    fs::copy(database.path(), &backup).unwrap();
    fs::rename(&backup, database.path()).unwrap();
    let expected = fingerprinter().of_token(&stored(&database, "brand-a").await);
    let saved = store.save(&id("brand-a"), &token("act.invented-2", None), expected).await.unwrap();
    assert_eq!(saved, Saved::Written);
    assert_eq!(database.value("brand-a", "bearer").as_deref(), Some("act.invented-2"));
}

#[tokio::test]
async fn a_column_that_is_dropped_later_is_an_error_and_no_token() {
    let database = Database::with("social_logins", millis_columns(), MILLIS);
    let store = database.open().await;
    database.connection().execute_batch("ALTER TABLE social_logins DROP COLUMN renewal").unwrap();
    let error = store.get(&id("brand-a")).await.expect_err("the column is gone");
    assert!(matches!(error, Error::Damaged { .. }), "{error:?}");
    assert!(store.probe().await.is_err());
    assert!(store.load(|_| {}, |_| {}).await.is_err());
}

#[tokio::test]
async fn an_account_with_two_rows_is_handed_out_once_and_never_written() {
    let sql = "CREATE TABLE t (provider, account TEXT, token TEXT);
        INSERT INTO t VALUES ('tiktok', 'a', 'act.invented-1'), ('tiktok', 'a', 'act.invented-2'),
            ('tiktok', 'b', 'act.invented-3');";
    let columns = Columns {
        account: "account".into(),
        access_token: "token".into(),
        refresh_token: None,
        expires_at: None,
        scopes: None,
        enabled: None,
        provider: Columns::simple().provider,
        ..millis_columns()
    };
    let database = Database::with("t", columns, sql);
    let store = database.open().await;
    let (found, damaged) = load(&store).await;
    assert_eq!((found.len(), damaged.len()), (2, 1), "{damaged:?}");
    assert!(store.get(&id("a")).await.is_err());
    let before = database.content();
    let expected = fingerprinter().of_token(&token("act.invented-1", None));
    assert!(store.save(&id("a"), &token("act.invented-9", None), expected).await.is_err());
    assert_eq!(database.content(), before);
}

#[tokio::test]
async fn more_rows_than_a_page_are_all_handed_out() {
    let sql = format!(
        "{MILLIS} WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 1000)
         INSERT INTO social_logins (handle, bearer) SELECT 'n' || i, 'act.invented' FROM n;
         DELETE FROM social_logins WHERE id % 7 = 0;"
    );
    let database = Database::with("social_logins", millis_columns(), &sql);
    let (found, damaged) = load(&database.open().await).await;
    let rows =
        database.connection().query_row("SELECT count(*) FROM social_logins", [], |row| row.get(0));
    let rows: i64 = rows.unwrap();
    assert_eq!((found.len() as i64, damaged.len()), (rows, 0));
}

#[tokio::test]
async fn a_table_that_needs_more_than_we_know_refuses_a_new_account() {
    let sql = MILLIS
        .replace("campaign TEXT NOT NULL DEFAULT 'none'", "campaign TEXT NOT NULL")
        .replace(
            "INSERT INTO social_logins (handle, bearer, bearer_until, active) VALUES",
            "INSERT INTO social_logins (handle, campaign, bearer, bearer_until, active) VALUES",
        )
        .replace("('off', ", "('off', '', ");
    let database = Database::with("social_logins", millis_columns(), &sql);
    let account = StoredAccount {
        id: id("new"),
        app: None,
        owner: None,
        subject: None,
        token: Some(token("act.invented-2", None)),
        enabled: true,
    };
    let error = database.open().await.add(&account).await.expect_err("a column is missing");
    assert!(error.to_string().contains("without a default"), "{error}");
    shows_no_value(&error);
}

#[tokio::test]
async fn a_value_of_the_wrong_kind_names_table_row_and_column() {
    let seconds = Columns {
        expires_at: Some(TimeColumn { name: "bearer_until".into(), unit: TimeUnit::UnixSeconds }),
        ..millis_columns()
    };
    let text = Columns {
        expires_at: Some(TimeColumn { name: "bearer_until".into(), unit: TimeUnit::Text }),
        ..millis_columns()
    };
    for (columns, words) in [(seconds, "milliseconds?"), (text, "found a number")] {
        let database = Database::with("social_logins", columns, MILLIS);
        let (_, damaged) = load(&database.open().await).await;
        let error = damaged.first().expect("no row fits").to_string();
        let place = "table social_logins, row tiktok/brand-a, column bearer_until: ";
        assert!(error.contains(place) && error.contains(words), "{error}");
    }
}

async fn save(database: &Database, new: &Token) {
    let store = database.open().await;
    let expected = fingerprinter().of_token(&stored(database, "brand-a").await);
    assert_eq!(store.save(&id("brand-a"), new, expected).await.unwrap(), Saved::Written);
}

async fn stored(database: &Database, account: &str) -> Token {
    let store = database.open().await;
    store.get(&id(account)).await.unwrap().and_then(|found| found.token).expect("it has a token")
}
