//! What `tests/crash` and `tests/soak` have in common: how they are told what to do, and how they say what came of it.

use std::process::ExitCode;

/// Options as they stand on the command line, each with its value; the flags have none.
pub(crate) fn pairs(
    mut arguments: impl Iterator<Item = String>,
    flags: &[&str],
) -> Result<Vec<(String, String)>, String> {
    let mut pairs = Vec::new();
    while let Some(name) = arguments.next() {
        let value = match flags.contains(&name.as_str()) {
            true => String::new(),
            false => arguments.next().ok_or_else(|| format!("{name} wants a value"))?,
        };
        pairs.push((name, value));
    }
    Ok(pairs)
}

/// The value of the option `name` as a number.
pub(crate) fn number(name: &str, value: &str) -> Result<u64, String> {
    value.parse().map_err(|_| format!("{name} wants a number"))
}

/// The options, or how the program ends without them.
pub(crate) fn options<O>(
    harness: &str,
    parse: impl FnOnce(std::iter::Skip<std::env::Args>) -> Result<O, String>,
) -> Result<O, ExitCode> {
    parse(std::env::args().skip(1)).map_err(|problem| {
        eprintln!("{harness}: {problem}");
        ExitCode::from(2)
    })
}

/// The figures, and every promise that was not kept.
#[derive(Default)]
pub(crate) struct Report {
    pub(crate) lines: Vec<String>,
    pub(crate) violations: Vec<String>,
}

impl Report {
    pub(crate) fn print(&self) {
        for violation in &self.violations {
            println!("VIOLATED {violation}");
        }
        for line in &self.lines {
            println!("{line}");
        }
    }

    pub(crate) fn code(&self) -> ExitCode {
        if self.violations.is_empty() { ExitCode::SUCCESS } else { ExitCode::FAILURE }
    }
}
