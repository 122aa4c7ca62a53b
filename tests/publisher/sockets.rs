//! Where it listens: TLS with certificates that are renewed, and sockets that others left behind.

use oauth_keepalive::{
    http_client::install_crypto,
    server::{
        self, Limits,
        answer::text,
        socket::{Listen, Place, Socket},
        tls::{CertificateFiles, Tls},
    },
};
use rustls::{
    ClientConfig, RootCertStore,
    pki_types::{CertificateDer, ServerName, pem::PemObject},
};
use std::{
    fs, os::unix::fs::PermissionsExt as _, os::unix::net::UnixListener, path::Path,
    process::Command, sync::Arc, time::Duration,
};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpStream,
    sync::watch,
    time::timeout,
};
use tokio_rustls::TlsConnector;

use crate::bench::PATIENCE;

fn certificates(folder: &Path) -> CertificateFiles {
    let made = Command::new("tests/servers/certificates.sh").arg(folder).status().unwrap();
    assert!(made.success());
    CertificateFiles { certificate: folder.join("server.pem"), key: folder.join("server.key") }
}

async fn serve(
    listen: Listen,
    certificate: Option<&CertificateFiles>,
) -> (Place, watch::Sender<bool>) {
    let socket = Socket::bind(&listen, certificate).await.unwrap();
    let place = socket.place();
    let (stop, stopped) = watch::channel(false);
    let handler = |_| async { text(hyper::StatusCode::OK, "served") };
    let limits = Limits { header_deadline: Duration::from_secs(5), ..Limits::with_connections(2) };
    tokio::spawn(server::run(socket, limits, handler, stopped));
    (place, stop)
}

fn loopback() -> Listen {
    Listen::Tcp(([127, 0, 0, 1], 0).into())
}

/// What comes over TLS from a server of this name, trusting `authority`.
async fn fetch(place: &Place, authority: &Path) -> Result<String, std::io::Error> {
    let mut roots = RootCertStore::empty();
    roots.add(CertificateDer::from_pem_file(authority).unwrap()).unwrap();
    let config = ClientConfig::builder().with_root_certificates(roots).with_no_client_auth();
    let name = ServerName::try_from("localhost").unwrap();
    let talk = async {
        let stream = TcpStream::connect(place.address().unwrap()).await?;
        let mut stream = TlsConnector::from(Arc::new(config)).connect(name, stream).await?;
        stream.write_all(b"GET / HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n").await?;
        let mut answer = String::new();
        stream.read_to_string(&mut answer).await?;
        Ok(answer)
    };
    timeout(PATIENCE, talk).await.expect("an answer")
}

#[tokio::test]
async fn over_tls_whoever_trusts_the_authority_is_served_and_nobody_holds_a_place_with_half_a_handshake()
 {
    install_crypto();
    let folder = tempfile::tempdir().unwrap();
    let files = certificates(folder.path());
    let (place, _stop) = serve(loopback(), Some(&files)).await;
    assert!(place.to_string().starts_with("https://127.0.0.1:"), "{place}");
    let answer = fetch(&place, &folder.path().join("ca.pem")).await.unwrap();
    assert!(answer.starts_with("HTTP/1.1 200") && answer.contains("served"), "{answer}");
    assert!(fetch(&place, &folder.path().join("other-ca.pem")).await.is_err());

    // Two that say nothing take both places, and lose them.
    let mut silent = Vec::new();
    for _ in 0..2 {
        silent.push(TcpStream::connect(place.address().unwrap()).await.unwrap());
    }
    fetch(&place, &folder.path().join("ca.pem")).await.unwrap();
    // In clear nothing is said there.
    let mut clear = TcpStream::connect(place.address().unwrap()).await.unwrap();
    clear.write_all(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n").await.unwrap();
    let mut answer = Vec::new();
    let _ = timeout(PATIENCE, clear.read_to_end(&mut answer)).await.unwrap();
    assert!(!String::from_utf8_lossy(&answer).contains("served"));
}

#[test]
fn what_is_no_certificate_with_its_key_is_refused_with_its_file() {
    install_crypto();
    let folder = tempfile::tempdir().unwrap();
    let files = certificates(folder.path());
    assert!(Tls::load(files.clone().into()).is_ok());
    let other = folder.path().join("ca.key");
    let wrong_key = CertificateFiles { key: other.clone(), ..files.clone() };
    let error = Tls::load(wrong_key.into()).err().unwrap();
    assert!(error.contains("ca.key: is not the key"), "{error}");
    let no_certificate = CertificateFiles { certificate: other, ..files.clone() };
    assert!(Tls::load(no_certificate.into()).err().unwrap().contains("no PEM certificate"));
    let missing = CertificateFiles { key: folder.path().join("missing"), ..files };
    assert!(Tls::load(missing.into()).err().unwrap().contains("no PEM private key"));
}

#[tokio::test]
async fn a_socket_that_a_killed_process_left_is_taken_over_and_one_that_lives_is_not() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("api.sock");
    let listen = Listen::Unix { path: path.clone(), mode: 0o600 };
    drop(UnixListener::bind(&path).unwrap());
    assert!(path.exists(), "what a killed process leaves");
    let (place, stop) = serve(listen.clone(), None).await;
    assert_eq!(place, Place::Unix(path.clone()));
    assert_eq!(path.metadata().unwrap().permissions().mode() & 0o777, 0o600);
    let error = Socket::bind(&listen, None).await.err().unwrap();
    assert!(error.contains("somebody listens there already"), "{error}");
    stop.send(true).unwrap();
    let gone = async {
        while path.exists() {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    timeout(PATIENCE, gone).await.expect("it is taken away at the end");
    fs::write(&path, "not a socket").unwrap();
    let error = Socket::bind(&listen, None).await.err().unwrap();
    assert!(error.contains("something else lies there"), "{error}");
    assert_eq!(fs::read_to_string(&path).unwrap(), "not a socket");
}
