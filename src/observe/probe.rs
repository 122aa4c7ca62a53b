//! Our own free check as a source: each account is asked about now and then although nobody reported anything.
//!
//! Which account's turn it is follows from the time of day, so that nothing need be remembered, a restart begins
//! no new round, and the checks are spread evenly. Whether an account is checked at all is the fleet's decision:
//! never where that costs money, nor where it was just checked.

use super::{Observer, goes_on_after};
use crate::core::fleet::Input;
use std::time::Duration;
use tokio::sync::watch;

pub(super) async fn wonder(observer: Observer, every: Duration, mut stop: watch::Receiver<bool>) {
    if !observer.knows_the_accounts(&mut stop).await {
        return;
    }
    let mut done = share_of(observer.clock.now().as_unix(), every);
    while goes_on_after(TURN_EVERY, &mut stop).await {
        let now = share_of(observer.clock.now().as_unix(), every);
        let snapshot = observer.snapshot.load_full();
        let turn = turn(done, now, snapshot.accounts.len());
        done = now;
        let all = || snapshot.accounts.iter();
        // Around the end of the list where the next round has begun.
        for account in
            all().chain(all()).skip(turn.first).take(turn.accounts.min(ACCOUNTS_PER_TURN_MAX))
        {
            let id = account.id.clone();
            if observer.keeper.send(Input::Wondered { id }).await.is_err() {
                return;
            }
        }
    }
}

/// Accounts whose turn has come.
#[derive(Debug, PartialEq, Eq)]
struct Turn {
    first: usize,
    accounts: usize,
}

/// How much of the running round has passed.
fn share_of(unix: i64, every: Duration) -> f64 {
    let every = every.as_secs().max(1).cast_signed();
    unix.rem_euclid(every) as f64 / every as f64
}

/// Those between two shares of a round.
fn turn(done: f64, now: f64, accounts: usize) -> Turn {
    let place = |share: f64| (share * accounts as f64) as usize;
    let (first, until) = (place(done), place(now));
    // The next round has begun.
    let until = if now < done { until + accounts } else { until };
    Turn { first, accounts: until - first }
}

/// How often it is looked whose turn it is.
const TURN_EVERY: Duration = Duration::from_secs(2);

/// More accounts are not asked about at once, whatever their number: twenty a second. Those left out wait for
/// the next round.
const ACCOUNTS_PER_TURN_MAX: usize = 40;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_account_has_one_turn_in_a_round() {
        let every = Duration::from_secs(3_600);
        for accounts in [0, 1, 7, 1_000] {
            let mut turns = vec![0; accounts];
            let mut done = share_of(500, every);
            for unix in (502..=500 + 3_600).step_by(2) {
                let now = share_of(unix, every);
                let turn = turn(done, now, accounts);
                for place in turn.first..turn.first + turn.accounts {
                    turns[place % accounts] += 1;
                }
                done = now;
            }
            assert!(turns.iter().all(|turns| *turns == 1), "{accounts}: {turns:?}");
        }
    }

    #[test]
    fn turns_are_spread_over_the_round() {
        let share = |unix| share_of(unix, Duration::from_secs(3_600));
        let most = (0..3_598).map(|unix| turn(share(unix), share(unix + 2), 100).accounts).max();
        assert_eq!(most, Some(1));
    }
}
