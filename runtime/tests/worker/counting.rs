//! Idle polls, and what is committed beside the offsets.

use std::sync::Arc;

use runtime::kafka::{Admin, Sender};
use runtime::processor::{
    Input, OutRecord, Outputs, Position, Positions, Processor, ProcessorFactory, StepError, TopicPartition,
    UnitId,
};
use runtime::shutdown::Shutdown;
use runtime::worker;

use crate::place::{PARTITIONS, Place};

/// Counts the drained polls in which all of its partitions were at their end.
struct Counting {
    output: Arc<str>,
    positions: Vec<Position>,
    drained: u64,
}

impl Processor for Counting {
    fn step(&mut self, input: Input<'_>, out: &mut Outputs) -> Result<(), StepError> {
        match input {
            Input::Assigned { positions, .. } => self.positions = positions.to_vec(),
            Input::Records { records, .. } => {
                for record in records {
                    let of = record.topic_partition();
                    let position = self.positions.iter_mut().find(|position| position.partition == of);
                    position.ok_or_else(|| StepError::new("not assigned"))?.offset = record.record.offset + 1;
                }
                self.drained = 0;
            }
            Input::Drained { at_end, .. } if at_end.len() == self.positions.len() => {
                self.drained += 1;
                if self.drained == 5 {
                    for position in &mut self.positions {
                        position.metadata = format!("idle at {}", position.offset);
                    }
                    let line = |position: &Position| OutRecord {
                        topic: Arc::clone(&self.output),
                        partition: Some(position.partition.partition),
                        key: None,
                        value: Some(position.metadata.clone().into()),
                        headers: Vec::new(),
                    };
                    out.records.extend(self.positions.iter().map(line));
                }
            }
            Input::Drained { .. } => {}
        }
        out.positions.clone_from(&self.positions);
        Ok(())
    }
}

struct CountingFactory {
    prefix: String,
}

impl ProcessorFactory for CountingFactory {
    fn inputs(&self) -> Vec<Arc<str>> {
        vec![format!("{}in", self.prefix).into()]
    }

    fn outputs(&self) -> Vec<Arc<str>> {
        vec![format!("{}out", self.prefix).into()]
    }

    fn unit(&self, _partition: &TopicPartition) -> UnitId {
        UnitId(0)
    }

    fn positions(&self) -> Positions {
        Positions::Reported
    }

    fn create(&self, _unit: UnitId, _snapshot: Option<&[u8]>) -> Result<Box<dyn Processor>, StepError> {
        let output = format!("{}out", self.prefix).into();
        Ok(Box::new(Counting { output, positions: Vec::new(), drained: 0 }))
    }
}

#[test]
fn idle_polls_at_the_end_are_counted_and_metadata_is_committed_beside_the_offsets() {
    let place = Place::new("idle");
    place.feed(&Sender::new(&place.kafka).unwrap(), 0..40);
    let shutdown = Shutdown::new();
    let (mut settings, stop) = (place.settings(), shutdown.clone());
    settings.service.workers = 1;
    let factory = Arc::new(CountingFactory { prefix: place.kafka.prefix.clone() });
    let worker = std::thread::spawn(move || worker::run("count", factory, &settings, stop));
    let found = place.read(PARTITIONS as usize);
    shutdown.set();
    worker.join().unwrap().unwrap();
    assert!(found.values().flatten().all(|line| line == "idle at 10"), "{found:?}");
    let group = format!("{}salience-count", place.kafka.prefix);
    let committed = Admin::new(&place.kafka).unwrap().committed(&group, &place.topic("in")).unwrap();
    assert_eq!(committed, vec![Some((10, "idle at 10".to_owned())); PARTITIONS as usize]);
}
