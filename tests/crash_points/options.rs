//! The options of `tests/crash`.

use std::path::PathBuf;

/// How to run.
#[derive(Clone, Debug)]
pub(crate) struct Options {
    /// Every how manieth point is taken.
    pub(crate) every: usize,
    pub(crate) rounds: Vec<Round>,
    /// Programs at a time.
    pub(crate) jobs: usize,
    pub(crate) binary: PathBuf,
}

/// One walk over all points.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Round {
    pub(crate) harm: Harm,
    /// Seconds for which the provider takes the token before the last one again.
    pub(crate) grace: u64,
}

/// What is done to the program at a point.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Harm {
    /// SIGKILL instead of the call.
    Kill,
    /// The call fails once with EIO.
    Eio,
    /// The call and all that follow on the same file fail with ENOSPC, until somebody makes room.
    Enospc,
}

impl Harm {
    pub(crate) const fn as_label(self) -> &'static str {
        match self {
            Self::Kill => "kill",
            Self::Eio => "eio",
            Self::Enospc => "enospc",
        }
    }
}

impl Options {
    pub(crate) fn parse(arguments: impl Iterator<Item = String>) -> Result<Self, String> {
        let mut options = Self {
            every: 1,
            rounds: Vec::new(),
            jobs: 4,
            binary: PathBuf::from(crate::process::BINARY),
        };
        let (mut harms, mut graces) = (vec![Harm::Kill, Harm::Eio, Harm::Enospc], vec![0, GRACE]);
        let mut arguments = arguments;
        while let Some(name) = arguments.next() {
            if name == "--grace" {
                graces = vec![GRACE];
                continue;
            }
            let value = arguments.next().ok_or_else(|| format!("{name} wants a value"))?;
            let number = || value.parse().map_err(|_| format!("{name} wants a number"));
            match (name.as_str(), value.as_str()) {
                ("--every", _) => options.every = number()?,
                ("--jobs", _) => options.jobs = number()?,
                ("--binary", _) => options.binary = value.into(),
                ("--faults", "all") => {}
                ("--faults", "kill") => harms = vec![Harm::Kill],
                ("--faults", "eio") => harms = vec![Harm::Eio],
                ("--faults", "enospc") => harms = vec![Harm::Enospc],
                ("--faults", _) => return Err("--faults wants kill, eio, enospc or all".to_owned()),
                _ => return Err(format!("unknown option {name}")),
            }
        }
        if options.every == 0 || options.jobs == 0 {
            return Err("--every and --jobs want at least 1".to_owned());
        }
        let rounds = graces.iter().flat_map(|grace| harms.iter().map(|harm| (*harm, *grace)));
        options.rounds = rounds.map(|(harm, grace)| Round { harm, grace }).collect();
        Ok(options)
    }
}

/// Seconds in which a provider forgives, as some do.
const GRACE: u64 = 30;
