//! The consent page and the codes that it hands out, in TikTok's dialect: anybody may be signed in, and may grant
//! less than was asked for.

use super::{
    LogEntry, Shared, What,
    answer::{Answered, Form, page_of},
    ledger::Millis,
};
use crate::{
    demo::{
        http::{Reply, pairs_of, text_of},
        random_hex,
    },
    oauth::form_encoded,
};
use hyper::{
    Method, Request, Response,
    body::Incoming,
    header::{CONTENT_TYPE, HeaderValue, LOCATION},
};
use ring::digest;
use std::{collections::BTreeMap, sync::Arc};

pub(super) const AUTHORIZE_PATH: &str = "/v2/auth/authorize/";

/// Codes that were handed out and not brought back, and where people may be sent back to.
#[derive(Default)]
pub(super) struct Consents {
    codes: BTreeMap<String, Code>,
    /// Any when empty.
    pub(super) redirect_uris: Vec<String>,
    /// Who is signed in, unless the form says otherwise.
    pub(super) signed_in: Option<String>,
}

pub(super) struct Code {
    pub(super) account: String,
    pub(super) scopes: Vec<String>,
    redirect_uri: String,
    challenge: Option<String>,
    ends_at: Millis,
}

/// Why a code buys nothing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum NoCode {
    /// Unknown, spent, or too old.
    Finished,
    RedirectUri,
    Verifier,
}

impl Consents {
    /// The account that a code is for.
    pub(super) fn whose(&self, code: &str) -> Option<&str> {
        self.codes.get(code).map(|code| code.account.as_str())
    }

    /// Takes a code in; it works once, whatever comes of it.
    pub(super) fn redeem(&mut self, now: Millis, form: &Form) -> Result<Code, NoCode> {
        let code = form.field("code").and_then(|code| self.codes.remove(code));
        let code = code.filter(|code| now < code.ends_at).ok_or(NoCode::Finished)?;
        if form.field("redirect_uri") != Some(&code.redirect_uri) {
            return Err(NoCode::RedirectUri);
        }
        let shown = form.field("code_verifier").map(hex_of);
        if shown != code.challenge {
            return Err(NoCode::Verifier);
        }
        Ok(code)
    }
}

/// TikTok writes the hash in hexadecimal digits, where RFC 7636 has base64url.
fn hex_of(verifier: &str) -> String {
    let hash = digest::digest(&digest::SHA256, verifier.as_bytes());
    hash.as_ref().iter().map(|byte| format!("{byte:02x}")).collect()
}

pub(super) async fn authorize(provider: &Arc<Shared>, request: Request<Incoming>) -> Answered {
    let method = request.method().clone();
    let query = request.uri().query().unwrap_or_default().to_owned();
    let asked = Form(pairs_of(&query));
    if let Err(problem) = provider.takes(&asked) {
        return Ok(html(
            400,
            &format!("<h1>Something is wrong</h1><p id=\"problem\">{problem}</p>"),
        ));
    }
    if method != Method::POST {
        return Ok(html(200, &provider.form(&asked, &query)));
    }
    let decided = Form(pairs_of(&text_of(request.into_body()).await.unwrap_or_default()));
    let to = provider.decide(&asked, &decided);
    let mut answer = html(302, "");
    let to = HeaderValue::from_str(&to).unwrap_or(HeaderValue::from_static("/"));
    answer.headers_mut().insert(LOCATION, to);
    Ok(answer)
}

impl Shared {
    /// What a real provider looks at before it shows anything.
    fn takes(&self, asked: &Form) -> Result<(), &'static str> {
        let uri = asked.field("redirect_uri").unwrap_or_default();
        let state = self.state();
        let known = &state.consents.redirect_uris;
        if asked.field("client_key") != Some(&self.settings.client_key) {
            return Err("client_key");
        }
        if uri.is_empty() || !(known.is_empty() || known.iter().any(|known| known == uri)) {
            return Err("redirect_uri");
        }
        if asked.field("response_type") != Some("code") {
            return Err("response_type");
        }
        let method = asked.field("code_challenge_method");
        match asked.field("code_challenge") {
            Some(challenge) if method != Some("S256") || challenge.len() != HEX_DIGITS => {
                Err("code_challenge")
            }
            _ => Ok(()),
        }
    }

    fn form(&self, asked: &Form, query: &str) -> String {
        let state = self.state();
        let accounts: Vec<&String> = state.ledger.grants.keys().take(ACCOUNTS_SHOWN_MAX).collect();
        let signed_in = state.consents.signed_in.as_ref();
        let option = |account: &&String| {
            let chosen = if Some(*account) == signed_in { " selected" } else { "" };
            format!("<option{chosen}>{}</option>", escaped(account))
        };
        let options: String = accounts.iter().map(option).collect();
        let boxes: String = scopes_of(asked)
            .map(|scope| {
                let scope = escaped(scope);
                format!(
                    "<p><label><input type=\"checkbox\" name=\"scope\" value=\"{scope}\" checked> {scope}</label></p>"
                )
            })
            .collect();
        format!(
            "<h1>Demo provider</h1><form method=\"post\" action=\"{AUTHORIZE_PATH}?{}\">\
             <p><label>Signed in as <select name=\"account\" id=\"account\">{options}</select></label></p>{boxes}\
             <p><button name=\"decision\" value=\"allow\" id=\"allow\">Allow</button> \
             <button name=\"decision\" value=\"deny\" id=\"deny\">Deny</button></p></form>",
            escaped(query)
        )
    }

    /// Where the person is sent back to.
    fn decide(&self, asked: &Form, decided: &Form) -> String {
        let uri = asked.field("redirect_uri").unwrap_or_default();
        let back = format!("state={}", encoded(asked.field("state").unwrap_or_default()));
        let mut state = self.state();
        let account = decided.field("account").map(str::to_owned);
        let account = account.or_else(|| state.consents.signed_in.clone());
        let Some(account) = account.filter(|_| decided.field("decision") == Some("allow")) else {
            return format!("{uri}?error=access_denied&error_description=denied&{back}");
        };
        let granted: Vec<String> =
            decided.0.iter().filter(|(name, _)| name == "scope").map(|(_, s)| s.clone()).collect();
        let code = Code {
            account,
            redirect_uri: uri.to_owned(),
            challenge: asked.field("code_challenge").map(str::to_owned),
            ends_at: self.now() + CODE_LIFE_MILLIS,
            scopes: granted.clone(),
        };
        // A star must be decoded before the code is sent on, as with the real one.
        let text = format!("demo-code-{}*0!", random_hex());
        if state.consents.codes.len() < CODES_MAX {
            state.ledger.issued.push(text.clone());
            state.consents.codes.insert(text.clone(), code);
        }
        let scopes = encoded(&granted.join(","));
        format!("{uri}?code={}&scopes={scopes}&{back}", encoded(&text))
    }
}

/// The end of an exchange, for the log.
pub(super) fn logged(
    at: std::time::Duration,
    account: Option<String>,
    issued: bool,
    fault: Option<&'static str>,
) -> LogEntry {
    LogEntry { at, account, what: What::Code { issued }, fault, overlapped: false }
}

fn scopes_of(asked: &Form) -> impl Iterator<Item = &str> {
    asked.field("scope").unwrap_or_default().split(',').filter(|scope| !scope.is_empty())
}

fn encoded(text: &str) -> String {
    form_encoded(text).expose().to_owned()
}

fn escaped(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('"', "&quot;")
}

fn html(status: u16, body: &str) -> Response<Reply> {
    let document = format!(
        "<!doctype html><html lang=\"en\"><meta charset=\"utf-8\"><meta name=\"viewport\" content=\"width=device-width\"><meta name=\"color-scheme\" content=\"light dark\"><title>Demo provider</title><style>{STYLE}</style>{body}"
    );
    let mut answer = page_of(status, Reply::whole(document));
    let html = HeaderValue::from_static("text/html; charset=utf-8");
    answer.headers_mut().insert(CONTENT_TYPE, html);
    answer
}

/// A page that is not ours should not look like one of ours.
const STYLE: &str = "body{font:17px/1.6 Georgia,serif;max-width:32em;margin:2em auto;padding:0 1em}\
    button,select{font:inherit;padding:.4em 1em}";

const HEX_DIGITS: usize = 64;
const CODE_LIFE_MILLIS: Millis = 5 * 60 * 1_000;
const CODES_MAX: usize = 10_000;
const ACCOUNTS_SHOWN_MAX: usize = 100;
