//! The service: looks at the schedule and at the champion pointer, trains when it is time, and
//! announces every champion on `models`. The only module here that knows Kafka.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use runtime::config::Kafka;
use runtime::kafka::Sender;
use runtime::processor::OutRecord;
use runtime::shutdown::Shutdown;
use schemas::topic::Names;
use schemas::{Codec, Json};

use crate::planner::{InForce, Planner};
use crate::registry::{Champion, Registry};
use crate::status::Status;
use crate::trainer::Trainer;
use crate::{Error, telemetry};

/// How long an announcement may take to be confirmed.
const FLUSH: Duration = Duration::from_secs(30);

/// Sends announcements.
#[derive(Clone)]
pub struct Announcer {
    sender: Arc<Sender>,
    topic: Arc<str>,
}

impl Announcer {
    /// To the cluster that the config names.
    ///
    /// # Errors
    /// A client that cannot be made.
    pub fn new(kafka: &Kafka, names: &Names) -> Result<Self, Error> {
        Ok(Self { sender: Arc::new(Sender::new(kafka)?), topic: Arc::clone(&names.models) })
    }

    /// Announces a champion and waits until the broker has it. Repeating it is harmless: the
    /// record is the same.
    ///
    /// # Errors
    /// The broker did not take it.
    pub async fn announce(&self, registry: &Registry, champion: &Champion) -> Result<(), Error> {
        let announcement = registry.announcement(champion);
        let record = OutRecord {
            topic: Arc::clone(&self.topic),
            partition: None,
            key: Some(Bytes::copy_from_slice(announcement.name.as_bytes())),
            value: Some(Json::to_vec(&announcement).into()),
            headers: Vec::new(),
        };
        let sender = Arc::clone(&self.sender);
        tokio::task::spawn_blocking(move || {
            sender.send(&record)?;
            sender.flush(FLUSH)
        })
        .await
        .map_err(|_| Error::Panicked)??;
        telemetry::announced(&champion.model_version, champion.sequence);
        Ok(())
    }
}

/// Runs a trainer until it is asked to stop, each time on the vectors whose schema is `in_force`.
///
/// # Errors
/// What no later try mends.
pub async fn run(
    trainer: Trainer,
    in_force: InForce,
    kafka: &Kafka,
    names: &Names,
    status: Status,
    shutdown: Shutdown,
) -> Result<(), Error> {
    let interval = trainer.config().poll_interval.as_duration();
    let announcer = Announcer::new(kafka, names)?;
    let registry = trainer.registry();
    let planner = Planner::new(trainer, in_force, status.clone())?;
    let mut service = Service { planner, registry, announcer, status, announced: None };
    while !shutdown.is_set() {
        match service.look(&shutdown).await {
            Ok(()) => {}
            Err(Error::Stopped) => break,
            Err(error) if error.is_transient() => telemetry::run_put_off(&error),
            Err(error) => return Err(error),
        }
        tokio::select! {
            () = shutdown.wait() => {}
            () = tokio::time::sleep(interval) => {}
        }
    }
    Ok(())
}

struct Service {
    planner: Planner,
    registry: Registry,
    announcer: Announcer,
    status: Status,
    /// The pointer last announced by this process. At the start none: whether the topic has it is
    /// not known, and saying it again is harmless.
    announced: Option<u64>,
}

impl Service {
    /// One look: announce, train if it is time and nobody else does, announce again.
    async fn look(&mut self, shutdown: &Shutdown) -> Result<(), Error> {
        self.announce().await?;
        match self.planner.look(shutdown).await? {
            Some(_) => self.announce().await,
            None => Ok(()),
        }
    }

    /// Announces the champion if this process has not yet: its own, or one that somebody promoted.
    async fn announce(&mut self) -> Result<(), Error> {
        let Some(champion) = self.registry.champion().await? else { return Ok(()) };
        if self.announced == Some(champion.sequence) {
            return Ok(());
        }
        self.announcer.announce(&self.registry, &champion).await?;
        self.announced = Some(champion.sequence);
        self.status.update(|s| s.champion = Some(champion.model_version.clone()));
        Ok(())
    }
}
