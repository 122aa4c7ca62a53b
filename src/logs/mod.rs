//! What happens, as lines on standard error: one line an event, whatever a value holds.
//!
//! The text of an event is constant, so that it can be searched for and stands in `docs/logs.md` with what to do;
//! what differs from case to case is in fields. Levels say what the reader must do: *error* act now, *warn* look
//! today, *info* what happened, *debug* for a report of a fault.
//!
//! Absent on purpose: spans, files and their rotation; whoever runs the program collects its standard error.

mod line;

use crate::terminal::{Terminal, progress};
use line::Line;
use rustix::fs::fstat;
use serde::Deserialize;
use std::{
    env, io, panic,
    sync::{
        OnceLock,
        atomic::{AtomicU8, Ordering},
    },
};
use tracing::{
    Event, Metadata, Subscriber,
    level_filters::LevelFilter,
    span,
    subscriber::{self, Interest},
};

/// What is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Deserialize, clap::ValueEnum)]
#[serde(rename_all = "lowercase")]
pub enum Level {
    /// Act now.
    Error,
    /// Look today.
    Warn,
    /// What happened.
    Info,
    /// For a report of a fault.
    Debug,
}

/// How it is written.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, clap::ValueEnum)]
#[serde(rename_all = "lowercase")]
pub enum Format {
    /// `text` on a terminal, `logfmt` elsewhere.
    #[default]
    Auto,
    /// `key=value`, for log collectors and for grep.
    Logfmt,
    /// An object a line.
    Json,
    /// For a person's eyes.
    Text,
}

/// What the configuration says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Settings {
    /// What is written.
    pub level: Level,
    /// How it is written.
    pub format: Format,
}

/// What the command line says; it is stronger than the configuration.
#[derive(Clone, Copy, Debug, Default)]
pub struct Flags {
    /// `--log.level`.
    pub level: Option<Level>,
    /// `--log.format`.
    pub format: Option<Format>,
}

/// Logs from now on, `level` and worse unless the command line says otherwise; nothing at all without one.
pub fn start(flags: Flags, level: Option<Level>) {
    let dials = Dials {
        flags,
        is_silent: flags.level.or(level).is_none(),
        level: AtomicU8::new(flags.level.or(level).unwrap_or(Level::Error) as u8),
        format: AtomicU8::new(flags.format.unwrap_or_default() as u8),
        terminal: Terminal::stderr(),
        is_journal: is_journal(env::var("JOURNAL_STREAM").ok().as_deref()),
    };
    if DIALS.set(dials).is_ok() {
        // Nobody else in this process sets one.
        let _ = subscriber::set_global_default(Lines);
    }
}

/// Puts in force what the configuration says and the command line does not.
pub fn apply(settings: &Settings) {
    let Some(dials) = DIALS.get().filter(|dials| !dials.is_silent) else { return };
    if dials.flags.level.is_none() {
        dials.level.store(settings.level as u8, Ordering::Relaxed);
    }
    if dials.flags.format.is_none() {
        dials.format.store(settings.format as u8, Ordering::Relaxed);
    }
    tracing::callsite::rebuild_interest_cache();
}

/// True when people read what is logged, so that they can also be told in sentences.
#[must_use]
pub fn is_text() -> bool {
    DIALS.get().is_none_or(|dials| dials.format() == Format::Text)
}

/// A part that fails inside says so as an event: the system's own words take several lines.
pub fn report_panics() {
    let before = panic::take_hook();
    panic::set_hook(Box::new(move |info| {
        if is_text() {
            return before(info);
        }
        let place = info.location().map(ToString::to_string).unwrap_or_default();
        let said = info.payload_as_str().unwrap_or_default();
        tracing::error!(place, error = said, "a part of the program failed inside");
    }));
}

/// What can be turned while the program runs.
struct Dials {
    flags: Flags,
    is_silent: bool,
    level: AtomicU8,
    format: AtomicU8,
    terminal: Terminal,
    /// Standard error is the journal, which has instants and levels of its own.
    is_journal: bool,
}

impl Dials {
    fn level(&self) -> LevelFilter {
        const ERROR: u8 = Level::Error as u8;
        const WARN: u8 = Level::Warn as u8;
        const INFO: u8 = Level::Info as u8;
        match self.level.load(Ordering::Relaxed) {
            _ if self.is_silent => LevelFilter::OFF,
            ERROR => LevelFilter::ERROR,
            WARN => LevelFilter::WARN,
            INFO => LevelFilter::INFO,
            _ => LevelFilter::DEBUG,
        }
    }

    fn format(&self) -> Format {
        const LOGFMT: u8 = Format::Logfmt as u8;
        const JSON: u8 = Format::Json as u8;
        const TEXT: u8 = Format::Text as u8;
        match self.format.load(Ordering::Relaxed) {
            LOGFMT => Format::Logfmt,
            JSON => Format::Json,
            TEXT => Format::Text,
            _ if self.terminal.columns().is_some() => Format::Text,
            _ => Format::Logfmt,
        }
    }

    fn written(&self, line: &Line) -> String {
        let text = match self.format() {
            Format::Json => line.json(),
            Format::Text => line.text(self.terminal, self.is_journal),
            Format::Logfmt | Format::Auto => line.logfmt(self.is_journal),
        };
        let prefix = if self.is_journal { line.journal_priority() } else { "" };
        format!("{prefix}{text}\n")
    }
}

/// Takes every event of this program and of the libraries in it.
struct Lines;

impl Lines {
    /// Libraries are held at *warn*: at *trace* one that speaks HTTP may print headers.
    fn lets_through(metadata: &Metadata<'_>) -> bool {
        let Some(dials) = DIALS.get() else { return false };
        let level = match metadata.target().starts_with(env!("CARGO_CRATE_NAME")) {
            true => dials.level(),
            false => dials.level().min(LevelFilter::WARN),
        };
        metadata.is_event() && *metadata.level() <= level
    }
}

impl Subscriber for Lines {
    fn register_callsite(&self, metadata: &'static Metadata<'static>) -> Interest {
        if Self::lets_through(metadata) { Interest::always() } else { Interest::never() }
    }

    fn enabled(&self, metadata: &Metadata<'_>) -> bool {
        Self::lets_through(metadata)
    }

    fn max_level_hint(&self) -> Option<LevelFilter> {
        DIALS.get().map(Dials::level)
    }

    fn event(&self, event: &Event<'_>) {
        let Some(dials) = DIALS.get() else { return };
        let line = Line::of(event, jiff::Timestamp::now());
        progress::aside(dials.written(&line).as_bytes());
    }

    fn new_span(&self, _: &span::Attributes<'_>) -> span::Id {
        span::Id::from_u64(1)
    }

    fn record(&self, _: &span::Id, _: &span::Record<'_>) {}
    fn record_follows_from(&self, _: &span::Id, _: &span::Id) {}
    fn enter(&self, _: &span::Id) {}
    fn exit(&self, _: &span::Id) {}
}

/// True when standard error is the stream that systemd names: device and inode, of which a child that writes elsewhere
/// inherits only the name.
fn is_journal(named: Option<&str>) -> bool {
    let (Some(named), Ok(ours)) = (named, fstat(io::stderr())) else { return false };
    named == format!("{}:{}", ours.st_dev, ours.st_ino)
}

static DIALS: OnceLock<Dials> = OnceLock::new();
