//! The champion, as the trainer announces it on `models` (compacted, keyed by model name).

use serde::{Deserialize, Serialize};

/// Says which model version scorers should serve.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ModelAnnouncement {
    /// Format of this record.
    pub version: u32,
    /// Model name; the record's key.
    pub name: String,
    /// Version in the registry (`v000012`): immutable, sorts by age.
    pub model_version: String,
    /// Folder of the artefact, relative to the registry's root in the object store.
    pub uri: String,
    /// BLAKE3 of the artefact's manifest, hex.
    pub checksum: String,
    /// Fingerprint of the vector schema it reads, 16 hex digits.
    pub fingerprint: String,
    /// Wall-clock time of the announcement, ms.
    pub announced_ms: i64,
}

impl ModelAnnouncement {
    /// The version that this code writes.
    pub const VERSION: u32 = 1;
}
