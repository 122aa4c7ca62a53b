//! What must hold of the whole program, whatever happens. The first law that does not hold ends the run.

use super::{
    provider::AWAY_MAX,
    replica::Process,
    truth::{Failure, HOUR, MINUTE, Maker, Millis, SECOND, START, StayAway},
    world::{Mail, Truth, World},
};
use oauth_keepalive::{
    core::{Cause, Gate, Snapshot, gate},
    oauth::{Exchange, Fingerprinter, Token},
    state::{Newest, OpenEntry},
};
use std::collections::{BTreeMap, BTreeSet};

/// How long after its last trouble an account may take to be well again: the longest pause, the longest time
/// between two passes over the store, and its turn.
const WELL_WITHIN: Millis = 35 * MINUTE;

/// How long a process that was stopped may take to see what time it is.
const AWAKE_WITHIN: Millis = 3 * SECOND;

/// How long after a write to the store everybody has seen it.
const SEEN_WITHIN: Millis = 5 * MINUTE;

/// How long after a save whose answer was lost it has been tried again: the longest pause between two, and its turn.
const SAVED_AGAIN_WITHIN: Millis = 45 * SECOND;

/// Unsuccessful refreshes of one account within a minute: one, and one retry.
const FAILURES_A_MINUTE_MAX: usize = 2;

/// The same with those that did not leave, of which the next replica does not know.
const ATTEMPTS_A_MINUTE_MAX: usize = 4;

/// Requests that a refused app is tried with before it is left alone, and how often after that.
const APP_REFUSALS_MAX: u64 = 5;
const APP_TRIED_EVERY: Millis = 45 * SECOND;

/// A question, and the lease under it, take so long at most.
const ASKED_WITHIN: Millis = 9 * SECOND;

/// Nobody asks about an app more often than this.
const APP_ASKED_EVERY: Millis = 5 * SECOND;

/// Longest time between a read of the store and the request that follows from it, while nothing stands still.
const READ_TO_SEND: Millis = 20 * SECOND;

/// A request is about to leave `process`.
pub(crate) fn sends(
    truth: &mut Truth,
    process: &Process,
    maker: &Fingerprinter,
    who: usize,
    number: usize,
    open: Option<&OpenEntry>,
) {
    let now = truth.now;
    let name = process.name();
    let at = Some(who);
    truth.law(truth.players[who].in_flight.is_empty(), "one request in flight", at, |_| {
        format!("{name} presents {number} while another request is in flight")
    });
    let old = maker.of_token(&truth.players[who].token(number, 0));
    let intended = open.is_some_and(|open| open.intent.old == old && open.result.is_none());
    truth.law(intended, "a durable intent precedes every request", at, |_| {
        format!("{name} presents {number}, and the journal holds {open:?}")
    });
    let player = &truth.players[who];
    let token = player.tokens[number].clone();
    let (current, life, minted_at) = (player.current(), player.life, token.at);
    let probed = open.is_some_and(|open| open.probed);
    truth.law(token.presented < 2, "one probe", at, |_| {
        format!("{name} presents {number} for the third time")
    });
    truth.law(token.presented == 0 || probed, "one probe", at, |_| {
        format!("{name} presents {number} again, and not as the probe")
    });
    let heard = token.dead_heard_by == Some(process.life);
    truth.law(!heard, "a dead token is not tried again", at, |_| {
        format!("{name} presents {number}, and heard that it is dead")
    });
    if number != current {
        let next = truth.players[who].tokens[number + 1].clone();
        match next.maker {
            Maker::Us => {
                let excused = next.destroyed || !next.reached || is_unread(truth, who, number + 1);
                truth.law(excused, "no retired token whose successor reached us", at, |_| {
                    format!("{name} presents {number}, and its successor is ours")
                });
            }
            Maker::Publisher | Maker::Owner => {
                let known_since = next.stored_at.unwrap_or(now).max(process.went_on_at());
                let fresh = now - known_since < READ_TO_SEND;
                truth.law(fresh, "the store is read at send time", at, |_| {
                    format!("{name} presents {number}; its successor came to the store long ago")
                });
            }
        }
    }
    truth.players[who].tokens[number].is_probed = probed;
    if let Some(StayAway { until, heard_by, heard_at, skew }) = truth.players[who].stay_away {
        // Whoever was cut off or stopped has left nothing behind about it.
        let alone = truth.processes.len() == 1;
        let knows = heard_by == process.life || (alone && heard_at + MINUTE < process.started_at);
        let slack = (1 + (skew - process.skew()).abs()) * SECOND;
        truth.law(!knows || now >= until - slack, "Retry-After is obeyed", at, |_| {
            format!("{name} comes back {} s early", (until - now) / SECOND)
        });
    }
    let player = &truth.players[who];
    let asked = player.access_dead || now - player.reported_at < HOUR || !player.alive;
    // The default spread begins a little later than that.
    let early = now - minted_at < life / 3 && !probed && !asked && number == current;
    truth.law(!early, "no needless refresh", at, |_| {
        format!("{name} renews {number} after {} s", (now - minted_at) / SECOND)
    });
}

/// The answer with it lies before a process that is stopped: nobody knows of it yet.
fn is_unread(truth: &Truth, who: usize, number: usize) -> bool {
    let stalled = truth.processes.iter().flatten().filter(|process| process.is_stalled(truth.now));
    stalled.into_iter().any(|process| truth.hands.contains(&(process.life, who, number)))
}

/// An answer, or the lack of one, is in the hands of `process`.
pub(crate) fn heard(
    truth: &mut Truth,
    process: &Process,
    who: usize,
    number: usize,
    exchange: &Exchange,
) {
    let now = truth.now;
    let life = process.life;
    let token = &mut truth.players[who].tokens[number];
    // The one probe that ends in the dark is the end, also where the request before it never left and nobody knows.
    let in_the_dark = if token.is_probed { 2 } else { 1 };
    let Exchange::Answered(answer) = exchange else {
        (token.unknown, token.unknown_at) = (token.unknown + in_the_dark, now);
        return failed(truth, process, who);
    };
    match (answer.status, answer.body.expose().contains("invalid_grant")) {
        (_, true) => token.dead_heard_by = Some(life),
        (429, _) => {
            token.presented -= 1;
            let away = answer.retry_after.map_or(0, |away| away.as_millis() as Millis);
            truth.players[who].stay_away = Some(StayAway {
                until: now + away.min(AWAY_MAX),
                heard_by: life,
                heard_at: now,
                skew: process.skew(),
            });
            failed(truth, process, who);
        }
        (401, _) => token.presented -= 1,
        (200, _) if answer.body.expose().contains("access_token") => {}
        _ => {
            (token.unknown, token.unknown_at) = (token.unknown + in_the_dark, now);
            failed(truth, process, who);
        }
    }
}

/// `process` gives the store a token that the journal may hold.
pub(crate) fn saves(
    truth: &mut Truth,
    process: &Process,
    maker: &Fingerprinter,
    who: usize,
    token: &Token,
    (open, newest, orphans): (Option<&OpenEntry>, Option<&Newest>, usize),
) {
    let print = maker.of_token(token);
    let journalled = open
        .and_then(|open| open.result.as_ref())
        .or_else(|| newest.map(|newest| &newest.token))
        .is_some_and(|kept| maker.of_token(kept) == print);
    // While it was stopped it could not have tried again.
    let (stopped_at, failed_at) = (process.stopped_at(), process.state_failed_at());
    let stopped = if stopped_at < failed_at { 0 } else { process.went_on_at() - stopped_at };
    let troubled = truth.now - failed_at < 2 * MINUTE + stopped;
    // Whoever was stopped and finds his entry closed keeps his token beside it.
    let was_late = orphans > 0 && truth.now - process.went_on_at() < MINUTE;
    truth.law(
        journalled || troubled || was_late,
        "the journal comes before the store",
        Some(who),
        |_| format!("{} saves what the journal does not hold", process.name()),
    );
}

/// `process` asks about an app.
pub(crate) fn asks(truth: &mut Truth, process: &Process, app: usize) {
    let now = truth.now;
    if now - process.went_on_at() < AWAKE_WITHIN {
        // It looked at its lease before it was stopped, and nothing lies between that and the request.
        return;
    }
    let before = truth.asking[app].replace((process.replica, now));
    // One that was stopped or killed has lost its lease by then.
    let beside = before.filter(|(_, since)| now - since < ASKED_WITHIN);
    truth.law(beside.is_none(), "one replica asks about an app at a time", None, |_| {
        format!("{} asks about app {app} beside {beside:?}", process.name())
    });
}

/// The provider accepts the app again.
pub(crate) fn app_mended(truth: &mut Truth, app: usize, lasted: Millis, starts: u64) {
    let refused = u64::from(truth.app_refusals[app]);
    let replicas = truth.processes.len() as u64;
    // Five until it is frozen, then one now and then; a new process learns it anew.
    let later = (lasted / APP_TRIED_EVERY) as u64;
    let allowed = (replicas + starts) * APP_REFUSALS_MAX + replicas * later;
    truth.law(refused <= allowed, "a refused app is left alone", None, |_| {
        format!("{refused} requests for a refused app in {} s", lasted / SECOND)
    });
    let questions = u64::from(truth.app_questions[app]);
    // A process that starts does not know when the one before it asked.
    let allowed = (replicas + starts) + replicas * (lasted / APP_ASKED_EVERY) as u64;
    truth.law(questions <= allowed, "an app is asked about at its pace", None, |_| {
        format!("{questions} questions about a refused app in {} s", lasted / SECOND)
    });
}

/// A process has ended in good order.
pub(crate) fn ended(truth: &mut Truth, process: &Process) {
    for who in 0..truth.players.len() {
        let waits = truth.players[who].in_flight.contains(&process.life);
        truth.law(!waits, "stopping waits for what is under way", Some(who), |_| {
            format!("{} has ended, and its request has not", process.name())
        });
    }
}

/// A request brought no token, for a reason that is the account's.
pub(crate) fn failed(truth: &mut Truth, process: &Process, who: usize) {
    count_failure(truth, process, who, true);
}

/// A request did not leave: the provider has no trouble with it.
pub(crate) fn never_left(truth: &mut Truth, process: &Process, who: usize) {
    count_failure(truth, process, who, false);
}

fn count_failure(truth: &mut Truth, process: &Process, who: usize, left: bool) {
    let (now, theirs) = (truth.now, truth.now + process.skew() * SECOND);
    truth.trouble(who);
    let failures = &mut truth.players[who].failures;
    failures.push_back(Failure { at: now, theirs, left });
    failures.retain(|one| now - one.at <= MINUTE);
    let recent: Vec<_> = failures.iter().filter(|one| theirs - one.theirs <= MINUTE).collect();
    let (all, left) = (recent.len(), recent.iter().filter(|one| one.left).count());
    let holds = left <= FAILURES_A_MINUTE_MAX && all <= ATTEMPTS_A_MINUTE_MAX;
    truth.law(holds, "two unsuccessful refreshes a minute", Some(who), |_| {
        format!(
            "{left} unsuccessful refreshes within a minute, and {} that did not leave",
            all - left
        )
    });
}

/// `process` is about to die. What it alone holds dies with it, and is nobody's fault.
pub(crate) fn dies(
    truth: &mut Truth,
    process: &Process,
    maker: &Fingerprinter,
    open: &[OpenEntry],
) {
    let hands = std::mem::take(&mut truth.hands);
    let (its, others) = hands.into_iter().partition(|(life, ..)| *life == process.life);
    truth.hands = others;
    let its: Vec<(u64, usize, usize)> = its;
    for (_, who, number) in its {
        if !is_durable(truth, maker, open, who, number) {
            truth.players[who].tokens[number].destroyed = true;
            truth.trouble(who);
            truth.note(Some(who), || format!("token {number} dies with its process"));
        }
    }
}

fn is_durable(
    truth: &Truth,
    maker: &Fingerprinter,
    open: &[OpenEntry],
    who: usize,
    number: usize,
) -> bool {
    let player = &truth.players[who];
    let print = maker.of_token(&player.token(number, 0));
    let journalled = open.iter().any(|entry| {
        entry.id == player.id
            && entry.result.as_ref().is_some_and(|token| maker.of_token(token) == print)
    });
    journalled || player.tokens[number].stored_at.is_some()
}

/// A mail has reached its recipient.
pub(crate) fn mailed(truth: &mut Truth, mail: &Mail) {
    let same: Vec<&Mail> = truth.mails.iter().filter(|one| one.key == mail.key).collect();
    let times = same.len();
    truth.law(times <= 3, "no mail more than three times", None, |_| {
        format!("{} {}: {times} times", mail.subject, mail.cause)
    });
    let Some(who) = (0..truth.players.len())
        .find(|who| mail.subject == format!("account {}", truth.players[*who].id))
    else {
        return;
    };
    let cause = Cause::from_label(mail.cause);
    if !mail.firing || times > 1 {
        return;
    }
    let player = &truth.players[who];
    let number = player.row.as_ref().map_or(0, |row| row.number);
    let unsure = truth.is_in_the_dark(who, number);
    let left = player.tokens[number].at + player.life - truth.now;
    // The mail was decided about the token before this one, or about this one a moment ago.
    let stored_at = player.tokens[number].stored_at.unwrap_or(truth.now);
    let awake = truth.processes.iter().flatten();
    let awake_at = awake.map(|process| process.went_on_at().max(process.started_at)).max();
    let known_at = stored_at.max(awake_at.unwrap_or(0)) + SEEN_WITHIN;
    let fresh = truth.now - player.tokens[number].at < 10 * MINUTE || mail.decided_at < known_at;
    let early = left > player.life * 15 / 100 + MINUTE && !fresh;
    let well = player.is_whole() && truth.calm(who) > WELL_WITHIN && !unsure;
    truth.law(
        !(cause.is_some_and(Cause::needs_reconnect) && well),
        "nobody who is well is called dead",
        Some(who),
        |_| format!("its owner is told of {}, and it is well", mail.cause),
    );
    if matches!(cause, Some(Cause::ProviderOutage | Cause::RateLimited | Cause::Unknown)) {
        truth.law(
            !early,
            "nobody hears of passing trouble before the danger margin",
            Some(who),
            |_| format!("{} is told {} s before the end", mail.cause, left / SECOND),
        );
    }
}

/// When each account was due by each life, for which token: asked twice, the answer is the same.
pub(crate) type Dues = BTreeMap<(u64, usize), (Facts, i64)>;

/// The token and when it was issued, as far as is known: who hears it from somebody else may know it less exactly.
type Facts = (u64, i64);

/// Now and then.
pub(crate) async fn sweep(world: &World, dues: &mut Dues) {
    let open = world.auditor.open_entries().await.expect("nothing is in its way");
    let mut truth = world.truth();
    let truth = &mut *truth;
    let now = truth.now;
    let mut living: Vec<_> = truth.processes.iter().flatten().cloned().collect();
    living.retain(|process| !process.is_stalled(now));
    for who in 0..truth.players.len() {
        nothing_is_lost(truth, &world.maker, &open, who);
        whoever_is_well_lives(truth, who);
    }
    for process in &living {
        truth.law(!process.has_failed(), "no part ends by itself", None, |_| process.name());
        let Some(snapshot) = process.shown() else { continue };
        truth.law(
            snapshot.accounts.iter().all(|account| {
                account.recheck_at.is_none_or(|at| at.as_unix() > snapshot.at.as_unix())
            }),
            "a recheck lies in the future",
            None,
            |_| process.name(),
        );
        for who in 0..truth.players.len() {
            shows_the_truth(truth, world, process, &snapshot, who);
            due_once(truth, process.life, &snapshot, who, dues);
        }
    }
}

/// No account is shown by two replicas at once, whatever stands still or is cut off. One that stands still
/// shows nothing: nobody can ask it.
pub(crate) fn shown_once(truth: &mut Truth) {
    let now = truth.now;
    let living: Vec<_> = truth.processes.iter().flatten().cloned().collect();
    let awake = living.iter().filter(|process| !process.is_stalled(now));
    let shown: Vec<_> =
        awake.filter_map(|process| Some((process.name(), process.shown()?))).collect();
    for who in 0..truth.players.len() {
        let id = &truth.players[who].id;
        let by = shown.iter().filter(|(_, one)| one.accounts.find(id).is_some());
        let by: Vec<_> = by.map(|(name, one)| (name, one.at, one.holding_until)).collect();
        truth
            .law(by.len() <= 1, "nobody is shown twice", Some(who), |_| format!("shown by {by:?}"));
    }
}

/// A token that reached us is in the journal, in the store, or in a process that lives.
fn nothing_is_lost(truth: &mut Truth, maker: &Fingerprinter, open: &[OpenEntry], who: usize) {
    let player = &truth.players[who];
    let number = player.current();
    let token = &player.tokens[number];
    if token.maker != Maker::Us || !token.reached || token.destroyed || !player.alive {
        return;
    }
    let held = truth.hands.iter().any(|(_, whose, which)| (*whose, *which) == (who, number));
    let kept = held || is_durable(truth, maker, open, who, number);
    truth.law(kept, "no token is lost", Some(who), |_| {
        format!("token {number} reached us and is nowhere")
    });
}

fn whoever_is_well_lives(truth: &mut Truth, who: usize) {
    let player = &truth.players[who];
    let ended = truth.now - (player.tokens[player.current()].at + player.life);
    let judged = player.is_whole() && !truth.is_in_the_dark(who, player.current());
    let calm = truth.calm(who);
    let late = judged && ended > 0 && calm > WELL_WITHIN;
    truth.law(!late, "whoever is well is renewed in time", Some(who), |_| {
        format!("ended {} s ago, and its trouble is over for {} s", ended / SECOND, calm / SECOND)
    });
}

fn shows_the_truth(
    truth: &mut Truth,
    world: &World,
    process: &Process,
    snapshot: &Snapshot,
    who: usize,
) {
    let player = &truth.players[who];
    // A process that did not hear whether its intent was written knows as little as one that was killed.
    let calm = truth
        .calm(who)
        .min(truth.now - process.started_at)
        .min(truth.now - process.state_failed_at());
    let Some(account) = snapshot.accounts.find(&player.id) else { return };
    let (cause, name) = (account.cause, process.name());
    // The store took it and its answer was lost: until it is asked once more nobody can know.
    let is_saved_again =
        cause == Some(Cause::UnsavedToken) && truth.now - player.no_yes_at < SAVED_AGAIN_WITHIN;
    let whole = player.is_whole() && !truth.is_in_the_dark(who, player.current());
    truth.law(
        !(whole && calm > WELL_WITHIN && cause.is_some() && !is_saved_again),
        "whoever is well is shown well",
        Some(who),
        |_| {
            let (at, read) = (snapshot.at, snapshot.store_read_at);
            let calm = calm / SECOND;
            format!("{name} shows {cause:?} for {calm} s of calm, at {at:?}, the store read at {read:?}\n{account:?}")
        },
    );
    let player = &truth.players[who];
    let life = player.life;
    let held = player.row.as_ref().map(|row| row.number);
    let broken = player.row.as_ref().is_some_and(|row| row.enabled)
        && (!player.alive || held != Some(player.current()))
        && truth.now - player.tokens[player.current()].at > SEEN_WITHIN;
    let long = calm > life + WELL_WITHIN;
    truth.law(!(broken && long && cause.is_none()), "nobody dies silently", Some(who), |_| {
        format!("{name} shows nothing wrong for {} s", calm / SECOND)
    });
    let player = &truth.players[who];
    if let (Some(row), Some(shown)) = (&player.row, account.token)
        && calm > WELL_WITHIN
        && truth.now - row.written_at > SEEN_WITHIN
        && row.enabled
    {
        let there = world.maker.of_token(&player.token(row.number, 0));
        let number = row.number;
        // Over a dead token, and one whose last request and one probe ended in the dark, nothing is put back; what
        // is shown is then the newest that we know of.
        let in_the_dark = truth.is_in_the_dark(who, row.number + 1);
        let dead =
            row.stale && (!player.alive || player.current() != row.number + 1 || in_the_dark);
        truth.law(shown.token == there || dead, "the newest token is shown", Some(who), |_| {
            format!("{name} shows another token than {number}, which the store holds")
        });
    }
}

fn due_once(truth: &mut Truth, life: u64, snapshot: &Snapshot, who: usize, dues: &mut Dues) {
    let Some(account) = snapshot.accounts.find(&truth.players[who].id) else { return };
    let (Some(token), Some(due)) = (account.token, account.due_at) else { return };
    let now = ((token.token.as_hash(), token.issued_at.as_unix()), due.as_unix());
    let before = dues.insert((life, who), now);
    let same = before.is_none_or(|before| before.0 != now.0 || before.1 == now.1);
    truth.law(same, "asked twice, it answers the same", Some(who), |_| {
        format!("was due at {}, and is at {}", before.map_or(0, |due| due.1) - START, now.1 - START)
    });
}

/// Nothing has gone wrong for long: everybody knows what is so.
pub(crate) async fn settled(world: &World, dues: &mut Dues) {
    sweep(world, dues).await;
    let mut open = world.auditor.open_entries().await.expect("nothing is in its way");
    let mut truth = world.truth();
    let truth = &mut *truth;
    // Of an account that is switched off nothing more is asked, not even how its last request ended; and what
    // has just begun may end.
    let running = truth.now - MINUTE;
    open.retain(|open| {
        if (open.intent.over_at.as_unix() - START) * SECOND > running {
            return false;
        }
        let player = truth.players.iter().find(|player| player.id == open.id);
        player.is_some_and(|player| player.row.as_ref().is_some_and(|row| row.enabled))
    });
    let whose = open.first().map(|open| &open.id);
    let whose = truth.players.iter().position(|player| Some(&player.id) == whose);
    truth.law(open.is_empty(), "the journal is empty in the end", whose, |_| format!("{open:?}"));
    for who in 0..truth.players.len() {
        let whole = truth.players[who].is_whole();
        let id = truth.players[who].id.clone();
        let Some(row) = truth.players[who].row.clone().filter(|row| row.enabled) else { continue };
        let mut shown_by = 0;
        for process in truth.processes.clone().iter().flatten() {
            let Some(snapshot) = process.shown() else { continue };
            let Some(account) = snapshot.accounts.find(&id) else { continue };
            let cause = account.cause;
            shown_by += 1;
            let door = account.door;
            truth.law(row.connected != door.marked, "the status column is true", Some(who), |_| {
                format!("connected: {}, with {door:?}, and the cause is {cause:?}", row.connected)
            });
            let is_shut = gate::shut_by(snapshot.at, account).is_some();
            let expected = if is_shut { Gate::Held } else { Gate::Open };
            truth.law(door.gate == expected, "the gate is where it belongs", Some(who), |_| {
                format!("{door:?}, and the cause is {cause:?}")
            });
        }
        truth.law(shown_by == 1, "everybody is shown by one", Some(who), |_| {
            format!("shown by {shown_by} replicas")
        });
        let told = |since: Millis| {
            // Mails of one incident may come twice, and so after those of the next.
            let (mut last, mut seen) = (BTreeMap::new(), BTreeSet::new());
            let subject = format!("account {id}");
            let its = truth.mails.iter().filter(|mail| mail.subject == subject);
            for mail in its.filter(|mail| seen.insert((&mail.key, mail.firing))) {
                last.insert(mail.cause, (mail.firing, mail.at));
            }
            last.into_values().any(|(firing, at)| firing && at > since)
        };
        let (left_at, seen_from) = (truth.players[who].left_at, truth.players[who].left_seen_from);
        // Until it is seen that the account has left, its trouble is told; of the end of that nobody hears.
        let (told, owed_an_end) = (told(left_at), told(seen_from + SEEN_WITHIN));
        let player = &truth.players[who];
        let renewing = truth.now - player.tokens[player.current()].at < MINUTE;
        truth.law(whole || told || renewing, "nobody dies silently", Some(who), |_| {
            "needs its owner, and nobody was told".to_owned()
        });
        let unsure = truth.is_in_the_dark(who, row.number);
        truth.law(
            !(whole && owed_an_end) || unsure || renewing,
            "an end is told too",
            Some(who),
            |_| "is well, and the last mail says that it is not".to_owned(),
        );
    }
    one_mail_for_each_incident(truth);
}

fn one_mail_for_each_incident(truth: &mut Truth) {
    let mut open: BTreeMap<(String, &'static str), String> = BTreeMap::new();
    for mail in truth.mails.clone() {
        let key = (mail.subject.clone(), mail.cause);
        if !mail.firing {
            open.remove(&key);
            continue;
        }
        let before = open.insert(key, mail.key.clone());
        let once = before.is_none_or(|before| before == mail.key);
        let who = (0..truth.players.len())
            .find(|who| mail.subject == format!("account {}", truth.players[*who].id));
        // Whoever left and came back begins anew, and nobody is told of the end.
        let left = who.is_some_and(|who| truth.players[who].left_at >= 0);
        truth.law(once || left, "one mail for each incident", who, |_| {
            format!("{} {} is told twice", mail.subject, mail.cause)
        });
    }
}
