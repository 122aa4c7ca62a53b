//! The other commands, and what they tell scripts by their exit codes.

use crate::{
    postgres::Schema,
    process::{command, stderr, stdout},
    until_or,
    world::{HELD_BACK, OPERATOR, World, owner},
};
use oauth_keepalive::demo::provider::{Fault, Lasting, Refreshed, Surface};
use std::{
    collections::BTreeMap,
    fs,
    path::{Path, PathBuf},
    time::{Duration, SystemTime},
};

const DONE: Option<i32> = Some(0);
const FAILED: Option<i32> = Some(1);
const USAGE: Option<i32> = Some(2);
const UNREACHABLE: Option<i32> = Some(3);

/// Every file beneath a folder, with its size, its last change and what it says.
fn everything_in(folder: &Path) -> BTreeMap<PathBuf, (u64, SystemTime, Vec<u8>)> {
    let mut found = BTreeMap::new();
    for entry in fs::read_dir(folder).unwrap() {
        let (path, data) = entry.map(|entry| (entry.path(), entry.metadata().unwrap())).unwrap();
        if data.is_dir() {
            found.extend(everything_in(&path));
            found.insert(path, (0, SystemTime::UNIX_EPOCH, Vec::new()));
        } else {
            let content = (data.len(), data.modified().unwrap(), fs::read(&path).unwrap());
            found.insert(path, content);
        }
    }
    found
}

async fn run(world: &World, arguments: &[&str]) -> (Option<i32>, String, String) {
    let config = world.config();
    let mut all = arguments.to_vec();
    all.extend(["--config", config.to_str().unwrap()]);
    let output = command(&all).await;
    (output.status.code(), stdout(&output), stderr(&output))
}

#[tokio::test]
async fn check_is_content_with_a_good_configuration_and_leaves_no_trace() {
    for journal in ["wal", "delete"] {
        let plan = World::new();
        let plan = if journal == "wal" { plan } else { plan.without_wal() };
        let world = plan.prepare().await;
        let before = everything_in(world.folder.path());
        let (code, said, complaints) = run(&world, &["check"]).await;
        assert_eq!(code, DONE, "{said}{complaints}");
        for word in ["configuration", "store", "state", "spill", "mail", "clock"] {
            assert!(said.contains(word), "{word} was not looked at: {said}");
        }
        assert!(said.contains("2 accounts"), "{said}");
        let after = everything_in(world.folder.path());
        assert_eq!(before.keys().collect::<Vec<_>>(), after.keys().collect::<Vec<_>>());
        let changed = before.iter().find(|(path, content)| after[*path] != **content);
        assert_eq!(changed.map(|(path, _)| path), None, "with journal_mode {journal}");
        assert!(!world.path("state").exists());
        assert_eq!(world.refreshes().len(), world.provider.count(|_| true));
        assert!(world.kept("brand-01") && world.mailbox.mails().is_empty());

        let (code, json, _) = run(&world, &["check", "-o", "json"]).await;
        assert_eq!(code, DONE);
        let findings: serde_json::Value = serde_json::from_str(&json).unwrap();
        assert!(findings.as_array().unwrap().len() >= 5, "{json}");
    }
}

#[tokio::test]
async fn check_names_what_cannot_be_reached_and_says_so_in_its_exit_code() {
    let mut world = World::new().prepare().await;
    fs::rename(world.path("publisher.db"), world.path("elsewhere.db")).unwrap();
    let (code, said, _) = run(&world, &["check"]).await;
    assert_eq!(code, UNREACHABLE, "{said}");
    assert!(said.lines().any(|line| line.starts_with("wrong") && line.contains("store")), "{said}");
    fs::rename(world.path("elsewhere.db"), world.path("publisher.db")).unwrap();
    // Port 9 is nobody's mail server.
    let mail = "{enabled: true, from: \"a@invented.example\", operator: [\"b@invented.example\"], \
                smtp: {host: \"127.0.0.1\", port: 9, tls: none, deadline: 2s}}";
    world.reconfigure("mail", mail);
    let (code, said, _) = run(&world, &["check"]).await;
    assert_eq!(code, UNREACHABLE, "{said}");
    assert!(said.lines().any(|line| line.starts_with("wrong") && line.contains("mail")), "{said}");
}

#[tokio::test]
async fn each_wrong_configuration_is_named_with_file_line_key_and_remedy() {
    let mut names: Vec<String> = fs::read_dir("tests/config")
        .unwrap()
        .map(|entry| entry.unwrap().path().display().to_string())
        .filter(|path| path.contains("/invalid-") && path.ends_with(".yaml"))
        .collect();
    names.sort();
    let mut known = 0;
    for name in names {
        for subcommand in ["check", "run"] {
            let output = command(&[subcommand, "--log.format", "text", "--config", &name]).await;
            let told = stderr(&output);
            assert_eq!(output.status.code(), USAGE, "{subcommand} {name}: {told}");
            assert_eq!(stdout(&output), "", "{name}");
            // What is wrong may stand in a file that this one names.
            let (file, message) = told
                .strip_prefix("oauth-keepalive: ")
                .and_then(|rest| rest.split_once(':'))
                .unwrap_or_else(|| panic!("{name}: no file is named first: {told}"));
            let is_named = ["tests/config/providers/", "tests/config/web/"];
            let is_named = is_named.iter().any(|folder| file.starts_with(folder));
            assert!(file == name || is_named, "{name}: {told}");
            let line = message.split(':').next();
            let line = line.and_then(|line| line.trim().parse::<u32>().ok());
            assert!(line.is_some_and(|line| line > 0), "{name} without a line: {told}");
            assert!(message.contains(';'), "{name} without a remedy: {told}");
            // The whole text was read by a person; a few name providers that only the tests know.
            let expected = fs::read_to_string(Path::new(&name).with_extension("txt")).unwrap();
            known += usize::from(told == format!("oauth-keepalive: {expected}"));
        }
    }
    assert!(known >= 2 * 25, "{known} known texts");
}

#[tokio::test]
async fn a_command_line_that_is_wrong_and_a_file_that_is_not_there_are_told_apart_from_trouble() {
    for arguments in [
        vec!["check", "--config", "/nowhere/config.yaml"],
        vec!["run", "--config", "/nowhere/config.yaml"],
        vec!["refresh", "no-provider"],
        vec!["refresh"],
        vec!["invent"],
        vec!["accounts", "-o", "xml"],
    ] {
        let output = command(&arguments).await;
        assert_eq!(output.status.code(), USAGE, "{arguments:?}: {}", stderr(&output));
        assert!(!stderr(&output).is_empty());
        assert_eq!(stdout(&output), "");
    }
}

#[tokio::test]
async fn what_is_imported_from_csv_yaml_and_json_is_listed_and_kept_alive() {
    let plan = World::new().accounts(0).life(8);
    let plan = plan.section("store", "{kind: sqlite, path: new.db, poll_every: 500ms}");
    let mut world = plan.prepare().await;
    let row = |account: &str| {
        let token = world.provider.connect(account, &crate::world::SCOPES, Duration::ZERO);
        let refresh = token.refresh.unwrap().expose().to_owned();
        let expires_at = token.expires_at.unwrap().as_unix();
        (token.access.expose().to_owned(), refresh, expires_at)
    };
    let (access, refresh, ends) = row("from-csv");
    let csv = format!(
        "provider,account,access_token,refresh_token,expires_at,owner\n\
         tiktok,from-csv,{access},{refresh},{ends},owner@invented.example\n"
    );
    let (access, refresh, ends) = row("from-yaml");
    let yaml = format!(
        "accounts:\n  - provider: tiktok\n    account: from-yaml\n    access_token: {access}\n    \
         refresh_token: {refresh}\n    expires_at: {ends}\n"
    );
    let (access, refresh, ends) = row("from-json");
    let json = format!(
        r#"{{"accounts": [{{"provider": "tiktok", "account": "from-json", "access_token": "{access}",
           "refresh_token": "{refresh}", "expires_at": {ends}}}]}}"#
    );
    for (name, text) in [("a.csv", csv), ("a.yaml", yaml), ("a.json", json)] {
        fs::write(world.path(name), text).unwrap();
        let file = world.path(name).display().to_string();
        let (code, said, complaints) = run(&world, &["import", &file]).await;
        assert_eq!(code, DONE, "{name}: {complaints}");
        assert_eq!(said, "1 added, 0 there already, 0 not imported\n");
        let (code, said, complaints) = run(&world, &["import", &file]).await;
        assert_eq!(code, DONE, "{name}: {complaints}");
        assert_eq!(said, "0 added, 1 there already, 0 not imported\n");
    }
    fs::write(world.path("b.csv"), "provider,account,access_token\ntiktok,,x\n").unwrap();
    let (code, _, complaints) =
        run(&world, &["import", &world.path("b.csv").display().to_string()]).await;
    assert_eq!(code, FAILED);
    assert!(complaints.contains("line 2") && complaints.contains("account"), "{complaints}");
    let (code, ..) = run(&world, &["import", "/nowhere/accounts.csv"]).await;
    assert_eq!(code, USAGE);

    let (code, table, complaints) = run(&world, &["accounts"]).await;
    assert_eq!(code, DONE, "{complaints}");
    let (code, list, _) = run(&world, &["accounts", "--output", "json"]).await;
    assert_eq!(code, DONE);
    let list: serde_json::Value = serde_json::from_str(&list).unwrap();
    assert_eq!(list.as_array().unwrap().len(), 3, "{list}");
    world.start().await;
    for account in ["from-csv", "from-yaml", "from-json"] {
        assert!(table.contains(&format!("tiktok/{account}")), "{table}");
        assert!(list.as_array().unwrap().iter().any(|row| row["account"] == account), "{list}");
        world.until_rotated(account, 1).await;
        world.until_cause(account, "none").await;
    }
    world.assert_well_behaved();
}

#[tokio::test]
async fn a_refresh_by_hand_and_the_running_program_never_get_in_each_others_way() {
    let world = World::new().accounts(3).life(6).start().await;
    world.until_ready().await;
    let mut renewed = 0;
    until_or(
        "an account is renewed ten times by two hands",
        async || {
            let (code, said, complaints) =
                run(&world, &["refresh", "tiktok/brand-01", "-o", "json"]).await;
            match code {
                DONE => renewed += 1,
                _ => assert!(said.contains("lease_held"), "{said}{complaints}"),
            }
            world.rotations("brand-01") >= 10 && world.rotations("brand-02") >= 3
        },
        || world.tell(),
    )
    .await;
    assert!(renewed > 0);
    world.assert_well_behaved();
    until_or("the newest is kept", async || world.kept("brand-01"), || world.tell()).await;
    world.until_cause("brand-01", "none").await;
    assert_eq!(world.mailbox.mails(), []);
}

#[tokio::test]
async fn the_exit_code_of_a_refresh_says_how_it_went() {
    // None is due by itself while the commands run.
    let world = World::new().accounts(4).life(3_600).section("http", HELD_BACK).start().await;
    world.until_ready().await;
    let (code, said, complaints) = run(&world, &["refresh", "tiktok/brand-01"]).await;
    assert_eq!(code, DONE, "{said}{complaints}");
    assert!(said.starts_with("tiktok/brand-01: refreshed"), "{said}");
    assert_eq!(world.refreshed("brand-01"), [Refreshed::Rotated]);
    assert!(world.kept("brand-01"));

    let (code, _, complaints) = run(&world, &["refresh", "tiktok/nobody"]).await;
    assert_eq!(code, USAGE);
    assert!(complaints.contains("tiktok/nobody"), "{complaints}");

    world.provider.revoke_consent("brand-02");
    let (code, said, _) = run(&world, &["refresh", "tiktok/brand-02", "-o", "json"]).await;
    assert_eq!(code, FAILED);
    assert!(said.contains("refresh_token_rejected"), "{said}");

    let lost = Fault::LoseAnswer;
    world.provider.plant(Some("brand-03"), Surface::Token, lost, Lasting::Times(1));
    let (code, said, _) = run(&world, &["refresh", "tiktok/brand-03", "-o", "json"]).await;
    assert_eq!(code, FAILED);
    assert!(said.contains("ambiguous"), "{said}");

    world.provider.plant(Some("brand-04"), Surface::Token, Fault::HoldAnswer, Lasting::Times(1));
    let (first, second) = tokio::join!(run(&world, &["refresh", "tiktok/brand-04"]), async {
        world.until_held_back().await;
        let second = run(&world, &["refresh", "tiktok/brand-04", "-o", "json"]).await;
        world.provider.release();
        second
    });
    assert_eq!(first.0, DONE, "{}", first.2);
    assert_eq!(second.0, FAILED);
    assert!(second.1.contains("lease_held"), "{}", second.1);
    assert_eq!(world.refreshed("brand-04"), [Refreshed::Rotated]);

    fs::rename(world.path("publisher.db"), world.path("elsewhere.db")).unwrap();
    let (code, ..) = run(&world, &["refresh", "tiktok/brand-01"]).await;
    assert_eq!(code, UNREACHABLE);
    let (code, ..) = run(&world, &["accounts"]).await;
    assert_eq!(code, UNREACHABLE);
}

/// Of the account whose owner takes the consent back.
async fn a_mail_is_listed_without_its_address(world: &mut World) {
    world.provider.revoke_consent("brand-01");
    world.until_mails(&owner("brand-01"), 1).await;
    let is_sent = async || run(world, &["notices"]).await.1.contains("1 sent");
    until_or("the mail is noted as sent", is_sent, || world.tell()).await;
    let (code, said, complaints) = run(world, &["notices"]).await;
    assert_eq!(code, DONE, "{said}{complaints}");
    assert!(said.contains("tiktok/brand-01") && !said.contains(&owner("brand-01")), "{said}");
    let (code, said, _) = run(world, &["notices", "--output", "json"]).await;
    assert_eq!(code, DONE);
    let list: serde_json::Value = serde_json::from_str(&said).unwrap();
    assert_eq!((&list[0]["state"], &list[0]["notices"]), (&"sent".into(), &1.into()));
    assert!(!said.contains(&owner("brand-01")), "{said}");
}

#[tokio::test]
async fn notices_lists_what_lies_in_a_state_on_postgresql_too() {
    let state = Schema::new().on_socket("state", "30s");
    let mut world = World::new().section("state", &state).prepare().await;
    world.write_state_key();
    world.start().await;
    a_mail_is_listed_without_its_address(&mut world).await;
}

#[tokio::test]
async fn notices_lists_mails_without_addresses_and_a_test_mail_says_what_the_server_answered() {
    let mut world = World::new().start().await;
    a_mail_is_listed_without_its_address(&mut world).await;

    let (code, said, complaints) = run(&world, &["notices", "--send-test"]).await;
    assert_eq!(code, DONE, "{said}{complaints}");
    let mails = world.until_mails(OPERATOR, 1).await;
    assert!(mails[0].text.contains("This is a test"), "{}", mails[0].text);
    assert!(said.contains("took a test mail") && !said.contains(OPERATOR), "{said}");
    let (code, _, complaints) = run(&world, &["notices", "--send-test", "nobody@*"]).await;
    assert_eq!(code, USAGE, "{complaints}");
    let nowhere = format!(
        "{{enabled: true, from: \"keepalive@invented.example\", operator: [\"{OPERATOR}\"], \
         smtp: {{host: \"127.0.0.1\", port: 1, tls: none}}}}"
    );
    world.reconfigure("mail", &nowhere);
    let (code, _, complaints) = run(&world, &["notices", "--send-test"]).await;
    assert_eq!(code, UNREACHABLE, "{complaints}");
    world.reconfigure("mail", "{enabled: false}");
    let (code, _, complaints) = run(&world, &["notices", "--send-test"]).await;
    assert_eq!(code, USAGE, "{complaints}");
}
