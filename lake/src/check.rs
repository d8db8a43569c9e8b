//! Whether the files of a version are still what was written.

use object_store::ObjectStoreExt as _;
use object_store::path::Path;

use crate::Table;
use crate::error::{Error, Result};
use crate::file::DataFile;
use crate::table::blocking;

/// What a check of files found.
#[derive(Debug, Default)]
pub struct Checked {
    /// Files that are as they were written.
    pub good: u64,
    /// Files of other programs, which carry no checksum: there, and of the right size.
    pub unknown: u64,
    /// What is wrong, one [`Error::File`] per file.
    pub damaged: Vec<Error>,
}

impl Table {
    /// Reads every file of this version and compares it with the checksum that the log has of it.
    ///
    /// # Errors
    /// The store could not be read at all; a file that is missing or changed is a finding.
    pub async fn check_files(&self) -> Result<Checked> {
        let mut checked = Checked::default();
        for file in self.files()? {
            match self.check_file(&file).await {
                Ok(true) => checked.good += 1,
                Ok(false) => checked.unknown += 1,
                Err(error @ Error::File { .. }) => checked.damaged.push(error),
                Err(error) => return Err(error),
            }
        }
        Ok(checked)
    }

    async fn check_file(&self, file: &DataFile) -> Result<bool> {
        let wrong = |what: String| Error::File {
            table: self.name.to_string(),
            version: self.version(),
            path: file.path.clone(),
            what,
        };
        let path = Path::from(file.path.as_str());
        let read = async { self.store.get(&path).await?.bytes().await };
        let bytes = match read.await {
            Ok(bytes) => bytes,
            Err(object_store::Error::NotFound { .. }) => return Err(wrong("is missing".to_owned())),
            Err(error) => return Err(Error::store(&self.name)(error)),
        };
        if bytes.len() as u64 != file.bytes {
            return Err(wrong(format!("has {} bytes where the log says {}", bytes.len(), file.bytes)));
        }
        let Some(checksum) = file.checksum.clone() else { return Ok(false) };
        let found = blocking(move || Ok(blake3::hash(&bytes).to_hex().to_string())).await?;
        if found != checksum {
            return Err(wrong(format!("was changed: its BLAKE3 is {found}, the log says {checksum}")));
        }
        Ok(true)
    }
}
