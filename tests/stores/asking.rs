//! Questions of the user's own: answered row by row, within limits, and nothing is ever written.

use crate::{
    MysqlSimple, PostgresSimple, SqliteSimple,
    kinds::{Kind, YamlFile},
};
use oauth_keepalive::stores::{AnyStore, Error, Question, Settings};

/// The accounts' table as it is called in a question.
fn table(settings: &Settings) -> String {
    match settings {
        Settings::Postgres(settings) => {
            format!("{}.{}", settings.schema.as_ref().unwrap(), settings.table)
        }
        _ => "accounts".to_owned(),
    }
}

fn number(settings: &Settings, parameter: &str) -> String {
    match settings {
        Settings::Postgres(_) => format!("CAST({parameter} AS bigint)"),
        _ => parameter.to_owned(),
    }
}

fn question(kind: &impl Kind) -> Question {
    let settings = kind.settings();
    let (table, position) = (table(&settings), number(&settings, ":position"));
    Question {
        sql: format!(
            "SELECT length(account) AS position, account, 401 AS status, NULL AS body -- a remark\n\
             FROM {table} WHERE length(account) > {position} AND {position} = {position};\n"
        ),
        parameter: "position",
        value: "0".to_owned(),
        columns: vec!["position", "account", "status", "body"],
        order_by: Some("position"),
        rows_max: 100,
    }
}

fn reason(error: Error) -> String {
    let (Error::Unavailable { reason, .. }
    | Error::Damaged { reason, .. }
    | Error::Row { reason, .. }) = error;
    reason
}

async fn rows_come_in_the_order_of_their_positions_and_only_those_behind<K: Kind>() {
    let kind = K::make().await;
    let store = kind.open().await;
    let all = question(&kind);
    let columns = store.columns_of(&all.sql, all.parameter).await.unwrap();
    assert_eq!(columns, ["position", "account", "status", "body"]);
    let rows = store.ask(all.clone()).await.unwrap();
    assert!(rows.len() > 2, "{rows:?}");
    let position = |row: &Vec<Option<String>>| row[0].as_ref().unwrap().parse::<u32>().unwrap();
    assert!(rows.is_sorted_by_key(position), "{rows:?}");
    assert!(rows.iter().all(|row| row[2].as_deref() == Some("401") && row[3].is_none()));
    let first = store.ask(Question { rows_max: 1, ..all.clone() }).await.unwrap();
    assert_eq!(first, rows[..1]);
    let value = rows[0][0].clone().unwrap();
    let rest = store.ask(Question { value, ..all }).await.unwrap();
    assert!(!rest.is_empty() && rest.iter().all(|row| position(row) > position(&rows[0])));
}

async fn nothing_is_written_whatever_the_question_says<K: Kind>() {
    let kind = K::make().await;
    let store = kind.open().await;
    let (before, name) = (kind.content(), table(&kind.settings()));
    for sql in [
        format!("DELETE FROM {name}"),
        format!("SELECT 1 AS account) AS a; DELETE FROM {name}; SELECT * FROM (SELECT 1"),
        format!("WITH gone AS (DELETE FROM {name} RETURNING account) SELECT account FROM gone"),
        format!("UPDATE {name} SET account = :position"),
    ] {
        assert!(store.columns_of(&sql, "position").await.is_err(), "{sql}");
        let columns = vec!["account"];
        let question = Question { sql, columns, order_by: None, ..question(&kind) };
        assert!(store.ask(question.clone()).await.is_err(), "{}", question.sql);
    }
    assert_eq!(kind.content(), before);
}

async fn what_is_wrong_with_a_question_is_said_in_the_servers_words<K: Kind>() {
    let kind = K::make().await;
    let store = kind.open().await;
    let name = table(&kind.settings());
    let sql = format!("SELECT chanel FROM {name} WHERE account > :position");
    let said = reason(store.columns_of(&sql, "position").await.unwrap_err());
    assert!(said.contains("chanel"), "{said}");
    let said = reason(store.columns_of("SELEC :position", "position").await.unwrap_err());
    assert!(said.to_lowercase().contains("syntax"), "{said}");
    // The store goes on working.
    assert!(store.ask(question(&kind)).await.is_ok());
}

macro_rules! over_databases {
    ($($case:ident,)+) => {
        mod sqlite { over_databases!(@ SqliteSimple: $($case,)+); }
        mod postgres { over_databases!(@ PostgresSimple: $($case,)+); }
        mod mysql { over_databases!(@ MysqlSimple: $($case,)+); }
    };
    (@ $kind:ident: $($case:ident,)+) => {
        $(#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
        async fn $case() {
            super::$case::<super::$kind>().await;
        })+
    };
}

over_databases!(
    rows_come_in_the_order_of_their_positions_and_only_those_behind,
    nothing_is_written_whatever_the_question_says,
    what_is_wrong_with_a_question_is_said_in_the_servers_words,
);

#[tokio::test]
async fn a_server_that_takes_too_long_is_not_waited_for() {
    let kind = PostgresSimple::make().await;
    let store = kind.open().await;
    let sql = "SELECT pg_sleep(600)::text AS account".to_owned();
    let columns = vec!["account"];
    let slow = Question { sql, columns, order_by: None, ..question(&kind) };
    let said = reason(store.ask(slow).await.unwrap_err());
    assert!(said.contains("statement_timeout"), "{said}");
    assert!(store.ask(question(&kind)).await.is_ok());
}

#[tokio::test]
async fn a_value_that_does_not_fit_is_told_without_being_shown() {
    let kind = PostgresSimple::make().await;
    let store = kind.open().await;
    let value = "invented-value".to_owned();
    let said = reason(store.ask(Question { value, ..question(&kind) }).await.unwrap_err());
    assert!(said.contains("does not fit") && !said.contains("invented"), "{said}");
}

#[tokio::test]
async fn sqlite_is_interrupted_when_it_takes_too_long() {
    let kind = SqliteSimple::make().await;
    let store = kind.open().await;
    let sql = "WITH RECURSIVE endless(n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM endless) \
               SELECT sum(n) AS account FROM endless"
        .to_owned();
    let columns = vec!["account"];
    let slow = Question { sql, columns, order_by: None, ..question(&kind) };
    let said = reason(store.ask(slow).await.unwrap_err());
    assert!(said.contains("not answered within"), "{said}");
}

#[tokio::test]
async fn a_file_cannot_be_asked() {
    let kind = YamlFile::make().await;
    let store: AnyStore = kind.open().await;
    assert!(store.columns_of("SELECT 1", "position").await.is_err());
}
