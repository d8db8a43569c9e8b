//! The registry of models: immutable versions in a folder of an object store, and a champion
//! pointer that is moved by a conditional put. Knows no Kafka.
//!
//! ```text
//! models/{name}/versions/v000001/claim.json     who took the number; made by put-if-absent
//! models/{name}/versions/v000001/artefact/...   the artefact's files
//! models/{name}/versions/v000001/run.json       what made it; written last: with it, it exists
//! models/{name}/champion/000001.json            pointers; the highest number counts
//! models/{name}/lease/00000001.json             who may train; see [`crate::lease`]
//! models/{name}/schedule.json                   what became of earlier looks at the schedule
//! ```
//!
//! A pointer is created, never overwritten: of two writers that saw the same champion, one gets
//! the next number and the other is told to look again.

mod champion;

use std::collections::{BTreeMap, BTreeSet};

use bytes::Bytes;
use runtime::store::Store;

use crate::Error;
use crate::lease::Leases;
use crate::run::Run;
use crate::schedule::Marks;

pub use champion::Champion;

/// The registry of one model name.
#[derive(Debug, Clone)]
pub struct Registry {
    store: Store,
    name: String,
}

/// A version number that is ours.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Claim {
    version: String,
}

impl Claim {
    /// The version (`v000012`).
    pub fn version(&self) -> &str {
        &self.version
    }
}

/// One line of `salience models list`.
#[derive(Debug, Clone, PartialEq)]
pub struct Listed {
    /// What made it.
    pub run: Run,
    /// Scorers serve it.
    pub champion: bool,
    /// It was champion once.
    pub was_champion: bool,
}

impl Registry {
    /// The registry of model `name` in `store`.
    pub fn new(store: Store, name: impl Into<String>) -> Self {
        Self { store, name: name.into() }
    }

    /// The model's name.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The folder of a version's artefact, from the store's root: what announcements carry.
    pub fn uri(&self, version: &str) -> String {
        format!("{}/artefact", self.folder(version))
    }

    fn folder(&self, version: &str) -> String {
        format!("models/{}/versions/{version}", self.name)
    }

    /// All paths under the versions, as (version, the rest).
    async fn paths(&self) -> Result<Vec<(String, String)>, Error> {
        let prefix = format!("models/{}/versions/", self.name);
        let paths = self.store.list(&prefix).await?;
        Ok(paths
            .iter()
            .filter_map(|path| {
                let (version, rest) = path.strip_prefix(&prefix)?.split_once('/')?;
                Some((version.to_owned(), rest.to_owned()))
            })
            .collect())
    }

    /// The versions that exist, oldest first.
    pub async fn versions(&self) -> Result<Vec<String>, Error> {
        let found: BTreeSet<String> = self
            .paths()
            .await?
            .into_iter()
            .filter(|(_, rest)| rest == "run.json")
            .map(|(version, _)| version)
            .collect();
        Ok(found.into_iter().collect())
    }

    /// Takes the next version number. Of several that try, each gets its own.
    pub async fn claim(&self, note: &str) -> Result<Claim, Error> {
        let highest = self.paths().await?.iter().filter_map(|(version, _)| number(version)).max();
        let mut next = highest.map_or(1, |n| n + 1);
        loop {
            let version = format!("v{next:06}");
            let note = serde_json::json!({ "claimed_by": note }).to_string();
            if self.store.put_new(&format!("{}/claim.json", self.folder(&version)), note.into()).await? {
                return Ok(Claim { version });
            }
            next += 1;
        }
    }

    /// Gives a claimed number its artefact and its record; from then on the version exists.
    ///
    /// # Errors
    /// The store's; and a version that exists already.
    pub async fn save(&self, claim: &Claim, files: &[(String, Bytes)], run: &Run) -> Result<(), Error> {
        let folder = self.folder(&claim.version);
        for (name, bytes) in files {
            self.store.put(&format!("{folder}/artefact/{name}"), bytes.clone()).await?;
        }
        let record = serde_json::to_vec_pretty(run)
            .map_err(|error| Error::Damaged { path: folder.clone(), what: error.to_string() })?;
        if self.store.put_new(&format!("{folder}/run.json"), record.into()).await? {
            Ok(())
        } else {
            Err(Error::Damaged {
                path: folder,
                what: "the version exists already; versions are immutable".into(),
            })
        }
    }

    /// Puts a file of reading beside a version's record (a card, a report); not part of the artefact.
    pub async fn attach(&self, claim: &Claim, name: &str, bytes: Bytes) -> Result<(), Error> {
        Ok(self.store.put(&format!("{}/{name}", self.folder(&claim.version)), bytes).await?)
    }

    /// What made a version.
    ///
    /// # Errors
    /// [`Error::NoVersion`] if there is none of that name.
    pub async fn run(&self, version: &str) -> Result<Run, Error> {
        let path = format!("{}/run.json", self.folder(version));
        match self.store.get(&path).await? {
            None => Err(Error::NoVersion { name: self.name.clone(), version: version.to_owned() }),
            Some(bytes) => parse(&path, &bytes),
        }
    }

    /// The files of a version's artefact, by name.
    pub async fn artefact(&self, version: &str) -> Result<Vec<(String, Bytes)>, Error> {
        let prefix = format!("{}/", self.uri(version));
        let mut files = Vec::new();
        for path in self.store.list(&prefix).await? {
            let Some(name) = path.strip_prefix(&prefix) else { continue };
            if let Some(bytes) = self.store.get(&path).await? {
                files.push((name.to_owned(), bytes));
            }
        }
        if files.is_empty() {
            return Err(Error::NoVersion { name: self.name.clone(), version: version.to_owned() });
        }
        Ok(files)
    }

    /// The lease on training these models, which lasts `lasts_ms` unless prolonged.
    pub fn leases(&self, lasts_ms: i64) -> Leases {
        Leases::new(self.store.clone(), self.name.clone(), lasts_ms)
    }

    fn marks_path(&self) -> String {
        format!("models/{}/schedule.json", self.name)
    }

    /// What became of earlier looks at the schedule; `None` before there was one.
    pub async fn marks(&self) -> Result<Option<Marks>, Error> {
        let path = self.marks_path();
        match self.store.get(&path).await? {
            Some(bytes) => parse(&path, &bytes).map(Some),
            None => Ok(None),
        }
    }

    /// Notes what became of a look at the schedule. Only whoever has the lease may, or, before
    /// there are marks, anyone: the first of several does.
    pub async fn mark(&self, marks: &Marks, first: bool) -> Result<(), Error> {
        let bytes = Bytes::from(serde_json::json!(marks).to_string());
        if first {
            self.store.put_new(&self.marks_path(), bytes).await?;
        } else {
            self.store.put(&self.marks_path(), bytes).await?;
        }
        Ok(())
    }

    /// All that a version's run left behind, by name: record, settings, report, event file, artefact.
    ///
    /// # Errors
    /// [`Error::NoVersion`] if there is none of that name.
    pub async fn files(&self, version: &str) -> Result<Vec<(String, Bytes)>, Error> {
        self.run(version).await?;
        let prefix = format!("{}/", self.folder(version));
        let mut files = Vec::new();
        for path in self.store.list(&prefix).await? {
            let Some(name) = path.strip_prefix(&prefix).filter(|name| *name != "claim.json") else {
                continue;
            };
            if let Some(bytes) = self.store.get(&path).await? {
                files.push((name.to_owned(), bytes));
            }
        }
        Ok(files)
    }

    /// All versions with what made them, oldest first.
    pub async fn list(&self) -> Result<Vec<Listed>, Error> {
        let history = self.history().await?;
        let mut listed = Vec::new();
        for version in self.versions().await? {
            listed.push(Listed {
                run: self.run(&version).await?,
                champion: history.last().is_some_and(|c| c.model_version == version),
                was_champion: history.iter().any(|c| c.model_version == version),
            });
        }
        Ok(listed)
    }

    /// The table versions that kept models were trained from, by table: vacuum spares them.
    pub async fn pinned_versions(&self) -> Result<BTreeMap<String, Vec<u64>>, Error> {
        let mut pinned: BTreeMap<String, BTreeSet<u64>> = BTreeMap::new();
        for version in self.versions().await? {
            for (table, at) in self.run(&version).await?.tables {
                pinned.entry(table).or_default().insert(at);
            }
        }
        Ok(pinned.into_iter().map(|(table, at)| (table, at.into_iter().collect())).collect())
    }

    /// Deletes all but the latest `keep` versions; those that were ever champion stay, because
    /// predictions and later models name them. Returns what went.
    pub async fn prune(&self, keep: usize) -> Result<Vec<String>, Error> {
        let versions = self.versions().await?;
        if keep == 0 || versions.len() <= keep {
            return Ok(Vec::new());
        }
        let champions: BTreeSet<String> =
            self.history().await?.into_iter().map(|c| c.model_version).collect();
        let mut gone = Vec::new();
        for version in &versions[..versions.len() - keep] {
            if champions.contains(version) {
                continue;
            }
            let folder = self.folder(version);
            // The record goes first: a version without it does not exist. The claim stays, so that
            // its number is not given again.
            self.store.delete(&format!("{folder}/run.json")).await?;
            for path in self.store.list(&format!("{folder}/")).await? {
                if !path.ends_with("/claim.json") {
                    self.store.delete(&path).await?;
                }
            }
            gone.push(version.clone());
        }
        Ok(gone)
    }
}

fn number(version: &str) -> Option<u64> {
    version.strip_prefix('v')?.parse().ok()
}

fn parse<T: serde::de::DeserializeOwned>(path: &str, bytes: &[u8]) -> Result<T, Error> {
    serde_json::from_slice(bytes)
        .map_err(|error| Error::Damaged { path: path.to_owned(), what: error.to_string() })
}
