//! Everything that goes wrong, each kind with a die of its own: taking one kind out leaves what the others
//! draw as it was, so that a seed that fails can be made smaller.

use crate::dice::Dice;

/// What goes wrong, or just happens.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(usize)]
pub(crate) enum Fault {
    StateFails,
    StateUnheard,
    StateSlow,
    StoreFails,
    StoreUnheard,
    StoreSlow,
    NeverSent,
    TooMany,
    BrokenBefore,
    BrokenAfter,
    LostBefore,
    LostAfter,
    Garbled,
    LateAnswer,
    ProviderOutage,
    StoreOutage,
    StateOutage,
    AppRefused,
    Kill,
    Stall,
    Restart,
    Partition,
    ClockStep,
    ClockSkew,
    PublisherRefreshes,
    PublisherRaces,
    Reconnects,
    ReconnectRaces,
    Revoked,
    AccessDies,
    FalseReports,
    Disconnects,
    StaleWrite,
    OtherColumn,
}

impl Fault {
    pub(crate) const ALL: [(Self, &'static str); 34] = [
        (Self::StateFails, "state_fails"),
        (Self::StateUnheard, "state_unheard"),
        (Self::StateSlow, "state_slow"),
        (Self::StoreFails, "store_fails"),
        (Self::StoreUnheard, "store_unheard"),
        (Self::StoreSlow, "store_slow"),
        (Self::NeverSent, "never_sent"),
        (Self::TooMany, "too_many"),
        (Self::BrokenBefore, "5xx_before_commit"),
        (Self::BrokenAfter, "5xx_after_commit"),
        (Self::LostBefore, "request_lost"),
        (Self::LostAfter, "answer_lost"),
        (Self::Garbled, "answer_garbled"),
        (Self::LateAnswer, "answer_late"),
        (Self::ProviderOutage, "provider_outage"),
        (Self::StoreOutage, "store_outage"),
        (Self::StateOutage, "state_outage"),
        (Self::AppRefused, "app_refused"),
        (Self::Kill, "kill"),
        (Self::Stall, "stall"),
        (Self::Restart, "restart"),
        (Self::Partition, "partition"),
        (Self::ClockStep, "clock_step"),
        (Self::ClockSkew, "clock_skew"),
        (Self::PublisherRefreshes, "publisher_refreshes"),
        (Self::PublisherRaces, "publisher_races"),
        (Self::Reconnects, "reconnects"),
        (Self::ReconnectRaces, "reconnect_races"),
        (Self::Revoked, "revoked"),
        (Self::AccessDies, "access_dies"),
        (Self::FalseReports, "false_401"),
        (Self::Disconnects, "disconnects"),
        (Self::StaleWrite, "stale_write"),
        (Self::OtherColumn, "other_column"),
    ];

    pub(crate) fn named(name: &str) -> Option<Self> {
        Self::ALL.iter().find(|(_, own)| *own == name).map(|(fault, _)| *fault)
    }

    pub(crate) const fn bit(self) -> u64 {
        1 << self as usize
    }
}

/// One die for each kind, and how often each happened.
pub(crate) struct Faults {
    dice: Vec<Dice>,
    without: u64,
    pub(crate) counts: [u64; Fault::ALL.len()],
    /// Nothing goes wrong any more.
    pub(crate) over: bool,
}

impl Faults {
    pub(crate) fn new(seed: u64, without: u64) -> Self {
        let die = |kind: usize| Dice::new(seed.wrapping_mul(131).wrapping_add(kind as u64 + 1));
        let dice = (0..Fault::ALL.len()).map(die).collect();
        Self { dice, without, counts: [0; Fault::ALL.len()], over: false }
    }

    /// Draws; true that often in ten thousand.
    pub(crate) fn strikes(&mut self, fault: Fault, in_ten_thousand: i64) -> bool {
        let drawn = self.dice[fault as usize].between(0, 9_999) < in_ten_thousand;
        let strikes = drawn && self.may(fault);
        self.counts[fault as usize] += u64::from(strikes);
        strikes
    }

    /// It happens for sure, unless it is taken out.
    pub(crate) fn happens(&mut self, fault: Fault) -> bool {
        let may = self.may(fault);
        self.counts[fault as usize] += u64::from(may);
        may
    }

    pub(crate) fn die(&mut self, fault: Fault) -> &mut Dice {
        &mut self.dice[fault as usize]
    }

    fn may(&self, fault: Fault) -> bool {
        !self.over && self.without & fault.bit() == 0
    }
}
