//! `run.json`: what made a model version, so that it can be made again. Immutable once written.

use std::collections::BTreeMap;

use model::explain::{Faithfulness, Importance};
use schemas::VectorSchema;
use serde::{Deserialize, Serialize};

use crate::config::Config;
use crate::drift;
use crate::gate::Decision;
use crate::report::{Bin, HeadCurves};
use crate::schedule::{Due, Mode, Trigger};
use crate::split::{Boundaries, Parts};

/// What made a model version. The artefact follows, bit for bit on CPU, from `tables`, `config`,
/// `network`, `schema`, `parent`, `judged_after_ms` and `code_version`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Run {
    /// Format of this record.
    pub version: u32,
    /// Model name.
    pub model: String,
    /// Version that it made.
    pub model_version: String,
    /// Version of the code that trained.
    pub code_version: String,
    /// Git revision of that code, where the build knew it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub git_revision: Option<String>,
    /// Kernel class that trained.
    pub kernel: String,
    /// What started it; of several, the first.
    pub trigger: Trigger,
    /// All that started it, and what it learned from; none in records of earlier versions.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub due: Option<Due>,
    /// Wall clock at its start, ms since 1970 UTC.
    pub started_ms: i64,
    /// Wall clock at its end, ms.
    pub finished_ms: i64,
    /// `[trainer]`.
    pub config: Config,
    /// `[model]`, its seed included.
    pub network: model::Config,
    /// The vector schema that it reads.
    pub schema: VectorSchema,
    /// Its fingerprint, 16 hex digits.
    pub fingerprint: String,
    /// Tables read, at these versions.
    pub tables: BTreeMap<String, u64>,
    /// The model whose weights it started from, if any.
    pub parent: Option<Parent>,
    /// The champion that it was judged against, if any.
    pub champion: Option<Parent>,
    /// The test part was to begin no earlier than this, ms.
    pub judged_after_ms: Option<i64>,
    /// What was read.
    pub data: Data,
    /// What the training examples tell of the ids of each field.
    #[serde(default)]
    pub ids: Vec<model::encode::FieldIds>,
    /// How the examples were split.
    pub boundaries: Boundaries,
    /// The same as positions.
    pub parts: Parts,
    /// Losses while learning.
    pub history: model::History,
    /// On the test part.
    pub metrics: model::Metrics,
    /// The champion on the same test part, if there was one.
    pub champion_metrics: Option<model::Metrics>,
    /// How much larger its figures are than the champion's, on the same resamples; none where there
    /// is none, and in records of earlier versions.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub less_champion: Option<model::metrics::MetricsLess>,
    /// Published or not, and why.
    pub gate: Decision,
    /// How often what was said came true, on the test part.
    pub reliability: Vec<Bin>,
    /// ROC, precision and recall, and calibration of each head on the test part, as the report draws them;
    /// none in records of earlier versions.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub curves: Vec<HeadCurves>,
    /// How faithful its explanations are, and which method is published; none where it was not
    /// measured, and in records of earlier versions.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub explanation: Option<Faithfulness>,
    /// What it looks at and what counts; none where it was not measured, and in records of earlier
    /// versions.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub importance: Option<Importance>,
    /// What it knew, in bins, for later to see how far its examples have moved from that; none in
    /// records of earlier versions.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub drift_reference: Option<drift::Reference>,
    /// Checksum of the artefact's manifest, hex.
    pub checksum: String,
    /// Checksum of the weights' file, hex: what a repetition must give again.
    pub weights_checksum: String,
}

/// Another version, pinned.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Parent {
    /// Version.
    pub model_version: String,
    /// Checksum of its artefact, hex.
    pub checksum: String,
}

/// What was read.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Data {
    /// Label records in the table.
    pub labels: u64,
    /// Examples: places with a label and a vector.
    pub rows: usize,
    /// Places with a label whose vector the table does not have.
    pub without_vector: usize,
    /// Vectors of places with a label that another schema laid out.
    pub skipped_vectors: u64,
    /// Examples that were clicked.
    pub clicked: usize,
    /// Examples whose purchases are decided.
    pub matured: usize,
    /// Of these, those with a purchase.
    pub purchased: usize,
}

impl Run {
    /// What it learned from.
    pub fn mode(&self) -> Mode {
        self.due.as_ref().map_or(Mode::Full, |due| due.mode)
    }

    /// The version that this code writes.
    pub const VERSION: u32 = 1;

    /// The version of this code, as runs record it: the package's, and the revision of what training
    /// computes (`0.1.0+training.2`). Equal versions make equal models.
    pub fn current_code_version() -> String {
        format!("{}+training.{}", env!("CARGO_PKG_VERSION"), model::TRAINING_REVISION)
    }
}
