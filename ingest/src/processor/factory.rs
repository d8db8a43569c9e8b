//! What makes the processors of a process, and what they share. Knows no state.

use std::sync::Arc;

use bytes::Bytes;
use runtime::processor::{Positions, Processor, ProcessorFactory, StepError, TopicPartition, UnitId};
use schemas::topic::Names;
use schemas::{Codec, Control, Entry, Protobuf, Source, SourceSet};

use super::Ingest;
use crate::catalogue::SharedCatalogue;
use crate::decode::{Decoder, RawTopic};
use crate::pseudonym::{PseudonymKey, Pseudonymizer};
use crate::skew::SharedTold;
use crate::{Config, ConfigError};

/// How many partitions the raw topics have.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RawPartitions {
    /// Of `views`.
    pub views: i32,
    /// Of `clicks`.
    pub clicks: i32,
    /// Of `purchases`.
    pub purchases: i32,
}

impl RawPartitions {
    pub(super) const fn of(self, topic: RawTopic) -> i32 {
        match topic {
            RawTopic::Views => self.views,
            RawTopic::Clicks => self.clicks,
            RawTopic::Purchases => self.purchases,
        }
    }
}

/// Makes ingest's processors.
#[derive(Debug, Clone)]
pub struct Factory {
    shared: Arc<Shared>,
}

/// What all processors of a process share.
#[derive(Debug)]
pub(super) struct Shared {
    pub(super) config: Config,
    pub(super) names: Names,
    pub(super) decoder: Decoder,
    pub(super) catalogue: SharedCatalogue,
    pub(super) told: SharedTold,
    pub(super) raw_partitions: RawPartitions,
    pub(super) events_partitions: i32,
    /// The set of sources, encoded.
    pub(super) source_set: Bytes,
}

impl Shared {
    pub(super) fn name(&self, topic: RawTopic) -> &Arc<str> {
        match topic {
            RawTopic::Views => &self.names.views,
            RawTopic::Clicks => &self.names.clicks,
            RawTopic::Purchases => &self.names.purchases,
        }
    }
}

/// A factory over the raw topics of `names`, whose partition counts it is told, writing to
/// `events_partitions` partitions of `events`.
///
/// # Errors
/// A config that [`Config::check`] refuses, or a topic without partitions.
pub fn factory(
    config: &Config,
    names: Names,
    raw_partitions: RawPartitions,
    events_partitions: i32,
    key: &PseudonymKey,
    catalogue: SharedCatalogue,
) -> Result<Factory, ConfigError> {
    if events_partitions < 1 || RawTopic::ALL.iter().any(|topic| raw_partitions.of(*topic) < 1) {
        return Err(ConfigError::Range { key: "(topics)", what: "every topic must have a partition" });
    }
    let decoder = Decoder::new(config, Pseudonymizer::new(key))?;
    let mut shared = Shared {
        config: config.clone(),
        names,
        decoder,
        catalogue,
        told: SharedTold::default(),
        raw_partitions,
        events_partitions,
        source_set: Bytes::new(),
    };
    let mut sources: Vec<Source> = RawTopic::ALL
        .iter()
        .flat_map(|topic| {
            let name = shared.name(*topic);
            (0..raw_partitions.of(*topic)).map(|partition| Source { topic: name.to_string(), partition })
        })
        .collect();
    sources.sort();
    shared.source_set = Protobuf::to_vec(&Entry::Control(Control::Sources(SourceSet { sources }))).into();
    Ok(Factory { shared: Arc::new(shared) })
}

impl Factory {
    /// What its processors know of the sources of others: for the one that listens to fold into.
    pub fn told(&self) -> &SharedTold {
        &self.shared.told
    }
}

impl ProcessorFactory for Factory {
    fn inputs(&self) -> Vec<Arc<str>> {
        RawTopic::ALL.iter().map(|topic| Arc::clone(self.shared.name(*topic))).collect()
    }

    fn outputs(&self) -> Vec<Arc<str>> {
        let names = &self.shared.names;
        [&names.events, &names.late_events, &names.dead_letters].map(Arc::clone).into()
    }

    fn unit(&self, _: &TopicPartition) -> UnitId {
        UnitId(0)
    }

    fn positions(&self) -> Positions {
        Positions::Reported
    }

    fn create(&self, _: UnitId, _: Option<&[u8]>) -> Result<Box<dyn Processor>, StepError> {
        Ok(Box::new(Ingest::new(Arc::clone(&self.shared))))
    }
}
