//! Carries requests with notices to webhooks, within the bounds of all other requests.

use crate::{
    core::Secret,
    delivery::{Carrier, Post, Uncarried},
    http_client::HttpClient,
    oauth::{Body, Exchange, Method, Request},
};
use arc_swap::ArcSwap;
use std::sync::Arc;

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
