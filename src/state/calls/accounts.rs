//! Who looks after which accounts, and what is remembered of them.

use super::super::{Beat, Error, Held, State, history};
use crate::core::{AccountId, AppMemory, Farewell, History, Memory, Shares};
use std::sync::Arc;

/// Who looks after which accounts.
#[expect(clippy::missing_errors_doc, reason = "said once, above each block")]
impl State {
    /// Says that we live, gives back what is to be given back, takes what is free, and tells what is ours
    /// from then on and how all replicas are doing. On SQLite everything is ours for ever.
    pub async fn hold(&self, beat: &Beat) -> Result<Held, Error> {
        self.0.backend.hold(beat).await
    }

    /// Gives all shares back, so that others need not wait for their end.
    pub async fn leave(&self) -> Result<(), Error> {
        self.0.backend.leave().await
    }
}

/// What is remembered about accounts.
#[expect(clippy::missing_errors_doc, reason = "said once, above each block")]
impl State {
    /// Adds or replaces, all or nothing.
    pub async fn remember(&self, memories: Vec<Memory>) -> Result<(), Error> {
        self.0.backend.remember(memories).await
    }

    /// Adds what the provider said of apps, or brings it up to date: of two pauses the longer one counts, and
    /// of two words about whether an app is refused the newer one. Not fenced: whoever heard it may say it.
    pub async fn remember_apps(&self, memories: Vec<AppMemory>) -> Result<(), Error> {
        self.0.backend.remember_apps(memories).await
    }

    /// What is remembered of apps, sorted by name; of those too that the configuration does not name any more.
    pub async fn app_memories(&self) -> Result<Vec<AppMemory>, Error> {
        self.0.backend.app_memories().await
    }

    /// Forgets, the newest token and the history too, all but a gate that is to be kept; what is not known is no
    /// error. Journal and incidents stay.
    pub async fn forget(&self, gone: Vec<Farewell>) -> Result<(), Error> {
        self.0.backend.forget(gone).await
    }

    /// Everything that is remembered, sorted by account.
    pub async fn memories(&self) -> Result<Vec<Memory>, Error> {
        self.memories_of(Shares::ALL).await
    }

    /// What is remembered of the accounts of these shares, sorted by account.
    pub async fn memories_of(&self, shares: Shares) -> Result<Vec<Memory>, Error> {
        self.0.backend.memories(shares).await
    }

    /// Keeps what happened to accounts, in place of what was kept of them before.
    pub async fn keep_histories(
        &self,
        histories: &[(AccountId, Arc<History>)],
    ) -> Result<(), Error> {
        let record =
            |(id, history): &(AccountId, Arc<History>)| (id.clone(), history::text(history));
        self.0.backend.keep_histories(histories.iter().map(record).collect()).await
    }

    /// What happened to the accounts of these shares, sorted by account. What this version cannot read is
    /// left out.
    pub async fn histories_of(&self, shares: Shares) -> Result<Vec<(AccountId, History)>, Error> {
        let records = self.0.backend.histories(shares).await?;
        let read = |(id, text): history::Kept| Some((id, history::read(&text)?));
        Ok(records.into_iter().filter_map(read).collect())
    }
}
