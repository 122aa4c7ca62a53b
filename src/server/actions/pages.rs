//! What people see of actions: the buttons on an account's page, the page that asks who it is, and the one with a link.

use super::{BELOW, Here, LOGIN, Viewer};
use crate::{
    core::{Account, AccountId, Gate},
    server::{
        answer::{Answer, page, text},
        status_page::{account_path, percent_encoded},
    },
};
use hyper::StatusCode;
use minijinja::{Environment, UndefinedBehavior, value::Serde};
use serde::Serialize;
use std::sync::LazyLock;
use tokio::time::Instant;

/// The buttons for an account, or the way to them; nothing where actions are switched off.
#[must_use]
pub fn form(account: &Account, viewer: &Viewer) -> String {
    let Some(here) = &viewer.here else { return String::new() };
    let view = Buttons::of(account, here);
    PAGES.get_template(FORM).and_then(|template| template.render(Serde(&view))).unwrap_or_else(
        |error| {
            tracing::error!(%error, "The buttons of an account could not be written.");
            String::new()
        },
    )
}

#[derive(Serialize)]
struct Buttons {
    account: String,
    user: Option<String>,
    mark: String,
    said: Option<&'static str>,
    hold: bool,
    resume: bool,
    refresh: bool,
    link: bool,
    log_in: String,
}

impl Buttons {
    fn of(account: &Account, here: &Here) -> Self {
        let wires = &here.actions.wires;
        let now = wires.clock.now();
        let known = here.known.as_ref();
        let can_renew = account.token.is_some_and(|token| token.renewable_by.is_some());
        let said = known.and_then(|(_, session)| session.said(&account.id, Instant::now()));
        let path = account_path(&account.id);
        Self {
            account: account.id.to_string(),
            user: known.map(|(_, session)| session.user.name.to_string()),
            mark: known.map(|(ticket, _)| here.actions.mark(ticket)).unwrap_or_default(),
            said: said.map(super::Said::sentence),
            hold: account.door.gate != Gate::Held,
            resume: account.door.gate != Gate::Open,
            refresh: can_renew,
            link: wires.mint.as_ref().is_some_and(|mint| mint(&account.id, now).is_some()),
            log_in: format!("{LOGIN}?next={}", percent_encoded(&path)),
        }
    }
}

/// The page that asks who it is; `wrong` says why again.
pub(super) fn log_in(
    status: StatusCode,
    root: &'static str,
    next: &str,
    wrong: Option<&str>,
) -> Answer {
    let view = View { heading: "Log in", root, next, wrong, ..View::default() };
    shown(status, &view)
}

/// The page with a new link, which is good for one use by whoever has it.
pub(super) fn link(id: &AccountId, link: &str) -> Answer {
    let (name, back) = (id.to_string(), account_path(id));
    let view = View {
        heading: "Reconnect link",
        root: BELOW,
        account: &name,
        back: &back,
        link,
        ..View::default()
    };
    shown(StatusCode::OK, &view)
}

pub(super) fn no_link(id: &AccountId) -> Answer {
    let (name, back) = (id.to_string(), account_path(id));
    let wrong = Some(NO_LINK);
    let view = View {
        heading: "No link",
        root: BELOW,
        account: &name,
        back: &back,
        wrong,
        ..View::default()
    };
    shown(StatusCode::CONFLICT, &view)
}

/// What another page sent, or a page of a session that has ended.
pub(super) fn forged() -> Answer {
    text(
        StatusCode::FORBIDDEN,
        "Nothing was done: this did not come from a page of your session. Open the account's page again, and press the button there.",
    )
}

/// The page that asks who it is has `next`; the one with a link, or without, has not.
#[derive(Default, Serialize)]
struct View<'a> {
    heading: &'static str,
    /// The way from this page to `/`, so that it works below a path of a proxy too.
    root: &'static str,
    account: &'a str,
    back: &'a str,
    link: &'a str,
    /// Where to go on.
    next: &'a str,
    wrong: Option<&'a str>,
}

fn shown(status: StatusCode, view: &View<'_>) -> Answer {
    match PAGES.get_template(PAGE).and_then(|template| template.render(Serde(view))) {
        Ok(html) => page(status, html),
        Err(error) => {
            tracing::error!(%error, "A page for somebody who acts could not be written.");
            text(StatusCode::INTERNAL_SERVER_ERROR, "The page could not be written.")
        }
    }
}

static PAGES: LazyLock<Environment<'static>> = LazyLock::new(|| {
    let mut pages = Environment::new();
    pages.set_undefined_behavior(UndefinedBehavior::Strict);
    for (name, source) in [(FORM, include_str!("form.html")), (PAGE, include_str!("page.html"))] {
        pages
            .add_template(name, source)
            .unwrap_or_else(|error| unreachable!("the tests write the pages: {error}"));
    }
    pages
});

const FORM: &str = "form.html";
const PAGE: &str = "page.html";

pub(super) const WRONG: &str = "That is not a user with this secret.";
pub(super) const TOO_MANY: &str =
    "Too many attempts with this name; wait a moment before the next.";
pub(super) const SESSION_ENDED: &str =
    "Nothing was done, because your session has ended. Log in, and press the button again.";
const NO_LINK: &str = "No link can connect this account: links are switched off, or its app cannot be connected by one.";
