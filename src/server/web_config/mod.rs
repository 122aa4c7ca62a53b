//! What a web configuration asks of the telemetry listener, in the form that Prometheus' exporters share: TLS, users
//! with passwords, headers. `config` reads the file; here it is in force.
//!
//! Everything on the listener is behind the users, `/-/healthy` too, as with other exporters: a path that lets
//! everybody in is one that somebody forgets. Absent on purpose: HTTP/2, and a rate that all clients share, by which one
//! of them could silence the others.

mod users;

pub use users::{COST_MAX, Hash, USERS_MAX, Users, WrongHash};

use super::{
    answer::{Answer, for_method},
    tls,
};
use arc_swap::ArcSwap;
use hyper::{
    Request,
    body::Incoming,
    header::{HeaderName, HeaderValue},
};
use std::path::{Path, PathBuf};
use tokio_rustls::TlsAcceptor;

/// A web configuration. `config` fills it.
#[derive(Clone, Debug, Default)]
pub struct Settings {
    /// The file that says so.
    pub file: PathBuf,
    /// Without it everything is in clear.
    pub tls: Option<tls::Settings>,
    /// Headers of answers that do not say such a thing themselves.
    pub headers: Vec<(HeaderName, HeaderValue)>,
    /// Who may come; everybody when there is none.
    pub users: Users,
}

impl Settings {
    /// True when nobody is served without a certificate of his own.
    #[must_use]
    pub fn asks_for_certificates(&self) -> bool {
        let clients = self.tls.as_ref().and_then(|tls| tls.clients.as_ref());
        clients.is_some_and(|clients| clients.required)
    }

    /// Every file that it is made of.
    pub fn files(&self) -> impl Iterator<Item = &Path> {
        [&*self.file].into_iter().chain(self.tls.iter().flat_map(tls::Settings::all_files))
    }
}

/// What is in force on the listener. A reload swaps it whole; who is connected stays connected.
pub struct Web {
    current: ArcSwap<InForce>,
    door: users::Door,
}

/// A web configuration whose files were read, so that nothing can fail any more.
#[derive(Default)]
pub struct InForce {
    acceptor: Option<TlsAcceptor>,
    settings: Settings,
}

impl InForce {
    /// Reads the files that `settings` names; without settings everybody may come in clear.
    ///
    /// # Errors
    /// A sentence that names the file and what is wrong with it.
    pub fn read(settings: Option<&Settings>) -> Result<Self, String> {
        let Some(settings) = settings else { return Ok(Self::default()) };
        let acceptor = settings.tls.as_ref().map(tls::acceptor).transpose()?;
        Ok(Self { acceptor, settings: settings.clone() })
    }
}

impl Web {
    /// Puts the first one in force.
    #[must_use]
    pub fn new(first: InForce) -> Self {
        Self { current: ArcSwap::from_pointee(first), door: users::Door::new() }
    }

    /// Puts another one in force: for each new connection, and for the users of each request.
    pub fn put_in_force(&self, next: InForce) {
        self.current.store(next.into());
    }

    /// What new connections are shaken hands with; `None` for those in clear.
    pub(super) fn acceptor(&self) -> Option<TlsAcceptor> {
        self.current.load().acceptor.clone()
    }

    /// What is spoken now.
    #[must_use]
    pub fn scheme(&self) -> &'static str {
        if self.current.load().acceptor.is_some() { "https" } else { "http" }
    }

    /// Answers by `handler` whoever may come, and everybody else by itself.
    pub async fn answer<H, F>(&self, request: Request<Incoming>, handler: H) -> Answer
    where
        H: FnOnce(Request<Incoming>) -> F,
        F: Future<Output = Answer>,
    {
        let current = self.current.load_full();
        let admitted = self.door.admit(&current.settings.users, request.headers()).await;
        let mut answer = match admitted {
            Ok(()) => handler(request).await,
            Err(refusal) => for_method(request.method(), refusal.answer()),
        };
        for (name, value) in &current.settings.headers {
            // What a page says of itself is stricter.
            answer.headers_mut().entry(name).or_insert_with(|| value.clone());
        }
        answer
    }
}
