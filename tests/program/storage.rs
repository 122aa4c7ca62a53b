//! The publisher's store in trouble: nothing is spent that could not be saved, nothing received is lost.

use crate::{
    until_or,
    world::{HELD_BACK, OPERATOR, Plan, World, brands, owner},
};
use oauth_keepalive::demo::provider::{Fault, Lasting, Refreshed, Surface};
use rusqlite::Connection;
use std::{fs, time::Duration};

/// Somebody else writes to the file until this is dropped. Without WAL its readers wait too.
struct Lock(Connection);

impl Lock {
    fn take(world: &World) -> Self {
        let database = world.database();
        database.execute_batch("BEGIN EXCLUSIVE").unwrap();
        Self(database)
    }
}

impl Drop for Lock {
    fn drop(&mut self) {
        self.0.execute_batch("ROLLBACK").unwrap();
    }
}

#[tokio::test]
async fn while_the_store_cannot_be_read_nothing_is_spent_and_afterwards_all_is_well() {
    nothing_is_spent_in_vain(World::new().without_wal()).await;
}

#[tokio::test]
async fn while_the_store_can_be_read_and_not_written_nothing_is_spent_either() {
    nothing_is_spent_in_vain(World::new()).await;
}

async fn nothing_is_spent_in_vain(plan: Plan) {
    let world = plan.accounts(4).life(8).start().await;
    world.until_ready().await;
    let lock = Lock::take(&world);
    world.until_metric("store_up", &[], 0.0).await;
    let before = world.refreshes().len();
    until_or(
        "every token has ended, so every one was wanted",
        async || {
            let scrape = world.running().scrape().await;
            (1..=4).all(|number| {
                let account = format!("brand-{number:02}");
                let labels = [("account", account.as_str()), ("token", "access")];
                scrape.value("token_expires_in_seconds", &labels).unwrap() < 0.0
            })
        },
        || world.tell(),
    )
    .await;
    assert_eq!(world.refreshes().len(), before, "{}", world.tell());
    let ready = world.running().get("/-/healthy").await;
    assert_eq!(ready.status, 200, "somebody else's lock is no reason to restart us");
    drop(lock);
    world.until_metric("store_up", &[], 1.0).await;
    let accounts = brands(4);
    world.until_each_rotated(&accounts, 1).await;
    for account in &accounts {
        world.until_cause(account, "none").await;
        world.until_kept_and_live(account).await;
    }
    world.assert_well_behaved();
    world.until_counts_agree().await;
    assert_eq!(world.mailbox.mails(), [], "a minute of it would be worth a mail");
}

/// One account: the answer to another one could come while the store is locked, too.
fn alone() -> Plan {
    World::new().accounts(1).life(8).without_wal().section("http", HELD_BACK)
}

/// Locks the store while the answer with a new token is on its way.
async fn receive_while_locked(world: &World) -> Lock {
    world.provider.plant(Some("brand-01"), Surface::Token, Fault::HoldAnswer, Lasting::Times(1));
    world.until_held_back().await;
    let lock = Lock::take(world);
    world.provider.release();
    world.until_metric("unsaved_tokens", &[], 1.0).await;
    world.until_cause("brand-01", "unsaved_token").await;
    lock
}

#[tokio::test]
async fn a_token_that_comes_while_the_store_is_locked_is_kept_and_saved_afterwards() {
    let world = alone().start().await;
    let lock = receive_while_locked(&world).await;
    world.until_metric("store_up", &[], 0.0).await;
    // What is over before its mail has left is told to nobody.
    world.until_mails(OPERATOR, 1).await;
    drop(lock);
    world.until_metric("unsaved_tokens", &[], 0.0).await;
    world.until_metric("store_up", &[], 1.0).await;
    world.until_cause("brand-01", "none").await;
    until_or("it is saved", async || world.kept("brand-01"), || world.tell()).await;
    let mails = world.until_mails(OPERATOR, 2).await;
    assert!(mails[0].text.contains("brand-01"), "{}", mails[0].text);
    assert_eq!(world.mailbox.mails().len(), 2, "no owner could have helped");
    world.until_rotated("brand-01", 1).await;
    world.assert_well_behaved();
}

#[tokio::test]
async fn a_token_that_could_not_be_saved_survives_kill_9() {
    let mut world = alone().start().await;
    let lock = receive_while_locked(&world).await;
    world.program().kill_9();
    drop(lock);
    assert!(!world.kept("brand-01"));
    world.start().await;
    until_or("it is saved", async || world.kept("brand-01"), || world.tell()).await;
    world.until_rotated("brand-01", 1).await;
    world.until_cause("brand-01", "none").await;
    world.assert_well_behaved();
    let refused = |(_, how): &(_, Refreshed)| *how != Refreshed::Rotated;
    assert!(!world.refreshes().iter().any(refused), "{}", world.tell());
}

#[tokio::test]
async fn a_spilled_token_survives_kill_9_and_goes_into_a_journal_that_works_again() {
    spill_and_survive_kill_9(true).await;
}

#[tokio::test]
async fn a_spilled_token_survives_kill_9_and_goes_into_the_store_past_a_journal_that_does_not() {
    spill_and_survive_kill_9(false).await;
}

async fn spill_and_survive_kill_9(journal_works_again: bool) {
    // What only the spill holds is saved when its request is over.
    let plan = alone().section("http", "{total_deadline: 6s, connect_deadline: 1s}");
    let mut world = plan.section("state", "{directory: state, spill: elsewhere}").prepare().await;
    let elsewhere = world.path("elsewhere");
    fs::create_dir(&elsewhere).unwrap();
    world.start().await;
    let ours = Connection::open(world.path("state/state.db")).unwrap();
    ours.busy_timeout(Duration::from_secs(20)).unwrap();
    // As a disk that is full at that very moment, and not before.
    ours.execute_batch(
        "CREATE TRIGGER full BEFORE UPDATE OF result ON journal \
         BEGIN SELECT RAISE(FAIL, 'as told'); END",
    )
    .unwrap();
    let lock = receive_while_locked(&world).await;
    world.until_metric("spilled_tokens", &[], 1.0).await;
    let folders: Vec<_> = fs::read_dir(&elsewhere).unwrap().map(Result::unwrap).collect();
    let [folder] = folders.as_slice() else { panic!("one folder of ours: {folders:?}") };
    let files: Vec<_> = fs::read_dir(folder.path()).unwrap().map(Result::unwrap).collect();
    let [file] = files.as_slice() else { panic!("one file: {files:?}") };
    let content = fs::read(file.path()).unwrap();
    let current = world.provider.current("brand-01").unwrap();
    for secret in ["brand-01", current.access.expose()] {
        let is_there = content.windows(secret.len()).any(|part| part == secret.as_bytes());
        assert!(!is_there, "it is sealed");
    }

    world.program().kill_9();
    drop(lock);
    if journal_works_again {
        ours.execute_batch("DROP TRIGGER full").unwrap();
    }
    assert!(!world.kept("brand-01"));
    world.start().await;
    until_or("it is saved", async || world.kept("brand-01"), || world.tell()).await;
    world.until_metric("spilled_tokens", &[], 0.0).await;
    let _ = ours.execute_batch("DROP TRIGGER full");
    world.until_rotated("brand-01", 1).await;
    world.until_cause("brand-01", "none").await;
    assert_eq!(fs::read_dir(&elsewhere).unwrap().count(), 0, "nothing is left behind");
    world.assert_well_behaved();
    let refused = |(_, how): &(_, Refreshed)| *how != Refreshed::Rotated;
    assert!(!world.refreshes().iter().any(refused), "{}", world.tell());
}

#[tokio::test]
async fn a_store_that_is_not_there_is_waited_for() {
    let world = World::new().life(8).without_wal().start().await;
    world.until_ready().await;
    let (here, away) = (world.path("publisher.db"), world.path("elsewhere.db"));
    fs::rename(&here, &away).unwrap();
    world.until_metric("store_up", &[], 0.0).await;
    assert!(world.running().scrape().await.mentions("brand-01"), "it is not gone, only unseen");
    fs::rename(&away, &here).unwrap();
    world.until_metric("store_up", &[], 1.0).await;
    world.until_rotated("brand-01", 2).await;
    world.until_cause("brand-01", "none").await;
    world.assert_well_behaved();
}

#[tokio::test]
async fn an_account_whose_row_is_damaged_is_neither_forgotten_nor_told_of_again() {
    let world = World::new().life(8).start().await;
    world.provider.revoke_consent("brand-01");
    world.until_cause("brand-01", "refresh_token_rejected").await;
    world.until_mails(&owner("brand-01"), 1).await;
    world.execute("UPDATE accounts SET expires_at = 'tomorrow' WHERE account = 'brand-01'");
    world.until_metric("store_damaged_rows", &[], 1.0).await;
    assert_eq!(world.cause("brand-01").await.as_deref(), Some("refresh_token_rejected"));
    world.execute("UPDATE accounts SET expires_at = NULL WHERE account = 'brand-01'");
    world.until_metric("store_damaged_rows", &[], 0.0).await;
    assert_eq!(world.cause("brand-01").await.as_deref(), Some("refresh_token_rejected"));
    // One that is due cannot be renewed, and that is nobody else's trouble.
    world.execute("UPDATE accounts SET expires_at = 'tomorrow' WHERE account = 'brand-02'");
    world.until_metric("store_damaged_rows", &[], 1.0).await;
    world.until_metric("store_up", &[], 1.0).await;
    assert!(world.cause("brand-02").await.is_some());
    assert_eq!(world.mailbox.mails().len(), 1, "{}", world.tell());
}
