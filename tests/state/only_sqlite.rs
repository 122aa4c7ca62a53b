//! What only a state in a file can do wrong.

use super::*;

#[tokio::test]
async fn a_new_state_is_reachable_by_its_owner_only() {
    let world = Sqlite::make().await;
    let state = open(&world).await;
    let mode = |path: PathBuf| fs::metadata(path).unwrap().permissions().mode() & 0o777;
    let directory = world.settings().directory;
    assert_eq!(mode(directory.clone()), 0o700);
    for file in fs::read_dir(&directory).unwrap() {
        let file = file.unwrap().path();
        assert_eq!(mode(file.clone()), 0o600, "{}", file.display());
    }
    state.shut().await;
}

#[tokio::test]
async fn a_lost_key_is_not_replaced_by_a_new_one() {
    let world = Sqlite::make().await;
    open(&world).await.shut().await;
    let key = world.settings().directory.join("key");
    fs::remove_file(&key).unwrap();
    let (place, reason) = place_and_reason(State::open(&world.settings()).await);
    assert!(place.ends_with("key") && reason.contains("missing"), "{place}: {reason}");
    assert!(!key.exists());
}

#[tokio::test]
async fn a_file_that_is_no_state_of_ours_is_left_alone() {
    let world = Sqlite::make().await;
    open(&world).await.shut().await;
    let file = world.settings().directory.join("state.db");
    fs::write(
        &file,
        "something else entirely, and longer than a header of SQLite would be. ".repeat(80),
    )
    .unwrap();
    let opened = State::open(&world.settings()).await;
    assert!(matches!(opened, Err(Error::Damaged { .. })));

    fs::remove_file(&file).unwrap();
    rusqlite::Connection::open(&file)
        .unwrap()
        .execute_batch("CREATE TABLE posts (title TEXT)")
        .unwrap();
    let opened = State::open(&world.settings()).await;
    assert!(place_and_reason(opened).1.contains("not our state"));
}

#[tokio::test]
async fn a_mail_that_a_killed_process_had_claimed_is_not_late() {
    let world = Sqlite::make().await;
    let (one, two) = (open(&world).await, open(&world).await);
    one.fire(&outbox::firing(), vec![Secret::new("one@example.org".to_owned())]).await.unwrap();
    let [mail]: [Owed; 1] = outbox::hand_out(&one, at(1_000), 10).await.try_into().unwrap();
    assert!(one.begin(mail.row, "line").await.unwrap());
    // While one of them is there, the claims of both are obeyed.
    one.shut().await;
    let three = open(&world).await;
    assert!(outbox::hand_out(&three, at(1_001), 10).await.is_empty());
    drop((two, three));
    let again = outbox::hand_out(&open(&world).await, at(1_002), 10).await;
    assert_eq!(again.iter().map(|mail| mail.doubts).collect::<Vec<_>>(), [1], "it may have left");
}

#[tokio::test]
async fn of_an_incident_that_is_over_nothing_is_left_but_its_letters() {
    let world = Sqlite::make().await;
    let state = open(&world).await;
    let over = Notice { change: Change::Resolved, ..outbox::firing() };
    state.fire(&outbox::firing(), vec![Secret::new("one@example.org".to_owned())]).await.unwrap();
    for now in [1_000, 2_000] {
        let [mail]: [Owed; 1] = outbox::hand_out(&state, at(now), 10).await.try_into().unwrap();
        assert!(state.begin(mail.row, "line").await.unwrap());
        state.sent(mail.row, at(now)).await.unwrap();
        state.resolve(&over).await.unwrap();
    }
    state.shut().await;
    let file = world.settings().directory.join("state.db");
    let connection = rusqlite::Connection::open(file).unwrap();
    let rows = |table: &str| -> i64 {
        connection
            .query_row(&format!("SELECT count(*) FROM {table}"), [], |row| row.get(0))
            .unwrap()
    };
    assert_eq!((rows("outbox"), rows("incident"), rows("letter")), (0, 0, 2));
}

#[tokio::test]
async fn what_a_killed_process_had_leased_is_free_at_once() {
    let world = Sqlite::make().await;
    crash::killed_after("intend", &world);
    let state = open(&world).await;
    assert!(state.take_lease(&ann(), at(1), LIFE).await.unwrap().is_some());
}

#[tokio::test]
async fn a_holder_that_is_gone_has_no_lease_and_one_that_is_there_keeps_its_own() {
    let world = Sqlite::make().await;
    let (one, two) = (open(&world).await, open(&world).await);
    one.take_lease(&ann(), at(0), LIFE).await.unwrap().unwrap();
    // A third one that starts must not take the living for dead.
    let three = open(&world).await;
    assert_eq!(two.take_lease(&ann(), at(1), LIFE).await.unwrap(), None);
    assert_eq!(three.take_lease(&ann(), at(1), LIFE).await.unwrap(), None);
    one.shut().await;
    assert!(two.take_lease(&ann(), at(1), LIFE).await.unwrap().is_some());
}

#[tokio::test]
async fn what_holders_leave_in_the_directory_is_cleared_away() {
    let world = Sqlite::make().await;
    let directory = world.settings().directory;
    let holders = || {
        let entries = fs::read_dir(&directory).unwrap();
        let names = entries.map(|entry| entry.unwrap().file_name().into_string().unwrap());
        names.filter(|name| name.ends_with(".holder")).collect::<Vec<_>>()
    };
    open(&world).await.shut().await;
    assert_eq!(holders(), [""; 0]);
    fs::write(directory.join("dead.holder"), "").unwrap();
    let state = open(&world).await;
    assert_eq!(holders().len(), 1, "its own");
    state.shut().await;
    assert_eq!(holders(), [""; 0]);
}
