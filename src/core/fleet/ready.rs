//! Accounts that wait for room, the earliest end first.

use crate::core::{AccountId, Timestamp};
use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

/// How urgent it is, and against which app's room it counts.
#[derive(Clone, Debug)]
pub(super) struct Urgency {
    pub(super) app: Arc<str>,
    /// A token that was received and is not saved goes before everything else.
    pub(super) saves: bool,
    /// When the access token ends; unknown ends go last.
    pub(super) ends_at: Option<Timestamp>,
}

/// Saves first, then by end; a tie is settled by the id so that the order is always the same.
type Place = (bool, Timestamp, AccountId);

/// A queue per app, so that a slow or refused app holds up nobody else. Each account stands in it once
/// at most, so it is never longer than the fleet.
#[derive(Debug, Default)]
pub(super) struct Ready {
    queues: BTreeMap<Arc<str>, BTreeSet<Place>>,
    /// Where each account stands: an account whose end moved must not stand twice.
    places: BTreeMap<AccountId, (Arc<str>, Place)>,
}

impl Ready {
    pub(super) fn put(&mut self, id: &AccountId, urgency: Urgency) {
        let ends_at = urgency.ends_at.unwrap_or(Timestamp::MAX);
        let place = (!urgency.saves, ends_at, id.clone());
        let entry = (Arc::clone(&urgency.app), place.clone());
        if let Some((app, old)) = self.places.insert(id.clone(), entry)
            && let Some(queue) = self.queues.get_mut(&app)
        {
            queue.remove(&old);
        }
        self.queues.entry(urgency.app).or_default().insert(place);
    }

    /// The most urgent account among the apps that have room; only one with something to save when
    /// `only_saves`. Saving asks nothing of the provider, so a refused or crowded app does not hold it up.
    pub(super) fn take(
        &mut self,
        only_saves: bool,
        has_room: impl Fn(&Arc<str>) -> bool,
        is_doubted: impl Fn(&Arc<str>) -> bool,
    ) -> Option<AccountId> {
        // Of an app in doubt the token that lives longest: those that ended long ago may be dead for reasons of their own.
        let next = |app: &Arc<str>, queue: &BTreeSet<Place>| {
            let first = queue.first()?;
            let place = if first.0 && is_doubted(app) { queue.last()? } else { first };
            Some(place.clone())
        };
        let (app, place) = self
            .queues
            .iter()
            .filter_map(|(app, queue)| next(app, queue).map(|place| (app, place)))
            .filter(|(app, (is_no_save, ..))| !is_no_save || (!only_saves && has_room(app)))
            .min_by(|(_, one), (_, other)| one.cmp(other))
            .map(|(app, place)| (Arc::clone(app), place))?;
        self.queues.get_mut(&app)?.remove(&place);
        self.places.remove(&place.2);
        Some(place.2)
    }

    pub(super) fn holds_any(&self, app: &Arc<str>) -> bool {
        self.queues.get(app).is_some_and(|queue| !queue.is_empty())
    }

    pub(super) fn clear(&mut self) {
        self.queues.clear();
        self.places.clear();
    }
}
