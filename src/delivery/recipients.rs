//! Who receives a notice.

use super::{Settings, message::Role, message::is_address};
use crate::core::{
    Secret,
    notices::{Audience, Notice, Subject},
    pattern::matches,
};

/// The addresses that hear of `notice`. An account's owner is the first entry of the configuration that
/// names the account, then what the store says, then the operator: a notice that reaches nobody would be
/// a token lost silently. What is no mail address counts as absent for the same reason.
#[must_use]
pub fn recipients(
    notice: &Notice,
    settings: &Settings,
    store_owner: Option<Secret>,
) -> Vec<Secret> {
    if notice.audience == Audience::Operator {
        return settings.operator.clone();
    }
    configured_owner(notice, settings)
        .cloned()
        .or(store_owner)
        .filter(is_address)
        .map_or_else(|| settings.operator.clone(), |owner| vec![owner])
}

/// Why `to` receives `notice`.
pub(super) fn role(notice: &Notice, settings: &Settings, to: &Secret) -> Role {
    let is_operator = settings.operator.contains(to);
    match notice.audience {
        Audience::Operator => Role::Operator,
        Audience::Owner if is_operator && configured_owner(notice, settings) != Some(to) => {
            Role::StandIn
        }
        Audience::Owner => Role::Owner,
    }
}

fn configured_owner<'a>(notice: &Notice, settings: &'a Settings) -> Option<&'a Secret> {
    let Subject::Account(id) = &notice.subject else { return None };
    let name = id.to_string();
    settings.owners.iter().find(|owner| matches(&owner.accounts, &name)).map(|owner| &owner.to)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        core::{AccountId, Cause, Timestamp, notices::Change},
        delivery::Owner,
    };

    fn secret(text: &str) -> Secret {
        Secret::new(text.to_owned())
    }

    fn settings() -> Settings {
        let owner = |accounts: &str, to: &str| Owner { accounts: accounts.into(), to: secret(to) };
        Settings {
            smtp: None,
            from: secret("keeper@example.com"),
            operator: vec![secret("ops@example.com"), secret("night@example.com")],
            owners: vec![
                owner("tiktok/brand-a", "anna@example.com"),
                owner("tiktok/brand-*", "brands@example.com"),
                owner("instagram/*", "not an address"),
            ],
            external_url: None,
        }
    }

    fn notice(subject: Subject, audience: Audience) -> Notice {
        Notice {
            subject,
            cause: Cause::ConsentRevoked,
            change: Change::Firing,
            audience,
            since: Timestamp::from_unix(1),
            at: Timestamp::from_unix(1),
            expires_at: None,
            evidence: None,
            step: None,
            missing_scopes: Vec::new(),
            accounts: 1,
        }
    }

    #[test]
    fn the_owner_is_the_first_entry_that_names_the_account_then_the_store_then_the_operator() {
        let ops = ["ops@example.com", "night@example.com"].as_slice();
        let cases: [(&str, Option<&str>, &[&str], Role); 8] = [
            ("tiktok/brand-a", None, &["anna@example.com"], Role::Owner),
            ("tiktok/brand-a", Some("s@example.com"), &["anna@example.com"], Role::Owner),
            ("tiktok/brand-b", None, &["brands@example.com"], Role::Owner),
            ("tiktok/other", Some("s@example.com"), &["s@example.com"], Role::Owner),
            ("tiktok/other", None, ops, Role::StandIn),
            ("tiktok/other", Some(" "), ops, Role::StandIn),
            ("tiktok/other", Some("s@example.com\r\nBcc: x@example.com"), ops, Role::StandIn),
            ("instagram/x", Some("s@example.com"), ops, Role::StandIn),
        ];
        for (account, store_owner, expected, why) in cases {
            let id = AccountId::parse(account).unwrap();
            let notice = notice(Subject::Account(id), Audience::Owner);
            let to = recipients(&notice, &settings(), store_owner.map(secret));
            let addresses: Vec<&str> = to.iter().map(Secret::expose).collect();
            assert_eq!(addresses, expected, "{account}, store says {store_owner:?}");
            for address in &to {
                assert_eq!(role(&notice, &settings(), address), why, "{account}");
            }
        }
    }

    #[test]
    fn what_only_the_operator_can_mend_goes_to_the_operator() {
        let account = Subject::Account(AccountId::new("tiktok", "brand-a"));
        for subject in [account, Subject::App("main".into()), Subject::Store, Subject::Host] {
            let notice = notice(subject, Audience::Operator);
            let to = recipients(&notice, &settings(), Some(secret("s@example.com")));
            assert_eq!(to, settings().operator);
            assert_eq!(role(&notice, &settings(), &to[0]), Role::Operator);
        }
    }
}
