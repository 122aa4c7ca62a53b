//! What the webhooks' listener needs to understand providers and to believe publishers.

use crate::{
    core::Secret,
    metrics::{
        Metrics,
        events::{FROM_NOBODY, FROM_PUBLISHER, MessageResult},
    },
    oauth::{Signature, Unbelieved},
    providers::Unheard,
    refresh::{App, Apps, Refresher, Transport},
    secrets::SecretRef,
    server::webhooks::{BODY_DEADLINE, Check, Context, Delivery, Told, Understand},
    stores::TokenStore,
};
use hyper::HeaderMap;
use std::{sync::Arc, time::Duration};
use tokio::sync::mpsc;

/// What the handlers see.
pub(super) fn context<S: TokenStore, T: Transport>(
    refresher: &Arc<Refresher<S, T>>,
    metrics: &Metrics,
    secret: Option<SecretRef>,
    deliveries: mpsc::Sender<Delivery>,
) -> Context {
    expect(metrics, &refresher.apps.load());
    metrics.expect_webhooks(FROM_NOBODY);
    if secret.is_some() {
        metrics.expect_webhooks(FROM_PUBLISHER);
    }
    Context {
        metrics: metrics.clone(),
        clock: refresher.clock.clone(),
        provider: understanding(refresher),
        publisher: secret.map(|secret| belief(refresher, secret)),
        deliveries,
        body_deadline: BODY_DEADLINE,
    }
}

/// Makes the series of the providers that send messages.
pub(super) fn expect(metrics: &Metrics, apps: &Apps) {
    let senders = apps.values().filter(|app| app.provider.signature_header().is_some());
    senders.for_each(|app| metrics.expect_webhooks(&app.provider.name));
}

fn understanding<S: TokenStore, T: Transport>(refresher: &Arc<Refresher<S, T>>) -> Arc<Understand> {
    let apps = Arc::clone(&refresher.apps);
    let clock = refresher.clock.clone();
    Arc::new(move |name, headers, body| {
        let apps = apps.load();
        let app = apps.get(name)?;
        let header = app.provider.signature_header()?;
        let heard = one_text(headers, header).map_or(
            Err(Unheard::Unbelieved(Unbelieved::Unsigned)),
            |header| {
                app.provider.heard(header, body, &app.client_id, &secrets_of(app), clock.now())
            },
        );
        let said =
            heard.map(|message| (message.subject, message.evidence)).map_err(|why| match why {
                Unheard::NotSent => MessageResult::UnknownApp,
                Unheard::Unbelieved(why) => unbelieved(why),
                Unheard::Malformed => MessageResult::Malformed,
                Unheard::Nothing => MessageResult::Ignored,
            });
        Some(Told { provider: app.provider.name.clone(), said })
    })
}

/// All of them as they read now: while the secret changes, nobody knows which one the provider signs with.
fn secrets_of(app: &App) -> Vec<Secret> {
    let secrets = &app.client_secrets;
    let each = (0..secrets.ways()).filter_map(|position| secrets.read_at(position).ok()?.secret);
    each.collect()
}

fn belief<S: TokenStore, T: Transport>(
    refresher: &Arc<Refresher<S, T>>,
    secret: SecretRef,
) -> Arc<Check> {
    let clock = refresher.clock.clone();
    let signature = Signature {
        header: PUBLISHERS_HEADER.to_owned(),
        timestamp: "t".to_owned(),
        digest: "s".to_owned(),
        tolerance: PUBLISHERS_TOLERANCE,
    };
    Arc::new(move |headers, body| {
        let header = one_text(headers, PUBLISHERS_HEADER).ok_or(MessageResult::Unsigned)?;
        let secret = secret.read().map_err(|error| {
            tracing::error!(%error, "webhooks are refused, because their secret cannot be read");
            MessageResult::Unavailable
        })?;
        signature.verify(header, body, &[secret], clock.now()).map_err(unbelieved)
    })
}

const fn unbelieved(why: Unbelieved) -> MessageResult {
    match why {
        Unbelieved::Unsigned | Unbelieved::Wrong => MessageResult::Unsigned,
        Unbelieved::Old => MessageResult::Old,
    }
}

/// Of two headers of the same name nobody knows which was meant.
fn one_text<'a>(headers: &'a HeaderMap, name: &str) -> Option<&'a str> {
    let mut all = headers.get_all(name).iter();
    let first = all.next().filter(|_| all.next().is_none())?;
    first.to_str().ok()
}

/// What a publisher's signature stands in.
const PUBLISHERS_HEADER: &str = "oauth-keepalive-signature";

/// How far a publisher's clock may be from ours.
const PUBLISHERS_TOLERANCE: Duration = Duration::from_secs(5 * 60);
