//! Tells everybody what happened: one log line, one count, one broadcast for each [`Event`].

use crate::{
    core::{AccountId, Event, cause::Actor, event::NOT_SENT, gate::Why},
    metrics::events::Metrics,
};
use std::sync::{Arc, Mutex, PoisonError};
use tokio::sync::broadcast;

/// Where events go. Cheap to clone.
#[derive(Clone)]
pub struct Reporter {
    metrics: Metrics,
    events: broadcast::Sender<Event>,
    /// Whose requests reached the wire, for the keeper to count with the account.
    sent: Arc<Mutex<Vec<AccountId>>>,
}

/// Requests that may wait to be counted with their accounts: far more than can be under way at a time.
const SENT_WAITING_MAX: usize = 65_536;

/// Events that a slow listener may fall behind before it misses some.
pub const EVENTS_BEHIND_MAX: usize = 4_096;

impl Reporter {
    /// Counts into `metrics`.
    #[must_use]
    pub fn new(metrics: Metrics) -> Self {
        let events = broadcast::Sender::new(EVENTS_BEHIND_MAX);
        Self { metrics, events, sent: Arc::default() }
    }

    /// For whoever wants to listen.
    #[must_use]
    pub const fn events(&self) -> &broadcast::Sender<Event> {
        &self.events
    }

    /// The requests that reached the wire since this was last asked.
    #[must_use]
    pub fn take_sent(&self) -> Vec<AccountId> {
        std::mem::take(&mut *self.sent.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// Counts, logs and passes on.
    pub fn report(&self, event: Event) {
        self.metrics.record(&event);
        log(&event);
        if let Event::RequestEnded { id, outcome, .. } = &event
            && *outcome != NOT_SENT
        {
            let mut sent = self.sent.lock().unwrap_or_else(PoisonError::into_inner);
            if sent.len() < SENT_WAITING_MAX {
                sent.push(id.clone());
            }
        }
        // Nobody listening is no failure: the log and the counters are the record.
        let _ = self.events.send(event);
    }
}

/// One line for each event, whose level says what the reader must do: `docs/logs.md`.
fn log(event: &Event) {
    match event {
        Event::StoreRead { accounts, gone, damaged } => {
            tracing::debug!(accounts, gone, damaged, "the token store was read");
        }
        Event::StoreRowDamaged { place } => {
            tracing::error!(%place, "an account in the token store cannot be read");
        }
        Event::StoreUp { up: true } => tracing::info!("the token store works again"),
        Event::StoreUp { up: false } => {
            tracing::error!(
                "the token store cannot be read or written; nothing is refreshed meanwhile"
            );
        }
        Event::StateUp { up: true } => tracing::info!("our own state works again"),
        Event::StateUp { up: false } => {
            tracing::error!("our own state cannot be written; nothing is refreshed meanwhile");
        }
        Event::RefreshStarted { id, why } => tracing::debug!(account = %id, why, "refreshing"),
        Event::RequestEnded { id, outcome, took } => {
            tracing::debug!(account = %id, outcome, took_ms = took.as_millis(), "a refresh request ended");
        }
        Event::Refreshed { id, .. } => tracing::debug!(account = %id, "refreshed and saved"),
        Event::Adopted { id } => {
            tracing::info!(account = %id, "somebody else put another token into the store; it is taken");
        }
        Event::Reconnected { id } => {
            tracing::info!(account = %id, "the token of a new consent is taken");
        }
        Event::Shared { id } => {
            tracing::debug!(account = %id, "it shares a credential, and has the new token too");
        }
        Event::Restored { id } => {
            tracing::warn!(account = %id, "somebody wrote a token back that is spent; the newest one is in the store again");
        }
        Event::WrittenBack { id, times } => {
            tracing::error!(account = %id, times, "spent tokens are written back again and again; let the publisher read an account's token right before it writes one, and write only what it changed");
        }
        Event::RefreshFailed { id, evidence, retry_at } => {
            let code = evidence.code.as_deref().unwrap_or("");
            let log_id = evidence.log_id.as_deref().unwrap_or("");
            let detail = evidence.detail.as_deref().unwrap_or("");
            let status = evidence.status.unwrap_or_default();
            let cause = evidence.cause.as_label();
            let retries = retry_at.is_some();
            match evidence.cause.actor() {
                Actor::Nobody => {
                    tracing::info!(account = %id, cause, detail, code, log_id, status, retries, "a refresh failed in a way that mends itself");
                }
                Actor::Owner | Actor::Operator => {
                    tracing::warn!(account = %id, cause, detail, code, log_id, status, retries, "a refresh failed");
                }
            }
        }
        Event::Unsaved { id } => {
            tracing::error!(account = %id, "a new token was received and could not be saved; it is kept and saved again");
        }
        Event::CauseChanged { id, to: None, .. } => tracing::info!(account = %id, "healthy again"),
        Event::CauseChanged { id, to: Some(cause), .. } => {
            let (label, meaning) = (cause.as_label(), cause.sentence());
            let next_step = cause.next_step();
            match cause.actor() {
                Actor::Nobody => {
                    tracing::info!(account = %id, cause = label, meaning, "an account is in trouble that ends by itself");
                }
                // Who reads this was not asked; the owner was.
                Actor::Owner => {
                    tracing::warn!(account = %id, cause = label, meaning, next_step, "an account needs its owner");
                }
                Actor::Operator => {
                    tracing::error!(account = %id, cause = label, meaning, next_step, "an account needs you");
                }
            }
        }
        Event::GateMoved { id, from, to, why, .. } => {
            let (from, to) = (from.as_label(), to.as_label());
            let why = why.map_or("", Why::as_label);
            tracing::info!(account = %id, from, to, why, "the gate moved");
        }
        Event::PublishChecked { id, result } => {
            tracing::info!(account = %id, result, "asked the provider whether the account can publish");
        }
        Event::AppFrozen { app, cause } => {
            let label = cause.as_label();
            tracing::error!(app = %app, cause = label, next_step = cause.next_step(), "the app is refused; its accounts wait");
        }
        Event::AppThawed { app } => {
            tracing::info!(app = %app, "the provider accepts the app again")
        }
        Event::AppAsked { app, answer, secret, .. } => {
            tracing::info!(app = %app, answer, secret, "asked the provider about the app, with a token that is nobody's");
        }
        Event::CredentialsInUse { app, secret } => {
            tracing::warn!(app = %app, secret, "another client secret of the app is used from now on; remove those that are refused");
        }
        Event::AppPaused { app, until } => {
            let until = until.as_unix();
            tracing::warn!(app = %app, until, "the provider asked the app to wait; all its accounts do");
        }
        Event::ResponsesReported { id, status, times } => {
            tracing::debug!(account = %id, status, times, "the publisher reported answers");
        }
        Event::Probed { id, result } => {
            tracing::debug!(account = %id, result, "asked the provider about a 401")
        }
        Event::Announced { id, by, result } => {
            let by = by.as_label();
            tracing::info!(account = %id, by, result, "it was announced that a consent was taken back");
        }
        Event::NoticeOwed { notice } => {
            let cause = notice.cause.as_label();
            tracing::info!(subject = %notice.subject, cause, change = notice.change.as_label(), audience = notice.audience.as_label(), "a notice is owed");
        }
        Event::MailSent { audience, change } => {
            tracing::info!(
                audience = audience.as_label(),
                change = change.as_label(),
                "a mail was sent"
            )
        }
        Event::NoticesHeld { cap, notices } => {
            let cap = cap.as_label();
            tracing::warn!(cap, notices, "a cap on mails holds notices back for a later mail");
        }
        Event::WebhookSent => tracing::info!("a webhook took a notice"),
        Event::WebhookFailed { permanent: false, reason } => {
            tracing::warn!(%reason, "a webhook did not take a notice, and is asked again");
        }
        Event::WebhookFailed { permanent: true, reason } => {
            tracing::error!(%reason, "a notice to a webhook was given up");
        }
        Event::MailFailed { permanent: false, reason } => {
            tracing::warn!(%reason, "a mail was not accepted and is tried again");
        }
        Event::MailFailed { permanent: true, reason } => {
            tracing::error!(%reason, "a mail was given up");
        }
        Event::Reloaded { successful: true, .. } => tracing::info!("the configuration was read"),
        Event::Reloaded { successful: false, reason, .. } => {
            let reason = reason.as_deref().unwrap_or("");
            tracing::error!(
                %reason, "the configuration cannot be used and the old one stays in force"
            );
        }
        Event::ClockStepped { seconds: 0 } => tracing::info!("the machine's clock agrees again"),
        Event::ClockStepped { seconds } => {
            tracing::error!(
                seconds,
                "the machine's clock stepped, or providers say that it is wrong; time goes on as before until a Date header confirms it or several providers agree"
            );
        }
    }
}
