//! What was made of the publisher's logs and tables.

use super::events::{Metrics, listed};
use prometheus_client::{
    encoding::EncodeLabelSet,
    metrics::{counter::Counter, family::Family, gauge::Gauge},
    registry::Registry,
};

/// Counters of logs and tables that are read.
#[derive(Clone, Debug)]
pub(super) struct Observed {
    lines: Family<LineOf, Counter>,
    gaps: Family<Log, Counter>,
    rows: Family<Row, Counter>,
    up: Family<Source, Gauge>,
}

impl Observed {
    pub(super) fn listed(list: &mut Registry) -> Self {
        Self {
            lines: listed(
                list,
                "observed_lines",
                "Lines of the publisher's logs by what was made of them",
                Family::default(),
            ),
            gaps: listed(
                list,
                "observed_gaps",
                "Times that lines of a log may have been missed: truncated, compressed or removed before they were read",
                Family::default(),
            ),
            rows: listed(
                list,
                "observed_rows",
                "Rows of the publisher's table of errors by what was made of them",
                Family::default(),
            ),
            up: listed(
                list,
                "observe_up",
                "Whether a log or a table of the publisher could be read at the last look",
                Family::default(),
            ),
        }
    }
}

impl Metrics {
    /// Makes the series of a log that the configuration names.
    pub fn expect_log(&self, log: &str) {
        for result in LineResult::ALL {
            drop(self.observed.lines.get_or_create(&LineOf::of(log, result)));
        }
        drop(self.observed.gaps.get_or_create(&Log { log: log.to_owned() }));
    }

    /// Makes the series of the publisher's table of errors.
    pub fn expect_query(&self) {
        for result in RowResult::ALL {
            drop(self.observed.rows.get_or_create(&Row { result: result.as_label() }));
        }
    }

    /// Counts lines of a log, in the order of [`LineResult::ALL`].
    pub fn lines_observed(&self, log: &str, counts: &[u64; LineResult::ALL.len()]) {
        for (result, count) in
            LineResult::ALL.into_iter().zip(counts).filter(|(_, count)| **count > 0)
        {
            self.observed.lines.get_or_create(&LineOf::of(log, result)).inc_by(*count);
        }
    }

    /// Counts times that lines of a log may have been missed.
    pub fn lines_missed(&self, log: &str, gaps: u32) {
        self.observed.gaps.get_or_create(&Log { log: log.to_owned() }).inc_by(gaps.into());
    }

    /// Counts rows of the table of errors, in the order of [`RowResult::ALL`].
    pub fn rows_observed(&self, counts: &[u64; RowResult::ALL.len()]) {
        for (result, count) in RowResult::ALL.into_iter().zip(counts) {
            self.observed.rows.get_or_create(&Row { result: result.as_label() }).inc_by(*count);
        }
    }

    /// Says whether a source can be read. `name` is one that the configuration gives.
    pub fn observing(&self, kind: SourceKind, name: &str, is_up: bool) {
        let source = Source { kind: kind.as_label(), name: name.to_owned() };
        self.observed.up.get_or_create(&source).set(is_up.into());
    }
}

/// What was made of a line.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LineResult {
    /// It was counted.
    Counted,
    /// It is about something else.
    Unmatched,
    /// The configuration leaves it out.
    Filtered,
    /// It names an account that is not in the store.
    UnknownAccount,
    /// Its status is none, or it was cut.
    Malformed,
    /// It is not UTF-8.
    NotText,
    /// It is longer than is read.
    TooLong,
    /// It has no end, and nobody writes on.
    Partial,
}

impl LineResult {
    /// In the order of their numbers.
    pub const ALL: [Self; 8] = [
        Self::Counted,
        Self::Unmatched,
        Self::Filtered,
        Self::UnknownAccount,
        Self::Malformed,
        Self::NotText,
        Self::TooLong,
        Self::Partial,
    ];

    const fn as_label(self) -> &'static str {
        match self {
            Self::Counted => "counted",
            Self::Unmatched => "unmatched",
            Self::Filtered => "filtered",
            Self::UnknownAccount => "unknown_account",
            Self::Malformed => "malformed",
            Self::NotText => "not_text",
            Self::TooLong => "too_long",
            Self::Partial => "partial",
        }
    }
}

/// What was made of a row.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RowResult {
    /// It was counted.
    Counted,
    /// It names an account that is not in the store.
    UnknownAccount,
    /// It names none, or its status is none.
    Malformed,
}

impl RowResult {
    /// In the order of their numbers.
    pub const ALL: [Self; 3] = [Self::Counted, Self::UnknownAccount, Self::Malformed];

    const fn as_label(self) -> &'static str {
        match self {
            Self::Counted => "counted",
            Self::UnknownAccount => "unknown_account",
            Self::Malformed => "malformed",
        }
    }
}

/// What is read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SourceKind {
    /// A log.
    Log,
    /// The table of errors.
    Query,
    /// The tables of posts.
    Posts,
}

impl SourceKind {
    const fn as_label(self) -> &'static str {
        match self {
            Self::Log => "log",
            Self::Query => "query",
            Self::Posts => "posts",
        }
    }
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct LineOf {
    log: String,
    result: &'static str,
}

impl LineOf {
    fn of(log: &str, result: LineResult) -> Self {
        Self { log: log.to_owned(), result: result.as_label() }
    }
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Log {
    log: String,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Row {
    result: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Source {
    kind: &'static str,
    name: String,
}
