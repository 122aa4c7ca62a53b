//! One recorded answer, and often more, for every row of what is known about errors: invented values in the
//! documented shape. The cases stand in `cases/`, one file per provider.
//!
//! A case without a `row` is there for something that no row says. `otherwise` is the other way of a row that
//! is uncertain: the same situation with an answer that the row does not foresee.

use crate::{
    NOW, answer, outcome_words, path, read,
    recorded::{self, Case as Recorded},
    words,
};
use oauth_keepalive::{
    core::{Cause, Evidence, cause::Actor},
    oauth::{Answer, Exchange, Liveness, Outcome},
    providers::{
        self, Environment, Known, Provider, Renewal, Where,
        schema::{GrantWord, ProviderFile},
    },
};
use serde::Deserialize;
use serde_json::Value;
use std::{collections::BTreeSet, fs, time::Duration};

/// A provider, how many rows are known about its errors, and which of them are uncertain.
const KNOWN: [(&str, usize, &[usize]); 13] = [
    ("bluesky", 6, &[1, 2, 3, 4, 5, 6]),
    ("facebook", 23, &[6, 8, 9, 12, 14, 18, 20, 23]),
    ("google", 20, &[3, 7, 9, 10, 16, 19]),
    ("instagram", 7, &[3]),
    ("linkedin", 21, &[1, 4, 5, 7, 8]),
    ("oauth2", 11, &[1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11]),
    ("pinterest", 9, &[2, 3, 6]),
    ("reddit", 6, &[1, 2, 3, 4, 5, 6]),
    ("snapchat", 0, &[]),
    ("threads", 3, &[]),
    ("tiktok", 35, &[2]),
    ("tiktok_business", 6, &[3, 4, 6]),
    ("x", 17, &[6, 13]),
];
const ROWS: usize = 164;

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct File {
    cases: Vec<Case>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Case {
    row: Option<usize>,
    when: String,
    at: Where,
    status: Option<u16>,
    bearer_error: Option<String>,
    /// A body of JSON, or one that is none.
    body: Option<Value>,
    text: Option<String>,
    #[serde(default)]
    sandbox: bool,
    #[serde(default)]
    grant: GrantWord,
    token_age: Option<String>,
    /// Outcome or liveness, cause, detail; `nothing` when the answer says nothing.
    is: String,
    acts: Acts,
    /// Whether a refresh follows.
    #[serde(default)]
    spends: bool,
    otherwise: Option<Box<Otherwise>>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Otherwise {
    at: Option<Where>,
    status: Option<u16>,
    bearer_error: Option<String>,
    body: Option<Value>,
    text: Option<String>,
    #[serde(default)]
    sandbox: bool,
    #[serde(default)]
    grant: GrantWord,
    token_age: Option<String>,
    is: String,
    acts: Acts,
    #[serde(default)]
    spends: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
enum Acts {
    Nobody,
    Owner,
    Operator,
}

/// What came of a case.
#[derive(Debug, PartialEq, Eq)]
struct Verdict {
    is: String,
    acts: Acts,
    spends: bool,
}

#[test]
fn every_row_of_the_error_maps_means_what_is_known() {
    let mut run = 0;
    let mut wrong = Vec::new();
    for name in providers::names() {
        for case in &cases(name) {
            for case in [Some(case), case.the_other_way().as_ref()].into_iter().flatten() {
                let got = case.verdict(in_catalogue(name, case.environment()));
                if got != case.expected() {
                    let way = if case.otherwise.is_some() { "" } else { " (or otherwise)" };
                    wrong.push(format!(
                        "{name}: {}{way}\n  expected {:?}\n  got      {got:?}",
                        case.when,
                        case.expected()
                    ));
                }
                run += 1;
            }
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    println!("providers={} cases={run}", providers::names().len());
}

#[test]
fn every_row_has_its_case_and_every_uncertain_row_goes_both_ways() {
    assert_eq!(KNOWN.map(|(name, ..)| name).to_vec(), providers::names());
    assert_eq!(KNOWN.map(|(_, rows, _)| rows).iter().sum::<usize>(), ROWS);
    for (name, rows, uncertain) in KNOWN {
        let cases = cases(name);
        let covered: BTreeSet<_> = cases.iter().filter_map(|case| case.row).collect();
        assert_eq!(covered, (1..=rows).collect(), "{name}: rows with a case");
        for row in uncertain {
            let mut own = cases.iter().filter(|case| case.row == Some(*row));
            assert!(
                own.any(|case| case.otherwise.is_some()),
                "{name}: row {row} goes one way only"
            );
        }
        let sentences: BTreeSet<_> = cases.iter().map(|case| (&case.row, &case.when)).collect();
        assert_eq!(sentences.len(), cases.len(), "{name}: two cases say the same");
    }
    let files = fs::read_dir(path("tests/providers/cases")).unwrap().count();
    assert_eq!(files, KNOWN.len());
}

/// To be wrong about an uncertain row must not cost an account.
#[test]
fn no_uncertain_row_ends_an_account_both_ways() {
    for (name, ..) in KNOWN {
        for case in cases(name) {
            if let Some(other) = &case.otherwise {
                let both = case.is.starts_with("dead: ") && other.is.starts_with("dead: ");
                assert!(!both, "{name}: {}", case.when);
            }
        }
    }
}

/// Takes one row away at a time: some case must then come out differently.
#[test]
fn no_row_of_an_error_map_goes_without_a_case() {
    for name in providers::names() {
        let yaml = read(&format!("src/providers/data/{name}.yaml"));
        let whole: ProviderFile = serde_yaml::from_str(&yaml).unwrap();
        let cases = cases(name);
        for row in 0..whole.errors.len() {
            let mut file = whole.clone();
            let taken = file.errors.remove(row);
            // It needs one of the rows, and says nothing about the others.
            file.junk = None;
            let without = |environment| Provider::from_file_in(file.clone(), environment).unwrap();
            let (production, sandbox) =
                (without(Environment::Production), without(Environment::Sandbox));
            let noticed = cases.iter().any(|case| {
                let provider = if case.sandbox { &sandbox } else { &production };
                case.verdict(provider) != case.expected()
            });
            let recorded = |case: &Recorded, of: fn(&Provider, &Exchange) -> String| {
                of(&production, &crate::recorded(&format!("{name}/{}", case.1))) != case.2
            };
            let (token, probe) = recorded::of(name);
            let noticed = noticed
                || token.iter().any(|case| recorded(case, crate::outcome_word))
                || probe.iter().any(|case| recorded(case, crate::liveness_word));
            assert!(noticed, "{name}: no case needs errors[{row}], {taken:?}");
        }
    }
}

fn cases(name: &str) -> Vec<Case> {
    let yaml = read(&format!("tests/providers/cases/{name}.yaml"));
    let file: File = serde_yaml::from_str(&yaml).unwrap_or_else(|error| panic!("{name}: {error}"));
    file.cases
}

fn in_catalogue(name: &str, environment: Environment) -> &'static Provider {
    providers::find_in(name, environment).unwrap()
}

impl Case {
    fn the_other_way(&self) -> Option<Self> {
        self.otherwise.as_deref().map(|other| Self {
            row: self.row,
            when: self.when.clone(),
            at: other.at.unwrap_or(self.at),
            status: other.status,
            bearer_error: other.bearer_error.clone(),
            body: other.body.clone(),
            text: other.text.clone(),
            sandbox: other.sandbox,
            grant: other.grant,
            token_age: other.token_age.clone(),
            is: other.is.clone(),
            acts: other.acts,
            spends: other.spends,
            otherwise: None,
        })
    }

    const fn environment(&self) -> Environment {
        if self.sandbox { Environment::Sandbox } else { Environment::Production }
    }

    fn expected(&self) -> Verdict {
        Verdict { is: self.is.clone(), acts: self.acts, spends: self.spends }
    }

    fn answer(&self) -> Answer {
        let body = match (&self.body, &self.text) {
            (Some(json), None) => json.to_string(),
            (None, Some(text)) => text.clone(),
            (None, None) => String::new(),
            (Some(_), Some(_)) => panic!("{}: both body and text", self.when),
        };
        let status = self.status.unwrap_or_else(|| panic!("{}: no status", self.when));
        Answer { bearer_error: self.bearer_error.clone(), ..answer(status, &body) }
    }

    fn verdict(&self, provider: &Provider) -> Verdict {
        let known = Known {
            grant: self.grant,
            token_age: self.token_age.as_deref().map(|age| humantime::parse_duration(age).unwrap()),
            subject: Some("invented-subject"),
            client_id: Some("invented-client"),
        };
        match self.at {
            Where::Token => {
                let exchange = Exchange::Answered(self.answer());
                let outcome = provider.outcome_knowing(&exchange, &known, NOW);
                let (Outcome::NotCommitted(evidence)
                | Outcome::Dead(evidence)
                | Outcome::Ambiguous(evidence)) = &outcome
                else {
                    return Verdict {
                        is: outcome_words(&outcome),
                        acts: Acts::Nobody,
                        spends: false,
                    };
                };
                let outcome_word = outcome_words(&outcome);
                let outcome_word = outcome_word.split(": ").next().unwrap();
                let verdict = seen(provider, evidence);
                // An answer to a refresh is no reason for the next one.
                Verdict { is: format!("{outcome_word}: {}", verdict.is), spends: false, ..verdict }
            }
            Where::Probe => {
                let exchange = Exchange::Answered(self.answer());
                let (word, evidence) = match provider.liveness_knowing(&exchange, &known, NOW) {
                    Liveness::Refused(evidence) => ("refused", evidence),
                    Liveness::Unknown(evidence) => ("unknown", evidence),
                    Liveness::Alive => {
                        return Verdict { is: "alive".into(), acts: Acts::Nobody, spends: false };
                    }
                };
                let verdict = seen(provider, &evidence);
                Verdict { is: format!("{word}: {}", verdict.is), ..verdict }
            }
            Where::Redirect | Where::Webhook => {
                let body = self.body.clone().unwrap();
                assert_eq!(self.status, None, "{}", self.when);
                said(provider, provider.message(self.at, &body, NOW))
            }
            Where::Any | Where::Api | Where::Publish => {
                said(provider, provider.refusal(self.at, &self.answer(), &known, NOW))
            }
        }
    }
}

fn said(provider: &Provider, evidence: Option<Evidence>) -> Verdict {
    match evidence {
        Some(evidence) => seen(provider, &evidence),
        None => Verdict { is: "nothing".to_owned(), acts: Acts::Nobody, spends: false },
    }
}

fn seen(provider: &Provider, evidence: &Evidence) -> Verdict {
    let spends = evidence.cause == Cause::AccessTokenExpired;
    assert!(!spends || matches!(provider.renewal, Renewal::Rotating | Renewal::Stable));
    // What varies from answer to answer is the business of the recorded ones.
    let shown = Evidence { code: None, log_id: None, status: None, ..evidence.clone() };
    let acts = match evidence.cause.actor() {
        Actor::Nobody => Acts::Nobody,
        Actor::Owner => Acts::Owner,
        Actor::Operator => Acts::Operator,
    };
    Verdict { is: words(&shown), acts, spends }
}

#[test]
fn a_row_that_asks_for_what_is_not_known_does_not_fit() {
    let google = in_catalogue("google", Environment::Production);
    let of_somebody = Exchange::Answered(answer(200, r#"{"aud":"some-client"}"#));
    assert_eq!(google.liveness(&of_somebody, None, NOW), Liveness::Alive);
    let sandbox = in_catalogue("tiktok", Environment::Sandbox);
    let refused = Exchange::Answered(answer(200, r#"{"error":"invalid_grant"}"#));
    assert!(matches!(sandbox.outcome(&refused, NOW), Outcome::NotCommitted(_)));
}

#[test]
fn every_refresh_that_helps_has_something_to_refresh_with() {
    for name in providers::names() {
        let provider = in_catalogue(name, Environment::Production);
        let helped = cases(name).iter().any(|case| case.spends);
        let extends = provider.renewal == Renewal::ExtendInPlace;
        assert_ne!(helped, extends, "{name}: {:?}", provider.renewal);
        assert_eq!(provider.min_age > Duration::ZERO, matches!(name, "instagram" | "threads"));
    }
}
