//! `notices`: what is owed, what was sent, what failed; and one test mail.

use super::{
    Exit, Output, complain, load,
    output::{self, Cell, Give},
};
use crate::{
    clock::Clock,
    config::Settings,
    core::{Secret, Timestamp, notices::Way, pattern::matches},
    delivery::{
        message,
        smtp::{self, Undelivered},
    },
    state::{Listed, Role, State},
    terminal::{Terminal, Tone},
};
use std::path::Path;

#[derive(Debug, clap::Args)]
pub(super) struct Arguments {
    /// A table for people, or JSON for scripts.
    #[arg(long, short, value_enum, default_value_t = Output::Table)]
    output: Output,
    /// Send one test mail and say what the server answered: to the operator, or to an address of the configuration
    /// that matches, where * stands for any text.
    #[arg(long, value_name = "ADDRESS", num_args = 0..=1, default_missing_value = OPERATOR)]
    send_test: Option<String>,
    /// Shorten nothing, however narrow the terminal is. What is piped is never shortened.
    #[arg(long)]
    wide: bool,
}

pub(super) async fn run(config: &Path, arguments: Arguments) -> Exit {
    let settings = match load(config) {
        Ok(loaded) => loaded.settings,
        Err(exit) => return exit,
    };
    match &arguments.send_test {
        Some(to) => send_test(&settings, to).await,
        None => list(&settings, &arguments).await,
    }
}

async fn list(settings: &Settings, arguments: &Arguments) -> Exit {
    let reading = async {
        let state = State::open_as(&settings.state, Role::Guest).await?;
        let mails = state.mails(LISTED_MAX).await?;
        state.shut().await;
        Ok::<_, crate::state::Error>(mails)
    };
    let mails = match reading.await {
        Ok(mails) => mails,
        Err(problem) => {
            complain(problem);
            return Exit::Unreachable;
        }
    };
    match arguments.output {
        Output::Table => {
            let now = Clock::start().now();
            output::print(&listed(&mails, now, Terminal::stdout(), arguments.wide));
        }
        Output::Json => {
            let list: Vec<_> = mails.iter().map(as_json).collect();
            output::print_json(&list.into());
        }
    }
    if mails.iter().any(|mail| mail.stage == GIVEN_UP) { Exit::Failed } else { Exit::Done }
}

fn listed(mails: &[Listed], now: Timestamp, terminal: Terminal, wide: bool) -> String {
    let rows = mails.iter().map(|mail| row(mail, now)).collect();
    let gives: &[_] = if wide { &[] } else { &GIVES };
    let table = output::table(terminal, ["STATE", "TO", "WHEN", "TRIES", "ABOUT"], rows, gives);
    let mut text = table.text;
    if !table.is_whole && !wide {
        text += &output::not_whole(terminal);
    }
    text + &closing(mails, terminal)
}

fn row(mail: &Listed, now: Timestamp) -> [Cell; 5] {
    // The first number and unit tell a person enough here.
    let when = output::from_now(now, mail.at);
    let when = if when.chars().count() > WHEN_COLUMNS {
        let first = when.split(' ').next().unwrap_or_default().to_owned();
        if when.ends_with("ago") { format!("{first} ago") } else { format!("in {first}") }
    } else {
        when
    };
    let tone = match mail.stage.as_str() {
        GIVEN_UP => Tone::Bad,
        "sent" => Tone::Good,
        _ => Tone::Doubtful,
    };
    [
        Cell::toned(stage(mail), tone),
        masked(mail).into(),
        when.into(),
        mail.attempts.to_string().into(),
        about(mail).into(),
    ]
}

/// In a word that fits into the column.
fn stage(mail: &Listed) -> &str {
    if mail.stage == GIVEN_UP { "failed" } else { &mail.stage }
}

fn about(mail: &Listed) -> String {
    let count = || match mail.notices {
        1 => "1 notice".to_owned(),
        many => format!("{many} notices"),
    };
    let about = mail.subject.as_deref().map(|line| line.replace("[oauth-keepalive] ", ""));
    let about = about.filter(|line| !line.is_empty()).unwrap_or_else(count);
    match (&mail.failure, mail.stage.as_str()) {
        (Some(cap), "held") => format!("{about}, by the cap {cap}"),
        (Some(failure), "owed" | GIVEN_UP) => format!("{failure}; {about}"),
        _ => about,
    }
}

fn closing(mails: &[Listed], terminal: Terminal) -> String {
    let count = |stage: &str| mails.iter().filter(|mail| mail.stage == stage).count();
    let counts = format!(
        "{} waiting, {} held back, {} owed, {} sent, {} failed",
        count("waiting"),
        count("held"),
        count("owed"),
        count("sent"),
        count(GIVEN_UP)
    );
    let mut text = output::sentence_for(terminal, "", &counts);
    if mails.len() >= LISTED_MAX {
        text.push_str("Only the newest are shown.\n");
    }
    text
}

fn as_json(mail: &Listed) -> serde_json::Value {
    serde_json::json!({
        "state": stage(mail),
        "to": masked(mail),
        "way": mail.way.as_label(),
        "operator": mail.is_operator,
        "subject": mail.subject,
        "notices": mail.notices,
        "at": mail.at.as_unix(),
        "failed_attempts": mail.attempts,
        "failure": mail.failure,
    })
}

/// Enough to recognise one's own, too little to write to.
fn masked(mail: &Listed) -> String {
    match mail.way {
        Way::Webhook => format!("webhook {}", mail.to.expose()),
        Way::Mail => masked_address(&mail.to),
    }
}

fn masked_address(address: &Secret) -> String {
    let text = address.expose();
    let text = text.rsplit_once('<').map_or(text, |(_, inside)| inside).trim_end_matches('>');
    let Some((local, domain)) = text.rsplit_once('@') else { return "…".to_owned() };
    let first = |text: &str| text.chars().next().map(String::from).unwrap_or_default();
    let end = domain.rsplit_once('.').map(|(_, end)| format!(".{end}")).unwrap_or_default();
    format!("{}…@{}…{end}", first(local), first(domain))
}

async fn send_test(settings: &Settings, wanted: &str) -> Exit {
    let delivery = &settings.delivery;
    let Some(server) = &delivery.smtp else {
        complain("mail is switched off; set mail.enabled and mail.smtp.host");
        return Exit::Usage;
    };
    let known = || delivery.operator.iter().chain(delivery.owners.iter().map(|owner| &owner.to));
    let to = match wanted {
        OPERATOR => delivery.operator.first(),
        pattern => known().find(|address| matches(pattern, address.expose())),
    };
    let Some(to) = to else {
        complain(format!(
            "no address of the configuration matches {wanted}; write {OPERATOR}, or an address of mail.operator or mail.owners"
        ));
        return Exit::Usage;
    };
    let now = Clock::start().now();
    let mail = match message::test_mail(&delivery.from, to, now) {
        Ok(mail) => mail,
        Err(unsendable) => {
            complain(unsendable);
            return Exit::Usage;
        }
    };
    let (masked, place) = (masked_address(to), format!("{}:{}", server.host, server.port));
    match smtp::send(server, &mail).await {
        Ok(()) => {
            output::say(&format!("{place} took a test mail to {masked}"));
            Exit::Done
        }
        Err(Undelivered::ServerTrouble { reason, .. }) => {
            complain(format!("{place} cannot be used: {reason}"));
            Exit::Unreachable
        }
        Err(refused) => {
            complain(format!("{place} did not take a test mail to {masked}: {refused}"));
            Exit::Failed
        }
    }
}

const OPERATOR: &str = "operator";
const GIVEN_UP: &str = "given_up";
const LISTED_MAX: usize = 200;
const WHEN_COLUMNS: usize = 10;
/// What a window that is too narrow does without first. What became of it, for whom and about what, stays to the end.
const GIVES: [Give; 5] = [
    Give::Short(1, TO_COLUMNS),
    Give::Short(4, ABOUT_COLUMNS_MIN),
    Give::Out(3),
    Give::Out(2),
    Give::Short(1, TO_COLUMNS_MIN),
];
/// What is left of an address while there are other columns to do without.
const TO_COLUMNS: usize = 18;
/// What is left of an address, and of what a mail says, at least.
const TO_COLUMNS_MIN: usize = 9;
const ABOUT_COLUMNS_MIN: usize = 20;

#[cfg(test)]
mod tests {
    use super::*;

    fn mail(stage: &str, to: &str) -> Listed {
        Listed {
            stage: stage.to_owned(),
            to: Secret::new(to.to_owned()),
            way: Way::Mail,
            is_operator: false,
            subject: Some(
                "[oauth-keepalive] tiktok/a-rather-long-name: permission withdrawn".to_owned(),
            ),
            notices: 3,
            at: Timestamp::from_unix(1_000_000),
            attempts: 200,
            failure: None,
        }
    }

    #[test]
    fn no_address_is_shown_in_full() {
        for (address, expected) in [
            ("anna@example.com", "a…@e….com"),
            ("Anna <anna@mail.example.co.uk>", "a…@m….uk"),
            ("x@localhost", "x…@l…"),
            ("nobody", "…"),
        ] {
            assert_eq!(masked_address(&Secret::new(address.to_owned())), expected, "{address}");
        }
    }

    #[test]
    fn the_table_fits_into_eighty_columns_and_says_why() {
        let now = Timestamp::from_unix(1_400_000);
        let mut failed = mail(GIVEN_UP, "anna@example.com");
        failed.failure = Some("RCPT TO: 550 5.1.1 (the address)".to_owned());
        let mut waiting = mail("waiting", "a-webhook-with-a-name-that-does-not-end");
        (waiting.subject, waiting.way) = (None, Way::Webhook);
        let mails = [failed, waiting];
        for columns in 40..80 {
            let text = listed(&mails, now, Terminal::wide(columns), false);
            assert!(text.lines().all(|line| line.chars().count() <= columns), "{columns}:\n{text}");
        }
        let text = listed(&mails, now, Terminal::wide(80), false);
        assert!(text.lines().all(|line| line.chars().count() <= 80), "{text}");
        assert!(text.contains("failed   a…@e….com") && text.contains("RCPT TO: 550"), "{text}");
        assert!(text.contains("3 notices") && text.contains("4d 15h ago"), "{text}");
        for (terminal, wide) in [(Terminal::wide(80), true), (Terminal::piped(), false)] {
            let text = listed(&mails, now, terminal, wide);
            assert!(text.contains("tiktok/a-rather-long-name: permission withdrawn"), "{text}");
            assert!(text.contains("a-webhook-with-a-name-that-does-not-end"), "{text}");
        }
    }
}
