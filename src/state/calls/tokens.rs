//! Leases and the journal: what keeps a token from being lost.

use super::super::{Error, State, journal, newest, sealed_token};
use crate::{
    core::{AccountId, Fingerprint, Timestamp},
    oauth::Token,
    postgres_save::{Looks, Save},
};
use std::time::Duration;

/// The right to refresh one account until it expires; a newer epoch makes it worthless.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Lease {
    /// Which account.
    pub id: AccountId,
    /// Rises with every taking; never the same twice, whatever the account.
    pub epoch: u64,
}

/// A row of the journal: one attempt to spend a refresh token.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct EntryId(pub i64);

/// What must be durable before the first byte of a refresh request leaves.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Intent {
    /// The token being replaced.
    pub old: Fingerprint,
    /// The refresh token being spent.
    pub spending: Fingerprint,
    /// When the request starts.
    pub requested_at: Timestamp,
    /// When the request is over, whatever happens: its total deadline.
    pub over_at: Timestamp,
}

impl Intent {
    /// What stands for a refresh token where none is spent, but a person's `code`. No fingerprint looks so but one in
    /// four thousand million.
    #[must_use]
    pub const fn spending_of_code(code: Fingerprint) -> Fingerprint {
        Fingerprint::from_hash(code.as_hash() | OF_A_CODE)
    }

    /// True when the account's own token is left alone whatever became of the request: a person brought a code.
    #[must_use]
    pub const fn is_of_consent(&self) -> bool {
        self.spending.as_hash() & OF_A_CODE == OF_A_CODE
    }
}

/// The bits that tell the fingerprint of a code.
const OF_A_CODE: u64 = 0xffff_ffff_0000_0000;

/// An attempt that has not been brought to its end.
#[derive(Clone, Debug)]
pub struct OpenEntry {
    /// Its row.
    pub entry: EntryId,
    /// Which account.
    pub id: AccountId,
    /// What was intended.
    pub intent: Intent,
    /// True when the one probe after an ambiguous outcome has been sent.
    pub probed: bool,
    /// The new token, once the provider's answer was recorded.
    pub result: Option<Token>,
}

/// The newest token that we put into the store, or the one that died there; and what was spent for it.
#[derive(Clone, Debug)]
pub struct Newest {
    /// The token.
    pub token: Token,
    /// The refresh tokens that providers replaced on the way to it, newest first: never to be sent again.
    pub spent: Vec<Fingerprint>,
}

/// How an attempt ended. The row is removed, except for an orphan.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Closing {
    /// The new token is in the store, and nothing of it is kept. [`State::complete`] keeps it.
    Done,
    /// The refresh token was not spent, or another token is in the store by now.
    Void,
    /// We hold a token that the store must not take, because somebody else wrote another one. It is
    /// kept, sealed, for a person or a later settlement.
    Orphan,
}

/// Leases and the journal.
#[expect(clippy::missing_errors_doc, reason = "said once, above each block")]
impl State {
    /// `None` while somebody else holds a live lease, and when a replica does not hold the account's share.
    /// Each taking makes the lease before it worthless, and
    /// hands an attempt that is open over to its taker. On PostgreSQL `now` is not looked at.
    pub async fn take_lease(
        &self,
        id: &AccountId,
        now: Timestamp,
        life: Duration,
    ) -> Result<Option<Lease>, Error> {
        self.0.backend.take_lease(id, now, life).await
    }

    /// Gives a lease back; one that was lost is left alone.
    pub async fn release(&self, lease: &Lease) -> Result<(), Error> {
        self.0.backend.release(lease).await
    }

    /// Must have returned before the first byte of the request leaves. Fails with `LeaseLost` when the
    /// epoch is not ours any more or the lease does not last until `over_at`, with `EntryOpen` when an
    /// earlier attempt is not settled, with either when another account is just spending the same refresh token, and with `Unavailable` when there would be no room for the result.
    /// The very same intent again, under the same lease, is the same entry.
    pub async fn intend(&self, lease: &Lease, intent: &Intent) -> Result<EntryId, Error> {
        self.0.backend.intend(lease, intent).await
    }

    /// Spends the one probe of an ambiguous entry; false when it was spent before, or when the entry has
    /// a result or is closed by now. Fails like [`State::intend`].
    pub async fn intend_probe(
        &self,
        lease: &Lease,
        entry: EntryId,
        over_at: Timestamp,
    ) -> Result<bool, Error> {
        self.0.backend.intend_probe(lease, entry, over_at).await
    }

    /// Gives the one probe back: the provider refused it before it looked at the refresh token. Fails with
    /// `LeaseLost` when somebody else has taken the account over.
    pub async fn return_probe(&self, entry: EntryId) -> Result<(), Error> {
        self.0.backend.return_probe(entry).await
    }

    /// Records the new token. Accepted whatever happened to the lease or the entry: the provider has
    /// already forgotten the old one. What cannot be the entry's result is kept as an orphan. To be
    /// repeated until it succeeds; repeating it does no harm.
    pub async fn record_result(
        &self,
        entry: EntryId,
        id: &AccountId,
        token: &Token,
    ) -> Result<(), Error> {
        let (result, sealed) = self.sealed(id, token)?;
        self.0.backend.record_result(entry, id, result, sealed).await
    }

    /// Does in one transaction what [`State::record_result`], the store's save and [`State::complete`] do.
    /// When the publisher's table does not take the save, the result is recorded all the same and the answer
    /// is `None`: then it is to be saved as from any other entry. Fails, and is to be repeated, like
    /// [`State::record_result`].
    pub async fn record_and_save(
        &self,
        entry: EntryId,
        id: &AccountId,
        token: &Token,
        renewable_by: Option<Fingerprint>,
        spent: Option<Fingerprint>,
        save: Save,
    ) -> Result<Option<Looks>, Error> {
        let (result, sealed) = self.sealed(id, token)?;
        let kept = newest::Kept { spent, renewable_by, sealed: sealed.clone() };
        self.0.backend.record_and_save(entry, id, result, sealed, kept, save).await
    }

    fn sealed(&self, id: &AccountId, token: &Token) -> Result<(Fingerprint, Vec<u8>), Error> {
        let sealed = sealed_token::seal(&self.0.sealer, id, token);
        let sealed = sealed.map_err(|refusal| self.error(&refusal))?;
        Ok((self.0.fingerprinter.of_token(token), sealed))
    }

    /// Ends an entry; one that has been ended before is left alone. Fails with `LeaseLost` when somebody
    /// else has taken the account over: the entry is his to end. Fails with `EntryOpen` when it should be
    /// voided and has a result by now: that is a token to be saved.
    pub async fn close(&self, entry: EntryId, closing: Closing) -> Result<(), Error> {
        self.0.backend.close(entry, closing).await
    }

    /// Ends an entry whose new token is in the store, and keeps that token, sealed, as the newest of its
    /// account together with `spent`, the refresh token that the provider replaced by it; `None` when it lives
    /// on. `renewable_by` is what renews the new one. One record an account, a handful of spent tokens in it;
    /// fails like [`State::close`].
    pub async fn complete(
        &self,
        entry: EntryId,
        id: &AccountId,
        token: &Token,
        renewable_by: Option<Fingerprint>,
        spent: Option<Fingerprint>,
    ) -> Result<(), Error> {
        let sealed = sealed_token::seal(&self.0.sealer, id, token);
        let sealed = sealed.map_err(|refusal| self.error(&refusal))?;
        let kept = newest::Kept { spent, renewable_by, sealed };
        self.0.backend.complete(entry, id, kept).await
    }

    /// Ends an entry whose refresh token is finished: it counts among the spent ones from now on, and whatever is
    /// written to the store later, it is not presented again. `newest` is what would renew the token that
    /// [`State::complete`] kept: it is spent as well, for it is the dead one or older than that, and must not come
    /// back over a newer consent that has died. Where nothing was kept, `dead` is, so that the verdict outlives a
    /// crash that comes before anybody was told; `None` leaves such an account as it is. Fails like [`State::close`].
    pub async fn bury(
        &self,
        entry: EntryId,
        id: &AccountId,
        newest: Option<Fingerprint>,
        dead: Option<&Token>,
    ) -> Result<(), Error> {
        let sealed = dead.map(|token| sealed_token::seal(&self.0.sealer, id, token)).transpose();
        let sealed = sealed.map_err(|refusal| self.error(&refusal))?;
        self.0.backend.bury(entry, newest, sealed).await
    }

    /// What [`State::complete`] kept of an account, until it is forgotten.
    pub async fn newest(&self, id: &AccountId) -> Result<Option<Newest>, Error> {
        let Some(sealed) = self.0.backend.newest(id).await? else { return Ok(None) };
        let token = sealed_token::open(&self.0.sealer, id, &sealed.token);
        let token = token.map_err(|refusal| self.error(&refusal))?;
        Ok(Some(Newest { token, spent: sealed.spent }))
    }

    /// The account that spent a refresh token, so far as that is kept: whoever else holds it must not present it.
    pub async fn spender(&self, spent: Fingerprint) -> Result<Option<AccountId>, Error> {
        self.0.backend.spender(spent).await
    }

    /// Every attempt that must be brought to its end, oldest first; orphans are not among them.
    pub async fn open_entries(&self) -> Result<Vec<OpenEntry>, Error> {
        let sealed = self.0.backend.open_entries(None).await?;
        sealed.into_iter().map(|entry| self.open_sealed(entry)).collect()
    }

    /// The attempt at one account that must be brought to its end.
    pub async fn open_entry(&self, id: &AccountId) -> Result<Option<OpenEntry>, Error> {
        let sealed = self.0.backend.open_entries(Some(id)).await?;
        sealed.into_iter().next().map(|entry| self.open_sealed(entry)).transpose()
    }

    /// How many entries are open.
    pub async fn journal_len(&self) -> Result<usize, Error> {
        Ok(self.0.backend.lengths().await?.0)
    }

    /// How many tokens are kept that the store must not take.
    pub async fn orphans_len(&self) -> Result<usize, Error> {
        Ok(self.0.backend.lengths().await?.1)
    }

    fn open_sealed(&self, sealed: journal::Sealed) -> Result<OpenEntry, Error> {
        let journal::Sealed { entry, id, intent, probed, result } = sealed;
        let result = result
            .map(|record| sealed_token::open(&self.0.sealer, &id, &record))
            .transpose()
            .map_err(|refusal| self.error(&refusal))?;
        Ok(OpenEntry { entry, id, intent, probed, result })
    }
}
