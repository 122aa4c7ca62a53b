//! Who receives a notice.

use super::{Owner, Settings, message::Role, message::is_address};
use crate::core::{
    Recipient, Secret,
    notices::{Audience, Notice, Subject, Way},
    pattern::matches,
};
use jiff::tz::TimeZone;

/// The addresses that hear of `notice`. An account's owner is the first entry of the configuration that
/// names the account, then what the store says, then the operator: a notice that reaches nobody would be
/// a token lost silently. What is no mail address counts as absent for the same reason.
#[must_use]
pub fn recipients(
    notice: &Notice,
    settings: &Settings,
    store_owner: Option<Secret>,
) -> Vec<Recipient> {
    let addresses = match notice.audience {
        Audience::Operator => settings.operator.clone(),
        Audience::Owner => configured_owner(notice, settings)
            .map(|owner| owner.to.clone())
            .or(store_owner)
            .filter(is_address)
            .map_or_else(|| settings.operator.clone(), |owner| vec![owner]),
    };
    let mail = |address| Recipient {
        is_operator: settings.operator.contains(&address),
        address,
        way: Way::Mail,
    };
    let hears = |webhook: &&super::Webhook| {
        let about = match &notice.subject {
            Subject::Account(id) => matches(&webhook.accounts, &id.to_string()),
            // What is about all of them is everybody's.
            Subject::App(_) | Subject::Store | Subject::Host => true,
        };
        about && webhook.audience == notice.audience
    };
    let webhook = |webhook: &super::Webhook| Recipient {
        address: Secret::new(webhook.name.clone()),
        way: Way::Webhook,
        // Whoever hears what owners can mend leaves the operator's part of the hour alone.
        is_operator: webhook.audience == Audience::Operator,
    };
    let mails = addresses.into_iter().map(mail);
    mails.chain(settings.webhooks.iter().filter(hears).map(webhook)).collect()
}

/// Why `to` receives `notice`.
pub(super) fn role(notice: &Notice, settings: &Settings, to: &Secret) -> Role {
    let is_operator = settings.operator.contains(to);
    match notice.audience {
        Audience::Operator => Role::Operator,
        Audience::Owner
            if is_operator && configured_owner(notice, settings).map(|one| &one.to) != Some(to) =>
        {
            Role::StandIn
        }
        Audience::Owner => Role::Owner,
    }
}

/// Where `to` lives.
pub(super) fn time_zone<'a>(settings: &'a Settings, to: &Secret) -> &'a TimeZone {
    let theirs = settings.owners.iter().filter(|owner| owner.to == *to);
    theirs.filter_map(|owner| owner.time_zone.as_ref()).next().unwrap_or(&settings.time_zone)
}

fn configured_owner<'a>(notice: &Notice, settings: &'a Settings) -> Option<&'a Owner> {
    let Subject::Account(id) = &notice.subject else { return None };
    let name = id.to_string();
    settings.owners.iter().find(|owner| matches(&owner.accounts, &name))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        core::{AccountId, Cause, Gate, Timestamp, digest::Rules, notices::Change},
        delivery::templates::Templates,
    };

    fn secret(text: &str) -> Secret {
        Secret::new(text.to_owned())
    }

    fn settings() -> Settings {
        let owner = |accounts: &str, to: &str| Owner {
            accounts: accounts.into(),
            to: secret(to),
            time_zone: None,
        };
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
            rules: Rules::EACH,
            reminders: Vec::new(),
            time_zone: TimeZone::UTC,
            templates: Templates::built_in(),
            webhooks: Vec::new(),
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
            posts_at_risk: None,
            gate: Gate::Open,
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
            let addresses: Vec<&str> = to.iter().map(|one| one.address.expose()).collect();
            assert_eq!(addresses, expected, "{account}, store says {store_owner:?}");
            for one in &to {
                assert_eq!(role(&notice, &settings(), &one.address), why, "{account}");
                assert_eq!(one.is_operator, why != Role::Owner, "{account}");
            }
        }
    }

    #[test]
    fn what_only_the_operator_can_mend_goes_to_the_operator() {
        let account = Subject::Account(AccountId::new("tiktok", "brand-a"));
        for subject in [account, Subject::App("main".into()), Subject::Store, Subject::Host] {
            let notice = notice(subject, Audience::Operator);
            let to = recipients(&notice, &settings(), Some(secret("s@example.com")));
            let addresses: Vec<Secret> = to.into_iter().map(|one| one.address).collect();
            assert_eq!(addresses, settings().operator);
            assert_eq!(role(&notice, &settings(), &addresses[0]), Role::Operator);
        }
    }

    #[test]
    fn a_webhook_hears_of_its_accounts_beside_the_mail() {
        let webhook = |name: &str, audience, accounts: &str| super::super::Webhook {
            name: name.to_owned(),
            url: super::super::Url::Plain("https://hooks.example.com".to_owned()),
            format: super::super::WebhookFormat::Json,
            secret: None,
            audience,
            accounts: accounts.to_owned(),
        };
        let mut settings = settings();
        settings.webhooks = vec![
            webhook("owners", Audience::Owner, "tiktok/brand-*"),
            webhook("operators", Audience::Operator, "*"),
        ];
        let account = |name: &str| Subject::Account(AccountId::new("tiktok", name));
        let cases = [
            (account("brand-a"), Audience::Owner, Some("owners")),
            (account("other"), Audience::Owner, None),
            (account("other"), Audience::Operator, Some("operators")),
            (Subject::Store, Audience::Operator, Some("operators")),
        ];
        for (subject, audience, expected) in cases {
            let to = recipients(&notice(subject, audience), &settings, None);
            let hooks: Vec<_> = to.iter().filter(|one| one.way == Way::Webhook).collect();
            assert_eq!(hooks.first().map(|one| one.address.expose()), expected);
            assert!(hooks.len() <= 1 && to.len() > hooks.len(), "the mail goes all the same");
        }
    }

    #[test]
    fn everybody_reads_the_time_of_where_they_live() {
        let mut settings = settings();
        settings.time_zone = TimeZone::get("Asia/Tokyo").unwrap();
        settings.owners[1].time_zone = Some(TimeZone::get("Europe/Berlin").unwrap());
        for (to, expected) in
            [("brands@example.com", "Europe/Berlin"), ("anna@example.com", "Asia/Tokyo")]
        {
            let zone = time_zone(&settings, &secret(to));
            assert_eq!(zone.iana_name(), Some(expected), "{to}");
        }
    }
}
