use super::*;
use crate::{
    core::{
        AppView, Cause, Door, Event, Evidence, Fingerprint, Gate, History, Recent, Snapshot, Table,
        Timestamp, TokenFacts, Why,
        history::{Failure, Moved, Source, Writer, Writing},
    },
    metrics::{Readings, fleet::Totals},
    server::ConfigState,
};
use http_body_util::BodyExt as _;
use std::{sync::Arc, time::Duration};

const NOON: Timestamp = Timestamp::from_unix(1_800_000_000);

fn after(seconds: i64) -> Timestamp {
    Timestamp::from_unix(NOON.as_unix() + seconds)
}

/// An account whose access token of two hours ends after so many seconds.
pub(super) fn account(name: &str, left: i64, cause: Option<Cause>) -> Account {
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

fn with_unauthorized(mut account: Account, times: u32) -> Account {
    let event = Event::ResponsesReported { id: account.id.clone(), status: 401, times };
    let mut recent = Recent::default();
    recent.note(NOON, &event, None, 1);
    account.recent = Some(Arc::new(recent));
    account
}

fn app(name: &str) -> AppView {
    AppView { name: name.into(), provider: "tiktok".into(), ..AppView::default() }
}

fn snapshot(accounts: impl IntoIterator<Item = Account>) -> Snapshot {
    let mut table = Table::default();
    accounts.into_iter().for_each(|account| table.put(account));
    Snapshot { loaded: true, accounts: table, apps: vec![app("main")], ..Snapshot::empty(NOON) }
}

fn readings() -> Readings {
    Readings {
        now: NOON,
        journal_entries: 0,
        spilled_tokens: 0,
        outbox_length: 0,
        outbox_held: 0,
        connected_unsaved: 0,
        clock_unconfirmed_step: 0,
        all_replicas: None,
        posts: None,
        posts_held: None,
        process: None,
    }
}

struct Got {
    status: StatusCode,
    refresh: Option<String>,
    body: String,
}

impl Got {
    fn json(&self) -> serde_json::Value {
        serde_json::from_str(&self.body).unwrap()
    }
}

fn get_with(snapshot: &Snapshot, readings: &Readings, errors: &[&str], address: &str) -> Got {
    let config =
        ConfigState { at: NOON, errors: errors.iter().map(|one| (*one).to_owned()).collect() };
    let scene = Scene { snapshot, readings, config: &config, now: NOON };
    let (path, query) = address.split_once('?').unwrap_or((address, ""));
    let route = Route::of(path).unwrap_or_else(|| panic!("{path} is none of the pages"));
    let again = again(&address.parse().unwrap());
    let answer = respond(&scene, &route, &Query::read(query), &again, |_| String::new()).unwrap();
    let status = answer.status();
    let refresh = answer.headers().get(REFRESH).map(|value| value.to_str().unwrap().to_owned());
    let body = futures_util::FutureExt::now_or_never(answer.into_body().collect());
    let body = body.expect("a whole body is there at once").unwrap().to_bytes();
    // The template engine encodes slashes too; a browser reads both alike.
    let body = String::from_utf8(body.to_vec()).unwrap().replace("&#x2f;", "/");
    Got { status, refresh, body }
}

fn get(snapshot: &Snapshot, address: &str) -> Got {
    get_with(snapshot, &readings(), &[], address)
}

fn html(snapshot: &Snapshot, query: &str) -> String {
    get(snapshot, &format!("/?{query}")).body
}

/// The names of the accounts shown, in order.
fn shown(html: &str) -> Vec<&str> {
    let cells = html.split(r#"role="rowheader">"#).skip(1);
    cells.map(|rest| rest.split_once("<bdi>").unwrap().1.split_once("</bdi>").unwrap().0).collect()
}

#[test]
fn the_worst_account_is_first_and_the_shortest_life_before_the_longer() {
    let mut held = account("b-held", 7_100, None);
    held.door = Door { gate: Gate::Held, why: Some(Why::Person), ..Door::default() };
    let snapshot = snapshot([
        account("a-fine", 7000, None),
        held,
        account("b-short", 600, None),
        account("c-busy", 3000, Some(Cause::RateLimited)),
        account("d-gone", 3000, Some(Cause::ConsentRevoked)),
        account("e-gone-earlier", 0, Some(Cause::ConsentRevoked)),
        account("f-unsaved", 7000, Some(Cause::UnsavedToken)),
    ]);
    assert_eq!(
        shown(&html(&snapshot, "")),
        ["f-unsaved", "e-gone-earlier", "d-gone", "c-busy", "b-held", "b-short", "a-fine"]
    );
    assert_eq!(shown(&html(&snapshot, "cause=consent_revoked")), ["e-gone-earlier", "d-gone"]);
    assert_eq!(shown(&html(&snapshot, "gate=held")), ["b-held"]);
    assert_eq!(shown(&html(&snapshot, "q=FINE")), ["a-fine"]);
}

#[test]
fn each_order_is_what_it_is_called() {
    let mut a = with_unauthorized(account("a", 3_000, Some(Cause::RateLimited)), 2);
    a.last_refresh_at = Some(after(-50));
    let mut b = with_unauthorized(account("b", 1_000, None), 9);
    b.last_refresh_at = Some(after(-500));
    b.due_at = Some(after(900));
    let mut c = account("c", 2_000, None);
    c.due_at = None;
    let snapshot = snapshot([a, b, c]);
    let rows = [
        ("", ["a", "b", "c"]),
        ("sort=name", ["a", "b", "c"]),
        ("sort=ends", ["b", "c", "a"]),
        ("sort=due", ["a", "b", "c"]),
        ("sort=renewed", ["c", "b", "a"]),
        ("sort=401s", ["b", "a", "c"]),
    ];
    for (query, names) in rows {
        assert_eq!(shown(&html(&snapshot, query)), names, "{query}");
        let json = get(&snapshot, &format!("/accounts.json?{query}")).json();
        let listed: Vec<&str> = json["accounts"]
            .as_array()
            .unwrap()
            .iter()
            .map(|one| one["account"].as_str().unwrap())
            .collect();
        assert_eq!(listed, names, "{query}");
    }
}

#[test]
fn pages_show_each_account_once_and_in_order() {
    let names: Vec<String> = (0..510).map(|number| format!("acc-{number:04}")).collect();
    // Least life last, so that the page's order is the table's order turned round.
    let lives = (0..510).map(|number| 6_050 - i64::from(number) * 5);
    let snapshot = snapshot(names.iter().zip(lives).map(|(name, left)| account(name, left, None)));
    let mut seen = Vec::new();
    for page in 1..=6 {
        let html = html(&snapshot, &format!("page={page}"));
        seen.extend(shown(&html).into_iter().map(str::to_owned));
    }
    let turned_round: Vec<String> = names.iter().rev().cloned().collect();
    assert_eq!(seen, turned_round);
    assert_eq!(shown(&html(&snapshot, "page=999")).len(), 10, "a page too far is the last one");
    let mut next = Some("/accounts.json".to_owned());
    let mut listed = 0;
    while let Some(path) = next {
        let json = get(&snapshot, &path).json();
        listed += json["accounts"].as_array().unwrap().len();
        next = json["next"].as_str().map(str::to_owned);
    }
    assert_eq!(listed, 510, "whoever follows `next` sees all");
}

#[test]
fn nothing_that_an_account_is_called_becomes_markup() {
    let hostile = r#""><script>alert(1)</script><img src=x onerror='a'>&"#;
    let mut row = diagnosed(hostile);
    row.app = "<b>main</b>".into();
    row.token.as_mut().unwrap().missing_scopes = 1;
    let id = row.id.clone();
    let mut snapshot = snapshot([row]);
    snapshot.apps.push(AppView {
        scopes: ["<u>scope</u>".into()].into(),
        frozen: Some((Cause::AppCredentialsRejected, NOON)),
        ..app("<b>main</b>")
    });
    let app = words::app_path("<b>main</b>");
    let pages = ["/?q=%22%3E%3Cscript%3E", &account_path(&id), &app, "/providers/tiktok"];
    for address in pages {
        let got = get(&snapshot, address);
        assert_eq!(got.status, StatusCode::OK, "{address}");
        for markup in ["<script", "<img", "<b>main", "<i>", "<u>", "&\"", "</li></li></li>"] {
            assert!(!got.body.contains(markup), "{address}: {markup}");
        }
        assert!(
            got.body.contains("&lt;script&gt;alert(1)") || address == app,
            "{address}: the name itself is shown"
        );
    }
    let list = get(&snapshot, pages[0]).body;
    assert!(
        list.contains(r#"value="&quot;&gt;&lt;script&gt;""#),
        "the search field shows the search"
    );
    let missing = get(&snapshot, "/accounts/tiktok/%3Cscript%3E");
    assert_eq!(missing.status, StatusCode::NOT_FOUND);
    assert!(missing.body.contains("No account tiktok/&lt;script&gt;"), "{}", missing.body);
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
    let snapshot = snapshot([diagnosed("a"), well]);
    let page = get(&snapshot, "/accounts/tiktok/a").body;
    for expected in [
        "This is <strong>likely</strong>; or consent revoked",
        "the provider answered, code",
        "The token was 1 min old when it failed.",
        "Somebody else wrote the token last",
        "Ruled out",
        "app credentials rejected: Another account of the same app was refreshed.",
        "<dt>Is it still connected?</dt><dd>no</dd>",
        "<strong>You: </strong>Switch off the publishing tool",
        "3 times since 2027-01-15 07:53:20 UTC",
        "Came from app &lt;b&gt;other",
        "First seen in the token store",
    ] {
        assert!(page.contains(expected), "{expected}: {page}");
    }
    let list = html(&snapshot, "");
    assert!(list.contains("<strong>You: </strong>Switch off"), "{list}");
    let healthy = get(&snapshot, "/accounts/tiktok/b").body;
    assert!(healthy.contains("Healthy") && !healthy.contains("Why we think so"), "{healthy}");
}

#[test]
fn the_verdict_says_whether_all_is_well_and_for_whom_there_is_something_to_do() {
    let revoked = || account("a", 100, Some(Cause::ConsentRevoked));
    let fine = || account("b", 7_000, None);
    let busy = || account("c", 7_000, Some(Cause::RateLimited));
    let down = Snapshot { state_up: false, ..snapshot([fine()]) };
    let rows = [
        (Snapshot::empty(NOON), "The token store has not been read yet."),
        (snapshot([]), "The token store holds no account yet."),
        (snapshot([fine()]), "The one account is well. Nothing to do."),
        (snapshot([fine(), account("d", 60, None)]), "All 2 accounts are well. Nothing to do."),
        (snapshot([revoked(), fine()]), "1 of 2 accounts needs somebody."),
        (
            snapshot([busy(), fine()]),
            "Nothing to do: 1 of 2 accounts has trouble that mends itself.",
        ),
        (down, "No account needs somebody, but the sidecar does."),
    ];
    for (snapshot, verdict) in rows {
        let html = html(&snapshot, "");
        assert!(html.contains(&format!(r#"<h1 id="verdict">{verdict}</h1>"#)), "{verdict}: {html}");
        assert_eq!(get(&snapshot, "/accounts.json").json()["verdict"], verdict);
    }
}

#[test]
fn what_is_to_be_done_leads_to_the_accounts_and_apps_it_is_about() {
    let mut snapshot = snapshot([
        account("a", 100, Some(Cause::ConsentRevoked)),
        account("b", 100, Some(Cause::AppCredentialsRejected)),
        account("c", 100, Some(Cause::ConsentRevoked)),
        account("d", 100, Some(Cause::ScopeMissing)),
    ]);
    snapshot.apps =
        vec![AppView { frozen: Some((Cause::AppCredentialsRejected, after(-60))), ..app("main") }];
    let html = html(&snapshot, "refresh=0");
    let todos = html.split(r#"<ol class="todos">"#).nth(1).unwrap().split("</ol>").next().unwrap();
    let app = todos
        .find(r#"<a href="./apps/main">App main (tiktok) is frozen: app credentials rejected</a>"#);
    let account = todos.find(
        r#"<a href="./?cause=consent_revoked&amp;refresh=0">2 accounts: consent revoked</a>"#,
    );
    assert!(app.is_some() && app < account, "{todos}");
    let one = r#"<a href="./accounts/tiktok/d?refresh=0">tiktok/d: scope missing</a>"#;
    assert!(todos.contains(one), "one alone is called by its name: {todos}");
    assert_eq!(
        todos.matches("<li").count(),
        3,
        "what the app's accounts have is said once: {todos}"
    );
}

#[test]
fn every_page_says_how_to_stop_it_and_a_choice_is_kept() {
    let snapshot = snapshot([account("a", 100, None)]);
    for (address, refresh) in [
        ("/", Some("30; url=./")),
        ("/?refresh=10&cause=none", Some("10; url=./?refresh=10&cause=none")),
        ("/?refresh=0", None),
        ("/accounts/tiktok/a", Some("30; url=./a")),
        ("/apps/main?refresh=0", None),
        ("/accounts/tiktok/nobody", None),
        ("/accounts.json", None),
    ] {
        assert_eq!(get(&snapshot, address).refresh.as_deref(), refresh, "{address}");
    }
    let page = html(&snapshot, "refresh=0&cause=none&page=1");
    for kept in [
        r#"href="./?cause=none&amp;refresh=10">10 s"#,
        r#"href="./accounts/tiktok/a?refresh=0""#,
        r#"name="refresh" value="0""#,
    ] {
        assert!(page.contains(kept), "{kept}: {page}");
    }
    let account = get(&snapshot, "/accounts/tiktok/a?refresh=0").body;
    assert!(account.contains(r#"<a href="../../?refresh=0">All accounts</a>"#), "{account}");
}

#[test]
fn a_path_leads_to_the_account_it_was_made_for() {
    let names = ["brand-a", "a/b", "a.json", "ü + %41 \"<", "a?b#c"];
    let snapshot = snapshot(names.map(|name| account(name, 100, None)));
    for name in names {
        let path = account_path(&AccountId::new("tiktok", name));
        assert_eq!(get(&snapshot, &path).status, StatusCode::OK, "{path}");
        let json = get(&snapshot, &format!("{path}.json")).json();
        assert_eq!((json["account"].as_str(), json["page"].as_str()), (Some(name), Some(&*path)));
    }
    for path in [
        "/accounts",
        "/accounts/",
        "/accounts/tiktok",
        "/accounts//a",
        "/accounts/tiktok/",
        "/apps",
        "/apps/",
        "/.json",
        "/x",
        "",
        "accounts.json",
        "/apps/a/b",
    ] {
        assert_eq!(Route::of(path), None, "{path}");
    }
}

#[test]
fn what_does_not_exist_says_so_in_words() {
    let here = snapshot([account("a", 100, None)]);
    let sharing = Readings { all_replicas: Some(Totals::default()), ..readings() };
    let rows = [
        (&here, readings(), "/accounts/tiktok/b", 404, "No account tiktok/b is looked after."),
        (&here, sharing, "/accounts/tiktok/b", 404, "Another replica looks after tiktok/b."),
        (&here, readings(), "/apps/none", 404, "The configuration names no app none."),
        (&here, readings(), "/providers/none", 404, "No account and no app has a provider none."),
        (&Snapshot::empty(NOON), readings(), "/accounts/tiktok/a", 503, "has not been read yet"),
    ];
    for (snapshot, readings, path, status, words) in rows {
        let page = get_with(snapshot, &readings, &[], path);
        assert_eq!(page.status, status, "{path}");
        assert!(page.body.contains(words), "{path}: {}", page.body);
        let json = get_with(snapshot, &readings, &[], &format!("{path}.json"));
        assert_eq!(json.status, status);
        assert!(json.json()["error"].as_str().unwrap().contains(words), "{}", json.body);
    }
}

#[test]
fn a_page_of_accounts_that_are_as_unwell_as_can_be_stays_bounded() {
    let snapshot = snapshot(
        (0..400).map(|number| with_unauthorized(diagnosed(&format!("acc-{number:03}")), 1)),
    );
    let bytes = html(&snapshot, "").len();
    assert!(bytes < 400 * 1_024, "{bytes} bytes");
    let bytes = get(&snapshot, "/accounts/tiktok/acc-000").body.len();
    assert!(bytes < 64 * 1_024, "{bytes} bytes");
}

#[test]
fn what_is_wrong_with_the_file_is_on_the_page() {
    let errors = ["config.yaml:7: unknown key `aps`"];
    let html = get_with(&snapshot([]), &readings(), &errors, "/").body;
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
fn unauthorized_answers_are_counted_by_the_hour_and_it_says_since_when() {
    let mut snapshot = snapshot([with_unauthorized(account("a", 100, None), 3)]);
    snapshot.began_at = after(-7_200);
    let list = html(&snapshot, "");
    for expected in ["<strong>3</strong>", "since start", "3 answers with 401 in the last 24 hours"]
    {
        assert!(list.contains(expected), "{expected}: {list}");
    }
    let json = get(&snapshot, "/accounts/tiktok/a.json").json();
    assert_eq!(json["unauthorized_by_hour"].as_array().unwrap().len(), 24);
    assert_eq!(
        (&json["unauthorized_by_hour"][23], &json["unauthorized_last_day"]),
        (&3.into(), &3.into())
    );
    snapshot.began_at = after(-200_000);
    assert!(html(&snapshot, "").contains("in 24 h"));
}

#[test]
fn no_renewal_is_announced_where_none_can_help() {
    let mut account = account("a", 3600, Some(Cause::RefreshTokenExpired));
    account.token.as_mut().unwrap().refresh_expires_at = Some(after(-120));
    let html = html(&snapshot([account]), "");
    for announced in ["renewal due", "renewal is due at"] {
        assert!(!html.contains(announced), "{html}");
    }
    assert!(html.contains("connection ended <time"), "{html}");
}

#[test]
fn of_a_connection_that_is_over_no_end_to_come_is_told_nor_that_none_is_known() {
    let page = |cause, refresh_expires_at| {
        let mut account = account("a", 3600, cause);
        account.token.as_mut().unwrap().refresh_expires_at = refresh_expires_at;
        let page = get(&snapshot([account]), "/accounts/tiktok/a").body;
        let (_, behind) = page.split_once("<dt>Connection ends</dt><dd>").unwrap();
        behind.split_once("</dd>").unwrap().0.to_owned()
    };
    let rejected = Some(Cause::RefreshTokenRejected);
    assert_eq!(page(rejected, Some(after(7200))), "it has ended");
    assert_eq!(page(rejected, None), "it has ended");
    assert_eq!(page(None, None), "not known");
    assert!(page(None, Some(after(7200))).contains("in 2 h"));
    assert!(page(rejected, Some(after(-7200))).contains("2 h ago"));
}

#[test]
fn where_replicas_share_the_accounts_it_says_how_much_is_held_here() {
    let page = |all_replicas| {
        let here = Snapshot { holding: (0..128).collect(), ..snapshot([]) };
        get_with(&here, &Readings { all_replicas, ..readings() }, &[], "/").body
    };
    let totals = Totals { replicas: 2, accounts: 1_234, ..Totals::default() };
    let shared = page(Some(totals));
    assert!(shared.contains("128 of 256 shares held"), "{shared}");
    assert!(shared.contains("2 alive, 1,234 accounts in all"), "{shared}");
    assert!(!page(None).contains("shares held"), "one that is alone has nothing to share");
}
