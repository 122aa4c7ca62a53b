//! `accounts`: what the store holds and what is remembered of it, worst first.

use super::{
    Exit, Output, complain, gate, load,
    look::{Looked, look, worst_first},
    output::{self, Cell, Give, print},
};
use crate::{
    app,
    core::{Account, Cause, Gate, Snapshot, Timestamp, cause::Actor},
    state::Role,
    terminal::{Terminal, Tone, text::folded},
};
use std::{cmp::Reverse, collections::BTreeMap, path::Path};

/// How to list.
#[derive(Debug, clap::Args)]
pub(super) struct Arguments {
    /// A table for people, or JSON for scripts.
    #[arg(long, short, value_enum, default_value_t = Output::Table)]
    output: Output,
    /// Shorten no name, however narrow the terminal is. What is piped is never shortened.
    #[arg(long)]
    wide: bool,
}

pub(super) async fn run(config: &Path, arguments: Arguments) -> Exit {
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
    let now = parts.refresher.clock.now();
    match look(&parts, now, |_| false).await {
        Ok(Looked { snapshot, damaged, .. }) => {
            show(&snapshot, now, &arguments);
            damaged.iter().for_each(complain);
            Exit::Done
        }
        Err(problem) => {
            complain(problem);
            Exit::Unreachable
        }
    }
}

fn show(snapshot: &Snapshot, now: Timestamp, arguments: &Arguments) {
    let accounts = worst_first(snapshot.accounts.iter());
    match arguments.output {
        Output::Table => print(&listed(&accounts, now, Terminal::stdout(), arguments.wide)),
        Output::Json => {
            let list: Vec<_> = accounts.iter().map(|account| as_json(snapshot, account)).collect();
            output::print_json(&list.into());
        }
    }
}

fn listed(accounts: &[&Account], now: Timestamp, terminal: Terminal, wide: bool) -> String {
    let rows = accounts.iter().map(|account| row(account, now)).collect();
    let gives: &[_] = if wide { &[] } else { &GIVES };
    let head = ["ACCOUNT", "STATE", "GATE", "ACCESS ENDS", "REFRESH DUE", "APP"];
    let table = output::table(terminal, head, rows, gives);
    let mut text = table.text;
    if !table.is_whole && !wide {
        text += &output::not_whole(terminal);
    }
    text + &closing(accounts, terminal)
}

/// How many there are, and of each cause among them what it means and who should do what.
fn closing(accounts: &[&Account], terminal: Terminal) -> String {
    let number = accounts.len();
    let mut troubled = BTreeMap::<Reverse<(u8, Cause)>, usize>::new();
    for cause in accounts.iter().filter_map(|account| account.cause) {
        *troubled.entry(Reverse((cause.severity(), cause))).or_default() += 1;
    }
    let plural = if number == 1 { "" } else { "s" };
    let mut text =
        format!("{number} account{plural}, {} in trouble", troubled.values().sum::<usize>());
    // By causes of their own as well as by hand, which nobody could see in the state.
    for (gate, words) in [(Gate::Held, "held"), (Gate::Canary, "to be proven")] {
        let count = accounts.iter().filter(|account| account.door.gate == gate).count();
        if count > 0 {
            text += &format!(", {count} {words}");
        }
    }
    text.push('\n');
    let sentence = |first: &str, sentence: &str| match terminal.prose_columns() {
        Some(columns) => folded(first, 2, sentence, columns),
        None => format!("{first}{sentence}\n"),
    };
    for Reverse((_, cause)) in troubled.into_keys() {
        let who = match cause.actor() {
            Actor::Nobody => "",
            Actor::Owner => "Account owner: ",
            Actor::Operator => "You: ",
        };
        let label = cause.as_label();
        let told = sentence(&format!("{label}: "), cause.sentence());
        text = text + "\n" + &told.replacen(label, &terminal.paint(tone(Some(cause)), label), 1);
        text += &sentence("  ", &format!("{who}{}", cause.next_step()));
    }
    text
}

fn row(account: &Account, now: Timestamp) -> [Cell; 6] {
    let at = |at: Option<Timestamp>| {
        Cell::from(at.map_or_else(|| "-".to_owned(), |at| output::from_now(now, at)))
    };
    let due_at = account.due_at.filter(|_| !account.cause.is_some_and(Cause::needs_reconnect));
    [
        account.id.to_string().into(),
        Cell::toned(account.cause.map_or("ok", |cause| cause.as_label()), tone(account.cause)),
        Cell::toned(account.door.gate.as_label(), gate_tone(account.door.gate)),
        at(account.token.and_then(|token| token.expires_at)),
        at(due_at),
        account.app.to_string().into(),
    ]
}

const fn gate_tone(gate: Gate) -> Tone {
    match gate {
        Gate::Open => Tone::Good,
        Gate::Canary => Tone::Doubtful,
        Gate::Held => Tone::Bad,
    }
}

pub(super) const fn tone(cause: Option<Cause>) -> Tone {
    match cause {
        None => Tone::Good,
        Some(cause) => match cause.actor() {
            Actor::Nobody => Tone::Doubtful,
            Actor::Owner | Actor::Operator => Tone::Bad,
        },
    }
}

fn as_json(snapshot: &Snapshot, account: &Account) -> serde_json::Value {
    let unix = |at: Option<Timestamp>| at.map(Timestamp::as_unix);
    let token = account.token;
    serde_json::json!({
        "provider": &*account.id.provider,
        "account": &*account.id.account,
        "app": &*account.app,
        "cause": account.cause.map_or("none", |cause| cause.as_label()),
        "cause_since": unix(account.cause_since),
        "gate": gate::as_json(&account.door),
        "next_step": account.cause.map(|cause| cause.next_step()),
        "issued_at": unix(token.map(|token| token.issued_at)),
        "expires_at": unix(token.and_then(|token| token.expires_at)),
        "refresh_expires_at": unix(token.and_then(|token| token.refresh_expires_at)),
        "refresh_due_at": unix(account.due_at),
        "last_refresh_at": unix(account.last_refresh_at),
        "missing_scopes": snapshot.missing_scopes(account).collect::<Vec<_>>(),
        "fingerprint": token.map(|token| token.token.to_string()),
    })
}

/// What a window that is too narrow does without first. Whose account it is and what is wrong with it stay to the end.
const GIVES: [Give; 7] = [
    Give::Out(5),
    Give::Short(0, ACCOUNT_COLUMNS),
    Give::Out(4),
    Give::Out(3),
    Give::Short(0, ACCOUNT_COLUMNS_MIN),
    Give::Out(2),
    Give::Short(1, STATE_COLUMNS_MIN),
];

/// What is left of a name while there are other columns to do without.
const ACCOUNT_COLUMNS: usize = 16;

/// What is left of a name, and of a cause, at least.
const ACCOUNT_COLUMNS_MIN: usize = 12;
const STATE_COLUMNS_MIN: usize = 12;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::core::AccountId;

    fn account(name: &str, cause: Option<Cause>) -> Account {
        let mut account = Account::new(AccountId::new("tiktok", name), "main".into());
        account.due_at = Some(Timestamp::from_unix(1_000));
        account.cause = cause;
        account
    }

    #[test]
    fn each_cause_is_explained_once_and_the_worst_first() {
        let accounts = [
            account("a", Some(Cause::RateLimited)),
            account("b", Some(Cause::ConsentRevoked)),
            account("c", Some(Cause::ConsentRevoked)),
            account("d", None),
        ];
        let accounts: Vec<&Account> = accounts.iter().collect();
        assert_eq!(
            closing(&accounts, Terminal::piped()),
            "4 accounts, 3 in trouble\n\n\
             consent_revoked: The permission for this connection was withdrawn.\n  \
             Account owner: Reconnect the account in your publishing tool.\n\n\
             rate_limited: The provider asked to be called less often.\n  \
             Nothing: it is tried again by itself.\n"
        );
        assert_eq!(closing(&accounts[3..], Terminal::piped()), "1 account, 0 in trouble\n");
    }

    #[test]
    fn an_account_that_is_well_and_held_by_hand_is_seen_to_be_held() {
        let now = Timestamp::from_unix(900);
        let (mut held, mut proven) = (account("a", None), account("b", None));
        held.door.gate = Gate::Held;
        proven.door.gate = Gate::Canary;
        let text = listed(&[&held, &proven, &account("c", None)], now, Terminal::wide(80), false);
        for expected in
            ["tiktok/a  ok     held  ", "tiktok/b  ok     canary", "tiktok/c  ok     open  "]
        {
            assert!(text.contains(expected), "{expected}: {text}");
        }
        assert!(text.ends_with("3 accounts, 0 in trouble, 1 held, 1 to be proven\n"), "{text}");
    }

    #[test]
    fn no_renewal_is_announced_where_none_can_help() {
        let now = Timestamp::from_unix(900);
        let (due, dead) =
            (account("a", Some(Cause::ScopeMissing)), account("b", Some(Cause::RotationLost)));
        let text = listed(&[&due, &dead], now, Terminal::piped(), false);
        assert!(
            text.contains("tiktok/a  scope_missing  open  -            in 1m 40s    main"),
            "{text}"
        );
        assert!(
            text.contains("tiktok/b  rotation_lost  open  -            -            main"),
            "{text}"
        );
    }

    #[test]
    fn a_long_name_is_shortened_on_a_terminal_unless_it_is_wanted_whole() {
        let now = Timestamp::from_unix(900);
        let name = "a-name-of-an-account-that-goes-on-and-on-and-on-until-the-end";
        let long = account(name, Some(Cause::AppCredentialsRejected));
        let text = listed(&[&long], now, Terminal::wide(80), false);
        assert!(!text.contains(name) && text.contains("--wide"), "{text}");
        assert!(text.lines().all(|line| line.chars().count() <= 80), "{text}");
        for (terminal, wide) in [(Terminal::wide(80), true), (Terminal::piped(), false)] {
            let text = listed(&[&long], now, terminal, wide);
            assert!(text.contains(name) && !text.contains("--wide"), "{text}");
        }
    }

    #[test]
    fn a_narrow_window_shows_whose_it_is_and_what_is_wrong_to_the_end() {
        let now = Timestamp::from_unix(900);
        let name = "a-name-of-an-account-that-goes-on-and-on-and-on-until-the-end";
        let long = account(name, Some(Cause::AppCredentialsRejected));
        for columns in 40..=80 {
            let text = listed(&[&long], now, Terminal::wide(columns), false);
            assert!(text.lines().all(|line| line.chars().count() <= columns), "{columns}:\n{text}");
            let row = text.lines().nth(1).unwrap_or_default();
            assert!(
                row.starts_with("tiktok") && row.contains("  app_credentials_rejected"),
                "{text}"
            );
        }
        let narrow = listed(&[&long], now, Terminal::wide(40), false);
        assert!(!narrow.contains("ACCESS ENDS") && narrow.contains("--wide"), "{narrow}");
    }
}
