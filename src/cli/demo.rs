//! `demo`: the real program on a stage of its own.

use super::{Exit, complain};
use std::{net::SocketAddr, path::PathBuf, time::Duration};

/// What a demo may be told.
#[derive(Debug, clap::Args)]
pub(super) struct Arguments {
    /// How many accounts; at least twelve.
    #[arg(long, default_value_t = 12, value_name = "N")]
    accounts: usize,
    /// End by itself after this long, with a verdict; without it, Ctrl-C ends the demo.
    #[arg(long = "for", value_parser = humantime::parse_duration, value_name = "DURATION")]
    run_for: Option<Duration>,
    /// Where metrics and status page are.
    #[arg(long, default_value = "127.0.0.1:8640", value_name = "ADDR")]
    listen: SocketAddr,
    /// Where configuration, store and state go; kept for a second look. A temporary folder otherwise.
    #[arg(long, value_name = "DIR")]
    dir: Option<PathBuf>,
}

pub(super) async fn run(arguments: Arguments) -> Exit {
    let options = crate::demo::Options {
        accounts: arguments.accounts,
        run_for: arguments.run_for,
        listen: arguments.listen,
        directory: arguments.dir,
    };
    match crate::demo::run(options).await {
        Ok(true) => Exit::Done,
        Ok(false) => Exit::Failed,
        Err(problem) => {
            complain(problem);
            Exit::Failed
        }
    }
}
