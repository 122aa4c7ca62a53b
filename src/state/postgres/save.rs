//! A save into the publisher's table, in the transaction that makes its result durable.
//!
//! Whatever goes wrong in their table, a lock, a trigger, a missing right, must not cost the result. So the
//! save stands in a savepoint. Everything is sent at once, and nobody is there to decide between going on
//! and going back: a second savepoint of the same name decides. After a failure it cannot be made, and
//! `ROLLBACK TO` goes back to the first; otherwise it hides the first, and nothing is undone.
//!
//! How long their table may hold up everybody's results is bounded twice: by the time limits here, and by
//! the writer, which leaves saves to the stores for a while after one of these was reached.

use super::{
    super::{journal::number, writer::Refusal},
    journal::names,
    session::{Launched, Session, launch, unavailable},
    work::{Step, Work, step},
};
use crate::{
    core::{AccountId, Fingerprint},
    postgres_save::{Looks, Save, Statement},
};
use std::time::Duration;
use tokio_postgres::{
    Client, Error, Row,
    error::SqlState,
    types::{ToSql, Type},
};

/// A save, and what is only done when it went through.
pub(in super::super) struct Attempted {
    pub(super) save: Save,
    pub(super) then: Vec<Step>,
}

/// What a transaction does about the saves in it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Saves {
    /// Carries them out.
    Try,
    /// Looks whether they took place: the first try may have been committed without our hearing of it.
    Check,
    /// Leaves them to the store.
    Leave,
}

/// A save whose statements are on their way.
pub(super) struct Sent<'a> {
    /// Up to and including what follows the save. An error here is an error of their table.
    inside: Vec<Launched<'a, Vec<Row>>>,
    again: Launched<'a, Vec<Row>>,
    back: Launched<'a, Vec<Row>>,
}

/// What became of it.
pub(super) enum Landed {
    /// It went through, with the rows of its savepoint, which are none, and of each write.
    Saved(Vec<Vec<Row>>),
    /// Nothing of it is left. True when others had to wait for that.
    Refused(bool),
}

/// One call of two that would be a call each, with the save between them. `None` when the publisher's table
/// does not take it: then the result is recorded alone.
pub(in super::super) fn together(
    recorded: Work<()>,
    save: Save,
    completed: Work<()>,
    id: &AccountId,
    result: Fingerprint,
) -> Work<Option<Looks>> {
    let (provider, account) = names(id);
    let mut then = completed.steps;
    // A second try finds the entry closed by the first, and has kept its result beside it.
    then.push(step!(FORGET_ORPHAN, provider, account, number(result)));
    let steps = recorded.steps.len();
    let attempted = Some(Attempted { save, then });
    let read = Box::new(move |answers: &[Vec<Row>]| looks(&answers[steps..]));
    Work { kind: recorded.kind, about: recorded.about, steps: recorded.steps, attempted, read }
}

/// Sends it all.
pub(super) async fn send<'a>(
    session: &'a Session,
    attempted: &'a Attempted,
    saves: Saves,
) -> Sent<'a> {
    let client = session.client();
    let Save { settings, writes, check, .. } = &attempted.save;
    let open = format!(
        "SAVEPOINT save; SET LOCAL statement_timeout TO {}; SET LOCAL lock_timeout TO {}; {settings}",
        session.limit().min(STATEMENT_MAX).as_millis(),
        LOCK_WAIT_MAX.as_millis(),
    );
    let mut inside = vec![batch(client, open).await];
    if saves == Saves::Try {
        for write in writes {
            inside.push(statement(client, write).await);
        }
        // What would be refused only at COMMIT must be refused while it can still be taken back.
        inside.push(batch(client, "SET CONSTRAINTS ALL IMMEDIATE".to_owned()).await);
    }
    inside.push(statement(client, check).await);
    // What follows is about our own tables.
    inside.push(batch(client, session.own_search_path()).await);
    for step in &attempted.then {
        inside.push(session.send(step).await);
    }
    let again = batch(client, "SAVEPOINT save".to_owned()).await;
    let own = format!(
        "ROLLBACK TO SAVEPOINT save; SET LOCAL statement_timeout TO {}; SET LOCAL lock_timeout TO 0; {}",
        session.limit().as_millis(),
        session.own_search_path(),
    );
    Sent { inside, again, back: batch(client, own).await }
}

impl Sent<'_> {
    /// Waits for the answers. An error is one of the whole transaction.
    pub(super) async fn land(self, attempted: &Attempted, saves: Saves) -> Result<Landed, Error> {
        let mut failure: Option<Error> = None;
        let mut rows = Vec::new();
        for flight in self.inside {
            match flight.land().await {
                Ok(found) => rows.push(found),
                // The others failed because this one did, and say so.
                Err(error) => drop(failure.get_or_insert(error)),
            }
        }
        // After a failure it cannot be made, which is the point of it.
        drop(self.again.land().await);
        self.back.land().await?;
        let Some(failure) = failure else {
            let writes = if saves == Saves::Try { attempted.save.writes.len() } else { 0 };
            rows.truncate(1 + writes);
            return Ok(Landed::Saved(rows));
        };
        let code = failure.code().map_or("none", SqlState::code);
        tracing::info!(sqlstate = code, "a save together with its result was refused");
        let held_up = [SqlState::QUERY_CANCELED, SqlState::LOCK_NOT_AVAILABLE];
        Ok(Landed::Refused(failure.code().is_some_and(|code| held_up.contains(code))))
    }
}

/// What the store reads of a save that went through; `None` of one that did not, which has no answers.
fn looks(saved: &[Vec<Row>]) -> Result<Option<Looks>, Refusal> {
    let Some((_, writes)) = saved.split_first() else { return Ok(None) };
    let cells = |rows: &Vec<Row>| {
        let Some(row) = rows.first() else { return Ok(Vec::new()) };
        (0..row.len()).map(|at| row.try_get(at).map_err(unavailable)).collect()
    };
    writes.iter().map(cells).collect::<Result<_, _>>().map(Some)
}

async fn batch(client: &Client, sql: String) -> Launched<'_, Vec<Row>> {
    launch(Box::pin(async move { client.batch_execute(&sql).await.map(|()| Vec::new()) })).await
}

/// Its text is not one of ours, so it is not prepared.
async fn statement<'a>(client: &'a Client, statement: &'a Statement) -> Launched<'a, Vec<Row>> {
    launch(Box::pin(async move {
        let texts: Vec<Option<&str>> =
            statement.values.iter().map(|value| value.as_ref().map(|text| text.as_str())).collect();
        let values: Vec<_> =
            texts.iter().map(|text| (text as &(dyn ToSql + Sync), Type::TEXT)).collect();
        client.query_typed(&statement.sql, &values).await
    }))
    .await
}

const FORGET_ORPHAN: &str =
    "DELETE FROM journal WHERE provider = $1 AND account = $2 AND orphan AND result = $3";

/// The longest that one statement of a save may take, a trigger of the publisher's included.
pub(super) const STATEMENT_MAX: Duration = Duration::from_secs(1);

/// The longest that a save waits for a lock on the publisher's row or table.
const LOCK_WAIT_MAX: Duration = Duration::from_millis(250);
