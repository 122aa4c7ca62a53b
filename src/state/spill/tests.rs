use super::*;
use crate::core::Secret;
use std::os::unix::fs::{PermissionsExt, symlink};

async fn state(folder: &Path) -> (State, Settings) {
    let mut settings = Settings::in_directory(folder.join("state"));
    settings.spill = Some(folder.to_owned());
    (State::open(&settings).await.unwrap(), settings)
}

fn spilled(account: &str, number: u32) -> Spilled {
    Spilled {
        entry: EntryId(7),
        id: AccountId::new("tiktok", account),
        old: Fingerprint::from_hash(1),
        spending: Fingerprint::from_hash(u64::MAX),
        token: Token {
            access: Secret::new(format!("act.invented.{number}")),
            refresh: Some(Secret::new(format!("rft.invented.{number}"))),
            issued_at: None,
            expires_at: None,
            refresh_expires_at: None,
            scopes: None,
            subject: None,
        },
    }
}

/// Every file below `folder`, with its mode and content.
fn files(folder: &Path) -> Vec<(PathBuf, u32, Vec<u8>)> {
    let mut found = Vec::new();
    for entry in fs::read_dir(folder).unwrap().map(Result::unwrap) {
        let about = entry.metadata().unwrap();
        if about.is_dir() && !entry.path().ends_with("state") {
            assert_eq!(about.permissions().mode() & 0o777, 0o700);
            found.extend(files(&entry.path()));
        } else if about.is_file() {
            let content = fs::read(entry.path()).unwrap();
            found.push((entry.path(), about.permissions().mode() & 0o777, content));
        }
    }
    found
}

#[tokio::test]
async fn what_is_written_is_read_again_by_whoever_has_the_key_and_says_nothing_to_others() {
    let folder = tempfile::tempdir().unwrap();
    let (state, settings) = state(folder.path()).await;
    let spill = Arc::new(state.spill(&settings));
    let (name, record) = state.seal_spilled(&spilled("ann", 1)).unwrap();
    let path = spill.write(&name, record).await.unwrap();
    assert_eq!(spill.len(), 1);

    let [(at, mode, content)] = files(folder.path()).try_into().unwrap();
    assert_eq!((&at, mode), (&path, 0o600));
    let shown = format!("{}{}", at.display(), String::from_utf8_lossy(&content));
    for secret in ["ann", "tiktok", "invented"] {
        assert!(!shown.contains(secret), "{shown}");
    }

    let later = Arc::new(state.spill(&settings));
    let [(found, record)] = later.read(BTreeSet::new()).await.try_into().unwrap();
    assert_eq!(found, name);
    let opened = state.open_spilled(&record).unwrap();
    assert_eq!(opened.id, AccountId::new("tiktok", "ann"));
    assert_eq!((opened.entry, opened.old), (EntryId(7), Fingerprint::from_hash(1)));
    assert_eq!(opened.spending, Fingerprint::from_hash(u64::MAX));
    assert_eq!(opened.token.refresh.unwrap().expose(), "rft.invented.1");

    later.remove(&found);
    assert!(later.is_empty());
    let left: Vec<_> = fs::read_dir(folder.path()).unwrap().map(Result::unwrap).collect();
    assert_eq!(left.len(), 1, "the folder is gone with its last file: {left:?}");
}

#[tokio::test]
async fn the_same_token_of_the_same_attempt_lies_there_once() {
    let folder = tempfile::tempdir().unwrap();
    let (state, settings) = state(folder.path()).await;
    let spill = Arc::new(state.spill(&settings));
    let names = [("ann", 1), ("ann", 1), ("ann", 2), ("bob", 1)].map(|(account, number)| {
        let (name, record) = state.seal_spilled(&spilled(account, number)).unwrap();
        (name, record)
    });
    for (name, record) in names {
        spill.write(&name, record).await.unwrap();
    }
    assert_eq!(files(folder.path()).len(), 3);
    assert_eq!(spill.read(BTreeSet::new()).await.len(), 3);
    assert_eq!(spill.read(spill.readable()).await.len(), 0, "what is known is not read again");
}

#[tokio::test]
async fn a_folder_that_is_not_ours_alone_is_not_used() {
    let place = tempfile::tempdir().unwrap();
    let (state, settings) = state(place.path()).await;
    let spill = Arc::new(state.spill(&settings));
    let (name, record) = state.seal_spilled(&spilled("ann", 1)).unwrap();
    let folder = spill.folders[0].path().to_owned();

    fs::create_dir(&folder).unwrap();
    fs::set_permissions(&folder, fs::Permissions::from_mode(0o777)).unwrap();
    let refused = spill.write(&name, record.clone()).await.unwrap_err();
    assert!(refused.contains("not ours alone"), "{refused}");
    fs::write(folder.join(format!("planted{ENDING}")), b"x").unwrap();
    assert_eq!(spill.read(BTreeSet::new()).await.len(), 0);
    fs::remove_dir_all(&folder).unwrap();

    let elsewhere = tempfile::tempdir().unwrap();
    symlink(elsewhere.path(), &folder).unwrap();
    assert!(spill.write(&name, record.clone()).await.is_err(), "it was written through a link");
    fs::remove_file(&folder).unwrap();

    spill.write(&name, record).await.unwrap();
}

#[tokio::test]
async fn damaged_files_and_remains_are_left_alone_and_counted_or_removed() {
    let place = tempfile::tempdir().unwrap();
    let (state, settings) = state(place.path()).await;
    let spill = Arc::new(state.spill(&settings));
    let (name, mut record) = state.seal_spilled(&spilled("ann", 1)).unwrap();
    *record.last_mut().unwrap() ^= 1;
    let path = spill.write(&name, record).await.unwrap();
    let folder = path.parent().unwrap();
    let remains = |name: &str, age| {
        let file = fs::File::create(folder.join(name)).unwrap();
        let then = std::time::SystemTime::now() - std::time::Duration::from_secs(age);
        file.set_modified(then).unwrap();
    };
    remains(".young", 1);
    remains(".old", 100_000);

    let [(found, record)] = spill.read(BTreeSet::new()).await.try_into().unwrap();
    assert!(state.open_spilled(&record).unwrap_err().to_string().contains("altered"));
    spill.refuse(&found);
    assert_eq!((spill.len(), spill.readable().len()), (1, 0));
    assert_eq!(spill.read(BTreeSet::new()).await.len(), 0, "it is not read again");
    assert_eq!(spill.len(), 1);
    assert!(folder.join(".young").exists());
    assert!(!folder.join(".old").exists());
}

#[tokio::test]
async fn there_is_a_bound_on_what_lies_there() {
    let place = tempfile::tempdir().unwrap();
    let (state, settings) = state(place.path()).await;
    let spill = Arc::new(state.spill(&settings));
    let (name, record) = state.seal_spilled(&spilled("ann", 1)).unwrap();
    let refused = spill.write(&name, vec![0; 1 << 20]).await.unwrap_err();
    assert!(refused.contains("as much"), "{refused}");
    for number in 0..4_096 {
        fs::write(spill.folders[0].path().join(format!("{number}{ENDING}")), b"").unwrap();
    }
    assert!(spill.write(&name, record).await.unwrap_err().contains("as much"));
}

#[tokio::test]
async fn a_place_that_refuses_leads_to_the_next() {
    let place = tempfile::tempdir().unwrap();
    let (state, _) = state(place.path()).await;
    let file = place.path().join("file");
    fs::write(&file, b"").unwrap();
    let folders = vec![Folder::new(file.join("ours")), Folder::new(place.path().join("ours"))];
    let spill = Arc::new(Spill { folders, lying: Mutex::default() });
    let (name, record) = state.seal_spilled(&spilled("ann", 1)).unwrap();
    let path = spill.write(&name, record).await.unwrap();
    assert!(path.starts_with(place.path().join("ours")));
    assert_eq!(spill.read(BTreeSet::new()).await.len(), 1);
}

#[test]
fn a_place_is_examined_without_being_touched() {
    let place = tempfile::tempdir().unwrap();
    let mut settings = Settings::in_directory(place.path().join("state"));
    settings.spill = Some(place.path().join("missing"));
    assert!(examine(&settings).unwrap_err().contains("no token could be spilled there"));
    settings.spill = Some(place.path().to_owned());
    assert!(examine(&settings).unwrap_err().contains("same filesystem"));
    assert_eq!(fs::read_dir(place.path()).unwrap().count(), 0);
}
