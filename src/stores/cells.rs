//! Values as databases have them, and what a cell of a row means. Pure: no library of any database.

use super::{
    columns::{TimeColumn, TimeUnit},
    times::{self, Form},
};
use crate::core::Timestamp;

/// A value that is bound to a statement.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Value {
    Null,
    Integer(i64),
    Real(f64),
    Text(String),
    Bytes(Vec<u8>),
}

/// A value in a row that was read.
#[derive(Clone, Copy, Debug)]
pub(super) enum Cell<'a> {
    Null,
    Integer(i64),
    Real(f64),
    Text(&'a [u8]),
    Bytes(&'a [u8]),
}

/// A row that was read.
pub(super) trait Cells {
    /// The cell at `at`, which lies within the list that was selected.
    fn cell(&self, at: usize) -> Cell<'_>;
}

/// What is wrong in a row, before anybody says which row.
#[derive(Debug)]
pub(super) struct Fault {
    pub(super) column: String,
    pub(super) reason: String,
}

/// Only called after the text has been read as UTF-8.
pub(super) fn whole(cell: Cell<'_>) -> Value {
    match cell {
        Cell::Null => Value::Null,
        Cell::Integer(number) => Value::Integer(number),
        Cell::Real(number) => Value::Real(number),
        Cell::Text(text) => Value::Text(String::from_utf8_lossy(text).into_owned()),
        Cell::Bytes(bytes) => Value::Bytes(bytes.to_owned()),
    }
}

pub(super) fn optional_text<'a>(
    row: &'a impl Cells,
    at: usize,
    column: Option<&String>,
) -> Result<Option<&'a str>, Fault> {
    column.map_or(Ok(None), |column| text(row, at, column))
}

pub(super) fn text<'a>(
    row: &'a impl Cells,
    at: usize,
    column: &str,
) -> Result<Option<&'a str>, Fault> {
    let wrong = |reason: String| Fault { column: column.to_owned(), reason };
    match row.cell(at) {
        Cell::Null => Ok(None),
        Cell::Text(bytes) => std::str::from_utf8(bytes)
            .map(Some)
            .map_err(|_| wrong("holds text that is not UTF-8".to_owned())),
        other => Err(wrong(format!("must hold text, found {}", kind_of(other)))),
    }
}

/// A name; numbers are ids too.
pub(super) fn name(
    row: &impl Cells,
    at: usize,
    column: Option<&String>,
) -> Result<Option<String>, Fault> {
    match row.cell(at) {
        Cell::Integer(number) => Ok(Some(number.to_string())),
        _ => Ok(optional_text(row, at, column)?.filter(|text| !text.is_empty()).map(str::to_owned)),
    }
}

pub(super) fn instant(
    row: &impl Cells,
    at: usize,
    column: Option<&TimeColumn>,
) -> Result<(Option<Timestamp>, Option<Form>), Fault> {
    let Some(column) = column else { return Ok((None, None)) };
    let wrong = |reason: &str| Fault { column: column.name.clone(), reason: reason.to_owned() };
    let form = match column.unit {
        TimeUnit::UnixSeconds => Form::Seconds,
        TimeUnit::UnixMillis => Form::Millis,
        TimeUnit::Text => return text_instant(row, at, column),
    };
    let number = match row.cell(at) {
        Cell::Null => return Ok((None, None)),
        Cell::Integer(number) => number,
        Cell::Real(number) => number as i64,
        Cell::Text(text) if text.trim_ascii().is_empty() => return Ok((None, None)),
        Cell::Text(text) => std::str::from_utf8(text)
            .ok()
            .and_then(|text| number(text.trim()))
            .ok_or_else(|| wrong("must hold a number, found other text; is its unit `text`?"))?,
        Cell::Bytes(_) => return Err(wrong("must hold a number, found bytes")),
    };
    Ok((times::from_number(number, &form).map_err(wrong)?, Some(form)))
}

pub(super) fn is_true(cell: Cell<'_>) -> bool {
    match cell {
        Cell::Null => false,
        Cell::Integer(number) => number != 0,
        Cell::Real(number) => number != 0.0,
        Cell::Bytes(bytes) => !bytes.is_empty(),
        Cell::Text(text) => {
            let text = text.trim_ascii().to_ascii_lowercase();
            !matches!(text.as_slice(), b"" | b"0" | b"f" | b"false" | b"n" | b"no")
        }
    }
}

pub(super) fn text_value(text: &str) -> Value {
    Value::Text(text.to_owned())
}

/// Whole numbers, also as a `numeric` or `double` column writes them.
fn number(text: &str) -> Option<i64> {
    text.parse().ok().or_else(|| text.parse::<f64>().ok().map(|number| number as i64))
}

fn text_instant(
    row: &impl Cells,
    at: usize,
    column: &TimeColumn,
) -> Result<(Option<Timestamp>, Option<Form>), Fault> {
    let wrong = |reason: &str| Fault { column: column.name.clone(), reason: reason.to_owned() };
    match row.cell(at) {
        Cell::Integer(_) | Cell::Real(_) => Err(wrong(
            "must hold a date in text, found a number; is its unit seconds or milliseconds?",
        )),
        _ => match text(row, at, &column.name)?.filter(|text| !times::is_no_date(text)) {
            None => Ok((None, None)),
            Some(text) => times::parse_text(text)
                .map(|(at, form)| (Some(at), Some(Form::Text(form))))
                .ok_or_else(|| {
                    wrong("must hold a date such as 2026-11-22T12:00:00Z or 2026-11-22 12:00:00")
                }),
        },
    }
}

const fn kind_of(cell: Cell<'_>) -> &'static str {
    match cell {
        Cell::Null => "nothing",
        Cell::Integer(_) | Cell::Real(_) => "a number",
        Cell::Text(_) => "text",
        Cell::Bytes(_) => "bytes",
    }
}
