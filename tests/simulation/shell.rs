//! One attempt, step by step as `src/refresh.rs` makes it: read the store, adopt what changed, write the
//! intent down, ask once, write the result down, save by compare-and-set, settle with one probe.

use super::{Answer, DEADLINE, Fate, Job, What, World};
use crate::{
    cast::{Entry, KINDS, Renewal, Token, at},
    laws::Laws,
};
use oauth_keepalive::core::{
    Cause,
    fleet::{Asked, Blocked, Checked, Finished, Input},
    timeline::Dated,
};
use std::{sync::Arc, time::Duration};

impl World {
    pub(super) fn read_fails(&mut self) -> bool {
        !self.store_works() || self.fault(5)
    }

    /// True now and then, while things may go wrong.
    pub(super) fn fault(&mut self, per_mille: i64) -> bool {
        self.plan.rough && self.t < self.quiet_from && self.dice.chance(per_mille)
    }

    pub(super) fn work(&mut self, who: usize, job: Job) {
        if self.read_fails() {
            return self.finish(who, Finished::Blocked(Blocked::StoreDown));
        }
        let Some(row) = self.people[who].row else {
            return self.finish(who, Finished::Gone);
        };
        let state_works = self.t >= self.state_down_until;
        match (self.people[who].entry, job) {
            (Some(entry), _) => self.take_up(who, row, entry),
            (None, Job::Settle) => self.finish(who, Finished::Adopted(row.facts())),
            (None, Job::Refresh { expected }) if row.number != expected => {
                self.finish(who, Finished::Adopted(row.facts()));
            }
            (None, Job::Refresh { .. }) if !state_works => {
                self.finish(who, Finished::Blocked(Blocked::StateDown));
            }
            (None, Job::Refresh { .. }) => self.intend(who, row.number),
        }
    }

    pub(super) fn intend(&mut self, who: usize, number: u64) {
        let over_at = self.t + DEADLINE;
        self.people[who].entry = Some(Entry {
            old: number,
            over_at,
            probed: false,
            result: None,
            since: self.t,
            told_in_doubt: false,
        });
        self.send(who, number, false);
    }

    pub(super) fn take_up(&mut self, who: usize, row: Token, entry: Entry) {
        if entry.result.is_some() {
            let delay = self.dice.between(0, 1);
            return self.soon(delay, What::Saves { who });
        }
        if row.number != entry.old {
            self.people[who].entry = None;
            return self.finish(who, Finished::Adopted(row.facts()));
        }
        if self.people[who].kind.renewal == Renewal::Keeps {
            return self.intend(who, row.number);
        }
        if entry.over_at > self.t {
            let evidence = self.evidence(Cause::ProviderOutage);
            return self.finish(who, Finished::Ambiguous { evidence, over_at: at(entry.over_at) });
        }
        if self.t < self.state_down_until {
            return self.finish(who, Finished::Blocked(Blocked::StateDown));
        }
        if entry.probed {
            return self.give_up(who);
        }
        if let Some(entry) = &mut self.people[who].entry {
            entry.probed = true;
            entry.over_at = self.t + DEADLINE;
        }
        self.send(who, row.number, true);
    }

    pub(super) fn send(&mut self, who: usize, number: u64, probe: bool) {
        Laws::sends(self, who, number, probe);
        let fate = match () {
            () if self.fault(8) => Fate::NeverLeaves,
            () if self.fault(10) => Fate::TooMany(self.dice.between(1, 1_200)),
            () if self.fault(4) => Fate::LostBefore,
            () if self.fault(3) => Fate::LostAfter,
            () => Fate::Arrives,
        };
        let delay = self.dice.between(0, 3);
        let (life, asked_at) = (self.life, self.t);
        self.always(delay, What::Arrives { who, life, number, probe, asked_at, fate });
    }

    pub(super) fn answer(&mut self, who: usize, answer: Answer, probe: bool) {
        // A `Date` header came with it.
        let reading = self.reading();
        let (provider, date) = (&"tiktok".into(), at(self.t));
        self.timeline.observe(reading, Dated { provider, date, round_trip: Duration::ZERO });
        let seconds = self.timeline.unconfirmed_step(reading);
        let over_at = self.people[who].entry.map_or(self.t, |entry| entry.over_at);
        match answer {
            Answer::Token(token) => {
                if let Some(entry) = &mut self.people[who].entry {
                    entry.result = Some(token);
                    entry.since = self.t;
                }
                let delay = self.dice.between(0, 2);
                self.soon(delay, What::Saves { who });
            }
            Answer::Dead(_)
                if self.people[who].row.is_some_and(|row| {
                    self.people[who].entry.is_some_and(|entry| entry.old != row.number)
                }) =>
            {
                // Somebody won the race; the row is read again before anybody is called dead.
                let row = self.people[who].row.expect("just looked at");
                self.people[who].entry = None;
                self.finish(who, Finished::Adopted(row.facts()));
            }
            Answer::Dead(cause) => {
                self.people[who].entry = None;
                let cause = if probe { Cause::RotationLost } else { cause };
                let evidence = self.evidence(cause);
                self.finish(who, Finished::Dead(evidence));
            }
            Answer::Not { cause, retry_after, app_wide } => {
                match &mut self.people[who].entry {
                    Some(entry) if probe => {
                        entry.probed = false;
                        self.people[who].probed = None;
                    }
                    entry => *entry = None,
                }
                let mut evidence = self.evidence(cause);
                evidence.retry_after =
                    retry_after.map(|seconds| Duration::from_secs(seconds as u64));
                evidence.app_wide = app_wide;
                self.finish(who, Finished::NotCommitted(evidence));
            }
            Answer::Lost if probe => self.give_up(who),
            Answer::Lost => {
                if self.people[who].kind.renewal == Renewal::Keeps {
                    self.people[who].entry = None;
                }
                let evidence = self.evidence(Cause::ProviderOutage);
                self.finish(who, Finished::Ambiguous { evidence, over_at: at(over_at) });
            }
        }
        self.note_clock(seconds);
    }

    pub(super) fn give_up(&mut self, who: usize) {
        self.people[who].entry = None;
        self.people[who].trouble_at = self.t;
        let evidence = self.evidence(Cause::RotationLost);
        self.finish(who, Finished::Dead(evidence));
    }

    /// By compare-and-set on the token.
    pub(super) fn save(&mut self, who: usize) {
        let Some(Entry { old, result: Some(token), .. }) = self.people[who].entry else { return };
        let facts = token.facts();
        let half = self.fault(3);
        let refused = !self.store_works() || self.fault(8);
        let result = match self.people[who].row {
            _ if refused => Finished::Unsaved(facts),
            None => Finished::Gone,
            Some(row) if row.number == token.number => Finished::Renewed(facts),
            Some(row) if row.number != old => Finished::Adopted(row.facts()),
            Some(row) => {
                Laws::replaced(self, who, row);
                self.people[who].row = Some(token);
                // Written, and the answer was lost: it is saved again, which does no harm.
                if half { Finished::Unsaved(facts) } else { Finished::Renewed(facts) }
            }
        };
        if matches!(result, Finished::Unsaved(_)) {
            self.people[who].trouble_at = self.t;
        } else {
            self.people[who].entry = None;
        }
        self.finish(who, result);
    }

    pub(super) fn answer_check(&mut self, who: usize) {
        let checked = self.checked(who);
        self.tell(Input::Probed { id: self.people[who].id.clone(), checked });
    }

    /// What the check says whether the account can publish.
    pub(super) fn answer_proof(&mut self, who: usize) {
        let checked = self.checked(who);
        self.tell(Input::Proven { id: self.people[who].id.clone(), checked });
    }

    fn checked(&mut self, who: usize) -> Checked {
        let person = &self.people[who];
        let cause = match () {
            () if self.t < self.provider_down_until || person.row.is_none() => None,
            () if !person.alive && self.dice.chance(500) => Some(Cause::ConsentRevoked),
            () if !person.alive || person.access_dead => Some(Cause::AccessTokenExpired),
            () if person.row.is_some_and(|row| self.t >= row.expires_at) => {
                Some(Cause::AccessTokenExpired)
            }
            () => {
                Laws::end(self, who);
                return Checked::Alive;
            }
        };
        let checked =
            cause.map_or(Checked::Unknown, |cause| Checked::Refused(self.evidence(cause)));
        if cause == Some(Cause::ConsentRevoked) {
            let person = &mut self.people[who];
            person.dead = person.ours().map(|token| (token.number, Cause::ConsentRevoked));
        }
        Laws::end(self, who);
        checked
    }

    /// What the provider says when it is asked about an app.
    pub(super) fn answer_about(&mut self, name: Arc<str>) {
        let app = KINDS.iter().position(|kind| *kind.name == *name).expect("one of the four");
        let asked = match () {
            () if self.t < self.provider_down_until => {
                Asked::Unclear(self.evidence(Cause::ProviderOutage))
            }
            () if self.t < self.app_refused_until[app] => {
                let mut evidence = self.evidence(Cause::AppCredentialsRejected);
                evidence.app_wide = true;
                Asked::Refused(evidence)
            }
            () => Asked::Accepted,
        };
        self.tell(Input::AppAsked { app: name, asked });
    }

    pub(super) fn finish(&mut self, who: usize, result: Finished) {
        Laws::finished(self, who, &result);
        self.tell(Input::Finished { id: self.people[who].id.clone(), result });
    }
}
