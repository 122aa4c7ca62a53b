//! The configuration changes while the program runs, for better and for worse.

use crate::{
    http,
    world::{World, brands, replace},
};

const FLAT: &str = "{backoff_first: 1s, backoff_max: 4s, spread: 0.0, due_after: ";

async fn post_reload(world: &World) -> http::Answer {
    http::send(world.running().telemetry, "POST", "/-/reload", &[], "").await.unwrap()
}

/// Seconds from issue to due instant of the first account.
async fn due_after(world: &World) -> f64 {
    let scrape = world.running().scrape().await;
    let account = [("account", "brand-01")];
    let access = [("account", "brand-01"), ("token", "access")];
    let due = scrape.value("refresh_due_timestamp_seconds", &account).unwrap();
    let expiry = scrape.value("token_expiry_timestamp_seconds", &access).unwrap();
    let life = scrape.value("token_lifetime_seconds", &access).unwrap();
    due - (expiry - life)
}

async fn until_due_after(world: &World, seconds: f64) {
    let is_so = async || due_after(world).await.total_cmp(&seconds).is_eq();
    crate::until_or(&format!("due after {seconds}"), is_so, || world.tell()).await;
}

#[tokio::test]
async fn a_changed_file_takes_effect_by_itself_and_a_broken_one_changes_nothing() {
    let plan = World::new().life(200).section("refresh", &format!("{FLAT}0.5}}"));
    let mut world = plan.start().await;
    world.until_ready().await;
    until_due_after(&world, 100.0).await;
    world.until_metric("config_last_reload_successful", &[], 1.0).await;

    world.reconfigure("refresh", &format!("{FLAT}0.6}}"));
    until_due_after(&world, 120.0).await;

    world.reconfigure("refresh", &format!("{FLAT}0.7, due_soon: 1}}"));
    world.until_metric("config_last_reload_successful", &[], 0.0).await;
    world.until_metric("config_reload_failures_total", &[], 1.0).await;
    let page = world.running().get("/").await.text();
    assert!(page.contains("due_soon"), "the status page says what is wrong: {page}");
    until_due_after(&world, 120.0).await;
    assert!(world.running().log().contains("the old one stays in force"));

    world.reconfigure("refresh", &format!("{FLAT}0.7}}"));
    until_due_after(&world, 140.0).await;
    world.until_metric("config_last_reload_successful", &[], 1.0).await;
    assert!(!world.running().get("/").await.text().contains("due_soon"));
    assert_eq!(world.refreshes(), [], "nothing was due");
}

#[tokio::test]
async fn sighup_and_a_post_reload_and_a_post_says_what_is_wrong() {
    let mut world = World::new().life(200).start().await;
    world.until_ready().await;
    world.until_metric("config_reloads_total", &[], 1.0).await;
    world.running().signal("-HUP");
    world.until_metric("config_reloads_total", &[], 2.0).await;
    let answer = post_reload(&world).await;
    assert_eq!(answer.status, 200, "{}", answer.text());
    world.until_metric("config_reloads_total", &[], 3.0).await;

    replace(&world.config(), "store: {kind: fil}\n");
    let answer = post_reload(&world).await;
    assert_eq!(answer.status, 500, "{}", answer.head);
    assert!(answer.text().contains("store.kind"), "{}", answer.text());
    world.until_metric("config_last_reload_successful", &[], 0.0).await;

    // Without it in the configuration nobody can reload from afar; the switch itself takes a restart.
    world.reconfigure("server", "{listen: \"127.0.0.1:0\"}");
    assert_eq!(world.program().terminate().await.code(), Some(0));
    world.start().await;
    assert_eq!(post_reload(&world).await.status, 403);
    let answer = http::get(world.running().telemetry, "/-/reload").await.unwrap();
    assert_eq!(answer.status, 405, "looking is not asking");
}

#[tokio::test]
async fn what_takes_a_restart_is_refused_in_a_sentence_and_the_rest_with_it() {
    let plan = World::new().life(200).section("refresh", &format!("{FLAT}0.5}}"));
    let mut world = plan.start().await;
    world.until_ready().await;
    let changes = [
        ("store", "{kind: sqlite, path: elsewhere.db}", "`store`"),
        ("server", "{listen: \"127.0.0.1:1\", enable_reload: true}", "`server.listen`"),
        ("publisher", "{enabled: false}", "`publisher.enabled`"),
        ("state", "{directory: elsewhere}", "`state`"),
    ];
    for (section, body, named) in changes {
        let before = world.section(section).to_owned();
        world.reconfigure(section, body);
        world.reconfigure("refresh", &format!("{FLAT}0.6}}"));
        let answer = post_reload(&world).await;
        let text = answer.text();
        assert_eq!(answer.status, 500, "{text}");
        assert!(text.contains(named) && text.contains("restart"), "{text}");
        world.until_metric("config_last_reload_successful", &[], 0.0).await;
        until_due_after(&world, 100.0).await;
        world.reconfigure("refresh", &format!("{FLAT}0.5}}"));
        world.reconfigure(section, &before);
        assert_eq!(post_reload(&world).await.status, 200);
        world.until_metric("config_last_reload_successful", &[], 1.0).await;
    }
    assert_eq!(world.running().get("/-/healthy").await.status, 200);
}

#[tokio::test]
async fn a_reload_in_the_middle_of_a_fleet_at_work_loses_nothing() {
    let world = World::new().accounts(6).life(6).start().await;
    crate::until_or(
        "every account is renewed three times while somebody reloads without end",
        async || {
            world.running().signal("-HUP");
            (1..=6).all(|number| world.rotations(&format!("brand-{number:02}")) >= 3)
        },
        || world.tell(),
    )
    .await;
    world.until_counts_agree().await;
    world.assert_well_behaved();
    for account in brands(6) {
        world.until_kept_and_live(&account).await;
    }
    assert_eq!(world.mailbox.mails(), []);
}
