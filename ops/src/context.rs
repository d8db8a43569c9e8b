//! What every command works with: the configuration, the cluster, the store.

use std::ops::{Deref, DerefMut};
use std::sync::{Arc, Mutex, PoisonError};

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
    /// What the numbers of a vector are that the configuration declares.
    pub vector_schema: VectorSchema,
    key: Option<Vec<u8>>,
    readers: Mutex<Vec<Reader>>,
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
        Ok(Self { config, names, store, admin, vector_schema, key: None, readers: Mutex::default(), tokio })
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

    /// A reader of committed records, assigned nothing: one that was used before, where there is
    /// one, since a new client takes about half a second until its first record.
    ///
    /// # Errors
    /// A client that cannot be made.
    pub fn reader(&self) -> Result<PooledReader<'_>> {
        let pooled = self.readers.lock().unwrap_or_else(PoisonError::into_inner).pop();
        let reader = if let Some(reader) = pooled {
            reader
        } else {
            let mut kafka = self.config.kafka.clone();
            // What reads a log to its end learns that it is there from an empty fetch, which the
            // broker holds back for this long.
            kafka.consumer.entry("fetch.wait.max.ms".to_owned()).or_insert_with(|| "20".to_owned());
            Reader::new(&kafka, Isolation::ReadCommitted)?
        };
        Ok(PooledReader { reader: Some(reader), pool: &self.readers })
    }

    /// Whether repeats are allowed.
    pub fn at_least_once(&self) -> bool {
        self.config.service.delivery == Delivery::AtLeastOnce
    }

    /// The folds of features: they begin with what was declared first, and follow the log.
    ///
    /// # Errors
    /// Declarations that make no sense, a store that cannot be read.
    pub fn features(&self) -> Result<Arc<dyn ProcessorFactory>> {
        let first = crate::declared::first_or_own(self)?;
        Ok(Arc::new(features::factory(first.plan().config(), &self.names)?))
    }

    /// The same, where users go out of memory when there is too little: for the service alone, since the
    /// place for them is cleared.
    ///
    /// # Errors
    /// Declarations that make no sense, and a place that cannot be made anew.
    pub fn spilling_features(&self) -> Result<Arc<dyn ProcessorFactory>> {
        let first = crate::declared::first_or_own(self)?;
        let factory = features::factory(first.plan().config(), &self.names)?;
        Ok(match runtime::spill::Spills::of(&self.config.service, "features")? {
            Some(spills) => Arc::new(factory.spilling(spills)),
            None => Arc::new(factory),
        })
    }

    /// The schemas of all vectors that there can be: of what was ever declared, or of what the configuration
    /// declares where that is nothing yet.
    ///
    /// # Errors
    /// A store that cannot be read.
    pub fn vector_schemas(&self) -> Result<Vec<VectorSchema>> {
        crate::declared::schemas_or(&self.store, &self.vector_schema)
    }

    /// The merge of shared entities. What it follows cannot change in a log.
    ///
    /// # Errors
    /// Declarations that make no sense, a cluster that does not answer, or one without `events`.
    pub fn merge(&self) -> Result<Arc<dyn ProcessorFactory>> {
        let events = &self.names.events;
        let first = crate::declared::first_or_own(self)?;
        let partitions =
            self.admin.partitions(events)?.with_context(|| format!("there is no topic {events}"))?;
        let factory = features::merge_factory(first.plan().config(), &self.names, partitions as usize)?;
        Ok(Arc::new(factory))
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

/// A reader on loan; dropped, it goes back and reads nothing until it is lent again.
pub struct PooledReader<'a> {
    /// Taken by `drop` alone.
    reader: Option<Reader>,
    pool: &'a Mutex<Vec<Reader>>,
}

impl Deref for PooledReader<'_> {
    type Target = Reader;

    #[expect(clippy::expect_used, reason = "only drop takes the reader")]
    fn deref(&self) -> &Reader {
        self.reader.as_ref().expect("lent until dropped")
    }
}

impl DerefMut for PooledReader<'_> {
    #[expect(clippy::expect_used, reason = "only drop takes the reader")]
    fn deref_mut(&mut self) -> &mut Reader {
        self.reader.as_mut().expect("lent until dropped")
    }
}

impl Drop for PooledReader<'_> {
    fn drop(&mut self) {
        // A client that cannot even be told to read nothing is not lent again.
        if let Some(mut reader) = self.reader.take()
            && reader.assign(&[]).is_ok()
        {
            self.pool.lock().unwrap_or_else(PoisonError::into_inner).push(reader);
        }
    }
}
