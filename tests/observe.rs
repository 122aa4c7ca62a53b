//! What the observers hand over and what they remember, in which order, over a real state and real files. How
//! files move is the follower's own tests' and the whole program's.

#![expect(clippy::unwrap_used, reason = "a test that cannot prepare itself has failed")]

use arc_swap::ArcSwap;
use oauth_keepalive::{
    clock::Clock,
    core::{Account, AccountId, Cause, Evidence, Shares, Snapshot, Table, fleet::Input},
    metrics::{Metrics, fleet::Gauges},
    oauth::Fingerprinter,
    observe::{Format, Lines, Log, Observer, Provider, Settings, Start, Status, Wrapped},
    server::publisher::{Answered, Place},
    state::{self, State},
    stores::{self, AnyStore},
};
use std::{
    fs::{self, OpenOptions},
    io::Write,
    sync::Arc,
    time::{Duration, Instant},
};
use tempfile::TempDir;
use tokio::{
    sync::{mpsc, watch},
    task::JoinHandle,
};

/// A publisher's log, whoever observes it, and the keeper's end of the line.
struct World {
    folder: TempDir,
    state: State,
    inputs: mpsc::Receiver<Input>,
    stop: watch::Sender<bool>,
    tasks: Vec<JoinHandle<()>>,
}

impl World {
    /// With so much room on the way to the keeper.
    async fn with_room(inputs_max: usize) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let settings = state::Settings::in_directory(folder.path().join("state"));
        let state = State::open(&settings).await.unwrap();
        Self::in_folder(folder, state, inputs_max).await
    }

    async fn in_folder(folder: TempDir, state: State, inputs_max: usize) -> Self {
        let clock = Clock::start();
        let settings = stores::Settings::File(stores::file::Settings {
            path: folder.path().join("tokens.yaml"),
            poll_every: Duration::from_secs(60),
        });
        stores::create(&settings).await.unwrap();
        let store = AnyStore::open(&settings, Fingerprinter::new(b"invented")).await.unwrap();
        let mut accounts = Table::default();
        for number in 0..20 {
            let id = AccountId::new("tiktok", format!("brand-{number}"));
            accounts.put(Account::new(id, "main".into()));
        }
        let snapshot = Snapshot {
            loaded: true,
            holding: Shares::ALL,
            accounts,
            ..Snapshot::empty(clock.now())
        };
        let (keeper, inputs) = mpsc::channel(inputs_max);
        let now = clock.now();
        let observer = Observer {
            state: state.clone(),
            place: String::new(),
            snapshot: Arc::new(ArcSwap::from_pointee(snapshot)),
            understand: Arc::new(move |app, answered: &Answered| {
                assert_eq!((app, answered.place), ("main", Place::Publish));
                let is_scope = answered.body["error"] == "scope_not_authorized";
                is_scope.then(|| Evidence::of(Cause::ScopeMissing, now))
            }),
            keeper,
            metrics: Metrics::new(["tiktok"], clock.now()),
            gauges: Arc::new(Gauges::default()),
            store: Arc::new(store),
            clock,
        };
        let lines = Lines {
            format: Format::Json,
            wrapped: Wrapped::Not,
            account: "/account".to_owned(),
            provider: Provider::Fixed("tiktok".to_owned()),
            status: Status::At("/status".to_owned()),
            body: Some("/body".to_owned()),
            place: Place::Publish,
            only: None,
        };
        let path = folder.path().join("publisher.log");
        let log = Log { name: "publisher".to_owned(), path, lines, start: Start::Beginning };
        let (stop, stopped) = watch::channel(false);
        let settings = Settings { logs: vec![log], ..Settings::default() };
        let tasks = observer.start(settings, &stopped);
        Self { folder, state, inputs, stop, tasks }
    }

    fn write(&self, text: &str) {
        let path = self.folder.path().join("publisher.log");
        let mut file = OpenOptions::new().create(true).append(true).open(path).unwrap();
        file.write_all(text.as_bytes()).unwrap();
    }

    async fn position(&self) -> Option<String> {
        self.state.position_of("log publisher").await.unwrap()
    }

    async fn until_position(&self, what: &str, fits: impl Fn(Option<String>) -> bool) {
        let began = Instant::now();
        while !fits(self.position().await) {
            assert!(began.elapsed() < PATIENCE, "never came true: {what}");
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }

    async fn input(&mut self) -> Input {
        tokio::time::timeout(PATIENCE, self.inputs.recv()).await.unwrap().unwrap()
    }

    /// Status codes that were handed over, by account and how often.
    async fn until_responses(&mut self, how_many: u32) -> Vec<(String, u16, u32)> {
        let mut all = Vec::new();
        let mut seen = 0;
        while seen < how_many {
            if let Input::Responded { id, status, times } = self.input().await {
                seen += times;
                all.push((id.account.to_string(), status, times));
            }
        }
        assert_eq!(seen, how_many);
        all
    }

    /// An orderly stop; the same folder and state go on.
    async fn stop(self) -> (TempDir, State) {
        self.stop.send_replace(true);
        for task in self.tasks {
            task.await.unwrap();
        }
        (self.folder, self.state)
    }
}

fn line(number: usize, status: u16) -> String {
    format!("{{\"account\":\"brand-{number}\",\"status\":{status}}}\n")
}

#[tokio::test]
async fn nothing_is_remembered_before_it_was_handed_over() {
    let mut world = World::with_room(1).await;
    let lines: String = (0..20).map(|number| line(number, 401)).collect();
    world.write(&lines);
    // From here on it waits for the keeper, in the middle of handing over.
    let began = Instant::now();
    while world.inputs.is_empty() {
        assert!(began.elapsed() < PATIENCE, "nothing was handed over");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    assert_eq!(world.position().await, None);
    assert_eq!(world.until_responses(20).await.len(), 20);
    let end = format!("\"offset\":{},", lines.len());
    world
        .until_position("the end is remembered", |at| at.is_some_and(|at| at.contains(&end)))
        .await;
}

#[tokio::test]
async fn many_lines_of_an_account_are_one_input_and_what_the_provider_said_comes_first() {
    let mut world = World::with_room(100).await;
    let said =
        "{\"account\":\"brand-1\",\"status\":401,\"body\":{\"error\":\"scope_not_authorized\"}}\n";
    let nothing = "{\"account\":\"brand-1\",\"status\":401,\"body\":\"<html>\"}\n";
    // There in one moment, so that it is one round's.
    let text = format!("{}{}{}", said.repeat(3), nothing, line(2, 200).repeat(500));
    let (new, path) = (world.folder.path().join("new"), world.folder.path().join("publisher.log"));
    fs::write(&new, text).unwrap();
    fs::rename(new, path).unwrap();
    let Input::Said { id, evidence } = world.input().await else { panic!("the words come first") };
    assert_eq!((&*id.account, evidence.cause), ("brand-1", Cause::ScopeMissing));
    let responses = world.until_responses(504).await;
    assert_eq!(responses, [("brand-1".to_owned(), 401, 4), ("brand-2".to_owned(), 200, 500)]);
}

#[tokio::test]
async fn after_an_orderly_stop_it_goes_on_with_the_next_line() {
    let mut world = World::with_room(100).await;
    for number in 0..5 {
        world.write(&line(number, 401));
        world.until_responses(1).await;
    }
    let (folder, state) = world.stop().await;
    fs::rename(folder.path().join("publisher.log"), folder.path().join("publisher.log.1")).unwrap();
    let mut world = World::in_folder(folder, state, 100).await;
    world.write(&line(7, 401));
    assert_eq!(world.until_responses(1).await, [("brand-7".to_owned(), 401, 1)]);
}

#[tokio::test]
async fn after_a_crash_no_line_is_lost_and_none_that_was_remembered_comes_again() {
    let mut world = World::with_room(100).await;
    world.write(&line(0, 401));
    world.until_responses(1).await;
    world.until_position("it is remembered", |at| at.is_some_and(|at| at.contains("offset"))).await;
    world.write(&line(1, 401));
    let mut accounts = vec![account_of(&world.input().await)];
    world.write(&line(2, 401));
    // The process is gone, wherever it stood: nothing is written any more.
    world.tasks.iter().for_each(JoinHandle::abort);
    let World { folder, state, tasks, mut inputs, .. } = world;
    for task in tasks {
        let _ = task.await;
    }
    while let Ok(input) = inputs.try_recv() {
        accounts.push(account_of(&input));
    }
    let mut world = World::in_folder(folder, state, 100).await;
    world.write(&line(3, 401));
    while accounts.last().is_none_or(|last| last != "brand-3") {
        accounts.push(account_of(&world.input().await));
    }
    for number in 1..=3 {
        assert!(accounts.contains(&format!("brand-{number}")), "{accounts:?}");
    }
    assert!(!accounts.contains(&"brand-0".to_owned()), "it was remembered: {accounts:?}");
}

fn account_of(input: &Input) -> String {
    let Input::Responded { id, .. } = input else { panic!("{input:?}") };
    id.account.to_string()
}

/// Far beyond what anything takes.
const PATIENCE: Duration = Duration::from_secs(60);
