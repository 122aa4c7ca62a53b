//! What only a file can do wrong.

use crate::{
    contract::shows_no_value,
    kinds::{Folder, fingerprinter, id, load, secret, token},
};
use oauth_keepalive::{
    core::Timestamp,
    oauth::Token,
    stores::{AnyStore, Error, Saved, Settings, TokenStore, create, file},
};
use std::{
    fs,
    os::unix::fs::{MetadataExt, PermissionsExt, chown, symlink},
    time::Duration,
};

const YAML: &str = include_str!("../fixtures/stores/publisher.yaml");
const JSON: &str = include_str!("../fixtures/stores/publisher.json");

#[tokio::test]
async fn a_save_replaces_the_values_and_leaves_comments_layout_and_escapes_alone() {
    for (name, before) in [("a.yaml", YAML), ("a.json", JSON)] {
        let folder = Folder::with(name, before);
        save(&folder, "brand-a", "act.invented-a2").await;
        let after = folder.text();
        let changed = |text: &str| {
            let keys = ["access_token", "refresh_token", "expires_at"];
            text.lines()
                .filter(|line| !keys.iter().any(|key| line.contains(key)))
                .map(str::to_owned)
                .collect::<Vec<_>>()
        };
        assert_eq!(changed(&after), changed(before), "{name}");
        assert!(after.contains("act.invented-a2") && !after.contains("act.invented-a1"));
        assert!(name != "a.yaml" || after.contains("\"act.invented-a2\"   # rotated by the"));
    }
}

#[tokio::test]
async fn keys_that_were_not_there_are_put_in() {
    for (name, before) in [
        (
            "a.yaml",
            "accounts:\n- account: brand-a # first\n  provider: tiktok\n  access_token: x-1\nlast: 1\n",
        ),
        (
            "b.yaml",
            "accounts:\r\n  - provider: tiktok\r\n    access_token: x-1\r\n    account: brand-a",
        ),
        ("c.yaml", "accounts: [{provider: tiktok, account: brand-a, access_token: x-1}]\n"),
        (
            "d.yaml",
            "accounts:\n  - provider: tiktok\n    account: brand-a\n    access_token: >-\n      x-1\n",
        ),
        (
            "e.yaml",
            "accounts:\n  - provider: tiktok\n    account: brand-a\n    access_token: &same x-1\n    old: *same\n",
        ),
        (
            "f.yaml",
            "accounts:\n  - provider: tiktok\n    account: brand-a\n    access_token: x-1\n    refresh_token:\n    expires_at:\n",
        ),
        (
            "g.json",
            "{\"accounts\":[{\"access_token\":\"x-1\",\"account\":\"brand-a\",\"provider\":\"tiktok\"}]}",
        ),
        (
            "h.json",
            "{\"accounts\": [\n\t{\n\t\t\"access_token\": \"x-1\",\n\t\t\"account\": \"brand-a\",\n\t\t\"provider\": \"tiktok\"\n\t}\n]}\n",
        ),
    ] {
        let folder = Folder::with(name, before);
        save(&folder, "brand-a", "act.invented-2").await;
        let found = open(&folder).await.get(&id("brand-a")).await.unwrap().expect("it is there");
        let found = found.token.expect("it has a token");
        assert_eq!(found.access.expose(), "act.invented-2", "{name}");
        assert_eq!(found.refresh, Some(secret("rft.invented-2")), "{name}");
        assert_eq!(found.expires_at, Some(Timestamp::from_unix(1_795_352_400)), "{name}");
        assert!(!before.contains('#') || folder.text().contains("# first"), "{name}");
        assert!(!before.contains("last") || folder.text().contains("last: 1"), "{name}");
    }
}

#[tokio::test]
async fn every_wrong_entry_is_reported_with_its_line_and_key() {
    let folder = Folder::with(
        "a.yaml",
        "\
accounts:
  - account: no-provider
  - provider: tiktok
    account: ''
  - provider: tiktok
    account: number
    access_token: 1234567890
  - provider: tiktok
    account: date
    access_token: act.invented
    expires_at: invented-soon
  - provider: tiktok
    account: millis
    expires_at: 1795348800000
  - provider: tiktok
    account: good
    access_token: act.invented
  - provider: tiktok
    account: good
  - invented-text
  - provider: tik/tok
    account: slash
  - provider: tiktok
    account: scopes
    scopes: [video.publish, 7]
  - {provider: tiktok, account: 7123456789012345678}
",
    );
    let (found, damaged) = load(&open(&folder).await).await;
    let names = found.iter().map(|account| &*account.id.account).collect::<Vec<_>>();
    assert_eq!(names, ["7123456789012345678", "good"]);
    let path = folder.path();
    let mut places = Vec::new();
    for error in &damaged {
        shows_no_value(error);
        let (Error::Damaged { place, .. } | Error::Row { place, .. }) = error else {
            panic!("{error:?}")
        };
        places.push(place.replace(&path.display().to_string(), "").to_owned());
    }
    assert_eq!(
        places,
        [
            ":2: accounts[0].provider",
            ":4: accounts[1].account",
            ":7: accounts[2].access_token",
            ":11: accounts[3].expires_at",
            ":14: accounts[4].expires_at",
            ":19: accounts[6].account",
            ":20: accounts[7]",
            ":21: accounts[8].provider",
            ":25: accounts[9].scopes",
        ]
    );
}

#[tokio::test]
async fn a_file_that_is_no_store_is_refused_with_its_line() {
    for (name, content, place) in [
        ("a.yaml", "accounts:\n  - provider: \"invented\n", ":"),
        ("b.yaml", "accounts:\n  - a: 1\n    a: invented\n", ""),
        ("c.json", "{\n  \"accounts\": [\n    invented\n", ":3: file"),
        ("d.yaml", "", ": accounts"),
        ("e.yaml", "accounts:\n", ":1: accounts"),
        ("f.yaml", "version: 1\naccounts: invented\n", ":2: accounts"),
        ("g.json", "[]", ": accounts"),
        ("h.toml", "accounts = []", ""),
    ] {
        let folder = Folder::with(name, content);
        let opened = AnyStore::open(&folder.settings(), fingerprinter()).await;
        let error = opened.expect_err(name);
        shows_no_value(&error);
        let Error::Damaged { place: found, .. } = &error else { panic!("{name}: {error:?}") };
        let rest = found.replace(&folder.path().display().to_string(), "");
        assert!(rest.contains(place), "{name}: {found}");
    }
}

#[tokio::test]
async fn a_file_that_became_empty_loses_no_account() {
    let folder = Folder::with("a.yaml", YAML);
    let store = open(&folder).await;
    fs::write(folder.path(), "").unwrap();
    let mut seen = 0;
    assert!(store.load(|_| seen += 1, |_| {}).await.is_err());
    assert_eq!(seen, 0);
}

#[tokio::test]
async fn a_replaced_file_keeps_its_mode_its_owner_and_its_link() {
    let folder = Folder::with("real.yaml", YAML);
    fs::set_permissions(folder.path(), fs::Permissions::from_mode(0o640)).unwrap();
    let link = folder.root.path().join("link.yaml");
    symlink(folder.path(), &link).unwrap();
    let settings = Settings::File(file::Settings { path: link.clone(), poll_every: DAY });
    let store = AnyStore::open(&settings, fingerprinter()).await.unwrap();
    // Only root can give a file away; for everybody else it stays what it is.
    let _ = chown(folder.path(), Some(7), Some(7));
    let before = fs::metadata(folder.path()).unwrap();
    assert_eq!(save_with(&store, "brand-a", "act.invented-2").await, Saved::Written);
    let after = fs::metadata(folder.path()).unwrap();
    assert_ne!(before.ino(), after.ino(), "it is a new file");
    assert_eq!(after.permissions().mode() & 0o7777, 0o640);
    assert_eq!((after.uid(), after.gid()), (before.uid(), before.gid()));
    assert!(fs::symlink_metadata(&link).unwrap().is_symlink());
    let mut names = fs::read_dir(folder.folder())
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect::<Vec<_>>();
    names.sort();
    assert_eq!(names, ["real.yaml", "real.yaml.lock"], "nothing else is left behind");
}

#[tokio::test]
async fn a_version_that_a_crash_left_behind_is_removed_by_the_next_save() {
    let folder = Folder::with("a.yaml", YAML);
    fs::write(folder.folder().join(".a.yaml.new"), "accounts: [half").unwrap();
    save(&folder, "brand-a", "act.invented-2").await;
    assert!(!folder.folder().join(".a.yaml.new").exists());
    assert_eq!(load(&open(&folder).await).await.0.len(), 3);
}

#[tokio::test]
async fn a_swapped_kubernetes_volume_is_noticed_again_and_again() {
    let root = tempfile::tempdir().unwrap();
    let version = |n: u32| {
        let folder = root.path().join(format!("..version_{n}"));
        fs::create_dir(&folder).unwrap();
        let text = YAML.replace("act.invented-a1", &format!("act.invented-{n}"));
        fs::write(folder.join("accounts.yaml"), text).unwrap();
        folder
    };
    symlink(version(1), root.path().join("..data")).unwrap();
    symlink("..data/accounts.yaml", root.path().join("accounts.yaml")).unwrap();
    let path = root.path().join("accounts.yaml");
    let settings = Settings::File(file::Settings { path, poll_every: DAY });
    let store = AnyStore::open(&settings, fingerprinter()).await.unwrap();
    for n in 2..5 {
        symlink(version(n), root.path().join("..data_tmp")).unwrap();
        fs::rename(root.path().join("..data_tmp"), root.path().join("..data")).unwrap();
        fs::remove_dir_all(root.path().join(format!("..version_{}", n - 1))).unwrap();
        tokio::time::timeout(PATIENCE, store.changed()).await.expect("the swap is noticed");
        let found = store.get(&id("brand-a")).await.unwrap().and_then(|account| account.token);
        assert_eq!(found.expect("a token").access.expose(), format!("act.invented-{n}"));
    }
}

#[tokio::test]
async fn without_a_directory_to_watch_the_poll_notices() {
    let folder = Folder::with("a.yaml", YAML);
    let path = folder.path();
    let poll_every = Duration::from_millis(50);
    let store =
        AnyStore::open(&Settings::File(file::Settings { path, poll_every }), fingerprinter())
            .await
            .unwrap();
    let away = folder.root.path().join("away");
    fs::rename(folder.folder(), &away).unwrap();
    fs::create_dir(folder.folder()).unwrap();
    // The new folder is not the watched one.
    fs::write(folder.path(), YAML).unwrap();
    tokio::time::timeout(PATIENCE, store.changed()).await.expect("the poll finds another file");
}

#[tokio::test]
async fn an_empty_store_is_made_once_and_takes_accounts() {
    for name in ["new.yaml", "new.json"] {
        let root = tempfile::tempdir().unwrap();
        let path = root.path().join("deep").join(name);
        let settings = Settings::File(file::Settings { path: path.clone(), poll_every: DAY });
        create(&settings).await.unwrap();
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
        let store = AnyStore::open(&settings, fingerprinter()).await.unwrap();
        for account in crate::kinds::accounts() {
            assert_eq!(store.add(&account).await.unwrap(), Saved::Written);
        }
        create(&settings).await.unwrap();
        let found = load(&store).await.0;
        let texts = |accounts: &[_]| accounts.iter().map(crate::kinds::as_text).collect::<Vec<_>>();
        assert_eq!(texts(&found), texts(&crate::kinds::accounts()), "{name}");
    }
}

async fn open(folder: &Folder) -> AnyStore {
    AnyStore::open(&folder.settings(), fingerprinter()).await.unwrap()
}

async fn save(folder: &Folder, account: &str, access: &str) {
    assert_eq!(save_with(&open(folder).await, account, access).await, Saved::Written);
}

async fn save_with(store: &AnyStore, account: &str, access: &str) -> Saved {
    let old = store.get(&id(account)).await.unwrap().expect("it is there");
    let old = old.token.expect("it has a token");
    let new = Token {
        expires_at: Some(Timestamp::from_unix(1_795_352_400)),
        issued_at: old.issued_at,
        refresh_expires_at: old.refresh_expires_at,
        ..token(access, Some("rft.invented-2"))
    };
    store.save(&id(account), &new, fingerprinter().of_token(&old)).await.unwrap()
}

const DAY: Duration = Duration::from_secs(86_400);
const PATIENCE: Duration = Duration::from_secs(60);
