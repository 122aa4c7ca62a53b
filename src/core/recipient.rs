//! To whom a notice goes. Apart from the notice, which has no field that could hold a secret.

use super::{Secret, notices::Way};

/// Where a notice goes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Recipient {
    /// A mail address, or the URL of a webhook: either may be a secret.
    pub address: Secret,
    /// How it gets there.
    pub way: Way,
    /// True for those who run the sidecar: no cap holds back what only they hear.
    pub is_operator: bool,
}

impl From<Secret> for Recipient {
    fn from(address: Secret) -> Self {
        Self { address, way: Way::Mail, is_operator: false }
    }
}
