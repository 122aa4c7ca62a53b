//! What answers of providers mean: one recorded answer per row of the error maps, invented values in the
//! documented shape, and laws that hold for any answer at all.

use oauth_keepalive::{
    core::{Cause, Evidence, Secret, Timestamp},
    oauth::{
        Answer, Body, Credentials, Exchange, Grant, Liveness, Method, Outcome, Request, Token,
        Trouble,
    },
    providers::{
        self, DECLARED_LIFE_MAX, Endpoints, Provider, Renewal, TOKEN_BYTES_MAX,
        schema::ProviderFile,
    },
};
use proptest::prelude::*;
use std::{fmt::Write as _, fs, path::PathBuf, time::Duration};

fn path(relative: &str) -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join(relative)
}

fn read(relative: &str) -> String {
    fs::read_to_string(path(relative)).unwrap_or_else(|error| panic!("{relative}: {error}"))
}

/// A recorded answer: status, what the shell reads from headers, and a body.
fn recorded(name: &str) -> Exchange {
    let json = read(&format!("tests/fixtures/providers/{name}.json"));
    let fixture: serde_json::Value = serde_json::from_str(&json).unwrap();
    let body = match fixture.get("text") {
        Some(text) => text.as_str().unwrap().to_owned(),
        None => fixture["body"].to_string(),
    };
    Exchange::Answered(Answer {
        retry_after: fixture["retry_after"].as_u64().map(Duration::from_secs),
        bearer_error: fixture["bearer_error"].as_str().map(str::to_owned),
        ..answer(u16::try_from(fixture["status"].as_u64().unwrap()).unwrap(), &body)
    })
}

fn answer(status: u16, body: &str) -> Answer {
    let body = Secret::new(body.to_owned());
    Answer { status, retry_after: None, date: None, bearer_error: None, body }
}

fn answered(status: u16, body: &str) -> Exchange {
    Exchange::Answered(answer(status, body))
}

const NOW: Timestamp = Timestamp::from_unix(1_795_348_800);

fn outcome_word(provider: &Provider, exchange: &Exchange) -> String {
    match provider.outcome(exchange, NOW) {
        Outcome::NotCommitted(evidence) => format!("not committed: {}", words(&evidence)),
        Outcome::Dead(evidence) => format!("dead: {}", words(&evidence)),
        Outcome::Ambiguous(evidence) => format!("ambiguous: {}", words(&evidence)),
        Outcome::Committed(grant) => grant_words(&grant),
    }
}

fn liveness_word(provider: &Provider, exchange: &Exchange) -> String {
    match provider.liveness(exchange, Some("invented-open-id"), NOW) {
        Liveness::Alive => "alive".to_owned(),
        Liveness::Refused(evidence) => format!("refused: {}", words(&evidence)),
        Liveness::Unknown(evidence) => format!("unknown: {}", words(&evidence)),
    }
}

/// Cause first, then whatever else the evidence holds, in a fixed order.
fn words(evidence: &Evidence) -> String {
    assert_eq!(evidence.at, NOW);
    let mut words = evidence.cause.as_label().to_owned();
    if let Some(detail) = &evidence.detail {
        write!(words, " ({detail})").unwrap();
    }
    if let Some(status) = evidence.status {
        write!(words, " {status}").unwrap();
    }
    if let Some(code) = &evidence.code {
        write!(words, " code {code}").unwrap();
    }
    if let Some(log_id) = &evidence.log_id {
        write!(words, " log {log_id}").unwrap();
    }
    if let Some(pause) = evidence.retry_after {
        write!(words, " after {}s", pause.as_secs()).unwrap();
    }
    if evidence.app_wide {
        words.push_str(" app-wide");
    }
    words
}

fn grant_words(grant: &Grant) -> String {
    let secret = |secret: &Secret| secret.expose().to_owned();
    let seconds = |life: Option<Duration>| life.map(|life| life.as_secs());
    format!(
        "committed: {} {:?} {:?} {:?} {:?} {:?}",
        secret(&grant.access),
        grant.refresh.as_ref().map(secret),
        seconds(grant.expires_in),
        seconds(grant.refresh_expires_in),
        grant.scopes,
        grant.subject
    )
}

type Case = (&'static str, &'static str, &'static str);

const TIKTOK_TOKEN: &[Case] = &[
    (
        "a flat answer with comma scopes is a token",
        "token_good",
        r#"committed: invented-access Some("invented-refresh") Some(7200) Some(15552000) Some(["user.info.basic", "video.publish"]) Some("invented-open-id")"#,
    ),
    (
        "odd neighbours do not cost the token",
        "token_good_with_junk",
        r#"committed: invented-access Some("invented-refresh") Some(7200) None Some(["user.info.basic"]) Some("invented-open-id")"#,
    ),
    (
        "a wrong secret concerns the app and spends nothing",
        "token_invalid_client",
        "not committed: app_credentials_rejected 200 code invalid_client log 20261122120000A1B2C3 app-wide",
    ),
    (
        "a dead refresh token is dead with a status of 200",
        "token_invalid_grant_200",
        "dead: refresh_token_rejected 200 code invalid_grant log 20261122120000A1B2C3",
    ),
    (
        "a dead refresh token is dead with a status of 401",
        "token_invalid_grant_401",
        "dead: refresh_token_rejected 401 code invalid_grant log 20261122120000A1B2C3",
    ),
    (
        "a redirect URI that does not match concerns the app",
        "token_redirect_uri",
        "not committed: redirect_uri_mismatch 400 code invalid_request log 20261122120000A1B2C3 app-wide",
    ),
    (
        "a PKCE mistake is named",
        "token_pkce",
        "not committed: unknown (pkce_mismatch) 400 code invalid_request log 20261122120000A1B2C3",
    ),
    (
        "a refused content type is named",
        "token_json_body",
        "not committed: unknown (content_type_refused) 200 code invalid_request log 20261122120000A1B2C3",
    ),
    (
        "an unapproved scope is a missing scope",
        "token_invalid_scope",
        "not committed: scope_missing 200 code invalid_scope log 20261122120000A1B2C3",
    ),
    (
        "an app that may not refresh concerns the app",
        "token_unauthorized_client",
        "not committed: app_credentials_rejected 200 code unauthorized_client log 20261122120000A1B2C3 app-wide",
    ),
    (
        "an unsupported grant type is our mistake",
        "token_unsupported_grant_type",
        "not committed: unknown (request_malformed) 400 code unsupported_grant_type log 20261122120000A1B2C3",
    ),
    (
        "any other invalid request is our mistake",
        "token_invalid_request",
        "not committed: unknown (request_malformed) 200 code invalid_request log 20261122120000A1B2C3",
    ),
    (
        "a server error may have come after the rotation",
        "token_server_error",
        "ambiguous: provider_outage 200 code server_error log 20261122120000A1B2C3",
    ),
    (
        "being unavailable may have come after the rotation",
        "token_temporarily_unavailable",
        "ambiguous: provider_outage 503 code temporarily_unavailable log 20261122120000A1B2C3 after 30s",
    ),
    (
        "a limit in the API's form spends nothing",
        "token_rate_limit",
        "not committed: rate_limited 200 code rate_limit_exceeded log 20261122120000A1B2C3",
    ),
    (
        "an internal error in the API's form is ambiguous",
        "token_internal_error",
        "ambiguous: provider_outage 500 code internal_error log 20261122120000A1B2C3",
    ),
    (
        "a 200 with a code that nobody knows is ambiguous and not shown",
        "token_code_nobody_knows_200",
        "ambiguous: unknown (unreadable_answer) 200 log 20261122120000A1B2C3",
    ),
    (
        "a 400 with a code that nobody knows is a refusal and not shown",
        "token_code_nobody_knows_400",
        "not committed: unknown (unrecognized_answer) 400 log 20261122120000A1B2C3",
    ),
    (
        "a log id is cut to harmless characters",
        "token_hostile_log_id",
        "dead: refresh_token_rejected 200 code invalid_grant log bXybaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa",
    ),
    (
        "a token where TikTok never puts one is not read",
        "token_under_data",
        "ambiguous: unknown (unreadable_answer) 200",
    ),
    (
        "a page with a status of 200 is ambiguous",
        "token_html_200",
        "ambiguous: unknown (unreadable_answer) 200",
    ),
    ("an empty 200 is ambiguous", "token_empty_200", "ambiguous: unknown (unreadable_answer) 200"),
    ("a gateway's page is ambiguous", "token_html_502", "ambiguous: provider_outage 502"),
    ("a bare 429 spends nothing", "token_429", "not committed: rate_limited 429 after 86400s"),
    (
        "a bare 403 spends nothing",
        "token_403_html",
        "not committed: unknown (unrecognized_answer) 403",
    ),
    ("a redirect is ambiguous", "token_302", "ambiguous: provider_outage (redirect_refused) 302"),
    (
        "a token in a redirect is nobody's",
        "token_307_with_token",
        "ambiguous: provider_outage (redirect_refused) 307",
    ),
    ("a token in a 500 is ambiguous", "token_500_with_token", "ambiguous: provider_outage 500"),
    (
        "a token in a 400 is ambiguous and never a plain refusal",
        "token_400_with_token",
        "ambiguous: unknown (unreadable_answer) 400",
    ),
];

const TIKTOK_PROBE: &[Case] = &[
    ("an API answer with the code `ok` is good", "api_good", "alive"),
    ("an answer without the account's id is good", "api_no_open_id", "alive"),
    (
        "another account's token is in the wrong place",
        "api_other_account",
        "refused: wrong_environment (other_account) 200 log 20261122120000A1B2C3",
    ),
    (
        "an invalid access token needs a refresh",
        "api_access_token_invalid",
        "refused: access_token_expired 401 code access_token_invalid log 20261122120000A1B2C3",
    ),
    (
        "a 401 for a scope is no expired token",
        "api_scope_not_authorized",
        "refused: scope_missing 401 code scope_not_authorized log 20261122120000A1B2C3",
    ),
    (
        "a field that needs a scope is named",
        "api_scope_permission_missed",
        "refused: scope_missing (field_needs_scope) 401 code scope_permission_missed log 20261122120000A1B2C3",
    ),
    (
        "a limit says nothing about the token",
        "api_rate_limit_exceeded",
        "unknown: rate_limited 429 code rate_limit_exceeded log 20261122120000A1B2C3 after 60s",
    ),
    (
        "an internal error says nothing about the token",
        "api_internal_error",
        "unknown: provider_outage 500 code internal_error log 20261122120000A1B2C3",
    ),
    (
        "an internal error with a status of 200 is one too",
        "api_internal",
        "unknown: provider_outage 200 code internal log 20261122120000A1B2C3",
    ),
    (
        "wrong parameters are our mistake",
        "api_invalid_params",
        "unknown: unknown (request_malformed) 400 code invalid_params log 20261122120000A1B2C3",
    ),
    (
        "a wrong parameter is our mistake",
        "api_invalid_param",
        "unknown: unknown (request_malformed) 400 code invalid_param log 20261122120000A1B2C3",
    ),
    (
        "a wrong upload is our mistake",
        "api_invalid_file_upload",
        "unknown: unknown (request_malformed) 400 code invalid_file_upload log 20261122120000A1B2C3",
    ),
    (
        "a page with a status of 200 proves nothing",
        "api_html_200",
        "unknown: unknown (unrecognized_answer) 200",
    ),
    (
        "a page with a status of 401 proves nothing",
        "api_401_html",
        "unknown: unknown (unrecognized_answer) 401",
    ),
    ("a page with a status of 503 is an outage", "api_503_html", "unknown: provider_outage 503"),
    ("a redirect proves nothing", "api_302", "unknown: provider_outage (redirect_refused) 302"),
];

const OAUTH2_TOKEN: &[Case] = &[
    (
        "a complete answer is a token",
        "token_good",
        r#"committed: invented-access Some("invented-refresh") Some(3600) None Some(["read", "write"]) None"#,
    ),
    (
        "everything but the access token may be missing",
        "token_good_sparse",
        "committed: invented-access None None None None None",
    ),
    (
        "invalid_client concerns the app",
        "token_invalid_client",
        "not committed: app_credentials_rejected 401 code invalid_client app-wide",
    ),
    (
        "unauthorized_client concerns the app",
        "token_unauthorized_client",
        "not committed: app_credentials_rejected 400 code unauthorized_client app-wide",
    ),
    (
        "invalid_grant is dead",
        "token_invalid_grant",
        "dead: refresh_token_rejected 400 code invalid_grant",
    ),
    (
        "invalid_scope is a missing scope",
        "token_invalid_scope",
        "not committed: scope_missing 400 code invalid_scope",
    ),
    (
        "unsupported_grant_type is our mistake",
        "token_unsupported_grant_type",
        "not committed: unknown (request_malformed) 400 code unsupported_grant_type",
    ),
    (
        "invalid_request is our mistake",
        "token_invalid_request",
        "not committed: unknown (request_malformed) 400 code invalid_request",
    ),
    (
        "server_error is ambiguous whatever its status",
        "token_server_error",
        "ambiguous: provider_outage 400 code server_error",
    ),
    (
        "temporarily_unavailable is ambiguous",
        "token_temporarily_unavailable",
        "ambiguous: provider_outage 503 code temporarily_unavailable",
    ),
];

const OAUTH2_PROBE: &[Case] = &[
    ("any 2xx is good", "api_good", "alive"),
    ("an empty 2xx is good", "api_empty_204", "alive"),
    ("invalid_token needs a refresh", "api_invalid_token", "refused: access_token_expired 401"),
    (
        "invalid_token counts with any status",
        "api_invalid_token_400",
        "refused: access_token_expired 400",
    ),
    ("a bare 401 needs a refresh", "api_bare_401", "refused: access_token_expired 401"),
    (
        "insufficient_scope is a missing scope",
        "api_insufficient_scope",
        "refused: scope_missing 403",
    ),
    (
        "insufficient_scope under a 401 spends no refresh",
        "api_insufficient_scope_401",
        "refused: scope_missing 401",
    ),
    ("a bare 403 proves nothing", "api_bare_403", "unknown: unknown (unrecognized_answer) 403"),
    ("a 429 proves nothing", "api_429", "unknown: rate_limited 429 after 5s"),
];

const TABLES: [(&str, &[Case], &[Case]); 2] =
    [("tiktok", TIKTOK_TOKEN, TIKTOK_PROBE), ("oauth2", OAUTH2_TOKEN, OAUTH2_PROBE)];

#[test]
fn every_recorded_answer_means_what_the_provider_says() {
    let mut cases = 0;
    for (name, token, probe) in TABLES {
        let provider = providers::find(name).unwrap();
        for (sentence, file, expected) in token {
            let got = outcome_word(provider, &recorded(&format!("{name}/{file}")));
            assert_eq!(got, *expected, "{name}: {sentence}");
        }
        for (sentence, file, expected) in probe {
            let got = liveness_word(provider, &recorded(&format!("{name}/{file}")));
            assert_eq!(got, *expected, "{name}: {sentence}");
        }
        cases += token.len() + probe.len();
    }
    println!("providers={} cases={cases}", providers::names().len());
}

#[test]
fn every_recorded_answer_is_used() {
    for (name, token, probe) in TABLES {
        for entry in fs::read_dir(path(&format!("tests/fixtures/providers/{name}"))).unwrap() {
            let file = entry.unwrap().file_name().into_string().unwrap();
            let listed = token.iter().chain(probe).any(|case| file == format!("{}.json", case.1));
            assert!(listed, "{name}/{file} stands in no table");
        }
    }
}

/// Takes one row away at a time: some case of the tables must then come out differently.
#[test]
fn no_row_of_an_error_map_goes_without_a_case() {
    for (name, token, probe) in TABLES {
        let yaml = read(&format!("src/providers/data/{name}.yaml"));
        let whole: ProviderFile = serde_yaml::from_str(&yaml).unwrap();
        for row in 0..whole.errors.len() {
            let mut file = whole.clone();
            let taken = file.errors.remove(row);
            let without = Provider::from_file(file).unwrap();
            let differs = |file: &str, expected: &str, of: fn(&Provider, &Exchange) -> String| {
                of(&without, &recorded(&format!("{name}/{file}"))) != expected
            };
            let noticed = token.iter().any(|case| differs(case.1, case.2, outcome_word))
                || probe.iter().any(|case| differs(case.1, case.2, liveness_word));
            assert!(noticed, "{name}: no case needs errors[{row}], {taken:?}");
        }
    }
}

#[test]
fn silence_is_told_apart_by_whether_anything_left() {
    let provider = providers::find("tiktok").unwrap();
    for (exchange, expected) in [
        (Exchange::NotSent(Trouble::Connect), "not committed: provider_outage (connect_failed)"),
        (Exchange::NotSent(Trouble::Crowded), "not committed: provider_outage (no_free_place)"),
        (Exchange::NotSent(Trouble::Unsendable), "not committed: unknown (request_unsendable)"),
        (Exchange::Lost(Trouble::Deadline), "ambiguous: provider_outage (deadline_passed)"),
        (Exchange::Lost(Trouble::Broken), "ambiguous: provider_outage (connection_broken)"),
        (Exchange::Lost(Trouble::TooLong), "ambiguous: provider_outage (answer_too_long)"),
    ] {
        assert_eq!(outcome_word(provider, &exchange), expected);
        let said = liveness_word(provider, &exchange);
        assert!(said.starts_with("unknown: "), "{said}");
    }
}

#[test]
fn fields_of_any_shape_never_cost_the_token_beside_them() {
    let provider = providers::find("tiktok").unwrap();
    let grant = |members: &str| {
        let body = format!(r#"{{"access_token":"invented-access",{members}}}"#);
        match provider.outcome(&answered(200, &body), NOW) {
            Outcome::Committed(grant) => grant,
            other => panic!("{members}: {other:?}"),
        }
    };
    for (value, expected) in [
        ("7200", Some(7_200)),
        ("\"7200\"", Some(7_200)),
        ("\" 7200 \"", Some(7_200)),
        ("7200.9", Some(7_200)),
        ("1", Some(1)),
        ("0", None),
        ("-1", None),
        ("\"\"", None),
        ("\"soon\"", None),
        ("\"NaN\"", None),
        ("\"inf\"", None),
        ("null", None),
        ("true", None),
        ("[7200]", None),
        ("9223372036854775808", None),
        ("1e300", None),
    ] {
        let life = |grant: Option<Duration>| grant.map(|life| life.as_secs());
        let read = grant(&format!(r#""expires_in":{value},"refresh_expires_in":{value}"#));
        assert_eq!(life(read.expires_in), expected, "expires_in {value}");
        assert_eq!(life(read.refresh_expires_in), expected, "refresh_expires_in {value}");
    }
    let most = DECLARED_LIFE_MAX.as_secs();
    assert_eq!(grant(&format!("\"expires_in\":{most}")).expires_in, Some(DECLARED_LIFE_MAX));
    assert_eq!(grant(&format!("\"expires_in\":{}", most + 1)).expires_in, None);

    for value in ["\"\"", "\"  \"", "null", "7", "{}", "[]"] {
        assert_eq!(grant(&format!("\"refresh_token\":{value}")).refresh, None, "{value}");
    }
    for (value, expected) in [
        ("\"a,b\"", Some(vec!["a", "b"])),
        ("\"a b\"", Some(vec!["a", "b"])),
        ("\" a, ,b \"", Some(vec!["a", "b"])),
        ("[\"a\",\"b\",3]", Some(vec!["a", "b"])),
        ("\"\"", None),
        ("[]", None),
        ("7", None),
        ("null", None),
    ] {
        let expected = expected.map(|words| words.into_iter().map(str::to_owned).collect());
        assert_eq!(grant(&format!("\"scope\":{value}")).scopes, expected, "scope {value}");
    }
    let twice = grant(r#""refresh_token":"first","refresh_token":"last""#);
    assert_eq!(twice.refresh.unwrap().expose(), "last");
    assert_eq!(grant(r#""open_id":42"#).subject.as_deref(), Some("42"));
    assert_eq!(grant(r#""open_id":{}"#).subject, None);
}

#[test]
fn only_a_usable_access_token_is_one() {
    let provider = providers::find("oauth2").unwrap();
    let is_committed = |access: &str, rest: &str| {
        let body = format!(r#"{{"access_token":{access}{rest}}}"#);
        matches!(provider.outcome(&answered(200, &body), NOW), Outcome::Committed(_))
    };
    let of_length = |length: usize| format!("\"{}\"", "a".repeat(length));
    assert!(is_committed(&of_length(TOKEN_BYTES_MAX), ""));
    assert!(!is_committed(&of_length(TOKEN_BYTES_MAX + 1), ""));
    for access in ["\"\"", "\" \\t\\n\"", "null", "7", "true", "{}", "[\"a\"]", "\"a\u{fffd}\""] {
        assert!(!is_committed(access, ""), "{access}");
    }
    assert!(!is_committed("\"a\"", ",\"refresh_token\":\"\u{fffd}\""), "half a refresh token");
    assert!(is_committed("\"a\"", ",\"name\":\"\u{fffd}\""), "a damaged name beside the token");
    assert!(is_committed("\"a\"", ",\"error\":\"invalid_grant\""), "a token beside an error");
    let with_mark = answered(200, "\u{feff}{\"access_token\":\"a\"}");
    assert!(matches!(provider.outcome(&with_mark, NOW), Outcome::Committed(_)));
}

// Requests.

fn token(access: &str, refresh: Option<&str>) -> Token {
    Token {
        access: Secret::new(access.to_owned()),
        refresh: refresh.map(|text| Secret::new(text.to_owned())),
        issued_at: None,
        expires_at: None,
        refresh_expires_at: None,
        scopes: None,
        subject: None,
    }
}

fn credentials(secret: Option<&str>) -> Credentials {
    let client_secret = secret.map(|text| Secret::new(text.to_owned()));
    Credentials { client_id: "my id".to_owned(), client_secret }
}

/// The whole request on one line.
fn shown(request: &Request) -> String {
    let pairs = |pairs: &[(String, Secret)], glue: &str| {
        let pairs: Vec<_> =
            pairs.iter().map(|(name, value)| format!("{name}{glue}{}", value.expose())).collect();
        pairs.join("&")
    };
    let method = match request.method {
        Method::Get => "GET",
        Method::Post => "POST",
    };
    let mut line = format!("{method} {}", request.endpoint);
    if !request.query.is_empty() {
        write!(line, "?{}", pairs(&request.query, "=")).unwrap();
    }
    if !request.headers.is_empty() {
        write!(line, " [{}]", pairs(&request.headers, ": ")).unwrap();
    }
    match &request.body {
        Body::Empty => {}
        Body::Form(params) => write!(line, " form {}", pairs(params, "=")).unwrap(),
        Body::Json(params) => write!(line, " json {}", pairs(params, "=")).unwrap(),
    }
    line
}

fn refresh_line(provider: &Provider, endpoints: &Endpoints) -> String {
    let (credentials, token) = (credentials(Some("my secret")), token("at", Some("rt")));
    provider
        .refresh_request(endpoints, &credentials, &token)
        .map_or_else(|| "none".to_owned(), |request| shown(&request))
}

#[test]
fn tiktok_is_asked_in_its_own_dialect() {
    let tiktok = providers::find("tiktok").unwrap();
    assert_eq!((tiktok.renewal, tiktok.min_age), (Renewal::Rotating, Duration::ZERO));
    assert!(!tiktok.needs_token_endpoint());
    assert_eq!(
        refresh_line(tiktok, &Endpoints::default()),
        "POST https://open.tiktokapis.com/v2/oauth/token/ form \
         client_key=my id&client_secret=my secret&grant_type=refresh_token&refresh_token=rt"
    );
    let probe = tiktok.probe_request(&Endpoints::default(), &token("at", None)).unwrap();
    assert_eq!(
        shown(&probe),
        "GET https://open.tiktokapis.com/v2/user/info/?fields=open_id [Authorization: Bearer at]"
    );
}

#[test]
fn endpoints_of_the_app_go_before_those_of_the_provider() {
    let tiktok = providers::find("tiktok").unwrap();
    let endpoints = Endpoints {
        token: Some("http://127.0.0.1:1/t/".to_owned()),
        probe: Some("http://127.0.0.1:1/p/".to_owned()),
    };
    assert!(refresh_line(tiktok, &endpoints).starts_with("POST http://127.0.0.1:1/t/ form "));
    let probe = tiktok.probe_request(&endpoints, &token("at", None)).unwrap();
    assert!(shown(&probe).starts_with("GET http://127.0.0.1:1/p/?fields=open_id "));
}

#[test]
fn the_generic_provider_needs_endpoints_and_names_the_app_by_basic() {
    let oauth2 = providers::find("oauth2").unwrap();
    assert!(oauth2.needs_token_endpoint());
    assert_eq!(refresh_line(oauth2, &Endpoints::default()), "none");
    let endpoints = Endpoints { token: Some("https://id.example/token".to_owned()), probe: None };
    // base64("my+id:my+secret"): section 2.3.1 wants both form-encoded first.
    assert_eq!(
        refresh_line(oauth2, &endpoints),
        "POST https://id.example/token [Authorization: Basic bXkraWQ6bXkrc2VjcmV0] form \
         grant_type=refresh_token&refresh_token=rt&client_id=my id"
    );
    let public = oauth2.refresh_request(&endpoints, &credentials(None), &token("at", Some("rt")));
    assert_eq!(
        shown(&public.unwrap()),
        "POST https://id.example/token form grant_type=refresh_token&refresh_token=rt&client_id=my id"
    );
    assert!(oauth2.probe_request(&endpoints, &token("at", None)).is_none());
}

#[test]
fn nothing_is_asked_without_what_renews() {
    let tiktok = providers::find("tiktok").unwrap();
    for refresh in [None, Some(""), Some("  ")] {
        let asked = tiktok.refresh_request(
            &Endpoints::default(),
            &credentials(Some("my secret")),
            &token("at", refresh),
        );
        assert!(asked.is_none(), "{refresh:?}");
    }
    assert!(tiktok.probe_request(&Endpoints::default(), &token(" ", None)).is_none());
}

// The schema fits providers that are not in the catalogue yet.

struct Sketch {
    name: &'static str,
    request: &'static str,
    good: (&'static str, &'static str),
    refused: (u16, &'static str, &'static str),
}

const GRANT: &str =
    r#"{"access_token":"new","expires_in":60,"refresh_token":"next","scope":"a b"}"#;
const GRANTED: &str = r#"committed: new Some("next") Some(60) None Some(["a", "b"]) None"#;
const EXTENDED: (&str, &str) = (
    r#"{"access_token":"new","token_type":"bearer","expires_in":5183944}"#,
    "committed: new None Some(5183944) None None None",
);

const SKETCHES: &[Sketch] = &[
    Sketch {
        name: "instagram",
        request: "GET https://graph.instagram.com/refresh_access_token?grant_type=ig_refresh_token&access_token=at",
        good: EXTENDED,
        refused: (
            400,
            r#"{"error":{"message":"at","type":"OAuthException","code":190,"error_subcode":458,"fbtrace_id":"Ab1"}}"#,
            "dead: consent_revoked 400 code 190/458 log Ab1",
        ),
    },
    Sketch {
        name: "x",
        request: "POST https://api.x.com/2/oauth2/token [Authorization: Basic bXkraWQ6bXkrc2VjcmV0] form \
                  grant_type=refresh_token&refresh_token=rt&client_id=my id",
        good: (GRANT, GRANTED),
        refused: (
            400,
            r#"{"error":"invalid_request","error_description":"Value passed for the token was invalid."}"#,
            "dead: refresh_token_rejected 400 code invalid_request",
        ),
    },
    Sketch {
        name: "facebook",
        request: "GET https://graph.facebook.com/v25.0/oauth/access_token?grant_type=fb_exchange_token&\
                  client_id=my id&client_secret=my secret&fb_exchange_token=at",
        good: EXTENDED,
        refused: (
            400,
            r#"{"error":{"message":"at","code":"190","error_subcode":460}}"#,
            "dead: consent_revoked (password_changed) 400 code 190/460",
        ),
    },
    Sketch {
        name: "threads",
        request: "GET https://graph.threads.net/refresh_access_token?grant_type=th_refresh_token&access_token=at",
        good: EXTENDED,
        refused: (
            400,
            r#"{"error":{"message":"at","code":190,"fbtrace_id":"Ab1"}}"#,
            "dead: refresh_token_rejected 400 code 190 log Ab1",
        ),
    },
    Sketch {
        name: "tiktok_business",
        request: "POST https://business-api.tiktok.com/open_api/v1.3/tt_user/oauth2/refresh_token/ json \
                  client_id=my id&client_secret=my secret&grant_type=refresh_token&refresh_token=rt",
        good: (
            r#"{"code":0,"message":"OK","request_id":"r1","data":{"access_token":"new","refresh_token":"next","expires_in":86400,"refresh_token_expires_in":9,"scope":"a,b","open_id":"me"}}"#,
            r#"committed: new Some("next") Some(86400) Some(9) Some(["a", "b"]) Some("me")"#,
        ),
        refused: (
            200,
            r#"{"code":40002,"message":"Invalid client secret","request_id":"r1","data":{}}"#,
            "not committed: app_credentials_rejected 200 code 40002 log r1 app-wide",
        ),
    },
    Sketch {
        name: "linkedin",
        request: "POST https://www.linkedin.com/oauth/v2/accessToken form grant_type=refresh_token&\
                  refresh_token=rt&client_id=my id&client_secret=my secret",
        good: (
            r#"{"access_token":"new","expires_in":432000,"refresh_token":"rt","refresh_token_expires_in":432000,"scope":"a,b"}"#,
            r#"committed: new Some("rt") Some(432000) Some(432000) Some(["a", "b"]) None"#,
        ),
        refused: (
            400,
            r#"{"error":"invalid_request","error_description":"The provided refresh token is invalid, expired or revoked"}"#,
            "dead: refresh_token_rejected 400",
        ),
    },
    Sketch {
        name: "pinterest",
        request: "POST https://api.pinterest.com/v5/oauth/token [Authorization: Basic bXkraWQ6bXkrc2VjcmV0] form \
                  grant_type=refresh_token&refresh_token=rt&continuous_refresh=true",
        good: (
            r#"{"access_token":"new","expires_in":2592000,"refresh_token":"next","refresh_token_expires_in":5184000,"refresh_token_expires_at":1800000000,"scope":"a b"}"#,
            r#"committed: new Some("next") Some(2592000) Some(5184000) Some(["a", "b"]) None"#,
        ),
        refused: (
            401,
            r#"{"code":2,"message":"Authentication failed."}"#,
            "not committed: app_credentials_rejected 401 code 2 app-wide",
        ),
    },
    Sketch {
        name: "google",
        request: "POST https://oauth2.googleapis.com/token form client_id=my id&client_secret=my secret&\
                  grant_type=refresh_token&refresh_token=rt",
        good: (
            r#"{"access_token":"new","expires_in":3599,"scope":"a b","token_type":"Bearer"}"#,
            r#"committed: new None Some(3599) None Some(["a", "b"]) None"#,
        ),
        refused: (
            400,
            r#"{"error":"invalid_grant","error_description":"reauth","error_subtype":"invalid_rapt"}"#,
            "dead: refresh_token_rejected (session_policy) 400 code invalid_grant/invalid_rapt",
        ),
    },
    Sketch {
        name: "reddit",
        request: "POST https://www.reddit.com/api/v1/access_token [Authorization: Basic bXkraWQ6bXkrc2VjcmV0] form \
                  grant_type=refresh_token&refresh_token=rt",
        good: (GRANT, GRANTED),
        refused: (200, r#"{"error":"invalid_grant"}"#, "dead: refresh_token_rejected 200"),
    },
    Sketch {
        name: "snapchat",
        request: "POST https://accounts.snapchat.com/login/oauth2/access_token form client_id=my id&\
                  client_secret=my secret&grant_type=refresh_token&refresh_token=rt",
        good: (GRANT, GRANTED),
        refused: (
            400,
            r#"{"error":"invalid_grant"}"#,
            "dead: refresh_token_rejected 400 code invalid_grant",
        ),
    },
    Sketch {
        name: "bluesky",
        request: "POST https://pds.example/xrpc/com.atproto.server.refreshSession [Authorization: Bearer rt]",
        good: (
            r#"{"accessJwt":"new","refreshJwt":"next","handle":"h.example","did":"did:plc:invented"}"#,
            r#"committed: new Some("next") None None None Some("did:plc:invented")"#,
        ),
        refused: (
            400,
            r#"{"error":"ExpiredToken","message":"Token has expired"}"#,
            "dead: refresh_token_rejected 400 code ExpiredToken",
        ),
    },
];

fn sketch(name: &str) -> Provider {
    let yaml = read(&format!("tests/fixtures/provider_sketches/{name}.yaml"));
    Provider::from_yaml(&yaml).unwrap_or_else(|error| panic!("{name}: {error}"))
}

#[test]
fn eleven_more_providers_fit_the_schema_without_code() {
    let files = fs::read_dir(path("tests/fixtures/provider_sketches")).unwrap().count();
    assert_eq!(files, SKETCHES.len());
    for Sketch { name, request, good, refused } in SKETCHES {
        let provider = sketch(name);
        assert_eq!(provider.name, *name);
        let endpoints = Endpoints {
            token: provider
                .needs_token_endpoint()
                .then(|| "https://pds.example/xrpc/com.atproto.server.refreshSession".to_owned()),
            probe: None,
        };
        assert_eq!(refresh_line(&provider, &endpoints), *request, "{name}");
        assert_eq!(
            outcome_word(&provider, &answered(200, good.0)),
            good.1,
            "{name}: a good answer"
        );
        let (status, body, expected) = refused;
        assert_eq!(outcome_word(&provider, &answered(*status, body)), *expected, "{name}: refused");
    }
}

#[test]
fn oddities_of_other_providers_come_out_right() {
    for (name, status, body, expected) in [
        ("facebook", 401, r#"{"error":{"code":190}}"#, "dead: access_token_expired 401 code 190"),
        (
            "facebook",
            400,
            r#"{"error":{"code":80007}}"#,
            "not committed: rate_limited (business_use_case) 400 code 80007",
        ),
        (
            "facebook",
            400,
            r#"{"error":{"code":101,"message":"Error validating client secret."}}"#,
            "not committed: app_credentials_rejected 400 app-wide",
        ),
        (
            "facebook",
            400,
            r#"{"error":{"code":99,"is_transient":true}}"#,
            "ambiguous: provider_outage 400",
        ),
        (
            "tiktok_business",
            200,
            r#"{"code":51000,"data":{}}"#,
            "ambiguous: unknown (unreadable_answer) 200",
        ),
        (
            "x",
            401,
            r#"{"error":"unauthorized_client","error_description":"Missing valid authorization header"}"#,
            "not committed: app_credentials_rejected 401 code unauthorized_client app-wide",
        ),
        (
            "snapchat",
            500,
            r#"{"error":"invalid_client"}"#,
            "not committed: app_credentials_rejected 500 code invalid_client app-wide",
        ),
    ] {
        assert_eq!(outcome_word(&sketch(name), &answered(status, body)), expected, "{name} {body}");
    }
    for (name, status, body, expected) in [
        ("linkedin", 426, "{}", "refused: wrong_environment (api_version_sunset) 426 app-wide"),
        (
            "linkedin",
            401,
            r#"{"code":"REVOKED_ACCESS_TOKEN"}"#,
            "refused: consent_revoked 401 code REVOKED_ACCESS_TOKEN",
        ),
        (
            "google",
            401,
            r#"{"error":{"errors":[{"reason":"a"},{"reason":"youtubeSignupRequired"}]}}"#,
            "refused: wrong_environment (no_channel) 401",
        ),
        (
            "bluesky",
            400,
            r#"{"error":"ExpiredToken"}"#,
            "refused: access_token_expired 400 code ExpiredToken",
        ),
        ("pinterest", 401, r#"{"code":2}"#, "refused: access_token_expired 401 code 2"),
    ] {
        assert_eq!(
            liveness_word(&sketch(name), &answered(status, body)),
            expected,
            "{name} {body}"
        );
    }
    assert_eq!(sketch("instagram").min_age, Duration::from_secs(86_400));
    assert_eq!(sketch("instagram").renewal, Renewal::ExtendInPlace);
    let billed = sketch("x").probe_request(&Endpoints::default(), &token("at", None));
    assert!(billed.is_none(), "a billed call is not made on its own account");
}

// What is wrong with a file is said by its key.

const MINIMAL: &str = "\
name: mine
title: Mine
docs: https://docs.example/oauth
renewal: rotating
refresh:
  params: {client_id: '{client_id}', refresh_token: '{refresh_token}'}
";

#[test]
fn a_wrong_file_is_refused_by_key_with_what_was_expected() {
    assert_eq!(Provider::from_yaml(MINIMAL).unwrap().title, "Mine");
    let row = |row: &str| format!("{MINIMAL}errors:\n  - {row}\n");
    let instead = |from: &str, to: &str| {
        assert!(MINIMAL.contains(from));
        MINIMAL.replace(from, to)
    };
    for (yaml, expected) in [
        (instead("title: Mine\n", ""), ".: missing field `title`"),
        (instead("title", "titel"), "titel: unknown field `titel`"),
        (instead("name: mine", "name: My Provider"), "name: expected 1 to 32 small letters"),
        (instead("rotating", "sometimes"), "renewal: unknown variant `sometimes`"),
        (instead("rotating", "extend_in_place"), "refresh.params: nothing sends `{access_token}`"),
        (instead("rotating", "reconnect_only"), "refresh: contradicts `renewal: reconnect_only`"),
        (
            instead("'{refresh_token}'", "'{token}'"),
            "refresh.params.refresh_token: expected at most one placeholder",
        ),
        (instead("client_id: '{client_id}', ", ""), "refresh.client_auth: the app is not named"),
        (
            instead("  params", "  client_auth: none\n  headers: {X: '{client_secret}'}\n  params"),
            "refresh.client_auth: is `none`, yet",
        ),
        (
            instead(
                "  params",
                "  client_auth: basic\n  headers: {X: '{client_secret}'}\n  params",
            ),
            "refresh.client_auth: is `basic`, yet",
        ),
        (
            instead("  params", "  method: GET\n  send_as: form\n  params"),
            "refresh.send_as: a GET has no body",
        ),
        (
            instead("  params", "  headers: {User-Agent: me}\n  params"),
            "refresh.headers.User-Agent: is set by this program",
        ),
        (
            instead("  params", "  headers: {'A b': me}\n  params"),
            "refresh.headers.A b: is no HTTP header",
        ),
        (format!("{MINIMAL}min_age: 24\n"), "min_age: expected a duration such as `2h`"),
        (format!("{MINIMAL}min_age: a day\n"), "min_age: expected a duration such as `2h`"),
        (
            format!("{MINIMAL}endpoints: {{token: 'http://a.example/'}}\n"),
            "endpoints.token: expected an URL that begins with https://",
        ),
        (
            format!("{MINIMAL}endpoints: {{token: 'https://a@b.example/'}}\n"),
            "endpoints.token: expected an URL with a host and without user",
        ),
        (
            format!("{MINIMAL}answer: {{root: 'a..b'}}\n"),
            "answer.access_token: `a..b.access_token` is no dotted path",
        ),
        (format!("{MINIMAL}probe: {{query: {{a: b}}}}\n"), "probe: nothing sends `{access_token}`"),
        (
            format!("{MINIMAL}probe: {{query: {{a: '{{client_secret}}'}}}}\n"),
            "probe: may hold `{access_token}` but not `{client_secret}`",
        ),
        (
            format!("{MINIMAL}errors_like: nobody\n"),
            "errors_like: `nobody` is not in the catalogue",
        ),
        (
            row("{where: nowhere, status: 401, cause: unknown}"),
            "errors[0].where: unknown variant `nowhere`",
        ),
        (
            row("{where: token, status: 4000, cause: unknown}"),
            "errors[0].status: expected `any`, a status such as 401",
        ),
        (row("{where: token, status: [any], cause: unknown}"), "errors[0]: fits every answer"),
        (
            row("{where: token, status: 401, cause: bad_luck}"),
            "errors[0].cause: expected one of access_token_expired",
        ),
        (
            row("{where: token, status: 401, cause: unsaved_token}"),
            "errors[0].cause: expected one of access_token_expired",
        ),
        (row("{where: token, cause: unknown}"), "errors[0]: fits every answer, good ones too"),
        (
            row("{where: token, status: 401, cause: unknown, detail: 'Two Words'}"),
            "errors[0].detail: expected 1 to 32 small letters",
        ),
        (
            row("{where: api, status: 401, cause: unknown, outcome: dead}"),
            "errors[0].outcome: only answers of the token endpoint",
        ),
        (
            row("{where: token, match: {path: error}, cause: unknown}"),
            "errors[0].match: expected exactly one of `eq`",
        ),
        (
            row("{where: token, match: {path: error, eq: a, re: b}, cause: unknown}"),
            "errors[0].match: expected exactly one of `eq`",
        ),
        (
            row("{where: token, match: {eq: a}, cause: unknown}"),
            "errors[0].match: expected either `path` or `bearer_error`",
        ),
        (
            row("{where: token, match: {path: a, re: '('}, cause: unknown}"),
            "errors[0].match.re: is no regular expression",
        ),
        (
            row("{where: token, match: {path: a, range: [5, 1]}, cause: unknown}"),
            "errors[0].match.range: ends before it begins",
        ),
        (
            row(
                "{where: token, match: {path: a, eq: b, and: {path: 'c d', eq: e}}, cause: unknown}",
            ),
            "errors[0].match.and.path: `c d` is no dotted path",
        ),
        (
            row("{where: token, match: {path: a, equals: b}, cause: unknown}"),
            "errors[0].match.equals: unknown field `equals`",
        ),
    ] {
        let error = Provider::from_yaml(&yaml).expect_err(expected).to_string();
        assert!(error.starts_with(expected), "expected `{expected}…`, got `{error}`\n{yaml}");
    }
    let huge = format!("{MINIMAL}# {}", "a".repeat(64 * 1024));
    assert!(Provider::from_yaml(&huge).is_err());
}

// Laws for any answer.

fn any_body() -> impl Strategy<Value = String> {
    let word = || "[a-z_{}\\[\\]\":,.0-9é\u{fffd} -]{0,12}";
    let value = prop_oneof![
        Just("null".to_owned()),
        any::<i64>().prop_map(|number| number.to_string()),
        any::<f64>()
            .prop_filter("JSON", |number| number.is_finite())
            .prop_map(|n| format!("{n:e}")),
        word().prop_map(|text| serde_json::Value::from(text).to_string()),
        Just("\"invalid_grant\"".to_owned()),
        Just("{\"code\":\"ok\",\"log_id\":\"a\"}".to_owned()),
        Just("[\"a\",{}]".to_owned()),
    ];
    let key = prop_oneof![
        Just("access_token".to_owned()),
        Just("refresh_token".to_owned()),
        Just("expires_in".to_owned()),
        Just("scope".to_owned()),
        Just("open_id".to_owned()),
        Just("error".to_owned()),
        Just("log_id".to_owned()),
        "[a-z]{1,4}",
    ];
    let members = prop::collection::vec((key, value), 0..8).prop_map(|members| {
        let members: Vec<_> =
            members.into_iter().map(|(key, value)| format!("\"{key}\":{value}")).collect();
        format!("{{{}}}", members.join(","))
    });
    prop_oneof![4 => members, 1 => any::<String>(), 1 => word()]
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn no_answer_makes_it_panic_or_see_a_token_that_is_not_there(
        status in 100_u16..1000,
        body in any_body(),
    ) {
        let last: Option<serde_json::Value> = serde_json::from_str(&body).ok();
        let access = last.as_ref().and_then(|body| body.get("access_token")?.as_str());
        let has_token = access.is_some_and(|text| !text.trim().is_empty());
        for name in providers::names() {
            let provider = providers::find(name).unwrap();
            let exchange = answered(status, &body);
            let _ = provider.liveness(&exchange, Some("me"), NOW);
            match provider.outcome(&exchange, NOW) {
                Outcome::Committed(grant) => {
                    prop_assert!(has_token && (200..300).contains(&status));
                    prop_assert_eq!(Some(grant.access.expose()), access);
                    prop_assert!(grant.refresh.is_none_or(|refresh| !refresh.is_blank()));
                }
                // A token that was there is never answered by "try the old one again".
                Outcome::NotCommitted(evidence) => prop_assert!(
                    !has_token || evidence.code.is_some() || status == 429,
                    "{:?}", evidence
                ),
                Outcome::Dead(evidence) => prop_assert_eq!(evidence.cause, Cause::RefreshTokenRejected),
                Outcome::Ambiguous(_) => {}
            }
        }
    }

    #[test]
    fn no_text_of_an_answer_gets_into_the_evidence(marker in "[a-z]{12}", status in 200_u16..600) {
        let bodies = [
            format!(r#"{{"error":"{marker}","error_description":"{marker}"}}"#),
            format!(r#"{{"error":"invalid_grant","error_description":"{marker}"}}"#),
            format!(r#"{{"error":{{"code":"{marker}","message":"{marker}"}}}}"#),
            marker.clone(),
        ];
        for body in &bodies {
            for name in providers::names() {
                let provider = providers::find(name).unwrap();
                let said = format!(
                    "{:?} {:?}",
                    provider.outcome(&answered(status, body), NOW),
                    provider.liveness(&answered(status, body), None, NOW)
                );
                prop_assert!(!said.contains(&marker), "{}", said);
            }
        }
    }
}
