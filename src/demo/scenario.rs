//! The play itself: sets the stage, starts the real program on it, lets things happen, and judges.

use super::{
    Options,
    audit::{Findings, Seen},
    cast::{ACCOUNTS_MAX, ACCOUNTS_MIN, Actor, LIFE, Role, SHORTEST, Step, cast, script},
    mailbox::Mailbox,
    narrator::{Narrator, line},
    provider::{Fault, Lasting, LogEntry, Provider, ProviderSettings, Surface},
    publisher::{Answers, Publisher, PublisherSettings},
    random_hex,
    stage::{Places, Stage, read_store},
};
use crate::{
    app::{self, Running},
    core::{Cause, Event},
    terminal::{self, Terminal, Tone, text},
};
use std::{
    collections::BTreeMap,
    future::pending,
    io::{self, Write},
    path::{Path, PathBuf},
    time::{Duration, Instant},
};
use tokio::{
    signal::unix::{Signal, SignalKind, signal},
    sync::broadcast,
    time::{interval_at, sleep_until},
};

/// Plays the demo and answers whether every promise was kept.
///
/// # Errors
/// When the stage cannot be set or the program does not start: a sentence for the person who asked.
pub async fn run(options: Options) -> Result<bool, String> {
    check(&options)?;
    let (directory, is_temporary) = match &options.directory {
        Some(directory) => (directory.clone(), false),
        None => (temporary(), true),
    };
    let outcome = play(&options, &directory).await;
    if is_temporary && !matches!(outcome, Ok(false)) {
        // What stays behind when this fails is a folder in the temporary directory.
        let _ = std::fs::remove_dir_all(&directory);
    } else {
        say(&format!("All of it is in {}\n", directory.display()));
    }
    outcome
}

async fn play(options: &Options, directory: &Path) -> Result<bool, String> {
    let stage = Stage::set(directory, options.accounts)?;
    let mut play = Play::prepare(stage, options.run_for).await?;
    play.write_config(options)?;
    let program = app::start(&play.stage.config()).await?;
    let events = program.events.subscribe();
    play.introduce(&program);
    play.open(program.publisher.as_ref().and_then(crate::server::socket::Place::address))?;
    play.perform(events).await?;
    say("Stopping: calls in flight are answered and saved first.\n");
    // From here on nobody posts, so that the stop is not judged by what would come after it.
    let answers = play.publisher.take().map(|publisher| publisher.answers());
    program.stop().await;
    play.judge(&answers.unwrap_or_default())
}

fn check(options: &Options) -> Result<(), String> {
    if !(ACCOUNTS_MIN..=ACCOUNTS_MAX).contains(&options.accounts) {
        return Err(format!(
            "--accounts {}: expected {ACCOUNTS_MIN} to {ACCOUNTS_MAX}; fewer would leave a role without \
             an account",
            options.accounts
        ));
    }
    match options.run_for {
        Some(run_for) if run_for < SHORTEST => Err(format!(
            "--for {}: expected at least {} s, or what happens late could not be mended before the end",
            humantime::format_duration(run_for),
            SHORTEST.as_secs()
        )),
        _ => Ok(()),
    }
}

/// Everything on the stage but the program itself.
struct Play {
    stage: Stage,
    provider: Provider,
    mailbox: Mailbox,
    /// `None` before the program tells where reports go, and after the end.
    publisher: Option<Publisher>,
    actors: Vec<Actor>,
    /// Steps still to come, soonest first.
    script: Vec<(Duration, Step)>,
    /// Steps taken in this run, and when.
    taken: Vec<(Duration, Step)>,
    /// When the secret file is mended, while it is wrong.
    mend_at: Option<Duration>,
    run_for: Option<Duration>,
    started: Instant,
    /// The number of the last mail that was told.
    mails_told: usize,
}

impl Play {
    async fn prepare(mut stage: Stage, run_for: Option<Duration>) -> Result<Self, String> {
        let settings = ProviderSettings {
            life: LIFE,
            // TikTok has none. Here it makes the lost answer one that a single probe can mend.
            grace: Duration::from_secs(30),
            file: Some(stage.provider_file()),
            ..ProviderSettings::default()
        };
        let provider = Provider::start(settings)
            .await
            .map_err(|error| format!("the demo's provider does not start: {error}"))?;
        let mailbox = Mailbox::start()
            .await
            .map_err(|error| format!("the demo's mailbox does not start: {error}"))?;
        let actors = cast(stage.accounts());
        let script = script(run_for);
        if !stage.continues {
            fill(&mut stage, &provider, &actors, &script)?;
        }
        let mut play = Self {
            stage,
            provider,
            mailbox,
            publisher: None,
            actors,
            script,
            taken: Vec::new(),
            mend_at: None,
            run_for,
            started: Instant::now(),
            mails_told: 0,
        };
        // The secret may change once in each run; everything else happens once in the life of a stage.
        let stage = &play.stage;
        play.script.retain(|(_, step)| *step == Step::ChangeSecret || !stage.is_done(*step));
        play.script.sort_by_key(|(at, _)| *at);
        // After a crash between changing and mending, the file is mended now.
        play.mend()?;
        Ok(play)
    }

    fn write_config(&self, options: &Options) -> Result<(), String> {
        let places = Places {
            listen: options.listen,
            token_url: self.provider.token_url(),
            probe_url: self.provider.probe_url(),
            publish_check_url: self.provider.creator_info_url(),
            client_key: ProviderSettings::default().client_key,
            smtp: self.mailbox.smtp(),
        };
        let written = self.stage.write_config(&places);
        written.map_err(|error| format!("{}: {error}", self.stage.config().display()))
    }

    fn introduce(&self, program: &Running) {
        let address = program.telemetry;
        let began = if self.stage.continues { "Continuing with" } else { "Playing with" };
        let ends = self.run_for.map_or_else(
            || "until Ctrl-C".to_owned(),
            |run_for| format!("for {}", humantime::format_duration(run_for)),
        );
        say(&format!(
            "{began} {} accounts {ends}. Their access tokens live {} s.\n\n\
             \x20 status page  http://{address}/\n\
             \x20 metrics      http://{address}/metrics\n\
             \x20 mailbox      {}\n\
             \x20 directory    {}\n\n\
             \x20 curl -s http://{address}/metrics | grep expires_in_seconds\n\n",
            self.actors.len(),
            LIFE.as_secs(),
            self.mailbox.url(),
            self.stage.directory().display(),
        ));
    }

    /// Lets the publisher begin.
    fn open(&mut self, reports: Option<std::net::SocketAddr>) -> Result<(), String> {
        let secret = self.stage.reports_secret();
        let secret = secret.map_err(|error| format!("the secret for reports: {error}"))?;
        let first_after = if self.stage.continues { SETTLING } else { Duration::from_secs(1) };
        self.publisher = Some(Publisher::start(PublisherSettings {
            database: self.stage.database(),
            post_url: self.provider.post_url(),
            reports: reports.map(|address| (address, secret)),
            every: post_every(self.actors.len()),
            first_after,
        }));
        self.started = Instant::now();
        Ok(())
    }

    /// Until the end, or until somebody asks for it.
    async fn perform(&mut self, mut events: broadcast::Receiver<Event>) -> Result<(), String> {
        let mut narrator = Narrator::default();
        let mut arrivals = self.mailbox.arrivals();
        let mut terminated = listen_for(SignalKind::terminate())?;
        let mut interrupted = listen_for(SignalKind::interrupt())?;
        let mut digest = interval_at((self.started + DIGEST_EVERY).into(), DIGEST_EVERY);
        loop {
            tokio::select! {
                event = events.recv() => match event {
                    Ok(event) => {
                        self.notice(&event);
                        if let Some((who, what, tone)) = narrator.tell(&event) {
                            self.say_in(tone, &who, &what);
                        }
                    }
                    Err(broadcast::error::RecvError::Lagged(events)) => {
                        self.say("terminal", &format!("too slow; {events} events were not shown"));
                    }
                    // The program is gone; its silence will be judged.
                    Err(broadcast::error::RecvError::Closed) => return Ok(()),
                },
                () = self.until_next_step() => self.step()?,
                () = self.until_end() => return Ok(()),
                _ = digest.tick() => self.say_in(Some(Tone::Faint), "", &narrator.digest()),
                Ok(()) = arrivals.changed() => self.tell_mails(),
                _ = interrupted.recv() => return Ok(()),
                _ = terminated.recv() => return Ok(()),
            }
        }
    }

    /// The secret is mended soon after its effect has been seen. Nothing is seen before an account is due,
    /// so this cannot be counted from the change.
    fn notice(&mut self, event: &Event) {
        let Some(mend_at) = self.mend_at else { return };
        let pause = match event {
            Event::AppFrozen { .. } => MEND_AFTER_FREEZE,
            Event::RefreshFailed { evidence, .. }
                if evidence.cause == Cause::AppCredentialsRejected =>
            {
                MEND_AFTER_REFUSAL
            }
            _ => return,
        };
        self.mend_at = Some(mend_at.min(self.started.elapsed() + pause));
    }

    async fn until_next_step(&self) {
        let next = self.script.first().map(|(at, _)| *at).into_iter().chain(self.mend_at).min();
        match next {
            Some(at) => sleep_until((self.started + at).into()).await,
            None => pending().await,
        }
    }

    async fn until_end(&self) {
        match self.run_for {
            Some(run_for) => sleep_until((self.started + run_for).into()).await,
            None => pending().await,
        }
    }

    /// Does what has come due.
    fn step(&mut self) -> Result<(), String> {
        let now = self.started.elapsed();
        if self.mend_at.is_some_and(|at| at <= now) {
            self.mend_at = None;
            self.mend()?;
            let mended = "STAGE: the operator puts the new secret into the file";
            self.say_in(Some(Tone::Strong), "app demo", mended);
        }
        while let Some((_, step)) = self.script.first().copied().filter(|(at, _)| *at <= now) {
            self.script.remove(0);
            self.take(step)?;
            self.taken.push((now, step));
            self.stage.set_done(step)?;
        }
        Ok(())
    }

    fn take(&mut self, step: Step) -> Result<(), String> {
        let account = self.account_of(step);
        match step {
            Step::RevokeConsent => self.provider.revoke_consent(&account),
            Step::DropScope => self.provider.drop_scope(&account, "video.publish"),
            Step::LoseAnswer => self.plant(&account, Fault::LoseAnswer),
            Step::LimitRate => self.plant(&account, Fault::RateLimit { retry_after: Some(2) }),
            // Its end was fixed when the stage was set.
            Step::RefreshTokenEnds => {}
            Step::ChangeSecret => {
                self.provider.set_secret(&format!("demo-secret-{}", random_hex()));
                self.mend_at = Some(self.started.elapsed() + MEND_AFTER_MAX);
            }
        }
        let who =
            if account.is_empty() { "app demo".to_owned() } else { format!("tiktok/{account}") };
        self.say_in(Some(Tone::Strong), &who, step.sentence());
        Ok(())
    }

    fn plant(&self, account: &str, fault: Fault) {
        self.provider.plant(Some(account), Surface::Token, fault, Lasting::Times(1));
    }

    /// Writes the secret that the provider wants into the file that the program reads.
    fn mend(&self) -> Result<(), String> {
        let Some(secret) = self.provider.client_secret() else { return Ok(()) };
        let written = self.stage.write_client_secret(&secret);
        written.map_err(|error| format!("the app's secret file: {error}"))
    }

    fn account_of(&self, step: Step) -> String {
        let actor = self.actors.iter().find(|actor| Some(actor.role) == step.role());
        actor.map(|actor| actor.account.clone()).unwrap_or_default()
    }

    fn tell_mails(&mut self) {
        for mail in self.mailbox.mails() {
            if mail.number > self.mails_told {
                self.mails_told = mail.number;
                let name = mail.to.first().and_then(|to| to.split('@').next()).unwrap_or_default();
                self.say("mail", &format!("to {name}: {}", mail.subject));
            }
        }
    }

    fn say(&self, who: &str, what: &str) {
        self.say_in(None, who, what);
    }

    fn say_in(&self, tone: Option<Tone>, who: &str, what: &str) {
        say(&line(Terminal::stdout(), self.started.elapsed(), who, what, tone));
    }

    /// Prints the summary and every promise that was not kept.
    fn judge(&self, answers: &BTreeMap<String, Answers>) -> Result<bool, String> {
        let findings = self.findings(answers)?;
        let terminal = Terminal::stdout();
        let columns = terminal.prose_columns().unwrap_or(terminal::COLUMNS);
        let head = terminal.paint(Tone::Strong, "Summary");
        say(&format!("\n{head}\n{}", findings.summary(columns)));
        let violations = findings.violations();
        for violation in violations.iter().take(VIOLATIONS_SHOWN_MAX) {
            let line = text::folded("  NOT AS PROMISED: ", 4, violation, columns);
            say(&terminal.paint_lines(Tone::Bad, &line));
        }
        if violations.len() > VIOLATIONS_SHOWN_MAX {
            say(&format!("  and {} more\n", violations.len() - VIOLATIONS_SHOWN_MAX));
        }
        if violations.is_empty() {
            let line = "  Every healthy account stayed alive; no token was lost.\n";
            say(&terminal.paint_lines(Tone::Good, line));
        }
        Ok(violations.is_empty())
    }

    fn findings(&self, answers: &BTreeMap<String, Answers>) -> Result<Findings, String> {
        let elapsed = self.started.elapsed();
        let database = self.stage.database();
        let rows = read_store(&database);
        let rows = rows.map_err(|error| format!("{}: {error}", database.display()))?;
        let is_over = |(at, step): &(Duration, Step)| *at + step.shows_within() <= elapsed;
        let due: Vec<Step> =
            self.taken.iter().filter(|taken| is_over(taken)).map(|(_, step)| *step).collect();
        let seen = |actor: &Actor| {
            let row = rows.iter().find(|row| row.account == actor.account);
            let current = self.provider.current(&actor.account).and_then(|token| token.refresh);
            Seen {
                actor: actor.clone(),
                answers: answers.get(&actor.account).cloned().unwrap_or_default(),
                kept: current.is_some() && row.map(|row| &row.refresh) == current.as_ref(),
                live: row.is_some_and(|row| self.provider.accepts(row.access.expose())),
                mail_due: due.iter().any(|step| step.role() == Some(actor.role)),
            }
        };
        let mails = self.mailbox.mails().into_iter();
        Ok(Findings {
            accounts: self.actors.iter().map(seen).collect(),
            refreshes: self.provider.count(LogEntry::issued),
            retired_presented: self.retired_presented(),
            overlaps: self.provider.count(|entry| entry.overlapped),
            mails: mails
                .flat_map(|mail| mail.to.into_iter().map(move |to| (to, mail.subject.clone())))
                .collect(),
            operator_mail_due: due.contains(&Step::ChangeSecret),
            // A crash may have left a mail in the outbox.
            operator_mail_allowed: self.stage.continues
                || self.taken.iter().any(|(_, step)| *step == Step::ChangeSecret),
        })
    }

    /// Retired refresh tokens that were presented, without the one probe per account that a lost answer,
    /// or a crash in the middle of a request, permits.
    fn retired_presented(&self) -> usize {
        let log = self.provider.log();
        let too_often = |actor: &Actor| {
            let presented = log.iter().filter(|entry| {
                entry.retired_presented() && entry.account.as_ref() == Some(&actor.account)
            });
            let permitted = usize::from(actor.role == Role::AnswerLost || self.stage.continues);
            presented.count().saturating_sub(permitted)
        };
        self.actors.iter().map(too_often).sum()
    }
}

/// Connects every account, with tokens of different ages, and writes the publisher's store.
fn fill(
    stage: &mut Stage,
    provider: &Provider,
    actors: &[Actor],
    script: &[(Duration, Step)],
) -> Result<(), String> {
    let ends_in = script.iter().find(|(_, step)| *step == Step::RefreshTokenEnds);
    let connect = |(number, actor): (usize, &Actor)| {
        // Spread over the first half of the life, or all would be due at once.
        let age = LIFE.mul_f64(0.5 * number as f64 / actors.len() as f64);
        provider.connect(&actor.account, &["user.info.basic", "video.publish"], age);
        if let (Role::RefreshTokenEnds, Some((ends_in, _))) = (actor.role, ends_in) {
            // Late by more than the program's start takes, so that the stage announces the end before anybody
            // mails that it has come. That it will come, its owner hears earlier: the answers say so.
            let ends_in = *ends_in + Duration::from_secs(3);
            provider.end_refresh_token_in(&actor.account, ends_in);
        }
        let token = provider.current(&actor.account).expect("it was connected just before");
        (actor.clone(), token)
    };
    let rows: Vec<_> = actors.iter().enumerate().map(connect).collect();
    stage.fill_store(&rows)
}

/// A publisher of many accounts posts less often on each, or posting would take the machine's time from
/// renewing.
fn post_every(accounts: usize) -> Duration {
    POST_EVERY.mul_f64((accounts as f64 / POSTS_PER_ROUND).max(1.0)).min(POST_EVERY_MAX)
}

fn listen_for(kind: SignalKind) -> Result<Signal, String> {
    signal(kind).map_err(|error| format!("signals cannot be received: {error}"))
}

fn temporary() -> PathBuf {
    let name = random_hex();
    std::env::temp_dir().join(format!("oauth-keepalive-demo-{}", &name[..8]))
}

/// A terminal that went away ends nothing.
fn say(text: &str) {
    let mut out = io::stdout().lock();
    let _ = out.write_all(text.as_bytes()).and_then(|()| out.flush());
}

const VIOLATIONS_SHOWN_MAX: usize = 20;
const POST_EVERY: Duration = Duration::from_secs(3);
/// So many accounts are posted on in one such interval; with more it grows …
const POSTS_PER_ROUND: f64 = 48.0;
/// … up to this, so that every account is still posted on during each token's life.
const POST_EVERY_MAX: Duration = Duration::from_secs(12);
const DIGEST_EVERY: Duration = Duration::from_secs(10);
/// After a crash tokens may have ended while nobody was there; the program gets so long to renew them.
const SETTLING: Duration = Duration::from_secs(8);
/// The secret is mended so long after the freeze was seen …
const MEND_AFTER_FREEZE: Duration = Duration::from_secs(2);
/// … and at the latest so long after the first refusal, or tokens would end before anybody could renew …
const MEND_AFTER_REFUSAL: Duration = Duration::from_secs(5);
/// … or, when nobody was due at all, so long after it was changed.
const MEND_AFTER_MAX: Duration = Duration::from_secs(12);

#[cfg(test)]
mod tests {
    use super::*;
    use crate::core::{AccountId, Evidence, Timestamp};
    use std::sync::Arc;

    async fn prepared(directory: &Path) -> Play {
        let stage = Stage::set(directory, ACCOUNTS_MIN).unwrap();
        Play::prepare(stage, Some(Duration::from_secs(90))).await.unwrap()
    }

    /// Acts as if the play had begun so long ago.
    fn reach(play: &mut Play, elapsed: u64) {
        play.started = Instant::now().checked_sub(Duration::from_secs(elapsed)).unwrap();
        play.step().unwrap();
    }

    fn secret_file(play: &Play) -> String {
        let file = play.stage.directory().join("client-secret");
        std::fs::read_to_string(file).unwrap().trim_end().to_owned()
    }

    fn wanted_secret(play: &Play) -> String {
        play.provider.client_secret().unwrap().expose().to_owned()
    }

    #[tokio::test]
    async fn each_step_befalls_its_account_when_its_time_has_come() {
        let folder = tempfile::tempdir().unwrap();
        let mut play = prepared(folder.path()).await;
        let access = |play: &Play, account| play.provider.current(account).unwrap().access;
        let (revoked, healthy) = (access(&play, "brand-03"), access(&play, "brand-01"));
        reach(&mut play, 14);
        assert!(play.taken.is_empty());
        assert!(play.provider.accepts(revoked.expose()));
        reach(&mut play, 36);
        assert_eq!(play.taken.len(), 5);
        assert!(!play.provider.accepts(revoked.expose()));
        assert!(play.provider.accepts(healthy.expose()));
        reach(&mut play, 36);
        assert_eq!(play.taken.len(), 5, "each step is taken once");
    }

    #[tokio::test]
    async fn the_changed_secret_is_mended_soon_after_its_effect_was_seen_and_in_any_case() {
        let freeze = |cause| Event::AppFrozen { app: "demo".into(), cause };
        let refusal = |cause| Event::RefreshFailed {
            id: AccountId::new("tiktok", "brand-01"),
            evidence: Arc::new(Evidence::of(cause, Timestamp::MIN)),
            retry_at: None,
        };
        let refused = Cause::AppCredentialsRejected;
        let cases = [
            (Some(freeze(refused)), 79),
            (Some(refusal(refused)), 81),
            (Some(refusal(Cause::ProviderOutage)), 88),
            (None, 88),
        ];
        for (event, mended_at) in cases {
            let folder = tempfile::tempdir().unwrap();
            let mut play = prepared(folder.path()).await;
            assert_eq!(secret_file(&play), wanted_secret(&play));
            reach(&mut play, 75);
            assert_ne!(secret_file(&play), wanted_secret(&play));
            event.iter().for_each(|event| play.notice(event));
            reach(&mut play, mended_at - 2);
            assert_ne!(secret_file(&play), wanted_secret(&play), "{event:?}");
            reach(&mut play, mended_at);
            assert_eq!(secret_file(&play), wanted_secret(&play), "{event:?}");
        }
    }

    #[tokio::test]
    async fn a_play_that_was_cut_off_goes_on_with_the_same_tokens_and_a_mended_secret() {
        let folder = tempfile::tempdir().unwrap();
        let mut play = prepared(folder.path()).await;
        reach(&mut play, 75);
        drop(play);

        let play = prepared(folder.path()).await;
        assert!(play.stage.continues);
        assert_eq!(secret_file(&play), wanted_secret(&play));
        let to_come: Vec<_> = play.script.iter().map(|(_, step)| *step).collect();
        assert_eq!(to_come, [Step::ChangeSecret]);
        let findings = play.findings(&BTreeMap::new()).unwrap();
        assert_eq!(findings.lost(), Vec::<&str>::new());
        assert!(findings.accounts.iter().filter(|seen| seen.live).count() >= 11, "tokens live on");
    }

    #[tokio::test]
    async fn a_program_that_does_nothing_is_not_acquitted() {
        let folder = tempfile::tempdir().unwrap();
        let mut play = prepared(folder.path()).await;
        for elapsed in [36, 75, 90] {
            reach(&mut play, elapsed);
        }
        let violations = play.findings(&BTreeMap::new()).unwrap().violations();
        assert_eq!(
            violations,
            [
                "no token was refreshed",
                "the owner of brand-03 was not told",
                "the owner of brand-05 was not told",
                "the owner of brand-07 was not told",
                "the operator was not told that the app's secret is refused",
            ]
        );
    }

    #[test]
    fn twelve_accounts_are_posted_on_every_three_seconds_and_many_less_often() {
        for (accounts, expected) in [(12, 3), (48, 3), (96, 6), (200, 12), (ACCOUNTS_MAX, 12)] {
            assert_eq!(post_every(accounts), Duration::from_secs(expected), "{accounts}");
        }
        assert!(POST_EVERY_MAX < LIFE);
    }

    #[test]
    fn too_few_accounts_and_too_short_a_time_are_refused_with_the_remedy() {
        let few = Options { accounts: 11, ..Options::default() };
        assert!(check(&few).unwrap_err().contains("expected 12 to"));
        let run_for = Some(Duration::from_secs(30));
        let short = Options { run_for, ..Options::default() };
        assert!(check(&short).unwrap_err().contains("--for 30s: expected at least 60 s"));
        assert_eq!(check(&Options::default()), Ok(()));
    }
}
