//! `notify`: who is told by a request instead of by mail.

use super::{Check, add, is_loopback, mail::pattern};
use crate::{
    config::{explain, file, problem::KeyPath},
    core::notices::Audience,
    delivery::{Url, Webhook, WebhookFormat},
};

pub(super) fn check(check: &mut Check<'_>, notify: &file::Notify) -> Vec<Webhook> {
    let at = KeyPath::from("notify.webhooks");
    if notify.webhooks.len() > WEBHOOKS_MAX {
        let what = format!("{} elements, expected at most {WEBHOOKS_MAX}", notify.webhooks.len());
        check.problem(at, what, "let one of them pass notices on");
        return Vec::new();
    }
    let mut checked: Vec<Webhook> = Vec::new();
    for (nth, one) in notify.webhooks.iter().enumerate() {
        let here = at.index(nth);
        let webhook = webhook(check, &here, one);
        if checked.iter().any(|other| other.name == webhook.name && !webhook.name.is_empty()) {
            let what = format!("{} is taken", explain::shown(&webhook.name, true));
            check.problem(here.key("name"), what, "give each webhook a name of its own");
        }
        checked.push(webhook);
    }
    checked
}

fn webhook(check: &mut Check<'_>, here: &KeyPath, one: &file::NotifyWebhook) -> Webhook {
    let name = check.text(here.key("name"), one.name.as_deref(), "a name of your choice");
    let url = url(check, here, one);
    let (file, env) = (one.secret_file.as_deref(), one.secret_env.as_deref());
    let secret = check.secret(here, "secret", file, env, true);
    let format = match one.format {
        file::WebhookFormat::Json => WebhookFormat::Json,
        file::WebhookFormat::Slack => WebhookFormat::Slack,
    };
    if format == WebhookFormat::Slack && (file.is_some() || env.is_some()) {
        let key = here.key(if file.is_some() { "secret_file" } else { "secret_env" });
        let remedy = "remove it; the URL is the secret there, so keep it in url_file";
        check.problem(key, "Slack checks no signature, expected none", remedy);
    }
    let accounts = match one.accounts.as_deref() {
        None => "*".to_owned(),
        some => pattern(check, here.key("accounts"), some),
    };
    let audience = match one.audience {
        file::WebhookAudience::Owner => Audience::Owner,
        file::WebhookAudience::Operator => Audience::Operator,
    };
    Webhook { name, url, format, secret, audience, accounts }
}

fn url(check: &mut Check<'_>, here: &KeyPath, one: &file::NotifyWebhook) -> Url {
    let (file, env) = (one.url_file.as_deref(), one.url_env.as_deref());
    let secret = check.secret(here, "url", file, env, true);
    let nothing = Url::Plain(String::new());
    match (&one.url, secret) {
        (Some(_), Some(_)) => {
            let what = "both url and a secret place for it are given, expected one of them";
            check.problem(here.key("url"), what, "remove one of the two");
            nothing
        }
        (None, Some(secret)) => Url::Secret(secret),
        (None, None) => {
            if file.is_none() && env.is_none() {
                let what = "missing, expected the URL of the webhook, or url_file or url_env";
                check.problem(here.key("url"), what, add(&here.key("url")));
            }
            nothing
        }
        (Some(text), None) => {
            let example = "https://hooks.example.com/keepalive";
            let parsed = check.url(here.key("url"), text, &["https", "http"], example);
            let in_clear = parsed
                .filter(|url| url.scheme() == "http" && !url.host_str().is_some_and(is_loopback));
            if in_clear.is_some() {
                let what = "http is for this machine alone, expected https";
                check.problem_unshown(
                    here.key("url"),
                    what.to_owned(),
                    format!("write it like {example}"),
                );
            }
            Url::Plain(text.clone())
        }
    }
}

/// Most webhooks.
const WEBHOOKS_MAX: usize = 16;
