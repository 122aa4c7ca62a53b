//! Sentences about asking.

use super::{
    super::{
        Finished, Input,
        tests::{Bench, app},
    },
    *,
};
use crate::core::{
    decide::App,
    notices::{Audience, Change, Subject},
    schedule::Policy,
};

const REFUSED: Cause = Cause::AppCredentialsRejected;

/// Accounts that are all due, of one app at a provider that may be asked about it.
fn bench(accounts: usize) -> Bench {
    let mut bench = Bench::new();
    configure(&mut bench, vec![asked("main")]);
    let names: Vec<String> = (0..accounts).map(|number| format!("brand-{number:03}")).collect();
    let due: Vec<_> =
        names.iter().zip(1..).map(|(name, n)| (name.as_str(), bench.token(n, 0.9))).collect();
    bench.load(&due);
    bench
}

fn asked(name: &str) -> App {
    App { can_be_asked: true, ..app(name) }
}

fn configure(bench: &mut Bench, apps: Vec<App>) {
    bench.tell(Input::Configured { policy: Policy::default(), apps });
}

fn evidence(bench: &Bench, cause: Cause) -> Evidence {
    Evidence { app_wide: cause == REFUSED, ..Evidence::of(cause, bench.now) }
}

fn refuse(bench: &mut Bench, name: &str) {
    let result = Finished::NotCommitted(evidence(bench, REFUSED));
    bench.finish(name, result);
}

fn answer(bench: &mut Bench, asked: Asked) {
    bench.tell(Input::AppAsked { app: "main".into(), asked });
}

fn answer_refused(bench: &mut Bench) {
    let evidence = evidence(bench, REFUSED);
    answer(bench, Asked::Refused(evidence));
}

fn frozen(bench: &Bench, app: &str) -> Option<Cause> {
    bench.fleet.apps.frozen(app)
}

/// Lets time pass second by second, answering every question like this; answers when each was asked.
fn ask_for(bench: &mut Bench, seconds: u64, said: impl Fn(&Bench) -> Asked) -> Vec<u64> {
    let mut asked_at = Vec::new();
    for second in 0..seconds {
        let started = bench.started();
        assert!(started.iter().all(|what| what == "ask main"), "{second}: {started:?}");
        if started.is_empty() {
            bench.pass(1);
            continue;
        }
        asked_at.push(second);
        let said = said(bench);
        answer(bench, said);
    }
    asked_at
}

/// Refuses everything that was sent until the question is asked.
fn bring_to_the_question(bench: &mut Bench) -> usize {
    let mut refused = 0;
    let mut waiting = bench.started();
    while let Some(what) = waiting.pop() {
        let Some(name) = what.strip_prefix("refresh ") else { return refused };
        refuse(bench, name);
        refused += 1;
        waiting.extend(bench.started());
    }
    panic!("nobody asked");
}

#[test]
fn a_refused_app_is_asked_about_at_once_and_nobodys_token_is_tried_until_it_is_accepted() {
    let mut bench = bench(200);
    let refused = bring_to_the_question(&mut bench);
    assert!(refused <= 5, "{refused} real tokens were presented");
    // Asked about, it stays refused for an hour, and no real token leaves.
    answer_refused(&mut bench);
    ask_for(&mut bench, 3_600, |bench| Asked::Refused(evidence(bench, REFUSED)));
    assert_eq!(frozen(&bench, "main"), Some(REFUSED));

    bench.tell(Input::CredentialsChanged { app: "main".into() });
    assert_eq!(bench.started(), ["ask main"]);
    answer(&mut bench, Asked::Accepted);
    assert_eq!(frozen(&bench, "main"), None, "an answer thaws it");
    let first = bench.started();
    assert_eq!(first.len(), 1, "one account proves the word: {first:?}");
    let new = bench.token(9_000, 0.0);
    bench.finish(first[0].trim_start_matches("refresh "), Finished::Renewed(new));
    assert_eq!(bench.started().len(), Policy::default().in_flight_per_app_max, "the rest follows");
}

#[test]
fn one_operator_hears_of_it_once_and_of_its_end_once_and_no_owner_hears_anything() {
    let mut bench = bench(200);
    let mut notices = Vec::new();
    bring_to_the_question(&mut bench);
    notices.extend(bench.notices());
    for _ in 0..400 {
        let is_asked = !bench.started().is_empty();
        if is_asked {
            answer_refused(&mut bench)
        } else {
            bench.pass(1)
        }
        notices.extend(bench.notices());
    }
    bench.tell(Input::CredentialsChanged { app: "main".into() });
    answer(&mut bench, Asked::Accepted);
    notices.extend(bench.notices());
    let of_app = |change| (Subject::App("main".into()), REFUSED, change, Audience::Operator);
    assert_eq!(notices, [of_app(Change::Firing), of_app(Change::Resolved)]);
}

#[test]
fn refusals_together_freeze_nothing_when_another_secret_turns_out_to_be_right() {
    let mut bench = bench(200);
    assert!(bring_to_the_question(&mut bench) >= 3, "as many as would freeze it");
    assert_eq!(frozen(&bench, "main"), None);
    answer(&mut bench, Asked::Accepted);
    assert_eq!(bench.notices(), []);
    assert_eq!(bench.started().len(), 1);
}

#[test]
fn questions_become_rare_and_never_come_faster_than_their_pace() {
    let mut refused = bench(20);
    bring_to_the_question(&mut refused);
    answer_refused(&mut refused);
    let asked_at = ask_for(&mut refused, 7_200, |bench| Asked::Refused(evidence(bench, REFUSED)));
    assert!((5..=15).contains(&asked_at.len()), "{asked_at:?}");

    // A secret file that changes every second.
    let mut hectic = bench(20);
    bring_to_the_question(&mut hectic);
    answer_refused(&mut hectic);
    let mut asked = 0;
    for _ in 0..600 {
        hectic.pass(1);
        if hectic.started().is_empty() {
            hectic.tell(Input::CredentialsChanged { app: "main".into() });
        }
        if !hectic.started().is_empty() {
            asked += 1;
            answer_refused(&mut hectic);
        }
    }
    let most = 600 / usize::try_from(ASK_EVERY_MIN.as_secs()).unwrap() + 1;
    assert!((most / 2..=most).contains(&asked), "{asked} questions in ten minutes, at most {most}");
}

#[test]
fn a_provider_that_wants_to_be_left_alone_is() {
    let mut bench = bench(20);
    bring_to_the_question(&mut bench);
    let mut limited = evidence(&bench, Cause::RateLimited);
    limited.retry_after = Some(Duration::from_secs(300));
    answer(&mut bench, Asked::Unclear(limited));
    let asked_at = ask_for(&mut bench, 400, |bench| Asked::Refused(evidence(bench, REFUSED)));
    assert!(asked_at.first().is_some_and(|first| *first >= 300), "{asked_at:?}");
}

#[test]
fn where_nothing_can_be_learnt_one_real_request_is_tried() {
    let mut bench = bench(20);
    bring_to_the_question(&mut bench);
    for _ in 0..600 {
        match bench.started().first().map(String::as_str) {
            Some("ask main") => {
                let silence = evidence(&bench, Cause::ProviderOutage);
                answer(&mut bench, Asked::Unclear(silence));
            }
            Some(_) => break,
            None => bench.pass(1),
        }
    }
    let started = bench.started();
    assert!(matches!(&started[..], [one] if one.starts_with("refresh ")), "{started:?}");
    let new = bench.token(9_000, 0.0);
    bench.finish(started[0].trim_start_matches("refresh "), Finished::Renewed(new));
    assert_eq!(frozen(&bench, "main"), None);
    assert_eq!(bench.started().len(), Policy::default().in_flight_per_app_max);
}

#[test]
fn a_provider_that_accepts_everything_when_asked_costs_one_token_and_is_not_believed_again() {
    let mut bench = bench(20);
    let mut refused = bring_to_the_question(&mut bench);
    let mut asked = 1;
    answer(&mut bench, Asked::Accepted);
    for _ in 0..120 {
        match bench.started().first().cloned() {
            Some(what) if what == "ask main" => {
                asked += 1;
                answer(&mut bench, Asked::Accepted);
            }
            Some(what) => {
                assert_eq!(bench.started().len(), 1, "one at a time");
                refused += 1;
                refuse(&mut bench, what.trim_start_matches("refresh "));
            }
            None => bench.pass(1),
        }
    }
    assert_eq!(asked, 1);
    assert!(frozen(&bench, "main").is_some());
    // Of two minutes: the first, those in flight with it, and the growing pauses.
    assert!(refused <= 10, "{refused} real tokens were presented");
}

#[test]
fn whoever_is_not_the_one_to_ask_waits_and_asks_later() {
    let mut bench = bench(20);
    bring_to_the_question(&mut bench);
    answer(&mut bench, Asked::Elsewhere);
    assert!(bench.started().is_empty());
    let asked_at = ask_for(&mut bench, 15, |_| Asked::Elsewhere);
    assert!(!asked_at.is_empty(), "it asks again");
    assert!(asked_at.first().is_some_and(|first| *first >= 4), "{asked_at:?}");
}

/// The other replica may have let the app go, because none of its own accounts waits for it.
#[test]
fn where_nothing_is_heard_of_the_one_to_ask_one_real_request_tells() {
    let mut bench = bench(20);
    bring_to_the_question(&mut bench);
    let mut asked = 1;
    answer(&mut bench, Asked::Elsewhere);
    let real = loop {
        match bench.started().as_slice() {
            [] => bench.pass(1),
            [what] if what == "ask main" => {
                asked += 1;
                answer(&mut bench, Asked::Elsewhere);
            }
            real => break real.to_vec(),
        }
        assert!(asked <= 3, "it asks for ever");
    };
    assert_eq!(asked, 3);
    assert!(matches!(&real[..], [one] if one.starts_with("refresh ")), "{real:?}");
}

/// Accounts whose tokens are refused one after the other, with a question in between, if there is one.
fn dead_in_a_row(bench: &mut Bench, how_many: usize) -> usize {
    let mut questions = 0;
    let mut waiting = bench.started();
    for _ in 0..how_many {
        let place = waiting.iter().position(|what| what != "ask main").expect("one is started");
        let what = waiting.remove(place);
        let result = Finished::Dead(evidence(bench, Cause::RefreshTokenRejected));
        bench.finish(what.trim_start_matches("refresh "), result);
        questions += bench.started().iter().filter(|what| *what == "ask main").count();
        waiting.extend(bench.started());
    }
    questions
}

#[test]
fn accounts_that_fail_all_at_once_are_reason_to_ask_once_and_a_few_are_not() {
    let mut few = bench(20);
    assert_eq!(dead_in_a_row(&mut few, 4), 0);
    let mut many = bench(20);
    assert_eq!(dead_in_a_row(&mut many, 12), 1);
    let view = &many.fleet.snapshot(many.now).apps[0];
    assert_eq!((view.suspect, view.frozen), (Some(Suspect::App), None));

    answer(&mut many, Asked::Accepted);
    assert_eq!(
        frozen(&many, "main"),
        Some(REFUSED),
        "then it is not the secret, nor so many owners"
    );
    let view = &many.fleet.snapshot(many.now).apps[0];
    assert_eq!(view.asked, Some(("accepted", many.now)));
}

#[test]
fn accounts_that_fail_because_of_their_app_stop_failing_when_the_question_finds_it_out() {
    let mut bench = bench(20);
    dead_in_a_row(&mut bench, 12);
    answer_refused(&mut bench);
    let beside: Vec<AccountId> = bench.fleet.flying.keys().cloned().collect();
    assert!((1..=5).contains(&beside.len()), "{beside:?}");
    for id in beside {
        refuse(&mut bench, &id.account);
    }
    ask_for(&mut bench, 60, |bench| Asked::Refused(evidence(bench, REFUSED)));
    assert_eq!(frozen(&bench, "main"), Some(REFUSED));
}

#[test]
fn several_apps_of_a_provider_at_once_are_the_provider() {
    let mut bench = Bench::new();
    configure(&mut bench, vec![asked("main"), asked("other")]);
    let refused = |bench: &Bench| Asked::Refused(evidence(bench, REFUSED));
    for (app, expected) in [("other", REFUSED), ("main", Cause::ProviderOutage)] {
        for _ in 0..3 {
            let asked = refused(&bench);
            bench.tell(Input::AppAsked { app: app.into(), asked });
        }
        assert_eq!(frozen(&bench, app), Some(expected), "{app}");
    }
    let suspects: Vec<_> =
        bench.fleet.snapshot(bench.now).apps.iter().map(|view| view.suspect).collect();
    assert_eq!(suspects, [Some(Suspect::Provider); 2]);

    // A third one works there after all: the provider is not to blame, and whoever is must hear of it.
    let at = bench.now.plus(Duration::from_secs(1));
    bench.fleet.correlation.succeeded(at, &"third".into(), &"tiktok".into());
    bench.effects.clear();
    let asked = refused(&bench);
    bench.tell(Input::AppAsked { app: "main".into(), asked });
    assert_eq!(frozen(&bench, "main"), Some(REFUSED));
    let told: Vec<_> = bench
        .effects
        .iter()
        .filter_map(|effect| match effect {
            Effect::Notify(notice) => Some((notice.cause, notice.change)),
            _ => None,
        })
        .collect();
    assert_eq!(told, [(Cause::ProviderOutage, Change::Resolved), (REFUSED, Change::Firing)]);
}

#[test]
fn apps_at_different_servers_of_the_same_kind_are_not_each_others_provider() {
    let mut bench = Bench::new();
    let elsewhere = App { server: "https://elsewhere".into(), ..asked("other") };
    configure(&mut bench, vec![asked("main"), elsewhere]);
    for app in ["other", "main"] {
        for _ in 0..3 {
            let asked = Asked::Refused(evidence(&bench, REFUSED));
            bench.tell(Input::AppAsked { app: app.into(), asked });
        }
        assert_eq!(frozen(&bench, app), Some(REFUSED), "{app}");
    }
}

#[test]
fn nothing_is_asked_while_the_program_ends_or_our_state_is_away() {
    let mut down = bench(20);
    bring_to_the_question(&mut down);
    answer_refused(&mut down);
    down.tell(Input::State { up: false });
    assert_eq!(ask_for(&mut down, 120, |_| Asked::Accepted), [0; 0]);
    down.tell(Input::State { up: true });
    assert_eq!(down.started(), ["ask main"]);

    let mut stopping = bench(20);
    bring_to_the_question(&mut stopping);
    answer_refused(&mut stopping);
    stopping.tell(Input::Stopping);
    assert_eq!(ask_for(&mut stopping, 120, |_| Asked::Accepted), [0; 0]);
}
