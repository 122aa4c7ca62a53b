//! The provider says that a refresh token is finished, and that is not yet written down as the end of its attempt.

use super::{Attempt, Refresher, Transport};
use crate::{
    core::{AccountId, Evidence, fleet::Finished},
    state::{Closing, OpenEntry},
    stores::TokenStore,
};

impl<S: TokenStore, T: Transport> Refresher<S, T> {
    /// Before anything else is done about it: a process that ends now must not send the dead token again, so the
    /// probe that its attempt still has is spent. What the store says may yet be better than dead.
    pub(super) async fn note_dead(&self, attempt: &Attempt<'_>) {
        if attempt.is_probe {
            return;
        }
        let now = self.clock.now();
        if let Err(error) = self.state.intend_probe(attempt.lease, attempt.entry, now).await {
            tracing::warn!(account = %attempt.id, %error, "the one probe may still be sent");
        }
    }

    /// The provider says that it is over, and the store cannot be asked whether it has a newer token, or our state
    /// does not take the end of the attempt. The verdict waits for them; the token is not sent again.
    pub(super) async fn doubt(
        &self,
        attempt: &Attempt<'_>,
        evidence: Evidence,
        error: &(dyn std::error::Error + Sync),
    ) -> Finished {
        tracing::warn!(account = %attempt.id, %error, "a verdict waits");
        self.note_dead(attempt).await;
        Finished::Ambiguous { evidence, over_at: self.clock.now() }
    }

    /// The row is gone, or empties: nobody will ever know how its last request ended. Its attempt must not stay open,
    /// or no other row with the same refresh token could be refreshed.
    pub(super) async fn end_doubt(&self, id: &AccountId, open: Option<OpenEntry>) {
        let Some(open) = open.filter(|open| open.result.is_none()) else { return };
        if self.held.of_entry(id, open.entry).is_some() {
            return;
        }
        let waits = open.intent.over_at.since(self.clock.now());
        tokio::time::sleep(waits.min(self.call_deadline)).await;
        self.close(open.entry, Closing::Orphan).await;
    }
}
