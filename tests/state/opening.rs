//! Directory, key and schema.

use super::*;
use std::collections::BTreeSet;

pub(crate) async fn a_state_that_was_closed_has_the_same_key_and_the_same_contents<B: Backend>() {
    let world = B::make().await;
    let state = open(&world).await;
    let before = state.fingerprinter().of_secret(&Secret::new("invented".to_owned()));
    let entry = intended(&state, &ann()).await;
    state.record_result(entry, &ann(), &token("one")).await.unwrap();
    state.shut().await;

    let state = open(&world).await;
    assert_eq!(state.fingerprinter().of_secret(&Secret::new("invented".to_owned())), before);
    let open = state.open_entry(&ann()).await.unwrap().unwrap();
    assert_eq!(open.entry, entry);
    assert_eq!(open.intent, intent());
    assert_eq!(open.result, Some(token("one")));
    state.probe().await.unwrap();
}

pub(crate) async fn several_that_open_a_new_state_at_once_share_one_key<B: Backend>() {
    for round in 0..10 {
        let world = B::make().await;
        let opening: Vec<_> = (0..4)
            .map(|_| {
                let settings = world.settings();
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

pub(crate) async fn a_named_key_file_is_used_and_nothing_else_is_made<B: Backend>() {
    let world = B::make().await;
    let key_file = world.folder().join("sealing-key");
    fs::write(&key_file, "AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8=\n").unwrap();
    let settings = Settings { key_file: Some(key_file), ..world.settings() };
    State::open(&settings).await.unwrap().shut().await;
    assert!(!settings.directory.join("key").exists());
    State::open(&settings).await.unwrap();
}

pub(crate) async fn a_key_file_that_is_missing_or_wrong_is_named_with_the_remedy<B: Backend>() {
    let world = B::make().await;
    for (name, contents) in [
        ("missing", None),
        ("empty", Some("")),
        ("short", Some("AAECAw==\n")),
        ("long", Some("AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8gISIj\n")),
        ("text", Some("not base64 at all, just words\n")),
    ] {
        let key_file = world.folder().join(name);
        contents.iter().for_each(|text| fs::write(&key_file, text).unwrap());
        let settings = Settings { key_file: Some(key_file), ..world.settings() };
        let (place, reason) = place_and_reason(State::open(&settings).await);
        assert!(place.ends_with(name), "{name}: {place}");
        assert!(reason.contains("key") || reason.contains("base64"), "{name}: {reason}");
        assert!(!reason.contains("words"), "{name}: the file's text is in {reason}");
    }
}

pub(crate) async fn another_key_does_not_open_the_state<B: Backend>() {
    let world = B::make().await;
    open(&world).await.shut().await;
    let directory = world.settings().directory;
    fs::write(directory.join("key"), "AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8=").unwrap();
    let opened = State::open(&world.settings()).await;
    assert!(matches!(opened, Err(Error::Damaged { .. })));
    let (place, reason) = place_and_reason(opened);
    assert!(world.is_named_by(&place), "{place}");
    assert!(reason.contains("sealed with another key"), "{reason}");
}

pub(crate) async fn a_state_of_a_newer_program_is_left_alone<B: Backend>() {
    let world = B::make().await;
    open(&world).await.shut().await;
    world.age_to_version(99).await;
    let opened = State::open(&world.settings()).await;
    assert!(matches!(opened, Err(Error::Damaged { .. })));
    assert!(place_and_reason(opened).1.contains("version 99"));
}

pub(crate) async fn a_file_where_the_directory_should_be_is_named<B: Backend>() {
    let world = B::make().await;
    fs::write(world.folder().join("state"), "a file").unwrap();
    let (place, reason) = place_and_reason(State::open(&world.settings()).await);
    assert!(place.ends_with("state") && reason.contains("not a directory"), "{reason}");
}
