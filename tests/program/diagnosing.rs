//! What `diagnose` says of accounts that broke in a running program, beside it and without disturbing it.

use crate::{
    http,
    process::{command, stderr, stdout},
    until_or,
    world::{REPORTS_SECRET, SCOPES, World, brands, owner},
};
use oauth_keepalive::demo::provider::{Fault, Lasting, Refreshed, Surface};
use serde_json::{Value, json};
use std::{fs, time::Duration};

const DONE: Option<i32> = Some(0);
const NEEDS_SOMEBODY: Option<i32> = Some(1);
const USAGE: Option<i32> = Some(2);
const UNREACHABLE: Option<i32> = Some(3);

/// As wide as a report may be, except for words that are wider.
const COLUMNS: usize = 80;

async fn diagnose(world: &World, arguments: &[&str]) -> (Option<i32>, String, String) {
    let config = world.config();
    let mut all = vec!["diagnose"];
    all.extend(arguments);
    all.extend(["--log-level", "error", "--config", config.to_str().unwrap()]);
    let output = command(&all).await;
    (output.status.code(), stdout(&output), stderr(&output))
}

async fn as_json(world: &World, arguments: &[&str]) -> Value {
    let mut all = arguments.to_vec();
    all.extend(["--output", "json"]);
    let (_, said, complaints) = diagnose(world, &all).await;
    serde_json::from_str(&said).unwrap_or_else(|error| panic!("{error}: {said}{complaints}"))
}

fn found<'a>(report: &'a Value, account: &str) -> &'a Value {
    let accounts = report["accounts"].as_array().unwrap();
    accounts.iter().find(|one| one["account"] == account).unwrap_or(&Value::Null)
}

/// What must hold of every report, whatever it is about.
fn assert_presentable(world: &World, report: &str) {
    for (number, token) in world.provider.issued().iter().enumerate() {
        assert!(!report.contains(token.as_str()), "token {number} is in the report");
    }
    assert!(!report.contains("invented-client-secret"), "the client's secret is in the report");
    for line in report.lines() {
        let is_one_word = line.trim_start().split(' ').count() == 1;
        assert!(is_one_word || line.chars().count() <= COLUMNS, "{line}");
    }
}

/// A row as the accounts of this world have it: cause, confidence, step and who acts.
type Expected = (&'static str, &'static str, &'static str, &'static str, &'static str);

#[tokio::test]
async fn each_broken_account_is_named_with_its_cause_and_its_one_step_and_no_token_is_told() {
    let plan = World::new().accounts(9).renewed_early().without_wal();
    let plan = plan.section("http", "{total_deadline: 4s, connect_deadline: 1s}");
    let mut world = plan.prepare().await;
    world.start().await;
    world.until_each_rotated(&brands(9), 1).await;
    world.provider.revoke_consent("brand-02");
    world.provider.drop_scope("brand-03", "video.publish");
    world.provider.plant(Some("brand-04"), Surface::Token, Fault::LoseAnswer, Lasting::Times(2));
    world.provider.end_refresh_token_in("brand-05", Duration::from_secs(1));
    let stranger = Fault::Member { name: "open_id", value: json!("somebody-else") };
    world.provider.plant(Some("brand-06"), Surface::Token, stranger, Lasting::Times(1));
    world.execute(
        "UPDATE accounts SET access_token = NULL, refresh_token = NULL WHERE account = 'brand-07'",
    );
    world.execute("UPDATE accounts SET refresh_token = NULL WHERE account = 'brand-08'");
    let expected: [Expected; 7] = [
        ("brand-02", "refresh_token_rejected", "certain", "reconnect", "owner"),
        ("brand-03", "scope_missing", "certain", "reconnect_granting_all", "owner"),
        ("brand-04", "rotation_lost", "likely", "reconnect", "owner"),
        ("brand-05", "refresh_token_expired", "certain", "reconnect", "owner"),
        ("brand-06", "wrong_environment", "certain", "compare_account", "operator"),
        ("brand-07", "not_renewable", "certain", "connect", "owner"),
        ("brand-08", "not_renewable", "certain", "reconnect", "owner"),
    ];
    for (account, cause, ..) in expected {
        // The provider calls an end that its answers never declared a rejection.
        if account != "brand-05" {
            world.until_cause(account, cause).await;
        }
    }
    let ended = async || {
        let cause = world.cause("brand-05").await;
        cause.is_some_and(|cause| {
            cause == "refresh_token_expired" || cause == "refresh_token_rejected"
        })
    };
    until_or("the refresh token of brand-05 has ended", ended, || world.tell()).await;
    // What the clerk was handed is written a moment later.
    let written = async || {
        let report = as_json(&world, &["--all"]).await;
        expected.iter().all(|(account, cause, ..)| {
            *account == "brand-05" || found(&report, account)["cause"] == *cause
        })
    };
    until_or("every cause is written down", written, || world.tell()).await;
    // A healthy account has been renewed since each failure: that rules the app out.
    world.until_each_rotated(&["brand-01", "brand-09"].map(str::to_owned), 1).await;

    let report = as_json(&world, &["--all"]).await;
    for (account, cause, confidence, step, actor) in expected {
        let one = found(&report, account);
        let made = [
            &one["cause"],
            &one["confidence"],
            &one["next_step"]["step"],
            &one["next_step"]["actor"],
        ];
        if account == "brand-05" {
            assert!(one["next_step"]["step"] == "reconnect", "{one:#}");
            continue;
        }
        assert_eq!(made, [cause, confidence, step, actor], "{account}: {one:#}");
        assert!(!one["reasons_for"].as_array().unwrap().is_empty(), "{account}");
    }
    for healthy in ["brand-01", "brand-09"] {
        assert_eq!(found(&report, healthy), &Value::Null, "{healthy} is well");
    }
    let rejected = found(&report, "brand-02");
    let failures = rejected["history"]["failures"].as_array().unwrap();
    let refused = failures.iter().find(|one| one["source"] == "refresh").unwrap();
    assert_eq!(refused["code"], "invalid_grant", "{rejected:#}");
    assert!(refused["log_id"].as_str().is_some_and(|id| !id.is_empty()), "{rejected:#}");
    assert!(refused["token_age_seconds"].is_u64(), "{rejected:#}");
    let out: Vec<&str> = rejected["ruled_out"]
        .as_array()
        .unwrap()
        .iter()
        .map(|one| one["cause"].as_str().unwrap())
        .collect();
    for cause in ["app_credentials_rejected", "redirect_uri_mismatch", "wrong_environment"] {
        assert!(out.contains(&cause), "{out:?}");
    }
    let lost = found(&report, "brand-03");
    assert_eq!(lost["history"]["scopes"][0]["missing"], json!(["video.publish"]), "{lost:#}");
    let facts: Vec<&str> = lost["reasons_for"]
        .as_array()
        .unwrap()
        .iter()
        .map(|one| one["fact"].as_str().unwrap())
        .collect();
    assert!(facts.contains(&"scopes_lost"), "{facts:?}");
    assert_eq!(found(&report, "brand-07")["history"]["writings"][0]["by"], "removed");

    let (code, said, complaints) = diagnose(&world, &["--all"]).await;
    assert_eq!(code, NEEDS_SOMEBODY, "{said}{complaints}");
    for (account, cause, ..) in expected {
        assert!(said.contains(&format!("tiktok/{account}: ")), "{cause}: {said}");
    }
    assert!(said.ends_with("9 accounts, 7 not well\n"), "{said}");
    assert_presentable(&world, &said);
    assert_presentable(&world, &complaints);
    // Its JSON is for scripts, and may be as wide as it likes.
    let text = report.to_string();
    assert!(!world.provider.issued().iter().any(|token| text.contains(token.as_str())));

    let (code, said, _) = diagnose(&world, &["tiktok/brand-01"]).await;
    assert_eq!(code, DONE, "{said}");
    assert!(said.starts_with("tiktok/brand-01: nothing is wrong\n"), "{said}");
    let (code, _, complaints) = diagnose(&world, &["tiktok/nobody"]).await;
    assert_eq!(code, USAGE);
    assert!(complaints.contains("tiktok/nobody is not in the store"), "{complaints}");

    // The page says the same.
    let page = world.running().get("/accounts/tiktok/brand-02").await.text();
    assert!(page.contains("This is <strong>certain</strong>"), "{page}");
    assert!(page.contains("Reconnect the account in your publishing tool."), "{page}");

    // The program went on as if nobody had looked.
    world.until_rotated("brand-01", 1).await;
    assert_eq!(world.program().terminate().await.code(), Some(0));

    // And after its end, and after the next start, the provider's own words are still there.
    let after = as_json(&world, &["tiktok/brand-02"]).await;
    let kept = &found(&after, "brand-02")["history"]["failures"];
    assert_eq!(kept, &rejected["history"]["failures"]);
    world.start().await;
    world.until_cause("brand-02", "refresh_token_rejected").await;
    let page = world.running().get("/accounts/tiktok/brand-02").await.text();
    assert!(page.contains("invalid_grant"), "{page}");
}

#[tokio::test]
async fn a_refused_app_is_diagnosed_as_a_whole_and_a_secret_file_that_is_gone_is_named() {
    let plan = World::new().accounts(4).life(8);
    let plan = plan.section("refresh", "{backoff_first: 1s, backoff_max: 60s}");
    let world = plan.start().await;
    world.until_each_rotated(&brands(4), 1).await;
    world.provider.set_secret("invented-client-secret-of-tomorrow");
    world.until_metric("app_frozen", &[("app", "main")], 1.0).await;
    let refused = async || {
        let report = as_json(&world, &["--app", "main"]).await;
        let accounts = report["accounts"].as_array().unwrap();
        accounts.iter().any(|one| one["cause"] == "app_credentials_rejected")
    };
    until_or("it is written down", refused, || world.tell()).await;
    let report = as_json(&world, &["--app", "main"]).await;
    let app = &report["apps"][0];
    assert_eq!(
        (&app["app"], &app["secret_readable"]),
        (&json!("main"), &json!(true)),
        "{report:#}"
    );
    let accounts = report["accounts"].as_array().unwrap();
    let refused = accounts.iter().find(|one| one["cause"] == "app_credentials_rejected").unwrap();
    assert_eq!(refused["next_step"]["step"], "mend_credentials", "{refused:#}");
    assert_eq!(refused["next_step"]["actor"], "operator");
    let (code, said, _) = diagnose(&world, &["--app", "main"]).await;
    assert_eq!(code, NEEDS_SOMEBODY, "{said}");
    assert!(said.starts_with("app main\n  Registered  tiktok, production, client id "), "{said}");
    assert_presentable(&world, &said);

    let (code, _, complaints) = diagnose(&world, &["--app", "nobody"]).await;
    assert_eq!(code, USAGE, "{complaints}");
    fs::remove_file(world.path("client-secret")).unwrap();
    let (code, said, complaints) = diagnose(&world, &["--app", "main"]).await;
    assert_eq!(
        (code, said.as_str()),
        (USAGE, ""),
        "a configuration that names a file must have it"
    );
    assert!(complaints.contains("client-secret"), "{complaints}");
}

#[tokio::test]
async fn a_state_or_a_store_that_cannot_be_read_is_said_and_nothing_is_guessed() {
    let world = World::new().prepare().await;
    let (code, said, complaints) = diagnose(&world, &["--all"]).await;
    assert_eq!(code, DONE, "nothing has happened yet: {said}{complaints}");
    fs::write(world.path("state").join("state.db"), "this is no database, and never was one")
        .unwrap();
    for arguments in [&["--all"][..], &["tiktok/brand-01"], &["--app", "main"]] {
        let (code, said, complaints) = diagnose(&world, arguments).await;
        assert_eq!(code, UNREACHABLE, "{said}{complaints}");
        assert!(complaints.contains("nothing can be diagnosed: state "), "{complaints}");
        assert_eq!(said, "");
    }
    fs::remove_dir_all(world.path("state")).unwrap();
    fs::rename(world.path("publisher.db"), world.path("elsewhere.db")).unwrap();
    let (code, said, complaints) = diagnose(&world, &["--all"]).await;
    assert_eq!((code, said.as_str()), (UNREACHABLE, ""), "{complaints}");
}

#[tokio::test]
async fn a_command_line_names_one_account_or_all_or_an_app() {
    let world = World::new().prepare().await;
    for arguments in
        [&[][..], &["--all", "--app", "main"], &["tiktok/brand-01", "--all"], &["no-provider"]]
    {
        let (code, said, complaints) = diagnose(&world, arguments).await;
        assert_eq!((code, said.as_str()), (USAGE, ""), "{arguments:?}: {complaints}");
    }
}

/// What a publisher was answered: a 401 that a refresh cannot mend, and one that the token is asked about.
#[tokio::test]
async fn what_the_provider_told_the_publisher_is_understood_and_spends_nothing() {
    // Old enough that the publisher cannot have used the token before it.
    let world = World::new().life(600).age(60).start().await;
    world.until_ready().await;
    let report = |account: &str, said: Value| {
        json!({"responses": [
            {"provider": "tiktok", "account": account, "status": 401, "times": 1, "said": said},
        ]})
    };
    let scope = json!({"error": {"code": "scope_not_authorized", "message": "echo", "log_id": "20261122A1"}});
    let token = json!({"error": {"code": "access_token_invalid", "message": "echo", "log_id": "20261122B2"}});
    let at = world.running().reports;
    let bearer = format!("Bearer {REPORTS_SECRET}");
    let headers = [("Authorization", bearer.as_str()), ("Content-Type", "application/json")];
    for (account, body) in [("brand-01", scope), ("brand-02", token)] {
        let body = report(account, json!({"body": body})).to_string();
        let answer = http::send(at, "POST", "/v1/responses", &headers, &body).await.unwrap();
        assert_eq!(answer.status, 202, "{}", answer.text());
    }
    world.until_cause("brand-01", "scope_missing").await;
    until_or("the claim is checked", async || world.api_calls("brand-02") == 1, || world.tell())
        .await;
    let told = async || {
        let report = as_json(&world, &["tiktok/brand-02"]).await;
        found(&report, "brand-02")["history"]["check"]["alive"] == true
    };
    until_or("the check is written down", told, || world.tell()).await;
    let report = as_json(&world, &["tiktok/brand-01"]).await;
    let failure = &found(&report, "brand-01")["history"]["failures"][0];
    assert_eq!(
        (&failure["source"], &failure["code"], &failure["log_id"]),
        (&json!("publisher"), &json!("scope_not_authorized"), &json!("20261122A1")),
    );
    assert_eq!(world.refreshed("brand-01"), []);
    assert_eq!(world.refreshed("brand-02"), [], "the token works, whatever was said");
    assert_eq!(world.api_calls("brand-01"), 0, "no check of ours can see a scope");

    let token = world.provider.connect("brand-01", &SCOPES, Duration::ZERO);
    world.write("brand-01", &token);
    world.until_cause("brand-01", "none").await;
    assert_eq!(world.refreshed("brand-01"), [] as [Refreshed; 0]);
}

/// Evidence helps people. That it cannot be written down is no reason to refresh, mail or remember anything less.
#[tokio::test]
async fn evidence_that_cannot_be_written_stands_in_nobodys_way() {
    let mut world = World::new().life(8).start().await;
    world.until_rotated("brand-01", 1).await;
    let state = rusqlite::Connection::open(world.path("state").join("state.db")).unwrap();
    state.busy_timeout(Duration::from_secs(20)).unwrap();
    state.execute_batch("DROP TABLE history").unwrap();
    world.provider.revoke_consent("brand-02");
    world.until_cause("brand-02", "refresh_token_rejected").await;
    world.until_mails(&owner("brand-02"), 1).await;
    let told = || world.running().log().contains("what happened to accounts was not written down");
    until_or("the loss is logged", async || told(), || world.tell()).await;
    let remembered = async || {
        let sql = "SELECT cause FROM memory WHERE account = 'brand-02'";
        let cause: Option<String> = state.query_row(sql, [], |row| row.get(0)).unwrap();
        cause.as_deref() == Some("refresh_token_rejected")
    };
    until_or("the cause is remembered", remembered, || world.tell()).await;
    world.until_rotated("brand-01", 1).await;
    assert_eq!(world.program().terminate().await.code(), Some(0));
    world.start().await;
    world.until_cause("brand-02", "refresh_token_rejected").await;
    world.until_rotated("brand-01", 1).await;
    assert_eq!(world.mails_to(&owner("brand-02")).len(), 1, "a restart is no news");
    let (code, said, complaints) = diagnose(&world, &["tiktok/brand-02"]).await;
    assert_eq!(code, NEEDS_SOMEBODY, "{complaints}");
    assert!(said.starts_with("tiktok/brand-02: refresh_token_rejected"), "{said}");
}
