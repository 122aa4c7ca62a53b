//! What came of it, in words and in one line for machines.

use crate::{
    audit::{Audit, UNEXPLAINED},
    harness::Report,
    options::Options,
    world::OUTCOMES,
};
use std::fmt::Debug;

/// The figures and every promise that was not kept.
pub(crate) fn of(
    audit: &Audit,
    options: &Options,
    ours: [u64; 4],
    theirs: [u64; 4],
    rss: (Option<u64>, Option<u64>),
    cut: u64,
) -> Report {
    let mut report = Report::default();
    report.promises(audit, ours, theirs, cut);
    let whole = format!("{:?}, {} kills", options.run_for, audit.kills());
    report.lines.push(format!("accounts {}, life {:?}, {whole}", options.accounts, options.life));
    report.lines.push(format!("token requests at the provider: {:?}", audit.requests));
    report.lines.push(format!("lost by cause: {:?}", audit.lost));
    report.lines.push(format!("probes with a retired token after a: {:?}", audit.probes_after));
    report
        .lines
        .push(format!("{OUTCOMES:?} since the last start: {ours:?}, by the provider: {theirs:?}"));
    report.lines.push(format!(
        "mails sent twice {}, to the operator {}; lapses after a fault {}",
        audit.mails_twice, audit.mails_to_operator, audit.lapses_after_fault
    ));
    report.lines.push(format!(
        "soak: rotations={} lost={} silent={} lapses={} mails_owed={} mails_sent={} \
             rss_first_kib={} rss_last_kib={}",
        audit.rotations,
        audit.lost_count(),
        audit.silent.len(),
        audit.lapses.len(),
        audit.mails_owed,
        audit.mails_sent,
        rss.0.unwrap_or(0),
        rss.1.unwrap_or(0),
    ));
    report
}

impl Report {
    fn promises(&mut self, audit: &Audit, ours: [u64; 4], theirs: [u64; 4], cut: u64) {
        self.none("lost and nobody was told", &audit.silent);
        self.none("healthy accounts whose token ended unrenewed", &audit.lapses);
        self.none("retired tokens presented after their successors had come", &audit.retired);
        self.none("owners told of trouble that there was not", &audit.mails_for_nothing);
        if let Some(times) = audit.lost.get(UNEXPLAINED) {
            self.violations.push(format!("{times} tokens lost without a fault or a kill"));
        }
        if audit.overlaps > 0 {
            let times = audit.overlaps;
            self.violations.push(format!("{times} times two requests of one account together"));
        }
        if audit.mails_sent != audit.mails_owed {
            let (owed, sent) = (audit.mails_owed, audit.mails_sent);
            self.violations.push(format!("{owed} mails owed, {sent} sent"));
        }
        if audit.mails_twice > MAILS_TWICE_PER_KILL_MAX * audit.kills() as u64 {
            let times = audit.mails_twice;
            self.violations.push(format!("{times} mails were sent twice"));
        }
        if ours != theirs || ours == [0; 4] {
            self.violations
                .push(format!("counted {OUTCOMES:?}: {ours:?}, by the provider {theirs:?}"));
        }
        if cut > 0 {
            self.violations.push(format!("the provider's log lacks {cut} entries"));
        }
        if audit.rotations == 0 {
            self.violations.push("nothing was rotated".to_owned());
        }
    }

    fn none(&mut self, what: &str, cases: &[impl Debug]) {
        if !cases.is_empty() {
            let some = &cases[..cases.len().min(LISTED_MAX)];
            self.violations.push(format!("{}: {what}: {some:?}", cases.len()));
        }
    }
}

/// A kill between the mail server's word and ours of it costs one mail that is sent again.
const MAILS_TWICE_PER_KILL_MAX: u64 = 2;
const LISTED_MAX: usize = 8;
