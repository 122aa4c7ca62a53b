//! Incidents and the mails they owe.

use super::super::{
    Error, State,
    letters::{self, Attempt},
    outbox, seal, stored_notice,
    writer::Refusal,
};
use crate::core::{
    AccountId, Cause, Recipient, Secret, Timestamp,
    digest::{self, Cap, Rules, Summary},
    notices::{Change, Notice, Way, reminders_by},
};
use std::time::Duration;

/// A mail that is owed to one address, with one notice or many.
#[derive(Clone, Debug)]
pub struct Owed {
    /// Its row.
    pub row: i64,
    /// The stable part of its `Message-ID`: the same in every attempt.
    pub message_key: String,
    /// The first mails of its incidents, for `References`; none for a first mail.
    pub threads: Vec<Thread>,
    /// Where it goes.
    pub to: Secret,
    /// How it gets there.
    pub way: Way,
    /// True when its recipient runs the sidecar.
    pub is_operator: bool,
    /// What it says, oldest first, with a key of each incident. At most [`digest::LISTED_MAX`].
    pub notices: Vec<(String, Notice)>,
    /// All that it says, counted.
    pub counts: Vec<(Change, Cause, usize)>,
    /// What it tells the operator about other people's mails.
    pub summary: Summary,
    /// Attempts so far.
    pub attempts: u32,
    /// Attempts after which nobody knows whether it arrived.
    pub doubts: u32,
    /// When it was put together.
    pub made_at: Timestamp,
}

/// The mail that another one follows.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Thread {
    /// The stable part of its `Message-ID`.
    pub key: String,
    /// Its subject line, where it was sent by a program that noted it.
    pub subject: Option<String>,
}

/// What came of putting mails together.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Arranged {
    /// Notices that a cap holds back since now.
    pub held: Vec<(Cap, usize)>,
    /// When to do it again, if nothing comes before.
    pub next: Option<Timestamp>,
}

/// A mail, or what waits to become one, for people to look at.
#[derive(Clone, Debug)]
pub struct Listed {
    /// `waiting`, `held`, `owed`, `sent` or `given_up`.
    pub stage: String,
    /// Where it goes.
    pub to: Secret,
    /// How it gets there.
    pub way: Way,
    /// True when its recipient runs the sidecar.
    pub is_operator: bool,
    /// Its subject line, once an attempt was made.
    pub subject: Option<String>,
    /// How many notices are in it.
    pub notices: usize,
    /// When it was sent, given up or made.
    pub at: Timestamp,
    /// Attempts that failed.
    pub attempts: u32,
    /// Why the last of them failed, or the cap that holds it back.
    pub failure: Option<String>,
}

/// Incidents and the mails they owe.
#[expect(clippy::missing_errors_doc, reason = "said once, above each block")]
impl State {
    /// Opens the incident and owes its notices in one transaction; false, and nothing owed, when it is
    /// open already. The same address twice is one notice.
    pub async fn fire<R: Into<Recipient>>(
        &self,
        notice: &Notice,
        to: Vec<R>,
    ) -> Result<bool, Error> {
        let mut addressed: Vec<outbox::Addressed> = Vec::with_capacity(to.len());
        for recipient in to {
            let one = outbox::addressed(&self.0.sealer, &recipient.into())
                .map_err(|refusal| self.error(&refusal))?;
            if addressed.iter().all(|other| other.mailbox != one.mailbox) {
                addressed.push(one);
            }
        }
        self.0.backend.fire(notice, addressed).await
    }

    /// Owes a reminder of an incident to everybody who was told of it; false when nobody was.
    pub async fn remind(&self, notice: &Notice) -> Result<bool, Error> {
        self.0.backend.remind(notice).await
    }

    /// Owes the reminders that are due by the incidents' ages. Answers what was owed, and when to ask again.
    pub async fn call_to_mind(
        &self,
        now: Timestamp,
        gaps: &[Duration],
    ) -> Result<(Vec<Notice>, Option<Timestamp>), Error> {
        let mut owed = Vec::new();
        for (nth, gap) in gaps.iter().enumerate() {
            for one in self.0.backend.to_remind(nth, now.minus(*gap)).await? {
                let reminder = one.notice.clone().map(|notice| Notice {
                    change: Change::Reminder,
                    at: now,
                    ..notice
                });
                let reminded = reminders_by(one.told_at, now, gaps);
                if self.0.backend.call_to_mind(one, reminded, reminder.clone()).await? {
                    owed.extend(reminder);
                }
            }
        }
        let oldest = self.0.backend.oldest_told().await?;
        let next = oldest.into_iter().filter_map(|(nth, at)| Some(at.plus(*gaps.get(nth)?)));
        Ok((owed, next.min()))
    }

    /// Closes the incident and owes an end to everybody whose first mail was sent, or may have
    /// been; false when it is not open. What was never sent is withdrawn together with its
    /// end. After [`Change::Withdrawn`] nobody is mailed at all.
    pub async fn resolve(&self, notice: &Notice) -> Result<bool, Error> {
        self.0.backend.resolve(notice).await
    }

    /// The accounts with an open incident: what somebody was told last, whatever else was written down.
    pub async fn told(&self) -> Result<Vec<(AccountId, Cause)>, Error> {
        self.0.backend.told().await
    }

    /// Puts what waits into mails, as [`digest::plan`] says. `operators` hear of what is held back.
    pub async fn arrange(
        &self,
        way: Way,
        now: Timestamp,
        rules: &Rules,
        operators: &[Secret],
    ) -> Result<Arranged, Error> {
        let refused = |refusal| self.error(&refusal);
        let board = self.0.backend.board(way, now).await?;
        let mut known = Vec::with_capacity(operators.len());
        for address in operators {
            let to = Recipient { address: address.clone(), way, is_operator: true };
            known.push(outbox::addressed(&self.0.sealer, &to).map_err(refused)?);
        }
        let mailboxes: Vec<_> = known.iter().map(|one| one.mailbox).collect();
        let (waiting, made, fired) = (&board.waiting, &board.made, &board.fired);
        let all = digest::Known { waiting, made, fired, operators: &mailboxes };
        let planned = digest::plan(now, &all, rules);
        if planned.bundles.is_empty() && planned.held.is_empty() {
            return Ok(Arranged { held: Vec::new(), next: planned.next });
        }
        let mut letters = Vec::with_capacity(planned.bundles.len());
        for bundle in planned.bundles {
            // Only what no row has an address for.
            let address = known
                .iter()
                .find(|one| bundle.rows.is_empty() && one.mailbox == bundle.mailbox)
                .map(|one| one.address.clone());
            letters.push(letters::NewLetter {
                mailbox: bundle.mailbox,
                summary: stored_notice::summary_text(&bundle.summary),
                rows: bundle.rows,
                address,
            });
        }
        let held: Vec<_> = planned.held.iter().map(|(row, cap)| (*row, cap.as_label())).collect();
        let mut drawn = [0; 8];
        seal::fill_random(&mut drawn).map_err(seal::no_randomness).map_err(refused)?;
        let plan = i64::from_be_bytes(drawn);
        if !self.0.backend.arrange(board.plan, plan, (way, now), letters, held).await? {
            // Somebody else has planned meanwhile.
            return Ok(Arranged { held: Vec::new(), next: Some(now) });
        }
        let count = |cap| planned.held.iter().filter(|(_, by)| *by == cap).count();
        let held = Cap::ALL.map(|cap| (cap, count(cap)));
        let held = held.into_iter().filter(|(_, count)| *count > 0).collect();
        Ok(Arranged { held, next: planned.next })
    }

    /// Mails whose time has come, oldest first. They are ours for a while: another process gets none of
    /// them until they are settled, or until nothing has been heard of us for two minutes.
    pub async fn owed(&self, way: Way, now: Timestamp, at_most: usize) -> Result<Vec<Owed>, Error> {
        let sealed = self.0.backend.owed(way, now, at_most).await?;
        sealed.into_iter().map(|mail| self.open_mail(mail)).collect()
    }

    /// When the next mail may be tried by us, if that can be told. A mail that another process has claimed
    /// comes back to all when its claim ends: ask now and then.
    pub async fn next_due(&self, way: Way) -> Result<Option<Timestamp>, Error> {
        self.0.backend.next_due(way).await
    }

    /// How many mails are on their way or about to be made, and how many notices a cap holds back.
    pub async fn outbox(&self, way: Way) -> Result<(usize, usize), Error> {
        let (letters, waiting, held) = self.0.backend.lengths_of_outbox(way).await?;
        Ok((letters + waiting, held))
    }

    /// The newest mails, and what waits to become one.
    pub async fn mails(&self, at_most: usize) -> Result<Vec<Listed>, Error> {
        let sealed = self.0.backend.list(at_most).await?;
        let open = |one: letters::Listed| {
            let to = outbox::open_address(&self.0.sealer, &one.sealed_for, &one.address)?;
            Ok(Listed {
                stage: one.stage,
                to,
                way: one.way,
                is_operator: one.is_operator,
                subject: one.subject,
                notices: one.notices,
                at: one.at,
                attempts: one.attempts,
                failure: one.failure,
            })
        };
        let opened = sealed.into_iter().map(open).collect::<Result<_, Refusal>>();
        opened.map_err(|refusal| self.error(&refusal))
    }

    /// An attempt is about to begin, under this subject line; false when the mail is not ours to send any
    /// more. From now on it may have left, until something else is said.
    pub async fn begin(&self, row: i64, subject: &str) -> Result<bool, Error> {
        self.0.backend.begin(row, subject).await
    }

    /// The mail was handed over.
    pub async fn sent(&self, row: i64, at: Timestamp) -> Result<(), Error> {
        self.settle(row, Attempt::Sent(at)).await
    }

    /// The mail was not handed over, or, `in_doubt`, its acknowledgement was lost; it is tried again later.
    /// Should an incident of a mail in doubt end first, its recipient hears of the end.
    pub async fn postpone(
        &self,
        row: i64,
        until: Timestamp,
        in_doubt: bool,
        failure: &str,
    ) -> Result<(), Error> {
        self.settle(row, Attempt::Again { until, in_doubt, failure: failure.to_owned() }).await
    }

    /// The mail is never tried again; its recipient hears nothing of the end either, unless it may have
    /// arrived.
    pub async fn give_up(&self, row: i64, at: Timestamp, failure: &str) -> Result<(), Error> {
        self.settle(row, Attempt::GivenUp { at, failure: failure.to_owned() }).await
    }

    async fn settle(&self, row: i64, attempt: Attempt) -> Result<(), Error> {
        self.0.backend.settle(row, attempt).await
    }

    fn open_mail(&self, sealed: letters::Sealed) -> Result<Owed, Error> {
        let sealer = &self.0.sealer;
        let to = sealed.open(sealer).map_err(|refusal| self.error(&refusal))?;
        let thread =
            |(letter, subject)| Thread { key: letters::message_key(sealer, letter), subject };
        let told = |(incident, notice)| (letters::incident_key(sealer, incident), notice);
        Ok(Owed {
            row: sealed.row,
            message_key: letters::message_key(sealer, sealed.row),
            threads: sealed.threads.into_iter().map(thread).collect(),
            to,
            way: sealed.way,
            is_operator: sealed.is_operator,
            notices: sealed.notices.into_iter().map(told).collect(),
            counts: sealed.counts,
            summary: sealed.summary,
            attempts: sealed.attempts,
            doubts: sealed.doubts,
            made_at: sealed.made_at,
        })
    }
}
