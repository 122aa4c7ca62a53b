//! Clocks that are wrong, and ends that come closer.

use crate::{
    until_or,
    world::{SCOPES, World, owner},
};
use std::time::Duration;

#[tokio::test]
async fn a_provider_whose_clock_is_wrong_is_shown_and_moves_no_end() {
    let world = World::new().accounts(2).life(8).start().await;
    world.provider.set_clock_ahead(7_200);
    until_offset(&world, 7_200.0).await;
    for _ in 0..2 {
        world.until_rotated("brand-01", 1).await;
        let labels = [("account", "brand-01"), ("token", "access")];
        let left = world.running().scrape().await.value("token_expires_in_seconds", &labels);
        assert!(left.is_some_and(|left| left <= 8.0), "{left:?}");
    }
    world.provider.set_clock_ahead(0);
    until_offset(&world, 0.0).await;
    world.assert_well_behaved();
    world.until_cause("brand-01", "none").await;
}

async fn until_offset(world: &World, expected: f64) {
    until_or(
        "the provider's clock is known",
        async || {
            let labels = [("provider", "tiktok")];
            let shown = world.running().scrape().await.value("clock_offset_seconds", &labels);
            // Halves of round trips, and whole seconds.
            shown.is_some_and(|shown| (shown - expected).abs() <= 10.0)
        },
        || world.tell(),
    )
    .await;
}

#[tokio::test]
async fn an_end_that_renewals_do_not_move_is_learnt_announced_to_the_owner_and_over_with_a_new_consent()
 {
    let world = World::new().accounts(2).life(12).prepare().await;
    world.provider.end_refresh_token_in("brand-01", Duration::from_secs(75));
    let mut world = world;
    world.start().await;
    // The store says half a year of both; only answers tell them apart.
    until_end(&world, "brand-01", "absolute").await;
    until_end(&world, "brand-02", "sliding").await;
    world.until_cause("brand-01", "not_renewable").await;
    let mails = world.until_mails(&owner("brand-01"), 1).await;
    let text = mails[0].text.replace('\n', " ");
    assert!(text.contains("cannot be renewed before it ends"), "{text}");
    // It is renewed all the same.
    world.until_kept_and_live("brand-01").await;
    let new = world.provider.connect("brand-01", &SCOPES, Duration::ZERO);
    world.write("brand-01", &new);
    world.until_cause("brand-01", "none").await;
    world.until_mails(&owner("brand-01"), 2).await;
    assert_eq!(world.mails_to(&owner("brand-02")), []);
}

async fn until_end(world: &World, account: &str, moves: &str) {
    until_or(
        "the end is watched long enough",
        async || {
            let labels = [("account", account), ("token", "refresh"), ("moves", moves)];
            world.running().scrape().await.value("token_end_info", &labels) == Some(1.0)
        },
        || world.tell(),
    )
    .await;
}
