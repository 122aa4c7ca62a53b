//! What a TLS listener shows, and whom it asks for a certificate: rustls with ring, TLS 1.2 and 1.3.

use rustls::{
    CipherSuite, RootCertStore, ServerConfig, SupportedCipherSuite, SupportedProtocolVersion,
    crypto::{CryptoProvider, SupportedKxGroup, ring},
    pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject},
    server::{WebPkiClientVerifier, danger::ClientCertVerifier},
    version::{TLS12, TLS13},
};
use std::{
    path::{Path, PathBuf},
    sync::{Arc, Mutex, PoisonError},
    time::{Duration, SystemTime},
};
use tokio::time::Instant;
use tokio_rustls::TlsAcceptor;

/// A certificate with its key, as PEM files.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CertificateFiles {
    /// The server's certificate, then those that lead from it to an authority.
    pub certificate: PathBuf,
    /// Its private key.
    pub key: PathBuf,
}

/// How TLS is spoken. `config` fills it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Settings {
    /// What is shown.
    pub files: CertificateFiles,
    /// Whom clients must be known by; `None` asks them for nothing.
    pub clients: Option<ClientCertificates>,
    /// Which versions are spoken; never empty.
    pub versions: Vec<Version>,
    /// Suites of TLS 1.2 that are offered, by their names; empty for all. Those of 1.3 always are.
    pub cipher_suites: Vec<String>,
    /// Groups for the exchange of keys, most wanted first; empty for all.
    pub groups: Vec<Group>,
    /// Whether our order of suites counts, and not the client's.
    pub server_chooses: bool,
}

impl From<CertificateFiles> for Settings {
    fn from(files: CertificateFiles) -> Self {
        Self {
            files,
            clients: None,
            versions: Version::ALL.to_vec(),
            cipher_suites: Vec::new(),
            groups: Vec::new(),
            server_chooses: false,
        }
    }
}

impl Settings {
    /// Every file that it is made of.
    pub fn all_files(&self) -> impl Iterator<Item = &Path> {
        let authorities = self.clients.as_ref().map(|clients| &*clients.authorities);
        [&*self.files.certificate, &*self.files.key].into_iter().chain(authorities)
    }
}

/// Who must show a certificate.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ClientCertificates {
    /// A PEM file with the authorities that are believed.
    pub authorities: PathBuf,
    /// Whether a client without any is turned away.
    pub required: bool,
}

/// A version of TLS.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Version {
    /// TLS 1.2.
    Tls12,
    /// TLS 1.3.
    Tls13,
}

impl Version {
    /// Those that are spoken at all.
    pub const ALL: [Self; 2] = [Self::Tls12, Self::Tls13];

    /// The word for it in a web configuration.
    #[must_use]
    pub const fn as_label(self) -> &'static str {
        match self {
            Self::Tls12 => "TLS12",
            Self::Tls13 => "TLS13",
        }
    }

    const fn protocol(self) -> &'static SupportedProtocolVersion {
        match self {
            Self::Tls12 => &TLS12,
            Self::Tls13 => &TLS13,
        }
    }
}

/// A group for the exchange of keys.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Group {
    /// X25519.
    X25519,
    /// P-256.
    P256,
    /// P-384.
    P384,
}

impl Group {
    /// Those that there are.
    pub const ALL: [Self; 3] = [Self::X25519, Self::P256, Self::P384];

    /// The word for it in a web configuration.
    #[must_use]
    pub const fn as_label(self) -> &'static str {
        match self {
            Self::X25519 => "X25519",
            Self::P256 => "CurveP256",
            Self::P384 => "CurveP384",
        }
    }

    const fn exchange(self) -> &'static dyn SupportedKxGroup {
        match self {
            Self::X25519 => ring::kx_group::X25519,
            Self::P256 => ring::kx_group::SECP256R1,
            Self::P384 => ring::kx_group::SECP384R1,
        }
    }
}

/// The suites of TLS 1.2 that may be chosen from.
#[must_use]
pub fn cipher_suites() -> Vec<String> {
    let all = ring::ALL_CIPHER_SUITES.iter().filter(|suite| is_chosen_from(suite));
    all.map(|suite| name_of(suite.suite())).collect()
}

fn is_chosen_from(suite: &SupportedCipherSuite) -> bool {
    matches!(suite, SupportedCipherSuite::Tls12(_))
}

fn name_of(suite: CipherSuite) -> String {
    suite.as_str().unwrap_or_default().to_owned()
}

/// Reads the files.
///
/// # Errors
/// A sentence that names the file and what is wrong with it.
pub fn acceptor(settings: &Settings) -> Result<TlsAcceptor, String> {
    let CertificateFiles { certificate, key } = &settings.files;
    let chain = certificates(certificate)?;
    let private = PrivateKeyDer::from_pem_file(key)
        .map_err(|_| wrong(key, "holds no PEM private key that can be read"))?;
    let provider = Arc::new(provider(settings));
    let versions: Vec<_> = settings.versions.iter().map(|version| version.protocol()).collect();
    let builder = ServerConfig::builder_with_provider(Arc::clone(&provider))
        .with_protocol_versions(&versions)
        .map_err(|error| format!("no TLS server could be made: {error}"))?;
    let builder = match &settings.clients {
        Some(clients) => builder.with_client_cert_verifier(verifier(clients, provider)?),
        None => builder.with_no_client_auth(),
    };
    let mut config = builder
        .with_single_cert(chain, private)
        .map_err(|_| wrong(key, "is not the key of the certificate"))?;
    config.ignore_client_order = settings.server_chooses;
    config.alpn_protocols = vec![b"http/1.1".to_vec()];
    Ok(TlsAcceptor::from(Arc::new(config)))
}

fn provider(settings: &Settings) -> CryptoProvider {
    let mut provider = ring::default_provider();
    if !settings.cipher_suites.is_empty() {
        provider.cipher_suites.retain(|suite| {
            !is_chosen_from(suite) || settings.cipher_suites.contains(&name_of(suite.suite()))
        });
    }
    if !settings.groups.is_empty() {
        provider.kx_groups = settings.groups.iter().map(|group| group.exchange()).collect();
    }
    provider
}

fn verifier(
    clients: &ClientCertificates,
    provider: Arc<CryptoProvider>,
) -> Result<Arc<dyn ClientCertVerifier>, String> {
    let path = &clients.authorities;
    let mut roots = RootCertStore::empty();
    for certificate in certificates(path)? {
        roots.add(certificate).map_err(|_| wrong(path, "holds a certificate of no authority"))?;
    }
    let builder = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider);
    let builder = if clients.required { builder } else { builder.allow_unauthenticated() };
    builder.build().map_err(|_| wrong(path, "holds no authority that clients could be known by"))
}

fn certificates(path: &Path) -> Result<Vec<CertificateDer<'static>>, String> {
    let all = CertificateDer::pem_file_iter(path)
        .and_then(Iterator::collect::<Result<Vec<_>, _>>)
        .map_err(|_| wrong(path, "holds no PEM certificate that can be read"))?;
    if all.is_empty() {
        return Err(wrong(path, "holds no PEM certificate"));
    }
    Ok(all)
}

fn wrong(path: &Path, what: &str) -> String {
    format!("{}: {what}", path.display())
}

/// What is shown by a listener whose files nobody watches: they are looked at now and then, because certificates are
/// renewed more often than sidecars are restarted.
pub struct Tls {
    settings: Settings,
    current: Mutex<Current>,
}

struct Current {
    acceptor: TlsAcceptor,
    changed_at: Vec<Option<SystemTime>>,
    look_from: Instant,
}

impl Tls {
    /// Reads the files.
    ///
    /// # Errors
    /// A sentence that names the file and what to do.
    pub fn load(settings: Settings) -> Result<Self, String> {
        let current = Current {
            changed_at: changed_at(&settings),
            acceptor: acceptor(&settings)?,
            look_from: Instant::now() + LOOK_EVERY,
        };
        Ok(Self { settings, current: Mutex::new(current) })
    }

    pub(super) fn acceptor(&self) -> TlsAcceptor {
        let mut current = self.current.lock().unwrap_or_else(PoisonError::into_inner);
        let now = Instant::now();
        if now >= current.look_from {
            current.look_from = now + LOOK_EVERY;
            let changed_at = changed_at(&self.settings);
            if changed_at != current.changed_at {
                match acceptor(&self.settings) {
                    Ok(acceptor) => {
                        current.acceptor = acceptor;
                        current.changed_at = changed_at;
                    }
                    // Half of a pair may have been replaced so far; it is looked at again.
                    Err(error) => tracing::error!(%error, "the old certificate stays in use"),
                }
            }
        }
        current.acceptor.clone()
    }
}

fn changed_at(settings: &Settings) -> Vec<Option<SystemTime>> {
    settings.all_files().map(|path| path.metadata().ok()?.modified().ok()).collect()
}

/// How often it is looked whether the certificate's files have changed.
const LOOK_EVERY: Duration = Duration::from_secs(60);
