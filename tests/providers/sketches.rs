//! The schema fits providers that are not in the catalogue yet.

use crate::{answered, liveness_word, outcome_word, path, read, refresh_line, token};
use oauth_keepalive::providers::{Endpoints, Provider, Renewal};
use std::{fs, time::Duration};

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
fn the_page_shows_every_sketch_as_it_is_tested() {
    let page = read("docs/providers.md");
    for Sketch { name, .. } in SKETCHES {
        let yaml = read(&format!("tests/fixtures/provider_sketches/{name}.yaml"));
        assert!(page.contains(&format!("```yaml\n{yaml}```\n")), "{name} differs in the page");
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
            "not committed: rate_limited (business_use_case) 400 code 80007 app-wide",
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
