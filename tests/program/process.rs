//! The real binary as a process.

use crate::{
    http::{self, Answer},
    scrape::Scrape,
    told::last_lines,
    until_or,
};
use std::{
    fs::{self, File},
    net::SocketAddr,
    path::{Path, PathBuf},
    process::{Child, Command, ExitStatus, Output, Stdio},
};

pub(crate) const BINARY: &str = env!("CARGO_BIN_EXE_oauth-keepalive");

/// A `run` that is running; it is killed when this is dropped.
pub(crate) struct Program {
    child: Child,
    log: PathBuf,
    pub(crate) telemetry: SocketAddr,
    pub(crate) reports: SocketAddr,
}

impl Program {
    /// Starts it with its log in `log`, and waits until it says where it listens.
    pub(crate) async fn start(config: &Path, log: PathBuf) -> Self {
        Self::start_binary(Path::new(BINARY), "debug", config, log).await
    }

    /// The same with another binary and another log level, which must let through where it listens.
    pub(crate) async fn start_binary(
        binary: &Path,
        log_level: &str,
        config: &Path,
        log: PathBuf,
    ) -> Self {
        let mut command = Command::new(binary);
        command.args(["run", "--log-level", log_level, "--config"]).arg(config);
        let mut program = Self::spawn(command, log);
        let log = program.log.clone();
        until_or(
            "the program says where it listens",
            async || {
                let ended = program.child.try_wait().unwrap();
                assert!(ended.is_none(), "it ended at once:\n{}", program.log());
                program.listens()
            },
            || last_lines(&fs::read_to_string(log).unwrap_or_default()),
        )
        .await;
        program
    }

    /// Starts `command`, which is it or becomes it, and does not wait for anything.
    pub(crate) fn spawn(mut command: Command, log: PathBuf) -> Self {
        let file = File::create(&log).unwrap();
        command.stdin(Stdio::null()).stdout(file.try_clone().unwrap()).stderr(file);
        let child = command.spawn().unwrap();
        let nowhere = SocketAddr::from(([0; 4], 0));
        Self { child, log, telemetry: nowhere, reports: nowhere }
    }

    /// True once it has said where it listens.
    pub(crate) fn listens(&mut self) -> bool {
        let text = self.log();
        let metrics = address_after(&text, "metrics=http://");
        let reports = address_after(&text, "the publisher's API is served\" url=http://");
        let (Some(metrics), Some(reports)) = (metrics, reports) else { return false };
        (self.telemetry, self.reports) = (metrics, reports);
        true
    }

    /// Everything that it wrote so far, on both outputs.
    pub(crate) fn log(&self) -> String {
        String::from_utf8_lossy(&fs::read(&self.log).unwrap()).into_owned()
    }

    pub(crate) fn pid(&self) -> u32 {
        self.child.id()
    }

    pub(crate) async fn get(&self, path: &str) -> Answer {
        http::get(self.telemetry, path).await.unwrap()
    }

    pub(crate) async fn scrape(&self) -> Scrape {
        Scrape(self.get("/metrics").await.text())
    }

    /// Nothing in the process gets a word in.
    pub(crate) fn kill_9(&mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }

    pub(crate) fn signal(&self, name: &str) {
        let pid = self.pid().to_string();
        assert!(Command::new("kill").args([name, &pid]).status().unwrap().success());
    }

    /// True once it has ended, for whatever reason.
    #[allow(dead_code, reason = "kills from outside are those of the crash points")]
    pub(crate) fn has_ended(&mut self) -> bool {
        self.child.try_wait().unwrap().is_some()
    }

    /// Asks it to end and waits until it has.
    pub(crate) async fn terminate(&mut self) -> ExitStatus {
        self.signal("-TERM");
        self.ended().await
    }

    /// Waits until it has ended by itself.
    pub(crate) async fn ended(&mut self) -> ExitStatus {
        let log = self.log.clone();
        let mut status = None;
        until_or(
            "the program ends",
            async || {
                status = self.child.try_wait().unwrap();
                status.is_some()
            },
            || last_lines(&fs::read_to_string(log).unwrap_or_default()),
        )
        .await;
        status.unwrap()
    }
}

impl Drop for Program {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Runs a command to its end.
pub(crate) async fn command<S: AsRef<std::ffi::OsStr>>(arguments: &[S]) -> Output {
    let mut command = Command::new(BINARY);
    command.args(arguments).stdin(Stdio::null()).current_dir(env!("CARGO_MANIFEST_DIR"));
    // The provider and the mailbox in this process must go on meanwhile.
    tokio::task::spawn_blocking(move || command.output().unwrap()).await.unwrap()
}

pub(crate) fn stdout(output: &Output) -> String {
    String::from_utf8(output.stdout.clone()).unwrap()
}

pub(crate) fn stderr(output: &Output) -> String {
    String::from_utf8(output.stderr.clone()).unwrap()
}

fn address_after(text: &str, words: &str) -> Option<SocketAddr> {
    // A line is complete when it has ended.
    let line =
        text.split_inclusive('\n').find(|line| line.contains(words) && line.ends_with('\n'))?;
    let (_, rest) = line.split_once(words)?;
    rest.split('/').next()?.parse().ok()
}
