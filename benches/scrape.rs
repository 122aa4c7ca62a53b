//! What a scrape of ten thousand accounts costs, beside a copy of the finished text and beside
//! prometheus-client with the same series in its registry. Both sides run in the same process, one after
//! the other in each round, so the ratios hold where the milliseconds do not.

mod fleet;

use criterion::{BenchmarkId, Criterion, Throughput};
use flate2::{Compression, write::GzEncoder};
use fleet::{at, fleet};
use oauth_keepalive::{
    core::Snapshot,
    metrics::{Format, Metrics, Readings, Scrape},
};
use prometheus_client::{
    encoding::{EncodeLabelSet, text},
    metrics::{family::Family, gauge::Gauge},
    registry::Registry,
};
use std::{
    collections::BTreeMap,
    hint::black_box,
    io::Write as _,
    sync::Arc,
    time::{Duration, Instant},
};

const ACCOUNTS: i64 = 10_000;
const ROUNDS: usize = 15;

fn main() {
    let snapshot = Arc::new(fleet(ACCOUNTS));
    let metrics = Metrics::new(["instagram", "tiktok", "x"], at(0));
    let text = scrape(&snapshot, &metrics, Format::Classic).write_all();
    let series = text.iter().filter(|byte| **byte == b'\n').count();
    let registry = registry_of(&text);

    let copy = || copied(&text);
    let classic = || written(&snapshot, &metrics, Format::Classic);
    let open_metrics = || written(&snapshot, &metrics, Format::OpenMetrics);
    let gzip = || gzip(&snapshot, &metrics);
    let family = || {
        let mut out = String::new();
        text::encode(&mut out, &registry).expect("a string takes every character");
        out.len()
    };
    let cases: [(&str, &dyn Fn() -> usize); 5] = [
        ("copy of the finished text", &copy),
        ("classic", &classic),
        ("openmetrics", &open_metrics),
        ("classic, gzip", &gzip),
        ("prometheus-client Family", &family),
    ];

    print_ratios(&cases, series);
    let mut criterion = Criterion::default().configure_from_args();
    let mut group = criterion.benchmark_group("scrape");
    group.throughput(Throughput::Elements(series as u64)).sample_size(20);
    for (name, run) in cases {
        group.bench_function(BenchmarkId::from_parameter(name), |bencher| bencher.iter(run));
    }
    group.finish();
    criterion.final_summary();
}

fn print_ratios(cases: &[(&str, &dyn Fn() -> usize)], series: usize) {
    let mut taken = vec![Vec::new(); cases.len()];
    for _ in 0..ROUNDS {
        for ((_, run), taken) in cases.iter().zip(&mut taken) {
            let start = Instant::now();
            black_box(run());
            taken.push(start.elapsed());
        }
    }
    let medians: Vec<Duration> = taken
        .iter_mut()
        .map(|taken| {
            taken.sort_unstable();
            taken[taken.len() / 2]
        })
        .collect();
    println!("{series} lines; median of {ROUNDS} rounds");
    for ((name, _), median) in cases.iter().zip(&medians) {
        let nanoseconds = median.as_secs_f64() * 1e9 / series as f64;
        let ratio = median.as_secs_f64() / medians[0].as_secs_f64();
        println!("{name:28} {nanoseconds:8.1} ns/line {ratio:8.1} x copy");
    }
    let family = medians[4].as_secs_f64();
    println!("prometheus-client / classic: {:.1}", family / medians[1].as_secs_f64());
    println!(
        "prometheus-client, not compressed / classic, gzip: {:.1}",
        family / medians[3].as_secs_f64()
    );
}

fn scrape(snapshot: &Arc<Snapshot>, metrics: &Metrics, format: Format) -> Scrape {
    let readings = Readings {
        now: at(0),
        journal_entries: 0,
        connected_unsaved: 0,
        spilled_tokens: 0,
        outbox_length: 0,
        outbox_held: 0,
        clock_unconfirmed_step: 0,
        all_replicas: None,
        posts: None,
        posts_held: None,
        process: None,
    };
    Scrape::new(Arc::clone(snapshot), metrics.clone(), readings, format, true)
}

/// The least that any server does: it copies what it sends, piece by piece.
fn copied(text: &[u8]) -> usize {
    let mut piece = Vec::new();
    for part in text.chunks(64 * 1024) {
        piece.clear();
        piece.extend_from_slice(black_box(part));
        black_box(&mut piece);
    }
    text.len()
}

fn written(snapshot: &Arc<Snapshot>, metrics: &Metrics, format: Format) -> usize {
    let mut scrape = scrape(snapshot, metrics, format);
    let mut piece = Vec::new();
    let mut sent = 0;
    loop {
        piece.clear();
        let more = scrape.write_piece(&mut piece);
        sent += black_box(&mut piece).len();
        if !more {
            return sent;
        }
    }
}

/// As `ScrapeBody` does it: piece by piece, at the same level.
fn gzip(snapshot: &Arc<Snapshot>, metrics: &Metrics) -> usize {
    let mut scrape = scrape(snapshot, metrics, Format::Classic);
    let mut encoder = GzEncoder::new(Vec::new(), Compression::new(1));
    let mut piece = Vec::new();
    let mut sent = 0;
    loop {
        piece.clear();
        let more = scrape.write_piece(&mut piece);
        encoder.write_all(&piece).expect("a vector takes every byte");
        sent += encoder.get_mut().len();
        encoder.get_mut().clear();
        if !more {
            return sent + encoder.finish().expect("a vector takes every byte").len();
        }
    }
}

/// The labels of a series of ours, as a program with one handle per series would hold them.
#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Labels {
    provider: String,
    account: String,
    detail: Option<String>,
}

/// Every per-account series of the text as a gauge in a registry.
fn registry_of(text: &[u8]) -> Registry {
    let text = std::str::from_utf8(text).expect("a scrape is text");
    let mut families: BTreeMap<&str, Family<Labels, Gauge>> = BTreeMap::new();
    for line in text.lines().filter(|line| line.contains(",account=\"")) {
        let (name, rest) = line.split_once('{').expect("a series with labels");
        let (labels, value) = rest.rsplit_once("} ").expect("a value behind them");
        let mut values = labels.split('"').skip(1).step_by(2).map(str::to_owned);
        let labels = Labels {
            provider: values.next().unwrap_or_default(),
            account: values.next().unwrap_or_default(),
            detail: values.next(),
        };
        let family = families.entry(name).or_default();
        family.get_or_create(&labels).set(value.parse().unwrap_or_default());
    }
    let mut registry = Registry::default();
    for (name, family) in families {
        registry.register(name, "The same series", family);
    }
    registry
}
