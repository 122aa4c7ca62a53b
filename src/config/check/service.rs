//! `refresh`, `http`, `server`, `webhooks` and `connect`.

use super::{Check, actions, is_loopback, publisher, web};
use crate::{
    config::{
        Refresh, explain,
        file::{self, Span},
        problem::KeyPath,
    },
    http_client,
    server::{self, socket::Listen, web_config},
};
use std::{net::SocketAddr, ops::RangeInclusive, time::Duration};

pub(super) fn refresh(check: &mut Check<'_>, refresh: &file::Refresh) -> Refresh {
    check.within("refresh.due_after", refresh.due_after, DUE_AFTER);
    check.within("refresh.spread", refresh.spread, 0.0..=0.9);
    check.within("refresh.danger", refresh.danger, 0.0..=0.9);
    check.within("refresh.assumed_life", refresh.assumed_life, LIFE_LEAST..=LIFE_MOST);
    check.within("refresh.backoff_first", refresh.backoff_first, BRIEF..=HOUR);
    check.within("refresh.backoff_max", refresh.backoff_max, BRIEF..=DAY);
    check.within("refresh.in_flight_max", refresh.in_flight_max, 1..=10_000);
    check.within("refresh.app_refusals_max", refresh.app_refusals_max, 1..=1000);
    if refresh.spread >= refresh.due_after && DUE_AFTER.contains(&refresh.due_after) {
        check.problem(
            "refresh.spread",
            format!("{} is not less than due_after ({})", refresh.spread, refresh.due_after),
            "lower spread, or new tokens would be due at once",
        );
    }
    let left = 1.0 - refresh.due_after;
    if refresh.danger >= left && DUE_AFTER.contains(&refresh.due_after) {
        check.problem(
            "refresh.danger",
            format!(
                "{} is not less than the {left:.2} of a life that is left when due",
                refresh.danger
            ),
            "lower danger or due_after, or every refresh would begin as an alarm",
        );
    }
    if refresh.backoff_first > refresh.backoff_max {
        check.problem(
            "refresh.backoff_first",
            format!(
                "{} is longer than backoff_max ({})",
                refresh.backoff_first, refresh.backoff_max
            ),
            "lower backoff_first or raise backoff_max",
        );
    }
    Refresh {
        due_fraction: refresh.due_after,
        spread_fraction: refresh.spread,
        danger_fraction: refresh.danger,
        assumed_life: refresh.assumed_life.0,
        backoff_first: refresh.backoff_first.0,
        backoff_max: refresh.backoff_max.0,
        in_flight_max: refresh.in_flight_max as usize,
        app_refusals_max: refresh.app_refusals_max,
    }
}

pub(super) fn http(check: &mut Check<'_>, http: &file::Http) -> http_client::Settings {
    check.within("http.total_deadline", http.total_deadline, Span::seconds(1)..=DEADLINE_MOST);
    check.within("http.connect_deadline", http.connect_deadline, BRIEF..=DEADLINE_MOST);
    check.within("http.in_flight_per_app_max", http.in_flight_per_app_max, 1..=1000);
    if http.connect_deadline >= http.total_deadline {
        check.problem(
            "http.connect_deadline",
            format!(
                "{} is not less than total_deadline ({})",
                http.connect_deadline, http.total_deadline
            ),
            "lower it, so that `never sent` can be told from `lost on the way`",
        );
    }
    if let Some(proxy) = &http.proxy {
        let key = KeyPath::from("http.proxy");
        check.url(key, proxy, &["http"], "http://proxy.example.com:3128");
    }
    let remedy = "name a PEM file with certificates, or remove ca_file to trust the system's";
    http_client::Settings {
        total_deadline: http.total_deadline.0,
        connect_deadline: http.connect_deadline.0,
        in_flight_per_app_max: http.in_flight_per_app_max as usize,
        ca_file: http.ca_file.as_deref().map(|path| check.readable("http.ca_file", path, remedy)),
        proxy: http.proxy.clone(),
    }
}

pub(super) fn server(check: &mut Check<'_>, file: &file::File) -> server::Settings {
    let server = &file.server;
    check.within("server.connections_max", server.connections_max, 1..=65_535);
    let configured = listen(check, "server.listen", &server.listen, "127.0.0.1:8640");
    let mut instead = check.overrides.listen.iter().copied();
    let listen = instead.next().unwrap_or(configured);
    let listen_also: Vec<SocketAddr> = instead.collect();
    let web = web::check(check, server);
    let enable_reload = server.enable_reload || check.overrides.enable_reload;
    let is_open = |web: &web_config::Settings| web.users.is_empty() && !web.asks_for_certificates();
    let mut all = [listen].into_iter().chain(listen_also.iter().copied());
    let is_seen = all.any(|one| !one.ip().is_loopback());
    if enable_reload && is_seen && web.as_ref().is_none_or(is_open) {
        check.warn(
            "server.enable_reload",
            "everybody who reaches this address can make the program reload its file",
            "listen on a loopback address, name users in a web_config_file, or reload with SIGHUP",
        );
    }
    if is_seen && web.as_ref().is_some_and(|web| web.tls.is_none() && !web.users.is_empty()) {
        check.warn(
            "server.web_config_file",
            "passwords cross the network without encryption",
            "add tls_server_config to it, or listen on a loopback address",
        );
    }
    let actions = actions::actions(check, &server.actions);
    if is_seen && actions.is_some() && web.as_ref().is_none_or(|web| web.tls.is_none()) {
        check.warn(
            "server.actions",
            "secrets and sessions cross the network without encryption",
            "name a web_config_file with TLS, or listen on a loopback address behind a proxy that has it",
        );
    }
    let publisher = publisher::publisher(check, &file.publisher, &file.gate, listen);
    let webhooks = webhooks(check, &file.webhooks, listen, publisher.as_ref());
    let asked = publisher.as_ref().and_then(|one| one.listen.address());
    let taken = [
        ("server.listen", Some(listen)),
        ("publisher.listen", asked),
        ("webhooks.listen", webhooks.as_ref().map(|one| one.listen)),
    ];
    server::Settings {
        listen,
        listen_also,
        web,
        actions,
        enable_reload,
        connections_max: server.connections_max as usize,
        connect: connect(check, &file.connect, &taken),
        webhooks,
        publisher,
    }
}

fn connect(
    check: &mut Check<'_>,
    connect: &file::Connect,
    taken: &[(&str, Option<SocketAddr>)],
) -> Option<server::Connect> {
    let listen = listen(check, "connect.listen", &connect.listen, "127.0.0.1:8643");
    check.within("connect.link_life", connect.link_life, MINUTE..=LINK_LIFE_MOST);
    let external_url = connect.external_url.as_deref().and_then(|text| {
        let key = KeyPath::from("connect.external_url");
        let url =
            check.url(key.clone(), text, &["https", "http"], "https://connect.example.com")?;
        let is_here = is_loopback(url.host_str().unwrap_or_default());
        if url.scheme() == "http" && !is_here {
            // The links are as good as a password, and so are the codes that come back.
            check.problem(key, "http, expected https except for this machine", PROXY);
        }
        Some(text.trim_end_matches('/').to_owned())
    });
    if !connect.enabled {
        return None;
    }
    let others = taken.iter().filter_map(|(key, other)| Some((key, (*other)?)));
    for (key, other) in others.filter(|(_, other)| collide(listen, *other)) {
        check.problem(
            "connect.listen",
            format!("{listen} is taken by {key} ({other})"),
            "choose another port; owners have a listener of their own",
        );
    }
    if external_url.is_none() && !listen.ip().is_loopback() {
        check.problem(
            "connect.external_url",
            format!("missing, expected how people reach {listen}"),
            PROXY,
        );
    }
    Some(server::Connect {
        listen,
        external_url,
        link_life: connect.link_life.0,
        keys_are_subjects: connect.keys_are_subjects,
    })
}

fn webhooks(
    check: &mut Check<'_>,
    webhooks: &file::Webhooks,
    telemetry: SocketAddr,
    publisher: Option<&server::publisher::Settings>,
) -> Option<server::Webhooks> {
    let listen = listen(check, "webhooks.listen", &webhooks.listen, "127.0.0.1:8642");
    let (file, env) = (webhooks.secret_file.as_deref(), webhooks.secret_env.as_deref());
    let secret = check.secret(&"webhooks".into(), "secret", file, env, webhooks.enabled);
    if !webhooks.enabled {
        return None;
    }
    let publishers = publisher.and_then(|publisher| match publisher.listen {
        Listen::Tcp(address) => Some(address),
        Listen::Unix { .. } => None,
    });
    let others = [("server.listen", Some(telemetry)), ("publisher.listen", publishers)];
    for (key, other) in others {
        if let Some(other) = other.filter(|other| collide(listen, *other)) {
            check.problem(
                "webhooks.listen",
                format!("{listen} is taken by {key} ({other})"),
                "choose another port; what comes from outside has a listener of its own",
            );
        }
    }
    Some(server::Webhooks { listen, secret })
}

pub(super) fn listen(check: &mut Check<'_>, key: &str, text: &str, example: &str) -> SocketAddr {
    text.parse().unwrap_or_else(|_| {
        check.problem(
            key,
            format!("found {}, expected an IP address and a port", explain::shown(text, false)),
            format!("write {example} for this machine alone, 0.0.0.0:PORT for everybody"),
        );
        SocketAddr::from(([127, 0, 0, 1], 0))
    })
}

/// Port 0 is chosen by the system, each time another one.
pub(super) fn collide(a: SocketAddr, b: SocketAddr) -> bool {
    let anywhere = a.ip().is_unspecified() || b.ip().is_unspecified();
    a.port() == b.port() && a.port() != 0 && (a.ip() == b.ip() || anywhere)
}

/// Earlier refreshes more than it keeps alive; later leaves no time to try again.
const DUE_AFTER: RangeInclusive<f64> = 0.1..=0.95;
pub(super) const BRIEF: Span = Span(Duration::from_millis(100));
pub(super) const HOUR: Span = Span::seconds(60 * 60);
pub(super) const DAY: Span = Span::seconds(24 * 60 * 60);
const LIFE_LEAST: Span = Span::seconds(10);
const LIFE_MOST: Span = Span::seconds(366 * 24 * 60 * 60);
pub(super) const MINUTE: Span = Span::seconds(60);
const LINK_LIFE_MOST: Span = Span::seconds(30 * 24 * 60 * 60);
const PROXY: &str =
    "put a reverse proxy with TLS in front, and write its address: https://connect.example.com";
const DEADLINE_MOST: Span = Span::seconds(2 * 60);
