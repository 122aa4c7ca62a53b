//! Sentences about the fleet; what needs months and hundreds of accounts is in `tests/simulation.rs`.

use super::*;
use crate::core::{
    Evidence, Fingerprint, History, Shares,
    decide::Probe,
    diagnose::Step,
    notices::{Audience, Change, Subject},
};

const LIFE: Duration = Duration::from_secs(7_200);

/// A fleet on a table, told what happens, asked what it did.
pub(super) struct Bench {
    pub(super) fleet: Fleet,
    pub(super) now: Timestamp,
    pub(super) effects: Vec<Effect>,
}

pub(super) fn id(name: &str) -> AccountId {
    AccountId::new("tiktok", name)
}

pub(super) fn app(name: &str) -> App {
    App {
        name: name.into(),
        provider: "tiktok".into(),
        server: "tiktok".into(),
        scopes: [Arc::from("video.publish")].into(),
        min_age: Duration::ZERO,
        only_while_live: false,
        retry_is_safe: false,
        probe: Probe::Free,
        proof: crate::core::Proof::Token,
        is_sandbox: false,
        can_be_asked: false,
        assumed: Default::default(),
    }
}

impl Bench {
    pub(super) fn with_policy(policy: Policy) -> Self {
        let now = Timestamp::from_unix(1_800_000_000);
        let mut bench = Self { fleet: Fleet::new(policy), now, effects: Vec::new() };
        bench.tell(Input::Configured { policy, apps: vec![app("main")] });
        bench.tell(Input::Holding { shares: Shares::ALL, until: None });
        bench
    }

    pub(super) fn new() -> Self {
        Self::with_policy(Policy::default())
    }

    pub(super) fn tell(&mut self, input: Input) {
        self.fleet.handle(self.now, input);
        self.effects.clear();
        self.effects.extend(std::iter::from_fn(|| self.fleet.next_effect()));
    }

    /// A token, numbered, issued when it has used `share` of its life by now.
    pub(super) fn token(&self, number: u64, share: f64) -> TokenFacts {
        let issued_at = self.now.minus(LIFE.mul_f64(share));
        TokenFacts {
            token: Fingerprint::from_hash(number),
            renewable_by: Some(Fingerprint::from_hash(number + 1_000_000)),
            issued_at,
            expires_at: Some(issued_at.plus(LIFE)),
            refresh_expires_at: None,
            missing_scopes: 0,
        }
    }

    /// The store holds exactly these.
    pub(super) fn load(&mut self, accounts: &[(&str, TokenFacts)]) {
        self.fleet.handle(self.now, Input::LoadBegan);
        let seen = |(name, token): &(&str, TokenFacts)| Seen {
            id: id(name),
            app: "main".into(),
            token: Some(*token),
        };
        self.fleet.handle(self.now, Input::Seen(accounts.iter().map(seen).collect()));
        self.tell(Input::LoadEnded { damaged: 0 });
    }

    /// The store holds exactly these, each with a token of its own that has used `share` of its life.
    pub(super) fn load_each(&mut self, names: &[String], share: f64) {
        let tokens = (100..).map(|number| self.token(number, share));
        let accounts: Vec<_> = names.iter().map(String::as_str).zip(tokens).collect();
        self.load(&accounts);
    }

    pub(super) fn finish(&mut self, name: &str, result: Finished) {
        self.tell(Input::Finished { id: id(name), result });
    }

    pub(super) fn pass(&mut self, seconds: u64) {
        self.now = self.now.plus(Duration::from_secs(seconds));
        self.tell(Input::Woke);
    }

    pub(super) fn account(&self, name: &str) -> &Account {
        self.fleet.table.find(&id(name)).expect("the account is there")
    }

    pub(super) fn started(&self) -> Vec<String> {
        self.effects
            .iter()
            .filter_map(|effect| match effect {
                Effect::Refresh { id, .. } => Some(format!("refresh {}", id.account)),
                Effect::Settle { id, .. } => Some(format!("settle {}", id.account)),
                Effect::Save { id } => Some(format!("save {}", id.account)),
                Effect::Probe { id } => Some(format!("probe {}", id.account)),
                Effect::Prove { id } => Some(format!("prove {}", id.account)),
                Effect::AskAboutApp { app } => Some(format!("ask {app}")),
                _ => None,
            })
            .collect()
    }

    /// The notices of the last step. The first proof of an app or the store after a start ends whatever
    /// the last run left open; there was none, so that is left out.
    pub(super) fn notices(&self) -> Vec<(Subject, Cause, Change, Audience)> {
        self.effects
            .iter()
            .filter_map(|effect| match effect {
                Effect::Notify(notice) => Some(notice),
                _ => None,
            })
            .filter(|notice| notice.change != Change::Resolved || notice.since < self.now)
            .map(|notice| (notice.subject.clone(), notice.cause, notice.change, notice.audience))
            .collect()
    }

    /// The events of the last step of this kind.
    pub(super) fn reports(&self, which: impl Fn(&Event) -> bool) -> Vec<&Event> {
        self.effects
            .iter()
            .filter_map(|effect| match effect {
                Effect::Report(event) => Some(event),
                _ => None,
            })
            .filter(|event| which(event))
            .collect()
    }

    pub(super) fn evidence(&self, cause: Cause) -> Evidence {
        Evidence::of(cause, self.now)
    }
}

#[test]
fn an_account_is_refreshed_once_when_it_is_due_and_shows_its_new_token() {
    let mut bench = Bench::new();
    let old = bench.token(1, 0.7);
    bench.load(&[("a", old)]);
    assert_eq!(bench.started(), ["refresh a"]);
    bench.pass(5);
    assert_eq!(bench.started(), [""; 0], "one is under way");
    let new = bench.token(2, 0.0);
    bench.finish("a", Finished::Renewed(new));
    assert_eq!(bench.account("a").token, Some(new));
    assert_eq!(bench.account("a").cause, None);
}

#[test]
fn what_a_pass_read_before_our_refresh_does_not_bring_the_old_token_back() {
    let mut bench = Bench::new();
    let (old, new) = (bench.token(1, 0.7), bench.token(2, 0.0));
    bench.load(&[("a", old)]);
    bench.tell(Input::LoadBegan);
    bench.finish("a", Finished::Renewed(new));
    let seen = Seen { id: id("a"), app: "main".into(), token: Some(old) };
    bench.tell(Input::Seen(vec![seen]));
    bench.tell(Input::LoadEnded { damaged: 0 });
    assert_eq!(bench.account("a").token, Some(new));
    // The next pass reads what is really there, and that counts.
    let theirs = bench.token(3, 0.0);
    bench.load(&[("a", theirs)]);
    assert_eq!(bench.account("a").token, Some(theirs));
}

#[test]
fn a_dead_token_is_told_to_the_owner_once_and_never_tried_again() {
    let mut bench = Bench::new();
    let token = bench.token(1, 0.7);
    bench.load(&[("a", token)]);
    bench.pass(1);
    bench.finish("a", Finished::Dead(bench.evidence(Cause::RefreshTokenRejected)));
    let firing =
        (Subject::Account(id("a")), Cause::RefreshTokenRejected, Change::Firing, Audience::Owner);
    assert_eq!(bench.notices(), [firing]);
    for _ in 0..100 {
        bench.pass(3_600);
        assert_eq!((bench.started(), bench.notices().len()), (vec![], 0));
    }
    // A reconnect puts another token into the store, and that is the end of it.
    let new = bench.token(2, 0.0);
    bench.load(&[("a", new)]);
    let resolved =
        (Subject::Account(id("a")), Cause::RefreshTokenRejected, Change::Resolved, Audience::Owner);
    assert_eq!(bench.notices(), [resolved]);
    assert_eq!(bench.account("a").cause, None);
}

#[test]
fn transient_trouble_is_retried_and_nobody_hears_of_it_before_the_danger_margin() {
    let mut bench = Bench::new();
    let token = bench.token(1, 0.7);
    bench.load(&[("a", token)]);
    let mut told_at = None;
    for _ in 0..400 {
        if bench.fleet.flying.contains_key(&id("a")) {
            bench.finish("a", Finished::NotCommitted(bench.evidence(Cause::ProviderOutage)));
        } else {
            bench.pass(10);
        }
        if !bench.notices().is_empty() {
            told_at = Some(bench.now);
            break;
        }
    }
    let told_at = told_at.expect("the operator is told in the end");
    let share = told_at.since(token.issued_at).as_secs_f64() / LIFE.as_secs_f64();
    assert!((0.85..0.87).contains(&share), "told after {share} of its life");
}

#[test]
fn a_retry_after_is_obeyed_to_the_second_and_an_absurd_one_is_cut() {
    for (asked, waits) in [(0, 1), (100, 100), (7_000, 7_000), (10 * 365 * 86_400, 86_400)] {
        let mut bench = Bench::new();
        let token = bench.token(1, 0.7);
        bench.load(&[("a", token)]);
        let mut evidence = bench.evidence(Cause::RateLimited);
        evidence.retry_after = Some(Duration::from_secs(asked));
        bench.finish("a", Finished::NotCommitted(evidence));
        if waits > 1 {
            bench.pass(waits - 1);
            assert_eq!(bench.started(), [""; 0], "asked for {asked} s: too early");
        }
        bench.pass(1);
        assert_eq!(bench.started(), ["refresh a"], "asked for {asked} s");
    }
}

#[test]
fn a_provider_that_asks_for_a_moment_each_time_gets_no_third_request_within_a_minute() {
    let mut bench = Bench::new();
    let token = bench.token(1, 0.7);
    bench.load(&[("a", token)]);
    let limited = |bench: &mut Bench| {
        let mut evidence = bench.evidence(Cause::RateLimited);
        evidence.retry_after = Some(Duration::from_secs(1));
        bench.finish("a", Finished::NotCommitted(evidence));
    };
    limited(&mut bench);
    bench.pass(1);
    assert_eq!(bench.started(), ["refresh a"], "the one retry");
    limited(&mut bench);
    bench.pass(58);
    assert_eq!(bench.started(), [""; 0]);
    bench.pass(22);
    assert_eq!(bench.started(), ["refresh a"]);
}

#[test]
fn a_notice_says_what_its_reader_is_to_do_where_the_evidence_knows_more_than_the_cause() {
    let mut bench = Bench::new();
    let token = bench.token(1, 0.7);
    bench.load(&[("a", token)]);
    let mut evidence = bench.evidence(Cause::WrongEnvironment);
    evidence.detail = Some("another_account".into());
    bench.finish("a", Finished::WrongAccount(evidence));
    let steps = |bench: &Bench| -> Vec<_> {
        let owed = bench.effects.iter().filter_map(|effect| match effect {
            Effect::Notify(notice) if notice.change == Change::Firing => {
                Some((notice.audience, notice.step))
            }
            _ => None,
        });
        owed.collect()
    };
    assert_eq!(steps(&bench), [(Audience::Operator, Some(Step::CompareAccount))]);

    let mut bench = Bench::new();
    let mut token = bench.token(1, 0.3);
    token.missing_scopes = 1;
    bench.load(&[("a", token)]);
    assert_eq!(steps(&bench), [(Audience::Owner, Some(Step::ReconnectGranting))]);
}

#[test]
fn a_token_that_is_known_to_be_dead_keeps_the_cause_that_was_shown() {
    let mut bench = Bench::new();
    let token = bench.token(1, 0.7);
    bench.load(&[("a", token)]);
    // Our state took the verdict, and did not say so.
    let (evidence, over_at) = (bench.evidence(Cause::RotationLost), bench.now);
    bench.finish("a", Finished::Ambiguous { evidence, over_at });
    bench.pass(60);
    assert_eq!(bench.started(), ["settle a"]);
    bench.finish("a", Finished::KnownDead(bench.evidence(Cause::RefreshTokenRejected)));
    assert_eq!(bench.account("a").cause, Some(Cause::RotationLost));
}

#[test]
fn the_trouble_of_an_app_is_no_verdict_about_its_accounts_after_a_restart() {
    let mut before = Bench::new();
    let token = before.token(1, 0.7);
    before.load(&[("a", token)]);
    let mut evidence = before.evidence(Cause::WrongEnvironment);
    evidence.app_wide = true;
    before.finish("a", Finished::NotCommitted(evidence));
    let mut memory = before.account("a").memory();
    memory.cause = Some(Cause::WrongEnvironment);
    memory.cause_since = Some(before.now);
    let history = before.account("a").history.clone().expect("it failed");

    let mut after = Bench::new();
    after.tell(Input::Recalled(vec![memory]));
    after.tell(Input::Recounted(vec![(id("a"), History::clone(&history))]));
    after.load(&[("a", token)]);
    assert_eq!(after.account("a").verdict, None);
}

#[test]
fn an_attempt_that_a_dead_account_left_open_ends_without_news() {
    let mut before = Bench::new();
    let token = before.token(1, 0.7);
    before.load(&[("a", token)]);
    before.finish("a", Finished::Dead(before.evidence(Cause::ConsentRevoked)));
    assert_eq!(before.notices().len(), 1);
    let (memories, _) = before.fleet.take_changed();

    let mut after = Bench::new();
    after.tell(Input::Recalled(memories));
    let open = Reopened { id: id("a"), over_at: after.now, unsaved: None };
    after.tell(Input::Reopened(vec![open]));
    after.load(&[("a", token)]);
    assert_eq!(after.started(), ["settle a"]);
    assert_eq!(after.account("a").cause, Some(Cause::ConsentRevoked));
    after.finish("a", Finished::Dead(after.evidence(Cause::RotationLost)));
    after.pass(600);
    assert_eq!(after.started(), [""; 0]);
    assert_eq!(after.account("a").cause, Some(Cause::ConsentRevoked), "known before");
    assert_eq!(after.notices(), vec![], "its owner was told before");
}

#[test]
fn an_unknown_outcome_waits_out_the_deadline_and_is_settled_not_retried() {
    let mut bench = Bench::new();
    let token = bench.token(1, 0.7);
    bench.load(&[("a", token)]);
    let over_at = bench.now.plus(Duration::from_secs(60));
    let evidence = bench.evidence(Cause::ProviderOutage);
    bench.finish("a", Finished::Ambiguous { evidence, over_at });
    bench.pass(59);
    assert_eq!(bench.started(), [""; 0]);
    bench.pass(1);
    assert_eq!(bench.started(), ["settle a"]);
    bench.finish("a", Finished::Dead(bench.evidence(Cause::RotationLost)));
    assert_eq!(bench.account("a").cause, Some(Cause::RotationLost));
}

#[test]
fn an_unsaved_token_is_saved_again_and_again_and_nothing_new_is_spent_meanwhile() {
    let mut bench = Bench::new();
    let (one, other) = (bench.token(1, 0.7), bench.token(5, 0.5));
    bench.load(&[("a", one), ("b", other)]);
    let new = bench.token(2, 0.0);
    bench.finish("a", Finished::Unsaved(new));
    assert_eq!(bench.account("a").cause, Some(Cause::UnsavedToken));
    assert!(bench.fleet.owes_work());
    let mut saves = 0;
    for _ in 0..120 {
        bench.pass(30);
        assert!(!bench.started().contains(&"refresh b".to_owned()), "the store takes nothing");
        if bench.started() == ["save a"] {
            saves += 1;
            bench.finish("a", Finished::Unsaved(new));
        }
    }
    assert!(saves > 50, "{saves} saves in an hour");
    // What the store still holds does not displace what it has not taken.
    bench.load(&[("a", one), ("b", other)]);
    assert_eq!(bench.account("a").token, Some(new));
}

#[test]
fn a_refused_app_stops_after_a_few_requests_blames_no_owner_and_thaws_with_a_new_secret() {
    let mut bench = Bench::new();
    let names: Vec<String> = (0..200).map(|n| format!("brand-{n:03}")).collect();
    let accounts: Vec<_> =
        names.iter().zip(1..).map(|(name, n)| (name.as_str(), bench.token(n, 0.9))).collect();
    bench.load(&accounts);
    let mut refused = 0;
    let mut notices = Vec::new();
    let mut waiting = bench.started();
    for _ in 0..300 {
        for started in std::mem::take(&mut waiting) {
            let mut evidence = bench.evidence(Cause::AppCredentialsRejected);
            evidence.app_wide = true;
            refused += 1;
            bench.finish(started.trim_start_matches("refresh "), Finished::NotCommitted(evidence));
            waiting.extend(bench.started());
            notices.extend(bench.notices());
        }
        bench.pass(1);
        waiting.extend(bench.started());
        notices.extend(bench.notices());
    }
    let in_flight_at_first = Policy::default().in_flight_per_app_max;
    assert!(refused <= in_flight_at_first + 5, "{refused} requests");
    let firing = (
        Subject::App("main".into()),
        Cause::AppCredentialsRejected,
        Change::Firing,
        Audience::Operator,
    );
    assert_eq!(notices, [firing]);

    bench.tell(Input::CredentialsChanged { app: "main".into() });
    assert_eq!(bench.started().len(), 1, "one account goes first");
    let first = bench.started().remove(0);
    let new = bench.token(9_000, 0.0);
    bench.finish(first.trim_start_matches("refresh "), Finished::Renewed(new));
    assert!(bench.notices().iter().any(|(subject, _, change, _)| {
        *subject == Subject::App("main".into()) && *change == Change::Resolved
    }));
    assert_eq!(bench.started().len(), in_flight_at_first, "the rest follows");
}

#[test]
fn a_reported_401_is_asked_about_once_per_margin_and_a_living_token_costs_no_refresh() {
    let mut bench = Bench::new();
    let token = bench.token(1, 0.3);
    bench.load(&[("a", token)]);
    for second in 0..600 {
        bench.tell(Input::Responded { id: id("a"), status: 401, times: 50 });
        let expected: &[&str] = if second == 0 { &["probe a"] } else { &[] };
        assert_eq!(bench.started(), expected, "second {second}");
        if second == 0 {
            bench.tell(Input::Probed { id: id("a"), checked: Checked::Alive });
        }
        bench.pass(1);
    }
    assert_eq!(bench.account("a").responses.unauthorized(), 30_000);
}

#[test]
fn an_account_that_is_well_is_checked_unasked_where_that_is_free_and_never_refreshed_for_it() {
    for (probe, expected) in
        [(Probe::Free, &["probe a"][..]), (Probe::Billed, &[]), (Probe::None, &[])]
    {
        let mut bench = Bench::new();
        let apps = vec![App { probe, ..app("main") }];
        bench.tell(Input::Configured { policy: Policy::default(), apps });
        bench.load(&[("a", bench.token(1, 0.3)), ("b", bench.token(2, 0.3))]);
        bench.tell(Input::Wondered { id: id("nobody") });
        bench.tell(Input::Wondered { id: id("a") });
        assert_eq!(bench.started(), expected, "{probe:?}");
        if probe != Probe::Free {
            continue;
        }
        bench.tell(Input::Probed { id: id("a"), checked: Checked::Alive });
        bench.tell(Input::Wondered { id: id("a") });
        assert_eq!(bench.started(), [""; 0], "it was checked just now");
        assert_eq!(bench.account("a").responses.unauthorized(), 0, "nobody reported anything");
        bench.tell(Input::Wondered { id: id("b") });
        let refused = bench.evidence(Cause::AccessTokenExpired);
        bench.tell(Input::Probed { id: id("b"), checked: Checked::Refused(refused) });
        assert_eq!(bench.started(), ["refresh b"], "what is refused is renewed");
    }
}

#[test]
fn a_401_that_is_reported_while_its_refresh_is_under_way_does_not_buy_another() {
    let mut bench = Bench::new();
    bench.load(&[("a", bench.token(1, 0.3))]);
    bench.tell(Input::Responded { id: id("a"), status: 401, times: 1 });
    let refused = bench.evidence(Cause::AccessTokenExpired);
    bench.tell(Input::Probed { id: id("a"), checked: Checked::Refused(refused) });
    assert_eq!(bench.started(), ["refresh a"]);
    bench.tell(Input::Responded { id: id("a"), status: 401, times: 1 });
    bench.finish("a", Finished::Renewed(bench.token(2, 0.0)));
    assert_eq!(bench.account("a").cause, None);
    for _ in 0..10 {
        bench.pass(6);
        assert_eq!(bench.started(), [""; 0]);
    }
}

#[test]
fn a_401_for_a_missing_scope_never_spends_a_refresh() {
    let mut bench = Bench::new();
    let token = bench.token(1, 0.3);
    bench.load(&[("a", token)]);
    bench.tell(Input::Responded { id: id("a"), status: 401, times: 1 });
    let evidence = bench.evidence(Cause::ScopeMissing);
    bench.tell(Input::Probed { id: id("a"), checked: Checked::Refused(evidence) });
    assert_eq!(bench.account("a").cause, Some(Cause::ScopeMissing));
    bench.tell(Input::Responded { id: id("a"), status: 401, times: 1 });
    assert_eq!(bench.started(), [""; 0]);
}

#[test]
fn an_account_that_left_the_store_is_forgotten_and_its_incident_closed_without_a_mail() {
    let mut bench = Bench::new();
    let (a, b) = (bench.token(1, 0.7), bench.token(2, 0.1));
    bench.load(&[("a", a), ("b", b)]);
    bench.finish("a", Finished::Dead(bench.evidence(Cause::ConsentRevoked)));
    bench.fleet.take_changed();
    bench.load(&[("b", b)]);
    let changes: Vec<Change> = bench.notices().into_iter().map(|notice| notice.2).collect();
    assert_eq!(changes, [Change::Withdrawn]);
    assert_eq!(gone(&mut bench), [id("a")]);
    assert_eq!(bench.fleet.snapshot(bench.now).accounts.len(), 1);
}

#[test]
fn a_restart_remembers_what_is_dead_and_tells_nobody_twice() {
    let mut before = Bench::new();
    let token = before.token(1, 0.7);
    before.load(&[("a", token)]);
    before.finish("a", Finished::Dead(before.evidence(Cause::ConsentRevoked)));
    let (memories, _) = before.fleet.take_changed();

    let mut after = Bench::new();
    after.tell(Input::Recalled(memories));
    after.load(&[("a", token)]);
    assert_eq!((after.started(), after.notices().len()), (vec![], 0));
    assert_eq!(after.account("a").cause, Some(Cause::ConsentRevoked));
}

#[test]
fn an_attempt_that_the_last_run_left_open_is_taken_up_first() {
    let mut bench = Bench::new();
    let (old, new) = (bench.token(1, 0.9), bench.token(2, 0.0));
    let over_at = bench.now.plus(Duration::from_secs(10));
    bench.tell(Input::Reopened(vec![
        Reopened { id: id("unsaved"), unsaved: Some(new), over_at },
        Reopened { id: id("unknown"), unsaved: None, over_at },
    ]));
    bench.load(&[("unknown", old), ("unsaved", old)]);
    assert_eq!(bench.started(), ["save unsaved"]);
    bench.pass(10);
    assert_eq!(bench.started(), ["settle unknown"]);
}

#[test]
fn when_room_is_short_the_earliest_end_goes_first() {
    let mut bench = Bench::with_policy(Policy { in_flight_max: 2, ..Policy::default() });
    let shares = [("late", 0.70), ("earliest", 0.99), ("early", 0.90), ("later", 0.69)];
    let accounts: Vec<_> =
        shares.iter().zip(1..).map(|((name, share), n)| (*name, bench.token(n, *share))).collect();
    bench.load(&accounts);
    assert_eq!(bench.started(), ["refresh earliest", "refresh early"]);
    let new = bench.token(100, 0.0);
    bench.finish("early", Finished::Renewed(new));
    assert_eq!(bench.started(), ["refresh late"]);
}

#[test]
fn while_stopping_nothing_new_begins_but_saving_goes_on() {
    let mut bench = Bench::new();
    let (a, b) = (bench.token(1, 0.7), bench.token(2, 0.5));
    bench.load(&[("a", a), ("b", b)]);
    bench.tell(Input::Stopping);
    bench.pass(3_600);
    assert_eq!(bench.started(), [""; 0]);
    let new = bench.token(3, 0.0);
    bench.finish("a", Finished::Unsaved(new));
    bench.pass(30);
    assert_eq!(bench.started(), ["save a"]);
    bench.finish("a", Finished::Renewed(new));
    assert!(!bench.fleet.owes_work());
}

#[test]
fn trouble_with_the_store_is_the_operators_news_after_a_minute_and_stops_spending_at_once() {
    let mut bench = Bench::new();
    let token = bench.token(1, 0.5);
    bench.load(&[("a", token)]);
    bench.tell(Input::Store { up: false });
    bench.pass(59);
    assert_eq!(bench.notices(), []);
    bench.pass(1);
    let firing = (Subject::Store, Cause::StoreUnreachable, Change::Firing, Audience::Operator);
    assert_eq!(bench.notices(), [firing]);
    bench.pass(3_600);
    assert_eq!(bench.started(), [""; 0], "due, and still nothing is spent");
    bench.tell(Input::Store { up: true });
    assert_eq!(bench.started(), ["refresh a"]);
    assert_eq!(bench.notices().len(), 1, "resolved");
}

#[test]
fn an_app_that_left_the_configuration_does_not_keep_the_fleet_turning() {
    let mut bench = Bench::new();
    let (due, later) = (bench.token(1, 0.7), bench.token(2, 0.5));
    bench.load(&[("a", due), ("b", later)]);
    bench.finish("a", Finished::NotCommitted(bench.evidence(Cause::ProviderOutage)));
    bench.tell(Input::Configured { policy: Policy::default(), apps: vec![app("another")] });
    // Each of these would never return.
    bench.pass(3_600);
    bench.pass(86_400);
    assert_eq!(bench.started(), [""; 0]);
    bench.tell(Input::Configured { policy: Policy::default(), apps: vec![app("main")] });
    assert_eq!(bench.started(), ["refresh a", "refresh b"], "and back again they are kept alive");
}

#[test]
fn a_token_that_waits_for_room_to_be_saved_is_saved_while_stopping() {
    let mut bench = Bench::with_policy(Policy {
        in_flight_max: 1,
        in_flight_per_app_max: 1,
        ..Policy::default()
    });
    let (one, other) = (bench.token(1, 0.8), bench.token(2, 0.5));
    bench.load(&[("a", one), ("b", other)]);
    bench.tell(Input::Reopened(vec![Reopened {
        id: id("c"),
        unsaved: Some(bench.token(3, 0.0)),
        over_at: bench.now,
    }]));
    bench.load(&[("a", one), ("b", other), ("c", other)]);
    assert_eq!(bench.started(), [""; 0], "no room beside a");
    bench.tell(Input::Stopping);
    bench.finish("a", Finished::Renewed(bench.token(4, 0.0)));
    assert_eq!(bench.started(), ["save c"]);
}

#[test]
fn a_refused_app_does_not_hold_up_saving() {
    let mut bench = Bench::new();
    let (one, other) = (bench.token(1, 0.7), bench.token(2, 0.7));
    bench.load(&[("a", one), ("b", other)]);
    bench.finish("b", Finished::Unsaved(bench.token(3, 0.0)));
    let mut evidence = bench.evidence(Cause::AppCredentialsRejected);
    evidence.app_wide = true;
    evidence.retry_after = None;
    for _ in 0..20 {
        bench.finish("a", Finished::NotCommitted(evidence.clone()));
    }
    bench.pass(5);
    assert_eq!(bench.started(), ["save b"], "the app is not asked again for minutes");
}

#[test]
fn one_refresh_answers_a_401_and_another_one_reported_meanwhile() {
    let mut bench = Bench::new();
    let token = bench.token(1, 0.3);
    bench.load(&[("a", token)]);
    bench.tell(Input::Responded { id: id("a"), status: 401, times: 1 });
    let refused = bench.evidence(Cause::AccessTokenExpired);
    bench.tell(Input::Probed { id: id("a"), checked: Checked::Refused(refused) });
    assert_eq!(bench.started(), ["refresh a"]);
    bench.tell(Input::Responded { id: id("a"), status: 401, times: 1 });
    bench.finish("a", Finished::Renewed(bench.token(2, 0.0)));
    for _ in 0..60 {
        bench.pass(10);
        assert_eq!(bench.started(), [""; 0]);
    }
}

#[test]
fn a_reconnect_that_a_pass_found_during_a_call_outlives_what_the_call_said() {
    let dead = |bench: &Bench| Finished::Dead(bench.evidence(Cause::ConsentRevoked));
    let outage = |bench: &Bench| Finished::NotCommitted(bench.evidence(Cause::ProviderOutage));
    let ambiguous = |bench: &Bench| Finished::Ambiguous {
        evidence: bench.evidence(Cause::ProviderOutage),
        over_at: bench.now,
    };
    let blocked = |_: &Bench| Finished::Blocked(Blocked::LeaseHeld);
    let ends: [fn(&Bench) -> Finished; 4] = [dead, outage, ambiguous, blocked];
    for end in ends {
        let mut bench = Bench::new();
        let (old, theirs) = (bench.token(1, 0.7), bench.token(2, 0.0));
        bench.load(&[("a", old)]);
        bench.load(&[("a", theirs)]);
        let result = end(&bench);
        let said = format!("{result:?}");
        bench.finish("a", result);
        // The store says once that it changed, and it has said so.
        assert_eq!(bench.account("a").token, Some(theirs), "{said}");
        assert_eq!((bench.account("a").cause, bench.notices().len()), (None, 0), "{said}");
        assert!(!bench.account("a").in_doubt, "{said}");
        assert!(bench.fleet.passed_over.is_empty(), "{said}");
    }

    let mut bench = Bench::new();
    let (old, theirs) = (bench.token(1, 0.3), bench.token(2, 0.0));
    bench.load(&[("a", old)]);
    bench.tell(Input::Responded { id: id("a"), status: 401, times: 1 });
    assert_eq!(bench.started(), ["probe a"]);
    bench.load(&[("a", theirs)]);
    let revoked = bench.evidence(Cause::ConsentRevoked);
    bench.tell(Input::Probed { id: id("a"), checked: Checked::Refused(revoked) });
    assert_eq!((bench.account("a").token, bench.account("a").cause), (Some(theirs), None));
}

#[test]
fn what_a_pass_found_of_an_unsaved_account_never_displaces_its_token() {
    let mut bench = Bench::new();
    let (old, new) = (bench.token(1, 0.7), bench.token(2, 0.0));
    bench.load(&[("a", old)]);
    bench.finish("a", Finished::Unsaved(new));
    bench.pass(5);
    assert_eq!(bench.started(), ["save a"]);
    bench.load(&[("a", old)]);
    bench.finish("a", Finished::Blocked(Blocked::StoreDown));
    assert_eq!(bench.account("a").token, Some(new));
    assert!(bench.account("a").unsaved);
}

#[test]
fn a_verdict_about_a_token_that_was_to_be_saved_leaves_nothing_owed() {
    let ends: [fn(Evidence) -> Finished; 2] = [Finished::Dead, Finished::WrongAccount];
    for end in ends {
        let mut bench = Bench::new();
        let (old, new) = (bench.token(1, 0.7), bench.token(2, 0.0));
        bench.load(&[("a", old)]);
        bench.finish("a", Finished::Unsaved(new));
        bench.pass(5);
        bench.finish("a", end(bench.evidence(Cause::WrongEnvironment)));
        assert!(!bench.fleet.owes_work());
        for _ in 0..10 {
            bench.pass(600);
            assert_eq!(bench.started(), [""; 0]);
        }
        bench.load(&[]);
        assert_eq!(bench.fleet.snapshot(bench.now).unsaved, 0);
    }
}

#[test]
fn a_row_that_lost_its_token_stays_in_sight() {
    let mut bench = Bench::new();
    let token = bench.token(1, 0.7);
    bench.load(&[("a", token)]);
    bench.finish("a", Finished::NoToken);
    assert_eq!(bench.account("a").token, None);
    assert_eq!(bench.account("a").cause, Some(Cause::NotRenewable));
}

#[test]
fn a_scope_that_the_app_requires_from_now_on_is_found_missing_and_one_that_it_does_not_is_not() {
    let with_scopes = |scopes: &[&str]| {
        let scopes = scopes.iter().map(|scope| Arc::from(*scope)).collect();
        Input::Configured { policy: Policy::default(), apps: vec![App { scopes, ..app("main") }] }
    };
    let mut bench = Bench::new();
    let complete = bench.token(1, 0.1);
    let lacking = TokenFacts { missing_scopes: 0b10, ..complete };
    bench.load(&[("a", complete)]);
    bench.tell(with_scopes(&["video.publish", "user.info.stats"]));
    bench.load(&[("a", lacking)]);
    assert_eq!(bench.account("a").cause, Some(Cause::ScopeMissing));
    bench.tell(with_scopes(&["video.publish"]));
    bench.load(&[("a", complete)]);
    assert_eq!(bench.account("a").cause, None);
}

#[test]
fn a_restart_writes_down_only_what_is_not_remembered_already() {
    let mut before = Bench::new();
    let (a, b) = (before.token(1, 0.1), before.token(2, 0.1));
    before.load(&[("a", a)]);
    let (memories, _) = before.fleet.take_changed();

    let mut after = Bench::new();
    after.tell(Input::Recalled(memories));
    after.load(&[("a", a), ("b", b)]);
    let (memories, forgotten) = after.fleet.take_changed();
    let ids: Vec<AccountId> = memories.into_iter().map(|memory| memory.id).collect();
    assert_eq!((ids, forgotten), (vec![id("b")], vec![]));
}

#[test]
fn an_account_of_the_fleet_is_small_enough_for_a_million() {
    let bytes = size_of::<Account>();
    assert!(bytes <= 256, "{bytes} bytes");
}

#[test]
fn a_success_that_was_sent_before_the_refusal_does_not_thaw_the_app() {
    let mut bench = Bench::with_policy(Policy { app_refusals_max: 1, ..Policy::default() });
    let (a, b, new) = (bench.token(1, 0.9), bench.token(2, 0.9), bench.token(3, 0.0));
    bench.load(&[("a", a), ("b", b)]);
    assert_eq!(bench.started().len(), 2);
    let mut refusal = bench.evidence(Cause::AppCredentialsRejected);
    refusal.app_wide = true;
    bench.finish("a", Finished::NotCommitted(refusal));
    bench.finish("b", Finished::Renewed(new));
    assert!(bench.fleet.apps.frozen("main").is_some(), "the answer to b is older than the refusal");
    bench.pass(60);
    assert_eq!(bench.started(), ["refresh a"], "the one that tries it");
    bench.finish("a", Finished::Renewed(new));
    assert!(bench.fleet.apps.frozen("main").is_none());
}

#[test]
fn an_app_for_which_nobody_waits_does_not_stay_frozen() {
    let mut bench = Bench::with_policy(Policy { app_refusals_max: 1, ..Policy::default() });
    let (a, b) = (bench.token(1, 0.9), bench.token(2, 0.1));
    bench.load(&[("a", a), ("b", b)]);
    let mut refusal = bench.evidence(Cause::AppCredentialsRejected);
    refusal.app_wide = true;
    bench.finish("a", Finished::NotCommitted(refusal));
    assert_eq!(bench.account("b").cause, Some(Cause::AppCredentialsRejected));
    // The one account that was refused leaves; the other is due in an hour.
    bench.load(&[("b", b)]);
    bench.pass(60);
    assert_eq!(bench.account("b").cause, None);
}

#[test]
fn what_nobody_here_waits_for_is_over_for_people_when_the_provider_says_so() {
    let mut bench = Bench::with_policy(Policy { app_refusals_max: 1, ..Policy::default() });
    let elsewhere = [Shares::of(&id("c"))].into_iter().collect();
    bench.tell(Input::Holding { shares: Shares::ALL.without(elsewhere), until: None });
    let (a, b) = (bench.token(1, 0.9), bench.token(2, 0.1));
    bench.load(&[("a", a), ("b", b)]);
    let of_app = |change| {
        let subject = Subject::App("main".into());
        (subject, Cause::AppCredentialsRejected, change, Audience::Operator)
    };
    let result = refusal(&bench);
    bench.finish("a", result);
    assert_eq!(bench.notices(), [of_app(Change::Firing)]);
    // The one account that waits goes to another replica, which has one of its own that waits.
    bench.load(&[("b", b)]);
    let mut told = bench.notices();
    for _ in 0..600 {
        bench.pass(60);
        told.extend(bench.notices());
        if bench.started() == ["refresh b"] {
            break;
        }
    }
    assert_eq!((bench.account("b").cause, told), (None, vec![]));
    let new = bench.token(3, 0.0);
    bench.finish("b", Finished::Renewed(new));
    assert_eq!(bench.notices(), [of_app(Change::Resolved)]);
}

#[test]
fn whoever_told_of_an_app_tells_its_end_whatever_another_replica_heard_meanwhile() {
    let mut bench = Bench::with_policy(Policy { app_refusals_max: 2, ..Policy::default() });
    let a = bench.token(1, 0.9);
    bench.load(&[("a", a)]);
    let mut told = Vec::new();
    while told.is_empty() {
        if bench.started() == ["refresh a"] {
            let result = refusal(&bench);
            bench.finish("a", result);
            told = bench.notices();
        } else {
            bench.pass(1);
        }
    }
    // The other one was refused once and had not read that the app is frozen.
    let mut theirs = bench.fleet.take_changed_apps().remove(0);
    bench.pass(1);
    (theirs.refusals, theirs.frozen, theirs.changed_at) = (1, None, Some(bench.now));
    bench.tell(Input::AppsRecalled(vec![theirs]));
    assert!(bench.fleet.apps.frozen("main").is_some());
    while bench.started().is_empty() {
        bench.pass(1);
    }
    let new = bench.token(2, 0.0);
    bench.finish("a", Finished::Renewed(new));
    let told: Vec<_> =
        told.into_iter().chain(bench.notices()).map(|(_, _, change, _)| change).collect();
    assert_eq!(told, [Change::Firing, Change::Resolved]);
}

fn refusal(bench: &Bench) -> Finished {
    let mut evidence = bench.evidence(Cause::AppCredentialsRejected);
    evidence.app_wide = true;
    Finished::NotCommitted(evidence)
}

#[test]
fn an_app_is_not_released_between_two_tries_of_one_account_that_waits_for_something_of_its_own() {
    let mut bench = Bench::new();
    let a = bench.token(1, 0.9);
    bench.load(&[("a", a)]);
    let (mut refused, mut frozen) = (0, 0);
    for _ in 0..600 {
        if !bench.started().is_empty() {
            // The request before was refused, and its entry says that it may still be on its way.
            if refused % 2 == 0 {
                let result = refusal(&bench);
                bench.finish("a", result);
            } else {
                let evidence = bench.evidence(Cause::ProviderOutage);
                let over_at = bench.now.plus(Duration::from_secs(10));
                bench.finish("a", Finished::Ambiguous { evidence, over_at });
            }
            refused += 1;
        }
        frozen += usize::from(bench.fleet.apps.frozen("main").is_some());
        bench.pass(1);
        let wakeup = bench.fleet.next_wakeup();
        assert!(wakeup.is_none_or(|at| at > bench.now), "it would be asked again and again");
    }
    assert!(frozen > 100, "it was never left alone: {refused} tries");
    assert!(refused <= 12, "{refused} tries in ten minutes");
}

#[test]
fn what_a_provider_said_of_an_app_is_known_after_a_restart() {
    let mut before = Bench::new();
    let (a, b) = (before.token(1, 0.9), before.token(2, 0.9));
    before.load(&[("a", a), ("b", b)]);
    let mut limited = before.evidence(Cause::RateLimited);
    (limited.app_wide, limited.retry_after) = (true, Some(Duration::from_secs(600)));
    before.finish("a", Finished::NotCommitted(limited));
    let known = before.fleet.take_changed_apps();
    assert_eq!(before.fleet.take_changed_apps(), []);

    let mut after = Bench::new();
    after.now = before.now.plus(Duration::from_secs(5));
    after.tell(Input::AppsRecalled(known));
    after.load(&[("a", a), ("b", b)]);
    assert_eq!(after.started(), Vec::<String>::new(), "it was asked to wait");
    after.pass(600);
    assert_eq!(after.started().len(), 2);
}

#[test]
fn a_refused_app_is_tried_once_after_a_restart_and_tells_nobody_twice() {
    let policy = Policy { app_refusals_max: 1, ..Policy::default() };
    let mut before = Bench::with_policy(policy);
    let accounts = [("a", before.token(1, 0.9)), ("b", before.token(2, 0.9))];
    before.load(&accounts);
    let result = refusal(&before);
    before.finish("a", result);
    assert_eq!(before.notices().len(), 1);
    let known = before.fleet.take_changed_apps();

    let mut after = Bench::with_policy(policy);
    after.tell(Input::AppsRecalled(known.clone()));
    after.load(&accounts);
    assert_eq!(after.started().len(), 1, "whoever mended it wants to see that");
    let name = after.started()[0].trim_start_matches("refresh ").to_owned();
    let result = refusal(&after);
    after.finish(&name, result);
    assert_eq!((after.notices(), after.started()), (vec![], vec![]));

    // Another replica, which runs, learns of it and leaves the app alone too.
    let mut beside = Bench::with_policy(policy);
    beside.tell(Input::AppsRecalled(vec![]));
    beside.load(&[]);
    beside.pass(1);
    beside.tell(Input::AppsRecalled(known));
    beside.load(&accounts);
    assert_eq!(beside.started(), Vec::<String>::new());
    assert!(beside.fleet.apps.frozen("main").is_some());
}

#[test]
fn what_another_replica_heard_earlier_says_nothing_about_an_app_that_was_accepted_since() {
    let mut bench = Bench::with_policy(Policy { app_refusals_max: 1, ..Policy::default() });
    let (a, new) = (bench.token(1, 0.9), bench.token(3, 0.0));
    bench.load(&[("a", a)]);
    let result = refusal(&bench);
    bench.finish("a", result);
    let old = bench.fleet.take_changed_apps();
    bench.pass(60);
    bench.finish("a", Finished::Renewed(new));
    assert_eq!(bench.fleet.take_changed_apps()[0].refusals, 0);
    bench.tell(Input::AppsRecalled(old));
    assert!(bench.fleet.apps.frozen("main").is_none());
}

/// Plays `seconds` with a store that answers whenever it is looked at; the rows for which `takes` says no
/// refuse every token. Answers how many tokens were spent, and how many were saved.
fn play_saves(bench: &mut Bench, seconds: u64, takes: impl Fn(&str) -> bool) -> (usize, usize) {
    let (mut spent, mut saved) = (0, 0);
    let mut number = 1_000;
    for second in 0..seconds {
        let mut started = bench.started();
        while let Some(one) = started.pop() {
            let (what, name) = one.split_once(' ').unwrap();
            spent += usize::from(what == "refresh");
            number += 1;
            let new = match bench.account(name).token {
                Some(known) if what == "save" => known,
                _ => bench.token(number, 0.0),
            };
            saved += usize::from(takes(name));
            let result = if takes(name) { Finished::Renewed(new) } else { Finished::Unsaved(new) };
            bench.finish(name, result);
            started.extend(bench.started());
        }
        // The keeper looks every other second while it is in trouble.
        match second % 2 {
            0 if !bench.fleet.store.is_well() => bench.tell(Input::Store { up: true }),
            _ => bench.pass(1),
        }
    }
    (spent, saved)
}

#[test]
fn a_store_that_answers_and_takes_no_token_stops_spending() {
    let mut bench = Bench::with_policy(Policy { in_flight_max: 1, ..Policy::default() });
    let names: Vec<String> = (0..300).map(|number| format!("account-{number:03}")).collect();
    bench.load_each(&names, 0.9);
    let (spent, _) = play_saves(&mut bench, 60, |_| false);
    assert_eq!(spent, 3, "then it was clear that it is not about single rows");
    assert!(!bench.fleet.snapshot(bench.now).store_up);
    let (spent, _) = play_saves(&mut bench, 1_200, |_| false);
    assert!(
        (5..=10).contains(&spent),
        "{spent} in ten minutes: one a minute, to see whether it does"
    );
    // It takes tokens again.
    let (spent, saved) = play_saves(&mut bench, 1_200, |_| true);
    assert_eq!(saved, 300);
    assert!(spent > 280, "{spent}");
    assert!(bench.fleet.snapshot(bench.now).store_up);
}

#[test]
fn three_rows_that_refuse_their_tokens_do_not_stop_the_others() {
    let mut bench = Bench::with_policy(Policy { in_flight_max: 1, ..Policy::default() });
    let names: Vec<String> = (0..300).map(|number| format!("account-{number:03}")).collect();
    bench.load_each(&names, 0.9);
    // The worst order: they are the first.
    let takes = |name: &str| !["account-000", "account-001", "account-002"].contains(&name);
    let (_, saved) = play_saves(&mut bench, 400, takes);
    assert_eq!(saved, 297);
    let (spent, _) = play_saves(&mut bench, 400, takes);
    assert_eq!(spent, 0);
    let shot = bench.fleet.snapshot(bench.now);
    assert_eq!((shot.unsaved, shot.store_up), (3, true));
}

/// One account after a refresh from token 1 to token 2.
fn renewed_once() -> (Bench, TokenFacts, TokenFacts) {
    let mut bench = Bench::new();
    let (old, new) = (bench.token(1, 0.9), bench.token(2, 0.0));
    bench.load(&[("a", old)]);
    bench.finish("a", Finished::Renewed(new));
    (bench, old, new)
}

#[test]
fn a_spent_token_that_is_written_back_is_replaced_at_once_and_is_no_news() {
    let (mut bench, old, new) = renewed_once();
    bench.pass(5);
    bench.load(&[("a", old)]);
    assert_eq!(bench.started(), ["save a"]);
    assert!(bench.reports(|event| matches!(event, Event::Adopted { .. })).is_empty());
    bench.finish("a", Finished::Restored(new));
    assert_eq!(bench.started(), [""; 0]);
    assert_eq!(bench.account("a").token, Some(new));
    // Before the store was read again it is well, and after that too.
    bench.load(&[("a", new)]);
    assert_eq!(bench.started(), [""; 0]);
    assert!(!bench.account("a").written_back);
}

#[test]
fn who_writes_a_spent_token_back_for_ever_is_answered_once_a_minute_and_reported() {
    let (mut bench, old, new) = renewed_once();
    let (mut restored, mut told) = (0, 0);
    for _ in 0..600 {
        bench.pass(1);
        if bench.account("a").busy == Busy::Idle {
            bench.load(&[("a", old)]);
        }
        if bench.account("a").busy == Busy::Saving {
            restored += 1;
            bench.finish("a", Finished::Restored(new));
            told += bench.reports(|event| matches!(event, Event::WrittenBack { .. })).len();
        }
    }
    assert!((9..=11).contains(&restored), "{restored} in ten minutes");
    assert_eq!(told, restored - 2);
}

#[test]
fn what_only_looks_like_a_spent_token_is_somebodys_news() {
    let (mut bench, old, new) = renewed_once();
    // The publisher changed the access token's column.
    let theirs = TokenFacts { token: Fingerprint::from_hash(9), ..new };
    bench.load(&[("a", theirs)]);
    assert_eq!(bench.account("a").token, Some(theirs));
    // Its owner reconnected it.
    let consent = bench.token(7, 0.0);
    bench.load(&[("a", consent)]);
    assert_eq!(bench.account("a").token, Some(consent));
    // The store's own record says that it was not spent after all.
    bench.finish("a", Finished::Adopted(old));
    assert_eq!(bench.account("a").token, Some(old));

    // The provider hands the same refresh token out again: nothing is spent.
    let mut bench = Bench::new();
    let old = bench.token(1, 0.9);
    let new = TokenFacts { renewable_by: old.renewable_by, ..bench.token(2, 0.0) };
    bench.load(&[("a", old)]);
    bench.finish("a", Finished::Renewed(new));
    bench.load(&[("a", old)]);
    assert_eq!(bench.started(), ["refresh a"]);
}

#[test]
fn a_spent_token_does_not_heal_an_account_that_needs_its_owner() {
    let (mut bench, old, new) = renewed_once();
    bench.pass(LIFE.as_secs());
    assert_eq!(bench.started(), ["refresh a"]);
    // Seen while the request is on the wire, and after it.
    bench.load(&[("a", old)]);
    bench.finish("a", Finished::Dead(bench.evidence(Cause::RefreshTokenRejected)));
    bench.load(&[("a", old)]);
    assert_eq!(bench.started(), [""; 0]);
    assert_eq!(bench.account("a").cause, Some(Cause::RefreshTokenRejected));
    let consent = bench.token(7, 0.0);
    bench.load(&[("a", consent)]);
    assert_eq!(bench.account("a").cause, None);
    assert_ne!(Some(new), bench.account("a").token);
}

#[test]
fn what_the_last_run_left_in_the_journal_is_told_of_when_its_first_save_fails() {
    for fails in [false, true] {
        let mut bench = Bench::new();
        let (old, new) = (bench.token(1, 0.9), bench.token(2, 0.0));
        let over_at = bench.now;
        bench.tell(Input::Reopened(vec![Reopened { id: id("a"), unsaved: Some(new), over_at }]));
        bench.load(&[("a", old)]);
        assert_eq!(bench.started(), ["save a"]);
        assert_eq!(bench.notices(), vec![]);
        bench.finish(
            "a",
            if fails { Finished::Blocked(Blocked::StateDown) } else { Finished::Renewed(new) },
        );
        let told: Vec<Cause> = bench.notices().into_iter().map(|(_, cause, ..)| cause).collect();
        assert_eq!(told, if fails { vec![Cause::UnsavedToken] } else { vec![] });
    }
}

#[test]
fn of_a_whole_fleet_at_most_five_are_refused_whatever_the_order_of_the_answers() {
    let rows = [
        ("at once, as set by default", Policy::default(), false),
        ("one after the other", Policy { in_flight_per_app_max: 1, ..Policy::default() }, false),
        (
            "many at once, nothing proven",
            Policy { in_flight_per_app_max: 40, ..Policy::default() },
            false,
        ),
        ("at once, after a success", Policy::default(), true),
        ("never frozen", Policy { app_refusals_max: 1_000, ..Policy::default() }, false),
    ];
    for (sentence, policy, proven) in rows {
        let mut bench = Bench::with_policy(policy);
        let names: Vec<String> = (0..40).map(|number| format!("account-{number:02}")).collect();
        bench.load_each(&names, 0.8);
        let mut waiting: VecDeque<String> = bench.started().into();
        if proven {
            let first = waiting.pop_front().unwrap();
            let new = bench.token(2, 0.0);
            bench.finish(first.trim_start_matches("refresh "), Finished::Renewed(new));
            waiting.extend(bench.started());
        }
        let (mut refused, mut mails) = (0, Vec::new());
        let end = bench.now.plus(policy.backoff_max).minus(Duration::from_secs(1));
        while bench.now < end {
            if let Some(one) = waiting.pop_back() {
                let mut evidence = bench.evidence(Cause::AppCredentialsRejected);
                evidence.app_wide = true;
                refused += 1;
                bench.finish(one.trim_start_matches("refresh "), Finished::NotCommitted(evidence));
            } else {
                bench.pass(1);
            }
            mails.extend(bench.notices());
            waiting.extend(bench.started());
        }
        assert!((1..=5).contains(&refused), "{sentence}: {refused}");
        let frozen = policy.app_refusals_max <= 5;
        assert_eq!(mails.len(), usize::from(frozen), "{sentence}: {mails:?}");
        // And it thaws with its secret.
        bench.tell(Input::CredentialsChanged { app: "main".into() });
        let tries = bench.started();
        assert_eq!(tries.len(), 1, "{sentence}");
        let new = bench.token(3, 0.0);
        bench.finish(tries[0].trim_start_matches("refresh "), Finished::Renewed(new));
        assert!(!bench.started().is_empty(), "{sentence}");
    }
}

#[test]
fn a_provider_that_asks_the_app_to_wait_is_not_asked_account_after_account() {
    for (asked, waits) in [(1, 1), (100, 100), (7_000, 7_000), (10 * 365 * 86_400, 86_400)] {
        let mut bench =
            Bench::with_policy(Policy { in_flight_per_app_max: 1, ..Policy::default() });
        let due = TokenFacts { expires_at: None, ..bench.token(1, 0.8) };
        bench.load(&[("a", due), ("b", due), ("c", due)]);
        assert_eq!(bench.started(), ["refresh a"]);
        let mut evidence = bench.evidence(Cause::RateLimited);
        evidence.retry_after = Some(Duration::from_secs(asked));
        evidence.app_wide = true;
        bench.finish("a", Finished::NotCommitted(evidence));
        assert_eq!(bench.started(), [""; 0], "asked for {asked} s");
        assert_eq!(bench.notices(), vec![]);
        if waits > 1 {
            bench.pass(waits - 1);
            assert_eq!(bench.started(), [""; 0], "asked for {asked} s: too early");
        }
        assert_eq!(bench.fleet.next_wakeup(), Some(bench.now.plus(Duration::from_secs(1))));
        bench.pass(1);
        assert_eq!(bench.started().len(), 1, "asked for {asked} s");
    }
    // About one account only: the others go on.
    let mut bench = Bench::with_policy(Policy { in_flight_per_app_max: 1, ..Policy::default() });
    let due = bench.token(1, 0.8);
    bench.load(&[("a", due), ("b", due)]);
    let mut evidence = bench.evidence(Cause::RateLimited);
    evidence.retry_after = Some(Duration::from_secs(100));
    bench.finish("a", Finished::NotCommitted(evidence));
    assert_eq!(bench.started(), ["refresh b"]);
}

/// A pass that finds `accounts` and cannot read the rows of `unreadable`.
fn load_with_unreadable(bench: &mut Bench, accounts: &[(&str, TokenFacts)], unreadable: &[&str]) {
    bench.fleet.handle(bench.now, Input::LoadBegan);
    let seen = |(name, token): &(&str, TokenFacts)| Seen {
        id: id(name),
        app: "main".into(),
        token: Some(*token),
    };
    bench.fleet.handle(bench.now, Input::Seen(accounts.iter().map(seen).collect()));
    let unreadable: Vec<AccountId> = unreadable.iter().map(|name| id(name)).collect();
    let damaged = unreadable.len();
    bench.fleet.handle(bench.now, Input::Unreadable(unreadable));
    bench.tell(Input::LoadEnded { damaged });
}

#[test]
fn an_account_whose_row_cannot_be_read_has_not_left() {
    let mut bench = Bench::new();
    let (a, b) = (bench.token(1, 0.1), bench.token(2, 0.1));
    bench.load(&[("a", a), ("b", b)]);
    bench.tell(Input::Finished {
        id: id("a"),
        result: Finished::Dead(bench.evidence(Cause::RefreshTokenRejected)),
    });
    assert_eq!(bench.notices().len(), 1);
    bench.fleet.take_changed();
    load_with_unreadable(&mut bench, &[("b", b)], &["a", "never-seen"]);
    assert_eq!(bench.notices(), vec![], "its incident is not withdrawn");
    assert_eq!(bench.account("a").cause, Some(Cause::RefreshTokenRejected));
    let (memories, forgotten) = bench.fleet.take_changed();
    assert_eq!((memories.len(), forgotten.len()), (0, 0));
    // It is really gone when nothing of it is found any more.
    bench.load(&[("b", b)]);
    assert!(bench.fleet.table.find(&id("a")).is_none());
}

#[test]
fn what_is_remembered_of_an_account_waits_until_its_row_can_be_read() {
    let mut before = Bench::new();
    let a = before.token(1, 0.1);
    before.load(&[("a", a)]);
    before.finish("a", Finished::Dead(before.evidence(Cause::RefreshTokenRejected)));
    let (memories, _) = before.fleet.take_changed();

    let mut after = Bench::new();
    after.tell(Input::Recalled(memories));
    for _ in 0..3 {
        load_with_unreadable(&mut after, &[], &["a"]);
        assert_eq!(after.notices(), vec![]);
        assert_eq!(after.fleet.take_changed().1, vec![]);
    }
    after.load(&[("a", a)]);
    assert_eq!(after.notices(), vec![], "its owner was told before");
    assert_eq!(after.account("a").cause, Some(Cause::RefreshTokenRejected));

    let mut later = Bench::new();
    later.tell(Input::Recalled(vec![after.account("a").memory()]));
    load_with_unreadable(&mut later, &[], &["a"]);
    later.load(&[]);
    assert_eq!(gone(&mut later), [id("a")]);
}

fn gone(bench: &mut Bench) -> Vec<AccountId> {
    bench.fleet.take_changed().1.into_iter().map(|farewell| farewell.id).collect()
}

#[test]
fn a_row_that_cannot_be_read_is_no_trouble_of_the_store() {
    let mut bench = Bench::new();
    let due = bench.token(1, 0.9);
    bench.load(&[("a", due)]);
    assert_eq!(bench.started(), ["refresh a"]);
    bench.finish("a", Finished::Blocked(Blocked::RowDamaged));
    assert!(bench.fleet.snapshot(bench.now).store_up);
    bench.pass(20);
    assert_eq!(bench.started(), [""; 0], "a person must mend it");
}

#[test]
fn requests_are_counted_as_they_were_sent_whatever_came_of_them() {
    let mut bench = Bench::new();
    let (a, b) = (bench.token(1, 0.9), bench.token(2, 0.9));
    bench.load(&[("a", a), ("b", b)]);
    bench.tell(Input::Requested(vec![id("a"), id("b"), id("a"), id("gone")]));
    bench.finish("a", Finished::Adopted(bench.token(3, 0.0)));
    bench.finish("b", Finished::Unsaved(bench.token(4, 0.0)));
    bench.finish("b", Finished::Renewed(bench.token(4, 0.0)));
    let counted = ["a", "b"].map(|name| bench.account(name).refresh_attempts);
    assert_eq!(counted, [2, 1], "neither an adopted token nor a replay is a request");
}

#[test]
fn an_unsaved_token_of_an_account_that_nobody_keeps_any_more_is_saved_once_more() {
    let mut bench = Bench::new();
    let (due, new) = (bench.token(1, 0.9), bench.token(2, 0.0));
    bench.load(&[("a", due)]);
    bench.finish("a", Finished::Unsaved(new));
    // Its app left the configuration, so that no pass brings it any more.
    bench.load(&[]);
    assert_eq!(bench.started(), ["save a"]);
    assert!(bench.fleet.owes_work());
    bench.finish("a", Finished::Gone);
    assert!(!bench.fleet.owes_work());
    bench.load(&[]);
    assert_eq!(bench.started(), [""; 0]);

    // The same after a restart.
    let mut bench = Bench::new();
    let over_at = bench.now;
    bench.tell(Input::Reopened(vec![Reopened { id: id("a"), unsaved: Some(new), over_at }]));
    bench.load(&[]);
    assert_eq!(bench.started(), ["save a"]);
    bench.finish("a", Finished::Gone);
    bench.load(&[]);
    assert_eq!(bench.started(), [""; 0]);
}
