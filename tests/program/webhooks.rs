//! What providers and publishers announce under a signature, and what follows from it.

use crate::{
    http::{self, Answer},
    process::{Program, command, stdout},
    until_or,
    world::{OPERATOR, Plan, SCOPES, World, owner},
};
use ring::hmac;
use serde_json::{Value, json};
use std::{
    fs,
    net::SocketAddr,
    time::{Duration, SystemTime},
};

const CLIENT_SECRET: &str = "invented-client-secret-77e0";
const EVENTS_SECRET: &str = "invented-events-secret-1f2a";
const WEBHOOKS: &str = "{enabled: true, listen: \"127.0.0.1:0\", secret_file: events-secret}";

/// Older than two clocks may differ by, and younger than what is due.
const AGE: u64 = 1_800;

fn plan() -> Plan {
    World::new().life(7_200).age(AGE).section("webhooks", WEBHOOKS)
}

async fn start(plan: Plan) -> World {
    let mut world = plan.prepare().await;
    fs::write(world.path("events-secret"), format!("{EVENTS_SECRET}\n")).unwrap();
    world.start().await;
    world.until_ready().await;
    world
}

fn now() -> i64 {
    let since = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap();
    i64::try_from(since.as_secs()).unwrap()
}

fn digest(secret: &str, at: i64, body: &str) -> String {
    let key = hmac::Key::new(hmac::HMAC_SHA256, secret.as_bytes());
    let tag = hmac::sign(&key, format!("{at}.{body}").as_bytes());
    tag.as_ref().iter().map(|byte| format!("{byte:02x}")).collect()
}

fn signature(secret: &str, at: i64, body: &str) -> String {
    format!("t={at},s={}", digest(secret, at, body))
}

/// As the provider writes it, with its content as text.
fn removed(world: &World, account: &str, at: i64, reason: u8) -> String {
    let subject = world.provider.current(account).unwrap().subject.unwrap();
    json!({
        "client_key": world.section("apps").split("client_id: ").nth(1).unwrap().split(',').next(),
        "event": "authorization.removed",
        "create_time": at,
        "user_openid": subject,
        "content": json!({ "reason": reason }).to_string(),
    })
    .to_string()
}

fn address(program: &Program) -> SocketAddr {
    let log = program.log();
    let (_, rest) = log.split_once("webhooks are heard\" url=http://").expect("it says where");
    rest.split('/').next().unwrap().parse().unwrap()
}

async fn deliver(program: &Program, signature: &str, body: &str) -> Answer {
    let at = address(program);
    let headers = [("TikTok-Signature", signature)];
    http::send(at, "POST", "/webhooks/main", &headers, body).await.unwrap()
}

/// The provider says now that the owner removed the app.
pub(crate) async fn announce_removal(world: &World, program: &Program, account: &str) -> Answer {
    let body = removed(world, account, now(), 1);
    deliver(program, &signature(CLIENT_SECRET, now(), &body), &body).await
}

async fn publish(world: &World, event: &Value) -> Answer {
    let body = event.to_string();
    let signature = signature(EVENTS_SECRET, now(), &body);
    let headers = [("OAuth-Keepalive-Signature", signature.as_str())];
    let at = address(world.running());
    http::send(at, "POST", "/v1/events", &headers, &body).await.unwrap()
}

async fn counted(world: &World, from: &str, result: &str) -> f64 {
    let labels = [("from", from), ("result", result)];
    world.running().scrape().await.value("webhooks_total", &labels).unwrap()
}

async fn diagnosis(world: &World, account: &str) -> String {
    let config = world.config();
    let name = format!("tiktok/{account}");
    let config = config.to_str().unwrap();
    let output = command(&["diagnose", &name, "--log-level", "error", "--config", config]).await;
    stdout(&output).split_whitespace().collect::<Vec<_>>().join(" ")
}

#[tokio::test]
async fn a_consent_that_was_taken_back_is_told_with_who_did_it_once_and_nothing_is_spent() {
    let mut world = start(plan()).await;
    let body = removed(&world, "brand-01", now(), 1);
    let answer = deliver(world.running(), &signature(CLIENT_SECRET, now(), &body), &body).await;
    assert_eq!((answer.status, answer.text().as_str()), (200, r#"{"result":"taken"}"#));
    world.until_cause("brand-01", "consent_revoked").await;
    let by = |by| [("provider", "tiktok"), ("by", by)];
    world.until_metric("consents_revoked_total", &by("user"), 1.0).await;
    let mails = world.until_mails(&owner("brand-01"), 1).await;
    assert!(mails[0].text.to_lowercase().contains("reconnect"), "{}", mails[0].text);
    let report = diagnosis(&world, "brand-01").await;
    for expected in ["consent_revoked", "the user took the consent back", "certain"] {
        assert!(report.contains(expected), "{expected}: {report}");
    }

    // At least once: again with another signature, also after a restart.
    let again = deliver(world.running(), &signature(CLIENT_SECRET, now(), &body), &body).await;
    assert_eq!((again.status, again.text().as_str()), (200, r#"{"result":"taken before"}"#));
    assert_eq!(counted(&world, "tiktok", "duplicate").await, 1.0);
    world.program().terminate().await;
    world.start().await;
    world.until_cause("brand-01", "consent_revoked").await;
    let again = deliver(world.running(), &signature(CLIENT_SECRET, now(), &body), &body).await;
    assert_eq!((again.status, again.text().as_str()), (200, r#"{"result":"taken before"}"#));

    let token = world.provider.connect("brand-01", &SCOPES, Duration::ZERO);
    world.write("brand-01", &token);
    world.until_cause("brand-01", "none").await;
    world.until_mails(&owner("brand-01"), 2).await;
    let again = deliver(world.running(), &signature(CLIENT_SECRET, now(), &body), &body).await;
    assert_eq!(again.status, 200);
    // A mail that was sent and not noted is sent once more.
    world.until_metric("outbox_length", &[], 0.0).await;
    // A restart hears everything once more, and what came before the consent is past.
    world.program().kill_9();
    world.start().await;
    world.until_cause("brand-02", "none").await;
    until_heard(&world, "brand-02").await;
    assert_eq!(world.cause("brand-01").await.as_deref(), Some("none"));
    assert_eq!(world.mails_to(&owner("brand-01")).len(), 2, "it began, and it is over");
    assert_eq!(world.mails_to(OPERATOR).len(), 0);
    assert_eq!(world.refreshed("brand-01"), [], "it is proof, so nothing is spent on it");
}

/// Whatever was announced before is told before this is.
async fn until_heard(world: &World, account: &str) {
    let body = removed(world, account, now(), 5);
    let answer = deliver(world.running(), &signature(CLIENT_SECRET, now(), &body), &body).await;
    assert_eq!(answer.status, 200, "{}", answer.text());
    world.until_cause(account, "consent_revoked").await;
}

#[tokio::test]
async fn what_nobody_signed_or_what_is_repeated_later_changes_nothing() {
    let world = start(plan()).await;
    let body = removed(&world, "brand-01", now(), 1);
    let other = removed(&world, "brand-01", now() - 1, 1);
    let good = digest(CLIENT_SECRET, now(), &body);
    let mangled = format!("t={},s={}", now(), &good[..40]);
    let rows = [
        ("another secret", signature("invented-other-secret", now(), &body), 401),
        ("another body", signature(CLIENT_SECRET, now(), &other), 401),
        ("a truncated digest", mangled, 401),
        ("a repeated message", signature(CLIENT_SECRET, now() - 3_600, &body), 400),
        ("a message of tomorrow", signature(CLIENT_SECRET, now() + 86_400, &body), 400),
    ];
    for (sentence, signature, status) in rows {
        let answer = deliver(world.running(), &signature, &body).await;
        assert_eq!(answer.status, status, "{sentence}: {}", answer.text());
        assert!(!answer.text().contains("authorization"), "{sentence}: {}", answer.text());
    }
    let at = address(world.running());
    let send = async |path: &str, method: &str, body: &str| {
        http::send(at, method, path, &[], body).await.unwrap().status
    };
    assert_eq!(send("/webhooks/main", "POST", &body).await, 401, "no signature at all");
    assert_eq!(send("/webhooks/nobody", "POST", &body).await, 404);
    assert_eq!(send("/webhooks/main", "GET", "").await, 405);
    assert_eq!(send("/metrics", "GET", "").await, 404, "nothing else is shown outside");
    assert_eq!(send("/v1/responses", "POST", "{}").await, 404);
    assert_eq!(send("/webhooks/main", "POST", &"x".repeat(70_000)).await, 413);
    for (result, times) in [("unsigned", 4.0), ("old", 2.0), ("taken", 0.0)] {
        assert_eq!(counted(&world, "tiktok", result).await, times, "{result}");
    }
    // Signed, and about nothing that we know.
    for (body, expected) in [
        (json!({ "event": "video.upload.failed", "content": "{}" }).to_string(), 200),
        (json!({ "event": "authorization.removed", "content": { "reason": 1 } }).to_string(), 400),
        ("no JSON".to_owned(), 400),
        (removed(&world, "brand-01", now(), 1).replace("client_key\":\"", "client_key\":\"x"), 400),
    ] {
        let answer = deliver(world.running(), &signature(CLIENT_SECRET, now(), &body), &body).await;
        assert_eq!(answer.status, expected, "{body}: {}", answer.text());
    }
    // It happened before the token that the store holds was issued.
    let body = removed(&world, "brand-01", now() - 3_600, 1);
    let answer = deliver(world.running(), &signature(CLIENT_SECRET, now(), &body), &body).await;
    assert_eq!(answer.status, 200);
    until_heard(&world, "brand-02").await;
    assert_eq!(world.cause("brand-01").await.as_deref(), Some("none"));
    assert_eq!(world.mails_to(&owner("brand-01")).len(), 0);
    let log = world.running().log();
    for secret in [CLIENT_SECRET, "open_id", "user_openid"] {
        assert!(!log.contains(secret), "{secret} is in the log");
    }
}

#[tokio::test]
async fn a_rejected_account_gets_its_better_name_and_its_owner_no_second_mail() {
    let world = start(World::new().section("webhooks", WEBHOOKS)).await;
    world.provider.revoke_consent("brand-01");
    world.until_cause("brand-01", "refresh_token_rejected").await;
    world.until_mails(&owner("brand-01"), 1).await;
    let body = removed(&world, "brand-01", now(), 5);
    let answer = deliver(world.running(), &signature(CLIENT_SECRET, now(), &body), &body).await;
    assert_eq!(answer.status, 200, "{}", answer.text());
    world.until_cause("brand-01", "consent_revoked").await;
    let report = diagnosis(&world, "brand-01").await;
    assert!(report.contains("taken back by whoever the app belongs to"), "{report}");
    world.until_rotated("brand-02", 2).await;
    world.until_mails(&owner("brand-01"), 1).await;
    let token = world.provider.connect("brand-01", &SCOPES, Duration::ZERO);
    world.write("brand-01", &token);
    world.until_cause("brand-01", "none").await;
    world.until_mails(&owner("brand-01"), 2).await;
}

#[tokio::test]
async fn while_the_secret_changes_either_one_signs() {
    let mut world = plan().prepare().await;
    fs::write(world.path("events-secret"), EVENTS_SECRET).unwrap();
    fs::write(world.path("new-secret"), "invented-new-secret-9c\n").unwrap();
    let apps = world.section("apps").replace(
        "client_secret_file: client-secret",
        "client_secret_file: [client-secret, new-secret]",
    );
    world.reconfigure("apps", &apps);
    world.start().await;
    for (account, secret) in [("brand-01", "invented-new-secret-9c"), ("brand-02", CLIENT_SECRET)] {
        let body = removed(&world, account, now(), 1);
        let answer = deliver(world.running(), &signature(secret, now(), &body), &body).await;
        assert_eq!(answer.status, 200, "{}", answer.text());
        world.until_cause(account, "consent_revoked").await;
    }
}

#[tokio::test]
async fn a_publisher_that_knows_more_says_so_once_and_under_its_own_signature() {
    let store = "{kind: sqlite, path: publisher.db, poll_every: 10m}";
    let world = start(plan().accounts(3).section("store", store)).await;
    let event = |id: &str, account: &str, event: &str| json!({ "id": id, "provider": "tiktok", "account": account, "event": event });
    let mut revoked = event("1", "brand-01", "consent_revoked");
    revoked["by"] = json!("provider");
    revoked["at"] = json!(now());
    assert_eq!(publish(&world, &revoked).await.status, 200);
    world.until_cause("brand-01", "consent_revoked").await;
    let labels = [("provider", "tiktok"), ("by", "provider")];
    world.until_metric("consents_revoked_total", &labels, 1.0).await;
    let again = publish(&world, &revoked).await;
    assert_eq!((again.status, again.text().as_str()), (200, r#"{"result":"taken before"}"#));
    assert_eq!(publish(&world, &event("2", "brand-02", "scope_removed")).await.status, 200);
    world.until_cause("brand-02", "scope_missing").await;
    // What is over before its mail has left is told to nobody.
    world.until_mails(&owner("brand-01"), 1).await;

    let token = world.provider.connect("brand-01", &SCOPES, Duration::ZERO);
    world.write("brand-01", &token);
    assert_eq!(publish(&world, &event("3", "brand-01", "reconnected")).await.status, 200);
    world.until_cause("brand-01", "none").await;
    world.until_mails(&owner("brand-01"), 2).await;

    let mut wrong = event("4", "brand-03", "consent_revoked");
    wrong["by"] = json!("invented-token-of-a-confused-publisher");
    let refused = publish(&world, &wrong).await;
    assert_eq!(refused.status, 400);
    assert!(!refused.text().contains("invented"), "{}", refused.text());
    for wrong in [json!({}), event("", "brand-03", "reconnected"), event("5", "", "reconnected")] {
        assert_eq!(publish(&world, &wrong).await.status, 400, "{wrong}");
    }
    let body = event("6", "brand-03", "consent_revoked").to_string();
    let signature = signature(CLIENT_SECRET, now(), &body);
    let headers = [("OAuth-Keepalive-Signature", signature.as_str())];
    let at = address(world.running());
    let answer = http::send(at, "POST", "/v1/events", &headers, &body).await.unwrap();
    assert_eq!(answer.status, 401, "an app's secret is no publisher's");
    assert_eq!(counted(&world, "(publisher)", "taken").await, 3.0);
    assert_eq!(world.cause("brand-03").await.as_deref(), Some("none"));
}

#[tokio::test]
async fn without_a_secret_of_its_own_no_publisher_announces_anything() {
    let section = "{enabled: true, listen: \"127.0.0.1:0\"}";
    let world = start(World::new().section("webhooks", section)).await;
    let answer = publish(&world, &json!({})).await;
    assert_eq!(answer.status, 404);
    until_or(
        "the app's messages are taken",
        async || {
            let body = removed(&world, "brand-01", now(), 1);
            deliver(world.running(), &signature(CLIENT_SECRET, now(), &body), &body).await.status
                == 200
        },
        || world.tell(),
    )
    .await;
}
