//! Two services in one loop: what the first puts out for the second is handed on at once, and both put their
//! outputs into the same transaction.
//!
//! A pure composition: the second's records are those that it would have read from the topic between the two,
//! which is written all the same. So the logs are those of the services apart, and what reads them cannot tell.
//! The second may have no state but what every one of its records brings along: the loop restores and replays
//! the first's alone.

use std::sync::Arc;

use crate::processor::{
    Image, InRecord, Input, OutRecord, Outputs, Positions, Processor, ProcessorFactory, StandIn, StepError,
    TopicPartition, TopicRecord, UnitId,
};

/// The offset of a record that is handed on before it is written: none yet.
pub const UNWRITTEN: i64 = -1;

/// Why two services cannot be chained.
#[derive(Debug, thiserror::Error)]
#[error("{second} cannot be chained behind {topic}: {what} (fatal)")]
pub struct NotChained {
    /// The second service.
    pub second: Arc<str>,
    /// The topic between the two.
    pub topic: Arc<str>,
    /// What stands in the way.
    pub what: &'static str,
}

/// Makes the processors of two services as one.
pub struct ChainFactory {
    first: Arc<dyn ProcessorFactory>,
    second: Arc<dyn ProcessorFactory>,
    stand_in: StandIn,
}

impl ChainFactory {
    /// The service `first` with `second`, for which it stands in, behind it.
    ///
    /// # Errors
    /// A second that reads anything else, or that has state; a first that does not write the topic between
    /// them, or that holds records back.
    pub fn new(
        first: Arc<dyn ProcessorFactory>,
        second: Arc<dyn ProcessorFactory>,
        stand_in: StandIn,
    ) -> Result<Self, NotChained> {
        let not = |what| NotChained {
            second: Arc::clone(&stand_in.service),
            topic: Arc::clone(&stand_in.topic),
            what,
        };
        if second.inputs() != [Arc::clone(&stand_in.topic)] {
            return Err(not("it does not read that topic alone"));
        }
        if !first.outputs().contains(&stand_in.topic) {
            return Err(not("the first does not write it"));
        }
        if second.state_fingerprint().is_some() || second.positions() != Positions::Implied {
            return Err(not("it has state, which no snapshot of the first would hold"));
        }
        if first.positions() != Positions::Implied {
            return Err(not("the first holds records back"));
        }
        Ok(Self { first, second, stand_in })
    }
}

impl ProcessorFactory for ChainFactory {
    fn inputs(&self) -> Vec<Arc<str>> {
        self.first.inputs()
    }

    fn outputs(&self) -> Vec<Arc<str>> {
        let mut outputs = self.first.outputs();
        outputs.extend(self.second.outputs());
        outputs
    }

    fn unit(&self, partition: &TopicPartition) -> UnitId {
        self.first.unit(partition)
    }

    fn state_fingerprint(&self) -> Option<u64> {
        self.first.state_fingerprint()
    }

    fn stands_in(&self) -> Option<&StandIn> {
        Some(&self.stand_in)
    }

    fn create(&self, unit: UnitId, snapshot: Option<&[u8]>) -> Result<Box<dyn Processor>, StepError> {
        Ok(Box::new(Chain {
            first: self.first.create(unit, snapshot)?,
            second: self.second.create(unit, None)?,
            topic: Arc::clone(&self.stand_in.topic),
            unit,
            unit_of: Arc::clone(&self.second),
        }))
    }
}

/// One unit of both.
struct Chain {
    first: Box<dyn Processor>,
    second: Box<dyn Processor>,
    /// The topic between the two.
    topic: Arc<str>,
    unit: UnitId,
    unit_of: Arc<dyn ProcessorFactory>,
}

impl Chain {
    /// The record as the second would read it.
    fn handed_on(&self, record: &OutRecord, now_ms: i64) -> Result<InRecord, StepError> {
        let refused = |what: &str| Err(StepError::new(format_args!("a record for {} {what}", self.topic)));
        let Some(partition) = record.partition else {
            return refused("names no partition, and so cannot be handed on");
        };
        let to = TopicPartition { topic: Arc::clone(&self.topic), partition };
        if self.unit_of.unit(&to) != self.unit {
            return refused(&format!("goes to partition {partition}, not to its own unit's {}", self.unit.0));
        }
        Ok(InRecord {
            topic: to.topic,
            record: TopicRecord {
                partition,
                offset: UNWRITTEN,
                timestamp_ms: now_ms,
                key: record.key.clone(),
                value: record.value.clone(),
                headers: record.headers.clone(),
            },
        })
    }
}

impl Processor for Chain {
    fn step(&mut self, input: Input<'_>, out: &mut Outputs) -> Result<(), StepError> {
        let (Input::Assigned { now_ms, .. } | Input::Records { now_ms, .. } | Input::Drained { now_ms, .. }) =
            input;
        let before = out.records.len();
        self.first.step(input, out)?;
        if out.rebuild {
            return Ok(());
        }
        let made = out.records[before..].iter().filter(|record| record.topic == self.topic);
        let handed = made.map(|record| self.handed_on(record, now_ms)).collect::<Result<Vec<_>, _>>()?;
        if handed.is_empty() {
            return Ok(());
        }
        self.second.step(Input::Records { records: &handed, now_ms }, out)
    }

    /// What the second would make has been committed.
    fn replay(&mut self, input: Input<'_>, out: &mut Outputs) -> Result<(), StepError> {
        self.first.replay(input, out)
    }

    fn snapshot(&self) -> Option<Vec<u8>> {
        self.first.snapshot()
    }

    fn image(&mut self) -> Option<&mut dyn Image> {
        self.first.image()
    }
}

#[cfg(test)]
mod tests;
