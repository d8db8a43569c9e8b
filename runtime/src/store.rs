//! The object store: snapshots, models, metadata and tables under one root.
//!
//! A local folder by default. Writes are atomic: a reader sees all of an object or none of it.
//! Knows nothing of what the objects mean.

mod blocking;
mod open;

use std::fmt;
use std::sync::Arc;

use bytes::Bytes;
use futures::TryStreamExt as _;
use object_store::path::Path;
use object_store::{ObjectStore, ObjectStoreExt as _, PutMode, PutOptions, PutPayload};

/// What a store could not do.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// A root that is no folder and no URL of a known scheme.
    #[error("storage.root {root:?} cannot be opened: {why} (fatal)")]
    Root {
        /// The root as configured, without credentials.
        root: String,
        /// What is wrong with it.
        why: String,
    },
    /// A scheme that this binary was built without.
    #[error(
        "storage.root {root:?} needs the cargo feature `{feature}`, and this binary was built without it: \
         build with `--features {feature}`, or use a folder (fatal)"
    )]
    Feature {
        /// The root as configured, without credentials.
        root: String,
        /// The feature that brings the scheme.
        feature: &'static str,
    },
    /// A path that no store can hold.
    #[error("{path:?} is not a path in a store: {why} (fatal)")]
    Path {
        /// The path.
        path: String,
        /// What is wrong with it.
        why: String,
    },
    /// The store refused, or could not be reached.
    #[error("cannot {action} {path:?} in {root}: {source} (retry)")]
    Store {
        /// What was tried: `read`, `write`, `list`, `delete`.
        action: &'static str,
        /// Which object.
        path: String,
        /// In which store.
        root: String,
        /// What the store said.
        source: Box<object_store::Error>,
    },
    /// The thread that waits for stores could not be started.
    #[error("cannot start the thread that waits for the object store: {0} (fatal)")]
    Thread(std::io::Error),
}

type Result<T, E = StoreError> = std::result::Result<T, E>;

/// A store, or a folder in it. Cheap to clone. Paths are relative, with `/` between parts.
///
/// ```
/// # fn main() -> Result<(), runtime::store::StoreError> {
/// let store = runtime::store::Store::open("memory://")?;
/// assert!(store.put_new_blocking("models/1", "weights".into())?);
/// assert!(!store.put_new_blocking("models/1", "others".into())?);
/// assert_eq!(store.child("models")?.get_blocking("1")?.as_deref(), Some(&b"weights"[..]));
/// # Ok(())
/// # }
/// ```
#[derive(Clone)]
pub struct Store {
    inner: Arc<dyn ObjectStore>,
    prefix: Path,
    root_url: String,
}

impl fmt::Debug for Store {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Store({})", self.root_url)
    }
}

impl Store {
    /// Where this store is, as a URL without a slash at the end: `file:///srv/salience`,
    /// `memory:///name`, `s3://bucket/path`.
    pub fn root_url(&self) -> &str {
        &self.root_url
    }

    /// The local folder, where the store is one.
    pub fn local_root(&self) -> Option<std::path::PathBuf> {
        open::url_to_folder(&self.root_url)
    }

    /// The store of everything under `prefix`.
    ///
    /// # Errors
    /// [`StoreError::Path`].
    pub fn child(&self, prefix: &str) -> Result<Self> {
        let prefix_path = parse(prefix)?;
        let root_url = format!("{}/{prefix_path}", self.root_url);
        Ok(Self { inner: Arc::clone(&self.inner), prefix: self.path(prefix)?, root_url })
    }

    /// The object's bytes, `None` where there is none.
    pub async fn get(&self, path: &str) -> Result<Option<Bytes>> {
        let at = self.path(path)?;
        let read = async { self.inner.get(&at).await?.bytes().await };
        match read.await {
            Ok(bytes) => Ok(Some(bytes)),
            Err(object_store::Error::NotFound { .. }) => Ok(None),
            Err(source) => Err(self.failed("read", path, source)),
        }
    }

    /// Writes the object, replacing one that is there.
    pub async fn put(&self, path: &str, bytes: Bytes) -> Result<()> {
        let at = self.path(path)?;
        self.inner
            .put(&at, PutPayload::from(bytes))
            .await
            .map(drop)
            .map_err(|source| self.failed("write", path, source))
    }

    /// Writes the object if there is none; `false` if there is one, which then stays as it is. Of
    /// several writers at once, in whatever processes, exactly one gets `true`.
    pub async fn put_new(&self, path: &str, bytes: Bytes) -> Result<bool> {
        let at = self.path(path)?;
        let options = PutOptions::from(PutMode::Create);
        match self.inner.put_opts(&at, PutPayload::from(bytes), options).await {
            Ok(_) => Ok(true),
            Err(object_store::Error::AlreadyExists { .. } | object_store::Error::Precondition { .. }) => {
                Ok(false)
            }
            Err(source) => Err(self.failed("write", path, source)),
        }
    }

    /// The paths of all objects under the folder `prefix` (empty: of all), relative to this
    /// store's root, sorted. `prefix` names whole parts: `a/b` does not list `a/bc`.
    pub async fn list(&self, prefix: &str) -> Result<Vec<String>> {
        let under = self.path(prefix)?;
        let listed: Vec<_> = self
            .inner
            .list(Some(&under))
            .try_collect()
            .await
            .map_err(|source| self.failed("list", prefix, source))?;
        let mut paths: Vec<String> = listed
            .iter()
            .filter_map(|object| object.location.prefix_match(&self.prefix))
            .map(|parts| parts.collect::<Path>().to_string())
            .collect();
        paths.sort_unstable();
        Ok(paths)
    }

    /// Deletes the object; one that is not there is no error.
    pub async fn delete(&self, path: &str) -> Result<()> {
        let at = self.path(path)?;
        match self.inner.delete(&at).await {
            Ok(()) | Err(object_store::Error::NotFound { .. }) => Ok(()),
            Err(source) => Err(self.failed("delete", path, source)),
        }
    }

    fn path(&self, relative: &str) -> Result<Path> {
        let relative = parse(relative)?;
        Ok(self.prefix.parts().chain(relative.parts()).collect())
    }

    fn failed(&self, action: &'static str, path: &str, source: object_store::Error) -> StoreError {
        StoreError::Store {
            action,
            path: path.to_owned(),
            root: self.root_url.clone(),
            source: Box::new(source),
        }
    }
}

fn parse(path: &str) -> Result<Path> {
    Path::parse(path).map_err(|error| StoreError::Path { path: path.to_owned(), why: error.to_string() })
}

#[cfg(test)]
mod tests;
