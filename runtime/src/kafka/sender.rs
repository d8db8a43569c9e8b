//! Plain producing: for the simulated market, replays, announcements, tools.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use rdkafka::ClientContext;
use rdkafka::config::ClientConfig;
use rdkafka::error::{KafkaError as Client, RDKafkaErrorCode as Code};
use rdkafka::message::Message as _;
use rdkafka::producer::{BaseRecord, DeliveryResult, Producer as _, ProducerContext, ThreadedProducer};

use super::client;
use super::{KafkaError, Result};
use crate::config::Kafka;
use crate::processor::OutRecord;

/// How long a full queue is given before it is tried again.
const FULL: Duration = Duration::from_millis(2);

/// An idempotent producer without transactions: each record arrives once, in order of sending
/// within a partition, as long as this process lives. Shared between threads by reference.
pub struct Sender {
    pub(super) producer: ThreadedProducer<Deliveries>,
    deliveries: Deliveries,
    bootstrap: String,
}

/// Keeps the first failure.
#[derive(Clone, Default)]
pub(super) struct Deliveries(Arc<Mutex<Option<(String, Client)>>>);

impl ClientContext for Deliveries {}

impl ProducerContext for Deliveries {
    type DeliveryOpaque = ();

    fn delivery(&self, result: &DeliveryResult<'_>, (): ()) {
        if let Err((error, message)) = result {
            let mut first = self.0.lock().unwrap_or_else(PoisonError::into_inner);
            first.get_or_insert_with(|| (message.topic().to_owned(), error.clone()));
        }
    }
}

impl Sender {
    /// A sender to the cluster that the configuration names. No broker is spoken to.
    ///
    /// # Errors
    /// [`KafkaError::Config`].
    pub fn new(kafka: &Kafka) -> Result<Self> {
        Self::of(&client::producer(kafka, "5"), &kafka.bootstrap)
    }

    /// A sender with these settings.
    pub(super) fn of(settings: &ClientConfig, bootstrap: &str) -> Result<Self> {
        let deliveries = Deliveries::default();
        let producer = settings
            .create_with_context(deliveries.clone())
            .map_err(|error| KafkaError::Config { what: error.to_string() })?;
        Ok(Self { producer, deliveries, bootstrap: bootstrap.to_owned() })
    }

    /// Hands a record over. Waits while the queue is full (back-pressure); does not wait for the
    /// broker: [`Sender::flush`] does.
    ///
    /// # Errors
    /// This record was refused, or one before it was not delivered.
    pub fn send(&self, record: &OutRecord) -> Result<()> {
        self.failure()?;
        loop {
            let mut message = BaseRecord::<[u8], [u8]>::to(&record.topic);
            if let Some(partition) = record.partition {
                message = message.partition(partition);
            }
            if let Some(key) = &record.key {
                message = message.key(key.as_ref());
            }
            if let Some(value) = &record.value {
                message = message.payload(value.as_ref());
            }
            if let Some(headers) = client::headers(record) {
                message = message.headers(headers);
            }
            match self.producer.send(message) {
                Ok(()) => return Ok(()),
                Err((Client::MessageProduction(Code::QueueFull), _)) => {
                    self.failure()?;
                    // Backpressure: the client's own thread drains the queue, and does not say when.
                    std::thread::sleep(FULL);
                }
                Err((source, _)) => {
                    return Err(KafkaError::Delivery {
                        topic: record.topic.to_string(),
                        source: Box::new(source),
                    });
                }
            }
        }
    }

    /// Waits until every record that was sent has been confirmed.
    ///
    /// # Errors
    /// A record was not delivered, or not in time.
    pub fn flush(&self, timeout: Duration) -> Result<()> {
        let flushed = self.producer.flush(timeout);
        self.failure()?;
        flushed.map_err(|error| KafkaError::refused("flush the sender", &self.bootstrap, &error))
    }

    /// Records handed over and not yet confirmed.
    pub fn in_flight(&self) -> usize {
        usize::try_from(self.producer.in_flight_count()).unwrap_or(0)
    }

    fn failure(&self) -> Result<()> {
        let mut first = self.deliveries.0.lock().unwrap_or_else(PoisonError::into_inner);
        match first.take() {
            Some((topic, source)) => Err(KafkaError::Delivery { topic, source: Box::new(source) }),
            None => Ok(()),
        }
    }
}
