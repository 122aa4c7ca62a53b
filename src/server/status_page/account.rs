//! The page of one account: how it is, why, what to do, and what happened.

use super::{
    plot::{Course, Hours},
    row::Row,
    scene::Scene,
    timeline::{self, Line},
    words::{self, Moment},
};
use crate::core::{
    Account, AccountId,
    diagnose::{self, Diagnosis, Fact, Tally},
};
use minijinja::Value;
use serde::Serialize;

/// What the template is given.
#[derive(Serialize)]
pub(super) struct View<'a> {
    row: Row<'a>,
    app_link: String,
    provider_link: String,
    course: Option<Course>,
    hours: Option<Hours>,
    counts_since: Option<Moment>,
    issued: Option<Moment>,
    first_seen: Option<Moment>,
    fingerprint: Option<String>,
    why: Why,
    timeline: Vec<Line>,
    began: Moment,
    /// Buttons, which their maker has escaped; empty while they are switched off.
    actions: Value,
    json: String,
}

/// What the diagnosis rests on.
#[derive(Serialize)]
struct Why {
    /// `certain`, `likely` or `possible`; nothing for an account that is well.
    confidence: Option<&'static str>,
    /// What it may be instead.
    suspects: Vec<String>,
    reasons_for: Vec<Reason>,
    reasons_against: Vec<Reason>,
    ruled_out: Vec<RuledOut>,
    checks: Vec<Check>,
}

/// A fact, for people.
#[derive(Serialize)]
struct Reason {
    text: String,
    at: Option<Moment>,
}

/// What it is not.
#[derive(Serialize)]
struct RuledOut {
    cause: String,
    because: Reason,
}

/// What a person asks first, with the answer.
#[derive(Serialize)]
struct Check {
    question: &'static str,
    answer: &'static str,
}

/// `None` where the snapshot has no such account. `actions` makes the buttons.
pub(super) fn view<'a>(
    scene: &Scene<'a>,
    id: &AccountId,
    actions: impl FnOnce(&Account) -> String,
) -> Option<View<'a>> {
    let account = scene.snapshot.accounts.find(id)?;
    let now = scene.now;
    let moment = |at| Moment::of(at, now);
    let tally = Tally::of(scene.snapshot);
    let diagnosis = diagnose::diagnose(&tally.case(scene.snapshot, account, now));
    Some(View {
        row: Row::of(account, scene, &tally),
        app_link: words::app_path(&account.app),
        provider_link: words::provider_path(&account.id.provider),
        course: Course::of(account, now),
        hours: Hours::of(scene, account),
        counts_since: scene.counts_since().map(moment),
        issued: account.token.map(|token| moment(token.issued_at)),
        first_seen: account.first_seen_at.map(moment),
        fingerprint: account.token.map(|token| token.token.to_string()),
        why: Why::of(&diagnosis, scene),
        timeline: timeline::of(account, now),
        began: moment(scene.snapshot.began_at),
        actions: Value::from_safe_string(actions(account)),
        json: format!("{}.json", words::account_path(id)),
    })
}

impl Why {
    fn of(diagnosis: &Diagnosis, scene: &Scene<'_>) -> Self {
        let reasons = |facts: &[Fact]| {
            facts.iter().take(REASONS_SHOWN_MAX).map(|fact| Reason::of(fact, scene)).collect()
        };
        let ruled_out = diagnosis.ruled_out.iter().take(REASONS_SHOWN_MAX);
        Self {
            confidence: diagnosis.cause.map(|_| diagnosis.confidence.as_label()),
            suspects: diagnosis.suspects.iter().map(|cause| words::cause(*cause)).collect(),
            reasons_for: reasons(&diagnosis.reasons_for),
            reasons_against: reasons(&diagnosis.reasons_against),
            ruled_out: ruled_out
                .map(|(cause, fact)| RuledOut {
                    cause: words::cause(*cause),
                    because: Reason::of(fact, scene),
                })
                .collect(),
            checks: diagnosis
                .checks
                .iter()
                .map(|check| Check {
                    question: check.question.sentence(),
                    answer: match check.answer {
                        Some(true) => "yes",
                        Some(false) => "no",
                        None => "not known",
                    },
                })
                .collect(),
        }
    }
}

impl Reason {
    fn of(fact: &Fact, scene: &Scene<'_>) -> Self {
        Self { text: fact.to_string(), at: fact.at.map(|at| Moment::of(at, scene.now)) }
    }
}

/// Reasons of each kind: the most telling stand first, and `diagnose` tells all.
const REASONS_SHOWN_MAX: usize = 12;
