//! The publisher asks before it publishes, holds and resumes, and hears of it: over the real API, and over a kill.

use crate::{
    http::{self, Answer},
    postgres::Schema,
    process::Program,
    until_or,
    world::{OPERATOR, REPORTS_SECRET, World, owner},
};
use serde_json::{Value, json};
use std::{
    fs,
    os::unix::fs::PermissionsExt as _,
    sync::{Arc, Mutex},
};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpListener,
};

const ACCOUNT: &str = "/v1/accounts/tiktok/brand-01";

async fn ask(program: &Program, method: &str, path: &str, body: &str) -> Answer {
    let bearer = format!("Bearer {REPORTS_SECRET}");
    let headers = [("Authorization", bearer.as_str())];
    http::send(program.reports, method, path, &headers, body).await.unwrap()
}

async fn told(program: &Program, method: &str, path: &str, body: &str) -> Value {
    let answer = ask(program, method, path, body).await;
    assert!(answer.status < 300, "{method} {path}: {} {}", answer.status, answer.text());
    serde_json::from_str(&answer.text()).unwrap()
}

async fn until_gate(world: &World, gate: &str) {
    until_or(
        &format!("the publisher is told {gate}"),
        async || {
            let path = format!("{ACCOUNT}/gate");
            let told = told(world.running(), "GET", &path, "").await;
            told["gate"] == gate && told["known"] == true
        },
        || world.tell(),
    )
    .await;
}

/// Takes every webhook, and keeps its body.
async fn publisher() -> (String, Arc<Mutex<Vec<Value>>>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}/gates", listener.local_addr().unwrap());
    let heard = Arc::new(Mutex::new(Vec::new()));
    let hears = Arc::clone(&heard);
    tokio::spawn(async move {
        while let Ok((mut socket, _)) = listener.accept().await {
            let hears = Arc::clone(&hears);
            tokio::spawn(async move {
                let mut bytes = vec![0; 64 * 1024];
                let mut length = 0;
                while let Ok(read @ 1..) = socket.read(&mut bytes[length..]).await {
                    length += read;
                    let text = String::from_utf8_lossy(&bytes[..length]).into_owned();
                    let body = text.split_once("\r\n\r\n").map(|(_, body)| body);
                    if let Some(body) = body.and_then(|body| serde_json::from_str(body).ok()) {
                        hears.lock().unwrap().push(body);
                        let _ = socket
                            .write_all(b"HTTP/1.1 204 Taken\r\nConnection: close\r\n\r\n")
                            .await;
                        return;
                    }
                }
            });
        }
    });
    (url, heard)
}

async fn until_heard(world: &World, heard: &Arc<Mutex<Vec<Value>>>, gate: &str) -> Value {
    until_or(
        &format!("the publisher hears {gate}"),
        async || heard.lock().unwrap().iter().any(|one| one["gate"] == gate),
        || format!("{:?}\n{}", heard.lock().unwrap(), world.tell()),
    )
    .await;
    let mut heard = heard.lock().unwrap();
    let found = heard.iter().rposition(|one| one["gate"] == gate).unwrap();
    let found = heard[found].clone();
    heard.clear();
    found
}

#[tokio::test]
async fn a_state_that_takes_no_writes_is_told_although_nothing_is_to_be_written() {
    // Nothing is due for an hour, so nobody would meet it.
    let world = World::new().life(36_000).start().await;
    until_gate(&world, "open").await;
    let state = rusqlite::Connection::open(world.path("state/state.db")).unwrap();
    state.execute_batch("BEGIN IMMEDIATE").unwrap();
    let path = format!("{ACCOUNT}/gate");
    let is_unknown = async || told(world.running(), "GET", &path, "").await["known"] == false;
    until_or("the publisher is told that it is not known", is_unknown, || world.tell()).await;
    world.until_metric("state_up", &[], 0.0).await;
    state.execute_batch("ROLLBACK").unwrap();
    until_gate(&world, "open").await;
}

#[tokio::test]
async fn a_hold_is_told_to_whoever_asks_and_to_whoever_listens_also_after_a_kill_until_it_is_over()
{
    let (url, heard) = publisher().await;
    let section = format!(
        "{{enabled: true, listen: \"127.0.0.1:0\", serve_tokens: true, clients: [{{name: publisher, \
         secret_file: reports-secret, rights: [read, report, publish, hold, refresh, token], \
         accounts: [\"tiktok/*\"]}}], webhooks: [{{url: \"{url}\", secret_file: reports-secret, \
         accounts: \"tiktok/brand-01\"}}]}}"
    );
    let mut world = World::new().life(3_600).section("publisher", &section).start().await;
    world.until_ready().await;
    until_gate(&world, "open").await;
    let token = told(world.running(), "GET", &format!("{ACCOUNT}/token"), "").await;
    assert_eq!(token["access_token"], world.stored("brand-01").0);
    let wish = json!({ "post": "one" }).to_string();
    let permits = format!("{ACCOUNT}/permits");
    assert_eq!(told(world.running(), "POST", &permits, &wish).await["kind"], "open");

    told(world.running(), "POST", &format!("{ACCOUNT}/hold"), "").await;
    until_gate(&world, "held").await;
    let first = until_heard(&world, &heard, "held").await;
    assert_eq!((&first["account"], &first["cause"]), (&json!("brand-01"), &json!("by_hand")));
    let permit = told(world.running(), "POST", &permits, &wish).await;
    assert_eq!((&permit["granted"], &permit["cause"]), (&json!(false), &json!("by_hand")));
    world.until_metric("posts_held", &[("account", "brand-01")], 1.0).await;
    world.until_metric("posts_waiting", &[], 1.0).await;
    let refused = ask(world.running(), "GET", &format!("{ACCOUNT}/token"), "").await;
    assert_eq!(refused.status, 409, "{}", refused.text());
    let held = told(world.running(), "GET", "/v1/accounts?gate=held", "").await;
    assert_eq!(held["accounts"].as_array().unwrap().len(), 1);

    world.program().kill_9();
    world.start().await;
    until_gate(&world, "held").await;
    let again = until_heard(&world, &heard, "held").await;
    assert_eq!(first["id"], again["id"], "the same news");

    told(world.running(), "POST", &format!("{ACCOUNT}/resume"), "").await;
    until_gate(&world, "open").await;
    let opened = until_heard(&world, &heard, "open").await;
    assert_eq!(opened["may_publish"], true);
    let log = world.running().log();
    let (access, _) = world.stored("brand-01");
    assert!(!log.contains(&access) && !log.contains(REPORTS_SECRET), "no secret is in the log");
    world.assert_well_behaved();
}

/// A world in which the publisher's own publish proves an account, which is now `canary`.
async fn proving(state: Option<&str>) -> World {
    let mut plan = World::new().life(86_400).section("gate", "{proof: publish}");
    if let Some(state) = state {
        plan = plan.section("state", state);
    }
    let mut world = plan.prepare().await;
    world.write_state_key();
    world.start().await;
    world.until_ready().await;
    told(world.running(), "POST", &format!("{ACCOUNT}/hold"), "").await;
    until_gate(&world, "held").await;
    told(world.running(), "POST", &format!("{ACCOUNT}/resume"), "").await;
    until_gate(&world, "canary").await;
    world
}

async fn permit(program: &Program, post: &str) -> Value {
    let wish = json!({ "post": post }).to_string();
    told(program, "POST", &format!("{ACCOUNT}/permits"), &wish).await
}

#[tokio::test]
async fn who_may_ask_what_and_how_fast_it_goes_on_follows_the_configuration() {
    let clients = |rights: &str| {
        format!(
            "{{enabled: true, listen: \"127.0.0.1:0\", clients: [{{name: publisher, \
             secret_file: reports-secret, rights: [{rights}]}}]}}"
        )
    };
    let plan = World::new().life(86_400).section("publisher", &clients("read, hold, publish"));
    let mut world = plan.section("gate", "{proof: publish, canary_deadline: 60s}").start().await;
    world.until_ready().await;
    told(world.running(), "POST", &format!("{ACCOUNT}/hold"), "").await;
    until_gate(&world, "held").await;
    told(world.running(), "POST", &format!("{ACCOUNT}/resume"), "").await;
    until_gate(&world, "canary").await;
    let deadline = permit(world.running(), "one").await["deadline"].as_i64().unwrap();

    world.reconfigure("publisher", &clients("read, publish"));
    world.reconfigure("gate", "{proof: publish, canary_deadline: 30m}");
    let refused = async || {
        ask(world.running(), "POST", "/v1/accounts/tiktok/brand-02/hold", "").await.status == 403
    };
    until_or("the right to hold is gone", refused, || world.tell()).await;
    world.until_metric("config_last_reload_successful", &[], 1.0).await;
    assert_eq!(
        permit(world.running(), "one").await["deadline"],
        deadline,
        "what is under way stays"
    );
    let failed = json!({ "worked": false }).to_string();
    told(world.running(), "POST", &format!("{ACCOUNT}/canary"), &failed).await;
    until_gate(&world, "held").await;
    until_gate(&world, "canary").await;
    let later = permit(world.running(), "two").await["deadline"].as_i64().unwrap();
    assert!(later > deadline + 1_000, "{later} after {deadline}: the new canary has its new time");

    world.reconfigure("publisher", &clients("read"));
    let no_more = async || {
        let wish = json!({ "post": "three" }).to_string();
        ask(world.running(), "POST", &format!("{ACCOUNT}/permits"), &wish).await.status == 403
    };
    until_or("the right to publish is gone", no_more, || world.tell()).await;
}

#[tokio::test]
async fn an_owner_whose_account_may_not_publish_is_told_once_and_again_when_it_may() {
    let world = proving(None).await;
    let refused = json!({ "worked": false, "status": 403, "body": { "error": {
        "code": "spam_risk_user_banned_from_posting", "message": "said in words", "log_id": "2026A" } } });
    for _ in 0..3 {
        until_gate(&world, "canary").await;
        told(world.running(), "POST", &format!("{ACCOUNT}/canary"), &refused.to_string()).await;
        until_gate(&world, "held").await;
        told(world.running(), "POST", &format!("{ACCOUNT}/resume"), "").await;
    }
    until_gate(&world, "canary").await;
    world.until_mails(&owner("brand-01"), 1).await;
    let worked = json!({ "worked": true }).to_string();
    told(world.running(), "POST", &format!("{ACCOUNT}/canary"), &worked).await;
    until_gate(&world, "open").await;
    world.until_mails(&owner("brand-01"), 2).await;
    let mails = world.mails_to(&owner("brand-01"));
    let [first, second] = &mails[..] else { panic!("{}", world.tell()) };
    assert!(first.subject.contains("publishing is refused"), "{}", first.subject);
    let said = first.text.split_whitespace().collect::<Vec<_>>().join(" ");
    for words in ["does not let this account publish", "only you can ask it why, or appeal"] {
        assert!(said.contains(words), "{said}");
    }
    assert!(!said.contains("econnect"), "reconnecting mends nothing: {said}");
    assert!(second.text.contains("works again"), "{}", second.text);
    assert!(!second.text.contains("Renewing"), "that was never the trouble: {}", second.text);
    assert!(world.mails_to(OPERATOR).is_empty(), "{}", world.tell());
}

#[tokio::test]
async fn the_post_that_proves_an_account_is_the_only_one_also_after_a_kill() {
    let mut world = proving(None).await;
    let first = permit(world.running(), "one").await;
    assert_eq!((&first["granted"], &first["kind"]), (&json!(true), &json!("canary")));
    assert_eq!(permit(world.running(), "two").await["granted"], false);

    world.program().kill_9();
    world.start().await;
    until_gate(&world, "canary").await;
    assert_eq!(permit(world.running(), "two").await["granted"], false, "{}", world.tell());
    let again = permit(world.running(), "one").await;
    assert_eq!(
        (&again["kind"], &again["deadline"]),
        (&first["kind"], &first["deadline"]),
        "it is the same permit"
    );

    // It failed, and so the next one waits for its turn: nobody publishes beside it.
    let failed = json!({ "worked": false }).to_string();
    told(world.running(), "POST", &format!("{ACCOUNT}/canary"), &failed).await;
    assert_eq!(permit(world.running(), "two").await["granted"], false, "{}", world.tell());
    until_gate(&world, "held").await;
    until_gate(&world, "canary").await;
    assert_eq!(permit(world.running(), "two").await["kind"], "canary");
    assert_eq!(permit(world.running(), "one").await["granted"], false);
    let worked = json!({ "worked": true }).to_string();
    told(world.running(), "POST", &format!("{ACCOUNT}/canary"), &worked).await;
    until_gate(&world, "open").await;
    world.assert_well_behaved();
}

#[tokio::test]
async fn the_post_that_proves_an_account_is_the_only_one_also_at_the_replica_that_takes_it_over() {
    let schema = Schema::new();
    let mut world = proving(Some(&schema.on_socket("state", "5s"))).await;
    let beside =
        world.configure_beside("config-2.yaml", "state", &schema.on_socket("state-2", "5s"));
    let first = permit(world.running(), "one").await;
    assert_eq!(first["kind"], "canary", "{}", world.tell());
    world.program().kill_9();
    let other = Program::start(&beside, world.path("two.log")).await;
    let answered = async || {
        let wish = json!({ "post": "two" }).to_string();
        let answer = ask(&other, "POST", &format!("{ACCOUNT}/permits"), &wish).await;
        let told: Value = serde_json::from_str(&answer.text()).unwrap();
        assert_ne!(told["granted"], true, "a second canary: {told}\n{}", other.log());
        answer.status == 200 && told["gate"] == "canary"
    };
    until_or("the other replica has the account", answered, || other.log()).await;
    assert_eq!(permit(&other, "one").await["deadline"], first["deadline"]);
}

#[tokio::test]
async fn a_refresh_that_is_asked_for_again_and_again_costs_one() {
    let world = World::new().life(3_600).age(1_500).start().await;
    world.until_ready().await;
    for _ in 0..5 {
        told(world.running(), "POST", &format!("{ACCOUNT}/refresh"), "").await;
    }
    world.until_rotations("brand-01", 1).await;
    // What would have followed comes before what follows from this.
    told(world.running(), "POST", "/v1/accounts/tiktok/brand-02/refresh", "").await;
    world.until_rotations("brand-02", 1).await;
    // A minute may have begun between two of them.
    assert!(world.rotations("brand-01") <= 2, "{}", world.tell());
    world.assert_well_behaved();
}

#[tokio::test]
async fn on_a_socket_the_publisher_is_served_as_anywhere_else() {
    let mut plan = World::new();
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("publisher.sock");
    let section = format!(
        "{{enabled: true, listen: \"unix:{}\", socket_mode: \"0600\", clients: [{{name: publisher, \
         secret_file: reports-secret, rights: [read]}}]}}",
        path.display()
    );
    plan = plan.section("publisher", &section);
    let world = plan.prepare().await;
    let mut command = std::process::Command::new(crate::process::BINARY);
    command.args(["run", "--config"]).arg(world.config());
    let mut program = Program::spawn(command, world.path("program.log"));
    let asked = async || {
        let Ok(mut socket) = tokio::net::UnixStream::connect(&path).await else { return false };
        let request = format!(
            "GET /v1/accounts HTTP/1.0\r\nHost: a\r\nAuthorization: Bearer {REPORTS_SECRET}\r\n\r\n"
        );
        socket.write_all(request.as_bytes()).await.unwrap();
        let mut answer = String::new();
        socket.read_to_string(&mut answer).await.unwrap();
        answer.starts_with("HTTP/1.0 200") && answer.contains("brand-01")
    };
    until_or("it answers on its socket", asked, || {
        fs::read_to_string(world.path("program.log")).unwrap_or_default()
    })
    .await;
    assert_eq!(path.metadata().unwrap().permissions().mode() & 0o777, 0o600);
    assert!(program.terminate().await.success());
    assert!(!path.exists(), "it is taken away at the end");
}
