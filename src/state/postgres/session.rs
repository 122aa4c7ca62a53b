//! One connection: how it is made, what is set on it, and what its errors are called.

use super::{
    super::{
        seal::KeyId,
        writer::{Kind, Refusal},
    },
    Settings,
    save::{self, Attempted, Landed, Saves},
    schema,
    work::Step,
};
use crate::postgres_save::Sessions;
use std::{
    collections::HashMap,
    error::Error as _,
    future::{Future, poll_fn},
    pin::Pin,
    task::Poll,
    time::Duration,
};
use tokio::{
    io::{AsyncRead, AsyncWrite},
    task::JoinHandle,
    time::timeout,
};
use tokio_postgres::{
    Client, Config, Connection, Error, NoTls, Row, Statement,
    config::{SslMode, TargetSessionAttrs},
    error::SqlState,
    types::ToSql,
};

/// A connection that has been looked at and set up.
pub(super) struct Session {
    client: Client,
    /// Moves the bytes; ended with the session, whether the server answers or not.
    driver: JoinHandle<()>,
    /// Prepared once each. The texts are constants of this program, so there is a bounded number of them.
    statements: HashMap<&'static str, Statement>,
    /// Where our tables are.
    schema: String,
    /// How long a statement may take.
    limit: Duration,
    /// The server's number of this connection.
    number: i32,
    /// Where that number was told, so that our saves are no news; at most one store.
    told: Option<Sessions>,
}

/// The statements of one call, and whether they write.
pub(super) struct Request<'a> {
    pub(super) kind: Kind,
    pub(super) steps: &'a [Step],
    pub(super) attempted: Option<&'a Attempted>,
}

/// What a committed transaction answers.
pub(super) struct Carried {
    /// Of each request, in order.
    pub(super) answers: Vec<Answers>,
    /// True when the publisher's table held everybody up.
    pub(super) held_up: bool,
}

/// The rows of each step.
pub(super) type Answers = Vec<Vec<Row>>;

/// A statement on its way.
pub(super) type Flight<'a, T> = Pin<Box<dyn Future<Output = Result<T, Error>> + Send + 'a>>;

impl Drop for Session {
    fn drop(&mut self) {
        // A server that does not answer would keep the connection open for as long as TCP lets it.
        self.driver.abort();
        if let Some(told) = &self.told {
            told.remove(self.number);
        }
    }
}

/// Connects, makes or checks our tables.
pub(super) async fn open(settings: &Settings, key_id: KeyId) -> Result<Session, Refusal> {
    within(settings, async {
        let mut session = connect(settings).await?;
        session.number = set_up(&session.client, settings).await?;
        schema::create_or_check(&mut session.client, &settings.schema, key_id).await?;
        Ok(session)
    })
    .await
}

/// Connects and looks; false when our tables are not there yet.
pub(super) async fn examine(settings: &Settings, key_id: KeyId) -> Result<bool, Refusal> {
    within(settings, async {
        let session = connect(settings).await?;
        set_up(&session.client, settings).await?;
        schema::examine(&session.client, &settings.schema, key_id).await
    })
    .await
}

async fn within<T>(
    settings: &Settings,
    connecting: impl Future<Output = Result<T, Refusal>>,
) -> Result<T, Refusal> {
    let limit = settings.connect_timeout;
    timeout(limit, connecting).await.unwrap_or_else(|_| {
        Err(Refusal::Unavailable(format!("no connection within {} s", limit.as_secs_f32())))
    })
}

async fn connect(settings: &Settings) -> Result<Session, Refusal> {
    let connector = settings.connector()?;
    let config = login(settings)?;
    let (client, driver) = match connector {
        Some(connector) => {
            let (client, connection) = config.connect(connector).await.map_err(unavailable)?;
            (client, drive(connection))
        }
        None => {
            let (client, connection) = config.connect(NoTls).await.map_err(unavailable)?;
            (client, drive(connection))
        }
    };
    Ok(Session {
        client,
        driver,
        statements: HashMap::new(),
        schema: settings.schema.clone(),
        limit: settings.statement_timeout,
        number: 0,
        told: None,
    })
}

fn login(settings: &Settings) -> Result<Config, Refusal> {
    let mut config = Config::new();
    config
        .host(&settings.host)
        .port(settings.port)
        .dbname(&settings.database)
        .user(&settings.user)
        .application_name("oauth-keepalive")
        .connect_timeout(settings.connect_timeout)
        .tcp_user_timeout(settings.statement_timeout)
        // A standby answers, and would be noticed only when a token is about to be spent.
        .target_session_attrs(TargetSessionAttrs::ReadWrite)
        .ssl_mode(match settings.connector()? {
            Some(_) => SslMode::Require,
            None => SslMode::Disable,
        });
    if let Some(password) = &settings.password {
        let secret = password.read().map_err(|error| Refusal::Unavailable(error.to_string()))?;
        config.password(secret.expose());
    }
    Ok(config)
}

fn drive<S, T>(connection: Connection<S, T>) -> JoinHandle<()>
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    T: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    // Its error reaches every statement that waits for an answer.
    tokio::spawn(async move { drop(connection.await) })
}

/// Answers with the server's number of the connection.
async fn set_up(client: &Client, settings: &Settings) -> Result<i32, Refusal> {
    let Settings { schema, statement_timeout, .. } = settings;
    let limit = statement_timeout.as_millis();
    client
        .batch_execute(&format!(
            "SET search_path TO \"{schema}\", pg_catalog;
             SET statement_timeout TO {limit};
             SET idle_in_transaction_session_timeout TO {limit};
             SET client_min_messages TO error;
             SET default_transaction_isolation TO 'read committed'"
        ))
        .await
        .map_err(unavailable)?;
    let row = client
        .query_one(
            "SELECT current_setting('synchronous_commit'), current_setting('fsync'), pg_backend_pid()",
            &[],
        )
        .await
        .map_err(unavailable)?;
    let read = |column| row.try_get::<_, String>(column).map_err(unavailable);
    // Durable before it is answered, on power loss too: a rotated token exists nowhere else. What is
    // stronger stays.
    if read(0)? != "remote_apply" {
        client.batch_execute("SET synchronous_commit TO on").await.map_err(unavailable)?;
    }
    if read(1)? != "on" {
        tracing::warn!(
            "the database server runs with fsync off: a power cut there loses tokens that we were told are safe"
        );
    }
    row.try_get(2).map_err(unavailable)
}

impl Session {
    /// False once the connection is known to be lost.
    pub(super) fn is_open(&self) -> bool {
        !self.client.is_closed()
    }

    /// Carries the requests out in one transaction. `Ok` means committed; an error with an SQLSTATE means
    /// that nothing was done; after any other error nobody knows.
    pub(super) async fn transact(
        &mut self,
        requests: &[Request<'_>],
        saves: Saves,
    ) -> Result<Carried, Error> {
        self.prepare(requests).await?;
        let writes = requests.iter().any(|request| request.kind != Kind::Read);
        let begin = if writes { "BEGIN READ WRITE" } else { "BEGIN READ ONLY" };
        let session = &*self;
        let begun = launch(Box::pin(session.client.batch_execute(begin))).await;
        let mut sent = Vec::with_capacity(requests.len());
        for request in requests {
            let mut flights = Vec::with_capacity(request.steps.len());
            for step in request.steps {
                flights.push(session.send(step).await);
            }
            let attempted = request.attempted.filter(|_| saves != Saves::Leave);
            let save = match attempted {
                Some(attempted) => Some((save::send(session, attempted, saves).await, attempted)),
                None => None,
            };
            sent.push((flights, save));
        }
        let committed = launch(Box::pin(session.client.batch_execute("COMMIT"))).await;

        begun.land().await?;
        let mut first_error = None;
        let mut held_up = false;
        let mut answers = Vec::with_capacity(requests.len());
        for (flights, save) in sent {
            let mut rows = Vec::with_capacity(flights.len());
            for flight in flights {
                match flight.land().await {
                    Ok(found) => rows.push(found),
                    // The others failed because this one did, and say so.
                    Err(error) => drop(first_error.get_or_insert(error)),
                }
            }
            if let Some((sent, attempted)) = save {
                match sent.land(attempted, saves).await {
                    Ok(Landed::Saved(saved)) => rows.extend(saved),
                    Ok(Landed::Refused(waited)) => held_up |= waited,
                    Err(error) => drop(first_error.get_or_insert(error)),
                }
            }
            answers.push(rows);
        }
        let committed = committed.land().await;
        match first_error {
            // A COMMIT of a transaction that failed is a rollback, and no error.
            Some(error) => Err(error),
            None => committed.map(|()| Carried { answers, held_up }),
        }
    }

    /// What must be done before the first statement is sent, because it waits for answers.
    async fn prepare(&mut self, requests: &[Request<'_>]) -> Result<(), Error> {
        for request in requests {
            let then = request.attempted.map(|attempted| attempted.then.as_slice());
            for step in request.steps.iter().chain(then.unwrap_or_default()) {
                if !self.statements.contains_key(step.sql) {
                    let statement = self.client.prepare(step.sql).await?;
                    self.statements.insert(step.sql, statement);
                }
            }
            if let (Some(attempted), None) = (request.attempted, &self.told) {
                let sessions = &attempted.save.sessions;
                sessions.add(self.number);
                self.told = Some(sessions.clone());
            }
        }
        Ok(())
    }

    /// Sends a statement that has been prepared.
    pub(super) async fn send<'a>(&'a self, step: &'a Step) -> Launched<'a, Vec<Row>> {
        let statement = &self.statements[step.sql];
        launch(Box::pin(async move {
            let values: Vec<_> =
                step.values.iter().map(|value| &**value as &(dyn ToSql + Sync)).collect();
            self.client.query(statement, &values).await
        }))
        .await
    }

    pub(super) const fn client(&self) -> &Client {
        &self.client
    }

    /// How long a statement may take.
    pub(super) const fn limit(&self) -> Duration {
        self.limit
    }

    /// Looks names up among our tables, for the rest of the transaction.
    pub(super) fn own_search_path(&self) -> String {
        format!("SET LOCAL search_path TO \"{}\", pg_catalog", self.schema)
    }
}

/// A statement that was sent; its answer may be there already.
pub(super) enum Launched<'a, T> {
    Under(Flight<'a, T>),
    Landed(Result<T, Error>),
}

/// Sends a statement without waiting for its answer. The client sends when it is first asked.
pub(super) async fn launch<T>(mut flight: Flight<'_, T>) -> Launched<'_, T> {
    match poll_fn(|context| Poll::Ready(flight.as_mut().poll(context))).await {
        Poll::Ready(answer) => Launched::Landed(answer),
        Poll::Pending => Launched::Under(flight),
    }
}

impl<T> Launched<'_, T> {
    pub(super) async fn land(self) -> Result<T, Error> {
        match self {
            Self::Under(flight) => flight.await,
            Self::Landed(answer) => answer,
        }
    }
}

/// An error that is nobody's fault in particular.
pub(super) fn unavailable(error: Error) -> Refusal {
    Refusal::Unavailable(said(&error))
}

/// What PostgreSQL said, without the statement and without any value in it.
pub(super) fn said(error: &Error) -> String {
    let Some(refused) = error.as_db_error() else {
        return match error.source() {
            Some(cause) => format!("{error}: {cause}"),
            None => error.to_string(),
        };
    };
    let code = refused.code();
    match code.code().get(..2) {
        _ if *code == SqlState::DISK_FULL => "the server's disk is full".to_owned(),
        _ if *code == SqlState::READ_ONLY_SQL_TRANSACTION => {
            "the server is read-only; name the primary".to_owned()
        }
        _ if *code == SqlState::QUERY_CANCELED => {
            "a statement took longer than statement_timeout, or was cancelled".to_owned()
        }
        // These are about rights, names, resources and the server itself: their text holds no value.
        Some("08" | "28" | "3D" | "3F" | "42" | "53" | "57" | "58") => {
            format!("{} (SQLSTATE {})", refused.message(), code.code())
        }
        _ => format!("a statement was refused (SQLSTATE {})", code.code()),
    }
}

/// True when one request of several is to blame, so that the others may succeed without it.
pub(super) fn is_of_one_request(error: &Error) -> bool {
    error.code().is_some_and(|code| {
        *code == SqlState::T_R_DEADLOCK_DETECTED
            || matches!(code.code().get(..2), Some("21" | "22" | "23" | "40" | "54"))
    })
}
