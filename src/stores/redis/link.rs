//! The way to the server: one connection for all commands, opened again when it is lost, every step
//! within a time.
//!
//! Nothing the server says is passed on: its words may quote the arguments of a command, and those are
//! tokens. Known error codes become sentences of our own.

use super::{Address, Settings};
use crate::stores::{Error, blocking};
use redis::{
    AsyncConnectionConfig, Cmd, FromRedisValue, Pipeline, ProtocolVersion, PushInfo,
    RedisConnectionInfo, RedisError, RedisResult, ScriptInvocation, aio::MultiplexedConnection,
};
use rustls::{
    ClientConfig, RootCertStore,
    pki_types::{CertificateDer, ServerName, pem::PemObject},
};
use rustls_platform_verifier::BuilderVerifierExt;
use std::{path::PathBuf, sync::Arc, time::Instant};
use tokio::{
    io::{AsyncRead, AsyncWrite},
    net::{TcpStream, UnixStream},
    sync::{Mutex, Semaphore},
    time::timeout,
};

/// See the module.
pub(super) struct Link {
    settings: Settings,
    /// `None` until the next command, after the connection was lost.
    open: Mutex<Open>,
    /// Commands under way, so that a server that hangs does not pile them up.
    turns: Semaphore,
}

#[derive(Default)]
struct Open {
    connection: Option<MultiplexedConnection>,
    /// Counts connections, so that a late failure does not close its successor.
    number: u64,
    /// When the last attempt that failed began, and how: whoever asked before it ended shares its
    /// answer, so that a queue of callers does not wait for one time-out after another.
    failed: Option<(Instant, String)>,
}

/// What became of a command.
pub(super) enum Trouble {
    /// Nothing was sent.
    NotSent(Error),
    /// It was sent, and the connection broke before an answer came: it may have been executed.
    Lost(Error),
    /// No answer in time: it may yet be executed.
    Late(Error),
    /// The server answered with an error.
    Refused(RedisError),
}

impl Link {
    pub(super) fn new(settings: Settings) -> Self {
        let turns = Semaphore::new(COMMANDS_MAX);
        Self { settings, open: Mutex::default(), turns }
    }

    /// Which server and database, for messages.
    pub(super) fn place(&self) -> String {
        self.settings.place()
    }

    /// Sends something that changes nothing, and once more where an old connection turned out to be
    /// dead.
    pub(super) async fn read<R: FromRedisValue + Send>(
        &self,
        ask: &impl Ask,
    ) -> Result<R, Trouble> {
        match self.send(ask).await {
            Err(Trouble::Lost(_)) => self.send(ask).await,
            other => other,
        }
    }

    /// Sends something, once.
    pub(super) async fn send<R: FromRedisValue + Send>(
        &self,
        ask: &impl Ask,
    ) -> Result<R, Trouble> {
        let wait = self.settings.command_timeout;
        let turn = timeout(wait, self.turns.acquire()).await;
        let Ok(Ok(_turn)) = turn else {
            return Err(Trouble::NotSent(self.unavailable(BUSY)));
        };
        let (mut connection, number) = self.connection().await.map_err(Trouble::NotSent)?;
        match timeout(wait, ask.over(&mut connection)).await {
            Ok(Ok(answer)) => Ok(answer),
            Ok(Err(error)) if is_answer(&error) => Err(Trouble::Refused(error)),
            Ok(Err(_)) => {
                self.close(number).await;
                Err(Trouble::Lost(self.unavailable(LOST)))
            }
            Err(_) => {
                self.close(number).await;
                let reason = format!("no answer within {}", humantime::format_duration(wait));
                Err(Trouble::Late(self.unavailable(&reason)))
            }
        }
    }

    /// What a trouble is for somebody who only wants to know why it did not work.
    pub(super) fn error(&self, trouble: Trouble) -> Error {
        match trouble {
            Trouble::NotSent(error) | Trouble::Lost(error) | Trouble::Late(error) => error,
            Trouble::Refused(error) => self.refused(&error, None),
        }
    }

    /// The same for one key.
    pub(super) fn error_at(&self, trouble: Trouble, key: &str) -> Error {
        match trouble {
            Trouble::Refused(error) => self.refused(&error, Some(key)),
            other => self.error(other),
        }
    }

    pub(super) fn unavailable(&self, reason: &str) -> Error {
        Error::Unavailable { place: self.place(), reason: reason.to_owned() }
    }

    /// A fault of one key.
    pub(super) fn damaged(&self, key: &str, reason: String) -> Error {
        Error::Damaged { place: format!("{}, key {}", self.place(), shown(key)), reason }
    }

    fn refused(&self, error: &RedisError, key: Option<&str>) -> Error {
        match (code(error), key) {
            (Some("WRONGTYPE"), Some(key)) => self
                .damaged(key, "is no hash; an account is a hash with its token in fields".into()),
            (Some(code @ ("MOVED" | "ASK" | "CROSSSLOT" | "CLUSTERDOWN")), _) => Error::Damaged {
                place: self.place(),
                reason: format!(
                    "the server is part of a cluster ({code}), which this store cannot use; name a single server"
                ),
            },
            (code, _) => self.unavailable(&sentence(code)),
        }
    }

    /// A connection of its own that hands what the server pushes to `each`.
    pub(super) async fn subscriber(
        &self,
        each: impl Fn(PushInfo) + Send + Sync + 'static,
    ) -> Result<MultiplexedConnection, Error> {
        let config = AsyncConnectionConfig::new()
            .set_push_sender(move |push| {
                each(push);
                Ok::<(), ()>(())
            })
            .set_response_timeout(Some(self.settings.command_timeout));
        self.connect(ProtocolVersion::RESP3, config).await
    }

    async fn connection(&self) -> Result<(MultiplexedConnection, u64), Error> {
        let asked = Instant::now();
        let mut open = self.open.lock().await;
        if let Some(connection) = &open.connection {
            return Ok((connection.clone(), open.number));
        }
        if let Some((began, reason)) = &open.failed
            && *began >= asked
        {
            return Err(self.unavailable(reason));
        }
        let began = Instant::now();
        let config = AsyncConnectionConfig::new().set_response_timeout(None);
        match self.connect(ProtocolVersion::RESP2, config).await {
            Ok(connection) => {
                open.number += 1;
                open.failed = None;
                open.connection = Some(connection.clone());
                Ok((connection, open.number))
            }
            Err(error) => {
                if let Error::Unavailable { reason, .. } = &error {
                    open.failed = Some((began, reason.clone()));
                }
                Err(error)
            }
        }
    }

    async fn close(&self, number: u64) {
        let mut open = self.open.lock().await;
        if open.number == number {
            open.connection = None;
        }
    }

    async fn connect(
        &self,
        protocol: ProtocolVersion,
        config: AsyncConnectionConfig,
    ) -> Result<MultiplexedConnection, Error> {
        let within = self.settings.connect_timeout;
        let connecting = async {
            let wire = self.wire().await?;
            let login = self.login(protocol).await?;
            let (connection, driver) = MultiplexedConnection::new_with_config(&login, wire, config)
                .await
                .map_err(|error| self.not_let_in(&error))?;
            // It ends with the last clone of the connection.
            tokio::spawn(driver);
            Ok(connection)
        };
        timeout(within, connecting).await.unwrap_or_else(|_| {
            let within = humantime::format_duration(within);
            Err(self.unavailable(&format!("no connection within {within}; is the server up?")))
        })
    }

    async fn wire(&self) -> Result<Box<dyn Wire>, Error> {
        let (host, port, tls) = match &self.settings.address {
            Address::Unix(path) => {
                let stream = UnixStream::connect(path).await.map_err(|error| {
                    self.unavailable(&format!("cannot connect: {}", error.kind()))
                })?;
                return Ok(Box::new(stream));
            }
            Address::Tcp { host, port, tls } => (host, *port, tls),
        };
        let stream = TcpStream::connect((&**host, port))
            .await
            .map_err(|error| self.unavailable(&format!("cannot connect: {}", error.kind())))?;
        // Without it a small command waits for the acknowledgement of the last one.
        let _ = stream.set_nodelay(true);
        let Some(tls) = tls else { return Ok(Box::new(stream)) };
        let name = ServerName::try_from(host.clone())
            .map_err(|_| self.unavailable("its host is no name that a certificate could carry"))?;
        let ca_file = tls.ca_file.clone();
        let place = self.place();
        let config = blocking::run(move || tls_config(ca_file, place)).await?;
        let connector = tokio_rustls::TlsConnector::from(Arc::new(config));
        let stream = connector.connect(name, stream).await.map_err(|error| {
            let detail = error
                .get_ref()
                .and_then(|inner| inner.downcast_ref::<rustls::Error>())
                .map_or_else(|| error.kind().to_string(), tls_words);
            self.unavailable(&format!("no TLS connection: {detail}"))
        })?;
        Ok(Box::new(stream))
    }

    async fn login(&self, protocol: ProtocolVersion) -> Result<RedisConnectionInfo, Error> {
        let mut login = RedisConnectionInfo::default()
            .set_db(self.settings.database.into())
            .set_protocol(protocol)
            .set_skip_set_lib_name();
        if let Some(username) = &self.settings.username {
            login = login.set_username(username);
        }
        if let Some(password) = self.settings.password.clone() {
            let place = self.place();
            // Read anew each time, so that a password that was changed is used without a restart.
            let password = blocking::run(move || {
                password.read().map_err(|error| Error::Unavailable {
                    place,
                    reason: format!("cannot read its password: {error}"),
                })
            })
            .await?;
            login = login.set_password(password.expose());
        }
        Ok(login)
    }

    fn not_let_in(&self, error: &RedisError) -> Error {
        let code = code(error);
        let reason = match code {
            _ if is_password_refused(error) => {
                "the server refuses the user name or password; correct them".to_owned()
            }
            Some("ERR") => format!(
                "the server does not take the log-in; does database {} exist, and does it know the user?",
                self.settings.database
            ),
            None => {
                "the connection was lost while logging in; does the server want TLS?".to_owned()
            }
            code => sentence(code),
        };
        self.unavailable(&reason)
    }
}

/// What can be sent over a connection.
pub(super) trait Ask: Sync {
    /// Sends it and waits for the answer.
    fn over<R: FromRedisValue + Send>(
        &self,
        connection: &mut MultiplexedConnection,
    ) -> impl Future<Output = RedisResult<R>> + Send;
}

impl Ask for Cmd {
    async fn over<R: FromRedisValue + Send>(
        &self,
        connection: &mut MultiplexedConnection,
    ) -> RedisResult<R> {
        self.query_async(connection).await
    }
}

impl Ask for Pipeline {
    async fn over<R: FromRedisValue + Send>(
        &self,
        connection: &mut MultiplexedConnection,
    ) -> RedisResult<R> {
        self.query_async(connection).await
    }
}

impl Ask for ScriptInvocation<'_> {
    async fn over<R: FromRedisValue + Send>(
        &self,
        connection: &mut MultiplexedConnection,
    ) -> RedisResult<R> {
        self.invoke_async(connection).await
    }
}

/// A name for what a connection runs over.
trait Wire: AsyncRead + AsyncWrite + Unpin + Send {}
impl<T: AsyncRead + AsyncWrite + Unpin + Send> Wire for T {}

/// Read anew for each connection, so that a renewed authority is known without a restart.
fn tls_config(ca_file: Option<PathBuf>, place: String) -> Result<ClientConfig, Error> {
    let unusable = |reason: String| Error::Unavailable { place: place.clone(), reason };
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let builder = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .map_err(|error| unusable(format!("TLS cannot be set up: {error}")))?;
    let Some(path) = ca_file else {
        return Ok(builder
            .with_platform_verifier()
            .map_err(|error| unusable(format!("the system's authorities are unusable: {error}")))?
            .with_no_client_auth());
    };
    let mut roots = RootCertStore::empty();
    let certificates = CertificateDer::pem_file_iter(&path)
        .and_then(Iterator::collect::<Result<Vec<_>, _>>)
        .map_err(|_| unusable(format!("{} is no readable PEM file", path.display())))?;
    for certificate in certificates {
        roots.add(certificate).map_err(|_| {
            unusable(format!("{} holds a certificate that is none", path.display()))
        })?;
    }
    if roots.is_empty() {
        return Err(unusable(format!("{} holds no certificate", path.display())));
    }
    Ok(builder.with_root_certificates(roots).with_no_client_auth())
}

fn tls_words(error: &rustls::Error) -> String {
    match error {
        rustls::Error::InvalidCertificate(rustls::CertificateError::UnknownIssuer) => {
            "its certificate comes from an authority that is not trusted; name that one in ca_file"
                .to_owned()
        }
        rustls::Error::InvalidCertificate(_) => {
            "its certificate is not valid for this host at this time".to_owned()
        }
        rustls::Error::InvalidMessage(_) => "it does not speak TLS on this port".to_owned(),
        other => other.to_string(),
    }
}

/// The server's answer, as opposed to a connection in trouble.
fn is_answer(error: &RedisError) -> bool {
    !error.is_io_error() && !error.is_unrecoverable_error() && !error.is_connection_dropped()
}

fn is_password_refused(error: &RedisError) -> bool {
    error.kind() == redis::ErrorKind::AuthenticationFailed
        || matches!(code(error), Some("WRONGPASS" | "NOAUTH"))
        || error.detail().is_some_and(|detail| detail.contains("invalid password"))
}

/// The code of an error, found also where Redis 6 wraps the error of a script into another one.
pub(super) fn code(error: &RedisError) -> Option<&'static str> {
    let first = error.code()?;
    let known = |code: &str| KNOWN.iter().map(|(known, _)| *known).find(|known| *known == code);
    if let Some(known) = known(first) {
        return Some(known);
    }
    let inner = error.detail().and_then(|detail| {
        // Redis 7.0 says so without a code when a command within a script is not allowed.
        if detail.contains("user executing the script") {
            return Some("NOPERM");
        }
        KNOWN.iter().map(|(known, _)| *known).find(|known| detail.contains(&format!("-{known} ")))
    });
    Some(inner.unwrap_or("ERR"))
}

fn sentence(code: Option<&str>) -> String {
    KNOWN.iter().find(|(known, _)| Some(*known) == code).map_or_else(
        || "the server answers a command with an error; its log may say more".to_owned(),
        |(code, sentence)| format!("{sentence} ({code})"),
    )
}

/// A key in a message: escaped and short.
fn shown(key: &str) -> String {
    let cut: String = key.chars().take(KEY_SHOWN_MAX).flat_map(char::escape_debug).collect();
    let dots = if key.chars().count() > KEY_SHOWN_MAX { "…" } else { "" };
    format!("\"{cut}{dots}\"")
}

/// What the server may answer, and what it means for us.
const KNOWN: [(&str, &str); 18] = [
    ("READONLY", "it is a replica and takes no writes; name the primary"),
    ("MISCONF", "it takes no writes because its snapshots fail; mend its disk"),
    ("OOM", "its memory is full; raise maxmemory"),
    ("NOREPLICAS", "it takes no writes because too few replicas are connected"),
    ("LOADING", "it is still reading its data from disk"),
    ("BUSY", "it is busy with a long script"),
    ("MASTERDOWN", "it is a replica whose primary is away"),
    ("TRYAGAIN", "it asks to try again"),
    ("NOAUTH", "it wants a password; set password_file or password_env"),
    ("WRONGPASS", "it refuses the user name or password; correct them"),
    (
        "NOPERM",
        "this user lacks a permission; allow scan, hmget, exists, hset, hdel, eval, evalsha, script and info on these keys",
    ),
    ("WRONGTYPE", "a key is no hash"),
    ("MOVED", "it is part of a cluster"),
    ("ASK", "it is part of a cluster"),
    ("CROSSSLOT", "it is part of a cluster"),
    ("CLUSTERDOWN", "its cluster is down"),
    ("NOPROTO", "it is too old for notifications; switch them off"),
    ("UNBLOCKED", "it broke the command off"),
];
const LOST: &str = "the connection was lost; is the server up, and does it want TLS?";
const BUSY: &str = "all commands under way are still waiting for an answer";
/// Commands under way at once.
const COMMANDS_MAX: usize = 32;
const KEY_SHOWN_MAX: usize = 200;
