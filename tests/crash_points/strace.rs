//! strace beside a process: what it may see, what it breaks, and what it wrote down.
//!
//! It is attached when the program has started and is idle, so that calls are counted from shortly before the
//! moment that matters. Counts are for each thread; which call was struck is read from what it wrote.

use crate::{patience::LOOK_EVERY, until_or};
use std::{
    fs::{self, File},
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    time::{Duration, Instant},
};

/// Attached to a process until it is detached or that process ends.
pub(crate) struct Strace {
    /// `None` where it started the process itself, and ends with it.
    child: Option<Child>,
    output: PathBuf,
}

impl Strace {
    /// Attaches to all threads of `pid`, with `arguments` besides those that make its output readable.
    pub(crate) async fn attach(pid: u32, arguments: &[String], folder: &Path) -> Self {
        let (output, stderr) = (folder.join("strace.out"), folder.join("strace.err"));
        let child = Command::new("strace")
            .args(READABLE)
            .args(["-p", &pid.to_string(), "-o"])
            .arg(&output)
            .args(arguments)
            .stdin(Stdio::null())
            .stderr(File::create(&stderr).unwrap())
            .spawn()
            .expect("strace is installed; tests/tools.sh does it");
        let mut strace = Self { child: Some(child), output };
        let told = || fs::read_to_string(&stderr).unwrap_or_default();
        until_or(
            "strace is attached; it may need root, CAP_SYS_PTRACE or kernel.yama.ptrace_scope=0",
            async || {
                assert!(!strace.has_ended() || told().contains("attached"), "strace: {}", told());
                told().contains("attached")
            },
            told,
        )
        .await;
        strace
    }

    /// A command that becomes `program`, seen from its first call on.
    pub(crate) fn around(program: &Path, arguments: &[String], folder: &Path) -> (Self, Command) {
        let output = folder.join("strace-of-recovery.out");
        let mut command = Command::new("strace");
        // The tracer is nobody's child, so that the process that is started is the program.
        command.arg("-D").args(READABLE).arg("-o").arg(&output).args(arguments).arg(program);
        (Self { child: None, output }, command)
    }

    /// What it wrote so far.
    pub(crate) fn text(&self) -> String {
        self.reader()()
    }

    /// The same for whoever waits for it to end.
    pub(crate) fn reader(&self) -> impl Fn() -> String + use<> {
        let output = self.output.clone();
        move || String::from_utf8_lossy(&fs::read(&output).unwrap_or_default()).into_owned()
    }

    /// Waits until nothing has been written for `pause`.
    pub(crate) async fn until_quiet(&self, pause: Duration) {
        let length = || fs::metadata(&self.output).map_or(0, |data| data.len());
        let (mut last, mut since) = (length(), Instant::now());
        while since.elapsed() < pause {
            tokio::time::sleep(LOOK_EVERY).await;
            if length() != last {
                (last, since) = (length(), Instant::now());
            }
        }
    }

    /// Lets the process go on alone.
    pub(crate) fn detach(&mut self) {
        if self.has_ended() {
            return;
        }
        if let Some(child) = &mut self.child {
            let _ = Command::new("kill").args(["-INT", &child.id().to_string()]).status();
            let _ = child.wait();
        }
    }

    /// True once it has ended, because the process has.
    pub(crate) fn has_ended(&mut self) -> bool {
        self.child.as_mut().is_some_and(|child| child.try_wait().unwrap().is_some())
    }
}

impl Drop for Strace {
    fn drop(&mut self) {
        if let Some(child) = &mut self.child {
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}

/// All threads, files and addresses by their names, and no content.
const READABLE: [&str; 4] = ["-f", "-yy", "-s", "0"];
