//! Counters and histograms of things that happen, in one list.
//!
//! One exhaustive match leads from an event to what is counted, so a new event cannot be forgotten. All
//! label combinations exist from the start: a counter that appears with its first failure shows no
//! increase for it.

use super::{acted, negotiation::Format, observed::Observed};
use crate::core::{
    AccountId, Event, Gate, Revoker, Timestamp,
    connecting::{Arrival, Turn},
    digest::Cap,
    event::NOT_SENT,
    notices::{Audience, Change},
};
use prometheus_client::{
    encoding::{EncodeLabelSet, text},
    metrics::{
        counter::Counter,
        family::{Family, MetricConstructor},
        gauge::Gauge,
        histogram::Histogram,
    },
    registry::{Metric, Registry},
};
use std::{sync::Arc, time::Duration};

/// Everything that is counted. Cheap to clone; all clones count into the same.
#[derive(Clone, Debug)]
pub struct Metrics {
    registry: Arc<Registry>,
    refresh_outcomes: Family<Outcome, Counter>,
    refresh_duration: Family<Provider, Histogram, Buckets>,
    accounts_adopted: Counter,
    tokens_restored: Counter,
    probes: Family<Probe, Counter>,
    publish_checks: Family<Probe, Counter>,
    gate_moves: Family<Move, Counter>,
    app_questions: Family<Question, Counter>,
    responses_reported: Family<Response, Counter>,
    notices: Family<Told, Counter>,
    notices_held: Family<Held, Counter>,
    notice_requests: Family<NoticeRequest, Counter>,
    mails_sent: Family<Told, Counter>,
    mail_failures: Counter,
    mails_given_up: Counter,
    config_reloads: Counter,
    config_reload_failures: Counter,
    config_successful: Gauge,
    config_success_at: Gauge,
    store_damaged_rows: Gauge,
    reports_rejected: Family<Rejected, Counter>,
    permits: Family<Permitted, Counter>,
    posts_forgotten: Family<Rejected, Counter>,
    gate_webhooks: Family<Hooked, Counter>,
    webhooks: Family<Message, Counter>,
    consents_revoked: Family<Revoked, Counter>,
    reconnects: Family<Reconnect, Counter>,
    pub(super) observed: Observed,
    pub(super) acts: acted::Acts,
}

impl Metrics {
    /// Counts from zero. `now` is when the configuration was read for the first time.
    #[must_use]
    pub fn new<'a>(providers: impl IntoIterator<Item = &'a str>, now: Timestamp) -> Self {
        let mut list = Registry::with_prefix("oauth_keepalive");
        let metrics = Self {
            refresh_outcomes: listed(
                &mut list,
                "refresh_outcomes",
                "Requests to the provider's token endpoint by what they came to",
                Family::default(),
            ),
            refresh_duration: listed(
                &mut list,
                "refresh_duration_seconds",
                "How long requests to the provider's token endpoint took",
                Family::new_with_constructor(Buckets),
            ),
            accounts_adopted: listed(
                &mut list,
                "accounts_adopted",
                "Tokens found in the store that somebody else had put there, without those of our own links",
                Counter::default(),
            ),
            tokens_restored: listed(
                &mut list,
                "tokens_restored",
                "Spent tokens that somebody had written back and that our newest one replaced",
                Counter::default(),
            ),
            probes: listed(
                &mut list,
                "probes",
                "Access tokens tried at the provider's free check by result",
                Family::default(),
            ),
            publish_checks: listed(
                &mut list,
                "publish_checks",
                "Questions to the provider whether an account can publish, before its queue resumes, by result",
                Family::default(),
            ),
            gate_moves: listed(
                &mut list,
                "gate_moves",
                "Gates that moved, by where they moved to",
                Family::default(),
            ),
            app_questions: listed(
                &mut list,
                "app_questions",
                "Refresh tokens that are nobody's, sent to learn whether the provider accepts the app, by its answer",
                Family::default(),
            ),
            responses_reported: listed(
                &mut list,
                "responses_reported",
                "Answers of the provider's API that the publisher reported, over all accounts",
                Family::default(),
            ),
            notices: listed(
                &mut list,
                "notices",
                "Notices put into the outbox by who hears them and whether trouble began or ended",
                Family::default(),
            ),
            notices_held: listed(
                &mut list,
                "notices_held",
                "Notices that a cap on mails held back for a later mail, by the cap",
                Family::default(),
            ),
            notice_requests: listed(
                &mut list,
                "notice_requests",
                "Requests with notices to webhooks, by what came of them",
                Family::default(),
            ),
            mails_sent: listed(
                &mut list,
                "mails_sent",
                "Mails that the mail server accepted",
                Family::default(),
            ),
            mail_failures: listed(
                &mut list,
                "mail_failures",
                "Attempts to send a mail that failed",
                Counter::default(),
            ),
            mails_given_up: listed(
                &mut list,
                "mails_given_up",
                "Mails that are not tried again",
                Counter::default(),
            ),
            config_reloads: listed(
                &mut list,
                "config_reloads",
                "Times the configuration was read; the start is one of them",
                Counter::default(),
            ),
            config_reload_failures: listed(
                &mut list,
                "config_reload_failures",
                "Times the configuration was read again and refused",
                Counter::default(),
            ),
            config_successful: listed(
                &mut list,
                "config_last_reload_successful",
                "Whether the configuration in force is the one in the file",
                Gauge::default(),
            ),
            config_success_at: listed(
                &mut list,
                "config_last_reload_success_timestamp_seconds",
                "When the configuration in force was read",
                Gauge::default(),
            ),
            store_damaged_rows: listed(
                &mut list,
                "store_damaged_rows",
                "Rows of the store that could not be read the last time it was read from end to end",
                Gauge::default(),
            ),
            reports_rejected: listed(
                &mut list,
                "reports_rejected",
                "Reports of the publisher that were not taken",
                Family::default(),
            ),
            permits: listed(
                &mut list,
                "permits",
                "Permits to publish that were asked for, by the answer",
                Family::default(),
            ),
            posts_forgotten: listed(
                &mut list,
                "posts_forgotten",
                "Posts that waited for a permit and are not remembered any more, because there were too many or because they did not ask again",
                Family::default(),
            ),
            gate_webhooks: listed(
                &mut list,
                "gate_webhooks",
                "Webhooks to publishers about gates that moved, by what became of an attempt",
                Family::default(),
            ),
            webhooks: listed(
                &mut list,
                "webhooks",
                "Messages that came to the webhooks' listener by who may have sent them and what became of them there",
                Family::default(),
            ),
            consents_revoked: listed(
                &mut list,
                "consents_revoked",
                "Accounts of which it was announced, under a signature, that their consent was taken back, by whom",
                Family::default(),
            ),
            reconnects: listed(
                &mut list,
                "reconnects",
                "Where the way of owners ended who followed a link to connect an account",
                Family::default(),
            ),
            observed: Observed::listed(&mut list),
            acts: acted::acts(&mut list),
            registry: Arc::default(),
        };
        let build: Family<Build, Gauge> =
            listed(&mut list, "build_info", "The version of this program", Family::default());
        build.get_or_create(&Build { version: env!("CARGO_PKG_VERSION") }).set(1);
        metrics.config_successful.set(1);
        metrics.config_success_at.set(now.as_unix());
        metrics.begin_at_zero();
        for provider in providers {
            metrics.expect_provider(provider);
        }
        Self { registry: Arc::new(list), ..metrics }
    }

    /// Makes the series of a provider that the configuration names.
    pub fn expect_provider(&self, name: &str) {
        for outcome in OUTCOMES {
            drop(self.refresh_outcomes.get_or_create(&Outcome { provider: name.into(), outcome }));
        }
        for result in PROBE_RESULTS {
            drop(self.probes.get_or_create(&Probe { provider: name.into(), result }));
        }
        for result in CHECK_RESULTS {
            drop(self.publish_checks.get_or_create(&Probe { provider: name.into(), result }));
        }
        for answer in ANSWERS {
            drop(self.app_questions.get_or_create(&Question { provider: name.into(), answer }));
        }
        for code in crate::core::Responses::CODES {
            drop(self.responses_reported.get_or_create(&Response { provider: name.into(), code }));
        }
        for by in Revoker::ALL {
            drop(self.consents_revoked.get_or_create(&Revoked::of(name, by)));
        }
        drop(self.refresh_duration.get_or_create(&Provider { provider: name.into() }));
    }

    /// Makes the series of somebody who may send messages to the webhooks' listener.
    pub fn expect_webhooks(&self, from: &str) {
        for result in MessageResult::ALL {
            drop(self.webhooks.get_or_create(&Message::of(from, result)));
        }
    }

    /// Makes the series of the owners' listener.
    pub fn expect_reconnects(&self) {
        let turns = Turn::ALL.map(Turn::as_label).into_iter();
        for result in turns.chain(Arrival::ALL.map(Arrival::as_label)) {
            drop(self.reconnects.get_or_create(&Reconnect { result }));
        }
    }

    /// Counts the end of an owner's way: the label of a [`Turn`] or of an [`Arrival`].
    pub fn reconnect(&self, result: &'static str) {
        self.reconnects.get_or_create(&Reconnect { result }).inc();
    }

    /// Counts what happened.
    pub fn record(&self, event: &Event) {
        match event {
            Event::StoreRead { damaged, .. } => {
                self.store_damaged_rows.set(i64::try_from(*damaged).unwrap_or(i64::MAX));
            }
            Event::RequestEnded { id, outcome, took } => self.request_ended(id, outcome, *took),
            Event::Adopted { .. } => {
                self.accounts_adopted.inc();
            }
            Event::Restored { .. } => {
                self.tokens_restored.inc();
            }
            Event::Probed { id, result } => {
                let labels = Probe { provider: id.provider.to_string(), result };
                self.probes.get_or_create(&labels).inc();
            }
            Event::PublishChecked { id, result } => {
                let labels = Probe { provider: id.provider.to_string(), result };
                self.publish_checks.get_or_create(&labels).inc();
            }
            Event::GateMoved { to, .. } => {
                self.gate_moves.get_or_create(&Move { to: to.as_label() }).inc();
            }
            Event::AppAsked { provider, answer, .. } => {
                let labels = Question { provider: provider.to_string(), answer };
                self.app_questions.get_or_create(&labels).inc();
            }
            Event::ResponsesReported { id, status, times } => {
                let code = crate::core::Responses::code(*status);
                let labels = Response { provider: id.provider.to_string(), code };
                self.responses_reported.get_or_create(&labels).inc_by(u64::from(*times));
            }
            Event::Announced { id, by, result: "revoked" } => {
                self.consents_revoked.get_or_create(&Revoked::of(&id.provider, *by)).inc();
            }
            Event::NoticeOwed { notice } => {
                self.notices.get_or_create(&Told::of(notice.audience, notice.change)).inc();
            }
            Event::MailSent { audience, change } => {
                self.mails_sent.get_or_create(&Told::of(*audience, *change)).inc();
            }
            Event::NoticesHeld { cap, notices } => {
                self.notices_held.get_or_create(&Held::of(*cap)).inc_by(*notices as u64);
            }
            Event::WebhookSent => {
                self.notice_requests.get_or_create(&NoticeRequest::TAKEN).inc();
            }
            Event::WebhookFailed { permanent, .. } => {
                let result =
                    if *permanent { NoticeRequest::GIVEN_UP } else { NoticeRequest::FAILED };
                self.notice_requests.get_or_create(&result).inc();
            }
            Event::MailFailed { permanent, .. } => {
                self.mail_failures.inc();
                if *permanent {
                    self.mails_given_up.inc();
                }
            }
            Event::Reloaded { successful, at, .. } => self.reloaded(*successful, *at),
            // Shown by the snapshot, account by account or as the fleet's gauges.
            Event::Announced { .. }
            | Event::Shared { .. }
            // The page that it was connected on has counted it.
            | Event::Reconnected { .. }
            | Event::StoreRowDamaged { .. }
            | Event::StoreUp { .. }
            | Event::StateUp { .. }
            | Event::RefreshStarted { .. }
            | Event::Refreshed { .. }
            | Event::RefreshFailed { .. }
            | Event::Unsaved { .. }
            | Event::WrittenBack { .. }
            | Event::CauseChanged { .. }
            | Event::AppFrozen { .. }
            | Event::AppThawed { .. }
            | Event::AppPaused { .. }
            | Event::CredentialsInUse { .. }
            | Event::ClockStepped { .. } => {}
        }
    }

    /// Counts a report of the publisher that was not taken.
    pub fn report_rejected(&self, reason: Rejection) {
        self.reports_rejected.get_or_create(&Rejected { reason: reason.as_label() }).inc();
    }

    /// Counts the answer to whoever asked for a permit.
    pub fn permit(&self, answer: PermitAnswer) {
        self.permits.get_or_create(&Permitted { answer: answer.as_label() }).inc();
    }

    /// Counts what became of a webhook to a publisher.
    pub fn gate_webhook(&self, result: HookResult) {
        self.gate_webhooks.get_or_create(&Hooked { result: result.as_label() }).inc();
    }

    /// Counts posts that are not remembered any more.
    pub fn posts_forgotten(&self, full: u64, absent: u64) {
        for (reason, posts) in [(FULL, full), (ABSENT, absent)] {
            self.posts_forgotten.get_or_create(&Rejected { reason }).inc_by(posts);
        }
    }

    /// Counts a message to the webhooks' listener. `from` is a provider that the configuration names, or one of
    /// [`FROM_PUBLISHER`] and [`FROM_NOBODY`].
    pub fn webhook(&self, from: &str, result: MessageResult) {
        self.webhooks.get_or_create(&Message::of(from, result)).inc();
    }

    /// Everything counted, as text. Sorted, because prometheus-client's own order is drawn at random at
    /// each start and two scrapes could not be compared.
    pub fn write(&self, out: &mut Vec<u8>, format: Format) {
        let mut written = String::new();
        text::encode(&mut written, &self.registry).expect("a string takes every character");
        rewrite(&written, format, out);
    }

    fn begin_at_zero(&self) {
        for result in [NoticeRequest::TAKEN, NoticeRequest::FAILED, NoticeRequest::GIVEN_UP] {
            drop(self.notice_requests.get_or_create(&result));
        }
        for cap in Cap::ALL {
            drop(self.notices_held.get_or_create(&Held::of(cap)));
        }
        for audience in [Audience::Owner, Audience::Operator] {
            for change in Change::ALL {
                drop(self.notices.get_or_create(&Told::of(audience, change)));
                if change != Change::Withdrawn {
                    drop(self.mails_sent.get_or_create(&Told::of(audience, change)));
                }
            }
        }
        for to in Gate::ALL {
            drop(self.gate_moves.get_or_create(&Move { to: to.as_label() }));
        }
        self.posts_forgotten(0, 0);
        for result in HookResult::ALL {
            drop(self.gate_webhooks.get_or_create(&Hooked { result: result.as_label() }));
        }
        for answer in PermitAnswer::ALL {
            drop(self.permits.get_or_create(&Permitted { answer: answer.as_label() }));
        }
        for reason in Rejection::ALL {
            drop(self.reports_rejected.get_or_create(&Rejected { reason: reason.as_label() }));
        }
    }

    fn request_ended(&self, id: &AccountId, outcome: &'static str, took: Duration) {
        let provider = id.provider.to_string();
        if outcome != NOT_SENT {
            self.refresh_duration
                .get_or_create(&Provider { provider: provider.clone() })
                .observe(took.as_secs_f64());
        }
        self.refresh_outcomes.get_or_create(&Outcome { provider, outcome }).inc();
    }

    fn reloaded(&self, successful: bool, at: Timestamp) {
        self.config_reloads.inc();
        self.config_successful.set(i64::from(successful));
        if successful {
            self.config_success_at.set(at.as_unix());
        } else {
            self.config_reload_failures.inc();
        }
    }
}

/// Why a report of the publisher was not taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Rejection {
    /// No bearer secret, or another one.
    Unauthorized,
    /// Not the JSON that is expected.
    Malformed,
    /// More bytes or more entries than are taken at once.
    TooLarge,
    /// The body did not arrive in time.
    TooSlow,
    /// The keeper has not taken the earlier ones yet, or our own secret cannot be read.
    Unavailable,
}

impl Rejection {
    const ALL: [Self; 5] =
        [Self::Unauthorized, Self::Malformed, Self::TooLarge, Self::TooSlow, Self::Unavailable];

    const fn as_label(self) -> &'static str {
        match self {
            Self::Unauthorized => "unauthorized",
            Self::Malformed => "malformed",
            Self::TooLarge => "too_large",
            Self::TooSlow => "too_slow",
            Self::Unavailable => "unavailable",
        }
    }
}

/// What somebody was told who asked for a permit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PermitAnswer {
    /// Publish.
    Open,
    /// Publish, and prove the account with it.
    Canary,
    /// The gate is held.
    Held,
    /// Others go first.
    Wait,
}

impl PermitAnswer {
    const ALL: [Self; 4] = [Self::Open, Self::Canary, Self::Held, Self::Wait];

    const fn as_label(self) -> &'static str {
        match self {
            Self::Open => "open",
            Self::Canary => "canary",
            Self::Held => "held",
            Self::Wait => "wait",
        }
    }
}

/// What became of a webhook to a publisher.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum HookResult {
    /// It was taken.
    Delivered,
    /// It was not, and is sent again.
    Failed,
    /// It is not sent again.
    GivenUp,
    /// Too many waited, and it was the oldest.
    Dropped,
}

impl HookResult {
    const ALL: [Self; 4] = [Self::Delivered, Self::Failed, Self::GivenUp, Self::Dropped];

    const fn as_label(self) -> &'static str {
        match self {
            Self::Delivered => "delivered",
            Self::Failed => "failed",
            Self::GivenUp => "given_up",
            Self::Dropped => "dropped",
        }
    }
}

const FULL: &str = "full";
const ABSENT: &str = "absent";

/// What became of a message to the webhooks' listener.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum MessageResult {
    /// It is written down, and what follows from it will follow.
    Taken,
    /// It was taken before.
    Duplicate,
    /// Its signature is right, and it says nothing about a consent.
    Ignored,
    /// No signature, none that can be read, or one with another secret.
    Unsigned,
    /// Its time is too far from ours: somebody may be repeating it.
    Old,
    /// Signed, and not what was expected.
    Malformed,
    /// More bytes than are taken at once.
    TooLarge,
    /// The body did not arrive in time.
    TooSlow,
    /// It cannot be written down now; whoever sent it sends it again.
    Unavailable,
    /// There is no such app, or its provider sends none.
    UnknownApp,
}

impl MessageResult {
    const ALL: [Self; 10] = [
        Self::Taken,
        Self::Duplicate,
        Self::Ignored,
        Self::Unsigned,
        Self::Old,
        Self::Malformed,
        Self::TooLarge,
        Self::TooSlow,
        Self::Unavailable,
        Self::UnknownApp,
    ];

    const fn as_label(self) -> &'static str {
        match self {
            Self::Taken => "taken",
            Self::Duplicate => "duplicate",
            Self::Ignored => "ignored",
            Self::Unsigned => "unsigned",
            Self::Old => "old",
            Self::Malformed => "malformed",
            Self::TooLarge => "too_large",
            Self::TooSlow => "too_slow",
            Self::Unavailable => "unavailable",
            Self::UnknownApp => "unknown_app",
        }
    }
}

/// Who sends what a publisher announces. No provider may have this name.
pub const FROM_PUBLISHER: &str = "(publisher)";

/// Who sends what is for an app that does not exist.
pub const FROM_NOBODY: &str = "(nobody)";

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Message {
    from: String,
    result: &'static str,
}

impl Message {
    fn of(from: &str, result: MessageResult) -> Self {
        Self { from: from.to_owned(), result: result.as_label() }
    }
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Reconnect {
    result: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Revoked {
    provider: String,
    by: &'static str,
}

impl Revoked {
    fn of(provider: &str, by: Revoker) -> Self {
        Self { provider: provider.to_owned(), by: by.as_label() }
    }
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Provider {
    provider: String,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Outcome {
    provider: String,
    outcome: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Probe {
    provider: String,
    result: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Move {
    to: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Question {
    provider: String,
    answer: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Response {
    provider: String,
    code: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Told {
    audience: &'static str,
    change: &'static str,
}

impl Told {
    const fn of(audience: Audience, change: Change) -> Self {
        Self {
            audience: match audience {
                Audience::Owner => "owner",
                Audience::Operator => "operator",
            },
            change: change.as_label(),
        }
    }
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Hooked {
    result: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct NoticeRequest {
    result: &'static str,
}

impl NoticeRequest {
    const TAKEN: Self = Self { result: "taken" };
    const FAILED: Self = Self { result: "failed" };
    const GIVEN_UP: Self = Self { result: "given_up" };
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Held {
    cap: &'static str,
}

impl Held {
    const fn of(cap: Cap) -> Self {
        Self { cap: cap.as_label() }
    }
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Permitted {
    answer: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Rejected {
    reason: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Build {
    version: &'static str,
}

#[derive(Clone, Debug)]
struct Buckets;

impl MetricConstructor<Histogram> for Buckets {
    fn new_metric(&self) -> Histogram {
        Histogram::new(DURATION_BUCKETS)
    }
}

pub(super) fn listed<M: Metric + Clone>(
    list: &mut Registry,
    name: &str,
    help: &str,
    metric: M,
) -> M {
    list.register(name, help, metric.clone());
    metric
}

/// Turns what prometheus-client writes (OpenMetrics, families in order, series in none) into either
/// format with sorted series.
fn rewrite(written: &str, format: Format, out: &mut Vec<u8>) {
    let mut series: Vec<Vec<&str>> = Vec::new();
    let mut counter = None;
    for line in written.lines() {
        let Some(comment) = line.strip_prefix("# ") else {
            // A histogram's lines belong together, in the order in which they were written: its sum, its
            // count, its buckets.
            let goes_on = line.contains("_bucket{") || is_count(line);
            match series.last_mut() {
                Some(last) if goes_on => last.push(line),
                _ => series.push(vec![line]),
            }
            continue;
        };
        write_sorted(&mut series, out);
        if comment == "EOF" {
            break;
        }
        // HELP comes before TYPE, and only TYPE says whether the name must be changed.
        match (comment.strip_prefix("HELP "), comment.strip_prefix("TYPE ")) {
            (Some(help), _) => counter = Some(help),
            (_, Some(kind)) => write_header(counter.take(), kind, format, out),
            _ => {}
        }
    }
    write_sorted(&mut series, out);
}

fn is_count(line: &str) -> bool {
    let name = line.split(['{', ' ']).next().unwrap_or_default();
    name.ends_with("_seconds_count")
}

fn write_sorted(series: &mut Vec<Vec<&str>>, out: &mut Vec<u8>) {
    series.sort_unstable();
    for line in series.drain(..).flatten() {
        out.extend_from_slice(line.as_bytes());
        out.push(b'\n');
    }
}

/// `help` is `name text`, `kind` is `name type`. The classic format names the sample, OpenMetrics the
/// family: they differ for counters.
fn write_header(help: Option<&str>, kind: &str, format: Format, out: &mut Vec<u8>) {
    let total = if format == Format::Classic && kind.ends_with(" counter") { "_total" } else { "" };
    for (word, line) in [("# HELP ", help), ("# TYPE ", Some(kind))] {
        let Some((name, rest)) = line.and_then(|line| line.split_once(' ')) else { continue };
        for part in [word, name, total, " ", rest, "\n"] {
            out.extend_from_slice(part.as_bytes());
        }
    }
}

/// What a request to a token endpoint comes to.
const OUTCOMES: [&str; 5] = ["committed", "not_committed", "dead", "ambiguous", NOT_SENT];

/// What the free check of an access token says.
const CHECK_RESULTS: [&str; 3] = ["passed", "refused", "unclear"];
const PROBE_RESULTS: [&str; 3] = ["alive", "refused", "unknown"];

/// What comes of the question about an app.
const ANSWERS: [&str; 4] = ["accepted", "refused", "unclear", NOT_SENT];

/// Seconds. A good answer takes a tenth; a request is given up after half a minute.
const DURATION_BUCKETS: [f64; 9] = [0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0];
