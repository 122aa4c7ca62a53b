//! The demo's provider over real sockets: its dialect, its rotation, its faults, and its log. What the
//! whole-program tests conclude from its log is only as true as what is held here.
#![allow(clippy::unwrap_used, reason = "what fails here fails a test")]

use oauth_keepalive::{
    core::Secret,
    demo::provider::{
        Call, Fault, Lasting, LogEntry, Provider, ProviderSettings, Refreshed, Surface, What,
    },
};
use serde_json::{Value, json};
use std::{
    sync::Arc,
    time::{Duration, Instant},
};

const SECRET: &str = "demo-secret-invented";
const PUBLISH: [&str; 2] = ["user.info.basic", "video.publish"];

#[tokio::test]
async fn a_refresh_answers_flat_with_comma_scopes_and_retires_the_old_refresh_token() {
    let stage = Stage::start(settings()).await;
    let first = stage.connect("a");

    let answer = stage.refresh(&first).await.json();
    assert_eq!(answer["expires_in"], 60);
    assert_eq!(answer["refresh_expires_in"], 3_600);
    assert_eq!(answer["scope"], "user.info.basic,video.publish");
    assert_eq!(answer["token_type"], "Bearer");
    assert_eq!(answer["open_id"], "demo-open-id-a");
    let second = answer["refresh_token"].as_str().unwrap().to_owned();
    assert_ne!(second, first);

    let refused = stage.refresh(&first).await;
    assert_eq!(refused.status, 200, "TikTok sends its errors with 200");
    assert_eq!(refused.json()["error"], "invalid_grant");
    assert_eq!(stage.refresh(&second).await.status, 200);
    assert_eq!(
        stage.refreshes(),
        [Refreshed::Rotated, Refreshed::Retired, Refreshed::Rotated].map(Some)
    );
    assert_eq!(stage.provider.count(LogEntry::retired_presented), 1);
}

#[tokio::test]
async fn each_refusal_of_the_token_endpoint_has_its_own_shape() {
    for (status, error_status) in [(200, 200), (400, 400), (401, 401)] {
        let stage = Stage::start(ProviderSettings { error_status, ..settings() }).await;
        let token = stage.connect("a");
        let wrong_key = stage.token_request("other-key", SECRET, "refresh_token", &token).await;
        let wrong_secret = stage.token_request(KEY, "old-secret", "refresh_token", &token).await;
        let wrong_grant = stage.token_request(KEY, SECRET, "password", &token).await;
        let stranger = stage.token_request(KEY, SECRET, "refresh_token", "nobodys").await;
        let cases = [
            (wrong_key, "invalid_client", Refreshed::ClientRefused),
            (wrong_secret, "invalid_client", Refreshed::ClientRefused),
            (wrong_grant, "unsupported_grant_type", Refreshed::Malformed),
            (stranger, "invalid_grant", Refreshed::Stranger),
        ];
        let logged = stage.refreshes();
        for ((answer, error, refreshed), logged) in cases.into_iter().zip(logged) {
            assert_eq!(answer.status, status, "{error}");
            assert_eq!(answer.json()["error"], error);
            assert!(answer.json()["log_id"].is_string(), "{error}");
            assert!(answer.json()["error_description"].is_string(), "{error}");
            assert_eq!(logged, Some(refreshed), "{error}");
        }
        assert_eq!(stage.refresh(&token).await.json()["expires_in"], 60, "nothing was spent");
    }
}

#[tokio::test]
async fn a_json_body_gets_200_and_an_error() {
    let stage = Stage::start(ProviderSettings { error_status: 400, ..settings() }).await;
    let token = stage.connect("a");
    let body = json!({ "client_key": KEY, "client_secret": SECRET, "grant_type": "refresh_token",
        "refresh_token": token });
    let request = stage.client.post(stage.provider.token_url());
    let answer = send(request.header("Content-Type", "application/json").body(body.to_string()));
    let answer = answer.await.unwrap();
    assert_eq!(answer.status, 200);
    assert_eq!(answer.json()["error"], "invalid_request");
    let description = answer.json()["error_description"].to_string();
    assert!(description.contains("application/x-www-form-urlencoded"), "{description}");
}

#[tokio::test]
async fn the_api_has_an_error_object_even_on_success_and_tells_dead_tokens_from_missing_scopes() {
    let stage = Stage::start(settings()).await;
    stage.connect("a");
    let whole = stage.access("a");
    let info = stage.get_info(&whole).await;
    assert_eq!(info.status, 200);
    assert_eq!(info.json()["data"]["user"]["open_id"], "demo-open-id-a");
    assert_eq!(info.json()["error"]["code"], "ok");
    assert!(stage.post(&whole).await.json()["data"]["publish_id"].is_string());

    stage.provider.drop_scope("a", "video.publish");
    assert_eq!(stage.post(&whole).await.status, 200, "an issued token keeps its scopes");
    let refresh = stage.provider.current("a").unwrap().refresh.unwrap();
    assert_eq!(stage.refresh(refresh.expose()).await.json()["scope"], "user.info.basic");
    let less = stage.access("a");
    let refused = stage.post(&less).await;
    assert_eq!(refused.status, 401);
    assert_eq!(refused.json()["error"]["code"], "scope_not_authorized");
    assert_eq!(stage.get_info(&less).await.status, 200);

    stage.provider.revoke_consent("a");
    for access in [whole.as_str(), less.as_str(), "nobodys"] {
        let refused = stage.get_info(access).await;
        assert_eq!(refused.status, 401);
        assert_eq!(refused.json()["error"]["code"], "access_token_invalid");
    }
    let calls = stage.provider.count(|entry| {
        matches!(entry.what, What::Api { call: Call::Post, code: "scope_not_authorized", .. })
    });
    assert_eq!(calls, 1);
}

#[tokio::test]
async fn an_access_token_is_refused_from_its_end_on() {
    let life = Duration::from_secs(60);
    let stage = Stage::start(ProviderSettings { life, ..settings() }).await;
    let fresh = stage.provider.connect("fresh", &PUBLISH, life - Duration::from_secs(5));
    let ended = stage.provider.connect("ended", &PUBLISH, life);
    assert_eq!(stage.get_info(fresh.access.expose()).await.status, 200);
    assert_eq!(stage.get_info(ended.access.expose()).await.status, 401);
    assert!(!stage.provider.accepts(ended.access.expose()));
}

#[tokio::test]
async fn a_changed_secret_refuses_the_old_one_and_a_ban_refuses_all() {
    let stage = Stage::start(settings()).await;
    let token = stage.connect("a");
    stage.provider.set_secret("demo-secret-second");
    assert_eq!(stage.refresh(&token).await.json()["error"], "invalid_client");
    stage.provider.ban_secret();
    let answer = stage.token_request(KEY, "demo-secret-second", "refresh_token", &token).await;
    assert_eq!(answer.json()["error"], "invalid_client");
    stage.provider.set_secret(SECRET);
    assert_eq!(stage.refresh(&token).await.json()["expires_in"], 60);
}

#[tokio::test]
async fn an_ended_refresh_token_is_refused() {
    let stage = Stage::start(settings()).await;
    let token = stage.connect("a");
    stage.provider.end_refresh_token_in("a", Duration::ZERO);
    assert_eq!(stage.refresh(&token).await.json()["error"], "invalid_grant");
    assert_eq!(stage.refreshes(), [Some(Refreshed::Ended)]);
}

/// What the client sees of each fault, and whether the refresh token was spent.
#[tokio::test]
async fn faults_that_commit_spend_the_refresh_token_and_the_others_do_not() {
    let pause = Duration::from_millis(1);
    let away = "http://192.0.2.1/".to_owned();
    let cases = [
        (Fault::Drop, Seen::Nothing, false),
        (Fault::LoseAnswer, Seen::Nothing, true),
        (Fault::Truncate, Seen::Nothing, true),
        (Fault::Trickle { pause }, Seen::Token, true),
        (Fault::HangFor(pause), Seen::Token, true),
        (Fault::Latency(pause), Seen::Token, true),
        (Fault::StatusBefore(503), Seen::Status(503), false),
        (Fault::StatusAfter(500), Seen::Status(500), true),
        (Fault::Html200 { commits: false }, Seen::Text("<!doctype html>"), false),
        (Fault::Html200 { commits: true }, Seen::Text("<!doctype html>"), true),
        (Fault::Redirect { status: 307, to: away }, Seen::Status(307), false),
        (Fault::RateLimit { retry_after: Some(3) }, Seen::Status(429), false),
        (Fault::HugeBody { bytes: 1 << 20 }, Seen::LongerThan(1 << 20), true),
        (Fault::Refuse { error: "invalid_grant", description: "" }, Seen::Text("{\"error"), false),
        (Fault::OmitRefreshToken, Seen::Member("refresh_token", Value::Null), false),
        (Fault::BlankRefreshToken, Seen::Member("refresh_token", json!("")), false),
        (Fault::NullRefreshToken, Seen::Member("refresh_token", Value::Null), false),
        (member("expires_in", json!("60")), Seen::Member("expires_in", json!("60")), true),
        (member("open_id", json!("else")), Seen::Member("open_id", json!("else")), true),
        (Fault::NotUtf8, Seen::LongerThan(100), true),
    ];
    for (fault, seen, spends) in cases {
        let stage = Stage::start(settings()).await;
        let token = stage.connect("a");
        stage.connect("b");
        stage.provider.plant(Some("a"), Surface::Token, fault.clone(), Lasting::Times(1));
        seen.check(&fault, stage.try_refresh(&token).await);
        let now = stage.provider.current("a").unwrap().refresh.unwrap();
        assert_eq!(now != Secret::new(token.clone()), spends, "{fault:?}");
        let expected = if spends { "invalid_grant" } else { "" };
        let after = stage.refresh(&token).await.json();
        assert_eq!(after["error"].as_str().unwrap_or_default(), expected, "{fault:?}: second try");
        let log = stage.provider.log();
        assert_eq!(log[0].fault, Some(fault.as_label()));
        assert_eq!(log[1].fault, None, "{fault:?} was planted once");
    }
}

#[tokio::test]
async fn what_is_held_back_comes_when_it_is_let_go_and_is_forgotten_with_its_client() {
    for (fault, spends) in [(Fault::HoldRequest, false), (Fault::HoldAnswer, true)] {
        let stage = Stage::start(settings()).await;
        let token = stage.connect("a");
        let spent =
            || stage.provider.current("a").unwrap().refresh != Some(Secret::new(token.clone()));
        stage.provider.plant(Some("a"), Surface::Token, fault.clone(), Lasting::Times(2));
        tokio::select! {
            _ = stage.refresh(&token) => panic!("{fault:?}: it is answered"),
            () = stage.until_held(1) => assert_eq!(spent(), spends, "{fault:?}"),
        }
        // Its client has gone.
        stage.until_held(0).await;
        assert_eq!(stage.provider.under_way(), 0, "{fault:?}");
        let again = stage.provider.current("a").unwrap().refresh.unwrap().expose().to_owned();
        let (answer, ()) = tokio::join!(stage.refresh(&again), async {
            stage.until_held(1).await;
            assert_eq!(stage.provider.under_way(), 1, "{fault:?}");
            stage.provider.release();
        });
        let body = answer.json();
        let current = stage.provider.current("a").unwrap().access;
        assert_eq!(body["access_token"], current.expose(), "{fault:?}");
    }
}

#[tokio::test]
async fn a_lost_answer_is_had_again_within_the_grace() {
    let grace = Duration::from_secs(30);
    let stage = Stage::start(ProviderSettings { grace, ..settings() }).await;
    let token = stage.connect("a");
    stage.provider.plant(Some("a"), Surface::Token, Fault::LoseAnswer, Lasting::Times(1));
    assert!(stage.try_refresh(&token).await.is_none());
    let probe = stage.refresh(&token).await.json();
    let current = stage.provider.current("a").unwrap().refresh.unwrap();
    assert_eq!(probe["refresh_token"], current.expose());
    assert_eq!(stage.refreshes(), [Refreshed::Rotated, Refreshed::Repeated].map(Some));
    let read_as: Vec<_> = stage.provider.log().iter().map(LogEntry::should_read_as).collect();
    assert_eq!(read_as, [Some("ambiguous"), Some("committed")]);
}

#[tokio::test]
async fn two_requests_for_one_account_at_a_time_are_noticed() {
    let stage = Arc::new(Stage::start(settings()).await);
    let token = stage.connect("a");
    stage.provider.plant(Some("a"), Surface::Token, Fault::HoldRequest, Lasting::Times(2));
    tokio::join!(stage.try_refresh(&token), stage.try_refresh(&token), async {
        stage.until_held(2).await;
        stage.provider.release();
    });
    assert_eq!(stage.provider.count(|entry| entry.overlapped), 1);
    stage.try_refresh(&token).await;
    assert_eq!(stage.provider.count(|entry| entry.overlapped), 1, "the first two have ended");
}

#[tokio::test]
async fn grants_and_secret_outlive_the_provider() {
    let folder = tempfile::tempdir().unwrap();
    let file = Some(folder.path().join("provider.json"));
    let remembering = ProviderSettings { file, ..settings() };
    let stage = Stage::start(remembering.clone()).await;
    let retired = stage.connect("a");
    stage.connect("revoked");
    let token = stage.refresh(&retired).await.json()["refresh_token"].as_str().unwrap().to_owned();
    stage.provider.revoke_consent("revoked");
    let revoked = stage.provider.current("revoked").unwrap();
    stage.provider.set_secret("demo-secret-second");
    drop(stage);

    let stage = Stage::start(remembering).await;
    let secret = stage.provider.client_secret().unwrap();
    assert_eq!(secret.expose(), "demo-secret-second");
    let answers = [
        (retired.as_str(), Refreshed::Retired),
        (revoked.refresh.as_ref().unwrap().expose(), Refreshed::Revoked),
        (token.as_str(), Refreshed::Rotated),
    ];
    for (token, _) in &answers {
        stage.token_request(KEY, secret.expose(), "refresh_token", token).await;
    }
    assert_eq!(stage.refreshes(), answers.map(|(_, refreshed)| Some(refreshed)));
    assert_eq!(stage.get_info(revoked.access.expose()).await.status, 401);
}

#[tokio::test]
async fn every_text_that_was_handed_out_is_listed_for_the_search_for_leaks() {
    let stage = Stage::start(settings()).await;
    let first = stage.connect("a");
    let access = stage.access("a");
    let answer = stage.refresh(&first).await.json();
    let issued = stage.provider.issued();
    let handed_out = [&answer["access_token"], &answer["refresh_token"]];
    let handed_out = handed_out.map(|text| text.as_str().unwrap());
    for text in [SECRET, &first, &access].into_iter().chain(handed_out) {
        assert!(issued.iter().any(|known| known == text), "{text} is not listed");
    }
}

#[tokio::test]
async fn faults_reach_the_api_too() {
    let stage = Stage::start(settings()).await;
    stage.connect("a");
    let access = stage.access("a");
    let limited = Fault::RateLimit { retry_after: Some(7) };
    stage.provider.plant(None, Surface::Api, limited, Lasting::For(Duration::from_secs(60)));
    let answer = stage.post(&access).await;
    assert_eq!((answer.status, answer.retry_after.as_deref()), (429, Some("7")));
    stage.provider.behave();
    assert_eq!(stage.post(&access).await.status, 200);
}

const KEY: &str = "demo-client-key";

fn settings() -> ProviderSettings {
    ProviderSettings {
        client_secret: SECRET.to_owned(),
        refresh_life: Duration::from_secs(3_600),
        ..ProviderSettings::default()
    }
}

fn member(name: &'static str, value: Value) -> Fault {
    Fault::Member { name, value }
}

/// What a client may see of a fault.
#[derive(Debug)]
enum Seen {
    Nothing,
    Token,
    Status(u16),
    Text(&'static str),
    LongerThan(usize),
    Member(&'static str, Value),
}

impl Seen {
    fn check(&self, fault: &Fault, answer: Option<Answer>) {
        let Some(answer) = answer else {
            assert!(matches!(self, Self::Nothing), "{fault:?} was seen as nothing");
            return;
        };
        let as_described = match self {
            Self::Nothing => false,
            Self::Token => answer.json()["access_token"].is_string(),
            Self::Status(status) => {
                answer.status == *status && !answer.text().contains("access_token")
            }
            Self::Text(start) => answer.status == 200 && answer.text().starts_with(start),
            Self::LongerThan(bytes) => answer.body.len() > *bytes,
            Self::Member(name, value) => {
                let body = answer.json();
                body["access_token"].is_string() && body[*name] == *value
            }
        };
        assert!(as_described, "{fault:?} was seen as {}: {}", answer.status, answer.text());
    }
}

struct Stage {
    provider: Provider,
    client: reqwest::Client,
}

struct Answer {
    status: u16,
    retry_after: Option<String>,
    body: Vec<u8>,
}

impl Answer {
    fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }

    fn json(&self) -> Value {
        serde_json::from_slice(&self.body).unwrap_or_else(|_| panic!("no JSON: {}", self.text()))
    }
}

impl Stage {
    async fn start(settings: ProviderSettings) -> Self {
        let provider = Provider::start(settings).await.unwrap();
        Self { provider, client: client() }
    }

    /// Connects an account and answers its refresh token.
    fn connect(&self, account: &str) -> String {
        let token = self.provider.connect(account, &PUBLISH, Duration::ZERO);
        token.refresh.unwrap().expose().to_owned()
    }

    fn access(&self, account: &str) -> String {
        self.provider.current(account).unwrap().access.expose().to_owned()
    }

    fn refreshes(&self) -> Vec<Option<Refreshed>> {
        let log = self.provider.log();
        log.iter()
            .map(|entry| match entry.what {
                What::Refresh(refreshed) => Some(refreshed),
                What::Question(_) | What::Code { .. } | What::Api { .. } => None,
            })
            .collect()
    }

    async fn until_held(&self, expected: usize) {
        let is_so = async {
            while self.provider.held() != expected {
                tokio::task::yield_now().await;
            }
        };
        tokio::time::timeout(Duration::from_secs(60), is_so).await.expect("it is held back");
    }

    async fn refresh(&self, token: &str) -> Answer {
        self.try_refresh(token).await.expect("an answer")
    }

    async fn try_refresh(&self, token: &str) -> Option<Answer> {
        send(self.form(KEY, SECRET, "refresh_token", token)).await
    }

    async fn token_request(&self, key: &str, secret: &str, grant: &str, token: &str) -> Answer {
        send(self.form(key, secret, grant, token)).await.expect("an answer")
    }

    fn form(&self, key: &str, secret: &str, grant: &str, token: &str) -> reqwest::RequestBuilder {
        let form = format!(
            "client_key={key}&client_secret={secret}&grant_type={grant}&refresh_token={token}"
        );
        let request = self.client.post(self.provider.token_url());
        request.header("Content-Type", "application/x-www-form-urlencoded").body(form)
    }

    async fn get_info(&self, access: &str) -> Answer {
        let url = format!("{}?fields=open_id", self.provider.probe_url());
        send(self.client.get(url).bearer_auth(access)).await.expect("an answer")
    }

    async fn post(&self, access: &str) -> Answer {
        send(self.client.post(self.provider.post_url()).bearer_auth(access))
            .await
            .expect("an answer")
    }
}

async fn send(request: reqwest::RequestBuilder) -> Option<Answer> {
    let started = Instant::now();
    let answer = request.send().await.ok()?;
    let status = answer.status().as_u16();
    let header = |name: &str| Some(answer.headers().get(name)?.to_str().ok()?.to_owned());
    assert!(header("date").is_some(), "a provider tells the time");
    let retry_after = header("retry-after");
    let body = answer.bytes().await.ok()?.to_vec();
    assert!(started.elapsed() < Duration::from_secs(60), "the stage is quick");
    Some(Answer { status, retry_after, body })
}

/// No TLS is spoken on the stage, but the client wants to be ready for it.
fn client() -> reqwest::Client {
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let tls = rustls::ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_root_certificates(rustls::RootCertStore::empty())
        .with_no_client_auth();
    reqwest::Client::builder()
        .tls_backend_preconfigured(tls)
        .redirect(reqwest::redirect::Policy::none())
        .no_proxy()
        .timeout(Duration::from_secs(60))
        .build()
        .unwrap()
}
