//! Asking about an app, with one secret or several.

use crate::bench::{APP_REFUSED, Bench, DEAD, good};
use oauth_keepalive::{
    core::fleet::Asked, oauth::Trouble, providers::Provider, refresh::App, secrets::SecretRef,
};
use std::{fs, sync::Arc};

fn app(bench: &Bench) -> Arc<App> {
    Arc::clone(&bench.refresher.apps.load()["main"])
}

/// The app's secrets are those in these files, in this order.
fn list(bench: &Bench, files: &[&str]) {
    let path = |file: &&str| SecretRef::File(bench.folder.path().join(file));
    let secrets: Vec<SecretRef> = files.iter().map(path).collect();
    let app = App { client_secrets: Arc::new(secrets.into()), ..App::clone(&app(bench)) };
    bench.refresher.apps.store(Arc::new([(Arc::clone(&app.name), Arc::new(app))].into()));
}

async fn rotating() -> Bench {
    let bench = Bench::new().await;
    fs::write(bench.folder.path().join("new"), "invented-new-secret\n").unwrap();
    list(&bench, &["new", "secret"]);
    bench
}

async fn ask(bench: &Bench) -> &'static str {
    match bench.refresher.ask_about_app(&"main".into()).await {
        Asked::Accepted => "accepted",
        Asked::Refused(evidence) if evidence.app_wide => "refused",
        Asked::Refused(_) => "refused, but not the app",
        Asked::Unclear(_) => "unclear",
        Asked::Elsewhere => "elsewhere",
    }
}

type Setting = fn(&mut Bench);

#[tokio::test(start_paused = true)]
async fn each_secret_is_asked_about_once_in_order_until_one_is_not_refused() {
    let rows: [(&str, Setting, (&str, usize, usize)); 6] = [
        ("the first is right", |bench| bench.answers(200, DEAD), ("accepted", 1, 0)),
        (
            "the second is",
            |bench| {
                bench.answers(200, APP_REFUSED);
                bench.answers(200, DEAD);
            },
            ("accepted", 2, 1),
        ),
        (
            "none is",
            |bench| {
                bench.answers(200, APP_REFUSED);
                bench.answers(200, APP_REFUSED);
            },
            ("refused", 2, 0),
        ),
        ("nothing is learnt", |bench| bench.answers(503, ""), ("unclear", 1, 0)),
        ("nobody is reached", |bench| bench.is_not_reached(Trouble::Connect), ("unclear", 1, 0)),
        (
            "the first cannot be read",
            |bench| {
                fs::remove_file(bench.folder.path().join("new")).unwrap();
                bench.answers(200, DEAD);
            },
            ("accepted", 1, 1),
        ),
    ];
    for (sentence, setting, (said, sent, in_use)) in rows {
        let mut bench = rotating().await;
        setting(&mut bench);
        assert_eq!(ask(&bench).await, said, "{sentence}");
        let presented = bench.sent();
        assert_eq!(presented.len(), sent, "{sentence}: {presented:?}");
        assert!(presented.iter().all(|token| token.starts_with("nobodys-token")), "{presented:?}");
        assert_eq!(app(&bench).client_secrets.in_use(), Some(in_use), "{sentence}");
    }
}

#[tokio::test(start_paused = true)]
async fn an_app_without_a_readable_secret_is_refused_without_a_question() {
    let bench = rotating().await;
    for file in ["new", "secret"] {
        fs::remove_file(bench.folder.path().join(file)).unwrap();
    }
    assert_eq!(ask(&bench).await, "refused");
    assert_eq!(bench.sent().len(), 0);
}

/// TikTok, were nothing known of its answers to nobody's token.
fn not_to_be_asked() -> &'static Provider {
    let yaml = fs::read_to_string("src/providers/data/tiktok.yaml").unwrap();
    let junk = yaml.find("junk:").unwrap();
    let end = junk + yaml[junk..].find("errors:").unwrap();
    let yaml = format!("{}{}", &yaml[..junk], &yaml[end..]);
    Box::leak(Box::new(Provider::from_yaml(&yaml).unwrap()))
}

#[tokio::test(start_paused = true)]
async fn where_nothing_may_be_asked_each_refused_request_is_followed_by_one_with_the_next_secret() {
    let mut bench = Bench::with_provider(not_to_be_asked()).await;
    fs::write(bench.folder.path().join("new"), "invented-new-secret\n").unwrap();
    list(&bench, &["new", "secret"]);
    bench.answers(200, APP_REFUSED);
    let _ = bench.refresh().await;
    assert_eq!(app(&bench).client_secrets.in_use(), Some(1));
    bench.answers(200, &good("1"));
    let _ = bench.refresh().await;
    assert_eq!(app(&bench).client_secrets.in_use(), Some(1), "it was not refused");
    assert_eq!(bench.sent(), ["0-", "0"], "a token that was refused with its app was not spent");
}

#[tokio::test(start_paused = true)]
async fn where_it_may_be_asked_a_refused_request_changes_no_secret() {
    let mut bench = rotating().await;
    bench.answers(200, APP_REFUSED);
    let _ = bench.refresh().await;
    assert_eq!(app(&bench).client_secrets.in_use(), Some(0), "the question finds out which");
}
