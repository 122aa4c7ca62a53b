//! Hands on what people and publishers want done. Nothing is done here: it is written down in the inbox, from which every
//! replica hears it within a second, and whoever has the account follows it.

use super::webhooks::{self, Delivery, WRITTEN_WITHIN};
use crate::core::{AccountId, Announcement, Order, Said, Timestamp, Whose};
use ring::rand::{SecureRandom as _, SystemRandom};
use tokio::{
    sync::{mpsc, oneshot},
    time::timeout,
};

/// It is not known to be written down, and is to be asked for again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct NotWritten;

/// Returns when it is written down: true, or false when it was before. The same `key` again is the same order.
pub(super) async fn hand_on(
    deliveries: &mpsc::Sender<Delivery>,
    now: Timestamp,
    id: &AccountId,
    order: Order,
    key: Option<Vec<u8>>,
) -> Result<bool, NotWritten> {
    let name = id.to_string();
    let kind: &[u8] = match order {
        Order::Hold => b"hold",
        Order::Resume => b"resume",
        Order::Prove => b"prove",
        Order::Refresh => b"refresh",
        Order::Published { .. } => b"published",
    };
    let key = match order {
        // Whoever asks for it, and however often: a bug of a publisher's must not become our storm.
        Order::Refresh => (now.as_unix() / REFRESH_EVERY_SECONDS).to_be_bytes().to_vec(),
        // Without a name of its own each request is another order.
        _ => key.unwrap_or_else(drawn),
    };
    let announcement = Announcement {
        key: webhooks::key_of(&[b"api", kind, name.as_bytes(), &key]),
        whose: Whose::Account(id.clone()),
        said: Said::Order(order),
        heard_at: now,
    };
    let (told, answer) = oneshot::channel();
    deliveries.try_send((announcement, told)).map_err(|_| NotWritten)?;
    match timeout(WRITTEN_WITHIN, answer).await {
        Ok(Ok(is_new)) => Ok(is_new),
        _ => Err(NotWritten),
    }
}

fn drawn() -> Vec<u8> {
    let mut drawn = vec![0; 16];
    SystemRandom::new().fill(&mut drawn).expect("the operating system has random numbers");
    drawn
}

/// An account is refreshed on request once in this time at most.
const REFRESH_EVERY_SECONDS: i64 = 60;
