//! The status pages: the list of accounts, worst first, and the pages of an account, an app and a provider. Each is
//! made on the server from one snapshot, and each has a JSON that says the same.
//!
//! | path | answer |
//! | --- | --- |
//! | `/` | the list; filters, order and page stand in the query string |
//! | `/accounts/{provider}/{account}` | one account |
//! | `/apps/{app}` | one app |
//! | `/providers/{provider}` | one provider |
//! | `/accounts.json`, and each of the others with `.json` behind it | the same as JSON |
//!
//! They work without JavaScript. What escapes is the template engine, by the type of a value; no string becomes markup by
//! being put together here. Absent on purpose: anything that asks somebody for a page, and any field that could hold a
//! token.

use super::{
    Context, actions,
    answer::{Answer, json, styled_page, text},
};
use crate::core::{Account, AccountId};
use hyper::{HeaderMap, StatusCode, Uri, header::HeaderValue, http::HeaderName};
use minijinja::{Environment, UndefinedBehavior, Value};
use query::{Query, Refresh, path_decoded};
use scene::Scene;
use serde::Serialize;
use std::sync::LazyLock;
use words::Tone;

mod account;
mod counts;
mod fleet;
mod group;
mod json;
mod list;
mod plot;
mod query;
mod row;
mod scene;
mod timeline;
mod words;

pub use words::account_path;
pub(super) use words::percent_encoded;

/// What is asked for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Route {
    subject: Subject,
    as_json: bool,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Subject {
    List,
    Account(AccountId),
    App(String),
    Provider(String),
}

impl Route {
    /// `None` where the path leads to none of the pages.
    #[must_use]
    pub fn of(path: &str) -> Option<Self> {
        // An ending that is encoded belongs to a name.
        let (path, as_json) = path.strip_suffix(".json").map_or((path, false), |path| (path, true));
        let mut parts = path.strip_prefix('/')?.splitn(3, '/');
        let subject = match (parts.next()?, parts.next(), parts.next()) {
            ("", None, None) if !as_json => Subject::List,
            ("accounts", None, None) if as_json => Subject::List,
            ("accounts", Some(provider), Some(account)) => {
                let (provider, account) = (path_decoded(provider), path_decoded(account));
                let is_name = !provider.is_empty() && !account.is_empty();
                Subject::Account(is_name.then(|| AccountId::new(provider, account))?)
            }
            ("apps", Some(name), None) if !name.is_empty() => Subject::App(path_decoded(name)),
            ("providers", Some(name), None) if !name.is_empty() => {
                Subject::Provider(path_decoded(name))
            }
            _ => return None,
        };
        Some(Self { subject, as_json })
    }

    /// The way from the page to `/`, so that links work behind a proxy that adds a prefix.
    const fn root(&self) -> &'static str {
        match self.subject {
            Subject::List => "./",
            Subject::Account(_) => "../../",
            Subject::App(_) | Subject::Provider(_) => "../",
        }
    }

    fn path(&self) -> String {
        match &self.subject {
            Subject::List => "/".to_owned(),
            Subject::Account(id) => account_path(id),
            Subject::App(name) => words::app_path(name),
            Subject::Provider(name) => words::provider_path(name),
        }
    }
}

/// The page, or its JSON, that was asked for at this address.
pub async fn answer(context: Context, route: Route, uri: &Uri, headers: &HeaderMap) -> Answer {
    let query = Query::read(uri.query().unwrap_or_default());
    let again = again(uri);
    let viewer = context.viewer(headers);
    // A pass over a million accounts takes tens of milliseconds; the threads that answer others must not
    // wait for it.
    let made = tokio::task::spawn_blocking(move || {
        let (snapshot, readings) = (context.seen(), context.readings());
        let config = context.config.load();
        let now = context.clock.now();
        let scene = Scene { snapshot: &snapshot, readings: &readings, config: &config, now };
        respond(&scene, &route, &query, &again, |account| actions::form(account, &viewer))
    });
    match made.await {
        Ok(Ok(answer)) => answer,
        Ok(Err(error)) => {
            tracing::error!(%error, "the status page could not be written");
            text(StatusCode::INTERNAL_SERVER_ERROR, "The status page could not be written.")
        }
        Err(_) => text(StatusCode::SERVICE_UNAVAILABLE, "The sidecar is stopping."),
    }
}

fn respond(
    scene: &Scene<'_>,
    route: &Route,
    query: &Query,
    again: &str,
    actions: impl FnOnce(&Account) -> String,
) -> Result<Answer, minijinja::Error> {
    if route.as_json {
        return Ok(respond_json(scene, route, query));
    }
    match html(scene, route, query, actions)? {
        Some(html) => {
            let mut answer = styled_page(StatusCode::OK, html, POLICY.clone());
            if query.refresh != Refresh(0) {
                let value = format!("{}; url={again}", query.refresh.0);
                if let Ok(value) = HeaderValue::try_from(value) {
                    answer.headers_mut().insert(REFRESH, value);
                }
            }
            Ok(answer)
        }
        None => {
            let (status, sentence) = missing(scene, &route.subject);
            let html = page(MISSING, Tone::Calm, scene, route, query, &sentence)?;
            Ok(styled_page(status, html, POLICY.clone()))
        }
    }
}

/// The way from an address to itself. Browsers that are told no address do not load a page again that was gone to
/// with a fragment; told its own, they do, and stay where the reader has scrolled to.
fn again(uri: &Uri) -> String {
    let name = uri.path().rsplit('/').next().unwrap_or_default();
    let query = uri.query().map(|query| format!("?{query}")).unwrap_or_default();
    format!("./{name}{query}")
}

/// `None` where there is no such thing.
fn html(
    scene: &Scene<'_>,
    route: &Route,
    query: &Query,
    actions: impl FnOnce(&Account) -> String,
) -> Result<Option<String>, minijinja::Error> {
    let blocks = scene.snapshot.accounts.blocks();
    let calm = Tone::Calm;
    match &route.subject {
        Subject::List => {
            let view = list::view(scene, query, &blocks);
            page(LIST, view.verdict.tone, scene, route, query, &view).map(Some)
        }
        Subject::Account(id) => account::view(scene, id, actions)
            .map(|view| page(ACCOUNT, calm, scene, route, query, &view))
            .transpose(),
        Subject::App(name) => group::app(scene, name, query, &blocks)
            .map(|view| page(GROUP, calm, scene, route, query, &view))
            .transpose(),
        Subject::Provider(name) => group::provider(scene, name, query, &blocks)
            .map(|view| page(GROUP, calm, scene, route, query, &view))
            .transpose(),
    }
}

fn respond_json(scene: &Scene<'_>, route: &Route, query: &Query) -> Answer {
    let blocks = scene.snapshot.accounts.blocks();
    let found = match &route.subject {
        Subject::List => Some(json(StatusCode::OK, &json::list(scene, query, &blocks))),
        Subject::Account(id) => json::account(scene, id).map(|one| json(StatusCode::OK, &one)),
        Subject::App(name) => json::app(scene, name, &blocks).map(|app| json(StatusCode::OK, &app)),
        Subject::Provider(name) => {
            json::provider(scene, name, &blocks).map(|one| json(StatusCode::OK, &one))
        }
    };
    found.unwrap_or_else(|| {
        let (status, error) = missing(scene, &route.subject);
        json(status, &json::Missing { error })
    })
}

/// Why something is not shown, in words.
fn missing(scene: &Scene<'_>, subject: &Subject) -> (StatusCode, String) {
    let sentence = match subject {
        _ if !scene.snapshot.loaded => {
            let sentence = "The token store has not been read yet. Try again in a moment.";
            return (StatusCode::SERVICE_UNAVAILABLE, sentence.to_owned());
        }
        Subject::List => "There is nothing here.".to_owned(),
        Subject::Account(id)
            if !scene.snapshot.holding.contain(id) && scene.readings.all_replicas.is_some() =>
        {
            format!("Another replica looks after {id}. Ask that one.")
        }
        Subject::Account(id) => format!(
            "No account {id} is looked after. It is not in the token store, it is switched off there, or no app of the configuration is for it."
        ),
        Subject::App(name) => format!("The configuration names no app {name}."),
        Subject::Provider(name) => format!("No account and no app has a provider {name}."),
    };
    (StatusCode::NOT_FOUND, sentence)
}

/// What every page has around what it shows.
#[derive(Serialize)]
struct Frame {
    version: &'static str,
    at: String,
    machine_at: i64,
    root: &'static str,
    home: String,
    /// What a link to another page must carry, so that it goes on loading itself again as often as this one.
    keep: String,
    style: Value,
    tone: Tone,
    refresh_seconds: u32,
    /// How often the page could load itself again instead.
    refreshes: Vec<Choice>,
}

#[derive(Serialize)]
struct Choice {
    words: String,
    link: String,
    chosen: bool,
}

#[derive(Serialize)]
struct Page<'a, V> {
    frame: Frame,
    view: &'a V,
}

fn page<V: Serialize>(
    template: &str,
    tone: Tone,
    scene: &Scene<'_>,
    route: &Route,
    query: &Query,
    view: &V,
) -> Result<String, minijinja::Error> {
    let refresh = |seconds: u32| Choice {
        words: if seconds == 0 { "off".to_owned() } else { words::span(seconds.into()) },
        link: query.with_refresh(seconds).path_below(&route.path()),
        chosen: query.refresh.0 == seconds,
    };
    let frame = Frame {
        version: env!("CARGO_PKG_VERSION"),
        at: words::date(scene.now),
        machine_at: scene.now.as_unix(),
        root: route.root(),
        home: query.bare().path(),
        keep: query.bare().path_below(""),
        style: Value::from_safe_string(STYLE.to_owned()),
        tone,
        refresh_seconds: query.refresh.0,
        refreshes: Refresh::CHOICES.into_iter().chain([0]).map(refresh).collect(),
    };
    TEMPLATES.get_template(template)?.render(minijinja::value::Serde(&Page { frame, view }))
}

/// One environment for all requests; the templates are part of the program, so they always load.
static TEMPLATES: LazyLock<Environment<'static>> = LazyLock::new(|| {
    let mut environment = Environment::new();
    environment.set_undefined_behavior(UndefinedBehavior::Strict);
    environment.add_filter("thousands", words::thousands);
    for (name, source) in SOURCES {
        environment
            .add_template(name, source)
            .expect("the templates are part of the program and were tested with it");
    }
    environment
});

/// The ending makes minijinja escape for HTML.
const SOURCES: [(&str, &str); 6] = [
    (LIST, include_str!("status_page/templates/list.html")),
    (ACCOUNT, include_str!("status_page/templates/account.html")),
    (GROUP, include_str!("status_page/templates/group.html")),
    (MISSING, include_str!("status_page/templates/missing.html")),
    ("frame.html", include_str!("status_page/templates/frame.html")),
    ("parts.html", include_str!("status_page/templates/parts.html")),
];

const LIST: &str = "list.html";
const ACCOUNT: &str = "account.html";
const GROUP: &str = "group.html";
const MISSING: &str = "missing.html";

/// Stands in each page, so that one answer is a whole page.
const STYLE: &str = include_str!("status_page/templates/style.css");

/// The one style sheet, by its hash, and the icon of the tab; forms go to ourselves; everything else is refused.
static POLICY: LazyLock<HeaderValue> = LazyLock::new(|| {
    use base64::{Engine as _, engine::general_purpose::STANDARD};
    let hash = STANDARD.encode(ring::digest::digest(&ring::digest::SHA256, STYLE.as_bytes()));
    let policy = format!(
        "default-src 'none'; style-src 'sha256-{hash}'; img-src data:; form-action 'self'; base-uri 'none'; \
         frame-ancestors 'none'"
    );
    HeaderValue::try_from(policy).expect("base64 and our own words are visible ASCII")
});

/// Loads an address after so many seconds. A header and no element of the page, since it is chosen by a link.
const REFRESH: HeaderName = HeaderName::from_static("refresh");

#[cfg(test)]
mod tests;
