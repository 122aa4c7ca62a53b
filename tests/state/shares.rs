//! Who looks after which accounts, among replicas on one database.

use super::*;

const LEASE: Duration = Duration::from_secs(30);

fn beat() -> Beat {
    Beat {
        name: "a replica".to_owned(),
        lease: LEASE,
        counts: Counts::default(),
        releasing: Shares::NONE,
        takes: true,
    }
}

fn shares(held: &Held) -> Shares {
    held.shares.keys().copied().collect()
}

async fn replica(world: &Postgres) -> State {
    State::open_as(&world.settings(), Role::Replica).await.unwrap()
}

async fn hold(state: &State) -> Held {
    state.hold(&beat()).await.unwrap()
}

/// Gives back what is too much, as a replica does after it has brought those accounts to rest.
async fn share_out(state: &State) {
    let held = hold(state).await;
    let releasing = shares(&held).iter().take(held.surplus).collect();
    state.hold(&Beat { releasing, ..beat() }).await.unwrap();
}

/// Everybody beats until nothing moves, and no share is held twice.
async fn settle(states: &[&State]) -> Vec<usize> {
    for _ in 0..3 {
        for state in states {
            share_out(state).await;
        }
    }
    let mut all = Shares::NONE;
    let mut counts = Vec::new();
    for state in states {
        let held = hold(state).await;
        assert!(shares(&held).within(all).is_empty(), "a share is held twice");
        all = all.and(shares(&held));
        counts.push(held.shares.len());
    }
    assert_eq!(all, Shares::ALL);
    counts
}

/// An account of a share among these.
fn account_of(shares: Shares) -> AccountId {
    let all = (0..10_000).map(|nth| AccountId::new("tiktok", format!("account-{nth}")));
    all.into_iter().find(|id| shares.contain(id)).unwrap()
}

fn memory(id: &AccountId, failed_in_a_row: u16) -> Memory {
    Memory {
        id: id.clone(),
        token: None,
        last_refresh_at: None,
        cause: None,
        cause_since: None,
        told: None,
        told_since: None,
        failed_in_a_row,
        not_before: None,
        first_seen_at: None,
        door: Some(Default::default()),
        left: None,
    }
}

fn notice(id: &AccountId, change: Change) -> Notice {
    Notice {
        subject: Subject::Account(id.clone()),
        cause: Cause::RefreshTokenRejected,
        change,
        audience: Audience::Owner,
        since: at(0),
        at: at(0),
        expires_at: None,
        evidence: None,
        step: None,
        missing_scopes: Vec::new(),
        accounts: 1,
        posts_at_risk: None,
        gate: Gate::Open,
    }
}

fn owner() -> Vec<Secret> {
    vec![Secret::new("owner@invented.example".to_owned())]
}

#[tokio::test]
async fn on_sqlite_one_process_holds_everything_for_ever() {
    let world = Sqlite::make().await;
    let state = open(&world).await;
    let counts = Counts { accounts: 7, needing_reconnect: 1, unsaved: 2, in_flight: 3 };
    let held = state.hold(&Beat { counts, ..beat() }).await.unwrap();
    assert_eq!((shares(&held), held.lasts, held.surplus), (Shares::ALL, None, 0));
    assert_eq!((held.members, held.totals), (1, counts));
}

#[tokio::test]
async fn one_two_and_three_replicas_have_fair_parts_and_so_do_those_who_stay() {
    let world = Postgres::make().await;
    let (one, two, three) = (replica(&world).await, replica(&world).await, replica(&world).await);
    assert_eq!(settle(&[&one]).await, [256]);
    assert_eq!(hold(&two).await.shares.len(), 0, "nothing is free yet");
    assert_eq!(settle(&[&one, &two]).await, [128, 128]);
    hold(&three).await;
    let mut parts = settle(&[&one, &two, &three]).await;
    parts.sort_unstable();
    assert_eq!(parts, [84, 86, 86]);
    three.leave().await.unwrap();
    assert_eq!(settle(&[&one, &two]).await, [128, 128]);
    one.leave().await.unwrap();
    assert_eq!(settle(&[&two]).await, [256]);
}

#[tokio::test]
async fn many_who_come_at_once_never_hold_a_share_twice() {
    let world = Postgres::make().await;
    let mut states = Vec::new();
    for _ in 0..5 {
        states.push(replica(&world).await);
    }
    let beats: Vec<_> = states
        .iter()
        .map(|state| {
            let state = state.clone();
            tokio::spawn(async move {
                for _ in 0..10 {
                    share_out(&state).await;
                }
            })
        })
        .collect();
    for beat in beats {
        beat.await.unwrap();
    }
    let parts = settle(&states.iter().collect::<Vec<_>>()).await;
    assert!(parts.iter().all(|part| (48..=52).contains(part)), "{parts:?}");
}

#[tokio::test]
async fn shares_of_somebody_who_is_not_heard_of_are_taken_when_their_time_is_over() {
    let world = Postgres::make().await;
    let (one, two) = (replica(&world).await, replica(&world).await);
    let first = hold(&one).await;
    let waiting = hold(&two).await;
    let free_in = waiting.next_free_in.unwrap();
    assert!(free_in <= LEASE && free_in > LEASE - Duration::from_secs(15), "{free_in:?}");
    assert_eq!((waiting.shares.len(), waiting.members), (0, 2));
    world.pass(30).await;
    let taken = hold(&two).await;
    assert_eq!((taken.shares.len(), taken.members, taken.next_free_in), (256, 1, None));
    let rose = |share: &u8| taken.shares[share] > first.shares[share];
    assert!(first.shares.keys().all(rose), "who comes back can tell that they were another's");
    assert_eq!(hold(&one).await.shares.len(), 0);
}

#[tokio::test]
async fn what_expired_and_was_taken_by_nobody_is_still_the_same_holders() {
    let world = Postgres::make().await;
    let state = replica(&world).await;
    let before = hold(&state).await;
    world.pass(300).await;
    assert_eq!(state.take_lease(&ann(), at(0), LIFE).await.unwrap(), None, "not before it says so");
    assert_eq!(hold(&state).await.shares, before.shares);
    lease(&state, &ann()).await;
}

#[tokio::test]
async fn a_replica_gets_the_lease_of_an_account_only_with_its_share() {
    let world = Postgres::make().await;
    let (one, two) = (replica(&world).await, replica(&world).await);
    assert_eq!(one.take_lease(&ann(), at(0), LIFE).await.unwrap(), None, "it holds nothing yet");
    hold(&two).await;
    settle(&[&one, &two]).await;
    let (ours, theirs) = (hold(&one).await, hold(&two).await);
    for (state, held, has) in [(&one, &ours, true), (&one, &theirs, false), (&two, &theirs, true)] {
        let id = account_of(shares(held));
        assert_eq!(state.take_lease(&id, at(0), LIFE).await.unwrap().is_some(), has, "{id}");
    }
}

#[tokio::test]
async fn a_guest_takes_the_lease_of_one_account_beside_those_who_run() {
    let world = Postgres::make().await;
    let (runs, guest) = (replica(&world).await, open(&world).await);
    hold(&runs).await;
    let lease = lease(&guest, &ann()).await;
    guest.intend(&lease, &intent_of(&lease.id)).await.unwrap();
    assert_eq!(runs.take_lease(&ann(), at(0), LIFE).await.unwrap(), None, "one at a time");
    guest.remember(vec![memory(&ann(), 3)]).await.unwrap();
    assert_eq!(guest.memories().await.unwrap().len(), 1);
    assert_eq!(hold(&runs).await.members, 1, "it is no member");
}

#[tokio::test]
async fn a_stalled_holder_writes_nothing_but_the_token_that_it_received() {
    let world = Postgres::make().await;
    let (stalled, heir) = (replica(&world).await, replica(&world).await);
    hold(&stalled).await;
    let lease = lease(&stalled, &ann()).await;
    let entry = stalled.intend(&lease, &intent_of(&lease.id)).await.unwrap();
    stalled.remember(vec![memory(&ann(), 1)]).await.unwrap();
    assert!(stalled.fire(&notice(&ann(), Change::Firing), owner()).await.unwrap());
    world.pass(60).await;
    assert_eq!(hold(&heir).await.shares.len(), 256);
    heir.remember(vec![memory(&ann(), 2)]).await.unwrap();

    stalled.remember(vec![memory(&ann(), 9)]).await.unwrap();
    stalled.forget(vec![Farewell::for_good(ann())]).await.unwrap();
    assert_eq!(stalled.memories().await.unwrap(), [memory(&ann(), 2)]);
    assert!(!stalled.resolve(&notice(&ann(), Change::Resolved)).await.unwrap());
    let bob = AccountId::new("tiktok", "bob");
    assert!(!stalled.fire(&notice(&bob, Change::Firing), owner()).await.unwrap());
    assert_eq!(stalled.outbox(Way::Mail).await.unwrap().0, 1, "the mail of before, and no other");
    assert_eq!(stalled.take_lease(&ann(), at(0), LIFE).await.unwrap(), None);

    stalled.record_result(entry, &ann(), &token("late")).await.unwrap();
    let open = heir.open_entry(&ann()).await.unwrap().unwrap();
    assert!(open.result.is_some(), "its heir finds the token");
    assert!(heir.resolve(&notice(&ann(), Change::Resolved)).await.unwrap());
}

#[tokio::test]
async fn an_heir_waits_for_the_lease_of_an_account_only_while_a_request_may_be_under_way() {
    let world = Postgres::make().await;
    let (stalled, heir) = (replica(&world).await, replica(&world).await);
    hold(&stalled).await;
    let id = |name: &str| AccountId::new("tiktok", name);
    let long = Duration::from_secs(600);
    let mut leases = Vec::new();
    for name in ["nothing sent", "on the wire", "answered"] {
        leases.push(stalled.take_lease(&id(name), at(0), long).await.unwrap().unwrap());
    }
    stalled.intend(&leases[1], &intent_of(&leases[1].id)).await.unwrap();
    let entry = stalled.intend(&leases[2], &intent_of(&leases[2].id)).await.unwrap();
    stalled.record_result(entry, &id("answered"), &token("new")).await.unwrap();
    world.pass(60).await;
    hold(&heir).await;
    let cases = [("nothing sent", true), ("on the wire", false), ("answered", true)];
    for (name, is_free) in cases {
        let taken = heir.take_lease(&id(name), at(0), long).await.unwrap();
        assert_eq!(taken.is_some(), is_free, "{name}");
    }
    let late = stalled.intend(&leases[0], &intent_of(&leases[0].id)).await;
    assert!(matches!(late, Err(Error::LeaseLost { .. })), "{late:?}");
    world.pass(600).await;
    hold(&heir).await;
    assert!(heir.take_lease(&id("on the wire"), at(0), long).await.unwrap().is_some());
}

#[tokio::test]
async fn notices_about_what_all_share_are_everybodys() {
    let world = Postgres::make().await;
    let (one, two) = (replica(&world).await, replica(&world).await);
    hold(&one).await;
    let of_store = |change| Notice { subject: Subject::Store, ..notice(&ann(), change) };
    assert!(two.fire(&of_store(Change::Firing), owner()).await.unwrap());
    assert!(!one.fire(&of_store(Change::Firing), owner()).await.unwrap(), "once for all");
    assert!(one.resolve(&of_store(Change::Resolved)).await.unwrap());
}

#[tokio::test]
async fn whoever_asks_hears_what_all_of_them_count() {
    let world = Postgres::make().await;
    let (one, two) = (replica(&world).await, replica(&world).await);
    let counts = |n| Counts { accounts: n, needing_reconnect: 1, unsaved: n / 10, in_flight: 2 };
    one.hold(&Beat { counts: counts(100), ..beat() }).await.unwrap();
    let held = two.hold(&Beat { counts: counts(30), ..beat() }).await.unwrap();
    let sum = Counts { accounts: 130, needing_reconnect: 2, unsaved: 13, in_flight: 4 };
    assert_eq!((held.totals, held.members), (sum, 2));
    world.pass(30).await;
    let held = two.hold(&Beat { counts: counts(30), ..beat() }).await.unwrap();
    assert_eq!((held.totals, held.members), (counts(30), 1), "the dead do not count");
}

#[tokio::test]
async fn tables_of_an_older_program_are_brought_up_to_date_and_keep_what_they_hold() {
    let world = Postgres::make().await;
    let before = open(&world).await;
    before.remember(vec![memory(&ann(), 5)]).await.unwrap();
    before.shut().await;
    world.execute(kinds::OLDER_OUTBOX).await;
    world.execute("DROP TABLE app; DROP TABLE share; DROP TABLE member; DROP TABLE history, inbox, spent, observed, consent, canary; DROP INDEX journal_spending; ALTER TABLE memory DROP COLUMN first_seen_at, DROP COLUMN door").await;
    world.age_to_version(2).await;
    let (one, two) = (replica(&world).await, replica(&world).await);
    assert_eq!(hold(&one).await.shares.len(), 256);
    assert_eq!(two.memories().await.unwrap(), [memory(&ann(), 5)]);
    let version: i64 = {
        let sql =
            format!("SELECT value FROM {}.meta WHERE name = 'schema_version'", world.schema());
        kinds::admin().await.query_one(&sql, &[]).await.unwrap().get(0)
    };
    assert!(version > 2, "it says version {version}");
}
