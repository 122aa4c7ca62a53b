//! Whole apps: a secret that changes under two hundred accounts, and secrets that are rotated.

use crate::{
    until_or,
    world::{OPERATOR, World, replace},
};
use oauth_keepalive::demo::provider::{Refreshed, What};
use std::time::Duration;

const NEW: &str = "invented-client-secret-of-tomorrow";
const OLD: &str = "invented-client-secret-of-yesterday";

impl World {
    /// How the questions about the app were answered.
    fn questions(&self) -> Vec<Refreshed> {
        let question = |what| match what {
            What::Question(how) => Some(how),
            What::Refresh(_) | What::Code { .. } | What::Api { .. } => None,
        };
        self.provider.log().into_iter().filter_map(|entry| question(entry.what)).collect()
    }

    fn questions_answered(&self, how: Refreshed) -> usize {
        self.questions().into_iter().filter(|one| *one == how).count()
    }

    /// Real tokens that were presented while the app was refused.
    fn refused(&self) -> usize {
        self.refreshes().iter().filter(|(_, how)| *how == Refreshed::ClientRefused).count()
    }

    /// Waits until the program has counted the questions that the provider counted.
    async fn until_questions_agree(&self) {
        until_or(
            "questions are counted alike",
            async || {
                let scrape = self.running().scrape().await;
                [("refused", Refreshed::ClientRefused), ("accepted", Refreshed::Stranger)]
                    .into_iter()
                    .all(|(answer, how)| {
                        let labels = [("provider", "tiktok"), ("answer", answer)];
                        let ours = scrape.value("app_questions_total", &labels);
                        ours == Some(self.questions_answered(how) as f64)
                    })
            },
            || self.tell(),
        )
        .await;
    }
}

#[tokio::test]
async fn two_hundred_accounts_of_an_app_whose_secret_changes_cost_five_tokens_and_one_mail() {
    let plan = World::new().accounts(200).life(120).ages_apart(Duration::from_millis(400));
    let plan = plan.section("refresh", "{backoff_first: 1s, backoff_max: 60s}");
    let world = plan.start().await;
    // The oldest one; it is due at once.
    world.until_rotations("brand-200", 1).await;
    world.until_metric("accounts", &[("cause", "none")], 200.0).await;

    world.provider.set_secret(NEW);
    let mails = world.until_mails(OPERATOR, 1).await;
    assert!(mails[0].text.contains("secret"), "{}", mails[0].text);
    world.until_metric("app_frozen", &[("app", "main")], 1.0).await;
    let asked = world.questions().len();
    until_or("it is asked again", async || world.questions().len() > asked, || world.tell()).await;
    assert!((1..=5).contains(&world.refused()), "{} real tokens refused", world.refused());
    assert_eq!(world.questions_answered(Refreshed::Stranger), 0, "nothing was mended yet");

    world.write_secret(NEW);
    world.until_metric("app_frozen", &[("app", "main")], 0.0).await;
    world.until_metric("accounts", &[("cause", "none")], 200.0).await;
    world.until_mails(OPERATOR, 2).await;
    let rotated = || world.refreshes().iter().filter(|(_, how)| *how == Refreshed::Rotated).count();
    let before = rotated();
    until_or("it goes on", async || rotated() >= before + 10, || world.tell()).await;
    assert!(world.refused() <= 5, "{} real tokens refused", world.refused());
    assert_eq!(world.questions_answered(Refreshed::Stranger), 1, "one answer thaws it");
    assert_eq!(world.mailbox.mails().len(), 2, "no owner can do anything about it");
    world.assert_well_behaved();
    world.until_counts_agree().await;
    world.until_questions_agree().await;
}

/// An app with the secrets in these files, in this order.
fn app_with(world: &World, files: &str) -> String {
    let app = world.section("apps");
    let (before, after) = app.split_once("client_secret_file: client-secret").unwrap();
    format!("{before}client_secret_file: {files}{after}")
}

#[tokio::test]
async fn a_secret_is_rotated_without_a_mail_when_both_are_listed() {
    let mut world = World::new().accounts(8).life(12).prepare().await;
    let secret = world.provider.client_secret().unwrap().expose().to_owned();
    replace(&world.path("new-secret"), &format!("{NEW}\n"));
    replace(&world.path("client-secret"), &format!("{secret}\n"));
    let apps = app_with(&world, "[new-secret, client-secret]");
    world.reconfigure("apps", &apps);
    world.start().await;

    // The provider does not know the new one yet.
    world.until_metric("app_secret_position", &[("app", "main")], 2.0).await;
    let some = ["brand-01", "brand-08"].map(str::to_owned);
    world.until_each_rotated(&some, 1).await;
    let before = world.refused();
    assert!((1..=5).contains(&before), "{before} real tokens refused");

    // From now on it knows only that.
    world.provider.set_secret(NEW);
    world.until_metric("app_secret_position", &[("app", "main")], 1.0).await;
    world.until_each_rotated(&some, 1).await;
    assert!(world.refused() <= before + 5, "{} real tokens refused", world.refused());
    assert_eq!(world.mailbox.mails().len(), 0, "nobody has to do anything");
    world.assert_well_behaved();
    world.until_counts_agree().await;
    world.until_questions_agree().await;
}

#[tokio::test]
async fn where_no_listed_secret_is_right_the_operator_hears_of_it_once() {
    let mut world = World::new().accounts(4).life(100).age(80).prepare().await;
    replace(&world.path("new-secret"), &format!("{NEW}\n"));
    replace(&world.path("old-secret"), &format!("{OLD}\n"));
    let apps = app_with(&world, "[new-secret, old-secret]");
    world.reconfigure("apps", &apps);
    world.start().await;
    world.until_mails(OPERATOR, 1).await;
    world.until_metric("app_frozen", &[("app", "main")], 1.0).await;
    assert!((1..=5).contains(&world.refused()), "{} real tokens refused", world.refused());

    replace(
        &world.path("old-secret"),
        &format!("{}\n", world.provider.client_secret().unwrap().expose()),
    );
    world.until_metric("app_frozen", &[("app", "main")], 0.0).await;
    world.until_metric("app_secret_position", &[("app", "main")], 2.0).await;
    for number in 1..=4 {
        let account = format!("brand-{number:02}");
        world.until_cause(&account, "none").await;
        world.until_kept_and_live(&account).await;
    }
    world.until_mails(OPERATOR, 2).await;
    assert_eq!(world.mailbox.mails().len(), 2);
    world.assert_well_behaved();
}
