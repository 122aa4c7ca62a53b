//! A refresh token that we have spent is in the store again: somebody with a cached row wrote it back over
//! ours. Presented, it may cost the whole grant; taken as it is, our newer one would be lost. So it is
//! replaced, by compare-and-set against that very token, by the newest that the store ever took from us.
//!
//! A consent that is newer than ours is none of the tokens we spent, and is never touched.

use super::{App, Attempt, Refresher, Transport, blocked_by_state, blocked_by_store, ends::End};
use crate::{
    core::{AccountId, Cause, Event, Evidence, Fingerprint, TokenFacts, fleet::Finished},
    oauth::Token,
    state::{self, Newest},
    stores::{Saved, StoredAccount, TokenStore},
};

/// What the store holds once it was looked at.
pub(super) struct Found {
    pub(super) token: Token,
    /// True when a spent one was there.
    pub(super) restored: bool,
}

impl<S: TokenStore, T: Transport> Refresher<S, T> {
    /// Puts the newest token back where `stored` is one that we have spent. `Err` is how the attempt ends.
    pub(super) async fn put_right(
        &self,
        id: &AccountId,
        app: &App,
        stored: Token,
        newest: Option<Newest>,
    ) -> Result<Found, Finished> {
        let Some(Newest { token: ours, spent }) = newest else {
            return Ok(Found { token: stored, restored: false });
        };
        let mut stored = stored;
        for _ in 0..STALE_WRITES_MET_MAX {
            if !self.renews_with(app, &stored).is_some_and(|by| spent.contains(&by)) {
                return Ok(Found { token: stored, restored: false });
            }
            if self.renews_with(app, &ours).is_some_and(|by| spent.contains(&by)) {
                // The provider has spoken about ours too, and was not to be asked again.
                let evidence = Evidence::of(Cause::RefreshTokenRejected, self.clock.now());
                return Err(Finished::KnownDead(evidence));
            }
            let expected = self.state.fingerprinter().of_token(&stored);
            match self.store.save(id, &ours, expected).await {
                Ok(Saved::Written | Saved::AlreadyThere) => {
                    self.reporter.report(Event::Restored { id: id.clone() });
                    return Ok(Found { token: ours, restored: true });
                }
                Ok(Saved::Gone) => return Err(Finished::Gone),
                Ok(Saved::Conflict) => {}
                Err(error) => return Err(blocked_by_store(id, &error)),
            }
            stored = match self.store.get(id).await {
                Ok(Some(StoredAccount { enabled: true, token: Some(stored), .. })) => stored,
                Ok(Some(StoredAccount { enabled: true, token: None, .. })) => {
                    return Err(Finished::NoToken);
                }
                Ok(_) => return Err(Finished::Gone),
                Err(error) => return Err(blocked_by_store(id, &error)),
            };
        }
        Err(blocked_by_state(&state::Error::EntryOpen { id: id.clone() }))
    }

    /// The store holds another token than the one that `token` was received for. Somebody else's is never
    /// overwritten, and ours is kept in case theirs is the stale one; but one that we have spent ourselves
    /// is nobody's any more.
    pub(super) async fn meet_theirs(
        &self,
        attempt: &Attempt<'_>,
        token: &Token,
        facts: TokenFacts,
    ) -> Finished {
        let id = attempt.id;
        for _ in 0..STALE_WRITES_MET_MAX {
            let theirs = match self.store.get(id).await {
                Ok(Some(StoredAccount { token: Some(theirs), .. })) => theirs,
                Ok(other) => {
                    self.set_aside(attempt).await;
                    return if other.is_some() { Finished::NoToken } else { Finished::Gone };
                }
                Err(error) => {
                    tracing::error!(account = %id, %error, "the store did not take a new token");
                    return Finished::Unsaved(facts);
                }
            };
            match self.is_spent(attempt, Some(token), &theirs).await {
                Ok(true) => {}
                Ok(false) => {
                    self.set_aside(attempt).await;
                    return Finished::Adopted(self.facts(&attempt.app, &theirs));
                }
                Err(error) => {
                    tracing::error!(account = %id, %error, "a new token waits for our state");
                    return Finished::Unsaved(facts);
                }
            }
            let expected = self.state.fingerprinter().of_token(&theirs);
            match self.store.save(id, token, expected).await {
                Ok(Saved::Written | Saved::AlreadyThere) => {
                    self.reporter.report(Event::Restored { id: id.clone() });
                    self.complete(attempt, token).await;
                    return Finished::Renewed(facts);
                }
                Ok(Saved::Gone) => {
                    self.set_aside(attempt).await;
                    return Finished::Gone;
                }
                Ok(Saved::Conflict) => {}
                Err(error) => {
                    tracing::error!(account = %id, %error, "the store did not take a new token");
                    return Finished::Unsaved(facts);
                }
            }
        }
        // Somebody writes as fast as we do; the journal has ours.
        Finished::Unsaved(facts)
    }

    /// True when `theirs` would be renewed by a refresh token that was spent, in this attempt if it brought
    /// `token`, or in one before.
    pub(super) async fn is_spent(
        &self,
        attempt: &Attempt<'_>,
        token: Option<&Token>,
        theirs: &Token,
    ) -> Result<bool, state::Error> {
        let Some(by) = self.renews_with(&attempt.app, theirs) else {
            return Ok(false);
        };
        if token.is_some_and(|token| self.spent_for(attempt, token) == Some(by)) {
            return Ok(true);
        }
        let newest = self.state.newest(attempt.id).await?;
        Ok(newest.is_some_and(|newest| newest.spent.contains(&by)))
    }

    /// The new token is in the store. An entry that stays open is brought to its end again.
    pub(super) async fn complete(&self, attempt: &Attempt<'_>, token: &Token) {
        self.held.let_go(attempt.id, attempt.entry);
        let renewable_by = self.renews_with(&attempt.app, token);
        let spent = self.spent_for(attempt, token);
        let (entry, id) = (attempt.entry, attempt.id);
        if let Err(error) = self.state.complete(entry, id, token, renewable_by, spent).await {
            self.held.ends().keep_after(&error, id, End { entry, renewable_by, spent });
        }
    }

    /// The refresh token that the provider replaced by `token`; one that it handed out again lives on.
    pub(super) fn spent_for(&self, attempt: &Attempt<'_>, token: &Token) -> Option<Fingerprint> {
        let renewable_by = self.renews_with(&attempt.app, token);
        (renewable_by != Some(attempt.spending)).then_some(attempt.spending)
    }

    /// The fingerprint of what renews `token`.
    pub(super) fn renews_with(&self, app: &App, token: &Token) -> Option<Fingerprint> {
        let by = if app.renews_itself() { Some(&token.access) } else { token.refresh.as_ref() };
        by.filter(|by| !by.is_blank()).map(|by| self.state.fingerprinter().of_secret(by))
    }
}

/// How often in one attempt somebody may be faster than we are.
const STALE_WRITES_MET_MAX: u32 = 3;
