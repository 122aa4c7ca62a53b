//! Directory, key and schema.

use super::*;
use std::collections::BTreeSet;

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
async fn several_that_open_a_new_state_at_once_share_one_key() {
    for round in 0..10 {
        let folder = folder();
        let opening: Vec<_> = (0..4)
            .map(|_| {
                let settings = settings(folder.path());
                tokio::spawn(async move { State::open(&settings).await })
            })
            .collect();
        let mut fingerprints = BTreeSet::new();
        for state in opening {
            let state = state.await.unwrap().unwrap_or_else(|error| panic!("{round}: {error}"));
            let secret = Secret::new("invented".to_owned());
            fingerprints.insert(state.fingerprinter().of_secret(&secret).as_hash());
        }
        assert_eq!(fingerprints.len(), 1, "round {round}");
    }
}

#[tokio::test]
async fn a_named_key_file_is_used_and_nothing_else_is_made() {
    let folder = folder();
    let key_file = folder.path().join("sealing-key");
    fs::write(&key_file, "AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8=\n").unwrap();
    let settings = Settings { directory: folder.path().join("state"), key_file: Some(key_file) };
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
