//! Where each provider sends people, what it wants for a code, and where it lets them come back to.

use crate::{answered, outcome_words, shown, token};
use oauth_keepalive::{
    core::Secret,
    oauth::{Credentials, Outcome},
    providers::{self, Asking, Endpoints, Kind, Provider, Returned},
};

const URI: &str = "https://connect.example/connect/callback";

/// RFC 7636 appendix B.
const VERIFIER: &str = "dBjftJeZ4CVP-mB92K27uhbUJU1p1r_wW1gFWFOEjXk";
const CHALLENGE: &str = "E9Melhoa2OwvFrEMTJguCHaoeK1t8URWbuGJSstw-cM";
const HEX: &str = "13d31e961a1ad8ec2f16b10c4c982e0876a878ad6df144566ee1894acb70f9c3";

/// Provider, kind, the address that people are sent to, and the request for their code.
const WAYS: &[(&str, Kind, &str, &str)] = &[
    (
        "tiktok",
        Kind::Web,
        "https://www.tiktok.com/v2/auth/authorize/?client_key=my%20id&response_type=code&scope=one%2Ctwo&redirect_uri=URI&state=st",
        "POST https://open.tiktokapis.com/v2/oauth/token/ form client_key=my id&client_secret=my secret&code=cd&grant_type=authorization_code&redirect_uri=URI",
    ),
    (
        "tiktok",
        Kind::Desktop,
        "https://www.tiktok.com/v2/auth/authorize/?client_key=my%20id&response_type=code&scope=one%2Ctwo&redirect_uri=URI&state=st&code_challenge=HEX&code_challenge_method=S256",
        "POST https://open.tiktokapis.com/v2/oauth/token/ form client_key=my id&client_secret=my secret&code=cd&grant_type=authorization_code&redirect_uri=URI&code_verifier=VERIFIER",
    ),
    (
        "tiktok_business",
        Kind::Web,
        "https://www.tiktok.com/v2/auth/authorize/?client_key=my%20id&response_type=code&scope=one%2Ctwo&redirect_uri=URI&state=st",
        "POST https://business-api.tiktok.com/open_api/v1.3/tt_user/oauth2/token/ json client_id=my id&client_secret=my secret&grant_type=authorization_code&auth_code=cd&redirect_uri=URI",
    ),
    (
        "x",
        Kind::Web,
        "https://x.com/i/oauth2/authorize?response_type=code&client_id=my%20id&redirect_uri=URI&scope=one%20two%20offline.access&state=st&code_challenge=CHALLENGE&code_challenge_method=S256",
        "POST https://api.x.com/2/oauth2/token [Authorization: Basic bXkraWQ6bXkrc2VjcmV0] form grant_type=authorization_code&code=cd&redirect_uri=URI&code_verifier=VERIFIER&client_id=my id",
    ),
    (
        "google",
        Kind::Web,
        "https://accounts.google.com/o/oauth2/v2/auth?client_id=my%20id&redirect_uri=URI&response_type=code&scope=one%20two&access_type=offline&prompt=consent&state=st&code_challenge=CHALLENGE&code_challenge_method=S256",
        "POST https://oauth2.googleapis.com/token form client_id=my id&client_secret=my secret&code=cd&code_verifier=VERIFIER&grant_type=authorization_code&redirect_uri=URI",
    ),
    (
        "instagram",
        Kind::Web,
        "https://www.instagram.com/oauth/authorize?client_id=my%20id&redirect_uri=URI&response_type=code&scope=one%2Ctwo&state=st",
        "POST https://api.instagram.com/oauth/access_token form client_id=my id&client_secret=my secret&grant_type=authorization_code&redirect_uri=URI&code=cd",
    ),
    (
        "facebook",
        Kind::Web,
        "https://www.facebook.com/v25.0/dialog/oauth?client_id=my%20id&redirect_uri=URI&response_type=code&scope=one%2Ctwo&state=st",
        "GET https://graph.facebook.com/v25.0/oauth/access_token?client_id=my id&client_secret=my secret&redirect_uri=URI&code=cd",
    ),
    (
        "threads",
        Kind::Web,
        "https://threads.net/oauth/authorize?client_id=my%20id&redirect_uri=URI&response_type=code&scope=one%2Ctwo&state=st",
        "POST https://graph.threads.net/oauth/access_token form client_id=my id&client_secret=my secret&grant_type=authorization_code&redirect_uri=URI&code=cd",
    ),
    (
        "linkedin",
        Kind::Web,
        "https://www.linkedin.com/oauth/v2/authorization?response_type=code&client_id=my%20id&redirect_uri=URI&state=st&scope=one%20two",
        "POST https://www.linkedin.com/oauth/v2/accessToken form grant_type=authorization_code&code=cd&client_id=my id&client_secret=my secret&redirect_uri=URI",
    ),
    (
        "pinterest",
        Kind::Web,
        "https://www.pinterest.com/oauth/?client_id=my%20id&redirect_uri=URI&response_type=code&scope=one%2Ctwo&state=st",
        "POST https://api.pinterest.com/v5/oauth/token [Authorization: Basic bXkraWQ6bXkrc2VjcmV0] form grant_type=authorization_code&code=cd&redirect_uri=URI&continuous_refresh=true",
    ),
    (
        "reddit",
        Kind::Web,
        "https://www.reddit.com/api/v1/authorize?client_id=my%20id&response_type=code&state=st&redirect_uri=URI&duration=permanent&scope=one%20two",
        "POST https://www.reddit.com/api/v1/access_token [Authorization: Basic bXkraWQ6bXkrc2VjcmV0] form grant_type=authorization_code&code=cd&redirect_uri=URI",
    ),
    (
        "snapchat",
        Kind::Web,
        "https://accounts.snapchat.com/login/oauth2/authorize?response_type=code&client_id=my%20id&redirect_uri=URI&scope=one%20two&state=st",
        "POST https://accounts.snapchat.com/login/oauth2/access_token form grant_type=authorization_code&code=cd&client_id=my id&client_secret=my secret&redirect_uri=URI",
    ),
    (
        "oauth2",
        Kind::Web,
        "https://id.example/authorize?response_type=code&client_id=my%20id&redirect_uri=URI&scope=one%20two&state=st&code_challenge=CHALLENGE&code_challenge_method=S256",
        "POST https://id.example/token [Authorization: Basic bXkraWQ6bXkrc2VjcmV0] form grant_type=authorization_code&code=cd&redirect_uri=URI&client_id=my id&code_verifier=VERIFIER",
    ),
];

fn endpoints(provider: &Provider) -> Endpoints {
    let needs = provider.needs_token_endpoint();
    Endpoints {
        token: needs.then(|| "https://id.example/token".to_owned()),
        authorize: needs.then(|| "https://id.example/authorize".to_owned()),
        ..Endpoints::default()
    }
}

fn credentials() -> Credentials {
    let secret = Some(Secret::new("my secret".to_owned()));
    Credentials { client_id: "my id".to_owned(), client_secret: secret }
}

fn spelled(pattern: &str, uri: &str) -> String {
    let values = [("URI", uri), ("HEX", HEX), ("CHALLENGE", CHALLENGE), ("VERIFIER", VERIFIER)];
    values.iter().fold(pattern.to_owned(), |text, (name, value)| text.replace(name, value))
}

#[test]
fn every_provider_sends_people_to_its_page_and_wants_the_code_in_its_own_dialect() {
    let encoded = "https%3A%2F%2Fconnect.example%2Fconnect%2Fcallback";
    for (name, kind, page, request) in WAYS {
        let provider = providers::find(name).unwrap();
        let endpoints = endpoints(provider);
        let verifier = Secret::new(VERIFIER.to_owned());
        let verifier = provider.uses_pkce(*kind).then_some(&verifier);
        let asking = Asking {
            client_id: "my id",
            kind: *kind,
            redirect_uri: URI,
            scopes: &provider.scopes_to_ask(&["one".into(), "two".into(), "one".into()]),
            state: "st",
            verifier,
        };
        let url = provider.authorize_url(&endpoints, &asking).unwrap();
        assert_eq!(url, spelled(page, encoded), "{name}");
        let code = Secret::new("cd".to_owned());
        let returned = Returned { code: &code, redirect_uri: URI, verifier };
        let exchange = provider.exchange_request(&endpoints, &credentials(), &returned).unwrap();
        assert_eq!(shown(&exchange), spelled(request, URI), "{name}");
    }
    let mut named: Vec<_> = WAYS.iter().map(|(name, ..)| *name).collect();
    named.push("bluesky");
    named.sort_unstable();
    named.dedup();
    assert_eq!(named, providers::names());
}

#[test]
fn bluesky_has_no_consent_page_and_says_what_to_do_instead() {
    let provider = providers::find("bluesky").unwrap();
    assert!(provider.instead_of_consent().unwrap().contains("app password"));
    assert!(!provider.has_kind(Kind::Web) && !provider.has_kind(Kind::Desktop));
    assert!(providers::find("tiktok").unwrap().instead_of_consent().is_none());
}

#[test]
fn what_meta_appends_to_a_code_is_not_sent_back() {
    for (name, suffix) in [("instagram", "#_"), ("threads", "#_"), ("facebook", "#_=_")] {
        let provider = providers::find(name).unwrap();
        for (code, sent) in [("cd", "cd"), ("cd#", "cd#"), (&*format!("cd{suffix}"), "cd")] {
            let code = Secret::new(code.to_owned());
            let returned = Returned { code: &code, redirect_uri: URI, verifier: None };
            let request =
                provider.exchange_request(&Endpoints::default(), &credentials(), &returned);
            let shown = shown(&request.unwrap());
            assert!(shown.contains(&format!("code={sent}")), "{shown}");
            assert!(!shown.contains(&format!("code={sent}#_")), "{shown}");
        }
    }
    let blank = Secret::new("#_".to_owned());
    let returned = Returned { code: &blank, redirect_uri: URI, verifier: None };
    let instagram = providers::find("instagram").unwrap();
    let request = instagram.exchange_request(&Endpoints::default(), &credentials(), &returned);
    assert!(request.is_none(), "an empty code is none");
}

#[test]
fn a_short_lived_token_is_made_a_long_lived_one_where_the_provider_has_both() {
    let expected = [
        (
            "instagram",
            "GET https://graph.instagram.com/access_token?grant_type=ig_exchange_token&client_secret=my secret&access_token=at",
        ),
        (
            "threads",
            "GET https://graph.threads.net/access_token?grant_type=th_exchange_token&client_secret=my secret&access_token=at",
        ),
        (
            "facebook",
            "GET https://graph.facebook.com/v25.0/oauth/access_token?grant_type=fb_exchange_token&client_id=my id&client_secret=my secret&fb_exchange_token=at",
        ),
    ];
    for name in providers::names() {
        let provider = providers::find(name).unwrap();
        let request =
            provider.lengthen_request(&Endpoints::default(), &credentials(), &token("at", None));
        let shown = request.as_ref().map(shown);
        let wanted = expected.iter().find(|(known, _)| *known == name).map(|(_, line)| *line);
        assert_eq!(shown.as_deref(), wanted, "{name}");
    }
}

#[test]
fn an_answer_to_a_code_is_read_where_its_own_keys_stand() {
    let instagram = providers::find("instagram").unwrap();
    let body = r#"{"access_token":"at","user_id":17,"permissions":["one","two"]}"#;
    let outcome = instagram.exchanged(&answered(200, body), crate::NOW);
    assert_eq!(
        outcome_words(&outcome),
        r#"committed: at None None None Some(["one", "two"]) None"#
    );
    let tiktok = providers::find("tiktok").unwrap();
    let spent = r#"{"error":"invalid_grant","error_description":"Authorization code is expired."}"#;
    let Outcome::Dead(evidence) = tiktok.exchanged(&answered(200, spent), crate::NOW) else {
        panic!("a code that is spent is finished");
    };
    assert_eq!(evidence.detail.as_deref(), Some("auth_code_expired"));
}

#[test]
fn an_answer_without_scopes_means_all_of_them_by_the_rfc_and_nothing_at_meta() {
    let asked = ["one".to_owned()];
    for (name, expected) in [("google", true), ("instagram", false), ("facebook", false)] {
        let granted = providers::find(name).unwrap().granted_unsaid(&asked);
        assert_eq!(granted.is_some(), expected, "{name}");
    }
}

/// Each rule from both sides: the same address once within and once beyond it.
#[test]
fn a_redirect_uri_is_held_against_each_rule() {
    const FITS: &str = "";
    let long = |length: usize| format!("https://a.example/{}", "x".repeat(length - 18));
    let rows: &[(&str, Kind, &str, &str)] = &[
        ("tiktok", Kind::Web, "https://a.example/connect/callback", FITS),
        ("tiktok", Kind::Web, "http://a.example/connect/callback", "takes https"),
        ("tiktok", Kind::Web, "http://127.0.0.1:1/c", "takes https"),
        ("tiktok", Kind::Web, "https://a.example/c?x=1", "has a query"),
        ("tiktok", Kind::Web, &long(511), FITS),
        ("tiktok", Kind::Web, &long(512), "at most 511"),
        ("tiktok", Kind::Desktop, "http://127.0.0.1:8643/c", FITS),
        ("tiktok", Kind::Desktop, "https://localhost:8643/c", FITS),
        ("tiktok", Kind::Desktop, "http://127.0.0.1/c", "has no port"),
        ("tiktok", Kind::Desktop, "http://a.example:8643/c", "localhost or 127.0.0.1 only"),
        ("tiktok_business", Kind::Web, "https://a.example/c/", FITS),
        ("tiktok_business", Kind::Web, "https://a.example/c", "does not end in `/`"),
        ("google", Kind::Web, "http://localhost:1/c", FITS),
        ("google", Kind::Web, "http://127.0.0.1:1/c", FITS),
        ("google", Kind::Web, "http://[::1]:1/c", FITS),
        ("google", Kind::Web, "https://192.0.2.1/c", "address in figures"),
        ("google", Kind::Web, "http://a.example/c", "https, or http to this machine"),
        ("x", Kind::Web, "http://127.0.0.1:1/c", FITS),
        ("x", Kind::Web, "http://localhost:1/c", "write 127.0.0.1"),
        ("oauth2", Kind::Web, "https://192.0.2.1/c?x=1", FITS),
        ("oauth2", Kind::Web, "https://a.example/c#f", "has a fragment"),
        ("oauth2", Kind::Web, "https://user@a.example/c", "has a user name"),
        ("oauth2", Kind::Web, "https://*.a.example/c", "has a `*`"),
        ("oauth2", Kind::Web, "https://A.example/c", "write https://a.example/c"),
        ("oauth2", Kind::Web, "https://a.example:443/c", "write https://a.example/c"),
        ("oauth2", Kind::Web, "https://a.example", "write https://a.example/"),
        ("oauth2", Kind::Web, "/connect/callback", "is not an absolute URL"),
        ("oauth2", Kind::Web, "myapp://a/c", "begins with myapp://"),
    ];
    for (name, kind, uri, expected) in rows {
        let faults = providers::find(name).unwrap().redirect_faults(*kind, uri);
        match *expected {
            FITS => assert!(faults.is_empty(), "{name} {uri}: {faults:?}"),
            word => assert!(
                faults.iter().any(|fault| fault.contains(word)),
                "{name} {uri}: {faults:?} has no {word}"
            ),
        }
    }
}

const DESCRIBED: &str = "\
name: mine
title: Mine
docs: https://docs.example/oauth
renewal: rotating
refresh:
  params: {client_id: '{client_id}', refresh_token: '{refresh_token}'}
authorize:
  params: {client_id: '{client_id}', redirect_uri: '{redirect_uri}', state: '{state}', code_challenge: '{code_challenge}', code_challenge_method: '{code_challenge_method}'}
  exchange:
    params: {client_id: '{client_id}', code: '{code}', redirect_uri: '{redirect_uri}', code_verifier: '{code_verifier}'}
  web:
    pkce: {need: required}
";

#[test]
fn what_a_described_provider_says_of_consent_is_held_against_itself() {
    assert!(Provider::from_yaml(DESCRIBED).unwrap().uses_pkce(Kind::Web));
    let rows = [
        (", state: '{state}'", "", "authorize.params: nothing sends `{state}`"),
        (
            "{client_id: '{client_id}', redirect",
            "{redirect",
            "authorize.params: nothing sends `{client_id}`",
        ),
        ("state: '{state}'", "state: '{nonce}'", "authorize.params.state: expected at most one"),
        ("code: '{code}', ", "", "authorize.exchange.params: nothing sends `{code}`"),
        (
            "    params: {client_id: '{client_id}', code",
            "    params: {code",
            "authorize.exchange.client_auth: the app is not named",
        ),
        (
            "    params: {client_id",
            "    client_auth: none\n    params: {client_id",
            "authorize.exchange.client_auth: a code is given",
        ),
        (
            ", redirect_uri: '{redirect_uri}', code_verifier",
            ", code_verifier",
            "authorize.exchange.params: nothing sends `{redirect_uri}`",
        ),
        (", code_verifier: '{code_verifier}'", "", "authorize.web.pkce: is used, yet"),
        ("  web:\n    pkce: {need: required}\n", "", "authorize: is for no kind of app"),
        ("need: required", "need: sometimes", "authorize.web.pkce.need: unknown variant"),
        (
            "need: required}",
            "need: required}\n    redirect: {schemes: []}",
            "authorize.web.redirect.schemes: is empty",
        ),
        (
            "need: required}",
            "need: required}\n    redirect: {characters_max: 9999}",
            "authorize.web.redirect.characters_max: expected 1 to",
        ),
        (
            "authorize:\n",
            "instead_of_consent: no\nauthorize:\n",
            "instead_of_consent: contradicts `authorize`",
        ),
        (
            "    pkce: {need: required}",
            "    pkce: {need: required}\n  lengthen: {params: {a: b}}",
            "authorize.lengthen.params: nothing sends `{access_token}`",
        ),
    ];
    for (from, to, expected) in rows {
        assert!(DESCRIBED.contains(from), "{from}");
        let error = Provider::from_yaml(&DESCRIBED.replacen(from, to, 1)).unwrap_err().to_string();
        assert!(error.starts_with(expected), "{error} does not begin with {expected}");
    }
}
