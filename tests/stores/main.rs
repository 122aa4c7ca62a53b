//! What every store must do, run over every kind of store; then what only one kind can do wrong.
//!
//! A further kind implements [`kinds::Kind`], which is mostly how its publisher would write, and is added
//! to the list at the end of this file with one line.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on says so by its panic")]

mod asking;
mod contract;
mod file;
mod kinds;
mod mysql;
mod postgres;
mod redis_access;
mod redis_kind;
mod redis_store;
mod renewing;
mod servers;
mod sqlite;
mod together;
mod trouble;

use kinds::{
    JsonFile, RedisMapped, RedisSimple, SqliteCamel, SqliteMillis, SqliteSimple, YamlFile,
};
use mysql::{MysqlMixed, MysqlSimple};
use postgres::{PostgresCamel, PostgresSimple, PostgresZoned};

/// Runs each case over one kind of store, as tests of their own.
macro_rules! contract {
    ($module:ident, $kind:ty) => {
        mod $module {
            contract!(@cases $kind:
                an_open_store_hands_out_every_account_as_the_publisher_wrote_it,
                asking_for_one_account_answers_what_loading_did,
                a_saved_token_is_read_by_a_second_instance,
                dates_are_written_in_the_form_in_which_they_stood,
                an_end_in_the_last_year_is_none_and_does_not_stop_a_save,
                a_save_against_a_token_that_is_not_there_any_more_changes_nothing,
                a_row_without_a_token_takes_a_first_one_and_no_second,
                an_unrelated_write_neither_stops_a_save_nor_is_lost_by_it,
                a_blank_refresh_token_never_replaces_the_stored_one,
                saving_what_is_there_already_says_so,
                the_same_token_with_a_later_end_is_written,
                an_account_that_is_gone_is_not_brought_back,
                of_two_saves_with_the_same_expectation_exactly_one_is_written,
                an_added_account_is_there_and_a_second_one_is_refused,
                marking_touches_the_status_only,
                an_unreadable_entry_is_reported_and_the_rest_is_loaded,
                nonsense_beside_the_token_does_not_lose_the_token,
                a_store_that_went_away_is_unavailable_and_works_when_it_is_back,
                a_store_that_cannot_be_written_keeps_its_content,
                a_probe_changes_nothing,
                a_change_from_outside_is_noticed_without_waiting_for_the_poll,
                our_own_save_is_no_news,
                a_token_that_is_blank_is_never_written,
                a_provider_that_is_not_there_has_no_accounts,
            );
        }
    };
    (@cases $kind:ty: $($case:ident,)+) => {
        $(#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
        async fn $case() {
            use crate::*;
            contract::$case::<$kind>().await;
        })+
    };
}

contract!(yaml_file, YamlFile);
contract!(json_file, JsonFile);
contract!(sqlite_simple, SqliteSimple);
contract!(sqlite_millis, SqliteMillis);
contract!(sqlite_camel, SqliteCamel);
contract!(redis_simple, RedisSimple);
contract!(redis_mapped, RedisMapped);
contract!(postgres_simple, PostgresSimple);
contract!(postgres_camel, PostgresCamel);
contract!(postgres_zoned, PostgresZoned);
contract!(mysql_simple, MysqlSimple);
contract!(mysql_mixed, MysqlMixed);
