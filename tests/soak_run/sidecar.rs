//! The program under test, from start to kill to start. One process; several would live here.

use crate::{
    options::Options,
    process::Program,
    scrape::Scrape,
    world::{OUTCOMES, World},
};
use std::{fs, path::PathBuf};

/// One process at a time on one state directory.
pub(crate) struct Sidecar {
    binary: PathBuf,
    config: PathBuf,
    program: Option<Program>,
    starts: u32,
}

impl Sidecar {
    pub(crate) fn new(world: &World, options: &Options) -> Self {
        Self { binary: options.binary.clone(), config: world.config(), program: None, starts: 0 }
    }

    /// Starts it and waits until it listens.
    pub(crate) async fn start(&mut self, world: &World) {
        self.starts += 1;
        // Those of the last two processes are enough to understand what happened.
        let log = |number: u32| world.path(&format!("program-{number}.log"));
        if let Some(old) = self.starts.checked_sub(2) {
            let _ = fs::remove_file(log(old));
        }
        let started = Program::start_binary(&self.binary, "info", &self.config, log(self.starts));
        self.program = Some(started.await);
    }

    pub(crate) fn kill_9(&mut self) {
        self.running_mut().kill_9();
    }

    pub(crate) async fn scrape(&self) -> Scrape {
        self.running().scrape().await
    }

    /// Resident memory, as the system counts it.
    pub(crate) fn rss_kib(&self) -> Option<u64> {
        let status = fs::read_to_string(format!("/proc/{}/status", self.running().pid())).ok()?;
        let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"))?;
        line.split_whitespace().next()?.parse().ok()
    }

    fn running(&self) -> &Program {
        self.program.as_ref().expect("it runs but for the moment of a kill")
    }

    fn running_mut(&mut self) -> &mut Program {
        self.program.as_mut().expect("it runs but for the moment of a kill")
    }
}

/// What the program says of its token requests since its start, in the order of [`OUTCOMES`].
pub(crate) fn outcomes(scrape: &Scrape) -> [u64; 4] {
    OUTCOMES.map(|outcome| {
        let labels = [("provider", "tiktok"), ("outcome", outcome)];
        scrape.value("refresh_outcomes_total", &labels).unwrap_or(0.0) as u64
    })
}
