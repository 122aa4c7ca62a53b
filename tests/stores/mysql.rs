//! MariaDB: two tables as publishers have them, and what only this server can do wrong.

use crate::{
    contract::shows_no_value,
    kinds::{Holds, Kind, fingerprinter, id, load, millis_columns, token},
    servers::{Server, Speaks, Table, server_kind},
};
use oauth_keepalive::stores::{
    AnyStore, Error, Saved, Settings, TokenStore,
    columns::{Columns, ProviderColumn, StatusColumn, TimeColumn, TimeUnit},
};
use std::path::PathBuf;

const ALL: Holds = Holds {
    issued_at: true,
    refresh_expires_at: true,
    scopes: true,
    subject: true,
    app_and_owner: true,
    enabled: true,
    status: true,
};

server_kind!(
    MysqlSimple,
    ALL,
    "1795341600000",
    Table::simple(
        Speaks::Mysql,
        Some("updated_at"),
        false,
        "ALTER TABLE accounts ADD campaign text, ADD updated_at datetime(6) NOT NULL \
         DEFAULT CURRENT_TIMESTAMP(6) ON UPDATE CURRENT_TIMESTAMP(6);\n\
         UPDATE accounts SET campaign = 'winter'"
    )
);

server_kind!(
    MysqlMixed,
    Holds { subject: false, app_and_owner: false, ..ALL },
    "2026-00-10 00:00:00",
    async { mixed() }
);

fn mixed() -> Table {
    mixed_on(Server::of(Speaks::Mysql))
}

/// `datetime`, `timestamp`, `bigint` milliseconds, `longtext`, a JSON list, and a key without case.
fn mixed_on(server: &'static Server) -> Table {
    let time = |name: &str, unit| Some(TimeColumn { name: name.into(), unit });
    let columns = Columns {
        account: "provider_id".into(),
        provider: ProviderColumn::Column("provider".into()),
        access_token: "access_token".into(),
        refresh_token: Some("refresh_token".into()),
        expires_at: time("token_expires_at", TimeUnit::UnixSeconds),
        refresh_expires_at: time("refresh_ends", TimeUnit::UnixMillis),
        issued_at: time("issued", TimeUnit::UnixSeconds),
        scopes: Some("scopes".into()),
        enabled: Some("is_active".into()),
        status: Some(StatusColumn {
            name: "authorized".into(),
            connected: "1".into(),
            needs_reconnect: "0".into(),
        }),
        ..millis_columns()
    };
    Table::on(server, "social_accounts", columns, Some("updated_at"), MIXED)
}

const MIXED: &str = "
CREATE TABLE social_accounts (
    id bigint unsigned AUTO_INCREMENT PRIMARY KEY,
    provider varchar(32) NOT NULL,
    provider_id varchar(191) NOT NULL,
    campaign text,
    access_token longtext,
    refresh_token longtext,
    token_expires_at datetime,
    refresh_ends bigint,
    issued timestamp NULL,
    scopes json,
    is_active bit(1) NOT NULL DEFAULT 1,
    authorized tinyint(1) NOT NULL DEFAULT 1,
    updated_at datetime(6) NOT NULL DEFAULT CURRENT_TIMESTAMP(6) ON UPDATE CURRENT_TIMESTAMP(6),
    UNIQUE (provider, provider_id)
) CHARACTER SET utf8mb4 COLLATE utf8mb4_general_ci;
INSERT INTO social_accounts (provider, provider_id, campaign, access_token, refresh_token,
    token_expires_at, refresh_ends, issued, scopes, is_active) VALUES
    ('tiktok', 'brand-a', 'winter', 'act.invented-a1', 'rft.invented-a1', '2026-11-22 12:00:00',
        1810893600000, '2026-11-22 10:00:00', '[\"user.info.basic\", \"video.publish\"]', 1),
    ('tiktok', {odd}, 'spring', 'act.invented-b1', 'rft.invented-b1', '2026-11-22 12:00:00', NULL, NULL, NULL, 1),
    ('tiktok', 'off', NULL, 'act.invented-c1', '', '0000-00-00 00:00:00', 0, NULL, NULL, 0)";

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn only_a_certificate_of_the_named_authority_is_trusted() {
    crate::trouble::checks_certificates(&mixed()).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_sudden_end_of_the_server_costs_no_more_than_the_time_it_is_away() {
    crate::trouble::killed_and_started(Speaks::Mysql, mixed_on).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_locked_row_is_waited_for_no_longer_than_allowed() {
    crate::trouble::locked_row(&mixed()).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_commit_without_an_answer_is_found_out_about() {
    crate::trouble::lost_commit(&mixed()).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_hundred_readers_share_three_connections() {
    let mut table = mixed();
    let user = table.schema.clone();
    table
        .publisher
        .run(&format!("CREATE USER {user}@'%' IDENTIFIED BY '{}'", table.server.password()));
    table.publisher.run(&format!("GRANT ALL ON {user}.* TO {user}@'%'"));
    let count = format!(
        "SELECT CAST(count(*) AS CHAR) FROM information_schema.processlist WHERE user = '{user}'"
    );
    table.user = user;
    crate::trouble::hundred_readers(&table, &count).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_change_is_noticed_without_a_column_for_it() {
    crate::trouble::noticed_by_the_sum(&mixed()).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_token_that_is_too_long_for_its_column_is_refused_and_not_cut() {
    let table = mixed();
    table.publisher.run("ALTER TABLE social_accounts MODIFY access_token varchar(20)");
    let store = table.open().await;
    let before = table.content();
    let expected = fingerprinter().of_token(&token("act.invented-a1", Some("rft.invented-a1")));
    let long = token(&format!("act.invented-{}", "x".repeat(50)), None);
    let error = store.save(&id("brand-a"), &long, expected).await.expect_err("it does not fit");
    assert!(error.to_string().contains("too short"), "{error}");
    shows_no_value(&error);
    assert_eq!(table.content(), before);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_user_with_nothing_but_the_documented_grants_can_save() {
    let table = mixed();
    let user = table.schema.clone();
    table
        .publisher
        .run(&format!("CREATE USER {user}@'%' IDENTIFIED BY '{}'", table.server.password()));
    table.publisher.run(&format!("GRANT SELECT ON {user}.social_accounts TO {user}@'%'"));
    let mut settings = table.server_settings();
    settings.user = user.clone();
    let store = AnyStore::open(&table.of_kind(settings), fingerprinter()).await.unwrap();
    let error = store.probe().await.unwrap_err();
    assert!(error.to_string().contains("lacks a privilege"), "{error}");
    table.publisher.run(&format!(
        "GRANT UPDATE (access_token, refresh_token, token_expires_at, refresh_ends, issued, scopes, \
         authorized) ON {user}.social_accounts TO {user}@'%'"
    ));
    let mut settings = table.server_settings();
    settings.user = user;
    let store = AnyStore::open(&table.of_kind(settings), fingerprinter()).await.unwrap();
    store.probe().await.unwrap();
    let expected = fingerprinter().of_token(&token("act.invented-a1", Some("rft.invented-a1")));
    let saved = store.save(&id("brand-a"), &token("act.invented-2", None), expected).await.unwrap();
    assert_eq!(saved, Saved::Written);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn many_rows_are_all_handed_out_and_a_missing_column_is_named() {
    let table = mixed();
    table.publisher.run(
        "INSERT INTO social_accounts (provider, provider_id, access_token) \
         SELECT 'tiktok', CONCAT('n', seq), 'act.invented' FROM seq_1_to_5000",
    );
    let (found, damaged) = load(&table.open().await).await;
    assert_eq!((found.len(), damaged.len()), (5_003, 0), "{damaged:?}");
    let mut settings = table.server_settings();
    settings.columns.subject = Some("open_id".into());
    let opened = AnyStore::open(&table.of_kind(settings), fingerprinter()).await;
    let error = opened.expect_err("no such column");
    assert!(matches!(error, Error::Damaged { .. }), "{error:?}");
    assert!(error.to_string().contains("no column `open_id`; its columns are: id, "), "{error}");
}
