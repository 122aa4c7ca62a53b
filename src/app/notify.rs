//! What mailer and webhooks need of other parts: a carrier within the bounds of all other requests, and how many
//! posts are at risk.

use crate::{
    core::Secret,
    delivery::{AtRisk, Carrier, Post, Uncarried},
    http_client::HttpClient,
    metrics::fleet::Gauges,
    oauth::{Body, Exchange, Method, Request},
};
use arc_swap::ArcSwap;
use std::sync::Arc;

/// By what the publisher's tables told last.
pub(super) fn at_risk(gauges: &Arc<Gauges>) -> AtRisk {
    let gauges = Arc::clone(gauges);
    Arc::new(move |id| gauges.posts_of(id).map(|posts| posts.at_risk))
}

/// By the client in force.
pub(super) fn carrier(client: Arc<ArcSwap<HttpClient>>) -> Carrier {
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
