//! Apps with what is needed to speak for them, and which account belongs to which.

use super::secrets::{Read, Secrets};
use crate::{
    oauth::Credentials,
    providers::{Endpoints, Provider, Renewal},
    secrets::SecretError,
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
    /// Its secrets, read when they are used. What is found out about them outlives a reload.
    pub client_secrets: Arc<Secrets>,
    /// Scopes that publishing needs.
    pub scopes: Arc<[Arc<str>]>,
    /// True when accounts of its provider belong to it unless the store says otherwise.
    pub is_default: bool,
    /// True while its owner tests it at the provider, and consents live shorter.
    pub is_testing: bool,
}

impl App {
    /// True when the access token is what renews itself.
    #[must_use]
    pub fn renews_itself(&self) -> bool {
        self.provider.renewal == Renewal::ExtendInPlace
    }

    /// Its credentials as they read now, with the secret that is in use.
    ///
    /// # Errors
    /// When no secret can be read.
    pub fn credentials(&self) -> Result<(Credentials, usize), SecretError> {
        let read = self.client_secrets.read()?;
        let position = read.position;
        Ok((self.with(read), position))
    }

    /// The same with the secret at `position`.
    ///
    /// # Errors
    /// When that one cannot be read.
    pub fn credentials_at(&self, position: usize) -> Result<Credentials, SecretError> {
        Ok(self.with(self.client_secrets.read_at(position)?))
    }

    fn with(&self, read: Read) -> Credentials {
        Credentials { client_id: self.client_id.clone(), client_secret: read.secret }
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
