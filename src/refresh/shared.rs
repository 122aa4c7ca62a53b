//! Several rows of the store may hold one credential: pages and channels of one login, or a copied row. Whoever
//! refreshes it first spends the refresh token of all of them. Presented once more for another row, it may cost
//! the whole grant; so that row is given the newest token instead, by compare-and-set against the spent one.
//!
//! That nobody presents it while somebody else does is the journal's: it takes one intent for each refresh token.

use super::{App, Refresher, Transport, app_of, blocked_by_state, blocked_by_store};
use crate::{
    core::{AccountId, Cause, Evidence, fleet::Finished},
    oauth::Token,
    state::Newest,
    stores::{Saved, TokenStore},
};

impl<S: TokenStore, T: Transport> Refresher<S, T> {
    /// Gives `id` the newest token of whoever spent the one that it holds. `Ok` with the stored token when nobody
    /// did; `Err` is how the attempt ends.
    pub(super) async fn share(
        &self,
        id: &AccountId,
        app: &App,
        stored: Token,
    ) -> Result<Token, Finished> {
        let Some(by) = self.renews_with(app, &stored) else { return Ok(stored) };
        let mut known = Vec::new();
        let (spender, token) = loop {
            let next = known.last().map_or(by, |(_, _, next)| *next);
            let spender = match self.state.spender(next).await {
                Ok(spender) => spender,
                Err(error) => return Err(blocked_by_state(&error)),
            };
            let Some(spender) = spender else {
                match known.pop() {
                    Some((spender, token, _)) => break (spender, token),
                    None => return Ok(stored),
                }
            };
            let is_first = known.is_empty();
            if is_first && (spender == *id || !self.is_of_app(&spender, app).await?) {
                return Ok(stored);
            }
            let newest = match self.state.newest(&spender).await {
                Ok(newest) => newest.filter(|newest| newest.spent.contains(&next)),
                Err(error) => return Err(blocked_by_state(&error)),
            };
            let Some(Newest { token, spent }) = newest else {
                // It was forgotten between the two questions.
                return if is_first { Ok(stored) } else { Err(self.known_dead()) };
            };
            let renewed_by = self.renews_with(app, &token);
            // After several rotations there may have been another consent between them, and so another person. And
            // of what is dead the provider is not to be asked again for each row.
            let is_same_login = token.subject.is_some() && token.subject == stored.subject;
            let goes_on = (is_same_login || spent.first() == Some(&next))
                && renewed_by.is_some_and(|by| !spent.contains(&by))
                && known.len() < STEPS_MAX;
            let Some(renewed_by) = renewed_by.filter(|_| goes_on) else {
                return Err(self.known_dead());
            };
            known.push((spender, token, renewed_by));
        };
        // Whose row it is the row says: a page is not the person whose login it shares.
        let ours = Token { subject: stored.subject.clone(), ..token };
        let expected = self.state.fingerprinter().of_token(&stored);
        match self.store.save(id, &ours, expected).await {
            Ok(Saved::Written | Saved::AlreadyThere) => {
                tracing::info!(account = %id, with = %spender, "the account shares a credential that was refreshed for another; it has the new token too");
                Err(Finished::Shared(self.facts(app, &ours)))
            }
            Ok(Saved::Gone) => Err(Finished::Gone),
            // Somebody has just written another; the next attempt looks at it.
            Ok(Saved::Conflict) => {
                Err(blocked_by_state(&crate::state::Error::EntryOpen { id: id.clone() }))
            }
            Err(error) => Err(blocked_by_store(id, &error)),
        }
    }

    /// One label on the wrong row must not speak for a token of another app.
    async fn is_of_app(&self, spender: &AccountId, app: &App) -> Result<bool, Finished> {
        let apps = self.apps.load_full();
        match self.store.get(spender).await {
            Ok(Some(stored)) => Ok(app_of(&apps, &stored).is_some_and(|its| its.name == app.name)),
            Ok(None) => Ok(*spender.provider == *app.provider.name),
            Err(error) => Err(blocked_by_store(spender, &error)),
        }
    }

    fn known_dead(&self) -> Finished {
        Finished::KnownDead(Evidence::of(Cause::RefreshTokenRejected, self.clock.now()))
    }
}

/// Rotations from the token of a row to the newest one of its credential that are followed.
const STEPS_MAX: usize = 8;
