//! What the pages of ten thousand accounts cost, beside those of a hundred and beside a copy of the finished page. All are
//! made in the same process, one after the other in each round, so the ratios hold where the milliseconds do not.

mod fleet;

use arc_swap::ArcSwap;
use fleet::fleet;
use http_body_util::BodyExt as _;
use hyper::{HeaderMap, Uri};
use oauth_keepalive::{
    clock::Clock,
    core::Cause,
    metrics::Metrics,
    server::{
        ConfigState, Context,
        status_page::{self, Route},
    },
};
use std::{
    hint::black_box,
    sync::{Arc, atomic::AtomicBool},
    time::{Duration, Instant},
};
use tokio::runtime::{Builder, Runtime};

const FEW: i64 = 100;
const MANY: i64 = 10_000;
const ROUNDS: usize = 25;

fn main() {
    let runtime = Builder::new_current_thread().build().expect("a runtime can be made");
    let (few, many) = (context(FEW), context(MANY));
    let page = made(&runtime, &many, "/");
    let copy = || black_box(page.clone()).len();
    let of = |context: &Context, address: &str| made(&runtime, context, address).len();
    let cases: [(&str, &dyn Fn() -> usize); 8] = [
        ("copy of the finished list", &copy),
        ("list of 100", &|| of(&few, "/")),
        ("list of 10,000", &|| of(&many, "/")),
        ("its page 50", &|| of(&many, "/?page=50")),
        ("by what is left of life", &|| of(&many, "/?sort=ends")),
        ("by a part of the name", &|| of(&many, "/?q=0099&cause=none")),
        ("the list as JSON", &|| of(&many, "/accounts.json")),
        ("one account of 10,000", &|| of(&many, "/accounts/tiktok/acme-brand-0009999")),
    ];
    print_ratios(&cases);
}

fn print_ratios(cases: &[(&str, &dyn Fn() -> usize)]) {
    let mut taken = vec![Vec::new(); cases.len()];
    let mut bytes = vec![0; cases.len()];
    for _ in 0..ROUNDS {
        for (((_, run), taken), bytes) in cases.iter().zip(&mut taken).zip(&mut bytes) {
            let start = Instant::now();
            *bytes = black_box(run());
            taken.push(start.elapsed());
        }
    }
    let median = |taken: &mut Vec<Duration>| {
        taken.sort_unstable();
        taken[taken.len() / 2].as_secs_f64()
    };
    let medians: Vec<f64> = taken.iter_mut().map(median).collect();
    println!("median of {ROUNDS} rounds");
    for (((name, _), median), bytes) in cases.iter().zip(&medians).zip(&bytes) {
        println!(
            "{name:26} {:8.2} ms {bytes:8} bytes {:6.1} x the list of 100",
            median * 1e3,
            median / medians[1]
        );
    }
}

/// Every fiftieth account needs its owner, so that the list has something to put first.
fn context(accounts: i64) -> Context {
    let mut snapshot = fleet(accounts);
    let unwell: Vec<_> = snapshot.accounts.iter().step_by(50).cloned().collect();
    for mut account in unwell {
        account.cause = Some(Cause::ConsentRevoked);
        snapshot.accounts.put(account);
    }
    let clock = Clock::start();
    let now = clock.now();
    Context {
        snapshot: Arc::new(ArcSwap::from_pointee(snapshot)),
        metrics: Metrics::new(["instagram", "tiktok", "x"], now),
        gauges: Arc::default(),
        clock,
        per_account: Arc::new(AtomicBool::new(true)),
        reload: None,
        config: Arc::new(ArcSwap::from_pointee(ConfigState { at: now, errors: Vec::new() })),
        actions: None,
    }
}

/// The body of an answer, made as the server makes it, from the address to the last byte.
fn made(runtime: &Runtime, context: &Context, address: &str) -> Vec<u8> {
    let uri: Uri = address.parse().expect("the addresses above are addresses");
    let route = Route::of(uri.path()).expect("the addresses above lead to pages");
    runtime.block_on(async {
        let answer = status_page::answer(context.clone(), route, &uri, &HeaderMap::new()).await;
        assert!(answer.status().is_success(), "{address} is not there");
        let body = answer.into_body().collect().await.expect("a whole body cannot fail");
        body.to_bytes().to_vec()
    })
}
