//! Which database carries a call. Both know sealed records only.

use super::{
    Closing, EntryId, Error, Intent, Lease, apps, canaries, consents, history, inbox, journal,
    leases,
    letters::{self, Attempt},
    memory, newest, observed, outbox, postgres, room,
    shares::{Beat, Held},
    writer::{Kind, Refusal, Writer},
};
use crate::{
    core::{
        AccountId, AppMemory, Cause, Door, Farewell, Fingerprint, Memory, Shares, Timestamp,
        notices::{Notice, Way},
        permits::Canary,
    },
    postgres_save::{Looks, Save},
};
use std::{collections::BTreeMap, time::Duration};

/// The writer of either kind.
pub(super) enum Backend {
    /// One file, for processes of one machine.
    Sqlite(Writer),
    /// A server, for replicas on many.
    Postgres(postgres::Writer),
}

use Backend::{Postgres, Sqlite};

impl Backend {
    pub(super) fn commits(&self) -> u64 {
        match self {
            Sqlite(writer) => writer.commits(),
            Postgres(writer) => writer.commits(),
        }
    }

    pub(super) fn place(&self) -> &str {
        match self {
            Sqlite(writer) => writer.place(),
            Postgres(writer) => writer.place(),
        }
    }

    pub(super) async fn probe(&self) -> Result<(), Error> {
        match self {
            Sqlite(writer) => writer.run(Kind::Write, room::probe).await,
            Postgres(writer) => writer.run(postgres::probe()).await,
        }
    }

    pub(super) async fn take_lease(
        &self,
        id: &AccountId,
        now: Timestamp,
        life: Duration,
    ) -> Result<Option<Lease>, Error> {
        match self {
            Sqlite(writer) => {
                let id = id.clone();
                writer.run(Kind::Write, move |desk| leases::take(desk, &id, now, life)).await
            }
            Postgres(writer) => {
                writer.run(postgres::take_lease(writer.holder(), writer.fence(), id, life)).await
            }
        }
    }

    pub(super) async fn release(&self, lease: &Lease) -> Result<(), Error> {
        match self {
            Sqlite(writer) => {
                let lease = lease.clone();
                writer.run(Kind::Write, move |desk| leases::release(desk, &lease)).await
            }
            Postgres(writer) => writer.run(postgres::release(writer.holder(), lease)).await,
        }
    }

    pub(super) async fn intend(&self, lease: &Lease, intent: &Intent) -> Result<EntryId, Error> {
        match self {
            Sqlite(writer) => {
                let (lease, intent) = (lease.clone(), intent.clone());
                writer.run(Kind::Write, move |desk| journal::intend(desk, &lease, &intent)).await
            }
            Postgres(writer) => writer.run(postgres::intend(writer.holder(), lease, intent)).await,
        }
    }

    pub(super) async fn intend_probe(
        &self,
        lease: &Lease,
        entry: EntryId,
        over_at: Timestamp,
    ) -> Result<bool, Error> {
        match self {
            Sqlite(writer) => {
                let lease = lease.clone();
                let work = move |desk: &mut _| journal::intend_probe(desk, &lease, entry, over_at);
                writer.run(Kind::Write, work).await
            }
            Postgres(writer) => {
                writer.run(postgres::intend_probe(writer.holder(), lease, entry, over_at)).await
            }
        }
    }

    pub(super) async fn return_probe(&self, entry: EntryId) -> Result<(), Error> {
        match self {
            Sqlite(writer) => {
                writer.run(Kind::Write, move |desk| journal::return_probe(desk, entry)).await
            }
            Postgres(writer) => writer.run(postgres::return_probe(writer.holder(), entry)).await,
        }
    }

    pub(super) async fn record_result(
        &self,
        entry: EntryId,
        id: &AccountId,
        result: Fingerprint,
        sealed: Vec<u8>,
    ) -> Result<(), Error> {
        match self {
            Sqlite(writer) => {
                let id = id.clone();
                let work =
                    move |desk: &mut _| journal::record_result(desk, entry, &id, result, &sealed);
                writer.run(Kind::Result, work).await
            }
            Postgres(writer) => {
                writer.run(postgres::record_result(entry, id, result, sealed)).await
            }
        }
    }

    /// The same together with a save, where there is a way. `None` when the result was recorded alone.
    pub(super) async fn record_and_save(
        &self,
        entry: EntryId,
        id: &AccountId,
        result: Fingerprint,
        sealed: Vec<u8>,
        kept: newest::Kept,
        save: Save,
    ) -> Result<Option<Looks>, Error> {
        match self {
            Sqlite(_) => self.record_result(entry, id, result, sealed).await.map(|()| None),
            Postgres(writer) => {
                let holder = writer.holder();
                let completed = postgres::complete(holder, entry, id, kept);
                let recorded = postgres::record_result(entry, id, result, sealed);
                writer.run(postgres::together(recorded, save, completed, id, result)).await
            }
        }
    }

    pub(super) async fn close(&self, entry: EntryId, closing: Closing) -> Result<(), Error> {
        match self {
            Sqlite(writer) => {
                writer.run(Kind::Write, move |desk| journal::close(desk, entry, closing)).await
            }
            Postgres(writer) => writer.run(postgres::close(writer.holder(), entry, closing)).await,
        }
    }

    pub(super) async fn bury(
        &self,
        entry: EntryId,
        newest: Option<Fingerprint>,
        dead: Option<Vec<u8>>,
    ) -> Result<(), Error> {
        match self {
            Sqlite(writer) => {
                let work = move |desk: &mut _| journal::bury(desk, entry, newest, dead.as_deref());
                writer.run(Kind::Write, work).await
            }
            Postgres(writer) => {
                writer.run(postgres::bury(writer.holder(), entry, newest, dead)).await
            }
        }
    }

    pub(super) async fn complete(
        &self,
        entry: EntryId,
        id: &AccountId,
        kept: newest::Kept,
    ) -> Result<(), Error> {
        match self {
            Sqlite(writer) => {
                let id = id.clone();
                let work = move |desk: &mut _| newest::complete(desk, entry, &id, &kept);
                writer.run(Kind::Write, work).await
            }
            Postgres(writer) => {
                writer.run(postgres::complete(writer.holder(), entry, id, kept)).await
            }
        }
    }

    pub(super) async fn newest(&self, id: &AccountId) -> Result<Option<newest::Sealed>, Error> {
        match self {
            Sqlite(writer) => {
                let id = id.clone();
                writer.run(Kind::Read, move |desk| newest::of(desk, &id)).await
            }
            Postgres(writer) => writer.run(postgres::newest(id)).await,
        }
    }

    pub(super) async fn spender(&self, spent: Fingerprint) -> Result<Option<AccountId>, Error> {
        match self {
            Sqlite(writer) => {
                writer.run(Kind::Read, move |desk| newest::spender(desk, spent)).await
            }
            Postgres(writer) => writer.run(postgres::spender(spent)).await,
        }
    }

    pub(super) async fn open_entries(
        &self,
        of: Option<&AccountId>,
    ) -> Result<Vec<journal::Sealed>, Error> {
        match self {
            Sqlite(writer) => {
                let of = of.cloned();
                let work = move |desk: &mut _| journal::open_entries(desk, of.as_ref());
                writer.run(Kind::Read, work).await
            }
            Postgres(writer) => writer.run(postgres::open_entries(of)).await,
        }
    }

    /// How many entries are open, and how many orphans are kept.
    pub(super) async fn lengths(&self) -> Result<(usize, usize), Error> {
        match self {
            Sqlite(writer) => writer.run(Kind::Read, |desk| journal::lengths(desk)).await,
            Postgres(writer) => writer.run(postgres::lengths()).await,
        }
    }

    pub(super) async fn remember(&self, memories: Vec<Memory>) -> Result<(), Error> {
        match self {
            Sqlite(writer) => {
                writer.run(Kind::Write, move |desk| memory::remember(desk, &memories)).await
            }
            Postgres(writer) => {
                let refused = writer.run(postgres::remember(writer.fence(), &memories)).await?;
                tell_refused(refused);
                Ok(())
            }
        }
    }

    pub(super) async fn remember_apps(&self, memories: Vec<AppMemory>) -> Result<(), Error> {
        match self {
            Sqlite(writer) => {
                writer.run(Kind::Write, move |desk| apps::remember(desk, &memories)).await
            }
            Postgres(writer) => writer.run(postgres::remember_apps(&memories)).await,
        }
    }

    pub(super) async fn app_memories(&self) -> Result<Vec<AppMemory>, Error> {
        match self {
            Sqlite(writer) => writer.run(Kind::Read, |desk| apps::memories(desk)).await,
            Postgres(writer) => writer.run(postgres::app_memories()).await,
        }
    }

    pub(super) async fn take_in(
        &self,
        letter: inbox::Letter,
        forget_until: Timestamp,
    ) -> Result<bool, Error> {
        match self {
            Sqlite(writer) => {
                let work = move |desk: &mut _| inbox::take_in(desk, &letter, forget_until);
                writer.run(Kind::Write, work).await
            }
            Postgres(writer) => writer.run(postgres::take_in(letter, forget_until)).await,
        }
    }

    pub(super) async fn heard_after(
        &self,
        position: i64,
    ) -> Result<Vec<(i64, inbox::Letter)>, Error> {
        match self {
            Sqlite(writer) => {
                writer.run(Kind::Read, move |desk| inbox::heard_after(desk, position)).await
            }
            Postgres(writer) => writer.run(postgres::heard_after(position)).await,
        }
    }

    pub(super) async fn begin_consent(
        &self,
        begun: consents::Begun,
        now: Timestamp,
    ) -> Result<consents::Beginning, Error> {
        match self {
            Sqlite(writer) => {
                let work = move |desk: &mut _| consents::begin(desk, &begun, now);
                writer.run(Kind::Write, work).await
            }
            Postgres(writer) => writer.run(postgres::begin(begun, now)).await,
        }
    }

    pub(super) async fn consent_standing(
        &self,
        link: String,
        browser: Vec<u8>,
    ) -> Result<consents::Standing, Error> {
        match self {
            Sqlite(writer) => {
                let work = move |desk: &mut _| {
                    let known = consents::known(desk, &link, &browser, &[])?;
                    Ok(known.map_or(consents::Standing::Free, |known| known.standing()))
                };
                writer.run(Kind::Read, work).await
            }
            Postgres(writer) => writer.run(postgres::standing(link, browser)).await,
        }
    }

    pub(super) async fn come_back(
        &self,
        link: String,
        browser: Vec<u8>,
        nonce: Vec<u8>,
    ) -> Result<consents::Return<Vec<u8>>, Error> {
        match self {
            Sqlite(writer) => {
                let work = move |desk: &mut _| consents::come_back(desk, &link, &browser, &nonce);
                writer.run(Kind::Write, work).await
            }
            Postgres(writer) => writer.run(postgres::come_back(link, browser, nonce)).await,
        }
    }

    pub(super) async fn end_consent(&self, link: String) -> Result<(), Error> {
        match self {
            Sqlite(writer) => writer.run(Kind::Write, move |desk| consents::end(desk, &link)).await,
            Postgres(writer) => writer.run(postgres::end(link)).await,
        }
    }

    pub(super) async fn claim_canary(
        &self,
        id: AccountId,
        post: String,
        times: (Timestamp, Timestamp),
    ) -> Result<Canary, Error> {
        match self {
            Sqlite(writer) => {
                let work = move |desk: &mut _| canaries::claim(desk, &id, &post, times);
                writer.run(Kind::Write, work).await
            }
            Postgres(writer) => writer.run(postgres::claim_canary(&id, post, times)).await,
        }
    }

    pub(super) async fn report_canary(&self, id: AccountId, until: Timestamp) -> Result<(), Error> {
        match self {
            Sqlite(writer) => {
                let work = move |desk: &mut _| canaries::report(desk, &id, until);
                writer.run(Kind::Write, work).await
            }
            Postgres(writer) => writer.run(postgres::report_canary(&id, until)).await,
        }
    }

    pub(super) async fn end_canary(&self, id: AccountId, moved_at: Timestamp) -> Result<(), Error> {
        match self {
            Sqlite(writer) => {
                let work = move |desk: &mut _| canaries::end(desk, &id, moved_at);
                writer.run(Kind::Write, work).await
            }
            Postgres(writer) => writer.run(postgres::end_canary(&id, moved_at)).await,
        }
    }

    pub(super) async fn position_of(&self, name: &str) -> Result<Option<String>, Error> {
        match self {
            Sqlite(writer) => {
                let name = name.to_owned();
                writer.run(Kind::Read, move |desk| observed::position_of(desk, &name)).await
            }
            Postgres(writer) => writer.run(postgres::position_of(name)).await,
        }
    }

    pub(super) async fn keep_position(
        &self,
        name: &str,
        position: &str,
        at: Timestamp,
    ) -> Result<(), Error> {
        match self {
            Sqlite(writer) => {
                let (name, position) = (name.to_owned(), position.to_owned());
                let work = move |desk: &mut _| observed::keep_position(desk, &name, &position, at);
                writer.run(Kind::Write, work).await
            }
            Postgres(writer) => writer.run(postgres::keep_position(name, position, at)).await,
        }
    }

    pub(super) async fn door(&self, id: &AccountId) -> Result<Option<Door>, Error> {
        match self {
            Sqlite(writer) => {
                let id = id.clone();
                writer.run(Kind::Read, move |desk| memory::door(desk, &id)).await
            }
            Postgres(writer) => writer.run(postgres::door(id)).await,
        }
    }

    pub(super) async fn forget(&self, gone: Vec<Farewell>) -> Result<(), Error> {
        match self {
            Sqlite(writer) => {
                writer.run(Kind::Write, move |desk| memory::forget(desk, &gone)).await
            }
            Postgres(writer) => {
                let refused = writer.run(postgres::forget(writer.fence(), &gone)).await?;
                tell_refused(refused);
                Ok(())
            }
        }
    }

    pub(super) async fn memories(&self, of: Shares) -> Result<Vec<Memory>, Error> {
        let is_wanted = move |memory: &Memory| of.contain(&memory.id);
        match self {
            Sqlite(writer) => {
                let mut all = writer.run(Kind::Read, |desk| memory::memories(desk)).await?;
                all.retain(is_wanted);
                Ok(all)
            }
            Postgres(writer) => {
                let mut all: Vec<Memory> = Vec::new();
                let mut after = None;
                loop {
                    let page = writer.run(postgres::page_of_memories(after.as_ref())).await?;
                    let is_last = page.len() < memory::MEMORY_PAGE_ROWS;
                    after = page.last().map(|memory| memory.id.clone());
                    all.extend(page.into_iter().filter(is_wanted));
                    if is_last {
                        return Ok(all);
                    }
                }
            }
        }
    }

    pub(super) async fn keep_histories(&self, records: Vec<history::Kept>) -> Result<(), Error> {
        match self {
            Sqlite(writer) => {
                writer.run(Kind::Write, move |desk| history::keep(desk, &records)).await
            }
            Postgres(writer) => {
                let work = postgres::keep_histories(writer.fence(), &records);
                tell_refused(writer.run(work).await?);
                Ok(())
            }
        }
    }

    pub(super) async fn histories(&self, of: Shares) -> Result<Vec<history::Kept>, Error> {
        let is_wanted = move |(id, _): &history::Kept| of.contain(id);
        match self {
            Sqlite(writer) => {
                let mut all = writer.run(Kind::Read, |desk| history::all(desk)).await?;
                all.retain(is_wanted);
                Ok(all)
            }
            Postgres(writer) => {
                let mut all: Vec<history::Kept> = Vec::new();
                let mut after = None;
                loop {
                    let page = writer.run(postgres::page_of_histories(after.as_ref())).await?;
                    let is_last = page.len() < memory::MEMORY_PAGE_ROWS;
                    after = page.last().map(|(id, _)| id.clone());
                    all.extend(page.into_iter().filter(is_wanted));
                    if is_last {
                        return Ok(all);
                    }
                }
            }
        }
    }

    pub(super) async fn hold(&self, beat: &Beat) -> Result<Held, Error> {
        match self {
            Sqlite(writer) => writer.hold(beat).await,
            Postgres(writer) => writer.run(postgres::hold(writer.holder(), beat)).await,
        }
    }

    pub(super) async fn leave(&self) -> Result<(), Error> {
        match self {
            Sqlite(writer) => writer.leave().await,
            Postgres(writer) => writer.run(postgres::leave(writer.holder())).await,
        }
    }

    pub(super) async fn fire(
        &self,
        notice: &Notice,
        to: Vec<outbox::Addressed>,
    ) -> Result<bool, Error> {
        match self {
            Sqlite(writer) => {
                let notice = notice.clone();
                writer.run(Kind::Write, move |desk| outbox::fire(desk, &notice, &to)).await
            }
            Postgres(writer) => writer.run(postgres::fire(writer.fence(), notice, to)).await,
        }
    }

    pub(super) async fn remind(&self, notice: &Notice) -> Result<bool, Error> {
        match self {
            Sqlite(writer) => {
                let notice = notice.clone();
                writer.run(Kind::Write, move |desk| outbox::remind(desk, &notice)).await
            }
            Postgres(writer) => writer.run(postgres::remind(writer.fence(), notice)).await,
        }
    }

    pub(super) async fn to_remind(
        &self,
        reminded: usize,
        before: Timestamp,
    ) -> Result<Vec<outbox::Reminded>, Error> {
        match self {
            Sqlite(writer) => {
                writer.run(Kind::Read, move |desk| outbox::to_remind(desk, reminded, before)).await
            }
            Postgres(writer) => writer.run(postgres::to_remind(reminded, before)).await,
        }
    }

    pub(super) async fn call_to_mind(
        &self,
        one: outbox::Reminded,
        reminded: usize,
        notice: Option<Notice>,
    ) -> Result<bool, Error> {
        match self {
            Sqlite(writer) => {
                writer
                    .run(Kind::Write, move |desk| {
                        outbox::call_to_mind(desk, &one, reminded, notice.as_ref())
                    })
                    .await
            }
            Postgres(writer) => {
                writer.run(postgres::call_to_mind(&one, reminded, notice.as_ref())).await
            }
        }
    }

    pub(super) async fn oldest_told(&self) -> Result<Vec<(usize, Timestamp)>, Error> {
        match self {
            Sqlite(writer) => writer.run(Kind::Read, move |desk| outbox::oldest_told(desk)).await,
            Postgres(writer) => writer.run(postgres::oldest_told()).await,
        }
    }

    pub(super) async fn resolve(&self, notice: &Notice) -> Result<bool, Error> {
        match self {
            Sqlite(writer) => {
                let notice = notice.clone();
                writer.run(Kind::Write, move |desk| outbox::resolve(desk, &notice)).await
            }
            Postgres(writer) => writer.run(postgres::resolve(writer.fence(), notice)).await,
        }
    }

    pub(super) async fn told(&self) -> Result<Vec<(AccountId, Cause)>, Error> {
        match self {
            Sqlite(writer) => writer.run(Kind::Read, move |desk| outbox::told(desk)).await,
            Postgres(writer) => writer.run(postgres::told()).await,
        }
    }

    pub(super) async fn board(&self, way: Way, now: Timestamp) -> Result<letters::Board, Error> {
        match self {
            Sqlite(writer) => {
                writer.run(Kind::Read, move |desk| letters::board(desk, way, now)).await
            }
            Postgres(writer) => writer.run(postgres::board(way, now)).await,
        }
    }

    pub(super) async fn arrange(
        &self,
        seen: i64,
        plan: i64,
        when: (Way, Timestamp),
        letters: Vec<letters::NewLetter>,
        held: Vec<(i64, &'static str)>,
    ) -> Result<bool, Error> {
        match self {
            Sqlite(writer) => {
                writer
                    .run(Kind::Write, move |desk| {
                        letters::arrange(desk, seen, plan, when, &letters, &held)
                    })
                    .await
            }
            Postgres(writer) => {
                writer.run(postgres::arrange(seen, plan, when, letters, &held)).await
            }
        }
    }

    pub(super) async fn owed(
        &self,
        way: Way,
        now: Timestamp,
        at_most: usize,
    ) -> Result<Vec<letters::Sealed>, Error> {
        match self {
            Sqlite(writer) => {
                writer.run(Kind::Write, move |desk| letters::owed(desk, way, now, at_most)).await
            }
            Postgres(writer) => {
                let work = postgres::owed(writer.holder(), way, now, at_most);
                let mut mails = writer.run(work).await?;
                if mails.is_empty() {
                    return Ok(mails);
                }
                let rows = mails.iter().map(|mail| mail.row).collect();
                let (notices, counts, threads) = writer.run(postgres::contents(rows)).await?;
                let mut of: BTreeMap<i64, &mut letters::Sealed> =
                    mails.iter_mut().map(|mail| (mail.row, mail)).collect();
                for (letter, incident, notice) in notices {
                    of.entry(letter).and_modify(|mail| mail.notices.push((incident, notice)));
                }
                for (letter, counted) in counts {
                    of.entry(letter).and_modify(|mail| mail.counts.push(counted));
                }
                for (letter, thread) in threads {
                    of.entry(letter).and_modify(|mail| mail.threads.push(thread));
                }
                Ok(mails)
            }
        }
    }

    pub(super) async fn begin(&self, letter: i64, subject: &str) -> Result<bool, Error> {
        match self {
            Sqlite(writer) => {
                let subject = subject.to_owned();
                writer.run(Kind::Write, move |desk| letters::begin(desk, letter, &subject)).await
            }
            Postgres(writer) => {
                writer.run(postgres::begin_letter(writer.holder(), letter, subject)).await
            }
        }
    }

    pub(super) async fn next_due(&self, way: Way) -> Result<Option<Timestamp>, Error> {
        match self {
            Sqlite(writer) => {
                writer.run(Kind::Read, move |desk| letters::next_due(desk, way)).await
            }
            Postgres(writer) => writer.run(postgres::next_due(writer.holder(), way)).await,
        }
    }

    pub(super) async fn lengths_of_outbox(&self, way: Way) -> Result<(usize, usize, usize), Error> {
        match self {
            Sqlite(writer) => writer.run(Kind::Read, move |desk| letters::lengths(desk, way)).await,
            Postgres(writer) => writer.run(postgres::lengths_of_outbox(way)).await,
        }
    }

    pub(super) async fn list(&self, at_most: usize) -> Result<Vec<letters::Listed>, Error> {
        match self {
            Sqlite(writer) => {
                writer.run(Kind::Read, move |desk| letters::list(desk, at_most)).await
            }
            Postgres(writer) => writer.run(postgres::list(at_most)).await,
        }
    }

    pub(super) async fn settle(&self, letter: i64, attempt: Attempt) -> Result<(), Error> {
        match self {
            Sqlite(writer) => {
                writer.run(Kind::Write, move |desk| letters::settle(desk, letter, &attempt)).await
            }
            Postgres(writer) => {
                writer.run(postgres::settle(writer.holder(), letter, attempt)).await
            }
        }
    }

    pub(super) fn error(&self, refusal: &Refusal) -> Error {
        refusal.at(self.place())
    }
}

/// Somebody else looks after those accounts by now, and knows better.
fn tell_refused(refused: usize) {
    if refused > 0 {
        tracing::debug!(accounts = refused, "not written: their shares are not ours any more");
    }
}
