//! `publisher` and `gate`: who may ask on which listener, and what it is told.

use super::{
    Check, add, is_loopback,
    service::{BRIEF, DAY, collide, listen},
};
use crate::{
    config::{explain, file, problem::KeyPath},
    core::permits::Pace,
    hooks, http_client,
    providers::schema::OneOrMany,
    server::{
        publisher::{Client, Right, Settings, WhenUnknown},
        socket::Listen,
        tls::{CertificateFiles, Tls},
    },
};
use std::{net::SocketAddr, path::PathBuf};

pub(super) fn publisher(
    check: &mut Check<'_>,
    publisher: &file::Publisher,
    gate: &file::Gate,
    telemetry: SocketAddr,
) -> Option<Settings> {
    let at = KeyPath::from("publisher");
    check.within("gate.canary_deadline", gate.canary_deadline, file::Span::seconds(10)..=DAY);
    check.within("gate.resume_every", gate.resume_every, BRIEF..=DAY);
    let listen = listens(check, publisher, telemetry);
    let certificate = certificate(check, publisher, &listen);
    let clients = clients(check, publisher);
    if !publisher.enabled {
        return None;
    }
    if clients.is_empty() {
        check.problem(
            at.key("clients"),
            "the listener is enabled and nobody may ask, expected at least one client",
            "add `clients: [{name: publisher, secret_file: ./secrets/publisher, rights: [read, report, publish]}]`",
        );
    }
    if publisher.serve_tokens && !clients.iter().any(|client| client.rights.contains(&Right::Token))
    {
        check.warn(
            at.key("serve_tokens"),
            "no client has the right token, so nobody gets one",
            "add the right to a client, or switch it off",
        );
    }
    if let Listen::Tcp(address) = &listen
        && !address.ip().is_loopback()
        && certificate.is_none()
    {
        check.warn(
            at.key("listen"),
            "the clients' secrets cross the network without encryption",
            "name a cert_file and a key_file, or listen on a loopback address or a socket",
        );
    }
    Some(Settings {
        listen,
        certificate,
        serve_tokens: publisher.serve_tokens,
        clients,
        when_unknown: match gate.when_unknown {
            file::WhenUnknown::Open => WhenUnknown::Open,
            file::WhenUnknown::Held => WhenUnknown::Held,
        },
        pace: Pace { canary_deadline: gate.canary_deadline.0, resume_every: gate.resume_every.0 },
    })
}

fn listens(check: &mut Check<'_>, publisher: &file::Publisher, telemetry: SocketAddr) -> Listen {
    let key = "publisher.listen";
    let mode = mode(check, &publisher.socket_mode);
    if let Some(path) = publisher.listen.strip_prefix("unix:") {
        let path = PathBuf::from(path);
        let is_long = path.as_os_str().len() > SOCKET_PATH_BYTES_MAX;
        if !path.is_absolute() || is_long || path.file_name().is_none() {
            check.problem(
                key,
                format!(
                    "found {}, expected an absolute path of at most {SOCKET_PATH_BYTES_MAX} bytes after unix:",
                    explain::shown(&publisher.listen, false)
                ),
                "write it like unix:/run/oauth-keepalive/publisher.sock",
            );
        }
        return Listen::Unix { path, mode };
    }
    let address = listen(check, key, &publisher.listen, "127.0.0.1:8641 or unix:/path/to/socket");
    if publisher.enabled && collide(address, telemetry) {
        check.problem(
            key,
            format!("{address} is taken by server.listen ({telemetry})"),
            "choose another port; publishers have a listener of their own",
        );
    }
    Listen::Tcp(address)
}

fn mode(check: &mut Check<'_>, text: &str) -> u32 {
    let is_octal = text.len() <= 4 && text.bytes().all(|byte| (b'0'..=b'7').contains(&byte));
    match u32::from_str_radix(text, 8).ok().filter(|mode| is_octal && *mode <= 0o777) {
        Some(mode) => mode,
        None => {
            check.problem(
                "publisher.socket_mode",
                format!("found {}, expected octal permissions", explain::shown(text, false)),
                "write \"0660\", in quotes, so that its owner and group may connect",
            );
            0o600
        }
    }
}

fn certificate(
    check: &mut Check<'_>,
    publisher: &file::Publisher,
    listen: &Listen,
) -> Option<CertificateFiles> {
    let at = KeyPath::from("publisher");
    let (certificate, key) = match (&publisher.cert_file, &publisher.key_file) {
        (None, None) => return None,
        (Some(certificate), Some(key)) => (certificate, key),
        (Some(_), None) | (None, Some(_)) => {
            let missing = if publisher.key_file.is_none() { "key_file" } else { "cert_file" };
            let what = "missing, expected certificate and key together";
            check.problem(at.key(missing), what, add(&at.key(missing)));
            return None;
        }
    };
    if matches!(listen, Listen::Unix { .. }) {
        let what = "a socket on this machine is never encrypted";
        check.problem(at.key("cert_file"), what, "remove cert_file and key_file");
        return None;
    }
    let remedy = "name PEM files: the certificate with its chain, and its private key";
    let files = CertificateFiles {
        certificate: check.readable("publisher.cert_file", certificate, remedy),
        key: check.readable("publisher.key_file", key, remedy),
    };
    check.warn_if_open(at.key("key_file"), &files.key);
    if files.certificate.is_file() && files.key.is_file() {
        http_client::install_crypto();
        if let Err(error) = Tls::load(files.clone().into()) {
            check.problem(at.key("cert_file"), error, remedy);
        }
    }
    Some(files)
}

fn clients(check: &mut Check<'_>, publisher: &file::Publisher) -> Vec<Client> {
    let at = KeyPath::from("publisher.clients");
    if publisher.clients.len() > CLIENTS_MAX {
        let what = format!("{} elements, expected at most {CLIENTS_MAX}", publisher.clients.len());
        check.problem(at, what, "let publishers that may do the same share a client");
        return Vec::new();
    }
    let mut checked: Vec<Client> = Vec::new();
    for (nth, client) in publisher.clients.iter().enumerate() {
        let here = at.index(nth);
        let meaning = "a name for the log";
        let name = check.text(here.key("name"), client.name.as_deref(), meaning);
        if checked.iter().any(|other| *other.name == *name) && !name.is_empty() {
            let what = format!("{} is there already", explain::shown(&name, true));
            check.problem(here.key("name"), what, "give each client a name of its own");
        }
        let (file, env) = (client.secret_file.as_deref(), client.secret_env.as_deref());
        let secret = check.secret(&here, "secret", file, env, publisher.enabled);
        if file.is_none() && env.is_none() {
            check.problem(
                here.key("secret_file"),
                "missing, expected secret_file or secret_env",
                "put a long random text in a file and name it in `secret_file`",
            );
        }
        if let Some(earlier) = checked.iter().find(|other| Some(&other.secret) == secret.as_ref()) {
            let what = format!("it is the secret of {} too", explain::shown(&earlier.name, true));
            check.problem(here.key("name"), what, "give each client a secret of its own");
        }
        let rights = rights(check, &here, &client.rights);
        let accounts = accounts(check, &here, client.accounts.as_ref());
        if let Some(secret) = secret {
            checked.push(Client { name: name.into(), secret, rights, accounts });
        }
    }
    checked
}

fn rights(check: &mut Check<'_>, here: &KeyPath, words: &[String]) -> Vec<Right> {
    let all = Right::ALL.map(Right::as_label).join(", ");
    if words.is_empty() {
        let what = format!("missing, expected some of {all}");
        check.problem(here.key("rights"), what, "add `rights: [read, report, publish]`");
    }
    let mut rights = Vec::new();
    for (nth, word) in words.iter().enumerate() {
        match Right::from_label(word) {
            Some(right) => rights.push(right),
            None => {
                let what = format!("found {}, expected one of {all}", explain::shown(word, false));
                let key = here.key("rights").index(nth);
                check.problem(key, what, "correct the word, or remove it");
            }
        }
    }
    rights
}

/// Who is told of gates that move; nobody, unless the rest is enabled.
pub(super) fn webhooks(check: &mut Check<'_>, publisher: &file::Publisher) -> Vec<hooks::Settings> {
    let at = KeyPath::from("publisher.webhooks");
    if publisher.webhooks.len() > WEBHOOKS_MAX {
        let what =
            format!("{} elements, expected at most {WEBHOOKS_MAX}", publisher.webhooks.len());
        check.problem(at, what, "let one of them pass it on");
        return Vec::new();
    }
    let mut checked = Vec::new();
    for (nth, hook) in publisher.webhooks.iter().enumerate() {
        let here = at.index(nth);
        let (file, env) = (hook.secret_file.as_deref(), hook.secret_env.as_deref());
        let secret = check.secret(&here, "secret", file, env, publisher.enabled);
        if file.is_none() && env.is_none() {
            check.problem(
                here.key("secret_file"),
                "missing, expected secret_file or secret_env",
                "put a long random text in a file and name it in `secret_file`",
            );
        }
        let accounts = accounts(check, &here, hook.accounts.as_ref());
        let url = hook_url(check, &here, hook.url.as_deref());
        if let (Some(url), Some(secret)) = (url, secret) {
            checked.push(hooks::Settings { url, secret, accounts });
        }
    }
    checked.retain(|_| publisher.enabled);
    checked
}

fn hook_url(check: &mut Check<'_>, here: &KeyPath, text: Option<&str>) -> Option<String> {
    let key = here.key("url");
    let Some(text) = text else {
        check.problem(key.clone(), "missing, expected where the publisher listens", add(&key));
        return None;
    };
    let url =
        check.url(key.clone(), text, &["https", "http"], "https://publisher.example.com/gates")?;
    if url.scheme() == "http" && !is_loopback(url.host_str().unwrap_or_default()) {
        check.problem_unshown(
            key,
            "http is for this machine alone, expected https".to_owned(),
            "write it like https://publisher.example.com/gates".to_owned(),
        );
        return None;
    }
    Some(text.to_owned())
}

fn accounts(
    check: &mut Check<'_>,
    here: &KeyPath,
    patterns: Option<&OneOrMany<String>>,
) -> Vec<String> {
    let Some(patterns) = patterns else { return vec!["*".to_owned()] };
    let at = here.key("accounts");
    if patterns.0.is_empty() || patterns.0.len() > PATTERNS_MAX {
        let what = format!("{} patterns, expected 1 to {PATTERNS_MAX}", patterns.0.len());
        check.problem(at, what, "write accounts such as tiktok/brand-*, or remove the key for all");
        return Vec::new();
    }
    let nth = |nth| if patterns.0.len() == 1 { at.clone() } else { at.index(nth) };
    let pattern =
        |(position, text): (usize, &String)| super::mail::pattern(check, nth(position), Some(text));
    patterns.0.iter().enumerate().map(pattern).collect()
}

const CLIENTS_MAX: usize = 32;
const WEBHOOKS_MAX: usize = 8;
const PATTERNS_MAX: usize = 64;

/// What the kernel takes, less what is appended while the socket is made.
const SOCKET_PATH_BYTES_MAX: usize = 90;
