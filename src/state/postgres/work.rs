//! One call as the writer carries it out: statements, and what their rows mean.
//!
//! All statements of a transaction are sent at once and none waits for the rows of the one before, so a
//! process that is stopped in the middle holds no lock that others would wait for. That is why every
//! condition stands in the statement itself, and why a refused call is one whose statements changed nothing.

use super::{
    super::writer::{Kind, Refusal},
    save::Attempted,
};
use crate::core::AccountId;
use tokio_postgres::{Row, types::ToSql};

/// A value for a statement.
pub(super) type Value = Box<dyn ToSql + Sync + Send>;

/// One statement.
pub(super) struct Step {
    /// Its text; each is prepared once per connection.
    pub(super) sql: &'static str,
    /// Its values, in order.
    pub(super) values: Vec<Value>,
}

/// What the rows of all steps mean.
type Read<T> = Box<dyn Fn(&[Vec<Row>]) -> Result<T, Refusal> + Send>;

/// One call.
pub(in super::super) struct Work<T> {
    pub(super) kind: Kind,
    /// The account whose rows it locks. Every process takes them in the order of their names, or two would
    /// wait for each other.
    pub(super) about: Option<AccountId>,
    pub(super) steps: Vec<Step>,
    /// A save into the publisher's table, after the steps. If it goes through, its rows follow theirs.
    pub(super) attempted: Option<Attempted>,
    pub(super) read: Read<T>,
}

impl<T> Work<T> {
    pub(super) fn new(
        kind: Kind,
        about: Option<&AccountId>,
        steps: Vec<Step>,
        read: impl Fn(&[Vec<Row>]) -> Result<T, Refusal> + Send + 'static,
    ) -> Self {
        Self { kind, about: about.cloned(), steps, attempted: None, read: Box::new(read) }
    }
}

/// A step: its text, then its values.
macro_rules! step {
    ($sql:expr $(, $value:expr)* $(,)?) => {
        $crate::state::postgres::work::Step {
            sql: $sql,
            values: vec![$(Box::new($value) as $crate::state::postgres::work::Value),*],
        }
    };
}
pub(super) use step;
