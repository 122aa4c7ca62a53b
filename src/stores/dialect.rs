//! In what SQLite, PostgreSQL and MySQL differ: quotes, placeholders, casts, and comparing with `NULL`.
//!
//! The two servers hand out and take every value as text and convert it themselves; so one reader serves
//! all three, and a column keeps its type whatever that is.

use super::cells::Value;

/// Which SQL is spoken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Dialect {
    Sqlite,
    Postgres,
    Mysql,
}

/// A column as the catalogue describes it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Column {
    pub(super) name: String,
    pub(super) kind: ColumnKind,
    /// The type as it is written in a cast; from the catalogue, never from a person.
    pub(super) sql_type: String,
    pub(super) not_null: bool,
}

/// What a column can hold.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum ColumnKind {
    /// Anything: SQLite's columns have no type that would bind.
    Anything,
    Text,
    Number,
    /// Bits that read as a number only when they are asked for as one.
    Bits,
    /// A date with a time, in UTC.
    Date,
    /// A list of texts.
    List,
    /// JSON, which takes no other text.
    Json,
    Other,
}

/// A statement and what is bound to it, in the order in which the placeholders stand.
#[derive(Debug)]
pub(super) struct Query {
    pub(super) sql: String,
    pub(super) values: Vec<Value>,
}

/// Numbers the placeholders of one statement. They must be asked for in the order of its text, because
/// MySQL's have no number.
pub(super) struct Binder {
    dialect: Dialect,
    values: Vec<Value>,
}

impl Binder {
    pub(super) const fn new(dialect: Dialect) -> Self {
        Self { dialect, values: Vec::new() }
    }

    pub(super) fn bind(&mut self, value: Value) -> String {
        self.values.push(value);
        let number = self.values.len();
        match self.dialect {
            Dialect::Sqlite => format!("?{number}"),
            // The protocol lets a parameter be of the column's type only; as text it can be cast to any.
            Dialect::Postgres => format!("${number}::text"),
            Dialect::Mysql => "?".to_owned(),
        }
    }

    /// The same, as a value of `column`.
    pub(super) fn bind_as(&mut self, value: Value, column: &Column) -> String {
        let mark = self.bind(value);
        match (self.dialect, column.kind) {
            (Dialect::Postgres, ColumnKind::List) => {
                format!("string_to_array({mark}, ' ')::{}", column.sql_type)
            }
            (Dialect::Postgres, _) => format!("{mark}::{}", column.sql_type),
            _ => mark,
        }
    }

    pub(super) fn query(self, sql: String) -> Query {
        Query { sql, values: self.values }
    }
}

impl Dialect {
    /// An identifier in quotes, which cannot occur in one, see [`super::columns::is_identifier`].
    pub(super) fn quoted(self, name: &str) -> String {
        match self {
            Self::Sqlite | Self::Postgres => format!("\"{name}\""),
            Self::Mysql => format!("`{name}`"),
        }
    }

    /// A column of the table `t`. It is named together with its table: SQLite takes a quoted name that is
    /// no column for a text, and a dropped column would turn into a token called `access_token`.
    pub(super) fn of_table(self, name: &str) -> String {
        format!("t.{}", self.quoted(name))
    }

    /// How a column is read.
    pub(super) fn read(self, column: &Column) -> String {
        let name = self.of_table(&column.name);
        match (self, column.kind) {
            (Self::Sqlite, _) | (Self::Mysql, ColumnKind::Text) => name,
            (Self::Postgres, ColumnKind::List) => format!("array_to_string({name}, ' ')"),
            (Self::Postgres, _) => format!("{name}::text"),
            (Self::Mysql, ColumnKind::Bits) => format!("CAST({name} + 0 AS CHAR)"),
            (Self::Mysql, _) => format!("CAST({name} AS CHAR)"),
        }
    }

    /// Holds where `column` has exactly this value, and uses an index on it.
    pub(super) fn equals(self, column: &Column, value: &str, binder: &mut Binder) -> String {
        let name = self.of_table(&column.name);
        let value = || Value::Text(value.to_owned());
        let first = binder.bind_as(value(), column);
        match self {
            Self::Sqlite | Self::Postgres => format!("{name} = {first}"),
            // Most collations take `brand-a` for `BRAND-A`, and a number takes `7 shoes` for 7.
            Self::Mysql => {
                format!("{name} = {first} AND {} = {}", binary(&name), binder.bind(value()))
            }
        }
    }

    /// Holds where `column` still has this raw value, `NULL` included.
    pub(super) fn still(self, column: &Column, raw: Value, binder: &mut Binder) -> String {
        let name = self.of_table(&column.name);
        let raw = binder.bind(raw);
        match self {
            Self::Sqlite => format!("{name} IS {raw}"),
            Self::Postgres => format!("{} IS NOT DISTINCT FROM {raw}", self.read(column)),
            Self::Mysql => format!("{} <=> {raw}", binary(&name)),
        }
    }

    /// Holds where `column` has another value.
    pub(super) fn differs(self, column: &Column, value: Value, binder: &mut Binder) -> String {
        let name = self.of_table(&column.name);
        let value = binder.bind_as(value, column);
        match self {
            Self::Sqlite => format!("{name} IS NOT {value}"),
            Self::Postgres => format!("{name} IS DISTINCT FROM {value}"),
            Self::Mysql => format!("NOT ({name} <=> {value})"),
        }
    }

    /// A number that changes with any of `reads`, for one row.
    pub(super) fn row_hash(self, reads: &[String]) -> String {
        // `NULL` would be skipped, and (a, NULL, b) be the same as (a, b).
        let nothing = if self == Self::Mysql { "CHAR(1)" } else { "chr(1)" };
        let list = reads
            .iter()
            .map(|read| format!("COALESCE({read}, {nothing})"))
            .collect::<Vec<_>>()
            .join(", ");
        match self {
            Self::Mysql => format!("CRC32(CONCAT_WS(CHAR(2), {list}))"),
            Self::Sqlite | Self::Postgres => {
                format!("hashtextextended(concat_ws(chr(2), {list}), 0)")
            }
        }
    }

    /// Any expression as text.
    pub(super) fn as_text(self, expression: &str) -> String {
        match self {
            Self::Sqlite => format!("CAST({expression} AS TEXT)"),
            Self::Postgres => format!("({expression})::text"),
            Self::Mysql => format!("CAST({expression} AS CHAR)"),
        }
    }

    /// Whether two names are the same column.
    pub(super) fn same_name(self, one: &str, other: &str) -> bool {
        match self {
            Self::Postgres => one == other,
            Self::Sqlite | Self::Mysql => one.eq_ignore_ascii_case(other),
        }
    }
}

fn binary(name: &str) -> String {
    format!("CONVERT({name} USING utf8mb4) COLLATE utf8mb4_bin")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_dialect_compares_a_key_in_its_own_words() {
        let column = Column {
            name: "account".to_owned(),
            kind: ColumnKind::Text,
            sql_type: "uuid".to_owned(),
            not_null: true,
        };
        for (dialect, words, values) in [
            (Dialect::Sqlite, "t.\"account\" = ?1", 1),
            (Dialect::Postgres, "t.\"account\" = $1::text::uuid", 1),
            (
                Dialect::Mysql,
                "t.`account` = ? AND CONVERT(t.`account` USING utf8mb4) COLLATE utf8mb4_bin = ?",
                2,
            ),
        ] {
            let mut binder = Binder::new(dialect);
            assert_eq!(dialect.equals(&column, "brand-a", &mut binder), words);
            assert_eq!(binder.query(String::new()).values.len(), values, "{dialect:?}");
        }
    }
}
