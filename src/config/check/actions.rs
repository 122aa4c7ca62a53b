//! `server.actions`: who may act from the status page.

use super::{
    Check,
    service::{DAY, MINUTE},
};
use crate::{
    config::{explain, file, problem::KeyPath},
    server::actions::{Settings, User},
};

pub(super) fn actions(check: &mut Check<'_>, actions: &file::Actions) -> Option<Settings> {
    check.within("server.actions.session_idle", actions.session_idle, MINUTE..=DAY);
    check.within("server.actions.session_life", actions.session_life, MINUTE..=DAY);
    if actions.session_idle > actions.session_life {
        check.problem(
            "server.actions.session_idle",
            format!(
                "{} is longer than session_life ({})",
                actions.session_idle, actions.session_life
            ),
            "lower session_idle or raise session_life",
        );
    }
    let users = users(check, actions);
    if !actions.enabled {
        return None;
    }
    if actions.users.is_empty() {
        check.problem(
            "server.actions.users",
            "actions are enabled and nobody may log in, expected at least one user",
            "add `users: [{name: ops, secret_file: ./secrets/ops}]`",
        );
    }
    Some(Settings {
        users,
        session_idle: actions.session_idle.0,
        session_life: actions.session_life.0,
    })
}

fn users(check: &mut Check<'_>, actions: &file::Actions) -> Vec<User> {
    let at = KeyPath::from("server.actions.users");
    if actions.users.len() > USERS_MAX {
        let what = format!("{} elements, expected at most {USERS_MAX}", actions.users.len());
        check.problem(at, what, "let people of one team share a user");
        return Vec::new();
    }
    let mut checked: Vec<User> = Vec::new();
    for (nth, user) in actions.users.iter().enumerate() {
        let here = at.index(nth);
        let name = check.text(here.key("name"), user.name.as_deref(), "a name to log in with");
        if checked.iter().any(|other| *other.name == *name) && !name.is_empty() {
            let what = format!("{} is there already", explain::shown(&name, true));
            check.problem(here.key("name"), what, "give each user a name of its own");
        }
        let (file, env) = (user.secret_file.as_deref(), user.secret_env.as_deref());
        let secret = check.secret(&here, "secret", file, env, actions.enabled);
        if file.is_none() && env.is_none() {
            check.problem(
                here.key("secret_file"),
                "missing, expected secret_file or secret_env",
                "put a long random text in a file and name it in `secret_file`",
            );
        }
        let Some(secret) = secret else { continue };
        let length =
            secret.read().map_or(SECRET_CHARS_LEAST, |secret| secret.expose().chars().count());
        if actions.enabled && length < SECRET_CHARS_LEAST {
            check.warn(
                here.key("name"),
                format!(
                    "the secret has fewer than {SECRET_CHARS_LEAST} characters, and may be guessed"
                ),
                "take a long random text: `openssl rand -base64 24`",
            );
        }
        checked.push(User { name: name.into(), secret });
    }
    checked
}

const USERS_MAX: usize = 32;

/// A shorter secret is one that somebody made up.
const SECRET_CHARS_LEAST: usize = 16;
