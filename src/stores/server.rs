//! A store in a table of a database server. Everything that PostgreSQL and MySQL have in common, which is
//! everything but the words on the wire: those are a [`Driver`]'s.
//!
//! A save is one transaction that locks the account's row, compares, writes token columns only, commits,
//! and reads back. It runs as a task of its own, so that dropping the caller does not tear it in two.
//! Messages of the server are never repeated: they quote values.

use super::{
    Care, Error, Plan, Saved, Status, StoredAccount, TokenStore,
    cells::{Cell, Cells, Fault},
    check_new,
    columns::{self, Columns, TimeUnit, is_identifier},
    dialect::{Column, ColumnKind, Dialect, Query},
    fingerprint_once_saved, plan,
    pool::{Permit, Pool},
    statements::{Found, Samples, Statements},
    times,
    watch::Watch,
};
use crate::{
    core::{AccountId, Fingerprint},
    oauth::{Fingerprinter, Token},
    secrets::SecretRef,
};
use std::{
    collections::HashSet,
    fmt,
    future::Future,
    hash::{DefaultHasher, Hash, Hasher},
    path::PathBuf,
    sync::Arc,
    time::Duration,
};
use tokio::sync::watch;
use zeroize::Zeroizing;

/// Which table of which server, and what its columns mean.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Settings {
    /// Where the server listens.
    pub host: Host,
    /// The database.
    pub database: String,
    /// Who we are there.
    pub user: String,
    /// Where our password comes from; `None` where the server knows us by our socket.
    pub password: Option<SecretRef>,
    /// Whether the connection is encrypted and the server's certificate verified.
    pub tls: Tls,
    /// Certificates that are trusted instead of the usual ones.
    pub ca_file: Option<PathBuf>,
    /// The table's schema; `None` is the one that the server takes by itself.
    pub schema: Option<String>,
    /// The table; created with [`Columns::simple`] by `import` when it does not exist.
    pub table: String,
    /// What its columns are called.
    pub columns: Columns,
    /// Most connections at one time, besides the one that listens.
    pub pool_max: usize,
    /// How long one statement may take, waiting for locks included.
    pub statement_timeout: Duration,
    /// How long a new connection may take.
    pub connect_timeout: Duration,
    /// How often to look for changes, besides being told of them.
    pub poll_every: Duration,
    /// The channel of PostgreSQL on which the publisher tells of changes.
    pub notify_channel: Option<String>,
    /// A column that moves with every change of a row, so that looking is cheap.
    pub change_column: Option<String>,
}

/// Where a server listens.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Host {
    /// A name or address, and a port.
    Tcp(String, u16),
    /// PostgreSQL: the directory of its socket, with the port in the socket's name. MySQL: the socket.
    Socket(PathBuf, u16),
}

/// Encryption of the connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Tls {
    /// Encrypted, or not connected at all; the certificate and its name are verified.
    Require,
    /// Not encrypted: for sockets and for this machine.
    Off,
}

/// The words on the wire.
pub(super) trait Driver: Send + Sync + 'static {
    type Connection: Send + 'static;
    const DIALECT: Dialect;
    /// How a person calls it.
    const NAME: &'static str;
    /// Begins a transaction that sees what others committed meanwhile.
    const BEGIN: &'static str;
    /// Whether the server takes writes in this session: one row with `on` or `1` when it does not.
    const READ_ONLY: &'static str;
    /// Lifts the limit on how long a statement may take, for this session.
    const UNLIMITED: &'static str;
    /// Our simple table, with `{table}` for its name.
    const SIMPLE_SCHEMA: &'static str;

    fn connect(
        &self,
        settings: &Settings,
    ) -> impl Future<Output = Result<Self::Connection, Trouble>> + Send;

    /// Asks the server for a sign of life.
    fn ping(connection: &mut Self::Connection) -> impl Future<Output = Result<(), Trouble>> + Send;

    fn batch(
        connection: &mut Self::Connection,
        sql: &str,
    ) -> impl Future<Output = Result<(), Trouble>> + Send;

    fn execute(
        connection: &mut Self::Connection,
        query: &Query,
    ) -> impl Future<Output = Result<u64, Trouble>> + Send;

    /// Hands out rows as they arrive; each of them within `patience`.
    fn stream(
        connection: &mut Self::Connection,
        query: &Query,
        patience: Duration,
        each: impl FnMut(TextRow) + Send,
    ) -> impl Future<Output = Result<(), Trouble>> + Send;

    /// What the catalogue says of the table; nothing where there is none.
    fn catalogue(
        connection: &mut Self::Connection,
        settings: &Settings,
    ) -> impl Future<Output = Result<Vec<Column>, Trouble>> + Send;

    /// Names of tables that there are, for whoever looks for another one.
    fn tables() -> Query;
}

/// What went wrong, by the reaction that it demands.
#[derive(Debug)]
pub(super) enum Trouble {
    /// No connection, or none any more.
    Lost(String),
    /// The server answers that it cannot now.
    Busy(String),
    /// The server answers that it never will.
    Wrong(String),
    /// There is such a row already.
    Duplicate,
    /// The text cannot be a value of the column that it is compared with.
    NoSuchValue,
}

/// A row whose cells are all text. Some of them are tokens, so they are wiped.
pub(super) struct TextRow(pub(super) Vec<Option<Zeroizing<Vec<u8>>>>);

impl Cells for TextRow {
    fn cell(&self, at: usize) -> Cell<'_> {
        self.0.get(at).and_then(Option::as_ref).map_or(Cell::Null, |text| Cell::Text(text))
    }
}

impl TextRow {
    fn text(&self, at: usize) -> Option<&str> {
        std::str::from_utf8(self.0.get(at)?.as_ref()?).ok()
    }
}

/// See the module.
pub(super) struct ServerStore<D: Driver> {
    pub(super) inner: Arc<Inner<D>>,
}

pub(super) struct Inner<D: Driver> {
    driver: D,
    pub(super) settings: Settings,
    fingerprinter: Fingerprinter,
    pool: Pool<D::Connection>,
    statements: Statements,
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

/// The number of rows, and something that moves with each change: the last value of a column, or a sum
/// over all rows.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
struct Look {
    rows: i128,
    sum: i128,
    newest: Option<String>,
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
                let name = inner.statements.read_id(&row);
                let name = name.map_or_else(|_| "without a name".to_owned(), |id| id.to_string());
                damaged(inner.damaged_row(&name, fault));
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
        let old = old.expect("only a stored token can be the expected one");
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
            .map_err(|fault| self.damaged_row(&id.to_string(), fault))?;
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
        let query = match &self.settings.change_column {
            Some(column) => self.statements.newest(column),
            None => self.statements.digest_one(id),
        };
        let rows = self.rows(lease, &query).await?;
        Ok(look_in(&rows, self.settings.change_column.is_some()))
    }

    /// Takes note of a write of our own, so that it is no news; what others wrote meanwhile still is.
    fn wrote(&self, before: &Look, after: Look) {
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
        self.damaged_row(&id.to_string(), Fault { column, reason: reason.to_owned() })
    }
}

impl fmt::Display for Host {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Tcp(host, port) if host.contains(':') => write!(f, "[{host}]:{port}"),
            Self::Tcp(host, port) => write!(f, "{host}:{port}"),
            Self::Socket(path, _) => write!(f, "{}", path.display()),
        }
    }
}

/// The store as messages name it: the server and the database, and nobody's name or password.
pub(super) fn place(kind: &str, settings: &Settings) -> String {
    format!("{kind} {}, database {}", settings.host, settings.database)
}

/// The quoted name of the table.
pub(super) fn quoted_table(dialect: Dialect, settings: &Settings) -> String {
    let table = dialect.quoted(&settings.table);
    match &settings.schema {
        Some(schema) => format!("{}.{table}", dialect.quoted(schema)),
        None => table,
    }
}

/// Makes the table of our own schema where there is none.
pub(super) async fn create<D: Driver>(driver: D, settings: &Settings) -> Result<(), Error> {
    let place = place(D::NAME, settings);
    let said = |trouble| say(&place, &settings.table, trouble);
    let mut connection = connect(&driver, settings).await.map_err(said)?;
    names_are_plain(&place, settings)?;
    let there = D::catalogue(&mut connection, settings).await.map_err(said)?;
    if !there.is_empty() || settings.columns != Columns::simple() {
        return statements::<D>(&mut connection, settings).await.map(drop);
    }
    let table = quoted_table(D::DIALECT, settings);
    D::batch(&mut connection, &D::SIMPLE_SCHEMA.replace("{table}", &table)).await.map_err(said)
}

/// The reason behind an error of a connection, in words that quote nothing.
pub(super) fn connection_reason(error: &(dyn std::error::Error + 'static)) -> String {
    let mut next = Some(error);
    while let Some(error) = next {
        if let Some(tls) = error.downcast_ref::<rustls::Error>() {
            return format!(
                "TLS failed: {tls}; is the right ca_file named, and the host as the certificate has it?"
            );
        }
        if let Some(io) = error.downcast_ref::<std::io::Error>() {
            // What rustls says comes wrapped in one of these.
            if let Some(tls) = io.get_ref().and_then(|inner| inner.downcast_ref::<rustls::Error>())
            {
                return connection_reason(tls);
            }
            return format!("the connection failed: {}", io.kind());
        }
        next = error.source();
    }
    "the connection failed or was closed".to_owned()
}

async fn connect<D: Driver>(driver: &D, settings: &Settings) -> Result<D::Connection, Trouble> {
    let connect = driver.connect(settings);
    tokio::time::timeout(settings.connect_timeout, connect).await.unwrap_or_else(|_| Err(silent()))
}

pub(super) fn silent() -> Trouble {
    Trouble::Lost("it does not answer in time".to_owned())
}

async fn rows<D: Driver>(
    connection: &mut D::Connection,
    query: &Query,
) -> Result<Vec<TextRow>, Trouble> {
    let mut rows = Vec::new();
    D::stream(connection, query, Duration::MAX, |row| rows.push(row)).await?;
    Ok(rows)
}

async fn look<D: Driver>(
    connection: &mut D::Connection,
    settings: &Settings,
    statements: &Statements,
) -> Result<Look, Trouble> {
    let query = match &settings.change_column {
        Some(column) => statements.newest(column),
        None => statements.digest_all(),
    };
    Ok(look_in(&rows::<D>(connection, &query).await?, settings.change_column.is_some()))
}

fn look_in(rows: &[TextRow], by_column: bool) -> Look {
    let Some(row) = rows.first() else { return Look::default() };
    let number = |at: usize| row.text(at).and_then(|text| text.parse().ok()).unwrap_or_default();
    if by_column {
        Look { rows: number(0), sum: 0, newest: row.text(1).map(str::to_owned) }
    } else {
        Look { rows: number(0), sum: number(1), newest: None }
    }
}

fn names_are_plain(place: &str, settings: &Settings) -> Result<(), Error> {
    let names = columns::mapped(&settings.columns)
        .into_iter()
        .chain([settings.table.as_str()])
        .chain(settings.schema.as_deref())
        .chain(settings.change_column.as_deref())
        .chain(settings.notify_channel.as_deref());
    match names.into_iter().find(|name| !is_identifier(name)) {
        None => Ok(()),
        Some(name) => Err(Error::Damaged {
            place: place.to_owned(),
            reason: format!(
                "the name `{}` must consist of letters, digits and underscores",
                name.escape_debug()
            ),
        }),
    }
}

/// Checks the names, the table, every mapped column, and that units fit their columns.
async fn statements<D: Driver>(
    connection: &mut D::Connection,
    settings: &Settings,
) -> Result<Statements, Error> {
    let place = place(D::NAME, settings);
    let limit = settings.statement_timeout + GRACE;
    let said = |trouble| say(&place, &settings.table, trouble);
    let wrong = |reason: String| Error::Damaged { place: place.clone(), reason };
    names_are_plain(&place, settings)?;
    let table = &settings.table;
    let there = tokio::time::timeout(limit, D::catalogue(connection, settings));
    let there = there.await.unwrap_or_else(|_| Err(silent())).map_err(said)?;
    if there.is_empty() {
        let tables = rows::<D>(connection, &D::tables()).await.map_err(said)?;
        let names: Vec<_> = tables.iter().filter_map(|row| row.text(0)).collect();
        let names = if names.is_empty() { "none".to_owned() } else { names.join(", ") };
        return Err(wrong(format!(
            "there is no table `{table}` that this user can see; there is: {names}"
        )));
    }
    let find = |name: &str| there.iter().find(|one| D::DIALECT.same_name(&one.name, name));
    let mapped = columns::mapped(&settings.columns);
    let needed = mapped.into_iter().chain(settings.change_column.as_deref());
    for name in needed {
        if find(name).is_none() {
            let names: Vec<_> = there.iter().map(|column| column.name.as_str()).collect();
            return Err(wrong(format!(
                "table `{table}` has no column `{name}`; its columns are: {}",
                names.join(", ")
            )));
        }
    }
    let columns = &settings.columns;
    for time in [&columns.expires_at, &columns.refresh_expires_at, &columns.issued_at] {
        let Some(time) = time else { continue };
        let is_number = find(&time.name).is_some_and(|column| column.kind == ColumnKind::Number);
        if is_number && time.unit == TimeUnit::Text {
            return Err(wrong(format!(
                "table `{table}`, column `{}` holds numbers; its unit is unix_seconds or \
                 unix_millis, not text",
                time.name
            )));
        }
    }
    let table = quoted_table(D::DIALECT, settings);
    Ok(Statements::new(D::DIALECT, table, settings.columns.clone(), there))
}

pub(super) fn say(place: &str, table: &str, trouble: Trouble) -> Error {
    let place = place.to_owned();
    match trouble {
        Trouble::Lost(reason) | Trouble::Busy(reason) => Error::Unavailable { place, reason },
        Trouble::Wrong(reason) => {
            Error::Damaged { place, reason: format!("table `{table}`: {reason}") }
        }
        Trouble::Duplicate => Error::Damaged {
            place,
            reason: format!("table `{table}` refuses a second row with the same key"),
        },
        Trouble::NoSuchValue => Error::Damaged {
            place,
            reason: format!(
                "a statement on table `{table}` was refused: a value does not fit the type of its \
                 column"
            ),
        },
    }
}

fn hash_of(id: &AccountId) -> u64 {
    let mut hasher = DefaultHasher::new();
    id.hash(&mut hasher);
    hasher.finish()
}

/// Besides the time that a statement may take on the server: for the way there and back.
const GRACE: Duration = Duration::from_secs(1);
