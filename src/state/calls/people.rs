//! What people and their publishers say: announcements, links, canaries, and how far their logs were read.

use super::super::{
    Beginning, Error, Heard, INBOX_KEPT_FOR, Return, Standing, State, consents, inbox, seal,
};
use crate::core::{AccountId, Announcement, Door, Secret, Timestamp, permits::Canary};

/// What was announced of accounts.
#[expect(clippy::missing_errors_doc, reason = "said once, above each block")]
impl State {
    /// Keeps an announcement; false when it was kept before. What is older than [`INBOX_KEPT_FOR`] is forgotten,
    /// and beyond [`INBOX_MESSAGES_MAX`](crate::state::INBOX_MESSAGES_MAX) the oldest. Not fenced: every replica may hear of every account.
    pub async fn take_in(&self, announcement: &Announcement) -> Result<bool, Error> {
        let letter = inbox::letter(announcement);
        let forget_until = announcement.heard_at.minus(INBOX_KEPT_FOR);
        self.0.backend.take_in(letter, forget_until).await
    }

    /// The gate of one account as it was written down last, by whoever holds it; `None` where nothing is remembered
    /// of it.
    pub async fn door(&self, id: &AccountId) -> Result<Option<Door>, Error> {
        self.0.backend.door(id).await
    }

    /// What is kept beyond `position`, the oldest first. What this version cannot read is left out.
    ///
    /// Replicas write side by side, so one at a lower position may be seen a moment later than the one after it.
    pub async fn heard_after(&self, position: i64) -> Result<Vec<Heard>, Error> {
        let kept = self.0.backend.heard_after(position).await?;
        Ok(kept
            .into_iter()
            .filter_map(|(position, letter)| inbox::read(position, letter))
            .collect())
    }
}

/// Links by which accounts are connected, and the consents that were begun with them.
#[expect(clippy::missing_errors_doc, reason = "said once, above each block")]
impl State {
    /// What links are signed with: the same for every process with our sealing key, and for nobody else.
    #[must_use]
    pub fn link_key(&self) -> ring::hmac::Key {
        ring::hmac::Key::new(ring::hmac::HMAC_SHA256, &self.0.sealer.derive("connect links"))
    }

    /// What is known of a link, to the browser that shows this.
    pub async fn consent_standing(&self, link: &str, browser: &str) -> Result<Standing, Error> {
        self.0.backend.consent_standing(link.to_owned(), hash(browser)).await
    }

    /// Writes down that `browser` began to connect an account with `link`, what must come back with the code, and
    /// what must be known then, which is sealed. The same browser may begin again until [`State::end_consent`].
    pub async fn begin_consent(
        &self,
        link: &str,
        browser: &str,
        nonce: &str,
        known: &str,
        ends_at: Timestamp,
        now: Timestamp,
    ) -> Result<Beginning, Error> {
        let sealed = self.0.sealer.seal(seal::Context::consent(link), known.as_bytes());
        let sealed = sealed.map_err(|refusal| self.error(&refusal))?;
        let (browser, nonce) = (hash(browser), hash(nonce));
        let begun = consents::Begun { link: link.to_owned(), browser, nonce, sealed, ends_at };
        self.0.backend.begin_consent(begun, now).await
    }

    /// Somebody comes back with `nonce`. It counts once, and in the browser that began; another one, or another
    /// `nonce`, changes nothing.
    pub async fn come_back(
        &self,
        link: &str,
        browser: &str,
        nonce: &str,
    ) -> Result<Return<Secret>, Error> {
        let found = self.0.backend.come_back(link.to_owned(), hash(browser), hash(nonce)).await?;
        Ok(match found {
            Return::Now(sealed) => {
                let known = self.0.sealer.open(seal::Context::consent(link), &sealed);
                let known = known.map_err(|refusal| self.error(&refusal))?;
                Return::Now(Secret::new(String::from_utf8_lossy(&known).into_owned()))
            }
            Return::Before => Return::Before,
            Return::OtherBrowser => Return::OtherBrowser,
            Return::Unknown => Return::Unknown,
        })
    }

    /// The link did its work and works no more.
    pub async fn end_consent(&self, link: &str) -> Result<(), Error> {
        self.0.backend.end_consent(link.to_owned()).await
    }
}

/// Drawn at random by us and long: its hash is nobody's to guess.
fn hash(text: &str) -> Vec<u8> {
    ring::digest::digest(&ring::digest::SHA256, text.as_bytes()).as_ref().to_vec()
}

/// Which post may prove which account.
#[expect(clippy::missing_errors_doc, reason = "said once, above each block")]
impl State {
    /// Lets `post` prove `id` from `now` until `until`, unless another one may. Answers with the one that may, whoever
    /// let it go.
    pub async fn claim_canary(
        &self,
        id: &AccountId,
        post: &str,
        now: Timestamp,
        until: Timestamp,
    ) -> Result<Canary, Error> {
        self.0.backend.claim_canary(id.clone(), post.to_owned(), (now, until)).await
    }

    /// The post was reported: it goes no more, and no other before `until`, or before its time is over.
    pub async fn report_canary(&self, id: &AccountId, until: Timestamp) -> Result<(), Error> {
        self.0.backend.report_canary(id.clone(), until).await
    }

    /// The gate moved at `moved_at`: what was let go before does not count any more.
    pub async fn end_canary(&self, id: &AccountId, moved_at: Timestamp) -> Result<(), Error> {
        self.0.backend.end_canary(id.clone(), moved_at).await
    }
}

/// How far logs and tables of the publisher were read.
#[expect(clippy::missing_errors_doc, reason = "said once, above each block")]
impl State {
    /// What was last kept under this name. Not fenced: each replica has names of its own.
    pub async fn position_of(&self, name: &str) -> Result<Option<String>, Error> {
        self.0.backend.position_of(name).await
    }

    /// Keeps a position under this name. One that nobody moved for three months is forgotten.
    pub async fn keep_position(
        &self,
        name: &str,
        position: &str,
        at: Timestamp,
    ) -> Result<(), Error> {
        self.0.backend.keep_position(name, position, at).await
    }
}
