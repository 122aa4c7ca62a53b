//! The publisher acts too: it reports, wins races, adds, removes and reconnects accounts.

use crate::{
    http, until_or,
    world::{HELD_BACK, SCOPES, World, brands, owner},
};
use oauth_keepalive::{
    core::{Secret, Timestamp},
    demo::provider::{Fault, Lasting, Refreshed, Surface},
    oauth::Token,
};
use std::time::Duration;

const UNAUTHORIZED: [(&str, &str); 2] = [("account", "brand-01"), ("code", "401")];

#[tokio::test]
async fn a_reported_401_of_a_living_token_costs_one_free_question_and_no_refresh() {
    let world = World::new().life(60).start().await;
    world.until_ready().await;
    until_or(
        "a 401 is asked about",
        async || {
            // Right after the token was issued, the publisher may still have used the one before.
            world.report("brand-01", 401, 3).await;
            world.api_calls("brand-01") > 0
        },
        || world.tell(),
    )
    .await;
    for _ in 0..10 {
        world.report("brand-01", 401, 1).await;
    }
    world.report("brand-01", 200, 7).await;
    let ok = [("account", "brand-01"), ("code", "200")];
    world.until_metric("api_responses_total", &ok, 7.0).await;
    // What would have followed from the others comes before what follows from this one.
    until_or(
        "the other account is asked about",
        async || {
            world.report("brand-02", 401, 1).await;
            world.api_calls("brand-02") > 0
        },
        || world.tell(),
    )
    .await;
    assert_eq!(world.api_calls("brand-01"), 1, "one question in a margin");
    assert_eq!(world.refreshed("brand-01"), [], "a living token is not spent");
    assert_eq!(world.cause("brand-01").await.as_deref(), Some("none"));
}

#[tokio::test]
async fn reported_answers_are_counted_to_the_last_one() {
    let world = World::new().life(60).start().await;
    world.until_ready().await;
    let mut reported = 0;
    for times in [1, 2, 40, 1, 7] {
        world.report("brand-01", 401, times).await;
        reported += times;
    }
    world.until_metric("api_responses_total", &UNAUTHORIZED, f64::from(reported)).await;
    let labels = [("provider", "tiktok"), ("code", "401")];
    world.until_metric("responses_reported_total", &labels, f64::from(reported)).await;
    let other = [("account", "brand-02"), ("code", "401")];
    world.until_metric("api_responses_total", &other, 0.0).await;
    let without = http::send(world.running().reports, "POST", "/v1/responses", &[], "{}").await;
    assert_eq!(without.unwrap().status, 401, "without the secret nobody is heard");
}

#[tokio::test]
async fn a_401_that_the_provider_confirms_costs_one_refresh() {
    let mut world = World::new().life(60).prepare().await;
    // The provider ends the token earlier than it had said.
    let long_ago = Duration::from_secs(70);
    let mut token = world.provider.connect("brand-01", &SCOPES, long_ago);
    token.issued_at = token.issued_at.map(|at| at.plus(long_ago));
    token.expires_at = token.expires_at.map(|at| at.plus(long_ago));
    world.write("brand-01", &token);
    // Reports go on while the request is under way.
    let slow = Fault::Latency(Duration::from_millis(700));
    world.provider.plant(Some("brand-01"), Surface::Token, slow, Lasting::Times(1));
    world.start().await;
    world.until_ready().await;
    until_or(
        "the token is renewed",
        async || {
            world.report("brand-01", 401, 1).await;
            world.rotations("brand-01") > 0
        },
        || world.tell(),
    )
    .await;
    for _ in 0..5 {
        world.report("brand-01", 401, 1).await;
    }
    world.until_cause("brand-01", "none").await;
    assert_eq!(world.refreshed("brand-01"), [Refreshed::Rotated], "{}", world.tell());
    assert_eq!(world.api_calls("brand-01"), 1, "{}", world.tell());
    world.until_kept_and_live("brand-01").await;
    assert_eq!(world.mailbox.mails(), []);
}

#[tokio::test]
async fn a_401_for_a_missing_permission_costs_no_refresh() {
    let world = World::new().life(14).prepare().await;
    // The store believes in permissions that the provider does not know of.
    let mut token = world.provider.connect("brand-01", &["video.publish"], Duration::ZERO);
    token.scopes = Some(SCOPES.map(str::to_owned).into());
    world.write("brand-01", &token);
    let mut world = world;
    world.start().await;
    world.until_ready().await;
    until_or(
        "it is known what is missing",
        async || {
            world.report("brand-01", 401, 1).await;
            world.cause("brand-01").await.as_deref() == Some("scope_missing")
        },
        || world.tell(),
    )
    .await;
    for _ in 0..5 {
        world.report("brand-01", 401, 1).await;
    }
    world.report("brand-01", 200, 1).await;
    let ok = [("account", "brand-01"), ("code", "200")];
    world.until_metric("api_responses_total", &ok, 1.0).await;
    assert_eq!(world.refreshed("brand-01"), [], "a refresh cannot mend it");
    assert_eq!(world.api_calls("brand-01"), 1);
    // It is kept alive all the same, for an owner who mends it elsewhere.
    world.until_rotated("brand-01", 1).await;
}

/// The publisher renews a token by itself, as it did before there was a sidecar.
async fn renew_as_publisher(world: &World, account: &str) -> Token {
    let (_, refresh) = world.stored(account);
    let secret = std::fs::read_to_string(world.path("client-secret")).unwrap();
    let form = format!(
        "client_key=demo-client-key&client_secret={}&grant_type=refresh_token&refresh_token={refresh}",
        secret.trim(),
    );
    let headers = [("Content-Type", "application/x-www-form-urlencoded")];
    let at = world.provider.address();
    let answer = http::send(at, "POST", "/v2/oauth/token/", &headers, &form).await.unwrap();
    let answer: serde_json::Value = serde_json::from_str(&answer.text()).unwrap();
    let text = |name: &str| answer[name].as_str().unwrap_or_else(|| panic!("{answer}")).to_owned();
    let current = world.provider.current(account).unwrap();
    Token {
        access: Secret::new(text("access_token")),
        refresh: Some(Secret::new(text("refresh_token"))),
        ..current
    }
}

#[tokio::test]
async fn a_publisher_that_was_a_moment_earlier_keeps_its_token_and_the_account_stays_healthy() {
    let world = World::new().life(8).section("http", HELD_BACK).start().await;
    world.provider.plant(Some("brand-01"), Surface::Token, Fault::HoldRequest, Lasting::Times(1));
    world.until_held_back().await;
    let theirs = renew_as_publisher(&world, "brand-01").await;
    world.write("brand-01", &theirs);
    world.provider.release();
    until_or(
        "our request, which came too late, was refused",
        async || world.refreshed("brand-01").contains(&Refreshed::Retired),
        || world.tell(),
    )
    .await;
    world.until_metric("accounts_adopted_total", &[], 1.0).await;
    assert_eq!(world.stored("brand-01").0, theirs.access.expose(), "theirs was not overwritten");
    world.until_cause("brand-01", "none").await;
    world.until_rotated("brand-01", 2).await;
    world.until_kept_and_live("brand-01").await;
    assert_eq!(world.mailbox.mails(), []);
}

#[tokio::test]
async fn a_publisher_that_renews_before_we_do_is_left_to_it_and_one_that_does_so_after_us_too() {
    let world = World::new().life(30).start().await;
    world.until_ready().await;
    // Before: long before ours would be due.
    let theirs = renew_as_publisher(&world, "brand-01").await;
    world.write("brand-01", &theirs);
    world.until_metric("accounts_adopted_total", &[], 1.0).await;
    let ours = [("account", "brand-01")];
    world.until_metric("refresh_attempts_total", &ours, 0.0).await;
    // After: a moment after ours was saved.
    world.until_metric("refresh_attempts_total", &ours, 1.0).await;
    world.until_kept_and_live("brand-01").await;
    let theirs = renew_as_publisher(&world, "brand-01").await;
    world.write("brand-01", &theirs);
    world.until_metric("accounts_adopted_total", &[], 2.0).await;
    world.until_metric("refresh_attempts_total", &ours, 2.0).await;
    world.until_kept_and_live("brand-01").await;
    world.assert_well_behaved();
    assert_eq!(world.mailbox.mails(), []);
}

#[tokio::test]
async fn an_account_that_was_declared_dead_for_a_race_is_healed_by_the_winners_token() {
    // Due after ten seconds: the publisher comes before.
    let refresh = "{backoff_first: 1s, backoff_max: 4s, due_after: 0.5, spread: 0.0}";
    let world = World::new().life(20).section("refresh", refresh).start().await;
    world.until_ready().await;
    let status = |account: &str| -> Option<String> {
        let sql = "SELECT status FROM accounts WHERE account = ?1";
        world.database().query_row(sql, [account], |row| row.get(0)).unwrap()
    };
    // The publisher has the newer token and is slow to write it down.
    let theirs = renew_as_publisher(&world, "brand-01").await;
    world.until_cause("brand-01", "refresh_token_rejected").await;
    until_or(
        "its status says so",
        async || status("brand-01").as_deref() == Some("needs_reconnect"),
        || world.tell(),
    )
    .await;
    world.until_mails(&owner("brand-01"), 1).await;
    world.write("brand-01", &theirs);
    world.until_cause("brand-01", "none").await;
    until_or(
        "its status says so too",
        async || status("brand-01").as_deref() == Some("connected"),
        || world.tell(),
    )
    .await;
    world.until_mails(&owner("brand-01"), 2).await;
    world.until_rotated("brand-01", 1).await;
    world.until_kept_and_live("brand-01").await;
}

#[tokio::test]
async fn an_owner_who_reconnects_during_our_request_is_not_overwritten_by_its_answer() {
    let world = World::new().life(8).section("http", HELD_BACK).start().await;
    world.provider.plant(Some("brand-01"), Surface::Token, Fault::HoldAnswer, Lasting::Times(1));
    world.until_held_back().await;
    let theirs = world.provider.connect("brand-01", &SCOPES, Duration::ZERO);
    world.write("brand-01", &theirs);
    world.provider.release();
    world.until_metric("accounts_adopted_total", &[], 1.0).await;
    assert_eq!(world.stored("brand-01").0, theirs.access.expose(), "theirs was not overwritten");
    world.until_rotated("brand-01", 2).await;
    world.until_kept_and_live("brand-01").await;
    world.until_cause("brand-01", "none").await;
    world.assert_well_behaved();
    // The request whose token found no place is counted too.
    world.until_requests_agree().await;
    assert_eq!(world.mailbox.mails(), []);
}

#[tokio::test]
async fn a_spent_token_that_the_publisher_writes_back_is_never_presented_and_ours_returns() {
    let mut world = World::new().life(9).start().await;
    let cached = world.provider.current("brand-01").unwrap();
    world.until_rotated("brand-01", 1).await;
    world.until_kept_and_live("brand-01").await;
    let ours = world.stored("brand-01");
    world.write("brand-01", &cached);
    world.until_metric("tokens_restored_total", &[], 1.0).await;
    assert_eq!(world.stored("brand-01"), ours);
    world.until_rotated("brand-01", 1).await;
    world.until_kept_and_live("brand-01").await;
    // After a restart the fleet takes it for somebody's news; the refresh that follows finds it out.
    world.kill_at_rest().await;
    world.write("brand-01", &cached);
    world.start().await;
    world.until_rotated("brand-01", 1).await;
    world.until_kept_and_live("brand-01").await;
    world.until_metric("tokens_restored_total", &[], 1.0).await;
    world.assert_well_behaved();
    assert_eq!(world.mailbox.mails(), []);
}

#[tokio::test]
async fn writes_to_other_columns_and_rows_disturb_nothing() {
    let world = World::new().accounts(3).life(6).start().await;
    until_or(
        "every account is renewed three times under a busy publisher",
        async || {
            world.execute("UPDATE accounts SET campaign = campaign || '.'");
            (1..=3).all(|number| world.rotations(&format!("brand-{number:02}")) >= 3)
        },
        || world.tell(),
    )
    .await;
    world.until_counts_agree().await;
    world.assert_well_behaved();
    let adopted = world.running().scrape().await.value("accounts_adopted_total", &[]);
    assert_eq!(adopted, Some(0.0), "no token of somebody else's");
    for account in brands(3) {
        world.until_kept_and_live(&account).await;
    }
}

#[tokio::test]
async fn accounts_come_and_go_with_their_rows_and_a_disabled_one_is_left_alone() {
    let world = World::new().accounts(3).life(12).start().await;
    world.until_ready().await;
    for account in ["brand-01", "brand-02", "brand-03"] {
        assert!(world.running().scrape().await.mentions(account));
    }
    world.execute("DELETE FROM accounts WHERE account = 'brand-01'");
    world.execute("UPDATE accounts SET enabled = 0 WHERE account = 'brand-02'");
    world.provider.connect("brand-new", &SCOPES, Duration::ZERO);
    world.insert(["brand-new"]);
    until_or(
        "the next scrape shows who is there",
        async || {
            let scrape = world.running().scrape().await;
            !scrape.mentions("brand-01") && scrape.cause("brand-new").as_deref() == Some("none")
        },
        || world.tell(),
    )
    .await;
    let requests = |account: &str| world.refreshed(account).len();
    let before = (requests("brand-01"), requests("brand-02"));
    world.until_rotated("brand-03", 2).await;
    world.until_rotated("brand-new", 1).await;
    assert_eq!((requests("brand-01"), requests("brand-02")), before, "nobody asked us to");
    until_or("it ends, as somebody wanted", async || !world.live("brand-02"), || world.tell())
        .await;
    assert!(!world.running().scrape().await.mentions("brand-02"));
    assert!(world.running().get("/").await.text().contains("brand-03"));
    assert!(!world.running().get("/").await.text().contains("brand-01"));
    world.execute("UPDATE accounts SET enabled = 1 WHERE account = 'brand-02'");
    world.until_rotated("brand-02", 1).await;
    world.until_cause("brand-02", "none").await;
    assert_eq!(world.mailbox.mails(), []);
}

#[tokio::test]
async fn a_file_store_is_renewed_with_its_comments_and_a_replaced_file_is_adopted() {
    let plan = World::new().section("store", "{kind: file, path: tokens.yaml, poll_every: 500ms}");
    let mut world = plan.life(6).prepare().await;
    let row = |account: &str| {
        let token = world.provider.current(account).unwrap();
        let at = |at: Option<Timestamp>| at.unwrap().as_unix();
        format!(
            "  - provider: tiktok\n    account: {account}   # the brand's own login\n    campaign: winter\n    \
             access_token: {}\n    refresh_token: {}\n    expires_at: {}\n    refresh_expires_at: {}\n    \
             issued_at: {}\n    scopes: \"{}\"\n    subject: {}\n    owner: somebody@invented.example\n",
            token.access.expose(),
            token.refresh.as_ref().unwrap().expose(),
            at(token.expires_at),
            at(token.refresh_expires_at),
            at(token.issued_at),
            SCOPES.join(","),
            token.subject.as_ref().unwrap(),
        )
    };
    let write = |text: &str| crate::world::replace(&world.path("tokens.yaml"), text);
    let head = "# Kept by the publisher; do not reorder.\nversion: 3\naccounts:\n";
    write(&format!("{head}{}{}", row("brand-01"), row("brand-02")));
    world.start().await;
    world.until_rotated("brand-01", 2).await;
    world.until_rotated("brand-02", 1).await;
    let read = || std::fs::read_to_string(world.path("tokens.yaml")).unwrap();
    let holds = |account: &str| {
        let current = world.provider.current(account).unwrap();
        read().contains(current.access.expose())
            && read().contains(current.refresh.unwrap().expose())
    };
    until_or("both are in the file", async || holds("brand-01") && holds("brand-02"), read).await;
    let text = read();
    for kept in
        ["# Kept by the publisher; do not reorder.\nversion: 3\n", "# the brand's own login"]
    {
        assert!(text.contains(kept), "{text}");
    }
    assert_eq!(text.matches("campaign: winter").count(), 2, "{text}");
    world.assert_well_behaved();

    // As a Kubernetes volume does it: the path leads to another file from one moment to the next. Nobody is
    // renewed meanwhile: a file made of what was read a moment ago would put a retired token back.
    world.provider.plant(
        None,
        Surface::Token,
        Fault::RateLimit { retry_after: None },
        Lasting::For(Duration::from_secs(600)),
    );
    until_or("both are in the file", async || holds("brand-01") && holds("brand-02"), read).await;
    let target = world.path("tokens.yaml");
    std::fs::create_dir(world.path("..next")).unwrap();
    let theirs = world.provider.connect("brand-01", &SCOPES, Duration::ZERO);
    let old = read();
    let mut lines: Vec<String> = old.lines().map(str::to_owned).collect();
    let at = |time: Option<Timestamp>| time.unwrap().as_unix().to_string();
    let values = [
        ("access_token", theirs.access.expose().to_owned()),
        ("refresh_token", theirs.refresh.as_ref().unwrap().expose().to_owned()),
        ("expires_at", at(theirs.expires_at)),
        ("refresh_expires_at", at(theirs.refresh_expires_at)),
        ("issued_at", at(theirs.issued_at)),
    ];
    let end = lines.iter().position(|line| line.contains("brand-02")).unwrap();
    for (key, value) in values {
        let line = lines[..end]
            .iter_mut()
            .find(|line| line.trim_start().starts_with(&format!("{key}:")))
            .unwrap();
        *line = format!("    {key}: {value}");
    }
    std::fs::write(world.path("..next/tokens.yaml"), lines.join("\n") + "\n").unwrap();
    std::os::unix::fs::symlink("..next/tokens.yaml", world.path("link")).unwrap();
    std::fs::rename(world.path("link"), &target).unwrap();
    world.provider.behave();
    let adopted =
        async || world.running().scrape().await.value("accounts_adopted_total", &[]) == Some(1.0);
    until_or("the replaced file is adopted", adopted, || world.tell()).await;
    world.until_rotated("brand-01", 2).await;
    until_or("it goes on from there", async || holds("brand-01"), read).await;
    assert!(std::fs::symlink_metadata(&target).unwrap().is_symlink(), "the link stays a link");
    world.assert_well_behaved();
    assert_eq!(world.mailbox.mails(), []);
}
