//! The options of `tests/soak`.

use crate::harness;
use std::{
    path::PathBuf,
    time::{Duration, SystemTime},
};

/// How to run.
#[derive(Debug)]
pub(crate) struct Options {
    pub(crate) accounts: usize,
    /// Life of an access token.
    pub(crate) life: Duration,
    pub(crate) run_for: Duration,
    pub(crate) kill_every: Duration,
    /// The share of token requests that meet a fault.
    pub(crate) faults: f64,
    pub(crate) seed: u64,
    pub(crate) binary: PathBuf,
}

impl Options {
    pub(crate) fn parse(arguments: impl Iterator<Item = String>) -> Result<Self, String> {
        let mut options = Self {
            accounts: 2_000,
            life: Duration::from_secs(30),
            run_for: Duration::from_secs(120),
            kill_every: Duration::from_secs(20),
            faults: 0.005,
            seed: seed(),
            binary: PathBuf::from(crate::process::BINARY),
        };
        for (name, value) in harness::pairs(arguments, &[])? {
            let number = || harness::number(&name, &value);
            let duration = || humantime::parse_duration(&value).map_err(|e| format!("{name}: {e}"));
            match name.as_str() {
                "--accounts" => options.accounts = number()? as usize,
                "--life" => options.life = duration()?,
                "--for" => options.run_for = duration()?,
                "--kill-every" => options.kill_every = duration()?,
                "--faults" => {
                    options.faults = value.parse().map_err(|_| "--faults wants a share")?
                }
                "--seed" => options.seed = number()?,
                "--replicas" if value == "1" => {}
                "--replicas" => return Err("one replica is all there is here".to_owned()),
                "--binary" => options.binary = value.into(),
                _ => return Err(format!("unknown option {name}")),
            }
        }
        if options.accounts == 0 || options.life < LIFE_MIN {
            return Err(format!("at least one account, and a life of {LIFE_MIN:?}"));
        }
        Ok(options)
    }

    /// Of one request: a tenth of a life, so that a probe after a lost answer is in time.
    pub(crate) fn total_deadline(&self) -> Duration {
        (self.life / 10).clamp(Duration::from_secs(1), Duration::from_secs(10))
    }

    /// How long it may take after the last trouble until everything is well or told.
    pub(crate) fn settle_for(&self) -> Duration {
        self.life.max(Duration::from_secs(30)) * 2
    }
}

/// Another one in each run; it is printed.
fn seed() -> u64 {
    let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    u64::from(now.subsec_nanos()) ^ now.as_secs()
}

const LIFE_MIN: Duration = Duration::from_secs(6);
