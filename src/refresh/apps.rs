//! Apps with what is needed to speak for them, and which account belongs to which.

use crate::{
    oauth::Credentials,
    providers::{Endpoints, Provider, Renewal},
    secrets::SecretRef,
    stores::StoredAccount,
};
use std::{collections::BTreeMap, sync::Arc};

/// An app with what is needed to speak for it.
#[derive(Clone, Debug)]
pub struct App {
    /// Its name.
    pub name: Arc<str>,
    /// Its provider.
    pub provider: &'static Provider,
    /// Where the provider is.
    pub endpoints: Endpoints,
    /// Public id.
    pub client_id: String,
    /// Its secret, read when it is used.
    pub client_secret: Option<SecretRef>,
    /// Scopes that publishing needs.
    pub scopes: Arc<[Arc<str>]>,
    /// True when accounts of its provider belong to it unless the store says otherwise.
    pub is_default: bool,
}

impl App {
    /// True when the access token is what renews itself.
    #[must_use]
    pub fn renews_itself(&self) -> bool {
        self.provider.renewal == Renewal::ExtendInPlace
    }

    /// Its credentials as they read now.
    ///
    /// # Errors
    /// When the secret cannot be read.
    pub fn credentials(&self) -> Result<Credentials, crate::secrets::SecretError> {
        let client_secret = self.client_secret.as_ref().map(SecretRef::read).transpose()?;
        Ok(Credentials { client_id: self.client_id.clone(), client_secret })
    }
}

/// Every app, by name.
pub type Apps = BTreeMap<Arc<str>, Arc<App>>;

/// The app of a stored account: the one that the store names, or its provider's default.
#[must_use]
pub fn app_of<'a>(apps: &'a Apps, account: &StoredAccount) -> Option<&'a Arc<App>> {
    match &account.app {
        Some(name) => apps.get(name).filter(|app| *app.provider.name == *account.id.provider),
        None => {
            apps.values().find(|app| app.is_default && *app.provider.name == *account.id.provider)
        }
    }
}
