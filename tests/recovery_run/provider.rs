//! The demo's provider as a program of its own, for `tests/recovery`.
//!
//! Its first line of output says where it listens. Then it does what each line of its input asks, answers with one
//! line, and ends with its input. Instants are Unix seconds, so that its log can be laid beside those of others. It
//! decides nothing and judges nothing: what it saw is for `tests/recovery_run/main.py` to judge.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on ends")]

use oauth_keepalive::{
    connect::links::Links,
    core::{AccountId, Timestamp},
    demo::provider::{Call, Fault, Lasting, LogEntry, Provider, ProviderSettings, Surface, What},
    oauth::Token,
    state::{Settings, State},
};
use serde::Deserialize;
use serde_json::{Value, json};
use std::{
    io::stdin,
    path::PathBuf,
    time::{Duration, SystemTime},
};

/// A line of the input.
#[derive(Deserialize)]
#[serde(tag = "do", rename_all = "snake_case", deny_unknown_fields)]
enum Order {
    /// People may be sent back to this address.
    Register { uri: String },
    /// An owner agrees, so many seconds ago; answered with the token.
    Connect { account: String, scopes: Vec<String>, age: u64 },
    /// An owner takes the consent back.
    Revoke { account: String },
    /// Whoever comes to the consent page is this account, unless the form says otherwise.
    SignIn { account: String },
    /// The next code of this account is answered with an error before it is looked at.
    FailNext { account: String, status: u16 },
    /// Whether the newest token of an account is the one of the store: its access and its refresh token.
    Current { account: String },
    /// A link that ended a minute ago, signed with the key of this state.
    OldLink { state: PathBuf, base: String, account: String },
    /// Everything that was asked so far.
    Log,
    /// Every secret that must be nowhere but in the store.
    Issued,
}

#[tokio::main(flavor = "multi_thread")]
async fn main() {
    let settings = ProviderSettings {
        life: LIFE,
        client_secret: CLIENT_SECRET.to_owned(),
        ..ProviderSettings::default()
    };
    let client_id = settings.client_key.clone();
    let provider = Provider::start(settings).await.unwrap();
    let about = json!({
        "client_id": client_id,
        "client_secret": CLIENT_SECRET,
        "post": provider.post_url(),
        "endpoints": {
            "token": provider.token_url(),
            "probe": provider.probe_url(),
            "publish_check": provider.creator_info_url(),
            "authorize": provider.authorize_url(),
        },
    });
    println!("{about}");
    // Nothing else happens on this thread: requests are answered on the others.
    for line in stdin().lines() {
        println!("{}", carry_out(&provider, serde_json::from_str(&line.unwrap()).unwrap()).await);
    }
}

async fn carry_out(provider: &Provider, order: Order) -> Value {
    match order {
        Order::Register { uri } => provider.register_redirect_uri(&uri),
        Order::Connect { account, scopes, age } => {
            let scopes: Vec<&str> = scopes.iter().map(String::as_str).collect();
            return token(&provider.connect(&account, &scopes, Duration::from_secs(age)));
        }
        Order::Revoke { account } => provider.revoke_consent(&account),
        Order::SignIn { account } => provider.sign_in(&account),
        Order::FailNext { account, status } => {
            let fault = Fault::StatusBefore(status);
            provider.plant(Some(&account), Surface::Token, fault, Lasting::Times(1));
        }
        Order::Current { account } => return token(&provider.current(&account).unwrap()),
        Order::OldLink { state, base, account } => {
            let state = State::open(&Settings::in_directory(state)).await.unwrap();
            let links = Links::new(state.link_key(), base, Duration::from_secs(1));
            return json!(links.mint(&AccountId::new("tiktok", account), a_minute_ago()));
        }
        Order::Log => return log(provider),
        Order::Issued => return json!(provider.issued()),
    }
    json!({})
}

fn token(token: &Token) -> Value {
    let unix = |at: Option<Timestamp>| at.map(Timestamp::as_unix);
    json!({
        "access_token": token.access.expose(),
        "refresh_token": token.refresh.as_ref().map(|refresh| refresh.expose()),
        "issued_at": unix(token.issued_at),
        "expires_at": unix(token.expires_at),
        "refresh_expires_at": unix(token.refresh_expires_at),
        "scopes": token.scopes,
        "subject": token.subject,
    })
}

fn log(provider: &Provider) -> Value {
    assert_eq!(provider.log_cut(), 0, "an incomplete log proves nothing");
    let started = SystemTime::now() - provider.uptime();
    let started = started.duration_since(SystemTime::UNIX_EPOCH).unwrap();
    let entry = |entry: LogEntry| {
        let (what, outcome) = match entry.what {
            What::Refresh(refreshed) => ("refresh", format!("{refreshed:?}")),
            What::Question(refreshed) => ("question", format!("{refreshed:?}")),
            What::Code { issued } => ("code", if issued { "issued" } else { "refused" }.to_owned()),
            What::Api { call: Call::UserInfo, code, .. } => ("probe", code.to_owned()),
            What::Api { call: Call::CreatorInfo, code, .. } => ("publish_check", code.to_owned()),
            What::Api { call: Call::Post, code, .. } => ("post", code.to_owned()),
        };
        json!({
            "at": (started + entry.at).as_secs_f64(),
            "account": entry.account,
            "what": what,
            "outcome": outcome,
        })
    };
    Value::Array(provider.log().into_iter().map(entry).collect())
}

fn a_minute_ago() -> Timestamp {
    let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap();
    Timestamp::from_unix(i64::try_from(now.as_secs()).unwrap() - 60)
}

/// Nothing is due while the story is told.
const LIFE: Duration = Duration::from_secs(7_200);

const CLIENT_SECRET: &str = "invented-client-secret-4b7d";
