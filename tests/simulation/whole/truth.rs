//! What is really so: accounts at their provider, their rows in the publisher's store, and every token that
//! ever was, with what became of it.

use oauth_keepalive::{
    core::{AccountId, Secret, Timestamp},
    oauth::Token,
};
use std::collections::VecDeque;

/// Milliseconds of the world.
pub(crate) type Millis = i64;

pub(crate) const SECOND: Millis = 1_000;
pub(crate) const MINUTE: Millis = 60 * SECOND;
pub(crate) const HOUR: Millis = 60 * MINUTE;

/// The second at which the world begins.
pub(crate) const START: i64 = 1_800_000_000;

/// Who put a token into the world.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Maker {
    /// One of our processes asked for it.
    Us,
    Publisher,
    /// A new consent of its owner.
    Owner,
}

/// One token of an account; its number is its place in the list.
#[derive(Clone, Debug)]
pub(crate) struct Minted {
    pub(crate) maker: Maker,
    /// Counts consents: a newer one ends the grant before it.
    pub(crate) consent: u32,
    pub(crate) at: Millis,
    /// True once the answer with it was in one of our processes.
    pub(crate) reached: bool,
    /// The world took it from us: the answer was lost, or its process killed before a durable write.
    pub(crate) destroyed: bool,
    /// By how many seconds the clock of whoever received it is ahead: its end is counted by that clock.
    pub(crate) ahead: i64,
    /// When it was first in the store.
    pub(crate) stored_at: Option<Millis>,
    /// Requests that presented it and may have been carried out.
    pub(crate) presented: u32,
    /// Those of them whose outcome nobody on our side learned.
    pub(crate) unknown: u32,
    /// When that was so last.
    pub(crate) unknown_at: Millis,
    /// The last of them was the one probe.
    pub(crate) is_probed: bool,
    /// The life of ours that heard that it is dead.
    pub(crate) dead_heard_by: Option<u64>,
}

/// A provider asked us to stay away from an account.
#[derive(Clone, Copy, Debug)]
pub(crate) struct StayAway {
    pub(crate) until: Millis,
    pub(crate) heard_by: u64,
    pub(crate) heard_at: Millis,
    /// Of the clock of whoever heard it, in seconds.
    pub(crate) skew: i64,
}

/// A refresh of ours that ended without a token.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Failure {
    pub(crate) at: Millis,
    /// By the clock of whoever made it: what he writes down for others is by that clock.
    pub(crate) theirs: Millis,
    /// Something may have reached the provider.
    pub(crate) left: bool,
}

/// A row of the publisher's table.
#[derive(Clone, Debug)]
pub(crate) struct Row {
    pub(crate) number: usize,
    /// When the token in it was issued, as far as the store knows.
    pub(crate) issued_at: Millis,
    pub(crate) enabled: bool,
    /// What the publisher's status column says.
    pub(crate) connected: bool,
    /// When this token was written here.
    pub(crate) written_at: Millis,
    /// A cached row was written back over a newer token.
    pub(crate) stale: bool,
}

/// One account, seen from everywhere.
#[derive(Debug)]
pub(crate) struct Player {
    pub(crate) id: AccountId,
    pub(crate) who: usize,
    pub(crate) app: usize,
    pub(crate) life: Millis,
    /// The grant lives.
    pub(crate) alive: bool,
    pub(crate) access_dead: bool,
    pub(crate) tokens: Vec<Minted>,
    pub(crate) row: Option<Row>,
    /// Requests of ours that are at the provider or on their way, by the life that sent them.
    pub(crate) in_flight: Vec<u64>,
    /// Refreshes of ours that ended without a token, for a minute.
    pub(crate) failures: VecDeque<Failure>,
    /// Until when the provider asked us to stay away, and who heard that.
    pub(crate) stay_away: Option<StayAway>,
    /// When something of its own last went wrong, or changed.
    pub(crate) trouble_at: Millis,
    /// The last 401 that was reported.
    pub(crate) reported_at: Millis,
    /// When a save of ours last came back without a yes.
    pub(crate) no_yes_at: Millis,
    pub(crate) refreshes: u64,
    /// When it last left: what was owed then is withdrawn, and nobody hears of its end.
    pub(crate) left_at: Millis,
    /// From when on the sidecar could read that and write it down: not while store or state are away.
    pub(crate) left_seen_from: Millis,
}

impl Player {
    pub(crate) fn new(who: usize, app: usize, provider: &str, life: Millis) -> Self {
        Self {
            id: AccountId::new(provider, format!("brand-{who:02}")),
            who,
            app,
            life,
            alive: true,
            access_dead: false,
            tokens: Vec::new(),
            row: None,
            in_flight: Vec::new(),
            failures: VecDeque::new(),
            stay_away: None,
            trouble_at: 0,
            reported_at: -HOUR,
            no_yes_at: -HOUR,
            refreshes: 0,
            left_at: -1,
            left_seen_from: -1,
        }
    }

    /// The newest token of the grant; the only one that the provider renews.
    pub(crate) fn current(&self) -> usize {
        self.tokens.len() - 1
    }

    pub(crate) fn mint(&mut self, maker: Maker, at: Millis) -> usize {
        let before = self.tokens.last().map_or(0, |last| last.consent);
        let consent = before + u32::from(maker == Maker::Owner);
        self.tokens.push(Minted {
            maker,
            consent,
            at,
            reached: false,
            destroyed: false,
            ahead: 0,
            stored_at: None,
            presented: 0,
            unknown: 0,
            unknown_at: 0,
            is_probed: false,
            dead_heard_by: None,
        });
        self.access_dead = false;
        self.current()
    }

    pub(crate) fn put(&mut self, number: usize, issued_at: Millis, now: Millis) {
        self.tokens[number].stored_at.get_or_insert(now);
        let (enabled, connected, written_at) = (true, true, now);
        self.row = Some(Row { number, issued_at, enabled, connected, written_at, stale: false });
    }

    /// The store holds the one token that the provider renews.
    pub(crate) fn is_whole(&self) -> bool {
        self.alive
            && self.row.as_ref().is_some_and(|row| row.enabled && row.number == self.current())
    }

    pub(crate) fn text_of(&self, number: usize) -> (String, String) {
        let who = self.who;
        (format!("act.{who}.{number}"), format!("rft.{who}.{number}"))
    }

    /// A token as the publisher's store hands it out.
    pub(crate) fn token(&self, number: usize, issued_at: Millis) -> Token {
        let (access, refresh) = self.text_of(number);
        let at = |millis: Millis| Timestamp::from_unix(START + millis.div_euclid(SECOND));
        Token {
            access: Secret::new(access),
            refresh: Some(Secret::new(refresh)),
            issued_at: Some(at(issued_at)),
            expires_at: Some(at(issued_at + self.life)),
            refresh_expires_at: None,
            scopes: None,
            subject: Some(format!("open-{}", self.who)),
        }
    }
}

/// The account and the number in the text of a token.
pub(crate) fn read(text: &str) -> (usize, usize) {
    let mut parts = text.rsplit('.');
    let mut next =
        || parts.next().and_then(|part| part.parse().ok()).expect("we wrote it ourselves");
    let number = next();
    (next(), number)
}
