//! The web configuration of the telemetry listener: a file of its own, in the form that Prometheus' exporters share.
//!
//! What that form has and this program has not is refused by its name, and never passed over: who wrote it believes
//! himself protected by it.

use super::{Check, add};
use crate::{
    config::{
        explain, file,
        problem::{KeyPath, Problem},
        yaml::Document,
    },
    server::{
        tls::{self, CertificateFiles, ClientCertificates, Group, Version},
        web_config::{COST_MAX, Hash, Settings, USERS_MAX, Users, WrongHash},
    },
};
use hyper::header::{HeaderName, HeaderValue};
use serde::{Deserialize, de::IgnoredAny};
use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
};

pub(super) fn check(check: &mut Check<'_>, server: &file::Server) -> Option<Settings> {
    let (path, asked) = match (&check.overrides.web_config, &server.web_config_file) {
        (Some(path), _) => (path.clone(), path.clone()),
        (None, Some(path)) => (check.resolved(path), path.clone()),
        (None, None) => return None,
    };
    let text = match super::read_beside(&path, FILE_BYTES_MAX, NAME_ONE) {
        Ok(text) => text,
        Err((what, remedy)) => {
            let remedy = match check.overrides.web_config {
                Some(_) => "correct the path after --web.config.file",
                None => remedy,
            };
            let what = format!("cannot read \"{}\": {what}", asked.display());
            check.problem("server.web_config_file", what, remedy);
            return None;
        }
    };
    let mut inner = Check::new(&path, &text, check.overrides);
    let settings = read(&mut inner, &text);
    check.problems.append(&mut inner.problems);
    check.warnings.append(&mut inner.warnings);
    settings
}

fn read(check: &mut Check<'_>, text: &str) -> Option<Settings> {
    let refused = |check: &mut Check<'_>, faults| {
        let problems: Vec<Problem> = check.refused(faults, IN_THE_MANUAL);
        check.problems.extend(problems);
    };
    let mut document = match Document::parse(text) {
        Ok(document) => document,
        Err(faults) => {
            refused(check, faults);
            return None;
        }
    };
    let file = document.read::<WebFile>();
    check.document = Some(document);
    let file = match file {
        Ok(file) => file,
        Err(faults) => {
            refused(check, faults);
            return None;
        }
    };
    if file.rate_limit.is_some() {
        let what = "a rate that all clients share is not supported, expected no such key";
        check.problem(
            "rate_limit",
            what,
            "remove it; server.connections_max is a bound on clients",
        );
    }
    Some(Settings {
        file: check.path.to_owned(),
        tls: file.tls_server_config.as_ref().and_then(|server| tls(check, server)),
        headers: headers(check, &file.http_server_config),
        users: users(check, &file.basic_auth_users),
    })
}

fn tls(check: &mut Check<'_>, server: &TlsServer) -> Option<tls::Settings> {
    let before = check.problems.len();
    for (name, file, is_there) in [
        ("cert", "cert_file", server.cert.is_some()),
        ("key", "key_file", server.key.is_some()),
        ("client_ca", "client_ca_file", server.client_ca.is_some()),
    ] {
        if is_there {
            let what = format!("it stands in this file, expected the name of a file in {file}");
            let remedy = format!("put it into a file of its own, and name that in `{file}`");
            check.problem_unshown(at(name), what, remedy);
        }
    }
    if server.client_allowed_sans.is_some() {
        let what = "names in clients' certificates are not looked at, expected no such key";
        let remedy = "remove it, and name an authority of the clients' own in client_ca_file";
        check.problem(at("client_allowed_sans"), what, remedy);
    }
    let settings = tls::Settings {
        files: CertificateFiles {
            certificate: pem(
                check,
                "cert_file",
                server.cert_file.as_deref(),
                server.cert.is_some(),
            ),
            key: pem(check, "key_file", server.key_file.as_deref(), server.key.is_some()),
        },
        clients: clients(check, server),
        versions: versions(check, server),
        cipher_suites: cipher_suites(check, &server.cipher_suites),
        groups: groups(check, &server.curve_preferences),
        server_chooses: server.prefer_server_cipher_suites,
    };
    if check.problems.len() > before {
        return None;
    }
    check.warn_if_open(at("key_file"), &settings.files.key);
    if let Err(error) = tls::acceptor(&settings) {
        let is_about = |path: &Path| error.starts_with(&format!("{}:", path.display()));
        let name = match &settings.clients {
            Some(clients) if is_about(&clients.authorities) => "client_ca_file",
            _ if is_about(&settings.files.key) => "key_file",
            _ => "cert_file",
        };
        check.problem(at(name), error, PEM);
        return None;
    }
    Some(settings)
}

fn pem(check: &mut Check<'_>, name: &str, path: Option<&Path>, is_inline: bool) -> PathBuf {
    match path {
        Some(path) => {
            let key = format!("{TLS}.{name}");
            check.readable(&key, path, PEM)
        }
        None => {
            if !is_inline {
                let what = "missing, expected certificate and key together";
                check.problem(at(name), what, add(&at(name)));
            }
            PathBuf::new()
        }
    }
}

fn clients(check: &mut Check<'_>, server: &TlsServer) -> Option<ClientCertificates> {
    let key = at("client_auth_type");
    let required = match server.client_auth_type.as_deref() {
        None | Some("" | "NoClientCert") => {
            if server.client_ca_file.is_some() {
                let what = "missing, expected what client_ca_file is for";
                check.problem(key, what, "add `client_auth_type: RequireAndVerifyClientCert`");
            }
            return None;
        }
        Some("VerifyClientCertIfGiven") => false,
        Some("RequireAndVerifyClientCert") => true,
        Some(other) => {
            let what = if UNVERIFIED.contains(&other) {
                format!("{other} would take any certificate unverified, expected a verified one")
            } else {
                format!("found {}, expected {CLIENT_AUTH}", explain::shown(other, false))
            };
            check.problem(key, what, "write RequireAndVerifyClientCert");
            return None;
        }
    };
    let Some(path) = &server.client_ca_file else {
        if server.client_ca.is_none() {
            let key = at("client_ca_file");
            let what = "missing, expected the authorities by which clients are known";
            check.problem(key.clone(), what, add(&key));
        }
        return None;
    };
    let authorities = check.readable(&format!("{TLS}.client_ca_file"), path, PEM);
    Some(ClientCertificates { authorities, required })
}

fn versions(check: &mut Check<'_>, server: &TlsServer) -> Vec<Version> {
    let mut version = |name: &str, word: Option<&str>, otherwise: Version| {
        let Some(word) = word else { return otherwise };
        let found = Version::ALL.into_iter().find(|version| version.as_label() == word);
        found.unwrap_or_else(|| {
            let shown = explain::shown(word, false);
            let what = format!("found {shown}, expected TLS12 or TLS13; older ones are not spoken");
            check.problem(at(name), what, "write TLS12 or TLS13");
            otherwise
        })
    };
    let oldest = version("min_version", server.min_version.as_deref(), Version::Tls12);
    let newest = version("max_version", server.max_version.as_deref(), Version::Tls13);
    if oldest > newest {
        let what = "older than min_version, expected the same or newer";
        check.problem(at("max_version"), what, "write `max_version: TLS13`");
    }
    Version::ALL.into_iter().filter(|one| (oldest..=newest).contains(one)).collect()
}

fn cipher_suites(check: &mut Check<'_>, names: &[String]) -> Vec<String> {
    let known = tls::cipher_suites();
    for (nth, name) in names.iter().enumerate().filter(|(_, name)| !known.contains(name)) {
        let all: Vec<&str> = known.iter().map(String::as_str).collect();
        let what = format!(
            "found {}, expected {}",
            explain::shown(name, false),
            explain::alternatives(&all)
        );
        check.problem(at("cipher_suites").index(nth), what, "correct the name, or remove it");
    }
    names.to_vec()
}

fn groups(check: &mut Check<'_>, names: &[String]) -> Vec<Group> {
    let mut groups = Vec::new();
    for (nth, name) in names.iter().enumerate() {
        match Group::ALL.into_iter().find(|group| group.as_label() == name) {
            Some(group) => groups.push(group),
            None => {
                let all = Group::ALL.map(Group::as_label);
                let what = format!(
                    "found {}, expected {}",
                    explain::shown(name, false),
                    explain::alternatives(&all)
                );
                let key = at("curve_preferences").index(nth);
                check.problem(key, what, "correct the name, or remove it");
            }
        }
    }
    groups
}

fn headers(check: &mut Check<'_>, server: &HttpServer) -> Vec<(HeaderName, HeaderValue)> {
    if server.http2 == Some(true) {
        let what = "HTTP/2 is not spoken here, expected `http2: false`";
        check.problem("http_server_config.http2", what, "write false, or remove the key");
    }
    let here = KeyPath::from("http_server_config.headers");
    let mut headers = Vec::new();
    for (name, text) in &server.headers {
        let key = here.key(name);
        let Some((known, values)) =
            HEADERS.iter().find(|(known, _)| known.eq_ignore_ascii_case(name))
        else {
            let all = explain::alternatives(&HEADERS.map(|(known, _)| known));
            let what = format!("a header that cannot be set here, expected {all}");
            check.problem_unshown(key, what, "remove it; a reverse proxy can set it".to_owned());
            continue;
        };
        let is_one = values.is_empty() || values.iter().any(|one| one.eq_ignore_ascii_case(text));
        match (is_one, HeaderValue::from_str(text)) {
            (true, Ok(value)) => {
                let name = known.to_ascii_lowercase();
                headers.push((name.parse().expect("the names of headers are known"), value));
            }
            (false, _) => {
                let expected = explain::alternatives(values);
                let what = format!("found {}, expected {expected}", explain::shown(text, false));
                check.problem(key, what, format!("write {expected}"));
            }
            (true, Err(_)) => {
                let what = "holds what no header may hold, expected visible ASCII on one line";
                check.problem_unshown(key, what.to_owned(), "write it on one line".to_owned());
            }
        }
    }
    headers
}

fn users(check: &mut Check<'_>, users: &BTreeMap<String, String>) -> Users {
    let here = KeyPath::from(USERS);
    if users.len() > USERS_MAX {
        let what = format!("{} users, expected at most {USERS_MAX}", users.len());
        check.problem_unshown(here, what, "let scrapers that may do the same share a user".into());
        return Users::default();
    }
    let mut hashes = BTreeMap::new();
    for (name, text) in users {
        let key = here.key(name);
        if name.is_empty() || name.contains(':') || name.contains(char::is_control) {
            let what = "a name that no client can send, expected one without colon".to_owned();
            check.problem_unshown(key, what, "choose another name".to_owned());
            continue;
        }
        match Hash::parse(text) {
            Ok(hash) => drop(hashes.insert(name.clone(), hash)),
            Err(WrongHash::NotBcrypt) => {
                let what = "not a bcrypt hash, expected one that begins with $2y$, $2b$ or $2a$";
                check.problem_unshown(key, what.to_owned(), MAKE_ONE.to_owned());
            }
            Err(WrongHash::TooDear(cost)) => {
                let what = format!("a hash of cost {cost}, expected {COST_MAX} at most");
                check.problem_unshown(key, what, MAKE_ONE.to_owned());
            }
        }
    }
    Users::new(hashes)
}

fn at(name: &str) -> KeyPath {
    KeyPath::from(TLS).key(name)
}

/// The file, key by key as other exporters read it.
#[derive(Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
struct WebFile {
    tls_server_config: Option<TlsServer>,
    http_server_config: HttpServer,
    basic_auth_users: BTreeMap<String, String>,
    rate_limit: Option<IgnoredAny>,
}

#[derive(Deserialize)]
#[serde(default, deny_unknown_fields)]
struct TlsServer {
    cert_file: Option<PathBuf>,
    key_file: Option<PathBuf>,
    client_ca_file: Option<PathBuf>,
    client_auth_type: Option<String>,
    min_version: Option<String>,
    max_version: Option<String>,
    cipher_suites: Vec<String>,
    prefer_server_cipher_suites: bool,
    curve_preferences: Vec<String>,
    cert: Option<IgnoredAny>,
    key: Option<IgnoredAny>,
    client_ca: Option<IgnoredAny>,
    client_allowed_sans: Option<IgnoredAny>,
}

impl Default for TlsServer {
    fn default() -> Self {
        Self {
            cert_file: None,
            key_file: None,
            client_ca_file: None,
            client_auth_type: None,
            min_version: None,
            max_version: None,
            cipher_suites: Vec::new(),
            prefer_server_cipher_suites: true,
            curve_preferences: Vec::new(),
            cert: None,
            key: None,
            client_ca: None,
            client_allowed_sans: None,
        }
    }
}

#[derive(Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
struct HttpServer {
    http2: Option<bool>,
    headers: BTreeMap<String, String>,
}

const TLS: &str = "tls_server_config";
const USERS: &str = "basic_auth_users";

/// The headers that may be set, and the only values of those that have some.
const HEADERS: [(&str, &[&str]); 5] = [
    ("Content-Security-Policy", &[]),
    ("Strict-Transport-Security", &[]),
    ("X-Content-Type-Options", &["nosniff"]),
    ("X-Frame-Options", &["deny", "sameorigin"]),
    ("X-XSS-Protection", &[]),
];

const CLIENT_AUTH: &str = "NoClientCert, VerifyClientCertIfGiven or RequireAndVerifyClientCert";

/// Ways to ask for a certificate and to believe whatever comes.
const UNVERIFIED: [&str; 3] = ["RequestClientCert", "RequireClientCert", "RequireAnyClientCert"];

const PEM: &str = "name PEM files: the certificate with its chain, its private key, authorities";
const NAME_ONE: &str = "name a web configuration; docs/web.md has an example";
const IN_THE_MANUAL: &str = "docs/web.md says what may stand in such a file";
const MAKE_ONE: &str = "make one with `htpasswd -nBC 10 NAME`";

/// Longest web configuration, in bytes.
const FILE_BYTES_MAX: usize = 64 * 1024;
