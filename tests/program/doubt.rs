//! The provider's answer does not arrive.

use crate::world::{World, owner};
use oauth_keepalive::demo::provider::{Fault, Lasting, Refreshed, Surface};

/// After so long a request without an answer is over, and one to a busy machine is not.
const QUICK: &str = "{total_deadline: 4s, connect_deadline: 1s}";

#[tokio::test]
async fn an_answer_that_is_lost_once_costs_one_probe_and_nothing_else() {
    let faults = [
        Fault::LoseAnswer,
        Fault::Truncate,
        Fault::StatusAfter(502),
        Fault::Html200 { commits: true },
        // For ever.
        Fault::HoldAnswer,
        Fault::HugeBody { bytes: 100_000 },
    ];
    let plan = World::new().accounts(faults.len() + 1).renewed_early().grace(600);
    let world = plan.section("http", QUICK).start().await;
    let name = |index: usize| format!("brand-{:02}", index + 1);
    for (index, fault) in faults.iter().enumerate() {
        let account = name(index);
        world.provider.plant(Some(&account), Surface::Token, fault.clone(), Lasting::Times(1));
    }
    for (index, fault) in faults.iter().enumerate() {
        let account = name(index);
        world.until_rotations(&account, 2).await;
        let refreshed = world.refreshed(&account);
        let expected = [Refreshed::Rotated, Refreshed::Repeated, Refreshed::Rotated];
        assert_eq!(refreshed[..3], expected, "{fault:?}");
        let probes = refreshed.iter().filter(|how| **how == Refreshed::Repeated).count();
        assert_eq!(probes, 1, "{fault:?}: {refreshed:?}");
        world.until_cause(&account, "none").await;
    }
    assert!(!world.refreshed("brand-07").contains(&Refreshed::Repeated));
    assert_eq!(world.mailbox.mails(), []);
}

#[tokio::test]
async fn an_answer_that_is_lost_twice_is_never_asked_for_a_third_time_and_the_owner_is_told_once() {
    let world = World::new().life(8).grace(600).section("http", QUICK).start().await;
    let twice = Lasting::Times(2);
    world.provider.plant(Some("brand-01"), Surface::Token, Fault::LoseAnswer, twice);
    world.until_cause("brand-01", "rotation_lost").await;
    assert_eq!(world.refreshed("brand-01"), [Refreshed::Rotated, Refreshed::Repeated]);
    let mails = world.until_mails(&owner("brand-01"), 1).await;
    assert!(mails[0].subject.contains("brand-01"), "{}", mails[0].subject);
    world.until_rotated("brand-02", 3).await;
    assert_eq!(world.refreshed("brand-01").len(), 2, "{}", world.tell());
    world.until_mails(&owner("brand-01"), 1).await;
    world.until_counts_agree().await;
}

#[tokio::test]
async fn trouble_that_spends_nothing_is_tried_again_and_nobody_hears_of_it() {
    let stranger = "http://127.0.0.1:9/stranger".to_owned();
    let faults = [
        (Fault::Drop, Refreshed::NotProcessed),
        (Fault::StatusBefore(500), Refreshed::NotProcessed),
        (Fault::RateLimit { retry_after: Some(1) }, Refreshed::NotProcessed),
        (Fault::Html200 { commits: false }, Refreshed::NotProcessed),
        (Fault::Redirect { status: 307, to: stranger }, Refreshed::NotProcessed),
        (Fault::OmitRefreshToken, Refreshed::Kept),
        (Fault::BlankRefreshToken, Refreshed::Kept),
    ];
    let plan = World::new().accounts(faults.len()).renewed_early().section("http", QUICK);
    let world = plan.start().await;
    let name = |index: usize| format!("brand-{:02}", index + 1);
    for (index, (fault, _)) in faults.iter().enumerate() {
        let account = name(index);
        world.provider.plant(Some(&account), Surface::Token, fault.clone(), Lasting::Times(1));
    }
    for (index, (fault, first)) in faults.iter().enumerate() {
        let account = name(index);
        world.until_rotations(&account, 1).await;
        world.until_cause(&account, "none").await;
        assert_eq!(world.refreshed(&account)[..2], [*first, Refreshed::Rotated], "{fault:?}");
        world.until_kept_and_live(&account).await;
    }
    world.assert_well_behaved();
    world.until_counts_agree().await;
    assert_eq!(world.mailbox.mails(), []);
}
