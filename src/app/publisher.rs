//! What the publisher's listener needs to answer.

use crate::{
    clock::Clock,
    core::{
        AccountId, Event, Gate, Secret, Snapshot, Timestamp, fleet::Input, moves::Move,
        permits::Canary,
    },
    hooks::{self, Hook},
    http_client::HttpClient,
    metrics::{Metrics, fleet::Gauges},
    oauth::Answer,
    providers::{Known, Where},
    refresh::{Refresher, Transport},
    server::publisher::{
        AccessToken, BODY_DEADLINE, Canaries, Clients, Context, Newest, News, Permits, Place,
        Promise, Remembered, Response, Settings, Understand, WAITERS_MAX, events,
    },
    server::webhooks::Delivery,
    state::State,
    stores::TokenStore,
};
use arc_swap::ArcSwap;
use std::{sync::Arc, time::Duration};
use tokio::{
    sync::{
        Semaphore,
        broadcast::{self, error::RecvError},
        mpsc, watch,
    },
    task::JoinHandle,
    time::interval,
};

/// What it is connected with.
pub(super) struct Wires {
    pub(super) metrics: Metrics,
    pub(super) snapshot: Arc<ArcSwap<Snapshot>>,
    pub(super) gauges: Arc<Gauges>,
    pub(super) client: Arc<ArcSwap<HttpClient>>,
    pub(super) keeper: mpsc::Sender<Input>,
    pub(super) deliveries: mpsc::Sender<Delivery>,
    pub(super) stop: watch::Receiver<bool>,
}

/// Starts what goes on beside the listener, and answers what its handlers see.
pub(super) fn start<S: TokenStore, T: Transport>(
    settings: Settings,
    hooks: &[hooks::Settings],
    refresher: &Arc<Refresher<S, T>>,
    wires: Wires,
) -> (Arc<Context>, Vec<JoinHandle<()>>) {
    let permits = Arc::new(Permits::new(settings.pace, wires.metrics.clone()));
    let news = Arc::new(News::new());
    let events = refresher.reporter.events();
    let mut tasks: Vec<_> = hooks
        .iter()
        .map(|hook| {
            let hook = hook_of(hook, refresher, &wires);
            tokio::spawn(hook.run(events.subscribe(), wires.stop.clone()))
        })
        .collect();
    let (over, is_over) = mpsc::channel(CANARIES_ENDING_MAX);
    tokio::spawn(end_canaries(is_over, refresher.state.clone()));
    tasks.push(tokio::spawn(keep(
        (Arc::clone(&permits), over),
        Arc::clone(&news),
        Arc::clone(&wires.snapshot),
        wires.gauges,
        refresher.clock.clone(),
        events.subscribe(),
        wires.stop.clone(),
    )));
    let (responses, reported) = mpsc::channel(REPORTS_WAITING_MAX);
    tokio::spawn(pass_on(reported, wires.keeper));
    let context = Context {
        snapshot: wires.snapshot,
        clock: refresher.clock.clone(),
        metrics: wires.metrics,
        clients: Clients::new(settings.clients),
        when_unknown: settings.when_unknown,
        remembered: remembering(&refresher.state),
        newest: settings.serve_tokens.then(|| reading(refresher)),
        permits,
        canaries: Arc::new(refresher.state.clone()),
        news,
        waiters: Arc::new(Semaphore::new(WAITERS_MAX)),
        stop: wires.stop,
        deliveries: wires.deliveries,
        understand: understanding(refresher),
        responses,
        body_deadline: BODY_DEADLINE,
    };
    (Arc::new(context), tasks)
}

fn remembering(state: &State) -> Arc<Remembered> {
    let state = state.clone();
    Arc::new(move |id| {
        let state = state.clone();
        Box::pin(async move { state.door(&id).await.map_err(drop) })
    })
}

/// Reads what the store holds now.
fn reading<S: TokenStore, T: Transport>(refresher: &Arc<Refresher<S, T>>) -> Arc<Newest> {
    let refresher = Arc::clone(refresher);
    Arc::new(move |id| {
        let refresher = Arc::clone(&refresher);
        Box::pin(async move {
            let stored = refresher.store.get(&id).await.map_err(drop)?;
            let token = stored.filter(|stored| stored.enabled).and_then(|stored| stored.token);
            Ok(token
                .map(|token| AccessToken { access: token.access, expires_at: token.expires_at }))
        })
    })
}

fn hook_of<S, T>(settings: &hooks::Settings, refresher: &Refresher<S, T>, wires: &Wires) -> Hook {
    Hook {
        settings: settings.clone(),
        client: Arc::clone(&wires.client),
        clock: refresher.clock.clone(),
        snapshot: Arc::clone(&wires.snapshot),
        metrics: wires.metrics.clone(),
        data: events::data,
    }
}

/// Tells the lines and those who listen of each move of a gate, and makes them forget who asks no more.
async fn keep(
    (permits, over): (Arc<Permits>, mpsc::Sender<(AccountId, Timestamp)>),
    news: Arc<News>,
    snapshot: Arc<ArcSwap<Snapshot>>,
    gauges: Arc<Gauges>,
    clock: Clock,
    mut events: broadcast::Receiver<Event>,
    mut stop: watch::Receiver<bool>,
) {
    let mut sweep = interval(SWEEP_EVERY);
    let mut look = interval(LOOK_EVERY);
    loop {
        tokio::select! {
            _ = stop.wait_for(|stop| *stop) => return,
            _ = sweep.tick() => permits.sweep(clock.now(), &snapshot.load()),
            _ = look.tick() => {
                if let Some(news) = permits.news() {
                    gauges.posts_held.store(Some(Arc::new(news)));
                }
            }
            event = events.recv() => match event {
                Ok(Event::GateMoved { id, from, to, why, at }) => {
                    if permits.see(at, &id, to) && from == Gate::Canary {
                        // One that finds no room ends with its time.
                        let _ = over.try_send((id.clone(), at));
                    }
                    news.push(Move { id, from: Some(from), to, why, at });
                }
                Ok(_) => {}
                // The lines see it when a post asks.
                Err(RecvError::Lagged(_)) => news.lose(),
                Err(RecvError::Closed) => return,
            },
        }
    }
}

impl Canaries for State {
    fn claim(
        &self,
        id: &AccountId,
        post: &Arc<str>,
        now: Timestamp,
        until: Timestamp,
    ) -> Promise<Result<Canary, ()>> {
        let (state, id, post) = (self.clone(), id.clone(), Arc::clone(post));
        Box::pin(async move { state.claim_canary(&id, &post, now, until).await.map_err(drop) })
    }

    fn report(&self, id: &AccountId, until: Timestamp) -> Promise<()> {
        let (state, id) = (self.clone(), id.clone());
        Box::pin(async move {
            if let Err(error) = state.report_canary(&id, until).await {
                tracing::debug!(account = %id, %error, "its canary ends with its time");
            }
        })
    }
}

/// What was written down of posts that were to prove accounts goes when their gates have moved.
async fn end_canaries(mut over: mpsc::Receiver<(AccountId, Timestamp)>, state: State) {
    while let Some((id, moved_at)) = over.recv().await {
        if let Err(error) = state.end_canary(&id, moved_at).await {
            tracing::debug!(account = %id, %error, "its canary ends with its time");
        }
    }
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
pub(super) fn understanding<S: TokenStore, T: Transport>(
    refresher: &Arc<Refresher<S, T>>,
) -> Arc<Understand> {
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

/// Accounts whose gates have moved and whose canaries are yet to be forgotten.
const CANARIES_ENDING_MAX: usize = 1_024;

/// How often it is looked how many posts wait.
const LOOK_EVERY: Duration = Duration::from_millis(500);

/// How often posts that nobody asks for any more are forgotten.
const SWEEP_EVERY: Duration = Duration::from_secs(10);

/// Batches of reports that may wait; beyond that the publisher is asked to come again.
const REPORTS_WAITING_MAX: usize = 64;
