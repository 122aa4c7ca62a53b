//! Answers as they come, with everything that is shown of them.

use crate::{liveness_word, outcome_word, path, recorded};
use oauth_keepalive::providers;
use std::fs;

/// A sentence, the recorded answer, what it means.
pub(crate) type Case = (&'static str, &'static str, &'static str);

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
        "not committed: rate_limited 200 code rate_limit_exceeded log 20261122120000A1B2C3 app-wide",
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
    (
        "a bare 429 spends nothing",
        "token_429",
        "not committed: rate_limited 429 after 86400s app-wide",
    ),
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

/// Of one provider, for the token endpoint and for the probe.
pub(crate) fn of(name: &str) -> (&'static [Case], &'static [Case]) {
    let table = TABLES.iter().find(|(provider, ..)| *provider == name);
    table.map_or((&[], &[]), |(_, token, probe)| (*token, *probe))
}

#[test]
fn every_recorded_answer_means_what_the_provider_says() {
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
    }
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
