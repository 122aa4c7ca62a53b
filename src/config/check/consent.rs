//! Where people come back to: each app's redirect URI against its provider's rules and our own listener,
//! character for character. What is wrong here shows nowhere else before somebody has clicked a link.

use super::{Check, is_loopback};
use crate::{
    config::{self, Settings, explain, problem::KeyPath},
    providers::Provider,
};
use reqwest::Url;

pub(super) fn check(check: &mut Check<'_>, settings: &Settings) {
    for (nth, app) in settings.apps.iter().enumerate() {
        if let Some(provider) = settings.provider_of(app) {
            of_app(check, settings, &KeyPath::from("apps").index(nth), app, provider);
        }
    }
}

fn of_app(
    check: &mut Check<'_>,
    settings: &Settings,
    at: &KeyPath,
    app: &config::App,
    provider: &Provider,
) {
    let name = &provider.name;
    if provider.instead_of_consent().is_some() {
        if app.redirect_uri.is_some() {
            let what = format!("nobody comes back from `{name}`, which has no consent page here");
            check.problem(at.key("redirect_uri"), what, "remove the key");
        }
        return;
    }
    let is_used = settings.server.connect.is_some() || app.redirect_uri.is_some();
    if !is_used {
        return;
    }
    if !provider.has_kind(app.kind) {
        let what = format!("`{name}` does not know apps of the kind {}", app.kind.as_label());
        check.problem(at.key("kind"), what, "remove the key, or write the other one");
        return;
    }
    if settings.server.connect.is_some() && provider.authorize_endpoint(&app.endpoints).is_none() {
        check.warn(
            at.key("endpoints"),
            format!(
                "no link can connect accounts of this app: `{name}` does not know its consent page"
            ),
            "add `authorize: https://…` beneath `endpoints`",
        );
    }
    let expected = settings.expected_redirect(app);
    if let Some(own) = &app.redirect_uri {
        let key = at.key("redirect_uri");
        faults(check, &key, provider, app, own, "");
        if let Some(expected) = expected.filter(|expected| expected != own) {
            elsewhere(check, key, own, &expected);
        }
    } else if let Some(expected) = expected {
        // What is wrong with it, is wrong with the address that it was made of.
        let whose = format!("people would come back to {expected} from `{name}`, which ");
        faults(check, &KeyPath::from("connect.external_url"), provider, app, &expected, &whose);
    }
}

fn faults(
    check: &mut Check<'_>,
    key: &KeyPath,
    provider: &Provider,
    app: &config::App,
    uri: &str,
    whose: &str,
) {
    for fault in provider.redirect_faults(app.kind, uri) {
        let remedy = match whose {
            "" => "register another at the provider, and write it here as it stands there",
            _ => "write an address that fits, or give the app a `redirect_uri` of its own",
        };
        check.problem(key.clone(), format!("{whose}{fault}"), remedy);
    }
}

/// It is registered, and we do not listen there.
fn elsewhere(check: &mut Check<'_>, key: KeyPath, own: &str, expected: &str) {
    let url = Url::parse(own).ok();
    if url.as_ref().and_then(Url::host_str).is_some_and(is_loopback) {
        // Of use to `connect --here`, which listens there by itself.
        check.warn(
            key,
            format!("links cannot be used for this app: they come back to {expected}"),
            format!("register {expected} as well and write it here, or use `connect --here` only"),
        );
        return;
    }
    check.problem(
        key,
        format!("{}; people come back to {expected}", difference(own, expected)),
        format!("register {expected} at the provider, character for character, and write it here"),
    );
}

/// What differs, for somebody to whom two long addresses look the same.
fn difference(own: &str, expected: &str) -> String {
    let both = own.chars().zip(expected.chars());
    let same = both.take_while(|(own, expected)| own == expected).count();
    let rest = |uri: &str| uri.chars().skip(same).collect::<String>();
    let (found, wanted) = (rest(own), rest(expected));
    let quoted = |text: &str| explain::shown(text, true);
    match (found.is_empty(), wanted.is_empty()) {
        (true, _) => format!("{} is missing at its end", quoted(&wanted)),
        (_, true) => format!("{} is too much at its end", quoted(&found)),
        _ => {
            let at = same + 1;
            format!("{} stands at character {at}, expected {}", quoted(&found), quoted(&wanted))
        }
    }
}
