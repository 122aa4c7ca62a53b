//! `store.redis`: a server, its keys and the fields of its hashes.

use super::{Check, add, is_loopback, store};
use crate::{
    config::{
        explain,
        file::{self, RedisTls, Span},
        problem::KeyPath,
    },
    stores::{
        Settings,
        redis::{Address, Fields, KeyPattern, Settings as Redis, Tls},
        sqlite::TimeColumn,
    },
};
use std::{collections::BTreeSet, time::Duration};

pub(super) fn check(check: &mut Check<'_>, store: &file::Store, providers: &[&str]) -> Settings {
    let nothing = file::Redis::default();
    let redis = store.redis.as_ref().unwrap_or(&nothing);
    let at = KeyPath::from("store.redis");
    check.within(
        "store.redis.connect_timeout",
        redis.connect_timeout,
        TIMEOUT_LEAST..=TIMEOUT_MOST,
    );
    check.within(
        "store.redis.command_timeout",
        redis.command_timeout,
        TIMEOUT_LEAST..=TIMEOUT_MOST,
    );
    if redis.username.is_some() && redis.password_file.is_none() && redis.password_env.is_none() {
        check.problem(
            at.key("username"),
            "a user name without a password, expected both or neither",
            "add `password_file: …` or `password_env: …`",
        );
    }
    let password = check.secret(
        &at,
        "password",
        redis.password_file.as_deref(),
        redis.password_env.as_deref(),
        true,
    );
    Settings::Redis(Redis {
        address: address(check, &at, redis),
        database: redis.database,
        username: redis
            .username
            .as_deref()
            .map(|name| check.text(at.key("username"), Some(name), "the name of a user")),
        password,
        connect_timeout: redis.connect_timeout.0,
        command_timeout: redis.command_timeout.0,
        poll_every: store.poll_every.0,
        notifications: redis.notifications,
        key: key(check, &at, redis, providers),
        fields: redis.fields.as_ref().map_or_else(Fields::simple, |map| fields(check, map)),
    })
}

fn address(check: &mut Check<'_>, at: &KeyPath, redis: &file::Redis) -> Address {
    if let Some(socket) = &redis.socket {
        for (name, given) in [("host", redis.host.is_some()), ("ca_file", redis.ca_file.is_some())]
        {
            if given {
                check.problem(
                    at.key(name),
                    format!("both socket and {name} are given, expected one of them"),
                    "remove socket for a server on the network",
                );
            }
        }
        return Address::Unix(check.resolved(socket));
    }
    if redis.host.is_none() {
        check.problem(
            at.key("host"),
            "neither host nor socket is given, expected one of them",
            "add `host: redis.example.com`, or `socket: /run/redis/redis.sock`, beneath `redis:`",
        );
        return Address::Unix("".into());
    }
    let host = check.text(at.key("host"), redis.host.as_deref(), "the name of the server");
    let looks_like_a_url = host.contains('/') || host.contains('@');
    let with_port = host.matches(':').count() == 1;
    if looks_like_a_url || with_port {
        check.problem_unshown(
            at.key("host"),
            "more than a host stands here, expected a name or an address alone".to_owned(),
            "write host, port, database, username and tls each in its own key".to_owned(),
        );
    }
    if redis.port == 0 {
        check.problem(at.key("port"), "found 0, expected 1 to 65535", "write the server's port");
    }
    let ca_file = redis.ca_file.as_ref().map(|path| {
        check.readable(
            "store.redis.ca_file",
            path,
            "name a PEM file with the authority's certificate",
        )
    });
    let tls = match redis.tls {
        RedisTls::Require => Some(Tls { ca_file }),
        RedisTls::Off => {
            if !is_loopback(&host) && !looks_like_a_url && !host.is_empty() {
                check.problem(
                    at.key("tls"),
                    "off for a server on another machine, expected require: tokens would be readable on the way",
                    "write `tls: require`; where the server cannot, put a TLS tunnel on this machine",
                );
            }
            None
        }
    };
    Address::Tcp { host: host.trim_matches(['[', ']']).to_owned(), port: redis.port, tls }
}

fn key(check: &mut Check<'_>, at: &KeyPath, redis: &file::Redis, providers: &[&str]) -> KeyPattern {
    if let Some(name) = &redis.provider_name {
        store::known_provider(check, at.key("provider_name"), name, providers);
    }
    let pattern = match &redis.key {
        Some(_) => check.text(at.key("key"), redis.key.as_deref(), "a pattern of keys"),
        None => KeyPattern::SIMPLE.to_owned(),
    };
    KeyPattern::new(&pattern, redis.provider_name.as_deref()).unwrap_or_else(|wrong| {
        if !pattern.is_empty() {
            let (what, remedy) = wrong.split_once("; ").unwrap_or((wrong, "correct it"));
            let key = if redis.key.is_some() { "key" } else { "provider_name" };
            check.problem(at.key(key), format!("the pattern {what}"), remedy);
        }
        KeyPattern::new(KeyPattern::SIMPLE, None).expect("our own pattern is one")
    })
}

fn fields(check: &mut Check<'_>, map: &file::RedisFields) -> Fields {
    let at = KeyPath::from("store.redis.fields");
    let access_token = match &map.access_token {
        Some(name) => field(check, &at, "access_token", name),
        None => {
            let key = at.key("access_token");
            check.problem(key.clone(), "missing, expected the name of a field", add(&key));
            String::new()
        }
    };
    let mut name = |name: &str, given: &Option<String>| {
        given.as_deref().map(|given| field(check, &at, name, given))
    };
    let (refresh_token, scopes) =
        (name("refresh_token", &map.refresh_token), name("scopes", &map.scopes));
    let (subject, app) = (name("subject", &map.subject), name("app", &map.app));
    let (owner, enabled) = (name("owner", &map.owner), name("enabled", &map.enabled));
    let mut time = |name: &str, given: &Option<file::TimeColumn>| -> Option<TimeColumn> {
        let given = given.as_ref()?;
        field(check, &at, name, &given.name);
        Some(store::time_column(given))
    };
    let expires_at = time("expires_at", &map.expires_at);
    let refresh_expires_at = time("refresh_expires_at", &map.refresh_expires_at);
    let issued_at = time("issued_at", &map.issued_at);
    let status = map.status.as_ref().map(|status| {
        let at = at.key("status");
        let name = check.text(at.key("name"), status.name.as_deref(), "the name of a field");
        store::status_values(check, &at, name, status)
    });
    let fields = Fields {
        access_token,
        refresh_token,
        expires_at,
        refresh_expires_at,
        issued_at,
        scopes,
        subject,
        app,
        owner,
        enabled,
        status,
    };
    let mut seen = BTreeSet::new();
    if let Some(twice) = fields.names().into_iter().find(|name| !seen.insert(*name)) {
        check.problem(
            at,
            format!("the field {} has two meanings, expected one", explain::shown(twice, true)),
            "give each meaning a field of its own, or leave it out",
        );
    }
    fields
}

fn field(check: &mut Check<'_>, at: &KeyPath, key: &str, name: &str) -> String {
    check.text(at.key(key), Some(name), "the name of a field")
}

const TIMEOUT_LEAST: Span = Span(Duration::from_millis(100));
const TIMEOUT_MOST: Span = Span::seconds(60);
