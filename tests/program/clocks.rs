//! Clocks that are wrong, and ends that come closer.

use crate::{until_or, world::World};

#[tokio::test]
async fn a_provider_whose_clock_is_wrong_is_shown_and_moves_no_end() {
    let world = World::new().accounts(2).life(8).start().await;
    world.provider.set_clock_ahead(7_200);
    until_offset(&world, 7_200.0).await;
    for _ in 0..2 {
        world.until_rotated("brand-01", world.rotations("brand-01") + 1).await;
        let labels = [("account", "brand-01"), ("token", "access")];
        let left = world.running().scrape().await.value("token_expires_in_seconds", &labels);
        assert!(left.is_some_and(|left| left <= 8.0), "{left:?}");
    }
    world.provider.set_clock_ahead(0);
    until_offset(&world, 0.0).await;
    world.assert_well_behaved();
    assert_eq!(world.cause("brand-01").await.as_deref(), Some("none"));
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
