//! A real mail server (aiosmtpd) that demands STARTTLS and a login.

use serde_json::Value;
use std::{
    fs::{self, File},
    io::{BufRead, BufReader},
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
};
use tempfile::TempDir;

/// It ends when this is dropped.
pub(crate) struct MailServer {
    process: Child,
    directory: TempDir,
    port: u16,
}

impl MailServer {
    pub(crate) fn start() -> Self {
        Self::with_fault("none")
    }

    /// One that misbehaves as `fault` says.
    pub(crate) fn with_fault(fault: &str) -> Self {
        oauth_keepalive::http_client::install_crypto();
        let directory = tempfile::tempdir().unwrap();
        let path = |name: &str| directory.path().join(name);
        make_certificates(directory.path());
        fs::write(path("password"), format!("{PASSWORD}\n")).unwrap();
        fs::write(path("log"), "").unwrap();
        let mut process = Command::new(python())
            .arg(servers().join("smtp.py"))
            .args(["--tls", "starttls", "--fault", fault, "--log"])
            .arg(path("log"))
            .arg("--certificate")
            .arg(path("server.pem"))
            .arg("--key")
            .arg(path("server.key"))
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(File::create(path("stderr")).unwrap())
            .spawn()
            .expect("python starts");
        let mut line = String::new();
        BufReader::new(process.stdout.take().unwrap()).read_line(&mut line).unwrap();
        let port = line.trim().parse().unwrap_or_else(|_| {
            panic!("no port: {}", fs::read_to_string(path("stderr")).unwrap_or_default())
        });
        Self { process, directory, port }
    }

    /// The section `mail.smtp` for it.
    #[allow(dead_code, reason = "not every test writes a configuration")]
    pub(crate) fn section(&self) -> String {
        let path = |name: &str| self.directory.path().join(name).display().to_string();
        format!(
            "{{host: localhost, port: {}, tls: starttls, username: keeper, \
             password_file: \"{}\", ca_file: \"{}\"}}",
            self.port,
            path("password"),
            path("ca.pem"),
        )
    }

    /// How it is reached.
    #[allow(dead_code, reason = "not every test speaks to it without a configuration")]
    pub(crate) fn smtp(&self) -> oauth_keepalive::delivery::Smtp {
        let path = |name: &str| self.directory.path().join(name);
        oauth_keepalive::delivery::Smtp {
            host: "localhost".to_owned(),
            port: self.port,
            tls: oauth_keepalive::delivery::SmtpTls::StartTls,
            login: Some((
                "keeper".to_owned(),
                oauth_keepalive::secrets::SecretRef::File(path("password")),
            )),
            ca_file: Some(path("ca.pem")),
            deadline: std::time::Duration::from_secs(20),
        }
    }

    /// The messages that it took.
    pub(crate) fn messages(&self) -> Vec<Message> {
        let text = fs::read_to_string(self.directory.path().join("log")).unwrap();
        let lines = text.split_inclusive('\n').filter(|line| line.ends_with('\n'));
        let events = lines.map(|line| serde_json::from_str::<Value>(line).unwrap());
        events.filter_map(|event| event.get("message").cloned()).map(Message).collect()
    }
}

impl Drop for MailServer {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

/// As the server wrote it down.
#[derive(Debug)]
pub(crate) struct Message(Value);

impl Message {
    pub(crate) fn to(&self) -> Vec<&str> {
        self.0["to"].as_array().unwrap().iter().map(|to| to.as_str().unwrap()).collect()
    }

    /// Whether it came over TLS and after a login.
    #[allow(dead_code, reason = "not every test asks")]
    pub(crate) fn was_protected(&self) -> bool {
        self.0["tls"] == true && self.0["login"] == true
    }

    pub(crate) fn header(&self, wanted: &str) -> Option<&str> {
        let headers = self.0["headers"].as_array().unwrap().iter();
        let mut named = headers
            .filter(|header| header[0].as_str().unwrap().eq_ignore_ascii_case(wanted))
            .map(|header| header[1].as_str().unwrap());
        let first = named.next();
        assert_eq!(named.next(), None, "{wanted} stands twice");
        first
    }

    pub(crate) fn part(&self, content_type: &str) -> &str {
        let parts = self.0["parts"].as_array().unwrap().iter();
        let mut fitting = parts.filter(|part| part[0] == content_type);
        fitting.next().unwrap()[1].as_str().unwrap()
    }
}

fn servers() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/servers")
}

fn python() -> String {
    let output = Command::new(servers().join("venv.sh")).output().expect("venv.sh runs");
    let stderr = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "tests/servers/venv.sh: {stderr}");
    String::from_utf8(output.stdout).unwrap().trim().to_owned()
}

/// An authority of our own (`ca.pem`) and a certificate for localhost that it signed.
fn make_certificates(directory: &Path) {
    fs::write(directory.join("names"), "subjectAltName=DNS:localhost\n").unwrap();
    let key = "-newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes";
    for line in [
        format!("req -x509 {key} -keyout ca.key -out ca.pem -subj /CN=invented-authority -days 2"),
        format!("req {key} -keyout server.key -out server.csr -subj /CN=localhost"),
        "x509 -req -in server.csr -CA ca.pem -CAkey ca.key -CAcreateserial -extfile names \
         -out server.pem -days 2"
            .to_owned(),
    ] {
        let mut command = Command::new("openssl");
        command.args(line.split_whitespace()).current_dir(directory);
        let output = command.output().expect("openssl is installed");
        let stderr = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "{line}: {stderr}");
    }
}

const PASSWORD: &str = "invented-password";
