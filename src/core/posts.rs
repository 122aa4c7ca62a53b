//! Posts of the publisher that wait, as far as its own tables tell.

use super::AccountId;
use std::collections::BTreeMap;

/// What waits for one account.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Posts {
    /// Posts that are held back.
    pub held: u32,
    /// Posts that are due soon, and are lost unless the account works by then.
    pub at_risk: u32,
}

/// What waits for each account. Those that are not in it have nothing waiting.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct PostsAtRisk(BTreeMap<AccountId, Posts>);

impl PostsAtRisk {
    /// What waits for this account; nothing where the publisher's tables do not name it.
    #[must_use]
    pub fn of(&self, id: &AccountId) -> Posts {
        self.0.get(id).copied().unwrap_or_default()
    }
}

impl PostsAtRisk {
    /// All of them, in the order of their names.
    pub fn iter(&self) -> impl Iterator<Item = (&AccountId, Posts)> + '_ {
        self.0.iter().map(|(id, posts)| (id, *posts))
    }
}

impl FromIterator<(AccountId, Posts)> for PostsAtRisk {
    /// Several rows of one account are added up.
    fn from_iter<I: IntoIterator<Item = (AccountId, Posts)>>(rows: I) -> Self {
        let mut all: BTreeMap<AccountId, Posts> = BTreeMap::new();
        for (id, posts) in rows {
            let sum = all.entry(id).or_default();
            sum.held = sum.held.saturating_add(posts.held);
            sum.at_risk = sum.at_risk.saturating_add(posts.at_risk);
        }
        Self(all)
    }
}
