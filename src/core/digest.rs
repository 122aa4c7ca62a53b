//! What belongs in one mail, when it goes, and what a cap holds back.
//!
//! A notice waits for a short quiet, so that accounts which fail together become one mail per person. Trouble and
//! ends go into mails of their own. What must not wait goes at once and by itself. Where many owners are told
//! within minutes, the operator hears of that in one mail. Absent on purpose: addresses; a mailbox is a keyed
//! hash here.

use super::{
    Cause, Timestamp,
    notices::{Change, is_urgent},
};
use std::{
    cmp::Reverse,
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
    time::Duration,
};

/// Whose mail it is: a hash of the address.
pub type Mailbox = [u8; 16];

/// A notice to one recipient that is in no mail yet.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Waiting {
    /// Its row.
    pub row: i64,
    /// Who hears it.
    pub mailbox: Mailbox,
    /// True for those who run the sidecar.
    pub is_operator: bool,
    /// What is, or was, wrong.
    pub cause: Cause,
    /// Which way it went.
    pub change: Change,
    /// When it was decided.
    pub since: Timestamp,
    /// True when a cap has held it back before.
    pub is_held: bool,
}

/// A mail that was put together.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Made {
    /// Whose.
    pub mailbox: Mailbox,
    /// When.
    pub at: Timestamp,
    /// What it told the operator about other people's mails.
    pub summary: Summarised,
}

/// What one mail told the operator about other people's mails.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Summarised {
    /// That many owners were told.
    pub many: bool,
    /// That caps hold notices back.
    pub held: bool,
}

/// An account whose trouble began a short while ago and is told to its owner.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Fired {
    /// Whose mail it is.
    pub mailbox: Mailbox,
    /// Which account.
    pub account: Arc<str>,
    /// Its provider.
    pub provider: Arc<str>,
    /// What is wrong.
    pub cause: Cause,
    /// When that was decided.
    pub at: Timestamp,
}

/// How mails are put together and held back.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Rules {
    /// A mail goes when its last notice has been waiting so long. Zero puts nothing together, except for what a
    /// cap held back.
    pub quiet: Duration,
    /// Most mails for one owner in a day.
    pub owner_per_day: usize,
    /// Most mails for everybody in an hour.
    pub total_per_hour: usize,
    /// From how many accounts on the operator hears that many owners were told.
    pub many_from: usize,
}

impl Default for Rules {
    fn default() -> Self {
        Self {
            quiet: Duration::from_secs(30),
            owner_per_day: 10,
            total_per_hour: 500,
            many_from: 20,
        }
    }
}

impl Rules {
    /// Each notice by itself and at once.
    pub const EACH: Self = Self {
        quiet: Duration::ZERO,
        owner_per_day: usize::MAX,
        total_per_hour: usize::MAX,
        many_from: usize::MAX,
    };

    /// For how long the first notice of a mail waits at the most.
    #[must_use]
    pub fn patience(&self) -> Duration {
        (self.quiet * QUIETS_MAX).min(PATIENCE_MAX)
    }

    /// The instant at which what came between `oldest` and `newest` goes.
    fn ready_at(&self, oldest: Timestamp, newest: Timestamp) -> Timestamp {
        newest.plus(self.quiet).min(oldest.plus(self.patience()))
    }
}

/// Which cap holds something back.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Cap {
    /// That owner has had enough mails for a day.
    Owner,
    /// Enough mails went out for an hour.
    Total,
}

impl Cap {
    /// Both.
    pub const ALL: [Self; 2] = [Self::Owner, Self::Total];

    /// The word for it in metrics and state.
    #[must_use]
    pub const fn as_label(self) -> &'static str {
        match self {
            Self::Owner => "owner",
            Self::Total => "total",
        }
    }
}

/// One mail to be made.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Bundle {
    /// Whose.
    pub mailbox: Mailbox,
    /// What is in it, oldest first. Empty for one that holds a summary alone.
    pub rows: Vec<i64>,
    /// What it tells the operator besides.
    pub summary: Summary,
}

/// What the operator is told about other people's mails.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Summary {
    /// That many owners were told, of what.
    pub many: Vec<Many>,
    /// How many notices caps hold back.
    pub held: usize,
}

impl Summary {
    /// True when there is nothing to tell.
    #[must_use]
    pub const fn is_empty(&self) -> bool {
        self.many.is_empty() && self.held == 0
    }
}

/// Accounts of one provider with one cause whose owners were told within a short while.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Many {
    /// The provider.
    pub provider: Arc<str>,
    /// The cause.
    pub cause: Cause,
    /// How many accounts.
    pub accounts: usize,
    /// Of how many owners.
    pub owners: usize,
}

/// What is to be done with all that waits.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Plan {
    /// Mails to be made now.
    pub bundles: Vec<Bundle>,
    /// What a cap holds back that it did not before.
    pub held: Vec<(i64, Cap)>,
    /// When to plan again, if nothing comes before.
    pub next: Option<Timestamp>,
}

/// What is known when mails are planned.
#[derive(Clone, Copy, Debug)]
pub struct Known<'a> {
    /// What is in no mail yet, oldest first.
    pub waiting: &'a [Waiting],
    /// The mails that were made in the last day.
    pub made: &'a [Made],
    /// Owners' trouble that began since [`MANY_WITHIN`] ago.
    pub fired: &'a [Fired],
    /// Those who run the sidecar.
    pub operators: &'a [Mailbox],
}

/// Which mails are to be made at `now`.
#[must_use]
pub fn plan(now: Timestamp, known: &Known<'_>, rules: &Rules) -> Plan {
    let mut plan = Plan::default();
    let mut caps = Caps::new(now, known.made, rules);
    for urgent in known.waiting.iter().filter(|one| is_urgent(one.cause, one.change)) {
        caps.count(urgent.mailbox);
        plan.bundles.push(bundle(urgent.mailbox, &[urgent]));
    }
    for group in groups(known.waiting, rules) {
        let is_operator = group.iter().any(|one| one.is_operator);
        // What the operator hears waits for what is said about others.
        if is_operator
            && plans_summary(now, known, rules)
            && known.operators.contains(&group[0].mailbox)
            && group[0].change.is_trouble()
        {
            continue;
        }
        plan_group(now, &group, is_operator, rules, &mut caps, &mut plan);
    }
    plan_summary(now, known, rules, &mut caps, &mut plan);
    plan
}

/// What goes together: one person's trouble, and one person's ends.
fn groups<'a>(waiting: &'a [Waiting], rules: &Rules) -> Vec<Vec<&'a Waiting>> {
    let mut groups: BTreeMap<_, Vec<&Waiting>> = BTreeMap::new();
    for one in waiting.iter().filter(|one| !is_urgent(one.cause, one.change)) {
        let alone = (rules.quiet.is_zero() && !one.is_held).then_some(one.row);
        groups.entry((one.mailbox, !one.change.is_trouble(), alone)).or_default().push(one);
    }
    let mut groups: Vec<_> = groups.into_values().collect();
    // Whoever waits longest goes first when a cap leaves room for some.
    groups.sort_by_key(|group| group.iter().map(|one| (one.since, one.row)).min());
    groups
}

fn plan_group(
    now: Timestamp,
    group: &[&Waiting],
    is_operator: bool,
    rules: &Rules,
    caps: &mut Caps<'_>,
    plan: &mut Plan,
) {
    let (oldest, newest) = ends_of(group.iter().map(|one| one.since));
    // What was held back has waited long enough.
    let ready_at =
        if group.iter().any(|one| one.is_held) { now } else { rules.ready_at(oldest, newest) };
    if !ready_at.has_come(now) {
        plan.wake_at(ready_at);
        return;
    }
    if plan.bundles.len() >= BUNDLES_MAX {
        plan.wake_at(now);
        return;
    }
    match caps.check(group[0].mailbox, is_operator) {
        None => {
            caps.count(group[0].mailbox);
            plan.bundles.push(bundle(group[0].mailbox, group));
        }
        Some((cap, free_at)) => {
            plan.held.extend(group.iter().filter(|one| !one.is_held).map(|one| (one.row, cap)));
            plan.wake_at(free_at);
        }
    }
}

fn bundle(mailbox: Mailbox, group: &[&Waiting]) -> Bundle {
    let rows = group.iter().map(|one| one.row).collect();
    Bundle { mailbox, rows, summary: Summary::default() }
}

/// The accounts whose owners are told now, if those are many and the operator has not heard of it lately.
fn many<'a>(now: Timestamp, known: &Known<'a>, rules: &Rules) -> Vec<&'a Fired> {
    let since = now.minus(MANY_WITHIN);
    let heard = known.made.iter().any(|one| one.summary.many && one.at.plus(SUMMARY_EVERY) > now);
    let fired: Vec<&Fired> = known.fired.iter().filter(|one| one.at >= since).collect();
    let accounts = fired.iter().map(|one| &one.account).collect::<BTreeSet<_>>().len();
    if heard || rules.quiet.is_zero() || accounts < rules.many_from { Vec::new() } else { fired }
}

/// How many notices caps hold back, if the operator has not heard of it lately.
fn held(now: Timestamp, known: &Known<'_>, plan: &Plan) -> usize {
    let heard = known.made.iter().any(|one| one.summary.held && one.at.plus(SUMMARY_EVERY) > now);
    if heard {
        return 0;
    }
    let goes: BTreeSet<i64> =
        plan.bundles.iter().flat_map(|one| one.rows.iter().copied()).collect();
    let before = known.waiting.iter().filter(|one| one.is_held && !goes.contains(&one.row)).count();
    before + plan.held.len()
}

fn plans_summary(now: Timestamp, known: &Known<'_>, rules: &Rules) -> bool {
    !many(now, known, rules).is_empty()
}

/// What the operator is told about others, in one mail with what they are told anyway.
fn plan_summary(
    now: Timestamp,
    known: &Known<'_>,
    rules: &Rules,
    caps: &mut Caps<'_>,
    plan: &mut Plan,
) {
    let fired = many(now, known, rules);
    let held = held(now, known, plan);
    if fired.is_empty() && held == 0 {
        return;
    }
    for mailbox in known.operators {
        let own: Vec<&Waiting> = known
            .waiting
            .iter()
            .filter(|one| one.mailbox == *mailbox && one.change.is_trouble())
            .filter(|one| !is_urgent(one.cause, one.change))
            .filter(|_| !fired.is_empty())
            .collect();
        let times = own.iter().map(|one| one.since).chain(fired.iter().map(|one| one.at));
        let (oldest, newest) = ends_of(times.chain(fired.is_empty().then_some(Timestamp::MIN)));
        let ready_at = rules.ready_at(oldest, newest);
        let free_at = caps.check(*mailbox, true).map(|(_, free_at)| free_at);
        if let Some(later) = free_at.or(Some(ready_at)).filter(|at| !at.has_come(now)) {
            plan.wake_at(later);
            continue;
        }
        // Into the mail that goes in any case, if there is one.
        let summary = Summary { many: counted(&fired), held };
        match plan.bundles.iter_mut().find(|one| one.mailbox == *mailbox && own.is_empty()) {
            Some(goes) => goes.summary = summary,
            None => {
                caps.count(*mailbox);
                plan.bundles.push(Bundle { summary, ..bundle(*mailbox, &own) });
            }
        }
    }
}

fn counted(fired: &[&Fired]) -> Vec<Many> {
    type Sets = (BTreeSet<Arc<str>>, BTreeSet<Mailbox>);
    let mut groups: BTreeMap<(Arc<str>, Cause), Sets> = BTreeMap::new();
    for one in fired {
        let (accounts, owners) = groups.entry((Arc::clone(&one.provider), one.cause)).or_default();
        accounts.insert(Arc::clone(&one.account));
        owners.insert(one.mailbox);
    }
    let count = |((provider, cause), (accounts, owners)): (_, Sets)| Many {
        provider,
        cause,
        accounts: accounts.len(),
        owners: owners.len(),
    };
    let mut many: Vec<Many> = groups.into_iter().map(count).collect();
    many.sort_by_key(|one| Reverse(one.accounts));
    many.truncate(MANY_GROUPS_MAX);
    many
}

fn ends_of(times: impl Iterator<Item = Timestamp>) -> (Timestamp, Timestamp) {
    times.fold((Timestamp::MAX, Timestamp::MIN), |(oldest, newest), at| {
        (oldest.min(at), newest.max(at))
    })
}

impl Plan {
    fn wake_at(&mut self, at: Timestamp) {
        self.next = Some(self.next.map_or(at, |next| next.min(at)));
    }
}

/// How many mails were made, and how many more may be.
struct Caps<'a> {
    now: Timestamp,
    rules: &'a Rules,
    /// When each mailbox had its mails of the last day, oldest first.
    of: BTreeMap<Mailbox, Vec<Timestamp>>,
    /// When the mails of the last hour were made, oldest first.
    all: Vec<Timestamp>,
}

impl<'a> Caps<'a> {
    fn new(now: Timestamp, made: &[Made], rules: &'a Rules) -> Self {
        let mut made: Vec<(Timestamp, Mailbox)> =
            made.iter().map(|one| (one.at, one.mailbox)).collect();
        made.sort_unstable();
        let mut of: BTreeMap<Mailbox, Vec<Timestamp>> = BTreeMap::new();
        for (at, mailbox) in made.iter().filter(|(at, _)| at.plus(DAY) > now) {
            of.entry(*mailbox).or_default().push(*at);
        }
        let lately = made.into_iter().map(|(at, _)| at).filter(|at| at.plus(HOUR) > now);
        Self { now, rules, of, all: lately.collect() }
    }

    fn count(&mut self, mailbox: Mailbox) {
        self.of.entry(mailbox).or_default().push(self.now);
        self.all.push(self.now);
    }

    /// What stands in the way of one more mail, and until when.
    fn check(&self, mailbox: Mailbox, is_operator: bool) -> Option<(Cap, Timestamp)> {
        let free_at = |made: &[Timestamp], most: usize, window: Duration| {
            let over = made.len().checked_sub(most)?;
            made.get(over).or_else(|| made.last()).map(|at| at.plus(window))
        };
        // Some of the room is the operator's, who must hear of what holds the rest up.
        let reserve = if is_operator { 0 } else { self.rules.total_per_hour / OPERATORS_PART };
        let most = self.rules.total_per_hour - reserve;
        if let Some(at) = free_at(&self.all, most, HOUR) {
            return Some((Cap::Total, at));
        }
        if is_operator {
            return None;
        }
        let his = self.of.get(&mailbox).map_or(&[][..], Vec::as_slice);
        free_at(his, self.rules.owner_per_day, DAY).map(|at| (Cap::Owner, at))
    }
}

/// The owners of how many accounts are told within which time counts as many being told at once.
pub const MANY_WITHIN: Duration = Duration::from_secs(10 * 60);

/// Most notices that one mail lists; the others are counted.
pub const LISTED_MAX: usize = 30;

/// Most earlier mails that one mail names as its thread.
pub const THREADS_MAX: usize = 16;

/// A mail whose arrival was in doubt so often is not sent again: at most twice, whatever happens.
pub const DOUBTS_MAX: u32 = 2;

/// How often the operator is told about other people's mails, at the most.
const SUMMARY_EVERY: Duration = Duration::from_secs(60 * 60);
const MANY_GROUPS_MAX: usize = 20;
/// Mails that one plan makes; the next plan follows at once.
const BUNDLES_MAX: usize = 200;
const QUIETS_MAX: u32 = 5;
const PATIENCE_MAX: Duration = Duration::from_secs(5 * 60);
const OPERATORS_PART: usize = 10;
const HOUR: Duration = Duration::from_secs(60 * 60);
const DAY: Duration = Duration::from_secs(24 * 60 * 60);

#[cfg(test)]
mod tests {
    use super::*;

    const ANNA: Mailbox = [1; 16];
    const BOB: Mailbox = [2; 16];
    const OPS: Mailbox = [9; 16];
    const RULES: Rules = Rules {
        quiet: Duration::from_secs(30),
        owner_per_day: 3,
        total_per_hour: 20,
        many_from: 20,
    };

    fn at(seconds: i64) -> Timestamp {
        Timestamp::from_unix(1_000_000 + seconds)
    }

    fn waiting(row: i64, mailbox: Mailbox, since: i64) -> Waiting {
        Waiting {
            row,
            mailbox,
            is_operator: mailbox == OPS,
            cause: Cause::ConsentRevoked,
            change: Change::Firing,
            since: at(since),
            is_held: false,
        }
    }

    fn made(mailbox: Mailbox, seconds: i64) -> Made {
        Made { mailbox, at: at(seconds), summary: Summarised::default() }
    }

    fn known<'a>(waiting: &'a [Waiting], made: &'a [Made], fired: &'a [Fired]) -> Known<'a> {
        Known { waiting, made, fired, operators: &[OPS] }
    }

    fn planned(now: i64, waiting: &[Waiting], made: &[Made]) -> Plan {
        plan(at(now), &known(waiting, made, &[]), &RULES)
    }

    fn rows(plan: &Plan) -> Vec<Vec<i64>> {
        plan.bundles.iter().map(|one| one.rows.clone()).collect()
    }

    #[test]
    fn what_comes_close_together_is_one_mail_per_person_and_waits_no_longer_than_it_must() {
        let one = [waiting(1, ANNA, 0)];
        let two = [waiting(1, ANNA, 0), waiting(2, BOB, 5), waiting(3, ANNA, 20)];
        let steady: Vec<Waiting> = (0..20).map(|n| waiting(n, ANNA, n * 10)).collect();
        type Row<'a> = (&'a str, i64, &'a [Waiting], &'a [&'a [i64]], Option<i64>);
        let cases: [Row<'_>; 6] = [
            ("nothing waits", 0, &[], &[], None),
            ("the first waits for the quiet", 29, &one, &[], Some(30)),
            ("and no longer", 30, &one, &[&[1]], None),
            ("each person has a quiet of their own", 35, &two, &[&[2]], Some(50)),
            ("and one mail", 50, &two, &[&[1, 3], &[2]], None),
            (
                "a steady drip is cut",
                150,
                &steady[..16],
                &[&[0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15]],
                None,
            ),
        ];
        for (name, now, waiting, expected, next) in cases {
            let plan = planned(now, waiting, &[]);
            assert_eq!(rows(&plan), expected, "{name}");
            assert_eq!(plan.next, next.map(at), "{name}");
        }
    }

    #[test]
    fn trouble_and_ends_are_mails_of_their_own_and_what_is_urgent_waits_for_neither() {
        let mut all = vec![waiting(1, ANNA, 0), waiting(2, ANNA, 0), waiting(3, ANNA, 0)];
        all[1].change = Change::Resolved;
        all[2].change = Change::Reminder;
        all.push(Waiting { cause: Cause::UnsavedToken, ..waiting(4, OPS, 30) });
        assert_eq!(rows(&planned(0, &all[3..], &[])), [[4]], "at once");
        assert_eq!(rows(&planned(30, &all, &[])), [vec![4], vec![1, 3], vec![2]]);
        let end = Waiting { change: Change::Resolved, ..all[3].clone() };
        assert_eq!(rows(&planned(31, &[end], &[])), [[0; 0]; 0], "its end may wait");
    }

    #[test]
    fn a_cap_holds_back_and_what_it_held_is_one_mail_when_it_ends() {
        let full = [made(ANNA, -70_000), made(ANNA, -60), made(ANNA, -50)];
        let mut all = vec![waiting(1, ANNA, 0), waiting(2, BOB, 0)];
        let plan = planned(30, &all, &full);
        assert_eq!(plan.bundles[0].rows, [2]);
        assert_eq!(plan.held, [(1, Cap::Owner)]);
        assert_eq!(plan.next, Some(at(-70_000 + 86_400)));
        assert_eq!((plan.bundles[1].mailbox, plan.bundles[1].summary.held), (OPS, 1));
        // Later, when it was told once, nothing is told again, and what came since goes with it.
        all = vec![Waiting { is_held: true, ..waiting(1, ANNA, 0) }, waiting(3, ANNA, 16_399)];
        assert_eq!(planned(16_399, &all, &full).held, [(3, Cap::Owner)]);
        assert_eq!(rows(&planned(16_400, &all, &full)), [[1, 3]]);
    }

    #[test]
    fn a_full_hour_holds_everybody_back_but_leaves_room_for_the_operator() {
        let full: Vec<Made> = (0..18).map(|n| made([100 + n; 16], i64::from(n))).collect();
        let all = [waiting(1, ANNA, 100), waiting(2, OPS, 100)];
        let plan = planned(130, &all, &full);
        assert_eq!(plan.held, [(1, Cap::Total)]);
        assert_eq!(plan.bundles.len(), 1);
        assert_eq!((plan.bundles[0].rows.as_slice(), plan.bundles[0].summary.held), (&[2][..], 1));
        assert_eq!(rows(&planned(3_600, &all, &full)), [vec![1], vec![2]]);
    }

    #[test]
    fn with_digests_off_each_goes_by_itself_and_only_what_was_held_goes_together() {
        let off = Rules { quiet: Duration::ZERO, ..RULES };
        let mut all: Vec<Waiting> = (1..=5).map(|row| waiting(row, ANNA, 0)).collect();
        let first = plan(at(0), &known(&all, &[], &[]), &off);
        assert_eq!(rows(&first)[..3], [[1], [2], [3]]);
        assert_eq!(first.held, [(4, Cap::Owner), (5, Cap::Owner)]);
        all.drain(..3);
        all.iter_mut().for_each(|one| one.is_held = true);
        let full = [made(ANNA, 0), made(ANNA, 0), made(ANNA, 0)];
        let next = plan(at(86_400), &known(&all, &full, &[]), &off);
        assert_eq!(next.bundles[0].rows, [4, 5]);
    }

    fn fired(count: usize, seconds: i64) -> Vec<Fired> {
        (0..count)
            .map(|n| Fired {
                mailbox: [u8::try_from(n % 5).unwrap(); 16],
                account: format!("account-{n}").into(),
                provider: "tiktok".into(),
                cause: Cause::ConsentRevoked,
                at: at(seconds),
            })
            .collect()
    }

    #[test]
    fn the_operator_hears_once_that_many_owners_are_told_with_what_they_hear_anyway() {
        let many = fired(100, 0);
        let own = [Waiting { cause: Cause::Unknown, ..waiting(7, OPS, 10) }];
        let early = plan(at(39), &known(&own, &[], &many), &RULES);
        assert_eq!((early.bundles.len(), early.next), (0, Some(at(40))));
        let told = plan(at(40), &known(&own, &[], &many), &RULES);
        assert_eq!(told.bundles.len(), 1);
        assert_eq!(told.bundles[0].rows, [7]);
        let expected = Many {
            provider: "tiktok".into(),
            cause: Cause::ConsentRevoked,
            accounts: 100,
            owners: 5,
        };
        assert_eq!(told.bundles[0].summary.many, [expected]);
        let heard = [Made { summary: Summarised { many: true, held: false }, ..made(OPS, 40) }];
        assert_eq!(plan(at(80), &known(&[], &heard, &many), &RULES), Plan::default());
        let few = fired(19, 0);
        assert_eq!(plan(at(40), &known(&[], &[], &few), &RULES), Plan::default());
        assert_eq!(plan(at(700), &known(&[], &[], &many), &RULES), Plan::default(), "long ago");
    }

    #[test]
    fn whatever_waits_is_sent_once_or_waits_for_an_instant_to_come() {
        let mut left: Vec<Waiting> = (0..500_i64)
            .map(|row| {
                let mailbox = [u8::try_from(row % 40).unwrap(); 16];
                waiting(row, mailbox, row % 97)
            })
            .collect();
        let (mut all, mut now, mut sent) = (Vec::new(), 0, BTreeSet::new());
        while !left.is_empty() {
            let due: Vec<Waiting> =
                left.iter().filter(|one| one.since.has_come(at(now))).cloned().collect();
            let plan = plan(at(now), &known(&due, &all, &[]), &RULES);
            for bundle in &plan.bundles {
                for row in &bundle.rows {
                    assert!(sent.insert(*row), "{row} is in two mails");
                }
                let held = bundle.summary.held > 0;
                let summary = Summarised { many: false, held };
                all.push(Made { summary, ..made(bundle.mailbox, now) });
            }
            left.retain(|one| !sent.contains(&one.row));
            for (row, _) in &plan.held {
                left.iter_mut().filter(|one| one.row == *row).for_each(|one| one.is_held = true);
            }
            assert!(due.is_empty() || !plan.bundles.is_empty() || plan.next.is_some());
            now += 10;
            assert!(now < 4 * 86_400, "{} were never sent", left.len());
        }
        assert_eq!(sent.len(), 500);
    }
}
