//! What a page is made from. All of it was known before somebody asked: nobody is called for a page.

use crate::{
    core::{Account, AccountId, AppView, Recent, Snapshot, Timestamp, recent::HOURS},
    metrics::Readings,
    server::ConfigState,
};

/// One moment, as far as pages show it.
pub(super) struct Scene<'a> {
    pub(super) snapshot: &'a Snapshot,
    pub(super) readings: &'a Readings,
    pub(super) config: &'a ConfigState,
    pub(super) now: Timestamp,
}

impl<'a> Scene<'a> {
    /// 401s of each of the last hours; `None` where none was ever reported.
    pub(super) fn unauthorized(&self, account: &Account) -> Option<[u16; HOURS]> {
        let hours = account.recent.as_deref().map(|recent: &Recent| recent.unauthorized(self.now));
        hours.filter(|hours| hours.iter().any(|count| *count > 0))
    }

    /// 401s of the last day.
    pub(super) fn unauthorized_sum(&self, account: &Account) -> u32 {
        let hours = self.unauthorized(account);
        hours.map_or(0, |hours| hours.iter().copied().map(u32::from).sum())
    }

    /// Since when 401s are counted, where that is less than a day.
    pub(super) fn counts_since(&self) -> Option<Timestamp> {
        let began = self.snapshot.began_at;
        (self.now.since(began).as_secs() < 24 * 3_600).then_some(began)
    }

    /// Posts of this account that wait; `None` while nobody knows.
    pub(super) fn posts_waiting(&self, id: &AccountId) -> Option<u64> {
        let stored = self.readings.posts.as_deref().map(|posts| u64::from(posts.of(id).held));
        let asked = self.readings.posts_held.as_deref().map(|posts| {
            posts.iter().find(|(waits, _)| waits == id).map_or(0, |(_, count)| *count)
        });
        // Both may see the same posts: the greater number is nearer the truth than the sum.
        stored.max(asked)
    }

    pub(super) fn app(&self, name: &str) -> Option<&'a AppView> {
        self.snapshot.apps.iter().find(|app| *app.name == *name)
    }
}
