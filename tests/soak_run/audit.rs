//! What became of every account, from the provider's log, the store and the mailbox alone.
//!
//! It is fed piece by piece and keeps a few words for each account, so that a run of hours fits into memory.

use crate::world::{OPERATOR, OUTCOMES};
use oauth_keepalive::demo::{
    mailbox::Mail,
    provider::{LogEntry, Provider, Refreshed, What},
};
use rusqlite::Connection;
use std::{
    collections::{BTreeMap, VecDeque},
    time::Duration,
};

/// Everything that was seen so far. Instants are the provider's uptime.
pub(crate) struct Audit {
    accounts: BTreeMap<String, Account>,
    kills: Vec<Duration>,
    started: Duration,
    since_start: [u64; 4],
    /// Token requests by what the provider did and the fault that was played on them.
    pub(crate) requests: BTreeMap<String, u64>,
    pub(crate) rotations: u64,
    /// By what took the token or the answer away.
    pub(crate) lost: BTreeMap<&'static str, u64>,
    pub(crate) silent: Vec<String>,
    pub(crate) lapses: Vec<String>,
    /// Tokens that ended unrenewed while a fault was the last thing that the account had met.
    pub(crate) lapses_after_fault: u64,
    /// Retired tokens that were presented, by what excuses it.
    pub(crate) probes_after: BTreeMap<&'static str, u64>,
    pub(crate) overlaps: u64,
    /// Retired tokens that were presented without an excuse.
    pub(crate) retired: Vec<String>,
    pub(crate) mails_owed: u64,
    pub(crate) mails_sent: u64,
    pub(crate) mails_twice: u64,
    pub(crate) mails_to_operator: u64,
    /// Owners who were told of trouble that there was none of.
    pub(crate) mails_for_nothing: Vec<String>,
}

#[derive(Default)]
struct Account {
    /// The last request that the provider answered with a new token, or would have.
    rotated: Option<Rotation>,
    /// Faults of the last two requests.
    last_faults: [Option<&'static str>; 2],
    /// Its last requests, for people who look into it.
    recent: VecDeque<String>,
    /// The store does not hold what the provider honours since then.
    astray_since: Option<Duration>,
    /// Its stored access token is dead and that has been counted.
    lapsed: bool,
    /// A mail says that its owner must act.
    told: bool,
    /// It was counted as lost.
    is_lost: bool,
    /// It was reconnected and the mail that says so has not come.
    owes_resolved: bool,
    is_silent: bool,
}

struct Rotation {
    at: Duration,
    fault: Option<&'static str>,
    /// Its token was seen in the store.
    arrived: bool,
    /// When its predecessor was presented again.
    probed_at: Option<Duration>,
}

impl Audit {
    pub(crate) fn new(started: Duration) -> Self {
        Self {
            accounts: BTreeMap::new(),
            kills: Vec::new(),
            started,
            since_start: [0; 4],
            requests: BTreeMap::new(),
            rotations: 0,
            lost: BTreeMap::new(),
            silent: Vec::new(),
            lapses: Vec::new(),
            lapses_after_fault: 0,
            probes_after: BTreeMap::new(),
            overlaps: 0,
            retired: Vec::new(),
            mails_owed: 0,
            mails_sent: 0,
            mails_twice: 0,
            mails_to_operator: 0,
            mails_for_nothing: Vec::new(),
        }
    }

    /// Nothing that arrives from now on is the dead process's.
    pub(crate) fn killed(&mut self, now: Duration) {
        self.kills.push(now);
        self.started = now;
        self.since_start = [0; 4];
    }

    pub(crate) fn kills(&self) -> usize {
        self.kills.len()
    }

    pub(crate) fn hear_provider(&mut self, log: Vec<LogEntry>) {
        for entry in log {
            let What::Refresh(refreshed) = entry.what else { continue };
            self.count(&entry, refreshed);
            self.overlaps += u64::from(entry.overlapped && !self.killed_since(entry.at, OVERLAP));
            let Some(name) = entry.account.clone() else { continue };
            if entry.retired_presented() {
                self.judge_retired(&name, &entry);
            }
            let account = self.accounts.entry(name).or_default();
            account.last_faults = [entry.fault, account.last_faults[0]];
            if account.recent.len() == RECENT_MAX {
                account.recent.pop_front();
            }
            let fault = entry.fault.unwrap_or("no fault");
            account.recent.push_back(format!("{:?} {refreshed:?} {fault}", entry.at));
            if refreshed == Refreshed::Rotated {
                self.rotations += 1;
                account.rotated = Some(Rotation {
                    at: entry.at,
                    fault: entry.fault,
                    arrived: false,
                    probed_at: None,
                });
                account.lapsed = false;
            }
        }
    }

    fn count(&mut self, entry: &LogEntry, refreshed: Refreshed) {
        let fault = entry.fault.map(|fault| format!("+{fault}")).unwrap_or_default();
        *self.requests.entry(format!("{refreshed:?}{fault}")).or_default() += 1;
        let slow = matches!(entry.fault, Some("latency" | "hang"));
        let plain = LogEntry { fault: entry.fault.filter(|_| !slow), ..entry.clone() };
        let read_as = plain.should_read_as();
        if entry.at >= self.started
            && let Some(which) = OUTCOMES.iter().position(|outcome| Some(*outcome) == read_as)
        {
            self.since_start[which] += 1;
        }
    }

    /// A request of a process that was killed may still be under way at the provider.
    fn killed_since(&self, at: Duration, within: Duration) -> bool {
        self.kills.iter().rev().any(|kill| *kill <= at && at - *kill <= within)
    }

    /// A retired token may be presented once, after an answer that a fault or a kill kept from us.
    fn judge_retired(&mut self, name: &str, entry: &LogEntry) {
        let excuse = self.accounts.get_mut(name).and_then(|account| {
            let rotation = account.rotated.as_mut()?;
            let killed_since = |then: Duration| self.kills.iter().any(|kill| *kill >= then);
            match rotation.probed_at.replace(entry.at) {
                _ if rotation.arrived => None,
                None if rotation.fault.is_some_and(is_answer_lost) => Some("fault"),
                None => killed_since(rotation.at).then_some("kill"),
                // One probe for each lost answer; what was learnt of it may have died with the process.
                Some(before) => killed_since(before).then_some("verdict_killed"),
            }
        });
        match excuse {
            Some(excuse) => *self.probes_after.entry(excuse).or_default() += 1,
            None => {
                let recent = self.accounts.get(name).map(|account| &account.recent);
                let kills = &self.kills;
                self.retired
                    .push(format!("{name} at {:?} after {recent:?}, kills {kills:?}", entry.at));
            }
        }
    }

    pub(crate) fn hear_mail(&mut self, mail: &Mail) {
        for to in &mail.to {
            if to == OPERATOR {
                self.mails_to_operator += 1;
                continue;
            }
            let name = to.strip_prefix("owner-of-").and_then(|rest| rest.split('@').next());
            let account = self.accounts.entry(name.unwrap_or(to).to_owned()).or_default();
            // The subject line stays the same within an incident.
            let is_new = if mail.text.contains("The trouble is over") {
                std::mem::take(&mut account.owes_resolved)
            } else {
                // Until the mail that it is over, one that it began is the old one once more.
                !account.owes_resolved && !std::mem::replace(&mut account.told, true)
            };
            if is_new {
                self.mails_sent += 1;
            } else {
                self.mails_twice += 1;
            }
        }
    }

    /// Compares the store with what the provider honours.
    pub(crate) fn look_at_store(&mut self, now: Duration, store: &Connection, provider: &Provider) {
        let sql = "SELECT account, access_token, refresh_token FROM accounts";
        let mut statement = store.prepare_cached(sql).unwrap();
        let mut rows = statement.query([]).unwrap();
        while let Some(row) = rows.next().unwrap() {
            let text = |column| row.get_ref(column).unwrap().as_str().unwrap();
            let (name, access, refresh) = (text(0), text(1), text(2));
            let current = provider.current(name).and_then(|token| token.refresh);
            let kept = current.is_some_and(|current| current.expose() == refresh);
            if !self.accounts.contains_key(name) {
                self.accounts.insert(name.to_owned(), Account::default());
            }
            let live = provider.accepts(access);
            let verdict = self.accounts.get_mut(name).unwrap().look(now, kept, live, &self.kills);
            match verdict {
                Verdict::Fine => {}
                Verdict::Lapsed { after_fault: true } => self.lapses_after_fault += 1,
                Verdict::Lapsed { after_fault: false } => {
                    self.lapses.push(format!("{name} at {now:?}"));
                }
                Verdict::Lost(why) => {
                    *self.lost.entry(why).or_default() += 1;
                    self.mails_owed += 1;
                }
                Verdict::Silent => self.silent.push(format!("{name} at {now:?}")),
                Verdict::NothingWrong => self.mails_for_nothing.push(format!("{name} at {now:?}")),
            }
        }
    }

    /// Accounts that are lost and whose owners know: they act now.
    pub(crate) fn reconnected(&mut self) -> Vec<String> {
        let lost = self.accounts.iter_mut().filter(|(_, account)| account.is_lost && account.told);
        let names: Vec<String> = lost
            .map(|(name, account)| {
                let recent = std::mem::take(&mut account.recent);
                *account = Account { owes_resolved: true, recent, ..Account::default() };
                name.clone()
            })
            .collect();
        self.mails_owed += names.len() as u64;
        names
    }

    /// Nothing is on its way and nobody has to be told of anything.
    pub(crate) fn is_settled(&self) -> bool {
        let settled = |account: &Account| {
            account.astray_since.is_none()
                && !account.is_lost
                && !account.told
                && !account.owes_resolved
        };
        self.accounts.values().all(settled)
    }

    pub(crate) const fn outcomes_since_start(&self) -> [u64; 4] {
        self.since_start
    }

    pub(crate) fn lost_count(&self) -> u64 {
        self.lost.values().sum()
    }

    pub(crate) fn progress(&self) -> String {
        format!(
            "rotations={} kills={} lost={} silent={} lapses={} mails={}",
            self.rotations,
            self.kills.len(),
            self.lost_count(),
            self.silent.len(),
            self.lapses.len(),
            self.mails_sent,
        )
    }
}

enum Verdict {
    Fine,
    Lapsed {
        after_fault: bool,
    },
    Lost(&'static str),
    Silent,
    /// Its owner was told and it works.
    NothingWrong,
}

impl Account {
    fn look(&mut self, now: Duration, kept: bool, live: bool, kills: &[Duration]) -> Verdict {
        if kept {
            self.astray_since = None;
            if let Some(rotation) = &mut self.rotated {
                rotation.arrived = true;
            }
            if self.told && !self.is_lost {
                // Given up although the provider would have gone on: both answers were lost.
                self.is_lost = true;
                let in_doubt = self.last_faults[0].is_some();
                return if in_doubt {
                    Verdict::Lost("in_doubt_twice")
                } else {
                    Verdict::NothingWrong
                };
            }
            if !live && !self.lapsed && !self.is_lost {
                self.lapsed = true;
                let after_fault = self.last_faults[0].is_some();
                return Verdict::Lapsed { after_fault };
            }
            return Verdict::Fine;
        }
        let since = *self.astray_since.get_or_insert(now);
        if self.told && !self.is_lost {
            self.is_lost = true;
            return Verdict::Lost(self.why(kills));
        }
        if !self.told && !self.is_silent && now.saturating_sub(since) > SILENT_AFTER {
            self.is_silent = true;
            return Verdict::Silent;
        }
        Verdict::Fine
    }

    /// What kept the newest token from us.
    fn why(&self, kills: &[Duration]) -> &'static str {
        match &self.rotated {
            Some(rotation) if rotation.fault.is_some_and(is_answer_lost) => "answer_lost",
            Some(rotation) if kills.iter().any(|kill| *kill >= rotation.at) => "killed",
            _ => UNEXPLAINED,
        }
    }
}

/// Faults that spend the token and keep the new one from everybody.
fn is_answer_lost(fault: &'static str) -> bool {
    matches!(fault, "lose_answer" | "truncate" | "status_after")
}

/// A loss that nobody but the program can have caused.
pub(crate) const UNEXPLAINED: &str = "unexplained";
/// Requests of an account that are kept.
const RECENT_MAX: usize = 6;
/// Far longer than request, wait, probe and mail take together, several kills included.
const SILENT_AFTER: Duration = Duration::from_secs(60);
/// How long a request of a killed process may go on at the provider.
const OVERLAP: Duration = Duration::from_secs(5);
