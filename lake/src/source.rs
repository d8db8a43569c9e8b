//! Where records come from: a reader of assigned partitions without a group. The table itself
//! holds the position.

use std::time::Duration;

use runtime::kafka::Reader;
use runtime::processor::{InRecord, TopicPartition};

/// What went wrong in a source.
pub type SourceError = Box<dyn std::error::Error + Send + Sync>;

/// What is read of one topic. `runtime`'s reader is one; tests have their own.
pub trait Source {
    /// First offset that the topic still has and the end of what is committed, per partition;
    /// `None` while there is no such topic.
    fn ranges(&mut self, topic: &str) -> Result<Option<Vec<(i64, i64)>>, SourceError>;

    /// Reads these partitions from these offsets, and no others.
    fn assign(&mut self, starts: &[(TopicPartition, i64)]) -> Result<(), SourceError>;

    /// The next committed records, at most `max`, each partition's in order; empty when `timeout`
    /// has passed.
    fn poll(&mut self, max: usize, timeout: Duration) -> Result<Vec<InRecord>, SourceError>;

    /// Per assigned partition, the offset before which everything was given out by `poll`. It
    /// passes what `poll` never gives out: aborted records and the marks of transactions.
    fn passed(&self) -> Vec<(TopicPartition, i64)>;
}

impl Source for Reader {
    fn ranges(&mut self, topic: &str) -> Result<Option<Vec<(i64, i64)>>, SourceError> {
        if self.partitions(topic)?.is_none() {
            return Ok(None);
        }
        let begins = self.begin_offsets(topic)?;
        Ok(Some(begins.into_iter().zip(self.end_offsets(topic)?).collect()))
    }

    fn assign(&mut self, starts: &[(TopicPartition, i64)]) -> Result<(), SourceError> {
        Ok(Reader::assign(self, starts)?)
    }

    fn poll(&mut self, max: usize, timeout: Duration) -> Result<Vec<InRecord>, SourceError> {
        Ok(Reader::poll(self, max, timeout)?)
    }

    fn passed(&self) -> Vec<(TopicPartition, i64)> {
        self.fetched()
    }
}
