//! What people may do from the status page: hold an account, resume it, refresh it, and get the link by which its owner
//! connects it again. Switched off, none of this is there.
//!
//! | route | answer |
//! | --- | --- |
//! | `GET /login` | asks who it is |
//! | `POST /login` | begins a session, or says no |
//! | `POST /actions/hold`, `/actions/resume`, `/actions/refresh` | writes it down as the command of that name does, and leads back to the account's page, which says so |
//! | `POST /actions/link` | shows a new link |
//! | `POST /logout` | ends the session |
//!
//! Whatever changes something is a POST, comes from a page of ours, and carries the session's cookie and the mark that
//! stands in the forms of that session alone. Nothing is done here: an order goes to the inbox, from which whoever keeps
//! the account follows it, and the log says who gave it. Absent on purpose: sessions that outlive the process, and rights
//! of different people.

mod forms;
mod guesses;
mod origin;
mod pages;
mod sessions;
mod users;

#[cfg(test)]
mod tests;

pub use pages::form;
pub use users::User;

use super::{
    answer::{Answer, for_method, not_found, text, wrong_method},
    ordered::{self, NotWritten},
    status_page::account_path,
    web_config::Web,
    webhooks::Delivery,
};
use crate::{
    clock::Clock,
    core::{AccountId, Order, Snapshot, Timestamp},
    metrics::{Acted, ActionResult, Metrics},
};
use arc_swap::ArcSwap;
use forms::Form;
use guesses::Guesses;
use hyper::{
    HeaderMap, Method, Request, StatusCode,
    body::Incoming,
    header::{HeaderValue, LOCATION, RETRY_AFTER, SET_COOKIE},
};
use ring::hmac;
use sessions::{Said, Session, Sessions, Ticket};
use std::{
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};
use tokio::{sync::mpsc, time::Instant};
use users::Users;

/// Who may act, and for how long at a time. `config` fills it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Settings {
    /// At least one.
    pub users: Vec<User>,
    /// A session ends when nothing was done in it for so long.
    pub session_idle: Duration,
    /// It ends at this age, whatever was done in it.
    pub session_life: Duration,
}

/// Makes links for owners; `None` where no link can connect that account.
pub type Mint = dyn Fn(&AccountId, Timestamp) -> Option<String> + Send + Sync;

/// What actions need to reach. `app` fills it.
pub struct Wires {
    /// Which accounts there are.
    pub snapshot: Arc<ArcSwap<Snapshot>>,
    /// The program's time.
    pub clock: Clock,
    /// Where actions are counted.
    pub metrics: Metrics,
    /// To whoever writes orders down.
    pub deliveries: mpsc::Sender<Delivery>,
    /// Whether TLS is spoken.
    pub web: Arc<Web>,
    /// Makes links, where owners can use them.
    pub mint: Option<Arc<Mint>>,
}

/// Actions, switched on.
pub struct Actions {
    wires: Wires,
    users: Users,
    /// Drawn anew by each process, as are the sessions that hang on it.
    key: hmac::Key,
    sessions: Mutex<Sessions>,
    guesses: Mutex<Guesses>,
}

impl Actions {
    /// Switches them on.
    #[must_use]
    pub fn new(settings: Settings, wires: Wires) -> Self {
        wires.metrics.expect_actions();
        let key = users::draw_key();
        Self {
            sessions: Mutex::new(Sessions::new(settings.session_idle, settings.session_life)),
            guesses: Mutex::new(Guesses::new(Instant::now())),
            users: Users::new(settings.users, key.clone()),
            key,
            wires,
        }
    }

    /// True for the paths that are answered here.
    #[must_use]
    pub fn answers(path: &str) -> bool {
        matches!(path, LOGIN | LOGOUT) || path.starts_with(ACTIONS)
    }

    /// Answers one request.
    pub async fn handle(self: Arc<Self>, request: Request<Incoming>) -> Answer {
        let method = request.method().clone();
        let path = request.uri().path().to_owned();
        let what = What::of(&path);
        let answer = match (what, &method) {
            (Some(What::LogIn), &Method::GET | &Method::HEAD) => {
                let query = request.uri().query().unwrap_or_default();
                pages::log_in(StatusCode::OK, BESIDE, &forms::next_of(query), None)
            }
            (Some(what), &Method::POST) => self.post(what, request).await,
            (Some(What::LogIn), _) => wrong_method("GET, HEAD, POST"),
            (Some(_), _) => wrong_method("POST"),
            (None, _) => not_found(),
        };
        for_method(&method, answer)
    }

    async fn post(&self, what: What, request: Request<Incoming>) -> Answer {
        let (head, body) = request.into_parts();
        // Before anything is read: what another page sends here in somebody's name is not looked at.
        if !origin::is_ours(&head.headers) {
            return self.counted(what, ActionResult::Refused, pages::forged());
        }
        let form = match Form::read(&head.headers, body).await {
            Ok(form) => form,
            Err(answer) => return self.counted(what, ActionResult::Refused, answer),
        };
        if what == What::LogIn {
            return self.log_in(&head.headers, &form);
        }
        let Some((ticket, session)) = self.session(&head.headers) else {
            let next = form.account().map_or_else(|| "/".to_owned(), |id| account_path(&id));
            let root = if what == What::LogOut { BESIDE } else { BELOW };
            let answer =
                pages::log_in(StatusCode::UNAUTHORIZED, root, &next, Some(pages::SESSION_ENDED));
            return self.counted(what, ActionResult::Refused, answer);
        };
        if !self.is_mark_of(&ticket, form.csrf()) {
            return self.counted(what, ActionResult::Refused, pages::forged());
        }
        if what == What::LogOut {
            return self.log_out(&ticket, &session);
        }
        let account =
            form.account().filter(|id| self.wires.snapshot.load().accounts.find(id).is_some());
        let Some(id) = account else {
            return self.counted(what, ActionResult::Failed, not_found());
        };
        self.sessions().used(&ticket, Instant::now());
        self.act(what, &id, &ticket, &session).await
    }

    async fn act(&self, what: What, id: &AccountId, ticket: &Ticket, session: &Session) -> Answer {
        let Some(order) = what.order() else {
            return self.link(id, session);
        };
        let wires = &self.wires;
        let written = ordered::hand_on(&wires.deliveries, wires.clock.now(), id, order, None).await;
        let (result, said) = match written {
            Ok(is_new) => (ActionResult::Done, Said::of(what, is_new)),
            Err(NotWritten) => (ActionResult::Failed, Said::NotWritten),
        };
        self.tell(what, result, id, session);
        self.sessions().say(ticket, id, said, Instant::now());
        self.counted(what, result, see_other(BELOW, &account_path(id)))
    }

    fn link(&self, id: &AccountId, session: &Session) -> Answer {
        let link = self.wires.mint.as_ref().and_then(|mint| mint(id, self.wires.clock.now()));
        let (result, answer) = match &link {
            Some(link) => (ActionResult::Done, pages::link(id, link)),
            None => (ActionResult::Failed, pages::no_link(id)),
        };
        self.tell(What::Link, result, id, session);
        self.counted(What::Link, result, answer)
    }

    fn log_in(&self, headers: &HeaderMap, form: &Form) -> Answer {
        let (name, next) = (form.user(), form.next());
        let now = Instant::now();
        let bucket = users::bucket_of(&self.key, name);
        if let Err(wait) = self.lock_guesses().take(bucket, now) {
            let mut answer =
                pages::log_in(StatusCode::TOO_MANY_REQUESTS, BESIDE, &next, Some(pages::TOO_MANY));
            answer.headers_mut().insert(RETRY_AFTER, HeaderValue::from(wait.as_secs().max(1)));
            return self.counted(What::LogIn, ActionResult::Refused, answer);
        }
        let Some(user) = self.users.find(name, form.secret()) else {
            // Not the name: who mistypes may have written the secret there.
            tracing::warn!("somebody was not let into the status page's actions");
            let answer = pages::log_in(StatusCode::FORBIDDEN, BESIDE, &next, Some(pages::WRONG));
            return self.counted(What::LogIn, ActionResult::Refused, answer);
        };
        self.lock_guesses().give_back(bucket);
        let is_secure = self.wires.web.scheme() == "https" || origin::is_https(headers);
        tracing::info!(user = %user.name, "somebody logged in to the status page's actions");
        let ticket = self.sessions().begin(user, is_secure, now);
        let mut answer = see_other(BESIDE, &next);
        answer.headers_mut().insert(SET_COOKIE, ticket.cookie(is_secure));
        self.counted(What::LogIn, ActionResult::Done, answer)
    }

    fn log_out(&self, ticket: &Ticket, session: &Session) -> Answer {
        self.sessions().end(ticket);
        tracing::info!(user = %session.user.name, "somebody logged out of the status page's actions");
        let mut answer = see_other(BESIDE, "/");
        answer.headers_mut().insert(SET_COOKIE, Ticket::no_cookie(session.is_secure));
        self.counted(What::LogOut, ActionResult::Done, answer)
    }

    /// Who looks at a page.
    #[must_use]
    pub fn viewer(self: &Arc<Self>, headers: &HeaderMap) -> Viewer {
        let known = self.session(headers);
        Viewer { here: Some(Here { actions: Arc::clone(self), known }) }
    }

    /// The session of these headers: one whose user still has the secret that it began with.
    fn session(&self, headers: &HeaderMap) -> Option<(Ticket, Session)> {
        let ticket = Ticket::of(headers)?;
        let session = self.sessions().find(&ticket, Instant::now())?;
        self.users.still_is(&session.user).then_some((ticket, session))
    }

    /// What stands in every form of a session, and in no other's.
    fn mark(&self, ticket: &Ticket) -> String {
        sessions::text_of(hmac::sign(&self.key, &ticket.marked()).as_ref())
    }

    fn is_mark_of(&self, ticket: &Ticket, sent: &str) -> bool {
        let sent = sessions::bytes_of(sent).unwrap_or_default();
        hmac::verify(&self.key, &ticket.marked(), &sent).is_ok()
    }

    fn sessions(&self) -> MutexGuard<'_, Sessions> {
        self.sessions.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn lock_guesses(&self) -> MutexGuard<'_, Guesses> {
        self.guesses.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Who did what is for the log: an account that is held by hand is asked about.
    fn tell(&self, what: What, result: ActionResult, id: &AccountId, session: &Session) {
        let (user, action, result) =
            (&session.user.name, what.acted().as_label(), result.as_label());
        tracing::info!(%user, account = %id, action, result, "somebody acted from the status page");
    }

    fn counted(&self, what: What, result: ActionResult, answer: Answer) -> Answer {
        self.wires.metrics.acted(what.acted(), result);
        answer
    }
}

/// Who looks at a page: nobody in particular, while actions are switched off.
#[derive(Default)]
pub struct Viewer {
    here: Option<Here>,
}

struct Here {
    actions: Arc<Actions>,
    known: Option<(Ticket, Session)>,
}

/// What may be posted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum What {
    LogIn,
    LogOut,
    Hold,
    Resume,
    Refresh,
    Link,
}

impl What {
    fn of(path: &str) -> Option<Self> {
        Some(match path {
            LOGIN => Self::LogIn,
            LOGOUT => Self::LogOut,
            _ => match path.strip_prefix(ACTIONS)? {
                "hold" => Self::Hold,
                "resume" => Self::Resume,
                "refresh" => Self::Refresh,
                "link" => Self::Link,
                _ => return None,
            },
        })
    }

    const fn order(self) -> Option<Order> {
        match self {
            Self::Hold => Some(Order::Hold),
            Self::Resume => Some(Order::Resume),
            Self::Refresh => Some(Order::Refresh),
            Self::LogIn | Self::LogOut | Self::Link => None,
        }
    }

    const fn acted(self) -> Acted {
        match self {
            Self::LogIn => Acted::LogIn,
            Self::LogOut => Acted::LogOut,
            Self::Hold => Acted::Hold,
            Self::Resume => Acted::Resume,
            Self::Refresh => Acted::Refresh,
            Self::Link => Acted::Link,
        }
    }
}

/// Relative, so that it works below a path of a proxy too.
fn see_other(root: &'static str, path: &str) -> Answer {
    let mut answer = text(StatusCode::SEE_OTHER, "Go on at the page.");
    let to = HeaderValue::from_str(&format!("{root}{path}"));
    let to = to.unwrap_or(HeaderValue::from_static(BESIDE));
    answer.headers_mut().insert(LOCATION, to);
    answer
}

/// The way to `/` from `/login` and `/logout`, and from what lies deeper.
const BESIDE: &str = ".";
const BELOW: &str = "..";

const LOGIN: &str = "/login";
const LOGOUT: &str = "/logout";
const ACTIONS: &str = "/actions/";
