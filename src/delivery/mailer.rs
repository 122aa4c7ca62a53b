//! Brings owed mails to the server: one after the other, again and again, until they are accepted or
//! their time is over.
//!
//! The outbox is the memory; this task may die at any moment and a mail is sent at most once more. Absent
//! on purpose: deciding what is owed to whom (the keeper does) and what goes into one mail (`core::digest`), and
//! randomness: the delay before another try is spread by the mail's own key.

use super::{
    AtRisk, Carrier, Links, Settings, Smtp, Webhook,
    message::{self, Letter, Role},
    recipients::{role, time_zone},
    smtp::{self, Undelivered},
    webhook,
};
use crate::{
    clock::Clock,
    core::{
        Event, Secret, Timestamp,
        digest::{DOUBTS_MAX, Rules},
        notices::{Audience, Change, Notice, Subject, Way},
    },
    state::{self, Arranged, Owed, State},
};
use std::{collections::BTreeMap, sync::Arc, time::Duration};
use tokio::sync::{Notify, watch};

/// Where owed mails are kept. Each method returns when its effect is durable.
pub trait Outbox: Send + Sync {
    /// Owes the reminders that are due. Answers what was owed, and when to ask again.
    fn call_to_mind(
        &self,
        now: Timestamp,
        gaps: &[Duration],
    ) -> impl Future<Output = Result<(Vec<Notice>, Option<Timestamp>), state::Error>> + Send;
    /// Puts what waits into mails.
    fn arrange(
        &self,
        way: Way,
        now: Timestamp,
        rules: &Rules,
        operators: &[Secret],
    ) -> impl Future<Output = Result<Arranged, state::Error>> + Send;
    /// Mails whose time has come, oldest first.
    fn owed(
        &self,
        way: Way,
        now: Timestamp,
        at_most: usize,
    ) -> impl Future<Output = Result<Vec<Owed>, state::Error>> + Send;
    /// When the next mail may be tried.
    fn next_due(
        &self,
        way: Way,
    ) -> impl Future<Output = Result<Option<Timestamp>, state::Error>> + Send;
    /// An attempt begins; false when the mail is not ours any more.
    fn begin(
        &self,
        row: i64,
        subject: &str,
    ) -> impl Future<Output = Result<bool, state::Error>> + Send;
    /// The server took it.
    fn sent(
        &self,
        row: i64,
        at: Timestamp,
    ) -> impl Future<Output = Result<(), state::Error>> + Send;
    /// It was tried once more and is not to be tried before `until`; `in_doubt`, it may have arrived.
    fn postpone(
        &self,
        row: i64,
        until: Timestamp,
        in_doubt: bool,
        failure: &str,
    ) -> impl Future<Output = Result<(), state::Error>> + Send;
    /// It is not tried again.
    fn give_up(
        &self,
        row: i64,
        at: Timestamp,
        failure: &str,
    ) -> impl Future<Output = Result<(), state::Error>> + Send;
}

impl Outbox for State {
    async fn call_to_mind(
        &self,
        now: Timestamp,
        gaps: &[Duration],
    ) -> Result<(Vec<Notice>, Option<Timestamp>), state::Error> {
        Self::call_to_mind(self, now, gaps).await
    }

    async fn arrange(
        &self,
        way: Way,
        now: Timestamp,
        rules: &Rules,
        operators: &[Secret],
    ) -> Result<Arranged, state::Error> {
        Self::arrange(self, way, now, rules, operators).await
    }

    async fn owed(
        &self,
        way: Way,
        now: Timestamp,
        at_most: usize,
    ) -> Result<Vec<Owed>, state::Error> {
        Self::owed(self, way, now, at_most).await
    }

    async fn next_due(&self, way: Way) -> Result<Option<Timestamp>, state::Error> {
        Self::next_due(self, way).await
    }

    async fn begin(&self, row: i64, subject: &str) -> Result<bool, state::Error> {
        Self::begin(self, row, subject).await
    }

    async fn sent(&self, row: i64, at: Timestamp) -> Result<(), state::Error> {
        Self::sent(self, row, at).await
    }

    async fn postpone(
        &self,
        row: i64,
        until: Timestamp,
        in_doubt: bool,
        failure: &str,
    ) -> Result<(), state::Error> {
        Self::postpone(self, row, until, in_doubt, failure).await
    }

    async fn give_up(&self, row: i64, at: Timestamp, failure: &str) -> Result<(), state::Error> {
        Self::give_up(self, row, at, failure).await
    }
}

/// Told of each mail that was accepted or refused.
pub type Report = Box<dyn Fn(Event) + Send + Sync>;

/// The task that empties the outbox, of mails or of requests to webhooks.
pub struct Mailer<O> {
    /// What this one sends.
    way: Way,
    /// Carries requests, where it sends those.
    carrier: Option<Carrier>,
    /// What is owed; ours alone to take from while we run.
    outbox: O,
    /// Whom and how; replaced whole by a reload.
    settings: watch::Receiver<Arc<Settings>>,
    /// Provider names for people, by provider name.
    titles: BTreeMap<String, String>,
    /// Makes the links that reconnect an account.
    links: Option<Links>,
    /// Knows how many posts are at risk.
    at_risk: Option<AtRisk>,
    /// Who hears of accepted and refused mails.
    report: Report,
    /// Server or outbox troubles in a row; zero after the first mail that went through.
    troubles: u32,
    /// Until when nothing is tried at all. Many owed mails and one wrong password must not become many
    /// logins: servers lock accounts for that.
    quiet_until: Option<Timestamp>,
    /// What came of a mail and the outbox could not note. Until it is noted nothing else is sent: otherwise a full
    /// disk would make us send the same mail for ever, or count an attempt as doubtful of which all is known.
    unrecorded: Option<Unrecorded>,
}

/// A mail by its row, and what came of the last attempt.
enum Unrecorded {
    Sent(i64, Timestamp),
    Again { row: i64, until: Timestamp, in_doubt: bool, failure: String },
    GivenUp { row: i64, at: Timestamp, failure: String },
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
        let (links, at_risk, troubles, quiet_until, unrecorded) = (None, None, 0, None, None);
        let (way, carrier) = (Way::Mail, None);
        Self {
            way,
            carrier,
            outbox,
            settings,
            titles,
            links,
            at_risk,
            report,
            troubles,
            quiet_until,
            unrecorded,
        }
    }

    /// Sends requests to webhooks instead of mails.
    #[must_use]
    pub fn of_webhooks(self, carrier: Carrier) -> Self {
        Self { way: Way::Webhook, carrier: Some(carrier), ..self }
    }

    /// Mails say how many posts are at risk when they are sent.
    #[must_use]
    pub fn with_posts(self, at_risk: AtRisk) -> Self {
        Self { at_risk: Some(at_risk), ..self }
    }

    /// Mails carry such links.
    #[must_use]
    pub fn with_links(self, links: Links) -> Self {
        Self { links: Some(links), ..self }
    }

    /// Runs until `stop` holds true; a mail that is on its way is brought to its end first, which the
    /// deadline bounds. `wake` tells that something new is owed.
    pub async fn run(mut self, clock: Clock, wake: Arc<Notify>, mut stop: watch::Receiver<bool>) {
        self.tell_whether_mail_is_on();
        while !*stop.borrow() {
            let now = clock.now();
            let next = self.round(now, &stop).await;
            let is_woken = tokio::select! {
                () = tokio::time::sleep(sleep_for(next, clock.now())) => false,
                () = wake.notified() => true,
                Ok(()) = self.settings.changed() => {
                    self.reconfigured();
                    false
                }
                // An error means that nobody is left who could stop us in any other way.
                _ = stop.wait_for(|stop| *stop) => return,
            };
            if is_woken {
                // What comes at the same moment comes along.
                tokio::time::sleep(SETTLE).await;
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
        let is_on = match self.way {
            Way::Mail => settings.smtp.is_some(),
            Way::Webhook => !settings.webhooks.is_empty(),
        };
        if !is_on {
            return None;
        }
        if let Some(until) = self.quiet_until.filter(|until| !until.has_come(now)) {
            return Some(until);
        }
        self.quiet_until = None;
        match self.work(&settings, now, stop).await {
            Ok(next) => self.quiet_until.or(next),
            Err(_) => {
                self.be_quiet(now);
                self.quiet_until
            }
        }
    }

    async fn work(
        &mut self,
        settings: &Settings,
        now: Timestamp,
        stop: &watch::Receiver<bool>,
    ) -> Result<Option<Timestamp>, state::Error> {
        self.send_due(settings, now, stop).await?;
        let (reminders, reminded_next) = self.outbox.call_to_mind(now, &settings.reminders).await?;
        for notice in reminders {
            self.tell(Event::NoticeOwed { notice: Arc::new(notice) });
        }
        // While the server takes nothing, what comes is put together when it takes something again.
        let may_arrange = self.troubles == 0 || self.outbox.next_due(self.way).await?.is_none();
        let mut next = reminded_next;
        if may_arrange && self.quiet_until.is_none() {
            let operators = self.operators(settings);
            let rules = self.rules(settings);
            let arranged = self.outbox.arrange(self.way, now, &rules, &operators).await?;
            for (cap, notices) in arranged.held {
                self.tell(Event::NoticesHeld { cap, notices });
            }
            next = earlier(next, arranged.next);
            self.send_due(settings, now, stop).await?;
        }
        Ok(earlier(next, self.outbox.next_due(self.way).await?))
    }

    async fn send_due(
        &mut self,
        settings: &Settings,
        now: Timestamp,
        stop: &watch::Receiver<bool>,
    ) -> Result<(), state::Error> {
        self.record().await?;
        for owed in self.outbox.owed(self.way, now, BATCH).await? {
            if *stop.borrow() || self.quiet_until.is_some() {
                break;
            }
            self.send(settings, owed, now).await?;
        }
        Ok(())
    }

    async fn send(
        &mut self,
        settings: &Settings,
        mut owed: Owed,
        now: Timestamp,
    ) -> Result<(), state::Error> {
        self.look_at_posts(&mut owed);
        if owed.notices.is_empty() && owed.summary.is_empty() {
            // All of it was over before the mail left.
            return self.outbox.give_up(owed.row, now, "over before it was sent").await;
        }
        if owed.doubts >= DOUBTS_MAX {
            let reason = format!("nobody knows whether it arrived, {DOUBTS_MAX} times");
            self.tell(self.failed(true, reason.clone()));
            return self
                .record_that(Unrecorded::GivenUp { row: owed.row, at: now, failure: reason })
                .await;
        }
        let letter = self.letter(settings, &owed, now);
        let outcome = match self.prepare(settings, &letter) {
            Ok(prepared) => {
                match self.outbox.begin(owed.row, &letter.subject()).await {
                    Ok(true) => prepared.send(&letter).await,
                    Ok(false) => return Ok(()),
                    Err(error) => {
                        // It may have been written all the same, and nothing left us.
                        let failure = "our state did not answer before it was sent".to_owned();
                        let (row, in_doubt) = (owed.row, false);
                        self.unrecorded =
                            Some(Unrecorded::Again { row, until: now, in_doubt, failure });
                        return Err(error);
                    }
                }
            }
            Err(message::Unsendable::Withdrawn) => {
                return self.outbox.give_up(owed.row, now, "withdrawn").await;
            }
            Err(unsendable) => Err(Undelivered::Pointless { reason: unsendable.to_string() }),
        };
        let failure = match outcome {
            Ok(()) => {
                self.troubles = 0;
                self.tell(sent(&owed, self.way));
                return self.record_that(Unrecorded::Sent(owed.row, now)).await;
            }
            Err(failure) => failure,
        };

        let permanent = is_over(&failure, &owed, now);
        if matches!(failure, Undelivered::ServerTrouble { .. }) {
            self.be_quiet(now);
        }
        let reason = failure.to_string();
        self.tell(self.failed(permanent, reason.clone()));
        let row = owed.row;
        let outcome = if permanent {
            Unrecorded::GivenUp { row, at: now, failure: reason }
        } else {
            let until = now.plus(delay(owed.attempts, &owed.message_key));
            let in_doubt = failure.may_have_arrived();
            Unrecorded::Again { row, until, in_doubt, failure: reason }
        };
        self.record_that(outcome).await
    }

    /// What was known when the trouble began is old by now.
    fn look_at_posts(&self, owed: &mut Owed) {
        let Some(at_risk) = &self.at_risk else { return };
        for (_, notice) in owed.notices.iter_mut().filter(|(_, one)| one.change.is_trouble()) {
            if let Subject::Account(id) = &notice.subject {
                notice.posts_at_risk = at_risk(id);
            }
        }
    }

    const fn failed(&self, permanent: bool, reason: String) -> Event {
        match self.way {
            Way::Mail => Event::MailFailed { permanent, reason },
            Way::Webhook => Event::WebhookFailed { permanent, reason },
        }
    }

    /// Who hears of what concerns many.
    fn operators(&self, settings: &Settings) -> Vec<Secret> {
        let webhooks = || {
            let hear = |one: &&Webhook| one.audience == Audience::Operator;
            let names = settings.webhooks.iter().filter(hear).map(|one| one.name.clone());
            names.map(Secret::new).collect()
        };
        match self.way {
            Way::Mail => settings.operator.clone(),
            Way::Webhook => webhooks(),
        }
    }

    /// How notices are put together and held back.
    const fn rules(&self, settings: &Settings) -> Rules {
        match self.way {
            Way::Mail => settings.rules,
            // A program is not tired by many notices, and many people may read what it shows: no cap of one owner's is its.
            Way::Webhook => Rules { owner_per_day: usize::MAX, ..settings.rules },
        }
    }

    /// Everything that is needed to send `letter`, before an attempt begins.
    fn prepare<'a>(
        &'a self,
        settings: &'a Settings,
        letter: &Letter<'_>,
    ) -> Result<Prepared<'a>, message::Unsendable> {
        match (self.way, &settings.smtp) {
            (Way::Mail, Some(smtp)) => Ok(Prepared::Mail(smtp, Box::new(message::render(letter)?))),
            (Way::Mail, None) => Err(message::Unsendable::Recipient),
            (Way::Webhook, _) => {
                let name = letter.to.expose();
                let webhook = settings.webhooks.iter().find(|one| one.name == name);
                let both = webhook.zip(self.carrier.as_ref());
                let both = both.ok_or(message::Unsendable::Recipient)?;
                Ok(Prepared::Request(both.0, both.1))
            }
        }
    }

    fn letter<'a>(&'a self, settings: &'a Settings, owed: &'a Owed, now: Timestamp) -> Letter<'a> {
        // One that somebody has as a stand-in needs the reason more than the others do.
        let roles = owed.notices.iter().map(|(_, notice)| role(notice, settings, &owed.to));
        let role = match self.way {
            Way::Mail => roles.max_by_key(|role| *role == Role::StandIn).unwrap_or(Role::Operator),
            Way::Webhook => Role::Channel,
        };
        Letter {
            notices: &owed.notices,
            counts: &owed.counts,
            summary: &owed.summary,
            now,
            titles: &self.titles,
            role,
            zone: time_zone(settings, &owed.to),
            external_url: settings.external_url.as_deref(),
            links: self.links.as_ref(),
            from: &settings.from,
            to: &owed.to,
            message_key: &owed.message_key,
            threads: &owed.threads,
            templates: &settings.templates,
        }
    }

    async fn record_that(&mut self, outcome: Unrecorded) -> Result<(), state::Error> {
        self.unrecorded = Some(outcome);
        self.record().await
    }

    /// Notes what came of the last attempt.
    async fn record(&mut self) -> Result<(), state::Error> {
        match &self.unrecorded {
            None => return Ok(()),
            Some(Unrecorded::Sent(row, at)) => self.outbox.sent(*row, *at).await?,
            Some(Unrecorded::Again { row, until, in_doubt, failure }) => {
                self.outbox.postpone(*row, *until, *in_doubt, failure).await?;
            }
            Some(Unrecorded::GivenUp { row, at, failure }) => {
                self.outbox.give_up(*row, *at, failure).await?;
            }
        }
        self.unrecorded = None;
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
        let is_missing = self.settings.borrow_and_update().smtp.is_none();
        if is_missing && self.way == Way::Mail {
            tracing::warn!("no mail server is configured; notices are kept in the outbox");
        }
    }

    fn tell(&self, event: Event) {
        (self.report)(event);
    }
}

/// What is about to be sent.
enum Prepared<'a> {
    Mail(&'a Smtp, Box<lettre::Message>),
    Request(&'a Webhook, &'a Carrier),
}

impl Prepared<'_> {
    async fn send(&self, letter: &Letter<'_>) -> Result<(), Undelivered> {
        match self {
            Self::Mail(smtp, message) => smtp::send(smtp, message).await,
            Self::Request(webhook, carrier) => webhook::post(carrier, webhook, letter).await,
        }
    }
}

/// What is counted of a mail: by its first notice, of which the others are kin.
fn sent(owed: &Owed, way: Way) -> Event {
    if way == Way::Webhook {
        return Event::WebhookSent;
    }
    let first = owed.notices.first();
    let (audience, change) = first.map_or((Audience::Operator, Change::Firing), |(_, notice)| {
        (notice.audience, notice.change)
    });
    Event::MailSent { audience, change }
}

fn earlier(one: Option<Timestamp>, other: Option<Timestamp>) -> Option<Timestamp> {
    one.into_iter().chain(other).min()
}

/// True when this mail, having failed once more, is not worth another try.
fn is_over(failure: &Undelivered, owed: &Owed, now: Timestamp) -> bool {
    let attempts = owed.attempts.saturating_add(1);
    let is_pointless = matches!(failure, Undelivered::Pointless { .. });
    attempts >= ATTEMPTS_MAX
        || now.since(owed.made_at) >= AGE_MAX
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
const SETTLE: Duration = Duration::from_millis(100);
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
