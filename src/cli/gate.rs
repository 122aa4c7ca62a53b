//! `hold`, `resume` and `canary`: what a person wants of an account, written down for whoever keeps it, and how that
//! went. Nothing is done here: the sidecar that runs does it, on whichever machine it is.

use super::{Exit, Output, complain, load, output, refresh::account_id};
use crate::{
    app::{self, Parts},
    core::{AccountId, Announcement, Door, Gate, Order, Said, Whose, gate::Why},
    state::Role,
    stores::TokenStore,
};
use ring::rand::{SecureRandom, SystemRandom};
use std::{path::Path, time::Duration};
use tokio::time::{Instant, sleep};

/// What the three commands must be told.
#[derive(Debug, clap::Args)]
pub(super) struct Arguments {
    /// The account as provider/account, such as tiktok/brand-a.
    #[arg(value_parser = account_id)]
    account: AccountId,
    /// A sentence for people, or JSON for scripts.
    #[arg(long, short, value_enum, default_value_t = Output::Table)]
    output: Output,
}

/// Which of the three.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Wish {
    Hold,
    Resume,
    Canary,
}

pub(super) async fn run(config: &Path, wish: Wish, arguments: Arguments) -> Exit {
    let loaded = match load(config) {
        Ok(loaded) => loaded,
        Err(exit) => return exit,
    };
    let parts = match app::open(loaded.settings, Role::Guest).await {
        Ok(parts) => parts,
        Err(problem) => {
            complain(problem);
            return Exit::Unreachable;
        }
    };
    let id = arguments.account;
    match parts.refresher.store.get(&id).await {
        Ok(Some(_)) => {}
        Ok(None) => {
            complain(format!("{id} is not in the store; `oauth-keepalive accounts` lists what is"));
            return Exit::Usage;
        }
        Err(error) => {
            complain(error);
            return Exit::Unreachable;
        }
    }
    match follow(&parts, &id, wish).await {
        Ok(Some(door)) => tell(&parts, &id, wish, door, arguments.output),
        Ok(None) => {
            complain(format!(
                "{id}: written down, and nobody has taken it up within {} s; is the sidecar running? {}",
                FOLLOWED_WITHIN.as_secs(),
                match wish {
                    Wish::Hold | Wish::Resume => "Its next start does.",
                    Wish::Canary => "Ask again when it does.",
                }
            ));
            Exit::Failed
        }
        Err(error) => {
            complain(error);
            Exit::Unreachable
        }
    }
}

/// Writes it down and waits until it was followed; `None` when nobody did.
async fn follow(
    parts: &Parts,
    id: &AccountId,
    wish: Wish,
) -> Result<Option<Door>, crate::state::Error> {
    let state = &parts.refresher.state;
    let before = state.door(id).await?.unwrap_or_default().followed;
    let announcement = Announcement {
        key: key(),
        whose: Whose::Account(id.clone()),
        said: Said::Order(match wish {
            Wish::Hold => Order::Hold,
            Wish::Resume => Order::Resume,
            Wish::Canary => Order::Prove,
        }),
        heard_at: parts.refresher.clock.now(),
    };
    state.take_in(&announcement).await?;
    let began = Instant::now();
    loop {
        sleep(LOOK_EVERY).await;
        let door = state.door(id).await?.unwrap_or_default();
        let is_followed = door.followed > before;
        // What the proof came to is what the person wants to know.
        let is_settled = wish == Wish::Hold
            || match door.gate {
                Gate::Open => true,
                Gate::Held => !is_let_go(&door),
                Gate::Canary => door.tries > 0,
            };
        if is_followed && (is_settled || began.elapsed() >= PROVEN_WITHIN) {
            return Ok(Some(door));
        }
        if !is_followed && began.elapsed() >= FOLLOWED_WITHIN {
            return Ok(None);
        }
    }
}

fn tell(parts: &Parts, id: &AccountId, wish: Wish, door: Door, output: Output) -> Exit {
    let now = parts.refresher.clock.now();
    let since =
        door.since.map_or_else(String::new, |at| format!(" ({})", output::from_now(now, at)));
    let why = match door.why {
        Some(Why::Cause(cause)) => format!(" {}", cause.sentence()),
        Some(Why::Person) => format!(" Somebody holds it by hand: {}.", resume(id)),
        None => String::new(),
    };
    let (sentence, worked) = match (door.gate, wish) {
        (Gate::Held, Wish::Hold) => {
            (format!("held; nothing is published until `oauth-keepalive resume {id}`"), true)
        }
        (Gate::Held, _) if is_let_go(&door) => (
            "nobody holds it any more; it opens when a token that lives is saved and proven"
                .to_owned(),
            true,
        ),
        (Gate::Held, _) => (format!("still held{since}.{why}"), false),
        (Gate::Canary, _) => (
            "to be proven before its queue resumes: one publish, or the provider's check"
                .to_owned(),
            true,
        ),
        (Gate::Open, _) => ("open; its queue goes on".to_owned(), true),
    };
    match output {
        Output::Table => output::say(&format!("{id}: {sentence}")),
        Output::Json => output::print_json(&serde_json::json!({
            "provider": &*id.provider,
            "account": &*id.account,
            "gate": door.gate.as_label(),
            "why": door.why.map(Why::as_label),
            "since": door.since.map(crate::core::Timestamp::as_unix),
        })),
    }
    if worked { Exit::Done } else { Exit::Failed }
}

/// The gate of `id` in a few words, with what a person can do about it; `since` is the instant for people.
pub(super) fn in_words(id: &AccountId, door: &Door, since: Option<&str>) -> String {
    let since = since.map_or_else(String::new, |since| format!(" since {since}"));
    let said =
        door.objection.filter(|_| door.gate != Gate::Open).map_or_else(String::new, |said| {
            let plural = if said.times == 1 { "" } else { "s" };
            format!("; publishing was refused {} time{plural}", said.times)
        });
    match (door.gate, door.why) {
        (Gate::Open, _) => "open".to_owned(),
        (Gate::Held, Some(Why::Cause(cause))) => {
            let by_hand = match door.by_hand {
                true => format!("; by hand as well: {}", resume(id)),
                false => String::new(),
            };
            format!("held{since}: {}{said}{by_hand}", cause.as_label())
        }
        (Gate::Held, _) if is_let_go(door) => {
            format!("held{since}: nobody holds it by hand any more, and its token is renewed first")
        }
        (Gate::Held, _) => format!("held by hand{since}: {}", resume(id)),
        (Gate::Canary, _) => {
            format!("canary{since}: one publish, or the provider's check, is to prove it{said}")
        }
    }
}

/// The person who held it has said resume, and it is not mended yet: a refresh is under way, or due.
fn is_let_go(door: &Door) -> bool {
    let was_by_hand = door.why == Some(Why::Person) && !door.by_hand;
    door.gate == Gate::Held && was_by_hand && door.refused.is_none()
}

fn resume(id: &AccountId) -> String {
    format!("`oauth-keepalive resume {id}` lets it go on")
}

/// The same for scripts.
pub(super) fn as_json(door: &Door) -> serde_json::Value {
    let why = door.why.filter(|_| door.gate != Gate::Open);
    serde_json::json!({
        "gate": door.gate.as_label(),
        "why": why.map(Why::as_label),
        "since": door.since.map(crate::core::Timestamp::as_unix),
    })
}

/// Tells this order from all others.
fn key() -> std::sync::Arc<str> {
    let mut bytes = [0_u8; 16];
    SystemRandom::new().fill(&mut bytes).expect("the operating system has random numbers");
    let hex: String = bytes.iter().map(|byte| format!("{byte:02x}")).collect();
    format!("command-{hex}").into()
}

/// Between two looks at what became of it.
const LOOK_EVERY: Duration = Duration::from_millis(200);

/// A sidecar that runs reads what is wanted twice a second, and writes down that it follows at once.
const FOLLOWED_WITHIN: Duration = Duration::from_secs(10);

/// How long it is waited for the provider's check.
const PROVEN_WITHIN: Duration = Duration::from_secs(15);

#[cfg(test)]
mod tests {
    use super::*;
    use crate::core::{Cause, Timestamp, gate::Objection};

    #[test]
    fn a_shut_gate_says_why_and_what_a_person_can_do() {
        let id = AccountId::new("tiktok", "a");
        let door = |gate, why, by_hand| Door { gate, why, by_hand, ..Door::default() };
        let revoked = Some(Why::Cause(Cause::ConsentRevoked));
        let resume = "`oauth-keepalive resume tiktok/a` lets it go on";
        let said = Objection {
            cause: Cause::Unknown,
            is_owners: false,
            since: Timestamp::from_unix(0),
            times: 3,
        };
        let canary = "canary since noon: one publish, or the provider's check, is to prove it";
        for (door, expected) in [
            (door(Gate::Open, revoked, false), "open".to_owned()),
            (
                door(Gate::Held, Some(Why::Person), true),
                format!("held by hand since noon: {resume}"),
            ),
            (
                door(Gate::Held, Some(Why::Person), false),
                "held since noon: nobody holds it by hand any more, and its token is renewed first"
                    .to_owned(),
            ),
            (door(Gate::Held, revoked, false), "held since noon: consent_revoked".to_owned()),
            (
                door(Gate::Held, revoked, true),
                format!("held since noon: consent_revoked; by hand as well: {resume}"),
            ),
            (door(Gate::Canary, revoked, false), canary.to_owned()),
            (
                Door { objection: Some(said), ..door(Gate::Canary, revoked, false) },
                format!("{canary}; publishing was refused 3 times"),
            ),
        ] {
            assert_eq!(in_words(&id, &door, Some("noon")), expected);
        }
    }

    #[test]
    fn what_is_let_go_while_its_token_is_renewed_is_not_called_held_by_somebody() {
        let held = |why, by_hand, refused| {
            is_let_go(&Door { gate: Gate::Held, why, by_hand, refused, ..Door::default() })
        };
        let (person, revoked) = (Some(Why::Person), Some(Why::Cause(Cause::ConsentRevoked)));
        assert!(held(person, false, None));
        assert!(!held(person, true, None), "somebody holds it");
        assert!(!held(revoked, false, None), "something is wrong");
        assert!(!held(person, false, Some(Cause::Unknown)), "publishing was refused");
        assert!(!is_let_go(&Door { why: person, ..Door::default() }), "it is open");
    }
}
