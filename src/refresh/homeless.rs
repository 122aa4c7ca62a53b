//! A token that was received for an account whose app the configuration does not know any more: the store
//! still holds the one that it replaced, and the publisher goes on using that.

use super::{Refresher, Transport, is_anothers};
use crate::{
    core::{AccountId, fleet::Finished},
    state::{Closing, OpenEntry},
    stores::{Saved, StoredAccount, TokenStore},
};

impl<S: TokenStore, T: Transport> Refresher<S, T> {
    /// Saves what the journal holds for it, and nothing else. One that the store does not take now stays
    /// there until the app is back, or the next start.
    pub(super) async fn save_homeless(
        &self,
        id: &AccountId,
        stored: &StoredAccount,
        open: Option<OpenEntry>,
    ) -> Finished {
        let Some(OpenEntry { entry, intent, result, .. }) = open else {
            return Finished::Gone;
        };
        let token = result.or_else(|| self.held.of_entry(id, entry));
        let is_ours =
            |token: &_| !stored.token.as_ref().is_some_and(|stored| is_anothers(token, stored));
        let Some(token) = token.filter(is_ours) else {
            return Finished::Gone;
        };
        match self.store.save(id, &token, intent.old).await {
            Ok(Saved::Written | Saved::AlreadyThere) => {
                self.held.let_go(id, entry);
                self.close(entry, Closing::Done).await;
                tracing::info!(account = %id, "its app is gone from the configuration; its last token is saved");
            }
            Ok(Saved::Conflict | Saved::Gone) => {}
            Err(error) => {
                tracing::error!(account = %id, %error, "its app is gone from the configuration and its last token is not saved");
            }
        }
        Finished::Gone
    }
}
