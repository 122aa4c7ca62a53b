//! Who is on the stage, what befalls whom, and when.

use std::time::Duration;

/// What an account is there to show.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Role {
    /// Nothing happens to it.
    Healthy,
    /// Its owner takes the consent back.
    ConsentRevoked,
    /// Its owner withdraws the permission to publish.
    ScopeLost,
    /// Its refresh token reaches an end that rotation does not move.
    RefreshTokenEnds,
    /// The provider's answer to one refresh is lost on the way.
    AnswerLost,
    /// The provider asks it to wait once.
    RateLimited,
}

impl Role {
    /// The role of the account with this number, from 1. Fixed, so that a demo that is continued after a
    /// crash needs no memory of it.
    pub(super) const fn of(number: usize) -> Self {
        match number {
            3 => Self::ConsentRevoked,
            5 => Self::ScopeLost,
            7 => Self::RefreshTokenEnds,
            9 => Self::AnswerLost,
            11 => Self::RateLimited,
            _ => Self::Healthy,
        }
    }

    /// True when a person must act in the end. All others have to stay alive throughout.
    pub(super) const fn breaks(self) -> bool {
        matches!(self, Self::ConsentRevoked | Self::ScopeLost | Self::RefreshTokenEnds)
    }

    /// True when the provider honours a refresh token of the account to the end, so that there is one
    /// to lose.
    pub(super) const fn has_token_to_lose(self) -> bool {
        !matches!(self, Self::ConsentRevoked | Self::RefreshTokenEnds)
    }
}

/// One account on the stage.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Actor {
    /// Its key in the store.
    pub(super) account: String,
    /// Its owner's address.
    pub(super) owner: String,
    pub(super) role: Role,
}

/// Everybody, in order.
pub(super) fn cast(accounts: usize) -> Vec<Actor> {
    let actor = |number| Actor {
        account: format!("brand-{number:02}"),
        owner: format!("owner-{number:02}@demo.invalid"),
        role: Role::of(number),
    };
    (1..=accounts).map(actor).collect()
}

/// Something that befalls an account, or all of them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Step {
    RevokeConsent,
    DropScope,
    LoseAnswer,
    LimitRate,
    RefreshTokenEnds,
    ChangeSecret,
}

impl Step {
    /// The word for it in the stage's memory.
    pub(super) const fn as_label(self) -> &'static str {
        match self {
            Self::RevokeConsent => "revoke_consent",
            Self::DropScope => "drop_scope",
            Self::LoseAnswer => "lose_answer",
            Self::LimitRate => "limit_rate",
            Self::RefreshTokenEnds => "refresh_token_ends",
            Self::ChangeSecret => "change_secret",
        }
    }

    /// The role it befalls; `None` for the app as a whole.
    pub(super) const fn role(self) -> Option<Role> {
        match self {
            Self::RevokeConsent => Some(Role::ConsentRevoked),
            Self::DropScope => Some(Role::ScopeLost),
            Self::LoseAnswer => Some(Role::AnswerLost),
            Self::LimitRate => Some(Role::RateLimited),
            Self::RefreshTokenEnds => Some(Role::RefreshTokenEnds),
            Self::ChangeSecret => None,
        }
    }

    /// What the audience is told.
    pub(super) const fn sentence(self) -> &'static str {
        match self {
            Self::RevokeConsent => "STAGE: its owner disconnects the app at the provider",
            Self::DropScope => "STAGE: its owner withdraws video.publish; the next token lacks it",
            Self::LoseAnswer => {
                "STAGE: the answer to its next refresh will be lost after the provider rotated"
            }
            Self::LimitRate => "STAGE: its next refresh will be answered with 429",
            Self::RefreshTokenEnds => "STAGE: its refresh token reaches its end",
            Self::ChangeSecret => "STAGE: somebody changes the app's secret at the provider",
        }
    }

    /// How long after it a person must have been told, at the latest. A lost scope shows with the next
    /// token only.
    pub(super) const fn shows_within(self) -> Duration {
        match self {
            Self::DropScope => LIFE,
            _ => Duration::from_secs(12),
        }
    }
}

/// When each step comes: as below for 90 seconds and without an end, stretched for other durations. The
/// secret changes late, and early enough before the end to be mended.
pub(super) fn script(run_for: Option<Duration>) -> Vec<(Duration, Step)> {
    let run_for = run_for.unwrap_or(SHOWN_IN).max(SHORTEST);
    let stretch = run_for.as_secs_f64() / SHOWN_IN.as_secs_f64();
    let at = |seconds: f64| Duration::from_secs_f64(seconds * stretch);
    vec![
        (at(15.0), Step::RevokeConsent),
        (at(20.0), Step::DropScope),
        (at(25.0), Step::LoseAnswer),
        (at(30.0), Step::LimitRate),
        (at(35.0), Step::RefreshTokenEnds),
        (run_for.saturating_sub(SECRET_BEFORE_END), Step::ChangeSecret),
    ]
}

/// Fewest accounts that give every role to somebody.
pub(super) const ACCOUNTS_MIN: usize = 12;
/// Most accounts; each is polled every few seconds by one publisher.
pub(super) const ACCOUNTS_MAX: usize = 2_000;
/// Life of an access token. Two thirds of it must pass more than fifty times among twelve accounts in 90
/// seconds, and the last third must outlast the mending of the app's secret.
pub(super) const LIFE: Duration = Duration::from_secs(24);
/// The duration that the script is written for.
pub(super) const SHOWN_IN: Duration = Duration::from_secs(90);
/// Below this a lost answer would still be open when the secret changes, and nobody could renew in time.
pub(super) const SHORTEST: Duration = Duration::from_secs(60);
const SECRET_BEFORE_END: Duration = Duration::from_secs(15);

#[cfg(test)]
mod tests {
    use super::*;

    const STEPS: [Step; 6] = [
        Step::RevokeConsent,
        Step::DropScope,
        Step::LoseAnswer,
        Step::LimitRate,
        Step::RefreshTokenEnds,
        Step::ChangeSecret,
    ];

    #[test]
    fn twelve_accounts_give_every_role_to_exactly_one_and_leave_the_others_healthy() {
        let cast = cast(ACCOUNTS_MIN);
        for step in STEPS {
            let Some(role) = step.role() else { continue };
            assert_eq!(cast.iter().filter(|actor| actor.role == role).count(), 1, "{role:?}");
        }
        assert_eq!(cast.iter().filter(|actor| actor.role == Role::Healthy).count(), 7);
        assert_eq!(cast[6].account, "brand-07");
        assert_eq!(cast[6].owner, "owner-07@demo.invalid");
    }

    #[test]
    fn every_step_has_the_time_to_show_before_the_end_whatever_the_duration() {
        for seconds in [60, 75, 90, 120, 600, 86_400] {
            let run_for = Duration::from_secs(seconds);
            let script = script(Some(run_for));
            assert_eq!(script.len(), STEPS.len());
            for (at, step) in script {
                assert!(at + step.shows_within() <= run_for, "{step:?} in {seconds} s");
            }
        }
    }

    #[test]
    fn without_an_end_it_goes_as_in_ninety_seconds() {
        assert_eq!(script(None), script(Some(SHOWN_IN)));
    }
}
