//! Recording a received token and saving it at once, where store and state are one database.
//!
//! Everything that the publisher's table does not take is left to the ordinary way: the token is recorded
//! then, and saved like any other.

use super::{Attempt, Refresher, Transport, is_anothers};
use crate::{oauth::Token, state, stores::TokenStore};

impl<S: TokenStore, T: Transport> Refresher<S, T> {
    /// Makes the token durable. True when the store has it too and the entry is closed, all of it in one
    /// transaction.
    pub(super) async fn record(
        &self,
        attempt: &Attempt<'_>,
        token: &Token,
    ) -> Result<bool, state::Error> {
        let (entry, id) = (attempt.entry, attempt.id);
        let draft = attempt.draft.as_ref().filter(|_| !is_anothers(token, &attempt.old));
        let prepared = draft.and_then(|draft| Some((draft, draft.save(token)?)));
        let Some((draft, save)) = prepared else {
            return self.state.record_result(entry, id, token).await.map(|()| false);
        };
        let renewable_by = self.renews_with(&attempt.app, token);
        let spent = self.spent_for(attempt, token);
        let saved = self.state.record_and_save(entry, id, token, renewable_by, spent, save).await?;
        let is_saved = saved.is_some();
        if let Some(looks) = saved {
            draft.saved(looks);
        }
        Ok(is_saved)
    }
}
