//! Store and state in one database: a result and its save are one transaction, and whatever goes wrong in the
//! publisher's table costs the save and never the result.

use crate::{
    contract::PATIENCE,
    kinds::{Kind, fingerprinter, id, token},
    postgres::{PostgresSimple, camel, camel_on, zoned_as},
    servers::{Cut, Server, Speaks, Table},
};
use oauth_keepalive::{
    core::{AccountId, Secret, Timestamp},
    oauth::Token,
    secrets::SecretRef,
    state::{self, EntryId, Intent, State, postgres},
    stores::{AnyStore, Draft, Saved, Settings, TokenStore, server::Host},
};
use std::{sync::Arc, time::Duration};
use tempfile::TempDir;
use tokio::time::Instant;

/// A table, and our state beside it.
pub(crate) struct Beside<'a> {
    pub(crate) table: &'a Table,
    pub(crate) state: State,
    pub(crate) store: Arc<AnyStore>,
    folder: TempDir,
}

impl<'a> Beside<'a> {
    pub(crate) async fn of(table: &'a Table) -> Self {
        Self::with(table, |_| {}).await
    }

    async fn with(
        table: &'a Table,
        change: impl FnOnce(&mut oauth_keepalive::stores::server::Settings),
    ) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let mut settings = table.server_settings();
        change(&mut settings);
        let state = State::open(&state_settings(&folder, table, &settings)).await.unwrap();
        let store = AnyStore::open(&Settings::Postgres(settings), state.fingerprinter()).await;
        let store = Arc::new(store.unwrap().beside_our_state());
        Self { table, state, store, folder }
    }

    /// As after a crash.
    async fn again(self) -> Self {
        let Self { table, state, store, folder } = self;
        drop(store);
        state.shut().await;
        let settings = table.server_settings();
        let state = State::open(&state_settings(&folder, table, &settings)).await.unwrap();
        let store = AnyStore::open(&Settings::Postgres(settings), state.fingerprinter()).await;
        Self { table, state, store: Arc::new(store.unwrap().beside_our_state()), folder }
    }

    /// Everything up to the request.
    async fn begun(&self, account: &AccountId) -> (EntryId, Draft) {
        let old = self.store.get(account).await.unwrap().unwrap().token.unwrap();
        let maker = self.state.fingerprinter();
        let lease = self.state.take_lease(account, at(0), Duration::from_secs(60)).await.unwrap();
        let draft = self.store.draft(account, maker.of_token(&old)).await.unwrap();
        let spending = maker.of_secret(&old.access);
        let intent =
            Intent { old: maker.of_token(&old), spending, requested_at: at(0), over_at: at(10) };
        (self.state.intend(&lease.unwrap(), &intent).await.unwrap(), draft)
    }

    /// Everything after its answer. True when the store has it.
    async fn ends(&self, account: &AccountId, entry: EntryId, draft: &Draft, new: &Token) -> bool {
        let save = draft.save(new).unwrap();
        let saved = self.state.record_and_save(entry, account, new, None, None, save).await;
        let saved = saved.unwrap();
        let is_saved = saved.is_some();
        if let Some(looks) = saved {
            draft.saved(looks);
        }
        is_saved
    }

    async fn recorded(&self, account: &AccountId) -> Option<Secret> {
        self.state.open_entry(account).await.unwrap()?.result.map(|token| token.access)
    }

    async fn stored(&self, account: &AccountId) -> Secret {
        self.store.get(account).await.unwrap().unwrap().token.unwrap().access
    }

    /// Where our tables are.
    fn ours(&self) -> String {
        ours(self.table)
    }
}

fn ours(table: &Table) -> String {
    format!("ours_{}", table.schema)
}

fn state_settings(
    folder: &TempDir,
    table: &Table,
    store: &oauth_keepalive::stores::server::Settings,
) -> state::Settings {
    let Host::Socket(directory, port) = &store.host else { panic!("a socket") };
    let postgres = postgres::Settings {
        host: directory.display().to_string(),
        port: *port,
        database: store.database.clone(),
        user: store.user.clone(),
        password: Some(SecretRef::File(table.server.folder.join("password"))),
        tls: postgres::Tls::None,
        schema: ours(table),
        statement_timeout: Duration::from_secs(20),
        connect_timeout: Duration::from_secs(20),
        lease: Duration::from_secs(30),
    };
    let directory = folder.path().join("state");
    state::Settings { postgres: Some(postgres), ..state::Settings::in_directory(directory) }
}

fn at(seconds: i64) -> Timestamp {
    Timestamp::from_unix(1_795_341_600 + seconds)
}

fn new() -> Token {
    let expires_at = Some(at(9_000));
    Token { expires_at, ..token("act.invented-2", Some("rft.invented-2")) }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn result_save_and_end_are_one_transaction() {
    let table = camel();
    let beside = Beside::of(&table).await;
    let (schema, ours) = (&table.schema, beside.ours());
    table.publisher.run(&format!(
        "CREATE TABLE {schema}.seen (what text, transaction text);
         CREATE FUNCTION {schema}.see() RETURNS trigger LANGUAGE plpgsql SECURITY DEFINER AS $$ BEGIN
             INSERT INTO {schema}.seen VALUES (TG_TABLE_NAME || ' ' || TG_OP, txid_current()::text);
             RETURN NULL; END $$;
         CREATE TRIGGER see AFTER UPDATE ON {schema}.\"Integration\"
             FOR EACH ROW EXECUTE FUNCTION {schema}.see();
         CREATE TRIGGER see AFTER UPDATE OR DELETE ON {ours}.journal
             FOR EACH ROW EXECUTE FUNCTION {schema}.see()"
    ));
    let brand = id("brand-a");
    let (entry, draft) = beside.begun(&brand).await;
    let commits = beside.state.commits();
    assert!(beside.ends(&brand, entry, &draft, &new()).await);
    assert_eq!(beside.state.commits(), commits + 1);
    let seen = format!("SELECT what, transaction FROM {schema}.seen ORDER BY what");
    let seen = table.publisher.rows(&seen);
    let what: Vec<_> = seen.iter().map(|row| row[0].clone().unwrap()).collect();
    assert_eq!(what, ["Integration UPDATE", "journal DELETE", "journal UPDATE"]);
    assert!(seen.iter().all(|row| row[1] == seen[0][1]), "{seen:?}");
    let found = beside.store.get(&brand).await.unwrap().unwrap().token.unwrap();
    assert_eq!((found.access, found.refresh), (new().access, new().refresh));
    assert_eq!(found.expires_at, new().expires_at);
    assert_eq!(beside.state.open_entry(&brand).await.unwrap().map(|open| open.entry), None);
    assert_eq!(beside.state.orphans_len().await.unwrap(), 0);
}

/// What the publisher's table can do to a save, what mends it, and how long it may take.
const TROUBLE: &[(&str, &str, &str)] = &[
    (
        "another token was written meanwhile",
        "UPDATE \"Integration\" SET token = 'act.invented-theirs' WHERE \"internalId\" = 'brand-a'",
        "UPDATE \"Integration\" SET token = 'act.invented-a1' WHERE \"internalId\" = 'brand-a'",
    ),
    (
        "a trigger refuses",
        "CREATE FUNCTION refuse() RETURNS trigger LANGUAGE plpgsql AS
             $$ BEGIN RAISE EXCEPTION 'no %', NEW.token; END $$;
         CREATE TRIGGER refuse BEFORE UPDATE ON \"Integration\" FOR EACH ROW EXECUTE FUNCTION refuse()",
        "DROP TRIGGER refuse ON \"Integration\"",
    ),
    (
        "a trigger refuses at the commit",
        "CREATE FUNCTION refuse() RETURNS trigger LANGUAGE plpgsql AS
             $$ BEGIN RAISE EXCEPTION 'no'; END $$;
         CREATE CONSTRAINT TRIGGER refuse AFTER UPDATE ON \"Integration\" DEFERRABLE INITIALLY DEFERRED
             FOR EACH ROW EXECUTE FUNCTION refuse()",
        "DROP TRIGGER refuse ON \"Integration\"",
    ),
    (
        "a trigger changes the token",
        "CREATE FUNCTION change() RETURNS trigger LANGUAGE plpgsql AS
             $$ BEGIN NEW.token = 'act.invented-other'; RETURN NEW; END $$;
         CREATE TRIGGER change BEFORE UPDATE ON \"Integration\" FOR EACH ROW EXECUTE FUNCTION change()",
        "DROP TRIGGER change ON \"Integration\"",
    ),
    (
        "a constraint refuses",
        "ALTER TABLE \"Integration\" ADD CONSTRAINT old CHECK (token LIKE '%1')",
        "ALTER TABLE \"Integration\" DROP CONSTRAINT old",
    ),
    (
        "a right is missing",
        "REVOKE UPDATE ON \"Integration\" FROM keeper",
        "GRANT UPDATE ON \"Integration\" TO keeper",
    ),
    (
        "a column is gone",
        "ALTER TABLE \"Integration\" RENAME \"refreshToken\" TO gone",
        "ALTER TABLE \"Integration\" RENAME gone TO \"refreshToken\"",
    ),
    (
        "the row is gone",
        "ALTER TABLE \"Integration\" ADD away text;
         UPDATE \"Integration\" SET \"internalId\" = 'moved' WHERE \"internalId\" = 'brand-a'",
        "UPDATE \"Integration\" SET \"internalId\" = 'brand-a' WHERE \"internalId\" = 'moved'",
    ),
    (
        "a trigger takes its time",
        "CREATE FUNCTION sleep() RETURNS trigger LANGUAGE plpgsql AS
             $$ BEGIN PERFORM pg_sleep(600); RETURN NEW; END $$;
         CREATE TRIGGER sleep BEFORE UPDATE ON \"Integration\" FOR EACH ROW EXECUTE FUNCTION sleep()",
        "DROP TRIGGER sleep ON \"Integration\"",
    ),
];

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_the_table_refuses_leaves_a_recorded_result_that_is_saved_later() {
    for (trouble, makes, mends) in TROUBLE {
        let table = camel();
        let beside = Beside::of(&table).await;
        let brand = id("brand-a");
        let (entry, draft) = beside.begun(&brand).await;
        table.publisher.run(makes);
        let before = table.content();
        let started = Instant::now();
        let saved = beside.ends(&brand, entry, &draft, &new()).await;
        assert!(!saved, "{trouble}");
        assert!(started.elapsed() < PATIENCE, "{trouble}: {:?}", started.elapsed());
        assert_eq!(table.content(), before, "{trouble}");
        assert_eq!(beside.recorded(&brand).await, Some(new().access), "{trouble}");
        table.publisher.run(mends);
        // And it is still there after a crash; then it goes the ordinary way.
        let beside = beside.again().await;
        let open = beside.state.open_entry(&brand).await.unwrap().unwrap();
        let saved = beside.store.save(&brand, &open.result.unwrap(), open.intent.old).await;
        assert_eq!(saved.unwrap(), Saved::Written, "{trouble}");
        assert_eq!(beside.state.orphans_len().await.unwrap(), 0, "{trouble}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_locked_row_or_table_holds_nobody_up_for_long() {
    for lock_table in [false, true] {
        let table = camel();
        let beside = Beside::of(&table).await;
        let (brand, other) = (id("brand-a"), id(crate::kinds::ODD_NAME));
        let (entry, draft) = beside.begun(&brand).await;
        let (entry_of_other, draft_of_other) = beside.begun(&other).await;
        let lock = if lock_table { table.block_writes() } else { table.block_row("brand-a") };
        let (new, started) = (new(), Instant::now());
        let (saved, saved_other) = tokio::join!(
            beside.ends(&brand, entry, &draft, &new),
            beside.ends(&other, entry_of_other, &draft_of_other, &new),
        );
        assert!(!saved);
        assert!(!lock_table || !saved_other, "all of it is locked");
        let first = started.elapsed();
        assert!(first < PATIENCE, "{first:?}");
        assert_eq!(beside.recorded(&brand).await.as_ref(), Some(&new.access));
        // For a while nobody waits for that table again.
        let third = id("off");
        let (entry, draft) = beside.begun(&third).await;
        let started = Instant::now();
        assert!(!beside.ends(&third, entry, &draft, &new).await);
        assert!(started.elapsed() < first, "{:?} after {first:?}", started.elapsed());
        drop(lock);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn of_many_at_once_one_that_is_refused_spoils_it_for_nobody_else() {
    let table = camel();
    table.publisher.run(
        "INSERT INTO \"Integration\" (\"internalId\", \"providerIdentifier\", token, \"refreshToken\") \
         SELECT 'n' || n, 'tiktok', 'act.invented-n' || n, 'rft.invented-n' || n \
         FROM generate_series(1, 30) AS n",
    );
    // One is refused by the compare, another only at the commit.
    table.publisher.run(
        "CREATE FUNCTION refuse() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN RAISE 'no'; END $$;
         CREATE CONSTRAINT TRIGGER refuse AFTER UPDATE ON \"Integration\" DEFERRABLE INITIALLY DEFERRED
             FOR EACH ROW WHEN (NEW.token = 'act.invented-2' AND NEW.\"internalId\" = 'n9')
             EXECUTE FUNCTION refuse()",
    );
    let beside = Arc::new(Beside::of(Box::leak(Box::new(table))).await);
    let table = beside.table;
    let mut calls = Vec::new();
    for n in 1..=30 {
        let beside = Arc::clone(&beside);
        let account = id(&format!("n{n}"));
        let (entry, draft) = beside.begun(&account).await;
        calls.push((account, entry, draft));
    }
    table.set("n7", "token", "act.invented-theirs");
    let ends = calls.into_iter().map(|(account, entry, draft)| {
        let beside = Arc::clone(&beside);
        tokio::spawn(async move {
            let saved = beside.ends(&account, entry, &draft, &new()).await;
            assert_eq!(saved, !["n7", "n9"].contains(&&*account.account), "{account}");
            assert_eq!(beside.recorded(&account).await.is_some(), !saved, "{account}");
        })
    });
    for end in ends.collect::<Vec<_>>() {
        end.await.unwrap();
    }
    assert_eq!(beside.state.journal_len().await.unwrap(), 2);
    assert_eq!(beside.state.orphans_len().await.unwrap(), 0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_commit_without_an_answer_is_found_out_about() {
    for cut in [Cut::BeforeCommit, Cut::AfterCommit] {
        let table = camel();
        let beside = Beside::of(&table).await;
        let brand = id("brand-a");
        let (entry, draft) = beside.begun(&brand).await;
        *table.cut.lock().unwrap() = Some(cut);
        let saved = beside.ends(&brand, entry, &draft, &new()).await;
        assert_eq!(*table.cut.lock().unwrap(), None, "the connection was cut");
        assert_eq!(saved, cut == Cut::AfterCommit, "{cut:?}");
        assert_eq!(beside.recorded(&brand).await.is_some(), !saved, "{cut:?}");
        assert_eq!(beside.stored(&brand).await == new().access, saved, "{cut:?}");
        assert_eq!(beside.state.orphans_len().await.unwrap(), 0, "{cut:?}");
    }
}

/// A server of its own, because it is killed.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_killed_server_has_all_of_it_or_nothing() {
    let server: &'static Server = Box::leak(Box::new(Server::start(Speaks::Postgres)));
    let table: &'static Table = Box::leak(Box::new(camel_on(server)));
    table.publisher.run(
        "INSERT INTO \"Integration\" (\"internalId\", \"providerIdentifier\", token, \"refreshToken\") \
         SELECT 'n' || n, 'tiktok', 'act.invented-n' || n, 'rft.invented-n' || n \
         FROM generate_series(1, 200) AS n",
    );
    let beside = Arc::new(Beside::of(table).await);
    let mut calls = Vec::new();
    for n in 1..=200 {
        let account = id(&format!("n{n}"));
        let (entry, draft) = beside.begun(&account).await;
        calls.push((account, entry, draft));
    }
    let accounts: Vec<_> = calls.iter().map(|(account, ..)| account.clone()).collect();
    let (state, some) = (beside.state.clone(), beside.state.commits() + 3);
    let killing = std::thread::spawn(move || {
        while state.commits() < some {
            std::thread::yield_now();
        }
        server.kill();
        server.start_again();
    });
    let ends = calls.into_iter().map(|(account, entry, draft)| {
        let beside = Arc::clone(&beside);
        tokio::spawn(async move {
            let save = draft.save(&new()).unwrap();
            let state = &beside.state;
            state.record_and_save(entry, &account, &new(), None, None, save).await.is_ok()
        })
    });
    let mut told = Vec::new();
    for end in ends.collect::<Vec<_>>() {
        told.push(end.await.unwrap());
    }
    killing.join().unwrap();
    let beside = Arc::try_unwrap(beside).ok().unwrap().again().await;
    let (mut whole, mut nothing) = (0, 0);
    for (account, told) in accounts.iter().zip(told) {
        let is_saved = beside.stored(account).await == new().access;
        let open = beside.state.open_entry(account).await.unwrap();
        let is_recorded = open.as_ref().is_some_and(|open| open.result.is_some());
        assert_eq!(is_saved, open.is_none(), "{account}: saved and closed, or neither");
        assert!(!told || is_saved || is_recorded, "{account}: what was told is durable");
        whole += u32::from(is_saved);
        nothing += u32::from(!is_saved);
    }
    println!("{whole} of it whole, {nothing} not at all");
    assert!(whole > 0, "it was killed in the middle");
    assert_eq!(beside.state.orphans_len().await.unwrap(), 0);
}

/// The publisher's names are looked up as its own sessions do, and ours among ours; here they are the same.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_table_that_is_called_as_one_of_ours_is_not_mistaken_for_it() {
    let mut table = zoned_as("journal");
    let user = table.schema.clone();
    table.publisher.run(&format!(
        "CREATE ROLE {user} LOGIN IN ROLE keeper; ALTER ROLE {user} SET search_path = {user}; \
         GRANT USAGE ON SCHEMA {user} TO {user}; \
         GRANT CREATE ON DATABASE postgres TO {user}"
    ));
    table.user = user;
    let beside = Beside::with(&table, |settings| settings.schema = None).await;
    let brand = id("brand-a");
    let (entry, draft) = beside.begun(&brand).await;
    assert!(beside.ends(&brand, entry, &draft, &new()).await);
    assert_eq!(beside.stored(&brand).await, new().access);
    assert_eq!(table.value("brand-a", "campaign").as_deref(), Some("winter"));
    assert_eq!(beside.state.journal_len().await.unwrap(), 0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_our_state_saves_is_no_news_and_what_others_write_is() {
    for kind in [true, false] {
        let notified;
        let by_column;
        let table = if kind {
            notified = PostgresSimple::make().await;
            &notified.0
        } else {
            by_column = camel();
            &by_column
        };
        let beside = Beside::of(table).await;
        let brand = id("brand-a");
        for round in 0..2 {
            let (entry, draft) = beside.begun(&brand).await;
            let new = token(&format!("act.invented-r{round}"), Some("rft.invented-r"));
            assert!(beside.ends(&brand, entry, &draft, &new).await);
            let changed = tokio::time::timeout(Duration::from_secs(1), beside.store.changed());
            assert!(changed.await.is_err(), "it is our own");
        }
        table.set("off", "campaign", "theirs");
        table.set("off", &table.columns.access_token, "act.invented-theirs");
        let changed = tokio::time::timeout(PATIENCE, beside.store.changed());
        changed.await.expect("it is theirs");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn there_is_no_draft_of_what_is_not_ours_to_save() {
    let table = camel();
    let beside = Beside::of(&table).await;
    let maker = beside.state.fingerprinter();
    let held = maker.of_token(&token("act.invented-a1", Some("rft.invented-a1")));
    let other = maker.of_token(&new());
    assert!(beside.store.draft(&id("brand-a"), held).await.is_some());
    assert!(beside.store.draft(&id("brand-a"), other).await.is_none(), "another token is there");
    assert!(beside.store.draft(&id("nobody"), held).await.is_none(), "no such account");
    let draft = beside.store.draft(&id("brand-a"), held).await.unwrap();
    assert!(draft.save(&token(" ", None)).is_none(), "a blank token");
    let alone = AnyStore::open(&table.settings(), fingerprinter()).await.unwrap();
    let held = fingerprinter().of_token(&token("act.invented-a1", Some("rft.invented-a1")));
    assert!(alone.draft(&id("brand-a"), held).await.is_none(), "our state is elsewhere");
}
