//! Tokens that the journal did not take lie in the spill as well as in memory, so that they outlive the process. What
//! lies there is brought into the journal as soon as that works, by this run or by the next one.
//!
//! A file is never believed blindly: it may be older than what was done since. It becomes the result of its own
//! attempt while that is open, and of no other. After that it goes into the store only over the very token that it
//! replaced; what somebody has written since, or what we have had since, is newer.

use super::{Attempt, Refresher, Transport, held::Copy, is_anothers};
use crate::{
    core::{AccountId, Fingerprint},
    oauth::Token,
    state::{self, Newest, Spilled, spill::Name},
    stores::{self, Saved, StoredAccount, TokenStore},
};

/// What became of a file.
enum Met {
    /// The token is elsewhere, or worth nothing any more.
    Placed(&'static str),
    /// It lies there until state or store can be asked.
    Stays(String),
}

impl<S: TokenStore, T: Transport> Refresher<S, T> {
    /// The journal did not take a token that has just come. It is put into the spill before the store is asked, which
    /// may be out of reach too and take its time to say so.
    pub(super) async fn hold(
        &self,
        attempt: &Attempt<'_>,
        old: Fingerprint,
        token: &Token,
        error: &state::Error,
    ) {
        tracing::error!(account = %attempt.id, %error, "a new token is not in the journal, and held in memory");
        self.held.keep(attempt, old, token.clone());
        self.spill_held(attempt.id).await;
    }

    /// Puts the token that is held of this account into the spill, unless it lies there.
    pub(super) async fn spill_held(&self, id: &AccountId) {
        let (Some(spill), Some(copy)) = (self.held.spill(), self.held.copy(id)) else { return };
        if copy.spilled_as.is_some() {
            return;
        }
        let Copy { entry, old, spending, token, .. } = copy;
        let spilled = Spilled { entry, id: id.clone(), old, spending, token };
        let (name, record) = match self.state.seal_spilled(&spilled) {
            Ok(sealed) => sealed,
            Err(error) => {
                tracing::error!(account = %id, %error, "a new token is in memory only");
                return;
            }
        };
        match spill.write(&name, record).await {
            Ok(path) => {
                tracing::error!(account = %id, path = %path.display(), "a new token lies sealed in the spill; it goes into the journal when that works again");
                if !self.held.is_spilled(id, entry, &name) {
                    // Journal or store took it meanwhile.
                    spill.remove(&name);
                }
            }
            Err(reason) => {
                tracing::error!(account = %id, %reason, "a new token is in memory only, and ends with this process");
            }
        }
    }

    /// Looks through the spill for what other runs have left there, and brings each to its place. Whatever cannot be
    /// placed now stays, and is met again.
    pub async fn take_in_spilled(&self) {
        let Some(spill) = self.held.spill() else { return };
        for (name, record) in spill.read(self.held.spilled_names()).await {
            let spilled = match self.state.open_spilled(&record) {
                Ok(spilled) => spilled,
                Err(error) => {
                    tracing::error!(file = ?name, %error, "a spilled token cannot be read, and is left where it is");
                    spill.refuse(&name);
                    continue;
                }
            };
            let id = spilled.id.clone();
            match self.place(&name, spilled).await {
                Met::Placed(how) => {
                    spill.remove(&name);
                    tracing::warn!(account = %id, how, "a token lay in the spill and was taken in");
                }
                Met::Stays(reason) => {
                    tracing::warn!(account = %id, %reason, "a token lies in the spill and waits");
                }
            }
        }
    }

    async fn place(&self, name: &Name, spilled: Spilled) -> Met {
        let open = match self.state.open_entry(&spilled.id).await {
            Ok(open) => open,
            Err(error) => return Met::Stays(error.to_string()),
        };
        if !open.is_some_and(|open| spilled.is_of(&open)) {
            return self.place_stray(&spilled).await;
        }
        let Spilled { entry, id, old, spending, token } = spilled;
        let copy = Copy { entry, old, spending, token, spilled_as: Some(name.clone()) };
        // As if this process had received it: the store may take it where the journal does not.
        if self.held.take_over(&id, copy) && self.journal_held_of(&id).await {
            return Met::Placed("it is in the journal");
        }
        Met::Stays("the journal does not take it".to_owned())
    }

    /// One whose attempt was ended without it.
    async fn place_stray(&self, spilled: &Spilled) -> Met {
        let Spilled { id, old, token, .. } = spilled;
        match self.state.newest(id).await {
            Ok(Some(newest)) if self.is_superseded(spilled, &newest) => {
                return Met::Placed("we have had a newer one since");
            }
            Ok(_) => {}
            Err(error) => return Met::Stays(error.to_string()),
        }
        match self.save_stray(id, token, *old).await {
            Ok(Saved::Written) => Met::Placed("the store has it now"),
            Ok(Saved::AlreadyThere) => Met::Placed("the store had it already"),
            Ok(Saved::Conflict | Saved::Gone) => match self.state.keep_aside(id, token).await {
                Ok(()) => Met::Placed("the store has a newer one, and it is kept aside"),
                Err(error) => Met::Stays(error.to_string()),
            },
            Err(error) => Met::Stays(error.to_string()),
        }
    }

    /// Over the token that it replaced, and nothing else.
    async fn save_stray(
        &self,
        id: &AccountId,
        token: &Token,
        old: Fingerprint,
    ) -> Result<Saved, stores::Error> {
        match self.store.get(id).await? {
            Some(StoredAccount { enabled: true, token: Some(stored), .. })
                if !is_anothers(token, &stored) =>
            {
                self.store.save(id, token, old).await
            }
            Some(_) => Ok(Saved::Conflict),
            None => Ok(Saved::Gone),
        }
    }

    /// True when this very token was spent, or when what was spent for it has brought us another one that lives.
    fn is_superseded(&self, spilled: &Spilled, newest: &Newest) -> bool {
        let is_spent = |by: Fingerprint| newest.spent.contains(&by);
        let by = |token: &Token| {
            let by = token.refresh.as_ref().filter(|by| !by.is_blank()).unwrap_or(&token.access);
            self.state.fingerprinter().of_secret(by)
        };
        is_spent(by(&spilled.token)) || (is_spent(spilled.spending) && !is_spent(by(&newest.token)))
    }
}
