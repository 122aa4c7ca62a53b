//! A real PostgreSQL server for the state of several processes, and a way to it that can be cut.

use std::{
    io::{BufRead, BufReader, Write},
    net::SocketAddr,
    path::PathBuf,
    process::{Child, ChildStdin, Command, Stdio},
    sync::{
        Mutex, OnceLock,
        atomic::{AtomicU32, Ordering},
    },
};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
    sync::watch,
};

/// It ends with this process, however that ends: its input is closed then.
struct Server {
    _child: Child,
    _commands: ChildStdin,
    directory: PathBuf,
    port: u16,
}

/// Where the server is reached, and a schema that nobody else uses.
pub(crate) struct Schema {
    pub(crate) directory: PathBuf,
    pub(crate) port: u16,
    pub(crate) name: String,
}

impl Schema {
    /// A new one in the server that all tests share.
    pub(crate) fn new() -> Self {
        static SERVER: OnceLock<Mutex<Server>> = OnceLock::new();
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let server = SERVER.get_or_init(|| Mutex::new(start())).lock().unwrap();
        let nth = NEXT.fetch_add(1, Ordering::Relaxed);
        Self {
            directory: server.directory.clone(),
            port: server.port,
            name: format!("replicas_{nth}"),
        }
    }

    /// The section `state` of a process that reaches the server on its socket.
    pub(crate) fn on_socket(&self, state: &str, lease: &str) -> String {
        let (directory, port) = (self.directory.display(), self.port);
        self.section(state, lease, &format!("socket: \"{directory}\", port: {port}"))
    }

    /// The same of one that goes through `port` of this machine.
    pub(crate) fn through(&self, port: u16, state: &str, lease: &str) -> String {
        let directory = self.directory.display();
        let way = format!("host: localhost, port: {port}, ca_file: \"{directory}/ca.pem\"");
        self.section(state, lease, &way)
    }

    /// A connection of the superuser.
    pub(crate) async fn client(&self) -> tokio_postgres::Client {
        let mut config = tokio_postgres::Config::new();
        config.host_path(&self.directory).port(self.port).user("postgres").dbname("keepalive");
        let (client, connection) = config.connect(tokio_postgres::NoTls).await.unwrap();
        tokio::spawn(connection);
        client
    }

    fn section(&self, state: &str, lease: &str, way: &str) -> String {
        let (directory, name) = (self.directory.display(), &self.name);
        format!(
            "{{kind: postgres, directory: {state}, key_file: state-key, {way}, \
             database: keepalive, user: keepalive, password_file: \"{directory}/password\", \
             schema: {name}, lease: {lease}, statement_timeout: 20s, connect_timeout: 20s}}"
        )
    }
}

fn start() -> Server {
    let mut child = Command::new("tests/servers/postgres.sh")
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .expect("tests/servers/postgres.sh can be run");
    let commands = child.stdin.take().unwrap();
    let mut line = String::new();
    BufReader::new(child.stdout.take().unwrap()).read_line(&mut line).unwrap();
    let words: Vec<_> = line.split_whitespace().collect();
    let ["ready", directory, port] = words[..] else {
        panic!("no PostgreSQL server could be started; run tests/servers/postgres.sh to see why")
    };
    let (directory, port) = (directory.into(), port.parse().unwrap());
    Server { _child: child, _commands: commands, directory, port }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = writeln!(self._commands, "end");
    }
}

/// A way to a server that can be cut without either side being told.
pub(crate) struct Cable {
    pub(crate) port: u16,
    cut: watch::Sender<bool>,
}

impl Cable {
    pub(crate) async fn to(port: u16) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let ours = listener.local_addr().unwrap().port();
        let (cut, is_cut) = watch::channel(false);
        tokio::spawn(async move {
            while let Ok((near, _)) = listener.accept().await {
                let is_cut = is_cut.clone();
                tokio::spawn(async move {
                    let there = SocketAddr::from(([127, 0, 0, 1], port));
                    let Ok(far) = TcpStream::connect(there).await else { return };
                    let ((near_in, near_out), (far_in, far_out)) =
                        (near.into_split(), far.into_split());
                    tokio::join!(
                        carry(near_in, far_out, is_cut.clone()),
                        carry(far_in, near_out, is_cut)
                    );
                });
            }
        });
        Self { port: ours, cut }
    }

    /// From now on nothing gets through, in either direction.
    pub(crate) fn cut(&self) {
        self.cut.send_replace(true);
    }

    pub(crate) fn mend(&self) {
        self.cut.send_replace(false);
    }
}

/// Carries bytes; what arrives while the cable is cut waits, as in a network.
async fn carry(
    mut from: tokio::net::tcp::OwnedReadHalf,
    mut to: tokio::net::tcp::OwnedWriteHalf,
    mut is_cut: watch::Receiver<bool>,
) {
    let mut bytes = vec![0; 64 << 10];
    while let Ok(read @ 1..) = from.read(&mut bytes).await {
        if is_cut.wait_for(|cut| !*cut).await.is_err()
            || to.write_all(&bytes[..read]).await.is_err()
        {
            return;
        }
    }
}
