//! What only a person can mend: who hears of it, how often, and what ends it.

use crate::{
    hook::Hook,
    mail_server::MailServer,
    until_or,
    world::{OPERATOR, SCOPES, World, brands, owner},
};
use oauth_keepalive::demo::provider::Refreshed;
use std::time::{Duration, Instant};

#[tokio::test]
async fn a_revoked_consent_is_mailed_once_and_resolved_once_in_the_same_thread_over_restarts() {
    let server = tokio::task::spawn_blocking(MailServer::start).await.unwrap();
    let mail = format!(
        "{{enabled: true, from: \"keepalive@invented.example\", operator: [\"{OPERATOR}\"], digest_after: 0s, smtp: {}}}",
        server.section()
    );
    let mut world = World::new().section("mail", &mail).start().await;
    world.provider.revoke_consent("brand-01");
    until_or("the owner has a mail", async || !server.messages().is_empty(), || world.tell()).await;
    world.until_cause("brand-01", "refresh_token_rejected").await;
    {
        let messages = server.messages();
        let firing = &messages[0];
        assert_eq!(firing.to(), [owner("brand-01")]);
        assert!(firing.was_protected(), "STARTTLS and a login were demanded: {firing:?}");
        assert!(firing.header("Subject").unwrap().contains("brand-01"));
        assert_eq!(firing.header("Auto-Submitted"), Some("auto-generated"));
        for part in [firing.part("text/plain"), firing.part("text/html")] {
            assert!(part.contains("brand-01"), "which account: {part}");
            assert!(part.to_lowercase().contains("reconnect"), "the next step: {part}");
        }
    }

    let status = world.program().terminate().await;
    assert_eq!(status.code(), Some(0));
    world.start().await;
    world.until_cause("brand-01", "refresh_token_rejected").await;
    world.until_rotated("brand-02", 2).await;
    assert_eq!(world.refreshed("brand-01"), [Refreshed::Revoked], "one refusal is enough");
    assert_eq!(server.messages().len(), 1, "a restart is no news");

    let token = world.provider.connect("brand-01", &SCOPES, Duration::ZERO);
    world.write("brand-01", &token);
    world.until_cause("brand-01", "none").await;
    until_or(
        "the owner hears that it is over",
        async || server.messages().len() >= 2,
        || world.tell(),
    )
    .await;
    world.until_rotated("brand-01", 1).await;
    world.kill_at_rest().await;
    world.start().await;
    world.until_each_rotated(&brands(2), 1).await;
    let messages = server.messages();
    assert_eq!(messages.len(), 2, "one that it began, one that it is over: {messages:?}");
    let (firing, resolved) = (&messages[0], &messages[1]);
    let first = firing.header("Message-ID").unwrap();
    assert_eq!(resolved.to(), [owner("brand-01")]);
    assert_eq!(resolved.header("References"), Some(first));
    assert_eq!(resolved.header("In-Reply-To"), Some(first));
    assert_ne!(resolved.header("Message-ID"), Some(first));
    world.until_kept_and_live("brand-01").await;
}

#[tokio::test]
async fn a_lost_scope_is_told_by_its_name_and_the_account_is_refreshed_all_the_same() {
    let world = World::new().start().await;
    world.provider.drop_scope("brand-01", "video.publish");
    world.until_cause("brand-01", "scope_missing").await;
    world.until_metric("missing_scopes", &[("account", "brand-01")], 1.0).await;
    world.until_metric("missing_scopes", &[("account", "brand-02")], 0.0).await;
    let mails = world.until_mails(&owner("brand-01"), 1).await;
    assert!(mails[0].text.contains("video.publish"), "{}", mails[0].text);
    assert!(mails[0].html.as_ref().unwrap().contains("video.publish"));
    world.until_rotated("brand-01", 2).await;
    world.until_kept_and_live("brand-01").await;
    world.until_mails(&owner("brand-01"), 1).await;

    let token = world.provider.connect("brand-01", &SCOPES, Duration::ZERO);
    world.write("brand-01", &token);
    world.until_cause("brand-01", "none").await;
    world.until_metric("missing_scopes", &[("account", "brand-01")], 0.0).await;
    world.until_mails(&owner("brand-01"), 2).await;
    assert_eq!(world.mails_to(&owner("brand-02")), []);
}

#[tokio::test]
async fn a_wrong_app_secret_costs_few_requests_and_one_operator_mail_and_heals_with_its_file() {
    const NEW: &str = "invented-client-secret-of-tomorrow";
    let plan = World::new().accounts(8).life(12);
    let plan = plan.section("refresh", "{backoff_first: 1s, backoff_max: 60s}");
    let world = plan.start().await;
    world.provider.set_secret(NEW);
    let mails = world.until_mails(OPERATOR, 1).await;
    assert!(mails[0].text.contains("secret"), "{}", mails[0].text);
    world.until_metric("app_frozen", &[("app", "main")], 1.0).await;
    let refused = || {
        let log = world.refreshes();
        log.iter().filter(|(_, how)| *how == Refreshed::ClientRefused).count()
    };
    assert!((1..=5).contains(&refused()), "{} refused requests", refused());

    world.write_secret(NEW);
    for number in 1..=8 {
        world.until_cause(&format!("brand-{number:02}"), "none").await;
    }
    world.until_metric("app_frozen", &[("app", "main")], 0.0).await;
    world.until_each_rotated(&brands(8), 1).await;
    assert!(refused() <= 5, "{} refused requests", refused());
    world.until_mails(OPERATOR, 2).await;
    assert_eq!(world.mailbox.mails().len(), 2, "no owner can do anything about it");
    let reloads = world.running().scrape().await.value("config_reloads_total", &[]);
    assert_eq!(reloads, Some(1.0), "the first reading is the only one");
    world.assert_well_behaved();
    world.until_counts_agree().await;
}

#[tokio::test]
async fn a_wrong_secret_from_the_start_costs_five_requests_although_forty_accounts_are_due() {
    // With room for forty: nothing is proven yet.
    let http = "{total_deadline: 3s, connect_deadline: 500ms, in_flight_per_app_max: 40}";
    let plan = World::new().accounts(40).life(100).age(80).section("http", http);
    let world = plan.section("refresh", "{backoff_first: 1s, backoff_max: 60s}").prepare().await;
    world.write_secret("invented-client-secret-of-yesterday");
    let mut world = world;
    world.start().await;
    world.until_mails(OPERATOR, 1).await;
    world.until_metric("app_frozen", &[("app", "main")], 1.0).await;
    world.write_secret(world.provider.client_secret().unwrap().expose());
    for number in 1..=40 {
        world.until_cause(&format!("brand-{number:02}"), "none").await;
    }
    let log = world.refreshes();
    let refused = log.iter().filter(|(_, how)| *how == Refreshed::ClientRefused).count();
    assert!((3..=5).contains(&refused), "{refused} refused requests");
    world.until_mails(OPERATOR, 2).await;
    assert_eq!(world.mailbox.mails().len(), 2, "no owner can do anything about it");
    world.assert_well_behaved();
    world.until_counts_agree().await;
}

#[tokio::test]
async fn a_mended_secret_is_tried_long_before_the_next_try_would_be_due() {
    // All are due at the start, and whoever is refused waits for half a minute.
    let plan = World::new().life(100).age(80);
    let plan =
        plan.section("refresh", "{backoff_first: 40s, backoff_max: 60s, app_refusals_max: 1}");
    let world = plan.prepare().await;
    world.write_secret("invented-client-secret-of-yesterday");
    let mut world = world;
    world.start().await;
    world.until_metric("app_frozen", &[("app", "main")], 1.0).await;
    let mended = Instant::now();
    world.write_secret(world.provider.client_secret().unwrap().expose());
    world.until_metric("app_frozen", &[("app", "main")], 0.0).await;
    assert!(mended.elapsed() < Duration::from_secs(35), "{:?}", mended.elapsed());
    world.until_mails(OPERATOR, 2).await;
}

#[tokio::test]
async fn a_refresh_token_that_reaches_its_end_is_told_and_not_presented_for_ever() {
    let world = World::new().start().await;
    world.provider.end_refresh_token_in("brand-01", Duration::from_secs(9));
    world.until_cause("brand-01", "refresh_token_expired").await;
    world.until_rotated("brand-02", 2).await;
    let ended = world.refreshed("brand-01").into_iter().filter(|how| *how != Refreshed::Rotated);
    assert!(ended.count() <= 1, "{}", world.tell());
    let mails = world.mails_to(&owner("brand-01"));
    assert!((1..=2).contains(&mails.len()), "announced, and there: {}", mails.len());
}

#[tokio::test]
async fn a_webhook_hears_beginning_and_end_of_an_incident_under_one_key_and_signed() {
    let hook = Hook::start().await;
    let plan = World::new();
    let notify = format!(
        "{{webhooks: [{{name: chat, url: \"{}\", secret_env: PATH, audience: owner, accounts: \"tiktok/brand-01\"}}]}}",
        hook.url
    );
    let world = plan.section("notify", &notify).start().await;
    world.provider.revoke_consent("brand-01");
    world.provider.revoke_consent("brand-02");
    until_or("the webhook hears", async || !hook.bodies().is_empty(), || world.tell()).await;
    world.until_mails(&owner("brand-01"), 1).await;
    world.until_mails(&owner("brand-02"), 1).await;
    let token = world.provider.connect("brand-01", &SCOPES, Duration::ZERO);
    world.write("brand-01", &token);
    until_or("and hears of the end", async || hook.bodies().len() >= 2, || world.tell()).await;

    let told = hook.bodies();
    let of = |nth: usize, key: &str| told[nth]["notices"][0][key].as_str().map(str::to_owned);
    assert_eq!(told.len(), 2, "brand-02 is not its business: {told:?}");
    assert_eq!(
        (of(0, "change").as_deref(), of(1, "change").as_deref()),
        (Some("firing"), Some("resolved"))
    );
    assert_eq!(of(0, "incident"), of(1, "incident"));
    assert_eq!(
        (of(0, "provider").as_deref(), of(0, "name").as_deref()),
        (Some("tiktok"), Some("brand-01"))
    );
    assert_ne!(told[0]["id"], told[1]["id"]);
    for (head, body) in hook.requests.lock().unwrap().iter() {
        let head = head.to_lowercase();
        assert!(head.contains("keepalive-signature: t="), "{head}");
        assert!(head.contains("idempotency-key: "), "{head}");
        assert!(!body.contains('@') && !head.contains('@'), "{head}{body}");
    }
    let count =
        world.running().scrape().await.value("notice_requests_total", &[("result", "taken")]);
    assert_eq!(count, Some(2.0));
}

#[tokio::test]
async fn a_channel_reads_what_the_mail_says_and_nobody_in_it_is_taken_for_the_owner() {
    let hook = Hook::start().await;
    let channel = format!(
        "{{webhooks: [{{name: slack, url: \"{}\", format: slack, audience: owner}}]}}",
        hook.url
    );
    let world = World::new().section("notify", &channel).start().await;
    world.provider.revoke_consent("brand-01");
    until_or("the channel hears", async || !hook.bodies().is_empty(), || world.tell()).await;
    let told = hook.bodies()[0]["text"].as_str().unwrap().to_owned();
    let told = told.split_whitespace().collect::<Vec<_>>().join(" ");
    assert!(told.contains("brand-01") && told.contains("this channel is told of"), "{told}");
    let mails = world.until_mails(&owner("brand-01"), 1).await;
    assert!(mails[0].text.contains("you are the owner"), "{}", mails[0].text);
    assert!(!told.contains("you are the owner") && !told.contains('@'), "{told}");
}

fn notify(hook: &Hook) -> String {
    format!("{{webhooks: [{{name: chat, url: \"{}\", audience: owner}}]}}", hook.url)
}

/// The age of the incident is made up between two runs: reminders come after an hour at the earliest.
#[tokio::test]
async fn trouble_that_lasts_is_called_to_mind_by_mail_and_by_webhook_once_over_restarts() {
    let hook = Hook::start().await;
    let plan = World::new().life(86_400).age(600).section("notify", &notify(&hook));
    let mut world = plan.prepare().await;
    let section =
        world.section("mail").replace("digest_after: 0s", "digest_after: 0s, reminders: [1h]");
    world.reconfigure("mail", &section);
    world.start().await;
    world.until_ready().await;
    world.provider.revoke_consent("brand-01");
    world.report("brand-01", 401, 1).await;
    world.until_mails(&owner("brand-01"), 1).await;
    until_or("the webhook hears", async || hook.bodies().len() == 1, || world.tell()).await;
    assert!(world.program().terminate().await.success());
    let age = "UPDATE incident SET fired_at = fired_at - 7200; UPDATE outbox SET made_at = made_at - 7200;
               UPDATE letter SET made_at = made_at - 7200";
    rusqlite::Connection::open(world.path("state/state.db")).unwrap().execute_batch(age).unwrap();
    world.start().await;
    let mails = world.until_mails(&owner("brand-01"), 2).await;
    assert!(mails[1].text.contains("reminder"), "{}", mails[1].text);
    assert_eq!(mails[1].subject, format!("Re: {}", mails[0].subject));
    until_or("the webhook is reminded", async || hook.bodies().len() == 2, || world.tell()).await;
    let told = hook.bodies();
    assert_eq!(told[1]["notices"][0]["change"], "reminder");
    assert_eq!(told[0]["notices"][0]["incident"], told[1]["notices"][0]["incident"]);
    assert!(world.program().terminate().await.success());
    world.start().await;
    world.until_ready().await;
    let token = world.provider.connect("brand-01", &SCOPES, Duration::ZERO);
    world.write("brand-01", &token);
    // The end comes after whatever else is owed.
    until_or("the webhook hears the end", async || hook.bodies().len() >= 3, || world.tell()).await;
    assert_eq!(hook.bodies()[2]["notices"][0]["change"], "resolved", "one reminder is enough");
    world.until_mails(&owner("brand-01"), 3).await;
}
