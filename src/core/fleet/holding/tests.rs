//! Sentences about shares that come and go.

use super::super::{
    Effect, Finished, Input, Reopened, Seen,
    tests::{Bench, id},
};
use crate::core::{Cause, Memory, Shares, Timestamp, TokenFacts, notices::Subject};
use std::time::Duration;

/// Everything but the shares of these accounts.
fn all_but(names: &[&str]) -> Shares {
    Shares::ALL.without(names.iter().map(|name| Shares::of(&id(name))).collect())
}

fn hold(bench: &mut Bench, shares: Shares) {
    bench.tell(Input::Holding { shares, until: None });
}

fn hold_for(bench: &mut Bench, seconds: u64) {
    let until = Some(bench.now.plus(Duration::from_secs(seconds)));
    bench.tell(Input::Holding { shares: Shares::ALL, until });
}

fn shown(bench: &Bench) -> Vec<String> {
    let snapshot = bench.fleet.snapshot(bench.now);
    snapshot.accounts.iter().map(|account| account.id.account.to_string()).collect()
}

fn memory(name: &str, token: TokenFacts, cause: Option<Cause>) -> Memory {
    Memory {
        id: id(name),
        token: Some(token),
        last_refresh_at: None,
        cause,
        cause_since: cause.map(|_| token.issued_at),
        told: cause,
        told_since: cause.map(|_| token.issued_at),
        failed_in_a_row: 0,
        not_before: None,
        door: None,
        left: None,
        first_seen_at: None,
    }
}

/// How many notices about accounts the last step brought.
fn notices(bench: &Bench) -> usize {
    let is_of_account = |effect: &&Effect| match effect {
        Effect::Notify(notice) => matches!(notice.subject, Subject::Account(_)),
        _ => false,
    };
    bench.effects.iter().filter(is_of_account).count()
}

/// What `handle` leaves to be written, emptied.
fn written(bench: &mut Bench) -> (Vec<String>, usize) {
    let (memories, forgotten) = bench.fleet.take_changed();
    drop(bench.fleet.take_histories());
    (memories.iter().map(|memory| memory.id.account.to_string()).collect(), forgotten.len())
}

#[test]
fn a_fleet_that_was_told_nothing_takes_no_account_in() {
    let mut bench = Bench::new();
    hold(&mut bench, Shares::NONE);
    let token = bench.token(1, 0.9);
    bench.load(&[("a", token), ("b", token)]);
    assert_eq!((bench.started().len(), shown(&bench).len()), (0, 0));
    assert_eq!(written(&mut bench), (vec![], 0));
    assert!(bench.fleet.snapshot(bench.now).loaded, "the store was read all the same");
}

#[test]
fn only_accounts_of_held_shares_are_looked_after() {
    let mut bench = Bench::new();
    hold(&mut bench, all_but(&["b"]));
    let token = bench.token(1, 0.9);
    bench.load(&[("a", token), ("b", token)]);
    assert_eq!(bench.started(), ["refresh a"]);
    assert_eq!(shown(&bench), ["a"]);
    assert_eq!(bench.fleet.snapshot(bench.now).holding, all_but(&["b"]));
}

#[test]
fn an_account_whose_share_is_lost_goes_without_a_word() {
    let mut bench = Bench::new();
    let token = bench.token(1, 0.1);
    bench.tell(Input::Recalled(vec![memory("a", token, Some(Cause::ConsentRevoked))]));
    hold(&mut bench, Shares::ALL);
    bench.load(&[("a", token), ("b", token)]);
    written(&mut bench);
    hold(&mut bench, all_but(&["a"]));
    assert_eq!(shown(&bench), ["b"]);
    assert_eq!(notices(&bench), 0, "its incident goes on elsewhere");
    bench.load(&[("a", token), ("b", token)]);
    bench.load(&[("b", token)]);
    assert_eq!(written(&mut bench), (vec![], 0), "nothing is written, nothing forgotten");
    assert_eq!(notices(&bench), 0);
}

#[test]
fn what_was_not_written_yet_of_a_lost_account_is_written() {
    let mut bench = Bench::new();
    let token = bench.token(1, 0.1);
    bench.load(&[("a", token)]);
    assert!(bench.fleet.busy_shares().contain(&id("a")), "its memory waits to be written");
    hold(&mut bench, all_but(&["a"]));
    assert!(bench.fleet.busy_shares().contain(&id("a")));
    assert_eq!(written(&mut bench), (vec!["a".to_owned()], 0));
    assert!(bench.fleet.busy_shares().is_empty());
}

#[test]
fn a_call_under_way_comes_to_its_end_and_then_its_lost_account_goes() {
    type End = fn(&Bench) -> Finished;
    let ends: [(&str, End, usize); 4] = [
        ("renewed", |bench| Finished::Renewed(bench.token(2, 0.0)), 0),
        ("dead", |bench| Finished::Dead(bench.evidence(Cause::RefreshTokenRejected)), 1),
        ("taken by its new holder", |_| Finished::Blocked(super::super::Blocked::LeaseHeld), 0),
        ("gone", |_| Finished::Gone, 0),
    ];
    for (how, end, told) in ends {
        let mut bench = Bench::new();
        let token = bench.token(1, 0.9);
        bench.load(&[("a", token)]);
        written(&mut bench);
        hold(&mut bench, all_but(&["a"]));
        assert_eq!(shown(&bench), [""; 0], "{how}: another may show it by now");
        assert!(bench.fleet.busy_shares().contain(&id("a")), "{how}");
        let result = end(&bench);
        bench.finish("a", result);
        assert!(bench.fleet.table.is_empty(), "{how}");
        assert!(!bench.fleet.owes_work(), "{how}");
        let (memories, forgotten) = written(&mut bench);
        assert_eq!(forgotten, 0, "{how}");
        assert!(memories.len() <= 1, "{how}");
        assert_eq!(notices(&bench), told, "{how}: {:?}", bench.notices());
        assert!(bench.fleet.busy_shares().is_empty(), "{how}");
    }
}

#[test]
fn a_token_of_a_lost_account_is_saved_and_nothing_else_begins_for_it() {
    let mut bench = Bench::new();
    let token = bench.token(1, 0.9);
    bench.load(&[("a", token)]);
    hold(&mut bench, all_but(&["a"]));
    let unsaved = bench.token(2, 0.0);
    bench.finish("a", Finished::Unsaved(unsaved));
    bench.tell(Input::Store { up: true });
    bench.pass(60);
    assert_eq!(bench.started(), ["save a"]);
    assert!(bench.fleet.busy_shares().contain(&id("a")));
    bench.finish("a", Finished::Renewed(unsaved));
    assert!(bench.fleet.table.is_empty());
    for _ in 0..100 {
        bench.pass(3_600);
        assert_eq!(bench.started(), [""; 0]);
    }
}

#[test]
fn a_gained_share_brings_what_was_remembered_and_what_is_open() {
    let mut bench = Bench::new();
    hold(&mut bench, all_but(&["a", "b"]));
    let token = bench.token(1, 0.1);
    let received = bench.token(2, 0.0);
    bench.load(&[("a", token), ("b", token)]);
    bench.tell(Input::Recalled(vec![memory("a", token, Some(Cause::ConsentRevoked))]));
    let reopened = Reopened { id: id("b"), unsaved: Some(received), over_at: bench.now };
    bench.tell(Input::Reopened(vec![reopened]));
    hold(&mut bench, Shares::ALL);
    assert_eq!(shown(&bench), [""; 0], "the next pass brings them");
    bench.load(&[("a", token), ("b", token)]);
    assert_eq!(bench.account("a").verdict, Some(Cause::ConsentRevoked));
    assert!(bench.account("b").unsaved);
    let told = bench.notices();
    let of_a = told.iter().filter(|(subject, ..)| *subject == Subject::Account(id("a")));
    assert_eq!(of_a.count(), 0, "it was told before");
}

#[test]
fn a_pass_that_began_before_a_share_was_gained_takes_nobody_of_it_for_gone() {
    let mut bench = Bench::new();
    hold(&mut bench, all_but(&["a"]));
    let token = bench.token(1, 0.1);
    bench.tell(Input::LoadBegan);
    let known = memory("a", token, Some(Cause::ConsentRevoked));
    bench.tell(Input::Recalled(vec![known]));
    hold(&mut bench, Shares::ALL);
    bench.tell(Input::LoadEnded { damaged: 0 });
    assert_eq!((notices(&bench), written(&mut bench)), (0, (vec![], 0)));
    // A whole pass without it says that it has left.
    bench.load(&[]);
    assert_eq!((notices(&bench), written(&mut bench)), (1, (vec![], 1)));
}

#[test]
fn what_is_recalled_of_an_account_that_never_left_is_not_taken_for_gone() {
    let mut bench = Bench::new();
    let token = bench.token(1, 0.9);
    bench.load(&[("a", token)]);
    hold(&mut bench, all_but(&["a"]));
    // Its call is still under way, and its share comes back.
    bench.tell(Input::Recalled(vec![memory("a", token, None)]));
    hold(&mut bench, Shares::ALL);
    written(&mut bench);
    bench.load(&[("a", token)]);
    assert_eq!(shown(&bench), ["a"]);
    assert_eq!(written(&mut bench), (vec![], 0));
}

#[test]
fn what_somebody_else_failed_at_meanwhile_is_not_tried_again_at_once() {
    let mut bench = Bench::new();
    let token = bench.token(1, 0.9);
    bench.load(&[("a", token)]);
    hold(&mut bench, all_but(&["a"]));
    let not_before = bench.now.plus(Duration::from_secs(300));
    let known =
        Memory { failed_in_a_row: 4, not_before: Some(not_before), ..memory("a", token, None) };
    bench.tell(Input::Recalled(vec![known]));
    hold(&mut bench, Shares::ALL);
    let evidence = bench.evidence(Cause::ProviderOutage);
    bench.finish("a", Finished::NotCommitted(evidence));
    bench.pass(30);
    assert_eq!(bench.started(), [""; 0], "it is the fifth failure, and not the first");
}

#[test]
fn when_the_time_is_over_nothing_begins_and_nothing_is_shown_until_it_is_renewed() {
    let mut bench = Bench::new();
    hold_for(&mut bench, 600);
    let token = bench.token(1, 0.5);
    bench.load(&[("a", token)]);
    assert_eq!(shown(&bench), ["a"]);
    assert!(
        bench.fleet.next_wakeup().is_some_and(|at| at <= bench.now.plus(Duration::from_secs(600)))
    );
    // It is due meanwhile, and the process slept.
    bench.now = bench.now.plus(Duration::from_secs(3_600));
    bench.tell(Input::Woke);
    assert_eq!((bench.started().len(), shown(&bench).len(), notices(&bench)), (0, 0, 0));
    assert_eq!(bench.fleet.snapshot(bench.now).holding, Shares::NONE);
    bench.load(&[]);
    bench.tell(Input::Asked { id: id("a") });
    assert_eq!((bench.started().len(), notices(&bench)), (0, 0));
    hold_for(&mut bench, 600);
    assert_eq!(bench.started(), ["refresh a"], "nobody else held it meanwhile");
    assert_eq!(shown(&bench), ["a"]);
}

#[test]
fn an_old_snapshot_shows_no_account_of_which_the_time_is_over() {
    let mut bench = Bench::new();
    hold_for(&mut bench, 30);
    let token = bench.token(1, 0.1);
    bench.load(&[("a", token)]);
    let snapshot = bench.fleet.snapshot(bench.now);
    let later = |seconds| bench.now.plus(Duration::from_secs(seconds));
    assert!(snapshot.as_of(later(29)).is_none(), "it is still true");
    let over = snapshot.as_of(later(30)).expect("less of it is true");
    assert_eq!((over.accounts.len(), over.holding, over.loaded), (0, Shares::NONE, true));
}

#[test]
fn a_clock_that_is_set_back_prolongs_nothing() {
    let mut bench = Bench::new();
    hold_for(&mut bench, 30);
    let token = bench.token(1, 0.5);
    bench.load(&[("a", token)]);
    bench.now = bench.now.minus(Duration::from_secs(3_600));
    bench.tell(Input::Woke);
    assert_eq!(shown(&bench), [""; 0]);
    hold_for(&mut bench, 30);
    assert_eq!(shown(&bench), ["a"]);
}

#[test]
fn what_comes_back_after_the_time_is_over_tells_nobody_before_it_is_renewed() {
    let mut bench = Bench::new();
    hold_for(&mut bench, 30);
    let token = bench.token(1, 0.9);
    bench.load(&[("a", token)]);
    bench.pass(31);
    bench.finish("a", Finished::Dead(bench.evidence(Cause::RefreshTokenRejected)));
    let marks = |bench: &Bench| {
        bench.effects.iter().filter(|effect| matches!(effect, Effect::Mark { .. })).count()
    };
    assert_eq!((notices(&bench), marks(&bench)), (0, 0));
    hold_for(&mut bench, 30);
    assert_eq!((notices(&bench), marks(&bench)), (1, 1));
}

#[test]
fn a_seen_account_of_a_share_that_is_not_held_changes_nothing_about_it() {
    let mut bench = Bench::new();
    let token = bench.token(1, 0.9);
    bench.load(&[("a", token)]);
    hold(&mut bench, all_but(&["a"]));
    let theirs = bench.token(3, 0.0);
    let seen = Seen { id: id("a"), app: "main".into(), token: Some(theirs) };
    bench.tell(Input::Seen(vec![seen]));
    let kept = bench.fleet.table.find(&id("a")).and_then(|account| account.token);
    assert_eq!(kept, Some(token));
}

#[test]
fn the_end_of_time_itself_is_over() {
    let mut bench = Bench::new();
    bench.tell(Input::Holding { shares: Shares::ALL, until: Some(Timestamp::MIN) });
    let token = bench.token(1, 0.9);
    bench.load(&[("a", token)]);
    assert_eq!(shown(&bench), [""; 0]);
}
