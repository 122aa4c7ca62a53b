//! Tells publishers of gates that moved, by webhooks under a signature.
//!
//! One task for each of them, which nobody waits for. What it has to tell is bounded and holds of each account the newest
//! alone; what is not taken is sent again, later and later, under the same id. After a start every gate that is not open
//! is told again, under the id that it had: whoever knows it already knows it by that. Absent on purpose: a queue on
//! disk. What a gate is can always be told from the gate itself.

use crate::{
    clock::Clock,
    core::{
        AccountId, Event, Gate, Secret, Snapshot, Timestamp,
        moves::{Move, Untold},
        pattern,
    },
    http_client::HttpClient,
    metrics::{Metrics, events::HookResult},
    oauth::{Body, Exchange, Method, Request},
    secrets::SecretRef,
};
use arc_swap::ArcSwap;
use ring::{digest, hmac};
use serde_json::Value;
use std::{sync::Arc, time::Duration};
use tokio::{
    sync::{
        broadcast::{self, error::RecvError},
        watch,
    },
    task::JoinSet,
    time::{Instant, sleep_until},
};

/// Where to tell it. `config` fills it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Settings {
    /// https, or http on this machine.
    pub url: String,
    /// What it is signed with.
    pub secret: SecretRef,
    /// Patterns; accounts that none of them matches are not told.
    pub accounts: Vec<String>,
}

/// One webhook.
pub struct Hook {
    /// Where and how.
    pub settings: Settings,
    /// The way out.
    pub client: Arc<ArcSwap<HttpClient>>,
    /// The program's time.
    pub clock: Clock,
    /// What is so.
    pub snapshot: Arc<ArcSwap<Snapshot>>,
    /// Where it is counted what became of it.
    pub metrics: Metrics,
    /// A move as it is told.
    pub data: fn(&Move) -> Value,
}

/// What is under way and what has yet to be told.
struct Progress {
    untold: Untold,
    /// The turn that is being told.
    sending: JoinSet<(u64, Told)>,
    /// How often the first one was tried.
    tries: u32,
    /// Failures in a row, whatever was told.
    failures: u32,
    next_try: Instant,
    /// False until what was so at the start was told.
    began: bool,
}

enum Told {
    Taken,
    NotTaken { retry_after: Option<Duration> },
}

impl Hook {
    /// Runs until `stop`.
    pub async fn run(
        self,
        mut events: broadcast::Receiver<Event>,
        mut stop: watch::Receiver<bool>,
    ) {
        let mut progress = Progress {
            untold: Untold::default(),
            sending: JoinSet::new(),
            tries: 0,
            failures: 0,
            next_try: Instant::now(),
            began: false,
        };
        let mut look = tokio::time::interval(LOOK_EVERY);
        let mut held = self.snapshot.load().holding;
        loop {
            let may_send = progress.sending.is_empty() && !progress.untold.is_empty();
            tokio::select! {
                _ = stop.wait_for(|stop| *stop) => return,
                event = events.recv() => match event {
                    Ok(Event::GateMoved { id, from, to, why, at }) if self.tells(&id) => {
                        self.push(&mut progress, Move { id, from: Some(from), to, why, at });
                    }
                    Ok(_) => {}
                    Err(RecvError::Lagged(_)) => self.reconcile(&mut progress),
                    Err(RecvError::Closed) => return,
                },
                _ = look.tick() => {
                    let snapshot = self.snapshot.load();
                    // At the start, and when accounts came from another replica that may not have come to it.
                    if snapshot.loaded && (!progress.began || snapshot.holding != held) {
                        let is_start = !std::mem::replace(&mut progress.began, true);
                        held = snapshot.holding;
                        self.reconcile(&mut progress);
                        if is_start {
                            self.tell_opened(&mut progress, &snapshot);
                        }
                    }
                }
                Some(ended) = progress.sending.join_next() => {
                    if let Ok((turn, told)) = ended {
                        self.ended(&mut progress, turn, &told);
                    }
                }
                () = sleep_until(progress.next_try), if may_send => self.send(&mut progress),
            }
        }
    }

    fn tells(&self, id: &AccountId) -> bool {
        let name = id.to_string();
        self.settings.accounts.iter().any(|accounts| pattern::matches(accounts, &name))
    }

    fn push(&self, progress: &mut Progress, one: Move) {
        let dropped = progress.untold.push(one);
        (0..dropped).for_each(|_| self.metrics.gate_webhook(HookResult::Dropped));
    }

    fn reconcile(&self, progress: &mut Progress) {
        let snapshot = self.snapshot.load_full();
        if !snapshot.loaded {
            return;
        }
        let now = self.clock.now();
        let shut = snapshot.accounts.iter().filter(|account| account.door.gate != Gate::Open);
        let shut = shut.filter(|account| self.tells(&account.id)).map(|account| Move {
            id: account.id.clone(),
            from: None,
            to: account.door.gate,
            why: account.door.why,
            at: account.door.since.unwrap_or(now),
        });
        let knows = |id: &AccountId| snapshot.accounts.find(id).is_some();
        let dropped = progress.untold.reconcile(now, shut, knows);
        (0..dropped).for_each(|_| self.metrics.gate_webhook(HookResult::Dropped));
    }

    /// The news that a gate opened may have been lost with the process before this one.
    fn tell_opened(&self, progress: &mut Progress, snapshot: &Snapshot) {
        let now = self.clock.now();
        for account in snapshot.accounts.iter() {
            let door = &account.door;
            let since = door.since.filter(|since| now.since(*since) < OPENED_LATELY);
            if let (Gate::Open, Some(at), true) = (door.gate, since, self.tells(&account.id)) {
                let (id, why) = (account.id.clone(), door.why);
                self.push(progress, Move { id, from: None, to: Gate::Open, why, at });
            }
        }
    }

    fn send(&self, progress: &mut Progress) {
        let Some((turn, one)) = progress.untold.first() else { return };
        let now = self.clock.now();
        let mut body = (self.data)(one);
        let id = delivery_id(one);
        body["id"] = id.clone().into();
        body["event"] = "gate_moved".into();
        let body = body.to_string();
        let secret = match self.settings.secret.read() {
            Ok(secret) => secret,
            Err(error) => {
                tracing::error!(url = %self.settings.url, %error, "a webhook waits, because its secret cannot be read");
                self.ended(progress, turn, &Told::NotTaken { retry_after: None });
                return;
            }
        };
        let request = Request {
            method: Method::Post,
            endpoint: self.settings.url.clone(),
            query: Vec::new(),
            headers: vec![
                (SIGNATURE_HEADER.to_owned(), Secret::new(signature(&secret, now, &body))),
                (ID_HEADER.to_owned(), Secret::new(id)),
            ],
            body: Body::Whole(Secret::new(body)),
        };
        let client = self.client.load_full();
        let place = format!("webhook {}", self.settings.url);
        progress.tries += 1;
        progress.sending.spawn(async move {
            let told = match client.send(&place, request).await {
                Exchange::Answered(answer) if (200..=299).contains(&answer.status) => Told::Taken,
                Exchange::Answered(answer) => Told::NotTaken { retry_after: answer.retry_after },
                Exchange::NotSent(_) | Exchange::Lost(_) => Told::NotTaken { retry_after: None },
            };
            (turn, told)
        });
    }

    fn ended(&self, progress: &mut Progress, turn: u64, told: &Told) {
        let is_still_first = progress.untold.first().is_some_and(|(first, _)| first == turn);
        match told {
            Told::Taken => {
                self.metrics.gate_webhook(HookResult::Delivered);
                progress.failures = 0;
                progress.next_try = Instant::now();
                progress.untold.done(turn);
                progress.tries = 0;
            }
            Told::NotTaken { retry_after } => {
                self.metrics.gate_webhook(HookResult::Failed);
                if progress.failures == 0 {
                    tracing::warn!(url = %self.settings.url, "a webhook was not taken and is sent again");
                }
                let pause = pause(progress.failures, *retry_after);
                progress.failures += 1;
                progress.next_try = Instant::now() + pause;
                if !is_still_first {
                    progress.tries = 0;
                } else if is_given_up(progress.tries) {
                    tracing::error!(url = %self.settings.url, "a webhook was given up; let the publisher read the gates that are not open");
                    self.metrics.gate_webhook(HookResult::GivenUp);
                    progress.untold.done(turn);
                    progress.tries = 0;
                }
            }
        }
    }
}

/// Before another try, after so many failures before this one. Whoever asks for patience has it, within bounds.
fn pause(failures: u32, asked: Option<Duration>) -> Duration {
    let ours = PAUSE_FIRST.saturating_mul(1 << failures.min(16)).min(PAUSE_MAX);
    asked.map_or(ours, |asked| asked.min(PAUSE_MAX).max(ours))
}

const fn is_given_up(tries: u32) -> bool {
    tries >= TRIES_MAX
}

/// The same gate since the same moment has the same id, in this process and in the next one.
#[must_use]
pub fn delivery_id(one: &Move) -> String {
    let mut hash = digest::Context::new(&digest::SHA256);
    let at = one.at.as_unix().to_be_bytes();
    let parts =
        [one.id.provider.as_bytes(), one.id.account.as_bytes(), one.to.as_label().as_bytes(), &at];
    for part in parts {
        // Its length first, so that no two lists of parts are one text.
        hash.update(&(part.len() as u64).to_be_bytes());
        hash.update(part);
    }
    hex(&hash.finish().as_ref()[..16])
}

/// As publishers sign events to us: `t=` the Unix second, `s=` HMAC-SHA256 of `t.body` in hex.
#[must_use]
pub fn signature(secret: &Secret, at: Timestamp, body: &str) -> String {
    let key = hmac::Key::new(hmac::HMAC_SHA256, secret.expose().as_bytes());
    let at = at.as_unix();
    let tag = hmac::sign(&key, format!("{at}.{body}").as_bytes());
    format!("t={at},s={}", hex(tag.as_ref()))
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// What the signature stands in.
pub const SIGNATURE_HEADER: &str = "oauth-keepalive-signature";

/// What the id stands in, beside the body.
pub const ID_HEADER: &str = "oauth-keepalive-delivery";

/// How often one piece of news is tried.
pub const TRIES_MAX: u32 = 12;

/// Gates that opened within this time before a start are told after it.
const OPENED_LATELY: Duration = Duration::from_secs(3_600);

const PAUSE_FIRST: Duration = Duration::from_secs(1);
const PAUSE_MAX: Duration = Duration::from_secs(5 * 60);
const LOOK_EVERY: Duration = Duration::from_millis(500);

#[cfg(test)]
mod tests {
    use super::*;

    fn moved(provider: &str, account: &str, to: Gate, at: i64) -> Move {
        let (id, at) = (AccountId::new(provider, account), Timestamp::from_unix(at));
        Move { id, from: None, to, why: None, at }
    }

    #[test]
    fn a_signature_is_what_openssl_makes_of_instant_and_body() {
        let secret = Secret::new("invented-secret".to_owned());
        assert_eq!(
            signature(&secret, Timestamp::from_unix(1_800_000_000), r#"{"a":1}"#),
            "t=1800000000,s=663162d7e006ea3a31188e0c1ddab2f8df948ddfb278e021c821f433885848a8"
        );
    }

    #[test]
    fn whatever_makes_it_another_piece_of_news_makes_another_id() {
        let all = [
            moved("tiktok", "a", Gate::Held, 1),
            moved("x", "a", Gate::Held, 1),
            moved("tiktok", "b", Gate::Held, 1),
            moved("tiktok", "a", Gate::Canary, 1),
            moved("tiktok", "a", Gate::Held, 2),
            moved("tikto", "ka", Gate::Held, 1),
        ];
        let ids: std::collections::BTreeSet<_> = all.iter().map(delivery_id).collect();
        assert_eq!(ids.len(), all.len());
        let because = Move { why: Some(crate::core::gate::Why::Person), ..all[0].clone() };
        assert_eq!(delivery_id(&because), delivery_id(&all[0]), "the reason may come later");
    }

    #[test]
    fn pauses_double_up_to_a_bound_and_heed_whoever_asks_for_longer_ones() {
        let cases = [
            (0, None, 1),
            (3, None, 8),
            (40, None, 300),
            (0, Some(30), 30),
            (5, Some(2), 32),
            (0, Some(86_400), 300),
        ];
        for (failures, asked, seconds) in cases {
            let made = pause(failures, asked.map(Duration::from_secs));
            assert_eq!(made.as_secs(), seconds, "{failures} failures, asked for {asked:?}");
        }
        assert!((0..TRIES_MAX).all(|tries| !is_given_up(tries)) && is_given_up(TRIES_MAX));
    }
}
