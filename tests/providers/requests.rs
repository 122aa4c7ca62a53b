//! What the providers of the catalogue are asked.

use crate::{credentials, refresh_line, shown, token};
use oauth_keepalive::providers::{self, Endpoints, Renewal};
use std::time::Duration;

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
        publish_check: Some("http://127.0.0.1:1/c/".to_owned()),
        ..Endpoints::default()
    };
    assert!(refresh_line(tiktok, &endpoints).starts_with("POST http://127.0.0.1:1/t/ form "));
    let probe = tiktok.probe_request(&endpoints, &token("at", None)).unwrap();
    assert!(shown(&probe).starts_with("GET http://127.0.0.1:1/p/?fields=open_id "));
    let check = tiktok.publish_check_request(&endpoints, &token("at", None)).unwrap();
    assert!(shown(&check).starts_with("POST http://127.0.0.1:1/c/"));
    let elsewhere = Endpoints { publish_check: None, ..endpoints };
    assert!(
        tiktok.publish_check_request(&elsewhere, &token("at", None)).is_none(),
        "an app with a token endpoint of its own does not live where the provider's check is"
    );
}

#[test]
fn the_generic_provider_needs_endpoints_and_names_the_app_by_basic() {
    let oauth2 = providers::find("oauth2").unwrap();
    assert!(oauth2.needs_token_endpoint());
    assert_eq!(refresh_line(oauth2, &Endpoints::default()), "none");
    let endpoints =
        Endpoints { token: Some("https://id.example/token".to_owned()), ..Endpoints::default() };
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

#[test]
fn a_check_that_costs_money_is_asked_for_by_that_name_only() {
    let endpoints = Endpoints::default();
    let mut billed = Vec::new();
    for name in providers::names() {
        let provider = providers::find(name).unwrap();
        let (free, costly) =
            (provider.can_probe(&endpoints), provider.can_probe_for_money(&endpoints));
        assert!(!(free && costly), "{name}");
        let token = token("at", None);
        assert_eq!(provider.probe_request(&endpoints, &token).is_some(), free, "{name}");
        assert_eq!(provider.billed_probe_request(&endpoints, &token).is_some(), costly, "{name}");
        billed.extend(costly.then_some(name));
    }
    assert_eq!(billed, ["x"]);
    let x = providers::find("x").unwrap();
    let probe = x.billed_probe_request(&endpoints, &token("at", None)).unwrap();
    assert_eq!(shown(&probe), "GET https://api.x.com/2/users/me [Authorization: Bearer at]");
}
