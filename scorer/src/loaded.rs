//! A model as it is served: read from the registry, checked, tried. Never half loaded.

use std::collections::BTreeMap;

use model::{Artefact, Model};
use runtime::store::Store;

use crate::Error;

/// A model that may serve.
#[derive(Debug, Clone)]
pub struct Loaded {
    /// Version in the registry: what predictions name.
    pub version: String,
    /// Checksum of its artefact, hex: what predictions name.
    pub checksum: String,
    /// The model.
    pub model: Model,
}

impl Loaded {
    /// Reads the artefact at `uri` (a folder of the store), checks the checksum of every file
    /// against the manifest and the manifest's against `checksum`, and tries the golden batch.
    /// Blocks.
    ///
    /// # Errors
    /// [`Error::Refused`] for an artefact that is not whole or not the one announced;
    /// [`Error::Store`] if it could not be read now.
    pub fn read(store: &Store, uri: &str, version: &str, checksum: &str) -> Result<Self, Error> {
        let refused =
            |what: String| Error::Refused { version: version.to_owned(), uri: uri.to_owned(), what };
        let uri = uri.trim_end_matches('/');
        let mut files = BTreeMap::new();
        for name in Artefact::FILES {
            if let Some(bytes) = store.get_blocking(&format!("{uri}/{name}"))? {
                files.insert(name.to_owned(), bytes);
            }
        }
        let model = Model::load(&Artefact::from_files(files), Some(checksum))
            .map_err(|error| refused(error.to_string()))?;
        Ok(Self { version: version.to_owned(), checksum: checksum.to_owned(), model })
    }
}
