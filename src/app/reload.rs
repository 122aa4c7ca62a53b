//! The configuration, read again while the program runs.

use super::{Proofs, apps_of, policy_apps, policy_of, publisher, ways_below, webhooks};
use crate::{
    config::{self, Overrides, Settings},
    connect::Ways,
    core::{Event, fleet::Input},
    delivery,
    http_client::HttpClient,
    logs,
    metrics::events::Metrics,
    refresh::{Apps, Refresher},
    server::{
        ConfigState, ReloadRequest,
        web_config::{self, InForce, Web},
    },
    stores::AnyStore,
};
use arc_swap::ArcSwap;
use std::{
    collections::BTreeSet,
    path::{Path, PathBuf},
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
};
use tokio::{
    signal::unix::Signal,
    sync::{Notify, mpsc, watch},
};

/// Reads the configuration again when its file changes, on SIGHUP and on request.
pub(super) struct Reloader {
    pub(super) path: PathBuf,
    /// What the command line says, at each reading.
    pub(super) overrides: Overrides,
    /// What is in force; a file that cannot be used changes nothing.
    pub(super) in_force: Settings,
    pub(super) web: Arc<Web>,
    /// Files in which something was wrong at the last reading.
    pub(super) wrong: BTreeSet<PathBuf>,
    pub(super) refresher: Arc<Refresher<AnyStore, ArcSwap<HttpClient>>>,
    pub(super) client: Arc<ArcSwap<HttpClient>>,
    pub(super) delivery: watch::Sender<Arc<delivery::Settings>>,
    pub(super) per_account: Arc<AtomicBool>,
    pub(super) metrics: Metrics,
    pub(super) inputs: mpsc::Sender<Input>,
    pub(super) load_again: Arc<Notify>,
    pub(super) config_state: Arc<ArcSwap<ConfigState>>,
    /// How owners reach us, and how they come back to each app.
    pub(super) ways: Option<(String, Arc<ArcSwap<Ways>>)>,
    /// SIGHUP, where the system lets us listen.
    pub(super) hangup: Option<Signal>,
    /// The publisher's listener, where there is one.
    pub(super) publisher: Option<publisher::Live>,
}

impl Reloader {
    pub(super) async fn run(
        mut self,
        mut asked: mpsc::Receiver<ReloadRequest>,
        mut stop: watch::Receiver<bool>,
    ) {
        let mut files = config::Watches::new(self.files());
        loop {
            let answer = tokio::select! {
                () = files.changed() => None,
                Some(()) = hung_up(self.hangup.as_mut()) => None,
                Some(answer) = asked.recv() => Some(answer),
                _ = stop.wait_for(|stop| *stop) => return,
            };
            let mut result = self.reload().await;
            if files.follow(self.files()) {
                // What is named since now may have changed before it was watched.
                result = self.reload().await;
            }
            if let Some(answer) = answer {
                // Whoever asked may have gone; the metric and the page tell the result too.
                let _ = answer.send(result);
            }
        }
    }

    /// Every file that a change of makes for another configuration.
    fn files(&self) -> Vec<PathBuf> {
        let web = self.in_force.server.web.iter().flat_map(web_config::Settings::files);
        let mut files: Vec<_> = [&*self.path].into_iter().chain(web).map(Path::to_owned).collect();
        // One that is wrong from its first day is in force nowhere, and must be seen when it is mended.
        files.extend(self.wrong.iter().cloned());
        files.sort_unstable();
        files.dedup();
        files
    }

    async fn reload(&mut self) -> Result<(), Vec<String>> {
        let result = self.read();
        let at = self.refresher.clock.now();
        let errors = result.as_ref().err().cloned().unwrap_or_default();
        let reason = errors.first().cloned();
        let successful = result.is_ok();
        self.config_state.store(Arc::new(ConfigState { at, errors }));
        self.refresher.reporter.report(Event::Reloaded { successful, at, reason });
        let (settings, client, web) = result?;
        self.web.put_in_force(web);
        self.put_in_force(settings, client).await;
        Ok(())
    }

    /// Everything that can fail, before anything is changed.
    fn read(&mut self) -> Result<(Settings, HttpClient, InForce), Vec<String>> {
        let loaded = config::load_under(&self.path, &self.overrides);
        let problems = loaded.as_ref().err().map_or(&[][..], |problems| &problems.0);
        self.wrong = problems.iter().map(|problem| problem.place.file.clone()).collect();
        let loaded = loaded.map_err(|problems| {
            problems.0.iter().map(config::Problem::sentence).collect::<Vec<_>>()
        })?;
        for warning in &loaded.warnings {
            tracing::warn!(warning = warning.sentence(), "the configuration may hurt");
        }
        let new = loaded.settings;
        let fixed = fixed_until_restart(&self.in_force, &new);
        if !fixed.is_empty() {
            return Err(vec![format!(
                "{}: {} cannot be changed while running; restart the sidecar, or take the change back",
                self.path.display(),
                fixed.join(", "),
            )]);
        }
        let client = HttpClient::new(&new.http).map_err(|error| vec![error.to_string()])?;
        let web = InForce::read(new.server.web.as_ref()).map_err(|error| vec![error])?;
        Ok((new, client, web))
    }

    async fn put_in_force(&mut self, settings: Settings, client: HttpClient) {
        let apps = apps_of(&settings);
        go_on_with_secrets(&self.refresher.apps.load(), &apps);
        apps.values().for_each(|app| self.metrics.expect_provider(&app.provider.name));
        if settings.server.webhooks.is_some() {
            webhooks::expect(&self.metrics, &apps);
        }
        let policy = policy_of(&settings);
        let for_policy = policy_apps(&apps, Proofs::in_force(&settings));
        self.client.store(Arc::new(client));
        self.refresher.apps.store(Arc::new(apps));
        if let Some((base, ways)) = &self.ways {
            ways.store(Arc::new(ways_below(&settings, base)));
        }
        if let (Some(live), Some(publisher)) = (&self.publisher, &settings.server.publisher) {
            live.follow(publisher);
        }
        self.delivery.send_replace(Arc::new(settings.delivery.clone()));
        self.per_account.store(settings.metrics.per_account, Ordering::Relaxed);
        logs::apply(&settings.log);
        self.in_force = settings;
        let _ = self.inputs.send(Input::Configured { policy, apps: for_policy }).await;
        // Which app an account belongs to, and which scopes it lacks, may be answered differently now.
        self.load_again.notify_one();
    }
}

/// What was found out about a list of secrets stays true while the list stays.
fn go_on_with_secrets(before: &Apps, after: &Apps) {
    for (name, app) in after {
        if let Some(old) = before.get(name).filter(|old| old.client_id == app.client_id) {
            app.client_secrets.go_on_from(&old.client_secrets);
        }
    }
}

/// The keys that differ and take a restart: sockets that are open, and what was begun with them.
fn fixed_until_restart(old: &Settings, new: &Settings) -> Vec<&'static str> {
    let socket = |settings: &Settings| {
        let publisher = settings.server.publisher.as_ref();
        publisher.map(|publisher| (publisher.listen.clone(), publisher.certificate.clone()))
    };
    let (before, after) = (&old.server, &new.server);
    let sections = [
        ("`store`", old.store == new.store),
        ("`state`", old.state == new.state),
        ("`observe`", old.observe == new.observe),
        (
            "`server.listen`",
            (before.listen, &before.listen_also) == (after.listen, &after.listen_also),
        ),
        ("`server.actions`", before.actions == after.actions),
        ("`server.connections_max`", before.connections_max == after.connections_max),
        ("`server.enable_reload`", before.enable_reload == after.enable_reload),
        (
            "`publisher.enabled`, `listen`, `socket_mode`, `cert_file` or `key_file`",
            socket(old) == socket(new),
        ),
        ("`webhooks`", before.webhooks == after.webhooks),
        ("`connect`", before.connect == after.connect),
        ("`publisher.webhooks`", old.hooks == new.hooks),
        ("`http.total_deadline`", old.http.total_deadline == new.http.total_deadline),
    ];
    sections.into_iter().filter(|(_, same)| !same).map(|(name, _)| name).collect()
}

/// Never, where the signal cannot be heard.
async fn hung_up(signal: Option<&mut Signal>) -> Option<()> {
    match signal {
        Some(signal) => signal.recv().await,
        None => std::future::pending().await,
    }
}
