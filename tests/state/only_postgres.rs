//! What only a server can do wrong, and what it is there for.

use super::*;
use std::{collections::BTreeMap, sync::Mutex};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    sync::watch,
};

/// How far each account has come: the step that was answered last, and the one that was asked for last.
type Progress = Mutex<BTreeMap<AccountId, (u8, u8)>>;

const INTENDED: u8 = 1;
const RECORDED: u8 = 2;
const CLOSED: u8 = 3;

/// One account from its lease to its end, each call repeated until it is answered.
struct Walk {
    state: State,
    progress: Arc<Progress>,
    answered: watch::Sender<usize>,
    go_on: watch::Receiver<bool>,
}

impl Walk {
    async fn walk(mut self, id: AccountId) {
        let life = Duration::from_secs(600);
        let state = self.state.clone();
        let lease = self.insist(&id, 0, || state.take_lease(&id, at(0), life)).await.unwrap();
        let intent = intent_of(&id);
        let entry = self.insist(&id, INTENDED, || state.intend(&lease, &intent)).await;
        let token = token(&id.account);
        self.insist(&id, RECORDED, || state.record_result(entry, &id, &token)).await;
        self.insist(&id, CLOSED, || state.close(entry, Closing::Done)).await;
    }

    async fn insist<T, F>(&mut self, id: &AccountId, step: u8, call: impl Fn() -> F) -> T
    where
        F: Future<Output = Result<T, Error>>,
    {
        loop {
            self.progress.lock().unwrap().entry(id.clone()).or_default().1 = step;
            match call().await {
                Ok(value) => {
                    self.progress.lock().unwrap().get_mut(id).unwrap().0 = step;
                    self.answered.send_modify(|answered| *answered += 1);
                    return value;
                }
                Err(Error::Unavailable { .. }) => {
                    self.go_on.wait_for(|go_on| *go_on).await.unwrap();
                    tokio::time::sleep(Duration::from_millis(20)).await;
                }
                Err(other) => panic!("step {step} of {id}: {other}"),
            }
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_was_answered_before_the_server_was_killed_is_there_and_the_rest_can_be_repeated() {
    const ACCOUNTS: usize = 300;
    let world = Postgres::make().await;
    let mut server = Server::start();
    let settings = world.settings_in(&server.address);
    let state = State::open(&settings).await.unwrap();
    let progress = Arc::new(Progress::default());
    let (answered, mut count) = watch::channel(0);
    let (let_go_on, go_on) = watch::channel(false);
    let walks: Vec<_> = (0..ACCOUNTS)
        .map(|account| {
            let walk = Walk {
                state: state.clone(),
                progress: Arc::clone(&progress),
                answered: answered.clone(),
                go_on: go_on.clone(),
            };
            tokio::spawn(walk.walk(AccountId::new("tiktok", format!("{account:03}"))))
        })
        .collect();
    count.wait_for(|count| *count > ACCOUNTS).await.unwrap();
    tokio::task::block_in_place(|| server.kill());
    // Everybody is told, now and not when some time-out ends.
    let refused = state.take_lease(&ann(), at(0), LIFE).await;
    assert!(matches!(refused, Err(Error::Unavailable { .. })), "{refused:?}");
    tokio::task::block_in_place(|| server.start_again());

    let after = State::open(&settings).await.unwrap();
    let there: BTreeMap<_, _> = after
        .open_entries()
        .await
        .unwrap()
        .into_iter()
        .map(|open| (open.id, if open.result.is_some() { RECORDED } else { INTENDED }))
        .collect();
    let mut between = 0;
    for (id, (answered, asked)) in progress.lock().unwrap().clone() {
        let found = match there.get(&id) {
            Some(found) => *found,
            None if asked == CLOSED => CLOSED,
            None => 0,
        };
        assert!(found == answered || found == asked, "{id}: {answered} {asked}, found {found}");
        between += usize::from(answered < CLOSED);
    }
    assert!(between > 0, "the server was killed too late");

    let_go_on.send_replace(true);
    for walk in walks {
        walk.await.unwrap();
    }
    assert_eq!(state.journal_len().await.unwrap(), 0);
    assert_eq!(state.orphans_len().await.unwrap(), 0);
}

#[tokio::test]
async fn a_connection_is_encrypted_and_the_server_proves_who_it_is() {
    let world = Postgres::make().await;
    let address = Server::shared();
    let with = |host: &str, tls: postgres::Tls| {
        let mut settings = world.settings();
        let postgres = settings.postgres.as_mut().unwrap();
        host.clone_into(&mut postgres.host);
        postgres.tls = tls;
        settings
    };
    let trusting =
        |name: &str| postgres::Tls::Required { ca_file: Some(address.directory.join(name)) };
    let state = State::open(&with("localhost", trusting("ca.pem"))).await.unwrap();
    state.probe().await.unwrap();
    state.shut().await;
    for (host, tls, told) in [
        ("localhost", trusting("other-ca.pem"), "certificate"),
        // The certificate is for another name.
        ("127.0.0.1", trusting("ca.pem"), "certificate"),
        ("localhost", postgres::Tls::Required { ca_file: None }, "certificate"),
        ("localhost", trusting("missing.pem"), "missing.pem: cannot be read"),
        ("localhost", trusting("password"), "password: holds no PEM certificate"),
        ("localhost", postgres::Tls::None, "no pg_hba.conf entry"),
    ] {
        let opened = State::open(&with(host, tls)).await;
        assert!(matches!(opened, Err(Error::Unavailable { .. })));
        let (place, reason) = place_and_reason(opened);
        assert!(reason.contains(told), "{reason}");
        assert!(place.contains(host), "{place}");
    }
}

/// A server that knows no TLS, or somebody in between who says so.
#[tokio::test]
async fn a_server_without_tls_gets_no_password() {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    let seen = tokio::spawn(async move {
        let (mut stream, _) = listener.accept().await.unwrap();
        let mut first = [0; 8];
        stream.read_exact(&mut first).await.unwrap();
        stream.write_all(b"N").await.unwrap();
        let mut rest = Vec::new();
        stream.read_to_end(&mut rest).await.unwrap();
        rest
    });
    let world = Postgres::make().await;
    let mut settings = world.settings();
    let postgres = settings.postgres.as_mut().unwrap();
    postgres.host = "127.0.0.1".to_owned();
    postgres.port = port;
    postgres.tls = postgres::Tls::Required { ca_file: None };
    let (_, reason) = place_and_reason(State::open(&settings).await);
    assert!(reason.contains("server does not support TLS"), "{reason}");
    assert!(seen.await.unwrap().is_empty(), "more than the question for TLS was sent");
}

#[tokio::test]
async fn no_error_shows_a_password() {
    let world = Postgres::make().await;
    let file = world.folder().join("password");
    for (password, user) in [("invented-hunter2", "keepalive"), ("invented-hunter2", "nobody")] {
        fs::write(&file, password).unwrap();
        let mut settings = world.settings();
        let postgres = settings.postgres.as_mut().unwrap();
        postgres.password = Some(SecretRef::File(file.clone()));
        user.clone_into(&mut postgres.user);
        let (place, reason) = place_and_reason(State::open(&settings).await);
        assert!(reason.contains("password authentication failed"), "{reason}");
        let shown = format!("{place} {reason} {settings:?}");
        assert!(!shown.contains("hunter2"), "{shown}");
    }
    fs::remove_file(&file).unwrap();
    let mut settings = world.settings();
    settings.postgres.as_mut().unwrap().password = Some(SecretRef::File(file));
    let (_, reason) = place_and_reason(State::open(&settings).await);
    assert!(reason.contains("password: no such file"), "{reason}");
}

#[tokio::test]
async fn a_schema_of_somebody_else_is_left_alone() {
    let world = Postgres::make().await;
    let schema = world.settings().postgres.unwrap().schema;
    kinds::admin()
        .await
        .batch_execute(&format!(
            "CREATE SCHEMA {schema} AUTHORIZATION keepalive; CREATE TABLE {schema}.posts (title text)"
        ))
        .await
        .unwrap();
    let opened = State::open(&world.settings()).await;
    assert!(matches!(opened, Err(Error::Damaged { .. })));
    assert!(place_and_reason(opened).1.contains("name another schema"));
}

#[tokio::test]
async fn a_look_at_a_new_database_makes_nothing_in_it() {
    let world = Postgres::make().await;
    let before = State::examine(&world.settings()).await.unwrap();
    assert!(before.contains("will be made at the first start"), "{before}");
    open(&world).await.shut().await;
    let after = State::examine(&world.settings()).await.unwrap();
    assert!(after.contains("schema") && after.contains("can be used"), "{after}");
}

#[tokio::test]
async fn a_row_that_somebody_keeps_locked_costs_one_time_limit_and_is_told() {
    let world = Postgres::make().await;
    let mut settings = world.settings();
    settings.postgres.as_mut().unwrap().statement_timeout = Duration::from_secs(2);
    let state = State::open(&settings).await.unwrap();
    let entry = intended(&state, &ann()).await;
    let admin = kinds::admin().await;
    let schema = settings.postgres.unwrap().schema;
    admin.batch_execute(&format!("BEGIN; LOCK TABLE {schema}.journal")).await.unwrap();
    let (place, reason) = place_and_reason(state.record_result(entry, &ann(), &token("one")).await);
    assert!(world.is_named_by(&place), "{place}");
    assert!(reason.contains("longer than statement_timeout"), "{reason}");
    admin.batch_execute("ROLLBACK").await.unwrap();
    state.record_result(entry, &ann(), &token("one")).await.unwrap();
}

/// Whoever is told to end while the server says nothing would otherwise wait for the time limit.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_opening_that_nobody_waits_for_any_more_ends_before_its_time_limit() {
    let silent = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let world = Postgres::make().await;
    let mut settings = world.settings();
    let limit = Duration::from_secs(120);
    let server = settings.postgres.as_mut().unwrap();
    server.host = "127.0.0.1".to_owned();
    server.port = silent.local_addr().unwrap().port();
    server.connect_timeout = limit;
    let opening = tokio::spawn(async move { State::open(&settings).await.map(drop) });
    let _connection = silent.accept().await.unwrap();
    opening.abort();
    let ended = tokio::time::timeout(limit / 2, opening).await;
    assert!(ended.expect("it does not wait").is_err_and(|error| error.is_cancelled()));
}

#[tokio::test]
async fn a_server_that_became_read_only_is_told_and_works_when_it_is_back() {
    let world = Postgres::make().await;
    let server = Server::start();
    let state = State::open(&world.settings_in(&server.address)).await.unwrap();
    let admin = kinds::admin_of(&server.address).await;
    // As on a server that is being made a standby.
    let read_only =
        |word: &str| format!("ALTER SYSTEM SET default_transaction_read_only TO {word}");
    for (word, works) in [("on", false), ("off", true)] {
        admin.batch_execute(&read_only(word)).await.unwrap();
        admin
            .batch_execute(
                "SELECT pg_reload_conf();
                 SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE usename = 'keepalive'",
            )
            .await
            .unwrap();
        // The first call may learn of the lost connection, the next of the server's state.
        let deadline = tokio::time::Instant::now() + Duration::from_secs(30);
        while state.probe().await.is_ok() != works {
            assert!(tokio::time::Instant::now() < deadline, "{word}");
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        state
            .open_entries()
            .await
            .map(drop)
            .or_else(|error| if works { Err(error) } else { Ok(()) })
            .unwrap();
    }
}

#[tokio::test]
async fn many_on_many_replicas_refresh_the_same_accounts_without_getting_in_each_others_way() {
    let world = Postgres::make().await;
    let states = [open(&world).await, open(&world).await, open(&world).await];
    let accounts = 300;
    let calls: Vec<_> = (0..accounts * 3)
        .map(|nth| {
            let state = states[nth % 3].clone();
            // Each from its own end, so that locks are asked for in different orders.
            let account = if nth % 2 == 0 { nth / 3 } else { accounts - 1 - nth / 3 };
            tokio::spawn(async move {
                let id = AccountId::new("tiktok", format!("{account}"));
                let lease = state.take_lease(&id, at(0), LIFE).await.unwrap()?;
                let entry = state.intend(&lease, &intent_of(&lease.id)).await.ok()?;
                state.record_result(entry, &id, &token("one")).await.unwrap();
                state.close(entry, Closing::Done).await.unwrap();
                state.release(&lease).await.unwrap();
                Some(account)
            })
        })
        .collect();
    let mut done = std::collections::BTreeSet::new();
    for call in calls {
        done.extend(call.await.unwrap());
    }
    assert!(done.len() > accounts / 2, "{}", done.len());
    assert_eq!(states[0].journal_len().await.unwrap(), 0);
    assert_eq!(states[0].orphans_len().await.unwrap(), 0);
}

/// On another machine nobody can see that it was killed.
#[tokio::test]
async fn what_a_killed_process_had_leased_is_free_when_the_lease_ends() {
    let world = Postgres::make().await;
    crash::killed_after("intend", &world);
    let state = open(&world).await;
    let almost = world.pass_almost(30).await;
    assert_eq!(state.take_lease(&ann(), almost, LIFE).await.unwrap(), None);
    let over = world.pass_the_rest(30).await;
    assert!(state.take_lease(&ann(), over, LIFE).await.unwrap().is_some());
}

#[tokio::test]
async fn tables_of_the_first_version_are_brought_up_to_date_by_whoever_comes_first() {
    let world = Postgres::make().await;
    drop(open(&world).await);
    world.execute(kinds::OLDER_OUTBOX).await;
    world
        .execute("DROP TABLE app; DROP TABLE share; DROP TABLE member; DROP TABLE newest; DROP TABLE history, inbox, spent, observed, consent, canary; DROP INDEX journal_spending; ALTER TABLE memory DROP COLUMN first_seen_at, DROP COLUMN door; UPDATE meta SET value = 1 WHERE name = 'schema_version'")
        .await;
    let (one, two) = tokio::join!(open(&world), open(&world));
    for state in [one, two] {
        assert!(state.newest(&ann()).await.unwrap().is_none());
        assert_eq!(state.outbox(Way::Mail).await.unwrap(), (1, 0), "the one that is owed");
    }
    drop(open(&world).await);
}
