//! What the state promises, each promise a sentence, over every kind of state, on real files and servers;
//! then what only one kind can do wrong.
#![allow(clippy::unwrap_used, reason = "a test may")]

mod canaries;
mod consents;
mod crash;
mod history;
mod inbox;
mod journal;
mod kinds;
mod leases;
mod letters;
#[path = "../program/mail_server.rs"]
mod mail_server;
mod memory;
mod newest;
mod observed;
mod only_postgres;
mod only_sqlite;
mod opening;
mod outbox;
mod sending;
mod shares;

use kinds::{Backend, Postgres, Server, Sqlite};
use oauth_keepalive::{
    core::{
        AccountId, AppMemory, Cause, Evidence, Farewell, Fingerprint, Gate, Memory, Secret, Shares,
        Timestamp, TokenFacts,
        diagnose::Step,
        digest::Rules,
        notices::{Audience, Change, Notice, Subject, Way},
    },
    oauth::Token,
    secrets::SecretRef,
    state::{
        Beat, Closing, Counts, EntryId, Error, Held, Intent, Lease, Owed, Role, Settings, State,
        postgres,
    },
};
use std::{
    fs,
    io::{BufRead, BufReader},
    os::unix::fs::PermissionsExt,
    path::{Path, PathBuf},
    process::{Command, Stdio},
    sync::Arc,
    time::Duration,
};
use tempfile::TempDir;

const LIFE: Duration = Duration::from_secs(30);

fn at(seconds: i64) -> Timestamp {
    Timestamp::from_unix(1_800_000_000 + seconds)
}

fn ann() -> AccountId {
    AccountId::new("tiktok", "ann")
}

async fn open(world: &impl Backend) -> State {
    State::open(&world.settings()).await.unwrap()
}

fn intent() -> Intent {
    Intent {
        old: Fingerprint::from_hash(u64::MAX),
        spending: Fingerprint::from_hash(7),
        requested_at: at(1),
        over_at: at(11),
    }
}

fn token(name: &str) -> Token {
    Token {
        access: Secret::new(format!("invented-access-{name}-\"ü\n")),
        refresh: Some(Secret::new(format!("invented-refresh-{name}"))),
        issued_at: Some(at(1)),
        expires_at: Some(at(7_201)),
        refresh_expires_at: None,
        scopes: Some(vec!["video.publish".to_owned()]),
        subject: Some("open-id".to_owned()),
    }
}

async fn lease(state: &State, id: &AccountId) -> Lease {
    state.take_lease(id, at(0), LIFE).await.unwrap().expect("nobody else is there")
}

async fn intended(state: &State, id: &AccountId) -> EntryId {
    let lease = lease(state, id).await;
    state.intend(&lease, &intent_of(id)).await.unwrap()
}

/// Each account has a refresh token of its own.
fn intent_of(id: &AccountId) -> Intent {
    if *id == ann() {
        return intent();
    }
    let bytes = id.account.bytes().chain(id.provider.bytes());
    let hash =
        bytes.fold(1_000, |hash: u64, byte| hash.wrapping_mul(31).wrapping_add(u64::from(byte)));
    Intent { spending: Fingerprint::from_hash(hash), ..intent() }
}

fn place_and_reason<T>(result: Result<T, Error>) -> (String, String) {
    match result {
        Err(Error::Damaged { place, reason } | Error::Unavailable { place, reason }) => {
            (place, reason)
        }
        Err(other) => panic!("another error was expected: {other}"),
        Ok(_) => panic!("an error was expected"),
    }
}

/// Runs each case over one kind of state, as tests of their own.
macro_rules! contract {
    ($module:ident, $kind:ty) => {
        mod $module {
            contract!(@cases $kind:
                canaries::one_post_may_prove_an_account_until_its_time_is_over,
                canaries::a_post_that_was_reported_goes_no_more_and_the_next_one_soon,
                canaries::a_gate_that_moved_ends_what_was_let_go_before_and_nothing_newer,
                canaries::of_posts_that_ask_at_once_one_may_go,
                consents::who_began_comes_back_once_in_any_process,
                consents::the_same_browser_may_begin_again_until_it_is_done,
                consents::of_two_that_begin_at_once_one_does,
                consents::what_has_ended_is_forgotten_and_nothing_lies_in_clear,
                crash::an_intent_that_returned_is_there_after_kill_9,
                crash::a_probe_that_returned_is_there_after_kill_9,
                crash::a_result_that_returned_is_there_after_kill_9,
                crash::a_closing_and_an_incident_that_returned_are_there_after_kill_9,
                crash::two_processes_never_hold_the_same_account,
                crash::a_process_that_was_stopped_beyond_its_lease_can_do_nothing_but_hand_in_its_result,
                history::what_happened_comes_back_sorted_and_unchanged,
                history::the_last_history_of_an_account_replaces_the_one_before,
                history::a_forgotten_account_leaves_no_history,
                inbox::what_was_announced_is_kept_once_and_comes_back_unchanged,
                inbox::every_order_comes_back_as_it_was_given,
                inbox::processes_that_hear_the_same_at_once_keep_it_once,
                inbox::what_nobody_sends_again_is_forgotten,
                inbox::of_too_many_the_oldest_are_forgotten,
                journal::an_account_with_an_open_entry_gets_no_second_one,
                journal::the_one_probe_is_spent_once_over_all_processes,
                journal::an_entry_with_a_result_needs_no_probe_and_gets_none,
                journal::a_result_is_taken_after_the_lease_was_lost,
                journal::a_result_for_an_entry_that_somebody_closed_is_kept_as_an_orphan,
                journal::a_second_result_of_one_entry_is_kept_beside_the_first,
                journal::a_closed_entry_is_gone_and_closing_it_again_does_no_harm,
                journal::an_orphan_survives_everything_but_four_newer_ones,
                journal::entries_come_back_oldest_first_each_with_its_own_token,
                journal::a_result_of_the_largest_answer_is_kept_too,
                journal::no_token_and_no_address_lies_there_in_clear,
                journal::an_intent_that_is_repeated_under_its_lease_is_the_same_entry,
                journal::a_holder_whose_account_was_taken_over_can_end_nothing,
                journal::a_holder_who_was_late_and_whom_nobody_replaced_may_end_his_attempt,
                journal::an_entry_that_got_its_result_is_not_voided,
                journal::a_probe_that_is_given_back_can_be_spent_again,
                journal::accounts_with_any_name_are_kept_apart,
                leases::of_two_states_on_one_directory_exactly_one_gets_the_lease,
                leases::an_expired_lease_is_taken_over_and_its_old_holder_cannot_intend,
                leases::an_expired_lease_that_nobody_took_cannot_intend_either,
                leases::taking_our_own_lease_again_makes_the_first_one_worthless,
                leases::an_epoch_cannot_be_borrowed_for_another_account_or_by_another_holder,
                leases::a_lease_that_is_given_back_is_free_and_its_epoch_is_never_used_again,
                leases::a_lease_from_a_clock_that_was_years_ahead_locks_nothing,
                leases::an_intent_whose_call_would_outlast_the_lease_is_refused,
                leases::whoever_is_late_gives_back_his_own_lease_and_not_the_one_after_it,
                leases::a_lease_that_was_given_back_allows_nothing_any_more,
                leases::each_taking_has_a_higher_epoch_whoever_takes_and_gives_back,
                memory::what_is_remembered_comes_back_sorted_and_unchanged,
                memory::a_gate_that_is_not_spoken_of_stays_as_it_is,
                memory::the_last_word_on_an_account_replaces_every_part_of_the_one_before,
                memory::of_apps_the_longer_pause_and_the_newer_word_are_kept,
                memory::a_forgotten_account_is_forgotten_and_the_others_are_not,
                memory::of_an_account_that_may_come_back_the_gate_stays_and_nothing_else,
                memory::a_thousand_calls_at_once_are_a_handful_of_commits,
                memory::a_call_that_fails_does_not_harm_its_neighbours_in_the_commit,
                memory::what_was_begun_is_done_although_the_caller_went_away,
                memory::two_words_on_one_account_in_one_call_leave_the_last,
                newest::who_spent_a_refresh_token_is_known_until_it_is_too_long_ago,
                newest::a_refresh_token_is_spent_for_one_account_at_a_time,
                newest::the_newest_is_kept_with_the_last_few_that_were_spent,
                newest::a_refresh_token_that_lives_on_is_not_among_the_spent,
                newest::an_end_that_is_told_again_keeps_nothing_older,
                newest::who_lost_the_account_can_keep_nothing,
                newest::a_forgotten_account_leaves_no_token,
                newest::a_dead_refresh_token_counts_as_spent,
                newest::a_refresh_token_that_died_before_any_was_kept_is_remembered_with_it,
                observed::a_position_is_kept_under_its_name_until_the_next_one,
                observed::a_position_that_nobody_moves_is_forgotten_after_months,
                opening::a_state_that_was_closed_has_the_same_key_and_the_same_contents,
                opening::several_that_open_a_new_state_at_once_share_one_key,
                opening::a_named_key_file_is_used_and_nothing_else_is_made,
                opening::a_key_file_that_is_missing_or_wrong_is_named_with_the_remedy,
                opening::another_key_does_not_open_the_state,
                opening::a_state_of_a_newer_program_is_left_alone,
                opening::a_file_where_the_directory_should_be_is_named,
                outbox::an_incident_fires_once_and_owes_one_mail_per_address,
                outbox::another_cause_or_subject_is_another_incident,
                outbox::everybody_who_was_told_hears_of_the_end_in_the_same_thread,
                outbox::a_mail_that_never_left_is_withdrawn_with_its_end,
                outbox::a_mail_that_was_leaving_while_its_incident_ended_is_followed_by_the_end,
                outbox::a_mail_that_perhaps_left_is_not_sent_again_after_the_end_but_its_end_is,
                outbox::nobody_is_mailed_about_an_account_that_is_of_no_interest_any_more,
                outbox::a_mail_that_was_given_up_is_owed_no_end,
                outbox::a_postponed_mail_comes_back_when_its_time_has_come_with_the_same_key,
                outbox::no_two_mails_share_a_key_and_no_key_shows_an_address,
                outbox::no_more_mails_are_handed_out_than_were_asked_for,
                outbox::a_mail_that_was_handed_out_is_not_handed_to_another,
                outbox::a_mail_whose_claimant_is_not_heard_of_goes_to_another,
                outbox::many_who_ask_at_once_share_the_mails_and_none_gets_anothers,
                letters::what_one_owner_hears_of_at_once_is_one_mail_and_its_ends_follow_in_its_thread,
                letters::what_was_over_before_its_mail_left_is_in_no_mail,
                letters::what_a_cap_holds_back_is_in_the_next_mail_and_the_operator_hears_of_it,
                letters::of_two_that_plan_at_once_one_does,
                letters::trouble_that_lasts_is_called_to_mind_in_its_thread_and_not_for_ever,
                letters::a_mail_in_doubt_is_sent_twice_at_the_most_and_its_end_is_owed,
                letters::a_refused_attempt_leaves_no_doubt_and_an_overtaken_one_changes_nothing,
                letters::mails_can_be_looked_at_whatever_became_of_them,
                sending::a_thousand_accounts_that_fail_within_a_minute_are_one_mail_per_owner,
                sending::a_day_without_a_mail_server_costs_no_notice_and_brings_no_flood,
                sending::hours_of_greylisting_delay_a_mail_and_do_not_double_it,
                sending::a_process_that_is_killed_over_and_over_while_it_sends_sends_twice_at_most,
            );
        }
    };
    (@cases $kind:ty: $($file:ident::$case:ident,)+) => {
        $(#[tokio::test]
        async fn $case() {
            use crate::kinds::*;
            crate::$file::$case::<$kind>().await;
        })+
    };
}

contract!(on_sqlite, Sqlite);
contract!(on_postgres, Postgres);
