//! Did all go as promised? Compares what the provider, the publisher, the store and the mailbox saw.

use super::{cast::Actor, publisher::Answers};
use crate::terminal::text::wrapped;
use std::collections::BTreeMap;

/// What was seen of one account.
pub(super) struct Seen {
    pub(super) actor: Actor,
    pub(super) answers: Answers,
    /// The store holds the refresh token that the provider honours.
    pub(super) kept: bool,
    /// The provider accepts the access token that the store holds.
    pub(super) live: bool,
    /// Its trouble began in this run, long enough ago for a person to have been told.
    pub(super) mail_due: bool,
}

/// What was seen of the whole demo.
pub(super) struct Findings {
    pub(super) accounts: Vec<Seen>,
    /// Tokens that the provider issued on request.
    pub(super) refreshes: usize,
    /// Retired refresh tokens that were presented, beyond the one probe after a lost answer.
    pub(super) retired_presented: usize,
    /// Times that two requests for one account were under way together.
    pub(super) overlaps: usize,
    /// Recipient and subject of every mail.
    pub(super) mails: Vec<(String, String)>,
    /// The app's secret was changed, long enough ago for the operator to have been told.
    pub(super) operator_mail_due: bool,
    /// The secret was changed at all.
    pub(super) operator_mail_allowed: bool,
}

impl Findings {
    /// Accounts whose token the provider would honour and the store does not have.
    pub(super) fn lost(&self) -> Vec<&str> {
        let lost = self.accounts.iter().filter(|seen| !seen.kept);
        lost.filter(|seen| seen.actor.role.has_token_to_lose())
            .map(|seen| seen.actor.account.as_str())
            .collect()
    }

    /// Every promise that was not kept, in words. Empty when all is well.
    pub(super) fn violations(&self) -> Vec<String> {
        let mut broken = Vec::new();
        if self.refreshes == 0 {
            broken.push("no token was refreshed".to_owned());
        }
        if self.overlaps > 0 {
            let times = self.overlaps;
            broken.push(format!(
                "{times} times two requests for one account were under way together"
            ));
        }
        if self.retired_presented > 0 {
            let times = self.retired_presented;
            broken.push(format!("a retired refresh token was presented {times} times too often"));
        }
        broken.extend(self.lost().iter().map(|account| format!("the token of {account} was lost")));
        for seen in &self.accounts {
            self.account_violations(seen, &mut broken);
        }
        self.operator_violations(&mut broken);
        let known =
            |to: &str| to == OPERATOR || self.accounts.iter().any(|seen| seen.actor.owner == to);
        let strangers = self.mails.iter().filter(|(to, _)| !known(to)).count();
        if strangers > 0 {
            broken.push(format!("{strangers} mails went to nobody on the stage"));
        }
        broken
    }

    fn account_violations(&self, seen: &Seen, broken: &mut Vec<String>) {
        let account = &seen.actor.account;
        let mails = self.subjects_to(&seen.actor.owner);
        let is_owed = seen.mail_due && mails.is_empty();
        if seen.actor.role.breaks() {
            if is_owed {
                broken.push(format!("the owner of {account} was not told"));
            }
            if let Some(subject) = repeated(&mails) {
                broken.push(format!("the owner of {account} was told twice: {subject}"));
            }
            if mails.len() > MAILS_PER_INCIDENT_MAX {
                broken.push(format!("the owner of {account} had {} mails", mails.len()));
            }
            return;
        }
        if !seen.live {
            broken.push(format!("{account} is healthy and its stored access token is dead"));
        }
        if seen.answers.unauthorized() > 0 {
            let times = seen.answers.unauthorized();
            broken.push(format!("{account} is healthy and {times} of its posts had a 401"));
        }
        if !mails.is_empty() {
            broken.push(format!("{account} is healthy and its owner had {} mails", mails.len()));
        }
    }

    fn operator_violations(&self, broken: &mut Vec<String>) {
        let mails = self.subjects_to(OPERATOR);
        if self.operator_mail_due && mails.is_empty() {
            broken.push("the operator was not told that the app's secret is refused".to_owned());
        }
        // One that it began, one that it is over.
        let allowed = if self.operator_mail_allowed { MAILS_PER_INCIDENT_MAX } else { 0 };
        if mails.len() > allowed {
            let subjects = mails.join("; ");
            broken.push(format!("the operator had {} mails: {subjects}", mails.len()));
        } else if let Some(subject) = repeated(&mails) {
            broken.push(format!("the operator was told twice: {subject}"));
        }
    }

    fn subjects_to(&self, address: &str) -> Vec<&str> {
        let mails = self.mails.iter().filter(|(to, _)| to == address);
        mails.map(|(_, subject)| subject.as_str()).collect()
    }

    /// The summary for the terminal.
    pub(super) fn summary(&self, columns: usize) -> String {
        let healthy = self.accounts.iter().filter(|seen| !seen.actor.role.breaks());
        let (healthy, lapsed) = healthy.fold((0, 0), |(healthy, lapsed), seen| {
            let has_lapsed = !seen.live || seen.answers.unauthorized() > 0;
            (healthy + 1, lapsed + usize::from(has_lapsed))
        });
        let posted: u32 = self.accounts.iter().map(|seen| seen.answers.posted).sum();
        let unauthorized: u32 = self.accounts.iter().map(|seen| seen.answers.unauthorized()).sum();
        let whose = list(self.accounts.iter().filter_map(|seen| {
            let times = seen.answers.unauthorized();
            (times > 0).then(|| format!("{} {times}", seen.actor.account))
        }));
        let mut by_person = BTreeMap::<&str, usize>::new();
        for (to, _) in &self.mails {
            let name = to.split('@').next().unwrap_or_default();
            *by_person.entry(name).or_default() += 1;
        }
        let people = list(by_person.iter().map(|(name, mails)| format!("{name} {mails}")));
        let lost = self.lost();
        let lost_names = list(lost.iter().map(|name| (*name).to_owned()));
        let mut text = String::new();
        let mut line = |name: &str, what: String| {
            text += &wrapped(&format!("  {name:<21}"), &what, columns);
        };
        line("refreshes", self.refreshes.to_string());
        line("posts taken", posted.to_string());
        line("401s seen", format!("{unauthorized}{whose}"));
        line("mails sent", format!("{}{people}", self.mails.len()));
        line("tokens lost", format!("{}{lost_names}", lost.len()));
        line("healthy accounts", format!("{healthy}, {lapsed} of them lapsed"));
        text
    }
}

fn repeated<'a>(subjects: &[&'a str]) -> Option<&'a str> {
    let mut sorted = subjects.to_vec();
    sorted.sort_unstable();
    sorted.windows(2).find(|pair| pair[0] == pair[1]).map(|pair| pair[0])
}

fn list(items: impl Iterator<Item = String>) -> String {
    let mut items: Vec<_> = items.collect();
    let further = items.len().saturating_sub(LISTED_MAX);
    items.truncate(LISTED_MAX);
    if further > 0 {
        items.push(format!("{further} more"));
    }
    if items.is_empty() { String::new() } else { format!(" ({})", items.join(", ")) }
}

/// Who runs the sidecar on this stage.
pub(super) const OPERATOR: &str = "operator@demo.invalid";
/// An incident is told when it begins and when it is over; a refresh token's end is announced and then
/// there.
const MAILS_PER_INCIDENT_MAX: usize = 2;
/// Names in one line of the summary.
const LISTED_MAX: usize = 8;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::demo::cast::cast;

    /// A demo in which all went well.
    fn well() -> Findings {
        let seen = |actor: Actor| {
            let breaks = actor.role.breaks();
            let token_refused = u32::from(breaks);
            let answers = Answers { posted: 20, token_refused, ..Answers::default() };
            let kept = actor.role.has_token_to_lose();
            Seen { actor, answers, kept, live: !breaks, mail_due: breaks }
        };
        let mail = |to: &str| (format!("{to}@demo.invalid"), format!("about {to}"));
        let mut mails = ["owner-03", "owner-05", "owner-07", "operator"].map(mail).to_vec();
        mails.push((OPERATOR.to_owned(), "resolved".to_owned()));
        Findings {
            accounts: cast(12).into_iter().map(seen).collect(),
            refreshes: 60,
            retired_presented: 0,
            overlaps: 0,
            mails,
            operator_mail_due: true,
            operator_mail_allowed: true,
        }
    }

    #[test]
    fn nothing_is_held_against_a_demo_in_which_all_went_well() {
        assert_eq!(well().violations(), Vec::<String>::new());
    }

    #[test]
    fn each_promise_that_is_not_kept_is_named() {
        type Harm = fn(&mut Findings);
        let cases: [(Harm, &str); 14] = [
            (|f| f.refreshes = 0, "no token was refreshed"),
            (|f| f.overlaps = 1, "under way together"),
            (|f| f.retired_presented = 2, "presented 2 times too often"),
            (|f| f.accounts[0].kept = false, "the token of brand-01 was lost"),
            (|f| f.accounts[4].kept = false, "the token of brand-05 was lost"),
            (|f| f.accounts[8].live = false, "brand-09 is healthy and its stored access token"),
            (|f| f.accounts[10].answers.token_refused = 3, "brand-11 is healthy and 3 of its"),
            (|f| f.accounts[1].answers.scope_refused = 1, "brand-02 is healthy and 1 of its"),
            (|f| f.mails.retain(|(to, _)| !to.starts_with("owner-03")), "brand-03 was not told"),
            (|f| f.mails.extend_from_within(1..2), "brand-05 was told twice"),
            (|f| f.mails[0].0 = "owner-01@demo.invalid".to_owned(), "brand-01 is healthy and its"),
            (|f| f.mails.retain(|(to, _)| to != OPERATOR), "the operator was not told"),
            (|f| f.mails.extend_from_within(3..4), "the operator had 3 mails"),
            (|f| f.mails.push(("x@y".to_owned(), String::new())), "1 mails went to nobody"),
        ];
        for (harm, expected) in cases {
            let mut findings = well();
            harm(&mut findings);
            let violations = findings.violations();
            assert!(
                violations.iter().any(|violation| violation.contains(expected)),
                "expected {expected:?} in {violations:?}"
            );
        }
    }

    #[test]
    fn a_revoked_account_has_no_token_to_lose() {
        let mut findings = well();
        findings.accounts[2].kept = false;
        assert!(findings.lost().is_empty());
    }

    #[test]
    fn before_its_time_a_mail_is_not_missed_and_no_operator_mail_is_expected() {
        let mut findings = well();
        findings.mails.clear();
        findings.operator_mail_due = false;
        findings.operator_mail_allowed = false;
        findings.accounts.iter_mut().for_each(|seen| seen.mail_due = false);
        assert_eq!(findings.violations(), Vec::<String>::new());
        findings.mails.push((OPERATOR.to_owned(), "early".to_owned()));
        assert_eq!(findings.violations(), ["the operator had 1 mails: early"]);
    }

    #[test]
    fn the_summary_names_people_by_their_names_on_the_stage() {
        let summary = well().summary(80);
        assert!(summary.contains("refreshes            60"), "{summary}");
        assert!(summary.contains("401s seen            3 (brand-03 1, brand-05 1, brand-07 1)"));
        assert!(summary.lines().all(|line| line.chars().count() <= 80), "{summary}");
        assert!(summary.contains("operator 2, owner-03 1, owner-05 1, owner-07 1"), "{summary}");
        assert!(summary.contains("tokens lost          0\n"), "{summary}");
    }

    #[test]
    fn the_summary_of_a_large_fleet_in_trouble_stays_short() {
        let mut findings = well();
        let seen = |actor: Actor| Seen {
            actor,
            answers: Answers { token_refused: 1, ..Answers::default() },
            kept: false,
            live: false,
            mail_due: false,
        };
        findings.accounts = cast(2_000).into_iter().map(seen).collect();
        let summary = findings.summary(80);
        let words = summary.split_whitespace().collect::<Vec<_>>().join(" ");
        assert!(words.contains("brand-08 1, 1992 more)"), "{summary}");
        assert!(summary.lines().count() <= 12, "{summary}");
        assert!(summary.lines().all(|line| line.chars().count() <= 80), "{summary}");
    }
}
