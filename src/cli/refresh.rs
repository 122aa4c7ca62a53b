//! `refresh ACCOUNT`: one refresh now, in the same order and under the same lease as a running sidecar's. It
//! holds no share: the lease of its one account is enough to keep those who run away from it.

use super::{Exit, Output, complain, load, output};
use crate::{
    app,
    core::{
        AccountId, Timestamp, TokenFacts,
        account::Memory,
        fleet::{Blocked, Finished},
    },
    refresh::app_of,
    state::Role,
    stores::TokenStore,
};
use std::{path::Path, time::Duration};

/// What a refresh must be told.
#[derive(Debug, clap::Args)]
pub(super) struct Arguments {
    /// The account as provider/account, such as tiktok/brand-a.
    #[arg(value_parser = account_id)]
    account: AccountId,
    /// A sentence for people, or JSON for scripts.
    #[arg(long, short, value_enum, default_value_t = Output::Table)]
    output: Output,
}

pub(super) fn account_id(text: &str) -> Result<AccountId, String> {
    AccountId::parse(text)
        .ok_or_else(|| "write it as provider/account, such as tiktok/brand-a".to_owned())
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
    let refresher = &parts.refresher;
    let id = arguments.account;
    // What an earlier run received must not be asked for once more.
    refresher.take_in_spilled().await;
    let stored = match refresher.store.get(&id).await {
        Ok(Some(stored)) => stored,
        Ok(None) => {
            complain(format!("{id} is not in the store; `oauth-keepalive accounts` lists what is"));
            return Exit::Usage;
        }
        Err(error) => {
            complain(error);
            return Exit::Unreachable;
        }
    };
    let apps = refresher.apps.load_full();
    let (Some(app), Some(token)) = (app_of(&apps, &stored), &stored.token) else {
        complain(format!("{id} has no token, or no app is configured for it"));
        return Exit::Failed;
    };
    let facts = refresher.facts(app, token);
    if facts.renewable_by.is_none() {
        complain(format!("{id} has nothing that could renew it; its owner must reconnect it"));
        return Exit::Failed;
    }
    let mut finished = refresher.refresh(&id, facts.token, "asked").await;
    while refresher.held.holds(&id) {
        // The only copy there is would end with this process.
        complain(format!(
            "{id}: neither state nor store takes the new token; make one of them writable and do not end this command"
        ));
        tokio::time::sleep(TRY_AGAIN_AFTER).await;
        finished = refresher.settle(&id, true).await;
    }
    let now = refresher.clock.now();
    if let Finished::Renewed(token) = &finished {
        let memory = healthy(&id, *token, now);
        if let Err(error) = refresher.state.remember(vec![memory]).await {
            complain(error);
        }
    }
    tell(&id, &finished, now, arguments.output)
}

fn healthy(id: &AccountId, token: TokenFacts, now: Timestamp) -> Memory {
    Memory {
        id: id.clone(),
        token: Some(token),
        last_refresh_at: Some(now),
        cause: None,
        cause_since: None,
        told: None,
        told_since: None,
        failed_in_a_row: 0,
        not_before: None,
        first_seen_at: None,
        door: None,
        left: None,
    }
}

fn tell(id: &AccountId, finished: &Finished, now: Timestamp, output: Output) -> Exit {
    let (exit, word, sentence) = match finished {
        Finished::Renewed(token) => {
            let ends = token.expires_at.map_or_else(String::new, |at| {
                format!("; the new access token ends {}", output::from_now(now, at))
            });
            (Exit::Done, "renewed", format!("refreshed, saved and read back{ends}"))
        }
        Finished::Adopted(_) => (
            Exit::Done,
            "adopted",
            "somebody else put a newer token into the store in the meantime; it was left alone".to_owned(),
        ),
        Finished::Restored(_) => (
            Exit::Done,
            "restored",
            "somebody had written a spent token back; the newest one is in the store again, and nothing was spent".to_owned(),
        ),
        Finished::Shared(_) => (
            Exit::Done,
            "shared",
            "it shares a credential that was refreshed for another account; its row has the new token too".to_owned(),
        ),
        Finished::Unsaved(_) => (
            Exit::Unreachable,
            "unsaved",
            "a new token was received and the store did not take it; it is kept in the journal, and `run` saves it".to_owned(),
        ),
        Finished::Dead(evidence)
        | Finished::KnownDead(evidence)
        | Finished::WrongAccount(evidence)
        | Finished::NotCommitted(evidence) => (
            Exit::Failed,
            evidence.cause.as_label(),
            format!("{} {}", evidence.cause.sentence(), evidence.cause.next_step()),
        ),
        Finished::Ambiguous { .. } => (
            Exit::Failed,
            "ambiguous",
            "nobody knows whether the provider spent the refresh token; `run`, or this command a little later, settles it with one probe".to_owned(),
        ),
        Finished::Blocked(Blocked::LeaseHeld) => (
            Exit::Failed,
            "lease_held",
            "another process is refreshing this account right now".to_owned(),
        ),
        Finished::Blocked(Blocked::RowDamaged) => (
            Exit::Failed,
            "row_damaged",
            "its row in the token store cannot be read; `oauth-keepalive check` names the place".to_owned(),
        ),
        Finished::Blocked(Blocked::ProviderSilent) => (
            Exit::Failed,
            "provider_silent",
            "an earlier request's outcome is unknown and the provider does not answer; its one probe is kept until it does".to_owned(),
        ),
        Finished::Blocked(Blocked::NoCredentials) => (
            Exit::Usage,
            "no_credentials",
            "the app's secret cannot be read; `oauth-keepalive check` says why".to_owned(),
        ),
        Finished::Blocked(Blocked::StoreDown | Blocked::StateDown) => (
            Exit::Unreachable,
            "store_unreachable",
            "store or state cannot be written, so nothing was spent".to_owned(),
        ),
        Finished::NoToken => (Exit::Failed, "no_token", "its token was taken out of the store".to_owned()),
        Finished::Gone => (Exit::Failed, "gone", "it is not in the store any more".to_owned()),
    };
    match output {
        Output::Table => output::say(&format!("{id}: {sentence}")),
        Output::Json => output::print_json(
            &serde_json::json!({"provider": &*id.provider, "account": &*id.account, "result": word}),
        ),
    }
    exit
}

/// Between two attempts to put a token that is held in memory only somewhere.
const TRY_AGAIN_AFTER: Duration = Duration::from_secs(2);
