//! What the state promises, each promise a sentence, on real files.
#![allow(clippy::unwrap_used, reason = "a test may")]

use oauth_keepalive::{
    core::{
        AccountId, Cause, Evidence, Fingerprint, Secret, Timestamp, TokenFacts,
        notices::{Audience, Change, Notice, Subject},
    },
    oauth::Token,
    state::{Closing, EntryId, Error, Intent, Lease, Memory, Owed, Settings, State},
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

fn folder() -> TempDir {
    tempfile::tempdir().unwrap()
}

fn settings(directory: &Path) -> Settings {
    Settings { directory: directory.join("state"), key_file: None }
}

async fn open(directory: &TempDir) -> State {
    State::open(&settings(directory.path())).await.unwrap()
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
    state.intend(&lease, &intent()).await.unwrap()
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

mod opening {
    use super::*;

    #[tokio::test]
    async fn a_new_state_is_reachable_by_its_owner_only() {
        let folder = folder();
        let state = open(&folder).await;
        let mode = |path: PathBuf| fs::metadata(path).unwrap().permissions().mode() & 0o777;
        let directory = settings(folder.path()).directory;
        assert_eq!(mode(directory.clone()), 0o700);
        for file in fs::read_dir(&directory).unwrap() {
            let file = file.unwrap().path();
            assert_eq!(mode(file.clone()), 0o600, "{}", file.display());
        }
        state.shut().await;
    }

    #[tokio::test]
    async fn a_state_that_was_closed_has_the_same_key_and_the_same_contents() {
        let folder = folder();
        let state = open(&folder).await;
        let before = state.fingerprinter().of_secret(&Secret::new("invented".to_owned()));
        let entry = intended(&state, &ann()).await;
        state.record_result(entry, &ann(), &token("one")).await.unwrap();
        state.shut().await;

        let state = open(&folder).await;
        assert_eq!(state.fingerprinter().of_secret(&Secret::new("invented".to_owned())), before);
        let open = state.open_entry(&ann()).await.unwrap().unwrap();
        assert_eq!(open.entry, entry);
        assert_eq!(open.intent, intent());
        assert_eq!(open.result, Some(token("one")));
        state.probe().await.unwrap();
    }

    #[tokio::test]
    async fn two_that_open_a_new_state_at_once_share_one_key() {
        let folder = folder();
        let settings = settings(folder.path());
        let (one, two) = tokio::join!(State::open(&settings), State::open(&settings));
        let secret = Secret::new("invented".to_owned());
        assert_eq!(
            one.unwrap().fingerprinter().of_secret(&secret),
            two.unwrap().fingerprinter().of_secret(&secret)
        );
    }

    #[tokio::test]
    async fn a_named_key_file_is_used_and_nothing_else_is_made() {
        let folder = folder();
        let key_file = folder.path().join("sealing-key");
        fs::write(&key_file, "AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8=\n").unwrap();
        let settings =
            Settings { directory: folder.path().join("state"), key_file: Some(key_file) };
        State::open(&settings).await.unwrap().shut().await;
        assert!(!settings.directory.join("key").exists());
        State::open(&settings).await.unwrap();
    }

    #[tokio::test]
    async fn a_key_file_that_is_missing_or_wrong_is_named_with_the_remedy() {
        let folder = folder();
        for (name, contents) in [
            ("missing", None),
            ("empty", Some("")),
            ("short", Some("AAECAw==\n")),
            ("long", Some("AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8gISIj\n")),
            ("text", Some("not base64 at all, just words\n")),
        ] {
            let key_file = folder.path().join(name);
            contents.iter().for_each(|text| fs::write(&key_file, text).unwrap());
            let settings =
                Settings { directory: folder.path().join("state"), key_file: Some(key_file) };
            let (place, reason) = place_and_reason(State::open(&settings).await);
            assert!(place.ends_with(name), "{name}: {place}");
            assert!(reason.contains("key") || reason.contains("base64"), "{name}: {reason}");
            assert!(!reason.contains("words"), "{name}: the file's text is in {reason}");
        }
    }

    #[tokio::test]
    async fn another_key_does_not_open_the_state() {
        let folder = folder();
        open(&folder).await.shut().await;
        let directory = settings(folder.path()).directory;
        fs::write(directory.join("key"), "AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8=").unwrap();
        let opened = State::open(&settings(folder.path())).await;
        assert!(matches!(opened, Err(Error::Damaged { .. })));
        let (place, reason) = place_and_reason(opened);
        assert!(place.ends_with("state.db"), "{place}");
        assert!(reason.contains("bring that key back"), "{reason}");
    }

    #[tokio::test]
    async fn a_lost_key_is_not_replaced_by_a_new_one() {
        let folder = folder();
        open(&folder).await.shut().await;
        let key = settings(folder.path()).directory.join("key");
        fs::remove_file(&key).unwrap();
        let (place, reason) = place_and_reason(State::open(&settings(folder.path())).await);
        assert!(place.ends_with("key") && reason.contains("missing"), "{place}: {reason}");
        assert!(!key.exists());
    }

    #[tokio::test]
    async fn a_state_of_a_newer_program_is_left_alone() {
        let folder = folder();
        open(&folder).await.shut().await;
        let file = settings(folder.path()).directory.join("state.db");
        let connection = rusqlite::Connection::open(&file).unwrap();
        connection.execute("UPDATE meta SET value = 99 WHERE name = 'schema_version'", []).unwrap();
        drop(connection);
        let opened = State::open(&settings(folder.path())).await;
        assert!(matches!(opened, Err(Error::Damaged { .. })));
        assert!(place_and_reason(opened).1.contains("version 99"));
    }

    #[tokio::test]
    async fn a_file_that_is_no_state_of_ours_is_left_alone() {
        let folder = folder();
        open(&folder).await.shut().await;
        let file = settings(folder.path()).directory.join("state.db");
        fs::write(
            &file,
            "something else entirely, and longer than a header of SQLite would be. ".repeat(80),
        )
        .unwrap();
        let opened = State::open(&settings(folder.path())).await;
        assert!(matches!(opened, Err(Error::Damaged { .. })));

        fs::remove_file(&file).unwrap();
        rusqlite::Connection::open(&file)
            .unwrap()
            .execute_batch("CREATE TABLE posts (title TEXT)")
            .unwrap();
        let opened = State::open(&settings(folder.path())).await;
        assert!(place_and_reason(opened).1.contains("not our state"));
    }

    #[tokio::test]
    async fn a_file_where_the_directory_should_be_is_named() {
        let folder = folder();
        fs::write(folder.path().join("state"), "a file").unwrap();
        let (place, reason) = place_and_reason(State::open(&settings(folder.path())).await);
        assert!(place.ends_with("state") && reason.contains("not a directory"), "{reason}");
    }
}

mod leases {
    use super::*;

    #[tokio::test]
    async fn of_two_states_on_one_directory_exactly_one_gets_the_lease() {
        let folder = folder();
        let (one, two) = (open(&folder).await, open(&folder).await);
        for account in 0..20 {
            let id = AccountId::new("tiktok", format!("account-{account}"));
            let (first, second) =
                tokio::join!(one.take_lease(&id, at(0), LIFE), two.take_lease(&id, at(0), LIFE));
            let winners = [first.unwrap(), second.unwrap()].iter().flatten().count();
            assert_eq!(winners, 1, "{id}");
        }
    }

    #[tokio::test]
    async fn an_expired_lease_is_taken_over_and_its_old_holder_cannot_intend() {
        let folder = folder();
        let (one, two) = (open(&folder).await, open(&folder).await);
        let old = one.take_lease(&ann(), at(0), LIFE).await.unwrap().unwrap();
        assert_eq!(two.take_lease(&ann(), at(29), LIFE).await.unwrap(), None);
        let new = two.take_lease(&ann(), at(30), LIFE).await.unwrap().unwrap();
        assert!(new.epoch > old.epoch);
        assert!(matches!(one.intend(&old, &intent()).await, Err(Error::LeaseLost { .. })));
        assert_eq!(one.journal_len().await.unwrap(), 0);
        two.intend(&new, &intent()).await.unwrap();
    }

    #[tokio::test]
    async fn an_expired_lease_that_nobody_took_cannot_intend_either() {
        let folder = folder();
        let state = open(&folder).await;
        let lease = lease(&state, &ann()).await;
        let late = Intent { requested_at: at(30), over_at: at(40), ..intent() };
        assert!(matches!(state.intend(&lease, &late).await, Err(Error::LeaseLost { .. })));
    }

    #[tokio::test]
    async fn taking_our_own_lease_again_makes_the_first_one_worthless() {
        let folder = folder();
        let state = open(&folder).await;
        let (first, second) = (lease(&state, &ann()).await, lease(&state, &ann()).await);
        assert!(second.epoch > first.epoch);
        assert!(matches!(state.intend(&first, &intent()).await, Err(Error::LeaseLost { .. })));
    }

    #[tokio::test]
    async fn an_epoch_cannot_be_borrowed_for_another_account_or_by_another_holder() {
        let folder = folder();
        let (one, two) = (open(&folder).await, open(&folder).await);
        let lease = lease(&one, &ann()).await;
        let forged = Lease { id: AccountId::new("tiktok", "bob"), epoch: lease.epoch };
        assert!(matches!(one.intend(&forged, &intent()).await, Err(Error::LeaseLost { .. })));
        assert!(matches!(two.intend(&lease, &intent()).await, Err(Error::LeaseLost { .. })));
    }

    #[tokio::test]
    async fn a_lease_that_is_given_back_is_free_and_its_epoch_is_never_used_again() {
        let folder = folder();
        let (one, two) = (open(&folder).await, open(&folder).await);
        let old = lease(&one, &ann()).await;
        one.release(&old).await.unwrap();
        let new = lease(&two, &ann()).await;
        assert!(new.epoch > old.epoch);
        // Giving back what was lost takes nothing from its new holder.
        one.release(&old).await.unwrap();
        two.intend(&new, &intent()).await.unwrap();
    }

    #[tokio::test]
    async fn a_lease_from_a_clock_that_was_years_ahead_locks_nothing() {
        let folder = folder();
        let (one, two) = (open(&folder).await, open(&folder).await);
        one.take_lease(&ann(), at(300_000_000), LIFE).await.unwrap().unwrap();
        assert!(two.take_lease(&ann(), at(0), LIFE).await.unwrap().is_some());
    }
}

mod journal {
    use super::*;

    #[tokio::test]
    async fn an_account_with_an_open_entry_gets_no_second_one() {
        let folder = folder();
        let (one, two) = (open(&folder).await, open(&folder).await);
        let entry = intended(&one, &ann()).await;
        let other = two.take_lease(&ann(), at(60), LIFE).await.unwrap().unwrap();
        let again = Intent { requested_at: at(61), over_at: at(71), ..intent() };
        assert!(matches!(two.intend(&other, &again).await, Err(Error::EntryOpen { .. })));
        two.close(entry, Closing::Void).await.unwrap();
        two.intend(&other, &again).await.unwrap();
    }

    #[tokio::test]
    async fn the_one_probe_is_spent_once_over_all_processes() {
        let folder = folder();
        let (one, two) = (open(&folder).await, open(&folder).await);
        let first = lease(&one, &ann()).await;
        let entry = one.intend(&first, &intent()).await.unwrap();
        assert!(one.intend_probe(&first, entry, at(25)).await.unwrap());
        assert!(!one.intend_probe(&first, entry, at(25)).await.unwrap());
        let second = two.take_lease(&ann(), at(60), LIFE).await.unwrap().unwrap();
        assert!(!two.intend_probe(&second, entry, at(80)).await.unwrap());
        let open = two.open_entry(&ann()).await.unwrap().unwrap();
        assert!(open.probed);
        assert_eq!(open.intent.over_at, at(25));
        let stale = one.intend_probe(&first, entry, at(25)).await;
        assert!(matches!(stale, Err(Error::LeaseLost { .. })));
    }

    #[tokio::test]
    async fn an_entry_with_a_result_needs_no_probe_and_gets_none() {
        let folder = folder();
        let state = open(&folder).await;
        let lease = lease(&state, &ann()).await;
        let entry = state.intend(&lease, &intent()).await.unwrap();
        state.record_result(entry, &ann(), &token("one")).await.unwrap();
        assert!(!state.intend_probe(&lease, entry, at(25)).await.unwrap());
    }

    #[tokio::test]
    async fn a_result_is_taken_after_the_lease_was_lost() {
        let folder = folder();
        let (one, two) = (open(&folder).await, open(&folder).await);
        let entry = intended(&one, &ann()).await;
        two.take_lease(&ann(), at(60), LIFE).await.unwrap().unwrap();
        one.record_result(entry, &ann(), &token("late")).await.unwrap();
        let open = two.open_entry(&ann()).await.unwrap().unwrap();
        assert_eq!(open.result, Some(token("late")));
    }

    #[tokio::test]
    async fn a_result_for_an_entry_that_somebody_closed_is_kept_as_an_orphan() {
        let folder = folder();
        let state = open(&folder).await;
        let entry = intended(&state, &ann()).await;
        state.close(entry, Closing::Void).await.unwrap();
        state.record_result(entry, &ann(), &token("late")).await.unwrap();
        state.record_result(entry, &ann(), &token("late")).await.unwrap();
        assert_eq!(state.orphans_len().await.unwrap(), 1);
        assert_eq!(state.journal_len().await.unwrap(), 0);
    }

    #[tokio::test]
    async fn a_second_result_of_one_entry_is_kept_beside_the_first() {
        let folder = folder();
        let state = open(&folder).await;
        let entry = intended(&state, &ann()).await;
        for name in ["first", "first", "second"] {
            state.record_result(entry, &ann(), &token(name)).await.unwrap();
        }
        let open = state.open_entry(&ann()).await.unwrap().unwrap();
        assert_eq!(open.result, Some(token("first")));
        assert_eq!(state.orphans_len().await.unwrap(), 1);
    }

    #[tokio::test]
    async fn a_closed_entry_is_gone_and_closing_it_again_does_no_harm() {
        let folder = folder();
        let state = open(&folder).await;
        for closing in [Closing::Done, Closing::Void, Closing::Orphan] {
            let entry = intended(&state, &ann()).await;
            state.close(entry, closing).await.unwrap();
            state.close(entry, closing).await.unwrap();
            assert!(state.open_entries().await.unwrap().is_empty(), "{closing:?}");
            // Without a token there is nothing to keep.
            assert_eq!(state.orphans_len().await.unwrap(), 0, "{closing:?}");
        }
    }

    #[tokio::test]
    async fn an_orphan_survives_everything_but_four_newer_ones() {
        let folder = folder();
        let state = open(&folder).await;
        let mut first = None;
        for name in ["a", "b", "c", "d", "e", "f"] {
            let entry = intended(&state, &ann()).await;
            state.record_result(entry, &ann(), &token(name)).await.unwrap();
            state.close(entry, Closing::Orphan).await.unwrap();
            state.close(*first.get_or_insert(entry), Closing::Done).await.unwrap();
        }
        assert_eq!(state.orphans_len().await.unwrap(), 4);
        assert!(state.open_entries().await.unwrap().is_empty());
        // Those of another account do not count.
        let bob = AccountId::new("tiktok", "bob");
        let entry = intended(&state, &bob).await;
        state.record_result(entry, &bob, &token("g")).await.unwrap();
        state.close(entry, Closing::Orphan).await.unwrap();
        assert_eq!(state.orphans_len().await.unwrap(), 5);
    }

    #[tokio::test]
    async fn entries_come_back_oldest_first_each_with_its_own_token() {
        let folder = folder();
        let state = open(&folder).await;
        for name in ["c", "a", "b"] {
            let id = AccountId::new("tiktok", name);
            let entry = intended(&state, &id).await;
            state.record_result(entry, &id, &token(name)).await.unwrap();
        }
        let entries = state.open_entries().await.unwrap();
        let names: Vec<_> = entries.iter().map(|entry| &*entry.id.account).collect();
        assert_eq!(names, ["c", "a", "b"]);
        assert!(entries.iter().all(|open| open.result == Some(token(&open.id.account))));
        assert_eq!(state.journal_len().await.unwrap(), 3);
    }

    #[tokio::test]
    async fn a_result_of_the_largest_answer_is_kept_too() {
        let folder = folder();
        let state = open(&folder).await;
        let entry = intended(&state, &ann()).await;
        let large = Token { access: Secret::new("x\"".repeat(32 << 10)), ..token("large") };
        state.record_result(entry, &ann(), &large).await.unwrap();
        assert_eq!(state.open_entry(&ann()).await.unwrap().unwrap().result, Some(large));
    }

    #[tokio::test]
    async fn no_token_and_no_address_lies_in_clear_in_any_file() {
        let folder = folder();
        let state = open(&folder).await;
        for closing in [None, Some(Closing::Done), Some(Closing::Orphan)] {
            let id = AccountId::new("tiktok", format!("{closing:?}"));
            let entry = intended(&state, &id).await;
            state.record_result(entry, &id, &token("searched")).await.unwrap();
            if let Some(closing) = closing {
                state.close(entry, closing).await.unwrap();
            }
        }
        let to = vec![Secret::new("invented-owner@example.org".to_owned())];
        state.fire(&outbox::firing(), to).await.unwrap();
        let search = || {
            let mut seen = 0;
            for file in fs::read_dir(settings(folder.path()).directory).unwrap() {
                let path = file.unwrap().path();
                let bytes = fs::read(&path).unwrap();
                seen += bytes.len();
                for secret in ["invented-access", "invented-refresh", "invented-owner"] {
                    let found = bytes.windows(secret.len()).any(|part| part == secret.as_bytes());
                    assert!(!found, "{secret} in {}", path.display());
                }
            }
            seen
        };
        assert!(search() > 50_000);
        state.shut().await;
        assert!(search() > 50_000);
    }
}

mod memory {
    use super::*;

    fn full(name: &str) -> Memory {
        Memory {
            id: AccountId::new("tiktok", name),
            token: Some(TokenFacts {
                token: Fingerprint::from_hash(u64::MAX - 1),
                renewable_by: Some(Fingerprint::from_hash(9)),
                issued_at: at(1),
                expires_at: Some(at(2)),
                refresh_expires_at: Some(Timestamp::MAX),
                missing_scopes: u32::MAX,
            }),
            first_seen_at: Timestamp::MIN,
            last_refresh_at: Some(at(3)),
            cause: Some(Cause::RotationLost),
            cause_since: Some(at(4)),
            told: Some(Cause::ScopeMissing),
            failed_in_a_row: u16::MAX,
            not_before: Some(at(5)),
        }
    }

    fn bare(name: &str) -> Memory {
        Memory {
            id: AccountId::new("tiktok", name),
            token: None,
            first_seen_at: at(0),
            last_refresh_at: None,
            cause: None,
            cause_since: None,
            told: None,
            failed_in_a_row: 0,
            not_before: None,
        }
    }

    #[tokio::test]
    async fn what_is_remembered_comes_back_sorted_and_unchanged() {
        let folder = folder();
        let state = open(&folder).await;
        state.remember(vec![full("b"), bare("a")]).await.unwrap();
        state.shut().await;
        let state = open(&folder).await;
        assert_eq!(state.memories().await.unwrap(), [bare("a"), full("b")]);
    }

    #[tokio::test]
    async fn the_last_word_on_an_account_replaces_every_part_of_the_one_before() {
        let folder = folder();
        let state = open(&folder).await;
        state.remember(vec![full("a"), bare("b")]).await.unwrap();
        state.remember(vec![bare("a"), full("b")]).await.unwrap();
        assert_eq!(state.memories().await.unwrap(), [bare("a"), full("b")]);
    }

    #[tokio::test]
    async fn a_forgotten_account_is_forgotten_and_the_others_are_not() {
        let folder = folder();
        let state = open(&folder).await;
        state.remember(vec![full("a"), full("b")]).await.unwrap();
        let unknown = AccountId::new("tiktok", "unknown");
        state.forget(vec![AccountId::new("tiktok", "a"), unknown]).await.unwrap();
        assert_eq!(state.memories().await.unwrap(), [full("b")]);
    }

    #[tokio::test]
    async fn a_thousand_calls_at_once_are_a_handful_of_commits() {
        let folder = folder();
        let state = open(&folder).await;
        let before = state.commits();
        let calls: Vec<_> = (0..1_000)
            .map(|number| {
                let state = state.clone();
                tokio::spawn(async move { state.remember(vec![bare(&number.to_string())]).await })
            })
            .collect();
        for call in calls {
            call.await.unwrap().unwrap();
        }
        let commits = state.commits() - before;
        assert!(commits < 100, "{commits} commits");
        assert_eq!(state.memories().await.unwrap().len(), 1_000);
    }

    #[tokio::test]
    async fn a_call_that_fails_does_not_harm_its_neighbours_in_the_commit() {
        let folder = folder();
        let state = open(&folder).await;
        intended(&state, &ann()).await;
        let lease = lease(&state, &ann()).await;
        let (intent, before) = (intent(), state.commits());
        let (one, refused, two) = tokio::join!(
            state.remember(vec![bare("a")]),
            state.intend(&lease, &intent),
            state.remember(vec![bare("b")]),
        );
        assert!(matches!(refused, Err(Error::EntryOpen { .. })));
        one.unwrap();
        two.unwrap();
        assert_eq!(state.memories().await.unwrap().len(), 2);
        assert!(state.commits() - before <= 2, "they were not together");
    }

    #[tokio::test]
    async fn what_was_begun_is_done_although_the_caller_went_away() {
        let folder = folder();
        let state = open(&folder).await;
        let mut call = Box::pin(state.remember(vec![bare("a")]));
        assert!(futures_poll_once(&mut call).await);
        drop(call);
        state.shut().await;
        assert_eq!(open(&folder).await.memories().await.unwrap().len(), 1);
    }

    /// True when the future is not ready after one poll.
    async fn futures_poll_once<F: Future + Unpin>(future: &mut F) -> bool {
        std::future::poll_fn(|context| {
            std::task::Poll::Ready(std::pin::Pin::new(&mut *future).poll(context).is_pending())
        })
        .await
    }
}

mod outbox {
    use super::*;

    pub(super) fn firing() -> Notice {
        let mut evidence = Evidence::of(Cause::ConsentRevoked, at(90));
        evidence.code = Some("access_token_invalid".into());
        evidence.log_id = Some("2026".into());
        evidence.status = Some(401);
        evidence.retry_after = Some(Duration::from_secs(7));
        Notice {
            subject: Subject::Account(ann()),
            cause: Cause::ConsentRevoked,
            change: Change::Firing,
            audience: Audience::Owner,
            since: at(90),
            at: at(100),
            expires_at: Some(at(900)),
            evidence: Some(Arc::new(evidence)),
            missing_scopes: vec!["video.publish".into()],
            accounts: 1,
        }
    }

    fn over(change: Change) -> Notice {
        Notice { change, at: at(200), ..firing() }
    }

    fn owners() -> Vec<Secret> {
        ["one@example.org", "two@example.org", "one@example.org"]
            .map(|address| Secret::new(address.to_owned()))
            .into()
    }

    async fn owed(state: &State) -> Vec<Owed> {
        state.owed(at(1_000), 100).await.unwrap()
    }

    #[tokio::test]
    async fn an_incident_fires_once_and_owes_one_mail_per_address() {
        let folder = folder();
        let state = open(&folder).await;
        assert!(state.fire(&firing(), owners()).await.unwrap());
        assert!(!state.fire(&firing(), owners()).await.unwrap());
        state.shut().await;

        let state = open(&folder).await;
        assert!(!state.fire(&firing(), owners()).await.unwrap());
        let mails = owed(&state).await;
        let to: Vec<_> = mails.iter().map(|mail| mail.to.expose()).collect();
        assert_eq!(to, ["one@example.org", "two@example.org"]);
        assert!(mails.iter().all(|mail| mail.notice == firing() && mail.thread_key.is_none()));
        assert_eq!(state.outbox().await.unwrap(), (Some(at(100)), 2));
    }

    #[tokio::test]
    async fn another_cause_or_subject_is_another_incident() {
        let folder = folder();
        let state = open(&folder).await;
        let bob = AccountId::new("tiktok", "bob");
        for notice in [
            firing(),
            Notice { cause: Cause::ScopeMissing, ..firing() },
            Notice { subject: Subject::Account(bob), ..firing() },
            Notice { subject: Subject::App("tiktok/ann".into()), ..firing() },
            Notice { subject: Subject::Store, evidence: None, ..firing() },
            Notice { subject: Subject::Host, audience: Audience::Operator, ..firing() },
        ] {
            assert!(state.fire(&notice, owners()).await.unwrap(), "{}", notice.subject);
            assert_eq!(owed(&state).await.last().unwrap().notice, notice);
        }
    }

    #[tokio::test]
    async fn everybody_who_was_told_hears_of_the_end_in_the_same_thread() {
        let folder = folder();
        let state = open(&folder).await;
        state.fire(&firing(), owners()).await.unwrap();
        let first = owed(&state).await;
        for mail in &first {
            state.sent(mail.row, at(110)).await.unwrap();
        }
        assert_eq!(state.outbox().await.unwrap(), (None, 0));
        assert!(state.resolve(&over(Change::Resolved)).await.unwrap());
        assert!(!state.resolve(&over(Change::Resolved)).await.unwrap());
        let second = owed(&state).await;
        assert_eq!(second.len(), 2);
        for (first, second) in first.iter().zip(&second) {
            assert_eq!(second.thread_key.as_ref(), Some(&first.message_key));
            assert_eq!(second.notice, over(Change::Resolved));
            assert_eq!(second.to, first.to);
            state.sent(second.row, at(210)).await.unwrap();
        }
        assert_eq!(state.outbox().await.unwrap(), (None, 0));
    }

    #[tokio::test]
    async fn a_mail_that_never_left_is_withdrawn_with_its_end() {
        let folder = folder();
        let state = open(&folder).await;
        state.fire(&firing(), owners()).await.unwrap();
        let [one, two]: [Owed; 2] = owed(&state).await.try_into().unwrap();
        state.sent(one.row, at(110)).await.unwrap();
        state.postpone(two.row, at(150)).await.unwrap();
        assert!(state.resolve(&over(Change::Resolved)).await.unwrap());
        let left = owed(&state).await;
        assert_eq!(left.len(), 1);
        assert_eq!(left[0].to, one.to);
    }

    #[tokio::test]
    async fn a_mail_that_was_leaving_while_its_incident_ended_is_followed_by_the_end() {
        for (name, certain) in [("sent", true), ("perhaps", false)] {
            let folder = folder();
            let state = open(&folder).await;
            state.fire(&firing(), owners()).await.unwrap();
            let [one, two]: [Owed; 2] = owed(&state).await.try_into().unwrap();
            state.resolve(&over(Change::Resolved)).await.unwrap();
            assert!(owed(&state).await.is_empty(), "{name}");
            match certain {
                true => state.sent(one.row, at(210)).await.unwrap(),
                false => state.postpone_in_doubt(one.row, at(210)).await.unwrap(),
            }
            state.postpone(two.row, at(210)).await.unwrap();
            let left = owed(&state).await;
            assert_eq!(left.len(), 1, "{name}");
            assert_eq!(left[0].notice, over(Change::Resolved), "{name}");
            assert_eq!(left[0].thread_key.as_ref(), Some(&one.message_key), "{name}");
            assert_eq!(left[0].to, one.to, "{name}");
        }
    }

    #[tokio::test]
    async fn a_mail_that_perhaps_left_is_not_sent_again_after_the_end_but_its_end_is() {
        let folder = folder();
        let state = open(&folder).await;
        state.fire(&firing(), vec![Secret::new("one@example.org".to_owned())]).await.unwrap();
        let mail = owed(&state).await.remove(0);
        state.postpone_in_doubt(mail.row, at(120)).await.unwrap();
        // Certain of the second attempt, still not of the first.
        state.postpone(mail.row, at(130)).await.unwrap();
        state.resolve(&over(Change::Resolved)).await.unwrap();
        let left = owed(&state).await;
        assert_eq!(left.len(), 1);
        assert_eq!(left[0].notice.change, Change::Resolved);
    }

    #[tokio::test]
    async fn nobody_is_mailed_about_an_account_that_is_of_no_interest_any_more() {
        let folder = folder();
        let state = open(&folder).await;
        state.fire(&firing(), owners()).await.unwrap();
        let [one, two]: [Owed; 2] = owed(&state).await.try_into().unwrap();
        state.sent(one.row, at(110)).await.unwrap();
        assert!(state.resolve(&over(Change::Withdrawn)).await.unwrap());
        assert_eq!(state.outbox().await.unwrap(), (None, 0));
        state.sent(two.row, at(210)).await.unwrap();
        assert_eq!(state.outbox().await.unwrap(), (None, 0));
        assert!(!state.resolve(&over(Change::Withdrawn)).await.unwrap());
    }

    #[tokio::test]
    async fn a_mail_that_was_given_up_is_owed_no_end() {
        let folder = folder();
        let state = open(&folder).await;
        state.fire(&firing(), owners()).await.unwrap();
        for mail in owed(&state).await {
            state.give_up(mail.row, at(110)).await.unwrap();
        }
        assert!(owed(&state).await.is_empty());
        state.resolve(&over(Change::Resolved)).await.unwrap();
        assert_eq!(state.outbox().await.unwrap(), (None, 0));
    }

    #[tokio::test]
    async fn a_postponed_mail_comes_back_when_its_time_has_come_with_the_same_key() {
        let folder = folder();
        let state = open(&folder).await;
        state.fire(&firing(), vec![Secret::new("one@example.org".to_owned())]).await.unwrap();
        assert!(state.owed(at(99), 10).await.unwrap().is_empty());
        let first = state.owed(at(100), 10).await.unwrap().remove(0);
        state.postpone(first.row, at(160)).await.unwrap();
        assert_eq!(state.outbox().await.unwrap(), (Some(at(160)), 1));
        assert!(state.owed(at(159), 10).await.unwrap().is_empty());
        let second = state.owed(at(160), 10).await.unwrap().remove(0);
        assert_eq!((first.attempts, second.attempts), (0, 1));
        assert_eq!(first.message_key, second.message_key);
    }

    #[tokio::test]
    async fn no_two_mails_share_a_key_and_no_key_shows_an_address() {
        let folder = folder();
        let state = open(&folder).await;
        let mut keys = std::collections::BTreeSet::new();
        let mut mails = 0;
        for _ in 0..3 {
            state.fire(&firing(), owners()).await.unwrap();
            for end in [false, true] {
                for mail in owed(&state).await {
                    assert!(mail.message_key.bytes().all(|byte| byte.is_ascii_hexdigit()));
                    keys.insert(mail.message_key);
                    mails += 1;
                    state.sent(mail.row, at(110)).await.unwrap();
                }
                if !end {
                    state.resolve(&over(Change::Resolved)).await.unwrap();
                }
            }
        }
        assert_eq!((mails, keys.len()), (12, 12));
    }

    #[tokio::test]
    async fn no_more_mails_are_handed_out_than_were_asked_for() {
        let folder = folder();
        let state = open(&folder).await;
        state.fire(&firing(), owners()).await.unwrap();
        let mails = state.owed(at(1_000), 1).await.unwrap();
        assert_eq!(mails.len(), 1);
        assert_eq!(mails[0].to.expose(), "one@example.org");
    }
}

mod crash {
    use super::*;

    /// Runs [`the_process_that_is_killed`] until it says that `step` has returned, and kills it there.
    fn killed_after(step: &str, folder: &Path) {
        let mut child = Command::new(std::env::current_exe().unwrap())
            .args(["--exact", "crash::the_process_that_is_killed", "--nocapture"])
            .env(STEP, step)
            .env(FOLDER, folder)
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let lines = BufReader::new(child.stdout.take().unwrap()).lines();
        let reached = lines.map_while(Result::ok).any(|line| line.contains(REACHED));
        // SIGKILL: nothing in the process gets a word in.
        child.kill().unwrap();
        child.wait().unwrap();
        assert!(reached, "the process ended before {step} returned");
    }

    #[tokio::test]
    async fn an_intent_that_returned_is_there_after_kill_9() {
        let folder = folder();
        killed_after("intend", folder.path());
        let entries = open(&folder).await.open_entries().await.unwrap();
        assert_eq!(entries.len(), 1);
        assert_eq!((&entries[0].id, &entries[0].intent), (&ann(), &intent()));
        assert!(!entries[0].probed && entries[0].result.is_none());
    }

    #[tokio::test]
    async fn a_probe_that_returned_is_there_after_kill_9() {
        let folder = folder();
        killed_after("probe", folder.path());
        assert!(open(&folder).await.open_entry(&ann()).await.unwrap().unwrap().probed);
    }

    #[tokio::test]
    async fn a_result_that_returned_is_there_after_kill_9() {
        let folder = folder();
        killed_after("result", folder.path());
        let entry = open(&folder).await.open_entry(&ann()).await.unwrap().unwrap();
        assert_eq!(entry.result, Some(token("one")));
    }

    #[tokio::test]
    async fn a_closing_and_an_incident_that_returned_are_there_after_kill_9() {
        let folder = folder();
        killed_after("close", folder.path());
        let state = open(&folder).await;
        assert!(state.open_entries().await.unwrap().is_empty());
        assert_eq!(state.outbox().await.unwrap().1, 1);
        // The dead process gave its lease not back; it ends by itself.
        assert_eq!(state.take_lease(&ann(), at(29), LIFE).await.unwrap(), None);
        assert!(state.take_lease(&ann(), at(30), LIFE).await.unwrap().is_some());
    }

    /// The other half of the tests above; by itself it has nothing to do.
    #[tokio::test]
    async fn the_process_that_is_killed() {
        let (Ok(step), Some(folder)) = (std::env::var(STEP), std::env::var_os(FOLDER)) else {
            return;
        };
        let state = State::open(&settings(Path::new(&folder))).await.unwrap();
        let lease = lease(&state, &ann()).await;
        let entry = state.intend(&lease, &intent()).await.unwrap();
        if step == "probe" {
            state.intend_probe(&lease, entry, at(25)).await.unwrap();
        }
        if step == "result" || step == "close" {
            state.record_result(entry, &ann(), &token("one")).await.unwrap();
        }
        if step == "close" {
            state.close(entry, Closing::Done).await.unwrap();
            let to = vec![Secret::new("one@example.org".to_owned())];
            state.fire(&outbox::firing(), to).await.unwrap();
        }
        println!("{REACHED}");
        std::future::pending::<()>().await;
    }

    const STEP: &str = "STATE_TEST_STEP";
    const FOLDER: &str = "STATE_TEST_FOLDER";
    const REACHED: &str = "reached the step";
}
