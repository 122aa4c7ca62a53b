//! What the publisher's listener needs to answer.

use crate::{
    core::{Secret, Snapshot, fleet::Input},
    metrics::Metrics,
    oauth::Answer,
    providers::{Known, Where},
    refresh::{Refresher, Transport},
    server::publisher::{
        BODY_DEADLINE, Clients, Context, Place, Remembered, Response, Settings, Understand,
    },
    state::State,
    stores::TokenStore,
};
use arc_swap::ArcSwap;
use std::sync::Arc;
use tokio::sync::mpsc;

/// What the handlers see.
pub(super) fn context<S: TokenStore, T: Transport>(
    refresher: &Arc<Refresher<S, T>>,
    metrics: &Metrics,
    snapshot: Arc<ArcSwap<Snapshot>>,
    settings: Settings,
    keeper: mpsc::Sender<Input>,
) -> Arc<Context> {
    let (responses, reported) = mpsc::channel(REPORTS_WAITING_MAX);
    tokio::spawn(pass_on(reported, keeper));
    Arc::new(Context {
        snapshot,
        clock: refresher.clock.clone(),
        metrics: metrics.clone(),
        clients: Clients::new(settings.clients),
        when_unknown: settings.when_unknown,
        remembered: remembering(&refresher.state),
        understand: understanding(refresher),
        responses,
        body_deadline: BODY_DEADLINE,
    })
}

fn remembering(state: &State) -> Arc<Remembered> {
    let state = state.clone();
    Arc::new(move |id| {
        let state = state.clone();
        Box::pin(async move { state.door(&id).await.map_err(drop) })
    })
}

/// What the publisher reports goes to the keeper like everything else.
async fn pass_on(mut reported: mpsc::Receiver<Vec<Response>>, keeper: mpsc::Sender<Input>) {
    while let Some(batch) = reported.recv().await {
        for Response { id, status, times, said } in batch {
            let said = said.map(|evidence| Input::Said { id: id.clone(), evidence });
            let counted = status.map(|status| Input::Responded { id, status, times });
            for input in said.into_iter().chain(counted) {
                if keeper.send(input).await.is_err() {
                    return;
                }
            }
        }
    }
}

/// What a provider said to the publisher, as that provider's table reads it.
fn understanding<S: TokenStore, T: Transport>(refresher: &Arc<Refresher<S, T>>) -> Arc<Understand> {
    let apps = Arc::clone(&refresher.apps);
    let clock = refresher.clock.clone();
    Arc::new(move |app, answered| {
        let apps = apps.load();
        let app = apps.get(app)?;
        let place = match answered.place {
            Place::Publish => Where::Publish,
            Place::Api => Where::Api,
            Place::Redirect => Where::Redirect,
        };
        let Some(status) = answered.status else {
            return app.provider.message(place, &answered.body, clock.now());
        };
        // A publisher that passes on text instead of JSON has quoted it.
        let text = answered.body.as_str().map(str::to_owned);
        let answer = Answer {
            status,
            retry_after: None,
            date: None,
            bearer_error: None,
            body: Secret::new(text.unwrap_or_else(|| answered.body.to_string())),
        };
        let known = Known { client_id: Some(&app.client_id), ..Known::default() };
        app.provider.refusal(place, &answer, &known, clock.now())
    })
}

/// Batches of reports that may wait; beyond that the publisher is asked to come again.
const REPORTS_WAITING_MAX: usize = 64;
