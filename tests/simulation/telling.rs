//! What must hold of notices: one beginning and one end of each incident, to the person who can act.

use super::{Laws, NEVER};
use crate::world::World;
use oauth_keepalive::core::{
    Cause, Timestamp,
    cause::Actor,
    notices::{Change, Notice, Subject},
};

impl Laws {
    /// True when a crash between the outbox and the memory leads to the same notices once more.
    pub(crate) fn will_be_told_again(_world: &World, notices: &[Notice]) -> bool {
        notices.iter().all(|notice| {
            notice.change == Change::Resolved && matches!(notice.subject, Subject::Account(_))
        })
    }

    pub(crate) fn notice(world: &mut World, notice: &Notice) {
        world.laws.notices += 1;
        let key = (notice.subject.clone(), notice.cause);
        let who = match &notice.subject {
            Subject::Account(id) => Some(world.index[id]),
            _ => None,
        };
        match notice.change {
            Change::Firing => {
                let number = match who {
                    Some(who) => world.people[who].row.map_or(0, |row| row.number),
                    None => world.t as u64,
                };
                let before = world.laws.incidents.insert(key, number);
                // Of what all share nothing is remembered; the outbox swallows what it has.
                let swallowed = before
                    .filter(|_| who.is_none())
                    .is_some_and(|told| told < world.laws.started_at as u64);
                law!(
                    world,
                    before.is_none() || swallowed,
                    "{}: told twice of {:?}",
                    notice.subject,
                    notice.cause
                );
                if let Some(who) = who {
                    Self::may_tell(world, who, notice);
                }
            }
            Change::Resolved => {
                let open = world.laws.incidents.remove(&key);
                // The first proof after a start ends whatever the last run left open.
                let excused = who.is_none_or(|who| world.people[who].torn);
                law!(
                    world,
                    open.is_some() || excused,
                    "{}: an end of {:?} without a beginning",
                    notice.subject,
                    notice.cause
                );
                if let (Some(who), Some(number)) = (who, open) {
                    let same = world.people[who].row.is_some_and(|row| row.number == number);
                    let refined = notice.cause == Cause::RefreshTokenRejected;
                    law!(
                        world,
                        !(notice.cause.needs_reconnect() && same) || refined,
                        "{}: {:?} ended by itself",
                        notice.subject,
                        notice.cause
                    );
                }
            }
            Change::Withdrawn => {
                world.laws.incidents.remove(&key);
            }
            Change::Reminder => {
                law!(
                    world,
                    world.laws.incidents.contains_key(&key),
                    "{}: called to mind without a beginning",
                    notice.subject
                );
            }
        }
    }

    fn may_tell(world: &World, who: usize, notice: &Notice) {
        let cause = notice.cause;
        let person = &world.people[who];
        let id = &person.id;
        let t = world.t;
        match cause {
            Cause::AppCredentialsRejected | Cause::StoreUnreachable | Cause::ClockDrift => {
                law!(world, false, "{id}: its owner is told of {cause:?}");
            }
            Cause::UnsavedToken => {
                law!(
                    world,
                    person.entry.is_some_and(|entry| entry.result.is_some()),
                    "{id}: nothing is unsaved"
                );
            }
            _ if cause.actor() == Actor::Nobody || cause == Cause::Unknown => {
                // Of the token that the fleet knows; the store may have a newer one that no pass has found.
                let end = notice.expires_at.map_or(NEVER, Timestamp::as_unix);
                let danger =
                    end - (person.kind.life as f64 * world.laws.policy.danger_fraction) as i64;
                law!(
                    world,
                    t >= danger,
                    "{id}: {cause:?} is told {} s before the danger margin",
                    danger - t
                );
                // What a crash or a pass made stale is not judged.
                let real =
                    !Self::trouble_free_since(world, who, end.saturating_sub(person.kind.life));
                law!(world, real, "{id}: {cause:?} is told, and nothing happened");
            }
            // Judged by the end that the notice names: the store may have a new consent that no pass has found.
            Cause::NotRenewable
                if notice.expires_at.is_some() && person.kind.grant_life.is_some() =>
            {
                let end = notice.expires_at.map_or(NEVER, Timestamp::as_unix);
                let lead = crate::cast::ANNOUNCED_FROM;
                law!(world, end - t <= lead, "{id}: is told {} s before its end", end - t);
            }
            _ => {
                let fresh = t - person.trouble_at > 600 && t - world.laws.shared_trouble_at > 600;
                let kept = person.can_be_kept(t);
                law!(world, !(fresh && kept), "{id}: is well, and its owner is told of {cause:?}");
            }
        }
    }
}
