use super::*;
use crate::core::{
    AccountId, AppView, Evidence, Fingerprint, History, Table, TokenFacts,
    history::{Failure, Moved, Source, Writer, Writing},
};

const NOON: Timestamp = Timestamp::from_unix(1_800_000_000);

fn after(seconds: i64) -> Timestamp {
    Timestamp::from_unix(NOON.as_unix() + seconds)
}

fn account(name: &str, left: i64, cause: Option<Cause>) -> Account {
    let mut account = Account::new(AccountId::new("tiktok", name), "main".into());
    account.token = Some(TokenFacts {
        token: Fingerprint::from_hash(1),
        renewable_by: Some(Fingerprint::from_hash(2)),
        issued_at: after(left - 7200),
        expires_at: Some(after(left)),
        refresh_expires_at: None,
        missing_scopes: 0,
    });
    account.due_at = Some(after(left - 2400));
    account.cause = cause;
    account.cause_since = cause.map(|_| after(-300));
    account
}

fn snapshot(accounts: impl IntoIterator<Item = Account>) -> Snapshot {
    let mut table = Table::default();
    accounts.into_iter().for_each(|account| table.put(account));
    Snapshot { loaded: true, accounts: table, ..Snapshot::empty(NOON) }
}

fn html(snapshot: &Snapshot, query: &str) -> String {
    let config = ConfigState { at: NOON, errors: Vec::new() };
    render(snapshot, None, &config, &Filter::read(query), NOON).unwrap()
}

/// The names of the accounts shown, in order.
fn shown(html: &str) -> Vec<&str> {
    html.split(r#"role="rowheader"><bdi>"#)
        .skip(1)
        .map(|rest| rest.split_once("</bdi>").unwrap().0)
        .collect()
}

#[test]
fn the_worst_account_is_first_and_the_shortest_life_before_the_longer() {
    let snapshot = snapshot([
        account("a-fine", 7000, None),
        account("b-short", 600, None),
        account("c-busy", 3000, Some(Cause::RateLimited)),
        account("d-gone", 3000, Some(Cause::ConsentRevoked)),
        account("e-gone-earlier", 0, Some(Cause::ConsentRevoked)),
        account("f-unsaved", 7000, Some(Cause::UnsavedToken)),
    ]);
    assert_eq!(
        shown(&html(&snapshot, "")),
        ["f-unsaved", "e-gone-earlier", "d-gone", "c-busy", "b-short", "a-fine"]
    );
    assert_eq!(shown(&html(&snapshot, "cause=consent_revoked")), ["e-gone-earlier", "d-gone"]);
    assert_eq!(shown(&html(&snapshot, "q=FINE")), ["a-fine"]);
}

#[test]
fn pages_show_each_account_once_and_in_order() {
    let names: Vec<String> = (0..1010).map(|number| format!("acc-{number:04}")).collect();
    // Least life last, so that the page's order is the table's order turned round.
    let lives = (0..1010).map(|number| 6_050 - i64::from(number) * 5);
    let snapshot = snapshot(names.iter().zip(lives).map(|(name, left)| account(name, left, None)));
    let mut seen = Vec::new();
    for page in 1..=6 {
        let html = html(&snapshot, &format!("page={page}"));
        seen.extend(shown(&html).into_iter().map(str::to_owned));
    }
    let turned_round: Vec<String> = names.iter().rev().cloned().collect();
    assert_eq!(seen, turned_round);
    assert_eq!(shown(&html(&snapshot, "page=999")).len(), 10, "a page too far is the last one");
}

#[test]
fn nothing_that_an_account_is_called_becomes_markup() {
    let hostile = r#""><script>alert(1)</script><img src=x onerror='a'>&"#;
    let mut row = account(hostile, 100, Some(Cause::ScopeMissing));
    row.app = "<b>main</b>".into();
    row.last_failure = Some(Arc::new(Evidence {
        code: Some("<i>code</i>".into()),
        log_id: Some("</td>".into()),
        ..Evidence::of(Cause::ScopeMissing, NOON)
    }));
    row.token.as_mut().unwrap().missing_scopes = 1;
    let mut snapshot = snapshot([row]);
    snapshot.apps.push(AppView {
        name: "<b>main</b>".into(),
        provider: "tiktok".into(),
        scopes: ["<u>scope</u>".into()].into(),
        is_sandbox: false,
        frozen: Some((Cause::AppCredentialsRejected, NOON)),
        ..AppView::default()
    });
    let html = html(&snapshot, "q=%22%3E%3Cscript%3E");
    for markup in ["<script", "<img", "<b>", "<i>", "<u>", "&\"", "log id <code></td>"] {
        assert!(!html.contains(markup), "{markup}");
    }
    assert!(html.contains("&lt;script&gt;alert(1)"), "the name itself is shown");
    assert!(
        html.contains(r#"value="&quot;&gt;&lt;script&gt;""#),
        "the search field shows the search"
    );
}

/// An account that was refused, with as much in its history as it can hold.
fn diagnosed(name: &str) -> Account {
    let mut account = account(name, 100, Some(Cause::RefreshTokenRejected));
    account.last_refresh_at = Some(after(-9_000));
    account.first_seen_at = Some(after(-900_000));
    let mut history = History::default();
    for nth in 0..20 {
        let mut evidence = Evidence::of(Cause::RefreshTokenRejected, after(-300));
        evidence.code = Some(format!("<i>code</i>{nth}").into());
        evidence.log_id = Some("</li>".repeat(10).into());
        history.note_failure(
            Failure {
                evidence: Arc::new(evidence),
                first_at: after(-400),
                times: 3,
                source: Source::Refresh,
                token_age: Some(Duration::from_secs(60)),
                clock_ahead: Some(4),
            },
            None,
        );
        history.note_scopes(after(nth), vec![format!("<u>scope</u>{nth}").into()]);
        history.note_writing(Writing { at: after(-200), by: Writer::Publisher });
    }
    history.moved = Some(Moved { at: after(-1), from: "<b>other</b>".into() });
    account.history = Some(Arc::new(history));
    account
}

#[test]
fn an_account_that_is_not_well_says_why_what_it_is_not_and_who_acts() {
    let mut well = account("b", 7_000, None);
    well.last_refresh_at = Some(after(-1));
    let html = html(&snapshot([diagnosed("a"), well]), "");
    let row = html.split("role=\"rowheader\"").nth(1).unwrap();
    for expected in [
        "Why: likely; or consent revoked",
        "the provider answered, code",
        "The token was 1 min old when it failed.",
        "Somebody else wrote the token last",
        "Ruled out",
        "app credentials rejected: Another account of the same app was refreshed.",
        "<dt>Is it still connected?</dt><dd>no</dd>",
        "<strong>Operator: </strong>Switch off the publishing tool",
    ] {
        assert!(row.contains(expected), "{expected}: {row}");
    }
    let healthy = html.split("role=\"rowheader\"").nth(2).unwrap();
    assert!(!healthy.contains("<details"), "{healthy}");
    for markup in ["<i>", "<u>", "<b>", "</li></li></li>"] {
        assert!(!html.contains(markup), "{markup}");
    }
}

#[test]
fn who_looks_for_one_account_sees_its_reasons_at_once() {
    let snapshot = snapshot([diagnosed("a"), diagnosed("b")]);
    assert!(html(&snapshot, "q=a").contains("<details open>"));
    assert!(!html(&snapshot, "").contains("<details open>"));
}

#[test]
fn a_page_of_accounts_that_are_as_unwell_as_can_be_stays_bounded() {
    let snapshot = snapshot((0..400).map(|number| diagnosed(&format!("acc-{number:03}"))));
    let bytes = html(&snapshot, "").len();
    assert!(bytes < 200 * 8 * 1_024, "{bytes} bytes");
}

#[test]
fn what_is_wrong_with_the_file_is_on_the_page() {
    let config = ConfigState { at: NOON, errors: vec!["config.yaml:7: unknown key `aps`".into()] };
    let html = render(&snapshot([]), None, &config, &Filter::default(), NOON).unwrap();
    assert!(html.contains("config.yaml:7: unknown key `aps`"));
}

#[test]
fn an_empty_fleet_an_unread_store_and_a_filter_without_matches_say_so() {
    let cases = [
        (snapshot([]), "", "holds no account yet"),
        (Snapshot::empty(NOON), "", "has not been read yet"),
        (snapshot([account("a", 1, None)]), "q=zzz", "No account matches"),
    ];
    for (snapshot, query, expected) in cases {
        assert!(html(&snapshot, query).contains(expected), "{expected}");
    }
}

#[test]
fn durations_are_said_in_their_two_largest_units() {
    let cases = [
        (0, "0 s"),
        (59, "59 s"),
        (60, "1 min"),
        (61, "1 min 1 s"),
        (3600, "1 h"),
        (86_399, "23 h 59 min"),
        (86_400 * 60 + 7200, "60 d 2 h"),
        (86_400 + 59, "1 d"),
    ];
    for (seconds, expected) in cases {
        assert_eq!(span(seconds), expected);
    }
    assert_eq!(thousands(1_234_567), "1,234,567");
    assert_eq!(thousands(999), "999");
}

#[test]
fn no_renewal_is_announced_where_none_can_help() {
    let mut account = account("a", 3600, Some(Cause::RefreshTokenExpired));
    account.token.as_mut().unwrap().refresh_expires_at = Some(after(-120));
    let html = html(&snapshot([account]), "");
    for announced in ["renewal <time", "renewal is due at"] {
        assert!(!html.contains(announced), "{html}");
    }
    assert!(html.contains("connection ended <time"), "{html}");
}

#[test]
fn where_replicas_share_the_accounts_it_says_how_much_is_held_here() {
    let config = ConfigState { at: NOON, errors: Vec::new() };
    let page = |all: Option<&Totals>| {
        let holding = (0..128).collect();
        let here = Snapshot { holding, ..snapshot([]) };
        render(&here, all, &config, &Filter::default(), NOON).unwrap()
    };
    let totals = Totals { replicas: 2, accounts: 1_234, ..Totals::default() };
    let shared = page(Some(&totals));
    assert!(shared.contains("<strong>128 of 256</strong><span>shares held</span>"), "{shared}");
    assert!(shared.contains("2 replicas, 1,234 accounts in all"), "{shared}");
    assert!(!page(None).contains("shares held"), "one that is alone has nothing to share");
}
