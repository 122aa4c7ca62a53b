//! What strace wrote, as calls with a name, a target and an order.

use std::path::Path;

/// One call of the program, in the order in which calls began.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Call {
    pub(crate) thread: u32,
    pub(crate) name: String,
    pub(crate) target: Target,
    /// Where it began and ended among all lines; a call that never came back has no end.
    pub(crate) began: usize,
    pub(crate) ended: Option<usize>,
    /// What it returned; below zero when it failed.
    pub(crate) result: Option<i64>,
    pub(crate) injected: bool,
}

/// What a call is about.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) enum Target {
    /// A file, by its path in the world's folder; that folder itself is empty.
    File(String),
    /// A connection to the provider.
    Peer,
    /// Anything else: pipes, events, memory.
    Other,
}

/// Reads everything that strace wrote about files in `folder` and the provider at `port`.
pub(crate) fn read(text: &str, folder: &Path, port: u16) -> Vec<Call> {
    let folder = folder.to_string_lossy();
    let mut calls: Vec<Call> = Vec::new();
    for (at, line) in text.lines().enumerate() {
        let Some((thread, rest)) = line.split_once(' ') else { continue };
        let Ok(thread) = thread.parse() else { continue };
        let rest = rest.trim_start();
        if rest.starts_with("+++") || rest.starts_with("---") {
            continue;
        }
        if let Some(resumed) = rest.strip_prefix("<... ") {
            let of_thread = |call: &&mut Call| call.thread == thread && call.ended.is_none();
            if let Some(call) = calls.iter_mut().rev().find(of_thread) {
                finish(call, resumed, at);
            }
            continue;
        }
        let Some((name, arguments)) = rest.split_once('(') else { continue };
        let target = target_of(name, arguments, &folder, port);
        let mut call = Call {
            thread,
            name: name.to_owned(),
            target,
            began: at,
            ended: None,
            result: None,
            injected: false,
        };
        if !rest.ends_with("<unfinished ...>") {
            finish(&mut call, rest, at);
        }
        calls.push(call);
    }
    calls
}

fn finish(call: &mut Call, rest: &str, at: usize) {
    let Some((_, result)) = rest.rsplit_once(" = ") else { return };
    // A question mark stands for a call that never came back.
    call.result = result.split([' ', '<']).next().and_then(|number| number.parse().ok());
    call.injected = result.contains("(INJECTED)");
    call.ended = call.result.map(|_| at);
}

fn target_of(name: &str, arguments: &str, folder: &str, port: u16) -> Target {
    // Calls by path name the file in quotes, everything else as `number<what it is>`.
    if matches!(name, "connect") && arguments.contains(&format!("htons({port})")) {
        return Target::Peer;
    }
    let quoted = BY_PATH.contains(&name).then(|| arguments.split('"').nth(1)).flatten();
    if let Some(path) = quoted.filter(|path| path.starts_with('/')) {
        return file(path, folder);
    }
    let Some((number, what)) = arguments.split_once('<') else { return Target::Other };
    if number.parse::<u32>().is_err() {
        return Target::Other;
    }
    if what.starts_with('/') {
        return file(what.split(['>', ' ']).next().unwrap_or_default(), folder);
    }
    let is_peer = what.starts_with("TCP:[") && what.contains(&format!(":{port}]"));
    if is_peer { Target::Peer } else { Target::Other }
}

fn file(path: &str, folder: &str) -> Target {
    match path.strip_prefix(folder) {
        Some(inside) => Target::File(inside.trim_start_matches('/').to_owned()),
        None => Target::Other,
    }
}

const BY_PATH: [&str; 9] =
    ["open", "openat", "rename", "renameat", "renameat2", "unlink", "unlinkat", "mkdir", "mkdirat"];
