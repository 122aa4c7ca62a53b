//! What all processes share: the clock, the dice, the truth, and who is cut off from what.

use super::{
    faults::{Fault, Faults},
    replica::Process,
    truth::{Millis, Player, SECOND, START},
};
use crate::dice::Dice;
use oauth_keepalive::{
    core::Timestamp,
    oauth::Fingerprinter,
    state::{State, simulated::Database},
};
use std::{
    collections::BTreeMap,
    fmt,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};
use tokio::time::Instant;

/// What a process needs and can be cut off from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Peer {
    Provider,
    Store,
    State,
}

/// How a provider is out of order.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Outage {
    Unreachable,
    Broken,
    Busy,
    Silent,
}

pub(crate) struct World {
    began: Instant,
    pub(crate) database: Database,
    /// Reads our state without anything in the way.
    pub(crate) auditor: State,
    pub(crate) maker: Fingerprinter,
    inner: Mutex<Truth>,
}

/// Everything that changes.
pub(crate) struct Truth {
    pub(crate) now: Millis,
    pub(crate) players: Vec<Player>,
    pub(crate) faults: Faults,
    pub(crate) io: Dice,
    /// Until when each replica is cut off from each peer.
    pub(crate) cut: Vec<[Millis; 3]>,
    pub(crate) provider_down: (Millis, Outage),
    pub(crate) app_refused_until: [Millis; 2],
    /// Which replica is asking about each app, and since when.
    pub(crate) asking: [Option<(usize, Millis)>; 2],
    /// Questions about a refused app, since that began.
    pub(crate) app_questions: [u32; 2],
    /// Requests that were refused because of the app, since that began.
    pub(crate) app_refusals: [u32; 2],
    /// The end of the last trouble that all accounts share.
    pub(crate) shared_trouble_at: Millis,
    /// Rises with every write to the publisher's store.
    pub(crate) store_version: u64,
    /// Tokens that reached a process: its life, the account, the token's number.
    pub(crate) hands: Vec<(u64, usize, usize)>,
    pub(crate) processes: Vec<Option<Arc<Process>>>,
    /// By how many seconds the clock of each replica's machine is ahead.
    pub(crate) skews: Vec<i64>,
    pub(crate) lives: u64,
    /// When a process was last stopped or killed.
    pub(crate) stopped_at: Millis,
    /// Mails as their recipients see them: when, whose, cause, firing, and the key of the mail.
    pub(crate) mails: Vec<Mail>,
    pub(crate) requests: u64,
    pub(crate) broken: Option<Broken>,
    pub(crate) timeline: Option<Vec<(Millis, Option<usize>, String)>>,
}

#[derive(Clone, Debug)]
pub(crate) struct Mail {
    pub(crate) at: Millis,
    /// When it was decided, by the clock of whoever did.
    pub(crate) decided_at: Millis,
    pub(crate) subject: String,
    pub(crate) cause: &'static str,
    pub(crate) firing: bool,
    pub(crate) key: String,
}

/// A law that did not hold.
#[derive(Clone, Debug)]
pub(crate) struct Broken {
    pub(crate) at: Millis,
    pub(crate) who: Option<usize>,
    pub(crate) law: &'static str,
    pub(crate) what: String,
}

impl fmt::Display for Broken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} [{}]: {}", clock(self.at), self.law, self.what)
    }
}

/// Hours, minutes and seconds since the beginning.
pub(crate) fn clock(at: Millis) -> String {
    let seconds = at.div_euclid(SECOND);
    let (hours, minutes) = (seconds / 3_600, seconds / 60 % 60);
    format!("{hours:02}:{minutes:02}:{:02}.{:03}", seconds % 60, at.rem_euclid(SECOND))
}

impl World {
    pub(crate) fn new(seed: u64, without: u64, replicas: usize, records: bool) -> Arc<Self> {
        let database = Database::new(replicas > 1);
        let auditor = State::simulated(&database, Arc::new(super::replica::Straight));
        let truth = Truth {
            now: 0,
            players: Vec::new(),
            faults: Faults::new(seed, without),
            io: Dice::new(seed ^ 0x5eed),
            cut: vec![[0; 3]; replicas],
            provider_down: (0, Outage::Broken),
            app_refused_until: [0; 2],
            asking: [None; 2],
            app_questions: [0; 2],
            app_refusals: [0; 2],
            shared_trouble_at: 0,
            store_version: 1,
            hands: Vec::new(),
            processes: vec![None; replicas],
            skews: vec![0; replicas],
            lives: 0,
            stopped_at: 0,
            mails: Vec::new(),
            requests: 0,
            broken: None,
            timeline: records.then(Vec::new),
        };
        let maker = auditor.fingerprinter();
        Arc::new(Self { began: Instant::now(), database, auditor, maker, inner: Mutex::new(truth) })
    }

    pub(crate) fn now(&self) -> Millis {
        self.began.elapsed().as_millis() as Millis
    }

    /// What a clock that is right says.
    pub(crate) fn true_time(&self) -> Timestamp {
        Timestamp::from_unix(START + self.now().div_euclid(SECOND))
    }

    /// Everything, as it is now.
    pub(crate) fn truth(&self) -> MutexGuard<'_, Truth> {
        let mut truth = self.inner.lock().unwrap_or_else(PoisonError::into_inner);
        truth.now = self.now();
        truth
    }

    pub(crate) async fn sleep(&self, millis: Millis) {
        if millis > 0 {
            tokio::time::sleep(Duration::from_millis(millis as u64)).await;
        }
    }
}

impl Truth {
    /// True when the one probe of this token may be spent with nobody the wiser: it ended in the dark, or whoever had
    /// noted that it would be sent, or was not, was stopped before anybody else could know.
    pub(crate) fn is_in_the_dark(&self, who: usize, number: usize) -> bool {
        let Some(token) = self.players[who].tokens.get(number) else { return false };
        token.unknown >= 2 || (token.unknown == 1 && self.stopped_at > token.unknown_at)
    }

    /// A law; the first that does not hold is kept.
    pub(crate) fn law(
        &mut self,
        holds: bool,
        law: &'static str,
        who: Option<usize>,
        what: impl FnOnce(&Self) -> String,
    ) {
        if !holds && self.broken.is_none() {
            let what = what(self);
            self.note(who, || format!("LAW BROKEN: {what}"));
            self.broken = Some(Broken { at: self.now, who, law, what });
        }
    }

    /// A line of the timeline, when one is kept.
    pub(crate) fn note(&mut self, who: Option<usize>, what: impl FnOnce() -> String) {
        if let Some(timeline) = &mut self.timeline {
            timeline.push((self.now, who, what()));
        }
    }

    pub(crate) fn is_cut(&self, replica: usize, peer: Peer) -> bool {
        self.cut[replica][peer as usize] > self.now
    }

    pub(crate) fn trouble(&mut self, who: usize) {
        self.players[who].trouble_at = self.players[who].trouble_at.max(self.now);
    }

    pub(crate) fn shared_trouble(&mut self, until: Millis) {
        self.shared_trouble_at = self.shared_trouble_at.max(until);
    }

    /// How long nothing has been in the way of this account.
    pub(crate) fn calm(&self, who: usize) -> Millis {
        self.now - self.players[who].trouble_at.max(self.shared_trouble_at)
    }

    /// How long a call takes: mostly short, at times not.
    pub(crate) fn latency(&mut self, slow: Fault) -> Millis {
        if self.faults.strikes(slow, 30) {
            self.faults.die(slow).between(SECOND, 4 * SECOND)
        } else {
            self.io.between(0, 25)
        }
    }

    pub(crate) fn fault_counts(&self) -> BTreeMap<&'static str, u64> {
        Fault::ALL
            .iter()
            .map(|(fault, name)| (*name, self.faults.counts[*fault as usize]))
            .collect()
    }
}
