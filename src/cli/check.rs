//! `check`: configuration, store, state, mail server, providers and clock. Changes nothing.

use super::{Exit, Output, OutputArguments, load_under, output, web};
use crate::{
    app,
    clock::Clock,
    config::Settings,
    core::timeline::Dated,
    delivery::smtp,
    http_client::HttpClient,
    oauth::{Body, Exchange, Fingerprinter, Method, Request},
    observe,
    refresh::{Apps, app_of},
    state::{State, spill},
    stores::{self, AnyStore, TokenStore},
    terminal::{
        Terminal, Tone,
        progress::Progress,
        text::{shown, wrapped},
    },
};
use std::{collections::BTreeSet, path::Path, time::Instant};

/// One thing that was looked at.
struct Finding {
    what: String,
    verdict: Verdict,
    says: String,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Verdict {
    Ok,
    Warning,
    Wrong,
}

impl Verdict {
    const fn as_label(self) -> &'static str {
        match self {
            Self::Ok => "ok",
            Self::Warning => "warning",
            Self::Wrong => "wrong",
        }
    }
}

/// What a check may be told.
#[derive(Debug, clap::Args)]
pub(super) struct Arguments {
    #[command(flatten)]
    output: OutputArguments,
    #[command(flatten)]
    web: web::Listening,
}

pub(super) async fn run(config: &Path, arguments: Arguments) -> Exit {
    let loaded = match load_under(config, &arguments.web.into()) {
        Ok(loaded) => loaded,
        Err(exit) => return exit,
    };
    let mut findings =
        vec![finding("configuration", Ok(format!("{} can be used", config.display())))];
    let warnings = loaded.warnings.iter().map(ToString::to_string);
    findings.extend(warnings.map(|says| Finding {
        what: "configuration".to_owned(),
        verdict: Verdict::Warning,
        says,
    }));
    let settings = loaded.settings;
    let apps = app::apps_of(&settings);
    findings.extend(web(&settings));
    findings.extend(secrets(&apps));
    findings.extend(store(&settings, &apps).await);
    findings.extend(logs(&settings));
    let state = State::examine(&settings.state).await;
    findings.push(finding("state", state.map_err(|error| error.to_string())));
    if settings.is_one_database() {
        findings.push(finding("state", Ok(app::ONE_DATABASE.to_owned())));
    }
    findings.push(spill(&settings));
    findings.extend(consent(&settings));
    findings.push(mail(&settings).await);
    findings.extend(clock(&settings, &apps).await);
    show(&findings, arguments.output.output);
    let wrong = findings.iter().any(|finding| finding.verdict == Verdict::Wrong);
    if wrong { Exit::Unreachable } else { Exit::Done }
}

/// It was read with the configuration.
fn web(settings: &Settings) -> Option<Finding> {
    let web = settings.server.web.as_ref()?;
    let tls = if web.tls.is_some() { "TLS" } else { "no TLS" };
    let users = if web.users.is_empty() { "no users" } else { "users" };
    Some(finding(
        "web configuration",
        Ok(format!("{} can be used: {tls}, {users}", web.file.display())),
    ))
}

fn finding(what: &str, result: Result<String, String>) -> Finding {
    let (verdict, says) = match result {
        Ok(says) => (Verdict::Ok, says),
        Err(says) => (Verdict::Wrong, says),
    };
    Finding { what: what.to_owned(), verdict, says }
}

fn secrets(apps: &Apps) -> Vec<Finding> {
    let of_app = |app: &std::sync::Arc<crate::refresh::App>| {
        let result = app.credentials().map(|_| "its credentials can be read".to_owned());
        finding(&format!("app {}", app.name), result.map_err(|error| error.to_string()))
    };
    apps.values().map(of_app).collect()
}

async fn store(settings: &Settings, apps: &Apps) -> Vec<Finding> {
    let store = match AnyStore::open(&settings.store, Fingerprinter::new(b"check")).await {
        Ok(store) => store,
        Err(error) => return vec![finding("store", Err(error.to_string()))],
    };
    let mut findings = vec![finding("store", accounts(&store, settings, apps).await)];
    let warnings = store.warnings().await.unwrap_or_default();
    findings.extend(warnings.into_iter().map(|says| Finding {
        what: "store".to_owned(),
        verdict: Verdict::Warning,
        says,
    }));
    let questions = observe::examine(&settings.observe, &store).await;
    findings.extend(questions.into_iter().map(|(what, result)| finding(what, result)));
    findings
}

/// A log may appear later; one that is there must be readable.
fn logs(settings: &Settings) -> impl Iterator<Item = Finding> + '_ {
    settings.observe.logs.iter().map(|log| {
        let (path, what) = (log.path.display(), format!("log {}", log.name));
        let (verdict, says) = match std::fs::File::open(&log.path) {
            Ok(_) => (Verdict::Ok, format!("{path} can be read")),
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
                (Verdict::Warning, format!("{path} is not there yet"))
            }
            Err(error) => (Verdict::Wrong, format!("{path} cannot be read: {}", error.kind())),
        };
        Finding { what, verdict, says }
    })
}

async fn accounts(store: &AnyStore, settings: &Settings, apps: &Apps) -> Result<String, String> {
    let say = |error: stores::Error| error.to_string();
    store.probe().await.map_err(say)?;
    let (mut accounts, mut homeless) = (0_usize, 0_usize);
    let mut damaged = Vec::new();
    let mut progress = Progress::begin("reading accounts", None);
    let each = |stored: stores::StoredAccount| {
        accounts += 1;
        progress.reach(accounts);
        homeless += usize::from(stored.enabled && app_of(apps, &stored).is_none());
    };
    store.load(each, |error| damaged.push(error.to_string())).await.map_err(say)?;
    drop(progress);
    let place = stores::place_of(&settings.store);
    if let Some(first) = damaged.first() {
        return Err(format!(
            "{} of its accounts cannot be read; the first: {first}",
            damaged.len()
        ));
    }
    if homeless > 0 {
        return Err(format!(
            "{homeless} of {accounts} accounts belong to no configured app; add their app under `apps`"
        ));
    }
    Ok(format!("{place}: {accounts} accounts, readable and writable"))
}

/// What must stand in each provider's portal, so that people can come back.
fn consent(settings: &Settings) -> Vec<Finding> {
    let of_app = |app: &crate::config::App| {
        let provider = settings.provider_of(app)?;
        let uri = app.redirect_uri.clone().or_else(|| settings.expected_redirect(app))?;
        let says = match provider.instead_of_consent() {
            Some(sentence) => sentence.to_owned(),
            None => format!(
                "people come back to {uri} : register it at {}, character for character",
                provider.title
            ),
        };
        Some(finding(&format!("connect {}", app.name), Ok(says)))
    };
    settings.apps.iter().filter_map(of_app).collect()
}

/// Never wrong: it is the place for the day on which everything else is.
fn spill(settings: &Settings) -> Finding {
    let (verdict, says) = match spill::examine(&settings.state) {
        Ok(says) => (Verdict::Ok, says),
        Err(says) => (Verdict::Warning, says),
    };
    Finding { what: "spill".to_owned(), verdict, says }
}

async fn mail(settings: &Settings) -> Finding {
    let Some(server) = &settings.delivery.smtp else {
        return Finding {
            what: "mail".to_owned(),
            verdict: Verdict::Warning,
            says: "switched off: owners will not hear when an account needs them".to_owned(),
        };
    };
    let place = format!("{}:{}", server.host, server.port);
    let result = smtp::check(server).await;
    finding(
        "mail",
        result.map(|()| format!("{place} accepts us")).map_err(|says| format!("{place}: {says}")),
    )
}

/// Asks each provider for its `Date` header, with a request that carries nothing.
async fn clock(settings: &Settings, apps: &Apps) -> Vec<Finding> {
    let client = match HttpClient::new(&settings.http) {
        Ok(client) => client,
        Err(error) => return vec![finding("http", Err(error.to_string()))],
    };
    let clock = Clock::start();
    let mut asked = BTreeSet::new();
    let mut findings = Vec::new();
    for app in apps.values() {
        let Some(endpoint) = app.provider.token_endpoint(&app.endpoints).map(str::to_owned) else {
            continue;
        };
        if !asked.insert(endpoint.clone()) {
            continue;
        }
        let request = Request {
            method: Method::Get,
            endpoint,
            query: Vec::new(),
            headers: Vec::new(),
            body: Body::Empty,
        };
        let what = format!("clock against {}", app.provider.name);
        let provider = &app.provider.name.as_str().into();
        let began = Instant::now();
        let (verdict, says) = match client.send(&app.name, request).await {
            Exchange::Answered(answer) => match answer.date {
                Some(date) => {
                    let round_trip = began.elapsed();
                    judge(clock.observe(Dated { provider, date, round_trip }))
                }
                None => (Verdict::Warning, "it sends no Date header".to_owned()),
            },
            Exchange::NotSent(trouble) | Exchange::Lost(trouble) => {
                (Verdict::Warning, format!("it cannot be reached: {}", trouble.as_label()))
            }
        };
        findings.push(Finding { what, verdict, says });
    }
    findings
}

fn judge(ahead: i64) -> (Verdict, String) {
    if ahead.abs() <= CLOCK_AGREES_SECONDS_MAX {
        return (Verdict::Ok, format!("differs by {} s", ahead.abs()));
    }
    let way = if ahead > 0 { "behind" } else { "ahead of" };
    let says = format!("this machine is {} s {way} it; correct the machine's clock", ahead.abs());
    (Verdict::Wrong, says)
}

/// A `Date` header has whole seconds and is as old as its answer.
const CLOCK_AGREES_SECONDS_MAX: i64 = 30;

fn show(findings: &[Finding], output: Output) {
    match output {
        Output::Table => output::print(&as_text(findings, Terminal::stdout())),
        Output::Json => {
            let list: Vec<_> = findings
                .iter()
                .map(|one| {
                    serde_json::json!({
                        "what": one.what, "verdict": one.verdict.as_label(), "says": one.says,
                    })
                })
                .collect();
            output::print_json(&list.into());
        }
    }
}

fn as_text(findings: &[Finding], terminal: Terminal) -> String {
    let mut text = String::new();
    for Finding { what, verdict, says } in findings {
        let label = verdict.as_label();
        let line = format!("{what}: {says}");
        let line = match terminal.prose_columns() {
            Some(columns) => wrapped(&format!("{label:<8} "), &line, columns),
            None => format!("{label:<8} {}\n", shown(&line)),
        };
        let tone = match verdict {
            Verdict::Ok => Tone::Good,
            Verdict::Warning => Tone::Doubtful,
            Verdict::Wrong => Tone::Bad,
        };
        text += &line.replacen(label, &terminal.paint(tone, label), 1);
    }
    text
}
