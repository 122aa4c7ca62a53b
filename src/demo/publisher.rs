//! A stand-in for a publisher: posts on every account with whatever token the store holds, and reports
//! the status codes. It never refreshes, and it never stops posting: what it sees is what a queue would.

use super::{http, stage::read_store};
use crate::core::Secret;
use serde_json::{Value, json};
use std::{
    collections::BTreeMap,
    net::SocketAddr,
    path::PathBuf,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};
use tokio::{task::JoinHandle, time::sleep};

/// What the publisher works with.
#[derive(Debug)]
pub struct PublisherSettings {
    /// The store, in the simple schema.
    pub database: PathBuf,
    /// Where videos are posted.
    pub post_url: String,
    /// Where answers are reported, and the secret for it; `None` keeps them.
    pub reports: Option<(SocketAddr, Secret)>,
    /// From one round of posts to the next.
    pub every: Duration,
    /// Before the first round: after a pause of the whole stage, tokens may have ended with nobody to
    /// blame.
    pub first_after: Duration,
}

/// The publisher, working in this process; it ends when this is dropped.
pub struct Publisher {
    answers: Arc<Mutex<BTreeMap<String, Answers>>>,
    working: JoinHandle<()>,
}

/// What the provider answered one account.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Answers {
    /// Posts that were taken.
    pub posted: u32,
    /// 401 because the token had ended, or its consent was gone.
    pub token_refused: u32,
    /// 401 because a permission was missing.
    pub scope_refused: u32,
    /// Anything else, and no answer at all.
    pub other: u32,
}

impl Answers {
    /// All 401s.
    #[must_use]
    pub const fn unauthorized(&self) -> u32 {
        self.token_refused + self.scope_refused
    }
}

impl Publisher {
    /// Starts to post.
    #[must_use]
    pub fn start(settings: PublisherSettings) -> Self {
        let answers = Arc::new(Mutex::new(BTreeMap::new()));
        let working = tokio::spawn(work(settings, Arc::clone(&answers)));
        Self { answers, working }
    }

    /// What was answered so far, by account.
    #[must_use]
    pub fn answers(&self) -> BTreeMap<String, Answers> {
        self.answers.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

impl Drop for Publisher {
    fn drop(&mut self) {
        self.working.abort();
    }
}

async fn work(settings: PublisherSettings, answers: Arc<Mutex<BTreeMap<String, Answers>>>) {
    let client = http::client();
    sleep(settings.first_after).await;
    loop {
        let database = settings.database.clone();
        let read = tokio::task::spawn_blocking(move || read_store(&database)).await;
        // A store that is locked for a moment costs a round, as it would cost a real publisher.
        let rows = read.ok().and_then(Result::ok).unwrap_or_default();
        let mut reports = Vec::with_capacity(rows.len());
        for row in rows {
            let (status, code) = post(&client, &settings.post_url, &row.access).await;
            let mut answers = answers.lock().unwrap_or_else(PoisonError::into_inner);
            let counts = answers.entry(row.account.clone()).or_default();
            match (status, code.as_str()) {
                (200, _) => counts.posted += 1,
                (401, "access_token_invalid") => counts.token_refused += 1,
                (401, _) => counts.scope_refused += 1,
                _ => counts.other += 1,
            }
            if status != 0 {
                reports.push(json!({
                    "provider": "tiktok", "account": row.account, "status": status, "times": 1,
                }));
            }
        }
        if let Some((address, secret)) = &settings.reports {
            for batch in reports.chunks(BATCH_MAX) {
                report(&client, *address, secret, batch).await;
            }
        }
        sleep(settings.every).await;
    }
}

/// Status and `error.code` of one post; status 0 when there was no answer.
async fn post(client: &reqwest::Client, url: &str, access: &Secret) -> (u16, String) {
    let body = json!({ "post_info": { "privacy_level": "SELF_ONLY" },
        "source_info": { "source": "PULL_FROM_URL", "video_url": "https://demo.invalid/clip.mp4" } });
    let request = client.post(url).bearer_auth(access.expose()).body(body.to_string());
    let Ok(answer) = request.send().await else { return (0, String::new()) };
    let status = answer.status().as_u16();
    let body = answer.bytes().await.unwrap_or_default();
    let body: Value = serde_json::from_slice(&body).unwrap_or_default();
    (status, body["error"]["code"].as_str().unwrap_or_default().to_owned())
}

/// One report. A report that is lost is lost: the counts are a help, and posting goes on.
async fn report(client: &reqwest::Client, to: SocketAddr, secret: &Secret, batch: &[Value]) {
    let request = client
        .post(format!("http://{to}/v1/responses"))
        .bearer_auth(secret.expose())
        .header("Content-Type", "application/json")
        .body(json!({ "responses": batch }).to_string());
    let _ = request.send().await;
}

/// Answers per report.
const BATCH_MAX: usize = 500;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::demo::{
        cast::cast,
        http::{Reply, serve, text_of},
        provider::{Provider, ProviderSettings},
        stage::Stage,
    };
    use hyper::{Response, header::AUTHORIZATION};
    use tokio::{net::TcpListener, sync::mpsc, time::timeout};

    /// A report API that hands on what it is sent.
    async fn reports() -> (SocketAddr, mpsc::UnboundedReceiver<(String, Value)>) {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let (sender, receiver) = mpsc::unbounded_channel();
        tokio::spawn(serve(listener, move |request| {
            let sender = sender.clone();
            async move {
                assert_eq!(request.uri().path(), "/v1/responses");
                let secret = request.headers()[AUTHORIZATION].to_str().unwrap().to_owned();
                let body = text_of(request.into_body()).await.unwrap();
                let _ = sender.send((secret, serde_json::from_str(&body).unwrap()));
                Ok(Response::new(Reply::whole("{}")))
            }
        }));
        (address, receiver)
    }

    #[tokio::test]
    async fn it_posts_with_the_stores_tokens_and_reports_what_was_answered() {
        let folder = tempfile::tempdir().unwrap();
        let provider = Provider::start(ProviderSettings::default()).await.unwrap();
        let mut stage = Stage::set(folder.path(), 3).unwrap();
        let scopes = [&["video.publish"][..], &["video.publish"], &["user.info.basic"]];
        let connect = |(actor, scopes): (crate::demo::cast::Actor, &[&str])| {
            let token = provider.connect(&actor.account, scopes, Duration::ZERO);
            (actor, token)
        };
        let rows: Vec<_> = cast(3).into_iter().zip(scopes).map(connect).collect();
        stage.fill_store(&rows).unwrap();
        provider.revoke_consent("brand-02");

        let (address, mut reported) = reports().await;
        let publisher = Publisher::start(PublisherSettings {
            database: stage.database(),
            post_url: provider.post_url(),
            reports: Some((address, Secret::new("reports-secret".to_owned()))),
            every: Duration::from_secs(600),
            first_after: Duration::ZERO,
        });
        let report = timeout(Duration::from_secs(10), reported.recv()).await.unwrap();
        let (secret, report) = report.unwrap();
        assert_eq!(secret, "Bearer reports-secret");
        let line = |account: &str, status: u16| json!({ "provider": "tiktok", "account": account, "status": status, "times": 1 });
        let lines = [line("brand-01", 200), line("brand-02", 401), line("brand-03", 401)];
        assert_eq!(report, json!({ "responses": lines }));
        let answers = publisher.answers();
        assert_eq!(answers["brand-01"], Answers { posted: 1, ..Answers::default() });
        assert_eq!(answers["brand-02"], Answers { token_refused: 1, ..Answers::default() });
        assert_eq!(answers["brand-03"], Answers { scope_refused: 1, ..Answers::default() });
    }
}
