//! The whole of `/metrics` for one fixed fleet, in both formats, against files that a person has read.
//!
//! Set `REWRITE_GOLDEN=1` to write the files anew; `tests/check_exposition.py` and
//! `promtool check metrics` read them with other people's parsers.
#![expect(clippy::unwrap_used, reason = "a test that cannot go on stops where it stands")]

use bytes::{Buf as _, Bytes};
use flate2::read::GzDecoder;
use http_body_util::BodyExt as _;
use oauth_keepalive::{
    core::{
        Account, AccountId, AppView, Cause, Event, Evidence, Fingerprint, Gate, Posts, PostsAtRisk,
        Revoker, Shares, Snapshot, Table, Timestamp, TokenFacts,
        notices::{Audience, Change, Notice, Subject},
        second_clock::{End, Moves, Provenance},
    },
    metrics::{
        Encoding, Format, Metrics, Readings, Scrape,
        events::{MessageResult, Rejection},
        exposition::ScrapeBody,
        observed::SourceKind,
        process::Usage,
    },
};
use std::{fs, io::Read as _, path::Path, sync::Arc, time::Duration};

const NOON: Timestamp = Timestamp::from_unix(1_800_000_000);

fn at(seconds: i64) -> Timestamp {
    Timestamp::from_unix(NOON.as_unix() + seconds)
}

fn token(age: i64, ends_in: Option<i64>) -> TokenFacts {
    TokenFacts {
        token: Fingerprint::from_hash(1),
        renewable_by: Some(Fingerprint::from_hash(2)),
        issued_at: at(-age),
        expires_at: ends_in.map(at),
        refresh_expires_at: None,
        missing_scopes: 0,
    }
}

fn account(provider: &str, name: &str) -> Account {
    Account::new(AccountId::new(provider, name), format!("{provider}-main").into())
}

/// One account of each kind: healthy, broken, ended, endless, without a token, with a hostile name.
fn fleet() -> Table {
    let mut healthy = account("tiktok", "acme");
    healthy.token = Some(TokenFacts {
        refresh_expires_at: Some(at(15_552_000)),
        ..token(21_600, Some(64_800))
    });
    healthy.due_at = Some(at(36_000));
    healthy.refresh_end =
        Some(End { at: at(15_552_000), from: Provenance::Learnt, moves: Moves::Absolute });
    healthy.differs.access = -3_600;
    healthy.last_refresh_at = Some(at(-21_600));
    healthy.refresh_attempts = 7;
    healthy.responses.count(200, 120);

    let mut revoked = account("tiktok", "bakery");
    revoked.token = Some(TokenFacts { missing_scopes: 0b101, ..token(90_000, Some(-3_600)) });
    revoked.cause = Some(Cause::ConsentRevoked);
    revoked.cause_since = Some(at(-3_600));
    revoked.refresh_attempts = 3;
    let mut failures = [0; Cause::ALL.len()];
    failures[Cause::ProviderOutage.index()] = 1;
    failures[Cause::ConsentRevoked.index()] = 2;
    revoked.refresh_failures = Some(Arc::new(failures));
    revoked.last_failure = Some(Arc::new(Evidence::of(Cause::ConsentRevoked, at(-60))));
    revoked.responses.count(401, 17);
    revoked.responses.count(503, 1);

    let mut endless = account("x", "endless");
    endless.token = Some(token(600, None));

    let hostile = account("x", "a\"} 1\noauth_keepalive_store_up 0\n# 🎬\\");
    let mut table = Table::default();
    for account in [healthy, revoked, endless, account("x", "no-token"), hostile] {
        table.put(account);
    }
    table
}

fn snapshot() -> Snapshot {
    let app = |provider: &str, frozen| AppView {
        name: format!("{provider}-main").into(),
        provider: provider.into(),
        scopes: ["video.publish".into()].into(),
        is_sandbox: false,
        frozen,
        secret: (provider != "google").then_some(1),
        ..AppView::default()
    };
    Snapshot {
        at: at(-2),
        began_at: at(-86_400),
        loaded: true,
        holding: Shares::ALL,
        holding_until: None,
        busy: Shares::NONE,
        accounts: fleet(),
        apps: vec![
            app("google", None),
            app("tiktok", None),
            app("x", Some((Cause::AppCredentialsRejected, at(-60)))),
        ],
        store_up: true,
        state_up: true,
        store_read_at: Some(at(-30)),
        in_flight: 1,
        sharing: 2,
        unsaved: 0,
        clock_offsets: vec![("tiktok".into(), -1)],
    }
}

fn metrics() -> Metrics {
    let metrics = Metrics::new(["google", "tiktok", "x"], at(-86_400));
    let id = AccountId::new("tiktok", "acme");
    let notice = Notice {
        subject: Subject::Account(id.clone()),
        cause: Cause::ConsentRevoked,
        change: Change::Firing,
        audience: Audience::Owner,
        since: at(-3_600),
        at: at(-3_600),
        expires_at: None,
        evidence: None,
        step: None,
        missing_scopes: Vec::new(),
        accounts: 1,
        posts_at_risk: None,
        gate: Gate::Open,
    };
    let events = [
        Event::StoreRead { accounts: 5, gone: 0, damaged: 2 },
        Event::RequestEnded {
            id: id.clone(),
            outcome: "committed",
            took: Duration::from_millis(250),
        },
        Event::RequestEnded { id: id.clone(), outcome: "dead", took: Duration::from_secs(2) },
        Event::Adopted { id: id.clone() },
        Event::Probed { id: id.clone(), result: "alive" },
        Event::Announced { id: id.clone(), by: Revoker::User, result: "revoked" },
        Event::Announced { id: id.clone(), by: Revoker::User, result: "overtaken" },
        Event::ResponsesReported { id, status: 401, times: 17 },
        Event::NoticeOwed { notice: Arc::new(notice) },
        Event::MailSent { audience: Audience::Owner, change: Change::Firing },
        Event::MailFailed { permanent: false, reason: "refused".into() },
        Event::MailFailed { permanent: true, reason: "no such user".into() },
        Event::Reloaded { successful: true, at: at(-600), reason: None },
        Event::Reloaded { successful: false, at: at(-60), reason: Some("line 3".into()) },
    ];
    for event in &events {
        metrics.record(event);
    }
    metrics.report_rejected(Rejection::Unauthorized);
    metrics.expect_webhooks("tiktok");
    metrics.webhook("tiktok", MessageResult::Taken);
    metrics.expect_reconnects();
    metrics.expect_actions();
    metrics.reconnect("connected");
    metrics.expect_log("publisher.log");
    metrics.lines_observed("publisher.log", &[40, 2, 0, 1, 0, 0, 0, 0]);
    metrics.expect_query();
    metrics.rows_observed(&[3, 0, 0]);
    metrics.observing(SourceKind::Log, "publisher.log", true);
    metrics
}

/// Of an account that works, of one that does not, and of one that nobody knows.
fn posts() -> PostsAtRisk {
    let some = Posts { held: 2, at_risk: 3 };
    let names = [("tiktok", "acme"), ("tiktok", "bakery"), ("google", "nobody")];
    names.map(|(provider, account)| (AccountId::new(provider, account), some)).into_iter().collect()
}

fn scrape(snapshot: Snapshot, format: Format, per_account: bool) -> Scrape {
    let readings = Readings {
        now: NOON,
        journal_entries: 1,
        connected_unsaved: 0,
        spilled_tokens: 0,
        outbox_length: 2,
        outbox_held: 4,
        clock_unconfirmed_step: 0,
        all_replicas: None,
        posts: Some(Arc::new(posts())),
        posts_held: Some(Arc::new(vec![(AccountId::new("x", "endless"), 4)])),
        process: Some(Usage {
            cpu_seconds: 1.25,
            open_fds: 12,
            max_fds: Some(1024),
            resident_bytes: 9_000_000,
            virtual_bytes: 90_000_000,
            started_at: 1_799_900_000.25,
        }),
    };
    Scrape::new(Arc::new(snapshot), metrics(), readings, format, per_account)
}

fn written(snapshot: Snapshot, format: Format) -> String {
    String::from_utf8(scrape(snapshot, format, true).write_all()).unwrap()
}

#[test]
fn both_formats_are_as_they_were_read_by_a_person() {
    for (name, format) in
        [("metrics.txt", Format::Classic), ("metrics.openmetrics", Format::OpenMetrics)]
    {
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden").join(name);
        let text = written(snapshot(), format);
        if std::env::var_os("REWRITE_GOLDEN").is_some() {
            fs::write(&path, &text).unwrap();
        }
        let golden = fs::read_to_string(&path).unwrap();
        for (number, (line, expected)) in text.lines().zip(golden.lines()).enumerate() {
            assert_eq!(line, expected, "{name} line {}", number + 1);
        }
        assert_eq!(text.lines().count(), golden.lines().count(), "{name}: lines");
    }
}

#[test]
fn series_stand_in_the_same_order_at_each_scrape() {
    assert_eq!(
        written(snapshot(), Format::Classic),
        written(snapshot(), Format::Classic),
        "each call makes its registry anew, with its own hash seeds"
    );
}

#[test]
fn an_account_that_is_gone_is_gone_from_the_next_scrape() {
    let mut after = snapshot();
    after.accounts.remove(&AccountId::new("tiktok", "bakery"));
    assert!(written(snapshot(), Format::Classic).contains("bakery"));
    assert!(!written(after, Format::Classic).contains("bakery"));
}

#[test]
fn without_series_per_account_the_fleet_is_still_counted() {
    let whole = written(snapshot(), Format::Classic);
    let text = String::from_utf8(scrape(snapshot(), Format::Classic, false).write_all()).unwrap();
    assert!(!text.contains("account=\""), "{text}");
    let counts = |text: &str| -> Vec<String> {
        let starts = ["oauth_keepalive_accounts{", "oauth_keepalive_token_remaining_life_ratio"];
        text.lines()
            .filter(|line| starts.iter().any(|start| line.starts_with(start)))
            .map(str::to_owned)
            .collect()
    };
    assert_eq!(counts(&text), counts(&whole));
    assert!(!counts(&text).is_empty());
}

#[test]
fn no_line_of_help_or_value_is_one_that_parsers_disagree_on() {
    for format in [Format::Classic, Format::OpenMetrics] {
        let text = written(snapshot(), format);
        for line in text.lines() {
            assert!(!line.contains("NaN") && !line.contains(" inf"), "{line}");
            if line.starts_with("# HELP") {
                assert!(!line.contains('\\'), "{line}");
            }
        }
        let types: Vec<&str> = text.lines().filter(|line| line.starts_with("# TYPE")).collect();
        let mut names: Vec<&str> =
            types.iter().map(|line| line.split(' ').nth(2).unwrap()).collect();
        names.sort_unstable();
        let before = names.len();
        names.dedup();
        assert_eq!(names.len(), before, "a family was written twice");
        assert_eq!(text.ends_with("# EOF\n"), format == Format::OpenMetrics);
    }
}

async fn body(accounts: usize, encoding: Encoding, per_account: bool) -> (Vec<Bytes>, usize) {
    let mut large = snapshot();
    for number in 0..accounts {
        let mut account = account("tiktok", &format!("account-{number:06}"));
        account.token = Some(token(100, Some(1_000)));
        large.accounts.put(account);
    }
    let scrape = scrape(large, Format::OpenMetrics, per_account);
    let mut body = ScrapeBody::new(scrape, encoding);
    let mut pieces = Vec::new();
    while let Some(frame) = body.frame().await {
        pieces.push(frame.unwrap().into_data().unwrap());
    }
    let largest = pieces.iter().map(Bytes::len).max().unwrap();
    (pieces, largest)
}

#[tokio::test]
async fn a_large_fleet_is_written_in_pieces_and_unpacks_to_the_same_text() {
    let (plain, largest) = body(5_000, Encoding::Identity, true).await;
    assert!(plain.len() > 10, "{} pieces", plain.len());
    assert!(largest < 256 * 1024, "a piece of {largest} bytes");
    let (packed, _) = body(5_000, Encoding::Gzip, true).await;
    let packed = packed.concat();
    let mut unpacked = Vec::new();
    GzDecoder::new(packed.reader()).read_to_end(&mut unpacked).unwrap();
    assert_eq!(unpacked, plain.concat());
    assert!(packed.len() * 5 < unpacked.len(), "{} of {}", packed.len(), unpacked.len());
}

#[tokio::test]
async fn pieces_in_which_nothing_is_written_do_not_end_the_body() {
    let (plain, _) = body(40_000, Encoding::Identity, false).await;
    let text = String::from_utf8(plain.concat()).unwrap();
    assert!(text.contains(r#"accounts{provider="tiktok",cause="none"} 40001"#));
    assert!(text.ends_with("# EOF\n"));
}
