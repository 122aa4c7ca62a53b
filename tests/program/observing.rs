//! The publisher changes nothing: its 401s are read from its log and from its own tables.

use crate::{
    until, until_or,
    world::{SCOPES, World},
};
use std::{
    fs::{self, OpenOptions},
    io::Write,
    path::Path,
    time::Duration,
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
    world.until_rotated("brand-01", 1).await;
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
    until("the 401 is asked about", async || world.api_calls("brand-01") > 0).await;
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
