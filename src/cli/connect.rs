//! `connect ACCOUNT`: a link for the account's owner, or, with `--here`, the whole way on this machine.

use super::{Exit, Output, complain, load, output, refresh::account_id};
use crate::{
    app::{self, Parts},
    config::Settings,
    connect::{Query, Way, here::Here},
    core::{
        AccountId, Secret,
        connecting::{Arrival, Arrived, Turn, Wrong},
    },
    refresh::{App, Connected, app_of},
    server::{
        connect::closing_page,
        listener::{self, Limits},
    },
    state::Role,
    stores::{self, TokenStore},
};
use reqwest::Url;
use std::{net::SocketAddr, path::Path, sync::Arc, time::Duration};
use tokio::{
    net::{TcpListener, TcpStream},
    sync::{mpsc, oneshot, watch},
    time::timeout,
};

/// What it must be told.
#[derive(Debug, clap::Args)]
pub(super) struct Arguments {
    /// The account as provider/account, such as tiktok/brand-a.
    #[arg(value_parser = account_id)]
    account: AccountId,
    /// Go the whole way on this machine, in its browser: for a first connection, which adds the account to the
    /// store, and where owners have no listener.
    #[arg(long)]
    here: bool,
    /// Where the browser comes back to on this machine, as it is registered at the provider; the app's
    /// `redirect_uri` unless said otherwise. Port 0 takes any, where the provider does too.
    #[arg(long, value_name = "URI", requires = "here")]
    redirect_uri: Option<String>,
    /// The app of an account that is not in the store yet; the provider's default unless said otherwise.
    #[arg(long, value_name = "NAME", requires = "here")]
    app: Option<String>,
    /// How long to wait for the browser to come back.
    #[arg(long, value_name = "SPAN", default_value = "10m", value_parser = humantime::parse_duration, requires = "here")]
    wait: Duration,
    /// A sentence for people, or JSON for scripts.
    #[arg(long, short, value_enum, default_value_t = Output::Table)]
    output: Output,
}

pub(super) async fn run(config: &Path, arguments: Arguments) -> Exit {
    let loaded = match load(config) {
        Ok(loaded) => loaded,
        Err(exit) => return exit,
    };
    let settings = loaded.settings;
    if arguments.here
        && let Err(error) = stores::create(&settings.store).await
    {
        complain(error);
        return Exit::Unreachable;
    }
    let parts = match app::open(settings, Role::Guest).await {
        Ok(parts) => parts,
        Err(problem) => {
            complain(problem);
            return Exit::Unreachable;
        }
    };
    let done = match arguments.here {
        true => here(&parts, &arguments).await,
        false => link(&parts, &arguments).await,
    };
    done.unwrap_or_else(|(exit, problem)| {
        complain(problem);
        exit
    })
}

/// How it ended, or how and why it could not begin.
type Done = Result<Exit, (Exit, String)>;

fn usage<T>(problem: impl Into<String>) -> Result<T, (Exit, String)> {
    Err((Exit::Usage, problem.into()))
}

/// Prints a link, which the sidecar that runs will answer.
async fn link(parts: &Parts, arguments: &Arguments) -> Done {
    let Parts { settings, refresher, .. } = parts;
    let id = &arguments.account;
    let Some(connect) = &settings.server.connect else {
        return usage(
            "there is no listener for owners; switch on `connect` in the configuration, or go the way here with --here",
        );
    };
    if connect.external_url.is_none() && connect.listen.port() == 0 {
        return usage(
            "nobody knows the port on which owners are heard; write connect.external_url",
        );
    }
    let stored = match refresher.store.get(id).await {
        Ok(Some(stored)) => stored,
        Ok(None) => {
            return usage(format!(
                "{id} is not in the store; `connect {id} --here` connects it for the first time"
            ));
        }
        Err(error) => return Err((Exit::Unreachable, error.to_string())),
    };
    let apps = refresher.apps.load_full();
    let Some(app) = app_of(&apps, &stored) else {
        return usage(format!("no app is configured for {id}"));
    };
    if let Some(instead) = app.provider.instead_of_consent() {
        return usage(format!("{id}: {instead}"));
    }
    let base = connect.base(connect.listen);
    if !app::ways_below(settings, &base).contains_key(&app.name) {
        return usage(format!(
            "{id}: no link leads to its consent page; `oauth-keepalive check` says what its app {} lacks",
            app.name
        ));
    }
    if !answers(connect.listen).await {
        complain(format!(
            "nobody answers at {}: the link works as soon as the sidecar runs",
            connect.listen
        ));
    }
    let now = refresher.clock.now();
    let url = app::links_of(connect, connect.listen, refresher).mint(id, now);
    let ends_at = now.plus(connect.link_life);
    match arguments.output {
        Output::Table => {
            output::print(&format!("{url}\n"));
            output::remark(&format!(
                "for the owner of {id}; it works once, and ends {}. Whoever has it may connect this account.",
                output::from_now(now, ends_at)
            ));
        }
        Output::Json => output::print_json(&serde_json::json!({
            "provider": &*id.provider, "account": &*id.account, "url": url,
            "ends_at": ends_at.as_unix(),
        })),
    }
    Ok(Exit::Done)
}

/// Whether somebody listens there; of a port that the system chooses nobody knows.
async fn answers(listen: SocketAddr) -> bool {
    let ip = match listen.ip() {
        ip if ip.is_unspecified() => std::net::Ipv4Addr::LOCALHOST.into(),
        ip => ip,
    };
    let connected = timeout(ANSWERED_WITHIN, TcpStream::connect((ip, listen.port()))).await;
    listen.port() == 0 || connected.is_ok_and(|connected| connected.is_ok())
}

/// The whole way in this machine's browser.
async fn here(parts: &Parts, arguments: &Arguments) -> Done {
    let Parts { settings, refresher, .. } = parts;
    let id = &arguments.account;
    // What an earlier run received must not be asked for once more.
    refresher.take_in_spilled().await;
    let app = app_for(parts, arguments).await?;
    if let Some(instead) = app.provider.instead_of_consent() {
        return usage(format!("{id}: {instead}"));
    }
    match refresher.add_received(id, &app).await {
        Some(Connected::Saved { .. }) => {
            let says = "an earlier consent was waiting for the store, and is saved now";
            return Ok(tell(id, "connected", says, arguments.output, Exit::Done));
        }
        Some(Connected::Later) => {
            let problem =
                format!("{id}: the store still does not take what an earlier consent brought");
            return Err((Exit::Unreachable, problem));
        }
        _ => {}
    }
    let (listener, way) = way_back(settings, &app, arguments).await?;
    let path = Url::parse(&way.redirect_uri).map(|url| url.path().to_owned()).unwrap_or_default();
    let here = Here::begin(id, &app, way)
        .map_err(|turn| (Exit::Usage, format!("{id}: {}", turn.sentence())))?;
    match arguments.output {
        Output::Table => {
            output::say(&format!(
                "Open this in a browser on this machine, signed in to {}:",
                id.account
            ));
            output::print(&format!("{}\n", here.url));
        }
        Output::Json => output::print_json(&serde_json::json!({ "authorize_url": here.url })),
    }
    let (stop, stopped) = watch::channel(false);
    let (comes, mut come) = mpsc::channel(COMING_MAX);
    let handler = move |request| hear(request, path.clone(), comes.clone());
    let limits = Limits::with_connections(CONNECTIONS_MAX);
    let serving = tokio::spawn(listener::run(listener, limits, handler, stopped));
    let arrived = timeout(arguments.wait, awaited(&here, &mut come)).await;
    let ended = match arrived {
        Ok(Some((query, answer))) => {
            let keyed = settings.server.connect.as_ref();
            let key_is_subject = keyed.is_some_and(|connect| connect.keys_are_subjects);
            let arrived = here.arrive(refresher, &query, key_is_subject).await;
            drop(query);
            hold_on(parts, id).await;
            let _ = answer.send(arrived.clone());
            Ok(told(id, &arrived, arguments.output))
        }
        _ => {
            let waited = humantime::format_duration(arguments.wait);
            Err((
                Exit::Failed,
                format!("{id}: nobody came back within {waited}; nothing was changed"),
            ))
        }
    };
    // The page that says how it went is on its way.
    stop.send_replace(true);
    let _ = serving.await;
    ended
}

/// The app that is asked for: of an account that is there its own, of a new one the default.
async fn app_for(parts: &Parts, arguments: &Arguments) -> Result<Arc<App>, (Exit, String)> {
    let id = &arguments.account;
    let apps = parts.refresher.apps.load_full();
    let stored = parts.refresher.store.get(id).await;
    let stored = stored.map_err(|error| (Exit::Unreachable, error.to_string()))?;
    if let Some(stored) = stored {
        let app = app_of(&apps, &stored).cloned();
        return app.ok_or_else(|| (Exit::Usage, format!("no app is configured for {id}")));
    }
    let fits = |app: &&Arc<App>| *app.provider.name == *id.provider;
    let named = match &arguments.app {
        Some(name) => apps.get(name.as_str()).filter(fits),
        None => apps.values().filter(fits).find(|app| app.is_default),
    };
    named.cloned().ok_or_else(|| {
        let problem =
            format!("no app is configured for {id}; name one of its provider's with --app");
        (Exit::Usage, problem)
    })
}

/// A port on this machine, and how it is called at the provider.
async fn way_back(
    settings: &Settings,
    app: &App,
    arguments: &Arguments,
) -> Result<(TcpListener, Way), (Exit, String)> {
    let own = settings.apps.iter().find(|own| own.name == *app.name);
    let kind = own.map(|own| own.kind).unwrap_or_default();
    let uri = arguments.redirect_uri.clone().or_else(|| own?.redirect_uri.clone());
    let Some(uri) = uri else {
        return usage(format!("the app {} has no redirect_uri; {LOOPBACK}", app.name));
    };
    let url =
        Url::parse(&uri).map_err(|_| (Exit::Usage, format!("{uri} is no URL; {LOOPBACK}")))?;
    let host = url.host_str().unwrap_or_default().trim_matches(['[', ']']);
    let ip = match host {
        "localhost" => Some(std::net::Ipv4Addr::LOCALHOST.into()),
        host => host.parse::<std::net::IpAddr>().ok().filter(|ip| ip.is_loopback()),
    };
    let (Some(ip), "http", Some(port)) = (ip, url.scheme(), url.port_or_known_default()) else {
        return usage(format!("{uri} does not lead to this machine; {LOOPBACK}"));
    };
    let any_port = port == 0 && app.provider.takes_any_loopback_port(kind);
    if port == 0 && !any_port {
        return usage(format!(
            "{uri}: {} wants the very port that is registered",
            app.provider.title
        ));
    }
    let listener = TcpListener::bind((ip, port))
        .await
        .map_err(|error| (Exit::Unreachable, format!("cannot listen at {uri}: {error}")))?;
    let bound = listener.local_addr().map_or(port, |address| address.port());
    let redirect_uri = match any_port {
        true => uri.replacen(":0", &format!(":{bound}"), 1),
        false => uri,
    };
    if let Some(fault) = app.provider.redirect_faults(kind, &redirect_uri).first() {
        return usage(format!("{redirect_uri} {fault}"));
    }
    Ok((listener, Way { kind, redirect_uri }))
}

/// What somebody came back with, and where the browser hears how it went.
type Coming = (Query, oneshot::Sender<Result<Arrived, Wrong>>);

/// Answers the browser when it is known how it went.
async fn hear(
    request: hyper::Request<hyper::body::Incoming>,
    path: String,
    comes: mpsc::Sender<Coming>,
) -> crate::server::answer::Answer {
    if request.uri().path() != path || request.method() != hyper::Method::GET {
        return crate::server::answer::not_found();
    }
    let query = Secret::new(request.uri().query().unwrap_or_default().to_owned());
    let (answer, answered) = oneshot::channel();
    let unexpected = Err(Wrong::turn(Turn::WrongState));
    if comes.try_send((Query::read(query.expose()), answer)).is_err() {
        return closing_page(&unexpected);
    }
    let arrived = answered.await.unwrap_or(unexpected);
    closing_page(&arrived)
}

/// The first who comes back with what we sent them away with; all others are told that they were not expected.
async fn awaited(here: &Here, come: &mut mpsc::Receiver<Coming>) -> Option<Coming> {
    while let Some((query, answer)) = come.recv().await {
        if here.is_awaited(&query) {
            return Some((query, answer));
        }
        let _ = answer.send(Err(Wrong::turn(Turn::WrongState)));
    }
    None
}

/// While it is held in memory only, the only copy there is would end with this process.
async fn hold_on(parts: &Parts, id: &AccountId) {
    while parts.refresher.held.holds(id) {
        complain(format!(
            "{id}: our state does not take the new token; make it writable and do not end this command"
        ));
        tokio::time::sleep(TRY_AGAIN_AFTER).await;
        parts.refresher.journal_held().await;
    }
}

fn told(id: &AccountId, arrived: &Result<Arrived, Wrong>, output: Output) -> Exit {
    match arrived {
        Ok(Arrived { arrival: Arrival::Saved, is_proven, is_held, .. }) => {
            let says = match is_proven {
                true => "connected; the new token is in the store and was read back",
                false => {
                    "connected; the new token is in the store, and nobody could tell whose it is: look at the account once"
                }
            };
            let held = match is_held {
                true => format!(
                    "; it is still held by hand, and `oauth-keepalive resume {id}` lets it go on"
                ),
                false => String::new(),
            };
            tell(id, Arrival::Saved.as_label(), &format!("{says}{held}"), output, Exit::Done)
        }
        Ok(Arrived { arrival, .. }) => {
            let says = "the new token is in the journal and the store did not take it; `run` saves it, and so does this command when it is given again";
            tell(id, arrival.as_label(), says, output, Exit::Unreachable)
        }
        Err(Wrong { turn, missing, .. }) => {
            let exit = match turn {
                Turn::Unavailable => Exit::Unreachable,
                _ => Exit::Failed,
            };
            let missing = match missing[..] {
                [] => String::new(),
                _ => format!(" Not granted: {}.", missing.join(", ")),
            };
            let says = format!("{}{missing} {}", turn.sentence(), turn.next_step());
            tell(id, turn.as_label(), &says, output, exit)
        }
    }
}

fn tell(id: &AccountId, word: &str, says: &str, output: Output, exit: Exit) -> Exit {
    match output {
        Output::Table => output::say(&format!("{id}: {says}")),
        Output::Json => output::print_json(
            &serde_json::json!({"provider": &*id.provider, "account": &*id.account, "result": word}),
        ),
    }
    exit
}

const LOOPBACK: &str = "register one on this machine at the provider, such as http://127.0.0.1:8643/connect/callback, and give it with --redirect-uri";

/// How long the sidecar's listener may take to answer.
const ANSWERED_WITHIN: Duration = Duration::from_secs(2);

/// Browsers that may come back at a time, and connections of theirs.
const COMING_MAX: usize = 8;
const CONNECTIONS_MAX: usize = 16;

/// Between two attempts to put a token that is held in memory only somewhere.
const TRY_AGAIN_AFTER: Duration = Duration::from_secs(2);
