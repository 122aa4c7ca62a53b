//! The question about the app, asked with a refresh token that is nobody's: who may be asked, how, and what
//! the answers say.

use crate::{answered, credentials, read, recorded, shown, words};
use oauth_keepalive::{
    oauth::{Exchange, Standing, Trouble},
    providers::{self, Endpoints, Environment, JUNK_MARK, Provider, Renewal},
};

fn standing_word(provider: &Provider, exchange: &Exchange) -> String {
    match provider.standing(exchange, crate::NOW) {
        Standing::Accepted => "accepted".to_owned(),
        Standing::Refused(evidence) => format!("refused: {}", words(&evidence)),
        Standing::Unclear(evidence) => format!("unclear: {}", words(&evidence)),
    }
}

#[test]
fn only_those_are_asked_whose_pages_or_clients_say_what_the_two_answers_are() {
    let asked: Vec<&str> = providers::names()
        .into_iter()
        .filter(|name| providers::find(name).unwrap().can_be_asked_about_apps())
        .collect();
    assert_eq!(asked, ["google", "oauth2", "tiktok", "x"]);
    for name in providers::names() {
        let provider = providers::find(name).unwrap();
        let has_refresh_token = matches!(provider.renewal, Renewal::Rotating | Renewal::Stable);
        assert!(has_refresh_token || !provider.can_be_asked_about_apps(), "{name}");
        let token = Some("https://token.example/".to_owned());
        let endpoints = Endpoints { token, ..Endpoints::default() };
        let question = provider.question_about_app(&endpoints, &credentials(Some("my secret")));
        assert_eq!(question.is_some(), provider.can_be_asked_about_apps(), "{name}");
    }
}

#[test]
fn the_question_is_a_refresh_with_a_token_that_everybody_can_see_to_be_nobodys() {
    let question = |name, secret| {
        let provider = providers::find(name).unwrap();
        let endpoints =
            Endpoints { token: Some("https://token.example/".to_owned()), ..Endpoints::default() };
        shown(&provider.question_about_app(&endpoints, &credentials(secret)).unwrap())
    };
    for name in ["google", "oauth2", "tiktok", "x"] {
        let question = question(name, Some("my secret"));
        assert_eq!(question.matches(JUNK_MARK).count(), 1, "{name}: {question}");
    }
    assert_eq!(
        question("tiktok", Some("my secret")),
        "POST https://token.example/ form client_key=my id&client_secret=my secret&\
         grant_type=refresh_token&\
         refresh_token=rft.oauth-keepalive-asks-about-the-app.nobodys-token"
    );
    let public = question("oauth2", None);
    assert!(!public.contains("Authorization"), "{public}");
}

#[test]
fn the_answer_says_whether_the_app_is_accepted_and_anything_unforeseen_says_nothing() {
    const DEAD_AT_X: &str = r#"{"error":"invalid_request","error_description":"Value passed for the token was invalid."}"#;
    const REFUSED_AT_X: &str = r#"{"error":"unauthorized_client","error_description":"Missing valid authorization header"}"#;
    const WITH_TOKEN: &str = r#"{"access_token":"invented","error":"invalid_grant"}"#;
    let refused = r#"{"error":"invalid_client"}"#;
    let dead = r#"{"error":"invalid_grant"}"#;
    for (provider, status, body, expected) in [
        ("tiktok", 200, dead, "accepted"),
        ("tiktok", 400, dead, "accepted"),
        ("tiktok", 401, dead, "accepted"),
        (
            "tiktok",
            200,
            refused,
            "refused: app_credentials_rejected 200 code invalid_client app-wide",
        ),
        (
            "tiktok",
            400,
            r#"{"error":"unauthorized_client"}"#,
            "refused: app_credentials_rejected 400 code unauthorized_client app-wide",
        ),
        (
            "tiktok",
            400,
            r#"{"error":"invalid_request"}"#,
            "unclear: unknown (request_malformed) 400 code invalid_request",
        ),
        ("tiktok", 500, dead, "unclear: provider_outage 500 code invalid_grant"),
        ("tiktok", 503, "<html>", "unclear: provider_outage 503"),
        ("tiktok", 429, "", "unclear: rate_limited 429"),
        ("tiktok", 307, dead, "unclear: provider_outage (redirect_refused) 307 code invalid_grant"),
        ("tiktok", 200, "<html>", "unclear: unknown (unrecognized_answer) 200"),
        ("tiktok", 200, WITH_TOKEN, "unclear: unknown (junk_was_taken) 200 code invalid_grant"),
        ("google", 400, dead, "accepted"),
        (
            "google",
            401,
            refused,
            "refused: app_credentials_rejected 401 code invalid_client app-wide",
        ),
        // An account's trouble elsewhere; of an app it says nothing.
        (
            "google",
            400,
            r#"{"error":"admin_policy_enforced"}"#,
            "unclear: consent_revoked (admin_policy) 400 code admin_policy_enforced",
        ),
        ("x", 400, DEAD_AT_X, "accepted"),
        (
            "x",
            401,
            REFUSED_AT_X,
            "refused: app_credentials_rejected 401 code unauthorized_client app-wide",
        ),
        // X says `invalid_request` to a malformed request as well.
        (
            "x",
            400,
            r#"{"error":"invalid_request"}"#,
            "unclear: unknown (unrecognized_answer) 400 code invalid_request",
        ),
        ("oauth2", 400, dead, "accepted"),
        (
            "oauth2",
            401,
            refused,
            "refused: app_credentials_rejected 401 code invalid_client app-wide",
        ),
        ("oauth2", 404, "", "unclear: unknown (unrecognized_answer) 404"),
    ] {
        let exchange = answered(status, body);
        let provider = providers::find(provider).unwrap();
        assert_eq!(standing_word(provider, &exchange), expected, "{} {body}", provider.name);
    }
}

#[test]
fn a_sandbox_that_refuses_every_token_still_says_that_it_knows_the_app() {
    let sandbox = providers::find_in("tiktok", Environment::Sandbox).unwrap();
    let dead = answered(200, r#"{"error":"invalid_grant"}"#);
    assert_eq!(standing_word(sandbox, &dead), "accepted");
    let refused = recorded("tiktok/token_invalid_client");
    assert!(standing_word(sandbox, &refused).starts_with("refused: app_credentials_rejected"));
}

#[test]
fn silence_says_nothing_about_the_app_and_a_pause_that_was_asked_for_is_kept() {
    let tiktok = providers::find("tiktok").unwrap();
    for trouble in [Trouble::Connect, Trouble::Crowded] {
        let said = standing_word(tiktok, &Exchange::NotSent(trouble));
        assert!(said.starts_with("unclear: provider_outage"), "{said}");
    }
    let said = standing_word(tiktok, &Exchange::Lost(Trouble::Deadline));
    assert_eq!(said, "unclear: provider_outage (deadline_passed)");
    let Exchange::Answered(answer) = answered(429, "") else { unreachable!("it was answered") };
    let asked = std::time::Duration::from_secs(30);
    let limited =
        Exchange::Answered(oauth_keepalive::oauth::Answer { retry_after: Some(asked), ..answer });
    assert_eq!(standing_word(tiktok, &limited), "unclear: rate_limited 429 after 30s");
}

#[test]
fn no_file_of_the_catalogue_holds_a_token_that_could_be_somebodys() {
    for name in providers::names() {
        let text = read(&format!("src/providers/data/{name}.yaml"));
        let junk = text.lines().filter(|line| line.trim_start().starts_with("refresh_token: "));
        // Those of requests are placeholders, those of answers are paths.
        for line in junk.filter(|line| !line.contains('{') && line.contains('.')) {
            assert!(line.contains(JUNK_MARK), "{name}: {line}");
        }
    }
}
