//! The command line: one file per subcommand, thin shells around the parts.

mod accounts;
mod check;
mod connect;
mod demo;
mod diagnose;
mod gate;
mod import;
mod look;
mod notices;
mod output;
mod refresh;
mod run;
mod web;

use crate::{
    config::Overrides,
    logs,
    terminal::{self, Terminal},
};
use clap::{Parser, Subcommand, ValueEnum};
use output::complain;
use std::{path::PathBuf, process::ExitCode};

/// What a command line may say.
#[derive(Debug, Parser)]
#[command(name = "oauth-keepalive", version, about, long_about = None, max_term_width = 100, after_help = EXIT_CODES)]
pub struct Arguments {
    /// What to do.
    #[command(subcommand)]
    command: Command,
    /// The configuration file; the demo writes its own.
    #[arg(
        long,
        short,
        visible_alias = "config.file",
        global = true,
        default_value = "config.yaml",
        value_name = "FILE",
        help_heading = EVERYWHERE
    )]
    config: PathBuf,
    /// Log this and what is worse: error, warn, info or debug.
    #[arg(
        long = "log.level",
        alias = "log-level",
        global = true,
        value_enum,
        value_name = "LEVEL",
        hide_possible_values = true,
        help_heading = EVERYWHERE
    )]
    log_level: Option<logs::Level>,
    /// How to log: auto, logfmt, json or text.
    #[arg(
        long = "log.format",
        global = true,
        value_enum,
        value_name = "FORMAT",
        hide_possible_values = true,
        help_heading = EVERYWHERE
    )]
    log_format: Option<logs::Format>,
    /// When to colour: auto, always or never.
    #[arg(
        long,
        global = true,
        value_enum,
        default_value_t,
        value_name = "WHEN",
        hide_possible_values = true,
        hide_default_value = true,
        help_heading = EVERYWHERE
    )]
    color: terminal::When,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Keep the accounts of the configured store alive.
    Run(run::Arguments),
    /// Show it all on this machine, with a provider, a publisher and a mailbox of its own.
    Demo(demo::Arguments),
    /// Check configuration, store, state, mail server and clock; changes nothing.
    Check(check::Arguments),
    /// List the accounts, worst first.
    Accounts(accounts::Arguments),
    /// Say what is wrong with an account, why, and what to do: a report for a ticket.
    Diagnose(diagnose::Arguments),
    /// Refresh one account now, whether it is due or not.
    Refresh(refresh::Arguments),
    /// Print a link by which an account's owner connects it again, or connect it here.
    Connect(connect::Arguments),
    /// Publish nothing on an account until it is resumed.
    Hold(gate::Arguments),
    /// Let an account that was held go on, once it is proven.
    Resume(gate::Arguments),
    /// Prove an account now: ask the provider, or wait for one publish.
    Canary(gate::Arguments),
    /// Show the mails that are owed, were sent or failed, or send a test mail.
    Notices(notices::Arguments),
    /// Add accounts from a YAML, JSON or CSV file to the configured store.
    Import(import::Arguments),
}

/// How to print.
#[derive(Debug, clap::Args)]
struct OutputArguments {
    /// A table for people, or JSON for scripts.
    #[arg(long, short, value_enum, default_value_t = Output::Table)]
    output: Output,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Output {
    Table,
    Json,
}

/// How a command ended. The numbers are an API.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Exit {
    /// It worked.
    Done = 0,
    /// It did not: a refresh failed, the demo found something wrong, an account that was diagnosed needs a
    /// person, a mail was given up.
    Failed = 1,
    /// The command line or the configuration is wrong.
    Usage = 2,
    /// Store, state, mail server or a port to listen on cannot be used.
    Unreachable = 3,
    /// Ctrl-C, in work that shows on a terminal how far it has come: what shells say of a command that it ended.
    Interrupted = 130,
}

impl From<Exit> for ExitCode {
    fn from(exit: Exit) -> Self {
        Self::from(exit as u8)
    }
}

/// Runs the command that the command line names and tells how it ended.
#[must_use]
pub fn main() -> Exit {
    let arguments = Arguments::parse();
    terminal::prefer(arguments.color);
    start_log(&arguments);
    crate::http_client::install_crypto();
    let runtime = match tokio::runtime::Builder::new_multi_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => {
            complain(format!("cannot start: {error}"));
            return Exit::Failed;
        }
    };
    let config = arguments.config;
    let exit = runtime.block_on(async move {
        match arguments.command {
            Command::Run(arguments) => run::run(&config, arguments).await,
            Command::Demo(arguments) => demo::run(arguments).await,
            Command::Check(arguments) => watched(check::run(&config, arguments)).await,
            Command::Accounts(arguments) => watched(accounts::run(&config, arguments)).await,
            Command::Diagnose(arguments) => watched(diagnose::run(&config, arguments)).await,
            Command::Refresh(arguments) => refresh::run(&config, arguments).await,
            Command::Connect(arguments) => connect::run(&config, arguments).await,
            Command::Hold(arguments) => gate::run(&config, gate::Wish::Hold, arguments).await,
            Command::Resume(arguments) => gate::run(&config, gate::Wish::Resume, arguments).await,
            Command::Canary(arguments) => gate::run(&config, gate::Wish::Canary, arguments).await,
            Command::Notices(arguments) => notices::run(&config, arguments).await,
            Command::Import(arguments) => watched(import::run(&config, arguments)).await,
        }
    });
    if exit == Exit::Interrupted {
        // A thread that waits for a database would keep whoever pressed Ctrl-C waiting with it.
        runtime.shutdown_background();
    }
    exit
}

/// Long work that ends on Ctrl-C as it always would, but for its line of progress, which would stay on the terminal. Where
/// nobody looks the signal does what it does to every program.
async fn watched(work: impl Future<Output = Exit>) -> Exit {
    if Terminal::stderr().columns().is_none() {
        return work.await;
    }
    tokio::select! {
        exit = work => exit,
        // Dropping the work takes its line away.
        Ok(()) = tokio::signal::ctrl_c() => Exit::Interrupted,
    }
}

/// Logs go to standard error, so that what a command prints can be piped.
fn start_log(arguments: &Arguments) {
    let level = match arguments.command {
        Command::Run(_) => Some(logs::Level::Info),
        // It tells its own story on the same terminal.
        Command::Demo(_) => None,
        _ => Some(logs::Level::Warn),
    };
    logs::start(logs::Flags { level: arguments.log_level, format: arguments.log_format }, level);
}

/// Reads the configuration or says what is wrong with it.
fn load(config: &std::path::Path) -> Result<crate::config::Loaded, Exit> {
    load_under(config, &Overrides::default())
}

/// The same under what the command line says.
fn load_under(
    config: &std::path::Path,
    overrides: &Overrides,
) -> Result<crate::config::Loaded, Exit> {
    crate::config::load_under(config, overrides).map_err(|problems| {
        complain(problems);
        Exit::Usage
    })
}

/// Options that every command takes.
const EVERYWHERE: &str = "Everywhere";

const EXIT_CODES: &str = "\
Exit codes:
  0  done
  1  it did not work: a refresh failed, the demo found something wrong, an
     account that was diagnosed needs a person, a mail was given up
  2  the command line or the configuration is wrong
  3  store, state, mail server or a port to listen on cannot be used
130  Ctrl-C on a terminal, in the middle of long work";
