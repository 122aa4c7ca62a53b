//! Which calls are struck: every one that matters in one rotation that went well, and where in it they lie.

use crate::{
    options::Harm,
    trace::{Call, Target},
};
use std::{collections::BTreeMap, fmt};

/// A call, by its name, what it is about, and how manieth of its kind it is.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Point {
    pub(crate) name: String,
    pub(crate) target: Target,
    /// From 1: among all threads where the target tells calls apart, in one thread otherwise.
    pub(crate) number: usize,
}

impl fmt::Display for Point {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let number = self.number;
        match &self.target {
            Target::File(path) => write!(f, "{}({path})#{number}", self.name),
            Target::Peer => write!(f, "{}(provider)#{number}", self.name),
            Target::Other => write!(f, "{}(other)#{number}", self.name),
        }
    }
}

impl Point {
    /// True when it was chosen by what it is about and therefore must be hit.
    pub(crate) fn is_exact(&self) -> bool {
        // The provider's end of a connection has no name by which strace could aim at its close.
        let closes_connection = self.name == "close" && self.target == Target::Peer;
        self.target != Target::Other && !closes_connection
    }
}

/// Where a call lies in a rotation.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Zone {
    /// Up to sending the request: nothing is spent.
    Before,
    /// From about when the one probe is noted as spent to its request's last byte: who ends there has no other.
    Noted,
    /// From the request's last byte to the answer's: the new token is the provider's alone.
    OnTheWire,
    /// From the last receive to the first durable write: the one window of ours.
    Window,
    /// The new token is durable.
    After,
}

/// A rotation that went well, call by call.
pub(crate) struct Reference {
    calls: Vec<Call>,
    /// In a recovery, since when the one probe may count as spent.
    noted: Option<usize>,
    sent: usize,
    received: usize,
    durable: usize,
}

impl Reference {
    /// `None` when the trace does not hold a whole rotation.
    pub(crate) fn of(calls: Vec<Call>) -> Option<Self> {
        let came = |call: &&Call| {
            call.target == Target::Peer && is_receive(&call.name) && call.result > Some(0)
        };
        let received = calls.iter().rposition(|call| came(&call))?;
        let sent = calls[..received]
            .iter()
            .rposition(|call| call.target == Target::Peer && is_send(&call.name))?;
        let durable = received + calls[received..].iter().position(is_commit)?;
        Some(Self { calls, noted: None, sent, received, durable })
    }

    /// The same of a recovery that asks once more.
    pub(crate) fn of_probe(calls: Vec<Call>) -> Option<Self> {
        let reference = Self::of(calls)?;
        let before = reference.calls[..reference.sent].iter().enumerate();
        let mut commits = before.rev().filter(|(_, call)| is_commit(call));
        // The last one is the note's; what it is made of lies between it and the one before.
        let noted = commits.nth(1).map_or(0, |(index, _)| index);
        Some(Self { noted: Some(noted), ..reference })
    }

    /// The same of a recovery in which nothing is asked: the token was durable before it began.
    pub(crate) const fn of_saving(calls: Vec<Call>) -> Self {
        Self { calls, noted: None, sent: 0, received: 0, durable: 0 }
    }

    /// System calls between the last receive and the first durable write, that one included, whichever
    /// thread made them.
    pub(crate) const fn window(&self) -> usize {
        self.durable - self.received
    }

    pub(crate) fn zone_of(&self, index: usize) -> Zone {
        if index <= self.sent && self.noted.is_some_and(|noted| noted < index) {
            Zone::Noted
        } else if index <= self.sent {
            Zone::Before
        } else if index <= self.received {
            Zone::OnTheWire
        } else if index <= self.durable {
            Zone::Window
        } else {
            Zone::After
        }
    }

    /// Where the call lies that the point names.
    pub(crate) fn zone(&self, point: &Point) -> Option<Zone> {
        let mut same = self.calls.iter().enumerate().filter(|(_, call)| is_about(call, point));
        same.nth(point.number - 1).map(|(index, _)| self.zone_of(index))
    }

    /// Every point for this harm, in the order in which they come.
    pub(crate) fn points(&self, harm: Harm) -> Vec<Point> {
        let mut points = Vec::new();
        let mut seen = BTreeMap::<(String, Target, Option<u32>), usize>::new();
        for call in self.calls.iter().filter(|call| can_strike(harm, call)) {
            let thread = (call.target == Target::Other).then_some(call.thread);
            let number = seen.entry((call.name.clone(), call.target.clone(), thread)).or_default();
            *number += 1;
            let point =
                Point { name: call.name.clone(), target: call.target.clone(), number: *number };
            if !points.contains(&point) {
                points.push(point);
            }
        }
        points
    }
}

/// Makes what was written to our state durable.
fn is_commit(call: &Call) -> bool {
    matches!(call.name.as_str(), "fsync" | "fdatasync")
        && matches!(&call.target, Target::File(path) if path.starts_with("state/"))
}

pub(crate) fn is_about(call: &Call, point: &Point) -> bool {
    call.name == point.name && call.target == point.target
}

/// Kills are for every call that matters; errors for files and the connection, where they really happen.
fn can_strike(harm: Harm, call: &Call) -> bool {
    let name = call.name.as_str();
    let is_ours = !matches!(&call.target, Target::File(path) if path == CONFIG || path.is_empty() && name != "fsync" && name != "openat");
    is_ours
        && match (harm, &call.target) {
            (Harm::Kill, _) => KILLS.contains(&name),
            // A close that fails closes all the same; under strace it does not, and a lock would be held for ever.
            (Harm::Eio, Target::File(path)) if name == "close" => !path.ends_with(".lock"),
            (Harm::Eio, Target::File(_)) => KILLS.contains(&name),
            (Harm::Eio, Target::Peer) => is_send(name) || is_receive(name) || name == "connect",
            (Harm::Enospc, Target::File(_)) => ROOM.contains(&name),
            _ => false,
        }
}

fn is_send(name: &str) -> bool {
    matches!(name, "write" | "writev" | "sendto" | "sendmsg")
}

fn is_receive(name: &str) -> bool {
    matches!(name, "read" | "readv" | "recvfrom" | "recvmsg")
}

/// Looked at every second, whatever happens.
const CONFIG: &str = "config.yaml";

/// Writes, fsyncs, renames, sends, receives, reads, closes, opens.
pub(crate) const KILLS: [&str; 27] = [
    "write",
    "pwrite64",
    "writev",
    "pwritev",
    "pwritev2",
    "ftruncate",
    "fallocate",
    "fsync",
    "fdatasync",
    "rename",
    "renameat",
    "renameat2",
    "unlink",
    "unlinkat",
    "sendto",
    "sendmsg",
    "recvfrom",
    "recvmsg",
    "read",
    "pread64",
    "readv",
    "close",
    "open",
    "openat",
    "socket",
    "connect",
    "shutdown",
];

/// Calls that fail on a full disk.
const ROOM: [&str; 9] = [
    "write",
    "pwrite64",
    "writev",
    "pwritev",
    "ftruncate",
    "fallocate",
    "fsync",
    "fdatasync",
    "openat",
];
