//! Gates: when one moves, what is asked of the provider before it opens, and what people and publishers want of it.

use super::{Checked, Effect, Fleet};
use crate::core::{
    AccountId, Cause, Event, Evidence, Order, Timestamp,
    gate::{self, Gate, Objection, Proof},
    history::Source,
    schedule::RETRY_AFTER_MAX,
};
use std::sync::Arc;

impl Fleet {
    /// Moves the gate of an account to where it belongs by now. True when there is something to be asked before it
    /// opens.
    pub(super) fn note_gate(&mut self, now: Timestamp, id: &AccountId) -> bool {
        let Some(account) = self.table.find(id) else { return false };
        let Some(proof) = self.apps.find(&account.app).map(|app| app.proof) else { return false };
        let before = account.door;
        let mut after = gate::door(now, account, proof);
        // What its owner is not told yet, because the app is in doubt, the publisher's users are not told either.
        if !self.is_withheld(now, account) {
            after.marked = after.is_marked(proof);
        }
        self.table.change(id, |account| {
            account.door = after;
            let moves_at = gate::recheck_at(now, account);
            account.recheck_at = moves_at.into_iter().chain(account.recheck_at).min();
        });
        if before == after {
            return false;
        }
        self.changed.insert(id.clone());
        // Whoever connected it anew has cleared the column, and it falls before it was open.
        let falls = before.gate == Gate::Canary && after.gate == Gate::Held && after.marked;
        if before.marked != after.marked || falls {
            self.effects.push_back(Effect::Mark { id: id.clone(), connected: !after.marked });
        }
        if before.gate != after.gate {
            let (from, to, why) = (before.gate, after.gate, after.why);
            self.report(Event::GateMoved { id: id.clone(), from, to, why, at: now });
        }
        before.gate != after.gate && after.gate == Gate::Canary && proof == Proof::Check
    }

    /// Somebody wants something of an account, or tells how a publish went. `position` is the order's place among
    /// all: they are told again after a restart.
    pub(super) fn follow(&mut self, now: Timestamp, id: &AccountId, order: Order, position: i64) {
        let is_new = self.table.change(id, |account| {
            let is_new = account.door.followed < position;
            account.door.followed = account.door.followed.max(position);
            is_new
        });
        if is_new != Some(true) {
            return;
        }
        self.changed.insert(id.clone());
        match order {
            Order::Hold => self.change_door(now, id, |door| door.by_hand = true),
            Order::Resume => self.change_door(now, id, |door| {
                door.by_hand = false;
                door.refused = None;
                door.prove_from = None;
            }),
            Order::Prove => self.prove_anew(now, id),
            Order::Refresh => self.note_question(now, id),
            Order::Published { worked: true, .. } => self.prove(now, id),
            Order::Published { worked: false, evidence } => {
                let unsaid = || Evidence::of(Cause::Unknown, now);
                self.heed_failed_publish(now, id, evidence.unwrap_or_else(unsaid));
            }
        }
    }

    /// The publish check of an account came back.
    pub(super) fn note_proven(&mut self, now: Timestamp, id: &AccountId, checked: Checked) {
        self.land(id);
        let result = match &checked {
            Checked::Alive => "passed",
            Checked::Refused(_) => "refused",
            Checked::Unknown => "unclear",
        };
        self.report(Event::PublishChecked { id: id.clone(), result });
        if let Some(theirs) = self.passed_over.remove(id) {
            // The answer is about a token that the store has replaced in the meantime.
            self.take_theirs(now, id, theirs);
        } else {
            match checked {
                Checked::Alive => {
                    self.note_checked(now, id, Some(true));
                    self.prove(now, id);
                }
                Checked::Refused(evidence) => self.heed_refused_proof(now, id, evidence),
                Checked::Unknown => self.prove_later(now, id, None),
            }
        }
        self.heed_what_waited(now, id);
        self.let_go(id);
    }

    /// It works.
    fn prove(&mut self, now: Timestamp, id: &AccountId) {
        let moved = self.table.change(id, |account| {
            let door = &mut account.door;
            if door.gate != Gate::Canary {
                return None;
            }
            (door.gate, door.since) = (Gate::Open, Some(now));
            (door.refused, door.prove_from, door.tries) = (None, None, 0);
            Some(door.why)
        });
        if let Some(why) = moved.flatten() {
            let (from, to) = (Gate::Canary, Gate::Open);
            self.changed.insert(id.clone());
            self.report(Event::GateMoved { id: id.clone(), from, to, why, at: now });
        }
        self.look_at(now, id);
    }

    /// The publisher had a good answer. One that knows nothing of canaries tells so all the same that it published.
    pub(super) fn heed_publish(&mut self, now: Timestamp, id: &AccountId) {
        let Some(account) = self.table.find(id) else { return };
        let proof = self.apps.find(&account.app).map(|app| app.proof);
        if proof == Some(Proof::Publish) && account.door.gate == Gate::Canary {
            self.prove(now, id);
        }
    }

    /// Somebody wants to see it proven, whether it was in trouble or not.
    fn prove_anew(&mut self, now: Timestamp, id: &AccountId) {
        let Some(account) = self.table.find(id) else { return };
        let proof = self.apps.find(&account.app).map(|app| app.proof);
        let is_open = account.door.gate == Gate::Open;
        if is_open && proof.is_none_or(|proof| proof == Proof::Token) {
            return;
        }
        self.change_door(now, id, |door| {
            (door.refused, door.prove_from, door.tries) = (None, None, 0);
            door.objection = door.objection.filter(|_| !is_open);
            if is_open {
                (door.gate, door.since) = (Gate::Canary, Some(now));
            }
        });
        if is_open {
            let (from, to) = (Gate::Open, Gate::Canary);
            self.report(Event::GateMoved { id: id.clone(), from, to, why: None, at: now });
        }
    }

    /// The provider refused the publish check.
    fn heed_refused_proof(&mut self, now: Timestamp, id: &AccountId, evidence: Evidence) {
        let evidence = Arc::new(evidence);
        self.note_failure(now, id, &evidence, Source::Check);
        match evidence.cause {
            Cause::RateLimited | Cause::ProviderOutage => {
                self.prove_later(now, id, Some(&evidence));
                return;
            }
            // No refresh mends these, and the provider said it of this very token.
            Cause::ScopeMissing | Cause::ConsentRevoked => {
                self.table.change(id, |account| {
                    account.verdict = Some(evidence.cause);
                    account.last_failure = Some(Arc::clone(&evidence));
                });
            }
            Cause::AccessTokenExpired => {
                self.table.change(id, |account| account.questioned_at = Some(now));
            }
            // The token may be as good as it gets: an app that is not audited, an account that is banned.
            _ => {}
        }
        self.refuse(now, id, &evidence);
    }

    /// The publisher's own canary failed. What it says is a claim, and confirmed before anything is spent.
    fn heed_failed_publish(&mut self, now: Timestamp, id: &AccountId, evidence: Evidence) {
        let evidence = Arc::new(evidence);
        self.note_failure(now, id, &evidence, Source::Publisher);
        if matches!(evidence.cause, Cause::RateLimited | Cause::ProviderOutage) {
            self.prove_later(now, id, Some(&evidence));
            return;
        }
        let is_canary = self.table.find(id).is_some_and(|one| one.door.gate == Gate::Canary);
        if is_canary {
            self.refuse(now, id, &evidence);
        }
        self.heed_claim(now, id, &evidence);
    }

    /// Held again, for the reason that was given, until it is tried the next time.
    fn refuse(&mut self, now: Timestamp, id: &AccountId, evidence: &Evidence) {
        self.change_door(now, id, |door| {
            door.refused = Some(evidence.cause);
            door.objection = Some(Objection::after(door.objection, evidence, now));
            door.prove_later(now.plus(gate::prove_again_after(door.tries)));
        });
    }

    fn prove_later(&mut self, now: Timestamp, id: &AccountId, said: Option<&Evidence>) {
        let asked = said.and_then(|said| said.retry_after).map(|asked| asked.min(RETRY_AFTER_MAX));
        self.change_door(now, id, |door| {
            let pause = gate::prove_again_after(door.tries);
            door.prove_later(now.plus(asked.map_or(pause, |asked| asked.max(pause))));
        });
    }

    fn change_door(
        &mut self,
        now: Timestamp,
        id: &AccountId,
        change: impl FnOnce(&mut gate::Door),
    ) {
        self.table.change(id, |account| change(&mut account.door));
        self.changed.insert(id.clone());
        self.look_at(now, id);
    }
}

#[cfg(test)]
mod tests {
    use super::{
        super::{
            Finished, Input,
            tests::{Bench, app, id},
        },
        *,
    };
    use crate::core::{
        decide::App,
        diagnose::Step,
        gate::Why,
        notices::{Audience, Change, Notice, Subject},
    };

    const MINUTE: u64 = 60;

    fn bench(proof: Proof) -> Bench {
        let mut bench = Bench::new();
        let apps = vec![App { proof, ..app("main") }];
        bench.tell(Input::Configured { policy: Default::default(), apps });
        bench.load(&[("a", bench.token(1, 0.5))]);
        bench
    }

    /// An account whose consent is gone, and its gate held.
    fn broken(proof: Proof) -> Bench {
        let mut bench = bench(proof);
        let evidence = bench.evidence(Cause::ConsentRevoked);
        bench.tell(Input::Announced { id: id("a"), evidence });
        bench
    }

    fn reconnected(proof: Proof) -> Bench {
        let mut bench = broken(proof);
        let new = bench.token(2, 0.0);
        bench.pass(MINUTE);
        bench.load(&[("a", new)]);
        bench
    }

    #[test]
    fn a_gate_that_falls_before_it_was_open_is_marked_again() {
        let mut bench = reconnected(Proof::Check);
        assert_eq!(gate(&bench).0, Gate::Canary);
        let evidence = bench.evidence(Cause::ScopeMissing);
        bench.tell(Input::Proven { id: id("a"), checked: Checked::Refused(evidence) });
        assert_eq!((gate(&bench).0, marks(&bench)), (Gate::Held, vec![false]));
    }

    fn gate(bench: &Bench) -> (Gate, Option<Why>) {
        let door = bench.account("a").door;
        (door.gate, door.why)
    }

    fn marks(bench: &Bench) -> Vec<bool> {
        let mark = |effect: &Effect| match effect {
            Effect::Mark { connected, .. } => Some(*connected),
            _ => None,
        };
        bench.effects.iter().filter_map(mark).collect()
    }

    fn order(bench: &mut Bench, position: i64, order: Order) {
        bench.tell(Input::Told { id: id("a"), order, position });
    }

    fn proven(bench: &mut Bench, checked: Checked) {
        bench.tell(Input::Proven { id: id("a"), checked });
    }

    const REVOKED: Option<Why> = Some(Why::Cause(Cause::ConsentRevoked));

    #[test]
    fn a_proof_of_death_holds_the_queue_in_the_same_moment_and_says_so_in_the_column() {
        let bench = broken(Proof::Check);
        assert_eq!(gate(&bench), (Gate::Held, REVOKED));
        assert_eq!(marks(&bench), [false]);
        let moved = bench.reports(|event| matches!(event, Event::GateMoved { .. }));
        assert_eq!(moved.len(), 1);
    }

    #[test]
    fn a_new_token_is_proven_by_the_providers_check_before_the_queue_goes_on() {
        let mut bench = reconnected(Proof::Check);
        assert_eq!(gate(&bench), (Gate::Canary, REVOKED));
        assert_eq!((bench.started(), marks(&bench)), (vec!["prove a".to_owned()], vec![]));
        proven(&mut bench, Checked::Alive);
        assert_eq!(gate(&bench).0, Gate::Open);
        assert_eq!(marks(&bench), [true]);
        bench.pass(10 * MINUTE);
        assert!(bench.started().is_empty(), "once is enough");
    }

    #[test]
    fn without_a_check_the_publishers_own_publish_proves_it() {
        let mut bench = reconnected(Proof::Publish);
        assert_eq!((gate(&bench).0, bench.started().len()), (Gate::Canary, 0));
        assert_eq!(marks(&bench), [true], "a publisher that sees its column only may publish");
        order(&mut bench, 1, Order::Published { worked: true, evidence: None });
        assert_eq!(gate(&bench).0, Gate::Open);
    }

    #[test]
    fn a_publisher_that_only_counts_its_answers_proves_it_as_well() {
        let mut bench = reconnected(Proof::Publish);
        let answered = |status| Input::Responded { id: id("a"), status, times: 1 };
        bench.tell(answered(403));
        assert_eq!(gate(&bench).0, Gate::Canary);
        bench.tell(answered(200));
        assert_eq!(gate(&bench).0, Gate::Open);
    }

    #[test]
    fn where_nobody_can_tell_the_saved_token_is_enough() {
        let bench = reconnected(Proof::Token);
        assert_eq!((gate(&bench).0, marks(&bench)), (Gate::Open, vec![true]));
    }

    #[test]
    fn a_refused_check_holds_again_and_is_made_again_later() {
        let mut bench = reconnected(Proof::Check);
        let banned = bench.evidence(Cause::Unknown);
        proven(&mut bench, Checked::Refused(banned));
        assert_eq!(gate(&bench), (Gate::Held, Some(Why::Cause(Cause::Unknown))));
        assert!(bench.started().is_empty());
        bench.pass(MINUTE);
        assert_eq!((gate(&bench).0, bench.started()), (Gate::Canary, vec!["prove a".to_owned()]));
        proven(&mut bench, Checked::Alive);
        assert_eq!(gate(&bench).0, Gate::Open);
    }

    fn firing(bench: &Bench) -> Vec<Notice> {
        let notice = |effect: &Effect| match effect {
            Effect::Notify(notice) if notice.change == Change::Firing => Some(notice.clone()),
            _ => None,
        };
        bench.effects.iter().filter_map(notice).collect()
    }

    /// The check is refused with `detail`, and again when it is made the next time.
    fn refused_twice(bench: &mut Bench, cause: Cause, detail: &str) {
        let mut evidence = bench.evidence(cause);
        evidence.detail = Some(detail.into());
        proven(bench, Checked::Refused(evidence.clone()));
        assert_eq!(bench.notices(), [], "once is often: a provider needs a moment");
        bench.pass(MINUTE);
        assert_eq!(bench.started(), ["prove a"]);
        proven(bench, Checked::Refused(evidence));
    }

    #[test]
    fn of_publishing_that_is_refused_again_and_again_one_person_hears_once_and_of_its_end() {
        let rows = [
            (Cause::Unknown, "account_banned_from_posting", Audience::Owner, Step::Appeal),
            (Cause::Unknown, "request_malformed", Audience::Operator, Step::MendPublishing),
            (Cause::WrongEnvironment, "app_not_audited", Audience::Operator, Step::MendPublishing),
        ];
        for (cause, detail, audience, step) in rows {
            let mut bench = reconnected(Proof::Check);
            refused_twice(&mut bench, cause, detail);
            let about = Subject::Account(id("a"));
            // What was wrong before is over, and its end waited for the proof.
            let over = (about.clone(), Cause::ConsentRevoked, Change::Resolved, Audience::Owner);
            let told = (about.clone(), cause, Change::Firing, audience);
            assert_eq!(bench.notices(), [over, told], "{detail}");
            let [notice] = &firing(&bench)[..] else { panic!("{detail}") };
            let said = notice.evidence.as_ref().and_then(|evidence| evidence.detail.as_deref());
            assert_eq!((notice.step, said), (Some(step), Some(detail)));
            assert_eq!(notice.since, bench.now.minus(std::time::Duration::from_secs(MINUTE)));
            for _ in 0..30 {
                bench.pass(MINUTE);
                assert_eq!(bench.notices(), [], "{detail}: one incident, whatever the gate does");
                if bench.started() == ["prove a"] {
                    let mut evidence = bench.evidence(cause);
                    evidence.detail = Some(detail.into());
                    proven(&mut bench, Checked::Refused(evidence));
                    assert_eq!(bench.notices(), [], "{detail}: one incident");
                }
            }
            order(&mut bench, 1, Order::Prove);
            proven(&mut bench, Checked::Alive);
            assert_eq!(gate(&bench).0, Gate::Open);
            assert_eq!(bench.notices(), [(about, cause, Change::Resolved, audience)], "{detail}");
            bench.pass(MINUTE);
            assert_eq!((bench.notices(), bench.account("a").door.objection), (vec![], None));
        }
    }

    fn resolved(bench: &Bench) -> usize {
        let is_end = |effect: &&Effect| match effect {
            Effect::Notify(notice) => notice.change == Change::Resolved,
            _ => false,
        };
        bench.effects.iter().filter(is_end).count()
    }

    #[test]
    fn its_people_hear_of_the_end_when_posts_go_out_again() {
        for proof in [Proof::Check, Proof::Publish] {
            let mut bench = reconnected(proof);
            assert_eq!((gate(&bench).0, resolved(&bench)), (Gate::Canary, 0), "{proof:?}");
            match proof {
                Proof::Check => proven(&mut bench, Checked::Alive),
                _ => order(&mut bench, 1, Order::Published { worked: true, evidence: None }),
            }
            assert_eq!((gate(&bench).0, resolved(&bench)), (Gate::Open, 1), "{proof:?}");
        }
        assert_eq!(resolved(&reconnected(Proof::Token)), 1);
    }

    #[test]
    fn they_do_not_wait_for_a_proof_that_takes_its_time_nor_for_somebody_who_holds_it() {
        let mut bench = reconnected(Proof::Publish);
        for _ in 0..9 {
            bench.pass(MINUTE);
            assert_eq!(resolved(&bench), 0);
        }
        bench.pass(MINUTE);
        assert_eq!((gate(&bench).0, resolved(&bench)), (Gate::Canary, 1));
        bench.pass(MINUTE);
        assert_eq!(resolved(&bench), 0, "once");

        let mut bench = broken(Proof::Check);
        order(&mut bench, 1, Order::Hold);
        let new = bench.token(2, 0.0);
        bench.load(&[("a", new)]);
        assert_eq!((gate(&bench).1, resolved(&bench)), (Some(Why::Person), 1));
    }

    #[test]
    fn who_waits_to_hear_of_the_end_does_so_after_a_restart() {
        let mut before = reconnected(Proof::Check);
        let token = before.account("a").token.unwrap();
        let (memories, _) = before.fleet.take_changed();
        let mut after = bench(Proof::Check);
        after.now = before.now;
        after.load(&[]);
        after.tell(Input::Recalled(memories));
        after.load(&[("a", token)]);
        assert_eq!(resolved(&after), 0);
        proven(&mut after, Checked::Alive);
        assert_eq!(resolved(&after), 1);
    }

    #[test]
    fn a_restart_neither_tells_of_it_again_nor_forgets_to_tell_of_its_end() {
        let mut before = reconnected(Proof::Check);
        refused_twice(&mut before, Cause::Unknown, "account_banned_from_posting");
        let token = before.account("a").token.unwrap();
        let (memories, _) = before.fleet.take_changed();
        let mut after = bench(Proof::Check);
        after.now = before.now;
        after.load(&[]);
        after.tell(Input::Recalled(memories));
        after.load(&[("a", token)]);
        assert_eq!(after.notices(), []);
        for _ in 0..20 {
            after.pass(MINUTE);
            assert_eq!(after.notices(), []);
        }
        proven(&mut after, Checked::Alive);
        let over = (Subject::Account(id("a")), Cause::Unknown, Change::Resolved, Audience::Owner);
        assert_eq!(after.notices(), [over]);
    }

    #[test]
    fn what_only_its_owner_mends_is_told_instead_of_that_publishing_is_refused() {
        let mut bench = reconnected(Proof::Check);
        refused_twice(&mut bench, Cause::Unknown, "request_malformed");
        let evidence = bench.evidence(Cause::ConsentRevoked);
        bench.pass(3_600);
        bench.tell(Input::Announced {
            id: id("a"),
            evidence: Evidence { at: bench.now, ..evidence },
        });
        proven(&mut bench, Checked::Unknown);
        let told: Vec<_> = firing(&bench).iter().map(|one| (one.cause, one.audience)).collect();
        assert_eq!(told, [(Cause::ConsentRevoked, Audience::Owner)]);
        bench.pass(MINUTE);
        let new = bench.token(3, 0.0);
        bench.load(&[("a", new)]);
        proven(&mut bench, Checked::Alive);
        assert_eq!((gate(&bench).0, firing(&bench)), (Gate::Open, vec![]));
    }

    #[test]
    fn a_check_that_says_nothing_is_made_again_and_the_queue_waits() {
        let mut bench = reconnected(Proof::Check);
        let mut checks = 1;
        for _ in 0..120 {
            if !bench.started().is_empty() {
                proven(&mut bench, Checked::Unknown);
            }
            bench.pass(MINUTE);
            checks += bench.started().iter().filter(|what| *what == "prove a").count();
            assert_ne!(gate(&bench).0, Gate::Open);
        }
        assert!((8..20).contains(&checks), "{checks} checks within two hours");
    }

    #[test]
    fn a_provider_that_asks_for_patience_is_not_asked_before() {
        let mut bench = reconnected(Proof::Check);
        let mut limited = bench.evidence(Cause::RateLimited);
        limited.retry_after = Some(std::time::Duration::from_secs(600));
        proven(&mut bench, Checked::Refused(limited));
        for _ in 0..9 {
            bench.pass(MINUTE);
            assert_eq!((gate(&bench).0, bench.started().len()), (Gate::Canary, 0));
        }
        bench.pass(MINUTE);
        assert_eq!(bench.started(), ["prove a"]);
    }

    #[test]
    fn a_scope_that_the_check_misses_is_a_verdict_and_no_refresh_is_spent() {
        let mut bench = reconnected(Proof::Check);
        let missing = bench.evidence(Cause::ScopeMissing);
        proven(&mut bench, Checked::Refused(missing));
        assert_eq!(gate(&bench), (Gate::Held, Some(Why::Cause(Cause::ScopeMissing))));
        bench.pass(30 * MINUTE);
        assert!(bench.started().iter().all(|what| what != "prove a"));
    }

    #[test]
    fn a_canary_of_the_publishers_that_fails_holds_again() {
        let mut bench = reconnected(Proof::Publish);
        order(&mut bench, 1, Order::Published { worked: false, evidence: None });
        assert_eq!(gate(&bench), (Gate::Held, Some(Why::Cause(Cause::Unknown))));
        bench.pass(MINUTE);
        assert_eq!(gate(&bench).0, Gate::Canary, "it may try once more");
    }

    #[test]
    fn what_a_person_holds_only_a_person_resumes() {
        let mut bench = bench(Proof::Check);
        order(&mut bench, 1, Order::Hold);
        assert_eq!(gate(&bench), (Gate::Held, Some(Why::Person)));
        bench.pass(40 * MINUTE);
        bench.finish("a", Finished::Renewed(bench.token(2, 0.0)));
        assert_eq!(gate(&bench).0, Gate::Held, "it is kept alive all the same");
        order(&mut bench, 2, Order::Resume);
        assert_eq!((gate(&bench).0, bench.started()), (Gate::Canary, vec!["prove a".to_owned()]));
        proven(&mut bench, Checked::Alive);
        assert_eq!(gate(&bench).0, Gate::Open);
    }

    #[test]
    fn an_order_that_is_told_again_is_not_followed_again() {
        let mut bench = bench(Proof::Token);
        order(&mut bench, 1, Order::Hold);
        order(&mut bench, 2, Order::Resume);
        order(&mut bench, 1, Order::Hold);
        assert_eq!(gate(&bench).0, Gate::Open);
        order(&mut bench, 3, Order::Refresh);
        assert_eq!(bench.started(), ["refresh a"]);
        bench.finish("a", Finished::Renewed(bench.token(2, 0.0)));
        bench.pass(MINUTE);
        order(&mut bench, 3, Order::Refresh);
        assert!(bench.started().is_empty());
    }

    #[test]
    fn a_restart_keeps_the_gate_and_what_was_followed() {
        let mut before = bench(Proof::Check);
        order(&mut before, 7, Order::Hold);
        let token = before.account("a").token.unwrap();
        let (memories, _) = before.fleet.take_changed();
        let mut after = bench(Proof::Check);
        after.load(&[]);
        after.tell(Input::Recalled(memories));
        after.load(&[("a", token)]);
        assert_eq!(gate(&after), (Gate::Held, Some(Why::Person)));
        assert_eq!(marks(&after), [true; 0], "the column says so already");
        order(&mut after, 7, Order::Hold);
        order(&mut after, 8, Order::Resume);
        assert_eq!(gate(&after).0, Gate::Canary);
    }

    #[test]
    fn who_wants_an_open_account_proven_has_it_proven() {
        let mut bench = bench(Proof::Check);
        order(&mut bench, 1, Order::Prove);
        assert_eq!((gate(&bench).0, bench.started()), (Gate::Canary, vec!["prove a".to_owned()]));
        proven(&mut bench, Checked::Alive);
        assert_eq!(gate(&bench).0, Gate::Open);
    }

    #[test]
    fn an_outage_holds_the_queue_only_when_the_token_has_lapsed_and_no_column_is_touched() {
        let mut bench = bench(Proof::Check);
        bench.pass(30 * MINUTE);
        for _ in 0..60 {
            if bench.started() == ["refresh a"] {
                let outage = bench.evidence(Cause::ProviderOutage);
                bench.finish("a", Finished::NotCommitted(outage));
            }
            let is_live = bench.account("a").is_live(bench.now);
            assert_eq!(gate(&bench).0 == Gate::Open, is_live);
            assert_eq!(marks(&bench), [true; 0]);
            bench.pass(MINUTE);
        }
        assert_eq!(gate(&bench), (Gate::Held, Some(Why::Cause(Cause::ProviderOutage))));
    }
}
