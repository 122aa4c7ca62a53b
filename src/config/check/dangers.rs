//! Pairs of legal values that are dangerous together.

use super::Check;
use crate::{
    config::{
        self, Settings,
        file::{self, Span},
    },
    stores,
};
use std::time::Duration;

/// Warns of settings that are allowed and will hurt sooner or later.
pub(super) fn warn(check: &mut Check<'_>, settings: &Settings) {
    let refresh = &settings.refresh;
    in_flight(check, settings);
    webhooks(check, settings);
    if refresh.danger_fraction < DANGER_COMFORTABLE {
        check.warn(
            "refresh.danger",
            format!(
                "{} of a two hour token leaves minutes for a person to act",
                refresh.danger_fraction
            ),
            format!("use {DANGER_COMFORTABLE} or more"),
        );
    }
    let left = refresh.assumed_life.mul_f64((1.0 - refresh.due_fraction).clamp(0.0, 1.0));
    if refresh.backoff_max > left {
        check.warn(
            "refresh.backoff_max",
            "a token of assumed_life that is due may end during a single pause",
            "lower backoff_max, or raise assumed_life if your tokens live longer",
        );
    }
    let poll_every = match &settings.store {
        stores::Settings::File(store) => store.poll_every,
        stores::Settings::Redis(store) => store.poll_every,
        stores::Settings::Sqlite(store) => store.poll_every,
        stores::Settings::Postgres(store) | stores::Settings::Mysql(store) => store.poll_every,
    };
    if poll_every > POLL_COMFORTABLE {
        check.warn(
            "store.poll_every",
            format!("an account that its owner reconnects may wait {} unnoticed", Span(poll_every)),
            format!("use {} or less", Span(POLL_COMFORTABLE)),
        );
    }
}

/// A listener to which nobody can send anything.
fn webhooks(check: &mut Check<'_>, settings: &Settings) {
    let Some(webhooks) = &settings.server.webhooks else { return };
    let sends = |app: &config::App| {
        settings.provider_of(app).is_some_and(|provider| provider.signature_header().is_some())
    };
    if webhooks.secret.is_none() && !settings.apps.iter().any(sends) {
        check.warn(
            "webhooks.enabled",
            "no app has a provider that sends messages, and publishers have no secret to sign events with",
            "name a secret_file for publishers, or switch webhooks off",
        );
    }
}

fn in_flight(check: &mut Check<'_>, settings: &Settings) {
    let max = settings.refresh.in_flight_max;
    let per_app = settings.http.in_flight_per_app_max;
    let of_apps = settings.apps.len() * per_app;
    // With few apps the defaults differ too; nobody is warned of what he never touched.
    let untouched = max == file::Refresh::default().in_flight_max as usize
        && per_app == file::Http::default().in_flight_per_app_max as usize;
    if max > of_apps && !untouched && !settings.apps.is_empty() {
        check.warn(
            "refresh.in_flight_max",
            format!("{max} is never reached: the apps together allow {of_apps}"),
            "raise http.in_flight_per_app_max, or lower in_flight_max",
        );
    }
}

/// A smaller share leaves too little time to reconnect.
const DANGER_COMFORTABLE: f64 = 0.05;

/// Waiting longer than this for a change in the store surprises people.
const POLL_COMFORTABLE: Duration = Duration::from_secs(10 * 60);
