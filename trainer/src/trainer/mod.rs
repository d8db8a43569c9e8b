//! One run, from the pins to the registry: fit, judge, save, publish. Knows no schedule and no
//! Kafka.

mod looking;
mod retrain;

use std::collections::BTreeMap;
use std::time::{Instant, SystemTime, UNIX_EPOCH};

use bytes::Bytes;
use model::{Artefact, Model};
use runtime::shutdown::Shutdown;
use runtime::store::Store;
use schemas::VectorSchema;
use tokio::runtime::Handle;

use crate::config::Config;
use crate::dataset;
use crate::fit::Plan;
use crate::judging::{Models, judge};
use crate::registry::{Champion, Registry};
use crate::run::{Parent, Run};
use crate::rundir::pending::{Begun, Pending, Saved};
use crate::rundir::watching::Watching;
use crate::rundir::{REVISION, config_toml};
use crate::schedule::{Due, Mode, Trigger};
use crate::status::{Phase, Status};
use crate::tensorboard::Events;
use crate::turn::Turn;
use crate::{Error, report, telemetry, tensorboard};

pub use retrain::{Retrained, retrain};

/// Trains models of one name.
#[derive(Debug, Clone)]
pub struct Trainer {
    config: Config,
    network: model::Config,
    schema: VectorSchema,
    store: Store,
}

/// What came of a run.
#[derive(Debug, Clone, PartialEq)]
pub struct Ended {
    /// What was recorded.
    pub run: Run,
    /// The new champion, if it was published.
    pub published: Option<Champion>,
}

impl Trainer {
    /// A trainer whose tables and registry are in `store`.
    ///
    /// # Errors
    /// Settings that contradict themselves.
    pub fn new(
        config: Config,
        network: model::Config,
        schema: VectorSchema,
        store: Store,
    ) -> Result<Self, Error> {
        config.check()?;
        network.validate().map_err(|error| Error::Config { key: "model".into(), what: error.to_string() })?;
        Ok(Self { config, network, schema, store })
    }

    /// The same, reading vectors of this schema.
    pub(crate) fn reading(&self, schema: VectorSchema) -> Self {
        Self { schema, ..self.clone() }
    }

    /// Its settings.
    pub const fn config(&self) -> &Config {
        &self.config
    }

    /// Its registry.
    pub fn registry(&self) -> Registry {
        Registry::new(self.store.clone(), &*self.config.model)
    }

    /// The label records in the lake now; `None` before there is a table.
    pub async fn labels(&self) -> Result<Option<u64>, Error> {
        match dataset::pin(self.store.root_url()).await {
            Ok((_, records)) => Ok(Some(records)),
            Err(Error::NoTable { .. }) => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// Trains once on all examples, judges, saves a version, and publishes it if the gate says so.
    ///
    /// # Errors
    /// Too few examples yet (see [`Error::is_transient`]), [`Error::Busy`] while another trains,
    /// what the lake or the store says, [`Error::Stopped`].
    pub async fn train(&self, trigger: Trigger, status: &Status, stop: &Shutdown) -> Result<Ended, Error> {
        let turn = self.take_turn(stop).await?;
        let ended = self.train_due(&Due::full(trigger), &turn, status).await;
        turn.end().await;
        ended
    }

    /// Goes on with the run that was stopped or killed, from its last checkpoint, to the weights that
    /// it would have come to; its tables, settings and parent are those that it began with.
    ///
    /// # Errors
    /// [`Error::NothingToResume`] if none is unfinished; else as [`Self::train`].
    pub async fn resume(&self, status: &Status, stop: &Shutdown) -> Result<Ended, Error> {
        let turn = self.take_turn(stop).await?;
        let ended = self.watched(None, &turn, status).await;
        turn.end().await;
        ended
    }

    /// Becomes the one that trains; ends when `stop` is set or the lease is lost.
    pub(crate) async fn take_turn(&self, stop: &Shutdown) -> Result<Turn, Error> {
        Turn::take(self.registry().leases(self.config.lease.0), stop).await
    }

    /// The run that is due, by the one whose turn it is.
    pub(crate) async fn train_due(&self, due: &Due, turn: &Turn, status: &Status) -> Result<Ended, Error> {
        self.watched(Some(due), turn, status).await
    }

    /// A run that is due, or the unfinished one.
    async fn watched(&self, due: Option<&Due>, turn: &Turn, status: &Status) -> Result<Ended, Error> {
        let started_ms = wall_clock_ms();
        let started = stopwatch();
        status.update(|s| {
            s.phase = Phase::Reading;
            s.validation_losses.clear();
            s.progress = None;
        });
        let result = match Box::pin(self.train_inner(due, started_ms, started, status, turn)).await {
            Err(Error::Stopped) if turn.lost() => Err(Error::LeaseLost { name: self.config.model.clone() }),
            other => other,
        };
        status.update(|s| {
            s.phase = Phase::Waiting;
            match &result {
                Ok(ended) => {
                    s.runs += 1;
                    s.last_failure = None;
                    s.last_version = Some(ended.run.model_version.clone());
                    s.last_decision = Some(ended.run.gate.clone());
                    if let Some(champion) = &ended.published {
                        s.published += 1;
                        s.champion = Some(champion.model_version.clone());
                    }
                }
                Err(error) => s.last_failure = Some(error.to_string()),
            }
        });
        result
    }

    async fn train_inner(
        &self,
        due: Option<&Due>,
        started_ms: i64,
        started: Instant,
        status: &Status,
        turn: &Turn,
    ) -> Result<Ended, Error> {
        let registry = self.registry();
        let champion = registry.champion().await?;
        let champion_run = match &champion {
            Some(champion) => Some(registry.run(&champion.model_version).await?),
            None => None,
        };
        let champion_model = match &champion {
            Some(champion) => Some(load(&registry, &champion.model_version, &champion.checksum).await?),
            None => None,
        };
        let pinned = champion.as_ref().map(|champion| Parent {
            model_version: champion.model_version.clone(),
            checksum: champion.checksum.clone(),
        });
        let pending = Pending::new(self.store.clone(), &self.config.model);
        let (begun, saved) = if let Some(due) = due {
            let (tables, labels) = dataset::pin(self.store.root_url()).await?;
            let mut due = due.clone();
            due.mode = self.mode(due.mode, champion_model.as_ref());
            telemetry::run_started(&due, labels);
            let plan = Plan {
                tables,
                config: self.config.clone(),
                network: self.network_for(due.mode),
                schema: self.schema.clone(),
                parent: pinned.clone().filter(|_| self.config.warm_start || due.mode == Mode::Incremental),
                mode: due.mode,
                judged_after_ms: champion_run.as_ref().map(|run| run.boundaries.validation_until_ms),
            };
            let begun = Begun { due, plan, started_ms };
            pending.begin(&begun).await?;
            (begun, None)
        } else {
            let begun = pending.begun().await?;
            telemetry::run_started(&begun.due, 0);
            (begun, pending.saved().await?)
        };
        let Begun { due, plan, started_ms } = begun;
        // A run that is gone on with may have begun from what is no longer the champion.
        let other_parent = match &plan.parent {
            Some(parent) if pinned.as_ref() != Some(parent) => {
                Some(load(&registry, &parent.model_version, &parent.checksum).await?)
            }
            _ => None,
        };
        let (checkpoint, events) = match saved {
            Some(Saved { checkpoint, events }) => {
                let events = Events::resume(&events, checkpoint.done(), started_ms);
                (Some(checkpoint), events)
            }
            None => (None, Events::new(started_ms)),
        };
        let every_ms = self.config.checkpoint_interval.0;
        let mut watch = Watching::new(status.clone(), events, pending.clone(), &Handle::current(), every_ms);

        let root = self.store.root_url().to_owned();
        let (thread_plan, thread_stop) = (plan.clone(), turn.stop().clone());
        let work = move |handle: &Handle| {
            let parent = other_parent.as_ref().or(champion_model.as_ref());
            let parent = parent.filter(|_| thread_plan.parent.is_some());
            let models = Models { champion: champion_model.as_ref(), parent };
            judge(&root, &thread_plan, models, checkpoint, handle, &mut watch, &thread_stop)
        };
        let judged = on_own_thread(work).await?;

        turn.check().await?;
        let claim = registry.claim(&format!("trainer, {}", due.trigger().as_str())).await?;
        let run = Run {
            version: Run::VERSION,
            model: self.config.model.clone(),
            model_version: claim.version().to_owned(),
            code_version: Run::current_code_version(),
            git_revision: REVISION.map(ToOwned::to_owned),
            kernel: judged.kernel,
            trigger: due.trigger(),
            due: Some(due),
            started_ms,
            finished_ms: wall_clock_ms(),
            fingerprint: format!("{:016x}", plan.schema.fingerprint()),
            config: plan.config,
            network: plan.network,
            schema: plan.schema,
            tables: plan.tables,
            parent: judged.parent,
            champion: pinned,
            judged_after_ms: plan.judged_after_ms,
            data: judged.data,
            ids: judged.ids,
            boundaries: judged.boundaries,
            parts: judged.parts,
            history: judged.history,
            metrics: judged.metrics,
            champion_metrics: judged.champion_metrics,
            less_champion: judged.less_champion,
            gate: judged.decision,
            reliability: judged.reliability,
            curves: judged.curves,
            drift_reference: Some(judged.drift_reference),
            explanation: judged.explanation,
            importance: judged.importance,
            checksum: judged.artefact.checksum(),
            weights_checksum: judged.weights_checksum,
        };
        let files: Vec<(String, Bytes)> = Artefact::FILES
            .iter()
            .filter_map(|name| Some(((*name).to_owned(), judged.artefact.files().get(*name)?.clone())))
            .collect();
        registry.attach(&claim, "report.html", report::of_run(&run, &judged.drawn).into()).await?;
        let settings = config_toml(&run.config, &run.network)?;
        registry.attach(&claim, "config.toml", settings.into()).await?;
        registry.attach(&claim, &tensorboard::file_name(started_ms), judged.events.into()).await?;
        turn.check().await?;
        registry.save(&claim, &files, &run).await?;
        pending.end().await?;
        let published = if run.gate.publish {
            match registry
                .promote(champion.as_ref(), &run.model_version, &run.gate.reason, wall_clock_ms())
                .await
            {
                Ok(champion) => Some(champion),
                // Judged against what is no longer the champion: the next run will be against the
                // new one.
                Err(error @ Error::Raced { .. }) => {
                    telemetry::run_put_off(&error);
                    None
                }
                Err(error) => return Err(error),
            }
        } else {
            None
        };
        telemetry::run_ended(&run, started.elapsed().as_secs_f64());
        telemetry::pruned(&registry.prune(self.config.keep_versions).await?);
        Ok(Ended { run, published })
    }

    /// What a run can learn from: the latest hours only if there is something to learn on from.
    fn mode(&self, wanted: Mode, champion: Option<&Model>) -> Mode {
        let why = match champion {
            _ if wanted == Mode::Full => return wanted,
            None => "there is no champion",
            Some(champion) if champion.schema_fingerprint() != self.schema.fingerprint() => {
                "the champion reads other vectors"
            }
            Some(champion) if champion.config().network != self.network.network => {
                "the champion has another network"
            }
            Some(_) => return wanted,
        };
        telemetry::not_incremental(why);
        Mode::Full
    }

    /// `[model]`, with the learning rates and passes of an incremental run.
    fn network_for(&self, mode: Mode) -> model::Config {
        let mut network = self.network.clone();
        if mode == Mode::Incremental {
            let share = self.config.incremental.learning_rate as f32;
            network.training.learning_rate *= share;
            network.training.embedding_learning_rate *= share;
            network.training.max_epochs = self.config.incremental.epochs;
        }
        network
    }
}

pub(crate) fn broken(error: impl std::fmt::Display) -> Error {
    Error::Model(error.to_string())
}

/// A version's model, whole and with the checksum that it should have.
pub(crate) async fn load(registry: &Registry, version: &str, checksum: &str) -> Result<Model, Error> {
    let files: BTreeMap<String, Bytes> = registry.artefact(version).await?.into_iter().collect();
    Model::load(&Artefact::from_files(files), Some(checksum))
        .map_err(|error| Error::Model(format!("{version}: {error}")))
}

/// Runs `work` on a thread that may block, for as long as it takes.
async fn on_own_thread<T: Send + 'static>(
    work: impl FnOnce(&Handle) -> Result<T, Error> + Send + 'static,
) -> Result<T, Error> {
    let handle = Handle::current();
    tokio::task::spawn_blocking(move || work(&handle)).await.map_err(|_| Error::Panicked)?
}

#[expect(clippy::disallowed_methods, reason = "a record of when; no output follows from it")]
pub(crate) fn wall_clock_ms() -> i64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_millis() as i64)
}

#[expect(clippy::disallowed_methods, reason = "telemetry: how long a run took; when to write a checkpoint")]
pub(crate) fn stopwatch() -> Instant {
    Instant::now()
}
