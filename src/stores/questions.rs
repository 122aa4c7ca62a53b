//! Questions of the user's own to the publisher's database: about its errors, and about posts that wait.
//!
//! Nothing is written: the question stands inside another statement, where only a query can stand, in a
//! transaction that is read-only, with the store's limit on time and a limit on rows. What the server says about
//! a statement that it was only asked to prepare quotes nothing but that statement, so people may see it; what it
//! says later may quote what is stored, and is not shown.

use super::{
    AnyStore, Error, blocking,
    cells::{Cell, Cells, Value},
    dialect::{Dialect, Query},
    sqlite::{self, SqliteStore},
};
use rusqlite::{Connection, OpenFlags};
use std::time::Duration;

/// A question with one parameter.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Question {
    /// A query in the database's own language. Each `:name` of the parameter in it stands for its value.
    pub sql: String,
    /// The name of the parameter.
    pub parameter: &'static str,
    /// Its value, as text. Where SQLite would not compare a text with a number it is bound as a number.
    pub value: String,
    /// The columns that are wanted, in this order; the answer has each of them.
    pub columns: Vec<&'static str>,
    /// One of its columns, by which the answer is sorted.
    pub order_by: Option<&'static str>,
    /// The longest answer.
    pub rows_max: usize,
}

/// A row of an answer; `None` for what is `NULL`.
pub type AnswerRow = Vec<Option<String>>;

impl AnyStore {
    /// The columns that such a question answers with. Nothing is read.
    ///
    /// # Errors
    /// When the database cannot be reached, or does not understand the question: then in its own words.
    pub async fn columns_of(&self, sql: &str, parameter: &str) -> Result<Vec<String>, Error> {
        match self {
            Self::Sqlite(store) => store.columns_of(sql.to_owned(), parameter.to_owned()).await,
            Self::Postgres(store) => store.server().columns_of(sql, parameter).await,
            Self::Mysql(store) => store.server().columns_of(sql, parameter).await,
            Self::File(_) | Self::Redis(_) => Err(no_questions()),
        }
    }

    /// Asks.
    ///
    /// # Errors
    /// When the database cannot be reached, or does not answer in time, or with what cannot be text.
    pub async fn ask(&self, question: Question) -> Result<Vec<AnswerRow>, Error> {
        match self {
            Self::Sqlite(store) => store.ask(question).await,
            Self::Postgres(store) => store.server().ask(&question).await,
            Self::Mysql(store) => store.server().ask(&question).await,
            Self::File(_) | Self::Redis(_) => Err(no_questions()),
        }
    }
}

impl Question {
    /// The statement around it.
    pub(super) fn query(&self, dialect: Dialect) -> Query {
        let column = |name: &str| match dialect {
            Dialect::Sqlite => format!("observed.{}", dialect.quoted(name)),
            Dialect::Postgres => format!("observed.{}::text", dialect.quoted(name)),
            Dialect::Mysql => format!("CAST(observed.{} AS CHAR)", dialect.quoted(name)),
        };
        let columns: Vec<_> = self.columns.iter().map(|name| column(name)).collect();
        let order = self.order_by.map_or_else(String::new, |name| {
            format!(" ORDER BY observed.{}", dialect.quoted(name))
        });
        let (inner, times) = with_parameter(&self.sql, self.parameter, dialect);
        let (columns, rows) = (columns.join(", "), self.rows_max);
        let sql = format!("SELECT {columns} FROM ({inner}\n) AS observed{order} LIMIT {rows}");
        let value = match self.value.parse() {
            Ok(number) if dialect == Dialect::Sqlite => Value::Integer(number),
            _ => Value::Text(self.value.clone()),
        };
        Query { sql, values: vec![value; times] }
    }
}

/// All columns of a question, of no row.
pub(super) fn all_columns(sql: &str, parameter: &str, dialect: Dialect) -> Query {
    let (inner, times) = with_parameter(sql, parameter, dialect);
    let sql = format!("SELECT * FROM ({inner}\n) AS observed LIMIT 0");
    Query { sql, values: vec![Value::Text("0".to_owned()); times] }
}

/// Puts the dialect's placeholder where `:name` stands, and says how many values are bound to it. A cast is
/// written with two colons, and a longer name is another one.
fn with_parameter(sql: &str, name: &str, dialect: Dialect) -> (String, usize) {
    let sql = sql.trim().trim_end_matches(';');
    let mark = format!(":{name}");
    let mut text = String::with_capacity(sql.len());
    let (mut rest, mut times) = (sql, 0);
    while let Some(at) = rest.find(&mark) {
        let (before, behind) = (&rest[..at], &rest[at + mark.len()..]);
        let is_part_of_more = before.ends_with(':')
            || behind.starts_with(|next: char| next.is_alphanumeric() || next == '_');
        text.push_str(before);
        if is_part_of_more {
            text.push_str(&mark);
        } else {
            times += 1;
            text.push_str(match dialect {
                Dialect::Sqlite => "?1",
                Dialect::Postgres => "$1::text",
                Dialect::Mysql => "?",
            });
        }
        rest = behind;
    }
    text.push_str(rest);
    // A numbered placeholder is one value wherever it stands.
    (text, if dialect == Dialect::Mysql { times } else { times.min(1) })
}

impl SqliteStore {
    async fn columns_of(&self, sql: String, parameter: String) -> Result<Vec<String>, Error> {
        let settings = self.settings().clone();
        blocking::run(move || {
            let connection = read_only(&settings)?;
            let sql = all_columns(&sql, &parameter, Dialect::Sqlite).sql;
            let statement = connection.prepare(&sql);
            let statement = statement.map_err(|error| wrong(&settings, &error.to_string()))?;
            Ok(statement.column_names().map(str::to_owned).collect())
        })
        .await
    }

    async fn ask(&self, question: Question) -> Result<Vec<AnswerRow>, Error> {
        let settings = self.settings().clone();
        let opening = settings.clone();
        let connection = blocking::run(move || read_only(&opening)).await?;
        let handle = connection.get_interrupt_handle();
        let limit = tokio::spawn(async move {
            tokio::time::sleep(SQLITE_ANSWERS_WITHIN).await;
            handle.interrupt();
        });
        let answer = blocking::run(move || answer(&connection, &settings, &question)).await;
        limit.abort();
        answer
    }
}

fn answer(
    connection: &Connection,
    settings: &sqlite::Settings,
    question: &Question,
) -> Result<Vec<AnswerRow>, Error> {
    // Only the code is shown: what SQLite says of a row may quote it.
    let failed = |error: rusqlite::Error| Error::Unavailable {
        place: settings.path.display().to_string(),
        reason: match error.sqlite_error_code() {
            Some(rusqlite::ErrorCode::OperationInterrupted) => {
                format!("a question was not answered within {SQLITE_ANSWERS_WITHIN:?}")
            }
            code => format!("a question was not answered: {code:?}"),
        },
    };
    let Query { sql, values } = question.query(Dialect::Sqlite);
    let mut statement = connection.prepare(&sql).map_err(failed)?;
    let mut found = statement.query(rusqlite::params_from_iter(values)).map_err(failed)?;
    let mut rows = Vec::new();
    while let Some(row) = found.next().map_err(failed)? {
        let cell = |at| match row.cell(at) {
            Cell::Null => None,
            Cell::Integer(number) => Some(number.to_string()),
            Cell::Real(number) => Some(number.to_string()),
            Cell::Text(bytes) | Cell::Bytes(bytes) => {
                Some(String::from_utf8_lossy(bytes).into_owned())
            }
        };
        rows.push((0..question.columns.len()).map(cell).collect());
    }
    Ok(rows)
}

/// A connection of its own, so that nobody waits for a long answer.
fn read_only(settings: &sqlite::Settings) -> Result<Connection, Error> {
    // Not opened for reading alone: a database in WAL mode may need its index made.
    let flags = OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    let open = || {
        let connection = Connection::open_with_flags(&settings.path, flags)?;
        connection.busy_timeout(settings.busy_timeout)?;
        connection.pragma_update(None, "query_only", true)?;
        Ok(connection)
    };
    open().map_err(|error: rusqlite::Error| Error::Unavailable {
        place: settings.path.display().to_string(),
        reason: format!("cannot be opened: {:?}", error.sqlite_error_code()),
    })
}

fn wrong(settings: &sqlite::Settings, said: &str) -> Error {
    Error::Damaged { place: settings.path.display().to_string(), reason: said.to_owned() }
}

fn no_questions() -> Error {
    Error::Damaged {
        place: "store".to_owned(),
        reason: "only a store in a database can be asked by SQL".to_owned(),
    }
}

/// SQLite has no limit of its own.
const SQLITE_ANSWERS_WITHIN: Duration = Duration::from_secs(5);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_parameter_becomes_the_dialects_own_wherever_it_stands() {
        let sql =
            "SELECT a::position FROM t WHERE b > :position AND c < :position AND d = :positions;\n";
        let of = |dialect| with_parameter(sql, "position", dialect);
        let postgres =
            "SELECT a::position FROM t WHERE b > $1::text AND c < $1::text AND d = :positions";
        assert_eq!(of(Dialect::Postgres).1, 1);
        assert_eq!(of(Dialect::Postgres).0.trim_end_matches(';'), postgres);
        assert_eq!(of(Dialect::Mysql), (postgres.replace("$1::text", "?"), 2));
        assert_eq!(of(Dialect::Sqlite), (postgres.replace("$1::text", "?1"), 1));
        assert_eq!(with_parameter("SELECT 1", "position", Dialect::Sqlite).1, 0);
    }

    #[test]
    fn a_question_stands_inside_a_statement_that_limits_it() {
        let question = Question {
            sql: "SELECT 1 AS account -- the end".to_owned(),
            parameter: "position",
            value: "7".to_owned(),
            columns: vec!["account", "position"],
            order_by: Some("position"),
            rows_max: 10,
        };
        assert_eq!(
            question.query(Dialect::Postgres).sql,
            "SELECT observed.\"account\"::text, observed.\"position\"::text FROM \
             (SELECT 1 AS account -- the end\n) AS observed ORDER BY observed.\"position\" LIMIT 10"
        );
    }
}
