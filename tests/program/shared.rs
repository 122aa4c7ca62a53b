//! Several rows of the store hold one credential.

use crate::{
    until_or,
    world::{SCOPES, World, owner},
};
use oauth_keepalive::demo::provider::Refreshed;
use std::time::Duration;

/// Copies the token of `brand-01` into another row, as a publisher does with a login that has several pages.
pub(crate) fn copy(world: &World, account: &str) {
    world.execute(&format!(
        "INSERT INTO accounts (provider, account, owner, access_token, refresh_token, expires_at, \
         refresh_expires_at, issued_at, scopes) \
         SELECT provider, '{account}', '{}', access_token, refresh_token, expires_at, \
         refresh_expires_at, issued_at, scopes FROM accounts WHERE account = 'brand-01'",
        owner(account),
    ));
}

/// All rows hold what the provider honours, and it was renewed for them so many times more.
pub(crate) async fn until_renewed_together(world: &World, rows: &[&str], more: usize) {
    world.until_rotated("brand-01", more).await;
    until_or(
        "every row holds the one token that the provider honours",
        async || {
            world.kept("brand-01")
                && rows.iter().all(|row| world.stored(row) == world.stored("brand-01"))
        },
        || world.tell(),
    )
    .await;
}

#[tokio::test]
async fn rows_with_one_refresh_token_are_one_credential_over_rotations_kills_and_its_death() {
    let mut world = World::new().life(8).prepare().await;
    let pages = ["page-a", "page-b"];
    pages.iter().for_each(|page| copy(&world, page));
    world.start().await;
    world.until_metric("accounts_sharing_credential", &[], 3.0).await;
    until_renewed_together(&world, &pages, 3).await;
    for _ in 0..2 {
        world.kill_at_rest().await;
        world.start().await;
        until_renewed_together(&world, &pages, 2).await;
    }
    world.assert_well_behaved();
    assert!(
        world.refreshed("brand-01").iter().all(|how| *how == Refreshed::Rotated),
        "{}",
        world.tell()
    );
    assert_eq!(world.mailbox.mails(), [], "nobody has to do anything");

    world.provider.revoke_consent("brand-01");
    for account in ["brand-01", "page-a", "page-b"] {
        world.until_cause(account, "refresh_token_rejected").await;
    }
    let refused = |world: &World| {
        let log = world.refreshed("brand-01");
        log.into_iter().filter(|how| *how == Refreshed::Revoked).count()
    };
    assert_eq!(refused(&world), 1, "once for all of them: {}", world.tell());
    let token = world.provider.connect("brand-01", &SCOPES, Duration::ZERO);
    for account in ["brand-01", "page-a", "page-b"] {
        world.write(account, &token);
    }
    for account in ["brand-01", "page-a", "page-b"] {
        world.until_cause(account, "none").await;
    }
    until_renewed_together(&world, &pages, 2).await;
    assert_eq!(refused(&world), 1);
}
