//! Brings owed mails to the server: one after the other, again and again, until they are accepted or
//! their time is over.
//!
//! The outbox is the memory; this task may die at any moment and a mail is sent at most once more. Absent
//! on purpose: deciding what is owed to whom (the keeper does), and randomness: the delay before another
//! try is spread by the mail's own key.

use super::{
    Settings, Smtp,
    message::{self, Letter},
    recipients::role,
    smtp::{self, Undelivered},
};
use crate::{
    clock::Clock,
    core::{Event, Timestamp, notices::Subject},
    state::{self, Owed, State},
};
use std::{collections::BTreeMap, sync::Arc, time::Duration};
use tokio::sync::{Notify, watch};

/// Where owed mails are kept. Each method returns when its effect is durable.
pub trait Outbox: Send + Sync {
    /// Mails whose time has come, oldest first.
    fn owed(
        &self,
        now: Timestamp,
        at_most: usize,
    ) -> impl Future<Output = Result<Vec<Owed>, state::Error>> + Send;
    /// When the next mail may be tried, and how many are owed.
    fn outbox(
        &self,
    ) -> impl Future<Output = Result<(Option<Timestamp>, usize), state::Error>> + Send;
    /// The server took it.
    fn sent(
        &self,
        row: i64,
        at: Timestamp,
    ) -> impl Future<Output = Result<(), state::Error>> + Send;
    /// It was tried once more and is not to be tried before `until`.
    fn postpone(
        &self,
        row: i64,
        until: Timestamp,
    ) -> impl Future<Output = Result<(), state::Error>> + Send;
    /// The same, and it may have arrived all the same.
    fn postpone_in_doubt(
        &self,
        row: i64,
        until: Timestamp,
    ) -> impl Future<Output = Result<(), state::Error>> + Send;
    /// It is not tried again.
    fn give_up(
        &self,
        row: i64,
        at: Timestamp,
    ) -> impl Future<Output = Result<(), state::Error>> + Send;
}

impl Outbox for State {
    async fn owed(&self, now: Timestamp, at_most: usize) -> Result<Vec<Owed>, state::Error> {
        Self::owed(self, now, at_most).await
    }

    async fn outbox(&self) -> Result<(Option<Timestamp>, usize), state::Error> {
        Self::outbox(self).await
    }

    async fn sent(&self, row: i64, at: Timestamp) -> Result<(), state::Error> {
        Self::sent(self, row, at).await
    }

    async fn postpone(&self, row: i64, until: Timestamp) -> Result<(), state::Error> {
        Self::postpone(self, row, until).await
    }

    async fn postpone_in_doubt(&self, row: i64, until: Timestamp) -> Result<(), state::Error> {
        Self::postpone_in_doubt(self, row, until).await
    }

    async fn give_up(&self, row: i64, at: Timestamp) -> Result<(), state::Error> {
        Self::give_up(self, row, at).await
    }
}

/// Told of each mail that was accepted or refused.
pub type Report = Box<dyn Fn(Event) + Send + Sync>;

/// The task that empties the outbox.
pub struct Mailer<O> {
    /// What is owed; ours alone to take from while we run.
    outbox: O,
    /// Whom and how; replaced whole by a reload.
    settings: watch::Receiver<Arc<Settings>>,
    /// Provider names for people, by provider name.
    titles: BTreeMap<String, String>,
    /// Who hears of accepted and refused mails.
    report: Report,
    /// Server or outbox troubles in a row; zero after the first mail that went through.
    troubles: u32,
    /// Until when nothing is tried at all. Many owed mails and one wrong password must not become many
    /// logins: servers lock accounts for that.
    quiet_until: Option<Timestamp>,
    /// A mail that the server took and the outbox could not note. Until it is noted nothing else is sent:
    /// otherwise a full disk would make us send the same mail for ever.
    unrecorded: Option<(i64, Timestamp)>,
}

impl<O: Outbox> Mailer<O> {
    /// Needs [`Mailer::run`] to do anything.
    #[must_use]
    pub const fn new(
        outbox: O,
        settings: watch::Receiver<Arc<Settings>>,
        titles: BTreeMap<String, String>,
        report: Report,
    ) -> Self {
        let (troubles, quiet_until, unrecorded) = (0, None, None);
        Self { outbox, settings, titles, report, troubles, quiet_until, unrecorded }
    }

    /// Runs until `stop` holds true; a mail that is on its way is brought to its end first, which the
    /// deadline bounds. `wake` tells that something new is owed.
    pub async fn run(mut self, clock: Clock, wake: Arc<Notify>, mut stop: watch::Receiver<bool>) {
        self.tell_whether_mail_is_on();
        while !*stop.borrow() {
            let now = clock.now();
            let next = self.round(now, &stop).await;
            tokio::select! {
                () = tokio::time::sleep(sleep_for(next, clock.now())) => {}
                () = wake.notified() => {}
                Ok(()) = self.settings.changed() => self.reconfigured(),
                // An error means that nobody is left who could stop us in any other way.
                _ = stop.wait_for(|stop| *stop) => return,
            }
        }
    }

    /// Tries every mail whose time has come at `now`, and answers when to come back.
    pub async fn round(
        &mut self,
        now: Timestamp,
        stop: &watch::Receiver<bool>,
    ) -> Option<Timestamp> {
        let settings = Arc::clone(&self.settings.borrow());
        let smtp = settings.smtp.as_ref()?;
        if let Some(until) = self.quiet_until.filter(|until| !until.has_come(now)) {
            return Some(until);
        }
        self.quiet_until = None;
        if self.send_due(&settings, smtp, now, stop).await.is_err() {
            self.be_quiet(now);
        }
        match self.quiet_until {
            Some(until) => Some(until),
            None => self.outbox.outbox().await.map_or(Some(now), |(next, _)| next),
        }
    }

    async fn send_due(
        &mut self,
        settings: &Settings,
        smtp: &Smtp,
        now: Timestamp,
        stop: &watch::Receiver<bool>,
    ) -> Result<(), state::Error> {
        self.record().await?;
        for owed in self.outbox.owed(now, BATCH).await? {
            if *stop.borrow() || self.quiet_until.is_some() {
                break;
            }
            self.send(settings, smtp, owed, now).await?;
        }
        Ok(())
    }

    async fn send(
        &mut self,
        settings: &Settings,
        smtp: &Smtp,
        owed: Owed,
        now: Timestamp,
    ) -> Result<(), state::Error> {
        let outcome = match message::render(&self.letter(settings, &owed, now)) {
            Ok(message) => smtp::send(smtp, &message).await,
            Err(message::Unsendable::Withdrawn) => return self.outbox.give_up(owed.row, now).await,
            Err(unsendable) => Err(Undelivered::Pointless { reason: unsendable.to_string() }),
        };
        let failure = match outcome {
            Ok(()) => {
                self.troubles = 0;
                self.unrecorded = Some((owed.row, now));
                let (audience, change) = (owed.notice.audience, owed.notice.change);
                self.tell(Event::MailSent { audience, change });
                return self.record().await;
            }
            Err(failure) => failure,
        };

        let permanent = is_over(&failure, &owed, now);
        if matches!(failure, Undelivered::ServerTrouble { .. }) {
            self.be_quiet(now);
        }
        self.tell(Event::MailFailed { permanent, reason: failure.to_string() });
        if permanent {
            return self.outbox.give_up(owed.row, now).await;
        }
        let until = now.plus(delay(owed.attempts, &owed.message_key));
        if failure.may_have_arrived() {
            return self.outbox.postpone_in_doubt(owed.row, until).await;
        }
        self.outbox.postpone(owed.row, until).await
    }

    fn letter<'a>(&'a self, settings: &'a Settings, owed: &'a Owed, now: Timestamp) -> Letter<'a> {
        let provider_title = match &owed.notice.subject {
            Subject::Account(id) => self.titles.get(&*id.provider).map(String::as_str),
            Subject::App(_) | Subject::Store | Subject::Host => None,
        };
        Letter {
            notice: &owed.notice,
            now,
            provider_title,
            role: role(&owed.notice, settings, &owed.to),
            external_url: settings.external_url.as_deref(),
            from: &settings.from,
            to: &owed.to,
            message_key: &owed.message_key,
            thread_key: owed.thread_key.as_deref(),
        }
    }

    /// Notes the mail that the server took.
    async fn record(&mut self) -> Result<(), state::Error> {
        if let Some((row, at)) = self.unrecorded {
            self.outbox.sent(row, at).await?;
            self.unrecorded = None;
        }
        Ok(())
    }

    fn be_quiet(&mut self, now: Timestamp) {
        self.quiet_until = Some(now.plus(delay(self.troubles, "server")));
        self.troubles = self.troubles.saturating_add(1);
    }

    /// What was wrong may have been mended: try at once.
    fn reconfigured(&mut self) {
        self.quiet_until = None;
        self.troubles = 0;
        self.tell_whether_mail_is_on();
    }

    fn tell_whether_mail_is_on(&mut self) {
        if self.settings.borrow_and_update().smtp.is_none() {
            tracing::warn!("no mail server is configured; notices are kept in the outbox");
        }
    }

    fn tell(&self, event: Event) {
        (self.report)(event);
    }
}

/// True when this mail, having failed once more, is not worth another try.
fn is_over(failure: &Undelivered, owed: &Owed, now: Timestamp) -> bool {
    let attempts = owed.attempts.saturating_add(1);
    let is_pointless = matches!(failure, Undelivered::Pointless { .. });
    attempts >= ATTEMPTS_MAX
        || now.since(owed.notice.at) >= AGE_MAX
        || (is_pointless && attempts >= POINTLESS_ATTEMPTS_MAX)
}

/// How long after the failure number `failed` (from zero) the next try comes: doubling, capped, and up to
/// a quarter shorter by `key`, so that mails which failed together are not tried together for ever.
fn delay(failed: u32, key: &str) -> Duration {
    let full = DELAY_MIN.saturating_mul(1 << failed.min(DOUBLINGS_MAX)).min(DELAY_MAX);
    full - full / 4 * (spread(key) % 100) / 100
}

/// FNV-1a: the same after a restart and in the next version, which `DefaultHasher` does not promise.
fn spread(key: &str) -> u32 {
    key.bytes()
        .fold(0x811c_9dc5, |hash: u32, byte| (hash ^ u32::from(byte)).wrapping_mul(0x0100_0193))
}

/// Never for longer than a minute: a machine that slept, or a clock that was corrected, is noticed then.
fn sleep_for(next: Option<Timestamp>, now: Timestamp) -> Duration {
    next.map_or(SLEEP_MAX, |next| next.since(now)).clamp(SLEEP_MIN, SLEEP_MAX)
}

/// Mails that are read from the outbox at once.
const BATCH: usize = 50;
const DELAY_MIN: Duration = Duration::from_secs(30);
const DELAY_MAX: Duration = Duration::from_secs(60 * 60);
const DOUBLINGS_MAX: u32 = 10;
/// A mail this old tells what everybody knows by now.
const AGE_MAX: Duration = Duration::from_secs(3 * 24 * 60 * 60);
const ATTEMPTS_MAX: u32 = 200;
/// Some servers say 5xx while they mean "not now"; two more tries find out.
const POINTLESS_ATTEMPTS_MAX: u32 = 3;
const SLEEP_MIN: Duration = Duration::from_secs(1);
const SLEEP_MAX: Duration = Duration::from_secs(60);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_delay_doubles_up_to_an_hour_and_is_the_same_when_asked_twice() {
        for key in ["0a1b-1", "0a1b-2", "ffee-1", ""] {
            let mut before = Duration::ZERO;
            for failed in 0..=8 {
                let now = delay(failed, key);
                assert_eq!(now, delay(failed, key), "{key} {failed}");
                assert!(now > before || failed > 7, "{key} {failed}: {now:?} after {before:?}");
                let full = Duration::from_secs(30 << failed).min(Duration::from_secs(3600));
                assert!(now <= full && now >= full * 3 / 4, "{key} {failed}: {now:?} of {full:?}");
                before = now;
            }
        }
        assert!(delay(u32::MAX, "x") <= DELAY_MAX);
        assert_ne!(delay(5, "0a1b-1"), delay(5, "0a1b-2"), "they are spread");
    }

    #[test]
    fn the_mailer_never_sleeps_past_a_minute_and_never_spins() {
        let now = Timestamp::from_unix(1_000_000);
        let cases = [
            (None, SLEEP_MAX),
            (Some(now.minus(Duration::from_secs(5))), SLEEP_MIN),
            (Some(now), SLEEP_MIN),
            (Some(now.plus(Duration::from_secs(7))), Duration::from_secs(7)),
            (Some(now.plus(Duration::from_secs(3600))), SLEEP_MAX),
        ];
        for (next, expected) in cases {
            assert_eq!(sleep_for(next, now), expected, "{next:?}");
        }
    }
}
