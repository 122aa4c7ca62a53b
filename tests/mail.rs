//! Mails over real sockets to a real mail server (aiosmtpd), which misbehaves on request.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on ends")]

use jiff::tz::TimeZone;
use oauth_keepalive::{
    core::{
        AccountId, Cause, Event, Gate, Secret, Timestamp,
        digest::{Rules, Summary},
        notices::{Audience, Change, Notice, Subject, Way},
    },
    delivery::{
        Mailer, Outbox, Post, Settings, Smtp, SmtpTls, Uncarried, Url, Webhook, WebhookFormat,
        message::{Letter, Role, render},
        smtp::{self, Undelivered},
        templates::Templates,
    },
    secrets::SecretRef,
    state::{self, Arranged, Owed, Thread},
};
use serde_json::Value;
use std::{
    collections::BTreeMap,
    io::{BufRead, BufReader},
    path::{Path, PathBuf},
    pin::Pin,
    process::{Child, Command, Stdio},
    sync::{Arc, Mutex},
    time::{Duration, Instant},
};
use tempfile::TempDir;
use tokio::sync::{Notify, broadcast, watch};

const NOW: Timestamp = Timestamp::from_unix(1_795_343_460);
const PASSWORD: &str = "invented-password";
const PATIENCE: Duration = Duration::from_secs(60);

/// A mail server in its own process; it ends when this is dropped.
struct Server {
    process: Child,
    directory: TempDir,
    port: u16,
}

/// What a test wants of its server.
struct Wanted {
    tls: &'static str,
    fault: &'static str,
    login: bool,
}

impl Default for Wanted {
    fn default() -> Self {
        Self { tls: "starttls", fault: "none", login: true }
    }
}

impl Server {
    fn start(wanted: &Wanted) -> Self {
        // A second installation in the same process is refused, and that is fine.
        let _ = rustls::crypto::ring::default_provider().install_default();
        let directory = tempfile::tempdir().unwrap();
        let path = |name: &str| directory.path().join(name);
        let mut command = Command::new(python());
        command.arg(servers().join("smtp.py")).arg("--log").arg(path("log"));
        command.args(["--tls", wanted.tls, "--fault", wanted.fault]);
        if wanted.tls != "none" {
            make_certificates(directory.path());
            command
                .arg("--certificate")
                .arg(path("server.pem"))
                .arg("--key")
                .arg(path("server.key"));
        }
        if !wanted.login {
            command.arg("--no-login");
        }
        std::fs::write(path("password"), format!("{PASSWORD}\n")).unwrap();
        std::fs::write(path("log"), "").unwrap();
        // aiosmtpd warns of everything that these tests do on purpose.
        let stderr = std::fs::File::create(path("stderr")).unwrap();
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(stderr);
        let mut process = command.spawn().expect("python starts");
        let mut line = String::new();
        BufReader::new(process.stdout.take().unwrap()).read_line(&mut line).unwrap();
        let port = line.trim().parse().unwrap_or_else(|_| {
            panic!("no port: {}", std::fs::read_to_string(path("stderr")).unwrap_or_default())
        });
        Self { process, directory, port }
    }

    fn with_fault(fault: &'static str) -> Self {
        Self::start(&Wanted { fault, ..Wanted::default() })
    }

    fn smtp(&self) -> Smtp {
        Smtp {
            host: "localhost".to_owned(),
            port: self.port,
            tls: SmtpTls::StartTls,
            login: Some(("keeper".to_owned(), SecretRef::File(self.path("password")))),
            ca_file: Some(self.path("ca.pem")),
            deadline: Duration::from_secs(60),
        }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    fn log(&self) -> Vec<Value> {
        let text = std::fs::read_to_string(self.path("log")).unwrap();
        text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
    }

    fn commands(&self, name: &str) -> usize {
        self.log().iter().filter(|event| event["command"] == name).count()
    }

    fn messages(&self) -> Vec<Value> {
        self.log().into_iter().filter_map(|event| event.get("message").cloned()).collect()
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

fn servers() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/servers")
}

fn python() -> String {
    let output = Command::new(servers().join("venv.sh")).output().expect("venv.sh runs");
    assert!(
        output.status.success(),
        "tests/servers/venv.sh: {}",
        String::from_utf8_lossy(&output.stderr)
    );
    String::from_utf8(output.stdout).unwrap().trim().to_owned()
}

/// An authority of our own (`ca.pem`) and a certificate for localhost that it signed.
fn make_certificates(directory: &Path) {
    std::fs::write(directory.join("names"), "subjectAltName=DNS:localhost\n").unwrap();
    let key = "-newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes";
    for line in [
        format!("req -x509 {key} -keyout ca.key -out ca.pem -subj /CN=invented-authority -days 2"),
        format!("req {key} -keyout server.key -out server.csr -subj /CN=localhost"),
        "x509 -req -in server.csr -CA ca.pem -CAkey ca.key -CAcreateserial -extfile names \
         -out server.pem -days 2"
            .to_owned(),
    ] {
        let output = Command::new("openssl")
            .args(line.split_whitespace())
            .current_dir(directory)
            .output()
            .expect("openssl is installed");
        assert!(output.status.success(), "{line}: {}", String::from_utf8_lossy(&output.stderr));
    }
}

fn header<'a>(message: &'a Value, name: &str) -> Option<&'a str> {
    let headers = message["headers"].as_array().unwrap();
    headers.iter().find(|header| header[0] == name).and_then(|header| header[1].as_str())
}

fn secret(text: &str) -> Secret {
    Secret::new(text.to_owned())
}

fn notice(account: &str) -> Notice {
    Notice {
        subject: Subject::Account(AccountId::new("tiktok", account)),
        cause: Cause::ConsentRevoked,
        change: Change::Firing,
        audience: Audience::Owner,
        since: NOW,
        at: NOW,
        expires_at: None,
        evidence: None,
        step: None,
        missing_scopes: Vec::new(),
        accounts: 1,
        posts_at_risk: None,
        gate: Gate::Open,
    }
}

fn mail(notice: &Notice) -> lettre::Message {
    mail_to(notice, "anna@example.com")
}

fn mail_to(notice: &Notice, to: &str) -> lettre::Message {
    render(&Letter {
        notices: &[("00ff".to_owned(), notice.clone())],
        counts: &[(notice.change, notice.cause, 1)],
        summary: &Summary::default(),
        now: NOW,
        titles: &BTreeMap::from([("tiktok".to_owned(), "TikTok".to_owned())]),
        role: Role::Owner,
        zone: &TimeZone::UTC,
        external_url: Some("https://keeper.example.com"),
        links: None,
        from: &secret("oauth-keepalive <keeper@example.com>"),
        to: &secret(to),
        message_key: "0a1b-1",
        threads: &[],
        templates: &Templates::built_in(),
    })
    .unwrap()
}

/// An outbox in memory that notes what became of each mail.
#[derive(Clone, Default)]
struct Memory(Arc<Mutex<Inside>>);

#[derive(Default)]
struct Inside {
    owed: Vec<(Timestamp, Owed)>,
    sent: Vec<i64>,
    given_up: Vec<i64>,
    postponed: usize,
    in_doubt: Vec<i64>,
    /// The disk is full for whoever wants to note a sent mail.
    refuses_sent: bool,
    /// What is wanted of it is done, and whoever wanted it hears that it was not.
    is_unheard: bool,
    /// Attempts that began and of which nothing was noted.
    begun: Vec<i64>,
}

impl Memory {
    fn owing(notices: &[Notice]) -> Self {
        let memory = Self::default();
        for (row, notice) in (1..).zip(notices) {
            let owed = Owed {
                row,
                message_key: format!("0a1b-{row}"),
                threads: Vec::new(),
                to: secret("anna@example.com"),
                way: Way::Mail,
                is_operator: false,
                notices: vec![("00ff".to_owned(), notice.clone())],
                counts: vec![(notice.change, notice.cause, 1)],
                summary: Summary::default(),
                attempts: 0,
                doubts: 0,
                made_at: notice.at,
            };
            memory.inside(|inside| inside.owed.push((NOW, owed)));
        }
        memory
    }

    fn inside<R>(&self, look: impl FnOnce(&mut Inside) -> R) -> R {
        look(&mut self.0.lock().unwrap())
    }
}

fn unheard() -> state::Error {
    let (place, reason) = ("memory".to_owned(), "as told".to_owned());
    state::Error::Unavailable { place, reason }
}

impl Outbox for Memory {
    async fn call_to_mind(
        &self,
        _: Timestamp,
        _: &[Duration],
    ) -> Result<(Vec<Notice>, Option<Timestamp>), state::Error> {
        Ok((Vec::new(), None))
    }

    async fn arrange(
        &self,
        _: Way,
        _: Timestamp,
        _: &Rules,
        _: &[Secret],
    ) -> Result<Arranged, state::Error> {
        Ok(Arranged::default())
    }

    async fn owed(
        &self,
        _: Way,
        now: Timestamp,
        at_most: usize,
    ) -> Result<Vec<Owed>, state::Error> {
        Ok(self.inside(|inside| {
            let due = inside.owed.iter().filter(|(due, _)| *due <= now);
            due.take(at_most).map(|(_, owed)| owed.clone()).collect()
        }))
    }

    async fn next_due(&self, _: Way) -> Result<Option<Timestamp>, state::Error> {
        Ok(self.inside(|inside| inside.owed.iter().map(|(due, _)| *due).min()))
    }

    async fn begin(&self, row: i64, _: &str) -> Result<bool, state::Error> {
        self.inside(|inside| {
            inside.begun.push(row);
            let is_there = inside.owed.iter().any(|(_, owed)| owed.row == row);
            if inside.is_unheard { Err(unheard()) } else { Ok(is_there) }
        })
    }

    async fn sent(&self, row: i64, _: Timestamp) -> Result<(), state::Error> {
        self.inside(|inside| {
            if inside.refuses_sent {
                return Err(unheard());
            }
            inside.owed.retain(|(_, owed)| owed.row != row);
            inside.sent.push(row);
            Ok(())
        })
    }

    async fn postpone(
        &self,
        row: i64,
        until: Timestamp,
        in_doubt: bool,
        _: &str,
    ) -> Result<(), state::Error> {
        self.inside(|inside| {
            if inside.is_unheard {
                return Err(unheard());
            }
            inside.begun.retain(|begun| *begun != row);
            inside.postponed += 1;
            if in_doubt {
                inside.in_doubt.push(row);
            }
            for (due, owed) in inside.owed.iter_mut().filter(|(_, owed)| owed.row == row) {
                *due = until;
                owed.attempts += 1;
                owed.doubts += u32::from(in_doubt);
            }
            Ok(())
        })
    }

    async fn give_up(&self, row: i64, _: Timestamp, _: &str) -> Result<(), state::Error> {
        self.inside(|inside| {
            inside.owed.retain(|(_, owed)| owed.row != row);
            inside.given_up.push(row);
        });
        Ok(())
    }
}

/// A mailer on `outbox` with everything that a test holds of it.
struct Desk {
    mailer: Mailer<Memory>,
    settings: watch::Sender<Arc<Settings>>,
    events: broadcast::Receiver<Event>,
    stop: watch::Sender<bool>,
}

impl Desk {
    fn new(outbox: &Memory, smtp: Option<Smtp>) -> Self {
        let settings = watch::Sender::new(Arc::new(Settings {
            smtp,
            from: secret("oauth-keepalive <keeper@example.com>"),
            operator: vec![secret("ops@example.com")],
            owners: Vec::new(),
            external_url: None,
            rules: Rules::EACH,
            reminders: Vec::new(),
            time_zone: TimeZone::UTC,
            templates: Templates::built_in(),
            webhooks: Vec::new(),
        }));
        let (events, receiver) = broadcast::channel(256);
        let titles = BTreeMap::from([("tiktok".to_owned(), "TikTok".to_owned())]);
        let tell = Box::new(move |event| drop(events.send(event)));
        let mailer = Mailer::new(outbox.clone(), settings.subscribe(), titles, tell);
        Self { mailer, settings, events: receiver, stop: watch::Sender::new(false) }
    }

    /// One pass at `seconds` after [`NOW`]; answers in how many seconds the next one is wanted.
    async fn round(&mut self, seconds: u64) -> Option<i64> {
        let now = NOW.plus(Duration::from_secs(seconds));
        let next = self.mailer.round(now, &self.stop.subscribe()).await;
        next.map(|next| next.seconds_from(now))
    }

    fn told(&mut self) -> Vec<Event> {
        std::iter::from_fn(|| self.events.try_recv().ok()).collect()
    }
}

async fn until(what: &str, condition: impl Fn() -> bool) {
    let begin = Instant::now();
    while !condition() {
        assert!(begin.elapsed() < PATIENCE, "{what} did not happen within {PATIENCE:?}");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

/// Until a mailer that was just spawned has nothing to do. All tasks of a test share one thread, so they
/// have run as far as they can when it is our turn again.
async fn asleep() {
    for _ in 0..10 {
        tokio::task::yield_now().await;
    }
}

#[tokio::test]
async fn a_mail_arrives_encrypted_and_logged_in_with_both_parts_and_all_headers() {
    let server = Server::start(&Wanted::default());
    smtp::send(&server.smtp(), &mail(&notice("brand-a"))).await.unwrap();

    let messages = server.messages();
    assert_eq!(messages.len(), 1);
    let message = &messages[0];
    assert_eq!(message["tls"], true);
    assert_eq!(message["login"], true);
    assert_eq!(message["from"], "keeper@example.com");
    assert_eq!(message["to"], serde_json::json!(["anna@example.com"]));
    let expected = [
        ("From", "oauth-keepalive <keeper@example.com>"),
        ("To", "anna@example.com"),
        ("Subject", "[oauth-keepalive] tiktok/brand-a: permission withdrawn, please reconnect"),
        ("Message-ID", "<0a1b-1@example.com>"),
        ("Date", "Sun, 22 Nov 2026 10:31:00 +0000"),
        ("Auto-Submitted", "auto-generated"),
        ("X-Auto-Response-Suppress", "All"),
        ("List-Id", "oauth-keepalive <oauth-keepalive.example.com>"),
        ("MIME-Version", "1.0"),
    ];
    for (name, value) in expected {
        assert_eq!(header(message, name), Some(value), "{name}");
    }
    let parts = message["parts"].as_array().unwrap();
    assert_eq!(parts.len(), 2);
    assert_eq!((&parts[0][0], &parts[1][0]), (&"text/plain".into(), &"text/html".into()));
    for part in parts {
        let text = part[1].as_str().unwrap();
        assert!(text.contains("Please reconnect your TikTok account “brand-a”"), "{text}");
        assert!(text.contains("22 November 2026, 10:31 UTC"), "{text}");
    }
}

#[tokio::test]
async fn every_way_to_a_server_that_is_allowed_works() {
    let ways = [
        ("implicit", SmtpTls::Implicit, "none", true),
        ("none", SmtpTls::None, "none", true),
        ("none", SmtpTls::None, "none", false),
        ("starttls", SmtpTls::StartTls, "none", false),
        ("starttls", SmtpTls::StartTls, "login-only", true),
        ("starttls", SmtpTls::StartTls, "hang-quit", true),
    ];
    for (tls, client_tls, fault, login) in ways {
        let server = Server::start(&Wanted { tls, fault, login });
        let mut smtp = Smtp { tls: client_tls, ..server.smtp() };
        if !login {
            smtp.login = None;
        }
        smtp::send(&smtp, &mail(&notice("brand-a"))).await.unwrap();
        let messages = server.messages();
        assert_eq!(messages.len(), 1, "{tls} {fault}");
        assert_eq!(messages[0]["tls"], tls != "none", "{tls} {fault}");
        assert_eq!(messages[0]["login"], login, "{tls} {fault}");
    }
}

#[tokio::test]
async fn without_tls_nothing_leaves_the_machine() {
    let server = Server::start(&Wanted { tls: "none", ..Wanted::default() });
    for host in ["192.0.2.1", "2001:db8::1"] {
        let smtp = Smtp { host: host.to_owned(), tls: SmtpTls::None, ..server.smtp() };
        let error = smtp::send(&smtp, &mail(&notice("a"))).await.unwrap_err().to_string();
        assert!(error.contains("must be on a loopback address"), "{error}");
    }
}

#[tokio::test]
async fn a_server_whose_starttls_was_taken_away_gets_no_password_and_no_mail() {
    let server = Server::start(&Wanted { tls: "none", ..Wanted::default() });
    let smtp = Smtp { ca_file: None, ..server.smtp() };
    let error = smtp::send(&smtp, &mail(&notice("a"))).await.unwrap_err();
    assert!(matches!(&error, Undelivered::ServerTrouble { .. }), "{error:?}");
    assert!(error.to_string().contains("does not offer STARTTLS"), "{error}");
    assert_eq!(smtp::check(&smtp).await, Err(error.to_string()));
    assert!(server.commands("EHLO") > 0, "the server was spoken to");
    assert_eq!((server.commands("AUTH"), server.commands("MAIL")), (0, 0));
}

#[tokio::test]
async fn a_certificate_that_does_not_prove_the_server_is_refused_before_the_password() {
    let server = Server::start(&Wanted::default());
    let stranger = Server::start(&Wanted::default());
    std::fs::write(server.path("no.pem"), "nothing\n").unwrap();
    let cases = [
        (Smtp { ca_file: None, ..server.smtp() }, "unknown authority"),
        (Smtp { ca_file: Some(stranger.path("ca.pem")), ..server.smtp() }, "not valid"),
        (Smtp { host: "127.0.0.1".to_owned(), ..server.smtp() }, "another host name"),
        (Smtp { ca_file: Some(server.path("no.pem")), ..server.smtp() }, "no PEM certificate"),
        (Smtp { ca_file: Some(server.path("gone")), ..server.smtp() }, "not found"),
    ];
    for (smtp, expected) in cases {
        let error = smtp::send(&smtp, &mail(&notice("a"))).await.unwrap_err();
        assert!(matches!(&error, Undelivered::ServerTrouble { .. }), "{error:?}");
        assert!(error.to_string().contains(expected), "{error} does not say {expected:?}");
    }
    assert_eq!(server.commands("AUTH"), 0);
}

#[tokio::test]
async fn a_server_that_falls_silent_holds_nobody_longer_than_the_deadline() {
    let cases = [("hang-greeting", "connecting"), ("hang-data", "the end of the message")];
    for (fault, step) in cases {
        let server = Server::with_fault(fault);
        let smtp = Smtp { deadline: Duration::from_secs(5), ..server.smtp() };
        let begin = Instant::now();
        let error = smtp::send(&smtp, &mail(&notice("a"))).await.unwrap_err();
        assert!(begin.elapsed() < PATIENCE, "{fault}: {:?}", begin.elapsed());
        assert!(matches!(&error, Undelivered::ServerTrouble { .. }), "{fault}: {error:?}");
        assert!(error.to_string().starts_with(step), "{fault}: {error}");
        assert!(error.to_string().contains("within 5s"), "{fault}: {error}");
    }
}

#[tokio::test]
async fn a_refusal_tells_the_step_and_the_codes_and_repeats_no_address() {
    let cases = [
        ("unknown-recipient", "RCPT TO: 550 5.1.1 (the address)", "pointless"),
        ("refuse-content", "the end of the message: 554 5.6.0 (the content)", "pointless"),
        ("greylist", "RCPT TO: 451 4.7.1 (security or policy)", "try again"),
        ("closing", "RCPT TO: 421 4.3.2 (the mail system)", "server"),
    ];
    for (fault, reason, reaction) in cases {
        let server = Server::with_fault(fault);
        let error = smtp::send(&server.smtp(), &mail(&notice("a"))).await.unwrap_err();
        assert_eq!(error.to_string(), reason, "{fault}");
        let is_expected = match &error {
            Undelivered::Pointless { .. } => reaction == "pointless",
            Undelivered::TryAgain { .. } => reaction == "try again",
            Undelivered::ServerTrouble { .. } => reaction == "server",
        };
        assert!(is_expected, "{fault}: {error:?}");
    }
}

#[tokio::test]
async fn the_check_logs_in_and_sends_nothing() {
    let server = Server::start(&Wanted::default());
    assert_eq!(smtp::check(&server.smtp()).await, Ok(()));
    assert_eq!((server.commands("AUTH"), server.commands("MAIL")), (1, 0));

    std::fs::write(server.path("password"), "another-invented-one").unwrap();
    let error = smtp::check(&server.smtp()).await.unwrap_err();
    assert!(error.starts_with("AUTH: 535 5.7.8"), "{error}");
    assert!(!error.contains("invented"), "{error}");

    let closed = Smtp { port: 1, ..server.smtp() };
    let error = smtp::check(&closed).await.unwrap_err();
    assert_eq!(error, "connecting and greeting: the connection failed or broke off");
}

#[tokio::test]
async fn an_address_outside_ascii_needs_a_server_that_can_carry_it() {
    let letter_to = |to: &str| mail_to(&notice("a"), to);
    let server = Server::start(&Wanted::default());
    smtp::send(&server.smtp(), &letter_to("änna@example.com")).await.unwrap();
    assert_eq!(server.messages()[0]["to"], serde_json::json!(["änna@example.com"]));

    let server = Server::with_fault("ascii-only");
    let error = smtp::send(&server.smtp(), &letter_to("änna@example.com")).await.unwrap_err();
    assert!(matches!(error, Undelivered::Pointless { .. }), "{error:?}");
}

#[tokio::test]
async fn no_account_name_adds_a_header_or_a_recipient_on_the_wire() {
    let server = Server::start(&Wanted::default());
    let long = "n".repeat(10 * 1024);
    let names = ["x\r\nBcc: a@b", "x\r\n.\r\nMAIL FROM:<a@b>", "\0", "שלום\u{202e}x", "👩‍👧", &long];
    for name in names {
        smtp::send(&server.smtp(), &mail(&notice(name))).await.unwrap();
    }
    let messages = server.messages();
    assert_eq!(messages.len(), names.len());
    assert_eq!(server.commands("MAIL"), names.len());
    for message in &messages {
        assert_eq!(message["to"], serde_json::json!(["anna@example.com"]));
        assert_eq!(message["headers"].as_array().unwrap().len(), 10, "{message}");
        assert_eq!(header(message, "Bcc"), None);
        assert_eq!(header(message, "X-Auto-Response-Suppress"), Some("All"));
    }
}

#[tokio::test]
async fn a_greylisted_mail_is_tried_again_and_delivered_once() {
    let server = Server::with_fault("greylist");
    let outbox = Memory::owing(&[notice("brand-a")]);
    let mut desk = Desk::new(&outbox, Some(server.smtp()));

    let wait = desk.round(0).await.unwrap();
    assert!((20..=30).contains(&wait), "{wait}");
    assert_eq!(desk.round(5).await, Some(wait - 5), "too early, nothing is tried");
    assert_eq!(server.commands("RCPT"), 1);
    assert_eq!(desk.round(60).await, None);
    assert_eq!(desk.round(120).await, None);
    assert_eq!((server.messages().len(), server.commands("RCPT")), (1, 2));
    assert_eq!(outbox.inside(|inside| inside.sent.clone()), [1]);
    let reason = "RCPT TO: 451 4.7.1 (security or policy)".to_owned();
    assert_eq!(
        desk.told(),
        [
            Event::MailFailed { permanent: false, reason },
            Event::MailSent { audience: Audience::Owner, change: Change::Firing },
        ]
    );
}

#[tokio::test]
async fn a_mail_whose_acceptance_was_lost_comes_again_under_the_same_id() {
    let server = Server::with_fault("lost-250");
    let outbox = Memory::owing(&[notice("brand-a")]);
    let mut desk = Desk::new(&outbox, Some(server.smtp()));
    desk.round(0).await;
    assert_eq!(outbox.inside(|inside| inside.sent.len()), 0, "it was not confirmed");
    desk.round(60).await;
    let messages = server.messages();
    assert_eq!(messages.len(), 2);
    assert_eq!(header(&messages[0], "Message-ID"), Some("<0a1b-1@example.com>"));
    assert_eq!(header(&messages[1], "Message-ID"), Some("<0a1b-1@example.com>"));
    assert_eq!(outbox.inside(|inside| inside.sent.clone()), [1]);
}

#[tokio::test]
async fn a_resolved_mail_stands_under_its_firing_mail() {
    let server = Server::start(&Wanted::default());
    let resolved = Notice { change: Change::Resolved, ..notice("brand-a") };
    let outbox = Memory::owing(&[notice("brand-a"), resolved]);
    let line = "[oauth-keepalive] tiktok/brand-a: permission withdrawn, please reconnect";
    outbox.inside(|inside| {
        let (key, subject) = ("0a1b-1".to_owned(), Some(line.to_owned()));
        inside.owed[1].1.threads = vec![Thread { key, subject }];
    });
    Desk::new(&outbox, Some(server.smtp())).round(0).await;
    let messages = server.messages();
    assert_eq!(messages.len(), 2);
    let first = header(&messages[0], "Message-ID");
    assert_eq!(header(&messages[0], "In-Reply-To"), None);
    assert_eq!(header(&messages[1], "In-Reply-To"), first);
    assert_eq!(header(&messages[1], "References"), first);
    assert_eq!(header(&messages[0], "Subject"), Some(line));
    assert_eq!(header(&messages[1], "Subject"), Some(format!("Re: {line}").as_str()));
}

#[tokio::test]
async fn a_recipient_that_does_not_exist_is_given_up_after_three_tries_and_holds_nobody_up() {
    let server = Server::with_fault("unknown-recipient");
    let outbox = Memory::owing(&[notice("a"), notice("b")]);
    let mut desk = Desk::new(&outbox, Some(server.smtp()));
    for round in 0..5 {
        desk.round(round * 3600).await;
    }
    assert_eq!(server.commands("RCPT"), 6, "three for each");
    assert_eq!(outbox.inside(|inside| inside.given_up.clone()), [1, 2]);
    let last = Event::MailFailed {
        permanent: true,
        reason: "RCPT TO: 550 5.1.1 (the address)".to_owned(),
    };
    assert_eq!(desk.told().iter().filter(|event| **event == last).count(), 2);
}

#[tokio::test]
async fn a_wrong_password_is_tried_once_per_pause_however_many_mails_are_owed() {
    let server = Server::start(&Wanted::default());
    std::fs::write(server.path("password"), "another-invented-one").unwrap();
    let outbox = Memory::owing(&[notice("a"), notice("b"), notice("c")]);
    let mut desk = Desk::new(&outbox, Some(server.smtp()));
    let mut waits = Vec::new();
    let mut at = 0;
    for attempts in 1..=4 {
        let wait = desk.round(at).await.unwrap();
        desk.round(at + 1).await;
        assert_eq!(server.commands("AUTH"), attempts);
        waits.push(wait);
        at += u64::try_from(wait).unwrap();
    }
    assert!(waits.windows(2).all(|pair| pair[0] < pair[1]), "{waits:?}");

    // The password is mended: with the next pause over, everything goes out.
    std::fs::write(server.path("password"), PASSWORD).unwrap();
    desk.round(at).await;
    desk.round(at + 7200).await;
    assert_eq!(server.messages().len(), 3);
}

#[tokio::test]
async fn a_mail_that_cannot_be_noted_as_sent_is_not_sent_again() {
    let server = Server::start(&Wanted::default());
    let outbox = Memory::owing(&[notice("a"), notice("b")]);
    outbox.inside(|inside| inside.refuses_sent = true);
    let mut desk = Desk::new(&outbox, Some(server.smtp()));
    for round in 0..4 {
        assert!(desk.round(round * 7200).await.unwrap() > 0);
    }
    assert_eq!(server.messages().len(), 1, "neither again, nor another one");

    outbox.inside(|inside| inside.refuses_sent = false);
    desk.round(5 * 7200).await;
    assert_eq!(server.messages().len(), 2);
    assert_eq!(outbox.inside(|inside| inside.sent.clone()), [1, 2]);
}

#[tokio::test]
async fn old_news_and_withdrawn_news_are_dropped() {
    let server = Server::with_fault("greylist");
    let withdrawn = Notice { change: Change::Withdrawn, ..notice("b") };
    let outbox = Memory::owing(&[notice("a"), withdrawn]);
    let mut desk = Desk::new(&outbox, Some(server.smtp()));
    desk.round(3 * 24 * 3600).await;
    assert_eq!(outbox.inside(|inside| inside.given_up.clone()), [1, 2]);
    assert_eq!(server.commands("RCPT"), 1, "the old one was tried, the withdrawn one was not");
}

#[tokio::test]
async fn an_attempt_that_was_noted_and_never_made_leaves_no_doubt() {
    let server = Server::start(&Wanted::default());
    let outbox = Memory::owing(&[notice("a")]);
    let mut desk = Desk::new(&outbox, Some(server.smtp()));
    outbox.inside(|inside| inside.is_unheard = true);
    desk.round(0).await;
    desk.round(3600).await;
    assert_eq!(outbox.inside(|inside| inside.begun.clone()), [1], "it insists on noting the first");
    outbox.inside(|inside| inside.is_unheard = false);
    desk.round(2 * 3600).await;
    assert_eq!(outbox.inside(|inside| inside.in_doubt.len()), 0);
    assert_eq!(outbox.inside(|inside| inside.postponed), 1);
    desk.round(3 * 3600).await;
    assert_eq!(outbox.inside(|inside| inside.sent.clone()), [1]);
    assert_eq!(server.messages().len(), 1);
}

#[tokio::test]
async fn without_a_server_mails_stay_until_one_is_configured() {
    let server = Server::start(&Wanted::default());
    let outbox = Memory::owing(&[notice("a")]);
    let desk = Desk::new(&outbox, None);
    let clock = oauth_keepalive::clock::Clock::start();
    assert!(clock.now() > NOW.minus(Duration::from_secs(366 * 24 * 3600)));
    // Due by any clock.
    outbox.inside(|inside| inside.owed[0].0 = Timestamp::MIN);
    let running =
        tokio::spawn(desk.mailer.run(clock, Arc::new(Notify::new()), desk.stop.subscribe()));
    asleep().await;
    assert_eq!(outbox.inside(|inside| inside.owed.len()), 1);

    desk.settings.send_modify(|settings| {
        Arc::make_mut(settings).smtp = Some(server.smtp());
    });
    until("the mail is sent", || outbox.inside(|inside| inside.sent == [1])).await;
    assert_eq!(server.messages().len(), 1);
    desk.stop.send_replace(true);
    tokio::time::timeout(PATIENCE, running).await.expect("it stops when told").unwrap();
}

#[tokio::test]
async fn a_mail_that_is_on_its_way_when_the_stop_arrives_is_brought_to_its_end() {
    let server = Server::with_fault("hang-data");
    let outbox = Memory::owing(&[notice("a"), notice("b")]);
    outbox.inside(|inside| inside.owed.iter_mut().for_each(|(due, _)| *due = Timestamp::MIN));
    let smtp = Smtp { deadline: Duration::from_secs(6), ..server.smtp() };
    let desk = Desk::new(&outbox, Some(smtp));
    let running = tokio::spawn(desk.mailer.run(
        oauth_keepalive::clock::Clock::start(),
        Arc::new(Notify::new()),
        desk.stop.subscribe(),
    ));
    until("the recipient is named", || server.commands("RCPT") == 1).await;
    desk.stop.send_replace(true);
    tokio::time::timeout(PATIENCE, running).await.expect("it stops when told").unwrap();
    assert_eq!(outbox.inside(|inside| inside.postponed), 1, "its failure was noted");
    assert_eq!(
        outbox.inside(|inside| inside.in_doubt.clone()),
        [1],
        "nobody knows whether it arrived"
    );
    assert_eq!(server.commands("RCPT"), 1, "no other was begun");
}

#[tokio::test]
async fn something_newly_owed_wakes_the_mailer() {
    let server = Server::start(&Wanted::default());
    let outbox = Memory::default();
    let desk = Desk::new(&outbox, Some(server.smtp()));
    let wake = Arc::new(Notify::new());
    let running = tokio::spawn(desk.mailer.run(
        oauth_keepalive::clock::Clock::start(),
        Arc::clone(&wake),
        desk.stop.subscribe(),
    ));
    asleep().await;
    let (_, owed) = Memory::owing(&[notice("a")]).inside(|inside| inside.owed.remove(0));
    outbox.inside(|inside| inside.owed.push((Timestamp::MIN, owed)));
    wake.notify_one();
    until("the mail is sent", || outbox.inside(|inside| inside.sent == [1])).await;
    desk.stop.send_replace(true);
    tokio::time::timeout(PATIENCE, running).await.expect("it stops when told").unwrap();
}

#[tokio::test]
async fn a_webhook_that_is_away_is_asked_again_with_the_same_key_and_one_that_refuses_is_not_for_ever()
 {
    let outbox = Memory::owing(&[notice("a")]);
    outbox.inside(|inside| inside.owed[0].1.to = secret("chat"));
    let desk = Desk::new(&outbox, None);
    desk.settings.send_modify(|settings| {
        Arc::make_mut(settings).webhooks = vec![Webhook {
            name: "chat".to_owned(),
            url: Url::Plain("https://hooks.example.com/x".to_owned()),
            format: WebhookFormat::Slack,
            secret: None,
            audience: Audience::Owner,
            accounts: "*".to_owned(),
        }];
    });
    let answers = Arc::new(Mutex::new(vec![Err(Uncarried::NotSent), Ok(503), Ok(200)]));
    let keys: Arc<Mutex<Vec<String>>> = Arc::default();
    let (said, seen) = (Arc::clone(&answers), Arc::clone(&keys));
    let mut poster = desk.mailer.of_webhooks(Arc::new(move |post: Post| {
        let key = post.headers.iter().find(|(name, _)| name == "idempotency-key").unwrap();
        seen.lock().unwrap().push(key.1.expose().to_owned());
        assert!(post.body.starts_with("{\"text\":\"*Please reconnect"), "{}", post.body);
        let answer = said.lock().unwrap().remove(0);
        Box::pin(std::future::ready(answer))
    }));
    for round in 0..4 {
        let now = NOW.plus(Duration::from_secs(round * 600));
        poster.round(now, &desk.stop.subscribe()).await;
    }
    assert_eq!(outbox.inside(|inside| inside.sent.clone()), [1]);
    assert_eq!(*keys.lock().unwrap(), ["0a1b-1", "0a1b-1", "0a1b-1"]);

    let outbox = Memory::owing(&[notice("a")]);
    outbox.inside(|inside| inside.owed[0].1.to = secret("gone"));
    let settings = desk.settings.subscribe();
    let mailer = Mailer::new(outbox.clone(), settings, BTreeMap::new(), Box::new(drop));
    let carrier = Arc::new(|_: Post| -> Pin<Box<dyn Future<Output = _> + Send>> {
        Box::pin(std::future::ready(Ok(200)))
    });
    let mut poster = mailer.of_webhooks(carrier);
    for round in 0..4 {
        let now = NOW.plus(Duration::from_secs(round * 7_200));
        poster.round(now, &desk.stop.subscribe()).await;
    }
    assert_eq!(outbox.inside(|inside| inside.given_up.clone()), [1], "nobody is called that");
}
