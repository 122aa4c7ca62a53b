//! What the providers of the catalogue are asked, and how their good answers read.

use crate::{answered, outcome_word, path, read, refresh_line, shown, token};
use oauth_keepalive::providers::{self, Endpoints, Provider, Renewal};
use std::{fs, time::Duration};

struct Dialect {
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

const DIALECTS: &[Dialect] = &[
    Dialect {
        name: "instagram",
        request: "GET https://graph.instagram.com/refresh_access_token?grant_type=ig_refresh_token&access_token=at",
        good: EXTENDED,
        refused: (
            400,
            r#"{"error":{"message":"at","type":"OAuthException","code":190,"error_subcode":458,"fbtrace_id":"Ab1"}}"#,
            "dead: consent_revoked 400 code 190/458 log Ab1",
        ),
    },
    Dialect {
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
    Dialect {
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
    Dialect {
        name: "threads",
        request: "GET https://graph.threads.net/refresh_access_token?grant_type=th_refresh_token&access_token=at",
        good: EXTENDED,
        refused: (
            400,
            r#"{"error":{"message":"at","code":190,"fbtrace_id":"Ab1"}}"#,
            "dead: refresh_token_rejected 400 code 190 log Ab1",
        ),
    },
    Dialect {
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
    Dialect {
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
            "dead: refresh_token_rejected 400 code invalid_request",
        ),
    },
    Dialect {
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
    Dialect {
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
    Dialect {
        name: "reddit",
        request: "POST https://www.reddit.com/api/v1/access_token [Authorization: Basic bXkraWQ6bXkrc2VjcmV0] form \
                  grant_type=refresh_token&refresh_token=rt",
        good: (GRANT, GRANTED),
        refused: (
            200,
            r#"{"error":"invalid_grant"}"#,
            "dead: refresh_token_rejected 200 code invalid_grant",
        ),
    },
    Dialect {
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
    Dialect {
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

#[test]
fn each_is_asked_in_its_own_dialect_and_understood() {
    // The other two have tests of their own.
    assert_eq!(DIALECTS.len() + 2, providers::names().len());
    for Dialect { name, request, good, refused } in DIALECTS {
        let provider = providers::find(name).unwrap();
        let endpoints = Endpoints {
            token: provider
                .needs_token_endpoint()
                .then(|| "https://pds.example/xrpc/com.atproto.server.refreshSession".to_owned()),
            ..Endpoints::default()
        };
        assert_eq!(refresh_line(provider, &endpoints), *request, "{name}");
        assert_eq!(outcome_word(provider, &answered(200, good.0)), good.1, "{name}: a good answer");
        let (status, body, expected) = refused;
        assert_eq!(outcome_word(provider, &answered(*status, body)), *expected, "{name}: refused");
    }
}

#[test]
fn each_renews_in_its_own_way() {
    use Renewal::{ExtendInPlace, Rotating, Stable};
    const DAY: u64 = 86_400;
    // Assumed lives are in hours and days.
    for (name, renewal, min_age, access, refresh) in [
        ("bluesky", Rotating, 0, Some(2), Some(90)),
        ("facebook", ExtendInPlace, 0, Some(1_440), None),
        ("google", Stable, 0, None, None),
        ("instagram", ExtendInPlace, DAY, Some(1_440), None),
        ("linkedin", Stable, 0, Some(1_440), Some(365)),
        ("oauth2", Rotating, 0, None, None),
        ("pinterest", Rotating, 0, Some(720), Some(60)),
        ("reddit", Stable, 0, None, None),
        ("snapchat", Rotating, 0, None, None),
        ("threads", ExtendInPlace, DAY, Some(1_440), None),
        ("tiktok", Rotating, 0, Some(2), Some(180)),
        ("tiktok_business", Rotating, 0, Some(24), Some(365)),
        ("x", Rotating, 0, Some(2), None),
    ] {
        let provider = providers::find(name).unwrap();
        assert_eq!(provider.renewal, renewal, "{name}");
        assert_eq!(provider.min_age, Duration::from_secs(min_age), "{name}");
        let life = |units: Option<u64>, unit| units.map(|units| Duration::from_secs(units * unit));
        assert_eq!(provider.assumed_access_life, life(access, 3_600), "{name}");
        assert_eq!(provider.assumed_refresh_life, life(refresh, DAY), "{name}");
    }
}

#[test]
fn each_is_probed_for_free_or_not_at_all() {
    for (name, expected) in [
        ("google", "GET https://oauth2.googleapis.com/tokeninfo?access_token=at"),
        (
            "instagram",
            "GET https://graph.instagram.com/v25.0/me?fields=user_id,username&access_token=at",
        ),
        ("facebook", "GET https://graph.facebook.com/v25.0/me?fields=id&access_token=at"),
        ("threads", "GET https://graph.threads.net/v1.0/me?fields=id,username&access_token=at"),
        ("linkedin", "GET https://api.linkedin.com/v2/userinfo [Authorization: Bearer at]"),
        ("pinterest", "GET https://api.pinterest.com/v5/user_account [Authorization: Bearer at]"),
        ("reddit", "GET https://oauth.reddit.com/api/v1/me [Authorization: Bearer at]"),
        // Billed.
        ("x", "none"),
        // They have none, or one on a server of each account's own choice.
        ("tiktok_business", "none"),
        ("snapchat", "none"),
        ("bluesky", "none"),
    ] {
        let request = providers::find(name)
            .unwrap()
            .probe_request(&Endpoints::default(), &token("at", None))
            .map_or_else(|| "none".to_owned(), |request| shown(&request));
        assert_eq!(request, expected, "{name}");
    }
}

#[test]
fn the_page_speaks_of_each_and_its_example_is_one() {
    let page = read("docs/providers.md");
    for name in providers::names() {
        assert!(page.contains(&format!("\n### {name}\n")), "{name} is not on the page");
    }
    let example = page.split("```yaml\n").find(|part| part.starts_with("name: ")).unwrap();
    let example = Provider::from_yaml(example.split("```").next().unwrap()).unwrap();
    assert_eq!(example.title, "Mastodon");
}

/// The demo plays one provider, and tests play several; nobody else may know one by name.
#[test]
fn no_code_outside_of_providers_knows_one_by_name() {
    let mut files = vec![path("src")];
    let mut found = Vec::new();
    let mut read_files = 0;
    while let Some(file) = files.pop() {
        if file.ends_with("src/providers") || file.ends_with("src/demo") {
            continue;
        }
        if file.is_dir() {
            files.extend(fs::read_dir(file).unwrap().map(|entry| entry.unwrap().path()));
            continue;
        }
        if file.extension().is_none_or(|kind| kind != "rs") || file.ends_with("tests.rs") {
            continue;
        }
        read_files += 1;
        let text = fs::read_to_string(&file).unwrap();
        let text = text.split("#[cfg(test)]").next().unwrap();
        // Examples for people, in comments and raw strings, may name one.
        let is_code = |line: &&str| !line.trim_start().starts_with("//") && !line.contains("r#\"");
        let code: String = text.lines().filter(is_code).collect();
        for name in providers::names() {
            if code.contains(&format!("\"{name}\"")) {
                found.push(format!("{}: {name}", file.display()));
            }
        }
    }
    assert!(read_files > 100, "{read_files} files");
    assert_eq!(found, Vec::<String>::new());
}
