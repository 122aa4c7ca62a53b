//! `accounts`: what the store holds and what is remembered of it, worst first.

use super::{
    Exit, Output, complain, load,
    look::{Looked, look, worst_first},
    output,
};
use crate::{
    app,
    core::{Account, Cause, Snapshot, Timestamp, cause::Actor},
    state::Role,
};
use std::{cmp::Reverse, collections::BTreeMap, fmt::Write, path::Path};

pub(super) async fn run(config: &Path, output: Output) -> Exit {
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
            print(&snapshot, now, output);
            damaged.iter().for_each(complain);
            Exit::Done
        }
        Err(problem) => {
            complain(problem);
            Exit::Unreachable
        }
    }
}

fn print(snapshot: &Snapshot, now: Timestamp, output: Output) {
    let accounts = worst_first(snapshot.accounts.iter());
    match output {
        Output::Table => {
            let rows: Vec<_> = accounts.iter().map(|account| row(account, now)).collect();
            print!(
                "{}",
                output::table(["ACCOUNT", "STATE", "ACCESS ENDS", "REFRESH DUE", "APP"], &rows)
            );
            print!("{}", closing(&accounts));
        }
        Output::Json => {
            let list: Vec<_> = accounts.iter().map(|account| as_json(snapshot, account)).collect();
            println!("{}", serde_json::Value::from(list));
        }
    }
}

/// How many there are, and of each cause among them what it means and who should do what.
fn closing(accounts: &[&Account]) -> String {
    let number = accounts.len();
    let mut troubled = BTreeMap::<Reverse<(u8, Cause)>, usize>::new();
    for cause in accounts.iter().filter_map(|account| account.cause) {
        *troubled.entry(Reverse((cause.severity(), cause))).or_default() += 1;
    }
    let plural = if number == 1 { "" } else { "s" };
    let mut text =
        format!("{number} account{plural}, {} in trouble\n", troubled.values().sum::<usize>());
    for Reverse((_, cause)) in troubled.into_keys() {
        let who = match cause.actor() {
            Actor::Nobody => "",
            Actor::Owner => "Account owner: ",
            Actor::Operator => "You: ",
        };
        // Writing to a string does not fail.
        let _ = write!(
            text,
            "\n{}: {}\n  {who}{}\n",
            cause.as_label(),
            cause.sentence(),
            cause.next_step()
        );
    }
    text
}

fn row(account: &Account, now: Timestamp) -> [String; 5] {
    let at =
        |at: Option<Timestamp>| at.map_or_else(|| "-".to_owned(), |at| output::from_now(now, at));
    [
        account.id.to_string(),
        account.cause.map_or("ok", |cause| cause.as_label()).to_owned(),
        at(account.token.and_then(|token| token.expires_at)),
        at(account.due_at.filter(|_| !account.cause.is_some_and(Cause::needs_reconnect))),
        account.app.to_string(),
    ]
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
            closing(&accounts),
            "4 accounts, 3 in trouble\n\n\
             consent_revoked: The permission for this connection was withdrawn.\n  \
             Account owner: Reconnect the account in your publishing tool.\n\n\
             rate_limited: The provider asked to be called less often.\n  \
             Nothing: it is tried again by itself.\n"
        );
        assert_eq!(closing(&accounts[3..]), "1 account, 0 in trouble\n");
    }

    #[test]
    fn no_renewal_is_announced_where_none_can_help() {
        let now = Timestamp::from_unix(900);
        assert_eq!(row(&account("a", Some(Cause::ScopeMissing)), now)[3], "in 1m 40s");
        assert_eq!(row(&account("b", Some(Cause::RotationLost)), now)[3], "-");
    }
}
