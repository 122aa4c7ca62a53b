//! Nothing goes wrong, and all is as promised.

use crate::{
    until_or,
    world::{World, brands},
};
use oauth_keepalive::demo::provider::{Fault, Lasting, Refreshed, Surface};
use std::{collections::BTreeMap, time::Duration};

#[tokio::test]
async fn healthy_accounts_are_renewed_again_and_again_and_never_lapse() {
    let accounts = brands(6);
    let world = World::new().accounts(accounts.len()).renewed_early().start().await;
    until_or(
        "every account is renewed three times",
        async || {
            for account in &accounts {
                assert!(world.live(account), "{account} has lapsed\n{}", world.tell());
            }
            accounts.iter().all(|account| world.rotations(account) >= 3)
        },
        || world.tell(),
    )
    .await;
    world.assert_well_behaved();
    world.until_counts_agree().await;
    let scrape = world.running().scrape().await;
    for account in &accounts {
        assert_eq!(scrape.cause(account).as_deref(), Some("none"));
        let labels = [("account", account.as_str()), ("token", "access")];
        let age = scrape.value("token_age_seconds", &labels).unwrap();
        let left = scrape.value("token_expires_in_seconds", &labels).unwrap();
        assert!((0.0..=40.0).contains(&age) && (0.0..=40.0).contains(&left), "{age} {left}");
        let unauthorized = [("account", account.as_str()), ("code", "401")];
        assert_eq!(scrape.value("api_responses_total", &unauthorized), Some(0.0));
    }
    assert_eq!(world.mailbox.mails(), []);
}

#[tokio::test]
async fn three_hundred_accounts_of_one_second_are_renewed_in_time_and_never_all_at_once() {
    const ACCOUNTS: usize = 300;
    const AT_ONCE: usize = 16;
    const LIFE: Duration = Duration::from_secs(60);
    const HANDLING: Duration = Duration::from_millis(400);
    let plan = World::new().accounts(ACCOUNTS).life(LIFE.as_secs());
    let plan = plan.section("refresh", "{backoff_first: 1s, due_after: 0.35, spread: 0.16}");
    let http = format!(
        "{{total_deadline: 3s, connect_deadline: 500ms, in_flight_per_app_max: {AT_ONCE}}}"
    );
    let world = plan.section("http", &http).prepare().await;
    // Slow enough that requests would pile up if nobody bounded them.
    let lasting = Lasting::For(Duration::from_secs(300));
    world.provider.plant(None, Surface::Token, Fault::Latency(HANDLING), lasting);
    let mut world = world;
    world.start().await;
    until_or(
        "every account is renewed",
        async || {
            let renewed = world.provider.count(|entry| entry.issued());
            renewed >= ACCOUNTS
        },
        || world.tell(),
    )
    .await;
    world.assert_well_behaved();
    let log = world.refreshes();
    let mut firsts = BTreeMap::new();
    for (entry, refreshed) in &log {
        assert_eq!(*refreshed, Refreshed::Rotated, "{entry:?}");
        firsts.entry(entry.account.clone().unwrap()).or_insert(entry.at);
    }
    assert_eq!(firsts.len(), ACCOUNTS, "one is renewed twice before another once");
    let latest = firsts.values().max().unwrap();
    assert!(*latest < LIFE.mul_f64(0.9), "the last one came at {latest:?}");
    // Whatever arrived within the time that each takes was under way together.
    let mut arrivals: Vec<Duration> = log.iter().map(|(entry, _)| entry.at).collect();
    arrivals.sort_unstable();
    let most = (0..arrivals.len())
        .map(|first| {
            let end = arrivals[first] + HANDLING.mul_f64(0.9);
            arrivals[first..].partition_point(|at| *at < end)
        })
        .max()
        .unwrap();
    assert!(most <= AT_ONCE, "{most} requests under way together");
    assert!(most > AT_ONCE / 2, "a bound that nothing comes near proves nothing: {most}");
}
