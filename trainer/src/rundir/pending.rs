//! A run that is under way, so that another process can go on with it: what it is made from, and its
//! last checkpoint. Of each model there is at most one, since one instance trains at a time.

use bytes::Bytes;
use model::Checkpoint;
use runtime::store::Store;
use serde::{Deserialize, Serialize};

use crate::Error;
use crate::fit::Plan;
use crate::schedule::Due;

/// What an unfinished run is made from.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) struct Begun {
    pub(crate) due: Due,
    pub(crate) plan: Plan,
    /// Wall clock at its start, ms.
    pub(crate) started_ms: i64,
}

/// Where it lies.
#[derive(Debug, Clone)]
pub(crate) struct Pending {
    store: Store,
    name: String,
}

/// How far it has come.
pub(crate) struct Saved {
    pub(crate) checkpoint: Checkpoint,
    /// Its event file; may be ahead of the checkpoint.
    pub(crate) events: Bytes,
}

impl Pending {
    pub(crate) fn new(store: Store, name: &str) -> Self {
        Self { store, name: name.to_owned() }
    }

    fn path(&self, file: &str) -> String {
        format!("models/{}/unfinished/{file}", self.name)
    }

    /// Begins a run; an older one that did not end is forgotten.
    pub(crate) async fn begin(&self, begun: &Begun) -> Result<(), Error> {
        self.end().await?;
        let path = self.path("run.json");
        let bytes = serde_json::to_vec_pretty(begun)
            .map_err(|error| Error::Damaged { path: path.clone(), what: error.to_string() })?;
        Ok(self.store.put(&path, bytes.into()).await?)
    }

    /// The unfinished run.
    ///
    /// # Errors
    /// [`Error::NothingToResume`] if there is none.
    pub(crate) async fn begun(&self) -> Result<Begun, Error> {
        let path = self.path("run.json");
        let Some(bytes) = self.store.get(&path).await? else {
            return Err(Error::NothingToResume { name: self.name.clone() });
        };
        serde_json::from_slice(&bytes).map_err(|error| Error::Damaged { path, what: error.to_string() })
    }

    /// Its last checkpoint; `None` if it was stopped before there was one.
    ///
    /// # Errors
    /// One that is damaged.
    pub(crate) async fn saved(&self) -> Result<Option<Saved>, Error> {
        let path = self.path("state");
        let Some(bytes) = self.store.get(&path).await? else { return Ok(None) };
        let checkpoint = Checkpoint::read(&mut bytes.as_ref())
            .map_err(|error| Error::Damaged { path, what: error.to_string() })?;
        let events = self.store.get(&self.path("events")).await?.unwrap_or_default();
        Ok(Some(Saved { checkpoint, events }))
    }

    /// Keeps a checkpoint in place of the one before. The events go first: those beyond the
    /// checkpoint are cut when it is used.
    pub(crate) async fn save(&self, state: Vec<u8>, events: Vec<u8>) -> Result<(), Error> {
        self.store.put(&self.path("events"), events.into()).await?;
        Ok(self.store.put(&self.path("state"), state.into()).await?)
    }

    /// Forgets the run.
    pub(crate) async fn end(&self) -> Result<(), Error> {
        // The checkpoint goes first: without what it was made from, it is good for nothing.
        for file in ["state", "events", "run.json"] {
            self.store.delete(&self.path(file)).await?;
        }
        Ok(())
    }
}
