//! `diagnose`: what is wrong with an account, on what evidence, what was ruled out, and what to do next.
//!
//! It reads configuration, store and state and calls nobody: what it says is what is known already. The JSON
//! form is described in `docs/diagnose.md` and is an API.

use super::{
    Exit, Output, complain, load,
    look::{Looked, look, worst_first},
    output::print,
    refresh::account_id,
};
use crate::{
    app::{self, Parts},
    core::{
        Account, AccountId, Timestamp,
        cause::Actor,
        diagnose::{Diagnosis, Tally, diagnose},
    },
    providers::Environment,
    refresh::{App, app_of},
    state::Role,
    stores::TokenStore,
    terminal::Terminal,
};
use std::{path::Path, sync::Arc};

mod json;
mod report;

/// What to diagnose.
#[derive(Debug, clap::Args)]
#[command(group(clap::ArgGroup::new("what").required(true).args(["account", "all", "app"])))]
pub(super) struct Arguments {
    /// The account as provider/account, such as tiktok/brand-a.
    #[arg(value_parser = account_id)]
    account: Option<AccountId>,
    /// Every account that is not well.
    #[arg(long)]
    all: bool,
    /// Every account of this app that is not well, and the app itself.
    #[arg(long, value_name = "NAME")]
    app: Option<String>,
    /// A report for people, or JSON for scripts.
    #[arg(long, short, value_enum, default_value_t = Output::Table)]
    output: Output,
}

/// One account, diagnosed.
struct Found<'a> {
    account: &'a Account,
    app: Option<Arc<App>>,
    diagnosis: Diagnosis,
    /// As the store has them; `None` where it does not say.
    granted: Option<&'a [String]>,
}

/// One app, as its accounts show it.
struct FoundApp {
    app: Arc<App>,
    accounts: usize,
    well: usize,
    last_refresh_at: Option<Timestamp>,
    /// Why its secret cannot be read, if it cannot.
    secret_trouble: Option<String>,
}

pub(super) async fn run(config: &Path, arguments: Arguments) -> Exit {
    let loaded = match load(config) {
        Ok(loaded) => loaded,
        Err(exit) => return exit,
    };
    let parts = match app::open(loaded.settings, Role::Guest).await {
        Ok(parts) => parts,
        Err(problem) => {
            complain(format!("nothing can be diagnosed: {problem}"));
            return Exit::Unreachable;
        }
    };
    if let Some(name) = &arguments.app
        && !parts.refresher.apps.load().contains_key(name.as_str())
    {
        complain(format!("{name}: no app of this name is configured; `apps` names them"));
        return Exit::Usage;
    }
    let now = parts.refresher.clock.now();
    let wanted = arguments.account.clone();
    let wants =
        |stored: &crate::stores::StoredAccount| wanted.as_ref().is_none_or(|id| stored.id == *id);
    let looked = match look(&parts, now, wants).await {
        Ok(looked) => looked,
        Err(problem) => {
            complain(format!("nothing can be diagnosed: {problem}"));
            return Exit::Unreachable;
        }
    };
    let exit = match &arguments.account {
        Some(id) if looked.snapshot.accounts.find(id).is_none() => absent(&parts, id).await,
        _ => tell(&parts, &looked, &arguments, now),
    };
    looked.damaged.iter().for_each(complain);
    exit
}

/// Why an account that was asked for is not among those that are kept alive.
async fn absent(parts: &Parts, id: &AccountId) -> Exit {
    let stored = match parts.refresher.store.get(id).await {
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
    let apps = parts.refresher.apps.load();
    match app_of(&apps, &stored) {
        _ if !stored.enabled => {
            complain(format!("{id} is switched off in the store; nothing is done for it"));
        }
        None => complain(format!(
            "{id}: no app of this provider is configured for it; add one under `apps`, or name it in the store's app column"
        )),
        Some(_) => complain(format!("{id}: its row in the store cannot be read")),
    }
    Exit::Failed
}

fn tell(parts: &Parts, looked: &Looked, arguments: &Arguments, now: Timestamp) -> Exit {
    let found = find(parts, looked, arguments, now);
    let apps = match &arguments.app {
        Some(name) => find_app(parts, looked, name).into_iter().collect(),
        None => Vec::new(),
    };
    let text = match arguments.output {
        Output::Table => {
            let mut report = report::Report::new(Terminal::stdout(), now);
            apps.iter().for_each(|app| report.app(app));
            found.iter().for_each(|found| report.account(found));
            if arguments.account.is_none() {
                let accounts =
                    apps.first().map_or(looked.snapshot.accounts.len(), |app| app.accounts);
                report.closing(&found, accounts);
            }
            report.text
        }
        Output::Json => json::all(&apps, &found, now).to_string() + "\n",
    };
    print(&text);
    let needs_somebody = |found: &Found<'_>| found.diagnosis.step.actor() != Actor::Nobody;
    let secret_is_away = apps.iter().any(|app| app.secret_trouble.is_some());
    if secret_is_away || found.iter().any(needs_somebody) { Exit::Failed } else { Exit::Done }
}

/// Whoever was asked for; of several, those that are not well.
fn find<'a>(
    parts: &Parts,
    looked: &'a Looked,
    arguments: &Arguments,
    now: Timestamp,
) -> Vec<Found<'a>> {
    let tally = Tally::of(&looked.snapshot);
    let apps = parts.refresher.apps.load();
    let is_meant = |account: &&Account| match (&arguments.account, &arguments.app) {
        (Some(id), _) => account.id == *id,
        (None, Some(app)) => *account.app == **app,
        (None, None) => true,
    };
    let accounts = looked.snapshot.accounts.iter().filter(is_meant);
    let found = worst_first(accounts).into_iter().map(|account| {
        let mut case = tally.case(&looked.snapshot, account, now);
        let granted = looked.granted.get(&account.id).and_then(Option::as_deref);
        case.scopes_known |= granted.is_some();
        let diagnosis = diagnose(&case);
        Found { account, app: apps.get(&account.app).cloned(), diagnosis, granted }
    });
    let is_told =
        |found: &Found<'_>| arguments.account.is_some() || found.diagnosis.cause.is_some();
    found.filter(is_told).collect()
}

fn find_app(parts: &Parts, looked: &Looked, name: &str) -> Option<FoundApp> {
    let app = Arc::clone(parts.refresher.apps.load().get(name)?);
    let accounts: Vec<&Account> =
        looked.snapshot.accounts.iter().filter(|account| *account.app == *name).collect();
    Some(FoundApp {
        accounts: accounts.len(),
        well: accounts.iter().filter(|account| account.cause.is_none()).count(),
        last_refresh_at: accounts.iter().filter_map(|account| account.last_refresh_at).max(),
        secret_trouble: app.credentials().err().map(|error| error.to_string()),
        app,
    })
}

const fn environment(app: &App) -> &'static str {
    match app.provider.environment {
        Environment::Production => "production",
        Environment::Sandbox => "sandbox",
    }
}

/// The word before what is to be done; nobody needs none.
const fn who(actor: Actor) -> Option<&'static str> {
    match actor {
        Actor::Nobody => None,
        Actor::Owner => Some("Account owner"),
        Actor::Operator => Some("You"),
    }
}
