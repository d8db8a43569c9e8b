//! Offsets into a transaction, on a thread of their own.
//!
//! librdkafka does not keep to the time-out of this call: where the group's coordinator goes away in its
//! middle, it may wait for ever (confluentinc/librdkafka#5456, #5511). A worker that waited with it would keep
//! its partitions and do nothing, so it waits so long and no longer, and is then built anew.

use std::sync::Arc;
use std::sync::mpsc::{Receiver, Sender, channel};
use std::thread::JoinHandle;
use std::time::Duration;

use rdkafka::consumer::ConsumerGroupMetadata;
use rdkafka::error::KafkaResult;
use rdkafka::producer::Producer as _;
use rdkafka::topic_partition_list::TopicPartitionList;

use super::clients::LoopProducer;

/// What the call may take beyond its own time-out.
const GRACE: Duration = Duration::from_secs(2);

type Asked = (TopicPartitionList, ConsumerGroupMetadata, Duration);

/// The thread. One that is stuck outlives this, and the producer with it, until the call returns.
pub(super) struct Settler {
    ask: Option<Sender<Asked>>,
    answers: Receiver<KafkaResult<()>>,
    /// None where it is stuck.
    thread: Option<JoinHandle<()>>,
}

impl Settler {
    pub(super) fn start(name: &str, producer: Arc<LoopProducer>) -> std::io::Result<Self> {
        let (ask, asked) = channel::<Asked>();
        let (answer, answers) = channel();
        let settle = move || {
            for (offsets, group, patience) in asked {
                let done = producer.send_offsets_to_transaction(&offsets, &group, patience);
                if answer.send(done).is_err() {
                    return;
                }
            }
        };
        let thread = std::thread::Builder::new().name(format!("{name}-offsets")).spawn(settle)?;
        Ok(Self { ask: Some(ask), answers, thread: Some(thread) })
    }

    /// Adds offsets to the transaction; `false` if there is no answer, and the producer is of no more use.
    pub(super) fn settle(
        &mut self,
        offsets: TopicPartitionList,
        group: ConsumerGroupMetadata,
        patience: Duration,
    ) -> KafkaResult<bool> {
        let asked = self.ask.as_ref().is_some_and(|ask| ask.send((offsets, group, patience)).is_ok());
        match self.answers.recv_timeout(patience + GRACE) {
            Ok(done) if asked => done.map(|()| true),
            _ => {
                self.thread = None;
                Ok(false)
            }
        }
    }
}

impl Drop for Settler {
    fn drop(&mut self) {
        self.ask = None;
        if let Some(thread) = self.thread.take()
            && thread.join().is_err()
        {
            tracing::error!("the thread that adds offsets to transactions panicked");
        }
    }
}
