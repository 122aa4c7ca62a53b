//! The options of `tests/crash`.

use crate::harness;
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
    pub(crate) store: Store,
    pub(crate) course: Course,
    pub(crate) harm: Harm,
    /// Seconds for which the provider takes the token before the last one again.
    pub(crate) grace: u64,
}

/// The publisher's store.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Store {
    Sqlite,
    /// A YAML file that is replaced whole.
    File,
}

/// What is under way when the harm comes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Course {
    /// One ordinary rotation.
    Rotation,
    /// The recovery of a process that was killed before...
    Recovery(Before),
}

/// Where the first of two kills struck.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Before {
    /// ...it saved a token that was journalled: the recovery saves it.
    Saving,
    /// ...it journalled a token: the recovery asks once more.
    Journalling,
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

impl Round {
    /// What it is, for people.
    pub(crate) fn sentence(&self) -> String {
        let store = match self.store {
            Store::Sqlite => "sqlite",
            Store::File => "file",
        };
        let course = match self.course {
            Course::Rotation => "a rotation",
            Course::Recovery(Before::Saving) => "the recovery after a kill before the save",
            Course::Recovery(Before::Journalling) => "the recovery after a kill in the window",
        };
        format!("{} during {course}, store {store}, grace {} s", self.harm.as_label(), self.grace)
    }
}

impl Options {
    pub(crate) fn parse(arguments: impl Iterator<Item = String>) -> Result<Self, String> {
        let mut options = Self {
            every: 1,
            rounds: all_rounds(),
            jobs: 8,
            binary: PathBuf::from(crate::process::BINARY),
        };
        for (name, value) in harness::pairs(arguments, &["--grace"])? {
            let number = || harness::number(&name, &value).map(|number| number as usize);
            let mut only = |wanted: &dyn Fn(&Round) -> bool| options.rounds.retain(wanted);
            match (name.as_str(), value.as_str()) {
                ("--every", _) => options.every = number()?,
                ("--jobs", _) => options.jobs = number()?,
                ("--binary", _) => options.binary = value.into(),
                ("--grace", _) => only(&|round| round.grace > 0),
                ("--faults" | "--store" | "--course", "all") => {}
                ("--faults", "kill") => only(&|round| round.harm == Harm::Kill),
                ("--faults", "eio") => only(&|round| round.harm == Harm::Eio),
                ("--faults", "enospc") => only(&|round| round.harm == Harm::Enospc),
                ("--faults", _) => return Err("--faults wants kill, eio, enospc or all".to_owned()),
                ("--store", "sqlite") => only(&|round| round.store == Store::Sqlite),
                ("--store", "file") => only(&|round| round.store == Store::File),
                ("--store", _) => return Err("--store wants sqlite, file or all".to_owned()),
                ("--course", "rotation") => only(&|round| round.course == Course::Rotation),
                ("--course", "recovery") => only(&|round| round.course != Course::Rotation),
                ("--course", _) => {
                    return Err("--course wants rotation, recovery or all".to_owned());
                }
                _ => return Err(format!("unknown option {name}")),
            }
        }
        if options.every == 0 || options.jobs == 0 {
            return Err("--every and --jobs want at least 1".to_owned());
        }
        if options.rounds.is_empty() {
            return Err("no round is all of that at once".to_owned());
        }
        Ok(options)
    }
}

/// How the provider forgives makes no difference to a store, and errors none to who is killed twice.
fn all_rounds() -> Vec<Round> {
    let round = |store, course, harm, grace| Round { store, course, harm, grace };
    let (saving, journalling) =
        (Course::Recovery(Before::Saving), Course::Recovery(Before::Journalling));
    let mut rounds = Vec::new();
    for (store, grace) in [(Store::Sqlite, 0), (Store::Sqlite, GRACE), (Store::File, 0)] {
        for harm in [Harm::Kill, Harm::Eio, Harm::Enospc] {
            rounds.push(round(store, Course::Rotation, harm, grace));
        }
    }
    rounds.push(round(Store::Sqlite, saving, Harm::Kill, 0));
    rounds.push(round(Store::File, saving, Harm::Kill, 0));
    rounds.push(round(Store::Sqlite, journalling, Harm::Kill, 0));
    rounds.push(round(Store::Sqlite, journalling, Harm::Kill, GRACE));
    rounds
}

/// Seconds in which a provider forgives, as some do.
const GRACE: u64 = 30;
