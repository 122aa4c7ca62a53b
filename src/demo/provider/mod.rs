//! A provider that speaks TikTok's dialect, misbehaves on request, and keeps its own log.
//!
//! The log is the truth for audits: what was asked, what was issued, what was presented twice. Absent on
//! purpose: rate limits of its own, and any check of what is posted.

mod answer;
mod consent;
mod fault;
mod ledger;
mod log;

pub use fault::{Fault, Lasting, Surface};
pub use log::{Call, LogEntry, Refreshed, What};

use super::{disk::write_whole, http, random_hex};
use crate::{
    clock::Clock,
    core::{Secret, Timestamp},
    oauth::Token,
};
use fault::Planted;
use ledger::{Ledger, Millis, Pair, Standing, Terms};
use log::Log;
use std::{
    collections::HashMap,
    io,
    net::{Ipv4Addr, SocketAddr},
    path::PathBuf,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};
use tokio::{net::TcpListener, sync::watch, task::JoinHandle};

/// What kind of provider it is.
#[derive(Clone, Debug)]
pub struct ProviderSettings {
    /// Where it listens; port 0 takes any.
    pub listen: SocketAddr,
    /// Life of an access token.
    pub life: Duration,
    /// Life of a refresh token from each rotation.
    pub refresh_life: Duration,
    /// For how long the token that was rotated last buys the same successor again. TikTok has none.
    pub grace: Duration,
    /// Whether a retired refresh token revokes everything, as X is said to do.
    pub reuse_revokes_family: bool,
    /// The app's public id.
    pub client_key: String,
    /// The app's secret; a `file` that exists has its own.
    pub client_secret: String,
    /// HTTP status of errors at the token endpoint: 200, 400 and 401 were all seen in the field.
    pub error_status: u16,
    /// Where tokens are remembered, written before each answer that changes them.
    pub file: Option<PathBuf>,
}

impl Default for ProviderSettings {
    fn default() -> Self {
        Self {
            listen: SocketAddr::from((Ipv4Addr::LOCALHOST, 0)),
            life: Duration::from_secs(60),
            refresh_life: Duration::from_secs(180 * 24 * 60 * 60),
            grace: Duration::ZERO,
            reuse_revokes_family: false,
            client_key: "demo-client-key".to_owned(),
            client_secret: format!("demo-secret-{}", random_hex()),
            error_status: 200,
            file: None,
        }
    }
}

/// A provider that is running in this process; it ends when this is dropped.
pub struct Provider {
    shared: Arc<Shared>,
    address: SocketAddr,
    serving: JoinHandle<()>,
}

impl Provider {
    /// Starts to listen, with the tokens that `settings.file` remembers.
    ///
    /// # Errors
    /// When the address is taken or the file cannot be read.
    pub async fn start(settings: ProviderSettings) -> io::Result<Self> {
        let started = Instant::now();
        let now = Clock::start().now();
        let now = u64::try_from(now.as_unix()).unwrap_or(0) * 1_000;
        let remembered = settings.file.as_ref().filter(|file| file.exists());
        let ledger = match remembered {
            Some(file) => Ledger::load(&std::fs::read_to_string(file)?, now, settings.grace)?,
            None => Ledger::new(&settings.client_secret),
        };
        // The clock has whole seconds; a restart within one would set the provider's time back.
        let started_at = now.max(ledger.written_at);
        let listener = TcpListener::bind(settings.listen).await?;
        let address = listener.local_addr()?;
        let state = State {
            ledger,
            planted: Planted::default(),
            log: Log::default(),
            in_flight: HashMap::new(),
            held: 0,
            clock_ahead: 0,
            consents: consent::Consents::default(),
        };
        let released = watch::Sender::new(0);
        let state = Mutex::new(state);
        let shared = Arc::new(Shared { settings, started, started_at, released, state });
        shared.state().remember(&shared)?;
        let answering = Arc::clone(&shared);
        let serving = tokio::spawn(http::serve(listener, move |request| {
            answer::answer(Arc::clone(&answering), request)
        }));
        Ok(Self { shared, address, serving })
    }

    /// Where it listens.
    #[must_use]
    pub const fn address(&self) -> SocketAddr {
        self.address
    }

    /// The token endpoint.
    #[must_use]
    pub fn token_url(&self) -> String {
        format!("http://{}{}", self.address, answer::TOKEN_PATH)
    }

    /// The consent page.
    #[must_use]
    pub fn authorize_url(&self) -> String {
        format!("http://{}{}", self.address, consent::AUTHORIZE_PATH)
    }

    /// People are sent back to this address and to no other that was not named like this.
    pub fn register_redirect_uri(&self, uri: &str) {
        self.shared.state().consents.redirect_uris.push(uri.to_owned());
    }

    /// Whoever comes to the consent page is signed in as this account, unless the form says otherwise.
    pub fn sign_in(&self, account: &str) {
        self.shared.state().consents.signed_in = Some(account.to_owned());
    }

    /// The free check of an access token.
    #[must_use]
    pub fn probe_url(&self) -> String {
        format!("http://{}{}", self.address, answer::USER_INFO_PATH)
    }

    /// Where videos are posted.
    #[must_use]
    pub fn post_url(&self) -> String {
        format!("http://{}{}", self.address, answer::POST_PATH)
    }

    /// The read-only publish check.
    #[must_use]
    pub fn creator_info_url(&self) -> String {
        format!("http://{}{}", self.address, answer::CREATOR_INFO_PATH)
    }

    /// The owner of `account` agrees to `scopes`, `age` ago; the token is as old as that.
    ///
    /// # Panics
    /// When the provider's file cannot be written.
    pub fn connect(&self, account: &str, scopes: &[&str], age: Duration) -> Token {
        let age = u64::try_from(age.as_millis()).unwrap_or(0);
        let issued_at = self.shared.now().saturating_sub(age);
        let terms = self.shared.terms();
        self.change(|state| state.ledger.connect(issued_at, account, scopes, &terms));
        self.current(account).expect("it was connected the line before")
    }

    /// The owner of `account` takes the consent back: all its tokens are dead at once.
    pub fn revoke_consent(&self, account: &str) {
        self.change(|state| {
            if let Some(consent) = state.ledger.grants.get_mut(account) {
                consent.given = false;
            }
        });
    }

    /// The owner withdraws one permission; tokens issued from now on lack it.
    pub fn drop_scope(&self, account: &str, scope: &str) {
        self.change(|state| {
            if let Some(consent) = state.ledger.grants.get_mut(account) {
                consent.scopes.retain(|have| have != scope);
            }
        });
    }

    /// The refresh token of `account` ends in `life` and rotation does not move that end.
    pub fn end_refresh_token_in(&self, account: &str, life: Duration) {
        let ends_at = self.shared.now() + u64::try_from(life.as_millis()).unwrap_or(u64::MAX / 2);
        self.change(|state| state.ledger.end_refresh_token_at(account, ends_at));
    }

    /// Its answers say from now on that it is so many seconds later than it is.
    pub fn set_clock_ahead(&self, seconds: i64) {
        self.shared.state().clock_ahead = seconds;
    }

    /// The app's secret is another from now on.
    pub fn set_secret(&self, secret: &str) {
        self.change(|state| state.ledger.set_secret(secret));
    }

    /// No secret is right from now on, until [`Provider::set_secret`].
    pub fn ban_secret(&self) {
        self.change(|state| state.ledger.client_secret = None);
    }

    /// The secret that is right now; `None` while the app is banned.
    #[must_use]
    pub fn client_secret(&self) -> Option<Secret> {
        self.shared.state().ledger.client_secret.clone().map(Secret::new)
    }

    /// Plants `fault` for requests of `account`, or of everybody.
    pub fn plant(&self, account: Option<&str>, surface: Surface, fault: Fault, lasting: Lasting) {
        self.shared.state().planted.plant(Instant::now(), account, surface, fault, lasting);
    }

    /// From now on a share of `rate` of all token requests, drawn from `seed`, meets one of `faults`.
    pub fn misbehave(&self, rate: f64, seed: u64, faults: Vec<Fault>) {
        self.shared.state().planted.misbehave(rate, seed, faults);
    }

    /// Takes every planted fault away, and those that are drawn.
    pub fn behave(&self) {
        self.shared.state().planted.clear();
    }

    /// How many requests and answers it holds back until [`Provider::release`].
    #[must_use]
    pub fn held(&self) -> usize {
        self.shared.state().held
    }

    /// How many token requests of accounts that it knows are under way, held back or not.
    #[must_use]
    pub fn under_way(&self) -> usize {
        self.shared.state().in_flight.values().map(|requests| *requests as usize).sum()
    }

    /// Lets everything go that it holds back now.
    pub fn release(&self) {
        self.shared.released.send_modify(|times| *times += 1);
    }

    /// The newest token of `account`, as a correct client would have stored it.
    #[must_use]
    pub fn current(&self, account: &str) -> Option<Token> {
        self.shared.state().ledger.pair(account).map(token_of)
    }

    /// True while the API accepts this access token.
    #[must_use]
    pub fn accepts(&self, access: &str) -> bool {
        let now = self.shared.now();
        matches!(self.shared.state().ledger.standing(now, access), Standing::Valid { .. })
    }

    /// Every token and secret that was ever issued: none of them may be found in a log, page, metric or
    /// mail.
    #[must_use]
    pub fn issued(&self) -> Vec<String> {
        self.shared.state().ledger.issued.clone()
    }

    /// Everything that was asked so far, oldest first.
    #[must_use]
    pub fn log(&self) -> Vec<LogEntry> {
        self.shared.state().log.entries.clone()
    }

    /// The same, and empties the log: a long run is audited piece by piece.
    #[must_use]
    pub fn take_log(&self) -> Vec<LogEntry> {
        std::mem::take(&mut self.shared.state().log.entries)
    }

    /// How long it has been running: the clock of [`LogEntry::at`].
    #[must_use]
    pub fn uptime(&self) -> Duration {
        self.shared.uptime()
    }

    /// How many log entries fit a description.
    #[must_use]
    pub fn count(&self, fits: impl Fn(&LogEntry) -> bool) -> usize {
        self.shared.state().log.entries.iter().filter(|entry| fits(entry)).count()
    }

    /// Entries that the log had no room for; an audit of an incomplete log proves nothing.
    #[must_use]
    pub fn log_cut(&self) -> u64 {
        self.shared.state().log.cut
    }

    fn change(&self, change: impl FnOnce(&mut State)) {
        let mut state = self.shared.state();
        change(&mut state);
        state.remember(&self.shared).expect("the provider's file can be written");
    }
}

impl Drop for Provider {
    fn drop(&mut self) {
        self.serving.abort();
    }
}

/// What the handle and the connections share.
struct Shared {
    settings: ProviderSettings,
    started: Instant,
    started_at: Millis,
    /// How often everything that was held back was let go.
    released: watch::Sender<u64>,
    /// Never held across an await.
    state: Mutex<State>,
}

struct State {
    ledger: Ledger,
    planted: Planted,
    log: Log,
    /// Token requests under way, by account.
    in_flight: HashMap<String, u32>,
    /// Requests and answers that wait to be let go.
    held: usize,
    /// By how many seconds the `Date` header lies.
    clock_ahead: i64,
    /// What people agreed to and nobody has redeemed yet.
    consents: consent::Consents,
}

impl Shared {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Waits until somebody lets go, or the client has gone.
    async fn hold(&self) {
        let mut released = self.released.subscribe();
        self.state().held += 1;
        let _counted = Held(self);
        let _ = released.changed().await;
    }

    fn uptime(&self) -> Duration {
        self.started.elapsed()
    }

    fn now(&self) -> Millis {
        self.started_at + u64::try_from(self.uptime().as_millis()).unwrap_or(0)
    }

    fn terms(&self) -> Terms {
        Terms {
            life: self.settings.life,
            refresh_life: self.settings.refresh_life,
            grace: self.settings.grace,
            reuse_revokes_family: self.settings.reuse_revokes_family,
        }
    }
}

/// One that is held back.
struct Held<'a>(&'a Shared);

impl Drop for Held<'_> {
    fn drop(&mut self) {
        self.0.state().held -= 1;
    }
}

impl State {
    /// Writes the ledger down. A provider that forgot a token it handed out would look, to every audit,
    /// like a client that lost one.
    fn remember(&mut self, shared: &Shared) -> io::Result<()> {
        let Some(file) = &shared.settings.file else { return Ok(()) };
        self.ledger.written_at = shared.now();
        write_whole(file, &serde_json::to_vec(&self.ledger)?)
    }
}

fn token_of(pair: Pair) -> Token {
    Token {
        access: Secret::new(pair.access),
        refresh: Some(Secret::new(pair.refresh)),
        issued_at: Some(seconds_of(pair.issued_at)),
        expires_at: Some(seconds_of(pair.access_ends_at)),
        refresh_expires_at: Some(seconds_of(pair.refresh_ends_at)),
        scopes: Some(pair.scopes),
        subject: Some(pair.open_id),
    }
}

fn seconds_of(at: Millis) -> Timestamp {
    Timestamp::from_unix(i64::try_from(at / 1_000).unwrap_or(i64::MAX))
}
