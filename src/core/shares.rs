//! Shares: the accounts in 256 parts of about the same size, each held by one process at a time.
//!
//! Which share an account belongs to is fixed for ever by its name, so processes that have never heard of
//! each other agree about it. Absent on purpose: who holds which; that stands in the state.

use super::{AccountId, schedule};
use std::fmt;

/// How many shares there are. Fixed for ever: who holds an account hangs on it.
pub const SHARES: usize = 256;

/// A set of shares.
#[derive(Clone, Copy, PartialEq, Eq, Default)]
pub struct Shares([u64; SHARES / 64]);

impl Shares {
    /// No share.
    pub const NONE: Self = Self([0; SHARES / 64]);

    /// All of them.
    pub const ALL: Self = Self([u64::MAX; SHARES / 64]);

    /// The share of an account.
    #[must_use]
    pub fn of(id: &AccountId) -> u8 {
        // The upper bits: the lower ones of neighbouring names differ less.
        (schedule::hash(id, SALT) >> 56) as u8
    }

    /// True when `share` is among them.
    #[must_use]
    pub const fn contains(&self, share: u8) -> bool {
        self.0[share as usize / 64] & (1 << (share % 64)) != 0
    }

    /// True when the share of `id` is among them.
    #[must_use]
    pub fn contain(&self, id: &AccountId) -> bool {
        *self == Self::ALL || self.contains(Self::of(id))
    }

    /// Adds a share.
    pub const fn insert(&mut self, share: u8) {
        self.0[share as usize / 64] |= 1 << (share % 64);
    }

    /// How many there are.
    #[must_use]
    pub fn len(&self) -> usize {
        self.0.iter().map(|part| part.count_ones() as usize).sum()
    }

    /// True when there is none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        *self == Self::NONE
    }

    /// Each of them, in order.
    pub fn iter(self) -> impl Iterator<Item = u8> {
        (0..=u8::MAX).filter(move |share| self.contains(*share))
    }

    /// Those in either.
    #[must_use]
    pub fn and(self, other: Self) -> Self {
        self.with(other, |one, other| one | other)
    }

    /// Those in both.
    #[must_use]
    pub fn within(self, other: Self) -> Self {
        self.with(other, |one, other| one & other)
    }

    /// Those that are not in `other`.
    #[must_use]
    pub fn without(self, other: Self) -> Self {
        self.with(other, |one, other| one & !other)
    }

    fn with(mut self, other: Self, join: impl Fn(u64, u64) -> u64) -> Self {
        for (one, other) in self.0.iter_mut().zip(other.0) {
            *one = join(*one, other);
        }
        self
    }
}

impl FromIterator<u8> for Shares {
    fn from_iter<I: IntoIterator<Item = u8>>(shares: I) -> Self {
        let mut all = Self::NONE;
        shares.into_iter().for_each(|share| all.insert(share));
        all
    }
}

impl fmt::Debug for Shares {
    /// How many: which ones says nothing to a reader.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} of {SHARES} shares", self.len())
    }
}

/// Keeps shares apart from due instants, which come from the same hash.
const SALT: u64 = u64::from_le_bytes(*b"shares\0\0");

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_share_of_an_account_never_changes_from_release_to_release() {
        // Written down once: processes of two releases must agree about it.
        let share = |provider: &str, account: &str| Shares::of(&AccountId::new(provider, account));
        assert_eq!(
            [share("tiktok", "brand-a"), share("tiktok", "brand-b"), share("x", "")],
            [87, 143, 34]
        );
    }

    #[test]
    fn accounts_with_neighbouring_names_fill_all_shares_alike() {
        let mut counts = [0; SHARES];
        for n in 0..25_600 {
            counts[usize::from(Shares::of(&AccountId::new("tiktok", format!("brand-{n}"))))] += 1;
        }
        assert!(counts.iter().all(|count| (55..=150).contains(count)), "{counts:?}");
    }

    #[test]
    fn sets_of_shares_are_sets() {
        let some: Shares = [0, 63, 64, 255].into_iter().collect();
        let others: Shares = [63, 100].into_iter().collect();
        let shares = |shares: Shares| shares.iter().collect::<Vec<_>>();
        assert_eq!(shares(some), [0, 63, 64, 255]);
        assert_eq!(shares(some.and(others)), [0, 63, 64, 100, 255]);
        assert_eq!(shares(some.within(others)), [63]);
        assert_eq!(shares(some.without(others)), [0, 64, 255]);
        assert_eq!((some.len(), Shares::ALL.len(), Shares::NONE.len()), (4, 256, 0));
        assert!(Shares::NONE.is_empty() && !some.is_empty());
        assert_eq!(Shares::ALL.iter().count(), SHARES);
    }
}
