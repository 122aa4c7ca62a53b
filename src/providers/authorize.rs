//! How a person connects an account: the address of the consent page, and what becomes of the code.
//!
//! Each of these is made from the provider's data. Absent on purpose: randomness. Whoever calls brings state and
//! verifier, and keeps them.

use super::{
    Endpoints, Provider, Renewal,
    check::{self, Checked, wrong},
    interpret::{self, Answers},
    pkce::{self, Pkce},
    redirect::Rules,
    request::{self, Consent, Placeholder, Refresh, Template, Values},
    rules::Known,
    schema::{
        AnswerForm, AuthorizeForm, ClientAuth, GrantWord, KindForm, MethodWord, NeedWord,
        SeparatorWord, UnsaidWord,
    },
};
use crate::{
    core::{Secret, Timestamp},
    oauth::{Credentials, Exchange, Outcome, Request, Token, form_encoded},
};
use serde::Deserialize;
use std::sync::Arc;

/// What kind of client an app is registered as.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Kind {
    /// It has a server of its own, to which people come back.
    #[default]
    Web,
    /// It runs on its user's machine.
    Desktop,
}

impl Kind {
    /// The word for it in configuration and messages.
    #[must_use]
    pub const fn as_label(self) -> &'static str {
        match self {
            Self::Web => "web",
            Self::Desktop => "desktop",
        }
    }
}

/// What is asked of a person.
#[derive(Clone, Copy, Debug)]
pub struct Asking<'a> {
    /// The app's public id.
    pub client_id: &'a str,
    /// What the app is registered as.
    pub kind: Kind,
    /// Where the person comes back to, as it is registered, character for character.
    pub redirect_uri: &'a str,
    /// What is asked for: [`Provider::scopes_to_ask`].
    pub scopes: &'a [String],
    /// What comes back with them.
    pub state: &'a str,
    /// What only we know; it is sent where [`Provider::uses_pkce`].
    pub verifier: Option<&'a Secret>,
}

/// What a person came back with.
#[derive(Clone, Copy, Debug)]
pub struct Returned<'a> {
    /// The code, as it stood in the query.
    pub code: &'a Secret,
    /// The same as was asked with.
    pub redirect_uri: &'a str,
    /// The same as was asked with.
    pub verifier: Option<&'a Secret>,
}

/// The part of a provider that its file says about consent.
#[derive(Debug)]
pub(super) struct Authorize {
    params: Vec<(String, Template)>,
    separator: &'static str,
    scope_for_renewal: Option<String>,
    unsaid: UnsaidWord,
    returned_code: Vec<String>,
    strip_code_suffix: Option<String>,
    exchange: Refresh,
    answers: Answers,
    lengthen: Option<Refresh>,
    web: Option<OfKind>,
    desktop: Option<OfKind>,
}

#[derive(Debug)]
struct OfKind {
    pkce: Option<Pkce>,
    redirect: Rules,
}

impl Authorize {
    const fn of(&self, kind: Kind) -> Option<&OfKind> {
        match kind {
            Kind::Web => self.web.as_ref(),
            Kind::Desktop => self.desktop.as_ref(),
        }
    }
}

impl Provider {
    /// Why no link can connect an account, and what to do instead; `None` where one can.
    #[must_use]
    pub fn instead_of_consent(&self) -> Option<&str> {
        self.consent.as_ref().err().map(String::as_str)
    }

    fn authorize(&self) -> Option<&Authorize> {
        self.consent.as_ref().ok()
    }

    /// Whether it knows apps of this kind.
    #[must_use]
    pub fn has_kind(&self, kind: Kind) -> bool {
        self.authorize().is_some_and(|authorize| authorize.of(kind).is_some())
    }

    /// Whether a code is bound to a verifier of ours.
    #[must_use]
    pub fn uses_pkce(&self, kind: Kind) -> bool {
        self.authorize()
            .and_then(|authorize| authorize.of(kind))
            .is_some_and(|of| of.pkce.is_some())
    }

    /// The consent page, with the app's own in front.
    #[must_use]
    pub fn authorize_endpoint<'a>(&'a self, endpoints: &'a Endpoints) -> Option<&'a str> {
        endpoints.authorize.as_deref().or(self.authorize_endpoint.as_deref())
    }

    /// Where a code becomes a token, with the app's own in front. Where codes and refresh tokens go to one
    /// place, so do those of an app that names another.
    #[must_use]
    pub fn code_endpoint<'a>(&'a self, endpoints: &'a Endpoints) -> Option<&'a str> {
        let is_one = self.code_endpoint == self.refresh_endpoint;
        let own = endpoints.exchange.as_deref();
        let shared = endpoints.token.as_deref().filter(|_| is_one);
        own.or(shared).or(self.code_endpoint.as_deref())
    }

    /// The scopes that are asked for, where publishing needs `scopes`: each once, and the one without which
    /// nothing renews the token.
    #[must_use]
    pub fn scopes_to_ask(&self, scopes: &[Arc<str>]) -> Vec<String> {
        let mut asked: Vec<String> = Vec::with_capacity(scopes.len() + 1);
        let renewal = self.authorize().and_then(|authorize| authorize.scope_for_renewal.as_deref());
        for scope in scopes.iter().map(AsRef::as_ref).chain(renewal) {
            if !asked.iter().any(|known| known == scope) {
                asked.push(scope.to_owned());
            }
        }
        asked
    }

    /// Where the person is sent to; `None` where there is no such page, or none for apps of this kind.
    #[must_use]
    pub fn authorize_url(&self, endpoints: &Endpoints, asking: &Asking<'_>) -> Option<String> {
        let authorize = self.authorize()?;
        let pkce = authorize.of(asking.kind)?.pkce;
        let page = self.authorize_endpoint(endpoints)?;
        let challenge = pkce.zip(asking.verifier);
        let challenge = challenge.map(|(pkce, verifier)| pkce.challenge(verifier));
        let scopes = asking.scopes.join(authorize.separator);
        let credentials =
            Credentials { client_id: asking.client_id.to_owned(), client_secret: None };
        let values = Values {
            credentials: Some(&credentials),
            consent: Consent {
                redirect_uri: Some(asking.redirect_uri),
                scopes: (!scopes.is_empty()).then_some(scopes.as_str()),
                state: Some(asking.state),
                code_challenge: challenge.as_deref(),
                ..Consent::default()
            },
            ..Values::default()
        };
        let mut url = page.to_owned();
        let mut joint = '?';
        for (name, value) in request::filled(&authorize.params, &values) {
            url.push(joint);
            joint = '&';
            for (text, after) in [(name.as_str(), "="), (value.expose(), "")] {
                // Both spellings of a blank are read by who decodes a form; %20 is also read by those who do not.
                url.push_str(&form_encoded(text).expose().replace('+', "%20"));
                url.push_str(after);
            }
        }
        Some(url)
    }

    /// Under which names a code comes back.
    #[must_use]
    pub fn code_parameters(&self) -> &[String] {
        self.authorize().map_or(&[], |authorize| &authorize.returned_code)
    }

    /// The request that makes a token of a code.
    #[must_use]
    pub fn exchange_request(
        &self,
        endpoints: &Endpoints,
        credentials: &Credentials,
        returned: &Returned<'_>,
    ) -> Option<Request> {
        let authorize = self.authorize()?;
        let code = returned.code.expose();
        let suffix = authorize.strip_code_suffix.as_deref().unwrap_or_default();
        let code = code.strip_suffix(suffix).unwrap_or(code);
        let values = Values {
            credentials: Some(credentials),
            consent: Consent {
                code: Some(code).filter(|code| !code.trim().is_empty()),
                code_verifier: returned.verifier.map(Secret::expose),
                redirect_uri: Some(returned.redirect_uri),
                ..Consent::default()
            },
            ..Values::default()
        };
        authorize.exchange.request(self.code_endpoint(endpoints)?, &values)
    }

    /// What that request amounts to. `at` is when the answer arrived.
    #[must_use]
    pub fn exchanged(&self, exchange: &Exchange, at: Timestamp) -> Outcome {
        let answers = self.authorize().map_or(&self.answers, |authorize| &authorize.answers);
        let known = Known { grant: GrantWord::Code, ..Known::default() };
        interpret::outcome_by(self, answers, exchange, &known, at)
    }

    /// The request that makes a long-lived token of a short-lived one; `None` where a code buys the former.
    #[must_use]
    pub fn lengthen_request(
        &self,
        endpoints: &Endpoints,
        credentials: &Credentials,
        short: &Token,
    ) -> Option<Request> {
        let form = self.authorize()?.lengthen.as_ref()?;
        let endpoint = endpoints.lengthen.as_deref().or(self.lengthen_endpoint.as_deref())?;
        let credentials = Some(credentials);
        form.request(endpoint, &Values { credentials, token: Some(short), ..Values::default() })
    }

    /// What that request amounts to.
    #[must_use]
    pub fn lengthened(&self, exchange: &Exchange, at: Timestamp) -> Outcome {
        let known = Known { grant: GrantWord::Code, ..Known::default() };
        interpret::outcome(self, exchange, &known, at)
    }

    /// What was granted where the answer does not say: everything that was asked for, or nobody knows.
    #[must_use]
    pub fn granted_unsaid(&self, asked: &[String]) -> Option<Vec<String>> {
        let as_asked = self.authorize()?.unsaid == UnsaidWord::AsAsked;
        (as_asked && !asked.is_empty()).then(|| asked.to_owned())
    }

    /// What is wrong with a redirect URI by this provider's rules, one sentence each; empty when it may be
    /// registered.
    #[must_use]
    pub fn redirect_faults(&self, kind: Kind, uri: &str) -> Vec<String> {
        let Some(of_kind) = self.authorize().and_then(|authorize| authorize.of(kind)) else {
            return Vec::new();
        };
        of_kind.redirect.faults(uri)
    }

    /// How a redirect URI must end.
    #[must_use]
    pub fn redirect_ends_with(&self, kind: Kind) -> Option<&str> {
        self.authorize()?.of(kind)?.redirect.ends_with()
    }

    /// True when any port on this machine will do, whichever is registered.
    #[must_use]
    pub fn takes_any_loopback_port(&self, kind: Kind) -> bool {
        let of_kind = self.authorize().and_then(|authorize| authorize.of(kind));
        of_kind.is_some_and(|of_kind| of_kind.redirect.takes_any_loopback_port())
    }
}

/// Checks what the form alone cannot. `usual` is how the provider's other answers read.
pub(super) fn checked(form: AuthorizeForm, usual: &AnswerForm) -> Checked<Authorize> {
    if form.web.is_none() && form.desktop.is_none() {
        return wrong("authorize", "is for no kind of app; add `web`, `desktop` or both");
    }
    let params = check::templates_of("authorize.params", form.params, &Placeholder::OF_THE_PAGE)?;
    for needed in [Placeholder::ClientId, Placeholder::RedirectUri, Placeholder::State] {
        if !request::uses(&params, needed) {
            // Without `state` anybody could have a victim's browser finish a consent that is not the victim's.
            return wrong("authorize.params", format!("nothing sends `{needed}`"));
        }
    }
    let client_auth = form.exchange.client_auth;
    let exchange = check::request("authorize.exchange", form.exchange, &Placeholder::OF_A_CODE)?;
    check::named(client_auth, "authorize.exchange", &exchange)?;
    if client_auth == ClientAuth::None {
        return wrong("authorize.exchange.client_auth", "a code is given to an app; name it");
    }
    if !exchange.uses(Placeholder::Code) {
        return wrong("authorize.exchange.params", "nothing sends `{code}`");
    }
    if exchange.method == MethodWord::Post && !exchange.uses(Placeholder::RedirectUri) {
        return wrong("authorize.exchange.params", "nothing sends `{redirect_uri}`");
    }
    let lengthen = form.lengthen;
    let lengthen = lengthen
        .map(|form| check::request("authorize.lengthen", form, &Placeholder::OF_TOKENS))
        .transpose()?;
    if lengthen.as_ref().is_some_and(|lengthen| !lengthen.uses(Template::ACCESS_TOKEN)) {
        return wrong("authorize.lengthen.params", "nothing sends `{access_token}`");
    }
    let sends_challenge = request::uses(&params, Placeholder::CodeChallenge)
        && request::uses(&params, Placeholder::CodeChallengeMethod);
    let sends_both = sends_challenge && exchange.uses(Placeholder::CodeVerifier);
    let of_kind = |name: &str, form: Option<KindForm>| {
        form.map(|form| of_kind(&format!("authorize.{name}"), form, sends_both)).transpose()
    };
    let answers = match &form.answer {
        Some(own) => check::answers("authorize.answer", own)?,
        None => check::answers("answer", usual)?,
    };
    Ok(Authorize {
        params,
        separator: match form.scope_separator {
            SeparatorWord::Space => " ",
            SeparatorWord::Comma => ",",
        },
        scope_for_renewal: form.scope_for_renewal,
        unsaid: form.scopes_unsaid,
        returned_code: form.returned_code.0,
        strip_code_suffix: form.strip_code_suffix,
        exchange,
        answers,
        lengthen,
        web: of_kind("web", form.web)?,
        desktop: of_kind("desktop", form.desktop)?,
    })
}

fn of_kind(at: &str, form: KindForm, sends_both: bool) -> Checked<OfKind> {
    if form.pkce.need != NeedWord::None && !sends_both {
        return wrong(
            &format!("{at}.pkce"),
            "is used, yet not all of `{code_challenge}`, `{code_challenge_method}` and `{code_verifier}` are sent",
        );
    }
    Ok(OfKind {
        pkce: pkce::checked(form.pkce),
        redirect: Rules::checked(&format!("{at}.redirect"), form.redirect)?,
    })
}

impl Renewal {
    /// True when a consent that brings no refresh token has brought nothing that lasts.
    #[must_use]
    pub const fn wants_refresh_token(self) -> bool {
        matches!(self, Self::Rotating | Self::Stable)
    }
}
