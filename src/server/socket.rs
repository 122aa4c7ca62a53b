//! Where a listener listens: a TCP address, in clear or with TLS, or a Unix socket.

use super::{
    tls::{CertificateFiles, Tls},
    web_config::Web,
};
use std::{
    fs, io,
    net::SocketAddr,
    os::unix::fs::{FileTypeExt as _, PermissionsExt as _},
    path::{Path, PathBuf},
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
};
use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    net::{TcpListener, TcpStream, UnixListener, UnixStream},
};
use tokio_rustls::{TlsAcceptor, server::TlsStream};

/// Where to listen. `config` fills it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Listen {
    /// An IP address and a port.
    Tcp(SocketAddr),
    /// A socket in the file system, with these permissions.
    Unix {
        /// Its absolute path.
        path: PathBuf,
        /// Such as `0o660`.
        mode: u32,
    },
}

impl Listen {
    /// The address, where it is one.
    #[must_use]
    pub const fn address(&self) -> Option<SocketAddr> {
        match self {
            Self::Tcp(address) => Some(*address),
            Self::Unix { .. } => None,
        }
    }
}

/// Something that accepts connections.
pub enum Socket {
    /// In clear.
    Tcp(TcpListener),
    /// With TLS.
    Tls(TcpListener, Arc<Tls>),
    /// As a web configuration wants it at the moment: a reload may switch TLS on and off.
    Web(TcpListener, Arc<Web>),
    /// On this machine alone. The path is removed at the end.
    Unix(UnixListener, PathBuf),
}

impl From<TcpListener> for Socket {
    fn from(listener: TcpListener) -> Self {
        Self::Tcp(listener)
    }
}

impl Socket {
    /// Begins to listen.
    ///
    /// # Errors
    /// A sentence that says where and why not.
    pub async fn bind(
        listen: &Listen,
        certificate: Option<&CertificateFiles>,
    ) -> Result<Self, String> {
        match listen {
            Listen::Tcp(address) => {
                let tls = certificate.map(|files| Tls::load(files.clone().into())).transpose()?;
                let listener = TcpListener::bind(address).await.map_err(|error| {
                    format!("cannot listen on {address}: {error}; choose another address or port")
                })?;
                Ok(match tls {
                    Some(tls) => Self::Tls(listener, Arc::new(tls)),
                    None => Self::Tcp(listener),
                })
            }
            Listen::Unix { path, mode } => bind_unix(path, *mode)
                .await
                .map_err(|reason| format!("cannot listen on {}: {reason}", path.display())),
        }
    }

    /// Where it really listens, as people write it.
    #[must_use]
    pub fn place(&self) -> Place {
        match self {
            Self::Tcp(listener) => Place::Tcp(address(listener), "http"),
            Self::Tls(listener, _) => Place::Tcp(address(listener), "https"),
            Self::Web(listener, web) => Place::Tcp(address(listener), web.scheme()),
            Self::Unix(_, path) => Place::Unix(path.clone()),
        }
    }

    /// The next connection. Whatever it must still do before it can be read is done by whoever serves it.
    pub(super) async fn accept(&self) -> io::Result<Accepted> {
        Ok(match self {
            Self::Tcp(listener) => Accepted::Tcp(nodelay(listener.accept().await?.0)),
            Self::Tls(listener, tls) => {
                Accepted::Tls(nodelay(listener.accept().await?.0), tls.acceptor())
            }
            Self::Web(listener, web) => {
                let stream = nodelay(listener.accept().await?.0);
                match web.acceptor() {
                    Some(acceptor) => Accepted::Tls(stream, acceptor),
                    None => Accepted::Tcp(stream),
                }
            }
            Self::Unix(listener, _) => Accepted::Unix(listener.accept().await?.0),
        })
    }
}

impl Drop for Socket {
    fn drop(&mut self) {
        if let Self::Unix(_, path) = self {
            let _ = fs::remove_file(path);
        }
    }
}

/// Where something listens.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Place {
    /// An address with the port that was really bound, and the scheme that is spoken there.
    Tcp(SocketAddr, &'static str),
    /// A Unix socket.
    Unix(PathBuf),
}

impl Place {
    /// The address, where it has one.
    #[must_use]
    pub const fn address(&self) -> Option<SocketAddr> {
        match self {
            Self::Tcp(address, _) => Some(*address),
            Self::Unix(_) => None,
        }
    }
}

impl std::fmt::Display for Place {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Tcp(address, scheme) => write!(f, "{scheme}://{address}"),
            Self::Unix(path) => write!(f, "unix:{}", path.display()),
        }
    }
}

fn address(listener: &TcpListener) -> SocketAddr {
    listener.local_addr().unwrap_or_else(|_| SocketAddr::from(([0; 4], 0)))
}

fn nodelay(stream: TcpStream) -> TcpStream {
    // A scrape's last piece is small; it must not wait for an acknowledgement.
    let _ = stream.set_nodelay(true);
    stream
}

/// The socket appears with its permissions, in one motion: between making it and changing them, whoever may
/// not connect could.
async fn bind_unix(path: &Path, mode: u32) -> Result<Socket, String> {
    match fs::symlink_metadata(path) {
        Ok(about) if !about.file_type().is_socket() => {
            return Err("something else lies there; choose another path".to_owned());
        }
        Ok(_) if UnixStream::connect(path).await.is_ok() => {
            return Err("somebody listens there already; stop it, or choose another path".into());
        }
        // What a process left that was killed.
        Ok(_) | Err(_) => {}
    }
    let new = path.with_extension(format!("{}.new", std::process::id()));
    let wrong = |error: io::Error| format!("{}; name a directory that we may write", error.kind());
    let _ = fs::remove_file(&new);
    let listener = UnixListener::bind(&new).map_err(wrong)?;
    fs::set_permissions(&new, fs::Permissions::from_mode(mode)).map_err(wrong)?;
    fs::rename(&new, path).map_err(wrong)?;
    Ok(Socket::Unix(listener, path.to_owned()))
}

/// A connection that was accepted.
pub(super) enum Accepted {
    Tcp(TcpStream),
    Tls(TcpStream, TlsAcceptor),
    Unix(UnixStream),
}

impl Accepted {
    /// The stream that HTTP is spoken on; for TLS after its handshake.
    pub(super) async fn open(self) -> io::Result<Stream> {
        Ok(match self {
            Self::Tcp(stream) => Stream::Tcp(stream),
            Self::Unix(stream) => Stream::Unix(stream),
            Self::Tls(stream, acceptor) => Stream::Tls(Box::new(acceptor.accept(stream).await?)),
        })
    }
}

/// What HTTP is spoken on.
pub(super) enum Stream {
    Tcp(TcpStream),
    Tls(Box<TlsStream<TcpStream>>),
    Unix(UnixStream),
}

macro_rules! each {
    ($self:ident, $stream:ident => $call:expr) => {
        match $self.get_mut() {
            Self::Tcp($stream) => $call,
            Self::Tls($stream) => $call,
            Self::Unix($stream) => $call,
        }
    };
}

impl AsyncRead for Stream {
    fn poll_read(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        into: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        each!(self, stream => Pin::new(stream).poll_read(context, into))
    }
}

impl AsyncWrite for Stream {
    fn poll_write(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        each!(self, stream => Pin::new(stream).poll_write(context, bytes))
    }

    fn poll_flush(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        each!(self, stream => Pin::new(stream).poll_flush(context))
    }

    fn poll_shutdown(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        each!(self, stream => Pin::new(stream).poll_shutdown(context))
    }
}
