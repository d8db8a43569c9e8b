//! The service: looks at the schedule and at the champion pointer, trains when it is time, and
//! announces every champion on `models`. The only module here that knows Kafka.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use runtime::config::Kafka;
use runtime::kafka::Sender;
use runtime::processor::OutRecord;
use runtime::shutdown::Shutdown;
use runtime::store::Store;
use schemas::topic::Names;
use schemas::{Codec, Json, VectorSchema};

use crate::config::Config;
use crate::registry::{Champion, Registry};
use crate::schedule::{Now, Schedule};
use crate::status::Status;
use crate::trainer::{Trainer, wall_clock_ms};
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

/// Runs the trainer until it is asked to stop.
///
/// # Errors
/// What no later try mends.
#[expect(
    clippy::too_many_arguments,
    reason = "each is one thing that the caller owns; a struct would only rename them"
)]
pub async fn run(
    config: Config,
    network: model::Config,
    schema: VectorSchema,
    store: Store,
    kafka: &Kafka,
    names: &Names,
    status: Status,
    shutdown: Shutdown,
) -> Result<(), Error> {
    let schedule = Schedule::new(&config.cron, config.min_new_labels)?;
    let interval = config.poll_interval.as_duration();
    let announcer = Announcer::new(kafka, names)?;
    let trainer = Trainer::new(config, network, schema, store)?;
    let mut service = Service::new(trainer, schedule, announcer, status).await?;
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
    trainer: Trainer,
    registry: Registry,
    schedule: Schedule,
    announcer: Announcer,
    status: Status,
    /// The pointer last announced by this process. At the start none: whether the topic has it is
    /// not known, and saying it again is harmless.
    announced: Option<u64>,
    since_ms: i64,
    labels_used: u64,
}

impl Service {
    async fn new(
        trainer: Trainer,
        schedule: Schedule,
        announcer: Announcer,
        status: Status,
    ) -> Result<Self, Error> {
        let registry = trainer.registry();
        // A restart is no reason to train: the last run counts, whoever ran it.
        let last = match registry.versions().await?.last() {
            Some(version) => Some(registry.run(version).await?),
            None => None,
        };
        Ok(Self {
            since_ms: last.as_ref().map_or_else(wall_clock_ms, |run| run.started_ms),
            labels_used: last.as_ref().map_or(0, |run| run.data.labels),
            trainer,
            registry,
            schedule,
            announcer,
            status,
            announced: None,
        })
    }

    /// One look: announce, train if it is time, announce again.
    async fn look(&mut self, shutdown: &Shutdown) -> Result<(), Error> {
        self.announce().await?;
        let Some(labels) = self.trainer.labels().await? else { return Ok(()) };
        let now_ms = wall_clock_ms();
        let due = Now { now_ms, since_ms: self.since_ms, labels, labels_used: self.labels_used };
        let Some(trigger) = self.schedule.due(due) else { return Ok(()) };
        // Whatever comes of it, the next run waits for its own time: a table with too little to
        // learn from is not read at every look.
        self.since_ms = now_ms;
        let ended = self.trainer.train(trigger, &self.status, shutdown).await;
        self.labels_used = match &ended {
            Ok(ended) => ended.run.data.labels,
            Err(Error::TooFew(_)) => labels,
            Err(_) => self.labels_used,
        };
        ended?;
        self.announce().await
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
