//! Sentences about accounts that are refused one after the other.

use super::super::{
    Asked, Finished, Input,
    tests::{Bench, app, id},
};
use super::*;
use crate::core::{
    TokenFacts,
    decide::App,
    notices::{Audience, Change, Subject},
    schedule::Policy,
};

/// A fleet of due accounts of one app, what it started that has no end yet, and who was told since last asked.
struct Story {
    bench: Bench,
    waiting: Vec<String>,
    told: Vec<(Audience, Change, Cause)>,
}

const FIRING: (Audience, Change, Cause) =
    (Audience::Operator, Change::Firing, Cause::AppCredentialsRejected);

impl Story {
    fn of(accounts: usize, can_be_asked: bool) -> Self {
        let mut bench = Bench::new();
        let app = App { can_be_asked, ..app("main") };
        bench.tell(Input::Configured { policy: Policy::default(), apps: vec![app] });
        let names: Vec<String> = (0..accounts).map(|number| format!("brand-{number:03}")).collect();
        let due: Vec<_> =
            names.iter().zip(1..).map(|(name, n)| (name.as_str(), bench.token(n, 0.9))).collect();
        bench.load(&due);
        let mut story = Self { bench, waiting: Vec::new(), told: Vec::new() };
        story.gather();
        story
    }

    fn gather(&mut self) {
        self.waiting.extend(self.bench.started());
        let notices = self.bench.notices().into_iter();
        self.told.extend(notices.map(|(_, cause, change, audience)| (audience, change, cause)));
    }

    fn finish(&mut self, account: &str, result: Finished) {
        self.bench.finish(account, result);
        self.gather();
    }

    fn pass(&mut self, seconds: u64) {
        self.bench.pass(seconds);
        self.gather();
    }

    fn answer(&mut self, asked: Asked) {
        self.bench.tell(Input::AppAsked { app: "main".into(), asked });
        self.gather();
    }

    /// Refuses every token that is presented, and answers every question well, until nothing more comes. Tells
    /// whose tokens those were, and how often it was asked about the app.
    fn refuse_all(&mut self) -> (Vec<String>, usize) {
        let (mut refused, mut asked) = (Vec::new(), 0);
        while !self.waiting.is_empty() {
            let what = self.waiting.remove(0);
            match what.strip_prefix("refresh ") {
                Some(account) => {
                    let dead = self.bench.evidence(Cause::RefreshTokenRejected);
                    self.finish(account, Finished::Dead(dead));
                    refused.push(account.to_owned());
                }
                None => {
                    asked += 1;
                    self.answer(Asked::Accepted);
                }
            }
        }
        (refused, asked)
    }

    fn told(&mut self) -> Vec<(Audience, Change, Cause)> {
        std::mem::take(&mut self.told)
    }

    fn doubted(&self) -> bool {
        self.bench.fleet.apps.is_doubted("main")
    }
}

#[test]
fn when_all_are_refused_at_once_the_operator_hears_of_it_and_no_owner_does() {
    for can_be_asked in [false, true] {
        let mut story = Story::of(200, can_be_asked);
        let (refused, asked) = story.refuse_all();
        assert!(refused.len() <= 20, "{} tokens were given up", refused.len());
        assert_eq!(asked, usize::from(can_be_asked), "whatever is said of the app itself");
        assert_eq!(story.told(), [FIRING]);
        assert_eq!(story.bench.fleet.apps.frozen("main"), Some(Cause::AppCredentialsRejected));
    }
}

#[test]
fn one_token_now_and_then_is_tried_and_the_first_that_is_renewed_ends_the_doubt() {
    let mut story = Story::of(200, true);
    let refused = story.refuse_all().0.len();
    assert_eq!(story.told(), [FIRING]);
    let mut tried = 0;
    for _ in 0..3_600 {
        story.pass(1);
        assert!(story.waiting.len() <= 1, "{:?}", story.waiting);
        let (next, asked) = story.refuse_all();
        assert_eq!(asked, 0, "what is said of the app is known");
        tried += next.len();
    }
    assert!((2..10).contains(&tried), "{tried} in an hour");
    assert_eq!(story.told(), [], "told once");

    while story.waiting.is_empty() {
        story.pass(1);
    }
    let next = story.waiting.remove(0);
    let new = story.bench.token(9_000, 0.0);
    story.finish(next.trim_start_matches("refresh "), Finished::Renewed(new));
    assert!(story.waiting.len() > 1, "the rest goes on");
    let told = story.told();
    assert_eq!(told[0], (Audience::Operator, Change::Resolved, Cause::AppCredentialsRejected));
    let owner = (Audience::Owner, Change::Firing, Cause::RefreshTokenRejected);
    let owners = told.iter().filter(|one| **one == owner).count();
    assert_eq!(owners, refused + tried, "now it was not the app");
}

#[test]
fn owners_hear_of_it_in_the_end_although_nobody_mended_anything() {
    let mut story = Story::of(6, false);
    assert_eq!(story.refuse_all().0.len(), 6);
    assert_eq!(story.told(), [FIRING]);
    story.pass(4 * 3_600 - 1);
    assert_eq!(story.told(), []);
    story.pass(1);
    assert_eq!(story.told().len(), 6);
}

#[test]
fn a_few_are_told_although_others_are_under_way_beside_them() {
    let mut story = Story::of(4, false);
    let first = story.waiting.remove(0);
    let dead = Finished::Dead(story.bench.evidence(Cause::RefreshTokenRejected));
    story.finish(first.trim_start_matches("refresh "), dead);
    assert_eq!(story.told(), [], "the others may be refused as well");
    story.pass(60);
    assert_eq!(story.told().len(), 1);
    story.refuse_all();
    story.pass(60);
    assert_eq!(story.told().len(), 3);
    assert!(!story.doubted());
}

#[test]
fn whoever_connects_a_refused_account_anew_ends_the_doubt() {
    let mut story = Story::of(6, false);
    let (refused, _) = story.refuse_all();
    story.pass(1);
    story.told();
    let new = story.bench.token(9_000, 0.0);
    let of = |name: &String| story.bench.account(name).token.expect("it has one");
    let mut rows: Vec<(&str, TokenFacts)> =
        refused.iter().map(|name| (name.as_str(), of(name))).collect();
    rows[0].1 = new;
    story.bench.load(&rows);
    story.gather();
    assert!(!story.doubted());
    let told = story.told();
    assert_eq!(told[0].1, Change::Resolved);
    assert_eq!(told.len(), 6, "the five others hear of it now: {told:?}");
}

#[test]
fn another_replica_and_the_next_start_doubt_it_too() {
    let mut before = Story::of(200, true);
    before.refuse_all();
    let memories = before.bench.fleet.take_changed_apps();
    let mut after = Story::of(0, true);
    after.bench.tell(Input::AppsRecalled(memories));
    assert!(after.doubted());
    let a = after.bench.token(1, 0.9);
    after.bench.load(&[("a", a)]);
    after.gather();
    assert_eq!(after.waiting, ["refresh a"], "and nobody is asked with a token that is nobody's");
    after.refuse_all();
    let subjects = after.bench.notices().into_iter().map(|(subject, ..)| subject);
    assert!(!subjects.into_iter().any(|subject| subject == Subject::Account(id("a"))));
    assert_eq!(after.told(), []);
}

/// As at the first start over an old store: those that ended long ago go first, and may be dead for years.
#[test]
fn accounts_that_had_ended_before_do_not_speak_against_their_app() {
    let mut story = Story::of(0, false);
    let names: Vec<String> = (0..40).map(|number| format!("brand-{number:03}")).collect();
    let ended: Vec<_> =
        names.iter().zip(1..).map(|(name, n)| (name.as_str(), story.bench.token(n, 9.0))).collect();
    story.bench.load(&ended);
    story.gather();
    assert_eq!(story.refuse_all().0.len(), 40);
    assert!(!story.doubted());
    story.pass(60);
    assert!(story.told().iter().all(|(audience, ..)| *audience == Audience::Owner));
}

#[test]
fn an_app_in_doubt_is_tried_with_the_token_that_lives_longest() {
    let mut story = Story::of(6, false);
    let tokens: Vec<_> =
        (0..6).map(|number| story.bench.token(50 + number, 0.95 - 0.01 * number as f64)).collect();
    story.refuse_all();
    assert!(story.doubted());
    let names: Vec<String> = (0..6).map(|number| format!("late-{number}")).collect();
    let rows: Vec<_> = names.iter().map(String::as_str).zip(tokens).collect();
    story.bench.load(&rows);
    story.gather();
    while story.waiting.is_empty() {
        story.pass(1);
    }
    assert_eq!(story.waiting, ["refresh late-5"]);
}
