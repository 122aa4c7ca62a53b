//! An owner connects an account again by one link, over real sockets: the happy way, and every wrong turn.

use crate::process::BINARY;
use crate::{
    http::{self, Answer},
    postgres::Schema,
    process::{Program, command, stderr, stdout},
    told::last_lines,
    until_or,
    world::{OPERATOR, Plan, SCOPES, World, owner},
};
use oauth_keepalive::{
    connect::links::Links,
    core::{AccountId, Timestamp},
    demo::provider::{Fault, Lasting, Surface, What},
    state::{Settings, State},
};
use serde_json::Value;
use std::{
    fs,
    io::{BufRead, BufReader, Read},
    net::SocketAddr,
    process::{Command, Stdio},
    time::{Duration, SystemTime},
};

/// Where people reach the listener; nobody ever connects there, since the test knows the port that was really bound.
const BASE: &str = "http://127.0.0.1:9";
const CALLBACK: &str = "http://127.0.0.1:9/connect/callback";
const CONNECT: &str =
    "{enabled: true, listen: \"127.0.0.1:0\", external_url: \"http://127.0.0.1:9\"}";

/// Nothing is due while a test lasts.
const LIFE: u64 = 7_200;

/// Old enough for a 401 to be about the token.
const AGE: u64 = 600;

fn plan() -> Plan {
    World::new().life(LIFE).age(AGE).section("connect", CONNECT)
}

async fn start(plan: Plan) -> World {
    let mut world = plan.prepare().await;
    world.provider.register_redirect_uri(CALLBACK);
    world.start().await;
    world.until_ready().await;
    world
}

/// A browser as far as this needs one: it keeps one cookie, and goes where it is told.
struct Browser {
    at: SocketAddr,
    cookie: Option<String>,
}

impl Browser {
    fn of(world: &World) -> Self {
        Self::at(world.running())
    }

    fn at(program: &Program) -> Self {
        let log = program.log();
        let (_, rest) =
            log.split_once("links for owners are answered\" url=http://").expect("it says where");
        let at = rest.split('/').next().unwrap().parse().unwrap();
        Self { at, cookie: None }
    }

    async fn ask(&mut self, method: &str, path: &str) -> Answer {
        let cookie = self.cookie.clone().unwrap_or_default();
        let headers = [("Cookie", cookie.as_str())];
        let headers = if cookie.is_empty() { &headers[..0] } else { &headers[..] };
        let answer = http::send(self.at, method, path, headers, "").await.unwrap();
        if let Some(set) = header(&answer, "set-cookie") {
            for word in ["HttpOnly", "SameSite=Lax", "Path=/"] {
                assert!(set.contains(word), "{set}");
            }
            self.cookie = set.split(';').next().map(str::to_owned);
        }
        answer
    }

    async fn open(&mut self, link: &str) -> Answer {
        self.ask("GET", path_of(link)).await
    }

    /// Presses the button.
    async fn press(&mut self, link: &str) -> Answer {
        self.ask("POST", path_of(link)).await
    }

    /// Presses the button, decides at the provider, and says where that leads.
    async fn decide(&mut self, link: &str, decision: &str) -> String {
        let away = self.press(link).await;
        assert_eq!(away.status, 303, "{}", away.text());
        decide_at(&header(&away, "location").unwrap(), decision).await
    }

    /// The whole way.
    async fn go(&mut self, link: &str, decision: &str) -> Answer {
        let back = self.decide(link, decision).await;
        self.come_back(&back).await
    }

    async fn come_back(&mut self, back: &str) -> Answer {
        assert!(back.starts_with(CALLBACK), "{back}");
        self.ask("GET", path_of(back)).await
    }
}

/// What a person does at the consent page of the provider.
async fn decide_at(page: &str, decision: &str) -> String {
    let at: SocketAddr = page.split('/').nth(2).unwrap().parse().unwrap();
    let shown = http::get(at, path_below(page)).await.unwrap();
    assert_eq!(shown.status, 200, "{}", shown.text());
    let sent = http::send(at, "POST", path_below(page), &[], decision).await.unwrap();
    assert_eq!(sent.status, 302, "{}", sent.text());
    header(&sent, "location").unwrap()
}

fn path_below(url: &str) -> &str {
    let host = url.find("://").unwrap() + 3;
    &url[host + url[host..].find('/').unwrap()..]
}

fn path_of(url: &str) -> &str {
    url.strip_prefix(BASE).unwrap_or(url)
}

fn header(answer: &Answer, name: &str) -> Option<String> {
    answer.head.lines().find_map(|line| {
        let (known, value) = line.split_once(": ")?;
        known.eq_ignore_ascii_case(name).then(|| value.to_owned())
    })
}

fn allow(account: &str) -> String {
    let scopes: String = SCOPES.iter().map(|scope| format!("&scope={scope}")).collect();
    format!("decision=allow&account={account}{scopes}")
}

async fn link(world: &World, account: &str) -> String {
    let config = world.config();
    let id = format!("tiktok/{account}");
    let output = command(&["connect", &id, "-c", config.to_str().unwrap(), "-o", "json"]).await;
    assert!(output.status.success(), "{}", stderr(&output));
    let said: Value = serde_json::from_str(&stdout(&output)).unwrap();
    assert_eq!((&said["provider"], &said["account"]), (&"tiktok".into(), &account.into()));
    said["url"].as_str().unwrap().to_owned()
}

async fn until_result(world: &World, result: &str, times: f64) {
    world.until_metric("reconnects_total", &[("result", result)], times).await;
}

fn codes(world: &World) -> Vec<bool> {
    let entries = world.provider.log().into_iter();
    entries
        .filter_map(|entry| match entry.what {
            What::Code { issued } => Some(issued),
            _ => None,
        })
        .collect()
}

/// The page with this id and status, and the account as it was.
fn assert_wrong_turn(answer: &Answer, status: u16, id: &str) {
    let page = answer.text();
    assert_eq!(answer.status, status, "{id}: {page}");
    assert!(page.contains(&format!("id=\"{id}\"")), "{id}: {page}");
    assert!(page.contains("Nothing was changed"), "{id}: {page}");
    assert!(!page.contains("demo-code") && !page.contains("demo-access"), "{id}: {page}");
}

#[tokio::test(flavor = "multi_thread")]
async fn one_link_brings_a_dead_account_back_and_looking_at_it_spends_nothing() {
    let world = start(plan()).await;
    world.provider.revoke_consent("brand-01");
    world.report("brand-01", 401, 1).await;
    world.until_cause("brand-01", "refresh_token_rejected").await;

    let link = link(&world, "brand-01").await;
    let mut browser = Browser::of(&world);
    // Programs that look through mails open every link, more than once.
    for _ in 0..3 {
        let mut scanner = Browser::of(&world);
        assert_eq!(scanner.ask("HEAD", path_of(&link)).await.status, 200);
        assert_eq!(scanner.open(&link).await.status, 200);
        assert!(scanner.cookie.is_none(), "looking begins nothing");
    }
    let page = browser.open(&link).await.text();
    for expected in ["brand-01", "TikTok", "main", SCOPES[0], SCOPES[1], "id=\"go\""] {
        assert!(page.contains(expected), "{expected}: {page}");
    }
    let done = browser.go(&link, &allow("brand-01")).await;
    assert_eq!(done.status, 200, "{}", done.text());
    assert!(done.text().contains("your queue resumes"), "{}", done.text());
    assert!(!done.text().contains("did not tell us"), "{}", done.text());

    assert!(world.kept("brand-01") && world.live("brand-01"));
    assert_eq!(codes(&world), [true]);
    world.until_cause("brand-01", "none").await;
    until_result(&world, "connected", 1.0).await;
    world.until_metric("journal_entries", &[], 0.0).await;
    let used = browser.open(&link).await;
    assert_wrong_turn(&used, 410, "link_used");
    assert_wrong_turn(&browser.press(&link).await, 410, "link_used");
    until_result(&world, "link_used", 2.0).await;
    // And it is renewed like any other from now on.
    let config = world.config();
    let renewed = command(&["refresh", "tiktok/brand-01", "-c", config.to_str().unwrap()]).await;
    assert!(renewed.status.success(), "{}", stderr(&renewed));
    assert!(world.kept("brand-01") && world.live("brand-01"));
}

#[tokio::test(flavor = "multi_thread")]
async fn whoever_connects_what_a_person_holds_is_not_told_that_its_queue_resumes() {
    let world = start(plan()).await;
    let config = world.config();
    let held = command(&["hold", "tiktok/brand-01", "-c", config.to_str().unwrap()]).await;
    assert!(held.status.success(), "{}", stderr(&held));
    let link = link(&world, "brand-01").await;
    let done = Browser::of(&world).go(&link, &allow("brand-01")).await;
    assert_eq!(done.status, 200, "{}", done.text());
    let page = done.text();
    assert!(page.contains("holds this account") && !page.contains("queue resumes"), "{page}");
    assert!(world.kept("brand-01") && world.live("brand-01"));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_link_that_is_altered_or_for_nobody_leads_nowhere() {
    let world = start(plan()).await;
    let link = link(&world, "brand-01").await;
    let mut browser = Browser::of(&world);
    let altered = link.replace("/account/", "/account/A");
    assert_wrong_turn(&browser.open(&altered).await, 400, "link_altered");
    assert_wrong_turn(&browser.press(&link[..link.len() - 1]).await, 400, "link_altered");
    world.execute("UPDATE accounts SET enabled = 0 WHERE account = 'brand-01'");
    assert_wrong_turn(&browser.open(&link).await, 404, "unknown_account");
    world.execute("DELETE FROM accounts WHERE account = 'brand-01'");
    assert_wrong_turn(&browser.press(&link).await, 404, "unknown_account");
    until_result(&world, "link_altered", 2.0).await;
    until_result(&world, "unknown_account", 2.0).await;
    assert_eq!(browser.ask("GET", "/").await.status, 404);
    assert_eq!(browser.ask("DELETE", path_of(&link)).await.status, 405);
    assert!(codes(&world).is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn who_says_no_or_another_name_or_less_changes_nothing_and_may_begin_again() {
    let world = start(plan()).await;
    let link = link(&world, "brand-01").await;
    let before = world.stored("brand-01");
    let other = world.stored("brand-02");
    let mut browser = Browser::of(&world);

    let denied = browser.go(&link, "decision=deny").await;
    assert_wrong_turn(&denied, 403, "denied");
    assert!(denied.text().contains("id=\"go\""), "it offers to begin again");
    until_result(&world, "denied", 1.0).await;

    let fewer = browser.go(&link, "decision=allow&account=brand-01&scope=user.info.basic").await;
    assert_wrong_turn(&fewer, 403, "fewer_scopes");
    assert!(fewer.text().contains("video.publish"), "{}", fewer.text());
    until_result(&world, "fewer_scopes", 1.0).await;

    let another = browser.go(&link, &allow("brand-02")).await;
    assert_wrong_turn(&another, 403, "other_account");
    until_result(&world, "other_account", 1.0).await;

    assert_eq!(world.stored("brand-01"), before, "nothing was overwritten");
    assert_eq!(world.stored("brand-02"), other, "nor anybody else's");
    world.until_metric("journal_entries", &[], 0.0).await;
    let done = browser.go(&link, &allow("brand-01")).await;
    assert_eq!(done.status, 200, "{}", done.text());
    assert!(world.kept("brand-01") && world.live("brand-01"));
}

#[tokio::test(flavor = "multi_thread")]
async fn only_the_browser_that_began_may_end_and_only_once() {
    let world = start(plan()).await;
    let link = link(&world, "brand-01").await;
    let mut browser = Browser::of(&world);
    let mut stranger = Browser::of(&world);
    let back = browser.decide(&link, &allow("brand-01")).await;

    // Whoever got hold of the address alone.
    assert_wrong_turn(&stranger.come_back(&back).await, 403, "other_browser");
    stranger.cookie = Some("oauth-keepalive-connect=AAAAAAAAAAAAAAAAAAAAAA".to_owned());
    assert_wrong_turn(&stranger.come_back(&back).await, 403, "other_browser");
    assert_wrong_turn(&stranger.press(&link).await, 403, "other_browser");
    for (wrong, id, status) in [
        (back.replace("state=", "state=x"), "wrong_state", 400),
        (back.split("&state=").next().unwrap().to_owned(), "wrong_state", 400),
        (format!("{CALLBACK}?code=x&state=0123456789abcdef0123456789abcdef.x"), "wrong_state", 400),
        (CALLBACK.to_owned(), "wrong_state", 400),
    ] {
        assert_wrong_turn(&browser.come_back(&wrong).await, status, id);
    }
    assert!(codes(&world).is_empty(), "nothing of that came to the provider");
    assert_eq!(browser.come_back(&back).await.status, 200);
    assert_wrong_turn(&browser.come_back(&back).await, 409, "replayed");
    assert_eq!(codes(&world), [true], "the code was brought once");
    until_result(&world, "other_browser", 3.0).await;
    until_result(&world, "wrong_state", 4.0).await;
    until_result(&world, "replayed", 1.0).await;
    assert!(world.kept("brand-01") && world.live("brand-01"));
}

#[tokio::test(flavor = "multi_thread")]
async fn what_the_provider_refuses_is_told_apart_by_whose_trouble_it_is() {
    let world = start(plan()).await;
    let link = link(&world, "brand-01").await;
    let before = world.stored("brand-01");
    let mut browser = Browser::of(&world);
    let refuse = |error, description| Fault::Refuse { error, description };
    let rows = [
        (
            refuse(
                "invalid_request",
                "Redirect_uri is not matched with the uri when requesting code.",
            ),
            502,
            "redirect_uri_mismatch",
        ),
        (refuse("invalid_client", "Client key or secret is incorrect."), 502, "app_refused"),
        (refuse("invalid_grant", "Authorization code is expired."), 400, "code_refused"),
        (Fault::StatusBefore(503), 502, "provider_trouble"),
        (Fault::LoseAnswer, 502, "provider_trouble"),
    ];
    for (fault, status, id) in rows {
        world.provider.plant(Some("brand-01"), Surface::Token, fault, Lasting::Times(1));
        let answer = browser.go(&link, &allow("brand-01")).await;
        assert_wrong_turn(&answer, status, id);
        assert_eq!(world.stored("brand-01"), before, "{id}");
    }
    until_result(&world, "provider_trouble", 2.0).await;
    world.until_metric("journal_entries", &[], 0.0).await;
    assert!(world.running().log().contains("redirect_uri_mismatch"), "the log has it");
    let told = |words: &str| {
        let mails = world.mails_to(OPERATOR);
        mails.iter().filter(|mail| mail.text.contains(words)).count()
    };
    for words in ["redirect URI is not the registered one", "the provider refuses the app"] {
        let is_told = async || told(words) == 1;
        until_or(&format!("the operator hears: {words}"), is_told, || world.tell()).await;
    }
    let done = browser.go(&link, &allow("brand-01")).await;
    assert_eq!(done.status, 200, "{}", done.text());
    // Two ends, in one mail or in two.
    let over = async || told("Ended") == 2 || told("2 problems are over") == 1;
    until_or("the operator hears that it is over", over, || world.tell()).await;
    assert!(world.mails_to(&owner("brand-01")).is_empty(), "no owner can mend it");
}

#[tokio::test(flavor = "multi_thread")]
async fn while_the_store_is_away_the_token_is_kept_and_saved_later() {
    let world = start(plan()).await;
    let link = link(&world, "brand-01").await;
    let mut browser = Browser::of(&world);
    let back = browser.decide(&link, &allow("brand-01")).await;
    let database = world.path("publisher.db");
    let away = world.path("publisher.away");
    fs::rename(&database, &away).unwrap();
    fs::create_dir(&database).unwrap();
    let answer = browser.come_back(&back).await;
    assert_eq!(answer.status, 200, "{}", answer.text());
    assert!(answer.text().contains("id=\"saved_later\""), "{}", answer.text());
    until_result(&world, "saved_later", 1.0).await;
    world.until_metric("journal_entries", &[], 1.0).await;
    world.until_metric("unsaved_tokens", &[], 1.0).await;
    fs::remove_dir(&database).unwrap();
    fs::rename(&away, &database).unwrap();
    world.until_kept_and_live("brand-01").await;
    world.until_metric("journal_entries", &[], 0.0).await;
    world.until_metric("unsaved_tokens", &[], 0.0).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_account_whose_row_holds_no_token_is_shown_and_connected_by_its_link() {
    let world = start(plan()).await;
    world.execute(
        "UPDATE accounts SET access_token = NULL, refresh_token = NULL, expires_at = NULL \
         WHERE account = 'brand-01'",
    );
    world.until_cause("brand-01", "not_renewable").await;
    let mails = world.until_mails(&owner("brand-01"), 1).await;
    assert!(mails[0].subject.contains("not connected"), "{}", mails[0].subject);
    assert!(mails[0].text.contains("Please connect your TikTok account"), "{}", mails[0].text);
    let link = link(&world, "brand-01").await;
    let mut browser = Browser::of(&world);
    let another = browser.go(&link, &allow("brand-02")).await;
    assert_wrong_turn(&another, 403, "other_account");
    let done = browser.go(&link, &allow("brand-01")).await;
    assert_eq!(done.status, 200, "{}", done.text());
    assert!(world.kept("brand-01") && world.live("brand-01"));
    world.until_cause("brand-01", "none").await;
    world.until_metric("gate", &[("account", "brand-01"), ("gate", "open")], 1.0).await;
    world.until_metric("journal_entries", &[], 0.0).await;
    world.until_mails(&owner("brand-01"), 2).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_link_that_has_ended_says_so() {
    let world = start(plan()).await;
    let state = State::open(&Settings::in_directory(world.path("state"))).await.unwrap();
    let links = Links::new(state.link_key(), BASE.to_owned(), Duration::from_secs(1));
    let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap().as_secs();
    let past = Timestamp::from_unix(i64::try_from(now).unwrap() - 60);
    let link = links.mint(&AccountId::new("tiktok", "brand-01"), past);
    let mut browser = Browser::of(&world);
    let page = browser.open(&link).await;
    assert_wrong_turn(&page, 410, "link_ended");
    assert!(page.text().contains("brand-01"), "{}", page.text());
    assert_wrong_turn(&browser.press(&link).await, 410, "link_ended");
    until_result(&world, "link_ended", 2.0).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_crash_while_the_code_is_on_its_way_leaves_the_link_good() {
    let mut world = start(plan()).await;
    let link = link(&world, "brand-01").await;
    let before = world.stored("brand-01");
    let mut browser = Browser::of(&world);
    let back = browser.decide(&link, &allow("brand-01")).await;
    let hang = Fault::HangFor(Duration::from_secs(60));
    world.provider.plant(Some("brand-01"), Surface::Token, hang, Lasting::Times(1));
    let mut gone = Browser { at: browser.at, cookie: browser.cookie.clone() };
    let waiting = tokio::spawn(async move {
        let _ = http::send(
            gone.at,
            "GET",
            path_of(&back),
            &[("Cookie", &gone.cookie.take().unwrap())],
            "",
        )
        .await;
    });
    let has_arrived = async || codes(&world) == [true];
    until_or("the code has arrived", has_arrived, || world.tell()).await;
    world.program().kill_9();
    waiting.abort();
    world.start().await;
    world.until_ready().await;
    assert_eq!(world.stored("brand-01"), before, "nothing was saved");
    browser.at = Browser::of(&world).at;
    let done = browser.go(&link, &allow("brand-01")).await;
    assert_eq!(done.status, 200, "{}", done.text());
    assert!(world.kept("brand-01") && world.live("brand-01"));
    world.until_metric("journal_entries", &[], 0.0).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_token_that_waits_for_the_store_outlives_the_process() {
    let mut world = start(plan()).await;
    let link = link(&world, "brand-01").await;
    let mut browser = Browser::of(&world);
    let back = browser.decide(&link, &allow("brand-01")).await;
    let (database, away) = (world.path("publisher.db"), world.path("publisher.away"));
    fs::rename(&database, &away).unwrap();
    fs::create_dir(&database).unwrap();
    assert_eq!(browser.come_back(&back).await.status, 200);
    world.program().kill_9();
    fs::remove_dir(&database).unwrap();
    fs::rename(&away, &database).unwrap();
    world.start().await;
    world.until_kept_and_live("brand-01").await;
    world.until_metric("journal_entries", &[], 0.0).await;
}

/// A command that waits for a browser.
struct Waiting {
    child: std::process::Child,
    out: BufReader<std::process::ChildStdout>,
    page: String,
}

impl Waiting {
    fn start(world: &World, account: &str) -> Self {
        let config = world.config();
        let id = format!("tiktok/{account}");
        let mut command = Command::new(BINARY);
        command.args(["connect", &id, "--here", "-o", "json", "-c", config.to_str().unwrap()]);
        command.args(["--redirect-uri", "http://127.0.0.1:0/back"]);
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = command.spawn().unwrap();
        let mut out = BufReader::new(child.stdout.take().unwrap());
        let mut line = String::new();
        out.read_line(&mut line).unwrap();
        let said: Value = serde_json::from_str(&line).unwrap_or_else(|_| {
            let mut problem = String::new();
            child.stderr.take().unwrap().read_to_string(&mut problem).unwrap();
            panic!("it begins with the address: {line}{problem}")
        });
        Self { child, out, page: said["authorize_url"].as_str().unwrap().to_owned() }
    }

    /// Its exit code, and its result.
    async fn ended(mut self) -> (Option<i32>, String) {
        tokio::task::spawn_blocking(move || {
            let mut line = String::new();
            self.out.read_line(&mut line).unwrap();
            let said: Value = serde_json::from_str(&line).unwrap_or_default();
            let result = said["result"].as_str().unwrap_or_default().to_owned();
            (self.child.wait().unwrap().code(), result)
        })
        .await
        .unwrap()
    }
}

async fn follow(back: &str) -> Answer {
    let at = back.split('/').nth(2).unwrap().parse().unwrap();
    http::get(at, path_below(back)).await.unwrap()
}

fn wait_here(world: &World, account: &str) -> Waiting {
    // The provider answers in this process: nothing may block its threads.
    tokio::task::block_in_place(|| Waiting::start(world, account))
}

#[tokio::test(flavor = "multi_thread")]
async fn a_new_account_is_connected_here_and_added_to_the_store() {
    let mut world = World::new().life(LIFE).prepare().await;
    world.start().await;
    world.until_ready().await;
    let waiting = wait_here(&world, "brand-09");
    let back = decide_at(&waiting.page, &allow("brand-09")).await;
    let strange = back.replace("state=", "state=x");
    assert_eq!(follow(&strange).await.status, 400, "who was not sent away is not heard");
    let page = follow(&back).await;
    assert_eq!(page.status, 200, "{}", page.text());
    assert!(page.text().contains("id=\"connected\""), "{}", page.text());
    assert_eq!(waiting.ended().await, (Some(0), "connected".to_owned()));
    assert!(world.kept("brand-09") && world.live("brand-09"));
    world.until_cause("brand-09", "none").await;

    // And once more, for the account that is there by now.
    let waiting = wait_here(&world, "brand-09");
    let page = follow(&decide_at(&waiting.page, &allow("brand-02")).await).await;
    assert_eq!(page.status, 403, "{}", page.text());
    assert_eq!(waiting.ended().await, (Some(1), "other_account".to_owned()));
    let waiting = wait_here(&world, "brand-09");
    let page = follow(&decide_at(&waiting.page, &allow("brand-09")).await).await;
    assert_eq!(page.status, 200, "{}", page.text());
    assert_eq!(waiting.ended().await, (Some(0), "connected".to_owned()));
    assert!(world.kept("brand-09") && world.live("brand-09"));
}

#[tokio::test(flavor = "multi_thread")]
async fn the_command_says_what_does_not_fit() {
    let world = start(plan()).await;
    let config = world.config();
    let config = config.to_str().unwrap();
    let rows: &[(&[&str], i32, &str)] = &[
        (&["connect", "tiktok/nobody"], 2, "is not in the store"),
        (&["connect", "tiktok/brand-01", "--here"], 2, "has no redirect_uri"),
        (
            &["connect", "tiktok/brand-01", "--here", "--redirect-uri", "https://a.example/c"],
            2,
            "does not lead to this machine",
        ),
        (
            &["connect", "x/brand-01", "--here", "--redirect-uri", "http://127.0.0.1:0/c"],
            2,
            "no app is configured",
        ),
        (
            &[
                "connect",
                "tiktok/brand-01",
                "--here",
                "--redirect-uri",
                "http://127.0.0.1:0/c",
                "--wait",
                "1s",
            ],
            1,
            "nobody came back",
        ),
    ];
    for (arguments, code, expected) in rows {
        let output = command(&[arguments, &["-c", config][..]].concat()).await;
        assert_eq!(output.status.code(), Some(*code), "{arguments:?}: {}", stderr(&output));
        assert!(stderr(&output).contains(expected), "{arguments:?}: {}", stderr(&output));
    }
    let output = command(&["check", "-c", config]).await;
    assert!(
        stdout(&output).contains(&format!("people come back to {CALLBACK} ")),
        "{}",
        stdout(&output)
    );
}

/// Owners come to whichever replica the balancer sends them to, also to one that does not look after the account.
#[tokio::test(flavor = "multi_thread")]
async fn of_two_replicas_one_sends_away_and_the_other_takes_in() {
    let schema = Schema::new();
    let section = |state: &str| schema.on_socket(state, "30s");
    let world = plan().accounts(8).section("state", &section("state")).prepare().await;
    world.write_state_key();
    let other = world.configure_beside("config-2.yaml", "state", &section("state-2"));
    let one = Program::start(&world.config(), world.path("one.log")).await;
    let two = Program::start(&other, world.path("two.log")).await;
    until_or(
        "each looks after some",
        async || {
            let (one, two) =
                (one.scrape().await.accounts().len(), two.scrape().await.accounts().len());
            one > 0 && two > 0 && one + two == 8
        },
        || format!("--- one\n{}--- two\n{}", last_lines(&one.log()), last_lines(&two.log())),
    )
    .await;
    for account in ["brand-01", "brand-02", "brand-03", "brand-04"] {
        let link = link(&world, account).await;
        let mut browser = Browser::at(&one);
        let back = browser.decide(&link, &allow(account)).await;
        browser.at = Browser::at(&two).at;
        let done = browser.come_back(&back).await;
        assert_eq!(done.status, 200, "{account}: {}", done.text());
        assert!(world.kept(account) && world.live(account), "{account}");
        browser.at = Browser::at(&one).at;
        assert_wrong_turn(&browser.come_back(&back).await, 409, "replayed");
        assert_wrong_turn(&browser.open(&link).await, 410, "link_used");
    }
}
