//! Workers: threads that drive the loop against a cluster.
//!
//! Each owns a consumer and a producer and shares nothing with the others but the object store and
//! the flag that stops them. Knows no processor's meaning.

mod clients;
mod closing;
mod deputy;
mod errors;
mod execute;
mod input;
mod leave;
mod measure;
mod members;
mod placement;
mod saver;
mod seat;
mod settle;
mod standby;
mod thread;
mod topics;
mod transaction;

pub use deputy::is_stood_in;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use crate::config::{Kafka, Service};
use crate::core::CoreError;
use crate::kafka::KafkaError;
use crate::processor::ProcessorFactory;
use crate::shutdown::Shutdown;
use crate::store::Store;

/// What a worker stands on.
#[derive(Debug, Clone)]
pub struct Settings {
    /// The cluster.
    pub kafka: Kafka,
    /// The loop.
    pub service: Service,
    /// Where snapshots and partition counts are kept.
    pub store: Store,
}

/// Why a service stopped.
#[derive(Debug, thiserror::Error)]
pub enum WorkerError {
    /// The loop cannot go on.
    #[error("{service}: {source}")]
    Loop {
        /// Which service.
        service: String,
        /// Why.
        source: CoreError,
    },
    /// A client could not be made: a property that librdkafka does not take, most likely.
    #[error("{service}: cannot make a Kafka client: {source} (fatal; see kafka.properties)")]
    Client {
        /// Which service.
        service: String,
        /// What librdkafka said.
        source: Box<rdkafka::error::KafkaError>,
    },
    /// A topic is not there, or not as it was made.
    #[error("{service}: {source}")]
    Topics {
        /// Which service.
        service: String,
        /// What is wrong.
        source: Box<KafkaError>,
    },
    /// A record that no retry can produce.
    #[error("{service}: cannot produce to {topic}: {source} (fatal; restarting will meet it again)")]
    Produce {
        /// Which service.
        service: String,
        /// Which topic.
        topic: String,
        /// What librdkafka said.
        source: Box<rdkafka::error::KafkaError>,
    },
    /// A thread could not be started, or panicked.
    #[error("{service}: a worker thread {what} (fatal)")]
    Thread {
        /// Which service.
        service: String,
        /// What happened.
        what: String,
    },
}

/// The consumer group of a service: whose committed offsets say how far it has come.
pub fn group_id(kafka: &Kafka, service: &str) -> String {
    format!("{}salience-{service}", kafka.prefix)
}

/// Runs a service's workers until `shutdown` is set or one of them fails; blocks. The group is
/// `{prefix}salience-{name}`; members and transactional ids are named after the instance and the
/// worker's number, so that a restarted worker takes the place of its predecessor.
///
/// On `shutdown`, what has been read is committed, state is saved, and the group is left as it is
/// for the next start; on [`Shutdown::drain`] the members leave it, so that others take over at once.
///
/// # Errors
/// The first worker's failure; the others have been stopped.
#[expect(clippy::needless_pass_by_value, reason = "callers hand the service over")]
pub fn run(
    name: &str,
    factory: Arc<dyn ProcessorFactory>,
    settings: &Settings,
    shutdown: Shutdown,
) -> Result<(), WorkerError> {
    topics::check(name, factory.as_ref(), settings, &shutdown)?;
    let stop = Arc::new(Stop { shutdown, failed: AtomicBool::new(false) });
    let failed = |error: std::io::Error| {
        stop_all(&stop);
        WorkerError::Thread { service: name.to_owned(), what: error.to_string() }
    };
    let (standbys, keeper) = standby::start(name, &factory, settings, &stop).map_err(&failed)?.unzip();
    let threads: Result<Vec<_>, WorkerError> = (0..settings.service.workers.max(1))
        .map(|number| {
            let worker = seat::Seat {
                service: name.to_owned(),
                number,
                factory: Arc::clone(&factory),
                settings: settings.clone(),
                stop: Arc::clone(&stop),
                standbys: standbys.clone(),
            };
            let thread = std::thread::Builder::new().name(format!("{name}-{number}"));
            thread.spawn(move || worker.work()).map_err(&failed)
        })
        .collect();
    let mut first = Ok(());
    for thread in threads? {
        let result = thread.join().unwrap_or_else(|_| {
            stop_all(&stop);
            Err(WorkerError::Thread { service: name.to_owned(), what: "panicked".to_owned() })
        });
        if let Err(error) = result {
            tracing::error!(service = name, %error, "a worker failed");
            if first.is_ok() {
                first = Err(error);
            }
        }
    }
    if let Some(keeper) = keeper
        && keeper.join().is_err()
    {
        tracing::error!(service = name, "the thread that keeps standbys panicked");
    }
    first
}

/// What stops the workers of one service: everything stopping, or one of them failing.
#[derive(Debug)]
struct Stop {
    shutdown: Shutdown,
    failed: AtomicBool,
}

impl Stop {
    fn is_set(&self) -> bool {
        self.failed.load(Ordering::SeqCst) || self.shutdown.is_set()
    }
}

fn stop_all(stop: &Stop) {
    stop.failed.store(true, Ordering::SeqCst);
}
