//! No token, no secret and no mail address comes out anywhere, whatever goes wrong.

use crate::{
    http,
    process::{command, stderr, stdout},
    until_or,
    world::{OPERATOR, REPORTS_SECRET, SCOPES, World, owner},
};
use oauth_keepalive::demo::provider::{Fault, Lasting, Surface};
use serde_json::json;
use std::{fs, path::Path, time::Duration};

const CLIENT_SECRET: &str = "invented-client-secret-77e0";
const NEW_CLIENT_SECRET: &str = "invented-client-secret-of-tomorrow";
const IN_THE_CONFIGURATION: &str = "invented-secret-in-the-wrong-place";
const SENT_BY_MISTAKE: &str = "invented-token-that-a-publisher-reported";
const IN_A_ROW: &str = "invented-token-in-the-wrong-column";
/// What a provider may repeat of our request in its error texts.
const ECHO: &str = "invented-echo-of-a-refresh-token";

/// Where something might have leaked to: a name and what was found there.
type Haystack = (String, Vec<u8>);

/// Every place that holds one of the needles, with the number of the needle: a failing test must not
/// print what it found.
fn finds(haystacks: &[Haystack], needles: &[String]) -> Vec<String> {
    let mut found = Vec::new();
    for (name, content) in haystacks {
        // Needles are ASCII; what is none cannot hide them.
        let content = String::from_utf8_lossy(content);
        for (number, needle) in needles.iter().enumerate() {
            assert!(needle.is_ascii() && needle.len() >= 12, "needle {number} proves nothing");
            if content.contains(needle.as_str()) {
                found.push(format!("{name}: needle {number}"));
            }
        }
    }
    found
}

fn files_in(folder: &Path, found: &mut Vec<Haystack>) {
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            files_in(&path, found);
        } else {
            // The database's side files come and go.
            let content = fs::read(&path).unwrap_or_default();
            found.push((path.display().to_string(), content));
        }
    }
}

/// Everything that the running program shows.
async fn shown(world: &World) -> Vec<Haystack> {
    let program = world.running();
    let mut found = Vec::new();
    let openmetrics = [("Accept", "application/openmetrics-text; version=1.0.0")];
    for (path, headers) in [
        ("/metrics", &[][..]),
        ("/metrics", &openmetrics[..]),
        ("/", &[]),
        ("/?page=2", &[]),
        ("/?cause=none", &[]),
        ("/?search=brand", &[]),
        ("/-/ready", &[]),
        ("/nowhere", &[]),
    ] {
        let answer = http::send(program.telemetry, "GET", path, headers, "").await.unwrap();
        found.push((format!("{path} {headers:?} head"), answer.head.into_bytes()));
        found.push((format!("{path} {headers:?}"), answer.body));
    }
    for file in ["cmdline", "environ"] {
        let path = format!("/proc/{}/{file}", program.pid());
        found.push((path.clone(), fs::read(path).unwrap()));
    }
    found
}

/// What a confused publisher sends, and what it is answered.
async fn reported(world: &World) -> Vec<Haystack> {
    let right = format!("Bearer {REPORTS_SECRET}");
    let wrong = format!("Bearer {SENT_BY_MISTAKE}");
    let unknown = json!({"responses": [{"provider": "tiktok", "account": SENT_BY_MISTAKE, "status": 401, "times": 1}]});
    let no_number = json!({"responses": [{"provider": "tiktok", "account": "brand-01", "status": SENT_BY_MISTAKE}]});
    let no_key = json!({"responses": [], SENT_BY_MISTAKE: 1});
    let mut found = Vec::new();
    for (bearer, body) in [
        (&wrong, unknown.to_string()),
        (&right, unknown.to_string()),
        (&right, no_number.to_string()),
        (&right, no_key.to_string()),
        (&right, SENT_BY_MISTAKE.to_owned()),
    ] {
        let path = format!("/v1/responses?token={SENT_BY_MISTAKE}");
        let headers = [("Authorization", bearer.as_str()), ("Content-Type", "application/json")];
        let at = world.running().reports;
        for path in ["/v1/responses", &path] {
            let answer = http::send(at, "POST", path, &headers, &body).await.unwrap();
            found.push((format!("report answered {}", answer.status), answer.head.into_bytes()));
            found.push((format!("report answered {}", answer.status), answer.body));
        }
    }
    found
}

/// What the other commands print.
async fn printed(world: &World) -> Vec<Haystack> {
    let config = world.config();
    let mut found = Vec::new();
    for arguments in [
        &["accounts"][..],
        &["accounts", "-o", "json"],
        &["check"],
        &["check", "-o", "json"],
        &["diagnose", "--all"],
        &["diagnose", "--all", "-o", "json"],
        &["diagnose", "--app", "main"],
        &["diagnose", "tiktok/brand-02"],
        &["diagnose", "tiktok/brand-12"],
        &["refresh", "tiktok/brand-01"],
        &["refresh", "tiktok/brand-02", "-o", "json"],
        &["refresh", "tiktok/brand-12"],
        &["refresh", "tiktok/nobody"],
    ] {
        let mut all = arguments.to_vec();
        all.extend(["--log-level", "debug", "--config", config.to_str().unwrap()]);
        let output = command(&all).await;
        assert!(output.status.code().is_some());
        found.push((format!("{arguments:?} stdout"), stdout(&output).into_bytes()));
        found.push((format!("{arguments:?} stderr"), stderr(&output).into_bytes()));
    }
    found
}

fn logs(world: &World) -> Vec<Haystack> {
    let mut files = Vec::new();
    files_in(world.folder.path(), &mut files);
    files.retain(|(name, _)| name.contains("program-") && name.ends_with(".log"));
    files
}

fn state(world: &World) -> Vec<Haystack> {
    let mut files = Vec::new();
    files_in(&world.path("state"), &mut files);
    assert!(files.len() >= 2, "a database and a key at least");
    files
}

#[tokio::test]
async fn a_run_with_every_kind_of_trouble_shows_no_token_no_secret_and_no_address() {
    let plan = World::new().accounts(12).life(8).grace(30).without_wal();
    let plan = plan.section("http", "{total_deadline: 4s, connect_deadline: 1s}");
    let mut world = plan.prepare().await;
    let refuse = Fault::Refuse { error: "server_error", description: ECHO };
    let unheard_of = Fault::Refuse { error: ECHO, description: ECHO };
    let stranger = Fault::Member { name: "open_id", value: json!("somebody-else") };
    let nonsense = Fault::Member { name: "expires_in", value: json!(ECHO) };
    let redirect = Fault::Redirect { status: 307, to: format!("http://127.0.0.1:9/{ECHO}") };
    for (account, fault, times) in [
        ("brand-04", Fault::LoseAnswer, 2),
        ("brand-05", Fault::StatusAfter(502), 1),
        ("brand-06", refuse, 1),
        ("brand-07", unheard_of, 1),
        ("brand-08", stranger, 1),
        ("brand-09", Fault::Html200 { commits: true }, 1),
        ("brand-10", nonsense, 1),
        ("brand-11", redirect, 1),
    ] {
        world.provider.plant(Some(account), Surface::Token, fault, Lasting::Times(times));
    }
    world.provider.revoke_consent("brand-02");
    world.provider.drop_scope("brand-03", "video.publish");
    world.execute(&format!(
        "UPDATE accounts SET expires_at = '{IN_A_ROW}' WHERE account = 'brand-12'"
    ));
    world.start().await;
    world.until_ready().await;
    let mut haystacks = reported(&world).await;
    for account in ["brand-01", "brand-02", "brand-03"] {
        world.report(account, 401, 3).await;
    }
    world.until_cause("brand-02", "refresh_token_rejected").await;
    world.until_cause("brand-03", "scope_missing").await;
    world.until_cause("brand-04", "rotation_lost").await;
    world.until_cause("brand-08", "wrong_environment").await;
    world.until_rotated("brand-01", 1).await;
    haystacks.extend(shown(&world).await);
    haystacks.extend(printed(&world).await);

    // A configuration with a secret in it, then the right one again.
    let apps = world.section("apps").to_owned();
    let wrong = apps.replace(
        "client_secret_file: client-secret",
        &format!("client_secret: {IN_THE_CONFIGURATION}"),
    );
    world.reconfigure("apps", &wrong);
    world.until_metric("config_last_reload_successful", &[], 0.0).await;
    haystacks.extend(shown(&world).await);
    let config = world.config().display().to_string();
    let output = command(&["check", "--config", &config]).await;
    haystacks.push(("check of a wrong file".to_owned(), output.stderr));
    world.reconfigure("apps", &apps);
    world.until_metric("config_last_reload_successful", &[], 1.0).await;

    // The app's secret is refused, and mended.
    world.provider.set_secret(NEW_CLIENT_SECRET);
    world.until_metric("app_frozen", &[("app", "main")], 1.0).await;
    haystacks.extend(shown(&world).await);
    world.write_secret(NEW_CLIENT_SECRET);
    world.until_metric("app_frozen", &[("app", "main")], 0.0).await;
    world.until_cause("brand-01", "none").await;

    // A token that is in the journal and nowhere else, found there after a crash.
    world.provider.plant(Some("brand-01"), Surface::Token, Fault::HoldAnswer, Lasting::Times(1));
    world.until_held_back().await;
    let database = world.database();
    database.execute_batch("BEGIN EXCLUSIVE").unwrap();
    world.provider.release();
    world.until_cause("brand-01", "unsaved_token").await;
    haystacks.extend(shown(&world).await);
    world.program().kill_9();
    haystacks.extend(state(&world));
    database.execute_batch("ROLLBACK").unwrap();
    drop(database);
    world.start().await;
    until_or("it is saved", async || world.kept("brand-01"), || world.tell()).await;
    let token = world.provider.connect("brand-02", &SCOPES, Duration::ZERO);
    world.write("brand-02", &token);
    world.until_cause("brand-02", "none").await;
    world.until_mails(&owner("brand-02"), 2).await;
    haystacks.extend(shown(&world).await);
    haystacks.extend(printed(&world).await);
    haystacks.extend(state(&world));
    assert_eq!(world.program().terminate().await.code(), Some(0));
    haystacks.extend(state(&world));
    haystacks.extend(logs(&world));

    let mut secrets = world.provider.issued();
    assert!(secrets.len() > 30, "{} tokens were issued", secrets.len());
    let planted = [
        CLIENT_SECRET,
        NEW_CLIENT_SECRET,
        REPORTS_SECRET,
        IN_THE_CONFIGURATION,
        SENT_BY_MISTAKE,
        IN_A_ROW,
        ECHO,
    ];
    secrets.extend(planted.map(str::to_owned));
    let mut addresses = vec![OPERATOR.to_owned()];
    addresses.extend((1..=12).map(|number| owner(&format!("brand-{number:02}"))));

    // Everything is worth searching, and the search finds.
    assert!(haystacks.len() > 60, "{} haystacks", haystacks.len());
    assert!(logs(&world).iter().all(|(_, log)| log.len() > 1_000));
    let mut store = Vec::new();
    files_in(world.folder.path(), &mut store);
    store.retain(|(name, _)| name.ends_with("publisher.db"));
    assert!(!finds(&store, &secrets).is_empty(), "the store holds tokens");
    assert!(!finds(&store, &addresses).is_empty(), "the store holds addresses");

    assert_eq!(finds(&haystacks, &secrets), [""; 0]);
    assert_eq!(finds(&haystacks, &addresses), [""; 0]);

    let mails = world.mailbox.mails();
    assert!(mails.len() >= 6, "{}", world.tell());
    let mut letters = Vec::new();
    for mail in &mails {
        letters.push(("a mail's source".to_owned(), mail.raw.clone().into_bytes()));
        letters.push(("a mail's subject".to_owned(), mail.subject.clone().into_bytes()));
        letters.push(("a mail's text".to_owned(), mail.text.clone().into_bytes()));
        letters.push(("a mail's page".to_owned(), mail.html.clone().unwrap().into_bytes()));
    }
    assert!(!finds(&letters, &addresses).is_empty(), "headers name their recipients");
    assert_eq!(finds(&letters, &secrets), [""; 0]);
    letters.retain(|(name, _)| !name.contains("source"));
    assert_eq!(finds(&letters, &addresses), [""; 0], "outside of the headers");
    for mail in &mails {
        let others = addresses.iter().filter(|address| !mail.to.contains(address));
        assert!(!others.into_iter().any(|other| mail.raw.contains(other)), "{}", mail.subject);
    }
}
