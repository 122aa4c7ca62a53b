//! A store in one YAML or JSON file.

use super::{Error, Saved, Status, StoredAccount, TokenStore};
use crate::{
    core::{AccountId, Fingerprint},
    oauth::{Fingerprinter, Token},
};
use std::{path::PathBuf, time::Duration};

/// Where the file is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Settings {
    /// `.yaml`, `.yml` or `.json`.
    pub path: PathBuf,
    /// How often the file is looked at besides watching its directory.
    pub poll_every: Duration,
}
/// See the module.
pub struct FileStore;
impl FileStore {
    /// Opens.
    pub async fn open(_: Settings, _: Fingerprinter) -> Result<Self, Error> {
        unimplemented!()
    }
}
impl TokenStore for FileStore {
    async fn load(
        &self,
        _: impl FnMut(StoredAccount) + Send,
        _: impl FnMut(Error) + Send,
    ) -> Result<(), Error> {
        unimplemented!()
    }
    async fn get(&self, _: &AccountId) -> Result<Option<StoredAccount>, Error> {
        unimplemented!()
    }
    async fn save(&self, _: &AccountId, _: &Token, _: Fingerprint) -> Result<Saved, Error> {
        unimplemented!()
    }
    async fn mark(&self, _: &AccountId, _: Status) -> Result<(), Error> {
        unimplemented!()
    }
    async fn add(&self, _: &StoredAccount) -> Result<Saved, Error> {
        unimplemented!()
    }
    async fn probe(&self) -> Result<(), Error> {
        unimplemented!()
    }
    async fn changed(&self) {
        unimplemented!()
    }
}
