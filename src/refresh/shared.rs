//! Several rows of the store may hold one credential: pages and channels of one login, or a copied row. Whoever
//! refreshes it first spends the refresh token of all of them. Presented once more for another row, it may cost
//! the whole grant; so that row is given the newest token instead, by compare-and-set against the spent one.
//!
//! That nobody presents it while somebody else does is the journal's: it takes one intent for each refresh token.

use super::{App, Refresher, Transport, blocked_by_state, blocked_by_store};
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
        let spender = match self.state.spender(by).await {
            Ok(Some(spender)) if spender != *id => spender,
            Ok(_) => return Ok(stored),
            Err(error) => return Err(blocked_by_state(&error)),
        };
        let newest = match self.state.newest(&spender).await {
            Ok(Some(newest)) if newest.spent.contains(&by) => newest,
            // It was forgotten between the two questions.
            Ok(_) => return Ok(stored),
            Err(error) => return Err(blocked_by_state(&error)),
        };
        let Newest { token, spent } = newest;
        if self.renews_with(app, &token).is_some_and(|by| spent.contains(&by)) {
            // The provider has spoken about it, and is not to be asked again for each row.
            let evidence = Evidence::of(Cause::RefreshTokenRejected, self.clock.now());
            return Err(Finished::KnownDead(evidence));
        }
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
}
