//! A person comes back from the consent page.

use super::{Connector, Session, named};
use crate::{
    core::{
        AccountId, Announcement, Cause, Evidence, Fingerprint, Said, Secret, Timestamp, Whose,
        connecting::{Arrival, Arrived, Named, Turn, Wrong},
        fleet::Input,
    },
    providers::{Provider, Where},
    refresh::{Connected, Consent, Refresher, Transport},
    state::Return,
    stores::TokenStore,
};
use serde_json::{Map, Value};
use std::{
    sync::{Arc, atomic::Ordering},
    time::Duration,
};

/// What stood in the query of the address that a person came back to. Its `Debug` shows nothing: there is a code in
/// it.
pub struct Query(Vec<(String, Secret)>);

impl Query {
    /// Decodes it; of two parameters of one name the first counts.
    #[must_use]
    pub fn read(query: &str) -> Self {
        let pairs = query.get(..query.len().min(QUERY_BYTES_MAX)).unwrap_or_default();
        let pair = |pair: &str| {
            let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
            Some((decoded(name)?, Secret::new(decoded(value)?)))
        };
        Self(pairs.split('&').filter(|pair| !pair.is_empty()).filter_map(pair).collect())
    }

    /// The value of a parameter.
    #[must_use]
    pub fn value(&self, name: &str) -> Option<&Secret> {
        self.0.iter().find(|(known, _)| known == name).map(|(_, value)| value)
    }

    /// The code, under the first of the names that a provider gives it.
    #[must_use]
    pub fn code(&self, provider: &Provider) -> Option<Secret> {
        let code = provider.code_parameters().iter().find_map(|name| self.value(name))?;
        Some(code.clone()).filter(|code| !code.is_blank())
    }

    /// What a refusal says, as the provider's table reads it; `None` when it is none.
    #[must_use]
    pub fn refusal(&self, provider: &Provider, at: Timestamp) -> Option<Turn> {
        let error = self.value("error")?;
        if let Some(evidence) = self.said(provider, at) {
            return Some(turn_of(&evidence, true));
        }
        // RFC 6749 section 4.1.2.1.
        Some(match error.expose() {
            "access_denied" => Turn::Denied,
            "unauthorized_client"
            | "invalid_client"
            | "invalid_scope"
            | "unsupported_response_type" => Turn::AppRefused,
            _ => Turn::ProviderTrouble,
        })
    }

    /// What it says of the app, as far as that is understood.
    fn evidence(&self, provider: &Provider, at: Timestamp) -> Evidence {
        let by_the_rfc = || match self.value("error").map(Secret::expose) {
            Some("invalid_client") => Cause::AppCredentialsRejected,
            _ => Cause::WrongEnvironment,
        };
        self.said(provider, at).unwrap_or_else(|| Evidence::of(by_the_rfc(), at))
    }

    fn said(&self, provider: &Provider, at: Timestamp) -> Option<Evidence> {
        let text = |(name, value): &(String, Secret)| {
            (name.clone(), Value::String(value.expose().to_owned()))
        };
        let body = Value::Object(self.0.iter().map(text).collect::<Map<_, _>>());
        provider.message(Where::Redirect, &body, at)
    }
}

impl<S: TokenStore, T: Transport> Connector<S, T> {
    /// Takes in what a person came back with.
    ///
    /// It is carried out whether somebody waits for it or not: the code works once, and what it buys must not be
    /// lost because a browser was closed.
    ///
    /// # Errors
    /// The wrong turn that was taken.
    pub async fn arrive(
        self: &Arc<Self>,
        query: Query,
        browser: Option<&str>,
    ) -> Result<Arrived, Wrong> {
        let Ok(place) = Arc::clone(&self.places).try_acquire_owned() else {
            return Err(Wrong::turn(Turn::Busy));
        };
        let connector = Arc::clone(self);
        let browser = browser.unwrap_or_default().to_owned();
        let arriving = tokio::spawn(async move {
            let arrived = connector.take_in(&query, &browser).await;
            drop(place);
            arrived
        });
        arriving.await.unwrap_or(Err(Wrong::turn(Turn::Unavailable)))
    }

    async fn take_in(&self, query: &Query, browser: &str) -> Result<Arrived, Wrong> {
        let state = query.value("state").map(Secret::expose).and_then(|text| text.split_once('.'));
        let Some((link, nonce)) = state else {
            return Err(Wrong::turn(Turn::WrongState));
        };
        // Before anything else is believed of it: once, and in the browser that began.
        let session = match self.refresher.state.come_back(link, browser, nonce).await {
            Ok(Return::Now(session)) => session,
            Ok(Return::Before) => return Err(Wrong::turn(Turn::Replayed)),
            Ok(Return::OtherBrowser) => return Err(Wrong::turn(Turn::OtherBrowser)),
            Ok(Return::Unknown) => return Err(Wrong::turn(Turn::WrongState)),
            Err(error) => return Err(Wrong::turn(super::unavailable(&error))),
        };
        let Ok(session) = serde_json::from_str::<Session>(session.expose()) else {
            return Err(Wrong::turn(Turn::WrongState));
        };
        let id = AccountId::new(session.provider.as_str(), session.account.as_str());
        let apps = self.refresher.apps.load_full();
        let Some(app) = apps.get(session.app.as_str()) else {
            return Err(Wrong::turn(Turn::NoConsentPage));
        };
        let named = named(&id, app);
        let again = session.link.clone();
        let wrong = |turn: Turn| Wrong {
            again: turn.may_begin_again().then(|| again.clone()),
            ..Wrong::turn(turn).on_the_way_to(&named)
        };
        let now = self.refresher.clock.now();
        if let Some(turn) = query.refusal(app.provider, now) {
            told(&id, turn);
            self.tell_operator(&app.name, turn, query.evidence(app.provider, now));
            return Err(wrong(turn));
        }
        let Some(code) = query.code(app.provider) else {
            return Err(wrong(Turn::ProviderTrouble));
        };
        let consent = Consent {
            id: id.clone(),
            app: Arc::clone(app),
            code,
            redirect_uri: session.redirect_uri,
            verifier: session.verifier.map(Secret::new),
            asked: session.asked,
            replaces: session.replaces.map(Fingerprint::from_hash),
            key_is_subject: self.keys_are_subjects,
            may_add: false,
        };
        let connected = self.refresher.connect(&consent).await;
        if let Connected::Refused(evidence) = &connected {
            self.tell_operator(&app.name, turn_of(evidence, false), evidence.clone());
        }
        let mut arrived = judged(&named, connected)
            .map_err(|(turn, missing)| Wrong { missing, ..wrong(turn) })?;
        arrived.is_held = is_held(&self.refresher, &id).await;
        self.tell(Input::ConnectWorked { id: id.clone(), app: Arc::clone(&app.name) });
        tracing::info!(account = %id, saved = arrived.arrival == Arrival::Saved, "its owner connected it again");
        self.finish(link, &id, arrived.arrival).await;
        Ok(arrived)
    }

    /// What no owner can mend, only the operator can.
    fn tell_operator(&self, app: &Arc<str>, turn: Turn, evidence: Evidence) {
        if matches!(turn, Turn::AppRefused | Turn::RedirectUriMismatch) {
            self.tell(Input::ConnectRefused { app: Arc::clone(app), evidence });
        }
    }

    /// The keeper may be too busy to listen: the next owner tells it as well.
    fn tell(&self, input: Input) {
        let _ = self.keeper.try_send(input);
    }

    /// The link works no more, and everybody hears of the new token.
    async fn finish(&self, link: &str, id: &AccountId, arrival: Arrival) {
        if let Err(error) = self.refresher.state.end_consent(link).await {
            // It may be begun with again, by the same browser and for the same account alone.
            tracing::warn!(account = %id, %error, "a used link is not written down as used");
        }
        announce(&self.refresher, id, link).await;
        self.load_again.notify_one();
        // The journal has it: whoever waits for codes to be answered need not wait for the store.
        if arrival == Arrival::Later
            && let Ok(place) = Arc::clone(&self.waiting).try_acquire_owned()
        {
            let (refresher, unsaved) = (Arc::clone(&self.refresher), Arc::clone(&self.unsaved));
            let (id, load_again) = (id.clone(), Arc::clone(&self.load_again));
            unsaved.fetch_add(1, Ordering::Relaxed);
            tokio::spawn(async move {
                save_at_last(&refresher, &id).await;
                unsaved.fetch_sub(1, Ordering::Relaxed);
                load_again.notify_one();
                drop(place);
            });
        }
    }
}

/// Whether a person holds the account. While nobody can tell it is what it is for most.
pub(super) async fn is_held<S: TokenStore, T: Transport>(
    refresher: &Refresher<S, T>,
    id: &AccountId,
) -> bool {
    matches!(refresher.state.door(id).await, Ok(Some(door)) if door.by_hand)
}

/// Every replica hears that the account has a new token.
pub(super) async fn announce<S: TokenStore, T: Transport>(
    refresher: &Refresher<S, T>,
    id: &AccountId,
    key: &str,
) {
    let announcement = Announcement {
        key: format!("connected {key}").into(),
        whose: Whose::Account(id.clone()),
        said: Said::Connected,
        heard_at: refresher.clock.now(),
    };
    if let Err(error) = refresher.state.take_in(&announcement).await {
        // The store tells as well, a little later.
        tracing::warn!(account = %id, %error, "a new connection is not announced");
    }
}

/// The journal has the token; it is tried until the store has it, or somebody else has brought it there. Should this
/// process end before, the next one finds it.
async fn save_at_last<S: TokenStore, T: Transport>(refresher: &Refresher<S, T>, id: &AccountId) {
    let mut pause = SAVE_AGAIN_FIRST;
    loop {
        tokio::time::sleep(pause).await;
        pause = (pause * 2).min(SAVE_AGAIN_MAX);
        if refresher.store.probe().await.is_err() {
            continue;
        }
        match refresher.state.open_entry(id).await {
            Ok(None) if !refresher.held.holds(id) => return,
            Ok(_) => drop(refresher.settle(id, true).await),
            Err(_) => {}
        }
    }
}

/// What came of a code, as the person hears it.
pub(super) fn judged(named: &Named, connected: Connected) -> Result<Arrived, (Turn, Vec<String>)> {
    let arrived = |arrival, is_proven, are_scopes_known| {
        let (named, is_held) = (named.clone(), false);
        Ok(Arrived { named, arrival, is_proven, are_scopes_known, is_held })
    };
    let turn = match connected {
        Connected::Saved { is_proven, are_scopes_known, .. } => {
            return arrived(Arrival::Saved, is_proven, are_scopes_known);
        }
        Connected::Later => return arrived(Arrival::Later, true, true),
        Connected::FewerScopes(missing) => {
            told(&named.id, Turn::FewerScopes);
            return Err((Turn::FewerScopes, missing));
        }
        Connected::Theirs => Turn::Overtaken,
        Connected::OtherAccount => Turn::OtherAccount,
        Connected::Refused(evidence) => turn_of(&evidence, false),
        Connected::NotThere => Turn::UnknownAccount,
        Connected::Busy => Turn::Busy,
        Connected::Unavailable => Turn::Unavailable,
    };
    told(&named.id, turn);
    Err((turn, Vec::new()))
}

/// What no owner can mend, the operator must hear.
fn told(id: &AccountId, turn: Turn) {
    match turn {
        Turn::AppRefused | Turn::RedirectUriMismatch => {
            tracing::error!(account = %id, why = turn.as_label(), "its owner could not connect it, because the provider refuses the app as it is registered; `oauth-keepalive check` says what must be registered");
        }
        turn => {
            tracing::info!(account = %id, why = turn.as_label(), "its owner was on the way to connect it, and did not arrive");
        }
    }
}

/// What a refusal is to a person.
const fn turn_of(evidence: &Evidence, is_from_the_page: bool) -> Turn {
    match evidence.cause {
        Cause::ConsentRevoked if is_from_the_page => Turn::Denied,
        Cause::AppCredentialsRejected | Cause::WrongEnvironment | Cause::ScopeMissing => {
            Turn::AppRefused
        }
        Cause::RedirectUriMismatch => Turn::RedirectUriMismatch,
        // What a code bought was never a refresh token: the code itself is finished.
        Cause::RefreshTokenRejected
        | Cause::RefreshTokenExpired
        | Cause::AccessTokenExpired
        | Cause::ConsentRevoked => Turn::CodeRefused,
        _ => Turn::ProviderTrouble,
    }
}

fn decoded(text: &str) -> Option<String> {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.bytes();
    while let Some(byte) = rest.next() {
        bytes.push(match byte {
            b'+' => b' ',
            b'%' => {
                let high = char::from(rest.next()?).to_digit(16)?;
                let low = char::from(rest.next()?).to_digit(16)?;
                u8::try_from(high * 16 + low).ok()?
            }
            plain => plain,
        });
    }
    String::from_utf8(bytes).ok()
}

/// Longest query that is read; codes are much shorter.
const QUERY_BYTES_MAX: usize = 8 * 1024;

const SAVE_AGAIN_FIRST: Duration = Duration::from_secs(1);
const SAVE_AGAIN_MAX: Duration = Duration::from_secs(30);

#[cfg(test)]
mod tests {
    use super::*;
    use crate::providers;

    #[test]
    fn a_query_is_decoded_and_the_first_of_two_values_counts() {
        let query = Query::read("code=a%2Fb+c&code=other&state=x.y&bad=%zz&scopes=a%2Cb");
        assert_eq!(query.value("code").unwrap().expose(), "a/b c");
        assert_eq!(query.value("state").unwrap().expose(), "x.y");
        assert!(query.value("bad").is_none() && query.value("scope").is_none());
        let tiktok = providers::find("tiktok").unwrap();
        assert_eq!(query.code(tiktok).unwrap().expose(), "a/b c");
        assert!(Query::read("code=%20").code(tiktok).is_none(), "a blank code is none");
        let business = providers::find("tiktok_business").unwrap();
        assert_eq!(Query::read("auth_code=x").code(business).unwrap().expose(), "x");
    }

    #[test]
    fn a_refusal_at_the_consent_page_is_read_by_the_providers_table_and_then_by_the_rfc() {
        let at = Timestamp::from_unix(0);
        for (provider, query, expected) in [
            ("tiktok", "error=access_denied", Some(Turn::Denied)),
            ("facebook", "error=access_denied&error_reason=user_denied", Some(Turn::Denied)),
            ("linkedin", "error=user_cancelled_login", Some(Turn::Denied)),
            ("linkedin", "error=unauthorized_scope_error", Some(Turn::AppRefused)),
            ("oauth2", "error=invalid_scope", Some(Turn::AppRefused)),
            ("oauth2", "error=server_error", Some(Turn::ProviderTrouble)),
            ("oauth2", "error=something_else", Some(Turn::ProviderTrouble)),
            ("oauth2", "code=x", None),
        ] {
            let provider = providers::find(provider).unwrap();
            assert_eq!(Query::read(query).refusal(provider, at), expected, "{query}");
        }
    }

    #[test]
    fn a_refusal_of_a_code_names_whose_trouble_it_is() {
        let at = Timestamp::from_unix(0);
        for (cause, expected) in [
            (Cause::RefreshTokenRejected, Turn::CodeRefused),
            (Cause::AppCredentialsRejected, Turn::AppRefused),
            (Cause::RedirectUriMismatch, Turn::RedirectUriMismatch),
            (Cause::ProviderOutage, Turn::ProviderTrouble),
            (Cause::RateLimited, Turn::ProviderTrouble),
            (Cause::Unknown, Turn::ProviderTrouble),
        ] {
            assert_eq!(turn_of(&Evidence::of(cause, at), false), expected, "{cause:?}");
        }
    }
}
