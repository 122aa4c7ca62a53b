//! A whole refresh on a table beside our state: what the procedure does with a save that went through together
//! with its result, and with one that did not.

use crate::{kinds::id, postgres::camel, together::Beside};
use arc_swap::ArcSwap;
use oauth_keepalive::{
    clock::Clock,
    core::{Secret, Timestamp, fleet::Finished},
    metrics::events::Metrics,
    oauth::{Answer, Exchange, Request, Token},
    providers::{self, Endpoints},
    refresh::{App, Apps, Heard, Held, Refresher, Transport, Unspent},
    report::Reporter,
    secrets::SecretRef,
    stores::{AnyStore, TokenStore},
};
use std::{
    fs,
    sync::{Arc, Mutex},
    time::Duration,
};

/// What happens in the publisher's table while the provider answers.
type Meanwhile = Box<dyn FnOnce() + Send>;

/// A provider that renews the token, and something that happens meanwhile.
struct Provider {
    open_id: &'static str,
    meanwhile: Mutex<Option<Meanwhile>>,
}

impl Transport for Provider {
    async fn send(&self, _: &str, _: Request) -> Exchange {
        if let Some(happens) = self.meanwhile.lock().unwrap().take() {
            happens();
        }
        let open_id = self.open_id;
        Exchange::Answered(Answer {
            status: 200,
            retry_after: None,
            date: None,
            bearer_error: None,
            body: Secret::new(format!(
                r#"{{"access_token":"act.invented-2","expires_in":7200,"open_id":"{open_id}","refresh_expires_in":15552000,"refresh_token":"rft.invented-2","scope":"video.publish","token_type":"Bearer"}}"#
            )),
        })
    }
}

async fn refreshed(beside: &Beside<'_>, open_id: &'static str, meanwhile: Meanwhile) -> Finished {
    let folder = tempfile::tempdir().unwrap();
    let secret = folder.path().join("secret");
    fs::write(&secret, "invented-client-secret").unwrap();
    let app = App {
        name: "main".into(),
        provider: providers::find("tiktok").unwrap(),
        endpoints: Endpoints::default(),
        client_id: "invented-client".to_owned(),
        client_secrets: Arc::new(vec![SecretRef::File(secret)].into()),
        scopes: [Arc::from("video.publish")].into(),
        is_default: true,
        is_testing: false,
    };
    let apps: Apps = [(Arc::clone(&app.name), Arc::new(app))].into();
    let clock = Clock::simulated(Timestamp::from_unix(1_795_341_600));
    let transport = Provider { open_id, meanwhile: Mutex::new(Some(meanwhile)) };
    let refresher: Refresher<AnyStore, Provider> = Refresher {
        store: Arc::clone(&beside.store),
        state: beside.state.clone(),
        transport: Arc::new(transport),
        reporter: Reporter::new(Metrics::new(["tiktok"], clock.now())),
        clock,
        apps: Arc::new(ArcSwap::from_pointee(apps)),
        call_deadline: Duration::from_secs(10),
        held: Held::default(),
        unspent: Unspent::default(),
        heard: Heard::default(),
    };
    let old = stored(beside).await;
    let expected = beside.state.fingerprinter().of_token(&old);
    let finished = refresher.refresh(&id("brand-a"), expected, "due").await;
    assert!(refresher.held.is_empty());
    finished
}

async fn stored(beside: &Beside<'_>) -> Token {
    beside.store.get(&id("brand-a")).await.unwrap().unwrap().token.unwrap()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_refresh_costs_one_commit_from_the_answer_to_the_end() {
    let table = camel();
    let beside = Beside::of(&table).await;
    let (state, seen) = (beside.state.clone(), Arc::new(Mutex::new(0)));
    let meanwhile = {
        let seen = Arc::clone(&seen);
        Box::new(move || *seen.lock().unwrap() = state.commits())
    };
    let finished = refreshed(&beside, "open-a", meanwhile).await;
    assert!(matches!(finished, Finished::Renewed(_)), "{finished:?}");
    assert_eq!(stored(&beside).await.access.expose(), "act.invented-2");
    // One more gives the lease back.
    assert_eq!(beside.state.commits(), *seen.lock().unwrap() + 2);
    assert_eq!(beside.state.journal_len().await.unwrap(), 0);
    // What was spent is remembered, as after any other refresh.
    let newest = beside.state.newest(&id("brand-a")).await.unwrap().unwrap();
    assert_eq!(newest.token.access.expose(), "act.invented-2");
    let spent = beside.state.fingerprinter().of_secret(&Secret::new("rft.invented-a1".to_owned()));
    assert_eq!(newest.spent, [spent]);
    let changed = tokio::time::timeout(Duration::from_secs(1), beside.store.changed());
    assert!(changed.await.is_err(), "what we wrote is no news");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_token_that_somebody_else_wrote_stays_and_ours_is_kept_aside() {
    let table: &'static _ = Box::leak(Box::new(camel()));
    let beside = Beside::of(table).await;
    let meanwhile = Box::new(|| {
        table.set("brand-a", "token", "act.invented-theirs");
        table.set("brand-a", "refreshToken", "rft.invented-theirs");
    });
    let finished = refreshed(&beside, "open-a", meanwhile).await;
    assert!(matches!(finished, Finished::Adopted(_)), "{finished:?}");
    assert_eq!(stored(&beside).await.access.expose(), "act.invented-theirs");
    assert_eq!(beside.state.journal_len().await.unwrap(), 0);
    assert_eq!(beside.state.orphans_len().await.unwrap(), 1);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_token_of_another_account_is_not_saved_together_with_anything() {
    let table = camel();
    let beside = Beside::of(&table).await;
    let finished = refreshed(&beside, "open-b", Box::new(|| {})).await;
    assert!(matches!(finished, Finished::WrongAccount(_)), "{finished:?}");
    assert_eq!(stored(&beside).await.access.expose(), "act.invented-a1");
    assert_eq!(beside.state.orphans_len().await.unwrap(), 1);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_save_that_a_busy_row_refused_goes_the_ordinary_way_at_once() {
    let table: &'static _ = Box::leak(Box::new(camel()));
    let beside = Beside::of(table).await;
    let lock = Arc::new(Mutex::new(None));
    let held = Arc::clone(&lock);
    let meanwhile = Box::new(move || *held.lock().unwrap() = Some(table.block_row("brand-a")));
    let freeing = tokio::spawn(async move {
        // Longer than a save waits that has a result beside it, shorter than one that waits by itself.
        while lock.lock().unwrap().is_none() {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        tokio::time::sleep(Duration::from_millis(600)).await;
        tokio::task::spawn_blocking(move || lock.lock().unwrap().take()).await.unwrap();
    });
    let finished = refreshed(&beside, "open-a", meanwhile).await;
    freeing.await.unwrap();
    assert!(matches!(finished, Finished::Renewed(_)), "{finished:?}");
    assert_eq!(stored(&beside).await.access.expose(), "act.invented-2");
    assert_eq!(beside.state.journal_len().await.unwrap(), 0);
}
