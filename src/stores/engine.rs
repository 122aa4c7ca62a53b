//! The work on a table of a database server, the same for every [`Driver`].
//!
//! A save is one transaction that locks the account's row, compares, writes token columns only, commits,
//! and reads back. It runs as a task of its own, so that dropping the caller does not tear it in two.

use super::{
    Care, Error, Plan, Saved, Status, StoredAccount, TokenStore,
    cells::Fault,
    check_new,
    dialect::Query,
    fingerprint_once_saved, plan,
    pool::{Permit, Pool},
    questions::{self, AnswerRow, Question},
    server::{
        Driver, GRACE, Look, Settings, TextRow, Trouble, connect, look, look_in, place, rows, say,
        silent, statements,
    },
    statements::{Found, Samples, Statements},
    times,
    watch::Watch,
};
use crate::{
    core::{AccountId, Fingerprint},
    oauth::{Fingerprinter, Token},
};
use std::{
    collections::HashSet,
    future::Future,
    hash::{DefaultHasher, Hash, Hasher},
    sync::Arc,
    time::Duration,
};
use tokio::sync::watch;
use zeroize::Zeroizing;

/// See the module.
pub(super) struct ServerStore<D: Driver> {
    pub(super) inner: Arc<Inner<D>>,
}

pub(super) struct Inner<D: Driver> {
    driver: D,
    pub(super) settings: Settings,
    fingerprinter: Fingerprinter,
    pool: Pool<D::Connection>,
    pub(super) statements: Statements,
    watch: Watch<Option<Seen>>,
    /// Counts what others told us.
    events: watch::Receiver<u64>,
}

/// What a look finds.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Seen {
    events: u64,
    look: Look,
}

/// A connection that is in use.
struct Lease<C> {
    connection: C,
    permit: Permit,
}

impl<D: Driver> ServerStore<D> {
    /// Connects, and checks that there is the table and every mapped column. `events` counts what the
    /// publisher tells of.
    pub(super) async fn open(
        driver: D,
        settings: Settings,
        fingerprinter: Fingerprinter,
        events: watch::Receiver<u64>,
    ) -> Result<Self, Error> {
        let place = place(D::NAME, &settings);
        let said = |trouble| say(&place, &settings.table, trouble);
        let mut connection = connect(&driver, &settings).await.map_err(said)?;
        let statements = statements::<D>(&mut connection, &settings).await?;
        let seen = look::<D>(&mut connection, &settings, &statements).await.map_err(said)?;
        let seen = Seen { events: *events.borrow(), look: seen };
        let watch = Watch::told_by(events.clone(), settings.poll_every, Some(seen));
        let pool = Pool::new(settings.pool_max);
        let inner = Inner { driver, settings, fingerprinter, pool, statements, watch, events };
        Ok(Self { inner: Arc::new(inner) })
    }

    /// See [`super::AnyStore::columns_of`].
    pub(super) async fn columns_of(
        &self,
        sql: &str,
        parameter: &str,
    ) -> Result<Vec<String>, Error> {
        let inner = &self.inner;
        let query = questions::all_columns(sql, parameter, D::DIALECT);
        let mut lease = inner.lease().await?;
        inner.batch(&mut lease, D::BEGIN_TO_READ).await?;
        let columns = inner.limited(D::columns(&mut lease.connection, &query)).await;
        let columns = columns.map_err(|trouble| match trouble {
            Trouble::Wrong(reason) => inner.damaged(reason),
            other => inner.said(other),
        })?;
        inner.roll_back_after(lease, columns).await
    }

    /// See [`super::AnyStore::ask`].
    pub(super) async fn ask(&self, question: &Question) -> Result<Vec<AnswerRow>, Error> {
        let inner = &self.inner;
        let query = question.query(D::DIALECT);
        let mut lease = inner.lease().await?;
        inner.batch(&mut lease, D::BEGIN_TO_READ).await?;
        let rows = inner.limited(rows::<D>(&mut lease.connection, &query)).await;
        let rows = rows.map_err(|trouble| match trouble {
            Trouble::NoSuchValue => inner.damaged(DOES_NOT_FIT.to_owned()),
            Trouble::Wrong(reason) => inner.damaged(format!("a question: {reason}")),
            other => inner.said(other),
        })?;
        let text = |cell: Option<Zeroizing<Vec<u8>>>| {
            cell.map(|bytes| String::from_utf8_lossy(&bytes).into_owned())
        };
        let rows = rows.into_iter().map(|row| row.0.into_iter().map(text).collect()).collect();
        inner.roll_back_after(lease, rows).await
    }

    /// Lets `work` end even when whoever asked for it does not wait.
    async fn to_the_end<R: Send + 'static>(
        &self,
        work: impl Future<Output = Result<R, Error>> + Send + 'static,
    ) -> Result<R, Error> {
        tokio::spawn(work).await.unwrap_or_else(|error| match error.try_into_panic() {
            Ok(panic) => std::panic::resume_unwind(panic),
            Err(_) => Err(self.inner.unavailable("the program is ending and takes no more work")),
        })
    }
}

impl<D: Driver> TokenStore for ServerStore<D> {
    async fn load(
        &self,
        mut each: impl FnMut(StoredAccount) + Send,
        mut damaged: impl FnMut(Error) + Send,
    ) -> Result<(), Error> {
        let inner = &self.inner;
        let mut lease = inner.lease().await?;
        inner.batch(&mut lease, D::UNLIMITED).await?;
        let mut seen = HashSet::new();
        let mut again = Vec::new();
        let rows = |row: TextRow| match inner.statements.read(&row, Care::All) {
            Err(fault) => {
                damaged(match inner.statements.read_id(&row) {
                    Ok(id) => inner.damaged_row(&id.to_string(), fault).of(&id),
                    Err(_) => inner.damaged_row("without a name", fault),
                });
            }
            Ok(Found { account, .. }) if seen.insert(hash_of(&account.id)) => each(account),
            Ok(Found { account, .. }) => again.push(account),
        };
        let query = inner.statements.select_all();
        D::stream(&mut lease.connection, &query, inner.patience(), rows)
            .await
            .map_err(|trouble| inner.said(trouble))?;
        // Two names with the same eight bytes, or two rows of one account: the table knows.
        for account in again {
            let count = inner.rows(&mut lease, &inner.statements.count_one(&account.id)).await?;
            if count.first().and_then(|row| row.text(0)) == Some("1") {
                each(account);
            } else {
                damaged(inner.twice(&account.id));
            }
        }
        // Its limits are lifted, so it is not given back.
        drop(lease);
        Ok(())
    }

    async fn get(&self, id: &AccountId) -> Result<Option<StoredAccount>, Error> {
        let inner = &self.inner;
        if !inner.statements.holds_provider(&id.provider) {
            return Ok(None);
        }
        let mut lease = inner.lease().await?;
        let found = inner.find(&mut lease, &inner.statements.select_one(id), id, Care::All).await?;
        inner.give_back(lease);
        Ok(found.map(|found| found.account))
    }

    async fn save(
        &self,
        id: &AccountId,
        token: &Token,
        expected: Fingerprint,
    ) -> Result<Saved, Error> {
        check_new(id, token)?;
        let (inner, id, token) = (Arc::clone(&self.inner), id.clone(), token.clone());
        self.to_the_end(async move { inner.save(&id, &token, expected).await }).await
    }

    async fn mark(&self, id: &AccountId, status: Status) -> Result<(), Error> {
        let inner = Arc::clone(&self.inner);
        if !inner.statements.holds_provider(&id.provider) {
            return Ok(());
        }
        let Some(query) = inner.statements.update_status(id, status) else { return Ok(()) };
        let id = id.clone();
        self.to_the_end(async move {
            if inner.is_there(&id).await? {
                inner.write(&id, &query).await.map(drop)
            } else {
                Ok(())
            }
        })
        .await
    }

    async fn add(&self, account: &StoredAccount) -> Result<Saved, Error> {
        let (inner, account) = (Arc::clone(&self.inner), account.clone());
        self.to_the_end(async move { inner.add(&account).await }).await
    }

    async fn probe(&self) -> Result<(), Error> {
        let inner = &self.inner;
        let mut lease = inner.lease().await?;
        statements::<D>(&mut lease.connection, &inner.settings).await?;
        let read_only = Query { sql: D::READ_ONLY.to_owned(), values: Vec::new() };
        let rows = inner.rows(&mut lease, &read_only).await?;
        if rows.first().and_then(|row| row.text(0)).is_some_and(|says| matches!(says, "on" | "1")) {
            return Err(
                inner.unavailable("it takes no writes here: a replica, or set to read-only")
            );
        }
        inner.batch(&mut lease, D::BEGIN).await?;
        inner.execute(&mut lease, &inner.statements.update_none()).await?;
        inner.batch(&mut lease, "ROLLBACK").await?;
        inner.give_back(lease);
        Ok(())
    }

    async fn changed(&self) {
        let inner = &self.inner;
        let look = || async {
            let events = *inner.events.borrow();
            let mut lease = inner.lease().await.ok()?;
            let look = look::<D>(&mut lease.connection, &inner.settings, &inner.statements);
            let look = tokio::time::timeout(inner.patience(), look).await.ok()?.ok()?;
            inner.give_back(lease);
            Some(Seen { events, look })
        };
        inner.watch.changed(look).await;
    }
}

impl<D: Driver> Inner<D> {
    async fn save(
        &self,
        id: &AccountId,
        token: &Token,
        expected: Fingerprint,
    ) -> Result<Saved, Error> {
        if !self.statements.holds_provider(&id.provider) {
            return Ok(Saved::Gone);
        }
        let mut lease = self.lease().await?;
        self.batch(&mut lease, D::BEGIN).await?;
        let query = self.statements.lock_one(id);
        let Some(found) = self.find(&mut lease, &query, id, Care::TokenOnly).await? else {
            return self.roll_back(lease, Saved::Gone).await;
        };
        let old = found.account.token.as_ref();
        if let Plan::Nothing(saved) = plan(&self.fingerprinter, old, token, expected) {
            return self.roll_back(lease, saved).await;
        }
        let written = fingerprint_once_saved(&self.fingerprinter, old, token);
        let samples = self.samples(&mut lease, &found).await?;
        let Some(query) = self.statements.update(id, &found, token, &samples) else {
            return self.roll_back(lease, Saved::AlreadyThere).await;
        };
        let before = self.look_around(&mut lease, id).await?;
        if self.execute(&mut lease, &query).await? != 1 {
            return Err(self.twice(id));
        }
        let after = self.look_around(&mut lease, id).await?;
        match self.limited(D::batch(&mut lease.connection, "COMMIT")).await {
            Ok(()) => {
                self.wrote(&before, after);
                self.read_back(lease, id, written).await
            }
            // Whether the server got as far as that, only the server knows.
            Err(Trouble::Lost(_)) => {
                drop(lease);
                self.settle(id, expected, written).await
            }
            Err(trouble) => Err(self.said(trouble)),
        }
    }

    /// What a save of a token that is still to come must know; `None` when there is no such save, or the
    /// store cannot be asked.
    pub(super) async fn read_ahead(
        &self,
        id: &AccountId,
        expected: Fingerprint,
    ) -> Option<(Found, Samples)> {
        let mut lease = self.lease().await.ok()?;
        let query = self.statements.select_one(id);
        let found = self.find(&mut lease, &query, id, Care::TokenOnly).await.ok()??;
        let held = self.fingerprinter.of_token(found.account.token.as_ref()?);
        if held != expected {
            return None;
        }
        let samples = self.samples(&mut lease, &found).await.ok()?;
        self.give_back(lease);
        Some((found, samples))
    }

    async fn read_back(
        &self,
        mut lease: Lease<D::Connection>,
        id: &AccountId,
        written: Fingerprint,
    ) -> Result<Saved, Error> {
        let query = self.statements.select_one(id);
        let found = self.find(&mut lease, &query, id, Care::TokenOnly).await?;
        self.give_back(lease);
        if self.held(found) == Some(written) {
            return Ok(Saved::Written);
        }
        Err(self.damaged(format!(
            "row of {id}: the token read back is not the one just written; a trigger or another \
             program changes it"
        )))
    }

    /// What became of a commit without an answer. The row is locked for this, which waits for whatever is
    /// left of the lost transaction.
    async fn settle(
        &self,
        id: &AccountId,
        expected: Fingerprint,
        written: Fingerprint,
    ) -> Result<Saved, Error> {
        let mut lease = self.lease().await?;
        self.batch(&mut lease, D::BEGIN).await?;
        let query = self.statements.lock_one(id);
        let found = self.find(&mut lease, &query, id, Care::TokenOnly).await?;
        let saved = match self.held(found) {
            Some(held) if held == written => Saved::Written,
            Some(held) if held == expected => {
                return Err(self.unavailable("the connection broke before the token was saved"));
            }
            Some(_) => Saved::Conflict,
            None => Saved::Gone,
        };
        self.roll_back(lease, saved).await
    }

    async fn add(&self, account: &StoredAccount) -> Result<Saved, Error> {
        let id = &account.id;
        if !self.statements.holds_provider(&id.provider) {
            return Err(self.damaged(format!(
                "{id} cannot be added: all rows of this table belong to another provider"
            )));
        }
        let mut lease = self.lease().await?;
        let query = self.statements.select_one(id);
        if self.find(&mut lease, &query, id, Care::TokenOnly).await?.is_some() {
            self.give_back(lease);
            return Ok(Saved::Conflict);
        }
        self.give_back(lease);
        match self.write(id, &self.statements.insert(account)).await {
            Ok(true) => Ok(Saved::Written),
            Ok(false) => Ok(Saved::Conflict),
            Err(error) => Err(error),
        }
    }

    /// A key that cannot be one in this table, such as a provider that its enum lacks, is not there.
    async fn is_there(&self, id: &AccountId) -> Result<bool, Error> {
        let mut lease = self.lease().await?;
        let query = self.statements.count_one(id);
        match self.limited(rows::<D>(&mut lease.connection, &query)).await {
            Ok(rows) => {
                self.give_back(lease);
                Ok(rows.first().and_then(|row| row.text(0)) != Some("0"))
            }
            Err(Trouble::NoSuchValue) => Ok(false),
            Err(trouble) => Err(self.said(trouble)),
        }
    }

    /// One statement that writes, in a transaction. False when there is such a row already.
    async fn write(&self, id: &AccountId, query: &Query) -> Result<bool, Error> {
        let mut lease = self.lease().await?;
        self.batch(&mut lease, D::BEGIN).await?;
        let before = self.look_around(&mut lease, id).await?;
        match self.limited(D::execute(&mut lease.connection, query)).await {
            Ok(_) => {}
            Err(Trouble::Duplicate) => return Ok(false),
            Err(trouble) => return Err(self.said(trouble)),
        }
        let after = self.look_around(&mut lease, id).await?;
        self.batch(&mut lease, "COMMIT").await?;
        self.wrote(&before, after);
        self.give_back(lease);
        Ok(true)
    }

    /// The row of an account that `query` finds.
    async fn find(
        &self,
        lease: &mut Lease<D::Connection>,
        query: &Query,
        id: &AccountId,
        care: Care,
    ) -> Result<Option<Found>, Error> {
        let rows = match self.limited(rows::<D>(&mut lease.connection, query)).await {
            Ok(rows) => rows,
            // A number column has no account `brand-a`. The answer is the same as of an empty table.
            Err(Trouble::NoSuchValue) => return Ok(None),
            Err(trouble) => return Err(self.said(trouble)),
        };
        let Some(row) = rows.first() else { return Ok(None) };
        let found = self
            .statements
            .read(row, care)
            .map_err(|fault| self.damaged_row(&id.to_string(), fault).of(id))?;
        if found.account.id != *id {
            return Ok(None);
        }
        if rows.len() > 1 {
            return Err(self.twice(id));
        }
        Ok(Some(found))
    }

    /// How other rows write the dates that this one does not have.
    async fn samples(
        &self,
        lease: &mut Lease<D::Connection>,
        found: &Found,
    ) -> Result<Samples, Error> {
        let mut samples = Samples::new();
        for column in self.statements.without_form(found) {
            let rows = self.rows(lease, &self.statements.select_sample(column)).await?;
            let text = rows.first().and_then(|row| row.text(0));
            if let Some((_, form)) = text.and_then(times::parse_text) {
                samples.insert(column.to_owned(), times::Form::Text(form));
            }
        }
        Ok(samples)
    }

    /// What a look would find, as far as a write of this account can change it.
    async fn look_around(
        &self,
        lease: &mut Lease<D::Connection>,
        id: &AccountId,
    ) -> Result<Look, Error> {
        let rows = self.rows(lease, &self.look_around_query(id)).await?;
        Ok(look_in(&rows, self.settings.change_column.is_some()))
    }

    pub(super) fn look_around_query(&self, id: &AccountId) -> Query {
        match &self.settings.change_column {
            Some(column) => self.statements.newest(column),
            None => self.statements.digest_one(id),
        }
    }

    /// Takes note of a write of our own, so that it is no news; what others wrote meanwhile still is.
    pub(super) fn wrote(&self, before: &Look, after: Look) {
        let by_column = self.settings.change_column.is_some();
        self.watch.adjust(|seen| {
            let Some(Seen { look, .. }) = seen else { return };
            if !by_column {
                look.rows += after.rows - before.rows;
                look.sum += after.sum - before.sum;
            } else if look == before {
                *look = after;
            }
        });
    }

    fn held(&self, found: Option<Found>) -> Option<Fingerprint> {
        found.and_then(|found| found.account.token).map(|token| self.fingerprinter.of_token(&token))
    }

    /// A connection that answered just now.
    async fn lease(&self) -> Result<Lease<D::Connection>, Error> {
        let Some(permit) = self.pool.permit(self.patience()).await else {
            return Err(self.unavailable("all connections of the pool are in use"));
        };
        while let Some(mut connection) = self.pool.idle(&permit) {
            if self.limited(D::ping(&mut connection)).await.is_ok() {
                return Ok(Lease { connection, permit });
            }
        }
        let connection = connect(&self.driver, &self.settings).await;
        Ok(Lease { connection: connection.map_err(|trouble| self.said(trouble))?, permit })
    }

    fn give_back(&self, lease: Lease<D::Connection>) {
        self.pool.give_back(lease.connection, lease.permit);
    }

    async fn roll_back_after<R>(
        &self,
        mut lease: Lease<D::Connection>,
        answer: R,
    ) -> Result<R, Error> {
        if self.batch(&mut lease, "ROLLBACK").await.is_ok() {
            self.give_back(lease);
        }
        Ok(answer)
    }

    async fn roll_back(
        &self,
        mut lease: Lease<D::Connection>,
        saved: Saved,
    ) -> Result<Saved, Error> {
        // Dropping the connection does the same.
        if self.batch(&mut lease, "ROLLBACK").await.is_ok() {
            self.give_back(lease);
        }
        Ok(saved)
    }

    async fn rows(
        &self,
        lease: &mut Lease<D::Connection>,
        query: &Query,
    ) -> Result<Vec<TextRow>, Error> {
        let rows = self.limited(rows::<D>(&mut lease.connection, query)).await;
        rows.map_err(|trouble| self.said(trouble))
    }

    async fn execute(&self, lease: &mut Lease<D::Connection>, query: &Query) -> Result<u64, Error> {
        let done = self.limited(D::execute(&mut lease.connection, query)).await;
        done.map_err(|trouble| self.said(trouble))
    }

    async fn batch(&self, lease: &mut Lease<D::Connection>, sql: &str) -> Result<(), Error> {
        let done = self.limited(D::batch(&mut lease.connection, sql)).await;
        done.map_err(|trouble| self.said(trouble))
    }

    /// The server keeps the limit by itself; this is for a server, or a network, that is gone.
    async fn limited<R>(
        &self,
        work: impl Future<Output = Result<R, Trouble>>,
    ) -> Result<R, Trouble> {
        tokio::time::timeout(self.patience(), work).await.unwrap_or_else(|_| Err(silent()))
    }

    fn patience(&self) -> Duration {
        self.settings.statement_timeout + GRACE
    }

    fn place(&self) -> String {
        place(D::NAME, &self.settings)
    }

    fn said(&self, trouble: Trouble) -> Error {
        say(&self.place(), &self.settings.table, trouble)
    }

    fn unavailable(&self, reason: &str) -> Error {
        Error::Unavailable { place: self.place(), reason: reason.to_owned() }
    }

    fn damaged(&self, reason: String) -> Error {
        Error::Damaged { place: self.place(), reason }
    }

    fn damaged_row(&self, row: &str, fault: Fault) -> Error {
        Error::Damaged {
            place: format!(
                "{}, table {}, row {}, column {}",
                self.place(),
                self.settings.table,
                row.escape_debug(),
                fault.column
            ),
            reason: fault.reason,
        }
    }

    fn twice(&self, id: &AccountId) -> Error {
        let column = self.settings.columns.account.clone();
        let reason =
            "several rows have this account; the column must be unique together with the provider";
        self.damaged_row(&id.to_string(), Fault { column, reason: reason.to_owned() }).of(id)
    }
}

const DOES_NOT_FIT: &str = "a question was refused: a value in it, perhaps the position, does not fit the type that it is compared with or cast to";

fn hash_of(id: &AccountId) -> u64 {
    let mut hasher = DefaultHasher::new();
    id.hash(&mut hasher);
    hasher.finish()
}
