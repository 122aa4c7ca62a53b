//! Turns what happens into lines for a terminal of 80 columns: trouble at once, routine in sums.

use crate::{
    core::{
        AccountId, Cause, Event, Gate,
        cause::{Actor, BlastRadius},
    },
    terminal::{self, Terminal, Tone, text},
};
use std::{
    collections::{BTreeMap, BTreeSet},
    fmt::Write,
    time::Duration,
};

/// Remembers what was told, so that routine stays routine.
#[derive(Default)]
pub(super) struct Narrator {
    /// Refreshes since the last digest.
    refreshed: usize,
    /// Accounts with a cause.
    unwell: BTreeMap<AccountId, Cause>,
    /// Accounts whose last refresh failed: the next success is news.
    failed: BTreeSet<AccountId>,
}

/// Who a line is about, what happened, and how good or bad that is.
pub(super) type Told = (String, String, Option<Tone>);

impl Narrator {
    /// What to tell of `event`, if anything.
    pub(super) fn tell(&mut self, event: &Event) -> Option<Told> {
        let tone = tone(event);
        let (who, what) = match event {
            Event::Refreshed { id, .. } => {
                self.refreshed += 1;
                if !self.failed.remove(id) {
                    return None;
                }
                (id.to_string(), "refreshed again".to_owned())
            }
            Event::RefreshFailed { id, evidence, .. } => {
                self.failed.insert(id.clone());
                let mut what = format!("refresh failed: {}", evidence.cause.as_label());
                if let Some(code) = &evidence.code {
                    // Writing to a string does not fail.
                    let _ = write!(what, " ({code})");
                }
                if let Some(pause) = evidence.retry_after {
                    let _ = write!(what, ", asked to wait {} s", pause.as_secs());
                }
                (id.to_string(), what)
            }
            Event::CauseChanged { id, to: Some(cause), .. } => {
                self.unwell.insert(id.clone(), *cause);
                if is_told_of_its_app(*cause) {
                    return None;
                }
                (id.to_string(), format!("{}: {}", cause.as_label(), cause.sentence()))
            }
            Event::CauseChanged { id, from, to: None } => {
                self.unwell.remove(id);
                if from.is_some_and(is_told_of_its_app) {
                    return None;
                }
                (id.to_string(), "healthy again".to_owned())
            }
            Event::RequestEnded { id, outcome: "ambiguous", .. } => {
                (id.to_string(), "an answer was lost; one probe will settle it".to_owned())
            }
            Event::Unsaved { id } => (id.to_string(), "A NEW TOKEN IS NOT SAVED YET".to_owned()),
            Event::Adopted { id } => (id.to_string(), "took over a token of the store".to_owned()),
            Event::Reconnected { id } => {
                (id.to_string(), "its owner connected it again".to_owned())
            }
            Event::Restored { id } => (
                id.to_string(),
                "a spent token had been written back; ours is there again".to_owned(),
            ),
            Event::GateMoved { id, to, .. } => (
                id.to_string(),
                match to {
                    Gate::Held => "its queue is held".to_owned(),
                    Gate::Canary => "to be proven before its queue resumes".to_owned(),
                    Gate::Open => "proven; its queue resumes".to_owned(),
                },
            ),
            Event::PublishChecked { .. } => return None,
            Event::AppFrozen { app, cause } => (
                format!("app {app}"),
                format!("frozen, {}: {}", cause.as_label(), cause.sentence()),
            ),
            Event::AppThawed { app } => {
                (format!("app {app}"), "thawed: the provider takes it again".to_owned())
            }
            Event::AppAsked { app, answer, .. } => (
                format!("app {app}"),
                format!("asked about with a token that is nobody's: {answer}"),
            ),
            Event::CredentialsInUse { app, secret } => {
                (format!("app {app}"), format!("its client secret {secret} is used from now on"))
            }
            Event::AppPaused { app, .. } => {
                (format!("app {app}"), "the provider asked all its accounts to wait".to_owned())
            }
            Event::StoreUp { up } => ("store".to_owned(), up_or_down(*up)),
            Event::StateUp { up } => ("state".to_owned(), up_or_down(*up)),
            Event::StoreRowDamaged { place } => ("store".to_owned(), format!("damaged: {place}")),
            Event::MailFailed { reason, .. } => {
                ("mail".to_owned(), format!("not delivered: {reason}"))
            }
            Event::Reloaded { successful: true, .. } => {
                ("configuration".to_owned(), "read again".to_owned())
            }
            Event::Reloaded { reason, .. } => {
                let reason = reason.as_deref().unwrap_or("no reason given");
                ("configuration".to_owned(), format!("kept as it was: {reason}"))
            }
            Event::ClockStepped { seconds } => {
                ("clock".to_owned(), format!("stepped by {seconds} s"))
            }
            // Routine, or told otherwise: a notice by its mail, a report by the 401s in the summary.
            Event::StoreRead { .. }
            | Event::RefreshStarted { .. }
            | Event::RequestEnded { .. }
            | Event::Probed { .. }
            | Event::WrittenBack { .. }
            | Event::ResponsesReported { .. }
            | Event::NoticeOwed { .. }
            | Event::NoticesHeld { .. }
            | Event::WebhookSent
            | Event::WebhookFailed { .. }
            | Event::MailSent { .. }
            | Event::Announced { .. }
            | Event::Shared { .. } => return None,
        };
        Some((who, what, tone))
    }

    /// The routine since the last digest in one line.
    pub(super) fn digest(&mut self) -> String {
        let refreshed = std::mem::take(&mut self.refreshed);
        let plural = if refreshed == 1 { "" } else { "es" };
        match self.unwell.len() {
            0 => format!("{refreshed} refresh{plural}, all accounts healthy"),
            1 => format!("{refreshed} refresh{plural}, 1 account in trouble"),
            unwell => format!("{refreshed} refresh{plural}, {unwell} accounts in trouble"),
        }
    }
}

/// One line of the timeline, broken between words where it would be too long.
pub(super) fn line(
    terminal: Terminal,
    at: Duration,
    who: &str,
    what: &str,
    tone: Option<Tone>,
) -> String {
    let first = format!("{:>6.1}s  {}  ", at.as_secs_f64(), text::padded(who, WHO_COLUMNS));
    let columns = terminal.prose_columns().unwrap_or(terminal::COLUMNS);
    let lines = text::folded(&first, WHAT_COLUMN, what, columns);
    let Some(tone) = tone else { return lines };
    // Only what happened: a column of instants and names is read better when it stays as it is.
    let what = lines.strip_prefix(&first).unwrap_or_default();
    first + &terminal.paint_lines(tone, what)
}

fn tone(event: &Event) -> Option<Tone> {
    match event {
        Event::Refreshed { .. }
        | Event::CauseChanged { to: None, .. }
        | Event::GateMoved { to: Gate::Open, .. }
        | Event::AppThawed { .. }
        | Event::StoreUp { up: true }
        | Event::StateUp { up: true } => Some(Tone::Good),
        Event::CauseChanged { to: Some(cause), .. } => Some(match cause.actor() {
            Actor::Nobody => Tone::Doubtful,
            Actor::Owner | Actor::Operator => Tone::Bad,
        }),
        Event::RefreshFailed { .. } | Event::RequestEnded { .. } | Event::AppPaused { .. } => {
            Some(Tone::Doubtful)
        }
        Event::Unsaved { .. }
        | Event::AppFrozen { .. }
        | Event::StoreUp { up: false }
        | Event::StateUp { up: false }
        | Event::StoreRowDamaged { .. } => Some(Tone::Bad),
        _ => None,
    }
}

/// A frozen app is one line; the same for each of its accounts would bury all others.
const fn is_told_of_its_app(cause: Cause) -> bool {
    matches!(cause.blast_radius(), BlastRadius::App)
}

fn up_or_down(up: bool) -> String {
    (if up { "works again" } else { "CANNOT BE READ OR WRITTEN" }).to_owned()
}

const WHO_COLUMNS: usize = 15;
const WHAT_COLUMN: usize = 7 + 2 + WHO_COLUMNS + 2;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::core::{Evidence, Timestamp};
    use std::sync::Arc;

    fn id() -> AccountId {
        AccountId::new("tiktok", "brand-09")
    }

    fn refreshed() -> Event {
        Event::Refreshed { id: id(), expires_at: None }
    }

    #[test]
    fn routine_refreshes_are_summed_up_and_one_after_a_failure_is_told() {
        let mut narrator = Narrator::default();
        assert_eq!(narrator.tell(&refreshed()), None);
        assert_eq!(narrator.tell(&refreshed()), None);
        assert_eq!(narrator.digest(), "2 refreshes, all accounts healthy");
        let mut evidence = Evidence::of(Cause::RateLimited, Timestamp::MIN);
        evidence.retry_after = Some(Duration::from_secs(2));
        let failed =
            Event::RefreshFailed { id: id(), evidence: Arc::new(evidence), retry_at: None };
        let (who, what, _) = narrator.tell(&failed).unwrap();
        assert_eq!(who, "tiktok/brand-09");
        assert_eq!(what, "refresh failed: rate_limited, asked to wait 2 s");
        assert_eq!(narrator.tell(&refreshed()).unwrap().1, "refreshed again");
        assert_eq!(narrator.tell(&refreshed()), None);
        assert_eq!(narrator.digest(), "2 refreshes, all accounts healthy");
    }

    #[test]
    fn the_digest_counts_accounts_in_trouble_until_they_are_well() {
        let mut narrator = Narrator::default();
        let change = |to| Event::CauseChanged { id: id(), from: None, to };
        narrator.tell(&change(Some(Cause::ScopeMissing)));
        assert_eq!(narrator.digest(), "0 refreshes, 1 account in trouble");
        narrator.tell(&change(None));
        assert_eq!(narrator.digest(), "0 refreshes, all accounts healthy");
    }

    #[test]
    fn what_befalls_an_app_is_told_once_and_not_of_each_account() {
        let mut narrator = Narrator::default();
        let cause = Cause::AppCredentialsRejected;
        let change = |from, to| Event::CauseChanged { id: id(), from, to };
        assert_eq!(narrator.tell(&change(None, Some(cause))), None);
        assert_eq!(narrator.digest(), "0 refreshes, 1 account in trouble");
        assert_eq!(narrator.tell(&change(Some(cause), None)), None);
        assert_eq!(narrator.digest(), "0 refreshes, all accounts healthy");
        let (who, _, tone) =
            narrator.tell(&Event::AppFrozen { app: "demo".into(), cause }).unwrap();
        assert_eq!((who.as_str(), tone), ("app demo", Some(Tone::Bad)));
    }

    #[test]
    fn no_line_is_longer_than_the_terminal() {
        let told = |terminal, what| {
            line(terminal, Duration::from_millis(12_340), "tiktok/brand-03", what, Some(Tone::Bad))
        };
        for cause in Cause::ALL {
            for (terminal, columns) in
                [(Terminal::piped(), 80), (Terminal::wide(70), 70), (Terminal::wide(200), 100)]
            {
                for line in told(terminal, cause.sentence()).lines() {
                    assert!(text::width(line) <= columns, "{line}");
                }
            }
        }
        let short = told(Terminal::piped(), "healthy again");
        assert_eq!(short, "  12.3s  tiktok/brand-03  healthy again\n");
    }
}
