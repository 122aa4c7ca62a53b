//! What is wrong with a provider file is said by its key.

use oauth_keepalive::providers::{JUNK_MARK, Provider};

const MINIMAL: &str = "\
name: mine
title: Mine
docs: https://docs.example/oauth
renewal: rotating
refresh:
  params: {client_id: '{client_id}', refresh_token: '{refresh_token}'}
";

const REVOKED: &str = "consent_revoked";

/// A provider that sends messages, of which a row knows the cause, if there is one.
fn webhook(header: &str, timestamp: &str, digest: &str, tolerance: &str, cause: &str) -> String {
    let errors = match cause {
        "" => String::new(),
        cause => {
            format!("errors: [{{where: webhook, match: {{path: a, eq: b}}, cause: {cause}}}]\n")
        }
    };
    let signature = format!(
        "{{header: {header}, timestamp: {timestamp}, digest: {digest}, tolerance: {tolerance}}}"
    );
    format!("{MINIMAL}{errors}webhook:\n  signature: {signature}\n  at: a\n  subject: b\n")
}

#[test]
fn a_wrong_file_is_refused_by_key_with_what_was_expected() {
    assert_eq!(Provider::from_yaml(MINIMAL).unwrap().title, "Mine");
    let row = |row: &str| format!("{MINIMAL}errors:\n  - {row}\n");
    let junk = |token: &str, test: &str| {
        format!(
            "{MINIMAL}errors_like: oauth2\njunk: {{refresh_token: {token}, app_is_fine: {{path: error, {test}}}}}\n"
        )
    };
    assert!(Provider::from_yaml(&junk(JUNK_MARK, "eq: a")).unwrap().can_be_asked_about_apps());
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
            row("{where: webhook, status: 200, match: {path: a, eq: b}, cause: unknown}"),
            "errors[0].status: what is no HTTP answer has no status",
        ),
        (
            row("{where: any, grant: code, match: {path: a, eq: b}, cause: unknown}"),
            "errors[0].where: expected `token`, the only place",
        ),
        (
            row("{where: api, younger_than: 24h, status: 400, cause: unknown}"),
            "errors[0].where: expected `token`, the only place",
        ),
        (
            row("{where: token, younger_than: soon, status: 400, cause: unknown}"),
            "errors[0].younger_than: expected a duration",
        ),
        (
            row("{where: token, environment: staging, status: 400, cause: unknown}"),
            "errors[0].environment: unknown variant `staging`",
        ),
        (
            row("{where: probe, match: {path: a, differs_from: client_secret}, cause: unknown}"),
            "errors[0].match.differs_from: unknown variant `client_secret`",
        ),
        (
            row("{where: probe, match: {path: a, past: true, eq: 1}, cause: unknown}"),
            "errors[0].match: expected exactly one of `eq`",
        ),
        (
            row("{where: probe, match: {path: 'a{b}', eq: 1}, cause: unknown}"),
            "errors[0].match.path: `a{b}` is no dotted path",
        ),
        (
            row("{where: token, match: {path: a, equals: b}, cause: unknown}"),
            "errors[0].match.equals: unknown field `equals`",
        ),
        (junk("nobody", "eq: a"), "junk.refresh_token: expected a text with `oauth-keepalive-asks"),
        (
            junk(&format!("'{JUNK_MARK} a'"), "eq: a"),
            "junk.refresh_token: expected at most 256 visible characters",
        ),
        (
            junk(&format!("{JUNK_MARK}{}", "a".repeat(256)), "eq: a"),
            "junk.refresh_token: expected at most 256 visible characters",
        ),
        (junk(JUNK_MARK, ""), "junk.app_is_fine: expected exactly one of `eq`"),
        (
            junk(JUNK_MARK, "eq: a").replace("errors_like: oauth2\n", ""),
            "junk: no row of `errors` says how a refused app is told",
        ),
        (
            junk(JUNK_MARK, "eq: a")
                .replace("rotating", "extend_in_place")
                .replace("'{refresh_token}'", "'{access_token}'"),
            "junk: nothing is renewed with a refresh token here",
        ),
        (
            row("{where: webhook, match: {path: a, eq: b}, cause: consent_revoked}"),
            "errors[0].where: nothing says how a message is signed",
        ),
        (webhook("h", "t", "s", "1m", ""), "webhook: no row with `where: webhook` says"),
        (
            webhook("h", "t", "s", "1m", "provider_outage"),
            "errors[0].cause: nothing follows from a message with this cause",
        ),
        (
            webhook("h", "t", "s", "1m", "scope_missing, app_wide: true"),
            "errors[0].cause: nothing follows from a message with this cause",
        ),
        (webhook("a b", "t", "s", "1m", REVOKED), "webhook.signature.header: expected 1 to 64"),
        (webhook("h", "''", "s", "1m", REVOKED), "webhook.signature.timestamp: expected 1 to 64"),
        (webhook("h", "t", "'s='", "1m", REVOKED), "webhook.signature.digest: expected 1 to 64"),
        (webhook("h", "t", "t", "1m", REVOKED), "webhook.signature.digest: is the same as"),
        (webhook("h", "t", "s", "1d", REVOKED), "webhook.signature.tolerance: expected 10s to 1h"),
        (webhook("h", "t", "s", "1s", REVOKED), "webhook.signature.tolerance: expected 10s to 1h"),
        (
            webhook("h", "t", "s", "soon", REVOKED),
            "webhook.signature.tolerance: expected a duration",
        ),
        (
            webhook("h", "t", "s", "1m", REVOKED).replace("at: a", "at: 'a b'"),
            "webhook.at: `a b` is no dotted path",
        ),
        (
            webhook("h", "t", "s", "1m", REVOKED).replace("subject: b", "secret: b"),
            "webhook.secret: unknown field `secret`",
        ),
        (
            junk(JUNK_MARK, "eq: a").replace("  params", "  client_auth: none\n  params"),
            "junk: the app is not named in a refresh",
        ),
    ] {
        let error = Provider::from_yaml(&yaml).expect_err(expected).to_string();
        assert!(error.starts_with(expected), "expected `{expected}…`, got `{error}`\n{yaml}");
    }
    let huge = format!("{MINIMAL}# {}", "a".repeat(64 * 1024));
    assert!(Provider::from_yaml(&huge).is_err());
}
