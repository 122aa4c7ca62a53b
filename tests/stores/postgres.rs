//! PostgreSQL: three tables as publishers have them, and what only this server can do wrong.

use crate::{
    contract::{PATIENCE, shows_no_value},
    kinds::{
        Holds, Kind, camel_columns, fingerprinter, id, load, millis_columns, take_away, token,
    },
    servers::{Server, Session, Speaks, Table, server_kind},
};
use oauth_keepalive::{
    secrets::SecretRef,
    stores::{
        AnyStore, Error, Saved, Settings, TokenStore,
        columns::{Columns, ProviderColumn, StatusColumn, TimeColumn, TimeUnit},
        server::Host,
    },
};
use std::{path::PathBuf, time::Duration};
use tokio::time::Instant;

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
    PostgresSimple,
    ALL,
    "1795341600000",
    Table::simple(
        Speaks::Postgres,
        None,
        true,
        &format!("ALTER TABLE accounts ADD campaign text DEFAULT 'winter';\n{NOTIFY}")
    )
);

server_kind!(
    PostgresCamel,
    Holds { refresh_expires_at: false, scopes: false, app_and_owner: false, enabled: false, ..ALL },
    "0044-03-15 00:00:00 BC",
    async { camel() }
);

server_kind!(
    PostgresZoned,
    Holds {
        issued_at: false,
        subject: false,
        app_and_owner: false,
        enabled: false,
        status: false,
        ..ALL
    },
    "0044-03-15 00:00:00 BC",
    async { zoned() }
);

/// Shaped like the table of a well-known publisher: quoted names, `timestamp(3)` without a zone.
pub(crate) fn camel() -> Table {
    camel_on(Server::of(Speaks::Postgres))
}

pub(crate) fn camel_on(server: &'static Server) -> Table {
    let status = StatusColumn {
        name: "refreshNeeded".into(),
        connected: "false".into(),
        needs_reconnect: "true".into(),
    };
    let columns = Columns { status: Some(status), ..camel_columns() };
    Table::on(server, "Integration", columns, Some("updatedAt"), CAMEL)
}

/// Dates with a zone, a provider that is an enum, scopes that are a list.
fn zoned() -> Table {
    zoned_as("accounts")
}

pub(crate) fn zoned_as(name: &'static str) -> Table {
    let date = |name: &str| Some(TimeColumn { name: name.into(), unit: TimeUnit::UnixSeconds });
    let columns = Columns {
        account: "external_id".into(),
        provider: ProviderColumn::Column("provider".into()),
        access_token: "access_token".into(),
        refresh_token: Some("refresh_token".into()),
        expires_at: date("access_token_expires_at"),
        refresh_expires_at: date("refresh_token_expires_at"),
        scopes: Some("scopes".into()),
        enabled: None,
        ..millis_columns()
    };
    let sql = format!("{ZONED}{NOTIFY}").replace("accounts", name);
    let mut table = Table::with(Speaks::Postgres, name, columns, None, &sql);
    table.notify = true;
    table
}

const CAMEL: &str = r#"
CREATE TABLE "Integration" (
    "id" text PRIMARY KEY DEFAULT gen_random_uuid()::text,
    "internalId" text NOT NULL,
    "providerIdentifier" text NOT NULL,
    "campaign" text,
    "token" text NOT NULL,
    "refreshToken" text,
    "tokenExpiration" timestamp(3),
    "connectedAt" timestamp(3),
    "openId" text,
    "refreshNeeded" boolean NOT NULL DEFAULT false,
    "updatedAt" timestamp(6) NOT NULL DEFAULT clock_timestamp(),
    UNIQUE ("providerIdentifier", "internalId")
);
CREATE FUNCTION touch() RETURNS trigger LANGUAGE plpgsql AS
    $$ BEGIN NEW."updatedAt" = clock_timestamp(); RETURN NEW; END $$;
CREATE TRIGGER touch BEFORE UPDATE ON "Integration" FOR EACH ROW EXECUTE FUNCTION touch();
INSERT INTO "Integration" ("internalId", "providerIdentifier", "campaign", "token", "refreshToken",
    "tokenExpiration", "connectedAt", "openId") VALUES
    ('brand-a', 'tiktok', 'winter', 'act.invented-a1', 'rft.invented-a1', '2026-11-22 12:00:00',
        '2026-11-22 10:00:00', 'open-a'),
    ({odd}, 'tiktok', 'spring', 'act.invented-b1', 'rft.invented-b1', '2026-11-22 12:00:00', NULL, NULL),
    ('off', 'tiktok', NULL, 'act.invented-c1', 'null', '2058-07-30 00:00:00', NULL, NULL)"#;

const ZONED: &str = "
CREATE TYPE network AS ENUM ('tiktok', 'instagram');
CREATE TABLE accounts (
    id uuid PRIMARY KEY DEFAULT gen_random_uuid(),
    provider network NOT NULL,
    external_id varchar(200) NOT NULL,
    campaign text,
    access_token text,
    refresh_token text,
    access_token_expires_at timestamptz,
    refresh_token_expires_at timestamptz,
    scopes text[],
    UNIQUE (provider, external_id)
);
INSERT INTO accounts (provider, external_id, campaign, access_token, refresh_token,
    access_token_expires_at, refresh_token_expires_at, scopes) VALUES
    ('tiktok', 'brand-a', 'winter', 'act.invented-a1', 'rft.invented-a1', '2026-11-22 07:00:00-05',
        '2027-05-21 10:00:00+00', '{user.info.basic,video.publish}'),
    ('tiktok', {odd}, 'spring', 'act.invented-b1', 'rft.invented-b1', '2026-11-22 12:00:00+00', NULL, NULL),
    ('tiktok', 'off', NULL, 'act.invented-c1', '', 'infinity', NULL, NULL);\n";

/// As docs/stores.md has it.
const NOTIFY: &str = "
CREATE FUNCTION accounts_changed() RETURNS trigger LANGUAGE plpgsql AS
    $$ BEGIN PERFORM pg_notify(TG_ARGV[0], ''); RETURN NULL; END $$;
CREATE TRIGGER accounts_changed AFTER INSERT OR UPDATE OR DELETE ON accounts
    FOR EACH STATEMENT EXECUTE FUNCTION accounts_changed('{schema}')";

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_notification_is_noticed_within_a_second() {
    let kind = PostgresSimple::make().await;
    let store = kind.open().await;
    let mut fastest = Duration::MAX;
    for round in 0..5 {
        let started = Instant::now();
        kind.write_token("brand-a", &format!("act.invented-theirs{round}"), "rft.invented-theirs");
        tokio::time::timeout(PATIENCE, store.changed()).await.expect("it was told");
        fastest = fastest.min(started.elapsed());
    }
    assert!(fastest < Duration::from_secs(1), "{fastest:?}");
}

/// What happened while nobody listened was told to nobody. A server of its own, because it is killed.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn after_a_time_without_a_listener_the_table_is_looked_at() {
    let server: &'static Server = Box::leak(Box::new(Server::start(Speaks::Postgres)));
    let mut table = camel_on(server);
    table.publisher.run(
        &NOTIFY
            .replace("DELETE ON accounts", "DELETE ON \"Integration\"")
            .replace("{schema}", &table.schema),
    );
    // Nothing but the channel tells of anything.
    (table.notify, table.change_column) = (true, None);
    let store = table.open().await;
    let brings_back = take_away(&table.folder());
    server.kill();
    server.start_again();
    let publisher = Session::new(server);
    publisher
        .run(&format!("UPDATE {}.\"Integration\" SET token = 'act.invented-theirs'", table.schema));
    let early = tokio::time::timeout(Duration::from_millis(300), store.changed()).await;
    assert!(early.is_err(), "the server cannot be reached");
    brings_back();
    tokio::time::timeout(PATIENCE, store.changed()).await.expect("it listens again");
    let found = store.get(&id("brand-a")).await.unwrap().unwrap().token.unwrap();
    assert_eq!(found.access.expose(), "act.invented-theirs");
    // And it does: the next change is told again.
    publisher
        .run(&format!("UPDATE {}.\"Integration\" SET token = 'act.invented-later'", table.schema));
    tokio::time::timeout(PATIENCE, store.changed()).await.expect("it was told");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn only_a_certificate_of_the_named_authority_is_trusted() {
    let table = camel();
    crate::trouble::checks_certificates(&table).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_wrong_password_is_an_error_that_shows_none() {
    let table = camel();
    let mut settings = table.server_settings();
    settings.host = Host::Tcp("127.0.0.1".into(), table.server.port);
    settings.password = Some(SecretRef::Env("PATH".into()));
    let error = AnyStore::open(&table.of_kind(settings), fingerprinter()).await.unwrap_err();
    assert!(matches!(error, Error::Unavailable { .. }), "{error:?}");
    assert!(error.to_string().contains("refuses our user or password"), "{error}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_user_who_may_not_write_is_told_which_privilege_is_missing() {
    let table = camel();
    table.publisher.run("REVOKE UPDATE ON \"Integration\" FROM keeper");
    let store = table.open().await;
    let error = store.probe().await.unwrap_err();
    assert!(error.to_string().contains("lacks a privilege"), "{error}");
    // The least that is needed: the columns of the token, and no other.
    table.publisher.run(
        "GRANT UPDATE (token, \"refreshToken\", \"tokenExpiration\", \"connectedAt\", \"refreshNeeded\") \
         ON \"Integration\" TO keeper",
    );
    store.probe().await.unwrap();
    let expected = fingerprinter().of_token(&token("act.invented-a1", Some("rft.invented-a1")));
    let saved = store.save(&id("brand-a"), &token("act.invented-2", None), expected).await.unwrap();
    assert_eq!(saved, Saved::Written);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_missing_is_named_together_with_what_is_there() {
    let table = camel();
    let name = Columns { access_token: "token\" --".into(), ..table.columns.clone() };
    let column = Columns { refresh_token: Some("refresh".into()), ..table.columns.clone() };
    for (name, columns, words) in [
        ("integration", table.columns.clone(), "Integration"),
        ("Integration", column, "no column `refresh`; its columns are: id, internalId, "),
        ("Integration", name, "letters, digits and underscores"),
    ] {
        let mut settings = table.server_settings();
        (settings.table, settings.columns) = (name.into(), columns);
        let opened = AnyStore::open(&table.of_kind(settings), fingerprinter()).await;
        let error = opened.expect_err(words);
        assert!(matches!(error, Error::Damaged { .. }), "{error:?}");
        assert!(error.to_string().contains(words), "{error}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_unknown_end_in_a_column_that_refuses_null_is_the_last_date() {
    let table = camel();
    table.publisher.run("DELETE FROM \"Integration\" WHERE \"tokenExpiration\" IS NULL");
    table.publisher.run("ALTER TABLE \"Integration\" ALTER \"tokenExpiration\" SET NOT NULL");
    let store = table.open().await;
    let expected = fingerprinter().of_token(&token("act.invented-a1", Some("rft.invented-a1")));
    store.save(&id("brand-a"), &token("act.invented-2", None), expected).await.unwrap();
    assert_eq!(table.value("brand-a", "tokenExpiration").unwrap(), "9999-12-31 23:59:59");
    let found = store.get(&id("brand-a")).await.unwrap().unwrap().token.unwrap();
    assert_eq!(found.expires_at, None);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_trigger_that_changes_the_token_does_not_go_unnoticed() {
    let table = camel();
    table.publisher.run(
        "CREATE OR REPLACE FUNCTION touch() RETURNS trigger LANGUAGE plpgsql AS \
         $$ BEGIN NEW.token = 'act.invented-other'; RETURN NEW; END $$",
    );
    let store = table.open().await;
    let expected = fingerprinter().of_token(&token("act.invented-a1", Some("rft.invented-a1")));
    let saved = store.save(&id("brand-a"), &token("act.invented-2", None), expected).await;
    let error = saved.expect_err("another token was read back");
    assert!(matches!(error, Error::Damaged { .. }), "{error:?}");
    shows_no_value(&error);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_replica_is_unavailable_before_a_token_is_spent() {
    let table = camel();
    let user = format!("reader_{}", table.schema);
    table.publisher.run(&format!(
        "CREATE ROLE {user} LOGIN IN ROLE keeper; \
         ALTER ROLE {user} SET default_transaction_read_only = on"
    ));
    let mut settings = table.server_settings();
    settings.user = user;
    let store = AnyStore::open(&table.of_kind(settings), fingerprinter()).await.unwrap();
    let error = store.probe().await.unwrap_err();
    assert!(matches!(error, Error::Unavailable { .. }), "{error:?}");
    assert!(error.to_string().contains("takes no writes"), "{error}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn many_rows_are_all_handed_out_and_of_two_for_one_account_one_is_not() {
    let table = camel();
    table.publisher.run(
        "ALTER TABLE \"Integration\" DROP CONSTRAINT \"Integration_providerIdentifier_internalId_key\"; \
         INSERT INTO \"Integration\" (\"internalId\", \"providerIdentifier\", token) \
         SELECT 'n' || n, 'tiktok', 'act.invented' FROM generate_series(1, 5000) AS n; \
         INSERT INTO \"Integration\" (\"internalId\", \"providerIdentifier\", token) \
         VALUES ('n7', 'tiktok', 'act.invented')",
    );
    let store = table.open().await;
    let (found, damaged) = load(&store).await;
    assert_eq!((found.len(), damaged.len()), (5_003, 1), "{damaged:?}");
    assert!(store.get(&id("n7")).await.is_err());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_number_that_is_no_date_and_a_unit_that_does_not_fit_are_told() {
    let table = camel();
    table.publisher.run("ALTER TABLE \"Integration\" ADD \"endsAt\" bigint");
    let mut settings = table.server_settings();
    settings.columns.expires_at = Some(TimeColumn { name: "endsAt".into(), unit: TimeUnit::Text });
    let opened = AnyStore::open(&table.of_kind(settings), fingerprinter()).await;
    let error = opened.expect_err("the unit is wrong").to_string();
    assert!(error.contains("column `endsAt` holds numbers"), "{error}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_sudden_end_of_the_server_costs_no_more_than_the_time_it_is_away() {
    crate::trouble::killed_and_started(Speaks::Postgres, camel_on).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_locked_row_is_waited_for_no_longer_than_allowed() {
    crate::trouble::locked_row(&camel()).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_commit_without_an_answer_is_found_out_about() {
    crate::trouble::lost_commit(&camel()).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_hundred_readers_share_three_connections() {
    let mut table = camel();
    let user = table.schema.clone();
    table.publisher.run(&format!("CREATE ROLE {user} LOGIN IN ROLE keeper"));
    let count = format!("SELECT count(*) FROM pg_stat_activity WHERE usename = '{user}'");
    table.user = user;
    crate::trouble::hundred_readers(&table, &count).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_change_is_noticed_without_a_column_for_it() {
    crate::trouble::noticed_by_the_sum(&camel()).await;
}
