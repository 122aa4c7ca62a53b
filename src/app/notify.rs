//! What mailer and webhooks need of other parts: a carrier within the bounds of all other requests, links, and how
//! many posts are at risk.

use super::Minter;
use crate::{
    core::Secret,
    delivery::{self, AtRisk, Carrier, Post, Uncarried, mailer::Mailer},
    http_client::HttpClient,
    metrics::fleet::Gauges,
    oauth::{Body, Exchange, Method, Request},
    report::Reporter,
    state::State,
};
use arc_swap::ArcSwap;
use std::{collections::BTreeMap, sync::Arc};
use tokio::sync::watch;

/// Whatever leaves by mail and by webhook.
pub(super) struct Outgoing {
    pub(super) state: State,
    pub(super) delivery: watch::Receiver<Arc<delivery::Settings>>,
    /// How each provider is called.
    pub(super) titles: BTreeMap<String, String>,
    pub(super) reporter: Reporter,
    pub(super) gauges: Arc<Gauges>,
    pub(super) links: Option<Minter>,
    pub(super) client: Arc<ArcSwap<HttpClient>>,
}

impl Outgoing {
    pub(super) fn mailer(&self) -> Mailer<State> {
        match self.links.clone() {
            Some(minter) => self.either().with_links(Arc::new(move |id, now| minter.mint(id, now))),
            None => self.either(),
        }
    }

    pub(super) fn poster(&self) -> Mailer<State> {
        self.either().of_webhooks(carrier(Arc::clone(&self.client)))
    }

    fn either(&self) -> Mailer<State> {
        let reporter = self.reporter.clone();
        let teller = Box::new(move |event| reporter.report(event));
        let titles = self.titles.clone();
        let mailer = Mailer::new(self.state.clone(), self.delivery.clone(), titles, teller);
        mailer.with_posts(at_risk(&self.gauges))
    }
}

/// By what the publisher's tables told last.
fn at_risk(gauges: &Arc<Gauges>) -> AtRisk {
    let gauges = Arc::clone(gauges);
    Arc::new(move |id| gauges.posts_of(id).map(|posts| posts.at_risk))
}

/// By the client in force.
fn carrier(client: Arc<ArcSwap<HttpClient>>) -> Carrier {
    Arc::new(move |post: Post| {
        let client = client.load_full();
        Box::pin(async move {
            let request = Request {
                method: Method::Post,
                endpoint: post.url.expose().to_owned(),
                query: Vec::new(),
                headers: post.headers,
                body: Body::Whole(Secret::new(post.body)),
            };
            match client.send(WEBHOOKS, request).await {
                Exchange::Answered(answer) => Ok(answer.status),
                Exchange::NotSent(_) => Err(Uncarried::NotSent),
                Exchange::Lost(_) => Err(Uncarried::Lost),
            }
        })
    })
}

/// For the client, which bounds requests per app. No app is called that: it has a blank in it.
const WEBHOOKS: &str = "notices to webhooks";
