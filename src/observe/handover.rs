//! What was seen, on its way to the keeper: of many lines about one account, one input.

use super::{Observer, Sighting};
use crate::{
    core::{AccountId, Evidence, Snapshot, fleet::Input},
    server::publisher::{Answered, Place},
};
use std::collections::BTreeMap;

/// What one round saw. Bounded by the lines or rows of a round.
#[derive(Debug, Default)]
pub(super) struct Batch {
    responses: BTreeMap<(AccountId, u16), u32>,
    /// The last word of each kind.
    said: BTreeMap<(AccountId, &'static str), Evidence>,
}

impl Batch {
    /// Adds an answer; false when nobody knows the account.
    pub(super) fn add(
        &mut self,
        observer: &Observer,
        snapshot: &Snapshot,
        sighting: Sighting,
        place: Place,
    ) -> bool {
        let Sighting { provider, account, status, body } = sighting;
        let id = AccountId::new(provider, account);
        let Some(account) = snapshot.accounts.find(&id) else { return false };
        // The table's own id: it shares its text.
        let id = account.id.clone();
        let said = body.and_then(|body| {
            let answered = Answered { status: Some(status), place, body };
            (observer.understand)(&account.app, &answered)
        });
        if let Some(evidence) = said {
            self.said.insert((id.clone(), evidence.cause.as_label()), evidence);
        }
        let times = self.responses.entry((id, status)).or_default();
        *times = times.saturating_add(1);
        true
    }

    /// Tells the keeper; false when there is none any more.
    pub(super) async fn hand_over(self, observer: &Observer) -> bool {
        let said = self.said.into_iter().map(|((id, _), evidence)| Input::Said { id, evidence });
        let counted = self.responses.into_iter();
        let counted = counted.map(|((id, status), times)| Input::Responded { id, status, times });
        for input in said.chain(counted) {
            if observer.keeper.send(input).await.is_err() {
                return false;
            }
        }
        true
    }
}
