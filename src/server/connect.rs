//! The listener on which owners connect their accounts: one page with one button, and the way back.
//!
//! | route | answer |
//! | --- | --- |
//! | `GET /connect/account/{link}` | what will be asked, with a button; nothing is spent by looking |
//! | `POST /connect/account/{link}` | 303 to the provider's consent page |
//! | `GET /connect/callback` | takes the code in, and says what came of it |
//!
//! The button is a form that is posted, and the link alone does nothing: programs that look through mails open every
//! link in them, and must neither use one up nor begin anything. Absent on purpose: JavaScript, and every token;
//! these pages are handed words.

use super::{
    CALLBACK_PATH,
    answer::{Answer, for_method, page, text, wrong_method},
};
use crate::{
    core::{
        Secret, Timestamp,
        connecting::{Arrival, Arrived, Asked, Departure, Named, Turn, Wrong},
    },
    metrics::Metrics,
};
use hyper::{
    HeaderMap, Method, Request, StatusCode,
    body::Incoming,
    header::{
        CONTENT_SECURITY_POLICY, COOKIE, HeaderValue, LOCATION, REFERRER_POLICY, RETRY_AFTER,
        SET_COOKIE,
    },
};
use minijinja::{Environment, UndefinedBehavior, value::Serde};
use serde::Serialize;
use std::{
    pin::Pin,
    sync::{Arc, LazyLock},
};

/// What the handlers of this listener see. `app` fills it.
#[derive(Clone)]
pub struct Context {
    /// Where the ends of the way are counted.
    pub metrics: Metrics,
    /// Knows the accounts and the providers.
    pub desk: Arc<dyn Desk>,
    /// Whether people reach us through `https`, so that the cookie may insist on it.
    pub is_secure: bool,
}

/// Something that is answered later.
pub type Later<'a, T> = Pin<Box<dyn Future<Output = T> + Send + 'a>>;

/// Whoever knows what to do with a link, and with what comes back.
pub trait Desk: Send + Sync {
    /// What is about to be asked.
    fn look<'a>(
        &'a self,
        link: &'a str,
        browser: Option<&'a str>,
    ) -> Later<'a, Result<Asked, Wrong>>;

    /// Where the person is sent.
    fn begin<'a>(
        &'a self,
        link: &'a str,
        browser: Option<&'a str>,
    ) -> Later<'a, Result<Departure, Wrong>>;

    /// What came of it. The query holds a code.
    fn arrive<'a>(
        &'a self,
        query: Secret,
        browser: Option<&'a str>,
    ) -> Later<'a, Result<Arrived, Wrong>>;
}

/// Answers one request.
pub async fn handle(context: Context, request: Request<Incoming>) -> Answer {
    let method = request.method().clone();
    let path = request.uri().path().to_owned();
    let browser = browser_of(request.headers(), context.is_secure);
    let browser = browser.as_deref();
    let is_callback = path.strip_suffix('/').unwrap_or(&path) == CALLBACK_PATH;
    let answer = match (path.strip_prefix(LINK_PATH), &method) {
        (Some(link), &Method::GET | &Method::HEAD) => look(&context, link, browser).await,
        (Some(link), &Method::POST) => begin(&context, link, browser).await,
        (Some(_), _) => wrong_method("GET, POST"),
        (None, &Method::GET) if is_callback => {
            let query = Secret::new(request.uri().query().unwrap_or_default().to_owned());
            arrive(&context, query, browser).await
        }
        (None, _) if is_callback => wrong_method("GET"),
        _ => shown(StatusCode::NOT_FOUND, &View::nothing()),
    };
    for_method(&method, answer)
}

/// The page for somebody who came back to a command and not to the listener: it offers no link.
#[must_use]
pub fn closing_page(arrived: &Result<Arrived, Wrong>) -> Answer {
    match arrived {
        Ok(arrived) => shown(StatusCode::OK, &View::arrived(arrived)),
        Err(wrong) => shown(status_of(wrong.turn), &View::wrong(wrong)),
    }
}

async fn look(context: &Context, link: &str, browser: Option<&str>) -> Answer {
    match context.desk.look(link, browser).await {
        Ok(asked) => shown(StatusCode::OK, &View::asking(&asked, link)),
        Err(wrong) => refused(context, &wrong),
    }
}

async fn begin(context: &Context, link: &str, browser: Option<&str>) -> Answer {
    match context.desk.begin(link, browser).await {
        Ok(departure) => sent_away(context, &departure),
        Err(wrong) => refused(context, &wrong),
    }
}

async fn arrive(context: &Context, query: Secret, browser: Option<&str>) -> Answer {
    match context.desk.arrive(query, browser).await {
        Ok(arrived) => {
            context.metrics.reconnect(arrived.arrival.as_label());
            shown(StatusCode::OK, &View::arrived(&arrived))
        }
        Err(wrong) => refused(context, &wrong),
    }
}

/// 303, so that the browser asks with GET and nothing is posted to the provider (RFC 9700 section 4.12).
fn sent_away(context: &Context, departure: &Departure) -> Answer {
    let secure = if context.is_secure { "; Secure" } else { "" };
    let cookie = format!(
        "{}={}; Path=/; Max-Age={}; HttpOnly; SameSite=Lax{secure}",
        cookie_name(context.is_secure),
        departure.browser,
        departure.lasts.as_secs(),
    );
    let mut answer = text(StatusCode::SEE_OTHER, "Go on at the provider's page.");
    let (to, cookie) = (HeaderValue::from_str(&departure.to), HeaderValue::from_str(&cookie));
    let (Ok(to), Ok(cookie)) = (to, cookie) else {
        return shown(
            StatusCode::SERVICE_UNAVAILABLE,
            &View::wrong(&Wrong::turn(Turn::Unavailable)),
        );
    };
    answer.headers_mut().insert(LOCATION, to);
    answer.headers_mut().insert(SET_COOKIE, cookie);
    answer
}

fn refused(context: &Context, wrong: &Wrong) -> Answer {
    context.metrics.reconnect(wrong.turn.as_label());
    let status = status_of(wrong.turn);
    let mut answer = shown(status, &View::wrong(wrong));
    if status == StatusCode::SERVICE_UNAVAILABLE {
        answer.headers_mut().insert(RETRY_AFTER, HeaderValue::from_static(RETRY_AFTER_SECONDS));
    }
    answer
}

const fn status_of(turn: Turn) -> StatusCode {
    match turn {
        Turn::LinkAltered | Turn::WrongState | Turn::CodeRefused => StatusCode::BAD_REQUEST,
        Turn::LinkEnded | Turn::LinkUsed => StatusCode::GONE,
        Turn::OtherBrowser | Turn::Denied | Turn::OtherAccount | Turn::FewerScopes => {
            StatusCode::FORBIDDEN
        }
        Turn::UnknownAccount | Turn::NoConsentPage => StatusCode::NOT_FOUND,
        Turn::Replayed | Turn::Overtaken => StatusCode::CONFLICT,
        Turn::AppRefused | Turn::RedirectUriMismatch | Turn::ProviderTrouble => {
            StatusCode::BAD_GATEWAY
        }
        Turn::Busy | Turn::Unavailable => StatusCode::SERVICE_UNAVAILABLE,
    }
}

/// What a page says.
#[derive(Default, Serialize)]
struct View<'a> {
    /// For whoever looks for it: a test, or a person's support.
    id: &'a str,
    tone: &'static str,
    heading: String,
    paragraphs: Vec<String>,
    account: Option<&'a str>,
    provider: &'a str,
    app: &'a str,
    scopes_heading: String,
    scopes: &'a [String],
    action: Option<String>,
    button: String,
    small: String,
}

impl<'a> View<'a> {
    fn nothing() -> Self {
        Self {
            id: "nothing",
            heading: "There is nothing here".to_owned(),
            paragraphs: vec!["Open the link from the mail.".to_owned()],
            ..Self::default()
        }
    }

    fn of(named: &'a Named) -> Self {
        Self {
            account: Some(&named.id.account),
            provider: &named.title,
            app: &named.app,
            ..Self::default()
        }
    }

    fn asking(asked: &'a Asked, link: &str) -> Self {
        let Named { id, title, .. } = &asked.named;
        let scopes_heading = match asked.scopes[..] {
            [] => String::new(),
            _ => {
                format!("{title} asks for these permissions; please leave all of them switched on:")
            }
        };
        Self {
            id: "asking",
            heading: format!("Connect {} again", id.account),
            paragraphs: vec![format!(
                "So that posts to this account can go out, {title} needs your consent again. The button takes you there: sign in as this account, and agree."
            )],
            scopes_heading,
            scopes: &asked.scopes,
            action: Some(format!("{LINK_PATH}{link}")),
            button: format!("Continue to {title}"),
            small: format!(
                "Nothing has changed yet, and nothing changes until you agree there. This link works until {}.",
                date(asked.ends_at)
            ),
            ..Self::of(&asked.named)
        }
    }

    fn arrived(arrived: &'a Arrived) -> Self {
        let Named { id, .. } = &arrived.named;
        let mut paragraphs = vec![match arrived.arrival {
            Arrival::Saved if arrived.is_held => format!(
                "{} is connected again. Posts still wait: whoever runs your publishing tool holds this account, and lets it go on.",
                id.account
            ),
            Arrival::Saved => format!(
                "{} is connected again. The new connection is tried once, and then your queue resumes by itself, the oldest posts first.",
                id.account
            ),
            Arrival::Later => "We have your consent, and keep it safe. The publisher's store cannot be reached at the moment; as soon as it can, the new connection goes there, is tried once, and your queue resumes by itself.".to_owned(),
        }];
        if !arrived.is_proven {
            paragraphs.push(format!(
                "The provider did not tell us which account you signed in to. If it was not {}, open the link once more in the right one's name, or ask for a new one.",
                id.account
            ));
        }
        if !arrived.are_scopes_known {
            paragraphs.push("The provider did not tell us which permissions you granted; should one be missing, you will hear of it.".to_owned());
        }
        Self {
            id: arrived.arrival.as_label(),
            tone: "good",
            heading: match arrived.arrival {
                Arrival::Saved if arrived.is_held => "Done: you are connected".to_owned(),
                Arrival::Saved => "Done: your queue resumes".to_owned(),
                Arrival::Later => "Done, as far as you are concerned".to_owned(),
            },
            paragraphs,
            small: "You can close this page.".to_owned(),
            ..Self::of(&arrived.named)
        }
    }

    fn wrong(wrong: &'a Wrong) -> Self {
        let turn = wrong.turn;
        let next = wrong.instead.as_deref().unwrap_or_else(|| turn.next_step());
        let view = wrong.named.as_ref().map(Self::of).unwrap_or_default();
        Self {
            id: turn.as_label(),
            tone: tone_of(turn),
            heading: turn.heading().to_owned(),
            paragraphs: vec![turn.sentence().to_owned(), next.to_owned()],
            scopes_heading: match wrong.missing[..] {
                [] => String::new(),
                _ => "Not granted:".to_owned(),
            },
            scopes: &wrong.missing,
            action: wrong.again.as_ref().map(|link| format!("{LINK_PATH}{link}")),
            button: "Begin again".to_owned(),
            small: "Nothing was changed: the account is as it was.".to_owned(),
            ..view
        }
    }
}

/// Nobody need be frightened who opens a link twice or comes a moment too early.
const fn tone_of(turn: Turn) -> &'static str {
    match turn {
        Turn::LinkUsed | Turn::Replayed | Turn::Overtaken | Turn::Busy => "calm",
        _ => "bad",
    }
}

fn date(at: Timestamp) -> String {
    let at = jiff::Timestamp::from_second(at.as_unix()).unwrap_or_default();
    at.strftime("%-d %B %Y, %H:%M UTC").to_string()
}

fn shown(status: StatusCode, view: &View<'_>) -> Answer {
    let written = PAGES.get_template(PAGE).and_then(|page| page.render(Serde(view)));
    match written {
        Ok(html) => {
            let mut answer = page(status, html);
            // Without `form-action`: browsers hold it against every redirect that follows a form, and nobody knows
            // over which hosts a provider leads to its consent page.
            let policy = HeaderValue::from_static(POLICY);
            answer.headers_mut().insert(CONTENT_SECURITY_POLICY, policy);
            // The address is the link, and as good as a password.
            answer.headers_mut().insert(REFERRER_POLICY, HeaderValue::from_static("no-referrer"));
            answer
        }
        Err(error) => {
            tracing::error!(%error, "a page for an owner could not be written");
            text(StatusCode::INTERNAL_SERVER_ERROR, "The page could not be written.")
        }
    }
}

/// What the browser shows that was given to it when it began. With `https` the name says that no other host, and
/// nothing unencrypted, can have put it there (RFC 6265bis section 4.1.3.2).
const fn cookie_name(is_secure: bool) -> &'static str {
    if is_secure { "__Host-oauth-keepalive-connect" } else { "oauth-keepalive-connect" }
}

fn browser_of(headers: &HeaderMap, is_secure: bool) -> Option<String> {
    let name = cookie_name(is_secure);
    let all = headers.get_all(COOKIE).iter().filter_map(|header| header.to_str().ok());
    let mut pairs = all.flat_map(|header| header.split(';'));
    let value = pairs.find_map(|pair| {
        let (known, value) = pair.trim().split_once('=')?;
        (known == name && value.len() <= COOKIE_BYTES_MAX).then_some(value)
    });
    value.map(str::to_owned)
}

static PAGES: LazyLock<Environment<'static>> = LazyLock::new(|| {
    let mut pages = Environment::new();
    pages.set_undefined_behavior(UndefinedBehavior::Strict);
    pages
        .add_template(PAGE, include_str!("connect.html"))
        .unwrap_or_else(|error| unreachable!("the tests write the page: {error}"));
    pages
});

const PAGE: &str = "connect.html";

/// What stands before a link's last part; `connect::links` makes such addresses.
pub const LINK_PATH: &str = "/connect/account/";

const POLICY: &str =
    "default-src 'none'; style-src 'unsafe-inline'; base-uri 'none'; frame-ancestors 'none'";

/// A cookie of ours is much shorter.
const COOKIE_BYTES_MAX: usize = 128;

const RETRY_AFTER_SECONDS: &str = "60";

#[cfg(test)]
mod tests {
    use super::*;
    use crate::core::AccountId;

    fn named() -> Named {
        let id = AccountId::new("tiktok", "brand<01>");
        Named { id, app: "main".into(), title: "TikTok".into() }
    }

    fn html(view: &View<'_>) -> String {
        PAGES.get_template(PAGE).unwrap().render(Serde(view)).unwrap()
    }

    #[test]
    fn the_page_names_account_app_provider_and_permissions_and_posts_its_one_button() {
        let asked = Asked {
            named: named(),
            scopes: vec!["video.publish".to_owned()],
            ends_at: Timestamp::from_unix(1_800_000_000),
        };
        let page = html(&View::asking(&asked, "a.b"));
        for expected in [
            "brand&lt;01&gt;",
            "TikTok",
            "main",
            "<code>video.publish</code>",
            "until 15 January 2027, 08:00 UTC",
            "<form method=\"post\" action=\"&#x2f;connect&#x2f;account&#x2f;a.b\"><button id=\"go\">",
        ] {
            assert!(page.contains(expected), "{expected}:\n{page}");
        }
        assert_eq!(page.matches("<form").count(), 1);
        assert!(!page.contains("<script") && !page.contains("http://"), "{page}");
    }

    #[test]
    fn every_wrong_turn_has_a_page_with_its_words_and_a_status_that_is_no_success() {
        for turn in Turn::ALL {
            let wrong = Wrong {
                again: turn.may_begin_again().then(|| "a.b".to_owned()),
                missing: vec!["video.publish".to_owned()],
                ..Wrong::turn(turn).on_the_way_to(&named())
            };
            let page = html(&View::wrong(&wrong));
            assert!(page.contains(turn.heading()), "{turn:?}:\n{page}");
            assert!(page.contains(&format!("id=\"{}\"", turn.as_label())), "{turn:?}");
            assert_eq!(page.contains("<form"), turn.may_begin_again(), "{turn:?}");
            assert!(!status_of(turn).is_success(), "{turn:?}");
        }
    }

    #[test]
    fn the_last_page_says_what_happens_next_and_what_nobody_could_tell() {
        let arrived = Arrived {
            named: named(),
            arrival: Arrival::Saved,
            is_proven: false,
            are_scopes_known: false,
            is_held: false,
        };
        let page = html(&View::arrived(&arrived));
        assert!(
            page.contains("your queue resumes") && page.contains("which account you signed in")
        );
        assert!(page.contains("which permissions"));
        let held = html(&View::arrived(&Arrived { is_held: true, ..arrived.clone() }));
        assert!(held.contains("holds this account") && !held.contains("queue resumes"), "{held}");
        let later = Arrived { arrival: Arrival::Later, is_proven: true, ..arrived };
        assert!(html(&View::arrived(&later)).contains("keep it safe"));
    }

    #[test]
    fn the_cookie_is_found_among_others_under_its_own_name_only() {
        let mut headers = HeaderMap::new();
        let value = "a=b; __Host-oauth-keepalive-connect=secure; oauth-keepalive-connect=plain";
        headers.insert(COOKIE, HeaderValue::from_static(value));
        assert_eq!(browser_of(&headers, true).as_deref(), Some("secure"));
        assert_eq!(browser_of(&headers, false).as_deref(), Some("plain"));
        headers.insert(COOKIE, HeaderValue::from_static("x-oauth-keepalive-connect=no"));
        assert_eq!(browser_of(&headers, false), None);
    }

    #[test]
    fn a_link_is_made_for_the_path_that_is_answered() {
        assert_eq!(LINK_PATH, crate::connect::links::PATH);
    }
}
