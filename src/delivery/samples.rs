//! Invented notices of every kind, with which templates are tried out.

use super::{
    message::{Letter, Role},
    templates::Templates,
};
use crate::core::{
    AccountId, Cause, Evidence, Gate, Secret, Timestamp,
    digest::{Many, Summary},
    notices::{Audience, Change, Notice, Subject},
};
use jiff::tz::TimeZone;
use std::{collections::BTreeMap, sync::Arc, time::Duration};

/// Calls `look` with a letter of each kind.
pub(super) fn each(mut look: impl FnMut(&Letter<'_>)) {
    for change in [Change::Firing, Change::Reminder, Change::Resolved] {
        for audience in [Audience::Owner, Audience::Operator] {
            for count in [1, 3] {
                let notices: Vec<(String, Notice)> =
                    (0..count).map(|nth| (String::new(), notice(nth, change, audience))).collect();
                let counts = [(change, Cause::ScopeMissing, count)];
                with(&notices, &counts, &Summary::default(), audience, &mut look);
                let more = [(change, Cause::ScopeMissing, count + 40)];
                with(&notices, &more, &summary(), audience, &mut look);
            }
        }
    }
    with(&[], &[], &summary(), Audience::Operator, &mut look);
}

fn with(
    notices: &[(String, Notice)],
    counts: &[(Change, Cause, usize)],
    summary: &Summary,
    audience: Audience,
    look: &mut impl FnMut(&Letter<'_>),
) {
    let address = Secret::new("sample@example.com".to_owned());
    look(&Letter {
        notices,
        counts,
        summary,
        now: NOW,
        titles: &BTreeMap::new(),
        role: if audience == Audience::Owner { Role::Owner } else { Role::Operator },
        zone: &TimeZone::UTC,
        external_url: (notices.len() != 1).then_some("https://keepalive.example.com"),
        links: None,
        from: &address,
        to: &address,
        message_key: "sample",
        threads: &[],
        templates: &Templates::built_in(),
    });
}

fn notice(nth: usize, change: Change, audience: Audience) -> Notice {
    let mut evidence = Evidence::of(Cause::ScopeMissing, NOW);
    evidence.code = Some("scope_not_authorized".into());
    Notice {
        subject: Subject::Account(AccountId::new("example", format!("sample-{nth}"))),
        cause: Cause::ScopeMissing,
        change,
        audience,
        since: NOW.minus(Duration::from_secs(3_600)),
        at: NOW,
        expires_at: Some(NOW.plus(Duration::from_secs(3_600))),
        evidence: (nth == 0).then(|| Arc::new(evidence)),
        step: None,
        missing_scopes: vec!["video.publish".into()],
        accounts: 1,
        posts_at_risk: Some(3),
        gate: Gate::Open,
    }
}

fn summary() -> Summary {
    let cause = Cause::ConsentRevoked;
    let many = Many { provider: "example".into(), cause, accounts: 100, owners: 5 };
    Summary { many: vec![many], held: 2 }
}

/// 22 November 2026, 10:31 UTC.
const NOW: Timestamp = Timestamp::from_unix(1_795_343_460);
