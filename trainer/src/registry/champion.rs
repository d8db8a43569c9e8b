//! Which version serves: pointers that are created and never overwritten, the highest of which counts.

use schemas::ModelAnnouncement;
use serde::{Deserialize, Serialize};

use super::{Registry, parse};
use crate::Error;
use crate::run::Run;

/// A champion pointer.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Champion {
    /// Number of the pointer, from 1.
    pub sequence: u64,
    /// The version that it points to.
    pub model_version: String,
    /// Checksum of that version's artefact, hex.
    pub checksum: String,
    /// Fingerprint of the vector schema that it reads, 16 hex digits.
    pub fingerprint: String,
    /// Why it was moved.
    pub reason: String,
    /// Wall-clock time of the move, ms since 1970 UTC.
    pub at_ms: i64,
    /// For a rollback: the pointer that it restores.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub restores: Option<u64>,
}

impl Registry {
    fn pointer(&self, sequence: u64) -> String {
        format!("models/{}/champion/{sequence:06}.json", self.name)
    }

    /// All pointers, oldest first.
    async fn pointers(&self) -> Result<Vec<u64>, Error> {
        let prefix = format!("models/{}/champion/", self.name);
        let mut found: Vec<u64> = self
            .store
            .list(&prefix)
            .await?
            .iter()
            .filter_map(|path| path.strip_prefix(&prefix)?.strip_suffix(".json")?.parse().ok())
            .collect();
        found.sort_unstable();
        Ok(found)
    }

    async fn read_pointer(&self, sequence: u64) -> Result<Champion, Error> {
        let path = self.pointer(sequence);
        let bytes = self
            .store
            .get(&path)
            .await?
            .ok_or_else(|| Error::Damaged { path: path.clone(), what: "the pointer is gone".into() })?;
        parse(&path, &bytes)
    }

    /// The champion, if there is one.
    pub async fn champion(&self) -> Result<Option<Champion>, Error> {
        match self.pointers().await?.last() {
            Some(&sequence) => self.read_pointer(sequence).await.map(Some),
            None => Ok(None),
        }
    }

    /// Every champion there was, oldest first.
    pub async fn history(&self) -> Result<Vec<Champion>, Error> {
        let mut champions = Vec::new();
        for sequence in self.pointers().await? {
            champions.push(self.read_pointer(sequence).await?);
        }
        Ok(champions)
    }

    /// Points the champion to `version`, if it is still the one that the caller saw.
    ///
    /// # Errors
    /// [`Error::Raced`] if the pointer was moved meanwhile: read it again and decide again.
    pub async fn promote(
        &self,
        seen: Option<&Champion>,
        version: &str,
        reason: &str,
        now_ms: i64,
    ) -> Result<Champion, Error> {
        let run = self.run(version).await?;
        self.point(seen.map_or(0, |c| c.sequence), &run, reason, now_ms, None).await
    }

    async fn point(
        &self,
        seen: u64,
        run: &Run,
        reason: &str,
        now_ms: i64,
        restores: Option<u64>,
    ) -> Result<Champion, Error> {
        let champion = Champion {
            sequence: seen + 1,
            model_version: run.model_version.clone(),
            checksum: run.checksum.clone(),
            fingerprint: run.fingerprint.clone(),
            reason: reason.to_owned(),
            at_ms: now_ms,
            restores,
        };
        let path = self.pointer(champion.sequence);
        let bytes = serde_json::to_vec_pretty(&champion)
            .map_err(|error| Error::Damaged { path: path.clone(), what: error.to_string() })?;
        if self.store.put_new(&path, bytes.into()).await? {
            Ok(champion)
        } else {
            Err(Error::Raced { name: self.name.clone(), sequence: champion.sequence })
        }
    }

    /// Points the champion to the one before it. Done twice, it goes two back.
    ///
    /// # Errors
    /// [`Error::NothingBefore`] if there was none; [`Error::Raced`] as in `promote`.
    pub async fn rollback(&self, now_ms: i64) -> Result<Champion, Error> {
        let history = self.history().await?;
        let nothing = || Error::NothingBefore { name: self.name.clone() };
        let current = history.last().ok_or_else(nothing)?;
        let stands_for = current.restores.unwrap_or(current.sequence);
        let before = history
            .iter()
            .rev()
            .find(|c| {
                c.sequence < stands_for && c.restores.is_none() && c.model_version != current.model_version
            })
            .ok_or_else(nothing)?;
        let run = self.run(&before.model_version).await?;
        let reason = format!("rolled back from {}", current.model_version);
        self.point(current.sequence, &run, &reason, now_ms, Some(before.sequence)).await
    }

    /// The announcement of a champion. Equal pointers give equal records, so that repeating one is
    /// harmless.
    pub fn announcement(&self, champion: &Champion) -> ModelAnnouncement {
        ModelAnnouncement {
            version: ModelAnnouncement::VERSION,
            name: self.name.clone(),
            model_version: champion.model_version.clone(),
            uri: self.uri(&champion.model_version),
            checksum: champion.checksum.clone(),
            fingerprint: champion.fingerprint.clone(),
            announced_ms: champion.at_ms,
        }
    }
}
