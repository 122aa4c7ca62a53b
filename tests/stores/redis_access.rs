//! Who is let in at a Redis server, and over what.

use crate::{
    contract::shows_no_value,
    kinds::{POLL_NEVER, fingerprinter, id, load},
    redis_kind::{Server, open, settings},
    redis_store::{access, account, new, server},
};
use oauth_keepalive::{
    secrets::SecretRef,
    stores::{
        AnyStore, Error, Saved, Settings, TokenStore,
        redis::{Address, Settings as Redis, Tls},
    },
};
use std::{
    fs,
    net::TcpListener,
    path::Path,
    process::Command,
    time::{Duration, Instant},
};

#[tokio::test]
async fn a_refused_password_is_said_clearly_and_never_shown() {
    let (directory, server) = server(&["--requirepass", "invented-password"]);
    let _server = server.logs_in_with("invented-password");
    let file = directory.path().join("password");
    let login = |username: Option<&str>| Redis {
        username: username.map(str::to_owned),
        password: Some(SecretRef::File(file.clone())),
        ..settings(directory.path().join("server.sock"))
    };
    fs::write(&file, "invented-other\n").unwrap();
    for username in [None, Some("default"), Some("nobody")] {
        let error = refused(&login(username)).await;
        assert!(error.to_string().contains("refuses the user name or password"), "{error}");
        shows_no_value(&error);
    }
    let error = refused(&settings(directory.path().join("server.sock"))).await;
    assert!(error.to_string().contains("password"), "{error}");
    fs::write(&file, "invented-password\n").unwrap();
    open(&login(None)).await.probe().await.unwrap();
    assert!(!format!("{:?}", login(None)).contains("invented"));
}

#[tokio::test]
async fn a_user_with_the_permissions_that_the_manual_names_can_do_everything() {
    let (directory, server) = server(&[]);
    let commands = "+select +scan +hmget +hget +exists +hset +hdel +eval +evalsha +script|load +info +ping +psubscribe";
    let mut rule = vec![
        "ACL",
        "SETUSER",
        "keepalive",
        "on",
        ">invented-password",
        "resetkeys",
        "~oauth:*",
        "resetchannels",
        "&__keyspace@0__:oauth:*",
        "-@all",
    ];
    rule.extend(commands.split(' '));
    server.run(&rule);
    let file = directory.path().join("password");
    fs::write(&file, "invented-password").unwrap();
    let login = Redis {
        username: Some("keepalive".to_owned()),
        password: Some(SecretRef::File(file)),
        ..settings(server.socket())
    };
    let store = open(&login).await;
    store.add(&account("brand", "1")).await.unwrap();
    store.probe().await.unwrap();
    let expected = fingerprinter().of_token(&new("1"));
    assert_eq!(store.save(&id("brand"), &new("2"), expected).await.unwrap(), Saved::Written);
    assert_eq!(load(&store).await.0.len(), 1);
    assert!(store.warnings().await.is_ok(), "what may not be asked is no error");
    server.run(&["ACL", "SETUSER", "keepalive", "-hset"]);
    let error = store.save(&id("brand"), &new("3"), fingerprinter().of_token(&new("2"))).await;
    let error = error.unwrap_err();
    assert!(error.to_string().contains("lacks a permission"), "{error}");
    shows_no_value(&error);
}

#[tokio::test]
async fn a_server_with_a_certificate_of_its_own_authority_is_verified() {
    let directory = tempfile::tempdir().unwrap();
    let at = |name: &str| directory.path().join(name);
    for authority in ["ca", "other"] {
        make_authority(directory.path(), authority);
    }
    make_certificate(directory.path());
    let port = free_port();
    let path = |name: &str| at(name).display().to_string();
    let _server = Server::start(
        directory.path(),
        &[
            "--tls-port",
            &port.to_string(),
            "--tls-cert-file",
            &path("server.pem"),
            "--tls-key-file",
            &path("server.key"),
            "--tls-auth-clients",
            "no",
        ],
    );
    let with = |host: &str, tls: Option<Tls>| Redis {
        address: Address::Tcp { host: host.to_owned(), port, tls },
        connect_timeout: Duration::from_secs(20),
        ..settings(Default::default())
    };
    let ca = |name: &str| Some(Tls { ca_file: Some(at(name)) });
    let store = open(&with("localhost", ca("ca.pem"))).await;
    store.add(&account("brand", "1")).await.unwrap();
    assert_eq!(access(&store, &id("brand")).await, "act.invented-1");
    for (settings, word) in [
        (with("localhost", ca("other.pem")), "authority that is not trusted"),
        (with("localhost", Some(Tls { ca_file: None })), "authority that is not trusted"),
        // The certificate names localhost only.
        (with("127.0.0.1", ca("ca.pem")), "not valid for this host"),
        (with("localhost", ca("server.key")), "no certificate"),
        (with("localhost", ca("absent.pem")), "no readable PEM"),
        (with("localhost", None), "want TLS"),
    ] {
        let error = refused(&settings).await;
        assert!(matches!(error, Error::Unavailable { .. }), "{error}");
        assert!(error.to_string().contains(word), "{word}: {error}");
    }
}

#[tokio::test]
async fn a_server_that_is_not_there_is_unavailable_in_time() {
    let nowhere = Redis {
        address: Address::Tcp { host: "127.0.0.1".to_owned(), port: free_port(), tls: None },
        poll_every: POLL_NEVER,
        ..settings(Default::default())
    };
    let error = refused(&nowhere).await;
    assert!(error.to_string().contains("cannot connect"), "{error}");
    // It takes the connection and never says a word.
    let silent = TcpListener::bind("127.0.0.1:0").unwrap();
    let silent = Redis {
        address: Address::Tcp {
            host: "127.0.0.1".to_owned(),
            port: silent.local_addr().unwrap().port(),
            tls: None,
        },
        connect_timeout: Duration::from_millis(200),
        command_timeout: Duration::from_millis(200),
        ..settings(Default::default())
    };
    let began = Instant::now();
    assert!(matches!(refused(&silent).await, Error::Unavailable { .. }));
    assert!(began.elapsed() < Duration::from_secs(60), "{:?}", began.elapsed());
    let (_directory, server) = server(&["--databases", "1"]);
    let error = refused(&Redis { database: 7, ..settings(server.socket()) }).await;
    assert!(error.to_string().contains("database 7"), "{error}");
}

async fn refused(settings: &Redis) -> Error {
    match AnyStore::open(&Settings::Redis(settings.clone()), fingerprinter()).await {
        Ok(_) => panic!("it was opened"),
        Err(error) => error,
    }
}

fn free_port() -> u16 {
    TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port()
}

fn make_authority(directory: &Path, name: &str) {
    openssl(
        directory,
        &[
            "req",
            "-x509",
            "-newkey",
            "ec",
            "-pkeyopt",
            "ec_paramgen_curve:P-256",
            "-nodes",
            "-days",
            "2",
            "-subj",
            &format!("/CN=invented {name}"),
            "-keyout",
            &format!("{name}.key"),
            "-out",
            &format!("{name}.pem"),
        ],
    );
}

fn make_certificate(directory: &Path) {
    fs::write(directory.join("names"), "subjectAltName=DNS:localhost\n").unwrap();
    openssl(
        directory,
        &[
            "req",
            "-new",
            "-newkey",
            "ec",
            "-pkeyopt",
            "ec_paramgen_curve:P-256",
            "-nodes",
            "-subj",
            "/CN=localhost",
            "-keyout",
            "server.key",
            "-out",
            "server.csr",
        ],
    );
    openssl(
        directory,
        &[
            "x509",
            "-req",
            "-in",
            "server.csr",
            "-CA",
            "ca.pem",
            "-CAkey",
            "ca.key",
            "-days",
            "2",
            "-extfile",
            "names",
            "-out",
            "server.pem",
        ],
    );
}

fn openssl(directory: &Path, arguments: &[&str]) {
    let done = Command::new("openssl").args(arguments).current_dir(directory).output().unwrap();
    assert!(done.status.success(), "{}", String::from_utf8_lossy(&done.stderr));
}
