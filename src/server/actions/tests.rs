//! Actions over a real socket, as a browser, and as somebody who would like to be one, sends them.

use super::{Actions, Mint, Settings, User, Wires, sessions::SESSIONS_MAX};
use crate::{
    clock::Clock,
    core::{
        Account, AccountId, Announcement, Fingerprint, Order, Said, Snapshot, Table, Timestamp,
        TokenFacts, Whose,
    },
    metrics::{Format, Metrics},
    secrets::SecretRef,
    server::{
        self, ConfigState, Context, Limits, status_page, telemetry,
        web_config::{InForce, Web},
        webhooks::Delivery,
    },
};
use arc_swap::ArcSwap;
use std::{
    collections::BTreeSet,
    fs,
    net::SocketAddr,
    sync::{Arc, Mutex, atomic::AtomicBool},
    time::Duration,
};
use tempfile::TempDir;
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::{TcpListener, TcpStream},
    sync::{mpsc, watch},
    time::timeout,
};

/// Longer than anything here takes.
const PATIENCE: Duration = Duration::from_secs(30);

const SECRET: &str = "invented ops+secret";
const LINK: &str = "https://connect.example/connect/account/invented";

/// A telemetry listener with actions, and what they wrote down.
struct Bench {
    address: SocketAddr,
    actions: Arc<Actions>,
    metrics: Metrics,
    snapshot: Arc<ArcSwap<Snapshot>>,
    orders: Arc<Mutex<Vec<Announcement>>>,
    secret: std::path::PathBuf,
    _folder: TempDir,
    _stop: watch::Sender<bool>,
}

fn account(name: &str) -> Account {
    let mut account = Account::new(AccountId::new("tiktok", name), "main".into());
    account.token = Some(TokenFacts {
        token: Fingerprint::from_hash(1),
        renewable_by: Some(Fingerprint::from_hash(2)),
        issued_at: Timestamp::from_unix(1_800_000_000),
        expires_at: None,
        refresh_expires_at: None,
        missing_scopes: 0,
    });
    account
}

impl Bench {
    async fn start() -> Self {
        Self::start_with(true).await
    }

    async fn start_with(has_links: bool) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let secret = folder.path().join("ops");
        fs::write(&secret, format!("{SECRET}\n")).unwrap();
        fs::write(folder.path().join("blank"), "\n").unwrap();
        let user = |name: &str, file: &str| User {
            name: name.into(),
            secret: SecretRef::File(folder.path().join(file)),
        };
        let settings = Settings {
            users: vec![user("blank", "blank"), user("ops", "ops"), user("missing", "missing")],
            session_idle: Duration::from_secs(600),
            session_life: Duration::from_secs(3600),
        };
        let clock = Clock::start();
        let now = clock.now();
        let metrics = Metrics::new(["tiktok"], now);
        let mut accounts = Table::default();
        accounts.put(account("brand 1"));
        let snapshot = Snapshot { loaded: true, accounts, ..Snapshot::empty(now) };
        let snapshot = Arc::new(ArcSwap::from_pointee(snapshot));
        let orders = Arc::new(Mutex::new(Vec::new()));
        let (deliveries, delivered) = mpsc::channel(4);
        tokio::spawn(write_down(delivered, Arc::clone(&orders)));
        let mint: Arc<Mint> = Arc::new(|_, _| Some(LINK.to_owned()));
        let wires = Wires {
            snapshot: Arc::clone(&snapshot),
            clock: clock.clone(),
            metrics: metrics.clone(),
            deliveries,
            web: Arc::new(Web::new(InForce::default())),
            mint: has_links.then_some(mint),
        };
        let actions = Arc::new(Actions::new(settings, wires));
        let context = Context {
            snapshot: Arc::clone(&snapshot),
            metrics: metrics.clone(),
            gauges: Arc::default(),
            clock,
            per_account: Arc::new(AtomicBool::new(true)),
            reload: None,
            config: Arc::new(ArcSwap::from_pointee(ConfigState { at: now, errors: Vec::new() })),
            actions: Some(Arc::clone(&actions)),
        };
        let (address, stop) = serve(context).await;
        Self { address, actions, metrics, snapshot, orders, secret, _folder: folder, _stop: stop }
    }

    /// What our own page sends.
    async fn post(&self, path: &str, cookie: &str, fields: &[(&str, &str)]) -> Answer {
        let origin = format!("http://{}", self.address);
        self.post_from(&format!("Origin: {origin}\r\n"), path, cookie, fields).await
    }

    async fn post_from(
        &self,
        from: &str,
        path: &str,
        cookie: &str,
        fields: &[(&str, &str)],
    ) -> Answer {
        let pairs: Vec<_> = fields
            .iter()
            .map(|(name, value)| format!("{name}={}", status_page::percent_encoded(value)))
            .collect();
        let body = pairs.join("&");
        let head = format!(
            "{from}Cookie: {cookie}\r\nContent-Type: application/x-www-form-urlencoded\r\nContent-Length: {}\r\n",
            body.len()
        );
        ask(self.address, "POST", path, &head, &body).await
    }

    async fn get(&self, path: &str, cookie: &str) -> Answer {
        ask(self.address, "GET", path, &format!("Cookie: {cookie}\r\n"), "").await
    }

    async fn log_in(&self, name: &str, secret: &str) -> Answer {
        let fields = [("user", name), ("secret", secret), ("next", "/accounts/tiktok/brand%201")];
        self.post("/login", "", &fields).await
    }

    /// Logs in, and answers the cookie and the mark of its forms.
    async fn session(&self) -> (String, String) {
        let cookie = self.log_in("ops", SECRET).await.cookie();
        let mark = between(&self.buttons(&cookie), "name=\"csrf\" value=\"", "\"").unwrap();
        (cookie, mark)
    }

    /// What the account's page shows to whoever has this cookie.
    fn buttons(&self, cookie: &str) -> String {
        let cookie = (hyper::header::COOKIE, cookie.parse().unwrap());
        let headers = hyper::HeaderMap::from_iter([cookie]);
        let id = AccountId::new("tiktok", "brand 1");
        super::form(
            self.snapshot.load().accounts.find(&id).unwrap(),
            &self.actions.viewer(&headers),
        )
    }

    fn orders(&self) -> Vec<Order> {
        let orders = self.orders.lock().unwrap();
        let order = |one: &Announcement| {
            assert_eq!(one.whose, Whose::Account(AccountId::new("tiktok", "brand 1")));
            match &one.said {
                Said::Order(order) => order.clone(),
                other => panic!("no order: {other:?}"),
            }
        };
        orders.iter().map(order).collect()
    }

    fn counted(&self, action: &str, result: &str) -> u64 {
        let mut text = Vec::new();
        self.metrics.write(&mut text, Format::Classic);
        let text = String::from_utf8(text).unwrap();
        let name =
            format!("oauth_keepalive_actions_total{{action=\"{action}\",result=\"{result}\"}} ");
        let line = text.lines().find_map(|line| line.strip_prefix(&name));
        line.unwrap_or_else(|| panic!("no {name}")).parse().unwrap()
    }
}

async fn serve(context: Context) -> (SocketAddr, watch::Sender<bool>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let (stop, stopped) = watch::channel(false);
    let handler = move |request| telemetry::handle(context.clone(), request);
    tokio::spawn(server::run(listener, Limits::with_connections(16), handler, stopped));
    (address, stop)
}

/// As the inbox does: the same key is known.
async fn write_down(
    mut delivered: mpsc::Receiver<Delivery>,
    orders: Arc<Mutex<Vec<Announcement>>>,
) {
    let mut keys = BTreeSet::new();
    while let Some((announcement, answer)) = delivered.recv().await {
        let is_new = keys.insert(Arc::clone(&announcement.key));
        if is_new {
            orders.lock().unwrap().push(announcement);
        }
        let _ = answer.send(is_new);
    }
}

struct Answer {
    status: u16,
    head: String,
    body: String,
}

impl Answer {
    fn header(&self, name: &str) -> Option<&str> {
        self.head.lines().find_map(|line| {
            let (key, value) = line.split_once(": ")?;
            key.eq_ignore_ascii_case(name).then_some(value)
        })
    }

    /// What a browser would send back.
    fn cookie(&self) -> String {
        let set = self.header("set-cookie").unwrap_or_else(|| panic!("no cookie: {}", self.head));
        set.split(';').next().unwrap().to_owned()
    }
}

async fn ask(address: SocketAddr, method: &str, path: &str, head: &str, body: &str) -> Answer {
    let request = format!(
        "{method} {path} HTTP/1.1\r\nHost: {address}\r\nConnection: close\r\n{head}\r\n{body}"
    );
    let talk = async {
        let mut stream = TcpStream::connect(address).await.unwrap();
        let _ = stream.write_all(request.as_bytes()).await;
        let mut answer = String::new();
        let _ = stream.read_to_string(&mut answer).await;
        answer
    };
    let answer = timeout(PATIENCE, talk).await.expect("an answer");
    let (head, body) = answer.split_once("\r\n\r\n").expect("a whole head");
    Answer { status: head[9..12].parse().unwrap(), head: head.to_owned(), body: body.to_owned() }
}

fn between(text: &str, before: &str, behind: &str) -> Option<String> {
    Some(text.split_once(before)?.1.split_once(behind)?.0.to_owned())
}

const BRAND: (&str, &str) = ("account", "tiktok/brand 1");

#[tokio::test]
async fn whoever_logs_in_holds_resumes_refreshes_gets_a_link_and_logs_out() {
    let bench = Bench::start().await;
    assert!(
        bench
            .buttons("")
            .contains("href=\"../..&#x2f;login?next=%2Faccounts%2Ftiktok%2Fbrand%25201\""),
        "{}",
        bench.buttons("")
    );
    assert!(!bench.buttons("").contains("<form"));
    let page = bench.get("/login?next=%2Faccounts%2Ftiktok%2Fbrand%25201", "").await;
    assert_eq!(page.status, 200);
    assert!(
        page.body.contains("value=\"&#x2f;accounts&#x2f;tiktok&#x2f;brand%201\""),
        "{}",
        page.body
    );
    assert_eq!(page.header("cache-control"), Some("no-store"));
    // With `no-referrer` the form would come from nowhere.
    assert_eq!(page.header("referrer-policy"), Some("same-origin"));

    let entered = bench.log_in("ops", SECRET).await;
    assert_eq!(
        (entered.status, entered.header("location")),
        (303, Some("./accounts/tiktok/brand%201"))
    );
    let cookie = entered.header("set-cookie").unwrap();
    assert!(cookie.ends_with("; Path=/; HttpOnly; SameSite=Strict"), "{cookie}");
    let cookie = entered.cookie();
    let buttons = bench.buttons(&cookie);
    let mark = between(&buttons, "name=\"csrf\" value=\"", "\"").unwrap();
    assert!(!cookie.contains(&mark) && !buttons.contains(cookie.split_once('=').unwrap().1));

    let fields = [("csrf", &*mark), BRAND];
    for (action, said) in [
        ("hold", "is held within"),
        ("resume", "goes on as soon"),
        ("refresh", "is refreshed within"),
    ] {
        let done = bench.post(&format!("/actions/{action}"), &cookie, &fields).await;
        assert_eq!(
            (done.status, done.header("location")),
            (303, Some("../accounts/tiktok/brand%201")),
            "{action}"
        );
        assert!(bench.buttons(&cookie).contains(said), "{}", bench.buttons(&cookie));
        assert_eq!(bench.counted(action, "done"), 1);
    }
    assert_eq!(bench.orders(), [Order::Hold, Order::Resume, Order::Refresh]);
    let link = bench.post("/actions/link", &cookie, &fields).await;
    assert_eq!(link.status, 200);
    assert_eq!(link.header("cache-control"), Some("no-store"));
    assert!(link.body.contains("value=\"https:&#x2f;&#x2f;connect.example&#x2f;connect&#x2f;account&#x2f;invented\" readonly autofocus"), "{}", link.body);
    let out = bench.post("/logout", &cookie, &[("csrf", &mark)]).await;
    assert_eq!((out.status, out.header("location")), (303, Some("./")));
    assert!(out.header("set-cookie").unwrap().contains("Max-Age=0"));
    assert!(!bench.buttons(&cookie).contains("<form"));
    let late = bench.post("/actions/hold", &cookie, &fields).await;
    assert_eq!(late.status, 401);
    assert!(
        late.body.contains("your session has ended") && late.body.contains("action=\"../login\"")
    );
    assert_eq!((bench.orders().len(), bench.counted("logout", "done")), (3, 1));
}

#[tokio::test]
async fn nothing_is_done_without_session_mark_and_a_page_of_ours() {
    let bench = Bench::start().await;
    let (cookie, mark) = bench.session().await;
    let (other_cookie, other_mark) = bench.session().await;
    assert_ne!(mark, other_mark);
    let ours = format!("Origin: http://{}\r\n", bench.address);
    let with = |site: &str| format!("{ours}Sec-Fetch-Site: {site}\r\n");
    let elsewhere = "Origin: https://evil.example\r\n".to_owned();
    let altered = format!("{}A", &mark[..mark.len() - 1]);
    let altered = if altered == mark { format!("{}E", &mark[..mark.len() - 1]) } else { altered };
    let cases: [(&str, &str, &str, &str, u16); 12] = [
        ("another site", &elsewhere, &cookie, &mark, 403),
        ("another site in a browser that says so", &with("cross-site"), &cookie, &mark, 403),
        ("a neighbour", &with("same-site"), &cookie, &mark, 403),
        ("nobody knows where from", "Origin: null\r\n", &cookie, &mark, 403),
        ("no browser", "", &cookie, &mark, 403),
        ("no mark", &ours, &cookie, "", 403),
        ("the mark of another session", &ours, &cookie, &other_mark, 403),
        ("a mark that was altered at its end", &ours, &cookie, &altered, 403),
        ("the beginning of a mark", &ours, &cookie, &mark[..20], 403),
        ("no cookie", &ours, "", &mark, 401),
        ("another cookie", &ours, &other_cookie, &mark, 403),
        (
            "an invented cookie",
            &ours,
            "oauth-keepalive=AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA",
            &mark,
            401,
        ),
    ];
    for (case, from, cookie, mark, expected) in cases {
        for action in ["hold", "resume", "refresh", "link"] {
            let path = format!("/actions/{action}");
            let answer = bench.post_from(from, &path, cookie, &[("csrf", mark), BRAND]).await;
            assert_eq!(answer.status, expected, "{case}: {action}");
            assert!(!answer.body.contains("connect.example"), "{case}");
        }
        let answer = bench.post_from(from, "/logout", cookie, &[("csrf", mark)]).await;
        assert_eq!(answer.status, expected, "{case}: log out");
    }
    assert_eq!(bench.orders(), []);
    assert_eq!(bench.counted("hold", "refused"), 12);
    for from in [&*elsewhere, "", &with("cross-site")] {
        let fields = [("user", "ops"), ("secret", SECRET)];
        let answer = bench.post_from(from, "/login", "", &fields).await;
        assert_eq!((answer.status, answer.header("set-cookie")), (403, None), "log in {from}");
    }
    for path in ["/actions/hold", "/actions/link", "/logout"] {
        let answer = bench.get(path, &cookie).await;
        assert_eq!((answer.status, answer.header("allow")), (405, Some("POST")), "{path}");
    }
    assert_eq!(bench.get("/actions/other", &cookie).await.status, 404);
    let fields = [("csrf", &*mark), BRAND];
    assert_eq!(bench.post("/actions/hold", &cookie, &fields).await.status, 303, "it works still");
}

#[tokio::test]
async fn a_wrong_secret_a_name_that_nobody_has_and_a_blank_secret_are_told_the_same() {
    let bench = Bench::start().await;
    let mut pages = BTreeSet::new();
    for (name, secret) in [
        ("ops", "wrong"),
        ("ops", "invented ops+secre"),
        ("ops", "invented ops+secret "),
        ("nobody", SECRET),
        ("", SECRET),
        ("blank", ""),
        ("missing", ""),
    ] {
        let answer = bench.log_in(name, secret).await;
        assert_eq!((answer.status, answer.header("set-cookie")), (403, None), "{name} {secret}");
        pages.insert(answer.body);
    }
    assert_eq!(pages.len(), 1, "{pages:?}");
    assert_eq!(bench.counted("login", "refused"), 7);
    assert_eq!(bench.log_in("ops", SECRET).await.status, 303);
}

#[tokio::test]
async fn who_guesses_is_asked_to_wait_and_others_are_not() {
    let bench = Bench::start().await;
    for name in ["ops", "nobody"] {
        let mut answers = Vec::new();
        while answers.len() < 50 && answers.last() != Some(&429) {
            answers.push(bench.log_in(name, "guess").await.status);
        }
        // One more now and then is let through, however slow this machine is.
        assert!((6..50).contains(&answers.len()), "{name}: {answers:?}");
    }
    let answer = bench.log_in("ops", "guess again").await;
    assert!(answer.status == 403 || answer.header("retry-after").is_some(), "{}", answer.head);
    assert_eq!(bench.log_in("blank", "").await.status, 403, "another name is not kept out");
}

#[tokio::test]
async fn a_session_ends_with_the_secret_that_it_began_with() {
    let bench = Bench::start().await;
    let (cookie, mark) = bench.session().await;
    fs::write(&bench.secret, "another invented secret").unwrap();
    let fields = [("csrf", &*mark), BRAND];
    assert_eq!(bench.post("/actions/hold", &cookie, &fields).await.status, 401);
    assert_eq!(bench.log_in("ops", "another invented secret").await.status, 303);
}

#[tokio::test]
async fn people_who_are_logged_in_are_bounded() {
    let bench = Bench::start().await;
    let (first, _) = bench.session().await;
    for _ in 0..SESSIONS_MAX {
        assert_eq!(
            bench.log_in("ops", SECRET).await.status,
            303,
            "who is right is not kept waiting"
        );
    }
    assert!(!bench.buttons(&first).contains("<form"), "the first had to make room");
}

#[tokio::test]
async fn over_tls_the_cookie_is_one_that_only_tls_carries() {
    let bench = Bench::start().await;
    let from = format!("Origin: https://{}\r\nSec-Fetch-Site: same-origin\r\n", bench.address);
    let fields = [("user", "ops"), ("secret", SECRET)];
    let entered = bench.post_from(&from, "/login", "", &fields).await;
    let cookie = entered.header("set-cookie").unwrap();
    assert!(
        cookie.starts_with("__Host-oauth-keepalive=") && cookie.ends_with("; Secure"),
        "{cookie}"
    );
    assert!(bench.buttons(&entered.cookie()).contains("<form"));
    let stripped = entered.cookie().replace("__Host-", "");
    assert!(!bench.buttons(&stripped).contains("<form"), "it is not taken from a cookie in clear");
}

#[tokio::test]
async fn an_account_that_is_not_there_a_form_that_is_none_and_an_inbox_that_is_away_change_nothing()
{
    let bench = Bench::start().await;
    let (cookie, mark) = bench.session().await;
    for account in ["tiktok/nobody", "brand 1", ""] {
        let fields = [("csrf", &*mark), ("account", account)];
        assert_eq!(bench.post("/actions/hold", &cookie, &fields).await.status, 404, "{account}");
    }
    let ours = format!("Origin: http://{}\r\nCookie: {cookie}\r\n", bench.address);
    let form = "Content-Type: application/x-www-form-urlencoded\r\n";
    for (kind, body, expected) in [
        ("Content-Type: text/plain\r\n", "csrf=a".to_owned(), 415),
        (form, "csrf=a&csrf=b".to_owned(), 400),
        (form, "other=a".to_owned(), 400),
        (form, "csrf=%FF".to_owned(), 400),
        (form, format!("csrf={}", "a".repeat(9_000)), 413),
    ] {
        let head = format!("{ours}{kind}Content-Length: {}\r\n", body.len());
        let answer = ask(bench.address, "POST", "/actions/hold", &head, &body).await;
        assert_eq!(answer.status, expected, "{kind}{}", &body[..body.len().min(20)]);
    }
    assert_eq!(bench.orders(), []);
    // The second within a minute, or at its turn the third, is no new order, and is told so.
    let fields = [("csrf", &*mark), BRAND];
    for _ in 0..3 {
        bench.post("/actions/refresh", &cookie, &fields).await;
    }
    assert!(bench.orders().len() < 3);
    assert!(bench.buttons(&cookie).contains("within the last minute already"));
}

#[tokio::test]
async fn where_owners_cannot_connect_there_is_no_link_and_no_button_for_one() {
    let bench = Bench::start_with(false).await;
    let (cookie, mark) = bench.session().await;
    assert!(!bench.buttons(&cookie).contains("id=\"link\""));
    let answer = bench.post("/actions/link", &cookie, &[("csrf", &mark), BRAND]).await;
    assert_eq!(answer.status, 409);
    assert!(answer.body.contains("No link can connect this account"), "{}", answer.body);
    assert_eq!(bench.counted("link", "failed"), 1);
}

#[tokio::test]
async fn switched_off_there_is_nothing_of_it() {
    let bench = Bench::start().await;
    let context = Context {
        snapshot: Arc::clone(&bench.snapshot),
        metrics: bench.metrics.clone(),
        gauges: Arc::default(),
        clock: Clock::start(),
        per_account: Arc::new(AtomicBool::new(true)),
        reload: None,
        config: Arc::new(ArcSwap::from_pointee(ConfigState {
            at: Clock::start().now(),
            errors: Vec::new(),
        })),
        actions: None,
    };
    let headers = hyper::HeaderMap::new();
    assert_eq!(super::form(&account("a"), &context.viewer(&headers)), "");
    let (address, _stop) = serve(context).await;
    for path in ["/login", "/logout", "/actions/hold", "/actions/link"] {
        for method in ["GET", "POST"] {
            assert_eq!(ask(address, method, path, "", "").await.status, 404, "{method} {path}");
        }
    }
}
