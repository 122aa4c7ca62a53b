//! `state`: where we keep what must outlive the process.

use super::{Check, is_loopback, service::BRIEF, store};
use crate::{
    config::{
        explain,
        file::{self, Span, StateKind, StateTls},
        problem::KeyPath,
    },
    state::{
        self,
        postgres::{Settings as Postgres, Tls},
    },
    stores,
};
use std::path::{Path, absolute};

pub(super) fn check(
    check: &mut Check<'_>,
    state: &file::State,
    store: &stores::Settings,
) -> state::Settings {
    let directory = check.resolved(&state.directory);
    let is_other = directory.metadata().is_ok_and(|about| !about.is_dir());
    if state.directory.as_os_str().is_empty() || is_other {
        check.problem(
            "state.directory",
            format!("\"{}\" is not a directory", state.directory.display()),
            "name a directory of our own; it is created when missing",
        );
    }
    let ours = absolute(&directory).unwrap_or_else(|_| directory.clone());
    let is_ours = |path: &Path| absolute(path).is_ok_and(|path| path.starts_with(&ours));
    if store::path_of(store).is_some_and(is_ours) {
        check.problem(
            "store.path",
            "lies in state.directory, expected a file of the publisher's",
            "move one of the two: what lies in state.directory is ours alone",
        );
    }
    let remedy = "make one with `head -c 32 /dev/urandom | base64 > FILE`, and chmod 600 it";
    let key_file = state.key_file.as_deref().map(|path| {
        let before = check.problems.len();
        let resolved = check.readable("state.key_file", path, remedy);
        if check.problems.len() == before {
            check.warn_if_open("state.key_file".into(), &resolved);
        }
        if is_ours(&resolved) {
            check.warn(
                "state.key_file",
                "lies in state.directory: whoever takes that has the key to it too",
                "keep the key elsewhere, for instance on a secrets mount",
            );
        }
        resolved
    });
    let postgres = match state.kind {
        StateKind::Sqlite => {
            refuse_postgres_keys(check, state);
            None
        }
        StateKind::Postgres => Some(postgres(check, state)),
    };
    let spill = state.spill.as_deref().map(|path| {
        let spill = check.resolved(path);
        if path.as_os_str().is_empty() || spill.metadata().is_ok_and(|about| !about.is_dir()) {
            check.problem(
                "state.spill",
                format!("\"{}\" is not a directory", path.display()),
                "name a directory on another disk than state.directory's",
            );
        }
        spill
    });
    state::Settings { directory, key_file, postgres, spill }
}

fn refuse_postgres_keys(check: &mut Check<'_>, state: &file::State) {
    let given = [
        ("host", state.host.is_some()),
        ("port", state.port.is_some()),
        ("socket", state.socket.is_some()),
        ("database", state.database.is_some()),
        ("user", state.user.is_some()),
        ("password_file", state.password_file.is_some()),
        ("password_env", state.password_env.is_some()),
        ("tls", state.tls.is_some()),
        ("ca_file", state.ca_file.is_some()),
        ("schema", state.schema.is_some()),
        ("statement_timeout", state.statement_timeout.is_some()),
        ("connect_timeout", state.connect_timeout.is_some()),
        ("lease", state.lease.is_some()),
    ];
    for (name, _) in given.iter().filter(|(_, given)| *given) {
        check.problem(
            KeyPath::from("state").key(name),
            format!("`{name}` belongs to the kind postgres, found the kind sqlite"),
            "remove it, or write `kind: postgres`",
        );
    }
}

fn postgres(check: &mut Check<'_>, state: &file::State) -> Postgres {
    let at = KeyPath::from("state");
    if state.key_file.is_none() {
        check.problem(
            at.key("key_file"),
            "missing, expected the file with the sealing key: all replicas need the same one",
            "make one with `head -c 32 /dev/urandom | base64 > FILE`, and name it on every machine",
        );
    }
    let host = server(check, state);
    let port = state.port.unwrap_or(file::STATE_PORT);
    check.within("state.port", port, 1..=65_535);
    let statement_timeout = state.statement_timeout.unwrap_or(file::STATE_STATEMENT_TIMEOUT);
    check.within("state.statement_timeout", statement_timeout, BRIEF..=TIMEOUT_MOST);
    let connect_timeout = state.connect_timeout.unwrap_or(file::STATE_CONNECT_TIMEOUT);
    check.within("state.connect_timeout", connect_timeout, BRIEF..=TIMEOUT_MOST);
    let lease = state.lease.unwrap_or(file::STATE_LEASE);
    check.within("state.lease", lease, LEASE_LEAST..=LEASE_MOST);
    let (file, env) = (state.password_file.as_deref(), state.password_env.as_deref());
    Postgres {
        port,
        database: check.text(at.key("database"), state.database.as_deref(), "a database"),
        user: check.text(at.key("user"), state.user.as_deref(), "the role to log in as"),
        password: check.secret(&at, "password", file, env, true),
        tls: tls(check, state, &host),
        host,
        schema: schema(check, state),
        statement_timeout: statement_timeout.0,
        connect_timeout: connect_timeout.0,
        lease: lease.0,
    }
}

/// The host, or the directory of the socket.
fn server(check: &mut Check<'_>, state: &file::State) -> String {
    let at = KeyPath::from("state");
    let meaning = "the host name of a PostgreSQL server";
    match (&state.host, &state.socket) {
        (Some(_), Some(_)) => {
            check.problem(
                at.key("socket"),
                "both host and socket are given, expected one of them",
                "remove one of the two",
            );
            String::new()
        }
        (None, Some(socket)) => {
            let path = check.resolved(socket);
            absolute(&path).unwrap_or(path).display().to_string()
        }
        (host, None) => {
            let host = check.text(at.key("host"), host.as_deref(), meaning);
            let is_address = host.parse::<std::net::IpAddr>().is_ok();
            if host.contains(['/', '@', ' ']) || (host.contains(':') && !is_address) {
                check.problem(
                    at.key("host"),
                    format!(
                        "{} is not a host name alone, expected {meaning}",
                        explain::shown(&host, false)
                    ),
                    "write it like db.example.com; the port has a key of its own, a socket too",
                );
            }
            host
        }
    }
}

fn tls(check: &mut Check<'_>, state: &file::State, host: &str) -> Tls {
    let remedy = "name a PEM file with certificates, or remove ca_file to trust the system's";
    let ca_file =
        state.ca_file.as_deref().map(|path| check.readable("state.ca_file", path, remedy));
    let is_here = host.is_empty() || host.starts_with('/') || is_loopback(host);
    match state.tls {
        Some(StateTls::Off) if !is_here => {
            check.problem(
                "state.tls",
                format!(
                    "off is for this machine alone, found the host {}",
                    explain::shown(host, true)
                ),
                "write require, and give the server a certificate",
            );
            Tls::None
        }
        Some(StateTls::Off) => Tls::None,
        Some(StateTls::Require) | None => Tls::Required { ca_file },
    }
}

fn schema(check: &mut Check<'_>, state: &file::State) -> String {
    let schema = state.schema.as_deref().unwrap_or(file::STATE_SCHEMA);
    let plain = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '_';
    let begins_well = schema.starts_with(|c: char| c.is_ascii_lowercase() || c == '_');
    let is_taken = schema.starts_with("pg_") || schema == "information_schema";
    if !begins_well || is_taken || schema.len() > NAME_MAX || !schema.chars().all(plain) {
        check.problem(
            "state.schema",
            format!(
                "found {}, expected small letters, digits and _, at most {NAME_MAX} of them",
                explain::shown(schema, false)
            ),
            format!("write a name of our own, such as {}", file::STATE_SCHEMA),
        );
    }
    schema.to_owned()
}

/// Longer than a statement takes that will be answered at all.
const TIMEOUT_MOST: Span = Span::seconds(60);

/// It is renewed three times, and our own clock counts it in whole seconds and a tenth less.
const LEASE_LEAST: Span = Span::seconds(5);

/// Nobody looks after the accounts of a machine that broke for so long.
const LEASE_MOST: Span = Span::seconds(600);

/// Longest name that PostgreSQL keeps whole.
const NAME_MAX: usize = 63;
