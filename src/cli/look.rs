//! The fleet as `run` would see it at its start, for commands that show it. Nothing is performed, and a `run`
//! beside them on the same state notices nothing of it.

use crate::{
    app::{self, Parts},
    core::{
        Account, AccountId, Snapshot, Timestamp,
        fleet::{Input, Seen},
    },
    refresh::app_of,
    stores::{StoredAccount, TokenStore},
    terminal::progress::Progress,
};
use std::{cmp::Reverse, collections::BTreeMap, sync::Arc};

/// What was found.
pub(super) struct Looked {
    pub(super) snapshot: Snapshot,
    /// Rows that cannot be read, each with its place.
    pub(super) damaged: Vec<String>,
    /// Granted scopes as the store has them, of the accounts that were asked for; `None` where it does not say.
    pub(super) granted: BTreeMap<AccountId, Option<Vec<String>>>,
}

/// Looks, and keeps the granted scopes of those that `wants` names.
///
/// # Errors
/// When store or state cannot be read.
pub(super) async fn look(
    parts: &Parts,
    now: Timestamp,
    wants: impl Fn(&StoredAccount) -> bool + Send + Sync,
) -> Result<Looked, String> {
    let refresher = &parts.refresher;
    let mut fleet = app::fleet(&parts.settings, refresher, now).await?;
    fleet.handle(now, Input::LoadBegan);
    let apps = refresher.apps.load_full();
    let mut damaged = Vec::new();
    let mut granted = BTreeMap::new();
    let mut seen = Vec::new();
    let mut progress = Progress::begin("reading accounts", None);
    let each = |stored: StoredAccount| {
        progress.step();
        let Some(app) = app_of(&apps, &stored).filter(|_| stored.enabled) else { return };
        if wants(&stored) {
            let scopes = stored.token.as_ref().and_then(|token| token.scopes.clone());
            granted.insert(stored.id.clone(), scopes);
        }
        let token = stored.token.as_ref().map(|token| refresher.facts(app, token));
        seen.push(Seen { id: stored.id, app: Arc::clone(&app.name), token });
    };
    let loaded = refresher.store.load(each, |error| damaged.push(error.to_string())).await;
    drop(progress);
    loaded.map_err(|error| error.to_string())?;
    fleet.handle(now, Input::Seen(seen));
    fleet.handle(now, Input::LoadEnded { damaged: damaged.len() });
    Ok(Looked { snapshot: fleet.snapshot(now), damaged, granted })
}

/// Who is worst off first, and of these whose token ends soonest.
pub(super) fn worst_first<'a>(accounts: impl Iterator<Item = &'a Account>) -> Vec<&'a Account> {
    let mut accounts: Vec<&Account> = accounts.collect();
    accounts.sort_by_key(|account| {
        let severity = account.cause.map_or(0, |cause| cause.severity() + 1);
        (Reverse(severity), account.token.and_then(|token| token.expires_at))
    });
    accounts
}
