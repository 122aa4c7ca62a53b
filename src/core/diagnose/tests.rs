//! Situations, and what is made of them.

use super::*;
use crate::core::{
    AccountId, Evidence, Fingerprint, History, TokenFacts,
    cause::Actor,
    history::{self, Failure, ScopesSeen, Source, Writer, Writing},
    second_clock::{End, Moves, Provenance},
};
use std::{sync::Arc, time::Duration};

const MINUTE: u64 = 60;
const HOUR: u64 = 60 * MINUTE;
const DAY: u64 = 24 * HOUR;

fn now() -> Timestamp {
    Timestamp::from_unix(1_800_000_000)
}

fn ago(seconds: u64) -> Timestamp {
    now().minus(Duration::from_secs(seconds))
}

fn hence(seconds: u64) -> Timestamp {
    now().plus(Duration::from_secs(seconds))
}

/// An account on which nothing happened: connected 40 days ago, refreshed an hour ago, one of twelve.
struct Situation {
    account: Account,
    history: History,
    app: AppFacts<'static>,
    missing: Vec<&'static str>,
    scopes_known: bool,
    clock_ahead: Option<i64>,
    store_up: bool,
    state_up: bool,
}

impl Situation {
    fn diagnosis(mut self) -> Diagnosis {
        self.account.history = Some(Arc::new(self.history));
        let mut app = self.app;
        if app.sharing == 0 {
            app.sharing = usize::from(self.account.cause.is_some());
        }
        diagnose(&Case {
            now: now(),
            account: &self.account,
            app,
            missing: self.missing,
            scopes_known: self.scopes_known,
            clock_ahead: self.clock_ahead,
            store_up: self.store_up,
            state_up: self.state_up,
        })
    }

    fn ends(&mut self, from: Provenance) {
        let end = End { at: hence(6 * DAY), from, moves: Moves::Absolute };
        self.account.refresh_end = Some(end);
    }

    fn token(&mut self) -> &mut TokenFacts {
        self.account.token.as_mut().unwrap()
    }

    /// Nothing ever worked, and it was connected so long ago.
    fn connected(&mut self, seconds: u64) {
        self.account.last_refresh_at = None;
        self.account.first_seen_at = Some(ago(seconds));
        self.token().issued_at = ago(seconds);
    }

    fn failed(&mut self, cause: Cause, status: u16, code: &str, detail: Option<&str>) {
        let mut evidence = Evidence::of(cause, ago(10 * MINUTE));
        evidence.status = Some(status);
        evidence.code = Some(code.into());
        evidence.detail = detail.map(Into::into);
        evidence.log_id = Some("20261122A1".into());
        evidence.app_wide = cause == Cause::AppCredentialsRejected;
        let failure = Failure {
            first_at: ago(20 * MINUTE),
            evidence: Arc::new(evidence),
            times: 2,
            source: Source::Refresh,
            token_age: Some(Duration::from_secs(50 * MINUTE)),
            clock_ahead: None,
        };
        self.history.note_failure(failure, None);
    }
}

fn situation(cause: Option<Cause>, change: impl FnOnce(&mut Situation)) -> Diagnosis {
    let mut account = Account::new(AccountId::new("tiktok", "brand-a"), "main".into());
    account.cause = cause;
    account.cause_since = cause.map(|_| ago(10 * MINUTE));
    account.first_seen_at = Some(ago(40 * DAY));
    account.last_refresh_at = Some(ago(HOUR));
    account.token = Some(TokenFacts {
        token: Fingerprint::from_hash(1),
        renewable_by: Some(Fingerprint::from_hash(2)),
        issued_at: ago(HOUR),
        expires_at: Some(hence(HOUR)),
        refresh_expires_at: Some(hence(100 * DAY)),
        missing_scopes: 0,
    });
    let mut made = Situation {
        account,
        history: History::default(),
        app: AppFacts { name: "main", accounts: 12, ..AppFacts::default() },
        missing: Vec::new(),
        scopes_known: true,
        clock_ahead: Some(0),
        store_up: true,
        state_up: true,
    };
    change(&mut made);
    made.diagnosis()
}

type Row = (&'static str, Diagnosis, Option<Cause>, Confidence, Step);

/// Each cause at least once, as plain as it comes.
fn plain_rows() -> Vec<Row> {
    use Confidence::{Certain, Likely, Possible};
    let of = |cause: Cause, change: fn(&mut Situation)| situation(Some(cause), change);
    let row = |sentence, diagnosis, cause: Cause, confidence, step| {
        (sentence, diagnosis, Some(cause), confidence, step)
    };
    vec![
        ("nothing is wrong", situation(None, |_| {}), None, Certain, Step::Nothing),
        row(
            "an access token at its declared end is refreshed by itself",
            of(Cause::AccessTokenExpired, |s| s.token().expires_at = Some(ago(MINUTE))),
            Cause::AccessTokenExpired,
            Certain,
            Step::Wait,
        ),
        row(
            "a refresh token at its own end needs its owner",
            of(Cause::RefreshTokenExpired, |s| s.token().refresh_expires_at = Some(ago(DAY))),
            Cause::RefreshTokenExpired,
            Certain,
            Step::Reconnect,
        ),
        row(
            "a refresh token that worked for weeks and is rejected needs its owner",
            of(Cause::RefreshTokenRejected, |s| {
                s.failed(Cause::RefreshTokenRejected, 400, "invalid_grant", None);
            }),
            Cause::RefreshTokenRejected,
            Certain,
            Step::Reconnect,
        ),
        row(
            "a consent that the provider calls revoked is revoked",
            of(Cause::ConsentRevoked, |s| {
                s.failed(Cause::ConsentRevoked, 401, "consent_revoked", None);
            }),
            Cause::ConsentRevoked,
            Certain,
            Step::Reconnect,
        ),
        row(
            "a scope that is not granted is named and to be granted",
            of(Cause::ScopeMissing, |s| s.missing = vec!["video.publish"]),
            Cause::ScopeMissing,
            Certain,
            Step::ReconnectGranting,
        ),
        row(
            "an app that worked and is refused has wrong credentials now",
            of(Cause::AppCredentialsRejected, |s| {
                s.failed(Cause::AppCredentialsRejected, 401, "invalid_client", None);
            }),
            Cause::AppCredentialsRejected,
            Certain,
            Step::MendCredentials,
        ),
        row(
            "a redirect URI that was refused while connecting is to be mended first",
            of(Cause::NotRenewable, |s| {
                s.account.token = None;
                s.account.last_refresh_at = None;
                s.failed(Cause::RedirectUriMismatch, 400, "redirect_uri_mismatch", None);
            }),
            Cause::RedirectUriMismatch,
            Certain,
            Step::MendRedirectUri,
        ),
        row(
            "a production token with a sandbox app is compared with its environment",
            of(Cause::WrongEnvironment, |s| {
                s.app.is_sandbox = true;
                s.failed(
                    Cause::WrongEnvironment,
                    400,
                    "invalid_grant",
                    Some("sandbox_refresh_unsupported"),
                );
            }),
            Cause::WrongEnvironment,
            Likely,
            Step::CompareEnvironment,
        ),
        row(
            "who is asked to wait waits",
            of(Cause::RateLimited, |s| {
                s.failed(Cause::RateLimited, 429, "rate_limit_exceeded", None);
            }),
            Cause::RateLimited,
            Certain,
            Step::Wait,
        ),
        row(
            "a provider that answers with errors is waited for",
            of(Cause::ProviderOutage, |s| s.failed(Cause::ProviderOutage, 503, "", None)),
            Cause::ProviderOutage,
            Certain,
            Step::Wait,
        ),
        row(
            "a token that ended by our clock and lives by the provider's shows a clock that is off",
            of(Cause::AccessTokenExpired, |s| {
                s.token().expires_at = Some(ago(MINUTE));
                s.clock_ahead = Some(-3_600);
            }),
            Cause::ClockDrift,
            Likely,
            Step::MendClock,
        ),
        row(
            "with the store away an account that is well is in danger all the same",
            situation(None, |s| s.store_up = false),
            Cause::StoreUnreachable,
            Certain,
            Step::MendStore,
        ),
        row(
            "the same with our own state",
            situation(None, |s| s.state_up = false),
            Cause::StoreUnreachable,
            Certain,
            Step::MendState,
        ),
        row(
            "a rotation whose answer was lost needs its owner",
            of(Cause::RotationLost, |s| {
                s.failed(Cause::RotationLost, 400, "invalid_grant", None);
            }),
            Cause::RotationLost,
            Likely,
            Step::Reconnect,
        ),
        row(
            "an unsaved token is the most urgent thing there is",
            of(Cause::UnsavedToken, |s| s.account.unsaved = true),
            Cause::UnsavedToken,
            Certain,
            Step::SaveAtOnce,
        ),
        row(
            "a token that was never given what renews it was connected without asking for that",
            of(Cause::NotRenewable, |s| {
                s.token().renewable_by = None;
                s.account.last_refresh_at = None;
            }),
            Cause::NotRenewable,
            Certain,
            Step::ReconnectOffline,
        ),
        row(
            "a connection whose end stands is reconnected before it comes",
            of(Cause::NotRenewable, |s| s.ends(Provenance::Learnt)),
            Cause::NotRenewable,
            Certain,
            Step::Reconnect,
        ),
        row(
            "an end that is only estimated is likely",
            of(Cause::NotRenewable, |s| s.ends(Provenance::Estimated)),
            Cause::NotRenewable,
            Likely,
            Step::Reconnect,
        ),
        row(
            "a token that was renewed before and ended cannot be renewed any more",
            of(Cause::NotRenewable, |s| s.token().expires_at = Some(ago(DAY))),
            Cause::NotRenewable,
            Certain,
            Step::Reconnect,
        ),
        row(
            "what nobody understands is asked of the provider",
            of(Cause::Unknown, |s| s.failed(Cause::Unknown, 418, "teapot", None)),
            Cause::Unknown,
            Possible,
            Step::AskSupport,
        ),
    ]
}

/// Where one fact more changes what is to be done.
fn hard_rows() -> Vec<Row> {
    use Confidence::{Certain, Likely, Possible};
    let refused = |s: &mut Situation| {
        s.history.check = Some(history::Check { at: ago(5 * MINUTE), alive: Some(false) });
        s.failed(Cause::AccessTokenExpired, 401, "access_token_invalid", None);
        s.account.access_refused = true;
    };
    let dead = |s: &mut Situation| {
        s.failed(Cause::RefreshTokenRejected, 400, "invalid_grant", None);
    };
    let rejected = Cause::RefreshTokenRejected;
    let row = |sentence, diagnosis, cause: Cause, confidence, step| {
        (sentence, diagnosis, Some(cause), confidence, step)
    };
    vec![
        row(
            "a 401 right after set-up points at the set-up",
            situation(Some(Cause::AccessTokenExpired), |s| {
                refused(s);
                s.connected(2 * HOUR);
            }),
            Cause::AccessTokenExpired,
            Possible,
            Step::CheckSetUp,
        ),
        row(
            "a 401 after weeks points at the token",
            situation(Some(Cause::AccessTokenExpired), refused),
            Cause::AccessTokenExpired,
            Certain,
            Step::Wait,
        ),
        row(
            "a refresh token that is rejected right after set-up, in an app that never worked",
            situation(Some(rejected), |s| {
                dead(s);
                s.connected(2 * HOUR);
            }),
            rejected,
            Possible,
            Step::CheckSetUp,
        ),
        row(
            "the same in an app whose other accounts work",
            situation(Some(rejected), |s| {
                dead(s);
                s.connected(2 * HOUR);
                s.app.others_renewed_at = Some(ago(MINUTE));
            }),
            rejected,
            Likely,
            Step::Reconnect,
        ),
        row(
            "a publisher that wrote last may have spent the token",
            situation(Some(rejected), |s| {
                dead(s);
                s.history.note_writing(Writing { at: ago(30 * MINUTE), by: Writer::Publisher });
            }),
            rejected,
            Likely,
            Step::StopPublisher,
        ),
        row(
            "a publisher that wrote before our last refresh has nothing to do with it",
            situation(Some(rejected), |s| {
                dead(s);
                s.history.note_writing(Writing { at: ago(2 * HOUR), by: Writer::Publisher });
            }),
            rejected,
            Certain,
            Step::Reconnect,
        ),
        row(
            "in a sandbox a rejection may be the sandbox's own",
            situation(Some(rejected), |s| {
                dead(s);
                s.app.is_sandbox = true;
            }),
            rejected,
            Likely,
            Step::Reconnect,
        ),
        row(
            "all accounts of an app do not leave at once",
            situation(Some(rejected), |s| {
                dead(s);
                s.app.sharing = 12;
            }),
            rejected,
            Possible,
            Step::CompareClient,
        ),
        row(
            "a scope that no account of the app has is the app's to be approved for",
            situation(Some(Cause::ScopeMissing), |s| {
                s.missing = vec!["video.publish"];
                s.app.sharing = 12;
            }),
            Cause::ScopeMissing,
            Likely,
            Step::ApproveScopes,
        ),
        row(
            "another account's token is compared with the account",
            situation(Some(Cause::WrongEnvironment), |s| {
                s.failed(Cause::WrongEnvironment, 200, "ok", Some("another_account"));
            }),
            Cause::WrongEnvironment,
            Certain,
            Step::CompareAccount,
        ),
        row(
            "another client's token is compared with the client id",
            situation(Some(Cause::WrongEnvironment), |s| {
                s.failed(
                    Cause::WrongEnvironment,
                    400,
                    "invalid_grant",
                    Some("token_of_other_client"),
                );
            }),
            Cause::WrongEnvironment,
            Certain,
            Step::CompareClient,
        ),
        row(
            "an app that never worked may be registered elsewhere",
            situation(Some(Cause::AppCredentialsRejected), |s| {
                s.failed(Cause::AppCredentialsRejected, 401, "invalid_client", None);
                s.connected(HOUR);
            }),
            Cause::AppCredentialsRejected,
            Likely,
            Step::MendCredentials,
        ),
        row(
            "a secret that cannot be read is no secret to compare",
            situation(Some(Cause::AppCredentialsRejected), |s| {
                s.failed(Cause::AppCredentialsRejected, 0, "", Some("secret_unreadable"));
            }),
            Cause::AppCredentialsRejected,
            Certain,
            Step::MendSecretFile,
        ),
        row(
            "an app that an invented token is refused by is in order",
            situation(Some(Cause::AppCredentialsRejected), |s| {
                s.failed(Cause::AppCredentialsRejected, 401, "invalid_client", None);
                s.app.junk = Some(JunkAnswer { at: ago(MINUTE), app_is_accepted: true });
            }),
            Cause::AppCredentialsRejected,
            Possible,
            Step::CompareClient,
        ),
        row(
            "an account that was refused last for the app's sake shares its trouble after a restart",
            situation(None, |s| {
                s.failed(Cause::AppCredentialsRejected, 401, "invalid_client", None);
                s.app.refused = Some((Cause::AppCredentialsRejected, ago(10 * MINUTE)));
            }),
            Cause::AppCredentialsRejected,
            Certain,
            Step::MendCredentials,
        ),
        row(
            "an outage that others do not have may be none",
            situation(Some(Cause::ProviderOutage), |s| {
                s.failed(Cause::ProviderOutage, 503, "", None);
                s.app.others_renewed_at = Some(ago(MINUTE));
            }),
            Cause::ProviderOutage,
            Possible,
            Step::Wait,
        ),
        row(
            "a clock that is off explains a refresh token that ended too early",
            situation(Some(Cause::RefreshTokenExpired), |s| {
                s.token().refresh_expires_at = Some(ago(HOUR));
                s.clock_ahead = Some(-7_200);
            }),
            Cause::ClockDrift,
            Likely,
            Step::MendClock,
        ),
        row(
            "a clock that is off by less than that explains nothing",
            situation(Some(Cause::RefreshTokenExpired), |s| {
                s.token().refresh_expires_at = Some(ago(HOUR));
                s.clock_ahead = Some(-1_800);
            }),
            Cause::RefreshTokenExpired,
            Certain,
            Step::Reconnect,
        ),
        row(
            "a token that somebody took away is told as that",
            situation(Some(Cause::NotRenewable), |s| {
                s.account.token = None;
                s.history.note_writing(Writing { at: ago(MINUTE), by: Writer::Removed });
            }),
            Cause::NotRenewable,
            Certain,
            Step::Connect,
        ),
    ]
}

#[test]
fn each_situation_has_its_cause_its_confidence_and_its_one_step() {
    for (sentence, diagnosis, cause, confidence, step) in
        plain_rows().into_iter().chain(hard_rows())
    {
        let made = (diagnosis.cause, diagnosis.confidence, diagnosis.step);
        assert_eq!(made, (cause, confidence, step), "{sentence}: {diagnosis:#?}");
    }
}

#[test]
fn every_cause_has_a_row_and_every_trouble_a_reason() {
    let rows: Vec<Row> = plain_rows().into_iter().chain(hard_rows()).collect();
    for cause in Cause::ALL {
        assert!(rows.iter().any(|row| row.2 == Some(cause)), "{cause:?} has no row");
    }
    for (sentence, diagnosis, ..) in &rows {
        assert!(!diagnosis.reasons_for.is_empty(), "{sentence}");
        assert_eq!(diagnosis.checks.len(), Question::ALL.len(), "{sentence}");
        let is_certain = diagnosis.confidence == Confidence::Certain;
        assert!(!is_certain || diagnosis.suspects.is_empty(), "{sentence}: {diagnosis:?}");
        for (other, _) in &diagnosis.ruled_out {
            assert_ne!(Some(*other), diagnosis.cause, "{sentence}");
            assert!(!diagnosis.suspects.contains(other), "{sentence}: {other:?}");
        }
    }
}

/// Who acts must be who can: an owner has no developer portal, an operator no consent to give.
#[test]
fn the_step_is_for_whoever_the_cause_names_unless_the_evidence_points_elsewhere() {
    for (sentence, diagnosis, ..) in plain_rows() {
        let Some(cause) = diagnosis.cause else { continue };
        let is_offline = diagnosis.step == Step::ReconnectOffline;
        assert!(is_offline || diagnosis.step.actor() == cause.actor(), "{sentence}: {cause:?}");
    }
    for (_, diagnosis, ..) in hard_rows() {
        let acts = diagnosis.step.actor();
        let is_owners = diagnosis.cause.is_some_and(|cause| cause.actor() == Actor::Owner);
        // An operator is asked before an owner is sent to reconnect in vain, never the other way round.
        assert!(acts != Actor::Owner || is_owners, "{diagnosis:?}");
    }
}

#[test]
fn a_scope_that_was_there_before_is_told_with_the_moment_it_went() {
    let shrank = |s: &mut Situation| {
        s.missing = vec!["video.publish"];
        let seen = ScopesSeen { at: ago(3 * HOUR), missing: vec!["video.publish".into()] };
        s.history.scopes.push(seen);
    };
    let lost = situation(Some(Cause::ScopeMissing), shrank);
    let told = Fact::at(What::ScopesLost(vec!["video.publish".into()]), ago(3 * HOUR));
    assert!(lost.reasons_for.contains(&told), "{lost:#?}");
    let check = &lost.checks[2];
    assert_eq!((check.question, check.answer), (Question::PermissionsChanged, Some(true)));

    let never = situation(Some(Cause::ScopeMissing), |s| {
        shrank(s);
        s.account.first_seen_at = Some(ago(3 * HOUR));
    });
    assert!(!never.reasons_for.contains(&told), "it was never there: {never:#?}");
    assert_eq!(never.checks[2].answer, None);
}

#[test]
fn the_questions_of_a_person_are_answered_from_what_is_known_and_not_otherwise() {
    let answers = |diagnosis: &Diagnosis| -> Vec<Option<bool>> {
        diagnosis.checks.iter().map(|check| check.answer).collect()
    };
    let (yes, no) = (Some(true), Some(false));
    let well = situation(None, |s| {
        s.history.check = Some(history::Check { at: ago(MINUTE), alive: Some(true) });
    });
    assert_eq!(answers(&well), [yes, yes, no, no, yes, yes, yes, yes]);
    let new = situation(Some(Cause::Unknown), |s| {
        s.connected(MINUTE);
        s.token().expires_at = None;
        s.scopes_known = false;
    });
    assert_eq!(answers(&new), [None; 8]);
    let dead = situation(Some(Cause::RefreshTokenRejected), |s| {
        s.failed(Cause::RefreshTokenRejected, 400, "invalid_grant", None);
        s.token().expires_at = Some(ago(MINUTE));
    });
    assert_eq!(answers(&dead), [no, yes, no, yes, yes, yes, yes, None]);
    let refused = situation(Some(Cause::AppCredentialsRejected), |s| {
        s.app.frozen = Some((Cause::AppCredentialsRejected, ago(MINUTE)));
    });
    assert_eq!(answers(&refused)[4], no);
}

#[test]
fn what_others_of_the_app_do_rules_the_app_and_the_provider_out() {
    let diagnosis = situation(Some(Cause::RefreshTokenRejected), |s| {
        s.failed(Cause::RefreshTokenRejected, 400, "invalid_grant", None);
        s.app.others_renewed_at = Some(ago(MINUTE));
    });
    let out: Vec<Cause> = diagnosis.ruled_out.iter().map(|(cause, _)| *cause).collect();
    for cause in [
        Cause::AppCredentialsRejected,
        Cause::ProviderOutage,
        Cause::RedirectUriMismatch,
        Cause::ScopeMissing,
        Cause::RefreshTokenExpired,
        Cause::ClockDrift,
    ] {
        assert!(out.contains(&cause), "{cause:?}: {out:?}");
    }
    let before = situation(Some(Cause::RefreshTokenRejected), |s| {
        s.failed(Cause::RefreshTokenRejected, 400, "invalid_grant", None);
        s.app.others_renewed_at = Some(ago(HOUR));
    });
    let out: Vec<Cause> = before.ruled_out.iter().map(|(cause, _)| *cause).collect();
    assert!(!out.contains(&Cause::ProviderOutage), "what was before it proves nothing: {out:?}");
}

#[test]
fn every_word_is_a_words_own_and_every_sentence_ends() {
    let mut words: Vec<&str> = Step::ALL.iter().map(|step| step.as_label()).collect();
    words.extend(Question::ALL.iter().map(|question| question.as_label()));
    let known = words.len();
    words.sort_unstable();
    words.dedup();
    assert_eq!(words.len(), known);
    for step in Step::ALL {
        assert!(step.sentence().ends_with('.'), "{step:?}");
    }
    for (_, diagnosis, ..) in plain_rows().into_iter().chain(hard_rows()) {
        let reasons = diagnosis.reasons_for.iter().chain(&diagnosis.reasons_against);
        for fact in reasons.chain(diagnosis.ruled_out.iter().map(|(_, fact)| fact)) {
            assert!(fact.to_string().ends_with('.'), "{fact}");
            assert!(!fact.as_label().is_empty());
        }
    }
}

#[test]
fn what_the_provider_said_reads_as_one_sentence() {
    let diagnosis = situation(Some(Cause::RefreshTokenRejected), |s| {
        s.failed(Cause::RefreshTokenRejected, 400, "invalid_grant", Some("session_policy"));
    });
    let first = &diagnosis.reasons_for[0];
    assert_eq!(
        first.to_string(),
        "Asked for a new token, the provider answered HTTP 400, code invalid_grant, detail session_policy, \
         log id 20261122A1; read as refresh_token_rejected, 2 times."
    );
    assert_eq!((first.at, first.since), (Some(ago(10 * MINUTE)), Some(ago(20 * MINUTE))));
}
