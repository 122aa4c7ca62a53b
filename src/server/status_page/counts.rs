//! How many accounts there are of each kind: one pass over all of them.

use super::{
    query::{IN_TROUBLE, Query, SHUT},
    scene::Scene,
    words,
};
use crate::{
    core::{Account, AccountId, Cause, Gate, cause::Actor},
    metrics::accounts::HEALTHY,
};
use serde::Serialize;
use std::sync::Arc;

/// How many accounts there are of each kind, whatever is asked for.
#[derive(Default)]
pub(super) struct Counts {
    /// By [`Cause::index`]; the last entry counts the healthy ones.
    causes: [usize; Cause::ALL.len() + 1],
    /// The first account of each cause: where it is the only one, it is called by its name.
    firsts: [Option<AccountId>; Cause::ALL.len()],
    /// By gate, in the order of [`Gate::ALL`].
    gates: [usize; Gate::ALL.len()],
    /// In the table's order, which is sorted.
    pub(super) providers: Vec<Group>,
    /// By name.
    pub(super) apps: Vec<Group>,
    /// 401s of the last day.
    pub(super) unauthorized: u64,
    /// The app that was counted last: neighbours mostly share one.
    last_app: usize,
}

/// The accounts of a provider or an app.
pub(super) struct Group {
    pub(super) name: Arc<str>,
    pub(super) accounts: usize,
    /// Those of them that are not well.
    pub(super) troubled: usize,
}

/// An entry of a filter.
#[derive(Serialize)]
pub(super) struct Choice {
    value: String,
    label: String,
    chosen: bool,
}

impl Counts {
    pub(super) fn add(&mut self, account: &Account, scene: &Scene<'_>) {
        self.causes[account.cause.map_or(Cause::ALL.len(), Cause::index)] += 1;
        if let Some(cause) = account.cause {
            self.firsts[cause.index()].get_or_insert_with(|| account.id.clone());
        }
        self.gates[account.door.gate as usize] += 1;
        self.unauthorized += u64::from(scene.unauthorized_sum(account));
        let provider = &account.id.provider;
        if self.providers.last().is_none_or(|last| last.name != *provider) {
            self.providers.push(Group::new(provider));
        }
        let last = self.providers.last_mut().expect("one was pushed when there was none");
        last.add(account);
        if self.apps.get(self.last_app).is_none_or(|app| app.name != account.app) {
            self.last_app = match self.apps.binary_search_by(|app| app.name.cmp(&account.app)) {
                Ok(at) => at,
                Err(at) => {
                    self.apps.insert(at, Group::new(&account.app));
                    at
                }
            };
        }
        self.apps[self.last_app].add(account);
    }

    pub(super) const fn healthy(&self) -> usize {
        self.causes[Cause::ALL.len()]
    }

    pub(super) const fn of(&self, cause: Cause) -> usize {
        self.causes[cause.index()]
    }

    /// The one account of this cause, where it is one.
    pub(super) const fn only_one(&self, cause: Cause) -> Option<&AccountId> {
        if self.of(cause) == 1 { self.firsts[cause.index()].as_ref() } else { None }
    }

    pub(super) fn by_actor(&self, who: impl Fn(Actor) -> bool) -> usize {
        Cause::ALL.into_iter().filter(|cause| who(cause.actor())).map(|cause| self.of(cause)).sum()
    }

    pub(super) const fn gate(&self, gate: Gate) -> usize {
        self.gates[gate as usize]
    }

    pub(super) const fn shut(&self) -> usize {
        self.gate(Gate::Held) + self.gate(Gate::Canary)
    }

    /// How many accounts of this provider there are, and how many are not well.
    pub(super) fn provider(&self, name: &str) -> (usize, usize) {
        of_group(&self.providers, name)
    }

    /// The same of an app.
    pub(super) fn app(&self, name: &str) -> (usize, usize) {
        of_group(&self.apps, name)
    }

    pub(super) fn provider_choices(&self, query: &Query) -> Vec<Choice> {
        group_choices(&self.providers, &query.provider)
    }

    pub(super) fn app_choices(&self, query: &Query) -> Vec<Choice> {
        group_choices(&self.apps, &query.app)
    }

    pub(super) fn cause_choices(&self, query: &Query) -> Vec<Choice> {
        let in_trouble = self.causes[..Cause::ALL.len()].iter().sum();
        let one = |value: &str, label: &str, count| Choice::of(value, label, count, &query.cause);
        let causes = Cause::ALL
            .into_iter()
            .filter(|cause| self.of(*cause) > 0 || query.cause == cause.as_label());
        [one(IN_TROUBLE, "anything wrong", in_trouble)]
            .into_iter()
            .chain([one(HEALTHY, "nothing wrong", self.healthy())])
            .chain(ACTORS.map(|(who, label)| {
                one(words::actor(who), label, self.by_actor(|actor| actor == who))
            }))
            .chain(causes.map(|cause| one(cause.as_label(), &words::cause(cause), self.of(cause))))
            .collect()
    }

    pub(super) fn gate_choices(&self, query: &Query) -> Vec<Choice> {
        let one = |value: &str, label: &str, count| Choice::of(value, label, count, &query.gate);
        [one(SHUT, "not open", self.shut())]
            .into_iter()
            .chain(Gate::ALL.map(|gate| one(gate.as_label(), gate.as_label(), self.gate(gate))))
            .collect()
    }
}

impl Group {
    fn new(name: &Arc<str>) -> Self {
        Self { name: Arc::clone(name), accounts: 0, troubled: 0 }
    }

    fn add(&mut self, account: &Account) {
        self.accounts += 1;
        self.troubled += usize::from(account.cause.is_some());
    }
}

impl Choice {
    fn of(value: &str, label: &str, count: usize, chosen: &str) -> Self {
        Self {
            value: value.to_owned(),
            label: format!("{label} ({})", words::thousands(count as u64)),
            chosen: value == chosen,
        }
    }
}

fn of_group(groups: &[Group], name: &str) -> (usize, usize) {
    let group = groups.iter().find(|group| *group.name == *name);
    group.map_or((0, 0), |group| (group.accounts, group.troubled))
}

fn group_choices(groups: &[Group], chosen: &str) -> Vec<Choice> {
    let choices = groups.iter().take(CHOICES_MAX);
    choices.map(|group| Choice::of(&group.name, &group.name, group.accounts, chosen)).collect()
}

const ACTORS: [(Actor, &str); 3] = [
    (Actor::Owner, "for an owner to mend"),
    (Actor::Operator, "for you to mend"),
    (Actor::Nobody, "mending by itself"),
];

/// More apps than this are not chosen from a list; the search field and the link of each app remain.
const CHOICES_MAX: usize = 200;
