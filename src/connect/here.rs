//! A person connects an account at this very machine: the consent page leads back to a port of ours, and no link is
//! needed (RFC 8252 section 7.3). For a first connection, and where owners have no listener.

use super::{
    NONCE_BYTES, Query, VERIFIER_BYTES, Way,
    back::{announce, is_held, judged},
    named, random,
};
use crate::{
    core::{
        AccountId, Secret,
        connecting::{Arrived, Turn, Wrong},
    },
    providers::Asking,
    refresh::{App, Consent, Refresher, Transport},
    stores::TokenStore,
};
use std::sync::Arc;

/// One consent that was begun here.
pub struct Here {
    /// Where the person goes.
    pub url: String,
    id: AccountId,
    app: Arc<App>,
    way: Way,
    nonce: String,
    verifier: Option<Secret>,
    asked: Vec<String>,
}

impl Here {
    /// Begins to connect `id`, who will come back by `way`.
    ///
    /// # Errors
    /// Why there is no page to go to.
    pub fn begin(id: &AccountId, app: &Arc<App>, way: Way) -> Result<Self, Turn> {
        let nonce = random(NONCE_BYTES)?;
        let verifier = app.provider.uses_pkce(way.kind).then(|| random(VERIFIER_BYTES));
        let verifier = verifier.transpose()?.map(Secret::new);
        let asked = app.provider.scopes_to_ask(&app.scopes);
        let asking = Asking {
            client_id: &app.client_id,
            kind: way.kind,
            redirect_uri: &way.redirect_uri,
            scopes: &asked,
            state: &nonce,
            verifier: verifier.as_ref(),
        };
        let url = app.provider.authorize_url(&app.endpoints, &asking).ok_or(Turn::NoConsentPage)?;
        Ok(Self { url, id: id.clone(), app: Arc::clone(app), way, nonce, verifier, asked })
    }

    /// True when this is what somebody comes back with whom we sent away.
    #[must_use]
    pub fn is_awaited(&self, query: &Query) -> bool {
        query.value("state").is_some_and(|state| {
            // Hashes, so that the time it takes says nothing about how much of a guess was right.
            let hash = |text: &str| ring::digest::digest(&ring::digest::SHA256, text.as_bytes());
            hash(&self.nonce).as_ref() == hash(state.expose()).as_ref()
        })
    }

    /// Takes in what the person came back with, once.
    ///
    /// # Errors
    /// The wrong turn that was taken.
    pub async fn arrive<S: TokenStore, T: Transport>(
        self,
        refresher: &Refresher<S, T>,
        query: &Query,
        key_is_subject: bool,
    ) -> Result<Arrived, Wrong> {
        let named = named(&self.id, &self.app);
        let wrong = |turn| Wrong::turn(turn).on_the_way_to(&named);
        if let Some(turn) = query.refusal(self.app.provider, refresher.clock.now()) {
            return Err(wrong(turn));
        }
        let code = query.code(self.app.provider).ok_or_else(|| wrong(Turn::ProviderTrouble))?;
        let consent = Consent {
            id: self.id.clone(),
            app: self.app,
            code,
            redirect_uri: self.way.redirect_uri,
            verifier: self.verifier,
            asked: self.asked,
            replaces: None,
            key_is_subject,
            may_add: true,
        };
        let connected = refresher.connect(&consent).await;
        let mut arrived = judged(&named, connected)
            .map_err(|(turn, missing)| Wrong { missing, ..wrong(turn) })?;
        arrived.is_held = is_held(refresher, &self.id).await;
        announce(refresher, &self.id, &self.nonce).await;
        Ok(arrived)
    }
}
