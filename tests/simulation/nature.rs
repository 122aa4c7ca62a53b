//! What happens by itself: outages, crashes, owners, the publisher, the clock.

use super::{What, World};
use crate::{
    cast::{DAY, HOUR, KINDS, Kind, Renewal},
    laws::Laws,
};
use oauth_keepalive::core::fleet::Input;

/// What goes wrong, or just happens, now and then.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Hazard {
    ProviderDown,
    StoreDown,
    StateDown,
    AppRefused,
    ClockJumps,
    Reload,
    Crash,
    PublisherRefreshes,
    OwnerReconnects,
    Revoked,
    AccessDies,
    FalseStorm,
    Leaves,
    Pass,
}

/// Each hazard with the mean time between two of its kind.
pub(super) const HAZARDS: [(Hazard, i64); 14] = [
    (Hazard::ProviderDown, 6 * DAY),
    (Hazard::StoreDown, 5 * DAY),
    (Hazard::StateDown, 9 * DAY),
    (Hazard::AppRefused, 7 * DAY),
    (Hazard::ClockJumps, 4 * DAY),
    (Hazard::Reload, 2 * DAY),
    (Hazard::Crash, DAY),
    (Hazard::PublisherRefreshes, 3 * HOUR),
    (Hazard::OwnerReconnects, 9 * HOUR),
    (Hazard::Revoked, 12 * HOUR),
    (Hazard::AccessDies, 8 * HOUR),
    (Hazard::FalseStorm, 8 * HOUR),
    (Hazard::Leaves, DAY),
    (Hazard::Pass, HOUR),
];

impl World {
    pub(super) fn hazard(&mut self, hazard: Hazard) {
        let (_, every) = HAZARDS
            .iter()
            .find(|(one, _)| std::mem::discriminant(one) == std::mem::discriminant(&hazard))
            .expect("in the list");
        let next = self.dice.between(every / 2, every * 3 / 2);
        self.always(next, What::Hazard(hazard));
        if matches!(hazard, Hazard::Pass) {
            return self.soon(0, What::PassBegins);
        }
        if self.t >= self.quiet_from {
            return;
        }
        let who = self.dice.index(self.people.len());
        match hazard {
            Hazard::Pass => {}
            Hazard::ProviderDown => {
                self.provider_down_until = self.t + self.dice.between(60, 5 * HOUR);
                self.provider_is_busy = self.dice.chance(400);
                self.laws.shared_trouble(self.t, self.provider_down_until);
                // What was asked of us before a crash holds after it.
                let crash = self.dice.between(60, 4 * HOUR);
                self.soon(crash, What::Kill);
            }
            Hazard::StoreDown => {
                self.store_down_until = self.t + self.dice.between(60, 5 * HOUR);
                self.laws.shared_trouble(self.t, self.store_down_until);
            }
            Hazard::StateDown => {
                self.state_down_until = self.t + self.dice.between(60, 2 * HOUR);
                self.laws.shared_trouble(self.t, self.state_down_until);
            }
            Hazard::AppRefused => {
                let app = self.dice.index(KINDS.len());
                let lasts = self.dice.between(600, 6 * HOUR);
                self.app_refused_until[app] = self.t + lasts;
                self.laws.shared_trouble(self.t, self.t + lasts);
                self.laws.app_refusals[app] = 0;
                self.laws.app_tries_allowed[app] = self.laws.tries_allowed(lasts);
                self.always(lasts, What::AppMended(app));
            }
            Hazard::ClockJumps if self.wall_step == 0 && self.fleet.is_some() => {
                let lasts = self.dice.between(600, 8 * HOUR);
                let step = if self.dice.chance(500) { DAY } else { -DAY };
                self.step_clock(step);
                self.always(lasts, What::ClockReturns);
            }
            Hazard::ClockJumps => {}
            Hazard::Reload => {
                let share = self.dice.between(60, 66) as f64 / 100.0;
                self.plan.policy.due_fraction = share;
                self.laws.reloaded();
                self.tell(Input::Configured {
                    policy: self.plan.policy,
                    apps: KINDS.iter().map(Kind::app).collect(),
                });
            }
            // A process that starts while the wall clock is wrong has nothing to tell it so.
            Hazard::Crash if self.fleet.is_some() && self.wall_step == 0 => self.kill(),
            Hazard::Crash => {}
            Hazard::PublisherRefreshes => self.publisher_refreshes(who),
            Hazard::OwnerReconnects => self.reconnect(who),
            Hazard::Revoked => {
                let delay = self.dice.between(2 * HOUR, 4 * DAY);
                self.people[who].alive = false;
                self.people[who].trouble_at = self.t;
                self.report_soon(who, 5);
                self.always(delay, What::Reconnects { who });
            }
            Hazard::AccessDies => {
                self.people[who].access_dead = self.people[who].row.is_some();
                self.people[who].trouble_at = self.t;
                self.report_soon(who, 2_000);
            }
            Hazard::FalseStorm => self.report_soon(who, 60),
            Hazard::Leaves => {
                let person = &mut self.people[who];
                person.row = None;
                person.left_at = self.t;
                person.connected = true;
                let delay = self.dice.between(HOUR, 6 * DAY);
                self.always(delay, What::Reconnects { who });
                self.store_changed();
            }
        }
    }

    pub(super) fn publisher_refreshes(&mut self, who: usize) {
        let person = &self.people[who];
        let Some(row) = person.row else { return };
        let works = person.alive && row.number == person.current && row.renewed_by.is_some();
        let in_time = row.grant_ends_at.is_none_or(|end| self.t < end) && self.t < row.expires_at;
        let app =
            KINDS.iter().position(|kind| kind.name == person.kind.name).expect("one of the four");
        let open = self.t >= self.provider_down_until && self.t >= self.app_refused_until[app];
        if works && in_time && open && self.store_works() && person.kind.renewal != Renewal::Extends
        {
            let token =
                self.mint(who, self.t, row.renewed_by, row.grant_ends_at, row.scope_missing);
            self.people[who].row = Some(token);
            self.people[who].trouble_at = self.t;
            self.store_changed();
        }
    }

    pub(super) fn reconnect(&mut self, who: usize) {
        if self.t >= self.quiet_from || !self.store_works() {
            return;
        }
        let mut token = self.grant(who, 120);
        if self.dice.chance(60) {
            token.renewed_by = None;
            self.tokens[token.number as usize - 1] = token;
        }
        if token.scope_missing || token.renewed_by.is_none() {
            let delay = self.dice.between(6 * HOUR, 4 * DAY);
            self.always(delay, What::Reconnects { who });
        }
        self.people[who].row = Some(token);
        self.people[who].trouble_at = self.t;
        self.store_changed();
    }

    pub(super) fn mend_app(&mut self, app: usize) {
        Laws::app_mended(self, app);
        let name = KINDS[app].name;
        let refused =
            self.fleet.as_ref().is_some_and(|fleet| fleet.refused_apps().any(|one| *one == *name));
        // Half of the time the secret was changed, and the keeper sees that; otherwise it just works again.
        if refused && self.dice.chance(500) {
            self.laws.reloaded();
            self.tell(Input::CredentialsChanged { app: name.into() });
        }
    }

    pub(super) fn report_soon(&mut self, who: usize, times: u32) {
        if let Some(row) = self.people[who].row {
            let delay = self.dice.between(1, 600);
            self.always(delay, What::Report { who, number: row.number, left: times });
        }
    }

    /// The publisher had a 401 and says so; it goes on until the token is another.
    pub(super) fn report(&mut self, who: usize, number: u64, left: u32) {
        if left == 0 || self.people[who].row.is_none_or(|row| row.number != number) {
            return;
        }
        let delay = self.dice.between(5, 900);
        self.always(delay, What::Report { who, number, left: left - 1 });
        self.tell(Input::Responded { id: self.people[who].id.clone(), status: 401, times: 3 });
    }
}
