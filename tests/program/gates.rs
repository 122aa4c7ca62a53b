//! Whether a publisher may publish: held with the proof of death, opened by the provider's own check, moved by people,
//! and as it was after a kill.

use crate::{
    process::{command, stderr, stdout},
    until_or,
    world::{HELD_BACK, SCOPES, World, owner},
};
use oauth_keepalive::demo::provider::{Fault, Lasting, Surface};
use std::time::Duration;

async fn gate_of(world: &World, account: &str) -> Option<String> {
    let scrape = world.running().scrape().await;
    let is = |gate: &&str| {
        let labels = [("provider", "tiktok"), ("account", account), ("gate", *gate)];
        scrape.value("gate", &labels).is_some()
    };
    ["open", "held", "canary"].iter().find(|gate| is(gate)).map(|gate| (*gate).to_owned())
}

async fn until_gate(world: &World, account: &str, gate: &str) {
    until_or(
        &format!("the gate of {account} is {gate}"),
        async || gate_of(world, account).await.as_deref() == Some(gate),
        || world.tell(),
    )
    .await;
}

/// What the publisher reads in its own status column.
fn status(world: &World, account: &str) -> Option<String> {
    let sql = "SELECT status FROM accounts WHERE account = ?1";
    // Whoever writes there at this moment is asked again a little later.
    world.database().query_row(sql, [account], |row| row.get(0)).ok()
}

async fn until_status(world: &World, account: &str, expected: &str) {
    let is_so = async || status(world, account).as_deref() == Some(expected);
    until_or(&format!("the status of {account} is {expected}"), is_so, || world.tell()).await;
}

async fn told(world: &World, arguments: &[&str]) -> (Option<i32>, String) {
    let config = world.config();
    let mut all = arguments.to_vec();
    all.extend(["--config", config.to_str().unwrap()]);
    let output = command(&all).await;
    (output.status.code(), stdout(&output) + &stderr(&output))
}

async fn publish_checks(world: &World, result: &str) -> f64 {
    let labels = [("provider", "tiktok"), ("result", result)];
    let scrape = world.running().scrape().await;
    scrape.value("publish_checks_total", &labels).unwrap_or_default()
}

#[tokio::test]
async fn a_revoked_account_is_held_over_a_kill_and_opens_after_the_providers_check_of_a_new_consent()
 {
    let mut world = World::new().start().await;
    world.provider.revoke_consent("brand-01");
    world.report("brand-01", 401, 1).await;
    until_gate(&world, "brand-01", "held").await;
    until_status(&world, "brand-01", "needs_reconnect").await;
    assert_eq!(gate_of(&world, "brand-02").await.as_deref(), Some("open"));
    world.until_mails(&owner("brand-01"), 1).await;

    world.kill_at_rest().await;
    world.start().await;
    until_gate(&world, "brand-01", "held").await;
    assert_eq!(publish_checks(&world, "passed").await, 0.0);

    let token = world.provider.connect("brand-01", &SCOPES, Duration::ZERO);
    world.write("brand-01", &token);
    until_gate(&world, "brand-01", "open").await;
    until_status(&world, "brand-01", "connected").await;
    assert_eq!(publish_checks(&world, "passed").await, 1.0, "once is enough");
    world.until_mails(&owner("brand-01"), 2).await;
}

#[tokio::test]
async fn a_new_consent_without_the_permission_to_publish_never_opens_the_gate() {
    let world = World::new().start().await;
    world.provider.revoke_consent("brand-01");
    world.report("brand-01", 401, 1).await;
    until_gate(&world, "brand-01", "held").await;
    let token = world.provider.connect("brand-01", &["user.info.basic"], Duration::ZERO);
    // A store that names no scopes: the publish check knows, or the next refresh.
    world.write("brand-01", &token);
    world.execute("UPDATE accounts SET scopes = NULL WHERE account = 'brand-01'");
    world.until_cause("brand-01", "scope_missing").await;
    until_gate(&world, "brand-01", "held").await;
    until_status(&world, "brand-01", "needs_reconnect").await;
    let opened = world.running().scrape().await.value("gate_moves_total", &[("to", "open")]);
    assert_eq!(opened, Some(0.0), "not for a moment");
}

#[tokio::test]
async fn what_a_person_holds_stays_held_over_a_kill_until_a_person_resumes_it() {
    let mut world = World::new().start().await;
    let (code, said) = told(&world, &["hold", "tiktok/brand-01"]).await;
    assert_eq!(code, Some(0), "{said}");
    assert!(said.contains("oauth-keepalive resume tiktok/brand-01"), "the way back: {said}");
    assert_eq!(gate_of(&world, "brand-01").await.as_deref(), Some("held"));
    until_status(&world, "brand-01", "needs_reconnect").await;
    world.until_rotated("brand-01", 1).await;
    assert_eq!(gate_of(&world, "brand-01").await.as_deref(), Some("held"), "and it is kept alive");
    world.kill_at_rest().await;
    world.start().await;
    until_gate(&world, "brand-01", "held").await;
    // Nothing is wrong with it, so whoever looks must see the gate itself.
    let (_, said) = told(&world, &["accounts", "--output", "json"]).await;
    let accounts: Vec<serde_json::Value> = serde_json::from_str(&said).unwrap();
    let held = accounts.iter().find(|one| one["account"] == "brand-01").unwrap();
    assert_eq!((&held["gate"]["gate"], &held["gate"]["why"]), (&"held".into(), &"by_hand".into()));
    let (_, said) = told(&world, &["diagnose", "tiktok/brand-01"]).await;
    let said = said.split_whitespace().collect::<Vec<_>>().join(" ");
    assert!(said.contains("Gate held by hand since"), "{said}");
    let (code, said) = told(&world, &["canary", "tiktok/brand-01"]).await;
    assert_eq!(code, Some(1), "{said}");
    assert!(said.contains("oauth-keepalive resume tiktok/brand-01"), "the way out: {said}");

    let (code, said) = told(&world, &["resume", "tiktok/brand-01", "--output", "json"]).await;
    assert_eq!(code, Some(0), "{said}");
    let answer: serde_json::Value = serde_json::from_str(&said).unwrap();
    assert_eq!((&answer["gate"], &answer["why"]), (&"open".into(), &"by_hand".into()));
    until_status(&world, "brand-01", "connected").await;
    assert!(world.mails_to(&owner("brand-01")).is_empty(), "who holds it knows it");
}

#[tokio::test]
async fn who_resumes_while_a_refresh_is_under_way_is_not_told_that_somebody_still_holds_it() {
    let world = World::new().renewed_early().section("http", HELD_BACK).start().await;
    let (code, said) = told(&world, &["hold", "tiktok/brand-01"]).await;
    assert_eq!(code, Some(0), "{said}");
    world.provider.plant(Some("brand-01"), Surface::Token, Fault::HoldAnswer, Lasting::Times(1));
    world.until_held_back().await;
    let state = rusqlite::Connection::open(world.path("state/state.db")).unwrap();
    let is_followed = async || {
        let sql = "SELECT door NOT LIKE '%by_hand\":true%' FROM memory WHERE account = 'brand-01'";
        state.query_row(sql, [], |row| row.get::<_, bool>(0)).unwrap_or(false)
    };
    let answer = async {
        until_or("resume is followed", is_followed, || world.tell()).await;
        // The command has looked by now; what it saw is a gate that is shut and that nobody holds.
        tokio::time::sleep(Duration::from_secs(1)).await;
        world.provider.release();
    };
    let resume = ["resume", "tiktok/brand-01"];
    let ((code, said), ()) = tokio::join!(told(&world, &resume), answer);
    assert_eq!((code, said.contains("open; its queue goes on")), (Some(0), true), "{said}");
}

#[tokio::test]
async fn a_hold_outlives_the_rows_absence_and_a_kill_meanwhile() {
    let mut world = World::new().start().await;
    let (code, said) = told(&world, &["hold", "tiktok/brand-01"]).await;
    assert_eq!(code, Some(0), "{said}");
    until_status(&world, "brand-01", "needs_reconnect").await;
    world.execute("UPDATE accounts SET enabled = 0 WHERE account = 'brand-01'");
    let is_gone = async || gate_of(&world, "brand-01").await.is_none();
    until_or("brand-01 is shown no more", is_gone, || world.tell()).await;
    let state = || rusqlite::Connection::open(world.path("state/state.db")).unwrap();
    let sql = "SELECT door LIKE '%\"left\":%' FROM memory WHERE account = 'brand-01'";
    let is_kept = async || state().query_row(sql, [], |row| row.get(0)).unwrap_or(false);
    until_or("its gate is kept", is_kept, || world.tell()).await;
    // Or whoever starts next would only follow the order once more; it is kept for a week, the gate for longer.
    state().execute("DELETE FROM inbox", []).unwrap();

    world.kill_at_rest().await;
    world.start().await;
    until_gate(&world, "brand-02", "open").await;
    assert_eq!(gate_of(&world, "brand-01").await, None);
    // Whoever switches it on clears the column as well.
    world.execute(
        "UPDATE accounts SET enabled = 1, status = 'connected' WHERE account = 'brand-01'",
    );
    until_gate(&world, "brand-01", "held").await;
    until_status(&world, "brand-01", "needs_reconnect").await;
    let opened = world.running().scrape().await.value("gate_moves_total", &[("to", "open")]);
    assert_eq!(opened, Some(0.0), "not for a moment");

    let (code, said) = told(&world, &["resume", "tiktok/brand-01"]).await;
    assert_eq!(code, Some(0), "{said}");
    until_status(&world, "brand-01", "connected").await;
}

#[tokio::test]
async fn a_canary_on_demand_asks_the_provider_and_says_what_came_of_it() {
    let world = World::new().start().await;
    let (code, said) = told(&world, &["canary", "tiktok/brand-01"]).await;
    assert_eq!(code, Some(0), "{said}");
    assert!(said.contains("open"), "{said}");
    assert_eq!(publish_checks(&world, "passed").await, 1.0);
    world.provider.drop_scope("brand-02", "video.publish");
    world.until_rotated("brand-02", 1).await;
    let (code, said) = told(&world, &["canary", "tiktok/brand-02"]).await;
    assert_eq!(code, Some(1), "{said}");
    assert!(said.contains("held"), "{said}");
}

#[tokio::test]
async fn what_is_wanted_while_no_sidecar_runs_is_said_to_wait_and_followed_by_the_next() {
    let mut world = World::new().start().await;
    world.program().terminate().await;
    let (code, said) = told(&world, &["hold", "tiktok/brand-01"]).await;
    assert_eq!(code, Some(1), "{said}");
    assert!(said.contains("is the sidecar running?"), "{said}");
    let (code, said) = told(&world, &["hold", "tiktok/nobody"]).await;
    assert_eq!(code, Some(2), "{said}");
    world.start().await;
    until_gate(&world, "brand-01", "held").await;
}
