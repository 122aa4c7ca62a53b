//! `apps`: the client registrations.

use super::{Check, is_loopback, store};
use crate::{
    config::{self, App, explain, file, problem::KeyPath},
    providers::{Described, Endpoints, Environment, Provider, schema::OneOrMany},
    secrets::SecretRef,
    stores,
};
use std::{collections::BTreeMap, path::Path};

pub(super) fn check(
    check: &mut Check<'_>,
    apps: &[file::App],
    store: &stores::Settings,
    described: &[Described],
    providers: &[&str],
) -> Vec<App> {
    if apps.is_empty() {
        check.warn(
            "apps",
            "no app is described: tokens are watched and none is refreshed",
            "add an app with its name, provider and client_id",
        );
    }
    if apps.len() > APPS_MAX {
        let what = format!("{} apps, expected at most {APPS_MAX}", apps.len());
        check.problem("apps", what, "run a second sidecar for the others");
        return Vec::new();
    }
    let checked: Vec<_> = (0..)
        .zip(apps)
        .map(|(nth, app)| check_one(check, nth, app, described, providers))
        .collect();
    refuse_repeated_names(check, &checked);
    settle_defaults(check, apps, checked, store)
}

fn check_one(
    check: &mut Check<'_>,
    nth: usize,
    app: &file::App,
    described: &[Described],
    providers: &[&str],
) -> App {
    let at = at(nth);
    let name = check.text(at.key("name"), app.name.as_deref(), "a name for this app");
    let meaning = "the provider's name, such as tiktok";
    let provider = check.text(at.key("provider"), app.provider.as_deref(), meaning);
    if !provider.is_empty() {
        store::known_provider(check, at.key("provider"), &provider, providers);
    }
    let meaning = "the public id from the provider's developer pages";
    let client_id = check.text(at.key("client_id"), app.client_id.as_deref(), meaning);
    let client_secrets = client_secrets(check, &at, app);
    scopes(check, &at, &app.scopes);
    App {
        name,
        client_id,
        client_secrets,
        scopes: app.scopes.clone(),
        endpoints: endpoints(check, &at, &provider, &app.endpoints, described),
        environment: app.environment,
        kind: app.kind,
        redirect_uri: app.redirect_uri.clone(),
        is_testing: testing(check, &at, &provider, app.testing, described),
        provider,
        default_for_provider: app.is_default.unwrap_or(false),
    }
}

/// Only where being tested changes how long a consent lives.
fn testing(
    check: &mut Check<'_>,
    at: &KeyPath,
    provider: &str,
    testing: bool,
    described: &[Described],
) -> bool {
    let known = config::provider(provider, Environment::default(), described);
    if testing && known.is_some_and(|known| known.testing_refresh_life.is_none()) {
        check.problem(
            at.key("testing"),
            format!("true, and nothing is known of how `{provider}` treats apps in testing"),
            "remove the key, or describe the provider with `assumed_life: {testing: …}`",
        );
    }
    testing
}

/// One secret, or a list of them, from files or from variables.
fn client_secrets(check: &mut Check<'_>, at: &KeyPath, app: &file::App) -> Vec<SecretRef> {
    let (files, variables) = (app.client_secret_file.as_ref(), app.client_secret_env.as_ref());
    let (name, texts) = match (files, variables) {
        (None, None) => return Vec::new(),
        (Some(_), Some(_)) => {
            check.both_given(at, "client_secret");
            return Vec::new();
        }
        (Some(OneOrMany(texts)), None) => ("client_secret_file", texts),
        (None, Some(OneOrMany(texts))) => ("client_secret_env", texts),
    };
    let at = at.key(name);
    if texts.is_empty() || texts.len() > SECRETS_MAX {
        let what = format!("{} secrets, expected 1 to {SECRETS_MAX}", texts.len());
        check.problem(at, what, "list the new one and the old one, or leave the key out");
        return Vec::new();
    }
    let mut secrets = Vec::new();
    for (nth, text) in texts.iter().enumerate() {
        let key = if texts.len() == 1 { at.clone() } else { at.index(nth) };
        if let Some(first) = texts[..nth].iter().position(|other| other == text) {
            let what = format!("the same as element {first}, expected each secret once");
            check.problem(key, what, "remove one of the two");
        } else if files.is_some() {
            secrets.push(check.secret_file(key, Path::new(text), true));
        } else {
            secrets.extend(check.secret_variable(key, text, true));
        }
    }
    secrets
}

fn scopes(check: &mut Check<'_>, at: &KeyPath, scopes: &[String]) {
    let at = at.key("scopes");
    if scopes.len() > SCOPES_MAX {
        let what = format!("{} scopes, expected at most {SCOPES_MAX}", scopes.len());
        check.problem(at, what, "name only those that publishing needs");
        return;
    }
    for (nth, scope) in scopes.iter().enumerate() {
        if scope.is_empty() || scope.contains([' ', ',', '\t', '\n', '\r']) {
            check.problem(
                at.index(nth),
                format!("found {}, expected one scope", explain::shown(scope, false)),
                "write one scope per element, without blanks or commas",
            );
        } else if scopes[..nth].contains(scope) {
            check.problem(
                at.index(nth),
                format!("{} is there twice, expected each scope once", explain::shown(scope, true)),
                "remove one of the two",
            );
        }
    }
}

fn endpoints(
    check: &mut Check<'_>,
    at: &KeyPath,
    provider: &str,
    endpoints: &file::Endpoints,
    described: &[Described],
) -> Endpoints {
    let at = at.key("endpoints");
    let needs_endpoint = config::provider(provider, Environment::default(), described)
        .is_some_and(Provider::needs_token_endpoint);
    if needs_endpoint && endpoints.token.is_none() {
        check.problem(
            at.key("token"),
            format!("missing, expected the token endpoint, which `{provider}` cannot know"),
            "add `endpoints: {token: https://…}` from the provider's documentation",
        );
    }
    for (name, url) in [
        ("token", &endpoints.token),
        ("probe", &endpoints.probe),
        ("authorize", &endpoints.authorize),
        ("exchange", &endpoints.exchange),
        ("lengthen", &endpoints.lengthen),
        ("publish_check", &endpoints.publish_check),
    ] {
        if let Some(url) = url {
            endpoint(check, at.key(name), url);
        }
    }
    Endpoints {
        token: endpoints.token.clone(),
        probe: endpoints.probe.clone(),
        authorize: endpoints.authorize.clone(),
        exchange: endpoints.exchange.clone(),
        lengthen: endpoints.lengthen.clone(),
        publish_check: endpoints.publish_check.clone(),
    }
}

/// A refresh token goes there: it must not be readable on the way, nor end up in somebody's access log.
fn endpoint(check: &mut Check<'_>, key: KeyPath, text: &str) {
    let example = "https://api.example.com/oauth/token";
    let Some(url) = check.url(key.clone(), text, &["https", "http"], example) else { return };
    let host = url.host_str().unwrap_or_default();
    if url.scheme() == "http" && !is_loopback(host) {
        check.problem(
            key,
            format!(
                "http to {}, expected https except for this machine",
                explain::shown(host, true)
            ),
            "write https, or tokens could be read on the way",
        );
    }
}

fn refuse_repeated_names(check: &mut Check<'_>, apps: &[App]) {
    for (nth, app) in apps.iter().enumerate() {
        if let Some(first) = apps[..nth].iter().position(|other| other.name == app.name)
            && !app.name.is_empty()
        {
            check.problem(
                at(nth).key("name"),
                format!("{} is the name of apps[{first}] too", explain::shown(&app.name, true)),
                "give each app a name of its own; accounts refer to it",
            );
        }
    }
}

/// An account whose store does not name its app belongs to its provider's default app.
fn settle_defaults(
    check: &mut Check<'_>,
    written: &[file::App],
    mut apps: Vec<App>,
    store: &stores::Settings,
) -> Vec<App> {
    let mut of_provider: BTreeMap<String, Vec<usize>> = BTreeMap::new();
    for (nth, app) in apps.iter().enumerate().filter(|(_, app)| !app.provider.is_empty()) {
        of_provider.entry(app.provider.clone()).or_default().push(nth);
    }
    for (provider, mine) in of_provider {
        if let [only] = mine[..] {
            apps[only].default_for_provider = written[only].is_default.unwrap_or(true);
        }
        let defaults: Vec<_> =
            mine.iter().copied().filter(|nth| apps[*nth].default_for_provider).collect();
        match defaults[..] {
            [first, .., last] => check.problem(
                at(last).key("default"),
                format!("apps[{first}] is the default of `{provider}` already, expected one"),
                "remove `default: true` from one of them",
            ),
            [] if !store::knows_apps(store) => check.problem(
                at(mine[0]),
                format!("no app is the default of `{provider}`, and the store has no app column"),
                "write `default: true` in one of its apps, or name the column in store.columns.app",
            ),
            [] if mine.len() > 1 => check.warn(
                at(mine[0]),
                format!("no app is the default of `{provider}`: accounts that name none are not refreshed"),
                "write `default: true` in one of its apps",
            ),
            _ => {}
        }
    }
    apps
}

fn at(nth: usize) -> KeyPath {
    KeyPath::from("apps").index(nth)
}

/// Most apps in a file.
const APPS_MAX: usize = 256;

/// Most client secrets that an app may have at a time: each refusal is followed by a question with the next.
const SECRETS_MAX: usize = 4;

/// Most scopes that an app may require.
const SCOPES_MAX: usize = 32;
