//! What the configuration says of apps and of when to refresh, in the words of whoever decides.

use crate::{
    config::{self, Settings},
    core::{
        Proof, decide,
        schedule::Policy,
        second_clock::{Assumed, Moves},
    },
    providers::{Environment, Renewal},
    refresh::{App, Apps},
    server::publisher::{Client, Right},
};
use std::sync::Arc;

/// Every app of the configuration, with its provider.
#[must_use]
pub fn apps_of(settings: &Settings) -> Apps {
    let app = |app: &config::App| {
        // `config` has checked that the provider is known.
        let provider = settings.provider_of(app)?;
        let name: Arc<str> = app.name.as_str().into();
        let scopes = app.scopes.iter().map(|scope| Arc::from(scope.as_str())).collect();
        let ours = App {
            name: Arc::clone(&name),
            provider,
            endpoints: app.endpoints.clone(),
            client_id: app.client_id.clone(),
            client_secrets: Arc::new(app.client_secrets.clone().into()),
            scopes,
            is_default: app.default_for_provider,
            is_testing: app.is_testing,
        };
        Some((name, Arc::new(ours)))
    };
    settings.apps.iter().filter_map(app).collect()
}

/// What the policy must know of every app.
#[must_use]
pub fn policy_apps(apps: &Apps, proofs: Proofs) -> Vec<decide::App> {
    let app = |app: &Arc<App>| decide::App {
        name: Arc::clone(&app.name),
        provider: app.provider.name.as_str().into(),
        server: server_of(app).into(),
        scopes: Arc::clone(&app.scopes),
        min_age: app.provider.min_age,
        only_while_live: app.renews_itself(),
        retry_is_safe: app.provider.renewal == Renewal::Stable,
        probe: match () {
            () if app.provider.can_probe(&app.endpoints) => decide::Probe::Free,
            () if app.provider.can_probe_for_money(&app.endpoints) => decide::Probe::Billed,
            () => decide::Probe::None,
        },
        proof: proofs.of(app),
        is_sandbox: app.provider.environment == Environment::Sandbox,
        can_be_asked: app.provider.can_be_asked_about_apps(),
        assumed: assumed(app),
    };
    apps.values().map(app).collect()
}

/// What there is to prove an account with, besides its provider.
#[derive(Clone, Copy, Debug)]
pub struct Proofs {
    /// What the configuration wants.
    pub wish: config::Proof,
    /// The publisher can tell how a publish went.
    pub publisher_tells: bool,
}

impl Proofs {
    pub(super) fn in_force(settings: &Settings) -> Self {
        let tells = |client: &Client| client.rights.contains(&Right::Publish);
        let publisher = settings.server.publisher.as_ref();
        Self {
            wish: settings.gate.proof,
            publisher_tells: publisher.is_some_and(|all| all.clients.iter().any(tells)),
        }
    }

    /// How the accounts of an app are proven.
    fn of(self, app: &App) -> Proof {
        match self.wish {
            config::Proof::Token => Proof::Token,
            config::Proof::Publish => Proof::Publish,
            config::Proof::Auto if app.provider.can_check_publishing(&app.endpoints) => {
                Proof::Check
            }
            config::Proof::Auto if self.publisher_tells => Proof::Publish,
            config::Proof::Auto if app.provider.can_probe(&app.endpoints) => Proof::Check,
            config::Proof::Auto => Proof::Token,
        }
    }
}

/// Scheme, host and port of where it asks for tokens; nothing for who asks nowhere.
fn server_of(app: &App) -> &str {
    let endpoint = app.provider.token_endpoint(&app.endpoints).unwrap_or_default();
    let host = endpoint.find("://").map_or(0, |scheme| scheme + 3);
    endpoint[host..].find('/').map_or(endpoint, |path| &endpoint[..host + path])
}

/// What is stated about the lives of an app's refresh tokens.
fn assumed(app: &App) -> Assumed {
    let provider = app.provider;
    match provider.testing_refresh_life.filter(|_| app.is_testing) {
        Some(life) => Assumed { life: Some(life), moves: Moves::Absolute },
        None => Assumed { life: provider.assumed_refresh_life, moves: provider.refresh_end },
    }
}

/// When and how hard to refresh.
#[must_use]
pub const fn policy_of(settings: &Settings) -> Policy {
    let refresh = &settings.refresh;
    Policy {
        due_fraction: refresh.due_fraction,
        spread_fraction: refresh.spread_fraction,
        danger_fraction: refresh.danger_fraction,
        assumed_life: refresh.assumed_life,
        backoff_first: refresh.backoff_first,
        backoff_max: refresh.backoff_max,
        in_flight_max: refresh.in_flight_max,
        in_flight_per_app_max: settings.http.in_flight_per_app_max,
        app_refusals_max: refresh.app_refusals_max,
    }
}
