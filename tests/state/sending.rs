//! State, clerk and mailer together, against a real mail server that misbehaves: what its readers see.

use super::{outbox::firing, *};
use crate::mail_server::MailServer;
use oauth_keepalive::{
    clerk::{Clerk, Round},
    clock::Clock,
    delivery::{self, Mailer, Owner, templates::Templates},
    metrics::Metrics,
    report::Reporter,
    stores::{self, Saved, Status, StoredAccount, TokenStore},
};
use std::collections::{BTreeMap, BTreeSet};
use tokio::sync::{Notify, mpsc, oneshot, watch};

const ACCOUNTS: usize = 1_000;
const OWNERS: usize = 50;
const DAY: i64 = 24 * 3_600;

/// A store without accounts: owners are in the configuration.
struct Nothing;

impl TokenStore for Nothing {
    async fn load(
        &self,
        _: impl FnMut(StoredAccount) + Send,
        _: impl FnMut(stores::Error) + Send,
    ) -> Result<(), stores::Error> {
        Ok(())
    }

    async fn get(&self, _: &AccountId) -> Result<Option<StoredAccount>, stores::Error> {
        Ok(None)
    }

    async fn save(&self, _: &AccountId, _: &Token, _: Fingerprint) -> Result<Saved, stores::Error> {
        Ok(Saved::Gone)
    }

    async fn add(&self, _: &StoredAccount) -> Result<Saved, stores::Error> {
        Ok(Saved::Gone)
    }

    async fn probe(&self) -> Result<(), stores::Error> {
        Ok(())
    }

    async fn changed(&self) {
        std::future::pending().await
    }

    async fn mark(&self, _: &AccountId, _: Status) -> Result<(), stores::Error> {
        Ok(())
    }
}

fn settings(server: &MailServer) -> delivery::Settings {
    let owner = |nth: usize| Owner {
        accounts: format!("tiktok/owner-{nth:02}-*"),
        to: Secret::new(format!("owner-{nth:02}@invented.example")),
        time_zone: None,
    };
    delivery::Settings {
        smtp: Some(server.smtp()),
        from: Secret::new("keepalive@invented.example".to_owned()),
        operator: vec![Secret::new("operator@invented.example".to_owned())],
        owners: (0..OWNERS).map(owner).collect(),
        external_url: None,
        rules: Rules::default(),
        reminders: Vec::new(),
        time_zone: jiff::tz::TimeZone::UTC,
        templates: Templates::built_in(),
        webhooks: Vec::new(),
    }
}

fn account(nth: usize) -> String {
    format!("owner-{:02}-account-{nth:03}", nth % OWNERS)
}

fn notice(nth: usize, change: Change, seconds: i64) -> Notice {
    let subject = Subject::Account(AccountId::new("tiktok", account(nth)));
    let cause = Cause::ConsentRevoked;
    Notice {
        subject,
        cause,
        change,
        at: at(seconds),
        since: at(seconds),
        evidence: None,
        ..firing()
    }
}

/// A clerk that writes into `state`.
struct Desk {
    rounds: mpsc::Sender<Round>,
    _inputs: mpsc::Receiver<oauth_keepalive::core::fleet::Input>,
}

impl Desk {
    fn new(state: &State, settings: &watch::Receiver<Arc<delivery::Settings>>) -> Self {
        let (inputs, _inputs) = mpsc::channel(16);
        let clerk = Clerk {
            state: state.clone(),
            store: Arc::new(Nothing),
            delivery: settings.clone(),
            reporter: Reporter::new(Metrics::new(["tiktok"], Clock::start().now())),
            mail_owed: Arc::new(Notify::new()),
            request_owed: Arc::new(Notify::new()),
            inputs,
        };
        let (rounds, received) = mpsc::channel(4);
        tokio::spawn(clerk.run(received));
        Self { rounds, _inputs }
    }

    async fn write(&self, notices: Vec<Notice>) {
        let (written, done) = oneshot::channel();
        let round = Round { notices, written: Some(written), ..Round::default() };
        self.rounds.send(round).await.unwrap();
        done.await.unwrap();
    }
}

fn mailer(state: &State, settings: &watch::Receiver<Arc<delivery::Settings>>) -> Mailer<State> {
    Mailer::new(state.clone(), settings.clone(), BTreeMap::new(), Box::new(drop))
}

/// Which accounts each mail names, by its `Message-ID`, and how often it came.
fn read(server: &MailServer) -> BTreeMap<String, (String, BTreeSet<String>, usize)> {
    let mut mails: BTreeMap<String, (String, BTreeSet<String>, usize)> = BTreeMap::new();
    for message in server.messages() {
        let text = message.part("text/plain");
        let words = text.split(|c: char| !c.is_ascii_alphanumeric() && c != '-');
        let named = words.filter(|word| word.contains("-account-")).map(str::to_owned).collect();
        let id = message.header("Message-ID").unwrap().to_owned();
        let mail = mails.entry(id).or_insert_with(|| (message.to()[0].to_owned(), named, 0));
        mail.2 += 1;
    }
    mails
}

/// How often each account was told of, copies of one mail included.
fn told(server: &MailServer) -> BTreeMap<String, usize> {
    let mut told = BTreeMap::new();
    for (to, named, copies) in read(server).into_values() {
        for account in named.into_iter().filter(|_| to != "operator@invented.example") {
            assert!(to.starts_with(&account[..8]), "{to} hears of {account}");
            *told.entry(account).or_default() += copies;
        }
    }
    told
}

/// Both send, one after the other, until nothing is left to be sent before `until`.
async fn send_until(mailers: &mut [Mailer<State>], mut now: i64, until: i64) -> i64 {
    let stop = watch::Sender::new(false);
    while now < until {
        let mut next = None;
        for mailer in mailers.iter_mut() {
            let wanted = mailer.round(at(now), &stop.subscribe()).await;
            next = next.into_iter().chain(wanted).min();
        }
        let Some(next) = next else { break };
        now = next.seconds_from(at(0)).max(now + 1);
    }
    now
}

pub(crate) async fn a_thousand_accounts_that_fail_within_a_minute_are_one_mail_per_owner<
    B: Backend,
>() {
    let server = tokio::task::spawn_blocking(|| MailServer::with_fault("rough")).await.unwrap();
    let world = B::make().await;
    let states = [open(&world).await, open(&world).await];
    let (_keep, changed) = watch::channel(Arc::new(settings(&server)));
    let desk = Desk::new(&states[0], &changed);
    let mut mailers = [mailer(&states[0], &changed), mailer(&states[1], &changed)];
    for second in 0..60_usize {
        let (from, to) = (second * ACCOUNTS / 60, (second + 1) * ACCOUNTS / 60);
        let seconds = i64::try_from(second).unwrap();
        desk.write((from..to).map(|nth| notice(nth, Change::Firing, seconds)).collect()).await;
        send_until(&mut mailers, seconds, seconds + 1).await;
    }
    let now = send_until(&mut mailers, 60, 6 * 3_600).await;

    let mails = read(&server);
    let to_operator: Vec<_> =
        mails.values().filter(|(to, ..)| to == "operator@invented.example").collect();
    assert_eq!(to_operator.len(), 1, "one for the operator");
    assert_eq!(mails.len(), OWNERS + 1, "and one for each owner");
    let all = told(&server);
    assert_eq!(all.len(), ACCOUNTS, "none is lost");
    assert!(all.values().all(|times| (1..=2).contains(times)), "none comes more than twice");
    assert!(mails.values().any(|(.., copies)| *copies == 2), "the server's word was lost once");
    let operator =
        server.messages().into_iter().find(|one| one.to() == [to_operator[0].0.as_str()]);
    let operator = operator.unwrap().part("text/plain").replace('\n', " ");
    assert!(operator.contains("1000 accounts of 50 different owners"), "{operator}");

    // Ten of the owners reconnect.
    let again = (0..ACCOUNTS).filter(|nth| nth % OWNERS < 10);
    desk.write(again.map(|nth| notice(nth, Change::Resolved, now + 60)).collect()).await;
    send_until(&mut mailers, now + 60, now + DAY).await;
    let ends = read(&server);
    assert_eq!(ends.len(), OWNERS + 1 + 10, "one end for each of them");
    for message in server.messages() {
        let id = message.header("Message-ID").unwrap();
        if mails.contains_key(id) {
            assert_eq!(message.header("References"), None);
            continue;
        }
        let first = message.header("References").unwrap();
        assert_eq!(mails[first].0, message.to()[0], "in the thread of its own beginning");
        assert!(
            message.header("Subject").unwrap().starts_with("Re: [oauth-keepalive] 20 accounts")
        );
    }
}

pub(crate) async fn a_day_without_a_mail_server_costs_no_notice_and_brings_no_flood<B: Backend>() {
    let server = tokio::task::spawn_blocking(MailServer::start).await.unwrap();
    let world = B::make().await;
    let state = open(&world).await;
    let mut away = settings(&server);
    away.smtp.as_mut().unwrap().port = 1;
    let (change, changed) = watch::channel(Arc::new(away));
    let desk = Desk::new(&state, &changed);
    let mut mailers = [mailer(&state, &changed)];
    for hour in 0..24_usize {
        let seconds = i64::try_from(hour).unwrap() * 3_600;
        let mut notices: Vec<Notice> =
            (hour * 4..hour * 4 + 4).map(|nth| notice(nth, Change::Firing, seconds)).collect();
        // Each fourth mends itself before anybody could be told, but for the very first.
        if hour > 0 {
            notices.push(notice(hour * 4 - 1, Change::Resolved, seconds));
        }
        desk.write(notices).await;
        send_until(&mut mailers, seconds, seconds + 3_600).await;
    }
    assert!(server.messages().is_empty());
    change.send_replace(Arc::new(settings(&server)));
    send_until(&mut mailers, DAY, 2 * DAY).await;
    let all = told(&server);
    let expected: BTreeSet<String> =
        (0..96).filter(|nth| nth % 4 != 3 || *nth == 95).map(account).collect();
    assert_eq!(all.keys().cloned().collect::<BTreeSet<_>>(), expected);
    assert!(all.values().all(|times| *times == 1), "{all:?}");
    let mails = read(&server).len();
    assert!(mails <= OWNERS + 3, "{mails} mails to {OWNERS} owners");
}

pub(crate) async fn hours_of_greylisting_delay_a_mail_and_do_not_double_it<B: Backend>() {
    let server =
        tokio::task::spawn_blocking(|| MailServer::with_fault("grey-hours")).await.unwrap();
    let world = B::make().await;
    let states = [open(&world).await, open(&world).await];
    let (_keep, changed) = watch::channel(Arc::new(settings(&server)));
    let desk = Desk::new(&states[0], &changed);
    let mut mailers = [mailer(&states[0], &changed), mailer(&states[1], &changed)];
    desk.write((0..3).map(|nth| notice(nth, Change::Firing, 0)).collect()).await;
    send_until(&mut mailers, 0, DAY).await;
    let all = told(&server);
    assert_eq!(all.len(), 3);
    assert!(all.values().all(|times| *times == 1), "{all:?}");
}

pub(crate) async fn a_process_that_is_killed_over_and_over_while_it_sends_sends_twice_at_most<
    B: Backend,
>() {
    let server =
        tokio::task::spawn_blocking(|| MailServer::with_fault("hang-answer")).await.unwrap();
    let world = B::make().await;
    let (_keep, changed) = watch::channel(Arc::new(settings(&server)));
    let state = open(&world).await;
    Desk::new(&state, &changed).write(vec![notice(0, Change::Firing, 0)]).await;
    for life in 1..=4_i64 {
        let state = open(&world).await;
        let mut sending = mailer(&state, &changed);
        let stop = watch::Sender::new(false);
        let now = 60 + life * 200;
        let round = tokio::spawn(async move { sending.round(at(now), &stop.subscribe()).await });
        let begin = std::time::Instant::now();
        let expected = usize::try_from(life.min(2)).unwrap();
        while server.messages().len() < expected || (life > 2 && !round.is_finished()) {
            assert!(begin.elapsed() < PATIENCE, "life {life}: {} mails", server.messages().len());
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        // The server has the mail and has not said so.
        round.abort();
        let _ = round.await;
        drop(state);
        // The claim of a process that was killed on another machine ends by itself.
        world.pass(200).await;
    }
    assert_eq!(server.messages().len(), 2);
    let ids: BTreeSet<String> = server
        .messages()
        .iter()
        .map(|message| message.header("Message-ID").unwrap().to_owned())
        .collect();
    assert_eq!(ids.len(), 1, "mail programs show it once");
}

const PATIENCE: Duration = Duration::from_secs(60);
