//! Partitions of `events` with their logs, the merge, and what is under way between them.

use std::collections::VecDeque;
use std::sync::Arc;

use features::{Config, Core, EntityConfig, Merge, Out, Output, Plan, Window};
use schemas::duration::Millis;
use schemas::{Control, EntityTiles, EntityVersion, Entry, Event, FeatureVector, Place, VectorSchema};

use crate::common::*;

pub(crate) const PARTITIONS: usize = 3;
pub(crate) const TILE: i64 = 10_000;
/// The windows of these tests, and the width of the tiles at their tails, ms: less than 64 to a window, and
/// none narrower than the shared tile; 0 where a window begins with a tile.
pub(crate) const WINDOWS: [(&str, i64); 6] = [
    ("1m", 10_000),
    ("1h", 60_000),
    ("1d", 1_800_000),
    ("tumbling:1h", 0),
    ("tumbling:1d", 0),
    ("hopping:1h/10m", 0),
];

pub(crate) fn windows() -> impl Iterator<Item = (Window, i64)> {
    WINDOWS.iter().map(|(window, tail)| (Window::parse(window).unwrap(), *tail))
}

pub(crate) fn shared_config() -> Config {
    let kinds = |names: &[&str]| names.iter().map(ToString::to_string).collect::<Vec<_>>();
    let entity = EntityConfig {
        count: kinds(&["view", "click", "cart", "purchase", "refund"]),
        sum: kinds(&["view", "purchase", "refund"]),
        mean: Vec::new(),
        rate: true,
        rate_parent: String::new(),
        rate_prior: 0.1,
        rate_weight: 10.0,
        seconds_since: kinds(&["view", "click"]),
        windows: windows().map(|(window, _)| window).collect(),
        ..EntityConfig::default()
    };
    let names = ["user", "item", "campaign", "category", "item_placement", "campaign_placement"];
    let mut entities = names.map(|name| (name.to_owned(), entity.clone()));
    entities[1].1.rate_parent = "campaign".into();
    Config { shared_tile: Millis(TILE), entities: entities.into(), ..config() }
}

/// Partitions with their logs, the merge, and what is under way between them.
pub(crate) struct Cluster {
    pub(crate) plan: Arc<Plan>,
    pub(crate) schema: VectorSchema,
    pub(crate) cores: Vec<Core>,
    pub(crate) merge: Merge,
    pub(crate) next: Vec<i64>,
    /// What each partition's log holds, with the offset.
    pub(crate) logs: Vec<Vec<(i64, Entry)>>,
    pub(crate) sent: Vec<VecDeque<EntityTiles>>,
    /// Last version marked in each partition's log.
    pub(crate) marked: Vec<u64>,
    pub(crate) vectors: Vec<(FeatureVector, u64)>,
    pub(crate) tiles: Vec<EntityTiles>,
    pub(crate) hours: Vec<EntityTiles>,
    pub(crate) versions: Vec<EntityVersion>,
}

impl Cluster {
    pub(crate) fn new(config: &Config) -> Self {
        let plan = plan(config);
        Self {
            cores: (0..PARTITIONS).map(|p| Core::new(plan.clone(), p as i32)).collect(),
            merge: Merge::new(plan.clone(), PARTITIONS),
            next: vec![0; PARTITIONS],
            logs: vec![Vec::new(); PARTITIONS],
            sent: vec![VecDeque::new(); PARTITIONS],
            marked: vec![0; PARTITIONS],
            vectors: Vec::new(),
            tiles: Vec::new(),
            hours: Vec::new(),
            versions: Vec::new(),
            schema: plan.vector_schema(),
            plan,
        }
    }

    pub(crate) fn partition(event: &Event) -> usize {
        event.user.bytes().map(usize::from).sum::<usize>() % PARTITIONS
    }

    /// An entry of a partition's log.
    pub(crate) fn step(&mut self, partition: usize, entry: &Entry) {
        let place = Place { partition: partition as i32, offset: self.next[partition] };
        self.next[partition] += 1;
        self.logs[partition].push((place.offset, entry.clone()));
        let mut out = Out::default();
        self.cores[partition].step(entry, place, &mut out);
        for output in out.records {
            match output {
                Output::Vector(vector) => self.vectors.push((*vector, self.marked[partition])),
                Output::Tiles(tiles) => {
                    self.tiles.push(tiles.clone());
                    self.sent[partition].push_back(tiles);
                }
                Output::Hours(hours) => self.hours.push(hours),
                _ => {}
            }
        }
    }

    /// An event to its user's partition, a control record to all.
    pub(crate) fn write(&mut self, entry: &Entry) {
        match entry {
            Entry::Event(event) => self.step(Self::partition(event), entry),
            Entry::Control(_) => (0..PARTITIONS).for_each(|partition| self.step(partition, entry)),
        }
    }

    /// The merge takes the next record of a partition, and marks what it completes in all.
    pub(crate) fn take(&mut self, partition: usize) -> bool {
        let Some(tiles) = self.sent[partition].pop_front() else { return false };
        for version in self.merge.step(&tiles) {
            self.versions.push(version.clone());
            for partition in 0..PARTITIONS {
                self.step(partition, &Entry::Control(Control::Entities(version.clone())));
                if version.last {
                    self.marked[partition] = version.version_ms as u64;
                }
            }
        }
        true
    }

    pub(crate) fn take_all(&mut self) {
        while (0..PARTITIONS).any(|partition| self.take(partition)) {}
    }

    pub(crate) fn number(&self, vector: &FeatureVector, name: &str) -> f32 {
        let at = self.schema.position(name).unwrap_or_else(|| panic!("no {name}"));
        vector.numbers().nth(at).unwrap()
    }
}
