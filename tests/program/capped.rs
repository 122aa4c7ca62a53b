//! What caps hold back, of mails and of requests to webhooks, and that all of it arrives.

use crate::{
    hook::Hook,
    process::{command, stdout},
    until_or,
    webhooks::announce_removal,
    world::{OPERATOR, World, brands, owner},
};
use std::collections::BTreeMap;

/// The one owner of all accounts in the first test.
const ANNA: &str = "anna@invented.example";

#[tokio::test]
async fn an_owners_cap_holds_mails_back_and_no_request_and_the_next_mail_has_all_of_them() {
    let hook = Hook::start().await;
    let webhooks = format!("{{webhooks: [{}]}}", webhook("chat", &hook, "owner"));
    let caps = format!("owners: [{{accounts: \"*\", to: \"{ANNA}\"}}], caps: {{owner_per_day: 1}}");
    let mut world = capped(3, &caps, &webhooks).await;
    revoke(&world, "brand-01").await;
    world.until_mails(ANNA, 1).await;
    for account in ["brand-02", "brand-03"] {
        revoke(&world, account).await;
    }
    world.until_metric("outbox_held", &[], 2.0).await;
    world.until_metric("notices_held_total", &[("cap", "owner")], 2.0).await;
    world.until_metric("notices_held_total", &[("cap", "total")], 0.0).await;
    until_or("the webhook hears", async || hook.bodies().len() >= 3, || world.tell()).await;
    let operators = world.until_mails(OPERATOR, 1).await;
    assert!(operators[0].text.contains("held back"), "{}", operators[0].text);
    assert_eq!(held(&world).await, 2, "each is listed, with the cap");

    let day = 25 * 60 * 60;
    make_older(&mut world, day).await;
    let mails = world.until_mails(ANNA, 2).await;
    for account in ["brand-02", "brand-03"] {
        assert!(mails[1].text.contains(account), "{}", mails[1].text);
    }
    world.until_metric("outbox_held", &[], 0.0).await;
    assert_eq!(held(&world).await, 0);
    assert_eq!(told(&hook), BTreeMap::from_iter(brands(3).into_iter().map(|brand| (brand, 1))));
}

#[tokio::test]
async fn the_cap_of_an_hour_holds_requests_back_tells_the_operators_webhook_and_loses_none() {
    let (chat, desk) = (Hook::start().await, Hook::start().await);
    let webhooks = format!(
        "{{webhooks: [{}, {}]}}",
        webhook("chat", &chat, "owner"),
        webhook("desk", &desk, "operator")
    );
    let mut world = capped(12, "caps: {total_per_hour: 10}", &webhooks).await;
    for account in brands(12) {
        revoke(&world, &account).await;
    }
    // Nine mails and nine requests: the tenth of each is the operator's.
    until_or("the operator's webhook hears", async || !desk.bodies().is_empty(), || world.tell())
        .await;
    world.until_metric("outbox_held", &[], 6.0).await;
    world.until_metric("notices_held_total", &[("cap", "total")], 6.0).await;
    let mails = world.until_mails(OPERATOR, 1).await;
    assert!(mails[0].text.contains("held back"), "{}", mails[0].text);
    let desks = desk.bodies();
    assert!(desks[0]["held_back"].as_u64().unwrap() > 0, "{desks:?}");
    assert_eq!((desks.len(), chat.bodies().len()), (1, 9));
    assert_eq!(held(&world).await, 6);

    let two_hours = 2 * 60 * 60;
    make_older(&mut world, two_hours).await;
    until_or("the webhook hears of the rest", async || chat.bodies().len() >= 10, || world.tell())
        .await;
    assert_eq!(chat.bodies()[9]["total"], 3, "what was held back is one list");
    world.until_metric("outbox_held", &[], 0.0).await;
    let each_once = BTreeMap::from_iter(brands(12).into_iter().map(|brand| (brand, 1)));
    assert_eq!(told(&chat), each_once);
    for account in brands(12) {
        world.until_mails(&owner(&account), 1).await;
    }
    let words = desk.bodies().len();
    assert_eq!(words, 1, "nothing is held back any more");
}

/// Tokens that live for a day, so that nothing happens but what the test does.
async fn capped(accounts: usize, caps: &str, webhooks: &str) -> World {
    let plan = World::new().accounts(accounts).life(86_400).age(600).section("notify", webhooks);
    let plan = plan.section("webhooks", "{enabled: true, listen: \"127.0.0.1:0\"}");
    let mut world = plan.prepare().await;
    let mail = format!("digest_after: 0s, reminders: [], {caps}");
    let mail = world.section("mail").replace("digest_after: 0s", &mail);
    world.reconfigure("mail", &mail);
    world.start().await;
    world.until_ready().await;
    world
}

fn webhook(name: &str, hook: &Hook, audience: &str) -> String {
    format!("{{name: {name}, url: \"{}\", audience: {audience}}}", hook.url)
}

/// The provider says of each by itself that its owner took the consent back: refusals of many would be their app's trouble.
async fn revoke(world: &World, account: &str) {
    let answer = announce_removal(world, world.running(), account).await;
    assert_eq!(answer.status, 200, "{}", answer.text());
    world.until_cause(account, "consent_revoked").await;
}

/// What was made so far was made longer ago than a cap looks back, when the program comes back.
async fn make_older(world: &mut World, seconds: u32) {
    assert!(world.program().terminate().await.success());
    let older = format!("UPDATE letter SET made_at = made_at - {seconds}");
    let state = rusqlite::Connection::open(world.path("state/state.db")).unwrap();
    assert!(state.execute(&older, []).unwrap() > 0);
    drop(state);
    world.start().await;
}

/// How many notices the command lists as held, each of which must say by what.
async fn held(world: &World) -> usize {
    let config = world.config();
    let asked = ["notices", "--output", "json", "--config", config.to_str().unwrap()];
    let listed = stdout(&command(&asked).await);
    let listed: Vec<serde_json::Value> = serde_json::from_str(&listed).unwrap();
    let is_held = |mail: &&serde_json::Value| mail["state"] == "held";
    let by_what =
        |mail: &serde_json::Value| matches!(mail["failure"].as_str(), Some("owner" | "total"));
    assert!(listed.iter().filter(is_held).all(by_what), "{listed:?}");
    listed.iter().filter(is_held).map(|mail| mail["notices"].as_u64().unwrap() as usize).sum()
}

/// How often a webhook heard of each account.
fn told(hook: &Hook) -> BTreeMap<String, usize> {
    let mut told = BTreeMap::new();
    for body in hook.bodies() {
        for notice in body["notices"].as_array().unwrap() {
            *told.entry(notice["name"].as_str().unwrap().to_owned()).or_default() += 1;
        }
    }
    told
}
