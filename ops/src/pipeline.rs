//! The services, each a part under one shutdown.

use std::sync::Arc;
use std::thread::{self, JoinHandle};

use anyhow::{Result, bail};
use runtime::shutdown::Shutdown;

use crate::context::Context;
use crate::{chain, declared, tables, train};

/// At the end of an error that may pass.
const RETRY: &str = "(retry)";

/// A service.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Service {
    /// Raw records to canonical events.
    Ingest,
    /// Events to vectors and labels.
    Features,
    /// Tiles of shared entities to versions of their windows.
    Merge,
    /// Vectors to predictions.
    Scorer,
    /// Topics to tables.
    Lake,
    /// Tables to models.
    Trainer,
}

impl Service {
    /// All of them, in the order of the flow.
    pub const ALL: [Self; 6] =
        [Self::Ingest, Self::Features, Self::Merge, Self::Scorer, Self::Lake, Self::Trainer];

    /// Its name: subcommand, consumer group, metric label.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Ingest => "ingest",
            Self::Features => "features",
            Self::Merge => "merge",
            Self::Scorer => "scorer",
            Self::Lake => "lake",
            Self::Trainer => "trainer",
        }
    }
}

/// What running services let others see.
#[derive(Debug, Clone)]
pub struct Views {
    /// How far the tables have come.
    pub lake: lake::Status,
    /// What the trainer has done.
    pub trainer: trainer::Status,
}

/// Services running in this process.
pub struct Pipeline {
    threads: Vec<JoinHandle<()>>,
    shutdown: Shutdown,
    /// What they let others see.
    pub views: Views,
}

impl Pipeline {
    /// Starts services. A service that fails stops the others and sets the exit code.
    ///
    /// # Errors
    /// A thread that cannot be started.
    pub fn start(context: &Arc<Context>, services: &[Service], shutdown: &Shutdown) -> Result<Self> {
        let views = Views { lake: lake::Status::default(), trainer: trainer::Status::default() };
        let mut threads = Vec::new();
        let chained = context.config.run.chain && services.contains(&Service::Features);
        for service in services.iter().filter(|service| !(chained && **service == Service::Scorer)) {
            let (service, context, shutdown) = (*service, Arc::clone(context), shutdown.clone());
            let views = views.clone();
            let guard = shutdown.guard(service.name());
            let thread =
                thread::Builder::new().name(format!("salience-{}", service.name())).spawn(move || {
                    let told = shutdown.clone();
                    let result =
                        run(service, &context, &views, shutdown).map_err(|error| format!("{error:#}"));
                    guard.finish(result.or_else(|error| stopped_early(&told, service, error)));
                })?;
            threads.push(thread);
        }
        Ok(Self { threads, shutdown: shutdown.clone(), views })
    }

    /// Waits for the services to end.
    ///
    /// # Errors
    /// The first failure of any.
    pub fn join(self) -> Result<()> {
        for thread in self.threads {
            // A panic has been reported by its guard.
            let _reported = thread.join();
        }
        match self.shutdown.failure() {
            Some(failure) => bail!("{failure}"),
            None => Ok(()),
        }
    }
}

/// A service that is told to stop while it waits for a cluster or a store that is away has nothing more to do: that
/// is no failure. Errors say at their end whether trying again may help.
fn stopped_early(told: &Shutdown, service: Service, error: String) -> Result<(), String> {
    if !told.is_set() || !error.ends_with(RETRY) {
        return Err(error);
    }
    tracing::warn!(service = service.name(), error, "stopped before it could go on");
    Ok(())
}

fn run(service: Service, context: &Arc<Context>, views: &Views, shutdown: Shutdown) -> Result<()> {
    let config = &context.config;
    let settings = context.settings();
    match service {
        Service::Ingest => ingest::run(&config.ingest, &context.pseudonym_key()?, &settings, shutdown)?,
        Service::Features => {
            declared::begin(context)?;
            if config.run.chain {
                chain::run(context, shutdown)?;
            } else {
                runtime::worker::run("features", context.spilling_features()?, &settings, shutdown)?;
            }
        }
        Service::Merge => {
            // Its topic has one partition: one worker reads it, those of other instances stand by.
            let mut settings = settings;
            settings.service.workers = 1;
            declared::begin(context)?;
            runtime::worker::run("merge", context.merge()?, &settings, shutdown)?;
        }
        Service::Scorer if config.run.chain => bail!(
            "run.chain is set: features score their vectors themselves. To run the scorer by itself (until it has \
             read what there is, say), set run.chain = false"
        ),
        Service::Scorer => scorer::run(
            &config.scorer,
            declared::lookup(context),
            &context.names,
            &settings,
            scorer::Slot::new(),
            shutdown,
        )?,
        Service::Lake => lake::run(
            tables::specs(context),
            &config.kafka,
            &context.store,
            &config.lake,
            &views.lake,
            &shutdown,
        )?,
        Service::Trainer => context.tokio.block_on(trainer::run(
            train::trainer(context)?,
            declared::schema_in_force(context),
            &config.kafka,
            &context.names,
            views.trainer.clone(),
            shutdown,
        ))?,
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_may_pass_is_no_failure_and_only_of_a_service_that_is_told_to_stop() {
        let shutdown = Shutdown::new();
        let of = |error: &str| stopped_early(&shutdown, Service::Ingest, error.to_owned()).is_ok();
        let (passes, fatal) = ("the broker does not answer (retry)", "no such topic (fatal)");
        assert!(!of(passes) && !of(fatal));
        shutdown.set();
        assert!(of(passes) && !of(fatal));
    }
}
