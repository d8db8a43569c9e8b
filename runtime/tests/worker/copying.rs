//! A service that copies, and what it must have come to.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};

use runtime::processor::{
    Input, OutRecord, Outputs, Processor, ProcessorFactory, StepError, TopicPartition, UnitId,
};

use crate::place::PARTITIONS;

/// Copies, and numbers what it copies: a record folded twice or missed shows in all that follow.
struct Copying {
    output: Arc<str>,
    count: u64,
    seen: Arc<Mutex<Seen>>,
}

/// What the folds of this process have done.
#[derive(Default)]
pub(crate) struct Seen {
    /// How many were made.
    pub(crate) made: u64,
    /// Records folded of each partition, by the fold that has come farthest.
    pub(crate) folded: BTreeMap<i32, u64>,
}

impl Processor for Copying {
    fn step(&mut self, input: Input<'_>, out: &mut Outputs) -> Result<(), StepError> {
        let Input::Records { records, .. } = input else { return Ok(()) };
        for record in records {
            self.count += 1;
            let mut seen = self.seen.lock().unwrap();
            let folded = seen.folded.entry(record.record.partition).or_default();
            *folded = self.count.max(*folded);
            let value =
                String::from_utf8_lossy(record.record.value.as_deref().unwrap_or_default()).into_owned();
            out.records.push(OutRecord {
                topic: Arc::clone(&self.output),
                partition: Some(record.record.partition),
                key: record.record.key.clone(),
                value: Some(format!("{} {value}", self.count).into()),
                headers: vec![("offset".to_owned(), Some(record.record.offset.to_string().into()))],
            });
        }
        Ok(())
    }

    fn snapshot(&self) -> Option<Vec<u8>> {
        Some(self.count.to_le_bytes().to_vec())
    }
}

pub(crate) struct CopyingFactory {
    prefix: String,
    pub(crate) seen: Arc<Mutex<Seen>>,
}

impl CopyingFactory {
    pub(crate) fn new(prefix: &str) -> Self {
        Self { prefix: prefix.to_owned(), seen: Arc::default() }
    }
}

impl ProcessorFactory for CopyingFactory {
    fn inputs(&self) -> Vec<Arc<str>> {
        vec![format!("{}in", self.prefix).into()]
    }

    fn outputs(&self) -> Vec<Arc<str>> {
        vec![format!("{}out", self.prefix).into()]
    }

    fn unit(&self, partition: &TopicPartition) -> UnitId {
        UnitId(partition.partition as u32)
    }

    fn state_fingerprint(&self) -> Option<u64> {
        Some(1)
    }

    fn create(&self, _unit: UnitId, snapshot: Option<&[u8]>) -> Result<Box<dyn Processor>, StepError> {
        let count = match snapshot {
            Some(bytes) => u64::from_le_bytes(bytes.try_into().map_err(StepError::new)?),
            None => 0,
        };
        self.seen.lock().unwrap().made += 1;
        let (output, seen) = (format!("{}out", self.prefix).into(), Arc::clone(&self.seen));
        Ok(Box::new(Copying { output, count, seen }))
    }
}

/// The `n`-th record of a partition, numbered.
pub(crate) fn expected(partition: i32, per_partition: u64) -> Vec<String> {
    (0..per_partition).map(|n| format!("{} {}", n + 1, n * PARTITIONS as u64 + partition as u64)).collect()
}

pub(crate) fn check(found: &BTreeMap<i32, Vec<String>>, per_partition: u64) {
    for partition in 0..PARTITIONS {
        let expected = expected(partition, per_partition);
        let found = &found[&partition];
        let differs = expected.iter().zip(found).position(|(expected, found)| expected != found);
        assert_eq!((differs, found.len()), (None, expected.len()), "partition {partition}");
    }
}
