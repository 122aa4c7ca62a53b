//! The publisher changes nothing: its 401s are read from its log and from its own tables.

use crate::{
    PATIENCE, until_or,
    world::{SCOPES, World},
};
use std::{
    fs::{self, File, OpenOptions},
    io::Write,
    os::unix::fs::MetadataExt,
    path::{Path, PathBuf},
    thread,
    time::{Duration, Instant},
};

const UNAUTHORIZED: [(&str, &str); 2] = [("account", "brand-01"), ("code", "401")];

const LOG: &str = "{logs: [{path: publisher.log, account: /account, provider: /platform, \
                   status: /response/status, body: /response/body, start: beginning}]}";

fn line(account: &str, status: u16) -> String {
    format!(
        "{{\"time\":\"2026-11-22T12:00:00Z\",\"platform\":\"tiktok\",\"account\":\"{account}\",\
         \"response\":{{\"status\":{status}}}}}\n"
    )
}

fn append(path: &Path, text: &str) {
    let mut file = OpenOptions::new().create(true).append(true).open(path).unwrap();
    file.write_all(text.as_bytes()).unwrap();
}

#[tokio::test]
async fn a_401_in_the_log_is_counted_and_confirmed_before_anything_is_spent() {
    let world = World::new().life(600).age(60).section("observe", LOG).start().await;
    world.until_ready().await;
    let log = world.path("publisher.log");
    append(&log, &line("brand-01", 401).repeat(3));
    append(&log, &line("brand-01", 200).repeat(4));
    append(&log, &line("stranger", 401));
    append(&log, "The publisher says something else.\n");
    append(
        &log,
        "{\"platform\":\"tiktok\",\"account\":\"brand-01\",\"response\":{\"status\":0}}\n",
    );
    append(&log, "half of a li");
    world.until_metric("api_responses_total", &UNAUTHORIZED, 3.0).await;
    let results =
        [("counted", 7.0), ("unknown_account", 1.0), ("unmatched", 1.0), ("malformed", 1.0)];
    for (result, lines) in results {
        let labels = [("log", "publisher.log"), ("result", result)];
        world.until_metric("observed_lines_total", &labels, lines).await;
    }
    until_or("the 401 is asked about", async || world.api_calls("brand-01") > 0, || world.tell())
        .await;
    assert_eq!(world.api_calls("brand-01"), 1, "one question in a margin");
    assert_eq!(world.refreshed("brand-01"), [], "a living token is not spent");
    world.until_metric("observe_up", &[("kind", "log"), ("name", "publisher.log")], 1.0).await;
}

#[tokio::test]
async fn a_token_that_is_dead_by_the_log_is_renewed() {
    let world = World::new().life(600).age(60).section("observe", LOG);
    let mut world = world.prepare().await;
    // The provider ends the token earlier than it had said.
    let long_ago = Duration::from_secs(700);
    let mut token = world.provider.connect("brand-01", &SCOPES, long_ago);
    let issued = Duration::from_secs(640);
    token.issued_at = token.issued_at.map(|at| at.plus(issued));
    token.expires_at = token.expires_at.map(|at| at.plus(issued));
    world.write("brand-01", &token);
    world.start().await;
    world.until_ready().await;
    append(&world.path("publisher.log"), &line("brand-01", 401));
    world.until_rotations("brand-01", 1).await;
    world.until_kept_and_live("brand-01").await;
    world.assert_well_behaved();
}

#[tokio::test]
async fn the_log_goes_on_where_it_stopped_and_no_line_counts_twice_after_an_orderly_stop() {
    let world = World::new().life(600).section("observe", LOG).start().await;
    let mut world = world;
    world.until_ready().await;
    let log = world.path("publisher.log");
    append(&log, &line("brand-01", 401).repeat(5));
    world.until_metric("api_responses_total", &UNAUTHORIZED, 5.0).await;
    world.program().terminate().await;
    // Rotated while nobody looks.
    append(&log, &line("brand-01", 401).repeat(3));
    fs::rename(&log, world.path("publisher.log.1")).unwrap();
    append(&log, &line("brand-01", 401).repeat(2));
    world.start().await;
    world.until_ready().await;
    world.until_metric("api_responses_total", &UNAUTHORIZED, 5.0).await;
    append(&log, &line("brand-01", 401));
    world.until_metric("api_responses_total", &UNAUTHORIZED, 6.0).await;
    world.until_metric("observed_gaps_total", &[("log", "publisher.log")], 0.0).await;
}

#[tokio::test]
async fn after_kill_9_no_line_is_lost_and_only_the_last_ones_count_again() {
    let mut world = World::new().life(6_000).section("observe", LOG).start().await;
    world.until_ready().await;
    let log = world.path("publisher.log");
    append(&log, &line("brand-01", 401));
    world.until_metric("api_responses_total", &UNAUTHORIZED, 1.0).await;
    // By the time that these are counted, the file is remembered.
    append(&log, &line("brand-01", 401).repeat(39));
    world.until_metric("api_responses_total", &UNAUTHORIZED, 40.0).await;
    world.program().kill_9();
    // Rotated away while nobody looks.
    append(&log, &line("brand-01", 401).repeat(3));
    fs::rename(&log, world.path("publisher.log.1")).unwrap();
    append(&log, &line("brand-01", 401).repeat(2));
    append(&log, &line("brand-02", 403));
    world.start().await;
    world.until_ready().await;
    // The last line of all.
    let last = [("account", "brand-02"), ("code", "403")];
    world.until_metric("api_responses_total", &last, 1.0).await;
    let counted = world.running().scrape().await;
    let counted = counted.value("api_responses_total", &UNAUTHORIZED).unwrap();
    // Those that were counted before may not have been remembered yet: the state is written once a second.
    assert!((5.0..=45.0).contains(&counted), "{counted}");
}

/// The writer pauses between a copy and the truncation, as no real one does: what is written there is in neither,
/// and nobody can see it.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_401_is_counted_once_in_a_log_of_ten_thousand_lines_a_second_that_is_moved_in_every_way()
 {
    let world = World::new().life(6_000).section("observe", LOG).start().await;
    world.until_ready().await;
    let (path, pid) = (world.path("publisher.log"), world.running().pid());
    let writer = tokio::task::spawn_blocking(move || Writer::new(path, pid).write_and_rotate());
    let written = writer.await.unwrap();
    assert!(written.unauthorized > 2_000, "{written:?}");
    world.until_metric("api_responses_total", &UNAUTHORIZED, f64::from(written.unauthorized)).await;
    let other = [("account", "brand-02"), ("code", "200")];
    world.until_metric("api_responses_total", &other, f64::from(written.good)).await;
    // What would have been counted twice is counted before a line that comes later.
    append(&world.path("publisher.log"), &line("brand-02", 403));
    world
        .until_metric("api_responses_total", &[("account", "brand-02"), ("code", "403")], 1.0)
        .await;
    world.until_metric("api_responses_total", &UNAUTHORIZED, f64::from(written.unauthorized)).await;
    let log = ("log", "publisher.log");
    world
        .until_metric(
            "observed_lines_total",
            &[log, ("result", "unmatched")],
            f64::from(written.others),
        )
        .await;
    world.until_metric("observed_lines_total", &[log, ("result", "malformed")], 0.0).await;
    world.until_metric("observed_gaps_total", &[log], 0.0).await;
    assert_eq!(world.refreshed("brand-01"), [], "a living token is not spent");
}

/// A publisher that logs much, and a logrotate of its own.
struct Writer {
    path: PathBuf,
    /// Who follows the log.
    pid: u32,
    file: File,
    written: Written,
    rotations: u32,
}

#[derive(Clone, Copy, Debug, Default)]
struct Written {
    lines: u32,
    unauthorized: u32,
    good: u32,
    others: u32,
}

impl Writer {
    const LINES_A_SECOND: u32 = 10_000;
    const SECONDS: u32 = 5;
    const ROTATIONS: u32 = 9;

    fn new(path: PathBuf, pid: u32) -> Self {
        let file = Self::open(&path);
        Self { path, pid, file, written: Written::default(), rotations: 0 }
    }

    fn open(path: &Path) -> File {
        OpenOptions::new().create(true).append(true).open(path).unwrap()
    }

    fn write_and_rotate(mut self) -> Written {
        let began = Instant::now();
        let all = Self::LINES_A_SECOND * Self::SECONDS;
        while self.written.lines < all {
            self.write(100);
            if self.written.lines >= (self.rotations + 1) * all / (Self::ROTATIONS + 1) {
                self.rotate();
            }
            let due = Duration::from_secs(1) * self.written.lines / Self::LINES_A_SECOND;
            thread::sleep(due.saturating_sub(began.elapsed()));
        }
        self.written
    }

    fn write(&mut self, lines: u32) {
        let mut text = String::new();
        for _ in 0..lines {
            let number = self.written.lines;
            self.written.lines += 1;
            text += &match number % 10 {
                0 => {
                    self.written.unauthorized += 1;
                    line_at(number, "brand-01", 401)
                }
                1..=6 => {
                    self.written.good += 1;
                    line_at(number, "brand-02", 200)
                }
                _ => {
                    self.written.others += 1;
                    format!("2026-11-22 12:00:00 the publisher did thing {number}\n")
                }
            };
        }
        self.file.write_all(text.as_bytes()).unwrap();
    }

    fn rotate(&mut self) {
        self.rotations += 1;
        let rotated = self.path.with_extension(format!("log.{}", self.rotations));
        match self.rotations % 3 {
            // Renamed; the publisher goes on in the old file until it is told.
            0 => {
                fs::rename(&self.path, rotated).unwrap();
                let new = Self::open(&self.path);
                self.write(300);
                self.file = new;
            }
            // Copied away.
            1 => {
                fs::copy(&self.path, rotated).unwrap();
                thread::sleep(Duration::from_millis(20));
                self.file.set_len(0).unwrap();
            }
            // Removed, and made anew. What nobody ever opened nobody can read.
            _ => {
                self.wait_until_it_is_followed();
                fs::remove_file(&self.path).unwrap();
                self.file = Self::open(&self.path);
            }
        }
    }

    fn wait_until_it_is_followed(&self) {
        let number = self.file.metadata().unwrap().ino();
        let began = Instant::now();
        let is_open = || {
            let files = fs::read_dir(format!("/proc/{}/fd", self.pid)).unwrap();
            let number_of = |file: fs::DirEntry| file.path().metadata().ok().map(|file| file.ino());
            files.flatten().filter_map(number_of).any(|one| one == number)
        };
        while !is_open() {
            assert!(began.elapsed() < PATIENCE, "the log is not followed");
            thread::sleep(Duration::from_millis(5));
        }
    }
}

fn line_at(number: u32, account: &str, status: u16) -> String {
    line(account, status)
        .replace("2026-11-22T12:00:00Z", &format!("2026-11-22T12:00:00.{number:06}Z"))
}

#[tokio::test]
async fn the_publishers_table_of_errors_is_read_row_by_row_and_goes_on_after_a_restart() {
    let sql = "SELECT rowid AS position, channel AS account, code AS status, body FROM errors \
               WHERE rowid > :position";
    let section = format!("{{query: {{sql: '{sql}', provider_name: tiktok, every: 1s}}}}");
    let world = World::new().life(600).age(60).section("observe", &section);
    let mut world = world.prepare().await;
    world.execute("CREATE TABLE errors (channel TEXT, code INTEGER, body TEXT)");
    let insert = |world: &World, account: &str, code: i64| {
        world.execute(&format!("INSERT INTO errors VALUES ('{account}', {code}, '{{}}')"));
    };
    insert(&world, "brand-01", 401);
    world.start().await;
    world.until_ready().await;
    // What was there before is not counted.
    world.until_metric("observe_up", &[("kind", "query"), ("name", "")], 1.0).await;
    insert(&world, "brand-01", 401);
    insert(&world, "brand-02", 403);
    insert(&world, "stranger", 401);
    insert(&world, "brand-01", 7);
    world.until_metric("api_responses_total", &UNAUTHORIZED, 1.0).await;
    for (result, rows) in [("counted", 2.0), ("unknown_account", 1.0), ("malformed", 1.0)] {
        world.until_metric("observed_rows_total", &[("result", result)], rows).await;
    }
    let is_asked = async || world.api_calls("brand-01") > 0;
    until_or("the 401 is asked about", is_asked, || world.tell()).await;
    // More than are read at a time.
    world.execute(
        "WITH RECURSIVE many(n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM many WHERE n < 2500)
         INSERT INTO errors SELECT 'brand-02', 403, NULL FROM many",
    );
    let forbidden = [("account", "brand-02"), ("code", "403")];
    world.until_metric("api_responses_total", &forbidden, 2501.0).await;
    world.program().terminate().await;
    insert(&world, "brand-01", 401);
    insert(&world, "brand-01", 401);
    world.start().await;
    world.until_ready().await;
    world.until_metric("api_responses_total", &UNAUTHORIZED, 2.0).await;
    world.until_metric("observed_rows_total", &[("result", "counted")], 2.0).await;
}

#[tokio::test]
async fn posts_that_wait_are_shown_where_their_account_does_not_work() {
    let sql = "SELECT channel AS account, sum(state = ''held'') AS held, \
               sum(state = ''queued'' AND due < :until) AS at_risk FROM posts GROUP BY channel";
    let section = format!(
        "{{posts: {{sql: \"{}\", provider_name: tiktok, every: 1s}}}}",
        sql.replace("''", "'")
    );
    let world = World::new().life(600).section("observe", &section);
    let mut world = world.prepare().await;
    world.execute(
        "CREATE TABLE posts (channel TEXT, state TEXT, due INTEGER);
         INSERT INTO posts VALUES ('brand-01', 'queued', unixepoch() + 3600),
             ('brand-01', 'queued', unixepoch() + 7200), ('brand-01', 'queued', unixepoch() + 900000),
             ('brand-01', 'held', unixepoch()), ('brand-02', 'queued', unixepoch() + 3600);",
    );
    world.provider.revoke_consent("brand-01");
    world.start().await;
    world.until_ready().await;
    let labels = |account| [("provider", "tiktok"), ("account", account), ("source", "store")];
    world.until_metric("posts_held", &labels("brand-01"), 1.0).await;
    world.report("brand-01", 401, 1).await;
    until_or(
        "the account is found not to work",
        async || {
            world.report("brand-01", 401, 1).await;
            world.cause("brand-01").await.is_some_and(|cause| cause != "none")
        },
        || world.tell(),
    )
    .await;
    world.until_metric("posts_at_risk", &labels("brand-01"), 2.0).await;
    let scrape = world.running().scrape().await;
    assert_eq!(scrape.value("posts_at_risk", &labels("brand-02")), None, "it works");
}
