//! Records that are written together: all of them become visible, or none.

use std::time::Duration;

use rdkafka::error::KafkaError as Client;
use rdkafka::producer::Producer as _;

use super::sender::Sender;
use super::{KafkaError, Result, client};
use crate::config::Kafka;
use crate::processor::OutRecord;

/// How long the cluster is given for each step.
const PATIENCE: Duration = Duration::from_secs(20);

/// A producer of transactions under an id that it alone holds.
pub struct Together {
    sender: Sender,
    bootstrap: String,
}

impl Together {
    /// Takes the id: who held it before can write nothing more, and what he has committed is there.
    ///
    /// # Errors
    /// A cluster that does not answer, or does not let the id be held.
    pub fn open(kafka: &Kafka, id: &str) -> Result<Self> {
        let sender = Sender::of(&client::transactional(kafka, id), &kafka.bootstrap)?;
        let together = Self { sender, bootstrap: kafka.bootstrap.clone() };
        let begun = together.sender.producer.init_transactions(PATIENCE);
        begun.map_err(together.refused("begin to write in transactions"))?;
        Ok(together)
    }

    /// Writes records in one transaction, and lets the id go.
    ///
    /// # Errors
    /// Nothing was written, or (where the cluster went away while it was told to commit) it is not known: the
    /// topic tells.
    pub fn write(self, records: &[OutRecord]) -> Result<()> {
        let producer = &self.sender.producer;
        producer.begin_transaction().map_err(self.refused("begin a transaction"))?;
        let written = records.iter().try_for_each(|record| self.sender.send(record)).and_then(|()| {
            producer.commit_transaction(PATIENCE).map_err(self.refused("commit a transaction"))
        });
        if written.is_err()
            && let Err(error) = producer.abort_transaction(PATIENCE)
        {
            tracing::debug!(%error, "a transaction that failed could not be aborted, it will time out");
        }
        written
    }

    fn refused(&self, action: &'static str) -> impl FnOnce(Client) -> KafkaError {
        move |error| KafkaError::refused(action, &self.bootstrap, &error)
    }
}
