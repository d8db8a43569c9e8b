//! The services as they are deployed, made small: two partitions a topic, two workers a service,
//! windows of minutes.

use std::sync::{Arc, LazyLock};

use ingest::{Catalogue, PseudonymKey, RawPartitions, SharedCatalogue};
use runtime::chain::ChainFactory;
use runtime::core::Delivery;
use runtime::processor::{InRecord, ProcessorFactory, StandIn, StepError};
use schemas::topic::Names;
use schemas::{Codec, FeatureVector, Protobuf, VectorSchema};
use scorer::Slot;
use serde::de::DeserializeOwned;
use simulation::{Broker, Cluster};

/// The services with their workers, each its own group.
pub(crate) const SERVICES: [&str; 4] = ["ingest", "features", "merge", "scorer"];

/// How features and the scorer run.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Deployed {
    /// Each by itself.
    Apart,
    /// As one, in the same transactions.
    Chained,
}

impl Deployed {
    /// Both.
    pub(crate) const ALL: [Self; 2] = [Self::Apart, Self::Chained];

    /// One seed in four runs them chained.
    pub(crate) fn of(seed: u64) -> Self {
        if seed % 4 == 3 { Self::Chained } else { Self::Apart }
    }

    /// The services that there are.
    pub(crate) fn services(self) -> &'static [&'static str] {
        match self {
            Self::Apart => &SERVICES,
            Self::Chained => &SERVICES[..3],
        }
    }

    /// What the service `features` runs.
    pub(crate) fn features(self, slot: &Slot) -> Arc<dyn ProcessorFactory> {
        let features = Arc::new(PARTS.features.clone());
        match self {
            Self::Apart => features,
            Self::Chained => {
                let topic = Arc::clone(&PARTS.names.feature_vectors);
                let stand_in = StandIn { service: "scorer".into(), topic, made_of: view_of };
                Arc::new(ChainFactory::new(features, scorer(slot), stand_in).unwrap())
            }
        }
    }
}

fn view_of(record: &InRecord) -> Result<i64, StepError> {
    let vector: Result<FeatureVector, _> = Protobuf::decode(record.record.value.as_ref().unwrap());
    vector.map(|vector| vector.place.offset).map_err(StepError::new)
}

/// What the service `scorer` runs: it serves what is in `slot`.
pub(crate) fn scorer(slot: &Slot) -> Arc<dyn ProcessorFactory> {
    // Nothing else is ever declared.
    let schema_of: scorer::Lookup = Arc::new(|fingerprint| {
        Ok(Some(&PARTS.schema).filter(|schema| schema.fingerprint() == fingerprint).cloned())
    });
    Arc::new(scorer::Factory::new(&PARTS.scorer, schema_of, &PARTS.names, slot.clone()))
}
/// Workers of a service.
pub(crate) const WORKERS: usize = 2;

const RAW: RawPartitions = RawPartitions { views: 2, clicks: 2, purchases: 1 };
const PARTITIONS: i32 = 2;

/// Short enough that labels fall, tiles close and hours end within the few hours of event time that a run
/// covers; two timers a record, so that labels wait behind one another across every fault.
const FEATURES: &str = r#"
windows = ["1m", "10m", "1h"]
last_n = 4
click_window = "10m"
purchase_window = "1h"
dedupe_horizon = "30m"
dedupe_events = 64
exact_events = 64
timers_per_record = 2
aggregate_horizon = "2h"
shared_tile = "10m"
[entities.user]
distinct = ["view.item"]
[entities.user_campaign]
windows = ["10m", "1h"]
[entities.user_category]
windows = ["1h", "session:10m"]
[entities.item]
windows = ["1h"]
seconds_since = ["view"]
[entities.campaign]
windows = ["10m", "1h"]
"#;

/// Ticks come often, sources fall idle within a few polls, and the merge holds little: each of these is
/// met many times in a run.
const INGEST: &str = r#"
tick_interval = "20ms"
idle_polls = 3
merge_records = 16
merge_wait = "100ms"
"#;

/// What all runs share: compiled once.
pub(crate) struct Parts {
    pub(crate) names: Names,
    /// By the wall clock, and by the data's own.
    ingest: [ingest::Factory; 2],
    pub(crate) features: features::Factory,
    pub(crate) merge: features::MergeFactory,
    pub(crate) scorer: scorer::Config,
    pub(crate) schema: VectorSchema,
}

pub(crate) static PARTS: LazyLock<Parts> = LazyLock::new(|| {
    let names = Names::new("");
    let key = PseudonymKey::new("k1", vec![7; 32]).unwrap();
    let ingest = ["wall", "data"].map(|clock| {
        let changes = format!("clock = {clock:?}\n{INGEST}");
        let config: ingest::Config = section("ingest", ingest::DEFAULTS, &changes);
        let catalogue = SharedCatalogue::new(Catalogue::new(&config));
        ingest::factory(&config, names.clone(), RAW, PARTITIONS, &key, catalogue).unwrap()
    });
    let config: features::Config = section("features", features::DEFAULTS, FEATURES);
    let features = features::factory(&config, &names).unwrap();
    Parts {
        ingest,
        merge: features::merge_factory(&config, &names, PARTITIONS as usize).unwrap(),
        scorer: section("scorer", scorer::DEFAULTS, "micro_batch = 3"),
        schema: features.plan().vector_schema(),
        features,
        names,
    }
});

/// A section of the config: its defaults with changes.
pub(crate) fn section<T: DeserializeOwned>(name: &str, defaults: &str, changes: &str) -> T {
    let mut defaults: toml::Table = defaults.parse().unwrap();
    let mut section = defaults.remove(name).unwrap();
    overlay(&mut section, toml::Value::Table(changes.parse().unwrap()));
    section.try_into().unwrap()
}

fn overlay(under: &mut toml::Value, over: toml::Value) {
    match (under, over) {
        (toml::Value::Table(under), toml::Value::Table(over)) => {
            for (key, value) in over {
                overlay(under.entry(key).or_insert(toml::Value::Table(toml::Table::new())), value);
            }
        }
        (under, over) => *under = over,
    }
}

/// Topics and services, no worker yet; the scorer serves what is in `slot`.
pub(crate) fn cluster(seed: u64, deployed: Deployed, slot: &Slot) -> Cluster {
    let Parts { names, .. } = &*PARTS;
    let mut broker = Broker::new(ingest::partitioner::partition_of);
    for (topic, partitions) in [
        (&names.views, RAW.views),
        (&names.clicks, RAW.clicks),
        (&names.purchases, RAW.purchases),
        (&names.entity_tiles, 1),
        (&names.events, PARTITIONS),
        (&names.late_events, PARTITIONS),
        (&names.dead_letters, PARTITIONS),
        (&names.feature_vectors, PARTITIONS),
        (&names.labels, PARTITIONS),
        (&names.duplicates, PARTITIONS),
        (&names.aggregates, PARTITIONS),
        (&names.predictions, PARTITIONS),
    ] {
        broker.create(topic, partitions);
    }
    let mut cluster = Cluster::new(broker, seed);
    let factories: [Arc<dyn ProcessorFactory>; 4] = [
        Arc::new(PARTS.ingest[usize::from(!by_wall_clock(seed))].clone()),
        deployed.features(slot),
        Arc::new(PARTS.merge.clone()),
        scorer(slot),
    ];
    for (service, factory) in deployed.services().iter().zip(factories) {
        cluster.add_service(service, factory, Delivery::ExactlyOnce);
    }
    cluster
}

/// Whether ingest believes the wall clock in this run: one in three.
pub(crate) fn by_wall_clock(seed: u64) -> bool {
    seed.is_multiple_of(3)
}

/// Starts all workers.
pub(crate) fn start(cluster: &mut Cluster, deployed: Deployed) {
    for worker in 0..WORKERS {
        for service in deployed.services() {
            cluster.start(service, &format!("{service}-{worker}"));
        }
    }
}
