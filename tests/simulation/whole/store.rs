//! The publisher's store, as one of our processes reaches it.

use super::{
    faults::Fault,
    laws,
    replica::Process,
    truth::{Millis, Row, SECOND, START, read},
    world::{Peer, Truth},
};
use oauth_keepalive::{
    core::{AccountId, Fingerprint, Secret},
    oauth::Token,
    stores::{Error, Saved, Status, StoredAccount, TokenStore},
};
use std::sync::{
    Arc,
    atomic::{AtomicU64, Ordering},
};

pub(crate) struct Shelf {
    pub(crate) process: Arc<Process>,
    /// What the last look for changes found.
    seen: AtomicU64,
}

/// How often the store is looked at for changes.
const POLLED_EVERY: Millis = 30 * SECOND;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Fate {
    Works,
    Fails,
    Unheard,
}

impl Shelf {
    pub(crate) fn new(process: Arc<Process>) -> Self {
        Self { process, seen: AtomicU64::new(0) }
    }

    /// The way there.
    async fn reach(&self, is_write: bool) -> Fate {
        self.process.pass().await;
        let (delay, fate) = {
            let mut truth = self.process.world.truth();
            let delay = truth.latency(Fault::StoreSlow);
            let cut = truth.is_cut(self.process.replica, Peer::Store);
            let fails = truth.faults.strikes(Fault::StoreFails, 20);
            let unheard = is_write && truth.faults.strikes(Fault::StoreUnheard, 40);
            let fate = match () {
                () if cut || fails => Fate::Fails,
                () if unheard => Fate::Unheard,
                () => Fate::Works,
            };
            (delay, fate)
        };
        self.process.world.sleep(delay).await;
        // What a process that has died had asked for may still be carried out; here it is not.
        self.process.lives().await;
        fate
    }

    async fn back(&self) {
        let delay = self.process.world.truth().io.between(0, 10);
        self.process.world.sleep(delay).await;
        self.process.pass().await;
    }

    async fn read<R>(&self, look: impl FnOnce(&mut Truth) -> R) -> Result<R, Error> {
        let fate = self.reach(false).await;
        let found = (fate == Fate::Works).then(|| look(&mut self.process.world.truth()));
        self.back().await;
        found.ok_or_else(broken)
    }
}

impl TokenStore for Shelf {
    async fn load(
        &self,
        each: impl FnMut(StoredAccount) + Send,
        _: impl FnMut(Error) + Send,
    ) -> Result<(), Error> {
        // Two halves with time between them: what was read first is old when the pass ends.
        let (mut rows, mut from) = (Vec::new(), 0);
        loop {
            let (more, all) = self
                .read(|truth| {
                    let to = (from + 3).min(truth.players.len());
                    let more: Vec<_> = (from..to).filter_map(|who| stored(truth, who)).collect();
                    from = to;
                    (more, to == truth.players.len())
                })
                .await?;
            rows.extend(more);
            if all {
                break;
            }
        }
        rows.into_iter().for_each(each);
        Ok(())
    }

    async fn get(&self, id: &AccountId) -> Result<Option<StoredAccount>, Error> {
        let who = self.process.who(id);
        self.read(|truth| stored(truth, who)).await
    }

    async fn save(
        &self,
        id: &AccountId,
        token: &Token,
        expected: Fingerprint,
    ) -> Result<Saved, Error> {
        let who = self.process.who(id);
        let fate = self.reach(true).await;
        let auditor = &self.process.world.auditor;
        let open = auditor.open_entry(id).await.expect("nothing is in its way");
        let newest = auditor.newest(id).await.expect("nothing is in its way");
        let orphans = auditor.orphans_len().await.expect("nothing is in its way");
        let saved = (fate != Fate::Fails).then(|| {
            let saved = self.save_now(who, token, expected);
            if saved == Saved::Written {
                let (mut truth, maker) = (self.process.world.truth(), &self.process.world.maker);
                let kept = (open.as_ref(), newest.as_ref(), orphans);
                laws::saves(&mut truth, &self.process, maker, who, token, kept);
            }
            saved
        });
        self.back().await;
        if fate != Fate::Works {
            let (mut truth, name) = (self.process.world.truth(), self.process.name());
            truth.players[who].no_yes_at = truth.now;
            truth.note(Some(who), || format!("{name} hears of no save: {fate:?}"));
        }
        match fate {
            Fate::Works => saved.ok_or_else(broken),
            Fate::Fails | Fate::Unheard => Err(broken()),
        }
    }

    async fn mark(&self, id: &AccountId, status: Status) -> Result<(), Error> {
        let who = self.process.who(id);
        let fate = self.reach(true).await;
        if fate != Fate::Fails {
            let mut truth = self.process.world.truth();
            if let Some(row) = &mut truth.players[who].row {
                row.connected = status == Status::Connected;
            }
        }
        self.back().await;
        if fate == Fate::Works { Ok(()) } else { Err(broken()) }
    }

    async fn add(&self, _: &StoredAccount) -> Result<Saved, Error> {
        unreachable!("nothing that is simulated adds an account")
    }

    async fn probe(&self) -> Result<(), Error> {
        self.read(|_| ()).await
    }

    async fn changed(&self) {
        loop {
            self.process.world.sleep(POLLED_EVERY).await;
            let version = self.read(|truth| truth.store_version).await;
            if let Ok(version) = version
                && self.seen.swap(version, Ordering::SeqCst) != version
            {
                return;
            }
        }
    }
}

impl Shelf {
    /// Compare-and-set on the token, and what must hold of it.
    fn save_now(&self, who: usize, token: &Token, expected: Fingerprint) -> Saved {
        let world = &self.process.world;
        let mut truth = world.truth();
        let now = truth.now;
        let (_, number) = read(token.access.expose());
        let name = self.process.name();
        let Some(row) = truth.players[who].row.clone() else {
            return Saved::Gone;
        };
        let there = world.maker.of_token(&truth.players[who].token(row.number, row.issued_at));
        let saved = match () {
            () if there == world.maker.of_token(token) => Saved::AlreadyThere,
            () if there != expected => Saved::Conflict,
            () => Saved::Written,
        };
        truth.note(Some(who), || format!("{name} saves {number} over {}: {saved:?}", row.number));
        if saved != Saved::Written {
            return saved;
        }
        // Numbers rise with every token of an account, whoever asked for it.
        let made_by = truth.players[who].tokens[row.number].maker;
        truth.law(row.number < number, "nothing newer is overwritten", Some(who), |_| {
            format!("{name} writes token {number} over {} of {made_by:?}", row.number)
        });
        let expires_at = token.expires_at.map_or(0, |at| at.as_unix());
        let player = &mut truth.players[who];
        let issued_at = token.issued_at.map_or(0, |at| at.as_unix() - START) * SECOND;
        player.tokens[number].stored_at.get_or_insert(now);
        player.row = Some(Row { number, issued_at, written_at: now, stale: false, ..row });
        truth.store_version += 1;
        let ends = player_end(&truth, who, number);
        // By the clock of whoever received it, who may be another than the one who saves.
        let ahead = truth.players[who].tokens[number].ahead;
        truth.law(
            expires_at <= ends + ahead + 1,
            "expiry counts from the request's start",
            Some(who),
            |_| format!("token {number} is said to end {} s late", expires_at - ends),
        );
        saved
    }
}

/// When the provider ends it, as its own clock says.
fn player_end(truth: &Truth, who: usize, number: usize) -> i64 {
    let player = &truth.players[who];
    START + (player.tokens[number].at + player.life).div_euclid(SECOND)
}

fn stored(truth: &Truth, who: usize) -> Option<StoredAccount> {
    let player = &truth.players[who];
    let row = player.row.as_ref()?;
    Some(StoredAccount {
        id: player.id.clone(),
        app: None,
        owner: Some(Secret::new(format!("owner-{who}@example.org"))),
        subject: None,
        token: Some(player.token(row.number, row.issued_at)),
        enabled: row.enabled,
    })
}

fn broken() -> Error {
    Error::Unavailable { place: "simulated store".to_owned(), reason: "as drawn".to_owned() }
}
