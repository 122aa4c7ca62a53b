//! Whether the provider accepts an app: asked with a refresh token that is nobody's, so that no real one is
//! spent on a question that is not about it.
//!
//! With several secrets each is asked about in turn, and the first that is not refused is used from then on.

use super::{App, Refresher, Transport};
use crate::{
    core::{AccountId, Cause, Event, Evidence, Timestamp, event::NOT_SENT, fleet::Asked},
    oauth::{Exchange, Standing},
    stores::TokenStore,
};
use std::{sync::Arc, time::Instant};

impl<S: TokenStore, T: Transport> Refresher<S, T> {
    /// Asks the provider about the app called `name`, once for each of its secrets at most.
    ///
    /// Only whoever gets the lease asks: of several replicas one, and the others hear of it through the state.
    pub async fn ask_about_app(&self, name: &Arc<str>) -> Asked {
        let Some(app) = self.apps.load().get(name).cloned() else {
            return Asked::Unclear(Evidence::of(Cause::Unknown, self.clock.now()));
        };
        let life = self.call_deadline.saturating_mul(app.client_secrets.ways() as u32);
        let lease = match self.state.take_lease(&lease_of(name), self.clock.now(), life).await {
            Ok(Some(lease)) => lease,
            Ok(None) => return Asked::Elsewhere,
            Err(error) => {
                tracing::warn!(app = %name, %error, "nothing is asked about the app");
                return Asked::Elsewhere;
            }
        };
        let asked = self.ask_with_each_secret(&app).await;
        // One that cannot be released expires.
        let _ = self.state.release(&lease).await;
        asked
    }

    async fn ask_with_each_secret(&self, app: &App) -> Asked {
        let mut last = secret_unreadable(self.clock.now());
        for position in 0..app.client_secrets.ways() {
            let Some(standing) = self.ask_with(app, position).await else { continue };
            match standing {
                Standing::Accepted => {
                    if app.client_secrets.keep(position) {
                        self.report_secret(app, position);
                    }
                    return Asked::Accepted;
                }
                Standing::Refused(evidence) => last = evidence,
                // The next secret would be asked about in the same dark.
                Standing::Unclear(evidence) => return Asked::Unclear(evidence),
            }
        }
        Asked::Refused(last)
    }

    /// `None` when nothing could be asked: the secret cannot be read.
    async fn ask_with(&self, app: &App, position: usize) -> Option<Standing> {
        let credentials = app.credentials_at(position).ok()?;
        let request = app.provider.question_about_app(&app.endpoints, &credentials)?;
        let began = Instant::now();
        let exchange = self.transport.send(&app.name, request).await;
        self.observe_date(app, &exchange, began.elapsed());
        let standing = app.provider.standing(&exchange, self.clock.now());
        let answer = match (&exchange, &standing) {
            (Exchange::NotSent(_), _) => NOT_SENT,
            (_, Standing::Accepted) => "accepted",
            (_, Standing::Refused(_)) => "refused",
            (_, Standing::Unclear(_)) => "unclear",
        };
        let provider = app.provider.name.as_str().into();
        self.reporter.report(Event::AppAsked {
            app: Arc::clone(&app.name),
            provider,
            answer,
            secret: position_shown(position),
        });
        Some(standing)
    }

    /// A real request was refused because of the app. Where nobody may ask without spending a token, the next
    /// request goes with the next secret; elsewhere the question finds out which.
    pub(super) fn pass_on_secret(&self, app: &App, position: usize, evidence: &Evidence) {
        let is_secret = evidence.app_wide && evidence.cause == Cause::AppCredentialsRejected;
        if !is_secret || app.provider.can_be_asked_about_apps() {
            return;
        }
        if app.client_secrets.step_from(position)
            && let Some(position) = app.client_secrets.in_use()
        {
            self.report_secret(app, position);
        }
    }

    fn report_secret(&self, app: &App, position: usize) {
        let secret = position_shown(position);
        self.reporter.report(Event::CredentialsInUse { app: Arc::clone(&app.name), secret });
    }
}

/// Positions are shown to people, who count from one.
#[must_use]
pub fn position_shown(position: usize) -> u16 {
    u16::try_from(position).unwrap_or(u16::MAX).saturating_add(1)
}

fn secret_unreadable(at: Timestamp) -> Evidence {
    let mut evidence = Evidence::of(Cause::AppCredentialsRejected, at);
    evidence.app_wide = true;
    evidence.detail = Some("secret_unreadable".into());
    evidence
}

/// No provider has a name like this, so it is no account's lease.
fn lease_of(app: &Arc<str>) -> AccountId {
    AccountId::new("(app)", Arc::clone(app))
}
