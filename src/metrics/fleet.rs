//! What is true of the fleet as a whole: gauges of one snapshot, and a census of its accounts, so that
//! dashboards and alerts also work where the series of each account are switched off.

use super::{
    accounts::HEALTHY,
    exposition::Readings,
    negotiation::Format,
    text::{Family, Kind, PREFIX, write_float, write_integer_line, write_labels},
};
use crate::core::{Account, AccountId, Cause, Gate, Posts, PostsAtRisk, Snapshot, Timestamp};
use arc_swap::ArcSwapOption;
use std::sync::{Arc, atomic::AtomicU64};

/// Numbers that stand outside the snapshot. `app` fills them; a scrape reads them.
#[derive(Debug, Default)]
pub struct Gauges {
    /// Attempts in the journal that have not been brought to their end.
    pub journal_entries: AtomicU64,
    /// Tokens that lie in the spill.
    pub spilled_tokens: AtomicU64,
    /// Tokens of accounts that their owners connected, which the store has not taken and the fleet knows nothing of.
    pub connected_unsaved: Arc<AtomicU64>,
    /// Mails that are owed.
    pub outbox_length: AtomicU64,
    /// Notices that a cap on mails holds back.
    pub outbox_held: AtomicU64,
    /// What all replicas count together; `None` for a process that is alone.
    pub all_replicas: ArcSwapOption<Totals>,
    /// Posts of the publisher that wait; `None` while its tables do not tell.
    pub posts: ArcSwapOption<PostsAtRisk>,
    /// The accounts of which posts wait, each with their number; `None` where publishers cannot ask.
    pub posts_held: ArcSwapOption<Vec<(AccountId, u64)>>,
}

impl Gauges {
    /// Posts of this account that wait; `None` while nobody knows.
    #[must_use]
    pub fn posts_of(&self, id: &AccountId) -> Option<Posts> {
        self.posts.load().as_ref().map(|posts| posts.of(id))
    }
}

/// What all replicas count together.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Totals {
    /// Replicas that are alive.
    pub replicas: u64,
    /// Accounts that they look after.
    pub accounts: u64,
    /// How many of those only a person can mend.
    pub needing_reconnect: u64,
    /// Tokens that the store has not taken.
    pub unsaved: u64,
    /// Refreshes and saves under way.
    pub in_flight: u64,
}

/// Writes every gauge that needs no look at the accounts.
pub fn write_gauges(out: &mut Vec<u8>, format: Format, snapshot: &Snapshot, readings: &Readings) {
    let count = |number: u64| i64::try_from(number).unwrap_or(i64::MAX);
    STORE_UP.write_single(out, format, i64::from(snapshot.store_up));
    if let Some(at) = snapshot.store_read_at {
        STORE_LAST_READ.write_single(out, format, at.as_unix());
    }
    STATE_UP.write_single(out, format, i64::from(snapshot.state_up));
    ACCOUNTS_SHARING.write_single(out, format, count(snapshot.sharing as u64));
    UNSAVED_TOKENS.write_single(
        out,
        format,
        count(snapshot.unsaved as u64 + readings.connected_unsaved),
    );
    SPILLED_TOKENS.write_single(out, format, count(readings.spilled_tokens));
    JOURNAL_ENTRIES.write_single(out, format, count(readings.journal_entries));
    OUTBOX_LENGTH.write_single(out, format, count(readings.outbox_length));
    OUTBOX_HELD.write_single(out, format, count(readings.outbox_held));
    REFRESHES_IN_FLIGHT.write_single(out, format, count(snapshot.in_flight as u64));
    SHARES_HELD.write_single(out, format, count(snapshot.holding.len() as u64));
    KEEPER_LAST_ROUND.write_single(out, format, snapshot.at.as_unix());
    CLOCK_UNCONFIRMED_STEP.write_single(out, format, readings.clock_unconfirmed_step);
    CLOCK_OFFSET.write_header(out, format);
    for (provider, ahead) in &snapshot.clock_offsets {
        CLOCK_OFFSET.write_sample(out, &[("provider", provider)], *ahead);
    }
    APP_FROZEN.write_header(out, format);
    for app in &snapshot.apps {
        let labels = [("app", &*app.name), ("provider", &*app.provider)];
        APP_FROZEN.write_sample(out, &labels, i64::from(app.frozen.is_some()));
    }
    APP_SECRET.write_header(out, format);
    for app in &snapshot.apps {
        if let Some(position) = app.secret {
            let labels = [("app", &*app.name), ("provider", &*app.provider)];
            APP_SECRET.write_sample(out, &labels, i64::from(position));
        }
    }
}

/// Writes the posts that wait: by the publisher's tables, and by what it asked permits for. Posts of an account that
/// works are at no risk.
pub fn write_posts(
    out: &mut Vec<u8>,
    format: Format,
    snapshot: &Snapshot,
    readings: &Readings,
    per_account: bool,
) {
    let stored = readings.posts.as_deref();
    let asked = readings.posts_held.as_deref().map(Vec::as_slice);
    if let Some(asked) = asked {
        let all: u64 = asked.iter().map(|(_, posts)| posts).sum();
        POSTS_WAITING.write_single(out, format, i64::try_from(all).unwrap_or(i64::MAX));
    }
    if !per_account || (stored.is_none() && asked.is_none()) {
        return;
    }
    let known = || {
        let posts = stored.into_iter().flat_map(PostsAtRisk::iter);
        posts.filter_map(|(id, posts)| Some((snapshot.accounts.find(id)?, posts)))
    };
    if stored.is_some() {
        let ailing = known().filter(|(one, _)| one.cause.is_some() || one.door.gate != Gate::Open);
        POSTS_AT_RISK.write_header(out, format);
        let at_risk = ailing.map(|(account, posts)| (&account.id, u64::from(posts.at_risk)));
        write_posts_of(out, POSTS_AT_RISK, FROM_THE_STORE, at_risk);
    }
    POSTS_HELD.write_header(out, format);
    let held = known().map(|(account, posts)| (&account.id, u64::from(posts.held)));
    write_posts_of(out, POSTS_HELD, FROM_THE_STORE, held);
    let waiting = asked.unwrap_or_default().iter().map(|(id, posts)| (id, *posts));
    write_posts_of(out, POSTS_HELD, FROM_PERMITS, waiting);
}

fn write_posts_of<'a>(
    out: &mut Vec<u8>,
    family: Family,
    source: &str,
    accounts: impl Iterator<Item = (&'a AccountId, u64)>,
) {
    for (id, count) in accounts.filter(|(_, count)| *count > 0).take(POSTS_SERIES_MAX) {
        let labels = [("provider", &*id.provider), ("account", &*id.account), ("source", source)];
        family.write_sample(out, &labels, i64::try_from(count).unwrap_or(i64::MAX));
    }
}

impl Totals {
    /// Writes what is the same on every replica.
    pub fn write(&self, out: &mut Vec<u8>, format: Format) {
        for (family, count) in [
            (FLEET_REPLICAS, self.replicas),
            (FLEET_ACCOUNTS, self.accounts),
            (FLEET_NEEDING_RECONNECT, self.needing_reconnect),
            (FLEET_UNSAVED_TOKENS, self.unsaved),
            (FLEET_IN_FLIGHT, self.in_flight),
        ] {
            family.write_single(out, format, i64::try_from(count).unwrap_or(i64::MAX));
        }
    }
}

/// Counts accounts while a scrape passes over them anyway.
#[derive(Debug, Default)]
pub struct Census(Vec<OfProvider>);

/// The accounts of one provider.
#[derive(Debug)]
struct OfProvider {
    provider: Arc<str>,
    /// By [`Cause::index`]; the last entry counts the healthy ones.
    causes: [u64; Cause::ALL.len() + 1],
    /// By gate, in the order of [`Gate::ALL`].
    gates: [u64; Gate::ALL.len()],
    /// How many have at most this share of life left, not counting those of the entry before; the last
    /// entry has no bound.
    life: [u64; LIFE_BUCKETS.len() + 1],
    life_sum: f64,
}

impl Census {
    /// Counts these accounts. They come in the table's order, so a provider that differs from the last
    /// one is a new one.
    pub fn add(&mut self, rows: &[Account], now: Timestamp) {
        for account in rows {
            let provider = &account.id.provider;
            if self.0.last().is_none_or(|last| last.provider != *provider) {
                self.0.push(OfProvider::new(provider));
            }
            let last = self.0.last_mut().expect("one was pushed when there was none");
            last.causes[account.cause.map_or(Cause::ALL.len(), Cause::index)] += 1;
            last.gates[account.door.gate as usize] += 1;
            if let Some(left) = account.life_left(now) {
                last.life[LIFE_BUCKETS.iter().take_while(|bound| left > **bound).count()] += 1;
                last.life_sum += left;
            }
        }
    }

    /// What a process that is alone counts.
    #[must_use]
    pub fn totals(&self, snapshot: &Snapshot) -> Totals {
        let needing = Cause::ALL.into_iter().filter(|cause| cause.needs_reconnect());
        let of = |counted: &OfProvider| {
            needing.clone().map(|cause| counted.causes[cause.index()]).sum::<u64>()
        };
        Totals {
            replicas: 1,
            accounts: snapshot.accounts.len() as u64,
            needing_reconnect: self.0.iter().map(of).sum(),
            unsaved: snapshot.unsaved as u64,
            in_flight: snapshot.in_flight as u64,
        }
    }

    /// Writes the counts. A provider that an app names and nobody is connected to has them at zero.
    pub fn write(&mut self, out: &mut Vec<u8>, format: Format, snapshot: &Snapshot) {
        for app in &snapshot.apps {
            if self.0.iter().all(|known| known.provider != app.provider) {
                self.0.push(OfProvider::new(&app.provider));
            }
        }
        self.0.sort_by(|one, other| one.provider.cmp(&other.provider));
        ACCOUNTS.write_header(out, format);
        let labels = Cause::ALL.into_iter().map(Cause::as_label).chain([HEALTHY]);
        for counted in &self.0 {
            for (cause, count) in labels.clone().zip(counted.causes) {
                let labels = [("provider", &*counted.provider), ("cause", cause)];
                ACCOUNTS.write_sample(out, &labels, i64::try_from(count).unwrap_or(i64::MAX));
            }
        }
        GATE_ACCOUNTS.write_header(out, format);
        for counted in &self.0 {
            for (gate, count) in Gate::ALL.into_iter().zip(counted.gates) {
                let labels = [("provider", &*counted.provider), ("gate", gate.as_label())];
                GATE_ACCOUNTS.write_sample(out, &labels, i64::try_from(count).unwrap_or(i64::MAX));
            }
        }
        LIFE_LEFT.write_header(out, format);
        for counted in &self.0 {
            counted.write_life(out);
        }
    }
}

impl OfProvider {
    fn new(provider: &Arc<str>) -> Self {
        Self {
            provider: Arc::clone(provider),
            causes: [0; Cause::ALL.len() + 1],
            gates: [0; Gate::ALL.len()],
            life: [0; LIFE_BUCKETS.len() + 1],
            life_sum: 0.0,
        }
    }

    fn write_life(&self, out: &mut Vec<u8>) {
        let bounds = LIFE_BUCKETS.iter().map(|bound| format!("{bound:?}")).chain(["+Inf".into()]);
        let mut so_far = 0;
        for (bound, count) in bounds.zip(self.life) {
            so_far += count;
            LIFE_LEFT.write_sample_name(out);
            out.extend_from_slice(b"_bucket");
            write_labels(out, &[("provider", &self.provider), ("le", &bound)]);
            out.push(b' ');
            write_integer_line(out, so_far as i64);
        }
        let labels = [("provider", &*self.provider)];
        LIFE_LEFT.write_sample_name(out);
        out.extend_from_slice(b"_sum");
        write_labels(out, &labels);
        out.push(b' ');
        write_float(out, self.life_sum);
        out.push(b'\n');
        LIFE_LEFT.write_sample_name(out);
        out.extend_from_slice(b"_count");
        write_labels(out, &labels);
        out.push(b' ');
        write_integer_line(out, so_far as i64);
    }
}

const STORE_UP: Family =
    Family::gauge("store_up", "Whether the publisher's token store can be read and written.");
const STORE_LAST_READ: Family = Family::gauge(
    "store_last_read_timestamp_seconds",
    "When the token store was last read from end to end, as Unix time.",
);
const STATE_UP: Family = Family::gauge("state_up", "Whether our own state can be written.");
const ACCOUNTS_SHARING: Family = Family::gauge(
    "accounts_sharing_credential",
    "Accounts whose row holds the same refresh token as another one's; it is presented once for all of them.",
);
const UNSAVED_TOKENS: Family = Family::gauge(
    "unsaved_tokens",
    "New tokens that were received and that the store has not taken; each is lost if our state is.",
);
const SPILLED_TOKENS: Family = Family::gauge(
    "spilled_tokens",
    "New tokens that lie sealed in the spill because our state did not take them.",
);
const JOURNAL_ENTRIES: Family = Family::gauge(
    "journal_entries",
    "Attempts to refresh that have not been brought to their end.",
);
const OUTBOX_LENGTH: Family = Family::gauge("outbox_length", "Mails that are owed.");
const OUTBOX_HELD: Family =
    Family::gauge("outbox_held", "Notices that a cap on mails holds back for a later mail.");
const REFRESHES_IN_FLIGHT: Family =
    Family::gauge("refreshes_in_flight", "Refreshes and saves under way.");
const SHARES_HELD: Family =
    Family::gauge("shares_held", "Shares of all accounts that this replica looks after, of 256.");
const POSTS_WAITING: Family = Family::gauge(
    "posts_waiting",
    "Posts that asked this replica for a permit and wait for one, over all accounts.",
);
const FLEET_REPLICAS: Family = Family::gauge("fleet_replicas", "Replicas that are alive.");
const FLEET_ACCOUNTS: Family = Family::gauge(
    "fleet_accounts",
    "Accounts of all replicas together; each of them shows the same number.",
);
const FLEET_NEEDING_RECONNECT: Family = Family::gauge(
    "fleet_accounts_needing_reconnect",
    "Accounts of all replicas together that only their owner can mend, by connecting them again.",
);
const FLEET_UNSAVED_TOKENS: Family = Family::gauge(
    "fleet_unsaved_tokens",
    "New tokens of all replicas together that the store has not taken.",
);
const FLEET_IN_FLIGHT: Family = Family::gauge(
    "fleet_refreshes_in_flight",
    "Refreshes and saves under way in all replicas together.",
);
const KEEPER_LAST_ROUND: Family = Family::gauge(
    "keeper_last_round_timestamp_seconds",
    "When all accounts were last looked after, as Unix time.",
);
const CLOCK_UNCONFIRMED_STEP: Family = Family::gauge(
    "clock_unconfirmed_step_seconds",
    "Seconds by which the wall clock stepped ahead without any provider confirming it.",
);
const CLOCK_OFFSET: Family = Family::gauge(
    "clock_offset_seconds",
    "Seconds by which the provider's clock is ahead of ours.",
);
const APP_FROZEN: Family = Family::gauge(
    "app_frozen",
    "Whether the accounts of the app are not refreshed because the provider refuses the app.",
);
const APP_SECRET: Family = Family::gauge(
    "app_secret_position",
    "Which of the app's client secrets is in use, in the order of the configuration, from 1.",
);
const ACCOUNTS: Family = Family::gauge(
    "accounts",
    "Accounts by what is wrong with them; cause none counts the healthy ones.",
);
const GATE_ACCOUNTS: Family =
    Family::gauge("gate_accounts", "Accounts by whether the publisher may publish on them.");
const LIFE_LEFT: Family = Family {
    prefix: PREFIX,
    name: "token_remaining_life_ratio",
    kind: Kind::Histogram,
    help: "Accounts by the share of its declared life that the access token has left at this scrape.",
};

const POSTS_AT_RISK: Family = Family::gauge(
    "posts_at_risk",
    "Posts that are due soon on an account that does not work, as far as the publisher's tables tell.",
);
const POSTS_HELD: Family = Family::gauge(
    "posts_held",
    "Posts that are held back until their account works again, by who says so.",
);

/// Who says how many posts wait.
const FROM_THE_STORE: &str = "store";
const FROM_PERMITS: &str = "permits";

/// Accounts whose posts are shown in one family. Whoever has more in trouble looks at the sums.
const POSTS_SERIES_MAX: usize = 10_000;

/// Shares of life. Zero counts the tokens that have ended.
const LIFE_BUCKETS: [f64; 9] = [0.0, 0.05, 0.1, 0.2, 0.3, 0.4, 0.6, 0.8, 1.0];

#[cfg(test)]
mod tests {
    use super::*;
    use crate::core::{AccountId, AppView, Fingerprint, TokenFacts};

    const NOON: Timestamp = Timestamp::from_unix(1_800_000_000);

    fn account(provider: &str, left: i64, cause: Option<Cause>) -> Account {
        let mut account = Account::new(AccountId::new(provider, "a"), "main".into());
        account.cause = cause;
        account.token = Some(TokenFacts {
            token: Fingerprint::from_hash(1),
            renewable_by: None,
            issued_at: Timestamp::from_unix(NOON.as_unix() - 100 + left),
            expires_at: Some(Timestamp::from_unix(NOON.as_unix() + left)),
            refresh_expires_at: None,
            missing_scopes: 0,
        });
        account
    }

    #[test]
    fn each_account_is_in_one_cause_and_one_bucket() {
        let mut census = Census::default();
        census.add(&[account("tiktok", 0, Some(Cause::Unknown)), account("tiktok", 5, None)], NOON);
        census.add(&[account("tiktok", 6, None), account("x", 100, None)], NOON);
        let mut snapshot = Snapshot::empty(NOON);
        snapshot.apps.push(AppView {
            name: "idle".into(),
            provider: "google".into(),
            scopes: [].into(),
            is_sandbox: false,
            frozen: None,
            ..AppView::default()
        });
        let mut out = Vec::new();
        census.write(&mut out, Format::Classic, &snapshot);
        let text = String::from_utf8(out).unwrap();
        for line in [
            r#"accounts{provider="tiktok",cause="none"} 2"#,
            r#"accounts{provider="tiktok",cause="unknown"} 1"#,
            r#"accounts{provider="google",cause="none"} 0"#,
            r#"ratio_bucket{provider="tiktok",le="0.0"} 1"#,
            r#"ratio_bucket{provider="tiktok",le="0.05"} 2"#,
            r#"ratio_bucket{provider="tiktok",le="0.1"} 3"#,
            r#"ratio_bucket{provider="tiktok",le="+Inf"} 3"#,
            r#"ratio_count{provider="tiktok"} 3"#,
            r#"ratio_sum{provider="x"} 1.0"#,
        ] {
            assert!(text.contains(&format!("{line}\n")), "{line}\n{text}");
        }
    }
}
