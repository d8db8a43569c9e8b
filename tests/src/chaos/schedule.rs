//! The schedule: which fault begins when. A pure function of a seed and a length.
//!
//! Faults of one lane follow one another; those of different lanes overlap. Every lane deals its
//! kinds from a shuffled deck, so that each comes before any comes again.

use std::fmt;
use std::time::Duration;

use serde::Serialize;

use super::dice::Dice;

/// A service under test.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Service {
    /// Raw records to events.
    Ingest,
    /// Events to vectors.
    Features,
    /// Tiles to versions.
    Merge,
    /// Vectors to predictions.
    Scorer,
    /// Topics to tables.
    Lake,
    /// Tables to models.
    Trainer,
}

impl Service {
    /// All of them, in the order of the flow.
    pub const ALL: [Self; 6] =
        [Self::Ingest, Self::Features, Self::Merge, Self::Scorer, Self::Lake, Self::Trainer];
    /// Those that commit transactions.
    const TRANSACTIONAL: [Self; 4] = [Self::Ingest, Self::Features, Self::Merge, Self::Scorer];
    /// Those that keep snapshots.
    const STATEFUL: [Self; 2] = [Self::Features, Self::Merge];

    /// Its subcommand.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Ingest => "ingest",
            Self::Features => "features",
            Self::Merge => "merge",
            Self::Scorer => "scorer",
            Self::Lake => "lake",
            Self::Trainer => "trainer",
        }
    }
}

/// What goes wrong.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Kind {
    /// SIGKILL of an instance.
    Killed,
    /// SIGSTOP of an instance, SIGCONT later.
    Frozen,
    /// One more instance for a while.
    Joined,
    /// SIGKILL of a broker, started again later.
    BrokerKilled,
    /// SIGKILL of the broker that coordinates a service's transactions, as it is told to commit one.
    CoordinatorKilled,
    /// Other leaders for all partitions.
    LeadersMoved,
    /// Connections between a service and a broker closed, and new ones too.
    NetworkCut,
    /// Nothing passes between a service and a broker; connections stay.
    NetworkSilent,
    /// All between a service and a broker comes later.
    NetworkDelayed,
    /// Little passes between a service and a broker.
    NetworkThrottled,
    /// The object store fails at everything.
    StoreFails,
    /// The object store fails at everything for a moment, again and again: whoever tries again
    /// meets a slow store.
    StoreStutters,
    /// Snapshots can be neither written nor read.
    SnapshotsFull,
    /// The newest snapshot is cut short and must be restored from.
    SnapshotTruncated,
    /// A bit of the newest snapshot is flipped and must be restored from.
    SnapshotFlipped,
    /// The lake is killed when it has written a commit's data file and not its log.
    CommitInterrupted,
}

/// What goes on at the same time as the other lanes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Lane {
    /// Processes of services.
    Processes,
    /// Brokers and the network.
    Cluster,
    /// The object store.
    Store,
}

impl Lane {
    /// All of them.
    pub const ALL: [Self; 3] = [Self::Processes, Self::Cluster, Self::Store];

    /// What goes wrong in it.
    pub const fn kinds(self) -> &'static [Kind] {
        match self {
            Self::Processes => &[Kind::Killed, Kind::Frozen, Kind::Joined],
            Self::Cluster => &[
                Kind::BrokerKilled,
                Kind::CoordinatorKilled,
                Kind::LeadersMoved,
                Kind::NetworkCut,
                Kind::NetworkSilent,
                Kind::NetworkDelayed,
                Kind::NetworkThrottled,
            ],
            Self::Store => &[
                Kind::StoreFails,
                Kind::StoreStutters,
                Kind::SnapshotsFull,
                Kind::SnapshotTruncated,
                Kind::SnapshotFlipped,
                Kind::CommitInterrupted,
            ],
        }
    }
}

impl Kind {
    /// All of them.
    pub fn all() -> impl Iterator<Item = Self> {
        Lane::ALL.into_iter().flat_map(|lane| lane.kinds().iter().copied())
    }

    /// As a reader of the report knows it.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Killed => "instance killed",
            Self::Frozen => "instance frozen",
            Self::Joined => "instance joined and left",
            Self::BrokerKilled => "broker killed",
            Self::CoordinatorKilled => "coordinator killed in a commit",
            Self::LeadersMoved => "leaders moved",
            Self::NetworkCut => "network cut",
            Self::NetworkSilent => "network silent",
            Self::NetworkDelayed => "network delayed",
            Self::NetworkThrottled => "network throttled",
            Self::StoreFails => "store fails",
            Self::StoreStutters => "store stutters",
            Self::SnapshotsFull => "snapshots full",
            Self::SnapshotTruncated => "snapshot truncated",
            Self::SnapshotFlipped => "snapshot bit flipped",
            Self::CommitInterrupted => "table commit interrupted",
        }
    }

    /// Which services it can be of.
    const fn services(self) -> &'static [Service] {
        match self {
            Self::CoordinatorKilled => &Service::TRANSACTIONAL,
            Self::SnapshotTruncated | Self::SnapshotFlipped => &Service::STATEFUL,
            Self::CommitInterrupted => &[Service::Lake],
            _ => &Service::ALL,
        }
    }

    /// The shortest and the longest that it lasts, ms.
    const fn lasts_ms(self) -> (u64, u64) {
        match self {
            Self::Killed
            | Self::LeadersMoved
            | Self::SnapshotTruncated
            | Self::SnapshotFlipped
            | Self::CommitInterrupted => (0, 0),
            // Beyond the session time-out of 10 s the others take over, and a zombie wakes up.
            Self::Frozen => (2_000, 14_000),
            Self::Joined => (6_000, 12_000),
            Self::BrokerKilled | Self::CoordinatorKilled => (2_000, 9_000),
            Self::NetworkCut | Self::NetworkSilent => (2_000, 12_000),
            Self::NetworkDelayed | Self::NetworkThrottled => (4_000, 8_000),
            Self::StoreFails | Self::StoreStutters | Self::SnapshotsFull => (2_000, 8_000),
        }
    }

    /// How long the lane is left alone after it, beyond the gap that follows every fault, ms: as
    /// long as it takes until its like may follow.
    const fn recovers_ms(self) -> u64 {
        match self {
            Self::BrokerKilled | Self::CoordinatorKilled => 8_000,
            Self::SnapshotTruncated | Self::SnapshotFlipped | Self::CommitInterrupted => 4_000,
            _ => 0,
        }
    }
}

/// A fault that is to happen.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct Planned {
    /// When it begins, ms after the market's first record.
    pub at_ms: u64,
    /// Where.
    pub lane: Lane,
    /// What.
    pub kind: Kind,
    /// Whose, where it is a service's.
    pub service: Service,
    /// Which of its instances, where it is an instance's.
    pub instance: usize,
    /// Which broker, from 1, where it is a broker's.
    pub broker: usize,
    /// How long until it is mended, ms.
    pub lasts_ms: u64,
    /// What else there is to choose: a byte of a file, by how much leaders move.
    pub dice: u64,
}

impl fmt::Display for Planned {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { kind, service, instance, broker, .. } = self;
        let (kind_name, service) = (kind.name(), service.name());
        match kind {
            Kind::Killed | Kind::Frozen => write!(f, "{kind_name}: {service} {instance}")?,
            Kind::BrokerKilled => write!(f, "{kind_name}: {broker}")?,
            Kind::NetworkCut | Kind::NetworkSilent | Kind::NetworkDelayed | Kind::NetworkThrottled => {
                write!(f, "{kind_name}: {service} and broker {broker}")?;
            }
            Kind::LeadersMoved | Kind::StoreFails | Kind::StoreStutters | Kind::SnapshotsFull => {
                write!(f, "{kind_name}")?;
            }
            _ => write!(f, "{kind_name}: {service}")?,
        }
        if self.lasts_ms > 0 {
            write!(f, ", {:.1} s", self.lasts_ms as f64 / 1000.0)?;
        }
        Ok(())
    }
}

/// How a run is divided.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct Shape {
    /// All of it: as long as the market sends, ms.
    pub length_ms: u64,
    /// Before the first fault, ms.
    pub quiet_before_ms: u64,
    /// After the last one was to be mended, ms.
    pub quiet_after_ms: u64,
}

impl Shape {
    /// A sixth before and a sixth after, at most 20 s each.
    pub fn of(length: Duration) -> Self {
        let length_ms = length.as_millis() as u64;
        let quiet_ms = (length_ms / 6).min(20_000);
        Self { length_ms, quiet_before_ms: quiet_ms, quiet_after_ms: quiet_ms }
    }

    /// Whether so much is sent that a model must have been published in the end: of less it may not have learnt
    /// what the base rate does not know.
    pub fn trains(self) -> bool {
        self.length_ms >= 300_000
    }
}

/// The faults of a seed, in the order of their times.
pub fn plan(seed: u64, shape: Shape, instances: usize, brokers: usize) -> Vec<Planned> {
    let until = shape.length_ms.saturating_sub(shape.quiet_after_ms);
    let mut planned = Vec::new();
    for (number, lane) in (1_u64..).zip(Lane::ALL) {
        let mut dice = Dice::new(seed ^ number.wrapping_mul(0xa076_1d64_78bd_642f));
        let mut deck = Vec::new();
        let mut at_ms = shape.quiet_before_ms + dice.between(0, 3_000);
        loop {
            if deck.is_empty() {
                deck = lane.kinds().to_vec();
                dice.shuffle(&mut deck);
            }
            let Some(kind) = deck.pop() else { break };
            let (least, most) = kind.lasts_ms();
            let services = kind.services();
            let fault = Planned {
                at_ms,
                lane,
                kind,
                service: services[dice.below(services.len() as u64) as usize],
                instance: dice.below(instances as u64) as usize,
                broker: 1 + dice.below(brokers as u64) as usize,
                lasts_ms: dice.between(least, most),
                dice: dice.draw(),
            };
            if at_ms + fault.lasts_ms > until {
                break;
            }
            at_ms += fault.lasts_ms + kind.recovers_ms() + dice.between(1_000, 4_000);
            planned.push(fault);
        }
    }
    planned.sort_by_key(|fault| (fault.at_ms, fault.lane));
    planned
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    fn of(seed: u64, seconds: u64) -> Vec<Planned> {
        plan(seed, Shape::of(Duration::from_secs(seconds)), 2, 3)
    }

    #[test]
    fn a_seed_has_one_schedule_and_another_seed_another() {
        assert_eq!(of(7, 600), of(7, 600));
        assert_ne!(of(7, 600), of(8, 600));
    }

    #[test]
    fn the_first_faults_of_a_seed_stay_what_they_are() {
        let first: Vec<String> =
            of(1, 600).iter().take(6).map(|fault| format!("{} {fault}", fault.at_ms)).collect();
        assert_eq!(first, FIRST_OF_SEED_1);
    }

    const FIRST_OF_SEED_1: [&str; 6] = [
        "20980 network throttled: ingest and broker 3, 7.7 s",
        "21103 snapshots full, 2.9 s",
        "22688 instance frozen: features 1, 13.9 s",
        "25007 table commit interrupted: lake",
        "32087 network delayed: merge and broker 2, 4.2 s",
        "32834 snapshot bit flipped: features",
    ];

    #[test]
    fn ten_minutes_have_every_kind_and_every_service() {
        for seed in 0..50 {
            let planned = of(seed, 600);
            let kinds: BTreeSet<Kind> = planned.iter().map(|fault| fault.kind).collect();
            assert_eq!(kinds, Kind::all().collect(), "seed {seed}");
            let killed = planned.iter().filter(|fault| fault.lane == Lane::Processes);
            let services: BTreeSet<Service> = killed.map(|fault| fault.service).collect();
            assert_eq!(services.len(), Service::ALL.len(), "seed {seed}");
        }
    }

    #[test]
    fn faults_of_a_lane_follow_one_another_between_quiet_times() {
        for seed in 0..50 {
            for seconds in [60, 90, 180, 600] {
                let shape = Shape::of(Duration::from_secs(seconds));
                let planned = of(seed, seconds);
                assert!(planned.is_sorted_by_key(|fault| fault.at_ms));
                for lane in Lane::ALL {
                    let mut free_ms = shape.quiet_before_ms;
                    for fault in planned.iter().filter(|fault| fault.lane == lane) {
                        assert!(fault.at_ms >= free_ms, "seed {seed}: {fault} overlaps in its lane");
                        free_ms = fault.at_ms + fault.lasts_ms;
                        assert!(free_ms <= shape.length_ms - shape.quiet_after_ms, "seed {seed}: {fault}");
                        assert!((1..=3).contains(&fault.broker) && fault.instance < 2);
                        assert!(fault.kind.services().contains(&fault.service));
                    }
                }
            }
        }
    }

    #[test]
    fn a_minute_has_faults_in_every_lane() {
        for seed in 0..50 {
            let lanes: BTreeSet<Lane> = of(seed, 60).iter().map(|fault| fault.lane).collect();
            assert_eq!(lanes.len(), 3, "seed {seed}");
        }
    }
}
