//! A file becomes checked settings. Every other part owns the type of its own settings; this fills them.
//!
//! The way of a file: `yaml` makes a tree that knows its lines, `file` gives it types and defaults,
//! `check` gives it meaning and finds the contradictions. [`Watch`] says when to do it again.
//!
//! Absent on purpose: variables in the text (`${...}`), includes, and secrets. A secret is named, by file
//! or environment variable, so that a configuration can be shown and kept under version control.

mod check;
mod explain;
mod file;
mod problem;
mod watch;
mod yaml;

pub use problem::{KeyPath, Place, Problem, Problems, Warning};
pub use watch::{Watch, Watches};

use crate::{
    providers::{self, Described, Endpoints, Environment, Kind, Provider},
    secrets::SecretRef,
    server::CALLBACK_PATH,
    stores::{self, server::Host},
};
use serde::Deserialize;
use std::{
    fs::File,
    io::{self, Read},
    net::SocketAddr,
    path::{Path, PathBuf},
    time::Duration,
};

/// A file that may be used.
#[derive(Clone, Debug)]
pub struct Loaded {
    /// What it says.
    pub settings: Settings,
    /// What is legal in it and may hurt all the same.
    pub warnings: Vec<Warning>,
}

/// Everything that the configuration file says, checked.
#[derive(Clone, Debug)]
pub struct Settings {
    /// The HTTP surface.
    pub server: crate::server::Settings,
    /// Who is told of gates that move.
    pub hooks: Vec<crate::hooks::Settings>,
    /// The publisher's token store.
    pub store: stores::Settings,
    /// Our own state.
    pub state: crate::state::Settings,
    /// Outgoing requests.
    pub http: crate::http_client::Settings,
    /// Providers that are not in the catalogue; no name is in it, or here twice.
    pub providers: Vec<Described>,
    /// Apps, in the order of the file; names are unique.
    pub apps: Vec<App>,
    /// When and how hard to refresh.
    pub refresh: Refresh,
    /// The gate of each account.
    pub gate: Gate,
    /// Mail.
    pub delivery: crate::delivery::Settings,
    /// What is learnt where the publisher changes nothing.
    pub observe: crate::observe::Settings,
    /// Metrics.
    pub metrics: Metrics,
    /// What is logged.
    pub log: crate::logs::Settings,
}

/// One client registration at a provider.
#[derive(Clone, Debug)]
pub struct App {
    /// Its name; accounts refer to it.
    pub name: String,
    /// A name in the catalogue, or of a described provider.
    pub provider: String,
    /// Which of the provider's worlds it lives in.
    pub environment: Environment,
    /// Its owner still tests it at the provider, and consents live shorter.
    pub is_testing: bool,
    /// What it is registered as.
    pub kind: Kind,
    /// Where people come back to from its consent page; `None` is where the links' listener is reached.
    pub redirect_uri: Option<String>,
    /// Public id (`client_key` at TikTok).
    pub client_id: String,
    /// Its secret; none for public clients. Several during a rotation, in the order in which they are tried.
    pub client_secrets: Vec<SecretRef>,
    /// Scopes that publishing needs; at most 32.
    pub scopes: Vec<String>,
    /// Endpoints that replace the provider's: sandboxes, tests, and the generic provider's own.
    pub endpoints: Endpoints,
    /// True when the accounts of its provider belong to it unless the store says otherwise.
    pub default_for_provider: bool,
}

/// When and how hard to refresh.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Refresh {
    /// Share of a token's own declared life after which it is due; between 0.1 and 0.95.
    pub due_fraction: f64,
    /// Share of the life by which due instants are spread before that point.
    pub spread_fraction: f64,
    /// Share of the life that is left when trouble stops being transient.
    pub danger_fraction: f64,
    /// The life to assume for a token of which nobody declared one.
    pub assumed_life: Duration,
    /// First pause after a failure.
    pub backoff_first: Duration,
    /// Longest pause after failures.
    pub backoff_max: Duration,
    /// Refreshes under way in all.
    pub in_flight_max: usize,
    /// Refused requests after which an app is frozen.
    pub app_refusals_max: u32,
}

/// The gate of each account.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Gate {
    /// What proves an account before its queue goes on.
    pub proof: Proof,
}

/// What proves an account before its queue goes on.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Proof {
    /// The provider's publish check; where there is none, the publisher's next publish if it can tell us, otherwise the
    /// provider's check of access tokens, otherwise the saved token.
    #[default]
    Auto,
    /// The publisher's next publish, at every provider.
    Publish,
    /// The saved token.
    Token,
}

/// Metrics.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Metrics {
    /// Whether `/metrics` has series per account.
    pub per_account: bool,
}

impl Settings {
    /// The provider of an app, as the app sees it.
    #[must_use]
    pub fn provider_of(&self, app: &App) -> Option<&'static Provider> {
        provider(&app.provider, app.environment, &self.providers)
    }

    /// Where people come back to from the consent page of `app`, as its redirect URI must read where links are to
    /// work; `None` while there is no listener, or the system chooses its port.
    #[must_use]
    pub fn expected_redirect(&self, app: &App) -> Option<String> {
        let connect = self.server.connect.as_ref()?;
        if connect.external_url.is_none() && connect.listen.port() == 0 {
            return None;
        }
        let provider = self.provider_of(app)?;
        Some(redirect_below(&connect.base(connect.listen), provider, app.kind))
    }

    /// True when store and state are the same database, reached by the same user at the same place: then a
    /// result and its save are one transaction. Two names of one server are two places.
    #[must_use]
    pub fn is_one_database(&self) -> bool {
        let (stores::Settings::Postgres(store), Some(state)) = (&self.store, &self.state.postgres)
        else {
            return false;
        };
        let same_place = match &store.host {
            Host::Tcp(host, port) => *host == state.host && *port == state.port,
            Host::Socket(directory, port) => {
                *directory == *Path::new(&state.host) && *port == state.port
            }
        };
        same_place && store.database == state.database && store.user == state.user
    }
}

/// Where people come back to below `base`, in the way that `provider` wants it.
#[must_use]
pub fn redirect_below(base: &str, provider: &Provider, kind: Kind) -> String {
    let slash = if provider.redirect_ends_with(kind) == Some("/") { "/" } else { "" };
    format!("{base}{CALLBACK_PATH}{slash}")
}

fn provider(
    name: &str,
    environment: Environment,
    described: &[Described],
) -> Option<&'static Provider> {
    providers::find_in(name, environment).or_else(|| {
        let mut described = described.iter().map(|provider| provider.provider(environment));
        described.find(|provider| provider.name == name)
    })
}

/// What the command line says, and the file then does not.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Overrides {
    /// Where telemetry and status page are; as the file says when there is none.
    pub listen: Vec<SocketAddr>,
    /// The web configuration.
    pub web_config: Option<PathBuf>,
    /// Whether `POST /-/reload` works, whatever the file says.
    pub enable_reload: bool,
}

/// Reads and checks the file at `path`. Nothing is changed and nobody is called; secrets are looked at
/// and not kept.
///
/// # Errors
/// Everything that is wrong with it, each with file, line, key and remedy.
pub fn load(path: &Path) -> Result<Loaded, Problems> {
    load_under(path, &Overrides::default())
}

/// [`load`] under what the command line says.
///
/// # Errors
/// Everything that is wrong with it, each with file, line, key and remedy.
pub fn load_under(path: &Path, overrides: &Overrides) -> Result<Loaded, Problems> {
    let text = read(path)?;
    check::check(path, &text, &providers::names(), overrides)
}

/// [`load`] with the names of the providers that `apps[].provider` may use.
///
/// # Errors
/// Everything that is wrong with it, each with file, line, key and remedy.
pub fn load_knowing(path: &Path, providers: &[&str]) -> Result<Loaded, Problems> {
    let text = read(path)?;
    check::check(path, &text, providers, &Overrides::default())
}

fn read(path: &Path) -> Result<String, Problems> {
    let unreadable = |error: &io::Error| {
        let (what, remedy) = match error.kind() {
            io::ErrorKind::NotFound => {
                ("no such file".to_owned(), "correct the path after --config")
            }
            io::ErrorKind::IsADirectory => {
                ("this is a directory, expected a file".to_owned(), "name the file in it")
            }
            io::ErrorKind::PermissionDenied => {
                ("permission denied".to_owned(), "let the user of this process read it")
            }
            kind => (format!("cannot be read: {kind}"), "mend the file or correct the path"),
        };
        refused(path, None, what, remedy)
    };
    let mut bytes = Vec::new();
    File::open(path)
        .and_then(|file| file.take(BYTES_MAX + 1).read_to_end(&mut bytes))
        .map_err(|error| unreadable(&error))?;
    if bytes.len() as u64 > BYTES_MAX {
        let what = format!("longer than {BYTES_MAX} bytes, expected a configuration");
        return Err(refused(path, None, what, "correct the path, or keep owners in the store"));
    }
    String::from_utf8(bytes).map_err(|error| {
        let valid = &error.as_bytes()[..error.utf8_error().valid_up_to()];
        let line = 1 + valid.iter().filter(|byte| **byte == b'\n').count();
        refused(path, Some(line), "not UTF-8 text".to_owned(), "save the file as UTF-8")
    })
}

fn refused(path: &Path, line: Option<usize>, what: String, remedy: &str) -> Problems {
    let key = KeyPath::default();
    let place = Place { file: path.to_owned(), line, key, excerpt: None };
    Problems(vec![Problem { place, what, remedy: remedy.to_owned() }])
}

/// Longest configuration file, in bytes.
pub const BYTES_MAX: u64 = 1024 * 1024;
