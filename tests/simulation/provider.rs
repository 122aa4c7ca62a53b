//! The provider: what it makes of a request, and the tokens it mints.

use super::{Answer, DEADLINE, Fate, GRACE, What, World};
use crate::cast::{KINDS, Renewal, Token};
use oauth_keepalive::core::Cause;

impl World {
    /// At the provider; the answer finds its way only to the process that asked.
    pub(super) fn arrive(
        &mut self,
        who: usize,
        life: u64,
        number: u64,
        probe: bool,
        asked_at: i64,
        fate: Fate,
    ) {
        let not = |cause, retry_after, app_wide| Answer::Not { cause, retry_after, app_wide };
        let kind = self.people[who].kind;
        let app = KINDS.iter().position(|one| one.name == kind.name).expect("one of the four");
        let answer = match fate {
            _ if self.t < self.provider_down_until && self.provider_is_busy => {
                not(Cause::RateLimited, Some(self.dice.between(30, 900)), false)
            }
            _ if self.t < self.provider_down_until => not(Cause::ProviderOutage, None, false),
            Fate::NeverLeaves => not(Cause::ProviderOutage, None, false),
            _ if self.t < self.app_refused_until[app] => {
                self.laws.app_refusals[app] += 1;
                not(Cause::AppCredentialsRejected, None, true)
            }
            Fate::TooMany(seconds) => not(Cause::RateLimited, Some(seconds), false),
            Fate::LostBefore => Answer::Lost,
            Fate::Arrives | Fate::LostAfter => {
                let answer = self.renew(who, number, probe, asked_at);
                if fate == Fate::LostAfter { Answer::Lost } else { answer }
            }
        };
        if fate != Fate::Arrives || !matches!(answer, Answer::Token(_)) {
            self.people[who].trouble_at = self.t;
        }
        let delay = match answer {
            Answer::Lost => asked_at + DEADLINE - self.t,
            _ => self.dice.between(0, 5),
        };
        self.script(delay, Some(life), What::Answers { who, answer, probe });
    }

    pub(super) fn renew(&mut self, who: usize, number: u64, probe: bool, asked_at: i64) -> Answer {
        let person = &mut self.people[who];
        let token = self.tokens[number as usize - 1];
        let rotates = person.kind.renewal == Renewal::Rotates;
        if rotates && number != person.current {
            if self.t - person.rotated_at > GRACE {
                assert!(
                    probe,
                    "seed {}: {} presented a retired token that was not in doubt",
                    self.plan.seed, person.id
                );
                person.alive = false;
            }
            return Answer::Dead(Cause::RefreshTokenRejected);
        }
        let ended = token.grant_ends_at.is_some_and(|end| self.t >= end);
        let too_late = person.kind.renewal == Renewal::Extends && self.t >= token.expires_at;
        // A second consent ends the first grant.
        let of_old_grant = token.renewed_by.is_none_or(|by| {
            person.kind.renewal == Renewal::Keeps
                && by != self.tokens[person.current as usize - 1].renewed_by.unwrap_or(by)
        });
        if !person.alive || ended || too_late || of_old_grant {
            return Answer::Dead(Cause::RefreshTokenRejected);
        }
        assert!(
            self.t - token.issued_at >= person.kind.min_age,
            "seed {}: {} is asked too young",
            self.plan.seed,
            person.id
        );
        person.refreshes += 1;
        Answer::Token(self.mint(
            who,
            asked_at,
            token.renewed_by,
            token.grant_ends_at,
            token.scope_missing,
        ))
    }

    /// A token from a new consent.
    pub(super) fn grant(&mut self, who: usize, scope_missing: i64) -> Token {
        let kind = self.people[who].kind;
        let scope_missing = self.plan.rough && self.dice.chance(scope_missing);
        let ends = kind.grant_life.map(|life| self.t + life);
        let person = &mut self.people[who];
        person.alive = true;
        let family = self.tokens.len() as u64 + 1;
        self.mint(who, self.t, Some(family), ends, scope_missing)
    }

    pub(super) fn mint(
        &mut self,
        who: usize,
        issued_at: i64,
        family: Option<u64>,
        ends: Option<i64>,
        scope_missing: bool,
    ) -> Token {
        let number = self.tokens.len() as u64 + 1;
        let person = &mut self.people[who];
        let renewed_by = match person.kind.renewal {
            Renewal::Rotates | Renewal::Extends => Some(number),
            Renewal::Keeps => family,
        };
        let token = Token {
            number,
            renewed_by,
            issued_at,
            expires_at: issued_at + person.kind.life,
            grant_ends_at: ends,
            scope_missing,
        };
        person.current = number;
        person.rotated_at = self.t;
        person.access_dead = false;
        self.tokens.push(token);
        token
    }
}
