//! An owner connects an account again by one link: what the link is for, where the owner is sent, and what comes back.
//!
//! The link leads to a page of ours, its button to the provider's consent page, and that back to us with a code. The
//! token that the code buys takes the way of a refreshed one ([`Refresher::connect`]). In between, our state keeps
//! what must be known when the person comes back, sealed; the browser keeps one random text, and only the browser
//! that began may end (RFC 6749 section 10.12). Absent on purpose: HTTP and HTML, which are the server's.

mod back;
pub mod here;
pub mod links;

pub use back::Query;

use self::links::{Link, Links, Unusable};
use crate::{
    core::{
        AccountId, Fingerprint, Secret,
        connecting::{Asked, Departure, Named, Turn, Wrong},
        fleet::Input,
    },
    providers::{Asking, Kind},
    refresh::{App, Refresher, Transport, app_of},
    state::{Beginning, Standing},
    stores::TokenStore,
};
use arc_swap::ArcSwap;
use base64::{Engine as _, prelude::BASE64_URL_SAFE_NO_PAD};
use serde::{Deserialize, Serialize};
use std::{
    collections::BTreeMap,
    sync::{Arc, atomic::AtomicU64},
    time::Duration,
};
use tokio::sync::{Notify, Semaphore, mpsc};

/// How people come back to one app.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Way {
    /// What the app is registered as.
    pub kind: Kind,
    /// Where they come back to, character for character.
    pub redirect_uri: String,
}

/// By the app's name; replaced whole when the configuration changes.
pub type Ways = BTreeMap<Arc<str>, Way>;

/// Connects accounts. Shared by all requests.
pub struct Connector<S, T> {
    refresher: Arc<Refresher<S, T>>,
    links: Links,
    ways: Arc<ArcSwap<Ways>>,
    keys_are_subjects: bool,
    /// Makes the loader read the store.
    load_again: Arc<Notify>,
    /// A place for each code that is being exchanged.
    places: Arc<Semaphore>,
    /// A place for each token that the store has not taken and that is saved again and again.
    waiting: Arc<Semaphore>,
    /// How many of these there are, for everybody to see.
    unsaved: Arc<AtomicU64>,
    /// The keeper's ear.
    keeper: mpsc::Sender<Input>,
}

/// What a [`Connector`] is connected with.
pub struct Wires {
    /// Makes the loader read the store.
    pub load_again: Arc<Notify>,
    /// Counts tokens that the store has not taken.
    pub unsaved: Arc<AtomicU64>,
    /// The keeper's ear.
    pub keeper: mpsc::Sender<Input>,
}

/// What must be known when a person comes back.
#[derive(Serialize, Deserialize)]
struct Session {
    /// The last part of the link, so that the same person may begin again.
    link: String,
    provider: String,
    account: String,
    app: String,
    redirect_uri: String,
    verifier: Option<String>,
    asked: Vec<String>,
    /// The token that the store held, as a fingerprint.
    replaces: Option<u64>,
}

/// The account behind a link, and the app that asks for it.
struct Found {
    named: Named,
    app: Arc<App>,
    way: Way,
    replaces: Option<Fingerprint>,
}

impl<S: TokenStore, T: Transport> Connector<S, T> {
    /// One that has connected nothing yet.
    #[must_use]
    pub fn new(
        refresher: Arc<Refresher<S, T>>,
        links: Links,
        ways: Arc<ArcSwap<Ways>>,
        keys_are_subjects: bool,
        Wires { load_again, unsaved, keeper }: Wires,
    ) -> Self {
        let places = Arc::new(Semaphore::new(CONNECTING_MAX));
        let waiting = Arc::new(Semaphore::new(WAITING_MAX));
        Self {
            refresher,
            links,
            ways,
            keys_are_subjects,
            load_again,
            places,
            waiting,
            unsaved,
            keeper,
        }
    }

    /// Returns when no code is being exchanged any more, or `within` has passed; none is begun from then on.
    pub async fn drained(&self, within: Duration) {
        let all = u32::try_from(CONNECTING_MAX).unwrap_or(u32::MAX);
        let _ = tokio::time::timeout(within, self.places.acquire_many(all)).await;
        self.places.close();
    }

    /// What somebody with this link is about to be asked. Nothing is spent by looking.
    ///
    /// # Errors
    /// Why the link leads nowhere.
    pub async fn look(&self, text: &str, browser: Option<&str>) -> Result<Asked, Wrong> {
        let link = self.link(text).await?;
        let found = self.find(&link.id).await?;
        let standing =
            self.refresher.state.consent_standing(&link.key, browser.unwrap_or("")).await;
        let turn = match standing {
            Ok(Standing::Free) => {
                let scopes = found.app.provider.scopes_to_ask(&found.app.scopes);
                return Ok(Asked { named: found.named, scopes, ends_at: link.ends_at });
            }
            Ok(Standing::Done) => Turn::LinkUsed,
            Ok(Standing::OtherBrowser) => Turn::OtherBrowser,
            Err(error) => unavailable(&error),
        };
        Err(Wrong::turn(turn).on_the_way_to(&found.named))
    }

    /// Where the person behind `browser` is sent, who pressed the button.
    ///
    /// # Errors
    /// Why the link leads nowhere.
    pub async fn begin(&self, text: &str, browser: Option<&str>) -> Result<Departure, Wrong> {
        let link = self.link(text).await?;
        let found = self.find(&link.id).await?;
        self.depart(text, &link, &found, browser)
            .await
            .map_err(|turn| Wrong::turn(turn).on_the_way_to(&found.named))
    }

    async fn depart(
        &self,
        text: &str,
        link: &Link,
        found: &Found,
        browser: Option<&str>,
    ) -> Result<Departure, Turn> {
        let Found { app, way, named, replaces } = found;
        let provider = app.provider;
        // One that came with a cookie was drawn by us, or is worth no more than one that was.
        let known = browser.filter(|browser| browser.len() == random_length(BROWSER_BYTES));
        let browser = match known {
            Some(browser) => browser.to_owned(),
            None => random(BROWSER_BYTES)?,
        };
        let nonce = random(NONCE_BYTES)?;
        let verifier = provider.uses_pkce(way.kind).then(|| random(VERIFIER_BYTES)).transpose()?;
        let asked = provider.scopes_to_ask(&app.scopes);
        let verifier_shown = verifier.clone().map(Secret::new);
        let asking = Asking {
            client_id: &app.client_id,
            kind: way.kind,
            redirect_uri: &way.redirect_uri,
            scopes: &asked,
            state: &format!("{}.{nonce}", link.key),
            verifier: verifier_shown.as_ref(),
        };
        let to = provider.authorize_url(&app.endpoints, &asking).ok_or(Turn::NoConsentPage)?;
        let session = Session {
            link: text.to_owned(),
            provider: named.id.provider.to_string(),
            account: named.id.account.to_string(),
            app: app.name.to_string(),
            redirect_uri: way.redirect_uri.clone(),
            verifier,
            asked,
            replaces: replaces.map(Fingerprint::as_hash),
        };
        let session = serde_json::to_string(&session).expect("texts and numbers are always JSON");
        let session = Secret::new(session);
        let now = self.refresher.clock.now();
        let state = &self.refresher.state;
        let begun = state
            .begin_consent(&link.key, &browser, &nonce, session.expose(), link.ends_at, now)
            .await;
        match begun {
            Ok(Beginning::Begun) => Ok(Departure { to, browser, lasts: link.ends_at.since(now) }),
            Ok(Beginning::Used) => match state.consent_standing(&link.key, &browser).await {
                Ok(Standing::Done) => Err(Turn::LinkUsed),
                _ => Err(Turn::OtherBrowser),
            },
            Ok(Beginning::Full) => Err(Turn::Unavailable),
            Err(error) => Err(unavailable(&error)),
        }
    }

    async fn link(&self, text: &str) -> Result<Link, Wrong> {
        match self.links.read(text, self.refresher.clock.now()) {
            Ok(link) => Ok(link),
            Err(Unusable::Altered) => Err(Wrong::turn(Turn::LinkAltered)),
            Err(Unusable::Ended(id)) => {
                let wrong = Wrong::turn(Turn::LinkEnded);
                Err(match self.find(&id).await {
                    Ok(found) => wrong.on_the_way_to(&found.named),
                    Err(_) => wrong,
                })
            }
        }
    }

    async fn find(&self, id: &AccountId) -> Result<Found, Wrong> {
        let stored = match self.refresher.store.get(id).await {
            Ok(Some(stored)) if stored.enabled => stored,
            Ok(_) => return Err(Wrong::turn(Turn::UnknownAccount)),
            Err(error) => {
                tracing::warn!(account = %id, %error, "nobody is sent to a consent page");
                return Err(Wrong::turn(Turn::Unavailable));
            }
        };
        let apps = self.refresher.apps.load();
        let app = app_of(&apps, &stored).ok_or(Wrong::turn(Turn::NoConsentPage))?;
        let named = named(id, app);
        let way = self.ways.load().get(&app.name).cloned();
        let has_page = app.provider.authorize_endpoint(&app.endpoints).is_some();
        let Some(way) = way.filter(|_| has_page) else {
            let instead = app.provider.instead_of_consent().map(str::to_owned);
            let wrong = Wrong { instead, ..Wrong::turn(Turn::NoConsentPage) };
            return Err(wrong.on_the_way_to(&named));
        };
        let fingerprinter = self.refresher.state.fingerprinter();
        let replaces = stored.token.as_ref().map(|token| fingerprinter.of_token(token));
        Ok(Found { named, app: Arc::clone(app), way, replaces })
    }
}

fn named(id: &AccountId, app: &App) -> Named {
    let title = app.provider.title.as_str().into();
    Named { id: id.clone(), app: Arc::clone(&app.name), title }
}

fn unavailable(error: &crate::state::Error) -> Turn {
    tracing::warn!(%error, "nobody is sent to a consent page");
    Turn::Unavailable
}

/// A text that nobody guesses, of characters that need no encoding anywhere.
fn random(bytes: usize) -> Result<String, Turn> {
    let mut drawn = vec![0; bytes];
    getrandom::fill(&mut drawn).map_err(|error| {
        tracing::error!(%error, "the system gives no randomness");
        Turn::Unavailable
    })?;
    Ok(BASE64_URL_SAFE_NO_PAD.encode(drawn))
}

const fn random_length(bytes: usize) -> usize {
    (bytes * 4).div_ceil(3)
}

/// Codes that are exchanged at a time; more are asked to wait.
const CONNECTING_MAX: usize = 64;

/// Tokens that are saved again and again; of more the next look at their accounts, or the next start, does it.
const WAITING_MAX: usize = 1_024;

/// What a browser shows, and what comes back with a code: beyond guessing (RFC 6749 section 10.10).
const BROWSER_BYTES: usize = 16;
const NONCE_BYTES: usize = 16;

/// 43 characters, which is what RFC 7636 section 4.1 recommends.
const VERIFIER_BYTES: usize = 32;
