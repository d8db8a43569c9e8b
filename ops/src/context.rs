//! What every command works with: the configuration, the cluster, the store.

use std::sync::Arc;

use anyhow::{Context as _, Result};
use ingest::PseudonymKey;
use runtime::config::Delivery;
use runtime::kafka::{Admin, Isolation, Reader};
use runtime::processor::ProcessorFactory;
use runtime::store::Store;
use schemas::VectorSchema;
use schemas::topic::Names;

use crate::config::Config;

/// A configuration with its clients open.
pub struct Context {
    /// The configuration.
    pub config: Config,
    /// Topics, with prefix.
    pub names: Names,
    /// The object store.
    pub store: Store,
    /// Topics, offsets, groups.
    pub admin: Admin,
    /// What the numbers of a vector are.
    pub vector_schema: VectorSchema,
    key: Option<Vec<u8>>,
    /// For what waits: object store, schedules.
    pub tokio: tokio::runtime::Runtime,
}

impl Context {
    /// Opens clients for a configuration.
    ///
    /// # Errors
    /// Declarations that make no sense, a store or cluster that cannot be reached.
    pub fn open(config: Config) -> Result<Self> {
        let names = Names::new(&config.kafka.prefix);
        let store = Store::from_config(&config.storage).context("storage.root")?;
        let admin = Admin::new(&config.kafka)?;
        let vector_schema = features::Plan::compile(&config.features)?.vector_schema();
        let tokio = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(2)
            .thread_name("salience-async")
            .enable_all()
            .build()?;
        Ok(Self { config, names, store, admin, vector_schema, key: None, tokio })
    }

    /// With a key of pseudonyms that is used where none is configured: for data of nobody (a
    /// simulated market), or that leaves this machine by no way but the tables.
    #[must_use]
    pub fn with_fallback_key(mut self, secret: Vec<u8>) -> Self {
        if PseudonymKey::load(&self.config.ingest).is_err() {
            self.key = Some(secret);
        }
        self
    }

    /// The consumer group of a service.
    pub fn group(&self, service: &str) -> String {
        runtime::worker::group_id(&self.config.kafka, service)
    }

    /// A reader of committed records.
    ///
    /// # Errors
    /// A client that cannot be made.
    pub fn reader(&self) -> Result<Reader> {
        Ok(Reader::new(&self.config.kafka, Isolation::ReadCommitted)?)
    }

    /// Whether repeats are allowed.
    pub fn at_least_once(&self) -> bool {
        self.config.service.delivery == Delivery::AtLeastOnce
    }

    /// The cores of features.
    ///
    /// # Errors
    /// Declarations that make no sense.
    pub fn features(&self) -> Result<Arc<dyn ProcessorFactory>> {
        Ok(Arc::new(features::factory(&self.config.features, &self.names)?))
    }

    /// The registry of models.
    pub fn registry(&self) -> trainer::Registry {
        trainer::Registry::new(self.store.clone(), &self.config.trainer.model)
    }

    /// What the loop needs of the configuration.
    pub fn settings(&self) -> runtime::worker::Settings {
        runtime::worker::Settings {
            kafka: self.config.kafka.clone(),
            service: self.config.service.clone(),
            store: self.store.clone(),
        }
    }

    /// The key of pseudonyms: the one given at opening, or the configured one.
    ///
    /// # Errors
    /// No key, or one that is too short.
    pub fn pseudonym_key(&self) -> Result<PseudonymKey> {
        match &self.key {
            Some(secret) => Ok(PseudonymKey::new(&self.config.ingest.pseudonym_key_id, secret.clone())?),
            None => Ok(PseudonymKey::load(&self.config.ingest)?),
        }
    }
}
